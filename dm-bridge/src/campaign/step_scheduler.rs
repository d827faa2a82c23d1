//! Order in which due steps run: one at a time for each image server and one for the store alone,
//! stops first. A step that does not end holds up the steps of its image server and of its campaign,
//! and no others; a campaign whose step has failed is tried again after a while. Sessions that are
//! open are looked at about once a minute, after all other steps.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proto::{ids::CampaignId, time::Mono};

use super::{
    model::Campaign,
    reconcile::{CampaignView, Step},
};

/// Wait before a failed step is tried again; it doubles with each failure.
const FIRST_BACK_OFF: Duration = Duration::from_millis(200);
/// Longest wait before a failed step is tried again.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(5);

/// Shortest time between two looks at a session.
const LOOK_INTERVAL: Duration = Duration::from_secs(45);
/// Longest time that is added to it, so that sessions are not looked at together.
const LOOK_SPREAD: Duration = Duration::from_secs(30);

/// Resource that a step needs for itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Executor {
    /// The store: no image server is called.
    Store,
    /// The image server of this URL.
    ImageServer(String),
}

/// Result of a step, as the next steps depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepOutcome {
    /// It was done, or was not due any more.
    Done,
    /// It has failed; its effect is unknown.
    Failed,
}

/// The steps that are due, and those that run.
#[derive(Debug, Default)]
pub struct StepScheduler {
    due: Vec<(Executor, Step)>,
    running: BTreeMap<Executor, Step>,
    /// Campaigns whose last step failed.
    back_off: BTreeMap<CampaignId, BackOff>,
    /// Open sessions: looks at each, and the time of the next one.
    looks: BTreeMap<CampaignId, (usize, Mono)>,
}

/// Pause of a campaign after a step that failed.
#[derive(Debug, Clone, Copy)]
struct BackOff {
    /// Step that failed last.
    step: Step,
    /// Failures in a row.
    failures: u32,
    /// Time of the next try.
    until: Mono,
}

impl BackOff {
    /// Returns whether a step waits for it: a stop waits after a failed stop alone.
    const fn holds(&self, step: Step) -> bool {
        !matches!(step, Step::Stop(..)) || matches!(self.step, Step::Stop(..))
    }
}

impl StepScheduler {
    /// Takes the steps of a plan in place of those that wait: no step of an earlier plan starts after
    /// this one. A campaign whose step runs waits for the plan after its end.
    pub fn handle_plan(&mut self, fleet: &[CampaignView], steps: &[Step]) {
        let campaigns: BTreeMap<_, _> =
            fleet.iter().map(|view| (view.campaign.id, &view.campaign)).collect();
        let planned = steps.iter().filter_map(|step| {
            let id = step.campaign();
            let campaign = campaigns.get(&id)?;
            (!self.is_running(id)).then(|| (executor(campaign, *step), *step))
        });
        self.due = planned.collect();
        // A stable sort: other steps stay in the order of the plan.
        self.due.sort_by_key(|(_, step)| !matches!(step, Step::Stop(..)));
        let named: BTreeSet<_> = campaigns.into_keys().collect();
        self.back_off.retain(|id, _| named.contains(id));
    }

    /// Takes the campaigns whose session is open, after [`Self::handle_plan`]: those that were not
    /// looked at for about a minute follow the steps of the plan.
    pub fn handle_sessions(&mut self, now: Mono, fleet: &[CampaignView], open: &[CampaignId]) {
        self.looks.retain(|id, _| open.contains(id));
        for view in fleet.iter().filter(|view| open.contains(&view.campaign.id)) {
            let id = view.campaign.id;
            let (_, at) = *self.looks.entry(id).or_insert_with(|| (0, now + look_interval(id, 0)));
            if at <= now && !self.is_running(id) {
                let step = Step::Look(id);
                self.due.push((executor(&view.campaign, step), step));
            }
        }
    }

    fn back_off(&self, step: Step) -> Option<&BackOff> {
        self.back_off.get(&step.campaign()).filter(|back_off| back_off.holds(step))
    }

