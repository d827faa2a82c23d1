//! Logs of the tests of all packages and the secrets that they use, collected in one folder, so
//! that the test which runs last can search the one for the other.
//!
//! ```text
//! $FUMOCAST_TEST_LOG_DIR/   named in .cargo/config.toml; without it nothing is collected
//!   logs/                   logs of programs, what they printed, logs of test processes
//!   secrets/                key files, tokens, settings with passwords, octets
//! ```
//!
//! A test process calls [`capture`]; a test that starts a program makes it [`verbose`] and hands
//! in its output: its [folder](collect_folder), or the [octets of its log](record_log).

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

/// Environment variable that names the folder.
pub const DIR_VARIABLE: &str = "FUMOCAST_TEST_LOG_DIR";
/// Below the folder: logs and printed output.
pub const LOGS: &str = "logs";
/// Below the folder: secrets, which no log may contain.
pub const SECRETS: &str = "secrets";

/// Variables that set the log level of a program.
const LEVELS: [&str; 2] = ["RUST_LOG", "FUMOCAST_LOG"];
/// Extensions of the files of a run that hold secrets.
const SECRET_EXTENSIONS: [&str; 5] = ["key", "keys", "pem", "token", "toml"];
/// Larger files hold no secrets of ours.
const MAX_SECRET_FILE_BYTES: u64 = 64 << 10;

/// Returns the folder, if test logs are collected.
pub fn dir() -> Option<PathBuf> {
    std::env::var_os(DIR_VARIABLE).filter(|dir| !dir.is_empty()).map(PathBuf::from)
}

/// Collects all log lines of this process from now on, whichever test writes them.
///
/// # Panics
///
/// When the folder cannot be written: a log that is not collected is not searched.
pub fn capture() {
    static CAPTURE: Once = Once::new();
    CAPTURE.call_once(|| {
        let Some(path) = log_of("process") else { return };
        let file = File::create(&path).expect("the folder of logs can be written");
        let logs = tracing_subscriber::fmt()
            .with_max_level(LevelFilter::TRACE)
            .with_ansi(false)
            .with_writer(Mutex::new(file));
        // A process with a subscriber of its own collects its log itself.
        logs.try_init().ok();
    });
}

/// Sets the log level of a program to `trace`.
pub fn verbose(command: &mut Command) -> &mut Command {
    if dir().is_some() {
        command.envs(LEVELS.map(|name| (name, "trace")));
    }
    command
}

/// Runs a program to its end at log level `trace` and collects its standard error. Standard output
/// is not collected: an enrolment prints a password there.
///
/// # Panics
///
/// When it cannot be started.
pub fn run(command: &mut Command) -> Output {
    let output = verbose(command).output().expect("the program can be started");
    record_log("printed", &output.stderr);
    output
}

/// Stores octets of a log, or printed output of a program.
///
/// # Panics
///
/// When the folder cannot be written.
pub fn record_log(source: &str, octets: &[u8]) {
    let Some(path) = log_of(source) else { return };
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| file.write_all(octets)).expect("the folder of logs can be written");
}

/// Stores a secret. The extension of its name selects the parser: `key` and `pem` for a private
/// key, `toml` for settings; anything else is searched for as it is.
///
/// # Panics
///
/// When the folder cannot be written.
pub fn record_secret(name: &str, octets: &[u8]) {
    let Some(folder) = below(SECRETS) else { return };
    let mut hasher = DefaultHasher::new();
    octets.hash(&mut hasher);
    let path = folder.join(format!("{:016x}.{name}", hasher.finish()));
    if !path.exists() {
        fs::write(path, octets).expect("the folder of secrets can be written");
    }
}

/// Stores the secrets and the logs of a folder in which programs have run.
///
/// # Panics
///
/// When it cannot be read, or the folder cannot be written.
pub fn collect_folder(run: &Path) {
    if dir().is_none() {
        return;
    }
    for entry in fs::read_dir(run).into_iter().flatten().flatten() {
        let (path, kind) = (entry.path(), entry.file_type());
        if kind.as_ref().is_ok_and(fs::FileType::is_dir) {
            collect_folder(&path);
        } else if kind.is_ok_and(|kind| kind.is_file()) {
            collect_file(&path);
        }
    }
}

fn collect_file(path: &Path) {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let end = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    let is_log = end == "log" || name == "stderr";
    let is_small = fs::metadata(path).is_ok_and(|data| data.len() <= MAX_SECRET_FILE_BYTES);
    let holds_secrets = SECRET_EXTENSIONS.contains(&end) && is_small;
    if !is_log && !holds_secrets {
        return;
    }
    // A program that still runs may have removed it.
    let Ok(octets) = fs::read(path) else { return };
    if is_log {
        record_log(name, &octets);
    } else {
        record_secret(name, &octets);
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
    let folder = dir()?.join(name);
    fs::create_dir_all(&folder).expect("the folder can be made");
    Some(folder)
}
