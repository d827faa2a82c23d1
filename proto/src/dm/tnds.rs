//! Management trees as documents (TNDS): a subtree with its properties and values in one piece.
//!
//! ```text
//! MgmtTree  VerDTD, Man?, Mod?, Node+
//! Node      NodeName, Path?, RTProperties?, Node* or Value
//! ```
//!
//! Both forms of DM messages carry them: as text inside `Data`, or in WBXML as opaque octets that
//! are a document of their own.

use std::borrow::Cow;

use super::{
    code::Format,
    encoding::{
        Encoding,
        read::{self as tree, Content, Element, is_xml_char, shortened},
        write::{Form, Page},
    },
    message::{Limits, MessageError},
    syncml::Data,
    wbxml::{self, DocumentType},
    xml,
};

const DOCUMENT: DocumentType = DocumentType {
    numbers: &[],
    name: "-//OMA//DTD-DM-DDF 1.2//EN",
    family: "-//OMA//DTD-DM-DDF 1",
    root: "MgmtTree",
};

/// The namespace of the root element.
pub const NAMESPACE: &str = "syncml:dmddf1.2";

/// A document.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MgmtTree {
    /// Maker of the device that it describes.
    pub manufacturer: Option<String>,
    /// Model of the device that it describes.
    pub model: Option<String>,
    /// The nodes.
    pub nodes: Vec<Node>,
}

/// A node with what is below it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Node {
    /// Its name; empty where the reader of the document shall choose one.
    pub name: String,
    /// Address of its parent.
    pub path: Option<String>,
    /// Its properties, where the document holds them.
    pub properties: Option<Properties>,
    /// The nodes below it.
    pub children: Vec<Self>,
    /// Its value, if it is a leaf.
    pub value: Option<Data>,
}

/// Properties of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Properties {
    /// Access control list; empty: that of its parent.
    pub acl: Option<String>,
    /// Format of the value; `node` for an interior node.
    pub format: Option<Format>,
    /// A title for people.
    pub title: Option<String>,
    /// Time of its last change.
    pub time_stamp: Option<String>,
    /// Its kind.
    pub kind: Option<NodeKind>,
    /// Number of its changes.
    pub version: Option<String>,
}

/// The kind of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeKind {
    /// A leaf of this media type.
    Mime(String),
    /// The root of a management object with this identifier.
    Object(String),
}

/// Formats of the DTD: each is an element of its own.
const FORMATS: [&str; 11] =
    ["b64", "bin", "bool", "chr", "int", "node", "null", "xml", "date", "time", "float"];

impl MgmtTree {
    /// Returns the media type of a document in a form.
    #[must_use]
    pub const fn media_type(encoding: Encoding) -> &'static str {
        match encoding {
            Encoding::Xml => "application/vnd.syncml.dmtnds+xml",
            Encoding::Wbxml => "application/vnd.syncml.dmtnds+wbxml",
        }
    }

    /// Reads a document.
    ///
    /// # Errors
    ///
    /// [`MessageError`] names what is at fault. Whatever the octets are, there is no panic.
    pub fn parse(octets: &[u8], encoding: Encoding, limits: &Limits) -> Result<Self, MessageError> {
        match encoding {
            Encoding::Xml => {
                let text = xml::read::text(octets, limits)?;
                Self::from_element(xml::read::elements(&text, limits, &check_root)?)
            }
            Encoding::Wbxml => Self::from_element(wbxml::elements(octets, limits, &DOCUMENT)?),
        }
    }

    /// Takes what is known; elements of vendors are skipped.
    // spec: oma-dm 8.2 (elements of vendors)
    fn from_element(root: Element<'_>) -> Result<Self, MessageError> {
        let mut tree = Self::default();
        for child in root.children {
            match child.known_name() {
                "VerDTD" => check_version(&text(child)?)?,
                "Man" => tree.manufacturer = Some(text(child)?),
                "Mod" => tree.model = Some(text(child)?),
                "Node" => tree.nodes.push(node(child)?),
                _ => {}
            }
        }
        if tree.nodes.is_empty() {
            return Err(MessageError::Missing { parent: "MgmtTree", element: "Node" });
        }
        Ok(tree)
    }

    /// Writes a document. Characters that XML cannot carry become U+FFFD.
    // spec: oma-dm 8.1 (trees as documents)
    #[must_use]
    pub fn emit(&self, encoding: Encoding) -> Vec<u8> {
        match encoding {
            Encoding::Xml => self.write(xml::write::Text::new(Vec::new())),
            Encoding::Wbxml => self.write(wbxml::Tokens::named(Vec::new(), DOCUMENT.name)),
        }
    }

    fn write<F: Form<Document = Vec<u8>>>(&self, mut form: F) -> Vec<u8> {
        form.open(Page::Ddf, "MgmtTree");
        leaf(&mut form, "VerDTD", Some("1.2"));
        leaf(&mut form, "Man", self.manufacturer.as_deref());
        leaf(&mut form, "Mod", self.model.as_deref());
        self.nodes.iter().for_each(|node| write_node(&mut form, node));
        form.close("MgmtTree");
        form.finish()
    }
}

