//! The operation in progress: its phase, the campaign that the device is armed with, and its Exec.
//!
//! ```text
//! idle -> armed -> receiving -> assembled -> verified -> handed over -> confirmed | failed
//!              \-> missed    \-> incomplete                                    \-> reported -> idle
//! ```
//!
//! There is one operation at a time, on firmware or on a component. The phase changes here alone;
//! a method that returns `bool` returns whether it has changed, so that the journal is behind.

use std::collections::BTreeMap;

use proto::{
    crypto::{Digest, sha256},
    dm::{
        fumo::{Operation, Phase, ResultCode},
        scomo,
    },
    ids::{CampaignId, ComponentId, Correlator},
    trust::{Campaign, Manifest, Verified},
    wire::WireError,
};

use super::acceptance::Accepted;
use crate::{
    components::ComponentTarget,
    dm::FinalAlert,
    store::journal_state::{ArmedRecord, JournalState, SubjectRecord, fixed},
};

/// The operation in progress, or the last one.
#[derive(Debug)]
pub(crate) struct Update {
    phase: Phase,
    /// The campaign that the device is armed with.
    armed: Option<ArmedCampaign>,
    /// The documents of that campaign; `None` when its files are damaged.
    documents: Option<Documents>,
    /// The operation that the Exec started.
    operation: Operation,
    /// Correlator of the final alert, from the Exec.
    correlator: Option<Correlator>,
    /// The software component that the operation is about; `None` when it is about firmware.
    subject: Option<ComponentTarget>,
    /// Set while the image is stored until the Exec of `Update`.
    awaiting_exec: bool,
    /// The last result.
    result: Option<ResultCode>,
    /// The result of a campaign that was revoked before the journal could say so.
    revoked: Option<ResultCode>,
}

/// The campaign that the device is armed with. Its envelopes are in files whose names begin with
/// the digest of the document: the same document may come again with other signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ArmedCampaign {
    id: CampaignId,
    /// H(document) of the campaign.
    campaign: Digest,
    /// H(document) of the manifest.
    manifest: Digest,
    /// The component to receive.
    component: ComponentId,
    /// H("fcplan1" ‖ plan header), when the header is stored.
    plan_header: Option<Digest>,
}

#[derive(Debug)]
struct Documents {
    accepted: Accepted,
    /// Of the campaign and of the manifest, to verify them again under the next root.
    envelopes: [Vec<u8>; 2],
    /// Their files.
    files: [String; 2],
}

/// Name and content of a small file.
pub(crate) type StoredFile<'f> = (&'f String, &'f Vec<u8>);

/// The Exec that starts an operation.
#[derive(Debug)]
pub(crate) struct Exec {
    /// The operation.
    pub(crate) operation: Operation,
    /// The correlator of its final alert.
    pub(crate) correlator: Option<Correlator>,
    /// The software component; `None` for firmware.
    pub(crate) subject: Option<ComponentTarget>,
}

impl Update {
    /// Returns the state of a new device.
    pub(crate) const fn new() -> Self {
        Self {
            phase: Phase::Idle,
            armed: None,
            documents: None,
            operation: Operation::DownloadAndUpdate,
            correlator: None,
            subject: None,
            awaiting_exec: false,
            result: None,
            revoked: None,
        }
    }

    /// Restores the operation; its documents are those of [`Self::restore_documents`].
    pub(crate) fn from_journal(state: &JournalState) -> Result<Self, WireError> {
        Ok(Self {
            phase: state.phase.parse()?,
            armed: state.armed.as_ref().map(ArmedCampaign::try_from).transpose()?,
            documents: None,
            operation: state.operation.parse()?,
            correlator: state.correlator.clone().map(Correlator),
            subject: state.subject.as_ref().map(ComponentTarget::try_from).transpose()?,
            awaiting_exec: state.awaiting_update_exec,
            result: state.result.and_then(|code| u16::try_from(code).ok()).map(ResultCode),
            revoked: None,
        })
    }

