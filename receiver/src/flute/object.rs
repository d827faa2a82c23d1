//! The reception of one object: packets in, verified symbols to the log, blocks to the decoder.
//!
//! ```text
//! plan header -> tables -> data symbols -> log -> blocks -> image
//! ```
//!
//! Nothing passes an arrow before it is verified against what stands left of it.

use proto::{
    crypto::Hash16,
    fec::oti::Oti,
    flute::{
        alc::{Packet, Payload},
        ext,
    },
    ids::{Esi, Sbn, Toi},
    time::Mono,
    trust::{
        PlannedObject,
        plan::{self, PlanHeader, PlanShape, TableProof},
    },
};

use crate::{
    flute::{
        blocks::Blocks,
        leaf_tables::{LeafTables, TableInsert, kept_segments},
        stats::Stats,
        unverified::{Buffered, MAX_UNVERIFIED_BYTES, UnverifiedSymbols},
    },
    store::{InsertOutcome, SymbolLog, TableLog},
};

/// One object while it is received.
#[derive(Debug)]
pub struct Object<A = HashPlan> {
    planned: PlannedObject,
    tois: ObjectTois,
    blocks: Blocks,
    plan: Option<Plan>,
    packet_auth: A,
}

/// The TOIs of the packets of an object.
#[derive(Debug, Clone, Copy)]
struct ObjectTois {
    data: Toi,
    tables: Toi,
    header: Toi,
}

#[derive(Debug)]
struct Plan {
    header: PlanHeader,
    shape: PlanShape,
    tables: LeafTables,
    pending: UnverifiedSymbols,
    kept: TableLog,
}

/// The content of a packet of the object, by its TOI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PacketKind {
    /// A symbol of the image.
    Data,
    /// A symbol of the tables.
    Table,
    /// The plan header.
    Header,
}

impl Object {
    /// Resumes with the symbols of `log`.
    #[must_use]
    pub fn new(planned: PlannedObject, log: SymbolLog) -> Self {
        Self::with_packet_auth(planned, log, HashPlan)
    }
}

impl<A: PacketAuth> Object<A> {
    /// Resumes with the symbols of `log` and another authentication scheme. For tests.
    #[must_use]
    pub fn with_packet_auth(planned: PlannedObject, log: SymbolLog, packet_auth: A) -> Self {
        let component = planned.component;
        let tois = ObjectTois {
            data: Toi::object(component),
            tables: Toi::tables(component),
            header: Toi::plan_header(component),
        };
        Self { planned, tois, blocks: Blocks::new(log), plan: None, packet_auth }
    }

    /// Receives the plan header if it is the signed one; returns whether it was new.
    pub fn receive_header(&mut self, octets: &[u8], stats: &mut Stats) -> bool {
        if self.plan.is_some() {
            return false;
        }
        match PlanHeader::parse(octets, &self.planned) {
            Ok(header) => {
                self.log_mut().store_tables(0, TableLog::header(octets));
                self.set_plan(header);
                true
            }
            Err(_) => {
                stats.header_forged += 1;
                false
            }
        }
    }

    /// Restores the plan header and the table symbols that an earlier run has stored.
    pub fn recover_tables(&mut self, file: &[u8]) {
        if self.plan.is_none()
            && let Some(octets) = TableLog::header_in(file)
            && let Ok(header) = PlanHeader::parse(octets, &self.planned)
        {
            self.set_plan(header);
        }
        let Some(plan) = &mut self.plan else { return };
        for kept in plan.kept.recover(file) {
            if plan.tables.wants(kept.segment, kept.esi) {
                plan.tables.insert(kept.segment, kept.esi, &kept.symbol);
            }
        }
    }

    fn set_plan(&mut self, header: PlanHeader) {
        let shape = *header.shape();
        self.plan = Some(Plan {
            header,
            shape,
            tables: LeafTables::new(shape),
            pending: UnverifiedSymbols::new(MAX_UNVERIFIED_BYTES),
            kept: TableLog::new(self.planned.plan_root, shape, kept_segments(&shape)),
        });
    }

    /// Handles a packet of the session that the device is tuned in to. Returns whether it is one of
    /// this object.
    pub fn handle_packet(&mut self, now: Mono, packet: &Packet<'_>, stats: &mut Stats) -> bool {
        let Some(kind) = packet.header.toi.and_then(|toi| self.packet_kind(toi)) else {
            stats.other_object += 1;
            return false;
        };
        if self.fec_mismatch(packet, kind) {
            stats.fec_mismatch += 1;
            return false;
        }
        if let Some(payload) = packet.payload {
            match kind {
                PacketKind::Header => {
                    self.receive_header(payload.symbols, stats);
                }
                PacketKind::Table => self.handle_table(now, packet, payload, stats),
                PacketKind::Data => self.handle_data(now, payload, stats),
            }
        }
        true
    }

    /// Returns the blocks, with the log of their symbols.
    #[must_use]
    pub const fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    /// Returns the blocks, for completions of the storage and the decoder.
    pub const fn blocks_mut(&mut self) -> &mut Blocks {
        &mut self.blocks
    }

    /// Returns the object's parameters.
    #[must_use]
    pub const fn planned(&self) -> &PlannedObject {
        &self.planned
    }

    /// Returns the symbol log.
    #[must_use]
    pub const fn log(&self) -> &SymbolLog {
        self.blocks.log()
    }

    /// Returns the symbol log, for completions of the storage.
    pub const fn log_mut(&mut self) -> &mut SymbolLog {
        self.blocks.log_mut()
    }

