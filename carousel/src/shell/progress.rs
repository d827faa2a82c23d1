//! Progress of long commands: a bar on a terminal, lines elsewhere.

use std::{
    io::IsTerminal as _,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

/// The unit of a bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Octets.
    Octets,
    /// Symbols.
    Symbols,
}

/// The progress of one step; `Sync`, so that worker threads may advance it.
#[derive(Debug)]
pub struct ProgressMeter {
    bar: Option<ProgressBar>,
    title: &'static str,
    length: u64,
    done: AtomicU64,
    silent: bool,
}

/// The output of progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgressOutput {
    /// A bar or lines on standard error.
    Shown,
    /// None; the result is for a program.
    Hidden,
}

impl ProgressMeter {
    /// Starts a step of `length` units.
    ///
    /// # Panics
    ///
    /// Never: the templates are valid.
    #[must_use]
    pub fn new(output: ProgressOutput, title: &'static str, length: u64, unit: Unit) -> Self {
        let on_terminal = output == ProgressOutput::Shown && std::io::stderr().is_terminal();
        let bar = on_terminal.then(|| {
            let template = match unit {
                Unit::Octets => "{msg:<12} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
                Unit::Symbols => "{msg:<12} {bar:30} {pos}/{len} symbols {per_sec} {eta}",
            };
            let style = ProgressStyle::with_template(template).expect("the templates are valid");
            let bar = ProgressBar::new(length).with_style(style).with_message(title);
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        let silent = output == ProgressOutput::Hidden;
        Self { bar, title, length, done: AtomicU64::new(0), silent }
    }

    /// Advances by `step` units.
    pub fn add(&self, step: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(step);
        }
        let before = self.done.fetch_add(step, Ordering::Relaxed);
        let tenth = |done: u64| done.saturating_mul(10) / self.length.max(1);
        let lines = self.bar.is_none() && !self.silent;
        if lines && tenth(before) != tenth(before + step) {
            proto_cli::note!("{} {} %", self.title, tenth(before + step) * 10);
        }
    }

    /// Ends the step and removes its bar.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