    /// Writes the operation into the journal.
    pub(crate) fn write_journal(&self, state: &mut JournalState) {
        self.phase.as_str().clone_into(&mut state.phase);
        state.armed = self.armed.as_ref().map(ArmedRecord::from);
        self.operation.as_str().clone_into(&mut state.operation);
        state.correlator = self.correlator.as_ref().map(|correlator| correlator.0.clone());
        state.subject = self.subject.as_ref().map(SubjectRecord::from);
        state.awaiting_update_exec = self.awaiting_exec;
        state.result = self.result.map(|code| code.0.into());
    }

    /// Stores the documents of the armed campaign, which were verified again.
    pub(crate) fn restore_documents(&mut self, accepted: Accepted, stored: [StoredFile<'_>; 2]) {
        let (files, envelopes) =
            (stored.map(|(name, _)| name.clone()), stored.map(|(_, it)| it.clone()));
        self.documents = Some(Documents { accepted, envelopes, files });
    }

    /// Records that the armed campaign was revoked by a root that the journal does not know.
    pub(crate) const fn restore_revoked(&mut self, result: ResultCode) {
        self.revoked = Some(result);
    }

    /// Returns the result of an armed campaign that was revoked by a root that the journal did not
    /// know.
    pub(crate) const fn revoked(&self) -> Option<ResultCode> {
        self.revoked
    }

    /// Returns the phase.
    pub(crate) const fn phase(&self) -> Phase {
        self.phase
    }

    /// Returns the last result.
    pub(crate) const fn result(&self) -> Option<ResultCode> {
        self.result
    }

    /// Returns the campaign that the device is armed with.
    pub(crate) const fn armed(&self) -> Option<&ArmedCampaign> {
        self.armed.as_ref()
    }

    /// Returns the verified documents of that campaign.
    pub(crate) fn accepted(&self) -> Option<&Accepted> {
        self.documents.as_ref().map(|documents| &documents.accepted)
    }

    /// Returns the envelopes of campaign and manifest.
    pub(crate) fn envelopes(&self) -> Option<[&[u8]; 2]> {
        self.documents.as_ref().map(|documents| documents.envelopes.each_ref().map(Vec::as_slice))
    }

    /// Returns the files that a restart needs.
    pub(crate) fn files(&self) -> impl Iterator<Item = String> {
        let envelopes = self.documents.iter().flat_map(|documents| documents.files.clone());
        envelopes.chain(self.armed.as_ref().and_then(ArmedCampaign::plan_header_file))
    }

    /// Returns whether the documents of a campaign are held: its object is received or stored.
    pub(crate) const fn is_armed(&self) -> bool {
        self.documents.is_some()
    }

    /// Returns the component that the operation is about.
    pub(crate) const fn subject(&self) -> Option<&ComponentTarget> {
        self.subject.as_ref()
    }

    /// Returns whether the operation concerns the same package and node.
    pub(crate) fn concerns(&self, other: Option<&ComponentTarget>) -> bool {
        match (&self.subject, other) {
            (Some(own), Some(other)) => own.node == other.node && own.package == other.package,
            (own, other) => own.is_none() && other.is_none(),
        }
    }

    /// Returns whether the Exec of the operation had this correlator, or neither had one.
    pub(crate) fn is_of(&self, correlator: Option<&Correlator>) -> bool {
        self.correlator.as_ref() == correlator
    }

    /// Returns whether an Exec with this correlator repeats that of the operation.
    pub(crate) fn is_repeated_by(&self, correlator: Option<&Correlator>) -> bool {
        correlator.is_some() && self.is_of(correlator)
    }

    /// Returns whether the Exec of `Update` has started the operation.
    pub(crate) fn is_update(&self) -> bool {
        self.is_armed() && self.operation == Operation::Update
    }

    /// Returns the version for display; that of a component follows its name.
    pub(crate) fn displayed_version(&self) -> Option<String> {
        let version = &self.accepted()?.manifest.firmware_version;
        Some(match &self.subject {
            Some(subject) => format!("{version} of {}", subject.package),
            None => version.clone(),
        })
    }

    /// Returns whether the image is verified, and not handed over.
    pub(crate) const fn is_verified(&self) -> bool {
        matches!(self.phase, Phase::Verified | Phase::Deferred)
    }

    /// Returns whether the image is stored until the Exec of `Update`.
    pub(crate) const fn awaits_exec(&self) -> bool {
        self.awaiting_exec
    }

    /// Returns whether the stored package may be replaced before its Exec.
    pub(crate) fn is_held(&self) -> bool {
        self.awaiting_exec && self.phase == Phase::Verified
    }

    fn set_phase(&mut self, phase: Phase) -> bool {
        if self.phase == phase {
            return false;
        }
        tracing::info!(%phase, "phase");
        self.phase = phase;
        true
    }

    /// Begins an operation by its Exec.
    pub(crate) fn begin(&mut self, Exec { operation, correlator, subject }: Exec) {
        self.operation = operation;
        self.correlator = correlator;
        self.subject = subject;
        self.result = None;
    }

    /// Begins an operation whose image does not wait for the Exec of `Update`.
    pub(crate) fn begin_at_once(&mut self, exec: Exec) {
        self.begin(exec);
        self.awaiting_exec = false;
    }

    /// Begins an operation with a package that is received before its Exec.
    pub(crate) fn begin_held(&mut self, subject: Option<ComponentTarget>) {
        self.begin(Exec { operation: Operation::Update, correlator: None, subject });
        self.awaiting_exec = true;
    }

    /// Stores the accepted campaign of the operation.
    pub(crate) fn arm(
        &mut self,
        armed: ArmedCampaign,
        accepted: Accepted,
        envelopes: [Vec<u8>; 2],
    ) {
        let files = armed.envelope_files(&envelopes);
        self.armed = Some(armed);
        self.documents = Some(Documents { accepted, envelopes, files });
    }

    /// Waits for the window of the armed campaign.
    pub(crate) fn await_window(&mut self) -> bool {
        self.set_phase(Phase::Armed)
    }

    /// Receives, once a channel is joined.
    pub(crate) fn tune_in(&mut self) -> bool {
        self.phase == Phase::Armed && self.set_phase(Phase::Receiving)
    }

    /// Receives by unicast, or once more.
    pub(crate) fn receive(&mut self) -> bool {
        self.set_phase(Phase::Receiving)
    }

    /// Suspends reception.
    pub(crate) fn suspend(&mut self) -> bool {
        self.phase == Phase::Receiving && self.set_phase(Phase::Suspended)
    }

    /// Resumes reception.
    pub(crate) fn resume(&mut self) -> bool {
        self.phase == Phase::Suspended && self.set_phase(Phase::Receiving)
    }

    /// Holds the whole image, which is to be verified.
    pub(crate) fn assemble(&mut self) -> bool {
        self.set_phase(Phase::Assembled)
    }

    /// Holds the verified image; a deferred one stays deferred.
    pub(crate) fn verify(&mut self) -> bool {
        self.phase != Phase::Deferred && self.set_phase(Phase::Verified)
    }

    /// Defers the installation until the user consents.
    pub(crate) fn defer(&mut self) -> bool {
        self.set_phase(Phase::Deferred)
    }

    /// Hands the image, or a change of a component, to the installer.
    pub(crate) fn hand_over(&mut self) -> bool {
        self.set_phase(Phase::HandedOver)
    }

    /// Returns the result with which the verified image is held until the Exec of `Update`, if it
    /// is; `waits` is set where the policy installs on command and the user has not agreed.
    pub(crate) fn held_result(&self, waits: bool) -> Option<ResultCode> {
        match self.operation {
            Operation::Download => Some(ResultCode::SUCCESS),
            Operation::DownloadAndUpdate if waits => Some(ResultCode::DEFERRED),
            Operation::DownloadAndUpdate | Operation::Update => None,
        }
    }

    /// Holds the verified image until the Exec of `Update`; returns the final alert of the one
    /// before.
    pub(crate) fn hold(&mut self, result: ResultCode) -> FinalAlert {
        let alert = FinalAlert {
            correlator: self.correlator.take(),
            operation: self.operation,
            result,
            campaign: self.armed.as_ref().map(|armed| armed.id),
            subject: self.subject.clone(),
        };
        if result == ResultCode::DEFERRED {
            self.result = Some(result);
        }
        if let Some(own) = &mut self.subject {
            own.operation = scomo::Operation::Install;
        }
        self.operation = Operation::Update;
        self.awaiting_exec = true;
        alert
    }

    /// Releases the held image without an Exec, where the policy had deferred it.
    pub(crate) fn release_deferred(&mut self) -> bool {
        let is_deferred = self.awaiting_exec && self.result == Some(ResultCode::DEFERRED);
        if is_deferred {
            (self.awaiting_exec, self.result) = (false, None);
        }
        is_deferred
    }

    /// Drops the stored package.
    // spec: oma-dm 11.1, oma-000 8.2.4.2.end (50 to 10 by deletion of the package)
    pub(crate) fn drop_package(&mut self) {
        self.documents = None;
        self.subject = None;
        self.armed = None;
        self.awaiting_exec = false;
        self.set_phase(Phase::Idle);
    }

    /// Ends the wait for the Exec of `Update` with its download.
    pub(crate) const fn end_download(&mut self) {
        self.awaiting_exec = false;
    }

    /// Records the result of an Exec that never became an operation.
    pub(crate) fn refuse(&mut self, result: ResultCode) {
        self.result = Some(result);
        self.set_phase(if result.is_success() { Phase::Idle } else { Phase::Refused });
    }

    /// Records that the server has all results.
    pub(crate) fn acknowledge(&mut self) {
        self.set_phase(Phase::Idle);
    }

    /// Returns a final alert about the armed campaign, for an Exec that ends at once.
    pub(crate) fn alert(&self, exec: Exec, result: ResultCode) -> FinalAlert {
        let Exec { operation, correlator, subject } = exec;
        let campaign = self.armed.as_ref().map(|armed| armed.id);
        FinalAlert { correlator, operation, result, campaign, subject }
    }

    /// Ends the operation with a result; returns its final alert.
    pub(crate) fn end(&mut self, phase: Phase, result: ResultCode) -> FinalAlert {
        let correlator = self.correlator.take();
        let subject = self.subject.take();
        let alert = self.alert(Exec { operation: self.operation, correlator, subject }, result);
        self.result = Some(result);
        self.armed = None;
        self.documents = None;
        self.set_phase(phase);
        alert
    }
}

impl ArmedCampaign {
    /// Returns the names of an accepted campaign.
    pub(crate) fn new(accepted: &Accepted, plan_header: Option<Digest>) -> Self {
        Self {
            id: accepted.campaign.id,
            campaign: accepted.campaign.digest(),
            manifest: accepted.manifest.digest(),
            component: accepted.object.component,
            plan_header,
        }
    }

