//! `cargo carry [REVISION]`: carries patches, ledgers and rules over a change of the sources.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

fn main() -> anyhow::Result<ExitCode> {
    let revision = std::env::args().nth(1).unwrap_or_else(|| "HEAD".to_owned());
    let unmerged = tidy::carry::carry(&revision)?;
    for patch in &unmerged {
        writeln!(io::stderr(), "tests/mutations/{patch}.patch: merge it by hand").ok();
    }
    Ok(if unmerged.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
