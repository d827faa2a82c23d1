//! The addresses that a device has proved itself from.

use std::time::Duration;

use proto::{peer::PeerNetwork, time::Utc};
use serde::{Deserialize, Serialize};

/// Networks stored for one device.
const MAX_NETWORKS: usize = 4;

/// Time for which a network stays familiar after a proof.
pub const FAMILIAR_FOR: Duration = Duration::from_secs(24 * 3600);

/// The networks from which a device has proved itself in the last day, the latest last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProvedFrom(Vec<ProvedAt>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ProvedAt {
    network: PeerNetwork,
    at: Utc,
}

impl ProvedAt {
    fn is_familiar(&self, now: Utc) -> bool {
        now.since(self.at) < FAMILIAR_FOR
    }
}

impl ProvedFrom {
    /// Records a proof.
    pub fn record(&mut self, network: PeerNetwork, now: Utc) {
        self.0.retain(|other| other.network != network && other.is_familiar(now));
        if self.0.len() >= MAX_NETWORKS {
            self.0.remove(0);
        }
        self.0.push(ProvedAt { network, at: now });
    }

    /// Returns whether the device has proved itself from there in the last day.
    // spec: security 7.2 (familiar addresses)
    #[must_use]
    pub fn has(&self, network: PeerNetwork, now: Utc) -> bool {
        self.0.iter().any(|proved| proved.network == network && proved.is_familiar(now))
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn network(last: u8) -> PeerNetwork {
        PeerNetwork::of(IpAddr::from([192, 0, 2, last]))
    }

    // test: security 7.2 (familiar addresses)
    #[test]
    fn an_address_is_familiar_for_a_day_after_a_proof() {
        let begin = Utc::from_seconds(1_000_000);
        let mut proved = ProvedFrom::default();
        assert!(!proved.has(network(1), begin));
        proved.record(network(1), begin);
        assert!(proved.has(network(1), begin + (FAMILIAR_FOR - Duration::from_millis(1))));
        assert!(!proved.has(network(1), begin + FAMILIAR_FOR));
        assert!(!proved.has(network(2), begin));
        assert!(proved.has(network(1), Utc(0)), "a clock that goes back takes nothing away");
        proved.record(network(1), begin + FAMILIAR_FOR / 2);
        assert!(proved.has(network(1), begin + FAMILIAR_FOR));
    }

    #[test]
    fn the_latest_addresses_are_stored() {
        let mut proved = ProvedFrom::default();
        for last in 0..=u8::try_from(MAX_NETWORKS).unwrap() {
            proved.record(network(last), Utc(1_000));
        }
        assert_eq!(proved.0.len(), MAX_NETWORKS);
        assert!(!proved.has(network(0), Utc(1_000)) && proved.has(network(1), Utc(1_000)));
        proved.record(network(9), Utc(1_000) + FAMILIAR_FOR);
        assert_eq!(proved.0.len(), 1, "what is over goes");
    }
}
