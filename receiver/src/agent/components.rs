//! Software components: processed like firmware up to the hand-off, with an end of their own. The
//! list of the installer decides whether an operation has succeeded, as the version does for
//! firmware.
//!
//! ```text
//! Download, DownloadInstall:   armed or receiving -> … -> verified -> [delivered] -> handed over
//! Activate, Deactivate, Remove:                     handed over -> listed -> confirmed | failed
//! ```
//!
//! One operation is in progress at a time, on firmware or on a component.

use proto::{
    dm::{
        code::StatusCode,
        fumo::{Operation::Update, Phase, ResultCode},
        scomo::{Branch, Operation},
    },
    ids::Correlator,
    time::Now,
    trust::component_class,
};

use super::AgentState;
use crate::update::installer::InstallerCall;
use crate::{
    components::{ChangeRequest, ComponentTarget, Deployed, InventoryAccess, Software, Verb},
    dm::ReportSettings,
    trust::OfferTarget,
    update::{
        acceptance::{Acceptance, CampaignOffer, DeviceClass, Refusal},
        installer::{CONTRACT_VERSION, ComponentInstall},
        operation::Exec,
    },
};

impl AgentState {
    pub(super) fn list_components(&mut self) {
        if self.installer.inventory_access() != InventoryAccess::Absent {
            self.effects.push(InstallerCall::ReadComponents);
        }
    }

    /// Returns whether an operation is in progress: there is one at a time.
    pub(super) fn is_occupied(&self) -> bool {
        let is_handed_over = self.phase() == Phase::HandedOver;
        self.update.is_armed() || self.has_download() || is_handed_over
    }

    // spec: oma-002 7 (a component is signed for a class of its own)
    /// Returns the device class that the manifest of a package must name.
    pub(super) fn device_class_of(&self, subject: Option<&ComponentTarget>) -> DeviceClass {
        let DeviceClass { vendor, class } = self.config.device_class;
        let class = subject.map_or(class, |subject| component_class(class, &subject.package));
        DeviceClass { vendor, class }
    }

    /// Evaluates an offer for firmware, or for a component.
    pub(super) fn evaluate_offer(
        &self,
        subject: Option<&ComponentTarget>,
        offer: &CampaignOffer<'_>,
    ) -> Result<Acceptance, Refusal> {
        let target = match subject {
            None => OfferTarget::Firmware,
            Some(subject) if self.installer.has_removed(&subject.package) => {
                OfferTarget::RemovedComponent
            }
            Some(_) => OfferTarget::Component,
        };
        self.trust.evaluate(self.device_class_of(subject), target, &self.config.limits, offer)
    }

    /// Returns the component part of the install request.
    pub(super) fn component_install(&self) -> Option<ComponentInstall> {
        let subject = self.update.subject()?;
        let leaf = proto::dm::nodes::scomo::INSTALL_PARAMETERS;
        let parameters = self.announced.text(Branch::Download, &subject.node, leaf);
        Some(ComponentInstall {
            id: subject.package.clone(),
            activate: subject.activates(),
            parameters: parameters.map(str::to_owned),
        })
    }

    /// Compares the installed components with the expected one; the installer's exit code is not
    /// trusted.
    pub(super) fn handle_components(&mut self, now: Now, deployed: Option<Vec<Deployed>>) {
        let is_first = self.installer.record_components(deployed);
        if is_first && self.update.is_verified() {
            return self.after_verification(now);
        }
        let waits = self.installer.is_running() || self.installer.awaits_reboot();
        let Some(subject) = self.update.subject() else { return };
        if self.phase() != Phase::HandedOver || waits {
            return;
        }
        if self.installer.has_done(subject) {
            self.remember_installed();
            self.complete(now, Phase::Confirmed, ResultCode::SUCCESS);
        } else {
            self.complete(now, Phase::Failed, ResultCode::UPDATE_FAILED);
        }
    }

    /// Starts the operation of an Exec in the inventory.
    // spec: oma-002 scomo.activate, oma-002 scomo.install
    pub(super) fn begin_change(
        &mut self,
        now: Now,
        subject: ComponentTarget,
        correlator: Option<Correlator>,
    ) -> StatusCode {
        if matches!(subject.operation, Operation::Install | Operation::InstallInactive) {
            return self.exec_update(now, Some(subject), correlator);
        }
        if subject.operation == Operation::RemovePackage {
            return self.remove_package(now, subject, correlator);
        }
        let Some(verb) = Verb::of(subject.operation) else { return StatusCode::NOT_ALLOWED };
        if self.is_occupied() {
            let is_same = self.update.subject() == Some(&subject);
            if !(is_same && self.update.is_repeated_by(correlator.as_ref())) {
                let exec = Exec { operation: Update, correlator, subject: Some(subject) };
                self.push_alert(now, exec, ResultCode::WRONG_STATE);
            }
            return StatusCode::ACCEPTED;
        }
        let request = ChangeRequest { contract: CONTRACT_VERSION, id: subject.package.clone() };
        self.update.begin(Exec { operation: Update, correlator, subject: Some(subject) });
        self.reports.begin(ReportSettings::default());
        self.installer.start(None);
        self.update.hand_over();
        self.effects.mark_dirty();
        self.effects.push_after_commit(InstallerCall::ChangeComponent(verb, request));
        StatusCode::ACCEPTED
    }

    /// Removes a package. Without its data a package is just a node.
    fn remove_package(
        &mut self,
        now: Now,
        subject: ComponentTarget,
        correlator: Option<Correlator>,
    ) -> StatusCode {
        if self.update.awaits_exec() && self.update.concerns(Some(&subject)) {
            self.drop_package();
        } else if self.is_occupied() && self.update.concerns(Some(&subject)) {
            return StatusCode::FORBIDDEN;
        }
        self.announced.remove(Branch::Delivered, &subject.node);
        let exec = Exec { operation: Update, correlator, subject: Some(subject) };
        self.push_alert(now, exec, ResultCode::SUCCESS);
        StatusCode::ACCEPTED
    }

    /// Returns the view of the components for the management tree.
    pub(super) fn software_view(&self) -> Option<Software> {
        let is_shown = self.prompts.shows_inventory(self.installer.inventory_access())?;
        let subject = self.update.subject().filter(|_| self.is_occupied());
        let status = self.phase().state(self.package_data()).number();
        let is_held = self.update.is_held();
        Some(Software {
            is_shown,
            announced: self.announced.clone(),
            deployed: self.installer.deployed().unwrap_or_default().to_vec(),
            working: subject.map(|subject| (subject.clone(), status)),
            held: subject.filter(|_| is_held).map(|subject| subject.node.clone()),
        })
    }
}
