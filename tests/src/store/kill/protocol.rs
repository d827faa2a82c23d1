//! The protocol between the test and its child.

/// First word of the arguments that make the program the child.
pub const CHILD: &str = "child";
/// Line of a child whose storage has reserved its space.
pub(super) const READY: &str = "ready";
/// Line of a child that has finished the image.
pub(super) const FINISHED: &str = "finished";
/// Octets before the symbol in a slot.
pub(super) const SLOT_HEAD: u64 = 32;
