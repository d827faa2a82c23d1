//! Runs the commands of one message and collects a status, and results, for each.

use proto::{
    dm::{
        code::{AlertCode, StatusCode},
        syncml::{
            Alert, Command, CommandId, Exec, Group, Item, Manage, MessageId, Results, Status, Verb,
        },
    },
    time::Now,
};

use super::session::Outgoing;
use crate::dm::{Device, tree::Tree};

/// Octets of data that the results of one Get may have: they cannot be split over messages.
const MAX_RESULTS: usize = 32 * 1024;

/// Runs commands in their order.
pub(super) struct Executor<'a> {
    now: Now,
    device: &'a mut dyn Device,
    tree: &'a mut Tree,
    message: MessageId,
    answers: Vec<Outgoing>,
    aborted: bool,
}

impl<'a> Executor<'a> {
    pub(super) const fn new(
        now: Now,
        device: &'a mut dyn Device,
        tree: &'a mut Tree,
        message: MessageId,
    ) -> Self {
        Self { now, device, tree, message, answers: Vec::new(), aborted: false }
    }

    /// Returns whether the server broke the session off.
    pub(super) const fn aborted(&self) -> bool {
        self.aborted
    }

    /// Returns a status for every command that wants one; each Get's results follow its status.
    pub(super) fn into_answers(self) -> Vec<Outgoing> {
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
            Command::Copy(copy) => {
                self.on_items(Verb::Copy, copy, |_, _| StatusCode::NOT_SUPPORTED)
            }
            Command::Sequence(group) => self.sequence(group),
            Command::Atomic(group) => self.atomic(group),
        }
    }

    fn alert(&mut self, alert: &Alert) -> StatusCode {
        let code = match alert.code {
            AlertCode::SESSION_ABORT => {
                self.aborted = true;
                return StatusCode::OK;
            }
            AlertCode::NEXT_MESSAGE => StatusCode::OK,
            code if code.is_user_interaction() => {
                // The first item holds parameters, the second the text.
                let text = alert.items.get(1).and_then(|item| item.data.as_deref());
                self.device.ask_user(self.now, code, text.unwrap_or_default())
            }
            _ => StatusCode::NOT_SUPPORTED,
        };
        self.status(alert.id, Verb::Alert, code, None);
        code
    }

    fn exec(&mut self, exec: &Exec) -> StatusCode {
        let code = if exec.item.more_data {
            StatusCode::NOT_SUPPORTED
        } else {
            let correlator = exec.correlator.clone();
            self.tree.exec(self.now, self.device, &exec.item, correlator)
        };
        self.status(exec.id, Verb::Exec, code, exec.item.target_uri());
        code
    }

    fn get(&mut self, get: &Manage) -> StatusCode {
        let mut room = MAX_RESULTS;
        let mut read = |item: &Item| {
            let uri = item.target_uri().ok_or(StatusCode::INCOMPLETE)?;
            let found = self.tree.get(self.device, uri)?;
            let size = uri.len() + found.data.as_ref().map_or(0, String::len);
            room = room.checked_sub(size).ok_or(StatusCode::TOO_LARGE)?;
            Ok(found)
        };
        let found: Vec<Result<Item, StatusCode>> = get.items.iter().map(&mut read).collect();
        let code_of = |found: &Result<Item, StatusCode>| match found {
            Ok(_) => StatusCode::OK,
            Err(refusal) => *refusal,
        };
        let codes: Vec<_> = found.iter().map(code_of).collect();
        let code = self.statuses(get, Verb::Get, &codes);
        let items: Vec<Item> = found.into_iter().flatten().collect();
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
            // `LrgObj` says that large objects are not taken.
            codes.push(if item.more_data {
                StatusCode::NOT_SUPPORTED
            } else {
                act(self, &with_meta(item, manage))
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
