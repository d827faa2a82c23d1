//! The proofs of bootstrap documents against a second implementation, which is written from the
//! facts alone: SHA-1, HMAC, the keys of the four methods, the octets of the push.

use dm_bridge::{
    app::{
        bootstrap::{self, Document, DocumentFormat},
        devices::{self, Enrolment, FreshSecrets},
    },
    fleet::memory::MemoryStore,
};
use proto::{
    dm::{
        auth::AuthKind,
        bootstrap::{SecKey, SharedSecrets, user_code::CodeKey},
        encoding::Encoding,
    },
    ids::{ClassId, VendorId},
    time::Utc,
};
use receiver::bootstrap::{BootstrapError, BootstrapProposal, Profile};

const IMSI: &str = "310410123456789";
const PIN: &str = "471100";

/// Another implementation of the proofs.
mod theirs {
    /// Returns SHA-1 of `octets` (FIPS 180-4).
    fn sha1(octets: &[u8]) -> [u8; 20] {
        let mut state = [0x6745_2301_u32, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
        let mut padded = octets.to_vec();
        padded.push(0x80);
        while padded.len() % 64 != 56 {
            padded.push(0);
        }
        padded.extend((octets.len() as u64 * 8).to_be_bytes());
        for block in padded.as_chunks::<64>().0 {
            let mut words: Vec<u32> =
                block.as_chunks::<4>().0.iter().map(|word| u32::from_be_bytes(*word)).collect();
            for at in 16..80 {
                let mixed = words[at - 3] ^ words[at - 8] ^ words[at - 14] ^ words[at - 16];
                words.push(mixed.rotate_left(1));
            }
            let [mut a, mut b, mut c, mut d, mut e] = state;
            for (round, word) in words.iter().enumerate() {
                let (f, k) = match round {
                    0..20 => ((b & c) | (!b & d), 0x5a82_7999),
                    20..40 => (b ^ c ^ d, 0x6ed9_eba1),
                    40..60 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
                    _ => (b ^ c ^ d, 0xca62_c1d6_u32),
                };
                let next =
                    [a.rotate_left(5), f, e, k, *word].into_iter().fold(0, u32::wrapping_add);
                (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
            }
            for (sum, part) in state.iter_mut().zip([a, b, c, d, e]) {
                *sum = sum.wrapping_add(part);
            }
        }
        let octets: Vec<u8> = state.iter().flat_map(|word| word.to_be_bytes()).collect();
        octets.try_into().unwrap()
    }

    /// Returns HMAC-SHA1 (RFC 2104); `key` has at most 64 octets.
    pub(super) fn hmac(key: &[u8], text: &[u8]) -> [u8; 20] {
        let pad = |with: u8| -> Vec<u8> {
            (0..64).map(|at| key.get(at).copied().unwrap_or(0) ^ with).collect()
        };
        let inner = sha1(&[&pad(0x36), text].concat());
        sha1(&[&pad(0x5c), &inner[..]].concat())
    }

    fn hex(octets: &[u8]) -> String {
        octets.iter().map(|octet| format!("{octet:02X}")).collect()
    }

    /// Returns the subscriber's number as the SIM file holds it: nibble 9 or 1, then the digits.
    fn imsi(digits: &str) -> Vec<u8> {
        let odd = digits.len() % 2 == 1;
        let text = format!("{}{digits}{}", if odd { "9" } else { "1" }, if odd { "" } else { "f" });
        let nibble = |at: usize| u8::from_str_radix(&text[at..=at], 16).unwrap();
        (0..text.len()).step_by(2).map(|at| nibble(at + 1) << 4 | nibble(at)).collect()
    }

    /// Returns the key of SEC 0 to 2.
    fn key(sec: u8, number: &str, pin: &str) -> Vec<u8> {
        match sec {
            0 => imsi(number),
            1 => pin.as_bytes().to_vec(),
            _ => [imsi(number), pin.as_bytes().to_vec()].concat(),
        }
    }

    /// Returns the push of a document over WSP with SEC 0 to 2.
    pub(super) fn push(sec: u8, number: &str, pin: &str, document: &[u8]) -> Vec<u8> {
        let mac = hex(&hmac(&key(sec, number, pin), document));
        let head = [0x01, 0x06, 0x2f, 0x1f, 0x2d, 0xb6, 0x91, 0x80 | sec, 0x92];
        [&head[..], mac.as_bytes(), &[0], document].concat()
    }

    /// Returns the push of a document with SEC 3.
    pub(super) fn push_for_code(document: &[u8]) -> Vec<u8> {
        [&[0x01, 0x06, 0x04, 0x03, 0xb6, 0x91, 0x83][..], document].concat()
    }

    /// Returns the user's code for a document: K, then a digit for each of its digits.
    pub(super) fn code(key: &str, document: &[u8]) -> String {
        let mac = hmac(key.as_bytes(), document);
        let digits = (0..key.len()).map(|at| char::from(b'0' + mac[at] % 10));
        key.chars().chain(digits).collect()
    }

    /// Returns the document of a push with SEC 0 to 2 if the secrets prove it.
    pub(super) fn open<'p>(push: &'p [u8], sec: u8, number: &str, pin: &str) -> Option<&'p [u8]> {
        let head = [0x01, 0x06, 0x2f, 0x1f, 0x2d, 0xb6, 0x91, 0x80 | sec, 0x92];
        let (mac, document) = push.strip_prefix(&head)?.split_at(40);
        let document = document.strip_prefix(&[0])?;
        (mac == hex(&hmac(&key(sec, number, pin), document)).as_bytes()).then_some(document)
    }

