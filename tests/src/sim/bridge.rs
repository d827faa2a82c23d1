//! The management server: the real engine and operations on the fleet in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    net::IpAddr,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use dm_bridge::{
    app::{
        AppError, PlainHttp,
        campaigns::{self, Order, Selection},
        devices::{self, Enrolment, FreshSecrets},
        exchange::{Answer, Conversation, Heard, Spoken},
        progress,
    },
    campaign::{
        admission::Documents,
        model::{CampaignState, Place, Window},
        rollout::{Policy, Rollout, Step},
    },
    engine::Limits,
    fleet::{
        arming::{Arming, ArmingPhase},
        audit::{Actor, Audit},
        memory::MemoryStore,
        store::FleetStore as _,
    },
};
use proto::{
    control::{OpenRequest, PrepareRequest, StopRequest},
    dm::{
        nodes::{broadcast, fumo},
        syncml::{self, Command, CommandId, Item, Manage},
        xml,
    },
    ids::{Correlator, DeviceId, Tsi},
    time::Utc,
    tune_in::TuneIn,
};
use receiver::dm::client::Failure;

use super::{
    device::Device,
    fault::At,
    package::{BEGIN, COMPONENT, Package, SOURCES, VERSION},
    plant::Plant,
    station::Station,
};
use crate::lab::chance::Chance;

/// Where devices reach it.
pub const URL: &str = "http://127.0.0.1/dm";
/// The nonce that every device is enrolled with.
pub const NONCE: [u8; 16] = [3; 16];
/// The channel.
pub const GROUP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(232, 1, 2, 3));
/// Its port.
pub const PORT: u16 = 3400;

/// Returns the password that a device was enrolled with.
pub fn password(number: usize) -> String {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    BASE64_STANDARD.encode(secret(number))
}

fn secret(number: usize) -> [u8; 32] {
    [u8::try_from(number).unwrap_or_default().wrapping_add(40); 32]
}

/// How the management server is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setup {
    /// Span of the reports.
    ///
    /// # Units
    ///
    /// Seconds.
    pub report_spread: u32,
    /// Whether arming brings the plan header.
    pub hands_plan_header_out: bool,
}

/// The management server.
#[derive(Debug)]
pub struct Bridge {
    package: &'static Package,
    store: MemoryStore,
    conversations: BTreeMap<DeviceId, Conversation>,
    chance: Chance,
    plant: Plant,
    policy: Policy,
    /// What was heard of each device, to be heard again.
    recorded: Vec<(usize, super::queue::Message)>,
    /// The result of each attempt: it never changes.
    results: BTreeMap<Correlator, u16>,
    /// The window that further image servers are open in, and their sessions.
    further: Vec<(TuneIn, Window)>,
    breaches: Vec<String>,
}

/// Runs what never waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("a fleet in memory answers at once"),
    }
}

fn utc(at: At) -> Utc {
    Utc(BEGIN.0 + at.0)
}

