//! `trust to-sign`, `add-signature`, `sign` and `inspect`: the seam for keys that are not here.
//!
//! A token signs exactly the octets of [`Envelope::text_to_sign`] and returns 64 octets; no
//! private key passes through this program.

use std::path::Path;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use proto::{
    crypto::sha256,
    trust::{Envelope, Root},
};
use serde_json::json;

use super::{
    args::{AddSignatureArgs, InspectArgs, ToSignArgs, TrustSignArgs},
    documents::{
        contents, describe, document_name, insert_member, read_document, read_root, report,
        required_signers,
    },
    keys,
};
use crate::{
    error::{CliError, ExitCode},
    key_file,
    package::roots::{check_signer, quorums},
    shell::{answer::answer, files},
};

/// Octets of a file that holds one signature, in whatever form.
const MAX_SIGNATURE_BYTES: u64 = 1024;

pub(super) fn to_sign(args: &ToSignArgs) -> Result<(), CliError> {
    let envelope = read_document(&args.file)?;
    let root = read_root(args.root.as_deref())?;
    let text = envelope.text_to_sign();
    let mut value = json!({
        "document": document_name(&envelope)?,
        "document_sha256": sha256(&[envelope.payload()]).to_string(),
        "bytes": text.len(),
        "bytes_sha256": sha256(&[&text]).to_string(),
        "algorithm": "Ed25519 (RFC 8032, no prehash)",
        "wanted": required_signers(&quorums(&envelope, root.as_ref())?),
    });
    match &args.out {
        Some(out) => {
            files::replace(out, &text)?;
            insert_member(&mut value, "written", out.display().to_string().into());
        }
        None => insert_member(&mut value, "bytes_base64", BASE64_STANDARD.encode(&text).into()),
    }
    answer(args.json, &value)
}

pub(super) fn add_signature(args: &AddSignatureArgs) -> Result<(), CliError> {
    let mut envelope = read_document(&args.file)?;
    let root = read_root(args.root.as_deref())?;
    let key = keys::public_key(&args.public_key)?;
    check_signer(&quorums(&envelope, root.as_ref())?, &key)?;
    let signature = files::read(&args.signature, MAX_SIGNATURE_BYTES)?;
    let signature = key_file::signature(&signature).map_err(|text| {
        ExitCode::Configuration.with_message(format!("{}: {text}", args.signature.display()))
    })?;
    envelope
        .add_signature(key, signature)
        .map_err(|error| CliError::trust(args.file.display().to_string(), error))?;
    write(&args.file, args.out.as_deref(), &envelope, root.as_ref(), args.json)
}

pub(super) fn sign(args: &TrustSignArgs) -> Result<(), CliError> {
    let mut envelope = read_document(&args.file)?;
    let root = read_root(args.root.as_deref())?;
    for path in &args.key {
        let key = files::read_key(path)?;
        check_signer(&quorums(&envelope, root.as_ref())?, &key.public())?;
        envelope
            .sign(&key)
            .map_err(|error| CliError::trust(args.file.display().to_string(), error))?;
    }
    write(&args.file, args.out.as_deref(), &envelope, root.as_ref(), args.json)
}

fn write(
    file: &Path,
    out: Option<&Path>,
    envelope: &Envelope,
    root: Option<&Root>,
    json: bool,
) -> Result<(), CliError> {
    let out = out.unwrap_or(file);
    files::replace(out, &envelope.emit())?;
    report(out, envelope, root, json)
}

pub(super) fn inspect(args: &InspectArgs) -> Result<(), CliError> {
    let envelope = read_document(&args.file)?;
    let root = read_root(args.root.as_deref())?;
    let mut value = contents(&envelope)?;
    let quorums = quorums(&envelope, root.as_ref())?;
    insert_member(&mut value, "document", document_name(&envelope)?.into());
    insert_member(&mut value, "key_ids", envelope.key_ids().collect::<Vec<_>>().into());
    insert_member(&mut value, "signatures", describe(&quorums));
    answer(args.json, &value)?;
    // With a root the exit code reports whether the document is trusted.
    if root.is_some() && quorums.iter().any(|quorum| quorum.missing() > 0) {
        let what = args.file.display();
        return Err(ExitCode::Refused.with_message(format!("{what}: signatures are missing")));
    }
    Ok(())
}
