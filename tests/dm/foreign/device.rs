//! A scripted device with an account of its own, against the management server.

use dm_bridge::{
    app::{
        devices::{self, Enrolment, FreshSecrets},
        enrolment::OwnAccount,
        message_handler::DeviceSession,
    },
    campaign::model::Delivery,
    dm::{
        Limits,
        message::{InboundMessage, MessageOutcome, OutboundMessage},
    },
    fleet::{
        attempt::{ArmingAttempt, ArmingPhase},
        audit::{Actor, Audit},
        device::PeerCertificate,
        memory::MemoryStore,
        store::FleetStore as _,
    },
};
use proto::{
    crypto::Digest,
    dm::{
        auth::AuthKind,
        code::StatusCode,
        encoding::{self, Encoding},
        syncml::{Challenge, Command, CommandId, Message, Status, Verb},
    },
    fixtures::device::ScriptedDevice,
    ids::{ClassId, Correlator, VendorId},
    time::Utc,
};

use super::{PASSWORD, SERVER_ID, SERVER_PASSWORD, Side, URL, USER, pairs};
use crate::harness::{self, id};

const NOW: Utc = Utc::from_seconds(1_500);

/// The management server with one device, whose account is its own.
struct Server {
    store: MemoryStore,
    conversation: DeviceSession,
    certificate: Option<PeerCertificate>,
    count: u8,
}

impl Server {
    async fn enrol((auth, server_auth): (AuthKind, AuthKind), delivery: Delivery) -> Self {
        test_log::capture();
        let store = MemoryStore::default();
        let enrolment = Enrolment {
            id: id(),
            manufacturer: "other".to_owned(),
            model: "field".to_owned(),
            vendor: VendorId([1; 16]),
            class: ClassId([2; 16]),
            url: URL.to_owned(),
            encoding: Encoding::Xml,
            auth,
            account: OwnAccount {
                user: Some(USER.to_owned()),
                password: Some(PASSWORD.to_owned()),
                server_id: Some(SERVER_ID.to_owned()),
                server_password: Some(SERVER_PASSWORD.to_owned()),
                server_auth: Some(server_auth),
                certificate: None,
            },
            profile: dm_bridge::fleet::profile::Profile::default(),
            firmware_object: None,
        };
        let secrets = FreshSecrets {
            password: [3; 32],
            nonce: [4; 16],
            server_password: [5; 32],
            server_nonce: [6; 16],
        };
        devices::enrol(&store, NOW, enrolment, secrets).await.unwrap();
        let mut campaign = harness::campaign();
        campaign.delivery = delivery;
        let correlator = Correlator("c-1".to_owned());
        let attempt = ArmingAttempt::pending(id(), campaign.id, 1, correlator, NOW);
        let audit = Audit {
            actor: Actor::Operator,
            action: "test",
            subject: harness::ID.to_owned(),
            detail: String::new(),
        };
        store.apply(NOW, audit, vec![campaign.into(), attempt.into()]).await.unwrap();
        let subject = Some(harness::ID.to_owned());
        let certificate = Some(PeerCertificate { subject, fingerprint: Digest([9; 32]) });
        Self { store, conversation: DeviceSession::default(), certificate, count: 0 }
    }

    async fn receive(&mut self, message: &Message, side: &Side) -> MessageOutcome {
        let bytes = Encoding::Xml.emit(message);
        let mac = side.mac(&bytes);
        // The address that the server has given.
        let token = message.header.target.uri.split_once("s=").map(|(_, token)| token);
        let received = InboundMessage {
            bytes: &bytes,
            message,
            token,
            mac: mac.as_ref(),
            network: None,
            certificate: self.certificate.as_ref(),
        };
        let mut count = self.count;
        let mut random = || {
            count += 1;
            [count; 16]
        };
        let at = (NOW, Limits::default());
        let id = id();
        let outcome = self.conversation.handle(&self.store, at, &id, received, &mut random);
        let outcome = outcome.await.unwrap();
        self.count = count;
        outcome
    }

    async fn attempt(&self) -> ArmingAttempt {
        self.store.device_attempts(&id()).await.unwrap().remove(0)
    }
}

/// The scripted device.
struct Foreign {
    script: ScriptedDevice,
    own: Side,
    server: Side,
    /// Set once the server has proved itself for the session.
    server_is_proved: bool,
    nonces: u8,
    /// Challenges that it has sent and received.
    challenges: (u32, u32),
    /// The session token.
    address: String,
}