impl Bridge {
    /// Enrols the devices and creates the campaign for those in it.
    ///
    /// # Errors
    ///
    /// When the documents of the package make no campaign.
    pub fn new(
        seed: u64,
        setup: Setup,
        package: &'static Package,
        devices: &[Device],
        plant: Plant,
    ) -> anyhow::Result<Self> {
        let store = MemoryStore::default();
        let mut chance = Chance::new(seed, "bridge");
        for device in devices {
            let enrolment = Enrolment {
                id: Device::id(device.number),
                manufacturer: "Sim".to_owned(),
                model: "One".to_owned(),
                vendor: super::package::VENDOR,
                class: super::package::CLASS,
                url: URL.to_owned(),
                encoding: proto::dm::encoding::Encoding::Xml,
                auth: proto::dm::auth::AuthKind::Md5,
            };
            let secrets = FreshSecrets {
                password: secret(device.number),
                nonce: NONCE,
                server_password: [0; 32],
                server_nonce: NONCE,
            };
            now(devices::enrol(&store, BEGIN, enrolment, secrets))?;
        }
        let addressed = devices.iter().filter(|device| device.is_addressed());
        let header = (COMPONENT, package.aired.plan_header.clone());
        let order = Order {
            documents: Documents {
                roots: vec![package.root.clone()],
                manifest: package.manifest.clone(),
                campaign: package.campaign.clone(),
                plan_headers: setup.hands_plan_header_out.then_some(header).into_iter().collect(),
            },
            place: Place {
                carousel_url: "http://127.0.0.1:1".to_owned(),
                token_file: String::new(),
                group: GROUP,
                port: PORT,
            },
            plain_http: PlainHttp::LoopbackOnly,
            selection: Selection::Named(addressed.map(|it| Device::id(it.number)).collect()),
            report_spread_seconds: Some(setup.report_spread),
        };
        now(campaigns::create(&store, BEGIN, order, &mut draw(&mut chance)))?;
        Ok(Self {
            package,
            store,
            conversations: BTreeMap::new(),
            chance,
            plant,
            policy: Policy { silence: Duration::from_secs(6 * 3600) },
            recorded: Vec::new(),
            results: BTreeMap::new(),
            further: Vec::new(),
            breaches: Vec::new(),
        })
    }

    /// Forgets what only lives in the process.
    pub fn restart(&mut self) {
        self.conversations.clear();
    }

    /// Takes what turned out not to be true since the last time.
    pub fn take_breaches(&mut self) -> Vec<String> {
        std::mem::take(&mut self.breaches)
    }

    /// Opens a window; does nothing when nobody needs one.
    pub fn open_window(&mut self, at: At, opens: At, closes: At) -> Result<(), AppError> {
        let window = (whole(utc(opens)), whole(utc(closes)));
        let id = self.package.terms.id;
        let chance = &mut draw(&mut self.chance);
        now(campaigns::start(&self.store, utc(at), id, window, chance)).map(drop)
    }

    /// Answers a DM message.
    pub fn handle(&mut self, at: At, message: &super::queue::Message) -> Result<Vec<u8>, Failure> {
        let limits = Limits::default();
        let refused = |status| Failure::Http { status, retry_after: None };
        let heard = xml::parse(&message.body, &xml::Limits::default()).map_err(|_| refused(400))?;
        let id: DeviceId = heard.header.source.uri.parse().map_err(|_| refused(400))?;
        let token = message.url.split_once("?s=").map(|(_, token)| token);
        let conversation = self.conversations.entry(id.clone()).or_default();
        let answer = now(conversation.answer(
            &self.store,
            (utc(at), limits),
            &id,
            Heard { octets: &message.body, message: &heard, token, mac: None },
            &mut draw(&mut self.chance),
        ));
        self.count_twice(at, &id);
        self.check(&id);
        match answer.map_err(|_| refused(503))? {
            Answer::Answered(Spoken { octets: reply, .. })
            | Answer::Repeated(Spoken { octets: reply, .. })
            | Answer::Challenged(reply)
            | Answer::Unknown(reply) => Ok(self.add_sessions(&reply).unwrap_or(reply)),
            Answer::Locked(wait) => Err(Failure::Http { status: 503, retry_after: Some(wait) }),
        }
    }

    /// The desk names the further image servers beside the one that arming knows.
    fn add_sessions(&self, reply: &[u8]) -> Option<Vec<u8>> {
        let mut message = xml::parse(reply, &xml::Limits::default()).ok()?;
        let node = format!("/{}", fumo::DOWNLOAD_AND_UPDATE_URL);
        let writes_url = message.commands.iter().any(|command| {
            let Command::Replace(replace) = command else { return false };
            replace.items.iter().filter_map(Item::target_uri).any(|uri| uri.ends_with(&node))
        });
        if !writes_url || self.further.is_empty() {
            return None;
        }
        let lines = self.further.iter().map(|(tune_in, window)| {
            format!("{tune_in} {} {}", window.opens.seconds(), window.closes.seconds())
        });
        let path = format!("./FwUpdate/Main/{}", broadcast::SESSIONS);
        let item = Item::text(path, lines.collect::<Vec<_>>().join("\n"));
        let number = message.commands.len() + 50;
        let id = CommandId(u32::try_from(number).ok()?);
        // Beside the other writes, in front of the one that is last.
        let at = message.commands.len().saturating_sub(1);
        message.commands.insert(at, Command::Replace(Manage::new(id, vec![item])));
        Some(xml::emit(&syncml::Message { ..message }))
    }

