//! Sessions with a scripted server.

use std::time::Duration;

use proto::{
    dm::{
        alert::GenericAlert,
        auth::{AUTH_MD5, AuthKind, Secret},
        code::{AlertCode, Format, StatusCode},
        encoding,
        fumo::{Operation, OperationResult, ResultCode},
        syncml::*,
        ui::{Answer, Prompt},
    },
    ids::Correlator,
};

use super::*;
use crate::dm::{
    FinalAlert,
    fake::{FakeDevice, at, settings},
};

mod abort;
mod account;
mod groups;
mod large_objects;
mod server_auth;
mod user_prompts;

const URL: &str = "fumocast://232.1.2.3:3400/7?s=192.0.2.1";
const UPDATE: &str = "./FwUpdate/Main/DownloadAndUpdate";

/// A client, its device, and the message that the client sent last.
struct Talk {
    client: DmClient,
    device: FakeDevice,
    post: HttpRequest,
    sent: Message,
    server_message: u32,
    now: Now,
}

impl Talk {
    fn begin(device: FakeDevice) -> Self {
        Self::begin_with(DmClient::new(settings(), Limits::default()), device, at(0))
    }

    fn begin_with(mut client: DmClient, mut device: FakeDevice, now: Now) -> Self {
        let post = client.start(now, &mut device, Trigger::Client, 0x1f);
        let sent = read(&post);
        Self { client, device, post, sent, server_message: 0, now }
    }

    /// Builds a message: `code` for the header, 200 for all commands but statuses, then `commands`.
    fn reply(&mut self, code: StatusCode, commands: Vec<Command>) -> Message {
        self.server_message += 1;
        let header = Header {
            session_id: self.sent.header.session_id.clone(),
            message_id: MessageId::new(self.server_message),
            target: self.sent.header.source.clone(),
            source: self.sent.header.target.clone(),
            respond_to: None,
            credential: None,
            meta: None,
        };
        let mut all =
            vec![Command::Status(Status::for_header(CommandId::new(1), &self.sent.header, code))];
        let answered = self.sent.commands.iter().filter(|command| command.wants_status());
        all.extend(answered.map(|command| {
            let answer = if code.is_success() { StatusCode::OK } else { code };
            let (to, verb) = (self.sent.header.message_id, command.verb());
            Command::Status(Status::new(CommandId::new(2), to, command.id(), verb, answer))
        }));
        all.extend(commands);
        Message { header, commands: all, is_final: true }
    }

    fn receive(&mut self, message: &Message) -> Step {
        self.receive_bytes(&self.post.encoding.emit(message))
    }

    fn receive_bytes(&mut self, octets: &[u8]) -> Step {
        let step = self.client.handle_response(self.now, &mut self.device, octets);
        self.record(step)
    }

    fn record(&mut self, step: Step) -> Step {
        if let Step::Send(post) = &step {
            self.post = post.clone();
            self.sent = read(post);
        }
        step
    }

    /// Expects that the session continues.
    fn receive_and_continue(&mut self, message: &Message) {
        match self.receive(message) {
            Step::Send(_) => {}
            step @ (Step::WaitForUser | Step::Done(_)) => panic!("{step:?}"),
        }
    }

    /// Expects that the session ends.
    fn receive_and_end(&mut self, message: &Message) -> SessionOutcome {
        match self.receive(message) {
            Step::Send(_) | Step::WaitForUser => panic!("{:?}", self.sent),
            Step::Done(outcome) => outcome,
        }
    }

    fn statuses(&self) -> Vec<(Verb, u16)> {
        let mut found = Vec::new();
        for command in &self.sent.commands {
            if let Command::Status(status) = command {
                found.push((status.verb, status.code.0));
            }
        }
        found
    }

    /// Returns the commands of the last message without the status of the challenge to the one
    /// before, numbered from 1.
    fn repeated(&self) -> Vec<Command> {
        let mut repeated = self.sent.clone();
        let Command::Status(status) = repeated.commands.remove(0) else { panic!("{repeated:?}") };
        let challenged = MessageId::new(self.server_message);
        assert_eq!((status.verb, status.message_ref), (Verb::Header, challenged));
        for (id, command) in (1..).zip(&mut repeated.commands) {
            if let Command::Alert(alert) = command {
                alert.id = CommandId::new(id);
            } else if let Command::Replace(replace) = command {
                replace.id = CommandId::new(id);
            }
        }
        repeated.commands
    }

