//! Reception, from the open window to the end of the operation: receive, decode, verify, hand off.

use std::net::{IpAddr, SocketAddr};

use proto::{
    dm::{
        fumo::{Phase, ResultCode},
        scomo::Branch,
    },
    flute::{alc::Packet, ext},
    ids::Sbn,
    time::{Mono, Now},
    trust::PlannedObject,
    tune_in::TuneIn,
};

use super::{
    AgentState, ConsentGranted, DeferredEffect, Output, VerifyError,
    persistent_state::DecodeProgress,
};
use crate::{
    dm::FinalAlert,
    flute::{
        decode::DecodeOutcome,
        object::{Object, PacketKind},
    },
    store::{Limits, Recovered, StorageError, SymbolLog, Ticket},
    update::installer::{CONTRACT_VERSION, InstallOutcome, InstallRequest},
};

/// Octets of a datagram that can be an ALC packet of ours.
const DATAGRAM_BYTES: std::ops::RangeInclusive<usize> = 12..=1472;

impl AgentState {
    /// Handles a datagram. The order of checks is that of security facts 4.5: each step costs more
    /// than the one before.
    pub(super) fn handle_datagram(
        &mut self,
        now: Now,
        channel: SocketAddr,
        source: IpAddr,
        datagram: &[u8],
    ) {
        self.stats.datagrams += 1;
        let Some(operation) = &mut self.operation else {
            self.stats.not_tuned_in += 1;
            return;
        };
        let mut on_channel =
            self.joined.iter().filter(|tune_in| tune_in.channel == channel).peekable();
        if on_channel.peek().is_none() {
            self.stats.not_tuned_in += 1;
            return;
        }
        if !DATAGRAM_BYTES.contains(&datagram.len()) {
            self.stats.malformed += 1;
            return;
        }
        let Ok(packet) = Packet::parse(datagram) else {
            self.stats.malformed += 1;
            return;
        };
        if !on_channel.any(|joined| joined.source == source && joined.tsi == packet.header.tsi) {
            self.stats.wrong_session += 1;
            return;
        }
        let Some(object) = &mut operation.object else {
            self.stats.data_dropped += 1;
            return;
        };
        let Some(packet_kind) = packet.header.toi.and_then(|toi| object.packet_kind(toi)) else {
            self.stats.other_object += 1;
            return;
        };
        if fec_mismatch(&packet, packet_kind, object.planned()) {
            self.stats.fec_mismatch += 1;
            return;
        }
        operation.session_received = true;
        object.handle_packet(now.mono, packet_kind, &packet, &mut self.stats);
        self.blocks_dirty = true;
    }

    pub(super) fn handle_timeout(&mut self, now: Now) {
        if let Some(object) = self.object_mut() {
            object.log_mut().handle_timeout(now.mono);
        }
        self.tune(now);
        self.end_windows(now);
    }

    /// Checks whether received or synced symbols complete a block or the object.
    pub(super) fn poll_blocks(&mut self, now: Now) {
        if !std::mem::take(&mut self.blocks_dirty) {
            return;
        }
        let Some(object) = self.operation.as_mut().and_then(|operation| operation.object.as_mut())
        else {
            return;
        };
        object.blocks_mut().flush_complete_blocks();
        let job = object.blocks_mut().next_decode();
        let assembled = object.blocks().is_assembled();
        if let Some(job) = job {
            self.effects.push(Output::Decode(job));
        }
        if assembled && self.is_receiving() {
            self.set_phase(Phase::Assembled);
            self.verify_image();
        }
        self.tune(now);
        self.end_windows(now);
    }

    pub(super) fn handle_recovered(&mut self, now: Now, recovered: &Recovered) {
        let Some(operation) = &mut self.operation else { return };
        let planned = operation.accepted.object;
        let solved = self.persistent.progress.entry(planned.object_key).or_default();
        let log = SymbolLog::recovered(
            operation.layout.clone(),
            Limits::default(),
            recovered,
            &solved.blocks,
            &solved.bad,
        );
        let verified = solved.verified;
        operation.reserved = recovered.files_ready;
        operation.resumed = log.synced_total();
        let mut object = Object::new(planned, log);
        object.recover_tables(&recovered.tables);
        if let Some(header) = operation.plan_header.as_deref() {
            object.receive_header(header, &mut self.stats);
        }
        operation.object = Some(object);
        self.blocks_dirty = true;
        if self.phase() == Phase::Assembled {
            self.verify_image();
        } else if matches!(self.phase(), Phase::Verified | Phase::Deferred) && verified {
            self.after_verification(now);
        } else {
            self.ask_for_consent(now);
            self.tune(now);
        }
    }

