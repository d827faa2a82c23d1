//! The content of the journal: the persistent state of the device except symbols.
//!
//! The octets around it are those of [`crate::store::journal`]. Fields are protobuf, so a later
//! program reads an earlier journal; a number is never used twice.

use std::collections::BTreeSet;

use prost::Message;
use proto::{ids::Sbn, wire::WireError};

use crate::store::SlotRun;

/// The state of the device.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct JournalState {
    /// Phase of the operation, as its word (`idle`, `armed`, …).
    #[prost(string, tag = "1")]
    pub phase: String,
    /// Version of the newest root that was accepted; its envelope is the file `VERSION.root`.
    #[prost(uint64, tag = "2")]
    pub root_version: u64,
    /// Epoch of that root. No document of a lower one is accepted.
    #[prost(uint32, tag = "3")]
    pub epoch: u32,
    /// The last campaign accepted, for each class.
    #[prost(message, repeated, tag = "4")]
    pub accepted: Vec<AcceptedCampaign>,
    /// Identifiers (16 octets) of the last 64 campaigns that ended with 200, 250 or 251, oldest
    /// first.
    #[prost(bytes = "vec", repeated, tag = "5")]
    pub finished: Vec<Vec<u8>>,
    /// The firmware confirmed last, for each class.
    #[prost(message, repeated, tag = "6")]
    pub installed: Vec<InstalledManifest>,
    /// The campaign that the device is armed with.
    #[prost(message, optional, tag = "7")]
    pub armed: Option<ArmedRecord>,
    /// Windows and their channels.
    #[prost(message, repeated, tag = "8")]
    pub tune_ins: Vec<TuneInRecord>,
    /// Correlator of the final alert; absent when the Exec had none.
    #[prost(string, optional, tag = "9")]
    pub correlator: Option<String>,
    /// The operation that was started, as its word (`download`, `update`, `download-and-update`).
    #[prost(string, tag = "10")]
    pub operation: String,
    /// The active suspend reasons, as words; empty: reception is not suspended.
    #[prost(string, repeated, tag = "11")]
    pub suspend_reasons: Vec<String>,
    /// The report settings.
    #[prost(message, optional, tag = "12")]
    pub report: Option<ReportSlot>,
    /// Final alerts that the server has not acknowledged, oldest first.
    #[prost(message, repeated, tag = "13")]
    pub alerts: Vec<QueuedAlert>,
    /// The decode progress of each object.
    #[prost(message, repeated, tag = "14")]
    pub objects: Vec<ObjectProgress>,
    /// The lower bound of the time, in UTC seconds.
    #[prost(uint64, tag = "15")]
    pub clock_floor: u64,
    /// The nonce for the next DM session's first message.
    #[prost(bytes = "vec", tag = "16")]
    pub dm_nonce: Vec<u8>,
    /// The nonce of the DM server's next proof.
    #[prost(bytes = "vec", tag = "40")]
    pub dm_server_nonce: Vec<u8>,
    /// Access control lists of the management tree that a server has changed.
    #[prost(string, tag = "41")]
    pub access_lists: String,
    /// Mark of the account that nonces and lists belong to; empty when an earlier program wrote it.
    #[prost(bytes = "vec", tag = "60")]
    pub account: Vec<u8>,
    /// The URL to which that account's server has moved.
    #[prost(string, optional, tag = "61")]
    pub account_url: Option<String>,
    /// The password that it has set.
    #[prost(string, optional, tag = "62")]
    pub account_password: Option<String>,
    /// Version that the installer must print after the hand-off for the update to succeed.
    #[prost(string, optional, tag = "17")]
    pub expected_version: Option<String>,
    /// Result code of the operation, once it has one.
    #[prost(uint32, optional, tag = "18")]
    pub result: Option<u32>,
    /// The boot in which the installer requested a reboot; the version counts after it.
    #[prost(string, optional, tag = "19")]
    pub reboot_requested_in_boot: Option<String>,
    /// The suspend policy, as a server has set it.
    #[prost(message, repeated, tag = "20")]
    pub policy: Vec<PolicySetting>,
    /// The consent of the user: 0 nothing, 1 the download, 2 the installation.
    #[prost(uint32, tag = "30")]
    pub consent: u32,
    /// The package that is received by unicast.
    #[prost(message, optional, tag = "31")]
    pub download: Option<DownloadRecord>,
    /// Set while the image is stored until the Exec of `Update`.
    #[prost(bool, tag = "32")]
    pub awaiting_update_exec: bool,
    /// Installation notifications that the download server has not acknowledged.
    #[prost(message, repeated, tag = "33")]
    pub install_notifications: Vec<InstallNotificationRecord>,
    /// The software component that the operation is about; absent: it is about firmware.
    #[prost(message, optional, tag = "50")]
    pub subject: Option<SubjectRecord>,
    /// The announced components: nodes that a server has added.
    #[prost(message, repeated, tag = "51")]
    pub announced: Vec<AnnouncedRecord>,
    /// The user's consent to show the inventory to the server: 0 undecided, 1 yes, 2 no.
    #[prost(uint32, tag = "52")]
    pub inventory_consent: u32,
    /// The origin of the floors: 0 the device, 1 restored from the floors alone, 2 lost.
    #[prost(uint32, tag = "70")]
    pub trust_state: u32,
    /// The floor of every class, as a person has set it.
    #[prost(uint64, tag = "71")]
    pub general_floor: u64,
}

