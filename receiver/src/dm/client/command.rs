//! Commands that a message of the client holds.

use proto::dm::{
    code::AlertCode,
    fumo::UpdateRequest,
    large::Chunker,
    syncml::{Alert, Command, CommandId, Item, Manage, Results, Status},
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

impl OutboundCommand {
    /// Returns the command as it stands in a message; `object` is the management object of final
    /// alerts.
    pub(super) fn to_command(&self, id: CommandId, object: &str) -> Command {
        match self {
            Self::Status(status) => Command::Status(Status { id, ..status.clone() }),
            Self::Results(results) | Self::Large(results, _) => {
                Command::Results(Results { id, ..results.clone() })
            }
            Self::Alert(code) => {
                Command::Alert(Alert { id, code: *code, correlator: None, items: Vec::new() })
            }
            Self::NoEndOfData(item) => Command::Alert(Alert {
                id,
                code: AlertCode::NO_END_OF_DATA,
                correlator: None,
                items: vec![item.clone()],
            }),
            Self::DeviceInfo(items) => Command::Replace(Manage::new(id, items.clone())),
            Self::Request(request) => Command::Alert(request.to_alert(id)),
            // spec: oma-000 8.2.5, oma-001 8.1.1.14, oma-001 8.1.2.24 (the result as Generic Alert)
            Self::Final(alert) => Command::Alert(alert.to_alert(id, object)),
        }
    }
}
