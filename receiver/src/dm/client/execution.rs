//! Execution of the commands of one message, with a status, and results, for each.

use std::{
    collections::{BTreeSet, VecDeque},
    ops::Range,
};

use proto::{
    dm::{
        code::{AlertCode, StatusCode},
        encoding::Encoding,
        large::{Reassembler, object_size},
        syncml::{
            Alert, Command, CommandId, Data, Exec, Group, Header, Item, Manage, Message, MessageId,
            Rejected, Results, Status, Verb,
        },
        ui::{Answer, Prompt},
        uri::NodeUri,
    },
    time::Now,
};

use super::{
    command::{MAX_STATUS_BYTES, OutboundCommand},
    context::Context,
};
use crate::dm::{
    ChunkPosition, ManagementBackend,
    scomo::is_inventory,
    tree::{Checkpoint, Tree},
};

const DENIED: StatusCode = StatusCode::PERMISSION_DENIED;

/// Octets of data in the results of one Get.
const MAX_RESULTS_BYTES: usize = 32 * 1024;

/// Progress of the commands of a message; it survives a prompt to the user.
#[derive(Debug)]
pub(super) struct Execution {
    message: MessageId,
    answers: Vec<OutboundCommand>,
    /// The body and the groups around the current command; empty at the end.
    frames: Vec<GroupFrame>,
    /// The alert of the open prompt.
    asking: Option<CommandId>,
    /// Set when the message holds a chunk of a large object.
    received_chunk: bool,
    aborted: bool,
}

#[derive(Debug)]
struct GroupFrame {
    group: GroupKind,
    left: VecDeque<Command>,
    /// Set when a member failed: those after it are not run.
    stopped: bool,
}

#[derive(Debug)]
enum GroupKind {
    Body,
    Sequence,
    Atomic {
        id: CommandId,
        /// Index of the status of the group.
        status_at: usize,
        before: Box<Checkpoint>,
        /// The members so far; the last one is current.
        done: Vec<AtomicMember>,
    },
}

/// A member of an Atomic that may have to be rolled back.
#[derive(Debug)]
struct AtomicMember {
    targets: Vec<NodeUri>,
    answers: Range<usize>,
}

/// Outcome of a command.
enum CommandOutcome {
    Done(StatusCode),
    /// A group, whose members are next.
    Entered,
    /// Waits for the user.
    Asked,
}

impl Execution {
    /// Creates the execution of the commands of a message.
    pub(super) fn new(message: MessageId, commands: &[Command]) -> Self {
        let left = commands.iter().cloned().collect();
        let body = GroupFrame { group: GroupKind::Body, left, stopped: false };
        Self {
            message,
            answers: Vec::new(),
            frames: vec![body],
            asking: None,
            received_chunk: false,
            aborted: false,
        }
    }

    /// Returns whether the execution waits for the user's answer.
    pub(super) const fn is_asking(&self) -> bool {
        self.asking.is_some()
    }

    /// Returns whether the server aborted the session.
    pub(super) const fn aborted(&self) -> bool {
        self.aborted
    }

    /// Abandons the remaining commands; rolls open Atomics back.
    pub(super) fn abandon(self, context: &mut Context<'_>) {
        for frame in self.frames.into_iter().rev() {
            if let GroupKind::Atomic { before, .. } = frame.group {
                context.tree.roll_back(context.now, context.device, *before);
            }
        }
    }

    /// Returns a status for every command that requests one; each Get's results follow its status.
    pub(super) fn into_answers(mut self, reassembler: &mut Reassembler) -> Vec<OutboundCommand> {
        if !self.received_chunk
            && let Some(lost) = reassembler.interrupted_by(Verb::Header, None)
        {
            self.answers.push(OutboundCommand::NoEndOfData(lost));
        }
        self.answers
    }
}

/// Executor of the commands of a message, in their order.
pub(super) struct Executor<'a> {
    now: Now,
    device: &'a mut dyn ManagementBackend,
    tree: &'a mut Tree,
    execution: &'a mut Execution,
    reassembler: &'a mut Reassembler,
    max_object_bytes: u64,
    space: SpaceLeft,
}

/// Space in a message beside its header and the status of the server's header.
#[derive(Debug)]
pub(super) struct SpaceLeft {
    encoding: Encoding,
    /// A message without commands.
    empty: Message,
    bytes: usize,
    /// MaxObjSize of the server, if it announces one.
    object_bytes: Option<u64>,
}

