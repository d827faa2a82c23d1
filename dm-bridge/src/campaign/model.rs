//! A campaign: what was signed, where it goes on air, when, and how far it is.

use std::{collections::BTreeMap, net::IpAddr, str::FromStr};

use proto::{
    crypto::Digest,
    dm::scomo::Operation,
    ids::{CampaignId, ClassId, ComponentId, PackageId, Tsi, VendorId},
    time::Utc,
    trust::component_class,
    wire::WireError,
};

use super::on_request::OnRequest;

/// A campaign as the bridge keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Campaign {
    /// Its id, as signed.
    pub id: CampaignId,
    /// Row version for compare-and-set; 0 before it was stored.
    pub version: u64,
    /// What its documents say.
    pub terms: Terms,
    /// The documents themselves, octet for octet.
    pub papers: Papers,
    /// The image server and the channel.
    pub place: Place,
    /// Ways to a device, in the order in which they are tried, and what they need.
    pub delivery: Delivery,
    /// Span over which devices spread their reports.
    ///
    /// # Units
    ///
    /// Seconds.
    pub report_spread_seconds: u32,
    /// What a device that asks for an update gets of it.
    pub on_request: OnRequest,
    /// Where it stands.
    pub state: CampaignState,
    /// The window, once it was started.
    pub window: Option<Window>,
    /// What the image server answered to `prepare`.
    pub air: Option<Air>,
    /// What keeps it from going on, in words.
    pub problem: Option<String>,
    /// When it was created here.
    pub created: Utc,
}

impl Campaign {
    /// Returns the window and the session on air when devices can be armed for them at `now`.
    #[must_use]
    pub fn armable(&self, now: Utc) -> Option<(Window, Air)> {
        let (window, air) = (self.window?, self.air?);
        let ready = self.state == CampaignState::Running
            && air.revision == window.revision
            && now < window.closes;
        ready.then_some((window, air))
    }

    /// Returns the window when devices can be served by unicast at `now`; that needs no image
    /// server.
    #[must_use]
    pub fn serves(&self, now: Utc) -> Option<Window> {
        let window = self.window?;
        (self.state == CampaignState::Running && now < window.closes).then_some(window)
    }

    /// Returns the way that comes after `way` for a device that cannot go it.
    #[must_use]
    pub fn way_after(&self, way: Way) -> Option<Way> {
        let mut ways = self.delivery.ways.iter().skip_while(|it| **it != way);
        ways.nth(1).copied()
    }
}

/// Ways to a device, and what they need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The ways, the first first; never empty.
    pub ways: Vec<Way>,
    /// Octets of the bundle that unicast brings; 0 when there is none.
    pub bundle_octets: u64,
    /// What the user is asked before anything is sent, if he is.
    pub ask_user: Option<String>,
    /// The software component that it brings; firmware otherwise.
    pub software: Option<Software>,
}

/// A software component that a campaign brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Software {
    /// Its package.
    pub package: PackageId,
    /// What is done with it: one of the operations of a download.
    pub operation: Operation,
}

impl Delivery {
    /// Returns the class that the manifest names for devices of a class: firmware is never taken
    /// for a component, nor one component for another.
    #[must_use]
    pub fn class_of(&self, device: ClassId) -> ClassId {
        let software = self.software.as_ref();
        software.map_or(device, |software| component_class(device, &software.package))
    }
}

impl Default for Delivery {
    fn default() -> Self {
        Self { ways: vec![Way::Broadcast], bundle_octets: 0, ask_user: None, software: None }
    }
}

// spec: oma-000 8.2.3
/// How a package reaches a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Way {
    /// Scenario 1: inside the DM session, as a large object.
    Direct,
    /// Scenario 2: over HTTP, by a download descriptor.
    Download,
    /// Scenario 3: by broadcast.
    #[default]
    Broadcast,
}

impl Way {
    /// All ways.
    pub const ALL: [Self; 3] = [Self::Direct, Self::Download, Self::Broadcast];

    /// Returns the word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Download => "download",
            Self::Broadcast => "broadcast",
        }
    }

    /// Returns the number of its scenario.
    #[must_use]
    pub const fn scenario(self) -> u8 {
        match self {
            Self::Direct => 1,
            Self::Download => 2,
            Self::Broadcast => 3,
        }
    }
}

impl std::fmt::Display for Way {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.word())
    }
}

impl FromStr for Way {
    type Err = WireError;

    fn from_str(word: &str) -> Result<Self, WireError> {
        Self::ALL
            .into_iter()
            .find(|way| way.word() == word || way.scenario().to_string() == word)
            .ok_or_else(|| WireError::invalid("way", word, "1, 2 or 3"))
    }
}

