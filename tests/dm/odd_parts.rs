//! Sessions whose messages have odd parts on their way, in both directions: other identifiers, unknown
//! elements and commands, vendors' attributes, document types, Statuses without a number.

use dm_bridge::{api::responses::DeviceDetailBody, app::devices, dm::message::OutboundMessage};
use proto::dm::{
    code::{AlertCode, StatusCode},
    encoding::{Encoding, Limits},
    syncml::{Command, Message, Verb},
};
use receiver::dm::client::{HttpRequest, SessionError, SessionOutcome, Step};

use crate::harness::{Harness, id};

/// Makes a message of either side odd; `words` begins its identifiers. One that only answers gets no
/// unknown commands: their answers would be answered for ever.
fn odd(words: &str, octets: &[u8]) -> Vec<u8> {
    if Encoding::recognise(octets) == Encoding::Wbxml {
        return if only_answers(octets) { octets.to_vec() } else { odd_tokens(octets) };
    }
    let (odd, put) = match only_answers(octets) {
        true => ("<Odd/>", ""),
        false => ("<Odd><CmdID>odd 1</CmdID><Item/></Odd>", "<Put><CmdID>odd 2</CmdID></Put>"),
    };
    let mut text = std::str::from_utf8(octets).unwrap().to_owned();
    text = text.replace("<CmdID>", &format!("<CmdID>{words}"));
    text = text.replace("<MsgID>", &format!("<v:MsgID xmlns:v='urn:v'>9</v:MsgID><MsgID>{words}"));
    // The numbers of Statuses go.
    let mut pieces = text.split("<Status><CmdID>");
    let mut without = pieces.next().unwrap().to_owned();
    for piece in pieces {
        without.push_str("<Status>");
        without.push_str(piece.split_once("</CmdID>").unwrap().1);
    }
    without
        .replacen(
            r#"<?xml version="1.0" encoding="UTF-8"?>"#,
            "<?xml version='1.0' encoding='US-ASCII'?>\n<!DOCTYPE SyncML SYSTEM 'syncml.dtd'>",
            1,
        )
        .replace("<Item>", "<Item v:odd='1'><Odd>x</Odd>")
        .replacen("<SyncBody>", &format!("<SyncBody>{odd}<v:Trace xmlns:v='urn:v'>x</v:Trace>"), 1)
        .replacen("</SyncBody>", &format!("{put}</SyncBody>"), 1)
        .into_bytes()
}

/// Puts an unknown tag with a number, a processing instruction and an extension into the body, and
/// zeros behind the document.
fn odd_tokens(octets: &[u8]) -> Vec<u8> {
    const UNKNOWN: &[u8] =
        b"\x7f\x4b\x03odd 1\0\x01\x00\x09\x45\x03x\0\x01\x00\x00\x01\x43\x05\x03x\0\x01\x80\x05";
    let body = [&[0x01, 0x6b][..], &[0x00, 0x00, 0x6b]];
    let place = |begin: &[u8]| {
        octets.windows(begin.len()).position(|it| it == begin).map(|it| it + begin.len())
    };
    let place = body.into_iter().find_map(place).expect("a body");
    [&octets[..place], UNKNOWN, &octets[place..], b"\0\0"].concat()
}

/// Undoes the words in references, for a peer that counts.
fn plain(words: &str, octets: &[u8]) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(octets) else { return octets.to_vec() };
    text.replace(&format!("Ref>{words}"), "Ref>").into_bytes()
}

fn only_answers(octets: &[u8]) -> bool {
    let message = Encoding::recognise(octets).parse(octets, &Limits::default()).unwrap();
    message.commands.iter().all(|command| command.verb() == Verb::Status)
}

fn statuses(octets: &[u8]) -> Vec<(String, String, u16)> {
    let message = Encoding::recognise(octets).parse(octets, &Limits::default()).unwrap();
    let status = |status: &proto::dm::syncml::Status| {
        (status.command_ref.to_string(), status.verb.to_string(), status.code.0)
    };
    message.statuses().map(status).collect()
}

