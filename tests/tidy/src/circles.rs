//! Import circles: files of one crate that import from one another.
//!
//! The graph is drawn from the `use` lines of product code. An import leads to the file of the
//! longest module path that it names; `mod` lines draw nothing. A circle is a strongly connected
//! set of two files or more.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use crate::{Finding, SourceFile};

/// The imports between the files of all crates.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// From file to file, the names that are imported.
    imports: BTreeMap<String, BTreeMap<String, BTreeSet<String>>>,
}

impl Graph {
    /// Returns the graph of the crates' libraries: one for each `src/` folder with a `lib.rs`.
    #[must_use]
    pub fn of(files: &[SourceFile]) -> Self {
        let mut crates: BTreeMap<&str, BTreeMap<String, &SourceFile>> = BTreeMap::new();
        for file in files.iter().filter(|file| !file.product.is_empty()) {
            let (Some((root, _)), Some(path)) = (file.path.split_once("/src/"), file.module_path())
            else {
                continue;
            };
            let module = if path == "lib" { String::new() } else { path.replace('/', "::") };
            crates.entry(root).or_default().insert(module, file);
        }
        let mut graph = Self::default();
        for modules in crates.values() {
            for (module, file) in modules {
                for path in imported_paths(&file.product) {
                    graph.add(module, file, &path, modules);
                }
            }
        }
        graph
    }

    /// Adds the edge that one imported path draws, if it leads to another file of the crate.
    fn add(
        &mut self,
        module: &str,
        file: &SourceFile,
        path: &[String],
        modules: &BTreeMap<String, &SourceFile>,
    ) {
        let Some(full) = resolve(module, path, modules) else { return };
        let known = (0..=full.len())
            .rev()
            .find_map(|length| modules.get_key_value(&full.get(..length)?.join("::")));
        let Some((found, target)) = known else { return };
        if found == module {
            return;
        }
        let depth = if found.is_empty() { 0 } else { found.split("::").count() };
        let name = full.get(depth..).unwrap_or_default().join("::");
        let edges = self.imports.entry(file.path.clone()).or_default();
        edges.entry(target.path.clone()).or_default().insert(name);
    }

    /// Returns how many edges the graph has.
    #[must_use]
    pub fn edges(&self) -> usize {
        self.imports.values().map(BTreeMap::len).sum()
    }

    /// Returns the circles, each a sorted list of files.
    #[must_use]
    pub fn circles(&self) -> Vec<Vec<&str>> {
        let reached: BTreeMap<&str, BTreeSet<&str>> =
            self.imports.keys().map(|file| (&**file, self.reached_from(file))).collect();
        let mut circles = BTreeSet::new();
        for (file, others) in &reached {
            if others.contains(file) {
                let both =
                    |other: &&&str| reached.get(**other).is_some_and(|back| back.contains(file));
                circles.insert(others.iter().filter(both).copied().collect::<Vec<_>>());
            }
        }
        circles.into_iter().collect()
    }

    fn reached_from(&self, file: &str) -> BTreeSet<&str> {
        let mut reached = BTreeSet::new();
        let mut open = vec![file];
        while let Some(from) = open.pop() {
            for target in self.imports.get(from).into_iter().flat_map(BTreeMap::keys) {
                if reached.insert(&**target) {
                    open.push(target);
                }
            }
        }
        reached
    }

    /// Returns the imports inside a circle, one to a line, with the names that tie the files.
    #[must_use]
    pub fn ties(&self, circle: &[&str]) -> String {
        let mut ties = String::new();
        for file in circle {
            let edges = self.imports.get(*file).into_iter().flatten();
            for (target, names) in edges.filter(|(target, _)| circle.contains(&&***target)) {
                let names: Vec<_> = names.iter().map(String::as_str).collect();
                write!(ties, "\n    {file} -> {target}: {}", names.join(", ")).ok();
            }
        }
        ties
    }
}

/// Checks that there is no circle.
#[must_use]
pub fn circles(graph: &Graph) -> Vec<Finding> {
    let finding = |circle: Vec<&str>| {
        let what = format!("{} files import in a circle:{}", circle.len(), graph.ties(&circle));
        Finding::new(circle.first().unwrap_or(&""), 0, what)
    };
    graph.circles().into_iter().map(finding).collect()
}

