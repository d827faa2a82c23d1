//! Software components of a device: what it holds, and what is done with it.

use proto::dm::scomo::{Branch, ComponentState, Operation, OperationResult, ResultCode};

use super::*;
use crate::{
    campaign::model::{DeliveryMethod, Software},
    fleet::components::{ComponentOperation, OperationState},
};

/// A device with a delivered package and two components.
fn shelf() -> ScriptedDevice {
    scripted()
        .without("State")
        .with("Inventory/Delivered", "d1")
        .with("Inventory/Deployed", "x1/x2")
        .with("Delivered/d1/PkgID", "codec")
        .with("Deployed/x1/ID", "player")
        .with("Deployed/x1/Version", "2.1")
        .with("Deployed/x1/State", "active")
        .with("Deployed/x2/ID", "radio")
        .with("Deployed/x2/State", "Inactive")
}

fn idle() -> DeviceContext {
    let mut context = device_context();
    context.attempts.clear();
    context.device.components = Components::default();
    context
}

fn work(operation: Operation, id: &str) -> ComponentOperation {
    ComponentOperation {
        correlator: Correlator("w".to_owned()),
        operation,
        id: id.to_owned(),
        state: OperationState::Waiting,
        result_code: None,
        reason: None,
        updated: Utc(1),
    }
}

fn next_session(context: &mut DeviceContext) {
    context.device.auth.next_nonce = Some(Nonce([1; 16]));
}

// test: oma-dm 12.2 (the inventory is read)
#[test]
fn the_inventory_is_read_on_request_and_stored_with_its_time() {
    let mut context = idle();
    scripted().run(&mut context);
    assert_eq!(context.device.components, Components::default(), "nobody asked");
    next_session(&mut context);
    context.device.components.refresh_requested = true;
    shelf().run(&mut context);
    let components = &context.device.components;
    assert_eq!((components.read, components.refresh_requested), (Some(NOW), false));
    let held: Vec<_> = components
        .inventory
        .iter()
        .map(|it| (it.branch, it.id.as_str(), it.version.as_deref(), it.state))
        .collect();
    assert_eq!(
        held,
        [
            (Branch::Delivered, "codec", None, None),
            (Branch::Deployed, "player", Some("2.1"), Some(ComponentState::Active)),
            (Branch::Deployed, "radio", None, Some(ComponentState::Inactive)),
        ]
    );
}

#[test]
fn a_missing_inventory_is_empty_and_a_hidden_one_is_unknown() {
    let mut context = idle();
    context.device.components.refresh_requested = true;
    shelf().run(&mut context);
    let before = context.device.components.inventory.clone();
    for (code, is_read) in [(425, false), (405, false), (404, true)] {
        next_session(&mut context);
        context.device.components.refresh_requested = true;
        let mut device = ScriptedDevice { missing: StatusCode(code), ..scripted() };
        device.run(&mut context);
        let components = &context.device.components;
        assert!(!components.refresh_requested);
        assert_eq!(components.refused.is_none(), is_read, "{code}");
        assert_eq!(components.inventory.is_empty(), is_read, "{code}");
        assert!(is_read || components.inventory == before, "{code}");
    }
}

// test: oma-dm 12.2 (operations of operators)
#[test]
fn an_operation_is_begun_by_an_exec_at_the_node_of_the_component() {
    for (operation, id, uri) in [
        (Operation::Activate, "radio", "Deployed/x2/Operations/Activate"),
        (Operation::Deactivate, "player", "Deployed/x1/Operations/Deactivate"),
        (Operation::Remove, "player", "Deployed/x1/Operations/Remove"),
        (Operation::Install, "codec", "Delivered/d1/Operations/Install"),
        (Operation::InstallInactive, "codec", "Delivered/d1/Operations/InstallInactive"),
        (Operation::RemovePackage, "codec", "Delivered/d1/Operations/Remove"),
        (Operation::Activate, "unseen", "Deployed/unseen/Operations/Activate"),
    ] {
        let mut context = idle();
        context.device.components.refresh_requested = true;
        shelf().run(&mut context);
        next_session(&mut context);
        context.device.components.queue(work(operation, id)).unwrap();
        let mut device = shelf();
        device.run(&mut context);
        assert_eq!(device.written(), [format!("Exec ./SCOMO/Inventory/{uri}")]);
        let Some(Command::Exec(exec)) = device.seen.iter().find(|it| it.verb() == Verb::Exec)
        else {
            panic!()
        };
        assert_eq!(exec.correlator, Some(Correlator("w".to_owned())));
        assert_eq!(context.device.components.operations[0].state, OperationState::Accepted);
    }
}

