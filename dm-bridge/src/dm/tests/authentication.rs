//! Peers without a session, and messages that claim to continue one.

use super::*;

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
