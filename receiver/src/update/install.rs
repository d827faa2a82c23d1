//! The installer, as the agent knows it: what is installed, and the hand-off in progress.

use proto::ids::PackageId;

use crate::{
    components::{ComponentTarget, Deployed, InventoryAccess},
    store::journal_state::JournalState,
};

/// The installed firmware and components by the installer's answers, and the hand-off.
#[derive(Debug)]
pub(crate) struct Installer {
    /// Identifies this boot of the machine.
    boot_id: String,
    access: InventoryAccess,
    /// Set while the installer runs: no DM session begins meanwhile.
    is_running: bool,
    firmware_version: Option<String>,
    /// The components that the installer has listed last; `None` when it failed.
    deployed: Option<Vec<Deployed>>,
    /// Set once the installer has listed them in this run.
    has_listed: bool,
    /// The version that the installer must print.
    expected_version: Option<String>,
    /// The boot in which the installer requested a reboot.
    reboot_requested_in_boot: Option<String>,
}

impl Installer {
    /// Restores the hand-off of an earlier run.
    pub(crate) fn from_journal(
        boot_id: String,
        access: InventoryAccess,
        state: &JournalState,
    ) -> Self {
        Self {
            boot_id,
            access,
            is_running: false,
            firmware_version: None,
            deployed: None,
            has_listed: false,
            expected_version: state.expected_version.clone(),
            reboot_requested_in_boot: state.reboot_requested_in_boot.clone(),
        }
    }

    /// Writes the hand-off into the journal.
    pub(crate) fn write_journal(&self, state: &mut JournalState) {
        state.expected_version.clone_from(&self.expected_version);
        state.reboot_requested_in_boot.clone_from(&self.reboot_requested_in_boot);
    }

    /// Returns what identifies this boot of the machine.
    pub(crate) fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// Returns the access of the server to the inventory of components.
    pub(crate) const fn inventory_access(&self) -> InventoryAccess {
        self.access
    }

    /// Returns whether the installer has answered the requests of the start: a pending answer would
    /// be mistaken for one after an installation.
    pub(crate) fn knows_what_is_installed(&self) -> bool {
        let has_listed = self.has_listed || self.access == InventoryAccess::Absent;
        has_listed && self.firmware_version.is_some()
    }

    /// Returns the installed version, once the installer has printed it.
    pub(crate) fn firmware_version(&self) -> Option<&str> {
        self.firmware_version.as_deref()
    }

    /// Returns the components that the installer has listed last.
    pub(crate) fn deployed(&self) -> Option<&[Deployed]> {
        self.deployed.as_deref()
    }

    /// Returns whether a component is missing from the list.
    pub(crate) fn has_removed(&self, package: &PackageId) -> bool {
        let is_gone = |list: &Vec<Deployed>| list.iter().all(|component| component.id != *package);
        self.deployed.as_ref().is_some_and(is_gone)
    }

    /// Returns whether the installer runs.
    pub(crate) const fn is_running(&self) -> bool {
        self.is_running
    }

    /// Records that the installer runs; `expected` is the version that it must print afterwards.
    pub(crate) fn start(&mut self, expected: Option<String>) {
        self.is_running = true;
        self.expected_version = expected;
    }

    /// Records that the installer has ended.
    pub(crate) const fn handle_ended(&mut self) {
        self.is_running = false;
    }

    /// Records that the installer requests a reboot: what is installed counts after it.
    pub(crate) fn request_reboot(&mut self) {
        tracing::info!("installer requests a reboot");
        self.reboot_requested_in_boot = Some(self.boot_id.clone());
    }

    /// Forgets the hand-off of an operation that ends.
    pub(crate) fn end_operation(&mut self) {
        self.expected_version = None;
        self.reboot_requested_in_boot = None;
    }

    /// Records the installed version; returns whether it is the first of this run.
    pub(crate) fn record_version(&mut self, version: Option<String>) -> bool {
        self.firmware_version.replace(version.unwrap_or_default()).is_none()
    }

    /// Records the list of components; returns whether it is the first of this run.
    pub(crate) fn record_components(&mut self, deployed: Option<Vec<Deployed>>) -> bool {
        self.deployed = deployed;
        !std::mem::replace(&mut self.has_listed, true)
    }

    /// Returns whether the answers of this boot are those before the installation.
    pub(crate) fn awaits_reboot(&self) -> bool {
        self.reboot_requested_in_boot.as_ref() == Some(&self.boot_id)
    }

    /// Returns whether the installed firmware is the expected one; the exit code of the installer
    /// is not trusted.
    // spec: oma-000 8.2.5.2, oma-003 5.5.1.4
    pub(crate) fn has_expected_firmware(&self) -> bool {
        self.firmware_version == self.expected_version
    }

    /// Returns whether the operation on a component has succeeded, by the list of the installer.
    // spec: oma-dm 12.1 (read back)
    pub(crate) fn has_done(&self, subject: &ComponentTarget) -> bool {
        let version = self.expected_version.as_deref();
        self.deployed.as_deref().is_some_and(|listed| subject.is_done(listed, version))
    }
}
