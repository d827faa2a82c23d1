use std::collections::BTreeMap;

use super::*;
use crate::{
    components::Deployed,
    dm::{
        fake::{FakeDevice, at, settings},
        tree::Tree,
    },
};

/// A tree and a device with one component.
struct Managed {
    tree: Tree,
    device: FakeDevice,
}

impl Managed {
    fn new() -> Self {
        let player = Deployed {
            id: "player".parse().unwrap(),
            version: "2".to_owned(),
            active: true,
            name: Some("Player".to_owned()),
            description: None,
        };
        let software = Software { is_shown: true, deployed: vec![player], ..Software::default() };
        let device = FakeDevice { software: Some(software), ..FakeDevice::default() };
        Self { tree: Tree::new(settings()), device }
    }

    fn get(&self, path: &str) -> Result<String, StatusCode> {
        let item = self.tree.get(&self.device, &format!("./SCOMO{path}"))?.remove(0);
        Ok(item.data_text().unwrap_or_default().to_owned())
    }

    fn add(&mut self, path: &str, text: &str) -> StatusCode {
        let uri = format!("./SCOMO/{path}");
        let item = if text.is_empty() {
            let format = Some(Format::Node);
            let meta = Some(proto::dm::syncml::Meta { format, ..Default::default() });
            Item { meta, ..Item::target(uri) }
        } else {
            Item::text(uri, text)
        };
        self.tree.add(at(0), &mut self.device, &item)
    }

    fn replace(&mut self, path: &str, text: &str) -> StatusCode {
        let item = Item::text(format!("./SCOMO/{path}"), text);
        self.tree.replace(at(0), &mut self.device, &item)
    }

    fn delete(&mut self, path: &str) -> StatusCode {
        self.tree.delete(at(0), &mut self.device, &Item::target(format!("./SCOMO/{path}")))
    }

    fn exec(&mut self, path: &str) -> StatusCode {
        let correlator = Some(Correlator("c-1".to_owned()));
        let item = Item::target(format!("./SCOMO/{path}"));
        self.tree.exec(at(0), &mut self.device, &item, correlator)
    }

    fn announce(&mut self, url: &str) {
        assert_eq!(self.add("Download/x", ""), StatusCode::OK);
        assert_eq!(self.add("Download/x/PkgID", "player"), StatusCode::OK);
        assert_eq!(self.add("Download/x/PkgURL", url), StatusCode::OK);
    }
}

// test: oma-dm 12.1 (inventory)
#[test]
fn the_inventory_shows_what_is_installed() {
    let managed = Managed::new();
    for (path, text) in [
        ("", "Download/Inventory"),
        ("/Download", ""),
        ("/Inventory", "Delivered/Deployed"),
        ("/Inventory/Delivered", ""),
        ("/Inventory/Deployed", "player"),
        ("/Inventory/Deployed/player", "ID/Name/Operations/PkgIDRef/State/Status/Version"),
        ("/Inventory/Deployed/player/Operations", "Activate/Deactivate/Remove"),
        ("/Inventory/Deployed/player/State", "active"),
        ("/Inventory/Deployed/player/Status", "10"),
        ("/Inventory/Deployed/player/Version", "2"),
    ] {
        assert_eq!(managed.get(path).as_deref(), Ok(text), "{path}");
    }
    let kind = managed.tree.get(&managed.device, "./SCOMO?prop=Type").unwrap();
    assert_eq!(kind[0].data_text(), Some("urn:oma:mo:oma-scomo:1.0"));
}

