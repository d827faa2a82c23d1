//! The status of the device, for operators and the lab.

use proto::dm::fumo::Phase;
use serde::Serialize;

use super::{operations::package_data, owners::Owners};
use crate::{
    components::Deployed, dm::update_request::RequestStatus, flute::stats::Stats,
    suspension::Readings,
};

/// Returns the suspend reasons, and the loss of the journal.
pub(super) fn all_reasons(owners: &Owners) -> Vec<String> {
    let lost = owners.trust.reason().map(str::to_owned);
    owners.suspension.reasons().into_iter().chain(lost).collect()
}

/// The status of the device. Symbols count once they are synced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The phase of the operation.
    pub phase: Phase,
    /// The FUMO state of that phase.
    pub state: u16,
    /// The active suspend reasons.
    pub reasons: Vec<String>,
    /// The campaign that the device is armed with, 32 hex digits.
    pub campaign: Option<String>,
    /// Channels that are joined, `group:port`.
    pub channels: Vec<String>,
    /// Symbols synced, K for each decoded block.
    pub symbols_synced: u64,
    /// Source symbols of the object.
    pub symbols_needed: u64,
    /// Symbols found on disk when this run began.
    pub symbols_resumed: u64,
    /// Slots that hold synced symbols of undecoded blocks.
    pub slots_held: u64,
    /// Decoded blocks.
    pub blocks_done: u64,
    /// Blocks of the object.
    pub blocks: u64,
    /// Reserved log files, and the number that the object needs.
    pub logs_reserved: Option<(u32, u32)>,
    /// The version that the installer prints.
    pub firmware_version: Option<String>,
    /// The last result.
    pub result: Option<u16>,
    /// Results that the server has not acknowledged.
    pub reports_waiting: usize,
    /// The last update request and its outcome.
    pub request: Option<RequestStatus>,
    /// The readings of the sensors, once they were read.
    pub readings: Option<Readings>,
    /// The software components that the installer lists, on a device that has any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub components: Option<Vec<Deployed>>,
    /// Counters of this run.
    pub stats: Stats,
}

pub(super) fn status(owners: &Owners) -> Status {
    let reception = owners.reception.status();
    Status {
        phase: owners.update.phase(),
        state: owners.update.phase().state(package_data(owners)).number(),
        reasons: all_reasons(owners),
        campaign: owners.update.armed().map(|armed| armed.id().to_string()),
        channels: reception.channels,
        symbols_synced: reception.symbols_synced,
        symbols_needed: reception.symbols_needed,
        symbols_resumed: reception.symbols_resumed,
        slots_held: reception.slots_held,
        blocks_done: reception.blocks_done,
        blocks: reception.blocks,
        logs_reserved: reception.logs_reserved,
        firmware_version: owners.installer.firmware_version().map(str::to_owned),
        result: owners.update.result().map(|code| code.0),
        reports_waiting: owners.dm.reports.waiting(),
        request: owners.dm.update_request.status(),
        readings: owners.suspension.readings(),
        components: owners.installer.deployed().map(<[Deployed]>::to_vec),
        stats: *owners.reception.stats(),
    }
}
