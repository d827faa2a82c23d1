//! The management server: enrolment, arming, campaigns, results.
//!
//! | module | holds |
//! | --- | --- |
//! | [`dm`] | OMA DM sessions as a core |
//! | [`arming`] | from a campaign to commands, from a final alert to a result |
//! | [`campaign`] | signed documents, windows, and the next steps |
//! | [`random`] | random octets and correlators |
//! | [`fleet`] | devices and attempts, and the interface of their store |
//! | [`notification`] | package 0 and its repetitions |
//! | [`app`] | one function for each operation |
//! | [`api`], [`cli`] | the interfaces of operators |
//! | [`shell`] | sockets, files, clocks and tasks |
//!
//! # The way of a DM message
//!
//! An ordinary message inside a session, in WBXML: it answers the writes of one step of arming and
//! gets the commands of the next. It changes no row; functions of 18 files run. With an audit note
//! to store they are 24, with the row of a device and the begin of arming 37.
//!
//! 1. [`shell::http::dm::post`] receives the request
//! 2. [`proto::dm::encoding::Encoding::parse`] parses the body within the limits
//! 3. [`proto::dm::wbxml::parse`] reads the WBXML form
//! 4. [`proto::wire::Reader::take`] bounds each token
//! 5. [`proto::dm::encoding::read::message`] makes a message of the elements
//! 6. [`proto::dm::syncml::Verb::from_name`] names the command that a Status answers
//! 7. [`proto::ids::DeviceId::from_str`] validates the device id
//! 8. [`app::message_handler::SessionTable::admit`] admits one more message
//! 9. [`app::message_handler::DeviceSession::handle`] has the rows of the device and its session
//! 10. [`proto::crypto::sha256`] recognises a repetition
//! 11. [`proto::time::Utc::since`] expires the cached rows
//! 12. [`dm::session::DmSession::proceed`] verifies that the message continues the session
//! 13. [`dm::session::AuthenticatedMessage::respond`] makes the reply
//! 14. [`dm::session::DmSession::handle_commands`] routes each command to its owner
//! 15. [`dm::server_auth::ServerAuth::on_accepted`] handles the Status of our header
//! 16. [`dm::outbox::Outbox::on_status`] finds the command that a Status answers
//! 17. [`dm::arming_sequence::ArmingSequence::on_write_status`] marks the write as done
//! 18. [`dm::session::DmSession::next_package`] begins our next package
//! 19. [`dm::arming_sequence::ArmingSequence::next`] returns the commands of the next step
//! 20. [`dm::outbox::Outbox::pack`] packs them up to the device's message size
//! 21. [`dm::message::MessageBuilder::push_group`] numbers them
//! 22. [`dm::message::InboundMessage::encode`] encodes the reply
//! 23. [`proto::dm::encoding::write::message`] writes its elements in the order of the DTD
//! 24. [`proto::dm::code::Format::as_word`] names the format of a value
//! 25. [`app::message_handler::store_changes`] stores what has changed
//! 26. [`dm::context::changes_since`] compares the rows
//! 27. [`shell::http::dm::response_to`] maps the outcome to a response
//!
//! # The way of a change
//!
//! A message that changes a row or leaves an audit note is stored before it is answered.
//!
//! 1. [`shell::store::sqlite::SqliteStore::apply`] takes the changes and their audit line
//! 2. [`shell::store::sqlite::writer::optimistic_batch`] writes all that wait in one transaction
//! 3. [`shell::store::sqlite::sealing::is_fresh`] finds secrets that are to be sealed
//! 4. [`fleet::device::StoredSecret::is_stored`] knows whether the store has one
//! 5. [`shell::store::sqlite::rows::device::update_devices`] writes the devices
//! 6. [`shell::store::sqlite::table::BatchTexts::of`] has the statement for their number
//! 7. [`shell::store::sqlite::columns::int`] converts numbers
//! 8. [`fleet::audit::AuditLine::after`] seals the line with the one before
//! 9. [`shell::store::sqlite::rows::audit::append`] appends it, and the batch is committed
//!
//! # What it decides
//!
//! Signed documents decide what may be installed; this server decides which devices are armed, and
//! when. It holds no key that could sign software.
//!
//! [`dm::arming_sequence::ArmingSequence::next`]: dm/arming_sequence/struct.ArmingSequence.html#method.next
//! [`dm::arming_sequence::ArmingSequence::on_write_status`]: dm/arming_sequence/struct.ArmingSequence.html#method.on_write_status
//! [`dm::message::MessageBuilder::push_group`]: dm/message/struct.MessageBuilder.html#method.push_group
//! [`dm::message::InboundMessage::encode`]: dm/message/struct.InboundMessage.html#method.encode
//! [`dm::outbox::Outbox::on_status`]: dm/outbox/struct.Outbox.html#method.on_status
//! [`dm::outbox::Outbox::pack`]: dm/outbox/struct.Outbox.html#method.pack
//! [`dm::server_auth::ServerAuth::on_accepted`]: dm/server_auth/struct.ServerAuth.html#method.on_accepted
//! [`proto::dm::encoding::read::message`]: ../proto/dm/encoding/read/fn.message.html
//! [`proto::dm::encoding::write::message`]: ../proto/dm/encoding/write/fn.message.html
//! [`shell::http::dm::post`]: shell/http/dm/fn.post.html
//! [`shell::http::dm::response_to`]: shell/http/dm/fn.response_to.html
//! [`shell::store::sqlite::columns::int`]: shell/store/sqlite/columns/fn.int.html
//! [`shell::store::sqlite::rows::audit::append`]: shell/store/sqlite/rows/audit/fn.append.html
//! [`shell::store::sqlite::rows::device::update_devices`]: shell/store/sqlite/rows/device/fn.update_devices.html
//! [`shell::store::sqlite::sealing::is_fresh`]: shell/store/sqlite/sealing/fn.is_fresh.html
//! [`shell::store::sqlite::table::BatchTexts::of`]: shell/store/sqlite/table/struct.BatchTexts.html#method.of
//! [`shell::store::sqlite::writer::optimistic_batch`]: shell/store/sqlite/writer/fn.optimistic_batch.html

pub mod api;
pub mod app;
pub mod arming;
pub mod campaign;
pub mod cli;
pub mod dm;
pub mod fleet;
pub mod notification;
pub mod random;
pub mod shell;

// Traits whose methods the docs above link to.
#[cfg(doc)]
use self::fleet::store::FleetStore as _;
#[cfg(doc)]
use std::str::FromStr as _;
