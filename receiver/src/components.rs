//! Software components: the announced and the installed ones, and the operations on them.
//!
//! The list of installed components is the output of the installer hook, never a claim of a server
//! or a package. A component's identifier is that of the package which installed it.

use std::collections::BTreeMap;

use proto::{
    dm::{
        code::StatusCode,
        fumo::State,
        nodes::scomo as nodes,
        scomo::{Branch, ComponentState, Operation},
        uri::NodeUri,
    },
    ids::PackageId,
    wire::WireError,
    words,
};
use serde::{Deserialize, Serialize};

use crate::store::journal_state::{AnnouncedRecord, JournalState, SubjectRecord};

/// Downloads that a server may announce, and packages that it may deliver.
pub const MAX_NODES: usize = 4;
/// Components that the hook may list.
pub const MAX_DEPLOYED: usize = 64;
/// Octets of the name of a node that a server adds: as many as a package's.
pub const MAX_NAME: usize = 64;
/// Octets of a text.
pub const MAX_TEXT: usize = 128;
/// Octets of a URL.
pub const MAX_URL: usize = 512;

words! {
    /// The access of the server to the inventory of components.
    #[derive(Default)]
    pub enum InventoryAccess: "components" {
        /// The device has no components.
        #[default]
        Absent = "none",
        /// The server sees them once the user has consented.
        Asked = "ask",
        /// The server sees them: the enrolment has granted it.
        Granted = "granted",
    }
}

/// The user's consent to show the inventory to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InventoryConsent {
    /// Nothing.
    #[default]
    Undecided,
    /// Yes.
    Given,
    /// No.
    Denied,
}

impl InventoryConsent {
    /// Returns the number in the journal.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Undecided => 0,
            Self::Given => 1,
            Self::Denied => 2,
        }
    }

    /// Returns the value of a number in the journal; undecided for an unknown one.
    #[must_use]
    pub const fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Given,
            2 => Self::Denied,
            _ => Self::Undecided,
        }
    }
}

/// The component and the operation on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentTarget {
    /// The operation.
    pub operation: Operation,
    /// The node whose operation it is, below its branch.
    pub node: String,
    /// The package, or the component, which is named after it.
    pub package: PackageId,
}

impl ComponentTarget {
    /// Returns the address of the operation.
    #[must_use]
    pub fn source(&self) -> String {
        self.operation.address(&object(), &self.node)
    }

    /// Returns the address of the result of a success, unless the component is removed.
    #[must_use]
    pub fn target(&self) -> Option<String> {
        let path = match ComponentState::after(self.operation)? {
            ComponentState::Delivered => Branch::Delivered.node(&self.node),
            ComponentState::Inactive | ComponentState::Active => {
                Branch::Deployed.node(self.package.as_str())
            }
        };
        Some(object().join(&path))
    }

    /// Returns whether the component is to run after its installation.
    #[must_use]
    pub fn activates(&self) -> bool {
        ComponentState::after(self.operation) == Some(ComponentState::Active)
    }

    /// Returns whether the operation has succeeded, by the list of installed components.
    #[must_use]
    pub fn is_done(&self, deployed: &[Deployed], version: Option<&str>) -> bool {
        let found = deployed.iter().find(|component| component.id == self.package);
        match (ComponentState::after(self.operation), found) {
            (None, found) => found.is_none(),
            (Some(ComponentState::Delivered), _) => true,
            (Some(_), None) => false,
            (Some(wanted), Some(found)) => {
                found.state() == wanted && version.is_none_or(|version| found.version == version)
            }
        }
    }
}

impl From<&ComponentTarget> for SubjectRecord {
    fn from(subject: &ComponentTarget) -> Self {
        Self {
            operation: subject.operation.as_str().to_owned(),
            node: subject.node.clone(),
            package: subject.package.to_string(),
        }
    }
}

impl TryFrom<&SubjectRecord> for ComponentTarget {
    type Error = WireError;

    fn try_from(record: &SubjectRecord) -> Result<Self, WireError> {
        Ok(Self {
            operation: record.operation.parse()?,
            node: record.node.clone(),
            package: record.package.parse()?,
        })
    }
}

fn object() -> NodeUri {
    nodes::ROOT.parse().expect("the place of the object is an address")
}

