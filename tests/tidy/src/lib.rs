//! The rules of the sources that a compiler does not check; `cargo tidy` checks them.
//!
//! | module | checks |
//! | --- | --- |
//! | [`source`] | no rule: finds the files; blanks comments, strings and test items |
//! | [`arrows`] | permitted imports between packages and modules |
//! | [`carry`] | no rule: carries what names sources over a change of them (`cargo carry`) |
//! | [`circles`] | no files of a crate import from one another |
//! | [`habits`] | file length, unwrap, unfinished work, module layout |
//! | [`ledger`] | every claim of a standard has a rule, a test and a line in the ledger |
//! | [`owners`] | methods stand in the type's file, fields are few and touched there alone |
//! | [`mutations`] | every threat has a patch that removes its defence, and a test that fails then |
//! | [`rules`] | all rules, each with the counts of what it has checked |
//! | [`ways`] | every step of a way is a function, and a way enters few files |
//! | [`words`] | words that are not used, openings of doc comments |
//! | [`readme`] | every path and heading that a page names exists, every command that a README shows is run |
//! | [`figures`] | limits and times on pages are those of the sources |
//! | [`outcomes`] | the page of phases and result codes has each of them, as the sources do |
//! | [`licences`] | each crate that is packaged has its licence texts |
//!
//! A rule takes files and returns [`Finding`]s, so that each can be shown a planted fault.

use std::fmt;

pub mod arrows;
pub mod carry;
pub mod circles;
pub mod figures;
pub mod habits;
pub mod ledger;
pub mod licences;
pub mod mutations;
pub mod outcomes;
pub mod owners;
pub mod readme;
pub mod rules;
pub mod source;
pub mod ways;
pub mod words;

pub use source::{SourceFile, workspace_dir, workspace_sources};

/// One place that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// File, from the top of the repository.
    pub path: String,
    /// Line, from 1; 0: the file as a whole.
    pub line: usize,
    /// The mistake, and the right form.
    pub what: String,
}

impl Finding {
    /// Returns a finding on one line.
    pub fn new(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// Panics with all findings, one to a line.
///
/// # Panics
///
/// When there is one.
pub fn assert_clean(mut findings: Vec<Finding>) {
    findings.sort();
    let lines: Vec<_> = findings.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "{} finding(s):\n{}", lines.len(), lines.join("\n"));
}
