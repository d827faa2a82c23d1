//! Reception of one signed object: from open windows to decoded blocks.
//!
//! ```text
//! reception: tuner -> object -> leaf_tables, unverified -> store -> blocks -> decode
//! ```
//!
//! | module | holds |
//! | --- | --- |
//! | [`reception`] | the armed object, its channels and its decode progress |
//! | [`tuner`] | windows to joined channels |
//! | [`object`] | packets of the object to verified symbols, and the authentication scheme |
//! | [`leaf_tables`] | the hashes of the symbols, by segment |
//! | [`unverified`] | symbols whose table is not known yet |
//! | [`blocks`], [`decode`] | the order of decoding; decoding, off the network path |
//! | [`stats`] | counters of datagrams by outcome |

pub mod blocks;
pub mod decode;
pub mod leaf_tables;
pub mod object;
pub mod reception;
pub mod stats;
pub mod tuner;
pub mod unverified;
