//! The reconciler of the management server: the real plan and the real order of steps, with calls
//! that may have no answer.

use std::{collections::BTreeMap, time::Duration};

use dm_bridge::{
    app::{
        AppError,
        campaign_transitions::{self, read_fleet},
        status,
    },
    campaign::{
        model::{Campaign, CampaignState, PreparedSession, Window},
        reconcile::{self, ReconcilePlan, ReconcilePolicy, Step},
        session_check::{self, Finding},
        step_scheduler::{StepOutcome, StepScheduler},
    },
    fleet::memory::MemoryStore,
};
use proto::{
    control::{OpenRequest, PrepareReply, PrepareRequest, StopRequest},
    ids::{CampaignId, Tsi},
    time::Mono,
    tune_in::TuneIn,
};

use super::{
    fault::At,
    image_server::{Call, CallFailure, ImageServer},
    package::{BEGIN, GROUP, PORT, SOURCES},
    ready::now,
};
use crate::lab::rng::SeededRng;

/// Time after which a call without an answer is given up.
const CALL_TIME: u64 = 10_000;
/// Time from a step that has failed to the next look at the fleet.
const SOON: u64 = 1_000;
/// Looks at the fleet in one moment.
const LOOKS: usize = 8;

/// The reconciler.
#[derive(Debug)]
pub(super) struct Reconciler {
    policy: ReconcilePolicy,
    scheduler: StepScheduler,
    /// The windows that further image servers are open in, and their sessions, by campaign.
    further: BTreeMap<CampaignId, Vec<(TuneIn, Window)>>,
    /// The sessions of image servers, by campaign.
    sessions: BTreeMap<(usize, CampaignId), u32>,
    /// Counts restarts, so that calls of an earlier life end nothing.
    life: u64,
    /// Set when it looks at the sessions that it has opened.
    watches_sessions: bool,
}

/// Result of a look at the fleet.
#[derive(Debug, Default)]
pub struct Reconciled {
    /// Time of the next look.
    pub next: Option<At>,
    /// Steps whose call has no answer, with the time at which it is given up and the life.
    pub unanswered: Vec<(At, u64, Step)>,
}

/// Failure of a step.
#[derive(Debug)]
enum StepFailure {
    App(AppError),
    /// The image server has no such session, or another one.
    Refused(AppError),
    Hangs,
}

impl From<AppError> for StepFailure {
    fn from(error: AppError) -> Self {
        Self::App(error)
    }
}

const fn mono(at: At) -> Mono {
    Mono(at.0 * 1_000_000)
}

fn moment(mono: Mono) -> At {
    At(mono.0.div_ceil(1_000_000))
}

impl Reconciler {
    /// Returns a reconciler that has done nothing.
    pub(super) fn new(watches_sessions: bool) -> Self {
        Self {
            policy: ReconcilePolicy { silence_timeout: Duration::from_secs(6 * 3600) },
            scheduler: StepScheduler::default(),
            further: BTreeMap::new(),
            sessions: BTreeMap::new(),
            life: 0,
            watches_sessions,
        }
    }

    /// Drops the state that is in the process alone.
    pub(super) fn restart(&mut self) {
        self.scheduler = StepScheduler::default();
        self.life += 1;
    }

    /// Returns the sessions of the further image servers of a campaign, with their windows.
    pub(super) fn further(&self, id: CampaignId) -> Option<&[(TuneIn, Window)]> {
        self.further.get(&id).map(Vec::as_slice).filter(|further| !further.is_empty())
    }

    /// Runs the steps that are due, until none is or one has failed.
    pub(super) fn run(
        &mut self,
        at: At,
        store: &MemoryStore,
        rng: &mut SeededRng,
        image_servers: &mut [ImageServer],
    ) -> Reconciled {
        let mut reconciled = Reconciled { next: Some(At(at.0 + SOON)), unanswered: Vec::new() };
        for _ in 0..LOOKS {
            let Ok(fleet) = now(read_fleet(store, &[])) else { return reconciled };
            let ReconcilePlan { steps, watched, next } =
                reconcile::plan(&self.policy, &fleet, at.utc());
            self.scheduler.handle_plan(&fleet, &steps);
            if self.watches_sessions {
                self.scheduler.handle_sessions(mono(at), &fleet, &watched);
            }
            let (mut has_failed, mut was_idle) = (false, steps.is_empty());
            while let Some(step) = self.scheduler.poll_step(mono(at)) {
                was_idle = false;
                match self.take(at, store, rng, step, image_servers) {
                    Ok(()) => self.scheduler.handle_end(mono(at), step, StepOutcome::Done),
                    Err(StepFailure::App(problem) | StepFailure::Refused(problem)) => {
                        self.fail(at, store, step, problem.to_string());
                        has_failed = true;
                    }
                    Err(StepFailure::Hangs) => {
                        reconciled.unanswered.push((At(at.0 + CALL_TIME), self.life, step));
                        has_failed = true;
                    }
                }
            }
            if has_failed {
                return reconciled;
            }
            if was_idle {
                let next = next.map(|next| At(next.0.saturating_sub(BEGIN.0)));
                let look = self.scheduler.deadline().map(moment);
                let soonest = next.into_iter().chain(look).min();
                reconciled.next = soonest.map(|next| next.max(At(at.0 + 1)));
                return reconciled;
            }
        }
        reconciled
    }

