//! What the README promises: paths that exist, commands that run, tests that hold its invariants.

use std::path::Path;

use crate::{Finding, SourceFile};

/// Returns the commands of the ```` ```sh ```` blocks, in order; `\` at a line's end joins lines.
pub fn commands(text: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut open = String::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with("```") {
            inside = line == "```sh";
        } else if inside {
            let (part, more) = match line.strip_suffix('\\') {
                Some(part) => (part, true),
                None => (line, false),
            };
            let part = part.split(" #").next().unwrap_or_default().trim();
            if !part.is_empty() && !part.starts_with('#') {
                open.push_str(part);
                open.push(' ');
            }
            if !more && !open.is_empty() {
                commands.push(open.trim_end().to_owned());
                open.clear();
            }
        }
    }
    commands
}

/// Checks that each path in backquotes exists below `top`.
///
/// A path is a word of the code map: it starts with a folder of the repository or a dot file.
pub fn paths(text: &str, top: &Path) -> Vec<Finding> {
    const HEADS: [&str; 8] =
        ["proto/", "carousel/", "receiver/", "dm-bridge/", "tests/", ".ci/", ".cargo/", "README"];
    let mut findings = Vec::new();
    for (line, word) in quoted(text) {
        let is_path = HEADS.iter().any(|head| word.starts_with(head)) && !word.contains(' ');
        if is_path && !top.join(word).exists() {
            findings.push(Finding::new("README.md", line, format!("`{word}` does not exist")));
        }
    }
    findings
}

/// Checks that each word in backquotes with three underscores or more names a test.
pub fn invariants(text: &str, files: &[SourceFile]) -> Vec<Finding> {
    let is_test = |word: &str| {
        let name = word.rsplit("::").next().unwrap_or(word);
        let declaration = format!("fn {name}(");
        files.iter().any(|file| file.text.contains(&declaration))
    };
    quoted(text)
        .filter(|(_, word)| word.matches('_').count() >= 3 && !word.contains(' '))
        .filter(|(_, word)| !is_test(word))
        .map(|(line, word)| Finding::new("README.md", line, format!("no test is named `{word}`")))
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
    fn commands_are_those_of_shell_blocks() {
        let text = "```sh\n# hi\na b \\\n  c   # why\nd\n```\n```text\nno\n```\nno";
        assert_eq!(commands(text), ["a b c", "d"]);
    }

    #[test]
    fn a_path_that_is_missing_is_found() {
        let top = crate::workspace_dir();
        assert_eq!(paths("`proto/src/lib.rs` and `a/b`", &top), []);
        assert_eq!(paths("x\n`proto/src/missing.rs`", &top).first().unwrap().line, 2);
    }

    #[test]
    fn an_invariant_without_its_test_is_found() {
        let text = "fn what_holds_is_tested() {}";
        let files = [SourceFile::new("tests/e2e.rs", text, FileKind::Test)];
        assert_eq!(invariants("`e2e::what_holds_is_tested` `peak_rss_bytes`", &files), []);
        assert_eq!(invariants("`what_holds_is_not_tested`", &files).len(), 1);
    }
}
