//! The clocks of the machine.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proto::time::{Mono, Now, Utc};
use rustix::time::{ClockId, clock_gettime};

/// The clocks of this machine.
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
        Now { mono, utc: Self::utc() }
    }

    /// Returns an id of the current boot; times of the monotonic clock are relative to it.
    #[must_use]
    pub fn boot_id(self) -> String {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        text.unwrap_or_default().trim().to_owned()
    }

    /// Waits until `deadline`, or for ever without one.
    ///
    /// May return early: its timers stop while the machine is suspended, so none is longer than
    /// [`LONGEST_WAIT`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it has no effect.
    pub async fn sleep_until(self, deadline: Option<Mono>) {
        match deadline {
            Some(deadline) => {
                let wait = deadline.since(self.now().mono).min(LONGEST_WAIT);
                tokio::time::sleep(wait).await;
            }
            None => std::future::pending().await,
        }
    }

    /// Waits; for commands that poll a running agent.
    #[expect(clippy::disallowed_methods, reason = "the shell's clock is the one exception")]
    pub fn pause(self, wait: Duration) {
        std::thread::sleep(wait);
    }

    #[expect(clippy::disallowed_methods, reason = "the shell's clock is the one exception")]
    fn utc() -> Utc {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Utc(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// The longest single wait.
pub const LONGEST_WAIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_never_goes_back() {
        let (first, second) = (Clock.now(), Clock.now());
        assert!(first.mono <= second.mono && first.mono > Mono(0));
        assert!(first.utc > Utc::from_seconds(1_700_000_000));
        assert_eq!(Clock.boot_id(), Clock.boot_id());
    }
}
