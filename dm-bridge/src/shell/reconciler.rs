//! Reconciles image servers with campaigns: loads the stored state, runs the steps that are due,
//! and repeats. A wake-up only shortens the wait.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, PoisonError},
    time::Duration,
};

use proto::{
    ids::{CampaignId, Tsi},
    time::Mono,
};
use tokio::sync::watch;

use super::{
    control_client::{self, ControlError},
    state::Shared,
};
use crate::{
    app::{AppError, campaign_transitions, campaigns::find, message_handler::challenge_keys},
    campaign::{
        model::CampaignState,
        reconcile::{self, CampaignView, ReconcilePlan, Step},
    },
};

/// Wait while nothing is due; the command line writes to the same store.
const IDLE_WAIT: Duration = Duration::from_secs(1);
/// Wait while a step is due.
const BUSY_WAIT: Duration = Duration::from_millis(200);
/// Wait after a completed step.
const STEP_WAIT: Duration = Duration::from_millis(10);
/// Time before which the key of the next day is made.
const CHALLENGE_KEYS_AHEAD: Duration = Duration::from_secs(3_600);
/// Longest wait before a failed step is retried.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(5);

/// Runs until `stop` is set.
pub async fn run(shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let mut back_off = BackOff::default();
    while !*stop.borrow() {
        make_challenge_keys(&shared).await;
        let wait = match reconcile_once(&shared, &mut back_off).await {
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
            changed = stop.changed() => if changed.is_err() { return },
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

/// Runs the steps that are due; returns the time to wait.
async fn reconcile_once(shared: &Shared, back_off: &mut BackOff) -> Result<Duration, AppError> {
    let now = shared.clock.now();
    let fleet = read_fleet(shared).await?;
    let ReconcilePlan { steps, next } = reconcile::plan(&shared.policy, &fleet, now.utc);
    if steps.is_empty() {
        let until = next.map_or(IDLE_WAIT, |next| next.since(now.utc));
        return Ok(until.clamp(STEP_WAIT, IDLE_WAIT));
    }
    let mut wait = BUSY_WAIT;
    for step in steps {
        let id = campaign_of(step);
        if back_off.is_backing_off(id, shared.clock.now().mono) {
            continue;
        }
        match run_step(shared, step).await {
            Ok(()) => {
                tracing::info!(%step, "step done");
                back_off.clear(id);
                wait = STEP_WAIT;
            }
            Err(problem) => {
                back_off.failed(id, shared.clock.now().mono);
                record_failure(shared, id, problem).await;
            }
        }
    }
    Ok(wait)
}

/// Reads the campaigns, and keeps what was read for the metrics.
async fn read_fleet(shared: &Shared) -> Result<Arc<Vec<CampaignView>>, AppError> {
    let before = shared.fleet();
    let fleet = Arc::new(campaign_transitions::read_fleet(&*shared.store, &before).await?);
    *shared.status.fleet.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&fleet);
    Ok(fleet)
}

async fn record_failure(shared: &Shared, id: CampaignId, problem: AppError) {
    if let AppError::Store(_) = problem {
        // Another writer was faster, or the disk is full; the next run decides.
        tracing::debug!(campaign = %id, error = %problem, "step not stored");
        return;
    }
    tracing::warn!(campaign = %id, %problem, "step failed");
    let now = shared.clock.now().utc;
    if let Err(error) =
        campaign_transitions::record_problem(&*shared.store, now, id, problem.to_string()).await
    {
        tracing::debug!(campaign = %id, %error, "problem not stored");
    }
}

const fn campaign_of(step: Step) -> CampaignId {
    match step {
        Step::Prepare(id)
        | Step::Open(id)
        | Step::Stop(id, _)
        | Step::Close(id)
        | Step::ExpirePending(id)
        | Step::ExpireSilent(id) => id,
    }
}

async fn run_step(shared: &Shared, step: Step) -> Result<(), AppError> {
    let store = &*shared.store;
    let now = shared.clock.now().utc;
    match step {
        Step::Prepare(id) => prepare(shared, id).await,
        Step::Open(id) => open(shared, id).await,
        Step::Stop(id, then) => stop(shared, id, then).await,
        Step::Close(id) => campaign_transitions::mark_closed(store, now, id).await,
        Step::ExpirePending(id) => campaign_transitions::expire_pending(store, now, id).await,
        Step::ExpireSilent(id) => campaign_transitions::expire_silent(store, now, id).await,
    }
}

async fn prepare(shared: &Shared, id: CampaignId) -> Result<(), AppError> {
    let campaign = find(&*shared.store, id).await?;
    let Some(window) = campaign.window else { return Ok(()) };
    let reply = count(shared, "prepare", control_client::prepare(&campaign, window).await)?;
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
    campaign_transitions::mark_prepared(&*shared.store, now, id, window.revision, air).await
}

async fn open(shared: &Shared, id: CampaignId) -> Result<(), AppError> {
    let campaign = find(&*shared.store, id).await?;
    let (Some(window), Some(air)) = (campaign.window, campaign.prepared) else { return Ok(()) };
    count(shared, "open", control_client::open(&campaign, air.tsi, window).await)?;
    campaign_transitions::mark_opened(&*shared.store, shared.clock.now().utc, id, window.revision)
        .await
}

async fn stop(shared: &Shared, id: CampaignId, then: CampaignState) -> Result<(), AppError> {
    let campaign = find(&*shared.store, id).await?;
    let now = shared.clock.now().utc;
    // After the window the image server is off air by itself.
    let on_air = campaign.window.is_some_and(|window| now < window.closes);
    if let (Some(air), true) = (campaign.prepared, on_air) {
        count(shared, "stop", control_client::stop(&campaign, air.tsi).await)?;
    }
    campaign_transitions::mark_stopped(&*shared.store, now, id, then).await
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

/// Campaigns whose last step failed: failures in a row, and the time of the next try.
#[derive(Debug, Default)]
struct BackOff(BTreeMap<CampaignId, (u32, Mono)>);

impl BackOff {
    fn is_backing_off(&self, id: CampaignId, now: Mono) -> bool {
        self.0.get(&id).is_some_and(|(_, until)| now < *until)
    }

    fn failed(&mut self, id: CampaignId, now: Mono) {
        let (failures, until) = self.0.entry(id).or_insert((0, now));
        let wait = BUSY_WAIT.saturating_mul(1 << (*failures).min(10)).min(LONGEST_BACK_OFF);
        *failures = failures.saturating_add(1);
        *until = now + wait;
    }

    fn clear(&mut self, id: CampaignId) {
        self.0.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_step_is_retried_with_a_bounded_back_off() {
        let mut back_off = BackOff::default();
        let id = CampaignId([1; 16]);
        let mut now = Mono(0);
        let mut waits = Vec::new();
        for _ in 0..7 {
            back_off.failed(id, now);
            let (_, until) = back_off.0[&id];
            waits.push(until.since(now).as_millis());
            assert!(back_off.is_backing_off(id, now) && !back_off.is_backing_off(id, until));
            now = until;
        }
        assert_eq!(waits, [200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
        back_off.clear(id);
        assert!(!back_off.is_backing_off(id, now));
    }
}
