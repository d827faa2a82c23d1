//! Large objects, with a scripted server.

use super::*;

const MANIFEST: &str = "./FwUpdate/Main/Ext/Broadcast/Manifest";

fn chunk(octets: &[u8], size: Option<u64>, more_data: bool) -> Command {
    let mut item = Item::octets(MANIFEST, octets);
    item.meta.get_or_insert_default().size = size;
    item.more_data = more_data;
    Command::Replace(Manage::new(CommandId::new(8), vec![item]))
}

/// Sends commands in a package that continues.
fn receive_chunk(talk: &mut Talk, command: Command) {
    let mut message = talk.reply(StatusCode::AUTHENTICATED, vec![command]);
    message.is_final = false;
    // Base64 in chunks would be another text.
    let step = talk.receive_bytes(&Encoding::Wbxml.emit(&message));
    assert!(matches!(step, Step::Send(_)), "{step:?}");
    assert!(!talk.sent.is_final);
    assert_eq!(talk.alerts(AlertCode::NEXT_MESSAGE).len(), 1);
}

// test: oma-dm 2.1
#[test]
fn an_object_over_three_messages_is_written_as_a_whole() {
    let mut talk = Talk::begin(FakeDevice::default());
    receive_chunk(&mut talk, chunk(b"mani", Some(8), true));
    assert_eq!(talk.statuses(), [(Verb::Header, 200), (Verb::Replace, 213)]);
    receive_chunk(&mut talk, chunk(b"fe", None, true));
    assert_eq!(talk.statuses(), [(Verb::Header, 200), (Verb::Replace, 213)]);
    let arm = vec![
        chunk(b"st", None, false),
        replace(9, "DownloadAndUpdate/PkgURL", URL),
        exec(10, UPDATE, None),
    ];
    let message = talk.reply(StatusCode::AUTHENTICATED, arm);
    talk.receive_bytes(&Encoding::Wbxml.emit(&message));
    assert_eq!(talk.statuses()[1], (Verb::Replace, 200));
    assert!(talk.sent.is_final);
    assert_eq!(talk.device.armed[0].manifest, b"manifest");
}

// test: oma-dm 2.1
#[test]
fn an_object_whose_size_is_wrong_is_not_written() {
    for (last, more_data) in [(&b"fes"[..], false), (b"fests", false), (b"fests", true)] {
        let mut talk = Talk::begin(FakeDevice::default());
        receive_chunk(&mut talk, chunk(b"mani", Some(8), true));
        let arm = vec![
            chunk(last, None, more_data),
            replace(9, "DownloadAndUpdate/PkgURL", URL),
            exec(10, UPDATE, None),
        ];
        let message = talk.reply(StatusCode::AUTHENTICATED, arm);
        talk.receive_bytes(&Encoding::Wbxml.emit(&message));
        assert_eq!(talk.statuses()[1], (Verb::Replace, 424));
        assert_eq!(talk.device.armed[0].manifest, b"");
    }
}

// test: oma-dm 2.1
#[test]
fn an_object_without_its_last_chunk_is_reported() {
    let next: [Vec<Command>; 2] =
        [vec![get(4, &["./DevDetail/FwV"])], vec![replace(4, "PkgURL", "x")]];
    for commands in next {
        let mut talk = Talk::begin(FakeDevice::default());
        receive_chunk(&mut talk, chunk(b"mani", Some(8), true));
        let message = talk.reply(StatusCode::AUTHENTICATED, commands);
        talk.receive_and_continue(&message);
        let alerts = talk.alerts(AlertCode::NO_END_OF_DATA);
        assert_eq!(alerts.len(), 1);
        assert_eq!(alerts[0].items[0].target_uri(), Some(MANIFEST));
    }
}

#[test]
fn an_object_beyond_the_limit_and_a_chunk_inside_a_group_are_rejected() {
    let mut talk = Talk::begin(FakeDevice::default());
    let large = chunk(b"mani", Some(16 * 1024 + 1), true);
    let grouped = sequence(vec![chunk(b"mani", Some(8), true)]);
    let message = talk.reply(StatusCode::AUTHENTICATED, vec![large, grouped]);
    talk.receive_and_continue(&message);
    assert_eq!(
        talk.statuses()[1..],
        [(Verb::Replace, 413), (Verb::Sequence, 200), (Verb::Replace, 406)]
    );
}

// test: oma-dm 2.1
#[test]
fn an_object_beyond_the_limit_is_rejected_in_one_piece_too() {
    for (length, code) in [(100, 200), (101, 413)] {
        let client = DmClient::new(settings(), Limits { object_bytes: 100, ..Limits::default() });
        let mut talk = Talk::begin_with(client, FakeDevice::default(), at(0));
        let command = chunk(&vec![7; length], None, false);
        let message = talk.reply(StatusCode::AUTHENTICATED, vec![command]);
        let step = talk.receive_bytes(&Encoding::Wbxml.emit(&message));
        assert!(matches!(step, Step::Send(_)), "{step:?}");
        assert_eq!(talk.statuses()[1], (Verb::Replace, code), "{length}");
    }
}

