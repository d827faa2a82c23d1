//! Report load: many devices finish their operation in the same second and report it.
//!
//! Deterministic, from one seed. Devices are the receiver's own report queue, delays and back-off;
//! the server is the bridge's own session table, which admits so many sessions at once, and its way
//! of counting results. Between them results travel as the alerts that they are. Some answers are
//! lost, so that devices report again, and some devices restart while they wait to report.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use dm_bridge::{
    app::message_handler::{SessionTable, SlotUpdate},
    arming::results::{self, Receipt},
    fleet::attempt::{ArmingAttempt, ArmingPhase},
};
use proto::{
    dm::{
        alert::GenericAlert,
        fumo::{Operation, OperationResult, ResultCode},
        syncml::CommandId,
    },
    ids::{CampaignId, Correlator, DeviceId},
    time::{Mono, Utc},
};
use receiver::{
    dm::{
        FinalAlert, ReportSettings,
        backoff::Backoff,
        report::{ReportQueue, send_after},
    },
    rng::SplitMix64,
};
use serde::Serialize;

/// Parameters of the simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ReportLoad {
    /// Armed devices.
    pub devices: u32,
    /// Span over which they report.
    pub spread_seconds: u64,
    /// Sessions that the server has at once.
    pub sessions: usize,
    /// Duration of a session.
    pub session_milliseconds: u64,
    /// Answers that are lost, per mille.
    pub lost_per_mille: u64,
    /// Devices that restart while they wait, per mille.
    pub restarts_per_mille: u64,
    /// Seed of all random numbers.
    pub seed: u64,
}

/// Result of the simulation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// Arrivals at the server in each fiftieth of the spread, those that were turned away too.
    pub arrivals: Vec<u64>,
    /// Arrivals after the spread: what was turned away or lost near its end.
    pub late: u64,
    /// Largest deviation of a bin from the mean, in percent.
    pub deviation_percent: f64,
    /// Sessions that the server had at once, at most.
    pub most_sessions: usize,
    /// Arrivals that were turned away.
    pub turned_away: u64,
    /// Results that were counted.
    pub counted: u64,
    /// Results that were repeated and not counted again.
    pub repeated: u64,
    /// Results that still wait on a device.
    pub waiting: u64,
}

impl Outcome {
    /// Returns the promises that were broken, in words.
    pub fn broken(&self, load: &ReportLoad) -> Vec<String> {
        let devices = u64::from(load.devices);
        let promises = [
            (
                self.deviation_percent <= 10.0,
                format!("a bin is {:.1} % off", self.deviation_percent),
            ),
            (
                self.most_sessions <= load.sessions,
                format!("{} sessions at once, the limit is {}", self.most_sessions, load.sessions),
            ),
            (self.counted == devices, format!("{} results of {devices} devices", self.counted)),
            (self.waiting == 0, format!("{} devices have not reported", self.waiting)),
        ];
        promises.into_iter().filter_map(|(kept, words)| (!kept).then_some(words)).collect()
    }
}

/// Bins of the arrivals.
pub const BINS: u64 = 50;

/// Delay after which devices that are turned away retry.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The moment at which all operations end.
const END: Utc = Utc::from_seconds(1_800_000_000);

struct Device {
    id: DeviceId,
    reports: ReportQueue,
    backoff: Backoff,
    arming: ArmingAttempt,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrives,
    Leaves,
}

/// Events in the order of time, each with its device.
type Queue = BinaryHeap<Reverse<(Mono, Event, usize)>>;

/// Runs the simulation until no event is left.
pub fn run(load: &ReportLoad) -> Outcome {
    let mut rng = SplitMix64::new(load.seed);
    let mut devices: Vec<Device> =
        (0..load.devices).map(|number| device(load, number, &mut rng)).collect();
    let mut server = Server::new(load);
    let mut queue: Queue = BinaryHeap::new();
    for (number, device) in devices.iter().enumerate() {
        let due =
            device.reports.next_due(END, latest(load, END)).expect("each device has a result");
        queue.push(Reverse((Mono(0) + due.since(END), Event::Arrives, number)));
    }
    while let Some(Reverse((now, event, number))) = queue.pop() {
        let Some(device) = devices.get_mut(number) else { continue };
        let next = match event {
            Event::Arrives => server.arrives(now, device, &mut rng),
            Event::Leaves => server.leaves(now, device, &mut rng),
        };
        queue.extend(next.map(|(at, event)| Reverse((at, event, number))));
    }
    server.outcome(&devices)
}

fn settings(load: &ReportLoad) -> ReportSettings {
    let spread = Duration::from_secs(load.spread_seconds);
    ReportSettings { spread, ..ReportSettings::default() }
}

/// The latest time of a report that could be chosen at this moment.
fn latest(load: &ReportLoad, now: Utc) -> Utc {
    send_after(&settings(load), now, u64::MAX)
}

