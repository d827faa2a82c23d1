//! The start of the agent: restores its state from what the storage holds.

use std::collections::BTreeMap;

use proto::{dm::fumo::ResultCode, time::Now, wire::WireError};
use thiserror::Error;

use super::{
    config::Config,
    effects::EffectQueue,
    owners::{DmOwners, Owners},
};
use crate::{
    components::Announced,
    dm::{account::AccountState, client, report::Reports, update_request::UpdateRequestState},
    flute::reception::Reception,
    rng::SplitMix64,
    store::{
        Journaler,
        floors::{Floors, TrustState},
        journal_state::JournalState,
    },
    suspension::Suspension,
    trust::{DeviceHistory, RootError, Trust, newest_root},
    update::{
        acceptance::{Accepted, Refusal},
        download::Download,
        install::Installer,
        operation::{ArmedCampaign, StoredFile, Update},
        partial_package::PartialPackageStore,
    },
    user::prompts::Prompts,
};

/// The content of the storage when the agent starts.
#[derive(Debug)]
pub struct StoredState {
    /// The journal's writer.
    pub journaler: Journaler,
    /// The journal's state; `None` on a new device.
    pub state: Option<JournalState>,
    /// The floors on disk; none where they were lost.
    pub floors: Option<Floors>,
    /// Their origin.
    pub trust_state: TrustState,
    /// Small files by name: envelopes and plan headers.
    pub files: BTreeMap<String, Vec<u8>>,
    /// The envelope of the factory root.
    pub factory_root: Vec<u8>,
    /// Identifies this boot of the machine.
    pub boot_id: String,
    /// A number from the system's generator.
    pub seed: u64,
}

/// A stored state from which the agent cannot start.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StoredStateError {
    /// There is no root to start with.
    #[error(transparent)]
    Root(#[from] RootError),
    /// The journal holds a value that this program cannot have written.
    #[error("invalid journal: {0}")]
    Journal(#[from] WireError),
}

/// Restores the owners; no effect is queued.
///
/// # Errors
///
/// [`StoredStateError`] when there is no valid root or the journal is invalid.
pub(super) fn restore(
    now: Now,
    config: Config,
    stored: StoredState,
) -> Result<Owners, StoredStateError> {
    let mut update = match &stored.state {
        Some(state) => Update::from_journal(state)?,
        None => Update::new(),
    };
    let mut journal = stored.state.unwrap_or_default();
    let known_root = (journal.root_version, journal.epoch);
    if let Some(floors) = &stored.floors {
        floors.raise(&mut journal);
    }
    let has_other_root = (journal.root_version, journal.epoch) != known_root;
    let (account, first_nonce) = (config.dm.account.clone(), config.first_nonce.clone());
    let dm = DmOwners {
        account: AccountState::from_journal(account, first_nonce, &journal),
        reports: Reports::from_journal(&journal)?,
        update_request: UpdateRequestState::default(),
    };
    let history = DeviceHistory::from_journal(&journal)?;
    let root = newest_root(journal.root_version, &stored.factory_root, &stored.files)?;
    let trust = Trust::new(root, history, journal.epoch, stored.trust_state);
    let mut reception = Reception::from_journal(now, &stored.boot_id, &journal)?;
    let plan_header = update.armed().and_then(ArmedCampaign::plan_header_file);
    if let Some((accepted, envelopes)) = armed_documents(&trust, &update, &stored.files) {
        let plan_header = plan_header.and_then(|name| stored.files.get(&name)).cloned();
        reception.restore_object(accepted.object, plan_header);
        update.restore_documents(accepted, envelopes);
    } else if has_other_root && let Some(result) = refusal(&trust, &update, &stored.files) {
        update.restore_revoked(result);
    }
    Ok(Owners {
        dm,
        trust,
        update,
        reception,
        download: Download::from_journal(&journal),
        partial_package: PartialPackageStore::recovered(&stored.files),
        announced: Announced::from_journal(&journal)?,
        suspension: Suspension::from_journal(&journal, &stored.boot_id)?,
        installer: Installer::from_journal(stored.boot_id, config.components, &journal),
        prompts: Prompts::from_journal(config.user.clone(), &journal),
        rng: SplitMix64::new(stored.seed),
        effects: EffectQueue::new(stored.journaler, stored.floors),
        config,
    })
}

/// Returns the limits of the DM client. A package received inside a DM session is the largest
/// object that a server sends; in XML it is base64, and takes its share of messages.
pub(super) fn client_limits(config: &Config) -> client::Limits {
    let limits = client::Limits::default();
    let object_bytes = (config.limits.max_package_bytes / 3 * 4 + 4).max(limits.object_bytes);
    let messages = object_bytes / MIN_PACKAGE_BYTES_PER_MESSAGE;
    let messages = limits.messages.saturating_add(u32::try_from(messages).unwrap_or(u32::MAX));
    client::Limits { object_bytes, messages, ..limits }
}

/// Octets of a package that a message carries, at least.
const MIN_PACKAGE_BYTES_PER_MESSAGE: u64 = 8 * 1024;

/// Returns the result by which the newest root refuses the stored envelopes.
fn refusal(
    trust: &Trust,
    update: &Update,
    files: &BTreeMap<String, Vec<u8>>,
) -> Option<ResultCode> {
    let [(_, campaign), (_, manifest)] = update.armed()?.stored_envelopes(files).next()?;
    let error = trust.verify(campaign, manifest).err()?;
    Some(Refusal::from(error).result)
}

/// Verifies the stored envelopes as if they had just been received. A power cut may leave those of
/// the next campaign beside them.
fn armed_documents<'f>(
    trust: &Trust,
    update: &Update,
    files: &'f BTreeMap<String, Vec<u8>>,
) -> Option<(Accepted, [StoredFile<'f>; 2])> {
    let armed = update.armed()?;
    armed.stored_envelopes(files).find_map(|stored| {
        let [campaign, manifest] = stored.map(|(_, envelope)| envelope);
        let (campaign, manifest) = trust.verify(campaign, manifest).ok()?;
        Some((armed.accept(campaign, manifest)?, stored))
    })
}
