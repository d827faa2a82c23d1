//! Reconciles image servers with campaigns: loads the stored state, starts the steps that are due,
//! and repeats. A wake-up or the end of a step only shortens the wait. Steps of different image
//! servers run side by side, each after a look at the state of its campaign.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, PoisonError},
    time::Duration,
};

use proto::ids::Tsi;
use tokio::{sync::watch, task::JoinSet};

use super::{
    control_client::{self, ControlError},
    state::Shared,
};
use crate::{
    app::{AppError, campaign_transitions, message_handler::challenge_keys, status},
    campaign::{
        model::{Campaign, CampaignState},
        reconcile::{self, CampaignView, ReconcilePlan, Step},
        session_check::{self, Finding},
        step_scheduler::{StepOutcome, StepScheduler},
    },
};

/// Wait while nothing is due; the command line writes to the same store.
const IDLE_WAIT: Duration = Duration::from_secs(1);
/// Shortest wait, when a clock or a back-off is about to make a step due.
const SHORTEST_WAIT: Duration = Duration::from_millis(10);
/// Time before which the key of the next day is made.
const CHALLENGE_KEYS_AHEAD: Duration = Duration::from_secs(3_600);

/// Runs until `stop` is set.
pub async fn run(shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let mut scheduler = StepScheduler::default();
    let mut running = RunningSteps::default();
    while !*stop.borrow() {
        make_challenge_keys(&shared).await;
        let wait = match start_steps(&shared, &mut scheduler, &mut running).await {
            Ok(wait) => wait,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "stored state not readable");
                IDLE_WAIT
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shared.wake.notified() => {}
            (step, outcome) = running.next() => {
                scheduler.handle_end(shared.clock.now().mono, step, outcome);
            }
            changed = stop.changed() => if changed.is_err() { return },
        }
    }
}

/// Tasks of steps, each of which ends on its own.
#[derive(Default)]
struct RunningSteps {
    tasks: JoinSet<StepOutcome>,
    steps: BTreeMap<tokio::task::Id, Step>,
}

impl RunningSteps {
    fn start(&mut self, shared: &Arc<Shared>, step: Step) {
        let task = self.tasks.spawn(run_step(Arc::clone(shared), step));
        self.steps.insert(task.id(), step);
    }

    /// Returns the next step that ends; waits while none runs.
    ///
    /// # Cancel safety
    ///
    /// No end is lost.
    async fn next(&mut self) -> (Step, StepOutcome) {
        loop {
            let (id, outcome) = match self.tasks.join_next_with_id().await {
                Some(Ok((id, outcome))) => (id, outcome),
                Some(Err(error)) => {
                    tracing::error!(%error, "step ended by an error of the program");
                    (error.id(), StepOutcome::Failed)
                }
                None => std::future::pending().await,
            };
            if let Some(step) = self.steps.remove(&id) {
                return (step, outcome);
            }
        }
    }
}

/// Makes the key of the next day before it begins, so that no peer makes the server write one.
async fn make_challenge_keys(shared: &Shared) {
    let soon = shared.clock.now().utc + CHALLENGE_KEYS_AHEAD;
    if let Err(error) = challenge_keys(&*shared.store, soon).await {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(error, "challenge key not made");
    }
}

/// Starts the steps that are due and may run; returns the time to wait.
async fn start_steps(
    shared: &Arc<Shared>,
    scheduler: &mut StepScheduler,
    running: &mut RunningSteps,
) -> Result<Duration, AppError> {
    let now = shared.clock.now();
    let fleet = read_fleet(shared).await?;
    let ReconcilePlan { steps, watched, next } = reconcile::plan(&shared.policy, &fleet, now.utc);
    scheduler.handle_plan(&fleet, &steps);
    scheduler.handle_sessions(now.mono, &fleet, &watched);
    while let Some(step) = scheduler.poll_step(now.mono) {
        running.start(shared, step);
    }
    let due_again = scheduler.deadline().map(|at| at.since(now.mono));
    let due = next.map(|next| next.since(now.utc));
    let wait = [due_again, due].into_iter().flatten().min().unwrap_or(IDLE_WAIT);
    Ok(wait.clamp(SHORTEST_WAIT, IDLE_WAIT))
}

/// Reads the campaigns, and keeps what was read for the metrics.
async fn read_fleet(shared: &Shared) -> Result<Arc<Vec<CampaignView>>, AppError> {
    let before = shared.fleet();
    let (fleet, damaged) =
        campaign_transitions::read_fleet_and_damage(&*shared.store, &before).await?;
    let fleet = Arc::new(fleet);
    *shared.status.fleet.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&fleet);
    shared.status.health.record_damage(damaged);
    Ok(fleet)
}

async fn run_step(shared: Arc<Shared>, step: Step) -> StepOutcome {
    match run_due_step(&shared, step).await {
        Ok(()) => StepOutcome::Done,
        Err(problem) => {
            record_failure(&shared, step, problem).await;
            StepOutcome::Failed
        }
    }
}

async fn record_failure(shared: &Shared, step: Step, problem: AppError) {
    let id = step.campaign();
    if let AppError::Store(_) = problem {
        // Another writer was faster, or the disk is full; the next run decides.
        tracing::debug!(campaign = %id, error = %problem, "step not stored");
        return;
    }
    let now = shared.clock.now().utc;
    let view = status::campaign(&*shared.store, id).await;
    if view.is_ok_and(|view| !reconcile::is_due(&shared.policy, &view, now, step)) {
        tracing::debug!(%step, %problem, "a step has failed that is no more due");
        return;
    }
    tracing::warn!(campaign = %id, %problem, "step failed");
    if let Err(error) =
        campaign_transitions::record_problem(&*shared.store, now, id, problem.to_string()).await
    {
        tracing::debug!(campaign = %id, %error, "problem not stored");
    }
}

