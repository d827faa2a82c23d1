//! The SCOMO object: downloads and delivered packages, which a server adds, and the installed
//! components, which the device lists.
//!
//! The backend stores the writes of a server; the nodes of `Ext/Broadcast` below a download are
//! staged in memory as those of the FUMO object are.

use std::collections::BTreeMap;

use proto::{
    dm::{
        code::{Format, StatusCode},
        fumo::Operation as FumoOperation,
        nodes::{broadcast, scomo as nodes},
        scomo::{Branch, ComponentState, Operation},
        syncml::Item,
        uri::NodeUri,
    },
    ids::{Correlator, PackageId},
    time::Now,
};

use super::{
    ManagementBackend, SoftwareBackend,
    fumo::{ExecRequest, FumoObject, PlainHttp, octets},
    tree::{
        management_object::{Leaf, ManagementObject},
        right::Right,
    },
};
use crate::components::{Announced, ComponentTarget, Software};

/// The SCOMO object; addresses here are paths below it.
#[derive(Debug, Clone, Default)]
pub struct ScomoObject {
    plain_http: PlainHttp,
    /// Pending writes below `Download/x/Ext`, by x.
    staged: BTreeMap<String, FumoObject>,
    /// The announced nodes before the first change since the last checkpoint.
    before: Option<Announced>,
    /// The delivered package that was received since then.
    received: Option<ComponentTarget>,
}

impl ScomoObject {
    /// Creates an object without staged writes.
    #[must_use]
    pub fn new(plain_http: PlainHttp) -> Self {
        Self { plain_http, ..Self::default() }
    }

    /// Changes the announced nodes.
    fn announce(
        &mut self,
        device: &mut dyn ManagementBackend,
        change: impl FnOnce(&mut Announced) -> Result<(), StatusCode>,
    ) -> StatusCode {
        let Some(software) = device.software() else { return StatusCode::NOT_ALLOWED };
        let mut announced = software.announced.clone();
        match change(&mut announced) {
            Ok(()) => {
                self.before.get_or_insert(software.announced);
                device.store_announced(announced);
                StatusCode::OK
            }
            Err(refusal) => refusal,
        }
    }

    fn staging(&mut self, name: &str) -> &mut FumoObject {
        let plain_http = self.plain_http;
        self.staged.entry(name.to_owned()).or_insert_with(|| FumoObject::new(plain_http))
    }

    /// Receives the package of a component, in one object.
    // spec: oma-dm 12.1, oma-002 scomo.direct (direct delivery)
    fn receive_data(
        &mut self,
        now: Now,
        device: &mut dyn ManagementBackend,
        name: &str,
        item: &Item,
    ) -> StatusCode {
        let Some(package) = package(device, Branch::Delivered, name) else {
            return StatusCode::INCOMPLETE;
        };
        let operation = Operation::Install;
        let subject = ComponentTarget { operation, node: name.to_owned(), package };
        match octets(item, usize::MAX) {
            Ok(octets) => {
                let code = device.receive_component(now, subject.clone(), &octets);
                if code.is_success() {
                    self.received = Some(subject);
                }
                code
            }
            Err(refusal) => refusal,
        }
    }

    /// Starts a download, by broadcast or by HTTP.
    // spec: oma-002 7 (components by the same arming)
    fn download(
        &mut self,
        now: Now,
        device: &mut dyn ManagementBackend,
        subject: ComponentTarget,
        correlator: Option<Correlator>,
    ) -> StatusCode {
        let announced = device.software().unwrap_or_default().announced;
        let url = announced.text(Branch::Download, &subject.node, nodes::PACKAGE_URL);
        let operation = match subject.operation {
            Operation::Download => FumoOperation::Download,
            Operation::DownloadInstall
            | Operation::DownloadInstallInactive
            | Operation::Install
            | Operation::InstallInactive
            | Operation::RemovePackage
            | Operation::Activate
            | Operation::Deactivate
            | Operation::Remove => FumoOperation::DownloadAndUpdate,
        };
        let url = url.map(str::to_owned);
        let name = subject.node.clone();
        let request = ExecRequest { operation, url, correlator, subject: Some(subject) };
        self.staging(&name).execute(now, device, request)
    }
}

/// Returns the package that a node names.
fn package(device: &dyn SoftwareBackend, branch: Branch, name: &str) -> Option<PackageId> {
    let software = device.software()?;
    match branch {
        Branch::Download | Branch::Delivered => software.announced.package(branch, name),
        Branch::Deployed => {
            let mut deployed = software.deployed.into_iter();
            deployed.find(|component| component.id.as_str() == name).map(|component| component.id)
        }
    }
}

/// Returns whether a URI is in the inventory.
pub(super) fn is_inventory(uri: &str) -> bool {
    let node = uri.split('?').next().and_then(|node| node.parse::<NodeUri>().ok());
    let object = nodes::ROOT.parse().ok();
    let path = node.zip(object).and_then(|(node, object)| node.below(&object));
    path.is_some_and(|path| path.split('/').next() == Some(nodes::INVENTORY))
}

