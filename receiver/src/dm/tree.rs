//! The management tree: what each command does to the node it addresses.
//!
//! The tree is made anew for each question, from the device's view and from what the places stage;
//! parents exist because something lies below them, or because a place says so.
//!
//! | module | holds |
//! | --- | --- |
//! | `place` | a management object that hangs in the tree and answers for what is below its root |
//! | `permanent` | DevInfo and DevDetail |
//! | `acl` | who may do what |
//! | `query` | properties and lists |
//! | `export` | subtrees as documents |
//!
//! An object is hung in by [`Tree::new`]: its root, and a [`Place`].

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

pub(super) mod acl;
mod export;
mod permanent;
pub(super) mod place;
mod query;

#[cfg(test)]
mod tests;

use acl::Right;
use place::{Leaf, Place};

use super::{
    Account, Device, Piece, Settings,
    account::AccountObject,
    fumo::{FumoObject, PlainHttp},
    scomo::ScomoObject,
};

/// The device's management tree.
#[derive(Debug)]
pub struct Tree {
    /// With the account as this DM session has it.
    settings: Settings,
    /// The account as it was given, before its server changed it.
    given: Account,
    places: Vec<(NodeUri, Box<dyn Place>)>,
}

/// All nodes but mere parents, by their addresses.
type Nodes = BTreeMap<String, Leaf>;

/// The places and the lists before an Atomic.
#[derive(Debug)]
pub(super) struct Checkpoint {
    places: Vec<Box<dyn Place>>,
    access_lists: String,
}

