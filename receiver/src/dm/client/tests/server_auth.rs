//! Authentication of the server, with a scripted server.

use proto::dm::auth::Mac;

use super::*;
use crate::dm::ServerProof;

/// Starts a session of a device with credentials of the server.
fn begin(kind: AuthKind) -> Talk {
    let mut settings = settings();
    settings.account.auth = kind;
    settings.account.secret = Secret::for_kind(kind, "LAB-0001", "password");
    let nonce = b"server first".to_vec();
    settings.account.server = Some(ServerProof { kind, secret: secret(kind), nonce });
    let client = DmClient::new(settings, Limits::default());
    Talk::begin_with(client, FakeDevice::default(), at(0))
}

fn secret(kind: AuthKind) -> Secret {
    Secret::for_kind(kind, "server", "server password")
}

/// Returns the challenge for the header in the last message of the client.
fn asked(talk: &Talk) -> Option<&Challenge> {
    let Some(Command::Status(status)) = talk.sent.commands.first() else { panic!() };
    assert_eq!(status.verb, Verb::Header);
    status.challenge.as_ref()
}

fn question(talk: &mut Talk) -> Message {
    talk.reply(StatusCode::AUTHENTICATED, vec![get(7, &["./DevDetail/FwV"])])
}

/// Sends a message with its HMAC.
fn receive_with_mac(talk: &mut Talk, message: &Message, user: &str, nonce: &[u8]) -> Step {
    let body = talk.post.encoding.emit(message);
    let mac = Mac { user: user.to_owned(), mac: secret(AuthKind::Mac).mac(nonce, &body) }.emit();
    let reply = HttpResponse { body: &body, mac: Some(&mac) };
    let step = talk.client.handle_response(talk.now, &mut talk.device, reply);
    talk.record(step)
}

// test: oma-dm 5.2
#[test]
fn an_authenticated_server_is_valid_for_the_session_and_gets_the_next_nonce() {
    let mut talk = begin(AuthKind::Md5);
    let mut message = question(&mut talk);
    message.header.credential = Some(secret(AuthKind::Md5).credential(b"server first"));
    talk.receive_and_continue(&message);
    assert_eq!(talk.statuses(), [(Verb::Header, 212), (Verb::Get, 200)]);
    let next = asked(&talk).unwrap();
    assert_eq!((next.kind(), next.nonce()), (Some(AuthKind::Md5), Ok(vec![1; 16])));
    assert_eq!(talk.device.server_nonce, [1; 16], "it is stored before it is sent");
    let message = question(&mut talk);
    talk.receive_and_continue(&message);
    assert_eq!(talk.statuses(), [(Verb::Header, 212), (Verb::Get, 200)]);
    assert_eq!(asked(&talk), None);
}

// test: oma-dm 5.2
#[test]
fn no_command_of_an_unauthenticated_server_is_run() {
    for kind in AuthKind::ALL.into_iter().filter(|kind| kind.has_password()) {
        let mut talk = begin(kind);
        let report = final_alert("c-1", ResultCode::SUCCESS);
        talk.device.queue.push(report);
        let credentials = [
            Some(secret(AuthKind::Md5).credential(b"another nonce")),
            Some(Secret::new("server", "guess").credential(b"server first")),
        ];
        for credential in credentials {
            let mut message = talk.reply(StatusCode::AUTHENTICATED, arming());
            if let Some(Command::Status(status)) = message.commands.first_mut() {
                status.challenge = Some(Challenge::new(kind, b"of a stranger"));
            }
            message.commands.push(sequence(vec![replace(40, "Ext/Broadcast/Disarm", "")]));
            message.header.credential = credential;
            let refused = match talk.receive(&message) {
                Step::Send(_) => talk.statuses(),
                Step::WaitForUser => panic!("nobody is asked"),
                Step::Done(outcome) => {
                    assert_eq!(outcome, SessionOutcome::Failed(SessionError::ServerNotProved));
                    break;
                }
            };
            assert!(refused.len() > 5 && refused.iter().all(|(_, it)| *it == 401), "{refused:?}");
            assert_eq!(talk.sent.commands.len(), refused.len(), "statuses alone");
            assert_eq!(asked(&talk).unwrap().kind(), Some(kind));
        }
        assert!(!talk.client.is_busy(), "after one challenge it is over");
        assert!(talk.device.armed.is_empty() && talk.device.calls.is_empty());
        assert_eq!(talk.device.queue.len(), 1, "nobody in particular has the result");
        assert_eq!(talk.device.nonce, b"first", "nor gives a nonce to keep");
        assert_eq!(talk.device.server_nonce, b"server first");
    }
}

