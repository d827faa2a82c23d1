//! What a device, or its user, asks the server for: the alerts of a client-initiated update.

use std::{fmt, str::FromStr};

use crate::{
    dm::{
        alert::{GenericAlert, Mark},
        code::{AlertCode, Format},
        syncml::{Alert, CommandId},
    },
    wire::WireError,
};

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Asker {
    /// The device by itself.
    Device,
    /// Its user, who is owed an answer that people can read.
    User,
}

impl Asker {
    const ALL: [Self; 2] = [Self::Device, Self::User];

    /// Returns the type of the alert.
    // spec: oma-004 6.1.2, oma-004 FWUPDATE-C-003 (alert types)
    #[must_use]
    pub const fn alert_type(self) -> &'static str {
        match self {
            Self::Device => "org.openmobilealliance.dm.firmwareupdate.devicerequest",
            Self::User => "org.openmobilealliance.dm.firmwareupdate.userrequest",
        }
    }

    /// Returns the word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::User => "user",
        }
    }
}

impl fmt::Display for Asker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Asker {
    type Err = WireError;

    fn from_str(word: &str) -> Result<Self, WireError> {
        Self::ALL
            .into_iter()
            .find(|asker| asker.as_str() == word)
            .ok_or_else(|| WireError::invalid("asker", word, "`device` or `user`"))
    }
}

/// Asks whether there is an update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateRequest {
    /// Who asks.
    pub asker: Asker,
    /// The firmware object that it is about; absent: all of the device.
    pub object: Option<String>,
    /// A text of the vendor's; no standard gives it a meaning.
    pub data: String,
}

impl UpdateRequest {
    /// Returns the Alert 1226. No Exec came before it, so it has no correlator.
    // spec: oma-004 6.1.1, oma-004 6.1.3, oma-004 6.1.4 (generic alert, URI, data)
    // spec: oma-004 FWUPDATE-C-002, oma-004 FWUPDATE-C-004, oma-004 FWUPDATE-C-005 (the same)
    #[must_use]
    pub fn to_alert(&self, id: CommandId) -> Alert {
        let item = GenericAlert {
            source: self.object.clone(),
            kind: self.asker.alert_type().to_owned(),
            format: Some(Format::Chr),
            mark: Mark::Informational,
            data: self.data.clone(),
        };
        Alert { id, code: AlertCode::GENERIC, correlator: None, items: vec![item.to_item()] }
    }

    /// Returns the request that a generic alert carries; `None` when it is of another kind.
    #[must_use]
    pub fn from_alert(alert: &GenericAlert) -> Option<Self> {
        let asker = Asker::ALL.into_iter().find(|asker| asker.alert_type() == alert.kind)?;
        Some(Self { asker, object: alert.source.clone(), data: alert.data.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // test: oma-004 6.1.1, oma-004 6.1.2, oma-004 6.1.3, oma-004 6.1.4
    // test: oma-004 FWUPDATE-C-002, oma-004 FWUPDATE-C-003
    // test: oma-004 FWUPDATE-C-004, oma-004 FWUPDATE-C-005
    #[test]
    fn a_request_is_a_generic_alert_of_its_type_with_or_without_an_object() {
        for (asker, kind) in [
            (Asker::Device, "org.openmobilealliance.dm.firmwareupdate.devicerequest"),
            (Asker::User, "org.openmobilealliance.dm.firmwareupdate.userrequest"),
        ] {
            for object in [None, Some("./FwUpdate/Main".to_owned())] {
                let request = UpdateRequest { asker, object, data: "menu".to_owned() };
                let alert = request.to_alert(CommandId(3));
                assert_eq!((alert.code, alert.correlator), (AlertCode::GENERIC, None));
                let [item] = alert.items.as_slice() else { panic!("one item") };
                let meta = item.meta.as_ref().unwrap();
                assert_eq!(meta.kind.as_deref(), Some(kind));
                assert_eq!(meta.format, Some(Format::Chr));
                assert_eq!(item.source_uri(), request.object.as_deref());
                assert_eq!(item.data_text(), Some("menu"));
                let read = GenericAlert::from_item(item).unwrap();
                assert_eq!(UpdateRequest::from_alert(&read), Some(request));
            }
            assert_eq!(asker.to_string().parse(), Ok(asker));
        }
        assert!("server".parse::<Asker>().is_err());
    }

    #[test]
    fn a_final_alert_is_no_request() {
        let alert = GenericAlert {
            source: None,
            kind: super::super::Operation::Update.alert_type().to_owned(),
            format: Some(Format::Int),
            mark: Mark::Informational,
            data: "200".to_owned(),
        };
        assert_eq!(UpdateRequest::from_alert(&alert), None);
    }
}
