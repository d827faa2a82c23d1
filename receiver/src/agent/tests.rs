//! The agent against a storage in memory, an installer that obeys, and a server that is scripted at
//! the seam between DM session and device. Time is moved by hand; nothing sleeps.

use std::{collections::BTreeMap, io, time::Duration};

use proto::{
    crypto::{Hash16, sha256},
    dm::fumo::{Operation as Exec, Phase, ResultCode},
    fixtures::{
        broadcast::Broadcast,
        documents::{CLASS, SOURCE, VENDOR},
    },
    ids::{Correlator, Esi, Sbn, Toi},
    time::Utc,
    tune_in::TuneIn,
};

use super::*;
use crate::{
    components::{Deployed, InventoryAccess},
    dm::{
        self, AlertQueue as _, ArmRequest, FinalAlert, FirmwareBackend as _, Identity,
        ReportSettings, SoftwareBackend as _, UserPrompt as _, account::AccountState,
    },
    flute::decode::BlockFiles,
    store::{
        BlockPlace, CopyName, JournalImage, Journaler, LogOutput, ObjectLayout, Recovered,
        Recovery, SlotAddress, StorageError,
        commands::{StorageCommand, VerifyOutcome},
        floors::{Floors, FloorsFile, Leftovers, floors_at_start},
    },
    update::{
        acceptance::{DeviceClass, Limits},
        fetch::{Fetch, FetchError, Fetched},
        installer::{InstallOutcome, InstallerCall},
    },
};

mod components;
mod download;
mod floors;
mod installer;
mod offline;
mod partial_package;
mod policy;
mod reception;
mod roots;
mod states;
mod timers;
mod update_request;
mod user_prompts;

const OPENS: u64 = 2_000;
const CLOSES: u64 = 3_000;

/// The state that survives the end of the process.
#[derive(Debug, Clone, Default)]
struct Disk {
    /// The settings of the integrator.
    user: crate::user::Settings,
    inventory: InventoryAccess,
    /// The number of reboots of the machine.
    reboots: u32,
    journal: [Vec<u8>; 2],
    floors: Option<Vec<u8>>,
    files: BTreeMap<String, Vec<u8>>,
    object: Option<Hash16>,
    logs: BTreeMap<u32, Vec<u8>>,
    tables: Vec<u8>,
    image: Vec<u8>,
    /// The installed components.
    deployed: Vec<Deployed>,
    /// Set when the installer does nothing and reports success.
    pretends: bool,
}

impl BlockFiles for Disk {
    fn read_slots(&mut self, first: SlotAddress, octets: &mut [u8]) -> io::Result<()> {
        let slot = octets.len().min(64 * 2);
        let start = ObjectLayout::HEADER_BYTES + usize::try_from(first.index).unwrap() * slot;
        octets.copy_from_slice(&self.logs[&first.file][start..start + octets.len()]);
        Ok(())
    }

    fn write_block(&mut self, place: BlockPlace, octets: &[u8]) -> io::Result<()> {
        let start = usize::try_from(place.offset).unwrap();
        self.image.resize(self.image.len().max(start + octets.len()), 0);
        self.image[start..start + octets.len()].copy_from_slice(octets);
        Ok(())
    }
}

/// A device: the agent and what the shell would do for it.
struct Device {
    broadcast: Broadcast,
    agent: Agent,
    disk: Disk,
    now: Now,
    installed: Vec<Vec<u8>>,
    version: String,
    /// Set while the installer does not print the version.
    is_silent: bool,
    joined: Vec<TuneIn>,
    posts: usize,
    /// The last DM message, while a server is reachable.
    talks: bool,
    post: Option<dm::client::HttpRequest>,
    /// The prompts of the user.
    asked: Vec<crate::user::Question>,
    /// The pending fetch.
    fetches: Vec<Fetch>,
    /// Times that the current fetch was to end.
    stopped_fetches: usize,
    /// Installation notifications that were sent.
    notices: Vec<(String, String)>,
    notices_fail: bool,
    /// The outcome of the installer.
    install_ends: InstallOutcome,
    stopped: bool,
    /// Outputs after which the power goes.
    power_left: Option<usize>,
    /// Flushes that fail before one succeeds.
    failing_flushes: u32,
    /// Pieces of a package after which one finds no room.
    full_after: Option<usize>,
    boot: u64,
    /// The effect that the shell delays.
    held: Held,
    waiting: Vec<Output>,
}

/// A delayed effect: it is executed when it is released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Held {
    #[default]
    Nothing,
    Finish,
    Install,
    Version,
    Components,
}

fn at(seconds: u64) -> Now {
    let utc = Utc::from_seconds(seconds);
    Now { mono: Mono(0) + Duration::from_secs(seconds), utc }
}

