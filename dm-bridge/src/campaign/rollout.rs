//! What to do next, as a pure function of stored state.
//!
//! Every step is idempotent: it may be done again after a crash between doing and writing down.

use std::{fmt, time::Duration};

use proto::{ids::CampaignId, time::Utc};

use super::model::{Campaign, CampaignState};
use crate::fleet::{arming::ArmingPhase, store::Tally};

/// What the desk has decided about all campaigns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// How long after window and report spread a silent device becomes unknown.
    pub silence: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self { silence: Duration::from_secs(6 * 3600) }
    }
}

/// A campaign and how many of its devices stand where.
#[derive(Debug, Clone)]
pub struct CampaignView {
    /// The campaign.
    pub campaign: Campaign,
    /// Its devices by phase.
    pub tally: Tally,
}

/// What is to be done for one campaign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Have the image server prepare the campaign for its window.
    Prepare(CampaignId),
    /// Have the image server go on air in the window.
    Open(CampaignId),
    /// Have the image server stop, then enter this state.
    Stop(CampaignId, CampaignState),
    /// Note that the window has closed; the image server goes off the air by itself.
    Close(CampaignId),
    /// Settle the devices that were never armed.
    SettlePending(CampaignId),
    /// Settle the devices that never reported.
    SettleSilent(CampaignId),
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prepare(id) => write!(formatter, "{id}: prepare the image server"),
            Self::Open(id) => write!(formatter, "{id}: open on the image server"),
            Self::Stop(id, then) => {
                write!(formatter, "{id}: stop on the image server, then {}", then.word())
            }
            Self::Close(id) => write!(formatter, "{id}: close, the window is over"),
            Self::SettlePending(id) => write!(formatter, "{id}: settle devices never armed"),
            Self::SettleSilent(id) => write!(formatter, "{id}: settle devices that are silent"),
        }
    }
}

/// All that is due, and when to look again at the latest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rollout {
    /// What is due, by campaign in the order of creation.
    pub steps: Vec<Step>,
    /// When something becomes due by itself.
    pub next: Option<Utc>,
}

impl fmt::Display for Rollout {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            writeln!(formatter, "{step}")?;
        }
        match self.next {
            Some(at) => writeln!(formatter, "then look again at {at}"),
            None => writeln!(formatter, "then wait for a change"),
        }
    }
}

/// Decides what is due at `now`.
#[must_use]
pub fn rollout(policy: &Policy, fleet: &[CampaignView], now: Utc) -> Rollout {
    let mut plan = Rollout::default();
    for view in fleet {
        let (step, next) = due(policy, view, now);
        plan.steps.extend(step);
        plan.next = match (plan.next, next) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
    plan
}

fn due(policy: &Policy, view: &CampaignView, now: Utc) -> (Option<Step>, Option<Utc>) {
    match view.campaign.state {
        CampaignState::Created => (None, None),
        CampaignState::Running => due_while_running(view, now),
        CampaignState::Stopping => {
            (Some(Step::Stop(view.campaign.id, CampaignState::Stopped)), None)
        }
        CampaignState::Stopped | CampaignState::Closed => due_after_the_window(policy, view, now),
    }
}

fn due_while_running(view: &CampaignView, now: Utc) -> (Option<Step>, Option<Utc>) {
    let campaign = &view.campaign;
    let Some(window) = campaign.window else { return (Some(Step::Close(campaign.id)), None) };
    if now >= window.closes {
        return (Some(Step::Close(campaign.id)), None);
    }
    let next = Some(window.closes);
    if count(view, ArmingPhase::needs_air) == 0 {
        return (Some(Step::Stop(campaign.id, CampaignState::Closed)), next);
    }
    let step = match campaign.air {
        Some(air) if air.revision == window.revision => {
            (!air.opened).then_some(Step::Open(campaign.id))
        }
        Some(_) | None => Some(Step::Prepare(campaign.id)),
    };
    (step, next)
}

fn due_after_the_window(
    policy: &Policy,
    view: &CampaignView,
    now: Utc,
) -> (Option<Step>, Option<Utc>) {
    let campaign = &view.campaign;
    if view.tally.contains_key(&ArmingPhase::Pending) {
        return (Some(Step::SettlePending(campaign.id)), None);
    }
    if count(view, ArmingPhase::is_open) == 0 {
        return (None, None);
    }
    let closes = campaign.window.map_or(now, |window| window.closes);
    let spread = Duration::from_secs(u64::from(campaign.report_spread_seconds));
    let deadline = closes + spread + policy.silence;
    if now >= deadline {
        (Some(Step::SettleSilent(campaign.id)), None)
    } else {
        (None, Some(deadline))
    }
}

fn count(view: &CampaignView, wanted: fn(ArmingPhase) -> bool) -> u64 {
    view.tally.iter().filter(|(phase, _)| wanted(**phase)).map(|(_, devices)| devices).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::model::{Air, Window, samples};

    const POLICY: Policy = Policy { silence: Duration::from_secs(100) };

    fn view(change: impl FnOnce(&mut Campaign), tally: &[(ArmingPhase, u64)]) -> CampaignView {
        let mut campaign = samples::running();
        change(&mut campaign);
        CampaignView { campaign, tally: tally.iter().copied().collect() }
    }

    fn at(seconds: u64, view: CampaignView) -> Rollout {
        rollout(&POLICY, &[view], Utc::from_seconds(seconds))
    }

    fn id() -> CampaignId {
        samples::running().id
    }

    const ARMED: &[(ArmingPhase, u64)] = &[(ArmingPhase::Armed, 3), (ArmingPhase::Confirmed, 1)];

    #[test]
    fn a_started_campaign_is_prepared_then_opened_then_left_to_the_image_server() {
        let fresh = view(|campaign| campaign.air = None, ARMED);
        assert_eq!(at(900, fresh).steps, [Step::Prepare(id())]);
        let close = |campaign: &mut Campaign| {
            campaign.air = campaign.air.map(|air| Air { opened: false, ..air });
        };
        assert_eq!(at(900, view(close, ARMED)).steps, [Step::Open(id())]);
        let plan = at(900, view(|_| {}, ARMED));
        assert_eq!(plan, Rollout { steps: vec![], next: Some(Utc::from_seconds(2_000)) });
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
        assert_eq!(plan, Rollout { steps: vec![], next: Some(Utc::from_seconds(2_160)) });
        assert_eq!(at(2_160, closed()).steps, [Step::SettleSilent(id())]);
    }

    #[test]
    fn devices_never_armed_are_settled_as_soon_as_the_window_is_over() {
        for state in [CampaignState::Closed, CampaignState::Stopped] {
            let waiting = view(|campaign| campaign.state = state, &[(ArmingPhase::Pending, 1)]);
            assert_eq!(at(1_500, waiting).steps, [Step::SettlePending(id())]);
        }
    }

    #[test]
    fn an_operators_stop_reaches_the_image_server() {
        let stopping = view(|campaign| campaign.state = CampaignState::Stopping, ARMED);
        assert_eq!(at(1_500, stopping).steps, [Step::Stop(id(), CampaignState::Stopped)]);
    }

    #[test]
    fn a_campaign_that_was_not_started_asks_for_nothing() {
        let created = view(|campaign| campaign.state = CampaignState::Created, ARMED);
        assert_eq!(at(9_000, created), Rollout::default());
    }

    #[test]
    fn a_rollout_can_be_read_before_it_runs() {
        let plan = at(900, view(|campaign| campaign.air = None, ARMED));
        let text = format!("{}: prepare the image server\nthen look again at 2000.000\n", id());
        assert_eq!(plan.to_string(), text);
    }
}
