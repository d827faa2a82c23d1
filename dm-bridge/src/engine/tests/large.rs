//! What does not fit into one message, both ways.

use proto::dm::large::Joiner;

use super::*;

#[test]
fn what_does_not_fit_one_message_goes_in_several() {
    let mut desk = desk();
    let headers = &mut desk.campaigns[0].papers.plan_headers;
    headers.extend((0..16).map(|id| (proto::ids::ComponentId(id), vec![id; 1_088])));
    let mut device = Device { limit: 4_096, ..Device::new() };
    let replies = device.run(&mut desk);
    assert!(replies.len() > 8, "{}", replies.len());
    for reply in &replies {
        assert!(Encoding::Xml.emit(reply).len() <= 4_096);
        assert!(reply.is_final);
    }
    assert_eq!(latest(&desk).phase, ArmingPhase::Armed);
}

/// Runs a session in which the plan header does not fit into a message.
fn in_pieces(desk: &mut Desk, device: &mut Device) -> Vec<Message> {
    let replies = device.run(desk);
    for reply in &replies {
        assert!(Encoding::Xml.emit(reply).len() <= 1_700);
        let goes_on = flat(reply).into_iter().any(|command| match command {
            Command::Replace(replace) => replace.items[0].more_data,
            _ => false,
        });
        assert_eq!(reply.is_final, !goes_on);
    }
    replies
}

// test: oma-dm 2.1
#[test]
fn an_object_that_does_not_fit_one_message_goes_in_pieces() {
    let mut desk = desk();
    let mut device = Device { limit: 1_700, ..Device::new().with("LrgObj", "true") };
    in_pieces(&mut desk, &mut device);
    let mut joiner = Joiner::default();
    let mut joined = Vec::new();
    for command in &device.seen {
        let Command::Replace(replace) = command else { continue };
        let item = &replace.items[0];
        if let Ok(item) = joiner.take(Verb::Replace, item, 10_000) {
            joined.push((item.target_uri().unwrap().to_owned(), item.to_octets().unwrap()));
        }
    }
    let header = joined.iter().find(|(uri, _)| uri.ends_with("Plan/0")).unwrap();
    assert_eq!(header.1, desk.campaigns[0].papers.plan_headers[&proto::ids::ComponentId(0)]);
    assert_eq!(latest(&desk).phase, ArmingPhase::Armed);
}

// test: oma-dm 2.1
#[test]
fn a_device_that_does_not_take_a_piece_is_not_armed() {
    for piece in [413, 406, 500] {
        let mut desk = desk();
        desk.campaigns[0].papers.manifest = vec![2; 1_300];
        let device = Device::new().with("LrgObj", "true");
        let mut device = Device { limit: 1_700, piece: StatusCode(piece), ..device };
        in_pieces(&mut desk, &mut device);
        let row = latest(&desk);
        assert_eq!(row.phase, ArmingPhase::Pending);
        let reason = row.reason.as_deref().unwrap();
        assert!(reason.contains(&format!("answered {piece}")), "{reason}");
    }
}

#[test]
fn a_device_without_large_objects_gets_none() {
    let mut desk = desk();
    let mut device = Device { limit: 1_700, ..Device::new() };
    in_pieces(&mut desk, &mut device);
    assert!(latest(&desk).reason.as_deref().unwrap().contains("does not fit"));
}

#[test]
fn values_of_a_device_are_joined_and_a_missing_end_is_told() {
    let piece = |text: &str, size, more_data| {
        let mut item = Item::value("./DevDetail/FwV", Format::Chr, text);
        item.meta.get_or_insert_default().size = size;
        Item { more_data, ..item }
    };
    let results = |server: MessageId, command, item| {
        Command::Results(Results {
            id: CommandId(5),
            message_ref: Some(server),
            command_ref: command,
            meta: None,
            items: vec![item],
        })
    };
    for interrupted in [false, true] {
        let mut desk = desk();
        let mut device = Device::new();
        let first = device.first([1; 16]);
        let opening =
            DmSession::open(&mut desk, received(&first), NOW, Limits::default(), &mut || [7; 16]);
        let Opening::Accepted(mut session, reply) = opening else { panic!("{opening:?}") };
        let (server, asked) = (reply.header.message_id, reply.commands.last().unwrap().id());
        let get = reply.commands.iter().find(|it| matches!(it, Command::Get(_))).unwrap().id();
        let begun = results(server, get, piece("1.", Some(3), true));
        let mut message = device.message(None, vec![begun]);
        message.is_final = false;
        let reply = session.handle(&mut desk, received(&message), NOW, &mut || [8; 16]);
        assert_eq!(codes(&reply), [(Verb::Header, 212), (Verb::Results, 213)]);
        assert!(!reply.is_final);
        let command = if interrupted { asked } else { get };
        let end = piece("5", None, false);
        let end = if interrupted { Item { source: None, ..end } } else { end };
        let message = device.message(None, vec![results(server, command, end)]);
        let reply = session.handle(&mut desk, received(&message), NOW, &mut || [9; 16]);
        let told = reply.commands.iter().any(|command| match command {
            Command::Alert(alert) => alert.code == AlertCode::NO_END_OF_DATA,
            _ => false,
        });
        assert_eq!(told, interrupted);
        let firmware = desk.device.firmware_version.as_deref();
        assert_eq!(firmware == Some("1.5"), !interrupted, "{firmware:?}");
    }
}
