//! One device of the fleet, as the lab sees it: its folder, its process, its status.

use std::{
    fs,
    net::{SocketAddr, SocketAddrV4},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use receiver::{
    shell::{
        consent,
        control::{self, Answer, Request},
        data_dir::DataDir,
    },
    store::ObjectLayout,
};
use serde::Deserialize;

use crate::lab::{
    counters,
    device_storage::{self, DeviceStorage},
    headend::CampaignDevice,
    hook, image,
    options::Percent,
    process::{Process, Role},
    progress::DeviceView,
    report, user,
};

/// Relation of a device to the campaign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arming {
    /// It is armed.
    Armed,
    /// It is enrolled, receives everything, and must store nothing.
    Unarmed,
}

/// Settings that all devices of a run share.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Seed of the run.
    pub seed: u64,
    /// Share of datagrams that each device loses.
    pub loss: Percent,
    /// The channel, for those that listen without being armed.
    pub channel: SocketAddrV4,
    /// The only sender.
    pub source: std::net::Ipv4Addr,
    /// The factory root.
    pub root: PathBuf,
    /// Folder of the logs.
    pub logs: PathBuf,
}

/// A device.
#[derive(Debug)]
pub struct Device {
    /// `./DevInfo/DevId`.
    pub id: String,
    /// Its relation to the campaign.
    pub arming: Arming,
    folder: PathBuf,
    process: Option<Process>,
    /// Its last status.
    status: Status,
    /// Forged packets that its earlier lives refused.
    forged_before: u64,
    needed: u64,
    peak_rss_bytes: u64,
    kills: u32,
    stored_before_kill: Option<u64>,
    resumed: Option<u64>,
    /// Symbols in its folder that are not those of the image.
    wrong_symbols: u64,
    /// Address of its notifications.
    notify: Option<SocketAddr>,
    /// Set when a notification caused a session.
    notified: bool,
    suspension: Suspension,
    /// Set when its user is to be asked.
    consent: bool,
}

/// State of the one suspension of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Suspension {
    NotWanted,
    Ahead,
    /// Status polls until it is resumed.
    Holds(u32),
    Over,
}

/// Options of a device beside reception.
#[derive(Debug, Clone, Copy, Default)]
pub struct DeviceOptions {
    /// Address of its notifications.
    pub notify: Option<SocketAddr>,
    /// Set when it is suspended once.
    pub suspend: bool,
    /// Set when its user is asked at enrolment, and would be before each step of an update.
    pub consent: bool,
}

/// The part of the receiver's status that the lab reads.
#[derive(Debug, Clone, Default, Deserialize)]
struct Status {
    #[serde(default)]
    phase: String,
    #[serde(default)]
    symbols_synced: u64,
    #[serde(default)]
    symbols_needed: u64,
    #[serde(default)]
    symbols_resumed: u64,
    #[serde(default)]
    reports_waiting: u64,
    #[serde(default)]
    stats: Stats,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Stats {
    #[serde(default)]
    data_accepted: u64,
    #[serde(default)]
    header_forged: u64,
    #[serde(default)]
    table_forged: u64,
    #[serde(default)]
    data_forged: u64,
}

impl Stats {
    const fn forged(&self) -> u64 {
        self.header_forged + self.table_forged + self.data_forged
    }
}

impl Device {
    /// Makes the folder and the configuration of a device from what its enrolment printed.
    ///
    /// # Errors
    ///
    /// When the folder cannot be written.
    pub fn new(
        folder: &Path,
        id: &str,
        arming: Arming,
        enrolled: &str,
        (around, ways): (&Surroundings, DeviceOptions),
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let hook = Role::new("hook")?.arg(folder).words();
        let settings = toml::toml! {
            [receiver]
            interface = (around.source.to_string())
            poll_interval_seconds = 3600
        };
        let mut config: toml::Table = enrolled.parse().context("read the enrolment")?;
        config.extend(settings);
        let settings = config.get_mut("receiver").and_then(toml::Value::as_table_mut);
        let settings = settings.context("the configuration has a section [receiver]")?;
        let text = |path: &Path| toml::Value::from(path.display().to_string());
        settings.insert("data".into(), text(&folder.join(DATA)));
        settings.insert("trust_root".into(), text(&around.root));
        settings.insert("installer_hook".into(), toml::Value::from(hook));
        // What else this machine does is no matter to a lab.
        settings.insert("sysfs_root".into(), text(&folder.join("sensors")));
        if let Some(place) = ways.notify {
            settings.insert("notification_udp".into(), toml::Value::from(place.to_string()));
        }
        if ways.consent {
            let user = Role::new("user")?.arg(folder).words();
            settings.insert("user_interface".into(), "hook".into());
            settings.insert("user_hook".into(), toml::Value::from(user));
            settings.insert("consent".into(), "both".into());
        }
        let path = folder.join(CONFIG);
        fs::write(&path, config.to_string()).with_context(|| path.display().to_string())?;
        Ok(Self {
            id: id.to_owned(),
            arming,
            folder: folder.to_owned(),
            process: None,
            status: Status::default(),
            forged_before: 0,
            needed: 0,
            peak_rss_bytes: 0,
            kills: 0,
            stored_before_kill: None,
            resumed: None,
            wrong_symbols: 0,
            notify: ways.notify,
            notified: false,
            suspension: if ways.suspend { Suspension::Ahead } else { Suspension::NotWanted },
            consent: ways.consent,
        })
    }