fn check_root(name: &str, namespace: Option<&str>) -> Result<(), MessageError> {
    // Documents of the field often name no namespace.
    let fits = namespace.is_none_or(|found| found.eq_ignore_ascii_case(NAMESPACE));
    if name == DOCUMENT.root && fits {
        return Ok(());
    }
    Err(MessageError::NotSyncMl(format!("the root element is {}", shortened(name))))
}

fn check_version(version: &str) -> Result<(), MessageError> {
    match version.trim() {
        "1.2" => Ok(()),
        _ => Err(wrong("VerDTD", "another version", "1.2")),
    }
}

fn node(element: Element<'_>) -> Result<Node, MessageError> {
    let mut found = Node::default();
    for child in element.children {
        match child.known_name() {
            "NodeName" => found.name = text(child)?,
            "Path" => found.path = Some(text(child)?),
            "RTProperties" => found.properties = Some(properties(child)?),
            "Node" => found.children.push(node(child)?),
            "Value" => found.value = Some(value(child)?),
            // DFProperties say what nodes may be, not what they are.
            _ => {}
        }
    }
    if found.value.is_some() && !found.children.is_empty() {
        return Err(unexpected("Node", "both Value and Node"));
    }
    if let (Some(Data::Octets(octets)), false) = (&found.value, is_binary(&found)) {
        // Opaque text: what cannot be text stays octets.
        if let Ok(text) = std::str::from_utf8(octets)
            && text.chars().all(is_xml_char)
        {
            found.value = Some(Data::from(text));
        }
    }
    Ok(found)
}

fn is_binary(node: &Node) -> bool {
    node.properties.as_ref().and_then(|it| it.format.as_ref()) == Some(&Format::Bin)
}

fn properties(element: Element<'_>) -> Result<Properties, MessageError> {
    let mut found = Properties::default();
    for child in element.children {
        match child.known_name() {
            "ACL" => found.acl = Some(text(child)?),
            "Format" => {
                let word = child.children.first().map(Element::known_name);
                let known = word.filter(|word| FORMATS.contains(word));
                found.format = known.map(Format::from_word);
            }
            "Title" => found.title = Some(text(child)?),
            "TStamp" => found.time_stamp = Some(text(child)?),
            "Type" => {
                let kind = child.children.into_iter().next().unwrap_or_default();
                found.kind = match kind.known_name() {
                    "MIME" => Some(NodeKind::Mime(text(kind)?)),
                    "DDFName" => Some(NodeKind::Object(text(kind)?)),
                    _ => None,
                };
            }
            "VerNo" => found.version = Some(text(child)?),
            // Name and Size follow from the node.
            _ => {}
        }
    }
    Ok(found)
}

fn text(element: Element<'_>) -> Result<String, MessageError> {
    element.content.as_text().map(str::to_owned)
}

fn value(element: Element<'_>) -> Result<Data, MessageError> {
    match (element.children.as_slice(), element.content) {
        (children @ [_, ..], _) => tree::inner_xml(children).map(Data::Text),
        ([], Content::Text(text)) => Ok(Data::Text(text.into_owned())),
        ([], Content::Octets(octets)) => Ok(Data::Octets(octets.into_owned())),
    }
}

fn unexpected(parent: &'static str, found: &str) -> MessageError {
    MessageError::Unexpected { parent, found: shortened(found) }
}

fn wrong(element: &'static str, found: &str, expected: &'static str) -> MessageError {
    MessageError::Invalid { element, found: shortened(found), expected }
}

