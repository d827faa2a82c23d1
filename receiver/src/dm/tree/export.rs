//! Subtrees as documents (TNDS): `?list=TNDS`, and Replace of a subtree in one piece.

use proto::dm::{
    code::{Format, StatusCode},
    encoding::{Encoding, Limits},
    syncml::{Data, Item, Location, Meta},
    tnds::{MgmtTree, Node as Document, NodeKind, Properties},
    uri::NodeUri,
};

use super::{Nodes, Tree, children, find, right::Right, shape};
use crate::dm::ManagementBackend;

/// Nodes that a document may have.
const MAX_NODES: usize = 256;

/// Selection of properties in a document: `TNDS`, `TNDS+ACL+Value` or `TNDS-ACL`.
#[derive(Debug, Clone, Copy)]
enum PropertySelection<'a> {
    All,
    Only(&'a str),
    Without(&'a str),
}

const PROPERTIES: [&str; 9] =
    ["ACL", "Format", "Name", "Size", "Title", "TStamp", "Type", "VerNo", "Value"];

impl<'a> PropertySelection<'a> {
    // spec: oma-dm 2.3 (choice of properties)
    fn parse(text: &'a str) -> Result<Self, StatusCode> {
        let Some(sign) = text.chars().next() else { return Ok(Self::All) };
        let known = |names: &str| names.split(sign).all(|name| PROPERTIES.contains(&name));
        match (sign, text.split_at(sign.len_utf8()).1) {
            ('+', names) if known(names) => Ok(Self::Only(names)),
            ('-', names) if known(names) => Ok(Self::Without(names)),
            _ => Err(StatusCode::NOT_SUPPORTED),
        }
    }

    fn has(self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.split('+').any(|it| it == name),
            Self::Without(names) => names.split('-').all(|it| it != name),
        }
    }
}

/// Returns a subtree as a document, without the nodes that the server may not read.
pub(super) fn document(
    tree: &Tree,
    device: &dyn ManagementBackend,
    uri: &str,
    node: &NodeUri,
    shown: &str,
) -> Result<Vec<Item>, StatusCode> {
    let mut left = MAX_NODES;
    let nodes = tree.nodes(device);
    let mut root =
        export_node(tree, device, &nodes, node, PropertySelection::parse(shown)?, &mut left)?;
    root.path = node.parent().map(|parent| parent.to_string());
    let identity = &tree.settings().identity;
    let document = MgmtTree {
        manufacturer: Some(identity.manufacturer.clone()),
        model: Some(identity.model.clone()),
        nodes: vec![root],
    };
    let encoding = tree.settings().account.encoding;
    let octets = document.emit(encoding);
    let (format, data) = match encoding {
        Encoding::Wbxml => (Format::Bin, Data::Octets(octets)),
        Encoding::Xml => {
            let text = String::from_utf8(octets).map_err(|_| StatusCode::FAILED)?;
            (Format::Xml, Data::Text(text))
        }
    };
    let kind = Some(MgmtTree::media_type(encoding).to_owned());
    Ok(vec![Item {
        source: Some(Location::new(uri)),
        meta: Some(Meta { kind, ..Meta::format(format) }),
        data: Some(data),
        ..Item::default()
    }])
}

fn export_node(
    tree: &Tree,
    device: &dyn ManagementBackend,
    nodes: &Nodes,
    node: &NodeUri,
    shown: PropertySelection<'_>,
    left: &mut usize,
) -> Result<Document, StatusCode> {
    *left = left.checked_sub(1).ok_or(StatusCode::TOO_LARGE)?;
    let found = find(nodes, node).ok_or(StatusCode::NOT_FOUND)?;
    let (format, value) = shape(&found);
    let identifier = tree.object_identifier(node);
    let kind = if format != Format::Node {
        Some(NodeKind::Mime("text/plain".to_owned()))
    } else if identifier.is_empty() {
        None
    } else {
        Some(NodeKind::Object(identifier.to_owned()))
    };
    let acl = tree.own_acl(device, node).to_string();
    let properties = Properties {
        acl: Some(acl).filter(|acl| shown.has("ACL") && !acl.is_empty()),
        format: Some(format).filter(|_| shown.has("Format")),
        kind: kind.filter(|_| shown.has("Type")),
        ..Properties::default()
    };
    let mut document = Document {
        name: node.name().unwrap_or(".").to_owned(),
        properties: Some(properties).filter(|it| *it != Properties::default()),
        value: value.filter(|_| shown.has("Value")).map(Data::from),
        ..Document::default()
    };
    for name in children(nodes, node) {
        let below = node.join(&name).parse().map_err(|_| StatusCode::FAILED)?;
        if tree.allows(device, &below, Right::Get) {
            document.children.push(export_node(tree, device, nodes, &below, shown, left)?);
        }
    }
    Ok(document)
}

