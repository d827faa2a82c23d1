//! The management tree: what each command does to the node it addresses.
//!
//! All nodes are permanent and the tree is made anew for each question, from the device's view and
//! from what is staged; parents exist because something lies below them.
//!
//! | module | holds |
//! | --- | --- |
//! | `acl` | who may do what |
//! | `query` | properties and lists |
//! | `export` | subtrees as documents |

use std::collections::{BTreeMap, BTreeSet};

use proto::{
    dm::{
        code::{Format, StatusCode},
        nodes::{broadcast, device as names},
        syncml::{Item, Meta},
        uri::{Address, MAX_DEPTH, MAX_SEGMENT_LENGTH, MAX_TOTAL_LENGTH, NodeUri, Query},
    },
    ids::Correlator,
    time::Now,
};

mod acl;
mod export;
mod query;

use acl::Right;

use super::{
    Device, Settings,
    fumo::{Checkpoint, FumoObject, Leaf, PlainHttp},
};

/// The device's management tree.
#[derive(Debug)]
pub struct Tree {
    settings: Settings,
    object: FumoObject,
}

/// What lies at an address.
enum Node {
    Leaf(Leaf),
    /// A leaf that holds a secret.
    Secret,
    /// A parent of other nodes.
    Parent,
}

impl Tree {
    /// Makes the tree of a device.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let plain = settings.account.url.starts_with("http://");
        let plain_http = if plain { PlainHttp::Allowed } else { PlainHttp::Refused };
        Self { settings, object: FumoObject::new(plain_http) }
    }

    /// Returns the settings that the tree shows.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Forgets what an earlier DM session staged and did not use.
    pub fn begin_session(&mut self) {
        self.object.begin_session();
    }

    /// Returns the items of the Replace that opens every DM session.
    #[must_use]
    pub fn device_info(&self) -> Vec<Item> {
        let identity = &self.settings.identity;
        [
            (names::ID, identity.device_id.as_str()),
            (names::MANUFACTURER, &identity.manufacturer),
            (names::MODEL, &identity.model),
            (names::DM_VERSION, env!("CARGO_PKG_VERSION")),
            (names::LANGUAGE, &identity.language),
        ]
        .into_iter()
        .map(|(uri, value)| Item::value(uri, Format::Chr, value))
        .collect()
    }

    /// Reads what an address asks for: a leaf's value, the names below a parent, a property of a
    /// node, or a list of the subtree.
    ///
    /// # Errors
    ///
    /// The status that tells the server why not.
    pub fn get(&self, device: &dyn Device, uri: &str) -> Result<Vec<Item>, StatusCode> {
        let Address { node, query } = parse(uri)?;
        // spec: oma-dm 2.2 (425)
        if find(&self.nodes(device), &node).is_some() && !self.allows(device, &node, Right::Get) {
            return Err(StatusCode::PERMISSION_DENIED);
        }
        match query {
            None => Ok(vec![self.read(device, uri, &node)?]),
            Some(Query::Property(name)) => Ok(vec![self.property(device, uri, &node, &name)?]),
            Some(Query::List(kind)) => self.list(device, uri, &node, &kind),
        }
    }

    fn read(&self, device: &dyn Device, uri: &str, node: &NodeUri) -> Result<Item, StatusCode> {
        let nodes = self.nodes(device);
        match find(&nodes, node).ok_or(StatusCode::NOT_FOUND)? {
            Node::Leaf(Leaf::Read(format, value) | Leaf::ReadWrite(format, value)) => {
                Ok(Item::value(uri, format, value))
            }
            Node::Secret => Err(StatusCode::PERMISSION_DENIED),
            Node::Leaf(Leaf::Write) => Err(StatusCode::NOT_ALLOWED),
            Node::Leaf(Leaf::Run) | Node::Parent => {
                let children = children(&nodes, node);
                if children.is_empty() {
                    return Err(StatusCode::NOT_ALLOWED);
                }
                Ok(Item::value(uri, Format::Node, children.join("/")))
            }
        }
    }

    /// Overwrites a leaf, the leaves of a subtree for which a document has values, or a property.
    pub fn replace(&mut self, now: Now, device: &mut dyn Device, item: &Item) -> StatusCode {
        if item.target_uri().is_some_and(|uri| uri.contains('?')) {
            return self.replace_property(device, item);
        }
        let node = match target(item) {
            Ok(node) => node,
            Err(refusal) => return refusal,
        };
        match find(&self.nodes(device), &node) {
            None => StatusCode::NOT_FOUND,
            Some(Node::Parent) if export::is_document(item) => {
                self.replace_document(now, device, &node, item)
            }
            Some(Node::Leaf(Leaf::ReadWrite(..) | Leaf::Write))
                if !self.allows(device, &node, Right::Replace) =>
            {
                StatusCode::PERMISSION_DENIED
            }
            Some(Node::Leaf(Leaf::ReadWrite(..) | Leaf::Write)) => {
                match node.below(&self.settings.object) {
                    Some(path) => self.object.replace(now, device, &path, item),
                    None => StatusCode::NOT_ALLOWED,
                }
            }
            Some(Node::Secret | Node::Parent | Node::Leaf(Leaf::Read(..) | Leaf::Run)) => {
                StatusCode::NOT_ALLOWED
            }
        }
    }

    /// Refuses to create a node: all that may exist does.
    pub fn add(&self, device: &dyn Device, item: &Item) -> StatusCode {
        self.refuse(device, item, StatusCode::ALREADY_EXISTS, StatusCode::NOT_ALLOWED)
    }

    /// Refuses to remove a node: all are permanent.
    pub fn delete(&self, device: &dyn Device, item: &Item) -> StatusCode {
        self.refuse(device, item, StatusCode::NOT_ALLOWED, StatusCode::NOT_FOUND)
    }

    fn refuse(
        &self,
        device: &dyn Device,
        item: &Item,
        present: StatusCode,
        absent: StatusCode,
    ) -> StatusCode {
        match target(item) {
            Ok(node) => find(&self.nodes(device), &node).map_or(absent, |_| present),
            Err(refusal) => refusal,
        }
    }

    /// Copies the value of one leaf to another.
    pub fn copy(&mut self, now: Now, device: &mut dyn Device, item: &Item) -> StatusCode {
        let Some(from) = item.source_uri() else { return StatusCode::INCOMPLETE };
        let value = parse(from).and_then(|from_address| match from_address.query {
            None if !self.allows(device, &from_address.node, Right::Get) => {
                Err(StatusCode::PERMISSION_DENIED)
            }
            None => self.read(device, from, &from_address.node),
            Some(_) => Err(StatusCode::NOT_SUPPORTED),
        });
        match value {
            Ok(value) if value.meta == Some(Meta::format(Format::Node)) => StatusCode::NOT_ALLOWED,
            Ok(value) => self.replace(now, device, &Item { target: item.target.clone(), ..value }),
            Err(refusal) => refusal,
        }
    }

    /// Starts what a node stands for.
    pub fn exec(
        &mut self,
        now: Now,
        device: &mut dyn Device,
        item: &Item,
        correlator: Option<Correlator>,
    ) -> StatusCode {
        let node = match target(item) {
            Ok(node) => node,
            Err(refusal) => return refusal,
        };
        match find(&self.nodes(device), &node) {
            None => StatusCode::NOT_FOUND,
            Some(Node::Leaf(Leaf::Run)) if !self.allows(device, &node, Right::Exec) => {
                StatusCode::PERMISSION_DENIED
            }
            Some(Node::Leaf(Leaf::Run)) => match node.below(&self.settings.object) {
                Some(path) => self.object.exec(now, device, &path, correlator),
                None => StatusCode::NOT_ALLOWED,
            },
            Some(
                Node::Secret
                | Node::Parent
                | Node::Leaf(Leaf::Read(..) | Leaf::ReadWrite(..) | Leaf::Write),
            ) => StatusCode::NOT_ALLOWED,
        }
    }

    /// Returns whether writing the item has an effect that cannot be taken back.
    pub(super) fn is_irrevocable(&self, item: &Item) -> bool {
        // So is a list, which the device keeps by itself.
        if item.target_uri().is_some_and(|uri| uri.contains('?')) {
            return true;
        }
        let path = target(item).ok().and_then(|node| node.below(&self.settings.object));
        path.is_some_and(|path| path == broadcast::ROOT || path.starts_with(broadcast::POLICY))
    }

    pub(super) fn checkpoint(&self) -> Checkpoint {
        self.object.checkpoint()
    }

    pub(super) fn roll_back(&mut self, checkpoint: Checkpoint) {
        self.object.roll_back(checkpoint);
    }

    fn nodes(&self, device: &dyn Device) -> BTreeMap<String, Option<Leaf>> {
        let view = device.view();
        let mut nodes = BTreeMap::new();
        let mut read = |uri: &str, value: &str| {
            nodes.insert(uri.to_owned(), Some(Leaf::Read(Format::Chr, value.to_owned())));
        };
        for item in self.device_info() {
            let uri = item.source_uri().unwrap_or_default();
            read(uri, item.data_text().unwrap_or_default());
        }
        let identity = &self.settings.identity;
        read("./DevDetail/DevTyp", &identity.device_type);
        read("./DevDetail/OEM", &identity.oem);
        read(names::FIRMWARE_VERSION, &view.firmware_version);
        read("./DevDetail/SwV", env!("CARGO_PKG_VERSION"));
        read("./DevDetail/HwV", &identity.hardware_version);
        read("./DevDetail/URI/MaxDepth", &MAX_DEPTH.to_string());
        read("./DevDetail/URI/MaxTotLen", &MAX_TOTAL_LENGTH.to_string());
        read("./DevDetail/URI/MaxSegLen", &MAX_SEGMENT_LENGTH.to_string());
        let account = &self.settings.account;
        let mut secrets = vec!["1"];
        read("./DMAcc/1/AppID", "w7");
        read("./DMAcc/1/ServerID", &account.server_id);
        let kind = account.auth.account_type();
        read("./DMAcc/1/AAuthPref", kind);
        read("./DMAcc/1/AppAddr/1/Addr", &account.url);
        read("./DMAcc/1/AppAddr/1/AddrType", "URI");
        read("./DMAcc/1/AppAuth/1/AAuthLevel", "CLCRED");
        read("./DMAcc/1/AppAuth/1/AAuthType", kind);
        read("./DMAcc/1/AppAuth/1/AAuthName", &account.user);
        if account.server.is_some() {
            read("./DMAcc/1/AppAuth/2/AAuthLevel", "SRVCRED");
            read("./DMAcc/1/AppAuth/2/AAuthType", kind);
            read("./DMAcc/1/AppAuth/2/AAuthName", &account.server_id);
            secrets.push("2");
        }
        let large_objects = Leaf::Read(Format::Bool, "true".to_owned());
        nodes.insert(names::LARGE_OBJECTS.to_owned(), Some(large_objects));
        for name in secrets {
            for leaf in ["AAuthSecret", "AAuthData"] {
                nodes.insert(format!("./DMAcc/1/AppAuth/{name}/{leaf}"), None);
            }
        }
        for (path, leaf) in self.object.leaves(&view) {
            nodes.insert(self.settings.object.join(&path), Some(leaf));
        }
        nodes
    }
}

