//! DM sessions a second of the management server, beside a bare server that answers
//! messages of the same number and size.
//!
//! Both are axum in this process and reached over real HTTP on loopback by the same load: a few
//! devices at once, each with a connection of its own for its session. A session is whole:
//! credential (MD5, with the nonce that the device's last session ended with) and DevInfo in XML or
//! WBXML, the server's questions, their answers, the end, with all that the server stores (SQLite)
//! before it answers. Rounds alternate, so that what else the machine does falls on all of them.
//!
//! The load shares the processors with the servers, so it must cost the same for both: the first
//! session of each row of devices is a client that reads what it is answered, and the others
//! say the same with another device's words and compare the answers octet by octet.

pub(crate) mod client;
pub(crate) mod fleet;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use axum::{Router, body::Bytes, extract::RawQuery, routing::post};
use dm_bridge::{
    app::PlainHttp,
    campaign::reconcile::ReconcilePolicy,
    shell::{
        server::{self, RunningServer, Settings},
        state::Admission,
    },
};
use proto::{crypto::random, dm::encoding::Encoding};
use serde::Serialize;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Mutex,
    task::JoinSet,
    time::Instant,
};

use self::client::{Http, Keys, Script, session};

/// Parameters of the measurement.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Load {
    /// Devices that are enrolled; each has one session in each round of each kind.
    pub devices: u32,
    /// Connections at once.
    pub connections: u32,
    /// Rounds of XML, WBXML and the bare server.
    pub rounds: u32,
}

/// One kind of round, over all rounds.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// `xml`, `wbxml`, or `bare xml`, `bare wbxml`: messages of the same number and size.
    pub kind: &'static str,
    /// Whole sessions a second: the median of the rounds.
    pub sessions_per_second: f64,
    /// Sessions for each second of processor time of this process, load generator included.
    pub sessions_per_cpu_second: f64,
    /// Each round.
    pub rounds: Vec<f64>,
}

/// Result of the measurement.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// Messages of a session, in both directions.
    pub messages: usize,
    /// Processors that server and load generator share.
    pub processors: usize,
    /// XML, WBXML, and the bare server for each.
    pub figures: Vec<Figure>,
    /// XML and WBXML sessions over those of the bare server.
    pub ratios: [f64; 2],
}

/// Measures.
///
/// # Errors
///
/// When something does not start, or a session does not go as it should.
pub async fn run(load: Load) -> anyhow::Result<Outcome> {
    let folder = tempdir()?;
    let (running, devices) = start(&folder.0, load).await?;
    let bare = start_bare().await?;
    let mut runs: [Vec<Round>; 4] = Default::default();
    let mut sizes: [Vec<(usize, usize)>; 2] = Default::default();
    for _ in 0..load.rounds {
        for (kind, encoding) in [Encoding::Xml, Encoding::Wbxml].into_iter().enumerate() {
            let target = Target::Bridge { address: running.address, encoding };
            let (round, seen) = go(load, target, &devices).await?;
            if let (Some(runs), Some(sizes)) = (runs.get_mut(kind), sizes.get_mut(kind)) {
                runs.push(round);
                *sizes = seen.clone();
            }
            let target = Target::Bare { address: bare, sizes: seen.into() };
            let (round, _) = go(load, target, &devices).await?;
            if let Some(runs) = runs.get_mut(2 + kind) {
                runs.push(round);
            }
        }
    }
    running.stop().await;
    let kinds = ["xml", "wbxml", "bare xml", "bare wbxml"];
    let figures: Vec<Figure> =
        kinds.into_iter().zip(runs).map(|(kind, rounds)| figure(kind, load, &rounds)).collect();
    let rate = |index: usize| figures.get(index).map_or(f64::NAN, |it| it.sessions_per_second);
    Ok(Outcome {
        messages: sizes.first().map_or(0, |sizes| 2 * sizes.len()),
        processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        ratios: [rate(0) / rate(2), rate(1) / rate(3)],
        figures,
    })
}

#[derive(Debug, Clone, Copy)]
struct Round {
    wall: Duration,
    processor: Duration,
}

