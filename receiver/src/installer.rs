//! The hand-off contract, version 1: how a verified package reaches the firmware update client.
//!
//! The hook is a command of the integrator's. It is run with a verb and gets JSON on its standard
//! input:
//!
//! | verb | does | exit |
//! | --- | --- | --- |
//! | `install FILE` | takes the image; FILE lies on the agent's storage until it returns | 0 done, 10 reboot needed, else failed |
//! | `version` | prints the version that is installed, derived from what is installed | 0 |
//!
//! `install` runs at most once for each campaign and attempt. What `version` prints afterwards
//! decides whether the update has succeeded.

use serde::{Deserialize, Serialize};

/// Version of this contract, in the JSON that the hook gets.
pub const CONTRACT_VERSION: u32 = 1;

/// What the hook gets on its standard input with `install`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstallRequest {
    /// [`CONTRACT_VERSION`].
    pub contract: u32,
    /// The campaign, 32 hex digits.
    pub campaign: String,
    /// Version that the manifest names; the hook shows it, and must not echo it as installed.
    pub firmware_version: String,
    /// Number of the component within the manifest.
    pub component: u8,
    /// Octets of the image.
    pub length: u64,
    /// SHA-256 of the image, lower-case hex.
    pub sha256: String,
}

/// How the hook ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstallOutcome {
    /// The version may be read back at once.
    Done,
    /// The version may be read back after the next boot.
    RebootNeeded,
    /// The hook refused or failed.
    Failed,
    /// The hook could not be run.
    NotRun,
}

/// Longest version that a hook may print, octets; the rest of its first line is cut off.
pub const MAX_VERSION_BYTES: usize = 64;
