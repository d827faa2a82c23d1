//! Random lives: packets, kills, power cuts, failing calls and damage in any order, against what
//! the storage has acknowledged.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps")]

use proto::fixtures::broadcast::Broadcast;
use std::{path::Path, rc::Rc, time::Duration};

use fumocast_tests::{
    sim::disk::{Call, Fault, SimDisk},
    store::device::{DATA, Device},
};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    /// Receive so many packets, from that position of the pass on.
    Receive(usize, usize),
    Wait(u64),
    Kill,
    /// The power goes now.
    PowerCut(u64),
    /// The power goes at that operation from here.
    PowerCutAt(u64, u64),
    /// That call of the kind from here fails.
    Fail(Call, u64, Fault),
    /// A bit of the log flips, at that share of its length.
    FlipBit(u64),
    ShutDown,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let call = prop_oneof![Just(Call::Write), Just(Call::Sync), Just(Call::Read)];
    let fault = prop_oneof![Just(Fault::Io), Just(Fault::NoSpace)];
    let step = prop_oneof![
        8 => (0_usize..100, 1_usize..30).prop_map(|(from, count)| Step::Receive(from, count)),
        6 => (600_u64..1600).prop_map(Step::Wait),
        1 => Just(Step::Kill),
        2 => any::<u64>().prop_map(Step::PowerCut),
        3 => (1_u64..30, any::<u64>()).prop_map(|(at, seed)| Step::PowerCutAt(at, seed)),
        3 => (call, 1_u64..4, fault).prop_map(|(call, nth, fault)| Step::Fail(call, nth, fault)),
        1 => (0_u64..1000).prop_map(Step::FlipBit),
        1 => Just(Step::ShutDown),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn no_life_breaks_a_promise_and_every_one_ends_with_the_image(
        steps in steps(),
        seed in any::<u64>(),
    ) {
        let mut life = Life::new(seed);
        for step in &steps {
            life.step(step);
            prop_assert_eq!(life.device.ledger.breaches(), [] as [String; 0]);
        }
        life.end();
        prop_assert_eq!(life.device.ledger.breaches(), [] as [String; 0]);
        let (installed, results) = (life.device.installed.len(), &life.device.server.results);
        let gave_up = results.iter().any(|result| ["400", "410", "501", "402"].contains(&&**result));
        prop_assert!(installed == 1 || gave_up, "{installed} images, {results:?}");
    }
}

struct Life {
    device: Device,
    pass: Vec<Vec<u8>>,
}

impl Life {
    fn new(seed: u64) -> Self {
        let broadcast = Rc::new(Broadcast::new(60, 2));
        let pass = broadcast.pass();
        let mut device = Device::new(broadcast, SimDisk::new(seed));
        device.start().unwrap();
        device.check_in();
        device.wait_for_window();
        Self { device, pass }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Receive(from, count) => {
                let packets: Vec<_> =
                    self.pass.iter().cycle().skip(from).take(count).cloned().collect();
                packets.iter().for_each(|packet| self.device.receive(packet));
            }
            Step::Wait(millis) => self.device.wait(Duration::from_millis(millis)),
            Step::Kill => self.device.kill(),
            Step::PowerCut(seed) => {
                self.device.kill();
                self.device.disk.power_on(seed);
            }
            Step::PowerCutAt(at, seed) => {
                let disk = self.device.disk.clone();
                disk.cut_at(disk.operations() + at);
                self.step(&Step::Receive(usize::try_from(seed % 90).unwrap(), 20));
                self.device.wait(Duration::from_millis(1200));
                self.step(&Step::PowerCut(seed));
            }
            Step::Fail(call, nth, fault) => self.device.disk.fail(call, nth, fault),
            Step::FlipBit(share) => self.flip(share),
            Step::ShutDown => self.device.shut_down(),
        }
        self.revive();
    }

    /// A damaged symbol is not one that was promised to survive: the ledger drops it.
    fn flip(&mut self, share: u64) {
        let Some(layout) = self.device.ledger.layout().cloned() else { return };
        let log = Path::new(DATA).join("objects").join(layout.directory_name()).join("log.0");
        let Some(content) = self.device.disk.content(&log) else { return };
        let octet = content.len() as u64 * share / 1000;
        let first = receiver::store::SlotAddress { file: 0, index: 0 };
        let Some(from) = octet.checked_sub(layout.offset(first)) else { return };
        let index = u32::try_from(from / layout.slot_size() as u64).unwrap();
        let slot = receiver::store::SlotAddress { file: 0, index };
        let start = usize::try_from(layout.offset(slot)).unwrap();
        let found = content.get(start..start + layout.slot_size());
        let name = found.and_then(|found| layout.parse_slot(found)).map(|it| (it.sbn, it.esi));
        self.device.disk.flip_bit(&log, octet, 0);
        if let Some(name) = name {
            self.device.ledger.forget(name);
        }
    }

    /// A program that stopped because its storage failed is started again.
    fn revive(&mut self) {
        for _ in 0..5 {
            if self.device.runs() {
                return;
            }
            if self.device.disk.is_off() {
                self.device.disk.power_on(0);
            }
            // The start itself may meet a failing call.
            if self.device.start().is_err() {
                self.device.kill();
            }
        }
    }

    fn end(&mut self) {
        self.device.disk.heal();
        self.revive();
        self.device.check_in();
        for _ in 0..3 {
            for packet in self.pass.clone() {
                self.device.receive(&packet);
            }
            self.device.wait(Duration::from_millis(1200));
        }
        self.device.check_in();
    }
}
