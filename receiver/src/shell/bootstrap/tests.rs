use std::{collections::BTreeMap, path::PathBuf};

use proto::dm::bootstrap::{Push, SecKey, card::Card, prov, w7};
use tempfile::TempDir;

use super::*;
use crate::config::Config;

const IMSI: &str = "310410123456789";

struct Device {
    home: TempDir,
    user: String,
}

impl Device {
    fn new(user: &str) -> Self {
        Self { home: tempfile::tempdir().unwrap(), user: user.to_owned() }
    }

    /// Returns a device whose user hook records its prompts and prints `answers`.
    fn with_hook(answers: &str) -> Self {
        let device = Self::new("");
        let asked = device.path("asked");
        let script = format!("cat >> {0}; echo >> {0}; {answers}", asked.display());
        let user = format!(
            "user_interface = \"hook\"\nuser_hook = [\"/bin/sh\", \"-c\", {script:?}, \"hook\"]"
        );
        Self { user, ..device }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn file(&self) -> String {
        format!(
            "[device]\nid = \"LAB-0001\"\nmanufacturer = \"x\"\nmodel = \"x\"\n\
             vendor_id = \"000102030405060708090a0b0c0d0e0f\"\n\
             class_id = \"f00102030405060708090a0b0c0d0e0f\"\n\
             [server]\nurl = \"https://file/\"\nserver_id = \"file\"\nuser = \"u\"\n\
             password = \"p\"\nnonce = \"\"\n\
             [receiver]\ndata = {:?}\ntrust_root = \"r\"\ninterface = \"127.0.0.1\"\n\
             installer_hook = [\"h\"]\n\
             imsi = \"{IMSI}\"\nsmart_card_image = {:?}\n{}\n",
            self.path("data"),
            self.path("card.bin"),
            self.user,
        )
    }

    fn settings(&self) -> Receiver {
        Receiver::resolve(&self.file(), |_| None, &BTreeMap::new()).unwrap()
    }

    fn insert(&self, number: &str, confirmation: Confirmation, server: &str) {
        let card = Card { number: number.to_owned(), confirmation, account: account(server) };
        fs::write(self.path("card.bin"), card.emit()).unwrap();
    }

    /// Starts the device; returns its server.
    fn start(&self) -> String {
        let settings = self.settings();
        let directory = DataDir::open(&settings.data).unwrap();
        sync_smart_card(&directory, &settings, &Prompter::open(&settings)).unwrap();
        self.server()
    }

    fn server(&self) -> String {
        let accounts = accounts(&self.path("data")).unwrap();
        let config = Config::resolve(&self.file(), &accounts, |_| None, &BTreeMap::new());
        config.unwrap().server.server_id
    }

    fn questions(&self) -> usize {
        fs::read_to_string(self.path("asked")).map_or(0, |text| text.lines().count())
    }

    fn inbox(&self) -> BootstrapInbox {
        let settings = self.settings();
        let prompter = Prompter::open(&settings);
        BootstrapInbox { settings, prompter, asked: Vec::new() }
    }
}

fn account(server: &str) -> w7::Account {
    w7::Account {
        server_id: server.to_owned(),
        begin: true,
        addresses: vec![w7::Address {
            address: "https://dm.example/dm".to_owned(),
            ..w7::Address::default()
        }],
        credentials: vec![w7::Credentials {
            level: Some("APPSRV".to_owned()),
            kind: Some("DIGEST".to_owned()),
            name: Some("LAB-0001".to_owned()),
            secret: Some("device-secret".to_owned()),
            data: Some("bm9uY2U=".to_owned()),
        }],
        ..w7::Account::default()
    }
}

fn push(key: &SecKey) -> Vec<u8> {
    Push::new(prov::emit(&[account("given").to_characteristic()]), key).unwrap().emit()
}

// test: oma-003 6.1.4.1
#[test]
fn a_card_that_requires_a_confirmation_is_used_only_after_the_users_yes() {
    let asks = Confirmation::Wanted;
    for (answer, server) in [("yes", "card"), ("no", "file"), ("later", "file")] {
        let device = Device::with_hook(&format!("echo '{{\"answer\":\"{answer}\"}}'"));
        device.insert("8949001", asks, "card");
        assert_eq!(device.start(), server, "{answer}");
        assert_eq!(device.questions(), 1);
        assert_eq!(device.start(), server);
        assert_eq!(device.questions(), if answer == "yes" { 1 } else { 2 }, "{answer}");
    }
    let nobody = Device::new("");
    nobody.insert("8949001", asks, "card");
    assert_eq!(nobody.start(), "file");
}

// test: oma-003 6.1.4.2
#[test]
fn a_card_that_requires_no_confirmation_is_used_without_a_prompt() {
    let device = Device::with_hook("echo '{\"answer\":\"no\"}'");
    device.insert("8949001", Confirmation::NotWanted, "card");
    assert_eq!(device.start(), "card");
    assert_eq!(device.questions(), 0);
}

#[test]
fn the_account_of_a_card_is_removed_with_the_card() {
    let device = Device::with_hook("echo '{\"answer\":\"no\"}'");
    device.insert("8949001", Confirmation::NotWanted, "card");
    assert_eq!(device.start(), "card");
    device.insert("8949002", Confirmation::Wanted, "other");
    assert_eq!(device.start(), "file", "the former account was removed, the other not confirmed");
    device.insert("8949002", Confirmation::NotWanted, "other");
    assert_eq!(device.start(), "other");
    fs::write(device.path("card.bin"), b"unreadable").unwrap();
    assert_eq!(device.start(), "other", "an unreadable card is not a removed one");
    fs::remove_file(device.path("card.bin")).unwrap();
    assert_eq!(device.start(), "file");
}

#[test]
fn the_cards_account_takes_precedence_over_the_given_one_and_leaves_it_stored() {
    let device = Device::new("");
    let directory = DataDir::open(&device.path("data")).unwrap();
    store(&directory, &device.inbox().evaluate(&push(&SecKey::Network(IMSI.to_owned()))).unwrap())
        .unwrap();
    drop(directory);
    assert_eq!(device.server(), "given");
    device.insert("8949001", Confirmation::NotWanted, "card");
    assert_eq!(device.start(), "card");
    fs::remove_file(device.path("card.bin")).unwrap();
    assert_eq!(device.start(), "given");
}

// test: oma-dm 9.3
#[test]
fn a_push_is_accepted_with_the_pin_that_the_user_enters() {
    let right = Device::with_hook("echo '{\"answer\":\"text\",\"text\":\"1234\"}'");
    let document = push(&SecKey::Pin("1234".to_owned()));
    let proposal = right.inbox().evaluate(&document).unwrap();
    assert_eq!((proposal.account.server_id.as_str(), right.questions()), ("given", 1));

    let wrong = Device::with_hook("echo '{\"answer\":\"text\",\"text\":\"4321\"}'");
    let mut inbox = wrong.inbox();
    assert_eq!(inbox.evaluate(&document), None);
    assert_eq!(wrong.questions(), 3);
    assert_eq!(inbox.evaluate(&document), None, "the same document does not prompt again");
    assert_eq!(wrong.questions(), 3);
    for pin in 0..20 {
        assert_eq!(inbox.evaluate(&push(&SecKey::Pin(format!("9{pin:03}")))), None);
    }
    assert_eq!(wrong.questions(), 3 * MAX_DOCUMENTS, "the number of prompts is bounded");
}

#[test]
fn a_push_with_another_subscribers_number_is_rejected() {
    let device = Device::with_hook("echo '{\"answer\":\"text\",\"text\":\"1234\"}'");
    let mut inbox = device.inbox();
    assert_eq!(inbox.evaluate(&push(&SecKey::Network("310410123456780".to_owned()))), None);
    assert_eq!(inbox.evaluate(b"junk"), None);
    assert_eq!(device.questions(), 0);
    assert!(inbox.evaluate(&push(&SecKey::Network(IMSI.to_owned()))).is_some());
}
