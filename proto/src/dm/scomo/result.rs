//! Result codes of final alerts: those of SCOMO 1.0 and ours in the vendor ranges.

use serde::{Deserialize, Serialize};

use super::operation::Operation;
use crate::dm::{alert::Mark, code::named_codes, fumo};

/// The number in the `ResultCode` of a final alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ResultCode(pub u16);

// spec: oma-dm 12.1 (result codes)
named_codes! {
    ResultCode as "result code" {
        SUCCESS = 1200, "done";
        CLIENT_ERROR = 1400, "device or user error";
        USER_CANCELLED = 1401, "cancelled by the user";
        DOWNLOAD_FAILED = 1402, "the download failed";
        DOWNLOAD_AUTHENTICATION = 1403, "the download server refused the credentials";
        NO_ROOM_TO_DOWNLOAD = 1404, "no room for the download";
        INSTALL_FAILED = 1405, "the installation failed";
        NO_ROOM_TO_INSTALL = 1406, "no room for the installation";
        INVALID_PACKAGE = 1407, "the package is not what was signed, or nobody signed it";
        REMOVE_FAILED = 1408, "the removal failed";
        ACTIVATE_FAILED = 1409, "the activation failed";
        DEACTIVATE_FAILED = 1410, "the deactivation failed";
        NOT_IMPLEMENTED = 1411, "the device does not implement this";
        UNDEFINED = 1412, "undefined error";
        ENVIRONMENT = 1413, "the package is for other devices";
        DOWNLOAD_SERVER_ERROR = 1500, "error of the download server";
        DOWNLOAD_UNAVAILABLE = 1501, "the download server is unavailable";
    }
}

impl ResultCode {
    /// Returns the code for an outcome that is given as a FUMO result code, which is finer. The
    /// vendor's ranges are the same in both families, a thousand apart.
    #[must_use]
    pub const fn of(operation: Operation, outcome: fumo::ResultCode) -> Self {
        use fumo::ResultCode as Firmware;
        match outcome {
            Firmware::SUCCESS => Self::SUCCESS,
            Firmware::USER_CANCELLED => Self::USER_CANCELLED,
            Firmware::CORRUPTED | Firmware::BAD_SIGNATURE | Firmware::NOT_ACCEPTABLE => {
                Self::INVALID_PACKAGE
            }
            Firmware::MISMATCH => Self::ENVIRONMENT,
            Firmware::DOWNLOAD_AUTHENTICATION => Self::DOWNLOAD_AUTHENTICATION,
            Firmware::DOWNLOAD_TIMEOUT | Firmware::BAD_URL | Firmware::NETWORK => {
                Self::DOWNLOAD_FAILED
            }
            Firmware::NOT_IMPLEMENTED => Self::NOT_IMPLEMENTED,
            Firmware::UPDATE_FAILED => Self::failure_of(operation),
            Firmware::DOWNLOAD_UNAVAILABLE => Self::DOWNLOAD_UNAVAILABLE,
            Firmware::DOWNLOAD_SERVER_ERROR => Self::DOWNLOAD_SERVER_ERROR,
            Firmware::NO_ROOM_TO_DOWNLOAD => Self::NO_ROOM_TO_DOWNLOAD,
            Firmware::NO_ROOM_TO_UPDATE => Self::NO_ROOM_TO_INSTALL,
            fumo::ResultCode(vendor @ (250..300 | 450..500 | 550..600)) => Self(vendor + 1000),
            Firmware::CLIENT_ERROR => Self::CLIENT_ERROR,
            _ => Self::UNDEFINED,
        }
    }

    const fn failure_of(operation: Operation) -> Self {
        match operation {
            Operation::Download => Self::DOWNLOAD_FAILED,
            Operation::DownloadInstall
            | Operation::DownloadInstallInactive
            | Operation::Install
            | Operation::InstallInactive => Self::INSTALL_FAILED,
            Operation::RemovePackage | Operation::Remove => Self::REMOVE_FAILED,
            Operation::Activate => Self::ACTIVATE_FAILED,
            Operation::Deactivate => Self::DEACTIVATE_FAILED,
        }
    }

