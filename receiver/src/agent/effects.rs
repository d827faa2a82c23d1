//! The ordered queue of effects, with the journal write as its gate.

use std::collections::VecDeque;

use proto::{ids::Sbn, tune_in::TuneIn};

use crate::{
    dm::client::HttpRequest,
    store::{
        Journaler, StorageError,
        commands::{FileName, StorageCommand},
        floors::{Floors, TrustState},
        journal_state::JournalState,
    },
    update::{
        fetch::{Fetch, FetchError, Fetched},
        installer::InstallerCall,
    },
    user::Question,
};

/// An effect that the shell executes, in this order.
#[derive(Debug)]
pub enum Output {
    /// A command for the storage; answered by [`Agent::handle_storage`](super::Agent).
    Storage(StorageCommand),
    /// A request to the network; answered by [`Agent::handle_network`](super::Agent).
    Network(NetworkRequest),
    /// A call of the installer; answered by [`Agent::handle_installer`](super::Agent).
    Installer(InstallerCall),
    /// A prompt for the user; answered by [`Agent::handle_user_reply`](super::Agent).
    Prompt(Question),
    /// Stop: the storage cannot be relied on. The next start resumes from the synced state.
    Stop(StorageError),
}

/// A request to the network.
#[derive(Debug, Clone)]
pub enum NetworkRequest {
    /// Join the channel.
    Join(TuneIn),
    /// Leave the channel.
    Leave(TuneIn),
    /// Fetch a range of a package.
    Fetch(Fetch),
    /// End the current fetch soon: its answer is not awaited any more.
    StopFetch,
    /// Post an installation notification: URL and body.
    Notify(String, String),
    /// Send a DM message; answered by [`Agent::handle_response`](super::Agent) or
    /// [`Agent::handle_post_failure`](super::Agent).
    SendDmMessage(HttpRequest),
}

/// The answer of the network to a request other than a DM message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkAnswer {
    /// A fetched range.
    Fetched(Result<Fetched, FetchError>),
    /// The arrival of an installation notification; `false` when it did not arrive.
    Notified(bool),
}

impl From<StorageCommand> for Output {
    fn from(command: StorageCommand) -> Self {
        Self::Storage(command)
    }
}

impl From<NetworkRequest> for Output {
    fn from(request: NetworkRequest) -> Self {
        Self::Network(request)
    }
}

impl From<InstallerCall> for Output {
    fn from(call: InstallerCall) -> Self {
        Self::Installer(call)
    }
}

/// Effects in the order in which they may happen.
#[derive(Debug)]
pub(super) struct EffectQueue {
    queue: VecDeque<QueuedEffect>,
    journaler: Journaler,
    /// The generation whose write is awaited: the queue stops until it is synced.
    writing: Option<u64>,
    /// Jobs of the decoder that have not ended.
    jobs: u32,
    /// Removals and openings of objects that wait until no job uses their files.
    deferred: VecDeque<StorageCommand>,
    /// The floors on disk, and those of the write that is awaited.
    floors: [Option<Floors>; 2],
    /// Set when the state differs from the last queued write.
    dirty: bool,
    stopped: bool,
}

#[derive(Debug)]
enum QueuedEffect {
    Output(Output),
    DeferredEffect(DeferredEffect),
    /// Write the journal with the state at the time when this is reached.
    Commit,
}

impl QueuedEffect {
    /// Returns whether it acts on the object of the operation that queued it.
    const fn is_object_work(&self) -> bool {
        match self {
            Self::Output(Output::Storage(command)) => is_object_work(command),
            Self::Output(Output::Installer(call)) => match call {
                InstallerCall::Install(..) => true,
                InstallerCall::ReadVersion
                | InstallerCall::ReadComponents
                | InstallerCall::ChangeComponent(..) => false,
            },
            Self::DeferredEffect(DeferredEffect::BlockDone(_)) => true,
            Self::Output(Output::Network(_) | Output::Prompt(_) | Output::Stop(_))
            | Self::Commit => false,
        }
    }

    const fn writes_image(&self) -> bool {
        matches!(self, Self::Output(Output::Storage(StorageCommand::WriteImage(..))))
    }

