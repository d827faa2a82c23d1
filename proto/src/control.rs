//! Messages between dm-bridge and carousel: protobuf bodies of the control API.
//!
//! Operations are `POST` requests under [`PATH`]; every one is idempotent by campaign id and TSI.
//! The source of the types is `proto/schema/control.proto`.

pub use messages::*;

/// Path prefix of the operations `prepare`, `open`, `stop` and `status`.
pub const PATH: &str = "/control/v1";

/// Media type of bodies.
pub const CONTENT_TYPE: &str = "application/x-protobuf";

mod messages {
    include!("generated/control.rs");
}
