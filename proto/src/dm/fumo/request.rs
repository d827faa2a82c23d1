//! Client-initiated updates: the alerts by which a device or its user requests one.

use crate::dm::{
    alert::{GenericAlert, Mark},
    code::{AlertCode, Format},
    syncml::{Alert, CommandId},
};

crate::words! {
    /// The initiator of an update request.
    pub enum UpdateInitiator: "initiator" {
        /// The device by itself.
        Device = "device",
        /// Its user, who must get an answer that people can read.
        User = "user",
    }
}

impl UpdateInitiator {
    /// Returns the type of the alert.
    // spec: oma-004 6.1.2, oma-004 FWUPDATE-C-003 (alert types)
    #[must_use]
    pub const fn alert_type(self) -> &'static str {
        match self {
            Self::Device => "org.openmobilealliance.dm.firmwareupdate.devicerequest",
            Self::User => "org.openmobilealliance.dm.firmwareupdate.userrequest",
        }
    }
}

/// A request for an update, initiated by the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateRequest {
    /// Its initiator.
    pub initiator: UpdateInitiator,
    /// Address of the firmware object; absent: all of the device.
    pub object: Option<String>,
    /// A text of the vendor's; no standard gives it a meaning.
    pub data: String,
}

impl UpdateRequest {
    /// Returns the Alert 1226. Without a preceding Exec it has no correlator.
    // spec: oma-004 6.1.1, oma-004 6.1.3, oma-004 6.1.4 (generic alert, URI, data)
    // spec: oma-004 FWUPDATE-C-002, oma-004 FWUPDATE-C-004, oma-004 FWUPDATE-C-005 (the same)
    #[must_use]
    pub fn to_alert(&self, id: CommandId) -> Alert {
        let item = GenericAlert {
            source: self.object.clone(),
            kind: self.initiator.alert_type().to_owned(),
            format: Some(Format::Chr),
            mark: Mark::Informational,
            data: self.data.clone(),
        };
        Alert { id, code: AlertCode::GENERIC, correlator: None, items: vec![item.to_item()] }
    }

    /// Returns the request that a generic alert carries; `None` when it is of another kind.
    #[must_use]
    pub fn from_alert(alert: &GenericAlert) -> Option<Self> {
        let initiator = UpdateInitiator::ALL
            .into_iter()
            .find(|initiator| alert.is_of(initiator.alert_type()))?;
        Some(Self { initiator, object: alert.source.clone(), data: alert.data.clone() })
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
        for (initiator, kind) in [
            (UpdateInitiator::Device, "org.openmobilealliance.dm.firmwareupdate.devicerequest"),
            (UpdateInitiator::User, "org.openmobilealliance.dm.firmwareupdate.userrequest"),
        ] {
            for object in [None, Some("./FwUpdate/Main".to_owned())] {
                let request = UpdateRequest { initiator, object, data: "menu".to_owned() };
                let alert = request.to_alert(CommandId::new(3));
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
            assert_eq!(initiator.to_string().parse(), Ok(initiator));
        }
        assert!("server".parse::<UpdateInitiator>().is_err());
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
