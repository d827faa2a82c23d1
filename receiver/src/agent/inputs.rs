//! The inputs of storage, network and installer, and of the clock.

use proto::{
    dm::fumo::{Phase, ResultCode},
    time::Now,
    trust::bundle::BundleHead,
};

use super::{
    effects::DeferredEffect,
    operations::{
        after_verification, arm_bundle, ask_for_consent, complete, device_class_of,
        evaluate_bundle, fetch_next, has_download, list_components, mark_dirty_if, read_version,
        reception_gate, send_install_notification, tune, verify_image, wanted_image,
    },
    owners::Owners,
};
use crate::{
    components::Deployed,
    flute::reception::{Gate, ReceptionEvent},
    store::{
        StorageError,
        commands::{Completion, StorageCommand, VerifyOutcome},
    },
    update::{
        acceptance::Refusal,
        download::DownloadEvent,
        fetch::{FetchError, Fetched},
        installer::InstallOutcome,
    },
};

/// Opens and closes windows.
pub(super) fn window_timeout(owners: &mut Owners, now: Now) {
    tune(owners, now);
    end_windows(owners, now);
}

pub(super) fn download_timeout(owners: &mut Owners, now: Now) {
    fetch_next(owners, now);
    send_install_notification(owners, now);
}

/// Reads again what the installer did not print.
pub(super) fn installer_timeout(owners: &mut Owners, now: Now) {
    if owners.installer.begin_reread(now.mono) {
        read_version(owners);
        list_components(owners);
    }
}

/// Routes what the blocks have come to.
pub(super) fn poll_reception(owners: &mut Owners, now: Now) {
    if let Some(event) = owners.reception.poll() {
        handle_reception_events(owners, now, event);
    }
}

/// Routes an event of the blocks and those that follow from it.
pub(super) fn handle_reception_events(owners: &mut Owners, now: Now, first: ReceptionEvent) {
    let mut next = Some(first);
    while let Some(event) = next {
        handle_reception_event(owners, now, event);
        owners.reception.set_gate(reception_gate(owners));
        next = owners.reception.poll();
    }
}

/// Routes an event of the reception.
pub(super) fn handle_reception_event(owners: &mut Owners, now: Now, event: ReceptionEvent) {
    match event {
        ReceptionEvent::Opened { is_verified } => handle_opened(owners, now, is_verified),
        ReceptionEvent::NotOpened(error) => handle_open_failed(owners, now, &error),
        ReceptionEvent::SlotsFailed(error) => handle_slots_failed(owners, now, error),
        ReceptionEvent::Decodable(job) => owners.effects.push(StorageCommand::Decode(job)),
        ReceptionEvent::BlockDecoded(sbn) => {
            owners.effects.mark_dirty();
            owners.effects.run_after_commit(DeferredEffect::BlockDone(sbn));
        }
        ReceptionEvent::NoRoom => {
            complete(owners, now, Phase::Failed, ResultCode::NO_ROOM_TO_DOWNLOAD);
        }
        ReceptionEvent::BlockNotDecoded | ReceptionEvent::Enough => tune(owners, now),
        ReceptionEvent::Assembled => {
            let changed = owners.update.assemble();
            mark_dirty_if(owners, changed);
            verify_image(owners);
        }
        ReceptionEvent::ImageVerified(outcome) => handle_image_verified(owners, now, outcome),
        ReceptionEvent::WindowsOver { received } => {
            let (phase, result) = if owners.update.phase() == Phase::Armed {
                (Phase::Missed, ResultCode::MISSED)
            } else if received {
                (Phase::Incomplete, ResultCode::INCOMPLETE)
            } else {
                (Phase::Incomplete, ResultCode::NOTHING_RECEIVED)
            };
            complete(owners, now, phase, result);
        }
    }
}

pub(super) fn end_windows(owners: &mut Owners, now: Now) {
    owners.reception.set_gate(reception_gate(owners));
    if let Some(event) = owners.reception.end_windows(now.mono) {
        handle_reception_event(owners, now, event);
    }
}

