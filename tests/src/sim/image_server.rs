//! An image server: the real control and sender cores, with the real pacing.

use std::collections::BTreeMap;

use carousel::{
    control::manager::{
        AirablePackage, Control, Defaults, Output, Refusal, SessionProgress, campaign_id,
    },
    control::plan_check::PlanCheck,
    control::resume_point::{DesiredState, SavedState},
    flute::pacing::{Pacer, Rate},
    flute::session::{FluteSession, SessionSetup, Transmit},
};
use proto::{
    control::{
        AirPhase, AirStatus, OpenRequest, PrepareReply, PrepareRequest, StatusRequest, StopRequest,
    },
    flute::alc::Packet,
    ids::{CampaignId, Toi, Tsi},
    time::{Mono, Now, Utc},
};

use super::{
    fault::{At, Effect},
    injected_bugs::InjectedBug,
    package::{BEGIN, Package, PlanFile, SOURCES},
    queue::Datagram,
};

/// Key of a sent FDT symbol: TSI, instance id and symbol.
type FdtKey = (Tsi, u32, u32);

/// An image server.
#[derive(Debug)]
pub struct ImageServer {
    number: usize,
    package: &'static Package,
    bug: Option<InjectedBug>,
    control: Option<Control>,
    /// Durable state, by campaign.
    kept: BTreeMap<CampaignId, SavedState>,
    on_air: BTreeMap<CampaignId, OnAir>,
    lives: u64,
    /// Set while calls are not answered.
    hang: Option<Effect>,
    /// Set while calls that open a session are not answered.
    opens_hang: bool,
    /// Calls that have their effect later.
    waiting: Vec<Call>,
    /// Time from which it runs and answers.
    answers_from: At,
    instances: BTreeMap<FdtKey, Vec<u8>>,
    breaches: Vec<String>,
}

#[derive(Debug)]
struct OnAir {
    session: FluteSession,
    pacer: Pacer,
    channel: std::net::SocketAddr,
    observed: At,
}

/// A call of the management server.
#[derive(Debug, Clone)]
pub enum Call {
    /// Prepares a session, of this TSI if it is a new one.
    Prepare(PrepareRequest, Tsi),
    /// Opens a window.
    Open(OpenRequest),
    /// Stops a session.
    Stop(StopRequest),
}

/// Failure of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallFailure {
    /// It was refused, or nobody is there.
    Refused(String),
    /// There is no such session.
    NotFound(String),
    /// There is another one, or another window.
    Conflict(String),
    /// There is no answer until the caller gives up.
    Hangs,
}

impl From<Refusal> for CallFailure {
    fn from(refusal: Refusal) -> Self {
        let text = refusal.to_string();
        match refusal {
            Refusal::Malformed(_) | Refusal::Policy(_) => Self::Refused(text),
            Refusal::NotFound(_) => Self::NotFound(text),
            Refusal::Conflict(_) => Self::Conflict(text),
        }
    }
}

fn unreachable() -> CallFailure {
    CallFailure::Refused("the image server is not reached".to_owned())
}

/// Next timers of an image server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Timers {
    /// Next poll of the control core.
    pub poll: Option<At>,
    /// Next packet of each campaign.
    pub send: Vec<(CampaignId, At)>,
}

fn now(at: At) -> Now {
    Now { mono: Mono((at.0 + 5_000) * 1_000_000), utc: Utc(BEGIN.0 + at.0) }
}

fn at(mono: Mono) -> At {
    At(mono.0.div_ceil(1_000_000).saturating_sub(5_000))
}

impl ImageServer {
    /// Makes an image server that holds the package and runs.
    pub fn new(number: usize, package: &'static Package, bug: Option<InjectedBug>) -> Self {
        let mut server = Self {
            number,
            package,
            bug,
            control: None,
            kept: BTreeMap::new(),
            on_air: BTreeMap::new(),
            lives: 0,
            hang: None,
            opens_hang: false,
            waiting: Vec::new(),
            answers_from: At(0),
            instances: BTreeMap::new(),
            breaches: Vec::new(),
        };
        server.start(At(0));
        server
    }

    /// Returns whether a life is the current one.
    pub const fn lives(&self, life: u64) -> bool {
        self.control.is_some() && self.lives == life
    }

    /// Returns the number of this life.
    pub const fn life(&self) -> u64 {
        self.lives
    }

    /// Returns the breaches since the last call.
    pub fn take_breaches(&mut self) -> Vec<String> {
        std::mem::take(&mut self.breaches)
    }

    fn offer(&self, id: CampaignId) -> Option<AirablePackage> {
        Some(AirablePackage {
            campaign: self.package.issue(id)?.terms.clone(),
            plan_symbols: self.package.aired.schedule.shape().leaves(),
            pass_bytes: self.package.aired.schedule.pass_bytes(),
            check: PlanCheck::Passed,
        })
    }