    /// Returns whether it removes or makes files that a job may use.
    const fn removes_or_opens(&self) -> bool {
        matches!(
            self,
            Self::Output(Output::Storage(
                StorageCommand::Open(_)
                    | StorageCommand::Drop(_)
                    | StorageCommand::RemoveOtherObjects(_)
            ))
        )
    }
}

const fn is_object_work(command: &StorageCommand) -> bool {
    match command {
        StorageCommand::Open(_)
        | StorageCommand::Log(..)
        | StorageCommand::Decode(_)
        | StorageCommand::VerifyImage(_)
        | StorageCommand::VerifyKept(..)
        | StorageCommand::WriteImage(..) => true,
        StorageCommand::Journal(_)
        | StorageCommand::WriteFile(..)
        | StorageCommand::WriteOptionalFile(..)
        | StorageCommand::RemoveFile(_)
        | StorageCommand::Drop(_)
        | StorageCommand::Reserve(..)
        | StorageCommand::Discard(_)
        | StorageCommand::RemoveOtherObjects(_) => false,
    }
}

const fn is_job(output: &Output) -> bool {
    matches!(output, Output::Storage(StorageCommand::Decode(_) | StorageCommand::VerifyImage(_)))
}

/// Effects that wait in the queue for the journal write in front of them.
#[derive(Debug)]
pub(super) enum DeferredEffect {
    /// The journal records that a block is decoded: its slots are free.
    BlockDone(Sbn),
}

/// The next entry of the queue.
pub(super) enum NextEffect {
    Output(Output),
    DeferredEffect(DeferredEffect),
    Nothing,
}

impl EffectQueue {
    /// Creates an empty queue; `floors` are those on disk.
    pub(super) const fn new(journaler: Journaler, floors: Option<Floors>) -> Self {
        Self {
            floors: [floors, None],
            queue: VecDeque::new(),
            journaler,
            writing: None,
            jobs: 0,
            deferred: VecDeque::new(),
            dirty: false,
            stopped: false,
        }
    }

    /// Marks the state as changed.
    pub(super) const fn mark_dirty(&mut self) {
        self.dirty = true;
    }

    /// Queues an effect that is invisible outside the device.
    pub(super) fn push(&mut self, output: impl Into<Output>) {
        self.queue.push_back(QueuedEffect::Output(output.into()));
    }

    /// Queues a file that the state names, or will name. Each commit writes the state at the time
    /// when it is reached, so the file is queued before the first one.
    pub(super) fn write_before_commit(&mut self, name: String, octets: Vec<u8>) {
        let commit = self.queue.iter().position(|queued| matches!(queued, QueuedEffect::Commit));
        let at = commit.unwrap_or(self.queue.len());
        let command = StorageCommand::WriteFile(FileName::ours(&name), octets);
        self.queue.insert(at, QueuedEffect::Output(command.into()));
    }

    /// Queues a visible effect behind the journal write that it follows from.
    pub(super) fn push_after_commit(&mut self, output: impl Into<Output>) {
        self.commit_if_dirty();
        self.queue.push_back(QueuedEffect::Output(output.into()));
    }

    /// Queues an internal effect behind the journal write that it follows from.
    pub(super) fn run_after_commit(&mut self, internal: DeferredEffect) {
        self.commit_if_dirty();
        self.queue.push_back(QueuedEffect::DeferredEffect(internal));
    }

    /// Queues a journal write if the state has changed.
    pub(super) fn commit_if_dirty(&mut self) {
        if std::mem::take(&mut self.dirty) {
            self.queue.push_back(QueuedEffect::Commit);
        }
    }

    /// Drops the queued work on an object whose operation ends: it would be done, and answered, in
    /// the next operation. What the storage and the decoder have begun ends as it would. The download
    /// waits for its writes, and drops their answers itself.
    pub(super) fn drop_object_work(&mut self) {
        self.queue.retain(|queued| !queued.is_object_work() || queued.writes_image());
        self.deferred.retain(|command| !is_object_work(command));
    }

