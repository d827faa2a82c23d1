//! Firmware updates by FUMO 1.0: operations, states, result codes, final alerts, and the finer
//! phases of a device that receives a broadcast.

use serde::{Deserialize, Serialize};

use super::{
    alert::GenericAlert,
    code::{AlertCode, Format},
    nodes,
    syncml::{Alert, CommandId},
};
use crate::{ids::Correlator, wire::WireError};

mod package_prefix;
mod request;
mod result;

pub use package_prefix::PackagePrefix;
pub use request::{UpdateInitiator, UpdateRequest};
pub use result::ResultCode;

crate::words! {
    /// An operation that an Exec starts, by the word of people, journals and the API.
    #[derive(Serialize, Deserialize)]
    pub enum Operation: "operation", serde {
        /// Download only.
        Download = "download",
        /// Installation of what was downloaded.
        Update = "update",
        /// Download, and installation as soon as practical.
        DownloadAndUpdate = "download-and-update",
    }
}

impl Operation {
    /// Returns the node below the FUMO object whose Exec starts the operation.
    #[must_use]
    pub const fn node(self) -> &'static str {
        match self {
            Self::Download => nodes::fumo::DOWNLOAD,
            Self::Update => nodes::fumo::UPDATE,
            Self::DownloadAndUpdate => nodes::fumo::DOWNLOAD_AND_UPDATE,
        }
    }

    /// Returns the type of the final alert.
    #[must_use]
    pub const fn alert_type(self) -> &'static str {
        match self {
            Self::Download => "org.openmobilealliance.dm.firmwareupdate.download",
            Self::Update => "org.openmobilealliance.dm.firmwareupdate.update",
            Self::DownloadAndUpdate => "org.openmobilealliance.dm.firmwareupdate.downloadandupdate",
        }
    }

    /// Returns the operation whose final alert this is.
    #[must_use]
    pub fn of_alert(alert: &GenericAlert) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| alert.is_of(operation.alert_type()))
    }
}

/// The end of an operation, as one item of an Alert 1226 carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationResult {
    /// The address of the FUMO object.
    pub object: Option<String>,
    /// The operation.
    pub operation: Operation,
    /// Its result.
    pub result: ResultCode,
    /// The correlator of the Exec; absent if and only if the Exec had none.
    pub correlator: Option<Correlator>,
}

impl OperationResult {
    /// Returns the Alert 1226.
    #[must_use]
    pub fn to_alert(&self, id: CommandId) -> Alert {
        let item = GenericAlert {
            source: self.object.clone(),
            kind: self.operation.alert_type().to_owned(),
            format: Some(Format::Int),
            mark: self.result.mark(),
            data: self.result.to_string(),
        };
        // spec: oma-dm 11 (correlator)
        Alert {
            id,
            code: AlertCode::GENERIC,
            correlator: self.correlator.clone(),
            items: vec![item.to_item()],
        }
    }

    /// Returns the operation result that a generic alert carries; `None` when the alert is of
    /// another kind.
    ///
    /// # Errors
    ///
    /// [`WireError::Invalid`] when the kind is right and the result code is no number.
    pub fn from_alert(
        alert: &GenericAlert,
        correlator: Option<&Correlator>,
    ) -> Result<Option<Self>, WireError> {
        let Some(operation) = Operation::of_alert(alert) else { return Ok(None) };
        Ok(Some(Self {
            object: alert.source.clone(),
            operation,
            result: code_of(&alert.data).parse()?,
            correlator: correlator.cloned(),
        }))
    }
}

/// Returns the result code in the data of a final alert; some clients write its text after it, as in
/// the notification of a download.
fn code_of(data: &str) -> &str {
    let described = data.trim().split_once(char::is_whitespace);
    described.filter(|(_, text)| text.starts_with(char::is_alphabetic)).map_or(data, |it| it.0)
}

/// The number in the `State` node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "u16", try_from = "u16")]
#[repr(u16)]
pub enum State {
    /// No operation is in progress, or the device is armed.
    Idle = 10,
    /// The download failed.
    DownloadFailed = 20,
    /// The download is in progress.
    Downloading = 30,
    /// The download is complete.
    Downloaded = 40,
    /// The package is checked and may be installed.
    ReadyToUpdate = 50,
    /// The installation is in progress.
    Updating = 60,
    /// The installation failed, the package is still there.
    UpdateFailedDataHeld = 70,
    /// The installation failed, the package is gone.
    UpdateFailed = 80,
    /// The installation succeeded, the package is still there.
    UpdatedDataHeld = 90,
    /// The installation succeeded, the package is gone.
    Updated = 100,
}

impl State {
    const ALL: [Self; 10] = [
        Self::Idle,
        Self::DownloadFailed,
        Self::Downloading,
        Self::Downloaded,
        Self::ReadyToUpdate,
        Self::Updating,
        Self::UpdateFailedDataHeld,
        Self::UpdateFailed,
        Self::UpdatedDataHeld,
        Self::Updated,
    ];

    /// Returns the number.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }
}

impl From<State> for u16 {
    fn from(state: State) -> Self {
        state.number()
    }
}

impl TryFrom<u16> for State {
    type Error = WireError;

    fn try_from(number: u16) -> Result<Self, WireError> {
        Self::ALL
            .into_iter()
            .find(|state| state.number() == number)
            .ok_or_else(|| WireError::invalid("State", number, "10, 20, … 100"))
    }
}

/// The state of a package's data on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackageData {
    /// The device stores it.
    Stored,
    /// It was deleted.
    Deleted,
}

