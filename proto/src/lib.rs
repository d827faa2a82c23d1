//! Data that crosses a boundary, as types: octets in, octets out, no clock, no socket, no file.
//!
//! | module | holds |
//! | --- | --- |
//! | [`wire`] | the cursor over untrusted octets and its error |
//! | [`words!`] | macro for enums with a text for each value |
//! | [`ids`], [`time`] | identifiers, UTC and monotonic times, as distinct types |
//! | [`peer`] | addresses of peers as they are counted |
//! | [`crypto`] | SHA-256, Ed25519, AES-256-GCM, random numbers, constant-time comparison |
//! | [`fec`] | FEC parameters, block partitioning, the codecs |
//! | [`flute`] | LCT, ALC and FDT: the packets on air |
//! | [`sap`] | announcements of sessions |
//! | [`sdp`] | session descriptions: the parameters for a receiver to join |
//! | [`pcap`] | packet captures, and the datagrams in them |
//! | [`dm`] | OMA DM: SyncML messages, authentication, alerts, bootstrap, FUMO, SCOMO |
//! | [`trust`] | signed documents, and the hash plan that authenticates packets |
//! | [`tune_in`] | the `fumocast:` URL and the window |
//! | [`control`] | messages between dm-bridge and carousel |
//! | `fixtures` | keys, documents and packets for tests, behind the feature `fixtures` |

pub mod control;
pub mod crypto;
pub mod dm;
pub mod fec;
#[cfg(any(test, feature = "fixtures"))]
pub mod fixtures;
pub mod flute;
pub mod ids;
pub mod pcap;
pub mod peer;
pub mod sap;
pub mod sdp;
pub mod time;
pub mod trust;
pub mod tune_in;
pub mod wire;

mod words;
