//! The health of a server: whether its store can be written, by the last probe, and which campaigns
//! are damaged.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use proto::time::Mono;

use crate::{app::campaign_transitions::DamagedCampaigns, fleet::store::StoreError};

/// Time between two probes.
pub(super) const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// Age from which the last probe says nothing any more: the store does not answer.
const PROBE_LIFETIME: Duration = Duration::from_secs(20);

/// The outcome of the last probe, and the damaged campaigns.
#[derive(Debug, Default)]
pub struct Health {
    probe: Mutex<Option<Probe>>,
    damaged: Mutex<DamagedCampaigns>,
}

#[derive(Debug, Clone, Copy)]
struct Probe {
    at: Mono,
    is_writable: bool,
}

impl Health {
    /// Returns whether the store could be written when it was probed, and was probed lately.
    #[must_use]
    pub fn is_good(&self, now: Mono) -> bool {
        let last = *self.probe.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|last| last.is_writable && now.since(last.at) < PROBE_LIFETIME)
    }

    /// Stores the outcome of a probe, and logs where it differs from the one before.
    pub fn record(&self, now: Mono, probed: &Result<(), StoreError>) {
        let probe = Probe { at: now, is_writable: probed.is_ok() };
        let before = self.probe.lock().unwrap_or_else(PoisonError::into_inner).replace(probe);
        let was_writable = before.is_none_or(|before| before.is_writable);
        match probed {
            Ok(()) if !was_writable => tracing::info!("the store can be written again"),
            Err(error) if was_writable => {
                tracing::error!(error = error as &dyn std::error::Error, "the store fails");
            }
            Ok(()) | Err(_) => {}
        }
    }

    /// Stores the campaigns that are damaged, and logs each once.
    pub fn record_damage(&self, damaged: DamagedCampaigns) {
        let mut before = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        for (campaign, error) in damaged.iter().filter(|(id, _)| !before.contains_key(id)) {
            tracing::warn!(%campaign, error, "damaged: nothing of it goes on until its row is restored");
        }
        for campaign in before.keys().filter(|id| !damaged.contains_key(id)) {
            tracing::info!(%campaign, "no more damaged");
        }
        *before = damaged;
    }

    /// Returns the number of damaged campaigns.
    #[must_use]
    pub fn damaged_campaigns(&self) -> usize {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use proto::ids::CampaignId;
    use tracing::span;

    use super::*;

    /// Counts the warnings of this thread.
    #[derive(Default)]
    struct Warnings(AtomicU32);

    impl tracing::Subscriber for Warnings {
        fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
            *metadata.level() == tracing::Level::WARN
        }
        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }
        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
        fn event(&self, _: &tracing::Event<'_>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        fn enter(&self, _: &span::Id) {}
        fn exit(&self, _: &span::Id) {}
    }

    #[test]
    fn a_damaged_campaign_is_logged_once_until_it_is_whole_again() {
        let (health, warnings) = (Health::default(), Arc::new(Warnings::default()));
        let damaged = |octets: &[u8]| -> DamagedCampaigns {
            octets.iter().map(|it| (CampaignId([*it; 16]), "damaged state".to_owned())).collect()
        };
        let _guard = tracing::subscriber::set_default(Arc::clone(&warnings));
        for (octets, logged) in
            [(&[1][..], 1), (&[1], 1), (&[1, 2], 2), (&[2], 2), (&[], 2), (&[1], 3)]
        {
            health.record_damage(damaged(octets));
            assert_eq!(health.damaged_campaigns(), octets.len());
            assert_eq!(warnings.0.load(Ordering::Relaxed), logged, "{octets:?}");
        }
    }

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
