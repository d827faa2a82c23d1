//! Licence texts: each crate that is packaged has those that its manifest names, and they are the same.

use std::{fs, path::Path};

use crate::{Finding, source::PACKAGES};

/// The file of each licence, and the line that it must have.
const TEXTS: [(&str, &str); 2] = [
    ("LICENSE-MIT", "Copyright (c) the fumocast authors"),
    ("LICENSE-APACHE", "Version 2.0, January 2004"),
];

/// Returns the folders of the crates that are packaged: what only tests need is none of them.
pub fn packaged() -> impl Iterator<Item = &'static str> {
    PACKAGES.into_iter().filter(|folder| *folder != "tests")
}

/// Checks the licence texts below `top`: those of the first crate count for all.
pub fn check(top: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, line) in TEXTS {
        let mut first: Option<String> = None;
        for folder in packaged() {
            let path = format!("{folder}/{name}");
            match fs::read_to_string(top.join(&path)) {
                Err(error) => findings.push(Finding::new(&path, 0, error.to_string())),
                Ok(text) if !text.contains(line) => {
                    findings.push(Finding::new(&path, 0, format!("it has no line `{line}`")));
                }
                Ok(text) if *first.get_or_insert_with(|| text.clone()) != text => {
                    findings.push(Finding::new(
                        &path,
                        0,
                        "it differs from that of the first crate",
                    ));
                }
                Ok(_) => {}
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_licence_that_is_missing_or_changed_is_found() {
        let top = std::env::temp_dir().join(format!("tidy-licences-{}", std::process::id()));
        for folder in packaged() {
            fs::create_dir_all(top.join(folder)).unwrap();
            for (name, line) in TEXTS {
                fs::write(top.join(folder).join(name), format!("a\n{line}\n")).unwrap();
            }
        }
        assert_eq!(check(&top), []);
        fs::write(top.join("carousel/LICENSE-MIT"), "Copyright (c) nobody").unwrap();
        fs::write(top.join("receiver/LICENSE-APACHE"), "Version 2.0, January 2004").unwrap();
        fs::remove_file(top.join("proto/http/LICENSE-MIT")).unwrap();
        let found: Vec<_> = check(&top).into_iter().map(|finding| finding.path).collect();
        fs::remove_dir_all(&top).unwrap();
        assert_eq!(
            found,
            ["proto/http/LICENSE-MIT", "carousel/LICENSE-MIT", "receiver/LICENSE-APACHE"]
        );
    }
}
