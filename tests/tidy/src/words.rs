//! Words that are not used, and the openings of doc comments.
//!
//! A word counts wherever it stands: in prose, in a literal, or as a part of a name
//! (`snake_case` and `CamelCase` are split).

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::Context as _;

use crate::{Finding, SourceFile};

/// Words that are not used, each with what is written in its place.
const BANNED: [(&str, &str); 4] = [
    ("rest", "suspend, suspension; of a value: remaining, tail"),
    ("told", "sent, queued, reported"),
    ("desk", "operator, management server, device context"),
    ("heard", "received"),
];

/// Phrases that are not used, each with what is written in its place.
const BANNED_PHRASES: [(&str, &str); 1] = [("what came of", "result, outcome")];

/// Words with which no doc comment begins: its first line is a noun phrase or a verb.
const OPENINGS: [&str; 6] = ["What", "Whether", "Who", "How", "Where", "Why"];

/// Text that may contain a banned word.
#[derive(Debug, Clone, Copy)]
pub struct Exception {
    /// The file; empty: all files.
    pub path: &'static str,
    /// The text, as it stands in a line.
    pub text: &'static str,
    /// Reason.
    pub reason: &'static str,
}

/// Texts that may contain a banned word.
pub const EXCEPTIONS: [Exception; 14] = [
    anywhere("Package/Rest", "node of the DM tree"),
    anywhere("datagrams_heard", "field of the lab's --json"),
    anywhere("data_heard", "field of the lab's --json"),
    in_file("tests/src/span.rs", "pub heard", "field of the lab's --json"),
    in_file("tests/src/span.rs", "heard: received", "field of the lab's --json"),
    in_file("tests/src/span.rs", "killed.heard, whole.heard", "field of the lab's --json"),
    in_file("tests/src/sim/scenario.rs", "(seed, \"desk\")", "seeds draw by this name"),
    in_file("tests/src/sim/model.rs", "is told another digest", "breach of known failures"),
    in_file("tests/tidy/src/owners/accesses.rs", "literal.rest", "field of syn"),
    in_file(STORE_7, "ADD COLUMN rest", "schema of stored databases"),
    in_file(STORE_14, "RENAME COLUMN rest", "schema of stored databases"),
    in_file(ROTATION_TESTS, "TO rest", "schema of stored databases"),
    in_file(SCHEMA_TESTS, "quirks, rest, components", "schema of stored databases"),
    in_file(SCHEMA_TESTS, "device.rest", "action of stored audit lines"),
];

const STORE_7: &str = "dm-bridge/src/shell/store/sqlite/schema_7.sql";
const STORE_14: &str = "dm-bridge/src/shell/store/sqlite/schema_14.sql";
const ROTATION_TESTS: &str = "dm-bridge/src/shell/store/sqlite/rotation/tests.rs";
const SCHEMA_TESTS: &str = "dm-bridge/src/shell/store/sqlite/schema/tests.rs";

const fn anywhere(text: &'static str, reason: &'static str) -> Exception {
    Exception { path: "", text, reason }
}

const fn in_file(path: &'static str, text: &'static str, reason: &'static str) -> Exception {
    Exception { path, text, reason }
}

/// Endings of the files in which words are checked.
const TEXTS: [&str; 7] = ["rs", "md", "toml", "sql", "sh", "proto", "yml"];

/// Folders that are read although their names begin with a dot.
const HIDDEN_TEXTS: [&str; 4] = [".cargo", ".ci", ".config", ".github"];

/// Returns the texts of the repository in which words are checked, by path.
///
/// # Errors
///
/// When a file or folder cannot be read.
pub fn texts(top: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let mut texts = Vec::new();
    let mut open = vec![top.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            let relative = path.strip_prefix(top)?.to_string_lossy().into_owned();
            let hidden = relative.starts_with('.')
                && !HIDDEN_TEXTS.into_iter().any(|folder| relative.starts_with(folder));
            let built = relative.ends_with("target") || relative.ends_with("src/generated");
            if path.is_dir() && !hidden && !built {
                open.push(path);
                continue;
            }
            let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
            if path.is_file() && (TEXTS.contains(&ending) || relative == ".ci/run") {
                let text = fs::read_to_string(&path).with_context(|| relative.clone())?;
                texts.push((relative, text));
            }
        }
    }
    texts.sort();
    Ok(texts)
}

