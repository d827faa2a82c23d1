//! The stored state that concerns one device, and what a message changes of it.

use std::{collections::BTreeMap, sync::Arc};

use proto::{ids::CampaignId, time::Utc};

use crate::{
    campaign::model::Campaign,
    fleet::{attempt::ArmingAttempt, device::Device, store::Change},
    random::RandomBytes,
};

/// The surroundings in which one message is handled.
pub struct Context<'a> {
    /// The stored rows of the device.
    pub stored: &'a mut DeviceContext,
    /// The time of the message.
    pub now: Utc,
    /// Random octets.
    pub random: RandomBytes<'a>,
}

impl Context<'_> {
    pub(super) fn audit_note(&mut self, text: impl Into<String>) {
        self.stored.notes.push(text.into());
    }

    /// Changes the latest attempt for a campaign.
    pub(super) fn update_latest(
        &mut self,
        campaign: CampaignId,
        change: impl FnOnce(&mut ArmingAttempt),
    ) {
        let rows = self.stored.attempts.iter_mut().filter(|row| row.campaign == campaign);
        if let Some(row) = rows.max_by_key(|row| row.attempt) {
            let before = row.clone();
            change(row);
            if *row != before {
                row.updated = self.now;
            }
        }
    }
}

/// The stored rows that concern one device, as loaded for one message.
///
/// The DM server changes the rows; [`DeviceContext::changes_since`] returns what has to be stored
/// before the reply is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceContext {
    /// The device.
    pub device: Device,
    /// All attempts for it, by campaign and attempt number.
    pub attempts: Vec<ArmingAttempt>,
    /// The campaigns of the open attempts; all running ones when the device requests an update.
    pub campaigns: Vec<Campaign>,
    /// Bundles of the campaigns whose package may go inside the DM session.
    pub packages: BTreeMap<CampaignId, Arc<[u8]>>,
    /// Texts for the audit log.
    pub notes: Vec<String>,
}

impl DeviceContext {
    /// Returns the rows that differ from `previous_step`.
    #[must_use]
    pub fn changes_since(&self, before: &Self) -> Vec<Change> {
        let device = (self.device != before.device).then(|| Change::from(self.device.clone()));
        let armings = self.attempts.iter().filter(|row| !before.attempts.contains(row));
        device.into_iter().chain(armings.cloned().map(Change::from)).collect()
    }

    /// Counts up the versions of the rows that differ from `before`, after they were stored.
    pub fn mark_stored(&mut self, before: &Self) {
        if self.device != before.device {
            self.device.version += 1;
        }
        for row in self.attempts.iter_mut().filter(|row| !before.attempts.contains(row)) {
            row.version += 1;
        }
        self.notes.clear();
    }

    /// Returns the campaign `id`, if it was read.
    #[must_use]
    pub fn campaign(&self, id: CampaignId) -> Option<&Campaign> {
        self.campaigns.iter().find(|campaign| campaign.id == id)
    }

    /// Returns the latest attempt of each campaign.
    pub fn latest(&self) -> impl Iterator<Item = &ArmingAttempt> {
        latest(&self.attempts)
    }
}

/// Returns the latest attempt of each campaign out of all attempts for one device.
pub fn latest(armings: &[ArmingAttempt]) -> impl Iterator<Item = &ArmingAttempt> {
    armings.iter().filter(|row| {
        !armings.iter().any(|other| other.campaign == row.campaign && other.attempt > row.attempt)
    })
}
