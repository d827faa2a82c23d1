//! The choice of the session that makes room for another one.
//!
//! Anyone can announce files and forge symbols of them, so what a session holds is not proof of
//! anything. A session makes room when it brings no symbols, when it reserves more than it fills,
//! or when it holds more than the one that asks would hold. It never makes room for itself: its
//! files wait for each other.
//!
//! Nobody is authenticated, so all that a sender may use is bounded, and anybody's place can be
//! taken: a description reserves nothing, disk space is reserved log by log as symbols come, and
//! where a limit is reached the session that brings no symbols makes room, then the one that fills
//! least of what it reserves, then the one that holds most. A file that the storage failed is tried
//! again after a while.

use std::{collections::BTreeMap, time::Duration};

use proto::time::Mono;

use super::session::SessionName;

/// Use of one resource by a session: octets or files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Usage {
    /// Amount that it holds.
    pub(super) held: u64,
    /// Octets on disk that are reserved for it.
    pub(super) reserved_bytes: u64,
    /// Octets of these with stored symbols or decoded blocks.
    pub(super) filled_bytes: u64,
    /// Time of its last stored symbol.
    pub(super) stored_at: Mono,
}

/// Returns the session that makes room for `amount` more of the resource that `asking` asks for,
/// if one does.
pub(super) fn victim(
    now: Mono,
    idle_after: Duration,
    sessions: &BTreeMap<SessionName, Usage>,
    asking: &SessionName,
    amount: u64,
) -> Option<SessionName> {
    let wanted = sessions.get(asking).map_or(0, |usage| usage.held).saturating_add(amount);
    let others = sessions.iter().filter(|(name, usage)| *name != asking && usage.held > 0);
    let ranked = others.filter_map(|(name, usage)| {
        let is_idle = now.since(usage.stored_at) >= idle_after;
        let is_hollow = usage.filled_bytes.saturating_mul(2) < usage.reserved_bytes;
        let rank = if is_idle {
            (0, 0, usage.stored_at)
        } else if is_hollow && usage.held >= wanted {
            (1, 0, usage.stored_at)
        } else if usage.held > wanted {
            (2, u64::MAX - usage.held, usage.stored_at)
        } else {
            return None;
        };
        Some((rank, *name))
    });
    ranked.min().map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use proto::ids::Tsi;

    use super::*;

    const IDLE: Duration = Duration::from_secs(30);

    fn name(tsi: u64) -> SessionName {
        ([192, 0, 2, 1].into(), Tsi(tsi))
    }

    fn usage(held: u64, filled_bytes: u64, stored_at: u64) -> Usage {
        let stored_at = Mono(0) + Duration::from_secs(stored_at);
        Usage { held, reserved_bytes: held, filled_bytes, stored_at }
    }

    fn chosen(sessions: &[(u64, Usage)], asking: u64, amount: u64) -> Option<u64> {
        let sessions = sessions.iter().map(|(tsi, usage)| (name(*tsi), *usage)).collect();
        let now = Mono(0) + Duration::from_secs(100);
        victim(now, IDLE, &sessions, &name(asking), amount).map(|(_, Tsi(tsi))| tsi)
    }

    #[test]
    fn silence_costs_room_before_hollow_reservations_and_these_before_size() {
        let silent = (1, usage(10, 10, 70));
        let hollow = (2, usage(10, 4, 99));
        let large = (3, usage(90, 90, 99));
        assert_eq!(chosen(&[large, hollow, silent], 9, 10), Some(1));
        assert_eq!(chosen(&[large, hollow], 9, 10), Some(2));
        assert_eq!(chosen(&[large], 9, 10), Some(3));
    }

    #[test]
    fn a_session_takes_nothing_from_one_that_holds_no_more() {
        let active = (1, usage(10, 10, 99));
        assert_eq!(chosen(&[active, (9, usage(0, 0, 0))], 9, 9), Some(1));
        assert_eq!(chosen(&[active, (9, usage(1, 1, 99))], 9, 9), None);
        let hollow = (1, usage(10, 0, 99));
        assert_eq!(chosen(&[hollow, (9, usage(1, 0, 99))], 9, 9), Some(1));
        assert_eq!(chosen(&[hollow, (9, usage(2, 0, 99))], 9, 9), None);
    }

    #[test]
    fn a_session_does_not_make_room_for_itself() {
        assert_eq!(chosen(&[(9, usage(50, 0, 0))], 9, 10), None);
    }

    #[test]
    fn of_two_silent_sessions_the_one_silent_for_longer_makes_room() {
        assert_eq!(chosen(&[(1, usage(5, 5, 20)), (2, usage(5, 5, 10))], 9, 10), Some(2));
    }
}