impl Foreign {
    fn new((own, server): (AuthKind, AuthKind)) -> Self {
        let mut script = ScriptedDevice::new(harness::ID, "unused");
        URL.clone_into(&mut script.client.url);
        Self {
            script,
            own: Side::device(own),
            server: Side::server(server),
            server_is_proved: server == AuthKind::Transport,
            nonces: 0,
            challenges: (0, 0),
            address: URL.to_owned(),
        }
    }

    fn fresh(&mut self) -> Vec<u8> {
        self.nonces += 1;
        vec![0xa0 | self.nonces; 12]
    }

    /// Returns a message under the name of its user, at the address that the server has given.
    fn dressed(&self, mut message: Message) -> Message {
        message.header.source.name = Some(USER.to_owned());
        message.header.target.uri.clone_from(&self.address);
        message
    }

    /// Returns the challenge to the server with a nonce that it has never received.
    fn challenge(&mut self) -> Challenge {
        self.challenges.0 += 1;
        let nonce = self.fresh();
        self.server.nonce.clone_from(&nonce);
        Challenge::new(self.server.kind, &nonce)
    }

    /// Answers a challenge, and challenges the server in the same message.
    fn after_challenge(&mut self, reply: &Message, asked: &Challenge) -> Message {
        self.challenges.1 += 1;
        assert_eq!(asked.kind(), Some(self.own.kind), "the kind that was agreed on");
        if self.own.kind.has_nonce() {
            self.own.nonce = asked.nonce().unwrap();
        }
        let mut message = self.script.first(self.own.credential());
        let code = StatusCode::MISSING_CREDENTIALS;
        let mut status = Status::for_header(CommandId::new(90), &reply.header, code);
        if self.server.kind.has_password() {
            status.challenge = Some(self.challenge());
        } else {
            status.code = StatusCode::OK;
        }
        message.commands.insert(0, Command::Status(status));
        message
    }

    /// Returns the answer to the reply of a proved session; `None` at its end.
    fn answer(&mut self, reply: &Message, is_proved: bool) -> Option<Message> {
        if !is_proved {
            let refused = StatusCode::INVALID_CREDENTIALS;
            let mut header = Status::for_header(CommandId::new(1), &reply.header, refused);
            header.challenge = Some(self.challenge());
            assert!(self.challenges.0 <= 2, "the server has failed a challenge");
            let server = reply.header.message_id;
            let wanted = reply.commands.iter().filter(|command| command.wants_status());
            let statuses = (2..).zip(wanted).map(|(number, command)| {
                let (id, verb) = (command.id(), command.verb());
                Command::Status(Status::new(CommandId::new(number), server, id, verb, refused))
            });
            let commands = [Command::Status(header)].into_iter().chain(statuses).collect();
            return Some(self.script.message(None, commands));
        }
        let mut next = self.script.answer(reply)?;
        let each = self.server.kind == AuthKind::Mac;
        let nonce = self.server.kind.has_nonce().then(|| self.fresh());
        let Some(Command::Status(header)) = next.commands.first_mut() else { panic!("{next:?}") };
        header.code = if each { StatusCode::OK } else { StatusCode::AUTHENTICATED };
        if let Some(nonce) = nonce.filter(|_| each || !self.server_is_proved) {
            header.challenge = Some(Challenge::new(self.server.kind, &nonce));
            self.server.nonce = nonce;
        }
        self.server_is_proved = !each;
        Some(next)
    }

    /// Runs a session to its end.
    async fn run(&mut self, server: &mut Server) {
        let mut message = self.script.first(self.own.credential());
        for _ in 0..30 {
            let message_out = self.dressed(message);
            let outcome = server.receive(&message_out, &self.own).await;
            let (MessageOutcome::Reply(sent)
            | MessageOutcome::AuthRequired(sent)
            | MessageOutcome::AuthFailed(sent)) = outcome
            else {
                panic!("{outcome:?}")
            };
            let reply = decoded(&sent);
            let header = reply.statuses().find(|status| status.verb == Verb::Header).unwrap();
            let challenge = header.challenge.clone();
            if header.code.is_challenge() {
                message = self.after_challenge(&reply, &challenge.expect("a Chal"));
                continue;
            }
            assert!(header.code.is_success(), "{}", header.code);
            if let Some(next) = challenge {
                self.own.nonce = next.nonce().unwrap();
            }
            self.address = reply.header.respond_to.clone().expect("an address");
            assert_eq!(reply.header.source.name.as_deref(), Some(SERVER_ID));
            let is_proved = self.server_is_proved
                || self.server.is_proved(&reply, &sent.bytes, sent.mac.as_ref());
            match self.answer(&reply, is_proved) {
                Some(next) => message = next,
                None => return,
            }
        }
        panic!("the session does not end");
    }
}