    /// Returns the next entry. A commit that is reached writes the current state, which `state`
    /// returns: it can only be newer than when the commit was queued.
    ///
    /// An object is removed or opened when no job uses its files any more; other effects do not wait
    /// for that, except for those on objects.
    pub(super) fn poll(&mut self, state: impl FnOnce() -> JournalState) -> NextEffect {
        if self.jobs == 0
            && let Some(command) = self.deferred.pop_front()
        {
            return NextEffect::Output(command.into());
        }
        if self.writing.is_some() {
            return NextEffect::Nothing;
        }
        while self.jobs > 0
            && self.queue.front().is_some_and(QueuedEffect::removes_or_opens)
            && let Some(QueuedEffect::Output(Output::Storage(command))) = self.queue.pop_front()
        {
            self.deferred.push_back(command);
        }
        let waits = !self.deferred.is_empty();
        if waits && self.queue.front().is_some_and(QueuedEffect::is_object_work) {
            return NextEffect::Nothing;
        }
        match self.queue.pop_front() {
            Some(QueuedEffect::Output(output)) => {
                self.jobs += u32::from(is_job(&output));
                NextEffect::Output(output)
            }
            Some(QueuedEffect::DeferredEffect(internal)) => NextEffect::DeferredEffect(internal),
            Some(QueuedEffect::Commit) => self.commit(&state()),
            None => NextEffect::Nothing,
        }
    }

    fn commit(&mut self, state: &JournalState) -> NextEffect {
        match self.journaler.write(state) {
            Ok(mut write) => {
                self.writing = Some(write.generation);
                let [on_disk, awaited] = &mut self.floors;
                let floors = Floors::of(state);
                *awaited = None;
                // Lost floors are set by a person alone.
                let is_lost = TrustState::of_number(state.trust_state) == TrustState::Lost;
                if !is_lost && on_disk.as_ref() != Some(&floors) {
                    write.floors = Some(floors.emit());
                    *awaited = Some(floors);
                }
                NextEffect::Output(StorageCommand::Journal(write).into())
            }
            Err(error) => {
                let attempted = "write the journal".to_owned();
                self.fail(StorageError::Io { attempted, reason: error.to_string() });
                self.queue.pop_front().map_or(NextEffect::Nothing, |queued| match queued {
                    QueuedEffect::Output(output) => NextEffect::Output(output),
                    QueuedEffect::DeferredEffect(_) | QueuedEffect::Commit => NextEffect::Nothing,
                })
            }
        }
    }

    pub(super) fn handle_journal_written(&mut self, generation: u64) {
        if self.writing == Some(generation) {
            self.journaler.handle_written(generation);
            self.writing = None;
            let [on_disk, awaited] = &mut self.floors;
            if awaited.is_some() {
                *on_disk = awaited.take();
            }
        }
    }

    /// Handles the end of a job of the decoder.
    pub(super) const fn handle_job_ended(&mut self) {
        self.jobs = self.jobs.saturating_sub(1);
    }

