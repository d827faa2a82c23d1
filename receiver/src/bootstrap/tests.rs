use proto::dm::bootstrap::{
    SecKey,
    user_code::{CodeKey, UserCode},
};

use super::*;

const IMSI: &str = "310410123456789";

fn secrets(network: Option<&str>, pin: Option<&str>) -> SharedSecrets {
    SharedSecrets { network: network.map(str::to_owned), pin: pin.map(str::to_owned) }
}

fn account() -> w7::Account {
    let proof = |level: &str, name: &str, secret: &str| w7::Credentials {
        level: Some(level.to_owned()),
        kind: Some("DIGEST".to_owned()),
        name: Some(name.to_owned()),
        secret: Some(secret.to_owned()),
        data: Some("bm9uY2U=".to_owned()),
    };
    w7::Account {
        server_id: "fumocast".to_owned(),
        begin: true,
        addresses: vec![w7::Address {
            address: "https://dm.example/dm".to_owned(),
            ..w7::Address::default()
        }],
        credentials: vec![
            proof("APPSRV", "LAB-0001", "device-secret"),
            proof("CLIENT", "fumocast", "server-secret"),
        ],
        ..w7::Account::default()
    }
}

fn provisioning() -> Vec<u8> {
    prov::emit(&[account().to_characteristic()])
}

fn cp_push(key: &SecKey) -> Vec<u8> {
    Push::new(provisioning(), key).unwrap().emit()
}

fn card(confirmation: Confirmation) -> Vec<u8> {
    Card { number: "8949001".to_owned(), confirmation, account: account() }.emit()
}

// test: oma-dm 9.3
#[test]
fn every_profile_gives_the_account_to_who_holds_the_key() {
    let all = secrets(Some(IMSI), Some("1234567890"));
    let (imsi, pin) = (IMSI.to_owned(), "1234567890".to_owned());
    let keys =
        [SecKey::Network(imsi.clone()), SecKey::Pin(pin.clone()), SecKey::NetworkAndPin(imsi, pin)];
    let mut documents: Vec<_> = keys.iter().map(|key| (Profile::Cp, cp_push(key))).collect();
    documents
        .extend(keys.iter().map(|key| {
            (Profile::Dm, DmBootstrap::for_account(&account(), "LAB-0001", key).emit())
        }));
    documents.push((Profile::Factory, provisioning()));
    documents.push((Profile::Factory, dmacc::to_tree(&account()).emit(Encoding::Xml)));
    documents.push((Profile::Factory, dmacc::to_tree(&account()).emit(Encoding::Wbxml)));
    let message = DmBootstrap::for_account(&account(), "LAB-0001", &keys[0]).emit();
    let end = message.windows(4).position(|it| it == b"\r\n\r\n").unwrap();
    documents.push((Profile::Factory, message[end + 4..].to_vec()));
    documents.push((Profile::Factory, message));
    documents.push((Profile::SmartCard, card(Confirmation::NotWanted)));
    for (profile, document) in documents {
        let proposal = BootstrapProposal::open(profile, &document, &all).unwrap();
        assert_eq!(proposal.account.url, "https://dm.example/dm");
        assert_eq!(proposal.account.password, "device-secret");
        assert_eq!(proposal.account.nonce, b"nonce");
        assert_eq!(proposal.account.server.as_ref().unwrap().0, "server-secret");
    }
}

// test: oma-dm 9 (USERPINMAC)
#[test]
fn a_users_code_opens_its_own_document_and_no_other() {
    let (push, code) = with_code();
    let open = |octets: &[u8], code: &str| {
        BootstrapProposal::open(Profile::Cp, octets, &secrets(None, Some(code)))
    };
    assert!(BootstrapProposal::wants_pin(&push));
    assert_eq!(open(&push, code.reveal()).unwrap().account.password, "device-secret");
    let mut changed = push.clone();
    *changed.last_mut().unwrap() ^= 1;
    let wrong = format!("{}0", &code.reveal()[..9]);
    let wrong = if wrong == code.reveal() { format!("{}1", &wrong[..9]) } else { wrong };
    for refused in [open(&push, &wrong), open(&changed, code.reveal())] {
        assert_eq!(refused.unwrap_err(), BootstrapError::NotProved("the user's code"));
    }
    // What it has of the code alone, as ours once took it.
    let half = open(&push, &code.reveal()[..5]).unwrap_err();
    assert!(half.to_string().contains("8 to 20 digits"), "{half}");
    let missing = BootstrapProposal::open(Profile::Cp, &push, &secrets(Some(IMSI), None));
    let missing = missing.unwrap_err().to_string();
    assert_eq!(missing, "the user's code is needed to verify the proof");
}

fn with_code() -> (Vec<u8>, UserCode) {
    let (push, code) = Push::with_user_code(provisioning(), &CodeKey::from_random([7; 8]));
    (push.emit(), code)
}

