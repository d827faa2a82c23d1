//! A device: the agent with its real wiring and storage, driven by hand on a simulated disk.

use std::{path::Path, rc::Rc, time::Duration};

use proto::{
    dm::auth::Secret,
    fixtures::{
        broadcast::{Broadcast, NOW},
        documents::{CLASS, VENDOR},
    },
    time::{Mono, Now, Utc},
    trust::plan,
    tune_in::TuneIn,
};
use receiver::{
    agent::{self, Agent, NetworkRequest, Output},
    dm::{self, Identity},
    shell::{
        data_dir::DataDir,
        restore::{StartParameters, restore},
        storage::{DecodeWorker, Worker},
    },
    store::{
        Journaler, ObjectLayout, Recovered, SlotAddress, SlotRun, commands::Completion,
        journal_state::JournalState,
    },
    update::{
        acceptance::{DeviceClass, Limits},
        installer::{InstallOutcome, InstallerAnswer, InstallerCall},
    },
};

use super::{ledger::Ledger, server::Server};
use crate::sim::disk::SimDisk;

/// Path of the data directory.
pub const DATA: &str = "/data";

/// The version that the device runs before the update.
const BEFORE: &str = "1.0";

/// A device and what it acts on.
#[derive(Debug)]
pub struct Device {
    broadcast: Rc<Broadcast>,
    /// Its disk.
    pub disk: SimDisk,
    /// Acknowledgements of its storage.
    pub ledger: Ledger,
    /// The server that arms it.
    pub server: Server,
    /// Images that were installed.
    pub installed: Vec<Vec<u8>>,
    version: String,
    /// Milliseconds since the simulation began.
    at: u64,
    boots: u64,
    life: Option<Life>,
}

/// One run of the program.
#[derive(Debug)]
struct Life {
    agent: Agent,
    worker: Worker,
    decoder: DecodeWorker,
    joined: Vec<TuneIn>,
}

impl Device {
    /// Makes a device that was never on.
    #[must_use]
    pub fn new(broadcast: Rc<Broadcast>, disk: SimDisk) -> Self {
        Self {
            broadcast,
            disk,
            ledger: Ledger::default(),
            server: Server::default(),
            installed: Vec::new(),
            version: BEFORE.to_owned(),
            at: 0,
            boots: 0,
            life: None,
        }
    }

    /// Returns whether the program runs.
    #[must_use]
    pub const fn runs(&self) -> bool {
        self.life.is_some()
    }

    /// Returns the status of the program, while it runs.
    #[must_use]
    pub fn status(&self) -> Option<agent::Status> {
        Some(self.life.as_ref()?.agent.status())
    }

