//! The persistent state, as checked types; the journal stores the same as octets.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proto::{
    crypto::{Digest, Hash16},
    dm::{
        descriptor::InstallStatus,
        fumo::{Operation, Phase, ResultCode},
        scomo::Branch,
    },
    ids::{CampaignId, ClassId, ComponentId, Correlator, Sbn},
    time::Utc,
    trust::Root,
    wire::WireError,
};

use super::{ConsentGranted, Download, InstallNotification};
use crate::{
    components::{Announced, ComponentTarget, InventoryConsent},
    store::{
        SlotRun,
        journal_state::{
            AcceptedCampaign, AnnouncedRecord, ArmedRecord, DownloadRecord,
            InstallNotificationRecord, InstalledManifest, JournalState, ObjectProgress,
            PolicySetting, SubjectRecord, TuneInRecord, fixed,
        },
    },
    suspension::{Policy, SuspendReason},
    update::acceptance::AcceptanceHistory,
};

/// Campaigns that ended with success and are stored, at most.
const MAX_FINISHED: usize = 64;

/// The state that survives a power cut.
#[derive(Debug, Clone)]
pub struct PersistentState {
    /// The phase of the operation.
    pub phase: Phase,
    /// Version of the stored root.
    pub root_version: u64,
    /// Epoch of the stored root.
    pub epoch: u32,
    /// Sequence and digest of the last campaign accepted, for each class.
    pub accepted: BTreeMap<ClassId, (u64, Digest)>,
    /// The manifest confirmed last, for each class.
    pub installed: BTreeMap<ClassId, Installed>,
    /// Campaigns that ended with success, oldest first.
    pub finished: VecDeque<CampaignId>,
    /// The campaign that the device is armed with.
    pub armed: Option<ArmedCampaign>,
    /// Correlator of the final alert, from the Exec.
    pub correlator: Option<Correlator>,
    /// The operation that the Exec started.
    pub operation: Operation,
    /// The reasons to suspend reception.
    pub suspended: BTreeSet<SuspendReason>,
    /// The suspend policy.
    pub policy: Policy,
    /// The decode progress of the stored objects, by object key.
    pub progress: BTreeMap<Hash16, DecodeProgress>,
    /// The lower bound of the time.
    pub clock_floor: Utc,
    /// The version that the installer must print.
    pub expected_version: Option<String>,
    /// The boot in which the installer requested a reboot.
    pub reboot_requested_in_boot: Option<String>,
    /// The consent of the user.
    pub consent: ConsentGranted,
    /// The package that is received by unicast.
    pub download: Option<Download>,
    /// Set while the image is stored until the Exec of `Update`.
    pub awaiting_update_exec: bool,
    /// Installation notifications that the download server has not acknowledged.
    pub install_notifications: Vec<InstallNotification>,
    /// The last result.
    pub result: Option<ResultCode>,
    /// The software component that the operation is about; `None` when it is about firmware.
    pub subject: Option<ComponentTarget>,
    /// The components that the server has announced.
    pub announced: Announced,
    /// The user's consent to show the inventory to the server.
    pub inventory_consent: InventoryConsent,
}

impl Default for PersistentState {
    fn default() -> Self {
        Self::new()
    }
}

/// The manifest confirmed last of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Installed {
    /// Sequence of its manifest.
    pub sequence: u64,
    /// No manifest below this sequence.
    pub floor: u64,
    /// H(document) of its manifest.
    pub manifest: Digest,
}

/// The campaign that the device is armed with; the envelopes are in files named by their digests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArmedCampaign {
    /// The campaign.
    pub id: CampaignId,
    /// H(document) of the campaign.
    pub campaign: Digest,
    /// H(document) of the manifest.
    pub manifest: Digest,
    /// The component to receive.
    pub component: ComponentId,
    /// H("fcplan1" ‖ plan header), when the header is stored.
    pub plan_header: Option<Digest>,
}

