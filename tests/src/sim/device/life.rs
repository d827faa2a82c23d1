//! One life of the device's process: agent, wiring, storage.

use std::collections::VecDeque;

use proto::tune_in::TuneIn;
use receiver::{
    agent::Agent,
    dm::client::{Failure, Post},
    installer::InstallOutcome,
    journal_state::JournalState,
    shell::{
        directory::DataDirectory,
        storage::{Command, Completion, Job, Solver, Worker},
        wiring::{self, Beside, Origin, Wiring},
    },
    symbols::{JournalImage, LogOutput},
};

use super::{Device, Surroundings};
use crate::sim::{
    fault::At,
    package::VERSION,
    plant::Plant,
    queue::{DeviceEvent, Event, Message},
};

/// A running process.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) agent: Agent,
    number: u64,
    wiring: Wiring,
    worker: Worker,
    solver: Solver,
    commands: VecDeque<Command>,
    jobs: VecDeque<Job>,
    serving: bool,
    solving: bool,
    /// Completions arrive in their order.
    last_completion: At,
    wake: Option<At>,
    joined: Vec<TuneIn>,
}

impl Life {
    pub(super) fn begin(device: &Device, at: At, seed: u64) -> anyhow::Result<Self> {
        let directory = DataDirectory::open_on(device.disk.shared(), Device::data())?;
        let origin = Origin {
            factory_root: device.package.factory_root(),
            boot_id: format!("boot-{}", device.boots),
            seed,
        };
        let agent = wiring::restore(device.now(at), device.settings(), origin, &directory)?;
        Ok(Self {
            agent,
            number: device.lives,
            wiring: Wiring::default(),
            solver: Solver::new(&directory),
            worker: Worker::new(directory),
            commands: VecDeque::new(),
            jobs: VecDeque::new(),
            serving: false,
            solving: false,
            last_completion: at,
            wake: None,
            joined: Vec::new(),
        })
    }

    pub(super) fn joined(&self) -> impl Iterator<Item = &TuneIn> {
        self.joined.iter()
    }

    pub(super) fn handle(
        &mut self,
        device: &mut Device,
        event: DeviceEvent,
        around: &mut Surroundings<'_>,
    ) {
        let now = device.now(around.at);
        match event {
            DeviceEvent::Wake => {
                if self.wake.is_some_and(|wake| wake <= around.at) {
                    self.wake = None;
                }
                self.agent.handle_timeout(now);
            }
            DeviceEvent::Datagram(datagram) => {
                let source = datagram.source();
                self.agent.handle_datagram(now, datagram.channel, source, &datagram.octets);
            }
            DeviceEvent::Storage => self.serve(device, around),
            DeviceEvent::Solve => {
                self.solving = false;
                if let Some(job) = self.jobs.pop_front() {
                    let completion = self.solver.solve(job);
                    self.answer(device, around, completion);
                }
            }
            DeviceEvent::Complete(completion) => {
                self.wiring.complete(now, &mut self.agent, completion);
            }
            DeviceEvent::Answer(Ok(body)) => self.agent.handle_response(now, &body),
            DeviceEvent::Answer(Err(failure)) => {
                if device.plant == Plant::LogAnError {
                    tracing::error!("an answer is lost");
                }
                self.agent.handle_post_failure(now, failure);
            }
            DeviceEvent::Version => self.agent.handle_version(now, Some(device.firmware.clone())),
            DeviceEvent::Install => self.install(device, around),
            DeviceEvent::Installed(outcome) => self.agent.handle_installed(now, outcome),
        }
    }

    /// The installer takes the image; the power may go before it says so.
    fn install(&mut self, device: &mut Device, around: &mut Surroundings<'_>) {
        let outcome = if device.failing_installs > 0 {
            InstallOutcome::Failed
        } else if device.setup.reboots {
            device.staged = Some(VERSION.to_owned());
            // Whatever becomes of the process.
            around.queue.at(At(around.at.0 + 3_000), Event::Reboot(device.number));
            InstallOutcome::RebootNeeded
        } else {
            VERSION.clone_into(&mut device.firmware);
            InstallOutcome::Done
        };
        self.later(device, around, 50, DeviceEvent::Installed(outcome));
    }

    fn later(
        &self,
        device: &mut Device,
        around: &mut Surroundings<'_>,
        most: u64,
        event: DeviceEvent,
    ) {
        let after = 1 + device.chance.below(most);
        let event = Event::Device(device.number, self.number, event);
        around.queue.at(At(around.at.0 + after), event);
    }

    /// The storage serves the next command, or reserves while there is none.
    fn serve(&mut self, device: &mut Device, around: &mut Surroundings<'_>) {
        self.serving = false;
        match self.commands.pop_front() {
            Some(command) => {
                if let Command::KeepOnly(kept) = &command {
                    device.model.handle_dropped(kept);
                }
                self.worker.handle(command);
            }
            None => self.worker.reserve(),
        }
        self.jobs.extend(std::iter::from_fn(|| self.worker.poll_job()));
        while let Some(completion) = self.worker.poll_completion() {
            self.answer(device, around, completion);
        }
    }

    fn answer(
        &mut self,
        device: &mut Device,
        around: &mut Surroundings<'_>,
        completion: Completion,
    ) {
        // What has not happened before the power went was not acknowledged.
        if device.disk.is_off() {
            return;
        }
        device.model.handle_completion(&completion);
        let after = At(around.at.0 + device.chance.below(3));
        self.last_completion = self.last_completion.max(after);
        let event = DeviceEvent::Complete(completion);
        let event = Event::Device(device.number, self.number, event);
        around.queue.at(self.last_completion, event);
    }

