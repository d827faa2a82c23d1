//! Commands for a device before they are numbered, and the purpose of each.

use std::{collections::BTreeSet, fmt};

use proto::{
    dm::{
        code::{AlertCode, Format, StatusCode},
        nodes::device,
        syncml::{Alert, Command, CommandId, Exec, Group, Item, Manage, Verb},
        ui::Prompt,
    },
    ids::{CampaignId, Correlator},
};

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
