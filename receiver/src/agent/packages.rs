//! Packages that are received by unicast, and the operations on components.

use proto::{
    crypto::sha256,
    dm::{
        code::StatusCode,
        fumo::{
            Operation::{self, Update},
            ResultCode,
        },
        scomo::{self, Branch},
    },
    ids::Correlator,
    time::Now,
    trust::bundle::BundleHead,
};

use super::{
    operations::{
        arm_bundle, evaluate_bundle, fetch_next, has_download, is_occupied, mark_dirty_if,
        package_data, push_alert, verify_image,
    },
    owners::Owners,
};
use crate::{
    components::{ChangeRequest, ComponentTarget, Software, Verb},
    dm::{ChunkPosition, DownloadRequest, ReportSettings},
    store::{
        ObjectLayout,
        commands::{FileName, StorageCommand},
    },
    update::{
        acceptance::Refusal,
        installer::{CONTRACT_VERSION, InstallerCall},
        operation::Exec,
        partial_package::StoredChunk,
    },
};

/// Starts the download of an Exec with an HTTP URL.
// spec: oma-001 8.1.2.12, oma-002 fumo.download, oma-002 fumo.both (Download User Agent)
pub(super) fn begin_download(owners: &mut Owners, now: Now, request: DownloadRequest) {
    if is_occupied(owners) {
        if owners.update.is_of(request.correlator.as_ref()) && has_download(owners) {
            return;
        }
        let DownloadRequest { operation, correlator, subject, .. } = request;
        let exec = Exec { operation, correlator, subject };
        return push_alert(owners, now, exec, ResultCode::WRONG_STATE);
    }
    let DownloadRequest { operation, correlator, subject, .. } = request;
    if owners.dm.reports.holds(operation, correlator.as_ref(), subject.as_ref()) {
        return tracing::info!("the Exec is repeated before its result is acknowledged");
    }
    owners.update.begin_at_once(Exec { operation, correlator, subject });
    owners.dm.reports.begin(request.report);
    owners.prompts.begin_operation();
    owners.download.begin(request.url);
    owners.update.receive();
    owners.effects.mark_dirty();
    fetch_next(owners, now);
}

/// Returns how much of the image is synced, per mille, while one is fetched.
pub(super) fn download_progress(owners: &Owners) -> Option<u16> {
    owners.download.progress_per_mille(owners.reception.layout()?.image_bytes())
}

/// Starts the installation of the stored package.
// spec: oma-001 8.1.1.11, oma-002 fumo.update, oma-000 8.2.4.1 (Exec Update)
pub(super) fn exec_update(
    owners: &mut Owners,
    now: Now,
    subject: Option<ComponentTarget>,
    correlator: Option<Correlator>,
) -> StatusCode {
    if owners.dm.reports.holds(Update, correlator.as_ref(), subject.as_ref()) {
        return StatusCode::ACCEPTED;
    }
    let is_held = owners.update.is_verified() && owners.update.awaits_exec();
    if is_held && owners.update.concerns(subject.as_ref()) {
        owners.update.begin_at_once(Exec { operation: Update, correlator, subject });
        owners.effects.mark_dirty();
        verify_image(owners);
        return StatusCode::ACCEPTED;
    }
    if owners.update.is_update() {
        let again = owners.update.is_repeated_by(correlator.as_ref());
        return if again { StatusCode::ACCEPTED } else { StatusCode::FORBIDDEN };
    }
    let package = subject.as_ref().map(|subject| &subject.package);
    match owners.download.take_refusal(package) {
        Some(result) => {
            push_alert(owners, now, Exec { operation: Update, correlator, subject }, result);
            StatusCode::ACCEPTED
        }
        None => StatusCode::FORBIDDEN,
    }
}