/// A software component and the operation on it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SubjectRecord {
    /// The operation, as its word (`component-remove`, …).
    #[prost(string, tag = "1")]
    pub operation: String,
    /// The node whose operation it is.
    #[prost(string, tag = "2")]
    pub node: String,
    /// The package, or the component.
    #[prost(string, tag = "3")]
    pub package: String,
}

/// A node that a server has added.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct AnnouncedRecord {
    /// The path of its parent below the object.
    #[prost(string, tag = "1")]
    pub branch: String,
    /// Its name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// The names of its leaves, each followed by its value.
    #[prost(string, repeated, tag = "3")]
    pub leaves: Vec<String>,
}

/// A node of the policy and its value.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PolicySetting {
    /// Its path below the FUMO object.
    #[prost(string, tag = "1")]
    pub node: String,
    /// Its value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// A package that is received by unicast.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct DownloadRecord {
    /// URL of a descriptor or package; empty when there is nothing to fetch.
    #[prost(string, tag = "1")]
    pub url: String,
    /// URL of the package, once that is known.
    #[prost(string, optional, tag = "2")]
    pub object: Option<String>,
    /// URL that receives the outcome.
    #[prost(string, optional, tag = "3")]
    pub notify: Option<String>,
    /// Octets of the package by its descriptor; 0 when there was none.
    #[prost(uint64, tag = "4")]
    pub size: u64,
    /// Offset of the image in the package.
    #[prost(uint64, tag = "5")]
    pub image_offset: u64,
    /// Octets of the image that are synced.
    #[prost(uint64, tag = "6")]
    pub fetched: u64,
}

/// A queued installation notification.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct InstallNotificationRecord {
    /// The destination.
    #[prost(string, tag = "1")]
    pub url: String,
    /// The code, 900 to 999.
    #[prost(uint32, tag = "2")]
    pub status: u32,
    /// Attempts so far.
    #[prost(uint32, tag = "3")]
    pub tries: u32,
}

/// The last campaign accepted for a class.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct AcceptedCampaign {
    /// The class, 16 octets.
    #[prost(bytes = "vec", tag = "1")]
    pub class: Vec<u8>,
    /// Its sequence.
    #[prost(uint64, tag = "2")]
    pub sequence: u64,
    /// H(campaign payload): an equal sequence is accepted with this digest alone.
    #[prost(bytes = "vec", tag = "3")]
    pub campaign_sha256: Vec<u8>,
}

/// The firmware confirmed last for a class.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct InstalledManifest {
    /// The class, 16 octets.
    #[prost(bytes = "vec", tag = "1")]
    pub class: Vec<u8>,
    /// The manifest's sequence; stored when its firmware is confirmed.
    #[prost(uint64, tag = "2")]
    pub sequence: u64,
    /// No manifest below this sequence is accepted.
    #[prost(uint64, tag = "3")]
    pub floor: u64,
    /// H(manifest payload): the same manifest again is already done.
    #[prost(bytes = "vec", tag = "4")]
    pub manifest_sha256: Vec<u8>,
}

/// The campaign that the device is armed with. Envelopes and plan header are in files of their own,
/// named by these digests and synced before.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ArmedRecord {
    /// The campaign's identifier, 16 octets.
    #[prost(bytes = "vec", tag = "1")]
    pub campaign_id: Vec<u8>,
    /// H(campaign payload).
    #[prost(bytes = "vec", tag = "2")]
    pub campaign_sha256: Vec<u8>,
    /// H(manifest payload).
    #[prost(bytes = "vec", tag = "3")]
    pub manifest_sha256: Vec<u8>,
    /// The component to receive.
    #[prost(uint32, optional, tag = "4")]
    pub component: Option<u32>,
    /// H("fcplan1" ‖ plan header), when the header was part of the arming.
    #[prost(bytes = "vec", optional, tag = "5")]
    pub plan_header_sha256: Option<Vec<u8>>,
}

