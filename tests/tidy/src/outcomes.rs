//! The page of phases and result codes: it has each word and code of the sources, with the text that the
//! programs print, and no other.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Finding, SourceFile};

/// The page.
pub const PAGE: &str = "dm-bridge/docs/phases-and-results.md";

const FIRMWARE_CODES: &str = "proto/src/dm/fumo/result.rs";
const COMPONENT_CODES: &str = "proto/src/dm/scomo/result.rs";
/// Its test `every_named_result_code_has_its_phase` has the phase of each firmware code.
const PHASES_OF_CODES: &str = "dm-bridge/src/arming/results.rs";

/// Tables of words: heading on the page, source, enum.
const WORDS: [(&str, &str, &str); 4] = [
    ("States of a campaign", "dm-bridge/src/campaign/model.rs", "CampaignState"),
    ("Phases of a device in a campaign", "dm-bridge/src/fleet/attempt.rs", "ArmingPhase"),
    ("Phases on the device", "proto/src/dm/fumo.rs", "Phase"),
    ("Operations on components", "dm-bridge/src/fleet/components.rs", "OperationState"),
];
const FIRMWARE_HEADING: &str = "Result codes of firmware";
const COMPONENT_HEADING: &str = "Result codes of components";

/// One result code.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Code {
    constant: String,
    number: String,
    text: String,
}

/// Checks the tables of the page against the sources; returns the number of their rows, too.
///
/// The first columns of a table of codes are number, text of the programs, and what else the sources
/// know: the phase of a firmware code, the firmware code that a component's code counts as.
pub fn check(page: &str, sources: &[SourceFile]) -> (usize, Vec<Finding>) {
    let text_of = |path: &str| {
        let found = sources.iter().find(|file| file.path == path);
        found.map_or("", |file| file.text.as_str())
    };
    let mut expected: Vec<(&str, Vec<Vec<String>>)> = Vec::new();
    for (heading, path, name) in WORDS {
        let words = words(text_of(path), name);
        expected.push((heading, words.into_iter().map(|word| vec![quote(&word)]).collect()));
    }
    let firmware = codes(text_of(FIRMWARE_CODES));
    let components = codes(text_of(COMPONENT_CODES));
    let phases = phases(text_of(PHASES_OF_CODES), &words(text_of(WORDS[1].1), WORDS[1].2));
    let counterparts = counterparts(text_of(COMPONENT_CODES), &firmware);
    expected.push((FIRMWARE_HEADING, rows_of(&firmware, &phases)));
    expected.push((COMPONENT_HEADING, rows_of(&components, &counterparts)));
    let mut findings = Vec::new();
    for (heading, rows) in &expected {
        findings.extend(compare(heading, rows, &table(page, heading)));
    }
    (expected.iter().map(|(_, rows)| rows.len()).sum(), findings)
}

/// Compares the first columns of a table with those that the sources give.
fn compare(
    heading: &str,
    expected: &[Vec<String>],
    found: &[(usize, Vec<String>)],
) -> Vec<Finding> {
    if expected.is_empty() {
        let what = format!("the sources of `{heading}` are not where this rule expects them");
        return vec![Finding::new(PAGE, 0, what)];
    }
    let width = expected.first().map_or(0, Vec::len);
    let has = |row: &Vec<String>| found.iter().any(|(_, cells)| cells.starts_with(row));
    let missing = expected.iter().filter(|row| !has(row)).map(|row| {
        let what = format!("the table `{heading}` has no row | {} |", row.join(" | "));
        Finding::new(PAGE, 0, what)
    });
    let mut seen = BTreeSet::new();
    let odd = found.iter().filter_map(|(line, cells)| {
        let front: Vec<_> = cells.iter().take(width).cloned().collect();
        let is_odd = !expected.contains(&front) || !seen.insert(front.clone());
        let what = format!("| {} | is not as in the sources, or twice", front.join(" | "));
        is_odd.then(|| Finding::new(PAGE, *line, what))
    });
    missing.chain(odd).collect()
}

