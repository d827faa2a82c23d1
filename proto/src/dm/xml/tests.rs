//! Round trips, prefixes, limits and hostile forms.

use proptest::prelude::*;

use super::*;
use crate::{
    dm::{
        code::{AlertCode, Format, StatusCode},
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

fn read(text: &str) -> Result<Message, XmlError> {
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
    assert_eq!(alert.items[0].data.as_deref(), Some("200"));
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
        ("<SyncML/>", "the message is not SyncML: the root element has no namespace"),
        ("<SyncML xmlns='urn:x'/>", "the message is not SyncML: its namespace is urn:x"),
        (
            "<p:SyncML xmlns='SYNCML:SYNCML1.2'/>",
            "the message is not SyncML: the root element has no namespace",
        ),
    ] {
        assert_eq!(read(text).unwrap_err().to_string(), complaint, "{text}");
    }
    assert!(matches!(read("hello"), Err(XmlError::Malformed { .. })));
    assert!(matches!(read(""), Err(XmlError::Malformed { .. })));
    assert_eq!(parse(&[0xff], &Limits::default()), Err(XmlError::NotUtf8));
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
    assert_eq!(read(&doctype), Err(XmlError::DocumentType));
    assert_eq!(read(&SAMPLE.replace("&amp;", "&a;")), Err(XmlError::Entity("a".to_owned())));
    for null in ["&#0;", "&#x1;", "&#xFFFFFFFF;", "&", "\u{1}"] {
        assert!(read(&SAMPLE.replace("&amp;", null)).is_err(), "{null:?}");
    }
    let latin = SAMPLE.replace("version='1.0'", "version='1.0' encoding='ISO-8859-1'");
    assert_eq!(read(&latin), Err(XmlError::NotUtf8));
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
        ("<Final/>", "junk", "SyncBody cannot hold the text junk"),
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
        Err(XmlError::TooLarge { found: SAMPLE.len(), limit: SAMPLE.len() - 1 })
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
    assert_eq!(read(&nested(17)), Err(XmlError::TooDeep { limit: 16 }));
    let bomb = with_body(&"<a>".repeat(20_000));
    assert_eq!(read(&bomb), Err(XmlError::TooDeep { limit: 16 }));
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
    let refused = Err(XmlError::TooManyCommands { limit: 256 });
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
    assert_eq!(manage.items[0].data.as_deref(), Some("x\u{fffd}y\r\n]]>&lt;"));
}

fn words() -> impl Strategy<Value = String> {
    "[!-~äß€][ -~äß€]{0,10}[!-~äß€]"
}

fn location() -> impl Strategy<Value = Location> {
    (words(), proptest::option::of(words())).prop_map(|(uri, name)| Location { uri, name })
}

fn meta() -> impl Strategy<Value = Meta> {
    let size = || proptest::option::of(any::<u64>());
    let word = || proptest::option::of(words());
    (word(), word(), word(), size(), word(), size(), size()).prop_map(
        |(format, kind, mark, size, next_nonce, max_message_size, max_object_size)| Meta {
            format: format.map(|word| Format::from_word(&word)),
            kind,
            mark,
            size,
            next_nonce,
            max_message_size,
            max_object_size,
        },
    )
}

fn item() -> impl Strategy<Value = Item> {
    (
        proptest::option::of(location()),
        proptest::option::of(location()),
        proptest::option::of(meta()),
        proptest::option::of("[ -~\t\n\räß€]{0,20}"),
        any::<bool>(),
    )
        .prop_map(|(target, source, meta, data, more_data)| Item {
            target,
            source,
            meta,
            data,
            more_data,
        })
}

fn manage() -> impl Strategy<Value = Manage> {
    let items = proptest::collection::vec(item(), 1..3);
    (any::<u32>(), proptest::option::of(meta()), items).prop_map(|(id, meta, items)| Manage {
        id: CommandId(id),
        meta,
        items,
    })
}

fn status() -> impl Strategy<Value = Status> {
    let refs = || proptest::collection::vec(words(), 0..2);
    let chal = proptest::option::of(meta().prop_map(|meta| Challenge { meta }));
    let items = proptest::collection::vec(item(), 0..2);
    (any::<[u32; 3]>(), any::<u16>(), refs(), refs(), chal, items).prop_map(
        |([id, message, command], code, target_refs, source_refs, challenge, items)| Status {
            id: CommandId(id),
            message_ref: MessageId(message),
            command_ref: CommandId(command),
            verb: Verb::Replace,
            target_refs,
            source_refs,
            challenge,
            code: StatusCode(code),
            items,
        },
    )
}

fn alert() -> impl Strategy<Value = Alert> {
    let items = proptest::collection::vec(item(), 0..2);
    (any::<u32>(), any::<u16>(), proptest::option::of(words()), items).prop_map(
        |(id, code, correlator, items)| Alert {
            id: CommandId(id),
            code: AlertCode(code),
            correlator: correlator.map(Correlator),
            items,
        },
    )
}

fn results() -> impl Strategy<Value = Results> {
    (manage(), any::<u32>(), proptest::option::of(any::<u32>())).prop_map(
        |(manage, command, message)| Results {
            id: manage.id,
            message_ref: message.map(MessageId),
            command_ref: CommandId(command),
            meta: manage.meta,
            items: manage.items,
        },
    )
}

fn exec() -> impl Strategy<Value = Exec> {
    (any::<u32>(), proptest::option::of(words()), proptest::option::of(meta()), item()).prop_map(
        |(id, correlator, meta, item)| Exec {
            id: CommandId(id),
            correlator: correlator.map(Correlator),
            meta,
            item,
        },
    )
}

fn command() -> impl Strategy<Value = Command> {
    let simple = prop_oneof![
        status().prop_map(Command::Status),
        results().prop_map(Command::Results),
        alert().prop_map(Command::Alert),
        exec().prop_map(|exec| Command::Exec(Box::new(exec))),
        manage().prop_map(Command::Get),
        manage().prop_map(Command::Add),
        manage().prop_map(Command::Replace),
        manage().prop_map(Command::Delete),
        manage().prop_map(Command::Copy),
    ];
    simple.prop_recursive(2, 6, 2, |inner| {
        let group =
            (any::<u32>(), proptest::option::of(meta()), proptest::collection::vec(inner, 0..3))
                .prop_map(|(id, meta, commands)| Group { id: CommandId(id), meta, commands });
        (group, any::<bool>()).prop_map(|(group, atomic)| {
            if atomic { Command::Atomic(group) } else { Command::Sequence(group) }
        })
    })
}

fn header() -> impl Strategy<Value = Header> {
    let credential = (meta(), words()).prop_map(|(meta, data)| Credential { meta, data });
    (
        words(),
        any::<u32>(),
        location(),
        location(),
        proptest::option::of(words()),
        proptest::option::of(credential),
        proptest::option::of(meta()),
    )
        .prop_map(|(session_id, id, target, source, respond_to, credential, meta)| Header {
            session_id,
            message_id: MessageId(id),
            target,
            source,
            respond_to,
            credential,
            meta,
        })
}

fn message() -> impl Strategy<Value = Message> {
    (header(), proptest::collection::vec(command(), 0..4), any::<bool>())
        .prop_map(|(header, commands, is_final)| Message { header, commands, is_final })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_reads_back_the_same(message in message()) {
        let written = emit(&message);
        let read = parse(&written, &Limits::default());
        prop_assert_eq!(read.as_ref(), Ok(&message));
        prop_assert_eq!(emit(&read.unwrap()), written);
    }

    #[test]
    fn no_change_of_one_octet_panics(place in 0..SAMPLE.len(), octet in any::<u8>()) {
        let mut octets = SAMPLE.as_bytes().to_vec();
        octets[place] = octet;
        drop(parse(&octets, &Limits::default()));
    }
}
