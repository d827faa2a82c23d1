//! Package 0 and its retries: a device is asked to come until it has been here.
//!
//! The digest is the device's proof that this server asks; what is sent again is the same octets,
//! so that a device counts them once. The last try is made with the nonce for devices that have
//! lost theirs.

use std::time::Duration;

use proto::time::{Mono, Utc};

pub mod target;

/// Waits after each notification but the last.
const WAITS: [Duration; 3] =
    [Duration::from_secs(2), Duration::from_secs(4), Duration::from_secs(8)];
/// How long a device may take after the last one.
const LAST_WAIT: Duration = Duration::from_secs(10);

/// A notification on its way.
#[derive(Debug, Clone)]
pub struct Notice {
    usual: Vec<u8>,
    fallback: Vec<u8>,
    seen_before: Option<Utc>,
    sent: usize,
    due: Mono,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send this to the device.
    Send(Vec<u8>),
    /// Look again whether the device has been here, at the latest at this moment.
    Wait(Mono),
    /// Nothing more.
    Done(Outcome),
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The device has been here since the first notification.
    Came {
        /// Notifications that were sent.
        after: usize,
    },
    /// It has not.
    Silent {
        /// Notifications that were sent.
        after: usize,
    },
}

impl Notice {
    /// Makes a notice from the notification with the device's nonce, the one with the fallback
    /// nonce, and the moment when the device was here last.
    #[must_use]
    pub const fn new(usual: Vec<u8>, fallback: Vec<u8>, seen_before: Option<Utc>) -> Self {
        Self { usual, fallback, seen_before, sent: 0, due: Mono(0) }
    }

    /// Says what to do, given when the device was here last.
    // spec: oma-dm 7.1 (retries, and the fallback nonce)
    pub fn poll(&mut self, now: Mono, seen: Option<Utc>) -> Output {
        if self.sent > 0 && seen > self.seen_before {
            return Output::Done(Outcome::Came { after: self.sent });
        }
        if now < self.due {
            return Output::Wait(self.due);
        }
        if self.sent > WAITS.len() {
            return Output::Done(Outcome::Silent { after: self.sent });
        }
        let wait = WAITS.get(self.sent).copied();
        let octets = if wait.is_some() { &self.usual } else { &self.fallback };
        self.sent += 1;
        self.due = now + wait.unwrap_or(LAST_WAIT);
        Output::Send(octets.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono(0) + Duration::from_secs(seconds)
    }

    fn notice() -> Notice {
        Notice::new(b"usual".to_vec(), b"fallback".to_vec(), Some(Utc(5)))
    }

    // test: oma-dm 7.1
    #[test]
    fn a_device_that_does_not_come_is_asked_four_times_the_last_with_the_fallback_nonce() {
        let mut notice = notice();
        let mut sent = Vec::new();
        let mut now = at(100);
        let outcome = loop {
            match notice.poll(now, Some(Utc(5))) {
                Output::Send(octets) => sent.push((now, String::from_utf8(octets).unwrap())),
                Output::Wait(until) => now = until,
                Output::Done(outcome) => break outcome,
            }
        };
        let words: Vec<_> = sent.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(words, ["usual", "usual", "usual", "fallback"]);
        let moments: Vec<_> = sent.iter().map(|(at, _)| *at).collect();
        assert_eq!(moments, [at(100), at(102), at(106), at(114)]);
        assert_eq!((outcome, now), (Outcome::Silent { after: 4 }, at(124)));
    }

    // test: oma-dm 7.1
    #[test]
    fn a_device_that_has_come_is_left_alone() {
        let mut notice = notice();
        assert!(matches!(notice.poll(at(1), Some(Utc(6))), Output::Send(_)), "not before it asks");
        assert_eq!(notice.poll(at(2), Some(Utc(5))), Output::Wait(at(3)));
        assert_eq!(notice.poll(at(2), Some(Utc(6))), Output::Done(Outcome::Came { after: 1 }));
        let mut first = Notice::new(vec![], vec![], None);
        assert!(matches!(first.poll(at(1), None), Output::Send(_)));
        assert_eq!(first.poll(at(1), Some(Utc(0))), Output::Done(Outcome::Came { after: 1 }));
    }
}
