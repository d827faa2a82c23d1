//! Figures that stand on a page and in the sources: limits, times, names.

use std::path::Path;

use anyhow::Context as _;

use crate::{Finding, SourceFile};

const OPERATIONS: &str = "dm-bridge/docs/operations.md";
const RESULTS: &str = "dm-bridge/docs/phases-and-results.md";
const HOOK: &str = "receiver/docs/installer-hook.md";

const HOOK_CALL: &str = "receiver/src/shell/installer.rs";
const HOOK_READS: &str = "receiver/src/update/install.rs";

/// One figure: page, text of the page, source, text of the source.
type Figure = (&'static str, &'static str, &'static str, &'static str);

/// Figures. Whoever changes the text of a source changes that of the page, and this row.
pub const FIGURES: [Figure; 27] = [
    (OPERATIONS, "| 2,048 |", "dm-bridge/src/shell/state.rs", "sessions: 2_048,"),
    (OPERATIONS, "| 256 |", "dm-bridge/src/shell/state.rs", "messages: 256,"),
    (OPERATIONS, "| 8,192 and 1,024 |", "proto/http/src/limits.rs", "all: 8_192,"),
    (OPERATIONS, "| 8,192 and 1,024 |", "proto/http/src/limits.rs", "unproved: 1_024,"),
    (OPERATIONS, "16,512", "proto/http/src/limits.rs", "OTHER_FILES: u64 = 128;"),
    (OPERATIONS, "16,512", "proto/http/src/limits.rs", "FILES_OF_CONNECTION: u64 = 2;"),
    (OPERATIONS, "| 65,536 |", "dm-bridge/src/dm.rs", "message_bytes: 64 * 1024,"),
    (OPERATIONS, "| one second for 50 devices |", CAMPAIGNS, "REPORTS_PER_SECOND: usize = 50;"),
    (OPERATIONS, "| 16 MiB |", CAMPAIGNS, "MAX_DIRECT: u64 = 16 << 20;"),
    (
        OPERATIONS,
        "8 MiB at most",
        "receiver/src/update/acceptance.rs",
        "max_package_bytes: 8 << 20,",
    ),
    (OPERATIONS, "`FUMOCAST_LOG`", "dm-bridge/src/cli/command.rs", "\"FUMOCAST_LOG\""),
    (RESULTS, "the limit is five attempts", "dm-bridge/src/dm.rs", "attempts: 5,"),
    (RESULTS, "(21,600 s)", "dm-bridge/src/cli/args.rs", "default_value_t = 21_600"),
    (RESULTS, "for 24 hours", DOWNLOAD, "PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);"),
    (
        RESULTS,
        "at most five seconds apart",
        SCHEDULER,
        "LONGEST_BACK_OFF: Duration = Duration::from_secs(5);",
    ),
    (HOOK, "| 30 minutes |", HOOK_CALL, "INSTALL_TIME: Duration = Duration::from_secs(1800);"),
    (HOOK, "| 30 seconds |", HOOK_CALL, "VERSION_TIME: Duration = Duration::from_secs(30);"),
    (HOOK, "one more second", HOOK_CALL, "OUTPUT_TIME: Duration = Duration::from_secs(1);"),
    (HOOK, "up to 64 KiB", HOOK_CALL, "OUTPUT_BYTES: u64 = 64 << 10;"),
    (HOOK, "10 reboot required", HOOK_CALL, "Some(10) => HookExit::RebootNeeded,"),
    (
        HOOK,
        "at most 64 octets",
        "receiver/src/update/installer.rs",
        "MAX_VERSION_BYTES: usize = 64;",
    ),
    (HOOK, "contract, version 1", "receiver/src/update/installer.rs", "CONTRACT_VERSION: u32 = 1;"),
    (
        HOOK,
        "after 10, 20, 40 and 80 seconds",
        HOOK_READS,
        "FIRST_REREAD: Duration = Duration::from_secs(10);",
    ),
    (HOOK, "up to one hour", HOOK_READS, "LONGEST_REREAD: Duration = Duration::from_secs(3_600);"),
    (HOOK, "after five failures", HOOK_READS, "MAX_FAILURES_AFTER_HAND_OFF: u32 = 5;"),
    (HOOK, "At most 64 components", "receiver/src/components.rs", "MAX_DEPLOYED: usize = 64;"),
    (HOOK, "at most 128 octets", "receiver/src/components.rs", "MAX_TEXT: usize = 128;"),
];