/// Runs a step if it is still due: the plan may be older than the last change of its campaign.
pub(super) async fn run_due_step(shared: &Shared, step: Step) -> Result<(), AppError> {
    let store = &*shared.store;
    let view = status::campaign(store, step.campaign()).await?;
    let now = shared.clock.now().utc;
    if !reconcile::is_due(&shared.policy, &view, now, step) {
        tracing::debug!(%step, "step no more due");
        return Ok(());
    }
    match step {
        Step::Prepare(_) => prepare(shared, &view.campaign).await,
        Step::Open(_) => open(shared, &view.campaign).await,
        Step::Stop(_, then) => stop(shared, &view.campaign, then).await,
        Step::Look(_) => return look(shared, &view.campaign).await,
        Step::Close(id) => campaign_transitions::mark_closed(store, now, id).await,
        Step::ExpirePending(id) => campaign_transitions::expire_pending(store, now, id).await,
        Step::ExpireSilent(id) => campaign_transitions::expire_silent(store, now, id).await,
    }?;
    tracing::info!(%step, "step done");
    Ok(())
}

async fn prepare(shared: &Shared, campaign: &Campaign) -> Result<(), AppError> {
    let Some(window) = campaign.window else { return Ok(()) };
    let prepared = control_client::prepare(campaign, window).await;
    let reply = look_when_refused(shared, campaign, "prepare", prepared).await?;
    let source: IpAddr = reply.source.parse().map_err(|_| {
        AppError::Network(format!("the image server answers the source {:?}", reply.source))
    })?;
    let same = reply.group.parse() == Ok(campaign.target.group)
        && reply.port == u32::from(campaign.target.port);
    if !same {
        let text = format!("the image server answers the channel {}:{}", reply.group, reply.port);
        return Err(AppError::Network(text));
    }
    let now = shared.clock.now().utc;
    let air = (source, Tsi(u64::from(reply.tsi)));
    let (store, id) = (&*shared.store, campaign.id);
    campaign_transitions::mark_prepared(store, now, id, window.revision, air).await
}

async fn open(shared: &Shared, campaign: &Campaign) -> Result<(), AppError> {
    let (Some(window), Some(air)) = (campaign.window, campaign.prepared) else { return Ok(()) };
    let opened = control_client::open(campaign, air.tsi, window).await;
    look_when_refused(shared, campaign, "open", opened).await?;
    let (now, id) = (shared.clock.now().utc, campaign.id);
    campaign_transitions::mark_opened(&*shared.store, now, id, window.revision).await
}

async fn stop(shared: &Shared, campaign: &Campaign, then: CampaignState) -> Result<(), AppError> {
    let now = shared.clock.now().utc;
    // After the window the image server is off air by itself.
    let on_air = campaign.window.is_some_and(|window| now < window.closes);
    if let (Some(air), true) = (campaign.prepared, on_air) {
        let stopped = control_client::stop(campaign, air.tsi).await;
        look_when_refused(shared, campaign, "stop", stopped).await?;
    }
    campaign_transitions::mark_stopped(&*shared.store, now, campaign.id, then).await
}

/// Looks at a session when a call is refused because the image server has none, or another one.
async fn look_when_refused<T>(
    shared: &Shared,
    campaign: &Campaign,
    operation: &'static str,
    result: Result<T, ControlError>,
) -> Result<T, AppError> {
    let is_refused = matches!(&result, Err(ControlError::Refused { status: 404 | 409, .. }));
    if is_refused {
        look(shared, campaign).await?;
    }
    count(shared, operation, result)
}

/// Compares a session with what its image server shows of it. That it does not answer changes
/// nothing.
async fn look(shared: &Shared, campaign: &Campaign) -> Result<(), AppError> {
    let (id, Some(window)) = (campaign.id, campaign.window) else { return Ok(()) };
    let shown = match count(shared, "status", control_client::status(campaign).await) {
        Ok(shown) => shown,
        Err(error) => {
            tracing::debug!(campaign = %id, %error, "the session is not shown");
            return Ok(());
        }
    };
    let (store, now) = (&*shared.store, shared.clock.now().utc);
    match (session_check::compare(window, campaign.prepared, shown.as_ref()), campaign.prepared) {
        (Finding::Kept, _) | (Finding::Lost(_), None) => Ok(()),
        (Finding::Lost(loss), Some(session)) => {
            tracing::warn!(campaign = %id, "{loss}");
            campaign_transitions::mark_lost(store, now, id, session, loss).await
        }
        (Finding::Used(used), _) => {
            campaign_transitions::renumber(store, now, id, window, used).await
        }
        (Finding::Stopped, _) => {
            let text = "another program has stopped the session on the image server: start the \
                        campaign again to put it on air";
            campaign_transitions::record_problem(store, now, id, text.to_owned()).await
        }
    }
}

fn count<T>(
    shared: &Shared,
    operation: &'static str,
    result: Result<T, ControlError>,
) -> Result<T, AppError> {
    let outcome = match &result {
        Ok(_) => "done",
        Err(ControlError::Unreachable { .. } | ControlError::Token(_)) => "unreachable",
        Err(ControlError::Checking { .. }) => "checking",
        Err(ControlError::Refused { .. } | ControlError::InvalidReply(_)) => "refused",
    };
    shared.status.metrics.control_call(operation, outcome);
    result.map_err(|error| AppError::Network(error.to_string()))
}
