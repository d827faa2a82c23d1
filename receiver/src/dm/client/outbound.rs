//! Commands that a message of the client holds.

use proto::dm::{
    code::AlertCode,
    fumo::UpdateRequest,
    large::Chunker,
    syncml::{Item, Results, Status},
};

use crate::dm::FinalAlert;

/// Upper bound of the octets of one status in a message.
pub(super) const MAX_STATUS_BYTES: usize = 512;

/// A command to send; its CmdID is assigned when its message is encoded.
#[derive(Debug, Clone)]
pub(super) enum OutboundCommand {
    Status(Status),
    Results(Results),
    /// Results with one large item, as far as it was not sent.
    Large(Results, Box<Chunker>),
    Alert(AlertCode),
    /// Alert 1225: the item's last chunk is missing.
    NoEndOfData(Item),
    DeviceInfo(Vec<Item>),
    Final(FinalAlert),
    /// An update request of the device or its user.
    Request(UpdateRequest),
}
