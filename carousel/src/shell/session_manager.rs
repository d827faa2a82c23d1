//! The sessions of `serve`, started and stopped by the control API and the clock.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use proto::{
    control::{
        AirStatus, OpenRequest, PrepareReply, PrepareRequest, StatusReply, StatusRequest,
        StopRequest,
    },
    ids::{CampaignId, Tsi},
    time::{Mono, Now, Utc},
    trust::{Root, Verified},
};
use tokio::{sync::Notify, time};

use super::{
    air::random_tsi,
    clock, files,
    package_dir::{self, AirLock, OpenPackage},
    plan_checks::PlanChecks,
    sender::{OnAir, PlanView, Planned, Progress},
    udp::{self, SendOptions},
};
use crate::{
    control::{
        manager::{
            self, AirablePackage, Control, Defaults, Output, Refusal, SessionProgress, StartSession,
        },
        plan_check::PlanCheck,
        resume_point::{DesiredState, SavedSession, SavedState},
    },
    error::{CliError, ExitCode},
    flute::{pacing::Rate, session::SessionSetup},
    package::documents,
};

/// The interval at which sessions on air are polled.
const TICK: Duration = Duration::from_millis(100);

/// The pause after which what a fault hindered is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The manager as the routes of the control API and the clock share it.
#[derive(Clone)]
pub struct SharedManager {
    manager: Arc<Mutex<SessionManager>>,
    changed: Arc<Notify>,
}

impl SharedManager {
    /// Shares a manager.
    #[must_use]
    pub fn new(manager: SessionManager) -> Self {
        Self { manager: Arc::new(Mutex::new(manager)), changed: Arc::new(Notify::new()) }
    }

    fn lock(&self) -> MutexGuard<'_, SessionManager> {
        self.manager.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts and stops sessions by the control API and their windows; never returns.
    pub async fn drive(&self) {
        loop {
            let deadline = self.lock().step(clock::now());
            let until =
                deadline.map_or(TICK, |deadline| deadline.since(clock::now().utc)).min(TICK);
            tokio::select! {
                () = time::sleep(until) => {}
                () = self.changed.notified() => {}
            }
        }
    }

    /// Takes all sessions off the air and saves their resume points.
    pub fn shut_down(&self) {
        self.lock().shut_down();
    }

    /// Carries out an operation, saves the state that it sets, and wakes the driver.
    ///
    /// # Errors
    ///
    /// [`ControlError`] of the operation, or that its state could not be saved.
    pub fn operate<T>(
        &self,
        operation: impl FnOnce(&mut SessionManager, Now) -> Result<T, ControlError>,
    ) -> Result<T, ControlError> {
        let mut manager = self.lock();
        let now = clock::now();
        let answer = operation(&mut manager, now)?;
        manager.save_changes(now).map_err(ControlError::Storage)?;
        self.changed.notify_one();
        Ok(answer)
    }
}

/// The error of an operation of the control API.
#[derive(Debug)]
pub enum ControlError {
    /// A rule forbids it.
    Refused(Refusal),
    /// The package is missing or invalid.
    Package(CliError),
    /// The state that it sets could not be saved.
    Storage(CliError),
}

impl From<Refusal> for ControlError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// The sessions of an image server: their packages, their state on disk, their senders.
#[derive(Debug)]
pub struct SessionManager {
    control: Control,
    on_air: BTreeMap<CampaignId, (OnAir, AirLock)>,
    /// Outputs that an operation made and that are still to be executed.
    pending: Vec<Output>,
    checks: PlanChecks,
    /// Campaigns whose earlier session could not be restored.
    unrestored: BTreeSet<CampaignId>,
    /// Campaigns whose plan was found changed on air, and could not be compared again.
    unchecked: BTreeSet<CampaignId>,
    /// The time of the next try for both.
    retry_at: Mono,
    data: PathBuf,
    root: Verified<Root>,
    send_options: SendOptions,
}