const CAMPAIGNS: &str = "dm-bridge/src/app/campaigns.rs";
const DOWNLOAD: &str = "receiver/src/update/download.rs";
const SCHEDULER: &str = "dm-bridge/src/campaign/step_scheduler.rs";

/// Checks the figures, and that the page of the hook names each variable that a hook inherits.
///
/// # Errors
///
/// When a page cannot be read.
pub fn check(top: &Path, sources: &[SourceFile]) -> anyhow::Result<Vec<Finding>> {
    let page =
        |path: &str| std::fs::read_to_string(top.join(path)).with_context(|| path.to_owned());
    let mut findings = Vec::new();
    for figure in FIGURES {
        findings.extend(compare(figure, &page(figure.0)?, text_of(sources, figure.2)));
    }
    let names = inherited(text_of(sources, HOOK_CALL));
    findings.extend(missing_variables(&names, &page(HOOK)?));
    Ok(findings)
}

fn text_of<'a>(sources: &'a [SourceFile], path: &str) -> &'a str {
    sources.iter().find(|file| file.path == path).map_or("", |file| file.text.as_str())
}

fn compare(figure: Figure, page: &str, source: &str) -> Vec<Finding> {
    let (page_path, on_page, source_path, in_source) = figure;
    let mut findings = Vec::new();
    if !source.contains(in_source) {
        let what = format!("`{in_source}` is not there: change `{on_page}` of {page_path}, too");
        findings.push(Finding::new(source_path, 0, what));
    }
    // A line of the page may end inside of the text.
    if !page.replace('\n', " ").contains(on_page) {
        let what = format!("`{on_page}` is not there, for `{in_source}` of {source_path}");
        findings.push(Finding::new(page_path, 0, what));
    }
    findings
}

/// Returns the variables that a hook inherits by name.
fn inherited(source: &str) -> Vec<&str> {
    let list = source.split("const INHERITED: ").nth(1).unwrap_or_default();
    let list = list.split("];").next().unwrap_or_default();
    list.split('"').skip(1).step_by(2).collect()
}

fn missing_variables(names: &[&str], page: &str) -> Vec<Finding> {
    if names.is_empty() {
        return vec![Finding::new(HOOK_CALL, 0, "the list `INHERITED` is not there")];
    }
    let missing = names.iter().filter(|name| !page.contains(&format!("`{name}`")));
    missing.map(|name| Finding::new(HOOK, 0, format!("it lacks `{name}`"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_that_differs_on_one_side_is_found() {
        let figure = ("a.md", "five times", "a.rs", "TIMES: u32 = 5;");
        assert_eq!(compare(figure, "it is five\ntimes so", "const TIMES: u32 = 5;"), []);
        let changed = compare(figure, "five times", "const TIMES: u32 = 6;");
        assert_eq!(changed.first().map(|finding| finding.path.as_str()), Some("a.rs"));
        let dropped = compare(figure, "often", "const TIMES: u32 = 5;");
        assert_eq!(dropped.first().map(|finding| finding.path.as_str()), Some("a.md"));
    }

    #[test]
    fn a_variable_that_the_page_lacks_is_found() {
        let names =
            inherited("const INHERITED: [&str; 2] = [\n    \"A\",\n    \"B_C\",\n];\n\"D\"");
        assert_eq!(names, ["A", "B_C"]);
        assert_eq!(missing_variables(&names, "`A` and `B_C`"), []);
        assert_eq!(missing_variables(&names, "`A`").len(), 1);
        assert_eq!(missing_variables(&inherited(""), "`A`").len(), 1);
    }
}
