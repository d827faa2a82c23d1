//! Every message through `wbxml2xml`, `xml2wbxml` (libwbxml2-utils) and `tshark`: they must read
//! the same out of ours, and we out of theirs. Without the tools this is a visible skip.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command as Program,
};

use proto::dm::{
    auth::AuthKind,
    bootstrap::{
        prov,
        w7::{Account, Address, Credentials},
    },
    code::{AlertCode, Format, StatusCode},
    encoding::{Encoding, Limits},
    syncml::{
        Alert, Challenge, Command, CommandId, Credential, Data, Exec, Group, Header, Item,
        Location, Manage, Message, MessageId, Meta, Results, Status, Verb,
    },
    tnds::{MgmtTree, Node, NodeKind, Properties},
};
use proto::ids::Correlator;

use crate::{components, transcripts};

fn has(tool: &str) -> bool {
    let found = Program::new("sh").args(["-c", &format!("command -v {tool}")]).output();
    let found = found.is_ok_and(|output| output.status.success());
    if !found {
        println!("skipped: {tool} is not installed");
    }
    found
}

/// All messages of the transcripts, and one with everything that a message can have.
async fn messages() -> Vec<Message> {
    let mut recorded = Vec::new();
    for encoding in [Encoding::Xml, Encoding::Wbxml] {
        recorded.extend(transcripts::armed_and_reported(encoding).await.messages);
        recorded.extend(transcripts::stale_nonce(encoding).await.messages);
        recorded.extend(transcripts::lost_reply(encoding).await.messages);
        for auth in AuthKind::ALL.into_iter().filter(|auth| auth.has_password()) {
            recorded.extend(transcripts::stale_server_nonce(encoding, auth).await.messages);
        }
        recorded.extend(transcripts::wrong_password(encoding).await.messages);
        recorded.extend(transcripts::wrong_server_password(encoding).await.messages);
        recorded.extend(transcripts::device_request(encoding).await.messages);
        recorded.extend(transcripts::user_request(encoding).await.messages);
        recorded.extend(transcripts::large_object(encoding).await.messages);
        recorded.extend(transcripts::scenario_1(encoding).await.messages);
        recorded.extend(transcripts::scenario_2(encoding).await.messages);
        recorded.extend(transcripts::user_says_no(encoding).await.messages);
        recorded.extend(transcripts::staged(encoding).await.messages);
        recorded.extend(transcripts::device_aborts(encoding).await.messages);
        recorded.extend(transcripts::scenario_1_goes_on(encoding).await.messages);
        recorded.extend(transcripts::server_aborts(encoding).await.messages);
        recorded.extend(components::lived_through(encoding).await.messages);
    }
    let read =
        |(encoding, octets): (Encoding, Vec<u8>)| encoding.parse(&octets, &Limits::default());
    let mut messages: Vec<_> = recorded.into_iter().map(|it| read(it).unwrap()).collect();
    messages.push(everything());
    messages
}

/// Returns a message as XML carries it: octets are base64 there.
fn in_text(message: &Message) -> Message {
    Encoding::Xml.parse(&Encoding::Xml.emit(message), &Limits::default()).unwrap()
}

#[tokio::test]
async fn libwbxml_reads_our_messages_and_we_read_theirs() {
    if !has("wbxml2xml") || !has("xml2wbxml") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let messages = messages().await;
    for message in messages.iter().map(in_text) {
        let tokens = Encoding::Wbxml.emit(&message);
        let text = convert(folder.path(), "wbxml2xml", &["-k", "-m", "0"], &tokens);
        let read = Encoding::Xml.parse(&without_doctype(&text), &Limits::default());
        assert_eq!(read.as_ref(), Ok(&message), "{}", String::from_utf8_lossy(&text));

        let text = with_doctype(&Encoding::Xml.emit(&message));
        for arguments in [&["-k"][..], &["-k", "-n"], &["-k", "-n", "-v", "1.1"]] {
            let tokens = convert(folder.path(), "xml2wbxml", arguments, &text);
            let read = Encoding::Wbxml.parse(&tokens, &Limits::default());
            assert_eq!(read.as_ref(), Ok(&message), "{arguments:?} {tokens:x?}");
        }
    }
    println!("{} messages", messages.len());
}