impl SpaceLeft {
    /// Returns the space beside a header in a message of at most `bytes` octets, for objects of at
    /// most `object_bytes`.
    pub(super) const fn new(
        encoding: Encoding,
        header: Header,
        bytes: usize,
        object_bytes: Option<u64>,
    ) -> Self {
        let empty = Message { header, commands: Vec::new(), is_final: true };
        Self { encoding, empty, bytes, object_bytes }
    }

    /// Returns whether the server takes an object, in one piece or in chunks.
    // spec: oma-dm 2.1 (MaxObjSize)
    fn takes(&self, item: &Item) -> bool {
        self.object_bytes.is_none_or(|limit| object_size(item, self.encoding) <= limit)
    }

    fn fits(&self, commands: Vec<Command>) -> bool {
        // The status of their group is added later.
        let message = Message { commands, ..self.empty.clone() };
        self.encoding.length(&message) + 2 * MAX_STATUS_BYTES <= self.bytes
    }
}

impl<'a> Executor<'a> {
    /// Creates the executor of the commands of `execution`.
    pub(super) fn new(
        context: &'a mut Context<'_>,
        execution: &'a mut Execution,
        reassembler: &'a mut Reassembler,
        max_object_bytes: u64,
        space: SpaceLeft,
    ) -> Self {
        let Context { now, device, tree } = context;
        Self { now: *now, device: *device, tree, execution, reassembler, max_object_bytes, space }
    }

    /// Runs commands until all are done or the user is prompted. No command runs after an abort.
    pub(super) fn run(&mut self) {
        while !self.execution.aborted
            && let Some(frame) = self.execution.frames.last_mut()
        {
            match (frame.left.pop_front(), frame.stopped) {
                (None, _) => self.close_group(),
                (Some(command), true) => self.skip(&command, StatusCode::NOT_EXECUTED),
                (Some(command), false) => match self.run_member(command) {
                    CommandOutcome::Done(code) => self.record_status(code),
                    CommandOutcome::Entered => {}
                    CommandOutcome::Asked => return,
                },
            }
        }
    }

    /// Handles the user's answer and runs the remaining commands.
    pub(super) fn on_user_answer(&mut self, answer: &Answer) {
        if let Some(alert) = self.execution.asking.take() {
            let code = self.user_status(alert, answer);
            self.record_status(code);
            self.run();
        }
    }

    /// Records the status of a member of the innermost group. A failed member stops its group: the
    /// commands that it gates (an Exec behind a user's "no", or behind a failed Replace) must not
    /// run.
    fn record_status(&mut self, code: StatusCode) {
        let end = self.execution.answers.len();
        let Some(frame) = self.execution.frames.last_mut() else { return };
        match &mut frame.group {
            GroupKind::Body => return,
            GroupKind::Sequence => {}
            GroupKind::Atomic { done, .. } => {
                if let Some(member) = done.last_mut() {
                    member.answers.end = end;
                }
            }
        }
        frame.stopped = !code.is_success();
    }

    /// Runs a command of a group that is not stopped.
    fn run_member(&mut self, command: Command) -> CommandOutcome {
        let end = self.execution.answers.len();
        let frame = self.execution.frames.last_mut();
        if let Some(GroupFrame { group: GroupKind::Atomic { done, .. }, .. }) = frame {
            done.push(AtomicMember { targets: targets(&command), answers: end..end });
            // Only writes that are staged in memory can be rolled back.
            if !self.can_roll_back(&command) {
                self.skip(&command, StatusCode::FAILED);
                // Its statuses are final: there is nothing to roll back.
                return CommandOutcome::Done(StatusCode::FAILED);
            }
        }
        match command {
            Command::Status(_) | Command::Results(_) => CommandOutcome::Done(StatusCode::OK),
            Command::Rejected(rejected) => self.reject(&rejected),
            Command::Alert(alert) => self.alert(&alert),
            Command::Exec(exec) => CommandOutcome::Done(self.exec(&exec)),
            Command::Get(get) => CommandOutcome::Done(self.get(&get)),
            Command::Add(add) => {
                CommandOutcome::Done(self.on_items(Verb::Add, &add, |this, item| {
                    this.tree.add(this.now, this.device, item)
                }))
            }
            Command::Replace(replace) => {
                CommandOutcome::Done(self.on_items(Verb::Replace, &replace, |this, item| {
                    this.tree.replace(this.now, this.device, item)
                }))
            }
            Command::Delete(delete) => {
                CommandOutcome::Done(self.on_items(Verb::Delete, &delete, |this, item| {
                    this.tree.delete(this.now, this.device, item)
                }))
            }
            Command::Copy(copy) => {
                CommandOutcome::Done(self.on_items(Verb::Copy, &copy, |this, item| {
                    this.tree.copy(this.now, this.device, item)
                }))
            }
            Command::Sequence(group) => {
                self.status(group.id, Verb::Sequence, StatusCode::OK, None);
                self.open_group(GroupKind::Sequence, group)
            }
            Command::Atomic(group) => {
                let around = GroupKind::Atomic {
                    id: group.id,
                    status_at: self.execution.answers.len(),
                    before: Box::new(self.tree.checkpoint(self.device)),
                    done: Vec::new(),
                };
                self.open_group(around, group)
            }
        }
    }

