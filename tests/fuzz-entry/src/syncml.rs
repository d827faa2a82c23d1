//! DM messages as XML, and the addresses in them.

use proto::dm::{
    syncml::Command,
    uri::{MAX_DEPTH, MAX_TOTAL_LENGTH, NodeUri},
    xml::{Limits, emit, parse},
};

/// Reads a message; what is written of it reads back equal.
pub fn run(octets: &[u8]) {
    if let Ok(text) = str::from_utf8(octets) {
        address(text);
    }
    let limits = Limits::default();
    let Ok(message) = parse(octets, &limits) else { return };
    assert!(octets.len() <= limits.message_bytes && message.commands.len() <= limits.commands);
    for command in &message.commands {
        if let Command::Replace(group) = command {
            for item in &group.items {
                let _data = item.to_octets();
                address(item.target_uri().unwrap_or_default());
            }
        }
    }
    // Octets that stood for themselves are written as entities.
    let written = emit(&message);
    let wider = Limits { message_bytes: 16 * limits.message_bytes, ..limits };
    let again = parse(&written, &wider);
    assert_eq!(again.as_ref(), Ok(&message), "{}", String::from_utf8_lossy(&written));
}

fn address(text: &str) {
    let Ok(uri) = text.parse::<NodeUri>() else { return };
    assert!(uri.segments().len() <= MAX_DEPTH && text.len() <= MAX_TOTAL_LENGTH);
    // The `./` in front may have been left out.
    let written = uri.to_string();
    assert!(written.len() > MAX_TOTAL_LENGTH || written.parse() == Ok(uri));
}

/// Messages with every command that the two sides use.
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
