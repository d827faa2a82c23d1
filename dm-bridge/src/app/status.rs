//! Status of campaigns and devices.

use std::collections::BTreeMap;

use proto::ids::{CampaignId, DeviceId};

use super::{AppError, campaigns::find};
use crate::{
    campaign::reconcile::CampaignView,
    fleet::{attempt::ArmingAttempt, device::Device, store::FleetStore},
};

/// Returns all campaigns in the order of creation.
///
/// # Errors
///
/// [`AppError::Store`] when they cannot be read.
pub async fn campaigns(store: &dyn FleetStore) -> Result<Vec<CampaignView>, AppError> {
    let mut views = Vec::new();
    for campaign in store.campaigns().await? {
        let phase_counts = store.phase_counts(campaign.id).await?;
        views.push(CampaignView { campaign, phase_counts });
    }
    Ok(views)
}

/// Returns one campaign.
///
/// # Errors
///
/// [`AppError::NotFound`] when there is none of this id.
pub async fn campaign(store: &dyn FleetStore, id: CampaignId) -> Result<CampaignView, AppError> {
    let campaign = find(store, id).await?;
    Ok(CampaignView { campaign, phase_counts: store.phase_counts(id).await? })
}

/// Returns the devices of a campaign with their latest attempts, by device id.
///
/// # Errors
///
/// [`AppError::NotFound`] when there is no such campaign.
pub async fn devices_of(
    store: &dyn FleetStore,
    id: CampaignId,
) -> Result<Vec<(ArmingAttempt, Option<Device>)>, AppError> {
    find(store, id).await?;
    let rows = store.campaign_attempts(id).await?;
    let devices = store.devices().await?;
    let mut devices: BTreeMap<DeviceId, Device> =
        devices.into_iter().map(|device| (device.id.clone(), device)).collect();
    let pair = |row: ArmingAttempt| {
        let device = devices.remove(&row.device);
        (row, device)
    };
    Ok(rows.into_iter().map(pair).collect())
}