fn is_broadcast(path: &str) -> bool {
    path == broadcast::ROOT_NODE || path.strip_prefix(broadcast::ROOT_NODE).is_some_and(below)
}

fn below(path: &str) -> bool {
    path.starts_with('/')
}

impl ManagementObject for ScomoObject {
    fn nodes(&self, device: &dyn ManagementBackend) -> Vec<(String, Leaf)> {
        let Some(software) = device.software() else { return Vec::new() };
        let mut found = NodeList(vec![
            (String::new(), Leaf::Parent),
            (nodes::DOWNLOAD.to_owned(), Leaf::Parent),
        ]);
        for (branch, name, leaves) in software.announced.nodes() {
            if branch == Branch::Download || software.is_shown {
                found.announced(&software, branch, name, leaves);
            }
            if branch == Branch::Download {
                let staged = self.staged.get(name).cloned().unwrap_or_default();
                let is_own = software.is_working_on(Branch::Download, name);
                let leaves = staged.broadcast_nodes(device, is_own);
                found.0.extend(
                    leaves
                        .into_iter()
                        .map(|(path, leaf)| (format!("{}/{path}", branch.node(name)), leaf)),
                );
            }
        }
        found.inventory(&software);
        found.0
    }

    fn identifier(&self, path: &str) -> &'static str {
        match path {
            "" => nodes::MO_IDENTIFIER,
            _ => match Branch::split(path) {
                Some((Branch::Download, _, broadcast::ROOT_NODE)) => broadcast::MO_IDENTIFIER,
                _ => "",
            },
        }
    }

    fn rights(&self) -> &'static [Right] {
        &[Right::Add, Right::Delete, Right::Exec, Right::Replace]
    }

    fn begin_session(&mut self) {
        self.staged.clear();
    }

    // spec: oma-dm 12.1 (nodes that a server adds)
    fn add(
        &mut self,
        now: Now,
        device: &mut dyn ManagementBackend,
        path: &str,
        item: &Item,
    ) -> StatusCode {
        let Some((branch, name, leaf)) = Branch::split(path) else {
            return StatusCode::NOT_ALLOWED;
        };
        if branch == Branch::Delivered && leaf == nodes::DATA {
            return self.receive_data(now, device, name, item);
        }
        let is_node =
            item.meta.as_ref().and_then(|meta| meta.format.as_ref()) == Some(&Format::Node);
        if is_node != leaf.is_empty() {
            return StatusCode::NOT_ALLOWED;
        }
        let in_use = device.software().and_then(|software| software.in_use(branch));
        self.announce(device, |announced| {
            if leaf.is_empty() || !announced.has(branch, name) {
                announced.make_room(branch, name, in_use.as_deref());
                announced.add(branch, name)?;
            }
            if leaf.is_empty() {
                return Ok(());
            }
            let text = item.decoded_text().ok_or(StatusCode::INCOMPLETE)?;
            announced.write(branch, name, leaf, text.trim())
        })
    }

    fn replace(
        &mut self,
        now: Now,
        device: &mut dyn ManagementBackend,
        path: &str,
        item: &Item,
    ) -> StatusCode {
        match Branch::split(path) {
            Some((Branch::Download, name, sub_path)) if is_broadcast(sub_path) => {
                self.staging(name).replace(now, device, sub_path, item)
            }
            Some((Branch::Delivered, name, nodes::DATA)) => {
                self.receive_data(now, device, name, item)
            }
            Some((branch, name, leaf)) => {
                let Some(text) = item.decoded_text() else { return StatusCode::INCOMPLETE };
                self.announce(device, |announced| announced.write(branch, name, leaf, text.trim()))
            }
            None => StatusCode::NOT_ALLOWED,
        }
    }

    fn is_dynamic(&self, path: &str) -> bool {
        matches!(Branch::split(path), Some((Branch::Download | Branch::Delivered, _, "")))
    }

    /// Deletes a node, unless it has an operation in progress.
    fn delete(&mut self, _now: Now, device: &mut dyn ManagementBackend, path: &str) -> StatusCode {
        let Some((branch, name, _)) = Branch::split(path) else { return StatusCode::NOT_ALLOWED };
        let software = device.software().unwrap_or_default();
        let is_held = branch == Branch::Delivered && software.held.as_deref() == Some(name);
        if is_held || software.is_working_on(branch, name) {
            return StatusCode::FORBIDDEN;
        }
        self.staged.remove(name);
        self.announce(device, |announced| {
            if announced.remove(branch, name) { Ok(()) } else { Err(StatusCode::NOT_FOUND) }
        })
    }

    // spec: oma-002 scomo.download, oma-002 scomo.install, oma-002 scomo.both
    fn exec(
        &mut self,
        now: Now,
        device: &mut dyn ManagementBackend,
        path: &str,
        correlator: Option<Correlator>,
    ) -> StatusCode {
        let Some((branch, name, sub_path)) = Branch::split(path) else {
            return StatusCode::NOT_ALLOWED;
        };
        if branch == Branch::Download && is_broadcast(sub_path) {
            let is_own = device.software().is_some_and(|it| it.is_working_on(branch, name));
            return self.staging(name).exec_broadcast(now, device, sub_path, is_own);
        }
        let Some(operation) = Operation::from_node(branch, sub_path) else {
            return StatusCode::NOT_ALLOWED;
        };
        let Some(package) = package(device, branch, name) else { return StatusCode::INCOMPLETE };
        let subject = ComponentTarget { operation, node: name.to_owned(), package };
        match branch {
            Branch::Download => self.download(now, device, subject, correlator),
            Branch::Delivered | Branch::Deployed => {
                device.change_component(now, subject, correlator)
            }
        }
    }

    fn cannot_roll_back(&self, device: &dyn ManagementBackend, path: &str) -> bool {
        match Branch::split(path) {
            Some((Branch::Download, name, sub_path)) if is_broadcast(sub_path) => self
                .staged
                .get(name)
                .cloned()
                .unwrap_or_default()
                .cannot_roll_back(device, sub_path),
            Some((Branch::Delivered, _, nodes::DATA)) => {
                device.software().is_some_and(|software| software.held.is_some())
            }
            _ => false,
        }
    }

    fn checkpoint(&mut self) -> Box<dyn ManagementObject> {
        (self.before, self.received) = (None, None);
        Box::new(self.clone())
    }

    fn roll_back(&mut self, now: Now, device: &mut dyn ManagementBackend) -> Vec<String> {
        let received = self.received.take();
        let stays = received
            .filter(|received| !device.receive_component(now, received.clone(), &[]).is_success());
        if let Some(before) = self.before.take() {
            device.store_announced(before);
        }
        let path =
            |it: ComponentTarget| format!("{}/{}", Branch::Delivered.node(&it.node), nodes::DATA);
        stays.map(path).into_iter().collect()
    }
}

