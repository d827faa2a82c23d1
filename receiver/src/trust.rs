//! The trust of the device: the root in force, and the history that documents are held against.
//!
//! Nothing older than that history is accepted: no root, no campaign, no manifest, no time.

use std::collections::{BTreeMap, VecDeque};

use proto::{
    crypto::Digest,
    dm::fumo::ResultCode,
    ids::{CampaignId, ClassId},
    time::Utc,
    trust::{Campaign, Manifest, Root, TrustError, Verified},
    wire::WireError,
};
use thiserror::Error;

use crate::{
    store::{
        floors::TrustState,
        journal_state::{AcceptedCampaign, InstalledManifest, JournalState, fixed},
    },
    update::acceptance::{
        Acceptance, AcceptanceHistory, CampaignOffer, DeviceClass, Limits, Refusal, evaluate,
    },
};

/// Campaigns that ended with success and are stored, at most.
const MAX_FINISHED: usize = 64;
/// Classes whose sequences are stored: firmware, and components that were installed by a package.
/// None is ever removed, or an old version could be installed again.
const MAX_CLASSES: usize = 16;

/// Returns the name of the file that holds a root received over DM. Each version has its own, so
/// that the journal always names one that was written whole.
#[must_use]
pub fn root_file(version: u64) -> String {
    format!("{version}.root")
}

/// A reason why the stored root cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RootError {
    /// No root is valid.
    #[error("trust root rejected: {0}")]
    Invalid(#[from] TrustError),
    /// The newest root is missing. An older one would bring back keys that the newest revoked.
    #[error(
        "root {stored}, which the journal names, is missing; the factory root is version {factory}"
    )]
    Lost {
        /// Version that the journal names.
        stored: u64,
        /// Version of the factory root.
        factory: u64,
    },
}

/// The target of an offer, by the list of the installer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OfferTarget {
    /// The firmware.
    Firmware,
    /// A component that is installed, as far as is known.
    Component,
    /// A component that is not installed.
    RemovedComponent,
}

/// The root in force and the history of the device.
#[derive(Debug)]
pub(crate) struct Trust {
    root: Verified<Root>,
    history: DeviceHistory,
    state: TrustState,
}

impl Trust {
    /// Restores the trust of a device, where the journal's state is of another epoch perhaps.
    pub(crate) fn new(
        root: Verified<Root>,
        mut history: DeviceHistory,
        epoch: u32,
        state: TrustState,
    ) -> Self {
        history.change_epoch(epoch, root.epoch);
        Self { root, history, state }
    }

    /// Returns the word for the server where the journal was lost.
    pub(crate) const fn reason(&self) -> Option<&'static str> {
        self.state.reason()
    }

    /// Writes the version of the root and the history into the journal.
    pub(crate) fn write_journal(&self, state: &mut JournalState) {
        state.root_version = self.root.version;
        state.epoch = self.root.epoch;
        state.trust_state = self.state.number();
        self.history.write_journal(state);
    }

    /// Returns the version of the root.
    pub(crate) fn root_version(&self) -> u64 {
        self.root.version
    }

    /// Verifies the envelope of the next root.
    pub(crate) fn successor(&self, envelope: &[u8]) -> Result<Verified<Root>, TrustError> {
        Root::successor(&self.root, envelope)
    }

    /// Replaces the root by its successor.
    pub(crate) fn replace_root(&mut self, root: Verified<Root>) {
        tracing::info!(version = root.version, epoch = root.epoch, "root installed");
        let before = std::mem::replace(&mut self.root, root);
        self.history.change_epoch(before.epoch, self.root.epoch);
    }

    /// Verifies the documents of a campaign under the root in force.
    pub(crate) fn verify(
        &self,
        campaign: &[u8],
        manifest: &[u8],
    ) -> Result<(Verified<Campaign>, Verified<Manifest>), TrustError> {
        Ok((Campaign::verify(&self.root, campaign)?, Manifest::verify(&self.root, manifest)?))
    }

    /// Evaluates an offer for the firmware or the component of a class.
    pub(crate) fn evaluate(
        &self,
        kind: DeviceClass,
        target: OfferTarget,
        limits: &Limits,
        offer: &CampaignOffer<'_>,
    ) -> Result<Acceptance, Refusal> {
        if self.state == TrustState::Lost {
            let detail = "journal and floors were lost: set them by `receiver trust reset`";
            let (result, detail) = (ResultCode::REFUSED, detail.to_owned());
            return Err(Refusal { result, reason: "trust-state-lost", detail });
        }
        let known = &self.history.accepted;
        if !known.contains_key(&kind.class) && known.len() >= MAX_CLASSES {
            let detail = "more components than the device can distinguish".to_owned();
            let result = ResultCode::REFUSED;
            return Err(Refusal { result, reason: "limits", detail });
        }
        let mut history = self.history.of(kind.class);
        match target {
            OfferTarget::Firmware => {}
            OfferTarget::Component => history.finished.clear(),
            // It may be installed again, but no older version.
            OfferTarget::RemovedComponent => {
                history.finished.clear();
                if let Some((sequence, _)) = history.installed.take() {
                    history.floor = history.floor.max(sequence);
                }
            }
        }
        evaluate(&self.root, kind, &history, limits, offer)
    }

    /// Records an accepted campaign of a class; it was made after its `not_before`.
    pub(crate) fn record_accepted(&mut self, class: ClassId, campaign: &Verified<Campaign>) {
        self.history.accepted.insert(class, (campaign.sequence, campaign.digest()));
        if self.state == TrustState::Restored {
            self.state = TrustState::Sound;
        }
        self.raise_clock_floor(campaign.not_before);
    }

    /// Raises the lower bound of the time.
    pub(crate) fn raise_clock_floor(&mut self, time: Utc) {
        self.history.clock_floor = self.history.clock_floor.max(time);
    }

    /// Records the manifest that the installation has confirmed.
    pub(crate) fn record_installed(&mut self, class: ClassId, manifest: &Verified<Manifest>) {
        let floor = self.history.installed.get(&class).map_or(0, |installed| installed.floor);
        let installed = Installed {
            sequence: manifest.sequence,
            floor: floor.max(manifest.floor_after_commit),
            manifest: manifest.digest(),
        };
        self.history.installed.insert(class, installed);
        self.raise_clock_floor(manifest.not_before);
    }

    /// Records a campaign that ended with success.
    pub(crate) fn record_finished(&mut self, id: CampaignId) {
        self.history.record_finished(id);
    }
}

