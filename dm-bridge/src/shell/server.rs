//! The server: listener, tasks, shutdown.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, extract::ConnectInfo, http::Request};
use ipnet::IpNet;
use proto::crypto::sha256;
use proto_http::{
    body::RequestBody,
    open_files,
    server::Connections,
    transport::{self, Plain},
};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::{Notify, Semaphore, watch},
    task::JoinHandle,
};
use tower::ServiceExt as _;
use tower_http::timeout::TimeoutLayer;

use super::{
    data_dir::DataDir,
    health::PROBE_INTERVAL,
    http, reconciler,
    state::{Admission, Clock, DmSessions, ServerStatus, Shared},
    store::sqlite::SqliteStore,
    tls::{Peer, TlsFiles, Transport},
};
use crate::{
    app::{AppError, PlainHttp, message_handler::challenge_keys},
    campaign::reconcile::ReconcilePolicy,
    dm::Limits,
};

/// Time limit of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Time that requests in flight have after the stop signal.
const GRACE: Duration = Duration::from_secs(5);

/// Settings of a server.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its directory.
    pub data: DataDir,
    /// Listening address.
    pub listen: SocketAddr,
    /// Certificate files for TLS; `None` means plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Permission to listen beyond loopback without TLS.
    pub plain_http: PlainHttp,
    /// Policy of the reconciler.
    pub policy: ReconcilePolicy,
    /// Limits on connections, DM sessions and messages.
    pub admission: Admission,
    /// Proxies whose word on the address of a client counts.
    pub trusted_proxies: Vec<IpNet>,
}

/// A running server.
pub struct RunningServer {
    /// Listening address.
    pub address: SocketAddr,
    stop: watch::Sender<bool>,
    tasks: [JoinHandle<()>; 3],
    store: SqliteStore,
}

/// Binds the listener and starts the tasks.
///
/// # Errors
///
/// [`AppError::Policy`] for plain HTTP beyond loopback, [`AppError::Conflict`] or
/// [`AppError::Network`] when the address cannot be bound.
pub async fn start(settings: Settings) -> Result<RunningServer, AppError> {
    let listen = settings.listen;
    let is_open = settings.plain_http == PlainHttp::Anywhere || listen.ip().is_loopback();
    if settings.tls.is_none() && !is_open {
        return Err(AppError::Policy(format!(
            "plain HTTP on {listen} would carry secrets in the clear; listen on a loopback \
             address behind a TLS proxy, give --tls-cert and --tls-key, or use --insecure-http"
        )));
    }
    let tls = settings.tls.as_ref().map(TlsFiles::load).transpose()?;
    let store = settings.data.store().await?;
    let shared = shared(&store, settings)?;
    let before_secrets = shared.store.downloads_without_secret().await?;
    shared.status.downloads_without_secret.get_or_init(|| before_secrets);
    challenge_keys(&store, shared.clock.now().utc).await?;
    let listener =
        TcpListener::bind(listen).await.map_err(|error| cannot_listen(listen, &error))?;
    let address = listener.local_addr().map_err(|error| cannot_listen(listen, &error))?;
    let (stop, stopping) = watch::channel(false);
    let listening = match tls {
        Some(tls) => {
            let of_tls = |transport| transport;
            tokio::spawn(serve(listener, tls, of_tls, Arc::clone(&shared), stopping.clone()))
        }
        None => {
            let plain = |()| Transport::Plain;
            tokio::spawn(serve(listener, Plain, plain, Arc::clone(&shared), stopping.clone()))
        }
    };
    let tasks = [
        listening,
        tokio::spawn(probe_store(Arc::clone(&shared), stopping.clone())),
        tokio::spawn(reconciler::run(shared, stopping)),
    ];
    Ok(RunningServer { address, stop, tasks, store })
}

