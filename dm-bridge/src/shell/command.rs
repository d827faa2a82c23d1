//! Carries out what the command line asks for; each command is one call into [`crate::app`].

use std::{collections::BTreeMap, fmt::Write as _, io::Write as _, path::Path, time::Duration};

use proto::{
    crypto::random,
    dm::notification::UserMode,
    ids::{CampaignId, ClassId, DeviceId},
};
use serde::Serialize;
use tracing_subscriber::EnvFilter;

use super::{
    bootstrap,
    clock::Clock,
    data_dir::{DataDir, absolute, read_bundle, read_file, read_text, read_token},
    notify,
    server::{self, Settings},
    store::sqlite::{
        SqliteStore,
        sealing::{NewKey, Reseal},
    },
    tls::TlsFiles,
};
use crate::{
    api::{
        CampaignBody, CampaignDeviceBody, ComponentsBody, DeviceBody, PolicyOrderBody, ProfileBody,
    },
    app::{
        AppError, PlainHttp,
        campaigns::{self, Order, Selection},
        components,
        devices::{self, Enrolment, FreshSecrets},
        policy, status, time_args, update_requests,
    },
    campaign::{
        admission::Documents,
        model::{Delivery, Place, Software, Way},
        rollout::Policy,
    },
    cli::{
        CampaignVerb, CreateArgs, DataArg, DeviceVerb, EnrolArgs, FormArg, NotifyArgs, PolicyArgs,
        SecretsVerb, ServeArgs, TellArgs, Verb,
    },
    fleet::{device::Rest, profile::Profile, sealing::KeyId, store::FleetStore as _},
    notify::{Outcome, target::Target},
};

/// Carries out a command; returns what it prints.
///
/// # Errors
///
/// [`AppError`] with its exit code.
pub fn run(verb: Verb) -> Result<String, AppError> {
    start_logging();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| AppError::Configuration(format!("cannot start threads: {error}")))?;
    let result = runtime.block_on(execute(verb));
    // A call to an image server may still hang in its own thread.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// Logs to standard error, unless somebody in this process has set up logs already.
fn start_logging() {
    let filter = EnvFilter::try_from_env("FUMOCAST_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if logs.try_init().is_err() {
        tracing::debug!("logs are set up already");
    }
}

async fn execute(verb: Verb) -> Result<String, AppError> {
    match verb {
        Verb::Init(data) => init(&data).await,
        Verb::Device(verb) => device(verb).await,
        Verb::Campaign(verb) => campaign(verb).await,
        Verb::Profiles { data, form } => profiles(data.as_deref(), form),
        Verb::Components { device, data, form } => {
            let store = open(&data).await?;
            components::request_inventory(&store, Clock.now().utc, &device).await?;
            show_components(&store, &device, form).await
        }
        Verb::Component { operation, device, id, data, form } => {
            let store = open(&data).await?;
            let (now, what) = (Clock.now().utc, (operation, &id));
            components::queue_operation(&store, now, &device, what, &mut random::<16>).await?;
            show_components(&store, &device, form).await
        }
        Verb::Class { id, profile, data } => class(id, &profile, &data).await,
        Verb::Bootstrap(arguments) => bootstrap::run(*arguments).await,
        Verb::Secrets(SecretsVerb::Reseal { with_last, data, form }) => {
            reseal(with_last, &data, form).await
        }
        Verb::Serve(arguments) => serve(arguments).await,
    }
}

async fn init(data: &DataArg) -> Result<String, AppError> {
    DataDir::init(&data.data, data.secrets_key.as_deref(), random()).await?;
    Ok(format!("made {} with admin.token and fleet.db\n", data.data.display()))
}

/// Returns the directory that a command names.
pub(super) fn folder(data: &DataArg) -> Result<DataDir, AppError> {
    DataDir::open(&data.data, data.secrets_key.as_deref())
}

async fn open(data: &DataArg) -> Result<SqliteStore, AppError> {
    folder(data)?.store().await
}

