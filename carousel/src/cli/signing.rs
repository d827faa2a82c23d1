//! `trust to-sign`, `add-signature`, `sign` and `inspect`: the seam for keys that are not here.
//!
//! A token is given exactly the octets of [`Envelope::text_to_sign`] and answers 64 octets; no
//! private key passes through this program.

use std::path::Path;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use proto::{
    crypto::{PublicKey, sha256},
    trust::{Campaign, DocumentKind, Envelope, Manifest, Root, envelope::MAX_ENVELOPE_BYTES},
};
use serde_json::{Value, json};

use super::{
    args::{AddSignature, Inspect, ToSign, TrustSign},
    campaign, trust,
};
use crate::{
    failure::{Exit, Failure},
    key_file,
    package::roots::{Quorum, check_signer, quorums},
    shell::{answer::answer, files, package_dir},
    window,
};

/// Octets of a file that holds one signature, in whatever form.
const MAX_SIGNATURE_OCTETS: u64 = 1024;

pub(super) fn to_sign(order: &ToSign) -> Result<(), Failure> {
    let envelope = read_document(&order.file)?;
    let root = read_root(order.root.as_deref())?;
    let text = envelope.text_to_sign();
    let mut value = json!({
        "document": title(&envelope)?,
        "document_sha256": sha256(&[envelope.payload()]).to_string(),
        "octets": text.len(),
        "octets_sha256": sha256(&[&text]).to_string(),
        "algorithm": "Ed25519 (RFC 8032, no prehash)",
        "wanted": wanted(&quorums(&envelope, root.as_ref())?),
    });
    match &order.out {
        Some(out) => {
            files::replace(out, &text)?;
            put(&mut value, "written", out.display().to_string().into());
        }
        None => put(&mut value, "octets_base64", BASE64_STANDARD.encode(&text).into()),
    }
    answer(order.json, &value);
    Ok(())
}