    /// Returns the identifier of the campaign.
    pub(crate) const fn id(&self) -> CampaignId {
        self.id
    }

    /// Returns whether it is this campaign.
    pub(crate) fn is(&self, campaign: &Verified<Campaign>) -> bool {
        self.campaign == campaign.digest()
    }

    /// Returns the accepted campaign, when the documents are those that were armed.
    pub(crate) fn accept(
        &self,
        campaign: Verified<Campaign>,
        manifest: Verified<Manifest>,
    ) -> Option<Accepted> {
        if !self.is(&campaign) || manifest.digest() != self.manifest {
            return None;
        }
        let objects = campaign.planned_objects(&manifest).ok()?;
        let object = objects.into_iter().find(|object| object.component == self.component)?;
        Some(Accepted { campaign, manifest, object })
    }

    /// Returns the files of the envelopes of campaign and manifest. Files are named by our own
    /// digests; a name from the network is never one.
    pub(crate) fn envelope_files(&self, [campaign, manifest]: &[Vec<u8>; 2]) -> [String; 2] {
        let name = |document, envelope: &[u8], kind| {
            format!("{}.{}.{kind}", front(document, 16), front(&sha256(&[envelope]), 8))
        };
        [
            name(&self.campaign, campaign, CAMPAIGN_FILE),
            name(&self.manifest, manifest, MANIFEST_FILE),
        ]
    }

