//! Patches that each take one defence out of the product, and the tests that must notice.
//!
//! `tests/mutations/table.toml` lists the threats, and for each at least one patch beside it.
//! [`findings`] holds the table against the sources; `cargo mutants-check` applies the patches one
//! by one to a copy of the sources and runs the named tests.

use std::{collections::BTreeSet, fs, path::PathBuf, process::Command};

use anyhow::Context as _;
use serde::Deserialize;

use crate::{Finding, SourceFile, source::SHARED_SHELLS, workspace_dir};

/// Defences against each threat, and the patches that remove them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// The threats, by the names of the security facts.
    pub rows: Vec<String>,
    /// The patches, in the order in which they are tried.
    pub mutation: Vec<Mutation>,
}

/// Removal of one defence.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutation {
    /// The threat.
    pub row: String,
    /// Name of the patch, without `.patch`.
    pub patch: String,
    /// Behaviour of the product with the patch.
    pub says: String,
    /// The package whose test must notice.
    pub package: String,
    /// `lib`, or the name of a test program.
    pub program: String,
    /// Full name of the test.
    pub test: String,
}

impl Mutation {
    /// Returns where the patch lies.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        folder().join(format!("{}.patch", self.patch))
    }
}

/// Reads the table.
///
/// # Errors
///
/// When it cannot be read or has fields that are not known.
pub fn table() -> anyhow::Result<Table> {
    let path = folder().join("table.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("read {}", path.display()))
}

/// Returns what is wrong with the table: a row without a patch, a patch that does not apply, a
/// test that is not there.
///
/// # Errors
///
/// When the table cannot be read or `git` cannot be run.
pub fn findings(table: &Table, sources: &[SourceFile]) -> anyhow::Result<Vec<Finding>> {
    let mut findings: Vec<String> = Vec::new();
    let has = |row: &String| table.mutation.iter().any(|mutation| mutation.row == *row);
    findings.extend(
        table
            .rows
            .iter()
            .filter(|row| !has(row))
            .map(|row| format!("{row}: no patch takes it out")),
    );
    let mut names = BTreeSet::new();
    for mutation in &table.mutation {
        let name = &mutation.patch;
        if !names.insert(name) {
            findings.push(format!("{name}: listed twice"));
        }
        if !table.rows.contains(&mutation.row) {
            findings.push(format!("{name}: `{}` is no row", mutation.row));
        }
        if !test_exists(mutation, sources) {
            findings.push(format!("{name}: {} has no test {}", mutation.package, mutation.test));
        }
        if let Some(reason) = refused(mutation)? {
            findings.push(format!("{name}: the patch does not apply: {reason}"));
        }
    }
    for entry in fs::read_dir(folder())? {
        let file = entry?.file_name().to_string_lossy().into_owned();
        if let Some(name) = file.strip_suffix(".patch")
            && !names.iter().any(|listed| *listed == name)
        {
            findings.push(format!("{name}: a patch that the table does not list"));
        }
    }
    Ok(findings
        .into_iter()
        .map(|what| Finding::new("tests/mutations/table.toml", 0, what))
        .collect())
}

fn test_exists(mutation: &Mutation, sources: &[SourceFile]) -> bool {
    let function = mutation.test.rsplit("::").next().unwrap_or_default();
    let defined = format!("fn {function}(");
    let crate_name = mutation.package.replace('-', "_");
    let shared = SHARED_SHELLS.iter().find(|(_, name)| *name == crate_name);
    let folder = shared.map_or(&*mutation.package, |(folder, _)| folder);
    sources
        .iter()
        .filter(|source| source.path.starts_with(&format!("{folder}/")))
        .any(|source| source.text.contains(&defined))
}

/// Returns why the patch does not apply to the sources as they are; `None` when it does.
fn refused(mutation: &Mutation) -> anyhow::Result<Option<String>> {
    let output = Command::new("git")
        .current_dir(workspace_dir())
        .args(["apply", "--check"])
        .arg(mutation.path())
        .output()
        .context("run git")?;
    let said = || String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Ok((!output.status.success()).then(said))
}

/// Returns where table and patches lie.
#[must_use]
pub fn folder() -> PathBuf {
    workspace_dir().join("tests/mutations")
}
