//! Access control lists. A node without a list of its own inherits that of its parent.
//!
//! Only lists that a server has changed are stored, one line `URI LIST` for each; an empty list
//! inherits.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use proto::dm::{code::StatusCode, uri::NodeUri};

use super::right::Right;
use crate::dm::AccountStore;

/// Nodes with a list of their own, at most.
const MAX_LISTS: usize = 16;
/// Octets of all lists together, at most.
const MAX_BYTES: usize = 1_024;

/// An access control list: for each right the servers that have it, `*` for all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Acl(BTreeMap<Right, BTreeSet<String>>);

impl Acl {
    /// Parses `Add=srv1&Get=*&Replace=srv1+srv2`; an empty text is an empty list.
    // spec: oma-dm 2.2 (form of the lists)
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut acl = Self::default();
        for part in text.trim().split('&').filter(|part| !part.is_empty()) {
            let (name, servers) = part.split_once('=')?;
            let right = Right::ALL.into_iter().find(|right| right.as_str() == name)?;
            let servers: BTreeSet<String> = servers.split('+').map(str::to_owned).collect();
            let is_id = |id: &String| {
                let odd = |c: char| !c.is_ascii_graphic() || matches!(c, '=' | '&' | '*' | '+');
                *id == "*" || (!id.is_empty() && !id.contains(odd))
            };
            if !servers.iter().all(is_id) || acl.0.insert(right, servers).is_some() {
                return None;
            }
        }
        Some(acl)
    }

    /// Returns whether it is empty: the node inherits the list of its parent.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether a server has a right.
    pub(super) fn allows(&self, right: Right, server: &str) -> bool {
        self.0.get(&right).is_some_and(|ids| ids.contains("*") || ids.contains(server))
    }
}

impl fmt::Display for Acl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (right, servers)) in self.0.iter().enumerate() {
            let joint = if number == 0 { "" } else { "&" };
            let servers = servers.iter().map(String::as_str).collect::<Vec<_>>().join("+");
            write!(formatter, "{joint}{}={servers}", right.as_str())?;
        }
        Ok(())
    }
}

/// Parses the stored lists, which only this module writes.
pub(super) fn read(text: &str) -> BTreeMap<String, Acl> {
    let line = |line: &str| {
        let (uri, acl) = line.split_once(' ')?;
        Some((uri.to_owned(), Acl::parse(acl)?))
    };
    text.lines().filter_map(line).collect()
}

fn write(lists: &BTreeMap<String, Acl>) -> String {
    lists.iter().map(|(uri, acl)| format!("{uri} {acl}\n")).collect()
}

/// Drops the lists of a removed node and of all below it: a later node with the same URI is another
/// one.
pub(super) fn forget(device: &mut dyn AccountStore, node: &NodeUri) {
    let mut stored = read(&device.access_lists());
    let count = stored.len();
    let below = |uri: &str| uri.parse::<NodeUri>().is_ok_and(|uri| uri.below(node).is_some());
    stored.retain(|uri, _| !below(uri));
    if stored.len() < count {
        device.store_access_lists(&write(&stored));
    }
}

/// Stores the list of a node.
pub(super) fn store(device: &mut dyn AccountStore, node: &NodeUri, acl: Acl) -> StatusCode {
    let mut stored = read(&device.access_lists());
    stored.insert(node.to_string(), acl);
    let lines = write(&stored);
    if stored.len() > MAX_LISTS || lines.len() > MAX_BYTES {
        return StatusCode::DEVICE_FULL;
    }
    device.store_access_lists(&lines);
    StatusCode::OK
}

#[cfg(test)]
mod tests {
    use proto::dm::syncml::Item;

    use super::*;
    use crate::dm::fake::{FakeDevice, at, settings};
    use crate::dm::tree::Tree;

    const OBJECT: &str = "./FwUpdate/Main";

    fn set(device: &mut FakeDevice, uri: &str, acl: &str) -> StatusCode {
        let item = Item::text(format!("{uri}?prop=ACL"), acl);
        Tree::new(settings()).replace(at(0), device, &item)
    }

    fn replace(device: &mut FakeDevice) -> StatusCode {
        let item = Item::text("./FwUpdate/Main/DownloadAndUpdate/PkgURL", "fumocast:");
        Tree::new(settings()).replace(at(0), device, &item)
    }

    fn get(device: &FakeDevice, uri: &str) -> Result<String, StatusCode> {
        let items = Tree::new(settings()).get(device, uri)?;
        Ok(items[0].data_text().unwrap().to_owned())
    }

