//! The next steps of the reconciler, as a pure function of stored state.
//!
//! Every step is idempotent: it may be done again after a crash between the step and its record.

use std::{fmt, time::Duration};

use proto::{ids::CampaignId, time::Utc};

use super::model::{Campaign, CampaignState};
use crate::fleet::{attempt::ArmingPhase, store::PhaseCounts};

/// The settings of the reconciler for all campaigns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReconcilePolicy {
    /// Time after window and report spread at which a silent device becomes unknown.
    pub silence_timeout: Duration,
}

impl Default for ReconcilePolicy {
    fn default() -> Self {
        Self { silence_timeout: Duration::from_secs(6 * 3600) }
    }
}

/// A campaign, with its devices by phase.
#[derive(Debug, Clone)]
pub struct CampaignView {
    /// The campaign.
    pub campaign: Campaign,
    /// Its devices by phase.
    pub phase_counts: PhaseCounts,
}

impl CampaignView {
    /// Returns whether the campaign has ended and no attempt of it is pending or open: nothing of it
    /// changes by itself.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        matches!(self.campaign.state, CampaignState::Stopped | CampaignState::Closed)
            && !self.phase_counts.contains_key(&ArmingPhase::Pending)
            && count(self, ArmingPhase::is_open) == 0
    }
}

/// A step for one campaign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Prepares the campaign on the image server for its window.
    Prepare(CampaignId),
    /// Opens the session on the image server for the window.
    Open(CampaignId),
    /// Stops the session on the image server, then enters this state.
    Stop(CampaignId, CampaignState),
    /// Compares the open session with what the image server shows of it.
    Look(CampaignId),
    /// Records that the window has closed; the image server goes off the air by itself.
    Close(CampaignId),
    /// Closes the attempts that were never armed.
    ExpirePending(CampaignId),
    /// Closes the attempts that never reported.
    ExpireSilent(CampaignId),
}

impl Step {
    /// Returns its campaign.
    #[must_use]
    pub const fn campaign(self) -> CampaignId {
        match self {
            Self::Prepare(id)
            | Self::Open(id)
            | Self::Stop(id, _)
            | Self::Look(id)
            | Self::Close(id)
            | Self::ExpirePending(id)
            | Self::ExpireSilent(id) => id,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prepare(id) => write!(formatter, "{id}: prepare the image server"),
            Self::Open(id) => write!(formatter, "{id}: open on the image server"),
            Self::Stop(id, then) => {
                write!(formatter, "{id}: stop on the image server, then {}", then.as_str())
            }
            Self::Look(id) => write!(formatter, "{id}: look at the session on the image server"),
            Self::Close(id) => write!(formatter, "{id}: close, the window is over"),
            Self::ExpirePending(id) => write!(formatter, "{id}: expire devices never armed"),
            Self::ExpireSilent(id) => write!(formatter, "{id}: expire devices that are silent"),
        }
    }
}

/// The steps that are due, and the time of the next plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReconcilePlan {
    /// Steps, by campaign in the order of creation.
    pub steps: Vec<Step>,
    /// Campaigns whose session is open on its image server: it is looked at from time to time.
    pub watched: Vec<CampaignId>,
    /// Time at which a step becomes due by itself.
    pub next: Option<Utc>,
}

impl fmt::Display for ReconcilePlan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            writeln!(formatter, "{step}")?;
        }
        match self.next {
            Some(at) => writeln!(formatter, "then plan again at {at}"),
            None => writeln!(formatter, "then wait for a change"),
        }
    }
}

