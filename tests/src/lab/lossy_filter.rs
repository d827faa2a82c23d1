//! Packet filter between socket and agent of a lab device: draws losses and counts the remainder.

use std::{io, path::Path};

use proto::flute::alc::Packet;
use receiver::shell::event_loop::PacketFilter;

use crate::lab::{
    counters::{Counters, Datagram},
    options::Percent,
    rng::SeededRng,
};

/// The filter of one life of a device.
#[derive(Debug)]
pub struct LossyFilter {
    loss: f64,
    rng: SeededRng,
    counters: Counters,
}

impl LossyFilter {
    /// Opens the filter; it adds to the counts in `counters`, and each life draws losses of its
    /// own.
    ///
    /// # Errors
    ///
    /// When the counters cannot be opened.
    pub fn open(counters: &Path, loss: Percent, seed: u64, device: &str) -> io::Result<Self> {
        let counters = Counters::open(counters)?;
        let life = counters.counts().lives;
        let rng = SeededRng::new(seed, &format!("loss {device} {life}"));
        Ok(Self { loss: loss.0 / 100.0, rng, counters })
    }
}

impl PacketFilter for LossyFilter {
    fn accept(&mut self, datagram: &[u8]) -> bool {
        if self.rng.random_bool(self.loss) {
            return false;
        }
        if let Err(error) = self.counters.count(kind(datagram)) {
            // A device that cannot count must not look as if it had received nothing.
            tracing::error!(%error, "failed to count a datagram");
            return false;
        }
        true
    }
}

fn kind(datagram: &[u8]) -> Datagram {
    let toi = Packet::parse(datagram).ok().and_then(|packet| packet.header.toi);
    match toi {
        Some(toi) if OBJECTS.contains(&toi.0) => Datagram::Data,
        Some(_) | None => Datagram::Other,
    }
}

/// TOIs of images.
const OBJECTS: std::ops::RangeInclusive<u128> = 16..=16 + 255;

#[cfg(test)]
mod tests {
    use proto::{
        flute::{
            alc::{Payload, PayloadId},
            lct::{Extensions, Header},
        },
        ids::{ComponentId, Esi, Sbn, Toi, Tsi},
    };

    use super::*;

    #[test]
    fn images_of_all_components_are_data_and_nothing_else_is() {
        let of = |toi| {
            let id = PayloadId { sbn: Sbn(0), esi: Esi(0) };
            let payload = Some(Payload { id, symbols: &[1] });
            let header = Header::wide(Tsi(1), toi, 6);
            let mut out = Vec::new();
            Packet { header, extensions: Extensions::NONE, payload }.emit(&mut out).unwrap();
            kind(&out)
        };
        for component in [0, 255].map(ComponentId) {
            assert_eq!(of(Toi::object(component)), Datagram::Data);
            assert_eq!(of(Toi::tables(component)), Datagram::Other);
            assert_eq!(of(Toi::plan_header(component)), Datagram::Other);
        }
        assert_eq!(of(Toi::FDT), Datagram::Other);
        assert_eq!(kind(b"noise"), Datagram::Other);
    }

    #[test]
    fn losses_are_drawn_anew_in_each_life_and_repeat_with_the_seed() {
        let folder = tempfile::tempdir().unwrap();
        let life = |name: &str, seed| {
            let path = folder.path().join(name);
            let mut tap = LossyFilter::open(&path, Percent(30.0), seed, "LAB-0001").unwrap();
            (0..1000).map(|_| tap.accept(b"x")).collect::<Vec<_>>()
        };
        let (first, second) = (life("a", 1), life("a", 1));
        assert_ne!(first, second);
        assert_eq!([&first, &second], [&life("b", 1), &life("b", 1)]);
        let admitted = first.iter().chain(&second).filter(|admitted| **admitted).count();
        let counts = crate::lab::counters::read(&folder.path().join("a")).unwrap();
        assert_eq!(counts.datagrams, u64::try_from(admitted).unwrap());
        assert!((1300..1500).contains(&admitted), "{admitted}");
    }
}
