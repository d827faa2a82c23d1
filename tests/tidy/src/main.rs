//! `cargo tidy`: checks the rules and prints what was checked, one line for each rule.

use std::process::ExitCode;

use tidy::rules::{RULES, Workspace};

fn main() -> anyhow::Result<ExitCode> {
    let workspace = Workspace::read()?;
    let mut broken = 0;
    for (name, rule) in RULES {
        let checked = rule(&workspace)?;
        broken += checked.findings.len();
        println!("{name:46} {:>4} findings  {}", checked.findings.len(), checked.counts);
        for counted in checked.counted {
            println!("    . {counted}");
        }
        for finding in checked.findings {
            println!("    {finding}");
        }
    }
    println!("{} rules, {broken} findings", RULES.len());
    Ok(if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
