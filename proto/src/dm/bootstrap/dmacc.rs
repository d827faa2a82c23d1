//! The account of a DM server as a management object: `DMAcc`, in a document for `./Inbox`.

use super::w7::{Account, Address, Credentials};
use crate::{
    base64_text,
    dm::{
        code::Format,
        syncml::Data,
        tnds::{MgmtTree, Node, NodeKind, Properties},
    },
    wire::WireError,
};

/// The identifier of the management object.
pub const IDENTIFIER: &str = "urn:oma:mo:oma-dm-dmacc:1.0";

/// Levels in a provisioning document and in `AAuthLevel`.
const LEVELS: [(&str, &str); 3] = [("APPSRV", "CLCRED"), ("CLIENT", "SRVCRED"), ("OBEX", "OBEX")];

/// Returns the account as a document. The session at once (`INIT`) has no node: a
/// bootstrap of the DM profile shows by the session that follows.
// spec: oma-dm 9.2 (nodes of the account)
#[must_use]
pub fn to_tree(account: &Account) -> MgmtTree {
    let mut children = vec![leaf("AppID", "w7"), leaf("ServerID", &account.server_id)];
    children.extend(account.name.as_deref().map(|name| leaf("Name", name)));
    let references: Vec<&String> = account.proxies.iter().chain(&account.accesses).collect();
    match references.as_slice() {
        [] => {}
        [one] => children.push(leaf("PrefConRef", one)),
        several => {
            let one = |reference: &&String| vec![leaf("ConRef", reference)];
            children.push(numbered("ToConRef", several.iter().map(one)));
        }
    }
    children.push(numbered("AppAddr", account.addresses.iter().map(address)));
    let preferred = account.credentials.iter().find_map(|it| it.kind.as_deref());
    children.extend(preferred.map(|kind| leaf("AAuthPref", kind)));
    children.push(numbered("AppAuth", account.credentials.iter().map(credentials)));
    let mut root = parent(&account.server_id, children);
    root.properties = Some(Properties {
        format: Some(Format::Node),
        kind: Some(NodeKind::Object(IDENTIFIER.to_owned())),
        ..Properties::default()
    });
    MgmtTree { nodes: vec![root], ..MgmtTree::default() }
}

/// Reads the first account of a document.
///
/// # Errors
///
/// [`WireError`] when there is none, it has no server or no address.
// spec: oma-dm 9.2 (nodes of the account)
pub fn from_tree(tree: &MgmtTree) -> Result<Account, WireError> {
    let lacks = |what: &'static str| WireError::invalid("account", what, "a whole DMAcc");
    let is_account = |node: &&Node| {
        let kind = node.properties.as_ref().and_then(|it| it.kind.as_ref());
        kind == Some(&NodeKind::Object(IDENTIFIER.to_owned()))
            && text(node, "AppID").is_none_or(|id| id == "w7")
    };
    let root = tree.nodes.iter().find(is_account).ok_or_else(|| lacks("no DMAcc"))?;
    let addresses: Vec<Address> = below(root, "AppAddr")
        .filter_map(|node| {
            Some(Address {
                address: text(node, "Addr")?,
                kind: text(node, "AddrType"),
                ports: below(node, "Port").filter_map(|port| text(port, "PortNbr")).collect(),
            })
        })
        .collect();
    if addresses.is_empty() {
        return Err(lacks("no address"));
    }
    let several = below(root, "ToConRef").filter_map(|node| text(node, "ConRef"));
    Ok(Account {
        server_id: text(root, "ServerID").ok_or_else(|| lacks("no ServerID"))?,
        name: text(root, "Name"),
        begin: false,
        proxies: Vec::new(),
        accesses: text(root, "PrefConRef").into_iter().chain(several).collect(),
        addresses,
        credentials: below(root, "AppAuth").map(read_credentials).collect(),
    })
}

fn address(address: &Address) -> Vec<Node> {
    let mut children = vec![leaf("Addr", &address.address)];
    children.push(leaf("AddrType", address.kind.as_deref().unwrap_or("URI")));
    if !address.ports.is_empty() {
        let port = |port: &String| vec![leaf("PortNbr", port)];
        children.push(numbered("Port", address.ports.iter().map(port)));
    }
    children
}

