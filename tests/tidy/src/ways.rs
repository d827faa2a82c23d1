//! Ways: the functions that a packet or a message enters, listed in the docs of a crate in order.
//!
//! ```text
//! //! # The way of a DM message
//! //!
//! //! 1. [`shell::http::dm::post`] receives the request
//! //! 2. [`proto::dm::encoding::Encoding::parse`] parses its body
//! ```
//!
//! A step is the path of a function from the crate, or from `proto`. One that is not visible from the
//! root has the address of its page below the list. A step resolves when the longest module of the path is a file, and that file has
//! the function and the `impl` of its type.

use std::collections::BTreeSet;

use crate::{Finding, SourceFile};

/// A list of steps in the docs of a crate.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    /// File that lists it.
    pub path: &'static str,
    /// Heading of the list.
    pub heading: &'static str,
    /// Files that it enters at most.
    pub max_files: usize,
}

/// The ways that are listed.
pub const WAYS: [Way; 3] = [
    Way { path: "dm-bridge/src/lib.rs", heading: "# The way of a DM message", max_files: 20 },
    Way { path: "dm-bridge/src/lib.rs", heading: "# The way of a change", max_files: 9 },
    Way { path: "receiver/src/lib.rs", heading: "# The way of a data packet", max_files: 22 },
];

impl Way {
    /// Returns the steps with their lines.
    #[must_use]
    pub fn steps<'t>(&self, text: &'t str) -> Vec<(usize, &'t str)> {
        let docs = text
            .lines()
            .zip(1..)
            .filter_map(|(line, number)| line.strip_prefix("//!").map(|doc| (number, doc.trim())));
        let below = docs.skip_while(|(_, doc)| *doc != self.heading).skip(1);
        let section = below.take_while(|(_, doc)| !doc.starts_with('#'));
        section.filter_map(|(number, doc)| Some((number, named(doc)?))).collect()
    }

    /// Checks the steps against the files of the workspace; returns how many files they enter too.
    #[must_use]
    pub fn check(&self, files: &[SourceFile]) -> (usize, Vec<Finding>) {
        let Some(list) = files.iter().find(|file| file.path == self.path) else {
            return (0, vec![Finding::new(self.path, 0, "the file is missing")]);
        };
        let steps = self.steps(&list.text);
        let mut findings = Vec::new();
        let mut entered = BTreeSet::new();
        for (line, step) in &steps {
            match resolve(list.package(), step, files) {
                Some(file) => drop(entered.insert(&file.path)),
                None => {
                    let what = format!("no file has the function of the step `{step}`");
                    findings.push(Finding::new(self.path, *line, what));
                }
            }
        }
        if steps.is_empty() {
            let what = format!("no steps below `{}`", self.heading);
            findings.push(Finding::new(self.path, 0, what));
        }
        if entered.len() > self.max_files {
            let (entered, max) = (entered.len(), self.max_files);
            let what = format!("{}: {entered} files, {max} at most", self.heading);
            findings.push(Finding::new(self.path, 0, what));
        }
        (entered.len(), findings)
    }
}

/// Returns the path that a numbered step begins with.
fn named(doc: &str) -> Option<&str> {
    let (number, step) = doc.split_once(". ")?;
    number.parse::<u32>().ok()?;
    let path = step.strip_prefix("[`").or_else(|| step.strip_prefix('`'))?;
    path.split_once('`').map(|(path, _)| path)
}

/// Returns the file with the function that a path names.
fn resolve<'f>(package: &str, path: &str, files: &'f [SourceFile]) -> Option<&'f SourceFile> {
    let (package, path) = match path.strip_prefix("proto::") {
        Some(below) => ("proto", below),
        None => (package, path),
    };
    let parts: Vec<_> = path.split("::").collect();
    let (file, left) = (1..parts.len()).rev().find_map(|length| {
        let (module, left) = parts.split_at(length);
        let module = module.join("/");
        let mut found = files.iter().filter(|file| file.package() == package);
        let found = found.find(|file| file.module_path() == Some(&module))?;
        Some((found, left))
    })?;
    let (of, function) = match left {
        [function] => (None, function),
        [of, function] => (Some(of), function),
        _ => return None,
    };
    let has_function = names(&file.product, "fn", function);
    let has_type = of.is_none_or(|of| {
        file.product.lines().any(|line| {
            line.trim_start().starts_with("impl") && words(line).any(|word| word == *of)
        })
    });
    (has_function && has_type).then_some(file)
}

fn names(code: &str, keyword: &str, name: &str) -> bool {
    code.lines()
        .any(|line| words(line).zip(words(line).skip(1)).any(|pair| pair == (keyword, name)))
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::FileKind;

    const WAY: Way = Way { path: "a/src/lib.rs", heading: "# The way", max_files: 2 };

    fn check(steps: &str) -> Vec<String> {
        let list =
            format!("//! # The way\n//!\n{steps}\n//! # Else\n//! 1. [`gone::x`] is no step\n");
        let files = [
            ("a/src/lib.rs", list.as_str()),
            ("a/src/b.rs", "impl<T> B<T> {\n    pub(super) async fn go() {}\n}\nfn free() {}"),
            ("a/src/b/c.rs", "fn deep() {}"),
            ("proto/src/wire.rs", "fn take() {}"),
        ];
        let file = |(path, text): (&str, &str)| SourceFile::new(path, text, FileKind::Product);
        let files = files.map(file);
        WAY.check(&files).1.into_iter().map(|finding| finding.to_string()).collect()
    }

    #[test]
    fn steps_that_resolve_are_clean() {
        assert_eq!(check("//! 1. [`b::B::go`] goes\n//!    on\n//! 2. [`b::free`]"), [""; 0]);
        assert_eq!(check("//! 1. `proto::wire::take`\n//! 2. [`b::c::deep`]"), [""; 0]);
    }

    #[test]
    fn a_step_without_its_function_type_or_file_is_found() {
        for step in ["b::B::gone", "b::C::go", "d::go", "b::c::free", "proto::b::free"] {
            let found = check(&format!("//! 1. [`{step}`]"));
            assert_eq!(found.len(), 1, "{step}: {found:?}");
            assert!(found[0].starts_with("a/src/lib.rs:3: "), "{found:?}");
        }
    }

    #[test]
    fn a_way_that_is_empty_or_enters_too_many_files_is_found() {
        assert_eq!(check("//!").len(), 1);
        let three = "//! 1. [`b::free`]\n//! 2. [`b::c::deep`]\n//! 3. [`proto::wire::take`]";
        assert_eq!(check(three), ["a/src/lib.rs:0: # The way: 3 files, 2 at most"]);
    }
}
