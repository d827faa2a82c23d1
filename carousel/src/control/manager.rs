//! Operations of the control API, and the windows of sessions.
//!
//! The management server prepares, opens and stops; the image server then opens and closes the
//! windows without it. Every operation may be repeated. Its state is saved before it is answered.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use proto::{
    control::{
        AirPhase, AirStatus, OpenRequest, PrepareReply, PrepareRequest, StatusReply, StatusRequest,
        StopRequest,
    },
    ids::{CampaignId, Tsi},
    time::{Mono, Now, Utc},
    trust::Campaign,
    tune_in::Window,
};
use thiserror::Error;

use crate::{
    control::{
        plan_check::PlanCheck,
        resume_point::{DesiredState, ResumePoint, SavedSession, SavedState},
    },
    flute::{pacing::Rate, session::Sent},
    window::{Position, position},
};

/// The interval at which the resume point of a session on air is saved.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);

/// The pause after a failure before a session is put on air again.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Sessions at most.
pub const MAX_SESSIONS: usize = 256;

/// The refusal of an operation; the text names the field.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// A field is malformed.
    #[error("{0}")]
    Malformed(String),
    /// The campaign or session does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The operation contradicts an earlier one.
    #[error("{0}")]
    Conflict(String),
    /// The signed campaign does not allow it.
    #[error("{0}")]
    Policy(String),
}

/// The defaults of sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defaults {
    /// Source address of packets.
    pub source: IpAddr,
    /// Rate.
    pub rate: Rate,
}

/// A campaign whose package the image server holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AirablePackage {
    /// The campaign, verified by the shell.
    pub campaign: Campaign,
    /// Data symbols of one pass.
    pub plan_symbols: u64,
    /// UDP payload octets of one pass.
    pub pass_bytes: u64,
    /// Comparison of its plans with the campaign.
    pub check: PlanCheck,
}

/// The progress of a session on air.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionProgress {
    /// The point to resume from after a restart.
    pub resume_point: ResumePoint,
    /// Index of the next data symbol.
    pub symbol_index: u64,
    /// Counters since it was put on air.
    pub sent: Sent,
    /// Runs of 64 KiB of the plan that were found changed since.
    pub damaged_runs: u64,
}

/// The parameters of a session that is put on air.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartSession {
    /// Its identifier.
    pub tsi: Tsi,
    /// Group and port.
    pub channel: SocketAddr,
    /// Rate.
    pub rate: Rate,
    /// The point to start from.
    pub resume_point: ResumePoint,
}

/// The next action of the shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Save this before anything else happens.
    Save(SavedState),
    /// Put a session on air; followed by `handle_progress` and `handle_ended`.
    Start(CampaignId, StartSession),
    /// Take a session off the air; followed by `handle_ended`.
    Stop(CampaignId),
    /// Nothing to do before this moment of the wall clock.
    Wait(Utc),
    /// Nothing to do until the next input.
    Idle,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TxState {
    Off { not_before: Mono },
    On,
    Stopping,
}

#[derive(Debug)]
struct ManagedSession {
    package: AirablePackage,
    tsi: Tsi,
    session: SavedSession,
    resume_point: ResumePoint,
    symbol_index: u64,
    tx: TxState,
    saved_at: Mono,
    earlier: Sent,
    current: Sent,
    /// Runs of the plan that were found changed since it was compared.
    damaged_runs: u64,
}

/// All sessions of an image server.
#[derive(Debug)]
pub struct Control {
    defaults: Defaults,
    sessions: BTreeMap<CampaignId, ManagedSession>,
    outputs: VecDeque<Output>,
}

impl Control {
    /// Starts without a session.
    #[must_use]
    pub const fn new(defaults: Defaults) -> Self {
        Self { defaults, sessions: BTreeMap::new(), outputs: VecDeque::new() }
    }

    /// Restores a session of an earlier run.
    pub fn restore(&mut self, package: AirablePackage, saved: SavedState) {
        let Some(session) = saved.session else { return };
        let managed = ManagedSession::new(package, saved.tsi, session, saved.resume_point);
        self.sessions.insert(saved.campaign, managed);
    }

