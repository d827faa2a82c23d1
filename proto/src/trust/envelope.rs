//! The DSSE envelope that every signed document travels in.

use std::ops::Deref;

use prost::Message as _;

use super::{
    document_kind::DocumentKind,
    error::TrustError,
    messages,
    role::RoleKeys,
    strict_protobuf::{self, Field, MessageSchema, Unknown},
};
use crate::{
    crypto::{Digest, PublicKey, SigningKey, sha256},
    wire::WireError,
};

/// Octets of an envelope at most.
pub const MAX_ENVELOPE_BYTES: usize = 4096;

/// Octets of a document at most.
pub const MAX_PAYLOAD_BYTES: usize = 3072;

/// Signatures of an envelope at most.
pub const MAX_SIGNATURES: usize = 8;

/// A document with its signatures, not verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    kind: DocumentKind,
    payload: Vec<u8>,
    signatures: Vec<Signature>,
}

/// One signature and the hint at its key.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Signature {
    octets: [u8; 64],
    key_id: String,
}

impl Envelope {
    /// Wraps a document that nobody has signed yet.
    ///
    /// # Errors
    ///
    /// [`TrustError::Malformed`] when the document is over [`MAX_PAYLOAD_BYTES`].
    pub fn new(kind: DocumentKind, payload: Vec<u8>) -> Result<Self, TrustError> {
        check_size("document", payload.len(), MAX_PAYLOAD_BYTES)?;
        Ok(Self { kind, payload, signatures: Vec::new() })
    }

    /// Reads an envelope. The document inside is parsed only after its signatures are checked.
    ///
    /// # Errors
    ///
    /// [`TrustError::Malformed`] for sizes beyond the limits, an unknown type, fields that appear
    /// twice or do not belong here, and signatures that are not 64 octets long.
    ///
    /// # Source
    ///
    /// DSSE v1, protobuf form (`io.intoto.Envelope`).
    pub fn parse(octets: &[u8]) -> Result<Self, TrustError> {
        check_size("envelope", octets.len(), MAX_ENVELOPE_BYTES)?;
        strict_protobuf::scan(octets, &ENVELOPE)?;
        let message = messages::Envelope::decode(octets)
            .map_err(|error| WireError::invalid("envelope", error, "a DSSE protobuf envelope"))?;
        let kind = DocumentKind::ALL
            .into_iter()
            .find(|kind| kind.media_type() == message.payload_type)
            .ok_or_else(|| {
                WireError::invalid("payload type", &message.payload_type, "a fumocast document")
            })?;
        check_size("document", message.payload.len(), MAX_PAYLOAD_BYTES)?;
        check_size("signature count", message.signatures.len(), MAX_SIGNATURES)?;
        let signatures =
            message.signatures.into_iter().map(Signature::parse).collect::<Result<_, _>>()?;
        Ok(Self { kind, payload: message.payload, signatures })
    }