/// Returns the root received last over DM, or the factory root when that is as new.
///
/// # Errors
///
/// [`RootError`] when neither is valid, or the one that the journal names is missing.
pub fn newest_root(
    version: u64,
    factory_root: &[u8],
    files: &BTreeMap<String, Vec<u8>>,
) -> Result<Verified<Root>, RootError> {
    let factory = Root::from_factory(factory_root)?;
    if factory.version >= version {
        return Ok(factory);
    }
    let newest = files.get(&root_file(version));
    newest
        .and_then(|envelope| Root::from_factory(envelope).ok())
        .filter(|root| root.version == version)
        .ok_or(RootError::Lost { stored: version, factory: factory.version })
}

/// The campaigns, manifests and times that the device never falls behind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceHistory {
    /// Sequence and digest of the last campaign accepted, for each class.
    accepted: BTreeMap<ClassId, (u64, Digest)>,
    /// The manifest confirmed last, for each class.
    installed: BTreeMap<ClassId, Installed>,
    /// Campaigns that ended with success, oldest first.
    finished: VecDeque<CampaignId>,
    /// The lower bound of the time.
    clock_floor: Utc,
    /// The floor of every class, as a person has set it.
    general: u64,
}

/// The manifest confirmed last of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Installed {
    /// Sequence of its manifest.
    sequence: u64,
    /// No manifest below this sequence.
    floor: u64,
    /// H(document) of its manifest.
    manifest: Digest,
}

impl DeviceHistory {
    /// Restores the history.
    ///
    /// # Errors
    ///
    /// [`WireError`] that names the field that this program cannot have written.
    pub fn from_journal(state: &JournalState) -> Result<Self, WireError> {
        let mut history = Self::default();
        for entry in &state.accepted {
            let campaign = Digest(fixed(&entry.campaign_sha256)?);
            history.accepted.insert(ClassId(fixed(&entry.class)?), (entry.sequence, campaign));
        }
        for entry in &state.installed {
            let manifest = Digest(fixed(&entry.manifest_sha256)?);
            let installed = Installed { sequence: entry.sequence, floor: entry.floor, manifest };
            history.installed.insert(ClassId(fixed(&entry.class)?), installed);
        }
        for id in &state.finished {
            history.finished.push_back(CampaignId(fixed(id)?));
        }
        history.clock_floor = Utc::from_seconds(state.clock_floor);
        history.general = state.general_floor;
        Ok(history)
    }

    fn write_journal(&self, state: &mut JournalState) {
        state.accepted = self.accepted.iter().map(write_accepted).collect();
        state.installed = self.installed.iter().map(write_installed).collect();
        state.finished = self.finished.iter().map(|id| id.0.to_vec()).collect();
        state.clock_floor = self.clock_floor.seconds();
        state.general_floor = self.general;
    }

