//! Permitted imports between packages and modules.
//!
//! ```text
//! proto  <-  proto/cli, proto/http  <-  carousel | receiver | dm-bridge  <-  tests
//! inside proto:  wire, time, ids, crypto  <-  fec  <-  flute
//!                wire, words, ids, crypto, tune_in  <-  dm
//!                wire  <-  markup  <-  flute, dm
//!                fec, crypto  <-  trust
//! inside a program:  proto  <-  core modules  <-  shell  <-  main
//! ```
//!
//! Three places of a program touch the machine: `shell/`, `main.rs`, and the command line (`cli`,
//! with `config`). The last two read and write the files that a person names on the command line;
//! to send these through `shell/` would add a layer that only forwards. They alone use `proto/cli`
//! and `proto/http`, which hold what the shells of the programs share.

use std::collections::BTreeSet;

use crate::{Finding, SourceFile, source::SHARED_SHELLS};

/// The modules of `proto` and what each may use besides itself.
///
/// `wire`, `time`, `ids` and `crypto` are the floor: they may use one another. `generated` holds
/// the prost types of `schema/*.proto`, which only the two modules that wrap them see.
const PROTO: [(&str, &[&str]); 19] = [
    ("lib", &[]),
    ("wire", &["time", "ids", "crypto"]),
    ("words", &["wire"]),
    ("base64_text", &[]),
    ("markup", &["wire"]),
    ("time", &["wire", "ids", "crypto"]),
    ("ids", &["wire", "time", "crypto"]),
    ("crypto", &["wire", "time", "ids"]),
    ("tune_in", &["wire", "time", "ids", "crypto"]),
    ("fec", &["wire", "time", "ids", "crypto"]),
    ("flute", &["wire", "markup", "time", "ids", "crypto", "fec"]),
    ("sdp", &["wire", "time", "ids"]),
    ("sap", &["wire", "crypto", "sdp"]),
    ("pcap", &["wire"]),
    ("peer", &[]),
    ("dm", &["wire", "words", "base64_text", "markup", "time", "ids", "crypto", "tune_in"]),
    ("trust", &["wire", "words", "time", "ids", "crypto", "fec", "generated"]),
    ("control", &["wire", "time", "ids", "crypto", "generated"]),
    // Fixtures of tests, behind a feature.
    ("fixtures", &["time", "ids", "crypto", "fec", "flute", "tune_in", "dm", "trust"]),
];

/// The programs, by folder and by crate name.
const PROGRAMS: [(&str, &str); 3] =
    [("carousel", "carousel"), ("receiver", "receiver"), ("dm-bridge", "dm_bridge")];

/// Names that touch the machine: runtimes, sockets, files, databases, HTTP, processes.
///
/// Threads are not among them: a scoped thread that computes leaves no trace outside its caller.
const MACHINE: [&str; 13] = [
    "tokio",
    "socket2",
    "quinn_udp",
    "rustix",
    "axum",
    "tower_http",
    "ureq",
    "sqlx",
    "sd_notify",
    "std::fs",
    "std::process",
    "UdpSocket",
    "TcpListener",
];

/// A crate that stays behind one door.
struct Fence {
    crate_name: &'static str,
    /// Path prefixes that may use it.
    doors: &'static [&'static str],
}

const FENCES: [Fence; 5] = [
    Fence { crate_name: "raptorq", doors: &["proto/src/fec/raptorq_crate", "tests/"] },
    Fence { crate_name: "ring", doors: &["proto/src/crypto.rs"] },
    Fence { crate_name: "md5", doors: &["proto/src/dm/auth", "proto/src/flute/content_md5"] },
    Fence { crate_name: "proto_cli", doors: &SHELLS },
    Fence { crate_name: "proto_http", doors: &SHELLS },
];

/// Places that touch the machine.
const SHELLS: [&str; 9] = [
    "carousel/src/cli",
    "carousel/src/shell",
    "carousel/src/main.rs",
    "receiver/src/cli",
    "receiver/src/shell",
    "receiver/src/main.rs",
    "dm-bridge/src/cli",
    "dm-bridge/src/shell",
    "tests/",
];

/// Checks the modules inside `proto`.
pub fn inside_proto(files: &[SourceFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.package() == "proto") {
        let Some(module) = file.top_module() else { continue };
        let Some((_, allowed)) = PROTO.iter().find(|(name, _)| *name == module) else {
            let what = format!("module `{module}` of proto has no arrows; draw them in tidy");
            findings.push(Finding::new(&file.path, 0, what));
            continue;
        };
        for (line, used) in names_behind(&file.product, "crate::") {
            if used != module && !allowed.contains(&used.as_str()) {
                let what = format!("`{module}` may not use `{used}`");
                findings.push(Finding::new(&file.path, line, what));
            }
        }
    }
    findings
}

/// Checks that the programs do not import one another, nor `proto` a program.
pub fn between_packages(files: &[SourceFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.package() != "tests") {
        for (folder, name) in PROGRAMS.iter().filter(|(folder, _)| *folder != file.package()) {
            for (line, _) in file.product_lines().filter(|(_, code)| uses_crate(code, name)) {
                let what = format!("`{}` may not know `{folder}`", file.package());
                findings.push(Finding::new(&file.path, line, what));
            }
        }
    }
    findings
}

