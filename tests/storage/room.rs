//! Room is reserved when the device is armed, and a lack of it is a result before the window.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps")]

use std::{path::Path, rc::Rc};

use fumocast_tests::{
    sim::disk::{Call, SimDisk},
    store::device::{DATA, Device},
};
use proto::fixtures::broadcast::Broadcast;
use receiver::{
    shell::{
        data_dir::DataDir,
        disk::{Disk as _, OpenMode},
    },
    store::{ObjectLayout, floors::FLOORS_BYTES, journal::JOURNAL_BYTES},
};

/// Room for two copies of the journal and a few documents.
const SMALL_BYTES: u64 = 64 << 10;

fn armed(disk: SimDisk) -> (Device, Rc<Broadcast>) {
    let broadcast = Rc::new(Broadcast::new(60, 2));
    let mut device = Device::new(Rc::clone(&broadcast), disk);
    device.start().unwrap();
    device.check_in();
    (device, broadcast)
}

fn receive(device: &mut Device, broadcast: &Broadcast) {
    device.wait_for_window();
    broadcast.pass().iter().for_each(|packet| device.receive(packet));
    assert_eq!(device.installed, std::slice::from_ref(&broadcast.image));
}

#[test]
fn all_room_is_held_before_the_window_with_or_without_help_of_the_file_system() {
    for helps in [true, false] {
        let disk = SimDisk::new(1);
        if !helps {
            disk.cannot_allocate();
        }
        let (mut device, broadcast) = armed(disk.clone());
        let layout = device.ledger.layout().unwrap().clone();
        let object = Path::new(DATA).join("objects").join(layout.directory_name());
        let octets = |name: &str| disk.content(&object.join(name)).unwrap().len() as u64;
        assert_eq!(octets("image.part"), layout.image_bytes());
        let logs: u64 = (0..layout.files()).map(|file| octets(&format!("log.{file}"))).sum();
        assert_eq!(logs + layout.image_bytes(), layout.storage_bytes());
        let journal = ["journal.a", "journal.b"].map(|name| Path::new(DATA).join(name));
        let journal = journal.map(|path| disk.content(&path).unwrap().len());
        assert_eq!(journal, [JOURNAL_BYTES; 2]);
        // The journal, the room of the next floors, and the floors.
        let floors = disk.content(&Path::new(DATA).join("floors")).unwrap().len();
        let small = 2 * JOURNAL_BYTES + FLOORS_BYTES + floors;
        let reserved = layout.storage_bytes() + small as u64;
        let zeros = disk.written_bytes() > reserved;
        assert_eq!(zeros, !helps, "the image is written twice only where it must be");
        // Nothing but the journal grows from here.
        disk.set_capacity(layout.storage_bytes() + SMALL_BYTES);
        receive(&mut device, &broadcast);
    }
}

#[test]
fn a_lack_of_room_is_reported_before_the_window() {
    let layout = |device: &Device| device.ledger.layout().cloned();
    let needed = layout(&armed(SimDisk::new(1)).0).map(|it| it.storage_bytes()).unwrap();
    for helps in [true, false] {
        let disk = SimDisk::new(1);
        if !helps {
            disk.cannot_allocate();
        }
        disk.set_capacity(needed - ObjectLayout::HEADER_BYTES as u64);
        let (mut device, _) = armed(disk);
        device.check_in();
        assert_eq!(device.server.results, ["501"]);
    }
}

#[test]
fn room_that_was_reserved_is_not_reserved_again() {
    let disk = SimDisk::new(1);
    let (mut device, broadcast) = armed(disk.clone());
    let (written, syncs) = (disk.written_bytes(), disk.calls(Call::Sync));
    for seed in 0..3 {
        device.kill();
        disk.power_on(seed);
        device.start().unwrap();
    }
    let again = disk.written_bytes() - written;
    assert!(again < ObjectLayout::HEADER_BYTES as u64, "{again} octets");
    assert!(disk.calls(Call::Sync) > syncs);
    receive(&mut device, &broadcast);
}

#[test]
fn floors_that_a_killed_device_had_renamed_survive_a_power_cut_after_its_next_start() {
    for seed in 0..20 {
        let disk = SimDisk::new(seed);
        let open = || DataDir::open_on(disk.shared(), Path::new(DATA)).unwrap();
        open().write_floors(b"lower").unwrap();
        let [floors, next] = ["floors", "floors.new"].map(|name| Path::new(DATA).join(name));
        let file = disk.open(&next, OpenMode::Empty).unwrap();
        file.write_all_at(b"higher", 0).unwrap();
        file.sync_all().unwrap();
        disk.rename(&next, &floors).unwrap();
        let seen = open().read_floors().unwrap();
        disk.cut();
        disk.power_on(seed);
        assert_eq!(open().read_floors().unwrap(), seen, "seed {seed}");
    }
}
