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
//! A packet of the armed object whose table is known, until its symbol is synced. The functions that
//! run meanwhile are in these 22 files. A packet with EXT_FTI also enters `proto::flute::ext` and
//! `proto::fec::oti`. Builds with debug assertions compare the kept gate and timers with their
//! sources.
//!
//! 1. [`shell::multicast::Channels::receive`] receives a batch of datagrams
//! 2. [`shell::event_loop::Shell::drive`] hands each datagram to the agent
//! 3. [`shell::clock::Clock::now`] returns the time of the turn
//! 4. [`agent::Agent::handle_datagram`] hands it to the reception
//! 5. [`flute::reception::Reception::handle_datagram`] checks channel, length, source and session
//! 6. [`proto::flute::alc::Packet::parse`] parses the packet
//! 7. [`proto::flute::lct::Header::parse`] parses its header and extensions
//! 8. [`proto::wire::Reader::take`] takes the octets of each field
//! 9. [`flute::object::Object::handle_packet`] finds the kind of the packet by its TOI
//! 10. [`proto::trust::plan::shape::PlanShape::index_of`] finds the place of the symbol in the plan
//! 11. [`flute::leaf_tables::LeafTables::leaf`] returns the hash that the symbol must have
//! 12. [`proto::trust::plan::hashes::leaf`] hashes the symbol, and the object compares
//! 13. [`proto::crypto::h16`] computes the hash
//! 14. [`store::log::SymbolLog::insert`] adds it to the group that is written next
//! 15. [`store::slots::SlotMap::take`] allocates its slot
//! 16. [`store::layout::ObjectLayout::emit_slot`] emits its record
//! 17. [`agent::Agent::poll_output`] polls the blocks and the effects
//! 18. [`flute::blocks::Blocks::next_decode`] finds no block with enough symbols
//! 19. [`agent::effects::EffectQueue::poll`] returns no earlier effect
//! 20. [`agent::Agent::deadline`] returns the time of the flush, unless the group is full before
//! 21. [`proto::time::Mono::since`] returns the time until then
//! 22. [`agent::Agent::handle_timeout`] flushes, and `poll_output` returns the write and the sync
//! 23. [`shell::storage::Worker::handle`] executes both in order, in the storage thread
//! 24. [`shell::objects::ObjectDirectory::flush`] returns once the log is synced
//! 25. [`shell::disk::DiskFile::sync_data`] syncs the file
//! 26. [`agent::Agent::handle_storage`] hands the completion to the reception
//! 27. [`flute::reception::Reception::handle_flushed`] drops it unless its object is armed
//! 28. [`store::log::SymbolLog::handle_flushed`] counts the symbol as synced
//!
//! [`shell::event_loop::Shell::drive`]: shell::event_loop
//! [`proto::trust::plan::shape::PlanShape::index_of`]: proto::trust::plan::PlanShape::index_of
//! [`proto::trust::plan::hashes::leaf`]: proto::trust::plan::leaf
//! [`store::slots::SlotMap::take`]: store
//! [`agent::effects::EffectQueue::poll`]: agent

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
pub mod url;
pub mod user;
