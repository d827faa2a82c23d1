//! `serve`: sessions on the management server's orders.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use clap::Args;
use proto::{
    control::{
        AirStatus, OpenRequest, PrepareReply, PrepareRequest, StatusReply, StatusRequest,
        StopRequest,
    },
    ids::{CampaignId, Tsi},
    time::{Now, Utc},
    trust::{Root, Verified},
};
use sd_notify::NotifyState;
use tokio::{
    net::TcpListener,
    runtime,
    signal::unix::{SignalKind, signal},
    sync::Notify,
    time,
};

use super::{
    air::random_tsi,
    clock, control_http, files,
    package_dir::{self, AirLock, OpenPackage},
    sender::{OnAir, PlanView, Planned, Progress},
    udp::{self, Leaving},
};
use crate::{
    control::{self, Control, Defaults, Live, Offer, Output, Refusal, Start},
    failure::{Exit, Failure},
    pacing::Rate,
    package::documents,
    place::Kept,
    session::SessionSetup,
};

/// How often sessions on air are looked at.
const TICK: Duration = Duration::from_millis(100);

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
    let station = Station::new(&order)?;
    let listener = TcpListener::bind(order.listen).await;
    let what = format!("listen {}", order.listen);
    let listener = listener.map_err(|error| Failure::network(what, error))?;
    let address = listener.local_addr().map_err(|error| Failure::network("listen", error))?;
    let shared = Shared::new(station);
    let signals = |kind| signal(kind).map_err(|error| Failure::io("signal handler", error));
    let mut interrupt = signals(SignalKind::interrupt())?;
    let mut terminate = signals(SignalKind::terminate())?;
    tracing::info!(%address, data = %order.data.display(), "control API");
    // Without a service manager there is nobody to tell.
    sd_notify::notify(false, &[NotifyState::Ready]).ok();
    let router = control_http::router(shared.clone(), token);
    let ended = tokio::select! {
        ended = std::future::IntoFuture::into_future(axum::serve(listener, router)) => {
            ended.map_err(|error| Failure::network("control API", error))
        }
        () = drive(&shared) => Ok(()),
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    shared.lock().shut_down();
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

/// Moves sessions on, on orders and by the clock.
async fn drive(shared: &Shared) {
    loop {
        let deadline = shared.lock().step(clock::now());
        let until = deadline.map_or(TICK, |deadline| deadline.since(clock::now().utc)).min(TICK);
        tokio::select! {
            () = time::sleep(until) => {}
            () = shared.ordered.notified() => {}
        }
    }
}

/// What routes and the driver share.
#[derive(Clone)]
pub struct Shared {
    station: Arc<Mutex<Station>>,
    ordered: Arc<Notify>,
}

impl Shared {
    /// Shares a station.
    #[must_use]
    pub fn new(station: Station) -> Self {
        Self { station: Arc::new(Mutex::new(station)), ordered: Arc::new(Notify::new()) }
    }

    fn lock(&self) -> MutexGuard<'_, Station> {
        self.station.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries out an operation, keeps what it orders, and wakes the driver.
    ///
    /// # Errors
    ///
    /// What the operation answers, or that its order could not be kept.
    pub fn operate<T>(
        &self,
        operation: impl FnOnce(&mut Station, Now) -> Result<T, Denied>,
    ) -> Result<T, Denied> {
        let mut station = self.lock();
        let now = clock::now();
        let answer = operation(&mut station, now)?;
        station.keep_orders(now).map_err(Denied::Storage)?;
        self.ordered.notify_one();
        Ok(answer)
    }
}

/// Why an operation was not carried out.
#[derive(Debug)]
pub enum Denied {
    /// A rule said no.
    Refused(Refusal),
    /// The package is not there or is not what it should be.
    Package(Failure),
    /// The order could not be kept.
    Storage(Failure),
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// An image server at work.
#[derive(Debug)]
pub struct Station {
    control: Control,
    on_air: BTreeMap<CampaignId, (OnAir, AirLock)>,
    /// Outputs that came up while an operation was kept, still to be done.
    pending: Vec<Output>,
    data: PathBuf,
    root: Verified<Root>,
    leaving: Leaving,
}

impl Station {
    /// Opens the data directory and takes up the sessions of an earlier life.
    ///
    /// # Errors
    ///
    /// [`Failure`] that names what was refused. A package that cannot be aired is only logged.
    pub fn new(order: &ServeOrder) -> Result<Self, Failure> {
        let now = clock::now().utc;
        let root = documents::trusted_root(now, &package_dir::read_envelope(&order.root)?)?;
        let leaving = order.leaving.clone();
        let source = leaving.source.unwrap_or(leaving.interface);
        udp::check_local("interface", leaving.interface)?;
        udp::check_local("source", source)?;
        let control = Control::new(Defaults { source, rate: order.rate });
        let (on_air, pending) = (BTreeMap::new(), Vec::new());
        let data = order.data.clone();
        let mut station = Self { control, on_air, pending, data, root, leaving };
        for name in files::names(&station.data)? {
            let Ok(id) = name.parse::<CampaignId>() else { continue };
            if let Err(failure) = station.restore(id, now) {
                tracing::warn!(campaign = %id, %failure, "an earlier session is not taken up");
            }
        }
        Ok(station)
    }

    fn directory(&self, id: CampaignId) -> PathBuf {
        self.data.join(id.to_string())
    }

    fn restore(&mut self, id: CampaignId, now: Utc) -> Result<(), Failure> {
        let directory = self.directory(id);
        if let Some(kept) =
            package_dir::read_kept(&directory, id)?.filter(|kept| kept.session.is_some())
        {
            let package = OpenPackage::open(&directory, Some(&self.root), now)?;
            self.control.restore(offer(&package), kept);
        }
        Ok(())
    }

    /// Prepares a session.
    ///
    /// # Errors
    ///
    /// [`Denied`].
    pub fn prepare(&mut self, now: Now, request: &PrepareRequest) -> Result<PrepareReply, Denied> {
        let id = control::campaign_id(&request.campaign_id)?;
        let directory = self.directory(id);
        if !files::exists(&directory) {
            return Err(Refusal::NotFound(format!("campaign_id {id}: no package is here")).into());
        }
        let package = OpenPackage::open(&directory, Some(&self.root), now.utc);
        let package = package.map_err(Denied::Package)?;
        let earlier = package_dir::read_kept(&directory, id).map_err(Denied::Package)?;
        let fresh = Tsi(random_tsi());
        Ok(self.control.prepare(now, request, offer(&package), fresh, earlier)?)
    }

    /// Opens a window.
    ///
    /// # Errors
    ///
    /// [`Denied`].
    pub fn open(&mut self, now: Now, request: &OpenRequest) -> Result<AirStatus, Denied> {
        Ok(self.control.open(now, request)?)
    }

    /// Stops a session.
    ///
    /// # Errors
    ///
    /// [`Denied`].
    pub fn stop(&mut self, now: Now, request: &StopRequest) -> Result<AirStatus, Denied> {
        Ok(self.control.stop(now, request)?)
    }

    /// Tells the state of one session, or of all.
    ///
    /// # Errors
    ///
    /// [`Denied`].
    pub fn status(&mut self, now: Now, request: &StatusRequest) -> Result<StatusReply, Denied> {
        self.observe(now);
        Ok(self.control.status(now, request)?)
    }

    /// Does what is to be done; returns when there is more.
    fn step(&mut self, now: Now) -> Option<Utc> {
        self.observe(now);
        for output in std::mem::take(&mut self.pending) {
            self.act(now, output);
        }
        loop {
            match self.control.poll_output(now) {
                Output::Wait(until) => return Some(until),
                Output::Idle => return None,
                Output::Keep(kept) => {
                    if let Err(failure) = self.keep(&kept) {
                        tracing::error!(%failure, "a place is not kept");
                    }
                }
                output @ (Output::Start(..) | Output::Stop(_)) => self.act(now, output),
            }
        }
    }

    /// Keeps what an operation ordered, before it is answered.
    fn keep_orders(&mut self, now: Now) -> Result<(), Failure> {
        loop {
            match self.control.poll_output(now) {
                Output::Keep(kept) => self.keep(&kept)?,
                output @ (Output::Start(..) | Output::Stop(_)) => self.pending.push(output),
                Output::Wait(_) | Output::Idle => return Ok(()),
            }
        }
    }

    fn keep(&self, kept: &Kept) -> Result<(), Failure> {
        package_dir::keep(&self.directory(kept.campaign), kept)
    }

    fn act(&mut self, now: Now, output: Output) {
        match output {
            Output::Start(id, start) => match self.start(now.utc, id, start) {
                Ok(on_air) => {
                    tracing::info!(campaign = %id, tsi = start.tsi.0, group = %start.channel, rate = %start.rate, "on air");
                    self.on_air.insert(id, on_air);
                }
                Err(failure) => {
                    tracing::error!(campaign = %id, %failure, "not on air");
                    self.control.handle_ended(now, id);
                }
            },
            Output::Stop(id) => match self.on_air.get(&id) {
                Some((on_air, _)) => on_air.stop(),
                None => self.control.handle_ended(now, id),
            },
            Output::Keep(_) | Output::Wait(_) | Output::Idle => {}
        }
    }

    fn start(&self, now: Utc, id: CampaignId, start: Start) -> Result<(OnAir, AirLock), Failure> {
        let directory = self.directory(id);
        let lock = package_dir::lock(&directory)?;
        let package = OpenPackage::open(&directory, Some(&self.root), now)?;
        // The ids of FDT instances that this life will use are given up before the first packet.
        if let Some(kept) = package_dir::read_kept(&directory, id)? {
            package_dir::keep(&directory, &Kept { place: start.place.with_reserve(), ..kept })?;
        }
        let Leaving { interface, source, ttl, dscp } = self.leaving;
        let channel = udp::Channel {
            group: start.channel,
            interface: udp::ipv4("interface", interface)?,
            source: udp::ipv4("source", source.unwrap_or(interface))?,
            hops: ttl,
            dscp,
        };
        let socket = udp::open(&channel)?;
        let records = package.records()?;
        let setup = SessionSetup {
            tsi: start.tsi,
            campaign: id,
            objects: package.objects,
            place: start.place,
            passes: None,
        };
        Ok((OnAir::start(Planned::new(setup, records), socket, start.rate)?, lock))
    }

    /// Takes in what sessions on air report, and those that ended.
    fn observe(&mut self, now: Now) {
        for (id, (on_air, _)) in &self.on_air {
            self.control.handle_progress(now, *id, live(on_air.progress()));
        }
        let ended: Vec<_> = self
            .on_air
            .iter()
            .filter(|(_, (on_air, _))| on_air.is_finished())
            .map(|(id, _)| *id)
            .collect();
        for id in ended {
            if let Some((on_air, _lock)) = self.on_air.remove(&id) {
                match on_air.join() {
                    Ok(progress) => {
                        self.control.handle_progress(now, id, live(progress));
                        let sent = progress.sent;
                        tracing::info!(campaign = %id, packets = sent.packets, bytes = sent.octets, "off the air");
                    }
                    Err(failure) => tracing::error!(campaign = %id, %failure, "off the air"),
                }
                self.control.handle_ended(now, id);
            }
        }
    }

    /// Takes all sessions off the air and keeps their places; a later life goes on with them.
    fn shut_down(&mut self) {
        self.on_air.values().for_each(|(on_air, _)| on_air.stop());
        let now = clock::now();
        for (id, (on_air, _lock)) in std::mem::take(&mut self.on_air) {
            if let Ok(progress) = on_air.join() {
                self.control.handle_progress(now, id, live(progress));
            }
            self.control.handle_ended(now, id);
        }
        if let Err(failure) = self.keep_orders(now) {
            tracing::error!(%failure, "a place is not kept");
        }
    }
}

fn offer(package: &OpenPackage) -> Offer {
    Offer {
        campaign: package.campaign.clone(),
        plan_symbols: package.plan_symbols(),
        pass_octets: package.pass_octets(),
    }
}

fn live(progress: Progress) -> Live {
    let Progress { view: PlanView { place, symbol_place }, sent, .. } = progress;
    Live { place, symbol_place, sent }
}

#[cfg(test)]
mod tests;
