use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
};

use proto::{
    crypto::{Hash16, sha256},
    fec::oti::{NoCodeOti, Oti, RaptorQOti, RaptorQParameters},
    flute::content_encoding::ContentEncoding,
    ids::{Esi, Sbn, Toi, Tsi},
};
use tempfile::TempDir;

use super::*;
use crate::{
    shell::{clock::Clock, disk::RealDisk},
    store::{Encoded, UnsignedDescription, UnsignedIdentity},
};

#[test]
fn a_reserved_object_takes_slots_that_a_restart_finds() {
    let home = home();
    let mut object = open(&home, 1);
    let fresh = Recovered { image_made: true, ..Recovered::default() };
    assert_eq!(object.recover().unwrap(), fresh);
    assert_eq!(reserve(&mut object), [1, 2]);
    write_slot(&mut object, SlotAddress { file: 0, index: 0 }, 7);
    let last = SlotAddress { file: 1, index: layout(1).slots_in(1) - 1 };
    write_slot(&mut object, last, 8);
    object.flush().unwrap();

    for _ in 0..2 {
        let recovered = open(&home, 1).recover().unwrap();
        assert_eq!((recovered.files_ready, recovered.damaged), (2, 0));
        let found: Vec<_> = recovered.slots.iter().map(|slot| (slot.slot, slot.esi)).collect();
        assert_eq!(found, [(SlotAddress { file: 0, index: 0 }, Esi(7)), (last, Esi(8))]);
    }
}

#[test]
fn a_reservation_that_was_cut_off_goes_on_with_the_same_file() {
    let home = home();
    let mut object = open(&home, 1);
    for _ in 0..3 {
        object.reserve_step().unwrap();
    }
    assert_eq!(object.reservation, Reservation { file: 0, octets: 6 << 20 });
    let mut again = open(&home, 1);
    assert_eq!(again.recover().unwrap().files_ready, 0);
    assert!(!again.log_path(0).exists(), "a file without a header is removed");
    assert_eq!(reserve(&mut again), [1, 2]);
}

#[test]
fn a_damaged_log_is_reserved_again_and_the_others_are_kept() {
    let home = home();
    let mut object = open(&home, 1);
    reserve(&mut object);
    write_slot(&mut object, SlotAddress { file: 1, index: 3 }, 9);
    object.flush().unwrap();
    let log = File::options().write(true).open(object.log_path(0)).unwrap();
    log.write_all_at(&[0xff], 30).unwrap();

    let mut again = open(&home, 1);
    let recovered = again.recover().unwrap();
    assert_eq!((recovered.files_ready, recovered.slots.len()), (0, 1));
    assert_eq!(reserve(&mut again), [1, 2]);
    assert_eq!(open(&home, 1).recover().unwrap().slots, recovered.slots);
}

#[test]
fn the_logs_of_a_foreign_object_are_dropped() {
    let home = home();
    let mut other = open(&home, 2);
    reserve(&mut other);
    write_slot(&mut other, SlotAddress { file: 0, index: 0 }, 1);
    other.flush().unwrap();
    // The same first 16 digits of the key, and different ones after.
    fs::rename(&other.path, home.path().join(layout(1).directory_name())).unwrap();
    let mut ours = open(&home, 1);
    assert_eq!(ours.recover().unwrap(), Recovered::default());
    assert!(!ours.log_path(0).exists());
}

#[test]
fn a_write_to_a_log_that_is_not_reserved_is_an_error() {
    let home = home();
    let mut object = open(&home, 1);
    let error = object.write(0, 4096, &[0; 1472]).unwrap_err();
    assert!(error.to_string().starts_with("write to log.0: "), "{error}");
    object.flush().unwrap();
}

#[test]
fn a_full_disk_shows_in_the_reservation() {
    let home = home();
    let mut object = open(&home, 1);
    std::os::unix::fs::symlink("/dev/full", object.log_path(0)).unwrap();
    let attempted = "reserve log.0".to_owned();
    assert_eq!(object.reserve_step(), Err(StorageError::NoSpace { attempted }));
}

#[test]
fn an_exact_image_gets_its_name_once_and_again() {
    let home = home();
    let object = open(&home, 1);
    let mut files = DecodeFiles::new(disk(), home.path(), layout(1));
    let place = BlockPlace { offset: 0, octets: IMAGE_BYTES };
    files.write_block(place, &image()).unwrap();
    assert!(matches!(files.finish(), VerifyOutcome::Ready { .. }));
    assert_eq!(fs::read(object.path.join(IMAGE)).unwrap(), image());
    assert!(matches!(files.finish(), VerifyOutcome::Ready { .. }));
    let _again = open(&home, 1);
    assert!(!object.path.join("image.part").exists(), "a finished image is not begun again");
}

