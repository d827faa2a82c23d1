//! The queue of final alerts: each gets a randomised send time once, which survives restarts, and
//! stays until the server has acknowledged it.

use proto::time::Utc;
use serde::{Deserialize, Serialize};

use super::{FinalAlert, ReportFilter, ReportSettings, backoff::share};

/// Queued results, at most; a further one drops the oldest.
pub const MAX_QUEUED: usize = 16;

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
impl ReportSettings {
    /// Chooses the send time of a result: uniform over the spread, not before the set time.
    ///
    /// # Units
    ///
    /// `chance` is uniform over all 64-bit numbers.
    #[must_use]
    pub fn send_after(&self, now: Utc, chance: u64) -> Utc {
        let from = self.not_before.map_or(now, |not_before| not_before.max(now));
        from + share(self.spread, chance)
    }

    /// Returns whether the filter reports a result. Failures always are.
    ///
    /// # Units
    ///
    /// `lot` is uniform over all 64-bit numbers.
    #[must_use]
    pub const fn wants(&self, alert: &FinalAlert, lot: u64) -> bool {
        match self.filter {
            ReportFilter::All => true,
            ReportFilter::Failures => !alert.result.is_success(),
            ReportFilter::Sample { take, of } => {
                !alert.result.is_success() || of == 0 || lot % (of as u64) < take as u64
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proto::{
        dm::fumo::{Operation, ResultCode},
        ids::Correlator,
    };

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
        queue.push(alert("a"), settings.send_after(Utc(decade), 0));
        let latest = settings.send_after(Utc(500), u64::MAX);
        assert_eq!(queue.next_due(Utc(500), latest), Some(Utc(500)));
        assert_eq!(queue.due(Utc(500), latest), [alert("a")]);
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
        let send_after =
            |now, chance| settings.send_after(Utc::from_seconds(now), chance).seconds();
        assert_eq!(send_after(0, 0), 1000);
        assert_eq!(send_after(0, u64::MAX / 2), 1049);
        assert_eq!(send_after(0, u64::MAX), 1099);
        assert_eq!(send_after(5000, 0), 5000);
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
            let send_after =
                settings.send_after(Utc(0), crate::rng::SplitMix64::new(device).next_u64());
            seconds[usize::try_from(send_after.seconds()).unwrap()] += 1;
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
            assert!(settings.wants(&failure, 5), "{filter:?}");
        }
    }

    // test: oma-002 4 (filters)
    #[test]
    fn a_sample_reports_its_share_of_the_successes() {
        let filter = ReportFilter::Sample { take: 3, of: 10 };
        let settings = ReportSettings { filter, ..ReportSettings::default() };
        let reported = (0..1000).filter(|lot| settings.wants(&alert("a"), *lot)).count();
        assert_eq!(reported, 300);
        let settings = ReportSettings { filter: ReportFilter::Failures, ..settings };
        assert!(!settings.wants(&alert("a"), 0));
    }
}
