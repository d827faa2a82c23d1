//! The user's standing consent: one prompt at enrolment, stored with the text of the question.
//!
//! It replaces the prompts before each update (see [`Consent`]): a yes answers them all, a no
//! rejects every update that it covers. It applies to the server that was current at enrolment.

use std::str::FromStr;

use proto::{dm::ui::Prompt, time::Utc, wire::WireError};
use serde::{Deserialize, Serialize};

use crate::user::{Consent, StandingConsent};

/// The stored answer of the user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The server whose updates it covers.
    pub server_id: String,
    /// The covered steps: `download`, `install` or `both`.
    pub about: String,
    /// The question.
    pub question: String,
    /// Set when the user agreed.
    pub agreed: bool,
    /// The time, in seconds since 1970.
    pub utc: u64,
}

impl Record {
    /// Returns the record of an answer.
    #[must_use]
    pub fn new(server_id: &str, about: Consent, agreed: bool, now: Utc) -> Self {
        Self {
            server_id: server_id.to_owned(),
            about: about.as_str().to_owned(),
            question: question(server_id, about).text,
            agreed,
            utc: now.seconds(),
        }
    }

    /// Parses a stored record.
    ///
    /// # Errors
    ///
    /// [`WireError`] when it is no record.
    pub fn parse(text: &str) -> Result<Self, WireError> {
        let wrong = |error: &dyn ToString| {
            WireError::invalid("consent", error.to_string(), "what `receiver consent` wrote")
        };
        let record: Self = serde_json::from_str(text).map_err(|error| wrong(&error))?;
        Consent::from_str(&record.about)?;
        Ok(record)
    }

    /// Returns the text to store.
    #[must_use]
    pub fn emit(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("a record is plain data");
        text.push('\n');
        text
    }

    /// Returns the standing consent to updates of a server.
    #[must_use]
    pub fn standing(&self, server_id: &str) -> StandingConsent {
        match self.about.parse() {
            Ok(about) if self.server_id == server_id && self.agreed => {
                StandingConsent::Given(about)
            }
            Ok(about) if self.server_id == server_id => StandingConsent::Refused(about),
            Ok(_) | Err(_) => StandingConsent::Open,
        }
    }
}

/// Returns the question. It names the consequences of a yes.
// spec: oma-003 6.1.4.9, oma-003 6.1.4.12 (implications, privacy and warranty)
#[must_use]
pub fn question(server_id: &str, about: Consent) -> Prompt {
    let steps = match about {
        Consent::None | Consent::Both => "download and install",
        Consent::Download => "download",
        Consent::Install => "install",
    };
    Prompt::confirm(format!(
        "May this device {steps} the updates of {server_id} without asking each time? The server \
         learns the device's model, its versions and how each update ends, and nothing else. Updates \
         are signed by the maker; your warranty stays."
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_good_for_its_server_and_its_steps() {
        let record =
            Record::new("server", Consent::Download, true, Utc::from_seconds(1_800_000_000));
        assert_eq!(Record::parse(&record.emit()), Ok(record.clone()));
        let standing = record.standing("server");
        assert_eq!(standing.answer(Consent::covers_download), Some(true));
        assert_eq!(standing.answer(Consent::covers_install), None);
        assert_eq!(record.standing("another"), StandingConsent::Open);
        let refused = Record { agreed: false, ..record };
        assert_eq!(refused.standing("server").answer(Consent::covers_download), Some(false));
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for text in [
            "",
            "{}",
            "[]",
            r#"{"server_id":"a","about":"all","question":"","agreed":true,"utc":1}"#,
        ] {
            assert!(Record::parse(text).is_err(), "{text}");
        }
    }

    // test: oma-003 6.1.4.9, oma-003 6.1.4.12
    #[test]
    fn the_prompt_at_enrolment_names_the_consequences_of_a_yes() {
        let text = question("server", Consent::Both).text;
        for word in ["download and install", "server", "learns", "warranty"] {
            assert!(text.contains(word), "{word}");
        }
    }
}