    fn open_group(&mut self, group: GroupKind, members: Group) -> CommandOutcome {
        self.execution.frames.push(GroupFrame {
            group,
            left: members.commands.into(),
            stopped: false,
        });
        CommandOutcome::Entered
    }

    /// Closes the innermost group; its status counts as a member's in the one around it.
    fn close_group(&mut self) {
        let Some(frame) = self.execution.frames.pop() else { return };
        let code = match (frame.group, frame.stopped) {
            (GroupKind::Body, _) => return,
            (GroupKind::Sequence, true) => StatusCode::FAILED,
            (GroupKind::Sequence, false) => StatusCode::OK,
            (GroupKind::Atomic { id, status_at, before, done }, stopped) => {
                let code = match stopped {
                    true => StatusCode::ATOMIC_FAILED,
                    false if self.answers_fit(status_at) => StatusCode::OK,
                    false => StatusCode::ATOMIC_TOO_LARGE,
                };
                if !code.is_success() {
                    let stay = self.tree.roll_back(self.now, self.device, *before);
                    self.roll_back_answers(done, &stay);
                }
                let own =
                    Status::new(CommandId::new(0), self.execution.message, id, Verb::Atomic, code);
                self.execution.answers.insert(status_at, OutboundCommand::Status(own));
                code
            }
        };
        self.record_status(code);
    }

    /// Returns whether the statuses from `first` on, and the status of the Atomic, fit into one
    /// message.
    // spec: oma-dm 2.5 (517)
    fn answers_fit(&self, first: usize) -> bool {
        let commands = |answer: &OutboundCommand| match answer {
            OutboundCommand::Status(status) => Some(Command::Status(status.clone())),
            OutboundCommand::Results(_)
            | OutboundCommand::Large(..)
            | OutboundCommand::Alert(_)
            | OutboundCommand::NoEndOfData(_)
            | OutboundCommand::DeviceInfo(_)
            | OutboundCommand::Final(_)
            | OutboundCommand::Request(_) => None,
        };
        let answers = self.execution.answers.get(first..).unwrap_or_default();
        self.space.fits(answers.iter().filter_map(commands).collect())
    }

    // spec: oma-dm 2.5 (216, 516)
    fn roll_back_answers(&mut self, done: Vec<AtomicMember>, stay: &BTreeSet<NodeUri>) {
        for AtomicMember { targets, answers } in done {
            let stays = targets.iter().any(|target| stay.contains(target));
            let code = if stays { StatusCode::ROLL_BACK_FAILED } else { StatusCode::ROLLED_BACK };
            for answer in answers {
                if let Some(OutboundCommand::Status(status)) =
                    self.execution.answers.get_mut(answer)
                    && status.code.is_success()
                {
                    status.code = code;
                }
            }
        }
    }

    /// Returns a complete item, or the status of a chunk. A group must fit into one message, so
    /// that it holds no chunks.
    fn assemble(&mut self, verb: Verb, item: &Item) -> Result<Item, StatusCode> {
        if let Some(lost) = self.reassembler.interrupted_by(verb, Some(item)) {
            self.execution.answers.push(OutboundCommand::NoEndOfData(lost));
        }
        if item.more_data && self.execution.frames.len() > 1 {
            return Err(StatusCode::NOT_SUPPORTED);
        }
        self.execution.received_chunk |= item.more_data;
        let is_next = self.reassembler.is_open();
        let item_or_status = self.reassembler.push(verb, item, self.max_object_bytes);
        if verb == Verb::Replace && item_or_status == Err(StatusCode::CHUNK_ACCEPTED) {
            self.store_chunk(item, is_next.then_some(ChunkPosition::Next));
        }
        item_or_status
    }

