//! Devices that hold DM sessions at a pace, whatever happens beside.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use proto::dm::encoding::Encoding;
use tokio::{
    sync::Mutex,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use super::servers::{Servers, Target};
use crate::sessions::client::{Keys, Script, session};

/// Time after which a session is lost.
const PATIENCE: Duration = Duration::from_secs(15);

/// Sessions a second, until a moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) sessions: u32,
    pub(super) until: Instant,
}

/// Sessions that were held.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    pub(super) begun: usize,
    times: Vec<Duration>,
    pub(super) first_loss: Option<String>,
}

impl Sessions {
    pub(super) fn lost(&self) -> usize {
        self.begun - self.times.len()
    }

    /// Returns the time within which so many percent of the sessions ended, in milliseconds.
    pub(super) fn percentile(&self, percent: usize) -> f64 {
        let mut times = self.times.clone();
        times.sort_unstable();
        let rank = (times.len() * percent).div_ceil(100).saturating_sub(1);
        times.get(rank).map_or(f64::INFINITY, |time| time.as_secs_f64() * 1_000.0)
    }
}

/// Devices, and the session that each of them holds.
pub(super) struct Devices {
    keys: Arc<[Mutex<Keys>]>,
    script: Script,
    next: AtomicU32,
}

impl Devices {
    /// Learns the session by the first device.
    pub(super) async fn new(keys: Arc<[Mutex<Keys>]>, servers: &Servers) -> anyhow::Result<Self> {
        let mut http = servers.target(false).connect(address_of(0)).await?;
        let first = keys.first().context("a device")?;
        let script = session(&mut http, 0, &mut *first.lock().await, Encoding::Xml).await?;
        Ok(Self { keys, script, next: AtomicU32::new(1) })
    }

    /// Begins sessions at their moments, and waits for the end of the last one.
    pub(super) async fn hold_sessions(self: Arc<Self>, target: Target, pace: Pace) -> Sessions {
        let mut sessions = Sessions::default();
        let mut running = JoinSet::new();
        let mut due = Instant::now();
        while due < pace.until {
            sleep_until(due).await;
            let (devices, target) = (Arc::clone(&self), target.clone());
            running.spawn(async move {
                let held = timeout(PATIENCE, devices.hold_session(&target)).await;
                held.context("it has not ended").flatten().map(|()| due.elapsed())
            });
            sessions.begun += 1;
            due += Duration::from_secs(1) / pace.sessions;
        }
        while let Some(ended) = running.join_next().await {
            match ended.map_err(anyhow::Error::from).flatten() {
                Ok(time) => sessions.times.push(time),
                Err(error) => {
                    sessions.first_loss.get_or_insert(format!("{error:#}"));
                }
            }
        }
        sessions
    }

    async fn hold_session(&self, target: &Target) -> anyhow::Result<()> {
        let count = u32::try_from(self.keys.len())?;
        let number = self.next.fetch_add(1, Ordering::Relaxed) % count;
        let keys = self.keys.get(usize::try_from(number)?).context("a device")?;
        let mut keys = keys.lock().await;
        let mut http = target.connect(address_of(number)).await?;
        self.script.play(&mut http, number, &mut keys).await
    }
}

/// Returns the address of a device: half of them are behind one, the others have one of their own.
fn address_of(number: u32) -> Ipv4Addr {
    if number.is_multiple_of(2) {
        return Ipv4Addr::new(127, 9, 0, 1);
    }
    let [_, _, third, fourth] = (256 + number).to_be_bytes();
    Ipv4Addr::new(127, 9, third, fourth)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_ranks_of_the_sessions_that_ended() {
        let times = (1..=100).rev().map(Duration::from_millis).collect();
        let sessions = Sessions { begun: 103, times, first_loss: None };
        let ranks = [50, 95, 100].map(|percent| sessions.percentile(percent));
        assert_eq!((ranks, sessions.lost()), ([50.0, 95.0, 100.0], 3));
        assert_eq!(Sessions::default().percentile(95), f64::INFINITY);
    }

    #[test]
    fn half_of_the_devices_share_an_address() {
        assert_eq!(address_of(2), address_of(4));
        assert_eq!(address_of(1), Ipv4Addr::new(127, 9, 1, 1));
        assert_ne!(address_of(1), address_of(257));
    }
}
