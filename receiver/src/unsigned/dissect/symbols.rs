//! The captured symbols of an object, and which of them a reception would use.

use std::collections::{BTreeMap, BTreeSet};

use proto::{
    fec::oti::Oti,
    flute::alc::{Payload, PayloadId},
    ids::Sbn,
    wire::WireError,
};

use super::super::oddities::{contradiction, misfit};

/// Combinations of codepoint and EXT_FTI in the packets of an object, at most.
const MAX_KINDS: usize = 8;

/// Packets of an object.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The first parameters in an EXT_FTI.
    oti: Option<Oti>,
    codepoint: u8,
    packets: u64,
    /// Reason why an EXT_FTI could not be read; its packet is not used.
    bad_fti: Option<String>,
    kinds: Vec<Kind>,
}

/// Packets of one codepoint with one EXT_FTI, or without.
#[derive(Debug)]
struct Kind {
    codepoint: u8,
    fti: Option<Oti>,
    /// Packets by their first symbol and their octets, counted.
    symbols: BTreeMap<(PayloadId, usize), u64>,
}

/// Symbols as a reception would use them.
#[derive(Debug, Default)]
pub(super) struct Used {
    held: BTreeMap<Sbn, BTreeSet<u32>>,
    /// Packets that it would not use, by reason.
    unused: BTreeMap<String, u64>,
}

impl Used {
    /// Returns the symbols.
    pub(super) const fn held(&self) -> &BTreeMap<Sbn, BTreeSet<u32>> {
        &self.held
    }

    /// Returns the packets that it would not use, by reason.
    pub(super) const fn unused(&self) -> &BTreeMap<String, u64> {
        &self.unused
    }

    /// Returns what is missing with the first reason why packets are not used.
    pub(super) fn explain(&self, missing: String) -> String {
        match self.unused.keys().next() {
            Some(why) if self.held.is_empty() => format!("nothing is usable: {why}"),
            Some(why) => format!("{missing}: {why}"),
            None => missing,
        }
    }
}

impl Seen {
    /// Returns the first parameters in an EXT_FTI.
    pub(super) const fn oti(&self) -> Option<Oti> {
        self.oti
    }

    /// Returns the last codepoint.
    pub(super) const fn codepoint(&self) -> u8 {
        self.codepoint
    }

    /// Returns the number of packets.
    pub(super) const fn packets(&self) -> u64 {
        self.packets
    }

    /// Returns the reason why an EXT_FTI could not be read.
    pub(super) const fn bad_fti(&self) -> Option<&String> {
        self.bad_fti.as_ref()
    }

    /// Counts a packet.
    pub(super) const fn count(&mut self, codepoint: u8) {
        self.packets += 1;
        self.codepoint = codepoint;
    }

    /// Returns whether no packet could be used.
    pub(super) fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// Records that an EXT_FTI could not be read.
    pub(super) fn refuse(&mut self, reason: &WireError) {
        self.bad_fti = Some(reason.to_string());
    }

    /// Returns the symbols that a reception under these parameters would use.
    pub(super) fn used(&self, oti: Option<&Oti>, is_fdt: bool) -> Used {
        let mut used = Used::default();
        for kind in &self.kinds {
            for ((id, octets), count) in &kind.symbols {
                let unfit = oti.filter(|_| !is_fdt).and_then(|oti| kind.unfit(oti, *id, *octets));
                if let Some(reason) = unfit {
                    *used.unused.entry(reason).or_default() += count;
                    continue;
                }
                // Without parameters a packet counts as one symbol.
                let size = oti.map_or(*octets, |oti| usize::from(oti.symbol_size()));
                let symbols = octets.div_ceil(size.max(1));
                let PayloadId { sbn, esi } = *id;
                used.held.entry(sbn).or_default().extend((esi.0..).take(symbols));
            }
        }
        used
    }

    /// Adds a packet; instances of an FDT differ in their parameters, and count together.
    pub(super) fn add(&mut self, payload: &Payload<'_>, fti: Option<Oti>, is_fdt: bool) {
        self.oti = self.oti.or(fti);
        let (codepoint, fti) = (self.codepoint, fti.filter(|_| !is_fdt));
        let is_same = |kind: &Kind| kind.codepoint == codepoint && kind.fti == fti;
        let place = self.kinds.iter().position(is_same).unwrap_or(self.kinds.len());
        if place == self.kinds.len() && place < MAX_KINDS {
            self.kinds.push(Kind { codepoint, fti, symbols: BTreeMap::new() });
        }
        if let Some(kind) = self.kinds.get_mut(place) {
            *kind.symbols.entry((payload.id, payload.symbols.len())).or_default() += 1;
        }
    }
}

impl Kind {
    /// Returns the reason why symbols of these packets would not be used.
    fn unfit(&self, oti: &Oti, id: PayloadId, octets: usize) -> Option<String> {
        let is_same = self.codepoint == oti.encoding_id();
        if !is_same || self.fti.is_some_and(|fti| fti != *oti) {
            return Some(contradiction(oti, self.codepoint, self.fti));
        }
        (!fits(oti, id, octets)).then(|| misfit(oti, id, octets))
    }
}

/// Returns whether symbols of `octets` octets in all are of an object with these parameters.
// Only the last symbol of the object may come cut.
fn fits(oti: &Oti, id: PayloadId, octets: usize) -> bool {
    let (PayloadId { sbn, esi }, partition) = (id, oti.partition());
    let Some(symbols) = partition.symbols_of(sbn).map(u64::from) else { return false };
    let octets = u64::try_from(octets).unwrap_or(u64::MAX);
    let size = u64::from(oti.symbol_size()).max(1);
    let end = u64::from(esi.0).saturating_add(octets.div_ceil(size));
    let (is_within, may_be_cut) = match oti {
        Oti::NoCode(_) => (end <= symbols, true),
        Oti::RaptorQ(oti) => (true, oti.parameters().sub_blocks == 1),
    };
    let cut = octets % size;
    let is_last = sbn.0 + 1 == partition.blocks() && end == symbols;
    let is_whole = cut == 0 || may_be_cut && is_last && cut == oti.transfer_length() % size;
    octets > 0 && is_within && is_whole
}
