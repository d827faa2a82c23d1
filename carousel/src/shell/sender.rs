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
    failure::{Exit, Failure},
    life::{Sent, Transmit},
    pacing::{Pacer, Rate},
    place::Place,
    session::{FluteSession, SessionSetup},
};

/// Datagrams that the network may refuse in a row before the session gives up.
const MAX_REFUSALS: u32 = 10_000;

/// An order to stop is heard after this at the latest.
const LONGEST_SLEEP: Duration = Duration::from_millis(50);

/// A sender core together with what it reads from.
pub trait Source: Send + 'static {
    /// What is seen of it from outside.
    type View: Copy + Send + 'static;

    /// Puts the next packet into `packet`, whose content is replaced.
    ///
    /// # Errors
    ///
    /// What reading it answered.
    fn poll_transmit(&mut self, now: Now, packet: &mut Vec<u8>) -> Result<Transmit, Failure>;

    /// Ends the session: what comes yet are the packets that close it.
    fn close(&mut self);

    /// Returns what was sent.
    fn sent(&self) -> Sent;

    /// Returns what is seen from outside.
    fn view(&self) -> Self::View;
}

/// A session that airs plans.
#[derive(Debug)]
pub struct Planned {
    session: FluteSession,
    records: PlanReader,
}

/// Where a planned session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanView {
    /// Where to go on after a restart.
    pub place: Place,
    /// Index of the next data symbol.
    pub symbol_place: u64,
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

    fn poll_transmit(&mut self, now: Now, packet: &mut Vec<u8>) -> Result<Transmit, Failure> {
        let made = self.session.poll_transmit(now, &mut self.records, packet);
        made.map_err(|error| Failure::io("plan file", error))
    }

    fn close(&mut self) {
        self.session.close();
    }

    fn sent(&self) -> Sent {
        self.session.sent()
    }

    fn view(&self) -> PlanView {
        PlanView { place: self.session.place(), symbol_place: self.session.symbol_place() }
    }
}

/// What a session has done, as seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<V = PlanView> {
    /// Where it is.
    pub view: V,
    /// What was sent in this life.
    pub sent: Sent,
    /// Datagrams that the network refused.
    pub refused: u64,
}

/// A session that is on air.
#[derive(Debug)]
pub struct OnAir<V = PlanView> {
    stop: Arc<AtomicBool>,
    progress: Arc<Mutex<Progress<V>>>,
    thread: JoinHandle<Result<(), Failure>>,
}

impl<V: Copy + Send + 'static> OnAir<V> {
    /// Puts a session on air in a thread of its own.
    ///
    /// # Errors
    ///
    /// [`Failure`] when the machine has no thread to give.
    pub fn start(
        source: impl Source<View = V>,
        socket: udp::Sender,
        rate: Rate,
    ) -> Result<Self, Failure> {
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
            .map_err(|error| Failure::io("thread of the sender", error))?;
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

    /// Returns what it has done so far.
    #[must_use]
    pub fn progress(&self) -> Progress<V> {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the end.
    ///
    /// # Errors
    ///
    /// What ended the session before its time.
    pub fn join(self) -> Result<Progress<V>, Failure> {
        let progress = self.progress;
        self.thread.join().unwrap_or_else(|_| Err(Exit::Network.because("the sender panicked")))?;
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
    fn send(&mut self) -> Result<(), Failure> {
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

    /// A link that goes down for a moment does not end a session; one that never comes up does.
    fn refused(&mut self, error: io::Error, refusals: u32) -> Result<u32, Failure> {
        self.refused += 1;
        if refusals == 0 {
            tracing::warn!(%error, "the network refuses datagrams");
        }
        if refusals >= MAX_REFUSALS || self.source.sent().packets <= 1 {
            return Err(Failure::network("sending to the group", error));
        }
        Ok(refusals + 1)
    }

    fn publish(&self) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) =
            observe(&self.source, self.refused);
    }
}
