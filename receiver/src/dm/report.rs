//! The queue of final alerts: each gets a randomised send time once, which survives restarts, and
//! stays until the server has acknowledged it.

use std::time::Duration;

use proto::{
    dm::fumo::{Operation, ResultCode},
    ids::{CampaignId, Correlator},
    time::Utc,
    wire::WireError,
};
use serde::{Deserialize, Serialize};

use super::{FinalAlert, ReportFilter, ReportSettings, backoff::share};
use crate::{
    components::ComponentTarget,
    rng::SplitMix64,
    store::journal_state::{JournalState, QueuedAlert, ReportSlot, SubjectRecord},
};

/// Queued results, at most; a further one drops the oldest.
pub const MAX_QUEUED: usize = 16;

/// The reports of the device: the settings of the operation in progress, and the queue.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reports {
    settings: ReportSettings,
    queue: ReportQueue,
}

impl Reports {
    /// Restores the reports.
    pub(crate) fn from_journal(state: &JournalState) -> Result<Self, WireError> {
        let settings = state.report.as_ref().map(read_settings).transpose()?.unwrap_or_default();
        let mut queue = ReportQueue::default();
        for alert in &state.alerts {
            queue.push(read_alert(alert)?, Utc::from_seconds(alert.due_utc));
        }
        Ok(Self { settings, queue })
    }

    /// Writes the reports into the journal.
    pub(crate) fn write_journal(&self, state: &mut JournalState) {
        state.report = Some(write_settings(&self.settings));
        state.alerts = self.queue.reports.iter().map(write_alert).collect();
    }

    /// Stores the settings of an operation that begins.
    pub(crate) const fn begin(&mut self, settings: ReportSettings) {
        self.settings = settings;
    }

    /// Queues the result of an operation by its settings, unless their filter drops it.
    pub(crate) fn schedule(&mut self, now: Utc, alert: FinalAlert, rng: &mut SplitMix64) {
        if wants(self.settings.filter, &alert, rng.next_u64()) {
            let due = send_after(&self.settings, now, rng.next_u64());
            self.queue.push(alert, due);
        }
    }

    /// Queues a result that is due at once.
    pub(crate) fn push(&mut self, now: Utc, alert: FinalAlert) {
        self.queue.push(alert, now);
    }

    /// Returns the results that are due, oldest first.
    pub(crate) fn due(&self, now: Utc) -> Vec<FinalAlert> {
        self.queue.due(now, self.latest(now))
    }

    /// Returns the time at which the next result is due.
    pub(crate) fn next_due(&self, now: Utc) -> Option<Utc> {
        self.queue.next_due(now, self.latest(now))
    }

    /// Returns the latest time that could be chosen now.
    fn latest(&self, now: Utc) -> Utc {
        send_after(&self.settings, now, u64::MAX)
    }

    /// Removes an acknowledged result; returns whether it was queued.
    pub(crate) fn acknowledge(&mut self, alert: &FinalAlert) -> bool {
        self.queue.acknowledge(alert)
    }

    /// Returns whether the result of an Exec waits for its acknowledgement: the same Exec again, by
    /// its correlator, is no other operation.
    pub(crate) fn holds(
        &self,
        operation: Operation,
        correlator: Option<&Correlator>,
        subject: Option<&ComponentTarget>,
    ) -> bool {
        let is_of = |alert: &FinalAlert| {
            alert.correlator.as_ref() == correlator
                && alert.operation == operation
                && alert.subject.as_ref() == subject
        };
        correlator.is_some() && self.queue.reports.iter().any(|queued| is_of(&queued.alert))
    }

    /// Returns how many results the server has not acknowledged.
    pub(crate) const fn waiting(&self) -> usize {
        self.queue.reports.len()
    }
}

fn read_settings(slot: &ReportSlot) -> Result<ReportSettings, WireError> {
    Ok(ReportSettings {
        spread: Duration::from_secs(slot.spread_seconds.into()),
        not_before: slot.not_before_utc.map(Utc::from_seconds),
        filter: slot.filter.parse()?,
    })
}

