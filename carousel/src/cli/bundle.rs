//! `bundle`: the documents and an image of a package in one file.

use std::os::unix::fs::FileExt as _;

use proto::{ids::ComponentId, trust::bundle::BundleHead};
use serde_json::json;

use super::args::BundleOrder;
use crate::{
    failure::{Exit, Failure},
    shell::{answer::answer, files, package_dir},
};

pub(super) fn make(order: &BundleOrder) -> Result<(), Failure> {
    let component = ComponentId(order.component);
    let (manifest, _) = package_dir::read_manifest(&order.dir)?;
    let described = manifest.component(component).ok_or_else(|| {
        Exit::NotFound.because(format!("the package has no component {}", component.0))
    })?;
    let campaign = package_dir::read_envelope(&package_dir::campaign_path(&order.dir))?;
    let envelope = package_dir::read_envelope(&package_dir::manifest_path(&order.dir))?;
    let path = package_dir::component_path(&order.dir, component, "img");
    let (image, length) = files::open_image(&path)?;
    let head = BundleHead::emit(&envelope, &campaign, (component, length));
    let target = files::Temporary::create(&order.out)?;
    let failed = |error| Failure::io(order.out.display().to_string(), error);
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
            .map_err(|error| Failure::io(path.display().to_string(), error))?;
        hasher.update(part);
        put(part)?;
        left -= u64::try_from(octets).unwrap_or(left);
    }
    if hasher.finish() != described.stored_sha256 {
        let text = "the image is not the one that the manifest was signed for";
        return Err(Exit::Refused.because(text));
    }
    put(&BundleHead::tail(length))?;
    target.publish()?;
    let value = json!({
        "bundle": order.out.display().to_string(),
        "bytes": at,
        "version": manifest.firmware_version,
    });
    answer(order.json, &value);
    Ok(())
}

const PIECE: usize = 1 << 20;
