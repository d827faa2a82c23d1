use proptest::prelude::*;

use super::*;

const GOLDEN: &str = "v=0\r\n\
    o=carousel 2890844526 2890842807 IN IP4 192.0.2.10\r\n\
    s=Firmware broadcast\r\n\
    t=4200000000 4200003600\r\n\
    a=source-filter: incl IN IP4 * 192.0.2.10\r\n\
    a=flute-tsi:7\r\n\
    m=application 40100 FLUTE/UDP 0\r\n\
    c=IN IP4 239.7.7.30/8\r\n\
    b=AS:20000\r\n\
    a=FEC-declaration:0 encoding-id=6\r\n\
    a=FEC:0\r\n";

fn golden() -> SessionDescription {
    SessionDescription {
        origin: Origin {
            user: "carousel".to_owned(),
            id: 2_890_844_526,
            version: 2_890_842_807,
            host: IpAddr::from([192, 0, 2, 10]).into(),
        },
        name: "Firmware broadcast".to_owned(),
        opens: Some(Utc::from_seconds(4_200_000_000 - 2_208_988_800)),
        closes: Some(Utc::from_seconds(4_200_003_600 - 2_208_988_800)),
        source: Some([192, 0, 2, 10].into()),
        tsi: Tsi(7),
        declarations: vec![FecDeclaration { reference: 0, encoding_id: 6, instance_id: None }],
        channels: vec![channel()],
        odd: vec![],
    }
}

fn channel() -> Channel {
    Channel {
        group: [239, 7, 7, 30].into(),
        port: 40_100,
        ttl: Some(8),
        kilobits_per_second: Some(20_000),
        fec: Some(0),
    }
}

fn parse(text: &str) -> Result<SessionDescription, WireError> {
    SessionDescription::parse(text.as_bytes())
}

// test: ts26346-mbms 7.3, rfc6726 6
#[test]
fn the_golden_description_is_read_and_written_octet_for_octet() {
    let declared = "a=FEC-declaration:0 encoding-id=6\r\n";
    let written = GOLDEN.replacen("m=", &format!("{declared}m="), 1);
    assert_eq!(golden().emit(), Ok(written.clone()));
    assert_eq!(parse(GOLDEN), Ok(golden()));
    assert_eq!(parse(&written), Ok(golden()));
}

#[test]
fn a_channel_may_be_several_by_their_groups_their_ports_or_both() {
    let with = |connection: &str, port: &str| {
        let text = GOLDEN.replace("IP4 239.7.7.30/8", connection).replace("40100", port);
        let description = parse(&text).map_err(|error| error.to_string())?;
        let places = description.channels.iter().map(|channel| (channel.group, channel.port));
        Ok::<_, String>(places.map(|(group, port)| format!("{group} {port}")).collect::<Vec<_>>())
    };
    let places = |places: &[&str]| Ok(places.iter().map(|place| (*place).to_owned()).collect());
    assert_eq!(with("IP4 239.7.7.255/8/2", "1"), places(&["239.7.7.255 1", "239.7.8.0 1"]));
    assert_eq!(with("IP6 ff3e::1/2", "1"), places(&["ff3e::1 1", "ff3e::2 1"]));
    assert_eq!(with("IP4 239.7.7.1/8", "7/2"), places(&["239.7.7.1 7", "239.7.7.1 8"]));
    assert_eq!(with("IP4 239.7.7.1/8/2", "7/2"), places(&["239.7.7.1 7", "239.7.7.2 8"]));
    for (connection, port) in [
        ("IP4 239.7.7.1/8/2", "7/3"),
        ("IP4 239.7.7.1/8/9", "7"),
        ("IP4 239.7.7.1/8/0", "7"),
        ("IP4 239.7.7.1/8/2/2", "7"),
        ("IP6 ff3e::1/2/2", "7"),
        ("IP4 239.7.7.1/8", "65535/2"),
        ("IP4 239.7.7.1/8", "7/x"),
    ] {
        assert!(with(connection, port).is_err(), "{connection} {port}");
    }
    let two = GOLDEN.replace("/8", "/8/2").replace("a=flute-tsi", "a=flute-ch:2\r\na=flute-tsi");
    assert_eq!(parse(&two).unwrap().odd, []);
}

