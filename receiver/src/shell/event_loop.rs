//! Event loop of the agent: one input, then all of its outputs, then the next input.

use std::{
    collections::BTreeSet,
    io,
    net::UdpSocket,
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use proto::{
    crypto,
    dm::{auth::Secret, fumo::UpdateRequest},
    time::{Mono, Now},
    trust::bundle::MAX_HEAD,
    tune_in::TuneIn,
};
use thiserror::Error;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{
        mpsc::{Receiver, UnboundedReceiver, UnboundedSender, channel, unbounded_channel},
        oneshot,
    },
};

use super::{
    clock::Clock,
    control::{self, Answer, PendingRequest, Request},
    data_dir::{DataDir, OpenError},
    fetch::Downloads,
    http::{Answered, Certificates, Http, HttpError, PlainHttp},
    installer::{Hook, HookError, HookExit},
    media::Media,
    multicast::{Channel, Channels},
    notifications::Notifications,
    own_services::PackageHosts,
    restore::{RestoreError, StartParameters, restore},
    sensors::{Link, Sensors},
    storage::Storage,
    user::Prompter,
};
use crate::{
    agent::{self, Agent, NetworkAnswer, NetworkRequest, Output},
    config::Config,
    dm::{
        self,
        client::{HttpRequest, TransportError},
    },
    store::{StorageError, commands::Completion},
    suspension::SuspendReason,
    update::{
        acceptance::{DeviceClass, Limits, Refusal},
        installer::{InstallOutcome, InstallerAnswer, InstallerCall, MAX_VERSION_BYTES},
    },
    user::{Question, Reply},
};

/// Filter between socket and agent; a rejected datagram counts as never received.
///
/// A lab uses it to simulate loss and to count received datagrams.
pub trait PacketFilter: Send {
    /// Returns whether the agent receives the datagram.
    fn accept(&mut self, datagram: &[u8]) -> bool;
}

/// Accepts every datagram.
#[derive(Debug, Clone, Copy, Default)]
pub struct AcceptAll;

impl PacketFilter for AcceptAll {
    fn accept(&mut self, _: &[u8]) -> bool {
        true
    }
}

/// Options of a lab beyond the configuration.
pub struct Options {
    /// Filter between socket and agent.
    pub filter: Box<dyn PacketFilter>,
    /// A channel to join although no campaign is armed.
    pub listen: Option<Channel>,
}

impl Default for Options {
    fn default() -> Self {
        Self { filter: Box::new(AcceptAll), listen: None }
    }
}

/// Reason why a run ended. Received symbols are synced in each case but the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitReason {
    /// SIGTERM.
    Terminated,
    /// SIGINT.
    Interrupted,
    /// The storage failed; the next start resumes from the synced state.
    Storage(StorageError),
}

/// Error that prevents a start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Data(#[from] OpenError),
    /// The agent cannot resume from the stored state.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The factory root cannot be read.
    #[error("invalid `receiver.trust_root`: cannot read {path}")]
    RootFile {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A field has a value that this machine cannot use.
    #[error("invalid `{field}`: {problem}")]
    Field {
        /// The field.
        field: &'static str,
        /// The cause.
        problem: String,
    },
    /// The system denies a thread, a socket or a signal.
    #[error("cannot {attempted}")]
    System {
        /// The attempted operation.
        attempted: &'static str,
        /// The cause.
        source: io::Error,
    },
}

/// Runs the agent until a signal or a storage failure ends it.
///
/// # Errors
///
/// [`StartError`] when it cannot start.
pub fn run(
    config: &Config,
    prompter: Prompter,
    options: Options,
) -> Result<ExitReason, StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("start the runtime"))?;
    let end = runtime.block_on(run_device(config, prompter, options));
    // Do not wait for an outstanding message or installer: the next start handles it.
    runtime.shutdown_background();
    end
}

