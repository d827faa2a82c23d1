//! A campaign: its signed documents, broadcast target, windows and state.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use proto::{
    crypto::Digest,
    dm::scomo::Operation,
    ids::{CampaignId, ClassId, ComponentId, PackageId, Tsi, VendorId},
    time::Utc,
    trust::component_class,
};

use super::update_requests::UpdateRequestPolicy;

/// A campaign as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Campaign {
    /// Its id, as signed.
    pub id: CampaignId,
    /// Row version for compare-and-set; 0 before it was stored.
    pub version: u64,
    /// Content of its documents, verified.
    pub terms: SignedTerms,
    /// Its documents, octet for octet.
    pub documents: SignedDocuments,
    /// Image server and channel.
    pub target: BroadcastTarget,
    /// Delivery methods in the order of attempts, with their parameters.
    pub delivery: Delivery,
    /// Span over which devices spread their reports.
    ///
    /// # Units
    ///
    /// Seconds.
    pub report_spread_seconds: u32,
    /// Policy for update requests.
    pub update_requests: UpdateRequestPolicy,
    /// State of the campaign.
    pub state: CampaignState,
    /// The window, once it was started.
    pub window: Option<Window>,
    /// FLUTE session that the image server has prepared.
    pub prepared: Option<PreparedSession>,
    /// Error that blocks the next step, as text.
    pub last_error: Option<String>,
    /// Time of its creation.
    pub created: Utc,
}

/// The parameters that an operator chooses for a campaign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CampaignParameters {
    /// Image server and channel.
    pub target: BroadcastTarget,
    /// Delivery methods.
    pub delivery: Delivery,
    /// Policy for update requests.
    pub update_requests: UpdateRequestPolicy,
}

impl Campaign {
    /// Returns a campaign that is not started.
    #[must_use]
    pub fn new(
        id: CampaignId,
        (terms, documents): (SignedTerms, SignedDocuments),
        parameters: CampaignParameters,
        report_spread_seconds: u32,
        now: Utc,
    ) -> Self {
        let CampaignParameters { target, delivery, update_requests } = parameters;
        Self {
            id,
            version: 0,
            terms,
            documents,
            target,
            delivery,
            report_spread_seconds,
            update_requests,
            state: CampaignState::Created,
            window: None,
            prepared: None,
            last_error: None,
            created: now,
        }
    }

    /// Returns the window and the prepared session when devices can be armed for them at `now`.
    #[must_use]
    pub fn open_broadcast_window(&self, now: Utc) -> Option<(Window, PreparedSession)> {
        let (window, prepared) = (self.window?, self.prepared?);
        let ready = self.state == CampaignState::Running
            && prepared.revision == window.revision
            && now < window.closes;
        ready.then_some((window, prepared))
    }

    /// Returns the window when devices can be served by unicast at `now`; no image server is
    /// needed.
    #[must_use]
    pub fn open_unicast_window(&self, now: Utc) -> Option<Window> {
        let window = self.window?;
        (self.state == CampaignState::Running && now < window.closes).then_some(window)
    }

    /// Returns the campaign running in a new window, which has the next revision.
    #[must_use]
    pub fn started(self, opens: Utc, closes: Utc) -> Self {
        let revision = self.window.map_or(1, |window| window.revision + 1);
        let window = Some(Window { opens, closes, revision });
        Self { window, state: CampaignState::Running, last_error: None, ..self }
    }

    /// Returns the campaign with the FLUTE session that its image server has prepared. When devices
    /// may be armed for another one in this window, its number rises: they are armed again.
    #[must_use]
    pub fn with_session(self, prepared: PreparedSession) -> Self {
        let is_other = self.prepared.is_some_and(|before| {
            [LOST, prepared.revision].contains(&before.revision)
                && (before.source, before.tsi) != (prepared.source, prepared.tsi)
        });
        let campaign = Self { prepared: Some(prepared), last_error: None, ..self };
        if is_other { campaign.renumbered(prepared.revision) } else { campaign }
    }