/// Returns the leaves with values in a document that replaces a subtree.
///
/// # Errors
///
/// The status code of the failed Replace.
pub(super) fn leaves(node: &NodeUri, item: &Item) -> Result<Vec<Item>, StatusCode> {
    let kind = item.meta.as_ref().and_then(|meta| meta.kind.as_deref()).unwrap_or_default();
    let encoding = [Encoding::Xml, Encoding::Wbxml]
        .into_iter()
        .find(|encoding| MgmtTree::media_type(*encoding) == kind);
    let octets = match &item.data {
        Some(Data::Text(text)) if encoding == Some(Encoding::Xml) => text.as_bytes().to_vec(),
        Some(Data::Octets(octets)) => octets.clone(),
        Some(Data::Text(_)) => item.to_bytes().unwrap_or_default(),
        None => return Err(StatusCode::INCOMPLETE),
    };
    let Some(encoding) = encoding else { return Err(StatusCode::UNSUPPORTED_FORMAT) };
    let Ok(tree) = MgmtTree::parse(&octets, encoding, &Limits::default()) else {
        return Err(StatusCode::BAD_REQUEST);
    };
    let [root] = tree.nodes.as_slice() else { return Err(StatusCode::BAD_REQUEST) };
    if node.name() != Some(&root.name) && !root.name.is_empty() {
        return Err(StatusCode::BAD_REQUEST);
    }
    let mut values = Vec::new();
    leaf_values(root, &node.to_string(), &mut values);
    Ok(values)
}

/// Returns whether an item's data is a document.
pub(super) fn is_document(item: &Item) -> bool {
    let kind = item.meta.as_ref().and_then(|meta| meta.kind.as_deref());
    kind.is_some_and(|kind| kind.starts_with("application/vnd.syncml.dmtnds"))
}

