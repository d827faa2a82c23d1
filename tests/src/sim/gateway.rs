//! The gateway that delivers notifications, and the attempts of the management server to notify.

use std::collections::BTreeMap;

use dm_bridge::notification::retry::{NotificationAttempt, Output};
use proto::time::{Mono, Utc};

use super::{
    fault::{At, Effect, Span},
    scenario::NotificationTimes,
};
use crate::lab::rng::SeededRng;

/// Time after which a call without an answer is given up.
const CALL_TIME: u64 = 10_000;
/// Of ten notifications, those that are lost.
const LOST_PER_TEN: u64 = 1;

/// The gateway.
#[derive(Debug)]
pub struct Gateway {
    /// By device.
    attempts: BTreeMap<usize, NotificationAttempt>,
    times: NotificationTimes,
    rng: SeededRng,
}

/// Result of a step of an attempt.
#[derive(Debug, Default)]
pub struct Progress {
    /// Time of the next step; none when the attempt has ended.
    pub next: Option<At>,
    /// A notification and its arrival.
    pub arrives: Option<(At, Vec<u8>)>,
}

impl Gateway {
    /// Returns a gateway with its own chances.
    pub fn new(seed: u64, times: NotificationTimes) -> Self {
        Self { attempts: BTreeMap::new(), times, rng: SeededRng::new(seed, "gateway") }
    }

    /// Draws when a device is notified of a window that is ordered at `at`.
    pub fn draw_start(&mut self, at: At) -> At {
        At(at.0 + self.rng.below(self.times.sent_within))
    }

    /// Goes on with the attempt to notify a device, or begins one with what `begin` makes.
    ///
    /// `hang` is the effect of calls in a span in which they are not answered.
    pub fn step(
        &mut self,
        at: At,
        number: usize,
        (seen, hang): (Option<Utc>, Option<(Effect, Span)>),
        begin: impl FnOnce(u16) -> Option<NotificationAttempt>,
    ) -> Progress {
        if !self.attempts.contains_key(&number) {
            let session_id = u16::try_from(1 + self.rng.below(65_000)).unwrap_or(1);
            let Some(attempt) = begin(session_id) else { return Progress::default() };
            self.attempts.insert(number, attempt);
        }
        let Some(attempt) = self.attempts.get_mut(&number) else { return Progress::default() };
        match attempt.poll(Mono(at.0 * 1_000_000), seen) {
            Output::Send(octets) => {
                let arrival = At(at.0 + 1 + self.rng.below(self.times.on_its_way));
                let (answered, arrives) = match hang {
                    None => (at.0 + 1, Some(arrival)),
                    Some((Effect::AtOnce, _)) => (at.0 + CALL_TIME, Some(arrival)),
                    Some((Effect::Later, span)) => (at.0 + CALL_TIME, Some(span.to)),
                    Some((Effect::Never, _)) => (at.0 + CALL_TIME, None),
                };
                let is_lost = self.rng.below(10) < LOST_PER_TEN;
                let arrives = arrives.filter(|_| !is_lost).map(|arrival| (arrival, octets));
                Progress { next: Some(At(answered)), arrives }
            }
            Output::Wait(until) => {
                let until = At(until.0.div_ceil(1_000_000).max(at.0 + 1));
                Progress { next: Some(until), arrives: None }
            }
            Output::Done(_) => {
                self.attempts.remove(&number);
                Progress::default()
            }
        }
    }
}