    /// Returns the history that the acceptance of a campaign for a class needs.
    #[must_use]
    pub fn of(&self, class: ClassId) -> AcceptanceHistory {
        let installed = self.installed.get(&class);
        let accepted = self.accepted.get(&class).copied();
        let at_least = accepted.filter(|(sequence, _)| *sequence >= self.general);
        // No campaign has this digest: a higher sequence is needed.
        let general = (self.general > 0).then_some((self.general, Digest([0; 32])));
        AcceptanceHistory {
            accepted: at_least.or(general).or(accepted),
            installed: installed.map(|installed| (installed.sequence, installed.manifest)),
            floor: installed.map_or(0, |installed| installed.floor).max(self.general),
            finished: self.finished.iter().copied().collect(),
            clock_floor: self.clock_floor,
        }
    }

    /// Sequences and floors are compared within one epoch: another starts at the beginning, which
    /// helps when somebody has signed the highest number.
    fn change_epoch(&mut self, before: u32, epoch: u32) {
        if before == epoch {
            return;
        }
        // spec: security 2 (epoch)
        self.accepted.clear();
        self.general = 0;
        for installed in self.installed.values_mut() {
            (installed.sequence, installed.floor) = (0, 0);
        }
    }

    fn record_finished(&mut self, id: CampaignId) {
        if !self.finished.contains(&id) {
            self.finished.push_back(id);
        }
        while self.finished.len() > MAX_FINISHED {
            self.finished.pop_front();
        }
    }
}

fn write_accepted((class, (sequence, digest)): (&ClassId, &(u64, Digest))) -> AcceptedCampaign {
    let (class, campaign_sha256) = (class.0.to_vec(), digest.0.to_vec());
    AcceptedCampaign { class, sequence: *sequence, campaign_sha256 }
}

fn write_installed((class, installed): (&ClassId, &Installed)) -> InstalledManifest {
    InstalledManifest {
        class: class.0.to_vec(),
        sequence: installed.sequence,
        floor: installed.floor,
        manifest_sha256: installed.manifest.0.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> DeviceHistory {
        let installed =
            |sequence| Installed { sequence, floor: sequence - 1, manifest: Digest([2; 32]) };
        let firmware = ClassId([2; 16]);
        DeviceHistory {
            accepted: BTreeMap::from([(firmware, (9, Digest([1; 32])))]),
            installed: BTreeMap::from([(firmware, installed(8)), (ClassId([3; 16]), installed(1))]),
            finished: VecDeque::from([CampaignId([8; 16])]),
            clock_floor: Utc::from_seconds(1000),
            general: 7,
        }
    }

    #[test]
    fn a_history_is_read_as_it_was_written_and_no_other_is_accepted() {
        let mut state = JournalState::default();
        full().write_journal(&mut state);
        assert_eq!(DeviceHistory::from_journal(&state), Ok(full()));
        let with = |change: fn(&mut JournalState)| {
            let mut state = state.clone();
            change(&mut state);
            DeviceHistory::from_journal(&state)
        };
        assert!(with(|state| state.finished[0].truncate(15)).is_err());
        assert!(with(|state| state.installed[0].class.push(0)).is_err());
        assert!(with(|state| state.accepted[0].campaign_sha256.clear()).is_err());
    }

    #[test]
    fn a_floor_that_a_person_has_set_is_that_of_every_class() {
        let set = DeviceHistory { general: 20, ..full() };
        for class in [ClassId([2; 16]), ClassId([9; 16])] {
            let history = set.of(class);
            assert_eq!((history.accepted, history.floor), (Some((20, Digest([0; 32]))), 20));
        }
        let mut higher = full();
        higher.accepted.insert(ClassId([2; 16]), (30, Digest([1; 32])));
        assert_eq!(higher.of(ClassId([2; 16])).accepted, Some((30, Digest([1; 32]))));
        higher.change_epoch(1, 2);
        assert_eq!(higher.of(ClassId([9; 16])).accepted, None, "sequences begin again");
        assert_eq!(DeviceHistory::default().of(ClassId([2; 16])).accepted, None);
    }

    #[test]
    fn the_last_64_finished_campaigns_are_remembered() {
        let mut history = DeviceHistory::default();
        for number in 0..=64 {
            history.record_finished(CampaignId([number; 16]));
            history.record_finished(CampaignId([number; 16]));
        }
        assert_eq!(history.finished.len(), 64);
        assert_eq!(history.finished.front(), Some(&CampaignId([1; 16])));
    }
}
