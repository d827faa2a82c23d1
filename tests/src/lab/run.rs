//! One run, from keys to verdict.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::Instant,
};

use crate::lab::{
    addresses::Addresses,
    device::{self, Arming, Device, DeviceOptions, Surroundings},
    exit::{self, Exit},
    folder::Folder,
    headend::{self, Headend, Package, Paths, Results},
    image,
    options::Options,
    process::{Process, Role},
    progress::Progress,
    report::{self, Outcome, Report},
    rng::SeededRng,
    schedule::Schedule,
    verdict,
};

/// Runs the lab and returns the exit code; the report is on standard output.
pub fn run(options: Options) -> Exit {
    let options = options.resolved();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(until_interrupted(options)),
        Err(error) => Err(error.into()),
    };
    outcome.unwrap_or_else(|error| {
        proto_cli::note!("lab: {error:#}");
        exit::exit_of(&error)
    })
}

async fn until_interrupted(options: Options) -> anyhow::Result<Exit> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // Dropping the run kills its processes and removes its temporary folder.
    tokio::select! {
        exit = run_in_folder(options) => exit,
        _ = terminate.recv() => Ok(Exit::Interrupted),
        _ = interrupt.recv() => Ok(Exit::Interrupted),
    }
}

async fn run_in_folder(options: Options) -> anyhow::Result<Exit> {
    let mut folder = Folder::new(options.dir.as_deref()).context("make the folder of the run")?;
    let report = Run::report(&options, &folder).await;
    let is_complete = report.as_ref().is_ok_and(|report| report.outcome == Outcome::Complete);
    if !is_complete {
        folder.keep();
        proto_cli::note!("lab: logs and folders are kept in {}", folder.path().display());
    }
    let report = report?;
    print(&report, &options)?;
    Ok(verdict::exit_of(report.outcome))
}

fn print(report: &Report, options: &Options) -> anyhow::Result<()> {
    let mut text = report::table(&report.devices);
    text.push('\n');
    for broken in report.devices.iter().filter_map(|d| verdict::breach(&report.image_sha256, d)) {
        text.push_str(&format!("breach: {broken}\n"));
    }
    text.push_str(&report::summary(report));
    text.push('\n');
    if let Some(beside) = report::beside(report) {
        text.push_str(&beside);
        text.push('\n');
    }
    if options.json {
        text.push_str(&serde_json::to_string(report)?);
        text.push('\n');
    }
    proto_cli::output::print(text).context("print the report")
}

/// A run that is under way.
struct Run<'a> {
    options: &'a Options,
    headend: Headend,
    package: Package,
    image: Vec<u8>,
    around: Surroundings,
    devices: Vec<Device>,
    /// Thresholds, per mille, at which devices are killed, by their index.
    kills: BTreeMap<usize, u64>,
    outage: Outage,
    progress: Progress,
    started: Instant,
    closes: Instant,
    results: Results,
    steps: u32,
    /// Kept for its end.
    _forger: Option<Process>,
}

/// State of `--bridge-down`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outage {
    NotWanted,
    Ahead,
    Down,
    Over,
}

impl<'a> Run<'a> {
    async fn report(options: &'a Options, folder: &Folder) -> anyhow::Result<Report> {
        let started = Instant::now();
        let seed = options.seed.unwrap_or_else(|| u64::from_be_bytes(proto::crypto::random()));
        let mut run = Self::set_up(options, folder, seed, started).await?;
        while !run.is_over() {
            run.step().await?;
            tokio::time::sleep(STEP).await;
        }
        run.sum_up(seed).await
    }

    async fn set_up(
        options: &'a Options,
        folder: &Folder,
        seed: u64,
        started: Instant,
    ) -> anyhow::Result<Self> {
        let progress = Progress::new();
        let addresses = Addresses::allocate()?;
        let paths = Paths::new(folder)?;
        let image_file = image_file(options, folder, seed)?;
        let size = fs::metadata(&image_file).map_or(0, |file| file.len());
        let fleet = options.devices + options.unarmed;
        let schedule = Schedule::new(size, fleet, options.loss, options.rate);

        progress.print(&format!("seed {seed}: keys, package, plan and campaign"));
        let package = headend::package(&paths, &image_file, options, schedule, &addresses).await?;
        let image = fs::read(&image_file)?;
        let around = Surroundings {
            seed,
            loss: options.loss,
            channel: addresses.channel,
            source: addresses.interface,
            root: package.root.clone(),
            logs: paths.logs().to_owned(),
        };

        progress.print("image server, management server, enrolment");
        let headend = Headend::start(paths, addresses, options).await?;
        let mut devices = enrol(&headend, folder, options, &around).await?;
        if options.notify {
            // They have been here before the campaign begins: it is the notification that arms.
            for device in &mut devices {
                device.start(&around)?;
            }
        }
        let armed = devices.iter().filter(|device| device.arming == Arming::Armed);
        let armed: Vec<_> = armed.map(|device| device.id.clone()).collect();
        headend.start_campaign(&package, &armed, schedule, options.report_spread).await?;
        let closes = Instant::now() + schedule.opens_after + schedule.open_for;

        let mut run = Self {
            options,
            headend,
            package,
            image,
            around,
            devices,
            kills: kills(options, seed),
            outage: if options.bridge_down { Outage::Ahead } else { Outage::NotWanted },
            progress,
            started,
            closes,
            results: Results::new(),
            steps: 0,
            _forger: None,
        };
        run.wait_for_session().await?;
        run._forger = run.forger(&addresses, seed)?;
        if options.notify {
            run.notify_all().await?;
        } else {
            for device in &mut run.devices {
                device.start(&run.around)?;
            }
        }
        run.progress.print(&format!(
            "{armed} devices are armed over OMA DM; the window opens {} s after the campaign's start",
            schedule.opens_after.as_secs(),
            armed = armed.len(),
        ));
        Ok(run)
    }

