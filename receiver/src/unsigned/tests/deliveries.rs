//! Whole deliveries with the timings of the shell: a socket that is read in batches, storage and
//! decoder threads that answer late, and a choice of what the loop handles next.
//!
//! `DELIVERIES=20000 cargo nextest run -p receiver deliveries` runs that many;
//! `DELIVERIES_FROM` is the first seed.

use crate::rng::SplitMix64;

use super::*;

/// Deliveries of a run, unless the environment sets another number.
const DELIVERIES: u64 = 300;

/// Passes of the sender that end without progress and with nothing to do, after which an object is
/// stuck.
const PATIENCE: u32 = 4;

/// Passes of the sender after which a delivery is over, complete or not.
const PASSES: u32 = 200;

/// Datagrams that the socket holds.
const SOCKET: usize = 512;

/// Datagrams that the loop reads at once.
const BATCH: usize = 64;

#[test]
fn every_delivery_completes_whatever_the_timings() {
    let number = |name: &str, otherwise| {
        std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
    };
    let first = number("DELIVERIES_FROM", 0);
    let count = number("DELIVERIES", DELIVERIES);
    let stuck: Vec<_> =
        (first..first + count).filter_map(|seed| Delivery::new(seed).run()).collect();
    assert!(stuck.is_empty(), "{} of {count}: {}", stuck.len(), stuck.join("\n\n"));
}

/// In these an attempt failed with K symbols, and the block was full before it ended.
#[test]
fn deliveries_that_were_stuck_once_complete() {
    let stuck: Vec<_> =
        [40_217, 40_464].into_iter().filter_map(|seed| Delivery::new(seed).run()).collect();
    assert!(stuck.is_empty(), "{}", stuck.join("\n\n"));
}

/// One file that is sent again and again, and its receiver. All times in microseconds.
struct Delivery {
    seed: u64,
    rng: SplitMix64,
    bench: Bench,
    content: Vec<u8>,
    pace: Pace,
    socket: VecDeque<Vec<u8>>,
    /// Commands that the storage thread has not finished.
    commands: VecDeque<Output>,
    /// Jobs that the decoder thread has not finished.
    jobs: VecDeque<Output>,
    answers: VecDeque<Answer>,
    storage: Thread,
    decoder: Thread,
}

/// A thread of the shell: what it answers, and when.
#[derive(Default)]
struct Thread {
    free_at: u64,
    answer: Option<Answer>,
}

/// Longest time of each step, and the packets of 100 that are lost.
struct Pace {
    packet: u64,
    storage: u64,
    flush: u64,
    decode: u64,
    lost_percent: u64,
}

/// The order in which the sender sends the symbols of a pass.
struct Sender {
    oti: Oti,
    is_interleaved: bool,
    /// Repair symbols of a block and pass.
    repair: u32,
    /// Set where each pass has other repair symbols.
    is_fresh: bool,
}

impl Sender {
    fn new(rng: &mut SplitMix64) -> Self {
        let length = 200 + rng.below(4000);
        let blocks = 1 + u8::try_from(rng.below(5)).unwrap();
        let repair = u32::try_from(rng.below(40)).unwrap();
        Self {
            oti: raptorq(length, blocks),
            is_interleaved: rng.below(2) == 0,
            repair,
            is_fresh: rng.below(3) > 0,
        }
    }

    /// Returns the symbols of each pass: all source symbols, then repair symbols.
    fn pass(&self, content: &[u8], number: u32) -> Vec<Vec<u8>> {
        let largest = self.oti.partition().largest();
        let skipped = if self.is_fresh { number * self.repair } else { 0 };
        let source = SENT.data(content, self.oti, 0..largest);
        let from = largest + skipped;
        let mut packets = [source, SENT.data(content, self.oti, from..from + self.repair)].concat();
        if !self.is_interleaved {
            packets.sort_by_key(|packet| Packet::parse(packet).unwrap().payload.unwrap().id.sbn);
        }
        packets.insert(0, SENT.fdt(self.oti, Some(md5(content))));
        packets
    }
}

impl Delivery {
    fn new(seed: u64) -> Self {
        let mut rng = SplitMix64::new(seed);
        let pace = Pace {
            packet: 20 + rng.below(200),
            storage: 1 + rng.below(500),
            flush: 1 + rng.below(20_000),
            decode: 1 + rng.below(20_000),
            lost_percent: rng.below(3),
        };
        Self {
            seed,
            rng,
            bench: Bench::new(),
            content: Vec::new(),
            pace,
            socket: VecDeque::new(),
            commands: VecDeque::new(),
            jobs: VecDeque::new(),
            answers: VecDeque::new(),
            storage: Thread::default(),
            decoder: Thread::default(),
        }
    }