const PASSWORD: &str = "the password of LAB-0001";
const SERVER_PASSWORD: &str = "the password of its server";

fn config() -> Config {
    test_log::capture();
    test_log::record_secret("password", PASSWORD.as_bytes());
    test_log::record_secret("password", SERVER_PASSWORD.as_bytes());
    let id = "LAB-0001".parse().unwrap();
    Config {
        device_class: DeviceClass { vendor: VENDOR, class: CLASS },
        limits: Limits::default(),
        dm: dm::Settings {
            identity: Identity::new(id, "fumocast".to_owned(), "lab".to_owned()),
            account: dm::Account {
                url: "http://127.0.0.1:1/dm".to_owned(),
                server_id: "server".to_owned(),
                encoding: proto::dm::encoding::Encoding::Xml,
                auth: proto::dm::auth::AuthKind::Md5,
                user: "LAB-0001".to_owned(),
                secret: proto::dm::auth::Secret::new("LAB-0001", PASSWORD),
                server: None,
            },
            object: "./FwUpdate/Main".parse().unwrap(),
        },
        check_in: Duration::from_secs(3600),
        first_nonce: vec![1; 16],
        user: crate::user::Settings::default(),
        components: InventoryAccess::Absent,
    }
}

/// The result of an Exec whose URL is not one to follow.
fn bad_url() -> FinalAlert {
    FinalAlert {
        correlator: None,
        operation: Exec::Download,
        result: ResultCode::BAD_URL,
        campaign: None,
        subject: None,
    }
}

impl Device {
    fn new() -> Self {
        Self::with_user(crate::user::Settings::default())
    }

    fn with_user(user: crate::user::Settings) -> Self {
        Self::made(Broadcast::small(), Disk { user, ..Disk::default() })
    }

    fn made(broadcast: Broadcast, mut disk: Disk) -> Self {
        disk.floors = Some(Floors::default().emit());
        let agent = boot(&broadcast, &disk, at(1_500), 0);
        let mut device = Self {
            broadcast,
            agent,
            disk,
            now: at(1_500),
            installed: Vec::new(),
            version: "1.0".to_owned(),
            is_silent: false,
            joined: Vec::new(),
            posts: 0,
            talks: false,
            post: None,
            asked: Vec::new(),
            fetches: Vec::new(),
            stopped_fetches: 0,
            notices: Vec::new(),
            notices_fail: false,
            install_ends: InstallOutcome::Done,
            stopped: false,
            power_left: None,
            failing_flushes: 0,
            full_after: None,
            held: Held::Nothing,
            waiting: Vec::new(),
            boot: 0,
        };
        device.run();
        device
    }

    fn request(&self) -> ArmRequest {
        ArmRequest {
            operation: Exec::DownloadAndUpdate,
            url: self.broadcast.tune_in().to_string(),
            campaign: self.broadcast.campaign_envelope(),
            manifest: self.broadcast.manifest_envelope(),
            plan_headers: BTreeMap::new(),
            server_now: Some(self.now.utc),
            opens: Some(Utc::from_seconds(OPENS)),
            closes: Some(Utc::from_seconds(CLOSES)),
            sessions: Vec::new(),
            repair: None,
            report: ReportSettings::default(),
            correlator: Some(Correlator("c-1".to_owned())),
            subject: None,
        }
    }

    fn arm(&mut self) {
        self.arm_with(self.request());
    }

    fn arm_with(&mut self, request: ArmRequest) {
        self.agent.owners.arm(self.now, request);
        self.agent.settle(self.now);
        self.run();
    }

    fn to(&mut self, seconds: u64) {
        self.now = at(seconds);
        self.agent.handle_timeout(self.now);
        self.run();
    }

    fn receive(&mut self, datagram: &[u8]) {
        let channel = self.broadcast.tune_in().channel;
        self.agent.handle_datagram(self.now, channel, SOURCE, datagram);
        self.run();
    }

    fn receive_pass(&mut self) {
        self.broadcast.pass().iter().for_each(|datagram| self.receive(datagram));
    }

    /// Receives the first `count` packets of a pass.
    fn receive_some(&mut self, count: usize) {
        self.broadcast.pass().iter().take(count).for_each(|datagram| self.receive(datagram));
    }

    fn phase(&self) -> Phase {
        self.agent.status().phase
    }

    fn alerts(&self) -> Vec<FinalAlert> {
        self.agent.owners.due_alerts(at(1_000_000))
    }

    fn results(&self) -> Vec<u16> {
        self.alerts().iter().map(|alert| alert.result.0).collect()
    }