    /// Notifies all armed devices to connect; each command is one that a person would give.
    async fn notify_all(&mut self) -> anyhow::Result<()> {
        for device in self.devices.iter_mut().filter(|it| it.arming == Arming::Armed) {
            let Some(place) = device.notify_place() else { continue };
            self.headend.notify(&device.id, place).await?;
            device.note_notified();
        }
        Ok(())
    }

    /// Waits until the session is prepared, so that devices can be armed with it.
    async fn wait_for_session(&mut self) -> anyhow::Result<()> {
        for _ in 0..SESSION_STEPS {
            self.headend.check_running()?;
            if self.headend.is_prepared(&self.package).await? {
                return Ok(());
            }
            tokio::time::sleep(STEP).await;
        }
        anyhow::bail!("the management server has not prepared the session at the image server")
    }

    fn forger(&self, addresses: &Addresses, seed: u64) -> anyhow::Result<Option<Process>> {
        if self.options.forge.0 <= 0.0 {
            return Ok(None);
        }
        let role = Role::new("forger")?
            .arg("--package")
            .arg(&self.package.folder)
            .arg("--root")
            .arg(&self.package.root)
            .args(["--channel", &addresses.channel.to_string()])
            .args(["--source", &addresses.interface.to_string()])
            .args(["--ratio", &self.options.forge.0.to_string(), "--seed", &seed.to_string()]);
        Ok(Some(role.start(&self.around.logs.join("forger.log"))?))
    }

    /// Polls all devices once and executes what is due.
    async fn step(&mut self) -> anyhow::Result<()> {
        self.steps = self.steps.wrapping_add(1);
        self.headend.check_running()?;
        self.ask_devices().await?;
        self.kill_due()?;
        self.devices.iter_mut().for_each(Device::suspend_due);
        self.outage_due().await?;
        if self.headend.has_bridge() && self.steps.is_multiple_of(STEPS_BETWEEN_RESULTS) {
            self.results = self.headend.results(&self.package).await?;
        }
        let views: Vec<_> = self.devices.iter().map(Device::view).collect();
        self.progress.show(self.started.elapsed(), &views);
        Ok(())
    }

    async fn ask_devices(&mut self) -> anyhow::Result<()> {
        let asked: Vec<_> = self
            .devices
            .iter()
            .map(Device::control_socket)
            .map(|socket| tokio::task::spawn_blocking(move || device::ask(&socket)))
            .collect();
        for (device, answer) in self.devices.iter_mut().zip(asked) {
            device.note(answer.await?)?;
        }
        Ok(())
    }

    fn kill_due(&mut self) -> anyhow::Result<()> {
        let layout = self.package.documents.layout();
        for (index, device) in self.devices.iter_mut().enumerate() {
            let held = device.taken_per_mille();
            let due = self.kills.get(&index).is_some_and(|threshold| held >= *threshold);
            if due && held <= KILL_UNTIL {
                self.kills.remove(&index);
                device.kill(&self.around, &layout, &self.image)?;
                self.progress.print(&format!("{}: killed at {} %", device.id, held / 10));
            }
        }
        Ok(())
    }

