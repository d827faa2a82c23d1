//! A backend that records the calls of the session.

use std::time::Duration;

use proto::{
    dm::{
        auth::{AuthKind, Secret},
        code::StatusCode,
        encoding::Encoding,
        fumo::{PackageData, Phase},
        ui::{Answer, Prompt},
    },
    ids::Correlator,
    time::{Mono, Now, Utc},
};

use crate::components::{Announced, ComponentTarget, Software};

use super::{
    Account, AccountChange, AccountStore, AlertQueue, ArmRequest, DeviceLimits, DeviceView,
    FinalAlert, FirmwareBackend, Identity, Settings, SoftwareBackend, UserPrompt,
};

/// Returns the time `seconds` after the start of the test.
pub(super) fn at(seconds: u64) -> Now {
    Now {
        mono: Mono(0) + Duration::from_secs(seconds),
        utc: Utc::from_seconds(1_800_000_000 + seconds),
    }
}

pub(super) fn settings() -> Settings {
    Settings {
        identity: Identity::new(
            "LAB-0001".parse().unwrap(),
            "fumocast".to_owned(),
            "lab".to_owned(),
        ),
        account: Account {
            url: "http://127.0.0.1:8080/dm".to_owned(),
            server_id: "server".to_owned(),
            encoding: Encoding::Xml,
            auth: AuthKind::Md5,
            user: "LAB-0001".to_owned(),
            secret: Secret::new("LAB-0001", "password"),
            server: None,
        },
        object: "./FwUpdate/Main".parse().unwrap(),
    }
}

pub(super) struct FakeDevice {
    pub(super) armed: Vec<ArmRequest>,
    /// Rejection by [`FirmwareBackend::arm`], if any.
    pub(super) refusal: Option<FinalAlert>,
    pub(super) queue: Vec<FinalAlert>,
    pub(super) acknowledged: Vec<FinalAlert>,
    pub(super) roots: Vec<Vec<u8>>,
    pub(super) root_answer: StatusCode,
    /// Prompts to the user.
    pub(super) asked: Vec<Prompt>,
    /// Immediate answer of the user; `None`: later.
    pub(super) user_answer: Option<Answer>,
    pub(super) nonce: Vec<u8>,
    pub(super) server_nonce: Vec<u8>,
    pub(super) access_lists: String,
    pub(super) account_change: AccountChange,
    /// The stored package.
    pub(super) package: Vec<u8>,
    pub(super) cannot_remove_package: bool,
    /// Number of created nonces.
    pub(super) made: u8,
    pub(super) calls: Vec<&'static str>,
    /// The software components; `None` without any.
    pub(super) software: Option<Software>,
    /// Changes of components.
    pub(super) changes: Vec<ComponentTarget>,
}

impl Default for FakeDevice {
    fn default() -> Self {
        Self {
            armed: Vec::new(),
            refusal: None,
            queue: Vec::new(),
            acknowledged: Vec::new(),
            roots: Vec::new(),
            root_answer: StatusCode::OK,
            asked: Vec::new(),
            user_answer: Some(Answer::NoUser),
            nonce: b"first".to_vec(),
            server_nonce: b"server first".to_vec(),
            access_lists: String::new(),
            account_change: AccountChange::default(),
            package: Vec::new(),
            cannot_remove_package: false,
            made: 0,
            calls: Vec::new(),
            software: None,
            changes: Vec::new(),
        }
    }
}

impl FirmwareBackend for FakeDevice {
    fn view(&self) -> DeviceView {
        DeviceView {
            firmware_version: "1.2.3".to_owned(),
            phase: if self.armed.is_empty() { Phase::Idle } else { Phase::Armed },
            data: if self.package.is_empty() { PackageData::Deleted } else { PackageData::Stored },
            reasons: vec!["battery".to_owned(), "user".to_owned()],
            progress_per_mille: 125,
            root_version: 4,
            package_name: None,
            package_version: Some("2.0".to_owned()),
            policy: crate::suspension::Policy::default(),
            limits: DeviceLimits {
                max_block_symbols: 8192,
                max_memory_kib: 65_536,
                max_storage_kib: 4_194_304,
                encodings: vec!["none".to_owned()],
            },
        }
    }

    fn arm(&mut self, _now: Now, request: ArmRequest) {
        self.armed.push(request);
        self.queue.extend(self.refusal.take());
    }

    fn receive_package(&mut self, _now: Now, package: &[u8]) -> StatusCode {
        if package.is_empty() && self.cannot_remove_package {
            return StatusCode::FAILED;
        }
        self.package = package.to_vec();
        StatusCode::OK
    }

    fn disarm(&mut self, _now: Now) -> StatusCode {
        self.calls.push("disarm");
        StatusCode::OK
    }

    fn suspend(&mut self, _now: Now) -> StatusCode {
        self.calls.push("suspend");
        StatusCode::OK
    }

    fn resume(&mut self, _now: Now) -> StatusCode {
        self.calls.push("resume");
        StatusCode::OK
    }

    fn offer_root(&mut self, _now: Now, envelope: &[u8]) -> StatusCode {
        self.roots.push(envelope.to_vec());
        self.root_answer
    }
}

impl SoftwareBackend for FakeDevice {
    fn software(&self) -> Option<Software> {
        self.software.clone()
    }

    fn store_announced(&mut self, announced: Announced) {
        if let Some(software) = &mut self.software {
            software.announced = announced;
        }
    }

    fn receive_component(
        &mut self,
        _now: Now,
        _subject: ComponentTarget,
        package: &[u8],
    ) -> StatusCode {
        self.package = package.to_vec();
        StatusCode::OK
    }

    fn change_component(
        &mut self,
        _now: Now,
        subject: ComponentTarget,
        _correlator: Option<Correlator>,
    ) -> StatusCode {
        self.changes.push(subject);
        StatusCode::OK
    }
}

impl AlertQueue for FakeDevice {
    fn refuse(&mut self, _now: Now, alert: FinalAlert) {
        self.queue.push(alert);
    }

    fn due_alerts(&self, _now: Now) -> Vec<FinalAlert> {
        self.queue.clone()
    }

    fn on_alert_acknowledged(&mut self, _now: Now, alert: &FinalAlert) {
        self.queue.retain(|queued| queued != alert);
        self.acknowledged.push(alert.clone());
    }
}

impl UserPrompt for FakeDevice {
    fn ask_user(&mut self, _now: Now, prompt: Prompt) -> Option<Answer> {
        self.asked.push(prompt);
        self.user_answer.clone()
    }
}

impl AccountStore for FakeDevice {
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

    fn access_lists(&self) -> String {
        self.access_lists.clone()
    }

    fn store_access_lists(&mut self, lists: &str) {
        lists.clone_into(&mut self.access_lists);
    }

    fn account_change(&self) -> AccountChange {
        self.account_change.clone()
    }

    fn store_account_change(&mut self, change: AccountChange) {
        self.account_change = change;
    }

    fn fresh_nonce(&mut self) -> [u8; 16] {
        self.made += 1;
        [self.made; 16]
    }
}
