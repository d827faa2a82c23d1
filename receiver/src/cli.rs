//! The command line of the `receiver` program.

mod account;
mod check_in;
mod components;
mod consent;
mod deliver_notification;
mod dissect;
mod fsck;
mod import;
mod listen;
mod trust;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt::{Display, Write as _},
    io::IsTerminal as _,
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context as _, anyhow};
use clap::{Args, Parser, Subcommand, ValueEnum};
use proto_cli::output;
use serde_json::Value;
use tracing_subscriber::EnvFilter;

use crate::{
    agent::StoredStateError,
    config::{self, Config, ConfigError},
    shell::{
        bootstrap,
        control::{self, Answer, ControlError, Request},
        data_dir::{DataDir, OpenError, read_text},
        event_loop::{self, ExitReason, Options, StartError},
        restore::RestoreError,
        user::Prompter,
    },
};

/// Receive broadcast updates, verify them, and hand them to the installer
///
/// `dm-bridge device enrol` enrols a device and prints its configuration; add a section
/// `[receiver]` with `data`, `trust_root`, `interface` and `installer_hook`. Every field can also
/// be set in the environment: `server.url` as FUMOCAST_SERVER_URL.
#[derive(Debug, Parser)]
#[command(name = "receiver", version, after_long_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent until SIGTERM: poll the server, receive in windows, install, report
    Run {
        #[command(flatten)]
        config: ConfigArgs,
        /// Format of the log on standard error; RUST_LOG sets its level
        #[arg(long, value_enum, default_value_t = LogFormat::Text)]
        log: LogFormat,
    },
    /// Show the status of the running agent
    Status {
        #[command(flatten)]
        config: ConfigArgs,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Start a DM session at once, or request an update
    ///
    /// With `--on-behalf-of` the session carries an update request, and the command waits for the
    /// server's decision: an update begins, it may follow later, or the server does not support
    /// this device. Exit codes: 0 update granted, now or later; 4 no decision yet (the agent
    /// repeats the request); 8 rejected by the server or the agent.
    CheckIn(check_in::CheckInArgs),
    /// Suspend reception: tune out and store the received symbols
    ///
    /// Several reasons may be active at once; reception resumes when the last one is cleared. The
    /// agent reads battery, memory, storage, link and temperature itself; use this command for
    /// reasons that no sensor reports.
    Suspend(SuspendArgs),
    /// Clear a suspend reason
    Resume(SuspendArgs),
    /// Deliver a notification that arrived outside of the network, such as a modem's short message
    DeliverNotification(deliver_notification::DeliverNotificationArgs),
    /// Set the device's account from a bootstrap document, while the agent is stopped
    ///
    /// `dm-bridge bootstrap` writes such documents. The account is stored in the data directory and
    /// replaces `[server]` of the configuration. A document with a wrong proof changes nothing:
    /// exit code 5. An agent that runs without an account accepts documents on its notification
    /// ports, and prompts the user for the PIN.
    Bootstrap(account::BootstrapArgs),
    /// Prompt the user once, at enrolment, for a standing consent to updates
    ///
    /// The prompt goes to `receiver.user_interface`, and the answer is stored in the data directory
    /// with the text of the question. It applies from the next start on, to the current server, and
    /// replaces the prompts before each update: after a yes there are none, after a no every update
    /// is rejected and reported so (exit code 8). Without an answer nothing is stored: exit code
    /// 75.
    Consent(consent::ConsentArgs),
    /// Install an update from local media, such as a USB stick at a kiosk
    ///
    /// FILE is a bundle made by `carousel bundle`. It is verified like any update; your
    /// confirmation replaces the command of the server. Exit code 8, with the reason, when the
    /// agent rejects it.
    Import {
        #[command(flatten)]
        config: ConfigArgs,
        /// The bundle
        file: PathBuf,
        /// Do not ask for confirmation
        #[arg(long)]
        yes: bool,
    },
    /// Receive unsigned files of any FLUTE session, for labs
    ///
    /// The sender of an unsigned file is not authenticated, and no device installs one. A session
    /// is identified by sender and TSI; a file is NAME.part until it is complete and its digest is
    /// verified. Names from the network are made safe: one component, and never that of a file of
    /// another session.
    Listen(listen::ListenArgs),
    /// Show the content of a packet capture of FLUTE sessions
    ///
    /// Prints a line for each packet, then for each object its blocks, its captured and missing
    /// symbols, and the reason why it is not complete. Nothing is decoded.
    Dissect(dissect::DissectArgs),
    /// List the software components that the installer of the running agent reports
    ///
    /// Prints a line for each: identifier, version, `active` or `inactive`, name. Exit code 6 when
    /// the agent has no list.
    Components {
        #[command(flatten)]
        config: ConfigArgs,
        /// Print one JSON array
        #[arg(long)]
        json: bool,
    },
    /// Set the trust state of a device that has lost it
    #[command(subcommand)]
    Trust(trust::TrustCommand),
    /// Check a data directory for damage, without changing anything
    Fsck(fsck::FsckArgs),
}

