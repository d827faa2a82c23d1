//! At the wire, against the crate `flute`: an unrelated FLUTE sender and receiver;
//! and our packets in other parsers.
//!
//! | module | holds |
//! | --- | --- |
//! | `ours_to_theirs` | a campaign that the carousel puts on air, received as plain files |
//! | `plain_to_theirs` | unsigned sessions in both profiles |
//! | `plain_to_ours` | any unsigned session, from the carousel's core to the receiver's |
//! | `theirs_to_ours` | what their sender puts on air, read by `proto::flute` and `proto::fec` |
//! | `golden` | the golden session, octet for octet, through their receiver |
//! | `sockets` | our programs and theirs on one wire, in network namespaces |
//! | `tshark` | our packets as Wireshark's dissectors read them |
//! | `xsd` | our tables against the schema of RFC 6726 |
//! | `peer` | their receiver and sender, with our names |
//! | `collector` | the least receiver that `proto` can make: no store, no trust |
//! | `plain_air` | unsigned sessions of the carousel's core, from files in memory |
//! | `disk` | the receiver's core for unsigned sessions, on a disk in memory |
//! | `air` | loss, reordering, duplicates, all seeded |
//!
//! The peer uses the crate `raptorq` as we do, so nothing here proves the codec; the vectors of an
//! unrelated codec in `proto::fec` do.

#[cfg(test)]
mod air;
#[cfg(test)]
mod collector;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod ours_to_theirs;
#[cfg(test)]
mod peer;
#[cfg(test)]
mod plain_air;
#[cfg(test)]
mod plain_to_ours;
#[cfg(test)]
mod plain_to_theirs;
#[cfg(test)]
mod sockets;
#[cfg(test)]
mod theirs_to_ours;
#[cfg(test)]
mod tshark;
#[cfg(test)]
mod xsd;