    async fn outage_due(&mut self) -> anyhow::Result<()> {
        let mut armed = self.devices.iter().filter(|device| device.arming == Arming::Armed);
        match self.outage {
            Outage::Ahead if armed.clone().all(|device| device.view().held > 0) => {
                self.headend.stop_bridge();
                self.outage = Outage::Down;
                self.progress.print("the management server is stopped");
            }
            Outage::Down if armed.all(Device::is_through) => {
                self.headend.start_bridge().await?;
                self.outage = Outage::Over;
                self.progress.print("the management server is started again");
            }
            Outage::NotWanted | Outage::Ahead | Outage::Down | Outage::Over => {}
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        let armed = self.devices.iter().filter(|device| device.arming == Arming::Armed);
        let settled = |device: &Device| {
            self.results.get(&device.id).is_some_and(headend::CampaignDevice::is_settled)
        };
        let all = armed.into_iter().all(settled);
        // A device leaves the air a minute after the window and then reports what it lacks.
        let spread = Duration::from_secs(self.options.report_spread.into());
        all || Instant::now() > self.closes + AFTER_WINDOW + spread
    }

    async fn sum_up(mut self, seed: u64) -> anyhow::Result<Report> {
        self.ask_devices().await?;
        self.progress.finish();
        let air = self.headend.air(&self.package).await?;
        let carousel_peak_rss_bytes = self.headend.carousel_peak_rss_bytes();
        let layout = self.package.documents.layout();
        let mut devices = Vec::new();
        for device in &mut self.devices {
            device.end();
            let standing = self.results.get(&device.id);
            devices.push(device.sum_up(&layout, &self.image, standing)?);
        }
        let image_sha256 = proto::crypto::sha256(&[&self.image]).to_string();
        Ok(Report {
            outcome: verdict::outcome_of(&image_sha256, &devices),
            seconds: self.started.elapsed().as_secs_f64(),
            bytes_on_air: air.map_or(0, |air| air.bytes_sent),
            image_bytes: u64::try_from(self.image.len())?,
            image_sha256,
            seed,
            carousel_peak_rss_bytes,
            encoding: self.options.encoding.to_string(),
            report_spread_seconds: self.options.report_spread,
            devices,
        })
    }
}

fn image_file(options: &Options, folder: &Folder, seed: u64) -> anyhow::Result<PathBuf> {
    if let Some(given) = &options.image {
        return Ok(given.clone());
    }
    let path = folder.path().join("image");
    image::make(&path, options.size.0, seed).with_context(|| path.display().to_string())?;
    Ok(path)
}

async fn enrol(
    headend: &Headend,
    folder: &Folder,
    options: &Options,
    around: &Surroundings,
) -> anyhow::Result<Vec<Device>> {
    let place = |id: &str| -> PathBuf { Path::new(folder.path()).join(id) };
    let mut devices = Vec::new();
    for number in 1..=options.devices + options.unarmed {
        let id = format!("LAB-{number:04}");
        let armed = number <= options.devices;
        let arming = if armed { Arming::Armed } else { Arming::Unarmed };
        let enrolled = headend.enrol(&id, options.encoding).await?;
        let ways = device_options(options, arming)?;
        let device = Device::new(&place(&id), &id, arming, &enrolled, (around, ways))?;
        device.ask_consent().await?;
        devices.push(device);
    }
    Ok(devices)
}

fn device_options(options: &Options, arming: Arming) -> anyhow::Result<DeviceOptions> {
    if arming == Arming::Unarmed {
        return Ok(DeviceOptions::default());
    }
    let place = || std::net::UdpSocket::bind("127.0.0.1:0").and_then(|it| it.local_addr());
    Ok(DeviceOptions {
        notify: options.notify.then(place).transpose().context("find a port")?,
        suspend: options.suspend,
        consent: options.consent,
    })
}

/// Draws which devices are killed, and when.
fn kills(options: &Options, seed: u64) -> BTreeMap<usize, u64> {
    let mut rng = SeededRng::new(seed, "kills");
    let mut left: Vec<usize> = (0..usize::from(options.devices)).collect();
    let mut kills = BTreeMap::new();
    for _ in 0..options.kills {
        let drawn = rng.below(u64::try_from(left.len()).unwrap_or(0));
        let device = left.swap_remove(usize::try_from(drawn).unwrap_or(0));
        kills.insert(device, KILL_FROM + rng.below(KILL_UNTIL - KILL_FROM - KILL_MARGIN));
    }
    kills
}

/// Interval of the status polls.
const STEP: Duration = Duration::from_millis(50);
/// Results change once for each device; to read them at each poll would load the server.
const STEPS_BETWEEN_RESULTS: u32 = 5;
/// Twenty seconds of steps.
const SESSION_STEPS: u32 = 400;
/// Time after the window in which devices may still report.
const AFTER_WINDOW: Duration = Duration::from_secs(75);
/// Devices are killed when they hold at least this, per mille.
const KILL_FROM: u64 = 300;
/// Devices are killed when they hold at most this, per mille.
const KILL_UNTIL: u64 = 700;
/// Room between the latest threshold and [`KILL_UNTIL`], for what is synced at once.
const KILL_MARGIN: u64 = 150;

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn as_many_devices_are_killed_as_asked_for_each_half_way_and_a_seed_repeats_them() {
        let options = Options::parse_from(["lab", "--devices", "8", "--kills", "5"]);
        let drawn = kills(&options, 7);
        assert_eq!(drawn.len(), 5);
        assert!(drawn.keys().all(|device| *device < 8));
        assert!(drawn.values().all(|at| (KILL_FROM..=KILL_UNTIL).contains(at)));
        assert_eq!(drawn, kills(&options, 7));
        assert_ne!(drawn, kills(&options, 8));
        let all = Options::parse_from(["lab", "--devices", "3", "--kills", "3"]);
        assert_eq!(kills(&all, 7).len(), 3);
    }
}