/// A component that is installed, as the hook prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployed {
    /// Its identifier: that of the package which brought it.
    pub id: PackageId,
    /// Its version.
    pub version: String,
    /// Set while it runs.
    pub active: bool,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A text for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

impl Deployed {
    /// Returns its state in the tree.
    #[must_use]
    pub const fn state(&self) -> ComponentState {
        if self.active { ComponentState::Active } else { ComponentState::Inactive }
    }
}

/// Parses the output of the hook: one component in JSON per line.
///
/// # Errors
///
/// [`WireError`] for a line that is none, a text that is too long, a component that is there twice,
/// or too many: a partial list would omit installed components.
pub fn read_deployed(output: &str) -> Result<Vec<Deployed>, WireError> {
    let mut deployed: Vec<Deployed> = Vec::new();
    for line in output.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let invalid = |found: &str, expected| WireError::invalid("component", found, expected);
        let component: Deployed = serde_json::from_str(line)
            .map_err(|_| invalid(line, "{\"id\":…,\"version\":…,\"active\":…}"))?;
        let is_odd = |text: &String| text.len() > MAX_TEXT || text.chars().any(char::is_control);
        let Deployed { version, name, description, .. } = &component;
        if is_odd(version) || name.iter().chain(description).any(is_odd) {
            return Err(invalid(line, "texts of at most 128 octets"));
        }
        if deployed.iter().any(|before| before.id == component.id) {
            return Err(invalid(component.id.as_str(), "each component once"));
        }
        deployed.push(component);
        if deployed.len() > MAX_DEPLOYED {
            return Err(invalid("a long list", "at most 64 components"));
        }
    }
    Ok(deployed)
}

/// The leaves that a server has written into the nodes that it added, by branch and name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Announced {
    nodes: BTreeMap<(Branch, String), BTreeMap<&'static str, String>>,
}

/// The leaves that a server writes.
const DOWNLOAD_LEAVES: &[&str] = &[
    nodes::PACKAGE_ID,
    nodes::NAME,
    nodes::PACKAGE_URL,
    nodes::INSTALL_PARAMETERS,
    nodes::DESCRIPTION,
    nodes::ENVIRONMENT,
    nodes::PACKAGE_TYPE,
];
const DELIVERED_LEAVES: &[&str] =
    &[nodes::PACKAGE_ID, nodes::NAME, nodes::DESCRIPTION, nodes::PACKAGE_TYPE];

fn leaf(branch: Branch, name: &str) -> Option<&'static str> {
    let leaves = match branch {
        Branch::Download => DOWNLOAD_LEAVES,
        Branch::Delivered => DELIVERED_LEAVES,
        Branch::Deployed => &[],
    };
    leaves.iter().copied().find(|leaf| *leaf == name)
}

impl Announced {
    /// Restores the nodes.
    pub(crate) fn from_journal(state: &JournalState) -> Result<Self, WireError> {
        let mut announced = Self::default();
        for AnnouncedRecord { branch, name, leaves } in &state.announced {
            let invalid = || WireError::invalid("announced node", name, "a node of this program");
            let known = Branch::ALL.into_iter().find(|known| known.path() == branch);
            let branch = known.ok_or_else(invalid)?;
            announced.add(branch, name).map_err(|_| invalid())?;
            for leaf in leaves.chunks_exact(2) {
                if let [leaf, text] = leaf {
                    announced.write(branch, name, leaf, text).map_err(|_| invalid())?;
                }
            }
        }
        Ok(announced)
    }

    /// Writes the nodes into the journal.
    pub(crate) fn write_journal(&self, state: &mut JournalState) {
        let text = |(leaf, text): (&&str, &String)| [(*leaf).to_owned(), text.clone()];
        let record = |((branch, name), leaves): (&(Branch, String), &BTreeMap<_, _>)| {
            let leaves = leaves.iter().flat_map(text).collect();
            AnnouncedRecord { branch: branch.path().to_owned(), name: name.clone(), leaves }
        };
        state.announced = self.nodes.iter().map(record).collect();
    }

