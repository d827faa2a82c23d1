//! Drives the agent: one input, then all of its outputs, then the next input.

use std::{collections::BTreeSet, io, net::UdpSocket, path::PathBuf, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use proto::{
    crypto,
    dm::{auth::Secret, fumo::UpdateRequest},
    time::Mono,
    trust::bundle::MAX_HEAD,
    tune_in::TuneIn,
};
use thiserror::Error;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc::{Receiver, UnboundedReceiver, UnboundedSender, unbounded_channel},
};

use super::{
    clock::Clock,
    control::{self, Answer, Asked, Request},
    directory::{DataDirectory, OpenError},
    http::{Answered, Certificates, Http, HttpError, PlainHttp},
    installer::{Hook, HookError, HookExit},
    multicast::{Channel, Channels},
    notifications::Notifications,
    sensors::{Link, Sensors},
    storage::{Completion, Storage},
    user::Front,
    wiring::{self, Beside, Origin, RestoreError, Wiring},
};
use crate::{
    acceptance::{Kind, Limits, Refusal},
    agent::{self, Agent, FetchError, Fetched},
    components::{Call, Deployed},
    config::Config,
    dm::{
        self,
        client::{Failure, Post},
    },
    installer::{InstallOutcome, InstallRequest, MAX_VERSION_BYTES},
    suspension::SuspendReason,
    symbols::{ObjectLayout, StorageError},
    user::{Question, Reply},
};

/// Stands between the socket and the agent: what it does not admit was never received.
///
/// The seam at which a lab draws losses and counts what was heard.
pub trait Tap: Send {
    /// Returns whether the datagram goes on to the agent.
    fn admit(&mut self, datagram: &[u8]) -> bool;
}

/// Admits every datagram.
#[derive(Debug, Clone, Copy, Default)]
pub struct AdmitAll;

impl Tap for AdmitAll {
    fn admit(&mut self, _: &[u8]) -> bool {
        true
    }
}

/// What a lab may ask for beyond the configuration.
pub struct Options {
    /// Stands between the socket and the agent.
    pub tap: Box<dyn Tap>,
    /// A channel to be on although nothing is armed: the agent gets its datagrams all the same.
    pub listen: Option<Channel>,
}

impl Default for Options {
    fn default() -> Self {
        Self { tap: Box::new(AdmitAll), listen: None }
    }
}

/// How a run ended. What was received is synced in each case but the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// SIGTERM.
    Terminated,
    /// SIGINT.
    Interrupted,
    /// The storage cannot be relied on; the next start goes on from what is synced.
    Storage(StorageError),
}

/// Why the receiver cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Data(#[from] OpenError),
    /// The agent cannot go on from what it holds.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The factory root cannot be read.
    #[error("`local.root` does not do: cannot read {path}")]
    RootFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A field that the configuration could not judge.
    #[error("`{field}` does not do: {problem}")]
    Field {
        /// The field.
        field: &'static str,
        /// Why.
        problem: String,
    },
    /// The system refuses a thread, a socket or a signal.
    #[error("cannot {attempted}")]
    System {
        /// What was attempted.
        attempted: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// Runs the device until it is told to stop.
///
/// # Errors
///
/// [`StartError`] when it cannot begin.
pub fn run(config: &Config, front: Front, options: Options) -> Result<End, StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("start the runtime"))?;
    let end = runtime.block_on(run_device(config, front, options));
    // A message or an installer that is on its way is not waited for: it is taken up again.
    runtime.shutdown_background();
    end
}

