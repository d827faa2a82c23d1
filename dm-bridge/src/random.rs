//! Random octets, and the identifiers made of them.

use proto::ids::Correlator;

/// Source of random octets; each call returns 16 that were never used before.
pub type RandomBytes<'a> = &'a mut (dyn FnMut() -> [u8; 16] + Send);

/// Returns a correlator that no attempt has.
pub fn fresh_correlator(random: RandomBytes<'_>) -> Correlator {
    Correlator(format!("{:032x}", u128::from_be_bytes(random())))
}