    /// Returns the document of a push with SEC 3 if the code is its own.
    pub(super) fn open_with_code<'p>(push: &'p [u8], user_code: &str) -> Option<&'p [u8]> {
        let document = push.strip_prefix(&[0x01, 0x06, 0x04, 0x03, 0xb6, 0x91, 0x83])?;
        (code(&user_code[..user_code.len() / 2], document) == user_code).then_some(document)
    }

    /// Returns the headers of the DM profile for a message: name of the method, MAC.
    pub(super) fn dm_profile(sec: &str, key: &str, message: &[u8]) -> String {
        let mac = hex(&hmac(key.as_bytes(), message));
        format!("Content-Type: application/vnd.syncml.dm+wbxml; SEC={sec}; MAC={mac}\r\n\r\n")
    }
}

/// Returns the document that the management server writes.
async fn written(format: DocumentFormat) -> Document {
    test_log::capture();
    let store = MemoryStore::default();
    let enrolment = Enrolment {
        id: "LAB-0001".parse().unwrap(),
        manufacturer: "fumocast".to_owned(),
        model: "lab".to_owned(),
        vendor: VendorId([1; 16]),
        class: ClassId([2; 16]),
        url: "http://127.0.0.1:8080/dm".to_owned(),
        encoding: Encoding::Xml,
        auth: AuthKind::Md5,
        account: dm_bridge::app::enrolment::OwnAccount::default(),
        profile: dm_bridge::fleet::profile::Profile::default(),
        firmware_object: None,
    };
    let secrets = FreshSecrets {
        password: [3; 32],
        nonce: [4; 16],
        server_password: [5; 32],
        server_nonce: [6; 16],
    };
    let id = enrolment.id.clone();
    devices::enrol(&store, Utc(1), enrolment, secrets).await.unwrap();
    bootstrap::document(&store, Utc(2), &id, format, secrets).await.unwrap()
}

fn open(profile: Profile, octets: &[u8], pin: &str) -> Result<BootstrapProposal, BootstrapError> {
    let secrets = SharedSecrets { network: Some(IMSI.to_owned()), pin: Some(pin.to_owned()) };
    BootstrapProposal::open(profile, octets, &secrets)
}

fn key(sec: u8) -> SecKey {
    match sec {
        0 => SecKey::Network(IMSI.to_owned()),
        1 => SecKey::Pin(PIN.to_owned()),
        _ => SecKey::NetworkAndPin(IMSI.to_owned(), PIN.to_owned()),
    }
}