    pub(super) fn handle_open_failed(&mut self, now: Now, error: &StorageError) {
        if self.operation.is_none() {
            return;
        }
        tracing::warn!(%error, "storage not opened");
        match error {
            StorageError::NoSpace { .. } => {
                self.complete(now, Phase::Failed, ResultCode::NO_ROOM_TO_DOWNLOAD);
            }
            // What was synced before may still be there when the campaign is armed again.
            StorageError::Io { .. } => {
                self.complete(now, Phase::Incomplete, ResultCode::CLIENT_ERROR);
            }
        }
    }

    /// Records the failed slots in the journal. A storage that fails repeatedly ends the operation;
    /// synced symbols stay.
    pub(super) fn handle_log_failed(&mut self, now: Now, ticket: Ticket, error: &StorageError) {
        let Some(operation) = &mut self.operation else { return };
        let key = operation.layout.object_key();
        let Some(object) = &mut operation.object else { return };
        object.log_mut().handle_failed(now.mono, ticket);
        let (bad, has_failed) = (object.log().bad_runs(), object.log().has_failed());
        self.persistent.progress.entry(key).or_default().bad = bad;
        self.effects.mark_dirty();
        self.blocks_dirty = true;
        if has_failed && self.is_receiving() {
            let result = match error {
                StorageError::NoSpace { .. } => ResultCode::NO_ROOM_TO_DOWNLOAD,
                StorageError::Io { .. } => ResultCode::CLIENT_ERROR,
            };
            self.complete(now, Phase::Incomplete, result);
        }
    }

    pub(super) fn handle_decoded(&mut self, now: Now, sbn: Sbn, outcome: &DecodeOutcome) {
        if let DecodeOutcome::Failed(error) = outcome {
            tracing::warn!(%error, "block not written");
        }
        let Some(operation) = &mut self.operation else { return };
        let key = operation.layout.object_key();
        let Some(object) = &mut operation.object else { return };
        object.blocks_mut().handle_decoded(sbn, outcome);
        self.blocks_dirty = true;
        match outcome {
            DecodeOutcome::Done => {
                self.persistent.progress.entry(key).or_default().blocks.insert(sbn);
                self.effects.mark_dirty();
                self.effects.run_after_commit(DeferredEffect::BlockDone(sbn));
            }
            DecodeOutcome::Failed(StorageError::NoSpace { .. }) => {
                self.complete(now, Phase::Failed, ResultCode::NO_ROOM_TO_DOWNLOAD);
            }
            DecodeOutcome::NeedsMore
            | DecodeOutcome::LostSlots(_)
            | DecodeOutcome::Failed(StorageError::Io { .. }) => self.tune(now),
        }
    }

    pub(super) fn handle_image_verified(&mut self, now: Now, outcome: Result<(), VerifyError>) {
        let by_unicast = self.has_download();
        let Some(operation) = &mut self.operation else { return };
        let key = operation.layout.object_key();
        match outcome {
            Ok(()) => {
                self.persistent.progress.entry(key).or_default().verified = true;
                if self.phase() != Phase::Deferred {
                    self.set_phase(Phase::Verified);
                }
                self.after_verification(now);
            }
            // A unicast image is not decoded: it is fetched again when the server requests it.
            Err(VerifyError::WrongDigest) if by_unicast => {
                self.complete(now, Phase::Failed, ResultCode::CORRUPTED);
            }
            Err(VerifyError::Storage(error)) if by_unicast => {
                tracing::warn!(%error, "package not read back");
                self.complete(now, Phase::Failed, ResultCode::CLIENT_ERROR);
            }
            // Symbols are exact, so the stored blocks were damaged: decode them once more.
            Err(VerifyError::WrongDigest) if !self.persistent.was_redecoded(key) => {
                operation.object = None;
                let layout = operation.layout.clone();
                let solved = self.persistent.progress.entry(key).or_default();
                let bad = std::mem::take(&mut solved.bad);
                *solved = DecodeProgress { bad, redecoded: true, ..DecodeProgress::default() };
                self.set_phase(Phase::Receiving);
                self.effects.push_after_commit(Output::Open(layout));
            }
            Err(VerifyError::WrongDigest) => {
                self.complete(now, Phase::Failed, ResultCode::CORRUPTED);
            }
            Err(VerifyError::Storage(error)) => self.effects.fail(error),
        }
    }

