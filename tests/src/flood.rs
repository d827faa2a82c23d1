//! A flood of forged packets, received by the real receiver core beside the true ones.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use proto::{
    crypto::Hash16,
    fec::{codec::BlockDecoder as _, raptorq_crate::Decoder},
    fixtures::broadcast::Broadcast,
    flute::alc::Packet,
    ids::{Esi, Sbn},
    time::Mono,
    trust::{PlannedObject, plan::leaf},
};
use receiver::{
    flute::{object::Object, stats::Stats},
    store::{Limits, LogOutput, ObjectLayout, Recovered, SymbolLog},
};
use serde::Serialize;

use crate::lab::{forgery::Forger, rng::SeededRng};

/// Parameters of a flood.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Flood {
    /// Source symbols of the image.
    pub symbols: u32,
    /// Source blocks.
    pub blocks: u8,
    /// Forged packets for each true one.
    pub ratio: f64,
    /// Forged packets at least; passes are repeated until as many were received.
    pub forged: u64,
    /// True packets that are lost, in percent.
    pub loss_percent: u8,
    /// Seed of losses and forgeries.
    pub seed: u64,
}

/// Result of a flood.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// Forged packets received.
    pub forged: u64,
    /// Of these, stored or accepted into a table.
    pub forged_taken: u64,
    /// True packets received until the image was complete, without and with the flood.
    pub true_packets_clean: u64,
    /// See above.
    pub true_packets_flooded: u64,
    /// The second in units of the first.
    pub completion: f64,
    /// Resident octets of the process before the flood, when the image was complete, and after the
    /// last forged packet.
    pub resident_before: u64,
    /// See above.
    pub resident_complete: u64,
    /// See above.
    pub resident_after: u64,
}

/// Receives the same broadcast without and with the flood.
///
/// # Errors
///
/// When an image is not exact or a record in the storage is none of the plan.
pub fn run(flood: Flood) -> anyhow::Result<Outcome> {
    let broadcast = Broadcast::new(flood.symbols, flood.blocks);
    let clean = receive_broadcast(&broadcast, Flood { ratio: 0.0, forged: 0, ..flood })?;
    let resident_before = resident()?;
    let flooded = receive_broadcast(&broadcast, flood)?;
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 packets")]
    let completion = flooded.needed as f64 / clean.needed as f64;
    Ok(Outcome {
        forged: flooded.forged,
        forged_taken: flooded.forged_taken,
        true_packets_clean: clean.needed,
        true_packets_flooded: flooded.needed,
        completion,
        resident_before,
        resident_complete: flooded.resident_complete,
        resident_after: resident()?,
    })
}

struct PacketCounts {
    needed: u64,
    forged: u64,
    forged_taken: u64,
    resident_complete: u64,
}

fn receive_broadcast(broadcast: &Broadcast, flood: Flood) -> anyhow::Result<PacketCounts> {
    let mut device = Device::new(broadcast.object);
    let mut forger = Forger::new(broadcast.object, flood.ratio, flood.seed);
    let mut rng = SeededRng::new(flood.seed, "loss");
    let pass = broadcast.pass();
    let mut counts = PacketCounts { needed: 0, forged: 0, forged_taken: 0, resident_complete: 0 };
    let mut complete = false;
    let mut number = 0_u64;
    while !complete || counts.forged < flood.forged {
        let at = usize::try_from(number)? % pass.len();
        let datagram = pass.get(at).context("a packet of the pass")?;
        number += 1;
        ensure!(number < 20 * u64::try_from(pass.len())?, "twenty passes are not enough");
        let mut forged = Vec::new();
        forger.handle_true(datagram, &mut |_, octets| forged.push(octets.to_vec()))?;
        for datagram in &forged {
            counts.forged += 1;
            counts.forged_taken += u64::from(device.stores(datagram)?);
        }
        if lost(&mut rng, flood.loss_percent) {
            continue;
        }
        device.receive(datagram)?;
        if !complete {
            counts.needed += 1;
            complete = device.object.blocks().has_enough();
            if complete {
                device.sync(broadcast)?;
                ensure!(device.solve()? == broadcast.image, "the image is not exact");
                counts.resident_complete = resident()?;
            }
        }
    }
    device.sync(broadcast)?;
    Ok(counts)
}

