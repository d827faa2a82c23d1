//! Signed documents for people: reading them from files, and showing contents and signatures.

use std::path::Path;

use proto::{
    crypto::{PublicKey, sha256},
    trust::{Campaign, DocumentKind, Envelope, Manifest, Root, envelope::MAX_ENVELOPE_BYTES},
};
use serde_json::{Value, json};

use crate::{
    error::CliError,
    package::roots::{Quorum, quorums},
    shell::{answer::answer, files, package_dir},
    window,
};

/// Reads a root, where one is named.
pub(super) fn read_root(path: Option<&Path>) -> Result<Option<Root>, CliError> {
    let Some(path) = path else { return Ok(None) };
    let envelope = package_dir::read_envelope(path)?;
    let root = Root::from_factory(&envelope)
        .map_err(|error| CliError::trust(path.display().to_string(), error))?;
    Ok(Some((*root).clone()))
}

/// Reads a document in its envelope, or a campaign that `campaign build --out` wrote bare.
pub(super) fn read_document(path: &Path) -> Result<Envelope, CliError> {
    let octets = files::read(path, u64::try_from(MAX_ENVELOPE_BYTES).expect("4096"))?;
    let refused = |error| CliError::trust(path.display().to_string(), error);
    match Envelope::parse(&octets) {
        Ok(envelope) => Ok(envelope),
        Err(_) if Campaign::read(&octets).is_ok() => {
            Envelope::new(DocumentKind::Campaign, octets).map_err(refused)
        }
        Err(error) => Err(refused(error)),
    }
}

/// Prints the name of a document, its signatures and how many are missing.
pub(super) fn report(
    path: &Path,
    envelope: &Envelope,
    root: Option<&Root>,
    json: bool,
) -> Result<(), CliError> {
    let quorums = quorums(envelope, root)?;
    let missing: u32 = quorums.iter().map(Quorum::missing).sum();
    let value = json!({
        "written": path.display().to_string(),
        "document": document_name(envelope)?,
        "signatures": describe(&quorums),
        "signatures_missing": missing,
    });
    answer(json, &value)
}

/// Returns the contents of a document.
pub(super) fn contents(envelope: &Envelope) -> Result<Value, CliError> {
    let payload = envelope.payload();
    let refused = |error| CliError::trust(envelope.kind().to_string(), error);
    Ok(match envelope.kind() {
        DocumentKind::Root => root_value(&Root::read(payload).map_err(refused)?),
        DocumentKind::Manifest => manifest_value(&Manifest::read(payload).map_err(refused)?),
        DocumentKind::Campaign => {
            campaign_value(&Campaign::read(payload).map_err(refused)?, payload)
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

/// Returns the name of the document, so that nobody signs another one by mistake.
pub(super) fn document_name(envelope: &Envelope) -> Result<String, CliError> {
    let payload = envelope.payload();
    let refused = |error| CliError::trust(envelope.kind().to_string(), error);
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

/// Returns the signatures that count and those that are missing.
pub(super) fn describe(quorums: &[Quorum]) -> Value {
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
pub(super) fn required_signers(quorums: &[Quorum]) -> Vec<String> {
    let open = quorums.iter().filter(|quorum| quorum.missing() > 0);
    let mut ids: Vec<String> = open.flat_map(|quorum| quorum.unsigned.clone()).collect();
    ids.sort();
    ids.dedup();
    ids
}

/// Adds a member to an object.
pub(super) fn insert_member(value: &mut Value, name: &str, member: Value) {
    if let Value::Object(members) = value {
        members.insert(name.to_owned(), member);
    }
}

/// Returns the contents of a campaign.
pub(super) fn campaign_value(campaign: &Campaign, payload: &[u8]) -> Value {
    let objects: Vec<Value> = campaign
        .objects
        .iter()
        .map(|object| {
            json!({
                "component": object.component.0,
                "symbol_bytes": object.symbol_size,
                "source_blocks": object.source_blocks,
                "alignment": object.alignment,
                "repair_per_block": object.repair_per_block,
                "plan_root": object.plan_root.to_string(),
            })
        })
        .collect();
    let sources: Vec<String> = campaign.sources.iter().map(ToString::to_string).collect();
    json!({
        "campaign_id": campaign.id.to_string(),
        "campaign_sha256": sha256(&[payload]).to_string(),
        "sequence": campaign.sequence,
        "epoch": campaign.epoch,
        "manifest_sha256": campaign.manifest_sha256.to_string(),
        "not_before": window::rfc3339(campaign.not_before),
        "latest_stop": window::rfc3339(campaign.latest_stop),
        "expires": window::rfc3339(campaign.expires),
        "sources": sources,
        "report_spread_max_s": campaign.report_spread_max_s,
        "objects": objects,
    })
}
