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
//!
//! # The way of a data packet
//!
//! A packet of the armed object whose table is known, until its symbol is synced. The steps lie in
//! 14 files. Functions of others run meanwhile: each turn of the loop also asks every timer for the
//! next deadline (9 files), and values, slots, the disk and the clock are not listed.
//!
//! 1. [`shell::multicast::Channels::receive`] receives a batch of datagrams
//! 2. [`shell::event_loop::Shell::drive`] hands each datagram to the agent
//! 3. [`agent::Agent::handle_datagram`] hands it to the reception
//! 4. [`flute::reception::Reception::handle_datagram`] checks channel, length, source and session
//! 5. [`proto::flute::alc::Packet::parse`] parses the packet
//! 6. [`proto::flute::lct::Header::parse`] parses its header and extensions
//! 7. [`flute::object::Object::handle_packet`] finds the kind of the packet by its TOI
//! 8. [`proto::trust::plan::shape::PlanShape::index_of`] finds the place of the symbol in the plan
//! 9. [`flute::leaf_tables::LeafTables::leaf`] returns the hash that the symbol must have
//! 10. [`proto::trust::plan::hashes::leaf`] hashes the symbol, and the object compares
//! 11. [`store::log::SymbolLog::insert`] adds it to the group that is written next
//! 12. [`store::layout::ObjectLayout::emit_slot`] emits its record
//! 13. [`agent::Agent::poll_output`] returns the write of the group and the sync behind it
//! 14. [`shell::storage::Worker::handle`] executes both in order, in the storage thread
//! 15. [`shell::objects::ObjectDirectory::flush`] returns once the log is synced
//! 16. [`agent::Agent::handle_storage`] routes the completion to the reception
//! 17. [`flute::reception::Reception::handle_storage`] drops it unless its object is armed
//! 18. [`store::log::SymbolLog::handle_flushed`] counts the symbol as synced
//!
//! [`shell::event_loop::Shell::drive`]: shell::event_loop
//! [`proto::trust::plan::shape::PlanShape::index_of`]: proto::trust::plan::PlanShape::index_of
//! [`proto::trust::plan::hashes::leaf`]: proto::trust::plan::leaf

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
