//! Nodes of a device's policy: set before all else, answered once, shown as answered.

use super::*;

fn ordered(texts: &[&str]) -> Desk {
    let mut desk = desk();
    for text in texts {
        desk.device.policy.order(text.parse().unwrap(), Utc(1));
    }
    desk.armings.clear();
    desk
}

/// What is owed, and what was answered.
fn standing(desk: &Desk) -> (Vec<String>, Vec<Option<u16>>) {
    let owed = desk.device.policy.owed().map(|setting| setting.to_string()).collect();
    (owed, desk.device.policy.iter().map(|(_, order)| order.answer).collect())
}

fn again(desk: &mut Desk) -> Vec<String> {
    desk.device.auth.next_nonce = Some(Nonce([1; 16]));
    let mut device = Device::new();
    device.run(desk);
    device.written()
}

#[test]
fn each_node_is_set_once_before_the_device_is_armed() {
    let mut desk = Desk { armings: desk().armings, ..ordered(&["consent=both", "thermal=-5"]) };
    desk.device.rest = Some(Rest::Resume);
    let mut device = Device::new();
    device.run(&mut desk);
    let written = device.written();
    let first = ["Policy/Thermal", "Policy/Consent", "Exec Resume", "Manifest"];
    assert_eq!(written[..4], first);
    assert_eq!(written.iter().filter(|node| node.starts_with("Policy/")).count(), 2);
    assert_eq!(standing(&desk), (vec![], vec![Some(200); 2]));
    assert_eq!(latest(&desk).phase, ArmingPhase::Armed);
    let sent = device.seen.iter().find_map(|command| match command {
        Command::Replace(replace) => replace.items.first().cloned(),
        _ => None,
    });
    let uri = "./FwUpdate/Main/Ext/Broadcast/Policy/Thermal";
    let meta = Some(Meta::format(Format::Int));
    assert_eq!(sent, Some(Item { meta, data: Some("-5".into()), ..Item::target(uri) }));
    assert!(!again(&mut desk).iter().any(|node| node.starts_with("Policy/")));
}

#[test]
fn what_the_device_refuses_is_kept_and_not_said_again_and_the_others_are_set() {
    for code in [400, 403, 404, 405, 406, 500] {
        let mut desk = ordered(&["consent=both", "install=on-command"]);
        let refused = Some(("Policy/Consent", StatusCode(code)));
        Device { refused, ..Device::new() }.run(&mut desk);
        assert_eq!(standing(&desk), (vec![], vec![Some(200), Some(code)]));
        for note in [
            format!("policy consent=both answered {code}"),
            "policy install=on-command answered 200".to_owned(),
        ] {
            assert!(desk.notes.contains(&note), "{note} {:?}", desk.notes);
        }
        assert_eq!(again(&mut desk), Vec::<String>::new());
    }
}

#[test]
fn a_device_that_is_to_be_asked_later_is_asked_in_its_next_session() {
    let mut desk = ordered(&["call=ignore"]);
    let refused = Some(("Policy/Call", StatusCode::UNAVAILABLE));
    let mut device = Device { refused, ..Device::new() };
    device.run(&mut desk);
    assert_eq!(device.written(), ["Policy/Call"]);
    assert_eq!(standing(&desk), (vec!["call=ignore".to_owned()], vec![Some(503)]));
    assert_eq!(again(&mut desk), ["Policy/Call"]);
    assert_eq!(standing(&desk), (vec![], vec![Some(200)]));
}

/// Opens a session up to the message that sets the policy.
fn begun(desk: &mut Desk, device: &mut Device) -> (DmSession, Message) {
    let first = device.first([1; 16]);
    let opening = DmSession::open(desk, received(&first), NOW, Limits::default(), &mut || [9; 16]);
    let Opening::Accepted(mut session, reply) = opening else { panic!("{opening:?}") };
    let next = device.answer(&reply).unwrap();
    let reply = session.handle(desk, received(&next), NOW, &mut || [9; 16]);
    assert!(reply.commands.iter().any(|command| command.verb() == Verb::Replace), "{reply:?}");
    (*session, reply)
}

#[test]
fn a_setting_without_an_answer_stays_owed() {
    let mut desk = ordered(&["call=ignore"]);
    let mut device = Device::new();
    let (mut session, reply) = begun(&mut desk, &mut device);
    let mut silent = device.answer(&reply).unwrap();
    silent.commands.truncate(1);
    let last = session.handle(&mut desk, received(&silent), NOW, &mut || [9; 16]);
    assert!(device.answer(&last).is_none(), "it is not said twice in one session: {last:?}");
    assert_eq!(standing(&desk), (vec!["call=ignore".to_owned()], vec![None]));
    assert!(desk.notes.contains(&"policy call=ignore not answered".to_owned()), "{:?}", desk.notes);
    assert_eq!(again(&mut desk), ["Policy/Call"]);
}

#[test]
fn what_the_desk_decides_meanwhile_is_said_in_the_same_session_and_alone_is_answered() {
    let mut desk = ordered(&["call=ignore"]);
    let mut device = Device::new();
    let (mut session, reply) = begun(&mut desk, &mut device);
    desk.device.policy.order("call=suspend".parse().unwrap(), Utc(2));
    let next = device.answer(&reply).unwrap();
    let reply = session.handle(&mut desk, received(&next), NOW, &mut || [9; 16]);
    assert_eq!(standing(&desk), (vec!["call=suspend".to_owned()], vec![None]));
    let next = device.answer(&reply).unwrap();
    session.handle(&mut desk, received(&next), NOW, &mut || [9; 16]);
    assert_eq!(standing(&desk), (vec![], vec![Some(200)]));
    assert!(session.is_finished());
}