    fn alerts(&self, code: AlertCode) -> Vec<&Alert> {
        let mut found = Vec::new();
        for command in &self.sent.commands {
            if let Command::Alert(alert) = command
                && alert.code == code
            {
                found.push(alert);
            }
        }
        found
    }

    fn results(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for command in &self.sent.commands {
            if let Command::Results(results) = command {
                found.extend(results.items.iter().map(|item| {
                    (item.source_uri().unwrap().to_owned(), item.data_text().unwrap().to_owned())
                }));
            }
        }
        found
    }
}

fn read(post: &HttpRequest) -> Message {
    post.encoding.parse(&post.body, &encoding::Limits::default()).unwrap()
}

fn challenge(message: &mut Message, nonce: &[u8]) {
    let Some(Command::Status(status)) = message.commands.first_mut() else { panic!() };
    status.challenge = Some(Challenge::new(AuthKind::Md5, nonce));
}

fn get(id: u32, uris: &[&str]) -> Command {
    Command::Get(Manage::new(
        CommandId::new(id),
        uris.iter().map(|uri| Item::target(*uri)).collect(),
    ))
}

fn replace(id: u32, path: &str, text: &str) -> Command {
    let item = Item::text(format!("./FwUpdate/Main/{path}"), text);
    Command::Replace(Manage::new(CommandId::new(id), vec![item]))
}

fn exec(id: u32, uri: &str, correlator: Option<&str>) -> Command {
    Command::Exec(Box::new(Exec {
        id: CommandId::new(id),
        correlator: correlator.map(|text| Correlator(text.to_owned())),
        meta: None,
        item: Item::target(uri),
    }))
}

fn alert(id: u32, code: AlertCode) -> Command {
    Command::Alert(Alert { id: CommandId::new(id), code, correlator: None, items: Vec::new() })
}

fn ask(id: u32) -> Command {
    Command::Alert(Prompt::confirm("Update?").to_alert(CommandId::new(id)))
}

fn sequence(commands: Vec<Command>) -> Command {
    Command::Sequence(Group { id: CommandId::new(20), meta: None, commands })
}

fn arming() -> Vec<Command> {
    vec![ask(21), replace(22, "DownloadAndUpdate/PkgURL", URL), exec(23, UPDATE, Some("c-1"))]
}

fn final_alert(correlator: &str, result: ResultCode) -> FinalAlert {
    FinalAlert {
        correlator: Some(Correlator(correlator.to_owned())),
        operation: Operation::DownloadAndUpdate,
        result,
        campaign: None,
        subject: None,
    }
}

fn carried(alert: &Alert) -> OperationResult {
    let item = GenericAlert::from_item(&alert.items[0]).unwrap();
    OperationResult::from_alert(&item, alert.correlator.as_ref()).unwrap().unwrap()
}

