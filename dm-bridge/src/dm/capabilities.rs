//! Capabilities of the device, as read in the session.

use std::collections::{BTreeMap, BTreeSet};

use proto::dm::{
    code::StatusCode,
    fumo::{Operation, PackagePrefix, State},
    nodes::{broadcast, device, fumo},
};

use super::{
    context::{DeviceContext, latest},
    outbox::{PlannedCommand, Property, Request, UNANSWERED},
};
use crate::{
    campaign::model::DeliveryMethod,
    fleet::{
        attempt::{ArmingAttempt, ArmingPhase},
        device::ObjectOrigin,
        profile::Quirk,
    },
};

/// Capabilities of the device.
#[derive(Debug, Clone)]
pub(super) struct Capabilities {
    properties: BTreeMap<Property, String>,
    /// Set when chunks may be sent to a device that supports large objects.
    chunking_allowed: bool,
    /// Set once the capabilities were queried, which only a session with a task does.
    queried: bool,
    /// Status of the Get of `State`, when the device refused it.
    state_refused: Option<StatusCode>,
    /// Operations whose nodes the device does not have.
    missing_operations: BTreeSet<Operation>,
    /// Status by which the device said that it cannot ask its user.
    cannot_ask: Option<StatusCode>,
}

/// The FUMO object, as far as a session knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ObjectStatus {
    /// Not asked for, or not answered.
    Unknown,
    /// The device has shown a node of it.
    Present,
    /// The device has shown no node of it, and answered `State` so.
    Missing(StatusCode),
}

impl Capabilities {
    pub(super) fn new(quirks: &BTreeSet<Quirk>) -> Self {
        Self {
            properties: BTreeMap::new(),
            chunking_allowed: !quirks.contains(&Quirk::NoLargeObjects),
            queried: false,
            state_refused: None,
            missing_operations: BTreeSet::new(),
            cannot_ask: None,
        }
    }

    pub(super) const fn are_queried(&self) -> bool {
        self.queried
    }

    /// Returns the commands that begin a session: the firmware version is read, and the
    /// capabilities when the device has an open attempt.
    pub(super) fn first_query(&mut self, stored: &DeviceContext) -> Vec<PlannedCommand> {
        let mut commands = vec![PlannedCommand::read_firmware()];
        let waits = |row: &ArmingAttempt| {
            row.result_code.is_none() && (row.phase.is_open() || row.phase == ArmingPhase::Unknown)
        };
        if latest(&stored.attempts).any(waits) {
            commands.extend(self.query(stored));
        } else if stored.device.object.origin == ObjectOrigin::Assumed {
            commands.push(PlannedCommand::read(
                Property::State,
                stored.device.object.node(fumo::STATE),
            ));
        }
        commands
    }

    /// Returns the commands that read the capabilities.
    // spec: oma-001 8.1.1.4
    pub(super) fn query(&mut self, stored: &DeviceContext) -> Vec<PlannedCommand> {
        let node = |path: &str| stored.device.object.node(path);
        self.queried = true;
        let mut commands = vec![
            PlannedCommand::read(Property::BroadcastVersion, node(broadcast::VERSION)),
            PlannedCommand::read(Property::MaxBlockSymbols, node(broadcast::MAX_BLOCK_SYMBOLS)),
            PlannedCommand::read(Property::MaxStorage, node(broadcast::MAX_STORAGE)),
            PlannedCommand::read(Property::Root, node(broadcast::ROOT)),
            PlannedCommand::read(Property::Nodes, stored.device.object.uri.clone()),
            PlannedCommand::read(Property::State, node(fumo::STATE)),
            PlannedCommand::read(Property::Phase, node(broadcast::PHASE)),
            PlannedCommand::read(Property::LargeObjects, device::LARGE_OBJECTS.to_owned()),
        ];
        if latest(&stored.attempts).any(|row| {
            row.delivery_method == DeliveryMethod::Direct && row.phase == ArmingPhase::Pending
        }) {
            let held = node(fumo::PACKAGE_HELD);
            commands.push(PlannedCommand::read(Property::PartialPackage, held));
        }
        commands
    }

    /// Records the value of a property.
    pub(super) fn record(&mut self, property: Property, text: String) {
        self.properties.insert(property, text);
    }

    /// Drops a property that the device does not have.
    pub(super) fn remove(&mut self, property: Property, code: StatusCode) {
        self.properties.remove(&property);
        if property == Property::State && code != UNANSWERED {
            self.state_refused = Some(code);
        }
    }

    /// Returns the status of the FUMO object.
    pub(super) fn object_status(&self) -> ObjectStatus {
        let below_it = [
            Property::Nodes,
            Property::State,
            Property::BroadcastVersion,
            Property::MaxBlockSymbols,
            Property::MaxStorage,
            Property::Root,
            Property::Phase,
        ];
        match self.state_refused {
            _ if below_it.iter().any(|property| self.properties.contains_key(property)) => {
                ObjectStatus::Present
            }
            Some(code) => ObjectStatus::Missing(code),
            None => ObjectStatus::Unknown,
        }
    }

    /// Forgets what was read below the FUMO object: it is at another place.
    pub(super) fn forget_object(&mut self) {
        self.properties.retain(|property, _| *property == Property::Firmware);
        self.missing_operations.clear();
        self.state_refused = None;
        self.queried = false;
    }