fn lost(rng: &mut SeededRng, percent: u8) -> bool {
    let mut octets = [0; 2];
    rng.fill_bytes(&mut octets);
    u32::from(u16::from_be_bytes(octets)) * 100 < u32::from(percent) * 65_536
}

/// The receiver's core, and a storage in memory.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) object: Object,
    pub(crate) stats: Stats,
    stored: Vec<(Sbn, Esi, Vec<u8>)>,
}

impl Device {
    pub(crate) fn new(planned: PlannedObject) -> Self {
        let layout = ObjectLayout::new(planned.object_key, planned.stored_sha256, planned.oti);
        let ready = Recovered { files_ready: layout.files(), ..Recovered::default() };
        let log = SymbolLog::recovered(layout, Limits::default(), &ready, &BTreeSet::new(), &[]);
        Self { object: Object::new(planned, log), stats: Stats::default(), stored: Vec::new() }
    }

    /// Receives a packet; packets of other objects are ignored.
    pub(crate) fn receive(&mut self, datagram: &[u8]) -> anyhow::Result<()> {
        let packet = Packet::parse(datagram)?;
        self.object.handle_packet(Mono(0), &packet, &mut self.stats);
        self.write()
    }

    /// Receives a packet and returns whether any part of it was stored.
    fn stores(&mut self, datagram: &[u8]) -> anyhow::Result<bool> {
        let before = (self.stats.data_accepted, self.stats.table_accepted, self.stats.data_held);
        self.receive(datagram)?;
        let after = (self.stats.data_accepted, self.stats.table_accepted, self.stats.data_held);
        Ok((before.0, before.1) != (after.0, after.1))
    }

    /// Plays a storage that writes and syncs at once.
    fn write(&mut self) -> anyhow::Result<()> {
        let layout = self.object.log().layout().clone();
        while let Some(output) = self.object.log_mut().poll_output() {
            match output {
                LogOutput::Write { octets, .. } => {
                    for record in octets.chunks_exact(layout.slot_size()) {
                        let slot = layout.parse_slot(record).context("a whole record")?;
                        self.stored.push((slot.sbn, slot.esi, slot.symbol.to_vec()));
                    }
                }
                LogOutput::Tables { .. } => {}
                LogOutput::Flush(ticket) => self.object.log_mut().handle_flushed(ticket),
            }
        }
        Ok(())
    }

    /// Flushes, and holds every stored symbol against the leaves of the plan.
    fn sync(&mut self, broadcast: &Broadcast) -> anyhow::Result<()> {
        self.flush()?;
        let key: Hash16 = broadcast.object.object_key;
        for (sbn, esi, symbol) in &self.stored {
            let place = broadcast.header.shape().index_of(*sbn, *esi).context("a place")?;
            let expected = broadcast.leaves.get(usize::try_from(place)?).context("a leaf")?;
            ensure!(leaf(&key, *sbn, *esi, symbol) == *expected, "a forged symbol is stored");
        }
        Ok(())
    }

    pub(crate) fn flush(&mut self) -> anyhow::Result<()> {
        self.object.log_mut().flush();
        self.write()
    }

    pub(crate) fn solve(&self) -> anyhow::Result<Vec<u8>> {
        let oti = &self.object.planned().oti;
        let mut image = Vec::new();
        for sbn in (0..oti.partition().blocks()).map(Sbn) {
            let mut decoder = Decoder::new(oti, sbn).context("a block")?;
            for (_, esi, symbol) in self.stored.iter().filter(|(block, ..)| *block == sbn) {
                decoder.push(*esi, symbol);
            }
            image.extend(decoder.decode().context("enough symbols of each block")?);
        }
        image.truncate(usize::try_from(oti.parameters().transfer_length)?);
        Ok(image)
    }
}

/// Returns the resident octets of this process.
fn resident() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_forged_packets_costs_neither_packets_nor_memory() {
        let flood = Flood {
            symbols: 4000,
            blocks: 2,
            ratio: 10.0,
            forged: 100_000,
            loss_percent: 10,
            seed: 1,
        };
        let outcome = run(flood).unwrap();
        assert!(outcome.forged >= flood.forged, "{outcome:?}");
        assert_eq!(outcome.forged_taken, 0, "{outcome:?}");
        assert!(outcome.completion <= 1.05, "{outcome:?}");
        // Symbols that wait for a table take up to 8 MiB; the remainder is the image.
        assert!(outcome.resident_after <= outcome.resident_before + (24 << 20), "{outcome:?}");
    }
}
