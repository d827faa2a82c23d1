//! A scripted life of the bridge, in which each statement of each operation fails once, on both sides
//! of its effect and in each way, and then the fault is over.
//!
//! After each operation the database is what it is in a life without faults: nothing that was
//! answered as done is lost, and nothing half done is visible. Health is bad while a fault lasts and
//! good again as soon as it is over; what failed succeeds when it is repeated.
#![expect(clippy::wildcard_enum_match_arm, reason = "a test names the steps that it is about")]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use proto::{
    dm::{
        auth::Secret,
        encoding::Encoding,
        notification::UserMode,
        policy::PolicyNode,
        syncml::{Challenge, Command, Message, Meta},
    },
    fixtures::device::{ScriptedDevice, final_alert},
    ids::{CampaignId, ClassId, DeviceId, Tsi},
    peer::PeerNetwork,
    time::{Mono, Utc},
};
use sqlx::{Connection as _, Row as _, SqliteConnection};

use super::{Fault, FaultKind, Faults, Side, Span};
use crate::{
    app::{
        AppError, PlainHttp,
        campaign_transitions::{self, read_fleet},
        campaigns::{self, CreateCampaign, Selection},
        components, devices,
        message_handler::{DeviceSession, challenge_keys},
        policy::{self, PolicyChanges},
        status, update_requests,
    },
    campaign::{
        model::{BroadcastTarget, CampaignParameters, CampaignState, Delivery},
        update_requests::UpdateRequestPolicy,
        verify::{
            Documents,
            tests::{Kit, NOW},
        },
    },
    dm::{
        Limits,
        message::{InboundMessage, MessageOutcome},
    },
    fleet::{
        device::SuspendCommand,
        memory::MemoryStore,
        policy::NodeValue,
        profile::Profile,
        store::{FleetStore as _, StoreError},
    },
    shell::{
        health::Health,
        store::{
            key_file::KeyFile,
            sqlite::{
                SqliteStore,
                rotation::{RotateTo, Rotation},
            },
        },
    },
};

/// An operation of the life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    ChallengeKeys,
    Enrol(&'static str),
    Rotate,
    Show,
    List,
    Suspend,
    Policy,
    ClassProfile,
    Inventory,
    Notification,
    Create,
    UpdateRequests,
    DeviceUpdateRequests,
    Approve,
    Prepared,
    Opened,
    Problem,
    /// A DM session; each of its messages is an operation.
    Session,
    /// A DM session in which the device reports success.
    Report,
    Status,
    Audit,
    Stop,
    Stopped,
    ExpirePending,
    ExpireSilent,
    Probe,
}

/// The device that speaks.
const DEVICE: &str = "LAB-0001";

const LIFE: [Step; 29] = [
    Step::ChallengeKeys,
    Step::Enrol(DEVICE),
    Step::Enrol("LAB-0002"),
    Step::Enrol("LAB-0003"),
    Step::Rotate,
    Step::Show,
    Step::List,
    Step::Suspend,
    Step::Policy,
    Step::ClassProfile,
    Step::Inventory,
    Step::Notification,
    Step::Create,
    Step::UpdateRequests,
    Step::DeviceUpdateRequests,
    Step::Approve,
    Step::Prepared,
    Step::Problem,
    Step::Opened,
    Step::Session,
    Step::Status,
    Step::Report,
    Step::Audit,
    Step::Stop,
    Step::Stopped,
    Step::ExpirePending,
    Step::ExpireSilent,
    Step::Status,
    Step::Probe,
];

/// Steps of more than one transaction, each of which is whole, and steps that may be done twice.
const DIVISIBLE: [Step; 3] = [Step::ChallengeKeys, Step::Rotate, Step::ClassProfile];

/// The most statements of an operation of which each fails, unless [`ALL`] is set.
const STATEMENTS: usize = 16;

