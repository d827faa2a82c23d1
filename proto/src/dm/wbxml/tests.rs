//! The forms of the field, vectors, limits and hostile forms.

use super::*;
use crate::dm::{
    code::Format,
    syncml::{Command, CommandId, Data, Item, Manage},
    xml,
};

/// The output of libwbxml's `xml2wbxml -n` for a challenged Replace, its header left out.
const BODY: &[u8] = b"\x6d\
    \x6c\x71\x031.2\0\x01\x72\x03DM/1.2\0\x01\x65\x031\0\x01\x5b\x031\0\x01\
    \x6e\x57\x03http://x/dm\0\x01\x01\x67\x57\x03a\0\x01\x56\x03a\0\x01\x01\
    \x4e\x5a\x00\x01\x47\x03b64\0\x01\x53\x03syncml:auth-md5\0\x01\x01\
    \x00\x00\x4f\x03Zz6EivR3yeaaENcRN6lpAQ==\0\x01\x01\
    \x5a\x00\x01\x4c\x035000\0\x01\x01\x01\
    \x00\x00\x6b\x60\x4b\x031\0\x01\x54\x6e\x57\x03./a\0\x01\x01\
    \x5a\x00\x01\x47\x03chr\0\x01\x01\x00\x00\x4f\xc3\x07h&<\xc3\xa4\r\n\x01\x01\x01\
    \x12\x01\x01";

/// The same in text.
const TEXT: &str = "<SyncML xmlns='SYNCML:SYNCML1.2'><SyncHdr><VerDTD>1.2</VerDTD>\
    <VerProto>DM/1.2</VerProto><SessionID>1</SessionID><MsgID>1</MsgID>\
    <Target><LocURI>http://x/dm</LocURI></Target>\
    <Source><LocURI>a</LocURI><LocName>a</LocName></Source>\
    <Cred><Meta><Format xmlns='syncml:metinf'>b64</Format>\
    <Type xmlns='syncml:metinf'>syncml:auth-md5</Type></Meta>\
    <Data>Zz6EivR3yeaaENcRN6lpAQ==</Data></Cred>\
    <Meta><MaxMsgSize xmlns='syncml:metinf'>5000</MaxMsgSize></Meta></SyncHdr>\
    <SyncBody><Replace><CmdID>1</CmdID><Item><Target><LocURI>./a</LocURI></Target>\
    <Meta><Format xmlns='syncml:metinf'>chr</Format></Meta><Data>h&amp;&lt;ä&#13;\n</Data>\
    </Item></Replace><Final/></SyncBody></SyncML>";

const PLAIN: &[u8] = &[2, 0xa4, 1, 0x6a, 0];

fn message(head: &[u8], body: &[u8]) -> Vec<u8> {
    [head, body].concat()
}

fn read(octets: &[u8]) -> Result<Message, MessageError> {
    parse(octets, &Limits::default())
}

fn expected() -> Message {
    xml::parse(TEXT.as_bytes(), &Limits::default()).unwrap()
}

/// Returns [`BODY`] with other octets in the place of some.
fn replaced(from: &[u8], to: &[u8]) -> Vec<u8> {
    let place = BODY.windows(from.len()).position(|window| window == from).expect("they are there");
    [&BODY[..place], to, &BODY[place + from.len()..]].concat()
}

fn complaint(octets: &[u8]) -> String {
    read(octets).expect_err("it is refused").to_string()
}

// test: oma-dm 8 (three headers)
#[test]
fn the_three_headers_of_the_field_are_read() {
    let by_name = b"\x02\x00\x00\x6a\x1d-//SYNCML//DTD SyncML 1.2//EN";
    assert_eq!(by_name.len(), 5 + 29);
    for head in [PLAIN, &[3, 0xa4, 1, 0x6a, 0], &[1, 0xa4, 1, 0x6a, 0], by_name] {
        assert_eq!(read(&message(head, BODY)), Ok(expected()), "{head:x?}");
    }
    let with_zero = b"\x03\x00\x00\x6a\x1e-//SYNCML//DTD SyncML 1.2//EN\0";
    assert_eq!(read(&message(with_zero, BODY)), Ok(expected()));
}

#[test]
fn other_documents_are_called_so() {
    for (head, wrong) in [
        (&[3, 0x0b, 0x6a, 0][..], "its public identifier is 0x000b"),
        (b"\x03\x00\x00\x6a\x03abc", "its public identifier is abc"),
    ] {
        let octets = message(head, BODY);
        assert_eq!(complaint(&octets), format!("the message is not SyncML: {wrong}"));
    }
    assert_eq!(
        complaint(&message(PLAIN, &[0x6b, 1])),
        "the message is not SyncML: the root element is SyncBody"
    );
    assert!(complaint(&message(&[4, 0xa4, 1, 0x6a, 0], BODY)).contains("WBXML version is 4"));
    // UTF-16, in which a zero octet ends no text.
    let wide = message(&[2, 0xa4, 1, 0x87, 0x77, 0], BODY);
    assert_eq!(read(&wide), Err(MessageError::NotUtf8));
}