#[test]
fn an_exec_with_retry_later_is_sent_again_and_a_rejected_one_is_not() {
    for (code, phase) in [
        (202, OperationState::Accepted),
        (417, OperationState::Waiting),
        (503, OperationState::Waiting),
        (404, OperationState::Failed),
        (425, OperationState::Failed),
        (500, OperationState::Failed),
    ] {
        let mut context = idle();
        context.device.components.queue(work(Operation::Activate, "radio")).unwrap();
        let mut device = ScriptedDevice { exec: StatusCode(code), ..shelf() };
        device.run(&mut context);
        assert_eq!(context.device.components.operations[0].state, phase, "{code}");
        assert_eq!(device.written().len(), 1, "once a session");
    }
}

// test: oma-dm 15.5 (a result of a component is counted once)
#[test]
fn a_result_is_counted_once_and_what_it_left_behind_is_read_in_the_same_session() {
    let mut context = idle();
    context.device.components.queue(work(Operation::Activate, "radio")).unwrap();
    shelf().run(&mut context);
    let result = |code| OperationResult {
        source: None,
        target: None,
        result: ResultCode(code),
        identifier: Some("radio".to_owned()),
        correlator: Some(Correlator("w".to_owned())),
    };
    for code in [1200, 1200, 1409] {
        next_session(&mut context);
        let mut device = shelf().with("Deployed/x2/State", "active");
        device.alerts.push(result(code).to_alert(CommandId::new(9)));
        let replies = device.run(&mut context);
        assert_eq!(codes(&replies[0]).last(), Some(&(Verb::Alert, 200)));
        let components = &context.device.components;
        let work = &components.operations[0];
        assert_eq!((work.state, work.result_code), (OperationState::Done, Some(1200)));
        assert_eq!(components.inventory[2].state, Some(ComponentState::Active), "read back");
    }
    next_session(&mut context);
    let mut device = shelf();
    let strange = OperationResult { correlator: None, ..result(1200) };
    device.alerts.push(strange.to_alert(CommandId::new(9)));
    assert_eq!(codes(&device.run(&mut context)[0]).last(), Some(&(Verb::Alert, 202)));
}

// test: oma-dm 11.6 (a final alert without a correlator)
#[test]
fn a_result_without_correlator_counts_for_the_only_operation_on_a_component() {
    let mut context = idle();
    let result = OperationResult {
        source: None,
        target: None,
        result: ResultCode(1200),
        identifier: Some("radio".to_owned()),
        correlator: None,
    };
    for (others, state) in [(1, OperationState::Accepted), (0, OperationState::Done)] {
        context.device.components = Components::default();
        context.device.components.queue(work(Operation::Activate, "radio")).unwrap();
        if others > 0 {
            let correlator = Correlator("v".to_owned());
            let other = ComponentOperation { correlator, ..work(Operation::Activate, "codec") };
            context.device.components.queue(other).unwrap();
        }
        next_session(&mut context);
        ScriptedDevice { exec: StatusCode(101), ..shelf() }.run(&mut context);
        let operation = context.device.components.operations[0].clone();
        assert_eq!(operation.state, OperationState::Accepted);
        assert_eq!(operation.reason.as_deref(), Some("Exec answered 101"));
        next_session(&mut context);
        let mut device = shelf();
        device.alerts.push(result.to_alert(CommandId::new(9)));
        device.run(&mut context);
        assert_eq!(context.device.components.operations[0].state, state, "{others}");
    }
}

#[test]
fn a_long_list_is_stored_up_to_its_limit_and_the_session_ends() {
    let names: Vec<_> = (0..500).map(|number| format!("n{number}")).collect();
    let list: &'static str = Box::leak(names.join("/").into_boxed_str());
    let mut context = idle();
    context.device.components.refresh_requested = true;
    let mut device = scripted().with("Inventory/Deployed", list);
    device.run(&mut context);
    let held = &context.device.components.inventory;
    assert_eq!(held.len(), crate::fleet::components::MAX_INVENTORY);
    assert_eq!((held[3].node.as_str(), held[3].id.as_str()), ("n3", "n3"));
}