/// Environment variable that lets the statements beyond [`STATEMENTS`] fail too, and each of them with
/// a fault that lasts.
const ALL: &str = "FUMOCAST_ALL_FAULTS";

/// An operation: a step, or a message of the device.
enum Work<'a> {
    Step(Step),
    Message { bytes: &'a [u8], message: &'a Message, token: Option<&'a str> },
}

/// The answer to an operation.
#[derive(Debug)]
enum Answer {
    Done,
    Reply(Box<Message>),
    /// The device has to prove itself with this nonce.
    Challenge(Vec<u8>),
}

/// All rows, by table; without values that are random.
type Rows = BTreeMap<String, Vec<String>>;

/// The rows after each operation, and the statements of each.
type History = Vec<(Rows, Vec<String>)>;

/// Random values, and tables in which only the number of rows is alike in two lives.
const RANDOM: [(&str, &str); 4] = [
    ("device", "secret"),
    ("device", "server_secret"),
    ("challenge_key", "key"),
    ("sealing_key", "id"),
];

/// Parts of a life that all lives share.
struct World {
    /// A database without rows, and its keys.
    empty: tempfile::TempDir,
    documents: Documents,
    id: CampaignId,
}

impl World {
    async fn new() -> Self {
        let empty = tempfile::tempdir().unwrap();
        open(empty.path(), &Faults::default()).await.unwrap().close().await;
        let kit = Kit::new();
        Self { empty, documents: kit.documents(), id: kit.campaign.id }
    }
}

async fn open(folder: &Path, faults: &Faults) -> Result<SqliteStore, StoreError> {
    let keys = KeyFile::from_path(&folder.join("fleet.keys"));
    SqliteStore::open_with_faults(&folder.join("fleet.db"), keys, faults).await
}

async fn view(folder: &Path) -> SqliteConnection {
    let url = format!("sqlite://{}", folder.join("fleet.db").display());
    SqliteConnection::connect(&url).await.unwrap()
}

/// Returns the rows of all tables.
async fn rows(viewer: &mut SqliteConnection) -> Rows {
    let names = "SELECT m.name AS owner, c.name AS part FROM sqlite_master AS m \
        JOIN pragma_table_info(m.name) AS c WHERE m.type = 'table' AND m.name <> 'probe' \
        AND m.name NOT LIKE 'sqlite%'";
    let mut tables = BTreeMap::<String, Vec<String>>::new();
    for row in sqlx::query(names).fetch_all(&mut *viewer).await.unwrap() {
        let (table, column): (String, String) = (row.get("owner"), row.get("part"));
        let is_random = RANDOM.contains(&(table.as_str(), column.as_str()));
        let text = if is_random { "'random'".to_owned() } else { format!("quote({column})") };
        tables.entry(table).or_default().push(text);
    }
    let mut all = Rows::new();
    for (table, columns) in tables {
        let select =
            format!("SELECT {} AS line FROM {table} ORDER BY 1", columns.join(" || ' ' || "));
        let lines = sqlx::query(&select).fetch_all(&mut *viewer).await.unwrap();
        all.insert(table, lines.iter().map(|row| row.get("line")).collect());
    }
    all
}

/// One life.
struct Life<'a> {
    world: &'a World,
    fault: Option<Fault>,
    folder: PathBuf,
    viewer: SqliteConnection,
    store: SqliteStore,
    faults: Faults,
    health: Health,
    device: ScriptedDevice,
    nonce: Vec<u8>,
    session: DeviceSession,
    history: History,
    /// Set once an operation took effect whose answer was an error: this life is not the one without
    /// faults any more, and meets no more of them.
    has_diverged: bool,
    met: usize,
}

