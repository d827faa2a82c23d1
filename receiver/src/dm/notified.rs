//! Notifications (package 0): which ones count.
//!
//! Anybody can send one. It counts when the server's digest is right and its session is another
//! one than those before, and not more often than once in [`LEAST_SPACING`]: what is recorded and
//! sent again costs at most an early DM session, which changes nothing.

use std::{collections::VecDeque, time::Duration};

use proto::{
    dm::{
        auth::Secret,
        notification::{FALLBACK_NONCE, Received, UserMode},
        push::notification_in,
    },
    time::Mono,
};

/// Session numbers that are remembered.
const REMEMBERED: usize = 32;
/// The least time between two notifications that count.
const LEAST_SPACING: Duration = Duration::from_secs(2);

/// What the device knows of notifications.
#[derive(Debug)]
pub struct Notifications {
    server_id: String,
    secret: Option<Secret>,
    seen: VecDeque<u16>,
    last: Option<Mono>,
}

/// What became of a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Begin this session.
    Begin {
        /// Its number.
        session_id: u16,
        /// How much the user shall see of it.
        user_mode: UserMode,
    },
    /// It is one that counted before.
    Repeated,
    /// It comes too soon after the last one.
    TooSoon,
    /// It is malformed, of another server, or not proved.
    Ignored,
}

impl Notifications {
    /// Makes the memory of a device for the server of its account.
    #[must_use]
    pub const fn new(server_id: String, secret: Option<Secret>) -> Self {
        Self { server_id, secret, seen: VecDeque::new(), last: None }
    }

    /// Judges what came, with or without the headers of a push, given the nonce of the server's
    /// next proof.
    // spec: oma-dm 7.1, oma-000 8.2.1, oma-003 5.5.1.6.3, oma-001 8.1.1.1 (duplicates, and whom the device believes)
    pub fn judge(&mut self, now: Mono, nonce: &[u8], octets: &[u8]) -> Verdict {
        let received = notification_in(octets).and_then(Received::parse);
        let (Some(secret), Ok(received)) = (&self.secret, received) else {
            return Verdict::Ignored;
        };
        let proved =
            [nonce, FALLBACK_NONCE].into_iter().any(|nonce| received.is_from(secret, nonce));
        let notification = received.notification;
        if !proved || notification.server_id != self.server_id {
            return Verdict::Ignored;
        }
        let session_id = notification.session_id;
        if self.seen.contains(&session_id) {
            return Verdict::Repeated;
        }
        if self.last.is_some_and(|last| now.since(last) < LEAST_SPACING) {
            return Verdict::TooSoon;
        }
        if self.seen.len() >= REMEMBERED {
            self.seen.pop_front();
        }
        self.seen.push_back(session_id);
        self.last = Some(now);
        Verdict::Begin { session_id, user_mode: notification.user_mode }
    }
}

#[cfg(test)]
mod tests {
    use proto::dm::{
        notification::{Initiator, Notification},
        push::ShortMessage,
    };

    use super::*;

    fn secret() -> Secret {
        Secret::new("server", "server password")
    }

    fn notifications() -> Notifications {
        Notifications::new("server".to_owned(), Some(secret()))
    }

    fn octets(server: &str, session_id: u16, secret: &Secret, nonce: &[u8]) -> Vec<u8> {
        let notification = Notification {
            user_mode: UserMode::Background,
            initiator: Initiator::Server,
            session_id,
            server_id: server.to_owned(),
            vendor: Vec::new(),
        };
        notification.emit(secret, nonce).unwrap()
    }

    fn at(seconds: u64) -> Mono {
        Mono(0) + Duration::from_secs(seconds)
    }

    const fn begin(session_id: u16) -> Verdict {
        Verdict::Begin { session_id, user_mode: UserMode::Background }
    }

    // test: oma-dm 7.1
    #[test]
    fn a_notification_counts_once() {
        let mut notifications = notifications();
        let first = octets("server", 7, &secret(), b"nonce");
        assert_eq!(notifications.judge(at(0), b"nonce", &first), begin(7));
        assert_eq!(notifications.judge(at(60), b"nonce", &first), Verdict::Repeated);
        let anew = octets("server", 7, &secret(), FALLBACK_NONCE);
        assert_eq!(notifications.judge(at(60), b"nonce", &anew), Verdict::Repeated);
        let other = octets("server", 8, &secret(), FALLBACK_NONCE);
        assert_eq!(notifications.judge(at(60), b"nonce", &other), begin(8));
    }

    // test: oma-dm 7.2
    #[test]
    fn a_short_message_counts_as_what_it_carries() {
        let mut notifications = notifications();
        let bare = octets("server", 7, &secret(), b"nonce");
        let message = ShortMessage::new(&bare).unwrap();
        assert_eq!(notifications.judge(at(0), b"nonce", &message.octets()), begin(7));
        assert_eq!(notifications.judge(at(60), b"nonce", &message.data), Verdict::Repeated);
        assert_eq!(notifications.judge(at(60), b"nonce", &bare), Verdict::Repeated);
    }

    // test: oma-dm 7.1
    #[test]
    fn what_is_not_proved_is_ignored() {
        let mut notifications = notifications();
        for ignored in [
            octets("server", 7, &secret(), b"another nonce"),
            octets("server", 7, &Secret::new("server", "guess"), b"nonce"),
            octets("other", 7, &secret(), b"nonce"),
            b"junk".to_vec(),
            Vec::new(),
        ] {
            assert_eq!(notifications.judge(at(0), b"nonce", &ignored), Verdict::Ignored);
        }
        let true_one = octets("server", 7, &secret(), b"nonce");
        assert_eq!(
            notifications.judge(at(0), b"nonce", &true_one),
            begin(7),
            "the others left no trace"
        );
        let mut without = Notifications::new("server".to_owned(), None);
        assert_eq!(without.judge(at(0), b"nonce", &true_one), Verdict::Ignored);
    }

    #[test]
    fn a_flood_of_true_ones_wakes_the_device_now_and_then() {
        let mut notifications = notifications();
        let mut begun = 0;
        for session_id in 1..=100 {
            let octets = octets("server", session_id, &secret(), b"nonce");
            let now = Mono(0) + Duration::from_millis(100 * u64::from(session_id));
            if let Verdict::Begin { .. } = notifications.judge(now, b"nonce", &octets) {
                begun += 1;
            }
        }
        assert_eq!(begun, 5);
        assert!(notifications.seen.len() <= REMEMBERED);
    }
}
