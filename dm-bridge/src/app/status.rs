//! Status of campaigns and devices.

use proto::ids::CampaignId;

use super::{AppError, campaigns::find};
use crate::{
    campaign::reconcile::CampaignView,
    fleet::store::{CampaignDevice, FleetStore, Listed},
};

/// Returns one campaign.
///
/// # Errors
///
/// [`AppError::NotFound`] when there is none of this id.
pub async fn campaign(store: &dyn FleetStore, id: CampaignId) -> Result<CampaignView, AppError> {
    let campaign = find(store, id).await?;
    Ok(CampaignView { campaign, phase_counts: store.phase_counts(id).await? })
}

/// Returns a page of the devices of a campaign with their latest attempts, by device id.
///
/// # Errors
///
/// [`AppError::NotFound`] when there is no such campaign.
pub async fn devices_of(
    store: &dyn FleetStore,
    id: CampaignId,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<Listed<CampaignDevice>>, AppError> {
    find(store, id).await?;
    Ok(store.campaign_devices(id, after, limit).await?)
}

/// Returns a page of the campaigns in the order of creation.
///
/// # Errors
///
/// [`AppError::Store`] when they cannot be read.
pub async fn campaign_page(
    store: &dyn FleetStore,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<Listed<CampaignView>>, AppError> {
    let mut views = Vec::new();
    for Listed { key, row } in store.campaign_page(after, limit).await? {
        let row = match row {
            Ok(campaign) => {
                let phase_counts = store.phase_counts(campaign.id).await?;
                Ok(CampaignView { campaign, phase_counts })
            }
            Err(error) => Err(error),
        };
        views.push(Listed { key, row });
    }
    Ok(views)
}

/// Parses the place in the audit log after which a page begins: a number of a line.
///
/// # Errors
///
/// [`AppError::Usage`] when it is none.
pub fn audit_cursor(after: Option<&str>) -> Result<u64, AppError> {
    let Some(text) = after else { return Ok(0) };
    let wrong = |_| AppError::Usage(format!("after {text:?}: expected the number of a line"));
    text.parse().map_err(wrong)
}
