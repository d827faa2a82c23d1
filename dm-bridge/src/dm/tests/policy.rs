//! Nodes of a device's policy: set before all else, answered once, shown as answered.

use super::*;

fn ordered(texts: &[&str]) -> DeviceContext {
    let mut context = device_context();
    for text in texts {
        context.device.policy.set(text.parse().unwrap(), Utc(1));
    }
    context.attempts.clear();
    context
}

/// Returns the pending settings and the statuses.
fn standing(context: &DeviceContext) -> (Vec<String>, Vec<Option<u16>>) {
    let owed = context.device.policy.pending().map(|setting| setting.to_string()).collect();
    (owed, context.device.policy.iter().map(|(_, order)| order.status).collect())
}

fn again(context: &mut DeviceContext) -> Vec<String> {
    context.device.auth.next_nonce = Some(Nonce([1; 16]));
    let mut device = scripted();
    device.run(context);
    device.written()
}

#[test]
fn each_node_is_set_once_before_the_device_is_armed() {
    let mut context = DeviceContext {
        attempts: device_context().attempts,
        ..ordered(&["consent=both", "thermal=-5"])
    };
    context.device.pending_suspension = Some(SuspendCommand::Resume);
    let mut device = scripted();
    device.run(&mut context);
    let written = device.written();
    let first = ["Policy/Thermal", "Policy/Consent", "Exec Resume", "Manifest"];
    assert_eq!(written[..4], first);
    assert_eq!(written.iter().filter(|node| node.starts_with("Policy/")).count(), 2);
    assert_eq!(standing(&context), (vec![], vec![Some(200); 2]));
    assert_eq!(latest(&context).phase, ArmingPhase::Armed);
    let sent = device.seen.iter().find_map(|command| match command {
        Command::Replace(replace) => replace.items.first().cloned(),
        _ => None,
    });
    let uri = "./FwUpdate/Main/Ext/Broadcast/Policy/Thermal";
    let meta = Some(Meta::format(Format::Int));
    assert_eq!(sent, Some(Item { meta, data: Some("-5".into()), ..Item::target(uri) }));
    assert!(!again(&mut context).iter().any(|node| node.starts_with("Policy/")));
}

#[test]
fn a_rejected_setting_is_recorded_and_not_sent_again_and_the_others_are_set() {
    for code in [400, 403, 404, 405, 406, 500] {
        let mut context = ordered(&["consent=both", "install=on-command"]);
        let refused = Some(("Policy/Consent", StatusCode(code)));
        ScriptedDevice { refused, ..scripted() }.run(&mut context);
        assert_eq!(standing(&context), (vec![], vec![Some(200), Some(code)]));
        for note in [
            format!("policy consent=both answered {code}"),
            "policy install=on-command answered 200".to_owned(),
        ] {
            assert!(context.notes.contains(&note), "{note} {:?}", context.notes);
        }
        assert_eq!(again(&mut context), Vec::<String>::new());
    }
}

#[test]
fn a_setting_that_is_to_be_retried_is_sent_in_the_next_session() {
    let mut context = ordered(&["call=ignore"]);
    let refused = Some(("Policy/Call", StatusCode::UNAVAILABLE));
    let mut device = ScriptedDevice { refused, ..scripted() };
    device.run(&mut context);
    assert_eq!(device.written(), ["Policy/Call"]);
    assert_eq!(standing(&context), (vec!["call=ignore".to_owned()], vec![Some(503)]));
    assert_eq!(again(&mut context), ["Policy/Call"]);
    assert_eq!(standing(&context), (vec![], vec![Some(200)]));
}

/// Opens a session up to the message that sets the policy.
fn begun(context: &mut DeviceContext, device: &mut ScriptedDevice) -> (Box<DmSession>, Message) {
    let first = device.first_with(&[1; 16]);
    let (mut session, reply) =
        accepted(open(context, &first, NOW, Limits::default(), &mut || [9; 16]));
    let next = device.answer(&reply).unwrap();
    let reply = proceed(&mut session, context, &next, NOW, &mut || [9; 16]);
    assert!(reply.commands.iter().any(|command| command.verb() == Verb::Replace), "{reply:?}");
    (session, reply)
}

#[test]
fn a_setting_without_a_status_stays_pending() {
    let mut context = ordered(&["call=ignore"]);
    let mut device = scripted();
    let (mut session, reply) = begun(&mut context, &mut device);
    let mut silent = device.answer(&reply).unwrap();
    silent.commands.truncate(1);
    let last = proceed(&mut session, &mut context, &silent, NOW, &mut || [9; 16]);
    assert!(device.answer(&last).is_none(), "it is not sent twice in one session: {last:?}");
    assert_eq!(standing(&context), (vec!["call=ignore".to_owned()], vec![None]));
    assert!(
        context.notes.contains(&"policy call=ignore not answered".to_owned()),
        "{:?}",
        context.notes
    );
    assert_eq!(again(&mut context), ["Policy/Call"]);
}

#[test]
fn a_setting_changed_meanwhile_is_sent_in_the_same_session() {
    let mut context = ordered(&["call=ignore"]);
    let mut device = scripted();
    let (mut session, reply) = begun(&mut context, &mut device);
    context.device.policy.set("call=suspend".parse().unwrap(), Utc(2));
    let next = device.answer(&reply).unwrap();
    let reply = proceed(&mut session, &mut context, &next, NOW, &mut || [9; 16]);
    assert_eq!(standing(&context), (vec!["call=suspend".to_owned()], vec![None]));
    let next = device.answer(&reply).unwrap();
    proceed(&mut session, &mut context, &next, NOW, &mut || [9; 16]);
    assert_eq!(standing(&context), (vec![], vec![Some(200)]));
    assert!(session.is_finished());
}
