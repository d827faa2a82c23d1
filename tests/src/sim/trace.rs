//! Record of a world, as text and as a digest; and the log lines of the product.

use std::{
    cell::RefCell,
    fmt::{self, Write as _},
};

use proto::crypto::{Digest, Hasher};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
    subscriber::Interest,
};

use super::fault::At;

/// Everything that happened.
#[derive(Debug)]
pub struct Trace {
    hasher: Hasher,
    lines: Option<Vec<String>>,
    errors: Vec<String>,
}

/// Form of the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recording {
    /// The digest alone.
    Digest,
    /// The lines, too.
    Lines,
}

impl Trace {
    /// Begins.
    pub fn new(keep: Recording) -> Self {
        let lines = (keep == Recording::Lines).then(Vec::new);
        Self { hasher: Hasher::new(), lines, errors: Vec::new() }
    }

    /// Notes what happened, and what the product logged meanwhile.
    pub fn note(&mut self, at: At, what: fmt::Arguments<'_>) {
        self.logged(at);
        let line = format!("{at} {what}");
        self.hasher.update(line.as_bytes());
        if let Some(lines) = &mut self.lines {
            lines.push(line);
        }
    }

    /// Notes octets; of them the digest alone.
    pub fn octets(&mut self, octets: &[u8]) {
        self.hasher.update(octets);
    }

    /// Takes what the product logged.
    fn logged(&mut self, at: At) {
        for (level, text) in LOGGED.with_borrow_mut(std::mem::take) {
            let line = format!("{at}   {level}: {text}");
            self.hasher.update(line.as_bytes());
            if let Some(lines) = &mut self.lines {
                lines.push(line);
            }
            if level == Level::ERROR {
                self.errors.push(text);
            }
        }
    }

    /// Returns the errors that the product logged since the last time.
    pub fn take_errors(&mut self, at: At) -> Vec<String> {
        self.logged(at);
        std::mem::take(&mut self.errors)
    }

    /// Returns the lines, if they were kept.
    pub fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or_default()
    }

    /// Returns the digest of all that happened.
    pub fn digest(&self) -> Digest {
        self.hasher.clone().finish()
    }
}

thread_local! {
    static LOGGED: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
    /// All log lines, for the search for secrets.
    static ALL_LOGS: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Captures the log of the product on this thread while `run` runs.
pub fn capture_logs<T>(run: impl FnOnce() -> T) -> T {
    LOGGED.with_borrow_mut(Vec::clear);
    let most = if test_log::dir().is_some() { Level::TRACE } else { Level::INFO };
    let outcome = tracing::subscriber::with_default(LogCapture { most }, run);
    test_log::record_log("worlds", ALL_LOGS.take().as_bytes());
    outcome
}

struct LogCapture {
    /// Most detailed level that is captured.
    most: Level,
}

impl Subscriber for LogCapture {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= self.most
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(tracing::level_filters::LevelFilter::from_level(self.most))
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        let level = *event.metadata().level();
        if self.most > Level::INFO {
            ALL_LOGS.with_borrow_mut(|logs| logs.extend([&text.0[..], "\n"]));
        }
        if level <= Level::INFO {
            LOGGED.with_borrow_mut(|logged| logged.push((level, text.0)));
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing into memory does not fail.
        if field.name() == "message" {
            write!(self.0, "{value:?} ").ok();
        } else {
            write!(self.0, "{}={value:?} ", field.name()).ok();
        }
    }
}