async fn run_device(
    config: &Config,
    prompter: Prompter,
    options: Options,
) -> Result<ExitReason, StartError> {
    let terminate = handler(SignalKind::terminate())?;
    let interrupt = handler(SignalKind::interrupt())?;
    check_interface(config)?;
    let directory = DataDir::open(&config.receiver.data)?;
    let agent = start_agent(config, &directory)?;
    let objects = directory.objects();
    let requests = control::listen(&DataDir::control_socket(directory.path()))
        .map_err(system("listen on the control socket"))?;
    let (storage, completions) =
        Storage::start(directory).map_err(system("start the storage thread"))?;
    let (events, happened) = unbounded_channel();
    let plain = if config.server.insecure_http { PlainHttp::Anywhere } else { PlainHttp::Loopback };
    let mut channels = Channels::new(config.receiver.interface);
    if let Some(channel) = options.listen {
        channels.join(channel).map_err(|error| StartError::Field {
            field: "listen",
            problem: format!("{error}: {:?}", std::error::Error::source(&error)),
        })?;
    }
    let server = &config.server;
    let certificates = Certificates { ca: server.ca.clone(), own: server.certificate.clone() };
    let http = Http::with(plain, &certificates)
        .map_err(|error| StartError::Field { field: "server.ca", problem: error.to_string() })?;
    let hosts = PackageHosts::new(&server.url, &config.receiver.package_hosts);
    let effects = Effects {
        storage,
        objects,
        downloads: Downloads::new(http.clone(), hosts),
        http,
        media: Media::default(),
        hook: Hook::new(config.receiver.installer_hook.clone()),
        prompter,
        tuned_in: BTreeSet::new(),
        listen: options.listen,
        events,
    };
    let ports =
        Notifications::open(config.receiver.notification_udp, config.receiver.notification_http)
            .await
            .map_err(system("listen for notifications"))?;
    let (agent_queue, notifications) = channel(1);
    tokio::spawn(ports.forward(agent_queue));
    let mut inputs =
        Inputs { completions, happened, requests, notifications, terminate, interrupt };
    notify(&[sd_notify::NotifyState::Ready]);
    let mut shell = Shell {
        clock: Clock,
        agent,
        channels,
        effects,
        filter: options.filter,
        sensors: sensors(config),
        sensor_poll: SensorPoll {
            every: config.receiver.sensor_poll_interval,
            next: Clock.now().mono,
        },
    };
    let end = shell.drive(&mut inputs).await;
    if !matches!(end, ExitReason::Storage(_)) {
        shell.shut_down(&mut inputs).await;
    }
    shell.stop();
    Ok(end)
}

struct Shell {
    clock: Clock,
    agent: Agent,
    channels: Channels,
    effects: Effects,
    filter: Box<dyn PacketFilter>,
    sensors: Sensors,
    sensor_poll: SensorPoll,
}

/// Schedule of sensor readings.
struct SensorPoll {
    every: Duration,
    next: Mono,
}

/// Sources of inputs, besides the channels.
struct Inputs {
    completions: UnboundedReceiver<Completion>,
    happened: UnboundedReceiver<Event>,
    requests: Receiver<PendingRequest>,
    notifications: Receiver<Vec<u8>>,
    terminate: Signal,
    interrupt: Signal,
}

/// Result of work that ran outside of the loop.
enum Event {
    Posted(Result<Answered, HttpError>),
    Installer(InstallerAnswer),
    Network(NetworkAnswer),
    UserReplied(u64, Reply),
    BundleRead(BundleRead),
}

/// The front of a bundle on local media, and who asked for it.
struct BundleRead {
    path: String,
    head: io::Result<Vec<u8>>,
    answer: oneshot::Sender<Answer>,
}

/// Resources that the outputs act on.
struct Effects {
    storage: Storage,
    objects: PathBuf,
    http: Http,
    downloads: Downloads,
    media: Media,
    hook: Hook,
    prompter: Prompter,
    tuned_in: BTreeSet<FluteSession>,
    listen: Option<Channel>,
    events: UnboundedSender<Event>,
}

/// A FLUTE session on its channel; a channel is left with its last session.
type FluteSession = (Channel, proto::ids::Tsi);

