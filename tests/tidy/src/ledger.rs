//! Claims: `// spec: rfc6726 3.4.1` at the rule, `// test: rfc6726 3.4.1` at its test, and rows in
//! `tests/conformance/rfc6726.toml` that state the rules of that section in our own words.
//!
//! A ledger whose text was read has the number of its statements, and each row and each exception
//! the number of those that it answers for: none is left over and none is counted twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
};

use anyhow::Context as _;
use serde::Deserialize;

use crate::{Finding, SourceFile};

/// One ledger file: what is claimed of one standard.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    /// Name of the standard, for people.
    pub standard: String,
    /// Subject.
    pub title: String,
    /// Number of demands of the text, where it was read.
    pub text: Option<Text>,
    /// The claims, by section.
    pub rule: Vec<Claim>,
    /// Demands of the standard that this product does not meet.
    #[serde(default)]
    pub exception: Vec<Exception>,
}

/// Demands of the text of a standard, counted by its key words outside of their own paragraph.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Text {
    /// MUST, MUST NOT, SHALL, SHALL NOT, REQUIRED.
    pub must: usize,
    /// SHOULD, SHOULD NOT, RECOMMENDED.
    pub should: usize,
    /// Sections that could not be looked up.
    pub unread: Vec<String>,
}

/// One claim: a rule or a few of one section.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// As in the tag.
    pub section: String,
    /// Statements of the text at the level of MUST that this row answers for.
    #[serde(default)]
    pub must: usize,
    /// The same at the level of SHOULD.
    #[serde(default)]
    pub should: usize,
    /// The rule, in our own words.
    pub rule: String,
    /// Gap in its tests while the row claimed what was not so.
    pub missed: Option<String>,
    /// The files that do it; those of all rows of a section carry its `spec` tag.
    pub code: Vec<String>,
    /// The tests that would fail without it; those of all rows of a section carry its `test` tag.
    pub test: Vec<String>,
}

/// One exception.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exception {
    /// Section of the standard.
    pub section: String,
    /// As in [`Claim::must`].
    #[serde(default)]
    pub must: usize,
    /// As in [`Claim::should`].
    #[serde(default)]
    pub should: usize,
    /// Demand that is not met.
    pub rule: String,
    /// Reason.
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
    for file in files.iter().filter(|file| !file.path.starts_with("tests/tidy/")) {
        let lines: Vec<_> = file.text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let Some((_, tag)) = line.split_once(marker) else { continue };
            let named = || tested(&lines, index).filter(|_| kind == TagKind::Test);
            // What follows in parentheses is for people.
            let sections = tag.split('(').next().unwrap_or_default().split(',');
            for section in sections {
                let mut words = section.split_whitespace();
                let (Some(standard), Some(section)) = (words.next(), words.next()) else {
                    continue;
                };
                tags.push(Tag {
                    standard: standard.to_owned(),
                    section: section.trim_end_matches([';', ':']).to_owned(),
                    path: file.path.clone(),
                    line: index + 1,
                    test: named(),
                });
            }
        }
    }
    tags.sort();
    tags
}

/// Returns the name of the test below a line; none when what is below is no test.
fn tested(lines: &[&str], index: usize) -> Option<String> {
    let below = lines.iter().skip(index + 1).take(8);
    let mut is_test = false;
    for line in below {
        is_test |= line.contains("test]") || line.contains("test(");
        if let Some((_, tail)) = line.split_once("fn ") {
            let name = tail.chars().take_while(|c| c.is_alphanumeric() || *c == '_');
            return is_test.then(|| name.collect());
        }
    }
    None
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
    let mut claims: BTreeMap<_, Claims<'_>> = BTreeMap::new();
    for (name, ledger) in ledgers {
        for claim in &ledger.rule {
            let section = claims.entry((name.clone(), claim.section.clone())).or_default();
            section.code.extend(&claim.code);
            section.test.extend(&claim.test);
        }
    }
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
        let path = path_of(&key.0);
        let code: BTreeSet<_> = rules.get(key).into_iter().flatten().map(|tag| &tag.path).collect();
        if code != claim.code {
            let what = format!("{}: code {}", key.1, difference(&code, &claim.code));
            findings.push(Finding::new(&path, 0, what));
        }
        let found = tests.get(key).into_iter().flatten();
        let found: BTreeSet<_> = found.filter_map(|tag| tag.test.as_ref()).collect();
        if found != claim.test {
            let what = format!("{}: test {}", key.1, difference(&found, &claim.test));
            findings.push(Finding::new(&path, 0, what));
        }
    }
    findings
}

/// Returns the entries that the ledger lacks, and those that nothing in the sources has.
fn difference(sources: &BTreeSet<&String>, ledger: &BTreeSet<&String>) -> String {
    let missing: Vec<_> = sources.difference(ledger).collect();
    let unknown: Vec<_> = ledger.difference(sources).collect();
    format!("lacks {missing:?}; names {unknown:?}, which nothing in the sources has")
}

/// Files and tests of all rows of a section.
#[derive(Default)]
struct Claims<'a> {
    code: BTreeSet<&'a String>,
    test: BTreeSet<&'a String>,
}

