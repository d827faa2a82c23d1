//! The comparison of plans with their campaigns, in threads: those that are on air first come first.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use proto::{
    ids::CampaignId,
    time::{Mono, Utc},
};

use super::package_dir::{OpenPackage, PlanFile};
use crate::{
    control::plan_check::PlanCheck,
    error::{CliError, ExitCode},
    plan::{check::Progress, runs::Fingerprint},
};

/// Comparisons at a time: one on a medium that hangs does not hold up all others.
const MAX_RUNNING: usize = 2;

/// Wait before a comparison that a fault ended is tried again; it doubles with each fault.
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);
/// Longest wait before a comparison is tried again.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(60);

/// Function that compares plans; its error is [`ExitCode::Refused`] for a damaged one alone.
type Compare = fn(&[PlanFile], &Shared) -> Result<(), CliError>;

/// Comparisons that are done, under way, or to be done.
#[derive(Debug)]
pub struct PlanChecks {
    compare: Compare,
    running: BTreeMap<CampaignId, Running>,
    waiting: BTreeMap<CampaignId, Waiting>,
    /// Reasons why plans with these properties are not aired.
    failed: BTreeMap<CampaignId, (Vec<Fingerprint>, String)>,
}

impl Default for PlanChecks {
    fn default() -> Self {
        Self::new(compare)
    }
}

#[derive(Debug, Clone)]
struct Waiting {
    plans: Arc<Vec<PlanFile>>,
    /// Time at which the session is to be on air.
    opens: Utc,
    /// Time of the next try.
    not_before: Mono,
    /// Faults in a row.
    faults: u32,
}

#[derive(Debug)]
struct Running {
    of: Waiting,
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
    const fn new(compare: Compare) -> Self {
        Self {
            compare,
            running: BTreeMap::new(),
            waiting: BTreeMap::new(),
            failed: BTreeMap::new(),
        }
    }

