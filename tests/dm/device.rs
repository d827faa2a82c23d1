//! A device that records what the session does to it.

use proto::{
    crypto::sha256,
    dm::{
        code::StatusCode,
        fumo::{PackageData, PackagePrefix, Phase, ResultCode, UpdateRequest},
        ui::{Answer, Prompt},
    },
    ids::Correlator,
    time::Now,
};
use receiver::components::{Announced, ComponentTarget, Software};
use receiver::dm::{
    AccountStore, AlertQueue, ArmRequest, ChunkPosition, DeviceLimits, DeviceView, DownloadRequest,
    FinalAlert, FirmwareBackend, SoftwareBackend, UserPrompt,
};

pub(crate) struct TestDevice {
    pub(crate) firmware: String,
    pub(crate) armed: Option<ArmRequest>,
    pub(crate) queue: Vec<FinalAlert>,
    pub(crate) root: u64,
    pub(crate) user_says: Answer,
    pub(crate) asked: Vec<Prompt>,
    /// Its software components, if it has any.
    pub(crate) software: Option<Software>,
    /// The component operations that it was commanded to start.
    pub(crate) changes: Vec<(ComponentTarget, Option<Correlator>)>,
    /// The download that it was commanded to start.
    pub(crate) download: Option<DownloadRequest>,
    /// The package that was received in the session.
    pub(crate) package: Vec<u8>,
    /// The stored part of one that arrives in chunks, and the offset at which the remainder starts.
    pub(crate) held: Vec<u8>,
    remainder_from: Option<usize>,
    /// The correlator of the Exec that installs it.
    pub(crate) updates: Option<Correlator>,
    pub(crate) nonce: Vec<u8>,
    pub(crate) server_nonce: Vec<u8>,
    made: u8,
    /// The update request that is not yet answered.
    pub(crate) request: Option<UpdateRequest>,
    pub(crate) answer: Option<StatusCode>,
}

impl TestDevice {
    pub(crate) fn new(nonce: Vec<u8>) -> Self {
        Self {
            firmware: "1.0".to_owned(),
            armed: None,
            queue: Vec::new(),
            root: 2,
            user_says: Answer::Yes,
            asked: Vec::new(),
            software: None,
            changes: Vec::new(),
            download: None,
            package: Vec::new(),
            held: Vec::new(),
            remainder_from: None,
            updates: None,
            nonce,
            server_nonce: vec![6; 16],
            made: 0x80,
            request: None,
            answer: None,
        }
    }

    /// Ends what the device is armed for.
    pub(crate) fn finish(&mut self, result: ResultCode) {
        let request = self.armed.take().expect("it is armed");
        let (correlator, operation) = (request.correlator, request.operation);
        let subject = request.subject;
        self.queue.push(FinalAlert { correlator, operation, result, campaign: None, subject });
    }
}

impl FirmwareBackend for TestDevice {
    fn view(&self) -> DeviceView {
        DeviceView {
            firmware_version: self.firmware.clone(),
            phase: match (self.armed.is_some(), self.package.is_empty()) {
                (true, _) => Phase::Armed,
                (false, false) => Phase::Verified,
                (false, true) => Phase::Idle,
            },
            data: PackageData::Deleted,
            reasons: Vec::new(),
            progress_per_mille: 0,
            root_version: self.root,
            package_name: None,
            package_version: None,
            policy: receiver::suspension::Policy::default(),
            limits: DeviceLimits {
                max_block_symbols: 8192,
                max_memory_kib: 65_536,
                max_storage_kib: 4_194_304,
                encodings: vec!["none".to_owned()],
            },
        }
    }

    fn arm(&mut self, _now: Now, request: ArmRequest) {
        self.armed = Some(request);
    }

    fn download(&mut self, _now: Now, request: DownloadRequest) {
        self.download = Some(request);
    }

    fn receive_package(&mut self, _now: Now, package: &[u8]) -> StatusCode {
        self.package = package.to_vec();
        self.held.clear();
        StatusCode::OK
    }

    fn store_chunk(&mut self, piece: ChunkPosition, octets: &[u8]) {
        match piece {
            ChunkPosition::First => self.held.clear(),
            ChunkPosition::Remainder => self.remainder_from = Some(self.held.len()),
            ChunkPosition::Next => {}
        }
        self.held.extend_from_slice(octets);
    }

    fn partial_package(&self) -> Option<PackagePrefix> {
        let octets = u64::try_from(self.held.len()).expect("it is short");
        (octets > 0).then(|| PackagePrefix { octets, sha256: sha256(&[&self.held]) })
    }

    fn receive_remainder(&mut self, now: Now, remainder: &[u8]) -> StatusCode {
        let from = self.remainder_from.take().unwrap_or(self.held.len());
        let package = [&self.held[..from], remainder].concat();
        self.receive_package(now, &package)
    }

    fn update(&mut self, _now: Now, correlator: Option<Correlator>) -> StatusCode {
        self.updates = correlator;
        StatusCode::ACCEPTED
    }

    fn disarm(&mut self, _now: Now) -> StatusCode {
        self.armed = None;
        StatusCode::OK
    }

    fn suspend(&mut self, _now: Now) -> StatusCode {
        StatusCode::OK
    }

    fn resume(&mut self, _now: Now) -> StatusCode {
        StatusCode::OK
    }

    fn offer_root(&mut self, _now: Now, _envelope: &[u8]) -> StatusCode {
        StatusCode::OK
    }
}

impl SoftwareBackend for TestDevice {
    fn software(&self) -> Option<Software> {
        self.software.clone()
    }

    fn store_announced(&mut self, announced: Announced) {
        if let Some(software) = &mut self.software {
            software.announced = announced;
        }
    }

    fn change_component(
        &mut self,
        _now: Now,
        subject: ComponentTarget,
        correlator: Option<Correlator>,
    ) -> StatusCode {
        self.changes.push((subject, correlator));
        StatusCode::ACCEPTED
    }
}

impl AlertQueue for TestDevice {
    fn refuse(&mut self, _now: Now, alert: FinalAlert) {
        self.queue.push(alert);
    }

    fn update_request(&self) -> Option<UpdateRequest> {
        self.request.clone()
    }

    fn on_request_status(&mut self, _now: Now, code: StatusCode) {
        self.request = None;
        self.answer = Some(code);
    }

    fn due_alerts(&self, _now: Now) -> Vec<FinalAlert> {
        self.queue.clone()
    }

    fn on_alert_acknowledged(&mut self, _now: Now, alert: &FinalAlert) {
        self.queue.retain(|queued| queued != alert);
    }
}

impl UserPrompt for TestDevice {
    fn ask_user(&mut self, _now: Now, prompt: Prompt) -> Option<Answer> {
        self.asked.push(prompt);
        Some(self.user_says.clone())
    }
}

impl AccountStore for TestDevice {
    fn store_nonce(&mut self, next_nonce: &[u8]) {
        self.nonce = next_nonce.to_vec();
    }

    fn nonce(&self) -> Vec<u8> {
        self.nonce.clone()
    }

    fn store_server_nonce(&mut self, next_nonce: &[u8]) {
        self.server_nonce = next_nonce.to_vec();
    }

    fn server_nonce(&self) -> Vec<u8> {
        self.server_nonce.clone()
    }

    fn fresh_nonce(&mut self) -> [u8; 16] {
        self.made += 1;
        [self.made; 16]
    }
}
