//! Any message survives both forms, and no octets do harm.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use proptest::prelude::*;

mod odd_parts;

use super::*;
use crate::{
    dm::{
        code::{AlertCode, Format, StatusCode},
        syncml::*,
    },
    ids::Correlator,
};

fn words() -> impl Strategy<Value = String> {
    "[!-~äß€][ -~äß€]{0,10}[!-~äß€]"
}

/// Identifiers of any peer, up to their limit.
fn identifier() -> impl Strategy<Value = Identifier> {
    prop_oneof![
        (1..=u32::MAX).prop_map(Identifier::Number),
        "[a-z][!-~]{0,31}".prop_map(|text| Identifier::parse(&text).expect("it fits")),
        "[ä€][!-~]{0,28}ä".prop_filter_map("too long", |text| Identifier::parse(&text)),
    ]
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
        proptest::option::of(data()),
        any::<bool>(),
    )
        .prop_map(|(target, source, mut meta, data, more_data)| {
            if let Some(Data::Octets(_)) = data {
                meta.get_or_insert_default().format = Some(Format::Bin);
            }
            Item { target, source, meta, data, more_data }
        })
}

fn data() -> impl Strategy<Value = Data> {
    prop_oneof![
        "[ -~\t\n\räß€]{0,20}".prop_map(Data::Text),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Data::Octets),
    ]
}

fn manage() -> impl Strategy<Value = Manage> {
    let items = proptest::collection::vec(item(), 1..3);
    (identifier(), proptest::option::of(meta()), items).prop_map(|(id, meta, items)| Manage {
        id: id.into(),
        meta,
        items,
    })
}

