use std::collections::BTreeSet;

use super::*;

const FILE: &str = "/data/file";

fn disk() -> SimDisk {
    let disk = SimDisk::new(1);
    disk.make_directory(Path::new("/data")).unwrap();
    disk.sync_directory(Path::new("/")).unwrap();
    disk
}

fn write(disk: &SimDisk, octets: &[u8]) -> Box<dyn DiskFile> {
    let file = disk.open(Path::new(FILE), OpenMode::Create).unwrap();
    file.write_all_at(octets, 0).unwrap();
    file
}

fn content(disk: &SimDisk) -> Option<Vec<u8>> {
    disk.content(Path::new(FILE))
}

fn synced(octets: &[u8]) -> SimDisk {
    let disk = disk();
    write(&disk, octets).sync_data().unwrap();
    disk.sync_directory(Path::new("/data")).unwrap();
    disk
}

#[test]
fn what_is_synced_survives_and_its_name_with_the_directory() {
    let disk = synced(&[7; 1300]);
    for seed in 0..20 {
        disk.power_on(seed);
        assert_eq!(content(&disk), Some(vec![7; 1300]));
    }
}

#[test]
fn a_name_that_was_not_synced_may_be_lost() {
    let mut seen = BTreeSet::new();
    for seed in 0..40 {
        let disk = disk();
        write(&disk, &[7; 600]).sync_data().unwrap();
        disk.power_on(seed);
        seen.insert(content(&disk));
    }
    assert_eq!(seen, BTreeSet::from([None, Some(vec![7; 600])]));
}

#[test]
fn a_rename_that_was_not_synced_happened_or_did_not() {
    let mut seen = BTreeSet::new();
    for seed in 0..40 {
        let disk = synced(b"x");
        disk.rename(Path::new(FILE), Path::new("/data/other")).unwrap();
        assert!(!disk.exists(Path::new(FILE)));
        disk.power_on(seed);
        seen.insert((disk.exists(Path::new(FILE)), disk.exists(Path::new("/data/other"))));
    }
    assert_eq!(seen, BTreeSet::from([(true, false), (false, true)]));
}

#[test]
fn unsynced_sectors_survive_in_any_subset_and_torn() {
    let (mut subsets, mut torn) = (BTreeSet::new(), false);
    for seed in 0..400 {
        let disk = synced(&[0; 1536]);
        let file = write(&disk, &[1; 1536]);
        file.write_all_at(&[2; 512], 0).unwrap();
        disk.power_on(seed);
        let octets = content(&disk).unwrap();
        let sectors: Vec<Vec<u8>> = octets.chunks(512).map(<[u8]>::to_vec).collect();
        torn |= sectors.iter().any(|sector| sector.iter().any(|octet| *octet != sector[0]));
        subsets.insert(sectors.iter().map(|sector| sector[0]).collect::<Vec<_>>());
    }
    assert_eq!(subsets.len(), 3 * 2 * 2, "{subsets:?}");
    assert!(torn);
}

#[test]
fn a_sync_that_failed_reads_as_written_and_is_lost() {
    let mut lost = 0;
    for seed in 0..40 {
        let disk = synced(&[0; 8192]);
        disk.fail(Call::Sync, 1, Fault::Io);
        let file = write(&disk, &[1; 8192]);
        assert!(file.sync_data().is_err());
        file.sync_data().unwrap();
        assert_eq!(content(&disk), Some(vec![1; 8192]), "the cache shows what was written");
        // The first page is written again, and with it all that was lost of it.
        file.write_all_at(&[2; 1], 0).unwrap();
        file.sync_data().unwrap();
        file.drop_page_cache().unwrap();
        let seen = content(&disk).unwrap();
        disk.power_on(seed);
        let octets = content(&disk).unwrap();
        assert_eq!(seen, octets);
        assert_eq!((octets[0], octets[1], octets[4095]), (2, 1, 1));
        lost += octets.iter().filter(|octet| **octet == 0).count();
    }
    assert!(lost > 10 * 512, "{lost}");
}

#[test]
fn the_power_goes_at_the_operation_that_was_named() {
    let disk = synced(&[0; 512]);
    disk.cut_at(disk.operations() + 2);
    let file = disk.open(Path::new(FILE), OpenMode::Write).unwrap();
    file.write_all_at(&[1; 512], 0).unwrap();
    assert!(file.sync_data().is_err());
    assert!(disk.is_off());
    assert!(file.read_exact_at(&mut [0], 0).is_err());
    disk.power_on(3);
    assert!(file.read_exact_at(&mut [0], 0).is_err(), "handles do not outlive the power");
    assert!(content(&disk).is_some());
}

#[test]
fn a_full_disk_refuses_to_grow() {
    let disk = synced(&[0; 1000]);
    disk.set_capacity(1500);
    let file = disk.open(Path::new(FILE), OpenMode::Write).unwrap();
    file.write_all_at(&[1; 600], 400).unwrap();
    let full = io::ErrorKind::StorageFull;
    assert_eq!(file.write_all_at(&[1; 1], 1500).unwrap_err().kind(), full);
    assert_eq!(file.allocate(1501).unwrap_err().kind(), full);
    file.allocate(1500).unwrap();
    assert_eq!((disk.written_bytes(), disk.synced_bytes()), (1600, 0));
}

#[test]
fn damage_to_stored_data_is_read() {
    let disk = synced(&[0; 2000]);
    assert!(disk.flip_bit(Path::new(FILE), 700, 3));
    assert!(!disk.flip_bit(Path::new(FILE), 2000, 0));
    assert_eq!(content(&disk).unwrap()[700], 8);
    assert!(disk.break_sector(Path::new(FILE), 1100));
    let file = disk.open(Path::new(FILE), OpenMode::Write).unwrap();
    assert!(file.read_exact_at(&mut [0; 10], 1530).is_err());
    file.read_exact_at(&mut [0; 10], 1000).unwrap();
    file.write_all_at(&[0; 512], 1024).unwrap();
    file.read_exact_at(&mut [0; 10], 1530).unwrap();
}

#[test]
fn one_holder_has_the_lock_until_it_is_dropped_or_the_power_goes() {
    let disk = disk();
    let path = Path::new("/data/lock");
    let first = disk.lock(path).unwrap();
    assert!(disk.lock(path).is_err());
    drop(first);
    let second = disk.lock(path).unwrap();
    disk.power_on(0);
    let third = disk.lock(path).unwrap();
    drop(second);
    assert!(disk.lock(path).is_err());
    drop(third);
}

#[test]
fn a_removed_directory_is_gone_or_back() {
    let mut seen = BTreeSet::new();
    for seed in 0..60 {
        let disk = synced(&[5; 10]);
        disk.remove_directory(Path::new("/data")).unwrap();
        disk.power_on(seed);
        seen.insert((disk.exists(Path::new("/data")), content(&disk)));
    }
    let expected = [(false, None), (true, None), (true, Some(vec![5; 10]))];
    assert_eq!(seen, BTreeSet::from(expected));
}
