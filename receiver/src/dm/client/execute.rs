//! Runs the commands of one message and collects a status, and results, for each.

use proto::{
    dm::{
        code::{AlertCode, StatusCode},
        large::Joiner,
        syncml::{
            Alert, Command, CommandId, Data, Exec, Group, Item, Manage, MessageId, Results, Status,
            Verb,
        },
    },
    time::Now,
};

use super::session::Outgoing;
use crate::dm::{Device, tree::Tree};

/// Octets of data that the results of one Get may have.
const MAX_RESULTS: usize = 32 * 1024;

/// Runs commands in their order.
pub(super) struct Executor<'a> {
    now: Now,
    device: &'a mut dyn Device,
    tree: &'a mut Tree,
    joiner: &'a mut Joiner,
    object_bytes: u64,
    message: MessageId,
    answers: Vec<Outgoing>,
    /// Groups around the command that runs.
    depth: usize,
    /// Whether a piece of a large object came.
    took_piece: bool,
    aborted: bool,
}

impl<'a> Executor<'a> {
    pub(super) const fn new(
        now: Now,
        device: &'a mut dyn Device,
        tree: &'a mut Tree,
        (joiner, object_bytes): (&'a mut Joiner, u64),
        message: MessageId,
    ) -> Self {
        Self {
            now,
            device,
            tree,
            joiner,
            object_bytes,
            message,
            answers: Vec::new(),
            depth: 0,
            took_piece: false,
            aborted: false,
        }
    }

    /// Returns whether the server broke the session off.
    pub(super) const fn aborted(&self) -> bool {
        self.aborted
    }

    /// Returns a status for every command that wants one; each Get's results follow its status.
    pub(super) fn into_answers(mut self) -> Vec<Outgoing> {
        if !self.took_piece
            && let Some(lost) = self.joiner.interrupted_by(Verb::Header, None)
        {
            self.answers.push(Outgoing::NoEndOfData(lost));
        }
        self.answers
    }

    /// Runs a command that stands in the body itself. Nothing runs after an abort.
    pub(super) fn top_level(&mut self, command: &Command) {
        if !self.aborted {
            self.run(command);
        }
    }

    /// Runs a command; returns the status that a group around it goes by.
    fn run(&mut self, command: &Command) -> StatusCode {
        match command {
            Command::Status(_) | Command::Results(_) => StatusCode::OK,
            Command::Alert(alert) => self.alert(alert),
            Command::Exec(exec) => self.exec(exec),
            Command::Get(get) => self.get(get),
            Command::Add(add) => {
                self.on_items(Verb::Add, add, |this, item| this.tree.add(this.device, item))
            }
            Command::Replace(replace) => self.on_items(Verb::Replace, replace, |this, item| {
                this.tree.replace(this.now, this.device, item)
            }),
            Command::Delete(delete) => self
                .on_items(Verb::Delete, delete, |this, item| this.tree.delete(this.device, item)),
            Command::Copy(copy) => self.on_items(Verb::Copy, copy, |this, item| {
                this.tree.copy(this.now, this.device, item)
            }),
            Command::Sequence(group) => self.inside(|this| this.sequence(group)),
            Command::Atomic(group) => self.inside(|this| this.atomic(group)),
        }
    }

    fn inside(&mut self, run: impl FnOnce(&mut Self) -> StatusCode) -> StatusCode {
        self.depth += 1;
        let code = run(self);
        self.depth -= 1;
        code
    }

    /// Returns an item when it is whole, or the status that its piece gets. A group must fit into
    /// one message, so that there are no pieces inside.
    fn whole(&mut self, verb: Verb, item: &Item) -> Result<Item, StatusCode> {
        if let Some(lost) = self.joiner.interrupted_by(verb, Some(item)) {
            self.answers.push(Outgoing::NoEndOfData(lost));
        }
        if item.more_data && self.depth > 0 {
            return Err(StatusCode::NOT_SUPPORTED);
        }
        self.took_piece |= item.more_data;
        self.joiner.take(verb, item, self.object_bytes)
    }

    fn alert(&mut self, alert: &Alert) -> StatusCode {
        let code = match alert.code {
            AlertCode::SESSION_ABORT => {
                self.aborted = true;
                return StatusCode::OK;
            }
            AlertCode::NEXT_MESSAGE | AlertCode::NO_END_OF_DATA => StatusCode::OK,
            code if code.is_user_interaction() => {
                // spec: oma-001 8.1.1.9 (what the user says is the answer)
                // The first item holds parameters, the second the text.
                let text = alert.items.get(1).and_then(Item::data_text);
                self.device.user_was_addressed(text.unwrap_or_default());
                self.device.ask_user(self.now, code, text.unwrap_or_default())
            }
            _ => StatusCode::NOT_SUPPORTED,
        };
        self.status(alert.id, Verb::Alert, code, None);
        code
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
        let code = self.statuses(get, Verb::Get, &codes);
        let items: Vec<Item> = found.into_iter().flatten().flatten().collect();
        if !items.is_empty() {
            self.answers.push(Outgoing::Results(Results {
                id: CommandId(0),
                message_ref: Some(self.message),
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

    /// Runs commands one after the other. One that does not succeed ends the sequence: what it
    /// gates (an Exec behind a user's "no", or behind a Replace that failed) must not happen.
    fn sequence(&mut self, group: &Group) -> StatusCode {
        self.status(group.id, Verb::Sequence, StatusCode::OK, None);
        let mut stopped = false;
        for command in &group.commands {
            if stopped || self.aborted {
                self.skipped(command, StatusCode::NOT_EXECUTED);
            } else {
                stopped = !self.run(command).is_success();
            }
        }
        if stopped { StatusCode::NOT_EXECUTED } else { StatusCode::OK }
    }

    /// Runs commands all or nothing. Only what is staged in memory can be taken back, so commands
    /// with other effects are refused in here.
    fn atomic(&mut self, group: &Group) -> StatusCode {
        let place = self.answers.len();
        let before = self.tree.checkpoint();
        let mut done = Vec::new();
        let mut stopped = false;
        for command in &group.commands {
            if stopped {
                self.skipped(command, StatusCode::NOT_EXECUTED);
                continue;
            }
            let code = if self.may_be_atomic(command) {
                let from = self.answers.len();
                let code = self.run(command);
                done.push(from..self.answers.len());
                code
            } else {
                self.skipped(command, StatusCode::FAILED);
                StatusCode::FAILED
            };
            stopped = !code.is_success();
        }
        let code = if stopped { StatusCode::ATOMIC_FAILED } else { StatusCode::OK };
        if stopped {
            self.tree.roll_back(before);
            for answer in done.into_iter().flatten() {
                if let Some(Outgoing::Status(status)) = self.answers.get_mut(answer)
                    && status.code.is_success()
                {
                    status.code = StatusCode::ROLLED_BACK;
                }
            }
        }
        let own = Status::new(CommandId(0), self.message, group.id, Verb::Atomic, code);
        self.answers.insert(place, Outgoing::Status(own));
        code
    }

    fn may_be_atomic(&self, command: &Command) -> bool {
        match command {
            Command::Replace(manage) => {
                !manage.items.iter().any(|item| self.tree.is_irrevocable(item))
            }
            Command::Alert(_) | Command::Add(_) | Command::Delete(_) | Command::Copy(_) => true,
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
        let mut status = Status::new(CommandId(0), self.message, command, verb, code);
        status.target_refs.extend(target.map(str::to_owned));
        self.answers.push(Outgoing::Status(status));
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
