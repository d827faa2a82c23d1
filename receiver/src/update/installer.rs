//! The hand-off contract, version 1: the interface between agent and firmware update client.
//!
//! The hook is a command of the integrator's. It is run with a verb and receives JSON on its
//! standard input:
//!
//! | verb | does | exit |
//! | --- | --- | --- |
//! | `install FILE` | installs the image FILE, which exists until the hook returns | 0 done, 10 reboot needed, else failed |
//! | `version` | prints the version that is installed, derived from what is installed | 0 |
//!
//! On a device with software components (`receiver.components`) five more:
//!
//! | verb | does | exit |
//! | --- | --- | --- |
//! | `component-install FILE` | installs the package of the component that `software_component` names, and starts it if `activate` is set | as `install` |
//! | `component-activate ID`, `component-deactivate ID`, `component-remove ID` | changes an installed component | as `install` |
//! | `components` | prints the components that are installed, one in JSON a line | 0 |
//!
//! ```text
//! {"id":"player","version":"2.1","active":true,"name":"Player","description":"Plays."}
//! ```
//!
//! The `id` is that of the package; `name` and `description` may be left out. At most 64 components
//! are listed, with texts of at most 128 octets; an incomplete list is rejected.
//!
//! `install` and `component-install` run at most once for each campaign and attempt. The output
//! of `version` or `components` afterwards decides whether the operation has succeeded.

use proto::ids::PackageId;
use serde::{Deserialize, Serialize};

use crate::{
    components::{ChangeRequest, Deployed, Verb},
    store::ObjectLayout,
};

/// Version of this contract, in the JSON that the hook receives.
pub const CONTRACT_VERSION: u32 = 1;

/// The standard input of the hook with `install`.
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
    /// The software component that the image is the package of; absent for firmware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub software_component: Option<Box<ComponentInstall>>,
}

/// The software component of an install request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentInstall {
    /// The package, and with it the component.
    pub id: PackageId,
    /// Set when it is to run.
    pub activate: bool,
    /// The server's parameters for the installer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<String>,
}

impl InstallRequest {
    /// Returns the verb that the hook is run with.
    #[must_use]
    pub const fn verb(&self) -> &'static str {
        if self.software_component.is_some() { "component-install" } else { "install" }
    }
}

/// A call of the hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstallerCall {
    /// Read the installed version.
    ReadVersion,
    /// Install the image of the object.
    Install(ObjectLayout, Box<InstallRequest>),
    /// List the installed components.
    ReadComponents,
    /// Run the verb on a component.
    ChangeComponent(Verb, ChangeRequest),
}

/// The answer to a call of the hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstallerAnswer {
    /// The installed version; `None` when the hook printed none.
    Version(Option<String>),
    /// The installed components; `None` when the hook printed none.
    Components(Option<Vec<Deployed>>),
    /// The outcome of an installation or a change.
    Ended(InstallOutcome),
}

/// The outcome of the hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstallOutcome {
    /// Done: the version may be read back at once.
    Done,
    /// Reboot required: the version may be read back after the next boot.
    RebootNeeded,
    /// The hook failed.
    Failed,
    /// The hook could not be run.
    NotRun,
}

/// Longest version that a hook may print, octets; its first line is truncated to it.
pub const MAX_VERSION_BYTES: usize = 64;
