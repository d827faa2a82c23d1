//! Prompts that the user answers later, and the commands that they gate.

use super::*;

fn waiting_for_user(commands: Vec<Command>) -> Talk {
    let mut talk = Talk::begin(FakeDevice { user_answer: None, ..FakeDevice::default() });
    let message = talk.reply(StatusCode::AUTHENTICATED, commands);
    assert_eq!(talk.receive(&message), Step::WaitForUser);
    talk
}

fn answer(talk: &mut Talk, answer: &Answer) -> Step {
    let step = talk.client.handle_user_answer(talk.now, &mut talk.device, answer);
    talk.record(step)
}

fn atomic(commands: Vec<Command>) -> Command {
    Command::Atomic(Group { id: CommandId::new(30), meta: None, commands })
}

// test: oma-001 8.1.1.9
#[test]
fn a_session_waits_for_the_user_and_then_continues() {
    for (sent, armed, codes) in [
        (Answer::Yes, 1, [200, 200, 200, 202]),
        (Answer::No, 0, [200, 304, 215, 215]),
        (Answer::TimedOut, 0, [200, 408, 215, 215]),
    ] {
        let mut talk = waiting_for_user(vec![sequence(arming()), get(40, &["./DevDetail/FwV"])]);
        assert!(talk.device.armed.is_empty(), "nothing that is gated happens before");
        assert_eq!(talk.device.asked, [Prompt::confirm("Update?")]);
        assert!(matches!(answer(&mut talk, &sent), Step::Send(_)));
        let found: Vec<_> = talk.statuses()[1..].iter().map(|(_, code)| *code).collect();
        assert_eq!(found, [&codes[..], &[200]].concat(), "{sent:?}");
        assert_eq!(talk.device.armed.len(), armed, "{sent:?}");
        assert_eq!(talk.results().len(), 1, "what is outside of the Sequence is done");
    }
}

// test: oma-dm 4.1
#[test]
fn the_users_text_or_choice_is_in_the_status() {
    let mut prompt = Prompt::confirm("Which?");
    prompt.kind = proto::dm::ui::PromptKind::MultipleChoice;
    prompt.choices = vec!["a".to_owned(), "b".to_owned()];
    let mut talk = waiting_for_user(vec![Command::Alert(prompt.to_alert(CommandId::new(8)))]);
    answer(&mut talk, &Answer::Chosen(vec![1, 2]));
    let Command::Status(status) = &talk.sent.commands[1] else { panic!("{:?}", talk.sent) };
    let items: Vec<_> = status.items.iter().filter_map(Item::data_text).collect();
    assert_eq!((status.code, items.as_slice()), (StatusCode::OK, &["1", "2"][..]));
}

#[test]
fn a_no_inside_an_atomic_rolls_the_writes_back() {
    let uri = "./FwUpdate/Main/DownloadAndUpdate/PkgURL";
    let write = replace(31, "DownloadAndUpdate/PkgURL", URL);
    let later = replace(33, "Ext/Broadcast/Opens", "1800");
    let mut talk = waiting_for_user(vec![atomic(vec![write, ask(32), later]), get(40, &[uri])]);
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
fn there_is_no_prompt_without_remaining_commands() {
    let mut talk = Talk::begin(FakeDevice { user_answer: None, ..FakeDevice::default() });
    let fails = replace(21, "DownloadAndUpdate/Nowhere", URL);
    let message = talk.reply(StatusCode::AUTHENTICATED, vec![sequence(vec![fails, ask(22)])]);
    talk.receive_and_continue(&message);
    assert_eq!(
        talk.statuses()[1..],
        [(Verb::Sequence, 200), (Verb::Replace, 404), (Verb::Alert, 215)]
    );
    assert!(talk.device.asked.is_empty());
}

#[test]
fn a_second_prompt_follows_the_first() {
    let mut talk = waiting_for_user(vec![sequence(vec![ask(21), ask(22)])]);
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
fn an_alert_that_cannot_be_shown_is_rejected_without_a_prompt() {
    let mut talk = Talk::begin(FakeDevice { user_answer: None, ..FakeDevice::default() });
    let message = talk.reply(StatusCode::AUTHENTICATED, vec![alert(8, AlertCode::CONFIRM)]);
    talk.receive_and_continue(&message);
    assert_eq!(talk.statuses()[1..], [(Verb::Alert, 412)]);
    assert!(talk.device.asked.is_empty());
}

#[test]
fn a_message_during_a_prompt_ends_the_session() {
    let mut talk = waiting_for_user(vec![ask(8)]);
    let message = talk.reply(StatusCode::OK, vec![]);
    assert!(matches!(
        talk.receive(&message),
        Step::Done(SessionOutcome::Failed(SessionError::Protocol(_)))
    ));
    let outcome = SessionOutcome::Failed(SessionError::NoSession);
    assert_eq!(answer(&mut talk, &Answer::Yes), Step::Done(outcome));
}

const FILTER: &str = "./FwUpdate/Main/Ext/Broadcast/Report/Filter";

// test: oma-003 6.1.4.4
#[test]
fn a_confirmed_configuration_waits_for_the_users_yes() {
    for (sent, codes, kept) in [
        (Answer::Yes, [200, 200, 200, 200], "failures"),
        (Answer::No, [200, 304, 215, 200], "all"),
        (Answer::Cancelled, [200, 214, 215, 200], "all"),
        (Answer::NoUser, [200, 406, 215, 200], "all"),
    ] {
        let write = replace(9, "Ext/Broadcast/Report/Filter", "failures");
        let mut talk = waiting_for_user(vec![sequence(vec![ask(8), write]), get(40, &[FILTER])]);
        answer(&mut talk, &sent);
        let found: Vec<_> = talk.statuses()[1..].iter().map(|(_, code)| *code).collect();
        assert_eq!(found, codes, "{sent:?}");
        assert_eq!(talk.results(), [(FILTER.to_owned(), kept.to_owned())]);
    }
}

// test: oma-003 6.1.4.5
#[test]
fn a_configuration_without_an_alert_needs_no_prompt() {
    let mut talk = Talk::begin(FakeDevice { user_answer: None, ..FakeDevice::default() });
    let write = replace(9, "Ext/Broadcast/Report/Filter", "failures");
    let message = talk.reply(StatusCode::AUTHENTICATED, vec![write, get(40, &[FILTER])]);
    talk.receive_and_continue(&message);
    assert_eq!(talk.results(), [(FILTER.to_owned(), "failures".to_owned())]);
    assert!(talk.device.asked.is_empty());
}
