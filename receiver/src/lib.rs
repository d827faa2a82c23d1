//! The device agent: receives images by FLUTE, manages updates by OMA DM.
//!
//! ```text
//! datagram ─► agent ─► flute: object ─► store ─► decode ─► image ─► update: installer
//!               ▲             │ leaf_tables, unverified: the hash that each symbol must have
//! DM message ─► dm ───────────┘ update: acceptance of the campaign that arms the device
//! ```
//!
//! | module | holds |
//! | --- | --- |
//! | [`agent`] | the core: every input, every effect, in one order |
//! | [`flute`] | reception: windows, packets, verified symbols, decoded blocks, counters |
//! | [`store`] | the symbol store and the journal: all that survives a power cut |
//! | [`update`] | acceptance of campaigns, standing consent, the hand-off contract |
//! | [`suspension`] | suspend reasons, the environment, the suspend policy |
//! | [`user`] | prompts, their answers, and the contract of the user hook |
//! | [`trust`] | the root in force and the history that documents are held against |
//! | [`components`] | software components: announced, delivered, installed |
//! | [`dm`] | the DM session, the management tree, reports |
//! | [`bootstrap`] | the bootstrap of the DM account |
//! | [`unsigned`] | files of unsigned FLUTE sessions, for labs |
//! | [`rng`] | pseudo-random numbers from a seed |
//! | [`config`], [`cli`] | the configuration and the command line |
//! | [`shell`] | sockets, files, clocks, threads |

pub mod agent;
pub mod bootstrap;
pub mod cli;
pub mod components;
pub mod config;
pub mod dm;
pub mod flute;
pub mod rng;
pub mod shell;
pub mod store;
pub mod suspension;
pub mod trust;
pub mod unsigned;
pub mod update;
pub mod user;
