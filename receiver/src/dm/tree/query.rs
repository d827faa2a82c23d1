//! `?prop=` and `?list=`: properties of nodes, and subtrees in one answer.

use proto::dm::{
    code::{Format, StatusCode},
    syncml::{Data, Item, Location, Meta},
    uri::NodeUri,
};

use super::{Leaf, Tree, children, export, find, right::Right, shape};
use crate::dm::ManagementBackend;

/// Nodes of a list, at most; the results of a Get are bounded, too.
const MAX_LISTED: usize = 256;

/// Reads a property of a node. The optional ones are not supported: Title, TStamp, VerNo.
pub(super) fn property(
    tree: &Tree,
    device: &dyn ManagementBackend,
    uri: &str,
    node: &NodeUri,
    name: &str,
) -> Result<Item, StatusCode> {
    let nodes = tree.nodes(device);
    let found = find(&nodes, node).ok_or(StatusCode::NOT_FOUND)?;
    // spec: oma-dm 2 (properties)
    let value = match name {
        "ACL" => tree.own_acl(device, node).to_string(),
        "Format" => shape(&found).0.as_word().to_owned(),
        "Name" => node.name().unwrap_or(".").to_owned(),
        "Size" => match &found {
            Leaf::Read(_, value) | Leaf::ReadWrite(_, value) => value.len().to_string(),
            // The size of a secret or of a write-only value is not revealed.
            Leaf::Write | Leaf::Run | Leaf::Secret | Leaf::Parent => {
                return Err(StatusCode::NOT_ALLOWED);
            }
        },
        "Type" => match found {
            Leaf::Parent | Leaf::Run => tree.object_identifier(node).to_owned(),
            Leaf::Read(..) | Leaf::ReadWrite(..) | Leaf::Write | Leaf::Secret => {
                "text/plain".to_owned()
            }
        },
        _ => return Err(StatusCode::NOT_SUPPORTED),
    };
    Ok(Item::value(uri, Format::Chr, value))
}

/// Lists the nodes from `node` down: `Struct` by name, `StructData` with their values, `TNDS`
/// as one document, without the nodes that the server may not read.
pub(super) fn list(
    tree: &Tree,
    device: &dyn ManagementBackend,
    uri: &str,
    node: &NodeUri,
    kind: &str,
) -> Result<Vec<Item>, StatusCode> {
    let with_data = match (kind, kind.strip_prefix("TNDS")) {
        ("Struct", _) => false,
        ("StructData", _) => true,
        (_, Some(shown)) => return export::document(tree, device, uri, node, shown),
        (_, None) => return Err(StatusCode::NOT_SUPPORTED),
    };
    let nodes = tree.nodes(device);
    find(&nodes, node).ok_or(StatusCode::NOT_FOUND)?;
    let prefix = uri.split('?').next().unwrap_or_default();
    let mut items = Vec::new();
    let mut open = vec![(prefix.to_owned(), node.clone())];
    while let Some((address, node)) = open.pop() {
        let found = find(&nodes, &node).ok_or(StatusCode::NOT_FOUND)?;
        let (format, value) = shape(&found);
        let kind = Some(tree.object_identifier(&node)).filter(|it| !it.is_empty());
        items.push(Item {
            source: Some(Location::new(&address)),
            meta: Some(Meta { kind: kind.map(str::to_owned), ..Meta::format(format) }),
            data: value.filter(|_| with_data).map(Data::from),
            ..Item::default()
        });
        if items.len() > MAX_LISTED {
            return Err(StatusCode::TOO_LARGE);
        }
        for name in children(&nodes, &node).into_iter().rev() {
            let below: NodeUri = node.join(&name).parse().map_err(|_| StatusCode::FAILED)?;
            if tree.allows(device, &below, Right::Get) {
                open.push((format!("{address}/{name}"), below));
            }
        }
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dm::fake::{FakeDevice, settings};

    fn get(uri: &str) -> Result<Vec<Item>, StatusCode> {
        Tree::new(settings()).get(&FakeDevice::default(), uri)
    }

    fn property(uri: &str) -> String {
        let items = get(uri).unwrap();
        assert_eq!(items.len(), 1);
        assert_eq!(items[0].source_uri(), Some(uri));
        items[0].data_text().unwrap().to_owned()
    }

    // test: oma-dm 2
    #[test]
    fn properties_of_nodes_can_be_read() {
        for (uri, value) in [
            (".?prop=ACL", "Add=*&Get=*"),
            ("./FwUpdate/Main?prop=ACL", "Exec=server&Get=*&Replace=server"),
            ("./FwUpdate/Main/State?prop=ACL", ""),
            ("./FwUpdate/Main?prop=Format", "node"),
            ("./FwUpdate/Main/State?prop=Format", "int"),
            ("./FwUpdate/Main/DownloadAndUpdate?prop=Format", "node"),
            ("./FwUpdate/Main/Ext/Broadcast/Manifest?prop=Format", "bin"),
            ("./DevInfo/DevId?prop=Name", "DevId"),
            ("./DevInfo/DevId?prop=Size", "8"),
            ("./DevInfo/DevId?prop=Type", "text/plain"),
            ("./DevInfo?prop=Type", "urn:oma:mo:oma-dm-devinfo:1.0"),
            ("./FwUpdate/Main?prop=Type", "urn:oma:mo:oma-fumo:1.0"),
            ("./FwUpdate/Main/Ext/Broadcast?prop=Type", "org.fumocast/1.0/Broadcast"),
        ] {
            assert_eq!(property(uri), value, "{uri}");
        }
        for uri in ["./DMAcc/1/AppAuth/1/AAuthSecret?prop=Size", "./DevInfo?prop=Size"] {
            assert_eq!(get(uri), Err(StatusCode::NOT_ALLOWED), "{uri}");
        }
        assert_eq!(get("./DevInfo?prop=VerNo"), Err(StatusCode::NOT_SUPPORTED));
    }

    // test: oma-dm 2
    #[test]
    fn a_subtree_is_listed_with_and_without_its_values() {
        let shown = |uri: &str| {
            let items = get(uri).unwrap();
            let line = |item: &Item| {
                let format = item.meta.as_ref().unwrap().format.as_ref().unwrap().as_word();
                let data = item.data_text().map_or_else(String::new, |text| format!("={text}"));
                format!("{} {format}{data}", item.source_uri().unwrap())
            };
            items.iter().map(line).collect::<Vec<_>>()
        };
        assert_eq!(
            shown("./DevDetail/URI?list=Struct"),
            [
                "./DevDetail/URI node",
                "./DevDetail/URI/MaxDepth chr",
                "./DevDetail/URI/MaxSegLen chr",
                "./DevDetail/URI/MaxTotLen chr"
            ]
        );
        assert_eq!(
            shown("./DMAcc/1/AppAuth?list=StructData"),
            [
                "./DMAcc/1/AppAuth node",
                "./DMAcc/1/AppAuth/1 node",
                "./DMAcc/1/AppAuth/1/AAuthData chr",
                "./DMAcc/1/AppAuth/1/AAuthLevel chr=CLCRED",
                "./DMAcc/1/AppAuth/1/AAuthName chr=LAB-0001",
                "./DMAcc/1/AppAuth/1/AAuthSecret chr",
                "./DMAcc/1/AppAuth/1/AAuthType chr=DIGEST"
            ]
        );
        let object = get("./FwUpdate/Main?list=Struct").unwrap();
        assert_eq!(
            object[0].meta.as_ref().unwrap().kind.as_deref(),
            Some("urn:oma:mo:oma-fumo:1.0")
        );
    }
}
