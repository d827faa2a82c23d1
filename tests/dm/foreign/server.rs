//! A scripted server, against the client of the device.

use proto::{
    dm::{
        auth::{AuthKind, Mac},
        code::{AlertCode, StatusCode},
        encoding::{self, Encoding},
        syncml::{
            Alert, Challenge, Command, CommandId, Exec, Group, Header, Item, Location, Manage,
            Message, MessageId, Status, Verb,
        },
        ui::Answer,
    },
    time::{Mono, Now, Utc},
};
use receiver::dm::{
    Account, Identity, ServerProof, Settings,
    client::{self, DmClient, HttpRequest, HttpResponse, SessionOutcome, Step, Trigger},
};

use super::{SERVER_ID, Side, URL, USER, pairs};
use crate::{device::TestDevice, harness};

const NOW: Now = Now { mono: Mono(0), utc: Utc::from_seconds(1_500) };
const NODE: &str = "./FwUpdate/Main/DownloadAndUpdate";

/// The scripted server.
struct Foreign {
    device: Side,
    own: Side,
    /// Set once the device has proved itself for the session.
    device_is_proved: bool,
    /// Set once the device has accepted the proof of this server for the session.
    is_accepted: bool,
    /// Number of its last message, and the commands of it that await a Status.
    number: u32,
    commands: Vec<Command>,
    /// Commands of its packages to come.
    packages: Vec<Vec<Command>>,
    nonces: u8,
    /// Challenges that it has sent and received.
    challenges: (u32, u32),
    /// Statuses of its commands.
    statuses: Vec<(Verb, StatusCode)>,
}

impl Foreign {
    fn new((device, own): (AuthKind, AuthKind), packages: Vec<Vec<Command>>) -> Self {
        let mut own = Side::server(own);
        // The client does not know it.
        own.nonce = b"of last year".to_vec();
        Self {
            device: Side::device(device),
            own,
            device_is_proved: false,
            is_accepted: false,
            number: 0,
            commands: Vec::new(),
            packages: packages.into_iter().rev().collect(),
            nonces: 0,
            challenges: (0, 0),
            statuses: Vec::new(),
        }
    }

    fn challenge(&mut self) -> Challenge {
        self.nonces += 1;
        self.device.nonce = vec![0xb0 | self.nonces; 9];
        Challenge::new(self.device.kind, &self.device.nonce)
    }

    /// Takes the client's words about this server: its challenge, or its acceptance.
    fn on_header_status(&mut self, message: &Message) {
        let is_own = |status: &&Status| {
            status.verb == Verb::Header && status.message_ref == MessageId::new(self.number)
        };
        let Some(status) = message.statuses().find(is_own) else {
            assert_eq!(self.number, 0, "a message without a Status for the header of the last one");
            return;
        };
        if let Some(next) = status.challenge.as_ref().filter(|_| self.own.kind.has_nonce()) {
            assert_eq!(next.kind(), Some(self.own.kind), "the kind that was agreed on");
            self.own.nonce = next.nonce().unwrap();
        }
        if status.code.is_challenge() {
            self.challenges.1 += 1;
            // What was refused is sent again.
            let refused = std::mem::take(&mut self.commands);
            self.packages.extend(Some(refused).filter(|commands| !commands.is_empty()));
        } else {
            self.is_accepted |= status.code == StatusCode::AUTHENTICATED;
            let others = message.statuses().filter(|status| status.verb != Verb::Header);
            self.statuses.extend(others.map(|status| (status.verb, status.code)));
        }
    }

    /// Returns the reply to a message.
    fn reply(&mut self, message: &Message, body: &[u8], mac: Option<&Mac>) -> Message {
        assert_eq!(message.header.source.name.as_deref(), Some(USER));
        self.on_header_status(message);
        let is_proved = self.device_is_proved || self.device.is_proved(message, body, mac);
        let (code, others) = match (is_proved, self.device.kind) {
            (false, _) => (StatusCode::MISSING_CREDENTIALS, StatusCode::MISSING_CREDENTIALS),
            (true, AuthKind::Mac) => (StatusCode::OK, StatusCode::OK),
            (true, _) => (StatusCode::AUTHENTICATED, StatusCode::OK),
        };
        self.device_is_proved = is_proved && self.device.kind != AuthKind::Mac;
        let mut header = Status::for_header(CommandId::new(1), &message.header, code);
        if !is_proved || (self.device.kind.has_nonce() && code == StatusCode::OK) {
            self.challenges.0 += u32::from(!is_proved);
            header.challenge = Some(self.challenge());
        }
        let mut commands = vec![Command::Status(header)];
        for command in message.commands.iter().filter(|command| command.wants_status()) {
            let id = CommandId::new(u32::try_from(commands.len()).unwrap() + 1);
            let about = message.header.message_id;
            let status = Status::new(id, about, command.id(), command.verb(), others);
            commands.push(Command::Status(status));
        }
        self.commands = if is_proved { self.packages.pop().unwrap_or_default() } else { vec![] };
        commands.extend(self.commands.iter().cloned());
        self.number += 1;
        Message {
            header: Header {
                session_id: message.header.session_id.clone(),
                message_id: MessageId::new(self.number),
                target: Location::named(harness::ID, USER),
                source: Location::named(URL, SERVER_ID),
                // The default port, spelled out.
                respond_to: Some(format!("https://DM.example:443/dm?n={}", self.number)),
                credential: self.own.credential().filter(|_| !self.is_accepted),
                meta: None,
            },
            commands,
            is_final: true,
        }
    }
}

