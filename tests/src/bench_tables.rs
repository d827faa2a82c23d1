//! Symbols that find no table: the sending order of the carousel, a lossy channel, and a receiver
//! that counts.
//!
//! A table is known by the number of its received symbols, not by their content; so the
//! octets are left out, and a pass over 64 MiB takes a moment. [`servers`] runs the real cores.

pub mod servers;

use std::collections::{BTreeMap, VecDeque};

use carousel::{
    plan::parameters::{PlanOptions, shape_for},
    plan::schedule::{Cursor, LCT_BYTES, Record, Schedule},
};
use proto::{ids::Sbn, trust::plan::PlanShape};
use receiver::flute::unverified::MAX_UNVERIFIED_BYTES;

use crate::lab::rng::SeededRng;

/// Segments whose tables a receiver keeps, however large they are.
const KEPT: usize = 4;

/// Symbols beyond Kseg with which a table is decoded here; nearly always it takes none.
const SPARE: u32 = 1;

/// Loss model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Loss {
    /// Share of the packets, 0..1.
    pub share: f64,
    /// Packets of a burst in the mean; 1 loses each packet by itself.
    pub burst: f64,
}

/// Channel with two states: all packets arrive, or none.
#[derive(Debug)]
struct Channel {
    loss: Loss,
    rng: SeededRng,
    deaf: bool,
}

impl Channel {
    fn new(loss: Loss, seed: u64) -> Self {
        let mut rng = SeededRng::new(seed, "channel");
        let deaf = unit(&mut rng) < loss.share;
        Self { loss, rng, deaf }
    }

    fn loses(&mut self) -> bool {
        let Loss { share, burst } = self.loss;
        let draw = unit(&mut self.rng);
        if burst <= 1.0 {
            return draw < share;
        }
        let turn = if self.deaf { 1.0 / burst } else { share / (1.0 - share) / burst };
        self.deaf ^= draw < turn;
        self.deaf
    }
}

/// Returns a number in 0..1.
fn unit(rng: &mut SeededRng) -> f64 {
    let mut octets = [0; 4];
    rng.fill_bytes(&mut octets);
    f64::from(u32::from_be_bytes(octets)) / 4_294_967_296.0
}

/// Counts of the data symbols that were received.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SymbolCounts {
    /// Received.
    pub received: u64,
    /// Of these, dropped because no table vouched for them in time.
    pub unproven: u64,
    /// Came before their table, and had to wait for it in memory.
    pub waited: u64,
}

impl std::iter::Sum for SymbolCounts {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            received: sum.received + one.received,
            unproven: sum.unproven + one.unproven,
            waited: sum.waited + one.waited,
        })
    }
}

impl SymbolCounts {
    /// Returns the share that found no table, in percent.
    #[must_use]
    pub fn unproven_percent(&self) -> f64 {
        self.percent(self.unproven)
    }

    /// Returns the share that had to wait for its table, in percent.
    #[must_use]
    pub fn waited_percent(&self) -> f64 {
        self.percent(self.waited)
    }

    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 symbols")]
    fn percent(&self, of: u64) -> f64 {
        of as f64 * 100.0 / self.received.max(1) as f64
    }
}

/// The receiver, as far as tables go.
#[derive(Debug)]
struct Counter {
    shape: PlanShape,
    tables: BTreeMap<Sbn, Table>,
    clock: u64,
    waiting: BTreeMap<Sbn, u64>,
    order: VecDeque<Sbn>,
    counts: SymbolCounts,
}

#[derive(Debug, Default)]
struct Table {
    last_use: u64,
    source: u32,
    total: u32,
    known: bool,
}

impl Counter {
    fn new(shape: PlanShape) -> Self {
        Self {
            shape,
            tables: BTreeMap::new(),
            clock: 0,
            waiting: BTreeMap::new(),
            order: VecDeque::new(),
            counts: SymbolCounts::default(),
        }
    }

