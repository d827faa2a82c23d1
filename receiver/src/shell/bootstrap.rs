//! The account before the agent starts: the stored one, that of the smart card, and that of a
//! pushed bootstrap document.

use std::{fs, io, path::Path};

use proto::{
    crypto::{Digest, sha256},
    dm::{
        bootstrap::{SharedSecrets, card::Confirmation},
        push::concatenation::SmsReassembler,
        ui::{Answer, Prompt},
    },
};
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};

use super::{
    clock::Clock,
    data_dir::{AccountKind, DataDir, read_optional, read_text},
    event_loop::notify,
    notifications::Notifications,
    user::Prompter,
};
use crate::{
    bootstrap::{
        BootstrapError, BootstrapProposal, CardAction, Origin, Profile, card_action, pin_of,
        pin_question,
    },
    config::{Password, Receiver},
    store::StorageError,
    user::{self, MAX_WAIT, PromptPurpose, Question, Reply},
};

/// PINs that the user may try for one document.
const PIN_ATTEMPTS: u32 = 3;
/// Documents that the user is prompted for before the next start.
const MAX_DOCUMENTS: usize = 8;
/// Octets of a document.
pub const MAX_BYTES: u64 = 64 << 10;

/// Error while preparing the account.
#[derive(Debug, Error)]
pub enum AccountError {
    /// The storage failed.
    #[error("cannot store the account")]
    Storage(#[from] StorageError),
    /// The system denies a thread, a socket or a signal.
    #[error("cannot listen for a bootstrap document")]
    System(#[from] io::Error),
}

/// Returns the stored accounts of a data directory, in rising precedence.
///
/// # Errors
///
/// Any error of the read, other than an absent file.
pub fn accounts(data: &Path) -> io::Result<Vec<String>> {
    let mut texts = Vec::new();
    for kind in AccountKind::ALL {
        texts.extend(read_optional(&DataDir::account_file(data, kind))?);
    }
    Ok(texts)
}

/// Stores an account; that of a card beside the other, over which it takes precedence.
///
/// # Errors
///
/// Any error of the write; the account is unchanged then.
pub fn store(directory: &DataDir, proposal: &BootstrapProposal) -> Result<(), StorageError> {
    let kind = if proposal.card.is_some() { AccountKind::Card } else { AccountKind::Given };
    directory.write_account(kind, &proposal.to_toml())
}

/// Compares the card with its stored account, and stores that of a new card, after the user's
/// confirmation if the card requires one.
///
/// # Errors
///
/// Any error of the write.
pub fn sync_smart_card(
    directory: &DataDir,
    settings: &Receiver,
    prompter: &Prompter,
) -> Result<(), StorageError> {
    let Some(path) = &settings.smart_card_image else { return Ok(()) };
    let inserted = match read_card(path) {
        Ok(inserted) => inserted,
        Err(problem) => {
            tracing::warn!(problem, "smart card unreadable; its account is unchanged");
            return Ok(());
        }
    };
    let path = DataDir::account_file(directory.path(), AccountKind::Card);
    let stored = read_text(&path).ok().and_then(|text| Origin::read(&text));
    match card_action(inserted, stored.as_ref()) {
        CardAction::Nothing => Ok(()),
        CardAction::Remove => {
            tracing::info!("smart card removed, account removed");
            directory.remove_account(AccountKind::Card)
        }
        CardAction::Replace(proposal) => {
            if stored.is_some_and(|stored| stored.card != proposal.card) {
                tracing::info!("smart card replaced, account of the former removed");
                directory.remove_account(AccountKind::Card)?;
            }
            // spec: oma-003 6.1.4.1, oma-003 6.1.4.2 (asked if and only if the card says so)
            if proposal.confirmation == Confirmation::Wanted
                && ask(settings, prompter, proposal.question()) != Answer::Yes
            {
                tracing::info!("account of the smart card not confirmed by the user");
                return Ok(());
            }
            let BootstrapProposal { account, .. } = proposal.as_ref();
            tracing::info!(server = account.server_id, "account of the smart card stored");
            store(directory, &proposal)
        }
    }
}

fn read_card(path: &Path) -> Result<Option<BootstrapProposal>, String> {
    let octets = match fs::read(path) {
        Ok(octets) => octets,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let proposal = BootstrapProposal::open(Profile::SmartCard, &octets, &SharedSecrets::default());
    proposal.map(Some).map_err(|error| error.to_string())
}

fn ask(settings: &Receiver, prompter: &Prompter, prompt: Prompt) -> Answer {
    match &settings.user.front {
        user::UserInterface::Absent => Answer::NoUser,
        user::UserInterface::Automatic(policy) => policy.answer(&prompt),
        user::UserInterface::Interactive => {
            let about = PromptPurpose::Account;
            match prompter.prompt(&Question { ticket: 0, about, prompt, wait: MAX_WAIT }) {
                Reply::Answer(answer) => answer,
                Reply::Later => Answer::Cancelled,
            }
        }
    }
}

/// Waits on the notification ports for a bootstrap document, and stores its account; `None` when a
/// signal ended the wait. Prompts the user for the PIN.
///
/// # Errors
///
/// [`AccountError`].
pub fn wait_for_push(
    directory: &DataDir,
    settings: &Receiver,
    prompter: &Prompter,
) -> Result<Option<BootstrapProposal>, AccountError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let pushed = runtime.block_on(pushed(settings, prompter));
    // Do not wait for an open prompt.
    runtime.shutdown_background();
    let Some(proposal) = pushed? else { return Ok(None) };
    store(directory, &proposal)?;
    tracing::info!(server = proposal.account.server_id, "account stored");
    Ok(Some(proposal))
}

async fn pushed(settings: &Receiver, prompter: &Prompter) -> io::Result<Option<BootstrapProposal>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut notifications =
        Notifications::open(settings.notification_udp, settings.notification_http).await?;
    notify(&[sd_notify::NotifyState::Ready]);
    tracing::info!("no account, waiting for a bootstrap document");
    let mut inbox = BootstrapInbox {
        settings: settings.clone(),
        prompter: prompter.clone(),
        asked: Vec::new(),
    };
    let mut parts = SmsReassembler::default();
    loop {
        let octets = tokio::select! {
            octets = notifications.receive() => octets,
            _ = terminate.recv() => return Ok(None),
            _ = interrupt.recv() => return Ok(None),
        };
        let Some(octets) = parts.take(Clock.now().mono, &octets) else { continue };
        let evaluated = tokio::task::spawn_blocking(move || {
            let proposal = inbox.evaluate(&octets);
            (inbox, proposal)
        });
        let (returned, proposal) = tokio::select! {
            evaluated = evaluated => evaluated.map_err(io::Error::other)?,
            _ = terminate.recv() => return Ok(None),
            _ = interrupt.recv() => return Ok(None),
        };
        inbox = returned;
        if proposal.is_some() {
            return Ok(proposal);
        }
    }
}

/// Pushed bootstrap documents, handled one at a time.
struct BootstrapInbox {
    settings: Receiver,
    prompter: Prompter,
    /// Documents that the user was prompted for.
    asked: Vec<Digest>,
}

impl BootstrapInbox {
    fn evaluate(&mut self, octets: &[u8]) -> Option<BootstrapProposal> {
        let document = sha256(&[octets]);
        if BootstrapProposal::wants_pin(octets) {
            if self.asked.contains(&document) || self.asked.len() >= MAX_DOCUMENTS {
                return None;
            }
            self.asked.push(document);
        }
        let network = self.settings.imsi.as_ref().map(Password::reveal).map(str::to_owned);
        let mut secrets = SharedSecrets { network, pin: None };
        let mut attempt = 0;
        loop {
            match BootstrapProposal::open(Profile::of_push(octets), octets, &secrets) {
                Ok(proposal) => return Some(proposal),
                Err(BootstrapError::Missing(_) | BootstrapError::NotProved(_))
                    if BootstrapProposal::wants_pin(octets) && attempt < PIN_ATTEMPTS =>
                {
                    let answer = ask(&self.settings, &self.prompter, pin_question(attempt));
                    secrets = SharedSecrets { pin: Some(pin_of(answer)?), ..secrets };
                    attempt += 1;
                }
                Err(error) => {
                    tracing::debug!(%error, "pushed bootstrap document rejected");
                    return None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
