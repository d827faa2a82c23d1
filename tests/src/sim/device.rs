//! A device: the agent with its real wiring and storage, on a simulated clock and disk.

mod life;
mod machine;

use std::collections::BTreeMap;

use proto::{ids::DeviceId, tune_in::TuneIn};
use receiver::{
    agent,
    suspension::{ExternalCondition, Readings, SuspendReason},
};

use self::life::Life;
pub use self::machine::{Context, Machine, Setup};
use super::{
    fault::{At, ClockSurvival, Fault, FaultKind},
    injected_bugs::InjectedBug,
    package::{BEGIN, Package},
    queue::{Datagram, DeviceEvent, Event},
};

/// A device.
#[derive(Debug)]
pub struct Device {
    /// The machine that its process runs on.
    pub machine: Machine,
    life: Option<Life>,
    /// End of the machine's sleep.
    asleep: Option<At>,
    suspended: BTreeMap<SuspendReason, u32>,
    /// Set when the storage may refuse calls: then the device logs errors.
    pub hindered: bool,
    /// Set while the process stays down until a fault ends.
    held_down: bool,
}

impl Device {
    /// Returns a device that was never switched on.
    pub fn new(
        seed: u64,
        number: usize,
        setup: Setup,
        package: &'static Package,
        bug: Option<InjectedBug>,
    ) -> Self {
        Self {
            machine: Machine::new(seed, number, setup, package, bug),
            life: None,
            asleep: None,
            suspended: BTreeMap::new(),
            hindered: false,
            held_down: false,
        }
    }

    /// Returns the device's identifier.
    pub fn id(number: usize) -> DeviceId {
        machine::id(number)
    }

    /// Returns whether it is in the campaign.
    pub const fn is_addressed(&self) -> bool {
        self.machine.setup.is_addressed
    }

    /// Returns whether a life is the current one.
    pub fn lives(&self, life: u64) -> bool {
        self.life.is_some() && self.machine.lives == life
    }

    /// Returns the life that receives a datagram, if it is one of this device's channels; a device
    /// that is not in the campaign receives everything.
    pub fn life_that_receives(&self, datagram: &Datagram) -> Option<u64> {
        let life = self.life.as_ref()?;
        let is_received = |joined: &TuneIn| {
            joined.channel == datagram.channel && joined.source == datagram.source()
        };
        (!self.machine.setup.is_addressed || life.joined().any(is_received))
            .then_some(self.machine.lives)
    }

    /// Returns when the machine wakes up, if it sleeps.
    pub const fn asleep(&self) -> Option<At> {
        self.asleep
    }

    /// Starts the process; the machine boots if it is off.
    pub fn start(&mut self, mut around: Context<'_>) {
        if self.life.is_some() || self.held_down {
            return;
        }
        self.machine.lives += 1;
        if self.machine.disk.is_off() || self.machine.boots == 0 {
            self.machine.boots += 1;
            self.machine.booted = around.at;
            self.asleep = None;
            let seed = self.machine.rng.next_u64();
            self.machine.disk.power_on(seed);
            if let Some(version) = self.machine.staged.take() {
                self.machine.firmware = version;
            }
        }
        around.trace.note(
            around.at,
            format_args!("device {} starts, boot {}", self.machine.number, self.machine.boots),
        );
        self.machine.model.check_disk(&self.machine.disk);
        let seed = self.machine.rng.next_u64();
        match Life::begin(&self.machine, around.at, seed) {
            Ok(life) => {
                self.life = Some(life);
                self.report_conditions(around.at);
                self.drain(&mut around);
            }
            Err(error) => {
                around.trace.note(around.at, format_args!("it does not start: {error}"));
                let again = At(around.at.0 + 5_000);
                around.queue.at(again, Event::Start(self.machine.number));
                if self.machine.disk.is_off() {
                    self.power_lost(&mut around, 5_000);
                }
            }
        }
    }

    /// Sensors are read as soon as the process runs, and programs repeat the conditions that hold.
    fn report_conditions(&mut self, at: At) {
        let now = self.machine.now(at);
        let Some(life) = &mut self.life else { return };
        life.agent.handle_readings(now, Readings::default());
        life.agent.condition_ended(now, ExternalCondition::Call);
        for reason in SuspendReason::ALL {
            if self.suspended.contains_key(&reason) {
                life.agent.handle_suspend(now, reason);
            } else {
                life.agent.handle_resume(now, reason);
            }
        }
    }