/// A window and its channel.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TuneInRecord {
    /// The `fumocast:` URL.
    #[prost(string, tag = "1")]
    pub url: String,
    /// Opening of the window, in UTC seconds.
    #[prost(uint64, tag = "2")]
    pub opens_utc: u64,
    /// Closing of the window, in UTC seconds.
    #[prost(uint64, tag = "3")]
    pub closes_utc: u64,
    /// The boot in which the two moments below count.
    #[prost(string, tag = "4")]
    pub boot_id: String,
    /// Opening of the window, in milliseconds since that boot.
    #[prost(uint64, tag = "5")]
    pub opens_boot_ms: u64,
    /// Closing of the window, in milliseconds since that boot.
    #[prost(uint64, tag = "6")]
    pub closes_boot_ms: u64,
}

/// The report settings; the time of the report is chosen when there is a result.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ReportSlot {
    /// Span over which devices spread their reports, in seconds.
    #[prost(uint32, tag = "1")]
    pub spread_seconds: u32,
    /// Not before this moment, in UTC seconds.
    #[prost(uint64, optional, tag = "2")]
    pub not_before_utc: Option<u64>,
    /// Filter of reported results: `all`, `failures` or `sample N/M`.
    #[prost(string, tag = "3")]
    pub filter: String,
}

/// A final alert that waits for its acknowledgement.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct QueuedAlert {
    /// The Correlator of the operation.
    #[prost(string, optional, tag = "1")]
    pub correlator: Option<String>,
    /// The operation, as its word.
    #[prost(string, tag = "2")]
    pub operation: String,
    /// The result code.
    #[prost(uint32, tag = "3")]
    pub result: u32,
    /// The campaign, 16 octets; empty when the result is not about one.
    #[prost(bytes = "vec", tag = "4")]
    pub campaign_id: Vec<u8>,
    /// Earliest time at which it is sent, in UTC seconds; 0: at once.
    #[prost(uint64, tag = "5")]
    pub due_utc: u64,
    /// The software component that it is about; absent: it is about firmware.
    #[prost(message, optional, tag = "6")]
    pub subject: Option<SubjectRecord>,
}

/// The decode progress of an object.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ObjectProgress {
    /// The object's key, 16 octets.
    #[prost(bytes = "vec", tag = "1")]
    pub object_key: Vec<u8>,
    /// One bit for each block that is synced in the image: block n is bit n mod 8 of octet n / 8.
    #[prost(bytes = "vec", tag = "2")]
    pub blocks_done: Vec<u8>,
    /// Set once the image was read back and its digest matched.
    #[prost(bool, tag = "3")]
    pub verified: bool,
    /// Slots that failed and are ignored: first and count of each run, in turn.
    #[prost(uint32, repeated, tag = "4")]
    pub bad_slots: Vec<u32>,
    /// Set once the image was wrong and its blocks are decoded again.
    #[prost(bool, tag = "5")]
    pub redecoded: bool,
}

impl ObjectProgress {
    /// Returns the blocks that are synced in the image.
    #[must_use]
    pub fn done(&self) -> BTreeSet<Sbn> {
        let bits =
            self.blocks_done.iter().flat_map(|octet| (0..8).map(move |bit| octet >> bit & 1));
        (0..).zip(bits).filter(|(_, bit)| *bit == 1).map(|(sbn, _)| Sbn(sbn)).collect()
    }

    /// Returns the slots that failed.
    #[must_use]
    pub fn bad(&self) -> Vec<SlotRun> {
        let runs = self.bad_slots.chunks_exact(2);
        runs.filter_map(|run| match run {
            [first, count] => Some(SlotRun { first: *first, count: *count }),
            _ => None,
        })
        .collect()
    }

    /// Records that a block is synced in the image.
    pub fn mark_done(&mut self, sbn: Sbn) {
        let octet = usize::try_from(sbn.0 / 8).unwrap_or(usize::MAX);
        debug_assert!(octet < 32, "an object has at most 255 blocks");
        if octet >= self.blocks_done.len() {
            self.blocks_done.resize(octet + 1, 0);
        }
        if let Some(bits) = self.blocks_done.get_mut(octet) {
            *bits |= 1 << (sbn.0 % 8);
        }
    }
}

