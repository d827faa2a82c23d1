//! `cargo tidy`: checks the rules and prints what was checked, one line for each rule.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    process::ExitCode,
};

use tidy::rules::{RULES, Workspace};

fn main() -> anyhow::Result<ExitCode> {
    let workspace = Workspace::read()?;
    let mut broken = 0;
    let mut text = String::new();
    for (name, rule) in RULES {
        let checked = rule(&workspace)?;
        broken += checked.findings.len();
        let count = checked.findings.len();
        writeln!(text, "{name:46} {count:>4} findings  {}", checked.counts)?;
        for counted in checked.counted {
            writeln!(text, "    . {counted}")?;
        }
        for finding in checked.findings {
            writeln!(text, "    {finding}")?;
        }
    }
    writeln!(text, "{} rules, {broken} findings", RULES.len())?;
    // A caller that does not read has the exit code.
    drop(io::stdout().write_all(text.as_bytes()));
    Ok(if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
