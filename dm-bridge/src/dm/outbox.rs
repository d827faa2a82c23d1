//! Commands to the device: planned, queued, packed into a reply, sent, and awaiting their Status.
//!
//! A command that exceeds a message is sent in chunks, if it is a Replace and the device supports
//! large objects.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
};

use proto::{
    dm::{
        code::{AlertCode, Format, StatusCode},
        encoding::Encoding,
        large::{Chunker, object_size},
        nodes::device,
        syncml::{
            Alert, Command, CommandId, Exec, Group, Item, Manage, Message, MessageId, Meta, Status,
            Verb,
        },
        ui::Prompt,
    },
    ids::{CampaignId, Correlator},
};

use super::{Limits, message::MessageBuilder};
use crate::fleet::{device::SuspendCommand, policy::NodeValue, profile::Quirk};

/// Stands for a missing Status.
pub(super) const UNANSWERED: StatusCode = StatusCode(0);

/// Returns whether a command was executed: some 2xx codes mean that it was not.
pub(super) fn is_carried_out(code: StatusCode) -> bool {
    let skipped =
        [StatusCode::CANCELLED, StatusCode::NOT_EXECUTED, StatusCode::ROLLED_BACK].contains(&code);
    code.is_success() && !skipped
}

/// A property of a device that is read with Get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Property {
    /// `./DevDetail/FwV`.
    Firmware,
    /// Names of the nodes of the FUMO object.
    Nodes,
    /// `State` of the FUMO object.
    State,
    /// Version of `Ext/Broadcast`; absent on a device without broadcast reception.
    BroadcastVersion,
    /// Phase of the device in `Ext/Broadcast`.
    Phase,
    /// Limit of source symbols in a block.
    MaxBlockSymbols,
    /// KiB of storage for one reception.
    MaxStorage,
    /// Version of the stored root.
    Root,
    /// Support for large objects.
    LargeObjects,
    /// Received part of a package whose transfer was interrupted.
    PartialPackage,
}

/// Requirement on a write before the Exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requirement {
    /// The Exec is not sent without it.
    Required,
    /// The Exec is sent all the same.
    Optional,
}

/// Kind of a group of commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupKind {
    /// One after the other, as long as they succeed.
    Sequence,
    /// All or none.
    Atomic,
}

impl GroupKind {
    const fn verb(self) -> Verb {
        match self {
            Self::Sequence => Verb::Sequence,
            Self::Atomic => Verb::Atomic,
        }
    }
}

impl fmt::Display for GroupKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.verb().as_str())
    }
}

/// Groups that a device supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GroupSupport {
    sequence: bool,
    atomic: bool,
}

impl GroupSupport {
    /// Returns the assumption about a device that has not answered a group yet.
    pub(super) fn assumed(quirks: &BTreeSet<Quirk>) -> Self {
        let supports = |quirk| !quirks.contains(&quirk);
        Self { sequence: supports(Quirk::NoSequence), atomic: supports(Quirk::NoAtomic) }
    }

    pub(super) const fn supports(self, kind: GroupKind) -> bool {
        match kind {
            GroupKind::Sequence => self.sequence,
            GroupKind::Atomic => self.atomic,
        }
    }

    /// Records that the device rejects groups of a kind.
    pub(super) const fn remove(&mut self, kind: GroupKind) {
        match kind {
            GroupKind::Sequence => self.sequence = false,
            GroupKind::Atomic => self.atomic = false,
        }
    }
}

/// Purpose of a command; it decides what its status means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// Reads a property.
    Read(Property),
    /// Writes a node that an Exec needs.
    Write(Requirement, &'static str),
    /// Arms the device.
    Arm(CampaignId),
    /// Reads the inventory of software components.
    Inventory,
    /// Looks for the FUMO object.
    FindObject,
    /// Starts an operation on a component.
    Component(Correlator),
    /// Suspends or resumes reception.
    Suspension(SuspendCommand),
    /// Sets a policy node.
    Policy(NodeValue),
    /// Disarms the device.
    Disarm(CampaignId),
    /// Notifies the user.
    NotifyUser,
    /// Asks the user for consent.
    AskUser(CampaignId),
    /// Groups other commands.
    Group(GroupKind),
}

/// Contents of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Reads a node.
    Get(String),
    /// Overwrites a node.
    Replace(Box<Item>),
    /// Creates a node.
    Add(Box<Item>),
    /// Starts an operation; the final alert returns the correlator.
    Exec(String, Option<Correlator>),
    /// Addresses the user: parameters, then the text.
    Alert(AlertCode, Vec<Item>),
    /// Asks the user.
    Prompt(Prompt),
    /// Groups several commands.
    Group(GroupKind, Vec<PlannedCommand>),
}

/// Allocates the CmdID of a command; the argument is the group around it.
pub type CommandIds<'a> = &'a mut dyn FnMut(&PlannedCommand, Option<CommandId>) -> CommandId;

/// A command that is planned or sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedCommand {
    purpose: Purpose,
    request: Request,
}

