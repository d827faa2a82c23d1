//! The way of an operation: what follows from what, between the owners.
//!
//! Each function asks and tells owners and queues effects; none keeps state. Those that end or
//! defer an operation follow from one another, and stand together for that.

use proto::{
    dm::{
        fumo::{PackageData, Phase, ResultCode},
        scomo::Branch,
        ui::{Answer, Prompt},
    },
    time::Now,
    trust::{bundle::BundleHead, component_class},
};

use super::{
    effects::{NetworkRequest, Output},
    owners::Owners,
};
use crate::{
    components::{ComponentTarget, InventoryAccess},
    flute::reception::Gate,
    store::{ObjectLayout, commands::StorageCommand},
    suspension::{InstallPolicy, SuspendReason, SuspensionEvent},
    trust::OfferTarget,
    update::{
        acceptance::{Acceptance, Accepted, CampaignOffer, DeviceClass, Refusal},
        download::{DownloadStep, WantedImage},
        installer::{CONTRACT_VERSION, ComponentInstall, InstallRequest, InstallerCall},
        operation::{ArmedCampaign, Exec},
    },
    user::{
        PromptPurpose, Reply,
        prompts::{ConsentDecision, ConsentGranted, PromptEvent, download_text, install_text},
    },
};

/// Marks the journal's state as changed where the phase has changed.
pub(super) fn mark_dirty_if(owners: &mut Owners, changed: bool) {
    if changed {
        owners.effects.mark_dirty();
    }
}

pub(super) fn has_download(owners: &Owners) -> bool {
    owners.download.is_active()
}

/// Returns whether an operation is in progress: there is one at a time.
pub(super) fn is_occupied(owners: &Owners) -> bool {
    let is_handed_over = owners.update.phase() == Phase::HandedOver;
    owners.update.is_armed() || has_download(owners) || is_handed_over
}

// spec: oma-002 7 (a component is signed for a class of its own)
/// Returns the device class that the manifest of a package must name.
pub(super) fn device_class_of(owners: &Owners, subject: Option<&ComponentTarget>) -> DeviceClass {
    let DeviceClass { vendor, class } = owners.config.device_class;
    let class = subject.map_or(class, |subject| component_class(class, &subject.package));
    DeviceClass { vendor, class }
}

/// Returns the component part of the install request.
pub(super) fn component_install(owners: &Owners) -> Option<ComponentInstall> {
    let subject = owners.update.subject()?;
    let leaf = proto::dm::nodes::scomo::INSTALL_PARAMETERS;
    let parameters = owners.announced.text(Branch::Download, &subject.node, leaf);
    Some(ComponentInstall {
        id: subject.package.clone(),
        activate: subject.activates(),
        parameters: parameters.map(str::to_owned),
    })
}

pub(super) fn list_components(owners: &mut Owners) {
    if owners.installer.inventory_access() != InventoryAccess::Absent {
        owners.installer.begin_read();
        owners.effects.push(InstallerCall::ReadComponents);
    }
}

pub(super) fn read_version(owners: &mut Owners) {
    owners.installer.begin_read();
    owners.effects.push(InstallerCall::ReadVersion);
}

pub(super) fn push_alert(owners: &mut Owners, now: Now, exec: Exec, result: ResultCode) {
    owners.dm.reports.push(now.utc, owners.update.alert(exec, result));
    owners.effects.mark_dirty();
}

pub(super) fn package_data(owners: &Owners) -> PackageData {
    if owners.reception.has_data() { PackageData::Stored } else { PackageData::Deleted }
}

/// Returns whether the operation may receive.
pub(super) fn download_allowed(owners: &Owners) -> bool {
    owners.prompts.download_allowed(owners.suspension.policy().consent())
}

/// Returns whether the image may be installed.
pub(super) fn install_allowed(owners: &Owners) -> bool {
    owners.prompts.install_allowed(owners.suspension.policy().consent())
}

pub(super) fn reception_gate(owners: &Owners) -> Gate {
    let is_open = || !owners.suspension.is_active() && download_allowed(owners);
    match owners.update.phase() {
        Phase::Armed | Phase::Receiving if is_open() => Gate::Open,
        Phase::Armed | Phase::Receiving | Phase::Suspended => Gate::Paused,
        Phase::Idle
        | Phase::Assembled
        | Phase::Verified
        | Phase::Deferred
        | Phase::HandedOver
        | Phase::Confirmed
        | Phase::Failed
        | Phase::Reported
        | Phase::Missed
        | Phase::Expired
        | Phase::Disarmed
        | Phase::Refused
        | Phase::Incomplete => Gate::Closed,
    }
}