    /// Sets group, port and window; the same campaign has the same TSI again.
    ///
    /// # Errors
    ///
    /// [`Refusal`] that names the field.
    pub fn prepare(
        &mut self,
        now: Now,
        request: &PrepareRequest,
        package: AirablePackage,
        fresh_tsi: Tsi,
        earlier: Option<SavedState>,
    ) -> Result<PrepareReply, Refusal> {
        let id = campaign_id(&request.campaign_id)?;
        if let PlanCheck::Failed(problem) = &package.check {
            return Err(Refusal::Policy(problem.clone()));
        }
        if package.campaign.id != id {
            return Err(Refusal::Policy("campaign_id is not that of the package".into()));
        }
        let channel = channel(&request.group, request.port)?;
        let window = checked_window(now, &package.campaign, request.opens_utc, request.closes_utc)?;
        if !package.campaign.admits_source(self.defaults.source) {
            let source = self.defaults.source;
            return Err(Refusal::Policy(format!("source {source} is not among the campaign's")));
        }
        let bits_per_second = match request.bits_per_second {
            0 => None,
            bits => Some(checked_rate(bits)?.bits_per_second()),
        };
        if self.sessions.len() >= MAX_SESSIONS && !self.sessions.contains_key(&id) {
            return Err(Refusal::Conflict(format!("{MAX_SESSIONS} sessions are the most")));
        }
        let known = self.sessions.get(&id).map(|managed| managed.session);
        let known = known.or_else(|| earlier.and_then(|saved| saved.session));
        let window_revision = request.window_revision;
        known.map_or(Ok(()), |known| check_revision(&known, window_revision))?;
        let Window { opens, closes } = window;
        let desired = DesiredState::Prepared;
        let session =
            SavedSession { channel, opens, closes, bits_per_second, desired, window_revision };
        let managed = self.sessions.entry(id).or_insert_with(|| {
            let saved = earlier.map(|saved| (saved.tsi, saved.resume_point));
            let (tsi, resume_point) = saved.unwrap_or((fresh_tsi, ResumePoint::START));
            ManagedSession::new(package.clone(), tsi, session, resume_point)
        });
        managed.prepare_again(now, package, session)?;
        let reply = PrepareReply {
            source: self.defaults.source.to_string(),
            tsi: u32::try_from(managed.tsi.0).unwrap_or(u32::MAX),
            group: channel.ip().to_string(),
            port: channel.port().into(),
            plan_symbols: managed.package.plan_symbols,
            bytes_per_pass: managed.package.pass_bytes,
            checking: managed.package.check != PlanCheck::Passed,
            checked_percent: managed.package.check.percent(),
        };
        self.outputs.push_back(Output::Save(managed.saved_state(id)));
        Ok(reply)
    }

    /// Puts a session on air from opens to closes, once its plans are compared.
    ///
    /// # Errors
    ///
    /// [`Refusal`] that names the field.
    pub fn open(&mut self, now: Now, request: &OpenRequest) -> Result<AirStatus, Refusal> {
        let (id, managed) = self.managed(&request.campaign_id, request.tsi)?;
        if let PlanCheck::Failed(problem) = &managed.package.check {
            return Err(Refusal::Policy(problem.clone()));
        }
        check_revision(&managed.session, request.window_revision)?;
        let (opens, closes) = (request.opens_utc, request.closes_utc);
        let window = checked_window(now, &managed.package.campaign, opens, closes)?;
        managed.session.window_revision = request.window_revision;
        managed.session.opens = window.opens;
        managed.session.closes = window.closes;
        managed.session.desired = DesiredState::Opened;
        let (saved, status) = (managed.saved_state(id), managed.status(now, id));
        self.outputs.push_back(Output::Save(saved));
        Ok(status)
    }

