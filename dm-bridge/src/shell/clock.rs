//! The clocks; no other file reads the time.

use std::time::{SystemTime, UNIX_EPOCH};

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
        Now { mono, utc: utc() }
    }
}

#[expect(clippy::disallowed_methods, reason = "the shell's clock is the one exception")]
fn utc() -> Utc {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Utc(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