/// A device that is selected for a campaign of a component.
fn campaign_context(operation: Operation) -> DeviceContext {
    let mut context = device_context();
    let package = "player".parse().unwrap();
    context.campaigns[0].delivery.software = Some(Software { package, operation });
    context
}

fn short(device: &ScriptedDevice) -> Vec<String> {
    below(device, "./SCOMO/Download/player")
}

/// Returns the writes, with `x` for a node.
fn below(device: &ScriptedDevice, node: &str) -> Vec<String> {
    device.written().into_iter().map(|name| name.replace(node, "x")).collect()
}

// test: oma-002 7 (components by the same arming)
#[test]
fn a_component_is_armed_like_firmware_below_a_download_of_its_own() {
    for (operation, node) in [
        (Operation::DownloadInstall, "DownloadInstall"),
        (Operation::DownloadInstallInactive, "DownloadInstallInactive"),
        (Operation::Download, "Download"),
    ] {
        let mut context = campaign_context(operation);
        let mut device = scripted();
        device.run(&mut context);
        let exec = format!("Exec x/Operations/{node}");
        assert_eq!(
            short(&device),
            [
                "Add x",
                "Add x/PkgID",
                "x/Manifest",
                "x/Campaign",
                "x/Plan/0",
                "x/Now",
                "x/Opens",
                "x/Closes",
                "x/Report/Spread",
                "Add x/PkgURL",
                exec.as_str(),
            ]
        );
        assert_eq!(device.groups, [Verb::Sequence]);
        assert_eq!(latest(&context).phase, ArmingPhase::Armed);
    }
}

#[test]
fn a_download_that_is_there_from_an_earlier_attempt_is_overwritten() {
    for node in ["Download/player", "Download/player/PkgID", "Download/player/PkgURL"] {
        let mut context = campaign_context(Operation::DownloadInstall);
        let refused = Some((node, StatusCode::ALREADY_EXISTS));
        let mut device = ScriptedDevice { refused, ..scripted() };
        // A Replace of the same node is accepted.
        device.refuses_adds_alone = true;
        device.run(&mut context);
        assert_eq!(
            latest(&context).phase,
            ArmingPhase::Armed,
            "{node}: {:?}",
            latest(&context).reason
        );
        let is_leaf = node != "Download/player";
        let replaced = short(&device).contains(&node.replace("Download/player", "x"));
        assert_eq!(replaced, is_leaf, "{node}");
    }
}

fn direct(ways: &[DeliveryMethod], operation: Operation, octets: usize) -> DeviceContext {
    let mut context = campaign_context(operation);
    let campaign = &mut context.campaigns[0];
    campaign.delivery.methods = ways.to_vec();
    campaign.delivery.bundle_bytes = 10;
    context.packages.insert(campaign.id, vec![9; octets].into());
    context.attempts[0].delivery_method = ways[0];
    context
}

/// Returns the writes below the delivered package.
fn delivered(device: &ScriptedDevice) -> Vec<String> {
    below(device, "./SCOMO/Inventory/Delivered/player")
}

// test: oma-002 scomo.install (a package inside the DM session)
#[test]
fn a_component_is_sent_inside_the_session_and_installed_from_delivered() {
    for (operation, node, state) in [
        (Operation::DownloadInstall, "Install", "Active"),
        (Operation::DownloadInstallInactive, "InstallInactive", "Inactive"),
    ] {
        let mut context = direct(&[DeliveryMethod::Direct], operation, 10);
        let mut device = scripted();
        device.run(&mut context);
        let exec = format!("Exec x/Operations/{node}");
        assert_eq!(delivered(&device), ["Add x", "Add x/PkgID", "x/Data", exec.as_str()]);
        assert_eq!(latest(&context).phase, ArmingPhase::Armed);
        next_session(&mut context);
        let mut device = shelf().with("Deployed/x1/State", state);
        let result = OperationResult {
            source: None,
            target: None,
            result: ResultCode::SUCCESS,
            identifier: Some("player".to_owned()),
            correlator: Some(Correlator("c1".to_owned())),
        };
        device.alerts.push(result.to_alert(CommandId::new(9)));
        device.run(&mut context);
        assert_eq!(latest(&context).phase, ArmingPhase::Confirmed);
    }
}

