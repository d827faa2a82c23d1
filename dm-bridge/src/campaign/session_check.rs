//! Comparison of a session as its image server shows it with the session as it was opened.
//!
//! An image server loses a session when it cannot restore it after a restart, or when its state was
//! replaced: then the session is prepared and opened again.

use proto::{
    control::{AirPhase, AirStatus},
    ids::Tsi,
};

use super::model::{Loss, PreparedSession, Window};

/// Highest number of a window that is believed; a campaign that went on from it would run out.
const MAX_REVISION: u32 = u32::MAX / 2;

/// Result of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// The session is as it was opened, or as it will be.
    Kept,
    /// The image server has lost it.
    Lost(Loss),
    /// The number of the window was used before, for a window that is over: the next one is free.
    Used(u32),
    /// Somebody else has stopped it.
    Stopped,
}

/// Compares a session with what its image server shows of it; `None` when it has no such session.
/// Before a session is prepared for the window, only the number of the window and the TSI count.
#[must_use]
pub fn compare(
    window: Window,
    prepared: Option<PreparedSession>,
    shown: Option<&AirStatus>,
) -> Finding {
    let is_prepared = prepared.is_some_and(|session| session.revision == window.revision);
    let Some(shown) = shown else {
        return if is_prepared { Finding::Lost(Loss::NoSession) } else { Finding::Kept };
    };
    let is_opened = is_prepared && prepared.is_some_and(|session| session.opened);
    let is_stopped = shown.phase() == AirPhase::Stopped;
    let revision = shown.window_revision;
    let is_used =
        revision > window.revision || (revision == window.revision && is_stopped && !is_opened);
    let Some(prepared) = prepared.filter(|_| !is_used) else {
        let used = is_used && revision <= MAX_REVISION;
        return if used { Finding::Used(revision) } else { Finding::Kept };
    };
    let tsi = Tsi(shown.tsi.into());
    match shown.phase() {
        _ if tsi != prepared.tsi => Finding::Lost(Loss::OtherTsi(tsi)),
        _ if !is_prepared => Finding::Kept,
        _ if (1..window.revision).contains(&revision) => Finding::Lost(Loss::OlderWindow(revision)),
        AirPhase::Stopped if is_opened => Finding::Stopped,
        AirPhase::Prepared if is_opened => Finding::Lost(Loss::NotOpened),
        AirPhase::Unspecified
        | AirPhase::Prepared
        | AirPhase::Waiting
        | AirPhase::OnAir
        | AirPhase::Stopped
        | AirPhase::Closed
        | AirPhase::Checking
        | AirPhase::Damaged => Finding::Kept,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::model::samples;

    fn compared(opened: bool, shown: Option<(u32, AirPhase, u32)>) -> Finding {
        let campaign = samples::running();
        let window = Window { revision: 3, ..campaign.window.unwrap() };
        let prepared = PreparedSession { revision: 3, opened, ..campaign.prepared.unwrap() };
        let shown = shown.map(|(tsi, phase, window_revision)| AirStatus {
            tsi,
            phase: phase.into(),
            window_revision,
            ..AirStatus::default()
        });
        compare(window, Some(prepared), shown.as_ref())
    }

    #[test]
    fn a_session_is_lost_when_it_is_gone_or_another_or_not_open() {
        let lost = Finding::Lost;
        for (opened, shown, expected) in [
            (true, None, lost(Loss::NoSession)),
            (false, None, lost(Loss::NoSession)),
            (true, Some((78, AirPhase::OnAir, 3)), lost(Loss::OtherTsi(Tsi(78)))),
            (true, Some((77, AirPhase::OnAir, 2)), lost(Loss::OlderWindow(2))),
            (true, Some((77, AirPhase::Prepared, 3)), lost(Loss::NotOpened)),
            (false, Some((77, AirPhase::Prepared, 3)), Finding::Kept),
            (true, Some((77, AirPhase::OnAir, 3)), Finding::Kept),
            (true, Some((77, AirPhase::Waiting, 3)), Finding::Kept),
            (true, Some((77, AirPhase::Checking, 3)), Finding::Kept),
            (true, Some((77, AirPhase::Damaged, 3)), Finding::Kept),
            (true, Some((77, AirPhase::Closed, 3)), Finding::Kept),
            (true, Some((77, AirPhase::Stopped, 3)), Finding::Stopped),
            (false, Some((77, AirPhase::Stopped, 3)), Finding::Used(3)),
            (true, Some((77, AirPhase::OnAir, 4)), Finding::Used(4)),
            (true, Some((77, AirPhase::OnAir, u32::MAX)), Finding::Kept),
            // An image server that does not count.
            (true, Some((77, AirPhase::OnAir, 0)), Finding::Kept),
        ] {
            assert_eq!(compared(opened, shown), expected, "{opened} {shown:?}");
        }
    }

    #[test]
    fn before_it_is_prepared_the_number_of_the_window_counts_alone() {
        let window = Window { revision: 1, ..samples::running().window.unwrap() };
        let shown = |phase: AirPhase, window_revision| {
            let status = AirStatus { phase: phase.into(), window_revision, ..AirStatus::default() };
            compare(window, None, Some(&status))
        };
        assert_eq!(compare(window, None, None), Finding::Kept);
        assert_eq!(shown(AirPhase::OnAir, 1), Finding::Kept);
        assert_eq!(shown(AirPhase::Stopped, 1), Finding::Used(1));
        assert_eq!(shown(AirPhase::Closed, 7), Finding::Used(7));
        // One that was lost is not lost again, but a stop needs the TSI.
        let lost = samples::running().with_lost_session(Loss::NoSession).prepared;
        let other = AirStatus { tsi: 78, ..AirStatus::default() };
        assert_eq!(compare(window, lost, None), Finding::Kept);
        let expected = Finding::Lost(Loss::OtherTsi(Tsi(78)));
        assert_eq!(compare(window, lost, Some(&other)), expected);
    }
}