#[tokio::test]
async fn tshark_reads_the_same_elements_out_of_our_messages() {
    if !has("tshark") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let messages = messages().await;
    let bodies: Vec<_> = messages.iter().map(|it| Encoding::Wbxml.emit(it)).collect();
    let path = folder.path().join("dm.pcap");
    fs::write(&path, capture(&bodies)).unwrap();
    let output = Program::new("tshark").arg("-r").arg(&path).args(["-T", "pdml"]).output().unwrap();
    let pdml = String::from_utf8(output.stdout).unwrap();
    let dissected: Vec<_> = pdml.split("<proto name=\"wbxml\"").skip(1).map(rebuilt).collect();
    assert_eq!(dissected.len(), messages.len(), "{}", String::from_utf8_lossy(&output.stderr));
    for (tokens, message) in dissected.iter().zip(&messages) {
        assert_eq!(Encoding::Wbxml.parse(tokens, &Limits::default()).as_ref(), Ok(message));
    }
}

#[test]
fn libwbxml_reads_our_trees_and_accounts_and_we_read_theirs() {
    if !has("wbxml2xml") || !has("xml2wbxml") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { depth: 32, ..Limits::default() };
    let tree = tree();
    let text = convert(folder.path(), "wbxml2xml", &["-k", "-m", "0"], &tree.emit(Encoding::Wbxml));
    let read = MgmtTree::parse(&without_doctype(&text), Encoding::Xml, &limits);
    assert_eq!(read.as_ref(), Ok(&tree), "{}", String::from_utf8_lossy(&text));
    let doctype = "<!DOCTYPE MgmtTree PUBLIC \"-//OMA//DTD-DM-DDF 1.2//EN\" \
        \"http://www.openmobilealliance.org/tech/DTD/dm_ddf-v1_2.dtd\">";
    let text = with_doctype_of(doctype, &tree.emit(Encoding::Xml));
    let tokens = convert(folder.path(), "xml2wbxml", &["-k", "-n"], &text);
    assert_eq!(MgmtTree::parse(&tokens, Encoding::Wbxml, &limits), Ok(tree));

    let document = vec![account().to_characteristic()];
    let text = convert(folder.path(), "wbxml2xml", &["-m", "0"], &prov::emit(&document));
    for arguments in [&["-n"][..], &[]] {
        let tokens = convert(folder.path(), "xml2wbxml", arguments, &text);
        let read = prov::parse(&tokens);
        assert_eq!(read.as_ref(), Ok(&document), "{}", String::from_utf8_lossy(&text));
    }
}

fn tree() -> MgmtTree {
    let leaf = Node {
        name: "FwV".to_owned(),
        properties: Some(Properties {
            acl: Some("Get=*".to_owned()),
            format: Some(Format::Chr),
            kind: Some(NodeKind::Mime("text/plain".to_owned())),
            ..Properties::default()
        }),
        value: Some(Data::from("1.0 & later")),
        ..Node::default()
    };
    let root = Node {
        name: "Main".to_owned(),
        path: Some("./FwUpdate".to_owned()),
        properties: Some(Properties {
            format: Some(Format::Node),
            kind: Some(NodeKind::Object("urn:oma:mo:oma-fumo:1.0".to_owned())),
            ..Properties::default()
        }),
        children: vec![leaf],
        ..Node::default()
    };
    MgmtTree { nodes: vec![root], ..MgmtTree::default() }
}

