//! Unsigned sessions that the carousel's core puts on air, from files in memory.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    time::Duration,
};

use carousel::{
    flute::session::Transmit,
    unsigned::{
        Symbols, UnsignedFile, UnsignedResumePoint, UnsignedSession, UnsignedSetup,
        schedule::{BlockName, SymbolName, UnsignedSchedule},
        wire_profile::{FtiLocation, Profile},
    },
};
use proto::{
    fec::{codec::BlockEncoder, nocode, oti::Oti, raptorq_crate},
    flute::content_md5::ContentMd5,
    ids::{Toi, Tsi},
    time::{Mono, Now},
};

use crate::{air, peer::MOMENT};

/// A session that is to be put on air.
pub(crate) struct Broadcast {
    pub(crate) profile: Profile,
    pub(crate) fti: FtiLocation,
    /// Length and parameters of each file.
    pub(crate) files: Vec<Oti>,
    pub(crate) repair_percent: u32,
    pub(crate) passes: u64,
    /// Contents of the files.
    pub(crate) seed: u64,
}

impl Broadcast {
    /// Returns the packets, one every 2 ms, and the files that must arrive.
    pub(crate) fn on_air(&self) -> (Vec<Vec<u8>>, BTreeMap<String, Vec<u8>>) {
        let wire_profile = self.profile.wire_profile(self.fti);
        let (mut files, mut memory) = (Vec::new(), Vec::new());
        let mut expected = BTreeMap::new();
        for (number, oti) in (1..).zip(&self.files) {
            let length = usize::try_from(oti.transfer_length()).unwrap();
            let octets = air::octets(length, self.seed + number);
            let mut digest = ContentMd5::new();
            digest.update(&octets);
            let location = format!("files/{number}.bin");
            let entry = wire_profile.entry(Toi(number.into()), &location, *oti, digest.finish());
            files.push(UnsignedFile { entry, oti: *oti });
            memory.push((octets.clone(), *oti));
            expected.insert(location, octets);
        }
        let setup = UnsignedSetup {
            tsi: Tsi(0xbeef),
            wire_profile,
            files,
            empty: Vec::new(),
            schedule: UnsignedSchedule::new(
                &self.files,
                self.repair_percent,
                self.profile.default_order(),
            ),
            resume_point: UnsignedResumePoint::default(),
            passes: Some(self.passes),
            announce_every: Duration::from_millis(100),
        };
        (packets(setup, Memory { files: memory, coders: HashMap::new() }), expected)
    }
}

fn packets(setup: UnsignedSetup, mut symbols: Memory) -> Vec<Vec<u8>> {
    let at = |packets: usize| {
        let nanos = u64::try_from(packets).unwrap() * 2_000_000;
        Now { mono: Mono(nanos), utc: MOMENT }
    };
    let mut session = UnsignedSession::new(at(0), setup);
    let mut packets = Vec::new();
    loop {
        let mut packet = Vec::new();
        match session.poll_transmit(at(packets.len()), &mut symbols, &mut packet).unwrap() {
            Transmit::Packet => packets.push(packet),
            Transmit::Wait(_) => unreachable!("no file is empty"),
            Transmit::Closed => return packets,
        }
    }
}

/// Files in memory, with a coder for each block.
struct Memory {
    files: Vec<(Vec<u8>, Oti)>,
    coders: HashMap<BlockName, Box<dyn BlockEncoder>>,
}

impl Memory {
    fn coder(&self, name: BlockName) -> Box<dyn BlockEncoder> {
        let (octets, oti) = &self.files[name.file];
        let partition = oti.partition();
        let size = usize::from(oti.symbol_size());
        let start = usize::try_from(partition.first_symbol(name.sbn).unwrap()).unwrap() * size;
        let symbols = usize::try_from(partition.symbols_of(name.sbn).unwrap()).unwrap();
        let block = &octets[start..(start + symbols * size).min(octets.len())];
        match oti {
            Oti::NoCode(oti) => Box::new(nocode::Encoder::new(oti, name.sbn, block).unwrap()),
            Oti::RaptorQ(oti) => {
                Box::new(raptorq_crate::Encoder::new(oti, name.sbn, block).unwrap())
            }
        }
    }
}

impl Symbols for Memory {
    fn prepare(&mut self, _: &[SymbolName]) {}

    fn read(&mut self, name: SymbolName, symbol: &mut [u8]) -> io::Result<()> {
        if !self.coders.contains_key(&name.block) {
            let coder = self.coder(name.block);
            self.coders.insert(name.block, coder);
        }
        let range = name.esi.0..name.esi.0 + 1;
        self.coders[&name.block].for_each_symbol(range, &mut |_, octets| {
            symbol.copy_from_slice(&octets[..symbol.len()]);
        });
        Ok(())
    }
}
