//! Commands to the device: queued, packed into a reply, sent, and awaiting their Status.
//!
//! A command that exceeds a message is sent in chunks, if it is a Replace and the device supports
//! large objects.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proto::dm::{
    code::{AlertCode, StatusCode},
    encoding::Encoding,
    large::Chunker,
    syncml::{
        Alert, Challenge, Command, CommandId, Credential, Header, Item, Location, Manage, Message,
        MessageId, Meta, Status,
    },
};

use super::{
    Limits,
    command::{GroupKind, GroupSupport, PlannedCommand, Request, UNANSWERED, is_carried_out},
};
use crate::fleet::{device::SERVER_ID, profile::Quirk};

/// Smallest chunk that is worth a message.
const MIN_CHUNK_BYTES: usize = 256;

/// A sent command is named by its message and its CmdID.
type SentId = (MessageId, CommandId);

/// Commands to the device in one session. A command awaits its Status exactly from when it is sent
/// until it is answered.
#[derive(Debug, Clone)]
pub(super) struct Outbox {
    queue: VecDeque<PlannedCommand>,
    /// All sent commands, for Results that arrive after their Status.
    sent: BTreeMap<SentId, SentCommand>,
    /// Sent commands without a Status.
    awaiting_status: BTreeSet<SentId>,
    /// Groups that the device supports, as far as known.
    groups: GroupSupport,
    /// Groups that the current message rejects.
    refused_groups: BTreeSet<SentId>,
    /// Message size limit of the device, in octets.
    max_message: usize,
    /// Object size limit of the device, in octets; `None` when it announces none.
    max_object: Option<u64>,
    /// Large object that is being sent.
    object: Option<OutboundObject>,
    /// Set while our package is open because a chunk was sent.
    package_open: bool,
}

/// A command that was sent.
#[derive(Debug, Clone)]
struct SentCommand {
    planned: PlannedCommand,
    /// The group that contained it.
    group: Option<CommandId>,
}

/// A large object that is being sent to the device.
#[derive(Debug, Clone)]
struct OutboundObject {
    planned: PlannedCommand,
    chunker: Chunker,
    /// The chunk without a status.
    awaiting: Option<SentId>,
}

/// Outcome of packing the queue into a message.
#[derive(Debug)]
pub(super) enum Packed {
    /// The message has the commands that fit; the others wait for the next one.
    Full,
    /// A group exceeds a message.
    GroupTooLarge(GroupKind),
    /// A command exceeds a message.
    TooLarge(PlannedCommand),
}

/// A message without room for a chunk.
#[derive(Debug)]
pub(super) struct NoRoom;

impl Outbox {
    pub(super) fn new(limits: Limits, quirks: &BTreeSet<Quirk>) -> Self {
        Self {
            queue: VecDeque::new(),
            sent: BTreeMap::new(),
            awaiting_status: BTreeSet::new(),
            groups: GroupSupport::assumed(quirks),
            refused_groups: BTreeSet::new(),
            max_message: limits.message_bytes,
            max_object: None,
            object: None,
            package_open: false,
        }
    }

    /// Adopts the size limits that a message of the device announces.
    pub(super) fn adopt_limits(&mut self, announced: Option<&Meta>, limits: Limits) {
        let size = announced.and_then(|meta| meta.max_message_size);
        if let Some(size) = size.and_then(|size| usize::try_from(size).ok()) {
            self.max_message = size.min(limits.message_bytes);
        }
        let largest = announced.and_then(|meta| meta.max_object_size);
        self.max_object = largest.or(self.max_object);
    }

    pub(super) const fn max_message(&self) -> usize {
        self.max_message
    }

    pub(super) const fn groups(&self) -> GroupSupport {
        self.groups
    }

    pub(super) fn push(&mut self, command: PlannedCommand) {
        self.queue.push_back(command);
    }

    pub(super) fn extend(&mut self, commands: impl IntoIterator<Item = PlannedCommand>) {
        self.queue.extend(commands);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Returns whether any command was sent.
    pub(super) fn has_sent(&self) -> bool {
        !self.sent.is_empty()
    }

    /// Drops all that is not answered.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.awaiting_status.clear();
        self.object = None;
    }

    /// Returns whether a chunk has left our package open, and closes it.
    pub(super) fn take_package_open(&mut self) -> bool {
        std::mem::take(&mut self.package_open)
    }

    /// Records that the device rejects groups of a kind.
    pub(super) const fn remove_groups(&mut self, kind: GroupKind) {
        self.groups.remove(kind);
    }

    /// Records the groups that a message rejects, wherever the statuses of their members are.
    pub(super) fn record_refused_groups(&mut self, message: &Message) {
        let refused = message.statuses().filter(|status| !status.code.is_success());
        let keys = refused.map(|status| (status.message_ref, status.command_ref));
        self.refused_groups = keys.filter(|key| self.group_kind_of(*key).is_some()).collect();
    }

    fn group_kind_of(&self, key: SentId) -> Option<GroupKind> {
        self.sent.get(&key).and_then(|sent| sent.planned.group_kind())
    }

