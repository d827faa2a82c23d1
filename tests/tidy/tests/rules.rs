//! The house is as it is drawn; the rules themselves live in the library.

use std::{fs, sync::LazyLock};

use tidy::{
    SourceFile, arrows, assert_clean, habits, ledger, mutations, readme, source::PACKAGES,
    workspace_dir,
};

#[test]
fn modules_inside_proto_follow_the_arrows() {
    assert_clean(arrows::inside_proto(sources()));
}

#[test]
fn programs_do_not_know_one_another() {
    let mut findings = arrows::between_packages(sources());
    for package in PACKAGES {
        let path = workspace_dir().join(package).join("Cargo.toml");
        findings.extend(arrows::dependencies(package, &fs::read_to_string(path).unwrap()));
    }
    assert_clean(findings);
}

#[test]
fn only_shells_touch_the_machine() {
    assert_clean(arrows::machine(sources()));
}

#[test]
fn cores_do_not_reach_up_to_their_shells() {
    assert_clean(arrows::cores_below_shells(sources()));
}

#[test]
fn flute_and_dm_meet_in_arming_and_agent_alone() {
    assert_clean(arrows::flute_and_dm(sources()));
}

#[test]
fn crates_behind_a_door_stay_there() {
    assert_clean(arrows::fences(sources()));
}

#[test]
fn files_are_short_and_named_after_their_modules() {
    let sources = sources();
    assert_clean(habits::length(sources));
    assert_clean(habits::layout(sources));
}

#[test]
fn nothing_unwraps_and_nothing_is_left_undone() {
    assert_clean(habits::finished(sources()));
}

#[test]
fn every_claim_has_a_rule_a_test_and_a_line_in_the_ledger() {
    let ledgers = ledger::ledgers(&workspace_dir().join("tests/conformance")).unwrap();
    assert_clean(ledger::matched(sources(), &ledgers));
}

#[test]
fn the_ledgers_answer_for_every_statement() {
    let ledgers = ledger::ledgers(&workspace_dir().join("tests/conformance")).unwrap();
    println!("{}", ledger::summary(&ledgers));
    assert_clean(ledger::counted(&ledgers));
}

#[test]
fn every_threat_has_a_patch_that_applies_and_a_test_that_is_there() {
    let table = mutations::table().unwrap();
    assert_clean(mutations::findings(&table, sources()).unwrap());
}

#[test]
fn the_readmes_name_what_exists() {
    let (top, sources) = (workspace_dir(), sources());
    let mut findings = Vec::new();
    for name in readme::READMES.iter().filter(|name| top.join(name).exists()) {
        let text = fs::read_to_string(top.join(name)).unwrap();
        findings.extend(readme::paths(name, &text, &top));
        findings.extend(readme::links(name, &text, &top));
        findings.extend(readme::invariants(name, &text, sources));
    }
    assert_clean(findings);
}

/// Sources of the workspace, read once for all rules.
fn sources() -> &'static [SourceFile] {
    static SOURCES: LazyLock<Vec<SourceFile>> =
        LazyLock::new(|| tidy::workspace_sources().expect("the sources are readable"));
    assert!(SOURCES.len() > 50, "only {} files were found", SOURCES.len());
    &SOURCES
}
