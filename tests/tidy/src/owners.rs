//! Owners: the methods of a type stand in one file, and its fields are touched there alone.

pub mod accesses;
pub mod items;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use self::{
    accesses::{Access, accesses},
    items::{Items, Struct},
};
use crate::Finding;

/// Fields of a struct at most.
pub const MAX_FIELDS: usize = 14;

/// Pairs of a struct with methods and another file that touches its fields, at most.
pub const MAX_FOREIGN_PAIRS: usize = 20;

/// A struct with methods and another file that reads or writes its fields.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ForeignPair {
    /// The file that declares the struct.
    pub home: String,
    /// The struct.
    pub name: String,
    /// The other file.
    pub file: String,
    /// The fields that it touches.
    pub fields: BTreeSet<String>,
}

impl fmt::Display for ForeignPair {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields: Vec<_> = self.fields.iter().map(String::as_str).collect();
        let (home, name, file) = (&self.home, &self.name, &self.file);
        write!(formatter, "{name} of {home}: {file} touches {}", fields.join(", "))
    }
}

/// Returns each inherent `impl` that stands in another file than its type.
#[must_use]
pub fn impls_elsewhere(items: &Items) -> Vec<Finding> {
    let mut findings = Vec::new();
    for block in &items.impls {
        let Some(here) = items.files.get(block.of.file) else { continue };
        let homes = items.declared.get(&block.of.name).into_iter().flatten();
        let homes: BTreeSet<_> = homes
            .filter_map(|index| items.files.get(*index))
            .filter(|file| file.package == here.package)
            .map(|file| file.path.as_str())
            .collect();
        if !homes.is_empty() && !homes.contains(here.path.as_str()) {
            let homes: Vec<_> = homes.into_iter().collect();
            let what = format!("`impl {}` belongs into {}", block.of.name, homes.join(" or "));
            findings.push(Finding::new(&here.path, block.line, what));
        }
    }
    findings
}

/// Returns the structs that have more than [`MAX_FIELDS`] fields; those whose fields clap or prost
/// reads and plain rows, which have no method, aside.
#[must_use]
pub fn too_many_fields(items: &Items) -> Vec<Finding> {
    let large = items.structs.iter().filter(|found| found.fields.len() > MAX_FIELDS);
    let large = large.filter(|found| !found.is_derived && has_methods(items, found));
    large
        .filter_map(|found| {
            let path = &items.files.get(found.file)?.path;
            let (name, fields) = (&found.name, found.fields.len());
            let what = format!("`{name}` has {fields} fields, {MAX_FIELDS} at most: group them");
            Some(Finding::new(path, found.line, what))
        })
        .collect()
}

/// Returns the names of the plain rows that have more than [`MAX_FIELDS`] fields.
#[must_use]
pub fn large_rows(items: &Items) -> Vec<&str> {
    let rows = items.structs.iter().filter(|found| {
        found.fields.len() > MAX_FIELDS && !found.is_derived && !has_methods(items, found)
    });
    rows.map(|found| found.name.as_str()).collect()
}

/// Returns whether a function with a receiver is implemented for a struct.
fn has_methods(items: &Items, found: &Struct) -> bool {
    items.impls_of(found).any(|block| block.has_methods)
}

/// Returns whether a struct is a record: its fields are its interface, and everybody sees them all.
fn is_record(found: &Struct) -> bool {
    found.public_fields == found.fields.len()
}

/// Returns the pairs of a struct with methods and another file that touches its fields. Of a
/// record, whose fields are its interface, the files that change a field count.
#[must_use]
pub fn foreign_pairs(items: &Items) -> Vec<ForeignPair> {
    pairs(items, |found, is_write| is_write || !is_record(found))
}

/// Returns how many pairs of a record with methods and another file there are that read its fields
/// and do not change them.
#[must_use]
pub fn record_reads(items: &Items) -> usize {
    pairs(items, |found, _| is_record(found)).len()
        - pairs(items, |found, is_write| is_write && is_record(found)).len()
}

fn pairs(items: &Items, counts: impl Fn(&Struct, bool) -> bool) -> Vec<ForeignPair> {
    let mut pairs: BTreeMap<(usize, usize), BTreeSet<String>> = BTreeMap::new();
    for file in 0..items.files.len() {
        for access in accesses(items, file) {
            for of in structs_meant(items, file, &access) {
                let Some(found) = items.structs.get(of) else { continue };
                let is_foreign = found.file != file && has_methods(items, found);
                if is_foreign && counts(found, access.is_write) {
                    pairs.entry((of, file)).or_default().insert(access.field.clone());
                }
            }
        }
    }
    let pair = |((of, file), fields): ((usize, usize), BTreeSet<String>)| {
        let found = items.structs.get(of)?;
        Some(ForeignPair {
            home: items.files.get(found.file)?.path.clone(),
            name: found.name.clone(),
            file: items.files.get(file)?.path.clone(),
            fields,
        })
    };
    pairs.into_iter().filter_map(pair).collect()
}

/// Returns the structs that an access can mean: the one whose type was followed; else the ones that
/// the file names, or the only one that it can see.
fn structs_meant(items: &Items, file: usize, access: &Access) -> Vec<usize> {
    if let Some(of) = access.of {
        return vec![of];
    }
    let has_field = |found: &Struct| found.fields.iter().any(|(name, _)| *name == access.field);
    let visible: Vec<usize> = items
        .structs
        .iter()
        .enumerate()
        .filter(|(_, found)| {
            has_field(found) && (found.file == file || may_see(items, found, file))
        })
        .map(|(index, _)| index)
        .collect();
    if let [_] = visible.as_slice() {
        return visible;
    }
    let is_named = |of: &usize| {
        let (Some(found), Some(here)) = (items.structs.get(*of), items.files.get(file)) else {
            return false;
        };
        found.file == file || here.uses.contains_key(&found.name)
    };
    visible.into_iter().filter(is_named).collect()
}

