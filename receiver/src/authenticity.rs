//! What makes a packet authentic: the hash plan that the campaign pins.

use proto::{
    crypto::Hash16,
    ids::{Esi, Sbn},
    trust::plan::{PlanHeader, TableProof},
};

/// Decides whether symbols are those of the plan.
///
/// A seam for tests alone: they show what a flood does to a receiver that accepts everything.
pub trait Authenticity {
    /// Returns whether a table symbol leads to the cap of the pinned plan header.
    fn admits_table(
        &self,
        header: &PlanHeader,
        proof: &TableProof<'_>,
        segment: Sbn,
        esi: Esi,
        symbol: &[u8],
    ) -> bool;

    /// Returns whether a symbol that hashes to `actual` is the one of the plan.
    fn admits_data(&self, expected: &Hash16, actual: &Hash16) -> bool;
}

/// The hash plan: the only authenticity that the agent knows.
#[derive(Debug, Clone, Copy, Default)]
pub struct HashPlan;

impl Authenticity for HashPlan {
    fn admits_table(
        &self,
        header: &PlanHeader,
        proof: &TableProof<'_>,
        segment: Sbn,
        esi: Esi,
        symbol: &[u8],
    ) -> bool {
        proof.depth() == usize::from(header.shape().proof_depth())
            && proof.leads_to(header.cap(), header.object_key(), segment, esi, symbol)
    }

    fn admits_data(&self, expected: &Hash16, actual: &Hash16) -> bool {
        expected == actual
    }
}