impl Tree {
    /// Makes the tree of a device.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let plain = settings.account.url.starts_with("http://");
        let plain_http = if plain { PlainHttp::Allowed } else { PlainHttp::Refused };
        let object = settings.object.clone();
        let software = scomo::ROOT.parse().expect("the place of the object is an address");
        let account = names::ACCOUNT.parse().expect("the place of the account is an address");
        let given = settings.account.clone();
        let mut tree = Self { settings, given: given.clone(), places: Vec::new() };
        tree.hang(account, Box::new(AccountObject::new(given)));
        tree.hang(object, Box::new(FumoObject::new(plain_http)));
        tree.hang(software, Box::new(ScomoObject::new(plain_http)));
        tree
    }

    /// Hangs an object in; nothing else may lie at its root or below it.
    fn hang(&mut self, root: NodeUri, place: Box<dyn Place>) {
        self.places.push((root, place));
    }

    /// Returns the settings that the tree shows.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Forgets what an earlier DM session staged and did not use, and takes the account as its
    /// server has left it.
    pub fn begin_session(&mut self, device: &dyn Device) {
        self.settings.account = self.given.with(&device.account_change());
        self.places.iter_mut().for_each(|(_, place)| place.begin_session());
    }

    /// Returns the items of the Replace that opens every DM session.
    #[must_use]
    pub fn device_info(&self) -> Vec<Item> {
        let item = |(uri, value)| Item::value(uri, Format::Chr, value);
        permanent::info(&self.settings).map(item).to_vec()
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
            Some(Leaf::Parent) if export::is_document(item) => {
                self.replace_document(now, device, &node, item)
            }
            Some(Leaf::ReadWrite(..) | Leaf::Write | Leaf::Secret)
                if !self.allows(device, &node, Right::Replace) =>
            {
                StatusCode::PERMISSION_DENIED
            }
            Some(Leaf::ReadWrite(..) | Leaf::Write | Leaf::Secret) => match self.place_mut(&node) {
                Some((place, path)) => place.replace(now, device, &path, item),
                None => StatusCode::NOT_ALLOWED,
            },
            Some(Leaf::Parent | Leaf::Read(..) | Leaf::Run) => StatusCode::NOT_ALLOWED,
        }
    }

    /// Returns what the first piece is of an object that the server may write to an address, where
    /// pieces of it are kept.
    pub(super) fn piece(&self, device: &dyn Device, uri: &str) -> Option<Piece> {
        let node = address(uri).ok()?;
        let (place, path) =
            self.places.iter().find_map(|(root, place)| Some((place, node.below(root)?)))?;
        place.piece(&path).filter(|_| self.allows(device, &node, Right::Replace))
    }

    /// Creates a node where a place lets it be; its parents come with it.
    // spec: oma-dm 2.4 (Add: 418, 405, 412)
    pub fn add(&mut self, now: Now, device: &mut dyn Device, item: &Item) -> StatusCode {
        let node = match target(item) {
            Ok(node) => node,
            Err(refusal) => return refusal,
        };
        let nodes = self.nodes(device);
        if find(&nodes, &node).is_some() {
            return StatusCode::ALREADY_EXISTS;
        }
        if self.place(&node).is_none() {
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
        // Some servers say `<Data/>` with a parent; it says nothing.
        let is_parent = format == Some(&Format::Node);
        if is_parent && item.data.as_ref().is_some_and(|data| !data.is_empty()) {
            return StatusCode::BAD_REQUEST;
        }
        match self.place_mut(&node) {
            Some((place, path)) => place.add(now, device, &path, item),
            None => StatusCode::NOT_ALLOWED,
        }
    }

    /// Removes a node with all below it, unless it is permanent.
    // spec: oma-dm 2.4 (Delete: 404, 405)
    pub fn delete(&mut self, now: Now, device: &mut dyn Device, item: &Item) -> StatusCode {
        let node = match target(item) {
            Ok(node) => node,
            Err(refusal) => return refusal,
        };
        if find(&self.nodes(device), &node).is_none() {
            return StatusCode::NOT_FOUND;
        }
        if !self.place(&node).is_some_and(|(place, path)| place.is_dynamic(&path)) {
            return StatusCode::NOT_ALLOWED;
        }
        if !self.allows(device, &node, Right::Delete) {
            return StatusCode::PERMISSION_DENIED;
        }
        let code = match self.place_mut(&node) {
            Some((place, path)) => place.delete(now, device, &path),
            None => StatusCode::NOT_ALLOWED,
        };
        if code.is_success() {
            acl::forget(device, &node);
        }
        code
    }

    /// Copies the value of one leaf to another, which need not be there yet.
    pub fn copy(&mut self, now: Now, device: &mut dyn Device, item: &Item) -> StatusCode {
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
            Some(Leaf::Run) if !self.allows(device, &node, Right::Exec) => {
                StatusCode::PERMISSION_DENIED
            }
            Some(Leaf::Run) => match self.place_mut(&node) {
                Some((place, path)) => place.exec(now, device, &path, correlator),
                None => StatusCode::NOT_ALLOWED,
            },
            Some(
                Leaf::Secret | Leaf::Parent | Leaf::Read(..) | Leaf::ReadWrite(..) | Leaf::Write,
            ) => StatusCode::NOT_ALLOWED,
        }
    }

    /// Returns whether writing the item has an effect that cannot be taken back.
    pub(super) fn is_irrevocable(&self, device: &dyn Device, item: &Item) -> bool {
        // So is a list, which the device keeps by itself.
        if item.target_uri().is_some_and(|uri| uri.contains('?')) {
            return true;
        }
        let place = target(item).ok().and_then(|node| self.place(&node));
        place.is_some_and(|(place, path)| place.is_irrevocable(device, &path))
    }

    pub(super) fn checkpoint(&mut self, device: &dyn Device) -> Checkpoint {
        let places = self.places.iter_mut().map(|(_, place)| place.checkpoint()).collect();
        Checkpoint { places, access_lists: device.access_lists() }
    }

    /// Puts everything back as it was, and returns the nodes for which that failed.
    pub(super) fn roll_back(
        &mut self,
        now: Now,
        device: &mut dyn Device,
        before: Checkpoint,
    ) -> BTreeSet<NodeUri> {
        let mut stay = BTreeSet::new();
        for ((root, place), before) in self.places.iter_mut().zip(before.places) {
            let paths = place.take_back(now, device);
            stay.extend(paths.iter().filter_map(|path| root.join(path).parse().ok()));
            *place = before;
        }
        if device.access_lists() != before.access_lists {
            device.keep_access_lists(&before.access_lists);
        }
        stay
    }

    /// Finds the place that a node belongs to, and its path there.
    fn place(&self, node: &NodeUri) -> Option<(&dyn Place, String)> {
        let mut places = self.places.iter();
        places.find_map(|(root, place)| Some((place.as_ref(), node.below(root)?)))
    }

    fn place_mut(&mut self, node: &NodeUri) -> Option<(&mut Box<dyn Place>, String)> {
        let mut places = self.places.iter_mut();
        places.find_map(|(root, place)| Some((place, node.below(root)?)))
    }

    fn nodes(&self, device: &dyn Device) -> Nodes {
        let mut nodes = permanent::nodes(&self.settings, &device.view());
        for (root, place) in &self.places {
            for (path, leaf) in place.nodes(device) {
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

/// What lies at an address: a node of its own, or a parent of others.
fn find(nodes: &Nodes, node: &NodeUri) -> Option<Leaf> {
    let parent = || (!children(nodes, node).is_empty()).then_some(Leaf::Parent);
    nodes.get(&node.to_string()).cloned().or_else(parent)
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