async fn device(verb: DeviceVerb) -> Result<String, AppError> {
    match verb {
        DeviceVerb::Enrol(arguments) => enrol(arguments).await,
        DeviceVerb::Notify(arguments) => call(arguments).await,
        DeviceVerb::Suspend(arguments) => rest(arguments, Rest::Suspend).await,
        DeviceVerb::Resume(arguments) => rest(arguments, Rest::Resume).await,
        DeviceVerb::Policy(arguments) => set_policy(arguments).await,
        DeviceVerb::Profile { id, profile, data, form } => {
            let profile = folder(&data)?.profile(&profile)?;
            let store = open(&data).await?;
            devices::set_profile(&store, Clock.now().utc, &id, &profile).await?;
            show_device(&store, &id, form).await
        }
        DeviceVerb::OnRequest { id, choice, data, form } => {
            let store = open(&data).await?;
            update_requests::set_device(&store, Clock.now().utc, &id, choice).await?;
            show_device(&store, &id, form).await
        }
        DeviceVerb::List { data, form } => {
            let bodies: Vec<DeviceBody> =
                open(&data).await?.devices().await?.iter().map(DeviceBody::from).collect();
            Ok(print(form, &bodies, || device_table(&bodies)))
        }
        DeviceVerb::Show { id, data, form } => show_device(&open(&data).await?, &id, form).await,
    }
}

async fn show_device(
    store: &SqliteStore,
    id: &DeviceId,
    form: FormArg,
) -> Result<String, AppError> {
    let body = DeviceBody::from(&devices::show(store, id).await?);
    Ok(print(form, &body, || device_table(std::slice::from_ref(&body)) + &policy_lines(&body)))
}

async fn show_components(
    store: &SqliteStore,
    id: &DeviceId,
    form: FormArg,
) -> Result<String, AppError> {
    let device = devices::show(store, id).await?;
    let body = ComponentsBody::new(id, &device.components);
    Ok(print(form, &body, || component_lines(&body)))
}

fn component_lines(body: &ComponentsBody) -> String {
    let when = |seconds| time_args::format(proto::time::Utc::from_seconds(seconds));
    let read =
        body.read_utc.map_or_else(|| "never read".to_owned(), |at| format!("read {}", when(at)));
    let mut text = format!("{}  components {read}\n", body.device.as_str());
    if let Some(reason) = &body.refused {
        add(&mut text, format_args!("  not shown: {reason}\n"));
    }
    for held in &body.held {
        let state = held.state.as_deref().unwrap_or("-");
        let version = held.version.as_deref().unwrap_or("-");
        let name = held.name.as_deref().unwrap_or_default();
        add(&mut text, format_args!("  {:<32} {state:<10} {version:<12} {name}\n", held.id));
    }
    for work in &body.operations {
        let code = work.result_code.map_or_else(|| "-".to_owned(), |code| code.to_string());
        let why = work.result_text.as_deref().unwrap_or_default();
        let (operation, id, phase) = (&work.operation, &work.id, &work.phase);
        add(&mut text, format_args!("  {operation} {id}: {phase} {code} {why}\n"));
    }
    text
}

async fn rest(arguments: TellArgs, rest: Rest) -> Result<String, AppError> {
    let TellArgs { id, notify, data, form } = arguments;
    let store = open(&data).await?;
    devices::set_rest(&store, Clock.now().utc, &id, Some(rest)).await?;
    ask_to_come(&id, data, notify).await?;
    show_device(&store, &id, form).await
}

async fn set_policy(arguments: PolicyArgs) -> Result<String, AppError> {
    let PolicyArgs { device: TellArgs { id, notify, data, form }, settings } = arguments;
    let decisions = policy::collect_changes(settings)?;
    let store = open(&data).await?;
    policy::set(&store, Clock.now().utc, &id, &decisions).await?;
    ask_to_come(&id, data, notify).await?;
    show_device(&store, &id, form).await
}

async fn ask_to_come(id: &DeviceId, data: DataArg, to: Option<Target>) -> Result<(), AppError> {
    let Some(to) = to else { return Ok(()) };
    let (id, interactive) = (id.clone(), false);
    let (sms_gateway, sms_gateway_secret_file) = (None, None);
    call(NotifyArgs { id, data, to, sms_gateway, sms_gateway_secret_file, interactive }).await?;
    Ok(())
}