    /// Runs `receiver consent`, if its user is to be asked.
    ///
    /// # Errors
    ///
    /// When `receiver consent` fails, or the answer is no.
    pub async fn ask_consent(&self) -> anyhow::Result<()> {
        if !self.consent {
            return Ok(());
        }
        let role = Role::new("receiver")?.arg("consent").arg("--config");
        role.arg(self.folder.join(CONFIG)).run(&self.folder).await.map(drop)
    }

    /// Returns whether the user's consent is on record and no question followed it.
    fn consented(&self) -> anyhow::Result<bool> {
        if !self.consent {
            return Ok(false);
        }
        let record = consent::read(&self.folder.join(DATA)).context("read the consent")?;
        Ok(record.is_some_and(|record| record.agreed) && user::asked(&self.folder)? == 1)
    }

    /// Begins a life.
    ///
    /// # Errors
    ///
    /// When the process cannot be started.
    pub fn start(&mut self, around: &Surroundings) -> anyhow::Result<()> {
        let mut role = Role::new("device")?
            .args(["--name", &self.id])
            .arg("--config")
            .arg(self.folder.join(CONFIG))
            .arg("--counters")
            .arg(self.folder.join(COUNTERS))
            .args(["--loss", &around.loss.0.to_string(), "--seed", &around.seed.to_string()]);
        if self.arming == Arming::Unarmed {
            role = role.args(["--listen", &around.channel.to_string()]);
            role = role.args(["--source", &around.source.to_string()]);
        }
        self.process = Some(role.start(&around.logs.join(format!("{}.log", self.id)))?);
        Ok(())
    }

    /// Returns the control socket of a running receiver.
    pub fn control_socket(&self) -> PathBuf {
        DataDir::control_socket(&self.folder.join(DATA))
    }

    /// Stores its status, and fails when its process has ended.
    ///
    /// # Errors
    ///
    /// When the process has ended by itself.
    pub fn note(&mut self, said: Option<serde_json::Value>) -> anyhow::Result<()> {
        if let Some(process) = &mut self.process {
            process.check_running()?;
            self.peak_rss_bytes = self.peak_rss_bytes.max(process.peak_rss_bytes().unwrap_or(0));
        }
        if let Some(status) = said.and_then(|said| serde_json::from_value::<Status>(said).ok()) {
            self.needed = self.needed.max(status.symbols_needed);
            if self.kills > 0 && status.symbols_resumed > 0 {
                self.resumed = Some(status.symbols_resumed);
            }
            self.status = status;
        }
        Ok(())
    }

    /// Returns the address of its notifications.
    pub const fn notify_place(&self) -> Option<SocketAddr> {
        self.notify
    }

    /// Records that a notification has caused a session.
    pub const fn note_notified(&mut self) {
        self.notified = true;
    }

    /// Suspends it once it holds symbols, by the reason `call`, and resumes it
    /// after some polls.
    pub fn suspend_due(&mut self) {
        let ask = |request: &Request| control::call(&self.control_socket(), request);
        let reason = || "call".to_owned();
        let is_done = |answer: Result<Answer, _>| matches!(answer, Ok(Answer::Done));
        self.suspension = match self.suspension {
            Suspension::Ahead
                if self.status.phase == "receiving" && self.status.symbols_synced > 0 =>
            {
                if is_done(ask(&Request::Suspend { reason: reason() })) {
                    Suspension::Holds(SUSPENDED_LOOKS)
                } else {
                    Suspension::Ahead
                }
            }
            Suspension::Holds(0) => {
                if is_done(ask(&Request::Resume { reason: reason() })) {
                    Suspension::Over
                } else {
                    Suspension::Holds(0)
                }
            }
            Suspension::Holds(left) if self.status.phase == "suspended" => {
                Suspension::Holds(left - 1)
            }
            other @ (Suspension::NotWanted
            | Suspension::Ahead
            | Suspension::Holds(_)
            | Suspension::Over) => other,
        };
    }

