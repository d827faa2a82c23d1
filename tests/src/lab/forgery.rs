//! Packets of an attacker on the channel: they look true and precede the true ones.
//!
//! The attacker receives the channel and knows the plan's shape, which is public: source address,
//! TSI, TOI, payload id and length are right, and the symbols are those that no device holds yet.
//! What it cannot do is find octets that hash to a leaf.

use proto::{
    flute::{
        alc::{Packet, Payload, PayloadId},
        ext,
        lct::{Extensions, Header},
    },
    ids::{Esi, Sbn, Toi, Tsi},
    trust::{
        PlannedObject,
        plan::{PlanHeader, PlanShape, TableProof},
    },
    wire::WireError,
};

use crate::lab::rng::SeededRng;

/// The three kinds of forged packets, in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A symbol of the image that is not one.
    Data,
    /// A table symbol of other leaves, with a path that was received.
    TableSymbol,
    /// A table symbol that was received, at another position, with an invalid path.
    TablePath,
}

/// The attacker.
#[derive(Debug)]
pub struct Forger {
    object: PlannedObject,
    ratio: f64,
    rng: SeededRng,
    shape: Option<PlanShape>,
    tsi: Tsi,
    /// Forged packets to send for the true ones received.
    owed: f64,
    turn: Kind,
    /// Position of the last data symbol received.
    place: u64,
    /// Content of EXT_AUTH and symbol of the last table packet received.
    table: Option<(Vec<u8>, Vec<u8>)>,
}

/// Most packets that one true packet can set off; more are owed to the next.
const MAX_BURST: u32 = 64;

impl Forger {
    /// Returns an attacker on one object that sends `ratio` packets for each that it receives.
    pub fn new(object: PlannedObject, ratio: f64, seed: u64) -> Self {
        Self {
            object,
            ratio,
            rng: SeededRng::new(seed, "forger"),
            shape: None,
            tsi: Tsi(0),
            owed: 0.0,
            turn: Kind::Data,
            place: 0,
            table: None,
        }
    }

    /// Takes a true datagram and calls `send` with each forged one that it sets off.
    ///
    /// # Errors
    ///
    /// [`WireError`] when the datagram is none of FLUTE; nothing is sent then.
    pub fn handle_true(
        &mut self,
        datagram: &[u8],
        send: &mut dyn FnMut(Kind, &[u8]),
    ) -> Result<(), WireError> {
        self.record(&Packet::parse(datagram)?);
        let Some(shape) = self.shape else { return Ok(()) };
        self.owed += self.ratio;
        let mut out = Vec::new();
        for _ in 0..MAX_BURST {
            if self.owed < 1.0 {
                break;
            }
            self.owed -= 1.0;
            out.clear();
            let kind = self.turn;
            self.turn = match kind {
                Kind::Data => Kind::TableSymbol,
                Kind::TableSymbol => Kind::TablePath,
                Kind::TablePath => Kind::Data,
            };
            match kind {
                Kind::Data => self.forge_data(&shape, &mut out)?,
                Kind::TableSymbol | Kind::TablePath => self.forge_table(&shape, kind, &mut out)?,
            }
            if !out.is_empty() {
                send(kind, &out);
            }
        }
        Ok(())
    }

    fn record(&mut self, packet: &Packet<'_>) {
        let component = self.object.component;
        let (Some(payload), Some(toi)) = (packet.payload, packet.header.toi) else { return };
        self.tsi = packet.header.tsi;
        if toi == Toi::object(component) {
            let shape = self.shape.as_ref();
            let place = shape.and_then(|shape| shape.index_of(payload.id.sbn, payload.id.esi));
            self.place = place.unwrap_or(self.place);
        } else if toi == Toi::tables(component) {
            let proof = packet.extensions.auth().map(<[u8]>::to_vec);
            self.table = proof.map(|proof| (proof, payload.symbols.to_vec()));
        } else if toi == Toi::plan_header(component) && self.shape.is_none() {
            let header = PlanHeader::parse(payload.symbols, &self.object);
            self.shape = header.ok().map(|header| *header.shape());
        }
    }

    /// A symbol ahead of the last one received: no device holds it in the first pass.
    fn forge_data(&mut self, shape: &PlanShape, out: &mut Vec<u8>) -> Result<(), WireError> {
        let ahead = shape.leaves().saturating_sub(self.place + 1);
        let place = match ahead {
            0 => self.rng.below(shape.leaves()),
            _ => self.place + 1 + self.rng.below(ahead),
        };
        let Some((sbn, esi)) = shape.symbol_at(place) else { return Ok(()) };
        let mut symbol = vec![0; usize::from(shape.oti().parameters().symbol_size)];
        self.rng.fill_bytes(&mut symbol);
        let payload = Some(Payload { id: PayloadId { sbn, esi }, symbols: &symbol });
        let toi = Toi::object(self.object.component);
        let header = Header::wide(self.tsi, toi, RAPTORQ);
        Packet { header, extensions: Extensions::NONE, payload }.emit(out)
    }

    /// A table symbol of the segments that come next.
    fn forge_table(
        &mut self,
        shape: &PlanShape,
        kind: Kind,
        out: &mut Vec<u8>,
    ) -> Result<(), WireError> {
        let Some((proof, received)) = self.table.clone() else { return Ok(()) };
        let segment = shape.segment_of(self.place).map_or(0, |segment| segment.0);
        let ahead = u32::try_from(self.rng.below(3)).unwrap_or(0);
        let segment = Sbn((segment + ahead) % u32::from(shape.segments()).max(1));
        let per_segment = u64::from(shape.table_symbols_per_segment());
        let esi = Esi(u32::try_from(self.rng.below(per_segment)).unwrap_or(0));
        let Some(index) = shape.table_index(segment, esi) else { return Ok(()) };

        let mut symbol = received;
        let mut path = proof.get(PROOF_HEAD..).unwrap_or_default().to_vec();
        match kind {
            Kind::Data | Kind::TableSymbol => self.rng.fill_bytes(&mut symbol),
            Kind::TablePath => self.rng.fill_bytes(&mut path),
        }
        let mut auth = vec![ext::AUTH, 0];
        auth.extend(proof.iter().take(2));
        auth.extend(index.to_be_bytes());
        auth.extend(path);
        let words = u8::try_from(auth.len() / 4).unwrap_or(u8::MAX);
        if let Some(length) = auth.get_mut(1) {
            *length = words;
        }
        debug_assert!(TableProof::parse(auth.get(2..).unwrap_or_default()).is_ok());
        let payload = Some(Payload { id: PayloadId { sbn: segment, esi }, symbols: &symbol });
        let toi = Toi::tables(self.object.component);
        let header = Header::wide(self.tsi, toi, RAPTORQ);
        Packet { header, extensions: Extensions::new(&auth)?, payload }.emit(out)
    }
}

/// FEC Encoding ID of RaptorQ.
const RAPTORQ: u8 = 6;

/// Octets of the content of EXT_AUTH before the path: scheme, depth, index.
const PROOF_HEAD: usize = 6;

#[cfg(test)]
mod tests;