// test: oma-dm 1, oma-000 8.2.5, oma-001 8.1.1.5, oma-001 8.1.1.9, oma-001 8.1.1.14, oma-000 8.2.2.note
#[test]
fn a_device_is_armed_with_the_users_consent_and_reports_in_a_later_session() {
    let user_answer = Some(Answer::Yes);
    let mut talk = Talk::begin(FakeDevice { user_answer, nonce: vec![], ..FakeDevice::default() });
    assert_eq!(talk.post.url, "http://127.0.0.1:8080/dm");
    assert_eq!(talk.sent.header.session_id, "1F");
    assert_eq!(talk.sent.header.message_id, MessageId::new(1));
    assert_eq!(talk.sent.header.source, Location::named("LAB-0001", "LAB-0001"));
    assert_eq!(talk.sent.header.credential, None);
    assert_eq!(talk.sent.header.meta.as_ref().unwrap().max_message_size, Some(65_536));
    assert_eq!(talk.alerts(AlertCode::CLIENT_INITIATED).len(), 1);
    assert!(talk.sent.is_final);

    let mut demand = talk.reply(StatusCode::MISSING_CREDENTIALS, vec![]);
    challenge(&mut demand, b"fresh");
    let first = talk.sent.clone();
    talk.receive_and_continue(&demand);
    assert_eq!(talk.statuses(), [(Verb::Header, 200)]);
    assert_eq!(talk.repeated(), first.commands);
    assert_eq!(talk.sent.header.session_id, first.header.session_id);
    assert_eq!(talk.sent.header.message_id, MessageId::new(2));
    let secret = Secret::new("LAB-0001", "password");
    assert!(secret.proves(talk.sent.header.credential.as_ref().unwrap(), b"fresh"));

    let questions = vec![get(4, &["./DevDetail/FwV"]), get(5, &["./FwUpdate/Main/State"])];
    let mut accepted = talk.reply(StatusCode::AUTHENTICATED, questions);
    challenge(&mut accepted, b"next session");
    talk.receive_and_continue(&accepted);
    assert_eq!(talk.device.nonce, b"next session");
    assert_eq!(talk.sent.header.credential, None);
    assert_eq!(talk.statuses(), [(Verb::Header, 200), (Verb::Get, 200), (Verb::Get, 200)]);
    let results = talk.results();
    assert_eq!(results[0], ("./DevDetail/FwV".to_owned(), "1.2.3".to_owned()));
    assert_eq!(results[1], ("./FwUpdate/Main/State".to_owned(), "10".to_owned()));

    let arm = talk.reply(StatusCode::OK, vec![sequence(arming())]);
    talk.receive_and_continue(&arm);
    assert_eq!(
        talk.statuses(),
        [
            (Verb::Header, 200),
            (Verb::Sequence, 200),
            (Verb::Alert, 200),
            (Verb::Replace, 200),
            (Verb::Exec, 202)
        ]
    );
    assert_eq!(talk.device.armed.len(), 1);
    assert_eq!(talk.device.armed[0].correlator, Some(Correlator("c-1".to_owned())));
    let nothing = talk.reply(StatusCode::OK, vec![]);
    assert_eq!(talk.receive_and_end(&nothing), SessionOutcome::Complete);

    talk.device.queue.push(final_alert("c-1", ResultCode::SUCCESS));
    let mut talk = Talk::begin_with(talk.client, talk.device, at(600));
    assert!(secret.proves(talk.sent.header.credential.as_ref().unwrap(), b"next session"));
    let reported: Vec<_> = talk.alerts(AlertCode::GENERIC).into_iter().map(carried).collect();
    assert_eq!(
        reported,
        [OperationResult {
            object: Some("./FwUpdate/Main".to_owned()),
            operation: Operation::DownloadAndUpdate,
            result: ResultCode::SUCCESS,
            correlator: Some(Correlator("c-1".to_owned())),
        }]
    );
    let thanks = talk.reply(StatusCode::AUTHENTICATED, vec![]);
    assert_eq!(talk.receive_and_end(&thanks), SessionOutcome::Complete);
    assert!(talk.device.queue.is_empty());
    assert_eq!(talk.device.acknowledged, [final_alert("c-1", ResultCode::SUCCESS)]);
}

// test: oma-001 8.1.1.9
#[test]
fn a_users_no_stops_the_remaining_commands_of_the_sequence() {
    for (answer, number) in [
        (Answer::No, 304),
        (Answer::Cancelled, 214),
        (Answer::TimedOut, 408),
        (Answer::NotDisplayable, 416),
        (Answer::NoUser, 406),
    ] {
        let mut talk =
            Talk::begin(FakeDevice { user_answer: Some(answer), ..FakeDevice::default() });
        let arm = talk.reply(StatusCode::AUTHENTICATED, vec![sequence(arming())]);
        talk.receive_and_continue(&arm);
        assert_eq!(
            talk.statuses()[1..],
            [(Verb::Sequence, 200), (Verb::Alert, number), (Verb::Replace, 215), (Verb::Exec, 215)]
        );
        assert!(talk.device.armed.is_empty());
    }
}

// test: oma-000 8.2.2, oma-001 8.1.1.3
#[test]
fn package_one_carries_the_device_info_and_the_credentials_of_the_stored_nonce() {
    let talk = Talk::begin(FakeDevice::default());
    let secret = Secret::new("LAB-0001", "password");
    assert!(secret.proves(talk.sent.header.credential.as_ref().unwrap(), b"first"));
    let Command::Replace(info) = &talk.sent.commands[1] else { panic!("{:?}", talk.sent) };
    let sources: Vec<_> = info.items.iter().filter_map(Item::source_uri).collect();
    assert_eq!(
        sources,
        ["./DevInfo/DevId", "./DevInfo/Man", "./DevInfo/Mod", "./DevInfo/DmV", "./DevInfo/Lang"]
    );
}

