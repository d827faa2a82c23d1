//! The manifest: the description of a package and of its devices.

use prost::Message as _;

use super::{
    checks::{check_count, check_critical, check_schema, check_unique, component_id, fixed},
    document_kind::DocumentKind,
    envelope::{Envelope, Verified},
    error::TrustError,
    messages,
    role::Role,
    root::{Root, check_generation},
    strict_protobuf::{self, Field, MessageSchema, Unknown},
};
use crate::{
    crypto::{Digest, h16},
    ids::{ClassId, ComponentId, PackageId, VendorId},
    time::Utc,
    wire::WireError,
};

/// The encoding of a component on air.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ComponentEncoding {
    /// The component as it is installed.
    None,
    /// Compressed by Zstandard.
    Zstd,
}

/// One image of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// Unique within the manifest.
    pub id: ComponentId,
    /// Octets that the broadcast carries, at least 1.
    pub stored_len: u64,
    /// SHA-256 of what the broadcast carries.
    pub stored_sha256: Digest,
    /// Encoding that turns `stored` into `decoded`.
    pub encoding: ComponentEncoding,
    /// Octets that are installed.
    pub decoded_len: u64,
    /// SHA-256 of what is installed.
    pub decoded_sha256: Digest,
    /// Octets of memory that the decoder of `encoding` needs.
    pub memory_needed: u64,
}

/// The description of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Higher than any sequence that the device has confirmed in this epoch.
    pub sequence: u64,
    /// Raises the device's floor after the firmware has confirmed itself; at most `sequence`.
    pub floor_after_commit: u64,
    /// Vendor of the devices.
    pub vendor: VendorId,
    /// 1 to 16 classes of devices that the package fits.
    pub classes: Vec<ClassId>,
    /// 1 to 64 octets; shown and reported, never compared for safety.
    pub firmware_version: String,
    /// 1 to 16, ids unique.
    pub components: Vec<Component>,
    /// Time before which the package is not valid.
    pub not_before: Utc,
    /// Time after which the package is not valid.
    pub expires: Utc,
    /// The release keys stand in this root or a later one.
    pub root_version: u64,
    /// The device's epoch.
    pub epoch: u32,
}

/// Returns the class that the manifest of a software component names, derived from the class of
/// the devices that take it and the package: the first 16 octets of
/// SHA-256("fccomponent1" ‖ class ‖ package id), where the class has 16 octets. So firmware is no
/// component, a component is no firmware and no other component, and each has its own sequence.
#[must_use]
pub fn component_class(device: ClassId, package: &PackageId) -> ClassId {
    ClassId(h16(&[b"fccomponent1", &device.0, package.as_str().as_bytes()]).0)
}

impl Manifest {
    /// Reads a manifest that enough release keys of `root` have signed.
    ///
    /// # Errors
    ///
    /// [`TrustError`] in the order of checks: envelope, signatures, fields, generation.
    pub fn verify(root: &Verified<Root>, envelope: &[u8]) -> Result<Verified<Self>, TrustError> {
        let envelope = Envelope::parse(envelope)?;
        let manifest = envelope
            .verify(DocumentKind::Manifest, root.keys(Role::Release))?
            .into_verified(Self::read)?;
        check_generation(root, manifest.epoch, manifest.root_version)?;
        Ok(manifest)
    }

    /// Returns the component `id`, if the package has it.
    #[must_use]
    pub fn component(&self, id: ComponentId) -> Option<&Component> {
        self.components.iter().find(|component| component.id == id)
    }

    /// Returns the document to sign.
    ///
    /// # Errors
    ///
    /// [`TrustError::Malformed`] when a field leaves its range.
    pub fn emit(&self) -> Result<Vec<u8>, TrustError> {
        let octets = messages::Manifest {
            schema: 1,
            sequence: self.sequence,
            floor_after_commit: self.floor_after_commit,
            vendor_id: self.vendor.0.to_vec(),
            class_id: self.classes.iter().map(|class| class.0.to_vec()).collect(),
            firmware_version: self.firmware_version.clone(),
            components: self.components.iter().map(Component::to_message).collect(),
            not_before: self.not_before.seconds(),
            expires: self.expires.seconds(),
            root_version: self.root_version,
            epoch: self.epoch,
            critical: Vec::new(),
        }
        .encode_to_vec();
        Self::read(&octets)?;
        Ok(octets)
    }

