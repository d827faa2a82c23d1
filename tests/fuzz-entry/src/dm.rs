//! The smaller formats of device management. The first octet selects one.

use proto::dm::{
    auth::{Mac, Secret},
    bootstrap::{DmBootstrap, Push, SecKey, card::Card, prov, w7},
    descriptor::{Descriptor, InstallStatus},
    encoding::{Encoding, Limits},
    notification::{Initiator, Notification, Received, UserMode},
    push::{ShortMessage, notification_in},
    syncml::Data,
    tnds::{MgmtTree, Node},
    ui::Options,
};

/// Reads one of them; what can be written of it reads back equal.
pub fn run(octets: &[u8]) {
    let Some((kind, octets)) = octets.split_first() else { return };
    match kind % 7 {
        0 => tree(Encoding::Xml, octets),
        1 => tree(Encoding::Wbxml, octets),
        2 => descriptor(octets),
        3 => notification(octets),
        4 => bootstrap(octets),
        5 => document(octets),
        _ => header(octets),
    }
}

fn tree(encoding: Encoding, octets: &[u8]) {
    let limits = Limits::default();
    let Ok(tree) = MgmtTree::parse(octets, encoding, &limits) else { return };
    let wider = Limits { message_bytes: 16 * limits.message_bytes, ..limits };
    let written = tree.emit(encoding);
    assert_eq!(MgmtTree::parse(&written, encoding, &wider), Ok(tree));
}

fn descriptor(octets: &[u8]) {
    if let Ok(text) = str::from_utf8(octets)
        && let Ok(status) = InstallStatus::parse(text)
    {
        assert_eq!(InstallStatus::parse(&status.emit()), Ok(status));
    }
    let Ok(found) = Descriptor::parse(octets) else { return };
    assert!(!found.types.is_empty() && !found.object_uri.is_empty());
    let _understood = found.is_understood();
    let _again = Descriptor::parse(found.emit().as_bytes());
}

fn notification(octets: &[u8]) {
    let Ok(inside) = notification_in(octets) else { return };
    assert!(inside.len() <= octets.len());
    let Ok(received) = Received::parse(inside) else { return };
    let secret = Secret::new("server", "password");
    assert!(
        !received.is_from(&secret, b"another nonce") || received.is_from(&secret, b"another nonce")
    );
    let again =
        received.notification().emit(&secret, b"nonce").expect("what was read can be written");
    let again = Received::parse(&again).expect("what was written");
    assert!(again.is_from(&secret, b"nonce") && again.notification() == received.notification());
}

fn bootstrap(octets: &[u8]) {
    if let Ok(message) = DmBootstrap::parse(octets) {
        assert_eq!(DmBootstrap::parse(&message.emit()).as_ref(), Ok(&message));
        let _proved = message.is_proved_by(&SecKey::Pin("1234".to_owned()));
        let _account = message.account();
    }
    if let Ok(card) = Card::parse(octets) {
        assert!(!card.account.addresses.is_empty() && !card.number.is_empty());
    }
    let Ok(push) = Push::parse(octets) else { return };
    assert_eq!(Push::parse(&push.emit()).as_ref(), Ok(&push));
    let _proved = push.is_proved_by(&SecKey::Pin("1234".to_owned()));
    document(push.document());
}

fn document(octets: &[u8]) {
    let Ok(found) = prov::parse(octets) else { return };
    let Ok(account) = w7::Account::find(&found) else { return };
    assert!(!account.addresses.is_empty());
    let again = w7::Account::find(&[account.to_characteristic()]);
    assert_eq!(again.as_ref(), Ok(&account));
    if let Ok(read) = prov::parse(&prov::emit(&[account.to_characteristic()])) {
        assert_eq!(w7::Account::find(&read), Ok(account));
    }
}

fn header(octets: &[u8]) {
    let Ok(text) = str::from_utf8(octets) else { return };
    if let Ok(mac) = Mac::parse(text) {
        let _proved = Secret::new("u", "p").proves_message(&mac, b"n", b"body");
        let _again = Mac::parse(&mac.emit());
    }
    let options = Options::parse(text);
    assert_eq!(Options::parse(&options.emit()), options);
}

/// One of each, and the push around those that come in one.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let secret = Secret::new("com.example", "password");
    let notification = Notification {
        user_mode: UserMode::Background,
        initiator: Initiator::Server,
        session_id: 0x1234,
        server_id: "com.example".to_owned(),
        vendor: vec![1, 2, 3],
    }
    .emit(&secret, b"nonce")
    .expect("a short one");
    let message = ShortMessage::new(&notification).expect("it fits").octets();
    let descriptor = Descriptor {
        version: Some("1.0".to_owned()),
        types: vec!["application/octet-stream".to_owned()],
        size: 7,
        object_uri: "http://example/a".to_owned(),
        name: Some("<&>".to_owned()),
        ..Descriptor::default()
    };
    let account = w7::Account {
        server_id: "com.example".to_owned(),
        begin: true,
        addresses: vec![w7::Address {
            address: "http://a/dm".to_owned(),
            ..w7::Address::default()
        }],
        credentials: vec![w7::Credentials {
            level: Some("APPSRV".to_owned()),
            secret: Some("s".to_owned()),
            ..w7::Credentials::default()
        }],
        ..w7::Account::default()
    };
    let document = prov::emit(&[account.to_characteristic()]);
    let push = Push::new(document.clone(), &SecKey::Pin("1234".to_owned())).expect("a PIN").emit();
    let leaf = Node { name: "b".to_owned(), value: Some(Data::from("v")), ..Node::default() };
    let tree = Node { name: "a".to_owned(), children: vec![leaf], ..Node::default() };
    let tree = MgmtTree { nodes: vec![tree], ..MgmtTree::default() };
    [
        (0, tree.emit(Encoding::Xml)),
        (1, tree.emit(Encoding::Wbxml)),
        (2, descriptor.emit().into_bytes()),
        (2, InstallStatus::SUCCESS.emit().into_bytes()),
        (3, notification),
        (3, message),
        (4, push),
        (5, document),
        (6, b"algorithm=MD5, username=\"u\", mac=ZA==".to_vec()),
        (6, b"MINDT=5&MAXDT=9&DR=a%20b&MAXLEN=7&IT=N&ET=P".to_vec()),
    ]
    .map(|(kind, octets)| [&[kind], octets.as_slice()].concat())
    .into()
}
