//! The least receiver that `proto` can make: no store, no trust, all in memory.

use std::collections::BTreeMap;

use proto::{
    fec::{codec::BlockDecoder, nocode, oti::Oti, raptorq_crate},
    flute::{
        alc::{Packet, Payload, PayloadId},
        fdt::{
            FileEntry,
            store::{FdtEvent, FdtStore},
        },
    },
    ids::{Sbn, Toi},
};

use crate::peer::MOMENT;

/// Collects the files of one session.
#[derive(Default)]
pub(crate) struct Collector {
    /// Packets whose EXT_FDT has version 1, and 2.
    pub(crate) versions: [usize; 2],
    /// Data packets with EXT_FTI.
    pub(crate) with_parameters: usize,
    /// Set when a packet has closed the session.
    pub(crate) closed: bool,
    /// Files of the FDT.
    pub(crate) entries: BTreeMap<Toi, FileEntry>,
    tables: FdtStore,
    objects: BTreeMap<Toi, Object>,
}

/// One object: symbols wait until its parameters are known.
#[derive(Default)]
struct Object {
    oti: Option<Oti>,
    waiting: Vec<(PayloadId, Vec<u8>)>,
    decoders: BTreeMap<Sbn, Box<dyn BlockDecoder>>,
    blocks: BTreeMap<Sbn, Vec<u8>>,
}

impl Collector {
    /// Takes datagrams, each of which must be well-formed.
    pub(crate) fn receive(datagrams: &[Vec<u8>]) -> Self {
        let mut collector = Self::default();
        datagrams.iter().for_each(|datagram| collector.push(datagram));
        collector
    }

    /// Returns the complete files by Content-Location.
    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let complete = self.objects.iter().filter_map(|(toi, object)| {
            Some((self.entries.get(toi)?.content_location.clone(), object.octets()?))
        });
        complete.collect()
    }

    fn push(&mut self, datagram: &[u8]) {
        let packet = Packet::parse(datagram).expect("their packets are well-formed");
        self.closed |= packet.header.close_session;
        let Some(payload) = packet.payload else { return };
        let oti = packet.extensions.fti(packet.header.codepoint).expect("their FTI is valid");
        let toi = packet.header.toi.expect("a packet with data has a TOI");
        if toi == Toi::FDT {
            let header = packet.extensions.fdt().expect("FDT packets have EXT_FDT");
            self.versions[usize::from(header.version) - 1] += 1;
            if let FdtEvent::Instance { contradicted, .. } =
                self.tables.handle_packet(MOMENT, &packet).expect("their FDT is valid")
            {
                assert!(contradicted.is_empty());
                self.update_parameters();
            }
        } else {
            self.with_parameters += usize::from(oti.is_some());
            let known = self.entries.get(&toi);
            let oti = known.map_or(Ok(oti), |entry| entry.parameters(oti));
            self.objects.entry(toi).or_default().push(oti.expect("they agree"), payload);
        }
    }

    fn update_parameters(&mut self) {
        let instances: Vec<_> = self.tables.instances(MOMENT).collect();
        for entry in instances.iter().rev().flat_map(|held| &held.instance.files) {
            if let Some(object) = self.objects.get_mut(&entry.toi) {
                object.update_parameters(entry.parameters(object.oti).expect("they agree"));
            }
            self.entries.insert(entry.toi, entry.clone());
        }
    }
}

impl Object {
    fn push(&mut self, oti: Option<Oti>, payload: Payload<'_>) {
        self.waiting.push((payload.id, payload.symbols.to_vec()));
        self.update_parameters(oti);
    }

    fn update_parameters(&mut self, oti: Option<Oti>) {
        if let (Some(known), Some(announced)) = (self.oti, oti) {
            assert_eq!(known, announced, "the parameters of an object do not change");
        }
        self.oti = self.oti.or(oti);
        let Some(oti) = self.oti else { return };
        for (id, symbols) in std::mem::take(&mut self.waiting) {
            if self.blocks.contains_key(&id.sbn) {
                continue;
            }
            let decoder = self.decoders.entry(id.sbn).or_insert_with(|| decoder(&oti, id.sbn));
            for (id, symbol) in (Payload { id, symbols: &symbols }).each(oti.symbol_size()) {
                decoder.push(id.esi, symbol);
            }
            if let Some(block) = decoder.decode() {
                self.decoders.remove(&id.sbn);
                self.blocks.insert(id.sbn, block);
            }
        }
    }

    fn octets(&self) -> Option<Vec<u8>> {
        let oti = self.oti?;
        let blocks = usize::try_from(oti.partition().blocks()).unwrap();
        (self.blocks.len() == blocks).then(|| {
            let mut octets = self.blocks.values().flatten().copied().collect::<Vec<u8>>();
            octets.truncate(usize::try_from(oti.transfer_length()).unwrap());
            octets
        })
    }
}

fn decoder(oti: &Oti, sbn: Sbn) -> Box<dyn BlockDecoder> {
    match oti {
        Oti::NoCode(oti) => Box::new(nocode::Decoder::new(oti, sbn).expect("the block exists")),
        Oti::RaptorQ(oti) => {
            Box::new(raptorq_crate::Decoder::new(oti, sbn).expect("the block exists"))
        }
    }
}