/// Starts the operation of an Exec in the inventory.
// spec: oma-002 scomo.activate, oma-002 scomo.install
pub(super) fn begin_change(
    owners: &mut Owners,
    now: Now,
    subject: ComponentTarget,
    correlator: Option<Correlator>,
) -> StatusCode {
    if matches!(subject.operation, scomo::Operation::Install | scomo::Operation::InstallInactive) {
        return exec_update(owners, now, Some(subject), correlator);
    }
    if subject.operation == scomo::Operation::RemovePackage {
        return remove_package(owners, now, subject, correlator);
    }
    let Some(verb) = Verb::of(subject.operation) else { return StatusCode::NOT_ALLOWED };
    if is_occupied(owners) {
        let is_same = owners.update.subject() == Some(&subject);
        if !(is_same && owners.update.is_repeated_by(correlator.as_ref())) {
            let exec = Exec { operation: Update, correlator, subject: Some(subject) };
            push_alert(owners, now, exec, ResultCode::WRONG_STATE);
        }
        return StatusCode::ACCEPTED;
    }
    if owners.dm.reports.holds(Update, correlator.as_ref(), Some(&subject)) {
        return StatusCode::ACCEPTED;
    }
    // A pending answer of the installer would be mistaken for one after the change.
    if !owners.installer.may_install() {
        let exec = Exec { operation: Update, correlator, subject: Some(subject) };
        push_alert(owners, now, exec, ResultCode::WRONG_STATE);
        return StatusCode::ACCEPTED;
    }
    let request = ChangeRequest { contract: CONTRACT_VERSION, id: subject.package.clone() };
    owners.update.begin(Exec { operation: Update, correlator, subject: Some(subject) });
    owners.dm.reports.begin(ReportSettings::default());
    owners.installer.start(None);
    owners.update.hand_over();
    owners.effects.mark_dirty();
    owners.effects.push_after_commit(InstallerCall::ChangeComponent(verb, request));
    StatusCode::ACCEPTED
}

/// Removes a package. Without its data a package is just a node.
pub(super) fn remove_package(
    owners: &mut Owners,
    now: Now,
    subject: ComponentTarget,
    correlator: Option<Correlator>,
) -> StatusCode {
    if owners.update.awaits_exec() && owners.update.concerns(Some(&subject)) {
        drop_package(owners);
    } else if is_occupied(owners) && owners.update.concerns(Some(&subject)) {
        return StatusCode::FORBIDDEN;
    }
    owners.announced.remove(Branch::Delivered, &subject.node);
    let exec = Exec { operation: Update, correlator, subject: Some(subject) };
    push_alert(owners, now, exec, ResultCode::SUCCESS);
    StatusCode::ACCEPTED
}

/// Stores the package of a Replace; an empty value deletes the stored one.
// spec: oma-001 8.1.1.10, oma-002 fumo.direct (the package by Replace)
pub(super) fn receive_package_data(
    owners: &mut Owners,
    subject: Option<ComponentTarget>,
    octets: &[u8],
) -> StatusCode {
    let held = holds_package(owners, subject.as_ref());
    if !held && is_occupied(owners) {
        return StatusCode::FORBIDDEN;
    }
    let length = u64::try_from(octets.len()).unwrap_or(u64::MAX);
    if length > owners.config.limits.max_package_bytes {
        return StatusCode::TOO_LARGE;
    }
    if length > owners.config.limits.max_storage_bytes {
        return StatusCode::DEVICE_FULL;
    }
    if held {
        drop_package(owners);
    }
    owners.download.begin_anew();
    for name in owners.partial_package.discard() {
        owners.effects.push_after_commit(StorageCommand::RemoveFile(FileName::ours(&name)));
    }
    if octets.is_empty() {
        return StatusCode::OK;
    }
    let package = subject.as_ref().map(|subject| subject.package.clone());
    if let Err(Refusal { result, reason, detail }) = hold_package(owners, subject, octets) {
        tracing::info!(%result, reason, detail, "package refused");
        owners.download.refuse(package, result);
    }
    StatusCode::OK
}

/// Returns whether a package waits for its Exec; another may replace it.
pub(super) fn holds_package(owners: &Owners, subject: Option<&ComponentTarget>) -> bool {
    owners.update.is_held() && owners.update.concerns(subject)
}