    /// Returns all nodes with their leaves.
    pub fn nodes(
        &self,
    ) -> impl Iterator<Item = (Branch, &str, &BTreeMap<&'static str, String>)> + use<'_> {
        self.nodes.iter().map(|((branch, name), leaves)| (*branch, name.as_str(), leaves))
    }

    /// Returns whether there is a node.
    #[must_use]
    pub fn has(&self, branch: Branch, name: &str) -> bool {
        self.nodes.contains_key(&(branch, name.to_owned()))
    }

    /// Returns the value of a leaf.
    #[must_use]
    pub fn text(&self, branch: Branch, name: &str, leaf: &str) -> Option<&str> {
        self.nodes.get(&(branch, name.to_owned()))?.get(leaf).map(String::as_str)
    }

    /// Returns the package that a node names.
    #[must_use]
    pub fn package(&self, branch: Branch, name: &str) -> Option<PackageId> {
        self.text(branch, name, nodes::PACKAGE_ID)?.parse().ok()
    }

    /// Adds a node that has nothing yet.
    ///
    /// # Errors
    ///
    /// The status for the server: 405 where the device itself adds, 400 and 414 for the name, 418
    /// and 420.
    pub fn add(&mut self, branch: Branch, name: &str) -> Result<(), StatusCode> {
        if branch == Branch::Deployed {
            return Err(StatusCode::NOT_ALLOWED);
        }
        if name.len() > MAX_NAME {
            return Err(StatusCode::URI_TOO_LONG);
        }
        if name.parse::<PackageId>().is_err() {
            return Err(StatusCode::BAD_REQUEST);
        }
        if self.has(branch, name) {
            return Err(StatusCode::ALREADY_EXISTS);
        }
        if self.nodes.keys().filter(|(other, _)| *other == branch).count() >= MAX_NODES {
            return Err(StatusCode::DEVICE_FULL);
        }
        self.nodes.insert((branch, name.to_owned()), BTreeMap::new());
        Ok(())
    }

    /// Makes room for a node where there is none: an idle one is removed. Not all servers delete
    /// the nodes that they added.
    pub fn make_room(&mut self, branch: Branch, name: &str, in_use: Option<&str>) {
        let others = self.nodes.keys().filter(|(other, _)| *other == branch);
        if self.has(branch, name) || others.clone().count() < MAX_NODES {
            return;
        }
        let idle = others.map(|(_, name)| name).find(|name| in_use != Some(name.as_str()));
        if let Some(idle) = idle.cloned() {
            self.nodes.remove(&(branch, idle));
        }
    }

    /// Writes a leaf of a node that is there.
    ///
    /// # Errors
    ///
    /// The status for the server: 404, 413, 400 for an invalid text or package.
    pub fn write(
        &mut self,
        branch: Branch,
        name: &str,
        path: &str,
        text: &str,
    ) -> Result<(), StatusCode> {
        let leaf = leaf(branch, path).ok_or(StatusCode::NOT_ALLOWED)?;
        let leaves = self.nodes.get_mut(&(branch, name.to_owned()));
        let leaves = leaves.ok_or(StatusCode::NOT_FOUND)?;
        let limit = if leaf == nodes::PACKAGE_URL { MAX_URL } else { MAX_TEXT };
        if text.len() > limit {
            return Err(StatusCode::TOO_LARGE);
        }
        let is_package = leaf != nodes::PACKAGE_ID || text.parse::<PackageId>().is_ok();
        if text.chars().any(char::is_control) || !is_package {
            return Err(StatusCode::BAD_REQUEST);
        }
        leaves.insert(leaf, text.to_owned());
        Ok(())
    }

    /// Removes a node; returns whether it was there.
    pub fn remove(&mut self, branch: Branch, name: &str) -> bool {
        self.nodes.remove(&(branch, name.to_owned())).is_some()
    }

    /// Moves an announced download to the delivered packages; where there is no room, another
    /// delivered package is removed: the device stores the data of one.
    pub fn mark_delivered(&mut self, name: &str) {
        let Some(leaves) = self.nodes.get(&(Branch::Download, name.to_owned())) else { return };
        let delivered = |(path, text): (&&'static str, &String)| {
            leaf(Branch::Delivered, path).map(|leaf| (leaf, text.clone()))
        };
        let leaves = leaves.iter().filter_map(delivered).collect();
        if !self.has(Branch::Delivered, name) && self.add(Branch::Delivered, name).is_err() {
            let last = self.nodes.keys().rfind(|(branch, _)| *branch == Branch::Delivered).cloned();
            last.map(|key| self.nodes.remove(&key));
        }
        self.nodes.insert((Branch::Delivered, name.to_owned()), leaves);
    }
}

/// The view of the components for the management tree.
#[derive(Debug, Clone, Default)]
pub struct Software {
    /// Set when the server may see the inventory.
    pub is_shown: bool,
    /// The announced components.
    pub announced: Announced,
    /// The installed components.
    pub deployed: Vec<Deployed>,
    /// The operation in progress, and the number in its `Status`.
    pub working: Option<(ComponentTarget, u16)>,
    /// The node of the delivered package whose data the device stores.
    pub held: Option<String>,
}

impl Software {
    /// Returns whether the operation in progress belongs to this node.
    #[must_use]
    pub fn is_working_on(&self, branch: Branch, name: &str) -> bool {
        let subject = self.working.as_ref().map(|(subject, _)| subject);
        subject.is_some_and(|it| it.operation.branch() == branch && it.node == name)
    }

