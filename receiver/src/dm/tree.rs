//! The management tree: the effect of each command on its node.
//!
//! The tree is built for each command, from the view of the backend and the staged writes of the
//! objects; parents exist because of nodes below them, or because an object lists them.
//!
//! | module | holds |
//! | --- | --- |
//! | `management_object` | the interface of a management object in the tree |
//! | `permanent` | DevInfo and DevDetail |
//! | `acl`, `right` | access control lists, and the rights in them |
//! | `query` | properties and lists |
//! | `export` | subtrees as documents |
//!
//! [`Tree::new`] mounts each [`ManagementObject`] at its root.

use std::collections::{BTreeMap, BTreeSet};

use proto::{
    dm::{
        code::{Format, StatusCode},
        nodes::{device as names, scomo},
        syncml::{Item, Meta},
        uri::{Address, MAX_TOTAL_LENGTH, NodeUri, Query},
    },
    ids::Correlator,
    time::Now,
};

mod acl;
mod export;
pub(super) mod management_object;
mod permanent;
mod query;
pub(super) mod right;

#[cfg(test)]
mod tests;

use acl::Acl;
use management_object::{Leaf, ManagementObject};
use right::Right;

use super::{
    Account, ChunkPosition, ManagementBackend, Settings,
    account::AccountObject,
    fumo::{FumoObject, PlainHttp},
    scomo::ScomoObject,
};

/// The device's management tree.
#[derive(Debug)]
pub struct Tree {
    /// The settings, with the account of this DM session.
    settings: Settings,
    /// The configured account, without the changes of its server.
    given: Account,
    objects: Vec<(NodeUri, Box<dyn ManagementObject>)>,
}

/// All nodes but implicit parents, by URI.
type Nodes = BTreeMap<String, Leaf>;

/// The objects and access control lists before an Atomic.
#[derive(Debug)]
pub(super) struct Checkpoint {
    objects: Vec<Box<dyn ManagementObject>>,
    access_lists: String,
}

