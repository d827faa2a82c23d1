//! From the open window to the end of the operation: hear, solve, check, hand off.

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
    Core, FinishError, Given, Internal, Output,
    books::{Installed, Solved},
};
use crate::{
    decode::DecodeOutcome,
    dm::FinalAlert,
    installer::{CONTRACT_VERSION, InstallOutcome, InstallRequest},
    object::{Carries, Object},
    symbols::{Limits, Recovered, StorageError, SymbolLog, Ticket},
};

/// Octets of a datagram that can be an ALC packet of ours.
const DATAGRAM_BYTES: std::ops::RangeInclusive<usize> = 12..=1472;

impl Core {
    /// The order of checks is that of security facts 4.5: each step costs more than the one before.
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
            self.stats.foreign += 1;
            return;
        }
        let Some(object) = &mut operation.object else {
            self.stats.data_dropped += 1;
            return;
        };
        let Some(carries) = packet.header.toi.and_then(|toi| object.carries(toi)) else {
            self.stats.other_object += 1;
            return;
        };
        if contradicts(&packet, carries, object.planned()) {
            self.stats.contradicts += 1;
            return;
        }
        operation.heard_session = true;
        object.handle_packet(now.mono, carries, &packet, &mut self.stats);
        self.heard = true;
    }

    pub(super) fn handle_timeout(&mut self, now: Now) {
        if let Some(object) = self.object_mut() {
            object.log_mut().handle_timeout(now.mono);
        }
        self.tune(now);
        self.end_windows(now);
    }

    /// Looks whether symbols that came in, or got synced, finish a block or the whole.
    pub(super) fn look_at_blocks(&mut self, now: Now) {
        if !std::mem::take(&mut self.heard) {
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
            self.outputs.work(Output::Decode(job));
        }
        if assembled && self.is_receiving() {
            self.enter(Phase::Assembled);
            self.finish();
        }
        self.tune(now);
        self.end_windows(now);
    }

    pub(super) fn handle_recovered(&mut self, now: Now, recovered: &Recovered) {
        let Some(operation) = &mut self.operation else { return };
        let planned = operation.accepted.object;
        let solved = self.books.progress.entry(planned.object_key).or_default();
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
            object.offer_header(header, &mut self.stats);
        }
        operation.object = Some(object);
        self.heard = true;
        if self.phase() == Phase::Assembled {
            self.finish();
        } else if matches!(self.phase(), Phase::Verified | Phase::Deferred) && verified {
            self.proceed(now);
        } else {
            self.ask_for_consent(now);
            self.tune(now);
        }
    }

    pub(super) fn handle_open_failed(&mut self, now: Now, error: &StorageError) {
        if self.operation.is_none() {
            return;
        }
        tracing::warn!(%error, "no room for the reception");
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

    /// The journal remembers which slots failed; a storage that fails on and on ends the operation,
    /// and what is synced stays.
    pub(super) fn handle_log_failed(&mut self, now: Now, ticket: Ticket, error: &StorageError) {
        let Some(operation) = &mut self.operation else { return };
        let key = operation.layout.object_key();
        let Some(object) = &mut operation.object else { return };
        object.log_mut().handle_failed(now.mono, ticket);
        let (bad, has_failed) = (object.log().bad_runs(), object.log().has_failed());
        self.books.progress.entry(key).or_default().bad = bad;
        self.outputs.mark_changed();
        self.heard = true;
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
            tracing::warn!(%error, "a block could not be written");
        }
        let Some(operation) = &mut self.operation else { return };
        let key = operation.layout.object_key();
        let Some(object) = &mut operation.object else { return };
        object.blocks_mut().handle_decoded(sbn, outcome);
        self.heard = true;
        match outcome {
            DecodeOutcome::Done => {
                self.books.progress.entry(key).or_default().blocks.insert(sbn);
                self.outputs.mark_changed();
                self.outputs.then(Internal::BlockDone(sbn));
            }
            DecodeOutcome::Failed(StorageError::NoSpace { .. }) => {
                self.complete(now, Phase::Failed, ResultCode::NO_ROOM_TO_DOWNLOAD);
            }
            DecodeOutcome::NeedsMore
            | DecodeOutcome::LostSlots(_)
            | DecodeOutcome::Failed(StorageError::Io { .. }) => self.tune(now),
        }
    }

    pub(super) fn handle_finished(&mut self, now: Now, outcome: Result<(), FinishError>) {
        let by_unicast = self.has_download();
        let Some(operation) = &mut self.operation else { return };
        let key = operation.layout.object_key();
        match outcome {
            Ok(()) => {
                self.books.progress.entry(key).or_default().verified = true;
                if self.phase() != Phase::Deferred {
                    self.enter(Phase::Verified);
                }
                self.proceed(now);
            }
            // What came by unicast is not solved: it is fetched again when the server says so.
            Err(FinishError::WrongDigest) if by_unicast => {
                self.complete(now, Phase::Failed, ResultCode::CORRUPTED);
            }
            Err(FinishError::Storage(error)) if by_unicast => {
                tracing::warn!(%error, "a package cannot be read back");
                self.complete(now, Phase::Failed, ResultCode::CLIENT_ERROR);
            }
            // Symbols are exact, so the blocks were damaged at rest: solve them once more.
            Err(FinishError::WrongDigest) if !self.books.has_solved_anew(key) => {
                operation.object = None;
                let layout = operation.layout.clone();
                let solved = self.books.progress.entry(key).or_default();
                let bad = std::mem::take(&mut solved.bad);
                *solved = Solved { bad, solved_anew: true, ..Solved::default() };
                self.enter(Phase::Receiving);
                self.outputs.show(Output::Open(layout));
            }
            Err(FinishError::WrongDigest) => {
                self.complete(now, Phase::Failed, ResultCode::CORRUPTED);
            }
            Err(FinishError::Storage(error)) => self.outputs.fail(error),
        }
    }

    /// Hand-off happens at most once: the journal says that it began before it begins. A device
    /// that is to rest keeps the image until it may go on.
    pub(super) fn hand_over(&mut self, now: Now) {
        if !self.books.suspended.is_empty() {
            return self.tune(now);
        }
        if !self.may_install() {
            self.enter(Phase::Deferred);
            self.tune(now);
            return self.ask_for_consent(now);
        }
        let Some(operation) = &self.operation else { return };
        // The answer to a question of the start would be taken for one after the installation.
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
        self.books.expected_version = Some(manifest.firmware_version.clone());
        self.tune(now);
        self.enter(Phase::HandedOver);
        self.installing = true;
        self.outputs.show(Output::Install(layout, request));
    }

    // spec: oma-001 8.1.1.13, oma-001 8.1.2.20
    pub(super) fn handle_installed(&mut self, now: Now, outcome: InstallOutcome) {
        self.installing = false;
        if self.phase() != Phase::HandedOver {
            return;
        }
        match outcome {
            InstallOutcome::Done if self.books.subject.is_some() => self.list_components(),
            InstallOutcome::Done => self.outputs.work(Output::ReadVersion),
            InstallOutcome::RebootNeeded => {
                tracing::info!("the installer waits for a reboot");
                self.books.reboot_of = Some(self.boot_id.clone());
                self.outputs.mark_changed();
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
    /// What is installed decides, not what the installer claimed.
    pub(super) fn handle_version(&mut self, now: Now, version: Option<String>) {
        let is_first = self.firmware_version.replace(version.unwrap_or_default()).is_none();
        if is_first && matches!(self.phase(), Phase::Verified | Phase::Deferred) {
            return self.proceed(now);
        }
        let waits_for_boot = self.books.reboot_of.as_ref() == Some(&self.boot_id);
        let is_firmware = self.books.subject.is_none();
        if self.phase() != Phase::HandedOver || waits_for_boot || !is_firmware {
            return;
        }
        if self.firmware_version == self.books.expected_version {
            self.remember_installed();
            self.complete(now, Phase::Confirmed, ResultCode::SUCCESS);
        } else {
            self.complete(now, Phase::Failed, ResultCode::UPDATE_FAILED);
        }
    }

    pub(super) fn remember_installed(&mut self) {
        let class = self.kind_of(self.books.subject.as_ref()).class;
        let Some(operation) = &self.operation else { return };
        let manifest = &operation.accepted.manifest;
        let floor = self.books.installed.get(&class).map_or(0, |installed| installed.floor);
        let installed = Installed {
            sequence: manifest.sequence,
            floor: floor.max(manifest.floor_after_commit),
            manifest: manifest.digest(),
        };
        self.books.installed.insert(class, installed);
        self.books.t_min = self.books.t_min.max(manifest.not_before);
    }

    // spec: oma-001 8.1.2.22
    /// Ends the operation with a result, which is reported in its slot.
    pub(super) fn complete(&mut self, now: Now, phase: Phase, result: ResultCode) {
        tracing::info!(%phase, %result, text = result.text(), "the operation has ended");
        self.tell_result(now, phase, result);
        let has_download = self.has_download();
        self.end_download(now, result);
        let campaign = self.books.pin.as_ref().map(|pin| pin.id);
        let subject = self.books.subject.take();
        match &subject {
            // The image goes with the operation, and a component that was removed may come back.
            Some(subject) => {
                self.books.announced.remove(Branch::Delivered, &subject.node);
            }
            None => {
                let ended = campaign.filter(|_| super::ends_well(result));
                ended.into_iter().for_each(|campaign| self.books.remember_finished(campaign));
            }
        }
        let alert = FinalAlert {
            correlator: self.books.correlator.take(),
            operation: self.books.operation,
            result,
            campaign,
            subject,
        };
        if self.books.report.wants(&alert, self.chance.number()) {
            let slot = self.books.report.slot(now.utc, self.chance.number());
            self.books.reports.push(alert, slot);
        }
        self.books.result = Some(result);
        self.books.pin = None;
        self.books.expected_version = None;
        self.books.reboot_of = None;
        self.books.suspended.clear();
        self.books.given = Given::Nothing;
        let had_image = has_download || self.operation.is_some();
        // Symbols of an image that is not complete serve again when it is broadcast again.
        let kept = self.operation.take().map(|operation| operation.layout);
        let kept = kept.filter(|_| matches!(phase, Phase::Incomplete | Phase::Missed));
        self.tuner = crate::tuner::Tuner::default();
        self.enter(phase);
        self.outputs.mark_changed();
        self.tune(now);
        if had_image {
            let keeps = |key| kept.as_ref().is_some_and(|layout| layout.object_key() == key);
            self.books.progress.retain(|key, _| keeps(*key));
            self.outputs.show(Output::KeepOnly(kept));
        }
    }

    /// Joins and leaves until the channels are those that are to be heard at this moment.
    pub(super) fn tune(&mut self, now: Now) {
        let wanted: Vec<TuneIn> = if self.listens() {
            self.tuner.wanted(now.mono).cloned().collect()
        } else {
            Vec::new()
        };
        if wanted == self.joined {
            return;
        }
        if !wanted.is_empty() && self.phase() == Phase::Armed {
            self.enter(Phase::Receiving);
        }
        let before = std::mem::replace(&mut self.joined, wanted.clone());
        for left in before.iter().filter(|tune_in| !wanted.contains(tune_in)) {
            self.outputs.work(Output::Leave(left.clone()));
        }
        for joined in wanted.into_iter().filter(|tune_in| !before.contains(tune_in)) {
            self.outputs.show(Output::Join(joined));
        }
    }

    /// Goes on receiving, now that the user has agreed to it.
    pub(super) fn go_on(&mut self, now: Now) {
        self.tune(now);
        self.fetch_next(now);
    }

    /// Returns whether the device wants to hear more of the object.
    fn listens(&self) -> bool {
        let wants = self.object().is_some_and(|object| !object.blocks().is_satisfied());
        wants
            && self.may_download()
            && self.books.suspended.is_empty()
            && matches!(self.phase(), Phase::Armed | Phase::Receiving)
    }

    /// Returns whether blocks are still being collected or solved.
    fn is_receiving(&self) -> bool {
        matches!(self.phase(), Phase::Armed | Phase::Receiving | Phase::Suspended)
    }

    /// After the last window there is nothing more to hope for, unless all that is needed is here.
    fn end_windows(&mut self, now: Now) {
        let Some(operation) = &mut self.operation else { return };
        let Some(object) = &mut operation.object else { return };
        let heard = operation.heard_session || object.log().synced_total() > 0;
        let done = object.blocks().is_satisfied();
        let over = self.tuner.is_over(now.mono);
        if over && !object.log().is_quiet() {
            // What came last is to survive for another window: its flush leads here again.
            object.log_mut().flush();
            return;
        }
        if !over || done || !self.is_receiving() {
            return;
        }
        let (phase, result) = if self.phase() == Phase::Armed {
            (Phase::Missed, ResultCode::MISSED)
        } else if heard {
            (Phase::Incomplete, ResultCode::INCOMPLETE)
        } else {
            (Phase::Incomplete, ResultCode::NOTHING_HEARD)
        };
        self.complete(now, phase, result);
    }

    pub(super) fn tuner_deadline(&self, now: Mono) -> Option<Mono> {
        self.operation.as_ref()?;
        self.tuner.next_change(now)
    }

    fn finish(&mut self) {
        if let Some(operation) = &self.operation {
            self.outputs.show(Output::Finish(operation.layout.clone()));
        }
    }
}

/// An armed device takes its parameters from the campaign: a hint that says otherwise marks a
/// packet that is not meant for it.
fn contradicts(packet: &Packet<'_>, carries: Carries, planned: &PlannedObject) -> bool {
    let codepoint = match carries {
        Carries::Data | Carries::Table => proto::fec::ENCODING_ID_RAPTORQ,
        Carries::Header => proto::fec::ENCODING_ID_NO_CODE,
    };
    if packet.header.codepoint != codepoint {
        return true;
    }
    carries == Carries::Data
        && packet.extensions.find(ext::FTI).is_some()
        && !packet
            .extensions
            .fti(codepoint)
            .is_ok_and(|found| found == Some(proto::fec::oti::Oti::RaptorQ(planned.oti)))
}
