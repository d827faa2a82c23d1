//! Worlds that are known to fail, of `tests/sim/known_failures.toml`.
//!
//! Until its bug is fixed each fails in the same way: the order of random draws is fixed. One that
//! ends otherwise shows a change of behaviour.

use serde::{Deserialize, Serialize};

use super::{
    scenario::Scenario,
    simulation::{self, Outcome},
    trace::Recording,
};

/// A world that fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownFailure {
    /// Its seed.
    pub seed: u64,
    /// Events until it fails.
    pub events: u64,
    /// Invariants that do not hold.
    pub breaches: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    world: Vec<KnownFailure>,
}

impl KnownFailure {
    /// Reads the list.
    ///
    /// # Errors
    ///
    /// When it is no list of worlds.
    pub fn all() -> Result<Vec<Self>, toml::de::Error> {
        Ok(toml::from_str::<List>(include_str!("../../sim/known_failures.toml"))?.world)
    }

    /// Runs the world again; returns its outcome when it does not fail as before.
    #[must_use]
    pub fn difference(&self) -> Option<Outcome> {
        let outcome = simulation::run(Scenario::draw(self.seed), Recording::Digest, None);
        let same = outcome.events == self.events && outcome.breaches == self.breaches;
        (!same).then_some(outcome)
    }
}
