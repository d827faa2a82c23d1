//! Several image servers on one plan: the sender's core at several places of it, one receiver's
//! core that receives them all.

use std::{io, num::NonZeroUsize};

use anyhow::{Context as _, ensure};
use carousel::{
    control::resume_point::ResumePoint,
    flute::lifecycle::Transmit,
    flute::session::{AiredObject, FluteSession, Records, SessionSetup},
    plan::encode::{PlanJob, write_plan},
    plan::schedule::Schedule,
};
use proto::{
    crypto::sha256,
    fec::oti::{RaptorQOti, RaptorQParameters},
    ids::{CampaignId, ComponentId, Sbn, Tsi},
    time::{Mono, Now, Utc},
    trust::{
        PlannedObject,
        plan::{PlanParameters, PlanShape, object_key},
    },
};
use serde::Serialize;

use super::{Channel, Loss};
use crate::{
    flood::Device,
    lab::rng::SeededRng,
    memory::{self, Memory},
};

/// Parameters of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AirOptions {
    /// Image servers; number j of n begins at L·j/n.
    pub servers: u32,
    /// Of each server's packets, independent of the others.
    pub loss: Loss,
    /// Seed of the losses.
    pub seed: u64,
}

/// Result of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Completion {
    /// Image servers.
    pub servers: u32,
    /// Packets that each of them sent until the device could decode every block.
    pub packets_of_each: u64,
    /// Data symbols that the device stored.
    pub symbols_taken: u64,
    /// Those that it received and held already.
    pub symbols_twice: u64,
}

/// An image with its plan, as image servers hold it.
#[derive(Debug)]
pub struct Plan {
    image: Vec<u8>,
    aired: AiredObject,
    records: Vec<u8>,
}

/// Image: 8,000 symbols of 64 octets in two blocks; as many repair symbols again.
const SYMBOLS: u32 = 8_000;
const SYMBOL_BYTES: u16 = 64;
const BLOCKS: u8 = 2;
/// L / 64, as the planner has it.
const SEGMENT_SYMBOLS: u32 = 250;
/// Kseg is 16 with symbols of 256 octets, as it is for segments of 1,216 symbols on air.
const TABLE_SYMBOL_BYTES: u16 = 256;
const TABLE_REPAIR: u16 = 20;

impl Plan {
    /// Makes the plan.
    ///
    /// # Errors
    ///
    /// Never: the parameters are within the limits.
    pub fn new() -> anyhow::Result<Self> {
        let length = u64::from(SYMBOLS) * u64::from(SYMBOL_BYTES);
        let mut image = vec![0; usize::try_from(length)?];
        SeededRng::new(length, "image").fill_bytes(&mut image);
        let digest = sha256(&[&image]);
        let oti = RaptorQOti::new(RaptorQParameters {
            transfer_length: length,
            symbol_size: SYMBOL_BYTES,
            source_blocks: BLOCKS,
            sub_blocks: 1,
            alignment: 8,
        })
        .ok()
        .context("valid parameters")?;
        let parameters = PlanParameters {
            repair_per_block: SYMBOLS / u32::from(BLOCKS),
            segment_symbols: SEGMENT_SYMBOLS,
            table_repair: TABLE_REPAIR,
            table_symbol_bytes: TABLE_SYMBOL_BYTES,
        };
        let schedule = Schedule::new(PlanShape::new(oti, parameters)?);
        let key = object_key(&digest, &oti);
        let plan = Memory::new(vec![0; usize::try_from(schedule.file_bytes())?]);
        let source = Memory::new(image);
        let header = write_plan(&PlanJob {
            schedule,
            object_key: key,
            image: &source,
            plan: &plan,
            threads: NonZeroUsize::MIN,
            progress: &|_| (),
        })?;
        let object = PlannedObject {
            component: ComponentId(0),
            oti,
            repair_per_block: parameters.repair_per_block,
            plan_root: header.root(),
            stored_sha256: digest,
            object_key: key,
        };
        Ok(Self {
            image: source.into_bytes(),
            aired: AiredObject { object, schedule, plan_header: header.emit() },
            records: plan.into_bytes(),
        })
    }

    /// Airs the plan from several positions at one pace until a device that receives all of them
    /// can decode every block; the image is compared.
    ///
    /// # Errors
    ///
    /// When the image is not exact, or ten passes do not suffice.
    pub fn air(&self, airing: AirOptions) -> anyhow::Result<Completion> {
        let mut device = Device::new(self.aired.object);
        let shape = *self.aired.schedule.shape();
        let mut servers = Vec::new();
        for number in 0..airing.servers {
            let at = shape.leaves() * u64::from(number) / u64::from(airing.servers);
            let segment = shape.segment_of(at).context("a segment")?;
            let purpose = airing.seed.wrapping_mul(100) + u64::from(number);
            servers.push((self.session(number, segment), Channel::new(airing.loss, purpose)));
        }
        let mut records = Octets(&self.records);
        let mut packet = Vec::new();
        let mut packets_of_each = 0;
        while !device.object.blocks().has_enough() {
            ensure!(packets_of_each < 10 * shape.leaves(), "ten passes do not suffice");
            packets_of_each += 1;
            for (session, channel) in &mut servers {
                // A thousand packets a second.
                let made = session.poll_transmit(at(packets_of_each), &mut records, &mut packet)?;
                ensure!(made == Transmit::Packet, "a plan has no end");
                if !channel.loses() {
                    device.receive(&packet)?;
                }
            }
        }
        device.flush()?;
        ensure!(device.solve()? == self.image, "the image is not exact");
        Ok(Completion {
            servers: airing.servers,
            packets_of_each,
            symbols_taken: device.stats.data_accepted,
            symbols_twice: device.stats.data_held,
        })
    }

    fn session(&self, number: u32, segment: Sbn) -> FluteSession {
        let setup = SessionSetup {
            tsi: Tsi((7 + number).into()),
            campaign: CampaignId([6; 16]),
            objects: vec![self.aired.clone()],
            resume_point: ResumePoint { segment: segment.0, ..ResumePoint::START },
            passes: None,
        };
        FluteSession::new(at(0), setup)
    }
}

fn at(milliseconds: u64) -> Now {
    Now {
        mono: Mono(1_000_000_000 + milliseconds * 1_000_000),
        utc: Utc(1_800_000_000_000 + milliseconds),
    }
}

/// The records of a plan, as image servers read them.
struct Octets<'a>(&'a [u8]);

impl Records for Octets<'_> {
    fn read(&mut self, _: usize, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        memory::read(self.0, offset, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_receives_several_image_servers_of_one_plan_is_done_in_a_share_of_the_time() {
        let plan = Plan::new().unwrap();
        for (percent, burst) in [(0.0, 1.0), (0.1, 1.0), (0.3, 32.0)] {
            let airing =
                |servers| AirOptions { servers, loss: Loss { share: percent, burst }, seed: 3 };
            let alone = plan.air(airing(1)).unwrap();
            for servers in 2..=4 {
                let together = plan.air(airing(servers)).unwrap();
                let share = together.packets_of_each as f64 / alone.packets_of_each as f64;
                // Each brings its own tables to begin with.
                let most = 1.0 / f64::from(servers) + 0.08;
                assert!(share <= most, "{servers} at {percent}: {together:?} and {alone:?}");
            }
        }
    }
}