    /// Runs it; returns the state of the object if it is stuck.
    fn run(mut self) -> Option<String> {
        let sender = Sender::new(&mut self.rng);
        self.content = octets(usize::try_from(sender.oti.transfer_length()).unwrap());
        let (mut progress, mut silent) = (None, 0);
        for number in 0..PASSES {
            for packet in sender.pass(&self.content, number) {
                self.send(packet);
                if self.bench.is_all_complete() {
                    assert_eq!(self.bench.file("fw.bin"), Some(&self.content[..]));
                    return None;
                }
            }
            self.pause();
            let file = self.bench.core.files().next();
            let after = file.map(|file| (file.state, file.blocks_done, file.symbols_held));
            silent = if after == progress && self.is_idle() { silent + 1 } else { 0 };
            progress = after;
            if silent == PATIENCE {
                break;
            }
        }
        Some(self.dump())
    }

    /// Describes the object for a person.
    fn dump(&self) -> String {
        let core = &self.bench.core;
        let file = core.files().next();
        let of = UnsignedIdentity { source: SENDER.into(), tsi: Tsi(SENT.tsi), toi: Toi(SENT.toi) };
        let state = core.objects.get(&of).map(UnsignedObject::dump);
        format!(
            "seed {}: {file:?}\n{:?}, {} waiting, {} commands, {} jobs, {} answers\n{}",
            self.seed,
            core.stats(),
            core.waiting(),
            self.commands.len(),
            self.jobs.len(),
            self.answers.len(),
            state.unwrap_or_default()
        )
    }

    /// Returns whether no thread has anything to do.
    fn is_idle(&self) -> bool {
        self.commands.is_empty()
            && self.jobs.is_empty()
            && self.answers.is_empty()
            && self.storage.answer.is_none()
            && self.decoder.answer.is_none()
    }

    /// Lets the threads run while the sender pauses between two passes.
    fn pause(&mut self) {
        for _ in 0..self.rng.below(20) {
            self.bench.elapsed += Duration::from_millis(1);
            self.run_storage();
            self.run_decoder();
            while !(self.socket.is_empty() && self.answers.is_empty()) {
                self.turn();
            }
        }
    }

    fn time(&self) -> u64 {
        u64::try_from(self.bench.elapsed.as_micros()).unwrap()
    }

    /// Sends a packet, and lets all threads run until the next one is due.
    fn send(&mut self, packet: Vec<u8>) {
        self.bench.elapsed += Duration::from_micros(self.pace.packet);
        if self.rng.below(100) >= self.pace.lost_percent && self.socket.len() < SOCKET {
            self.socket.push_back(packet);
        }
        self.run_storage();
        self.run_decoder();
        // The loop may be behind by some packets.
        while self.rng.below(4) > 0 && !(self.socket.is_empty() && self.answers.is_empty()) {
            self.turn();
        }
    }

    /// Handles what one turn of the shell's loop handles.
    fn turn(&mut self) {
        let is_socket = self.answers.is_empty() || self.rng.below(2) == 0;
        if is_socket && !self.socket.is_empty() {
            for packet in self.socket.drain(..self.socket.len().min(BATCH)) {
                self.bench.core.handle_datagram(self.bench.now(), SENDER.into(), &packet);
            }
        } else if let Some(answer) = self.answers.pop_front() {
            self.bench.answer(answer);
        }
        let now = self.bench.now();
        self.bench.core.handle_timeout(now);
        while let Some(output) = self.bench.core.poll_output() {
            self.commands.push_back(output);
        }
    }

    /// Lets the storage thread serve commands in their order until it is busy.
    fn run_storage(&mut self) {
        while self.storage.free_at <= self.time() {
            self.answers.extend(self.storage.answer.take());
            // A reservation is made while there is no other command.
            let others = self.commands.iter().position(|it| !matches!(it, Output::Reserve(..)));
            let Some(output) = self.commands.remove(others.unwrap_or(0)) else { return };
            let longest = match &output {
                Output::Decode(_) | Output::VerifyFile(_) | Output::VerifyKept(..) => {
                    self.jobs.push_back(output);
                    continue;
                }
                Output::Log(_, LogOutput::Flush(_)) => self.pace.flush,
                Output::WriteRecord(..) => 3 * self.pace.flush,
                Output::Open(_)
                | Output::Reserve(..)
                | Output::Log(..)
                | Output::RemoveRecord(_)
                | Output::RemoveObject(_)
                | Output::DiscardObject(_)
                | Output::Complete(_) => self.pace.storage,
            };
            let free_at = self.time() + self.rng.below(longest);
            self.storage = Thread { free_at, answer: self.bench.execute(output) };
        }
    }

    fn run_decoder(&mut self) {
        while self.decoder.free_at <= self.time() {
            self.answers.extend(self.decoder.answer.take());
            let Some(job) = self.jobs.pop_front() else { return };
            let free_at = self.time() + self.rng.below(self.pace.decode);
            self.decoder = Thread { free_at, answer: self.bench.execute(job) };
        }
    }
}
