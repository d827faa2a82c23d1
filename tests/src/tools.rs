//! Tools of this machine that tests run; a missing one is a visible skip.

use std::{env, path::Path};

/// Returns whether a program is installed; prints a skip when it is not.
///
/// # Panics
///
/// When it is missing and `CI` is `true`: `.ci/run` installs the tools of the tests.
pub fn found(program: &str) -> bool {
    let places = env::var_os("PATH").unwrap_or_default();
    let there = env::split_paths(&places).any(|place| Path::new(&place).join(program).is_file());
    if !there {
        assert!(!is_ci(), "{program} is not installed, and in CI that is a failure");
        skipped(&format!("{program} is not installed"));
    }
    there
}

/// Prints that a test is skipped, and the reason.
pub fn skipped(why: &str) {
    proto_cli::note!("skipped: {why}");
}

fn is_ci() -> bool {
    env::var_os("CI").is_some_and(|value| value == "true")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_on_the_path() {
        assert!(found("sh"));
    }
}
