//! Carries what names sources by path or by line over a change of the sources.
//!
//! | carried | how |
//! | --- | --- |
//! | `tests/mutations/*.patch` | merged with the change, three ways, from the revision before it |
//! | `tests/mutations/table.toml` | module paths of the tests, by the moved files |
//! | `tests/conformance/*.toml`, rules of this package, pages | paths of moved files |
//!
//! The revision before the change is one on which all of these are right; the change is what the
//! working tree differs by.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};

use crate::{mutations, workspace_dir};

/// Files and folders in which paths of sources are named.
const NAME_PATHS: [&str; 13] = [
    ".github",
    "tests/conformance",
    "tests/tidy/src",
    "tests/README.md",
    "README.md",
    "proto/README.md",
    "proto/docs",
    "carousel/README.md",
    "receiver/README.md",
    "receiver/docs",
    "dm-bridge/README.md",
    "dm-bridge/docs",
    "tests/mutations",
];

/// Moved files, old path to new path.
pub type Moves = BTreeMap<String, String>;

/// Carries everything from `revision` to the working tree; returns the names of the patches that
/// need a person, which are left as they were.
///
/// # Errors
///
/// When `git` cannot be run, or a file cannot be read or written.
pub fn carry(revision: &str) -> anyhow::Result<Vec<String>> {
    let moves = moves(revision)?;
    let mut unmerged = Vec::new();
    for mutation in mutations::table()?.mutation {
        if !carry_patch(revision, &moves, &mutation.path())? {
            unmerged.push(mutation.patch);
        }
    }
    for place in NAME_PATHS {
        // The paths in this file are those of its tests.
        let files = files_below(&workspace_dir().join(place))?.into_iter();
        for path in files.filter(|path| !path.ends_with("src/carry.rs")) {
            let is_table = path.ends_with("mutations/table.toml");
            rewrite(&path, |text| match is_table {
                true => carry_table(text, &moves),
                false => carry_paths(text, &moves),
            })?;
        }
    }
    Ok(unmerged)
}

/// Returns `text` with the paths of moved files replaced; a longer name that begins or ends like a
/// moved path is another path.
pub fn carry_paths(text: &str, moves: &Moves) -> String {
    let part_of_a_path = |c: char| c.is_alphanumeric() || "_-./".contains(c);
    let mut carried = String::with_capacity(text.len());
    let mut word = String::new();
    for c in text.chars().chain(['\0']) {
        if part_of_a_path(c) {
            word.push(c);
            continue;
        }
        carried.push_str(moves.get(&word).unwrap_or(&word));
        word.clear();
        carried.push(c);
    }
    carried.pop();
    carried
}

/// Returns the mutation table with the module paths of tests in moved files replaced.
pub fn carry_table(text: &str, moves: &Moves) -> String {
    let mut package = "";
    let mut lines = Vec::new();
    for line in text.lines() {
        if let Some(value) = line.strip_prefix("package = \"") {
            package = value.trim_end_matches('"');
        }
        let test = line.strip_prefix("test = \"").map(|value| value.trim_end_matches('"'));
        let moved = test.and_then(|test| {
            let mut known = moves.iter().filter_map(|(old, new)| {
                let (old, new) = (module(package, old)?, module(package, new)?);
                Some((test.strip_prefix(&format!("{old}::"))?, old.len(), new))
            });
            // A child that moved with its parent is listed too: the longest path is the file's own.
            let first = known.next()?;
            let (name, _, new) = known.fold(first, |a, b| if b.1 > a.1 { b } else { a });
            Some(format!("test = \"{new}::{name}\""))
        });
        lines.push(moved.unwrap_or_else(|| line.to_owned()));
    }
    lines.join("\n") + "\n"
}

/// Module path of a file of a package's library.
fn module(package: &str, path: &str) -> Option<String> {
    let below = path.strip_prefix(package)?.strip_prefix("/src/")?;
    Some(below.strip_suffix(".rs")?.replace('/', "::"))
}

