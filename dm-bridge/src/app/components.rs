//! Software components of devices: inventory and operations.

use proto::{
    dm::scomo::Operation,
    ids::{Correlator, DeviceId, PackageId},
    time::Utc,
};

use super::{AppError, devices};
use crate::{
    fleet::{
        components::{ComponentOperation, Components, OperationState},
        store::FleetStore,
    },
    random::{RandomBytes, fresh_correlator},
};

/// Requests the inventory in the next DM session of a device; returns the last one read.
///
/// # Errors
///
/// [`AppError::NotFound`] when it is not enrolled.
pub async fn request_inventory(
    store: &dyn FleetStore,
    now: Utc,
    id: &DeviceId,
) -> Result<Components, AppError> {
    let mut device = devices::show(store, id).await?;
    if !device.components.refresh_requested {
        device = devices::change(store, now, ("device.components", "to be read"), id, |device| {
            device.components.refresh_requested = true;
        })
        .await?;
    }
    Ok(device.components)
}

/// Queues an operation for the next DM session of a device; returns its correlator.
///
/// # Errors
///
/// [`AppError::NotFound`] when the device is not enrolled, [`AppError::Conflict`] when the
/// operation is open already, [`AppError::Usage`] for one that needs a campaign.
pub async fn queue_operation(
    store: &dyn FleetStore,
    now: Utc,
    id: &DeviceId,
    (operation, component): (Operation, &PackageId),
    random: RandomBytes<'_>,
) -> Result<Correlator, AppError> {
    let text = match operation {
        Operation::Download | Operation::DownloadInstall | Operation::DownloadInstallInactive => {
            return Err(AppError::Usage(format!("{operation} needs a package: create a campaign")));
        }
        Operation::Install
        | Operation::InstallInactive
        | Operation::RemovePackage
        | Operation::Activate
        | Operation::Deactivate
        | Operation::Remove => format!("{operation} {component}"),
    };
    let correlator = fresh_correlator(random);
    let work = ComponentOperation {
        correlator: correlator.clone(),
        operation,
        id: component.as_str().to_owned(),
        state: OperationState::Waiting,
        result_code: None,
        reason: None,
        updated: now,
    };
    let mut checked = devices::show(store, id).await?.components;
    checked.queue(work.clone()).map_err(AppError::Conflict)?;
    devices::change(store, now, ("device.component", &text), id, |device| {
        // Checked above; a request in between was the same.
        device.components.queue(work.clone()).unwrap_or_else(|open| tracing::debug!("{open}"));
    })
    .await?;
    Ok(correlator)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        app::devices::tests::{SECRETS, enrolment},
        fleet::memory::MemoryStore,
    };

    #[tokio::test]
    async fn component_requests_wait_in_the_row_of_the_device() {
        let store = MemoryStore::default();
        devices::enrol(&store, Utc(5), enrolment("a"), SECRETS).await.unwrap();
        let id = "a".parse().unwrap();
        let asked = request_inventory(&store, Utc(6), &id).await.unwrap();
        assert!(asked.refresh_requested && asked.read.is_none());
        let player: PackageId = "player".parse().unwrap();
        let order = async |operation| {
            queue_operation(&store, Utc(7), &id, (operation, &player), &mut || [9; 16]).await
        };
        order(Operation::Activate).await.unwrap();
        let again = order(Operation::Activate).await.unwrap_err();
        assert_eq!(again.exit_code(), 7, "{again}");
        let wrong = order(Operation::DownloadInstall).await.unwrap_err();
        assert_eq!(wrong.exit_code(), 2);
        let stored = devices::show(&store, &id).await.unwrap().components;
        assert_eq!(stored.operations.len(), 1);
        assert_eq!(
            request_inventory(&store, Utc(8), &"x".parse().unwrap()).await.unwrap_err().exit_code(),
            6
        );
    }
}