impl Shell {
    async fn drive(&mut self, inputs: &mut Inputs) -> ExitReason {
        loop {
            let now = self.clock.now();
            if let Some(error) = self.drain(now) {
                return ExitReason::Storage(error);
            }
            let deadline = self.agent.deadline(now);
            tokio::select! {
                batch = self.channels.receive() => match batch {
                    Ok(batch) => {
                        let now = self.clock.now();
                        for (source, datagram) in batch.datagrams() {
                            if self.filter.accept(datagram) {
                                let (channel, source) = (batch.channel.group, source.ip());
                                self.agent.handle_datagram(now, channel, source, datagram);
                            }
                        }
                    }
                    Err(error) => tracing::warn!(%error, "failed to receive"),
                },
                Some(completion) = inputs.completions.recv() => {
                    let now = self.clock.now();
                    self.agent.handle_storage(now, completion);
                }
                Some(octets) = inputs.notifications.recv() => {
                    self.agent.handle_notification(self.clock.now(), &octets);
                }
                () = self.clock.sleep_until(Some(self.sensor_poll.next)) => self.poll_sensors(),
                Some(event) = inputs.happened.recv() => self.handle_event(event),
                Some(request) = inputs.requests.recv() => self.handle_request(request),
                () = self.clock.sleep_until(deadline) => {
                    self.agent.handle_timeout(self.clock.now());
                    self.effects.join_wanted(&mut self.channels);
                }
                _ = inputs.terminate.recv() => return ExitReason::Terminated,
                _ = inputs.interrupt.recv() => return ExitReason::Interrupted,
            }
        }
    }

    /// Performs all pending outputs; returns the storage error that ends the run, if any.
    fn drain(&mut self, now: Now) -> Option<StorageError> {
        while let Some(output) = self.agent.poll_output(now) {
            match output {
                Output::Storage(command) => self.effects.storage.send(command),
                Output::Network(request) => self.effects.request(request, &mut self.channels),
                Output::Installer(call) => self.effects.call_installer(call),
                Output::Prompt(question) => self.effects.ask(question),
                Output::Stop(error) => return Some(error),
            }
        }
        None
    }

    /// Aborts the open DM session, unless the server takes too long.
    async fn shut_down(&mut self, inputs: &mut Inputs) {
        notify(&[sd_notify::NotifyState::Stopping]);
        let now = self.clock.now();
        self.agent.shut_down(now);
        let until = now.mono + SHUTDOWN_TIMEOUT;
        while self.agent.is_in_session() && self.drain(self.clock.now()).is_none() {
            tokio::select! {
                Some(completion) = inputs.completions.recv() => {
                    let now = self.clock.now();
                    self.agent.handle_storage(now, completion);
                }
                Some(event) = inputs.happened.recv() => self.handle_event(event),
                () = self.clock.sleep_until(Some(until)) => return,
                _ = inputs.terminate.recv() => return,
                _ = inputs.interrupt.recv() => return,
            }
        }
    }

    /// Syncs the received symbols and waits for the storage.
    fn stop(mut self) {
        self.agent.handle_shutdown();
        if let Some(error) = self.drain(self.clock.now()) {
            tracing::error!(%error, "failed to store the last symbols");
        }
        drop(self.effects.storage.stop());
    }

    /// Reads the sensors when they are due: a sleep may end early.
    fn poll_sensors(&mut self) {
        let now = self.clock.now();
        if now.mono >= self.sensor_poll.next {
            self.sensor_poll.next = now.mono + self.sensor_poll.every;
            self.agent.handle_readings(now, self.sensors.read());
        }
    }

    fn handle_event(&mut self, event: Event) {
        let now = self.clock.now();
        match event {
            Event::Posted(Ok(answered)) => self.agent.handle_response(now, &answered),
            Event::Posted(Err(error)) => {
                tracing::info!(error = &error as &dyn std::error::Error, "DM request failed");
                self.agent.handle_post_failure(now, failure(&error));
            }
            Event::Installer(answer) => self.agent.handle_installer(now, answer),
            Event::Network(answer) => self.agent.handle_network(now, answer),
            Event::UserReplied(ticket, reply) => {
                self.agent.handle_user_reply(now, ticket, reply);
            }
            Event::BundleRead(read) => self.import(read),
        }
    }

