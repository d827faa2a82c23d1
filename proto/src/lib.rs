//! Data that crosses a boundary, as types: bytes in, bytes out, no clock, no socket, no file.
//!
//! | module | holds |
//! | --- | --- |
//! | [`wire`] | the cursor over untrusted octets and its error |
//! | [`words!`] | enums whose values have words |
//! | [`ids`], [`time`] | identifiers and moments that cannot be mixed up |
//! | [`crypto`] | SHA-256, Ed25519, random numbers, constant-time comparison |
//! | [`fec`] | FEC parameters, block partitioning, the codecs |
//! | [`flute`] | LCT, ALC and FDT: what goes on air |
//! | [`sap`] | announcements of sessions |
//! | [`sdp`] | session descriptions: what a receiver must know to join |
//! | [`pcap`] | packet captures, and the datagrams in them |
//! | [`dm`] | SyncML, FUMO, alerts: what the management session says |
//! | [`trust`] | signed documents, and the hash plan that authenticates packets |
//! | [`tune_in`] | the `fumocast:` URL and the window |
//! | [`control`] | messages between dm-bridge and carousel |

pub mod control;
pub mod crypto;
pub mod dm;
pub mod fec;
pub mod flute;
pub mod ids;
pub mod pcap;
pub mod sap;
pub mod sdp;
pub mod time;
pub mod trust;
pub mod tune_in;
pub mod wire;

mod words;
