//! Commands on their way to a device, and what their answers are for.

use std::fmt;

use proto::{
    dm::{
        code::{AlertCode, Format},
        syncml::{Alert, Command, CommandId, Exec, Group, Item, Manage, Verb},
        ui::Prompt,
    },
    ids::{CampaignId, Correlator},
};

use crate::fleet::{device::Rest, policy::Setting};

/// What a Get is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fact {
    /// `./DevDetail/FwV`.
    Firmware,
    /// The FUMO object's `State`.
    State,
    /// Version of `Ext/Broadcast`; absent on a device that cannot listen.
    BroadcastVersion,
    /// True phase of the device.
    Phase,
    /// Source symbols that a block may have.
    MaxBlockSymbols,
    /// KiB of storage for one reception.
    MaxStorage,
    /// Version of the stored root.
    Root,
    /// Whether objects may come in pieces.
    LargeObjects,
    /// What the device holds of a package whose sending broke off.
    HeldPackage,
}

/// Whether a Replace has to succeed before the Exec may follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Without it the Exec is not sent.
    Required,
    /// The device does without.
    Optional,
}

/// How commands hang together.
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

/// Why a command is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// To learn something.
    Read(Fact),
    /// To lay something down for an Exec.
    Write(Need, &'static str),
    /// To arm the device.
    Arm(CampaignId),
    /// To learn what the device holds of software components.
    Inventory,
    /// To begin an operation on a component.
    Component(Correlator),
    /// To have the device rest or go on.
    Rest(Rest),
    /// To set a node of its policy.
    Policy(Setting),
    /// To take an arming back.
    Disarm(CampaignId),
    /// To tell the user something.
    Tell,
    /// To ask the user.
    Ask(CampaignId),
    /// To hold others together.
    Group(GroupKind),
}

/// What is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Read a node.
    Get(String),
    /// Overwrite a node.
    Replace(Box<Item>),
    /// Create a node.
    Add(Box<Item>),
    /// Start something; the correlator comes back in the final alert.
    Exec(String, Option<Correlator>),
    /// Address the user: parameters, then the text.
    Alert(AlertCode, Vec<Item>),
    /// Ask the user.
    Ask(Prompt),
    /// Several.
    Group(GroupKind, Vec<Planned>),
}

/// Gives a command its number; it is told the group that the command travels in.
pub type Numbers<'a> = &'a mut dyn FnMut(&Planned, Option<CommandId>) -> CommandId;

/// A command that has not been answered yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// Why.
    pub purpose: Purpose,
    /// What.
    pub request: Request,
}

impl Planned {
    /// Returns a Get of `uri`.
    #[must_use]
    pub const fn read(fact: Fact, uri: String) -> Self {
        Self { purpose: Purpose::Read(fact), request: Request::Get(uri) }
    }

    /// Returns a Replace; `name` is what people call the node.
    #[must_use]
    pub fn write(need: Need, name: &'static str, item: Item) -> Self {
        Self { purpose: Purpose::Write(need, name), request: Request::Replace(Box::new(item)) }
    }

    /// Returns an Add; `name` is what people call the node.
    #[must_use]
    pub fn add(need: Need, name: &'static str, item: Item) -> Self {
        Self { purpose: Purpose::Write(need, name), request: Request::Add(Box::new(item)) }
    }

    /// Returns what is left of an Add whose node is there: it is overwritten, unless it is an
    /// interior one.
    #[must_use]
    pub fn overwriting(&self) -> Option<Self> {
        let Request::Add(item) = &self.request else { return None };
        let format = item.meta.as_ref().and_then(|meta| meta.format.as_ref());
        let purpose = self.purpose.clone();
        (format != Some(&Format::Node))
            .then(|| Self { purpose, request: Request::Replace(item.clone()) })
    }

    /// Returns an alert to the user that wants no decision.
    #[must_use]
    pub fn tell(code: AlertCode, text: &str) -> Self {
        let item = |text: &str| Item { data: Some(text.into()), ..Item::default() };
        let items = vec![item("MINDT=10"), item(text)];
        Self { purpose: Purpose::Tell, request: Request::Alert(code, items) }
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
            | Request::Ask(_) => None,
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
            Request::Alert(..) | Request::Ask(_) => Verb::Alert,
            Request::Group(kind, _) => kind.verb(),
        }
    }

    /// Returns the command for the message; it has a number below those of its members.
    #[must_use]
    pub fn command(&self, numbers: Numbers<'_>) -> Command {
        self.within(None, numbers)
    }

    fn within(&self, group: Option<CommandId>, numbers: Numbers<'_>) -> Command {
        let id = numbers(self, group);
        match &self.request {
            Request::Get(uri) => Command::Get(Manage::new(id, vec![Item::target(uri)])),
            Request::Replace(item) => {
                Command::Replace(Manage::new(id, vec![item.as_ref().clone()]))
            }
            Request::Add(item) => Command::Add(Manage::new(id, vec![item.as_ref().clone()])),
            Request::Ask(prompt) => Command::Alert(prompt.to_alert(id)),
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
                    members.iter().map(|member| member.within(Some(id), &mut *numbers)).collect();
                let group = Group { id, meta: None, commands };
                match kind {
                    GroupKind::Sequence => Command::Sequence(group),
                    GroupKind::Atomic => Command::Atomic(group),
                }
            }
        }
    }
}