impl Tree {
    /// Creates the tree of a device.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let plain = settings.account.url.starts_with("http://");
        let plain_http = if plain { PlainHttp::Allowed } else { PlainHttp::Refused };
        let object = settings.object.clone();
        let software = scomo::ROOT.parse().expect("the root of the object is a URI");
        let account = names::ACCOUNT.parse().expect("the root of the account is a URI");
        let given = settings.account.clone();
        let mut tree = Self { settings, given: given.clone(), objects: Vec::new() };
        tree.mount(account, Box::new(AccountObject::new(given)));
        tree.mount(object, Box::new(FumoObject::new(plain_http)));
        tree.mount(software, Box::new(ScomoObject::new(plain_http)));
        tree
    }

    /// Mounts an object; no other node may be at its root or below it.
    fn mount(&mut self, root: NodeUri, object: Box<dyn ManagementObject>) {
        self.objects.push((root, object));
    }

    /// Returns the settings of the tree.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Drops the unused staged writes of an earlier DM session, and applies the server's changes of
    /// the account.
    pub fn begin_session(&mut self, device: &dyn ManagementBackend) {
        self.settings.account = self.given.with(&device.account_change());
        self.objects.iter_mut().for_each(|(_, object)| object.begin_session());
    }

    /// Returns the items of the Replace in package 1.
    #[must_use]
    pub fn device_info(&self) -> Vec<Item> {
        let item = |(uri, value)| Item::value(uri, Format::Chr, value);
        permanent::info(&self.settings).map(item).to_vec()
    }

    /// Reads a leaf's value, the names below a parent, a property of a node, or a list of a
    /// subtree.
    ///
    /// # Errors
    ///
    /// The status code of the failed Get.
    pub fn get(&self, device: &dyn ManagementBackend, uri: &str) -> Result<Vec<Item>, StatusCode> {
        let Address { node, query } = parse(uri)?;
        // spec: oma-dm 2.2 (425)
        if find(&self.nodes(device), &node).is_some() && !self.allows(device, &node, Right::Get) {
            return Err(StatusCode::PERMISSION_DENIED);
        }
        match query {
            None => Ok(vec![self.read(device, uri, &node)?]),
            Some(Query::Property(name)) => {
                Ok(vec![query::property(self, device, uri, &node, &name)?])
            }
            Some(Query::List(kind)) => query::list(self, device, uri, &node, &kind),
        }
    }

    fn read(
        &self,
        device: &dyn ManagementBackend,
        uri: &str,
        node: &NodeUri,
    ) -> Result<Item, StatusCode> {
        let nodes = self.nodes(device);
        match find(&nodes, node).ok_or(StatusCode::NOT_FOUND)? {
            Leaf::Read(format, value) | Leaf::ReadWrite(format, value) => {
                Ok(Item::value(uri, format, value))
            }
            Leaf::Secret => Err(StatusCode::PERMISSION_DENIED),
            Leaf::Write => Err(StatusCode::NOT_ALLOWED),
            found @ (Leaf::Run | Leaf::Parent) => {
                let children = children(&nodes, node);
                if children.is_empty() && found == Leaf::Run {
                    return Err(StatusCode::NOT_ALLOWED);
                }
                Ok(Item::value(uri, Format::Node, children.join("/")))
            }
        }
    }

    /// Overwrites a leaf, the leaves of a subtree for which a document has values, or a property.
    pub fn replace(
        &mut self,
        now: Now,
        device: &mut dyn ManagementBackend,
        item: &Item,
    ) -> StatusCode {
        if item.target_uri().is_some_and(|uri| uri.contains('?')) {
            return self.replace_property(device, item);
        }
        let node = match target(item) {
            Ok(node) => node,
            Err(refusal) => return refusal,
        };
        match find(&self.nodes(device), &node) {
            None => StatusCode::NOT_FOUND,
            Some(Leaf::Parent) if export::is_document(item) => {
                self.replace_document(now, device, &node, item)
            }
            Some(Leaf::ReadWrite(..) | Leaf::Write | Leaf::Secret)
                if !self.allows(device, &node, Right::Replace) =>
            {
                StatusCode::PERMISSION_DENIED
            }
            Some(Leaf::ReadWrite(..) | Leaf::Write | Leaf::Secret) => {
                match self.object_of_mut(&node) {
                    Some((object, path)) => object.replace(now, device, &path, item),
                    None => StatusCode::NOT_ALLOWED,
                }
            }
            Some(Leaf::Parent | Leaf::Read(..) | Leaf::Run) => StatusCode::NOT_ALLOWED,
        }
    }

    /// Overwrites all leaves with values in a document, or none.
    // spec: oma-dm 2.3 (a subtree is replaced as a whole)
    fn replace_document(
        &mut self,
        now: Now,
        device: &mut dyn ManagementBackend,
        node: &NodeUri,
        item: &Item,
    ) -> StatusCode {
        let values = match export::leaves(node, item) {
            Ok(values) => values,
            Err(refusal) => return refusal,
        };
        if values.iter().any(|value| self.cannot_roll_back(device, value)) {
            return StatusCode::NOT_ALLOWED;
        }
        let before = self.checkpoint(device);
        for value in values {
            let code = self.replace(now, device, &value);
            if !code.is_success() {
                let stay = self.roll_back(now, device, before);
                return if stay.is_empty() { code } else { StatusCode::ROLL_BACK_FAILED };
            }
        }
        StatusCode::OK
    }

    /// Overwrites a property; only the access control list can be.
    fn replace_property(&self, device: &mut dyn ManagementBackend, item: &Item) -> StatusCode {
        let address = match item.target_uri().ok_or(StatusCode::INCOMPLETE).and_then(parse) {
            Ok(address) => address,
            Err(refusal) => return refusal,
        };
        let Some(found) = find(&self.nodes(device), &address.node) else {
            return StatusCode::NOT_FOUND;
        };
        match address.query {
            Some(Query::Property(name)) if name == "ACL" => {}
            Some(Query::Property(_)) => return StatusCode::NOT_ALLOWED,
            Some(Query::List(_)) | None => return StatusCode::NOT_SUPPORTED,
        }
        // Who owns the parent of a leaf owns its list; an inner node can be owned by itself.
        let is_inner = found == Leaf::Parent;
        let is_owner = (is_inner && self.allows(device, &address.node, Right::Replace))
            || address
                .node
                .parent()
                .is_some_and(|parent| self.allows(device, &parent, Right::Replace));
        if !is_owner {
            return StatusCode::PERMISSION_DENIED;
        }
        let Some(acl) = item.decoded_text().as_deref().and_then(Acl::parse) else {
            return StatusCode::BAD_REQUEST;
        };
        if acl.is_empty() && address.node == NodeUri::root() {
            return StatusCode::NOT_ALLOWED;
        }
        acl::store(device, &address.node, acl)
    }

    /// Returns the position of the first chunk of a large object that the server may write to a
    /// URI, if its chunks are stored.
    pub(super) fn chunk_position(
        &self,
        device: &dyn ManagementBackend,
        uri: &str,
    ) -> Option<ChunkPosition> {
        let node = address(uri).ok()?;
        let (object, path) =
            self.objects.iter().find_map(|(root, object)| Some((object, node.below(root)?)))?;
        object.chunk_position(&path).filter(|_| self.allows(device, &node, Right::Replace))
    }

    /// Creates a node in a management object, with its missing parents.
    // spec: oma-dm 2.4 (Add: 418, 405, 412)
    pub fn add(&mut self, now: Now, device: &mut dyn ManagementBackend, item: &Item) -> StatusCode {
        let node = match target(item) {
            Ok(node) => node,
            Err(refusal) => return refusal,
        };
        let nodes = self.nodes(device);
        if find(&nodes, &node).is_some() {
            return StatusCode::ALREADY_EXISTS;
        }
        if self.object_of(&node).is_none() {
            return StatusCode::NOT_ALLOWED;
        }
        let mut above = node.parent();
        while let Some(parent) = above.take_if(|parent| find(&nodes, parent).is_none()) {
            above = parent.parent();
        }
        let above = above.unwrap_or_else(NodeUri::root);
        if !self.allows(device, &above, Right::Add) {
            return StatusCode::PERMISSION_DENIED;
        }
        if find(&nodes, &above).is_some_and(|found| !matches!(found, Leaf::Parent | Leaf::Run)) {
            return StatusCode::NOT_ALLOWED;
        }
        let format = item.meta.as_ref().and_then(|meta| meta.format.as_ref());
        if item.data.is_none() && !matches!(format, Some(Format::Node | Format::Null)) {
            return StatusCode::INCOMPLETE;
        }
        // Some servers send an empty `<Data/>` with a parent.
        let is_parent = format == Some(&Format::Node);
        if is_parent && item.data.as_ref().is_some_and(|data| !data.is_empty()) {
            return StatusCode::BAD_REQUEST;
        }
        match self.object_of_mut(&node) {
            Some((object, path)) => object.add(now, device, &path, item),
            None => StatusCode::NOT_ALLOWED,
        }
    }

    /// Removes a node with all below it, unless it is permanent.
    // spec: oma-dm 2.4 (Delete: 404, 405)
    pub fn delete(
        &mut self,
        now: Now,
        device: &mut dyn ManagementBackend,
        item: &Item,
    ) -> StatusCode {
        let node = match target(item) {
            Ok(node) => node,
            Err(refusal) => return refusal,
        };
        if find(&self.nodes(device), &node).is_none() {
            return StatusCode::NOT_FOUND;
        }
        if !self.object_of(&node).is_some_and(|(object, path)| object.is_dynamic(&path)) {
            return StatusCode::NOT_ALLOWED;
        }
        if !self.allows(device, &node, Right::Delete) {
            return StatusCode::PERMISSION_DENIED;
        }
        let code = match self.object_of_mut(&node) {
            Some((object, path)) => object.delete(now, device, &path),
            None => StatusCode::NOT_ALLOWED,
        };
        if code.is_success() {
            acl::forget(device, &node);
        }
        code
    }

    /// Copies the value of one leaf to another, which need not exist.
    pub fn copy(
        &mut self,
        now: Now,
        device: &mut dyn ManagementBackend,
        item: &Item,
    ) -> StatusCode {
        let Some(from) = item.source_uri() else { return StatusCode::INCOMPLETE };
        let value = parse(from).and_then(|from_address| match from_address.query {
            None if !self.allows(device, &from_address.node, Right::Get) => {
                Err(StatusCode::PERMISSION_DENIED)
            }
            None => self.read(device, from, &from_address.node),
            Some(_) => Err(StatusCode::NOT_SUPPORTED),
        });
        let value = match value {
            Ok(value) if value.meta == Some(Meta::format(Format::Node)) => {
                return StatusCode::NOT_ALLOWED;
            }
            Ok(value) => Item { target: item.target.clone(), source: None, ..value },
            Err(refusal) => return refusal,
        };
        match target(&value).map(|node| find(&self.nodes(device), &node)) {
            Ok(None) => self.add(now, device, &value),
            Ok(Some(_)) | Err(_) => self.replace(now, device, &value),
        }
    }

    /// Starts the operation of a node.
    pub fn exec(
        &mut self,
        now: Now,
        device: &mut dyn ManagementBackend,
        item: &Item,
        correlator: Option<Correlator>,
    ) -> StatusCode {
        let node = match target(item) {
            Ok(node) => node,
            Err(refusal) => return refusal,
        };
        match find(&self.nodes(device), &node) {
            None => StatusCode::NOT_FOUND,
            Some(Leaf::Run) if !self.allows(device, &node, Right::Exec) => {
                StatusCode::PERMISSION_DENIED
            }
            Some(Leaf::Run) => match self.object_of_mut(&node) {
                Some((object, path)) => object.exec(now, device, &path, correlator),
                None => StatusCode::NOT_ALLOWED,
            },
            Some(
                Leaf::Secret | Leaf::Parent | Leaf::Read(..) | Leaf::ReadWrite(..) | Leaf::Write,
            ) => StatusCode::NOT_ALLOWED,
        }
    }

    /// Returns whether a write of the item cannot be rolled back.
    pub(super) fn cannot_roll_back(&self, device: &dyn ManagementBackend, item: &Item) -> bool {
        // An access control list is stored by the backend at once.
        if item.target_uri().is_some_and(|uri| uri.contains('?')) {
            return true;
        }
        let object = target(item).ok().and_then(|node| self.object_of(&node));
        object.is_some_and(|(object, path)| object.cannot_roll_back(device, &path))
    }

    pub(super) fn checkpoint(&mut self, device: &dyn ManagementBackend) -> Checkpoint {
        let objects = self.objects.iter_mut().map(|(_, object)| object.checkpoint()).collect();
        Checkpoint { objects, access_lists: device.access_lists() }
    }

    /// Restores the state of the checkpoint, and returns the nodes for which that failed.
    pub(super) fn roll_back(
        &mut self,
        now: Now,
        device: &mut dyn ManagementBackend,
        before: Checkpoint,
    ) -> BTreeSet<NodeUri> {
        let mut stay = BTreeSet::new();
        for ((root, object), before) in self.objects.iter_mut().zip(before.objects) {
            let paths = object.roll_back(now, device);
            stay.extend(paths.iter().filter_map(|path| root.join(path).parse().ok()));
            *object = before;
        }
        if device.access_lists() != before.access_lists {
            device.store_access_lists(&before.access_lists);
        }
        stay
    }

    /// Returns the own list of a node; empty if it inherits.
    fn own_acl(&self, device: &dyn ManagementBackend, node: &NodeUri) -> Acl {
        let mut stored = acl::read(&device.access_lists());
        stored.remove(&node.to_string()).unwrap_or_else(|| self.factory_acl(node))
    }

    /// Returns the factory rights: any server may read and add, and the account's server has the
    /// rights that each object offers.
    fn factory_acl(&self, node: &NodeUri) -> Acl {
        if *node == NodeUri::root() {
            return Acl::parse("Add=*&Get=*").unwrap_or_default();
        }
        let Some((_, object)) = self.objects.iter().find(|(root, _)| root == node) else {
            return Acl::default();
        };
        let server = &self.settings.account.server_id;
        let own = object.rights().iter().map(|right| format!("{}={server}", right.as_str()));
        let text = own.chain(["Get=*".to_owned()]).collect::<Vec<_>>().join("&");
        // A server whose name cannot stand in a list has no rights of its own.
        Acl::parse(&text).unwrap_or_default()
    }

    /// Returns whether the account's server has a right to a node.
    // spec: oma-dm 2.2 (inheritance)
    fn allows(&self, device: &dyn ManagementBackend, node: &NodeUri, right: Right) -> bool {
        let stored = acl::read(&device.access_lists());
        let mut at = Some(node.clone());
        while let Some(here) = at {
            let own = stored.get(&here.to_string()).cloned();
            let acl = own.unwrap_or_else(|| self.factory_acl(&here));
            if !acl.is_empty() {
                return acl.allows(right, &self.settings.account.server_id);
            }
            at = here.parent();
        }
        false
    }

    /// Returns the identifier of the management object with this root; empty elsewhere.
    fn object_identifier(&self, node: &NodeUri) -> &'static str {
        match node.to_string().as_str() {
            names::INFO => "urn:oma:mo:oma-dm-devinfo:1.0",
            names::DETAIL => "urn:oma:mo:oma-dm-devdetail:1.0",
            _ => self.object_of(node).map_or("", |(object, path)| object.identifier(&path)),
        }
    }

    /// Returns the management object of a node, and the path in it.
    fn object_of(&self, node: &NodeUri) -> Option<(&dyn ManagementObject, String)> {
        let mut objects = self.objects.iter();
        objects.find_map(|(root, object)| Some((object.as_ref(), node.below(root)?)))
    }

    fn object_of_mut(
        &mut self,
        node: &NodeUri,
    ) -> Option<(&mut Box<dyn ManagementObject>, String)> {
        let mut objects = self.objects.iter_mut();
        objects.find_map(|(root, object)| Some((object, node.below(root)?)))
    }

    fn nodes(&self, device: &dyn ManagementBackend) -> Nodes {
        let mut nodes = permanent::nodes(&self.settings, &device.view());
        for (root, object) in &self.objects {
            for (path, leaf) in object.nodes(device) {
                let uri = if path.is_empty() { root.to_string() } else { root.join(&path) };
                nodes.insert(uri, leaf);
            }
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

/// Parses the URI of a node; properties can be read only.
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

/// Returns the node at a URI: an explicit node, or an implicit parent.
fn find(nodes: &Nodes, node: &NodeUri) -> Option<Leaf> {
    let parent = || (!children(nodes, node).is_empty()).then_some(Leaf::Parent);
    nodes.get(&node.to_string()).cloned().or_else(parent)
}

/// Returns the format of a node, and its value if it may be read.
fn shape(node: &Leaf) -> (Format, Option<&str>) {
    match node {
        Leaf::Read(format, value) | Leaf::ReadWrite(format, value) => (format.clone(), Some(value)),
        Leaf::Write => (Format::Bin, None),
        Leaf::Secret => (Format::Chr, None),
        Leaf::Run | Leaf::Parent => (Format::Node, None),
    }
}

fn children(nodes: &Nodes, node: &NodeUri) -> Vec<String> {
    let prefix = format!("{node}/");
    let names: BTreeSet<&str> = nodes
        .keys()
        .filter_map(|uri| uri.strip_prefix(&prefix))
        .filter_map(|below| below.split('/').next())
        .collect();
    names.into_iter().map(str::to_owned).collect()
}
