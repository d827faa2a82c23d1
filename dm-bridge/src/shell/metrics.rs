//! Counters in the text form of Prometheus. Each server has its own recorder, so that several can
//! live in one process.

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use crate::campaign::reconcile::CampaignView;

/// The counters of one server.
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

    /// Renders all metrics, with the current state of the fleet.
    #[must_use]
    pub fn render(&self, fleet: &[CampaignView], open_sessions: usize) -> String {
        metrics::with_local_recorder(&self.recorder, || {
            let sessions = u32::try_from(open_sessions).unwrap_or(u32::MAX);
            metrics::gauge!(DM_SESSIONS).set(f64::from(sessions));
            for view in fleet {
                for phase in crate::fleet::attempt::ArmingPhase::ALL {
                    let devices = view.phase_counts.get(&phase).copied().unwrap_or(0);
                    let devices = f64::from(u32::try_from(devices).unwrap_or(u32::MAX));
                    let campaign = view.campaign.id.to_string();
                    metrics::gauge!(DEVICES, "campaign" => campaign, "phase" => phase.as_str())
                        .set(devices);
                }
            }
        });
        self.handle.render()
    }
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
const DM_SESSIONS: &str = "fumocast_bridge_dm_sessions";
