//! The repository keeps its rules; `cargo tidy` prints what each has checked.

#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "the output of a test is for the person who runs it"
)]

use tidy::{
    assert_clean,
    rules::{RULES, Workspace},
};

#[test]
fn the_repository_keeps_every_rule() {
    let workspace = Workspace::read().expect("the sources are readable");
    assert!(workspace.sources.len() > 50, "only {} files were found", workspace.sources.len());
    let mut findings = Vec::new();
    for (name, rule) in RULES {
        let checked = rule(&workspace).expect("the repository is readable");
        println!("{name}: {}", checked.counts);
        findings.extend(checked.findings);
    }
    assert_clean(findings);
}
