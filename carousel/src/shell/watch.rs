//! A session on air: shows its progress, saves its resume point, ends it.

use std::{io::IsTerminal as _, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use proto::time::Utc;
use tokio::{
    signal::unix::{SignalKind, signal},
    time,
};

use super::{
    clock,
    progress::ProgressOutput,
    sender::{OnAir, Progress},
};
use crate::error::CliError;

/// The interval at which the bar moves and the end of the window is checked.
const TICK: Duration = Duration::from_millis(100);

/// Ticks between two saved resume points, and between two lines where there is no terminal.
const SAVE_EVERY_TICKS: u64 = 10;
const LINE_EVERY_TICKS: u64 = 50;

/// The progress of a session in its pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProgressView {
    /// Passes that are complete.
    pub pass: u64,
    /// Units of this pass that are sent.
    pub position: u64,
    /// Units of the pass.
    pub length: u64,
    /// Name of the unit.
    pub unit: &'static str,
}

/// Shows the progress and saves the resume point until the session ends or `closes` is reached;
/// returns whether a signal ended it.
///
/// # Errors
///
/// [`CliError`] when no signal handler can be installed.
pub async fn report_progress<V: Copy + Send + 'static>(
    on_air: &OnAir<V>,
    closes: Option<Utc>,
    output: ProgressOutput,
    view: impl Fn(&Progress<V>) -> ProgressView,
    save: impl Fn(&Progress<V>) -> Result<(), CliError>,
) -> Result<bool, CliError> {
    let signals = |kind| signal(kind).map_err(|error| CliError::io("signal handler", error));
    let mut interrupt = signals(SignalKind::interrupt())?;
    let mut terminate = signals(SignalKind::terminate())?;
    let status = Status::new(output);
    let mut ticks = time::interval(TICK);
    let mut count = 0;
    let interrupted = loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = interrupt.recv() => break true,
            _ = terminate.recv() => break true,
        }
        count += 1;
        let progress = on_air.progress();
        status.show(count, view(&progress), &progress);
        if count % SAVE_EVERY_TICKS == 0
            && let Err(error) = save(&progress)
        {
            // Without a saved resume point some packets are sent twice.
            tracing::warn!(%error, "the resume point is not saved");
        }
        if on_air.is_finished() || closes.is_some_and(|closes| clock::now().utc >= closes) {
            break false;
        }
    };
    status.clear();
    Ok(interrupted)
}

/// The line that shows the session on air.
struct Status {
    bar: Option<ProgressBar>,
    lines: bool,
}

impl Status {
    fn new(output: ProgressOutput) -> Self {
        let shown = output == ProgressOutput::Shown;
        let on_terminal = shown && std::io::stderr().is_terminal();
        let bar = on_terminal.then(|| {
            let template = "pass {prefix} {bar:30} {pos}/{len} {msg}";
            let style = ProgressStyle::with_template(template).expect("the template is valid");
            ProgressBar::new(0).with_style(style)
        });
        Self { bar, lines: shown && !on_terminal }
    }

    fn show<V>(&self, count: u64, view: ProgressView, progress: &Progress<V>) {
        let ProgressView { pass, position, length, unit } = view;
        let sent = progress.sent;
        let text = format!("{unit}, {} packets, {} bytes", sent.packets, sent.octets);
        if let Some(bar) = &self.bar {
            bar.set_prefix((pass + 1).to_string());
            bar.set_length(length);
            bar.set_position(position);
            bar.set_message(text);
        } else if self.lines && count.is_multiple_of(LINE_EVERY_TICKS) {
            proto_cli::note!("pass {}: {position}/{length} {text}", pass + 1);
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
