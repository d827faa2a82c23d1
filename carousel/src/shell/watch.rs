//! Watches a session that is on air: shows it, keeps its place, ends it.

use std::{io::IsTerminal as _, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use proto::time::Utc;
use tokio::{
    signal::unix::{SignalKind, signal},
    time,
};

use super::{
    clock,
    progress::Show,
    sender::{OnAir, Progress},
};
use crate::failure::Failure;

/// How often the bar moves and the end of the window is looked for.
const TICK: Duration = Duration::from_millis(100);

/// How often the place is kept, and a line is printed where there is no terminal.
const KEEP_EVERY_TICKS: u64 = 10;
const LINE_EVERY_TICKS: u64 = 50;

/// How far a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Passes that are complete.
    pub pass: u64,
    /// How far it is in this one.
    pub position: u64,
    /// How long the pass is.
    pub length: u64,
    /// What both count.
    pub unit: &'static str,
}

/// Shows and keeps the place until the session ends or `closes` is there; returns whether a signal
/// ended it.
///
/// # Errors
///
/// [`Failure`] when the system has no signal handlers to give.
pub async fn watch<V: Copy + Send + 'static>(
    on_air: &OnAir<V>,
    closes: Option<Utc>,
    show: Show,
    look: impl Fn(&Progress<V>) -> Look,
    keep: impl Fn(&Progress<V>) -> Result<(), Failure>,
) -> Result<bool, Failure> {
    let signals = |kind| signal(kind).map_err(|error| Failure::io("signal handler", error));
    let mut interrupt = signals(SignalKind::interrupt())?;
    let mut terminate = signals(SignalKind::terminate())?;
    let status = Status::new(show);
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
        status.show(count, look(&progress), &progress);
        if count % KEEP_EVERY_TICKS == 0
            && let Err(failure) = keep(&progress)
        {
            // A place that is not kept costs at most a repeat of what was sent.
            tracing::warn!(%failure, "the place is not kept");
        }
        if on_air.is_finished() || closes.is_some_and(|closes| clock::now().utc >= closes) {
            break false;
        }
    };
    status.clear();
    Ok(interrupted)
}

/// The line that shows what is on air.
struct Status {
    bar: Option<ProgressBar>,
    lines: bool,
}

impl Status {
    fn new(show: Show) -> Self {
        let shown = show == Show::Progress;
        let on_terminal = shown && std::io::stderr().is_terminal();
        let bar = on_terminal.then(|| {
            let template = "pass {prefix} {bar:30} {pos}/{len} {msg}";
            let style = ProgressStyle::with_template(template).expect("the template is valid");
            ProgressBar::new(0).with_style(style)
        });
        Self { bar, lines: shown && !on_terminal }
    }

    fn show<V>(&self, count: u64, look: Look, progress: &Progress<V>) {
        let Look { pass, position, length, unit } = look;
        let sent = progress.sent;
        let text = format!("{unit}, {} packets, {} bytes", sent.packets, sent.octets);
        if let Some(bar) = &self.bar {
            bar.set_prefix((pass + 1).to_string());
            bar.set_length(length);
            bar.set_position(position);
            bar.set_message(text);
        } else if self.lines && count.is_multiple_of(LINE_EVERY_TICKS) {
            eprintln!("pass {}: {position}/{length} {text}", pass + 1);
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
