//! Event queue: events in the order of their moments, and of their creation within one.

use std::{collections::BTreeMap, net::SocketAddr};

use dm_bridge::campaign::reconcile::Step;
use proto::ids::CampaignId;
use receiver::{
    dm::client::TransportError, store::commands::Completion, update::installer::InstallOutcome,
};

use super::{fault::At, package::SOURCES};

/// Something that happens.
#[derive(Debug)]
pub enum Event {
    /// The fault of this number begins.
    Begin(usize),
    /// It ends.
    End(usize),
    /// The process of a device is started.
    Start(usize),
    /// The machine of a device boots again, as its installer requests.
    Reboot(usize),
    /// Something happens to a device, in one of its lives.
    Device(usize, u64, DeviceEvent),
    /// A DM message reaches the management server.
    Request(usize, u64, Message),
    /// An image server runs its due steps, in one of its lives.
    ImageServer(usize, u64),
    /// An image server sends the next packet of a campaign, in one of its lives.
    Transmit(usize, u64, CampaignId),
    /// The management server runs its due steps.
    Reconcile,
    /// The open sessions of an image server are compared with those of the management server.
    CheckSessions(usize),
    /// A call to an image server is given up, in one of the lives of the management server.
    CallTimeout(u64, Step),
    /// The notification of a device by this number goes on.
    Notify(usize),
    /// The operator does the next thing.
    Operator(OperatorAction),
}

/// Action of an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperatorAction {
    /// Opens a window of so many milliseconds, so many milliseconds from now.
    OpenWindow {
        /// From now to its opening.
        ahead: u64,
        /// From its opening to its closing.
        length: u64,
    },
    /// Checks whether all devices are done.
    CheckEnd,
}

/// Event of a device.
#[derive(Debug)]
pub enum DeviceEvent {
    /// A deadline of the agent.
    Wake,
    /// A datagram arrives.
    Datagram(Datagram),
    /// A notification arrives.
    Notification(Vec<u8>),
    /// The storage serves the next command.
    Storage,
    /// The decoder does the next job.
    Solve,
    /// The storage has answered.
    Complete(Completion),
    /// A DM message was answered, or not.
    Answer(Result<Vec<u8>, TransportError>),
    /// The installer reports the installed version.
    Version,
    /// The installer is killed, as it does not tell the version.
    VersionTimeout,
    /// The installer is done with the image.
    Install,
    /// The installer has ended.
    Installed(InstallOutcome),
}

/// A datagram on a channel.
#[derive(Debug, Clone)]
pub struct Datagram {
    /// Group and port.
    pub channel: SocketAddr,
    /// Index of its source in [`SOURCES`].
    pub source: usize,
    /// Its octets.
    pub octets: Vec<u8>,
}

impl Datagram {
    /// Returns the address that it comes from.
    pub fn source(&self) -> std::net::IpAddr {
        SOURCES.get(self.source).copied().unwrap_or([203, 0, 113, 9].into())
    }
}

/// A DM message on its way.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its URL.
    pub url: String,
    /// Its octets.
    pub body: Vec<u8>,
}

/// The queue.
#[derive(Debug, Default)]
pub struct Queue {
    events: BTreeMap<(At, u64), Event>,
    made: u64,
}

impl Queue {
    /// Lets something happen.
    pub fn at(&mut self, at: At, event: Event) {
        self.made += 1;
        self.events.insert((at, self.made), event);
    }

    /// Returns what happens next.
    pub fn pop(&mut self) -> Option<(At, Event)> {
        self.events.pop_first().map(|((at, _), event)| (at, event))
    }
}
