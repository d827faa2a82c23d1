//! Software components by SCOMO 1.0: operations, states, result codes and the final alert.
//!
//! ```text
//! ./SCOMO/Download/x             Operations/{Download, DownloadInstall, DownloadInstallInactive}
//! ./SCOMO/Inventory/Delivered/x  Operations/{Install, InstallInactive, Remove}
//! ./SCOMO/Inventory/Deployed/x   Operations/{Activate, Deactivate, Remove}
//! ```
//!
//! The node `Status` holds the progress of an operation, a number of FUMO's
//! [`State`](super::fumo::State).

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{
    alert::GenericAlert,
    code::{AlertCode, Format},
    syncml::{Alert, CommandId, Item, Location},
};
use crate::{ids::Correlator, wire::WireError};

mod operation;
mod result;

pub use operation::{Branch, Operation};
pub use result::ResultCode;

/// The type of the final alert.
pub const ALERT_TYPE: &str = "urn:oma:at:scomo:1.0:OperationComplete";

/// The type that drafts of the standard gave it; it is read as well.
pub const DRAFT_ALERT_TYPE: &str = "org.openmobilealliance.dm.softwarecomponent.OperationComplete";

/// Octets of the data of a final alert that are parsed.
const MAX_DATA: usize = 1024;

crate::words! {
    /// The `State` of a package or a component, by its word on the wire.
    #[derive(Serialize, Deserialize)]
    pub enum ComponentState, serde {
        /// The device holds the package; nothing of it is installed.
        Delivered = "delivered",
        /// Installed and not running.
        Inactive = "inactive",
        /// Installed and running.
        Active = "active",
    }
}

impl ComponentState {
    /// Returns the state that follows when an operation succeeds; `None` when nothing is left.
    // spec: oma-dm 12.1 (component states)
    #[must_use]
    pub const fn after(operation: Operation) -> Option<Self> {
        match operation {
            Operation::Download => Some(Self::Delivered),
            Operation::DownloadInstall | Operation::Install | Operation::Activate => {
                Some(Self::Active)
            }
            Operation::DownloadInstallInactive
            | Operation::InstallInactive
            | Operation::Deactivate => Some(Self::Inactive),
            Operation::RemovePackage | Operation::Remove => None,
        }
    }
}

impl FromStr for ComponentState {
    type Err = WireError;

    fn from_str(word: &str) -> Result<Self, WireError> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str().eq_ignore_ascii_case(word.trim()))
            .ok_or_else(|| WireError::invalid("State", word, "delivered, inactive or active"))
    }
}

/// The end of an operation, as one item of an Alert 1226 carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationResult {
    /// The address of the operation whose Exec began it.
    pub source: Option<String>,
    /// The address of the node that it led to.
    pub target: Option<String>,
    /// The result.
    pub result: ResultCode,
    /// The package, or for an operation on a component its identifier.
    pub identifier: Option<String>,
    /// The correlator of the Exec; absent if and only if the Exec had none.
    pub correlator: Option<Correlator>,
}

impl OperationResult {
    /// Returns the Alert 1226.
    // spec: oma-dm 12.1 (final alert)
    #[must_use]
    pub fn to_alert(&self, id: CommandId) -> Alert {
        let alert = GenericAlert {
            source: self.source.clone(),
            kind: ALERT_TYPE.to_owned(),
            format: Some(Format::Xml),
            mark: self.result.mark(),
            data: self.data(),
        };
        let target = self.target.clone().map(Location::new);
        Alert {
            id,
            code: AlertCode::GENERIC,
            correlator: self.correlator.clone(),
            items: vec![Item { target, ..alert.to_item() }],
        }
    }

    fn data(&self) -> String {
        let mut data = format!("<ResultCode>{}</ResultCode>", self.result);
        if let Some(identifier) = &self.identifier {
            let identifier = quick_xml::escape::escape(identifier.as_str());
            data.push_str(&format!("<Identifier>{identifier}</Identifier>"));
        }
        data
    }