    /// Returns the campaign whose image server has accepted `open` for a revision of the window.
    #[must_use]
    pub fn opened(self, revision: u32) -> Self {
        let prepared =
            self.prepared.map(|air| PreparedSession { opened: air.revision == revision, ..air });
        Self { prepared, last_error: None, ..self }
    }

    /// Returns the campaign whose image server has lost its session. The session is kept for a stop,
    /// as the image server names it.
    #[must_use]
    pub fn with_lost_session(self, loss: Loss) -> Self {
        let lost = |air: PreparedSession| match loss {
            Loss::NotOpened => PreparedSession { opened: false, ..air },
            Loss::NoSession | Loss::OlderWindow(_) => {
                PreparedSession { revision: LOST, opened: false, ..air }
            }
            Loss::OtherTsi(tsi) => PreparedSession { tsi, revision: LOST, opened: false, ..air },
        };
        let used = self.window.map(|window| window.revision);
        let campaign =
            Self { prepared: self.prepared.map(lost), last_error: Some(loss.to_string()), ..self };
        match (loss, used) {
            // Devices are armed for the TSI before.
            (Loss::OtherTsi(_), Some(used)) => campaign.renumbered(used),
            _ => campaign,
        }
    }

    /// Returns the campaign with the number after `used` for its window.
    #[must_use]
    pub fn renumbered(self, used: u32) -> Self {
        let next = |window: Window| {
            let revision = window.revision.max(used.saturating_add(1));
            Window { revision, ..window }
        };
        Self { window: self.window.map(next), ..self }
    }

    /// Returns the campaign that an operator stops, until its image server has confirmed it.
    #[must_use]
    pub fn stopping(self) -> Self {
        Self { state: CampaignState::Stopping, ..self }
    }

    /// Returns the campaign that its image server has stopped.
    #[must_use]
    pub fn off_air(self, state: CampaignState) -> Self {
        Self { last_error: None, ..self.ended(state) }
    }

    /// Returns the campaign whose window has closed.
    #[must_use]
    pub fn closed(self) -> Self {
        self.ended(CampaignState::Closed)
    }

    fn ended(self, state: CampaignState) -> Self {
        let prepared = self.prepared.map(|air| PreparedSession { opened: false, ..air });
        Self { state, prepared, ..self }
    }

    /// Returns the campaign with the error that blocks its next step.
    #[must_use]
    pub fn delayed(self, error: String) -> Self {
        Self { last_error: Some(error), ..self }
    }

    /// Returns the campaign with another policy for update requests.
    #[must_use]
    pub fn with_update_requests(self, update_requests: UpdateRequestPolicy) -> Self {
        Self { update_requests, ..self }
    }

    /// Returns the method to try after `method` has failed.
    #[must_use]
    pub fn next_method(&self, method: DeliveryMethod) -> Option<DeliveryMethod> {
        let mut methods = self.delivery.methods.iter().skip_while(|it| **it != method);
        methods.nth(1).copied()
    }
}

/// Delivery methods and their parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Methods in the order of attempts; never empty.
    pub methods: Vec<DeliveryMethod>,
    /// Size of the bundle for unicast; 0 without a bundle.
    ///
    /// # Units
    ///
    /// Octets.
    pub bundle_bytes: u64,
    /// Question for the user before anything is sent.
    pub ask_user: Option<String>,
    /// Software component that it installs; firmware otherwise.
    pub software: Option<Software>,
}

/// The software component of a campaign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Software {
    /// Its package.
    pub package: PackageId,
    /// Operation on it: one of the operations of a download.
    pub operation: Operation,
}

impl Delivery {
    /// Returns the class that the manifest names for devices of a class. It differs between
    /// firmware and each component, so neither is installed as the other.
    #[must_use]
    pub fn class_of(&self, device: ClassId) -> ClassId {
        let software = self.software.as_ref();
        software.map_or(device, |software| component_class(device, &software.package))
    }
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            methods: vec![DeliveryMethod::Broadcast],
            bundle_bytes: 0,
            ask_user: None,
            software: None,
        }
    }
}

