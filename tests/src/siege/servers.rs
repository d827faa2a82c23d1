//! The servers under siege: one of HTTP and one of TLS, on one store.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use dm_bridge::shell::data_dir::DataDir;
use rcgen::{CertificateParams, KeyPair};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::Mutex,
    time::sleep,
};
use tokio_rustls::TlsConnector;

use crate::{
    lab::{
        folder::Folder,
        process::{Process, Role},
    },
    sessions::{
        client::{Http, Keys},
        fleet,
    },
};

const HTTP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
const TLS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8443);

/// The servers, with what is measured of them.
pub(super) struct Servers {
    running: [Measured; 2],
    tls: TlsConnector,
    token: String,
    /// Removed last.
    _folder: Folder,
}

/// A server and its anonymous memory.
struct Measured {
    process: Process,
    idle: u64,
    peak: u64,
}

/// A server as its clients connect to it.
#[derive(Clone)]
pub(super) enum Target {
    Plain,
    Tls(TlsConnector),
}

impl Target {
    pub(super) const fn address(&self) -> SocketAddr {
        match self {
            Self::Plain => HTTP,
            Self::Tls(_) => TLS,
        }
    }

    /// Connects from an address.
    pub(super) async fn connect(&self, from: Ipv4Addr) -> anyhow::Result<Http> {
        let stream = connect(from, self.address()).await?;
        stream.set_nodelay(true)?;
        match self {
            Self::Plain => Ok(Http::new(stream)),
            Self::Tls(connector) => {
                let name = ServerName::from(std::net::IpAddr::from(Ipv4Addr::LOCALHOST));
                Ok(Http::new(connector.connect(name, stream).await?))
            }
        }
    }
}

/// Connects from an address.
pub(super) async fn connect(from: Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    socket.connect(to).await
}

impl Servers {
    /// Enrols devices and starts the servers; `program` is the one of a file, if any.
    pub(super) async fn start(
        devices: u32,
        program: Option<&Path>,
    ) -> anyhow::Result<(Self, Arc<[Mutex<Keys>]>)> {
        let folder = Folder::new(None)?;
        let data = folder.path().join("data");
        let (_, keys) = fleet::enrol(&data, devices).await?;
        let token = DataDir::open(&data, None)?.token()?;
        let (certificate, key) =
            (folder.path().join("server.crt"), folder.path().join("server.key"));
        let pair = KeyPair::generate()?;
        let signed = CertificateParams::new(vec!["127.0.0.1".to_owned()])?.self_signed(&pair)?;
        std::fs::write(&certificate, signed.pem())?;
        std::fs::write(&key, pair.serialize_pem())?;
        let role = || match program {
            Some(program) => Ok(Role::of_program(program)),
            None => Role::new("dm-bridge"),
        };
        let serve = |address: SocketAddr| -> anyhow::Result<Role> {
            let role = role()?.args(["serve", "--data"]).arg(&data);
            Ok(role.args(["--listen", &address.to_string()]))
        };
        let plain = serve(HTTP)?.start(&folder.path().join("http.log"))?;
        let with_tls = serve(TLS)?.arg("--tls-cert").arg(&certificate).arg("--tls-key").arg(&key);
        let with_tls = with_tls.start(&folder.path().join("tls.log"))?;
        let mut running = Vec::new();
        for (mut process, address) in [(plain, HTTP), (with_tls, TLS)] {
            wait_for(&mut process, address).await?;
            let idle = process.anonymous_bytes().context("memory of the server")?;
            running.push(Measured { process, idle, peak: idle });
        }
        let running = <[Measured; 2]>::try_from(running).ok().context("two servers")?;
        let mut roots = RootCertStore::empty();
        roots.add(signed.der().clone())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tls = TlsConnector::from(Arc::new(config));
        Ok((Self { running, tls, token, _folder: folder }, keys))
    }

    pub(super) fn target(&self, over_tls: bool) -> Target {
        if over_tls { Target::Tls(self.tls.clone()) } else { Target::Plain }
    }

    /// Fails when a server has ended, and records its memory.
    pub(super) fn look(&mut self) -> anyhow::Result<()> {
        for server in &mut self.running {
            server.process.check_running()?;
            let bytes = server.process.anonymous_bytes().context("memory of the server")?;
            server.peak = server.peak.max(bytes);
        }
        Ok(())
    }

    pub(super) fn forget_peak(&mut self) {
        self.running.iter_mut().for_each(|server| server.peak = server.idle);
    }

    /// Returns the most memory of a server since then, beyond that of an idle one.
    pub(super) fn peak_mib(&self) -> f64 {
        let beyond = self.running.iter().map(|server| server.peak.saturating_sub(server.idle));
        let kibibytes = u32::try_from(beyond.max().unwrap_or(0) / 1024).unwrap_or(u32::MAX);
        f64::from(kibibytes) / 1024.0
    }

    /// Returns the lines of the metrics that count connections.
    pub(super) async fn connection_counters(&self) -> anyhow::Result<Vec<String>> {
        let token = self.token.clone();
        let text = tokio::task::spawn_blocking(move || -> anyhow::Result<String> {
            let url = format!("http://{HTTP}/metrics");
            let mut response =
                ureq::get(url).header("Authorization", format!("Bearer {token}")).call()?;
            Ok(response.body_mut().read_to_string()?)
        });
        let text = text.await??;
        let lines = text.lines().filter(|line| {
            line.starts_with("fumocast_bridge_connections") || line.contains("dm_messages_total{")
        });
        Ok(lines.map(str::to_owned).collect())
    }
}

async fn wait_for(process: &mut Process, address: SocketAddr) -> anyhow::Result<()> {
    for _ in 0..400 {
        process.check_running()?;
        if TcpStream::connect(address).await.is_ok() {
            // Memory of the start is given back, tasks have begun.
            sleep(Duration::from_millis(500)).await;
            return Ok(());
        }
        sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("the server does not listen at {address}: {}", process.last_words())
}