#[test]
fn a_notified_session_has_its_alert_and_the_session_id_in_upper_case_hex() {
    let mut client = DmClient::new(settings(), Limits::default());
    for (id, text) in [(0, "1"), (1, "1"), (0xbeef, "BEEF")] {
        let post = client.start(at(0), &mut FakeDevice::default(), Trigger::Server, id);
        let sent = read(&post);
        assert_eq!(sent.header.session_id, text);
        let Command::Alert(reason) = &sent.commands[0] else { panic!("{sent:?}") };
        assert_eq!(reason.code, AlertCode::SERVER_INITIATED);
    }
}

// test: oma-dm 5
#[test]
fn a_stale_nonce_costs_one_challenge_and_the_fresh_one_is_not_stored() {
    let mut talk = Talk::begin(FakeDevice::default());
    let mut demand = talk.reply(StatusCode::INVALID_CREDENTIALS, vec![]);
    challenge(&mut demand, b"fresh");
    talk.receive_and_continue(&demand);
    let secret = Secret::new("LAB-0001", "password");
    assert!(secret.proves(talk.sent.header.credential.as_ref().unwrap(), b"fresh"));
    assert_eq!(talk.device.nonce, b"first");
}

#[test]
fn a_server_that_never_accepts_the_credentials_ends_the_session() {
    let mut talk = Talk::begin(FakeDevice::default());
    for _ in 0..2 {
        let mut demand = talk.reply(StatusCode::INVALID_CREDENTIALS, vec![]);
        challenge(&mut demand, b"fresh");
        talk.receive_and_continue(&demand);
    }
    let mut demand = talk.reply(StatusCode::INVALID_CREDENTIALS, vec![]);
    challenge(&mut demand, b"fresh");
    let refused = SessionOutcome::Failed(SessionError::CredentialsRefused);
    assert_eq!(talk.receive_and_end(&demand), refused);
    assert!(!talk.client.is_busy());
}

#[test]
fn commands_beside_a_challenge_are_not_run() {
    let mut talk = Talk::begin(FakeDevice::default());
    let mut demand = talk.reply(StatusCode::INVALID_CREDENTIALS, arming());
    challenge(&mut demand, b"fresh");
    talk.receive_and_continue(&demand);
    assert!(talk.device.armed.is_empty());
}

#[test]
fn a_demand_for_weaker_credentials_ends_the_session() {
    let mut talk = Talk::begin(FakeDevice::default());
    let mut demand = talk.reply(StatusCode::INVALID_CREDENTIALS, vec![]);
    challenge(&mut demand, b"fresh");
    let Some(Command::Status(status)) = demand.commands.first_mut() else { panic!() };
    status.challenge.as_mut().unwrap().meta.kind = Some("syncml:auth-basic".to_owned());
    let refused = SessionOutcome::Failed(SessionError::UnsupportedAuthentication);
    assert_eq!(talk.receive_and_end(&demand), refused);
}

#[test]
fn a_server_that_trusts_each_message_alone_gets_credentials_in_each() {
    let mut talk = Talk::begin(FakeDevice::default());
    let mut question = talk.reply(StatusCode::OK, vec![get(4, &["./DevDetail/FwV"])]);
    challenge(&mut question, b"second");
    talk.receive_and_continue(&question);
    let credential = talk.sent.header.credential.as_ref().unwrap();
    assert_eq!(credential.meta.kind.as_deref(), Some(AUTH_MD5));
    assert!(Secret::new("LAB-0001", "password").proves(credential, b"second"));
    assert_eq!(talk.device.nonce, b"second");
}

#[test]
fn a_refused_exec_is_accepted_and_its_result_follows_in_the_same_session() {
    let refusal = final_alert("c-1", ResultCode::REFUSED);
    let mut talk =
        Talk::begin(FakeDevice { refusal: Some(refusal.clone()), ..FakeDevice::default() });
    let arm = talk.reply(
        StatusCode::AUTHENTICATED,
        vec![replace(8, "DownloadAndUpdate/PkgURL", URL), exec(9, UPDATE, Some("c-1"))],
    );
    talk.receive_and_continue(&arm);
    assert_eq!(talk.statuses()[1..], [(Verb::Replace, 200), (Verb::Exec, 202)]);
    let alerts = talk.alerts(AlertCode::GENERIC);
    assert_eq!(carried(alerts[0]).result, ResultCode::REFUSED);
    let thanks = talk.reply(StatusCode::OK, vec![]);
    assert_eq!(talk.receive_and_end(&thanks), SessionOutcome::Complete);
    assert_eq!(talk.device.acknowledged, [refusal]);
}

