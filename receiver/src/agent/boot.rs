//! The start: from what the storage holds back to where the device was.

use std::collections::BTreeMap;

use proto::{
    dm::fumo::{Phase, ResultCode},
    time::Now,
    trust::{Campaign, Manifest, Root, TrustError, Verified},
    wire::WireError,
};
use thiserror::Error;

use super::{
    Agent, Books, Config, Core, Operation, Output, books::Pinned, download::Fetcher,
    outputs::Outputs, parcel::Parcel, rest::World, sessions::Sessions, users::Users,
};
use crate::{
    acceptance::Accepted,
    chance::Chance,
    dm::{
        client::{self, DmClient},
        notified::Notifications,
    },
    journal_state::JournalState,
    stats::Stats,
    symbols::{Journaler, ObjectLayout},
    tuner::Tuner,
};

/// Returns the name of the file that holds a root that came over DM. Each version has its own, so
/// that the journal always names one that was written whole.
#[must_use]
pub fn root_file(version: u64) -> String {
    format!("{version}.root")
}

/// What the storage holds when the agent starts.
#[derive(Debug)]
pub struct Boot {
    /// The journal's writer.
    pub journaler: Journaler,
    /// The journal's state; `None` on a new device.
    pub state: Option<JournalState>,
    /// Small files by name: envelopes and plan headers.
    pub files: BTreeMap<String, Vec<u8>>,
    /// The envelope of the root that the maker gave.
    pub factory_root: Vec<u8>,
    /// Names this boot of the machine.
    pub boot_id: String,
    /// A number from the system's generator.
    pub seed: u64,
}

