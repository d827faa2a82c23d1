//! Sessions and their table, with a store that counts what is read.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use async_trait::async_trait;
use proto::{
    dm::{encoding::Encoding, syncml::Credential},
    fixtures::device::ScriptedDevice,
    ids::{CampaignId, Correlator},
};

use super::*;
use crate::{
    campaign::model::{Campaign, DeliveryMethod, samples},
    fleet::{
        address::ProvedFrom,
        audit::AuditLine,
        challenge::ChallengeKey,
        device::Nonce,
        memory::MemoryStore,
        package_secret::PackageSecret,
        profile::Profile,
        store::{CampaignDevice, Change, DamagedCampaign, Listed, PhaseCounts},
        store_tests,
    },
};

fn id(name: &str) -> DeviceId {
    name.parse().unwrap()
}

fn table(limit: usize) -> SessionTable<u8> {
    SessionTable::new(limit)
}

// test: oma-002 4 (admission limit)
#[test]
fn only_so_many_sessions_are_open_at_once() {
    let mut table = table(2);
    for name in ["a", "b"] {
        assert!(table.admit(&id(name), Mono(0)).is_some());
        table.release(&id(name), Mono(0), SlotUpdate::SessionOpen);
    }
    assert!(table.admit(&id("c"), Mono(0)).is_none());
    assert!(table.admit(&id("a"), Mono(0)).is_some(), "an open session continues");
    table.release(&id("a"), Mono(0), SlotUpdate::SessionClosed);
    assert!(table.admit(&id("c"), Mono(0)).is_some());
    table.release(&id("c"), Mono(0), SlotUpdate::SessionOpen);
    assert!(table.admit(&id("a"), Mono(0)).is_none(), "its slot was given away");
    assert_eq!(table.active(), 2);
}

#[test]
fn first_messages_in_flight_are_active_too() {
    let mut table = table(1);
    assert!(table.admit(&id("a"), Mono(0)).is_some());
    assert!(table.admit(&id("b"), Mono(0)).is_none());
    assert!(table.admit(&id("a"), Mono(0)).is_some(), "the same device again");
    table.release(&id("a"), Mono(0), SlotUpdate::NoSession);
    assert!(table.admit(&id("b"), Mono(0)).is_none());
    table.release(&id("a"), Mono(0), SlotUpdate::NoSession);
    assert!(table.admit(&id("b"), Mono(0)).is_some());
    assert_eq!(table.active(), 1);
}

#[test]
fn a_device_without_a_session_is_not_stored() {
    let mut table = table(4);
    for number in 0..1_000 {
        let unknown = id(&format!("unknown-{number}"));
        assert!(table.admit(&unknown, Mono(0)).is_some());
        table.release(&unknown, Mono(0), SlotUpdate::NoSession);
    }
    assert!(table.slots.is_empty() && table.active() == 0);
}

#[test]
fn an_idle_session_is_released() {
    let mut table = table(1);
    table.admit(&id("a"), Mono(0)).unwrap();
    table.release(&id("a"), Mono(0), SlotUpdate::SessionOpen);
    let just_before = Mono(0) + (SESSION_IDLE - Duration::from_millis(1));
    assert!(table.admit(&id("b"), just_before).is_none());
    assert!(table.admit(&id("b"), Mono(0) + SESSION_IDLE).is_some());
    assert_eq!(table.active(), 1);
}

#[test]
fn a_closed_session_is_stored_for_a_while() {
    let mut table: SessionTable<std::sync::Arc<()>> = SessionTable::new(1);
    let first = table.admit(&id("a"), Mono(0)).unwrap();
    table.release(&id("a"), Mono(0), SlotUpdate::SessionClosed);
    let again = table.admit(&id("a"), Mono(0) + REPLY_RETENTION / 2).unwrap();
    assert!(std::sync::Arc::ptr_eq(&first, &again));
    table.release(&id("a"), Mono(0), SlotUpdate::SessionClosed);
    let later = table.admit(&id("a"), Mono(0) + REPLY_RETENTION).unwrap();
    assert!(!std::sync::Arc::ptr_eq(&first, &later));
}

