//! Times of a run: opening and latest closing of the window.

use std::time::Duration;

use crate::lab::options::{BitRate, Percent};

/// Octets per second that one machine reserves and syncs for all devices together, with room.
const RESERVED_PER_SECOND: u64 = 60_000_000;

/// Octets per second of images that one machine decodes for all devices together, with room.
const DECODED_PER_SECOND: u64 = 4_000_000;

/// The window of a run, from the moment at which the campaign is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// Time to arm and reserve.
    pub opens_after: Duration,
    /// Time on air, at most: it ends when all devices are done.
    pub open_for: Duration,
}

impl Schedule {
    /// Returns the window for an image and a fleet.
    pub fn new(image_bytes: u64, devices: u16, loss: Percent, rate: BitRate) -> Self {
        let total = image_bytes.saturating_mul(devices.into());
        // Twice the image for each device: its logs and the room for the image.
        let reserve = Duration::from_secs((2 * total).div_ceil(RESERVED_PER_SECOND));
        let opens_after = Duration::from_secs(4) + reserve;

        let arrives = (1.0 - loss.0 / 100.0).max(0.05);
        #[expect(clippy::cast_precision_loss, reason = "image sizes are far below 2^53")]
        let on_air = image_bytes as f64 * 8.0 / rate.0 as f64 / arrives;
        let decode = Duration::from_secs(total.div_ceil(DECODED_PER_SECOND));
        // Half as much again for tables and headers, and for what a kill or a slow disk costs.
        let open_for = Duration::from_secs_f64(on_air * 1.5) + decode + Duration::from_secs(60);
        Self { opens_after, open_for }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_run_opens_within_ten_seconds() {
        let schedule = Schedule::new(16 << 20, 8, Percent(10.0), BitRate(40_000_000));
        assert!(schedule.opens_after <= Duration::from_secs(10), "{schedule:?}");
        assert!(schedule.open_for >= Duration::from_secs(60), "{schedule:?}");
    }

    #[test]
    fn loss_and_a_slow_rate_take_longer() {
        let long = |loss, rate| Schedule::new(1 << 20, 1, Percent(loss), BitRate(rate)).open_for;
        assert!(long(90.0, 1_000_000) > long(10.0, 1_000_000));
        assert!(long(10.0, 100_000) > long(10.0, 1_000_000));
    }
}
