//! What the desk sets of a device's policy.

use std::collections::BTreeMap;

use proto::{dm::policy::PolicyNode, ids::DeviceId, time::Utc};

use super::{AppError, devices};
use crate::fleet::{policy::Setting, store::FleetStore};

/// What the desk decides about each node; `None` takes back what was not answered.
pub type Decisions = BTreeMap<PolicyNode, Option<Setting>>;

/// Reads what an operator wrote, each node once.
///
/// # Errors
///
/// [`AppError::Usage`] when there is nothing, or a node twice.
pub fn decisions(settings: Vec<Setting>) -> Result<Decisions, AppError> {
    let mut decisions = Decisions::new();
    for setting in settings {
        let node = setting.node();
        if decisions.insert(node, Some(setting)).is_some() {
            return Err(AppError::Usage(format!("{node} has two values")));
        }
    }
    Ok(decisions)
}

/// Has the next DM session of a device set nodes of its policy.
///
/// # Errors
///
/// [`AppError::Usage`] when nothing is decided, [`AppError::NotFound`] when it is not enrolled.
pub async fn set(
    store: &dyn FleetStore,
    now: Utc,
    id: &DeviceId,
    decisions: &Decisions,
) -> Result<(), AppError> {
    if decisions.is_empty() {
        return Err(AppError::Usage("no node of the policy is named".to_owned()));
    }
    let word = |(node, setting): (&PolicyNode, &Option<Setting>)| match setting {
        Some(setting) => setting.to_string(),
        None => format!("{node} taken back"),
    };
    let words = decisions.iter().map(word).collect::<Vec<_>>().join(" ");
    devices::change(store, now, ("device.policy", &words), id, |device| {
        for (node, setting) in decisions {
            match setting {
                Some(setting) => device.policy.order(setting.clone(), now),
                None => device.policy.take_back(*node),
            }
        }
    })
    .await
}