    /// Returns the node of a branch with an operation in progress, or with stored data.
    #[must_use]
    pub fn in_use(&self, branch: Branch) -> Option<String> {
        let held = self.held.clone().filter(|_| branch == Branch::Delivered);
        let working = self.working.as_ref().map(|(subject, _)| subject);
        let working = working.filter(|subject| subject.operation.branch() == branch);
        held.or_else(|| working.map(|subject| subject.node.clone()))
    }

    /// Returns the number that the `Status` of a node shows.
    #[must_use]
    pub fn status(&self, branch: Branch, name: &str) -> u16 {
        let working = self.working.as_ref().filter(|_| self.is_working_on(branch, name));
        working.map_or(State::Idle.number(), |(_, status)| *status)
    }
}

words! {
    /// The verb of the hook for an installed component.
    pub enum Verb {
        /// Start it.
        Activate = "component-activate",
        /// Stop it.
        Deactivate = "component-deactivate",
        /// Remove it.
        Remove = "component-remove",
    }
}

impl Verb {
    /// Returns the verb of an operation on an installed component.
    #[must_use]
    pub const fn of(operation: Operation) -> Option<Self> {
        match operation {
            Operation::Activate => Some(Self::Activate),
            Operation::Deactivate => Some(Self::Deactivate),
            Operation::Remove => Some(Self::Remove),
            Operation::Download
            | Operation::DownloadInstall
            | Operation::DownloadInstallInactive
            | Operation::Install
            | Operation::InstallInactive
            | Operation::RemovePackage => None,
        }
    }
}

/// The standard input of the hook with a [`Verb`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeRequest {
    /// [`CONTRACT_VERSION`](crate::update::installer::CONTRACT_VERSION).
    pub contract: u32,
    /// The component.
    pub id: PackageId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_read_as_they_were_written_and_no_others_are_accepted() {
        let mut announced = Announced::default();
        announced.add(Branch::Download, "x").unwrap();
        announced.write(Branch::Download, "x", "PkgID", "player").unwrap();
        let mut state = JournalState::default();
        announced.write_journal(&mut state);
        assert_eq!(Announced::from_journal(&state), Ok(announced));
        state.announced[0].branch.clear();
        assert!(Announced::from_journal(&state).is_err());
    }

    fn subject(operation: Operation) -> ComponentTarget {
        ComponentTarget { operation, node: "x".to_owned(), package: "player".parse().unwrap() }
    }

    fn line(id: &str, version: &str, active: bool) -> String {
        format!("{{\"id\":\"{id}\",\"version\":\"{version}\",\"active\":{active}}}\n")
    }

    // test: oma-dm 12.1 (read back)
    #[test]
    fn the_installed_components_decide_whether_an_operation_is_done() {
        use Operation::{Activate, Deactivate, DownloadInstall, InstallInactive, Remove};
        let (active, inactive) = (line("player", "2", true), line("player", "2", false));
        let other = line("game", "2", true);
        for (operation, version, done_by) in [
            (DownloadInstall, Some("2"), [true, false, false]),
            (DownloadInstall, Some("3"), [false, false, false]),
            (InstallInactive, Some("2"), [false, true, false]),
            (Activate, None, [true, false, false]),
            (Deactivate, None, [false, true, false]),
            (Remove, None, [false, false, true]),
        ] {
            let is_done = |output: &String| {
                subject(operation).is_done(&read_deployed(output).unwrap(), version)
            };
            assert_eq!([&active, &inactive, &other].map(is_done), done_by, "{operation}");
        }
    }