// test: ts26346-mbms 7.3
#[test]
fn of_several_groups_of_a_channel_the_first_comes_first() {
    let with = |connections: &str| {
        parse(&GOLDEN.replace("c=IN IP4 239.7.7.30/8", connections)).map(|read| {
            let groups = read.channels.iter().map(|channel| channel.group.to_string());
            (groups.collect::<Vec<_>>(), read.odd.len())
        })
    };
    let groups = |groups: &[&str]| Ok((groups.iter().map(|it| (*it).to_owned()).collect(), 0));
    let two = "c=IN IP4 239.7.7.30/8\r\nc=IN IP4 239.9.9.9/8";
    assert_eq!(with(two), groups(&["239.7.7.30", "239.9.9.9"]));
    let layers = "c=IN IP4 239.7.7.30/8/2\r\nc=IN IP4 239.9.9.9/8\r\nc=IN IP4 239.9.9.9/8";
    assert_eq!(with(layers), groups(&["239.7.7.30", "239.7.7.31", "239.9.9.9"]));
    let many = |count| {
        let line = |last| format!("c=IN IP4 239.7.7.{last}/8");
        (1..=count).map(line).collect::<Vec<_>>().join("\r\n")
    };
    assert_eq!(with(&many(MAX_CHANNELS)).unwrap().0.len(), MAX_CHANNELS);
    assert!(with(&many(MAX_CHANNELS + 1)).is_err());
    // The session has one: the first counts, the other is named.
    let common = GOLDEN.replace("c=IN IP4 239.7.7.30/8\r\n", "");
    let common = common.replace("t=4", "c=IN IP4 239.7.7.30/8\r\nc=IN IP4 239.9.9.9/8\r\nt=4");
    let read = parse(&common).unwrap();
    assert_eq!(read.channels, [channel()]);
    assert!(read.odd[0].to_string().contains("one for the whole session"), "{:?}", read.odd);
}

#[test]
fn each_odd_line_has_one_reason_and_the_true_one() {
    let with = |line: &str, other: &str| parse(&GOLDEN.replacen(line, other, 1));
    let odd = |line: &str, other: &str| -> Vec<String> {
        with(line, other).unwrap().odd.iter().map(ToString::to_string).collect()
    };
    let origin = odd("o=carousel", "o=two words");
    assert!(origin.len() == 1 && !origin[0].contains("absent"), "{origin:?}");
    let many: String =
        (0..20).map(|at| format!("a=FEC-declaration:{at} encoding-id=6\r\n")).collect();
    let many = odd("m=", &format!("{many}m="));
    assert!(many.len() == 1 && many[0].contains("FEC declarations"), "{many:?}");
    let tabs = with("t=4200000000 4200003600", "t=4200000000\t 4200003600").unwrap();
    assert_eq!(tabs, golden());
    assert_eq!(odd("t=4200000000 4200003600", "t=4200000000 4200003600 7").len(), 1);
    let named = with("* 192.0.2.10", "* host.example").unwrap_err().to_string();
    assert!(named.contains("no name is looked up"), "{named}");
}

#[test]
fn a_byte_order_mark_a_host_name_and_several_times_are_read() {
    let text = GOLDEN
        .replace("IP4 192.0.2.10\r\ns", "IP6 host-1.example\r\ns")
        .replace("t=4200000000 4200003600", "t=4200000000 4200003600\r\nt=4100000000 4200001000");
    let description = parse(&format!("\u{feff}{text}")).unwrap();
    assert_eq!(description.odd, []);
    assert_eq!(description.origin.host, Host::Name("host-1.example".to_owned()));
    assert_eq!(description.opens, Some(Utc::from_seconds(4_100_000_000 - 2_208_988_800)));
    assert_eq!(description.closes, golden().closes);
    assert_eq!(parse(&description.emit().unwrap()), Ok(description));
    // One that is permanent is all of the time.
    let permanent = parse(&text.replace("t=4100000000 4200001000", "t=0 0")).unwrap();
    assert_eq!((permanent.opens, permanent.closes), (None, None));
}