// test: oma-003 6.1.4.16
#[test]
fn without_leave_the_inventory_is_closed_and_downloads_are_not() {
    let mut managed = Managed::new();
    managed.device.software.as_mut().unwrap().is_shown = false;
    for path in ["/Inventory", "/Inventory/Delivered", "/Inventory/Deployed"] {
        assert_eq!(managed.get(path), Err(StatusCode::PERMISSION_DENIED), "{path}");
        assert!(is_inventory(&format!("./SCOMO{path}?list=TNDS")));
    }
    assert_eq!(managed.get("/Inventory/Deployed/player/ID"), Err(StatusCode::NOT_FOUND));
    for query in ["?list=TNDS", "?list=StructData", "?list=Struct"] {
        let found = managed.tree.get(&managed.device, &format!("./SCOMO{query}"));
        let text = format!("{found:?}");
        assert!(!text.contains("player"), "{text}");
    }
    managed.announce("http://h/p");
    assert_eq!(managed.exec("Download/x/Operations/DownloadInstall"), StatusCode::ACCEPTED);
    assert!(!is_inventory("./SCOMO/Download/x") && !is_inventory("./FwUpdate/Main"));
}

// test: oma-dm 12.1 (nodes that a server adds)
#[test]
fn a_server_adds_writes_reads_and_deletes_a_download() {
    let mut managed = Managed::new();
    managed.announce("http://h/p");
    let leaves = "Ext/Operations/PkgID/PkgURL/Status";
    assert_eq!(managed.get("/Download/x").as_deref(), Ok(leaves));
    assert_eq!(managed.replace("Download/x/PkgURL", "http://h/q"), StatusCode::OK);
    assert_eq!(managed.get("/Download/x/PkgURL").as_deref(), Ok("http://h/q"));
    for (status, expected) in [
        (managed.add("Download/x", ""), StatusCode::ALREADY_EXISTS),
        (managed.add("Download/x/Nonsense", "y"), StatusCode::NOT_ALLOWED),
        (managed.add("Download/x/Name", ""), StatusCode::NOT_ALLOWED),
        (managed.add("Inventory/Deployed/y", ""), StatusCode::NOT_ALLOWED),
        (managed.add("Elsewhere", "y"), StatusCode::NOT_ALLOWED),
        (managed.replace("Download/x/Name", "y"), StatusCode::NOT_FOUND),
        (managed.replace("Download/x/Status", "50"), StatusCode::NOT_ALLOWED),
        (managed.replace("Download/x/PkgID", "a b"), StatusCode::BAD_REQUEST),
        (managed.delete("Download/x/PkgID"), StatusCode::NOT_ALLOWED),
        (managed.delete("Inventory/Deployed/player"), StatusCode::NOT_ALLOWED),
        (managed.delete("Download/x"), StatusCode::OK),
        (managed.delete("Download/x"), StatusCode::NOT_FOUND),
        (managed.add("Download/y/PkgID", "player"), StatusCode::OK),
        (managed.add("Inventory/Delivered/z/PkgID", "player"), StatusCode::OK),
    ] {
        assert_eq!(status, expected);
    }
    assert_eq!(managed.get("/Download").as_deref(), Ok("y"), "its parent came with the leaf");
}

// test: oma-002 7 (a component by broadcast)
#[test]
fn a_download_is_armed_by_broadcast_with_what_was_staged_below_it() {
    let mut managed = Managed::new();
    managed.announce("fumocast://232.1.2.3:3400/7?s=192.0.2.1");
    let octets = |path: &str, octets: &[u8]| Item::octets(format!("./SCOMO/{path}"), octets);
    for (path, document) in [("Campaign", b"c"), ("Manifest", b"m"), ("Plan/0", b"p")] {
        let item = octets(&format!("Download/x/Ext/Broadcast/{path}"), document);
        assert_eq!(managed.tree.replace(at(0), &mut managed.device, &item), StatusCode::OK);
    }
    assert_eq!(managed.replace("Download/x/Ext/Broadcast/Opens", "2000"), StatusCode::OK);
    assert_eq!(managed.get("/Download/x/Ext/Broadcast/Version").as_deref(), Ok("1.0"));
    assert_eq!(managed.get("/Download/x/Ext/Broadcast/Phase").as_deref(), Ok("idle"));
    let operation = "Download/x/Operations/DownloadInstallInactive";
    assert_eq!(managed.exec(operation), StatusCode::ACCEPTED);
    let [armed] = managed.device.armed.as_slice() else { panic!("armed once") };
    let subject = armed.subject.clone().unwrap();
    assert_eq!(subject.source(), format!("./SCOMO/{operation}"));
    assert_eq!((armed.operation, subject.activates()), (FumoOperation::DownloadAndUpdate, false));
    assert_eq!((armed.campaign.as_slice(), armed.manifest.as_slice()), (&b"c"[..], &b"m"[..]));
    assert_eq!(armed.plan_headers, BTreeMap::from([(proto::ids::ComponentId(0), b"p".to_vec())]));
    assert_eq!(armed.opens.map(proto::time::Utc::seconds), Some(2000));
    assert_eq!(managed.exec("Download/x/Ext/Broadcast/Disarm"), StatusCode::OK);
    assert!(managed.device.calls.is_empty(), "nothing of this download goes on");
}