    /// Returns the result that an item of a generic alert carries; `None` when the alert is of
    /// another kind.
    ///
    /// # Errors
    ///
    /// [`WireError::Invalid`] when the item has no type, or when the kind is right and there is no
    /// result code. Answer it with 412.
    pub fn from_item(
        item: &Item,
        correlator: Option<&Correlator>,
    ) -> Result<Option<Self>, WireError> {
        let alert = GenericAlert::from_item(item)?;
        if !alert.is_of(ALERT_TYPE) && !alert.is_of(DRAFT_ALERT_TYPE) {
            return Ok(None);
        }
        let (result, identifier) = read_data(&alert.data)?;
        Ok(Some(Self {
            source: alert.source,
            target: item.target.as_ref().map(|target| target.uri.clone()),
            result,
            identifier,
            correlator: correlator.cloned(),
        }))
    }
}

/// Reads the two elements, which have no parent; some clients write the number alone.
fn read_data(data: &str) -> Result<(ResultCode, Option<String>), WireError> {
    let invalid = || WireError::invalid("result", data, "<ResultCode>1200</ResultCode>");
    if data.len() > MAX_DATA {
        return Err(invalid());
    }
    if !data.contains('<') {
        return Ok((data.parse()?, None));
    }
    let code = element(data, "ResultCode").ok_or_else(invalid)?;
    let identifier = element(data, "Identifier").map(|text| {
        quick_xml::escape::unescape(text).map(|text| text.trim().to_owned()).map_err(|_| invalid())
    });
    Ok((code.parse()?, identifier.transpose()?))
}

