//! Changes of the account by its server.

use super::*;

const ADDRESS: &str = "./DMAcc/1/AppAddr/1/Addr";
const SECRET: &str = "./DMAcc/1/AppAuth/1/AAuthSecret";

fn write(id: u32, uri: &str, text: &str) -> Command {
    Command::Replace(Manage::new(CommandId::new(id), vec![Item::text(uri, text)]))
}

// test: oma-dm 10.1
#[test]
fn a_changed_account_applies_from_the_next_session_on() {
    let moved = "http://127.0.0.1:9090/dm";
    let mut talk = Talk::begin(FakeDevice::default());
    let before = talk.post.url.clone();
    let changes = vec![write(8, ADDRESS, moved), write(9, SECRET, "changed"), get(10, &[ADDRESS])];
    let message = talk.reply(StatusCode::AUTHENTICATED, changes);
    talk.receive_and_continue(&message);
    let codes: Vec<_> = talk.statuses()[1..].iter().map(|(_, code)| *code).collect();
    assert_eq!(codes, [200, 200, 200]);
    assert_eq!(talk.results(), [(ADDRESS.to_owned(), moved.to_owned())]);
    assert_eq!(talk.post.url, before, "this session stays where it is");

    let talk = Talk::begin_with(talk.client, talk.device, at(60));
    assert_eq!(talk.post.url, moved);
    let credential = talk.sent.header.credential.clone().unwrap();
    assert!(Secret::new("LAB-0001", "changed").proves(&credential, b"first"));
    assert!(!format!("{:?}", talk.device.account_change).contains("changed"));
}

#[test]
fn unusable_changes_of_the_account_are_rejected() {
    let https = |account: &mut crate::dm::Account| account.url = "https://dm.example/".to_owned();
    for (uri, text, tls, code) in [
        (ADDRESS, "ftp://x/", false, 400),
        (ADDRESS, "http://a b/", false, 400),
        (ADDRESS, "", false, 400),
        (ADDRESS, "http://dm.example/", true, 400),
        (ADDRESS, "https://dm.example/2", true, 200),
        (SECRET, "", false, 400),
        ("./DMAcc/1/AppAuth/1/AAuthData", "x", false, 405),
        ("./DMAcc/1/ServerID", "other", false, 405),
    ] {
        let mut settings = settings();
        if tls {
            https(&mut settings.account);
        }
        let client = DmClient::new(settings, Limits::default());
        let mut talk = Talk::begin_with(client, FakeDevice::default(), at(0));
        let message = talk.reply(StatusCode::AUTHENTICATED, vec![write(8, uri, text)]);
        talk.receive_and_continue(&message);
        assert_eq!(talk.statuses()[1], (Verb::Replace, code), "{uri} {text}");
        assert_eq!(talk.device.account_change.url.is_some(), code == 200);
    }
}