    /// Returns the file of the plan header, when that is stored.
    pub(crate) fn plan_header_file(&self) -> Option<String> {
        self.plan_header.as_ref().map(|digest| format!("{}.plan", front(digest, 16)))
    }

    /// Returns the stored files that may hold the envelopes of campaign and manifest, with their
    /// content: one document may have been stored with several sets of signatures.
    pub(crate) fn stored_envelopes<'f>(
        &self,
        files: &'f BTreeMap<String, Vec<u8>>,
    ) -> impl Iterator<Item = [StoredFile<'f>; 2]> {
        let stored = move |document, kind: &'static str| {
            let begin = format!("{}.", front(document, 16));
            files.iter().filter(move |(name, _)| name.starts_with(&begin) && name.ends_with(kind))
        };
        let manifests: Vec<_> = stored(&self.manifest, MANIFEST_FILE).collect();
        stored(&self.campaign, CAMPAIGN_FILE)
            .flat_map(move |campaign| manifests.clone().into_iter().map(move |it| [campaign, it]))
    }
}

/// Ends of the names of the files of envelopes.
const CAMPAIGN_FILE: &str = "campaign";
const MANIFEST_FILE: &str = "manifest";

/// Returns the first hex digits of a digest.
fn front(digest: &Digest, digits: usize) -> String {
    let mut text = digest.to_string();
    text.truncate(digits);
    text
}

