//! What the management session says: SyncML messages and the management objects they talk about.
//!
//! | module | holds |
//! | --- | --- |
//! | [`syncml`] | the model of one DM message: header, commands, items, meta |
//! | [`code`] | status codes, alert codes, formats |
//! | [`xml`] | the XML form: reader with limits, writer in DTD order |
//! | [`auth`] | `syncml:auth-md5`: credentials, challenges, nonces |
//! | [`alert`] | the items of a generic alert (1226) |
//! | [`uri`] | addresses of nodes in the management tree |
//! | [`nodes`] | names of the nodes of DevInfo, DevDetail, DMAcc and `Ext/Broadcast` |
//! | [`fumo`] | operations, states, phases and result codes of firmware updates |

pub mod alert;
pub mod auth;
pub mod code;
pub mod fumo;
pub mod nodes;
pub mod syncml;
pub mod uri;
pub mod xml;
