//! Cost of the receiver's check of a packet, beside bare SHA-256 over the same octets.

use std::{collections::BTreeSet, hint::black_box};

use anyhow::{Context as _, ensure};
use proto::{
    crypto::sha256, fixtures::broadcast::Broadcast, flute::alc::Packet, ids::Toi, time::Mono,
};
use receiver::{
    flute::{object::Object, stats::Stats},
    shell::clock::Clock,
    store::{Limits, ObjectLayout, Recovered, SymbolLog},
};
use serde_json::json;

/// Octets of a symbol, as devices receive them.
const SYMBOL_BYTES: u16 = 1408;

/// Times that all packets are checked in one measurement.
const ROUNDS: u32 = 40;

/// Medians of the measurement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Packets that the receiver checks in a second: read, placed, hashed, compared.
    pub checked_per_second: f64,
    /// Times in a second that SHA-256 is computed over a datagram.
    pub hashed_per_second: f64,
    /// Median of the ratios of neighbouring measurements.
    pub ratio: f64,
}

impl Cost {
    /// Returns one JSON object.
    #[must_use]
    pub fn json(&self) -> String {
        json!({
            "checked_per_second": self.checked_per_second.round(),
            "sha256_per_second": self.hashed_per_second.round(),
            "ratio": self.ratio,
        })
        .to_string()
    }

    /// Returns lines for people.
    #[must_use]
    pub fn text(&self) -> String {
        format!(
            "receiver's check   {:9.0} packets/s\nbare SHA-256       {:9.0} packets/s\nratio              {:9.2}",
            self.checked_per_second, self.hashed_per_second, self.ratio
        )
    }
}

/// Measures both in turn, `times` times.
///
/// The packets are forged ones whose table is known: each takes the whole way of a true one up to
/// the comparison, and none is stored, so that the storage is not measured.
///
/// # Errors
///
/// When the packets do not take the way that is to be measured.
pub fn run(times: usize) -> anyhow::Result<Cost> {
    let broadcast = Broadcast::of_symbols(512, 1, SYMBOL_BYTES);
    let planned = broadcast.object;
    let layout = ObjectLayout::new(planned.object_key, planned.stored_sha256, planned.oti);
    let ready = Recovered { files_ready: layout.files(), ..Recovered::default() };
    let log = SymbolLog::recovered(layout, Limits::default(), &ready, &BTreeSet::new(), &[]);
    let mut object = Object::new(planned, log);
    let mut stats = Stats::default();
    let mut datagrams = Vec::new();
    for datagram in broadcast.pass() {
        let packet = Packet::parse(&datagram)?;
        if packet.header.toi == Some(Toi::object(planned.component)) {
            let mut forged = datagram.clone();
            *forged.last_mut().context("a symbol")? ^= 1;
            datagrams.push(forged);
        } else {
            object.handle_packet(Mono(0), &packet, &mut stats);
        }
    }
    let mut found = Vec::new();
    for _ in 0..times {
        let before = stats.data_forged;
        let checked = seconds(|| check(&mut object, &datagrams, &mut stats));
        let expected = u64::try_from(datagrams.len())? * u64::from(ROUNDS);
        ensure!(stats.data_forged - before == expected, "a packet took another way: {stats:?}");
        let hashed = seconds(|| hash(&datagrams));
        found.push((checked, hashed));
    }
    let packets = f64::from(ROUNDS) * f64::from(u32::try_from(datagrams.len())?);
    Ok(Cost {
        checked_per_second: packets / median(found.iter().map(|(checked, _)| *checked)),
        hashed_per_second: packets / median(found.iter().map(|(_, hashed)| *hashed)),
        ratio: median(found.iter().map(|(checked, hashed)| hashed / checked)),
    })
}

fn check(object: &mut Object, datagrams: &[Vec<u8>], stats: &mut Stats) {
    for _ in 0..ROUNDS {
        for datagram in datagrams {
            let Ok(packet) = Packet::parse(black_box(datagram)) else { continue };
            object.handle_packet(Mono(0), &packet, stats);
        }
    }
}

fn hash(datagrams: &[Vec<u8>]) {
    for _ in 0..ROUNDS {
        for datagram in datagrams {
            black_box(sha256(&[black_box(datagram)]));
        }
    }
}

fn seconds(work: impl FnOnce()) -> f64 {
    let began = Clock.now().mono;
    work();
    Clock.now().mono.since(began).as_secs_f64()
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_is_the_whole_way_of_a_packet() {
        let cost = run(1).unwrap();
        assert!(cost.checked_per_second > 0.0 && cost.hashed_per_second > 0.0, "{cost:?}");
    }
}