fn profiles(data: Option<&Path>, form: FormArg) -> Result<String, AppError> {
    let own = data.map(|path| DataDir::open(path, None)?.profiles()).transpose()?;
    let built_in = || {
        let all = Profile::built_in().into_iter();
        all.map(|(profile, about)| (profile, about.to_owned())).collect()
    };
    let all: Vec<(Profile, String)> = own.unwrap_or_else(built_in);
    let bodies: Vec<_> =
        all.iter().map(|(profile, about)| ProfileBody::new(profile, about)).collect();
    Ok(print(form, &bodies, || {
        let mut text = String::new();
        for body in &bodies {
            add(&mut text, format_args!("{:<12} {}\n", body.name, body.about));
            for (quirk, reason) in &body.quirks {
                add(&mut text, format_args!("    {quirk:<22} {reason}\n"));
            }
        }
        text
    }))
}

async fn class(id: ClassId, name: &str, data: &DataArg) -> Result<String, AppError> {
    let data = folder(data)?;
    let profile = data.profile(name)?;
    let store = data.store().await?;
    data.keep_class(id, name)?;
    let count = devices::set_class_profile(&store, Clock.now().utc, id, &profile).await?;
    Ok(format!("class {id} has profile {name}: {count} device(s) and those to come\n"))
}

#[derive(Serialize)]
struct ResealedBody {
    key: String,
    sealed: u64,
    removed: Vec<String>,
}

async fn reseal(with_last: bool, data: &DataArg, form: FormArg) -> Result<String, AppError> {
    let store = open(data).await?;
    let new = if with_last { NewKey::Last } else { NewKey::Made };
    let mut work = Reseal::begin(&store, new).await?;
    while work.step().await? {
        let (sealed, devices) = (work.sealed, work.devices);
        tracing::info!(sealed, devices, "sealing secrets anew");
    }
    let done = work.end().await?;
    let body = ResealedBody {
        key: done.key.to_string(),
        sealed: done.sealed,
        removed: done.removed.iter().map(KeyId::to_string).collect(),
    };
    Ok(print(form, &body, || {
        let removed =
            if body.removed.is_empty() { "none".to_owned() } else { body.removed.join(" ") };
        format!("sealed {} device(s) with key {}; keys let go: {removed}\n", body.sealed, body.key)
    }))
}

async fn enrol(arguments: EnrolArgs) -> Result<String, AppError> {
    let data = folder(&arguments.data)?;
    let profile = match &arguments.profile {
        Some(name) => data.profile(name)?,
        None => data.profile_of(arguments.class)?,
    };
    let store = data.store().await?;
    let enrolment = Enrolment {
        id: arguments.id,
        manufacturer: arguments.manufacturer,
        model: arguments.model,
        vendor: arguments.vendor,
        class: arguments.class,
        url: arguments.url,
        encoding: arguments.encoding,
        auth: arguments.auth,
        profile,
    };
    let secrets = FreshSecrets {
        password: random(),
        nonce: random(),
        server_password: random(),
        server_nonce: random(),
    };
    devices::enrol(&store, Clock.now().utc, enrolment, secrets).await
}

async fn call(arguments: NotifyArgs) -> Result<String, AppError> {
    let NotifyArgs { id, data, to, sms_gateway, sms_gateway_secret_file, interactive } = arguments;
    let store = open(&data).await?;
    let secret = sms_gateway_secret_file.map(|path| read_text(&path)).transpose()?;
    let way = notify::Way::open(&to, sms_gateway, secret).await?;
    let mode = if interactive { UserMode::Interactive } else { UserMode::Background };
    let session_id = u16::from_be_bytes(random::<2>()).max(1);
    let notice = devices::notice(&store, &id, mode, session_id).await?;
    match notify::send(&store, &id, &way, notice).await? {
        Outcome::Came { after } => {
            Ok(format!("{} came after {after} notification(s)\n", id.as_str()))
        }
        Outcome::Silent { after } => Err(AppError::Network(format!(
            "{} did not come after {after} notifications to {to}",
            id.as_str()
        ))),
    }
}

async fn campaign(verb: CampaignVerb) -> Result<String, AppError> {
    let now = Clock.now().utc;
    match verb {
        CampaignVerb::Create(arguments) => create(*arguments).await,
        CampaignVerb::Start { id, data, opens, closes, form } => {
            let window = (time_args::parse(&opens, now)?, time_args::parse(&closes, now)?);
            let store = open(&data).await?;
            campaigns::start(&store, now, id, window, &mut random::<16>).await?;
            show(&store, id, form).await
        }
        CampaignVerb::Stop { id, data, form } => {
            let store = open(&data).await?;
            campaigns::stop(&store, now, id).await?;
            show(&store, id, form).await
        }
        CampaignVerb::OnRequest { id, choice, data, form } => {
            let store = open(&data).await?;
            update_requests::set_campaign(&store, now, id, choice).await?;
            show(&store, id, form).await
        }
        CampaignVerb::Status { id: Some(id), data, form } => {
            let store = open(&data).await?;
            detail(&store, id, form).await
        }
        CampaignVerb::Status { id: None, data, form } => {
            let views = status::campaigns(&open(&data).await?).await?;
            let bodies: Vec<CampaignBody> = views.iter().map(CampaignBody::from).collect();
            Ok(print(form, &bodies, || bodies.iter().map(campaign_lines).collect()))
        }
    }
}

