//! The interface of a store of the fleet.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use proto::{
    ids::{CampaignId, ClassId, Correlator, DeviceId, VendorId},
    time::Utc,
};
use thiserror::Error;

use super::{
    address::ProvedFrom,
    attempt::{ArmingAttempt, ArmingPhase},
    audit::{Audit, AuditLine},
    challenge::ChallengeKey,
    device::Device,
    package_secret::PackageSecret,
};
use crate::campaign::model::Campaign;

/// One change of one row. A row of version `n` replaces the stored row of version `n` and is
/// stored as `n + 1`; any other stored version is a [`StoreError::Conflict`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A row of a device; version 0 adds it.
    Device(Box<Device>),
    /// A row of a campaign; version 0 adds it.
    Campaign(Box<Campaign>),
    /// A row of the arming queue; version 0 adds it.
    Attempt(Box<ArmingAttempt>),
    /// Changes nothing; a [`StoreError::Conflict`] unless this campaign is the last that was created:
    /// what was checked against all campaigns holds in the transaction.
    LastCampaign(Option<String>),
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

impl From<ArmingAttempt> for Change {
    fn from(attempt: ArmingAttempt) -> Self {
        Self::Attempt(Box::new(attempt))
    }
}

/// A row of a list. A damaged one is marked, and the others are as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<T> {
    /// Its place in the list: the page after it begins there.
    pub key: String,
    /// The row, or what is wrong with it.
    pub row: Result<T, String>,
}

impl<T> Listed<T> {
    /// Returns the row; a damaged one is left out. Lists mark it; the log says it at `debug`, since
    /// some rows are read often.
    pub fn sound(self, what: &'static str) -> Option<T> {
        match self.row {
            Ok(row) => Some(row),
            Err(error) => {
                tracing::debug!(what, key = self.key, error, "damaged row left out");
                None
            }
        }
    }
}

/// Columns of the damaged row of a campaign, as far as they can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedCampaign {
    /// Its id, as stored.
    pub id: String,
    /// Error of the row.
    pub damage: String,
    /// Epoch and sequence.
    pub sequence: Option<(u32, u64)>,
    /// Vendor of its devices.
    pub vendor: Option<VendorId>,
    /// Classes of its devices.
    pub classes: Option<Vec<ClassId>>,
}

/// A device of a campaign: its latest attempt, and what its own row says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CampaignDevice {
    /// The latest attempt.
    pub attempt: ArmingAttempt,
    /// Firmware version as last read.
    pub firmware_version: Option<String>,
    /// Time of its last authenticated message.
    pub last_seen: Option<Utc>,
}

/// Rows of a page where all are read.
const ALL_PAGE: u32 = 500;

/// The devices of a campaign by the phase of their latest attempt.
pub type PhaseCounts = BTreeMap<ArmingPhase, u64>;

/// A store of the fleet. All implementations pass the same test-suite.
#[async_trait]
pub trait FleetStore: Send + Sync {
    /// Makes all `changes` and writes the audit line, or changes nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] when a row is not what the change was computed from.
    async fn apply(&self, at: Utc, audit: Audit, changes: Vec<Change>) -> Result<(), StoreError>;

    /// Returns a device; its secrets may stay sealed.
    async fn device(&self, id: &DeviceId) -> Result<Option<Device>, StoreError>;

    /// Returns a device with its secrets, for its DM sessions and notifications.
    async fn device_with_secrets(&self, id: &DeviceId) -> Result<Option<Device>, StoreError>;

    /// Returns the device whose client authenticates itself by HMAC as this user; no two have one
    /// user.
    async fn device_of_user(&self, user: &str) -> Result<Option<DeviceId>, StoreError>;