    fn suspend(&mut self, at: At, reason: SuspendReason) {
        let now = self.machine.now(at);
        if let Some(life) = &mut self.life {
            life.agent.handle_suspend(now, reason);
        }
    }

    /// The process ends where it is. What the page cache has stays.
    fn end(&mut self, around: &mut Context<'_>, how: &str) {
        if self.life.take().is_some() {
            self.machine.lives += 1;
            self.machine.model.handle_ended();
            around.trace.note(around.at, format_args!("device {} {how}", self.machine.number));
        }
    }

    /// The power is gone; it comes back after so many milliseconds.
    fn power_lost(&mut self, around: &mut Context<'_>, off: u64) {
        self.machine.disk.cut();
        self.end(around, "loses its power");
        around.queue.at(At(around.at.0 + off), Event::Start(self.machine.number));
    }

    /// The machine boots anew.
    pub fn reboot(&mut self, mut around: Context<'_>) {
        self.power_lost(&mut around, 2_000);
    }

    /// Handles an event of the device.
    pub fn handle(&mut self, event: DeviceEvent, mut around: Context<'_>) {
        let Some(mut life) = self.life.take() else { return };
        if let DeviceEvent::Datagram(datagram) = &event {
            around.trace.octets(&datagram.octets);
        } else {
            let number = self.machine.number;
            around.trace.note(around.at, format_args!("device {number}: {}", name(&event)));
        }
        let checks = !matches!(event, DeviceEvent::Datagram(_));
        life.handle(&mut self.machine, event, &mut around);
        self.life = Some(life);
        self.drain(&mut around);
        if let Some(life) = self.life.as_ref().filter(|_| checks) {
            let mut status = life.agent.status();
            status.symbols_synced += u64::from(self.machine.bug == Some(InjectedBug::ClaimAhead));
            self.machine.model.check_status(&status);
        }
    }

    /// Executes the agent's outputs, and checks whether the power is still on.
    fn drain(&mut self, around: &mut Context<'_>) {
        if let Some(mut life) = self.life.take() {
            let stops = life.drain(&mut self.machine, around);
            self.life = Some(life);
            if stops {
                self.end(around, "stops");
                around.queue.at(At(around.at.0 + 5_000), Event::Start(self.machine.number));
            }
        }
        if self.machine.disk.is_off() && self.life.is_some() {
            let off = 1_000 + self.machine.rng.below(20_000);
            self.power_lost(around, off);
        }
    }

    /// Flips bits in what is stored of the object.
    fn flip_bits(&mut self, count: u64) {
        self.machine.model.damaged = true;
        let directory = super::model::directory(&self.machine.package.layout);
        for _ in 0..count {
            let name = if self.machine.rng.below(3) == 0 { "image.part" } else { "log.0" };
            let length = self.machine.package.image.len() as u64;
            let octet = self.machine.rng.below(4096 + length * 2);
            let bit = u8::try_from(self.machine.rng.below(8)).unwrap_or_default();
            self.machine.disk.flip_bit(&directory.join(name), octet, bit);
        }
    }

    /// A fault begins.
    pub fn begin(&mut self, fault: &Fault, mut around: Context<'_>) {
        let number = self.machine.number;
        match fault.kind {
            FaultKind::CutAtOperation { operations, clock } => {
                self.machine.disk.cut_at(self.machine.disk.operations() + operations);
                self.lose_clock(clock, around.at);
            }
            FaultKind::PowerOff { clock } => {
                self.lose_clock(clock, around.at);
                let off = fault.span.to.0 - around.at.0;
                self.power_lost(&mut around, off);
            }
            FaultKind::Kill => {
                self.end(&mut around, "is killed");
                self.held_down = true;
            }
            FaultKind::Terminate => {
                if let Some(mut life) = self.life.take() {
                    life.terminate(&mut self.machine, &mut around);
                    self.life = Some(life);
                }
                self.end(&mut around, "is terminated");
                self.held_down = true;
            }
            FaultKind::Sleep => self.asleep = Some(fault.span.to),
            FaultKind::Suspend(reason) => {
                *self.suspended.entry(reason).or_default() += 1;
                self.suspend(around.at, reason);
                self.drain(&mut around);
            }
            FaultKind::ClockStep { seconds } => self.machine.wall_ahead += seconds * 1000,
            FaultKind::DiskFull => self.machine.disk.set_capacity(64 << 10),
            FaultKind::DiskError { call, nth, how } => self.machine.disk.fail(call, nth, how),
            FaultKind::FlipBits { count } => self.flip_bits(count),
            FaultKind::SlowDisk => self.machine.slow = true,
            FaultKind::InstallFails => self.machine.failing_installs += 1,
            FaultKind::InstallHangs(effect) => self.machine.hanging_installs = Some(effect),
            FaultKind::VersionHangs => self.machine.is_version_hanging = true,
            FaultKind::Loss { .. }
            | FaultKind::Bursts { .. }
            | FaultKind::Reorder { .. }
            | FaultKind::Duplicate { .. }
            | FaultKind::Corrupt { .. }
            | FaultKind::Cut
            | FaultKind::Forge { .. }
            | FaultKind::DmLoss { .. }
            | FaultKind::BridgeDown
            | FaultKind::Replay
            | FaultKind::Lies { .. }
            | FaultKind::Supersede(_)
            | FaultKind::Disarm
            | FaultKind::SessionsLost
            | FaultKind::ServerHangs(_)
            | FaultKind::OpensHang
            | FaultKind::GatewayHangs(_)
            | FaultKind::ServerDown => {}
        }
        self.hindered |= fault.kind.hinders_storage();
        around.trace.note(around.at, format_args!("device {number}: fault begins"));
    }

