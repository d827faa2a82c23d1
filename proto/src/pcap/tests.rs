use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

fn golden() -> Datagram<'static> {
    Datagram {
        source: SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 10), 5000),
        destination: SocketAddrV4::new(Ipv4Addr::new(239, 7, 7, 30), 40_100),
        payload: b"golden",
    }
}

/// An IPv4 packet with [`golden`] in it.
fn packet() -> Vec<u8> {
    frame::emit(8, &golden()).unwrap()
}

fn file_header(magic: u32, major: u16, link: u32, little: bool) -> [u8; FILE_HEADER_BYTES] {
    let mut out = Vec::new();
    let u16s = |value: u16| if little { value.swap_bytes() } else { value };
    let u32s = |value: u32| if little { value.swap_bytes() } else { value };
    Writer::new(&mut out).u32(u32s(magic)).u16(u16s(major)).u16(u16s(4)).zeros(8);
    Writer::new(&mut out).u32(u32s(65_535)).u32(u32s(link));
    out.try_into().unwrap()
}

fn format_of(link: u32) -> Format {
    Format::parse(&file_header(MICROSECONDS, 2, link, true)).unwrap()
}

#[test]
fn a_capture_that_is_written_is_read_back() {
    let mut capture = emit_file_header();
    let times = [0, 1_800_000_000_123_456_789, 4_294_967_295_999_999_999];
    for time in times {
        emit_datagram(time, 8, &golden(), &mut capture).unwrap();
    }
    let (format, records) = records(&capture).unwrap();
    assert_eq!(format.link(), LinkType::RawIp);
    let records: Vec<_> = records.map(Result::unwrap).collect();
    assert!(records.iter().map(|record| record.header.time_nanos).eq(times));
    for Record { header, frame } in records {
        assert_eq!((header.captured, header.original), (34, 34));
        assert_eq!(format.datagram(frame), Ok(Some(golden())));
    }
}

#[test]
fn a_written_packet_is_octet_for_octet_what_others_expect() {
    let octets = packet();
    let header = [0x45, 0, 0, 34, 0, 0, 0x40, 0, 8, 17];
    assert_eq!(octets[..10], header);
    assert_eq!(
        octets[12..28],
        [192, 0, 2, 10, 239, 7, 7, 30, 0x13, 0x88, 0x9c, 0xa4, 0, 14, octets[26], octets[27]]
    );
    // A checksum over what it covers, itself included, is zero.
    assert_eq!(frame::checksum(&octets[..20]), 0);
    let pseudo = [&octets[12..20], &[0, 17, 0, 14], &octets[20..]].concat();
    assert_eq!(frame::checksum(&pseudo), 0);
    assert_eq!(frame::checksum(&[0x01]), 0xfeff);
}

#[test]
fn both_orders_of_octets_and_both_units_of_time_are_read() {
    for little in [false, true] {
        for (magic, nanos) in [(MICROSECONDS, 5_000), (NANOSECONDS, 5)] {
            let format = Format::parse(&file_header(magic, 2, 1, little)).unwrap();
            let mut record = Vec::new();
            for value in [3_u32, 5, 60, 61] {
                let value = if little { value.swap_bytes() } else { value };
                Writer::new(&mut record).u32(value);
            }
            let time_nanos = 3_000_000_000 + nanos;
            let expected = RecordHeader { time_nanos, captured: 60, original: 61 };
            assert_eq!(format.record(&record.try_into().unwrap()), Ok(expected));
        }
    }
}

#[test]
fn every_supported_link_type_gives_the_datagram() {
    let ethernet = |tags: &[u8]| [&[0; 12], tags, &[8, 0], &packet(), &[0; 9]].concat();
    for (link, frame) in [
        (1, ethernet(&[])),
        (1, ethernet(&[0x81, 0, 0, 7])),
        (1, ethernet(&[0x88, 0xa8, 0, 7, 0x81, 0, 0, 7])),
        (0x1000_0001, ethernet(&[])),
        (12, packet()),
        (101, packet()),
        (228, packet()),
        (113, [&[0; 14], &[8, 0][..], &packet()].concat()),
        (276, [&[8, 0], &[0; 18][..], &packet()].concat()),
    ] {
        assert_eq!(format_of(link).datagram(&frame), Ok(Some(golden())), "{link}");
    }
    let options = [&[0x46, 0, 0, 38], &packet()[4..20], &[1; 4], &packet()[20..]].concat();
    assert_eq!(format_of(101).datagram(&options), Ok(Some(golden())));
}

