//! Claims: `// spec: rfc6726 3.4.1` at the rule, `// test: rfc6726 3.4.1` at its test, and a line
//! in `tests/conformance/rfc6726.toml` that says the rule in our own words.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::Context as _;
use serde::Deserialize;

use crate::tidy::{Finding, SourceFile};

/// One ledger file: what is claimed of one standard.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    /// Name of the standard, for people.
    pub standard: String,
    /// What it is about.
    pub title: String,
    /// The claims, by section.
    pub rule: Vec<Claim>,
    /// What the standard asks for and this product does not do.
    #[serde(default)]
    pub exception: Vec<Exception>,
}

/// One claim.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// As in the tag.
    pub section: String,
    /// The rule, in our own words.
    pub rule: String,
    /// The files that carry the `spec` tag.
    pub code: Vec<String>,
    /// Names of the tests that carry the `test` tag.
    pub test: Vec<String>,
}

/// One exception.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exception {
    /// Section of the standard.
    pub section: String,
    /// What is not done.
    pub rule: String,
    /// Why.
    pub reason: String,
}

/// One tag in a source file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag {
    /// `rfc6726`.
    pub standard: String,
    /// `3.4.1`.
    pub section: String,
    /// File that carries it.
    pub path: String,
    /// Line, from 1.
    pub line: usize,
    /// The function below a `test` tag.
    pub test: Option<String>,
}

/// The two kinds of tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagKind {
    /// At a rule.
    Spec,
    /// At a test.
    Test,
}

/// Returns the tags of one kind, sorted.
pub fn tags(files: &[SourceFile], kind: TagKind) -> Vec<Tag> {
    // Spelled in halves, so that this file holds no tag.
    let marker = match kind {
        TagKind::Spec => concat!("// ", "spec: "),
        TagKind::Test => concat!("// ", "test: "),
    };
    let mut tags = Vec::new();
    for file in files.iter().filter(|file| !file.path.starts_with("tests/src/tidy")) {
        let lines: Vec<_> = file.text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let Some((_, tag)) = line.split_once(marker) else { continue };
            let mut words = tag.split_whitespace();
            let (Some(standard), Some(section)) = (words.next(), words.next()) else { continue };
            let below = lines.iter().skip(index + 1).take(8);
            let name = below.filter_map(|line| line.split_once("fn ")).map(|(_, rest)| rest).next();
            let name = name.map(|rest| {
                rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>()
            });
            tags.push(Tag {
                standard: standard.to_owned(),
                section: section.trim_end_matches([',', ';', ':']).to_owned(),
                path: file.path.clone(),
                line: index + 1,
                test: name.filter(|_| kind == TagKind::Test),
            });
        }
    }
    tags.sort();
    tags
}

/// Reads `tests/conformance/*.toml`, by standard as in the tags.
///
/// # Errors
///
/// When the folder or a file cannot be read, or a file is not a ledger.
pub fn ledgers(folder: &Path) -> anyhow::Result<BTreeMap<String, Ledger>> {
    let mut ledgers = BTreeMap::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let Some(name) = path.file_stem().and_then(|stem| stem.to_str()) else { continue };
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let ledger = toml::from_str(&text).with_context(|| path.display().to_string())?;
        ledgers.insert(name.to_owned(), ledger);
    }
    Ok(ledgers)
}

/// Matches tags of rules, tags of tests and ledger lines, each against the others.
pub fn matched(files: &[SourceFile], ledgers: &BTreeMap<String, Ledger>) -> Vec<Finding> {
    let rules = by_section(tags(files, TagKind::Spec));
    let tests = by_section(tags(files, TagKind::Test));
    let claims: BTreeMap<_, _> = ledgers
        .iter()
        .flat_map(|(name, ledger)| ledger.rule.iter().map(move |claim| (name, claim)))
        .map(|(name, claim)| ((name.clone(), claim.section.clone()), claim))
        .collect();
    let mut findings = Vec::new();
    for (key, tags) in &rules {
        let Some(first) = tags.first() else { continue };
        let name = format!("{} {}", key.0, key.1);
        if !tests.contains_key(key) {
            let what = format!("no test carries the tag of {name}");
            findings.push(Finding::new(&first.path, first.line, what));
        }
        if !claims.contains_key(key) {
            let what = format!("{name} is not in tests/conformance/{}.toml", key.0);
            findings.push(Finding::new(&first.path, first.line, what));
        }
    }
    for (key, tags) in tests.iter().filter(|(key, _)| !rules.contains_key(*key)) {
        let Some(first) = tags.first() else { continue };
        let what = format!("no rule carries the tag of {} {}", key.0, key.1);
        findings.push(Finding::new(&first.path, first.line, what));
    }
    for (key, claim) in &claims {
        let path = format!("tests/conformance/{}.toml", key.0);
        let code: BTreeSet<_> = rules.get(key).into_iter().flatten().map(|tag| &tag.path).collect();
        if code != claim.code.iter().collect() {
            let what = format!("{}: code is {code:?}", key.1);
            findings.push(Finding::new(&path, 0, what));
        }
        let found = tests.get(key).into_iter().flatten();
        let found: BTreeSet<_> = found.filter_map(|tag| tag.test.as_ref()).collect();
        if found != claim.test.iter().collect() {
            let what = format!("{}: test is {found:?}", key.1);
            findings.push(Finding::new(&path, 0, what));
        }
    }
    findings
}

fn by_section(tags: Vec<Tag>) -> BTreeMap<(String, String), Vec<Tag>> {
    let mut sections: BTreeMap<_, Vec<Tag>> = BTreeMap::new();
    for tag in tags {
        sections.entry((tag.standard.clone(), tag.section.clone())).or_default().push(tag);
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::source::FileKind;

    const RULE: &str = concat!("// ", "spec: rfc1 2.3 (why)\n");
    const TEST: &str = concat!("// ", "test: rfc1 2.3\n#[test]\nfn a_rule_holds() {}\n");

    fn findings(text: &str, claim: &str) -> usize {
        let files = [SourceFile::new("proto/src/a.rs", text, FileKind::Product)];
        let text = format!("standard = \"RFC 1\"\ntitle = \"x\"\n{claim}");
        let ledger = toml::from_str(&text).unwrap();
        matched(&files, &BTreeMap::from([("rfc1".to_owned(), ledger)])).len()
    }

    #[test]
    fn a_rule_a_test_and_a_line_of_the_ledger_match() {
        let claim = |test: &str| {
            let code = "code = [\"proto/src/a.rs\"]";
            format!("[[rule]]\nsection = \"2.3\"\nrule = \"r\"\n{code}\ntest = [\"{test}\"]")
        };
        let both = format!("{RULE}{TEST}");
        assert_eq!(findings(&both, &claim("a_rule_holds")), 0);
        assert_eq!(findings(&both, &claim("another")), 1);
        assert_eq!(findings(&both, "rule = []"), 1);
        assert_eq!(findings(RULE, "rule = []"), 2);
        assert_eq!(findings(TEST, "rule = []"), 1);
        assert_eq!(findings("", &claim("a_rule_holds")), 2);
    }
}