fn figure(kind: &'static str, load: Load, rounds: &[Round]) -> Figure {
    let sessions = f64::from(load.devices);
    let mut rates: Vec<f64> =
        rounds.iter().map(|round| sessions / round.wall.as_secs_f64()).collect();
    let processor: f64 = rounds.iter().map(|round| round.processor.as_secs_f64()).sum();
    let count = f64::from(u32::try_from(rounds.len()).unwrap_or(u32::MAX));
    let all = rates.clone();
    rates.sort_by(f64::total_cmp);
    Figure {
        kind,
        sessions_per_second: rates.get(rates.len() / 2).copied().unwrap_or(0.0),
        sessions_per_cpu_second: sessions * count / processor,
        rounds: all,
    }
}

/// Target of the load.
#[derive(Debug, Clone)]
enum Target {
    Bridge { address: SocketAddr, encoding: Encoding },
    Bare { address: SocketAddr, sizes: Arc<[(usize, usize)]> },
}

/// A few devices at once, one after the other; returns the sizes of a session's messages.
async fn go(
    load: Load,
    target: Target,
    devices: &Arc<[Mutex<Keys>]>,
) -> anyhow::Result<(Round, Vec<(usize, usize)>)> {
    let processor = processor_time()?;
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for first in 0..load.connections {
        let (target, devices) = (target.clone(), Arc::clone(devices));
        let mine = (first..load.devices).step_by(usize::try_from(load.connections)?);
        tasks.spawn(async move {
            match target {
                Target::Bare { address, sizes } => {
                    for _ in mine {
                        bare_session(&mut connect(address).await?, &sizes).await?;
                    }
                    anyhow::Ok(sizes.to_vec())
                }
                Target::Bridge { address, encoding } => {
                    let mut script: Option<Script> = None;
                    for number in mine {
                        let mut http = connect(address).await?;
                        let keys = devices.get(usize::try_from(number)?).context("a device")?;
                        let mut keys = keys.lock().await;
                        match &script {
                            None => {
                                script =
                                    Some(session(&mut http, number, &mut keys, encoding).await?)
                            }
                            Some(script) => script.play(&mut http, number, &mut keys).await?,
                        }
                    }
                    Ok(script.map(|script| script.sizes()).unwrap_or_default())
                }
            }
        });
    }
    let mut seen = Vec::new();
    while let Some(task) = tasks.join_next().await {
        seen = task??;
    }
    let round = Round { wall: begun.elapsed(), processor: processor_time()? - processor };
    Ok((round, seen))
}

async fn connect(address: SocketAddr) -> anyhow::Result<Http> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(Http::new(stream))
}

async fn bare_session(http: &mut Http, sizes: &[(usize, usize)]) -> anyhow::Result<()> {
    for (asked, answered) in sizes {
        let path = format!("/bare?{answered}");
        let answer = http.post(&path, "application/octet-stream", &vec![b'x'; *asked]).await?;
        ensure!(answer.len() == *answered, "{} octets, not {answered}", answer.len());
    }
    Ok(())
}

/// The server, with all devices enrolled.
async fn start(
    folder: &std::path::Path,
    load: Load,
) -> anyhow::Result<(RunningServer, Arc<[Mutex<Keys>]>)> {
    let (data, keys) = fleet::enrol(folder, load.devices).await?;
    let settings = Settings {
        data,
        listen: ([127, 0, 0, 1], 0).into(),
        tls: None,
        plain_http: PlainHttp::LoopbackOnly,
        policy: ReconcilePolicy::default(),
        admission: Admission::default(),
        trusted_proxies: Vec::new(),
    };
    Ok((server::start(settings).await?, keys))
}

/// A server that reads a body and answers with the number of octets in the query.
async fn start_bare() -> anyhow::Result<SocketAddr> {
    async fn answer(RawQuery(query): RawQuery, body: Bytes) -> Vec<u8> {
        let wanted = query.and_then(|text| text.parse().ok()).unwrap_or(0);
        vec![body.first().copied().unwrap_or(b'x'); wanted]
    }
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let router = Router::new().route("/bare", post(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}

/// Processor time of this process, all threads.
fn processor_time() -> anyhow::Result<Duration> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let (_, tail) = text.rsplit_once(')').context("a name in parentheses")?;
    let ticks: u64 = tail.split_whitespace().skip(11).take(2).flat_map(str::parse::<u64>).sum();
    // Linux shows a hundred ticks a second to programs, whatever the kernel counts in.
    Ok(Duration::from_millis(ticks * 10))
}

struct Folder(std::path::PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn tempdir() -> anyhow::Result<Folder> {
    let name: String = random::<8>().map(|octet| format!("{octet:02x}")).concat();
    Ok(Folder(std::env::temp_dir().join(format!("fumocast-sessions-{name}"))))
}
