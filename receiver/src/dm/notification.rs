//! Filter of notifications (package 0): authentication and duplicates.
//!
//! Anybody can send one. It is accepted when the server's digest is right, its session id is not
//! among the last ones, and [`MIN_SPACING`] has passed since the one before: a replay costs at most
//! an early DM session.

use std::{collections::VecDeque, time::Duration};

use proto::{
    dm::{
        auth::Secret,
        notification::{FALLBACK_NONCE, Received, UserMode},
        push::notification_in,
    },
    time::Mono,
};

/// Session ids that are stored.
const MAX_STORED: usize = 32;
/// Minimum time between two accepted notifications.
const MIN_SPACING: Duration = Duration::from_secs(2);

/// Filter of notifications.
#[derive(Debug)]
pub struct NotificationFilter {
    server_id: String,
    secret: Option<Secret>,
    seen: VecDeque<u16>,
    last: Option<Mono>,
}

/// Outcome of a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotificationOutcome {
    /// Start this session.
    Begin {
        /// Its session id.
        session_id: u16,
        /// Involvement of the user.
        user_mode: UserMode,
    },
    /// A duplicate.
    Repeated,
    /// Too soon after the last one.
    TooSoon,
    /// Malformed, of another server, or with a wrong digest.
    Ignored,
}

impl NotificationFilter {
    /// Creates a filter for the server of an account.
    #[must_use]
    pub const fn new(server_id: String, secret: Option<Secret>) -> Self {
        Self { server_id, secret, seen: VecDeque::new(), last: None }
    }

    /// Checks a notification, with or without the headers of a push, against the nonce of the
    /// server's next credentials.
    // spec: oma-dm 7.1, oma-000 8.2.1, oma-003 5.5.1.6.3, oma-001 8.1.1.1 (duplicates, authentication)
    pub fn check(&mut self, now: Mono, nonce: &[u8], octets: &[u8]) -> NotificationOutcome {
        let received = notification_in(octets).and_then(Received::parse);
        let (Some(secret), Ok(received)) = (&self.secret, received) else {
            return NotificationOutcome::Ignored;
        };
        let proved =
            [nonce, FALLBACK_NONCE].into_iter().any(|nonce| received.is_from(secret, nonce));
        let notification = received.notification();
        if !proved || notification.server_id != self.server_id {
            return NotificationOutcome::Ignored;
        }
        let session_id = notification.session_id;
        if self.seen.contains(&session_id) {
            return NotificationOutcome::Repeated;
        }
        if self.last.is_some_and(|last| now.since(last) < MIN_SPACING) {
            return NotificationOutcome::TooSoon;
        }
        if self.seen.len() >= MAX_STORED {
            self.seen.pop_front();
        }
        self.seen.push_back(session_id);
        self.last = Some(now);
        NotificationOutcome::Begin { session_id, user_mode: notification.user_mode }
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

    fn notifications() -> NotificationFilter {
        NotificationFilter::new("server".to_owned(), Some(secret()))
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

    const fn begin(session_id: u16) -> NotificationOutcome {
        NotificationOutcome::Begin { session_id, user_mode: UserMode::Background }
    }

    // test: oma-dm 7.1
    #[test]
    fn a_notification_counts_once() {
        let mut notifications = notifications();
        let first = octets("server", 7, &secret(), b"nonce");
        assert_eq!(notifications.check(at(0), b"nonce", &first), begin(7));
        assert_eq!(notifications.check(at(60), b"nonce", &first), NotificationOutcome::Repeated);
        let anew = octets("server", 7, &secret(), FALLBACK_NONCE);
        assert_eq!(notifications.check(at(60), b"nonce", &anew), NotificationOutcome::Repeated);
        let other = octets("server", 8, &secret(), FALLBACK_NONCE);
        assert_eq!(notifications.check(at(60), b"nonce", &other), begin(8));
    }

    // test: oma-dm 7.2
    #[test]
    fn a_short_message_counts_as_what_it_carries() {
        let mut notifications = notifications();
        let bare = octets("server", 7, &secret(), b"nonce");
        let message = ShortMessage::new(&bare).unwrap();
        assert_eq!(notifications.check(at(0), b"nonce", &message.octets()), begin(7));
        assert_eq!(
            notifications.check(at(60), b"nonce", &message.data),
            NotificationOutcome::Repeated
        );
        assert_eq!(notifications.check(at(60), b"nonce", &bare), NotificationOutcome::Repeated);
    }

    // test: oma-dm 7.1
    #[test]
    fn a_notification_with_a_wrong_digest_is_ignored() {
        let mut notifications = notifications();
        for ignored in [
            octets("server", 7, &secret(), b"another nonce"),
            octets("server", 7, &Secret::new("server", "guess"), b"nonce"),
            octets("other", 7, &secret(), b"nonce"),
            b"junk".to_vec(),
            Vec::new(),
        ] {
            assert_eq!(
                notifications.check(at(0), b"nonce", &ignored),
                NotificationOutcome::Ignored
            );
        }
        let authentic = octets("server", 7, &secret(), b"nonce");
        assert_eq!(
            notifications.check(at(0), b"nonce", &authentic),
            begin(7),
            "the others changed no state"
        );
        let mut without = NotificationFilter::new("server".to_owned(), None);
        assert_eq!(without.check(at(0), b"nonce", &authentic), NotificationOutcome::Ignored);
    }

    #[test]
    fn a_flood_of_authentic_notifications_starts_few_sessions() {
        let mut notifications = notifications();
        let mut begun = 0;
        for session_id in 1..=100 {
            let octets = octets("server", session_id, &secret(), b"nonce");
            let now = Mono(0) + Duration::from_millis(100 * u64::from(session_id));
            if let NotificationOutcome::Begin { .. } = notifications.check(now, b"nonce", &octets) {
                begun += 1;
            }
        }
        assert_eq!(begun, 5);
        assert!(notifications.seen.len() <= MAX_STORED);
    }
}