    fn is_running(&self, id: CampaignId) -> bool {
        self.running.values().any(|running| running.campaign() == id)
    }

    /// Returns a step to start; [`Self::handle_end`] follows for each. `None` when nothing can start
    /// before a step ends, a plan comes or a wait is over.
    pub fn poll_step(&mut self, now: Mono) -> Option<Step> {
        let can_start = |(executor, step): &(Executor, Step)| {
            let back_off = self.back_off(*step);
            !self.running.contains_key(executor) && back_off.is_none_or(|it| it.until <= now)
        };
        let at = self.due.iter().position(can_start)?;
        let (executor, step) = self.due.remove(at);
        self.running.insert(executor, step);
        Some(step)
    }

    /// Takes the end of a step that was started.
    pub fn handle_end(&mut self, now: Mono, step: Step, outcome: StepOutcome) {
        self.running.retain(|_, running| *running != step);
        let id = step.campaign();
        if let (Step::Look(_), Some((looks, at))) = (step, self.looks.get_mut(&id)) {
            *looks = looks.wrapping_add(1);
            *at = now + look_interval(id, *looks);
        }
        match outcome {
            StepOutcome::Done => drop(self.back_off.remove(&id)),
            StepOutcome::Failed => {
                let failures = self.back_off(step).map_or(0, |back_off| back_off.failures);
                let doubled = FIRST_BACK_OFF.saturating_mul(1 << failures.min(10));
                let until = now + doubled.min(LONGEST_BACK_OFF);
                let failures = failures.saturating_add(1);
                self.back_off.insert(id, BackOff { step, failures, until });
            }
        }
    }

    /// Returns the time at which a step that waits after a failure can start, or a session is looked
    /// at.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        let waits = self.due.iter().filter_map(|(_, step)| self.back_off(*step));
        let is_due = |id| self.due.iter().any(|(_, step)| *step == Step::Look(id));
        let later = |id| !is_due(id) && !self.is_running(id);
        let looks = self.looks.iter().filter(|(id, _)| later(**id));
        waits.map(|wait| wait.until).chain(looks.map(|(_, (_, at))| *at)).min()
    }
}

fn executor(campaign: &Campaign, step: Step) -> Executor {
    match step {
        Step::Prepare(_) | Step::Open(_) | Step::Stop(..) | Step::Look(_) => {
            let url = campaign.target.carousel_url.trim_end_matches('/');
            Executor::ImageServer(url.to_owned())
        }
        Step::Close(_) | Step::ExpirePending(_) | Step::ExpireSilent(_) => Executor::Store,
    }
}

