//! `receiver bootstrap`: the account from a bootstrap document; and the account before `run`
//! starts.

use std::{
    fs::File,
    io::{self, BufRead as _, Read as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow};
use clap::Args;
use proto::dm::bootstrap::{SharedSecrets, card::Confirmation};
use serde_json::json;

use super::{ConfigArgs, Failure, exit, print, start_code};
use crate::{
    bootstrap::{BootstrapError, BootstrapProposal, Profile},
    config::{self, ConfigError, Password},
    shell::{
        bootstrap::{self, AccountError, MAX_BYTES},
        data_dir::{AccountKind, DataDir},
        event_loop::StartError,
        user::Prompter,
    },
};

#[derive(Debug, Args)]
pub(super) struct BootstrapArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Bootstrap document; `-` for standard input
    #[arg(required_unless_present = "no_card")]
    document: Option<PathBuf>,
    /// Profile of the document: cp, dm, factory or smart-card [default: cp or dm, by its form]
    #[arg(long, value_name = "PROFILE")]
    profile: Option<Profile>,
    /// File with the PIN of the document's proof, or with the user's code of 8 to 20 digits
    /// (USERPINMAC); `-` for standard input
    #[arg(long, value_name = "FILE")]
    pin_file: Option<PathBuf>,
    /// Subscriber's number of the document's proof; overrides `receiver.imsi`
    #[arg(long, value_name = "DIGITS")]
    imsi: Option<String>,
    /// Do not ask for the confirmation that a card requires
    #[arg(long)]
    yes: bool,
    /// Remove the account of the card
    #[arg(long, conflicts_with = "document")]
    no_card: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &BootstrapArgs) -> Result<u8, Failure> {
    let is_input = |path: &PathBuf| path.as_os_str() == "-";
    let both = arguments.document.as_ref().is_some_and(is_input)
        && arguments.pin_file.as_ref().is_some_and(is_input);
    if both {
        let error = anyhow!("only one of document and --pin-file can be standard input");
        return Err(Failure { code: exit::USAGE, error });
    }
    let settings = arguments.config.receiver()?;
    let directory = open(&settings)?;
    let before = current(&arguments.config);
    let Some(document) = &arguments.document else {
        directory.remove_account(AccountKind::Card).map_err(storage)?;
        return print_result(arguments, None, before.as_deref());
    };
    let octets = read(document).map_err(|error| Failure { code: exit::NOT_FOUND, error })?;
    let configured = settings.imsi.as_ref().map(Password::reveal).map(str::to_owned);
    let network = arguments.imsi.clone().or(configured);
    let pin = arguments.pin_file.as_deref().map(read_pin).transpose();
    let pin = pin.map_err(|error| Failure { code: exit::NOT_FOUND, error })?;
    let secrets = SharedSecrets { network, pin };
    let profile = arguments.profile.unwrap_or_else(|| Profile::of_push(&octets));
    let proposal = BootstrapProposal::open(profile, &octets, &secrets).map_err(exit_refused)?;
    let asks = proposal.confirmation == Confirmation::Wanted && !arguments.yes;
    if asks && !confirm(&proposal) {
        let error = anyhow!("not confirmed; nothing is changed");
        return Err(Failure { code: exit::POLICY, error });
    }
    bootstrap::store(&directory, &proposal).map_err(storage)?;
    print_result(arguments, Some(&proposal), before.as_deref())
}

// spec: oma-003 6.1.4.3 (the device goes to the server of the card by itself)
/// Prepares the account before the agent starts; `None` when a signal ended the wait for one.
pub(super) fn prepare(config: &ConfigArgs) -> Result<Option<Prompter>, Failure> {
    let settings = match config.receiver() {
        Ok(settings) => settings,
        // The error of the whole configuration is more precise.
        Err(failure) => return Err(config.load().err().unwrap_or(failure)),
    };
    let prompter = Prompter::open(&settings);
    if settings.smart_card_image.is_some() {
        bootstrap::sync_smart_card(&open(&settings)?, &settings, &prompter).map_err(storage)?;
    }
    let without = |error: &anyhow::Error| {
        let error = error.downcast_ref::<ConfigError>();
        matches!(error, Some(ConfigError::Missing { field: "server.url", .. }))
    };
    let waits = settings.notification_udp.or(settings.notification_http).is_some()
        && config.read().err().as_ref().is_some_and(without);
    if !waits {
        return Ok(Some(prompter));
    }
    let given = bootstrap::wait_for_push(&open(&settings)?, &settings, &prompter);
    match given {
        Ok(given) => Ok(given.map(|_| prompter)),
        Err(error @ AccountError::Storage(_)) => {
            Err(Failure { code: exit::RESUMABLE, error: error.into() })
        }
        Err(error @ AccountError::System(_)) => {
            Err(Failure { code: exit::CONFIGURATION, error: error.into() })
        }
    }
}

