//! The life of one object: packets in, verified symbols to the log, blocks to the decoder.
//!
//! ```text
//! plan header -> tables -> data symbols -> log -> blocks -> image
//! ```
//!
//! Nothing passes an arrow before it is verified against what stands left of it.

use proto::{
    crypto::Hash16,
    flute::alc::{Packet, Payload},
    ids::{Esi, Sbn, Toi},
    time::Mono,
    trust::{
        PlannedObject,
        plan::{self, PlanHeader, TableProof},
    },
};

use crate::{
    authenticity::{Authenticity, HashPlan},
    blocks::Blocks,
    pending::{MAX_PENDING_BYTES, Pending, Wait},
    stats::Stats,
    symbols::{Insert, SymbolLog, TableLog},
    tables::{TableInsert, Tables, kept_segments},
};

/// One object while it is received.
#[derive(Debug)]
pub struct Object<A = HashPlan> {
    planned: PlannedObject,
    blocks: Blocks,
    plan: Option<Plan>,
    authenticity: A,
}

#[derive(Debug)]
struct Plan {
    header: PlanHeader,
    tables: Tables,
    pending: Pending,
    kept: TableLog,
}

/// What a packet of the object carries, by its TOI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carries {
    /// A symbol of the image.
    Data,
    /// A symbol of the tables.
    Table,
    /// The plan header.
    Header,
}

impl Object {
    /// Goes on with what `log` holds.
    #[must_use]
    pub fn new(planned: PlannedObject, log: SymbolLog) -> Self {
        Self::with_authenticity(planned, log, HashPlan)
    }
}

impl<A: Authenticity> Object<A> {
    /// Goes on with what `log` holds, with another idea of what is authentic. For tests.
    #[must_use]
    pub const fn with_authenticity(
        planned: PlannedObject,
        log: SymbolLog,
        authenticity: A,
    ) -> Self {
        Self { planned, blocks: Blocks::new(log), plan: None, authenticity }
    }

    /// Returns what packets with this TOI carry of the object; `None` when nothing.
    #[must_use]
    pub fn carries(&self, toi: Toi) -> Option<Carries> {
        let component = self.planned.component;
        [
            (Toi::object(component), Carries::Data),
            (Toi::tables(component), Carries::Table),
            (Toi::plan_header(component), Carries::Header),
        ]
        .into_iter()
        .find_map(|(ours, carries)| (ours == toi).then_some(carries))
    }

    /// Takes the plan header if it is the pinned one; returns whether it was news.
    pub fn offer_header(&mut self, octets: &[u8], stats: &mut Stats) -> bool {
        if self.plan.is_some() {
            return false;
        }
        match PlanHeader::parse(octets, &self.planned) {
            Ok(header) => {
                self.log_mut().keep_tables(0, TableLog::header(octets));
                self.adopt(header);
                true
            }
            Err(_) => {
                stats.header_forged += 1;
                false
            }
        }
    }

    /// Goes on with the plan header and the table symbols that a life before this has kept.
    pub fn recover_tables(&mut self, file: &[u8]) {
        if self.plan.is_none()
            && let Some(octets) = TableLog::header_in(file)
            && let Ok(header) = PlanHeader::parse(octets, &self.planned)
        {
            self.adopt(header);
        }
        let Some(plan) = &mut self.plan else { return };
        for kept in plan.kept.recover(file) {
            if plan.tables.wants(kept.segment, kept.esi) {
                plan.tables.insert(kept.segment, kept.esi, &kept.symbol);
            }
        }
    }

    fn adopt(&mut self, header: PlanHeader) {
        let shape = *header.shape();
        self.plan = Some(Plan {
            header,
            tables: Tables::new(shape),
            pending: Pending::new(MAX_PENDING_BYTES),
            kept: TableLog::new(self.planned.plan_root, shape, kept_segments(&shape)),
        });
    }

    /// Takes a packet of the session that the device is tuned in to.
    pub fn handle_packet(
        &mut self,
        now: Mono,
        carries: Carries,
        packet: &Packet<'_>,
        stats: &mut Stats,
    ) {
        let Some(payload) = packet.payload else { return };
        match carries {
            Carries::Header => {
                self.offer_header(payload.symbols, stats);
            }
            Carries::Table => self.handle_table(now, packet, payload, stats),
            Carries::Data => self.handle_data(now, payload, stats),
        }
    }

