//! An enrolled device: its identity, its credentials and what its next DM session sends.

use std::{fmt, sync::Arc};

use proto::{
    crypto::{Digest, equal_in_constant_time},
    dm::{
        auth::{AuthKind, Secret},
        uri::NodeUri,
    },
    ids::{ClassId, DeviceId, VendorId},
    time::Utc,
};

use super::{address::ProvedFrom, components::Components, policy::DesiredPolicy, profile::Profile};
use crate::campaign::update_requests::UpdateRequestPolicy;

/// The usual place of the FUMO object of a device.
pub const DEFAULT_FUMO_OBJECT: &str = "./FwUpdate/Main";

/// Server id of this server in DM messages, unless a device was enrolled with another.
pub const SERVER_ID: &str = "fumocast";

/// A device that was enrolled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its `./DevInfo/DevId`.
    pub id: DeviceId,
    /// Row version for compare-and-set; 0 before it was stored.
    pub version: u64,
    /// Manufacturer, as enrolled.
    pub manufacturer: String,
    /// Model, as enrolled.
    pub model: String,
    /// Vendor that the manifest must name.
    pub vendor: VendorId,
    /// Class that the manifest must list.
    pub class: ClassId,
    /// URL at which the device reaches this server, as given at enrolment.
    pub url: String,
    /// Its FUMO object.
    pub object: FirmwareObject,
    /// Credentials of its client.
    pub auth: DeviceAuth,
    /// Its account beside the credentials.
    pub account: AccountTerms,
    /// Credentials of this server for it; absent on a device that was enrolled without.
    pub server: Option<ServerCredentials>,
    /// Policy for its update requests; takes precedence over those of campaigns.
    pub update_requests: Option<UpdateRequestPolicy>,
    /// Profile of its client.
    pub profile: Profile,
    /// Suspend or resume command that its next DM session sends.
    pub pending_suspension: Option<SuspendCommand>,
    /// Values that its policy is to have, with the statuses that it returned.
    pub policy: DesiredPolicy,
    /// Its software components.
    pub components: Components,
    /// `./DevDetail/FwV` as last read.
    pub firmware_version: Option<String>,
    /// Time of its enrolment.
    pub enrolled: Utc,
    /// Time of its last authenticated message.
    pub last_seen: Option<Utc>,
}

/// The place of the FUMO object in the tree of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirmwareObject {
    /// Its root, such as `./FwUpdate/Main`.
    pub uri: String,
    /// Origin of the place.
    pub origin: ObjectOrigin,
}

proto::words! {
    /// The origin of the place of a FUMO object.
    pub enum ObjectOrigin: "origin of the firmware object" {
        /// The usual place; the device has not shown an object there.
        Assumed = "assumed",
        /// The device has shown the object there.
        Learnt = "learnt",
        /// Set by the operator.
        Set = "set",
    }
}

impl FirmwareObject {
    /// Returns the place that the operator has set; without one, the usual place.
    #[must_use]
    pub fn new(set: Option<&NodeUri>) -> Self {
        match set {
            Some(uri) => Self { uri: uri.to_string(), origin: ObjectOrigin::Set },
            None => Self { uri: DEFAULT_FUMO_OBJECT.to_owned(), origin: ObjectOrigin::Assumed },
        }
    }

    /// Returns the place that the device has shown.
    #[must_use]
    pub const fn learnt(uri: String) -> Self {
        Self { uri, origin: ObjectOrigin::Learnt }
    }

    /// Returns the URI of a node below the object, given its path (`Ext/Broadcast/Phase`).
    #[must_use]
    pub fn node(&self, path: &str) -> String {
        format!("{}/{path}", self.uri)
    }

    /// Returns whether `uri` is the object or a node below it; some clients name such a node.
    #[must_use]
    pub fn contains(&self, uri: &str) -> bool {
        let (object, node) = (self.uri.parse::<NodeUri>(), uri.trim_end_matches('/').parse());
        object.is_ok_and(|object| node.is_ok_and(|node: NodeUri| node.below(&object).is_some()))
    }
}

/// Returns whether a device may send messages over a connection that has shown this certificate:
/// where it is tied to one or proves itself by the transport, over no other.
// spec: security 7.2 (a certificate of the device names it)
#[must_use]
pub fn admits(device: &Device, shown: Option<&PeerCertificate>) -> bool {
    match (&device.account.certificate, device.auth.kind) {
        (Some(tied), _) => {
            shown.is_some_and(|shown| equal_in_constant_time(&shown.fingerprint.0, &tied.0))
        }
        (None, AuthKind::Transport) => {
            shown.is_some_and(|shown| shown.subject.as_deref() == Some(device.id.as_str()))
        }
        (None, AuthKind::Basic | AuthKind::Md5 | AuthKind::Mac) => true,
    }
}

/// The part of an account beside the credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountTerms {
    /// The server id by which the device knows this server.
    pub server_id: String,
    /// Kind of proof of this server; of that of the transport nothing is in the messages.
    pub server_kind: AuthKind,
    /// SHA-256 of the client certificate that each of its connections must show.
    pub certificate: Option<Digest>,
    /// Set when one of the passwords is weak.
    pub has_weak_password: bool,
}

