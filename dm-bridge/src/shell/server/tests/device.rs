//! A scripted device that speaks OMA DM over real sockets.

use proto::{
    dm::{
        encoding::{Encoding, Limits},
        syncml::{Command, Credential, Message, Meta},
    },
    fixtures::device::{ScriptedDevice, final_alert},
};

/// An HTTP answer.
pub(super) struct Answer {
    pub(super) status: u16,
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
        status_of_header(&self.message())
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

/// Returns the code of the header of an answer.
pub(super) fn status_of_header(message: &Message) -> u16 {
    let Command::Status(status) = &message.commands[0] else { panic!() };
    status.code.0
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
            let request = if method == "PUT" { agent.put(url) } else { agent.post(url) };
            request.header("Authorization", &authorization).content_type(content_type).send(body)
        }
    }
    .unwrap();
    let header =
        |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    Answer {
        status: response.status().as_u16(),
        content_type: header("content-type"),
        body: response.body_mut().read_to_vec().unwrap(),
    }
}

/// A scripted device over real sockets.
pub(super) struct Device {
    pub(super) script: ScriptedDevice,
    pub(super) encoding: Encoding,
    pub(super) nonce: Vec<u8>,
    session: u32,
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
        let mut script = ScriptedDevice::new(text("user"), text("password"));
        script.client.url = url;
        script.set("Broadcast/Root", "1");
        Self { script, encoding: Encoding::Xml, nonce: challenge.nonce().unwrap(), session: 0 }
    }

    pub(super) fn report(&mut self, code: u16) {
        let correlator = self.script.correlator().map(|correlator| correlator.0.clone());
        self.script.alerts.push(final_alert(code, correlator.as_deref()));
    }

    pub(super) fn next_session(&mut self) {
        self.session += 1;
        self.script.begin_session(format!("{:X}", self.session));
    }

    /// Makes package 1.
    pub(super) fn first(&mut self, credential: Option<Credential>) -> Vec<u8> {
        self.encoding.emit(&self.script.first(credential))
    }

    pub(super) fn credential(&self) -> Credential {
        self.script.client.secret.credential(&self.nonce)
    }

    pub(super) fn post(&self, body: &[u8]) -> Answer {
        post(&self.script.client.url, self.encoding.media_type(), body)
    }

    /// Runs a whole session with the nonce that it holds.
    pub(super) fn run(&mut self) {
        self.next_session();
        let credential = self.credential();
        let first = self.first(Some(credential));
        let answer = self.post(&first);
        assert_eq!(answer.header_code(), 212);
        self.nonce = answer.nonce();
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
        let answer = self.script.answer(message)?;
        Some((message.header.respond_to.clone().unwrap(), self.encoding.emit(&answer)))
    }
}
