//! The tables of a case. Defaults are those of an honest maker.

use serde::Deserialize;

/// One attack.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// The attempt, and its expected result.
    pub(crate) about: String,
    /// The section of the rule.
    pub(crate) rule: String,
    /// The root that the device was made with.
    #[serde(default)]
    pub(crate) factory: RootChange,
    pub(crate) device: Option<Device>,
    /// Result of making the device, where that is the attack.
    pub(crate) init: Option<toml::Table>,
    pub(crate) step: Vec<Step>,
}

/// Identity of the device.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Device {
    pub(crate) vendor: String,
    pub(crate) class: String,
}

impl Default for Device {
    fn default() -> Self {
        Self { vendor: "01".repeat(16), class: "02".repeat(16) }
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Offer {
    Root,
    Campaign,
    Packets,
    State,
}

/// One process.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    pub(crate) offer: Offer,
    /// The device's clock, in UTC seconds.
    pub(crate) now: Option<u64>,
    #[serde(default)]
    pub(crate) root: RootChange,
    #[serde(default)]
    pub(crate) manifest: ManifestChange,
    #[serde(default)]
    pub(crate) campaign: CampaignChange,
    #[serde(default)]
    pub(crate) tune_in: TuneInChange,
    /// Documents that are not offered: `manifest`, `campaign`.
    #[serde(default)]
    pub(crate) without: Vec<String>,
    /// Plan header that comes with the documents; `forged`: another than the pinned one.
    pub(crate) plan: Option<String>,
    #[serde(default)]
    pub(crate) packets: Vec<Packets>,
    /// Expected fields of the answer, `exit` included.
    pub(crate) expect: toml::Table,
}

/// Change of an envelope.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Envelope {
    /// Names of the keys that sign, each as often as it stands there.
    pub(crate) by: Option<Vec<String>>,
    /// The key id that all signatures claim.
    pub(crate) key_id: Option<String>,
    /// The type that is written, and signed.
    pub(crate) kind: Option<String>,
    /// The type that is signed, where another is written.
    pub(crate) signed_kind: Option<String>,
    /// Octets that follow, in hex.
    pub(crate) trailing: Option<String>,
    /// Octets that follow the document, signed with it, in hex.
    pub(crate) appended: Option<String>,
    /// The document's octet that is changed after it was signed.
    pub(crate) flip: Option<usize>,
    /// The length to which the envelope is cut.
    pub(crate) cut: Option<usize>,
    /// Octets of a signature; 64 is right.
    pub(crate) signature_length: Option<usize>,
    /// Instead of the envelope, in hex.
    pub(crate) raw: Option<String>,
}

/// Changes of a root.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RootChange {
    pub(crate) version: Option<u64>,
    pub(crate) epoch: Option<u32>,
    pub(crate) floor: Option<u64>,
    pub(crate) expires: Option<u64>,
    pub(crate) keys: Option<Vec<String>>,
    pub(crate) threshold: Option<u32>,
    pub(crate) release: Option<Vec<String>>,
    pub(crate) release_threshold: Option<u32>,
    pub(crate) campaign: Option<Vec<String>>,
    pub(crate) campaign_threshold: Option<u32>,
    pub(crate) envelope: Envelope,
}

/// Changes of a manifest.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ManifestChange {
    pub(crate) sequence: Option<u64>,
    pub(crate) floor: Option<u64>,
    pub(crate) vendor: Option<String>,
    pub(crate) classes: Option<Vec<String>>,
    pub(crate) firmware: Option<String>,
    pub(crate) not_before: Option<u64>,
    pub(crate) expires: Option<u64>,
    pub(crate) root_version: Option<u64>,
    pub(crate) epoch: Option<u32>,
    /// Octets more than the image has.
    pub(crate) longer: Option<i64>,
    /// Another digest than the image's.
    pub(crate) other_digest: bool,
    pub(crate) zstd: bool,
    /// The component's number.
    pub(crate) component: Option<u8>,
    pub(crate) envelope: Envelope,
}

/// Changes of a campaign.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CampaignChange {
    pub(crate) id: Option<String>,
    pub(crate) sequence: Option<u64>,
    /// Another manifest than the one that is offered.
    pub(crate) other_manifest: bool,
    pub(crate) other_plan: bool,
    pub(crate) component: Option<u8>,
    pub(crate) symbol_size: Option<u16>,
    pub(crate) blocks: Option<u8>,
    pub(crate) alignment: Option<u8>,
    pub(crate) repair: Option<u32>,
    /// The object twice.
    pub(crate) twice: bool,
    pub(crate) not_before: Option<u64>,
    pub(crate) latest_stop: Option<u64>,
    pub(crate) expires: Option<u64>,
    pub(crate) sources: Option<Vec<std::net::IpAddr>>,
    pub(crate) epoch: Option<u32>,
    pub(crate) envelope: Envelope,
}

/// Changes of the tune-in URL.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TuneInChange {
    /// Instead of the URL.
    pub(crate) url: Option<String>,
    pub(crate) source: Option<std::net::IpAddr>,
    pub(crate) campaign: Option<String>,
    pub(crate) other_digest: bool,
    pub(crate) component: Option<u8>,
    pub(crate) opens: Option<u64>,
    pub(crate) closes: Option<u64>,
}

/// Packets that go on the air, in this order.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Packets {
    /// `pass`: all; `header`, `tables`, `data`: some of them.
    pub(crate) send: String,
    /// Of another broadcast than the honest one.
    pub(crate) other: bool,
    /// The last first.
    pub(crate) backwards: bool,
    pub(crate) skip: usize,
    pub(crate) take: Option<usize>,
    pub(crate) times: Option<usize>,
    /// Forged packets beside each true one; the true ones are not sent where it is negative.
    pub(crate) forged: i32,
    pub(crate) source: Option<std::net::Ipv4Addr>,
    pub(crate) group: Option<std::net::Ipv4Addr>,
    pub(crate) port: Option<u16>,
    /// Another TSI in the header.
    pub(crate) other_session: bool,
    /// Octet that is changed, from the end where it is negative.
    pub(crate) flip: Option<i64>,
    /// Octets that are added, or taken away at the end.
    pub(crate) longer: i64,
    /// Each packet carries the symbol of the one before.
    pub(crate) swapped: bool,
    /// EXT_FTI with parameters of its own.
    pub(crate) parameters: Option<String>,
    /// The flags that end session and object.
    pub(crate) closing: bool,
    /// Under another TOI.
    pub(crate) toi: Option<u128>,
    /// In place of each packet a file delivery table that gives the object this name.
    pub(crate) table_of: Option<String>,
    /// EXT_CENC with this algorithm.
    pub(crate) encoded: Option<u8>,
    /// The length that the header claims, in words of 4 octets.
    pub(crate) header_words: Option<u8>,
    /// The length that the first extension claims, in words of 4 octets.
    pub(crate) extension_words: Option<u8>,
}
