//! Sequences and Atomics: execution, roll-back and statuses.

use super::*;

const PACKAGE: &str = "./FwUpdate/Main/Update/PkgData";

fn atomic(commands: Vec<Command>) -> Command {
    Command::Atomic(Group { id: CommandId::new(20), meta: None, commands })
}

fn package(id: u32) -> Command {
    Command::Replace(Manage::new(CommandId::new(id), vec![Item::octets(PACKAGE, *b"package")]))
}

/// Sends the commands in one message, and returns the statuses but that of the header.
fn run(talk: &mut Talk, commands: Vec<Command>) -> Vec<(Verb, u16)> {
    let message = talk.reply(StatusCode::AUTHENTICATED, commands);
    talk.receive_and_continue(&message);
    talk.statuses().split_off(1)
}

// test: oma-dm 2.5
#[test]
fn a_failed_atomic_rolls_its_staged_writes_back() {
    let mut talk = Talk::begin(FakeDevice::default());
    let group = atomic(vec![
        replace(21, "DownloadAndUpdate/PkgURL", URL),
        replace(22, "Nowhere", "x"),
        replace(23, "Ext/Broadcast/Opens", "1"),
    ]);
    let url = format!("{UPDATE}/PkgURL");
    assert_eq!(
        run(&mut talk, vec![group, get(24, &[&url])]),
        [
            (Verb::Atomic, 507),
            (Verb::Replace, 216),
            (Verb::Replace, 404),
            (Verb::Replace, 215),
            (Verb::Get, 200)
        ]
    );
    assert_eq!(talk.results(), [(url, String::new())]);
}

// test: oma-dm 2.5
#[test]
fn an_atomic_rejects_commands_that_cannot_be_rolled_back() {
    let root = Item::octets("./FwUpdate/Main/Ext/Broadcast/Root", *b"root");
    let copy = Item {
        source: Some(Location::new("./DevInfo/Man")),
        ..Item::target("./FwUpdate/Main/Ext/Broadcast/Policy/Call")
    };
    let list = Item::text("./FwUpdate/Main?prop=ACL", "Get=*");
    for command in [
        get(21, &["./DevInfo"]),
        exec(21, UPDATE, None),
        Command::Replace(Manage::new(CommandId::new(21), vec![root])),
        Command::Replace(Manage::new(CommandId::new(21), vec![list])),
        Command::Copy(Manage::new(CommandId::new(21), vec![copy])),
    ] {
        let mut talk = Talk::begin(FakeDevice::default());
        let verb = command.verb();
        let statuses = run(&mut talk, vec![atomic(vec![command])]);
        assert_eq!(statuses, [(Verb::Atomic, 507), (verb, 500)]);
        assert!(talk.device.roots.is_empty() && talk.device.queue.is_empty());
    }
}

// test: oma-dm 2.5
#[test]
fn an_atomic_holds_no_group() {
    let member = || replace(23, "DownloadAndUpdate/PkgURL", URL);
    for group in [sequence(vec![member()]), atomic(vec![member()])] {
        let mut talk = Talk::begin(FakeDevice::default());
        let verb = group.verb();
        let url = format!("{UPDATE}/PkgURL");
        let group = atomic(vec![replace(21, "Ext/Broadcast/Opens", "1"), group]);
        assert_eq!(
            run(&mut talk, vec![group, get(24, &[&url])]),
            [
                (Verb::Atomic, 507),
                (Verb::Replace, 216),
                (verb, 500),
                (Verb::Replace, 500),
                (Verb::Get, 200)
            ]
        );
        assert_eq!(talk.results(), [(url, String::new())]);
    }
}

// test: oma-dm 2.5
#[test]
fn a_sequence_ends_with_an_atomic_that_failed() {
    let group = |path: &str| {
        let members = vec![replace(21, "DownloadAndUpdate/PkgURL", URL), replace(22, path, "1")];
        sequence(vec![atomic(members), exec(23, UPDATE, None)])
    };
    let mut talk = Talk::begin(FakeDevice::default());
    assert_eq!(
        run(&mut talk, vec![group("Nowhere")]),
        [
            (Verb::Sequence, 200),
            (Verb::Atomic, 507),
            (Verb::Replace, 216),
            (Verb::Replace, 404),
            (Verb::Exec, 215)
        ]
    );
    assert!(talk.device.armed.is_empty() && talk.device.queue.is_empty());

    let mut talk = Talk::begin(FakeDevice::default());
    run(&mut talk, vec![group("Ext/Broadcast/Opens")]);
    assert_eq!(talk.device.armed.len(), 1);
}

// test: oma-dm 2.5
#[test]
fn a_package_is_removed_with_its_atomic_and_a_remaining_one_is_reported() {
    for (cannot_remove_package, code) in [(false, 216), (true, 516)] {
        let mut talk = Talk::begin(FakeDevice { cannot_remove_package, ..FakeDevice::default() });
        let group = atomic(vec![
            replace(21, "Ext/Broadcast/Opens", "1"),
            package(22),
            replace(23, "Nowhere", "x"),
        ]);
        assert_eq!(
            run(&mut talk, vec![group]),
            [
                (Verb::Atomic, 507),
                (Verb::Replace, 216),
                (Verb::Replace, code),
                (Verb::Replace, 404)
            ]
        );
        assert_eq!(talk.device.package.is_empty(), !cannot_remove_package);
    }
}

// test: oma-dm 2.5
#[test]
fn an_atomic_does_not_affect_an_earlier_package() {
    let mut talk = Talk::begin(FakeDevice::default());
    let fails = |id| atomic(vec![replace(id, "Nowhere", "x")]);
    run(&mut talk, vec![package(19), fails(21)]);
    assert_eq!(talk.device.package, b"package");
    let statuses = run(&mut talk, vec![atomic(vec![package(21)])]);
    assert_eq!(statuses, [(Verb::Atomic, 507), (Verb::Replace, 500)], "the old one would be lost");
}

// test: oma-dm 2.5
#[test]
fn an_atomic_whose_statuses_do_not_fit_one_message_is_rolled_back() {
    let opens = |count| {
        let writes = (0..count).map(|id| replace(100 + id, "Ext/Broadcast/Opens", "1"));
        atomic(writes.collect())
    };
    for (count, code) in [(2, 200), (40, 517)] {
        let mut talk = Talk::begin(FakeDevice::default());
        let mut message = talk.reply(StatusCode::AUTHENTICATED, vec![opens(count)]);
        message.header.meta = Some(Meta { max_message_size: Some(4_096), ..Meta::default() });
        talk.receive_and_continue(&message);
        assert_eq!(talk.statuses()[1], (Verb::Atomic, code));
        let member = if code == 200 { 200 } else { 216 };
        assert_eq!(talk.statuses()[2], (Verb::Replace, member));
    }
}