fn account() -> Account {
    Account {
        server_id: "fumocast".to_owned(),
        name: Some("Lab".to_owned()),
        begin: true,
        accesses: vec!["INTERNET".to_owned()],
        addresses: vec![Address {
            address: "https://dm.example/dm?a=1".to_owned(),
            kind: Some("IPV4".to_owned()),
            ports: vec!["443".to_owned()],
        }],
        credentials: vec![Credentials {
            level: Some("APPSRV".to_owned()),
            kind: Some("DIGEST".to_owned()),
            name: Some("LAB-0001".to_owned()),
            secret: Some("secret".to_owned()),
            data: Some("bm9uY2U=".to_owned()),
        }],
        ..Account::default()
    }
}

fn convert(folder: &Path, tool: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let (from, to): (PathBuf, PathBuf) = (folder.join("from"), folder.join("to"));
    fs::write(&from, input).unwrap();
    let output = Program::new(tool).args(arguments).arg("-o").arg(&to).arg(&from).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{tool}: {said} for {}", String::from_utf8_lossy(input));
    fs::read(&to).unwrap()
}

const DOCTYPE: &str = "<!DOCTYPE SyncML PUBLIC \"-//SYNCML//DTD SyncML 1.2//EN\" \
    \"http://www.openmobilealliance.org/tech/DTD/OMA-TS-SyncML_RepPro_DTD-V1_2.dtd\">";

fn with_doctype(text: &[u8]) -> Vec<u8> {
    with_doctype_of(DOCTYPE, text)
}

fn with_doctype_of(doctype: &str, text: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(text).unwrap();
    text.replacen("?>", &format!("?>{doctype}"), 1).into_bytes()
}

fn without_doctype(text: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(text).unwrap();
    let start = text.find("<!DOCTYPE").unwrap();
    let end = start + text[start..].find('>').unwrap() + 1;
    [&text[..start], &text[end..]].concat().into_bytes()
}

/// Builds tokens again from the names and values that tshark shows.
fn rebuilt(pdml: &str) -> Vec<u8> {
    let mut text = String::new();
    let mut tokens: Vec<u8> = vec![2, 0xa4, 1, 0x6a, 0];
    for line in pdml.lines().take_while(|line| !line.contains("</proto>")) {
        let attribute = |name: &str| {
            let from = line.find(&format!(" {name}=\""))? + name.len() + 3;
            Some(&line[from..from + line[from..].find('"')?])
        };
        let Some(name) = attribute("name").filter(|name| name.starts_with("wbxml.")) else {
            continue;
        };
        if !["switch_page", "known_tag", "end_known_tag", "str_i", "opaque_data"]
            .contains(&&name["wbxml.".len()..])
        {
            continue;
        }
        let value = attribute("value").unwrap();
        let octets = (0..value.len() / 2)
            .map(|place| u8::from_str_radix(&value[2 * place..2 * place + 2], 16).unwrap());
        tokens.extend(octets);
        // What it takes the tag for must be what we mean by it.
        if name == "wbxml.known_tag" {
            writeln!(text, "{}", attribute("show").unwrap()).unwrap();
        }
    }
    let names = names_of(&tokens);
    assert_eq!(text, names);
    tokens
}

/// Returns the names of the elements in their order, by way of the XML form.
fn names_of(tokens: &[u8]) -> String {
    let message = Encoding::Wbxml.parse(tokens, &Limits::default()).unwrap();
    let text = String::from_utf8(Encoding::Xml.emit(&message)).unwrap();
    let starts = text.split('<').skip(1).filter(|it| !it.starts_with(['/', '?']));
    let name = |it: &str| it.split([' ', '>', '/']).next().unwrap().to_owned() + "\n";
    starts.map(name).collect()
}

