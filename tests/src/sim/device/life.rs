//! One life of the device's process: agent, router, storage.

use std::collections::VecDeque;

use proto::{fixtures::documents::VERSION, tune_in::TuneIn};
use receiver::{
    agent::{Agent, NetworkRequest, Output},
    dm::client::{HttpRequest, TransportError},
    shell::{
        data_dir::DataDir,
        restore::{StartParameters, restore},
        storage::{DecodeWorker, Job, Worker},
    },
    store::{
        JournalImage, LogOutput,
        commands::{Completion, StorageCommand, VerifyOutcome},
        journal_state::JournalState,
    },
    update::installer::{InstallOutcome, InstallerAnswer, InstallerCall},
};

use super::machine::{Context, Machine};
use crate::sim::{
    fault::{At, Effect},
    injected_bugs::InjectedBug,
    queue::{DeviceEvent, Event, Message},
};

/// Time after which an installer that does not end is killed, and has failed.
const INSTALL_TIME: u64 = 1_800_000;
/// Time after which an installer that does not tell the version is killed.
const VERSION_TIME: u64 = 30_000;

/// A running process.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) agent: Agent,
    number: u64,
    worker: Worker,
    decoder: DecodeWorker,
    commands: VecDeque<StorageCommand>,
    jobs: VecDeque<Job>,
    serving: bool,
    solving: bool,
    /// Completions arrive in their order.
    last_completion: At,
    wake: Option<At>,
    joined: Vec<TuneIn>,
}

