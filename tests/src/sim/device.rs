//! A device: the agent with its real wiring and storage, on a simulated clock and disk.

mod life;

use std::{collections::BTreeMap, path::Path};

use proto::{
    dm::auth::Secret,
    ids::DeviceId,
    time::{Mono, Now, Utc},
    tune_in::TuneIn,
};
use receiver::{
    acceptance::{Kind, Limits},
    agent, dm,
    sensors::{Readings, Told},
    suspension::SuspendReason,
};

use self::life::Life;
use super::{
    disk::SimDisk,
    fault::{At, ClockKept, Fault, What},
    model::{DATA, Model},
    package::{BEGIN, CLASS, Package, VENDOR},
    plant::Plant,
    queue::{Datagram, DeviceEvent, Event, Queue},
    trace::Trace,
};
use crate::lab::chance::Chance;

/// How a device is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setup {
    /// Time between DM sessions without a reason.
    ///
    /// # Units
    ///
    /// Seconds.
    pub check_in: u64,
    /// Whether the installer wants a boot.
    pub reboots: bool,
    /// Whether it is in the campaign; one that is not hears everything all the same.
    pub is_addressed: bool,
}

/// A device.
#[derive(Debug)]
pub struct Device {
    /// Its place among the devices.
    pub number: usize,
    setup: Setup,
    package: &'static Package,
    /// What must be true of it.
    pub model: Model,
    disk: SimDisk,
    chance: Chance,
    plant: Plant,
    life: Option<Life>,
    /// Counts starts and ends, so that events of an earlier life go nowhere.
    lives: u64,
    boots: u64,
    booted: At,
    /// What the wall clock is ahead, in milliseconds.
    wall_ahead: i64,
    /// The version that is installed.
    pub firmware: String,
    /// The version that is installed at the next boot.
    staged: Option<String>,
    asleep: Option<At>,
    suspended: BTreeMap<SuspendReason, u32>,
    slow: bool,
    /// Whether the storage may say no: then errors are logged.
    pub hindered: bool,
    /// Installations that are to fail.
    failing_installs: u32,
    /// Why the process is down until somebody starts it.
    held_down: bool,
}

/// What a device acts on besides itself.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// The moment.
    pub at: At,
    /// What is to happen.
    pub queue: &'a mut Queue,
    /// What has happened.
    pub trace: &'a mut Trace,
}

impl Device {
    /// Makes a device that was never on.
    pub fn new(
        seed: u64,
        number: usize,
        setup: Setup,
        package: &'static Package,
        plant: Plant,
    ) -> Self {
        Self {
            number,
            setup,
            package,
            model: Model::new(package),
            disk: SimDisk::new(seed ^ number as u64),
            chance: Chance::new(seed, &format!("device {number}")),
            plant,
            life: None,
            lives: 0,
            boots: 0,
            booted: At(0),
            wall_ahead: 0,
            firmware: "1.0".to_owned(),
            staged: None,
            asleep: None,
            suspended: BTreeMap::new(),
            slow: false,
            hindered: false,
            failing_installs: 0,
            held_down: false,
        }
    }

    /// Returns the device's identifier.
    pub fn id(number: usize) -> DeviceId {
        format!("sim-{number}").parse().expect("letters and a number")
    }

    /// Returns whether it is in the campaign.
    pub const fn is_addressed(&self) -> bool {
        self.setup.is_addressed
    }

    /// Returns whether a life is the one that goes on.
    pub fn lives(&self, life: u64) -> bool {
        self.life.is_some() && self.lives == life
    }

    /// Returns the life that hears a datagram, if it is one of this device's channels; a device
    /// that is not in the campaign hears everything.
    pub fn life_that_hears(&self, datagram: &Datagram) -> Option<u64> {
        let life = self.life.as_ref()?;
        let heard = |joined: &TuneIn| {
            joined.channel == datagram.channel && joined.source == datagram.source()
        };
        (!self.setup.is_addressed || life.joined().any(heard)).then_some(self.lives)
    }

    /// Returns when the machine wakes up, if it sleeps.
    pub const fn asleep(&self) -> Option<At> {
        self.asleep
    }

    fn now(&self, at: At) -> Now {
        let up = at.0.saturating_sub(self.booted.0) + 1_000;
        let wall = BEGIN.0.saturating_add(at.0).saturating_add_signed(self.wall_ahead);
        Now { mono: Mono(up * 1_000_000), utc: Utc(wall) }
    }

    fn at(&self, mono: Mono) -> At {
        let up = mono.0.div_ceil(1_000_000).saturating_sub(1_000);
        At(self.booted.0.saturating_add(up))
    }