// test: oma-dm 5.2
#[test]
fn commands_without_credentials_end_the_session_with_an_alert_and_no_challenge() {
    for kind in AuthKind::ALL.into_iter().filter(|kind| kind.has_password()) {
        let mut talk = begin(kind);
        talk.device.queue.push(final_alert("c-1", ResultCode::SUCCESS));
        let message = talk.reply(StatusCode::AUTHENTICATED, arming());
        talk.receive_and_continue(&message);
        let refused = talk.statuses();
        assert!(refused.len() > 3 && refused.iter().all(|(_, it)| *it == 407), "{refused:?}");
        assert_eq!(asked(&talk), None);
        assert_eq!(talk.alerts(AlertCode::SESSION_ABORT).len(), 1);
        assert_eq!(talk.sent.commands.len(), refused.len() + 1);
        assert!(talk.sent.is_final);
        let outcome = SessionOutcome::Failed(SessionError::ServerNotProved);
        let thanks = talk.reply(StatusCode::OK, vec![]);
        assert_eq!(talk.receive_and_end(&thanks), outcome);
        assert!(talk.device.armed.is_empty() && talk.device.calls.is_empty());
        assert_eq!(talk.device.queue.len(), 1, "nobody in particular has the result");
        assert_eq!(talk.device.nonce, b"first");
    }
}

// test: oma-dm 5.2
#[test]
fn statuses_without_credentials_need_none_and_count_for_nothing() {
    let mut talk = begin(AuthKind::Md5);
    talk.device.queue.push(final_alert("c-1", ResultCode::SUCCESS));
    let thanks = talk.reply(StatusCode::AUTHENTICATED, vec![]);
    let outcome = SessionOutcome::Failed(SessionError::ServerNotProved);
    assert_eq!(talk.receive_and_end(&thanks), outcome);
    assert_eq!(talk.device.queue.len(), 1);
}

// test: oma-dm 5.2
#[test]
fn each_side_may_challenge_the_other_in_one_exchange() {
    let credentials = [
        (None, 200),
        (Some(secret(AuthKind::Md5).credential(b"of last year")), 401),
        (Some(secret(AuthKind::Md5).credential(b"server first")), 212),
    ];
    for (credential, code) in credentials {
        let mut talk = begin(AuthKind::Md5);
        let first = talk.sent.commands.clone();
        let mut demand = talk.reply(StatusCode::MISSING_CREDENTIALS, vec![]);
        challenge(&mut demand, b"fresh");
        demand.header.credential = credential;
        talk.receive_and_continue(&demand);
        assert_eq!(talk.statuses(), [(Verb::Header, code)]);
        let nonce = asked(&talk).map(|asked| asked.nonce().unwrap());
        assert_eq!(nonce.is_some(), code != 200, "{code}");
        assert_eq!(talk.repeated(), first);
        let mut message = question(&mut talk);
        let nonce = nonce.unwrap_or_else(|| b"server first".to_vec());
        message.header.credential = Some(secret(AuthKind::Md5).credential(&nonce));
        talk.receive_and_continue(&message);
        assert_eq!(talk.statuses(), [(Verb::Header, 212), (Verb::Get, 200)]);
    }
}

// test: oma-dm 5.2
#[test]
fn a_stale_nonce_of_the_server_costs_one_challenge() {
    let mut talk = begin(AuthKind::Md5);
    let mut message = question(&mut talk);
    message.header.credential = Some(secret(AuthKind::Md5).credential(b"of last year"));
    talk.receive_and_continue(&message);
    let nonce = asked(&talk).unwrap().nonce().unwrap();
    assert_eq!(
        talk.device.server_nonce, b"server first",
        "kept until the server has proved itself"
    );
    let mut message = question(&mut talk);
    message.header.credential = Some(secret(AuthKind::Md5).credential(&nonce));
    talk.receive_and_continue(&message);
    assert_eq!(talk.statuses(), [(Verb::Header, 212), (Verb::Get, 200)]);
    assert_eq!(talk.device.server_nonce, [2; 16]);
}

// test: security 7.2 (a nonce of the device is accepted once too)
#[test]
fn credentials_of_the_server_are_valid_once() {
    let mut talk = begin(AuthKind::Md5);
    let credential = secret(AuthKind::Md5).credential(b"server first");
    let mut message = question(&mut talk);
    message.header.credential = Some(credential.clone());
    talk.receive_and_continue(&message);
    let device = std::mem::take(&mut talk.device);
    let mut again = begin(AuthKind::Md5);
    again.device = device;
    let mut message = question(&mut again);
    message.header.credential = Some(credential);
    again.receive_and_continue(&message);
    assert_eq!(again.statuses(), [(Verb::Header, 401), (Verb::Get, 401)]);
}