/// The content of the first element of this name.
fn element<'a>(data: &'a str, name: &str) -> Option<&'a str> {
    let (_, after) = data.split_once(&format!("<{name}>"))?;
    let (content, _) = after.split_once(&format!("</{name}>"))?;
    Some(content)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dm::{
        encoding::{Encoding, Limits},
        syncml::{Command, Header, Message, MessageId},
    };
    use crate::dm::{nodes::scomo as nodes, uri::NodeUri};

    fn result() -> OperationResult {
        OperationResult {
            source: Some("./SCOMO/Download/a/Operations/DownloadInstall".to_owned()),
            target: Some("./SCOMO/Inventory/Deployed/a".to_owned()),
            result: ResultCode::SUCCESS,
            identifier: Some("player".to_owned()),
            correlator: Some(Correlator("c-1".to_owned())),
        }
    }

    fn read(alert: &Alert) -> Result<Option<OperationResult>, WireError> {
        OperationResult::from_item(&alert.items[0], alert.correlator.as_ref())
    }

    // test: oma-dm 12.1 (final alert)
    #[test]
    fn a_result_is_a_generic_alert_with_code_and_identifier() {
        let alert = result().to_alert(CommandId::new(3));
        assert_eq!((alert.code, alert.id), (AlertCode::GENERIC, CommandId::new(3)));
        let item = &alert.items[0];
        let data = "<ResultCode>1200</ResultCode><Identifier>player</Identifier>";
        assert_eq!(item.data_text(), Some(data));
        let kind = item.meta.as_ref().unwrap().kind.as_deref();
        assert_eq!(kind, Some("urn:oma:at:scomo:1.0:OperationComplete"));
        assert_eq!(item.target_uri(), Some("./SCOMO/Inventory/Deployed/a"));
        assert_eq!(read(&alert), Ok(Some(result())));
    }

    // test: oma-dm 12.1 (final alert)
    #[test]
    fn the_type_of_the_drafts_and_a_bare_number_are_read_too() {
        let mut alert = result().to_alert(CommandId::new(3));
        alert.items[0].meta.as_mut().unwrap().kind = Some(DRAFT_ALERT_TYPE.to_owned());
        assert_eq!(read(&alert), Ok(Some(result())));
        alert.items[0].data = Some(" 1405 ".into());
        let read_back = read(&alert).unwrap().unwrap();
        assert_eq!((read_back.result, read_back.identifier), (ResultCode::INSTALL_FAILED, None));
    }

    #[test]
    fn foreign_alerts_are_left_alone_and_a_result_without_a_code_is_refused() {
        let mut alert = result().to_alert(CommandId::new(3));
        for wrong in ["", "fine", "<ResultCode>x</ResultCode>", "<Identifier>a</Identifier>"] {
            alert.items[0].data = Some(wrong.into());
            assert!(read(&alert).is_err(), "{wrong}");
        }
        alert.items[0].data = Some("1200 ".repeat(300).as_str().into());
        assert!(read(&alert).is_err());
        alert.items[0].meta.as_mut().unwrap().kind = Some("org.example".to_owned());
        assert_eq!(read(&alert), Ok(None));
    }

    // test: oma-dm 12.1 (operations)
    #[test]
    fn each_operation_has_its_node_and_reads_back() {
        let object: NodeUri = nodes::ROOT.parse().unwrap();
        for (operation, address) in [
            (Operation::Download, "./SCOMO/Download/x/Operations/Download"),
            (Operation::DownloadInstall, "./SCOMO/Download/x/Operations/DownloadInstall"),
            (
                Operation::DownloadInstallInactive,
                "./SCOMO/Download/x/Operations/DownloadInstallInactive",
            ),
            (Operation::Install, "./SCOMO/Inventory/Delivered/x/Operations/Install"),
            (
                Operation::InstallInactive,
                "./SCOMO/Inventory/Delivered/x/Operations/InstallInactive",
            ),
            (Operation::RemovePackage, "./SCOMO/Inventory/Delivered/x/Operations/Remove"),
            (Operation::Activate, "./SCOMO/Inventory/Deployed/x/Operations/Activate"),
            (Operation::Deactivate, "./SCOMO/Inventory/Deployed/x/Operations/Deactivate"),
            (Operation::Remove, "./SCOMO/Inventory/Deployed/x/Operations/Remove"),
        ] {
            assert_eq!(operation.address(&object, "x"), address);
            assert_eq!(Operation::at(&object, address), Some((operation, "x".to_owned())));
            assert_eq!(operation.to_string().parse(), Ok(operation));
        }
        for wrong in [
            "./SCOMO/Download/x/Operations/Activate",
            "./SCOMO/Download/x/Operations",
            "./SCOMO/Downloads/x/Operations/Download",
            "./FwUpdate/Main/Update",
            "",
        ] {
            assert_eq!(Operation::at(&object, wrong), None, "{wrong}");
        }
        assert!("install".parse::<Operation>().is_err());
    }

    // test: oma-dm 12.1 (component states)
    #[test]
    fn each_operation_leads_to_its_state() {
        let after = |operation| ComponentState::after(operation).map(ComponentState::as_str);
        for (operation, state) in Operation::ALL.into_iter().zip([
            Some("delivered"),
            Some("active"),
            Some("inactive"),
            Some("active"),
            Some("inactive"),
            None,
            Some("active"),
            Some("inactive"),
            None,
        ]) {
            assert_eq!(after(operation), state, "{operation}");
        }
        for state in ComponentState::ALL {
            assert_eq!(state.to_string().to_uppercase().parse(), Ok(state));
        }
        assert!("gone".parse::<ComponentState>().is_err());
    }

    proptest! {
        #[test]
        fn any_result_survives_its_alert_in_both_encodings(
            code in 1200_u16..1600,
            identifier in proptest::option::of("[ -~]{0,40}"),
            target in proptest::option::of("\\./[a-zA-Z0-9/]{1,40}"),
            correlator in proptest::option::of("[!-~]{1,20}"),
        ) {
            let identifier = identifier.map(|text| text.trim().to_owned());
            let wanted = OperationResult {
                target,
                result: ResultCode(code),
                identifier,
                correlator: correlator.map(Correlator),
                ..result()
            };
            let header = Header {
                session_id: "1".to_owned(),
                message_id: MessageId::new(1),
                target: Location::new("https://dm.example"),
                source: Location::new("IMEI:1"),
                respond_to: None,
                credential: None,
                meta: None,
            };
            let commands = vec![Command::Alert(wanted.to_alert(CommandId::new(1)))];
            let message = Message { header, commands, is_final: true };
            for form in [Encoding::Xml, Encoding::Wbxml] {
                let parsed = form.parse(&form.emit(&message), &Limits::default()).unwrap();
                let [Command::Alert(alert)] = parsed.commands.as_slice() else {
                    panic!("one alert")
                };
                prop_assert_eq!(read(alert), Ok(Some(wanted.clone())));
            }
        }

        #[test]
        fn no_data_harms(data in "[<>/a-zA-Z0-9&;# ]{0,200}") {
            let _read = read_data(&data);
        }
    }
}
