//! The device's verifier as a black box: one step in one process, over a data folder.
//!
//! ```text
//! verifier init           --data DIR --root FILE          a device with its factory root
//! verifier offer-root     --data DIR FILE                 a root comes over DM
//! verifier offer-campaign --data DIR --campaign FILE …    documents and a tune-in URL come over DM
//! verifier offer-packets  --data DIR CAPTURE              datagrams on the air, as a pcap file
//! verifier state          --data DIR                      what the device holds
//! ```
//!
//! Everything that decides is the product's: the agent with its DM client, its journal and symbol
//! store on real files. Only the management server is scripted ([`scripted_server`]); it does
//! whatever it is commanded, as one that an attacker has taken over. Each command prints one line
//! of JSON, [`Answer`].

pub mod device;
pub mod scripted_server;

use proto::ids::{ClassId, VendorId};
use serde::{Deserialize, Serialize};

/// Result of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// The decision of the device.
    pub answer: Decision,
    /// The class of the reason, as the device names it; empty where there is none.
    pub reason: String,
    /// Details, for people.
    pub detail: String,
    /// The FUMO result that the device reported in this step.
    pub result: Option<u16>,
    /// State of the device after it.
    pub state: State,
}

proto::words! {
    /// Decision of the device.
    #[derive(Serialize)]
    pub enum Decision, serde {
        /// The offer was accepted.
        Accepted = "accepted",
        /// The offer was refused.
        Refused = "refused",
        /// Nothing was offered.
        None = "none",
    }
}

/// State of a device, as far as others may rely on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct State {
    /// The phase.
    pub phase: String,
    /// Version of the root that it trusts.
    pub root_version: u64,
    /// Epoch of that root.
    pub epoch: u32,
    /// Sequence of the last campaign accepted; 0: none.
    pub accepted_sequence: u64,
    /// Sequence of the manifest that is installed; 0: none.
    pub installed_sequence: u64,
    /// Digest of the image that was last handed off.
    pub version: String,
    /// The lower bound of the time, in UTC seconds.
    pub t_min: u64,
    /// Symbols that are synced, in this step or before.
    pub symbols: u64,
    /// Packets of this step that contradict the plan.
    pub forged: u64,
    /// Packets of this step that are not of the session, or no packets.
    pub foreign: u64,
}

/// Identity of the device of a data folder.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Identity {
    /// Vendor, 32 hex digits.
    pub vendor: String,
    /// Class, 32 hex digits.
    pub class: String,
}

impl Identity {
    /// Returns vendor and class.
    ///
    /// # Errors
    ///
    /// When one of them is no identifier.
    pub fn kind(&self) -> anyhow::Result<(VendorId, ClassId)> {
        Ok((self.vendor.parse()?, self.class.parse()?))
    }
}

/// Exit codes, those of the product.
#[must_use]
pub fn exit_code(answer: &Answer) -> u8 {
    match (answer.answer, answer.result) {
        (Decision::Accepted | Decision::None, _) => 0,
        (Decision::Refused, Some(402 | 404)) => 5,
        (Decision::Refused, _) if matches!(&*answer.reason, "signature" | "malformed") => 5,
        (Decision::Refused, _) => 8,
    }
}