    /// The process dies and starts again on what the disk holds.
    fn restart(&mut self) {
        self.boot += 1;
        self.power_left = None;
        self.stopped = false;
        self.joined.clear();
        self.agent = boot(&self.broadcast, &self.disk, self.now, self.boot);
        self.run();
    }

    /// Executes the outputs of the agent until there are no more, or until the power cut.
    fn run(&mut self) {
        while !self.stopped {
            let Some(output) = self.agent.poll_output(self.now) else { return };
            if self.power_left == Some(0) {
                self.stopped = true;
                return;
            }
            self.power_left = self.power_left.map(|left| left - 1);
            self.perform(output);
        }
    }

    /// Does what was held back.
    fn release(&mut self) {
        self.held = Held::Nothing;
        for output in std::mem::take(&mut self.waiting) {
            self.perform(output);
        }
        self.run();
    }

    fn perform(&mut self, output: Output) {
        let holds = match self.held {
            Held::Nothing => false,
            Held::Finish => matches!(output, Output::Storage(StorageCommand::VerifyImage(_))),
            Held::Install => matches!(output, Output::Installer(InstallerCall::Install(..))),
            Held::Version => matches!(output, Output::Installer(InstallerCall::ReadVersion)),
            Held::Components => {
                matches!(output, Output::Installer(InstallerCall::ChangeComponent(..)))
            }
        };
        if holds {
            return self.waiting.push(output);
        }
        match output {
            Output::Storage(command) => self.execute_storage(command),
            Output::Network(request) => self.execute_network(request),
            Output::Installer(call) => self.perform_call(call),
            Output::Prompt(question) => self.asked.push(question),
            Output::Stop(error) => panic!("stopped: {error}"),
        }
    }

    /// Plays the storage, which writes and syncs at once.
    fn execute_storage(&mut self, command: StorageCommand) {
        let completion = match command {
            StorageCommand::Open(layout) => Some(self.open(&layout)),
            StorageCommand::Log(key, output) => self.write_log(key, output),
            StorageCommand::WriteFile(name, octets) => {
                self.disk.files.insert(name.as_str().to_owned(), octets);
                None
            }
            StorageCommand::WriteOptionalFile(..) if self.full_after == Some(0) => {
                self.full_after = None;
                let attempted = "write a piece".to_owned();
                Some(Completion::OptionalFileWritten(Err(StorageError::NoSpace { attempted })))
            }
            StorageCommand::WriteOptionalFile(name, octets) => {
                self.full_after = self.full_after.map(|left| left - 1);
                self.disk.files.insert(name.as_str().to_owned(), octets);
                Some(Completion::OptionalFileWritten(Ok(())))
            }
            StorageCommand::RemoveFile(name) => {
                self.disk.files.remove(name.as_str());
                None
            }
            StorageCommand::Journal(write) => {
                let copy = usize::from(write.copy == CopyName::B);
                self.disk.floors = write.floors.or(self.disk.floors.take());
                self.disk.journal[copy].clone_from(&write.octets);
                Some(Completion::JournalWritten(write.generation))
            }
            StorageCommand::Decode(job) => {
                let outcome = job.run(&mut self.disk);
                Some(Completion::Decoded(job.layout.object_key(), job.sbn, outcome))
            }
            StorageCommand::VerifyImage(layout) => {
                let found = sha256(&[&self.disk.image]);
                let outcome = if found == layout.stored_sha256() {
                    VerifyOutcome::Ready { sha256: found }
                } else {
                    VerifyOutcome::WrongDigest { found }
                };
                Some(Completion::ImageVerified(layout.object_key(), outcome))
            }
            StorageCommand::WriteImage(layout, offset, octets) => {
                self.disk.object = Some(layout.object_key());
                let start = usize::try_from(offset).unwrap();
                self.disk.image.resize(start, 0);
                self.disk.image.extend(octets);
                Some(Completion::ImageWritten(layout.object_key(), Ok(())))
            }
            StorageCommand::RemoveOtherObjects(kept) => {
                let kept = kept.first().map(ObjectLayout::object_key);
                if self.disk.object != kept {
                    (self.disk.object, self.disk.image) = (None, Vec::new());
                    self.disk.logs.clear();
                }
                Some(Completion::ObjectsRemoved(Ok(())))
            }
            StorageCommand::Drop(_) => Some(Completion::ObjectsRemoved(Ok(()))),
            StorageCommand::Discard(_)
            | StorageCommand::Reserve(..)
            | StorageCommand::VerifyKept(..) => None,
        };
        if let Some(completion) = completion {
            self.agent.handle_storage(self.now, completion);
        }
    }