    /// Starts, and restores the session of an earlier life.
    pub fn start(&mut self, at: At) {
        let mut control = self.without_sessions();
        for (id, kept) in &self.kept {
            if let Some(offer) = self.offer(*id) {
                control.restore(offer, *kept);
            }
        }
        self.begin_life(at, control);
    }

    /// Starts without the sessions of earlier lives; every other time their state is lost with them.
    pub fn start_without_sessions(&mut self, at: At) {
        // Devices learn of a further TSI only when their first one changes.
        if self.number == 0 && at.0.is_multiple_of(2) {
            self.kept.clear();
        }
        let control = self.without_sessions();
        self.begin_life(at, control);
    }

    fn without_sessions(&self) -> Control {
        let source = SOURCES.get(self.number).copied().expect("there are as many sources");
        let rate = Rate::new(64_000).expect("the slowest rate");
        Control::new(Defaults { source, rate })
    }

    fn begin_life(&mut self, at: At, control: Control) {
        self.control = Some(control);
        self.lives += 1;
        self.answers_from = at;
    }

    /// Ends at once; what was kept stays.
    pub fn end(&mut self) {
        self.control = None;
        self.waiting.clear();
        self.on_air.clear();
        self.lives += 1;
    }

    /// Begins or ends a time in which calls are not answered.
    pub fn set_hang(&mut self, at: At, hang: Option<Effect>) {
        self.hang = hang;
        if hang.is_none() {
            self.end_hang(at);
        }
    }

    /// Begins or ends a time in which calls that open a session are not answered.
    pub fn set_opens_hang(&mut self, at: At, opens_hang: bool) {
        self.opens_hang = opens_hang;
        if !opens_hang {
            self.end_hang(at);
        }
    }

    fn end_hang(&mut self, at: At) {
        self.answers_from = at;
        for call in std::mem::take(&mut self.waiting) {
            // The caller has given up: nobody receives the reply.
            self.execute(at, &call).ok();
        }
    }

    /// Returns the time from which it runs and answers, if it does.
    pub fn answers_from(&self) -> Option<At> {
        let answers = self.control.is_some() && self.hang.is_none() && !self.opens_hang;
        answers.then_some(self.answers_from)
    }

    /// Returns whether a campaign has a session that is open.
    pub fn has_open_session(&self, at: At, id: CampaignId) -> bool {
        let shown = self.shown(at, id).ok().flatten();
        let is_open =
            |phase| matches!(phase, AirPhase::Waiting | AirPhase::OnAir | AirPhase::Checking);
        shown.is_some_and(|session| is_open(session.phase()))
    }

