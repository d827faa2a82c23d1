//! The management server: the real DM core and operations on the fleet in memory.

use std::collections::{BTreeMap, BTreeSet};

use dm_bridge::{
    app::{
        AppError, PlainHttp,
        campaigns::{self, CreateCampaign, Selection},
        devices::{self, Enrolment, FreshSecrets},
        message_handler::DeviceSession,
    },
    campaign::{
        model::{BroadcastTarget, CampaignParameters, CampaignState, Delivery},
        reconcile::Step,
        update_requests::UpdateRequestPolicy,
        verify::Documents,
    },
    dm::{
        Limits,
        message::{InboundMessage, MessageOutcome},
    },
    fleet::{
        attempt::{ArmingAttempt, ArmingPhase},
        audit::{Actor, Audit},
        memory::MemoryStore,
        store::FleetStore as _,
    },
    notification::retry::NotificationAttempt,
};
use proto::{
    dm::{
        nodes::{broadcast, fumo},
        notification::UserMode,
        syncml::{self, Command, CommandId, Data, Item, Manage},
        xml,
    },
    fixtures::documents::{CLASS, COMPONENT, VENDOR, VERSION},
    ids::{CampaignId, Correlator, DeviceId, Tsi},
    time::Utc,
    tune_in::TuneIn,
};
use receiver::dm::client::TransportError;

use super::{
    account::{NONCE, SERVER_SECRET, URL, secret},
    device::Device,
    fault::At,
    image_server::ImageServer,
    injected_bugs::InjectedBug,
    package::{BEGIN, Follows, GROUP, Issue, PORT, Package, SOURCES},
    ready::now,
    reconciler::{Reconciled, Reconciler},
};
use crate::lab::rng::SeededRng;

/// Setup of the management server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setup {
    /// Span of the reports.
    ///
    /// # Units
    ///
    /// Seconds.
    pub report_spread: u32,
    /// Set when arming brings the plan header.
    pub hands_plan_header_out: bool,
    /// Set when it looks at the sessions that it has opened.
    pub watches_sessions: bool,
}

/// Fields that all campaigns share.
#[derive(Debug, Clone)]
struct Plain {
    setup: Setup,
    addressed: Vec<DeviceId>,
}