impl AccountTerms {
    /// Returns the terms of an account with one kind of proof in both directions.
    #[must_use]
    pub fn usual(kind: AuthKind) -> Self {
        Self {
            server_id: SERVER_ID.to_owned(),
            server_kind: kind,
            certificate: None,
            has_weak_password: false,
        }
    }
}

/// A verified client certificate of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    /// Common name of its subject; none when it has no such name, or several.
    pub subject: Option<String>,
    /// SHA-256 of its DER form.
    pub fingerprint: Digest,
}

proto::words! {
    /// A command that suspends reception on a device or resumes it.
    pub enum SuspendCommand: "suspension" {
        /// Suspends reception; what was received is kept.
        Suspend = "suspend",
        /// Resumes reception.
        Resume = "resume",
    }
}

/// Credentials of a device, with the nonces against replay.
///
/// # Source
///
/// Security facts 7.2 and 7.4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceAuth {
    /// Authentication type of the device.
    pub kind: AuthKind,
    /// User name of the device's client credentials.
    pub user: String,
    /// MD5(user ":" password); the password itself is not stored.
    pub secret: StoredSecret,
    /// Nonce sent for the next session; valid until it is used.
    pub next_nonce: Option<Nonce>,
    /// Challenges that it has answered; part of the nonce of the next one.
    pub challenge_count: u64,
    /// Networks from which it has proved itself in the last day.
    pub proved_from: ProvedFrom,
}

/// Returns the credentials of a device that is not enrolled: of the default authentication type, and
/// right for nobody, since `octets` are random.
#[must_use]
pub fn auth_of_nobody(name: &str, octets: [u8; 16]) -> DeviceAuth {
    DeviceAuth {
        kind: AuthKind::default(),
        user: name.to_owned(),
        secret: Secret::from_bytes(octets).into(),
        next_nonce: Some(Nonce(octets)),
        challenge_count: 0,
        proved_from: ProvedFrom::default(),
    }
}

/// Credentials of this server for one device; no two devices share them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerCredentials {
    /// MD5(server id ":" password), with the password for auth-basic.
    pub secret: StoredSecret,
    /// Nonce that the device expects in the next credential.
    pub nonce: DeviceNonce,
}

/// A secret with a mark that the store holds it; a store seals each secret once. Copies of a row share
/// the secret, so that it is in memory once; a row that was read for something else lacks it.
#[derive(Debug, Clone)]
pub struct StoredSecret {
    secret: Option<Arc<Secret>>,
    is_stored: bool,
}

impl StoredSecret {
    /// Wraps a secret that was read from the store.
    #[must_use]
    pub fn from_store(secret: Secret) -> Self {
        Self { secret: Some(Arc::new(secret)), is_stored: true }
    }

    /// Returns the mark of a secret that stays sealed in the store.
    #[must_use]
    pub const fn sealed() -> Self {
        Self { secret: None, is_stored: true }
    }

    /// Returns the secret; `None` when its row was read without secrets.
    #[must_use]
    pub fn opened(&self) -> Option<&Secret> {
        self.secret.as_deref()
    }

    /// Returns whether the store holds it.
    #[must_use]
    pub const fn is_stored(&self) -> bool {
        self.is_stored
    }
}

impl From<Secret> for StoredSecret {
    fn from(secret: Secret) -> Self {
        Self { secret: Some(Arc::new(secret)), is_stored: false }
    }
}

impl PartialEq for StoredSecret {
    fn eq(&self, other: &Self) -> bool {
        self.secret == other.secret
    }
}

impl Eq for StoredSecret {}

/// A nonce that a device gave this server, of a length that the device chose. It has no text form.
#[derive(Clone, PartialEq, Eq)]
pub struct DeviceNonce(pub Vec<u8>);

impl fmt::Debug for DeviceNonce {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("DeviceNonce")
    }
}

/// Octets that make a credential valid once. It has no text form.
#[derive(Clone, PartialEq, Eq)]
pub struct Nonce(pub [u8; 16]);

impl fmt::Debug for Nonce {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Nonce")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_firmware_object_contains_its_nodes_and_no_neighbour() {
        let object = FirmwareObject::new(None);
        assert_eq!(
            (object.uri.as_str(), object.origin),
            ("./FwUpdate/Main", ObjectOrigin::Assumed)
        );
        for inside in ["./FwUpdate/Main", "FwUpdate/Main/", "./FwUpdate/Main/Update"] {
            assert!(object.contains(inside), "{inside}");
        }
        for outside in ["", ".", "./FwUpdate", "./FwUpdate/MainOther", "./FwUpdate/Modem", "//"] {
            assert!(!object.contains(outside), "{outside}");
        }
        let set = FirmwareObject::new(Some(&"Vendor/Fota".parse().unwrap()));
        assert_eq!(
            (set.node("State").as_str(), set.origin),
            ("./Vendor/Fota/State", ObjectOrigin::Set)
        );
    }

    #[test]
    fn origins_are_read_as_they_are_written() {
        for origin in ObjectOrigin::ALL {
            assert_eq!(origin.as_str().parse::<ObjectOrigin>().unwrap(), origin);
        }
    }
}
