//! The installer, as the agent knows it: what is installed, and the hand-off in progress.

use std::time::Duration;

use proto::{ids::PackageId, time::Mono};

use crate::{
    components::{ComponentTarget, Deployed, InventoryAccess},
    store::journal_state::JournalState,
};

/// Wait before what the installer did not print is read again; it doubles with each failure.
const FIRST_REREAD: Duration = Duration::from_secs(10);
/// Longest wait before it is read again.
const LONGEST_REREAD: Duration = Duration::from_secs(3_600);
/// Failures in a row after which an installation whose version is not printed has failed.
const MAX_FAILURES_AFTER_HAND_OFF: u32 = 5;

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
    rereads: Rereads,
    /// The version that the installer must print.
    expected_version: Option<String>,
    /// The boot in which the installer requested a reboot.
    reboot_requested_in_boot: Option<String>,
}

/// Further reads of what the installer did not print.
#[derive(Debug, Default)]
struct Rereads {
    /// Failures in a row.
    failures: u32,
    due: Option<Mono>,
    /// Reads without an answer yet, the first ones too.
    outstanding: u32,
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
            rereads: Rereads::default(),
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

    /// Returns whether no answer of the installer is pending: it would be mistaken for one after an
    /// installation.
    pub(crate) fn may_install(&self) -> bool {
        self.knows_what_is_installed() && self.rereads.outstanding == 0
    }

    /// Returns whether the installer has answered the requests of the start.
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
        self.rereads.failures = 0;
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

    /// Records the installed version; returns whether an installation had to wait for the answer.
    pub(crate) fn record_version(&mut self, now: Mono, version: Option<String>) -> bool {
        let waited = !self.may_install();
        let is_known = version.is_some();
        // What is installed is what it was, unless an installation may have changed it.
        let is_kept = self.firmware_version.is_some() && self.expected_version.is_none();
        if is_known || !is_kept {
            self.firmware_version = Some(version.unwrap_or_default());
        }
        self.handle_answer(now, is_known);
        waited && self.may_install()
    }

    /// Records the list of components; returns whether an installation had to wait for the answer.
    pub(crate) fn record_components(&mut self, now: Mono, deployed: Option<Vec<Deployed>>) -> bool {
        let waited = !self.may_install();
        let is_known = deployed.is_some();
        self.deployed = deployed;
        self.has_listed = true;
        self.handle_answer(now, is_known);
        waited && self.may_install()
    }

    fn handle_answer(&mut self, now: Mono, is_known: bool) {
        self.rereads.outstanding = self.rereads.outstanding.saturating_sub(1);
        if !is_known {
            let doubled = FIRST_REREAD.saturating_mul(1 << self.rereads.failures.min(10));
            self.rereads.failures = self.rereads.failures.saturating_add(1);
            self.rereads.due = Some(now + doubled.min(LONGEST_REREAD));
        } else if self.knows_all() {
            self.rereads = Rereads { outstanding: self.rereads.outstanding, ..Rereads::default() };
        }
    }

    fn knows_all(&self) -> bool {
        let knows_version = self.firmware_version.as_ref().is_some_and(|known| !known.is_empty());
        knows_version && (self.access == InventoryAccess::Absent || self.deployed.is_some())
    }

    /// Returns the time at which what the installer did not print is read again.
    pub(crate) fn deadline(&self) -> Option<Mono> {
        self.rereads.due.filter(|_| !self.is_running)
    }

    /// Begins to read again if that is due; returns whether it is.
    pub(crate) fn begin_reread(&mut self, now: Mono) -> bool {
        let is_due = self.deadline().is_some_and(|due| due <= now);
        if is_due {
            self.rereads.due = None;
        }
        is_due
    }

    /// Counts a request to the installer for what is installed, until its answer.
    pub(crate) const fn begin_read(&mut self) {
        self.rereads.outstanding = self.rereads.outstanding.saturating_add(1);
    }

    /// Returns whether what is installed after a hand-off is unknown and will be read again.
    pub(crate) const fn is_undecided(&self) -> bool {
        let failures = self.rereads.failures;
        0 < failures && failures < MAX_FAILURES_AFTER_HAND_OFF
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