/// Returns the state of a server on its store.
fn shared(store: &SqliteStore, settings: Settings) -> Result<Arc<Shared>, AppError> {
    let Settings { data, tls, policy, admission, trusted_proxies, .. } = settings;
    let connections = admission.connections.within(open_files::raise_limit());
    let token_hash = sha256(&[data.token()?.as_bytes()]);
    Ok(Arc::new(Shared {
        store: Arc::new(store.clone()),
        clock: Clock,
        data,
        token_hash,
        policy,
        limits: Limits::default(),
        admission,
        dm_permits: Semaphore::new(admission.messages),
        sessions: DmSessions::new(admission.sessions),
        limiter: Mutex::default(),
        connections: Connections::new(connections, &trusted_proxies),
        wants_certificate: tls.is_some_and(|files| files.client_ca.is_some()),
        status: ServerStatus::default(),
        wake: Notify::new(),
    }))
}

/// Probes the store until `stop` is set.
async fn probe_store(shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    while !*stop.borrow() {
        let probed = shared.store.probe().await;
        shared.status.health.record(shared.clock.now().mono, &probed);
        tokio::select! {
            () = tokio::time::sleep(PROBE_INTERVAL) => {}
            changed = stop.changed() => if changed.is_err() { return },
        }
    }
}

/// Serves the routes to connections, which `of` gives their transport.
async fn serve<T: transport::Transport>(
    listener: TcpListener,
    below: T,
    of: fn(T::Info) -> Transport,
    shared: Arc<Shared>,
    stopping: watch::Receiver<bool>,
) {
    let router = router(&shared);
    let handle = move |peer: transport::Peer<T::Info>, mut request: Request<RequestBody>| {
        let peer = Peer { address: peer.address, transport: of(peer.info) };
        request.extensions_mut().insert(ConnectInfo(peer));
        let router = router.clone();
        async move { router.oneshot(request).await.unwrap_or_else(|never| match never {}) }
    };
    shared.connections.serve(listener, below, handle, stop(stopping)).await;
}

fn router(shared: &Arc<Shared>) -> Router {
    let timeout =
        TimeoutLayer::with_status_code(axum::http::StatusCode::REQUEST_TIMEOUT, REQUEST_TIMEOUT);
    http::router(shared).layer(timeout)
}

async fn stop(mut stopping: watch::Receiver<bool>) {
    // A dropped sender means stop too.
    if let Err(error) = stopping.wait_for(|stop| *stop).await {
        tracing::debug!(%error, "stop signal dropped");
    }
}

/// Handlers of SIGTERM and SIGINT, installed before a server listens: who reaches it can stop it.
#[derive(Debug)]
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Installs the handlers.
    ///
    /// # Errors
    ///
    /// [`AppError::Configuration`] when they cannot be installed.
    pub fn install() -> Result<Self, AppError> {
        let handler = |kind| {
            let failed =
                |error| AppError::Configuration(format!("cannot install signal handlers: {error}"));
            signal(kind).map_err(failed)
        };
        let (terminate, interrupt) = (SignalKind::terminate(), SignalKind::interrupt());
        Ok(Self { terminate: handler(terminate)?, interrupt: handler(interrupt)? })
    }
}

impl RunningServer {
    /// Waits for requests in flight, then stops.
    pub async fn stop(self) {
        if self.stop.send(true).is_err() {
            tracing::debug!("all tasks have ended already");
        }
        for mut task in self.tasks {
            if tokio::time::timeout(GRACE, &mut task).await.is_err() {
                task.abort();
            }
        }
        self.store.close().await;
    }

    /// Runs until a stop signal.
    pub async fn until(self, mut signals: StopSignals) {
        notify(&[sd_notify::NotifyState::Ready]);
        tokio::select! {
            _ = signals.terminate.recv() => {}
            _ = signals.interrupt.recv() => {}
        }
        notify(&[sd_notify::NotifyState::Stopping]);
        self.stop().await;
    }
}

fn notify(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, state) {
        tracing::debug!(%error, "service manager not notified");
    }
}

/// Maps a bind error; a port in use is a conflict, as it is for the image server.
fn cannot_listen(listen: SocketAddr, error: &std::io::Error) -> AppError {
    let text = format!("cannot listen on {listen}: {error}");
    if error.kind() == std::io::ErrorKind::AddrInUse {
        AppError::Conflict(text)
    } else {
        AppError::Network(text)
    }
}

#[cfg(test)]
mod tests;