impl SessionManager {
    /// Opens the data directory and restores the sessions of an earlier run; `root` is the file of
    /// the root, `rate` applies to sessions without a rate of their own.
    ///
    /// # Errors
    ///
    /// [`CliError`] that names what was refused. A package that cannot be aired is logged and tried
    /// again.
    pub fn new(
        data: PathBuf,
        root: &Path,
        send_options: SendOptions,
        rate: Rate,
    ) -> Result<Self, CliError> {
        let now = clock::now();
        let root = documents::trusted_root(now.utc, &package_dir::read_envelope(root)?)?;
        let source = send_options.source.unwrap_or(send_options.interface);
        udp::check_local("interface", send_options.interface)?;
        udp::check_local("source", source)?;
        let control = Control::new(Defaults { source, rate });
        let mut manager = Self {
            control,
            on_air: BTreeMap::new(),
            pending: Vec::new(),
            checks: PlanChecks::default(),
            unrestored: BTreeSet::new(),
            unchecked: BTreeSet::new(),
            retry_at: now.mono + RETRY_AFTER,
            data,
            root,
            send_options,
        };
        for name in files::names(&manager.data)? {
            let Ok(id) = name.parse::<CampaignId>() else { continue };
            if let Err(error) = manager.restore(id, now) {
                tracing::warn!(campaign = %id, %error, "an earlier session is not restored yet");
                manager.unrestored.insert(id);
            }
        }
        Ok(manager)
    }

    fn directory(&self, id: CampaignId) -> PathBuf {
        self.data.join(id.to_string())
    }

    /// Tries again what a fault hindered that may have passed.
    fn retry(&mut self, now: Now) {
        if now.mono < self.retry_at {
            return;
        }
        self.retry_at = now.mono + RETRY_AFTER;
        for id in std::mem::take(&mut self.unchecked) {
            self.compare_again(now, id);
        }
        for id in std::mem::take(&mut self.unrestored) {
            match self.restore(id, now) {
                Ok(()) => tracing::info!(campaign = %id, "the earlier session is restored"),
                Err(_) if self.is_over(id, now.utc) => {}
                Err(error) => {
                    tracing::debug!(campaign = %id, %error, "an earlier session is not restored yet");
                    self.unrestored.insert(id);
                }
            }
        }
    }

    /// Returns whether the window of a saved session has passed.
    fn is_over(&self, id: CampaignId, now: Utc) -> bool {
        let saved = package_dir::read_saved(&self.directory(id), id).ok().flatten();
        saved.and_then(|saved| saved.session).is_some_and(|session| session.closes <= now)
    }

    fn restore(&mut self, id: CampaignId, now: Now) -> Result<(), CliError> {
        let directory = self.directory(id);
        package_dir::remove_temporary(&directory)?;
        let Some(saved) = package_dir::read_saved(&directory, id)? else { return Ok(()) };
        let Some(session) = saved.session else { return Ok(()) };
        let package = OpenPackage::open(&directory, Some(&self.root), now.utc)?;
        let check = self.checks.check(now.mono, id, session.opens, &package)?;
        self.control.restore(airable(&package, check), saved);
        Ok(())
    }

    /// Prepares a session.
    ///
    /// # Errors
    ///
    /// [`ControlError`].
    pub fn prepare(
        &mut self,
        now: Now,
        request: &PrepareRequest,
    ) -> Result<PrepareReply, ControlError> {
        let id = manager::campaign_id(&request.campaign_id)?;
        let directory = self.directory(id);
        if !files::exists(&directory) {
            return Err(Refusal::NotFound(format!("campaign_id {id}: no package is here")).into());
        }
        let package = OpenPackage::open(&directory, Some(&self.root), now.utc);
        let package = package.map_err(ControlError::Package)?;
        let earlier = package_dir::read_saved(&directory, id).map_err(ControlError::Package)?;
        let fresh = Tsi(random_tsi());
        self.observe(now);
        let opens = Utc::from_seconds(request.opens_utc);
        let check = self.checks.check(now.mono, id, opens, &package);
        let package = airable(&package, check.map_err(ControlError::Package)?);
        let reply = self.control.prepare(now, request, package, fresh, earlier)?;
        self.unrestored.remove(&id);
        Ok(reply)
    }

