//! The thread that sends one session: paced, with absolute sleeps.

use std::{
    io,
    num::NonZeroU64,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use rustix::thread::set_current_timer_slack;

use super::{clock, files::PlanReader, udp};
use crate::{
    failure::{Exit, Failure},
    pacing::{Pacer, Rate},
    place::Place,
    session::{FluteSession, Sent, SessionSetup, Transmit},
};

/// Datagrams that the network may refuse in a row before the session gives up.
const MAX_REFUSALS: u32 = 10_000;

/// What a session has done, as seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Where to go on after a restart.
    pub place: Place,
    /// Index of the next data symbol.
    pub symbol_place: u64,
    /// What was sent in this life.
    pub sent: Sent,
    /// Datagrams that the network refused.
    pub refused: u64,
}

/// A session that is on air.
#[derive(Debug)]
pub struct OnAir {
    stop: Arc<AtomicBool>,
    progress: Arc<Mutex<Progress>>,
    thread: JoinHandle<Result<(), Failure>>,
}

impl OnAir {
    /// Puts a session on air in a thread of its own.
    ///
    /// # Errors
    ///
    /// [`Failure`] when the machine has no thread to give.
    pub fn start(
        setup: SessionSetup,
        records: PlanReader,
        socket: udp::Sender,
        rate: Rate,
    ) -> Result<Self, Failure> {
        let session = FluteSession::new(clock::now(), setup);
        let stop = Arc::new(AtomicBool::new(false));
        let progress = Arc::new(Mutex::new(observe(&session, 0)));
        let mut run = Run {
            session,
            records,
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
    pub fn progress(&self) -> Progress {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the end.
    ///
    /// # Errors
    ///
    /// What ended the session before its time.
    pub fn join(self) -> Result<Progress, Failure> {
        let progress = self.progress;
        self.thread.join().unwrap_or_else(|_| Err(Exit::Network.because("the sender panicked")))?;
        let last = *progress.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(last)
    }
}

fn observe(session: &FluteSession, refused: u64) -> Progress {
    Progress {
        place: session.place(),
        symbol_place: session.symbol_place(),
        sent: session.sent(),
        refused,
    }
}

struct Run {
    session: FluteSession,
    records: PlanReader,
    socket: udp::Sender,
    rate: Rate,
    stop: Arc<AtomicBool>,
    progress: Arc<Mutex<Progress>>,
    refused: u64,
}

impl Run {
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
                self.session.close();
            }
            let made = self.session.poll_transmit(now, &mut self.records, &mut packet);
            if made.map_err(|error| Failure::io("plan file", error))? == Transmit::Closed {
                self.publish();
                return Ok(());
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
        if refusals >= MAX_REFUSALS || self.session.sent().packets <= 1 {
            return Err(Failure::network("sending to the group", error));
        }
        Ok(refusals + 1)
    }

    fn publish(&self) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) =
            observe(&self.session, self.refused);
    }
}
