//! The clocks of the machine, and sleeping until a moment.

use proto::time::{Mono, Now, Utc};
use rustix::{
    thread::clock_nanosleep_absolute,
    time::{ClockId, Timespec, clock_gettime},
};

/// Returns both clocks. `mono` counts time spent suspended.
#[must_use]
pub fn now() -> Now {
    Now { mono: mono(), utc: utc() }
}

fn mono() -> Mono {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(tv_sec).unwrap_or(0);
    Mono(seconds.saturating_mul(NANOS) + u64::try_from(tv_nsec).unwrap_or(0))
}

fn utc() -> Utc {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Realtime);
    let seconds = u64::try_from(tv_sec).unwrap_or(0);
    let millis = u64::try_from(tv_nsec).unwrap_or(0) / 1_000_000;
    Utc(seconds.saturating_mul(1000).saturating_add(millis))
}

/// Sleeps until a moment; returns early when a signal arrives: callers read the clock again.
pub fn sleep_until(moment: Mono) {
    let seconds = i64::try_from(moment.0 / NANOS).unwrap_or(i64::MAX);
    let nanos = u32::try_from(moment.0 % NANOS).unwrap_or(0);
    let request = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
    // The only errors are a signal and a moment that the checks above rule out.
    clock_nanosleep_absolute(ClockId::Boottime, &request).ok();
}

const NANOS: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_sleep_lasts_until_its_moment() {
        let start = now().mono;
        let until = start + Duration::from_millis(5);
        while now().mono < until {
            sleep_until(until);
        }
        assert!(now().mono.since(start) >= Duration::from_millis(5));
        sleep_until(start);
    }
}