    fn packet_kind(&self, toi: Toi) -> Option<PacketKind> {
        let ObjectTois { data, tables, header } = self.tois;
        [(data, PacketKind::Data), (tables, PacketKind::Table), (header, PacketKind::Header)]
            .into_iter()
            .find_map(|(ours, kind)| (ours == toi).then_some(kind))
    }

    /// Returns whether the FEC information of a packet differs from that of the campaign: such a
    /// packet is not meant for this device.
    fn fec_mismatch(&self, packet: &Packet<'_>, kind: PacketKind) -> bool {
        let codepoint = match kind {
            PacketKind::Data | PacketKind::Table => proto::fec::ENCODING_ID_RAPTORQ,
            PacketKind::Header => proto::fec::ENCODING_ID_NO_CODE,
        };
        if packet.header.codepoint != codepoint {
            return true;
        }
        kind == PacketKind::Data
            && packet.extensions.find(ext::FTI).is_some()
            && !packet
                .extensions
                .fti(codepoint)
                .is_ok_and(|found| found == Some(Oti::RaptorQ(self.planned.oti)))
    }

    fn handle_table(
        &mut self,
        now: Mono,
        packet: &Packet<'_>,
        payload: Payload<'_>,
        stats: &mut Stats,
    ) {
        let Some(plan) = &mut self.plan else { return };
        let shape = &plan.shape;
        let (segment, esi) = (payload.id.sbn, payload.id.esi);
        let Some(index) = shape.table_index(segment, esi) else {
            stats.table_forged += 1;
            return;
        };
        if !plan.tables.wants(segment, esi) {
            return;
        }
        let sized = payload.symbols.len() == usize::from(shape.parameters().table_symbol_bytes);
        let proof = packet.extensions.auth().and_then(|content| TableProof::parse(content).ok());
        let authentic = proof.filter(|proof| {
            sized
                && proof.index() == index
                && self.packet_auth.verify_table(&plan.header, proof, segment, esi, payload.symbols)
        });
        if authentic.is_none() {
            stats.table_forged += 1;
            return;
        }
        stats.table_accepted += 1;
        if let Some((offset, octets)) = plan.kept.store(segment, esi, payload.symbols) {
            self.blocks.log_mut().store_tables(offset, octets);
        }
        if plan.tables.insert(segment, esi, payload.symbols) == TableInsert::Decoded {
            self.settle_pending(now, segment, stats);
        }
    }

    // spec: rfc6726 7.2.2, rfc6726 7.3.3, rfc5651 5.2.1 (nothing that the plan does not prove)
    // spec: rfc5651 7, rfc5775 2.5, rfc5775 4.4, rfc5775 5, rfc6330 6, rfc5052 11, rfc5651 8.1
    // spec: rfc5651 8.3
    fn handle_data(&mut self, now: Mono, payload: Payload<'_>, stats: &mut Stats) {
        let (sbn, esi) = (payload.id.sbn, payload.id.esi);
        let Some(plan) = &mut self.plan else {
            stats.data_expired_unverified += 1;
            return;
        };
        let shape = &plan.shape;
        let sized = payload.symbols.len() == shape.symbol_bytes();
        let place = shape.index_of(sbn, esi).filter(|_| sized);
        let Some((index, segment)) = place.and_then(|at| Some((at, shape.segment_of(at)?))) else {
            stats.data_forged += 1;
            return;
        };
        if self.blocks.log().holds(sbn, esi) {
            self.blocks.handle_unneeded(sbn);
            stats.data_held += 1;
            return;
        }
        if let Some(expected) = plan.tables.leaf(segment, index) {
            self.store_symbol(now, sbn, esi, payload.symbols, &expected, stats);
            return;
        }
        match plan.pending.insert(segment, index, payload.symbols) {
            Buffered::Stored { dropped } => {
                stats.data_pending += 1;
                stats.data_expired_unverified += u64::try_from(dropped).unwrap_or(u64::MAX);
            }
            Buffered::Dropped => stats.data_expired_unverified += 1,
        }
    }

    fn settle_pending(&mut self, now: Mono, segment: Sbn, stats: &mut Stats) {
        let Some(plan) = &mut self.plan else { return };
        let shape = plan.shape;
        for (index, symbol) in plan.pending.take(segment) {
            let Some((sbn, esi)) = shape.symbol_at(index) else { continue };
            if self.blocks.log().holds(sbn, esi) {
                stats.data_held += 1;
                continue;
            }
            let expected = self.plan.as_mut().and_then(|plan| plan.tables.leaf(segment, index));
            if let Some(expected) = expected {
                self.store_symbol(now, sbn, esi, &symbol, &expected, stats);
            }
        }
    }

    /// Stores a symbol that passes one hash and one comparison.
    fn store_symbol(
        &mut self,
        now: Mono,
        sbn: Sbn,
        esi: Esi,
        symbol: &[u8],
        expected: &Hash16,
        stats: &mut Stats,
    ) {
        let tag = plan::leaf(&self.planned.object_key, sbn, esi, symbol);
        if !self.packet_auth.verify_data(expected, &tag) {
            stats.data_forged += 1;
            return;
        }
        match self.log_mut().insert(now, sbn, esi, tag, symbol) {
            InsertOutcome::Stored => stats.data_accepted += 1,
            InsertOutcome::Duplicate | InsertOutcome::BlockFull | InsertOutcome::BlockDone => {
                self.blocks.handle_unneeded(sbn);
                stats.data_held += 1;
            }
            InsertOutcome::Busy | InsertOutcome::NoRoom | InsertOutcome::Invalid => {
                stats.data_dropped += 1
            }
        }
    }
}

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

#[cfg(test)]
mod tests;