fn parse(uri: &str) -> Result<Address, StatusCode> {
    if uri.len() > MAX_TOTAL_LENGTH {
        return Err(StatusCode::URI_TOO_LONG);
    }
    uri.parse().map_err(|_| StatusCode::NOT_FOUND)
}

/// Reads the address of a node that is acted on; properties can be read alone.
fn address(uri: &str) -> Result<NodeUri, StatusCode> {
    let address = parse(uri)?;
    match address.query {
        None => Ok(address.node),
        Some(Query::Property(_)) => Err(StatusCode::NOT_ALLOWED),
        Some(Query::List(_)) => Err(StatusCode::NOT_SUPPORTED),
    }
}

fn target(item: &Item) -> Result<NodeUri, StatusCode> {
    address(item.target_uri().ok_or(StatusCode::INCOMPLETE)?)
}

fn find(nodes: &BTreeMap<String, Option<Leaf>>, node: &NodeUri) -> Option<Node> {
    match nodes.get(&node.to_string()) {
        Some(Some(leaf)) => Some(Node::Leaf(leaf.clone())),
        Some(None) => Some(Node::Secret),
        None => (!children(nodes, node).is_empty()).then_some(Node::Parent),
    }
}

fn children(nodes: &BTreeMap<String, Option<Leaf>>, node: &NodeUri) -> Vec<String> {
    let prefix = format!("{node}/");
    let names: BTreeSet<&str> = nodes
        .keys()
        .filter_map(|uri| uri.strip_prefix(&prefix))
        .filter_map(|below| below.split('/').next())
        .collect();
    names.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dm::fake::{FakeDevice, at, settings};

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
        assert_eq!(
            text("./FwUpdate/Main"),
            "Download/DownloadAndUpdate/Ext/PkgVersion/State/Update"
        );
        assert_eq!(text("./FwUpdate/Main/DownloadAndUpdate"), "PkgURL");
        assert_eq!(
            text("./FwUpdate/Main/Ext/Broadcast"),
            "Campaign/Closes/Disarm/Limits/Manifest/Now/Opens/Phase/Plan/Policy/Progress/Reasons/Repair/\
             Report/Resume/Root/Sessions/Suspend/Version"
        );
    }

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
        let secret = Item::text("./DMAcc/1/AppAuth/1/AAuthSecret", "x");
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
        assert_eq!(tree.add(&device, &url), StatusCode::ALREADY_EXISTS);
        assert_eq!(tree.add(&device, &absent), StatusCode::NOT_ALLOWED);
        assert_eq!(tree.delete(&device, &parent), StatusCode::NOT_ALLOWED);
        assert_eq!(tree.delete(&device, &absent), StatusCode::NOT_FOUND);
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
}