    /// Returns the state of a package whose session opens at `opens`; begins the comparison of one
    /// that was not compared since it changed.
    ///
    /// # Errors
    ///
    /// [`CliError`] when a plan file cannot be queried.
    pub fn check(
        &mut self,
        now: Mono,
        id: CampaignId,
        opens: Utc,
        package: &OpenPackage,
    ) -> Result<PlanCheck, CliError> {
        let plans = package.plans()?;
        let fingerprints = fingerprints(&plans)?;
        if let Some((of, problem)) = self.failed.get(&id)
            && *of == fingerprints
        {
            return Ok(PlanCheck::Failed(problem.clone()));
        }
        self.failed.remove(&id);
        if let Some(running) = self.running.get(&id) {
            return Ok(PlanCheck::Pending(running.shared.percent()));
        }
        for plan in &plans {
            if plan.runs()?.is_none() {
                self.enqueue(now, id, opens, plans);
                return Ok(PlanCheck::Pending(0));
            }
        }
        self.waiting.remove(&id);
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

    /// Returns the states that may have changed, and begins the next comparisons.
    pub fn poll(&mut self, now: Mono) -> Vec<(CampaignId, PlanCheck)> {
        let mut states = Vec::new();
        for (id, running) in std::mem::take(&mut self.running) {
            if running.thread.is_finished() {
                states.push((id, self.end(now, id, running)));
            } else {
                states.push((id, PlanCheck::Pending(running.shared.percent())));
                self.running.insert(id, running);
            }
        }
        self.begin(now);
        states
    }

    fn enqueue(&mut self, now: Mono, id: CampaignId, opens: Utc, plans: Vec<PlanFile>) {
        let (not_before, faults) =
            self.waiting.get(&id).map_or((now, 0), |before| (before.not_before, before.faults));
        let plans = Arc::new(plans);
        self.waiting.insert(id, Waiting { plans, opens, not_before, faults });
        self.begin(now);
    }

    fn end(&mut self, now: Mono, id: CampaignId, running: Running) -> PlanCheck {
        let Running { of, fingerprints, thread, .. } = running;
        let panicked = |_| Err(ExitCode::Configuration.with_message("the thread panicked"));
        match thread.join().unwrap_or_else(panicked) {
            Ok(()) => PlanCheck::Passed,
            Err(error) if error.exit_code() == ExitCode::Refused => {
                tracing::error!(campaign = %id, %error, "the plan cannot be aired");
                self.failed.insert(id, (fingerprints, error.to_string()));
                PlanCheck::Failed(error.to_string())
            }
            Err(error) => {
                self.try_later(now, id, of, &error);
                PlanCheck::Pending(0)
            }
        }
    }

    /// Puts back a comparison that a fault ended: the fault may pass.
    fn try_later(&mut self, now: Mono, id: CampaignId, of: Waiting, error: &CliError) {
        let pause = FIRST_BACK_OFF.saturating_mul(1 << of.faults.min(10)).min(LONGEST_BACK_OFF);
        tracing::warn!(campaign = %id, %error, ?pause, "the comparison is tried again");
        let faults = of.faults.saturating_add(1);
        self.waiting.insert(id, Waiting { not_before: now + pause, faults, ..of });
    }

    fn begin(&mut self, now: Mono) {
        while self.running.len() < MAX_RUNNING {
            let ready = self.waiting.iter().filter(|(_, waiting)| waiting.not_before <= now);
            let Some(id) = ready.min_by_key(|(_, waiting)| waiting.opens).map(|(id, _)| *id) else {
                return;
            };
            let Some(of) = self.waiting.remove(&id) else { return };
            match self.start(&of) {
                Ok(running) => drop(self.running.insert(id, running)),
                Err(error) => self.try_later(now, id, of, &error),
            }
        }
    }

    fn start(&self, of: &Waiting) -> Result<Running, CliError> {
        let fingerprints = fingerprints(&of.plans)?;
        let all = of.plans.iter().map(PlanFile::bytes).sum();
        let shared =
            Arc::new(Shared { done: AtomicU64::new(0), all, stop: AtomicBool::new(false) });
        let (plans, of_thread) = (Arc::clone(&of.plans), Arc::clone(&shared));
        let compare = self.compare;
        let thread = thread::Builder::new()
            .name("plan-check".into())
            .spawn(move || compare(&plans, &of_thread))
            .map_err(|error| CliError::io("thread of the comparison", error))?;
        Ok(Running { of: of.clone(), fingerprints, shared, thread })
    }
}

impl Drop for PlanChecks {
    /// Asks the threads to end and waits for none: a medium that hangs does not keep the process.
    fn drop(&mut self) {
        let running = self.running.values();
        running.for_each(|running| running.shared.stop.store(true, Ordering::Relaxed));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::clock;

    const ID: [CampaignId; 4] =
        [CampaignId([1; 16]), CampaignId([2; 16]), CampaignId([3; 16]), CampaignId([4; 16])];

    /// Ends by the flag that `drop` sets.
    fn until_stopped(_: &[PlanFile], shared: &Shared) -> Result<(), CliError> {
        while !shared.stop.load(Ordering::Relaxed) {
            thread::park_timeout(Duration::from_millis(1));
        }
        Ok(())
    }

    fn seconds(count: u64) -> Mono {
        Mono(0) + Duration::from_secs(count)
    }

    /// Waits until the thread of a campaign has ended.
    fn wait(checks: &PlanChecks, id: CampaignId) {
        while !checks.running[&id].thread.is_finished() {
            thread::yield_now();
        }
    }

    #[test]
    fn a_fault_that_may_pass_refuses_no_plan_and_is_tried_again_after_a_while() {
        let mut checks = PlanChecks::new(|_, _| Err(ExitCode::Incomplete.with_message("no space")));
        checks.enqueue(Mono(0), ID[0], Utc(0), Vec::new());
        for (now, next) in [(0, 1), (1, 3), (3, 7)] {
            wait(&checks, ID[0]);
            assert_eq!(checks.poll(seconds(now)), [(ID[0], PlanCheck::Pending(0))]);
            checks.enqueue(seconds(now), ID[0], Utc(0), Vec::new());
            assert_eq!(checks.poll(seconds(next - 1)), [], "not at once");
            assert!(checks.running.is_empty());
            checks.poll(seconds(next));
        }
        wait(&checks, ID[0]);
        checks.poll(seconds(7));
        checks.compare = |_, _| Ok(());
        checks.poll(seconds(15));
        wait(&checks, ID[0]);
        assert_eq!(checks.poll(seconds(15)), [(ID[0], PlanCheck::Passed)]);
        checks.compare = |_, _| Err(ExitCode::Refused.with_message("another plan"));
        checks.enqueue(seconds(15), ID[0], Utc(0), Vec::new());
        wait(&checks, ID[0]);
        let failed = PlanCheck::Failed("another plan".to_owned());
        assert_eq!(checks.poll(seconds(15)), [(ID[0], failed)]);
        assert!(checks.waiting.is_empty());
    }

    #[test]
    fn two_plans_are_compared_at_a_time_and_the_one_that_opens_first_is_next() {
        let mut checks = PlanChecks::new(until_stopped);
        for (id, opens) in ID.into_iter().zip([1, 2, 9, 4]) {
            checks.enqueue(Mono(0), id, Utc::from_seconds(opens), Vec::new());
        }
        let running = |checks: &PlanChecks| checks.running.keys().copied().collect::<Vec<_>>();
        assert_eq!(running(&checks), [ID[0], ID[1]]);
        checks.running[&ID[0]].shared.stop.store(true, Ordering::Relaxed);
        wait(&checks, ID[0]);
        checks.poll(Mono(0));
        assert_eq!(running(&checks), [ID[1], ID[3]]);
    }

    #[test]
    fn a_comparison_that_hangs_does_not_hold_up_the_end() {
        let hung: Compare = |_, _| {
            clock::sleep_until(clock::now().mono + Duration::from_secs(20));
            Ok(())
        };
        let mut checks = PlanChecks::new(hung);
        checks.enqueue(Mono(0), ID[0], Utc(0), Vec::new());
        let begin = clock::now().mono;
        drop(checks);
        assert!(clock::now().mono.since(begin) < Duration::from_secs(10));
    }
}
