//! The management server under siege: peers that never prove themselves, beside devices that do.
//!
//! ```text
//! network namespace, loopback alone
//!   dm-bridge (HTTP) ◄── 50 DM sessions a second: half of the devices behind one address
//!   dm-bridge (TLS)  ◄── 200 peers a second of one kind after the other, from 1, 250, 1,000 addresses
//! ```
//!
//! Undisturbed sessions come first. Each kind of peer has the same number of peers, from each number
//! of addresses; those that hold a connection hold it on while the next ones come. Over TLS are only
//! the peers whose handshake does not end, and the sessions beside them.

mod attack;
mod devices;
mod servers;

use std::{
    fmt::Write as _,
    net::Ipv4Addr,
    path::PathBuf,
    process::{ExitCode, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use clap::Parser;
use serde::Serialize;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};

use self::{
    attack::{Attack, Kind},
    devices::{Devices, Pace},
    servers::Servers,
};
use crate::{lab::exit::Exit, namespaces::Machine};

/// Attack the management server with peers that never prove themselves, while devices hold sessions
///
/// Runs in a network namespace of its own, and needs root for that. Prints a line for each kind of
/// peer and number of addresses.
///
/// Exit codes: 0 all promises kept (or skipped without root), 2 usage, 3 not set up, 70 a promise was
/// broken.
#[derive(Debug, Clone, Parser, Serialize)]
#[command(name = "siege")]
pub struct Options {
    /// Peers in all, over all kinds and numbers of addresses
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(27..))]
    pub peers: u32,
    /// Requests or connections of peers a second
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: u32,
    /// DM sessions of devices a second
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub sessions: u32,
    /// Devices, which hold their sessions one after the other
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(2..))]
    pub devices: u32,
    /// Seconds of undisturbed sessions, for each of HTTP and TLS
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..))]
    pub undisturbed: u32,
    /// Seconds of each phase at least: with few sessions a stall of the disk would be their 95th
    /// percentile
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..))]
    pub phase: u32,
    /// Seconds for which a peer holds its connection
    #[arg(long, default_value_t = 20)]
    pub hold: u32,
    /// Only kinds of peers whose name contains this
    #[arg(long, value_name = "TEXT")]
    pub only: Option<String>,
    /// The server's program [default: dm-bridge as built into this program]
    #[arg(long, value_name = "FILE")]
    pub bridge: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Set in the namespace
    #[arg(long, hide = true)]
    pub inside: bool,
}

/// Sessions of a phase, and the memory of the servers.
#[derive(Debug, Clone, Serialize)]
pub struct Phase {
    /// Kind of the peers.
    pub kind: &'static str,
    /// Addresses that they come from; none while nobody attacks.
    pub addresses: u32,
    /// Peers.
    pub peers: u32,
    /// Sessions that were begun.
    pub sessions: usize,
    /// Of these, those that did not end as they should.
    pub lost: usize,
    /// Time of a session, from the moment at which it was due.
    pub median_ms: f64,
    /// The 95th percentile of these.
    pub percentile_95_ms: f64,
    /// The longest of these: a stall of 100 ms is the 95th percentile of a short phase.
    pub longest_ms: f64,
    /// The 95th percentile in units of the undisturbed one.
    pub ratio: f64,
    /// Anonymous memory of a server at most, beyond that of an idle one.
    pub memory_mib: f64,
}

/// Result of a siege.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Sessions without peers, over HTTP and TLS.
    pub undisturbed: [Phase; 2],
    /// Sessions beside peers.
    pub attacked: Vec<Phase>,
    /// One session of each device after the last attack.
    pub afterwards: Phase,
    /// The reason of the first session that was lost.
    pub first_loss: Option<String>,
    /// Counters of connections of the HTTP server.
    pub connections: Vec<String>,
    /// Promises that were broken.
    pub broken: Vec<String>,
}

/// Numbers of addresses that peers come from.
const ADDRESSES: [u32; 3] = [1, 250, 1_000];
/// The 95th percentile beside peers, in units of the undisturbed one, at most.
const MAX_RATIO: f64 = 3.0;
/// Anonymous memory of a server beyond that of an idle one, at most.
const MAX_MEMORY_MIB: f64 = 64.0;
/// Time that sessions have to end after their phase.
const SETTLE: Duration = Duration::from_secs(20);

/// Runs the siege in a namespace, prints its report and returns the exit code.
#[must_use]
pub fn run(options: &Options) -> ExitCode {
    let outcome = if options.inside { besiege(options) } else { enter_namespace() };
    outcome.unwrap_or_else(|error| {
        proto_cli::note!("siege: {error:#}");
        Exit::Configuration.into()
    })
}

