//! The authentication of packets: the hash plan that the campaign signs.

use proto::{
    crypto::Hash16,
    ids::{Esi, Sbn},
    trust::plan::{PlanHeader, TableProof},
};

/// The authentication scheme of symbols.
///
/// A seam for tests alone: they measure a flood against a receiver that accepts everything.
pub trait PacketAuth {
    /// Returns whether the proof of a table symbol leads to the cap of the plan header.
    fn verify_table(
        &self,
        header: &PlanHeader,
        proof: &TableProof<'_>,
        segment: Sbn,
        esi: Esi,
        symbol: &[u8],
    ) -> bool;

    /// Returns whether a symbol with the hash `actual` is the one of the plan.
    fn verify_data(&self, expected: &Hash16, actual: &Hash16) -> bool;
}

/// The hash plan, the only scheme of the agent.
#[derive(Debug, Clone, Copy, Default)]
pub struct HashPlan;

impl PacketAuth for HashPlan {
    fn verify_table(
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

    fn verify_data(&self, expected: &Hash16, actual: &Hash16) -> bool {
        expected == actual
    }
}
