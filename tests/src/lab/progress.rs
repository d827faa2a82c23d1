//! Progress display: bars on a terminal, a line each second elsewhere.

use std::{
    io::{IsTerminal as _, Write as _},
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// State of a device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceView {
    /// Its name.
    pub id: String,
    /// The phase that it is in.
    pub phase: String,
    /// Symbols held.
    pub held: u64,
    /// Source symbols of the object; 0 before it is armed.
    pub needed: u64,
}

impl DeviceView {
    /// The share that it holds.
    ///
    /// # Units
    ///
    /// Per mille, 1,000 at most.
    pub fn per_mille(&self) -> u64 {
        (self.held.saturating_mul(1000)).checked_div(self.needed).unwrap_or(0).min(1000)
    }
}

/// The display.
#[derive(Debug)]
pub enum Progress {
    /// A bar for each device.
    Bars(MultiProgress, Vec<ProgressBar>),
    /// A line each second, on standard error.
    Lines {
        /// Time of the next line, since the start of the run.
        due: Duration,
    },
}

impl Progress {
    /// Returns the display that suits where standard error goes.
    pub fn new() -> Self {
        if std::io::stderr().is_terminal() {
            Self::Bars(MultiProgress::new(), Vec::new())
        } else {
            Self::Lines { due: Duration::ZERO }
        }
    }

    /// Prints one line.
    pub fn print(&self, text: &str) {
        match self {
            // A closed terminal loses the text; the run continues.
            Self::Bars(bars, _) => drop(bars.println(text)),
            Self::Lines { .. } => drop(writeln!(std::io::stderr(), "{text}")),
        }
    }

    /// Shows how far the devices are.
    pub fn show(&mut self, elapsed: Duration, devices: &[DeviceView]) {
        match self {
            Self::Bars(bars, shown) => {
                while shown.len() < devices.len() {
                    shown.push(bars.add(ProgressBar::new(1000).with_style(style())));
                }
                for (bar, device) in shown.iter().zip(devices) {
                    bar.set_prefix(device.id.clone());
                    bar.set_message(device.phase.clone());
                    bar.set_position(device.per_mille());
                }
            }
            Self::Lines { due } if elapsed >= *due => {
                *due = elapsed + Duration::from_secs(1);
                drop(writeln!(std::io::stderr(), "{}", line(elapsed, devices)));
            }
            Self::Lines { .. } => {}
        }
    }

    /// Takes the bars away.
    pub fn finish(&self) {
        if let Self::Bars(bars, _) = self {
            drop(bars.clear());
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix:10} {bar:40} {percent:>3} %  {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// One line for all devices: how many are in each phase, and what they hold.
fn line(elapsed: Duration, devices: &[DeviceView]) -> String {
    let mut phases: Vec<(&str, usize)> = Vec::new();
    for device in devices {
        match phases.iter_mut().find(|(phase, _)| *phase == device.phase) {
            Some((_, count)) => *count += 1,
            None => phases.push((&device.phase, 1)),
        }
    }
    let phases: Vec<_> = phases.iter().map(|(phase, count)| format!("{count} {phase}")).collect();
    let held: Vec<_> =
        devices.iter().map(|device| format!("{}%", device.per_mille() / 10)).collect();
    format!("{:>5.1} s  {}  [{}]", elapsed.as_secs_f64(), phases.join(", "), held.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(phase: &str, held: u64) -> DeviceView {
        DeviceView { id: "x".into(), phase: phase.into(), held, needed: 200 }
    }

    #[test]
    fn a_line_counts_phases_and_shows_each_device() {
        let devices = [device("receiving", 100), device("armed", 0), device("receiving", 201)];
        let text = line(Duration::from_millis(1500), &devices);
        assert_eq!(text, "  1.5 s  2 receiving, 1 armed  [50% 0% 100%]");
    }

    #[test]
    fn a_device_that_needs_nothing_holds_nothing() {
        assert_eq!(DeviceView::default().per_mille(), 0);
    }
}