    fn lose_clock(&mut self, clock: ClockSurvival, at: At) {
        if clock == ClockSurvival::Lost {
            self.machine.wall_ahead = -i64::try_from(BEGIN.0 + at.0).unwrap_or_default();
        }
    }

    /// A fault ends.
    pub fn finish(&mut self, fault: &Fault, mut around: Context<'_>) {
        match fault.kind {
            FaultKind::CutAtOperation { .. }
            | FaultKind::PowerOff { .. }
            | FaultKind::ClockStep { .. } => {
                // Somebody sets the clock.
                self.machine.wall_ahead = 0;
            }
            FaultKind::Kill | FaultKind::Terminate => {
                self.held_down = false;
                self.start(around);
                return;
            }
            FaultKind::Sleep => self.asleep = None,
            FaultKind::Suspend(reason) => {
                let count = self.suspended.entry(reason).or_default();
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.suspended.remove(&reason);
                    let now = self.machine.now(around.at);
                    if let Some(life) = &mut self.life {
                        life.agent.handle_resume(now, reason);
                    }
                }
            }
            FaultKind::DiskFull => self.machine.disk.set_capacity(u64::MAX),
            FaultKind::DiskError { .. } => self.machine.disk.heal(),
            FaultKind::SlowDisk => self.machine.slow = false,
            FaultKind::InstallHangs(_) => self.machine.hanging_installs = None,
            FaultKind::VersionHangs => self.machine.is_version_hanging = false,
            FaultKind::InstallFails => {
                self.machine.failing_installs = self.machine.failing_installs.saturating_sub(1)
            }
            FaultKind::FlipBits { .. }
            | FaultKind::Loss { .. }
            | FaultKind::Bursts { .. }
            | FaultKind::Reorder { .. }
            | FaultKind::Duplicate { .. }
            | FaultKind::Corrupt { .. }
            | FaultKind::Cut
            | FaultKind::Forge { .. }
            | FaultKind::DmLoss { .. }
            | FaultKind::BridgeDown
            | FaultKind::Replay
            | FaultKind::Lies { .. }
            | FaultKind::Supersede(_)
            | FaultKind::Disarm
            | FaultKind::SessionsLost
            | FaultKind::ServerHangs(_)
            | FaultKind::OpensHang
            | FaultKind::GatewayHangs(_)
            | FaultKind::ServerDown => {}
        }
        self.drain(&mut around);
    }

    /// Returns the status of the process, while there is one.
    pub fn status(&self) -> Option<agent::Status> {
        self.life.as_ref().map(|life| life.agent.status())
    }
}

const fn name(event: &DeviceEvent) -> &'static str {
    match event {
        DeviceEvent::Wake => "wakes",
        DeviceEvent::Datagram(_) => "receives",
        DeviceEvent::Notification(_) => "is notified",
        DeviceEvent::Storage => "serves a command",
        DeviceEvent::Solve => "does a job",
        DeviceEvent::Complete(_) => "gets an answer of its storage",
        DeviceEvent::Answer(Ok(_)) => "gets a DM answer",
        DeviceEvent::Answer(Err(_)) => "gets no DM answer",
        DeviceEvent::Version => "reads its version",
        DeviceEvent::VersionTimeout => "gets no version",
        DeviceEvent::Install => "installs",
        DeviceEvent::Installed(_) => "has installed",
    }
}