#[test]
fn what_is_no_udp_over_ipv4_is_passed_over() {
    let mut tcp = packet();
    tcp[9] = 6;
    let mut six = packet();
    six[0] = 0x60;
    for frame in [tcp, six] {
        assert_eq!(format_of(101).datagram(&frame), Ok(None));
    }
    let arp = [&[0; 12], &[8, 6][..], &packet()].concat();
    let three_tags = [&[0; 12], [0x81, 0, 0, 7].repeat(3).as_slice(), &[8, 0], &packet()].concat();
    for frame in [arp, three_tags] {
        assert_eq!(format_of(1).datagram(&frame), Ok(None));
    }
}

#[test]
fn a_frame_that_is_cut_off_or_contradicts_itself_is_an_error() {
    let format = format_of(101);
    for length in 0..packet().len() {
        assert!(format.datagram(&packet()[..length]).is_err(), "{length}");
    }
    for (at, octet) in [(0, 0x44), (3, 19), (3, 27), (3, 35), (6, 0x20), (7, 1), (25, 7), (25, 15)]
    {
        let mut changed = packet();
        changed[at] = octet;
        assert!(format.datagram(&changed).is_err(), "{at}");
    }
}

#[test]
fn files_that_are_no_classic_capture_are_named() {
    let refused = |header| Format::parse(&header).unwrap_err().to_string();
    assert!(refused(file_header(NEXT_GENERATION, 2, 1, true)).contains("pcapng"));
    assert!(refused(file_header(0x1234_5678, 2, 1, false)).contains("0x12345678"));
    assert!(refused(file_header(MICROSECONDS, 3, 1, true)).contains("version is 3"));
    assert!(refused(file_header(MICROSECONDS, 2, 105, true)).contains("link type is 105"));
    assert!(records(&emit_file_header()[..23]).is_err());
}

#[test]
fn every_limit_holds_at_its_edge() {
    let format = format_of(101);
    for (captured, fits) in [(MAX_FRAME_BYTES, true), (MAX_FRAME_BYTES + 1, false)] {
        let mut record = vec![0; 8];
        Writer::new(&mut record).u32(captured.swap_bytes()).u32(0);
        assert_eq!(format.record(&record.try_into().unwrap()).is_ok(), fits, "{captured}");
    }
    let mut out = Vec::new();
    for (length, fits) in [(MAX_PAYLOAD_BYTES, true), (MAX_PAYLOAD_BYTES + 1, false)] {
        let payload = vec![7; length];
        let datagram = Datagram { payload: &payload, ..golden() };
        assert_eq!(emit_datagram(0, 1, &datagram, &mut out).is_ok(), fits, "{length}");
    }
    assert!(emit_datagram(4_294_967_296_000_000_000, 1, &golden(), &mut out).is_err());
    assert_eq!(out.len(), RECORD_HEADER_BYTES + 65_535);
}

#[test]
fn a_capture_that_ends_in_a_record_gives_all_before_it_and_one_error() {
    let mut capture = emit_file_header();
    emit_datagram(1, 8, &golden(), &mut capture).unwrap();
    let whole = capture.len();
    emit_datagram(2, 8, &golden(), &mut capture).unwrap();
    for length in whole + 1..capture.len() {
        let (_, walk) = records(&capture[..length]).unwrap();
        let read: Vec<bool> = walk.map(|record| record.is_ok()).collect();
        assert_eq!(read, [true, false], "{length}");
    }
}

proptest! {
    #[test]
    fn whatever_arrives_the_answer_is_a_value(
        link in prop::sample::select(vec![1_u32, 12, 101, 113, 228, 276]), little: bool,
        octets in prop::collection::vec(any::<u8>(), 0..200), at in 0_usize..34, octet: u8,
    ) {
        let header = file_header(MICROSECONDS, 2, link, little);
        let mut changed = packet();
        changed[at] = octet;
        let capture = [header.as_slice(), &octets].concat();
        let (format, walk) = records(&capture).unwrap();
        prop_assert!(walk.count() <= octets.len());
        for frame in [&octets, &changed] {
            if let Ok(Some(datagram)) = format.datagram(frame) {
                prop_assert!(datagram.payload.len() <= frame.len());
            }
        }
    }
}