fn write_node<F: Form>(form: &mut F, node: &Node) {
    form.open(Page::Ddf, "Node");
    leaf(form, "NodeName", Some(&node.name));
    leaf(form, "Path", node.path.as_deref());
    let properties = match &node.value {
        // Octets have their own name in each form.
        Some(Data::Octets(_)) => {
            let properties = node.properties.clone().unwrap_or_default();
            Some(Cow::Owned(Properties { format: Some(F::OCTETS_FORMAT), ..properties }))
        }
        Some(Data::Text(_)) | None => node.properties.as_ref().map(Cow::Borrowed),
    };
    if let Some(properties) = properties {
        write_properties(form, &properties);
    }
    match &node.value {
        None => node.children.iter().for_each(|child| write_node(form, child)),
        Some(value) => {
            form.open(Page::Ddf, "Value");
            match value {
                Data::Text(text) => form.text(text),
                Data::Octets(octets) => form.octets(octets),
            }
            form.close("Value");
        }
    }
    form.close("Node");
}

fn write_properties<F: Form>(form: &mut F, properties: &Properties) {
    form.open(Page::Ddf, "RTProperties");
    leaf(form, "ACL", properties.acl.as_deref());
    let word = properties.format.as_ref().map(Format::as_word);
    if let Some(word) = FORMATS.into_iter().find(|format| Some(*format) == word) {
        form.open(Page::Ddf, "Format");
        form.empty(Page::Ddf, word);
        form.close("Format");
    }
    leaf(form, "Title", properties.title.as_deref());
    leaf(form, "TStamp", properties.time_stamp.as_deref());
    if let Some(kind) = &properties.kind {
        form.open(Page::Ddf, "Type");
        match kind {
            NodeKind::Mime(mime) => leaf(form, "MIME", Some(mime)),
            NodeKind::Object(identifier) => leaf(form, "DDFName", Some(identifier)),
        }
        form.close("Type");
    }
    leaf(form, "VerNo", properties.version.as_deref());
    form.close("RTProperties");
}