impl PlannedCommand {
    /// Returns a command.
    #[must_use]
    pub const fn new(purpose: Purpose, request: Request) -> Self {
        Self { purpose, request }
    }

    /// Returns its purpose.
    #[must_use]
    pub const fn purpose(&self) -> &Purpose {
        &self.purpose
    }

    /// Returns its contents.
    #[must_use]
    pub const fn request(&self) -> &Request {
        &self.request
    }

    /// Returns the Get of the firmware version.
    #[must_use]
    pub fn read_firmware() -> Self {
        Self::read(Property::Firmware, device::FIRMWARE_VERSION.to_owned())
    }

    /// Returns a Get of `uri`.
    #[must_use]
    pub const fn read(fact: Property, uri: String) -> Self {
        Self { purpose: Purpose::Read(fact), request: Request::Get(uri) }
    }

    /// Returns a Replace; `name` names the node in messages.
    #[must_use]
    pub fn write(need: Requirement, name: &'static str, item: Item) -> Self {
        Self { purpose: Purpose::Write(need, name), request: Request::Replace(Box::new(item)) }
    }

    /// Returns an Add; `name` names the node in messages.
    #[must_use]
    pub fn add(need: Requirement, name: &'static str, item: Item) -> Self {
        Self { purpose: Purpose::Write(need, name), request: Request::Add(Box::new(item)) }
    }

    /// Returns the Replace that stands for an Add whose node exists; `None` for an interior node.
    #[must_use]
    pub fn overwriting(&self) -> Option<Self> {
        let Request::Add(item) = &self.request else { return None };
        let format = item.meta.as_ref().and_then(|meta| meta.format.as_ref());
        let purpose = self.purpose.clone();
        (format != Some(&Format::Node))
            .then(|| Self { purpose, request: Request::Replace(item.clone()) })
    }

    /// Returns an alert that displays a text to the user.
    #[must_use]
    pub fn display_alert(code: AlertCode, text: &str) -> Self {
        let item = |text: &str| Item { data: Some(text.into()), ..Item::default() };
        let items = vec![item("MINDT=10"), item(text)];
        Self { purpose: Purpose::NotifyUser, request: Request::Alert(code, items) }
    }

    /// Returns a group.
    #[must_use]
    pub const fn group(kind: GroupKind, members: Vec<Self>) -> Self {
        Self { purpose: Purpose::Group(kind), request: Request::Group(kind, members) }
    }

    /// Returns the kind of a group.
    #[must_use]
    pub const fn group_kind(&self) -> Option<GroupKind> {
        match &self.request {
            Request::Group(kind, _) => Some(*kind),
            Request::Get(_)
            | Request::Replace(_)
            | Request::Add(_)
            | Request::Exec(..)
            | Request::Alert(..)
            | Request::Prompt(_) => None,
        }
    }

    /// Returns the octets of its largest object, as they stand in a message.
    fn object_size(&self, encoding: Encoding) -> u64 {
        match &self.request {
            Request::Replace(item) | Request::Add(item) => object_size(item, encoding),
            Request::Group(_, members) => {
                members.iter().map(|member| member.object_size(encoding)).max().unwrap_or(0)
            }
            Request::Get(_) | Request::Exec(..) | Request::Alert(..) | Request::Prompt(_) => 0,
        }
    }

    /// Returns the name of the command.
    #[must_use]
    pub const fn verb(&self) -> Verb {
        match &self.request {
            Request::Get(_) => Verb::Get,
            Request::Replace(_) => Verb::Replace,
            Request::Add(_) => Verb::Add,
            Request::Exec(..) => Verb::Exec,
            Request::Alert(..) | Request::Prompt(_) => Verb::Alert,
            Request::Group(kind, _) => kind.verb(),
        }
    }

    /// Returns the command for a message; its CmdID is below those of its members.
    #[must_use]
    pub fn command(&self, ids: CommandIds<'_>) -> Command {
        self.within(None, ids)
    }