    // test: oma-dm 2.2
    #[test]
    fn a_list_reads_back_and_anything_else_is_none() {
        for text in ["", "Get=*", "Add=a&Delete=a+b&Exec=*&Get=*&Replace=c"] {
            assert_eq!(Acl::parse(text).unwrap().to_string(), text);
        }
        for junk in ["Get", "Get=", "Got=*", "Get=a b", "Get=a&Get=b", "Get=a=b", "Get=ä"] {
            assert_eq!(Acl::parse(junk), None, "{junk}");
        }
    }

    // test: oma-dm 2.2
    #[test]
    fn a_node_without_a_list_has_that_of_its_parent() {
        let mut device = FakeDevice::default();
        assert_eq!(replace(&mut device), StatusCode::OK);
        assert_eq!(set(&mut device, OBJECT, "Get=*&Replace=other"), StatusCode::OK);
        assert_eq!(replace(&mut device), StatusCode::PERMISSION_DENIED);
        assert_eq!(get(&device, "./FwUpdate/Main?prop=ACL").unwrap(), "Get=*&Replace=other");
        assert_eq!(get(&device, "./FwUpdate/Main/State?prop=ACL").unwrap(), "");
        assert_eq!(set(&mut device, OBJECT, "Get=*"), StatusCode::PERMISSION_DENIED, "it is gone");
    }

    // test: oma-dm 2.2
    #[test]
    fn every_command_asks_the_list() {
        let mut device = FakeDevice::default();
        let exec = Item::target("./FwUpdate/Main/Ext/Broadcast/Disarm");
        let run = |device: &mut FakeDevice| Tree::new(settings()).exec(at(0), device, &exec, None);
        assert_eq!(run(&mut device), StatusCode::OK);
        let leaf = "./FwUpdate/Main/State";
        assert_eq!(set(&mut device, leaf, "Get=other"), StatusCode::OK);
        assert_eq!(get(&device, leaf), Err(StatusCode::PERMISSION_DENIED));
        assert_eq!(
            get(&device, "./FwUpdate/Main/State?prop=ACL"),
            Err(StatusCode::PERMISSION_DENIED)
        );
        assert!(get(&device, "./FwUpdate/Main/PkgVersion").is_ok());
        let listed = Tree::new(settings()).get(&device, "./FwUpdate/Main?list=StructData").unwrap();
        assert!(!listed.iter().any(|item| item.source_uri() == Some(leaf)), "not in a list either");
        assert_eq!(set(&mut device, OBJECT, "Get=*&Replace=server"), StatusCode::OK);
        assert_eq!(run(&mut device), StatusCode::PERMISSION_DENIED);
        assert_eq!(device.calls, ["disarm"]);
    }

    #[test]
    fn what_no_server_owns_stays_as_the_factory_made_it() {
        let mut device = FakeDevice::default();
        for uri in [".", "./DevInfo", "./DevInfo/DevId", "./FwUpdate", "./DMAcc"] {
            assert_eq!(set(&mut device, uri, "Get=*"), StatusCode::PERMISSION_DENIED, "{uri}");
        }
        for (uri, status) in [
            ("./Nowhere?prop=ACL", StatusCode::NOT_FOUND),
            ("./FwUpdate/Main?prop=Name", StatusCode::NOT_ALLOWED),
            ("./FwUpdate/Main?list=Struct", StatusCode::NOT_SUPPORTED),
        ] {
            let item = Item::text(uri, "Get=*");
            assert_eq!(Tree::new(settings()).replace(at(0), &mut device, &item), status, "{uri}");
        }
        assert_eq!(set(&mut device, OBJECT, "Get=a b"), StatusCode::BAD_REQUEST);
        assert_eq!(device.access_lists, "");
    }

    #[test]
    fn lists_do_not_fill_the_device() {
        let mut device = FakeDevice::default();
        let long = format!("Get=*&Replace=server+{}", "x".repeat(1_000));
        assert_eq!(set(&mut device, OBJECT, &long), StatusCode::DEVICE_FULL);
        let mut taken = 0;
        for number in 0..16 {
            let uri = format!("./FwUpdate/Main/Ext/Broadcast/Plan/{number}");
            taken += usize::from(set(&mut device, &uri, "Get=*") == StatusCode::OK);
        }
        assert!((10..=MAX_LISTS).contains(&taken), "{taken}");
        assert!(device.access_lists.len() <= MAX_BYTES);
    }
}