// spec: oma-000 8.2.3
proto::words! {
    /// A delivery method, in the order of the scenarios of FUMO; its number is read as well.
    #[derive(Default)]
    pub enum DeliveryMethod: "delivery method" {
        /// Scenario 1: inside the DM session, as a large object.
        Direct = "direct" | "1",
        /// Scenario 2: over HTTP, by a download descriptor.
        Download = "download" | "2",
        /// Scenario 3: by broadcast.
        #[default]
        Broadcast = "broadcast" | "3",
    }
}

/// The verified content of the signed documents, as far as this server uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedTerms {
    /// H(payload of the campaign).
    pub digest: Digest,
    /// Epoch within which sequences compare.
    pub epoch: u32,
    /// Sequence of the campaign.
    pub sequence: u64,
    /// Vendor of the devices.
    pub vendor: VendorId,
    /// Classes of the devices.
    pub classes: Vec<ClassId>,
    /// Firmware version after the update.
    pub firmware_version: String,
    /// No window opens before this.
    pub not_before: Utc,
    /// No window closes after this.
    pub latest_stop: Utc,
    /// Addresses that may send.
    pub sources: Vec<IpAddr>,
    /// Size of the broadcast over all components, in octets.
    pub stored_bytes: u64,
    /// Source symbols of the largest block.
    pub largest_block: u32,
}

/// The signed documents that are sent to devices, octet for octet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedDocuments {
    /// Envelope of the campaign.
    pub campaign: Vec<u8>,
    /// Envelope of the manifest.
    pub manifest: Vec<u8>,
    /// Envelopes of the root that vouches for both and of those that lead to it, by version; for
    /// devices that hold an older one.
    pub roots: BTreeMap<u64, Vec<u8>>,
    /// Plan headers, whose hashes the campaign holds.
    pub plan_headers: BTreeMap<ComponentId, Vec<u8>>,
}

/// The image server of a campaign, and the channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BroadcastTarget {
    /// Base URL of its control API.
    pub carousel_url: String,
    /// File that holds its token; the token itself is not stored.
    pub token_file: String,
    /// Multicast group.
    pub group: IpAddr,
    /// UDP port.
    pub port: u16,
}

/// The span in which the carousel is on air.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Opening time.
    pub opens: Utc,
    /// Closing time.
    pub closes: Utc,
    /// Number of this setting of the window, from 1; devices armed for an older one are armed
    /// again.
    pub revision: u32,
}

/// Revision of a session that its image server has lost: that of no window.
const LOST: u32 = 0;

/// A FLUTE session that an image server has prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PreparedSession {
    /// Address of the sender.
    pub source: IpAddr,
    /// Its TSI.
    pub tsi: Tsi,
    /// Revision of the window that it was prepared for; 0 when its image server has lost it.
    pub revision: u32,
    /// Set when the image server has accepted `open` for that revision.
    pub opened: bool,
}

/// The way in which a session was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The image server has no session of the campaign.
    NoSession,
    /// It has another one.
    OtherTsi(Tsi),
    /// It has the session for an older window.
    OlderWindow(u32),
    /// It has the session, and no request has opened it.
    NotOpened,
}

impl fmt::Display for Loss {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the image server has lost the session, which is opened again: ")?;
        match self {
            Self::NoSession => formatter.write_str("it has none of this campaign"),
            Self::OtherTsi(tsi) => write!(formatter, "its TSI is {} there", tsi.0),
            Self::OlderWindow(revision) => {
                write!(formatter, "its window has number {revision} there")
            }
            Self::NotOpened => formatter.write_str("it is not open there"),
        }
    }
}

proto::words! {
    /// The state of a campaign.
    pub enum CampaignState: "campaign state" {
        /// Created, not started.
        Created = "created",
        /// Started: its window is open or will open.
        Running = "running",
        /// Stopped by an operator; the image server has not confirmed it yet.
        Stopping = "stopping",
        /// Stopped by an operator.
        Stopped = "stopped",
        /// The window has closed, or no device needs it any more.
        Closed = "closed",
    }
}