/// Reads a field of a fixed length.
pub(crate) fn fixed<const N: usize>(octets: &[u8]) -> Result<[u8; N], WireError> {
    octets.try_into().map_err(|_| {
        WireError::invalid("journal field", format!("{} octets", octets.len()), "its fixed length")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        components::{MAX_NAME, MAX_NODES, MAX_TEXT, MAX_URL},
        store::{JournalImage, log::MAX_BAD_RUNS},
    };

    #[test]
    fn done_blocks_are_read_as_they_were_marked() {
        let mut progress = ObjectProgress::default();
        assert_eq!(progress.done(), BTreeSet::new());
        for sbn in [254, 0, 7, 8] {
            progress.mark_done(Sbn(sbn));
        }
        assert_eq!(progress.done(), BTreeSet::from([Sbn(0), Sbn(7), Sbn(8), Sbn(254)]));
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "one value for each field")]
    fn the_largest_state_fits_in_a_copy() {
        let word = || "handed-over".to_owned();
        let name = || "x".repeat(64);
        let hash = || vec![0xff; 32];
        let id = || vec![0xff; 16];
        let subject = || SubjectRecord {
            operation: "component-download-install-inactive".to_owned(),
            node: "x".repeat(MAX_NAME),
            package: name(),
        };
        let body = JournalState {
            phase: word(),
            root_version: u64::MAX,
            epoch: u32::MAX,
            accepted: vec![
                AcceptedCampaign {
                    class: id(),
                    sequence: u64::MAX,
                    campaign_sha256: hash()
                };
                16
            ],
            finished: vec![id(); 64],
            installed: vec![
                InstalledManifest {
                    class: id(),
                    sequence: u64::MAX,
                    floor: u64::MAX,
                    manifest_sha256: hash(),
                };
                16
            ],
            armed: Some(ArmedRecord {
                campaign_id: id(),
                campaign_sha256: hash(),
                manifest_sha256: hash(),
                component: Some(255),
                plan_header_sha256: Some(hash()),
            }),
            tune_ins: vec![
                TuneInRecord {
                    url: "u".repeat(200),
                    opens_utc: u64::MAX,
                    closes_utc: u64::MAX,
                    boot_id: name(),
                    opens_boot_ms: u64::MAX,
                    closes_boot_ms: u64::MAX,
                };
                16
            ],
            correlator: Some(name()),
            operation: word(),
            suspend_reasons: vec![word(); 8],
            report: Some(ReportSlot {
                spread_seconds: u32::MAX,
                not_before_utc: Some(u64::MAX),
                filter: word(),
            }),
            alerts: vec![
                QueuedAlert {
                    correlator: Some(name()),
                    operation: word(),
                    result: 599,
                    campaign_id: id(),
                    due_utc: u64::MAX,
                    subject: Some(subject()),
                };
                16
            ],
            // The agent stores one object at a time.
            objects: vec![
                ObjectProgress {
                    object_key: id(),
                    blocks_done: hash(),
                    verified: true,
                    bad_slots: vec![u32::MAX; 2 * MAX_BAD_RUNS],
                    redecoded: true,
                };
                1
            ],
            clock_floor: u64::MAX,
            dm_nonce: hash(),
            dm_server_nonce: hash(),
            access_lists: "x".repeat(1024),
            account: vec![0xff; 16],
            account_url: Some("u".repeat(512)),
            account_password: Some("p".repeat(512)),
            expected_version: Some(name()),
            result: Some(599),
            reboot_requested_in_boot: Some(name()),
            policy: vec![PolicySetting { node: name(), value: word() }; 6],
            consent: 2,
            download: Some(DownloadRecord {
                url: "u".repeat(512),
                object: Some("u".repeat(512)),
                notify: Some("u".repeat(512)),
                size: u64::MAX,
                image_offset: u64::MAX,
                fetched: u64::MAX,
            }),
            awaiting_update_exec: true,
            install_notifications: vec![
                InstallNotificationRecord {
                    url: "u".repeat(512),
                    status: 999,
                    tries: 9
                };
                2
            ],
            subject: Some(subject()),
            announced: vec![
                AnnouncedRecord {
                    branch: "Inventory/Delivered".to_owned(),
                    name: "x".repeat(MAX_NAME),
                    leaves: (0..6)
                        .flat_map(|_| ["InstallParams".to_owned(), "x".repeat(MAX_TEXT)])
                        .chain(["PkgURL".to_owned(), "u".repeat(MAX_URL)])
                        .collect(),
                };
                2 * MAX_NODES
            ],
            inventory_consent: 2,
            trust_state: 2,
            general_floor: u64::MAX,
        };
        let image = JournalImage { generation: 1, body };
        let octets = image.emit().unwrap();
        assert!(octets.len() < 32_000, "{}", octets.len());
        assert_eq!(JournalImage::parse(&octets), Ok(image));
    }
}