    /// Takes a session off the air; its resume point is saved. A window that was set after the one to
    /// end goes on: the call has come late.
    ///
    /// # Errors
    ///
    /// [`Refusal`] that names the field.
    pub fn stop(&mut self, now: Now, request: &StopRequest) -> Result<AirStatus, Refusal> {
        let (id, managed) = self.managed(&request.campaign_id, request.tsi)?;
        let ends = request.window_revision;
        if ends == 0 || ends >= managed.session.window_revision {
            managed.session.desired = DesiredState::Stopped;
            managed.session.window_revision = managed.session.window_revision.max(ends);
        }
        let (saved, status) = (managed.saved_state(id), managed.status(now, id));
        self.outputs.push_back(Output::Save(saved));
        Ok(status)
    }

    /// Returns the state of one session, or of all.
    ///
    /// # Errors
    ///
    /// [`Refusal`] when the one does not exist.
    pub fn status(&self, now: Now, request: &StatusRequest) -> Result<StatusReply, Refusal> {
        if request.campaign_id.is_empty() {
            let sessions =
                self.sessions.iter().map(|(id, managed)| managed.status(now, *id)).collect();
            return Ok(StatusReply { sessions });
        }
        let id = campaign_id(&request.campaign_id)?;
        let managed = self.sessions.get(&id).ok_or_else(|| no_session(id))?;
        Ok(StatusReply { sessions: vec![managed.status(now, id)] })
    }

    /// Updates the comparison of a campaign's plans.
    pub fn handle_check(&mut self, id: CampaignId, check: PlanCheck) {
        let Some(managed) = self.sessions.get_mut(&id) else { return };
        if check == PlanCheck::Passed && managed.package.check != PlanCheck::Passed {
            managed.damaged_runs = 0;
        }
        managed.package.check = check;
    }

    /// Updates the progress of a session on air.
    pub fn handle_progress(&mut self, now: Now, id: CampaignId, progress: SessionProgress) {
        let Some(managed) = self.sessions.get_mut(&id) else { return };
        managed.current = progress.sent;
        managed.symbol_index = progress.symbol_index;
        managed.damaged_runs = managed.damaged_runs.max(progress.damaged_runs);
        let moved = managed.resume_point != progress.resume_point;
        managed.resume_point = progress.resume_point;
        if moved && now.mono.since(managed.saved_at) >= SAVE_INTERVAL {
            managed.saved_at = now.mono;
            self.outputs.push_back(Output::Save(managed.saved_state(id)));
        }
    }

    /// Records that a session has left the air, stopped or not.
    pub fn handle_ended(&mut self, now: Now, id: CampaignId) {
        let Some(managed) = self.sessions.get_mut(&id) else { return };
        let asked = managed.tx == TxState::Stopping;
        let pause = if asked { Duration::ZERO } else { RETRY_AFTER };
        managed.tx = TxState::Off { not_before: now.mono + pause };
        managed.earlier.packets += managed.current.packets;
        managed.earlier.octets += managed.current.octets;
        managed.earlier.symbols += managed.current.symbols;
        managed.current = Sent::default();
        self.outputs.push_back(Output::Save(managed.saved_state(id)));
    }

    /// Returns the next action.
    pub fn poll_output(&mut self, now: Now) -> Output {
        if let Some(output) = self.outputs.pop_front() {
            return output;
        }
        let rate = self.defaults.rate;
        for (id, managed) in &mut self.sessions {
            if let Some(output) = managed.act(now, *id, rate) {
                return output;
            }
        }
        let next = self.sessions.values().filter_map(|managed| managed.next_change(now)).min();
        next.map_or(Output::Idle, Output::Wait)
    }

    fn managed(
        &mut self,
        id: &[u8],
        tsi: u32,
    ) -> Result<(CampaignId, &mut ManagedSession), Refusal> {
        let id = campaign_id(id)?;
        let managed = self.sessions.get_mut(&id).ok_or_else(|| no_session(id))?;
        if managed.tsi.0 != u64::from(tsi) {
            let known = managed.tsi.0;
            return Err(Refusal::Conflict(format!("tsi is {tsi}, prepared was {known}")));
        }
        Ok((id, managed))
    }
}

impl ManagedSession {
    fn new(
        package: AirablePackage,
        tsi: Tsi,
        session: SavedSession,
        resume_point: ResumePoint,
    ) -> Self {
        Self {
            package,
            tsi,
            session,
            resume_point,
            symbol_index: 0,
            tx: TxState::Off { not_before: Mono(0) },
            saved_at: Mono(0),
            earlier: Sent::default(),
            current: Sent::default(),
            damaged_runs: 0,
        }
    }