/// A store that counts what is read and written.
#[derive(Default)]
struct CountingStore {
    store: MemoryStore,
    devices: AtomicU32,
    others: AtomicU32,
    packages: AtomicU32,
    written: AtomicU32,
}

impl CountingStore {
    /// Returns the reads of device rows, of other rows and of bundles, and the changes.
    fn counts(&self) -> [u32; 4] {
        [&self.devices, &self.others, &self.packages, &self.written]
            .map(|count| count.load(Ordering::Relaxed))
    }
}

fn count(counter: &AtomicU32) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[async_trait]
impl FleetStore for CountingStore {
    async fn apply(&self, at: Utc, audit: Audit, changes: Vec<Change>) -> Result<(), StoreError> {
        count(&self.written);
        self.store.apply(at, audit, changes).await
    }

    async fn device(&self, id: &DeviceId) -> Result<Option<Device>, StoreError> {
        count(&self.devices);
        self.store.device(id).await
    }

    async fn device_with_secrets(&self, id: &DeviceId) -> Result<Option<Device>, StoreError> {
        count(&self.devices);
        self.store.device_with_secrets(id).await
    }

    async fn device_of_user(&self, user: &str) -> Result<Option<DeviceId>, StoreError> {
        self.store.device_of_user(user).await
    }