impl<'a> Life<'a> {
    async fn begin(world: &'a World, folder: &Path, fault: Option<Fault>) -> Self {
        for name in ["fleet.db", "fleet.keys"] {
            std::fs::copy(world.empty.path().join(name), folder.join(name)).unwrap();
        }
        let faults = Faults::default();
        let mut life = Self {
            world,
            fault,
            folder: folder.to_owned(),
            viewer: view(folder).await,
            store: open(folder, &faults).await.unwrap(),
            faults,
            health: Health::default(),
            device: ScriptedDevice::new(DEVICE, "none yet"),
            nonce: Vec::new(),
            session: DeviceSession::default(),
            history: History::new(),
            has_diverged: false,
            met: 0,
        };
        // The settings come out of band: the answer to an enrolment may be lost.
        let (enrolment, secrets) = (devices::tests::enrolment(DEVICE), devices::tests::SECRETS);
        let settings = devices::enrol(&MemoryStore::default(), NOW, enrolment, secrets).await;
        life.learn(&settings.unwrap());
        life
    }

    /// Lives on until `operations` are done, beside the life without faults.
    async fn live(&mut self, reference: &History, operations: usize) {
        for step in LIFE {
            if self.history.len() >= operations {
                return;
            }
            match step {
                Step::Session => self.converse(reference).await,
                Step::Report => {
                    self.device.set("FwV", "2.0");
                    self.converse(reference).await;
                }
                _ => {
                    self.operate(&Work::Step(step), reference).await;
                }
            }
        }
    }

    /// Runs a DM session. A device that is challenged begins again.
    async fn converse(&mut self, reference: &History) {
        for attempt in 0..3 {
            self.device.begin_session(format!("{:X}", 10 * self.history.len() + attempt));
            let correlator = self.device.correlator().map(|it| it.0.clone());
            self.device.alerts.clear();
            if let Some(correlator) = correlator {
                self.device.alerts.push(final_alert(200, Some(&correlator)));
            }
            let mut message = self.device.first_with(&self.nonce.clone());
            let mut token = None;
            loop {
                let bytes = Encoding::Xml.emit(&message);
                let work =
                    Work::Message { bytes: &bytes, message: &message, token: token.as_deref() };
                let reply = match self.operate(&work, reference).await {
                    Answer::Reply(reply) => reply,
                    Answer::Challenge(nonce) => {
                        self.nonce = nonce;
                        break;
                    }
                    Answer::Done => panic!("a message without an answer"),
                };
                if let Some(nonce) = nonce_of(&reply) {
                    self.nonce = nonce;
                }
                let uri = reply.header.respond_to.clone().unwrap_or_default();
                token = uri.split_once("s=").map(|(_, token)| token.to_owned());
                match self.device.answer(&reply) {
                    Some(next) => message = next,
                    None => return,
                }
            }
        }
        panic!("{:?}: the device does not get through", self.fault);
    }

    /// Does one operation with its fault, and again after it.
    async fn operate(&mut self, work: &Work<'_>, reference: &History) -> Answer {
        let number = self.history.len();
        let name = match work {
            Work::Step(step) => format!("{step:?}"),
            Work::Message { message, .. } => format!("message {}", message.header.message_id),
        };
        let before = match self.history.last() {
            Some((rows, _)) => rows.clone(),
            None => rows(&mut self.viewer).await,
        };
        let fault = self.fault.filter(|_| !self.has_diverged);
        self.faults.plan(fault);
        let first = self.perform(work).await;
        let is_met = self.faults.is_met();
        if is_met && fault.is_some_and(|fault| fault.span == Span::UntilEnded) {
            assert!(!self.is_healthy().await, "{name}: {fault:?}");
        }
        let texts = self.faults.end();
        if is_met {
            assert!(self.is_healthy().await, "{name}: after {fault:?}");
        }
        self.met += usize::from(is_met);
        let place = format!("{name} with {fault:?} of {texts:#?}");
        let answer = match first {
            Ok(answer) => answer,
            Err(error) => {
                assert!(is_met, "{place}: {error}");
                let after = rows(&mut self.viewer).await;
                let is_divisible = matches!(work, Work::Step(step) if DIVISIBLE.contains(step));
                if after != before && !is_divisible {
                    assert_took_effect_alone(fault, &texts, &place);
                    self.has_diverged = true;
                }
                match self.perform(work).await {
                    Ok(answer) => answer,
                    // It was done before.
                    Err(error) if self.has_diverged => {
                        assert_eq!(rows(&mut self.viewer).await, after, "{place}: {error}");
                        assert_eq!(error.exit_code(), 7, "{place}: {error}");
                        Answer::Done
                    }
                    Err(error) => panic!("{place}: repeated: {error}"),
                }
            }
        };
        let now = rows(&mut self.viewer).await;
        if let Some((expected, statements)) = reference.get(number)
            && !self.has_diverged
        {
            assert_eq!(now, *expected, "{place}");
            let reaches = fault.is_some_and(|fault| statements.len() >= fault.statement);
            assert_eq!(is_met, reaches, "{place}: {statements:#?}");
        }
        self.history.push((now, texts));
        answer
    }