/// Runs this program again, in a namespace of its own.
fn enter_namespace() -> anyhow::Result<ExitCode> {
    let machine = match Machine::new(Ipv4Addr::LOCALHOST) {
        Ok(machine) => machine,
        Err(error) => {
            proto_cli::note!("SKIPPED: siege needs a network namespace: {error}");
            return Ok(ExitCode::SUCCESS);
        }
    };
    let mut inside = machine.command(std::env::current_exe()?);
    inside.args(std::env::args_os().skip(1)).arg("--inside").stdin(Stdio::null());
    // The logs of tests are at the level of each packet, which would be measured too.
    inside.env_remove(test_log::DIR_VARIABLE);
    let status = inside.status().context("enter the namespace")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or_else(|| Exit::Configuration.into(), ExitCode::from))
}

fn besiege(options: &Options) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(async {
        proto_http::open_files::raise_limit();
        Siege::start(options).await?.report().await
    })?;
    let text = if options.json {
        serde_json::json!({"options": options, "report": report}).to_string()
    } else {
        report.table()
    };
    crate::print_line!("{text}");
    Ok(if report.broken.is_empty() { ExitCode::SUCCESS } else { Exit::Breach.into() })
}

struct Siege<'a> {
    options: &'a Options,
    servers: Servers,
    devices: Arc<Devices>,
    attack: Arc<Attack>,
    /// Peers that hold their connections.
    peers: JoinSet<()>,
    first_loss: Option<String>,
}

impl<'a> Siege<'a> {
    async fn start(options: &'a Options) -> anyhow::Result<Self> {
        let (servers, keys) = Servers::start(options.devices, options.bridge.as_deref()).await?;
        let devices = Arc::new(Devices::new(keys, &servers).await?);
        let attack =
            Arc::new(Attack::new(options.devices, Duration::from_secs(options.hold.into())));
        Ok(Self { options, servers, devices, attack, peers: JoinSet::new(), first_loss: None })
    }

    async fn report(mut self) -> anyhow::Result<Report> {
        let seconds = Duration::from_secs(self.options.undisturbed.into());
        let mut undisturbed = Vec::new();
        for over_tls in [false, true] {
            let name = if over_tls { "undisturbed, TLS" } else { "undisturbed" };
            undisturbed.push(self.phase(name, over_tls, None, seconds, None).await?);
        }
        let [plain, tls] = <[Phase; 2]>::try_from(undisturbed).ok().context("two phases")?;
        let wanted = self.options.only.as_deref().unwrap_or_default();
        let kinds: Vec<_> =
            Kind::ALL.into_iter().filter(|kind| kind.as_str().contains(wanted)).collect();
        anyhow::ensure!(!kinds.is_empty(), "no kind of peers has such a name");
        let phases = u32::try_from(kinds.len() * ADDRESSES.len())?;
        let peers = self.options.peers.div_ceil(phases);
        let mut attacked = Vec::new();
        for kind in kinds {
            let reference = if kind.is_over_tls() { &tls } else { &plain };
            for addresses in ADDRESSES {
                let time = Duration::from_secs(1) * peers / self.options.rate;
                let time = time.max(Duration::from_secs(self.options.phase.into()));
                let attack = Some((kind, addresses, peers));
                let (name, over_tls) = (kind.as_str(), kind.is_over_tls());
                attacked.push(self.phase(name, over_tls, attack, time, Some(reference)).await?);
            }
        }
        let round = Duration::from_secs(1) * self.options.devices / self.options.sessions;
        let afterwards = self.phase("afterwards", false, None, round, Some(&plain)).await?;
        let connections = self.servers.connection_counters().await?;
        let undisturbed = [plain, tls];
        let first_loss = self.first_loss;
        let broken = Vec::new();
        let mut report =
            Report { undisturbed, attacked, afterwards, first_loss, connections, broken };
        report.judge();
        Ok(report)
    }

