//! All crash points: one life from arming to the report, and a power cut at each of its storage
//! operations, with several fates of what was not synced.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps")]

use proto::fixtures::broadcast::Broadcast;
use std::{rc::Rc, time::Duration};

use fumocast_tests::{
    sim::disk::{Call, Fault, SimDisk},
    store::device::Device,
};

/// Symbols of the image, in two blocks.
const SYMBOLS: u32 = 80;
/// Packets of the pass after which time passes and received symbols are flushed.
const STRETCH: usize = 1;
/// Fates of what was not synced, for each crash point.
const FATES: u64 = 3;

/// The broadcast.
struct World {
    broadcast: Rc<Broadcast>,
    pass: Vec<Vec<u8>>,
}

#[test]
fn a_power_cut_at_every_storage_operation_costs_only_what_was_not_synced() {
    let world = World::new();
    let mut device = world.device(SimDisk::new(1));
    world.live(&mut device);
    assert_eq!(device.installed.len(), 1);
    let operations = device.disk.operations();
    println!("{operations} operations, {FATES} fates each");
    assert!(operations >= 200, "{operations}");
    let mut not_installed = Vec::new();
    for operation in 1..=operations {
        for fate in 0..FATES {
            let installed = crash(&world, operation, operation * FATES + fate);
            not_installed.extend((!installed).then_some(operation));
        }
    }
    // Between the journal entry and the installer the outcome is unknown: it is never handed off
    // twice.
    println!("not installed after a cut at {not_installed:?}");
    assert!(not_installed.iter().all(|operation| operation + 20 > operations));
}

/// Cuts the power at an operation, and again at once after the start: the state that the start
/// found must have been durable. Returns whether the image was installed in the end.
fn crash(world: &World, operation: u64, seed: u64) -> bool {
    let disk = SimDisk::new(seed);
    disk.cut_at(operation);
    let mut device = world.device(disk.clone());
    world.live(&mut device);
    assert!(disk.is_off(), "operation {operation} is within the trace");
    for start in 0..2 {
        device.kill();
        disk.power_on(seed ^ start << 32);
        device.start().unwrap();
        check(&device, operation, seed);
    }
    world.live(&mut device);
    check(&device, operation, seed);
    let at = format!("operation {operation}, seed {seed}");
    let expected = match device.installed.len() {
        0 => "410",
        1 => "200",
        more => panic!("handed off {more} times: {at}"),
    };
    // A result whose acknowledgement was lost is reported again, and counted once.
    device.server.results.dedup();
    assert_eq!(device.server.results, [expected], "{at}");
    expected == "200"
}

#[test]
fn a_failing_call_at_every_storage_operation_costs_only_what_was_not_synced() {
    let world = World::new();
    let mut device = world.device(SimDisk::new(1));
    world.live(&mut device);
    for (call, fault) in [
        (Call::Write, Fault::Io),
        (Call::Write, Fault::NoSpace),
        (Call::Sync, Fault::Io),
        (Call::SyncDirectory, Fault::Io),
        (Call::Create, Fault::NoSpace),
        (Call::Rename, Fault::Io),
        (Call::Read, Fault::Io),
    ] {
        let calls = device.disk.calls(call);
        assert!(calls > 0, "{call:?}");
        // Some more than one life has: the starts in between call, too.
        for nth in 1..=calls + 30 {
            fail(&world, call, nth, fault);
        }
    }
}

/// Lets one call fail; then the power goes, so that data that was only in the page cache shows.
fn fail(world: &World, call: Call, nth: u64, fault: Fault) {
    let disk = SimDisk::new(nth);
    disk.fail(call, nth, fault);
    let mut device = world.device(disk.clone());
    // Each life ends in the middle of the reception: first by a kill, then by power cuts.
    for start in 0..3 {
        if device.start().is_ok() {
            world.live_on(&mut device, 40 + 30 * start);
        }
        device.kill();
        if start > 0 {
            disk.power_on(nth);
        }
    }
    for _ in 0..2 {
        // A program that stops because its storage failed is started again.
        world.live(&mut device);
    }
    let at = format!("{call:?} {nth} {fault:?}, results {:?}", device.server.results);
    assert_eq!(device.ledger.breaches(), [] as [String; 0], "{at}");
    let gave_up = ["400", "410", "501"].map(str::to_owned);
    let ended = device.server.results.first().is_some_and(|result| gave_up.contains(result));
    assert!(device.installed.len() == 1 || ended, "{at}");
}

impl World {
    fn new() -> Self {
        let broadcast = Rc::new(Broadcast::new(SYMBOLS, 2));
        let pass = broadcast.pass();
        Self { broadcast, pass }
    }

    fn device(&self, disk: SimDisk) -> Device {
        Device::new(Rc::clone(&self.broadcast), disk)
    }

    /// Lives from wherever the device is to its report.
    fn live(&self, device: &mut Device) {
        self.live_on(device, usize::MAX);
    }

    /// Receives at most so many stretches.
    fn live_on(&self, device: &mut Device, stretches: usize) {
        if !device.runs() && !device.disk.is_off() && device.start().is_err() {
            return;
        }
        device.check_in();
        device.wait_for_window();
        // What was lost comes again in the second pass.
        let passes = self.pass.chunks(STRETCH).chain(self.pass.chunks(STRETCH));
        for packets in passes.take(stretches) {
            if !device.listens() {
                break;
            }
            packets.iter().for_each(|packet| device.receive(packet));
            device.wait(Duration::from_millis(1_100));
        }
        device.check_in();
    }
}

fn phase(device: &Device) -> Option<String> {
    device.ledger.state().1.map(|state| state.phase.clone())
}

fn check(device: &Device, operation: u64, seed: u64) {
    let breaches = device.ledger.breaches();
    assert_eq!(breaches, [] as [String; 0], "operation {operation}, seed {seed}");
    let is_receiving = phase(device).as_deref() == Some("receiving");
    if let Some(status) = device.status().filter(|_| is_receiving) {
        let owed = device.ledger.owed_progress();
        assert_eq!(status.symbols_synced, owed, "operation {operation}, seed {seed}");
    }
}
