//! Plain sessions of both profiles, received by them and by `proto`.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    time::Duration,
};

use carousel::{
    plain::{
        PlainFile, PlainPlace, PlainSession, PlainSetup, Symbols,
        schedule::{BlockName, PlainSchedule, SymbolName},
        style::{FecWishes, FtiPlace, Profile, Scheme, oti_for},
    },
    session::Transmit,
};
use proto::{
    fec::{codec::BlockEncoder, nocode, oti::Oti, raptorq_crate},
    flute::{alc::Packet, content_md5::ContentMd5},
    ids::{Toi, Tsi},
    time::{Mono, Now},
};

use crate::{
    air,
    collector::Collector,
    peer::{MOMENT, TheirReceiver},
};

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
            symbol.copy_from_slice(octets);
        });
        Ok(())
    }
}

fn wishes(scheme: Scheme) -> FecWishes {
    FecWishes { scheme, symbol_size: 1024, max_block_symbols: 64 }
}

/// Returns the packets of a session, one every 2 ms, and what must arrive.
fn on_air(
    (profile, fti, scheme): (Profile, FtiPlace, Scheme),
    lengths: &[usize],
    passes: u64,
) -> (Vec<Vec<u8>>, BTreeMap<String, Vec<u8>>) {
    let style = profile.style(fti);
    let (mut files, mut memory) = (Vec::new(), Vec::new());
    let mut expected = BTreeMap::new();
    for (number, length) in (1..).zip(lengths) {
        let octets = air::octets(*length, number);
        let oti = oti_for(u64::try_from(*length).unwrap(), wishes(scheme), &style).unwrap();
        let mut digest = ContentMd5::new();
        digest.update(&octets);
        let location = format!("files/{number}.bin");
        let entry = style.entry(Toi(number.into()), &location, oti, digest.finish());
        files.push(PlainFile { entry, oti });
        memory.push((octets.clone(), oti));
        expected.insert(location, octets);
    }
    let all: Vec<Oti> = files.iter().map(|file| file.oti).collect();
    let setup = PlainSetup {
        tsi: Tsi(0xbeef),
        style,
        files,
        schedule: PlainSchedule::new(&all, 60),
        place: PlainPlace::default(),
        passes: Some(passes),
        announce_every: Duration::from_millis(100),
    };
    let at = |packets: usize| {
        let nanos = u64::try_from(packets).unwrap() * 2_000_000;
        Now { mono: Mono(nanos), utc: MOMENT }
    };
    let mut session = PlainSession::new(at(0), setup);
    let mut symbols = Memory { files: memory, coders: HashMap::new() };
    let mut packets = Vec::new();
    loop {
        let mut packet = Vec::new();
        match session.poll_transmit(at(packets.len()), &mut symbols, &mut packet).unwrap() {
            Transmit::Packet => packets.push(packet),
            Transmit::Closed => return (packets, expected),
        }
    }
}

fn every_form() -> impl Iterator<Item = (Profile, FtiPlace, Scheme)> {
    [Profile::Rfc6726, Profile::Mbms].into_iter().flat_map(|profile| {
        [FtiPlace::Packet, FtiPlace::Fdt, FtiPlace::Both].into_iter().flat_map(move |fti| {
            [Scheme::RaptorQ, Scheme::NoCode].map(|scheme| (profile, fti, scheme))
        })
    })
}

#[test]
fn both_profiles_arrive_wherever_the_parameters_stand() {
    for form in every_form() {
        let (packets, expected) = on_air(form, &[1, 1024, 20_000, 300_001], 1);
        let received = TheirReceiver::new().receive(&packets);
        assert!(received == expected, "{form:?}: they have {:?}", received.keys());
        let ours = Collector::receive(&packets);
        assert!(ours.files() == expected, "{form:?}: we have {:?}", ours.files().keys());
        assert!(ours.closed);
        let version = match form.0 {
            Profile::Mbms => 0,
            Profile::Rfc6726 => 1,
        };
        assert_eq!(ours.versions[1 - version], 0, "{form:?}");
    }
}

#[test]
fn both_profiles_survive_loss_disorder_and_a_late_join() {
    for form in every_form() {
        let passes = if form.2 == Scheme::NoCode { 8 } else { 3 };
        let (packets, expected) = on_air(form, &[700, 300_001], passes);
        for (joined, loss, seed) in [(0, 0.1, 1), (0, 0.2, 2), (packets.len() / 4, 0.1, 3)] {
            let mut heard = air::disorder(packets[joined..].to_vec(), 20, seed);
            // What closes the session comes last whatever overtakes what.
            heard.sort_by_key(|packet| Packet::parse(packet).unwrap().header.close_session);
            air::lose(&mut heard, loss, seed);
            let received = TheirReceiver::new().receive(&heard);
            assert!(received == expected, "{form:?} {loss} {joined}: {:?}", received.keys());
            let ours = Collector::receive(&heard).files();
            assert!(ours == expected, "{form:?} {loss} {joined}: {:?}", ours.keys());
        }
    }
}