// test: ts26346-mbms 7.3
#[test]
fn what_is_said_twice_is_compared() {
    for (line, other, field) in [
        ("a=flute-tsi", "a=flute-ch:2\r\na=flute-tsi", "a=flute-ch is 2"),
        ("a=flute-tsi", "a=flute-ch:1\r\na=flute-ch:3\r\na=flute-tsi", "a=flute-ch is 3"),
        ("a=FEC:0", "a=FEC:1", "a=FEC is 1"),
        ("a=FEC:0", "a=FEC:1\r\na=FEC:0", "one scheme"),
        ("IP4 * 192", "IP4 239.9.9.9 192", "a=source-filter is 239.9.9.9"),
        ("m=", "a=FEC-declaration:0 encoding-id=1\r\nm=", "wherever it is declared"),
        ("t=4200000000 4200003600", "t=4200003600 4200000000", "an end after the begin"),
    ] {
        let description = parse(&GOLDEN.replacen(line, other, 1)).unwrap();
        let odd: Vec<String> = description.odd.iter().map(ToString::to_string).collect();
        assert!(odd.iter().any(|reason| reason.contains(field)), "{line}: {odd:?}");
        assert_eq!((description.tsi, description.channels.len()), (Tsi(7), 1));
    }
    let same = GOLDEN.replace("IP4 * 192", "IP4 239.7.7.30 192");
    assert_eq!(parse(&same).unwrap().odd, []);
}

// test: ts26346-mbms 7.3
#[test]
fn a_line_that_nobody_needs_to_join_costs_itself_alone() {
    for (line, other) in [
        (" encoding-id=6", ""),
        ("encoding-id=6", "encoding-id=256"),
        ("t=4200000000 4200003600", "t=4200000000"),
        ("t=4200000000 4200003600", "t=soon later"),
        ("o=carousel", "o=two words"),
        ("o=carousel 2890844526", "o=carousel x"),
        ("o=carousel 2890844526 2890842807 IN IP4 192.0.2.10\r\n", ""),
        ("s=Firmware", "Firmware"),
        ("b=AS:20000", "b=AS:fast"),
        ("a=FEC:0", "a=FEC:zero"),
        ("a=FEC:0", "a=FEC:0\r\na=flute-ch:many"),
    ] {
        let description = parse(&GOLDEN.replacen(line, other, 1)).unwrap();
        assert!(!description.odd.is_empty(), "{line}");
        let read = (description.tsi, description.source, description.channels[0].group);
        assert_eq!(read, (Tsi(7), golden().source, channel().group), "{line}");
    }
    let latin = SessionDescription::parse(&[GOLDEN.as_bytes(), b"i=\xe9\r\n"].concat()).unwrap();
    let odd = latin.odd.clone();
    assert_eq!((odd.len(), latin), (1, SessionDescription { odd, ..golden() }));
}

#[test]
fn a_permanent_session_over_ipv6_with_two_channels_survives_a_round_trip() {
    let group = |last| IpAddr::from([0xff3e, 0, 0, 0, 0, 0, 0x8000, last]);
    let channel = |last| Channel { group: group(last), ttl: None, ..channel() };
    let description = SessionDescription {
        opens: None,
        closes: None,
        source: Some("2001:db8::1".parse().unwrap()),
        tsi: Tsi((1 << 48) - 1),
        declarations: vec![
            FecDeclaration { reference: 0, encoding_id: 0, instance_id: None },
            FecDeclaration { reference: 1, encoding_id: 129, instance_id: Some(7) },
        ],
        channels: vec![channel(1), Channel { fec: Some(1), ..channel(2) }],
        ..golden()
    };
    let text = description.emit().unwrap();
    assert!(text.contains("t=0 0\r\n") && text.contains("a=flute-ch:2\r\n"), "{text}");
    assert_eq!(parse(&text), Ok(description));
}

