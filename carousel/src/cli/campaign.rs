//! `campaign build`, `sign` and `inspect`.

use std::path::Path;

use proto::{
    crypto::{random, sha256},
    ids::CampaignId,
    time::Utc,
    trust::{Campaign, DocumentKind, Envelope, Root, TrustError, Verified},
};
use serde_json::{Value, json};

use super::{
    args::{CampaignBuildArgs, CampaignSignArgs},
    documents::{campaign_value, read_document},
};
use crate::{
    error::{CliError, ExitCode},
    package::documents::{self, YEAR},
    shell::{answer::answer, clock, files, package_dir},
    window,
};

pub(super) fn build(args: &CampaignBuildArgs) -> Result<(), CliError> {
    let now = clock::now().utc;
    let campaign = compose(args, now)?;
    let payload = campaign.emit().map_err(|error| CliError::trust("campaign", error))?;
    let mut written = Vec::new();
    if let Some(out) = &args.out {
        files::replace(out, &payload)?;
        written.push(out.display().to_string());
    }
    if !args.key.is_empty() {
        let keys: Vec<_> =
            args.key.iter().map(|key| files::read_key(key)).collect::<Result<_, _>>()?;
        let root = args.root.as_deref().map(|root| read_root(now, root)).transpose()?;
        if let Some(root) = &root {
            keys.iter()
                .try_for_each(|key| documents::check_role(root, DocumentKind::Campaign, key))?;
        }
        let envelope = documents::signed(DocumentKind::Campaign, payload.clone(), &keys)?;
        if let Some(root) = &root {
            Campaign::verify(root, &envelope)
                .map_err(|error| CliError::trust("campaign would not be accepted", error))?;
        }
        let path = package_dir::campaign_path(&args.dir);
        files::replace(&path, &envelope)?;
        written.push(path.display().to_string());
    }
    let value = json!({
        "campaign_id": campaign.id.to_string(),
        "campaign_sha256": sha256(&[&payload]).to_string(),
        "written": written.join(" "),
    });
    answer(args.json, &value)
}

fn compose(args: &CampaignBuildArgs, now: Utc) -> Result<Campaign, CliError> {
    let moment = |field: &str, text: &str| {
        let read = window::moment(now, text);
        read.map_err(|error| ExitCode::Usage.with_message(format!("{field}: {error}")))
    };
    let not_before = moment("--not-before", &args.not_before)?;
    let latest_stop = moment("--latest-stop", &args.latest_stop)?;
    let (opens, closes) = (Some(not_before), Some(latest_stop));
    window::check_window(now, ("--not-before", opens), ("--latest-stop", closes))
        .map_err(|why| ExitCode::Policy.with_message(why))?;
    let (manifest, payload) = package_dir::read_manifest(&args.dir)?;
    documents::check_expiry(now, DocumentKind::Manifest, manifest.expires)?;
    let objects = manifest
        .components
        .iter()
        .map(|component| {
            let path = package_dir::component_path(&args.dir, component.id, "plan");
            let (header, _) = package_dir::read_plan_head(&path)?;
            documents::object_of_plan(&manifest, component.id, &header)
        })
        .collect::<Result<_, _>>()?;
    Ok(Campaign {
        id: CampaignId(random()),
        sequence: args.sequence,
        manifest_sha256: sha256(&[&payload]),
        objects,
        not_before,
        latest_stop,
        sources: args.source.clone(),
        report_spread_max_s: args.report_spread_max,
        expires: latest_stop + YEAR,
        epoch: manifest.epoch,
    })
}

fn read_root(now: Utc, path: &Path) -> Result<Verified<Root>, CliError> {
    documents::trusted_root(now, &package_dir::read_envelope(path)?)
}

pub(super) fn sign(args: &CampaignSignArgs) -> Result<(), CliError> {
    let root = read_root(clock::now().utc, &args.root)?;
    let key = files::read_key(&args.key)?;
    documents::check_role(&root, DocumentKind::Campaign, &key)?;
    let mut envelope = read_campaign(&args.file)?;
    let refused = |error| CliError::trust("campaign", error);
    envelope.sign(&key).map_err(refused)?;
    let octets = envelope.emit();
    let missing = match Campaign::verify(&root, &octets) {
        Ok(_) => 0,
        Err(TrustError::Threshold { valid, needed, .. }) => {
            u64::from(needed).saturating_sub(u64::try_from(valid).unwrap_or(u64::MAX))
        }
        Err(error) => return Err(refused(error)),
    };
    files::replace(&args.out, &octets)?;
    let value = json!({
        "signed": args.out.display().to_string(),
        "key_id": key.public().key_id(),
        "signatures_missing": missing,
    });
    answer(args.json, &value)
}

/// Reads a campaign that is signed, or one that is not.
fn read_campaign(path: &Path) -> Result<Envelope, CliError> {
    let envelope = read_document(path)?;
    if envelope.kind() == DocumentKind::Campaign {
        return Ok(envelope);
    }
    let found = envelope.kind();
    Err(ExitCode::Refused
        .with_message(format!("{}: a {found}, expected a campaign", path.display())))
}

pub(super) fn inspect(path: &Path, json: bool) -> Result<(), CliError> {
    let envelope = read_campaign(path)?;
    let campaign = Campaign::read(envelope.payload())
        .map_err(|error| CliError::trust(path.display().to_string(), error))?;
    let mut value = campaign_value(&campaign, envelope.payload());
    if let Value::Object(members) = &mut value {
        let key_ids: Vec<&str> = envelope.key_ids().collect();
        members.insert("key_ids".to_owned(), key_ids.into());
    }
    answer(json, &value)
}