// The journal may have forgotten that it was verified, while its removal failed.
#[test]
fn a_whole_image_that_is_decoded_again_becomes_incomplete() {
    let home = home();
    let mut object = open(&home, 1);
    reserve(&mut object);
    fs::write(&object.image.part, image()).unwrap();
    let mut files = DecodeFiles::new(disk(), home.path(), layout(1));
    let ready = VerifyOutcome::Ready { sha256: sha256(&[&image()]) };
    assert_eq!(files.finish(), ready);
    assert_eq!(open(&home, 1).recover().unwrap().files_ready, 2);
    let place = layout(1).block_place(Sbn(1)).unwrap();
    let from = usize::try_from(place.offset).unwrap();
    files.write_block(place, &image()[from..]).unwrap();
    assert!(!object.image.image.exists());
    assert_eq!(files.finish(), ready);
}

// test: rfc6726 3.4.2, rfc5775 5
#[test]
fn a_wrong_image_keeps_its_provisional_name() {
    let home = home();
    let object = open(&home, 1);
    let files = DecodeFiles::new(disk(), home.path(), layout(1));
    let found = sha256(&[&vec![0; image().len()]]);
    assert_eq!(files.finish(), VerifyOutcome::WrongDigest { found });
    assert!(!object.path.join(IMAGE).exists());
}

#[test]
fn slots_are_read_back_for_the_decoder() {
    let home = home();
    let mut object = open(&home, 1);
    reserve(&mut object);
    let slot = SlotAddress { file: 1, index: 2 };
    write_slot(&mut object, slot, 5);
    let mut files = DecodeFiles::new(disk(), home.path(), layout(1));
    let mut record = vec![0; object.layout.slot_size()];
    files.read_slots(slot, &mut record).unwrap();
    assert_eq!(object.layout.parse_slot(&record).unwrap().esi, Esi(5));
}

#[test]
fn fifty_mebibytes_of_slots_are_recovered_in_well_under_a_second() {
    let home = home();
    let oti = RaptorQOti::new(RaptorQParameters {
        transfer_length: 1408 * 35_000,
        symbol_size: 1408,
        source_blocks: 5,
        sub_blocks: 1,
        alignment: 8,
    });
    let layout = ObjectLayout::new(Hash16([9; 16]), sha256(&[]), oti.unwrap());
    let mut object = ObjectDirectory::open(&disk(), home.path(), layout.clone()).unwrap();
    reserve(&mut object);
    for file in 0..layout.files() {
        let mut octets = Vec::new();
        for esi in 0..layout.slots_in(file) {
            let symbol = [esi.to_le_bytes()[0]; 1408];
            let tag = layout.tag(Sbn(file), Esi(esi), &symbol);
            layout.emit_slot(&mut octets, Sbn(file), Esi(esi), tag, &symbol);
        }
        object.write(file, 4096, &octets).unwrap();
    }
    object.flush().unwrap();
    let mut again = ObjectDirectory::open(&disk(), home.path(), layout.clone()).unwrap();
    let before = Clock.now().mono;
    let recovered = again.recover().unwrap();
    let took = Clock.now().mono.since(before);
    assert_eq!(recovered.slots.len(), usize::try_from(layout.slots()).unwrap());
    println!("{} slots in {took:?}", recovered.slots.len());
    assert!(took.as_secs() < 5, "{took:?} even on a busy machine is too long");
}

const IMAGE_BYTES: u64 = 1408 * 12_000 - 3;

fn image() -> Vec<u8> {
    (0_u32..).map(|i| (i >> 4).to_le_bytes()[0]).take(IMAGE_BYTES.try_into().unwrap()).collect()
}

fn layout(key: u8) -> ObjectLayout {
    let oti = RaptorQOti::new(RaptorQParameters {
        transfer_length: IMAGE_BYTES,
        symbol_size: 1408,
        source_blocks: 2,
        sub_blocks: 1,
        alignment: 8,
    });
    ObjectLayout::new(Hash16([key; 16]), sha256(&[&image()]), oti.unwrap())
}

fn disk() -> SharedDisk {
    Arc::new(RealDisk)
}

