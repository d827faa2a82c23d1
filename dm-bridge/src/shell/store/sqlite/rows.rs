//! Table rows and the types of the core, converted in both directions; one file a table.

pub(super) mod attempt;
pub(super) mod audit;
pub(super) mod campaign;
pub(super) mod device;

#[cfg(test)]
mod tests;
