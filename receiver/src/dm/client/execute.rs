//! Runs the commands of one message and collects a status, and results, for each.

use std::{
    collections::{BTreeSet, VecDeque},
    ops::Range,
};

use proto::{
    dm::{
        code::{AlertCode, StatusCode},
        encoding::Encoding,
        large::Joiner,
        syncml::{
            Alert, Command, CommandId, Data, Exec, Group, Item, Manage, Message, MessageId,
            Results, Status, Verb,
        },
        ui::{Answer, Prompt},
        uri::NodeUri,
    },
    time::Now,
};

use super::outgoing::{Outgoing, STATUS_BYTES};
use crate::dm::{
    Device, Piece,
    scomo::is_inventory,
    tree::{Checkpoint, Tree},
};

const DENIED: StatusCode = StatusCode::PERMISSION_DENIED;

/// Octets of data that the results of one Get may have.
const MAX_RESULTS: usize = 32 * 1024;

/// What is left to do of a message and what was answered so far: it outlives a question to the user.
#[derive(Debug)]
pub(super) struct Run {
    message: MessageId,
    answers: Vec<Outgoing>,
    /// The body and the groups around the command that runs; empty when all is done.
    frames: Vec<Frame>,
    /// The question that awaits its answer.
    asking: Option<CommandId>,
    /// Whether a piece of a large object came.
    took_piece: bool,
    aborted: bool,
}

#[derive(Debug)]
struct Frame {
    group: Around,
    left: VecDeque<Command>,
    /// Whether a member did not succeed, so that those after it are not run.
    stopped: bool,
}

#[derive(Debug)]
enum Around {
    Body,
    Sequence,
    Atomic {
        id: CommandId,
        /// Where the status of the group goes.
        place: usize,
        before: Box<Checkpoint>,
        /// The members that were run; the last one runs.
        done: Vec<Member>,
    },
}

/// A member of an Atomic: what may have to be rolled back.
#[derive(Debug)]
struct Member {
    targets: Vec<NodeUri>,
    answers: Range<usize>,
}

/// What became of a command.
enum Ran {
    Done(StatusCode),
    /// It is a group, whose members are next.
    Entered,
    /// The user was asked.
    Asked,
}

impl Run {
    /// Takes the commands of a message.
    pub(super) fn new(message: MessageId, commands: &[Command]) -> Self {
        let left = commands.iter().cloned().collect();
        let body = Frame { group: Around::Body, left, stopped: false };
        Self {
            message,
            answers: Vec::new(),
            frames: vec![body],
            asking: None,
            took_piece: false,
            aborted: false,
        }
    }

    /// Returns whether the user's answer is awaited.
    pub(super) const fn is_asking(&self) -> bool {
        self.asking.is_some()
    }

    /// Returns whether the server broke the session off.
    pub(super) const fn aborted(&self) -> bool {
        self.aborted
    }

    /// Returns a status for every command that wants one; each Get's results follow its status.
    pub(super) fn into_answers(mut self, joiner: &mut Joiner) -> Vec<Outgoing> {
        if !self.took_piece
            && let Some(lost) = joiner.interrupted_by(Verb::Header, None)
        {
            self.answers.push(Outgoing::NoEndOfData(lost));
        }
        self.answers
    }
}

/// Runs commands in their order, until all are done or the user is asked.
pub(super) struct Executor<'a> {
    pub(super) now: Now,
    pub(super) device: &'a mut dyn Device,
    pub(super) tree: &'a mut Tree,
    pub(super) joiner: &'a mut Joiner,
    pub(super) object_bytes: u64,
    pub(super) room: Room,
    pub(super) run: &'a mut Run,
}

/// What one of our messages may hold beside its header and the status of the server's.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) encoding: Encoding,
    /// A message with nothing in it.
    pub(super) empty: Message,
    pub(super) octets: usize,
}

impl Room {
    fn holds(&self, commands: Vec<Command>) -> bool {
        // The status of the group that these belong to is yet to come.
        let message = Message { commands, ..self.empty.clone() };
        self.encoding.length(&message) + 2 * STATUS_BYTES <= self.octets
    }
}