    /// Returns the same result as a FUMO code, or the general one of its class. A campaign counts
    /// results of either kind by it.
    #[must_use]
    pub const fn to_firmware(self) -> fumo::ResultCode {
        use fumo::ResultCode as Firmware;
        match self {
            Self::SUCCESS => Firmware::SUCCESS,
            Self::CLIENT_ERROR => Firmware::CLIENT_ERROR,
            Self::USER_CANCELLED => Firmware::USER_CANCELLED,
            Self::DOWNLOAD_FAILED => Firmware::NETWORK,
            Self::DOWNLOAD_AUTHENTICATION => Firmware::DOWNLOAD_AUTHENTICATION,
            Self::NO_ROOM_TO_DOWNLOAD => Firmware::NO_ROOM_TO_DOWNLOAD,
            Self::INSTALL_FAILED
            | Self::REMOVE_FAILED
            | Self::ACTIVATE_FAILED
            | Self::DEACTIVATE_FAILED => Firmware::UPDATE_FAILED,
            Self::NO_ROOM_TO_INSTALL => Firmware::NO_ROOM_TO_UPDATE,
            Self::INVALID_PACKAGE => Firmware::BAD_SIGNATURE,
            Self::NOT_IMPLEMENTED => Firmware::NOT_IMPLEMENTED,
            Self::ENVIRONMENT => Firmware::MISMATCH,
            Self::DOWNLOAD_SERVER_ERROR => Firmware::DOWNLOAD_SERVER_ERROR,
            Self::DOWNLOAD_UNAVAILABLE => Firmware::DOWNLOAD_UNAVAILABLE,
            Self(vendor @ (1250..1300 | 1450..1500 | 1550..1600)) => {
                fumo::ResultCode(vendor - 1000)
            }
            _ => Firmware::UNDEFINED,
        }
    }

    /// Returns whether the operation did what it should (1200..=1299).
    #[must_use]
    pub const fn is_success(self) -> bool {
        self.0 >= 1200 && self.0 < 1300
    }

    /// Returns the mark of the final alert: informational for success alone.
    #[must_use]
    pub const fn mark(self) -> Mark {
        if self.is_success() { Mark::Informational } else { Mark::Critical }
    }

    /// Returns the meaning of the code, for people.
    #[must_use]
    pub const fn text(self) -> &'static str {
        if let Some(text) = self.own_text() {
            return text;
        }
        match self.0 {
            1250..1300 | 1450..1500 | 1550..1600 => self.to_firmware().text(),
            _ => "a code that the standard does not know",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // test: oma-dm 12.1 (result codes)
    #[test]
    fn named_codes_are_those_of_the_standard_and_ascend() {
        let numbers: Vec<u16> = ResultCode::NAMED.iter().map(|code| code.0).collect();
        let wanted: Vec<u16> =
            std::iter::once(1200).chain(1400..=1413).chain(1500..=1501).collect();
        assert_eq!(numbers, wanted);
    }

    // test: oma-dm 12.1 (result codes)
    #[test]
    fn each_outcome_becomes_the_code_of_its_operation() {
        use Operation::{Activate, Deactivate, DownloadInstall, Install, Remove, RemovePackage};
        for (operation, outcome, code) in [
            (DownloadInstall, 200, 1200),
            (DownloadInstall, 250, 1250),
            (DownloadInstall, 401, 1401),
            (DownloadInstall, 402, 1407),
            (DownloadInstall, 403, 1413),
            (DownloadInstall, 404, 1407),
            (DownloadInstall, 410, 1405),
            (Operation::Download, 410, 1402),
            (Install, 410, 1405),
            (Remove, 410, 1408),
            (RemovePackage, 410, 1408),
            (Activate, 410, 1409),
            (Deactivate, 410, 1410),
            (DownloadInstall, 411, 1402),
            (DownloadInstall, 412, 1501),
            (DownloadInstall, 455, 1455),
            (DownloadInstall, 500, 1500),
            (DownloadInstall, 501, 1404),
            (DownloadInstall, 502, 1406),
            (DownloadInstall, 503, 1402),
            (DownloadInstall, 551, 1551),
            (DownloadInstall, 7, 1412),
        ] {
            let made = ResultCode::of(operation, fumo::ResultCode(outcome));
            assert_eq!(made, ResultCode(code), "{operation} {outcome}");
        }
    }

    #[test]
    fn no_outcome_changes_sides_between_the_families() {
        for outcome in fumo::ResultCode::NAMED {
            for operation in Operation::ALL {
                let code = ResultCode::of(operation, *outcome);
                assert_eq!(code.is_success(), outcome.is_success(), "{operation} {outcome}");
                assert_eq!(code.to_firmware().is_success(), outcome.is_success(), "{code}");
                assert_ne!(code.text(), ResultCode(1).text(), "{code}");
            }
        }
    }
}
