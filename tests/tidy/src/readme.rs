//! Claims of the READMEs: paths that exist, commands that run, tests that hold the invariants.

use std::path::{Path, PathBuf};

use crate::{Finding, SourceFile};

/// The front page, and the README of each crate.
pub const READMES: [&str; 6] = [
    "README.md",
    "proto/README.md",
    "carousel/README.md",
    "receiver/README.md",
    "dm-bridge/README.md",
    "tests/README.md",
];

/// Bytes that the front page has at most: it is read in two minutes.
pub const MAX_FRONT_PAGE_BYTES: usize = 7_000;

/// Checks the length of the front page in bytes.
pub fn front_page(bytes: usize) -> Vec<Finding> {
    if bytes <= MAX_FRONT_PAGE_BYTES {
        return Vec::new();
    }
    let what =
        format!("{bytes} bytes, {MAX_FRONT_PAGE_BYTES} at most: move it to a crate's README");
    vec![Finding::new("README.md", 0, what)]
}

/// Returns the text of the ```` ```sh ```` blocks, in order: one shell script.
pub fn script(text: &str) -> String {
    let mut script = String::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with("```") {
            inside = line == "```sh";
        } else if inside {
            script.push_str(line);
            script.push('\n');
        }
    }
    script
}

/// Checks that each path in backquotes exists, from `top` or from the folder of the README.
///
/// A path starts with a folder of the repository or of a crate, or with a dot file.
pub fn paths(readme: &str, text: &str, top: &Path) -> Vec<Finding> {
    const HEADS: [&str; 9] = [
        "proto/",
        "carousel/",
        "receiver/",
        "dm-bridge/",
        "tests/",
        "src/",
        ".ci/",
        ".cargo/",
        "README",
    ];
    let mut findings = Vec::new();
    for (line, word) in quoted(text) {
        let is_path = HEADS.iter().any(|head| word.starts_with(head)) && !word.contains(' ');
        if is_path && !top.join(word).exists() && !beside(readme, word, top).exists() {
            findings.push(Finding::new(readme, line, format!("`{word}` does not exist")));
        }
    }
    findings
}

/// Checks that the target of each link exists; links to other hosts are not followed.
pub fn links(readme: &str, text: &str, top: &Path) -> Vec<Finding> {
    let targets = text.lines().enumerate().flat_map(|(index, line)| {
        let targets = line.split("](").skip(1).filter_map(|tail| tail.split(')').next());
        targets.map(move |target| (index + 1, target))
    });
    targets
        .map(|(line, target)| (line, target.split('#').next().unwrap_or_default()))
        .filter(|(_, target)| !target.is_empty() && !target.contains("://"))
        .filter(|(_, target)| !beside(readme, target, top).exists())
        .map(|(line, target)| Finding::new(readme, line, format!("`{target}` does not exist")))
        .collect()
}

fn beside(readme: &str, path: &str, top: &Path) -> PathBuf {
    top.join(readme).with_file_name("").join(path)
}

/// Checks that each word in backquotes with three underscores or more names a test.
pub fn invariants(readme: &str, text: &str, files: &[SourceFile]) -> Vec<Finding> {
    let is_test = |word: &str| {
        let name = word.rsplit("::").next().unwrap_or(word);
        let declaration = format!("fn {name}(");
        files.iter().any(|file| file.text.contains(&declaration))
    };
    quoted(text)
        .filter(|(_, word)| word.matches('_').count() >= 3 && !word.contains(' '))
        .filter(|(_, word)| !is_test(word))
        .map(|(line, word)| Finding::new(readme, line, format!("no test is named `{word}`")))
        .collect()
}

fn quoted(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().flat_map(|(index, line)| {
        line.split('`').skip(1).step_by(2).map(move |word| (index + 1, word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::FileKind;

    #[test]
    fn the_script_is_that_of_the_shell_blocks() {
        let text = "```sh\n# hi\na b \\\n  c   # why\nd\n```\n```text\nno\n```\nno";
        assert_eq!(script(text), "# hi\na b \\\n  c   # why\nd\n");
    }

    #[test]
    fn a_front_page_of_the_limit_passes_and_a_longer_one_does_not() {
        assert_eq!(front_page(MAX_FRONT_PAGE_BYTES), []);
        assert_eq!(front_page(MAX_FRONT_PAGE_BYTES + 1).len(), 1);
    }

    #[test]
    fn a_path_that_is_missing_is_found() {
        let top = crate::workspace_dir();
        let found = |text| paths("proto/README.md", text, &top);
        assert_eq!(found("`proto/src/lib.rs`, `src/lib.rs` and `a/b`"), []);
        assert_eq!(found("x\n`proto/src/missing.rs`").first().unwrap().line, 2);
        assert_eq!(found("`src/missing.rs`").len(), 1);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        let top = crate::workspace_dir();
        let found = |text| links("tests/README.md", text, &top);
        assert_eq!(found("[a](../proto/src/lib.rs#L1) [b](https://example.org/x) [c](#d)"), []);
        assert_eq!(found("x\n[a](missing.md)").first().unwrap().line, 2);
    }

    #[test]
    fn an_invariant_without_its_test_is_found() {
        let text = "fn what_holds_is_tested() {}";
        let files = [SourceFile::new("tests/e2e.rs", text, FileKind::Test)];
        let found = |text| invariants("README.md", text, &files);
        assert_eq!(found("`e2e::what_holds_is_tested` `peak_rss_bytes`"), []);
        assert_eq!(found("`what_holds_is_not_tested`").len(), 1);
    }
}