/// Returns the time from one look to the next. Campaign ids are random, so their octets spread it.
fn look_interval(id: CampaignId, looks: usize) -> Duration {
    let octet = id.0.get(looks % id.0.len()).copied().unwrap_or_default();
    LOOK_INTERVAL + LOOK_SPREAD * u32::from(octet) / 255
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        campaign::model::{CampaignState, samples},
        fleet::store::PhaseCounts,
    };

    const ID: [CampaignId; 3] = [CampaignId([1; 16]), CampaignId([2; 16]), CampaignId([3; 16])];

    /// Returns campaigns, each on the image server of its number.
    fn fleet(servers: [u8; 3]) -> Vec<CampaignView> {
        let view = |(id, server): (CampaignId, u8)| {
            let mut campaign = samples::running();
            campaign.id = id;
            campaign.target.carousel_url = format!("http://192.0.2.{server}:1");
            CampaignView { campaign, phase_counts: PhaseCounts::new() }
        };
        ID.into_iter().zip(servers).map(view).collect()
    }

    fn after(millis: u64) -> Mono {
        Mono(0) + Duration::from_millis(millis)
    }

    fn stop(id: CampaignId) -> Step {
        Step::Stop(id, CampaignState::Stopped)
    }

    fn started(scheduler: &mut StepScheduler, now: Mono) -> Vec<Step> {
        std::iter::from_fn(|| scheduler.poll_step(now)).collect()
    }

    #[test]
    fn a_step_that_does_not_end_holds_up_its_image_server_alone() {
        let mut scheduler = StepScheduler::default();
        let steps = ID.map(Step::Prepare);
        scheduler.handle_plan(&fleet([1, 1, 2]), &steps);
        assert_eq!(started(&mut scheduler, Mono(0)), [steps[0], steps[2]]);
        scheduler.handle_end(Mono(0), steps[2], StepOutcome::Done);
        scheduler.handle_plan(&fleet([1, 1, 2]), &[steps[0], steps[1], Step::Open(ID[2])]);
        assert_eq!(started(&mut scheduler, Mono(0)), [Step::Open(ID[2])]);
        scheduler.handle_end(Mono(0), steps[0], StepOutcome::Done);
        assert_eq!(started(&mut scheduler, Mono(0)), [steps[1]]);
    }

    #[test]
    fn two_names_of_one_url_are_one_image_server() {
        let mut scheduler = StepScheduler::default();
        let mut fleet = fleet([1, 1, 2]);
        fleet[1].campaign.target.carousel_url.push('/');
        scheduler.handle_plan(&fleet, &[Step::Prepare(ID[0]), Step::Prepare(ID[1])]);
        assert_eq!(started(&mut scheduler, Mono(0)), [Step::Prepare(ID[0])]);
    }

    #[test]
    fn stops_go_first_and_the_others_in_the_order_of_the_plan() {
        let mut scheduler = StepScheduler::default();
        let one = &fleet([1, 1, 1]);
        scheduler.handle_plan(one, &[Step::Prepare(ID[0]), Step::Open(ID[1]), stop(ID[2])]);
        for expected in [stop(ID[2]), Step::Prepare(ID[0]), Step::Open(ID[1])] {
            assert_eq!(started(&mut scheduler, Mono(0)), [expected]);
            scheduler.handle_end(Mono(0), expected, StepOutcome::Done);
        }
        assert_eq!(started(&mut scheduler, Mono(0)), []);
    }

    #[test]
    fn a_step_of_an_earlier_plan_does_not_start() {
        let mut scheduler = StepScheduler::default();
        let one = &fleet([1, 1, 1]);
        scheduler.handle_plan(one, &[Step::Prepare(ID[0]), Step::Open(ID[1])]);
        assert_eq!(started(&mut scheduler, Mono(0)), [Step::Prepare(ID[0])]);
        scheduler.handle_plan(one, &[stop(ID[1])]);
        scheduler.handle_end(Mono(0), Step::Prepare(ID[0]), StepOutcome::Done);
        assert_eq!(started(&mut scheduler, Mono(0)), [stop(ID[1])]);
    }

    #[test]
    fn a_campaign_has_one_step_at_a_time() {
        let mut scheduler = StepScheduler::default();
        let fleet = &fleet([1, 1, 1]);
        scheduler.handle_plan(fleet, &[Step::Open(ID[0])]);
        assert_eq!(started(&mut scheduler, Mono(0)), [Step::Open(ID[0])]);
        scheduler.handle_plan(fleet, &[Step::Close(ID[0]), Step::ExpirePending(ID[1])]);
        assert_eq!(started(&mut scheduler, Mono(0)), [Step::ExpirePending(ID[1])]);
        scheduler.handle_end(Mono(0), Step::ExpirePending(ID[1]), StepOutcome::Done);
        scheduler.handle_end(Mono(0), Step::Open(ID[0]), StepOutcome::Done);
        assert_eq!(started(&mut scheduler, Mono(0)), [], "the plan is older than this end");
        scheduler.handle_plan(fleet, &[Step::Close(ID[0])]);
        assert_eq!(started(&mut scheduler, Mono(0)), [Step::Close(ID[0])]);
    }

    #[test]
    fn a_failing_step_is_retried_with_a_bounded_back_off_and_others_go_on() {
        let mut scheduler = StepScheduler::default();
        let fleet = &fleet([1, 1, 1]);
        let steps = [Step::Prepare(ID[0]), Step::Prepare(ID[1])];
        let mut now = Mono(0);
        let mut waits = Vec::new();
        for _ in 0..7 {
            scheduler.handle_plan(fleet, &steps);
            assert_eq!(scheduler.poll_step(now), Some(steps[0]));
            scheduler.handle_end(now, steps[0], StepOutcome::Failed);
            scheduler.handle_plan(fleet, &steps);
            assert_eq!(started(&mut scheduler, now), [steps[1]], "the other campaign");
            scheduler.handle_end(now, steps[1], StepOutcome::Done);
            scheduler.handle_plan(fleet, &steps[..1]);
            let until = scheduler.deadline().unwrap();
            waits.push(until.since(now).as_millis());
            now = until;
        }
        assert_eq!(waits, [200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
        assert_eq!(started(&mut scheduler, now), [steps[0]]);
        scheduler.handle_end(now, steps[0], StepOutcome::Done);
        scheduler.handle_plan(fleet, &steps[..1]);
        assert_eq!(scheduler.deadline(), None);
        assert_eq!(started(&mut scheduler, after(0)), [steps[0]]);
    }

    #[test]
    fn a_stop_waits_after_a_failed_stop_alone() {
        let mut scheduler = StepScheduler::default();
        let fleet = &fleet([1, 1, 1]);
        for _ in 0..5 {
            scheduler.handle_end(Mono(0), Step::Prepare(ID[0]), StepOutcome::Failed);
        }
        scheduler.handle_plan(fleet, &[Step::Prepare(ID[0])]);
        assert_eq!(started(&mut scheduler, after(3_199)), []);
        scheduler.handle_plan(fleet, &[stop(ID[0])]);
        assert_eq!(scheduler.deadline(), None);
        assert_eq!(started(&mut scheduler, Mono(0)), [stop(ID[0])]);
        scheduler.handle_end(Mono(0), stop(ID[0]), StepOutcome::Failed);
        scheduler.handle_plan(fleet, &[stop(ID[0])]);
        assert_eq!(started(&mut scheduler, after(199)), []);
        assert_eq!(started(&mut scheduler, after(200)), [stop(ID[0])]);
    }

    #[test]
    fn an_open_session_is_looked_at_once_a_minute_after_the_other_steps() {
        let mut scheduler = StepScheduler::default();
        let fleet = &fleet([1, 1, 2]);
        let (at, look) = (Mono(0) + LOOK_INTERVAL + LOOK_SPREAD, ID.map(Step::Look));
        let sessions = |scheduler: &mut StepScheduler, now: Mono, steps: &[Step]| {
            scheduler.handle_plan(fleet, steps);
            scheduler.handle_sessions(now, fleet, &ID[..2]);
            started(scheduler, now)
        };
        assert_eq!(sessions(&mut scheduler, Mono(0), &[]), [], "it was just opened");
        let first = Mono(0) + LOOK_INTERVAL + LOOK_SPREAD / 255;
        assert_eq!(scheduler.deadline(), Some(first));
        // One look at a time for each image server, and a stop goes before it.
        assert_eq!(sessions(&mut scheduler, at, &[stop(ID[2])]), [stop(ID[2]), look[0]]);
        scheduler.handle_plan(fleet, &[]);
        scheduler.handle_sessions(at, fleet, &ID[..2]);
        assert_eq!(started(&mut scheduler, at), [], "the first look has not ended");
        assert_eq!(scheduler.deadline(), None, "both are due");
        scheduler.handle_end(at, look[0], StepOutcome::Done);
        assert_eq!(started(&mut scheduler, at), [look[1]]);
        scheduler.handle_end(at, look[1], StepOutcome::Done);
        let again = at + LOOK_INTERVAL;
        assert_eq!(sessions(&mut scheduler, again, &[]), [], "too soon");
        let waited = scheduler.deadline().unwrap().since(at);
        assert!((LOOK_INTERVAL..=LOOK_INTERVAL + LOOK_SPREAD).contains(&waited), "{waited:?}");
        // A session that is closed and opened again was just opened.
        scheduler.handle_sessions(again, fleet, &[]);
        assert_eq!(scheduler.deadline(), None);
        assert_eq!(sessions(&mut scheduler, again + LOOK_INTERVAL, &[]), []);
    }
}