fn device(load: &ReportLoad, number: u32, rng: &mut SplitMix64) -> Device {
    let id: DeviceId = format!("STORM-{number:07}").parse().expect("an identifier");
    let correlator = Correlator(format!("storm-{number}"));
    let settings = settings(load);
    let alert = FinalAlert {
        correlator: Some(correlator.clone()),
        operation: Operation::DownloadAndUpdate,
        result: ResultCode::SUCCESS,
        campaign: None,
        subject: None,
    };
    let mut reports = ReportQueue::default();
    reports.push(alert.clone(), send_after(&settings, END, rng.next_u64()));
    if rng.next_u64() % 1000 < load.restarts_per_mille {
        // What ended is found again in the journal: the time to report is the one first chosen.
        reports = ReportQueue::restore(reports.reports().to_vec());
        reports.push(alert, send_after(&settings, END, rng.next_u64()));
    }
    let mut arming = ArmingAttempt::pending(id.clone(), CampaignId([7; 16]), 1, correlator, END);
    (arming.phase, arming.armed_revision) = (ArmingPhase::Armed, 1);
    Device { id, reports, backoff: Backoff::default(), arming }
}

struct Server<'a> {
    load: &'a ReportLoad,
    sessions: SessionTable<()>,
    outcome: Outcome,
}

impl<'a> Server<'a> {
    fn new(load: &'a ReportLoad) -> Self {
        let outcome = Outcome {
            arrivals: vec![0; usize::try_from(BINS).expect("it is small")],
            late: 0,
            deviation_percent: 0.0,
            most_sessions: 0,
            turned_away: 0,
            counted: 0,
            repeated: 0,
            waiting: 0,
        };
        Self { load, sessions: SessionTable::new(load.sessions), outcome }
    }

    fn arrives(
        &mut self,
        now: Mono,
        device: &mut Device,
        rng: &mut SplitMix64,
    ) -> Option<(Mono, Event)> {
        let span = self.load.spread_seconds.max(1) * 1_000_000_000;
        let bin = u128::from(now.0) * u128::from(BINS) / u128::from(span);
        match usize::try_from(bin).ok().and_then(|bin| self.outcome.arrivals.get_mut(bin)) {
            Some(bin) => *bin += 1,
            None => self.outcome.late += 1,
        }
        if self.sessions.admit(&device.id, now).is_none() {
            self.outcome.turned_away += 1;
            let wait = device.backoff.failed(Some(RETRY_AFTER), rng.next_u64());
            return Some((now + wait, Event::Arrives));
        }
        self.sessions.release(&device.id, now, SlotUpdate::SessionOpen);
        self.outcome.most_sessions = self.outcome.most_sessions.max(self.sessions.active());
        let lasts = Duration::from_millis(self.load.session_milliseconds);
        Some((now + lasts, Event::Leaves))
    }

    /// The session ends; the server stores results before it answers.
    fn leaves(
        &mut self,
        now: Mono,
        device: &mut Device,
        rng: &mut SplitMix64,
    ) -> Option<(Mono, Event)> {
        let utc = END + Duration::from_nanos(now.0);
        let due = device.reports.due(utc, latest(self.load, utc));
        for alert in &due {
            match take(alert, &mut device.arming, utc) {
                Receipt::Recorded => self.outcome.counted += 1,
                Receipt::Duplicate => self.outcome.repeated += 1,
                Receipt::Unmatched => {}
            }
        }
        let inside = self.sessions.admit(&device.id, now);
        debug_assert!(inside.is_some(), "its session is open");
        self.sessions.release(&device.id, now, SlotUpdate::SessionClosed);
        if rng.next_u64() % 1000 < self.load.lost_per_mille {
            let wait = device.backoff.failed(None, rng.next_u64());
            return Some((now + wait, Event::Arrives));
        }
        device.backoff.succeeded();
        for alert in &due {
            device.reports.acknowledge(alert);
        }
        None
    }

    fn outcome(mut self, devices: &[Device]) -> Outcome {
        let waiting = devices.iter().filter(|device| !device.reports.is_empty()).count();
        self.outcome.waiting = u64::try_from(waiting).unwrap_or(u64::MAX);
        let mean = self.outcome.arrivals.iter().sum::<u64>() / BINS;
        let worst = self.outcome.arrivals.iter().map(|bin| bin.abs_diff(mean)).max();
        self.outcome.deviation_percent = per_cent(worst.unwrap_or(0), mean);
        self.outcome
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of arrivals are small")]
fn per_cent(part: u64, whole: u64) -> f64 {
    part as f64 * 100.0 / whole.max(1) as f64
}

/// Encodes a result as an alert, parses it, and records it.
fn take(alert: &FinalAlert, arming: &mut ArmingAttempt, now: Utc) -> Receipt {
    let result = OperationResult {
        object: Some("./FwUpdate/Main".to_owned()),
        operation: alert.operation,
        result: alert.result,
        correlator: alert.correlator.clone(),
    };
    let sent = result.to_alert(CommandId::new(3));
    let generic = sent.items.first().and_then(|item| GenericAlert::from_item(item).ok());
    let result = generic
        .and_then(|generic| OperationResult::from_alert(&generic, sent.correlator.as_ref()).ok())
        .flatten()
        .expect("it is a final alert");
    results::record_result(std::slice::from_mut(arming), &result, now)
}
