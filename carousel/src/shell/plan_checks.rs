//! The comparison of plans with their campaigns, in a thread: one package at a time.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use proto::ids::CampaignId;

use super::package_dir::{OpenPackage, PlanFile};
use crate::{
    control::plan_check::PlanCheck,
    error::{CliError, ExitCode},
    plan::{check::Progress, runs::Fingerprint},
};

/// Comparisons that are done, under way, or to be done.
#[derive(Debug, Default)]
pub struct PlanChecks {
    running: Option<Running>,
    waiting: VecDeque<(CampaignId, Vec<PlanFile>)>,
    /// Reasons why plans with these properties are not aired.
    failed: BTreeMap<CampaignId, (Vec<Fingerprint>, String)>,
}

#[derive(Debug)]
struct Running {
    id: CampaignId,
    fingerprints: Vec<Fingerprint>,
    shared: Arc<Shared>,
    thread: JoinHandle<Result<(), CliError>>,
}

#[derive(Debug)]
struct Shared {
    /// Octets that were compared.
    done: AtomicU64,
    /// Octets of all plans.
    all: u64,
    stop: AtomicBool,
}

impl Shared {
    fn percent(&self) -> u32 {
        let done = self.done.load(Ordering::Relaxed).saturating_mul(100);
        u32::try_from(done / self.all.max(1)).unwrap_or(100).min(100)
    }
}

impl PlanChecks {
    /// Returns the state of a package; begins the comparison of one that was not compared since it
    /// changed.
    ///
    /// # Errors
    ///
    /// [`CliError`] when a plan file cannot be queried, or no thread can be started.
    pub fn check(&mut self, id: CampaignId, package: &OpenPackage) -> Result<PlanCheck, CliError> {
        let plans = package.plans()?;
        let fingerprints = fingerprints(&plans)?;
        if let Some((of, problem)) = self.failed.get(&id)
            && *of == fingerprints
        {
            return Ok(PlanCheck::Failed(problem.clone()));
        }
        self.failed.remove(&id);
        if let Some(running) = self.running.as_ref().filter(|running| running.id == id) {
            return Ok(PlanCheck::Pending(running.shared.percent()));
        }
        if self.waiting.iter().any(|(waiting, _)| *waiting == id) {
            return Ok(PlanCheck::Pending(0));
        }
        for plan in &plans {
            if plan.runs()?.is_none() {
                self.waiting.push_back((id, plans));
                self.begin()?;
                return Ok(PlanCheck::Pending(0));
            }
        }
        Ok(PlanCheck::Passed)
    }

    /// Forgets that a package was compared.
    ///
    /// # Errors
    ///
    /// [`CliError`] that names the file.
    pub fn forget(&mut self, package: &OpenPackage) -> Result<(), CliError> {
        package.plans()?.iter().try_for_each(PlanFile::forget_check)
    }

    /// Returns the states that may have changed, and begins the next comparison.
    pub fn poll(&mut self) -> Vec<(CampaignId, PlanCheck)> {
        let mut states = Vec::new();
        if let Some(running) = &self.running
            && !running.thread.is_finished()
        {
            states.push((running.id, PlanCheck::Pending(running.shared.percent())));
            return states;
        }
        if let Some(Running { id, fingerprints, thread, .. }) = self.running.take() {
            let panicked = |_| Err(ExitCode::Configuration.with_message("the thread panicked"));
            let check = match thread.join().unwrap_or_else(panicked) {
                Ok(()) => PlanCheck::Passed,
                Err(error) => {
                    tracing::error!(campaign = %id, %error, "the plan cannot be aired");
                    self.failed.insert(id, (fingerprints, error.to_string()));
                    PlanCheck::Failed(error.to_string())
                }
            };
            states.push((id, check));
        }
        if let Err(error) = self.begin() {
            tracing::error!(%error, "no plan can be compared");
        }
        states
    }

    fn begin(&mut self) -> Result<(), CliError> {
        if self.running.is_some() {
            return Ok(());
        }
        let Some((id, plans)) = self.waiting.pop_front() else { return Ok(()) };
        let fingerprints = fingerprints(&plans)?;
        let all = plans.iter().map(PlanFile::bytes).sum();
        let shared =
            Arc::new(Shared { done: AtomicU64::new(0), all, stop: AtomicBool::new(false) });
        let of_thread = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("plan-check".into())
            .spawn(move || compare(&plans, &of_thread))
            .map_err(|error| CliError::io("thread of the comparison", error))?;
        self.running = Some(Running { id, fingerprints, shared, thread });
        Ok(())
    }
}

impl Drop for PlanChecks {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.shared.stop.store(true, Ordering::Relaxed);
            drop(running.thread.join());
        }
    }
}

fn fingerprints(plans: &[PlanFile]) -> Result<Vec<Fingerprint>, CliError> {
    plans.iter().map(PlanFile::fingerprint).collect()
}

fn compare(plans: &[PlanFile], shared: &Shared) -> Result<(), CliError> {
    let mut before = 0;
    for plan in plans {
        plan.check(&|octets| {
            shared.done.store(before + octets, Ordering::Relaxed);
            match shared.stop.load(Ordering::Relaxed) {
                true => Progress::Stop,
                false => Progress::Continue,
            }
        })?;
        before += plan.bytes();
    }
    Ok(())
}
