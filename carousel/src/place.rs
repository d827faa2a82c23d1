//! What an image server keeps over restarts: session identity, place in the plan, window.

use std::net::SocketAddr;

use proto::{
    ids::{CampaignId, ComponentId, Tsi},
    time::Utc,
};
use serde::{Deserialize, Serialize};

/// Where a session goes on: always a segment boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The component that is being sent.
    pub component: ComponentId,
    /// The segment of its plan.
    pub segment: u32,
    /// Passes that are complete.
    pub passes: u64,
    /// An FDT Instance ID that was not used yet.
    pub fdt_instance: u32,
}

impl Place {
    /// The beginning.
    pub const START: Self =
        Self { component: ComponentId(0), segment: 0, passes: 0, fdt_instance: 0 };

    /// Returns the place to keep while a session is on air: some FDT Instance IDs ahead, so that
    /// none is used twice even if the last state was not written.
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
    pub enum Order, serde {
        /// It has a TSI and waits to be opened.
        Prepared = "prepared",
        /// It is on air from opens to closes.
        Opened = "opened",
        /// It was taken off the air.
        Stopped = "stopped",
    }
}

/// What `serve` was told about a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptSession {
    /// Multicast group and port.
    pub channel: SocketAddr,
    /// When the window opens.
    pub opens: Utc,
    /// When it closes.
    pub closes: Utc,
    /// Rate; `None` is the image server's own.
    pub bits_per_second: Option<u64>,
    /// What is to be done.
    pub order: Order,
}

/// The content of `air.json` in a package directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Format version, 1.
    pub version: u32,
    /// The campaign; what is kept for another one is not used.
    pub campaign: CampaignId,
    /// The session's identifier.
    pub tsi: Tsi,
    /// Where it goes on.
    pub place: Place,
    /// Absent when the session was only aired by hand.
    pub session: Option<KeptSession>,
}

impl Kept {
    /// The version that this program writes.
    pub const VERSION: u32 = 1;
}
