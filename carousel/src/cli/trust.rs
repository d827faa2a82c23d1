//! `trust init`, `create` and `rotate`, and `key`.

use std::path::Path;

use proto::{
    crypto::{PublicKey, SigningKey},
    time::Utc,
    trust::{DocumentKind, Envelope, Root},
};
use serde_json::json;

use super::{
    args::{RootArgs, TrustCreateArgs, TrustInitArgs, TrustRotateArgs},
    documents::report,
    keys::public_key,
};
use crate::{
    error::{CliError, ExitCode},
    key_file,
    package::{
        documents::make_root,
        roots::{EpochChange, RootChange, check_signer, first_root, next_root, quorums},
    },
    shell::{
        answer::{answer, print},
        clock, files, package_dir,
    },
    window,
};

pub(super) fn init(args: &TrustInitArgs) -> Result<(), CliError> {
    let root_path = args.dir.join("root.env");
    let paths = ["root.key", "release.key", "campaign.key"].map(|name| args.dir.join(name));
    let there = paths.iter().chain([&root_path]).find(|path| files::exists(path));
    if let Some(path) = there {
        let text = format!("{}: is there already, and keys are not replaced", path.display());
        return Err(ExitCode::Conflict.with_message(text));
    }
    files::make_directory(&args.dir)?;
    let [root, release, campaign] = paths.each_ref().map(|path| make_key(path));
    let (root, release, campaign) = (root?, release?, campaign?);
    let now = clock::now().utc;
    let envelope = make_root(now, &root, release.public(), campaign.public())?;
    files::replace(&root_path, &envelope)?;
    let value = json!({
        "root": root_path.display().to_string(),
        "root_key": root.public().key_id(),
        "release_key": release.public().key_id(),
        "campaign_key": campaign.public().key_id(),
    });
    answer(args.json, &value)
}

pub(super) fn create(args: &TrustCreateArgs) -> Result<(), CliError> {
    let (expires, mut change) = read_terms(&args.terms)?;
    change.epoch = EpochChange::Keep;
    let root = first_root(expires, &change)?;
    write_root(&root, None, &args.terms, &args.out)
}

pub(super) fn rotate(args: &TrustRotateArgs) -> Result<(), CliError> {
    let envelope = package_dir::read_envelope(&args.current)?;
    // An expired root is followed by the next one; that is what its keys are still good for.
    let current = Root::from_factory(&envelope)
        .map_err(|error| CliError::trust(args.current.display().to_string(), error))?;
    let (expires, mut change) = read_terms(&args.terms)?;
    if args.new_epoch {
        change.epoch = EpochChange::Next;
    }
    change.remove.clone_from(&args.remove);
    let next = next_root(&current, expires, &change)?;
    write_root(&next, Some(&current), &args.terms, &args.out)
}

fn read_terms(terms: &RootArgs) -> Result<(Utc, RootChange), CliError> {
    let now = clock::now().utc;
    let expires = window::moment(now, &terms.expires)
        .map_err(|text| ExitCode::Usage.with_message(format!("--expires: {text}")))?;
    window::check_ahead(now, "--expires", expires)
        .map_err(|why| ExitCode::Policy.with_message(why))?;
    let add = terms
        .add
        .iter()
        .map(|(role, key)| public_key(key).map(|key| (*role, key)))
        .collect::<Result<_, _>>()?;
    let threshold = terms.threshold.clone();
    let change =
        RootChange { add, threshold, sequence_floor: terms.floor, ..RootChange::default() };
    Ok((expires, change))
}

/// Signs with the keys of the arguments and prints the missing signatures.
fn write_root(
    root: &Root,
    before: Option<&Root>,
    terms: &RootArgs,
    out: &Path,
) -> Result<(), CliError> {
    if files::exists(out) {
        let text = format!("--out: {} is there already", out.display());
        return Err(ExitCode::Conflict.with_message(text));
    }
    let refused = |error| CliError::trust("root", error);
    let mut envelope =
        Envelope::new(DocumentKind::Root, root.emit().map_err(refused)?).map_err(refused)?;
    for path in &terms.key {
        let key = files::read_key(path)?;
        check_signer(&quorums(&envelope, before)?, &key.public())?;
        envelope.sign(&key).map_err(refused)?;
    }
    files::replace(out, &envelope.emit())?;
    report(out, &envelope, before, terms.json)
}

fn make_key(path: &Path) -> Result<SigningKey, CliError> {
    let document = SigningKey::generate_pkcs8();
    files::write_secret(path, &document)?;
    Ok(SigningKey::from_pkcs8(&document).expect("it was just made"))
}

pub(super) fn new_key(path: &Path, json: bool) -> Result<(), CliError> {
    show(path, json, make_key(path)?.public())
}

pub(super) fn show_key(path: &Path, pem: bool, json: bool) -> Result<(), CliError> {
    let key = files::read_public_key(path)?;
    if pem {
        return print(key_file::public_pem(&key));
    }
    show(path, json, key)
}

fn show(path: &Path, json: bool, key: PublicKey) -> Result<(), CliError> {
    let value = json!({
        "file": path.display().to_string(),
        "key_id": key.key_id(),
        "public_key": format!("{key:?}"),
    });
    answer(json, &value)
}