/// Returns a capture in which each body is posted over a connection of its own.
fn capture(bodies: &[Vec<u8>]) -> Vec<u8> {
    const RAW_IP: u32 = 101;
    let mut out = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0002_0004, 0, 0, 0x0004_0000, RAW_IP] {
        out.extend(word.to_be_bytes());
    }
    for (number, body) in (20_000_u16..).zip(bodies) {
        let head = format!(
            "POST /dm HTTP/1.1\r\nHost: x\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n",
            Encoding::Wbxml.media_type(),
            body.len()
        );
        let payload = [head.as_bytes(), body].concat();
        let length = u16::try_from(40 + payload.len()).unwrap();
        let mut packet = vec![0x45, 0];
        packet.extend(length.to_be_bytes());
        packet.extend([0, 0, 0, 0, 64, 6, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1]);
        packet.extend(number.to_be_bytes());
        packet.extend([0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
        packet.extend(payload);
        let stored = u32::from(length);
        for word in [u32::from(number), 0, stored, stored] {
            out.extend(word.to_be_bytes());
        }
        out.extend(packet);
    }
    out
}

/// A message with every element of the model.
fn everything() -> Message {
    let meta = Meta {
        format: Some(Format::Chr),
        kind: Some("text/plain".to_owned()),
        mark: Some("warning".to_owned()),
        size: Some(5),
        next_nonce: Some("Tm9uY2U=".to_owned()),
        max_message_size: Some(65_536),
        max_object_size: Some(1 << 40),
    };
    let item = Item {
        target: Some(Location::named("./a", "name")),
        source: Some(Location::new("./b")),
        meta: Some(meta.clone()),
        data: Some(Data::from("a < b & \"c\" ä€")),
        more_data: true,
    };
    let items = vec![item.clone(), Item::octets("./c", [0, 1, 0xfe, 0xff])];
    let correlator = Some(Correlator("c-1".to_owned()));
    let common = Some(Meta::format(Format::Chr));
    let manage =
        |id| Manage { meta: common.clone(), ..Manage::new(CommandId::new(id), items.clone()) };
    let (first, message_id) = (CommandId::new(1), MessageId::new(1));
    let status = Status {
        target_refs: vec!["./a".to_owned(), "./b".to_owned()],
        source_refs: vec!["./c".to_owned()],
        challenge: Some(Challenge::new(AuthKind::Md5, b"Nonce")),
        items: vec![item.clone()],
        ..Status::new(first, message_id, CommandId::new(2), Verb::Get, StatusCode::OK)
    };
    let results = Results {
        id: CommandId::new(2),
        message_ref: Some(message_id),
        command_ref: CommandId::new(3),
        meta: Some(meta.clone()),
        items: vec![item.clone()],
    };
    let alert = Alert {
        id: CommandId::new(3),
        code: AlertCode::GENERIC,
        correlator: correlator.clone(),
        items: vec![item.clone()],
    };
    let id = CommandId::new(4);
    let exec = Exec { id, correlator, meta: Some(meta.clone()), item: item.clone() };
    let commands = vec![Command::Add(manage(10)), Command::Copy(manage(11))];
    let atomic = Group { id: CommandId::new(9), meta: Some(meta.clone()), commands };
    let commands = vec![Command::Get(manage(8)), Command::Atomic(atomic)];
    let sequence = Group { id: CommandId::new(7), meta: None, commands };
    Message {
        header: Header {
            session_id: "BEEF".to_owned(),
            message_id,
            target: Location::new("http://127.0.0.1/dm?a=b&c=d"),
            source: Location::named("IMEI:493005100592800", "Bruce2"),
            respond_to: Some("http://127.0.0.1/dm?s=1".to_owned()),
            credential: Some(Credential { meta: meta.clone(), data: "proof".to_owned() }),
            meta: Some(meta),
        },
        commands: vec![
            Command::Status(status),
            Command::Results(results),
            Command::Alert(alert),
            Command::Exec(Box::new(exec)),
            Command::Replace(manage(5)),
            Command::Delete(manage(6)),
            Command::Sequence(sequence),
        ],
        is_final: true,
    }
}