/// What the signed documents of a campaign say, as far as the bridge acts on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
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
    /// Firmware version that the devices run afterwards.
    pub firmware_version: String,
    /// No window opens before this.
    pub not_before: Utc,
    /// No window closes after this.
    pub latest_stop: Utc,
    /// The addresses that may send.
    pub sources: Vec<IpAddr>,
    /// Octets that the broadcast carries, over all components.
    pub stored_bytes: u64,
    /// Source symbols of the largest block.
    pub largest_block: u32,
}

/// The documents that are written to devices, octet for octet as they were given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Papers {
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

/// The image server that airs a campaign, and the channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Base URL of its control API.
    pub carousel_url: String,
    /// File that holds its token; the token itself is not kept.
    pub token_file: String,
    /// Multicast group.
    pub group: IpAddr,
    /// UDP port.
    pub port: u16,
}

/// The span in which the carousel is on air.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// When it opens.
    pub opens: Utc,
    /// When it closes.
    pub closes: Utc,
    /// Number of this setting of the window, from 1; devices armed for an older one are told.
    pub revision: u32,
}

/// A FLUTE session that an image server has prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Air {
    /// Address that sends.
    pub source: IpAddr,
    /// Its session.
    pub tsi: Tsi,
    /// Revision of the window that it was prepared for.
    pub revision: u32,
    /// Whether it has accepted `open` for that revision.
    pub opened: bool,
}

/// Where a campaign stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CampaignState {
    /// Known, not started.
    Created,
    /// Has a window that lies ahead or is open.
    Running,
    /// An operator has stopped it; the image server has not confirmed that yet.
    Stopping,
    /// Stopped by an operator.
    Stopped,
    /// Its window has closed, or no device needs it any more.
    Closed,
}

impl CampaignState {
    /// All states.
    pub const ALL: [Self; 5] =
        [Self::Created, Self::Running, Self::Stopping, Self::Stopped, Self::Closed];

    /// Returns the word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Closed => "closed",
        }
    }
}

impl FromStr for CampaignState {
    type Err = WireError;

    fn from_str(word: &str) -> Result<Self, WireError> {
        Self::ALL
            .into_iter()
            .find(|state| state.word() == word)
            .ok_or_else(|| WireError::invalid("campaign state", word, "a state of a campaign"))
    }
}

impl Papers {
    /// Returns what a device that holds root `version` must be given before the other documents,
    /// in order.
    ///
    /// # Errors
    ///
    /// The version of the first root that is missing here.
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
            terms: Terms {
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
            papers: Papers {
                campaign: vec![1; 300],
                manifest: vec![2; 300],
                roots: BTreeMap::from([(2, vec![3; 300])]),
                plan_headers: BTreeMap::from([(ComponentId(0), vec![4; 1_088])]),
            },
            place: Place {
                carousel_url: "http://127.0.0.1:9000".to_owned(),
                token_file: "/etc/fumocast/carousel.token".to_owned(),
                group: IpAddr::from([232, 1, 2, 3]),
                port: 3_400,
            },
            delivery: Delivery::default(),
            report_spread_seconds: 60,
            on_request: OnRequest::Nothing,
            state: CampaignState::Running,
            window: Some(Window {
                opens: Utc::from_seconds(1_000),
                closes: Utc::from_seconds(2_000),
                revision: 1,
            }),
            air: Some(Air {
                source: IpAddr::from([192, 0, 2, 1]),
                tsi: Tsi(77),
                revision: 1,
                opened: true,
            }),
            problem: None,
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
        assert!(campaign.armable(Utc::from_seconds(0)).is_some());
        assert!(campaign.armable(Utc(1_999_999)).is_some());
        assert!(campaign.armable(Utc::from_seconds(2_000)).is_none());
    }

    #[test]
    fn a_campaign_whose_window_moved_waits_for_the_image_server() {
        let mut campaign = samples::running();
        campaign.window = campaign.window.map(|window| Window { revision: 2, ..window });
        assert!(campaign.armable(Utc::from_seconds(1_500)).is_none());
    }

    #[test]
    fn a_device_is_given_the_roots_that_it_lacks_and_never_a_chain_with_a_gap() {
        let mut papers = samples::running().papers;
        papers.roots = [2, 3, 4].map(|version: u8| (version.into(), vec![version])).into();
        assert_eq!(papers.roots_after(4), Ok(vec![]));
        assert_eq!(papers.roots_after(9), Ok(vec![]));
        assert_eq!(papers.roots_after(u64::MAX), Ok(vec![]));
        assert_eq!(papers.roots_after(1), Ok(vec![&[2][..], &[3], &[4]]));
        assert_eq!(papers.roots_after(0), Err(1));
        papers.roots.remove(&3);
        assert_eq!(papers.roots_after(1), Err(3));
        assert_eq!(papers.roots_after(3), Ok(vec![&[4][..]]));
    }

    #[test]
    fn states_are_read_as_they_are_written() {
        for state in CampaignState::ALL {
            assert_eq!(state.word().parse::<CampaignState>().unwrap(), state);
        }
    }
}
