//! The stored state around one DM message: read before it is judged, written before it is
//! answered.

use proto::{ids::DeviceId, time::Utc};

use crate::{
    engine::{Desk, latest},
    fleet::{
        arming::{Arming, ArmingPhase},
        audit::{Actor, Audit},
        store::{FleetStore, StoreError},
    },
};

/// Reads what concerns a device; `None` when it is not enrolled.
///
/// # Errors
///
/// [`StoreError`] when it cannot be read.
pub async fn read(store: &dyn FleetStore, id: &DeviceId) -> Result<Option<Desk>, StoreError> {
    let Some(device) = store.device(id).await? else { return Ok(None) };
    let armings = store.device_armings(id).await?;
    let mut campaigns = Vec::new();
    for row in latest(&armings).filter(|row| is_unsettled(row)) {
        campaigns.extend(store.campaign(row.campaign).await?);
    }
    Ok(Some(Desk { device, armings, campaigns, notes: Vec::new() }))
}

fn is_unsettled(row: &Arming) -> bool {
    row.phase.is_open()
        || matches!(row.phase, ArmingPhase::Reported | ArmingPhase::Deferred | ArmingPhase::Unknown)
}

/// Writes what differs from `before`, with one audit line.
///
/// # Errors
///
/// [`StoreError::Conflict`] when a row was changed meanwhile: read and judge again.
pub async fn write(
    store: &dyn FleetStore,
    now: Utc,
    before: &Desk,
    after: &Desk,
) -> Result<(), StoreError> {
    let changes = after.changes_since(before);
    if changes.is_empty() && after.notes.is_empty() {
        return Ok(());
    }
    let audit = Audit {
        actor: Actor::Device,
        action: "device.session",
        subject: after.device.id.as_str().to_owned(),
        detail: after.notes.join("; "),
    };
    store.apply(now, audit, changes).await
}