    /// Kills it (SIGKILL), counts what its folder holds, and starts it again at once.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read or the process cannot be started.
    pub fn kill(
        &mut self,
        around: &Surroundings,
        layout: &ObjectLayout,
        image: &[u8],
    ) -> anyhow::Result<()> {
        self.end();
        let stored = self.read_folder(layout)?;
        self.stored_before_kill = Some(stored.stored(layout));
        self.wrong_symbols += stored.wrong_symbols(layout, image);
        self.kills += 1;
        self.resumed = Some(0);
        self.start(around)
    }

    /// Ends its life.
    pub fn end(&mut self) {
        if let Some(mut process) = self.process.take() {
            self.peak_rss_bytes = self.peak_rss_bytes.max(process.peak_rss_bytes().unwrap_or(0));
            process.kill();
            self.forged_before += self.status.stats.forged();
            self.status.stats = Stats::default();
        }
    }

    /// Returns the state for the progress display.
    pub fn view(&self) -> DeviceView {
        // Once a package is handed off, the device drops the object: all of it was received.
        let done = self.needed > 0 && self.status.symbols_needed == 0;
        DeviceView {
            id: self.id.clone(),
            phase: self.shown_phase(),
            held: if done { self.needed } else { self.status.symbols_synced },
            needed: self.needed,
        }
    }

    fn shown_phase(&self) -> String {
        match (self.status.phase.as_str(), self.arming) {
            ("", _) => "starting".to_owned(),
            (phase, Arming::Armed) => phase.to_owned(),
            (phase, Arming::Unarmed) => format!("{phase} (unarmed)"),
        }
    }

    /// Returns how much it holds, symbols that are not synced yet included.
    ///
    /// # Units
    ///
    /// Per mille.
    pub fn taken_per_mille(&self) -> u64 {
        let view = self.view();
        DeviceView { held: view.held.max(self.status.stats.data_accepted), ..view }.per_mille()
    }

    /// Returns whether it has a result, reported or not.
    pub fn is_through(&self) -> bool {
        self.status.reports_waiting > 0 || (self.needed > 0 && self.status.symbols_needed == 0)
    }

    fn read_folder(&self, layout: &ObjectLayout) -> anyhow::Result<DeviceStorage> {
        device_storage::read(&self.folder.join(DATA), layout)
            .with_context(|| format!("read {}", self.id))
    }

    /// Returns its part of the report; its process must have ended.
    ///
    /// # Errors
    ///
    /// When its folder cannot be read.
    pub fn sum_up(
        &self,
        layout: &ObjectLayout,
        image_bytes: &[u8],
        standing: Option<&CampaignDevice>,
    ) -> anyhow::Result<report::Device> {
        let stored = self.read_folder(layout)?;
        let counts = counters::read(&self.folder.join(COUNTERS))?;
        let installed = self.folder.join(hook::INSTALLED);
        let image_sha256 = match installed.exists() {
            true => Some(image::digest(&installed)?.to_string()),
            false => None,
        };
        // A device of no campaign is unknown to the API's list; its own status is read.
        let phase = standing.map_or(&self.status.phase, |standing| &standing.phase);
        Ok(report::Device {
            id: self.id.clone(),
            armed: self.arming == Arming::Armed,
            phase: phase.clone(),
            result_code: standing.and_then(|standing| standing.result_code),
            image_sha256,
            datagrams_heard: counts.datagrams,
            data_heard: counts.data,
            symbols_needed: self.needed,
            symbols_resumed: self.resumed,
            symbols_stored_before_kill: self.stored_before_kill,
            forged_dropped: self.forged_before + self.status.stats.forged(),
            kills: self.kills,
            notified: self.notified,
            suspended: self.suspension == Suspension::Over,
            consented: self.consented()?,
            slots_held: stored.slots(),
            peak_rss_bytes: self.peak_rss_bytes,
            wrong_symbols: self.wrong_symbols + stored.wrong_symbols(layout, image_bytes),
        })
    }
}

/// Requests the status of the receiver on `socket`; `None` when it does not answer.
pub fn ask(socket: &Path) -> Option<serde_json::Value> {
    match control::call(socket, &Request::Status) {
        Ok(Answer::Status { status }) => Some(status),
        Ok(Answer::Done | Answer::Version { .. } | Answer::Refused { .. }) | Err(_) => None,
    }
}

/// The receiver's data directory within a device's folder.
const DATA: &str = "data";
const CONFIG: &str = "device.toml";
const COUNTERS: &str = "counters";
/// Polls for which a call lasts.
const SUSPENDED_LOOKS: u32 = 6;