/// Runs a session of the client with the server to its end.
fn run(server: &mut Foreign, device: &mut TestDevice, encoding: Encoding) -> SessionOutcome {
    test_log::capture();
    let (own, theirs) = (server.device.clone(), server.own.clone());
    let settings = Settings {
        identity: Identity::new(harness::id(), "other".to_owned(), "field".to_owned()),
        account: Account {
            url: URL.to_owned(),
            server_id: SERVER_ID.to_owned(),
            encoding,
            auth: own.kind,
            user: USER.to_owned(),
            secret: own.secret,
            server: Some(ServerProof {
                kind: theirs.kind,
                secret: theirs.secret,
                nonce: device.server_nonce.clone(),
            }),
        },
        object: "./FwUpdate/Main".parse().unwrap(),
    };
    let mut client = DmClient::new(settings, client::Limits::default());
    let mut post: HttpRequest = client.start(NOW, device, Trigger::Client, 7);
    for _ in 0..30 {
        let message = encoding.parse(&post.body, &encoding::Limits::default()).unwrap();
        let mac = post.mac.as_deref().map(|text| Mac::parse(text).unwrap());
        let reply = server.reply(&message, &post.body, mac.as_ref());
        let body = encoding.emit(&reply);
        let mac = server.own.mac(&body).map(|mac| mac.emit());
        let reply = HttpResponse { body: &body, mac: mac.as_deref() };
        match client.handle_response(NOW, device, reply) {
            Step::Send(next) => post = next,
            Step::Done(outcome) => return outcome,
            Step::WaitForUser => panic!("the user of the test answers at once"),
        }
    }
    panic!("the session does not end");
}

fn get(id: u32, uri: &str) -> Command {
    Command::Get(Manage::new(CommandId::new(id), vec![Item::target(uri)]))
}

/// Returns the question to the user with the commands that it gates.
fn gated_update() -> Command {
    let text = |text: &str| Item { data: Some(text.into()), ..Item::default() };
    let alert = Alert {
        id: CommandId::new(51),
        code: AlertCode::CONFIRM,
        correlator: None,
        items: vec![text("MINDT=1"), text("Update?")],
    };
    let url = Item::text(format!("{NODE}/PkgURL"), "https://dm.example/package.dd");
    let exec =
        Exec { id: CommandId::new(53), correlator: None, meta: None, item: Item::target(NODE) };
    let commands = vec![
        Command::Alert(alert),
        Command::Replace(Manage::new(CommandId::new(52), vec![url])),
        Command::Exec(Box::new(exec)),
    ];
    Command::Sequence(Group { id: CommandId::new(50), meta: None, commands })
}

// test: oma-dm 5.2
#[test]
fn a_server_of_others_manages_the_device_with_each_pair_of_kinds() {
    for encoding in [Encoding::Xml, Encoding::Wbxml] {
        for kinds in pairs() {
            let first = vec![get(40, "./DevDetail/FwV"), get(41, "./DMAcc/1/AppAuth/2/AAuthType")];
            let mut server = Foreign::new(kinds, vec![first, vec![gated_update()]]);
            let mut device = TestDevice::new(b"of another year".to_vec());
            let outcome = run(&mut server, &mut device, encoding);
            assert_eq!(outcome, SessionOutcome::Complete, "{kinds:?}");
            let codes: Vec<_> = server.statuses.iter().map(|(_, code)| code.0).collect();
            assert_eq!(codes, [200, 200, 200, 200, 200, 202], "{kinds:?}");
            assert!(device.download.is_some(), "{kinds:?}");
            // Both sides began with nonces that the other does not know.
            let expected = [kinds.0, kinds.1].map(|kind| u32::from(kind.has_nonce()));
            assert_eq!(server.challenges, (expected[0], expected[1]), "{kinds:?}");
        }
    }
}

// test: oma-dm 4.1
#[test]
fn what_a_user_who_cannot_be_asked_gates_is_not_executed() {
    for (answer, code) in [(Answer::NoUser, 406), (Answer::NotDisplayable, 416)] {
        let kinds = (AuthKind::Md5, AuthKind::Md5);
        let mut server = Foreign::new(kinds, vec![vec![gated_update()]]);
        let mut device = TestDevice::new(b"of another year".to_vec());
        device.user_says = answer;
        let outcome = run(&mut server, &mut device, Encoding::Xml);
        assert_eq!(outcome, SessionOutcome::Complete);
        let codes: Vec<_> = server.statuses.iter().map(|(_, code)| code.0).collect();
        assert_eq!(codes, [200, code, 215, 215]);
        assert!(device.download.is_none());
    }
}