#[test]
fn a_url_of_another_scheme_ends_with_a_bad_url_as_on_a_plain_client() {
    let mut talk = Talk::begin(FakeDevice::default());
    let arm = talk.reply(
        StatusCode::AUTHENTICATED,
        vec![replace(8, "DownloadAndUpdate/PkgURL", "https://x/y"), exec(9, UPDATE, None)],
    );
    talk.receive_and_continue(&arm);
    assert_eq!(talk.statuses()[1..], [(Verb::Replace, 200), (Verb::Exec, 202)]);
    let result = carried(talk.alerts(AlertCode::GENERIC)[0]);
    assert_eq!((result.result, result.correlator), (ResultCode::BAD_URL, None));
}

#[test]
fn a_result_stays_until_it_is_acknowledged_and_goes_out_once_a_session() {
    let result = final_alert("c-1", ResultCode::SUCCESS);
    for code in [StatusCode::UNSUPPORTED_FORMAT, StatusCode::FAILED, StatusCode::RETRY_LATER] {
        let queue = vec![result.clone()];
        let mut talk = Talk::begin(FakeDevice { queue, ..FakeDevice::default() });
        let mut answer = talk.reply(StatusCode::AUTHENTICATED, vec![get(9, &["./DevDetail/FwV"])]);
        for command in answer.commands.iter_mut().skip(1) {
            if let Command::Status(status) = command {
                status.code = code;
            }
        }
        talk.receive_and_continue(&answer);
        assert!(talk.alerts(AlertCode::GENERIC).is_empty());
        assert_eq!(talk.device.queue, std::slice::from_ref(&result));
        let talk = Talk::begin_with(talk.client, talk.device, at(60));
        assert_eq!(talk.alerts(AlertCode::GENERIC).len(), 1);
    }
}

#[test]
fn a_status_for_another_command_acknowledges_nothing() {
    let queue = vec![final_alert("c-1", ResultCode::SUCCESS)];
    let mut talk = Talk::begin(FakeDevice { queue, ..FakeDevice::default() });
    let mut answer = talk.reply(StatusCode::AUTHENTICATED, vec![]);
    answer.commands.retain(
        |command| !matches!(command, Command::Status(status) if status.command_ref == CommandId::new(3)),
    );
    assert_eq!(talk.receive_and_end(&answer), SessionOutcome::Complete);
    assert_eq!(talk.device.queue.len(), 1);
}

#[test]
fn a_lost_response_is_requested_again_with_the_same_bytes() {
    let mut talk = Talk::begin(FakeDevice::default());
    let first = talk.post.clone();
    assert_eq!(talk.client.handle_failure(TransportError::Network), Step::Send(first));
    assert_eq!(
        talk.client.handle_failure(TransportError::Network),
        Step::Done(SessionOutcome::Failed(SessionError::Unreachable))
    );
    assert!(!talk.client.is_busy());
}

#[test]
fn a_busy_server_gets_no_request_for_the_time_that_it_sets() {
    let wait = Some(Duration::from_secs(120));
    for status in [429, 503] {
        let mut talk = Talk::begin(FakeDevice::default());
        assert_eq!(
            talk.client.handle_failure(TransportError::Http { status, retry_after: wait }),
            Step::Done(SessionOutcome::RetryLater { wait })
        );
    }
    for code in [StatusCode::RETRY_LATER, StatusCode::UNAVAILABLE] {
        let mut talk = Talk::begin(FakeDevice::default());
        let mut later = talk.reply(code, arming());
        later.header.respond_to = Some("http://x/dm?after=20270115T080200Z".to_owned());
        assert_eq!(talk.receive_and_end(&later), SessionOutcome::RetryLater { wait });
        assert!(talk.device.armed.is_empty());
    }
    let mut talk = Talk::begin(FakeDevice::default());
    let failure = TransportError::Http { status: 404, retry_after: None };
    let failed = Step::Done(SessionOutcome::Failed(SessionError::Http(404)));
    assert_eq!(talk.client.handle_failure(failure), failed);
}

