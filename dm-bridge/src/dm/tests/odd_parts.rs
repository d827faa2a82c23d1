//! Identifiers that are words, and commands that cannot be read.

use proto::dm::{
    encoding::MessageError,
    syncml::{Identifier, Rejected},
};

use super::*;

/// Returns the identifier of a command with words in front of it.
fn in_words(id: CommandId) -> CommandId {
    Identifier::parse(&format!("the {id} of all")).unwrap().into()
}

/// Gives the commands of a message words for numbers.
fn use_words(message: &mut Message) {
    let number = message.header.message_id;
    message.header.message_id = Identifier::parse(&format!("No. {number}")).unwrap().into();
    for command in &mut message.commands {
        match command {
            Command::Status(status) => status.id = CommandId::ABSENT,
            Command::Results(results) => {
                results.id = CommandId::ABSENT;
                // The Get is one of our last message.
                results.message_ref = None;
            }
            Command::Alert(alert) => alert.id = in_words(alert.id),
            Command::Replace(replace) => replace.id = in_words(replace.id),
            other => panic!("{other:?}"),
        }
    }
}

// test: oma-dm 1.2
#[test]
fn a_device_whose_identifiers_are_words_is_armed() {
    let mut context = device_context();
    let mut device = scripted();
    let mut random = || [7; 16];
    let mut first = device.first_with(&[1; 16]);
    use_words(&mut first);
    let (mut session, reply) =
        accepted(open(&mut context, &first, NOW, Limits::default(), &mut random));
    let answered = |reply: &Message| -> Vec<String> {
        reply.statuses().map(|it| it.command_ref.to_string()).collect()
    };
    assert_eq!(answered(&reply), ["0", "the 1 of all", "the 2 of all"]);
    assert_eq!(reply.statuses().next().unwrap().message_ref.to_string(), "No. 1");
    let mut replies = vec![reply];
    while let Some(mut next) = device.answer(replies.last().unwrap()) {
        use_words(&mut next);
        assert!(session.is_continued_by(&next, Some(session.token())));
        replies.push(proceed(&mut session, &mut context, &next, NOW, &mut random));
        assert!(!session.is_continued_by(&next, Some(session.token())), "it is repeated");
        assert!(replies.len() < 60, "the session does not end");
    }
    assert!(session.is_finished());
    assert_eq!(device.written().last().unwrap(), "Exec DownloadAndUpdate");
    assert_eq!(context.attempts[0].phase, ArmingPhase::Armed);
}

// test: oma-dm 8.2 (a malformed command)
#[test]
fn rejected_commands_are_answered_and_noted_at_the_device_the_first_ones_by_name() {
    let mut context = device_context();
    let mut device = scripted();
    let mut first = device.first_with(&[1; 16]);
    let rejected = |id: CommandId, name: &str, code| {
        let fault = MessageError::Missing { parent: "it", element: "all" };
        Command::Rejected(Box::new(Rejected { id, verb: Verb::from_name(name), code, fault }))
    };
    let odd = [
        (CommandId::new(20), "Odd", 501),
        (CommandId::ABSENT, "Vendor", 501),
        (CommandId::ABSENT, "Alert", 412),
        (CommandId::new(22), "Status", 400),
        (CommandId::new(23), "Results", 400),
    ];
    first.commands.extend(odd.map(|(id, name, code)| rejected(id, name, StatusCode(code))));
    let mut random = || [7; 16];
    let (_session, reply) =
        accepted(open(&mut context, &first, NOW, Limits::default(), &mut random));
    let odd = Verb::from_name("Odd");
    let expected = [
        (Verb::Header, 212),
        (Verb::Alert, 200),
        (Verb::Replace, 200),
        (odd, 501),
        (Verb::Results, 400),
    ];
    assert_eq!(codes(&reply), expected);
    let notes = &context.notes;
    for note in [
        "Odd rejected with 501",
        "Vendor rejected without an answer",
        "Alert rejected without an answer",
        "Status rejected with 400",
        "1 more rejected",
    ] {
        assert!(notes.iter().any(|it| it == note), "{note} in {notes:?}");
    }
}