struct NodeList(Vec<(String, Leaf)>);

impl NodeList {
    fn add(&mut self, branch: Branch, name: &str, leaf: &str, what: Leaf) {
        self.0.push((format!("{}/{leaf}", branch.node(name)), what));
    }

    fn announced(
        &mut self,
        software: &Software,
        branch: Branch,
        name: &str,
        leaves: &BTreeMap<&'static str, String>,
    ) {
        self.0.push((branch.node(name), Leaf::Parent));
        for (leaf, text) in leaves {
            self.add(branch, name, leaf, Leaf::ReadWrite(Format::Chr, text.clone()));
        }
        let status = software.status(branch, name).to_string();
        self.add(branch, name, nodes::STATUS, Leaf::Read(Format::Int, status));
        self.operations(branch, name);
        if branch == Branch::Delivered {
            self.add(branch, name, nodes::DATA, Leaf::Write);
            if software.held.as_deref() == Some(name) {
                let state = ComponentState::Delivered.to_string();
                self.add(branch, name, nodes::STATE, Leaf::Read(Format::Chr, state));
            }
        }
    }

    fn operations(&mut self, branch: Branch, name: &str) {
        for operation in Operation::ALL.into_iter().filter(|it| it.branch() == branch) {
            self.add(branch, name, operation.node(), Leaf::Run);
        }
    }

    /// Adds the installed components, for a server with access to the inventory.
    // spec: oma-003 6.1.4.16, oma-002 scomo.state (the inventory is closed without consent)
    fn inventory(&mut self, software: &Software) {
        let parents = [nodes::INVENTORY, nodes::DELIVERED, nodes::DEPLOYED];
        let parent = if software.is_shown { Leaf::Parent } else { Leaf::Secret };
        self.0.extend(parents.map(|path| (path.to_owned(), parent.clone())));
        if !software.is_shown {
            return;
        }
        for component in &software.deployed {
            let id = component.id.as_str();
            let mut text = |leaf: &str, text: &str| {
                let what = Leaf::Read(Format::Chr, text.to_owned());
                self.add(Branch::Deployed, id, leaf, what);
            };
            text(nodes::ID, id);
            text(nodes::PACKAGE_ID_REF, id);
            text(nodes::VERSION, &component.version);
            text(nodes::STATE, component.state().as_str());
            component.name.iter().for_each(|name| text(nodes::NAME, name));
            component.description.iter().for_each(|it| text(nodes::DESCRIPTION, it));
            let status = software.status(Branch::Deployed, id).to_string();
            self.add(Branch::Deployed, id, nodes::STATUS, Leaf::Read(Format::Int, status));
            self.operations(Branch::Deployed, id);
        }
    }
}

#[cfg(test)]
mod tests;
