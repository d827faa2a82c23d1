//! State that the tasks of a server share: the clock, DM sessions, wrong proofs, counters.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use proto::{
    crypto::Digest,
    ids::{CampaignId, DeviceId},
    time::{Mono, Now, Utc},
};
use proto_http::{limits::Limits as ConnectionLimits, server::Connections, table::Stats};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{Mutex as AsyncMutex, Notify, Semaphore};

use super::{data_dir::DataDir, health::Health};
use crate::{
    app::message_handler::{DeviceSession, SessionTable, SlotUpdate},
    campaign::reconcile::{CampaignView, ReconcilePolicy},
    dm::{Limits, limiter::FailureLimiter},
    fleet::store::FleetStore,
};

/// State that the tasks of a server share.
pub struct Shared {
    pub(super) store: Arc<dyn FleetStore>,
    pub(super) clock: Clock,
    pub(super) data: DataDir,
    pub(super) token_hash: Digest,
    pub(super) policy: ReconcilePolicy,
    pub(super) limits: Limits,
    pub(super) admission: Admission,
    pub(super) dm_permits: Semaphore,
    pub(super) sessions: DmSessions,
    /// Wrong proofs of peers.
    pub(super) limiter: Mutex<FailureLimiter>,
    /// Connections, and the proxies whose word on the address of a client counts.
    pub(super) connections: Connections,
    /// Set when devices have to show a certificate.
    pub(super) wants_certificate: bool,
    pub(super) status: ServerStatus,
    /// Wakes the reconciler.
    pub(super) wake: Notify,
}

/// The state of a server as its clients see it.
#[derive(Default)]
pub(super) struct ServerStatus {
    pub(super) metrics: Metrics,
    pub(super) health: Health,
    /// The campaigns as the reconciler has read them last.
    pub(super) fleet: Mutex<Arc<Vec<CampaignView>>>,
    /// Campaigns whose attempts were open at the start with URLs without a secret: those of an earlier
    /// program.
    pub(super) downloads_without_secret: OnceLock<BTreeSet<CampaignId>>,
}

impl Shared {
    /// Returns the campaigns as the reconciler has read them last.
    pub(super) fn fleet(&self) -> Arc<Vec<CampaignView>> {
        Arc::clone(&self.status.fleet.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The clocks of this machine; no other file reads the time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock;

impl Clock {
    /// Returns both clocks; the monotonic one also counts time spent suspended.
    #[must_use]
    pub fn now(self) -> Now {
        let boot = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(boot.tv_sec).unwrap_or_default();
        let nanos = u64::try_from(boot.tv_nsec).unwrap_or_default();
        let mono = Mono(seconds.saturating_mul(1_000_000_000).saturating_add(nanos));
        Now { mono, utc: utc() }
    }
}

#[expect(clippy::disallowed_methods, reason = "the shell's clock is the one exception")]
fn utc() -> Utc {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Utc(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Limits on what a server admits at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admission {
    /// Connections, and waits for their peers.
    pub connections: ConnectionLimits,
    /// Messages handled at once, from the end of their bodies.
    pub messages: usize,
    /// Sessions open at once.
    pub sessions: usize,
    /// Time after which a rejected device may retry.
    pub retry_after: Duration,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            connections: ConnectionLimits::default(),
            messages: 256,
            sessions: 2_048,
            retry_after: Duration::from_secs(5),
        }
    }
}

/// The DM sessions of this server, shared by its requests.
#[derive(Debug)]
pub struct DmSessions(Mutex<SessionTable<Arc<AsyncMutex<DeviceSession>>>>);

impl DmSessions {
    /// Returns an empty table for at most `limit` sessions.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self(Mutex::new(SessionTable::new(limit)))
    }

    /// Returns the number of active sessions.
    #[must_use]
    pub fn active(&self) -> usize {
        self.table().active()
    }

    fn table(&self) -> std::sync::MutexGuard<'_, SessionTable<Arc<AsyncMutex<DeviceSession>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the state of the session of a device, if it has a slot.
    pub(super) fn find(&self, id: &DeviceId) -> Option<Arc<AsyncMutex<DeviceSession>>> {
        self.table().find(id)
    }

    /// Returns a guard over the slot of a device; `None` when all slots are active.
    pub(super) fn admit(&self, id: &DeviceId, now: Mono) -> Option<SlotGuard<'_>> {
        let slot = self.table().admit(id, now)?;
        Some(SlotGuard { sessions: self, id: id.clone(), now, slot, update: SlotUpdate::NoSession })
    }
}

/// A message in flight. Dropping it releases the slot, however the handling ends.
pub(super) struct SlotGuard<'a> {
    sessions: &'a DmSessions,
    id: DeviceId,
    now: Mono,
    pub(super) slot: Arc<AsyncMutex<DeviceSession>>,
    pub(super) update: SlotUpdate,
}