// test: oma-dm 9.3
#[test]
fn a_wrong_or_missing_key_gives_nothing() {
    let pin = SecKey::Pin("1234".to_owned());
    for (profile, document) in [
        (Profile::Cp, cp_push(&pin)),
        (Profile::Dm, DmBootstrap::for_account(&account(), "LAB-0001", &pin).emit()),
    ] {
        let open = |secrets: &SharedSecrets| {
            BootstrapProposal::open(profile, &document, secrets).unwrap_err()
        };
        let wrong = open(&secrets(Some(IMSI), Some("4321")));
        assert_eq!(wrong, BootstrapError::NotProved("the PIN"));
        let missing = open(&secrets(Some(IMSI), None));
        assert_eq!(missing.to_string(), "the PIN is needed to verify the proof");
        let mut changed = document.clone();
        *changed.last_mut().unwrap() ^= 1;
        assert!(BootstrapProposal::open(profile, &changed, &secrets(None, Some("1234"))).is_err());
        assert!(BootstrapProposal::wants_pin(&document));
        assert_eq!(Profile::of_push(&document), profile);
    }
    let bare = provisioning();
    for profile in [Profile::Cp, Profile::Dm, Profile::SmartCard] {
        let error = BootstrapProposal::open(profile, &bare, &secrets(Some(IMSI), Some("1234")))
            .unwrap_err();
        assert!(matches!(error, BootstrapError::Unreadable { .. }), "{profile}: {error}");
    }
}

#[test]
fn a_push_in_a_short_message_is_read_like_the_push() {
    let push = cp_push(&SecKey::Network(IMSI.to_owned()));
    let message = [&[0x06, 0x05, 0x04, 0x0b, 0x84, 0xc0, 0x02], push.as_slice()].concat();
    let secrets = secrets(Some(IMSI), None);
    assert!(BootstrapProposal::open(Profile::Cp, &message, &secrets).is_ok());
    assert!(!BootstrapProposal::wants_pin(&message));
}

#[test]
fn an_account_that_the_device_cannot_use_says_why() {
    let open = |change: fn(&mut w7::Account)| {
        let mut account = account();
        change(&mut account);
        let document = prov::emit(&[account.to_characteristic()]);
        BootstrapProposal::open(Profile::Factory, &document, &SharedSecrets::default())
    };
    let problem = |change| {
        let error = open(change).unwrap_err();
        let BootstrapError::Unusable(problem) = error else { panic!("{error}") };
        problem
    };
    assert!(problem(|it| it.addresses[0].address = "ftp://x/".to_owned()).contains("address"));
    assert!(problem(|it| it.credentials[0].kind = Some("X509".to_owned())).contains("DIGEST"));
    assert!(problem(|it| it.credentials[0].secret = None).contains("password"));
    assert!(problem(|it| it.credentials[0].data = Some("%".to_owned())).contains("nonce"));
    assert!(problem(|it| it.credentials[0].name = Some("a\nb".to_owned())).contains("plain text"));
    assert!(problem(|it| it.credentials.clear()).contains("credentials"));
    let one_sided = open(|it| it.credentials.truncate(1)).unwrap();
    assert!(one_sided.account.server.is_none());
}

#[test]
fn a_port_that_stands_apart_goes_into_the_address() {
    let url = |address: &str, port: &str| {
        let address = address.to_owned();
        super::address(&w7::Address { address, kind: None, ports: vec![port.to_owned()] }).unwrap()
    };
    assert_eq!(url("https://dm.example/dm", "8443"), "https://dm.example:8443/dm");
    assert_eq!(url("https://dm.example:1/dm", "8443"), "https://dm.example:1/dm");
    assert_eq!(url("http://[::1]", "80"), "http://[::1]:80");
    assert_eq!(url("http://[::1]:5", "x"), "http://[::1]:5");
}

// test: oma-003 6.1.4.1, oma-003 6.1.4.2
#[test]
fn a_card_says_whether_the_user_is_asked() {
    for confirmation in [Confirmation::Wanted, Confirmation::NotWanted] {
        let open = || {
            BootstrapProposal::open(
                Profile::SmartCard,
                &card(confirmation),
                &SharedSecrets::default(),
            )
        };
        let proposal = open().unwrap();
        assert_eq!(proposal.confirmation, confirmation);
        assert!(proposal.question().text.contains("fumocast at https://dm.example/dm"));
        assert_eq!(
            card_action(Some(proposal.clone()), None),
            CardAction::Replace(Box::new(proposal))
        );
    }
}

#[test]
fn the_account_of_a_card_comes_and_goes_with_it() {
    let open = |octets: &[u8]| {
        Some(
            BootstrapProposal::open(Profile::SmartCard, octets, &SharedSecrets::default()).unwrap(),
        )
    };
    let proposal = open(&card(Confirmation::NotWanted));
    let kept = Origin::read(&proposal.as_ref().unwrap().to_toml()).unwrap();
    assert_eq!(kept.card.as_deref(), Some("8949001"));
    assert_eq!(card_action(proposal, Some(&kept)), CardAction::Nothing);
    assert_eq!(card_action(None, Some(&kept)), CardAction::Remove);
    assert_eq!(card_action(None, None), CardAction::Nothing);
    let mut other = Card::parse(&card(Confirmation::NotWanted)).unwrap();
    other.number = "8949002".to_owned();
    let step = card_action(open(&other.emit()), Some(&kept));
    assert!(matches!(step, CardAction::Replace(_)), "{step:?}");
}

#[test]
fn neither_an_offer_nor_the_question_shows_a_secret() {
    let proposal =
        BootstrapProposal::open(Profile::Factory, &provisioning(), &SharedSecrets::default())
            .unwrap();
    let shown = format!("{proposal:?} {}", proposal.question().text);
    assert!(!shown.contains("-secret") && !shown.contains("LAB-0001"), "{shown}");
}