fn write_settings(settings: &ReportSettings) -> ReportSlot {
    ReportSlot {
        spread_seconds: u32::try_from(settings.spread.as_secs()).unwrap_or(u32::MAX),
        not_before_utc: settings.not_before.map(Utc::seconds),
        filter: settings.filter.to_string(),
    }
}

fn read_alert(record: &QueuedAlert) -> Result<FinalAlert, WireError> {
    let campaign = match record.campaign_id.as_slice() {
        [] => None,
        octets => Some(CampaignId(crate::store::journal_state::fixed(octets)?)),
    };
    Ok(FinalAlert {
        correlator: record.correlator.clone().map(Correlator),
        operation: record.operation.parse()?,
        result: ResultCode(u16::try_from(record.result).unwrap_or(ResultCode::UNDEFINED.0)),
        campaign,
        subject: record.subject.as_ref().map(ComponentTarget::try_from).transpose()?,
    })
}

fn write_alert(QueuedReport { alert, due }: &QueuedReport) -> QueuedAlert {
    QueuedAlert {
        correlator: alert.correlator.as_ref().map(|correlator| correlator.0.clone()),
        operation: alert.operation.as_str().to_owned(),
        result: alert.result.0.into(),
        campaign_id: alert.campaign.map(|id| id.0.to_vec()).unwrap_or_default(),
        // Rounded up: a restart must not make a report early.
        due_utc: due.0.div_ceil(1000),
        subject: alert.subject.as_ref().map(SubjectRecord::from),
    }
}

/// A result and its send time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedReport {
    /// The result.
    pub alert: FinalAlert,
    /// The time from which it may be sent.
    pub due: Utc,
}

/// Results that the server has not acknowledged. The journal stores it as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReportQueue {
    reports: Vec<QueuedReport>,
}

impl ReportQueue {
    /// Restores the results of the journal, oldest first.
    #[must_use]
    pub fn restore(mut reports: Vec<QueuedReport>) -> Self {
        reports.truncate(MAX_QUEUED);
        Self { reports }
    }

    /// Queues a result. The same result again changes nothing, so that a step repeated after a
    /// power cut reports once, at the time first chosen.
    pub fn push(&mut self, alert: FinalAlert, due: Utc) {
        if self.reports.iter().any(|queued| queued.alert == alert) {
            return;
        }
        if self.reports.len() >= MAX_QUEUED {
            self.reports.remove(0);
        }
        self.reports.push(QueuedReport { alert, due });
    }

    /// Returns the results that are due, oldest first.
    ///
    /// `latest` is the latest time that could be chosen now: one beyond it was chosen while the
    /// clock was wrong, and is due.
    #[must_use]
    pub fn due(&self, now: Utc, latest: Utc) -> Vec<FinalAlert> {
        let is_due = |queued: &&QueuedReport| queued.due <= now || queued.due > latest;
        self.reports.iter().filter(is_due).map(|queued| queued.alert.clone()).collect()
    }

    /// Returns the earliest send time; `now` if it was chosen while the clock was wrong.
    #[must_use]
    pub fn next_due(&self, now: Utc, latest: Utc) -> Option<Utc> {
        let time = |queued: &QueuedReport| if queued.due > latest { now } else { queued.due };
        self.reports.iter().map(time).min()
    }

    /// Removes an acknowledged result; returns whether it was queued.
    pub fn acknowledge(&mut self, alert: &FinalAlert) -> bool {
        let before = self.reports.len();
        self.reports.retain(|queued| queued.alert != *alert);
        self.reports.len() < before
    }

    /// Returns whether the queue is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.reports.is_empty()
    }

    /// Returns all results, oldest first.
    #[must_use]
    pub fn reports(&self) -> &[QueuedReport] {
        &self.reports
    }
}