    /// Returns the campaigns whose sessions are open and whose devices need them.
    pub(super) fn opened(&self, at: At, store: &MemoryStore) -> Vec<CampaignId> {
        let fleet = now(read_fleet(store, &[])).unwrap_or_default();
        reconcile::plan(&self.policy, &fleet, at.utc()).watched
    }

    /// A call is given up, if it was made in this life.
    pub(super) fn give_up(&mut self, at: At, store: &MemoryStore, life: u64, step: Step) {
        if life == self.life {
            self.fail(at, store, step, "the image server does not answer".to_owned());
        }
    }

    fn fail(&mut self, at: At, store: &MemoryStore, step: Step, problem: String) {
        if let Step::Look(_) = step {
            // A session that is not shown changes nothing.
            return self.scheduler.handle_end(mono(at), step, StepOutcome::Done);
        }
        self.scheduler.handle_end(mono(at), step, StepOutcome::Failed);
        let id = step.campaign();
        let view = now(status::campaign(store, id));
        if view.is_ok_and(|view| reconcile::is_due(&self.policy, &view, at.utc(), step)) {
            now(campaign_transitions::record_problem(store, at.utc(), id, problem)).ok();
        }
    }

    /// Runs a step if it is still due, and looks at the session when an image server refuses.
    fn take(
        &mut self,
        at: At,
        store: &MemoryStore,
        rng: &mut SeededRng,
        step: Step,
        image_servers: &mut [ImageServer],
    ) -> Result<(), StepFailure> {
        let view = now(status::campaign(store, step.campaign()))?;
        if !reconcile::is_due(&self.policy, &view, at.utc(), step) {
            return Ok(());
        }
        let taken = self.act(at, (store, rng), step, &view.campaign, image_servers);
        if let Err(StepFailure::Refused(_)) = taken {
            self.look(at, store, &view.campaign, image_servers)?;
        }
        taken
    }

    fn act(
        &mut self,
        at: At,
        (store, rng): (&MemoryStore, &mut SeededRng),
        step: Step,
        campaign: &Campaign,
        image_servers: &mut [ImageServer],
    ) -> Result<(), StepFailure> {
        match step {
            Step::Prepare(_) => self.prepare(at, store, rng, campaign, image_servers),
            Step::Open(_) => self.open(at, store, campaign, image_servers),
            Step::Stop(_, then) => self.stop(at, store, campaign, then, image_servers),
            Step::Look(_) => self.look(at, store, campaign, image_servers),
            Step::Close(id) => Ok(now(campaign_transitions::mark_closed(store, at.utc(), id))?),
            Step::ExpirePending(id) => {
                Ok(now(campaign_transitions::expire_pending(store, at.utc(), id))?)
            }
            Step::ExpireSilent(id) => {
                Ok(now(campaign_transitions::expire_silent(store, at.utc(), id))?)
            }
        }
    }

    /// Prepares every image server for the window; devices are armed for the first one.
    fn prepare(
        &mut self,
        at: At,
        store: &MemoryStore,
        rng: &mut SeededRng,
        campaign: &Campaign,
        image_servers: &mut [ImageServer],
    ) -> Result<(), StepFailure> {
        let (id, Some(window)) = (campaign.id, campaign.window) else { return Ok(()) };
        let request = PrepareRequest {
            campaign_id: id.0.to_vec(),
            group: GROUP.to_string(),
            port: PORT.into(),
            opens_utc: window.opens.seconds(),
            closes_utc: window.closes.seconds(),
            bits_per_second: 0,
            window_revision: window.revision,
        };
        let mut further = Vec::new();
        let mut first = None;
        for (number, server) in image_servers.iter_mut().enumerate() {
            let fresh = Tsi(1 + rng.below(u64::from(u32::MAX) - 1));
            let reply = call(server, at, &Call::Prepare(request.clone(), fresh))?;
            let Some(PrepareReply { tsi, .. }) = reply else { return Ok(()) };
            let source = SOURCES.get(number).copied().unwrap_or(GROUP);
            if number == 0 {
                first = Some((source, Tsi(tsi.into())));
            } else {
                let tune_in = TuneIn {
                    channel: (GROUP, PORT).into(),
                    tsi: Tsi(tsi.into()),
                    source,
                    campaign: id,
                    campaign_digest: campaign.terms.digest,
                    component: None,
                };
                further.push((tune_in, window));
            }
            self.sessions.insert((number, id), tsi);
        }
        self.further.insert(id, further);
        let Some(air) = first else { return Ok(()) };
        now(campaign_transitions::mark_prepared(store, at.utc(), id, window.revision, air))?;
        Ok(())
    }