#[test]
fn a_respond_uri_is_followed_if_it_leads_to_the_same_server() {
    let question = |talk: &mut Talk, address: &str| {
        let mut question =
            talk.reply(StatusCode::AUTHENTICATED, vec![get(4, &["./DevDetail/FwV"])]);
        question.header.respond_to = Some(address.to_owned());
        question
    };
    let mut talk = Talk::begin(FakeDevice::default());
    let message = question(&mut talk, "http://127.0.0.1:8080/dm?s=1");
    talk.receive_and_continue(&message);
    assert_eq!(talk.post.url, "http://127.0.0.1:8080/dm?s=1");
    let mut secure = settings();
    secure.account.url = "https://server.example/dm".to_owned();
    let client = DmClient::new(secure, Limits::default());
    let mut talk = Talk::begin_with(client, FakeDevice::default(), at(0));
    let message = question(&mut talk, "http://server.example/dm");
    assert!(matches!(
        talk.receive_and_end(&message),
        SessionOutcome::Failed(SessionError::Protocol(_))
    ));
    for address in [
        "file:///etc/passwd",
        "http://a b/",
        "https://127.0.0.1:8080/dm",
        "http://127.0.0.1:8081/dm",
        "http://127.0.0.1:8080@other.example/dm",
        &format!("http://127.0.0.1:8080/{}", "x".repeat(2000)),
    ] {
        let mut talk = Talk::begin(FakeDevice::default());
        let message = question(&mut talk, address);
        let outcome = talk.receive_and_end(&message);
        assert!(matches!(outcome, SessionOutcome::Failed(SessionError::Protocol(_))), "{address}");
    }
}

#[test]
fn a_challenge_with_a_respond_uri_is_answered_there() {
    let mut talk = Talk::begin(FakeDevice::default());
    let mut demand = talk.reply(StatusCode::INVALID_CREDENTIALS, vec![]);
    challenge(&mut demand, b"fresh");
    demand.header.respond_to = Some("http://127.0.0.1:8080/dm?s=1".to_owned());
    talk.receive_and_continue(&demand);
    assert_eq!(talk.post.url, "http://127.0.0.1:8080/dm?s=1");
}

#[test]
fn an_abort_ends_the_session_without_an_answer() {
    let mut talk = Talk::begin(FakeDevice::default());
    let mut commands = vec![alert(7, AlertCode::SESSION_ABORT)];
    commands.extend(arming());
    let abort = talk.reply(StatusCode::AUTHENTICATED, commands);
    assert_eq!(talk.receive_and_end(&abort), SessionOutcome::Failed(SessionError::AbortedByServer));
    assert!(talk.device.armed.is_empty());
}

// test: oma-dm 1
#[test]
fn an_unfinished_package_of_the_server_is_answered_with_next_message_and_without_final() {
    let mut talk = Talk::begin(FakeDevice::default());
    let mut part =
        talk.reply(StatusCode::AUTHENTICATED, vec![replace(8, "DownloadAndUpdate/PkgURL", URL)]);
    part.is_final = false;
    talk.receive_and_continue(&part);
    assert!(!talk.sent.is_final);
    assert_eq!(talk.alerts(AlertCode::NEXT_MESSAGE).len(), 1);
    assert_eq!(talk.statuses(), [(Verb::Header, 200), (Verb::Replace, 200)]);
    let second = talk.reply(StatusCode::OK, vec![exec(9, UPDATE, Some("c-1"))]);
    talk.receive_and_continue(&second);
    assert!(talk.sent.is_final);
    assert!(talk.alerts(AlertCode::NEXT_MESSAGE).is_empty());
    assert_eq!(talk.device.armed.len(), 1);
}

