//! The thread that sends one session: paced, with absolute sleeps.

use std::{
    io,
    num::NonZeroU64,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use proto::time::Now;
use rustix::thread::set_current_timer_slack;

use super::{clock, files::PlanReader, udp};
use crate::{
    control::resume_point::ResumePoint,
    error::{CliError, ExitCode},
    flute::{
        lifecycle::{Sent, Transmit},
        pacing::{Pacer, Rate},
        session::{FluteSession, SessionSetup},
    },
};

/// Datagrams that the network may refuse in a row before the session ends with an error.
const MAX_REFUSALS: u32 = 10_000;

/// Longest delay of a stop.
const LONGEST_SLEEP: Duration = Duration::from_millis(50);

/// A sender core together with its input.
pub trait Source: Send + 'static {
    /// The state that a progress display reads.
    type View: Copy + Send + 'static;

    /// Puts the next packet into `packet`, whose content is replaced.
    ///
    /// # Errors
    ///
    /// Any error of reading its content.
    fn poll_transmit(&mut self, now: Now, packet: &mut Vec<u8>) -> Result<Transmit, CliError>;

    /// Ends the session: only the packets that close it follow.
    fn close(&mut self);

    /// Returns the counters of sent packets.
    fn sent(&self) -> Sent;

    /// Returns the state.
    fn view(&self) -> Self::View;
}

/// A session that airs plans.
#[derive(Debug)]
pub struct Planned {
    session: FluteSession,
    records: PlanReader,
}

/// The state of a session that airs plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanView {
    /// The point to resume from after a restart.
    pub resume_point: ResumePoint,
    /// Index of the next data symbol.
    pub symbol_index: u64,
    /// Runs of the plan that differ from what was compared with the campaign.
    pub damaged_runs: u64,
}

impl Planned {
    /// Prepares a session.
    #[must_use]
    pub fn new(setup: SessionSetup, records: PlanReader) -> Self {
        Self { session: FluteSession::new(clock::now(), setup), records }
    }
}

impl Source for Planned {
    type View = PlanView;

    fn poll_transmit(&mut self, now: Now, packet: &mut Vec<u8>) -> Result<Transmit, CliError> {
        let made = self.session.poll_transmit(now, &mut self.records, packet);
        made.map_err(|error| CliError::io("plan file", error))
    }

    fn close(&mut self) {
        self.session.close();
    }

    fn sent(&self) -> Sent {
        self.session.sent()
    }

    fn view(&self) -> PlanView {
        PlanView {
            resume_point: self.session.resume_point(),
            symbol_index: self.session.symbol_index(),
            damaged_runs: self.records.damaged_runs(),
        }
    }
}

/// The progress of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<V = PlanView> {
    /// Its state.
    pub view: V,
    /// Counters since the start of the sender.
    pub sent: Sent,
    /// Datagrams that the network refused.
    pub refused: u64,
}

/// A session that is on air.
#[derive(Debug)]
pub struct OnAir<V = PlanView> {
    stop: Arc<AtomicBool>,
    progress: Arc<Mutex<Progress<V>>>,
    thread: JoinHandle<Result<(), CliError>>,
}

impl<V: Copy + Send + 'static> OnAir<V> {
    /// Puts a session on air in a thread of its own.
    ///
    /// # Errors
    ///
    /// [`CliError`] when no thread can be started.
    pub fn start(
        source: impl Source<View = V>,
        socket: udp::Sender,
        rate: Rate,
    ) -> Result<Self, CliError> {
        let stop = Arc::new(AtomicBool::new(false));
        let progress = Arc::new(Mutex::new(observe(&source, 0)));
        let mut run = Run {
            source,
            socket,
            rate,
            stop: Arc::clone(&stop),
            progress: Arc::clone(&progress),
            refused: 0,
        };
        let thread = thread::Builder::new()
            .name("flute-sender".into())
            .spawn(move || run.send())
            .map_err(|error| CliError::io("thread of the sender", error))?;
        Ok(Self { stop, progress, thread })
    }

    /// Asks the session to close; it ends within a few packets.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Returns whether the session has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Returns the progress so far.
    #[must_use]
    pub fn progress(&self) -> Progress<V> {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the end.
    ///
    /// # Errors
    ///
    /// The error that ended the session.
    pub fn join(self) -> Result<Progress<V>, CliError> {
        let progress = self.progress;
        self.thread
            .join()
            .unwrap_or_else(|_| Err(ExitCode::Network.with_message("the sender panicked")))?;
        let last = *progress.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(last)
    }
}

fn observe<S: Source>(source: &S, refused: u64) -> Progress<S::View> {
    Progress { view: source.view(), sent: source.sent(), refused }
}

struct Run<S: Source> {
    source: S,
    socket: udp::Sender,
    rate: Rate,
    stop: Arc<AtomicBool>,
    progress: Arc<Mutex<Progress<S::View>>>,
    refused: u64,
}

impl<S: Source> Run<S> {
    fn send(&mut self) -> Result<(), CliError> {
        // Without this the kernel may end every sleep 50 microseconds late.
        set_current_timer_slack(NonZeroU64::new(1)).ok();
        let mut now = clock::now();
        let mut pacer = Pacer::new(now.mono, self.rate);
        let mut packet = Vec::with_capacity(2048);
        let mut refusals = 0;
        loop {
            while pacer.ready_at() > now.mono {
                clock::sleep_until(pacer.ready_at());
                now = clock::now();
            }
            if self.stop.load(Ordering::Relaxed) {
                self.source.close();
            }
            match self.source.poll_transmit(now, &mut packet)? {
                Transmit::Packet => {}
                Transmit::Wait(until) => {
                    self.publish();
                    clock::sleep_until(until.min(now.mono + LONGEST_SLEEP));
                    now = clock::now();
                    continue;
                }
                Transmit::Closed => {
                    self.publish();
                    return Ok(());
                }
            }
            refusals = match self.socket.send(&packet) {
                Ok(()) => 0,
                Err(error) => self.refused(error, refusals)?,
            };
            pacer.sent(now.mono, packet.len());
            self.publish();
            now = clock::now();
        }
    }

    /// A link that is down for a moment does not end a session; one that is never up does.
    fn refused(&mut self, error: io::Error, refusals: u32) -> Result<u32, CliError> {
        self.refused += 1;
        if refusals == 0 {
            tracing::warn!(%error, "the network refuses datagrams");
        }
        if refusals >= MAX_REFUSALS || self.source.sent().packets <= 1 {
            return Err(CliError::network("sending to the group", error));
        }
        Ok(refusals + 1)
    }

    fn publish(&self) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) =
            observe(&self.source, self.refused);
    }
}
