//! Odd but legal forms of a device: they are read, or the refusal has its reason.

use proto::base64_text;

use super::{reasons::run_changed, *};

fn again(context: &mut DeviceContext) {
    context.device.auth.next_nonce = Some(Nonce([1; 16]));
}

/// Lets a device be armed; returns its context.
fn armed() -> DeviceContext {
    let mut context = device_context();
    scripted().run(&mut context);
    again(&mut context);
    context
}

/// Runs a session of a device that reports with its final alert changed.
fn report(context: &mut DeviceContext, change: impl Fn(&mut Alert)) -> u16 {
    let mut device = scripted().with("FwV", "2.0").alerting(200, "c1");
    device.alerts.iter_mut().for_each(change);
    let replies = device.run(context);
    codes(&replies[0]).last().unwrap().1
}

// test: oma-dm 2 (binary and text in base64)
#[test]
fn values_in_base64_are_decoded() {
    let mut context = device_context();
    let mut device = scripted().with("FwV", "1.7");
    run_changed(&mut device, &mut context, |message| {
        for command in &mut message.commands {
            let Command::Results(results) = command else { continue };
            let item = &mut results.items[0];
            let text = item.data_text().unwrap().to_owned();
            *item = Item::value("", Format::B64, base64_text::encode(text));
        }
        true
    });
    assert_eq!(context.device.firmware_version.as_deref(), Some("1.7"));
    assert_eq!(latest(&context).phase, ArmingPhase::Armed, "{:?}", latest(&context).reason);
}

#[test]
fn a_status_without_a_message_is_about_our_last_one() {
    let mut context = device_context();
    run_changed(&mut scripted(), &mut context, |message| {
        for command in &mut message.commands {
            if let Command::Status(status) = command {
                status.message_ref = MessageId::ABSENT;
            }
        }
        true
    });
    assert_eq!(latest(&context).phase, ArmingPhase::Armed, "{:?}", latest(&context).reason);
}

// test: oma-dm 2.1 (MaxMsgSize)
#[test]
fn a_command_without_room_beside_the_statuses_waits_for_the_next_message() {
    let mut deferred = 0;
    for limit in (600..4_000).step_by(100) {
        let mut context = device_context();
        let mut device = ScriptedDevice { limit, ..scripted() };
        // A status for each.
        for _ in 0..20 {
            device = device.alerting(200, "of another server");
        }
        let replies = device.run(&mut context);
        let row = latest(&context);
        let reason = row.reason.as_deref().unwrap_or_default();
        let is_served = row.phase == ArmingPhase::Armed;
        let says_why = reason.contains(&format!("a command does not fit into {limit} octets"));
        assert!(is_served || says_why, "{limit}: {:?} {reason}", row.phase);
        deferred += usize::from(is_served && replies.iter().any(|reply| !reply.is_final));
    }
    assert!(deferred > 0, "no message was too full for a command that the next one held");
}

#[test]
fn a_device_that_succeeds_with_an_attempt_taken_for_failed_is_not_sent_another_exec() {
    let mut context = device_context();
    ScriptedDevice { exec: StatusCode::FAILED, ..scripted() }.run(&mut context);
    assert_eq!(latest(&context).attempt, 2);
    again(&mut context);
    let mut device = scripted().with("FwV", "2.0").alerting(200, "c1");
    device.run(&mut context);
    assert_eq!(device.written(), [""; 0]);
    let row = latest(&context);
    assert_eq!((row.attempt, row.phase, row.result_code), (2, ArmingPhase::Confirmed, None));
    assert_eq!(context.attempts[0].result_code, Some(200), "the result is counted once");
    // A failure of the earlier attempt says nothing about the next one.
    let mut context = device_context();
    ScriptedDevice { exec: StatusCode::FAILED, ..scripted() }.run(&mut context);
    again(&mut context);
    scripted().alerting(410, "c1").run(&mut context);
    assert_eq!(latest(&context).phase, ArmingPhase::Armed);
}