/// Checks that no banned word is used, and that each exception is needed.
#[must_use]
pub fn banned(texts: &[(String, String)], exceptions: &[Exception]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut needed: BTreeSet<usize> = BTreeSet::new();
    // The list itself is no text of the product.
    for (path, text) in texts.iter().filter(|(path, _)| path != "tests/tidy/src/words.rs") {
        let excepted: Vec<_> = (0..)
            .zip(exceptions)
            .filter(|(_, exception)| exception.path.is_empty() || exception.path == path)
            .collect();
        for (number, line) in
            (1..).zip(text.lines()).filter(|(_, line)| !banned_in(line).is_empty())
        {
            let mut line = line.to_owned();
            for (index, exception) in &excepted {
                if line.contains(exception.text) {
                    needed.insert(*index);
                    line = line.replace(exception.text, "");
                }
            }
            for (word, instead) in banned_in(&line) {
                let what = format!("`{word}` is not used here: {instead}");
                findings.push(Finding::new(path, number, what));
            }
        }
    }
    for (index, exception) in (0..).zip(exceptions) {
        if !needed.contains(&index) {
            let what = format!("`{}` needs no exception ({})", exception.text, exception.reason);
            findings.push(Finding::new(exception.path, 0, what));
        }
    }
    findings
}

/// Returns the banned words and phrases of a line.
fn banned_in(line: &str) -> Vec<(&'static str, &'static str)> {
    let words: BTreeSet<_> = words(line).map(|word| word.to_lowercase()).collect();
    let lower = line.to_lowercase();
    let single = BANNED.into_iter().filter(|(word, _)| words.contains(*word));
    single.chain(BANNED_PHRASES.into_iter().filter(|(phrase, _)| lower.contains(phrase))).collect()
}

/// Splits a line into words; names are split at `_` and before a capital.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphabetic()).flat_map(|name| {
        let mut starts = vec![0];
        let mut before_is_small = false;
        for (at, c) in name.char_indices() {
            if c.is_uppercase() && before_is_small {
                starts.push(at);
            }
            before_is_small = c.is_lowercase();
        }
        starts.push(name.len());
        starts
            .windows(2)
            .filter_map(|ends| name.get(*ends.first()?..*ends.last()?))
            .collect::<Vec<_>>()
    })
}

/// Checks that no doc comment begins with a clause; returns how many there are, too.
#[must_use]
pub fn openings(files: &[SourceFile]) -> (usize, Vec<Finding>) {
    let mut count = 0;
    let mut findings = Vec::new();
    for file in files {
        let mut inside = false;
        for (number, line) in (1..).zip(file.text.lines()) {
            let line = line.trim_start();
            let text = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"));
            if let Some(text) = text.filter(|_| !inside) {
                count += 1;
                let first = text.trim_start().split(|c: char| !c.is_alphabetic()).next();
                if let Some(word) = first.filter(|word| OPENINGS.contains(word)) {
                    let what = format!("a doc comment begins with `{word}`: noun phrase or verb");
                    findings.push(Finding::new(&file.path, number, what));
                }
            }
            inside = text.is_some();
        }
    }
    (count, findings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::FileKind;

    fn found(line: &str) -> usize {
        banned(&[("receiver/src/a.rs".to_owned(), line.to_owned())], &[]).len()
    }

    #[test]
    fn banned_words_are_found_in_prose_and_in_names() {
        for line in ["a desk.", "// It told", "fn was_heard()", "struct RestArgs;", "\"REST\""] {
            assert_eq!(found(line), 1, "{line}");
        }
        assert_eq!(found("What came of it"), 1);
        for line in ["restore", "desktop", "unrest", "fn interest()", "overheard"] {
            assert_eq!(found(line), 0, "{line}");
        }
    }

    #[test]
    fn an_exception_covers_its_text_and_must_be_needed() {
        let texts = [("a.rs".to_owned(), "Package/Rest\nrest".to_owned())];
        let exception = in_file("a.rs", "Package/Rest", "OMA node");
        assert_eq!(banned(&texts, &[exception]).len(), 1);
        let unneeded = in_file("b.rs", "Package/Rest", "none");
        assert_eq!(banned(&texts, &[exception, unneeded]).len(), 2);
    }

    #[test]
    fn a_doc_comment_that_begins_with_a_clause_is_found() {
        let text = "//! Whether a\n\n/// Returns a.\n/// Where b.\nfn f() {}\n/// Why.\nfn g() {}";
        let file = SourceFile::new("proto/src/a.rs", text, FileKind::Test);
        let (count, findings) = openings(&[file]);
        assert_eq!((count, findings.len()), (3, 2));
    }
}
