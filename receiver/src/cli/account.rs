//! `receiver bootstrap`: the account from a document; and what `run` does about it before it starts.

use std::{
    fs::File,
    io::{self, BufRead as _, Read as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow};
use clap::Args;
use proto::dm::bootstrap::{Secrets, card::Confirmation};
use serde_json::json;

use super::{ConfigArgs, Failure, exit, start_code};
use crate::{
    bootstrap::{BootstrapError, Offer, Profile},
    config::{ConfigError, Local, Password},
    shell::{
        bootstrap::{self, AccountError, MAX_OCTETS},
        directory::{AccountKind, DataDirectory},
        run::StartError,
        user::Front,
    },
};

#[derive(Debug, Args)]
pub(super) struct BootstrapArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The document; `-` is standard input.
    #[arg(required_unless_present = "no_card")]
    document: Option<PathBuf>,
    /// What it is: cp, dm, factory or smart-card [default: cp or dm, as it looks].
    #[arg(long, value_name = "PROFILE")]
    profile: Option<Profile>,
    /// The PIN that its proof was made with.
    #[arg(long, value_name = "DIGITS")]
    pin: Option<String>,
    /// The subscriber's number that its proof was made with: goes before `local.imsi`.
    #[arg(long, value_name = "DIGITS")]
    imsi: Option<String>,
    /// Do not ask for what a card wants confirmed.
    #[arg(long)]
    yes: bool,
    /// Forget the account of the card.
    #[arg(long, conflicts_with = "document")]
    no_card: bool,
    /// Answer with one JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &BootstrapArgs) -> Result<u8, Failure> {
    let local = arguments.config.local()?;
    let directory = open(&local)?;
    let before = current(&arguments.config);
    let Some(document) = &arguments.document else {
        directory.remove_account(AccountKind::Card).map_err(storage)?;
        return Ok(tell(arguments, None, before.as_deref()));
    };
    let octets = read(document).map_err(|error| Failure { code: exit::NOT_FOUND, error })?;
    let configured = local.imsi.as_ref().map(Password::reveal).map(str::to_owned);
    let network = arguments.imsi.clone().or(configured);
    let secrets = Secrets { network, pin: arguments.pin.clone() };
    let profile = arguments.profile.unwrap_or_else(|| Profile::of_push(&octets));
    let offer = Offer::open(profile, &octets, &secrets).map_err(refused)?;
    let asks = offer.confirmation == Confirmation::Wanted && !arguments.yes;
    if asks && !agrees(&offer) {
        let error = anyhow!("nothing is changed without your yes");
        return Err(Failure { code: exit::POLICY, error });
    }
    bootstrap::keep(&directory, &offer).map_err(storage)?;
    Ok(tell(arguments, Some(&offer), before.as_deref()))
}

// spec: oma-003 6.1.4.3 (the device goes to the server of the card by itself)
/// Sees to the account before the device starts; `None` when it was told to stop while it waited.
pub(super) fn prepare(config: &ConfigArgs) -> Result<Option<Front>, Failure> {
    let local = match config.local() {
        Ok(local) => local,
        // The whole configuration says better what is missing.
        Err(failure) => return Err(config.load().err().unwrap_or(failure)),
    };
    let front = Front::open(&local);
    if local.card.is_some() {
        bootstrap::see_to_card(&open(&local)?, &local, &front).map_err(storage)?;
    }
    let without = |error: &anyhow::Error| {
        let error = error.downcast_ref::<ConfigError>();
        matches!(error, Some(ConfigError::Missing { field: "server.url", .. }))
    };
    let waits = local.notify.or(local.notify_http).is_some()
        && config.read().err().as_ref().is_some_and(without);
    if !waits {
        return Ok(Some(front));
    }
    let given = bootstrap::wait_for_push(&open(&local)?, &local, &front);
    match given {
        Ok(given) => Ok(given.map(|_| front)),
        Err(error @ AccountError::Storage(_)) => {
            Err(Failure { code: exit::RESUMABLE, error: error.into() })
        }
        Err(error @ AccountError::System(_)) => {
            Err(Failure { code: exit::CONFIGURATION, error: error.into() })
        }
    }
}

pub(super) fn open(local: &Local) -> Result<DataDirectory, Failure> {
    DataDirectory::open(&local.data).map_err(|error| {
        let error = StartError::Data(error);
        Failure { code: start_code(&error), error: error.into() }
    })
}

/// The server that the device has, as `ID at URL`.
fn current(config: &ConfigArgs) -> Option<String> {
    let server = config.read().ok()?.server;
    Some(format!("{} at {}", server.server_id, server.url))
}

fn tell(arguments: &BootstrapArgs, offer: Option<&Offer>, before: Option<&str>) -> u8 {
    let now = current(&arguments.config);
    if arguments.json {
        let answer = json!({
            "account": now,
            "before": before,
            "profile": offer.map(|offer| offer.profile.as_str()),
            "auth": offer.map(|offer| offer.account.auth.as_str()),
        });
        println!("{answer}");
        return exit::DONE;
    }
    println!("account   {}", now.as_deref().unwrap_or("-"));
    println!("before    {}", before.unwrap_or("-"));
    if now.is_none() {
        println!("The configuration is not whole yet: `receiver run` says what is missing.");
    }
    exit::DONE
}

fn refused(error: BootstrapError) -> Failure {
    let code = match error {
        BootstrapError::NotProved(_) | BootstrapError::UnknownProof => exit::REFUSED_SIGNATURE,
        BootstrapError::Missing(_) => exit::USAGE,
        BootstrapError::Unreadable { .. } | BootstrapError::Unusable(_) => exit::CONFIGURATION,
    };
    let hint = match error {
        BootstrapError::Missing("the PIN") => "give it by --pin",
        BootstrapError::Missing(_) => "give it by --imsi or `local.imsi`",
        BootstrapError::Unreadable { profile: Profile::Cp | Profile::Dm, .. } => {
            "is it another --profile? Nothing is changed"
        }
        BootstrapError::NotProved(_)
        | BootstrapError::UnknownProof
        | BootstrapError::Unreadable { .. }
        | BootstrapError::Unusable(_) => "nothing is changed",
    };
    Failure { code, error: anyhow!("{error}; {hint}") }
}

fn storage(error: crate::symbols::StorageError) -> Failure {
    Failure { code: exit::RESUMABLE, error: anyhow!(error).context("cannot keep the account") }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut octets = Vec::new();
    let context = || format!("cannot read {}", path.display());
    if path.as_os_str() == "-" {
        io::stdin().take(MAX_OCTETS).read_to_end(&mut octets).with_context(context)?;
    } else {
        let file = File::open(path).with_context(context)?;
        file.take(MAX_OCTETS).read_to_end(&mut octets).with_context(context)?;
    }
    Ok(octets)
}

fn agrees(offer: &Offer) -> bool {
    let mut out = io::stdout();
    let asked = write!(out, "{} [yes/no] ", offer.question().text).and_then(|()| out.flush());
    let mut line = String::new();
    let read = asked.and_then(|()| io::stdin().lock().take(64).read_line(&mut line));
    read.is_ok() && matches!(line.trim(), "y" | "yes")
}