fn home() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn open(home: &TempDir, key: u8) -> ObjectDirectory {
    ObjectDirectory::open(&disk(), home.path(), layout(key)).unwrap()
}

fn reserve(object: &mut ObjectDirectory) -> Vec<u32> {
    std::iter::from_fn(|| match object.reserve_step().unwrap() {
        Reserved::Partly => Some(None),
        Reserved::Files(files) => Some(Some(files)),
        Reserved::All => None,
    })
    .flatten()
    .collect()
}

fn write_slot(object: &mut ObjectDirectory, slot: SlotAddress, esi: u32) {
    let symbol = [0x5a; 1408];
    let mut record = Vec::new();
    let tag = object.layout.tag(Sbn(1), Esi(esi), &symbol);
    object.layout.emit_slot(&mut record, Sbn(1), Esi(esi), tag, &symbol);
    let offset = object.layout.offset(slot);
    object.write(slot.file, offset, &record).unwrap();
}

/// Returns an unsigned file with the sent `octets`, in its own output directory.
fn sent(octets: &[u8], md5: Option<[u8; 16]>, length: Option<u64>) -> (TempDir, DecodeFiles) {
    let out = home();
    let objects = out.path().join(".listen/objects");
    let identity = UnsignedIdentity { source: [192, 0, 2, 1].into(), tsi: Tsi(1), toi: Toi(1) };
    let transfer_length = u64::try_from(octets.len()).unwrap();
    let oti = Oti::NoCode(NoCodeOti::new(transfer_length, 1024, 64).unwrap());
    let content = UnsignedContent {
        name: "page.html".to_owned(),
        md5,
        encoded: Some(Encoded {
            encoding: ContentEncoding::Gzip,
            length,
            limit: length.unwrap_or(1000),
        }),
        is_empty: false,
    };
    let location = UnsignedDescription::location_hash("page.html");
    let described = UnsignedDescription { length: transfer_length, md5, generation: 0, location };
    let layout = ObjectLayout::unsigned(&identity, &described, oti, content).unwrap();
    fs::create_dir_all(&objects).unwrap();
    ObjectDirectory::open(&disk(), &objects, layout.clone()).unwrap();
    let mut files = DecodeFiles::new(disk(), &objects, layout);
    files.write_block(BlockPlace { offset: 0, octets: transfer_length }, octets).unwrap();
    (out, files)
}

/// `gzip -n` of 1,000 letters a.
const GZIP: [u8; 29] = [
    0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 0x4b, 0x4c, 0x1c, 0x05, 0xa3, 0x60,
    0x14, 0x0c, 0x77, 0x00, 0x00, 0x03, 0xda, 0x38, 0x9a, 0xe8, 0x03, 0x00, 0x00,
];

fn md5_of(octets: &[u8]) -> [u8; 16] {
    let mut md5 = ContentMd5::new();
    md5.update(octets);
    md5.finish()
}

fn names(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

// test: rfc6726 3.4.2
#[test]
fn an_encoded_file_lies_there_without_its_encoding_and_either_digest_is_taken() {
    let content = vec![b'a'; 1000];
    for md5 in [None, Some(md5_of(&content)), Some(md5_of(&GZIP))] {
        let (out, files) = sent(&GZIP, md5, Some(1000));
        let sha256 = sha256(&[&content]);
        assert_eq!(files.finish(), VerifyOutcome::Ready { sha256 });
        assert_eq!(fs::read(out.path().join("page.html")).unwrap(), content);
        assert_eq!(names(out.path()), [".listen", "page.html"]);
    }
}

#[test]
fn an_encoded_file_that_is_not_what_was_said_keeps_its_provisional_name() {
    let mut damaged = GZIP;
    damaged[22] ^= 1;
    let wrong = Some([7; 16]);
    for (octets, md5, length, word) in [
        (&GZIP[..], None, Some(1001), "1001 by its FDT"),
        (&GZIP[..], None, Some(999), "more than 999"),
        (&damaged[..], None, None, "cannot be undone"),
        (&GZIP[..20], None, None, "cannot be undone"),
        (&GZIP[..], wrong, Some(1000), "WrongDigest"),
    ] {
        let (out, files) = sent(octets, md5, length);
        let outcome = format!("{:?}", files.finish());
        assert!(outcome.contains(word), "{outcome}");
        let part = UnsignedContent::part_name("page.html", &files.layout.directory_name());
        assert_eq!(names(out.path()), [".listen".to_owned(), part], "{word}");
    }
}