    /// Returns the devices after an id, by id, at most `limit`; their secrets may stay sealed.
    async fn device_page(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Listed<Device>>, StoreError>;

    /// Returns all devices by id, without damaged ones.
    async fn devices(&self) -> Result<Vec<Device>, StoreError> {
        let (mut all, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = self.device_page(after.as_deref(), ALL_PAGE).await?;
            let Some(last) = page.last() else { return Ok(all) };
            after = Some(last.key.clone());
            all.extend(page.into_iter().filter_map(|listed| listed.sound("device")));
        }
    }

    /// Returns a campaign.
    async fn campaign(&self, id: CampaignId) -> Result<Option<Campaign>, StoreError>;

    /// Returns the campaigns after one, in the order in which they were created, at most `limit`;
    /// none after one that does not exist.
    async fn campaign_page(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Listed<Campaign>>, StoreError>;

    /// Returns all campaigns in the order in which they were created, without damaged ones.
    async fn campaigns(&self) -> Result<Vec<Campaign>, StoreError> {
        let (mut all, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = self.campaign_page(after.as_deref(), ALL_PAGE).await?;
            let Some(last) = page.last() else { return Ok(all) };
            after = Some(last.key.clone());
            all.extend(page.into_iter().filter_map(|listed| listed.sound("campaign")));
        }
    }

    /// Returns the campaigns whose rows are damaged, in the order in which they were created.
    async fn damaged_campaigns(&self) -> Result<Vec<DamagedCampaign>, StoreError>;

    /// Returns ids and row versions of all campaigns in the order in which they were created; version
    /// 0 for one that cannot be read.
    async fn campaign_versions(&self) -> Result<Vec<(CampaignId, u64)>, StoreError>;

    /// Returns the id of the last campaign that was created, as it is stored.
    async fn last_campaign(&self) -> Result<Option<String>, StoreError>;

    /// Returns the devices of a campaign after an id, by id, at most `limit`.
    async fn campaign_devices(
        &self,
        id: CampaignId,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Listed<CampaignDevice>>, StoreError>;

    /// Returns the latest attempt for each device of a campaign, by device, without damaged ones.
    async fn campaign_attempts(&self, id: CampaignId) -> Result<Vec<ArmingAttempt>, StoreError> {
        let (mut all, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = self.campaign_devices(id, after.as_deref(), ALL_PAGE).await?;
            let Some(last) = page.last() else { return Ok(all) };
            after = Some(last.key.clone());
            let sound = page.into_iter().filter_map(|listed| listed.sound("attempt"));
            all.extend(sound.map(|device| device.attempt));
        }
    }

    /// Returns all attempts for a device, by campaign and attempt.
    async fn device_attempts(&self, id: &DeviceId) -> Result<Vec<ArmingAttempt>, StoreError>;

    /// Returns the networks from which a device has proved itself, and reads nothing else of its
    /// row; none for a device that is not enrolled.
    async fn proved_from(&self, id: &DeviceId) -> Result<ProvedFrom, StoreError>;

    /// Returns the challenge key of a day, the same for all that share the store. The first to ask
    /// for it makes it.
    ///
    /// # Units
    ///
    /// Days since 1970.
    async fn challenge_key(&self, day: u64) -> Result<ChallengeKey, StoreError>;

    /// Returns the bundle of a campaign, for delivery inside the DM session.
    async fn package(&self, id: CampaignId) -> Result<Option<Arc<[u8]>>, StoreError>;

    /// Returns the attempt with this correlator.
    async fn attempt(&self, correlator: &Correlator) -> Result<Option<ArmingAttempt>, StoreError>;

    /// Returns the attempt whose package has this secret in its URLs.
    async fn attempt_of_package(
        &self,
        secret: &PackageSecret,
    ) -> Result<Option<ArmingAttempt>, StoreError>;

    /// Returns the campaigns with open attempts by download whose URLs were sent before packages needed
    /// a secret.
    async fn downloads_without_secret(&self) -> Result<BTreeSet<CampaignId>, StoreError> {
        Ok(BTreeSet::new())
    }

    /// Returns how many latest attempts of a campaign are in each phase; the store keeps the counts.
    async fn phase_counts(&self, id: CampaignId) -> Result<PhaseCounts, StoreError>;

    /// Writes to the store as a change would, without a lasting effect.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when it cannot be written.
    async fn probe(&self) -> Result<(), StoreError>;

    /// Returns the lines of the log after a number, oldest first, at most `limit`.
    async fn audit_page(
        &self,
        after: u64,
        limit: u32,
    ) -> Result<Vec<Listed<AuditLine>>, StoreError>;

    /// Returns the last `limit` lines of the log, oldest first.
    async fn audit_tail(&self, limit: u32) -> Result<Vec<AuditLine>, StoreError>;

    /// Returns the last `limit` lines of the log about a device or campaign, oldest first.
    async fn audit_of(&self, subject: &str, limit: u32) -> Result<Vec<AuditLine>, StoreError>;
}

/// An error of a store.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The row was changed meanwhile, or exists already.
    #[error("the stored {0} is not the one that the change was made from")]
    Conflict(&'static str),
    /// The store cannot be read or written.
    #[error("the store cannot {doing}")]
    Unavailable {
        /// The attempted operation.
        doing: &'static str,
        /// The error of the database.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A row holds a value that this program does not write.
    #[error("the stored {what} is damaged: {found}")]
    Damaged {
        /// Row and column.
        what: &'static str,
        /// The value found.
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