/// The management server.
#[derive(Debug)]
pub struct Bridge {
    package: &'static Package,
    store: MemoryStore,
    conversations: BTreeMap<DeviceId, DeviceSession>,
    rng: SeededRng,
    bug: Option<InjectedBug>,
    reconciler: Reconciler,
    /// Messages of each device, for replay.
    recorded: Vec<(usize, super::queue::Message)>,
    /// The result of each attempt: it never changes.
    results: BTreeMap<Correlator, u16>,
    /// The campaign that brings the image: the last one.
    current: CampaignId,
    plain: Plain,
    /// The last answer to each device.
    said: BTreeMap<usize, Vec<u8>>,
    breaches: Vec<String>,
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
        bug: Option<InjectedBug>,
    ) -> anyhow::Result<Self> {
        let store = MemoryStore::default();
        let rng = SeededRng::new(seed, "bridge");
        for device in devices {
            let enrolment = Enrolment {
                id: Device::id(device.machine.number),
                manufacturer: "Sim".to_owned(),
                model: "One".to_owned(),
                vendor: VENDOR,
                class: CLASS,
                url: URL.to_owned(),
                encoding: proto::dm::encoding::Encoding::Xml,
                auth: proto::dm::auth::AuthKind::Md5,
                account: dm_bridge::app::enrolment::OwnAccount::default(),
                profile: dm_bridge::fleet::profile::Profile::default(),
                firmware_object: None,
            };
            let secrets = FreshSecrets {
                password: secret(device.machine.number),
                nonce: NONCE,
                server_password: SERVER_SECRET,
                server_nonce: NONCE,
            };
            let printed = now(devices::enrol(&store, BEGIN, enrolment, secrets))?;
            test_log::record_secret("toml", printed.as_bytes());
        }
        let addressed = devices.iter().filter(|device| device.is_addressed());
        let addressed = addressed.map(|device| Device::id(device.machine.number)).collect();
        let mut bridge = Self {
            package,
            store,
            conversations: BTreeMap::new(),
            rng,
            bug,
            reconciler: Reconciler::new(
                setup.watches_sessions && bug != Some(InjectedBug::NeverLook),
            ),
            recorded: Vec::new(),
            results: BTreeMap::new(),
            current: package.first().terms.id,
            plain: Plain { setup, addressed },
            said: BTreeMap::new(),
            breaches: Vec::new(),
        };
        bridge.create(At(0), package.first())?;
        Ok(bridge)
    }

    /// Brings the image to all that are addressed by a further campaign.
    ///
    /// # Errors
    ///
    /// When the documents make no campaign.
    pub fn supersede(&mut self, at: At, follows: Follows) -> Result<(), AppError> {
        self.create(at, self.package.following(follows))
    }

    fn create(&mut self, at: At, issue: &Issue) -> Result<(), AppError> {
        let header = (COMPONENT, self.package.aired.plan_header.clone());
        let Plain { setup, addressed } = self.plain.clone();
        let order = CreateCampaign {
            documents: Documents {
                roots: issue.roots.clone(),
                manifest: issue.manifest.clone(),
                campaign: issue.campaign.clone(),
                plan_headers: setup.hands_plan_header_out.then_some(header).into_iter().collect(),
            },
            parameters: CampaignParameters {
                target: BroadcastTarget {
                    carousel_url: "http://127.0.0.1:1".to_owned(),
                    token_file: String::new(),
                    group: GROUP,
                    port: PORT,
                },
                delivery: Delivery::default(),
                update_requests: UpdateRequestPolicy::Nothing,
            },
            plain_http: PlainHttp::LoopbackOnly,
            selection: Selection::Named(addressed),
            report_spread_seconds: Some(setup.report_spread),
        };
        let rng = &mut draw(&mut self.rng);
        self.current = now(campaigns::create(&self.store, at.utc(), order, rng))?;
        Ok(())
    }

    /// Stops the campaign: each device is disarmed in its next session.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn disarm(&mut self, at: At) -> Result<(), AppError> {
        now(campaigns::stop(&self.store, at.utc(), self.current))
    }

    /// Drops the state that is in the process alone.
    pub fn restart(&mut self) {
        self.conversations.clear();
        self.reconciler.restart();
    }

    /// Removes and returns the breaches since the last call.
    pub fn take_breaches(&mut self) -> Vec<String> {
        std::mem::take(&mut self.breaches)
    }

    /// Opens a window; does nothing when no device needs one.
    pub fn open_window(&mut self, at: At, opens: At, closes: At) -> Result<(), AppError> {
        let window = (whole(opens.utc()), whole(closes.utc()));
        let rng = &mut draw(&mut self.rng);
        now(campaigns::start(&self.store, at.utc(), self.current, window, rng)).map(drop)
    }

    /// Answers a DM message.
    pub fn handle(
        &mut self,
        at: At,
        message: &super::queue::Message,
    ) -> Result<Vec<u8>, TransportError> {
        let limits = Limits::default();
        let refused = |status| TransportError::Http { status, retry_after: None };
        let received =
            xml::parse(&message.body, &xml::Limits::default()).map_err(|_| refused(400))?;
        let id: DeviceId = received.header.source.uri.parse().map_err(|_| refused(400))?;
        let token = message.url.split_once("?s=").map(|(_, token)| token);
        let conversation = self.conversations.entry(id.clone()).or_default();
        let answer = now(conversation.handle(
            &self.store,
            (at.utc(), limits),
            &id,
            InboundMessage {
                bytes: &message.body,
                message: &received,
                token,
                mac: None,
                network: None,
                certificate: None,
            },
            &mut draw(&mut self.rng),
        ));
        self.count_twice(at, &id);
        self.change_results(at, &id);
        self.check(&id);
        match answer.map_err(|_| refused(503))? {
            MessageOutcome::Reply(reply)
            | MessageOutcome::Replay(reply)
            | MessageOutcome::AuthRequired(reply)
            | MessageOutcome::AuthStale(reply)
            | MessageOutcome::AuthFailed(reply)
            | MessageOutcome::UnknownDevice(reply)
            | MessageOutcome::Busy(reply)
            | MessageOutcome::OtherVersion(reply) => {
                Ok(self.add_sessions(&reply.bytes).unwrap_or_else(|| reply.bytes.into()))
            }
            MessageOutcome::LockedOut(wait) => {
                Err(TransportError::Http { status: 503, retry_after: Some(wait) })
            }
            MessageOutcome::Overloaded
            | MessageOutcome::NotStored
            | MessageOutcome::MediaType
            | MessageOutcome::ContentEncoding
            | MessageOutcome::TooLarge(_)
            | MessageOutcome::BodyTimeout
            | MessageOutcome::NotSyncMl(_)
            | MessageOutcome::NoCertificate => unreachable!("an outcome of the shell"),
        }
    }

    /// Adds the further image servers of a campaign to the one that it was created with.
    fn add_sessions(&self, reply: &[u8]) -> Option<Vec<u8>> {
        let mut message = xml::parse(reply, &xml::Limits::default()).ok()?;
        let node = format!("/{}", fumo::DOWNLOAD_AND_UPDATE_URL);
        let mut items = message.commands.iter().flat_map(written);
        let url = items.find(|item| item.target_uri().is_some_and(|uri| uri.ends_with(&node)))?;
        let first: TuneIn = url.data_text()?.parse().ok()?;
        let further = self.reconciler.further(first.campaign)?;
        let lines = further.iter().map(|(tune_in, window)| {
            format!("{tune_in} {} {}", window.opens.seconds(), window.closes.seconds())
        });
        let path = format!("./FwUpdate/Main/{}", broadcast::SESSIONS);
        let item = Item::text(path, lines.collect::<Vec<_>>().join("\n"));
        let number = message.commands.len() + 50;
        let id = CommandId::new(u32::try_from(number).ok()?);
        // Beside the other writes, in front of the one that is last.
        let at = message.commands.len().saturating_sub(1);
        message.commands.insert(at, Command::Replace(Manage::new(id, vec![item])));
        Some(xml::emit(&syncml::Message { ..message }))
    }

    /// Sends a device a changed answer in the server's name.
    ///
    /// # Errors
    ///
    /// A status of HTTP, which is a lie, too.
    pub fn falsify(&mut self, device: usize, truth: Vec<u8>) -> Result<Vec<u8>, TransportError> {
        let refused = |status| TransportError::Http { status, retry_after: None };
        let before = self.said.insert(device, truth.clone());
        match self.rng.below(8) {
            0 => Err(refused(500)),
            1 => Err(refused(404)),
            2 => {
                let keep = self.rng.below(truth.len() as u64);
                let keep = usize::try_from(keep).unwrap_or_default();
                Ok(truth.get(..keep).unwrap_or_default().to_vec())
            }
            3 => Ok(before.unwrap_or(truth)),
            4 => Ok(self.change_written(&truth, change_tune_in).unwrap_or(truth)),
            _ => Ok(self.change_written(&truth, change_bytes).unwrap_or(truth)),
        }
    }

    /// Changes one of the items that a reply writes.
    fn change_written(
        &mut self,
        reply: &[u8],
        change: fn(&mut Item, &mut SeededRng) -> bool,
    ) -> Option<Vec<u8>> {
        let mut message = xml::parse(reply, &xml::Limits::default()).ok()?;
        let mut changed = false;
        for command in &mut message.commands {
            if let Command::Replace(replace) = command {
                for item in &mut replace.items {
                    changed |= change(item, &mut self.rng);
                }
            }
        }
        changed.then(|| xml::emit(&message))
    }

    /// Stores the last answer to a device.
    pub fn answered(&mut self, device: usize, answer: &[u8]) {
        self.said.insert(device, answer.to_vec());
    }

    /// Stores a message, for replay.
    pub fn record(&mut self, device: usize, message: &super::queue::Message) {
        if self.recorded.len() < 64 {
            self.recorded.push((device, message.clone()));
        }
    }

    /// An attacker replays recorded messages and receives the answers.
    pub fn replay(&mut self, at: At, device: usize) {
        let ours = self.recorded.iter().filter(|(whose, _)| *whose == device);
        let messages: Vec<_> = ours.map(|(_, message)| message.clone()).collect();
        for message in messages {
            // No answer may have an effect: the checks compare the store.
            self.handle(at, &message).ok();
        }
    }

    /// Returns the time of a device's last message.
    pub fn last_seen(&self, number: usize) -> Option<Utc> {
        now(devices::show(&self.store, &Device::id(number))).ok()?.last_seen
    }

    /// Returns the notification of a device.
    pub fn notification(&self, number: usize, session_id: u16) -> Option<NotificationAttempt> {
        let (id, mode) = (Device::id(number), UserMode::Background);
        now(devices::build_notification(&self.store, &id, mode, session_id)).ok()
    }

    /// Returns all attempts for a device.
    pub fn attempts(&self, id: &DeviceId) -> Vec<ArmingAttempt> {
        now(self.store.device_attempts(id)).unwrap_or_default()
    }

    /// A result is set once, and a device succeeds once with one manifest.
    fn check(&mut self, id: &DeviceId) {
        let attempts = self.attempts(id);
        let name = id.as_str();
        let mut successes: BTreeMap<[u8; 32], u32> = BTreeMap::new();
        for row in &attempts {
            let Some(found) = row.result_code else { continue };
            let first = *self.results.entry(row.correlator.clone()).or_insert(found);
            if first != found {
                let text = format!("{name}: the result {first} of an attempt became {found}");
                self.breaches.push(text);
            }
            if let Some(issue) = self.package.issue(row.campaign)
                && (200..=249).contains(&found)
            {
                *successes.entry(issue.terms.manifest_sha256.0).or_default() += 1;
            }
        }
        if let Some(most) = successes.values().max().filter(|most| **most > 1) {
            self.breaches.push(format!("{name}: {most} attempts have succeeded"));
        }
        let distinct: BTreeSet<_> = attempts.iter().map(|row| &row.correlator).collect();
        if distinct.len() != attempts.len() {
            self.breaches.push(format!("{name}: two attempts share a correlator"));
        }
    }

    fn count_twice(&mut self, at: At, id: &DeviceId) {
        if self.bug != Some(InjectedBug::CountTwice) {
            return;
        }
        let attempts = self.attempts(id);
        if let [row] = attempts.as_slice()
            && row.result_code == Some(200)
        {
            let again = Correlator(format!("{}-again", row.correlator.0));
            let twice = ArmingAttempt {
                attempt: row.attempt + 1,
                version: 0,
                correlator: again,
                ..row.clone()
            };
            let audit = Audit {
                actor: Actor::Device,
                action: "planted",
                subject: String::new(),
                detail: String::new(),
            };
            now(self.store.apply(at.utc(), audit, vec![twice.into()])).ok();
        }
    }

    fn change_results(&mut self, at: At, id: &DeviceId) {
        if self.bug != Some(InjectedBug::ChangeResults) {
            return;
        }
        let attempts = self.attempts(id);
        let known = attempts.iter().find(|row| self.results.contains_key(&row.correlator));
        if let Some(row) = known {
            let changed = ArmingAttempt { result_code: Some(410), ..row.clone() };
            let audit = Audit {
                actor: Actor::Device,
                action: "planted",
                subject: String::new(),
                detail: String::new(),
            };
            now(self.store.apply(at.utc(), audit, vec![changed.into()])).ok();
        }
    }

    /// Returns the phase of a device in the last campaign.
    pub fn verdict(&self, id: &DeviceId) -> Option<ArmingPhase> {
        let attempts = self.attempts(id);
        attempts.iter().rfind(|row| row.campaign == self.current).map(|row| row.phase)
    }

    /// Starts the steps that are due.
    pub fn reconcile(&mut self, at: At, image_servers: &mut [ImageServer]) -> Reconciled {
        self.reconciler.run(at, &self.store, &mut self.rng, image_servers)
    }

    /// Returns the campaigns whose sessions are open on the image servers, as far as it knows.
    pub fn opened(&self, at: At) -> Vec<CampaignId> {
        self.reconciler.opened(at, &self.store)
    }

    /// Returns whether a campaign is stopped or over, and its image servers have answered so.
    pub fn has_ended(&self, id: CampaignId) -> bool {
        let campaign = now(self.store.campaign(id)).ok().flatten();
        campaign.is_some_and(|campaign| {
            matches!(campaign.state, CampaignState::Stopped | CampaignState::Closed)
        })
    }

    /// A call to an image server is given up, if it was made in this life.
    pub fn give_up(&mut self, at: At, life: u64, step: Step) {
        self.reconciler.give_up(at, &self.store, life, step);
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

/// Returns what a command writes.
fn written(command: &Command) -> &[Item] {
    let Command::Replace(replace) = command else { return &[] };
    &replace.items
}

/// Names a session that no image server airs.
fn change_tune_in(item: &mut Item, rng: &mut SeededRng) -> bool {
    let Some(mut tune_in) = item.data_text().and_then(|text| text.parse::<TuneIn>().ok()) else {
        return false;
    };
    if rng.below(2) == 0 {
        tune_in.tsi = Tsi(tune_in.tsi.0 % 1000 + 1);
    } else {
        tune_in.source = SOURCES.into_iter().find(|it| *it != tune_in.source).unwrap_or(GROUP);
    }
    item.data = Some(Data::Text(tune_in.to_string()));
    true
}

/// Flips a bit of a document.
fn change_bytes(item: &mut Item, rng: &mut SeededRng) -> bool {
    let Some(Data::Octets(octets)) = &mut item.data else { return false };
    let at = usize::try_from(rng.below(octets.len() as u64)).unwrap_or_default();
    let bit = rng.below(8);
    // Mostly one document of several.
    let changes = rng.below(2) == 0;
    match octets.get_mut(at).filter(|_| changes) {
        Some(octet) => *octet ^= 1 << bit,
        None => return false,
    }
    true
}

fn whole(moment: Utc) -> Utc {
    Utc::from_seconds(moment.seconds())
}

fn draw(rng: &mut SeededRng) -> impl FnMut() -> [u8; 16] + Send {
    || {
        let mut octets = [0; 16];
        rng.fill_bytes(&mut octets);
        octets
    }
}