impl SignedDocuments {
    /// Returns the roots, in order, that a device with root `version` needs before the other
    /// documents.
    ///
    /// # Errors
    ///
    /// The version of the first root that is missing.
    pub fn roots_after(&self, version: u64) -> Result<Vec<&[u8]>, u64> {
        let newest = self.roots.last_key_value().map_or(version, |(newest, _)| *newest);
        (version.saturating_add(1)..=newest)
            .map(|version| self.roots.get(&version).map(Vec::as_slice).ok_or(version))
            .collect()
    }
}

#[cfg(test)]
pub(crate) mod samples {
    use super::*;

    /// Returns a started campaign that is on air from second 1,000 to 2,000.
    pub(crate) fn running() -> Campaign {
        Campaign {
            id: CampaignId([7; 16]),
            version: 0,
            terms: SignedTerms {
                digest: Digest([9; 32]),
                epoch: 1,
                sequence: 5,
                vendor: VendorId([1; 16]),
                classes: vec![ClassId([2; 16])],
                firmware_version: "2.0".to_owned(),
                not_before: Utc::from_seconds(500),
                latest_stop: Utc::from_seconds(5_000),
                sources: vec![IpAddr::from([192, 0, 2, 1])],
                stored_bytes: 1 << 20,
                largest_block: 745,
            },
            documents: SignedDocuments {
                campaign: vec![1; 300],
                manifest: vec![2; 300],
                roots: BTreeMap::from([(2, vec![3; 300])]),
                plan_headers: BTreeMap::from([(ComponentId(0), vec![4; 1_088])]),
            },
            target: BroadcastTarget {
                carousel_url: "http://127.0.0.1:9000".to_owned(),
                token_file: "/etc/fumocast/carousel.token".to_owned(),
                group: IpAddr::from([232, 1, 2, 3]),
                port: 3_400,
            },
            delivery: Delivery::default(),
            report_spread_seconds: 60,
            update_requests: UpdateRequestPolicy::Nothing,
            state: CampaignState::Running,
            window: Some(Window {
                opens: Utc::from_seconds(1_000),
                closes: Utc::from_seconds(2_000),
                revision: 1,
            }),
            prepared: Some(PreparedSession {
                source: IpAddr::from([192, 0, 2, 1]),
                tsi: Tsi(77),
                revision: 1,
                opened: true,
            }),
            last_error: None,
            created: Utc::from_seconds(900),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_campaign_arms_devices_until_its_window_closes() {
        let campaign = samples::running();
        assert!(campaign.open_broadcast_window(Utc::from_seconds(0)).is_some());
        assert!(campaign.open_broadcast_window(Utc(1_999_999)).is_some());
        assert!(campaign.open_broadcast_window(Utc::from_seconds(2_000)).is_none());
    }

    #[test]
    fn a_campaign_whose_window_moved_waits_for_the_image_server() {
        let mut campaign = samples::running();
        campaign.window = campaign.window.map(|window| Window { revision: 2, ..window });
        assert!(campaign.open_broadcast_window(Utc::from_seconds(1_500)).is_none());
    }

    #[test]
    fn a_device_receives_the_roots_that_it_lacks_and_never_a_chain_with_a_gap() {
        let mut documents = samples::running().documents;
        documents.roots = [2, 3, 4].map(|version: u8| (version.into(), vec![version])).into();
        assert_eq!(documents.roots_after(4), Ok(vec![]));
        assert_eq!(documents.roots_after(9), Ok(vec![]));
        assert_eq!(documents.roots_after(u64::MAX), Ok(vec![]));
        assert_eq!(documents.roots_after(1), Ok(vec![&[2][..], &[3], &[4]]));
        assert_eq!(documents.roots_after(0), Err(1));
        documents.roots.remove(&3);
        assert_eq!(documents.roots_after(1), Err(3));
        assert_eq!(documents.roots_after(3), Ok(vec![&[4][..]]));
    }

    #[test]
    fn states_are_read_as_they_are_written() {
        for state in CampaignState::ALL {
            assert_eq!(state.as_str().parse::<CampaignState>().unwrap(), state);
        }
    }
}