    /// Returns the session of a campaign, if there is one.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub fn status(&self, at: At, id: CampaignId) -> Result<Option<AirStatus>, CallFailure> {
        match self.hang.filter(|_| self.control.is_some()) {
            Some(_) => Err(CallFailure::Hangs),
            None => self.shown(at, id),
        }
    }

    fn shown(&self, at: At, id: CampaignId) -> Result<Option<AirStatus>, CallFailure> {
        let control = self.control.as_ref().ok_or_else(unreachable)?;
        let request = StatusRequest { campaign_id: id.0.to_vec() };
        match control.status(now(at), &request).map_err(CallFailure::from) {
            Ok(reply) => Ok(reply.sessions.into_iter().next()),
            Err(CallFailure::NotFound(_)) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Answers a call: the reply to `prepare`, nothing to the others.
    ///
    /// # Errors
    ///
    /// When the core refuses, with its reason; when there is no answer.
    pub fn call(&mut self, at: At, call: &Call) -> Result<Option<PrepareReply>, CallFailure> {
        let hang = match call {
            Call::Open(_) if self.opens_hang => Some(Effect::Later),
            Call::Open(_) | Call::Prepare(..) | Call::Stop(_) => self.hang,
        };
        match hang.filter(|_| self.control.is_some()) {
            None => return self.execute(at, call),
            Some(Effect::AtOnce) => drop(self.execute(at, call)),
            Some(Effect::Later) => self.waiting.push(call.clone()),
            Some(Effect::Never) => {}
        }
        Err(CallFailure::Hangs)
    }

    fn execute(&mut self, at: At, call: &Call) -> Result<Option<PrepareReply>, CallFailure> {
        let counts = self.bug != Some(InjectedBug::IgnoreWindowNumbers);
        let counted = |window_revision| if counts { window_revision } else { 0 };
        match call {
            Call::Prepare(request, fresh) => {
                let window_revision = counted(request.window_revision);
                let request = PrepareRequest { window_revision, ..request.clone() };
                let id = campaign_id(&request.campaign_id)?;
                let missing = || CallFailure::NotFound("there is no such package".to_owned());
                let offer = self.offer(id).ok_or_else(missing)?;
                let kept = self.kept.get(&id).copied();
                let reply = self.control()?.prepare(now(at), &request, offer, *fresh, kept);
                Ok(Some(reply?))
            }
            Call::Open(request) => {
                let window_revision = counted(request.window_revision);
                let request = OpenRequest { window_revision, ..request.clone() };
                self.control()?.open(now(at), &request)?;
                Ok(None)
            }
            Call::Stop(request) => {
                let window_revision = counted(request.window_revision);
                let request = StopRequest { window_revision, ..request.clone() };
                let stopped = self.control()?.stop(now(at), &request);
                if let Err(Refusal::NotFound(_)) = stopped {
                    self.stop_kept(campaign_id(&request.campaign_id)?);
                }
                stopped?;
                Ok(None)
            }
        }
    }

    /// Keeps that a session is stopped which is not restored.
    fn stop_kept(&mut self, id: CampaignId) {
        if let Some(session) = self.kept.get_mut(&id).and_then(|kept| kept.session.as_mut()) {
            session.desired = DesiredState::Stopped;
        }
    }

    fn control(&mut self) -> Result<&mut Control, CallFailure> {
        self.control.as_mut().ok_or_else(unreachable)
    }

    /// Runs the control core at this moment.
    pub fn poll(&mut self, at: At) -> Timers {
        let mut timers = Timers::default();
        while let Some(control) = &mut self.control {
            match control.poll_output(now(at)) {
                Output::Save(kept)
                    if self.bug == Some(InjectedBug::ReuseInstances)
                        && self.on_air.contains_key(&kept.campaign) => {}
                Output::Save(kept) => drop(self.kept.insert(kept.campaign, kept)),
                Output::Start(id, start) => {
                    // The ids of FDT instances that this life will use are given up first.
                    if let Some(kept) = self.kept.get_mut(&id)
                        && self.bug != Some(InjectedBug::ReuseInstances)
                    {
                        kept.resume_point = start.resume_point.with_reserve();
                    }
                    let setup = SessionSetup {
                        tsi: start.tsi,
                        campaign: id,
                        objects: vec![self.package.aired.clone()],
                        resume_point: start.resume_point,
                        passes: None,
                    };
                    let on_air = OnAir {
                        session: FluteSession::new(now(at), setup),
                        pacer: Pacer::new(now(at).mono, start.rate),
                        channel: start.channel,
                        observed: at,
                    };
                    self.on_air.insert(id, on_air);
                    timers.send.push((id, at));
                }
                Output::Stop(id) => match self.on_air.get_mut(&id) {
                    Some(on_air) => on_air.session.close(),
                    None => control.handle_ended(now(at), id),
                },
                Output::Wait(until) => {
                    timers.poll = Some(At(until.0.saturating_sub(BEGIN.0).max(at.0 + 1)));
                    break;
                }
                Output::Idle => break,
            }
        }
        timers
    }

    /// Sends the next packet of a campaign.
    pub fn transmit(&mut self, moment: At, id: CampaignId) -> (Option<Datagram>, Timers) {
        let (Some(on_air), Some(control)) = (self.on_air.get_mut(&id), &mut self.control) else {
            return (None, Timers::default());
        };
        let now = now(moment);
        let mut octets = Vec::new();
        let made = on_air.session.poll_transmit(now, &mut PlanFile(self.package), &mut octets);
        let live = SessionProgress {
            resume_point: on_air.session.resume_point(),
            symbol_index: on_air.session.symbol_index(),
            sent: on_air.session.sent(),
            damaged_runs: 0,
        };
        match made {
            Ok(Transmit::Packet) => {
                on_air.pacer.sent(now.mono, octets.len());
                let send = at(on_air.pacer.ready_at()).max(At(moment.0 + 1));
                let mut timers = Timers { poll: None, send: vec![(id, send)] };
                let datagram = Datagram { channel: on_air.channel, source: self.number, octets };
                if moment.0 >= on_air.observed.0 + 100 {
                    on_air.observed = moment;
                    control.handle_progress(now, id, live);
                    timers.poll = Some(moment);
                }
                self.check_instance(&datagram.octets);
                (Some(datagram), timers)
            }
            // A session that airs a plan has always something to send.
            Ok(Transmit::Wait(until)) => {
                let send = at(until).max(At(moment.0 + 1));
                (None, Timers { poll: None, send: vec![(id, send)] })
            }
            Ok(Transmit::Closed) | Err(_) => {
                control.handle_progress(now, id, live);
                control.handle_ended(now, id);
                self.on_air.remove(&id);
                (None, Timers { poll: Some(moment), send: Vec::new() })
            }
        }
    }

    /// An FDT Instance ID names one content, over all lives of the session.
    fn check_instance(&mut self, octets: &[u8]) {
        let Ok(packet) = Packet::parse(octets) else {
            self.breaches.push("a packet is sent that is none".to_owned());
            return;
        };
        if packet.header.toi != Some(Toi::FDT) {
            return;
        }
        let (Some(fdt), Some(payload)) = (packet.extensions.fdt(), packet.payload) else { return };
        let key = (packet.header.tsi, fdt.instance_id, payload.id.esi.0);
        let held = self.instances.entry(key).or_insert_with(|| payload.symbols.to_vec());
        if held != payload.symbols {
            let id = fdt.instance_id;
            self.breaches.push(format!("FDT instance {id} is sent with two contents"));
        }
    }
}
