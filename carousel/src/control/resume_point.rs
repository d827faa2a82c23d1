//! The state of a session that survives a restart: identity, position in the plan, window.

use std::net::SocketAddr;

use proto::{
    ids::{CampaignId, ComponentId, Tsi},
    time::Utc,
};
use serde::{Deserialize, Serialize};

/// The segment at which a session resumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumePoint {
    /// The component that is being sent.
    pub component: ComponentId,
    /// The segment of its plan.
    pub segment: u32,
    /// Passes that are complete.
    pub passes: u64,
    /// An FDT Instance ID that was not used yet.
    pub fdt_instance: u32,
}

impl ResumePoint {
    /// The beginning.
    pub const START: Self =
        Self { component: ComponentId(0), segment: 0, passes: 0, fdt_instance: 0 };

    /// Returns the resume point to save while a session is on air: some FDT Instance IDs ahead, so
    /// that none is used twice even if the last state was not written.
    #[must_use]
    pub const fn with_reserve(self) -> Self {
        Self { fdt_instance: self.fdt_instance.wrapping_add(FDT_RESERVE), ..self }
    }
}

/// FDT Instance IDs that are skipped at a restart; a session uses two a day.
const FDT_RESERVE: u32 = 8;

proto::words! {
    /// The state that a session shall have.
    #[derive(Serialize, Deserialize)]
    pub enum DesiredState, serde {
        /// The session has a TSI and is not open.
        Prepared = "prepared",
        /// On air from opens to closes.
        Opened = "opened",
        /// It was stopped.
        Stopped = "stopped",
    }
}

/// The session as requested by the control API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedSession {
    /// Multicast group and port.
    pub channel: SocketAddr,
    /// Start of the window.
    pub opens: Utc,
    /// End of the window.
    pub closes: Utc,
    /// Rate; `None` is the image server's own.
    pub bits_per_second: Option<u64>,
    /// The desired state.
    #[serde(rename = "order")]
    pub desired: DesiredState,
    /// Number of this setting of the window; 0 if the caller does not count.
    #[serde(default)]
    pub window_revision: u32,
}

/// The content of `air.json` in a package directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedState {
    /// Format version, 1.
    pub version: u32,
    /// The campaign; the state of another one is not used.
    pub campaign: CampaignId,
    /// The session's identifier.
    pub tsi: Tsi,
    /// The point to resume from.
    #[serde(rename = "place")]
    pub resume_point: ResumePoint,
    /// Absent when the session was only aired by hand.
    pub session: Option<SavedSession>,
}

impl SavedState {
    /// The version that this program writes.
    pub const VERSION: u32 = 1;
}