    fn store_chunk(&mut self, item: &Item, next: Option<ChunkPosition>) {
        let first = item.target_uri().and_then(|uri| self.tree.chunk_position(self.device, uri));
        if let Some(first) = first
            && let Some(octets) = self.reassembler.take_new()
        {
            self.device.store_chunk(next.unwrap_or(first), &octets);
        }
    }

    fn alert(&mut self, alert: &Alert) -> CommandOutcome {
        let code = match alert.code {
            AlertCode::SESSION_ABORT => {
                self.execution.aborted = true;
                return CommandOutcome::Done(StatusCode::OK);
            }
            AlertCode::NEXT_MESSAGE | AlertCode::NO_END_OF_DATA => StatusCode::OK,
            code if code.is_user_interaction() => {
                let text = alert.items.get(1).and_then(Item::decoded_text);
                self.device.on_user_message(&text.unwrap_or_default());
                return self.ask(alert);
            }
            _ => StatusCode::NOT_SUPPORTED,
        };
        self.status(alert.id, Verb::Alert, code, None);
        CommandOutcome::Done(code)
    }

    // spec: oma-001 8.1.1.9 (the status carries the user's answer)
    // spec: oma-003 6.1.4.4, oma-003 6.1.4.5 (only the server's prompt gates its group)
    fn ask(&mut self, alert: &Alert) -> CommandOutcome {
        let prompt = match Prompt::from_alert(alert) {
            Ok(prompt) => prompt,
            Err(code) => {
                self.status(alert.id, Verb::Alert, code, None);
                return CommandOutcome::Done(code);
            }
        };
        match self.device.ask_user(self.now, prompt) {
            Some(answer) => CommandOutcome::Done(self.user_status(alert.id, &answer)),
            None => {
                self.execution.asking = Some(alert.id);
                CommandOutcome::Asked
            }
        }
    }

    fn user_status(&mut self, alert: CommandId, answer: &Answer) -> StatusCode {
        let (code, items) = answer.status();
        let status =
            Status::new(CommandId::new(0), self.execution.message, alert, Verb::Alert, code);
        self.execution.answers.push(OutboundCommand::Status(Status { items, ..status }));
        // 214 is a 2xx code, but not a yes.
        if *answer == Answer::Cancelled { StatusCode::FAILED } else { code }
    }

    fn exec(&mut self, exec: &Exec) -> StatusCode {
        let code = match self.assemble(Verb::Exec, &exec.item) {
            Ok(item) => {
                let correlator = exec.correlator.clone();
                self.tree.exec(self.now, self.device, &item, correlator)
            }
            Err(code) => code,
        };
        self.status(exec.id, Verb::Exec, code, exec.item.target_uri());
        code
    }

    // spec: oma-001 8.1.1.5 (a Get reads the firmware information)
    fn get(&mut self, get: &Manage) -> StatusCode {
        let mut room = MAX_RESULTS_BYTES;
        let mut read = |item: &Item| {
            let uri = item.target_uri().ok_or(StatusCode::INCOMPLETE)?;
            let found = self.tree.get(self.device, uri)?;
            if !found.iter().all(|item| self.space.takes(item)) {
                return Err(StatusCode::TOO_LARGE);
            }
            let size = |item: &Item| {
                item.source_uri().map_or(0, str::len) + item.data.as_ref().map_or(0, Data::len)
            };
            let size = found.iter().map(size).sum();
            room = room.checked_sub(size).ok_or(StatusCode::TOO_LARGE)?;
            Ok(found)
        };
        let found: Vec<Result<Vec<Item>, StatusCode>> = get.items.iter().map(&mut read).collect();
        let code_of = |found: &Result<Vec<Item>, StatusCode>| match found {
            Ok(_) => StatusCode::OK,
            Err(refusal) => *refusal,
        };
        let codes: Vec<_> = found.iter().map(code_of).collect();
        let denied = get.items.iter().zip(&codes).filter(|(_, code)| **code == DENIED);
        if denied.filter_map(|(item, _)| item.target_uri()).any(is_inventory) {
            self.device.on_inventory_denied(self.now);
        }
        let code = self.statuses(get, Verb::Get, &codes);
        let items: Vec<Item> = found.into_iter().flatten().flatten().collect();
        if !items.is_empty() {
            self.execution.answers.push(OutboundCommand::Results(Results {
                id: CommandId::new(0),
                message_ref: Some(self.execution.message),
                command_ref: get.id,
                meta: None,
                items,
            }));
        }
        code
    }