async fn create(arguments: CreateArgs) -> Result<String, AppError> {
    let store = open(&arguments.data).await?;
    let plain_http = plain_http(arguments.insecure_http);
    // Read it once, so that a wrong path shows here and not in the night.
    read_token(&arguments.carousel_token_file)?;
    let mut plan_headers = BTreeMap::new();
    for (component, path) in &arguments.plan_header {
        plan_headers.insert(*component, read_file(path)?);
    }
    let documents = Documents {
        roots: arguments.root.iter().map(|path| read_file(path)).collect::<Result<_, _>>()?,
        manifest: read_file(&arguments.manifest)?,
        campaign: read_file(&arguments.campaign)?,
        plan_headers,
    };
    let bundle_octets = match &arguments.package {
        None => 0,
        Some(path) => {
            let (head, octets) = read_bundle(path)?;
            if head.manifest != documents.manifest || head.campaign != documents.campaign {
                let text = format!("{} holds other documents", path.display());
                return Err(AppError::Policy(text));
            }
            octets
        }
    };
    let ways = ways(arguments.way, &arguments.fallback)?;
    let operation = arguments.operation;
    let software = arguments.component.map(|package| Software { package, operation });
    let order = Order {
        documents,
        place: Place {
            carousel_url: arguments.carousel,
            token_file: absolute(&arguments.carousel_token_file)?,
            group: arguments.group,
            port: arguments.port,
        },
        plain_http,
        delivery: Delivery { ways, bundle_octets, ask_user: arguments.ask_user, software },
        selection: selection(&arguments.devices)?,
        report_spread_seconds: arguments.report_spread,
        on_request: arguments.on_request,
    };
    let id = campaigns::create(&store, Clock.now().utc, order, &mut random::<16>).await?;
    if let Some(package) = &arguments.package {
        folder(&arguments.data)?.keep_package(id, package)?;
    }
    show(&store, id, arguments.form).await
}

/// The first way, and those that follow it.
fn ways(first: Way, others: &[String]) -> Result<Vec<Way>, AppError> {
    let mut ways = vec![first];
    for word in others.iter().filter(|word| *word != "none") {
        let way = word.parse()?;
        if ways.contains(&way) {
            return Err(AppError::Usage(format!("way {word} is there already")));
        }
        ways.push(way);
    }
    Ok(ways)
}

fn selection(text: &str) -> Result<Selection, AppError> {
    if text == "all" {
        return Ok(Selection::All);
    }
    let listed = match text.strip_prefix('@') {
        Some(path) => read_text(Path::new(path))?,
        None => text.replace(',', "\n"),
    };
    let names = listed.lines().map(str::trim).filter(|name| !name.is_empty());
    Ok(Selection::Named(names.map(str::parse).collect::<Result<_, _>>()?))
}

const fn plain_http(insecure: bool) -> PlainHttp {
    if insecure { PlainHttp::Anywhere } else { PlainHttp::LoopbackOnly }
}

async fn serve(arguments: ServeArgs) -> Result<String, AppError> {
    let client_ca = arguments.client_ca;
    let tls = arguments.tls_cert.zip(arguments.tls_key).map(|(certificate, key)| TlsFiles {
        certificate,
        key,
        client_ca,
    });
    let scheme = if tls.is_some() { "https" } else { "http" };
    let settings = Settings {
        data: folder(&arguments.data)?,
        listen: arguments.listen,
        tls,
        plain_http: plain_http(arguments.insecure_http),
        policy: Policy { silence: Duration::from_secs(arguments.silence) },
        admission: super::dm_sessions::Admission::default(),
    };
    let running = server::start(settings).await?;
    let line = format!("dm-bridge listens on {scheme}://{}\n", running.address);
    let mut out = std::io::stdout();
    out.write_all(line.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| AppError::Network(format!("cannot print the address: {error}")))?;
    running.until_signal().await?;
    Ok(String::new())
}

