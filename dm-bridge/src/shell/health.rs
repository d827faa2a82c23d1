//! The health of a server: whether its store can be written, by the last probe.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use proto::time::Mono;

use crate::fleet::store::StoreError;

/// Time between two probes.
pub(super) const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// Age from which the last probe says nothing any more: the store does not answer.
const PROBE_LIFETIME: Duration = Duration::from_secs(20);

/// The outcome of the last probe.
#[derive(Debug, Default)]
pub struct Health(Mutex<Option<Probe>>);

#[derive(Debug, Clone, Copy)]
struct Probe {
    at: Mono,
    is_writable: bool,
}

impl Health {
    /// Returns whether the store could be written when it was probed, and was probed lately.
    #[must_use]
    pub fn is_good(&self, now: Mono) -> bool {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|last| last.is_writable && now.since(last.at) < PROBE_LIFETIME)
    }

    /// Stores the outcome of a probe, and logs where it differs from the one before.
    pub fn record(&self, now: Mono, probed: &Result<(), StoreError>) {
        let probe = Probe { at: now, is_writable: probed.is_ok() };
        let before = self.0.lock().unwrap_or_else(PoisonError::into_inner).replace(probe);
        let was_writable = before.is_none_or(|before| before.is_writable);
        match probed {
            Ok(()) if !was_writable => tracing::info!("the store can be written again"),
            Err(error) if was_writable => {
                tracing::error!(error = error as &dyn std::error::Error, "the store fails");
            }
            Ok(()) | Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_is_that_of_the_last_probe_and_of_none_that_is_old() {
        let start = Mono(0);
        let later = |seconds| start + Duration::from_secs(seconds);
        let health = Health::default();
        assert!(!health.is_good(start), "it is not known yet");
        health.record(start, &Ok(()));
        assert!(health.is_good(later(19)) && !health.is_good(later(20)));
        let failed = || {
            let source = Box::new(std::io::Error::other("no space left"));
            Err(StoreError::Unavailable { doing: "be written", source })
        };
        health.record(later(5), &failed());
        assert!(!health.is_good(later(5)));
        health.record(later(10), &Ok(()));
        assert!(health.is_good(later(10)) && !health.is_good(later(30)));
    }
}