/// The decode progress of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DecodeProgress {
    /// Blocks that are synced in the image.
    pub blocks: BTreeSet<Sbn>,
    /// Set once the image was read back and its digest matched.
    pub verified: bool,
    /// Slots of the logs that failed and are ignored.
    pub bad: Vec<SlotRun>,
    /// Set once the image was wrong: its blocks are decoded again.
    pub redecoded: bool,
}

impl PersistentState {
    /// Returns the state of a new device.
    #[must_use]
    pub fn new() -> Self {
        Self {
            phase: Phase::Idle,
            root_version: 0,
            epoch: 0,
            accepted: BTreeMap::new(),
            installed: BTreeMap::new(),
            finished: VecDeque::new(),
            armed: None,
            correlator: None,
            operation: Operation::DownloadAndUpdate,
            suspended: BTreeSet::new(),
            policy: Policy::default(),
            progress: BTreeMap::new(),
            clock_floor: Utc::default(),
            expected_version: None,
            reboot_requested_in_boot: None,
            consent: ConsentGranted::Nothing,
            download: None,
            awaiting_update_exec: false,
            install_notifications: Vec::new(),
            result: None,
            subject: None,
            announced: Announced::default(),
            inventory_consent: InventoryConsent::Undecided,
        }
    }

    /// Reads the journal's state.
    ///
    /// # Errors
    ///
    /// [`WireError`] that names the field that this program cannot have written.
    pub fn from_journal(state: &JournalState) -> Result<Self, WireError> {
        let mut persistent = Self::new();
        persistent.phase = state.phase.parse()?;
        persistent.root_version = state.root_version;
        persistent.epoch = state.epoch;
        for entry in &state.accepted {
            let campaign = digest(&entry.campaign_sha256)?;
            persistent.accepted.insert(class(&entry.class)?, (entry.sequence, campaign));
        }
        for entry in &state.installed {
            persistent.installed.insert(class(&entry.class)?, read_installed(entry)?);
        }
        persistent.finished =
            state.finished.iter().map(|id| campaign_id(id)).collect::<Result<_, _>>()?;
        persistent.armed = state.armed.as_ref().map(read_armed).transpose()?;
        persistent.correlator = state.correlator.clone().map(Correlator);
        persistent.operation = state.operation.parse()?;
        persistent.suspended = state
            .suspend_reasons
            .iter()
            .filter_map(|word| word.parse::<SuspendReason>().ok())
            .collect();
        for setting in &state.policy {
            persistent.policy.set(&setting.node, &setting.value)?;
        }
        for object in &state.objects {
            let solved = DecodeProgress {
                blocks: object.done(),
                verified: object.verified,
                bad: object.bad(),
                redecoded: object.redecoded,
            };
            persistent.progress.insert(Hash16(fixed(&object.object_key)?), solved);
        }
        persistent.clock_floor = Utc::from_seconds(state.clock_floor);
        persistent.expected_version.clone_from(&state.expected_version);
        persistent.reboot_requested_in_boot.clone_from(&state.reboot_requested_in_boot);
        persistent.consent = ConsentGranted::from_number(state.consent);
        persistent.download = state.download.as_ref().map(read_download);
        persistent.awaiting_update_exec = state.awaiting_update_exec;
        persistent.install_notifications =
            state.install_notifications.iter().map(read_install_notification).collect();
        persistent.result = state.result.and_then(|code| u16::try_from(code).ok()).map(ResultCode);
        persistent.subject = state.subject.as_ref().map(ComponentTarget::try_from).transpose()?;
        for node in &state.announced {
            read_announced(node, &mut persistent.announced)?;
        }
        persistent.inventory_consent = InventoryConsent::from_number(state.inventory_consent);
        Ok(persistent)
    }

    /// Returns whether the blocks of an object were decoded again already.
    #[must_use]
    pub fn was_redecoded(&self, key: Hash16) -> bool {
        self.progress.get(&key).is_some_and(|solved| solved.redecoded)
    }

