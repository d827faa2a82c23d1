use super::*;
use crate::dm::fake::{FakeDevice, at, settings};

mod dynamic;

fn get(uri: &str) -> Result<(Format, String), StatusCode> {
    let item = Tree::new(settings()).get(&FakeDevice::default(), uri)?.remove(0);
    assert_eq!(item.source_uri(), Some(uri));
    let text = item.data_text().unwrap().to_owned();
    Ok((item.meta.unwrap().format.unwrap(), text))
}

fn text(uri: &str) -> String {
    get(uri).unwrap().1
}

#[test]
fn parents_list_what_is_below_them() {
    assert_eq!(get("."), Ok((Format::Node, "DMAcc/DevDetail/DevInfo/FwUpdate".to_owned())));
    assert_eq!(text("./DevInfo"), "DevId/DmV/Lang/Man/Mod");
    assert_eq!(text("DevDetail/URI"), "MaxDepth/MaxSegLen/MaxTotLen");
    assert_eq!(text("./FwUpdate"), "Main");
    assert_eq!(text("./FwUpdate/Main"), "Download/DownloadAndUpdate/Ext/PkgVersion/State/Update");
    assert_eq!(text("./FwUpdate/Main/DownloadAndUpdate"), "PkgURL");
    assert_eq!(
        text("./FwUpdate/Main/Ext/Broadcast"),
        "Campaign/Closes/Disarm/Limits/Manifest/Now/Opens/Phase/Plan/Policy/Progress/Reasons/Repair/\
         Report/Resume/Root/Sessions/Suspend/Version"
    );
}

// test: oma-002 fumo.state
#[test]
fn leaves_show_the_device() {
    assert_eq!(text("./DevInfo/DevId"), "LAB-0001");
    assert_eq!(text("./DevDetail/FwV"), "1.2.3");
    assert_eq!(get("./DevDetail/LrgObj"), Ok((Format::Bool, "true".to_owned())));
    assert_eq!(text("./DMAcc/1/ServerID"), "server");
    assert_eq!(get("./FwUpdate/Main/State"), Ok((Format::Int, "10".to_owned())));
    let under = |path: &str| text(&format!("./FwUpdate/Main/Ext/Broadcast/{path}"));
    assert_eq!(under("Version"), "1.0");
    assert_eq!(under("Root"), "4");
    assert_eq!(under("Phase"), "idle");
    assert_eq!(under("Reasons"), "battery,user");
    assert_eq!(under("Progress"), "125");
    assert_eq!(under("Limits/MaxBlockSymbols"), "8192");
    assert_eq!(under("Limits/Encodings"), "none");
    assert_eq!(under("Opens"), "");
    assert_eq!(under("Report/Filter"), "all");
}

#[test]
fn what_cannot_be_read_says_why() {
    for (uri, status) in [
        ("./Nowhere", StatusCode::NOT_FOUND),
        ("./DevInfo/../DMAcc", StatusCode::NOT_FOUND),
        ("./DMAcc/1/AppAuth/1/AAuthSecret", StatusCode::PERMISSION_DENIED),
        ("./DMAcc/1/AppAuth/1/AAuthData", StatusCode::PERMISSION_DENIED),
        ("./FwUpdate/Main/Ext/Broadcast/Campaign", StatusCode::NOT_ALLOWED),
        ("./FwUpdate/Main/Ext/Broadcast/Plan/15", StatusCode::NOT_ALLOWED),
        ("./FwUpdate/Main/Ext/Broadcast/Plan/16", StatusCode::NOT_FOUND),
        ("./FwUpdate/Main/Ext/Broadcast/Disarm", StatusCode::NOT_ALLOWED),
        ("./DevInfo?prop=Title", StatusCode::NOT_SUPPORTED),
        ("./DevInfo?list=Nonsense", StatusCode::NOT_SUPPORTED),
        ("./Nowhere?prop=Name", StatusCode::NOT_FOUND),
        ("./Nowhere?list=Struct", StatusCode::NOT_FOUND),
        (&"a/".repeat(200), StatusCode::URI_TOO_LONG),
    ] {
        assert_eq!(get(uri), Err(status), "{uri}");
    }
}