/// Handles a completion of the storage.
pub(super) fn handle_storage(owners: &mut Owners, now: Now, completion: Completion) {
    if matches!(completion, Completion::Decoded(..) | Completion::ImageVerified(..)) {
        owners.effects.handle_job_ended();
    }
    match completion {
        Completion::JournalWritten(generation) => {
            owners.effects.handle_journal_written(generation);
            poll_reception(owners, now);
        }
        // No effect behind a failed write is executed.
        Completion::JournalFailed(_, error) | Completion::FileFailed(_, error) => {
            owners.effects.fail(error);
        }
        Completion::OptionalFileWritten(outcome) => {
            owners.partial_package.handle_written(&outcome);
        }
        Completion::ImageWritten(_, outcome) => {
            if owners.reception.handle_image_written() {
                handle_image_written(owners, now, outcome);
            } else {
                handle_late_image_written(owners, now);
            }
        }
        Completion::ObjectsRemoved(outcome) => {
            owners.reception.handle_objects_removed();
            if let Err(error) = outcome {
                tracing::warn!(%error, "failed to remove files");
            }
        }
        // The second is of unsigned files alone.
        Completion::FileDone(_) | Completion::Discarded(..) => {}
        Completion::Recovered(..)
        | Completion::Reserved(..)
        | Completion::OpenFailed(..)
        | Completion::Flushed(..)
        | Completion::LogFailed(..)
        | Completion::Decoded(..)
        | Completion::ImageVerified(..) => {
            if let Some(event) = owners.reception.handle_storage(now.mono, completion) {
                handle_reception_event(owners, now, event);
            }
            after_storage(owners, now);
        }
    }
}

/// Goes on after a completion of the storage or the decoder.
pub(super) fn after_storage(owners: &mut Owners, now: Now) {
    owners.effects.commit_if_dirty();
    owners.reception.set_gate(reception_gate(owners));
    poll_reception(owners, now);
    tune(owners, now);
    end_windows(owners, now);
    owners.effects.commit_if_dirty();
}

pub(super) fn handle_opened(owners: &mut Owners, now: Now, is_verified: bool) {
    if owners.update.phase() == Phase::Assembled {
        verify_image(owners);
    } else if owners.update.is_verified() && is_verified {
        after_verification(owners, now);
    } else {
        ask_for_consent(owners, now);
        tune(owners, now);
    }
}

pub(super) fn handle_open_failed(owners: &mut Owners, now: Now, error: &StorageError) {
    tracing::warn!(%error, "storage not opened");
    match error {
        StorageError::NoSpace { .. } => {
            complete(owners, now, Phase::Failed, ResultCode::NO_ROOM_TO_DOWNLOAD);
        }
        // What was synced before may still be there when the campaign is armed again.
        StorageError::Io { .. } => {
            complete(owners, now, Phase::Incomplete, ResultCode::CLIENT_ERROR);
        }
    }
}

/// Records the failed slots in the journal. A storage that fails repeatedly ends the operation;
/// synced symbols stay.
pub(super) fn handle_slots_failed(owners: &mut Owners, now: Now, error: Option<StorageError>) {
    owners.effects.mark_dirty();
    let result = match error.filter(|_| reception_gate(owners) != Gate::Closed) {
        Some(StorageError::NoSpace { .. }) => ResultCode::NO_ROOM_TO_DOWNLOAD,
        Some(StorageError::Io { .. }) => ResultCode::CLIENT_ERROR,
        None => return,
    };
    complete(owners, now, Phase::Incomplete, result);
}

pub(super) fn handle_image_verified(owners: &mut Owners, now: Now, outcome: VerifyOutcome) {
    let by_unicast = has_download(owners);
    match outcome {
        VerifyOutcome::Ready { .. } => {
            owners.reception.mark_verified();
            let changed = owners.update.verify();
            mark_dirty_if(owners, changed);
            after_verification(owners, now);
        }
        VerifyOutcome::WrongDigest { found } => {
            tracing::error!(%found, "the image is not the signed one");
            handle_wrong_image(owners, now);
        }
        VerifyOutcome::WrongContent { why } => {
            tracing::error!(why, "unexpected content encoding of an image");
            handle_wrong_image(owners, now);
        }
        VerifyOutcome::Failed(error) if by_unicast => {
            tracing::warn!(%error, "package not read back");
            complete(owners, now, Phase::Failed, ResultCode::CLIENT_ERROR);
        }
        VerifyOutcome::Failed(error) => owners.effects.fail(error),
    }
}

