//! The `carousel` program.

fn main() {}