    fn settings(&self) -> agent::Config {
        let id = Self::id(self.number);
        let user = id.as_str().to_owned();
        agent::Config {
            device_class: Kind { vendor: VENDOR, class: CLASS },
            limits: Limits { max_block_symbols: 8192, ..Limits::default() },
            dm: dm::Settings {
                identity: dm::Identity::new(id, "Sim".to_owned(), "One".to_owned()),
                account: dm::Account {
                    url: super::bridge::URL.to_owned(),
                    server_id: "fumocast".to_owned(),
                    encoding: proto::dm::encoding::Encoding::Xml,
                    auth: proto::dm::auth::AuthKind::Md5,
                    server: None,
                    secret: Secret::new(&user, &super::bridge::password(self.number)),
                    user,
                },
                object: "./FwUpdate/Main".parse().expect("a node"),
            },
            check_in: std::time::Duration::from_secs(self.setup.check_in),
            first_nonce: super::bridge::NONCE.to_vec(),
            user: receiver::user::Settings::default(),
            components: receiver::components::Inventory::Absent,
        }
    }

    /// Starts the process; the machine boots if it is off.
    pub fn start(&mut self, mut around: Surroundings<'_>) {
        if self.life.is_some() || self.held_down {
            return;
        }
        self.lives += 1;
        if self.disk.is_off() || self.boots == 0 {
            self.boots += 1;
            self.booted = around.at;
            self.asleep = None;
            let seed = self.chance.next();
            self.disk.power_on(seed);
            if let Some(version) = self.staged.take() {
                self.firmware = version;
            }
        }
        around
            .trace
            .note(around.at, format_args!("device {} starts, boot {}", self.number, self.boots));
        self.model.check_disk(&self.disk);
        let seed = self.chance.next();
        match Life::begin(self, around.at, seed) {
            Ok(life) => {
                self.life = Some(life);
                self.tell_what_holds(around.at);
                self.drain(&mut around);
            }
            Err(error) => {
                around.trace.note(around.at, format_args!("it does not start: {error}"));
                let again = At(around.at.0 + 5_000);
                around.queue.at(again, Event::Start(self.number));
                if self.disk.is_off() {
                    self.power_lost(&mut around, 5_000);
                }
            }
        }
    }

    /// Sensors are read as soon as the process runs, and programs say again what goes on.
    fn tell_what_holds(&mut self, at: At) {
        let now = self.now(at);
        let Some(life) = &mut self.life else { return };
        life.agent.handle_readings(now, Readings::default());
        life.agent.condition_ended(now, Told::Call);
        for reason in SuspendReason::ALL {
            if self.suspended.contains_key(&reason) {
                life.agent.handle_suspend(now, reason);
            } else {
                life.agent.handle_resume(now, reason);
            }
        }
    }

    fn suspend(&mut self, at: At, reason: SuspendReason) {
        let now = self.now(at);
        if let Some(life) = &mut self.life {
            life.agent.handle_suspend(now, reason);
        }
    }

    /// The process ends where it is. What the page cache has stays.
    fn end(&mut self, around: &mut Surroundings<'_>, how: &str) {
        if self.life.take().is_some() {
            self.lives += 1;
            self.model.handle_ended();
            around.trace.note(around.at, format_args!("device {} {how}", self.number));
        }
    }

    /// The power is gone; it comes back after so many milliseconds.
    fn power_lost(&mut self, around: &mut Surroundings<'_>, off: u64) {
        self.disk.cut();
        self.end(around, "loses its power");
        around.queue.at(At(around.at.0 + off), Event::Start(self.number));
    }

    /// The machine boots anew.
    pub fn reboot(&mut self, mut around: Surroundings<'_>) {
        self.power_lost(&mut around, 2_000);
    }

    /// Something happens to the device.
    pub fn handle(&mut self, event: DeviceEvent, mut around: Surroundings<'_>) {
        let Some(mut life) = self.life.take() else { return };
        if let DeviceEvent::Datagram(datagram) = &event {
            around.trace.octets(&datagram.octets);
        } else {
            let number = self.number;
            around.trace.note(around.at, format_args!("device {number}: {}", name(&event)));
        }
        let checks = !matches!(event, DeviceEvent::Datagram(_));
        life.handle(self, event, &mut around);
        self.life = Some(life);
        self.drain(&mut around);
        if let Some(life) = self.life.as_ref().filter(|_| checks) {
            let mut status = life.agent.status();
            status.symbols_synced += u64::from(self.plant == Plant::ClaimAhead);
            self.model.check_status(&status);
        }
    }

    /// Does all that the agent wants, and looks whether the power is still there.
    fn drain(&mut self, around: &mut Surroundings<'_>) {
        if let Some(mut life) = self.life.take() {
            let stops = life.drain(self, around);
            self.life = Some(life);
            if stops {
                self.end(around, "stops");
                around.queue.at(At(around.at.0 + 5_000), Event::Start(self.number));
            }
        }
        if self.disk.is_off() && self.life.is_some() {
            let off = 1_000 + self.chance.below(20_000);
            self.power_lost(around, off);
        }
    }