#[test]
fn a_response_beyond_the_message_size_of_the_server_is_sent_in_parts() {
    let mut talk = Talk::begin(FakeDevice::default());
    let commands = (0..20).map(|id| get(10 + id, &["./DevInfo"])).collect();
    let mut questions = talk.reply(StatusCode::AUTHENTICATED, commands);
    questions.header.meta = Some(Meta { max_message_size: Some(3000), ..Meta::default() });
    talk.receive_and_continue(&questions);
    let (mut statuses, mut results, mut messages) = (0, 0, 1);
    loop {
        assert!(talk.post.body.len() <= 3000, "{}", talk.post.body.len());
        statuses += talk.statuses().iter().filter(|(verb, _)| *verb == Verb::Get).count();
        results += talk.results().len();
        if talk.sent.is_final {
            break;
        }
        messages += 1;
        let mut more = talk.reply(StatusCode::OK, vec![alert(2, AlertCode::NEXT_MESSAGE)]);
        more.is_final = false;
        talk.receive_and_continue(&more);
    }
    assert_eq!((statuses, results), (20, 20));
    assert!(messages > 2, "{messages}");
    let nothing = talk.reply(StatusCode::OK, vec![]);
    assert_eq!(talk.receive_and_end(&nothing), SessionOutcome::Complete);
}

#[test]
fn unrelated_responses_end_the_session() {
    let broken = |change: fn(&mut Message)| {
        let mut talk = Talk::begin(FakeDevice::default());
        let mut message = talk.reply(StatusCode::AUTHENTICATED, arming());
        change(&mut message);
        let outcome = talk.receive_and_end(&message);
        assert!(talk.device.armed.is_empty());
        assert!(!talk.client.is_busy());
        outcome
    };
    for outcome in [
        broken(|message| message.header.session_id = "2".to_owned()),
        broken(|message| message.commands.clear()),
        broken(|message| {
            let Command::Status(status) = &mut message.commands[0] else { panic!() };
            status.message_ref = MessageId::new(9);
        }),
    ] {
        assert!(
            matches!(outcome, SessionOutcome::Failed(SessionError::Protocol(_))),
            "{outcome:?}"
        );
    }
    let refused = broken(|message| {
        let Command::Status(status) = &mut message.commands[0] else { panic!() };
        status.code = StatusCode::SERVER_FAILURE;
    });
    let failure = SessionError::Refused(StatusCode::SERVER_FAILURE);
    assert_eq!(refused, SessionOutcome::Failed(failure));
}

#[test]
fn bytes_that_are_no_message_end_the_session() {
    for octets in [b"".as_slice(), b"<html/>", &[0; 100], &vec![b' '; 64 * 1024 + 1]] {
        let mut talk = Talk::begin(FakeDevice::default());
        let step = talk.receive_bytes(octets);
        let unreadable =
            matches!(&step, Step::Done(SessionOutcome::Failed(SessionError::Unreadable(_))));
        assert!(unreadable, "{step:?}");
    }
    let mut client = DmClient::new(settings(), Limits::default());
    let step = client.handle_response(at(0), &mut FakeDevice::default(), b"");
    assert_eq!(step, Step::Done(SessionOutcome::Failed(SessionError::NoSession)));
}

#[test]
fn every_prefix_of_a_response_is_rejected() {
    let mut talk = Talk::begin(FakeDevice::default());
    let octets = Encoding::Xml.emit(&talk.reply(StatusCode::AUTHENTICATED, arming()));
    for length in (0..octets.len()).step_by(7) {
        let mut talk = Talk::begin(FakeDevice::default());
        let step = talk.receive_bytes(&octets[..length]);
        assert!(matches!(step, Step::Done(SessionOutcome::Failed(_))), "{length}");
        assert!(talk.device.armed.is_empty());
    }
}

#[test]
fn items_with_different_outcomes_get_a_status_each() {
    let mut talk = Talk::begin(FakeDevice::default());
    let uris = ["./DevDetail/FwV", "./Nowhere"];
    let question = talk.reply(StatusCode::AUTHENTICATED, vec![get(4, &uris)]);
    talk.receive_and_continue(&question);
    assert_eq!(talk.statuses()[1..], [(Verb::Get, 200), (Verb::Get, 404)]);
    assert_eq!(talk.results().len(), 1);
    let Command::Status(status) = &talk.sent.commands[2] else { panic!("{:?}", talk.sent) };
    assert_eq!(status.target_refs, ["./Nowhere"]);
}

#[test]
fn a_get_beyond_the_limit_of_results_is_rejected() {
    let mut talk = Talk::begin(FakeDevice::default());
    let line = "u".repeat(500);
    let sessions = replace(3, "Ext/Broadcast/Sessions", &vec![line; 16].join("\n"));
    let uris = ["./FwUpdate/Main/Ext/Broadcast/Sessions"; 5];
    let question = talk.reply(StatusCode::AUTHENTICATED, vec![sessions, get(4, &uris)]);
    talk.receive_and_continue(&question);
    assert_eq!(talk.results().len(), 4);
    assert_eq!(talk.statuses().last(), Some(&(Verb::Get, 413)));
}