pub(super) fn open(settings: &config::Receiver) -> Result<DataDir, Failure> {
    DataDir::open(&settings.data).map_err(|error| {
        let error = StartError::Data(error);
        Failure { code: start_code(&error), error: error.into() }
    })
}

/// Returns the current server as `ID at URL`.
fn current(config: &ConfigArgs) -> Option<String> {
    let server = config.read().ok()?.server;
    Some(format!("{} at {}", server.server_id, server.url))
}

fn print_result(
    arguments: &BootstrapArgs,
    proposal: Option<&BootstrapProposal>,
    before: Option<&str>,
) -> Result<u8, Failure> {
    let now = current(&arguments.config);
    if arguments.json {
        let answer = json!({
            "account": now,
            "before": before,
            "profile": proposal.map(|proposal| proposal.profile.as_str()),
            "auth": proposal.map(|proposal| proposal.account.auth.as_str()),
        });
        print(format_args!("{answer}\n"))?;
        return Ok(exit::DONE);
    }
    let (now, before) = (now.as_deref(), before.unwrap_or("-"));
    print(format_args!("account   {}\nbefore    {before}\n", now.unwrap_or("-")))?;
    if now.is_none() {
        print("The configuration is incomplete; `receiver run` names the missing field.\n")?;
    }
    Ok(exit::DONE)
}

fn exit_refused(error: BootstrapError) -> Failure {
    let code = match error {
        BootstrapError::NotProved(_) | BootstrapError::UnknownProof => exit::REFUSED_SIGNATURE,
        BootstrapError::Missing(_) => exit::USAGE,
        BootstrapError::Unreadable { .. } | BootstrapError::Unusable(_) => exit::CONFIGURATION,
    };
    let hint = match error {
        BootstrapError::Missing("the subscriber's number") => "set it by --imsi or `receiver.imsi`",
        BootstrapError::Missing(_) => "give it by --pin-file",
        BootstrapError::Unreadable { profile: Profile::Cp | Profile::Dm, .. } => {
            "check --profile; nothing is changed"
        }
        BootstrapError::NotProved(_)
        | BootstrapError::UnknownProof
        | BootstrapError::Unreadable { .. }
        | BootstrapError::Unusable(_) => "nothing is changed",
    };
    Failure { code, error: anyhow!("{error}; {hint}") }
}

fn storage(error: crate::store::StorageError) -> Failure {
    Failure { code: exit::RESUMABLE, error: anyhow!(error).context("cannot store the account") }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut octets = Vec::new();
    let context = || format!("cannot read {}", path.display());
    if path.as_os_str() == "-" {
        io::stdin().take(MAX_BYTES).read_to_end(&mut octets).with_context(context)?;
    } else {
        let file = File::open(path).with_context(context)?;
        file.take(MAX_BYTES).read_to_end(&mut octets).with_context(context)?;
    }
    Ok(octets)
}

/// Reads a PIN or a code, which a command line would show to every user of the machine.
fn read_pin(path: &Path) -> anyhow::Result<String> {
    let text = String::from_utf8(read(path)?).ok();
    let pin = text.as_deref().map(str::trim).filter(|pin| !pin.is_empty());
    let problem = || anyhow!("no PIN or code in {}: expected a line of digits", path.display());
    pin.map(str::to_owned).ok_or_else(problem)
}

fn confirm(proposal: &BootstrapProposal) -> bool {
    let mut out = io::stdout();
    let asked = write!(out, "{} [yes/no] ", proposal.question().text).and_then(|()| out.flush());
    let mut line = String::new();
    let read = asked.and_then(|()| io::stdin().lock().take(64).read_line(&mut line));
    read.is_ok() && matches!(line.trim(), "y" | "yes")
}