impl TryFrom<&ArmedRecord> for ArmedCampaign {
    type Error = WireError;

    fn try_from(record: &ArmedRecord) -> Result<Self, WireError> {
        let component = record.component.and_then(|id| u8::try_from(id).ok()).unwrap_or_default();
        let plan_header = record.plan_header_sha256.as_deref().map(fixed).transpose()?;
        Ok(Self {
            id: CampaignId(fixed(&record.campaign_id)?),
            campaign: Digest(fixed(&record.campaign_sha256)?),
            manifest: Digest(fixed(&record.manifest_sha256)?),
            component: ComponentId(component),
            plan_header: plan_header.map(Digest),
        })
    }
}

impl From<&ArmedCampaign> for ArmedRecord {
    fn from(armed: &ArmedCampaign) -> Self {
        Self {
            campaign_id: armed.id.0.to_vec(),
            campaign_sha256: armed.campaign.0.to_vec(),
            manifest_sha256: armed.manifest.0.to_vec(),
            component: Some(armed.component.0.into()),
            plan_header_sha256: armed.plan_header.map(|digest| digest.0.to_vec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(update: &Update) -> JournalState {
        let mut state = JournalState::default();
        update.write_journal(&mut state);
        state
    }

    fn full() -> Update {
        Update {
            phase: Phase::Receiving,
            armed: Some(ArmedCampaign {
                id: CampaignId([3; 16]),
                campaign: Digest([4; 32]),
                manifest: Digest([5; 32]),
                component: ComponentId(6),
                plan_header: Some(Digest([7; 32])),
            }),
            documents: None,
            operation: Operation::Download,
            correlator: Some(Correlator("c-1".to_owned())),
            subject: Some(ComponentTarget {
                operation: scomo::Operation::Remove,
                node: "x".to_owned(),
                package: "player".parse().unwrap(),
            }),
            awaiting_exec: true,
            result: Some(ResultCode::MISSED),
            revoked: None,
        }
    }

    #[test]
    fn an_operation_is_read_as_it_was_written() {
        for update in [Update::new(), full()] {
            let again = Update::from_journal(&journal(&update)).unwrap();
            assert_eq!(format!("{again:?}"), format!("{update:?}"));
        }
    }

    #[test]
    fn a_state_that_this_program_cannot_have_written_is_refused() {
        let with = |change: fn(&mut JournalState)| {
            let mut state = journal(&full());
            change(&mut state);
            Update::from_journal(&state)
        };
        assert!(with(|_| ()).is_ok());
        assert!(with(|state| state.phase = "asleep".to_owned()).is_err());
        assert!(with(|state| state.operation.clear()).is_err());
        assert!(with(|state| state.armed.as_mut().unwrap().campaign_id.clear()).is_err());
        assert!(with(|state| state.subject.as_mut().unwrap().package.clear()).is_err());
    }
}
