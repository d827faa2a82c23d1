//! The FUMO object of a device, looked for in its tree: its maker chooses the place.
//!
//! ```text
//! Get . and the usual parents    -> the names of their nodes
//! Get each node and its Type      -> the object, or the names of the next level
//! ```

use std::collections::{BTreeMap, BTreeSet};

use proto::dm::{
    code::StatusCode,
    nodes::{device, fumo, scomo},
    uri::NodeUri,
};

use super::outbox::{PlannedCommand, Purpose, Request};

/// Start of the identifier of a FUMO object, of any version.
const IDENTIFIER: &str = "urn:oma:mo:oma-fumo:";

/// Nodes that one search asks for, at most.
const MAX_NODES: usize = 64;

/// Levels below the root of the tree that one search visits, at most.
const MAX_LEVELS: usize = 4;

/// Parents that clients use, for a device that does not list its root.
const USUAL_PARENTS: [&str; 5] =
    ["./FwUpdate", "./FUMO", "./FirmwareUpdate", "./FOTA", "./Firmware"];

/// A search through the tree of a device, level by level.
#[derive(Debug, Clone, Default)]
pub(super) struct ObjectSearch {
    /// Nodes that alerts of the device name, visited first.
    hints: Vec<NodeUri>,
    /// Nodes that were asked for.
    asked: BTreeSet<NodeUri>,
    /// Nodes of the current level.
    level: Vec<NodeUri>,
    /// Number of the next level.
    next_level: usize,
    /// Values by the URI of their Get.
    values: BTreeMap<String, String>,
    /// First status that refused the names of the nodes below a node.
    refused: Option<(NodeUri, StatusCode)>,
    /// Set when a limit left nodes out.
    is_cut: bool,
    is_over: bool,
}

/// The next step of a search.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SearchStep {
    /// Send these commands.
    Send(Vec<PlannedCommand>),
    /// The object is here.
    Found(NodeUri),
    /// The search has ended; there is nothing, or it was found before.
    Over,
}

impl ObjectSearch {
    /// Adds a place that an alert of the device names: the object, or a node of it.
    pub(super) fn add_hint(&mut self, uri: &str) {
        let Ok(node) = uri.trim_end_matches('/').parse::<NodeUri>() else { return };
        let operations = [fumo::DOWNLOAD, fumo::UPDATE, fumo::DOWNLOAD_AND_UPDATE];
        let is_operation = node.name().is_some_and(|name| operations.contains(&name));
        let object = if is_operation { node.parent() } else { Some(node) };
        self.hints.extend(object.filter(|_| self.hints.len() < MAX_LEVELS));
    }

    /// Returns the next step, after every command of the step before has a status.
    pub(super) fn next(&mut self) -> SearchStep {
        if self.is_over {
            return SearchStep::Over;
        }
        if let Some(found) = self.level.iter().find(|node| self.is_object(node)) {
            self.is_over = true;
            return SearchStep::Found(found.clone());
        }
        let nodes = self.take_level();
        self.is_over = nodes.is_empty();
        if self.is_over {
            return SearchStep::Over;
        }
        let commands = nodes.iter().flat_map(|node| [read(node.to_string()), read(kind_of(node))]);
        let commands = commands.collect();
        self.level = nodes;
        SearchStep::Send(commands)
    }

    /// Records a node whose nodes cannot be listed; one that is not there hides nothing.
    pub(super) fn on_status(&mut self, planned: &PlannedCommand, code: StatusCode) {
        let Request::Get(uri) = planned.request() else { return };
        let hides = !code.is_success() && code != StatusCode::NOT_FOUND;
        if let Ok(node) = uri.parse::<NodeUri>()
            && hides
        {
            self.refused.get_or_insert((node, code));
        }
    }

    /// Returns the reason for which a search that is over has found nothing.
    pub(super) fn why_nothing(&self) -> String {
        match &self.refused {
            _ if self.is_cut => format!(
                "none in the {MAX_NODES} nodes and {MAX_LEVELS} levels of its tree that were read"
            ),
            Some((node, code)) => {
                format!("none in the part of its tree that may be read: {node} answered {code}")
            }
            None => "none found in its tree".to_owned(),
        }
    }