#[test]
fn a_final_alert_is_read_in_the_forms_that_clients_write() {
    let forms: [fn(&mut Item); 5] = [
        |item| item.data = Some("200 Success".into()),
        |item| *item = Item { data: Some("MjAw".into()), ..with_format(item, Format::B64) },
        |item| change_type(item, |kind| kind.to_uppercase()),
        |item| change_type(item, |kind| format!("reversed-domain-name:{kind}")),
        |item| change_type(item, |kind| format!("REVERSED-DOMAIN-NAME: {kind}")),
    ];
    for (nth, form) in forms.iter().enumerate() {
        let mut context = armed();
        assert_eq!(report(&mut context, |alert| form(&mut alert.items[0])), 200, "form {nth}");
        let row = latest(&context);
        assert_eq!((row.phase, row.result_code), (ArmingPhase::Confirmed, Some(200)), "{nth}");
    }
}

#[test]
fn a_final_alert_that_is_refused_has_its_reason() {
    for data in ["OK", "", "<ResultCode>200</ResultCode>", "2 00", "70000"] {
        let mut context = armed();
        assert_eq!(report(&mut context, |it| it.items[0].data = Some(data.into())), 412, "{data}");
        let row = latest(&context);
        assert_eq!((row.phase, row.result_code), (ArmingPhase::Armed, None));
        let reason = row.reason.as_deref().unwrap();
        assert!(reason.starts_with("a final alert was not accepted: "), "{reason}");
        let note = context.notes.iter().find(|note| note.contains("answered 412"));
        assert!(note.is_some_and(|note| note.contains("downloadandupdate")), "{:?}", context.notes);
    }
    let mut context = armed();
    assert_eq!(report(&mut context, |it| change_type(&mut it.items[0], |_| "org.x".into())), 415);
    assert!(context.notes.iter().any(|note| note.contains("\"org.x\" answered 415")));
    assert_eq!(latest(&context).reason, None, "it is not known to end an operation");
}

#[test]
fn an_odd_item_of_an_alert_costs_that_item_alone() {
    let unknown = |item: &Item| {
        let mut other = item.clone();
        change_type(&mut other, |_| "com.vendor.thing".to_owned());
        other
    };
    let unreadable = |item: &Item| Item { data: Some("OK".into()), ..item.clone() };
    let orders: [&dyn Fn(Item) -> Vec<Item>; 4] = [
        &|item| vec![unknown(&item), item],
        &|item| vec![unreadable(&item), item],
        &|item| vec![item.clone(), unknown(&item)],
        &|item| vec![unknown(&item), item.clone(), unreadable(&item)],
    ];
    for (nth, order) in orders.iter().enumerate() {
        let mut context = armed();
        let code = report(&mut context, |alert| alert.items = order(alert.items[0].clone()));
        assert_eq!(code, 200, "order {nth}");
        assert_eq!(latest(&context).phase, ArmingPhase::Confirmed, "order {nth}");
        assert!(context.notes.iter().any(|note| note.starts_with("alert of type")), "{nth}");
    }
}

#[test]
fn a_final_alert_about_another_object_says_so() {
    let mut context = armed();
    report(&mut context, |alert| {
        alert.correlator = None;
        alert.items[0].source = Some(proto::dm::syncml::Location::new("./Other/Obj"));
    });
    let reason = latest(&context).reason.as_deref().unwrap();
    assert!(
        reason.ends_with("no Correlator, and is about another object: not counted"),
        "{reason}"
    );
}

fn with_format(item: &Item, format: Format) -> Item {
    let meta = Meta { format: Some(format), ..item.meta.clone().unwrap() };
    Item { meta: Some(meta), ..item.clone() }
}

fn change_type(item: &mut Item, change: impl Fn(&str) -> String) {
    let meta = item.meta.as_mut().unwrap();
    meta.kind = meta.kind.as_deref().map(change);
}