    /// Returns the journal's state.
    #[must_use]
    pub fn to_journal(&self, tune_ins: &[TuneInRecord]) -> JournalState {
        JournalState {
            phase: self.phase.as_str().to_owned(),
            root_version: self.root_version,
            epoch: self.epoch,
            accepted: self.accepted.iter().map(write_accepted).collect(),
            finished: self.finished.iter().map(|id| id.0.to_vec()).collect(),
            installed: self.installed.iter().map(write_installed).collect(),
            armed: self.armed.as_ref().map(write_armed),
            tune_ins: tune_ins.to_vec(),
            correlator: self.correlator.as_ref().map(|correlator| correlator.0.clone()),
            operation: self.operation.as_str().to_owned(),
            suspend_reasons: self.suspended.iter().map(ToString::to_string).collect(),
            policy: self.policy.nodes().map(write_policy).into(),
            objects: self.progress.iter().map(write_progress).collect(),
            clock_floor: self.clock_floor.seconds(),
            expected_version: self.expected_version.clone(),
            result: self.result.map(|code| code.0.into()),
            reboot_requested_in_boot: self.reboot_requested_in_boot.clone(),
            consent: self.consent.number(),
            download: self.download.as_ref().map(write_download),
            awaiting_update_exec: self.awaiting_update_exec,
            install_notifications: self
                .install_notifications
                .iter()
                .map(write_install_notification)
                .collect(),
            subject: self.subject.as_ref().map(SubjectRecord::from),
            announced: self.announced.nodes().map(write_announced).collect(),
            inventory_consent: self.inventory_consent.number(),
            ..JournalState::default()
        }
    }

    /// Returns the history that the acceptance of a campaign for a class needs.
    #[must_use]
    pub fn history(&self, class: ClassId) -> AcceptanceHistory {
        let installed = self.installed.get(&class);
        AcceptanceHistory {
            accepted: self.accepted.get(&class).copied(),
            installed: installed.map(|installed| (installed.sequence, installed.manifest)),
            floor: installed.map_or(0, |installed| installed.floor),
            finished: self.finished.iter().copied().collect(),
            clock_floor: self.clock_floor,
        }
    }

    /// Records the root in force. Sequences and floors are compared within its epoch: a new one
    /// starts at the beginning, which helps when somebody has signed the highest number.
    pub fn enter_root(&mut self, root: &Root) {
        self.root_version = root.version;
        if std::mem::replace(&mut self.epoch, root.epoch) == root.epoch {
            return;
        }
        // spec: security 2 (epoch)
        self.accepted.clear();
        for installed in self.installed.values_mut() {
            (installed.sequence, installed.floor) = (0, 0);
        }
    }

    /// Records a campaign that ended with success.
    pub fn remember_finished(&mut self, id: CampaignId) {
        if !self.finished.contains(&id) {
            self.finished.push_back(id);
        }
        while self.finished.len() > MAX_FINISHED {
            self.finished.pop_front();
        }
    }
}

fn read_installed(entry: &InstalledManifest) -> Result<Installed, WireError> {
    let manifest = digest(&entry.manifest_sha256)?;
    Ok(Installed { sequence: entry.sequence, floor: entry.floor, manifest })
}

fn read_armed(pin: &ArmedRecord) -> Result<ArmedCampaign, WireError> {
    let component = pin.component.and_then(|id| u8::try_from(id).ok()).unwrap_or_default();
    Ok(ArmedCampaign {
        id: campaign_id(&pin.campaign_id)?,
        campaign: digest(&pin.campaign_sha256)?,
        manifest: digest(&pin.manifest_sha256)?,
        component: ComponentId(component),
        plan_header: pin.plan_header_sha256.as_deref().map(digest).transpose()?,
    })
}

