//! The command line of the `receiver` program.

mod account;
mod check_in;
mod components;
mod consent;
mod dissect;
mod fsck;
mod import;
mod listen;
mod notified;

use std::{
    collections::BTreeMap, ffi::OsString, fmt::Write as _, io::IsTerminal as _, path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context as _, anyhow};
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde_json::Value;
use tracing_subscriber::EnvFilter;

use crate::{
    agent::StoredStateError,
    config::{Config, ConfigError, Local},
    shell::{
        bootstrap,
        control::{self, Answer, AskError, Request},
        directory::{DataDirectory, OpenError, read_text},
        run::{self, End, Options, StartError},
        user::Front,
        wiring::RestoreError,
    },
};

/// Receives broadcast updates, proves them, keeps them over power cuts, and hands them to the
/// installer.
///
/// The device is enrolled with `dm-bridge device enrol`, which prints its configuration; add a
/// `[local]` section with `data`, `root`, `interface` and `hook`. Every field can also come from the
/// environment: `server.url` as FUMOCAST_SERVER_URL.
#[derive(Debug, Parser)]
#[command(name = "receiver", version, after_long_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the device until SIGTERM: check in with the server, listen in windows, install, report.
    Run {
        #[command(flatten)]
        config: ConfigArgs,
        /// Form of the log on standard error; RUST_LOG sets its level.
        #[arg(long, value_enum, default_value_t = LogFormat::Text)]
        log: LogFormat,
    },
    /// Say what the running device does and holds.
    Status {
        #[command(flatten)]
        config: ConfigArgs,
        /// Answer with one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Let the running device start a DM session at once, or ask its server for an update.
    ///
    /// With `--device-request` or `--user-request` the session carries that request, and the command
    /// waits for what the server makes of it: an update begins, it may follow later, or the server
    /// does not support this device. Exit codes: 0 an update or a later one, 4 no answer yet (the
    /// device goes on asking), 8 the server or the device says no.
    CheckIn(check_in::CheckInArgs),
    /// Let the running device keep what it holds and tune out.
    ///
    /// Several reasons hold at once; reception goes on when the last one is gone. The device sees
    /// battery, memory, storage, link and heat by itself; this is for what no sensor shows.
    Suspend(RestArgs),
    /// Let the running device go on, as far as this reason is concerned.
    Resume(RestArgs),
    /// Hand the running device a notification that came another way: its modem's short message.
    Notified(notified::NotifiedArgs),
    /// Give the device its account from a bootstrap document, while it does not run.
    ///
    /// `dm-bridge bootstrap` writes such documents. The account is kept in the data directory and
    /// takes the place of `[server]` in the configuration. A document that its proof does not fit
    /// changes nothing: exit code 5. A device that runs without an account takes documents where it
    /// takes notifications, and asks its user for the PIN.
    Bootstrap(account::BootstrapArgs),
    /// Ask the user once, when the device is enrolled, whether it may update itself.
    ///
    /// The question goes to the user as all do (`local.user`), and the answer is kept in the data
    /// directory with the words of the question. It counts from the next start on, for the server
    /// that the device has now, in the place of the questions before each update: after a yes none
    /// is asked, after a no every update is refused and reported so (exit code 8). Without an
    /// answer nothing is kept: exit code 75.
    Consent(consent::ConsentArgs),
    /// Let the running device take an update from local media, such as a stick at a kiosk.
    ///
    /// FILE is a bundle made by `carousel bundle`. It is checked like any update; your yes stands
    /// for the word of the server. Exit code 8 with the reason when the device refuses it.
    Import {
        #[command(flatten)]
        config: ConfigArgs,
        /// The bundle.
        file: PathBuf,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Receive plain files of any FLUTE session: for labs, unsigned.
    ///
    /// Nothing proves who sent a plain file, and no device installs one. Sessions are told apart by
    /// sender and TSI; a file is NAME.part until all of it is there and its digest is right. Names
    /// come from the network and are made safe: one component, and never that of a file which some
    /// other session brought.
    Listen(listen::ListenArgs),
    /// Show what a packet capture of FLUTE sessions holds.
    ///
    /// A line for each packet, then for each object its blocks, the symbols that are held and those
    /// that are missing, and why it is not complete. Nothing is decoded.
    Dissect(dissect::DissectArgs),
    /// List the software components of the running device, as its installer does.
    ///
    /// A line for each: identifier, version, whether it runs, name. Exit code 6 when the device has
    /// none to list.
    Components {
        #[command(flatten)]
        config: ConfigArgs,
        /// Answer with one JSON list.
        #[arg(long)]
        json: bool,
    },
    /// Say what a data directory holds and what is damaged in it, without changing anything.
    Fsck(fsck::FsckArgs),
}

#[derive(Debug, Args)]
struct RestArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Why: user, call, metered, network, battery, memory or thermal.
    #[arg(long, value_name = "REASON", default_value = "user")]
    reason: String,
}