    /// Returns the envelope as octets.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let to_message = |signature: &Signature| messages::Signature {
            sig: signature.octets.to_vec(),
            keyid: signature.key_id.clone(),
        };
        messages::Envelope {
            payload: self.payload.clone(),
            payload_type: self.kind.media_type().to_owned(),
            signatures: self.signatures.iter().map(to_message).collect(),
        }
        .encode_to_vec()
    }

    /// Adds the signature of `key`, in place of one that the same key made before.
    ///
    /// # Errors
    ///
    /// [`TrustError::Malformed`] when the envelope holds [`MAX_SIGNATURES`] already.
    pub fn sign(&mut self, key: &SigningKey) -> Result<(), TrustError> {
        let key_id = key.public().key_id();
        self.signatures.retain(|signature| signature.key_id != key_id);
        check_size("signature count", self.signatures.len() + 1, MAX_SIGNATURES)?;
        let octets = key.sign(&self.text_to_sign());
        self.signatures.push(Signature { octets, key_id });
        Ok(())
    }

    /// Adds a signature that `key` made elsewhere over [`Self::text_to_sign`], in place of one
    /// that the same key made before.
    ///
    /// # Errors
    ///
    /// [`TrustError::ForeignSignature`] when it is not one of this key over this document,
    /// [`TrustError::Malformed`] when the envelope holds [`MAX_SIGNATURES`] already.
    pub fn add_signature(&mut self, key: PublicKey, octets: [u8; 64]) -> Result<(), TrustError> {
        let key_id = key.key_id();
        if key.verify(&self.text_to_sign(), &octets).is_err() {
            return Err(TrustError::ForeignSignature { key_id });
        }
        self.signatures.retain(|signature| signature.key_id != key_id);
        check_size("signature count", self.signatures.len() + 1, MAX_SIGNATURES)?;
        self.signatures.push(Signature { octets, key_id });
        Ok(())
    }

    /// Returns those of `keys` that have signed this document.
    pub fn signers<'a>(&self, keys: impl IntoIterator<Item = &'a PublicKey>) -> Vec<&'a PublicKey> {
        let text = self.text_to_sign();
        keys.into_iter().filter(|key| self.is_signed_by(key, &text)).collect()
    }

    /// Returns the kind that the envelope claims; its signatures cover it.
    #[must_use]
    pub const fn kind(&self) -> DocumentKind {
        self.kind
    }

    /// Returns the document without verification, to show it to people.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Returns the key ids of the signatures, which are hints.
    pub fn key_ids(&self) -> impl Iterator<Item = &str> {
        self.signatures.iter().map(|signature| signature.key_id.as_str())
    }

    /// Returns the document's octets when enough of `keys` have signed exactly these.
    pub(super) fn verify(
        &self,
        kind: DocumentKind,
        keys: &RoleKeys,
    ) -> Result<SignatureChecked<'_>, TrustError> {
        if self.kind != kind {
            return Err(WireError::invalid("document", self.kind, expected(kind)).into());
        }
        let text = self.text_to_sign();
        let valid = keys.keys.iter().filter(|key| self.is_signed_by(key, &text)).count();
        let needed = keys.threshold;
        if valid < usize::try_from(needed).unwrap_or(usize::MAX) {
            return Err(TrustError::Threshold { role: kind.role(), valid, needed });
        }
        Ok(SignatureChecked { payload: &self.payload })
    }

    /// A key counts once, however many signatures claim it; the key id is only a hint.
    fn is_signed_by(&self, key: &PublicKey, text: &[u8]) -> bool {
        self.signatures.iter().any(|signature| key.verify(text, &signature.octets).is_ok())
    }

    /// Returns the octets that a signature covers: the pre-authentication encoding of DSSE v1.
    ///
    /// # Source
    ///
    /// DSSE v1 protocol: `"DSSEv1" SP len(type) SP type SP len(payload) SP payload`.
    #[must_use]
    pub fn text_to_sign(&self) -> Vec<u8> {
        let media_type = self.kind.media_type();
        let mut text = format!("DSSEv1 {} {media_type} {} ", media_type.len(), self.payload.len())
            .into_bytes();
        text.extend_from_slice(&self.payload);
        text
    }
}

impl Signature {
    fn parse(message: messages::Signature) -> Result<Self, WireError> {
        let octets = message.sig.try_into().map_err(|found: Vec<u8>| {
            WireError::invalid("signature", format!("{} octets", found.len()), "64 octets")
        })?;
        check_size("key id", message.keyid.len(), 64)?;
        Ok(Self { octets, key_id: message.keyid })
    }
}

/// The octets of a document whose signatures were checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct SignatureChecked<'a> {
    payload: &'a [u8],
}

impl SignatureChecked<'_> {
    /// Parses the checked octets; the result is authentic.
    pub(super) fn into_verified<T>(
        self,
        read: impl FnOnce(&[u8]) -> Result<T, TrustError>,
    ) -> Result<Verified<T>, TrustError> {
        Ok(Verified { value: read(self.payload)?, digest: sha256(&[self.payload]) })
    }
}

/// A document that enough keys of its role have signed and whose fields are in range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified<T> {
    value: T,
    digest: Digest,
}

impl<T> Verified<T> {
    /// Returns H(document), the octets as signed.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

const fn expected(kind: DocumentKind) -> &'static str {
    match kind {
        DocumentKind::Root => "a root",
        DocumentKind::Manifest => "a manifest",
        DocumentKind::Campaign => "a campaign",
    }
}

fn check_size(field: &'static str, found: usize, limit: usize) -> Result<(), WireError> {
    let wide = |size| u64::try_from(size).unwrap_or(u64::MAX);
    if found > limit {
        return Err(WireError::TooLarge { field, found: wide(found), limit: wide(limit) });
    }
    Ok(())
}

static SIGNATURE: MessageSchema = MessageSchema {
    name: "signature",
    fields: &[Field::one(1), Field::one(2)],
    unknown: Unknown::Refuse,
};

static ENVELOPE: MessageSchema = MessageSchema {
    name: "envelope",
    fields: &[Field::one(1), Field::one(2), Field::messages(3, &SIGNATURE)],
    unknown: Unknown::Refuse,
};