    /// Verifies the head of a bundle at once; the remainder is fetched like any package.
    fn import(&mut self, BundleRead { path, head, answer }: BundleRead) {
        if answer.is_closed() {
            tracing::info!("import dropped: its client has disconnected");
            return;
        }
        let refused = |reason: String| Answer::Refused { reason };
        let outcome = match head {
            Err(error) => refused(format!("cannot read {path}: {error}")),
            Ok(head) => match self.agent.import(self.clock.now(), &path, &head) {
                Ok(version) => Answer::Version { version },
                Err(Refusal { result, reason, detail }) => {
                    refused(format!("{result} {reason}: {detail}"))
                }
            },
        };
        reply(answer, outcome);
    }

    fn handle_request(&mut self, pending: PendingRequest) {
        let now = self.clock.now();
        let answer = match pending.request {
            Request::Status => match serde_json::to_value(self.agent.status()) {
                Ok(status) => Answer::Status { status },
                Err(error) => Answer::Refused { reason: error.to_string() },
            },
            Request::CheckIn => {
                self.agent.check_in(now);
                Answer::Done
            }
            Request::DeliverNotification { push } => match BASE64_STANDARD.decode(push) {
                Ok(octets) => {
                    self.agent.handle_notification(now, &octets);
                    Answer::Done
                }
                Err(_) => Answer::Refused { reason: "`push` is not base64".to_owned() },
            },
            Request::Import { path } => {
                return self.effects.read_bundle(path, pending.answer);
            }
            Request::RequestUpdate { initiator, object, data } => {
                self.request_update(&initiator, object, data)
            }
            Request::Suspend { reason } => self.handle_reason(&reason, Edge::Begins),
            Request::Resume { reason } => self.handle_reason(&reason, Edge::Ends),
        };
        reply(pending.answer, answer);
    }
}

fn reply(client: oneshot::Sender<Answer>, answer: Answer) {
    if client.send(answer).is_err() {
        tracing::debug!("control client disconnected");
    }
}

impl Shell {
    /// Requests an update. The device has one FUMO object, so a request names that one or none.
    fn request_update(&mut self, initiator: &str, object: Option<String>, data: String) -> Answer {
        let refused = |reason: String| Answer::Refused { reason };
        let initiator = match initiator.parse() {
            Ok(initiator) => initiator,
            Err(error) => return refused(format!("{error}")),
        };
        let known = self.agent.firmware_object();
        if object.as_ref().is_some_and(|object| *object != known) {
            return refused(format!("the device's firmware object is {known}"));
        }
        if data.len() > MAX_REQUEST_DATA {
            return refused(format!("the text has more than {MAX_REQUEST_DATA} octets"));
        }
        self.agent.request_update(self.clock.now(), UpdateRequest { initiator, object, data });
        Answer::Done
    }
}

/// Begin or end of a suspend reason.
#[derive(Debug, Clone, Copy)]
enum Edge {
    Begins,
    Ends,
}

impl Shell {
    /// Begins or ends a suspend reason: that of the user, or an external condition.
    fn handle_reason(&mut self, reason: &str, edge: Edge) -> Answer {
        let now = self.clock.now();
        if reason == SuspendReason::User.as_str() {
            match edge {
                Edge::Begins => self.agent.handle_suspend(now, SuspendReason::User),
                Edge::Ends => self.agent.handle_resume(now, SuspendReason::User),
            }
            return Answer::Done;
        }
        match (reason.parse(), edge) {
            (Ok(condition), Edge::Begins) => self.agent.condition_began(now, condition),
            (Ok(condition), Edge::Ends) => self.agent.condition_ended(now, condition),
            (Err(error), _) => return Answer::Refused { reason: format!("{error}") },
        }
        Answer::Done
    }
}

/// Time that a stopping process waits for the end of its DM session.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// Octets of text in an update request.
const MAX_REQUEST_DATA: usize = 256;

impl Effects {
    /// Executes a request to the network.
    fn request(&mut self, request: NetworkRequest, channels: &mut Channels) {
        match request {
            NetworkRequest::Join(tune_in) => {
                self.tuned_in.insert(session(&tune_in));
                self.join_wanted(channels);
            }
            NetworkRequest::Leave(tune_in) => self.leave(&tune_in, channels),
            NetworkRequest::Fetch(range) => {
                let downloads = self.downloads.clone();
                downloads.begin();
                self.spawn(move || Event::Network(NetworkAnswer::Fetched(downloads.fetch(&range))));
            }
            NetworkRequest::StopFetch => self.downloads.stop(),
            NetworkRequest::Notify(url, body) => {
                let downloads = self.downloads.clone();
                self.spawn(move || {
                    Event::Network(NetworkAnswer::Notified(downloads.notify(&url, &body)))
                });
            }
            NetworkRequest::SendDmMessage(post) => self.post(post),
        }
    }

