//! The device of a data folder, for one step: boots from what is on disk, and ends as if its power
//! was cut.

use std::{
    collections::VecDeque,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use proto::{
    dm::{auth::Secret, code::StatusCode, fumo::ResultCode, nodes::broadcast, syncml::Verb},
    pcap,
    time::{Mono, Now, Utc},
    trust::{Root, Verified},
    tune_in::{TuneIn, Window},
};
use receiver::{
    agent::{self, Agent, NetworkRequest, Output},
    dm::{self, client::HttpRequest},
    shell::{
        data_dir::DataDir,
        restore::{StartParameters, restore},
        storage::{DecodeWorker, Worker},
    },
    store::{Journaler, journal_state::JournalState},
    trust::{DeviceHistory, root_file},
    update::{
        acceptance::{Acceptance, CampaignOffer, DeviceClass, Limits, evaluate},
        installer::{InstallOutcome, InstallerAnswer, InstallerCall},
    },
};

use super::{Answer, Decision, Identity, State, scripted_server::ScriptedServer};

/// The moment at which the device's clock starts to count.
const BORN: u64 = 1_700_000_000;
/// Times that an output sets off another, at most.
const STEPS: usize = 1_000_000;

/// Documents and where to listen, as a management server writes them.
#[derive(Debug, Clone, Default)]
pub struct Arming {
    /// The campaign's envelope.
    pub campaign: Vec<u8>,
    /// The manifest's envelope.
    pub manifest: Vec<u8>,
    /// The tune-in URL.
    pub url: String,
    /// First moment of the window, in UTC seconds.
    pub opens: u64,
    /// First moment after it.
    pub closes: u64,
    /// The plan header, where it comes with the documents.
    pub plan: Option<Vec<u8>>,
}

/// A device for one step.
#[derive(Debug)]
pub struct Device {
    agent: Agent,
    worker: Worker,
    decoder: DecodeWorker,
    folder: PathBuf,
    kind: DeviceClass,
    now: Now,
    posts: VecDeque<HttpRequest>,
    before: TrustedState,
    /// Result that it reported when it started.
    reported: Option<ResultCode>,
}

/// Trusted state of the device when the step began.
#[derive(Debug)]
struct TrustedState {
    root: Verified<Root>,
    history: DeviceHistory,
}

/// Makes a data folder.
///
/// # Errors
///
/// When the root is invalid, or the folder cannot be written.
pub fn init(folder: &Path, root: &[u8], identity: &Identity) -> anyhow::Result<()> {
    identity.kind()?;
    Root::from_factory(root)?;
    fs::create_dir_all(folder)?;
    fs::write(folder.join("root.env"), root)?;
    fs::write(folder.join("version"), "1.0")?;
    fs::write(folder.join("identity.json"), serde_json::to_vec(identity)?)?;
    Ok(())
}

impl Device {
    /// Boots the device of a folder.
    ///
    /// # Errors
    ///
    /// When the folder was not made by [`init`], or its state cannot be restored.
    pub fn boot(folder: &Path, now_utc: u64) -> anyhow::Result<Self> {
        let read = |name: &str| fs::read(folder.join(name)).with_context(|| name.to_owned());
        let identity: Identity = serde_json::from_slice(&read("identity.json")?)?;
        let (vendor, class) = identity.kind()?;
        let kind = DeviceClass { vendor, class };
        let factory_root = read("root.env")?;
        let mono = Mono(0) + Duration::from_secs(now_utc.saturating_sub(BORN));
        let now = Now { mono, utc: Utc::from_seconds(now_utc) };
        let directory = DataDir::open(&folder.join("data"))?;
        let before = trusted_state(&directory, &factory_root)?;
        let parameters = StartParameters { factory_root, boot_id: "boot".to_owned(), seed: 1 };
        let agent = restore(now, config(kind)?, parameters, &directory)?;
        let decoder = DecodeWorker::new(&directory);
        let (worker, folder) = (Worker::new(directory), folder.to_owned());
        let posts = VecDeque::new();
        let reported = None;
        let mut device =
            Self { agent, worker, decoder, folder, kind, now, posts, before, reported };
        device.run_agent(Reserve::No)?;
        // A device calls its server when it starts.
        let mut server = ScriptedServer::default();
        device.exchange_messages(&mut server)?;
        device.reported = server.results.last().map(|(_, result)| *result);
        Ok(device)
    }

    /// Writes a root to the device.
    ///
    /// # Errors
    ///
    /// When the storage or the DM session breaks down.
    pub fn offer_root(&mut self, envelope: &[u8]) -> anyhow::Result<Answer> {
        let judged = Root::successor(&self.before.root, envelope);
        let mut server = ScriptedServer::default();
        server.replace_bytes(broadcast::ROOT, envelope);
        self.run_session(&mut server)?;
        let taken = server.statuses.contains(&(Verb::Replace, StatusCode::OK));
        let detail = judged.as_ref().err().map(ToString::to_string).unwrap_or_default();
        anyhow::ensure!(taken == judged.is_ok(), "agent and root chain disagree: {detail}");
        let reason = judged.err().map_or(String::new(), |error| {
            receiver::update::acceptance::Refusal::from(error).reason.to_owned()
        });
        self.answer(decision(taken), (reason, detail), None)
    }

    /// Writes documents and a tune-in to the device and starts the operation.
    ///
    /// # Errors
    ///
    /// When the storage or the DM session breaks down.
    pub fn offer_campaign(&mut self, arming: &Arming) -> anyhow::Result<Answer> {
        let (reason, detail) = self.reason(arming);
        let mut server = ScriptedServer::default();
        let seconds = |at: u64| at.to_string();
        server.replace_text(broadcast::NOW, &seconds(self.now.utc.seconds()));
        server.replace_text(broadcast::OPENS, &seconds(arming.opens));
        server.replace_text(broadcast::CLOSES, &seconds(arming.closes));
        let documents = [
            (broadcast::MANIFEST.to_owned(), Some(&arming.manifest)),
            (broadcast::CAMPAIGN.to_owned(), Some(&arming.campaign)),
            (format!("{}/0", broadcast::PLAN), arming.plan.as_ref()),
        ];
        for (path, octets) in documents {
            if let Some(octets) = octets.filter(|octets| !octets.is_empty()) {
                server.replace_bytes(&path, octets);
            }
        }
        server.replace_text("DownloadAndUpdate/PkgURL", &arming.url);
        // The Correlator names the campaign: the same again moves its windows.
        let correlator = arming.url.rsplit("h=").next().unwrap_or_default();
        server.exec("DownloadAndUpdate", correlator);
        self.run_session(&mut server)?;
        let result = server.result_of(correlator);
        let taken =
            server.statuses.contains(&(Verb::Exec, StatusCode::ACCEPTED)) && result.is_none();
        self.answer(decision(taken), (reason, detail), result)
    }

    /// Returns the reason why the documents are refused, by the device's own check.
    fn reason(&self, arming: &Arming) -> (String, String) {
        let Ok(tune_in) = arming.url.parse::<TuneIn>() else {
            return ("url".to_owned(), "the URL cannot be read".to_owned());
        };
        let window = Window {
            opens: Utc::from_seconds(arming.opens),
            closes: Utc::from_seconds(arming.closes),
        };
        let offer = CampaignOffer {
            campaign: &arming.campaign,
            manifest: &arming.manifest,
            windows: vec![(tune_in, window)],
            carried: None,
        };
        let TrustedState { root, history } = &self.before;
        let history = history.of(self.kind.class);
        match evaluate(root, self.kind, &history, &Limits::default(), &offer) {
            Ok(Acceptance::Accepted(_)) => (String::new(), String::new()),
            Ok(Acceptance::AlreadyInstalled(_)) => ("installed".to_owned(), String::new()),
            Err(refusal) => (refusal.reason.to_owned(), refusal.detail),
        }
    }

    /// Feeds the device a capture, each datagram from its source and on its channel.
    ///
    /// # Errors
    ///
    /// When the capture is damaged, or the storage breaks down.
    pub fn offer_packets(&mut self, capture: &[u8]) -> anyhow::Result<Answer> {
        self.run_agent(Reserve::Yes)?;
        self.agent.handle_timeout(self.now);
        self.run_agent(Reserve::Yes)?;
        let (format, records) = pcap::records(capture)?;
        for record in records {
            let record = record?;
            if let Ok(datagram) = format.datagram(&record.header, record.frame) {
                let (source, channel) = (datagram.source.ip(), datagram.destination);
                self.agent.handle_datagram(self.now, channel, source, datagram.payload);
                self.run_agent(Reserve::Yes)?;
            }
        }
        self.agent.handle_shutdown();
        self.run_agent(Reserve::Yes)?;
        let mut server = ScriptedServer::default();
        self.run_session(&mut server)?;
        let result = server.results.last().map(|(_, result)| *result);
        let complete = result == Some(ResultCode::SUCCESS);
        self.answer(decision(complete), (String::new(), String::new()), result)
    }

    /// Returns the state of the device.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn state(&mut self) -> anyhow::Result<Answer> {
        self.answer(Decision::None, (String::new(), String::new()), self.reported)
    }

    fn answer(
        &mut self,
        answer: Decision,
        (reason, detail): (String, String),
        result: Option<ResultCode>,
    ) -> anyhow::Result<Answer> {
        let status = self.agent.status();
        let directory = self.folder.join("data");
        let journal = journal(&read_copies(&directory)?)?;
        let history = DeviceHistory::from_journal(&journal)?.of(self.kind.class);
        let stats = status.stats;
        let state = State {
            phase: status.phase.to_string(),
            // Before its first journal write a device trusts the root of its maker.
            root_version: journal.root_version.max(self.before.root.version),
            epoch: journal.epoch.max(self.before.root.epoch),
            accepted_sequence: history.accepted.map_or(0, |(sequence, _)| sequence),
            installed_sequence: history.installed.map_or(0, |(sequence, _)| sequence),
            version: fs::read_to_string(self.folder.join("version"))?,
            t_min: history.clock_floor.seconds(),
            symbols: status.symbols_synced,
            forged: stats.header_forged
                + stats.table_forged
                + stats.data_forged
                + stats.fec_mismatch,
            foreign: stats.wrong_session
                + stats.malformed
                + stats.not_tuned_in
                + stats.other_object,
        };
        let result = result.map(|result| result.0);
        Ok(Answer { answer, reason, detail, result, state })
    }

    /// Holds one DM session.
    fn run_session(&mut self, server: &mut ScriptedServer) -> anyhow::Result<()> {
        self.agent.check_in(self.now);
        self.run_agent(Reserve::No)?;
        self.exchange_messages(server)
    }

    /// Answers the device until its session ends.
    fn exchange_messages(&mut self, server: &mut ScriptedServer) -> anyhow::Result<()> {
        while let Some(post) = self.posts.pop_front() {
            let answer = server.answer(&post.body)?;
            self.agent.handle_response(self.now, &answer);
            self.run_agent(Reserve::No)?;
        }
        Ok(())
    }

    /// Executes the outputs of the agent until there are no more.
    fn run_agent(&mut self, reserve: Reserve) -> anyhow::Result<()> {
        for _ in 0..STEPS {
            if let Some(output) = self.agent.poll_output(self.now) {
                self.perform(output)?;
            } else if reserve == Reserve::Yes && self.worker.is_reserving() {
                self.worker.reserve();
            } else {
                return Ok(());
            }
            while let Some(completion) = self.worker.poll_completion() {
                self.agent.handle_storage(self.now, completion);
            }
            while let Some(job) = self.worker.poll_job() {
                let completion = self.decoder.run(job);
                self.agent.handle_storage(self.now, completion);
            }
        }
        anyhow::bail!("the device does not become idle")
    }

    fn perform(&mut self, output: Output) -> anyhow::Result<()> {
        let version = self.folder.join("version");
        match output {
            Output::Storage(command) => self.worker.handle(command),
            Output::Network(NetworkRequest::SendDmMessage(post)) => self.posts.push_back(post),
            Output::Network(
                NetworkRequest::Join(_)
                | NetworkRequest::Leave(_)
                | NetworkRequest::Fetch(_)
                | NetworkRequest::StopFetch
                | NetworkRequest::Notify(..),
            )
            | Output::Prompt(_)
            | Output::Installer(
                InstallerCall::ReadComponents | InstallerCall::ChangeComponent(..),
            ) => {}
            Output::Installer(InstallerCall::ReadVersion) => {
                let answer = InstallerAnswer::Version(Some(fs::read_to_string(version)?));
                self.agent.handle_installer(self.now, answer);
            }
            Output::Installer(InstallerCall::Install(_, request)) => {
                fs::write(version, request.firmware_version)?;
                let answer = InstallerAnswer::Ended(InstallOutcome::Done);
                self.agent.handle_installer(self.now, answer);
            }
            Output::Stop(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// Reservation of space for the image in a step. A step that needs none ends before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reserve {
    Yes,
    No,
}

const fn decision(taken: bool) -> Decision {
    if taken { Decision::Accepted } else { Decision::Refused }
}

fn config(kind: DeviceClass) -> anyhow::Result<agent::Config> {
    Ok(agent::Config {
        device_class: kind,
        limits: Limits::default(),
        dm: dm::Settings {
            identity: dm::Identity::new(
                "CASE-1".parse()?,
                "fumocast".to_owned(),
                "case".to_owned(),
            ),
            account: dm::Account {
                url: "http://127.0.0.1:1/dm".to_owned(),
                server_id: "server".to_owned(),
                encoding: proto::dm::encoding::Encoding::Xml,
                auth: proto::dm::auth::AuthKind::Md5,
                server: None,
                user: "CASE-1".to_owned(),
                secret: Secret::new("CASE-1", "case"),
            },
            object: super::scripted_server::OBJECT.parse()?,
        },
        check_in: Duration::from_secs(3600),
        first_nonce: vec![1; 16],
        user: receiver::user::Settings::default(),
        components: receiver::components::InventoryAccess::Absent,
    })
}

fn trusted_state(directory: &DataDir, factory: &[u8]) -> anyhow::Result<TrustedState> {
    let journal = journal(&directory.read_journal()?)?;
    let files = directory.read_files()?;
    let stored = files.get(&root_file(journal.root_version));
    let stored = stored.and_then(|root| Root::from_factory(root).ok());
    let root = match stored.filter(|root| root.version == journal.root_version) {
        Some(root) => root,
        None => Root::from_factory(factory)?,
    };
    Ok(TrustedState { root, history: DeviceHistory::from_journal(&journal)? })
}

fn journal(copies: &[Vec<u8>; 2]) -> anyhow::Result<JournalState> {
    let [a, b] = copies;
    let (_, state) = Journaler::recover::<JournalState>([a, b])?;
    Ok(state.unwrap_or_default())
}

/// Reads the journal as it lies on disk while the device runs.
fn read_copies(directory: &Path) -> anyhow::Result<[Vec<u8>; 2]> {
    let read = |name: &str| {
        let path = directory.join(name);
        if path.exists() { fs::read(path) } else { Ok(Vec::new()) }
    };
    Ok([read("journal.a")?, read("journal.b")?])
}
