//! The Merkle tree over all table symbols, and the path that a table packet carries.

use super::{hashes::table_node, shape::PlanShape};
use crate::{
    crypto::{Hash16, h16},
    ids::{Esi, Sbn},
    wire::{Reader, WireError, Writer},
};

/// The tree, level by level from the nodes to the cap.
#[derive(Debug, Clone)]
pub struct NodeTree {
    /// `levels[0]` holds 2^d nodes, the last level the 2^c nodes of the cap.
    levels: Vec<Vec<Hash16>>,
}

impl NodeTree {
    /// Builds the tree over the M nodes of a plan, in the order of their indices.
    ///
    /// `None` when the number of nodes is not M.
    #[must_use]
    pub fn new(shape: &PlanShape, mut nodes: Vec<Hash16>) -> Option<Self> {
        if nodes.len() != usize::try_from(shape.table_symbols()).ok()? {
            return None;
        }
        nodes.resize(1 << shape.tree_depth(), Hash16([0; 16]));
        let mut levels = vec![nodes];
        for _ in 0..shape.proof_depth() {
            let below = levels.last()?;
            let above = below.as_chunks::<2>().0.iter().map(|[left, right]| parent(left, right));
            levels.push(above.collect());
        }
        Some(Self { levels })
    }

    /// Returns the 2^c nodes of the cap, left to right.
    #[must_use]
    pub fn cap(&self) -> &[Hash16] {
        self.levels.last().map_or(&[], Vec::as_slice)
    }

    /// Returns the d − c siblings of the node `index`, lowest first.
    pub fn path(&self, index: u32) -> impl Iterator<Item = Hash16> {
        let below_cap = self.levels.len().saturating_sub(1);
        self.levels.iter().take(below_cap).enumerate().filter_map(move |(level, nodes)| {
            let sibling = usize::try_from(index >> level).ok()? ^ 1;
            nodes.get(sibling).copied()
        })
    }
}

/// The proof of a table packet: the content of its EXT_AUTH after HET and HEL.
///
/// ```text
/// ASID = 1 (4 bits) type = 1 (4 bits) | depth | index m (4) | depth × 16 octets, lowest first
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableProof<'a> {
    index: u32,
    path: &'a [[u8; 16]],
}

impl<'a> TableProof<'a> {
    /// Reads the content of an EXT_AUTH.
    ///
    /// # Errors
    ///
    /// [`WireError`] for another scheme and for a length that does not fit the depth.
    pub fn parse(content: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(content);
        let scheme = reader.u8("EXT_AUTH scheme")?;
        if scheme != SCHEME {
            return Err(WireError::invalid("EXT_AUTH scheme", scheme, "ASID 1, type 1"));
        }
        let depth = reader.u8("EXT_AUTH depth")?;
        let index = reader.u32("EXT_AUTH index")?;
        let (path, tail) = reader.take_remaining().as_chunks::<16>();
        if path.len() != usize::from(depth) || !tail.is_empty() {
            return Err(WireError::invalid("EXT_AUTH depth", depth, "as many hashes as follow"));
        }
        Ok(Self { index, path })
    }

    /// Returns m, the index of the table symbol.
    #[must_use]
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// Returns whether `table_symbol` leads to the cap: depth + 1 hashes.
    #[must_use]
    pub fn leads_to(
        &self,
        cap: &[Hash16],
        object_key: &Hash16,
        segment: Sbn,
        esi: Esi,
        table_symbol: &[u8],
    ) -> bool {
        let mut current = table_node(object_key, segment, esi, table_symbol);
        for (level, sibling) in self.path.iter().enumerate() {
            let sibling = Hash16(*sibling);
            current = if self.index >> level & 1 == 0 {
                parent(&current, &sibling)
            } else {
                parent(&sibling, &current)
            };
        }
        let place = usize::try_from(self.index >> self.path.len()).ok();
        place.and_then(|place| cap.get(place)).is_some_and(|expected| *expected == current)
    }

    /// Returns the number of siblings, d − c.
    #[must_use]
    pub const fn depth(&self) -> usize {
        self.path.len()
    }

    /// Writes the content of the EXT_AUTH of table symbol `index`.
    ///
    /// # Panics
    ///
    /// Never: a tree is at most 32 levels deep.
    pub fn emit(tree: &NodeTree, index: u32, out: &mut Vec<u8>) {
        let path: Vec<_> = tree.path(index).collect();
        let depth = u8::try_from(path.len()).expect("a tree is at most 32 levels deep");
        let mut writer = Writer::new(out);
        writer.u8(SCHEME).u8(depth).u32(index);
        for sibling in path {
            writer.bytes(&sibling.0);
        }
    }
}

fn parent(left: &Hash16, right: &Hash16) -> Hash16 {
    h16(&[&[0x01], &left.0, &right.0])
}

/// ASID 1 in the upper half, type 1 in the lower.
const SCHEME: u8 = 0x11;