fn credentials(credentials: &Credentials) -> Vec<Node> {
    let parts = [
        ("AAuthLevel", credentials.account_level()),
        ("AAuthType", credentials.kind.as_deref()),
        ("AAuthName", credentials.name.as_deref()),
        ("AAuthSecret", credentials.secret.as_deref()),
    ];
    let mut children: Vec<Node> =
        parts.into_iter().filter_map(|(name, value)| Some(leaf(name, value?))).collect();
    // The nonce is base64 in a provisioning document, and octets here.
    let nonce = credentials.data.as_deref().and_then(|data| base64_text::decode(data).ok());
    children.extend(nonce.map(|octets| Node {
        properties: Some(Properties { format: Some(Format::Bin), ..Properties::default() }),
        value: Some(Data::Octets(octets)),
        ..leaf("AAuthData", "")
    }));
    children
}

fn read_credentials(node: &Node) -> Credentials {
    let level = text(node, "AAuthLevel");
    let level = level.and_then(|level| LEVELS.iter().find(|(_, it)| *it == level));
    let data = child(node, "AAuthData").and_then(|it| it.value.as_ref()).map(|data| match data {
        Data::Octets(octets) => base64_text::encode(octets),
        Data::Text(text) => text.trim().to_owned(),
    });
    Credentials {
        level: level.map(|(level, _)| (*level).to_owned()),
        kind: text(node, "AAuthType"),
        name: text(node, "AAuthName"),
        secret: text(node, "AAuthSecret"),
        data,
    }
}

fn leaf(name: &str, value: &str) -> Node {
    Node {
        name: name.to_owned(),
        properties: Some(Properties { format: Some(Format::Chr), ..Properties::default() }),
        value: Some(value.into()),
        ..Node::default()
    }
}

fn parent(name: &str, children: Vec<Node>) -> Node {
    let properties = Properties { format: Some(Format::Node), ..Properties::default() };
    Node { name: name.to_owned(), properties: Some(properties), children, ..Node::default() }
}

/// A parent of parents that are numbered from 1.
fn numbered(name: &str, groups: impl Iterator<Item = Vec<Node>>) -> Node {
    let children =
        (1..).zip(groups).map(|(n, children): (u32, _)| parent(&n.to_string(), children));
    parent(name, children.collect())
}

fn child<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    node.children.iter().find(|child| child.name == name)
}

/// Returns what is below a child, whatever it is called there.
fn below<'n>(node: &'n Node, name: &str) -> impl Iterator<Item = &'n Node> {
    child(node, name).into_iter().flat_map(|child| &child.children)
}

fn text(node: &Node, name: &str) -> Option<String> {
    match child(node, name)?.value.as_ref()? {
        Data::Text(text) => Some(text.trim().to_owned()),
        Data::Octets(octets) => String::from_utf8(octets.clone()).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::w7, *};
    use crate::dm::encoding::{Encoding, Limits};

    /// An account with all that a management object can hold: no first session, no proxy.
    fn account() -> Account {
        Account { begin: false, proxies: Vec::new(), ..w7::tests::account() }
    }

    // test: oma-dm 9.2
    #[test]
    fn an_account_survives_its_management_object() {
        let several =
            Account { accesses: vec!["INTERNET".to_owned(), "OTHER".to_owned()], ..account() };
        for account in [account(), several] {
            for encoding in [Encoding::Xml, Encoding::Wbxml] {
                let octets = to_tree(&account).emit(encoding);
                let tree = MgmtTree::parse(&octets, encoding, &Limits::default()).unwrap();
                assert_eq!(from_tree(&tree).as_ref(), Ok(&account));
            }
        }
    }

    // test: oma-dm 9.2
    #[test]
    fn a_management_object_without_server_or_address_is_none() {
        let without = |name: &str| {
            let mut tree = to_tree(&account());
            tree.nodes[0].children.retain(|child| child.name != name);
            from_tree(&tree)
        };
        assert!(without("ServerID").is_err() && without("AppAddr").is_err());
        assert!(without("Name").is_ok() && without("AppAuth").is_ok());
        let mut other = to_tree(&account());
        other.nodes[0].properties = None;
        assert!(from_tree(&other).is_err());
    }
}
