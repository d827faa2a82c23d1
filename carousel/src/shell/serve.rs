//! `serve`: starts the image server that the management server controls.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clap::Args;
use sd_notify::NotifyState;
use tokio::{
    net::TcpListener,
    runtime,
    signal::unix::{SignalKind, signal},
};

use super::{
    control_http, files,
    session_manager::{SessionManager, SharedManager},
    udp::Leaving,
};
use crate::{
    failure::{Exit, Failure},
    pacing::Rate,
};

/// Characters of a token at least.
const MIN_TOKEN_OCTETS: usize = 16;

/// How to serve.
#[derive(Debug, Clone, Args)]
pub struct ServeOrder {
    /// TOML file with the options below; the environment and flags go before it
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Directory with one package directory for each campaign, named by the campaign's id
    #[arg(long, env = "CAROUSEL_DATA")]
    pub data: PathBuf,
    /// Address and port of the control API
    #[arg(long, env = "CAROUSEL_LISTEN")]
    pub listen: SocketAddr,
    /// Root document that every package must be signed under
    #[arg(long, env = "CAROUSEL_ROOT")]
    pub root: PathBuf,
    /// File with the token that callers must show (mode 0600, 16 characters or more)
    #[arg(long, env = "CAROUSEL_TOKEN_FILE")]
    pub token_file: PathBuf,
    #[command(flatten)]
    /// How packets leave the machine.
    pub leaving: Leaving,
    /// Bits of UDP payload in a second, for sessions that are not told otherwise
    #[arg(long, default_value = "40M", env = "CAROUSEL_RATE")]
    pub rate: Rate,
    /// Serve plain HTTP on other addresses than loopback, too
    #[arg(long)]
    pub insecure_http: bool,
}

/// Serves until a signal arrives.
///
/// # Errors
///
/// [`Failure`] that names what was refused.
pub fn run(order: ServeOrder) -> Result<(), Failure> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::io("asynchronous runtime", error))?;
    runtime.block_on(serve(order))
}

async fn serve(order: ServeOrder) -> Result<(), Failure> {
    if !order.listen.ip().is_loopback() && !order.insecure_http {
        let address = order.listen;
        return Err(Exit::Policy.because(format!(
            "listen {address}: plain HTTP is for loopback; --insecure-http overrides"
        )));
    }
    let token = read_token(&order.token_file)?;
    let ServeOrder { listen, data, root, leaving, rate, .. } = order;
    let manager = SessionManager::new(data.clone(), &root, leaving, rate)?;
    let listener = TcpListener::bind(listen).await;
    let what = format!("listen {listen}");
    let listener = listener.map_err(|error| Failure::network(what, error))?;
    let address = listener.local_addr().map_err(|error| Failure::network("listen", error))?;
    let shared = SharedManager::new(manager);
    let signals = |kind| signal(kind).map_err(|error| Failure::io("signal handler", error));
    let mut interrupt = signals(SignalKind::interrupt())?;
    let mut terminate = signals(SignalKind::terminate())?;
    tracing::info!(%address, data = %data.display(), "control API");
    // Without a service manager there is nobody to tell.
    sd_notify::notify(false, &[NotifyState::Ready]).ok();
    let router = control_http::router(shared.clone(), token);
    let ended = tokio::select! {
        ended = std::future::IntoFuture::into_future(axum::serve(listener, router)) => {
            ended.map_err(|error| Failure::network("control API", error))
        }
        () = shared.drive() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    shared.shut_down();
    ended
}

fn read_token(path: &Path) -> Result<Vec<u8>, Failure> {
    let octets = files::read_secret(path)?;
    let token = octets.trim_ascii().to_vec();
    if token.len() < MIN_TOKEN_OCTETS {
        let text = format!("{}: the token is shorter than 16 characters", path.display());
        return Err(Exit::Configuration.because(text));
    }
    Ok(token)
}