fn decoded(sent: &OutboundMessage) -> Message {
    Encoding::Xml.parse(&sent.bytes, &encoding::Limits::default()).unwrap()
}

// test: oma-dm 5.2
#[tokio::test]
async fn a_device_with_an_account_of_its_own_is_armed_with_each_pair_of_kinds() {
    for kinds in pairs() {
        let mut server = Server::enrol(kinds, Delivery::default()).await;
        let mut device = Foreign::new(kinds);
        device.run(&mut server).await;
        let row = server.attempt().await;
        assert_eq!(row.phase, ArmingPhase::Armed, "{kinds:?}: {:?}", row.reason);
        // It knew no nonce, and neither did the server.
        let expected = u32::from(kinds.0.has_nonce());
        assert_eq!(device.challenges.1, expected, "{kinds:?}: challenges of the server");
        let stored = server.store.device(&id()).await.unwrap().unwrap();
        assert_eq!(stored.last_seen, Some(NOW), "{kinds:?}");
    }
}

// test: oma-dm 5.2
#[tokio::test]
async fn a_device_of_others_comes_again_with_the_nonces_of_its_first_session() {
    for kinds in pairs() {
        let mut server = Server::enrol(kinds, Delivery::default()).await;
        let mut device = Foreign::new(kinds);
        device.run(&mut server).await;
        let before = device.challenges;
        device.script.begin_session("2".to_owned());
        device.server_is_proved = kinds.1 == AuthKind::Transport;
        URL.clone_into(&mut device.address);
        device.run(&mut server).await;
        assert_eq!(device.challenges, before, "{kinds:?}: nobody challenges");
    }
}

// test: oma-dm 4.1
#[tokio::test]
async fn a_device_whose_user_cannot_be_asked_is_not_armed() {
    for code in [StatusCode::NOT_SUPPORTED, StatusCode::NOT_DISPLAYABLE] {
        let kinds = (AuthKind::Md5, AuthKind::Md5);
        let ask_user = Some("Update?".to_owned());
        let delivery = Delivery { ask_user, ..Delivery::default() };
        let mut server = Server::enrol(kinds, delivery).await;
        let mut device = Foreign::new(kinds);
        device.script.user = code;
        device.run(&mut server).await;
        let row = server.attempt().await;
        assert_ne!(row.phase, ArmingPhase::Armed, "{code}");
        assert!(row.reason.is_some(), "{code}: {row:?}");
        let executed = device.script.seen.iter().any(|it| matches!(it, Command::Exec(_)));
        assert!(!executed, "{code}");
    }
}

// test: security 7.2 (a certificate of the device names it)
#[tokio::test]
async fn a_device_that_tls_alone_proves_is_nobody_without_its_certificate() {
    let kinds = (AuthKind::Transport, AuthKind::Md5);
    let other = |subject: &str| PeerCertificate {
        subject: Some(subject.to_owned()),
        fingerprint: Digest([9; 32]),
    };
    let mut server = Server::enrol(kinds, Delivery::default()).await;
    let mut device = Foreign::new(kinds);
    let first = device.script.first(None);
    let first = device.dressed(first);
    for certificate in [None, Some(other("LAB-0002"))] {
        server.certificate = certificate;
        let outcome = server.receive(&first, &device.own).await;
        assert!(matches!(outcome, MessageOutcome::NoCertificate), "{outcome:?}");
    }
    // The reply that the device gets is repeated to nobody else, whose message has the same octets.
    server.certificate = Some(other(harness::ID));
    let outcome = server.receive(&first, &device.own).await;
    let MessageOutcome::Reply(reply) = outcome else { panic!("{outcome:?}") };
    server.certificate = None;
    let outcome = server.receive(&first, &device.own).await;
    assert!(matches!(outcome, MessageOutcome::NoCertificate), "{outcome:?}");
    // And its token continues the session over its connections alone.
    device.address = decoded(&reply).header.respond_to.unwrap();
    let next = device.script.answer(&decoded(&reply)).unwrap();
    let next = device.dressed(next);
    let outcome = server.receive(&next, &device.own).await;
    assert!(matches!(outcome, MessageOutcome::NoCertificate), "{outcome:?}");
}