    fn within(&self, group: Option<CommandId>, ids: CommandIds<'_>) -> Command {
        let id = ids(self, group);
        match &self.request {
            Request::Get(uri) => Command::Get(Manage::new(id, vec![Item::target(uri)])),
            Request::Replace(item) => {
                Command::Replace(Manage::new(id, vec![item.as_ref().clone()]))
            }
            Request::Add(item) => Command::Add(Manage::new(id, vec![item.as_ref().clone()])),
            Request::Prompt(prompt) => Command::Alert(prompt.to_alert(id)),
            Request::Exec(uri, correlator) => Command::Exec(Box::new(Exec {
                id,
                correlator: correlator.clone(),
                meta: None,
                item: Item::target(uri),
            })),
            Request::Alert(code, items) => {
                Command::Alert(Alert { id, code: *code, correlator: None, items: items.clone() })
            }
            Request::Group(kind, members) => {
                let commands =
                    members.iter().map(|member| member.within(Some(id), &mut *ids)).collect();
                let group = Group { id, meta: None, commands };
                match kind {
                    GroupKind::Sequence => Command::Sequence(group),
                    GroupKind::Atomic => Command::Atomic(group),
                }
            }
        }
    }
}

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
    /// Set while our package is open because a chunk was sent, or a command deferred.
    package_open: bool,
    /// Set when the last message had no room for a command beside its statuses.
    is_deferred: bool,
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
            is_deferred: false,
        }
    }

    /// Adopts the size limits that a message of the device announces.
    pub(super) fn adopt_limits(&mut self, announced: Option<&Meta>, limits: Limits) {
        let size = announced.and_then(|meta| meta.max_message_size);
        if let Some(size) = size.and_then(|size| usize::try_from(size).ok()) {
            self.max_message = size.min(limits.message_bytes);
        }
        // The last value of the session counts; 0 says nothing.
        let largest = announced.and_then(|meta| meta.max_object_size).filter(|size| *size > 0);
        self.max_object = largest.or(self.max_object);
    }

    /// Returns the reason for which a command cannot be sent at all.
    pub(super) fn why_too_large(
        &self,
        planned: &PlannedCommand,
        encoding: Encoding,
        may_split: bool,
    ) -> String {
        match self.max_object.map(|limit| (planned.object_size(encoding), limit)) {
            Some((size, limit)) if size > limit => {
                format!("an object of {size} octets exceeds MaxObjSize {limit} of the device")
            }
            Some(_) | None if may_split || planned.object_size(encoding) == 0 => self.why_no_room(),
            Some(_) | None => format!("{}, and LrgObj is not true", self.why_no_room()),
        }
    }

    /// Returns the reason for which a message has no room for a command.
    pub(super) fn why_no_room(&self) -> String {
        format!("a command does not fit into {} octets", self.max_message)
    }

    /// Returns whether a command has an object that the device does not take, in one piece or in
    /// chunks.
    // spec: oma-dm 2.1 (MaxObjSize)
    fn exceeds_object_limit(&self, planned: &PlannedCommand, encoding: Encoding) -> bool {
        self.max_object.is_some_and(|limit| planned.object_size(encoding) > limit)
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
            // Some clients answer a chunk with 200: the object is written with its last one.
            if status.code.is_success() {
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

    /// Returns the campaign that a message arms the device for, by an Exec without a status yet.
    pub(super) fn armed_by(&self, message: MessageId) -> Option<CampaignId> {
        let sent = self.awaiting_status.iter().filter(|key| key.0 == message);
        sent.filter_map(|key| self.sent.get(key)).find_map(|sent| match sent.planned.purpose() {
            Purpose::Arm(campaign) => Some(*campaign),
            Purpose::Read(_)
            | Purpose::Write(..)
            | Purpose::Inventory
            | Purpose::FindObject
            | Purpose::Component(_)
            | Purpose::Suspension(_)
            | Purpose::Policy(_)
            | Purpose::Disarm(_)
            | Purpose::NotifyUser
            | Purpose::AskUser(_)
            | Purpose::Group(_) => None,
        })
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
            if self.exceeds_object_limit(&planned, encoding) {
                return self.too_large(planned, is_first);
            }
            let mut entries = Vec::new();
            reply.push_group(|next_id| {
                planned.command(&mut |planned, group| {
                    let id = next_id();
                    entries.push((id, SentCommand { planned: planned.clone(), group }));
                    id
                })
            });
            if reply.length(encoding) > self.max_message {
                reply.pop();
                return self.too_large(planned, is_first);
            }
            is_first = false;
            self.is_deferred = false;
            for (id, entry) in entries {
                self.awaiting_status.insert((message, id));
                self.sent.insert((message, id), entry);
            }
        }
        Packed::Full
    }

    /// Ends a message before a command that it does not hold; one that no message holds is returned.
    fn too_large(&mut self, planned: PlannedCommand, is_first: bool) -> Packed {
        if !is_first {
            self.queue.push_front(planned);
            return Packed::Full;
        }
        match planned.group_kind() {
            Some(kind) => Packed::GroupTooLarge(kind),
            None => Packed::TooLarge(planned),
        }
    }

    /// Leaves a command to the next message, which has fewer statuses, and the package open; returns
    /// whether that is of use: it was not tried with this command, and no limit of objects forbids it.
    pub(super) fn defer(
        &mut self,
        planned: PlannedCommand,
        reply: &mut MessageBuilder<'_>,
        encoding: Encoding,
    ) -> bool {
        let tried = std::mem::replace(&mut self.is_deferred, true);
        if tried || self.exceeds_object_limit(&planned, encoding) {
            return false;
        }
        self.queue.push_front(planned);
        reply.leave_open();
        self.package_open = true;
        true
    }

    /// Starts to send a write in chunks; returns whether its object is within the device's limit.
    pub(super) fn start_object(&mut self, planned: PlannedCommand, encoding: Encoding) -> bool {
        let Request::Replace(item) = planned.request() else { return false };
        if self.exceeds_object_limit(&planned, encoding) {
            return false;
        }
        let chunker = Chunker::new(item, encoding);
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