#[derive(Debug, Args)]
struct SuspendArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Suspend reason: user, call, metered, network, battery, memory or thermal
    #[arg(long, value_name = "REASON", default_value = "user")]
    reason: String,
}

#[derive(Debug, Args)]
struct ConfigArgs {
    /// Configuration of the device (TOML)
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Use this data directory; overrides `receiver.data`
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// Trust this factory root; overrides `receiver.trust_root`
    #[arg(long, value_name = "FILE")]
    root: Option<String>,
    /// Join groups on the interface with this address; overrides `receiver.interface`
    #[arg(long, value_name = "IP")]
    interface: Option<String>,
    /// Allow plain HTTP to other hosts; overrides `server.insecure_http`
    #[arg(long)]
    insecure_http: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object per line
    Json,
}

/// Runs the program with its arguments, the program's name first.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    run_with(arguments, Options::default())
}

/// Runs the program as [`run`] does, with further options of a lab.
pub fn run_with(arguments: impl IntoIterator<Item = OsString>, options: Options) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // clap prints help to standard output with exit code 0.
            return match output::without_reader(error.print()) {
                Ok(()) if error.exit_code() == 0 => ExitCode::SUCCESS,
                Ok(()) | Err(_) => exit::USAGE.into(),
            };
        }
    };
    match execute(cli.command, options) {
        Ok(code) => code.into(),
        Err(failure) => {
            proto_cli::note!("receiver: {:#}", failure.error);
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
            let prompter = account::prepare(&config)?;
            match prompter {
                Some(prompter) => run_device(&config.load()?, prompter, options),
                None => Ok(exit::DONE),
            }
        }
        Command::Bootstrap(arguments) => account::run(&arguments),
        Command::Consent(arguments) => consent::run(&arguments),
        Command::Status { config, json } => status(&config.load()?, json),
        Command::CheckIn(arguments) => check_in::run(&arguments),
        Command::Suspend(SuspendArgs { config, reason }) => {
            ask(&config.load()?, &Request::Suspend { reason }).map(|_| exit::DONE)
        }
        Command::DeliverNotification(arguments) => deliver_notification::run(&arguments),
        Command::Trust(command) => trust::run(&command),
        Command::Import { config, file, yes } => import::run(&config.load()?, &file, yes),
        Command::Dissect(arguments) => dissect::run(&arguments),
        Command::Components { config, json } => components::run(&config, json),
        Command::Fsck(arguments) => fsck::run(&arguments),
        Command::Listen(arguments) => {
            start_log(LogFormat::Text);
            listen::run(&arguments)
        }
        Command::Resume(SuspendArgs { config, reason }) => {
            ask(&config.load()?, &Request::Resume { reason }).map(|_| exit::DONE)
        }
    }
}

fn run_device(config: &Config, prompter: Prompter, options: Options) -> Result<u8, Failure> {
    match event_loop::run(config, prompter, options) {
        Ok(ExitReason::Terminated) => Ok(exit::DONE),
        Ok(ExitReason::Interrupted) => Ok(exit::INTERRUPTED),
        Ok(ExitReason::Storage(error)) => Err(Failure {
            code: exit::RESUMABLE,
            error: anyhow!(error).context("stopped; synced symbols are stored"),
        }),
        Err(error) => Err(Failure { code: start_code(&error), error: error.into() }),
    }
}

fn start_code(error: &StartError) -> u8 {
    match error {
        StartError::Data(OpenError::Locked(_)) => exit::CONFLICT,
        StartError::Restore(RestoreError::Boot(StoredStateError::Root(_))) => {
            exit::REFUSED_SIGNATURE
        }
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
        Answer::Status { status } if json => print(format_args!("{status}\n"))?,
        Answer::Status { status } => print(status_text(&status))?,
        Answer::Done | Answer::Version { .. } | Answer::Refused { .. } => {}
    }
    Ok(exit::DONE)
}

/// Prints text to standard output. Without a reader the text is dropped.
fn print(text: impl Display) -> Result<(), Failure> {
    output::print(text).map_err(|error| Failure {
        code: exit::RESUMABLE,
        error: anyhow!(error).context("cannot write to standard output"),
    })
}