async fn run_device(config: &Config, front: Front, options: Options) -> Result<End, StartError> {
    let terminate = handler(SignalKind::terminate())?;
    let interrupt = handler(SignalKind::interrupt())?;
    check_interface(config)?;
    let directory = DataDirectory::open(&config.local.data)?;
    let agent = start_agent(config, &directory)?;
    let objects = directory.objects();
    let asked = control::listen(&DataDirectory::control_socket(directory.path()))
        .map_err(system("listen on the control socket"))?;
    let (storage, completions) =
        Storage::start(directory).map_err(system("start the storage thread"))?;
    let (events, happened) = unbounded_channel();
    let plain = if config.server.insecure_http { PlainHttp::Anywhere } else { PlainHttp::Loopback };
    let mut channels = Channels::new(config.local.interface);
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
    let effects = Effects {
        storage,
        objects,
        wiring: Wiring::default(),
        http,
        hook: Hook::new(config.local.hook.clone()),
        user: front,
        tuned_in: BTreeSet::new(),
        listen: options.listen,
        events,
    };
    let notifications = Notifications::open(config.local.notify, config.local.notify_http)
        .await
        .map_err(system("listen for notifications"))?;
    let mut inputs = Inputs { completions, happened, asked, notifications, terminate, interrupt };
    notify(&[sd_notify::NotifyState::Ready]);
    let mut shell = Shell {
        clock: Clock,
        agent,
        channels,
        effects,
        tap: options.tap,
        sensors: sensors(config),
        look: Look { every: config.local.sensor_interval, next: Clock.now().mono },
    };
    let end = shell.drive(&mut inputs).await;
    if !matches!(end, End::Storage(_)) {
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
    tap: Box<dyn Tap>,
    sensors: Sensors,
    look: Look,
}

/// When the sensors are read.
struct Look {
    every: Duration,
    next: Mono,
}

/// Where inputs come from, besides the channels.
struct Inputs {
    completions: UnboundedReceiver<Completion>,
    happened: UnboundedReceiver<Event>,
    asked: Receiver<Asked>,
    notifications: Notifications,
    terminate: Signal,
    interrupt: Signal,
}

/// What became of work that ran beside the loop.
enum Event {
    Posted(Result<Answered, HttpError>),
    Installed(Result<HookExit, HookError>),
    Version(Result<String, HookError>),
    Components(Result<Vec<Deployed>, HookError>),
    UserReplied(u64, Reply),
    Fetched(Result<Fetched, FetchError>),
    Notified(bool),
}

/// What the outputs act on.
struct Effects {
    storage: Storage,
    objects: PathBuf,
    wiring: Wiring,
    http: Http,
    hook: Hook,
    user: Front,
    tuned_in: BTreeSet<Session>,
    listen: Option<Channel>,
    events: UnboundedSender<Event>,
}

/// A FLUTE session on its channel: a channel is left with its last session.
type Session = (Channel, proto::ids::Tsi);

impl Shell {
    async fn drive(&mut self, inputs: &mut Inputs) -> End {
        loop {
            if let Some(error) = self.drain() {
                return End::Storage(error);
            }
            let deadline = self.agent.deadline(self.clock.now());
            tokio::select! {
                batch = self.channels.receive() => match batch {
                    Ok(batch) => {
                        let now = self.clock.now();
                        for (source, datagram) in batch.datagrams() {
                            if self.tap.admit(datagram) {
                                let (channel, source) = (batch.channel.group, source.ip());
                                self.agent.handle_datagram(now, channel, source, datagram);
                            }
                        }
                    }
                    Err(error) => tracing::warn!(%error, "failed to receive"),
                },
                Some(completion) = inputs.completions.recv() => {
                    let now = self.clock.now();
                    self.effects.wiring.complete(now, &mut self.agent, completion);
                }
                octets = inputs.notifications.receive() => {
                    self.agent.handle_notification(self.clock.now(), &octets);
                }
                () = self.clock.sleep_until(Some(self.look.next)) => self.look_around(),
                Some(event) = inputs.happened.recv() => self.handle_event(event),
                Some(asked) = inputs.asked.recv() => self.handle_request(asked),
                () = self.clock.sleep_until(deadline) => {
                    self.agent.handle_timeout(self.clock.now());
                    self.effects.join_wanted(&mut self.channels);
                }
                _ = inputs.terminate.recv() => return End::Terminated,
                _ = inputs.interrupt.recv() => return End::Interrupted,
            }
        }
    }

    /// Does all that the agent wants done; returns why it wants to stop, when it does.
    fn drain(&mut self) -> Option<StorageError> {
        while let Some(output) = self.agent.poll_output(self.clock.now()) {
            match self.effects.wiring.command(output) {
                Ok(command) => self.effects.storage.send(command),
                Err(beside) => {
                    let stop = self.effects.perform(*beside, &mut self.channels);
                    if stop.is_some() {
                        return stop;
                    }
                }
            }
        }
        None
    }

    /// Breaks off the DM session that goes on, unless the server lets that take too long.
    async fn shut_down(&mut self, inputs: &mut Inputs) {
        notify(&[sd_notify::NotifyState::Stopping]);
        let now = self.clock.now();
        self.agent.shut_down(now);
        let until = now.mono + LEAVE_TIME;
        while self.agent.is_in_session() && self.drain().is_none() {
            tokio::select! {
                Some(completion) = inputs.completions.recv() => {
                    let now = self.clock.now();
                    self.effects.wiring.complete(now, &mut self.agent, completion);
                }
                Some(event) = inputs.happened.recv() => self.handle_event(event),
                () = self.clock.sleep_until(Some(until)) => return,
                _ = inputs.terminate.recv() => return,
                _ = inputs.interrupt.recv() => return,
            }
        }
    }

    /// Syncs what was received; waits for everything that was asked of the storage.
    fn stop(mut self) {
        self.agent.handle_shutdown();
        if let Some(error) = self.drain() {
            tracing::error!(%error, "failed to store what was received last");
        }
        drop(self.effects.storage.stop());
    }

    /// Reads the sensors when it is time: a sleep may end early.
    fn look_around(&mut self) {
        let now = self.clock.now();
        if now.mono >= self.look.next {
            self.look.next = now.mono + self.look.every;
            self.agent.handle_readings(now, self.sensors.read());
        }
    }

    fn handle_event(&mut self, event: Event) {
        let now = self.clock.now();
        match event {
            Event::Posted(Ok(answered)) => self.agent.handle_response(now, &answered),
            Event::Posted(Err(error)) => {
                tracing::info!(error = &error as &dyn std::error::Error, "no DM answer");
                self.agent.handle_post_failure(now, failure(&error));
            }
            Event::Installed(outcome) => {
                tracing::info!(?outcome, "the installer hook has ended");
                self.agent.handle_installed(now, installed(&outcome));
            }
            Event::Version(version) => {
                if let Err(error) = &version {
                    tracing::warn!(%error, "the installed version is unknown");
                }
                self.agent.handle_version(now, version.ok());
            }
            Event::Components(deployed) => {
                if let Err(error) = &deployed {
                    tracing::warn!(%error, "the installed components are unknown");
                }
                self.agent.handle_components(now, deployed.ok());
            }
            Event::Fetched(fetched) => self.agent.handle_fetched(now, fetched),
            Event::Notified(arrived) => self.agent.handle_install_notified(now, arrived),
            Event::UserReplied(ticket, reply) => {
                self.agent.handle_user_reply(now, ticket, reply);
            }
        }
    }

    /// The front of the bundle is judged at once; what follows is fetched like any package.
    fn import(&mut self, path: &str) -> Answer {
        let refused = |reason: String| Answer::Refused { reason };
        let head = std::fs::File::open(path).and_then(|file| {
            let mut head = Vec::new();
            let limit = u64::try_from(MAX_HEAD).unwrap_or(u64::MAX);
            io::Read::read_to_end(&mut io::Read::take(file, limit), &mut head).map(|_| head)
        });
        match head {
            Err(error) => refused(format!("cannot read {path}: {error}")),
            Ok(head) => match self.agent.import(self.clock.now(), path, &head) {
                Ok(version) => Answer::Version { version },
                Err(Refusal { result, reason, detail }) => {
                    refused(format!("{result} {reason}: {detail}"))
                }
            },
        }
    }

    fn handle_request(&mut self, asked: Asked) {
        let now = self.clock.now();
        let answer = match asked.request {
            Request::Status => match serde_json::to_value(self.agent.status()) {
                Ok(status) => Answer::Status { status },
                Err(error) => Answer::Refused { reason: error.to_string() },
            },
            Request::CheckIn => {
                self.agent.check_in(now);
                Answer::Done
            }
            Request::Notified { push } => match BASE64_STANDARD.decode(push) {
                Ok(octets) => {
                    self.agent.handle_notification(now, &octets);
                    Answer::Done
                }
                Err(_) => Answer::Refused { reason: "`push` is not base64".to_owned() },
            },
            Request::Import { path } => self.import(&path),
            Request::AskForUpdate { asker, object, data } => {
                self.ask_for_update(&asker, object, data)
            }
            Request::Suspend { reason } => self.handle_reason(&reason, Change::Begins),
            Request::Resume { reason } => self.handle_reason(&reason, Change::Ends),
        };
        if asked.answer.send(answer).is_err() {
            tracing::debug!("who asked has gone");
        }
    }
}

impl Shell {
    /// The device has one firmware object, so a request is about that one or about all.
    fn ask_for_update(&mut self, asker: &str, object: Option<String>, data: String) -> Answer {
        let refused = |reason: String| Answer::Refused { reason };
        let asker = match asker.parse() {
            Ok(asker) => asker,
            Err(error) => return refused(format!("{error}")),
        };
        let known = self.agent.firmware_object();
        if object.as_ref().is_some_and(|object| *object != known) {
            return refused(format!("the device's firmware object is {known}"));
        }
        if data.len() > MAX_REQUEST_DATA {
            return refused(format!("the text has more than {MAX_REQUEST_DATA} octets"));
        }
        self.agent.request_update(self.clock.now(), UpdateRequest { asker, object, data });
        Answer::Done
    }
}

/// Whether a reason to rest begins or ends.
#[derive(Debug, Clone, Copy)]
enum Change {
    Begins,
    Ends,
}

impl Shell {
    /// The user's wish is one; all else is what a program on the device knows of the world.
    fn handle_reason(&mut self, reason: &str, change: Change) -> Answer {
        let now = self.clock.now();
        if reason == SuspendReason::User.as_str() {
            match change {
                Change::Begins => self.agent.handle_suspend(now, SuspendReason::User),
                Change::Ends => self.agent.handle_resume(now, SuspendReason::User),
            }
            return Answer::Done;
        }
        match (reason.parse(), change) {
            (Ok(told), Change::Begins) => self.agent.condition_began(now, told),
            (Ok(told), Change::Ends) => self.agent.condition_ended(now, told),
            (Err(error), _) => return Answer::Refused { reason: format!("{error}") },
        }
        Answer::Done
    }
}

/// How long a process that was told to stop waits for its server to take leave.
const LEAVE_TIME: Duration = Duration::from_secs(2);

/// Octets of text that go with a request for an update.
const MAX_REQUEST_DATA: usize = 256;

impl Effects {
    /// Returns why the agent wants to stop, when that is what it wants.
    fn perform(&mut self, beside: Beside, channels: &mut Channels) -> Option<StorageError> {
        match beside {
            Beside::Join(tune_in) => {
                self.tuned_in.insert(session(&tune_in));
                self.join_wanted(channels);
            }
            Beside::Leave(tune_in) => self.leave(&tune_in, channels),
            Beside::ReadVersion => self.read_version(),
            Beside::Install(layout, request) => self.install(&layout, &request),
            Beside::Components(call) => self.components(call),
            Beside::Fetch(fetch) => {
                let http = self.http.clone();
                self.beside(move || Event::Fetched(http.fetch(&fetch)));
            }
            Beside::Notify(url, body) => {
                let http = self.http.clone();
                self.beside(move || Event::Notified(http.notify_download(&url, &body)));
            }
            Beside::Ask(question) => self.ask(question),
            Beside::Post(post) => self.post(post),
            Beside::Stop(error) => return Some(error),
        }
        None
    }

    /// Joins what is tuned in and not joined; what fails is tried again at the next timeout.
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

    fn read_version(&self) {
        let hook = self.hook.clone();
        self.beside(move || Event::Version(hook.version(MAX_VERSION_BYTES)));
    }

    fn install(&self, layout: &ObjectLayout, request: &InstallRequest) {
        let hook = self.hook.clone();
        let image = self.objects.join(layout.directory_name()).join("image");
        let verb = request.verb();
        let request = serde_json::to_vec(request).expect("the request is plain data");
        self.beside(move || Event::Installed(hook.install(verb, &image, &request)));
    }

    fn components(&self, call: Call) {
        let hook = self.hook.clone();
        match call {
            Call::Read => self.beside(move || Event::Components(hook.components())),
            Call::Change(verb, request) => {
                let octets = serde_json::to_vec(&request).expect("the request is plain data");
                self.beside(move || {
                    Event::Installed(hook.change(verb.as_str(), request.id.as_str(), &octets))
                });
            }
        }
    }

    fn ask(&self, question: Question) {
        let user = self.user.clone();
        self.beside(move || Event::UserReplied(question.ticket, user.ask(&question)));
    }

    fn post(&self, post: Post) {
        let http = self.http.clone();
        self.beside(move || Event::Posted(http.post(&post)));
    }

    fn beside(&self, work: impl FnOnce() -> Event + Send + 'static) {
        let events = self.events.clone();
        tokio::task::spawn_blocking(move || {
            if events.send(work()).is_err() {
                tracing::debug!("nobody waits for this any more");
            }
        });
    }
}

fn start_agent(config: &Config, directory: &DataDirectory) -> Result<Agent, StartError> {
    let path = &config.local.root;
    let factory_root = std::fs::read(path)
        .map_err(|source| StartError::RootFile { path: path.clone(), source })?;
    let (boot_id, seed) = (Clock.boot_id(), u64::from_be_bytes(crypto::random()));
    let origin = Origin { factory_root, boot_id, seed };
    Ok(wiring::restore(Clock.now(), settings(config)?, origin, directory)?)
}

fn settings(config: &Config) -> Result<agent::Config, StartError> {
    let (device, server) = (&config.device, &config.server);
    let object = config.fumo_object.parse().map_err(|error: proto::wire::WireError| {
        StartError::Field { field: "fumo.object", problem: error.to_string() }
    })?;
    Ok(agent::Config {
        device_class: Kind { vendor: device.vendor, class: device.class },
        limits: Limits {
            max_block_symbols: config.local.max_block_symbols,
            max_memory_bytes: config.local.max_memory_bytes,
            max_storage_bytes: config.local.max_storage_bytes,
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
                    secret: Secret::for_kind(server.auth, &server.server_id, password.reveal()),
                    nonce: nonce.clone(),
                }),
            },
            object,
        },
        check_in: config.local.check_in,
        first_nonce: server.nonce.clone(),
        user: config.local.user.clone(),
        components: config.local.components,
    })
}

