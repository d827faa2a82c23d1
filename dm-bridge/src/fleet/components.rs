//! What is known of the software components of a device, and what is to be done with them.

use proto::{
    dm::scomo::{Branch, ComponentState, Operation, OperationResult},
    ids::Correlator,
    time::Utc,
};
use serde::{Deserialize, Serialize};

/// Packages and components that are taken over from one device.
pub const MAX_HELD: usize = 64;

/// Operations that are kept of one device; settled ones go first.
pub const MAX_WORKS: usize = 32;

/// The components of a device as it showed them, and the operations on them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Components {
    /// Whether its next DM session reads what it holds.
    pub wanted: bool,
    /// When that was read last.
    pub read: Option<Utc>,
    /// Why it could not be read the last time.
    pub refused: Option<String>,
    /// What it held then.
    pub held: Vec<Held>,
    /// Operations, the oldest first.
    pub works: Vec<ComponentWork>,
}

/// A package that a device holds, or a component that is installed on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Where it stands in the inventory.
    pub branch: Branch,
    /// The name of its node.
    pub node: String,
    /// The package, or the component.
    pub id: String,
    /// The package that a component came with.
    pub package: Option<String>,
    /// A name for people.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// Delivered, inactive or active.
    pub state: Option<ComponentState>,
}

/// Where an operation on a component stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkPhase {
    /// Waits for the device's next session.
    Waiting,
    /// The device has accepted it.
    Accepted,
    /// The device has done it.
    Done,
    /// The device has refused it or failed.
    Failed,
}

impl WorkPhase {
    /// Returns the word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Accepted => "accepted",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }

    const fn is_open(self) -> bool {
        matches!(self, Self::Waiting | Self::Accepted)
    }
}

/// One operation on one component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentWork {
    /// Ties its result to it; no two operations share one.
    pub correlator: Correlator,
    /// What is to be done.
    pub operation: Operation,
    /// With what: a package or a component.
    pub id: String,
    /// Where it stands.
    pub phase: WorkPhase,
    /// Result code of the device's final alert. It is set once.
    pub result_code: Option<u16>,
    /// Why it stands there, in words.
    pub reason: Option<String>,
    /// When it last changed.
    pub updated: Utc,
}

impl Components {
    /// Returns the name of the node that an operation on `id` is about: where the inventory was
    /// never read, most devices name a node after what it holds.
    #[must_use]
    pub fn node_of(&self, branch: Branch, id: &str) -> String {
        let found = self.held.iter().find(|held| held.branch == branch && held.id == id);
        found.map_or(id, |held| &held.node).to_owned()
    }

    /// Tells whether the device shows what an operation on a package leaves behind.
    #[must_use]
    pub fn shows(&self, operation: Operation, package: &str) -> bool {
        let after = ComponentState::after(operation);
        let branch = match after {
            Some(ComponentState::Delivered) => Branch::Delivered,
            Some(ComponentState::Inactive | ComponentState::Active) | None => Branch::Deployed,
        };
        self.held.iter().any(|held| {
            let is_it = held.id == package || held.package.as_deref() == Some(package);
            is_it && held.branch == branch && (held.state.is_none() || held.state == after)
        })
    }

    /// Queues an operation.
    ///
    /// # Errors
    ///
    /// The operation that is queued already, or what is too much.
    pub fn queue(&mut self, work: ComponentWork) -> Result<(), String> {
        let same = |it: &&ComponentWork| {
            it.phase.is_open() && it.operation == work.operation && it.id == work.id
        };
        if let Some(found) = self.works.iter().find(same) {
            let (operation, id, phase) = (found.operation, &found.id, found.phase.word());
            return Err(format!("{operation} of {id} is {phase} already"));
        }
        if self.works.len() >= MAX_WORKS {
            let settled = self.works.iter().position(|work| !work.phase.is_open());
            let Some(settled) = settled else {
                return Err(format!(
                    "{MAX_WORKS} operations are open: the device has to come first"
                ));
            };
            self.works.remove(settled);
        }
        self.works.push(work);
        Ok(())
    }

    /// Takes a final alert; `None` when it names no operation here, whether it is the first result
    /// of its operation otherwise.
    // spec: oma-dm 15.5 (a result of a component is counted once)
    pub fn accept(&mut self, result: &OperationResult, now: Utc) -> Option<bool> {
        let correlator = result.correlator.as_ref()?;
        let work = self.works.iter_mut().find(|work| work.correlator == *correlator)?;
        if work.result_code.is_some() {
            return Some(false);
        }
        let success = result.result.is_success();
        work.phase = if success { WorkPhase::Done } else { WorkPhase::Failed };
        work.result_code = Some(result.result.0);
        work.reason = Some(result.result.text().to_owned());
        work.updated = now;
        // What it left behind is read, not believed.
        self.wanted = true;
        Some(true)
    }
}

#[cfg(test)]
mod tests {
    use proto::dm::scomo::ResultCode;

    use super::*;

    fn work(correlator: &str, id: &str) -> ComponentWork {
        ComponentWork {
            correlator: Correlator(correlator.to_owned()),
            operation: Operation::Activate,
            id: id.to_owned(),
            phase: WorkPhase::Waiting,
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
        components.queue(work("one", "a")).unwrap();
        components.queue(work("two", "b")).unwrap();
        assert_eq!(components.accept(&result(1200, None), Utc(2)), None);
        assert_eq!(components.accept(&result(1200, Some("other")), Utc(2)), None);
        assert_eq!(components.accept(&result(1409, Some("two")), Utc(2)), Some(true));
        assert_eq!(components.accept(&result(1200, Some("two")), Utc(3)), Some(false));
        let phases: Vec<_> = components.works.iter().map(|it| (it.phase, it.result_code)).collect();
        assert_eq!(phases, [(WorkPhase::Waiting, None), (WorkPhase::Failed, Some(1409))]);
        assert!(components.wanted);
    }

    #[test]
    fn an_operation_is_queued_once_and_settled_ones_make_room() {
        let mut components = Components::default();
        for number in 0..MAX_WORKS {
            components.queue(work(&number.to_string(), &number.to_string())).unwrap();
        }
        let again = components.queue(work("x", "3")).unwrap_err();
        assert_eq!(again, "component-activate of 3 is waiting already");
        assert!(components.queue(work("x", "new")).is_err());
        components.accept(&result(1200, Some("5")), Utc(2));
        components.queue(work("x", "new")).unwrap();
        assert_eq!(components.works.len(), MAX_WORKS);
        assert!(!components.works.iter().any(|work| work.id == "5"));
    }
}
