//! The frame that every target has around its entry point.

use rustix::time::{ClockId, clock_gettime};

/// The longest that one input may take, in nanoseconds of this thread's own time: other processes
/// on the machine do not count.
const LIMIT_NANOS: i64 = 100_000_000;

/// Runs an entry point and panics when it takes longer than 100 ms: that is a hang.
pub fn in_time(run: fn(&[u8]), octets: &[u8]) {
    let before = thread_nanos();
    run(octets);
    let taken = thread_nanos() - before;
    assert!(taken < LIMIT_NANOS, "{} octets took {} ms", octets.len(), taken / 1_000_000);
}

fn thread_nanos() -> i64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}