fn sensors(config: &Config) -> Sensors {
    let local = &config.local;
    let link = match &local.link {
        Some(name) => Link::Named(name.clone()),
        None if local.interface.is_loopback() => Link::Loopback,
        None => Link::Any,
    };
    Sensors::new(local.sensors.clone(), local.data.clone(), link)
}

/// An address that this machine does not have would otherwise show only when a window opens.
fn check_interface(config: &Config) -> Result<(), StartError> {
    let interface = config.local.interface;
    UdpSocket::bind((interface, 0)).map(drop).map_err(|error| StartError::Field {
        field: "local.interface",
        problem: format!("{interface} is no address of this machine: {error}"),
    })
}

fn session(tune_in: &TuneIn) -> Session {
    (Channel { group: tune_in.channel, source: Some(tune_in.source) }, tune_in.tsi)
}

fn failure(error: &HttpError) -> Failure {
    match *error {
        HttpError::Status { code, retry_after } => Failure::Http { status: code, retry_after },
        HttpError::Refused { .. } | HttpError::TooLarge | HttpError::Io(_) => Failure::Network,
    }
}

fn installed(outcome: &Result<HookExit, HookError>) -> InstallOutcome {
    match outcome {
        Ok(HookExit::Done) => InstallOutcome::Done,
        Ok(HookExit::RebootNeeded) => InstallOutcome::RebootNeeded,
        Ok(HookExit::Failed(_) | HookExit::TimedOut) | Err(_) => InstallOutcome::Failed,
    }
}

fn handler(kind: SignalKind) -> Result<Signal, StartError> {
    signal(kind).map_err(system("listen for signals"))
}

fn system(attempted: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::System { attempted, source }
}

/// Tells the service manager, when there is one.
pub(super) fn notify(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, state) {
        tracing::debug!(%error, "the service manager was not told");
    }
}
