//! Peers without a session, and messages that claim to continue one.

use proto::dm::{
    auth::AuthKind,
    syncml::{Challenge, Status},
};

use super::*;
use crate::fleet::device::{DeviceNonce, ServerCredentials};

#[test]
fn missing_and_wrong_credentials_get_a_challenge_and_no_command_is_executed() {
    for (credential, code) in
        [(None, 407), (Some(Secret::new("a", "wrong").credential(&[1; 16])), 401)]
    {
        let mut context = device_context();
        scripted().run(&mut context);
        let before = context.clone();
        let mut device = scripted();
        let first = Command::Alert(final_alert(200, Some("c1")));
        let message = device.message(credential, vec![first]);
        let (outcome, _) = open(&mut context, &message, NOW, Limits::default(), &mut || [7; 16]);
        let (MessageOutcome::AuthRequired(reply) | MessageOutcome::AuthFailed(reply)) = outcome
        else {
            panic!("{outcome:?}")
        };
        let reply = decoded(&reply);
        assert_eq!(codes(&reply), [(Verb::Header, code), (Verb::Alert, code)]);
        assert!(reply.commands.iter().all(|command| !command.wants_status()));
        let Command::Status(status) = &reply.commands[0] else { panic!() };
        let nonce = keys(NOW).nonce("a", 0).0.to_vec();
        assert_eq!(status.challenge.as_ref().unwrap().nonce(), Ok(nonce));
        assert_eq!(context, before);
    }
}

#[test]
fn a_message_continues_a_session_only_by_its_token_and_a_higher_number() {
    let mut context = device_context();
    let mut device = scripted();
    let first = device.first_with(&[1; 16]);
    let (session, reply) =
        accepted(open(&mut context, &first, NOW, Limits::default(), &mut || [7; 16]));
    let uri = reply.header.respond_to.clone().unwrap();
    let token = uri.strip_prefix("http://127.0.0.1:8080/dm?s=").unwrap();
    let next = device.answer(&reply).unwrap();
    assert!(session.is_continued_by(&next, Some(token)));
    assert!(!session.is_continued_by(&next, None));
    assert!(!session.is_continued_by(&next, Some("")));
    assert!(!session.is_continued_by(&first, Some(token)), "its number was used");
    let mut other = next;
    other.header.session_id = "2".to_owned();
    assert!(!session.is_continued_by(&other, Some(token)));
}

#[test]
fn a_reply_and_a_refusal_announce_the_limits_of_the_server() {
    let limits = Limits { message_bytes: 10_000, object_bytes: 20_000, ..Limits::default() };
    for is_authentic in [true, false] {
        let mut context = device_context();
        let mut first = scripted().first_with(&[1; 16]);
        if !is_authentic {
            first.header.credential = None;
        }
        let (outcome, _) = open(&mut context, &first, NOW, limits, &mut || [7; 16]);
        let (MessageOutcome::Reply(reply) | MessageOutcome::AuthRequired(reply)) = outcome else {
            panic!("{outcome:?}")
        };
        let meta = decoded(&reply).header.meta.unwrap();
        assert_eq!((meta.max_message_size, meta.max_object_size), (Some(10_000), Some(20_000)));
    }
}

/// Returns package 1 of the scripted device with a Status for the header of message `about` in
/// front.
fn first_after(device: &mut ScriptedDevice, about: u32, code: u16, nonce: &[u8]) -> Message {
    let mut first = device.first_with(&[1; 16]);
    let mut status = Status::new(
        CommandId::new(90),
        MessageId::new(about),
        CommandId::HEADER,
        Verb::Header,
        StatusCode(code),
    );
    status.challenge = Some(Challenge::new(AuthKind::Md5, nonce));
    first.commands.insert(0, Command::Status(status));
    first
}

// test: oma-dm 5
#[test]
fn a_device_that_challenges_the_server_in_the_answer_to_a_challenge_is_managed() {
    for code in [401, 407, 212, 500] {
        let mut context = device_context();
        context.device.server = Some(ServerCredentials {
            secret: Secret::new("fumocast", "server password").into(),
            nonce: DeviceNonce(b"of last year".to_vec()),
        });
        let mut device = scripted();
        // The challenge was message 1 of the server, and of no session.
        let first = first_after(&mut device, 1, code, b"fresh nonce");
        let (session, reply) =
            accepted(open(&mut context, &first, NOW, Limits::default(), &mut || [7; 16]));
        assert!(!session.is_finished(), "{code}");
        let proof = Secret::new("fumocast", "server password");
        let credential = reply.header.credential.as_ref().unwrap();
        assert!(proof.proves(credential, b"fresh nonce"), "{code}");
    }
}

// test: oma-dm 5
#[test]
fn a_header_status_of_0_ends_no_session_and_one_of_an_error_does() {
    for (code, goes_on) in [(0, true), (500, false)] {
        let mut context = device_context();
        let mut device = scripted();
        let first = device.first_with(&[1; 16]);
        let (mut session, reply) =
            accepted(open(&mut context, &first, NOW, Limits::default(), &mut || [7; 16]));
        let mut next = device.answer(&reply).unwrap();
        let Some(Command::Status(status)) = next.commands.first_mut() else { panic!("{next:?}") };
        assert_eq!(status.verb, Verb::Header);
        status.code = StatusCode(code);
        proceed(&mut session, &mut context, &next, NOW, &mut || [7; 16]);
        assert_eq!(!session.is_finished(), goes_on, "{code}");
    }
}
