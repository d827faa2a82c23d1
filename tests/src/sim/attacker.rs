//! Packets that an attacker on the channel sends beside the true ones, with their source address.

use proto::{
    fec::oti::{Oti, RaptorQOti},
    fixtures::documents::COMPONENT,
    flute::{
        alc::{Packet, Payload},
        ext::ExtensionWriter,
        lct::{Extensions, Header},
    },
    ids::{Toi, Tsi},
};

use super::{package::Package, queue::Datagram};
use crate::lab::{forgery::Forger, rng::SeededRng};

/// An attacker that receives the channel and sends on it.
#[derive(Debug)]
pub struct Attacker {
    rng: SeededRng,
    forger: Forger,
    per_ten: u64,
    owed: u64,
}

impl Attacker {
    /// Returns an attacker who sends so many forged packets for ten true ones.
    #[expect(clippy::cast_precision_loss, reason = "a number of packets for ten true ones")]
    pub fn new(seed: u64, package: &Package, per_ten: u64) -> Self {
        let ratio = per_ten as f64 / 20.0;
        Self {
            rng: SeededRng::new(seed, "attacker"),
            forger: Forger::new(package.object, ratio, seed),
            per_ten,
            owed: 0,
        }
    }

    /// Receives a true datagram; returns the datagrams that precede it.
    pub fn handle_true(&mut self, truth: &Datagram) -> Vec<Datagram> {
        let mut forged = Vec::new();
        let mut send = |octets: &[u8]| {
            forged.push(Datagram { octets: octets.to_vec(), ..truth.clone() });
        };
        // Only FLUTE packets have the fields to forge.
        self.forger.handle_true(&truth.octets, &mut |_, octets| send(octets)).ok();
        self.owed += self.per_ten;
        while self.owed >= 20 {
            self.owed -= 20;
            let kind = self.rng.below(9);
            if let Some(octets) = self.forge(kind, &truth.octets) {
                let source = if kind == 8 { usize::MAX } else { truth.source };
                forged.push(Datagram { octets, source, ..truth.clone() });
            }
        }
        forged
    }

    fn forge(&mut self, kind: u64, truth: &[u8]) -> Option<Vec<u8>> {
        let packet = Packet::parse(truth).ok()?;
        let Packet { mut header, extensions, payload } = packet;
        let mut made = Vec::new();
        match kind {
            // A packet that ends the session.
            0 => {
                let payload = None;
                let header = Header::close(header.tsi);
                Packet { header, extensions: Extensions::NONE, payload }.emit(&mut made).ok()?;
            }
            // A true symbol in a packet that ends session and object.
            1 => {
                header.close_session = true;
                header.close_object = true;
                Packet { header, extensions, payload }.emit(&mut made).ok()?;
            }
            // A plan header, or an FDT, of other octets.
            2 | 3 => {
                let payload = payload?;
                let mut symbols = payload.symbols.to_vec();
                self.rng.fill_bytes(&mut symbols);
                let toi = if kind == 2 { Toi::plan_header(COMPONENT) } else { Toi::FDT };
                let header = Header::wide(header.tsi, toi, 0);
                let payload = Some(Payload { id: payload.id, symbols: &symbols });
                Packet { header, extensions: Extensions::NONE, payload }.emit(&mut made).ok()?;
            }
            // A true symbol with parameters of another object.
            4 => self.contradict(header, payload?, &mut made)?,
            // Octets.
            5 => {
                made = truth.to_vec();
                let keep = usize::try_from(self.rng.below(made.len() as u64)).ok()?;
                made.truncate(keep);
                self.rng.fill_bytes(made.get_mut(2..)?);
            }
            // Another session.
            6 => {
                header.tsi = Tsi(header.tsi.0 ^ 1);
                Packet { header, extensions, payload }.emit(&mut made).ok()?;
            }
            // Another place for a true symbol.
            7 => {
                let mut payload = payload?;
                payload.id.esi.0 += 1;
                Packet { header, extensions, payload: Some(payload) }.emit(&mut made).ok()?;
            }
            // The truth, from another source.
            _ => made.extend_from_slice(truth),
        }
        Some(made)
    }

    fn contradict(
        &mut self,
        header: Header,
        payload: Payload<'_>,
        made: &mut Vec<u8>,
    ) -> Option<()> {
        let parameters = proto::fec::oti::RaptorQParameters {
            transfer_length: 1 + self.rng.below(1 << 39),
            symbol_size: 64,
            source_blocks: 1,
            sub_blocks: 1,
            alignment: 8,
        };
        let oti = RaptorQOti::new(parameters).ok()?;
        let mut extensions = Vec::new();
        ExtensionWriter::new(&mut extensions).fti(&Oti::RaptorQ(oti));
        let extensions = Extensions::new(&extensions).ok()?;
        Packet { header, extensions, payload: Some(payload) }.emit(made).ok()
    }
}
