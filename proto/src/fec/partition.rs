//! The partition of the symbols of an object into source blocks.

use crate::ids::Sbn;

/// The block structure of one object: `larger_blocks` blocks of `largest` symbols, then blocks
/// with one symbol less.
///
/// # Source
///
/// RFC 5052 §9.1 and RFC 6330 §4.4.1.2; both cut alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    blocks: u32,
    larger_blocks: u32,
    larger_symbols: u32,
    smaller_symbols: u32,
}

impl Partition {
    /// Cuts `symbols` symbols into `blocks` blocks of nearly equal length.
    ///
    /// Returns `None` without a block, or when the largest block has more than 2^32 − 1 symbols.
    #[must_use]
    pub fn new(symbols: u64, blocks: u32) -> Option<Self> {
        let count = u64::from(blocks);
        // spec: rfc6330 4.4.1.2
        let smaller = symbols.checked_div(count)?;
        let larger_blocks = symbols - smaller * count;
        let larger = smaller + u64::from(larger_blocks > 0);
        Some(Self {
            blocks,
            larger_blocks: u32::try_from(larger_blocks).ok()?,
            larger_symbols: u32::try_from(larger).ok()?,
            smaller_symbols: u32::try_from(smaller).ok()?,
        })
    }

    /// Returns Z, the number of source blocks.
    #[must_use]
    pub const fn blocks(&self) -> u32 {
        self.blocks
    }

    /// Returns ZL, the number of blocks that have one symbol more than the others; zero when all
    /// blocks are alike.
    #[must_use]
    pub const fn larger_blocks(&self) -> u32 {
        self.larger_blocks
    }

    /// Returns KL, the number of source symbols of the largest block.
    #[must_use]
    pub const fn largest(&self) -> u32 {
        self.larger_symbols
    }

    /// Returns KS, the number of source symbols of the smallest block.
    #[must_use]
    pub const fn smallest(&self) -> u32 {
        self.smaller_symbols
    }

    /// Returns K of block `sbn`, or `None` when the object has no such block.
    #[must_use]
    pub const fn symbols_of(&self, sbn: Sbn) -> Option<u32> {
        if sbn.0 >= self.blocks {
            None
        } else if sbn.0 < self.larger_blocks {
            Some(self.larger_symbols)
        } else {
            Some(self.smaller_symbols)
        }
    }

    /// Returns how many source symbols of the object precede block `sbn`.
    #[must_use]
    pub fn first_symbol(&self, sbn: Sbn) -> Option<u64> {
        (sbn.0 < self.blocks).then(|| {
            u64::from(sbn.0) * u64::from(self.smaller_symbols)
                + u64::from(sbn.0.min(self.larger_blocks))
        })
    }

    /// Returns the number of source symbols of the object.
    #[must_use]
    pub fn total_symbols(&self) -> u64 {
        u64::from(self.blocks) * u64::from(self.smaller_symbols) + u64::from(self.larger_blocks)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // test: rfc6330 4.4.1.2
    #[test]
    fn thirteen_symbols_in_two_blocks_are_seven_and_six() {
        let partition = Partition::new(13, 2).unwrap();
        assert_eq!((partition.larger_blocks(), partition.largest()), (1, 7));
        assert_eq!(partition.symbols_of(Sbn(0)), Some(7));
        assert_eq!(partition.symbols_of(Sbn(1)), Some(6));
        assert_eq!(partition.symbols_of(Sbn(2)), None);
        assert_eq!(partition.first_symbol(Sbn(1)), Some(7));
        assert_eq!(partition.first_symbol(Sbn(2)), None);
    }

    #[test]
    fn equal_blocks_count_as_small_ones() {
        let partition = Partition::new(12, 4).unwrap();
        assert_eq!((partition.larger_blocks(), partition.largest()), (0, 3));
        assert_eq!(partition.smallest(), 3);
    }

    #[test]
    fn an_object_without_blocks_has_no_partition() {
        assert_eq!(Partition::new(5, 0), None);
        assert_eq!(Partition::new(1 << 32, 1), None);
        assert!(Partition::new((1 << 32) - 1, 1).is_some());
    }

    proptest! {
        #[test]
        fn blocks_follow_each_other_without_gap(symbols in 0_u64..1_000_000, blocks in 1_u32..300) {
            let partition = Partition::new(symbols, blocks).unwrap();
            let mut next = 0;
            for sbn in (0..blocks).map(Sbn) {
                prop_assert_eq!(partition.first_symbol(sbn), Some(next));
                next += u64::from(partition.symbols_of(sbn).unwrap());
            }
            prop_assert_eq!(next, symbols);
            prop_assert_eq!(partition.total_symbols(), symbols);
        }
    }
}
