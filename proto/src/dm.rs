//! OMA DM: SyncML messages and the management objects that they address.
//!
//! | module | holds |
//! | --- | --- |
//! | [`syncml`] | the model of one DM message: header, commands, items |
//! | [`identifier`] | identifiers of messages and commands, numbers or texts |
//! | [`meta`] | format, type and sizes of data |
//! | [`code`] | status codes, alert codes, formats |
//! | [`message`] | limits and errors of one message, in either form |
//! | [`encoding`] | reading and writing in one of the two forms |
//! | [`xml`], [`wbxml`] | the two forms |
//! | [`large`] | one item over several messages |
//! | [`auth`] | credentials, challenges, nonces |
//! | [`tnds`] | management trees as documents |
//! | [`bootstrap`] | the first account: documents and their proofs |
//! | [`notification`], [`push`] | package 0, the notification; its short message |
//! | [`alert`] | the items of a generic alert (1226) |
//! | [`ui`] | prompts to the user (alerts 1100 to 1104) and their answers |
//! | [`uri`] | addresses of nodes in the management tree |
//! | [`nodes`] | names of the nodes of DevInfo, DevDetail, DMAcc, FUMO, SCOMO and `Ext/Broadcast` |
//! | [`policy`] | the nodes of a device's policy that a server may set |
//! | [`descriptor`] | download descriptors (DL 1.0) and installation notifications |
//! | [`fumo`] | operations, states, phases and result codes of firmware updates |
//! | [`scomo`] | operations, states and result codes of software components |

pub mod alert;
pub mod auth;
pub mod bootstrap;
pub mod code;
pub mod descriptor;
pub mod encoding;
pub mod fumo;
pub mod identifier;
pub mod large;
pub mod message;
pub mod meta;
pub mod nodes;
pub mod notification;
pub mod policy;
pub mod push;
pub mod scomo;
pub mod syncml;
pub mod tnds;
pub mod ui;
pub mod uri;
pub mod wbxml;
pub mod xml;
