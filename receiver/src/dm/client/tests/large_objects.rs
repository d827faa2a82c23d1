//! Large objects, with a scripted server.

use super::*;

const MANIFEST: &str = "./FwUpdate/Main/Ext/Broadcast/Manifest";

fn chunk(octets: &[u8], size: Option<u64>, more_data: bool) -> Command {
    let mut item = Item::octets(MANIFEST, octets);
    item.meta.get_or_insert_default().size = size;
    item.more_data = more_data;
    Command::Replace(Manage::new(CommandId(8), vec![item]))
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
                    Status::new(CommandId(7), to, results.id, Verb::Results, StatusCode(code));
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