#[test]
fn descriptions_of_others_are_read_with_tolerance() {
    let text = "v=0\no=- 1 1 IN IP4 10.0.0.1\ns=\nc=IN IP4 239.1.1.1/1\nt=0 0\n\
        a=mbms-mode:broadcast 1234 1\na=FEC-declaration:3 encoding-id=1\na=FEC:3\n\
        m=audio 5004 RTP/AVP 0\nc=IN IP4 239.9.9.9/1\na=flute-tsi:99\n\
        m=application 1000 flute/udp *\na=flute-tsi: 12\na=source-filter:incl IN IP4 239.1.1.1 10.0.0.1\n\
        a=lang:EN\nb=CT:7\nb=AS:64\n\n";
    let description = parse(text).unwrap();
    let odd: Vec<String> = description.odd.iter().map(ToString::to_string).collect();
    assert_eq!(odd, [] as [&str; 0]);
    assert_eq!((description.tsi, description.source), (Tsi(12), Some([10, 0, 0, 1].into())));
    assert_eq!((description.opens, description.closes), (None, None));
    let expected = Channel {
        group: [239, 1, 1, 1].into(),
        port: 1000,
        ttl: Some(1),
        kilobits_per_second: Some(64),
        fec: Some(3),
    };
    assert_eq!(description.channels, [expected]);
    assert_eq!(description.declarations[0].encoding_id, 1);
}

// test: ts26346-mbms 7.3, rfc5651 6.1, rfc6726 6
#[test]
fn what_a_receiver_needs_must_be_there_once() {
    for (line, other) in [
        ("v=0", "v=1"),
        ("a=flute-tsi:7\r\n", ""),
        ("a=flute-tsi:7", "a=flute-tsi:7\r\na=flute-tsi:8"),
        ("a=flute-tsi:7", "a=flute-tsi:1234567890123456"),
        ("a=flute-tsi:7", "a=flute-tsi:281474976710656"),
        ("a=flute-tsi:7", "a=flute-tsi:-7"),
        ("m=application", "m=video"),
        ("40100", "65536"),
        ("c=IN IP4 239.7.7.30/8\r\n", ""),
        ("239.7.7.30/8", "ff3e::1"),
        ("incl", "excl"),
        ("a=flute-tsi", "a=source-filter: incl IN IP4 * 192.0.2.11\r\na=flute-tsi"),
    ] {
        let text = GOLDEN.replacen(line, other, 1);
        assert_ne!(text, GOLDEN, "{line}");
        assert!(parse(&text).is_err(), "{text}");
    }
    assert!(parse("").is_err());
    assert!(SessionDescription::parse(b"v=0\n\xff").is_err());
}

// test: ts26346-mbms 7.3
#[test]
fn a_description_that_breaks_the_rules_is_not_written() {
    let with_channel = |channel| SessionDescription { channels: vec![channel], ..golden() };
    let with_user = |user: &str| SessionDescription {
        origin: Origin { user: user.to_owned(), ..golden().origin },
        ..golden()
    };
    for description in [
        SessionDescription { name: String::new(), ..golden() },
        SessionDescription { name: "a\r\na=x".to_owned(), ..golden() },
        with_user("two words"),
        SessionDescription { tsi: Tsi(1 << 48), ..golden() },
        SessionDescription { source: None, ..golden() },
        SessionDescription { source: Some("::1".parse().unwrap()), ..golden() },
        SessionDescription { declarations: vec![], ..golden() },
        SessionDescription { channels: vec![], ..golden() },
        SessionDescription { channels: vec![channel(); MAX_CHANNELS + 1], ..golden() },
        with_channel(Channel { ttl: None, ..channel() }),
        with_channel(Channel { port: 0, ..channel() }),
        with_channel(Channel { fec: Some(1), ..channel() }),
    ] {
        assert!(description.emit().is_err(), "{description:?}");
    }
}