#[test]
fn an_exec_is_refused_where_it_lacks_a_part() {
    let mut managed = Managed::new();
    managed.add("Download/x", "");
    for (path, status) in [
        ("Download/x/Operations/Download", StatusCode::INCOMPLETE),
        ("Download/x/Operations/Remove", StatusCode::NOT_FOUND),
        ("Download/x", StatusCode::NOT_ALLOWED),
        ("Inventory/Deployed/game/Operations/Remove", StatusCode::NOT_FOUND),
    ] {
        assert_eq!(managed.exec(path), status, "{path}");
    }
    managed.add("Download/x/PkgID", "player");
    assert_eq!(managed.exec("Download/x/Operations/Download"), StatusCode::ACCEPTED);
    let result = managed.device.queue[0].to_alert(proto::dm::syncml::CommandId::new(1), "");
    let data = result.items[0].data_text().unwrap();
    assert_eq!(data, "<ResultCode>1402</ResultCode><Identifier>player</Identifier>");
}

#[test]
fn changes_and_direct_delivery_go_to_the_device() {
    let mut managed = Managed::new();
    assert_eq!(managed.exec("Inventory/Deployed/player/Operations/Activate"), StatusCode::OK);
    managed.add("Inventory/Delivered/z", "");
    let data = Item::octets("./SCOMO/Inventory/Delivered/z/Data", b"bundle");
    let replace = |managed: &mut Managed| managed.tree.replace(at(0), &mut managed.device, &data);
    assert_eq!(replace(&mut managed), StatusCode::INCOMPLETE, "nobody knows of what");
    managed.add("Inventory/Delivered/z/PkgID", "player");
    assert_eq!(replace(&mut managed), StatusCode::OK);
    assert_eq!(managed.exec("Inventory/Delivered/z/Operations/Install"), StatusCode::OK);
    let changes: Vec<_> = managed.device.changes.iter().map(ComponentTarget::source).collect();
    assert_eq!(
        changes,
        [
            "./SCOMO/Inventory/Deployed/player/Operations/Activate",
            "./SCOMO/Inventory/Delivered/z/Operations/Install",
        ]
    );
    assert_eq!(managed.device.package, b"bundle");
}

#[test]
fn an_atomic_that_fails_takes_back_what_was_announced() {
    let mut managed = Managed::new();
    managed.announce("http://h/p");
    let before = managed.device.software.clone().unwrap().announced;
    let checkpoint = managed.tree.checkpoint(&managed.device);
    managed.replace("Download/x/PkgURL", "http://h/q");
    managed.delete("Download/x");
    managed.add("Inventory/Delivered/z/PkgID", "player");
    let stay = managed.tree.roll_back(at(0), &mut managed.device, checkpoint);
    assert!(stay.is_empty());
    assert_eq!(managed.device.software.unwrap().announced, before);
}

#[test]
fn a_device_without_components_has_no_object() {
    let mut managed = Managed::new();
    managed.device.software = None;
    assert_eq!(managed.get(""), Err(StatusCode::NOT_FOUND));
    assert_eq!(managed.add("Download/x", ""), StatusCode::NOT_ALLOWED);
}
