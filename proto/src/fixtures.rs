//! Fixtures of all packages' tests: keys and signed documents, broadcasts with all their packets.
//!
//! They stand behind the feature `fixtures`, which is a feature of dev-dependencies and of packages
//! that only test: no program is built with it.
//!
//! | module | holds |
//! | --- | --- |
//! | [`documents`] | keys, and the documents that they sign |
//! | [`broadcast`] | a signed broadcast: image, plan, packets |
//! | [`unsigned`] | an unsigned FLUTE session |
//! | [`golden`] | the golden unsigned session, spelled out |
//! | [`packet`] | packets and the symbols in them |
//! | [`device`] | a scripted DM client |

pub mod broadcast;
pub mod device;
pub mod documents;
pub mod golden;
pub mod packet;
pub mod unsigned;
