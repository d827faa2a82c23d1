//! The life of a session on air, whatever it sends.
//!
//! ```text
//! starting ── first packet asked for ──► on air ── close, or through ──► closing ──► closed
//!                                        ▲    │
//!                                        └────┘ announce, every so often
//! ```
//!
//! What announces a session and what closes it are *steps* of the sender's own; they go before its
//! data, one packet each.

use std::{collections::VecDeque, time::Duration};

use proto::time::Mono;

/// How often what closes a session is sent.
pub const REPEATS: usize = 3;

/// What polling a sender for its next packet came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transmit {
    /// The buffer holds the next packet.
    Packet,
    /// There is nothing to send before this moment.
    Wait(Mono),
    /// The session is closed; nothing comes any more.
    Closed,
}

/// What was sent so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sent {
    /// UDP datagrams.
    pub packets: u64,
    /// UDP payload octets.
    pub octets: u64,
    /// Data symbols.
    pub symbols: u64,
}

/// What the sender has to do before its next packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Introduce the session.
    Start,
    /// Announce it again.
    Announce,
    /// Nothing.
    Nothing,
}

/// What goes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next<S> {
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

/// Where a session is in its life, with the steps that wait.
#[derive(Debug, Clone)]
pub(crate) struct Life<S> {
    phase: Phase,
    steps: VecDeque<S>,
    /// The step that closes the session.
    close: S,
    announced: Mono,
    announce_every: Duration,
    sent: Sent,
}

impl<S: Copy> Life<S> {
    /// Begins; nothing waits.
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

    /// Goes on to `now`; closes a session that is through.
    pub(crate) fn advance(&mut self, now: Mono, is_through: impl FnOnce() -> bool) -> Due {
        match self.phase {
            Phase::Starting => {
                self.phase = Phase::OnAir;
                self.announced = now;
                Due::Start
            }
            Phase::OnAir if is_through() => {
                self.close();
                Due::Nothing
            }
            Phase::OnAir if now >= self.next_announcement() => {
                self.announced = now;
                Due::Announce
            }
            Phase::OnAir | Phase::Closing => Due::Nothing,
        }
    }

    /// Returns when the session is announced again.
    pub(crate) fn next_announcement(&self) -> Mono {
        self.announced + self.announce_every
    }

    /// Lets steps wait behind the others.
    pub(crate) fn queue(&mut self, steps: impl IntoIterator<Item = S>) {
        self.steps.extend(steps);
    }

    /// Lets steps wait before the others.
    pub(crate) fn queue_first(&mut self, steps: impl DoubleEndedIterator<Item = S>) {
        steps.rev().for_each(|step| self.steps.push_front(step));
    }

    /// Takes what goes next.
    pub(crate) fn next(&mut self) -> Next<S> {
        match self.steps.pop_front() {
            Some(step) => Next::Step(step),
            None if self.phase == Phase::Closing => Next::Closed,
            None => Next::Data,
        }
    }

    /// Ends the session: what comes yet are the packets that close it.
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

    /// Returns what was counted.
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
        let mut life = Life::new(Mono(5), EVERY, 'c');
        assert_eq!(life.advance(Mono(7), || true), Due::Start);
        life.queue(['a', 'b']);
        life.queue_first(['x', 'y'].into_iter());
        let next: Vec<_> = std::iter::repeat_with(|| life.next()).take(5).collect();
        let steps = ['x', 'y', 'a', 'b'].map(Next::Step);
        assert_eq!((&next[..4], next[4]), (&steps[..], Next::Data));
        assert_eq!(life.advance(Mono(7) + EVERY / 2, || false), Due::Nothing);
        assert_eq!(life.advance(Mono(7) + EVERY, || false), Due::Announce);
        assert_eq!(life.next_announcement(), Mono(7) + EVERY * 2);
        assert_eq!(life.advance(Mono(7) + EVERY * 9, || true), Due::Nothing);
        for _ in 0..REPEATS {
            life.close();
            assert_eq!(life.next(), Next::Step('c'));
            life.count(&[1, 2]);
        }
        assert_eq!(life.next(), Next::Closed);
        assert_eq!(life.sent(), Sent { packets: 3, octets: 6, symbols: 0 });
    }
}
