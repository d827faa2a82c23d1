//! Capabilities of the device, as read in the session.

use std::collections::{BTreeMap, BTreeSet};

use proto::dm::{
    fumo::PackagePrefix,
    nodes::{broadcast, device, fumo},
};

use super::{
    context::{DeviceContext, latest},
    outbox::{PlannedCommand, Property},
};
use crate::{
    campaign::model::DeliveryMethod,
    fleet::{
        attempt::{ArmingAttempt, ArmingPhase},
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
}

impl Capabilities {
    pub(super) fn new(quirks: &BTreeSet<Quirk>) -> Self {
        Self {
            properties: BTreeMap::new(),
            chunking_allowed: !quirks.contains(&Quirk::NoLargeObjects),
            queried: false,
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
        }
        commands
    }

    /// Returns the commands that read the capabilities.
    // spec: oma-001 8.1.1.4
    pub(super) fn query(&mut self, stored: &DeviceContext) -> Vec<PlannedCommand> {
        let node = |path: &str| format!("{}/{path}", stored.device.object);
        self.queried = true;
        let mut commands = vec![
            PlannedCommand::read(Property::BroadcastVersion, node(broadcast::VERSION)),
            PlannedCommand::read(Property::MaxBlockSymbols, node(broadcast::MAX_BLOCK_SYMBOLS)),
            PlannedCommand::read(Property::MaxStorage, node(broadcast::MAX_STORAGE)),
            PlannedCommand::read(Property::Root, node(broadcast::ROOT)),
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
    pub(super) fn remove(&mut self, property: Property) {
        self.properties.remove(&property);
    }

    /// Returns whether large objects may be sent to the device.
    pub(super) fn accepts_large_objects(&self) -> bool {
        let is_true = |text: &String| text.trim() == "true";
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