fn ask(config: &Config, request: &Request) -> Result<Answer, Failure> {
    let socket = DataDir::control_socket(&config.receiver.data);
    match control::call(&socket, request) {
        Ok(Answer::Refused { reason }) => {
            Err(Failure { code: exit::POLICY, error: anyhow!("rejected by the agent: {reason}") })
        }
        Ok(answer) => Ok(answer),
        Err(error) => {
            let code = match error {
                ControlError::NotRunning(_) => exit::NOT_FOUND,
                ControlError::Io(_) | ControlError::Answer(_) => exit::NETWORK,
            };
            Err(Failure { code, error: error.into() })
        }
    }
}

/// Formats the status for people: phase, progress, problems.
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
        writeln!(out, "{name:<12}{value}").expect("a string takes every line");
    };
    line("phase", text("phase"));
    line("campaign", text("campaign"));
    line("suspended", text("reasons"));
    line("channels", text("channels"));
    let (synced, needed) = (number("symbols_synced"), number("symbols_needed"));
    if let Some(per_mille) = synced.saturating_mul(1000).checked_div(needed) {
        let share = format!("{}.{} %", per_mille / 10, per_mille % 10);
        line("received", format!("{share} ({synced} of {needed} symbols)"));
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
        let accounts = match config::Receiver::data_of(&text, environment, &self.overrides()) {
            Some(data) => bootstrap::accounts(&data).with_context(|| {
                format!("cannot read the account in the data directory {}", data.display())
            })?,
            None => Vec::new(),
        };
        let resolved = Config::resolve(&text, &accounts, environment, &self.overrides());
        let mut config = resolved.map_err(|error| {
            let without = matches!(error, ConfigError::Missing { field: "server.url", .. });
            let error = anyhow!(error).context(format!("in {path}"));
            let hint = "the device has no account; run `receiver bootstrap` to set one";
            if without { error.context(hint) } else { error }
        })?;
        let kept = crate::shell::consent::read(&config.receiver.data);
        if let Some(record) = kept.context("cannot read the user's consent")? {
            config.receiver.user.standing = record.standing(&config.server.server_id);
        }
        Ok(config)
    }

    /// Loads the section `[receiver]`, which a device without an account needs.
    fn receiver(&self) -> Result<config::Receiver, Failure> {
        let read = || {
            let path = self.config.display();
            let text = read_text(&self.config)
                .with_context(|| format!("cannot read the configuration {path}"))?;
            config::Receiver::resolve(&text, environment, &self.overrides())
                .map_err(|error| anyhow!(error).context(format!("in {path}")))
        };
        read().map_err(|error| Failure { code: exit::CONFIGURATION, error })
    }

    fn overrides(&self) -> BTreeMap<&'static str, String> {
        let insecure = self.insecure_http.then(|| "true".to_owned());
        [
            ("receiver.data", self.data.clone()),
            ("receiver.trust_root", self.root.clone()),
            ("receiver.interface", self.interface.clone()),
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
    // Below it logs URLs, and that of a package holds a secret.
    let filter = filter.add_directive("ureq=info".parse().expect("a directive"));
    let filter = filter.add_directive("ureq_proto=info".parse().expect("a directive"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .log_internal_errors(false);
    let outcome = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a logger is set already");
    }
}

const EXAMPLES: &str = "\
Examples:
  receiver run --config /etc/fumocast/device.toml
  receiver status --config /etc/fumocast/device.toml --json
  receiver check-in --config /etc/fumocast/device.toml --on-behalf-of user
  receiver listen --group 239.255.1.1 --port 40100 --interface 127.0.0.1 --out /tmp/in --once
  receiver dissect session.pcap --summary
  receiver fsck /var/lib/fumocast
  receiver bootstrap --config /etc/fumocast/device.toml LAB-0001.bootstrap --pin-file pin
  receiver import --config /etc/fumocast/device.toml /media/stick/update.bundle

Exit codes: 0 done (`run`: stopped by SIGTERM), 2 usage, 3 configuration, 4 no answer from the agent,
5 trust root or signature rejected, 6 no agent runs, 7 another agent uses the data directory,
8 rejected, 9 `fsck` found damage, 75 storage failed, or `listen` ran out of time (synced symbols are
stored), 130 interrupted.";

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
        assert_eq!(overrides.get("receiver.data").map(String::as_str), Some("/d"));
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
        assert!(format!("{:#}", wrong.error).contains("invalid `device.id`"));
    }

    #[test]
    fn the_status_shows_the_progress_of_reception() {
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