impl Executor<'_> {
    /// Goes on until all is done or the user is asked. Nothing runs after an abort.
    pub(super) fn go(&mut self) {
        while !self.run.aborted
            && let Some(frame) = self.run.frames.last_mut()
        {
            match (frame.left.pop_front(), frame.stopped) {
                (None, _) => self.leave(),
                (Some(command), true) => self.skipped(&command, StatusCode::NOT_EXECUTED),
                (Some(command), false) => match self.member(command) {
                    Ran::Done(code) => self.settle(code),
                    Ran::Entered => {}
                    Ran::Asked => return,
                },
            }
        }
    }

    /// Takes the user's answer and goes on.
    pub(super) fn answered(&mut self, answer: &Answer) {
        if let Some(alert) = self.run.asking.take() {
            let code = self.user_status(alert, answer);
            self.settle(code);
            self.go();
        }
    }

    /// Leaves the rest undone: what a group had begun is taken back.
    pub(super) fn give_up(&mut self) {
        self.run.asking = None;
        while let Some(frame) = self.run.frames.pop() {
            if let Around::Atomic { before, .. } = frame.group {
                self.tree.roll_back(self.now, self.device, *before);
            }
        }
    }

    /// Notes what became of a member of the innermost group. A member that does not succeed ends
    /// its group: what it gates (an Exec behind a user's "no", or behind a Replace that failed)
    /// must not happen.
    fn settle(&mut self, code: StatusCode) {
        let end = self.run.answers.len();
        let Some(frame) = self.run.frames.last_mut() else { return };
        match &mut frame.group {
            Around::Body => return,
            Around::Sequence => {}
            Around::Atomic { done, .. } => {
                if let Some(member) = done.last_mut() {
                    member.answers.end = end;
                }
            }
        }
        frame.stopped = !code.is_success();
    }

    /// Runs a command that its group lets run.
    fn member(&mut self, command: Command) -> Ran {
        let end = self.run.answers.len();
        let frame = self.run.frames.last_mut();
        if let Some(Frame { group: Around::Atomic { done, .. }, .. }) = frame {
            done.push(Member { targets: targets(&command), answers: end..end });
            // Only what is staged in memory can be taken back.
            if !self.may_be_atomic(&command) {
                self.skipped(&command, StatusCode::FAILED);
                // Its statuses stand: nothing of it is to be rolled back.
                return Ran::Done(StatusCode::FAILED);
            }
        }
        match command {
            Command::Status(_) | Command::Results(_) => Ran::Done(StatusCode::OK),
            Command::Alert(alert) => self.alert(&alert),
            Command::Exec(exec) => Ran::Done(self.exec(&exec)),
            Command::Get(get) => Ran::Done(self.get(&get)),
            Command::Add(add) => Ran::Done(self.on_items(Verb::Add, &add, |this, item| {
                this.tree.add(this.now, this.device, item)
            })),
            Command::Replace(replace) => {
                Ran::Done(self.on_items(Verb::Replace, &replace, |this, item| {
                    this.tree.replace(this.now, this.device, item)
                }))
            }
            Command::Delete(delete) => {
                Ran::Done(self.on_items(Verb::Delete, &delete, |this, item| {
                    this.tree.delete(this.now, this.device, item)
                }))
            }
            Command::Copy(copy) => Ran::Done(self.on_items(Verb::Copy, &copy, |this, item| {
                this.tree.copy(this.now, this.device, item)
            })),
            Command::Sequence(group) => {
                self.status(group.id, Verb::Sequence, StatusCode::OK, None);
                self.enter(Around::Sequence, group)
            }
            Command::Atomic(group) => {
                let around = Around::Atomic {
                    id: group.id,
                    place: self.run.answers.len(),
                    before: Box::new(self.tree.checkpoint(self.device)),
                    done: Vec::new(),
                };
                self.enter(around, group)
            }
        }
    }

    fn enter(&mut self, group: Around, members: Group) -> Ran {
        self.run.frames.push(Frame { group, left: members.commands.into(), stopped: false });
        Ran::Entered
    }

    /// Ends the innermost group; what it came to counts for the one around it.
    fn leave(&mut self) {
        let Some(frame) = self.run.frames.pop() else { return };
        let code = match (frame.group, frame.stopped) {
            (Around::Body, _) => return,
            (Around::Sequence, true) => StatusCode::FAILED,
            (Around::Sequence, false) => StatusCode::OK,
            (Around::Atomic { id, place, before, done }, stopped) => {
                let code = match stopped {
                    true => StatusCode::ATOMIC_FAILED,
                    false if self.answers_fit(place) => StatusCode::OK,
                    false => StatusCode::ATOMIC_TOO_LARGE,
                };
                if !code.is_success() {
                    let stay = self.tree.roll_back(self.now, self.device, *before);
                    self.roll_back_answers(done, &stay);
                }
                let own = Status::new(CommandId(0), self.run.message, id, Verb::Atomic, code);
                self.run.answers.insert(place, Outgoing::Status(own));
                code
            }
        };
        self.settle(code);
    }

    /// Tells whether the answers from `place` on, and that of the Atomic, fit into one message.
    // spec: oma-dm 2.5 (517)
    fn answers_fit(&self, place: usize) -> bool {
        let commands = |answer: &Outgoing| match answer {
            Outgoing::Status(status) => Some(Command::Status(status.clone())),
            Outgoing::Results(_)
            | Outgoing::Large(..)
            | Outgoing::Alert(_)
            | Outgoing::NoEndOfData(_)
            | Outgoing::DeviceInfo(_)
            | Outgoing::Final(_)
            | Outgoing::Request(_) => None,
        };
        let answers = self.run.answers.get(place..).unwrap_or_default();
        self.room.holds(answers.iter().filter_map(commands).collect())
    }

    // spec: oma-dm 2.5 (216, 516)
    fn roll_back_answers(&mut self, done: Vec<Member>, stay: &BTreeSet<NodeUri>) {
        for Member { targets, answers } in done {
            let stays = targets.iter().any(|target| stay.contains(target));
            let code = if stays { StatusCode::ROLL_BACK_FAILED } else { StatusCode::ROLLED_BACK };
            for answer in answers {
                if let Some(Outgoing::Status(status)) = self.run.answers.get_mut(answer)
                    && status.code.is_success()
                {
                    status.code = code;
                }
            }
        }
    }

    /// Returns an item when it is whole, or the status that its piece gets. A group must fit into
    /// one message, so that there are no pieces inside.
    fn whole(&mut self, verb: Verb, item: &Item) -> Result<Item, StatusCode> {
        if let Some(lost) = self.joiner.interrupted_by(verb, Some(item)) {
            self.run.answers.push(Outgoing::NoEndOfData(lost));
        }
        if item.more_data && self.run.frames.len() > 1 {
            return Err(StatusCode::NOT_SUPPORTED);
        }
        self.run.took_piece |= item.more_data;
        let goes_on = self.joiner.is_open();
        let taken = self.joiner.take(verb, item, self.object_bytes);
        if verb == Verb::Replace && taken == Err(StatusCode::CHUNK_ACCEPTED) {
            self.keep_piece(item, goes_on.then_some(Piece::Next));
        }
        taken
    }

    fn keep_piece(&mut self, item: &Item, next: Option<Piece>) {
        let first = item.target_uri().and_then(|uri| self.tree.piece(self.device, uri));
        if let Some(first) = first
            && let Some(octets) = self.joiner.fresh()
        {
            self.device.keep_piece(next.unwrap_or(first), &octets);
        }
    }

    fn alert(&mut self, alert: &Alert) -> Ran {
        let code = match alert.code {
            AlertCode::SESSION_ABORT => {
                self.run.aborted = true;
                return Ran::Done(StatusCode::OK);
            }
            AlertCode::NEXT_MESSAGE | AlertCode::NO_END_OF_DATA => StatusCode::OK,
            code if code.is_user_interaction() => {
                let text = alert.items.get(1).and_then(Item::data_text);
                self.device.user_was_addressed(text.unwrap_or_default());
                return self.ask(alert);
            }
            _ => StatusCode::NOT_SUPPORTED,
        };
        self.status(alert.id, Verb::Alert, code, None);
        Ran::Done(code)
    }

    // spec: oma-001 8.1.1.9 (what the user says is the answer)
    // spec: oma-003 6.1.4.4, oma-003 6.1.4.5 (the server's question gates its group, and no other
    // question does)
    fn ask(&mut self, alert: &Alert) -> Ran {
        let prompt = match Prompt::from_alert(alert) {
            Ok(prompt) => prompt,
            Err(code) => {
                self.status(alert.id, Verb::Alert, code, None);
                return Ran::Done(code);
            }
        };
        match self.device.ask_user(self.now, prompt) {
            Some(answer) => Ran::Done(self.user_status(alert.id, &answer)),
            None => {
                self.run.asking = Some(alert.id);
                Ran::Asked
            }
        }
    }

    fn user_status(&mut self, alert: CommandId, answer: &Answer) -> StatusCode {
        let (code, items) = answer.status();
        let status = Status::new(CommandId(0), self.run.message, alert, Verb::Alert, code);
        self.run.answers.push(Outgoing::Status(Status { items, ..status }));
        // 214 is of the 2xx, and yet no yes.
        if *answer == Answer::Cancelled { StatusCode::FAILED } else { code }
    }

    fn exec(&mut self, exec: &Exec) -> StatusCode {
        let code = match self.whole(Verb::Exec, &exec.item) {
            Ok(item) => {
                let correlator = exec.correlator.clone();
                self.tree.exec(self.now, self.device, &item, correlator)
            }
            Err(code) => code,
        };
        self.status(exec.id, Verb::Exec, code, exec.item.target_uri());
        code
    }

    // spec: oma-001 8.1.1.5 (firmware information is what a Get reads)
    fn get(&mut self, get: &Manage) -> StatusCode {
        let mut room = MAX_RESULTS;
        let mut read = |item: &Item| {
            let uri = item.target_uri().ok_or(StatusCode::INCOMPLETE)?;
            let found = self.tree.get(self.device, uri)?;
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
            self.device.inventory_was_denied(self.now);
        }
        let code = self.statuses(get, Verb::Get, &codes);
        let items: Vec<Item> = found.into_iter().flatten().flatten().collect();
        if !items.is_empty() {
            self.run.answers.push(Outgoing::Results(Results {
                id: CommandId(0),
                message_ref: Some(self.run.message),
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
            codes.push(match self.whole(verb, &with_meta(item, manage)) {
                Ok(item) => act(self, &item),
                Err(code) => code,
            });
        }
        self.statuses(manage, verb, &codes)
    }

    /// Adds one status when all items fared alike, else one for each item. Returns the first that
    /// is no success.
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

    // spec: oma-dm 2.5 (what an Atomic may hold)
    fn may_be_atomic(&self, command: &Command) -> bool {
        match command {
            Command::Add(manage)
            | Command::Replace(manage)
            | Command::Delete(manage)
            | Command::Copy(manage) => {
                !manage.items.iter().any(|item| self.tree.is_irrevocable(self.device, item))
            }
            Command::Alert(_) => true,
            Command::Status(_)
            | Command::Results(_)
            | Command::Exec(_)
            | Command::Get(_)
            | Command::Sequence(_)
            | Command::Atomic(_) => false,
        }
    }

    /// Answers a command that is not run, and those inside it.
    fn skipped(&mut self, command: &Command, code: StatusCode) {
        if !command.wants_status() {
            return;
        }
        self.status(command.id(), command.verb(), code, None);
        match command {
            Command::Sequence(group) | Command::Atomic(group) => {
                group.commands.iter().for_each(|command| self.skipped(command, code));
            }
            Command::Status(_)
            | Command::Results(_)
            | Command::Alert(_)
            | Command::Exec(_)
            | Command::Get(_)
            | Command::Add(_)
            | Command::Replace(_)
            | Command::Delete(_)
            | Command::Copy(_) => {}
        }
    }

    fn status(&mut self, command: CommandId, verb: Verb, code: StatusCode, target: Option<&str>) {
        let mut status = Status::new(CommandId(0), self.run.message, command, verb, code);
        status.target_refs.extend(target.map(str::to_owned));
        self.run.answers.push(Outgoing::Status(status));
    }
}

/// The nodes that a command writes.
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
        | Command::Atomic(_) => Vec::new(),
    }
}

/// An item that does not say what its data is goes by what its command says.
fn with_meta(item: &Item, manage: &Manage) -> Item {
    let mut item = item.clone();
    let lacks_format = item.meta.as_ref().is_none_or(|meta| meta.format.is_none());
    if let (true, Some(common)) = (lacks_format, &manage.meta) {
        item.meta.get_or_insert_default().format.clone_from(&common.format);
    }
    item
}