fn leaf<F: Form>(form: &mut F, name: &'static str, text: Option<&str>) {
    if let Some(text) = text {
        form.open(Page::Ddf, name);
        form.text(text);
        form.close(name);
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    use proptest::prelude::*;

    use super::*;

    /// The output of libwbxml's `xml2wbxml -n` for a tree with one leaf.
    const THEIRS: &[u8] = b"\x03\x00\x00\x6a\x1b-//OMA//DTD-DM-DDF 1.2//EN\0\
        \x00\x02\x60\x77\x031.2\0\x01\x64\x66\x03a\0\x01\x6f\x5c\x0b\x01\x75\x61\x03text/plain\0\
        \x01\x01\x01\x76\x03x\0\x01\x01\x01";

    fn leaf_a() -> MgmtTree {
        let properties = Properties {
            format: Some(Format::Chr),
            kind: Some(NodeKind::Mime("text/plain".to_owned())),
            ..Properties::default()
        };
        let node = Node {
            name: "a".to_owned(),
            properties: Some(properties),
            value: Some(Data::from("x")),
            ..Node::default()
        };
        MgmtTree { nodes: vec![node], ..MgmtTree::default() }
    }

    fn parse(octets: &[u8], encoding: Encoding) -> Result<MgmtTree, MessageError> {
        MgmtTree::parse(octets, encoding, &Limits { depth: 32, ..Limits::default() })
    }

    // test: oma-dm 8.1
    #[test]
    fn the_tree_of_an_unrelated_encoder_is_read() {
        assert_eq!(parse(THEIRS, Encoding::Wbxml), Ok(leaf_a()));
        let ours = leaf_a().emit(Encoding::Wbxml);
        assert_eq!(ours.get(1..), THEIRS.get(1..), "but for the version");
    }

    #[test]
    fn a_tree_in_text_is_read_with_and_without_its_namespace() {
        let text = "<MgmtTree><VerDTD>1.2</VerDTD><Node><NodeName>a</NodeName><RTProperties>\
            <Format><chr/></Format><Type><MIME>text/plain</MIME></Type></RTProperties>\
            <Value>x</Value></Node></MgmtTree>";
        assert_eq!(parse(text.as_bytes(), Encoding::Xml), Ok(leaf_a()));
        let named = text.replacen('>', " xmlns='syncml:dmddf1.2'>", 1);
        assert_eq!(parse(named.as_bytes(), Encoding::Xml), Ok(leaf_a()));
        let wrong = text.replace("1.2", "1.1");
        let error = parse(wrong.as_bytes(), Encoding::Xml).unwrap_err();
        assert_eq!(error.to_string(), "VerDTD is another version, expected 1.2");
    }

    // test: oma-dm 8.2
    #[test]
    fn an_odd_part_costs_itself_and_not_the_tree() {
        let text = String::from_utf8(leaf_a().emit(Encoding::Xml)).unwrap();
        let read = |from: &str, to: &str| {
            let odd = text.replace(from, to);
            assert_ne!(odd, text, "{from}");
            parse(odd.as_bytes(), Encoding::Xml).unwrap()
        };
        for (from, to) in [
            ("<MgmtTree", "<!DOCTYPE MgmtTree SYSTEM 'x'><MgmtTree"),
            ("<Node>", "<Odd>1</Odd><Node>"),
            ("<NodeName>", "<Odd/><v:Value xmlns:v='urn:v'>y</v:Value><NodeName>"),
            ("<RTProperties>", "<RTProperties><Odd/>"),
            ("<Node>", "<Node v='1'>"),
            ("</MgmtTree>", "</MgmtTree>\n\0"),
        ] {
            assert_eq!(read(from, to), leaf_a(), "{to}");
        }
        let properties = |tree: MgmtTree| tree.nodes[0].properties.clone().unwrap();
        for word in ["", "<str/>", "str"] {
            assert_eq!(properties(read("<chr/>", word)).format, None, "{word}");
        }
        assert_eq!(properties(read("<MIME>text/plain</MIME>", "<X/>")).kind, None);
        assert_eq!(read("<NodeName>a</NodeName>", "").nodes[0].name, "");
        let inside = read("<Value>x</Value>", "<Value><a>&lt;</a></Value>");
        assert_eq!(inside.nodes[0].value, Some(Data::from("<a>&lt;</a>")));
    }

    fn words() -> impl Strategy<Value = String> {
        "[!-~ä][ -~ä]{0,8}[!-~ä]"
    }

    fn properties() -> impl Strategy<Value = Properties> {
        let word = || proptest::option::of(words());
        let format = proptest::option::of(prop::sample::select(vec![Format::Chr, Format::Int]));
        let kind =
            prop_oneof![words().prop_map(NodeKind::Mime), words().prop_map(NodeKind::Object)];
        (word(), format, word(), word(), proptest::option::of(kind), word()).prop_map(
            |(acl, format, title, time_stamp, kind, version)| Properties {
                acl,
                format,
                title,
                time_stamp,
                kind,
                version,
            },
        )
    }

    fn node() -> impl Strategy<Value = Node> {
        let value = prop_oneof![
            "[ -~ä]{0,12}".prop_map(Data::Text),
            proptest::collection::vec(any::<u8>(), 0..12).prop_map(Data::Octets),
        ];
        let about = (words(), proptest::option::of(words()), proptest::option::of(properties()));
        let leaf = (about, proptest::option::of(value)).prop_map(
            |((name, path, mut properties), value)| {
                if let Some(Data::Octets(_)) = value {
                    properties.get_or_insert_default().format = Some(Format::Bin);
                }
                Node { name, path, properties, value, children: Vec::new() }
            },
        );
        leaf.prop_recursive(3, 8, 3, |inner| {
            (words(), proptest::collection::vec(inner, 0..3)).prop_map(|(name, children)| Node {
                name,
                children,
                ..Node::default()
            })
        })
    }

    fn in_text(node: &Node) -> Node {
        let mut node = node.clone();
        if let Some(Data::Octets(octets)) = &node.value {
            node.value = Some(Data::Text(BASE64_STANDARD.encode(octets)));
            node.properties.get_or_insert_default().format = Some(Format::B64);
        }
        node.children = node.children.iter().map(in_text).collect();
        node
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        // test: oma-dm 8.1
        #[test]
        fn any_tree_survives_both_forms(nodes in proptest::collection::vec(node(), 1..3)) {
            let tree = MgmtTree { nodes, ..MgmtTree::default() };
            let read = parse(&tree.emit(Encoding::Wbxml), Encoding::Wbxml);
            prop_assert_eq!(read, Ok(tree.clone()));
            let nodes = tree.nodes.iter().map(in_text).collect();
            let read = parse(&tree.emit(Encoding::Xml), Encoding::Xml);
            prop_assert_eq!(read, Ok(MgmtTree { nodes, ..tree }));
        }

        #[test]
        fn no_change_of_one_octet_panics(place in 0..THEIRS.len(), octet in any::<u8>()) {
            let mut octets = THEIRS.to_vec();
            octets[place] = octet;
            drop(parse(&octets, Encoding::Wbxml));
        }
    }
}