fn rows_of(codes: &[Code], more: &BTreeMap<String, String>) -> Vec<Vec<String>> {
    let more = |code: &Code| more.get(&code.number).cloned().unwrap_or_else(|| "?".to_owned());
    codes.iter().map(|code| vec![code.number.clone(), code.text.clone(), more(code)]).collect()
}

fn quote(word: &str) -> String {
    format!("`{word}`")
}

/// Returns the rows of the first table below a heading, with their lines.
fn table(page: &str, heading: &str) -> Vec<(usize, Vec<String>)> {
    let is_heading =
        |line: &str| line.starts_with('#') && line.trim_start_matches('#').trim() == heading;
    let mut lines = (1..).zip(page.lines()).skip_while(|(_, line)| !is_heading(line)).skip(1);
    let rows = lines
        .by_ref()
        .skip_while(|(_, line)| !line.starts_with('|') && !line.starts_with('#'))
        .take_while(|(_, line)| line.starts_with('|'))
        .skip(2);
    rows.map(|(number, line)| {
        let cells = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned());
        (number, cells.collect())
    })
    .collect()
}

/// Returns the words of an enum that `words!` makes.
fn words(source: &str, name: &str) -> Vec<String> {
    let head = format!("pub enum {name}");
    let is_head = |line: &&str| {
        let tail = line.trim_start().strip_prefix(&head);
        tail.is_some_and(|tail| tail.starts_with([':', ' ', ',']))
    };
    let body = source.lines().skip_while(|line| !is_head(line)).skip(1);
    let body = body.take_while(|line| line.trim() != "}");
    body.filter_map(|line| line.split_once(" = \"")?.1.split('"').next())
        .map(str::to_owned)
        .collect()
}

/// Returns the codes that `named_codes!` makes.
fn codes(source: &str) -> Vec<Code> {
    let lines = source.lines().skip_while(|line| !line.starts_with("named_codes! {")).skip(2);
    let lines = lines.take_while(|line| line.trim() != "}");
    lines
        .filter_map(|line| {
            let (constant, value) = line.trim().split_once(" = ")?;
            let (number, text) = value.strip_suffix("\";")?.split_once(", \"")?;
            let [constant, number, text] = [constant, number, text].map(str::to_owned);
            Some(Code { constant, number, text })
        })
        .collect()
}

/// Returns the phase of each code, from the table of the test that compares it with the product.
fn phases(source: &str, words: &[String]) -> BTreeMap<String, String> {
    let lines = source
        .lines()
        .skip_while(|line| !line.contains("fn every_named_result_code_has_its_phase("))
        .take_while(|line| line.trim() != "];");
    lines
        .filter_map(|line| {
            let (number, phase) =
                line.trim().strip_prefix('(')?.strip_suffix("),")?.split_once(", ")?;
            let word = words.iter().find(|word| camel_case(word) == phase)?;
            Some((number.to_owned(), quote(word)))
        })
        .collect()
}

fn camel_case(word: &str) -> String {
    let parts = word.split('-').map(|part| {
        let (first, tail) = part.split_at(part.len().min(1));
        format!("{}{tail}", first.to_uppercase())
    });
    parts.collect()
}