    /// Stores a value, or the names of the nodes below a node.
    pub(super) fn on_value(&mut self, uri: &str, text: String) {
        self.values.insert(uri.to_owned(), text);
    }

    /// Returns the nodes of the next level that were not asked for, up to the limits.
    fn take_level(&mut self) -> Vec<NodeUri> {
        let level = self.next_level;
        self.next_level += 1;
        let nodes: Vec<NodeUri> = match level {
            0 => {
                let usual = USUAL_PARENTS.iter().filter_map(|uri| uri.parse().ok());
                let hints = std::mem::take(&mut self.hints);
                hints.into_iter().chain([NodeUri::root()]).chain(usual).collect()
            }
            _ => self.level.iter().flat_map(|node| self.nodes_below(node)).collect(),
        };
        let room = match level {
            0..=MAX_LEVELS => MAX_NODES.saturating_sub(self.asked.len()),
            _ => 0,
        };
        let asked = &mut self.asked;
        let mut unknown = nodes.into_iter().filter(|node| asked.insert(node.clone()));
        let taken = unknown.by_ref().take(room).collect();
        self.is_cut |= unknown.next().is_some();
        taken
    }

    fn names<'n>(&'n self, node: &NodeUri) -> impl Iterator<Item = &'n str> {
        let listed = self.values.get(&node.to_string()).map(String::as_str).unwrap_or_default();
        listed.split('/').map(str::trim).filter(|name| !name.is_empty())
    }

    fn nodes_below(&self, node: &NodeUri) -> impl Iterator<Item = NodeUri> {
        let standard = [device::INFO, device::DETAIL, device::ACCOUNTS, scomo::ROOT];
        let nodes = self.names(node).filter_map(|name| node.join(name).parse::<NodeUri>().ok());
        nodes.filter(move |node| !standard.contains(&&*node.to_string()))
    }

    // spec: oma-dm 11.3 (the Type of the root of an object is its identifier)
    /// Returns whether a node is a FUMO object: by its Type, or by the nodes below it where a device
    /// has no Type.
    fn is_object(&self, node: &NodeUri) -> bool {
        let kind = self.values.get(&kind_of(node));
        let has = |wanted: &str| self.names(node).any(|name| name == wanted);
        let has_operation =
            [fumo::DOWNLOAD_AND_UPDATE, fumo::UPDATE, fumo::DOWNLOAD].into_iter().any(has);
        kind.is_some_and(|kind| kind.trim().starts_with(IDENTIFIER))
            || has_operation && has(fumo::STATE)
    }
}

fn kind_of(node: &NodeUri) -> String {
    format!("{node}?prop=Type")
}