    /// Drops the queue and requests the end of the process.
    pub(super) fn fail(&mut self, error: StorageError) {
        if !self.stopped {
            self.stopped = true;
            self.queue.clear();
            self.deferred.clear();
            self.writing = None;
            self.queue.push_back(QueuedEffect::Output(Output::Stop(error)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proto::{
        crypto::{Digest, Hash16},
        fec::oti::{RaptorQOti, RaptorQParameters},
    };

    use super::*;
    use crate::store::ObjectLayout;

    #[test]
    fn the_state_is_read_when_a_commit_is_reached_and_not_before() {
        let (journaler, _) = Journaler::recover::<JournalState>([b"", b""]).unwrap();
        let mut effects = EffectQueue::new(journaler, Some(Floors::default()));
        let reads = Cell::new(0);
        let poll = |effects: &mut EffectQueue| {
            let next = effects.poll(|| {
                reads.set(reads.get() + 1);
                JournalState::default()
            });
            (next, reads.get())
        };
        assert!(matches!(poll(&mut effects), (NextEffect::Nothing, 0)));
        effects.push(InstallerCall::ReadVersion);
        effects.mark_dirty();
        effects.push_after_commit(StorageCommand::RemoveOtherObjects(Vec::new()));
        assert!(matches!(
            poll(&mut effects),
            (NextEffect::Output(Output::Installer(InstallerCall::ReadVersion)), 0)
        ));
        let (written, 1) = poll(&mut effects) else { panic!("the commit reads the state once") };
        let NextEffect::Output(Output::Storage(StorageCommand::Journal(write))) = written else {
            panic!("no journal")
        };
        assert!(matches!(poll(&mut effects), (NextEffect::Nothing, 1)), "it is not synced");
        effects.handle_journal_written(write.generation);
        assert!(matches!(
            poll(&mut effects),
            (NextEffect::Output(Output::Storage(StorageCommand::RemoveOtherObjects(_))), 1)
        ));
    }

    #[test]
    fn floors_are_written_with_the_journal_when_they_change_and_never_while_they_are_lost() {
        let (journaler, _) = Journaler::recover::<JournalState>([b"", b""]).unwrap();
        let mut effects = EffectQueue::new(journaler, Some(Floors::default()));
        let mut written = |state: &JournalState| {
            effects.mark_dirty();
            effects.commit_if_dirty();
            let NextEffect::Output(Output::Storage(StorageCommand::Journal(write))) =
                effects.poll(|| state.clone())
            else {
                panic!("no journal")
            };
            effects.handle_journal_written(write.generation);
            write.floors
        };
        let low = JournalState::default();
        let high = JournalState { root_version: 2, general_floor: 7, ..JournalState::default() };
        assert_eq!(written(&low), None);
        let octets = written(&high).expect("they have risen");
        assert_eq!(Floors::parse(&octets), Ok(Floors::of(&high)));
        assert_eq!(written(&high), None);
        let trust_state = TrustState::Lost.number();
        assert_eq!(written(&JournalState { trust_state, ..JournalState::default() }), None);
    }

    fn layout() -> ObjectLayout {
        let parameters = RaptorQParameters {
            transfer_length: 1,
            symbol_size: 64,
            source_blocks: 1,
            sub_blocks: 1,
            alignment: 8,
        };
        let oti = RaptorQOti::new(parameters).unwrap();
        ObjectLayout::new(Hash16([1; 16]), Digest([2; 32]), oti)
    }

    fn next(effects: &mut EffectQueue) -> Option<StorageCommand> {
        match effects.poll(JournalState::default) {
            NextEffect::Output(Output::Storage(command)) => Some(command),
            NextEffect::Output(_) | NextEffect::DeferredEffect(_) => panic!("not of the storage"),
            NextEffect::Nothing => None,
        }
    }

    #[test]
    fn files_are_removed_when_no_job_uses_them_and_other_effects_do_not_wait() {
        let (journaler, _) = Journaler::recover::<JournalState>([b"", b""]).unwrap();
        let mut effects = EffectQueue::new(journaler, Some(Floors::default()));
        let remove = || StorageCommand::RemoveOtherObjects(Vec::new());
        let file = || StorageCommand::RemoveFile(FileName::ours("a"));
        let image = || StorageCommand::WriteImage(layout(), 0, Vec::new());
        effects.push(StorageCommand::VerifyImage(layout()));
        effects.push(remove());
        effects.push(StorageCommand::Open(layout()));
        effects.push(file());
        effects.push(image());
        assert_eq!(next(&mut effects), Some(StorageCommand::VerifyImage(layout())));
        assert_eq!(next(&mut effects), Some(file()));
        assert_eq!(next(&mut effects), None);
        effects.handle_job_ended();
        assert_eq!(next(&mut effects), Some(remove()));
        assert_eq!(next(&mut effects), Some(StorageCommand::Open(layout())));
        assert_eq!(next(&mut effects), Some(image()));
    }

    #[test]
    fn work_on_an_object_ends_with_its_operation() {
        let (journaler, _) = Journaler::recover::<JournalState>([b"", b""]).unwrap();
        let mut effects = EffectQueue::new(journaler, Some(Floors::default()));
        effects.push(StorageCommand::Open(layout()));
        effects.push(StorageCommand::VerifyImage(layout()));
        effects.run_after_commit(DeferredEffect::BlockDone(Sbn(0)));
        effects.push(StorageCommand::RemoveOtherObjects(Vec::new()));
        effects.drop_object_work();
        assert_eq!(next(&mut effects), Some(StorageCommand::RemoveOtherObjects(Vec::new())));
        assert_eq!(next(&mut effects), None);
    }
}