    /// Hands the image to the installer, at most once: the journal records the hand-off before it
    /// begins. A suspended device stores the image until it resumes.
    pub(super) fn install(&mut self, now: Now) {
        if !self.persistent.suspended.is_empty() {
            return self.tune(now);
        }
        if !self.install_allowed() {
            self.set_phase(Phase::Deferred);
            self.tune(now);
            return self.ask_for_consent(now);
        }
        let Some(operation) = &self.operation else { return };
        // A pending answer from the start would be mistaken for one after the installation.
        if !self.knows_what_is_installed() {
            return;
        }
        let manifest = &operation.accepted.manifest;
        let object = operation.accepted.object;
        let request = InstallRequest {
            contract: CONTRACT_VERSION,
            campaign: operation.accepted.campaign.id.to_string(),
            firmware_version: manifest.firmware_version.clone(),
            component: object.component.0,
            length: object.oti.parameters().transfer_length,
            sha256: object.stored_sha256.to_string(),
            software_component: self.component_install().map(Box::new),
        };
        let layout = operation.layout.clone();
        self.persistent.expected_version = Some(manifest.firmware_version.clone());
        self.tune(now);
        self.set_phase(Phase::HandedOver);
        self.installing = true;
        self.effects.push_after_commit(Output::Install(layout, request));
    }

    // spec: oma-001 8.1.1.13, oma-001 8.1.2.20
    pub(super) fn handle_installed(&mut self, now: Now, outcome: InstallOutcome) {
        self.installing = false;
        if self.phase() != Phase::HandedOver {
            return;
        }
        match outcome {
            InstallOutcome::Done if self.persistent.subject.is_some() => self.list_components(),
            InstallOutcome::Done => self.effects.push(Output::ReadVersion),
            InstallOutcome::RebootNeeded => {
                tracing::info!("installer requests a reboot");
                self.persistent.reboot_requested_in_boot = Some(self.boot_id.clone());
                self.effects.mark_dirty();
            }
            InstallOutcome::Failed => {
                self.complete(now, Phase::Failed, ResultCode::UPDATE_FAILED);
            }
            InstallOutcome::NotRun => {
                self.complete(now, Phase::Failed, ResultCode::HAND_OFF_FAILED);
            }
        }
    }

    // spec: oma-000 8.2.5.2, oma-003 5.5.1.4
    /// Compares the installed version with the expected one; the installer's exit code is not
    /// trusted.
    pub(super) fn handle_version(&mut self, now: Now, version: Option<String>) {
        let is_first = self.firmware_version.replace(version.unwrap_or_default()).is_none();
        if is_first && matches!(self.phase(), Phase::Verified | Phase::Deferred) {
            return self.after_verification(now);
        }
        let waits_for_boot =
            self.persistent.reboot_requested_in_boot.as_ref() == Some(&self.boot_id);
        let is_firmware = self.persistent.subject.is_none();
        if self.phase() != Phase::HandedOver || waits_for_boot || !is_firmware {
            return;
        }
        if self.firmware_version == self.persistent.expected_version {
            self.remember_installed();
            self.complete(now, Phase::Confirmed, ResultCode::SUCCESS);
        } else {
            self.complete(now, Phase::Failed, ResultCode::UPDATE_FAILED);
        }
    }

    pub(super) fn remember_installed(&mut self) {
        let class = self.device_class_of(self.persistent.subject.as_ref()).class;
        let Some(operation) = &self.operation else { return };
        self.trust.record_installed(class, &operation.accepted.manifest);
    }

