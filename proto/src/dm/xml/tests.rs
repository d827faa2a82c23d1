//! Samples, prefixes, limits and hostile forms.

use super::*;
use crate::{
    dm::{
        code::{AlertCode, StatusCode},
        syncml::*,
    },
    ids::Correlator,
};

/// A message in the manner of the specification's samples: white space, single quotes, Type before
/// Format, Correlator before Data.
const SAMPLE: &str = "<?xml version='1.0'?>\n<SyncML xmlns='SYNCML:SYNCML1.2'>
  <SyncHdr>
    <VerDTD>1.2</VerDTD><VerProto>DM/1.2</VerProto><SessionID>1</SessionID><MsgID>2</MsgID>
    <Target><LocURI>http://www.syncml.org/mgmt-server</LocURI></Target>
    <Source><LocURI>IMEI:493005100592800</LocURI><LocName>Bruce2</LocName></Source>
    <Cred>
      <Meta><Type xmlns='syncml:metinf'>syncml:auth-md5</Type>
            <Format xmlns='syncml:metinf'>b64</Format></Meta>
      <Data>Zz6EivR3yeaaENcRN6lpAQ==</Data>
    </Cred>
    <Meta><MaxMsgSize xmlns='syncml:metinf'>5000</MaxMsgSize></Meta>
  </SyncHdr>
  <SyncBody>
    <!-- a comment -->
    <Status><MsgRef>1</MsgRef><CmdID>1</CmdID><Cmd>SyncHdr</Cmd><Data>212</Data>
      <TargetRef>IMEI:493005100592800</TargetRef></Status>
    <Alert><CmdID>2</CmdID><Correlator>c&amp;1</Correlator><Data>1226</Data>
      <Item><Source><LocURI>./FwUpdate/Main</LocURI></Source>
        <Meta><Type xmlns='syncml:metinf'>a.b</Type><Format xmlns='syncml:metinf'>int</Format></Meta>
        <Data>200</Data></Item></Alert>
    <Final/>
  </SyncBody>
</SyncML>";

fn read(text: &str) -> Result<Message, MessageError> {
    parse(text.as_bytes(), &Limits::default())
}

/// Returns the sample with a body of its own.
fn with_body(body: &str) -> String {
    let start = SAMPLE.find("<SyncBody>").unwrap();
    format!("{}<SyncBody>{body}</SyncBody></SyncML>", &SAMPLE[..start])
}

#[test]
fn a_sample_in_another_order_is_read() {
    let message = read(SAMPLE).unwrap();
    assert_eq!(message.header.session_id, "1");
    assert_eq!(message.header.source, Location::named("IMEI:493005100592800", "Bruce2"));
    assert_eq!(message.header.meta.as_ref().unwrap().max_message_size, Some(5000));
    assert!(message.is_final);
    let Command::Status(status) = &message.commands[0] else { panic!("{message:?}") };
    assert_eq!((status.command_ref, status.code), (CommandId::HEADER, StatusCode::AUTHENTICATED));
    let Command::Alert(alert) = &message.commands[1] else { panic!("{message:?}") };
    assert_eq!(alert.correlator, Some(Correlator("c&1".to_owned())));
    assert_eq!(alert.code, AlertCode::GENERIC);
    assert_eq!(alert.items[0].data_text(), Some("200"));
}

#[test]
fn xml_inside_data_is_the_text_that_stands_for_it() {
    let alert = |format: &str| {
        with_body(&format!(
            "<Alert><CmdID>1</CmdID><Data>1226</Data><Item><Meta><Format>{format}</Format></Meta>\
             <Data><ResultCode>1200</ResultCode><Identifier>a&amp;b</Identifier></Data></Item>\
             </Alert>"
        ))
    };
    let message = read(&alert("xml")).unwrap();
    let Command::Alert(read_alert) = &message.commands[0] else { panic!("{message:?}") };
    let data = "<ResultCode>1200</ResultCode><Identifier>a&amp;b</Identifier>";
    assert_eq!(read_alert.items[0].data_text(), Some(data));
    assert_eq!(
        rejected(&read(&alert("chr")).unwrap()),
        ["1 Alert 400: Data cannot hold ResultCode"]
    );
}