    async fn is_healthy(&self) -> bool {
        let now = Mono(0) + Duration::from_secs(self.history.len() as u64);
        self.health.record(now, &self.store.probe().await);
        self.health.is_good(now)
    }

    async fn perform(&mut self, work: &Work<'_>) -> Result<Answer, AppError> {
        let number = self.history.len() as u64;
        let now = NOW + Duration::from_secs(2 * number);
        let mut count = u128::from(number) << 64;
        let mut random = move || {
            count += 1;
            count.to_be_bytes()
        };
        match work {
            Work::Step(step) => self.step(*step, now, &mut random).await.map(|()| Answer::Done),
            Work::Message { bytes, message, token } => {
                let network = Some(PeerNetwork::of([192, 0, 2, 1].into()));
                let network = network.filter(|_| message.header.credential.is_some());
                let inbound = InboundMessage {
                    bytes,
                    message,
                    token: *token,
                    mac: None,
                    network,
                    certificate: None,
                };
                let (at, id) = ((now, Limits::default()), id(DEVICE));
                let handled = self.session.handle(&self.store, at, &id, inbound, &mut random);
                Ok(match handled.await? {
                    MessageOutcome::Reply(reply) | MessageOutcome::Replay(reply) => {
                        Answer::Reply(Box::new(decoded(&reply.bytes)))
                    }
                    MessageOutcome::AuthRequired(reply)
                    | MessageOutcome::AuthStale(reply)
                    | MessageOutcome::AuthFailed(reply) => {
                        Answer::Challenge(nonce_of(&decoded(&reply.bytes)).unwrap())
                    }
                    other => panic!("{other:?}"),
                })
            }
        }
    }