/// Decodes a wrong image once more. A unicast image is not decoded: it is fetched again when
/// the server requests it.
pub(super) fn handle_wrong_image(owners: &mut Owners, now: Now) {
    let decodes = !has_download(owners);
    match decodes.then(|| owners.reception.decode_again()).flatten() {
        Some(layout) => {
            let changed = owners.update.receive();
            mark_dirty_if(owners, changed);
            owners.effects.push_after_commit(StorageCommand::Open(layout));
        }
        None => complete(owners, now, Phase::Failed, ResultCode::CORRUPTED),
    }
}

/// Handles the outcome of a write to the image.
pub(super) fn handle_image_written(
    owners: &mut Owners,
    now: Now,
    outcome: Result<(), StorageError>,
) {
    let event = owners.download.handle_image_written(outcome);
    handle_download_event(owners, now, event);
}

/// Handles the end of a write to the image of an operation that has ended.
pub(super) fn handle_late_image_written(owners: &mut Owners, now: Now) {
    let event = owners.download.handle_late_image_written();
    handle_download_event(owners, now, event);
}

pub(super) fn handle_fetched(owners: &mut Owners, now: Now, fetched: Result<Fetched, FetchError>) {
    let limits = &owners.config.limits;
    let room = limits.max_image_bytes.min(limits.max_storage_bytes);
    let event = owners.download.handle_fetched(now.mono, fetched, wanted_image(owners), room);
    handle_download_event(owners, now, event);
}

pub(super) fn handle_download_event(owners: &mut Owners, now: Now, event: DownloadEvent) {
    match event {
        DownloadEvent::Nothing => {}
        DownloadEvent::Ready => fetch_next(owners, now),
        DownloadEvent::Advanced => {
            owners.effects.mark_dirty();
            fetch_next(owners, now);
        }
        DownloadEvent::Head(head) => handle_bundle_head(owners, now, head),
        DownloadEvent::Image(at, octets) => {
            if let Some(layout) = owners.reception.layout() {
                owners.effects.push(StorageCommand::WriteImage(layout.clone(), at, octets));
            }
        }
        DownloadEvent::Failed(phase, result) => complete(owners, now, phase, result),
    }
}

pub(super) fn handle_bundle_head(owners: &mut Owners, now: Now, head: BundleHead) {
    match evaluate_bundle(owners, &head, owners.update.subject()) {
        Ok(accepted) => {
            arm_bundle(owners, head, accepted);
            let changed = owners.update.receive();
            mark_dirty_if(owners, changed);
            ask_for_consent(owners, now);
            fetch_next(owners, now);
        }
        Err(Refusal { result, reason, detail }) => {
            tracing::info!(%result, reason, detail, "package refused");
            let up_to_date = result == ResultCode::UP_TO_DATE;
            let phase = if up_to_date { Phase::Idle } else { Phase::Refused };
            complete(owners, now, phase, result);
        }
    }
}

/// Handles the outcome of an installation notification.
pub(super) fn handle_install_notified(owners: &mut Owners, now: Now, arrived: bool) {
    if owners.download.handle_notified(now.mono, arrived) {
        owners.effects.mark_dirty();
        send_install_notification(owners, now);
    }
}

/// Compares the installed version with the expected one; the installer's exit code is not
/// trusted.
pub(super) fn handle_version(owners: &mut Owners, now: Now, version: Option<String>) {
    let is_known = version.is_some();
    let was_awaited = owners.installer.record_version(now.mono, version);
    if was_awaited && owners.update.is_verified() {
        return after_verification(owners, now);
    }
    let waits = owners.installer.is_running() || owners.installer.awaits_reboot();
    let is_firmware = owners.update.subject().is_none();
    if owners.update.phase() != Phase::HandedOver || waits || !is_firmware {
        return;
    }
    if !is_known && owners.installer.is_undecided() {
        return;
    }
    if is_known && owners.installer.has_expected_firmware() {
        remember_installed(owners);
        complete(owners, now, Phase::Confirmed, ResultCode::SUCCESS);
    } else {
        complete(owners, now, Phase::Failed, ResultCode::UPDATE_FAILED);
    }
}