/// Checks the dependency tables: `manifest` is the text of a package's `Cargo.toml`.
pub fn dependencies(package: &str, manifest: &str) -> Vec<Finding> {
    let path = format!("{package}/Cargo.toml");
    let Ok(table) = manifest.parse::<toml::Table>() else {
        return vec![Finding::new(&path, 0, "not TOML")];
    };
    let names = |section: &str| -> BTreeSet<String> {
        let dependencies = table.get(section).and_then(toml::Value::as_table);
        dependencies.into_iter().flat_map(|table| table.keys().cloned()).collect()
    };
    let all: BTreeSet<_> = names("dependencies")
        .into_iter()
        .chain(names("dev-dependencies"))
        .chain(names("build-dependencies"))
        .collect();
    let foreign = PROGRAMS.iter().map(|(folder, _)| *folder).chain(["tests"]);
    foreign
        .filter(|name| package != "tests" && all.contains(*name))
        .map(|name| Finding::new(&path, 0, format!("`{package}` may not depend on `{name}`")))
        .collect()
}

/// Checks that only the shells touch the machine.
pub fn machine(files: &[SourceFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.package() != "tests" && !touches_machine(file)) {
        for word in MACHINE {
            for line in mentions(&file.product, word) {
                let what = format!("`{word}` belongs under shell/, in main.rs or in the cli");
                findings.push(Finding::new(&file.path, line, what));
            }
        }
    }
    findings
}

/// Checks that cores do not reach out to the shell above them.
pub fn cores_below_shells(files: &[SourceFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| is_program(file) && !touches_machine(file)) {
        if file.top_module() == Some("lib") {
            continue;
        }
        for (line, used) in names_behind(&file.product, "crate::") {
            if matches!(used.as_str(), "shell" | "cli" | "config") {
                let what = format!("a core may not use `{used}`");
                findings.push(Finding::new(&file.path, line, what));
            }
        }
    }
    findings
}

/// Checks that FLUTE and DM meet in `arming` and `agent` alone.
pub fn flute_and_dm(files: &[SourceFile]) -> Vec<Finding> {
    let meets = |file: &SourceFile| {
        matches!(file.top_module(), Some("arming" | "agent" | "lib")) || touches_machine(file)
    };
    files
        .iter()
        .filter(|file| is_program(file) && !meets(file))
        .filter(|file| {
            let used = names_behind(&file.product, "proto::");
            ["flute", "dm"].iter().all(|module| used.iter().any(|(_, name)| name == module))
        })
        .map(|file| Finding::new(&file.path, 0, "only `arming` and `agent` know FLUTE and DM both"))
        .collect()
}

/// Checks the crates that stay behind one door.
pub fn fences(files: &[SourceFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files {
        for fence in &FENCES {
            let inside = fence.doors.iter().any(|door| file.path.starts_with(door));
            let lines = file.product_lines().filter(|(_, code)| uses_crate(code, fence.crate_name));
            for (line, _) in lines.filter(|_| !inside) {
                let what = format!("`{}` stays in {:?}", fence.crate_name, fence.doors);
                findings.push(Finding::new(&file.path, line, what));
            }
        }
    }
    findings
}

fn is_program(file: &SourceFile) -> bool {
    PROGRAMS.iter().any(|(folder, _)| *folder == file.package())
}

/// Returns whether a file is a shell, the command line or the configuration of a program.
fn touches_machine(file: &SourceFile) -> bool {
    let is_shell = matches!(file.top_module(), Some("shell" | "main" | "cli" | "config"));
    let is_shared = SHARED_SHELLS.iter().any(|(folder, _)| *folder == file.package());
    is_program(file) && is_shell || is_shared
}

/// Modules that a text names behind a prefix, also in `use crate::{a, b::c}`, with their lines.
fn names_behind(text: &str, prefix: &str) -> Vec<(usize, String)> {
    let mut names = Vec::new();
    for (at, found) in text.match_indices(prefix) {
        let (before, tail) = text.split_at(at);
        if before.ends_with(|c: char| c.is_alphanumeric() || "_:".contains(c)) {
            continue;
        }
        let line = before.matches('\n').count() + 1;
        let tail = tail.get(found.len()..).unwrap_or_default();
        let found = match tail.strip_prefix('{') {
            Some(list) => top_names(list),
            None => leading_name(tail).into_iter().collect(),
        };
        names.extend(found.into_iter().map(|name| (line, name)));
    }
    names
}

/// First names of the entries of a `{…}` list, nested lists skipped.
fn top_names(list: &str) -> Vec<String> {
    let mut depth = 0_usize;
    let mut names = Vec::new();
    let mut at_start = true;
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => at_start = true,
            _ if at_start && !c.is_whitespace() => {
                at_start = false;
                names.extend(leading_name(list.get(at..).unwrap_or_default()));
            }
            _ => {}
        }
    }
    names
}

