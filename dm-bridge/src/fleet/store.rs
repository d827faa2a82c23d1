//! What a store of the fleet must do.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use proto::{
    ids::{CampaignId, Correlator, DeviceId},
    time::Utc,
};
use thiserror::Error;

use super::{
    arming::{Arming, ArmingPhase},
    audit::{Audit, AuditLine},
    device::Device,
};
use crate::campaign::model::Campaign;

/// One change of one row. A row that carries version `n` replaces the stored row of version `n`
/// and is kept as `n + 1`; any other stored version is a [`StoreError::Conflict`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A row of a device; version 0 adds it.
    Device(Box<Device>),
    /// A row of a campaign; version 0 adds it.
    Campaign(Box<Campaign>),
    /// A row of the arming queue; version 0 adds it.
    Arming(Box<Arming>),
}

impl From<Device> for Change {
    fn from(device: Device) -> Self {
        Self::Device(Box::new(device))
    }
}

impl From<Campaign> for Change {
    fn from(campaign: Campaign) -> Self {
        Self::Campaign(Box::new(campaign))
    }
}

impl From<Arming> for Change {
    fn from(arming: Arming) -> Self {
        Self::Arming(Box::new(arming))
    }
}

/// How many devices of a campaign stand where, by their latest attempt.
pub type Tally = BTreeMap<ArmingPhase, u64>;

/// Keeps the fleet. All implementations pass the same test-suite.
#[async_trait]
pub trait FleetStore: Send + Sync {
    /// Makes all `changes` and writes the audit line, or does nothing at all.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] when a row is not what the change was computed from.
    async fn apply(&self, at: Utc, audit: Audit, changes: Vec<Change>) -> Result<(), StoreError>;

    /// Returns a device.
    async fn device(&self, id: &DeviceId) -> Result<Option<Device>, StoreError>;

    /// Returns all devices by id.
    async fn devices(&self) -> Result<Vec<Device>, StoreError>;

    /// Returns a campaign.
    async fn campaign(&self, id: CampaignId) -> Result<Option<Campaign>, StoreError>;

    /// Returns all campaigns in the order in which they were created.
    async fn campaigns(&self) -> Result<Vec<Campaign>, StoreError>;

    /// Returns the latest attempt for each device of a campaign, by device.
    async fn campaign_armings(&self, id: CampaignId) -> Result<Vec<Arming>, StoreError>;

    /// Returns all attempts for a device, by campaign and attempt.
    async fn device_armings(&self, id: &DeviceId) -> Result<Vec<Arming>, StoreError>;

    /// Returns a device and all attempts for it: what each of its messages needs.
    async fn desk(&self, id: &DeviceId) -> Result<Option<(Device, Vec<Arming>)>, StoreError> {
        let Some(device) = self.device(id).await? else { return Ok(None) };
        Ok(Some((device, self.device_armings(id).await?)))
    }

    /// Returns the bundle of a campaign, for devices that take it inside the DM session.
    async fn package(&self, id: CampaignId) -> Result<Option<Arc<[u8]>>, StoreError>;

    /// Returns the attempt with this correlator.
    async fn arming(&self, correlator: &Correlator) -> Result<Option<Arming>, StoreError>;

    /// Counts the latest attempts of a campaign by phase.
    async fn tally(&self, id: CampaignId) -> Result<Tally, StoreError>;

    /// Returns the last `limit` lines of the log, oldest first.
    async fn audit_tail(&self, limit: u32) -> Result<Vec<AuditLine>, StoreError>;
}

/// Why a store did not do what was asked.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Somebody else changed the row first, or it exists already.
    #[error("the stored {0} is not the one that the change was made from")]
    Conflict(&'static str),
    /// The store cannot be read or written.
    #[error("the store cannot {doing}")]
    Unavailable {
        /// What was attempted.
        doing: &'static str,
        /// What the database said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A row holds what this program would not have written.
    #[error("the stored {what} is damaged: {found}")]
    Damaged {
        /// Row and column.
        what: &'static str,
        /// What was found.
        found: String,
    },
    /// Secrets cannot be sealed or opened.
    #[error("{0}")]
    Sealed(String),
    /// The store was written by a later version of this program.
    #[error("the store has schema version {found}; this program knows up to {known}")]
    TooNew {
        /// Version found.
        found: i64,
        /// Latest version that is understood.
        known: i64,
    },
}