/// Turns an imported path into one from the crate's root; `None` for a path to another crate.
fn resolve(
    module: &str,
    path: &[String],
    modules: &BTreeMap<String, &SourceFile>,
) -> Option<Vec<String>> {
    let mut base: Vec<String> =
        module.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
    let (head, tail) = path.split_first()?;
    match head.as_str() {
        "crate" => base.clear(),
        "self" => {}
        "super" => {
            base.pop();
        }
        child => {
            base.push(child.to_owned());
            modules.get(&base.join("::"))?;
        }
    }
    for part in tail {
        match part.as_str() {
            "super" => drop(base.pop()),
            "self" => {}
            name => base.push(name.to_owned()),
        }
    }
    Some(base)
}

/// Returns the paths of all `use` declarations, `{…}` lists spelled out, without `as` names.
fn imported_paths(code: &str) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    for (at, _) in code.match_indices("use ") {
        let (before, declaration) = code.split_at(at);
        let line = before.rsplit('\n').next().unwrap_or_default().trim();
        let visibility = line.is_empty() || (line.starts_with("pub") && !line.contains(';'));
        let Some((tree, _)) = declaration.trim_start_matches("use ").split_once(';') else {
            continue;
        };
        if visibility {
            spell_out(&[], tree, &mut paths);
        }
    }
    paths
}

/// Adds the paths of one `use` tree below `prefix`.
fn spell_out(prefix: &[String], tree: &str, paths: &mut Vec<Vec<String>>) {
    let tree = tree.trim().trim_start_matches("::");
    let (head, list) = match tree.split_once('{') {
        Some((head, list)) => (head, Some(list)),
        None => (tree, None),
    };
    let mut path = prefix.to_vec();
    let head = head.split(" as ").next().unwrap_or_default();
    let parts = head.split("::").map(str::trim);
    path.extend(parts.filter(|part| !part.is_empty() && *part != "*").map(str::to_owned));
    let Some(list) = list else {
        paths.push(path);
        return;
    };
    let (mut depth, mut from) = (0_usize, 0_usize);
    for (at, c) in list.char_indices() {
        let ends = match c {
            '{' => {
                depth += 1;
                false
            }
            '}' if depth == 0 => true,
            '}' => {
                depth -= 1;
                false
            }
            ',' => depth == 0,
            _ => false,
        };
        if ends {
            let entry = list.get(from..at).unwrap_or_default().trim();
            if !entry.is_empty() {
                spell_out(&path, entry, paths);
            }
            from = at + 1;
        }
        if ends && c == '}' {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::FileKind;

    fn files(texts: &[(&str, &str)]) -> Vec<SourceFile> {
        let file = |(path, text): &(&str, &str)| SourceFile::new(path, text, FileKind::Product);
        texts.iter().map(file).collect()
    }

    #[test]
    fn a_circle_is_found_with_what_ties_it() {
        let graph = Graph::of(&files(&[
            ("proto/src/lib.rs", "mod a; mod b;"),
            ("proto/src/a.rs", "use crate::{b::{C, D as E}, f};\nstruct A;"),
            ("proto/src/b.rs", "use super::a::A;\n"),
        ]));
        assert_eq!(graph.circles(), [["proto/src/a.rs", "proto/src/b.rs"]]);
        let found = circles(&graph);
        let said = found.first().unwrap().what.clone();
        assert!(said.contains("a.rs -> proto/src/b.rs: C, D"), "{said}");
        assert!(said.contains("b.rs -> proto/src/a.rs: A"), "{said}");
    }

    #[test]
    fn a_parent_that_imports_from_a_child_that_imports_from_it_is_a_circle() {
        let graph = Graph::of(&files(&[
            ("proto/src/a.rs", "mod b;\npub use b::B;\npub use self::b::C;"),
            ("proto/src/a/b.rs", "use super::*;"),
        ]));
        assert_eq!(graph.circles().len(), 1);
    }

    #[test]
    fn imports_one_way_of_other_crates_and_in_tests_are_no_circle() {
        let graph = Graph::of(&files(&[
            ("proto/src/a.rs", "use crate::b::B; use std::b;\n#[cfg(test)]\nmod t { use x; }"),
            ("proto/src/b.rs", "#[cfg(test)]\nuse crate::a::A;\nuse b::a;"),
            ("carousel/src/b.rs", "use crate::a::A;"),
        ]));
        assert_eq!(graph.circles(), Vec::<Vec<&str>>::new());
        assert_eq!(graph.edges(), 1);
    }
}