    async fn step(
        &self,
        step: Step,
        now: Utc,
        random: crate::random::RandomBytes<'_>,
    ) -> Result<(), AppError> {
        let (store, campaign) = (&self.store, self.world.id);
        let other = id("LAB-0002");
        match step {
            Step::ChallengeKeys => drop(challenge_keys(store, now).await?),
            Step::Enrol(name) => {
                let enrolment = devices::tests::enrolment(name);
                let secrets = devices::tests::SECRETS;
                drop(devices::enrol(store, now, enrolment, secrets).await?);
            }
            Step::Rotate => {
                let mut rotation = Rotation::begin(store, RotateTo::NewKey).await?;
                while rotation.step().await? {}
                rotation.finish().await?;
            }
            Step::Show => drop(devices::show(store, &other).await?),
            Step::List => assert_eq!(store.devices().await?.len(), 3),
            Step::Suspend => {
                let command = Some(SuspendCommand::Suspend);
                devices::set_suspension(store, now, &other, command).await?;
            }
            Step::Policy => {
                let value = NodeValue::new(PolicyNode::Install, "on-command")?;
                let changes = PolicyChanges::from([(PolicyNode::Install, Some(value))]);
                policy::set(store, now, &other, &changes).await?;
            }
            Step::ClassProfile => {
                let (profile, _) = Profile::built_in().remove(2);
                devices::set_class_profile(store, now, ClassId([2; 16]), &profile).await?;
            }
            Step::Inventory => drop(components::request_inventory(store, now, &other).await?),
            Step::Notification => {
                drop(devices::build_notification(store, &other, UserMode::Background, 7).await?);
            }
            Step::Audit => {
                drop(store.audit_tail(100).await?);
                drop(store.audit_page(1, 10).await?);
            }
            Step::Status => {
                status::campaign_page(store, None, 10).await?;
                status::campaign(store, campaign).await?;
                status::devices_of(store, campaign, None, 10).await?;
                read_fleet(store, &[]).await?;
            }
            Step::Probe => store.probe().await?,
            Step::Session | Step::Report => unreachable!("messages"),
            Step::Create
            | Step::UpdateRequests
            | Step::DeviceUpdateRequests
            | Step::Approve
            | Step::Prepared
            | Step::Opened
            | Step::Problem
            | Step::Stop
            | Step::Stopped
            | Step::ExpirePending
            | Step::ExpireSilent => self.campaign_step(step, now, random).await?,
        }
        Ok(())
    }

    async fn campaign_step(
        &self,
        step: Step,
        now: Utc,
        random: crate::random::RandomBytes<'_>,
    ) -> Result<(), AppError> {
        let (store, id) = (&self.store, self.world.id);
        match step {
            Step::Create => {
                campaigns::create(store, now, order(&self.world.documents), random).await?;
            }
            Step::UpdateRequests => {
                update_requests::set_campaign(store, now, id, UpdateRequestPolicy::Later).await?;
            }
            Step::DeviceUpdateRequests => {
                let (device, choice) = (self::id("LAB-0003"), Some(UpdateRequestPolicy::Now));
                update_requests::set_device(store, now, &device, choice).await?;
            }
            Step::Approve => {
                let window = (now, now + Duration::from_secs(3_600));
                campaigns::start(store, now, id, window, random).await?;
            }
            Step::Prepared => {
                let air = ([127, 0, 0, 1].into(), Tsi(77));
                campaign_transitions::mark_prepared(store, now, id, 1, air).await?;
            }
            Step::Opened => campaign_transitions::mark_opened(store, now, id, 1).await?,
            Step::Problem => {
                campaign_transitions::record_problem(store, now, id, "no answer".to_owned())
                    .await?;
            }
            Step::Stop => campaigns::stop(store, now, id).await?,
            Step::Stopped => {
                campaign_transitions::mark_stopped(store, now, id, CampaignState::Stopped).await?;
            }
            Step::ExpirePending => campaign_transitions::expire_pending(store, now, id).await?,
            Step::ExpireSilent => campaign_transitions::expire_silent(store, now, id).await?,
            other => unreachable!("{other:?} is a step of devices"),
        }
        Ok(())
    }

    /// Takes the settings of an enrolment over to the device.
    fn learn(&mut self, settings: &str) {
        let settings: toml::Table = settings.parse().unwrap();
        let text = |name: &str| settings["server"][name].as_str().unwrap().to_owned();
        let challenge =
            Challenge { meta: Meta { next_nonce: Some(text("nonce")), ..Meta::default() } };
        self.nonce = challenge.nonce().unwrap();
        self.device.client.secret = Secret::new(&text("user"), &text("password"));
        self.device.set("Broadcast/Root", "1");
    }
}

/// Asserts that an operation has taken effect whose answer was an error, which is so for a fault that
/// lasts from just after the commit on.
fn assert_took_effect_alone(fault: Option<Fault>, texts: &[String], place: &str) {
    let Some(Fault { statement, side, span, .. }) = fault else { panic!("{place}") };
    assert_eq!((side, span), (Side::After, Span::UntilEnded), "half done: {place}");
    assert_eq!(texts[statement - 1], "COMMIT", "half done: {place}");
}