    /// Holds sessions for a time, while peers come.
    async fn phase(
        &mut self,
        name: &'static str,
        over_tls: bool,
        attack: Option<(Kind, u32, u32)>,
        time: Duration,
        reference: Option<&Phase>,
    ) -> anyhow::Result<Phase> {
        self.servers.forget_peak();
        let target = self.servers.target(over_tls);
        let ends = Instant::now() + time;
        let pace = Pace { sessions: self.options.sessions, until: ends };
        let sessions = tokio::spawn(Arc::clone(&self.devices).hold_sessions(target.clone(), pace));
        if let Some((kind, addresses, peers)) = attack {
            let mut ticks = interval(Duration::from_secs(1) / self.options.rate);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            for number in 0..peers {
                ticks.tick().await;
                let attack = Arc::clone(&self.attack);
                self.peers.spawn(attack.peer(kind, addresses, number, target.address()));
                self.servers.look()?;
            }
        }
        while Instant::now() < ends {
            self.servers.look()?;
            sleep_until(ends.min(Instant::now() + Duration::from_millis(50))).await;
        }
        while self.peers.try_join_next().is_some() {}
        let sessions = tokio::time::timeout(SETTLE, sessions).await.context("sessions end")??;
        self.servers.look()?;
        if let (None, Some(error)) = (&self.first_loss, &sessions.first_loss) {
            self.first_loss = Some(format!("{name}: {error}"));
        }
        let (addresses, peers) = attack.map_or((0, 0), |(_, addresses, peers)| (addresses, peers));
        let median_ms = sessions.percentile(50);
        let percentile_95_ms = sessions.percentile(95);
        let ratio = reference.map_or(1.0, |it| percentile_95_ms / it.percentile_95_ms);
        sleep(Duration::from_millis(10)).await;
        Ok(Phase {
            kind: name,
            addresses,
            peers,
            sessions: sessions.begun,
            lost: sessions.lost(),
            median_ms,
            percentile_95_ms,
            longest_ms: sessions.percentile(100),
            ratio,
            memory_mib: self.servers.peak_mib(),
        })
    }
}

impl Report {
    fn phases(&self) -> impl Iterator<Item = &Phase> {
        self.undisturbed.iter().chain(&self.attacked).chain([&self.afterwards])
    }

    /// Names the promises that were broken.
    fn judge(&mut self) {
        let mut broken = Vec::new();
        for phase in self.phases() {
            let of = format!("{} from {} addresses", phase.kind, phase.addresses);
            if phase.lost > 0 {
                broken.push(format!("{of}: {} sessions lost", phase.lost));
            }
            if phase.ratio > MAX_RATIO {
                broken.push(format!(
                    "{of}: the 95th percentile is {:.1} times the undisturbed one",
                    phase.ratio
                ));
            }
            if phase.memory_mib > MAX_MEMORY_MIB {
                broken.push(format!("{of}: {:.0} MiB of memory", phase.memory_mib));
            }
        }
        self.broken = broken;
    }

    fn table(&self) -> String {
        let mut text = format!(
            "{:<30}{:>10}{:>7}{:>10}{:>6}{:>10}{:>8}{:>8}{:>7}{:>7}\n",
            "kind",
            "addresses",
            "peers",
            "sessions",
            "lost",
            "median ms",
            "p95 ms",
            "max ms",
            "ratio",
            "MiB"
        );
        for phase in self.phases() {
            writeln!(
                text,
                "{:<30}{:>10}{:>7}{:>10}{:>6}{:>10.1}{:>8.1}{:>8.1}{:>7.2}{:>7.1}",
                phase.kind,
                phase.addresses,
                phase.peers,
                phase.sessions,
                phase.lost,
                phase.median_ms,
                phase.percentile_95_ms,
                phase.longest_ms,
                phase.ratio,
                phase.memory_mib
            )
            .expect("a string takes all text");
        }
        for line in &self.connections {
            text.push_str(&format!("{line}\n"));
        }
        for line in &self.broken {
            text.push_str(&format!("BROKEN: {line}\n"));
        }
        if let Some(line) = &self.first_loss {
            text.push_str(&format!("first loss: {line}\n"));
        }
        text.push_str(if self.broken.is_empty() { "all promises kept" } else { "promises broken" });
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(lost: usize, ratio: f64, memory_mib: f64) -> Phase {
        Phase {
            kind: "silent",
            addresses: 1,
            peers: 9,
            sessions: 9,
            lost,
            median_ms: 1.0,
            longest_ms: 2.5,
            percentile_95_ms: 2.0,
            ratio,
            memory_mib,
        }
    }

    #[test]
    fn each_broken_promise_is_named() {
        for (attacked, expected) in [
            (phase(0, 3.0, 64.0), None),
            (phase(1, 3.0, 64.0), Some("1 sessions lost")),
            (phase(0, 3.1, 64.0), Some("3.1 times")),
            (phase(0, 3.0, 65.0), Some("65 MiB")),
        ] {
            let quiet = || phase(0, 1.0, 0.0);
            let mut report = Report {
                undisturbed: [quiet(), quiet()],
                attacked: vec![attacked],
                afterwards: quiet(),
                first_loss: None,
                connections: Vec::new(),
                broken: Vec::new(),
            };
            report.judge();
            assert_eq!(report.broken.len(), usize::from(expected.is_some()), "{report:?}");
            assert!(report.table().contains(expected.unwrap_or("all promises kept")));
        }
    }
}