/// Returns the firmware code that each code of a component counts as, from the `match` of
/// `to_firmware`: the code after `_` for those that it does not name.
fn counterparts(source: &str, firmware: &[Code]) -> BTreeMap<String, String> {
    let after = |text: &str, mark: &str| -> String {
        let name = text.split(mark).nth(1).unwrap_or_default();
        name.chars().take_while(|c| c.is_ascii_uppercase() || *c == '_').collect()
    };
    let number_of = |constant: &str| {
        let found = firmware.iter().find(|code| code.constant == constant);
        found.map(|code| code.number.clone())
    };
    let body: String = source
        .lines()
        .skip_while(|line| !line.contains("pub const fn to_firmware("))
        .skip_while(|line| !line.contains("match self"))
        .skip(1)
        .take_while(|line| *line != "    }")
        .collect();
    let arms: Vec<_> = body.split(',').filter_map(|arm| arm.split_once("=>")).collect();
    let other = body.split("_ =>").nth(1);
    let other = other.and_then(|to| number_of(&after(to, "Firmware::")));
    let named = |code: &Code| {
        let arm = arms.iter().find(|(codes, _)| {
            codes.split('|').any(|name| name.trim() == format!("Self::{}", code.constant))
        });
        arm.map_or_else(|| other.clone(), |(_, to)| number_of(&after(to, "Firmware::")))
    };
    codes(source).iter().filter_map(|code| Some((code.number.clone(), named(code)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::FileKind;

    const FIRMWARE: &str = "named_codes! {\n    ResultCode as \"x\" {\n        \
        SUCCESS = 200, \"updated\";\n        UNDEFINED = 409, \"undefined error\";\n    }\n}\n";

    /// Returns the sources that the rule reads, with `old` replaced in one of them.
    fn planted(path: &str, old: &str, new: &str) -> Vec<SourceFile> {
        let paths = WORDS.iter().map(|(_, path, _)| *path);
        paths
            .chain([FIRMWARE_CODES, COMPONENT_CODES, PHASES_OF_CODES])
            .map(|source| {
                let file = crate::workspace_dir().join(source);
                let text = std::fs::read_to_string(file).expect("the source is readable");
                let is_changed = source == path;
                assert!(!is_changed || text.contains(old), "{path}: {old}");
                let text = if is_changed { text.replacen(old, new, 1) } else { text };
                SourceFile::new(source, &text, FileKind::Product)
            })
            .collect()
    }

    fn page() -> String {
        let path = crate::workspace_dir().join(PAGE);
        std::fs::read_to_string(path).expect("the page is readable")
    }

    #[test]
    fn a_code_a_phase_or_a_text_that_the_page_lacks_is_found() {
        let (rows, findings) = check(&page(), &planted("", "", ""));
        assert_eq!(findings, []);
        assert!(rows > 80, "only {rows} rows");
        for (path, old, new) in [
            (FIRMWARE_CODES, "SUCCESS = 200", "SUCCESS = 201"),
            (FIRMWARE_CODES, "\"undefined error\"", "\"some error\""),
            (COMPONENT_CODES, "REMOVE_FAILED = 1408", "REMOVE_FAILED = 1499"),
            (WORDS[0].1, "Closed = \"closed\"", "Closed = \"over\""),
            (WORDS[1].1, "Missed = \"missed\"", "Missed = \"late\""),
            (WORDS[2].1, "Idle = \"idle\"", "Idle = \"quiet\""),
            (WORDS[3].1, "Done = \"done\"", "Done = \"ended\""),
            (PHASES_OF_CODES, "            (450, Missed),", "            (450, Expired),"),
            (COMPONENT_CODES, "=> Firmware::MISMATCH", "=> Firmware::POLICY"),
        ] {
            let (_, findings) = check(&page(), &planted(path, old, new));
            assert!(findings.iter().any(|finding| finding.line == 0), "{new}: {findings:?}");
            assert!(findings.iter().any(|finding| finding.line > 0), "{new}: {findings:?}");
        }
    }

    #[test]
    fn sources_that_are_elsewhere_are_found() {
        let (_, findings) = check(&page(), &[]);
        assert_eq!(findings.len(), WORDS.len() + 2, "{findings:?}");
    }

    #[test]
    fn a_row_that_no_source_has_is_found() {
        let page = page().replacen(
            "| 200 | updated |",
            "| 200 | updated |\n| 299 | odd | x |\n| 200 | updated |",
            1,
        );
        assert_eq!(check(&page, &planted("", "", "")).1.len(), 2);
    }

    #[test]
    fn codes_are_read_with_number_and_text() {
        let read = codes(FIRMWARE);
        let shown: Vec<_> = read.iter().map(|code| (code.number.as_str(), &*code.text)).collect();
        assert_eq!(shown, [("200", "updated"), ("409", "undefined error")]);
    }
}