    fn receive(&mut self, record: Record) {
        self.clock += 1;
        match record {
            Record::Table { segment, esi } => self.receive_table(segment, esi.0),
            Record::Data { sbn, esi } => {
                let at = self.shape.index_of(sbn, esi);
                if let Some(segment) = at.and_then(|at| self.shape.segment_of(at)) {
                    self.receive_data(segment);
                }
            }
        }
    }

    fn receive_table(&mut self, segment: Sbn, esi: u32) {
        if !self.tables.contains_key(&segment) && self.tables.len() >= KEPT {
            let oldest = self.tables.iter().min_by_key(|(_, table)| table.last_use);
            if let Some((&oldest, _)) = oldest {
                self.tables.remove(&oldest);
            }
        }
        let needed = u32::from(self.shape.table_source_symbols());
        let table = self.tables.entry(segment).or_default();
        table.last_use = self.clock;
        // Each table symbol goes out once in a pass, and a table outlives no pass.
        table.total += 1;
        table.source += u32::from(esi < needed);
        if !table.known && (table.source == needed || table.total >= needed + SPARE) {
            table.known = true;
            self.waiting.remove(&segment);
            self.order.retain(|waits| *waits != segment);
        }
    }

    fn receive_data(&mut self, segment: Sbn) {
        self.counts.received += 1;
        if let Some(table) = self.tables.get_mut(&segment).filter(|table| table.known) {
            table.last_use = self.clock;
            return;
        }
        self.counts.waited += 1;
        let size = usize::from(self.shape.oti().parameters().symbol_size) + 96;
        let room = u64::try_from(MAX_UNVERIFIED_BYTES / size).unwrap_or(u64::MAX);
        while self.waiting.values().sum::<u64>() >= room {
            match self.order.front().copied() {
                Some(oldest) if oldest != segment => self.forget(oldest),
                Some(_) | None => {
                    self.counts.unproven += 1;
                    return;
                }
            }
        }
        if !self.waiting.contains_key(&segment) {
            self.order.push_back(segment);
        }
        *self.waiting.entry(segment).or_default() += 1;
    }

    fn forget(&mut self, segment: Sbn) {
        self.order.retain(|waits| *waits != segment);
        self.counts.unproven += self.waiting.remove(&segment).unwrap_or_default();
    }

    /// Counts the symbols that still wait as symbols without a table.
    fn finish(mut self) -> SymbolCounts {
        self.counts.unproven += self.waiting.values().sum::<u64>();
        self.counts
    }
}

/// Returns the shape that the planner chooses for an image, at the defaults.
///
/// # Errors
///
/// When it has no plan.
pub fn shape(image_bytes: u64, loss_budget_percent: u8) -> anyhow::Result<PlanShape> {
    let wishes = PlanOptions {
        symbol_size: 1408,
        max_block_symbols: 8192,
        factor: 2.0,
        loss_budget_percent,
    };
    shape_for(image_bytes, wishes).map_err(|failure| anyhow::anyhow!("{failure}"))
}

/// Returns the records of `passes` passes from the beginning of a segment on.
fn records(schedule: Schedule, from: Sbn, passes: u32) -> impl Iterator<Item = Record> {
    let segments = u32::from(schedule.shape().segments());
    (from.0..from.0 + segments * passes).flat_map(move |segment| {
        let mut cursor = Cursor::start_of(Sbn(segment % segments));
        std::iter::from_fn(move || schedule.next(&mut cursor))
    })
}

/// Listens to `passes` passes in steady reception: the first segments are not counted.
#[must_use]
pub fn steady(shape: PlanShape, loss: Loss, passes: u32, seed: u64) -> SymbolCounts {
    let schedule = Schedule::new(shape);
    let mut channel = Channel::new(loss, seed);
    let mut counter = Counter::new(shape);
    let warm_up = WARM_UP * u64::from(shape.parameters().segment_symbols);
    for (at, record) in (0..).zip(records(schedule, Sbn(0), passes)) {
        if !channel.loses() {
            counter.receive(record);
        }
        if at == warm_up {
            (counter.counts, counter.waiting) = (SymbolCounts::default(), BTreeMap::new());
            counter.order.clear();
        }
    }
    counter.finish()
}

