//! The network between image servers and one device.

use super::fault::{At, Fault, FaultKind};
use crate::lab::rng::SeededRng;

/// A link, with its own chances.
#[derive(Debug)]
pub struct Link {
    rng: SeededRng,
    faults: Vec<Fault>,
    /// For each burst fault, whether the link is in its bad state.
    bad: Vec<bool>,
}

/// A datagram that comes through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// Delay.
    ///
    /// # Units
    ///
    /// Milliseconds.
    pub after: u64,
    /// Octets that arrive.
    pub octets: Vec<u8>,
}

impl Link {
    /// Makes the link of a device; only faults of the network matter to it.
    pub fn new(seed: u64, device: usize, faults: &[Fault]) -> Self {
        let ours = faults.iter().filter(|fault| {
            fault.whose == device
                && matches!(
                    fault.kind,
                    FaultKind::Loss { .. }
                        | FaultKind::Bursts { .. }
                        | FaultKind::Reorder { .. }
                        | FaultKind::Duplicate { .. }
                        | FaultKind::Corrupt { .. }
                        | FaultKind::Cut
                )
        });
        let faults: Vec<_> = ours.copied().collect();
        let rng = SeededRng::new(seed, &format!("link {device}"));
        Self { rng, bad: vec![false; faults.len()], faults }
    }

    /// Sends a datagram; it arrives once, twice or never.
    pub fn send(&mut self, at: At, datagram: &[u8]) -> Vec<Arrival> {
        let mut copies = 1;
        let mut after = 1 + self.rng.below(3);
        let mut octets = datagram.to_vec();
        for (fault, bad) in self.faults.iter().zip(&mut self.bad) {
            if !fault.span.holds(at) {
                continue;
            }
            let draw = self.rng.below(1000);
            #[expect(clippy::wildcard_enum_match_arm, reason = "the others are left out above")]
            match fault.kind {
                FaultKind::Loss { per_mille } if draw < per_mille => return Vec::new(),
                FaultKind::Bursts { enter, leave } => {
                    *bad = if *bad { draw >= leave } else { draw < enter };
                    if *bad {
                        return Vec::new();
                    }
                }
                FaultKind::Reorder { per_mille } if draw < per_mille => {
                    after += self.rng.below(400);
                }
                FaultKind::Duplicate { per_mille } if draw < per_mille => copies += 1,
                FaultKind::Corrupt { per_mille } if draw < per_mille => {
                    corrupt(&mut self.rng, &mut octets)
                }
                FaultKind::Cut => return Vec::new(),
                _ => {}
            }
        }
        (0..copies)
            .map(|copy| Arrival { after: after + copy * 7, octets: octets.clone() })
            .collect()
    }
}

/// Flips bits, or cuts the end off, or adds to it.
fn corrupt(rng: &mut SeededRng, octets: &mut Vec<u8>) {
    match rng.below(8) {
        0 => {
            let length = rng.below(octets.len() as u64);
            octets.truncate(usize::try_from(length).unwrap_or_default());
        }
        1 => octets.extend([0; 5]),
        _ => {
            for _ in 0..=rng.below(3) {
                let at = usize::try_from(rng.below(octets.len() as u64)).unwrap_or_default();
                let bit = rng.below(8);
                if let Some(octet) = octets.get_mut(at) {
                    *octet ^= 1 << bit;
                }
            }
        }
    }
}