/// Returns whether a file can name a field of a struct: the file is a child module, or a field is
/// open and the package the same or one that depends on it.
fn may_see(items: &Items, found: &Struct, file: usize) -> bool {
    let (Some(home), Some(here)) = (items.files.get(found.file), items.files.get(file)) else {
        return false;
    };
    let folder = home.path.trim_end_matches(".rs").trim_end_matches("/lib");
    let is_child = here.path.strip_prefix(folder).is_some_and(|below| below.starts_with('/'));
    let same_package = found.open_fields > 0 && home.package == here.package;
    let depends = found.public_fields > 0 && home.package == "proto";
    is_child || same_package || depends
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SourceFile, source::FileKind};

    fn items(texts: &[(&str, &str)]) -> Items {
        let file = |(path, text): &(&str, &str)| SourceFile::new(path, text, FileKind::Product);
        Items::of(&texts.iter().map(file).collect::<Vec<_>>()).unwrap()
    }

    const OWNER: &str = "pub struct Owner { pub(super) count: u32, inner: Option<Inner> }
        impl Owner { pub fn add(&mut self) { self.count += 1; } pub fn new() -> Self { todo() } }
        #[cfg(test)] mod tests { fn f(o: &super::Owner) { o.count; } }";

    fn touched(text: &str) -> Vec<String> {
        let found = items(&[("proto/src/a.rs", OWNER), ("proto/src/a/b.rs", text)]);
        foreign_pairs(&found).into_iter().flat_map(|pair| pair.fields).collect()
    }

    #[test]
    fn an_access_from_another_file_is_found_whatever_the_value_is_called() {
        for text in [
            "use super::Owner; fn f(o: &Owner) -> u32 { o.count }",
            "use super::Owner; fn f(o: &mut Owner) { o.count = 1; }",
            "use super::Owner; fn f() { let o = Owner::new(); g(o.count); }",
            "use super::Owner; fn f(o: Option<Owner>) { if let Some(x) = o { x.count; } }",
            "use super::Owner; fn f(o: &[Owner]) { for x in o { print!(\"{}\", x.count); } }",
            "use super::Owner; fn f(o: Vec<Owner>) { o.iter().map(|x| x.count); }",
            "use super::Owner; fn f(o: Owner) { let Owner { count, .. } = o; }",
            "use super::Owner; struct S { own: Owner } impl S { fn f(&self) { self.own.count; } }",
            "fn f() { unknown().count; }",
        ] {
            assert_eq!(touched(text), ["count"], "{text}");
        }
    }

    #[test]
    fn its_methods_and_equal_names_of_others_are_not_foreign_accesses() {
        for text in [
            "use super::Owner; fn f(o: &mut Owner) { o.add(); }",
            "struct Other { count: u32 } impl Other { fn f(&self) -> u32 { self.count } }",
            "#[cfg(test)] mod tests { use crate::a::Owner; fn f(o: &Owner) { o.count; } }",
        ] {
            assert_eq!(touched(text), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn a_record_may_be_read_and_made_but_not_changed_elsewhere() {
        let record = "pub struct Record { pub id: u32 } impl Record { pub fn set(&mut self) {} }";
        let pairs = |text| {
            let found = items(&[("proto/src/r.rs", record), ("proto/src/s.rs", text)]);
            foreign_pairs(&found).len()
        };
        assert_eq!(pairs("use crate::r::Record; fn f(r: &Record) -> u32 { r.id }"), 0);
        assert_eq!(pairs("use crate::r::Record; fn f() -> Record { Record { id: 1 } }"), 0);
        assert_eq!(pairs("use crate::r::Record; fn f(r: &mut Record) { r.id = 1; }"), 1);
        assert_eq!(pairs("use crate::r::Record; fn f(r: &mut Record) { r.id += 1; }"), 1);
        assert_eq!(pairs("use crate::r::Record; fn f(r: &mut Record) { g(&mut r.id); }"), 1);
    }

    #[test]
    fn an_impl_in_another_file_is_found() {
        let found = items(&[
            ("proto/src/a.rs", "pub struct A; impl A {}"),
            ("proto/src/b.rs", "use crate::a::A; impl A {} impl Clone for A {}"),
            ("carousel/src/a.rs", "struct A; impl A {}"),
        ]);
        let paths: Vec<_> = impls_elsewhere(&found).into_iter().map(|found| found.path).collect();
        assert_eq!(paths, ["proto/src/b.rs"]);
    }

    #[test]
    fn a_struct_of_the_limit_passes_and_one_more_field_does_not() {
        let large = |fields: usize, tail: &str| {
            let fields: String = (0..fields).map(|index| format!("f{index}: u8, ")).collect();
            let text = format!("struct Large {{ {fields} }} {tail}");
            too_many_fields(&items(&[("proto/src/a.rs", &text)])).len()
        };
        let method = "impl Large { fn f(&self) {} }";
        assert_eq!(large(MAX_FIELDS, method), 0);
        assert_eq!(large(MAX_FIELDS + 1, method), 1);
        assert_eq!(large(MAX_FIELDS + 1, ""), 0);
    }
}
