//! Proofs over whole messages, and replies that are sent again.

use proto::dm::auth::{AuthKind, MAC_HEADER, Mac};

use super::*;

const XML: &str = "application/vnd.syncml.dm+xml";

/// A device that proves itself by an HMAC over each message.
struct Prover {
    device: Device,
    url: String,
}

impl Prover {
    async fn enrol(bridge: &Bridge) -> Self {
        let enrolment = devices::Enrolment {
            url: bridge.url("/dm"),
            auth: AuthKind::Mac,
            ..devices::tests::enrolment("LAB-0001")
        };
        let secrets = devices::FreshSecrets {
            password: random(),
            nonce: random(),
            server_password: random(),
            server_nonce: random(),
        };
        let store = bridge.store().await;
        let settings = devices::enrol(&store, Clock.now().utc, enrolment, secrets).await.unwrap();
        test_log::record_secret("toml", settings.as_bytes());
        Self { device: Device::new(&settings, bridge.url("/dm")), url: bridge.url("/dm") }
    }

    fn mac(&self, nonce: &[u8], body: &[u8]) -> Mac {
        let client = &self.device.script.client;
        Mac { user: client.id.clone(), mac: client.secret.mac(nonce, body) }
    }

    fn post(&self, body: &[u8], mac: &Mac) -> Answer {
        post_with(&self.url, body, Some(mac))
    }

    fn first(&mut self) -> Vec<u8> {
        self.device.next_session();
        self.device.first(None)
    }
}

fn post_with(url: &str, body: &[u8], mac: Option<&Mac>) -> Answer {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
    let mut request = agent.post(url).content_type(XML);
    if let Some(mac) = mac {
        request = request.header(MAC_HEADER, mac.emit());
    }
    let mut response = request.send(body).unwrap();
    let content_type = response.headers().get("content-type");
    Answer {
        status: response.status().as_u16(),
        content_type: content_type.map(|value| value.to_str().unwrap().to_owned()),
        body: response.body_mut().read_to_vec().unwrap(),
    }
}

/// Returns the message with a body that is none.
fn spoiled(message: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(message.to_vec()).unwrap();
    let (header, _) = text.split_once("<SyncBody>").unwrap();
    format!("{header}<SyncBody><Exec><Nonsense></SyncML>").into_bytes()
}

// test: security 7.2 (parse only if the MAC is right)
#[tokio::test(flavor = "multi_thread")]
async fn a_message_with_a_wrong_mac_is_challenged_by_its_header_and_not_parsed() {
    let bridge = Bridge::start().await;
    let mut prover = Prover::enrol(&bridge).await;
    let first = prover.first();
    let broken = spoiled(&first);
    let nonce = prover.device.nonce.clone();
    let wrong = prover.mac(b"guess", &broken);
    let answer = prover.post(&broken, &wrong);
    assert_eq!(answer.header_code(), 401, "what follows the header was not looked at");
    let challenge = answer.nonce();
    let right = prover.mac(&nonce, &broken);
    assert_eq!(prover.post(&broken, &right).status, 400, "it was parsed");
    let first = prover.first();
    let right = prover.mac(&challenge, &first);
    assert_eq!(prover.post(&first, &right).header_code(), 200);
    let stranger = Mac { user: "LAB-0009".to_owned(), mac: wrong.mac };
    assert_eq!(prover.post(&broken, &stranger).header_code(), 401);
}

// test: security 7.2 (an enrolled id is not distinguishable)
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_message_with_a_mac_does_not_show_which_devices_prove_themselves_otherwise() {
    let bridge = Bridge::start().await;
    let mut enrolled = bridge.enrol("LAB-0001").await;
    let broken = spoiled(&enrolled.first(None));
    let url = bridge.url("/dm");
    let mac =
        |user: &str| Mac { user: user.to_owned(), mac: "AAAAAAAAAAAAAAAAAAAAAA==".to_owned() };
    for _ in 0..5 {
        for name in ["LAB-0001", "LAB-0009"] {
            let answer = post_with(&url, &broken, Some(&mac(name)));
            assert_eq!((answer.status, answer.header_code()), (200, 401), "{name}");
        }
    }
    let shut = post_with(&url, &broken, Some(&mac("LAB-0001")));
    assert_eq!(shut.status, 503, "each is counted");
}

// test: security 7.2 (a reply is repeated for the same proof)
#[tokio::test(flavor = "multi_thread")]
async fn a_reply_is_sent_again_for_the_same_mac_alone() {
    let bridge = Bridge::start().await;
    let mut prover = Prover::enrol(&bridge).await;
    let first = prover.first();
    let right = prover.mac(&prover.device.nonce, &first);
    let reply = prover.post(&first, &right);
    assert_eq!(reply.header_code(), 200);
    assert_eq!(prover.post(&first, &right).body, reply.body);
    let wrong = Mac { mac: prover.mac(b"guess", &first).mac, ..right };
    assert_eq!(prover.post(&first, &wrong).header_code(), 401);
    assert_eq!(post_with(&prover.url, &first, None).header_code(), 407);
}

// test: security 7.2 (a reply is repeated for the same proof)
#[tokio::test(flavor = "multi_thread")]
async fn a_reply_is_sent_again_for_the_token_of_its_session_alone() {
    let bridge = Bridge::start().await;
    let mut device = bridge.enrol("LAB-0001").await;
    device.next_session();
    let credential = device.credential();
    let first = device.first(Some(credential));
    let answer = device.post(&first);
    // The second message has no credential.
    let (url, second) = device.reply(&answer.message()).unwrap();
    let reply = device::post(&url, XML, &second);
    assert_eq!(device::post(&url, XML, &second).body, reply.body);
    for url in [bridge.url("/dm"), format!("{url}0"), bridge.url("/dm?s=")] {
        let answer = device::post(&url, XML, &second);
        assert_eq!(answer.header_code(), 407, "{url}");
        assert_ne!(answer.body, reply.body);
    }
}