// test: oma-dm 5.2
#[test]
fn a_session_without_an_answer_leaves_the_nonce_that_the_server_knows() {
    for kind in [AuthKind::Md5, AuthKind::Mac] {
        let mut device = FakeDevice::default();
        for _ in 0..2 {
            let mut talk = begin(kind);
            talk.device = device;
            let mut nothing = talk.reply(StatusCode::AUTHENTICATED, vec![]);
            let step = if kind == AuthKind::Mac {
                receive_with_mac(&mut talk, &nothing, "server", b"server first")
            } else {
                nothing.header.credential = Some(secret(kind).credential(b"server first"));
                talk.receive(&nothing)
            };
            assert_eq!(step, Step::Done(SessionOutcome::Complete), "{kind:?}");
            assert_eq!(talk.device.server_nonce, b"server first");
            device = talk.device;
        }
    }
    // One that was sent in a challenge is the one that the server knows.
    let mut talk = begin(AuthKind::Md5);
    let mut message = question(&mut talk);
    message.header.credential = Some(secret(AuthKind::Md5).credential(b"of last year"));
    talk.receive_and_continue(&message);
    let nonce = asked(&talk).unwrap().nonce().unwrap();
    let mut nothing = talk.reply(StatusCode::AUTHENTICATED, vec![]);
    nothing.header.credential = Some(secret(AuthKind::Md5).credential(&nonce));
    assert_eq!(talk.receive_and_end(&nothing), SessionOutcome::Complete);
    assert_eq!(talk.device.server_nonce, nonce);
}

// test: oma-dm 5.1
#[test]
fn a_server_authenticates_each_message_with_hmac() {
    let mut talk = begin(AuthKind::Mac);
    let message = question(&mut talk);
    let step = receive_with_mac(&mut talk, &message, "somebody", b"server first");
    assert!(matches!(step, Step::Send(_)));
    assert_eq!(talk.statuses(), [(Verb::Header, 401), (Verb::Get, 401)]);
    let mut nonce = asked(&talk).unwrap().nonce().unwrap();
    for _ in 0..3 {
        let message = question(&mut talk);
        receive_with_mac(&mut talk, &message, "server", &nonce);
        assert_eq!(talk.statuses(), [(Verb::Header, 200), (Verb::Get, 200)]);
        nonce = asked(&talk).unwrap().nonce().unwrap();
        assert_eq!(talk.device.server_nonce, nonce);
    }
    let message = question(&mut talk);
    talk.receive_and_continue(&message);
    assert_eq!(talk.statuses(), [(Verb::Header, 407), (Verb::Get, 407)], "each, to the end");
    assert_eq!(talk.alerts(AlertCode::SESSION_ABORT).len(), 1);
}

// test: oma-dm 5.1
#[test]
fn passwords_are_sent_both_ways_over_a_private_transport() {
    let mut talk = begin(AuthKind::Basic);
    let credential = talk.sent.header.credential.clone().unwrap();
    assert!(Secret::new("LAB-0001", "password").proves_basic(&credential));
    let mut message = question(&mut talk);
    message.header.credential = secret(AuthKind::Basic).credential_of(AuthKind::Basic, b"");
    talk.receive_and_continue(&message);
    assert_eq!(talk.statuses(), [(Verb::Header, 212), (Verb::Get, 200)]);
}

// test: security 7.2 (the password itself goes over TLS or stays on the machine)
#[test]
fn a_password_is_not_sent_over_a_public_transport() {
    let mut settings = settings();
    settings.account.auth = AuthKind::Basic;
    settings.account.url = "http://server.example/dm".to_owned();
    settings.account.secret = Secret::for_kind(AuthKind::Basic, "LAB-0001", "password");
    let client = DmClient::new(settings, Limits::default());
    let mut talk = Talk::begin_with(client, FakeDevice::default(), at(0));
    assert_eq!(talk.sent.header.credential, None);
    let mut demand = talk.reply(StatusCode::MISSING_CREDENTIALS, vec![]);
    let Some(Command::Status(status)) = demand.commands.first_mut() else { panic!() };
    status.challenge = Some(Challenge::new(AuthKind::Basic, b""));
    let refused = SessionOutcome::Failed(SessionError::UnsupportedAuthentication);
    assert_eq!(talk.receive_and_end(&demand), refused);
}