    #[test]
    fn a_list_that_is_not_whole_is_no_list() {
        let many = |count: usize| (0..count).map(|n| line(&format!("c{n}"), "1", true));
        assert_eq!(read_deployed(&many(MAX_DEPLOYED).collect::<String>()).unwrap().len(), 64);
        for wrong in [
            many(MAX_DEPLOYED + 1).collect(),
            line("a b", "1", true),
            line("a/b", "1", true),
            line("..", "1", true),
            line("a", &"1".repeat(129), true),
            line("a", "1\\u0007", true),
            [line("a", "1", true), line("a", "2", true)].concat(),
            "hello".to_owned(),
            "{\"id\":\"a\"}".to_owned(),
        ] {
            assert!(read_deployed(&wrong).is_err(), "{wrong}");
        }
        let named = "\n {\"id\":\"a\",\"version\":\"1\",\"active\":true,\"name\":\"A\",\"more\":1}";
        assert_eq!(read_deployed(named).unwrap()[0].name.as_deref(), Some("A"));
    }

    #[test]
    fn a_server_announces_only_so_much() {
        let mut announced = Announced::default();
        for number in 0..MAX_NODES {
            announced.add(Branch::Download, &number.to_string()).unwrap();
        }
        for (branch, name, status) in [
            (Branch::Download, "new", StatusCode::DEVICE_FULL),
            (Branch::Download, "0", StatusCode::ALREADY_EXISTS),
            (Branch::Delivered, "a b", StatusCode::BAD_REQUEST),
            (Branch::Delivered, &"x".repeat(65), StatusCode::URI_TOO_LONG),
            (Branch::Deployed, "x", StatusCode::NOT_ALLOWED),
        ] {
            assert_eq!(announced.add(branch, name), Err(status), "{name}");
        }
        let (long, longest) = ("x".repeat(129), "x".repeat(513));
        for (name, leaf, text, status) in [
            ("0", "PkgID", "a b", StatusCode::BAD_REQUEST),
            ("0", "Name", "a\nb", StatusCode::BAD_REQUEST),
            ("0", "Name", &long, StatusCode::TOO_LARGE),
            ("0", "PkgURL", &longest, StatusCode::TOO_LARGE),
            ("0", "State", "active", StatusCode::NOT_ALLOWED),
            ("9", "Name", "x", StatusCode::NOT_FOUND),
        ] {
            assert_eq!(announced.write(Branch::Download, name, leaf, text), Err(status), "{leaf}");
        }
        announced.write(Branch::Download, "0", "PkgID", "player").unwrap();
        assert_eq!(announced.package(Branch::Download, "0"), "player".parse().ok());
        announced.make_room(Branch::Download, "new", Some("0"));
        announced.add(Branch::Download, "new").unwrap();
        let names: Vec<_> = announced.nodes().map(|(_, name, _)| name).collect();
        assert_eq!(names, ["0", "2", "3", "new"], "what is in use stays");
        assert!(announced.remove(Branch::Download, "0") && !announced.has(Branch::Download, "0"));
    }

    #[test]
    fn a_downloaded_package_is_delivered_under_its_name() {
        let mut announced = Announced::default();
        for name in ["a", "b", "c", "d"] {
            announced.add(Branch::Delivered, name).unwrap();
        }
        announced.add(Branch::Download, "x").unwrap();
        announced.write(Branch::Download, "x", "PkgID", "player").unwrap();
        announced.write(Branch::Download, "x", "PkgURL", "http://h/p").unwrap();
        announced.mark_delivered("x");
        assert_eq!(announced.package(Branch::Delivered, "x"), "player".parse().ok());
        assert_eq!(announced.text(Branch::Delivered, "x", "PkgURL"), None);
        assert_eq!(announced.nodes().filter(|(it, ..)| *it == Branch::Delivered).count(), 4);
    }

    #[test]
    fn an_operation_names_its_source_and_its_target() {
        for (operation, target) in [
            (Operation::Download, Some("./SCOMO/Inventory/Delivered/x")),
            (Operation::DownloadInstall, Some("./SCOMO/Inventory/Deployed/player")),
            (Operation::Remove, None),
        ] {
            assert_eq!(subject(operation).target().as_deref(), target);
        }
        let source = "./SCOMO/Download/x/Operations/DownloadInstall";
        assert_eq!(subject(Operation::DownloadInstall).source(), source);
    }
}