    /// Returns the blocks, with the log of their symbols.
    #[must_use]
    pub const fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    /// Returns the blocks, to hand answers of the storage and the decoder to them.
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

    /// Returns the symbol log, to hand answers of the storage to it.
    pub const fn log_mut(&mut self) -> &mut SymbolLog {
        self.blocks.log_mut()
    }

    fn handle_table(
        &mut self,
        now: Mono,
        packet: &Packet<'_>,
        payload: Payload<'_>,
        stats: &mut Stats,
    ) {
        let Some(plan) = &mut self.plan else { return };
        let shape = plan.header.shape();
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
                && self.authenticity.admits_table(
                    &plan.header,
                    proof,
                    segment,
                    esi,
                    payload.symbols,
                )
        });
        if authentic.is_none() {
            stats.table_forged += 1;
            return;
        }
        stats.table_taken += 1;
        if let Some((offset, octets)) = plan.kept.keep(segment, esi, payload.symbols) {
            self.blocks.log_mut().keep_tables(offset, octets);
        }
        if plan.tables.insert(segment, esi, payload.symbols) == TableInsert::Known {
            self.settle_pending(now, segment, stats);
        }
    }

    // spec: rfc6726 7.2.2, rfc6726 7.3.3, rfc5651 5.2.1 (nothing that the plan does not prove)
    // spec: rfc5651 7, rfc5775 2.5, rfc5775 4.4, rfc5775 5, rfc6330 6, rfc5052 11, rfc5651 8.1
    // spec: rfc5651 8.3
    fn handle_data(&mut self, now: Mono, payload: Payload<'_>, stats: &mut Stats) {
        let (sbn, esi) = (payload.id.sbn, payload.id.esi);
        let Some(plan) = &mut self.plan else {
            stats.data_unproven += 1;
            return;
        };
        let shape = plan.header.shape();
        let sized = payload.symbols.len() == usize::from(shape.oti().parameters().symbol_size);
        let place = shape.index_of(sbn, esi).filter(|_| sized);
        let Some((index, segment)) = place.and_then(|at| Some((at, shape.segment_of(at)?))) else {
            stats.data_forged += 1;
            return;
        };
        if self.blocks.log().holds(sbn, esi) {
            stats.data_held += 1;
            return;
        }
        if let Some(expected) = plan.tables.leaf(segment, index) {
            self.take(now, sbn, esi, payload.symbols, &expected, stats);
            return;
        }
        match plan.pending.insert(segment, index, payload.symbols) {
            Wait::Waits { dropped } => {
                stats.data_pending += 1;
                stats.data_unproven += u64::try_from(dropped).unwrap_or(u64::MAX);
            }
            Wait::Dropped => stats.data_unproven += 1,
        }
    }

    fn settle_pending(&mut self, now: Mono, segment: Sbn, stats: &mut Stats) {
        let Some(plan) = &mut self.plan else { return };
        let shape = *plan.header.shape();
        for (index, symbol) in plan.pending.take(segment) {
            let Some((sbn, esi)) = shape.symbol_at(index) else { continue };
            if self.blocks.log().holds(sbn, esi) {
                stats.data_held += 1;
                continue;
            }
            let expected = self.plan.as_mut().and_then(|plan| plan.tables.leaf(segment, index));
            if let Some(expected) = expected {
                self.take(now, sbn, esi, &symbol, &expected, stats);
            }
        }
    }

    /// One hash, one comparison; what passes is stored.
    fn take(
        &mut self,
        now: Mono,
        sbn: Sbn,
        esi: Esi,
        symbol: &[u8],
        expected: &Hash16,
        stats: &mut Stats,
    ) {
        let tag = plan::leaf(&self.planned.object_key, sbn, esi, symbol);
        if !self.authenticity.admits_data(expected, &tag) {
            stats.data_forged += 1;
            return;
        }
        match self.log_mut().insert(now, sbn, esi, tag, symbol) {
            Insert::Stored => stats.data_taken += 1,
            Insert::Duplicate | Insert::BlockFull | Insert::BlockDone => stats.data_held += 1,
            Insert::Busy | Insert::NoRoom | Insert::Invalid => stats.data_dropped += 1,
        }
    }
}

#[cfg(test)]
mod tests;
