//! DM messages in both forms, the addresses in them, and the content of their alerts and chunks.

use proto::dm::{
    alert::GenericAlert,
    encoding::{Encoding, Limits, MessageError},
    fumo::{OperationResult, UpdateRequest},
    large::Reassembler,
    syncml::{Alert, Challenge, Command, Item, Message, Verb},
    ui::Prompt,
    uri::{MAX_DEPTH, MAX_TOTAL_LENGTH, NodeUri},
};

/// Octets of an object that comes in pieces, at most.
const LARGEST: u64 = 4096;

/// Reads a message in XML; what is written of it reads back, and equal from then on.
pub fn run(octets: &[u8]) {
    if let Ok(text) = str::from_utf8(octets) {
        address(text);
    }
    message(Encoding::Xml, octets);
}

/// Reads a message in WBXML; what is written of it reads back, and equal from then on.
pub fn run_wbxml(octets: &[u8]) {
    message(Encoding::Wbxml, octets);
}

fn message(encoding: Encoding, octets: &[u8]) {
    let limits = Limits::default();
    let Ok(message) = encoding.parse(octets, &limits) else { return };
    assert!(octets.len() <= limits.message_bytes && message.commands.len() <= limits.commands);
    let mut joiner = Reassembler::default();
    message.commands.iter().for_each(|command| meant(command, &mut joiner));
    // Octets that stood for themselves are written as entities, texts of a table at each place.
    let written = encoding.emit(&message);
    let wider = Limits { message_bytes: 16 * limits.message_bytes, ..limits };
    let again = encoding.parse(&written, &wider);
    if encoding == Encoding::Wbxml && matches!(again, Err(MessageError::TooLarge { .. })) {
        return;
    }
    let again = again.unwrap_or_else(|error| {
        panic!("{error}: {}", String::from_utf8_lossy(&written));
    });
    assert_eq!(again.commands.len(), readable(&message));
    // Octets are written as octets, also where a client has called them something else.
    assert_eq!(encoding.parse(&encoding.emit(&again), &wider).as_ref(), Ok(&again));
    of_other_form(encoding, &message, &wider);
}

/// Checks that each form can write the content of the other, as far as it carries it.
fn of_other_form(encoding: Encoding, message: &Message, limits: &Limits) {
    let other = match encoding {
        Encoding::Xml => Encoding::Wbxml,
        Encoding::Wbxml => Encoding::Xml,
    };
    let written = other.emit(message);
    let Ok(there) = other.parse(&written, limits) else { return };
    assert_eq!(there.commands.len(), readable(message));
}

/// Returns the count of commands that can be written.
fn readable(message: &Message) -> usize {
    message.commands.iter().filter(|command| !matches!(command, Command::Rejected(_))).count()
}

/// Parses the content of a command for either side.
fn meant(command: &Command, joiner: &mut Reassembler) {
    match command {
        Command::Alert(alert) => spoken(alert),
        Command::Get(group) | Command::Delete(group) | Command::Copy(group) => {
            group.items.iter().for_each(|item| address(item.target_uri().unwrap_or_default()));
        }
        Command::Add(group) => group.items.iter().for_each(|item| piece(Verb::Add, item, joiner)),
        Command::Replace(group) => {
            group.items.iter().for_each(|item| piece(Verb::Replace, item, joiner));
        }
        Command::Exec(exec) => piece(Verb::Exec, &exec.item, joiner),
        Command::Sequence(group) | Command::Atomic(group) => {
            group.commands.iter().for_each(|command| meant(command, joiner));
        }
        Command::Results(results) => {
            results.items.iter().for_each(|item| piece(Verb::Results, item, joiner));
        }
        Command::Rejected(_) => {}
        Command::Status(status) => {
            let _nonce = status.challenge.as_ref().map(Challenge::nonce);
        }
    }
}

fn piece(verb: Verb, item: &Item, joiner: &mut Reassembler) {
    address(item.target_uri().unwrap_or_default());
    let _lost = joiner.interrupted_by(verb, Some(item));
    if let Ok(whole) = joiner.push(verb, item, LARGEST) {
        let _bytes = whole.to_bytes();
    }
}