#[test]
fn elements_are_written_in_dtd_order() {
    let text = String::from_utf8(emit(&read(SAMPLE).unwrap())).unwrap();
    let order = |names: &[&str]| {
        let places: Vec<_> = names.iter().map(|name| text.find(name).expect(name)).collect();
        assert!(places.is_sorted(), "{names:?} in {text}");
    };
    order(&["<VerDTD>", "<VerProto>", "<SessionID>", "<MsgID>", "<Target>", "<Source>", "<Cred>"]);
    order(&["<Status><CmdID>", "<MsgRef>", "<CmdRef>0", "<Cmd>", "<TargetRef>", "<Data>212"]);
    order(&["<Alert><CmdID>", "<Data>1226", "<Correlator>c&amp;1", "<Item>"]);
    assert!(text.starts_with(
        r#"<?xml version="1.0" encoding="UTF-8"?><SyncML xmlns="SYNCML:SYNCML1.2"><SyncHdr>"#
    ));
    assert!(text.contains(r#"<Format xmlns="syncml:metinf">b64</Format>"#));
    assert!(text.ends_with("<Final/></SyncBody></SyncML>"));
}

#[test]
fn every_prefix_of_a_message_is_refused() {
    for length in 0..SAMPLE.len() {
        assert!(read(&SAMPLE[..length]).is_err(), "{length}");
    }
}

#[test]
fn xml_that_is_not_syncml_is_called_so() {
    for (text, complaint) in [
        ("<html/>", "the message is not SyncML: the root element is html"),
        ("<SyncML xmlns='urn:x'/>", "the message is not SyncML: its namespace is urn:x"),
    ] {
        assert_eq!(read(text).unwrap_err().to_string(), complaint, "{text}");
    }
    assert!(matches!(read("hello"), Err(MessageError::Malformed { .. })));
    assert!(matches!(read(""), Err(MessageError::Malformed { .. })));
    assert_eq!(parse(&[0xff], &Limits::default()), Err(MessageError::NotUtf8));
}

#[test]
fn a_prefixed_root_is_read() {
    let text =
        SAMPLE.replace("<SyncML xmlns=", "<s:SyncML xmlns:s=").replace("</SyncML>", "</s:SyncML>");
    assert_eq!(read(&text), read(SAMPLE));
}

#[test]
fn document_types_and_foreign_entities_are_refused() {
    let doctype = SAMPLE.replace("?>\n", "?><!DOCTYPE SyncML [<!ENTITY a 'b'>]>");
    assert_eq!(read(&doctype), Err(MessageError::DocumentType));
    assert_eq!(read(&SAMPLE.replace("&amp;", "&a;")), Err(MessageError::Entity("a".to_owned())));
    for null in ["&#0;", "&#x1;", "&#xFFFFFFFF;", "&", "\u{1}"] {
        assert!(read(&SAMPLE.replace("&amp;", null)).is_err(), "{null:?}");
    }
    let inside = SAMPLE.replace("<SyncBody>", "<SyncBody><!DOCTYPE SyncML>");
    assert_eq!(read(&inside), Err(MessageError::DocumentType));
}

// test: oma-dm 8.2
#[test]
fn the_prolog_and_what_follows_the_root_may_be_those_of_any_peer() {
    for (from, to) in [
        ("?>\n", "?><!DOCTYPE SyncML PUBLIC '-//SYNCML//DTD SyncML 1.2//EN' 'http://x/y.dtd'>"),
        ("?>\n", "?><!DOCTYPE SyncML><?style sheet?><!-- odd -->"),
        ("version='1.0'", "version='1.0' encoding='US-ASCII'"),
        ("version='1.0'", "version='1.1' encoding='ISO-8859-1' standalone='yes'"),
        ("<?xml version='1.0'?>\n", ""),
        (" xmlns='SYNCML:SYNCML1.2'", ""),
        (" xmlns='SYNCML:SYNCML1.2'", " xmlns='syncml:SyncML1.2' xmlns:v='urn:v' v:a='b'"),
        ("</SyncML>", "</SyncML>\0\0"),
        ("</SyncML>", "</SyncML><SyncML/>junk"),
    ] {
        let odd = SAMPLE.replacen(from, to, 1);
        assert_ne!(odd, SAMPLE);
        assert_eq!(read(&odd), read(SAMPLE), "{from} {to}");
    }
    let wide: Vec<u8> = SAMPLE.encode_utf16().flat_map(u16::to_be_bytes).collect();
    assert_eq!(parse(&wide, &Limits::default()), read(SAMPLE));
}

// test: oma-dm 8.2
#[test]
fn an_element_of_a_vendor_is_none_of_the_message_whatever_its_name() {
    for (from, to) in [
        ("<MsgID>", "<v:MsgID xmlns:v='urn:v'>9</v:MsgID><MsgID>"),
        ("<Data>200", "<Data xmlns='urn:v'>201</Data><Data>200"),
    ] {
        assert_eq!(read(&SAMPLE.replacen(from, to, 1)), read(SAMPLE), "{to}");
    }
    // Without a declaration the prefix says nothing.
    let prefixed = SAMPLE.replace("<MsgID>2</MsgID>", "<s:MsgID>2</s:MsgID>");
    assert_eq!(read(&prefixed), read(SAMPLE));
}

#[test]
fn faults_name_their_element() {
    for (from, to, complaint) in [
        ("<MsgID>2</MsgID>", "", "SyncHdr lacks MsgID"),
        ("<MsgID>2", "<MsgID>123456789012345678901234567890123", "MsgID is "),
        ("<MsgID>2</MsgID>", "<MsgID>2</MsgID><MsgID>2</MsgID>", "SyncHdr has more than one MsgID"),
        ("SyncBody>", "Body>", "SyncML lacks SyncBody"),
    ] {
        let text = SAMPLE.replace(from, to);
        let error = read(&text).unwrap_err().to_string();
        assert!(error.starts_with(complaint), "{error} for {from} {to}");
    }
}

/// Returns what was rejected of a message, as text: number, name, code, fault.
fn rejected(message: &Message) -> Vec<String> {
    let text = |command: &Command| {
        let Command::Rejected(it) = command else { return None };
        Some(format!("{} {} {}: {}", it.id, it.verb, it.code, it.fault))
    };
    message.commands.iter().filter_map(text).collect()
}

// test: oma-dm 3 (unknown commands)
// test: oma-dm 8.2 (a malformed command)
#[test]
fn a_command_that_cannot_be_read_is_rejected_alone() {
    let sample = read(SAMPLE).unwrap();
    for (odd, expected) in [
        ("<Odd><CmdID>9</CmdID></Odd>", "9 Odd 501: SyncBody cannot hold Odd"),
        ("<Put><CmdID>a b</CmdID></Put>", "a b Put 406: SyncBody cannot hold Put"),
        ("<Odd/>", " Odd 501: SyncBody cannot hold Odd"),
        ("<v:Get xmlns:v='urn:v'><CmdID>9</CmdID></v:Get>", "9 Get 501: SyncBody cannot hold Get"),
        ("<Get xmlns='urn:v'><CmdID>9</CmdID></Get>", " Get 501: SyncBody cannot hold Get"),
        ("<SyncHdr><CmdID>9</CmdID></SyncHdr>", "9 SyncHdr 501: SyncBody cannot hold SyncHdr"),
        ("<Get><CmdID>9</CmdID></Get>", "9 Get 412: Get lacks Item"),
        ("<Get><Item/></Get>", " Get 412: Get lacks CmdID"),
        ("<Get><CmdID/><Item/></Get>", " Get 412: Get lacks CmdID"),
        (
            "<Alert><CmdID>9</CmdID><Data>many</Data></Alert>",
            "9 Alert 400: Data is many, expected a decimal number in range",
        ),
        (
            "<Exec><CmdID>9</CmdID><Item><Data><b/>2</Data></Item></Exec>",
            "9 Exec 400: Data cannot hold b",
        ),
        (
            "<Status><CmdID>9</CmdID><MsgRef>1</MsgRef><Cmd>Get</Cmd><Data>200</Data></Status>",
            "9 Status 412: Status lacks CmdRef",
        ),
        (
            "<Sequence><CmdID>9</CmdID><Meta/><Meta/></Sequence>",
            "9 Sequence 400: Sequence has more than one Meta",
        ),
    ] {
        for place in ["<Status>", "<Alert>", "<Final/>"] {
            let mut message = read(&SAMPLE.replacen(place, &format!("{odd}{place}"), 1)).unwrap();
            assert_eq!(rejected(&message), [expected]);
            message.commands.retain(|it| !matches!(it, Command::Rejected(_)));
            assert_eq!(message, sample, "{odd}");
        }
    }
}

// test: oma-dm 3 (505 and 513)
#[test]
fn another_version_leaves_the_header_and_says_so() {
    for (from, to, expected) in [
        ("<VerDTD>1.2", "<VerDTD>1.1", "0 SyncHdr 505: VerDTD is 1.1, expected 1.2"),
        ("<VerDTD>1.2</VerDTD>", "", "0 SyncHdr 505: VerDTD is , expected 1.2"),
        ("DM/1.2", "SyncML/1.2", "0 SyncHdr 513: VerProto is SyncML/1.2, expected DM/1.2"),
    ] {
        let message = read(&SAMPLE.replace(from, to)).unwrap();
        assert_eq!(rejected(&message), [expected]);
        assert_eq!((message.commands.len(), message.header), (1, read(SAMPLE).unwrap().header));
    }
    assert_eq!(read(SAMPLE).unwrap().rejected_header(), None);
    let header = read(SAMPLE).unwrap().header;
    let status = Status::for_header(CommandId::new(1), &header, StatusCode::PROTOCOL_VERSION);
    assert_eq!(status.items[0].data_text(), Some("DM/1.2"));
    assert!(Status::for_header(CommandId::new(1), &header, StatusCode::OK).items.is_empty());
}

// test: oma-dm 1.2
#[test]
fn a_status_is_read_without_what_it_does_not_need() {
    let Command::Status(expected) = read(SAMPLE).unwrap().commands.remove(0) else { panic!() };
    for (from, to) in [
        ("<CmdID>1</CmdID><Cmd>", "<Cmd>"),
        ("<CmdID>1</CmdID>", "<CmdID></CmdID>"),
        ("<Cmd>SyncHdr</Cmd>", "<CmdRef>0</CmdRef>"),
        ("<Cmd>SyncHdr", "<CmdRef>00</CmdRef><Cmd>Hdr"),
        ("<MsgRef>1", "<MsgRef>01"),
    ] {
        let message = read(&SAMPLE.replacen(from, to, 1)).unwrap();
        let Command::Status(status) = &message.commands[0] else { panic!("{message:?}") };
        assert_eq!(Status { id: expected.id, ..status.clone() }, expected, "{to}");
    }
}

#[test]
fn sizes_end_at_their_limits() {
    let limits = |message_bytes| Limits { message_bytes, ..Limits::default() };
    assert!(parse(SAMPLE.as_bytes(), &limits(SAMPLE.len())).is_ok());
    assert_eq!(
        parse(SAMPLE.as_bytes(), &limits(SAMPLE.len() - 1)),
        Err(MessageError::TooLarge { found: SAMPLE.len(), limit: SAMPLE.len() - 1 })
    );
}

#[test]
fn depth_ends_at_its_limit() {
    let nested = |depth: usize| {
        // The root and the body are the first two.
        let (open, close) = ("<Sequence><CmdID>1</CmdID>", "</Sequence>");
        with_body(&format!("{}{}", open.repeat(depth - 3), close.repeat(depth - 3)))
    };
    assert!(read(&nested(15)).is_ok());
    assert!(read(&nested(16)).is_ok());
    assert_eq!(read(&nested(17)), Err(MessageError::TooDeep { limit: 16 }));
    let bomb = with_body(&"<a>".repeat(20_000));
    assert_eq!(read(&bomb), Err(MessageError::TooDeep { limit: 16 }));
}

#[test]
fn the_number_of_commands_ends_at_its_limit_inside_groups_too() {
    let one = "<Alert><CmdID>1</CmdID><Data>1222</Data></Alert>";
    let grouped = |count: usize| {
        with_body(&format!("<Atomic><CmdID>1</CmdID>{}</Atomic>", one.repeat(count - 1)))
    };
    for count in [255, 256] {
        assert!(read(&with_body(&one.repeat(count))).is_ok(), "{count}");
        assert!(read(&grouped(count)).is_ok(), "{count}");
    }
    let refused = Err(MessageError::TooManyCommands { limit: 256 });
    assert_eq!(read(&with_body(&one.repeat(257))), refused);
    assert_eq!(read(&grouped(257)), refused);
}

#[test]
fn a_correlator_and_a_session_id_end_at_their_limits() {
    for (length, fits) in [(64, true), (65, false)] {
        let text = SAMPLE.replace("c&amp;1", &"x".repeat(length));
        assert_eq!(rejected(&read(&text).unwrap()).is_empty(), fits, "{length}");
    }
    for (length, fits) in [(32, true), (33, false)] {
        let id = format!("<SessionID>{}<", "x".repeat(length));
        assert_eq!(read(&SAMPLE.replace("<SessionID>1<", &id)).is_ok(), fits, "{length}");
    }
}

#[test]
fn a_character_that_xml_cannot_carry_is_replaced_and_a_carriage_return_survives() {
    let mut message = read(SAMPLE).unwrap();
    message.commands = vec![Command::Replace(Manage::new(
        CommandId::new(1),
        vec![Item::text("./a", "x\u{0}y\r\n]]>&lt;")],
    ))];
    let again = parse(&emit(&message), &Limits::default()).unwrap();
    let Command::Replace(manage) = &again.commands[0] else { panic!("{again:?}") };
    assert_eq!(manage.items[0].data_text(), Some("x\u{fffd}y\r\n]]>&lt;"));
}

/// Reading costs an allocation less for each name and text.
#[test]
fn names_and_texts_are_not_copied() {
    use std::borrow::Cow;

    use crate::dm::encoding::read::{Content, Element};

    fn check(element: &Element<'_>) {
        assert!(matches!(element.name, Cow::Borrowed(_)), "{}", element.name);
        assert!(matches!(element.content, Content::Text(Cow::Borrowed(_))), "{}", element.name);
        element.children.iter().for_each(check);
    }
    let document = "<s:SyncML xmlns:s='SYNCML:SYNCML1.2'><a b='c' />\
        <s:b  c = '>'>x</s:b ><d/><\u{e9}>\u{e9}</\u{e9}></s:SyncML>";
    let root = read::syncml(document, &Limits::default()).unwrap();
    check(&root);
    let names: Vec<_> = root.children.iter().map(|child| &*child.name).collect();
    assert_eq!(names, ["a", "b", "d", "\u{e9}"]);
}