/// RFC 2202, tests 1 and 2, so that the second implementation is not wrong like the first.
#[test]
fn the_second_implementation_computes_the_vectors_of_its_standard() {
    let hex =
        |octets: [u8; 20]| octets.iter().map(|octet| format!("{octet:02x}")).collect::<String>();
    let tag = hex(theirs::hmac(&[0x0b; 20], b"Hi There"));
    assert_eq!(tag, "b617318655057264e28bc0b6fb378c8ef146be00");
    let tag = hex(theirs::hmac(b"Jefe", b"what do ya want for nothing?"));
    assert_eq!(tag, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
}

// test: oma-dm 9
#[tokio::test]
async fn documents_of_the_server_are_proved_to_another_implementation() {
    for sec in 0..3 {
        let document = written(DocumentFormat::Cp(key(sec))).await;
        assert!(theirs::open(&document.bytes, sec, IMSI, PIN).is_some(), "{sec}");
        let others = (sec != 1).then_some(("310410123456788", PIN));
        for (number, pin) in others.into_iter().chain((sec != 0).then_some((IMSI, "471101"))) {
            assert_eq!(theirs::open(&document.bytes, sec, number, pin), None, "{sec}");
        }
        let name = ["NETWORKID", "USERPIN", "USERPIN_NETWORKID"][usize::from(sec)];
        let text = [IMSI.to_owned(), PIN.to_owned(), format!("{PIN}:{IMSI}")];
        let document = written(DocumentFormat::Dm(key(sec))).await;
        let (_, message) = document.post.as_ref().unwrap();
        let head = theirs::dm_profile(name, &text[usize::from(sec)], message);
        assert_eq!(document.bytes, [head.as_bytes(), message].concat(), "{name}");
    }
}

// test: oma-dm 9 (USERPINMAC)
#[tokio::test]
async fn a_code_of_the_server_is_that_of_another_implementation() {
    for octets in [[0; 8], [0x5a; 8], [0xff; 8]] {
        let document = written(DocumentFormat::CpWithCode(CodeKey::from_random(octets))).await;
        let code = document.code.as_ref().unwrap().reveal();
        assert_eq!(code.len(), 10);
        let opened = theirs::open_with_code(&document.bytes, code).expect("it is its own code");
        assert_eq!(theirs::code(&code[..5], opened), code);
        // Nothing in the push leads to the code: it is the same whatever the key is.
        assert_eq!(document.bytes, theirs::push_for_code(opened));
        let (content_type, body) = document.post.as_ref().unwrap();
        assert_eq!(content_type, "application/vnd.wap.connectivity-wbxml; SEC=3");
        assert_eq!(body, opened);
    }
}

// test: oma-dm 9
#[tokio::test]
async fn a_device_takes_the_documents_of_another_implementation_and_refuses_wrong_codes() {
    let document = written(DocumentFormat::Cp(key(0))).await;
    let document = theirs::open(&document.bytes, 0, IMSI, PIN).unwrap();
    for sec in 0..3 {
        let right = theirs::push(sec, IMSI, PIN, document);
        let proposal = open(Profile::Cp, &right, PIN).unwrap();
        assert_eq!(proposal.account.server_id, "fumocast", "{sec}");
        let number = theirs::push(sec, "310410123456788", PIN, document);
        let pin = theirs::push(sec, IMSI, "471101", document);
        for (wrong, counts) in [(number, sec != 1), (pin, sec != 0)] {
            assert_eq!(open(Profile::Cp, &wrong, PIN).is_err(), counts, "{sec}");
        }
        let changed = [&right[..right.len() - 1], &[right[right.len() - 1] ^ 1]].concat();
        assert!(open(Profile::Cp, &changed, PIN).is_err(), "{sec}");
    }
    let message = written(DocumentFormat::Dm(key(1))).await.post.unwrap().1;
    for (name, text) in [
        ("NETWORKID", IMSI.to_owned()),
        ("USERPIN", PIN.to_owned()),
        ("USERPIN_NETWORKID", format!("{PIN}:{IMSI}")),
    ] {
        let of =
            |key: &str| [theirs::dm_profile(name, key, &message).as_bytes(), &message].concat();
        assert!(open(Profile::Dm, &of(&text), PIN).is_ok(), "{name}");
        assert!(open(Profile::Dm, &of("471101"), PIN).is_err(), "{name}");
    }
}

// test: oma-dm 9 (USERPINMAC)
#[tokio::test]
async fn a_device_takes_a_document_with_the_code_of_another_implementation_alone() {
    let document = written(DocumentFormat::Cp(key(0))).await;
    let document = theirs::open(&document.bytes, 0, IMSI, PIN).unwrap();
    let push = theirs::push_for_code(document);
    for key in ["1234", "12345", "00000", "9876543210"] {
        let code = theirs::code(key, document);
        assert!(open(Profile::Cp, &push, &code).is_ok(), "{key}");
        // Each digit counts, those of the second half as well.
        for at in 0..code.len() {
            let mut wrong = code.clone().into_bytes();
            wrong[at] = b'0' + (wrong[at] - b'0' + 1) % 10;
            let wrong = String::from_utf8(wrong).unwrap();
            let refused = open(Profile::Cp, &push, &wrong);
            assert_eq!(refused, Err(BootstrapError::NotProved("the user's code")), "{key} {at}");
        }
        // A document that was rewritten on its way is not proved by the user's own code, even if a
        // MAC that somebody else made is added.
        let changed = [&push[..push.len() - 1], &[push[push.len() - 1] ^ 1]].concat();
        assert!(open(Profile::Cp, &changed, &code).is_err(), "{key}");
        let mut forged = theirs::push(1, IMSI, key, &changed[7..]);
        forged[7] = 0x83;
        assert!(open(Profile::Cp, &forged, &code).is_err(), "{key}");
        assert!(open(Profile::Cp, &push, key).is_err(), "the first half alone");
    }
    for key in ["123", "12345678901"] {
        let refused = open(Profile::Cp, &push, &theirs::code(key, document));
        assert!(matches!(refused, Err(BootstrapError::Missing(_))), "{key}");
    }
}
