//! The lifecycle of a session on air, whatever it sends.
//!
//! ```text
//! starting ── first packet polled ──► on air ── close, or complete ──► closing ──► closed
//!                                     ▲    │
//!                                     └────┘ announce, at an interval
//! ```
//!
//! Announcements and closing packets are *steps* of the sender's own; they are sent before its
//! data, one packet each.

use std::{collections::VecDeque, time::Duration};

use proto::time::Mono;

/// The number of closing packets.
pub const REPEATS: usize = 3;

/// The result of polling a sender for its next packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transmit {
    /// The buffer holds the next packet.
    Packet,
    /// Nothing is to be sent before this moment.
    Wait(Mono),
    /// The session is closed.
    Closed,
}

/// Counters of sent packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sent {
    /// UDP datagrams.
    pub packets: u64,
    /// UDP payload octets.
    pub octets: u64,
    /// Data symbols.
    pub symbols: u64,
}

/// The announcement that is due before the next packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Announcement {
    /// The first of the session.
    First,
    /// A repeated one.
    Repeated,
    /// None.
    NotDue,
}

/// The next packet to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NextPacket<S> {
    Step(S),
    Data,
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting,
    OnAir,
    Closing,
}

/// The phase of a session, with its queued steps.
#[derive(Debug, Clone)]
pub(crate) struct SessionLifecycle<S> {
    phase: Phase,
    steps: VecDeque<S>,
    /// The step that closes the session.
    close: S,
    announced: Mono,
    announce_every: Duration,
    sent: Sent,
}

impl<S: Copy> SessionLifecycle<S> {
    /// Starts without a step.
    pub(crate) fn new(now: Mono, announce_every: Duration, close: S) -> Self {
        Self {
            phase: Phase::Starting,
            steps: VecDeque::new(),
            close,
            announced: now,
            announce_every,
            sent: Sent::default(),
        }
    }

    /// Advances to `now`; closes a session that is complete.
    pub(crate) fn advance(
        &mut self,
        now: Mono,
        is_complete: impl FnOnce() -> bool,
    ) -> Announcement {
        match self.phase {
            Phase::Starting => {
                self.phase = Phase::OnAir;
                self.announced = now;
                Announcement::First
            }
            Phase::OnAir if is_complete() => {
                self.close();
                Announcement::NotDue
            }
            Phase::OnAir if now >= self.next_announcement() => {
                self.announced = now;
                Announcement::Repeated
            }
            Phase::OnAir | Phase::Closing => Announcement::NotDue,
        }
    }

    /// Returns the moment of the next announcement.
    pub(crate) fn next_announcement(&self) -> Mono {
        self.announced + self.announce_every
    }

    /// Queues steps after the others.
    pub(crate) fn queue(&mut self, steps: impl IntoIterator<Item = S>) {
        self.steps.extend(steps);
    }

    /// Queues steps before the others.
    pub(crate) fn queue_first(&mut self, steps: impl DoubleEndedIterator<Item = S>) {
        steps.rev().for_each(|step| self.steps.push_front(step));
    }

    /// Removes and returns the next packet to send.
    pub(crate) fn next(&mut self) -> NextPacket<S> {
        match self.steps.pop_front() {
            Some(step) => NextPacket::Step(step),
            None if self.phase == Phase::Closing => NextPacket::Closed,
            None => NextPacket::Data,
        }
    }

    /// Ends the session: only the packets that close it follow.
    pub(crate) fn close(&mut self) {
        if self.phase != Phase::Closing {
            self.phase = Phase::Closing;
            self.steps = std::iter::repeat_n(self.close, REPEATS).collect();
        }
    }

    /// Counts a packet.
    pub(crate) fn count(&mut self, packet: &[u8]) {
        self.sent.packets += 1;
        self.sent.octets += u64::try_from(packet.len()).unwrap_or(u64::MAX);
    }

    /// Counts a data symbol.
    pub(crate) const fn count_symbol(&mut self) {
        self.sent.symbols += 1;
    }

    /// Returns the counters.
    pub(crate) const fn sent(&self) -> Sent {
        self.sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(1);

    #[test]
    fn a_session_is_announced_again_and_again_until_it_is_closed() {
        let mut lifecycle = SessionLifecycle::new(Mono(5), EVERY, 'c');
        assert_eq!(lifecycle.advance(Mono(7), || true), Announcement::First);
        lifecycle.queue(['a', 'b']);
        lifecycle.queue_first(['x', 'y'].into_iter());
        let next: Vec<_> = std::iter::repeat_with(|| lifecycle.next()).take(5).collect();
        let steps = ['x', 'y', 'a', 'b'].map(NextPacket::Step);
        assert_eq!((&next[..4], next[4]), (&steps[..], NextPacket::Data));
        assert_eq!(lifecycle.advance(Mono(7) + EVERY / 2, || false), Announcement::NotDue);
        assert_eq!(lifecycle.advance(Mono(7) + EVERY, || false), Announcement::Repeated);
        assert_eq!(lifecycle.next_announcement(), Mono(7) + EVERY * 2);
        assert_eq!(lifecycle.advance(Mono(7) + EVERY * 9, || true), Announcement::NotDue);
        for _ in 0..REPEATS {
            lifecycle.close();
            assert_eq!(lifecycle.next(), NextPacket::Step('c'));
            lifecycle.count(&[1, 2]);
        }
        assert_eq!(lifecycle.next(), NextPacket::Closed);
        assert_eq!(lifecycle.sent(), Sent { packets: 3, octets: 6, symbols: 0 });
    }
}
