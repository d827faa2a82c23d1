//! Commands and alerts of a device that are no answers.

use super::*;

// test: oma-dm 4 (generic alert)
// test: oma-dm 1 (a client sends Replace, Results, Alert and Status alone)
#[test]
fn alerts_that_nobody_knows_and_commands_of_a_server_are_refused() {
    let mut context = device_context();
    let mut device = scripted();
    let mut unknown = final_alert(200, None);
    unknown.items[0].meta.as_mut().unwrap().kind = Some("org.example".to_owned());
    let mut untyped = unknown.clone();
    untyped.items[0].meta = None;
    let mut request = unknown.clone();
    request.items[0].meta.as_mut().unwrap().kind =
        Some("org.openmobilealliance.dm.firmwareupdate.userrequest".to_owned());
    let mut words = final_alert(200, Some("c1"));
    words.items[0].data = Some("fine".into());
    device.alerts = vec![unknown, untyped, request, words];
    let mut first = device.first_with(&[1; 16]);
    first.commands.push(Command::Get(Manage::new(CommandId::new(20), vec![Item::target("./x")])));
    let foreign = vec![Item::text("./FwUpdate/Main/State", "100")];
    first.commands.push(Command::Replace(Manage::new(CommandId::new(21), foreign)));
    let replies = device.run_from(&mut context, first, NOW);
    let answered: Vec<_> = codes(&replies[0]).iter().skip(3).map(|(_, code)| *code).collect();
    // The campaign is brought in this session.
    assert_eq!(answered, [415, 412, 200, 412, 405, 405]);
}

#[test]
fn a_dev_info_of_another_device_is_forbidden() {
    let mut context = device_context();
    let mut device = scripted();
    let mut first = device.first_with(&[1; 16]);
    let item = Item::value("./DevInfo/DevId", Format::Chr, "b");
    first.commands[1] = Command::Replace(Manage::new(CommandId::new(2), vec![item]));
    let replies = device.run_from(&mut context, first, NOW);
    assert!(codes(&replies[0]).contains(&(Verb::Replace, 403)));
}