/// Compares the installed components with the expected one; the installer's exit code is not
/// trusted.
pub(super) fn handle_components(owners: &mut Owners, now: Now, deployed: Option<Vec<Deployed>>) {
    let is_known = deployed.is_some();
    let was_awaited = owners.installer.record_components(now.mono, deployed);
    if was_awaited && owners.update.is_verified() {
        return after_verification(owners, now);
    }
    let waits = owners.installer.is_running() || owners.installer.awaits_reboot();
    let Some(subject) = owners.update.subject() else { return };
    if owners.update.phase() != Phase::HandedOver || waits {
        return;
    }
    if !is_known && owners.installer.is_undecided() {
        return;
    }
    if owners.installer.has_done(subject) {
        remember_installed(owners);
        complete(owners, now, Phase::Confirmed, ResultCode::SUCCESS);
    } else {
        complete(owners, now, Phase::Failed, ResultCode::UPDATE_FAILED);
    }
}

// spec: oma-001 8.1.1.13, oma-001 8.1.2.20
pub(super) fn handle_installed(owners: &mut Owners, now: Now, outcome: InstallOutcome) {
    owners.installer.handle_ended();
    if owners.update.phase() != Phase::HandedOver {
        return;
    }
    match outcome {
        InstallOutcome::Done if owners.update.subject().is_some() => list_components(owners),
        InstallOutcome::Done => read_version(owners),
        InstallOutcome::RebootNeeded => {
            owners.installer.request_reboot();
            owners.effects.mark_dirty();
        }
        InstallOutcome::Failed => {
            complete(owners, now, Phase::Failed, ResultCode::UPDATE_FAILED);
        }
        InstallOutcome::NotRun => {
            complete(owners, now, Phase::Failed, ResultCode::HAND_OFF_FAILED);
        }
    }
}

pub(super) fn remember_installed(owners: &mut Owners) {
    let class = device_class_of(owners, owners.update.subject()).class;
    let Some(accepted) = owners.update.accepted() else { return };
    owners.trust.record_installed(class, &accepted.manifest);
}

/// Resumes the operation that the journal names; each step may run for the second time.
pub(super) fn resume(owners: &mut Owners, now: Now) {
    read_version(owners);
    list_components(owners);
    send_install_notification(owners, now);
    let lost = owners.update.armed().is_some() && !owners.update.is_armed();
    match owners.update.revoked() {
        // spec: security 2 (revocation), security 6.6 (floors)
        Some(result) if lost => {
            tracing::info!(%result, "armed campaign revoked before the last start");
            complete(owners, now, Phase::Refused, result);
        }
        None if lost => {
            tracing::error!("the files of the armed campaign are damaged");
            complete(owners, now, Phase::Failed, ResultCode::UNDEFINED);
        }
        Some(_) | None => {}
    }
    match owners.reception.layout() {
        // The answer to `ReadVersion` decides; the image stays until then.
        Some(_) if owners.update.phase() == Phase::HandedOver => {}
        Some(_) if has_download(owners) => resume_download(owners, now),
        Some(layout) => owners.effects.push(StorageCommand::Open(layout.clone())),
        // The power may have gone before the object's directory did.
        None if has_download(owners) => fetch_next(owners, now),
        None if !owners.reception.has_data() => {
            owners.effects.push(StorageCommand::RemoveOtherObjects(Vec::new()));
        }
        None => {}
    }
}

/// Resumes a download after a restart.
pub(super) fn resume_download(owners: &mut Owners, now: Now) {
    match owners.update.phase() {
        Phase::Assembled | Phase::Verified | Phase::Deferred => verify_image(owners),
        Phase::Receiving | Phase::Suspended => {
            ask_for_consent(owners, now);
            fetch_next(owners, now);
        }
        Phase::Idle
        | Phase::Armed
        | Phase::HandedOver
        | Phase::Confirmed
        | Phase::Failed
        | Phase::Reported
        | Phase::Missed
        | Phase::Expired
        | Phase::Disarmed
        | Phase::Refused
        | Phase::Incomplete => {}
    }
}