fn spoken(alert: &Alert) {
    if let Ok(prompt) = Prompt::from_alert(alert) {
        assert_eq!(Prompt::from_alert(&prompt.to_alert(alert.id)), Ok(prompt));
    }
    for generic in alert.items.iter().filter_map(|item| GenericAlert::from_item(item).ok()) {
        let _request = UpdateRequest::from_alert(&generic);
        if let Ok(Some(result)) = OperationResult::from_alert(&generic, alert.correlator.as_ref()) {
            assert_eq!(result.to_alert(alert.id).correlator, alert.correlator);
        }
    }
}

fn address(text: &str) {
    let Ok(uri) = text.parse::<NodeUri>() else { return };
    assert!(uri.segments().len() <= MAX_DEPTH && text.len() <= MAX_TOTAL_LENGTH);
    // The `./` in front may have been left out.
    let written = uri.to_string();
    assert!(written.len() > MAX_TOTAL_LENGTH || written.parse() == Ok(uri));
}

/// Messages with every command that the two sides use, as XML.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let head = "<?xml version='1.0'?><SyncML xmlns='SYNCML:SYNCML1.2'><SyncHdr><VerDTD>1.2</VerDTD>\
        <VerProto>DM/1.2</VerProto><SessionID>1</SessionID><MsgID>1</MsgID><Target><LocURI>http://a/dm\
        </LocURI></Target><Source><LocURI>IMEI:1</LocURI><LocName>u</LocName></Source><Cred><Meta>\
        <Format xmlns='syncml:metinf'>b64</Format><Type xmlns='syncml:metinf'>syncml:auth-md5</Type>\
        </Meta><Data>ZA==</Data></Cred><Meta><MaxMsgSize xmlns='syncml:metinf'>5000</MaxMsgSize></Meta>\
        </SyncHdr><SyncBody>";
    let tail = "<Final/></SyncBody></SyncML>";
    let item = "<Item><Target><LocURI>./A/B</LocURI></Target><Meta><Format xmlns='syncml:metinf'>chr\
        </Format></Meta><Data>x &lt;![CDATA[y]]&gt;</Data></Item>";
    let bodies = [
        "<Alert><CmdID>1</CmdID><Data>1201</Data></Alert>".to_owned(),
        format!("<Replace><CmdID>1</CmdID>{item}{item}</Replace>"),
        format!("<Add><CmdID>1</CmdID>{item}</Add><Exec><CmdID>2</CmdID>{item}</Exec>"),
        "<Get><CmdID>3</CmdID><Item><Target><LocURI>./DevInfo?list=Struct</LocURI></Target></Item></Get>"
            .to_owned(),
        "<Status><CmdID>1</CmdID><MsgRef>1</MsgRef><CmdRef>0</CmdRef><Cmd>SyncHdr</Cmd><Chal><Meta>\
         <Format xmlns='syncml:metinf'>b64</Format><Type xmlns='syncml:metinf'>syncml:auth-md5</Type>\
         <NextNonce xmlns='syncml:metinf'>ZA==</NextNonce></Meta></Chal><Data>401</Data></Status>"
            .to_owned(),
        format!("<Sequence><CmdID>4</CmdID><Atomic><CmdID>5</CmdID><Delete><CmdID>6</CmdID>{item}</Delete>\
             </Atomic></Sequence><Results><CmdID>7</CmdID><MsgRef>1</MsgRef><CmdRef>3</CmdRef>{item}</Results>"),
    ];
    bodies.map(|body| format!("{head}{body}{tail}").into_bytes()).into()
}

/// The same as WBXML, with the header and the string table that some clients write.
#[must_use]
pub fn wbxml_seeds() -> Vec<Vec<u8>> {
    let read = |seed: Vec<u8>| Encoding::Xml.parse(&seed, &Limits::default()).expect("a message");
    let mut written: Vec<_> =
        seeds().into_iter().map(|seed| Encoding::Wbxml.emit(&read(seed))).collect();
    let named: Vec<Vec<u8>> = written
        .iter()
        .filter_map(|octets| {
            // Version, public id 0x1201, UTF-8, no table.
            let body = octets.strip_prefix(&[2, 0xa4, 1, 0x6a, 0])?;
            let head = [&[2, 0, 0, 0x6a, 0x1d], b"-//SYNCML//DTD SyncML 1.2//EN".as_slice()];
            Some([&head.concat(), body].concat())
        })
        .collect();
    written.extend(named);
    written
}
