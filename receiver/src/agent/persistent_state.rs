//! The persistent state, as checked types; the journal stores the same as octets.

use proto::{
    crypto::Digest,
    dm::fumo::{Operation, Phase, ResultCode},
    ids::{CampaignId, ComponentId, Correlator},
    wire::WireError,
};

use crate::{
    components::ComponentTarget,
    store::journal_state::{ArmedRecord, JournalState, SubjectRecord, fixed},
};

/// The state that survives a power cut.
#[derive(Debug, Clone)]
pub struct PersistentState {
    /// The phase of the operation.
    pub phase: Phase,
    /// The campaign that the device is armed with.
    pub armed: Option<ArmedCampaign>,
    /// Correlator of the final alert, from the Exec.
    pub correlator: Option<Correlator>,
    /// The operation that the Exec started.
    pub operation: Operation,
    /// Set while the image is stored until the Exec of `Update`.
    pub awaiting_update_exec: bool,
    /// The last result.
    pub result: Option<ResultCode>,
    /// The software component that the operation is about; `None` when it is about firmware.
    pub subject: Option<ComponentTarget>,
}

impl Default for PersistentState {
    fn default() -> Self {
        Self::new()
    }
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

impl PersistentState {
    /// Returns the state of a new device.
    #[must_use]
    pub fn new() -> Self {
        Self {
            phase: Phase::Idle,
            armed: None,
            correlator: None,
            operation: Operation::DownloadAndUpdate,
            awaiting_update_exec: false,
            result: None,
            subject: None,
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
        persistent.armed = state.armed.as_ref().map(read_armed).transpose()?;
        persistent.correlator = state.correlator.clone().map(Correlator);
        persistent.operation = state.operation.parse()?;
        persistent.awaiting_update_exec = state.awaiting_update_exec;
        persistent.result = state.result.and_then(|code| u16::try_from(code).ok()).map(ResultCode);
        persistent.subject = state.subject.as_ref().map(ComponentTarget::try_from).transpose()?;
        Ok(persistent)
    }

    /// Returns the journal's state, without the part of the reception.
    #[must_use]
    pub fn to_journal(&self) -> JournalState {
        JournalState {
            phase: self.phase.as_str().to_owned(),
            armed: self.armed.as_ref().map(write_armed),
            correlator: self.correlator.as_ref().map(|correlator| correlator.0.clone()),
            operation: self.operation.as_str().to_owned(),
            result: self.result.map(|code| code.0.into()),
            awaiting_update_exec: self.awaiting_update_exec,
            subject: self.subject.as_ref().map(SubjectRecord::from),
            ..JournalState::default()
        }
    }
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

fn digest(octets: &[u8]) -> Result<Digest, WireError> {
    fixed(octets).map(Digest)
}

fn campaign_id(octets: &[u8]) -> Result<CampaignId, WireError> {
    fixed(octets).map(CampaignId)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject() -> ComponentTarget {
        ComponentTarget {
            operation: proto::dm::scomo::Operation::Remove,
            node: "x".to_owned(),
            package: "player".parse().unwrap(),
        }
    }

    #[expect(clippy::too_many_lines, reason = "one value for each field")]
    fn full() -> PersistentState {
        PersistentState {
            phase: Phase::Receiving,
            subject: Some(subject()),
            armed: Some(ArmedCampaign {
                id: CampaignId([3; 16]),
                campaign: Digest([4; 32]),
                manifest: Digest([5; 32]),
                component: ComponentId(6),
                plan_header: Some(Digest([7; 32])),
            }),
            correlator: Some(Correlator("c-1".to_owned())),
            operation: Operation::Download,
            awaiting_update_exec: true,
            result: Some(ResultCode::MISSED),
            ..PersistentState::new()
        }
    }

    #[test]
    fn a_persistent_state_is_read_as_it_was_written() {
        for persistent in [PersistentState::new(), full()] {
            let state = persistent.to_journal();
            let again = PersistentState::from_journal(&state).unwrap();
            assert_eq!(again.to_journal(), state);
            assert_eq!(format!("{again:?}"), format!("{persistent:?}"));
        }
    }

    #[test]
    fn a_state_that_this_program_cannot_have_written_is_refused() {
        let with = |change: fn(&mut JournalState)| {
            let mut state = full().to_journal();
            change(&mut state);
            PersistentState::from_journal(&state)
        };
        assert!(with(|_| ()).is_ok());
        assert!(with(|state| state.phase = "asleep".to_owned()).is_err());
        assert!(with(|state| state.operation.clear()).is_err());
        assert!(with(|state| state.subject.as_mut().unwrap().package.clear()).is_err());
    }
}