    fn on_items(
        &mut self,
        verb: Verb,
        manage: &Manage,
        act: impl Fn(&mut Self, &Item) -> StatusCode,
    ) -> StatusCode {
        let mut codes = Vec::with_capacity(manage.items.len());
        for item in &manage.items {
            codes.push(match self.assemble(verb, &item.described_by(manage.meta.as_ref())) {
                Ok(item) => act(self, &item),
                Err(code) => code,
            });
        }
        self.statuses(manage, verb, &codes)
    }

    /// Adds one status when all items have the same, else one for each item. Returns the first
    /// failure.
    fn statuses(&mut self, manage: &Manage, verb: Verb, codes: &[StatusCode]) -> StatusCode {
        let first = codes.first().copied().unwrap_or(StatusCode::INCOMPLETE);
        if codes.iter().all(|code| *code == first) {
            let only = match manage.items.as_slice() {
                [item] => item.target_uri(),
                _ => None,
            };
            self.status(manage.id, verb, first, only);
        } else {
            for (item, code) in manage.items.iter().zip(codes) {
                self.status(manage.id, verb, *code, item.target_uri());
            }
        }
        codes.iter().copied().find(|code| !code.is_success()).unwrap_or(first)
    }

    // spec: oma-dm 2.5 (commands in an Atomic)
    fn can_roll_back(&self, command: &Command) -> bool {
        match command {
            Command::Add(manage)
            | Command::Replace(manage)
            | Command::Delete(manage)
            | Command::Copy(manage) => {
                !manage.items.iter().any(|item| self.tree.cannot_roll_back(self.device, item))
            }
            // Neither does anything.
            Command::Alert(_) | Command::Rejected(_) => true,
            Command::Status(_)
            | Command::Results(_)
            | Command::Exec(_)
            | Command::Get(_)
            | Command::Sequence(_)
            | Command::Atomic(_) => false,
        }
    }

    /// Adds the status of a command that is not run, and of those inside it.
    fn skip(&mut self, command: &Command, code: StatusCode) {
        if !command.wants_status() {
            return;
        }
        self.status(command.id(), command.verb(), code, None);
        match command {
            Command::Sequence(group) | Command::Atomic(group) => {
                group.commands.iter().for_each(|command| self.skip(command, code));
            }
            Command::Status(_)
            | Command::Results(_)
            | Command::Alert(_)
            | Command::Exec(_)
            | Command::Get(_)
            | Command::Add(_)
            | Command::Replace(_)
            | Command::Delete(_)
            | Command::Copy(_)
            | Command::Rejected(_) => {}
        }
    }

    /// Answers what could not be read. An element that is no command stops no group.
    fn reject(&mut self, rejected: &Rejected) -> CommandOutcome {
        tracing::debug!(fault = %rejected.fault, "command rejected");
        if !rejected.is_command() || rejected.verb == Verb::Status {
            return CommandOutcome::Done(StatusCode::OK);
        }
        if rejected.id != CommandId::ABSENT {
            self.status(rejected.id, rejected.verb, rejected.code, None);
        }
        CommandOutcome::Done(rejected.code)
    }

    fn status(&mut self, command: CommandId, verb: Verb, code: StatusCode, target: Option<&str>) {
        let mut status =
            Status::new(CommandId::new(0), self.execution.message, command, verb, code);
        status.target_refs.extend(target.map(str::to_owned));
        self.execution.answers.push(OutboundCommand::Status(status));
    }
}

/// Returns the nodes that a command writes.
fn targets(command: &Command) -> Vec<NodeUri> {
    match command {
        Command::Add(manage)
        | Command::Replace(manage)
        | Command::Delete(manage)
        | Command::Copy(manage) => {
            let target = |item: &Item| item.target_uri()?.parse().ok();
            manage.items.iter().filter_map(target).collect()
        }
        Command::Alert(_)
        | Command::Status(_)
        | Command::Results(_)
        | Command::Exec(_)
        | Command::Get(_)
        | Command::Sequence(_)
        | Command::Atomic(_)
        | Command::Rejected(_) => Vec::new(),
    }
}