    /// Joins the channels that are tuned in and not joined; failures are retried at the next
    /// timeout.
    fn join_wanted(&self, channels: &mut Channels) {
        for (channel, _) in &self.tuned_in {
            if let Err(error) = channels.join(*channel) {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, group = %channel.group, "failed to join");
            }
        }
    }

    fn leave(&mut self, tune_in: &TuneIn, channels: &mut Channels) {
        let left = session(tune_in);
        self.tuned_in.remove(&left);
        let is_shared = self.tuned_in.iter().any(|(channel, _)| *channel == left.0);
        if !is_shared && self.listen != Some(left.0) {
            channels.leave(left.0);
        }
    }

    fn call_installer(&self, call: InstallerCall) {
        let (hook, objects) = (self.hook.clone(), self.objects.clone());
        self.spawn(move || Event::Installer(answer_of(&hook, &objects, call)));
    }

    /// Reads the front of a bundle. The medium may be slow, or never answer.
    fn read_bundle(&self, path: String, answer: oneshot::Sender<Answer>) {
        let media = self.media.clone();
        self.spawn(move || {
            let limit = u64::try_from(MAX_HEAD).unwrap_or(u64::MAX);
            let head = media.read_front(Path::new(&path), limit);
            Event::BundleRead(BundleRead { path, head, answer })
        });
    }

    fn ask(&self, question: Question) {
        let prompter = self.prompter.clone();
        self.spawn(move || Event::UserReplied(question.ticket, prompter.prompt(&question)));
    }

    fn post(&self, post: HttpRequest) {
        let http = self.http.clone();
        self.spawn(move || Event::Posted(http.post(&post)));
    }

    fn spawn(&self, work: impl FnOnce() -> Event + Send + 'static) {
        let events = self.events.clone();
        tokio::task::spawn_blocking(move || {
            if events.send(work()).is_err() {
                tracing::debug!("result dropped: the run has ended");
            }
        });
    }
}

fn start_agent(config: &Config, directory: &DataDir) -> Result<Agent, StartError> {
    let path = &config.receiver.trust_root;
    let factory_root = std::fs::read(path)
        .map_err(|source| StartError::RootFile { path: path.clone(), source })?;
    let (boot_id, seed) = (Clock.boot_id(), u64::from_be_bytes(crypto::random()));
    let origin = StartParameters { factory_root, boot_id, seed };
    Ok(restore(Clock.now(), settings(config)?, origin, directory)?)
}

fn settings(config: &Config) -> Result<agent::Config, StartError> {
    let (device, server) = (&config.device, &config.server);
    let object = config.fumo_object.parse().map_err(|error: proto::wire::WireError| {
        StartError::Field { field: "fumo.object", problem: error.to_string() }
    })?;
    Ok(agent::Config {
        device_class: DeviceClass { vendor: device.vendor, class: device.class },
        limits: Limits {
            max_block_symbols: config.receiver.max_block_symbols,
            max_memory_bytes: config.receiver.max_memory_bytes,
            max_storage_bytes: config.receiver.max_storage_bytes,
            ..Limits::default()
        },
        dm: dm::Settings {
            identity: dm::Identity::new(
                device.id.clone(),
                device.manufacturer.clone(),
                device.model.clone(),
            ),
            account: dm::Account {
                url: server.url.clone(),
                server_id: server.server_id.clone(),
                encoding: server.encoding,
                auth: server.auth,
                user: server.user.clone(),
                secret: Secret::for_kind(server.auth, &server.user, server.password.reveal()),
                server: server.server_proof.as_ref().map(|(password, nonce)| dm::ServerProof {
                    kind: server.server_auth,
                    secret: Secret::for_kind(
                        server.server_auth,
                        &server.server_id,
                        password.reveal(),
                    ),
                    nonce: nonce.clone(),
                }),
            },
            object,
        },
        check_in: config.receiver.poll_interval,
        first_nonce: server.nonce.clone(),
        user: config.receiver.user.clone(),
        components: config.receiver.components,
    })
}

