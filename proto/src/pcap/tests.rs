use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;

fn golden() -> Datagram<'static> {
    Datagram {
        source: SocketAddr::from(([192, 0, 2, 10], 5000)),
        destination: SocketAddr::from(([239, 7, 7, 30], 40_100)),
        payload: b"golden",
    }
}

/// The same over IPv6.
fn golden6() -> Datagram<'static> {
    Datagram {
        source: "[2001:db8::10]:5000".parse().unwrap(),
        destination: "[ff3e::30]:40100".parse().unwrap(),
        payload: b"golden",
    }
}

/// Returns what is read of a frame that was captured whole.
fn read(link: u32, frame: &[u8]) -> Result<Datagram<'_>, Skipped> {
    format_of(link).datagram(&header_of(frame, 0), frame)
}

/// Returns the record's header of a frame that was `cut` octets longer on the wire.
fn header_of(frame: &[u8], cut: u32) -> RecordHeader {
    let captured = u32::try_from(frame.len()).unwrap();
    RecordHeader { time_nanos: 0, captured, original: captured + cut }
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
        assert_eq!(format.datagram(&header, frame), Ok(golden()));
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
fn every_supported_link_type_and_any_stack_of_vlans_gives_the_datagram() {
    for (packet, golden, ethertype) in [
        (packet(), golden(), [8, 0]),
        (frame::emit(8, &golden6()).unwrap(), golden6(), [0x86, 0xdd]),
    ] {
        let ethernet = |tags: &[u8]| [&[0; 12], tags, &ethertype, &packet, &[0; 9]].concat();
        for (link, frame) in [
            (1, ethernet(&[])),
            (1, ethernet(&[0x81, 0, 0, 7])),
            (1, ethernet(&[0x88, 0xa8, 0, 7, 0x81, 0, 0, 7])),
            (1, ethernet(&[0x81, 0, 0, 7].repeat(3))),
            (1, ethernet(&[0x91, 0, 0, 7].repeat(20))),
            (0x1000_0001, ethernet(&[])),
            (0, [&[2, 0, 0, 0], &packet[..]].concat()),
            (108, [&[0, 0, 0, 2], &packet[..]].concat()),
            (12, packet.clone()),
            (101, packet.clone()),
            (228, packet.clone()),
            (229, packet.clone()),
            (113, [&[0; 14], &ethertype[..], &packet].concat()),
            (113, [&[0; 14], &[0x81, 0, 0, 7][..], &ethertype, &packet].concat()),
            (276, [&ethertype, &[0; 18][..], &packet].concat()),
        ] {
            assert_eq!(read(link, &frame), Ok(golden), "{link}");
        }
    }
    let options = [&[0x46, 0, 0, 38], &packet()[4..20], &[1; 4], &packet()[20..]].concat();
    assert_eq!(read(101, &options), Ok(golden()));
}

#[test]
fn headers_between_ipv6_and_udp_are_passed_over_and_fragments_named() {
    let packet = frame::emit(8, &golden6()).unwrap();
    let with = |kind: u8, extension: &[u8]| {
        let mut changed = [&packet[..40], extension, &packet[40..]].concat();
        let length = u16::try_from(changed.len() - 40).unwrap();
        changed[4..6].copy_from_slice(&length.to_be_bytes());
        changed[6] = kind;
        changed
    };
    let eight = [17, 0, 0, 0, 0, 0, 0, 0];
    for frame in [
        with(0, &eight),
        with(60, &[&[17, 1][..], &[0; 14]].concat()),
        with(51, &[&[17, 4][..], &[0; 22]].concat()),
        with(44, &eight),
        with(0, &[&[44, 0, 0, 0, 0, 0, 0, 0][..], &eight].concat()),
    ] {
        assert_eq!(read(101, &frame), Ok(golden6()));
    }
    for place in [[0, 1], [0, 8], [0xff, 0xf9]] {
        let fragment = with(44, &[17, 0, place[0], place[1], 0, 0, 0, 1]);
        assert_eq!(read(101, &fragment), Err(Skipped::Fragment));
    }
    assert_eq!(read(101, &with(59, &[])), Err(Skipped::Protocol(59)));
    let endless = with(0, &[0, 0, 0, 0, 0, 0, 0, 0].repeat(9));
    assert_eq!(read(101, &endless), Err(Skipped::Malformed));
}

#[test]
fn each_frame_without_a_datagram_has_its_reason() {
    let changed = |changes: &[(usize, u8)]| {
        let mut changed = packet();
        changes.iter().for_each(|(at, octet)| changed[*at] = *octet);
        changed
    };
    let ethernet = |kind: [u8; 2]| [&[0; 12], &kind[..], &packet()].concat();
    for (link, frame, reason, word) in [
        (101, changed(&[(9, 6)]), Skipped::Protocol(6), "TCP"),
        (101, changed(&[(9, 132)]), Skipped::Protocol(132), "protocol 132"),
        (101, changed(&[(0, 0x55)]), Skipped::IpVersion(5), "version 5"),
        (101, changed(&[(6, 0x20)]), Skipped::Fragment, "fragment"),
        (101, changed(&[(7, 1)]), Skipped::Fragment, "fragment"),
        (1, ethernet([8, 6]), Skipped::EtherType(0x0806), "ARP"),
        (1, ethernet([0x88, 0xb5]), Skipped::EtherType(0x88b5), "0x88b5"),
        (1, ethernet([0, 40]), Skipped::Ieee8023, "802.3"),
    ] {
        assert_eq!(read(link, &frame), Err(reason));
        assert!(reason.to_string().contains(word), "{reason}");
    }
    let mut frames = SkippedFrames::default();
    for reason in [Skipped::Fragment, Skipped::CutOff, Skipped::Fragment] {
        frames.add(reason);
    }
    let counts: Vec<_> = frames.counts().collect();
    assert_eq!(counts, [(Skipped::CutOff, 1), (Skipped::Fragment, 2)]);
    assert_eq!(frames.total(), 3);
}

#[test]
fn a_frame_that_is_cut_off_or_contradicts_itself_is_named() {
    let format = format_of(101);
    for packet in [packet(), frame::emit(8, &golden6()).unwrap()] {
        for length in 0..packet.len() {
            let cut = &packet[..length];
            assert_eq!(format.datagram(&header_of(cut, 0), cut), Err(Skipped::Malformed));
            assert_eq!(format.datagram(&header_of(cut, 1), cut), Err(Skipped::CutOff));
        }
        // The padding of the link was cut off, and nothing else.
        assert!(format.datagram(&header_of(&packet, 6), &packet).is_ok());
    }
    for (at, octet) in [(0, 0x44), (3, 19), (3, 27), (3, 35), (25, 7), (25, 15)] {
        let mut changed = packet();
        changed[at] = octet;
        assert_eq!(read(101, &changed), Err(Skipped::Malformed), "{at}");
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
    let mixed = Datagram { source: golden6().source, ..golden() };
    assert!(emit_datagram(0, 1, &mixed, &mut out).is_err());
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
        link in prop::sample::select(vec![0_u32, 1, 12, 101, 108, 113, 228, 229, 276]), little: bool,
        octets in prop::collection::vec(any::<u8>(), 0..200), at in 0_usize..34, octet: u8,
    ) {
        let header = file_header(MICROSECONDS, 2, link, little);
        let (mut changed, mut six) = (packet(), frame::emit(8, &golden6()).unwrap());
        changed[at] = octet;
        six[at] = octet;
        let capture = [header.as_slice(), &octets].concat();
        let (format, walk) = records(&capture).unwrap();
        prop_assert!(walk.count() <= octets.len());
        for frame in [&octets, &changed, &six] {
            if let Ok(datagram) = format.datagram(&header_of(frame, 0), frame) {
                prop_assert!(datagram.payload.len() <= frame.len());
            }
        }
    }
}