/// Checks a ledger on its own: every row names code and tests, every exception gives a
/// reason, and together they answer for all that the text demands.
pub fn counted(ledgers: &BTreeMap<String, Ledger>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, ledger) in ledgers {
        let mut find = |what: String| findings.push(Finding::new(&path_of(name), 0, what));
        for claim in &ledger.rule {
            if is_blank(&claim.rule) || claim.code.is_empty() || claim.test.is_empty() {
                find(format!("{}: a rule needs words, code and tests", claim.section));
            }
        }
        for exception in &ledger.exception {
            if is_blank(&exception.rule) || is_blank(&exception.reason) {
                find(format!("{}: an exception needs words and a reason", exception.section));
            }
        }
        let sums = Sums::of(ledger);
        let (must, should) = (sums.must + sums.must_excepted, sums.should + sums.should_excepted);
        let (must_of_text, should_of_text) =
            ledger.text.as_ref().map_or((0, 0), |text| (text.must, text.should));
        if (must, should) != (must_of_text, should_of_text) {
            find(format!(
                "rows and exceptions answer for {must} MUST and {should} SHOULD, \
                 the text has {must_of_text} and {should_of_text}"
            ));
        }
    }
    findings
}

/// Returns a table of all ledgers, for people.
pub fn summary(ledgers: &BTreeMap<String, Ledger>) -> String {
    let mut table = String::from(
        "| ledger | rules | MUST | SHOULD | exceptions | MUST | SHOULD | MUST in the text | \
         SHOULD in the text | not read |\n|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for (name, ledger) in ledgers {
        let sums = Sums::of(ledger);
        let (rules, exceptions) = (ledger.rule.len(), ledger.exception.len());
        let text = ledger.text.as_ref().map_or_else(
            || "- | - | all".to_owned(),
            |text| format!("{} | {} | {}", text.must, text.should, text.unread.join(", ")),
        );
        let Sums { must, should, must_excepted, should_excepted } = sums;
        writeln!(
            table,
            "| {name} | {rules} | {must} | {should} | {exceptions} | {must_excepted} | \
             {should_excepted} | {text} |"
        )
        .expect("a string takes all text");
    }
    table
}

/// Statements that the rows and the exceptions of a ledger answer for.
struct Sums {
    must: usize,
    should: usize,
    must_excepted: usize,
    should_excepted: usize,
}

impl Sums {
    fn of(ledger: &Ledger) -> Self {
        Self {
            must: ledger.rule.iter().map(|claim| claim.must).sum(),
            should: ledger.rule.iter().map(|claim| claim.should).sum(),
            must_excepted: ledger.exception.iter().map(|exception| exception.must).sum(),
            should_excepted: ledger.exception.iter().map(|exception| exception.should).sum(),
        }
    }
}

fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

fn path_of(ledger: &str) -> String {
    format!("tests/conformance/{ledger}.toml")
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
    use crate::source::FileKind;

    const RULE: &str = concat!("// ", "spec: rfc1 2.3 (why)\n");
    const TEST: &str = concat!("// ", "test: rfc1 2.3\n#[test]\nfn a_rule_holds() {}\n");

    fn findings(text: &str, claim: &str) -> usize {
        let files = [SourceFile::new("proto/src/a.rs", text, FileKind::Product)];
        let text = format!("standard = \"RFC 1\"\ntitle = \"x\"\n{claim}");
        let ledger = toml::from_str(&text).unwrap();
        matched(&files, &BTreeMap::from([("rfc1".to_owned(), ledger)])).len()
    }

    fn counts(body: &str) -> usize {
        let text = format!("standard = \"RFC 1\"\ntitle = \"x\"\n{body}");
        let ledgers = BTreeMap::from([("rfc1".to_owned(), toml::from_str(&text).unwrap())]);
        assert!(summary(&ledgers).contains("| rfc1 | 1 | 2 | 0 | 1 | 0 | 1 | "));
        counted(&ledgers).len()
    }

    #[test]
    fn rows_and_exceptions_answer_for_every_statement_and_give_reasons() {
        let body = |must: u8, should: u8, code: &str, reason: &str| {
            format!(
                "[text]\nmust = {must}\nshould = {should}\nunread = []\n\
                 [[rule]]\nsection = \"1\"\nmust = 2\nrule = \"r\"\ncode = [{code}]\n\
                 test = [\"t\"]\n[[exception]]\nsection = \"1\"\nshould = 1\n\
                 rule = \"r\"\nreason = \"{reason}\""
            )
        };
        assert_eq!(counts(&body(2, 1, "\"c\"", "why")), 0);
        assert_eq!(counts(&body(3, 1, "\"c\"", "why")), 1);
        assert_eq!(counts(&body(2, 0, "\"c\"", "why")), 1);
        assert_eq!(counts(&body(2, 1, "", "why")), 1);
        assert_eq!(counts(&body(2, 1, "\"c\"", " ")), 1);
    }

    #[test]
    fn a_tag_names_several_sections_and_only_real_tests() {
        let text = concat!("// ", "test: rfc1 2, rfc3 4 (a, b)\n#[test]\nfn real() {}\n");
        let files = |text: &str| [SourceFile::new("proto/src/a.rs", text, FileKind::Product)];
        let found = tags(&files(text), TagKind::Test);
        let found: Vec<_> = found.iter().map(|tag| (&*tag.section, tag.test.as_deref())).collect();
        assert_eq!(found, [("2", Some("real")), ("4", Some("real"))]);
        let found = tags(&files(&text.replace("#[test]\n", "")), TagKind::Test);
        assert!(found.iter().all(|tag| tag.test.is_none()), "{found:?}");
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
