//! Software components of devices: ask what they hold, and have something done with it.

use proto::{
    dm::scomo::Operation,
    ids::{Correlator, DeviceId, PackageId},
    time::Utc,
};

use super::{AppError, devices};
use crate::{
    fleet::{
        components::{ComponentWork, Components, WorkPhase},
        store::FleetStore,
    },
    random::{RandomBytes, fresh_correlator},
};

/// Has the next DM session of a device read what it holds; returns what was read last.
///
/// # Errors
///
/// [`AppError::NotFound`] when it is not enrolled.
pub async fn ask(store: &dyn FleetStore, now: Utc, id: &DeviceId) -> Result<Components, AppError> {
    let device = devices::show(store, id).await?;
    if !device.components.wanted {
        devices::change(store, now, ("device.components", "to be read"), id, |device| {
            device.components.wanted = true;
        })
        .await?;
    }
    Ok(devices::show(store, id).await?.components)
}

/// Queues an operation for the next DM session of a device; returns its correlator.
///
/// # Errors
///
/// [`AppError::NotFound`] when the device is not enrolled, [`AppError::Conflict`] when the
/// operation is open already, [`AppError::Usage`] for one that takes a campaign.
pub async fn order(
    store: &dyn FleetStore,
    now: Utc,
    id: &DeviceId,
    (operation, component): (Operation, &PackageId),
    chance: RandomBytes<'_>,
) -> Result<Correlator, AppError> {
    let text = match operation {
        Operation::Download | Operation::DownloadInstall | Operation::DownloadInstallInactive => {
            return Err(AppError::Usage(format!("{operation} takes a package: make a campaign")));
        }
        Operation::Install
        | Operation::InstallInactive
        | Operation::RemovePackage
        | Operation::Activate
        | Operation::Deactivate
        | Operation::Remove => format!("{operation} {component}"),
    };
    let correlator = fresh_correlator(chance);
    let work = ComponentWork {
        correlator: correlator.clone(),
        operation,
        id: component.as_str().to_owned(),
        phase: WorkPhase::Waiting,
        result_code: None,
        reason: None,
        updated: now,
    };
    let mut checked = devices::show(store, id).await?.components;
    checked.queue(work.clone()).map_err(AppError::Conflict)?;
    devices::change(store, now, ("device.component", &text), id, |device| {
        // Checked above; what came in between has asked for the same.
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
    async fn what_the_desk_wants_of_components_waits_in_the_row_of_the_device() {
        let store = MemoryStore::default();
        devices::enrol(&store, Utc(5), enrolment("a"), SECRETS).await.unwrap();
        let id = "a".parse().unwrap();
        let asked = ask(&store, Utc(6), &id).await.unwrap();
        assert!(asked.wanted && asked.read.is_none());
        let player: PackageId = "player".parse().unwrap();
        let order = async |operation| {
            order(&store, Utc(7), &id, (operation, &player), &mut || [9; 16]).await
        };
        order(Operation::Activate).await.unwrap();
        let again = order(Operation::Activate).await.unwrap_err();
        assert_eq!(again.exit_code(), 7, "{again}");
        let wrong = order(Operation::DownloadInstall).await.unwrap_err();
        assert_eq!(wrong.exit_code(), 2);
        let kept = devices::show(&store, &id).await.unwrap().components;
        assert_eq!(kept.works.len(), 1);
        assert_eq!(ask(&store, Utc(8), &"x".parse().unwrap()).await.unwrap_err().exit_code(), 6);
    }
}
