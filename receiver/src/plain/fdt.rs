//! FDT instances of one session: from packets to documents.
//!
//! Any number of symbols, No-Code or RaptorQ, in any order. A few instances at a time; memory is
//! bounded by the largest document times their number.

use std::collections::VecDeque;

use proto::{
    fec::{codec::BlockDecoder, oti::Oti},
    flute::{
        alc::{Packet, Payload},
        fdt::{FdtInstance, MAX_OCTETS},
    },
    ids::{Esi, Sbn},
};

use crate::decode::decoder;

/// Instances of a session that are put together, or known, at a time.
const MAX_INSTANCES: usize = 4;

/// What became of an FDT packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FdtStep {
    /// The document is not whole yet, or was known.
    Nothing,
    /// The document is whole.
    Instance(Box<FdtInstance>),
    /// The packet or the document cannot be used; the text says why.
    Refused(&'static str),
}

/// A source block of a document: its decoder, and its octets once it is solved.
type Block = (Box<dyn BlockDecoder>, Option<Vec<u8>>);

/// Puts the instances of one session together.
#[derive(Default)]
pub struct FdtAssembly {
    instances: VecDeque<Instance>,
}

struct Instance {
    id: u32,
    oti: Oti,
    state: State,
}

enum State {
    Collecting(Vec<Block>),
    Known(Vec<u8>),
}

impl FdtAssembly {
    /// Takes a packet of the session with the TOI 0.
    pub fn handle_packet(&mut self, packet: &Packet<'_>) -> FdtStep {
        let Some(payload) = packet.payload else { return FdtStep::Nothing };
        // spec: rfc6726 3.4.1 (EXT_FDT in every packet of an instance)
        let Some(header) = packet.extensions.fdt() else {
            return FdtStep::Refused("no EXT_FDT");
        };
        if !(1..=2).contains(&header.version) {
            return FdtStep::Refused("FLUTE version is neither 1 nor 2");
        }
        // A sender without content encoding may say so.
        if packet.extensions.content_encoding().is_some_and(|encoding| encoding != 0) {
            return FdtStep::Refused("content encoding of an FDT");
        }
        let oti = match packet.extensions.fti(packet.header.codepoint) {
            Ok(oti) => oti,
            Err(_) => return FdtStep::Refused("EXT_FTI is not valid"),
        };
        self.forget_other_issue(header.instance_id, oti, payload);
        let known = self.instances.iter().position(|instance| instance.id == header.instance_id);
        let at = match (known, oti) {
            (Some(at), _) => at,
            (None, Some(oti)) => match self.begin(header.instance_id, oti) {
                Ok(at) => at,
                Err(reason) => return FdtStep::Refused(reason),
            },
            (None, None) => return FdtStep::Refused("no EXT_FTI, and none was heard before"),
        };
        let step = self.instances.get_mut(at).map(|instance| instance.take(packet, payload));
        let step = step.unwrap_or(FdtStep::Nothing);
        if let FdtStep::Refused(_) = step {
            self.instances.remove(at);
        }
        step
    }

    /// A sender that began anew under the same TSI may use an id again, although it must not: the
    /// symbol or the parameters differ then, and what is known is out of date.
    fn forget_other_issue(&mut self, id: u32, oti: Option<Oti>, payload: Payload<'_>) {
        self.instances.retain(|instance| {
            instance.id != id
                || (oti.is_none_or(|oti| oti == instance.oti) && instance.agrees(payload))
        });
    }

    fn begin(&mut self, id: u32, oti: Oti) -> Result<usize, &'static str> {
        let limit = u64::try_from(MAX_OCTETS).unwrap_or(u64::MAX);
        let partition = oti.partition();
        if oti.transfer_length() > limit || partition.total_symbols() > MAX_SYMBOLS {
            return Err("the FDT is too large");
        }
        let blocks = (0..partition.blocks()).map(Sbn);
        let decoders: Option<Vec<_>> =
            blocks.map(|sbn| Some((decoder(&oti, sbn)?, None))).collect();
        let decoders = decoders.ok_or("the FDT has no such block")?;
        if self.instances.len() >= MAX_INSTANCES {
            self.instances.pop_front();
        }
        self.instances.push_back(Instance { id, oti, state: State::Collecting(decoders) });
        Ok(self.instances.len() - 1)
    }
}

/// Symbols of an FDT at most: what 64 KiB have in symbols of 16 octets.
const MAX_SYMBOLS: u64 = 4096;

impl Instance {
    fn agrees(&self, payload: Payload<'_>) -> bool {
        let State::Known(document) = &self.state else { return true };
        let size = usize::from(self.oti.symbol_size());
        let partition = self.oti.partition();
        let is_source =
            partition.symbols_of(payload.id.sbn).is_some_and(|count| payload.id.esi.0 < count);
        let first = partition.first_symbol(payload.id.sbn).unwrap_or(0);
        let from = usize::try_from(first + u64::from(payload.id.esi.0)).unwrap_or(usize::MAX);
        let expected = document.get(from.saturating_mul(size)..).unwrap_or_default();
        !is_source || expected.iter().zip(payload.symbols).all(|(a, b)| a == b)
    }

    fn take(&mut self, packet: &Packet<'_>, payload: Payload<'_>) -> FdtStep {
        let State::Collecting(blocks) = &mut self.state else { return FdtStep::Nothing };
        if packet.header.codepoint != self.oti.encoding_id() {
            return FdtStep::Refused("the codepoint is not that of the FDT");
        }
        let at = usize::try_from(payload.id.sbn.0).unwrap_or(usize::MAX);
        let Some((decoder, block)) = blocks.get_mut(at).filter(|(_, block)| block.is_none()) else {
            return FdtStep::Nothing;
        };
        let size = usize::from(self.oti.symbol_size());
        for (esi, symbol) in (payload.id.esi.0..).zip(payload.symbols.chunks(size)) {
            decoder.push(Esi(esi), symbol);
        }
        *block = decoder.decode();
        if blocks.iter().any(|(_, block)| block.is_none()) {
            return FdtStep::Nothing;
        }
        let mut document: Vec<u8> =
            blocks.iter_mut().filter_map(|(_, block)| block.take()).flatten().collect();
        document.truncate(usize::try_from(self.oti.transfer_length()).unwrap_or(usize::MAX));
        let step = match FdtInstance::parse(&document) {
            Ok(instance) => FdtStep::Instance(Box::new(instance)),
            Err(_) => FdtStep::Refused("the FDT is not valid"),
        };
        self.state = State::Known(document);
        step
    }
}

impl std::fmt::Debug for FdtAssembly {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ids: Vec<_> = self.instances.iter().map(|instance| instance.id).collect();
        formatter.debug_struct("FdtAssembly").field("instances", &ids).finish_non_exhaustive()
    }
}