#[derive(Debug, Args)]
struct ConfigArgs {
    /// The device's configuration (TOML).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Use this data directory: overrides `local.data`.
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// Believe this factory root: overrides `local.root`.
    #[arg(long, value_name = "FILE")]
    root: Option<String>,
    /// Join groups on the interface with this address: overrides `local.interface`.
    #[arg(long, value_name = "IP")]
    interface: Option<String>,
    /// Let plain HTTP leave this machine: overrides `server.insecure_http`.
    #[arg(long)]
    insecure_http: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Runs the program with its arguments, the program's name first.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    run_with(arguments, Options::default())
}

/// Runs the program as [`run`] does, with what a lab asks for beside the arguments.
pub fn run_with(arguments: impl IntoIterator<Item = OsString>, options: Options) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to standard output and is no failure; clap knows which is which.
            return match error.print() {
                Ok(()) if error.exit_code() == 0 => ExitCode::SUCCESS,
                Ok(()) | Err(_) => exit::USAGE.into(),
            };
        }
    };
    match execute(cli.command, options) {
        Ok(code) => code.into(),
        Err(failure) => {
            eprintln!("receiver: {:#}", failure.error);
            failure.code.into()
        }
    }
}

/// Exit codes, the same for all programs.
mod exit {
    pub(super) const DONE: u8 = 0;
    pub(super) const USAGE: u8 = 2;
    pub(super) const CONFIGURATION: u8 = 3;
    pub(super) const NETWORK: u8 = 4;
    pub(super) const REFUSED_SIGNATURE: u8 = 5;
    pub(super) const NOT_FOUND: u8 = 6;
    pub(super) const CONFLICT: u8 = 7;
    pub(super) const POLICY: u8 = 8;
    pub(super) const PARTIAL: u8 = 9;
    pub(super) const RESUMABLE: u8 = 75;
    pub(super) const INTERRUPTED: u8 = 130;
}

struct Failure {
    code: u8,
    error: anyhow::Error,
}

fn execute(command: Command, options: Options) -> Result<u8, Failure> {
    match command {
        Command::Run { config, log } => {
            start_log(log);
            let front = account::prepare(&config)?;
            match front {
                Some(front) => run_device(&config.load()?, front, options),
                None => Ok(exit::DONE),
            }
        }
        Command::Bootstrap(arguments) => account::run(&arguments),
        Command::Consent(arguments) => consent::run(&arguments),
        Command::Status { config, json } => status(&config.load()?, json),
        Command::CheckIn(arguments) => check_in::run(&arguments),
        Command::Suspend(RestArgs { config, reason }) => {
            ask(&config.load()?, &Request::Suspend { reason }).map(|_| exit::DONE)
        }
        Command::Notified(arguments) => notified::run(&arguments),
        Command::Import { config, file, yes } => import::run(&config.load()?, &file, yes),
        Command::Dissect(arguments) => dissect::run(&arguments),
        Command::Components { config, json } => components::run(&config, json),
        Command::Fsck(arguments) => fsck::run(&arguments),
        Command::Listen(arguments) => {
            start_log(LogFormat::Text);
            listen::run(&arguments)
        }
        Command::Resume(RestArgs { config, reason }) => {
            ask(&config.load()?, &Request::Resume { reason }).map(|_| exit::DONE)
        }
    }
}

