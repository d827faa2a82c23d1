//! A scripted device that speaks OMA DM over real sockets.

use proto::dm::{
    auth::Secret,
    code::{AlertCode, Format, StatusCode},
    encoding::{Encoding, Limits},
    fumo::{Operation, OperationResult, ResultCode},
    syncml::{
        Alert, Command, CommandId, Credential, Header, Item, Location, Manage, Message, MessageId,
        Meta, Results, Status,
    },
};
use proto::ids::Correlator;

/// An HTTP answer.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) retry_after: Option<String>,
    pub(super) content_type: Option<String>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn message(&self) -> Message {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        let media_type = self.content_type.as_deref().and_then(Encoding::from_media_type);
        assert_eq!(media_type, Some(Encoding::recognise(&self.body)));
        Encoding::recognise(&self.body).parse(&self.body, &Limits::default()).unwrap()
    }

    pub(super) fn header_code(&self) -> u16 {
        let message = self.message();
        let Command::Status(status) = &message.commands[0] else { panic!() };
        status.code.0
    }

    pub(super) fn reply_address(&self) -> Option<String> {
        self.message().header.respond_to
    }

    pub(super) fn nonce(&self) -> Vec<u8> {
        let message = self.message();
        let Command::Status(status) = &message.commands[0] else { panic!() };
        status.challenge.as_ref().unwrap().nonce().unwrap()
    }
}

pub(super) fn post(url: &str, content_type: &str, body: &[u8]) -> Answer {
    send(url, "POST", None, Some((content_type, body)))
}

pub(super) fn send(
    url: &str,
    method: &str,
    token: Option<&str>,
    body: Option<(&str, &[u8])>,
) -> Answer {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .timeout_global(Some(std::time::Duration::from_secs(10)))
        .build()
        .into();
    let authorization = token.map_or_else(|| "none".to_owned(), |token| format!("Bearer {token}"));
    let mut response = match method {
        "GET" => agent.get(url).header("Authorization", &authorization).call(),
        _ => {
            let (content_type, body) = body.unwrap_or(("application/json", b"{}"));
            agent
                .post(url)
                .header("Authorization", &authorization)
                .content_type(content_type)
                .send(body)
        }
    }
    .unwrap();
    let header =
        |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    Answer {
        status: response.status().as_u16(),
        retry_after: header("retry-after"),
        content_type: header("content-type"),
        body: response.body_mut().read_to_vec().unwrap(),
    }
}

/// A device with its credentials and what it would answer.
pub(super) struct Device {
    pub(super) id: String,
    pub(super) url: String,
    pub(super) encoding: Encoding,
    pub(super) secret: Secret,
    pub(super) nonce: Vec<u8>,
    pub(super) firmware: String,
    pub(super) phase: String,
    pub(super) alerts: Vec<Alert>,
    /// Correlator of the last Exec.
    pub(super) correlator: Option<Correlator>,
    pub(super) session: u32,
    message: u32,
}

impl Device {
    /// Reads the output of enrolment.
    pub(super) fn new(settings: &str, url: String) -> Self {
        let settings: toml::Table = settings.parse().unwrap();
        let server = settings["server"].as_table().unwrap();
        let text = |name: &str| server[name].as_str().unwrap();
        let challenge = proto::dm::syncml::Challenge {
            meta: Meta { next_nonce: Some(text("nonce").to_owned()), ..Meta::default() },
        };
        Self {
            id: text("user").to_owned(),
            url,
            encoding: Encoding::Xml,
            secret: Secret::new(text("user"), text("password")),
            nonce: challenge.nonce().unwrap(),
            firmware: "1.0".to_owned(),
            phase: "idle".to_owned(),
            alerts: Vec::new(),
            correlator: None,
            session: 0,
            message: 0,
        }
    }

    pub(super) fn report(&mut self, code: u16) {
        let result = OperationResult {
            object: Some("./FwUpdate/Main".to_owned()),
            operation: Operation::DownloadAndUpdate,
            result: ResultCode(code),
            correlator: self.correlator.clone(),
        };
        self.alerts.push(result.to_alert(CommandId(3)));
    }