async fn show(store: &SqliteStore, id: CampaignId, form: FormArg) -> Result<String, AppError> {
    let body = CampaignBody::from(&status::campaign(store, id).await?);
    Ok(print(form, &body, || campaign_lines(&body)))
}

#[derive(Serialize)]
struct Detail {
    #[serde(flatten)]
    campaign: CampaignBody,
    device_list: Vec<CampaignDeviceBody>,
}

async fn detail(store: &SqliteStore, id: CampaignId, form: FormArg) -> Result<String, AppError> {
    let campaign = CampaignBody::from(&status::campaign(store, id).await?);
    let rows = status::devices_of(store, id).await?;
    let body = |(row, device): &(_, Option<_>)| CampaignDeviceBody::new(row, device.as_ref());
    let detail = Detail { campaign, device_list: rows.iter().map(body).collect() };
    Ok(print(form, &detail, || {
        format!("{}{}", campaign_lines(&detail.campaign), result_table(&detail.device_list))
    }))
}

fn print(form: FormArg, body: &impl Serialize, text: impl FnOnce() -> String) -> String {
    if form.json {
        let json = serde_json::to_string(body).expect("our own types have string keys");
        format!("{json}\n")
    } else {
        text()
    }
}

fn campaign_lines(body: &CampaignBody) -> String {
    let time = |seconds: Option<u64>| {
        seconds.map_or_else(
            || "-".to_owned(),
            |s| time_args::format(proto::time::Utc::from_seconds(s)),
        )
    };
    let mut text = format!(
        "{}  {}  version {}  sequence {}\n  window {} to {} on {}:{}\n",
        body.id,
        body.state,
        body.firmware_version,
        body.sequence,
        time(body.opens_utc),
        time(body.closes_utc),
        body.group,
        body.port,
    );
    let counts: Vec<_> = body.devices.iter().map(|(phase, n)| format!("{n} {phase}")).collect();
    add(&mut text, format_args!("  devices: {}\n", counts.join(", ")));
    if let Some(problem) = &body.problem {
        add(&mut text, format_args!("  problem: {problem}\n"));
    }
    text
}

fn result_table(bodies: &[CampaignDeviceBody]) -> String {
    let mut text = format!(
        "  {:<24} {:<10} {:<15} {:>6} {:<12} {}\n",
        "DEVICE", "WAY", "PHASE", "RESULT", "RUNS", "WHY"
    );
    for body in bodies {
        let code = body.result_code.map_or_else(|| "-".to_owned(), |code| code.to_string());
        let runs = body.firmware_version.as_deref().unwrap_or("-");
        let why = body.result_text.as_deref().unwrap_or_default();
        let (id, way, phase) = (body.id.as_str(), &body.way, &body.phase);
        add(
            &mut text,
            format_args!("  {id:<24} {way:<10} {phase:<15} {code:>6} {runs:<12} {why}\n"),
        );
    }
    text
}

fn device_table(bodies: &[DeviceBody]) -> String {
    let mut text = String::new();
    for body in bodies {
        let seen = body.last_seen_utc.map_or_else(
            || "never seen".to_owned(),
            |seconds| {
                format!("seen {}", time_args::format(proto::time::Utc::from_seconds(seconds)))
            },
        );
        let (id, maker, model) = (body.id.as_str(), &body.manufacturer, &body.model);
        let runs = body.firmware_version.as_deref().unwrap_or("-");
        let class = body.class_id;
        add(
            &mut text,
            format_args!("{id:<24} {maker} {model}  class {class}  runs {runs}  {seen}\n"),
        );
    }
    text
}

fn policy_lines(body: &DeviceBody) -> String {
    let mut text = String::new();
    for (node, PolicyOrderBody { value, owed, answer, updated_utc }) in &body.policy {
        let said = answer.map_or_else(|| "decided".to_owned(), |code| format!("answered {code}"));
        let at = time_args::format(proto::time::Utc::from_seconds(*updated_utc));
        let next = if *owed { ", waits for the next session" } else { "" };
        add(&mut text, format_args!("  policy {node}={value}: {said} {at}{next}\n"));
    }
    text
}

fn add(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more).expect("a String takes any text");
}
