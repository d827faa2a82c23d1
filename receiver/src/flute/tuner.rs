//! Windows to joined channels.
//!
//! Windows are in the time of the management server. The device stores their distance on the clock
//! that also runs in suspend, and the same moments in wall time for the next boot. It opens early
//! and closes late by a guard that grows with the time since the windows were received.

use std::time::Duration;

use proto::{
    time::{Mono, Now, Utc},
    tune_in::{TuneIn, Window},
};

use crate::store::journal_state::TuneInRecord;

/// Guard at both ends of a window that was just received.
const GUARD: Duration = Duration::from_secs(60);

/// Drift of the clock that the guard allows for, parts per million.
const DRIFT_PPM: u32 = 50;

/// The channels of the device and their windows.
#[derive(Debug, Clone, Default)]
pub struct Tuner {
    entries: Vec<Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    tune_in: TuneIn,
    /// The window in the time of the management server.
    window: Window,
    opens: Mono,
    closes: Mono,
    /// Opens early.
    from: Mono,
    /// Closes late.
    until: Mono,
}

// spec: oma-002 1 (at the designated time the device tunes in by itself)
impl Tuner {
    /// Returns the tuner for windows that were just received.
    #[must_use]
    pub fn new(now: Now, server_now: Utc, windows: &[(TuneIn, Window)]) -> Self {
        let entry = |(tune_in, window): &(TuneIn, Window)| {
            let opens = now.mono + window.opens.since(server_now);
            let closes = now.mono + window.closes.since(server_now);
            Entry::new(now.mono, tune_in.clone(), *window, opens, closes)
        };
        Self { entries: windows.iter().map(entry).collect() }
    }

    /// Restores the tuner from the journal. In another boot than the one in which it was written
    /// only the wall clock locates the windows.
    ///
    /// Records that cannot be read are left out.
    #[must_use]
    pub fn recovered(now: Now, boot_id: &str, records: &[TuneInRecord]) -> Self {
        let entry = |record: &TuneInRecord| {
            let tune_in = record.url.parse().ok()?;
            let window = Window {
                opens: Utc::from_seconds(record.opens_utc),
                closes: Utc::from_seconds(record.closes_utc),
            };
            let (opens, closes) = if record.boot_id == boot_id {
                let at = |ms| Mono(0) + Duration::from_millis(ms);
                (at(record.opens_boot_ms), at(record.closes_boot_ms))
            } else {
                let at = |utc: Utc| now.mono + utc.since(now.utc);
                (at(window.opens), at(window.closes))
            };
            Some(Entry::new(now.mono, tune_in, window, opens, closes))
        };
        Self { entries: records.iter().filter_map(entry).collect() }
    }

    /// Returns the records for the journal.
    #[must_use]
    pub fn records(&self, boot_id: &str) -> Vec<TuneInRecord> {
        let record = |entry: &Entry| TuneInRecord {
            url: entry.tune_in.to_string(),
            opens_utc: entry.window.opens.seconds(),
            closes_utc: entry.window.closes.seconds(),
            boot_id: boot_id.to_owned(),
            opens_boot_ms: entry.opens.0 / 1_000_000,
            closes_boot_ms: entry.closes.0 / 1_000_000,
        };
        self.entries.iter().map(record).collect()
    }

    /// Returns the channels whose windows are open.
    pub fn wanted(&self, now: Mono) -> impl Iterator<Item = &TuneIn> {
        let open = move |entry: &&Entry| entry.from <= now && now < entry.until;
        self.entries.iter().filter(open).map(|entry| &entry.tune_in)
    }

    /// Returns when [`Self::wanted`] changes next.
    #[must_use]
    pub fn next_change(&self, now: Mono) -> Option<Mono> {
        let moments = self.entries.iter().flat_map(|entry| [entry.from, entry.until]);
        moments.filter(|moment| *moment > now).min()
    }

    /// Returns whether every window has passed.
    #[must_use]
    pub fn is_over(&self, now: Mono) -> bool {
        self.entries.iter().all(|entry| entry.until <= now)
    }
}

impl Entry {
    fn new(now: Mono, tune_in: TuneIn, window: Window, opens: Mono, closes: Mono) -> Self {
        let early = guard(opens.since(now));
        let from = Mono(opens.0.saturating_sub(nanos(early)));
        let until = closes + guard(closes.since(now));
        Self { tune_in, window, opens, closes, from, until }
    }
}

fn guard(ahead: Duration) -> Duration {
    GUARD + ahead / 1_000_000 * DRIFT_PPM
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "fumocast://232.1.2.3:3400/7?s=192.0.2.1&c=000102030405060708090a0b0c0d0e0f&h=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU";

    fn seconds(seconds: u64) -> Mono {
        Mono(seconds * 1_000_000_000)
    }

    /// The server's clock is 100 s ahead of the device's; the window is 1,000 s ahead.
    fn tuner() -> Tuner {
        let now = Now { mono: seconds(500), utc: Utc::from_seconds(10_000) };
        let at = Utc::from_seconds;
        let window = Window { opens: at(11_100), closes: at(12_100) };
        Tuner::new(now, at(10_100), &[(URL.parse().unwrap(), window)])
    }

    #[test]
    fn a_window_opens_early_and_closes_late_whatever_the_wall_clock_says() {
        let tuner = tuner();
        let (from, until) = (1_500_000 - 60_050, 2_500_000 + 60_100);
        let at = |ms: u64| Mono(ms * 1_000_000);
        assert_eq!(tuner.next_change(at(500_000)), Some(at(from)));
        assert_eq!(tuner.wanted(at(from - 1)).count(), 0);
        assert_eq!(tuner.wanted(at(from)).count(), 1);
        assert_eq!(tuner.next_change(at(from)), Some(at(until)));
        assert_eq!(tuner.wanted(at(until - 1)).count(), 1);
        assert_eq!(tuner.wanted(at(until)).count(), 0);
        assert!(tuner.is_over(at(until)) && !tuner.is_over(at(until - 1)));
    }

    #[test]
    fn a_restart_in_the_same_boot_keeps_the_moments() {
        let records = tuner().records("boot-1");
        // The wall clock was stepped by a year meanwhile.
        let now = Now { mono: seconds(900), utc: Utc::from_seconds(40_000_000) };
        let again = Tuner::recovered(now, "boot-1", &records);
        assert_eq!(again.records("boot-1"), records);
        assert_eq!(again.wanted(seconds(1_500)).count(), 1);
    }

    #[test]
    fn after_a_reboot_the_wall_clock_tells() {
        let records = tuner().records("boot-1");
        let now = Now { mono: seconds(5), utc: Utc::from_seconds(11_000) };
        let again = Tuner::recovered(now, "boot-2", &records);
        assert_eq!(again.wanted(seconds(5)).count(), 0);
        assert_eq!(again.wanted(seconds(105)).count(), 1);
    }

    #[test]
    fn a_damaged_record_is_left_out() {
        let mut records = tuner().records("boot-1");
        records[0].url = "fumocast://".to_owned();
        assert!(Tuner::recovered(Now::default(), "boot-1", &records).is_over(Mono(0)));
    }
}
