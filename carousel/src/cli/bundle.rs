//! `bundle`: the documents and an image of a package in one file.

use std::os::unix::fs::FileExt as _;

use proto::{ids::ComponentId, trust::bundle::BundleHead};
use serde_json::json;

use super::args::BundleArgs;
use crate::{
    error::{CliError, ExitCode},
    shell::{answer::answer, files, package_dir},
};

pub(super) fn make(args: &BundleArgs) -> Result<(), CliError> {
    let component = ComponentId(args.component);
    let (manifest, _) = package_dir::read_manifest(&args.dir)?;
    let described = manifest.component(component).ok_or_else(|| {
        ExitCode::NotFound.with_message(format!("the package has no component {}", component.0))
    })?;
    let campaign = package_dir::read_envelope(&package_dir::campaign_path(&args.dir))?;
    let envelope = package_dir::read_envelope(&package_dir::manifest_path(&args.dir))?;
    let path = package_dir::component_path(&args.dir, component, "img");
    let (image, length) = files::open_image(&path)?;
    let head = BundleHead::emit(&envelope, &campaign, (component, length));
    let target = files::Temporary::create(&args.out)?;
    let failed = |error| CliError::io(args.out.display().to_string(), error);
    let mut at = 0;
    let mut put = |octets: &[u8]| {
        let written = target.file().write_all_at(octets, at);
        at += u64::try_from(octets.len()).unwrap_or_default();
        written.map_err(failed)
    };
    put(&head)?;
    let mut hasher = proto::crypto::Hasher::new();
    let mut piece = vec![0; PIECE];
    let mut left = length;
    while left > 0 {
        let octets = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        let part = piece.get_mut(..octets).unwrap_or_default();
        image
            .read_exact_at(part, length - left)
            .map_err(|error| CliError::io(path.display().to_string(), error))?;
        hasher.update(part);
        put(part)?;
        left -= u64::try_from(octets).unwrap_or(left);
    }
    if hasher.finish() != described.stored_sha256 {
        let text = "the image is not the one that the manifest was signed for";
        return Err(ExitCode::Refused.with_message(text));
    }
    put(&BundleHead::tail(length))?;
    target.persist()?;
    let value = json!({
        "bundle": args.out.display().to_string(),
        "bytes": at,
        "version": manifest.firmware_version,
    });
    answer(args.json, &value)
}

const PIECE: usize = 1 << 20;