fn run_device(config: &Config, front: Front, options: Options) -> Result<u8, Failure> {
    match run::run(config, front, options) {
        Ok(End::Terminated) => Ok(exit::DONE),
        Ok(End::Interrupted) => Ok(exit::INTERRUPTED),
        Ok(End::Storage(error)) => Err(Failure {
            code: exit::RESUMABLE,
            error: anyhow!(error).context("stopped; what was synced is kept"),
        }),
        Err(error) => Err(Failure { code: start_code(&error), error: error.into() }),
    }
}

fn start_code(error: &StartError) -> u8 {
    match error {
        StartError::Data(OpenError::Locked(_)) => exit::CONFLICT,
        StartError::Restore(RestoreError::Boot(
            StoredStateError::Root(_) | StoredStateError::RootLost { .. },
        )) => exit::REFUSED_SIGNATURE,
        StartError::Data(OpenError::Io { .. })
        | StartError::Restore(
            RestoreError::Storage(_)
            | RestoreError::Journal(_)
            | RestoreError::Boot(StoredStateError::Journal(_)),
        )
        | StartError::RootFile { .. }
        | StartError::Field { .. }
        | StartError::System { .. } => exit::CONFIGURATION,
    }
}

fn status(config: &Config, json: bool) -> Result<u8, Failure> {
    match ask(config, &Request::Status)? {
        Answer::Status { status } if json => println!("{status}"),
        Answer::Status { status } => print!("{}", status_text(&status)),
        Answer::Done | Answer::Version { .. } | Answer::Refused { .. } => {}
    }
    Ok(exit::DONE)
}

fn ask(config: &Config, request: &Request) -> Result<Answer, Failure> {
    let socket = DataDirectory::control_socket(&config.local.data);
    match control::call(&socket, request) {
        Ok(Answer::Refused { reason }) => {
            Err(Failure { code: exit::POLICY, error: anyhow!("the receiver refused: {reason}") })
        }
        Ok(answer) => Ok(answer),
        Err(error) => {
            let code = match error {
                AskError::NotRunning(_) => exit::NOT_FOUND,
                AskError::Io(_) | AskError::Answer(_) => exit::NETWORK,
            };
            Err(Failure { code, error: error.into() })
        }
    }
}

/// Writes the status for people: what goes on, how far it is, what stands in the way.
fn status_text(status: &Value) -> String {
    let text = |name: &str| match status.get(name) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) if items.is_empty() => "-".to_owned(),
        Some(Value::Array(items)) => {
            let words: Vec<_> = items.iter().filter_map(Value::as_str).collect();
            words.join(" ")
        }
        Some(value @ (Value::Bool(_) | Value::Number(_) | Value::Object(_))) => value.to_string(),
    };
    let number = |name: &str| status.get(name).and_then(Value::as_u64).unwrap_or_default();
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        writeln!(out, "{name:<12}{value}").expect("a text takes every line");
    };
    line("phase", text("phase"));
    line("campaign", text("campaign"));
    line("suspended", text("reasons"));
    line("channels", text("channels"));
    let (held, needed) = (number("symbols_synced"), number("symbols_needed"));
    if let Some(per_mille) = held.saturating_mul(1000).checked_div(needed) {
        let share = format!("{}.{} %", per_mille / 10, per_mille % 10);
        line("received", format!("{share} ({held} of {needed} symbols)"));
        line("decoded", format!("{} of {} blocks", number("blocks_done"), number("blocks")));
    }
    line("firmware", text("firmware_version"));
    line("result", text("result"));
    line("reports", format!("{} waiting", number("reports_waiting")));
    out
}

impl ConfigArgs {
    fn load(&self) -> Result<Config, Failure> {
        self.read().map_err(|error| Failure { code: exit::CONFIGURATION, error })
    }

    fn read(&self) -> anyhow::Result<Config> {
        let path = self.config.display();
        let text = read_text(&self.config)
            .with_context(|| format!("cannot read the configuration {path}"))?;
        let accounts = match Local::data_of(&text, environment, &self.overrides()) {
            Some(data) => bootstrap::accounts(&data).with_context(|| {
                format!("cannot read the account in the data directory {}", data.display())
            })?,
            None => Vec::new(),
        };
        let resolved = Config::resolve(&text, &accounts, environment, &self.overrides());
        let mut config = resolved.map_err(|error| {
            let without = matches!(error, ConfigError::Missing { field: "server.url", .. });
            let error = anyhow!(error).context(format!("in {path}"));
            let hint = "the device has no account: `receiver bootstrap` gives it one";
            if without { error.context(hint) } else { error }
        })?;
        let kept = crate::shell::consent::read(&config.local.data);
        if let Some(record) = kept.context("cannot read the user's consent")? {
            config.local.user.standing = record.standing(&config.server.server_id);
        }
        Ok(config)
    }