const fn read(uri: String) -> PlannedCommand {
    PlannedCommand::new(Purpose::FindObject, Request::Get(uri))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets a tree answer; returns what was found, and the number of nodes that were asked for.
    fn search(mut search: ObjectSearch, tree: &[(&str, &str)]) -> (Option<String>, usize) {
        let mut asked = 0;
        loop {
            match search.next() {
                SearchStep::Over => return (None, asked),
                SearchStep::Found(found) => return (Some(found.to_string()), asked),
                SearchStep::Send(commands) => {
                    asked += commands.len() / 2;
                    for command in commands {
                        let Request::Get(uri) = command.request() else { panic!() };
                        if let Some((_, text)) = tree.iter().find(|(node, _)| node == uri) {
                            search.on_value(uri, (*text).to_owned());
                        }
                    }
                }
            }
        }
    }

    // test: oma-dm 11.3 (the Type of the root of an object is its identifier)
    #[test]
    fn an_object_is_found_by_its_type_or_by_its_nodes() {
        for tree in [
            &[
                (".", "DevInfo/Vendor"),
                ("./Vendor", "Fota"),
                ("./Vendor/Fota?prop=Type", "urn:oma:mo:oma-fumo:1.0"),
            ][..],
            &[(".", "Vendor"), ("./Vendor", "Other/Fota"), ("./Vendor/Fota", "State/Update/Ext")],
            &[
                (".", "/Vendor/"),
                ("./Vendor", " Fota "),
                ("./Vendor/Fota", "DownloadAndUpdate/State"),
            ],
        ] {
            assert_eq!(
                search(ObjectSearch::default(), tree).0.as_deref(),
                Some("./Vendor/Fota"),
                "{tree:?}"
            );
        }
        let usual = [("./FUMO", "State/DownloadAndUpdate/Ext")];
        assert_eq!(search(ObjectSearch::default(), &usual).0.as_deref(), Some("./FUMO"));
    }

    #[test]
    fn what_only_looks_like_an_object_is_none() {
        for tree in [
            &[][..],
            &[(".", "Vendor"), ("./Vendor", "State")],
            &[(".", "SCOMO"), ("./SCOMO", "Download/Inventory/State")],
            &[(".", "DevInfo"), ("./DevInfo?prop=Type", "urn:oma:mo:oma-dm-devinfo:1.0")],
        ] {
            assert_eq!(search(ObjectSearch::default(), tree).0, None, "{tree:?}");
        }
    }

    #[test]
    fn a_place_that_an_alert_names_is_visited_first() {
        let tree = [("./A/B/C/D/Fota", "State/Update"), ("./FUMO", "State/Update")];
        for hint in ["./A/B/C/D/Fota", "./A/B/C/D/Fota/Update/", "A/B/C/D/Fota/DownloadAndUpdate"] {
            let mut hinted = ObjectSearch::default();
            hinted.add_hint(hint);
            assert_eq!(search(hinted, &tree).0.as_deref(), Some("./A/B/C/D/Fota"), "{hint}");
        }
        let mut odd = ObjectSearch::default();
        for hint in ["", "//", "../x"] {
            odd.add_hint(hint);
        }
        assert_eq!(search(odd, &tree).0.as_deref(), Some("./FUMO"));
    }

    #[test]
    fn a_search_that_was_not_allowed_or_not_whole_says_so() {
        let answered = |code| {
            let mut search = ObjectSearch::default();
            while let SearchStep::Send(commands) = search.next() {
                commands.iter().for_each(|command| search.on_status(command, code));
            }
            search.why_nothing()
        };
        assert_eq!(answered(StatusCode::NOT_FOUND), "none found in its tree");
        assert_eq!(
            answered(StatusCode::PERMISSION_DENIED),
            "none in the part of its tree that may be read: . answered 425"
        );
        let within = |levels: usize, width: usize| {
            let mut search = ObjectSearch::default();
            while let SearchStep::Send(commands) = search.next() {
                for command in commands {
                    let Request::Get(uri) = command.request() else { panic!() };
                    if uri.matches('/').count() < levels {
                        let names: Vec<_> = (0..width).map(|name| format!("n{name}")).collect();
                        search.on_value(uri, names.join("/"));
                    }
                }
            }
            search.why_nothing()
        };
        let cut = "none in the 64 nodes and 4 levels of its tree that were read";
        assert_eq!(within(1, 50), "none found in its tree");
        assert_eq!(within(1, 61), cut);
        assert_eq!(within(4, 1), "none found in its tree");
        assert_eq!(within(5, 1), cut);
    }

    #[test]
    fn a_tree_without_end_ends_the_search() {
        let mut endless = ObjectSearch::default();
        let mut asked = 0;
        while let SearchStep::Send(commands) = endless.next() {
            asked += commands.len();
            for command in commands {
                let Request::Get(uri) = command.request() else { panic!() };
                endless.on_value(uri, ["a", "b", "c"].join("/"));
            }
        }
        assert_eq!(asked, 2 * MAX_NODES);
        assert_eq!(endless.next(), SearchStep::Over);
    }
}
