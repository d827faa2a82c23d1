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
    assert!(read(&alert("chr")).is_err());
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
        ("<MsgID>2", "<MsgID>-2", "MsgID is -2, expected a decimal number in range"),
        ("<MsgID>2", "<MsgID>+2", "MsgID is +2, expected a decimal number in range"),
        ("<VerDTD>1.2", "<VerDTD>1.1", "VerDTD is 1.1, expected 1.2"),
        ("DM/1.2", "SyncML/1.2", "VerProto is SyncML/1.2, expected DM/1.2"),
        ("<Final/>", "<Final/><Final/>", "SyncBody has more than one Final"),
        ("<Final/>", "<Map/>", "SyncBody cannot hold Map"),
        ("<Final/>", "<Get><CmdID>9</CmdID></Get>", "Get lacks Item"),
        ("<Data>200", "<Data><b/>200", "Data cannot hold b"),
        ("<Cmd>SyncHdr", "<Cmd>Hdr", "Cmd is Hdr, expected the name of a command"),
        ("<Cmd>SyncHdr", "<Cmd>Get", "Status lacks CmdRef"),
    ] {
        let text = SAMPLE.replace(from, to);
        assert_eq!(read(&text).unwrap_err().to_string(), complaint, "{from} {to}");
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
        assert_eq!(read(&text).is_ok(), fits, "{length}");
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
        CommandId(1),
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
