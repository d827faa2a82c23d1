//! The object of a round: what every symbol is.

use anyhow::Context as _;
use proto::{
    crypto::{h16, sha256},
    fec::{
        codec::BlockEncoder as _,
        oti::{RaptorQOti, RaptorQParameters},
        raptorq_crate::Encoder,
    },
    ids::{Esi, Sbn},
    trust::plan::{PlanParameters, PlanShape},
};
use receiver::{
    flute::leaf_tables::kept_segments,
    store::{ObjectLayout, TableLog},
};

use crate::lab::rng::SeededRng;

/// Symbols of a block.
pub(super) const BLOCK_SYMBOLS: u32 = 64;
/// Its blocks.
pub(super) const BLOCKS: u8 = 3;
/// Octets of a symbol: its slots, of 192 octets, do not end where sectors do.
const SYMBOL_BYTES: u16 = 160;

/// An object that its round determines.
pub(super) struct Truth {
    layout: ObjectLayout,
    image: Vec<u8>,
    encoders: Vec<Encoder>,
    shape: PlanShape,
    round: u64,
}

impl Truth {
    pub(super) fn new(round: u64) -> anyhow::Result<Self> {
        let symbols = u64::from(BLOCK_SYMBOLS) * u64::from(BLOCKS);
        let length = symbols * u64::from(SYMBOL_BYTES) - 7;
        let mut image = vec![0; usize::try_from(length)?];
        SeededRng::new(round, "image").fill_bytes(&mut image);
        let oti = RaptorQOti::new(RaptorQParameters {
            transfer_length: length,
            symbol_size: SYMBOL_BYTES,
            source_blocks: BLOCKS,
            sub_blocks: 1,
            alignment: 8,
        })
        .ok()
        .context("valid parameters")?;
        let key = h16(&[b"round", &round.to_be_bytes()]);
        let layout = ObjectLayout::new(key, sha256(&[&image]), oti);
        let mut encoders = Vec::new();
        for sbn in (0..layout.blocks()).map(Sbn) {
            let block = block(&layout, &image, sbn).context("a block")?;
            encoders.push(Encoder::new(&oti, sbn, block).context("an encoder")?);
        }
        let parameters = PlanParameters {
            repair_per_block: 2 * BLOCK_SYMBOLS,
            segment_symbols: 16,
            table_repair: 2,
            table_symbol_bytes: 64,
        };
        let shape = PlanShape::new(oti, parameters)?;
        Ok(Self { layout, image, encoders, shape, round })
    }

    pub(super) const fn layout(&self) -> &ObjectLayout {
        &self.layout
    }

    /// Returns the place of the table symbols.
    pub(super) fn table_log(&self) -> TableLog {
        TableLog::new(self.layout.stored_sha256(), self.shape, kept_segments(&self.shape))
    }

    pub(super) const fn shape(&self) -> &PlanShape {
        &self.shape
    }

    /// Returns what a table symbol is.
    pub(super) fn table_symbol(&self, segment: Sbn, esi: Esi) -> Vec<u8> {
        let mut symbol = vec![0; usize::from(self.shape.parameters().table_symbol_bytes)];
        let number = u64::from(segment.0) << 32 | u64::from(esi.0);
        SeededRng::new(self.round ^ number, "table symbol").fill_bytes(&mut symbol);
        symbol
    }

    pub(super) fn image(&self) -> &[u8] {
        &self.image
    }

    pub(super) fn symbol(&self, sbn: Sbn, esi: Esi) -> Option<Vec<u8>> {
        let encoder = self.encoders.get(usize::try_from(sbn.0).ok()?)?;
        let mut made = None;
        encoder.for_each_symbol(esi.0..esi.0 + 1, &mut |_, octets| made = Some(octets.to_vec()));
        made
    }

    /// Returns whether an image holds a block as it is.
    pub(super) fn has_block(&self, image: &[u8], sbn: Sbn) -> bool {
        block(&self.layout, image, sbn) == block(&self.layout, &self.image, sbn)
    }
}

fn block<'a>(layout: &ObjectLayout, image: &'a [u8], sbn: Sbn) -> Option<&'a [u8]> {
    let place = layout.block_place(sbn)?;
    let from = usize::try_from(place.offset).ok()?;
    image.get(from..from + usize::try_from(place.octets).ok()?)
}
