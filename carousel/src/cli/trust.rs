//! `trust init` and `key`.

use std::path::Path;

use proto::crypto::{PublicKey, SigningKey};
use serde_json::json;

use super::args::TrustInit;
use crate::{
    failure::{Exit, Failure},
    package::documents,
    shell::{answer::answer, clock, files},
};

pub(super) fn init(order: &TrustInit) -> Result<(), Failure> {
    let root_path = order.dir.join("root.env");
    let paths = ["root.key", "release.key", "campaign.key"].map(|name| order.dir.join(name));
    let there = paths.iter().chain([&root_path]).find(|path| files::exists(path));
    if let Some(path) = there {
        let text = format!("{}: is there already, and keys are not replaced", path.display());
        return Err(Exit::Conflict.because(text));
    }
    files::make_directory(&order.dir)?;
    let [root, release, campaign] = paths.each_ref().map(|path| make_key(path));
    let (root, release, campaign) = (root?, release?, campaign?);
    let now = clock::now().utc;
    let envelope = documents::make_root(now, &root, release.public(), campaign.public())?;
    files::replace(&root_path, &envelope)?;
    let value = json!({
        "root": root_path.display().to_string(),
        "root_key": root.public().key_id(),
        "release_key": release.public().key_id(),
        "campaign_key": campaign.public().key_id(),
    });
    answer(order.json, &value);
    Ok(())
}

fn make_key(path: &Path) -> Result<SigningKey, Failure> {
    let document = SigningKey::generate_pkcs8();
    files::write_secret(path, &document)?;
    Ok(SigningKey::from_pkcs8(&document).expect("it was just made"))
}

pub(super) fn new_key(path: &Path, json: bool) -> Result<(), Failure> {
    show(path, json, make_key(path)?.public());
    Ok(())
}

pub(super) fn show_key(path: &Path, json: bool) -> Result<(), Failure> {
    show(path, json, files::read_key(path)?.public());
    Ok(())
}

fn show(path: &Path, json: bool, key: PublicKey) {
    let value = json!({
        "file": path.display().to_string(),
        "key_id": key.key_id(),
        "public_key": format!("{key:?}"),
    });
    answer(json, &value);
}
