//! The software components of a device: its inventory as last read, and queued operations.

use proto::{
    dm::scomo::{Branch, ComponentState, Operation, OperationResult},
    ids::Correlator,
    time::Utc,
};
use serde::{Deserialize, Serialize};

/// Inventory entries stored for one device, at most.
pub const MAX_INVENTORY: usize = 64;

/// Operations stored for one device, at most; closed ones are removed first.
pub const MAX_OPERATIONS: usize = 32;

/// The inventory of a device and the operations on it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Components {
    /// Set when its next DM session reads the inventory.
    pub refresh_requested: bool,
    /// Time of the last reading.
    pub read: Option<Utc>,
    /// Reason for which the last reading failed.
    pub refused: Option<String>,
    /// Entries of the last reading.
    pub inventory: Vec<InventoryEntry>,
    /// Operations, the oldest first.
    pub operations: Vec<ComponentOperation>,
}

/// A package that was delivered to a device, or a component that is installed on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InventoryEntry {
    /// Branch of the inventory.
    pub branch: Branch,
    /// The name of its node.
    pub node: String,
    /// The package, or the component.
    pub id: String,
    /// Package that the component was installed from.
    pub package: Option<String>,
    /// A name for people.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// State of the package or component.
    pub state: Option<ComponentState>,
}

proto::words! {
    /// The state of an operation on a component.
    #[derive(Serialize, Deserialize)]
    pub enum OperationState, serde {
        /// Waits for the device's next DM session.
        Waiting = "waiting",
        /// Accepted by the device.
        Accepted = "accepted",
        /// Reported as successful.
        Done = "done",
        /// Rejected by the device, or reported as failed.
        Failed = "failed",
    }
}

impl OperationState {
    const fn is_open(self) -> bool {
        matches!(self, Self::Waiting | Self::Accepted)
    }
}

/// One operation on one component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentOperation {
    /// Correlates the result; no two operations share one.
    pub correlator: Correlator,
    /// Operation of the SCOMO object.
    pub operation: Operation,
    /// Package or component that it applies to.
    pub id: String,
    /// State of the operation.
    pub state: OperationState,
    /// Result code of the device's final alert. It is set once.
    pub result_code: Option<u16>,
    /// Reason for the state, as text.
    pub reason: Option<String>,
    /// Time of the last change.
    pub updated: Utc,
}

impl Components {
    /// Returns the node that an operation on `id` addresses. Without an inventory it is `id`: most
    /// devices name a node after its package or component.
    #[must_use]
    pub fn node_of(&self, branch: Branch, id: &str) -> String {
        let found = self.inventory.iter().find(|entry| entry.branch == branch && entry.id == id);
        found.map_or(id, |entry| &entry.node).to_owned()
    }

    /// Returns whether the inventory shows the result of an operation on a package.
    #[must_use]
    pub fn shows(&self, operation: Operation, package: &str) -> bool {
        let after = ComponentState::after(operation);
        let branch = match after {
            Some(ComponentState::Delivered) => Branch::Delivered,
            Some(ComponentState::Inactive | ComponentState::Active) | None => Branch::Deployed,
        };
        self.inventory.iter().any(|entry| {
            let is_it = entry.id == package || entry.package.as_deref() == Some(package);
            is_it && entry.branch == branch && (entry.state.is_none() || entry.state == after)
        })
    }

    /// Queues an operation.
    ///
    /// # Errors
    ///
    /// A text that names the operation queued already, or the limit.
    pub fn queue(&mut self, operation: ComponentOperation) -> Result<(), String> {
        let same = |it: &&ComponentOperation| {
            it.state.is_open() && it.operation == operation.operation && it.id == operation.id
        };
        if let Some(found) = self.operations.iter().find(same) {
            let (operation, id, state) = (found.operation, &found.id, found.state);
            return Err(format!("{operation} of {id} is {state} already"));
        }
        if self.operations.len() >= MAX_OPERATIONS {
            let closed = self.operations.iter().position(|operation| !operation.state.is_open());
            let Some(closed) = closed else {
                return Err(format!(
                    "{MAX_OPERATIONS} operations are open: retry after the device's next DM session"
                ));
            };
            self.operations.remove(closed);
        }
        self.operations.push(operation);
        Ok(())
    }

    /// Records a final alert. Returns `None` when it matches no operation, else whether it is the
    /// first result of its operation.
    // spec: oma-dm 15.5 (a result of a component is counted once)
    pub fn record_result(&mut self, result: &OperationResult, now: Utc) -> Option<bool> {
        let correlator = result.correlator.as_ref()?;
        let operation = self.operations.iter_mut().find(|it| it.correlator == *correlator)?;
        if operation.result_code.is_some() {
            return Some(false);
        }
        let success = result.result.is_success();
        operation.state = if success { OperationState::Done } else { OperationState::Failed };
        operation.result_code = Some(result.result.0);
        operation.reason = Some(result.result.text().to_owned());
        operation.updated = now;
        // A result is confirmed by reading the inventory.
        self.refresh_requested = true;
        Some(true)
    }
}

#[cfg(test)]
mod tests {
    use proto::dm::scomo::ResultCode;

    use super::*;

    fn operation(correlator: &str, id: &str) -> ComponentOperation {
        ComponentOperation {
            correlator: Correlator(correlator.to_owned()),
            operation: Operation::Activate,
            id: id.to_owned(),
            state: OperationState::Waiting,
            result_code: None,
            reason: None,
            updated: Utc(1),
        }
    }

    fn result(code: u16, correlator: Option<&str>) -> OperationResult {
        OperationResult {
            source: None,
            target: None,
            result: ResultCode(code),
            identifier: None,
            correlator: correlator.map(|text| Correlator(text.to_owned())),
        }
    }

    // test: oma-dm 15.5 (a result of a component is counted once)
    #[test]
    fn a_result_counts_once_for_the_operation_that_it_names() {
        let mut components = Components::default();
        components.queue(operation("one", "a")).unwrap();
        components.queue(operation("two", "b")).unwrap();
        assert_eq!(components.record_result(&result(1200, None), Utc(2)), None);
        assert_eq!(components.record_result(&result(1200, Some("other")), Utc(2)), None);
        assert_eq!(components.record_result(&result(1409, Some("two")), Utc(2)), Some(true));
        assert_eq!(components.record_result(&result(1200, Some("two")), Utc(3)), Some(false));
        let states: Vec<_> =
            components.operations.iter().map(|it| (it.state, it.result_code)).collect();
        assert_eq!(states, [(OperationState::Waiting, None), (OperationState::Failed, Some(1409))]);
        assert!(components.refresh_requested);
    }

    #[test]
    fn an_operation_is_queued_once_and_closed_ones_make_room() {
        let mut components = Components::default();
        for number in 0..MAX_OPERATIONS {
            components.queue(operation(&number.to_string(), &number.to_string())).unwrap();
        }
        let again = components.queue(operation("x", "3")).unwrap_err();
        assert_eq!(again, "component-activate of 3 is waiting already");
        assert!(components.queue(operation("x", "new")).is_err());
        components.record_result(&result(1200, Some("5")), Utc(2));
        components.queue(operation("x", "new")).unwrap();
        assert_eq!(components.operations.len(), MAX_OPERATIONS);
        assert!(!components.operations.iter().any(|it| it.id == "5"));
    }
}
