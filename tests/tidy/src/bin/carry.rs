//! `cargo carry [REVISION]`: carries patches, ledgers and rules over a change of the sources.

use std::process::ExitCode;

fn main() -> anyhow::Result<ExitCode> {
    let revision = std::env::args().nth(1).unwrap_or_else(|| "HEAD".to_owned());
    let unmerged = tidy::carry::carry(&revision)?;
    for patch in &unmerged {
        eprintln!("tests/mutations/{patch}.patch: merge it by hand");
    }
    Ok(if unmerged.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