    /// Reads what is needed before there is an account.
    fn local(&self) -> Result<Local, Failure> {
        let read = || {
            let path = self.config.display();
            let text = read_text(&self.config)
                .with_context(|| format!("cannot read the configuration {path}"))?;
            Local::resolve(&text, environment, &self.overrides())
                .map_err(|error| anyhow!(error).context(format!("in {path}")))
        };
        read().map_err(|error| Failure { code: exit::CONFIGURATION, error })
    }

    fn overrides(&self) -> BTreeMap<&'static str, String> {
        let insecure = self.insecure_http.then(|| "true".to_owned());
        [
            ("local.data", self.data.clone()),
            ("local.root", self.root.clone()),
            ("local.interface", self.interface.clone()),
            ("server.insecure_http", insecure),
        ]
        .into_iter()
        .filter_map(|(field, value)| Some((field, value?)))
        .collect()
    }
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn start_log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let outcome = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "somebody logs already");
    }
}

const EXAMPLES: &str = "\
Examples:
  receiver run --config /etc/fumocast/device.toml
  receiver status --config /etc/fumocast/device.toml --json
  receiver check-in --config /etc/fumocast/device.toml --user-request
  receiver listen --group 239.255.1.1 --port 40100 --interface 127.0.0.1 --out /tmp/in --once
  receiver dissect session.pcap --summary
  receiver fsck /var/lib/fumocast
  receiver bootstrap --config /etc/fumocast/device.toml LAB-0001.bootstrap --pin 1234
  receiver import --config /etc/fumocast/device.toml /media/stick/update.bundle

Exit codes: 0 done (`run`: stopped by SIGTERM), 2 usage, 3 configuration, 4 the receiver did not
answer, 5 the root is not to be believed, 6 no receiver runs, 7 another receiver runs on the data
directory, 8 refused, 9 `fsck` found damage, 75 the storage failed, or `listen` ran out of time, and what
was synced is kept, 130 interrupted.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_override_their_fields() {
        let line = ["receiver", "run", "--config", "x", "--data", "/d", "--insecure-http"];
        let Command::Run { config, .. } = Cli::parse_from(line).command else { panic!("not run") };
        let overrides = config.overrides();
        assert_eq!(overrides.get("local.data").map(String::as_str), Some("/d"));
        assert_eq!(overrides.get("server.insecure_http").map(String::as_str), Some("true"));
        assert_eq!(overrides.len(), 2);
    }

    #[test]
    fn a_missing_or_wrong_configuration_has_its_exit_code_and_names_the_field() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("device.toml");
        let arguments = |path: &std::path::Path| ConfigArgs {
            config: path.to_owned(),
            data: None,
            root: None,
            interface: None,
            insecure_http: false,
        };
        let absent = arguments(&path).load().unwrap_err();
        assert_eq!(absent.code, exit::CONFIGURATION);
        assert!(format!("{:#}", absent.error).contains("device.toml"));
        std::fs::write(&path, "[device]\nid = \"a b\"").unwrap();
        let wrong = arguments(&path).load().unwrap_err();
        assert!(format!("{:#}", wrong.error).contains("`device.id` does not do"));
    }

    #[test]
    fn the_status_says_how_far_reception_is() {
        let status = serde_json::json!({
            "phase": "receiving", "campaign": null, "reasons": ["user", "call"],
            "channels": [], "symbols_synced": 1234, "symbols_needed": 4321,
            "blocks_done": 1, "blocks": 4, "firmware_version": "1.0", "reports_waiting": 0,
        });
        let expected = "\
phase       receiving
campaign    -
suspended   user call
channels    -
received    28.5 % (1234 of 4321 symbols)
decoded     1 of 4 blocks
firmware    1.0
result      -
reports     0 waiting
";
        assert_eq!(status_text(&status), expected);
    }
}