#[test]
fn commands_that_a_node_does_not_take_are_refused_and_change_nothing() {
    let mut tree = Tree::new(settings());
    let mut device = FakeDevice::default();
    let state = Item::text("./FwUpdate/Main/State", "60");
    let secret = Item::text("./DMAcc/1/AppAuth/1/AAuthData", "x");
    let url = Item::text("./FwUpdate/Main/Download/PkgURL", "fumocast:");
    let absent = Item::text("./FwUpdate/Other/State", "60");
    let parent = Item::text("./FwUpdate/Main", "x");
    for (item, status) in [
        (&state, StatusCode::NOT_ALLOWED),
        (&secret, StatusCode::NOT_ALLOWED),
        (&absent, StatusCode::NOT_FOUND),
        (&parent, StatusCode::NOT_ALLOWED),
        (&Item::default(), StatusCode::INCOMPLETE),
    ] {
        assert_eq!(tree.replace(at(0), &mut device, item), status, "{item:?}");
    }
    assert_eq!(tree.add(at(0), &mut device, &url), StatusCode::ALREADY_EXISTS);
    assert_eq!(tree.add(at(0), &mut device, &absent), StatusCode::NOT_ALLOWED);
    assert_eq!(tree.delete(at(0), &mut device, &parent), StatusCode::NOT_ALLOWED);
    assert_eq!(tree.delete(at(0), &mut device, &absent), StatusCode::NOT_FOUND);
    for (item, status) in [
        (&url, StatusCode::NOT_ALLOWED),
        (&parent, StatusCode::NOT_ALLOWED),
        (&absent, StatusCode::NOT_FOUND),
        (&Item::target("./FwUpdate/Main/Update"), StatusCode::NOT_ALLOWED),
    ] {
        assert_eq!(tree.exec(at(0), &mut device, item, None), status, "{item:?}");
    }
    assert!(device.armed.is_empty() && device.queue.is_empty());
}

#[test]
fn a_leaf_is_copied_to_a_leaf_that_may_be_written() {
    let mut tree = Tree::new(settings());
    let mut device = FakeDevice::default();
    let broadcast = |path: &str| format!("./FwUpdate/Main/Ext/Broadcast/{path}");
    let from_to = |from: &str, to: &str| Item {
        source: Some(proto::dm::syncml::Location::new(from)),
        ..Item::target(to)
    };
    tree.replace(at(0), &mut device, &Item::text(broadcast("Opens"), "1800"));
    let (opens, closes) = (broadcast("Opens"), broadcast("Closes"));
    for (from, to, status) in [
        (opens.as_str(), closes.as_str(), StatusCode::OK),
        ("./DevInfo", &closes, StatusCode::NOT_ALLOWED),
        (&opens, "./DevInfo/Man", StatusCode::NOT_ALLOWED),
        ("./Nowhere", &closes, StatusCode::NOT_FOUND),
        ("./DMAcc/1/AppAuth/1/AAuthSecret", &closes, StatusCode::PERMISSION_DENIED),
    ] {
        assert_eq!(tree.copy(at(0), &mut device, &from_to(from, to)), status, "{from} {to}");
    }
    assert_eq!(tree.get(&device, &closes).unwrap()[0].data_text(), Some("1800"));
    assert_eq!(tree.copy(at(0), &mut device, &Item::target(closes)), StatusCode::INCOMPLETE);
}

#[test]
fn an_operator_can_disarm_suspend_and_resume() {
    let mut tree = Tree::new(settings());
    let mut device = FakeDevice::default();
    for name in ["Disarm", "Suspend", "Resume"] {
        let item = Item::target(format!("./FwUpdate/Main/Ext/Broadcast/{name}"));
        assert_eq!(tree.exec(at(0), &mut device, &item, None), StatusCode::OK, "{name}");
    }
    assert_eq!(device.calls, ["disarm", "suspend", "resume"]);
}

// test: oma-002 6 (auxiliary management objects)
#[test]
fn what_was_written_can_be_read_back() {
    let mut tree = Tree::new(settings());
    let mut device = FakeDevice::default();
    for (path, value) in [
        ("DownloadAndUpdate/PkgURL", "fumocast://x"),
        ("Ext/Broadcast/Opens", "1800000000"),
        ("Ext/Broadcast/Sessions", "u 1 2\nv 3 4"),
        ("Ext/Broadcast/Report/Spread", "60"),
        ("Ext/Broadcast/Report/Filter", "sample 1/100"),
    ] {
        let uri = format!("./FwUpdate/Main/{path}");
        let status = tree.replace(at(0), &mut device, &Item::text(&uri, value));
        assert_eq!(status, StatusCode::OK, "{path}");
        assert_eq!(tree.get(&device, &uri).unwrap()[0].data_text(), Some(value), "{path}");
    }
}