fn status() -> impl Strategy<Value = Status> {
    let refs = || proptest::collection::vec(words(), 0..2);
    let chal = proptest::option::of(meta().prop_map(|meta| Challenge { meta }));
    let items = proptest::collection::vec(item(), 0..2);
    let ids = [identifier(), identifier(), identifier()];
    (ids, any::<u16>(), refs(), refs(), chal, items).prop_map(
        |([id, message, command], code, target_refs, source_refs, challenge, items)| Status {
            id: id.into(),
            message_ref: message.into(),
            command_ref: command.into(),
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
    (identifier(), any::<u16>(), proptest::option::of(words()), items).prop_map(
        |(id, code, correlator, items)| Alert {
            id: id.into(),
            code: AlertCode(code),
            correlator: correlator.map(Correlator),
            items,
        },
    )
}

fn results() -> impl Strategy<Value = Results> {
    (manage(), identifier(), proptest::option::of(identifier())).prop_map(
        |(manage, command, message)| Results {
            id: manage.id,
            message_ref: message.map(MessageId::from),
            command_ref: command.into(),
            meta: manage.meta,
            items: manage.items,
        },
    )
}

fn exec() -> impl Strategy<Value = Exec> {
    (identifier(), proptest::option::of(words()), proptest::option::of(meta()), item()).prop_map(
        |(id, correlator, meta, item)| Exec {
            id: id.into(),
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
            (identifier(), proptest::option::of(meta()), proptest::collection::vec(inner, 0..3))
                .prop_map(|(id, meta, commands)| Group { id: id.into(), meta, commands });
        (group, any::<bool>()).prop_map(|(group, atomic)| {
            if atomic { Command::Atomic(group) } else { Command::Sequence(group) }
        })
    })
}

fn header() -> impl Strategy<Value = Header> {
    let credential = (meta(), words()).prop_map(|(meta, data)| Credential { meta, data });
    (
        words(),
        identifier(),
        location(),
        location(),
        proptest::option::of(words()),
        proptest::option::of(credential),
        proptest::option::of(meta()),
    )
        .prop_map(|(session_id, id, target, source, respond_to, credential, meta)| Header {
            session_id,
            message_id: id.into(),
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

/// Returns the message as XML can say it: octets are base64 there.
fn as_text(message: &Message) -> Message {
    let mut message = message.clone();
    message.commands.iter_mut().for_each(command_as_text);
    message
}

fn command_as_text(command: &mut Command) {
    match command {
        Command::Status(status) => status.items.iter_mut().for_each(item_as_text),
        Command::Results(results) => results.items.iter_mut().for_each(item_as_text),
        Command::Alert(alert) => alert.items.iter_mut().for_each(item_as_text),
        Command::Exec(exec) => item_as_text(&mut exec.item),
        Command::Get(manage)
        | Command::Add(manage)
        | Command::Replace(manage)
        | Command::Delete(manage)
        | Command::Copy(manage) => manage.items.iter_mut().for_each(item_as_text),
        Command::Sequence(group) | Command::Atomic(group) => {
            group.commands.iter_mut().for_each(command_as_text);
        }
        Command::Rejected(_) => {}
    }
}

fn item_as_text(item: &mut Item) {
    if let Some(Data::Octets(octets)) = &item.data {
        let octets = octets.clone();
        item.data = Some(Data::Text(BASE64_STANDARD.encode(&octets)));
        item.meta.get_or_insert_default().format = Some(Format::B64);
        assert_eq!(item.to_bytes(), Ok(octets));
    }
}

const BOTH: [Encoding; 2] = [Encoding::Xml, Encoding::Wbxml];

/// Reads the header of a message whose end is another, with octets behind it that are no message.
fn check_header_alone(encoding: Encoding, message: &Message, header: &Header, more: usize) {
    let mut written = encoding.emit(message);
    written.truncate(written.len() - 1);
    written.extend(std::iter::repeat_n(b'<', more));
    assert!(encoding.parse(&written, &Limits::default()).is_err());
    let read = encoding.parse_header(&written, &Limits::default()).unwrap();
    assert_eq!(read.header, *header);
    assert!(read.commands.is_empty() && read.is_final);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    // test: oma-dm 2 (binary values in both forms)
    #[test]
    fn what_is_written_reads_back_the_same_in_both_forms(message in message()) {
        for (encoding, expected) in [
            (Encoding::Wbxml, message.clone()),
            (Encoding::Xml, as_text(&message)),
        ] {
            let written = encoding.emit(&message);
            prop_assert_eq!(encoding.length(&message), written.len());
            let read = encoding.parse(&written, &Limits::default());
            prop_assert_eq!(read.as_ref(), Ok(&expected));
            prop_assert_eq!(encoding.emit(&read.unwrap()), written);
        }
    }

    // test: security 7.2 (parse only if the MAC is right)
    #[test]
    fn of_a_header_alone_nothing_after_it_is_read(message in message(), more in 1..40_usize) {
        check_header_alone(Encoding::Wbxml, &message, &message.header, more);
        check_header_alone(Encoding::Xml, &message, &as_text(&message).header, more);
    }

    #[test]
    fn what_was_read_in_one_form_survives_the_other(message in message()) {
        let text = as_text(&message);
        let tokens = Encoding::Wbxml.emit(&text);
        let read = Encoding::Wbxml.parse(&tokens, &Limits::default()).unwrap();
        prop_assert_eq!(Encoding::Xml.emit(&read), Encoding::Xml.emit(&text));
    }

    #[test]
    fn no_octets_panic(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
        let with_head = [&[2, 0xa4, 1, 0x6a, 0, 0x6d], octets.as_slice()].concat();
        for encoding in BOTH {
            drop(encoding.parse(&octets, &Limits::default()));
            drop(encoding.parse(&with_head, &Limits::default()));
        }
    }
}

proptest! {
    // Each case reads every prefix.
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn every_prefix_is_refused_and_no_change_panics(
        message in message(),
        change in any::<(prop::sample::Index, u8)>(),
    ) {
        for encoding in BOTH {
            let mut octets = encoding.emit(&message);
            for length in 0..octets.len() {
                let cut = octets.get(..length).unwrap();
                prop_assert!(encoding.parse(cut, &Limits::default()).is_err(), "{}", length);
            }
            *change.0.get_mut(&mut octets) = change.1;
            drop(encoding.parse(&octets, &Limits::default()));
        }
    }
}

// test: oma-dm 6 (media types by their suffix)
#[test]
fn media_types_are_taken_by_their_suffix() {
    for (value, taken) in [
        ("application/vnd.syncml.dm+xml", Some(Encoding::Xml)),
        ("application/vnd.syncml+xml; charset=UTF-8", Some(Encoding::Xml)),
        ("APPLICATION/VND.SYNCML.DM+XML", Some(Encoding::Xml)),
        ("application/vnd.syncml.dm+wbxml", Some(Encoding::Wbxml)),
        (" application/vnd.syncml+wbxml ;x=y", Some(Encoding::Wbxml)),
        ("application/xml", None),
        ("application/vnd.syncml.dm+json", None),
        ("text/xml", None),
        ("image/svg+xml", None),
        ("", None),
    ] {
        assert_eq!(Encoding::from_media_type(value), taken, "{value}");
    }
    for (octets, found) in
        [(&b"\x02\xa4"[..], Encoding::Wbxml), (b"<?xml", Encoding::Xml), (b"", Encoding::Xml)]
    {
        assert_eq!(Encoding::recognise(octets), found);
    }
    for encoding in BOTH {
        assert_eq!(Encoding::from_media_type(encoding.media_type()), Some(encoding));
        assert_eq!(encoding.to_string().parse(), Ok(encoding));
    }
}

#[test]
fn type_comes_before_format_for_clients_that_expect_it_and_both_orders_are_read() {
    let mut item = Item::octets("./x", vec![1, 2]);
    item.meta.get_or_insert_default().kind = Some("text/plain".to_owned());
    let header = Header {
        session_id: "1".to_owned(),
        message_id: MessageId::new(1),
        target: Location::new("d"),
        source: Location::new("s"),
        respond_to: None,
        credential: None,
        meta: None,
    };
    let commands = vec![Command::Replace(Manage::new(CommandId::new(1), vec![item]))];
    let message = Message { header, commands, is_final: true };
    for encoding in [Encoding::Xml, Encoding::Wbxml] {
        let usual = encoding.emit(&message);
        let other = encoding.emit_ordered(&message, MetaOrder::TypeFirst);
        assert_ne!(usual, other);
        assert_eq!(usual.len(), other.len());
        let limits = Limits::default();
        assert_eq!(encoding.parse(&other, &limits), encoding.parse(&usual, &limits));
    }
    let text = Encoding::Xml.emit_ordered(&message, MetaOrder::TypeFirst);
    let text = String::from_utf8(text).unwrap();
    assert!(text.find("<Type").unwrap() < text.find("<Format").unwrap(), "{text}");
}