    /// Handles a Status; returns the command that it ends, with its effective code.
    pub(super) fn on_status(&mut self, status: &Status) -> Option<(PlannedCommand, StatusCode)> {
        let key = (status.message_ref, status.command_ref);
        if let Some(object) = self.object.as_mut().filter(|object| object.awaiting == Some(key)) {
            object.awaiting = None;
            if status.code == StatusCode::CHUNK_ACCEPTED {
                return None;
            }
            return self.abort_object().map(|planned| (planned, status.code));
        }
        if self.awaiting_status.remove(&key) { self.answered(key, status.code) } else { None }
    }

    /// Ends a package: returns the commands without a Status, which count as not executed.
    pub(super) fn take_unanswered(&mut self) -> Vec<(PlannedCommand, StatusCode)> {
        let keys = std::mem::take(&mut self.awaiting_status);
        keys.into_iter().filter_map(|key| self.answered(key, UNANSWERED)).collect()
    }

    fn answered(&self, key: SentId, code: StatusCode) -> Option<(PlannedCommand, StatusCode)> {
        let sent = self.sent.get(&key)?;
        let code = self.code_in_group(sent.group.map(|group| (key.0, group)), code);
        Some((sent.planned.clone(), code))
    }

    /// Returns the effective status of a member: one of a rejected group that was not executed all
    /// the same is sent again without the group.
    // spec: oma-dm 4.3 (406, 500, 507: the same without the group)
    fn code_in_group(&self, group: Option<SentId>, code: StatusCode) -> StatusCode {
        let Some(key) = group.filter(|key| self.refused_groups.contains(key)) else { return code };
        let was_asked = [StatusCode::NOT_MODIFIED, StatusCode::CANCELLED, StatusCode::TIMED_OUT]
            .contains(&code);
        let stands = self.group_kind_of(key) == Some(GroupKind::Sequence)
            && (is_carried_out(code) || was_asked);
        if stands { code } else { StatusCode::NOT_EXECUTED }
    }

    /// Returns the command that was sent with these numbers.
    pub(super) fn sent(&self, message: MessageId, command: CommandId) -> Option<&PlannedCommand> {
        self.sent.get(&(message, command)).map(|sent| &sent.planned)
    }

    /// Renumbers sent commands after their message was sent again under another number.
    pub(super) fn renumber(&mut self, from: MessageId, to: MessageId) {
        let sent_before: Vec<_> = self.sent.keys().filter(|key| key.0 == from).copied().collect();
        for key in sent_before {
            if let Some(sent) = self.sent.remove(&key) {
                self.sent.insert((to, key.1), sent);
            }
            if self.awaiting_status.remove(&key) {
                self.awaiting_status.insert((to, key.1));
            }
        }
        let awaiting = self.object.as_mut().and_then(|object| object.awaiting.as_mut());
        if let Some((message, _)) = awaiting.filter(|(message, _)| *message == from) {
            *message = to;
        }
    }

    /// Packs queued commands into the reply, up to the device's message size.
    pub(super) fn pack(&mut self, reply: &mut MessageBuilder<'_>, encoding: Encoding) -> Packed {
        let message = reply.id();
        let mut is_first = true;
        while let Some(planned) = self.queue.pop_front() {
            let entries = reply.push_planned(&planned);
            if reply.length(encoding) > self.max_message {
                reply.pop();
                if !is_first {
                    self.queue.push_front(planned);
                    return Packed::Full;
                }
                return match planned.group_kind() {
                    Some(kind) => Packed::GroupTooLarge(kind),
                    None => Packed::TooLarge(planned),
                };
            }
            is_first = false;
            for (id, entry) in entries {
                self.awaiting_status.insert((message, id));
                self.sent.insert((message, id), entry);
            }
        }
        Packed::Full
    }

    /// Starts to send a write in chunks; returns whether its object is within the device's limit.
    pub(super) fn start_object(&mut self, planned: PlannedCommand, encoding: Encoding) -> bool {
        let Request::Replace(item) = planned.request() else { return false };
        let chunker = Chunker::new(item, encoding);
        if self.max_object.is_some_and(|limit| chunker.size() > limit) {
            return false;
        }
        self.object = Some(OutboundObject { planned, chunker, awaiting: None });
        true
    }

    /// Returns whether the next chunk is due.
    pub(super) fn chunk_due(&self) -> bool {
        self.object.as_ref().is_some_and(|object| object.awaiting.is_none())
    }

    /// Appends the next chunk to the reply, alone. All but the last leave the package open.
    // spec: oma-dm 2.1 (chunks in consecutive messages)
    pub(super) fn send_chunk(
        &mut self,
        reply: &mut MessageBuilder<'_>,
        encoding: Encoding,
    ) -> Result<(), NoRoom> {
        let Some(mut object) = self.object.take() else { return Ok(()) };
        let command = |item: &Item| {
            let items = vec![item.clone()];
            |id| Command::Replace(Manage::new(id, items))
        };
        let chunk = object.chunker.chunk(MIN_CHUNK_BYTES, |item| {
            reply.push(command(item));
            let fits = reply.length(encoding) <= self.max_message;
            reply.pop();
            fits
        });
        let key = (reply.id(), reply.push(command(&chunk.ok_or(NoRoom)?)));
        if object.chunker.is_done() {
            self.awaiting_status.insert(key);
            self.sent.insert(key, SentCommand { planned: object.planned, group: None });
        } else {
            reply.leave_open();
            self.package_open = true;
            self.object = Some(OutboundObject { awaiting: Some(key), ..object });
        }
        Ok(())
    }

