//! Tables over a power cut: a device that starts again in the middle of a segment.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps")]

use std::{
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use fumocast_tests::{
    sim::disk::SimDisk,
    store::device::{DATA, Device},
};
use proto::{
    fixtures::broadcast::Broadcast,
    flute::alc::Packet,
    ids::{ComponentId, Toi},
};
use receiver::{flute::stats::Stats, shell::disk::Disk};

/// Symbols of the image, in two blocks; three segments.
const SYMBOLS: u32 = 1100;
/// Packets before the cut, in its outage, and after it: all of one segment.
const BEFORE: usize = 400;
const OUTAGE: usize = 100;
const AFTER: usize = 300;

struct Cut {
    device: Device,
    pass: Vec<Vec<u8>>,
}

impl Cut {
    /// Receives the beginning of a pass, and loses its power after a flush.
    fn new(seed: u64) -> Self {
        let broadcast = Rc::new(Broadcast::new(SYMBOLS, 2));
        let pass = broadcast.pass();
        let mut device = Device::new(broadcast, SimDisk::new(seed));
        device.start().unwrap();
        device.check_in();
        device.wait_for_window();
        pass.iter().take(BEFORE).for_each(|packet| device.receive(packet));
        device.wait(Duration::from_millis(1_100));
        device.kill();
        device.disk.power_on(seed);
        Self { device, pass }
    }

    fn tables(&self) -> PathBuf {
        let objects = Path::new(DATA).join("objects");
        let object = self.device.disk.list(&objects).unwrap().remove(0).name;
        objects.join(object).join("tables")
    }

    /// Starts and receives data symbols without tables; returns their number.
    fn receive_data(&mut self) -> (u64, Stats) {
        self.device.start().unwrap();
        let is_data = |packet: &&Vec<u8>| {
            Packet::parse(packet).unwrap().header.toi == Some(Toi::object(ComponentId(0)))
        };
        let packets = self.pass.iter().skip(BEFORE + OUTAGE).take(AFTER).filter(is_data);
        let mut received = 0;
        for packet in packets {
            self.device.receive(packet);
            received += 1;
        }
        let stats = self.device.status().unwrap().stats;
        assert_eq!(self.device.ledger.breaches(), [] as [String; 0]);
        (received, stats)
    }
}

#[test]
fn a_device_that_starts_again_in_the_middle_of_a_segment_loses_only_the_outage() {
    for seed in 0..4 {
        let (received, stats) = Cut::new(seed).receive_data();
        assert!(received > 250, "{received}");
        let lost = (stats.data_accepted, stats.data_pending, stats.data_expired_unverified);
        assert_eq!(lost, (received, 0, 0), "seed {seed}");
    }
}

#[test]
fn tables_that_are_damaged_or_gone_cost_waiting_for_them() {
    let mut cut = Cut::new(1);
    // In the only slots: those of the one table that came.
    for slot in 0..200 {
        cut.device.disk.flip_bit(&cut.tables(), 4096 + slot * 1280 + 40, 0);
    }
    let (received, stats) = cut.receive_data();
    assert_eq!((stats.data_accepted, stats.data_pending), (0, received));

    let mut cut = Cut::new(2);
    cut.device.disk.remove_file(&cut.tables()).unwrap();
    let (received, stats) = cut.receive_data();
    assert_eq!(
        (stats.data_accepted, stats.data_expired_unverified),
        (0, received),
        "the plan header is gone, too"
    );
}