    async fn device_page(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Listed<Device>>, StoreError> {
        count(&self.others);
        self.store.device_page(after, limit).await
    }

    async fn campaign(&self, id: CampaignId) -> Result<Option<Campaign>, StoreError> {
        count(&self.others);
        self.store.campaign(id).await
    }

    async fn campaign_page(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Listed<Campaign>>, StoreError> {
        count(&self.others);
        self.store.campaign_page(after, limit).await
    }

    async fn damaged_campaigns(&self) -> Result<Vec<DamagedCampaign>, StoreError> {
        count(&self.others);
        self.store.damaged_campaigns().await
    }

    async fn campaign_versions(&self) -> Result<Vec<(CampaignId, u64)>, StoreError> {
        count(&self.others);
        self.store.campaign_versions().await
    }

    async fn last_campaign(&self) -> Result<Option<String>, StoreError> {
        self.store.last_campaign().await
    }

    async fn campaign_devices(
        &self,
        id: CampaignId,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Listed<CampaignDevice>>, StoreError> {
        count(&self.others);
        self.store.campaign_devices(id, after, limit).await
    }

    async fn audit_page(
        &self,
        after: u64,
        limit: u32,
    ) -> Result<Vec<Listed<AuditLine>>, StoreError> {
        count(&self.others);
        self.store.audit_page(after, limit).await
    }

    async fn device_attempts(&self, id: &DeviceId) -> Result<Vec<ArmingAttempt>, StoreError> {
        count(&self.others);
        self.store.device_attempts(id).await
    }

    async fn proved_from(&self, id: &DeviceId) -> Result<ProvedFrom, StoreError> {
        count(&self.others);
        self.store.proved_from(id).await
    }

    async fn challenge_key(&self, day: u64) -> Result<ChallengeKey, StoreError> {
        self.store.challenge_key(day).await
    }

    async fn package(&self, id: CampaignId) -> Result<Option<Arc<[u8]>>, StoreError> {
        count(&self.packages);
        self.store.package(id).await
    }

    async fn attempt(&self, correlator: &Correlator) -> Result<Option<ArmingAttempt>, StoreError> {
        count(&self.others);
        self.store.attempt(correlator).await
    }

    async fn attempt_of_package(
        &self,
        secret: &PackageSecret,
    ) -> Result<Option<ArmingAttempt>, StoreError> {
        count(&self.others);
        self.store.attempt_of_package(secret).await
    }

    async fn phase_counts(&self, id: CampaignId) -> Result<PhaseCounts, StoreError> {
        count(&self.others);
        self.store.phase_counts(id).await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.store.probe().await
    }

    async fn audit_tail(&self, limit: u32) -> Result<Vec<AuditLine>, StoreError> {
        count(&self.others);
        self.store.audit_tail(limit).await
    }

    async fn audit_of(&self, subject: &str, limit: u32) -> Result<Vec<AuditLine>, StoreError> {
        count(&self.others);
        self.store.audit_of(subject, limit).await
    }
}

const NOW: Utc = Utc::from_seconds(1_500);

/// Returns a store with a device that gets its package inside the session.
async fn counting_store() -> CountingStore {
    let counting = CountingStore::default();
    let mut device = store_tests::device("a");
    device.auth.next_nonce = Some(Nonce([1; 16]));
    device.profile = Profile::default();
    device.pending_suspension = None;
    device.policy = Default::default();
    device.components = Default::default();
    let mut campaign = samples::running();
    campaign.delivery.methods = vec![DeliveryMethod::Direct];
    campaign.delivery.bundle_bytes = 5_000;
    let correlator = Correlator("c1".to_owned());
    let row = ArmingAttempt::pending(device.id.clone(), campaign.id, 1, correlator, Utc(1));
    let row = ArmingAttempt { delivery_method: DeliveryMethod::Direct, ..row };
    counting.store.put_package(campaign.id, &[9; 5_000]);
    let audit = Audit {
        actor: Actor::Operator,
        action: "test",
        subject: String::new(),
        detail: String::new(),
    };
    let changes = vec![device.into(), campaign.into(), row.into()];
    counting.store.apply(NOW, audit, changes).await.unwrap();
    counting
}

async fn handle(
    session: &mut DeviceSession,
    store: &CountingStore,
    message: &Message,
    now: Utc,
    token: Option<&str>,
) -> MessageOutcome {
    let bytes = Encoding::Xml.emit(message);
    let inbound = InboundMessage {
        bytes: &bytes,
        message,
        token,
        mac: None,
        network: None,
        certificate: None,
    };
    let id = inbound.claim().parse().unwrap();
    let mut count = 0;
    let mut random = || {
        count += 1;
        [count; 16]
    };
    session.handle(store, (now, Limits::default()), &id, inbound, &mut random).await.unwrap()
}

// test: security 7.2 (work before proof)
#[tokio::test]
async fn for_a_message_without_proof_the_row_of_its_device_is_read_alone() {
    let store = counting_store().await;
    let wrong = || Some(proto::dm::auth::Secret::new("a", "guess").credential(b"nonce"));
    for (name, credential) in [("a", None), ("a", wrong()), ("b", None), ("b", wrong())] {
        let before = store.counts();
        for _ in 0..10 {
            let message = ScriptedDevice::new(name, "guess").first(credential.clone());
            handle(&mut DeviceSession::default(), &store, &message, NOW, None).await;
        }
        let [devices, others, packages, written] = before;
        assert_eq!(store.counts(), [devices + 10, others, packages, written], "{name}");
    }
}

// test: security 7.2 (work before proof)
#[tokio::test]
async fn a_bundle_is_read_once_when_it_is_sent() {
    let store = counting_store().await;
    let mut device = ScriptedDevice::new("a", "password").with("LrgObj", "true");
    device.limit = 2_000;
    let mut session = DeviceSession::default();
    let credential: Credential = device.client.secret.credential(&[1; 16]);
    let mut message = device.first(Some(credential));
    let (mut token, mut now, mut read) = (None, NOW, Vec::new());
    loop {
        // What was read for one message is not used for the next.
        now = now + 2 * CONTEXT_TTL;
        let outcome = handle(&mut session, &store, &message, now, token.as_deref()).await;
        let MessageOutcome::Reply(reply) = outcome else { panic!("{outcome:?}") };
        read.push(store.counts()[2]);
        let reply = Encoding::Xml.parse(&reply.bytes, &Default::default()).unwrap();
        let uri = reply.header.respond_to.clone().unwrap();
        token = uri.split_once("s=").map(|(_, token)| token.to_owned());
        let Some(next) = device.answer(&reply) else { break };
        message = next;
    }
    assert!(!session.is_open());
    assert_eq!((read[0], read[read.len() - 1]), (0, 1), "{read:?}");
    assert!(read.iter().filter(|count| **count == 1).count() > 3, "it goes in chunks: {read:?}");
    let row = store.device_attempts(&id("a")).await.unwrap().remove(0);
    assert_eq!(row.phase, ArmingPhase::Armed, "{:?}", row.reason);
}