// spec: oma-002 4 (spread, not before, filters)
/// Chooses the send time of a result: uniform over the spread, not before the set time. `chance` is
/// uniform over all 64-bit numbers.
#[must_use]
pub fn send_after(settings: &ReportSettings, now: Utc, chance: u64) -> Utc {
    let from = settings.not_before.map_or(now, |not_before| not_before.max(now));
    from + share(settings.spread, chance)
}

/// Returns whether a filter reports a result. Failures always are. `lot` is uniform over all 64-bit
/// numbers.
const fn wants(filter: ReportFilter, alert: &FinalAlert, lot: u64) -> bool {
    match filter {
        ReportFilter::All => true,
        ReportFilter::Failures => !alert.result.is_success(),
        ReportFilter::Sample { take, of } => {
            !alert.result.is_success() || of == 0 || lot % (of as u64) < take as u64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(name: &str) -> FinalAlert {
        FinalAlert {
            correlator: Some(Correlator(name.to_owned())),
            operation: Operation::DownloadAndUpdate,
            result: ResultCode::SUCCESS,
            campaign: None,
            subject: None,
        }
    }

    // test: oma-002 4 (the queue of alerts)
    #[test]
    fn a_result_waits_for_its_send_time_and_for_its_acknowledgement() {
        let mut queue = ReportQueue::default();
        queue.push(alert("a"), Utc(200));
        queue.push(alert("b"), Utc(100));
        let due = |queue: &ReportQueue, now| queue.due(Utc(now), Utc(now + 1000));
        assert_eq!(queue.next_due(Utc(0), Utc(1000)), Some(Utc(100)));
        assert_eq!(due(&queue, 99), []);
        assert_eq!(due(&queue, 100), [alert("b")]);
        assert_eq!(due(&queue, 200), [alert("a"), alert("b")]);
        assert!(queue.acknowledge(&alert("a")));
        assert!(!queue.acknowledge(&alert("a")));
        assert_eq!(due(&queue, 200), [alert("b")]);
    }

    #[test]
    fn a_send_time_of_a_clock_that_was_ten_years_ahead_is_due() {
        let decade = 315_360_000_000;
        let settings = ReportSettings::default();
        let mut queue = ReportQueue::default();
        queue.push(alert("a"), send_after(&settings, Utc(decade), 0));
        let latest = send_after(&settings, Utc(500), u64::MAX);
        assert_eq!(queue.next_due(Utc(500), latest), Some(Utc(500)));
        assert_eq!(queue.due(Utc(500), latest), [alert("a")]);
    }

    #[test]
    fn reports_are_read_as_they_were_written() {
        let mut reports = Reports::default();
        reports.begin(ReportSettings {
            spread: Duration::from_secs(600),
            not_before: Some(Utc::from_seconds(50)),
            filter: ReportFilter::Sample { take: 1, of: 20 },
        });
        let subject = ComponentTarget {
            operation: proto::dm::scomo::Operation::Remove,
            node: "x".to_owned(),
            package: "player".parse().unwrap(),
        };
        let campaign = Some(CampaignId([3; 16]));
        let component =
            FinalAlert { correlator: None, campaign, subject: Some(subject), ..alert("") };
        reports.push(Utc::from_seconds(2000), component);
        reports.push(Utc(2_000_001), alert("a"));
        let write = |reports: &Reports| {
            let mut state = JournalState::default();
            reports.write_journal(&mut state);
            state
        };
        let state = write(&reports);
        assert_eq!(
            state.alerts.iter().map(|alert| alert.due_utc).collect::<Vec<_>>(),
            [2000, 2001]
        );
        assert_eq!(write(&Reports::from_journal(&state).unwrap()), state);
        let with = |change: fn(&mut JournalState)| {
            let mut state = state.clone();
            change(&mut state);
            Reports::from_journal(&state)
        };
        assert!(with(|state| state.alerts[0].campaign_id.truncate(15)).is_err());
        assert!(with(|state| state.alerts[0].operation.clear()).is_err());
        assert!(with(|state| state.report.as_mut().unwrap().filter.clear()).is_err());
        let none = Reports::from_journal(&JournalState::default()).unwrap();
        assert_eq!((none.settings, none.waiting()), (ReportSettings::default(), 0));
    }

    #[test]
    fn a_repeated_push_keeps_the_first_send_time() {
        let mut queue = ReportQueue::default();
        queue.push(alert("a"), Utc(100));
        queue.push(alert("a"), Utc(900));
        assert_eq!(queue.reports(), [QueuedReport { alert: alert("a"), due: Utc(100) }]);
        assert_eq!(ReportQueue::restore(queue.reports().to_vec()), queue);
    }

    #[test]
    fn a_full_queue_drops_the_oldest() {
        let mut queue = ReportQueue::default();
        for number in 0..=MAX_QUEUED {
            queue.push(alert(&number.to_string()), Utc(0));
        }
        let due = queue.due(Utc(0), Utc(0));
        assert_eq!(due.len(), MAX_QUEUED);
        assert_eq!(due.first(), Some(&alert("1")));
    }

    // test: oma-002 4 (spread)
    #[test]
    fn send_times_spread_evenly_behind_the_set_time() {
        let settings = ReportSettings {
            spread: Duration::from_secs(100),
            not_before: Some(Utc::from_seconds(1000)),
            filter: ReportFilter::All,
        };
        let seconds = |now, chance| send_after(&settings, Utc::from_seconds(now), chance).seconds();
        assert_eq!(seconds(0, 0), 1000);
        assert_eq!(seconds(0, u64::MAX / 2), 1049);
        assert_eq!(seconds(0, u64::MAX), 1099);
        assert_eq!(seconds(5000, 0), 5000);
    }

    /// A hundred thousand devices whose window closed at one moment, and a server that takes fifty
    /// sessions a second: the span is devices / (sessions a second · 0.5).
    #[test]
    fn a_hundred_thousand_devices_report_evenly_and_below_the_capacity_of_the_server() {
        const DEVICES: u64 = 100_000;
        const SESSIONS_A_SECOND: u64 = 50;
        let span = DEVICES / (SESSIONS_A_SECOND / 2);
        let settings =
            ReportSettings { spread: Duration::from_secs(span), ..ReportSettings::default() };
        let mut seconds = vec![0_u64; usize::try_from(span).unwrap()];
        for device in 0..DEVICES {
            let chance = crate::rng::SplitMix64::new(device).next_u64();
            let due = send_after(&settings, Utc(0), chance);
            seconds[usize::try_from(due.seconds()).unwrap()] += 1;
        }
        let mean = DEVICES / 20;
        for (bin, arrivals) in seconds.chunks(seconds.len() / 20).enumerate() {
            let arrivals: u64 = arrivals.iter().sum();
            assert!(arrivals.abs_diff(mean) * 10 <= mean, "bin {bin}: {arrivals} of {mean}");
        }
        let most = seconds.iter().max().unwrap();
        assert!(*most <= SESSIONS_A_SECOND, "{most} in one second");
    }

    #[test]
    fn failures_are_reported_whatever_the_filter() {
        let failure = FinalAlert { result: ResultCode::CORRUPTED, ..alert("a") };
        for filter in [
            ReportFilter::All,
            ReportFilter::Failures,
            ReportFilter::Sample { take: 0, of: 10 },
            ReportFilter::Sample { take: 0, of: 0 },
        ] {
            let settings = ReportSettings { filter, ..ReportSettings::default() };
            assert!(wants(settings.filter, &failure, 5), "{filter:?}");
        }
    }

    // test: oma-002 4 (filters)
    #[test]
    fn a_sample_reports_its_share_of_the_successes() {
        let filter = ReportFilter::Sample { take: 3, of: 10 };
        let settings = ReportSettings { filter, ..ReportSettings::default() };
        let reported = (0..1000).filter(|lot| wants(settings.filter, &alert("a"), *lot)).count();
        assert_eq!(reported, 300);
        let settings = ReportSettings { filter: ReportFilter::Failures, ..settings };
        assert!(!wants(settings.filter, &alert("a"), 0));
    }
}