fn leading_name(text: &str) -> Option<String> {
    let name: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    // A name in capitals is an item of the crate's root, not a module.
    let module = name.chars().next().is_some_and(|c| c.is_lowercase());
    module.then_some(name)
}

/// Returns whether a line uses a crate: as the head of a path, or imported by name.
fn uses_crate(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let before = code.get(..at).unwrap_or_default();
        let after = code.get(at + name.len()..).unwrap_or_default();
        let head = !before.ends_with(|c: char| c.is_alphanumeric() || "_:.".contains(c));
        let imported = before.trim_start().ends_with("use ") && after.starts_with([';', ' ']);
        head && (after.starts_with("::") || imported)
    })
}

/// Lines that name a crate, a module of `std`, or a type.
fn mentions(text: &str, word: &str) -> Vec<usize> {
    if let Some(module) = word.strip_prefix("std::") {
        let names = names_behind(text, "std::").into_iter();
        return names.filter(|(_, name)| name == module).map(|(line, _)| line).collect();
    }
    let is_type = word.starts_with(char::is_uppercase);
    let named = |code: &str| {
        let words = |c: char| !c.is_alphanumeric() && c != '_';
        if is_type { code.split(words).any(|found| found == word) } else { uses_crate(code, word) }
    };
    let lines = text.lines().enumerate().filter(|(_, code)| named(code));
    lines.map(|(index, _)| index + 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::FileKind;

    fn file(path: &str, text: &str) -> Vec<SourceFile> {
        vec![SourceFile::new(path, text, FileKind::Product)]
    }

    #[test]
    fn an_arrow_that_is_not_drawn_inside_proto_is_found() {
        assert_eq!(inside_proto(&file("proto/src/dm/uri.rs", "use crate::fec::oti;")).len(), 1);
        let list = "use crate::{\n    ids::Tsi,\n    flute::{lct, ext},\n};";
        assert_eq!(inside_proto(&file("proto/src/dm.rs", list)).len(), 1);
        assert_eq!(inside_proto(&file("proto/src/flute/fdt.rs", "use crate::fec::oti;")), []);
        assert_eq!(inside_proto(&file("proto/src/news.rs", "")).len(), 1);
    }

    #[test]
    fn a_program_that_knows_another_is_found() {
        assert_eq!(
            between_packages(&file("carousel/src/flute/fdt.rs", "use receiver::agent;")).len(),
            1
        );
        assert_eq!(between_packages(&file("carousel/src/flute/fdt.rs", "let receiver = 1;")), []);
        assert_eq!(dependencies("receiver", "[dependencies]\ncarousel = \"1\"").len(), 1);
        assert_eq!(dependencies("tests", "[dependencies]\ncarousel = \"1\""), []);
    }

    #[test]
    fn a_core_that_touches_the_machine_is_found() {
        for text in ["use tokio::net;", "use std::fs;", "use std::{fs, io};", "x: UdpSocket,"] {
            assert_eq!(machine(&file("receiver/src/agent.rs", text)).len(), 1, "{text}");
            assert_eq!(machine(&file("receiver/src/shell/udp.rs", text)), [], "{text}");
            assert_eq!(machine(&file("proto/cli/src/output.rs", text)), [], "{text}");
            assert_eq!(machine(&file("proto/http/src/server.rs", text)), [], "{text}");
        }
        assert_eq!(machine(&file("receiver/src/agent.rs", "// use std::fs;\nstd::fmt::x")), []);
    }

    #[test]
    fn a_core_that_uses_its_shell_is_found() {
        let text = "use crate::shell::clock;";
        assert_eq!(cores_below_shells(&file("receiver/src/agent.rs", text)).len(), 1);
        assert_eq!(cores_below_shells(&file("receiver/src/cli.rs", text)), []);
    }

    #[test]
    fn flute_and_dm_in_one_core_are_found() {
        let text = "use proto::{dm::fumo, flute::alc};";
        assert_eq!(flute_and_dm(&file("receiver/src/session.rs", text)).len(), 1);
        assert_eq!(flute_and_dm(&file("receiver/src/agent/inputs.rs", text)), []);
    }

    #[test]
    fn a_crate_outside_its_door_is_found() {
        for (path, text) in [
            ("carousel/src/plan/encode.rs", "use raptorq::Encoder;"),
            ("receiver/src/verify.rs", "ring::digest::digest(x)"),
            ("dm-bridge/src/dm/auth.rs", "use md5::{Digest as _, Md5};"),
            ("receiver/src/agent.rs", "use proto_cli::output;"),
            ("proto/src/wire.rs", "use proto_cli::output;"),
            ("dm-bridge/src/dm/session.rs", "use proto_http::table::Phase;"),
        ] {
            assert_eq!(fences(&file(path, text)).len(), 1, "{path}");
        }
        assert_eq!(fences(&file("proto/src/fec/raptorq_crate.rs", "use raptorq::Decoder;")), []);
        assert_eq!(fences(&file("receiver/src/cli/listen.rs", "use proto_cli::output;")), []);
        assert_eq!(fences(&file("proto/src/x.rs", "let string::x = spring::y;")), []);
    }
}