// test: oma-dm 2.1
#[test]
fn a_result_beyond_the_limit_of_the_server_is_not_sent() {
    let sessions = || get(4, &["./FwUpdate/Main/Ext/Broadcast/Sessions"]);
    for (announced, code) in [(99, 413), (100, 200), (0, 200)] {
        let mut talk = Talk::begin(FakeDevice::default());
        let value = replace(3, "Ext/Broadcast/Sessions", &"s".repeat(100));
        let mut message = talk.reply(StatusCode::AUTHENTICATED, vec![value]);
        message.header.meta = Some(Meta { max_object_size: Some(announced), ..Meta::default() });
        talk.receive_and_continue(&message);
        // The later messages announce nothing: the value holds to the end of the session.
        for _ in 0..2 {
            let message = talk.reply(StatusCode::AUTHENTICATED, vec![sessions()]);
            talk.receive_and_continue(&message);
            assert_eq!(talk.statuses()[1], (Verb::Get, code), "{announced}");
            let results = talk.sent.commands.iter().filter(|it| matches!(it, Command::Results(_)));
            assert_eq!(results.count(), usize::from(code == 200), "{announced}");
        }
    }
}

// test: oma-dm 2.1
#[test]
fn the_limits_of_a_challenge_hold_for_what_is_sent_again() {
    let mut talk = Talk::begin(FakeDevice::default());
    let mut demand = talk.reply(StatusCode::MISSING_CREDENTIALS, vec![]);
    challenge(&mut demand, b"fresh");
    demand.header.meta =
        Some(Meta { max_message_size: Some(2_048), max_object_size: Some(99), ..Meta::default() });
    talk.receive_and_continue(&demand);
    let value = replace(3, "Ext/Broadcast/Sessions", &"s".repeat(100));
    let question = get(4, &["./FwUpdate/Main/Ext/Broadcast/Sessions"]);
    let message = talk.reply(StatusCode::AUTHENTICATED, vec![value, question]);
    talk.receive_and_continue(&message);
    assert_eq!(talk.statuses()[2], (Verb::Get, 413));
}

/// Requests a long text with messages of 2,048 octets; returns the client's chunks.
fn long_results(encoding: Encoding, refused_at: Option<usize>) -> (Talk, Vec<Item>) {
    let mut settings = settings();
    settings.account.encoding = encoding;
    let client = DmClient::new(settings, Limits::default());
    let mut talk = Talk::begin_with(client, FakeDevice::default(), at(0));
    let line = "ü".repeat(250);
    let sessions = replace(3, "Ext/Broadcast/Sessions", &vec![line; 9].join("\n"));
    let question = get(4, &["./FwUpdate/Main/Ext/Broadcast/Sessions"]);
    let mut message = talk.reply(StatusCode::AUTHENTICATED, vec![sessions, question]);
    message.header.meta = Some(Meta { max_message_size: Some(2_048), ..Meta::default() });
    let mut chunks = Vec::new();
    loop {
        match talk.receive(&message) {
            Step::Done(outcome) => {
                assert_eq!(outcome, SessionOutcome::Complete);
                return (talk, chunks);
            }
            Step::Send(post) => assert!(post.body.len() <= 2_048, "{}", post.body.len()),
            Step::WaitForUser => panic!("nobody is asked"),
        }
        let results = talk.sent.commands.iter().find_map(|command| {
            if let Command::Results(results) = command { Some(results.clone()) } else { None }
        });
        let mut commands = Vec::new();
        if let Some(results) = results {
            let item = results.items[0].clone();
            assert_eq!(talk.sent.is_final, !item.more_data);
            if item.more_data {
                let code = if refused_at == Some(chunks.len()) { 413 } else { 213 };
                let to = talk.sent.header.message_id;
                let status =
                    Status::new(CommandId::new(7), to, results.id, Verb::Results, StatusCode(code));
                commands.push(Command::Status(status));
                commands.push(alert(8, AlertCode::NEXT_MESSAGE));
            }
            chunks.push(item);
        }
        let more = !talk.sent.is_final;
        message = talk.reply(StatusCode::AUTHENTICATED, commands);
        message.is_final = !more;
    }
}

// test: oma-dm 2.1
#[test]
fn results_that_do_not_fit_one_message_are_sent_in_chunks() {
    for encoding in [Encoding::Xml, Encoding::Wbxml] {
        let (_, chunks) = long_results(encoding, None);
        assert!(chunks.len() >= 3, "{}", chunks.len());
        let text: String = chunks.iter().filter_map(Item::data_text).collect();
        assert_eq!(text.chars().filter(|c| *c == 'ü').count(), 9 * 250);
        let sizes: Vec<_> = chunks.iter().map(|it| it.meta.as_ref().unwrap().size).collect();
        assert_eq!(sizes[0], Some(u64::try_from(text.len()).unwrap()));
        assert!(sizes[1..].iter().all(Option::is_none));
    }
}

#[test]
fn results_that_the_server_rejects_half_way_are_not_continued() {
    let (_, chunks) = long_results(Encoding::Xml, Some(0));
    assert_eq!(chunks.len(), 1);
}