fn order(documents: &Documents) -> CreateCampaign {
    CreateCampaign {
        documents: documents.clone(),
        parameters: CampaignParameters {
            target: BroadcastTarget {
                carousel_url: "http://127.0.0.1:9000".to_owned(),
                token_file: "carousel.token".to_owned(),
                group: [232, 1, 2, 3].into(),
                port: 3_400,
            },
            delivery: Delivery::default(),
            update_requests: UpdateRequestPolicy::Nothing,
        },
        plain_http: PlainHttp::LoopbackOnly,
        selection: Selection::All,
        report_spread_seconds: Some(0),
    }
}

fn id(name: &str) -> DeviceId {
    name.parse().unwrap()
}

fn decoded(bytes: &[u8]) -> Message {
    Encoding::Xml.parse(bytes, &Default::default()).unwrap()
}

fn nonce_of(message: &Message) -> Option<Vec<u8>> {
    let Command::Status(status) = message.commands.first()? else { return None };
    status.challenge.as_ref()?.nonce().ok()
}

/// Lets each statement of each operation fail in one way.
async fn walk(kind: FaultKind) {
    test_log::capture();
    let world = World::new().await;
    let reference = {
        let folder = tempfile::tempdir().unwrap();
        let mut life = Life::begin(&world, folder.path(), None).await;
        life.live(&History::new(), usize::MAX).await;
        life.history
    };
    let last = reference.last().unwrap().0["arming"].join("\n");
    assert!(last.contains("'confirmed'") && last.contains("'disarmed'"), "{last}");
    let longest = reference.iter().map(|(_, texts)| texts.len()).max().unwrap();
    let is_all = std::env::var_os(ALL).is_some();
    let limit = if is_all { longest } else { STATEMENTS.min(longest) };
    let (mut lives, mut met) = (0, 0);
    for statement in 1..=limit {
        let reaches = |(_, texts): &(Rows, Vec<String>)| texts.len() >= statement;
        let operations = reference.iter().rposition(reaches).unwrap() + 1;
        for side in [Side::Before, Side::After] {
            for span in [Span::Once, Span::UntilEnded] {
                // Of lasting faults a third, unless all are asked for.
                if span == Span::UntilEnded && statement % 3 != 0 && !is_all {
                    continue;
                }
                let folder = tempfile::tempdir().unwrap();
                let fault = Fault { statement, kind, side, span };
                let mut life = Life::begin(&world, folder.path(), Some(fault)).await;
                life.live(&reference, operations).await;
                life.end().await;
                (lives, met) = (lives + 1, met + life.met);
            }
        }
    }
    println!("{kind:?}: {lives} lives, {met} faults, {limit} of {longest} statements");
    assert!(met > 4 * reference.len(), "{met}");
}

