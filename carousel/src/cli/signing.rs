//! `trust to-sign`, `add-signature`, `sign` and `inspect`: the seam for keys that are not here.
//!
//! A token is given exactly the octets of [`Envelope::text_to_sign`] and answers 64 octets; no
//! private key passes through this program.

use std::path::Path;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use proto::{
    crypto::sha256,
    trust::{Envelope, Root},
};
use serde_json::json;

use super::{
    args::{AddSignature, Inspect, ToSign, TrustSign},
    documents::{
        contents, describe, document_name, insert_member, read_document, read_root, report,
        required_signers,
    },
    keys,
};
use crate::{
    failure::{Exit, Failure},
    key_file,
    package::roots::{check_signer, quorums},
    shell::{answer::answer, files},
};

/// Octets of a file that holds one signature, in whatever form.
const MAX_SIGNATURE_OCTETS: u64 = 1024;

pub(super) fn to_sign(order: &ToSign) -> Result<(), Failure> {
    let envelope = read_document(&order.file)?;
    let root = read_root(order.root.as_deref())?;
    let text = envelope.text_to_sign();
    let mut value = json!({
        "document": document_name(&envelope)?,
        "document_sha256": sha256(&[envelope.payload()]).to_string(),
        "octets": text.len(),
        "octets_sha256": sha256(&[&text]).to_string(),
        "algorithm": "Ed25519 (RFC 8032, no prehash)",
        "wanted": required_signers(&quorums(&envelope, root.as_ref())?),
    });
    match &order.out {
        Some(out) => {
            files::replace(out, &text)?;
            insert_member(&mut value, "written", out.display().to_string().into());
        }
        None => insert_member(&mut value, "octets_base64", BASE64_STANDARD.encode(&text).into()),
    }
    answer(order.json, &value);
    Ok(())
}

pub(super) fn add_signature(order: &AddSignature) -> Result<(), Failure> {
    let mut envelope = read_document(&order.file)?;
    let root = read_root(order.root.as_deref())?;
    let key = keys::public_key(&order.public_key)?;
    check_signer(&quorums(&envelope, root.as_ref())?, &key)?;
    let signature = files::read(&order.signature, MAX_SIGNATURE_OCTETS)?;
    let signature = key_file::signature(&signature).map_err(|text| {
        Exit::Configuration.because(format!("{}: {text}", order.signature.display()))
    })?;
    envelope
        .add_signature(key, signature)
        .map_err(|error| Failure::trust(order.file.display().to_string(), error))?;
    write(&order.file, order.out.as_deref(), &envelope, root.as_ref(), order.json)
}

pub(super) fn sign(order: &TrustSign) -> Result<(), Failure> {
    let mut envelope = read_document(&order.file)?;
    let root = read_root(order.root.as_deref())?;
    for path in &order.key {
        let key = files::read_key(path)?;
        check_signer(&quorums(&envelope, root.as_ref())?, &key.public())?;
        envelope
            .sign(&key)
            .map_err(|error| Failure::trust(order.file.display().to_string(), error))?;
    }
    write(&order.file, order.out.as_deref(), &envelope, root.as_ref(), order.json)
}

fn write(
    file: &Path,
    out: Option<&Path>,
    envelope: &Envelope,
    root: Option<&Root>,
    json: bool,
) -> Result<(), Failure> {
    let out = out.unwrap_or(file);
    files::replace(out, &envelope.emit())?;
    report(out, envelope, root, json)
}

pub(super) fn inspect(order: &Inspect) -> Result<(), Failure> {
    let envelope = read_document(&order.file)?;
    let root = read_root(order.root.as_deref())?;
    let mut value = contents(&envelope)?;
    let quorums = quorums(&envelope, root.as_ref())?;
    insert_member(&mut value, "document", document_name(&envelope)?.into());
    insert_member(&mut value, "key_ids", envelope.key_ids().collect::<Vec<_>>().into());
    insert_member(&mut value, "signatures", describe(&quorums));
    answer(order.json, &value);
    // With a root the question is whether to believe it.
    if root.is_some() && quorums.iter().any(|quorum| quorum.missing() > 0) {
        let what = order.file.display();
        return Err(Exit::Refused.because(format!("{what}: signatures are missing")));
    }
    Ok(())
}
