//! Values that exceed one message, in both directions.

use proto::dm::large::Reassembler;

use super::*;

#[test]
fn what_does_not_fit_one_message_goes_in_several() {
    let mut context = device_context();
    let headers = &mut context.campaigns[0].documents.plan_headers;
    headers.extend((0..16).map(|id| (proto::ids::ComponentId(id), vec![id; 1_088])));
    let mut device = ScriptedDevice { limit: 4_096, ..scripted() };
    let replies = device.run(&mut context);
    assert!(replies.len() > 8, "{}", replies.len());
    for reply in &replies {
        assert!(Encoding::Xml.emit(reply).len() <= 4_096);
        assert!(reply.is_final);
    }
    assert_eq!(latest(&context).phase, ArmingPhase::Armed);
}

/// Runs a session in which the plan header does not fit into a message.
fn in_pieces(context: &mut DeviceContext, device: &mut ScriptedDevice) -> Vec<Message> {
    let replies = device.run(context);
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
fn an_object_that_does_not_fit_one_message_is_sent_in_chunks() {
    let mut context = device_context();
    let mut device = ScriptedDevice { limit: 1_700, ..scripted().with("LrgObj", "true") };
    in_pieces(&mut context, &mut device);
    let mut joiner = Reassembler::default();
    let mut joined = Vec::new();
    for command in &device.seen {
        let Command::Replace(replace) = command else { continue };
        let item = &replace.items[0];
        if let Ok(item) = joiner.push(Verb::Replace, item, 10_000) {
            joined.push((item.target_uri().unwrap().to_owned(), item.to_bytes().unwrap()));
        }
    }
    let header = joined.iter().find(|(uri, _)| uri.ends_with("Plan/0")).unwrap();
    assert_eq!(header.1, context.campaigns[0].documents.plan_headers[&proto::ids::ComponentId(0)]);
    assert_eq!(latest(&context).phase, ArmingPhase::Armed);
}

// test: oma-dm 2.1
#[test]
fn a_device_that_rejects_a_chunk_is_not_armed() {
    for (chunk, phase) in
        [(413, ArmingPhase::Pending), (406, ArmingPhase::NeedsUnicast), (500, ArmingPhase::Pending)]
    {
        let mut context = device_context();
        context.campaigns[0].documents.manifest = vec![2; 1_300];
        let device = scripted().with("LrgObj", "true");
        let mut device = ScriptedDevice { limit: 1_700, chunk: StatusCode(chunk), ..device };
        in_pieces(&mut context, &mut device);
        let row = latest(&context);
        assert_eq!(row.phase, phase, "{chunk}");
        let reason = row.reason.as_deref().unwrap();
        assert!(reason.contains(&format!("answered {chunk}")), "{reason}");
    }
}

#[test]
fn a_device_without_large_objects_gets_none() {
    let mut context = device_context();
    let mut device = ScriptedDevice { limit: 1_700, ..scripted() };
    let replies = device.run(&mut context);
    assert!(replies.iter().all(|reply| Encoding::Xml.emit(reply).len() <= 1_700));
    let reason = latest(&context).reason.as_deref().unwrap();
    assert!(reason.ends_with("does not fit into 1700 octets, and LrgObj is not true"), "{reason}");
}

// test: oma-dm 2.1
#[test]
fn chunks_go_on_after_any_success() {
    for chunk in [200, 202, 213] {
        let mut context = device_context();
        let chunk = StatusCode(chunk);
        let mut device =
            ScriptedDevice { limit: 1_700, chunk, ..scripted().with("LrgObj", "TRUE") };
        in_pieces(&mut context, &mut device);
        let pieces = device.seen.iter().filter(|command| match command {
            Command::Replace(replace) => replace.items[0].target_uri().unwrap().ends_with("Plan/0"),
            _ => false,
        });
        assert!(pieces.count() > 1);
        assert_eq!(latest(&context).phase, ArmingPhase::Armed, "{chunk}");
    }
}

// test: oma-dm 2.1
#[test]
fn an_object_beyond_the_limit_of_the_device_is_sent_in_no_way() {
    for (announced, is_armed) in [(1_451, false), (1_452, true), (0, true)] {
        let mut context = device_context();
        // 1,452 characters of base64, in one message of a device that takes any.
        context.campaigns[0].documents.manifest = vec![2; 1_089];
        let mut device = scripted().with("LrgObj", "true");
        let mut first = device.first_with(&[1; 16]);
        // The first message alone says it: it counts for the whole session.
        first.header.meta.get_or_insert_default().max_object_size = Some(announced);
        let replies = device.run_from(&mut context, first, NOW);
        let written: Vec<_> = device.written();
        assert_eq!(written.contains(&"Manifest".to_owned()), is_armed, "{announced}");
        let row = latest(&context);
        assert_eq!(row.phase == ArmingPhase::Armed, is_armed, "{announced}: {replies:?}");
        let reason = row.reason.as_deref().unwrap_or_default();
        assert_eq!(reason.contains("1452 octets exceeds MaxObjSize 1451"), !is_armed, "{reason}");
    }
}

// test: oma-dm 2.1
#[test]
fn a_value_of_a_device_beyond_the_announced_limit_is_refused_in_one_piece_too() {
    let mut context = device_context();
    let limits = Limits { object_bytes: 100, ..Limits::default() };
    for (length, code) in [(100, 200), (101, 413)] {
        let mut device = scripted();
        device.client.info.push(("./DevInfo/Man", "x".repeat(length)));
        let first = device.first_with(&[1; 16]);
        context.device.auth.next_nonce = Some(Nonce([1; 16]));
        let (_, reply) = accepted(open(&mut context, &first, NOW, limits, &mut || [7; 16]));
        assert!(codes(&reply).contains(&(Verb::Replace, code)), "{length}: {:?}", codes(&reply));
    }
}

#[test]
fn chunked_values_of_a_device_are_reassembled_and_a_missing_end_is_reported() {
    let chunk = |text: &str, size, more_data| {
        let mut item = Item::value("./DevDetail/FwV", Format::Chr, text);
        item.meta.get_or_insert_default().size = size;
        Item { more_data, ..item }
    };
    let results = |server: MessageId, command, item| {
        Command::Results(Results {
            id: CommandId::new(5),
            message_ref: Some(server),
            command_ref: command,
            meta: None,
            items: vec![item],
        })
    };
    for interrupted in [false, true] {
        let mut context = device_context();
        let mut device = scripted();
        let first = device.first_with(&[1; 16]);
        let (mut session, reply) =
            accepted(open(&mut context, &first, NOW, Limits::default(), &mut || [7; 16]));
        let (server, asked) = (reply.header.message_id, reply.commands.last().unwrap().id());
        let get = reply.commands.iter().find(|it| matches!(it, Command::Get(_))).unwrap().id();
        let begun = results(server, get, chunk("1.", Some(3), true));
        let mut message = device.message(None, vec![begun]);
        message.is_final = false;
        let reply = proceed(&mut session, &mut context, &message, NOW, &mut || [8; 16]);
        assert_eq!(codes(&reply), [(Verb::Header, 212), (Verb::Results, 213)]);
        assert!(!reply.is_final);
        let command = if interrupted { asked } else { get };
        let end = chunk("5", None, false);
        let end = if interrupted { Item { source: None, ..end } } else { end };
        let message = device.message(None, vec![results(server, command, end)]);
        let reply = proceed(&mut session, &mut context, &message, NOW, &mut || [9; 16]);
        let is_reported = reply.commands.iter().any(|command| match command {
            Command::Alert(alert) => alert.code == AlertCode::NO_END_OF_DATA,
            _ => false,
        });
        assert_eq!(is_reported, interrupted);
        let firmware = context.device.firmware_version.as_deref();
        assert_eq!(firmware == Some("1.5"), !interrupted, "{firmware:?}");
    }
}