    /// Records a write that the device refused: without the node, no operation can use it.
    // spec: oma-dm 11.4 (a refusal covers what follows from it)
    pub(super) fn on_write_refused(&mut self, planned: &PlannedCommand, code: StatusCode) {
        let lacks_it = [StatusCode::NOT_FOUND, StatusCode::NOT_ALLOWED].contains(&code);
        let Request::Replace(item) = planned.request() else { return };
        let is = |path: &str| {
            item.target_uri()
                .and_then(|uri| uri.strip_suffix(path))
                .is_some_and(|it| it.ends_with('/'))
        };
        if lacks_it && is(fumo::DOWNLOAD_AND_UPDATE_URL) {
            self.missing_operations.insert(Operation::DownloadAndUpdate);
        } else if lacks_it && is(fumo::PACKAGE_DATA) {
            self.missing_operations.insert(Operation::Update);
        }
    }

    /// Records that the device cannot ask its user.
    pub(super) const fn record_no_user(&mut self, code: StatusCode) {
        self.cannot_ask = Some(code);
    }

    /// Returns the status by which the device said that it cannot ask its user.
    pub(super) const fn cannot_ask(&self) -> Option<StatusCode> {
        self.cannot_ask
    }

    /// Returns the reason why the FUMO object cannot take the package of a firmware campaign by a
    /// delivery method, as far as its nodes are known.
    pub(super) fn lacks_operation(&self, method: DeliveryMethod) -> Option<String> {
        let operation = match method {
            DeliveryMethod::Broadcast | DeliveryMethod::Download => Operation::DownloadAndUpdate,
            DeliveryMethod::Direct => Operation::Update,
        };
        let names =
            self.properties.get(&Property::Nodes).map(|names| names.split('/').map(str::trim));
        let is_listed = names.map(|mut names| names.any(|name| name == operation.node()));
        let is_missing = is_listed == Some(false) || self.missing_operations.contains(&operation);
        is_missing.then(|| format!("the firmware object has no {}", operation.node()))
    }

    /// Returns the reason to leave an attempt to a later session: the device is busy, and its user
    /// is not asked in vain.
    // spec: oma-dm 11.5 (the state is read before the user is asked)
    pub(super) fn is_busy(&self, row: &ArmingAttempt, asks_user: bool) -> Option<String> {
        let text = self.properties.get(&Property::State)?;
        let state =
            text.trim().parse::<u16>().ok().and_then(|number| State::try_from(number).ok())?;
        // With our extension a campaign may supersede the one in reception, and an Exec is repeated.
        let is_plain = !self.properties.contains_key(&Property::BroadcastVersion);
        let is_working = match state {
            State::Downloading => is_plain,
            State::Downloaded | State::Updating => true,
            State::Idle
            | State::DownloadFailed
            | State::ReadyToUpdate
            | State::UpdateFailedDataHeld
            | State::UpdateFailed
            | State::UpdatedDataHeld
            | State::Updated => false,
        };
        let was_sent = is_plain && row.has_exec_out();
        let number = state.number();
        match is_working {
            true if was_sent => Some(format!(
                "the Exec was sent without a status, and State is {number}: its result is awaited"
            )),
            true if asks_user => Some(format!("the device is busy: State is {number}")),
            true | false => None,
        }
    }

    /// Returns whether large objects may be sent to the device.
    pub(super) fn accepts_large_objects(&self) -> bool {
        let is_true = |text: &String| text.trim().eq_ignore_ascii_case("true");
        self.chunking_allowed && self.properties.get(&Property::LargeObjects).is_some_and(is_true)
    }

    /// Returns the version of the stored root; a device that does not report it gets none.
    pub(super) fn root(&self) -> Option<u64> {
        self.properties.get(&Property::Root).and_then(|text| text.trim().parse().ok())
    }

    /// Returns the received part of a package; a value that does not parse is no partial package.
    pub(super) fn partial_package(&self) -> Option<PackagePrefix> {
        self.properties.get(&Property::PartialPackage).and_then(|text| text.parse().ok())
    }

    /// Returns whether the device runs this firmware version.
    pub(super) fn runs(&self, version: &str) -> bool {
        self.properties.get(&Property::Firmware).is_some_and(|firmware| firmware == version)
    }

    // spec: oma-002 8 (the version node distinguishes a plain 1.0 device)
    /// Returns the reason why the device cannot receive a campaign, before anything is sent.
    pub(super) fn unfit(
        &self,
        largest_block: u32,
        stored_bytes: u64,
    ) -> Option<(ArmingPhase, String)> {
        // A later 1.x adds optional nodes; another major version is incompatible.
        let major = |version: &str| version.trim().split('.').next().map(str::to_owned);
        let version =
            self.properties.get(&Property::BroadcastVersion).and_then(|version| major(version));
        if version != major(broadcast::VERSION_VALUE) {
            let reason = "the device has no Ext/Broadcast of version 1.0".to_owned();
            return Some((ArmingPhase::NeedsUnicast, reason));
        }
        let limit = |property| {
            self.properties.get(&property).and_then(|text| text.trim().parse::<u64>().ok())
        };
        let block = limit(Property::MaxBlockSymbols).filter(|limit| *limit < largest_block.into());
        if let Some(limit) = block {
            let reason =
                format!("blocks have {largest_block} symbols, the device supports {limit}");
            return Some((ArmingPhase::Refused, reason));
        }
        let room = limit(Property::MaxStorage).map(|kibibytes| kibibytes.saturating_mul(1024));
        if let Some(room) = room.filter(|room| *room < stored_bytes) {
            let reason = format!("the package has {stored_bytes} octets, the device holds {room}");
            return Some((ArmingPhase::Refused, reason));
        }
        None
    }
}
