//! The plan header: one No-Code symbol that the campaign pins by its hash.
//!
//! ```text
//!  0  "FCP1"     4  hash = 1     5  d     6  c     7  0
//!  8  object key (16)            24 OTI (12)
//! 36  R (4)     40  S (4)       44  Y (2)   46  Kseg (2)   48  Rt (2)   50  Tt (2)   52  zero (12)
//! 64  cap nodes, left to right
//! ```

use super::{
    hashes::plan_root,
    shape::{PlanParameters, PlanShape},
    tree::NodeTree,
};
use crate::{
    crypto::{Digest, Hash16},
    trust::campaign::PlannedObject,
    wire::{Reader, WireError, Writer},
};

/// Octets of a plan header at most: 64 and the largest cap.
pub const MAX_HEADER_BYTES: usize = 64 + 16 * 64;

/// The shape of a plan and the cap of its tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanHeader {
    shape: PlanShape,
    object_key: Hash16,
    cap: Vec<Hash16>,
}

impl PlanHeader {
    /// Makes the header of a plan that was built.
    ///
    /// `None` when the tree was built for another shape.
    #[must_use]
    pub fn new(shape: PlanShape, object_key: Hash16, tree: &NodeTree) -> Option<Self> {
        let cap = tree.cap().to_vec();
        (cap.len() == 1 << shape.cap_depth()).then_some(Self { shape, object_key, cap })
    }

    /// Reads the header that `object` pins.
    ///
    /// # Errors
    ///
    /// [`WireError`] that names the field: first when the hash is not the pinned one, then when a
    /// field disagrees with the object or with the others.
    pub fn parse(octets: &[u8], object: &PlannedObject) -> Result<Self, WireError> {
        let root = plan_root(octets);
        if root != object.plan_root {
            return Err(WireError::invalid("plan root", root, "the one that the campaign pins"));
        }
        Self::read(octets, object)
    }

    /// Reads the fields of a header that no campaign pins yet, for the maker of the campaign.
    ///
    /// # Errors
    ///
    /// [`WireError`] that names the field that disagrees with the object or with the others.
    pub fn read(octets: &[u8], object: &PlannedObject) -> Result<Self, WireError> {
        let mut reader = Reader::new(octets);
        let fixed: [u8; 5] = reader.array("plan header magic")?;
        if fixed != *b"FCP1\x01" {
            return Err(WireError::invalid("plan header", format!("{fixed:02x?}"), "FCP1, hash 1"));
        }
        let [depth, cap_depth, zero] = reader.array("plan header depths")?;
        let object_key = Hash16(reader.array("object key")?);
        let oti: [u8; 12] = reader.array("OTI")?;
        if object_key != object.object_key || oti != object.oti.octets() {
            return Err(WireError::invalid(
                "object key",
                object_key,
                "that of the campaign's object",
            ));
        }
        let repair_per_block = reader.u32("R")?;
        if repair_per_block != object.repair_per_block {
            return Err(WireError::invalid("R", repair_per_block, "that of the campaign's object"));
        }
        let segment_symbols = reader.u32("S")?;
        let segments = reader.u16("Y")?;
        let table_source = reader.u16("Kseg")?;
        let table_repair = reader.u16("Rt")?;
        let table_symbol_bytes = reader.u16("Tt")?;
        let zeros: [u8; 12] = reader.array("zero fields")?;
        if zero != 0 || zeros != [0; 12] {
            return Err(WireError::invalid("zero fields", "set", "zero"));
        }
        let shape = PlanShape::new(
            object.oti,
            PlanParameters { repair_per_block, segment_symbols, table_repair, table_symbol_bytes },
        )?;
        let derived = (u16::from(shape.segments()), shape.table_source_symbols());
        if (segments, table_source) != derived {
            return Err(WireError::invalid("Y and Kseg", segments, "as S, L and Tt give them"));
        }
        if (depth, cap_depth) != (shape.tree_depth(), shape.cap_depth()) {
            return Err(WireError::invalid("d and c", depth, "as M gives them"));
        }
        let (cap, tail) = reader.take_remaining().as_chunks::<16>();
        if cap.len() != 1 << cap_depth || !tail.is_empty() {
            return Err(WireError::invalid("cap", cap.len(), "2^c nodes"));
        }
        Ok(Self { shape, object_key, cap: cap.iter().map(|node| Hash16(*node)).collect() })
    }

    /// Returns the header as octets, at most [`MAX_HEADER_BYTES`].
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let parameters = self.shape.parameters();
        let mut out = Vec::with_capacity(MAX_HEADER_BYTES);
        let mut writer = Writer::new(&mut out);
        writer.bytes(b"FCP1").u8(1);
        writer.u8(self.shape.tree_depth()).u8(self.shape.cap_depth()).u8(0);
        writer.bytes(&self.object_key.0).bytes(&self.shape.oti().octets());
        writer.u32(parameters.repair_per_block).u32(parameters.segment_symbols);
        writer.u16(self.shape.segments().into()).u16(self.shape.table_source_symbols());
        writer.u16(parameters.table_repair).u16(parameters.table_symbol_bytes).zeros(12);
        for node in &self.cap {
            writer.bytes(&node.0);
        }
        out
    }

    /// Returns the hash that a campaign pins.
    #[must_use]
    pub fn root(&self) -> Digest {
        plan_root(&self.emit())
    }

    /// Returns the position of each symbol in the plan.
    #[must_use]
    pub const fn shape(&self) -> &PlanShape {
        &self.shape
    }

    /// Returns the key that leaves and nodes are hashed with.
    #[must_use]
    pub const fn object_key(&self) -> &Hash16 {
        &self.object_key
    }

    /// Returns the 2^c nodes of the cap, left to right.
    #[must_use]
    pub fn cap(&self) -> &[Hash16] {
        &self.cap
    }
}