fn write_armed(pin: &ArmedCampaign) -> ArmedRecord {
    ArmedRecord {
        campaign_id: pin.id.0.to_vec(),
        campaign_sha256: pin.campaign.0.to_vec(),
        manifest_sha256: pin.manifest.0.to_vec(),
        component: Some(pin.component.0.into()),
        plan_header_sha256: pin.plan_header.map(|digest| digest.0.to_vec()),
    }
}

fn write_policy((node, value): (&'static str, String)) -> PolicySetting {
    PolicySetting { node: node.to_owned(), value }
}

fn read_announced(record: &AnnouncedRecord, announced: &mut Announced) -> Result<(), WireError> {
    let invalid = || WireError::invalid("announced node", &record.name, "a node of this program");
    let branch = Branch::ALL.into_iter().find(|branch| branch.path() == record.branch);
    let branch = branch.ok_or_else(invalid)?;
    announced.add(branch, &record.name).map_err(|_| invalid())?;
    for leaf in record.leaves.chunks_exact(2) {
        if let [leaf, text] = leaf {
            announced.write(branch, &record.name, leaf, text).map_err(|_| invalid())?;
        }
    }
    Ok(())
}

fn write_announced(
    (branch, name, leaves): (Branch, &str, &BTreeMap<&'static str, String>),
) -> AnnouncedRecord {
    AnnouncedRecord {
        branch: branch.path().to_owned(),
        name: name.to_owned(),
        leaves: leaves.iter().flat_map(|(leaf, text)| [(*leaf).to_owned(), text.clone()]).collect(),
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

fn write_progress((key, solved): (&Hash16, &DecodeProgress)) -> ObjectProgress {
    let mut progress = ObjectProgress {
        object_key: key.0.to_vec(),
        blocks_done: Vec::new(),
        verified: solved.verified,
        bad_slots: solved.bad.iter().flat_map(|run| [run.first, run.count]).collect(),
        redecoded: solved.redecoded,
    };
    solved.blocks.iter().for_each(|sbn| progress.mark_done(*sbn));
    progress
}

fn read_download(record: &DownloadRecord) -> Download {
    Download {
        url: record.url.clone(),
        object: record.object.clone(),
        notify: record.notify.clone(),
        size: record.size,
        image_offset: record.image_offset,
        fetched: record.fetched,
    }
}

fn write_download(download: &Download) -> DownloadRecord {
    DownloadRecord {
        url: download.url.clone(),
        object: download.object.clone(),
        notify: download.notify.clone(),
        size: download.size,
        image_offset: download.image_offset,
        fetched: download.fetched,
    }
}

fn read_install_notification(record: &InstallNotificationRecord) -> InstallNotification {
    let status = u16::try_from(record.status).unwrap_or(InstallStatus::LOADER_ERROR.0);
    InstallNotification {
        url: record.url.clone(),
        status: InstallStatus(status),
        tries: record.tries,
    }
}

fn write_install_notification(notice: &InstallNotification) -> InstallNotificationRecord {
    let InstallNotification { url, status, tries } = notice;
    InstallNotificationRecord { url: url.clone(), status: status.0.into(), tries: *tries }
}

fn digest(octets: &[u8]) -> Result<Digest, WireError> {
    fixed(octets).map(Digest)
}

fn class(octets: &[u8]) -> Result<ClassId, WireError> {
    fixed(octets).map(ClassId)
}

fn campaign_id(octets: &[u8]) -> Result<CampaignId, WireError> {
    fixed(octets).map(CampaignId)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn firmware() -> ClassId {
        ClassId([2; 16])
    }

    fn installed(sequence: u64) -> Installed {
        Installed { sequence, floor: sequence - 1, manifest: Digest([2; 32]) }
    }

    fn subject() -> ComponentTarget {
        ComponentTarget {
            operation: proto::dm::scomo::Operation::Remove,
            node: "x".to_owned(),
            package: "player".parse().unwrap(),
        }
    }

    #[expect(clippy::too_many_lines, reason = "one value for each field")]
    fn full() -> PersistentState {
        let mut persistent = PersistentState {
            phase: Phase::Receiving,
            root_version: 3,
            epoch: 4,
            accepted: BTreeMap::from([(firmware(), (9, Digest([1; 32])))]),
            installed: BTreeMap::from([
                (firmware(), installed(8)),
                (ClassId([3; 16]), installed(1)),
            ]),
            subject: Some(subject()),
            inventory_consent: InventoryConsent::Given,
            armed: Some(ArmedCampaign {
                id: CampaignId([3; 16]),
                campaign: Digest([4; 32]),
                manifest: Digest([5; 32]),
                component: ComponentId(6),
                plan_header: Some(Digest([7; 32])),
            }),
            correlator: Some(Correlator("c-1".to_owned())),
            operation: Operation::Download,
            suspended: BTreeSet::from([SuspendReason::Battery, SuspendReason::User]),
            policy: Policy { battery_floor: 33, thermal_limit: -7, ..Policy::default() },
            clock_floor: Utc::from_seconds(1000),
            expected_version: Some("2.0".to_owned()),
            reboot_requested_in_boot: Some("boot".to_owned()),
            consent: ConsentGranted::Download,
            download: Some(Download {
                url: "http://x/d".to_owned(),
                object: Some("http://x/o".to_owned()),
                notify: Some("http://x/n".to_owned()),
                size: 3,
                image_offset: 2,
                fetched: 1,
            }),
            awaiting_update_exec: true,
            install_notifications: vec![InstallNotification {
                url: "http://x/n".to_owned(),
                status: InstallStatus::SUCCESS,
                tries: 2,
            }],
            result: Some(ResultCode::MISSED),
            ..PersistentState::new()
        };
        persistent.remember_finished(CampaignId([8; 16]));
        let solved = DecodeProgress {
            blocks: BTreeSet::from([Sbn(0), Sbn(9)]),
            verified: true,
            bad: vec![SlotRun { first: 3, count: 2 }, SlotRun { first: 9, count: 1 }],
            redecoded: true,
        };
        persistent.progress.insert(Hash16([9; 16]), solved);
        persistent.announced.add(Branch::Download, "x").unwrap();
        persistent.announced.write(Branch::Download, "x", "PkgID", "player").unwrap();
        persistent
    }

    #[test]
    fn a_persistent_state_is_read_as_it_was_written() {
        for persistent in [PersistentState::new(), full()] {
            let state = persistent.to_journal(&[]);
            let again = PersistentState::from_journal(&state).unwrap();
            assert_eq!(again.to_journal(&[]), state);
            assert_eq!(format!("{again:?}"), format!("{persistent:?}"));
        }
    }

    #[test]
    fn a_state_that_this_program_cannot_have_written_is_refused() {
        let with = |change: fn(&mut JournalState)| {
            let mut state = full().to_journal(&[]);
            change(&mut state);
            PersistentState::from_journal(&state)
        };
        assert!(with(|_| ()).is_ok());
        assert!(with(|state| state.phase = "asleep".to_owned()).is_err());
        assert!(with(|state| state.operation.clear()).is_err());
        assert!(with(|state| state.finished[0].truncate(15)).is_err());
        assert!(with(|state| state.objects[0].object_key.push(0)).is_err());
        assert!(with(|state| state.installed[0].class.push(0)).is_err());
        assert!(with(|state| state.announced[0].branch.clear()).is_err());
        assert!(with(|state| state.subject.as_mut().unwrap().package.clear()).is_err());
    }

    #[test]
    fn the_last_64_finished_campaigns_are_remembered() {
        let mut persistent = PersistentState::new();
        for number in 0..=64 {
            persistent.remember_finished(CampaignId([number; 16]));
            persistent.remember_finished(CampaignId([number; 16]));
        }
        assert_eq!(persistent.finished.len(), 64);
        assert_eq!(persistent.finished.front(), Some(&CampaignId([1; 16])));
    }
}
