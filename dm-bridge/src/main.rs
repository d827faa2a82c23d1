//! The `dm-bridge` program.

fn main() {}