impl Life {
    pub(super) fn begin(machine: &Machine, at: At, seed: u64) -> anyhow::Result<Self> {
        let directory = DataDir::open_on(machine.disk.shared(), Machine::data())?;
        let parameters = StartParameters {
            factory_root: machine.package.factory_root(),
            boot_id: format!("boot-{}", machine.boots),
            seed,
        };
        let agent = restore(machine.now(at), machine.settings(), parameters, &directory)?;
        Ok(Self {
            agent,
            number: machine.lives,
            decoder: DecodeWorker::new(&directory),
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
        machine: &mut Machine,
        event: DeviceEvent,
        around: &mut Context<'_>,
    ) {
        let now = machine.now(around.at);
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
            DeviceEvent::Storage => self.serve(machine, around),
            DeviceEvent::Solve => {
                self.solving = false;
                if let Some(job) = self.jobs.pop_front() {
                    let completion = self.decoder.run(job);
                    self.answer(machine, around, completion);
                }
            }
            DeviceEvent::Complete(completion) => {
                self.agent.handle_storage(now, completion);
            }
            DeviceEvent::Answer(Ok(body)) => self.agent.handle_response(now, &body),
            DeviceEvent::Answer(Err(failure)) => {
                if machine.bug == Some(InjectedBug::LogAnError) {
                    tracing::error!("an answer is lost");
                }
                self.agent.handle_post_failure(now, failure);
            }
            DeviceEvent::Notification(octets) => self.agent.handle_notification(now, &octets),
            DeviceEvent::VersionTimeout => {
                self.agent.handle_installer(now, InstallerAnswer::Version(None));
            }
            DeviceEvent::Version if machine.is_version_hanging => {
                let event = Event::Device(machine.number, self.number, DeviceEvent::VersionTimeout);
                around.queue.at(At(around.at.0 + VERSION_TIME), event);
            }
            DeviceEvent::Version => {
                let answer = InstallerAnswer::Version(Some(machine.firmware.clone()));
                self.agent.handle_installer(now, answer);
            }
            DeviceEvent::Install => self.install(machine, around),
            DeviceEvent::Installed(outcome) => {
                self.agent.handle_installer(now, InstallerAnswer::Ended(outcome));
            }
        }
    }

    /// The installer installs the image; the power may go before it reports.
    fn install(&mut self, machine: &mut Machine, around: &mut Context<'_>) {
        if let Some(effect) = machine.hanging_installs {
            if effect != Effect::Never {
                VERSION.clone_into(&mut machine.firmware);
            }
            let event = DeviceEvent::Installed(InstallOutcome::Failed);
            let event = Event::Device(machine.number, self.number, event);
            around.queue.at(At(around.at.0 + INSTALL_TIME), event);
            return;
        }
        let outcome = if machine.failing_installs > 0 {
            InstallOutcome::Failed
        } else if machine.setup.reboots {
            machine.staged = Some(VERSION.to_owned());
            // Whatever becomes of the process.
            around.queue.at(At(around.at.0 + 3_000), Event::Reboot(machine.number));
            InstallOutcome::RebootNeeded
        } else {
            VERSION.clone_into(&mut machine.firmware);
            InstallOutcome::Done
        };
        self.later(machine, around, 50, DeviceEvent::Installed(outcome));
    }

    fn later(
        &self,
        machine: &mut Machine,
        around: &mut Context<'_>,
        most: u64,
        event: DeviceEvent,
    ) {
        let after = 1 + machine.rng.below(most);
        let event = Event::Device(machine.number, self.number, event);
        around.queue.at(At(around.at.0 + after), event);
    }

    /// The storage serves the next command, or reserves while there is none.
    fn serve(&mut self, machine: &mut Machine, around: &mut Context<'_>) {
        self.serving = false;
        match self.commands.pop_front() {
            Some(command) => {
                if let StorageCommand::RemoveOtherObjects(kept) = &command {
                    machine.model.handle_dropped(kept);
                }
                self.worker.handle(command);
            }
            None => self.worker.reserve(),
        }
        self.jobs.extend(std::iter::from_fn(|| self.worker.poll_job()));
        while let Some(completion) = self.worker.poll_completion() {
            self.answer(machine, around, completion);
        }
    }

    fn answer(&mut self, machine: &mut Machine, around: &mut Context<'_>, completion: Completion) {
        // What has not happened before the power went was not acknowledged.
        if machine.disk.is_off() {
            return;
        }
        machine.model.handle_completion(&completion);
        let after = At(around.at.0 + machine.rng.below(3));
        self.last_completion = self.last_completion.max(after);
        let event = DeviceEvent::Complete(completion);
        let event = Event::Device(machine.number, self.number, event);
        around.queue.at(self.last_completion, event);
    }

    /// Executes the outputs of the agent; returns whether it has stopped.
    pub(super) fn drain(&mut self, machine: &mut Machine, around: &mut Context<'_>) -> bool {
        let now = machine.now(around.at);
        while let Some(output) = self.agent.poll_output(now) {
            if self.perform(machine, around, output) {
                return true;
            }
        }
        self.schedule(machine, around);
        false
    }

    fn schedule(&mut self, machine: &mut Machine, around: &mut Context<'_>) {
        let storage_time = if machine.slow { 900 } else { 4 };
        if !self.serving && (!self.commands.is_empty() || self.worker.is_reserving()) {
            self.serving = true;
            self.later(machine, around, storage_time, DeviceEvent::Storage);
        }
        if !self.solving && !self.jobs.is_empty() {
            self.solving = true;
            self.later(machine, around, storage_time * 8, DeviceEvent::Solve);
        }
        let deadline = self.agent.deadline(machine.now(around.at)).map(|mono| machine.at(mono));
        if let Some(deadline) = deadline {
            let at = deadline.max(At(around.at.0 + 1));
            if self.wake.is_none_or(|wake| at < wake) {
                self.wake = Some(at);
                let event = Event::Device(machine.number, self.number, DeviceEvent::Wake);
                around.queue.at(at, event);
            }
        }
    }

    fn command(
        &mut self,
        machine: &mut Machine,
        around: &mut Context<'_>,
        mut command: StorageCommand,
    ) {
        corrupt_command(&mut command, machine.bug);
        machine.model.handle_command(&command);
        match (&command, machine.bug) {
            (
                StorageCommand::Log(key, LogOutput::Flush(ticket)),
                Some(InjectedBug::AcknowledgeBeforeSync),
            ) => {
                let completion = Completion::Flushed(*key, *ticket);
                self.answer(machine, around, completion);
                return;
            }
            (StorageCommand::VerifyImage(layout), Some(InjectedBug::HandOffUnverified)) => {
                let sha256 = layout.stored_sha256();
                let outcome = VerifyOutcome::Ready { sha256 };
                let completion = Completion::ImageVerified(layout.object_key(), outcome);
                self.answer(machine, around, completion);
                return;
            }
            (StorageCommand::Journal(write), Some(InjectedBug::ForgetJournals))
                if write.generation % 3 == 0 =>
            {
                let completion = Completion::JournalWritten(write.generation);
                self.answer(machine, around, completion);
                return;
            }
            _ => {}
        }
        self.commands.push_back(command);
    }

    fn perform(&mut self, machine: &mut Machine, around: &mut Context<'_>, output: Output) -> bool {
        match output {
            Output::Storage(command) => self.command(machine, around, command),
            Output::Network(NetworkRequest::Join(tune_in)) => {
                if !machine.setup.is_addressed {
                    machine.model.breach("a device that is not in the campaign joins".to_owned());
                }
                self.joined.push(tune_in);
            }
            Output::Network(NetworkRequest::Leave(tune_in)) => {
                self.joined.retain(|joined| *joined != tune_in);
            }
            Output::Installer(InstallerCall::ReadVersion) => {
                self.later(machine, around, 20, DeviceEvent::Version);
            }
            Output::Installer(InstallerCall::Install(layout, request)) => {
                if machine.bug == Some(InjectedBug::DeliverAnother) {
                    let image = crate::sim::model::directory(&layout).join("image");
                    machine.disk.flip_bit(&image, 5, 1);
                }
                if machine.bug == Some(InjectedBug::HandOffTwice) {
                    machine.model.check_install(&machine.disk, &layout, &request);
                }
                machine.model.check_install(&machine.disk, &layout, &request);
                self.later(machine, around, 200, DeviceEvent::Install);
            }
            Output::Network(NetworkRequest::SendDmMessage(_))
                if machine.bug == Some(InjectedBug::FallSilent) && machine.firmware == VERSION =>
            {
                self.later(
                    machine,
                    around,
                    30_000,
                    DeviceEvent::Answer(Err(TransportError::Network)),
                );
            }
            // The devices of a world have no user and get nothing by unicast.
            Output::Prompt(_)
            | Output::Network(
                NetworkRequest::Fetch(_) | NetworkRequest::StopFetch | NetworkRequest::Notify(..),
            )
            | Output::Installer(
                InstallerCall::ReadComponents | InstallerCall::ChangeComponent(..),
            ) => {}
            Output::Network(NetworkRequest::SendDmMessage(HttpRequest { url, body, .. })) => {
                let message = Message { url, body };
                let after = 5 + machine.rng.below(80);
                let event = Event::Request(machine.number, self.number, message);
                around.queue.at(At(around.at.0 + after), event);
            }
            Output::Stop(error) => {
                around.trace.note(around.at, format_args!("{error}"));
                return true;
            }
        }
        false
    }

    /// Syncs what was received, and waits for everything that was asked of the storage.
    pub(super) fn terminate(&mut self, machine: &mut Machine, around: &mut Context<'_>) {
        self.agent.handle_shutdown();
        self.drain(machine, around);
        while let Some(command) = self.commands.pop_front() {
            if let StorageCommand::RemoveOtherObjects(kept) = &command {
                machine.model.handle_dropped(kept);
            }
            self.worker.handle(command);
            while let Some(completion) = self.worker.poll_completion() {
                if !machine.disk.is_off() {
                    machine.model.handle_completion(&completion);
                }
            }
        }
    }
}

/// Makes the mistake that shows in what is asked of the storage.
fn corrupt_command(command: &mut StorageCommand, bug: Option<InjectedBug>) {
    if let StorageCommand::Log(_, LogOutput::Write { octets, .. }) = command
        && bug == Some(InjectedBug::StoreUnchecked)
        && let Some(octet) = std::sync::Arc::make_mut(octets).get_mut(60)
    {
        *octet ^= 1;
    }
    if let StorageCommand::Journal(write) = command
        && bug == Some(InjectedBug::ForgetRoots)
        && write.generation.is_multiple_of(3)
        && let Ok(mut image) = JournalImage::<JournalState>::parse(&write.octets)
    {
        image.body.root_version = image.body.root_version.min(1);
        write.octets = image.emit().unwrap_or_default();
    }
}
