//! The user of a lab device: `lab role user FOLDER ask | tell`.
//!
//! It agrees to everything, and records the questions and notices in its folder: one JSON object
//! a line.

use std::{
    fs::OpenOptions,
    io::{self, Read as _, Write as _},
    path::Path,
    process::ExitCode,
};

/// Name of the list of questions in the device's folder.
const ASKED: &str = "asked";
/// Name of the list of notices.
const NOTIFIED: &str = "notified";

/// Octets of a question.
const LONGEST: u64 = 64 << 10;

/// Runs the hook with the words after `lab role user`.
pub fn run(words: &[String]) -> ExitCode {
    let result = match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [folder, "ask"] => note(&Path::new(folder).join(ASKED))
            .and_then(|()| writeln!(io::stdout(), r#"{{"answer":"yes"}}"#)),
        [folder, "tell"] => note(&Path::new(folder).join(NOTIFIED)),
        _ => Err(io::Error::other("FOLDER ask | tell")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            proto_cli::note!("user: {error}");
            ExitCode::FAILURE
        }
    }
}

fn note(list: &Path) -> io::Result<()> {
    let mut question = String::new();
    io::stdin().take(LONGEST).read_to_string(&mut question)?;
    let mut list = OpenOptions::new().create(true).append(true).open(list)?;
    writeln!(list, "{}", question.trim_end().replace('\n', " "))
}

/// Returns how many questions the user of the device in `folder` was asked.
///
/// # Errors
///
/// When the list is there and cannot be read.
pub fn asked(folder: &Path) -> io::Result<usize> {
    match std::fs::read_to_string(folder.join(ASKED)) {
        Ok(list) => Ok(list.lines().count()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}