// test: oma-dm 8.2
#[test]
fn the_prolog_and_what_follows_the_root_may_be_those_of_any_writer() {
    let latin = replaced(b"http://x/dm", b"http://x/d\xe9");
    let read_latin = read(&message(&[2, 0xa4, 1, 4, 0], &latin)).unwrap();
    assert_eq!(read_latin.header.target.uri, "http://x/dé");
    for head in [
        &b"\x02\x9f\x53\x6a\x00"[..],
        b"\x02\x01\x6a\x00",
        b"\x02\xa4\x01\x00\x00",
        b"\x02\xa4\x01\x03\x00",
        b"\x02\xa4\x01\x91\x4c\x00",
        b"\x02\x00\x02\x6a\x20x\0-//SYNCML//DTD SyncML 1.1//EN\0",
        b"\x02\xa4\x01\x6a\x00\x43\x05\x03odd\0\x01",
    ] {
        for tail in [&b""[..], b"\0", b"\x43\x05\x01", b"\xff\xff", BODY] {
            assert_eq!(read(&[head, BODY, tail].concat()), Ok(expected()), "{head:x?} {tail:x?}");
        }
    }
}

// test: oma-dm 8.2 (unknown tokens)
#[test]
fn a_command_with_an_unknown_tag_is_answered_and_a_literal_one_by_its_name() {
    let head = b"\x03\xa4\x01\x6a\x04Odd\0";
    for (tag, name) in [(&b"\x7f"[..], "tag 0x3f of page 0"), (b"\x44\x00", "Odd")] {
        let odd = [tag, b"\x4b\x037\0\x01\x01\x12\x01\x01"].concat();
        let mut found = read(&message(head, &replaced(b"\x12\x01\x01", &odd))).unwrap();
        let Some(Command::Rejected(rejected)) = found.commands.pop() else { panic!("{found:?}") };
        assert_eq!((rejected.id, rejected.verb.as_str()), (CommandId::new(7), name));
        assert_eq!(found, expected());
    }
}

#[test]
fn strings_of_the_table_and_literal_tags_are_read() {
    let head = b"\x03\xa4\x01\x6a\x15syncml:auth-md5\0Final";
    let typed = replaced(b"\x03syncml:auth-md5\0", b"\x83\x00");
    assert_eq!(read(&message(head, &typed)), Ok(expected()));
    let literal = replaced(b"\x12\x01\x01", b"\x04\x10\x01\x01");
    assert_eq!(read(&message(head, &literal)), Ok(expected()));
    let outside = replaced(b"\x03syncml:auth-md5\0", b"\x83\x15");
    assert!(complaint(&message(head, &outside)).contains("place in the string table is 21"));
    let entity = replaced(b"\x03a\0\x01\x56", b"\x02\x61\x01\x56");
    assert_eq!(read(&message(PLAIN, &entity)), Ok(expected()));
}

#[test]
fn text_comes_in_three_shapes_and_in_pieces() {
    let opaque = b"\xc3\x07h&<\xc3\xa4\r\n";
    for shape in [
        &b"\x03h&<\xc3\xa4\r\n\0"[..],
        b"\x03h&\0\x03<\xc3\xa4\r\n\0",
        b"\xc3\x02h&\x03<\xc3\xa4\r\n\0",
    ] {
        assert_eq!(read(&message(PLAIN, &replaced(opaque, shape))), Ok(expected()), "{shape:x?}");
    }
}

// test: oma-dm 8 (opaque)
#[test]
fn octets_are_what_is_called_binary_and_what_cannot_be_text() {
    let data = |octets: Vec<u8>| {
        let message = read(&message(PLAIN, &octets)).unwrap();
        let Command::Replace(replace) = &message.commands[0] else { panic!("{message:?}") };
        replace.items[0].data.clone().unwrap()
    };
    let opaque = b"\xc3\x07h&<\xc3\xa4\r\n";
    let bin = replaced(b"chr", b"bin");
    let text = b"h&<\xc3\xa4\r\n";
    assert_eq!(data(bin), Data::Octets(text.to_vec()));
    assert_eq!(data(replaced(opaque, b"\xc3\x01\xff")), Data::Octets(vec![0xff]));
    assert_eq!(data(replaced(opaque, b"\xc3\x02a\0")), Data::Octets(b"a\0".to_vec()));
    let common = b"\x5a\x00\x01\x47\x03bin\0\x01\x01\x00\x00\x54\x6e\x57";
    let mut by_command = replaced(b"\x54\x6e\x57", common);
    let own = b"\x5a\x00\x01\x47\x03chr\0\x01\x01\x00\x00";
    let place = by_command.windows(own.len()).position(|window| window == own).unwrap();
    by_command.drain(place..place + own.len());
    assert_eq!(data(by_command), Data::Octets(text.to_vec()));
}