    /// Opens a window.
    ///
    /// # Errors
    ///
    /// [`ControlError`].
    pub fn open(&mut self, now: Now, request: &OpenRequest) -> Result<AirStatus, ControlError> {
        Ok(self.control.open(now, request)?)
    }

    /// Stops a session.
    ///
    /// # Errors
    ///
    /// [`ControlError`].
    pub fn stop(&mut self, now: Now, request: &StopRequest) -> Result<AirStatus, ControlError> {
        let stopped = self.control.stop(now, request);
        if let Err(Refusal::NotFound(_)) = stopped {
            self.stop_unrestored(manager::campaign_id(&request.campaign_id)?)?;
        }
        Ok(stopped?)
    }

    /// Saves that a session is stopped which is not restored yet: it stays off the air.
    fn stop_unrestored(&self, id: CampaignId) -> Result<(), ControlError> {
        if !self.unrestored.contains(&id) {
            return Ok(());
        }
        let saved = package_dir::read_saved(&self.directory(id), id);
        let Some(saved) = saved.map_err(ControlError::Storage)? else { return Ok(()) };
        let session = saved.session.map(|it| SavedSession { desired: DesiredState::Stopped, ..it });
        self.save(&SavedState { session, ..saved }).map_err(ControlError::Storage)
    }

    /// Returns the state of one session, or of all.
    ///
    /// # Errors
    ///
    /// [`ControlError`].
    pub fn status(
        &mut self,
        now: Now,
        request: &StatusRequest,
    ) -> Result<StatusReply, ControlError> {
        self.observe(now);
        Ok(self.control.status(now, request)?)
    }

    /// Executes what is due; returns the next deadline.
    fn step(&mut self, now: Now) -> Option<Utc> {
        self.observe(now);
        for output in std::mem::take(&mut self.pending) {
            self.act(now, output);
        }
        loop {
            match self.control.poll_output(now) {
                Output::Wait(until) => return Some(until),
                Output::Idle => return None,
                Output::Save(saved) => {
                    if let Err(error) = self.save(&saved) {
                        tracing::error!(%error, "a resume point is not saved");
                    }
                }
                output @ (Output::Start(..) | Output::Stop(_)) => self.act(now, output),
            }
        }
    }

    /// Saves the state that an operation changed, before its reply is sent.
    fn save_changes(&mut self, now: Now) -> Result<(), CliError> {
        loop {
            match self.control.poll_output(now) {
                Output::Save(saved) => self.save(&saved)?,
                output @ (Output::Start(..) | Output::Stop(_)) => self.pending.push(output),
                Output::Wait(_) | Output::Idle => return Ok(()),
            }
        }
    }

    fn save(&self, saved: &SavedState) -> Result<(), CliError> {
        package_dir::save(&self.directory(saved.campaign), saved)
    }

    fn act(&mut self, now: Now, output: Output) {
        match output {
            Output::Start(id, start) => match self.start(now, id, start) {
                Ok(on_air) => {
                    tracing::info!(campaign = %id, tsi = start.tsi.0, group = %start.channel, rate = %start.rate, "on air");
                    self.on_air.insert(id, on_air);
                }
                Err(error) => {
                    tracing::error!(campaign = %id, %error, "not on air");
                    self.control.handle_ended(now, id);
                }
            },
            Output::Stop(id) => match self.on_air.get(&id) {
                Some((on_air, _)) => on_air.stop(),
                None => self.control.handle_ended(now, id),
            },
            Output::Save(_) | Output::Wait(_) | Output::Idle => {}
        }
    }