fn leaf_values(document: &Document, uri: &str, values: &mut Vec<Item>) {
    if let Some(data) = &document.value {
        let stated = document.properties.as_ref().and_then(|it| it.format.clone());
        let meta = Meta::format(stated.unwrap_or(Format::Chr));
        values.push(Item { meta: Some(meta), data: Some(data.clone()), ..Item::target(uri) });
    }
    for child in &document.children {
        leaf_values(child, &format!("{uri}/{}", child.name), values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dm::fake::{FakeDevice, at, settings};

    const REPORT: &str = "./FwUpdate/Main/Ext/Broadcast/Report";

    fn tree(encoding: Encoding) -> Tree {
        let mut settings = settings();
        settings.account.encoding = encoding;
        Tree::new(settings)
    }

    fn export(encoding: Encoding, uri: &str) -> Result<MgmtTree, StatusCode> {
        let items = tree(encoding).get(&FakeDevice::default(), uri)?;
        assert!(is_document(&items[0]));
        let octets = match items[0].data.clone().unwrap() {
            Data::Text(text) => text.into_bytes(),
            Data::Octets(octets) => octets,
        };
        Ok(MgmtTree::parse(&octets, encoding, &Limits::default()).unwrap())
    }

    fn child<'d>(document: &'d Document, name: &str) -> &'d Document {
        document.children.iter().find(|child| child.name == name).unwrap()
    }

    // test: oma-dm 2.3
    #[test]
    fn a_subtree_is_exported_with_its_properties_in_both_forms() {
        let xml = export(Encoding::Xml, "./FwUpdate/Main?list=TNDS").unwrap();
        assert_eq!(xml, export(Encoding::Wbxml, "./FwUpdate/Main?list=TNDS").unwrap());
        let [root] = &xml.nodes[..] else { panic!() };
        assert_eq!((root.name.as_str(), root.path.as_deref()), ("Main", Some("./FwUpdate")));
        let properties = root.properties.as_ref().unwrap();
        assert_eq!(properties.acl.as_deref(), Some("Exec=server&Get=*&Replace=server"));
        assert_eq!(properties.kind, Some(NodeKind::Object("urn:oma:mo:oma-fumo:1.0".to_owned())));
        let state = child(root, "State");
        assert_eq!(state.value, Some(Data::from("10")));
        assert_eq!(state.properties.as_ref().unwrap().format, Some(Format::Int));
        let broadcast = child(child(root, "Ext"), "Broadcast");
        assert_eq!(child(broadcast, "Campaign").value, None, "it cannot be read");
        let account = export(Encoding::Xml, "./DMAcc?list=TNDS").unwrap();
        assert!(!format!("{account:?}").contains("first"));
    }

    // test: oma-dm 2.3
    #[test]
    fn an_export_shows_the_properties_that_are_asked_for() {
        let state = |list: &str| {
            let uri = format!("./FwUpdate/Main/State?list=TNDS{list}");
            export(Encoding::Xml, &uri).map(|mut tree| tree.nodes.remove(0))
        };
        let only = state("+Value").unwrap();
        assert_eq!((only.properties, only.value.is_some()), (None, true));
        let without = state("-Value-Type").unwrap();
        assert_eq!(without.value, None);
        let properties = without.properties.unwrap();
        assert_eq!((properties.kind, properties.format), (None, Some(Format::Int)));
        for junk in ["+", "-Nothing", "+ACL-Type", "x"] {
            assert_eq!(state(junk).unwrap_err(), StatusCode::NOT_SUPPORTED, "{junk}");
        }
    }

    fn document(encoding: Encoding, values: &[(&str, &str)]) -> Item {
        let leaf = |(name, value): &(&str, &str)| Document {
            name: (*name).to_owned(),
            value: Some(Data::from(*value)),
            ..Document::default()
        };
        let root = Document {
            name: "Report".to_owned(),
            children: values.iter().map(leaf).collect(),
            ..Document::default()
        };
        let octets = MgmtTree { nodes: vec![root], ..MgmtTree::default() }.emit(encoding);
        let kind = Some(MgmtTree::media_type(encoding).to_owned());
        let (format, data) = match encoding {
            Encoding::Xml => (Format::Xml, Data::Text(String::from_utf8(octets).unwrap())),
            Encoding::Wbxml => (Format::Bin, Data::Octets(octets)),
        };
        let meta = Some(Meta { kind, ..Meta::format(format) });
        Item { meta, data: Some(data), ..Item::target(REPORT) }
    }

    // test: oma-dm 2.3
    #[test]
    fn a_subtree_is_replaced_as_a_whole_or_not_at_all() {
        for encoding in [Encoding::Xml, Encoding::Wbxml] {
            let (mut tree, mut device) = (tree(encoding), FakeDevice::default());
            let mut replace = |values: &[(&str, &str)]| {
                let code = tree.replace(at(0), &mut device, &document(encoding, values));
                let read = |name: &str| {
                    let items = tree.get(&device, &format!("{REPORT}/{name}")).unwrap();
                    items[0].data_text().unwrap().to_owned()
                };
                (code, read("Spread"), read("Filter"))
            };
            let (code, spread, filter) = replace(&[("Spread", "60"), ("Filter", "failures")]);
            assert_eq!(
                (code, spread.as_str(), filter.as_str()),
                (StatusCode::OK, "60", "failures")
            );
            let (code, spread, filter) = replace(&[("Spread", "70"), ("Filter", "nonsense")]);
            assert!(!code.is_success());
            assert_eq!((spread.as_str(), filter.as_str()), ("60", "failures"));
            let (code, spread, _) = replace(&[("Spread", "80"), ("Nowhere", "1")]);
            assert_eq!((code, spread.as_str()), (StatusCode::NOT_FOUND, "60"));
        }
    }

    #[test]
    fn what_is_no_document_of_the_node_is_refused() {
        let (mut tree, mut device) = (tree(Encoding::Xml), FakeDevice::default());
        let good = document(Encoding::Xml, &[("Spread", "60")]);
        let other = Item { target: Some(Location::new("./FwUpdate/Main/Ext")), ..good.clone() };
        let junk = Item { data: Some(Data::from("<MgmtTree")), ..good.clone() };
        let empty = Item { data: None, ..good.clone() };
        let nowhere = Item { target: Some(Location::new("./Nowhere")), ..good };
        for (item, code) in [
            (other, StatusCode::BAD_REQUEST),
            (junk, StatusCode::BAD_REQUEST),
            (empty, StatusCode::INCOMPLETE),
            (nowhere, StatusCode::NOT_FOUND),
        ] {
            assert_eq!(tree.replace(at(0), &mut device, &item), code, "{item:?}");
        }
    }
}
