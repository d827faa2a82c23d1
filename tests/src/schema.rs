//! The Rust types of `proto/schema/*.proto`, generated without `protoc`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

/// Returns the folder that the generated files are checked in at.
#[must_use]
pub fn generated_dir() -> PathBuf {
    workspace().join("proto/src/generated")
}

/// Returns the generated files: name within [`generated_dir`] and text.
///
/// # Errors
///
/// When a schema does not compile; the message names file and line.
pub fn generate() -> anyhow::Result<BTreeMap<String, String>> {
    let schema = workspace().join("proto/schema");
    let files = protox::compile(["trust.proto", "control.proto"], [&schema])
        .context("compile proto/schema")?;
    let modules = prost_build::Config::new()
        .generate(
            files
                .file
                .into_iter()
                .map(|file| {
                    let module = file.package().split('.').nth(1).unwrap_or_default().to_owned();
                    (prost_build::Module::from_parts([module]), file)
                })
                .collect(),
        )
        .context("generate from proto/schema")?;
    Ok(modules.into_iter().map(|(module, text)| (module.to_file_name_or("schema"), text)).collect())
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
