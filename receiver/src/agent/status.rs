//! What people and the lab may want to know of the device.

use proto::dm::fumo::{PackageData, Phase};
use serde::Serialize;

use super::{AgentState, update_request::RequestStatus};
use crate::{components::Deployed, sensors::Readings, stats::Stats};

/// What the device is doing. Symbols count once they are synced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The true phase.
    pub phase: Phase,
    /// The FUMO state that goes with it.
    pub state: u16,
    /// Why reception rests.
    pub reasons: Vec<String>,
    /// The campaign that the device is armed with, 32 hex digits.
    pub campaign: Option<String>,
    /// Channels that are joined, `group:port`.
    pub channels: Vec<String>,
    /// Symbols synced, K for each solved block.
    pub symbols_synced: u64,
    /// Source symbols of the object.
    pub symbols_needed: u64,
    /// Symbols found on disk when this run began.
    pub symbols_resumed: u64,
    /// Slots that hold synced symbols of unsolved blocks.
    pub slots_held: u64,
    /// Blocks solved.
    pub blocks_done: u64,
    /// Blocks of the object.
    pub blocks: u64,
    /// Log files that are reserved, of those that the object needs.
    pub logs_reserved: Option<(u32, u32)>,
    /// The version that the installer reads back.
    pub firmware_version: Option<String>,
    /// The last result.
    pub result: Option<u16>,
    /// Results that the server does not have yet.
    pub reports_waiting: usize,
    /// The last request for an update, and what became of it.
    pub request: Option<RequestStatus>,
    /// What the sensors show, once they were read.
    pub readings: Option<Readings>,
    /// The software components that the installer lists, on a device that has any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub components: Option<Vec<Deployed>>,
    /// Counters of this run.
    pub stats: Stats,
}

impl AgentState {
    pub(super) fn status(&self) -> Status {
        let operation = self.operation.as_ref();
        let object = self.object();
        let log = object.map(crate::object::Object::log);
        let blocks = log.map_or(0, |log| log.layout().blocks());
        let done = |log: &crate::symbols::SymbolLog| {
            (0..blocks).filter(|sbn| log.is_done(proto::ids::Sbn(*sbn))).count()
        };
        Status {
            phase: self.persistent.phase,
            state: self.persistent.phase.state(self.package_data()).number(),
            reasons: self.reasons(),
            campaign: self.persistent.armed.as_ref().map(|pin| pin.id.to_string()),
            channels: self.joined.iter().map(|tune_in| tune_in.channel.to_string()).collect(),
            symbols_synced: log.map_or(0, crate::symbols::SymbolLog::synced_total),
            symbols_needed: operation
                .map_or(0, |operation| operation.layout.total_symbols().into()),
            symbols_resumed: operation.map_or(0, |operation| operation.resumed),
            slots_held: log.map_or(0, crate::symbols::SymbolLog::slots_held),
            blocks_done: log.map_or(0, |log| u64::try_from(done(log)).unwrap_or(u64::MAX)),
            blocks: blocks.into(),
            logs_reserved: operation
                .map(|operation| (operation.reserved, operation.layout.files())),
            firmware_version: self.firmware_version.clone(),
            result: self.persistent.result.map(|code| code.0),
            reports_waiting: self.persistent.reports.reports().len(),
            request: self
                .update_request
                .as_ref()
                .map(super::update_request::UpdateRequestState::status),
            readings: self.environment.readings(),
            components: self.deployed.clone(),
            stats: self.stats,
        }
    }

    pub(super) fn reasons(&self) -> Vec<String> {
        self.persistent.suspended.iter().map(ToString::to_string).collect()
    }

    pub(super) fn package_data(&self) -> PackageData {
        if self.operation.is_some() || !self.persistent.progress.is_empty() {
            PackageData::Stored
        } else {
            PackageData::Deleted
        }
    }
}
