//! FLUTE sessions: the sender core, its lifecycle, FDT instances and pacing.

pub mod fdt;
pub mod lifecycle;
pub mod pacing;
pub mod session;
