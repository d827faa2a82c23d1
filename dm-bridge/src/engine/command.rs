//! Commands on their way to a device, and what their answers are for.

use proto::{
    dm::{
        code::AlertCode,
        syncml::{Alert, Command, CommandId, Exec, Item, Manage},
        ui::Prompt,
    },
    ids::{CampaignId, Correlator},
};

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
}

/// Whether a Replace has to succeed before the Exec may follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Without it the Exec is not sent.
    Required,
    /// The device does without.
    Optional,
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
    /// To take an arming back.
    Disarm(CampaignId),
    /// To tell the user something.
    Tell,
    /// To ask the user.
    Ask(CampaignId),
}

/// What is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Read a node.
    Get(String),
    /// Overwrite a node.
    Replace(Box<Item>),
    /// Start something; the correlator comes back in the final alert.
    Exec(String, Option<Correlator>),
    /// Address the user: parameters, then the text.
    Alert(AlertCode, Vec<Item>),
    /// Ask the user.
    Ask(Prompt),
}

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

    /// Returns an alert to the user that wants no decision.
    #[must_use]
    pub fn tell(code: AlertCode, text: &str) -> Self {
        let item = |text: &str| Item { data: Some(text.into()), ..Item::default() };
        let items = vec![item("MINDT=10"), item(text)];
        Self { purpose: Purpose::Tell, request: Request::Alert(code, items) }
    }

    /// Returns the command for the message.
    #[must_use]
    pub fn command(&self, id: CommandId) -> Command {
        match &self.request {
            Request::Get(uri) => Command::Get(Manage::new(id, vec![Item::target(uri)])),
            Request::Replace(item) => {
                Command::Replace(Manage::new(id, vec![item.as_ref().clone()]))
            }
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
        }
    }
}
