//! The DM server as a core: a message and stored state in, an answer and changed state out.
//!
//! | module | holds |
//! | --- | --- |
//! | [`session`] | one authenticated DM session: what is asked, written and started, in which order |
//! | [`auth`] | whether a peer is the device: nonces, and what failures cost |
//! | `standing` | this server proves itself to the device |
//! | [`command`] | commands on their way to a device |
//! | `course` | what leads to an Exec, and in which groups it travels |
//! | `components` | software components: what is held, what is done with it |
//! | [`large`] | what goes, and comes, in pieces |
//! | [`request`] | what a device that asks for an update is answered |
//! | [`inbox`] | what a device sends: answers, values, alerts |
//!
//! Nothing is kept for a peer that has not proved who it is: a challenge lives in the device's row
//! and a [`session::DmSession`] begins with the credential that was accepted.

pub mod auth;
pub mod command;
mod components;
mod course;
mod inbox;
mod large;
mod request;
pub mod session;
mod standing;

use std::{collections::BTreeMap, sync::Arc};

use proto::ids::CampaignId;

use crate::{
    campaign::model::Campaign,
    fleet::{arming::Arming, device::Device, store::Change},
};

/// What the server needs to do its part of a DM session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Octets of a message, in both directions.
    pub message_bytes: usize,
    /// Exec attempts for one device and campaign before a person has to look.
    pub attempts: u32,
    /// Octets of an object that a device sends in pieces.
    pub object_bytes: u64,
    /// Messages of a device in one session.
    pub messages: u32,
    /// Octets of a text that is taken from a device into the store.
    pub text_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 64 * 1024,
            attempts: 5,
            object_bytes: 64 * 1024,
            // A package inside a session goes in pieces, the smallest of which are small.
            messages: 1 << 17,
            text_bytes: 128,
        }
    }
}

/// The stored state that concerns one device, as it was read for one message.
///
/// The engine changes the rows; [`Desk::changes_since`] tells what has to be stored before the
/// answer may leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desk {
    /// The device.
    pub device: Device,
    /// All attempts for it, by campaign and attempt.
    pub armings: Vec<Arming>,
    /// The campaigns of those attempts that are not settled; all that run, when the device asks.
    pub campaigns: Vec<Campaign>,
    /// Bundles of those campaigns that may have to send them in the DM session.
    pub packages: BTreeMap<CampaignId, Arc<[u8]>>,
    /// What happened, in words for the audit log.
    pub notes: Vec<String>,
}

impl Desk {
    /// Returns the rows that differ from `before`.
    #[must_use]
    pub fn changes_since(&self, before: &Self) -> Vec<Change> {
        let device = (self.device != before.device).then(|| Change::from(self.device.clone()));
        let armings = self.armings.iter().filter(|row| !before.armings.contains(row));
        device.into_iter().chain(armings.cloned().map(Change::from)).collect()
    }

    /// Takes note that what differs from `before` is stored now.
    pub fn stored(&mut self, before: &Self) {
        if self.device != before.device {
            self.device.version += 1;
        }
        for row in self.armings.iter_mut().filter(|row| !before.armings.contains(row)) {
            row.version += 1;
        }
        self.notes.clear();
    }

    /// Returns the campaign `id`, if it was read.
    #[must_use]
    pub fn campaign(&self, id: CampaignId) -> Option<&Campaign> {
        self.campaigns.iter().find(|campaign| campaign.id == id)
    }

    /// Returns the latest attempt of each campaign.
    pub fn latest(&self) -> impl Iterator<Item = &Arming> {
        latest(&self.armings)
    }

    fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }
}

/// Returns the latest attempt of each campaign out of all attempts for one device.
pub fn latest(armings: &[Arming]) -> impl Iterator<Item = &Arming> {
    armings.iter().filter(|row| {
        !armings.iter().any(|other| other.campaign == row.campaign && other.attempt > row.attempt)
    })
}

#[cfg(test)]
mod tests;