    fn write_log(&mut self, key: Hash16, output: LogOutput) -> Option<Completion> {
        match output {
            LogOutput::Write { file, offset, octets, .. } => {
                let start = usize::try_from(offset).unwrap();
                self.disk.logs.get_mut(&file).unwrap()[start..start + octets.len()]
                    .copy_from_slice(&octets);
                None
            }
            LogOutput::Tables { offset, octets } => {
                let start = usize::try_from(offset).unwrap();
                let end = start + octets.len();
                self.disk.tables.resize(self.disk.tables.len().max(end), 0);
                self.disk.tables[start..end].copy_from_slice(&octets);
                None
            }
            LogOutput::Flush(ticket) if self.failing_flushes > 0 => {
                self.failing_flushes -= 1;
                let error = StorageError::while_doing("sync log.0")(io::Error::other("I/O error"));
                Some(Completion::LogFailed(key, ticket, error))
            }
            LogOutput::Flush(ticket) => Some(Completion::Flushed(key, ticket)),
        }
    }

    /// Plays the network.
    fn execute_network(&mut self, request: NetworkRequest) {
        match request {
            NetworkRequest::Join(tune_in) => self.joined.push(tune_in),
            NetworkRequest::Leave(tune_in) => self.joined.retain(|joined| *joined != tune_in),
            NetworkRequest::Fetch(fetch) => self.fetches.push(fetch),
            NetworkRequest::StopFetch => self.stopped_fetches += 1,
            NetworkRequest::Notify(url, body) => {
                self.notices.push((url, body));
                let answer = NetworkAnswer::Notified(!self.notices_fail);
                self.agent.handle_network(self.now, answer);
            }
            NetworkRequest::SendDmMessage(post) if self.talks => self.post = Some(post),
            NetworkRequest::SendDmMessage(_) => {
                self.posts += 1;
                self.agent.handle_post_failure(
                    self.now,
                    TransportError::Http { status: 500, retry_after: None },
                );
            }
        }
    }

    fn open(&mut self, layout: &ObjectLayout) -> Completion {
        self.disk.object = Some(layout.object_key());
        for file in 0..layout.files() {
            self.disk.logs.entry(file).or_insert_with(|| {
                let mut log = layout.header(file);
                log.resize(usize::try_from(layout.file_bytes(file)).unwrap(), 0);
                log
            });
        }
        let mut recovery = Recovery::new(layout);
        for (file, log) in &self.disk.logs {
            recovery.header(*file, log);
            let first = SlotAddress { file: *file, index: 0 };
            recovery.slots(first, &log[ObjectLayout::HEADER_BYTES..]);
        }
        let recovered = Recovered { tables: self.disk.tables.clone(), ..recovery.finish() };
        Completion::Recovered(layout.object_key(), recovered)
    }

    fn journal(&self) -> JournalState {
        self.journal_image().map(|image| image.body).unwrap_or_default()
    }

    fn journal_generation(&self) -> u64 {
        self.journal_image().map_or(0, |image| image.generation)
    }

    fn journal_image(&self) -> Option<JournalImage<JournalState>> {
        let [a, b] = &self.disk.journal;
        let copies = [a, b].map(|copy| JournalImage::parse(copy));
        copies.into_iter().flatten().max_by_key(|image| image.generation)
    }
}

fn boot(broadcast: &Broadcast, disk: &Disk, now: Now, number: u64) -> Agent {
    try_boot(broadcast.keys.root_envelope(), disk, now, number).unwrap()
}

fn try_boot(
    factory_root: Vec<u8>,
    disk: &Disk,
    now: Now,
    number: u64,
) -> Result<Agent, StoredStateError> {
    try_boot_as(config(), factory_root, disk, now, number)
}

fn try_boot_as(
    config: Config,
    factory_root: Vec<u8>,
    disk: &Disk,
    now: Now,
    number: u64,
) -> Result<Agent, StoredStateError> {
    let [a, b] = &disk.journal;
    let (journaler, state) = Journaler::recover([a, b]).unwrap();
    let damaged =
        if state.is_some() { 0 } else { [a, b].iter().filter(|it| !it.is_empty()).count() };
    let leftovers = Leftovers { damaged_copies: damaged, has_files: !disk.files.is_empty() };
    let file = FloorsFile::read(disk.floors.as_deref()).unwrap();
    let start = floors_at_start(state.as_ref(), file, leftovers);
    let boot = StoredState {
        journaler,
        state,
        // What the shell would write at once is written with the next journal.
        floors: start.on_disk,
        trust_state: start.state,
        files: disk.files.clone(),
        factory_root,
        boot_id: format!("boot {}", disk.reboots),
        seed: number,
    };
    let (user, components) = (disk.user.clone(), disk.inventory);
    Agent::new(now, Config { user, components, ..config }, boot)
}
