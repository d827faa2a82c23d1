//! Questions to the user that are answered later, and what they gate.

use super::*;

fn resting(commands: Vec<Command>) -> Talk {
    let mut talk = Talk::begin(FakeDevice { user_answer: None, ..FakeDevice::default() });
    let message = talk.reply(StatusCode::AUTHENTICATED, commands);
    assert_eq!(talk.hear(&message), Step::WaitForUser);
    talk
}

fn answer(talk: &mut Talk, answer: &Answer) -> Step {
    let step = talk.client.handle_user_answer(talk.now, &mut talk.device, answer);
    talk.take(step)
}

fn atomic(commands: Vec<Command>) -> Command {
    Command::Atomic(Group { id: CommandId(30), meta: None, commands })
}

// test: oma-001 8.1.1.9
#[test]
fn a_session_rests_until_the_user_has_answered_and_then_goes_on() {
    for (said, armed, codes) in [
        (Answer::Yes, 1, [200, 200, 200, 202]),
        (Answer::No, 0, [200, 304, 215, 215]),
        (Answer::TimedOut, 0, [200, 408, 215, 215]),
    ] {
        let mut talk = resting(vec![sequence(arming()), get(40, &["./DevDetail/FwV"])]);
        assert!(talk.device.armed.is_empty(), "nothing that is gated happens before");
        assert_eq!(talk.device.asked, [Prompt::confirm("Update?")]);
        assert!(matches!(answer(&mut talk, &said), Step::Send(_)));
        let found: Vec<_> = talk.statuses()[1..].iter().map(|(_, code)| *code).collect();
        assert_eq!(found, [&codes[..], &[200]].concat(), "{said:?}");
        assert_eq!(talk.device.armed.len(), armed, "{said:?}");
        assert_eq!(talk.results().len(), 1, "what is outside of the Sequence is done");
    }
}

// test: oma-dm 4.1
#[test]
fn what_the_user_writes_or_chooses_stands_in_the_status() {
    let mut prompt = Prompt::confirm("Which?");
    prompt.kind = proto::dm::ui::PromptKind::MultipleChoice;
    prompt.choices = vec!["a".to_owned(), "b".to_owned()];
    let mut talk = resting(vec![Command::Alert(prompt.to_alert(CommandId(8)))]);
    answer(&mut talk, &Answer::Chosen(vec![1, 2]));
    let Command::Status(status) = &talk.said.commands[1] else { panic!("{:?}", talk.said) };
    let items: Vec<_> = status.items.iter().filter_map(Item::data_text).collect();
    assert_eq!((status.code, items.as_slice()), (StatusCode::OK, &["1", "2"][..]));
}

#[test]
fn a_no_inside_an_atomic_takes_back_what_was_written() {
    let uri = "./FwUpdate/Main/DownloadAndUpdate/PkgURL";
    let write = replace(31, "DownloadAndUpdate/PkgURL", URL);
    let later = replace(33, "Ext/Broadcast/Opens", "1800");
    let mut talk = resting(vec![atomic(vec![write, ask(32), later]), get(40, &[uri])]);
    answer(&mut talk, &Answer::No);
    assert_eq!(
        talk.statuses()[1..],
        [
            (Verb::Atomic, 507),
            (Verb::Replace, 216),
            (Verb::Alert, 304),
            (Verb::Replace, 215),
            (Verb::Get, 200)
        ]
    );
    assert_eq!(talk.results()[0].1, "", "the URL is as it was before");
}

// test: oma-003 6.1.4.8
#[test]
fn the_user_is_not_asked_when_there_is_nothing_left_to_do() {
    let mut talk = Talk::begin(FakeDevice { user_answer: None, ..FakeDevice::default() });
    let fails = replace(21, "DownloadAndUpdate/Nowhere", URL);
    let message = talk.reply(StatusCode::AUTHENTICATED, vec![sequence(vec![fails, ask(22)])]);
    talk.hear_more(&message);
    assert_eq!(
        talk.statuses()[1..],
        [(Verb::Sequence, 200), (Verb::Replace, 404), (Verb::Alert, 215)]
    );
    assert!(talk.device.asked.is_empty());
}

#[test]
fn a_question_in_a_question_is_asked_after_it() {
    let mut talk = resting(vec![sequence(vec![ask(21), ask(22)])]);
    assert_eq!(talk.device.asked.len(), 1);
    assert_eq!(answer(&mut talk, &Answer::Yes), Step::WaitForUser);
    assert_eq!(talk.device.asked.len(), 2);
    assert!(matches!(answer(&mut talk, &Answer::Yes), Step::Send(_)));
    assert_eq!(
        talk.statuses()[1..],
        [(Verb::Sequence, 200), (Verb::Alert, 200), (Verb::Alert, 200)]
    );
}

#[test]
fn an_alert_that_cannot_be_shown_is_refused_and_asks_nobody() {
    let mut talk = Talk::begin(FakeDevice { user_answer: None, ..FakeDevice::default() });
    let message = talk.reply(StatusCode::AUTHENTICATED, vec![alert(8, AlertCode::CONFIRM)]);
    talk.hear_more(&message);
    assert_eq!(talk.statuses()[1..], [(Verb::Alert, 412)]);
    assert!(talk.device.asked.is_empty());
}

#[test]
fn a_message_that_comes_while_the_user_thinks_breaks_the_session_off() {
    let mut talk = resting(vec![ask(8)]);
    let message = talk.reply(StatusCode::OK, vec![]);
    assert!(matches!(
        talk.hear(&message),
        Step::Done(SessionOutcome::Failed(SessionError::Protocol(_)))
    ));
    let outcome = SessionOutcome::Failed(SessionError::NoSession);
    assert_eq!(answer(&mut talk, &Answer::Yes), Step::Done(outcome));
}

const FILTER: &str = "./FwUpdate/Main/Ext/Broadcast/Report/Filter";

// test: oma-003 6.1.4.4
#[test]
fn configuration_that_the_server_wants_confirmed_waits_for_the_users_yes() {
    for (said, codes, kept) in [
        (Answer::Yes, [200, 200, 200, 200], "failures"),
        (Answer::No, [200, 304, 215, 200], "all"),
        (Answer::Cancelled, [200, 214, 215, 200], "all"),
        (Answer::NoUser, [200, 406, 215, 200], "all"),
    ] {
        let write = replace(9, "Ext/Broadcast/Report/Filter", "failures");
        let mut talk = resting(vec![sequence(vec![ask(8), write]), get(40, &[FILTER])]);
        answer(&mut talk, &said);
        let found: Vec<_> = talk.statuses()[1..].iter().map(|(_, code)| *code).collect();
        assert_eq!(found, codes, "{said:?}");
        assert_eq!(talk.results(), [(FILTER.to_owned(), kept.to_owned())]);
    }
}

// test: oma-003 6.1.4.5
#[test]
fn configuration_is_taken_without_a_question_when_the_server_asks_none() {
    let mut talk = Talk::begin(FakeDevice { user_answer: None, ..FakeDevice::default() });
    let write = replace(9, "Ext/Broadcast/Report/Filter", "failures");
    let message = talk.reply(StatusCode::AUTHENTICATED, vec![write, get(40, &[FILTER])]);
    talk.hear_more(&message);
    assert_eq!(talk.results(), [(FILTER.to_owned(), "failures".to_owned())]);
    assert!(talk.device.asked.is_empty());
}
