//! Policy settings of devices.

use std::collections::BTreeMap;

use proto::{dm::policy::PolicyNode, ids::DeviceId, time::Utc};

use super::{AppError, devices};
use crate::fleet::{policy::NodeValue, store::FleetStore};

/// A setting for each node; `None` cancels a pending one.
pub type PolicyChanges = BTreeMap<PolicyNode, Option<NodeValue>>;

/// Collects the settings of an operator, each node once.
///
/// # Errors
///
/// [`AppError::Usage`] when there is nothing, or a node twice.
pub fn collect_changes(settings: Vec<NodeValue>) -> Result<PolicyChanges, AppError> {
    let mut changes = PolicyChanges::new();
    for setting in settings {
        let node = setting.node();
        if changes.insert(node, Some(setting)).is_some() {
            return Err(AppError::Usage(format!("{node} has two values")));
        }
    }
    Ok(changes)
}

/// Queues policy settings for the next DM session of a device.
///
/// # Errors
///
/// [`AppError::Usage`] when there is no setting, [`AppError::NotFound`] when it is not enrolled.
pub async fn set(
    store: &dyn FleetStore,
    now: Utc,
    id: &DeviceId,
    changes: &PolicyChanges,
) -> Result<(), AppError> {
    if changes.is_empty() {
        return Err(AppError::Usage("no policy setting given".to_owned()));
    }
    let word = |(node, setting): (&PolicyNode, &Option<NodeValue>)| match setting {
        Some(setting) => setting.to_string(),
        None => format!("{node} cancelled"),
    };
    let words = changes.iter().map(word).collect::<Vec<_>>().join(" ");
    devices::change(store, now, ("device.policy", &words), id, |device| {
        for (node, setting) in changes {
            match setting {
                Some(setting) => device.policy.set(setting.clone(), now),
                None => device.policy.cancel(*node),
            }
        }
    })
    .await
    .map(drop)
}