/// Returns the steps that are due at `now`.
#[must_use]
pub fn plan(policy: &ReconcilePolicy, fleet: &[CampaignView], now: Utc) -> ReconcilePlan {
    let mut steps = ReconcilePlan::default();
    for view in fleet {
        let (step, next) = due(policy, view, now);
        if step.is_none() && view.campaign.state == CampaignState::Running {
            steps.watched.push(view.campaign.id);
        }
        steps.steps.extend(step);
        steps.next = match (steps.next, next) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
    steps
}

/// Returns the step of a campaign that is due, and the time at which one becomes due by itself.
#[must_use]
pub fn due(policy: &ReconcilePolicy, view: &CampaignView, now: Utc) -> (Option<Step>, Option<Utc>) {
    match view.campaign.state {
        CampaignState::Created => (None, None),
        CampaignState::Running => due_while_running(view, now),
        CampaignState::Stopping => {
            (Some(Step::Stop(view.campaign.id, CampaignState::Stopped)), None)
        }
        CampaignState::Stopped | CampaignState::Closed => due_after_the_window(policy, view, now),
    }
}

/// Returns whether a step that was planned may still be taken. A session is looked at while nothing
/// else is due for its running campaign.
#[must_use]
pub fn is_due(policy: &ReconcilePolicy, view: &CampaignView, now: Utc, step: Step) -> bool {
    let (due, _) = due(policy, view, now);
    match step {
        Step::Look(_) => due.is_none() && view.campaign.state == CampaignState::Running,
        Step::Prepare(_)
        | Step::Open(_)
        | Step::Stop(..)
        | Step::Close(_)
        | Step::ExpirePending(_)
        | Step::ExpireSilent(_) => due == Some(step),
    }
}

fn due_while_running(view: &CampaignView, now: Utc) -> (Option<Step>, Option<Utc>) {
    let campaign = &view.campaign;
    let Some(window) = campaign.window else { return (Some(Step::Close(campaign.id)), None) };
    if now >= window.closes {
        return (Some(Step::Close(campaign.id)), None);
    }
    let next = Some(window.closes);
    if count(view, ArmingPhase::needs_broadcast) == 0 {
        return (Some(Step::Stop(campaign.id, CampaignState::Closed)), next);
    }
    let step = match campaign.prepared {
        Some(session) if session.revision == window.revision => {
            (!session.opened).then_some(Step::Open(campaign.id))
        }
        Some(_) | None => Some(Step::Prepare(campaign.id)),
    };
    (step, next)
}

fn due_after_the_window(
    policy: &ReconcilePolicy,
    view: &CampaignView,
    now: Utc,
) -> (Option<Step>, Option<Utc>) {
    let campaign = &view.campaign;
    if view.phase_counts.contains_key(&ArmingPhase::Pending) {
        return (Some(Step::ExpirePending(campaign.id)), None);
    }
    if count(view, ArmingPhase::is_open) == 0 {
        return (None, None);
    }
    let closes = campaign.window.map_or(now, |window| window.closes);
    let spread = Duration::from_secs(u64::from(campaign.report_spread_seconds));
    let deadline = closes + spread + policy.silence_timeout;
    if now >= deadline {
        (Some(Step::ExpireSilent(campaign.id)), None)
    } else {
        (None, Some(deadline))
    }
}

fn count(view: &CampaignView, counts: fn(ArmingPhase) -> bool) -> u64 {
    view.phase_counts.iter().filter(|(phase, _)| counts(**phase)).map(|(_, devices)| devices).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::model::{PreparedSession, Window, samples};

    const POLICY: ReconcilePolicy = ReconcilePolicy { silence_timeout: Duration::from_secs(100) };

    fn view(
        change: impl FnOnce(&mut Campaign),
        phase_counts: &[(ArmingPhase, u64)],
    ) -> CampaignView {
        let mut campaign = samples::running();
        change(&mut campaign);
        CampaignView { campaign, phase_counts: phase_counts.iter().copied().collect() }
    }

    fn at(seconds: u64, view: CampaignView) -> ReconcilePlan {
        plan(&POLICY, &[view], Utc::from_seconds(seconds))
    }

    fn id() -> CampaignId {
        samples::running().id
    }

    const ARMED: &[(ArmingPhase, u64)] = &[(ArmingPhase::Armed, 3), (ArmingPhase::Confirmed, 1)];

    #[test]
    fn a_started_campaign_is_prepared_then_opened_then_on_the_image_server_alone() {
        let fresh = view(|campaign| campaign.prepared = None, ARMED);
        assert_eq!(at(900, fresh).steps, [Step::Prepare(id())]);
        let close = |campaign: &mut Campaign| {
            campaign.prepared =
                campaign.prepared.map(|session| PreparedSession { opened: false, ..session });
        };
        assert_eq!(at(900, view(close, ARMED)).steps, [Step::Open(id())]);
        let plan = at(900, view(|_| {}, ARMED));
        let next = Some(Utc::from_seconds(2_000));
        assert_eq!(plan, ReconcilePlan { steps: vec![], watched: vec![id()], next });
    }

    #[test]
    fn a_session_is_looked_at_while_it_is_open_and_nothing_else_is_due() {
        let look = Step::Look(id());
        let may =
            |seconds, view: CampaignView| is_due(&POLICY, &view, Utc::from_seconds(seconds), look);
        assert!(may(1_500, view(|_| {}, ARMED)));
        assert!(!may(2_000, view(|_| {}, ARMED)), "the window is over");
        assert!(!may(1_500, view(|campaign| campaign.prepared = None, ARMED)), "not prepared");
        for state in [CampaignState::Created, CampaignState::Stopping, CampaignState::Stopped] {
            assert!(!may(1_500, view(|campaign| campaign.state = state, ARMED)), "{state:?}");
        }
    }

    #[test]
    fn a_moved_window_is_prepared_again() {
        let moved = view(
            |campaign| {
                campaign.window = campaign.window.map(|window| Window { revision: 2, ..window });
            },
            ARMED,
        );
        assert_eq!(at(1_500, moved).steps, [Step::Prepare(id())]);
    }

    #[test]
    fn the_carousel_stops_early_when_nobody_needs_it_any_more() {
        let done = &[(ArmingPhase::Confirmed, 3), (ArmingPhase::Failed, 1)];
        let plan = at(1_500, view(|_| {}, done));
        assert_eq!(plan.steps, [Step::Stop(id(), CampaignState::Closed)]);
        let late = &[(ArmingPhase::Confirmed, 3), (ArmingPhase::Pending, 1)];
        assert_eq!(at(1_500, view(|_| {}, late)).steps, []);
    }

    #[test]
    fn a_window_closes_at_its_end_and_not_before() {
        assert_eq!(at(1_999, view(|_| {}, ARMED)).steps, []);
        assert_eq!(at(2_000, view(|_| {}, ARMED)).steps, [Step::Close(id())]);
    }

    #[test]
    fn silent_devices_become_unknown_after_window_spread_and_limit() {
        let closed = || view(|campaign| campaign.state = CampaignState::Closed, ARMED);
        // The window closes at 2,000; the spread is 60 s, the limit 100 s.
        let plan = at(2_159, closed());
        let next = Some(Utc::from_seconds(2_160));
        assert_eq!(plan, ReconcilePlan { steps: vec![], watched: vec![], next });
        assert_eq!(at(2_160, closed()).steps, [Step::ExpireSilent(id())]);
    }

    #[test]
    fn devices_never_armed_expire_as_soon_as_the_window_is_over() {
        for state in [CampaignState::Closed, CampaignState::Stopped] {
            let waiting = view(|campaign| campaign.state = state, &[(ArmingPhase::Pending, 1)]);
            assert_eq!(at(1_500, waiting).steps, [Step::ExpirePending(id())]);
        }
    }

    #[test]
    fn an_operators_stop_reaches_the_image_server() {
        let stopping = view(|campaign| campaign.state = CampaignState::Stopping, ARMED);
        assert_eq!(at(1_500, stopping).steps, [Step::Stop(id(), CampaignState::Stopped)]);
    }

    #[test]
    fn a_campaign_that_was_not_started_has_no_step() {
        let created = view(|campaign| campaign.state = CampaignState::Created, ARMED);
        assert_eq!(at(9_000, created), ReconcilePlan::default());
    }

    #[test]
    fn a_plan_can_be_read_before_it_runs() {
        let plan = at(900, view(|campaign| campaign.prepared = None, ARMED));
        let text = format!(
            "{}: prepare the image server\nthen plan again at 1970-01-01T00:33:20Z\n",
            id()
        );
        assert_eq!(plan.to_string(), text);
    }
}
