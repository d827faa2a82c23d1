//! Nodes that a server makes and removes, in a place that takes any.

use super::*;

const ROOT: &str = "./Shelf";

/// A place with a permanent `Count` and a parent `Box`, which takes any node below it.
#[derive(Debug, Clone, Default)]
struct Shelf(BTreeMap<String, Leaf>);

impl ManagementObject for Shelf {
    fn nodes(&self, _device: &dyn ManagementBackend) -> Vec<(String, Leaf)> {
        let count = Leaf::Read(Format::Int, self.0.len().to_string());
        let own = [("Count".to_owned(), count), ("Box".to_owned(), Leaf::Parent)];
        own.into_iter().chain(self.0.clone()).collect()
    }

    fn identifier(&self, path: &str) -> &'static str {
        if path.is_empty() { "example/1.0/Shelf" } else { "" }
    }

    fn rights(&self) -> &'static [Right] {
        &[Right::Add, Right::Delete, Right::Replace]
    }

    fn add(
        &mut self,
        _now: Now,
        _device: &mut dyn ManagementBackend,
        path: &str,
        item: &Item,
    ) -> StatusCode {
        if !self.is_dynamic(path) {
            return StatusCode::NOT_ALLOWED;
        }
        let format = item.meta.clone().unwrap_or_default().format.unwrap_or(Format::Chr);
        let text = item.data_text().unwrap_or_default().to_owned();
        let parent = format == Format::Node;
        let leaf = if parent { Leaf::Parent } else { Leaf::ReadWrite(format, text) };
        self.0.insert(path.to_owned(), leaf);
        StatusCode::OK
    }

    fn replace(
        &mut self,
        now: Now,
        device: &mut dyn ManagementBackend,
        path: &str,
        item: &Item,
    ) -> StatusCode {
        self.add(now, device, path, item)
    }

    fn is_dynamic(&self, path: &str) -> bool {
        path.starts_with("Box/")
    }

    fn delete(&mut self, _now: Now, _device: &mut dyn ManagementBackend, path: &str) -> StatusCode {
        let below = format!("{path}/");
        self.0.retain(|it, _| it != path && !it.starts_with(&below));
        StatusCode::OK
    }

    fn checkpoint(&mut self) -> Box<dyn ManagementObject> {
        Box::new(self.clone())
    }
}

struct Shelves {
    tree: Tree,
    device: FakeDevice,
}

impl Shelves {
    fn new() -> Self {
        let mut tree = Tree::new(settings());
        tree.mount(ROOT.parse().unwrap(), Box::new(Shelf::default()));
        Self { tree, device: FakeDevice::default() }
    }

    fn add(&mut self, path: &str, text: &str) -> u16 {
        let item = Item::text(format!("{ROOT}/{path}"), text);
        self.tree.add(at(0), &mut self.device, &item).0
    }

    fn add_parent(&mut self, path: &str, data: Option<&str>) -> u16 {
        let item = Item {
            meta: Some(Meta::format(Format::Node)),
            data: data.map(Into::into),
            ..Item::target(format!("{ROOT}/{path}"))
        };
        self.tree.add(at(0), &mut self.device, &item).0
    }

    fn delete(&mut self, path: &str) -> u16 {
        let item = Item::target(format!("{ROOT}/{path}"));
        self.tree.delete(at(0), &mut self.device, &item).0
    }

    fn set_rights(&mut self, path: &str, acl: &str) {
        let item = Item::text(format!("{ROOT}{path}?prop=ACL"), acl);
        assert_eq!(self.tree.replace(at(0), &mut self.device, &item), StatusCode::OK);
    }

    fn get(&self, path: &str) -> Result<String, StatusCode> {
        let items = self.tree.get(&self.device, &format!("{ROOT}{path}"))?;
        Ok(items[0].data_text().unwrap_or_default().to_owned())
    }
}

// test: oma-dm 2.4
#[test]
fn a_node_is_added_with_its_parents_and_read_back() {
    let mut shelves = Shelves::new();
    assert_eq!(shelves.get("/Box").unwrap(), "", "a parent of nothing is there all the same");
    assert_eq!(shelves.add("Box/a/b", "one"), 200);
    assert_eq!(shelves.add_parent("Box/c", None), 200);
    assert_eq!(shelves.add_parent("Box/d", Some("")), 200);
    assert_eq!(shelves.get("/Box").unwrap(), "a/c/d");
    assert_eq!(shelves.get("/Box/a/b").unwrap(), "one");
    assert_eq!(shelves.get("/Box/c").unwrap(), "");
    assert_eq!(shelves.get("/Box/a/b?prop=Format").unwrap(), "chr");
    assert_eq!(shelves.get("/Box/c?prop=Format").unwrap(), "node");
    assert_eq!(shelves.get("?prop=Type").unwrap(), "example/1.0/Shelf");
    let listed = |kind: &str| {
        let uri = format!("{ROOT}?list={kind}");
        shelves.tree.get(&shelves.device, &uri).unwrap()
    };
    let names: Vec<_> =
        listed("Struct").iter().map(|it| it.source_uri().unwrap()[7..].to_owned()).collect();
    assert_eq!(names, ["", "/Box", "/Box/a", "/Box/a/b", "/Box/c", "/Box/d", "/Count"]);
    assert_eq!(listed("StructData")[3].data_text(), Some("one"));
    let document = format!("{:?}", listed("TNDS"));
    assert!(document.contains("one") && document.contains("<NodeName>c<"), "{document}");
}

