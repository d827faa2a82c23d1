//! The stored state that concerns one device, and what a message changes of it.

use std::{collections::BTreeMap, sync::Arc};

use proto::{
    ids::{CampaignId, Correlator},
    time::Utc,
};

use crate::{
    campaign::model::Campaign,
    fleet::{attempt::ArmingAttempt, challenge::ChallengeKeys, device::Device, store::Change},
    random::RandomBytes,
};

/// The surroundings in which one message is authenticated: the row of its device alone.
pub struct AuthContext<'a> {
    /// The row of the device; changed when the device has proved itself.
    pub device: &'a mut Device,
    /// The keys of challenges.
    pub challenges: &'a ChallengeKeys,
    /// The time of the message.
    pub now: Utc,
    /// Random octets.
    pub random: RandomBytes<'a>,
}

/// The surroundings in which one message is handled.
pub struct Context<'a> {
    /// The stored rows of the device.
    pub stored: &'a mut DeviceContext,
    /// The time of the message.
    pub now: Utc,
    /// Random octets.
    pub random: RandomBytes<'a>,
}

/// The stored rows that concern one device, as loaded for one message.
///
/// The DM server changes the rows; [`changes_since`] returns what has to be stored
/// before the reply is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceContext {
    /// The device.
    pub device: Device,
    /// All attempts for it, by campaign and attempt number.
    pub attempts: Vec<ArmingAttempt>,
    /// The campaigns of the open attempts; all running ones when the device requests an update.
    pub campaigns: Vec<Campaign>,
    /// Bundles that were read because a message had to send one.
    pub packages: BTreeMap<CampaignId, Arc<[u8]>>,
    /// Campaign whose bundle was missing when a message had to send it: the caller reads it and
    /// handles the message again.
    pub wanted_package: Option<CampaignId>,
    /// Texts for the audit log.
    pub notes: Vec<String>,
}

/// Returns the rows that differ from those before.
#[must_use]
pub fn changes_since(before: &DeviceContext, after: &DeviceContext) -> Vec<Change> {
    let device = (after.device != before.device).then(|| Change::from(after.device.clone()));
    let attempts = after.attempts.iter().filter(|row| !before.attempts.contains(row));
    device.into_iter().chain(attempts.cloned().map(Change::from)).collect()
}

/// Counts up the versions of the rows that differ from those before, after they were stored.
pub fn mark_stored(before: &DeviceContext, after: &mut DeviceContext) {
    if after.device != before.device {
        after.device.version += 1;
    }
    for row in after.attempts.iter_mut().filter(|row| !before.attempts.contains(row)) {
        row.mark_stored();
    }
    after.notes.clear();
}

/// Adds a text for the audit log.
pub(super) fn audit_note(ctx: &mut Context<'_>, text: impl Into<String>) {
    ctx.stored.notes.push(text.into());
}

/// Changes the latest attempt for a campaign.
pub(super) fn update_latest(
    ctx: &mut Context<'_>,
    campaign: CampaignId,
    change: impl FnOnce(&mut ArmingAttempt),
) {
    let rows = ctx.stored.attempts.iter_mut().filter(|row| row.campaign == campaign);
    if let Some(row) = rows.max_by_key(|row| row.attempt) {
        let before = row.clone();
        change(row);
        if *row != before {
            row.mark_changed(ctx.now);
        }
    }
}

/// Changes the attempt with this correlator.
pub(super) fn update_attempt(
    ctx: &mut Context<'_>,
    correlator: &Correlator,
    change: impl FnOnce(&mut ArmingAttempt),
) {
    let mut rows = ctx.stored.attempts.iter_mut();
    if let Some(row) = rows.find(|row| row.correlator == *correlator) {
        let before = row.clone();
        change(row);
        if *row != before {
            row.mark_changed(ctx.now);
        }
    }
}

/// Returns the campaign `id`, if it was read.
#[must_use]
pub fn campaign_of(stored: &DeviceContext, id: CampaignId) -> Option<&Campaign> {
    stored.campaigns.iter().find(|campaign| campaign.id == id)
}

/// Returns whether the campaign `id` brings firmware.
#[must_use]
pub fn is_firmware(stored: &DeviceContext, id: CampaignId) -> bool {
    campaign_of(stored, id).is_some_and(|campaign| campaign.delivery.software.is_none())
}

/// Returns the latest attempt of each campaign out of all attempts for one device.
pub fn latest(armings: &[ArmingAttempt]) -> impl Iterator<Item = &ArmingAttempt> {
    armings.iter().filter(|row| {
        !armings.iter().any(|other| other.campaign == row.campaign && other.attempt > row.attempt)
    })
}
