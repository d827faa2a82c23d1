//! An image server: the real control and sender cores, with the real pacing.

use std::collections::BTreeMap;

use carousel::{
    control::manager::{
        AirablePackage, Control, Defaults, Output, Refusal, SessionProgress, campaign_id,
    },
    control::plan_check::PlanCheck,
    control::resume_point::SavedState,
    flute::pacing::{Pacer, Rate},
    flute::session::{FluteSession, SessionSetup, Transmit},
};
use proto::{
    control::{OpenRequest, PrepareReply, PrepareRequest, StopRequest},
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
    /// Calls that have their effect later.
    waiting: Vec<Call>,
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
    /// There is no answer until the caller gives up.
    Hangs,
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
            waiting: Vec::new(),
            instances: BTreeMap::new(),
            breaches: Vec::new(),
        };
        server.start();
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
    pub fn start(&mut self) {
        let source = SOURCES.get(self.number).copied().expect("there are as many sources");
        let rate = Rate::new(64_000).expect("the slowest rate");
        let mut control = Control::new(Defaults { source, rate });
        for (id, kept) in &self.kept {
            if let Some(offer) = self.offer(*id) {
                control.restore(offer, *kept);
            }
        }
        self.control = Some(control);
        self.lives += 1;
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
            for call in std::mem::take(&mut self.waiting) {
                // The caller has given up: nobody receives the reply.
                self.execute(at, &call).ok();
            }
        }
    }

    /// Answers a call: the reply to `prepare`, nothing to the others.
    ///
    /// # Errors
    ///
    /// When the core refuses, with its reason; when there is no answer.
    pub fn call(&mut self, at: At, call: &Call) -> Result<Option<PrepareReply>, CallFailure> {
        match self.hang.filter(|_| self.control.is_some()) {
            None => return self.execute(at, call).map_err(CallFailure::Refused),
            Some(Effect::AtOnce) => drop(self.execute(at, call)),
            Some(Effect::Later) => self.waiting.push(call.clone()),
            Some(Effect::Never) => {}
        }
        Err(CallFailure::Hangs)
    }

    fn execute(&mut self, at: At, call: &Call) -> Result<Option<PrepareReply>, String> {
        let text = |refusal: Refusal| refusal.to_string();
        match call {
            Call::Prepare(request, fresh) => {
                let id = campaign_id(&request.campaign_id).map_err(text)?;
                let offer = self.offer(id).ok_or("there is no such package")?;
                let kept = self.kept.get(&id).copied();
                let reply = self.control()?.prepare(now(at), request, offer, *fresh, kept);
                reply.map(Some).map_err(text)
            }
            Call::Open(request) => {
                self.control()?.open(now(at), request).map_err(text)?;
                Ok(None)
            }
            Call::Stop(request) => {
                self.control()?.stop(now(at), request).map_err(text)?;
                Ok(None)
            }
        }
    }

    fn control(&mut self) -> Result<&mut Control, String> {
        self.control.as_mut().ok_or_else(|| "the image server is not reached".to_owned())
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