/// Joins and leaves channels until they are those that the open windows need.
pub(super) fn tune(owners: &mut Owners, now: Now) {
    owners.reception.set_gate(reception_gate(owners));
    let Some(change) = owners.reception.tune(now.mono) else { return };
    let changed = change.is_tuned_in && owners.update.tune_in();
    mark_dirty_if(owners, changed);
    change.left.into_iter().for_each(|left| owners.effects.push(NetworkRequest::Leave(left)));
    for joined in change.joined {
        owners.effects.push_after_commit(NetworkRequest::Join(joined));
    }
}

pub(super) fn wanted_image(owners: &Owners) -> WantedImage {
    match owners.reception.layout() {
        None => WantedImage::Unknown,
        Some(_) if !download_allowed(owners) => WantedImage::AwaitsConsent,
        Some(layout) => WantedImage::Bytes(layout.image_bytes()),
    }
}

/// Requests the next missing range, unless the download is blocked.
pub(super) fn fetch_next(owners: &mut Owners, now: Now) {
    if owners.update.phase() != Phase::Receiving || owners.suspension.is_active() {
        return;
    }
    match owners.download.next_step(now.mono, wanted_image(owners)) {
        Some(DownloadStep::Fetch(fetch)) => {
            owners.effects.push_after_commit(NetworkRequest::Fetch(fetch));
        }
        Some(DownloadStep::Complete) => {
            let changed = owners.update.assemble();
            mark_dirty_if(owners, changed);
            verify_image(owners);
        }
        None => {}
    }
}

/// Requests the verification of the image.
pub(super) fn verify_image(owners: &mut Owners) {
    if let Some(layout) = owners.reception.layout() {
        owners.effects.push_after_commit(StorageCommand::VerifyImage(layout.clone()));
    }
}

/// Sends the oldest installation notification when it is due.
pub(super) fn send_install_notification(owners: &mut Owners, now: Now) {
    if let Some((url, body)) = owners.download.next_notification(now.mono) {
        owners.effects.push_after_commit(NetworkRequest::Notify(url, body));
    }
}

pub(super) fn show_next_prompt(owners: &mut Owners) {
    if let Some(question) = owners.prompts.show_next() {
        owners.effects.push_after_commit(Output::Prompt(question));
    }
}

pub(super) fn handle_prompt_event(owners: &mut Owners, now: Now, event: PromptEvent) {
    match event {
        PromptEvent::Queued => show_next_prompt(owners),
        PromptEvent::Consent(step, reply) => on_consent(owners, now, step, &reply),
        PromptEvent::InventoryDecided => owners.effects.mark_dirty(),
        PromptEvent::Session(_) | PromptEvent::Nothing => {}
    }
}

/// Prompts the user for the server.
pub(super) fn ask(owners: &mut Owners, now: Now, prompt: Prompt) -> Option<Answer> {
    let answer = owners.prompts.ask_for_server(now.mono, prompt);
    if answer.is_none() {
        show_next_prompt(owners);
    }
    answer
}

/// Prompts for the consent that the operation requires.
pub(super) fn ask_for_consent(owners: &mut Owners, now: Now) {
    let Some(accepted) = owners.update.accepted() else { return };
    let octets = accepted.object.oti.parameters().transfer_length;
    let version = &owners.update.displayed_version().unwrap_or_default();
    let ready = owners.update.is_verified();
    let (step, text) = if ready && !install_allowed(owners) {
        (ConsentGranted::Install, install_text(version))
    } else if !ready && !download_allowed(owners) {
        (ConsentGranted::Download, download_text(version, octets))
    } else {
        return;
    };
    let event = owners.prompts.ask_for_consent(now.mono, step, text);
    handle_prompt_event(owners, now, event);
}

/// Handles the user's decision. A no ends the operation; any other answer defers it.
pub(super) fn on_consent(owners: &mut Owners, now: Now, step: ConsentGranted, reply: &Reply) {
    if !owners.update.is_armed() {
        return;
    }
    match owners.prompts.record_consent(now.mono, step, reply) {
        ConsentDecision::Granted => {
            owners.effects.mark_dirty();
            if step == ConsentGranted::Install {
                install(owners, now);
            } else {
                resume_reception(owners, now);
            }
        }
        ConsentDecision::Refused => {
            complete(owners, now, Phase::Refused, ResultCode::USER_CANCELLED);
        }
        ConsentDecision::Deferred => {}
    }
}

/// Withdraws the prompts of an operation that ends, and notifies the user of its result.
pub(super) fn notify_result(owners: &mut Owners, now: Now, phase: Phase, result: ResultCode) {
    owners.prompts.end_operation();
    if let Some(version) = owners.update.displayed_version() {
        let event = owners.prompts.notify_result(now.mono, &version, (phase, result));
        handle_prompt_event(owners, now, event);
    }
}

