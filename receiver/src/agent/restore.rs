//! The start of the agent: restores its state from what the storage holds.

use std::collections::BTreeMap;

use proto::{
    dm::fumo::{Phase, ResultCode},
    time::Now,
    wire::WireError,
};
use thiserror::Error;

use super::{Agent, AgentState, Config, effects::EffectQueue};
use crate::store::commands::StorageCommand;
use crate::update::installer::InstallerCall;
use crate::{
    components::Announced,
    dm::{
        account::AccountState,
        client::{self, DmClient},
        notification::NotificationFilter,
        report::Reports,
        schedule::SessionSchedule,
        update_request::UpdateRequestState,
    },
    flute::reception::Reception,
    rng::SplitMix64,
    store::{Journaler, journal_state::JournalState},
    suspension::Suspension,
    trust::{DeviceHistory, RootError, Trust, newest_root, root_file},
    update::{
        acceptance::Accepted,
        download::Download,
        install::Installer,
        operation::{ArmedCampaign, Update},
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

impl Agent {
    /// Restores the agent from the storage.
    ///
    /// # Errors
    ///
    /// [`StoredStateError`] when there is no valid root or the journal is invalid; nothing on disk
    /// is changed then.
    pub fn new(now: Now, config: Config, stored: StoredState) -> Result<Self, StoredStateError> {
        let mut update = match &stored.state {
            Some(state) => Update::from_journal(state)?,
            None => Update::new(),
        };
        let journal = stored.state.clone().unwrap_or_default();
        let first_nonce = config.first_nonce.clone();
        let account = AccountState::from_journal(config.dm.account.clone(), first_nonce, &journal);
        let history = DeviceHistory::from_journal(&journal)?;
        let root = newest_root(journal.root_version, &stored.factory_root, &stored.files)?;
        let trust = Trust::new(root, history, journal.epoch);
        let mut reception = Reception::from_journal(now, &stored.boot_id, &journal)?;
        let plan_header = update.armed().and_then(ArmedCampaign::plan_header_file);
        if let Some((accepted, envelopes)) = armed_documents(&trust, &update, &stored.files) {
            let plan_header = plan_header.and_then(|name| stored.files.get(&name)).cloned();
            reception.restore_object(accepted.object, plan_header);
            update.restore_documents(accepted, envelopes);
        }
        let client = DmClient::new(config.dm.clone(), client_limits(&config));
        let notifications = {
            let account = &config.dm.account;
            let secret = account.server.as_ref().map(|server| server.secret.clone());
            NotificationFilter::new(account.server_id.clone(), secret)
        };
        let suspension = Suspension::from_journal(&journal, &stored.boot_id)?;
        let installer = Installer::from_journal(stored.boot_id, config.components, &journal);
        let user = config.user.clone();
        let schedule = SessionSchedule::new(now.mono, config.check_in);
        let mut state = AgentState {
            config,
            trust,
            account,
            reports: Reports::from_journal(&journal)?,
            update,
            reception,
            schedule,
            update_request: UpdateRequestState::default(),
            announced: Announced::from_journal(&journal)?,
            suspension,
            installer,
            prompts: Prompts::from_journal(user, &journal),
            download: Download::from_journal(&journal),
            partial_package: PartialPackageStore::recovered(&stored.files),
            rng: SplitMix64::new(stored.seed),
            effects: EffectQueue::new(stored.journaler),
        };
        state.resume(now);
        Ok(Self { client, notifications, state })
    }
}

impl Agent {
    /// Returns the names of the small files that are in use; the others can be removed.
    #[must_use]
    pub fn files(&self) -> Vec<String> {
        let armed = self.state.update.armed().map(ArmedCampaign::files);
        [root_file(self.state.trust.root_version())]
            .into_iter()
            .chain(armed.into_iter().flatten())
            .chain(self.state.partial_package.files())
            .collect()
    }
}

impl AgentState {
    /// Resumes the operation that the journal names; each step may run for the second time.
    fn resume(&mut self, now: Now) {
        self.effects.push(InstallerCall::ReadVersion);
        self.list_components();
        self.send_install_notification(now);
        let lost = self.update.armed().is_some() && !self.update.is_armed();
        if lost {
            tracing::error!("the files of the armed campaign are damaged");
            self.complete(now, Phase::Failed, ResultCode::UNDEFINED);
        }
        match self.reception.layout() {
            // The answer to `ReadVersion` decides; the image stays until then.
            Some(_) if self.phase() == Phase::HandedOver => {}
            Some(_) if self.has_download() => self.resume_download(now),
            Some(layout) => self.effects.push(StorageCommand::Open(layout.clone())),
            // The power may have gone before the object's directory did.
            None if self.has_download() => self.fetch_next(now),
            None if !self.reception.has_data() => {
                self.effects.push(StorageCommand::RemoveOtherObjects(Vec::new()));
            }
            None => {}
        }
    }
}

/// Returns the limits of the DM client. A package received inside a DM session is the largest
/// object that a server sends; in XML it is base64, and takes its share of messages.
fn client_limits(config: &Config) -> client::Limits {
    let limits = client::Limits::default();
    let object_bytes = (config.limits.max_package_bytes / 3 * 4 + 4).max(limits.object_bytes);
    let messages = object_bytes / MIN_PACKAGE_BYTES_PER_MESSAGE;
    let messages = limits.messages.saturating_add(u32::try_from(messages).unwrap_or(u32::MAX));
    client::Limits { object_bytes, messages, ..limits }
}

/// Octets of a package that a message carries, at least.
const MIN_PACKAGE_BYTES_PER_MESSAGE: u64 = 8 * 1024;

/// Verifies the stored envelopes as if they had just been received.
fn armed_documents(
    trust: &Trust,
    update: &Update,
    files: &BTreeMap<String, Vec<u8>>,
) -> Option<(Accepted, [Vec<u8>; 2])> {
    let armed = update.armed()?;
    let envelopes = armed.envelopes(files)?;
    let [campaign, manifest] = envelopes;
    let (campaign, manifest) = trust.verify(campaign, manifest).ok()?;
    Some((armed.accept(campaign, manifest)?, envelopes.map(Clone::clone)))
}