#[test]
fn faults_name_their_place() {
    for (from, to, wrong) in [
        (&b"\x12\x01\x01"[..], &b"\x12\x01"[..], "token is cut off"),
        (b"\x12\x01\x01", b"\x92\x05", "attribute is cut off"),
        (b"\xc3\x07", b"\xc3\x8f\xff\xff\xff\x7f", "opaque data is cut off"),
        (b"\xc3\x07", b"\xc3\xff\xff\xff\xff\x7f", "opaque length is longer"),
        (b"\x03a\0", b"\x03\x07\0", "a character that XML cannot carry"),
        (b"\x03a\0", b"\x02\x83\xb0\x00", "entity is 55296, expected a character"),
    ] {
        let found = complaint(&message(PLAIN, &replaced(from, to)));
        assert!(found.contains(wrong), "{found} for {wrong}");
    }
    assert!(complaint(&message(PLAIN, &[3, b'a', 0])).contains("token is content"));
    assert!(complaint(&message(PLAIN, &[1])).contains("token is END"));
    assert_eq!(
        read(&message(PLAIN, &replaced(b"\x03a\0", b"\x03\xff\0"))),
        Err(MessageError::NotUtf8)
    );
    // Text may come as OPAQUE, and is text then.
    for (octets, error) in
        [(b"\xc3\x01\x00", MessageError::NotXmlText), (b"\xc3\x01\xff", MessageError::NotUtf8)]
    {
        assert_eq!(read(&message(PLAIN, &replaced(b"\x03a\0", octets))), Err(error));
    }
}

#[test]
fn a_table_cannot_stand_for_more_than_a_message_may_hold() {
    let table = [b'x'; 1000];
    let head = [&[3, 0xa4, 1, 0x6a, 0x87, 0x68], &table[..]].concat();
    let uses = |count: usize| {
        let from = b"\xc3\x07h&<\xc3\xa4\r\n";
        message(&head, &replaced(from, &b"\x83\x00".repeat(count)))
    };
    assert!(read(&uses(60)).is_ok());
    assert!(matches!(read(&uses(70)), Err(MessageError::TooLarge { limit: 65_536, .. })));
}

#[test]
fn depth_and_elements_end_at_their_limits() {
    let nested = |depth: usize| {
        let inside = b"\x64\x4b\x031\0\x01";
        let body = [&b"\x12"[..], &inside.repeat(depth - 3), &vec![1; depth - 3]].concat();
        message(PLAIN, &replaced(b"\x12", &body))
    };
    assert!(read(&nested(16)).is_ok());
    assert_eq!(read(&nested(17)), Err(MessageError::TooDeep { limit: 16 }));
    let bomb = message(PLAIN, &[&[0x6d][..], &vec![0x6b; 60_000]].concat());
    assert_eq!(read(&bomb), Err(MessageError::TooDeep { limit: 16 }));
    let wide = message(PLAIN, &[&[0x6d][..], &vec![0x2b; 60_000], &[1]].concat());
    assert_eq!(read(&wide), Err(MessageError::TooManyElements { limit: 16_384 }));
}

#[test]
fn numbers_have_seven_bits_in_an_octet() {
    for (number, octets) in [
        (0, &[0][..]),
        (0x7f, &[0x7f]),
        (0x80, &[0x81, 0]),
        (0x1201, &[0xa4, 1]),
        (0x3fff, &[0xff, 0x7f]),
        (0x4000, &[0x81, 0x80, 0]),
        (u32::MAX, &[0x8f, 0xff, 0xff, 0xff, 0x7f]),
    ] {
        let mut out = Vec::new();
        push_number(&mut out, number);
        assert_eq!(out, octets);
        assert_eq!(super::number(&mut crate::wire::Reader::new(octets), "it"), Ok(number));
    }
}

