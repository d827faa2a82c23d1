//! `serve`: starts the image server that the management server controls.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clap::Args;
use proto_http::{limits::Limits, open_files, server::Connections};
use sd_notify::NotifyState;
use tokio::{
    net::TcpListener,
    runtime,
    signal::unix::{SignalKind, signal},
};

use super::{
    control_http, files,
    rate::rate,
    session_manager::{SessionManager, SharedManager},
    udp::SendOptions,
};
use crate::{
    error::{CliError, ExitCode},
    flute::pacing::Rate,
};

/// Characters of a token at least.
const MIN_TOKEN_BYTES: usize = 16;

/// Options of the image server.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// TOML file with the options below; the environment and flags override it
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
    /// File with the bearer token of callers (mode 0600, 16 characters or more)
    #[arg(long, env = "CAROUSEL_TOKEN_FILE")]
    pub token_file: PathBuf,
    #[command(flatten)]
    /// Options of the sending socket.
    pub send_options: SendOptions,
    /// Bits of UDP payload per second of sessions without a rate of their own
    #[arg(long, default_value = "40M", env = "CAROUSEL_RATE", value_parser = rate)]
    pub rate: Rate,
    /// Allow plain HTTP on other addresses than loopback
    #[arg(long)]
    pub insecure_http: bool,
}

/// Serves until a signal arrives.
///
/// # Errors
///
/// [`CliError`] that names what was refused.
pub fn run(args: ServeArgs) -> Result<(), CliError> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CliError::io("asynchronous runtime", error))?;
    runtime.block_on(serve(args))
}

async fn serve(args: ServeArgs) -> Result<(), CliError> {
    if !args.listen.ip().is_loopback() && !args.insecure_http {
        let address = args.listen;
        return Err(ExitCode::Policy.with_message(format!(
            "listen {address}: plain HTTP is for loopback; --insecure-http overrides"
        )));
    }
    let token = read_token(&args.token_file)?;
    let ServeArgs { listen, data, root, send_options, rate, .. } = args;
    let manager = SessionManager::new(data.clone(), &root, send_options, rate)?;
    let listener = TcpListener::bind(listen).await;
    let what = format!("listen {listen}");
    let listener = listener.map_err(|error| CliError::network(what, error))?;
    let address = listener.local_addr().map_err(|error| CliError::network("listen", error))?;
    let shared = SharedManager::new(manager);
    let signals = |kind| signal(kind).map_err(|error| CliError::io("signal handler", error));
    let mut interrupt = signals(SignalKind::interrupt())?;
    let mut terminate = signals(SignalKind::terminate())?;
    tracing::info!(%address, data = %data.display(), "control API");
    // Without a service manager nobody is notified.
    sd_notify::notify(false, &[NotifyState::Ready]).ok();
    let limits = Limits::default().within(open_files::raise_limit());
    let connections = Connections::new(limits, &[]);
    tokio::select! {
        () = control_http::serve(listener, shared.clone(), token, connections) => {}
        () = shared.drive() => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    shared.shut_down();
    Ok(())
}

fn read_token(path: &Path) -> Result<Vec<u8>, CliError> {
    let octets = files::read_secret(path)?;
    let token = octets.trim_ascii().to_vec();
    if token.len() < MIN_TOKEN_BYTES {
        let text = format!("{}: the token is shorter than 16 characters", path.display());
        return Err(ExitCode::Configuration.with_message(text));
    }
    Ok(token)
}