    fn window(&self) -> Window {
        Window { opens: self.session.opens, closes: self.session.closes }
    }

    /// Updates window and channel of a session that may be open already.
    fn prepare_again(
        &mut self,
        now: Now,
        package: AirablePackage,
        wanted: SavedSession,
    ) -> Result<(), Refusal> {
        let is_off = matches!(self.tx, TxState::Off { .. });
        if !is_off && self.session.channel != wanted.channel {
            let channel = self.session.channel;
            return Err(Refusal::Conflict(format!("group and port: on air at {channel}")));
        }
        let passed = position(now.utc, self.window()) == Position::Passed;
        let desired = match self.session.desired {
            // An open window moves and stays open; one that has passed is prepared anew.
            DesiredState::Opened if !passed => DesiredState::Opened,
            DesiredState::Opened | DesiredState::Prepared | DesiredState::Stopped => {
                DesiredState::Prepared
            }
        };
        self.session = SavedSession { desired, ..wanted };
        self.package = package;
        Ok(())
    }

    fn saved_state(&self, campaign: CampaignId) -> SavedState {
        let resume_point = match self.tx {
            TxState::Off { .. } => self.resume_point,
            TxState::On | TxState::Stopping => self.resume_point.with_reserve(),
        };
        let session = Some(self.session);
        SavedState { version: SavedState::VERSION, campaign, tsi: self.tsi, resume_point, session }
    }

    fn is_wanted(&self, now: Now) -> bool {
        self.session.desired == DesiredState::Opened
            && position(now.utc, self.window()) == Position::Open
    }

    fn act(&mut self, now: Now, id: CampaignId, default: Rate) -> Option<Output> {
        let wanted = self.is_wanted(now);
        match self.tx {
            TxState::Off { not_before }
                if wanted && self.package.check == PlanCheck::Passed && now.mono >= not_before =>
            {
                self.tx = TxState::On;
                self.saved_at = now.mono;
                let rate = self.session.bits_per_second.and_then(Rate::new).unwrap_or(default);
                let (tsi, channel, resume_point) =
                    (self.tsi, self.session.channel, self.resume_point);
                Some(Output::Start(id, StartSession { tsi, channel, rate, resume_point }))
            }
            TxState::On if !wanted => {
                self.tx = TxState::Stopping;
                Some(Output::Stop(id))
            }
            TxState::Off { .. } | TxState::On | TxState::Stopping => None,
        }
    }

    /// Returns the next moment at which the window requires an action.
    fn next_change(&self, now: Now) -> Option<Utc> {
        if self.session.desired != DesiredState::Opened {
            return None;
        }
        match position(now.utc, self.window()) {
            Position::Ahead => Some(self.session.opens),
            Position::Open => match self.tx {
                // The end of the comparison is the next input.
                TxState::Off { .. } if self.package.check != PlanCheck::Passed => None,
                TxState::Off { not_before } => Some(now.utc + not_before.since(now.mono)),
                TxState::On | TxState::Stopping => Some(self.session.closes),
            },
            Position::Passed => None,
        }
    }