#[test]
fn what_is_written_is_the_plainest_form() {
    let mut message = expected();
    let octets = Item::octets("./b", [0, 1, 0xff]);
    message.commands = vec![Command::Replace(Manage::new(CommandId::new(7), vec![octets]))];
    let written = emit(&message);
    assert!(written.starts_with(b"\x02\xa4\x01\x6a\x00\x6d\x6c\x71\x031.2\0\x01"));
    let tail =
        b"\x6b\x60\x4b\x037\0\x01\x54\x6e\x57\x03./b\0\x01\x01\x5a\x00\x01\x47\x03bin\0\x01\x01\
        \x00\x00\x4f\xc3\x03\x00\x01\xff\x01\x01\x01\x12\x01\x01";
    assert!(written.ends_with(tail), "{written:x?}");
    assert_eq!(read(&written), Ok(message.clone()));
    let text = String::from_utf8(xml::emit(&message)).unwrap();
    assert!(text.contains(r#"<Format xmlns="syncml:metinf">b64</Format></Meta><Data>AAH/</Data>"#));
    let Command::Replace(replace) = &mut message.commands[0] else { panic!("{message:?}") };
    assert_eq!(replace.items[0].meta.as_ref().unwrap().format, Some(Format::Bin));
    replace.items[0] = Item::text("./c", "a\0b");
    let Command::Replace(replace) = &read(&emit(&message)).unwrap().commands[0] else { panic!() };
    assert_eq!(replace.items[0].data_text(), Some("a\u{fffd}b"));
}

/// Returns the tags of a document that have the content bit and no content.
fn hollow(octets: &[u8]) -> Vec<usize> {
    // No text and no length of these documents has this pair.
    let pairs = octets.windows(2).enumerate();
    pairs.filter(|(_, pair)| pair[0] & 0x40 != 0 && pair[1] == END).map(|(at, _)| at).collect()
}

#[test]
fn an_element_without_content_is_written_without_the_content_bit() {
    let mut message = expected();
    let empty = vec![Item::text("./a", ""), Item::text("./b", "")];
    message.commands = vec![Command::Replace(Manage::new(CommandId::new(7), empty))];
    let written = emit(&message);
    let commands = &written[written.windows(2).position(|pair| pair == b"\x6b\x60").unwrap()..];
    assert_eq!(commands.iter().filter(|octet| **octet == 0x0f).count(), 2, "{commands:x?}");
    assert_eq!(hollow(commands), [], "{commands:x?}");
    assert_eq!(super::length(&message), written.len());
    let Command::Replace(replace) = &read(&written).unwrap().commands[0] else { panic!() };
    let texts: Vec<_> = replace.items.iter().map(|item| item.data_text()).collect();
    assert_eq!(texts[0], Some(""));
}

// test: oma-dm 8 (code pages)
#[test]
fn tags_have_the_numbers_of_the_code_pages() {
    for (page, token, name) in [
        (Page::SyncMl, 0x05, "Add"),
        (Page::SyncMl, 0x1a, "Meta"),
        (Page::SyncMl, 0x2d, "SyncML"),
        (Page::SyncMl, 0x31, "VerDTD"),
        (Page::SyncMl, 0x34, "MoreData"),
        (Page::SyncMl, 0x3c, "Correlator"),
        (Page::MetInf, 0x05, "Anchor"),
        (Page::MetInf, 0x10, "NextNonce"),
        (Page::MetInf, 0x15, "MaxObjSize"),
        (Page::MetInf, 0x16, "FieldLevel"),
        (Page::Ddf, 0x05, "AccessType"),
        (Page::Ddf, 0x13, "Delete"),
        (Page::Ddf, 0x20, "MgmtTree"),
        (Page::Ddf, 0x25, "node"),
        (Page::Ddf, 0x2f, "RTProperties"),
        (Page::Ddf, 0x3c, "ZeroOrOne"),
    ] {
        assert_eq!(tag_token(page, name), Some(token), "{name}");
        assert_eq!(tag_name(page, token), Some(name), "{token:#x}");
    }
}

#[test]
fn every_tag_reads_back_and_reserved_ones_are_unknown() {
    for page in [Page::SyncMl, Page::MetInf, Page::Ddf] {
        for name in names(page).iter().filter(|name| !name.is_empty()) {
            let token = tag_token(page, name).unwrap();
            assert!(token < 0x40, "{name}");
            assert_eq!(tag_name(page, token), Some(*name));
        }
        assert_eq!(page_of(page_number(page)), Some(page));
    }
    assert_eq!(tag_name(Page::SyncMl, 0x30), None);
    assert_eq!(tag_name(Page::SyncMl, 0x3d), None);
    assert_eq!(tag_name(Page::MetInf, 0x17), None);
    assert_eq!(tag_name(Page::SyncMl, 4), None);
    assert_eq!(tag_token(Page::SyncMl, "SyncMl"), None);
    assert_eq!(page_of(3), None);
}
