//! Policy on devices that request an update.

use proto::{
    ids::{CampaignId, DeviceId},
    time::Utc,
};

use super::{AppError, campaigns, devices};
use crate::{
    campaign::update_requests::UpdateRequestPolicy,
    fleet::{
        audit::{Actor, Audit},
        store::{Change, FleetStore},
    },
};

/// Sets the policy of a campaign on update requests.
///
/// # Errors
///
/// [`AppError::NotFound`] when there is no such campaign.
pub async fn set_campaign(
    store: &dyn FleetStore,
    now: Utc,
    id: CampaignId,
    choice: UpdateRequestPolicy,
) -> Result<(), AppError> {
    let campaign = campaigns::find(store, id).await?.with_update_requests(choice);
    let audit = audit("campaign.update-requests", id.to_string(), choice.as_str());
    apply(store, now, audit, campaign.into()).await
}

/// Sets the policy of one device on update requests; `None` leaves it to the campaign.
///
/// # Errors
///
/// [`AppError::NotFound`] when it is not enrolled.
pub async fn set_device(
    store: &dyn FleetStore,
    now: Utc,
    id: &DeviceId,
    choice: Option<UpdateRequestPolicy>,
) -> Result<(), AppError> {
    let word = choice.map_or("as the campaign says", UpdateRequestPolicy::as_str);
    devices::change(store, now, ("device.update-requests", word), id, |device| {
        device.update_requests = choice;
    })
    .await
    .map(drop)
}

fn audit(action: &'static str, subject: String, word: &str) -> Audit {
    Audit { actor: Actor::Operator, action, subject, detail: word.to_owned() }
}

async fn apply(
    store: &dyn FleetStore,
    now: Utc,
    audit: Audit,
    change: Change,
) -> Result<(), AppError> {
    Ok(store.apply(now, audit, vec![change]).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{campaign::model::samples, fleet::memory::MemoryStore, fleet::store_tests};

    #[tokio::test]
    async fn an_operator_decides_for_campaigns_and_for_single_devices() {
        let store = MemoryStore::default();
        let (device, campaign) = (store_tests::device("a"), samples::running());
        let (device_id, id) = (device.id.clone(), campaign.id);
        let seed = audit("test", String::new(), "");
        store.apply(Utc(1), seed, vec![device.into(), campaign.into()]).await.unwrap();
        set_campaign(&store, Utc(2), id, UpdateRequestPolicy::Now).await.unwrap();
        assert_eq!(
            campaigns::find(&store, id).await.unwrap().update_requests,
            UpdateRequestPolicy::Now
        );
        for choice in [Some(UpdateRequestPolicy::Later), None] {
            set_device(&store, Utc(3), &device_id, choice).await.unwrap();
            assert_eq!(devices::show(&store, &device_id).await.unwrap().update_requests, choice);
        }
        let absent = "b".parse().unwrap();
        assert_eq!(set_device(&store, Utc(4), &absent, None).await.unwrap_err().exit_code(), 6);
        let actions: Vec<_> =
            store.audit_tail(9).await.unwrap().into_iter().map(|line| line.action).collect();
        assert_eq!(
            actions[1..],
            ["campaign.update-requests", "device.update-requests", "device.update-requests"]
        );
    }
}
