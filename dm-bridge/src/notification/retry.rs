//! Package 0 and its repetitions until the device connects.
//!
//! The digest authenticates this server. A repetition has the same octets, so that a device counts
//! it once. The last one is made with the fallback nonce, for devices that have lost theirs.

use std::time::Duration;

use proto::time::{Mono, Utc};

/// Waits after each notification but the last.
const WAITS: [Duration; 3] =
    [Duration::from_secs(2), Duration::from_secs(4), Duration::from_secs(8)];
/// Wait after the last notification.
const LAST_WAIT: Duration = Duration::from_secs(10);

/// A notification and its repetitions.
#[derive(Debug, Clone)]
pub struct NotificationAttempt {
    usual: Vec<u8>,
    fallback: Vec<u8>,
    seen_before: Option<Utc>,
    sent: usize,
    due: Mono,
}

/// The next action of the shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send these octets to the device.
    Send(Vec<u8>),
    /// Poll again, at the latest at this time.
    Wait(Mono),
    /// The attempt has ended.
    Done(Outcome),
}

/// The outcome of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The device has connected since the first notification.
    Responded {
        /// Notifications that were sent.
        after: usize,
    },
    /// The device has not connected.
    NoResponse {
        /// Notifications that were sent.
        after: usize,
    },
}

impl NotificationAttempt {
    /// Returns an attempt from the notification with the device's nonce, the one with the fallback
    /// nonce, and the time of the device's last message.
    #[must_use]
    pub const fn new(usual: Vec<u8>, fallback: Vec<u8>, seen_before: Option<Utc>) -> Self {
        Self { usual, fallback, seen_before, sent: 0, due: Mono(0) }
    }

    /// Returns the next action, given the time of the device's last message.
    // spec: oma-dm 7.1 (retries, and the fallback nonce)
    pub fn poll(&mut self, now: Mono, seen: Option<Utc>) -> Output {
        if self.sent > 0 && seen > self.seen_before {
            return Output::Done(Outcome::Responded { after: self.sent });
        }
        if now < self.due {
            return Output::Wait(self.due);
        }
        if self.sent > WAITS.len() {
            return Output::Done(Outcome::NoResponse { after: self.sent });
        }
        let wait = WAITS.get(self.sent).copied();
        let bytes = if wait.is_some() { &self.usual } else { &self.fallback };
        self.sent += 1;
        self.due = now + wait.unwrap_or(LAST_WAIT);
        Output::Send(bytes.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono(0) + Duration::from_secs(seconds)
    }

    fn attempt() -> NotificationAttempt {
        NotificationAttempt::new(b"usual".to_vec(), b"fallback".to_vec(), Some(Utc(5)))
    }

    // test: oma-dm 7.1
    #[test]
    fn a_device_that_does_not_connect_is_notified_four_times_the_last_with_the_fallback_nonce() {
        let mut attempt = attempt();
        let mut sent = Vec::new();
        let mut now = at(100);
        let outcome = loop {
            match attempt.poll(now, Some(Utc(5))) {
                Output::Send(bytes) => sent.push((now, String::from_utf8(bytes).unwrap())),
                Output::Wait(until) => now = until,
                Output::Done(outcome) => break outcome,
            }
        };
        let words: Vec<_> = sent.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(words, ["usual", "usual", "usual", "fallback"]);
        let moments: Vec<_> = sent.iter().map(|(at, _)| *at).collect();
        assert_eq!(moments, [at(100), at(102), at(106), at(114)]);
        assert_eq!((outcome, now), (Outcome::NoResponse { after: 4 }, at(124)));
    }

    // test: oma-dm 7.1
    #[test]
    fn a_device_that_has_connected_is_not_notified_again() {
        let mut attempt = attempt();
        assert!(
            matches!(attempt.poll(at(1), Some(Utc(6))), Output::Send(_)),
            "not before the first notification"
        );
        assert_eq!(attempt.poll(at(2), Some(Utc(5))), Output::Wait(at(3)));
        assert_eq!(
            attempt.poll(at(2), Some(Utc(6))),
            Output::Done(Outcome::Responded { after: 1 })
        );
        let mut first = NotificationAttempt::new(vec![], vec![], None);
        assert!(matches!(first.poll(at(1), None), Output::Send(_)));
        assert_eq!(first.poll(at(1), Some(Utc(0))), Output::Done(Outcome::Responded { after: 1 }));
    }
}