#[test]
fn an_incomplete_command_and_an_unknown_one_have_their_statuses() {
    let mut talk = Talk::begin(FakeDevice::default());
    let mut item = Item::text("./FwUpdate/Main/DownloadAndUpdate/PkgURL", URL);
    item.more_data = true;
    let large = Command::Replace(Manage::new(CommandId::new(8), vec![item]));
    let copy = Command::Copy(Manage::new(CommandId::new(9), vec![Item::target("./DevInfo")]));
    let event = alert(10, AlertCode::CLIENT_EVENT);
    let message = talk.reply(StatusCode::AUTHENTICATED, vec![large, copy, event]);
    talk.receive_and_continue(&message);
    assert_eq!(talk.statuses()[1..], [(Verb::Replace, 411), (Verb::Copy, 412), (Verb::Alert, 406)]);
}

#[test]
fn a_format_said_once_for_the_command_holds_for_its_items() {
    let mut talk = Talk::begin(FakeDevice::default());
    let mut item = Item::octets("./FwUpdate/Main/Ext/Broadcast/Manifest", *b"manifest");
    item.meta = None;
    let mut manage = Manage::new(CommandId::new(8), vec![item]);
    manage.meta = Some(Meta::format(Format::B64));
    let message = talk.reply(
        StatusCode::AUTHENTICATED,
        vec![
            Command::Replace(manage),
            replace(9, "DownloadAndUpdate/PkgURL", URL),
            exec(10, UPDATE, None),
        ],
    );
    talk.receive_and_continue(&message);
    assert_eq!(talk.device.armed[0].manifest, b"manifest");
}

#[test]
fn the_staged_writes_of_one_session_do_not_arm_in_the_next() {
    let mut talk = Talk::begin(FakeDevice::default());
    let write =
        talk.reply(StatusCode::AUTHENTICATED, vec![replace(8, "DownloadAndUpdate/PkgURL", URL)]);
    talk.receive_and_continue(&write);
    let mut talk = Talk::begin_with(talk.client, talk.device, at(60));
    let start = talk.reply(StatusCode::AUTHENTICATED, vec![exec(9, UPDATE, None)]);
    talk.receive_and_continue(&start);
    assert!(talk.device.armed.is_empty());
    assert_eq!(talk.device.queue[0].result, ResultCode::BAD_URL);
}

#[test]
fn the_debug_form_of_client_and_post_hides_secrets() {
    let talk = Talk::begin(FakeDevice::default());
    let digest = talk.sent.header.credential.clone().unwrap().data;
    let shown = format!("{:?} {:?}", talk.post, settings().account);
    assert!(!shown.contains(&digest) && !shown.contains("LAB-0001"), "{shown}");
}

// test: oma-dm 5.1
#[test]
fn a_server_that_requires_it_gets_an_hmac_of_each_message() {
    let mut talk = Talk::begin(FakeDevice::default());
    assert_eq!(talk.post.mac, None);
    let mut demand = talk.reply(StatusCode::INVALID_CREDENTIALS, vec![]);
    let Some(Command::Status(status)) = demand.commands.first_mut() else { panic!() };
    status.challenge = Some(Challenge::new(AuthKind::Mac, b"fresh"));
    talk.receive_and_continue(&demand);
    let secret = Secret::new("LAB-0001", "password");
    let proves = |post: &HttpRequest, nonce: &[u8]| {
        let mac = proto::dm::auth::Mac::parse(post.mac.as_ref().unwrap()).unwrap();
        mac.user == "LAB-0001" && secret.proves_message(&mac, nonce, &post.body)
    };
    assert!(proves(&talk.post, b"fresh"));
    assert_eq!(talk.sent.header.credential, None);
    for nonce in [b"second", b"third!"] {
        let mut next = talk.reply(StatusCode::OK, vec![get(4, &["./DevDetail/FwV"])]);
        let Some(Command::Status(status)) = next.commands.first_mut() else { panic!() };
        status.challenge = Some(Challenge::new(AuthKind::Mac, nonce));
        talk.receive_and_continue(&next);
        assert!(proves(&talk.post, nonce));
    }
    assert_eq!(talk.device.nonce, b"third!");
}