    fn open(
        &self,
        at: At,
        store: &MemoryStore,
        campaign: &Campaign,
        image_servers: &mut [ImageServer],
    ) -> Result<(), StepFailure> {
        let (id, Some(window)) = (campaign.id, campaign.window) else { return Ok(()) };
        for (number, server) in image_servers.iter_mut().enumerate() {
            let request = OpenRequest {
                campaign_id: id.0.to_vec(),
                tsi: self.sessions.get(&(number, id)).copied().unwrap_or_default(),
                opens_utc: window.opens.seconds(),
                closes_utc: window.closes.seconds(),
                window_revision: window.revision,
            };
            call(server, at, &Call::Open(request))?;
        }
        now(campaign_transitions::mark_opened(store, at.utc(), id, window.revision))?;
        Ok(())
    }

    fn stop(
        &self,
        at: At,
        store: &MemoryStore,
        campaign: &Campaign,
        then: CampaignState,
        image_servers: &mut [ImageServer],
    ) -> Result<(), StepFailure> {
        let id = campaign.id;
        let on_air = campaign.window.is_some_and(|window| at.utc() < window.closes);
        if campaign.prepared.is_some() && on_air {
            for (number, server) in image_servers.iter_mut().enumerate() {
                let tsi = self.sessions.get(&(number, id)).copied().unwrap_or_default();
                let window_revision = campaign.window.map_or(0, |window| window.revision);
                let request = StopRequest { campaign_id: id.0.to_vec(), tsi, window_revision };
                match server.call(at, &Call::Stop(request)) {
                    Ok(_) | Err(CallFailure::NotFound(_)) => {}
                    Err(failure) => return Err(failure.into()),
                }
            }
        }
        now(campaign_transitions::mark_stopped(store, at.utc(), id, then))?;
        Ok(())
    }

    /// Compares the sessions of a campaign with what the image servers show of them.
    fn look(
        &self,
        at: At,
        store: &MemoryStore,
        campaign: &Campaign,
        image_servers: &[ImageServer],
    ) -> Result<(), StepFailure> {
        let (id, Some(window)) = (campaign.id, campaign.window) else { return Ok(()) };
        for (number, server) in image_servers.iter().enumerate() {
            let shown = match server.status(at, id) {
                Ok(shown) => shown,
                Err(CallFailure::Hangs) => return Err(StepFailure::Hangs),
                Err(_) => continue,
            };
            let tsi = self.sessions.get(&(number, id)).copied().unwrap_or_default();
            let session = campaign.prepared.map(|session| {
                let tsi = if number == 0 { session.tsi } else { Tsi(tsi.into()) };
                PreparedSession { tsi, ..session }
            });
            match (session_check::compare(window, session, shown.as_ref()), campaign.prepared) {
                (Finding::Lost(loss), Some(session)) => {
                    let lost = campaign_transitions::mark_lost(store, at.utc(), id, session, loss);
                    return Ok(now(lost)?);
                }
                (Finding::Used(used), _) => {
                    let next = campaign_transitions::renumber(store, at.utc(), id, window, used);
                    return Ok(now(next)?);
                }
                (Finding::Lost(_) | Finding::Kept | Finding::Stopped, _) => {}
            }
        }
        Ok(())
    }
}

fn call(
    server: &mut ImageServer,
    at: At,
    request: &Call,
) -> Result<Option<PrepareReply>, StepFailure> {
    Ok(server.call(at, request)?)
}

impl From<CallFailure> for StepFailure {
    fn from(failure: CallFailure) -> Self {
        match failure {
            CallFailure::Refused(text) => Self::App(AppError::Network(text)),
            CallFailure::NotFound(text) | CallFailure::Conflict(text) => {
                Self::Refused(AppError::Network(text))
            }
            CallFailure::Hangs => Self::Hangs,
        }
    }
}