    /// Flips bits in what is stored of the object.
    fn flip_bits(&mut self, count: u64) {
        self.model.damaged = true;
        let directory = super::model::directory(&self.package.layout);
        for _ in 0..count {
            let name = if self.chance.below(3) == 0 { "image.part" } else { "log.0" };
            let length = self.package.image.len() as u64;
            let octet = self.chance.below(4096 + length * 2);
            let bit = u8::try_from(self.chance.below(8)).unwrap_or_default();
            self.disk.flip_bit(&directory.join(name), octet, bit);
        }
    }

    /// A fault begins.
    pub fn begin(&mut self, fault: &Fault, mut around: Surroundings<'_>) {
        let number = self.number;
        match fault.what {
            What::CutAtOperation { operations, clock } => {
                self.disk.cut_at(self.disk.operations() + operations);
                self.lose_clock(clock, around.at);
            }
            What::PowerOff { clock } => {
                self.lose_clock(clock, around.at);
                let off = fault.span.to.0 - around.at.0;
                self.power_lost(&mut around, off);
            }
            What::Kill => {
                self.end(&mut around, "is killed");
                self.held_down = true;
            }
            What::Terminate => {
                if let Some(mut life) = self.life.take() {
                    life.terminate(self, &mut around);
                    self.life = Some(life);
                }
                self.end(&mut around, "is told to end");
                self.held_down = true;
            }
            What::Sleep => self.asleep = Some(fault.span.to),
            What::Suspend(reason) => {
                *self.suspended.entry(reason).or_default() += 1;
                self.suspend(around.at, reason);
                self.drain(&mut around);
            }
            What::ClockStep { seconds } => self.wall_ahead += seconds * 1000,
            What::DiskFull => self.disk.set_capacity(64 << 10),
            What::DiskError { call, nth, how } => self.disk.fail(call, nth, how),
            What::FlipBits { count } => self.flip_bits(count),
            What::SlowDisk => self.slow = true,
            What::InstallFails => self.failing_installs += 1,
            What::Loss { .. }
            | What::Bursts { .. }
            | What::Reorder { .. }
            | What::Duplicate { .. }
            | What::Corrupt { .. }
            | What::Cut
            | What::Forge { .. }
            | What::DmLoss { .. }
            | What::BridgeDown
            | What::Replay
            | What::Lies { .. }
            | What::Supersede(_)
            | What::Disarm
            | What::ServerDown => {}
        }
        self.hindered |= fault.what.hinders_storage();
        around.trace.note(around.at, format_args!("device {number}: fault begins"));
    }

    fn lose_clock(&mut self, clock: ClockKept, at: At) {
        if clock == ClockKept::Lost {
            self.wall_ahead = -i64::try_from(BEGIN.0 + at.0).unwrap_or_default();
        }
    }

    /// A fault ends.
    pub fn finish(&mut self, fault: &Fault, mut around: Surroundings<'_>) {
        match fault.what {
            What::CutAtOperation { .. } | What::PowerOff { .. } | What::ClockStep { .. } => {
                // Somebody sets the clock.
                self.wall_ahead = 0;
            }
            What::Kill | What::Terminate => {
                self.held_down = false;
                self.start(around);
                return;
            }
            What::Sleep => self.asleep = None,
            What::Suspend(reason) => {
                let count = self.suspended.entry(reason).or_default();
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.suspended.remove(&reason);
                    let now = self.now(around.at);
                    if let Some(life) = &mut self.life {
                        life.agent.handle_resume(now, reason);
                    }
                }
            }
            What::DiskFull => self.disk.set_capacity(u64::MAX),
            What::DiskError { .. } => self.disk.heal(),
            What::SlowDisk => self.slow = false,
            What::InstallFails => self.failing_installs = self.failing_installs.saturating_sub(1),
            What::FlipBits { .. }
            | What::Loss { .. }
            | What::Bursts { .. }
            | What::Reorder { .. }
            | What::Duplicate { .. }
            | What::Corrupt { .. }
            | What::Cut
            | What::Forge { .. }
            | What::DmLoss { .. }
            | What::BridgeDown
            | What::Replay
            | What::Lies { .. }
            | What::Supersede(_)
            | What::Disarm
            | What::ServerDown => {}
        }
        self.drain(&mut around);
    }

    /// Returns what the process says of itself, while there is one.
    pub fn status(&self) -> Option<agent::Status> {
        self.life.as_ref().map(|life| life.agent.status())
    }

    fn data() -> &'static Path {
        Path::new(DATA)
    }
}

const fn name(event: &DeviceEvent) -> &'static str {
    match event {
        DeviceEvent::Wake => "wakes",
        DeviceEvent::Datagram(_) => "hears",
        DeviceEvent::Storage => "serves a command",
        DeviceEvent::Solve => "does a job",
        DeviceEvent::Complete(_) => "gets an answer of its storage",
        DeviceEvent::Answer(Ok(_)) => "gets a DM answer",
        DeviceEvent::Answer(Err(_)) => "gets no DM answer",
        DeviceEvent::Version => "reads its version",
        DeviceEvent::Install => "installs",
        DeviceEvent::Installed(_) => "has installed",
    }
}