    /// Parses the fields without verification, to show a document to people.
    ///
    /// # Errors
    ///
    /// [`TrustError`] when a field leaves its range.
    pub fn read(octets: &[u8]) -> Result<Self, TrustError> {
        strict_protobuf::scan(octets, &MANIFEST)?;
        let message = messages::Manifest::decode(octets)
            .map_err(|error| WireError::invalid("manifest", error, "a protobuf message"))?;
        check_schema("manifest schema", message.schema)?;
        check_critical(DocumentKind::Manifest, &message.critical)?;
        if message.floor_after_commit > message.sequence {
            let found = message.floor_after_commit;
            return Err(WireError::invalid("floor_after_commit", found, "at most sequence").into());
        }
        if message.firmware_version.is_empty() || message.firmware_version.len() > 64 {
            let found = message.firmware_version;
            return Err(WireError::invalid("firmware_version", found, "1 to 64 octets").into());
        }
        check_count("class_id", message.class_id.len(), 16)?;
        check_count("components", message.components.len(), 16)?;
        let class = |class: &Vec<u8>| fixed("class_id", class).map(ClassId);
        let components: Vec<_> =
            message.components.iter().map(Component::read).collect::<Result<_, _>>()?;
        check_unique("component id", components.iter().map(|component| component.id))?;
        Ok(Self {
            sequence: message.sequence,
            floor_after_commit: message.floor_after_commit,
            vendor: VendorId(fixed("vendor_id", &message.vendor_id)?),
            classes: message.class_id.iter().map(class).collect::<Result<_, _>>()?,
            firmware_version: message.firmware_version,
            components,
            not_before: Utc::from_seconds(message.not_before),
            expires: Utc::from_seconds(message.expires),
            root_version: message.root_version,
            epoch: message.epoch,
        })
    }
}

impl Component {
    fn to_message(&self) -> messages::Component {
        messages::Component {
            id: self.id.0.into(),
            stored_len: self.stored_len,
            stored_sha256: self.stored_sha256.0.to_vec(),
            encoding: match self.encoding {
                ComponentEncoding::None => 1,
                ComponentEncoding::Zstd => 2,
            },
            decoded_len: self.decoded_len,
            decoded_sha256: self.decoded_sha256.0.to_vec(),
            window_log: 0,
            precursor_sha256: Vec::new(),
            memory_needed: self.memory_needed,
        }
    }

    fn read(message: &messages::Component) -> Result<Self, WireError> {
        let encoding = match message.encoding {
            1 => ComponentEncoding::None,
            2 => ComponentEncoding::Zstd,
            other => return Err(WireError::invalid("encoding", other, "1 (none) or 2 (zstd)")),
        };
        if message.window_log > 24 {
            return Err(WireError::invalid("window_log", message.window_log, "at most 24"));
        }
        if !message.precursor_sha256.is_empty() {
            return Err(WireError::invalid("precursor_sha256", "a delta", "a whole image"));
        }
        let component = Self {
            id: component_id("component id", message.id)?,
            stored_len: message.stored_len,
            stored_sha256: Digest(fixed("stored_sha256", &message.stored_sha256)?),
            encoding,
            decoded_len: message.decoded_len,
            decoded_sha256: Digest(fixed("decoded_sha256", &message.decoded_sha256)?),
            memory_needed: message.memory_needed,
        };
        if component.stored_len == 0 {
            return Err(WireError::invalid("stored_len", 0, "at least one octet"));
        }
        let equal = component.stored_len == component.decoded_len
            && component.stored_sha256 == component.decoded_sha256;
        if encoding == ComponentEncoding::None && !equal {
            return Err(WireError::invalid("decoded_*", "another image", "equal to stored_*"));
        }
        Ok(component)
    }
}

static COMPONENT: MessageSchema = MessageSchema {
    name: "component",
    fields: &[
        Field::one(1),
        Field::one(2),
        Field::one(3),
        Field::one(4),
        Field::one(5),
        Field::one(6),
        Field::one(7),
        Field::many(8),
        Field::one(9),
    ],
    unknown: Unknown::Skip,
};

static MANIFEST: MessageSchema = MessageSchema {
    name: "manifest",
    fields: &[
        Field::one(1),
        Field::one(2),
        Field::one(3),
        Field::one(4),
        Field::many(5),
        Field::one(6),
        Field::messages(7, &COMPONENT),
        Field::one(8),
        Field::one(9),
        Field::one(10),
        Field::one(11),
        Field::many(12),
    ],
    unknown: Unknown::Skip,
};