    /// Aborts the object being sent; returns its command.
    pub(super) fn abort_object(&mut self) -> Option<PlannedCommand> {
        self.object.take().map(|object| object.planned)
    }
}

/// Returns a reply with one status code for the header and every command.
#[must_use]
pub fn refuse(message: &Message, code: StatusCode, challenge: Option<Challenge>) -> Message {
    let mut reply = MessageBuilder::reply_to(message);
    reply.header_status(code, challenge);
    for command in message.commands.iter().filter(|command| command.wants_status()) {
        reply.command_status(command, code);
    }
    reply.finish()
}

/// A reply under construction. Its message id is that of the request: both sides count from 1 and
/// send in turn.
pub(super) struct MessageBuilder<'m> {
    message: Message,
    request_header: &'m Header,
    last_id: u32,
}

impl<'m> MessageBuilder<'m> {
    fn reply_to(message: &'m Message) -> Self {
        let request_header = &message.header;
        let limit = u64::try_from(Limits::default().message_bytes).unwrap_or(u64::MAX);
        let header = Header {
            session_id: request_header.session_id.clone(),
            message_id: request_header.message_id,
            target: Location::new(request_header.source.uri.clone()),
            source: Location::named(request_header.target.uri.clone(), SERVER_ID),
            respond_to: None,
            credential: None,
            meta: Some(Meta {
                max_message_size: Some(limit),
                max_object_size: Some(Limits::default().object_bytes),
                ..Meta::default()
            }),
        };
        let message = Message { header, commands: Vec::new(), is_final: true };
        Self { message, request_header, last_id: 0 }
    }

    pub(super) fn new(message: &'m Message, respond_to: String) -> Self {
        let mut reply = Self::reply_to(message);
        reply.message.header.respond_to = Some(respond_to);
        reply
    }

    pub(super) const fn id(&self) -> MessageId {
        self.message.header.message_id
    }

    fn push(&mut self, make: impl FnOnce(CommandId) -> Command) -> CommandId {
        self.last_id += 1;
        let id = CommandId(self.last_id);
        self.message.commands.push(make(id));
        id
    }

    /// Appends a planned command; returns it and its members with their ids.
    fn push_planned(&mut self, planned: &PlannedCommand) -> Vec<(CommandId, SentCommand)> {
        let mut entries = Vec::new();
        let mut next = self.last_id;
        let command = planned.command(&mut |planned, group| {
            next += 1;
            entries.push((CommandId(next), SentCommand { planned: planned.clone(), group }));
            CommandId(next)
        });
        self.last_id = next;
        self.message.commands.push(command);
        entries
    }

    /// Removes the last command, with its members.
    fn pop(&mut self) {
        if let Some(command) = self.message.commands.pop() {
            self.last_id = command.id().0 - 1;
        }
    }

    pub(super) fn header_status(&mut self, code: StatusCode, challenge: Option<Challenge>) {
        let request_header = self.request_header;
        self.push(|id| {
            Command::Status(Status { challenge, ..Status::for_header(id, request_header, code) })
        });
    }

    pub(super) fn command_status(&mut self, command: &Command, code: StatusCode) {
        let message = self.request_header.message_id;
        self.push(|id| {
            Command::Status(Status::new(id, message, command.id(), command.verb(), code))
        });
    }

    pub(super) fn alert(&mut self, code: AlertCode, items: Vec<Item>) {
        self.push(|id| Command::Alert(Alert { id, code, correlator: None, items }));
    }

    pub(super) fn set_credential(&mut self, credential: Option<Credential>) {
        self.message.header.credential = credential;
    }

    /// Appends the commands of `last`, which the device has challenged, after the header status.
    pub(super) fn repeat(&mut self, last: Message) {
        let mut commands = last.commands.into_iter();
        if let (Some(Command::Status(first)), Some(Command::Status(header))) =
            (commands.next(), self.message.commands.first_mut())
        {
            // A device that sends a challenge has dropped this one.
            header.challenge = header.challenge.take().or(first.challenge);
        }
        self.message.commands.extend(commands);
        self.message.is_final = last.is_final;
    }

    /// Leaves the package open: another message of it follows.
    const fn leave_open(&mut self) {
        self.message.is_final = false;
    }

    pub(super) fn request_next_message(mut self) -> Message {
        self.alert(AlertCode::NEXT_MESSAGE, Vec::new());
        self.leave_open();
        self.message
    }

    fn length(&self, encoding: Encoding) -> usize {
        encoding.length(&self.message)
    }

    pub(super) fn finish(self) -> Message {
        self.message
    }
}