    fn status(&self, now: Now, id: CampaignId) -> AirStatus {
        let is_over = position(now.utc, self.window()) == Position::Passed;
        let is_kept_off = self.tx != TxState::On && !is_over;
        let phase = match (self.session.desired, self.tx) {
            (DesiredState::Prepared | DesiredState::Opened, _) if is_kept_off => {
                match self.package.check {
                    PlanCheck::Pending(_) => AirPhase::Checking,
                    PlanCheck::Failed(_) => AirPhase::Damaged,
                    PlanCheck::Passed if self.session.desired == DesiredState::Prepared => {
                        AirPhase::Prepared
                    }
                    PlanCheck::Passed => AirPhase::Waiting,
                }
            }
            (_, TxState::On) => AirPhase::OnAir,
            (DesiredState::Prepared, _) => AirPhase::Prepared,
            (DesiredState::Stopped, _) => AirPhase::Stopped,
            (DesiredState::Opened, _) => match position(now.utc, self.window()) {
                Position::Ahead | Position::Open => AirPhase::Waiting,
                Position::Passed => AirPhase::Closed,
            },
        };
        AirStatus {
            campaign_id: id.0.to_vec(),
            tsi: u32::try_from(self.tsi.0).unwrap_or(u32::MAX),
            phase: phase.into(),
            place: self.symbol_index,
            passes: self.resume_point.passes,
            packets_sent: self.earlier.packets + self.current.packets,
            bytes_sent: self.earlier.octets + self.current.octets,
            checked_percent: self.package.check.percent(),
            damaged_runs: self.damaged_runs,
            problem: self.problem(),
            window_revision: self.session.window_revision,
        }
    }

    /// Returns the problem that a person has to solve, or nothing.
    fn problem(&self) -> String {
        match (&self.package.check, self.damaged_runs) {
            (PlanCheck::Failed(problem), _) => problem.clone(),
            (PlanCheck::Pending(_) | PlanCheck::Passed, 0) => String::new(),
            (PlanCheck::Pending(_) | PlanCheck::Passed, runs) => format!(
                "{runs} runs of 64 KiB of the plan have changed since it was compared with the \
                 campaign; devices reject their symbols: copy the package again"
            ),
        }
    }
}

fn no_session(id: CampaignId) -> Refusal {
    Refusal::NotFound(format!("campaign_id {id}: no session is prepared"))
}

/// Reads a campaign id.
///
/// # Errors
///
/// [`Refusal::Malformed`] for another length than 16 octets.
pub fn campaign_id(octets: &[u8]) -> Result<CampaignId, Refusal> {
    let wrong = |_| Refusal::Malformed(format!("campaign_id has {} octets, not 16", octets.len()));
    octets.try_into().map(CampaignId).map_err(wrong)
}

fn channel(group: &str, port: u32) -> Result<SocketAddr, Refusal> {
    let address: IpAddr =
        group.parse().map_err(|_| Refusal::Malformed(format!("group {group:?} is no address")))?;
    if !address.is_multicast() {
        return Err(Refusal::Malformed(format!("group {address} is no multicast address")));
    }
    if address.is_ipv6() {
        return Err(Refusal::Malformed(format!("group {address}: IPv6 is not supported")));
    }
    let port = u16::try_from(port).ok().filter(|port| *port > 0);
    let port = port.ok_or_else(|| Refusal::Malformed("port is not 1 to 65535".into()))?;
    Ok(SocketAddr::new(address, port))
}

/// Refuses a call for a window that a later one has replaced, or that was stopped: it has come late,
/// and whoever made it has had another answer meanwhile.
fn check_revision(known: &SavedSession, asked: u32) -> Result<(), Refusal> {
    let latest = known.window_revision;
    let reason = match asked {
        0 => return Ok(()),
        _ if asked < latest => format!("older than {latest}"),
        _ if asked == latest && known.desired == DesiredState::Stopped => "stopped".to_owned(),
        _ => return Ok(()),
    };
    Err(Refusal::Conflict(format!("window_revision {asked} is {reason}: set the window again")))
}

fn checked_rate(bits: u64) -> Result<Rate, Refusal> {
    let wrong =
        || Refusal::Malformed(format!("bits_per_second is {bits}, not 64000 to 1000000000"));
    Rate::new(bits).ok_or_else(wrong)
}

fn checked_window(
    now: Now,
    campaign: &Campaign,
    opens: u64,
    closes: u64,
) -> Result<Window, Refusal> {
    let window = Window { opens: Utc::from_seconds(opens), closes: Utc::from_seconds(closes) };
    if position(now.utc, window) == Position::Passed {
        return Err(Refusal::Policy(format!("closes_utc lies in the past: {}", window.closes)));
    }
    campaign
        .check_window(window.opens, window.closes)
        .map_err(|error| Refusal::Policy(format!("window: {error}")))?;
    Ok(window)
}

#[cfg(test)]
mod tests;