    pub(super) fn next_session(&mut self) {
        self.session += 1;
        self.message = 0;
    }

    /// Makes package 1.
    pub(super) fn first(&mut self, credential: Option<Credential>) -> Vec<u8> {
        let mut commands = vec![
            Command::Alert(Alert {
                id: CommandId(1),
                code: AlertCode::CLIENT_INITIATED,
                correlator: None,
                items: vec![],
            }),
            Command::Replace(Manage::new(
                CommandId(2),
                vec![Item::value("./DevInfo/DevId", Format::Chr, self.id.as_str())],
            )),
        ];
        commands.extend(self.alerts.iter().cloned().map(Command::Alert));
        self.message(credential, commands)
    }

    pub(super) fn credential(&self) -> Credential {
        self.secret.credential(&self.nonce)
    }

    fn message(&mut self, credential: Option<Credential>, commands: Vec<Command>) -> Vec<u8> {
        self.message += 1;
        self.encoding.emit(&Message {
            header: Header {
                session_id: format!("{:X}", self.session),
                message_id: MessageId(self.message),
                target: Location::new(&self.url),
                source: Location::named(&self.id, &self.id),
                respond_to: None,
                credential,
                meta: None,
            },
            commands,
            is_final: true,
        })
    }

    pub(super) fn post(&self, body: &[u8]) -> Answer {
        post(&self.url, self.encoding.media_type(), body)
    }

    /// Runs a whole session with the nonce that it holds.
    pub(super) fn run(&mut self) {
        self.next_session();
        let credential = self.credential();
        let first = self.first(Some(credential));
        let answer = self.post(&first);
        assert_eq!(answer.header_code(), 212);
        self.nonce = answer.nonce();
        self.alerts.clear();
        self.go_on(answer);
    }

    /// Answers the server until the session ends.
    pub(super) fn go_on(&mut self, mut answer: Answer) {
        assert_eq!(Encoding::recognise(&answer.body), self.encoding);
        while let Some((url, body)) = self.reply(&answer.message()) {
            answer = post(&url, self.encoding.media_type(), &body);
        }
    }

    /// Returns where the answer to a message goes, and the answer.
    pub(super) fn reply(&mut self, message: &Message) -> Option<(String, Vec<u8>)> {
        let mut wanted = Vec::new();
        for command in message.commands.iter().filter(|command| command.wants_status()) {
            wanted.push(command.clone());
            if let Command::Sequence(group) | Command::Atomic(group) = command {
                wanted.extend(group.commands.iter().cloned());
            }
        }
        if wanted.is_empty() {
            return None;
        }
        let server = message.header.message_id;
        let mut commands = vec![Command::Status(Status::for_header(
            CommandId(1),
            &message.header,
            StatusCode::OK,
        ))];
        for command in wanted {
            let id = CommandId(u32::try_from(commands.len()).unwrap() + 1);
            let (code, value) = self.respond(&command);
            commands.push(Command::Status(Status::new(
                id,
                server,
                command.id(),
                command.verb(),
                code,
            )));
            if let Some(value) = value {
                commands.push(Command::Results(Results {
                    id: CommandId(id.0 + 1),
                    message_ref: Some(server),
                    command_ref: command.id(),
                    meta: None,
                    items: vec![Item::value("./x", Format::Chr, value)],
                }));
            }
        }
        let url = message.header.respond_to.clone().unwrap();
        Some((url, self.message(None, commands)))
    }

    fn respond(&mut self, command: &Command) -> (StatusCode, Option<String>) {
        match command {
            Command::Get(get) => {
                let uri = get.items[0].target_uri().unwrap();
                let value = match uri.rsplit('/').next().unwrap() {
                    "FwV" => &self.firmware,
                    "Phase" => &self.phase,
                    "Version" => "1.0",
                    "Root" => "1",
                    "State" => "10",
                    _ => "8192",
                };
                (StatusCode::OK, Some(value.to_owned()))
            }
            Command::Exec(exec) => {
                self.correlator = exec.correlator.clone();
                (StatusCode::ACCEPTED, None)
            }
            _ => (StatusCode::OK, None),
        }
    }
}