impl Life<'_> {
    /// Closes the database; what is in it then is what was there before.
    async fn end(&mut self) {
        let before = rows(&mut self.viewer).await;
        self.store.close().await;
        let store = open(&self.folder, &Faults::default()).await.unwrap();
        assert_eq!(rows(&mut self.viewer).await, before);
        for device in store.devices().await.unwrap() {
            let opened = store.device_with_secrets(&device.id).await.unwrap().unwrap();
            assert!(opened.auth.secret.opened().is_some());
        }
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_for_a_while_loses_nothing_at_any_statement() {
    walk(FaultKind::Full).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_io_error_that_passes_loses_nothing_at_any_statement() {
    walk(FaultKind::InputOutput).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_database_loses_nothing_at_any_statement() {
    walk(FaultKind::Busy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_loses_nothing_at_any_statement() {
    walk(FaultKind::ConnectionLost).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_could_not_be_opened_is_opened_once_the_fault_is_over() {
    let sides = [Side::Before, Side::After].into_iter().cycle();
    for (kind, side) in FaultKind::ALL.into_iter().zip(sides) {
        for statement in 1.. {
            let folder = tempfile::tempdir().unwrap();
            let faults = Faults::default();
            let fault = Fault { statement, kind, side, span: Span::Once };
            faults.plan(Some(fault));
            let first = open(folder.path(), &faults).await;
            let is_met = faults.is_met();
            assert_eq!(first.is_err(), is_met, "{fault:?}: {first:?}");
            faults.end();
            let store = open(folder.path(), &faults).await.unwrap();
            let enrolment = devices::tests::enrolment("a");
            devices::enrol(&store, NOW, enrolment, devices::tests::SECRETS).await.unwrap();
            assert_eq!(store.devices().await.unwrap().len(), 1);
            if !is_met {
                assert!(statement > 20, "{statement}: migrations are statements too");
                break;
            }
        }
    }
}

/// Environment variable that names a small file system of its own.
const SMALL: &str = "FUMOCAST_SMALL_FILE_SYSTEM";

/// The real thing: a file system of 4 MiB, in a mount namespace of the test.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_system_that_was_full_is_written_again_once_there_is_room() {
    let Some(folder) = std::env::var_os(SMALL).map(PathBuf::from) else {
        return on_a_small_file_system(
            "a_file_system_that_was_full_is_written_again_once_there_is_room",
        );
    };
    let store = open(&folder, &Faults::default()).await.unwrap();
    let health = Health::default();
    let is_healthy = async || {
        health.record(Mono(0), &store.probe().await);
        health.is_good(Mono(0))
    };
    let mut enrolled = 0;
    let enrol = async |number: u32| {
        let enrolment = devices::tests::enrolment(&format!("device-{number}"));
        devices::enrol(&store, NOW, enrolment, devices::tests::SECRETS).await
    };
    for round in 0..3 {
        assert!(is_healthy().await);
        enrol(enrolled).await.unwrap();
        enrolled += 1;
        let filler = folder.join("filler");
        let full = (0..).find(|_| {
            let mut file =
                std::fs::File::options().create(true).append(true).open(&filler).unwrap();
            std::io::Write::write_all(&mut file, &[7; 4_096]).is_err()
        });
        assert!(full.is_some());
        // What has been allocated before may still be written.
        while enrol(enrolled).await.is_ok() {
            enrolled += 1;
        }
        assert!(enrol(enrolled).await.is_err(), "{round}");
        assert!(!is_healthy().await, "{round}");
        assert_eq!(store.devices().await.unwrap().len(), enrolled as usize, "{round}");
        std::fs::remove_file(&filler).unwrap();
    }
    assert!(is_healthy().await);
    enrol(enrolled).await.unwrap();
    store.close().await;
    let store = open(&folder, &Faults::default()).await.unwrap();
    assert_eq!(store.devices().await.unwrap().len(), enrolled as usize + 1);
}

/// Runs a test of this file again with [`SMALL`] set; where the system forbids it, it is skipped.
fn on_a_small_file_system(test: &str) {
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        "mount -t tmpfs -o size=4m none \"${SMALL}\" || exit 111\n\
         exec \"$0\" --exact \"$1\" --nocapture"
    );
    let name = format!("{}::{test}", module_path!().split_once("::").unwrap().1);
    let ran = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
        .arg(std::env::current_exe().unwrap())
        .arg(&name)
        .env(SMALL, folder.path())
        .output();
    let Ok(output) = ran else { return println!("skipped: there is no `unshare`") };
    let text = String::from_utf8_lossy(&output.stdout);
    match output.status.code() {
        // As `unshare` and the script say it.
        Some(1 | 111) if !text.contains("running 1 test") => {
            println!("skipped: a file system cannot be mounted here");
        }
        _ => {
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{text}{errors}");
            assert!(text.contains("1 passed"), "{name}: {text}");
        }
    }
}
