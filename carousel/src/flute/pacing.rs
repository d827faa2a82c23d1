//! Token bucket on octets: open-loop pacing of packets.
//!
//! The bucket is one moment, the time at which its debt is paid: a packet may be sent when that
//! moment is not ahead of `now`, and moves it by the time of its octets at the session's rate.
//! Lateness of the sender is made good at once by at most a millisecond of the rate; what is lost
//! beyond that on a busy machine is made good slowly, by sending a tenth faster.

use std::{fmt, num::NonZeroU64, time::Duration};

use proto::time::Mono;

/// Longest burst, as time at the session's rate; a tenth faster it fits into a millisecond.
const BURST: Duration = Duration::from_micros(900);

/// Longest lateness that is made up for.
const MAX_LOST: Duration = Duration::from_millis(200);

/// Lateness made up for with each packet, as a part of its time.
const CATCH_UP: u32 = 10;

/// Slowest and fastest session.
pub const RATES: std::ops::RangeInclusive<u64> = 64_000..=1_000_000_000;

/// The rate of a session.
///
/// # Units
///
/// Bits of UDP payload per second, 64,000..=1,000,000,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(NonZeroU64);

impl Rate {
    /// Checks a rate; `None` outside its range.
    #[must_use]
    pub fn new(bits_per_second: u64) -> Option<Self> {
        RATES
            .contains(&bits_per_second)
            .then(|| NonZeroU64::new(bits_per_second).map(Self))
            .flatten()
    }

    /// Returns bits in a second.
    #[must_use]
    pub const fn bits_per_second(self) -> u64 {
        self.0.get()
    }

    /// Returns the time of `octets` at this rate.
    fn time_of(self, octets: usize) -> Duration {
        // At most 64 KiB: 5.2e14 nanobits.
        let nanobits = u64::try_from(octets).unwrap_or(u64::MAX).saturating_mul(8_000_000_000);
        Duration::from_nanos(nanobits.div_ceil(self.0.get()))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.0.get();
        match bits {
            _ if bits.is_multiple_of(1_000_000) => write!(formatter, "{}M", bits / 1_000_000),
            _ if bits.is_multiple_of(1_000) => write!(formatter, "{}k", bits / 1_000),
            _ => write!(formatter, "{bits}"),
        }
    }
}

/// The moment at which the next packet may be sent.
#[derive(Debug, Clone)]
pub struct Pacer {
    rate: Rate,
    /// The moment at which the sent packets are paid for.
    paid: Mono,
    /// Time on the air that was lost to lateness beyond a burst.
    lost: Duration,
}

impl Pacer {
    /// Starts with an empty bucket without debt.
    #[must_use]
    pub const fn new(now: Mono, rate: Rate) -> Self {
        Self { rate, paid: now, lost: Duration::ZERO }
    }

    /// Returns the moment from which the next packet may go.
    #[must_use]
    pub const fn ready_at(&self) -> Mono {
        self.paid
    }

    /// Books a packet of `octets` that goes at `now`.
    pub fn sent(&mut self, now: Mono, octets: usize) {
        let cost = self.rate.time_of(octets);
        // With the packet itself the burst is at most BURST long, or one packet. At slow rates half
        // a packet of credit makes up for late wakes and still allows no second packet.
        let credit = BURST.saturating_sub(cost).max(BURST.min(cost / 2));
        let credit = u64::try_from(credit.as_nanos()).unwrap_or(u64::MAX);
        let earliest = Mono(now.0.saturating_sub(credit));
        self.lost = (self.lost + earliest.since(self.paid)).min(MAX_LOST);
        let made_good = self.lost.min(cost / CATCH_UP);
        self.lost -= made_good;
        self.paid = self.paid.max(earliest) + (cost - made_good);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: usize = 1428;

    fn rate(bits: u64) -> Rate {
        Rate::new(bits).unwrap()
    }

    /// Sends whenever allowed, looking at the clock every `step`; returns the octets sent.
    fn run(pacer: &mut Pacer, from: Mono, span: Duration, step: Duration) -> usize {
        let mut octets = 0;
        let mut now = from;
        while now < from + span {
            while pacer.ready_at() <= now {
                pacer.sent(now, PACKET);
                octets += PACKET;
            }
            now = now + step;
        }
        octets
    }

    #[test]
    fn the_mean_rate_is_the_requested_one() {
        for bits in [64_000, 5_000_000, 40_000_000, 100_000_000, 200_000_000] {
            let mut pacer = Pacer::new(Mono(7), rate(bits));
            let step = Duration::from_micros(60);
            let octets = run(&mut pacer, Mono(7), Duration::from_secs(10), step);
            let expected = usize::try_from(bits / 8 * 10).unwrap();
            assert!(octets.abs_diff(expected) <= expected / 1000 + PACKET, "{bits}: {octets}");
        }
    }

    #[test]
    fn a_burst_after_silence_is_one_millisecond_or_one_packet() {
        for (bits, packets) in [(64_000, 1), (11_000_000, 1), (40_000_000, 3), (200_000_000, 17)] {
            let mut pacer = Pacer::new(Mono(0), rate(bits));
            pacer.sent(Mono(0), PACKET);
            let late = Mono(0) + Duration::from_secs(5);
            let mut burst = 0;
            while pacer.ready_at() <= late {
                pacer.sent(late, PACKET);
                burst += 1;
            }
            assert_eq!(burst, packets, "{bits}");
        }
    }

    #[test]
    fn a_sender_that_is_often_late_still_reaches_the_mean_rate() {
        let mut pacer = Pacer::new(Mono(0), rate(100_000_000));
        // A wake every 300 microseconds, every fiftieth one 1.5 ms late.
        let mut octets = 0;
        let mut now = Mono(0);
        for wake in 0.. {
            if now > Mono(0) + Duration::from_secs(5) {
                break;
            }
            while pacer.ready_at() <= now {
                pacer.sent(now, PACKET);
                octets += PACKET;
            }
            let late = if wake % 50 == 49 { 1800 } else { 300 };
            now = now + Duration::from_micros(late);
        }
        let expected = 100_000_000 / 8 * 5;
        assert!(octets.abs_diff(expected) <= expected / 200, "{octets}");
    }

    #[test]
    fn no_millisecond_carries_more_than_two_milliseconds_of_the_rate() {
        let mut pacer = Pacer::new(Mono(0), rate(100_000_000));
        let mut busiest = 0;
        for millisecond in 0..200 {
            let from = Mono(millisecond * 1_000_000);
            let step = Duration::from_micros(130);
            busiest = busiest.max(run(&mut pacer, from, Duration::from_millis(1), step));
        }
        assert!(busiest <= 2 * 12_500, "{busiest}");
    }
}