    fn start(
        &mut self,
        now: Now,
        id: CampaignId,
        start: StartSession,
    ) -> Result<(OnAir, AirLock), CliError> {
        let directory = self.directory(id);
        let lock = package_dir::lock(&directory)?;
        let package = OpenPackage::open(&directory, Some(&self.root), now.utc)?;
        // The FDT Instance IDs of this run are marked as used before the first packet.
        if let Some(saved) = package_dir::read_saved(&directory, id)? {
            package_dir::save(
                &directory,
                &SavedState { resume_point: start.resume_point.with_reserve(), ..saved },
            )?;
        }
        let SendOptions { interface, source, ttl, dscp } = self.send_options;
        let channel = udp::Channel {
            group: start.channel,
            interface: udp::ipv4("interface", interface)?,
            source: udp::ipv4("source", source.unwrap_or(interface))?,
            hops: ttl,
            dscp,
        };
        let socket = udp::open(&channel)?;
        let check = self.checks.check(now.mono, id, now.utc, &package)?;
        if check != PlanCheck::Passed {
            self.control.handle_check(id, check);
            let text =
                format!("{}: the plan has changed, it is compared again", directory.display());
            return Err(ExitCode::Refused.with_message(text));
        }
        let records = package.records()?;
        let setup = SessionSetup {
            tsi: start.tsi,
            campaign: id,
            objects: package.objects().to_vec(),
            resume_point: start.resume_point,
            passes: None,
        };
        Ok((OnAir::start(Planned::new(setup, records), socket, start.rate)?, lock))
    }

    /// Updates the state by the progress of sessions on air, and ends those that are over.
    fn observe(&mut self, now: Now) {
        self.retry(now);
        for (id, check) in self.checks.poll(now.mono) {
            self.control.handle_check(id, check);
        }
        for (id, (on_air, _)) in &self.on_air {
            self.control.handle_progress(now, *id, progress_of(on_air.progress()));
        }
        let ended: Vec<_> = self
            .on_air
            .iter()
            .filter(|(_, (on_air, _))| on_air.is_finished())
            .map(|(id, _)| *id)
            .collect();
        for id in ended {
            if let Some((on_air, _lock)) = self.on_air.remove(&id) {
                match on_air.join() {
                    Ok(progress) => {
                        self.control.handle_progress(now, id, progress_of(progress));
                        let sent = progress.sent;
                        self.compare_damaged(now, id, progress.view.damaged_runs);
                        tracing::info!(campaign = %id, packets = sent.packets, bytes = sent.octets, "off the air");
                    }
                    Err(error) => tracing::error!(campaign = %id, %error, "off the air"),
                }
                self.control.handle_ended(now, id);
            }
        }
    }

    /// Has a plan compared again that was found changed on air.
    fn compare_damaged(&mut self, now: Now, id: CampaignId, damaged_runs: u64) {
        if damaged_runs > 0 {
            tracing::error!(campaign = %id, damaged_runs, "the plan has changed on the disk");
            self.compare_again(now, id);
        }
    }

    fn compare_again(&mut self, now: Now, id: CampaignId) {
        let package = OpenPackage::open(&self.directory(id), Some(&self.root), now.utc);
        let check = package.and_then(|package| {
            self.checks.forget(&package)?;
            self.checks.check(now.mono, id, now.utc, &package)
        });
        let check = check.unwrap_or_else(|error| {
            tracing::debug!(campaign = %id, %error, "the plan is not compared yet");
            self.unchecked.insert(id);
            PlanCheck::Failed(error.to_string())
        });
        self.control.handle_check(id, check);
    }

    /// Takes all sessions off the air and saves their resume points, for a later run.
    fn shut_down(&mut self) {
        self.on_air.values().for_each(|(on_air, _)| on_air.stop());
        let now = clock::now();
        for (id, (on_air, _lock)) in std::mem::take(&mut self.on_air) {
            if let Ok(progress) = on_air.join() {
                self.control.handle_progress(now, id, progress_of(progress));
            }
            self.control.handle_ended(now, id);
        }
        if let Err(error) = self.save_changes(now) {
            tracing::error!(%error, "a resume point is not saved");
        }
    }
}

fn airable(package: &OpenPackage, check: PlanCheck) -> AirablePackage {
    AirablePackage {
        check,
        campaign: package.campaign().clone(),
        plan_symbols: package.plan_symbols(),
        pass_bytes: package.pass_bytes(),
    }
}

fn progress_of(progress: Progress) -> SessionProgress {
    let Progress { view: PlanView { resume_point, symbol_index, damaged_runs }, sent, .. } =
        progress;
    SessionProgress { resume_point, symbol_index, sent, damaged_runs }
}

#[cfg(test)]
mod tests;