/// Removes the download at the operation's end and queues its outcome for the download server.
pub(super) fn end_download(owners: &mut Owners, now: Now, result: ResultCode) {
    if !has_download(owners) {
        return;
    }
    owners.update.end_download();
    let is_queued = owners.download.end(result);
    if owners.download.awaits_ended() {
        owners.effects.push(NetworkRequest::StopFetch);
    }
    if is_queued {
        owners.effects.mark_dirty();
        send_install_notification(owners, now);
    }
}

// spec: oma-001 8.1.2.22
/// Ends the operation with a result, which is scheduled for its report.
pub(super) fn complete(owners: &mut Owners, now: Now, phase: Phase, result: ResultCode) {
    tracing::info!(%phase, %result, text = result.text(), "operation ended");
    notify_result(owners, now, phase, result);
    let has_download = has_download(owners);
    end_download(owners, now, result);
    let had_image = has_download || owners.update.is_armed();
    let alert = owners.update.end(phase, result);
    match (&alert.subject, alert.campaign) {
        // The image is removed with the operation, and a removed component may be installed
        // again.
        (Some(subject), _) => {
            owners.announced.remove(Branch::Delivered, &subject.node);
        }
        (None, Some(campaign)) if ends_well(result) => {
            owners.trust.record_finished(campaign);
        }
        (None, _) => {}
    }
    owners.dm.reports.schedule(now.utc, alert, &mut owners.rng);
    owners.installer.end_operation();
    owners.suspension.clear();
    owners.effects.drop_object_work();
    // Symbols of an incomplete image are reused when it is broadcast again.
    let kept = owners.reception.disarm();
    let kept = kept.filter(|_| matches!(phase, Phase::Incomplete | Phase::Missed));
    owners.effects.mark_dirty();
    tune(owners, now);
    if had_image {
        owners.reception.forget_progress_except(kept.as_ref());
        owners.effects.push_after_commit(StorageCommand::RemoveOtherObjects(Vec::from_iter(kept)));
    }
}

/// Hands the image to the installer, at most once: the journal records the hand-off before it
/// begins. A suspended device stores the image until it resumes.
pub(super) fn install(owners: &mut Owners, now: Now) {
    if owners.suspension.is_active() {
        return tune(owners, now);
    }
    if !install_allowed(owners) {
        let changed = owners.update.defer();
        mark_dirty_if(owners, changed);
        tune(owners, now);
        return ask_for_consent(owners, now);
    }
    let Some(accepted) = owners.update.accepted() else { return };
    // A pending answer would be mistaken for one after the installation.
    if !owners.installer.may_install() {
        return;
    }
    let manifest = &accepted.manifest;
    let object = accepted.object;
    let request = InstallRequest {
        contract: CONTRACT_VERSION,
        campaign: accepted.campaign.id.to_string(),
        firmware_version: manifest.firmware_version.clone(),
        component: object.component.0,
        length: object.oti.parameters().transfer_length,
        sha256: object.stored_sha256.to_string(),
        software_component: component_install(owners).map(Box::new),
    };
    let Some(layout) = owners.reception.layout().cloned() else { return };
    let version = manifest.firmware_version.clone();
    tune(owners, now);
    let changed = owners.update.hand_over();
    mark_dirty_if(owners, changed);
    owners.installer.start(Some(version));
    owners.effects.push_after_commit(InstallerCall::Install(layout, Box::new(request)));
}

/// Continues after the verification of the image: does what the Exec requests, and no more.
// spec: oma-001 8.1.2.19, oma-001 8.1.1.12, oma-003 5.5.1.6.5 (hand-off)
pub(super) fn after_verification(owners: &mut Owners, now: Now) {
    if owners.update.awaits_exec() {
        return;
    }
    // A user who has agreed to the installation does not wait.
    let waits = owners.suspension.policy().install() == InstallPolicy::OnCommand
        && !owners.prompts.has_agreed_to_install();
    if let Some(result) = owners.update.held_result(waits) {
        if let Some(own) = owners.update.subject() {
            owners.announced.mark_delivered(&own.node);
        }
        let alert = owners.update.hold(result);
        owners.dm.reports.push(now.utc, alert);
        owners.effects.mark_dirty();
        return;
    }
    install(owners, now);
}

/// Resumes reception or download.
pub(super) fn resume_reception(owners: &mut Owners, now: Now) {
    tune(owners, now);
    fetch_next(owners, now);
}

