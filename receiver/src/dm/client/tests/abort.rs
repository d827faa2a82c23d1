//! Sessions that this side aborts.

use super::*;

const ABORT: AlertCode = AlertCode::SESSION_ABORT;

fn abort(talk: &mut Talk) -> Option<HttpRequest> {
    let post = talk.client.abort(talk.now, &mut talk.device);
    if let Some(post) = &post {
        talk.record(Step::Send(post.clone()));
    }
    post
}

/// Expects that the last message holds only the abort and the status of the header.
fn expect_abort(talk: &Talk) {
    assert_eq!(talk.sent.commands.len(), 2, "{:?}", talk.sent);
    assert_eq!((talk.statuses().len(), talk.alerts(ABORT).len()), (1, 1));
    assert!(talk.sent.is_final);
}

// test: oma-dm 1.1 (1223)
#[test]
fn an_abort_replaces_the_response() {
    let device = FakeDevice {
        queue: vec![final_alert("c-0", ResultCode::SUCCESS)],
        ..FakeDevice::default()
    };
    let mut talk = Talk::begin(device);
    assert_eq!(abort(&mut talk), None, "the answer of the server is awaited");
    let message = talk.reply(StatusCode::AUTHENTICATED, arming());
    talk.receive_and_continue(&message);
    expect_abort(&talk);
    assert!(talk.device.armed.is_empty(), "nothing more is done");
    assert_eq!(talk.device.acknowledged.len(), 1, "what the server has taken counts");
    assert_eq!(abort(&mut talk), None, "it was sent");
    let late = talk.reply(StatusCode::OK, arming());
    assert_eq!(talk.receive_and_end(&late), SessionOutcome::Aborted);
    assert!(talk.device.armed.is_empty() && !talk.client.is_busy());
    assert_eq!(abort(&mut talk), None, "there is no session");
}

#[test]
fn a_session_that_waits_for_the_user_is_aborted_at_once_and_its_group_rolled_back() {
    let device = FakeDevice { user_answer: None, ..FakeDevice::default() };
    let mut talk = Talk::begin(device);
    let commands = vec![replace(21, "Ext/Broadcast/Opens", "1800"), ask(22)];
    let group = Command::Atomic(Group { id: CommandId::new(20), meta: None, commands });
    let message = talk.reply(StatusCode::AUTHENTICATED, vec![group]);
    assert_eq!(talk.receive(&message), Step::WaitForUser);
    assert!(abort(&mut talk).is_some());
    expect_abort(&talk);
    let step = talk.client.handle_user_answer(talk.now, &mut talk.device, &Answer::Yes);
    assert_eq!(step, Step::WaitForUser, "it comes too late");
    let uri = "./FwUpdate/Main/Ext/Broadcast/Opens";
    let found = talk.client.tree.get(&talk.device, uri).unwrap();
    assert_eq!(found[0].data_text(), Some(""));
    let answer = talk.reply(StatusCode::OK, vec![]);
    assert_eq!(talk.receive_and_end(&answer), SessionOutcome::Aborted);
}

#[test]
fn a_session_that_ends_by_itself_is_not_aborted() {
    let mut talk = Talk::begin(FakeDevice::default());
    assert_eq!(abort(&mut talk), None);
    let nothing = talk.reply(StatusCode::AUTHENTICATED, vec![]);
    assert_eq!(talk.receive_and_end(&nothing), SessionOutcome::Complete);
}

#[test]
fn an_unreachable_server_gets_no_abort() {
    let mut talk = Talk::begin(FakeDevice::default());
    abort(&mut talk);
    let step = talk.client.handle_failure(TransportError::Network);
    assert_eq!(step, Step::Done(SessionOutcome::Aborted));

    let mut talk = Talk::begin(FakeDevice::default());
    abort(&mut talk);
    let mut stale = talk.reply(StatusCode::INVALID_CREDENTIALS, vec![]);
    challenge(&mut stale, b"another");
    assert_eq!(talk.receive_and_end(&stale), SessionOutcome::Aborted);

    let mut talk = Talk::begin(FakeDevice::default());
    abort(&mut talk);
    let message = talk.reply(StatusCode::AUTHENTICATED, arming());
    talk.receive_and_continue(&message);
    let step = talk.client.handle_failure(TransportError::Network);
    assert_eq!(step, Step::Done(SessionOutcome::Aborted), "it is not sent twice");
}

// test: oma-dm 1.1 (1223)
#[test]
fn a_session_that_never_ends_is_aborted_with_its_last_message() {
    let limits = Limits { messages: 3, ..Limits::default() };
    let client = DmClient::new(settings(), limits);
    let mut talk = Talk::begin_with(client, FakeDevice::default(), at(0));
    for aborts in [0, 1] {
        let question = talk.reply(StatusCode::AUTHENTICATED, vec![get(4, &["./DevInfo"])]);
        talk.receive_and_continue(&question);
        assert_eq!(talk.alerts(ABORT).len(), aborts);
    }
    assert_eq!(talk.statuses().len(), 2, "what was done is sent: {:?}", talk.sent);
    let question = talk.reply(StatusCode::AUTHENTICATED, vec![get(4, &["./DevInfo"])]);
    assert_eq!(talk.receive_and_end(&question), SessionOutcome::Failed(SessionError::TooLong));
}
