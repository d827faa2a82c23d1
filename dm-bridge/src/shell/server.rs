//! The server: listener, tasks, shutdown.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::Router;
use proto::crypto::sha256;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::{Notify, Semaphore, watch},
    task::JoinHandle,
};
use tower_http::timeout::TimeoutLayer;

use super::{
    api_http,
    clock::Clock,
    data_dir::DataDir,
    dm_sessions::{Admission, Sessions},
    metrics::Metrics,
    reconciler,
    state::Shared,
    store::sqlite::SqliteStore,
    tls::{Peer, PlainListener, TlsFiles, TlsListener},
};
use crate::{
    app::{AppError, PlainHttp},
    campaign::rollout::Policy,
    engine::Limits,
};

/// A request that takes longer is given up.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// How long requests under way may take after the order to stop.
const GRACE: Duration = Duration::from_secs(5);

/// What a server is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its directory.
    pub data: DataDir,
    /// Where to listen.
    pub listen: SocketAddr,
    /// What makes it speak TLS; plain HTTP without.
    pub tls: Option<TlsFiles>,
    /// Whether it may listen beyond loopback without TLS.
    pub plain_http: PlainHttp,
    /// What the desk has decided.
    pub policy: Policy,
    /// What it takes on.
    pub admission: Admission,
}

/// A server that answers.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    stop: watch::Sender<bool>,
    tasks: [JoinHandle<()>; 2],
    store: SqliteStore,
}

/// Binds and starts.
///
/// # Errors
///
/// [`AppError::Policy`] for plain HTTP beyond loopback, [`AppError::Conflict`] or
/// [`AppError::Network`] when the address
/// cannot be had.
pub async fn start(settings: Settings) -> Result<Running, AppError> {
    let Settings { data, listen, tls, plain_http, policy, admission } = settings;
    let is_open = plain_http == PlainHttp::Anywhere || listen.ip().is_loopback();
    if tls.is_none() && !is_open {
        return Err(AppError::Policy(format!(
            "plain HTTP on {listen} would carry secrets in the clear; listen on a loopback \
             address behind a TLS proxy, give --tls-cert and --tls-key, or use --insecure-http"
        )));
    }
    let acceptor = tls.as_ref().map(TlsFiles::load).transpose()?;
    let token_hash = sha256(&[data.token()?.as_bytes()]);
    let store = data.store().await?;
    let listener =
        TcpListener::bind(listen).await.map_err(|error| cannot_listen(listen, &error))?;
    let address = listener.local_addr().map_err(|error| cannot_listen(listen, &error))?;
    let shared = Arc::new(Shared {
        store: Arc::new(store.clone()),
        clock: Clock,
        data,
        token_hash,
        policy,
        limits: Limits::default(),
        admission,
        dm_permits: Semaphore::new(admission.messages),
        sessions: Sessions::new(admission.sessions),
        guard: Mutex::default(),
        wants_certificate: tls.is_some_and(|files| files.client_ca.is_some()),
        metrics: Metrics::new(),
        wake: Notify::new(),
    });
    let (stop, stopping) = watch::channel(false);
    let listening = match acceptor {
        Some(acceptor) => {
            let listener = TlsListener::start(listener, acceptor)
                .map_err(|error| cannot_listen(listen, &error))?;
            tokio::spawn(serve_tls(listener, Arc::clone(&shared), stopping.clone()))
        }
        None => tokio::spawn(serve_plain(listener, Arc::clone(&shared), stopping.clone())),
    };
    let tasks = [listening, tokio::spawn(reconciler::run(shared, stopping))];
    Ok(Running { address, stop, tasks, store })
}

async fn serve_plain(listener: TcpListener, shared: Arc<Shared>, stopping: watch::Receiver<bool>) {
    let service = router(&shared).into_make_service_with_connect_info::<Peer>();
    let served =
        axum::serve(PlainListener(listener), service).with_graceful_shutdown(stop(stopping)).await;
    ended(served);
}

async fn serve_tls(listener: TlsListener, shared: Arc<Shared>, stopping: watch::Receiver<bool>) {
    let service = router(&shared).into_make_service_with_connect_info::<Peer>();
    let served = axum::serve(listener, service).with_graceful_shutdown(stop(stopping)).await;
    ended(served);
}

fn router(shared: &Arc<Shared>) -> Router {
    let timeout =
        TimeoutLayer::with_status_code(axum::http::StatusCode::REQUEST_TIMEOUT, REQUEST_TIMEOUT);
    api_http::router(shared).layer(timeout)
}

async fn stop(mut stopping: watch::Receiver<bool>) {
    // A sender that is gone means the same.
    if let Err(error) = stopping.wait_for(|stop| *stop).await {
        tracing::debug!(%error, "the server's owner is gone");
    }
}

fn ended(served: std::io::Result<()>) {
    if let Err(error) = served {
        tracing::error!(%error, "the listener failed");
    }
}

impl Running {
    /// Lets requests under way end, then stops.
    pub async fn stop(self) {
        if self.stop.send(true).is_err() {
            tracing::debug!("both tasks have ended by themselves");
        }
        for mut task in self.tasks {
            if tokio::time::timeout(GRACE, &mut task).await.is_err() {
                task.abort();
            }
        }
        self.store.close().await;
    }

    /// Runs until SIGTERM or SIGINT.
    ///
    /// # Errors
    ///
    /// [`AppError::Configuration`] when signals cannot be heard.
    pub async fn until_signal(self) -> Result<(), AppError> {
        let heard = |error| AppError::Configuration(format!("cannot hear signals: {error}"));
        let mut terminate = signal(SignalKind::terminate()).map_err(heard)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(heard)?;
        notify(&[sd_notify::NotifyState::Ready]);
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        notify(&[sd_notify::NotifyState::Stopping]);
        self.stop().await;
        Ok(())
    }
}

fn notify(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, state) {
        tracing::debug!(%error, "the service manager was not told");
    }
}

/// A port that somebody else has is a conflict, as it is for the image server.
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