    // spec: oma-001 8.1.2.22
    /// Ends the operation with a result, which is scheduled for its report.
    pub(super) fn complete(&mut self, now: Now, phase: Phase, result: ResultCode) {
        tracing::info!(%phase, %result, text = result.text(), "operation ended");
        self.notify_result(now, phase, result);
        let has_download = self.has_download();
        self.end_download(now, result);
        let campaign = self.persistent.armed.as_ref().map(|pin| pin.id);
        let subject = self.persistent.subject.take();
        match &subject {
            // The image is removed with the operation, and a removed component may be installed
            // again.
            Some(subject) => {
                self.persistent.announced.remove(Branch::Delivered, &subject.node);
            }
            None => {
                let ended = campaign.filter(|_| super::ends_well(result));
                ended.into_iter().for_each(|campaign| self.trust.record_finished(campaign));
            }
        }
        let alert = FinalAlert {
            correlator: self.persistent.correlator.take(),
            operation: self.persistent.operation,
            result,
            campaign,
            subject,
        };
        self.reports.schedule(now.utc, alert, &mut self.rng);
        self.persistent.result = Some(result);
        self.persistent.armed = None;
        self.persistent.expected_version = None;
        self.persistent.reboot_requested_in_boot = None;
        self.persistent.suspended.clear();
        self.persistent.consent = ConsentGranted::Nothing;
        let had_image = has_download || self.operation.is_some();
        // Symbols of an incomplete image are reused when it is broadcast again.
        let kept = self.operation.take().map(|operation| operation.layout);
        let kept = kept.filter(|_| matches!(phase, Phase::Incomplete | Phase::Missed));
        self.tuner = crate::flute::tuner::Tuner::default();
        self.set_phase(phase);
        self.effects.mark_dirty();
        self.tune(now);
        if had_image {
            let keeps = |key| kept.as_ref().is_some_and(|layout| layout.object_key() == key);
            self.persistent.progress.retain(|key, _| keeps(*key));
            self.effects.push_after_commit(Output::RemoveOtherObjects(kept));
        }
    }

    /// Joins and leaves channels until they are those that the open windows need.
    pub(super) fn tune(&mut self, now: Now) {
        let wanted: Vec<TuneIn> = if self.wants_packets() {
            self.tuner.wanted(now.mono).cloned().collect()
        } else {
            Vec::new()
        };
        if wanted == self.joined {
            return;
        }
        if !wanted.is_empty() && self.phase() == Phase::Armed {
            self.set_phase(Phase::Receiving);
        }
        let before = std::mem::replace(&mut self.joined, wanted.clone());
        for left in before.iter().filter(|tune_in| !wanted.contains(tune_in)) {
            self.effects.push(Output::Leave(left.clone()));
        }
        for joined in wanted.into_iter().filter(|tune_in| !before.contains(tune_in)) {
            self.effects.push_after_commit(Output::Join(joined));
        }
    }

    /// Resumes reception or download.
    pub(super) fn resume_reception(&mut self, now: Now) {
        self.tune(now);
        self.fetch_next(now);
    }

    /// Returns whether the object needs more packets.
    fn wants_packets(&self) -> bool {
        let wants = self.object().is_some_and(|object| !object.blocks().has_enough());
        wants
            && self.download_allowed()
            && self.persistent.suspended.is_empty()
            && matches!(self.phase(), Phase::Armed | Phase::Receiving)
    }

    /// Returns whether blocks are still being received or decoded.
    fn is_receiving(&self) -> bool {
        matches!(self.phase(), Phase::Armed | Phase::Receiving | Phase::Suspended)
    }

    /// Ends the operation after the last window, unless enough symbols are received.
    fn end_windows(&mut self, now: Now) {
        let Some(operation) = &mut self.operation else { return };
        let Some(object) = &mut operation.object else { return };
        let received = operation.session_received || object.log().synced_total() > 0;
        let done = object.blocks().has_enough();
        let over = self.tuner.is_over(now.mono);
        if over && !object.log().is_quiet() {
            // The last symbols are synced for another window; the flush leads here again.
            object.log_mut().flush();
            return;
        }
        if !over || done || !self.is_receiving() {
            return;
        }
        let (phase, result) = if self.phase() == Phase::Armed {
            (Phase::Missed, ResultCode::MISSED)
        } else if received {
            (Phase::Incomplete, ResultCode::INCOMPLETE)
        } else {
            (Phase::Incomplete, ResultCode::NOTHING_RECEIVED)
        };
        self.complete(now, phase, result);
    }

    pub(super) fn tuner_deadline(&self, now: Mono) -> Option<Mono> {
        self.operation.as_ref()?;
        self.tuner.next_change(now)
    }
}

/// Returns whether the FEC information of a packet differs from that of the campaign: such a packet
/// is not meant for this device.
fn fec_mismatch(packet: &Packet<'_>, packet_kind: PacketKind, planned: &PlannedObject) -> bool {
    let codepoint = match packet_kind {
        PacketKind::Data | PacketKind::Table => proto::fec::ENCODING_ID_RAPTORQ,
        PacketKind::Header => proto::fec::ENCODING_ID_NO_CODE,
    };
    if packet.header.codepoint != codepoint {
        return true;
    }
    packet_kind == PacketKind::Data
        && packet.extensions.find(ext::FTI).is_some()
        && !packet
            .extensions
            .fti(codepoint)
            .is_ok_and(|found| found == Some(proto::fec::oti::Oti::RaptorQ(planned.oti)))
}