pub(super) fn add_signature(order: &AddSignature) -> Result<(), Failure> {
    let mut envelope = read_document(&order.file)?;
    let root = read_root(order.root.as_deref())?;
    let key = trust::public_key(&order.public_key)?;
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

/// Says what a document is and who has still to sign it.
pub(super) fn report(
    path: &Path,
    envelope: &Envelope,
    root: Option<&Root>,
    json: bool,
) -> Result<(), Failure> {
    let quorums = quorums(envelope, root)?;
    let missing: u32 = quorums.iter().map(Quorum::missing).sum();
    let value = json!({
        "written": path.display().to_string(),
        "document": title(envelope)?,
        "signatures": described(&quorums),
        "signatures_missing": missing,
    });
    answer(json, &value);
    Ok(())
}

pub(super) fn inspect(order: &Inspect) -> Result<(), Failure> {
    let envelope = read_document(&order.file)?;
    let root = read_root(order.root.as_deref())?;
    let mut value = contents(&envelope)?;
    let quorums = quorums(&envelope, root.as_ref())?;
    put(&mut value, "document", title(&envelope)?.into());
    put(&mut value, "key_ids", envelope.key_ids().collect::<Vec<_>>().into());
    put(&mut value, "signatures", described(&quorums));
    answer(order.json, &value);
    // With a root the question is whether to believe it.
    if root.is_some() && quorums.iter().any(|quorum| quorum.missing() > 0) {
        let what = order.file.display();
        return Err(Exit::Refused.because(format!("{what}: signatures are missing")));
    }
    Ok(())
}

fn contents(envelope: &Envelope) -> Result<Value, Failure> {
    let payload = envelope.payload();
    let refused = |error| Failure::trust(envelope.kind().to_string(), error);
    Ok(match envelope.kind() {
        DocumentKind::Root => root_value(&Root::read(payload).map_err(refused)?),
        DocumentKind::Manifest => manifest_value(&Manifest::read(payload).map_err(refused)?),
        DocumentKind::Campaign => {
            campaign::describe(&Campaign::read(payload).map_err(refused)?, payload)
        }
    })
}

fn root_value(root: &Root) -> Value {
    let role = |role| {
        let keys = root.keys(role);
        let ids: Vec<String> = keys.keys.iter().map(PublicKey::key_id).collect();
        json!({ "threshold": keys.threshold, "keys": ids })
    };
    let roles: serde_json::Map<_, _> =
        root.roles.keys().map(|name| (name.to_string(), role(*name))).collect();
    json!({
        "version": root.version,
        "epoch": root.epoch,
        "sequence_floor": root.sequence_floor,
        "expires": window::rfc3339(root.expires),
        "roles": roles,
    })
}

fn manifest_value(manifest: &Manifest) -> Value {
    let components: Vec<Value> = manifest
        .components
        .iter()
        .map(|component| {
            json!({
                "id": component.id.0,
                "stored_bytes": component.stored_len,
                "stored_sha256": component.stored_sha256.to_string(),
            })
        })
        .collect();
    json!({
        "firmware_version": manifest.firmware_version,
        "sequence": manifest.sequence,
        "floor_after_commit": manifest.floor_after_commit,
        "epoch": manifest.epoch,
        "root_version": manifest.root_version,
        "vendor": manifest.vendor.to_string(),
        "classes": manifest.classes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "not_before": window::rfc3339(manifest.not_before),
        "expires": window::rfc3339(manifest.expires),
        "components": components,
    })
}

/// Returns what people call the document, so that nobody signs another one by mistake.
fn title(envelope: &Envelope) -> Result<String, Failure> {
    let payload = envelope.payload();
    let refused = |error| Failure::trust(envelope.kind().to_string(), error);
    Ok(match envelope.kind() {
        DocumentKind::Root => {
            let root = Root::read(payload).map_err(refused)?;
            format!("root {} of epoch {}", root.version, root.epoch)
        }
        DocumentKind::Manifest => {
            let manifest = Manifest::read(payload).map_err(refused)?;
            format!("manifest {} of firmware {}", manifest.sequence, manifest.firmware_version)
        }
        DocumentKind::Campaign => {
            let campaign = Campaign::read(payload).map_err(refused)?;
            format!("campaign {} {}", campaign.sequence, campaign.id)
        }
    })
}

fn described(quorums: &[Quorum]) -> Value {
    let one = |quorum: &Quorum| {
        json!({
            "of": quorum.of,
            "needed": quorum.needed,
            "signed": quorum.signed,
            "not_signed": quorum.unsigned,
            "missing": quorum.missing(),
        })
    };
    Value::Array(quorums.iter().map(one).collect())
}

/// Returns the ids of the keys whose signatures would still count.
fn wanted(quorums: &[Quorum]) -> Vec<String> {
    let open = quorums.iter().filter(|quorum| quorum.missing() > 0);
    let mut ids: Vec<String> = open.flat_map(|quorum| quorum.unsigned.clone()).collect();
    ids.sort();
    ids.dedup();
    ids
}

fn put(value: &mut Value, name: &str, member: Value) {
    if let Value::Object(members) = value {
        members.insert(name.to_owned(), member);
    }
}

fn read_root(path: Option<&Path>) -> Result<Option<Root>, Failure> {
    let Some(path) = path else { return Ok(None) };
    let envelope = package_dir::read_envelope(path)?;
    let root = Root::from_factory(&envelope)
        .map_err(|error| Failure::trust(path.display().to_string(), error))?;
    Ok(Some((*root).clone()))
}

/// Reads a document in its envelope, or a campaign that `campaign build --out` wrote bare.
pub(super) fn read_document(path: &Path) -> Result<Envelope, Failure> {
    let octets = files::read(path, u64::try_from(MAX_ENVELOPE_BYTES).expect("4096"))?;
    let refused = |error| Failure::trust(path.display().to_string(), error);
    match Envelope::parse(&octets) {
        Ok(envelope) => Ok(envelope),
        Err(_) if Campaign::read(&octets).is_ok() => {
            Envelope::new(DocumentKind::Campaign, octets).map_err(refused)
        }
        Err(error) => Err(refused(error)),
    }
}
