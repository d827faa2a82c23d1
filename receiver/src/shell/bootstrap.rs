//! The account before the device starts: what is kept of it, the card that brings one, and the push
//! that gives one to a device without.

use std::{fs, io, path::Path};

use proto::{
    crypto::{Digest, sha256},
    dm::{
        bootstrap::{Secrets, card::Confirmation},
        push::parts::Collector,
        ui::{Answer, Prompt},
    },
};
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};

use super::{
    clock::Clock,
    directory::{AccountKind, DataDirectory, read_if_there, read_text},
    notifications::Notifications,
    run::notify,
    user::Front,
};
use crate::{
    bootstrap::{
        BootstrapError, CardStep, Offer, Origin, Profile, card_step, pin_of, pin_question,
    },
    config::{Local, Password},
    symbols::StorageError,
    user::{self, About, MAX_WAIT, Question, Reply},
};

/// Times that the user may try a PIN for one document.
const PIN_ATTEMPTS: u32 = 3;
/// Documents for which the user is asked before the next start.
const MAX_DOCUMENTS: usize = 8;
/// Octets of a document.
pub const MAX_OCTETS: u64 = 64 << 10;

/// Why the account cannot be seen to.
#[derive(Debug, Error)]
pub enum AccountError {
    /// The storage fails.
    #[error("cannot keep the account")]
    Storage(#[from] StorageError),
    /// The system refuses a thread, a socket or a signal.
    #[error("cannot listen for a bootstrap document")]
    System(#[from] io::Error),
}

/// Returns the accounts that a device with this data directory was given, the one that counts last.
///
/// # Errors
///
/// What reading meets, other than an absent file.
pub fn accounts(data: &Path) -> io::Result<Vec<String>> {
    let mut texts = Vec::new();
    for kind in AccountKind::ALL {
        texts.extend(read_if_there(&DataDirectory::account_file(data, kind))?);
    }
    Ok(texts)
}

/// Keeps an account: a card's beside the other, which it goes before.
///
/// # Errors
///
/// What writing meets; the account is as it was then.
pub fn keep(directory: &DataDirectory, offer: &Offer) -> Result<(), StorageError> {
    let kind = if offer.card.is_some() { AccountKind::Card } else { AccountKind::Given };
    directory.write_account(kind, &offer.to_toml())
}

/// Compares the card with the account that is kept of one, and takes what a new card brings, after
/// the user's yes where the card asks for one.
///
/// # Errors
///
/// What writing meets.
pub fn see_to_card(
    directory: &DataDirectory,
    local: &Local,
    front: &Front,
) -> Result<(), StorageError> {
    let Some(path) = &local.card else { return Ok(()) };
    let in_place = match read_card(path) {
        Ok(in_place) => in_place,
        Err(problem) => {
            tracing::warn!(problem, "the card is not read; its account stays as it is");
            return Ok(());
        }
    };
    let kept = DataDirectory::account_file(directory.path(), AccountKind::Card);
    let kept = read_text(&kept).ok().and_then(|text| Origin::read(&text));
    match card_step(in_place, kept.as_ref()) {
        CardStep::Nothing => Ok(()),
        CardStep::Remove => {
            tracing::info!("the card has gone, and its account with it");
            directory.remove_account(AccountKind::Card)
        }
        CardStep::Take(offer) => {
            if kept.is_some_and(|kept| kept.card != offer.card) {
                tracing::info!("the card has changed, and the account of the former goes");
                directory.remove_account(AccountKind::Card)?;
            }
            // spec: oma-003 6.1.4.1, oma-003 6.1.4.2 (asked if and only if the card says so)
            if offer.confirmation == Confirmation::Wanted
                && ask(local, front, offer.question()) != Answer::Yes
            {
                tracing::info!("the user did not agree to the card's account");
                return Ok(());
            }
            let Offer { account, .. } = offer.as_ref();
            tracing::info!(server = account.server_id, "the card's account is taken");
            keep(directory, &offer)
        }
    }
}

fn read_card(path: &Path) -> Result<Option<Offer>, String> {
    let octets = match fs::read(path) {
        Ok(octets) => octets,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let offer = Offer::open(Profile::SmartCard, &octets, &Secrets::default());
    offer.map(Some).map_err(|error| error.to_string())
}

fn ask(local: &Local, front: &Front, prompt: Prompt) -> Answer {
    match &local.user.front {
        user::Front::Absent => Answer::NoUser,
        user::Front::Policy(policy) => policy.answer(&prompt),
        user::Front::Asked => {
            let about = About::Account;
            match front.ask(&Question { ticket: 0, about, prompt, wait: MAX_WAIT }) {
                Reply::Answer(answer) => answer,
                Reply::Later => Answer::Cancelled,
            }
        }
    }
}

/// Waits where notifications are taken for a document that gives the device its account, and keeps
/// that; `None` when the program was told to stop. The user is asked for the PIN.
///
/// # Errors
///
/// [`AccountError`].
pub fn wait_for_push(
    directory: &DataDirectory,
    local: &Local,
    front: &Front,
) -> Result<Option<Offer>, AccountError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let pushed = runtime.block_on(pushed(local, front));
    // A user who is being asked is not waited for.
    runtime.shutdown_background();
    let Some(offer) = pushed? else { return Ok(None) };
    keep(directory, &offer)?;
    tracing::info!(server = offer.account.server_id, "the device was given its account");
    Ok(Some(offer))
}

async fn pushed(local: &Local, front: &Front) -> io::Result<Option<Offer>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut notifications = Notifications::open(local.notify, local.notify_http).await?;
    notify(&[sd_notify::NotifyState::Ready]);
    tracing::info!("the device has no account: it waits for a bootstrap document");
    let mut desk = Desk { local: local.clone(), front: front.clone(), asked: Vec::new() };
    let mut parts = Collector::default();
    loop {
        let octets = tokio::select! {
            octets = notifications.receive() => octets,
            _ = terminate.recv() => return Ok(None),
            _ = interrupt.recv() => return Ok(None),
        };
        let Some(octets) = parts.take(Clock.now().mono, &octets) else { continue };
        let judged = tokio::task::spawn_blocking(move || {
            let offer = desk.judge(&octets);
            (desk, offer)
        });
        let (desk_again, offer) = tokio::select! {
            judged = judged => judged.map_err(io::Error::other)?,
            _ = terminate.recv() => return Ok(None),
            _ = interrupt.recv() => return Ok(None),
        };
        desk = desk_again;
        if offer.is_some() {
            return Ok(offer);
        }
    }
}

/// Judges pushed documents, one at a time.
struct Desk {
    local: Local,
    front: Front,
    /// Documents for which the user was asked in vain.
    asked: Vec<Digest>,
}

impl Desk {
    fn judge(&mut self, octets: &[u8]) -> Option<Offer> {
        let document = sha256(&[octets]);
        if Offer::wants_pin(octets) {
            if self.asked.contains(&document) || self.asked.len() >= MAX_DOCUMENTS {
                return None;
            }
            self.asked.push(document);
        }
        let network = self.local.imsi.as_ref().map(Password::reveal).map(str::to_owned);
        let mut secrets = Secrets { network, pin: None };
        let mut attempt = 0;
        loop {
            match Offer::open(Profile::of_push(octets), octets, &secrets) {
                Ok(offer) => return Some(offer),
                Err(BootstrapError::Missing(_) | BootstrapError::NotProved(_))
                    if Offer::wants_pin(octets) && attempt < PIN_ATTEMPTS =>
                {
                    let answer = ask(&self.local, &self.front, pin_question(attempt));
                    secrets.pin = Some(pin_of(answer)?);
                    attempt += 1;
                }
                Err(error) => {
                    tracing::debug!(%error, "a pushed document is not believed");
                    return None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
