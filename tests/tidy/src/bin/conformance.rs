//! `cargo conformance`: prints how many rules of each standard are claimed, tested and excepted.

use std::io::{self, Write as _};

use tidy::{ledger, workspace_dir};

fn main() -> anyhow::Result<()> {
    let ledgers = ledger::ledgers(&workspace_dir().join("tests/conformance"))?;
    let text = ledger::summary(&ledgers) + "\n";
    drop(io::stdout().write_all(text.as_bytes()));
    Ok(())
}
