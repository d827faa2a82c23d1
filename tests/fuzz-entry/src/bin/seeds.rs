//! Writes the first inputs of every fuzz target: `fuzz-seeds DIR` fills `DIR/<target>/`.

use std::{
    fs,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use fuzz_entry::ENTRIES;

fn main() -> ExitCode {
    let Some(top) = std::env::args_os().nth(1).map(PathBuf::from) else {
        writeln!(io::stderr(), "usage: fuzz-seeds DIR").ok();
        return ExitCode::from(2);
    };
    for entry in ENTRIES {
        let folder = top.join(entry.name);
        let written = fs::create_dir_all(&folder).and_then(|()| {
            let mut seeds = (0..).zip((entry.seeds)());
            seeds.try_for_each(|(number, seed)| {
                fs::write(folder.join(format!("seed-{number:02}")), seed)
            })
        });
        if let Err(error) = written {
            let folder = folder.display();
            writeln!(io::stderr(), "failed to write seeds to {folder}: {error}").ok();
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