#[test]
fn every_limit_holds_at_its_edge() {
    let line = "i=x\r\n";
    let own = GOLDEN.lines().count();
    assert!(parse(&format!("{GOLDEN}{}", line.repeat(MAX_LINES - own))).is_ok());
    assert!(parse(&format!("{GOLDEN}{}", line.repeat(MAX_LINES - own + 1))).is_err());
    let padded = |length: usize| format!("{GOLDEN}i={}", "x".repeat(length - GOLDEN.len() - 2));
    assert!(parse(&padded(MAX_BYTES)).is_ok());
    assert!(parse(&padded(MAX_BYTES + 1)).is_err());
    let channels = |count| {
        format!(
            "{GOLDEN}{}",
            "m=application 1 FLUTE/UDP 0\r\nc=IN IP4 239.1.1.1/1\r\n".repeat(count)
        )
    };
    assert!(parse(&channels(MAX_CHANNELS - 1)).is_ok());
    assert!(parse(&channels(MAX_CHANNELS)).is_err());
}

// Found by fuzzing: such a time was cut to the last one that there is, and written so.
#[test]
fn a_time_that_no_clock_reaches_is_no_moment() {
    let with_times = |times: &str| {
        let lines = GOLDEN.lines().map(|line| if line.starts_with("t=") { times } else { line });
        parse(&lines.map(|line| format!("{line}\r\n")).collect::<String>()).unwrap()
    };
    let beyond = with_times("t=18446746282698352 18446744073709551615");
    assert_eq!((beyond.opens, beyond.closes), (None, None));
    assert_eq!(parse(&beyond.emit().unwrap()), Ok(beyond));
    let last = with_times("t=18446746282698351 0");
    assert_eq!(parse(&last.emit().unwrap()), Ok(last.clone()));
    assert!(last.opens.is_some());
}

proptest! {
    #[test]
    fn every_description_survives_a_round_trip(
        name in "[ -~]{0,30}[!-~]", user in "[!-~]{1,10}", id: u64, version: u64, tsi in 0_u64..1 << 48,
        group in 0xe000_0000_u32..0xf000_0000, source: u32, port in 1_u16.., ttl: u8,
        rate: Option<u64>, opens in prop::option::of(0_u64..1 << 40), encoding_id: u8,
    ) {
        let name = name.trim().to_owned();
        let channel = Channel {
            group: IpAddr::V4(group.into()), port, ttl: Some(ttl), kilobits_per_second: rate, fec: Some(9),
        };
        let source = IpAddr::V4(source.into());
        let description = SessionDescription {
            origin: Origin { user, id, version, host: source.into() },
            name,
            opens: opens.map(Utc::from_seconds),
            closes: None,
            source: Some(source),
            tsi: Tsi(tsi),
            declarations: vec![FecDeclaration { reference: 9, encoding_id, instance_id: Some(3) }],
            channels: vec![channel],
            odd: vec![],
        };
        let text = description.emit().unwrap();
        prop_assert_eq!(parse(&text), Ok(description));
    }

    // test: ts26346-mbms 7.3
    #[test]
    fn one_odd_line_leaves_the_others(
        at in 1_usize..=GOLDEN.lines().count(),
        line in "[oistbzkrupe]=[ -~]{0,30}|a=(FEC|flute-ch|lang|[a-z]{1,9})(:[ -~]{0,20})?|[ -<>-~]{0,30}|[iopsu]=\\PC{0,9}",
    ) {
        let mut lines: Vec<&str> = GOLDEN.lines().collect();
        lines.insert(at, &line);
        let description = parse(&lines.join("\n")).unwrap();
        let SessionDescription { tsi, source, channels, .. } = description;
        let places: Vec<_> = channels.iter().map(|channel| (channel.group, channel.port)).collect();
        prop_assert_eq!((tsi, source), (Tsi(7), golden().source));
        prop_assert_eq!(places, [(channel().group, channel().port)]);
    }

    #[test]
    fn whatever_arrives_the_answer_is_a_value(
        at in 0_usize..GOLDEN.len(), octet: u8, tail in prop::collection::vec(any::<u8>(), 0..40),
        lines in "([vostmcba]=[ -~]{0,30}\n){0,20}"
    ) {
        let mut octets = GOLDEN.as_bytes().to_vec();
        octets[at] = octet;
        octets.splice(at..at, tail);
        let _read = SessionDescription::parse(&octets);
        let _read = SessionDescription::parse(format!("v=0\n{lines}").as_bytes());
    }
}
