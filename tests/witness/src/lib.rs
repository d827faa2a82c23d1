//! What the tests of all packages say, and the secrets that they use, collected in one folder, so
//! that the test which runs last can search the one for the other.
//!
//! ```text
//! $FUMOCAST_HEARD/       named in .cargo/config.toml; without it nobody listens
//!   logs/                logs of programs, what they printed, logs of test processes
//!   secrets/             key files, tokens, settings with passwords, octets
//! ```
//!
//! A test process calls [`listen`]; a test that starts a program makes it [`talkative`] and hands
//! in what came of it: its [`folder`], or what it [`said`].

use std::{
    collections::hash_map::DefaultHasher,
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    hash::{Hash as _, Hasher as _},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{Mutex, Once},
};

use tracing_subscriber::filter::LevelFilter;

/// Names the folder.
pub const PLACE: &str = "FUMOCAST_HEARD";
/// Below the folder: what was said.
pub const LOGS: &str = "logs";
/// Below the folder: what nobody may have said.
pub const SECRETS: &str = "secrets";

/// Variables by which programs learn how talkative they are to be.
const LEVELS: [&str; 2] = ["RUST_LOG", "FUMOCAST_LOG"];
/// Files of a run that hold secrets.
const HOLD_SECRETS: [&str; 5] = ["key", "keys", "pem", "token", "toml"];
/// Larger files hold no secrets of ours.
const MOST_SECRET_OCTETS: u64 = 64 << 10;

/// Returns the folder, if anybody listens.
pub fn place() -> Option<PathBuf> {
    std::env::var_os(PLACE).filter(|place| !place.is_empty()).map(PathBuf::from)
}

/// Hears all that this process logs from here on, whichever test of it does.
///
/// # Panics
///
/// When the folder cannot be written: what nobody hears is not searched.
pub fn listen() {
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| {
        let Some(path) = log_of("process") else { return };
        let file = File::create(&path).expect("the folder of logs can be written");
        let logs = tracing_subscriber::fmt()
            .with_max_level(LevelFilter::TRACE)
            .with_ansi(false)
            .with_writer(Mutex::new(file));
        // Who listens already hears for itself.
        logs.try_init().ok();
    });
}

/// Lets a program log all that it can.
pub fn talkative(command: &mut Command) -> &mut Command {
    if place().is_some() {
        command.envs(LEVELS.map(|name| (name, "trace")));
    }
    command
}

/// Runs a program to its end, as talkative as it can be, and keeps what it said beside its answer:
/// an enrolment answers with a password.
///
/// # Panics
///
/// When it cannot be started.
pub fn output(command: &mut Command) -> Output {
    let output = talkative(command).output().expect("the program can be started");
    said("printed", &output.stderr);
    output
}

/// Keeps what was said: octets of a log, or what a program has printed.
///
/// # Panics
///
/// When the folder cannot be written.
pub fn said(by: &str, octets: &[u8]) {
    let Some(path) = log_of(by) else { return };
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| file.write_all(octets)).expect("the folder of logs can be written");
}

/// Keeps a secret; the end of its name says how it is to be read: `key` and `pem` as a private key,
/// `toml` as settings, anything else as it is.
///
/// # Panics
///
/// When the folder cannot be written.
pub fn secret(name: &str, octets: &[u8]) {
    let Some(folder) = below(SECRETS) else { return };
    let mut hasher = DefaultHasher::new();
    octets.hash(&mut hasher);
    let path = folder.join(format!("{:016x}.{name}", hasher.finish()));
    if !path.exists() {
        fs::write(path, octets).expect("the folder of secrets can be written");
    }
}

/// Keeps the secrets and the logs of a folder in which programs have run.
///
/// # Panics
///
/// When it cannot be read, or the folder cannot be written.
pub fn folder(run: &Path) {
    if place().is_none() {
        return;
    }
    for entry in fs::read_dir(run).into_iter().flatten().flatten() {
        let (path, kind) = (entry.path(), entry.file_type());
        if kind.as_ref().is_ok_and(fs::FileType::is_dir) {
            folder(&path);
        } else if kind.is_ok_and(|kind| kind.is_file()) {
            file(&path);
        }
    }
}

fn file(path: &Path) {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let end = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    let is_log = end == "log" || name == "stderr";
    let is_small = fs::metadata(path).is_ok_and(|held| held.len() <= MOST_SECRET_OCTETS);
    let holds_secrets = HOLD_SECRETS.contains(&end) && is_small;
    if !is_log && !holds_secrets {
        return;
    }
    // A program that still runs may have removed it.
    let Ok(octets) = fs::read(path) else { return };
    if is_log {
        said(name, &octets);
    } else {
        secret(name, &octets);
    }
}

/// Returns the log of this process under a name.
fn log_of(name: &str) -> Option<PathBuf> {
    let program = std::env::current_exe().ok();
    let program = program.as_deref().and_then(Path::file_stem).and_then(OsStr::to_str);
    let program = program.unwrap_or("unknown");
    Some(below(LOGS)?.join(format!("{program}-{}-{name}.log", std::process::id())))
}

fn below(name: &str) -> Option<PathBuf> {
    let folder = place()?.join(name);
    fs::create_dir_all(&folder).expect("the folder can be made");
    Some(folder)
}