/// Why the agent cannot start.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BootError {
    /// No root can be believed.
    #[error("the root is not to be believed: {0}")]
    Root(#[from] TrustError),
    /// The newest root is gone; going on with an older one would bring back keys that it revoked.
    #[error("root {stored}, which the journal names, is gone; the maker's is only {factory}")]
    RootLost {
        /// Version that the journal names.
        stored: u64,
        /// Version of the root that the maker gave.
        factory: u64,
    },
    /// The journal says what this program cannot have written.
    #[error("the journal is not to be understood: {0}")]
    Journal(#[from] WireError),
}

impl Agent {
    /// Goes on from what the storage holds.
    ///
    /// # Errors
    ///
    /// [`BootError`] when there is no root to believe or the journal cannot be understood;
    /// nothing on disk is changed then.
    pub fn new(now: Now, config: Config, boot: Boot) -> Result<Self, BootError> {
        let mut books = match &boot.state {
            Some(state) => Books::from_journal(state)?,
            None => Books::new(),
        };
        books.enter_account(&config.dm.account, &config.first_nonce);
        let root = newest_root(&books, &boot)?;
        books.enter_root(&root);
        let tune_ins = boot.state.as_ref().map(|state| state.tune_ins.as_slice());
        let tuner = Tuner::recovered(now, &boot.boot_id, tune_ins.unwrap_or_default());
        let pin = books.pin.clone();
        let operation = pin.as_ref().and_then(|pin| pinned_operation(&root, pin, &boot.files));
        let client = DmClient::new(config.dm.clone(), client_limits(&config));
        let account = &config.dm.account;
        let notifications = {
            let secret = account.server.as_ref().map(|server| server.secret.clone());
            Notifications::new(account.server_id.clone(), secret)
        };
        let same_boot = boot
            .state
            .as_ref()
            .and_then(|state| state.tune_ins.first())
            .is_some_and(|record| record.boot_id == boot.boot_id);
        let world = World::recovered(&books.suspended, same_boot);
        let mut core = Core {
            config,
            boot_id: boot.boot_id,
            root,
            books,
            operation,
            tuner,
            joined: Vec::new(),
            sessions: Sessions::new(now.mono),
            asked: None,
            world,
            installing: false,
            users: Users::default(),
            fetcher: Fetcher::default(),
            parcel: Parcel::recovered(&boot.files),
            chance: Chance::new(boot.seed),
            firmware_version: None,
            stats: Stats::default(),
            outputs: Outputs::new(boot.journaler),
            heard: false,
            deployed: None,
            has_listed: false,
        };
        core.resume(now);
        Ok(Self { client, notifications, core })
    }
}

impl Agent {
    /// Returns the names of the small files that are relied on; the others can go.
    #[must_use]
    pub fn files(&self) -> Vec<String> {
        let pin = self.core.books.pin.as_ref();
        let pinned = pin.map(|pin| [pin.campaign_file(), pin.manifest_file()]);
        let plan_header = pin.and_then(Pinned::plan_header_file);
        [root_file(self.core.books.root_version)]
            .into_iter()
            .chain(pinned.into_iter().flatten())
            .chain(plan_header)
            .chain(self.core.parcel.files())
            .collect()
    }
}

impl Core {
    /// Goes on where the journal says; each step may be the second time that it is taken.
    fn resume(&mut self, now: Now) {
        self.outputs.work(Output::ReadVersion);
        self.list_components();
        self.send_notice(now);
        let lost = self.books.pin.is_some() && self.operation.is_none();
        if lost {
            tracing::error!("the files of the armed campaign are damaged");
            self.complete(now, Phase::Failed, ResultCode::UNDEFINED);
        }
        match &self.operation {
            // The answer to `ReadVersion` decides; the image stays until then.
            Some(_) if self.phase() == Phase::HandedOver => {}
            Some(_) if self.has_download() => self.resume_download(now),
            Some(operation) => self.outputs.work(Output::Open(operation.layout.clone())),
            // The power may have gone before the object's directory did.
            None if self.has_download() => self.fetch_next(now),
            None if self.books.progress.is_empty() => self.outputs.work(Output::KeepOnly(None)),
            None => {}
        }
    }
}

impl Operation {
    pub(super) fn new(
        accepted: Accepted,
        envelopes: [Vec<u8>; 2],
        layout: ObjectLayout,
        plan_header: Option<Vec<u8>>,
    ) -> Self {
        Self {
            accepted,
            envelopes,
            layout,
            plan_header,
            object: None,
            resumed: 0,
            heard_session: false,
            reserved: 0,
        }
    }
}

impl Pinned {
    /// Files are named by our own digests; a name from the network is never one.
    pub(super) fn campaign_file(&self) -> String {
        file_name(&self.campaign, "campaign")
    }

    pub(super) fn manifest_file(&self) -> String {
        file_name(&self.manifest, "manifest")
    }

    pub(super) fn plan_header_file(&self) -> Option<String> {
        self.plan_header.as_ref().map(|digest| file_name(digest, "plan"))
    }
}

fn file_name(digest: &proto::crypto::Digest, kind: &str) -> String {
    let mut name = digest.to_string();
    name.truncate(16);
    format!("{name}.{kind}")
}

/// The root that came last over DM, or the maker's when that is as new.
fn newest_root(books: &Books, boot: &Boot) -> Result<Verified<Root>, BootError> {
    let factory = Root::from_factory(&boot.factory_root)?;
    if factory.version >= books.root_version {
        return Ok(factory);
    }
    let stored = boot.files.get(&root_file(books.root_version));
    stored
        .and_then(|envelope| Root::from_factory(envelope).ok())
        .filter(|root| root.version == books.root_version)
        .ok_or(BootError::RootLost { stored: books.root_version, factory: factory.version })
}

/// A package that comes inside a DM session is the largest object that a server sends; in XML it is
/// base64, and takes its share of messages.
fn client_limits(config: &Config) -> client::Limits {
    let limits = client::Limits::default();
    let object_bytes = (config.limits.max_package_bytes / 3 * 4 + 4).max(limits.object_bytes);
    let messages = object_bytes / LEAST_PIECE_OF_PACKAGE;
    let messages = limits.messages.saturating_add(u32::try_from(messages).unwrap_or(u32::MAX));
    client::Limits { object_bytes, messages, ..limits }
}

/// What a message brings of a package, at least.
const LEAST_PIECE_OF_PACKAGE: u64 = 8 * 1024;

/// Believes the stored envelopes as if they had just come.
fn pinned_operation(
    root: &Verified<Root>,
    pin: &Pinned,
    files: &BTreeMap<String, Vec<u8>>,
) -> Option<Operation> {
    let envelopes = [files.get(&pin.campaign_file())?, files.get(&pin.manifest_file())?];
    let [campaign, manifest] = envelopes;
    let campaign = Campaign::verify(root, campaign).ok()?;
    let manifest = Manifest::verify(root, manifest).ok()?;
    if campaign.digest() != pin.campaign || manifest.digest() != pin.manifest {
        return None;
    }
    let objects = campaign.planned_objects(&manifest).ok()?;
    let object = objects.into_iter().find(|object| object.component == pin.component)?;
    let layout = ObjectLayout::new(object.object_key, object.stored_sha256, object.oti);
    let plan_header = pin.plan_header_file().and_then(|name| files.get(&name)).cloned();
    let accepted = Accepted { campaign, manifest, object };
    Some(Operation::new(accepted, envelopes.map(Clone::clone), layout, plan_header))
}