    /// Keeps a message, to be heard again.
    pub fn record(&mut self, device: usize, message: &super::queue::Message) {
        if self.recorded.len() < 64 {
            self.recorded.push((device, message.clone()));
        }
    }

    /// Somebody sends what was recorded again; answers go to that somebody.
    pub fn replay(&mut self, at: At, device: usize) {
        let ours = self.recorded.iter().filter(|(whose, _)| *whose == device);
        let messages: Vec<_> = ours.map(|(_, message)| message.clone()).collect();
        for message in messages {
            // Whatever is answered, nothing may come of it: the checks look at the store.
            self.handle(at, &message).ok();
        }
    }

    /// Returns all attempts for a device.
    pub fn attempts(&self, id: &DeviceId) -> Vec<Arming> {
        now(self.store.device_armings(id)).unwrap_or_default()
    }

    /// A result is set once, and a device succeeds once.
    fn check(&mut self, id: &DeviceId) {
        let attempts = self.attempts(id);
        let name = id.as_str();
        let mut successes = 0;
        for row in &attempts {
            let Some(found) = row.result_code else { continue };
            let first = *self.results.entry(row.correlator.clone()).or_insert(found);
            if first != found {
                let text = format!("{name}: the result {first} of an attempt became {found}");
                self.breaches.push(text);
            }
            successes += u32::from((200..=249).contains(&found));
        }
        if successes > 1 {
            self.breaches.push(format!("{name}: {successes} attempts have succeeded"));
        }
        let distinct: BTreeSet<_> = attempts.iter().map(|row| &row.correlator).collect();
        if distinct.len() != attempts.len() {
            self.breaches.push(format!("{name}: two attempts share a correlator"));
        }
    }

    fn count_twice(&mut self, at: At, id: &DeviceId) {
        if self.plant != Plant::CountTwice {
            return;
        }
        let attempts = self.attempts(id);
        if let [row] = attempts.as_slice()
            && row.result_code == Some(200)
        {
            let again = Correlator(format!("{}-again", row.correlator.0));
            let twice =
                Arming { attempt: row.attempt + 1, version: 0, correlator: again, ..row.clone() };
            let audit = Audit {
                actor: Actor::Device,
                action: "planted",
                subject: String::new(),
                detail: String::new(),
            };
            now(self.store.apply(utc(at), audit, vec![twice.into()])).ok();
        }
    }

    /// Returns what the bridge says of a device: success, and the phase.
    pub fn verdict(&self, id: &DeviceId) -> Option<ArmingPhase> {
        self.attempts(id).last().map(|row| row.phase)
    }

    /// Does what is due; returns when to look again.
    pub fn reconcile(&mut self, at: At, stations: &mut [Station]) -> Option<At> {
        let soon = Some(At(at.0 + 1_000));
        for _ in 0..8 {
            let plan = now(progress::plan(&self.store, &self.policy, utc(at)));
            let Ok(Rollout { steps, next }) = plan else { return soon };
            if steps.is_empty() {
                return next.map(|next| At(next.0.saturating_sub(BEGIN.0).max(at.0 + 1)));
            }
            for step in steps {
                if let Err(problem) = self.take(at, step, stations) {
                    let text = problem.to_string();
                    let id = self.package.terms.id;
                    now(progress::hindered(&self.store, utc(at), id, text)).ok();
                    return soon;
                }
            }
        }
        soon
    }