    /// Does what the agent wants; returns whether it wants to stop.
    pub(super) fn drain(&mut self, device: &mut Device, around: &mut Surroundings<'_>) -> bool {
        let now = device.now(around.at);
        while let Some(output) = self.agent.poll_output(now) {
            match self.wiring.command(output) {
                Ok(command) => self.command(device, around, command),
                Err(beside) => {
                    if self.perform(device, around, *beside) {
                        return true;
                    }
                }
            }
        }
        self.schedule(device, around);
        false
    }

    fn schedule(&mut self, device: &mut Device, around: &mut Surroundings<'_>) {
        let storage_time = if device.slow { 900 } else { 4 };
        if !self.serving && (!self.commands.is_empty() || self.worker.is_reserving()) {
            self.serving = true;
            self.later(device, around, storage_time, DeviceEvent::Storage);
        }
        if !self.solving && !self.jobs.is_empty() {
            self.solving = true;
            self.later(device, around, storage_time * 8, DeviceEvent::Solve);
        }
        let deadline = self.agent.deadline(device.now(around.at)).map(|mono| device.at(mono));
        if let Some(deadline) = deadline {
            let at = deadline.max(At(around.at.0 + 1));
            if self.wake.is_none_or(|wake| at < wake) {
                self.wake = Some(at);
                let event = Event::Device(device.number, self.number, DeviceEvent::Wake);
                around.queue.at(at, event);
            }
        }
    }

    fn command(
        &mut self,
        device: &mut Device,
        around: &mut Surroundings<'_>,
        mut command: Command,
    ) {
        spoil(&mut command, device.plant);
        device.model.handle_command(&command);
        match (&command, device.plant) {
            (Command::Log(key, LogOutput::Flush(ticket)), Plant::AcknowledgeBeforeSync) => {
                let completion = Completion::Flushed(*key, *ticket);
                self.answer(device, around, completion);
                return;
            }
            (Command::Finish(layout), Plant::HandOffUnverified) => {
                let sha256 = layout.stored_sha256();
                let outcome = receiver::shell::objects::FinishOutcome::Ready { sha256 };
                let completion = Completion::Finished(layout.object_key(), outcome);
                self.answer(device, around, completion);
                return;
            }
            (Command::Journal(write), Plant::ForgetJournals) if write.generation % 3 == 0 => {
                let completion = Completion::JournalWritten(write.generation);
                self.answer(device, around, completion);
                return;
            }
            _ => {}
        }
        self.commands.push_back(command);
    }

    fn perform(
        &mut self,
        device: &mut Device,
        around: &mut Surroundings<'_>,
        beside: Beside,
    ) -> bool {
        match beside {
            Beside::Join(tune_in) => {
                if !device.setup.is_addressed {
                    device.model.breach("a device that is not in the campaign joins".to_owned());
                }
                self.joined.push(tune_in);
            }
            Beside::Leave(tune_in) => self.joined.retain(|joined| *joined != tune_in),
            Beside::ReadVersion => self.later(device, around, 20, DeviceEvent::Version),
            Beside::Install(layout, request) => {
                if device.plant == Plant::DeliverAnother {
                    let image = crate::sim::model::directory(&layout).join("image");
                    device.disk.flip_bit(&image, 5, 1);
                }
                if device.plant == Plant::HandOffTwice {
                    device.model.check_install(&device.disk, &layout, &request);
                }
                device.model.check_install(&device.disk, &layout, &request);
                self.later(device, around, 200, DeviceEvent::Install);
            }
            Beside::Post(_) if device.plant == Plant::FallSilent && device.firmware == VERSION => {
                self.later(device, around, 30_000, DeviceEvent::Answer(Err(Failure::Network)));
            }
            // The devices of a world have no user and get nothing by unicast.
            Beside::Ask(_) | Beside::Fetch(_) | Beside::Notify(..) | Beside::Components(_) => {}
            Beside::Post(Post { url, body, .. }) => {
                let message = Message { url, body };
                let after = 5 + device.chance.below(80);
                let event = Event::Request(device.number, self.number, message);
                around.queue.at(At(around.at.0 + after), event);
            }
            Beside::Stop(error) => {
                around.trace.note(around.at, format_args!("{error}"));
                return true;
            }
        }
        false
    }

    /// Syncs what was received, and waits for everything that was asked of the storage.
    pub(super) fn terminate(&mut self, device: &mut Device, around: &mut Surroundings<'_>) {
        self.agent.handle_shutdown();
        self.drain(device, around);
        while let Some(command) = self.commands.pop_front() {
            if let Command::KeepOnly(kept) = &command {
                device.model.handle_dropped(kept);
            }
            self.worker.handle(command);
            while let Some(completion) = self.worker.poll_completion() {
                if !device.disk.is_off() {
                    device.model.handle_completion(&completion);
                }
            }
        }
    }
}

/// Makes the mistake that shows in what is asked of the storage.
fn spoil(command: &mut Command, plant: Plant) {
    if let Command::Log(_, LogOutput::Write { octets, .. }) = command
        && plant == Plant::StoreUnchecked
        && let Some(octet) = std::sync::Arc::make_mut(octets).get_mut(60)
    {
        *octet ^= 1;
    }
    if let Command::Journal(write) = command
        && plant == Plant::ForgetRoots
        && write.generation.is_multiple_of(3)
        && let Ok(mut image) = JournalImage::<JournalState>::parse(&write.octets)
    {
        image.body.root_version = image.body.root_version.min(1);
        write.octets = image.emit().unwrap_or_default();
    }
}