/// Applies a changed policy: drops prompts that are not required any more, and prompts for
/// consent that is.
pub(super) fn apply_policy(owners: &mut Owners, now: Now) {
    if download_allowed(owners) {
        owners.prompts.forget(PromptPurpose::Download);
    }
    if install_allowed(owners) {
        owners.prompts.forget(PromptPurpose::Install);
    }
    let at_once = owners.suspension.policy().install() == InstallPolicy::AtOnce;
    if at_once && owners.update.release_deferred() {
        owners.effects.mark_dirty();
        verify_image(owners);
    } else if owners.update.phase() == Phase::Deferred && install_allowed(owners) {
        install(owners, now);
    }
    show_next_prompt(owners);
    resume_reception(owners, now);
    ask_for_consent(owners, now);
}

pub(super) fn suspend_for(owners: &mut Owners, now: Now, reason: SuspendReason) {
    if !owners.update.is_armed() || !owners.suspension.add(reason) {
        return;
    }
    owners.effects.mark_dirty();
    owners.reception.flush();
    owners.update.suspend();
    tune(owners, now);
}

pub(super) fn resume_from(owners: &mut Owners, now: Now, reason: SuspendReason) {
    if !owners.suspension.remove(reason) {
        return;
    }
    owners.effects.mark_dirty();
    if !owners.suspension.is_active() {
        owners.update.resume();
    }
    resume_reception(owners, now);
    if !owners.suspension.is_active() && owners.update.phase() == Phase::Verified {
        after_verification(owners, now);
    }
}

/// Evaluates the reasons of the environment again.
pub(super) fn reevaluate(owners: &mut Owners, now: Now) {
    for event in owners.suspension.evaluate() {
        match event {
            SuspensionEvent::Holds(reason) => suspend_for(owners, now, reason),
            SuspensionEvent::Ended(reason) => resume_from(owners, now, reason),
        }
    }
}

/// Returns whether a DM session may begin: not in a call, not without a network.
pub(super) fn session_allowed(owners: &Owners) -> bool {
    !owners.suspension.is_offline() && !owners.installer.is_running()
}

/// Evaluates an offer for firmware, or for a component.
pub(super) fn evaluate_offer(
    owners: &Owners,
    subject: Option<&ComponentTarget>,
    offer: &CampaignOffer<'_>,
) -> Result<Acceptance, Refusal> {
    let target = match subject {
        None => OfferTarget::Firmware,
        Some(subject) if owners.installer.has_removed(&subject.package) => {
            OfferTarget::RemovedComponent
        }
        Some(_) => OfferTarget::Component,
    };
    owners.trust.evaluate(device_class_of(owners, subject), target, &owners.config.limits, offer)
}

/// Evaluates the signed documents of a bundle like those of a campaign over DM; there is no
/// window.
pub(super) fn evaluate_bundle(
    owners: &Owners,
    head: &BundleHead,
    subject: Option<&ComponentTarget>,
) -> Result<Accepted, Refusal> {
    let offer = CampaignOffer {
        campaign: &head.campaign,
        manifest: &head.manifest,
        windows: Vec::new(),
        carried: Some(head.component),
    };
    let accepted = match evaluate_offer(owners, subject, &offer)? {
        Acceptance::Accepted(accepted) => *accepted,
        Acceptance::AlreadyInstalled(_) => {
            let detail = "this package is installed".to_owned();
            return Err(Refusal { result: ResultCode::UP_TO_DATE, reason: "installed", detail });
        }
    };
    if accepted.object.oti.parameters().transfer_length != head.image_octets {
        let detail = "the image has another length than the signed one".to_owned();
        let result = ResultCode::CORRUPTED;
        return Err(Refusal { result, reason: "mismatch", detail });
    }
    Ok(accepted)
}

/// Arms the device with a bundle. All files that a restart needs are written before the journal
/// names them.
pub(super) fn arm_bundle(owners: &mut Owners, head: BundleHead, accepted: Accepted) {
    let object = accepted.object;
    let armed = ArmedCampaign::new(&accepted, None);
    let layout = ObjectLayout::new(object.object_key, object.stored_sha256, object.oti);
    let envelopes = [head.campaign, head.manifest];
    for (name, octets) in armed.envelope_files(&envelopes).into_iter().zip(&envelopes) {
        owners.effects.write_before_commit(name, octets.clone());
    }
    let class = device_class_of(owners, owners.update.subject()).class;
    owners.trust.record_accepted(class, &accepted.campaign);
    owners.reception.arm_unicast(object);
    owners.download.record_head(head.image_offset);
    owners.update.arm(armed, accepted, envelopes);
    owners.effects.mark_dirty();
    owners.effects.push_after_commit(StorageCommand::RemoveOtherObjects(vec![layout]));
}

/// Returns whether a result finishes its campaign.
fn ends_well(result: ResultCode) -> bool {
    matches!(result, ResultCode::SUCCESS | ResultCode::DEFERRED | ResultCode::UP_TO_DATE)
}
