//! Claims of the pages, which are all Markdown files: paths and headings that exist, commands that
//! run, tests that hold the invariants.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use crate::{Finding, SourceFile};

/// The front page.
pub const FRONT_PAGE: &str = "README.md";

/// Bytes that the front page has at most: it is read in two minutes.
pub const MAX_FRONT_PAGE_BYTES: usize = 7_000;

/// Checks the length of the front page in bytes.
pub fn front_page(bytes: usize) -> Vec<Finding> {
    if bytes <= MAX_FRONT_PAGE_BYTES {
        return Vec::new();
    }
    let what =
        format!("{bytes} bytes, {MAX_FRONT_PAGE_BYTES} at most: move it to a crate's README");
    vec![Finding::new(FRONT_PAGE, 0, what)]
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

/// Checks that each path in backquotes exists, from `top`, from the folder of the page, or from that
/// of its crate.
///
/// A path starts with a folder of the repository or of a crate, or with a dot file.
pub fn paths(page: &str, text: &str, top: &Path) -> Vec<Finding> {
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
        let is_path = HEADS.iter().any(|head| word.starts_with(head)) && !word.contains([' ', '*']);
        let of_crate = page.split_once("docs/").map_or("", |(folder, _)| folder);
        let places = [top.join(word), beside(page, word, top), top.join(of_crate).join(word)];
        if is_path && !places.iter().any(|place| place.exists()) {
            findings.push(Finding::new(page, line, format!("`{word}` does not exist")));
        }
    }
    findings
}

/// Checks that the target of each link exists, with the heading that it names; links to other hosts
/// are not followed.
pub fn links(page: &str, text: &str, top: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, target) in targets(text) {
        let (path, heading) = target.split_once('#').unwrap_or((target, ""));
        let file = if path.is_empty() { top.join(page) } else { beside(page, path, top) };
        if !file.exists() {
            findings.push(Finding::new(page, line, format!("`{path}` does not exist")));
        } else if !heading.is_empty() && file.extension().is_some_and(|ending| ending == "md") {
            let linked = match path {
                "" => text.to_owned(),
                _ => fs::read_to_string(&file).unwrap_or_default(),
            };
            if !anchors(&linked).contains_key(heading) {
                findings.push(Finding::new(page, line, format!("`{target}`: no such heading")));
            }
        }
    }
    findings
}

/// Returns the targets of the links inside of the repository, with their lines; code has none.
fn targets(text: &str) -> impl Iterator<Item = (usize, &str)> {
    prose(text)
        .flat_map(|(number, line)| {
            let targets = line.split("](").skip(1).filter_map(|tail| tail.split(')').next());
            targets.map(move |target| (number, target))
        })
        .filter(|(_, target)| !target.contains("://") && !target.starts_with("mailto:"))
}

/// Returns the anchors of the headings, each with its line, as hosts of Git make them: small letters,
/// `-` for a space, no other punctuation, a number behind the second of a name.
pub fn anchors(text: &str) -> BTreeMap<String, usize> {
    let mut anchors = BTreeMap::new();
    for (number, line) in prose(text).filter(|(_, line)| line.starts_with('#')) {
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        let name: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let mut anchor = name.clone();
        for again in 1.. {
            if !anchors.contains_key(&anchor) {
                break;
            }
            anchor = format!("{name}-{again}");
        }
        anchors.insert(anchor, number);
    }
    anchors
}

/// Returns the lines outside of fenced code, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_code = false;
    (1..).zip(text.lines()).filter(move |(_, line)| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_fence && !is_code
    })
}

fn beside(page: &str, path: &str, top: &Path) -> PathBuf {
    top.join(page).with_file_name("").join(path)
}

/// Checks that each word in backquotes with three underscores or more names a test, or is a literal of
/// the sources, as the name of a metric is.
pub fn invariants(page: &str, text: &str, files: &[SourceFile]) -> Vec<Finding> {
    let is_test = |word: &str| {
        let name = word.rsplit("::").next().unwrap_or(word);
        let (declaration, literal) = (format!("fn {name}("), format!("\"{name}\""));
        files.iter().any(|file| file.text.contains(&declaration) || file.text.contains(&literal))
    };
    quoted(text)
        .filter(|(_, word)| word.matches('_').count() >= 3 && !word.contains(' '))
        .filter(|(_, word)| !is_test(word))
        .map(|(line, word)| Finding::new(page, line, format!("no test is named `{word}`")))
        .collect()
}

fn quoted(text: &str) -> impl Iterator<Item = (usize, &str)> {
    prose(text).flat_map(|(number, line)| {
        line.split('`').skip(1).step_by(2).map(move |word| (number, word))
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
        assert_eq!(
            found("# d\n[a](../proto/src/lib.rs#L1) [b](https://example.org/x) [c](#d)"),
            []
        );
        assert_eq!(found("x\n[a](missing.md)").first().unwrap().line, 2);
        assert_eq!(found("```text\n[a](missing.md)\n```\n"), []);
    }

    #[test]
    fn a_link_to_a_heading_that_is_not_there_is_found() {
        let top = crate::workspace_dir();
        let found = |text| links("receiver/README.md", text, &top).len();
        assert_eq!(found("[a](../README.md#quick-start) [b](../README.md#how-it-works)"), 0);
        assert_eq!(found("[a](../README.md#slow-start)"), 1);
        assert_eq!(found("## A `b`, c-d\n## A b c-d\n[x](#a-b-c-d) [y](#a-b-c-d-1)"), 0);
        assert_eq!(found("```sh\n# a\n```\n[x](#a)"), 1);
    }

    #[test]
    fn an_invariant_without_its_test_is_found() {
        let text = "fn what_holds_is_tested() { counted(\"messages_in_all_total\") }";
        let files = [SourceFile::new("tests/e2e.rs", text, FileKind::Test)];
        let found = |text| invariants("README.md", text, &files);
        assert_eq!(found("`e2e::what_holds_is_tested` `peak_rss_bytes`"), []);
        assert_eq!(found("`messages_in_all_total`"), []);
        assert_eq!(found("`messages_in_one_total`").len(), 1);
        assert_eq!(found("`what_holds_is_not_tested`").len(), 1);
    }
}