#[test]
fn a_large_component_is_sent_in_chunks_and_one_without_space_is_not_installed() {
    let mut context = direct(&[DeliveryMethod::Direct], Operation::DownloadInstall, 20_000);
    let mut device = ScriptedDevice { limit: 4_096, ..scripted().with("LrgObj", "true") };
    device.run(&mut context);
    let names = delivered(&device);
    let chunks = names.iter().filter(|name| *name == "x/Data").count();
    assert!(chunks > 5, "{names:?}");
    assert_eq!(names.last().unwrap(), "Exec x/Operations/Install");
    let mut context = direct(&[DeliveryMethod::Direct], Operation::DownloadInstall, 10);
    let refused = Some(("Data", StatusCode(420)));
    let mut device = ScriptedDevice { refused, ..scripted() };
    device.run(&mut context);
    assert_eq!(delivered(&device).last().unwrap(), "x/Data");
    assert_eq!(latest(&context).reason.as_deref(), Some("attempt 1: Replace of Data answered 420"));
}

#[test]
fn a_device_that_cannot_be_armed_for_a_component_gets_it_inside_the_session() {
    let ways = [DeliveryMethod::Broadcast, DeliveryMethod::Direct];
    let mut context = direct(&ways, Operation::DownloadInstall, 10);
    let mut device = scripted().without("Broadcast/Version");
    device.run(&mut context);
    assert_eq!(delivered(&device).last().unwrap(), "Exec x/Operations/Install");
    assert_eq!(
        (latest(&context).delivery_method, latest(&context).phase),
        (DeliveryMethod::Direct, ArmingPhase::Armed)
    );
}

#[test]
fn a_component_that_is_downloaded_by_url_needs_no_broadcast() {
    let mut context = campaign_context(Operation::DownloadInstall);
    context.campaigns[0].delivery.methods = vec![DeliveryMethod::Download];
    context.campaigns[0].delivery.bundle_bytes = 10;
    context.attempts[0].delivery_method = DeliveryMethod::Download;
    let mut device = scripted();
    device.run(&mut context);
    let expected = ["Add x", "Add x/PkgID", "Add x/PkgURL", "Exec x/Operations/DownloadInstall"];
    assert_eq!(short(&device), expected);
}

#[test]
fn a_parser_that_wants_data_in_every_add_gets_it() {
    for (quirks, expected) in [(&[][..], false), (&[Quirk::DataOnInteriorAdd], true)] {
        let mut context = campaign_context(Operation::DownloadInstall);
        context.device.profile.quirks = quirks.iter().copied().collect();
        let mut device = scripted();
        let replies = device.run(&mut context);
        let octets: Vec<u8> = replies.iter().flat_map(|it| Encoding::Xml.emit(it)).collect();
        let text = String::from_utf8(octets).unwrap();
        let add = text.split("<Add>").nth(1).unwrap().split("</Add>").next().unwrap();
        assert!(add.contains(">node</Format>"), "{add}");
        assert_eq!(add.contains("<Data"), expected, "{add}");
    }
}

// test: oma-002 7 (components by the same arming)
#[test]
fn a_component_is_confirmed_by_the_inventory_and_not_by_its_result() {
    for (node, phase) in
        [("player", ArmingPhase::Confirmed), ("other", ArmingPhase::VersionMismatch)]
    {
        let mut context = campaign_context(Operation::DownloadInstall);
        scripted().run(&mut context);
        next_session(&mut context);
        let mut device = shelf().without("Deployed/x1/ID").with("Deployed/x1/ID", node);
        let result = OperationResult {
            source: None,
            target: None,
            result: ResultCode::SUCCESS,
            identifier: Some("player".to_owned()),
            correlator: Some(Correlator("c1".to_owned())),
        };
        device.alerts.push(result.to_alert(CommandId::new(9)));
        device.run(&mut context);
        let row = latest(&context);
        assert_eq!((row.phase, row.result_code), (phase, Some(1200)), "{:?}", row.reason);
    }
}