crate::words! {
    /// The phase of a device in an update, by the word of nodes, API and lab.
    #[derive(Serialize, Deserialize)]
    pub enum Phase: "phase", serde {
        /// No operation is in progress.
        Idle = "idle",
        /// Armed for a campaign; its window is not open yet.
        Armed = "armed",
        /// Tuned in.
        Receiving = "receiving",
        /// Tuned out with a reason; reception resumes when the reason is gone.
        Suspended = "suspended",
        /// Enough symbols for the whole image.
        Assembled = "assembled",
        /// The image on the medium has the signed digest.
        Verified = "verified",
        /// Verified; the installation is deferred.
        Deferred = "deferred",
        /// The installer has the image.
        HandedOver = "handed-over",
        /// The version read back is the expected one.
        Confirmed = "confirmed",
        /// The operation failed.
        Failed = "failed",
        /// The server has the result.
        Reported = "reported",
        /// The window passed without reception.
        Missed = "missed",
        /// The arming expired.
        Expired = "expired",
        /// The server disarmed the device.
        Disarmed = "disarmed",
        /// The device rejected the campaign.
        Refused = "refused",
        /// Symbols are missing after the last window and the repair.
        Incomplete = "incomplete",
    }
}

// spec: oma-002 3 (the state model: true phases, and the legal number that goes with each)
impl Phase {
    /// Returns the number that the `State` node shows in this phase.
    #[must_use]
    pub const fn state(self, data: PackageData) -> State {
        match (self, data) {
            (Self::Receiving | Self::Suspended, _) => State::Downloading,
            (Self::Assembled, _) => State::Downloaded,
            (Self::Verified | Self::Deferred, _) => State::ReadyToUpdate,
            (Self::HandedOver, _) => State::Updating,
            (Self::Confirmed, PackageData::Stored) => State::UpdatedDataHeld,
            (Self::Confirmed, PackageData::Deleted) => State::Updated,
            (Self::Failed, PackageData::Stored) => State::UpdateFailedDataHeld,
            (Self::Failed, PackageData::Deleted) => State::UpdateFailed,
            (Self::Incomplete | Self::Disarmed, PackageData::Stored) => State::DownloadFailed,
            (Self::Incomplete | Self::Disarmed, PackageData::Deleted)
            | (
                Self::Idle
                | Self::Armed
                | Self::Reported
                | Self::Missed
                | Self::Expired
                | Self::Refused,
                _,
            ) => State::Idle,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dm::{
        alert::Mark,
        syncml::{Item, Meta},
    };

    fn result() -> OperationResult {
        OperationResult {
            object: Some("./FwUpdate/Main".to_owned()),
            operation: Operation::DownloadAndUpdate,
            result: ResultCode::CORRUPTED,
            correlator: Some(Correlator("c-1".to_owned())),
        }
    }

    #[test]
    fn a_result_survives_its_alert() {
        let alert = result().to_alert(CommandId::new(3));
        assert_eq!((alert.code, alert.id), (AlertCode::GENERIC, CommandId::new(3)));
        let item = GenericAlert::from_item(&alert.items[0]).unwrap();
        assert_eq!(item.mark, Mark::Critical);
        assert_eq!(
            OperationResult::from_alert(&item, alert.correlator.as_ref()),
            Ok(Some(result()))
        );
    }

    // test: oma-dm 11
    #[test]
    fn an_exec_without_correlator_gets_an_alert_without_one() {
        let alert = OperationResult { correlator: None, ..result() }.to_alert(CommandId::new(1));
        assert_eq!(alert.correlator, None);
    }

    #[test]
    fn foreign_alerts_are_left_alone_and_a_result_that_is_no_number_is_refused() {
        let mut item =
            GenericAlert::from_item(&result().to_alert(CommandId::new(1)).items[0]).unwrap();
        item.data = "fine".to_owned();
        assert!(OperationResult::from_alert(&item, None).is_err());
        item.kind = "org.example".to_owned();
        assert_eq!(OperationResult::from_alert(&item, None), Ok(None));
    }

    // test: oma-002 3 (the state model)
    #[test]
    fn phases_show_the_states_of_the_design() {
        use PackageData::{Deleted, Stored};
        for (phase, held, gone) in [
            (Phase::Idle, 10, 10),
            (Phase::Armed, 10, 10),
            (Phase::Missed, 10, 10),
            (Phase::Refused, 10, 10),
            (Phase::Expired, 10, 10),
            (Phase::Reported, 10, 10),
            (Phase::Receiving, 30, 30),
            (Phase::Suspended, 30, 30),
            (Phase::Assembled, 40, 40),
            (Phase::Verified, 50, 50),
            (Phase::Deferred, 50, 50),
            (Phase::HandedOver, 60, 60),
            (Phase::Confirmed, 90, 100),
            (Phase::Failed, 70, 80),
            (Phase::Incomplete, 20, 10),
            (Phase::Disarmed, 20, 10),
        ] {
            let states = (phase.state(Stored).number(), phase.state(Deleted).number());
            assert_eq!(states, (held, gone), "{phase}");
        }
        assert_eq!(Phase::ALL.len(), 16);
    }

    #[test]
    fn every_operation_reads_back_from_its_alert_and_every_state_from_its_number() {
        for operation in Operation::ALL {
            let kind = operation.alert_type().to_uppercase();
            let item = Item {
                meta: Some(Meta { kind: Some(kind), ..Meta::default() }),
                ..Item::default()
            };
            assert_eq!(
                Operation::of_alert(&GenericAlert::from_item(&item).unwrap()),
                Some(operation)
            );
        }
        for state in State::ALL {
            assert_eq!(State::try_from(state.number()), Ok(state));
        }
        assert!(State::try_from(250).is_err());
    }
}
