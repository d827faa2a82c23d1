//! `cargo conformance`: prints how many rules of each standard are claimed, tested and excepted.

use tidy::{ledger, workspace_dir};

fn main() -> anyhow::Result<()> {
    let ledgers = ledger::ledgers(&workspace_dir().join("tests/conformance"))?;
    println!("{}", ledger::summary(&ledgers));
    Ok(())
}