impl Drop for SlotGuard<'_> {
    fn drop(&mut self) {
        self.sessions.table().release(&self.id, self.now, self.update);
    }
}

/// Counters in the text form of Prometheus. Each server has its own recorder, so that several can
/// live in one process.
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

impl Metrics {
    /// Returns counters at zero.
    #[must_use]
    pub fn new() -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            metrics::describe_counter!(DM_MESSAGES, "DM messages by outcome.");
            metrics::describe_counter!(CONTROL_CALLS, "Calls to image servers by operation.");
            metrics::describe_counter!(DOWNLOADS, "Responses of the download server by code.");
            metrics::describe_gauge!(DEVICES, "Devices of a campaign by phase.");
            metrics::describe_gauge!(DM_SESSIONS, "DM sessions that are open.");
            metrics::describe_gauge!(CONNECTIONS, "Connections that are open.");
            metrics::describe_counter!(CONNECTIONS_TOTAL, "Connections by outcome.");
        });
        Self { recorder, handle }
    }

    /// Counts one DM message.
    pub fn dm_message(&self, outcome: &'static str) {
        metrics::with_local_recorder(&self.recorder, || {
            metrics::counter!(DM_MESSAGES, "outcome" => outcome).increment(1);
        });
    }

    /// Counts one response of the download server; of a notification, its code.
    pub fn download(&self, what: &'static str, code: &str) {
        metrics::with_local_recorder(&self.recorder, || {
            metrics::counter!(DOWNLOADS, "what" => what, "code" => code.to_owned()).increment(1);
        });
    }

    /// Counts one call to an image server.
    pub fn control_call(&self, operation: &'static str, outcome: &'static str) {
        metrics::with_local_recorder(&self.recorder, || {
            metrics::counter!(CONTROL_CALLS, "operation" => operation, "outcome" => outcome)
                .increment(1);
        });
    }

    /// Renders all metrics, with the current state of the fleet and of connections.
    #[must_use]
    pub fn render(
        &self,
        fleet: &[CampaignView],
        open_sessions: usize,
        connections: &Stats,
        damaged_campaigns: usize,
    ) -> String {
        metrics::with_local_recorder(&self.recorder, || {
            metrics::gauge!(DM_SESSIONS).set(gauge(open_sessions));
            metrics::gauge!(DAMAGED_CAMPAIGNS).set(gauge(damaged_campaigns));
            let proved = connections.open.saturating_sub(connections.unproved);
            metrics::gauge!(CONNECTIONS, "peer" => "proved").set(gauge(proved));
            metrics::gauge!(CONNECTIONS, "peer" => "unproved").set(gauge(connections.unproved));
            for (outcome, count) in connections.by_outcome() {
                metrics::counter!(CONNECTIONS_TOTAL, "outcome" => outcome).absolute(count);
            }
            for view in fleet {
                for phase in crate::fleet::attempt::ArmingPhase::ALL {
                    let devices = view.phase_counts.get(&phase).copied().unwrap_or(0);
                    let campaign = view.campaign.id.to_string();
                    metrics::gauge!(DEVICES, "campaign" => campaign, "phase" => phase.as_str())
                        .set(gauge(devices));
                }
            }
        });
        self.handle.render()
    }
}

fn gauge(count: impl TryInto<u32>) -> f64 {
    f64::from(count.try_into().unwrap_or(u32::MAX))
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

const DM_MESSAGES: &str = "fumocast_bridge_dm_messages_total";
const CONTROL_CALLS: &str = "fumocast_bridge_control_calls_total";
const DOWNLOADS: &str = "fumocast_bridge_downloads_total";
const DEVICES: &str = "fumocast_bridge_devices";
const DAMAGED_CAMPAIGNS: &str = "fumocast_bridge_damaged_campaigns";
const DM_SESSIONS: &str = "fumocast_bridge_dm_sessions";
const CONNECTIONS: &str = "fumocast_bridge_connections";
const CONNECTIONS_TOTAL: &str = "fumocast_bridge_connections_total";