fn sensors(config: &Config) -> Sensors {
    let settings = &config.receiver;
    let link = match &settings.link_interface {
        Some(name) => Link::Named(name.clone()),
        None if settings.interface.is_loopback() => Link::Loopback,
        None => Link::Any,
    };
    Sensors::new(settings.sysfs_root.clone(), settings.data.clone(), link)
}

/// Checks the interface at the start rather than when a window opens.
fn check_interface(config: &Config) -> Result<(), StartError> {
    let interface = config.receiver.interface;
    UdpSocket::bind((interface, 0)).map(drop).map_err(|error| StartError::Field {
        field: "receiver.interface",
        problem: format!("{interface} is not an address of this machine: {error}"),
    })
}

fn session(tune_in: &TuneIn) -> FluteSession {
    (Channel { group: tune_in.channel, source: Some(tune_in.source) }, tune_in.tsi)
}

fn failure(error: &HttpError) -> TransportError {
    match *error {
        HttpError::Status { code, retry_after } => {
            TransportError::Http { status: code, retry_after }
        }
        HttpError::Refused { .. } | HttpError::TooLarge | HttpError::Io(_) => {
            TransportError::Network
        }
    }
}

/// Runs the hook. Blocks until it has ended.
fn answer_of(hook: &Hook, objects: &Path, call: InstallerCall) -> InstallerAnswer {
    match call {
        InstallerCall::ReadVersion => {
            let version = hook.version(MAX_VERSION_BYTES);
            if let Err(error) = &version {
                tracing::warn!(%error, "installed version unknown");
            }
            InstallerAnswer::Version(version.ok())
        }
        InstallerCall::Install(layout, request) => {
            let image = objects.join(layout.directory_name()).join("image");
            let verb = request.verb();
            let request = serde_json::to_vec(&request).expect("the request is serialisable");
            ended(&hook.install(verb, &image, &request))
        }
        InstallerCall::ReadComponents => {
            let deployed = hook.components();
            if let Err(error) = &deployed {
                tracing::warn!(%error, "installed components unknown");
            }
            InstallerAnswer::Components(deployed.ok())
        }
        InstallerCall::ChangeComponent(verb, request) => {
            let octets = serde_json::to_vec(&request).expect("the request is serialisable");
            ended(&hook.change(verb.as_str(), request.id.as_str(), &octets))
        }
    }
}

fn ended(outcome: &Result<HookExit, HookError>) -> InstallerAnswer {
    tracing::info!(?outcome, "installer hook ended");
    InstallerAnswer::Ended(match outcome {
        Ok(HookExit::Done) => InstallOutcome::Done,
        Ok(HookExit::RebootNeeded) => InstallOutcome::RebootNeeded,
        Ok(HookExit::Failed(_) | HookExit::TimedOut) => InstallOutcome::Failed,
        Err(_) => InstallOutcome::NotRun,
    })
}

fn handler(kind: SignalKind) -> Result<Signal, StartError> {
    signal(kind).map_err(system("listen for signals"))
}

fn system(attempted: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::System { attempted, source }
}

/// Notifies the service manager, if there is one.
pub(super) fn notify(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, state) {
        tracing::debug!(%error, "service manager not notified");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::installer::Hook;

    #[test]
    fn a_hook_that_cannot_be_started_has_not_failed() {
        let run = |command: &[&str]| {
            let hook = Hook::new(command.iter().map(|&text| text.to_owned()).collect());
            ended(&hook.install("install", Path::new("image"), b"{}"))
        };
        for (command, outcome) in [
            (&["/nonexistent/hook"][..], InstallOutcome::NotRun),
            (&[], InstallOutcome::NotRun),
            (&["/bin/false"], InstallOutcome::Failed),
            (&["/bin/true"], InstallOutcome::Done),
            (&["/bin/sh", "-c", "exit 10"], InstallOutcome::RebootNeeded),
        ] {
            assert_eq!(run(command), InstallerAnswer::Ended(outcome), "{command:?}");
        }
    }
}