    fn take(&mut self, at: At, step: Step, stations: &mut [Station]) -> Result<(), AppError> {
        match step {
            Step::Prepare(_) => self.prepare(at, stations),
            Step::Open(_) => self.open(at, stations),
            Step::Stop(_, then) => self.stop(at, then, stations),
            Step::Close(id) => now(progress::closed(&self.store, utc(at), id)),
            Step::SettlePending(id) => now(progress::settle_pending(&self.store, utc(at), id)),
            Step::SettleSilent(id) => now(progress::settle_silent(&self.store, utc(at), id)),
        }
    }

    /// Every image server is prepared for the window; arming knows the first one.
    fn prepare(&mut self, at: At, stations: &mut [Station]) -> Result<(), AppError> {
        let id = self.package.terms.id;
        let campaign = now(campaigns::find(&self.store, id))?;
        let Some(window) = campaign.window else { return Ok(()) };
        let request = PrepareRequest {
            campaign_id: id.0.to_vec(),
            group: GROUP.to_string(),
            port: PORT.into(),
            opens_utc: window.opens.seconds(),
            closes_utc: window.closes.seconds(),
            bits_per_second: 0,
        };
        self.further.clear();
        let mut first = None;
        for (number, station) in stations.iter_mut().enumerate() {
            let fresh = Tsi(1 + self.chance.below(u64::from(u32::MAX) - 1));
            let reply = station.prepare(at, &request, fresh).map_err(AppError::Network)?;
            let tsi = Tsi(reply.tsi.into());
            let source = SOURCES.get(number).copied().unwrap_or(GROUP);
            if number == 0 {
                first = Some((source, tsi));
            } else {
                let tune_in = TuneIn {
                    channel: (GROUP, PORT).into(),
                    tsi,
                    source,
                    campaign: id,
                    campaign_digest: campaign.terms.digest,
                    component: None,
                };
                self.further.push((tune_in, window));
            }
        }
        let Some(air) = first else { return Ok(()) };
        now(progress::prepared(&self.store, utc(at), id, window.revision, air))
    }

    fn open(&mut self, at: At, stations: &mut [Station]) -> Result<(), AppError> {
        let id = self.package.terms.id;
        let campaign = now(campaigns::find(&self.store, id))?;
        let Some(window) = campaign.window else { return Ok(()) };
        for station in stations {
            let request = OpenRequest {
                campaign_id: id.0.to_vec(),
                tsi: station.tsi(),
                opens_utc: window.opens.seconds(),
                closes_utc: window.closes.seconds(),
            };
            station.open(at, &request).map_err(AppError::Network)?;
        }
        now(progress::opened(&self.store, utc(at), id, window.revision))
    }

    fn stop(
        &mut self,
        at: At,
        then: CampaignState,
        stations: &mut [Station],
    ) -> Result<(), AppError> {
        let id = self.package.terms.id;
        let campaign = now(campaigns::find(&self.store, id))?;
        let on_air = campaign.window.is_some_and(|window| utc(at) < window.closes);
        if campaign.air.is_some() && on_air {
            for station in stations {
                let request = StopRequest { campaign_id: id.0.to_vec(), tsi: station.tsi() };
                station.stop(at, &request).map_err(AppError::Network)?;
            }
        }
        now(progress::stopped(&self.store, utc(at), id, then))
    }

    /// A success that is counted must be one.
    pub fn check_truth(&mut self, id: &DeviceId, firmware: &str) {
        let succeeded = self.attempts(id).iter().any(|row| row.result_code == Some(200));
        if succeeded && firmware != VERSION {
            let name = id.as_str();
            self.breaches.push(format!("{name} has succeeded and runs {firmware}"));
        }
    }
}

fn whole(moment: Utc) -> Utc {
    Utc::from_seconds(moment.seconds())
}

fn draw(chance: &mut Chance) -> impl FnMut() -> [u8; 16] + Send {
    || {
        let mut octets = [0; 16];
        chance.fill(&mut octets);
        octets
    }
}