/// Merges one patch with the change; returns whether that was possible.
fn carry_patch(revision: &str, moves: &Moves, patch: &Path) -> anyhow::Result<bool> {
    let text = fs::read_to_string(patch).with_context(|| patch.display().to_string())?;
    let scratch = scratch_dir()?;
    let (base, patched) = (scratch.join("base"), scratch.join("patched"));
    let targets: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("--- a/")).collect();
    for target in &targets {
        let before = git(&["show", &format!("{revision}:{target}")])?;
        for folder in [&base, &patched] {
            let path = folder.join(target);
            fs::create_dir_all(path.parent().context("a file lies in a folder")?)?;
            fs::write(path, &before)?;
        }
    }
    let applied = Command::new("git")
        .current_dir(&patched)
        .env("GIT_CEILING_DIRECTORIES", &scratch)
        .arg("apply")
        .arg(patch)
        .output()
        .context("run git")?;
    ensure!(applied.status.success(), "{} does not apply to {revision}", patch.display());
    let mut carried = String::new();
    for target in targets {
        let path = moves.get(target).map_or(target, String::as_str);
        let now = workspace_dir().join(path);
        let merged = Command::new("git")
            .args(["merge-file", "-p", "-q"])
            .args([&now, &base.join(target), &patched.join(target)])
            .output()
            .context("run git")?;
        if !merged.status.success() {
            return Ok(false);
        }
        fs::write(patched.join("merged"), &merged.stdout)?;
        let difference = Command::new("diff")
            .args(["-U2", "--label", &format!("a/{path}"), "--label", &format!("b/{path}")])
            .arg(&now)
            .arg(patched.join("merged"))
            .output()
            .context("run diff")?;
        carried.push_str(&String::from_utf8(difference.stdout)?);
    }
    fs::remove_dir_all(&scratch)?;
    if carried.is_empty() {
        return Ok(false);
    }
    let same = |text: &str| {
        text.lines()
            .filter(|line| !line.starts_with("@@"))
            .eq(carried.lines().filter(|line| !line.starts_with("@@")))
    };
    if !same(&text) || mutations_apply(patch)? {
        fs::write(patch, carried)?;
    }
    Ok(true)
}

/// Returns whether a patch has to be written anew although only its line numbers differ.
fn mutations_apply(patch: &Path) -> anyhow::Result<bool> {
    let check = Command::new("git")
        .current_dir(workspace_dir())
        .args(["apply", "--check"])
        .arg(patch)
        .output()
        .context("run git")?;
    Ok(!check.status.success())
}

fn scratch_dir() -> anyhow::Result<PathBuf> {
    let scratch = std::env::temp_dir().join(format!("carry-{}", std::process::id()));
    if scratch.exists() {
        fs::remove_dir_all(&scratch)?;
    }
    for folder in ["base", "patched"] {
        fs::create_dir_all(scratch.join(folder))?;
    }
    Ok(scratch)
}

/// Returns the files that the working tree has under another path than `revision`.
fn moves(revision: &str) -> anyhow::Result<Moves> {
    // Moved files must be known to git; `git mv` and `git add` both see to that.
    let listed = git(&["diff", "--find-renames=40%", "--name-status", revision])?;
    let moved = |line: &str| {
        let (_, paths) = line.strip_prefix('R')?.split_once('\t')?;
        let (old, new) = paths.split_once('\t')?;
        Some((old.to_owned(), new.to_owned()))
    };
    Ok(String::from_utf8(listed)?.lines().filter_map(moved).collect())
}

fn git(arguments: &[&str]) -> anyhow::Result<Vec<u8>> {
    let output = Command::new("git")
        .current_dir(workspace_dir())
        .args(arguments)
        .output()
        .context("run git")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "git {}: {}", arguments.join(" "), said.trim());
    Ok(output.stdout)
}

fn files_below(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(path.is_file().then(|| path.to_owned()).into_iter().collect());
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        if ["toml", "rs", "md"].contains(&ending) {
            files.push(path);
        }
    }
    Ok(files)
}

fn rewrite(path: &Path, change: impl Fn(&str) -> String) -> anyhow::Result<()> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let carried = change(&text);
    if carried != text {
        fs::write(path, carried).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moves() -> Moves {
        let moved = [
            ("receiver/src/object.rs", "receiver/src/flute/object.rs"),
            ("receiver/src/object/tests.rs", "receiver/src/flute/object/tests.rs"),
        ];
        moved.map(|(old, new)| (old.to_owned(), new.to_owned())).into()
    }

    #[test]
    fn only_whole_paths_are_carried() {
        let text = "a `receiver/src/object.rs`, receiver/src/object.rst x/receiver/src/object.rs";
        let carried =
            "a `receiver/src/flute/object.rs`, receiver/src/object.rst x/receiver/src/object.rs";
        assert_eq!(carry_paths(text, &moves()), carried);
    }

    #[test]
    fn tests_of_the_table_follow_their_files() {
        let row =
            |package: &str, test: &str| format!("package = \"{package}\"\ntest = \"{test}\"\n");
        let moved = carry_table(&row("receiver", "object::tests::a_b"), &moves());
        assert_eq!(moved, row("receiver", "flute::object::tests::a_b"));
        for kept in [row("proto", "object::tests::a_b"), row("receiver", "objects::tests::a_b")] {
            assert_eq!(carry_table(&kept, &moves()), kept);
        }
    }
}