/// Segments in which a receiver gets into its stride.
const WARM_UP: u64 = 4;

/// Segments that a late device is listened to: after these it is in steady reception.
const LISTENED: u64 = 8;

/// Tunes in somewhere in the plan and returns how many of the symbols that it receives find no
/// table before it is in steady reception, in segments.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 symbols")]
pub fn late(shape: PlanShape, loss: Loss, seed: u64) -> f64 {
    let schedule = Schedule::new(shape);
    let mut rng = SeededRng::new(seed, "tune in");
    let skipped = rng.below(shape.leaves() + u64::from(shape.table_symbols()));
    let segment = u64::from(shape.parameters().segment_symbols);
    let mut channel = Channel::new(loss, seed);
    let mut counter = Counter::new(shape);
    let received_from = (0..).zip(records(schedule, Sbn(0), 2)).filter(|(at, _)| *at >= skipped);
    for (_, record) in received_from.take_while(|(at, _)| *at < skipped + LISTENED * segment) {
        if !channel.loses() {
            counter.receive(record);
        }
    }
    // The table of the symbols received last may come yet.
    let last = counter.waiting.pop_last().filter(|_| counter.waiting.is_empty());
    let unproven = counter.finish().unproven.saturating_sub(last.map_or(0, |(_, symbols)| symbols));
    unproven as f64 / segment as f64
}

/// Share of the tables.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// Of the packets of a pass, in percent.
    pub packets_percent: f64,
    /// Of the octets of a pass with IP and UDP headers, in percent.
    pub bytes_percent: f64,
}

/// Returns the share of the tables of a plan on air.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 octets")]
pub fn share(shape: PlanShape) -> Share {
    /// IPv4 and UDP.
    const BELOW: u64 = 28;
    let schedule = Schedule::new(shape);
    let (data, tables) = (shape.leaves(), u64::from(shape.table_symbols()));
    let of = |packets: u64, record: u64| packets * (record + LCT_BYTES + BELOW);
    let table_bytes = of(tables, schedule.table_bytes());
    let all = table_bytes + of(data, schedule.data_bytes());
    Share {
        packets_percent: tables as f64 * 100.0 / (tables + data) as f64,
        bytes_percent: table_bytes as f64 * 100.0 / all as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn tables_cost_at_most_three_of_a_hundred_packets_of_large_images() {
        for mebibytes in [64, 100, 256, 1024, 2047] {
            let share = share(shape(mebibytes * MIB, 30).unwrap());
            assert!(share.packets_percent <= 3.0, "{mebibytes} MiB: {share:?}");
            assert!(share.bytes_percent <= 3.0, "{mebibytes} MiB: {share:?}");
        }
    }

    #[test]
    fn within_the_budget_at_most_one_of_a_hundred_received_symbols_finds_no_table() {
        for (mebibytes, runs, percents) in
            [(64, 6, &[0_u8, 5, 10, 20, 30][..]), (256, 2, &[10, 30]), (1024, 1, &[30])]
        {
            let shape = shape(mebibytes * MIB, 30).unwrap();
            for percent in percents {
                for burst in [1.0, 8.0, 32.0, 128.0] {
                    let loss = Loss { share: f64::from(*percent) / 100.0, burst };
                    let counts: SymbolCounts =
                        (0..runs).map(|seed| steady(shape, loss, 2, seed)).sum();
                    let unproven = counts.unproven_percent();
                    assert!(unproven <= 1.0, "{mebibytes} MiB, {loss:?}: {unproven} %");
                }
            }
        }
    }

    #[test]
    fn a_device_that_tunes_in_anywhere_misses_two_segments_at_most() {
        let shape = shape(64 * MIB, 30).unwrap();
        let loss = Loss { share: 0.1, burst: 1.0 };
        for seed in 0..20 {
            let missed = late(shape, loss, seed);
            assert!(missed <= 2.0, "{missed} segments, seed {seed}");
        }
    }
}