/// Checks the answers to the unknown commands of [`odd`].
fn check_answers(encoding: Encoding, octets: &[u8]) {
    let found = statuses(octets);
    let expected = match encoding {
        Encoding::Xml => vec![("odd 1", "Odd", 501), ("odd 2", "Put", 406)],
        Encoding::Wbxml => vec![("odd 1", "tag 0x3f of page 0", 501)],
    };
    for (number, name, code) in expected {
        let wanted = (number.to_owned(), name.to_owned(), code);
        assert_eq!(found.iter().filter(|it| **it == wanted).count(), 1, "{wanted:?} in {found:?}");
    }
}

// test: oma-dm 8.2
#[tokio::test]
async fn odd_parts_of_both_sides_cost_no_session() {
    for encoding in [Encoding::Xml, Encoding::Wbxml] {
        let mut talk = Harness::new(encoding).await;
        let mut post = talk.start_session(1);
        let outcome = loop {
            let body = odd("c ", &plain("s ", &post.body));
            let answer = talk.deliver(&HttpRequest { body, ..post.clone() }).await;
            if !only_answers(&post.body) {
                check_answers(encoding, &answer.bytes);
            }
            let asks = !only_answers(&answer.bytes);
            let from_server = odd("s ", &plain("c ", &answer.bytes));
            match talk.receive(&OutboundMessage { bytes: from_server.into(), ..answer }) {
                Step::Send(next) => {
                    assert!(asks, "an answer is not answered");
                    check_answers(encoding, &next.body);
                    post = next;
                }
                Step::WaitForUser => panic!("the test's user answers at once"),
                Step::Done(outcome) => break outcome,
            }
        };
        assert_eq!(outcome, SessionOutcome::Complete);
        assert!(talk.device.armed.is_some());
        let device = devices::show(&talk.store, &id()).await.unwrap();
        let lines = devices::notes(&talk.store, &id()).await.unwrap();
        let shown = DeviceDetailBody::new(&device, &[]).with_notes(lines);
        let notes: Vec<_> = shown.notes.iter().map(|note| note.text.as_str()).collect();
        assert!(notes.iter().any(|note| note.contains("rejected with 501")), "{notes:?}");
    }
}

// test: oma-dm 3 (505 and 513)
#[tokio::test]
async fn a_device_of_another_version_has_its_status() {
    for (from, to, code, items) in
        [("<VerDTD>1.2", "<VerDTD>1.1", 505, 0), ("<VerProto>DM/1.2", "<VerProto>DM/1.3", 513, 1)]
    {
        let mut talk = Harness::new(Encoding::Xml).await;
        let post = talk.start_session(1);
        let text = std::str::from_utf8(&post.body).unwrap().replace(from, to);
        let answer = talk.deliver(&HttpRequest { body: text.into_bytes(), ..post.clone() }).await;
        let message = Encoding::Xml.parse(&answer.bytes, &Limits::default()).unwrap();
        let [Command::Status(status)] = message.commands.as_slice() else { panic!("{message:?}") };
        assert_eq!((status.verb, status.code), (Verb::Header, StatusCode(code)));
        assert_eq!(status.items.len(), items);
        // The right version is served after it.
        assert_eq!(talk.continue_session(post).await, SessionOutcome::Complete);
    }
}

// test: oma-dm 3 (505 and 513)
#[tokio::test]
async fn a_server_of_another_version_has_its_status() {
    for (from, to, code) in
        [("<VerDTD>1.2", "<VerDTD>2.0", 505), ("<VerProto>DM/1.2", "<VerProto>DM/2.0", 513)]
    {
        let mut talk = Harness::new(Encoding::Xml).await;
        let post = talk.start_session(1);
        let answer = talk.deliver(&post).await;
        let text = std::str::from_utf8(&answer.bytes).unwrap().replace(from, to);
        let changed = OutboundMessage { bytes: text.into_bytes().into(), ..answer };
        let Step::Send(last) = talk.receive(&changed) else { panic!("it is answered") };
        let message: Message = last.encoding.parse(&last.body, &Limits::default()).unwrap();
        let [Command::Status(status), Command::Alert(abort)] = message.commands.as_slice() else {
            panic!("{message:?}")
        };
        assert_eq!((status.verb, status.code), (Verb::Header, StatusCode(code)));
        assert_eq!(abort.code, AlertCode::SESSION_ABORT);
        let Step::Done(SessionOutcome::Failed(SessionError::Unreadable(error))) =
            talk.receive(&changed)
        else {
            panic!("it is over")
        };
        assert!(error.to_string().starts_with("Ver"), "{error}");
        assert!(talk.device.armed.is_none());
    }
}