    /// Starts the program, after a power cut or a kill.
    ///
    /// # Errors
    ///
    /// When it cannot start while the power is on.
    pub fn start(&mut self) -> anyhow::Result<()> {
        self.boots += 1;
        match self.try_start() {
            Ok(life) => {
                self.life = Some(life);
                self.run();
                Ok(())
            }
            Err(_) if self.disk.is_off() => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn try_start(&mut self) -> anyhow::Result<Life> {
        let directory = DataDir::open_on(self.disk.shared(), Path::new(DATA))?;
        let [a, b] = directory.read_journal()?;
        let (journaler, state) = Journaler::recover::<JournalState>([&a, &b])?;
        let next = state.clone().map(|state| journaler.write(&state)).transpose()?;
        let found = next.zip(state).map(|(next, state)| (next.generation - 1, state));
        self.ledger.check_journal(found);
        let parameters = StartParameters {
            factory_root: self.broadcast.keys.root_envelope(),
            boot_id: format!("boot-{}", self.boots),
            seed: self.boots,
        };
        let agent = restore(self.now(), settings()?, parameters, &directory)?;
        let (decoder, worker) = (DecodeWorker::new(&directory), Worker::new(directory));
        Ok(Life { agent, worker, decoder, joined: Vec::new() })
    }

    /// Ends the program without a warning. The disk keeps what the page cache has.
    pub fn kill(&mut self) {
        self.life = None;
    }

    /// Lets time pass.
    pub fn wait(&mut self, time: Duration) {
        self.at += u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let now = self.now();
        if let Some(life) = &mut self.life {
            life.agent.handle_timeout(now);
        }
        self.run();
    }

    /// Lets time pass until the window opens.
    pub fn wait_for_window(&mut self) {
        let opens = self.broadcast.window().opens.seconds() - NOW.seconds();
        let left = (opens * 1000).saturating_sub(self.at);
        self.wait(Duration::from_millis(left));
    }

    /// Asks for a DM session.
    pub fn check_in(&mut self) {
        let now = self.now();
        if let Some(life) = &mut self.life {
            life.agent.check_in(now);
        }
        self.run();
    }

    /// Ends the program as a service manager does: what was received is synced.
    pub fn shut_down(&mut self) {
        if let Some(life) = &mut self.life {
            life.agent.handle_shutdown();
        }
        self.run();
        self.life = None;
    }

    /// Returns whether the device listens.
    #[must_use]
    pub fn listens(&self) -> bool {
        self.life.as_ref().is_some_and(|life| !life.joined.is_empty())
    }

    /// Receives a datagram, if it listens.
    pub fn receive(&mut self, datagram: &[u8]) {
        let now = self.now();
        let Some(life) = &mut self.life else { return };
        let Some(tune_in) = life.joined.first() else { return };
        let (channel, source) = (tune_in.channel, tune_in.source);
        life.agent.handle_datagram(now, channel, source, datagram);
        self.run();
    }

    /// Returns the moment.
    #[must_use]
    pub fn now(&self) -> Now {
        let utc = Utc::from_seconds(NOW.seconds() + self.at / 1000);
        Now { mono: Mono(0) + Duration::from_millis(1_000_000 + self.at), utc }
    }

    /// Executes all outputs of the agent, and reserves, until there are no more or the power
    /// is gone.
    fn run(&mut self) {
        loop {
            if self.disk.is_off() {
                self.life = None;
            }
            let now = self.now();
            let Some(life) = &mut self.life else { return };
            let completions = match life.agent.poll_output(now) {
                Some(Output::Storage(command)) => {
                    self.ledger.command(&command);
                    life.worker.handle(command);
                    life.run_jobs()
                }
                Some(output) => {
                    self.perform(output);
                    continue;
                }
                None if life.worker.is_reserving() => {
                    life.worker.reserve();
                    life.run_jobs()
                }
                None => return,
            };
            if self.disk.is_off() {
                continue;
            }
            for completion in completions {
                self.complete(completion);
            }
        }
    }

    fn complete(&mut self, completion: Completion) {
        let now = self.now();
        self.ledger.completion(&completion);
        if let Completion::Recovered(_, recovered) = &completion {
            self.check_recovered(recovered);
        }
        let Some(life) = &mut self.life else { return };
        life.agent.handle_storage(now, completion);
    }

    /// Checks that recovered symbols are exact, and of this object.
    fn check_recovered(&mut self, recovered: &Recovered) {
        let Some(layout) = self.ledger.layout().cloned() else { return };
        let object = Path::new(DATA).join("objects").join(layout.directory_name());
        let logs: Vec<_> = (0..layout.files())
            .map(|file| self.disk.content(&object.join(format!("log.{file}"))).unwrap_or_default())
            .collect();
        for found in &recovered.slots {
            let log = usize::try_from(found.slot.file).ok().and_then(|file| logs.get(file));
            if !log.is_some_and(|log| self.is_exact(&layout, log, found.slot)) {
                let breach = format!("P1: {:?} {:?} at {:?}", found.sbn, found.esi, found.slot);
                self.ledger.add_breach(breach);
            }
        }
        let (done, (_, state)) = (self.ledger.done(), self.ledger.state());
        let key = layout.object_key().0;
        let objects = state.into_iter().flat_map(|state| &state.objects);
        let bad: Vec<_> =
            objects.filter(|it| it.object_key == key).flat_map(|it| it.bad()).collect();
        let usable = recovered.slots.iter().filter(|found| {
            let slot = layout.slots_before(found.slot.file) + found.slot.index;
            let is_bad =
                |run: &SlotRun| (run.first..run.first.saturating_add(run.count)).contains(&slot);
            !done.contains(&found.sbn) && !bad.iter().any(is_bad)
        });
        let usable: Vec<_> = usable.map(|found| (found.sbn, found.esi)).collect();
        let lost: Vec<_> =
            self.ledger.owed().into_iter().filter(|name| !usable.contains(name)).collect();
        if !lost.is_empty() {
            self.ledger.add_breach(format!("P2: synced symbols are not believed: {lost:?}"));
        }
        self.ledger.rely_on(usable);
    }

    /// Compares a slot of a log with the leaf of the plan, past the storage.
    fn is_exact(&self, layout: &ObjectLayout, log: &[u8], slot: SlotAddress) -> bool {
        let octets = usize::try_from(layout.offset(slot))
            .ok()
            .and_then(|from| log.get(from..from + layout.slot_size()));
        let symbol = octets.and_then(|octets| layout.parse_slot(octets));
        symbol.is_some_and(|slot| {
            let shape = self.broadcast.header.shape();
            let place = shape.index_of(slot.sbn, slot.esi).and_then(|at| usize::try_from(at).ok());
            let leaf = place.and_then(|place| self.broadcast.leaves.get(place));
            let key = self.broadcast.object.object_key;
            leaf == Some(&plan::leaf(&key, slot.sbn, slot.esi, slot.symbol))
        })
    }

    fn perform(&mut self, output: Output) {
        let now = self.now();
        let Some(life) = &mut self.life else { return };
        match output {
            Output::Network(NetworkRequest::Join(tune_in)) => life.joined.push(tune_in),
            Output::Network(NetworkRequest::Leave(tune_in)) => {
                life.joined.retain(|joined| *joined != tune_in)
            }
            Output::Installer(InstallerCall::ReadVersion) => {
                let answer = InstallerAnswer::Version(Some(self.version.clone()));
                life.agent.handle_installer(now, answer);
            }
            Output::Installer(InstallerCall::Install(layout, _)) => {
                let object = Path::new(DATA).join("objects").join(layout.directory_name());
                let image = self.disk.content(&object.join("image")).unwrap_or_default();
                if image != self.broadcast.image {
                    self.ledger.add_breach("an image that is not exact was handed off".to_owned());
                }
                self.installed.push(image);
                self.version = self.broadcast.manifest.firmware_version.clone();
                life.agent.handle_installer(now, InstallerAnswer::Ended(InstallOutcome::Done));
            }
            Output::Storage(_)
            | Output::Prompt(_)
            | Output::Network(
                NetworkRequest::Fetch(_) | NetworkRequest::StopFetch | NetworkRequest::Notify(..),
            )
            | Output::Installer(
                InstallerCall::ReadComponents | InstallerCall::ChangeComponent(..),
            ) => {}
            Output::Network(NetworkRequest::SendDmMessage(post)) => {
                match self.server.answer(&self.broadcast, now.utc, &post.body) {
                    Ok(answer) => life.agent.handle_response(now, &answer),
                    Err(error) => self.ledger.add_breach(format!("a DM message: {error:#}")),
                }
            }
            Output::Stop(_) => self.life = None,
        }
    }
}

impl Life {
    /// Does the jobs that came up and returns all answers.
    fn run_jobs(&mut self) -> Vec<Completion> {
        let mut completions: Vec<_> =
            std::iter::from_fn(|| self.worker.poll_completion()).collect();
        while let Some(job) = self.worker.poll_job() {
            completions.push(self.decoder.run(job));
        }
        completions
    }
}

fn settings() -> anyhow::Result<agent::Config> {
    let id = "STORE-0001".parse()?;
    Ok(agent::Config {
        device_class: DeviceClass { vendor: VENDOR, class: CLASS },
        limits: Limits::default(),
        dm: dm::Settings {
            identity: Identity::new(id, "fumocast".to_owned(), "store".to_owned()),
            account: dm::Account {
                url: "http://127.0.0.1:1/dm".to_owned(),
                server_id: "server".to_owned(),
                encoding: proto::dm::encoding::Encoding::Xml,
                auth: proto::dm::auth::AuthKind::Md5,
                server: None,
                user: "STORE-0001".to_owned(),
                secret: Secret::new("STORE-0001", "password"),
            },
            object: "./FwUpdate/Main".parse()?,
        },
        check_in: Duration::from_secs(24 * 3600),
        first_nonce: vec![1; 16],
        user: receiver::user::Settings::default(),
        components: receiver::components::InventoryAccess::Absent,
    })
}
