//! Result codes of final alerts: those of FUMO 1.0 and ours in the vendor ranges.

use serde::{Deserialize, Serialize};

use crate::dm::{alert::Mark, code::named_codes};

/// The number in the `Data` of a final alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ResultCode(pub u16);

named_codes! {
    ResultCode as "result code" {
        SUCCESS = 200, "updated";
        DEFERRED = 250, "received and held, installation deferred";
        UP_TO_DATE = 251, "already up to date";
        CLIENT_ERROR = 400, "device or user error";
        USER_CANCELLED = 401, "cancelled by the user";
        CORRUPTED = 402, "the received image does not have the signed digest";
        MISMATCH = 403, "the package is for other devices";
        BAD_SIGNATURE = 404, "a signature or its threshold is missing";
        NOT_ACCEPTABLE = 405, "the package is not acceptable";
        DOWNLOAD_AUTHENTICATION = 406, "the download server refused the credentials";
        DOWNLOAD_TIMEOUT = 407, "the download timed out";
        NOT_IMPLEMENTED = 408, "the device does not implement this";
        UNDEFINED = 409, "undefined error";
        UPDATE_FAILED = 410, "the installation failed";
        BAD_URL = 411, "malformed or unknown URL";
        DOWNLOAD_UNAVAILABLE = 412, "the download server is unavailable";
        MISSED = 450, "never tuned in: the window was missed";
        INCOMPLETE = 451, "incomplete after the last window and repair";
        WRONG_STATE = 452, "not possible in the device's state";
        DISARMED = 453, "disarmed or superseded";
        EXPIRED = 454, "the arming expired";
        REFUSED = 455, "refused: rollback, freeze, pin or limits";
        POLICY = 456, "refused by the device's policy";
        HAND_OFF_FAILED = 457, "the hand-off to the installer failed";
        DOWNLOAD_SERVER_ERROR = 500, "error of the download server";
        NO_ROOM_TO_DOWNLOAD = 501, "no room for the download";
        NO_ROOM_TO_UPDATE = 502, "no room for the installation";
        NETWORK = 503, "the network failed during the download";
        NOTHING_RECEIVED = 550, "tuned in, nothing received";
        SESSION_ENDED = 551, "the image server ended the session";
    }
}

impl ResultCode {
    /// Returns whether the operation did what it should (200..=299).
    #[must_use]
    pub const fn is_success(self) -> bool {
        self.0 >= 200 && self.0 < 300
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
            200..300 => "successful, by a code of the vendor",
            450..500 => "device error, by a code of the vendor",
            550..600 => "error of the image server, by a code of the vendor",
            _ => "a code that the standard does not know",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_codes_ascend_and_lie_where_fumo_allows_them() {
        assert!(ResultCode::NAMED.is_sorted());
        for code in ResultCode::NAMED {
            let number = code.0;
            let legal = matches!(number, 200 | 250..300 | 400..=412 | 450..=503 | 550..600);
            assert!(legal, "{number}");
            assert!(!code.text().contains("by a code of the vendor"), "{number}");
        }
    }

    #[test]
    fn a_code_is_read_with_its_surrounding_white_space() {
        assert_eq!(" 200\n".parse(), Ok(ResultCode::SUCCESS));
        for wrong in ["", "x", "-1", "65536", "2 00"] {
            assert!(wrong.parse::<ResultCode>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn unknown_codes_are_described_by_their_range() {
        assert_eq!(ResultCode(260).text(), "successful, by a code of the vendor");
        assert_eq!(ResultCode(599).text(), "error of the image server, by a code of the vendor");
        assert!(ResultCode(299).is_success() && !ResultCode(300).is_success());
    }
}