// test: oma-dm 2.4
#[test]
fn what_cannot_be_added_says_why() {
    let mut shelves = Shelves::new();
    shelves.add("Box/a", "one");
    assert_eq!(shelves.add("Box/a", "two"), 418);
    assert_eq!(shelves.add("Box", "two"), 418);
    assert_eq!(shelves.add("Other", "two"), 405, "the place does not take it");
    assert_eq!(shelves.add("Box/a/b", "two"), 405, "a leaf has nothing below it");
    assert_eq!(shelves.add_parent("Box/b", Some("data")), 400);
    let bare = Item::target("./Shelf/Box/b");
    let mut add = |item: &Item| shelves.tree.add(at(0), &mut shelves.device, item).0;
    assert_eq!(add(&bare), 412);
    assert_eq!(add(&Item::text("./Elsewhere", "two")), 405);
    assert_eq!(add(&Item::text("./Shelf/Box/b?prop=Name", "two")), 405);
    let long = format!("./Shelf/Box/{}", "x".repeat(250));
    assert_eq!(add(&Item::text(long, "two")), 414);
    assert_eq!(shelves.get("/Box").unwrap(), "a");
}

// test: oma-dm 2.4
#[test]
fn a_subtree_is_deleted_and_what_is_permanent_stays() {
    let mut shelves = Shelves::new();
    shelves.add("Box/a/b", "one");
    shelves.add("Box/ab", "two");
    for (path, code) in [("Box/x", 404), ("Box", 405), ("Count", 405), ("Box/a", 200)] {
        assert_eq!(shelves.delete(path), code, "{path}");
    }
    let root = Item::target(".");
    assert_eq!(shelves.tree.delete(at(0), &mut shelves.device, &root).0, 405);
    assert_eq!(shelves.get("/Box").unwrap(), "ab");
}

// test: oma-dm 2.2
#[test]
fn a_server_adds_and_deletes_where_it_has_the_right() {
    let mut shelves = Shelves::new();
    assert_eq!(shelves.get("?prop=ACL").unwrap(), "Add=server&Delete=server&Get=*&Replace=server");
    shelves.add("Box/a", "one");
    shelves.set_rights("/Box", "Get=*&Replace=server");
    assert_eq!(shelves.add("Box/b", "two"), 425);
    assert_eq!(shelves.add("Box/c/d", "two"), 425, "the nearest parent that is there decides");
    assert_eq!(shelves.delete("Box/a"), 425);
    shelves.set_rights("/Box", "Add=server&Delete=server&Get=*&Replace=server");
    shelves.set_rights("/Box/a", "Get=other");
    assert_eq!(shelves.get("/Box/a"), Err(StatusCode::PERMISSION_DENIED));
    shelves.set_rights("/Box/a", "Delete=server");
    assert_eq!(shelves.delete("Box/a"), 200);
    shelves.add("Box/a", "anew");
    assert_eq!(shelves.get("/Box/a").unwrap(), "anew", "its list went with the old one");
}

// test: oma-dm 2.4
#[test]
fn a_leaf_is_copied_to_a_node_that_is_not_there_yet() {
    let mut shelves = Shelves::new();
    let source = Some(proto::dm::syncml::Location::new("./DevInfo/Man"));
    let item = Item { source, ..Item::target("./Shelf/Box/maker") };
    assert_eq!(shelves.tree.copy(at(0), &mut shelves.device, &item).0, 200);
    assert_eq!(shelves.get("/Box/maker").unwrap(), "fumocast");
}

// test: oma-dm 2.5
#[test]
fn a_roll_back_undoes_adds_deletes_and_the_loss_of_lists() {
    let mut shelves = Shelves::new();
    shelves.add("Box/a", "one");
    shelves.set_rights("/Box/a", "Delete=server&Get=*");
    let before = shelves.tree.checkpoint(&shelves.device);
    assert_eq!((shelves.delete("Box/a"), shelves.add("Box/b", "two")), (200, 200));
    assert_eq!(shelves.tree.roll_back(at(0), &mut shelves.device, before), BTreeSet::new());
    assert_eq!(shelves.get("/Box").unwrap(), "a");
    assert_eq!(shelves.get("/Box/a?prop=ACL").unwrap(), "Delete=server&Get=*");
}