/// Stores a package. The image is hashed here and written before the journal records it.
pub(super) fn hold_package(
    owners: &mut Owners,
    subject: Option<ComponentTarget>,
    octets: &[u8],
) -> Result<(), Refusal> {
    let refusal =
        |result, detail: &str| Refusal { result, reason: "package", detail: detail.to_owned() };
    let head = BundleHead::parse(octets)
        .map_err(|error| refusal(ResultCode::NOT_ACCEPTABLE, &error.to_string()))?;
    let accepted = evaluate_bundle(owners, &head, subject.as_ref())?;
    let place = |octets: u64| usize::try_from(octets).unwrap_or(usize::MAX);
    let (from, length) = (place(head.image_offset), place(head.image_octets));
    let image = octets.get(from..from.saturating_add(length));
    let image = image.ok_or_else(|| refusal(ResultCode::CORRUPTED, "it is cut short"))?;
    if sha256(&[image]) != accepted.object.stored_sha256 {
        return Err(refusal(ResultCode::CORRUPTED, "the image is not the signed one"));
    }
    owners.update.begin_held(subject);
    owners.prompts.begin_operation();
    let (image_offset, object) = (head.image_offset, accepted.object);
    let image_octets = head.image_octets;
    let layout = ObjectLayout::new(object.object_key, object.stored_sha256, object.oti);
    owners.effects.push(StorageCommand::WriteImage(layout, 0, image.to_vec()));
    arm_bundle(owners, head, accepted);
    owners.download.hold(image_offset, image_octets);
    let changed = owners.update.verify();
    mark_dirty_if(owners, changed);
    Ok(())
}

pub(super) fn drop_package(owners: &mut Owners) {
    owners.update.drop_package();
    owners.download.drop_package();
    owners.effects.drop_object_work();
    owners.reception.disarm();
    owners.reception.forget_progress_except(None);
    owners.effects.mark_dirty();
    owners.effects.push_after_commit(StorageCommand::RemoveOtherObjects(Vec::new()));
}

pub(super) fn import(
    owners: &mut Owners,
    now: Now,
    path: &str,
    head: &[u8],
) -> Result<String, Refusal> {
    let refusal = |result, reason, detail: String| Refusal { result, reason, detail };
    if is_occupied(owners) {
        let detail = format!("the device is {}", owners.update.phase());
        return Err(refusal(ResultCode::WRONG_STATE, "state", detail));
    }
    let head = BundleHead::parse(head)
        .map_err(|error| refusal(ResultCode::NOT_ACCEPTABLE, "malformed", error.to_string()))?;
    let accepted = evaluate_bundle(owners, &head, None)?;
    let version = accepted.manifest.firmware_version.clone();
    let operation = Operation::DownloadAndUpdate;
    owners.update.begin_at_once(Exec { operation, correlator: None, subject: None });
    owners.dm.reports.begin(ReportSettings::default());
    owners.prompts.begin_user_operation();
    owners.download.begin_import(path);
    arm_bundle(owners, head, accepted);
    let changed = owners.update.receive();
    mark_dirty_if(owners, changed);
    fetch_next(owners, now);
    Ok(version)
}

/// Stores a chunk of a package, unless the package would be refused.
pub(super) fn store_chunk_of_package(owners: &mut Owners, position: ChunkPosition, octets: &[u8]) {
    if is_occupied(owners) && !holds_package(owners, None) {
        return owners.partial_package.drop_chunk();
    }
    let limits = &owners.config.limits;
    let limit = limits.max_package_bytes.min(limits.max_storage_bytes);
    let StoredChunk { removed, written } =
        owners.partial_package.store_chunk(position, octets, limit);
    for name in removed {
        owners.effects.push_after_commit(StorageCommand::RemoveFile(FileName::ours(&name)));
    }
    if let Some((name, file)) = written {
        owners.effects.push(StorageCommand::WriteOptionalFile(FileName::ours(&name), file));
        // The status of the chunk follows a write of the journal, and that follows this one.
        owners.effects.mark_dirty();
    }
}

/// Appends the remainder to the synced part and stores the package.
pub(super) fn receive_remainder_of_package(owners: &mut Owners, remainder: &[u8]) -> StatusCode {
    match owners.partial_package.with_remainder(remainder) {
        Some(package) => receive_package_data(owners, None, &package),
        None => StatusCode::NOT_FOUND,
    }
}

/// Returns the view of the components for the management tree.
pub(super) fn software_view(owners: &Owners) -> Option<Software> {
    let is_shown = owners.prompts.shows_inventory(owners.installer.inventory_access())?;
    let subject = owners.update.subject().filter(|_| is_occupied(owners));
    let status = owners.update.phase().state(package_data(owners)).number();
    let is_held = owners.update.is_held();
    Some(Software {
        is_shown,
        announced: owners.announced.clone(),
        deployed: owners.installer.deployed().unwrap_or_default().to_vec(),
        working: subject.map(|subject| (subject.clone(), status)),
        held: subject.filter(|_| is_held).map(|subject| subject.node.clone()),
    })
}
