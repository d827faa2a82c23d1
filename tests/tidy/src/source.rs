//! Source files as the rules see them.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

/// The packages of the workspace, by folder.
pub const PACKAGES: [&str; 7] =
    ["proto", "proto/cli", "proto/http", "carousel", "receiver", "dm-bridge", "tests"];

/// The packages that the shells of the programs share, by folder and by crate name; the folders lie
/// inside that of `proto`.
pub const SHARED_SHELLS: [(&str, &str); 2] =
    [("proto/cli", "proto_cli"), ("proto/http", "proto_http")];

/// One Rust file.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// From the top of the repository, with `/`.
    pub path: String,
    /// As it is on disk.
    pub text: String,
    /// The text with comments and the insides of literals blanked; lines keep their numbers.
    pub code: String,
    /// [`Self::code`] with the items under `#[cfg(test)]` blanked too; empty in a test file.
    pub product: String,
}

impl SourceFile {
    /// Reads a file's text; `is_test` files have no product code.
    pub fn new(path: &str, text: &str, kind: FileKind) -> Self {
        let code = blank_comments_and_literals(text);
        let product = match kind {
            FileKind::Product => blank_test_items(&code),
            FileKind::Test => String::new(),
        };
        Self { path: path.to_owned(), text: text.to_owned(), code, product }
    }

    /// The folder of the package that the file belongs to.
    pub fn package(&self) -> &str {
        let inside =
            |folder: &str| self.path.strip_prefix(folder).is_some_and(|it| it.starts_with('/'));
        let shared = SHARED_SHELLS.into_iter().find(|(folder, _)| inside(folder));
        shared.map_or_else(|| self.path.split('/').next().unwrap_or_default(), |(folder, _)| folder)
    }

    /// The path below `src/`, without `.rs`; `None` outside `src/`.
    pub fn module_path(&self) -> Option<&str> {
        let (_, below) = self.path.split_once("/src/")?;
        below.strip_suffix(".rs")
    }

    /// The first module below the crate; `lib`, `main` or `bin` for those.
    pub fn top_module(&self) -> Option<&str> {
        self.module_path()?.split('/').next()
    }

    /// Lines of product code, numbered from 1.
    pub fn product_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.product.lines().enumerate().map(|(index, line)| (index + 1, line))
    }
}

/// Membership of a file: part of a product or of its tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// Built into a program or library.
    Product,
    /// Only built for tests.
    Test,
}

/// The top of the repository.
pub fn workspace_dir() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).unwrap_or(package).to_owned()
}

/// Reads all Rust files of the workspace; generated ones are left out.
///
/// # Errors
///
/// When a folder or file cannot be read.
pub fn workspace_sources() -> anyhow::Result<Vec<SourceFile>> {
    let top = workspace_dir();
    let mut paths = Vec::new();
    // A package inside another is collected with it.
    for package in PACKAGES.into_iter().filter(|package| !package.contains('/')) {
        collect(&top.join(package), &mut paths)?;
    }
    let mut texts = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let relative = path.strip_prefix(&top)?.to_string_lossy().replace('\\', "/");
        texts.push((relative, text));
    }
    Ok(classify(&texts))
}

/// Turns paths and texts into files; a file is a test when its parent declares it under
/// `#[cfg(test)]`, or when it belongs to a test binary.
pub fn classify(texts: &[(String, String)]) -> Vec<SourceFile> {
    let mut test_modules = BTreeSet::new();
    for (path, text) in texts {
        let code = blank_comments_and_literals(text);
        for name in test_declarations(&code) {
            test_modules.insert(format!("{}{name}", child_folder(path)));
        }
    }
    let kind = |path: &str| {
        let stem = path.strip_suffix(".rs").unwrap_or(path);
        let declared = test_modules
            .iter()
            .any(|module| stem == module || stem.starts_with(&format!("{module}/")));
        let binary = match path.split_once('/') {
            Some(("tests", remaining)) => !remaining.starts_with("src/"),
            Some((_, remaining)) => {
                // A package may lie inside another.
                let inner = remaining.split_once('/').map_or("", |(_, inner)| inner);
                remaining.starts_with("tests/")
                    || inner.starts_with("tests/") && !remaining.starts_with("src/")
            }
            None => false,
        };
        if declared || binary { FileKind::Test } else { FileKind::Product }
    };
    texts.iter().map(|(path, text)| SourceFile::new(path, text, kind(path))).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .with_context(|| folder.display().to_string())?
        .collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let generated = path.ends_with("src/generated") || path.ends_with("fuzz/target");
        if entry.file_type()?.is_dir() && !generated {
            collect(&path, paths)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
    Ok(())
}

/// Folder of the modules that a file declares, with a `/` at the end.
fn child_folder(path: &str) -> String {
    let stem = path.strip_suffix(".rs").unwrap_or(path);
    match stem.rsplit_once('/') {
        Some((folder, "lib" | "main")) => format!("{folder}/"),
        _ => format!("{stem}/"),
    }
}

/// Names of the modules that are declared under `#[cfg(test)]` and lie in files of their own.
fn test_declarations(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices(TEST_ATTRIBUTE) {
        let item = code.get(at + TEST_ATTRIBUTE.len()..).unwrap_or_default();
        let Some((declaration, _)) = item.split_once([';', '{']) else { continue };
        let is_file =
            item.get(declaration.len()..).is_some_and(|remaining| remaining.starts_with(';'));
        let name = declaration.split_whitespace().skip_while(|word| *word != "mod").nth(1);
        if let (true, Some(name)) = (is_file, name) {
            names.push(name.to_owned());
        }
    }
    names
}

const TEST_ATTRIBUTE: &str = "#[cfg(test)]";

/// Blanks each item that follows `#[cfg(test)]`, up to its closing brace or semicolon.
fn blank_test_items(code: &str) -> String {
    let mut out = String::with_capacity(code.len());
    let mut remaining = code;
    while let Some((before, after)) = remaining.split_once(TEST_ATTRIBUTE) {
        out.push_str(before);
        let item = item_length(after);
        let (item, remainder) = after.split_at(item);
        out.extend(item.chars().filter(|c| *c == '\n'));
        remaining = remainder;
    }
    out.push_str(remaining);
    out
}

/// Octets of the item at the front of `code`.
fn item_length(code: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in code.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth <= 1 => return at + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

/// Replaces comments and the insides of literals with spaces; line breaks stay.
fn blank_comments_and_literals(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut remaining = text;
    while let Some(first) = remaining.chars().next() {
        let (blanked, length) = if remaining.starts_with("//") {
            (true, remaining.find('\n').unwrap_or(remaining.len()))
        } else if remaining.starts_with("/*") {
            (true, block_comment_length(remaining))
        } else if let Some(length) = raw_string_length(remaining, &out) {
            (true, length)
        } else if first == '"' {
            (true, string_length(remaining))
        } else if first == '\'' {
            (true, character_length(remaining).unwrap_or(1))
        } else {
            (false, first.len_utf8())
        };
        let (token, remainder) = remaining.split_at(length);
        if blanked {
            out.extend(token.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        } else {
            out.push_str(token);
        }
        remaining = remainder;
    }
    out
}

fn block_comment_length(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(remaining) = text.get(at..).filter(|remaining| !remaining.is_empty()) {
        if remaining.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if remaining.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += remaining.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// Octets of a raw string at the front; `None` when there is none, or when the `r` ends a name.
fn raw_string_length(text: &str, before: &str) -> Option<usize> {
    let body = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    if before.ends_with(|c: char| c.is_alphanumeric() || c == '_') {
        return None;
    }
    let hashes = body.bytes().take_while(|octet| *octet == b'#').count();
    let inside = body.get(hashes..)?.strip_prefix('"')?;
    let closing = format!("\"{}", "#".repeat(hashes));
    let start = text.len() - inside.len();
    Some(inside.find(&closing).map_or(text.len(), |at| start + at + closing.len()))
}

fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Octets of a character literal; `None` for a lifetime.
fn character_length(text: &str) -> Option<usize> {
    let mut characters = text.char_indices().skip(1);
    let (_, first) = characters.next()?;
    if first == '\\' {
        // The character after the backslash may be the quote itself.
        characters.next()?;
        return characters.find(|(_, c)| *c == '\'').map(|(at, _)| at + 1);
    }
    characters.next().filter(|(_, c)| *c == '\'').map(|(at, _)| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked_and_lines_stay() {
        let text =
            "a // tokio\nb \"std::fs\\\" {\" c\n/* x /* y */ z */ d r#\"{\"# '{' '\\'' 'e fr\"q\"";
        let code = blank_comments_and_literals(text);
        assert_eq!(code.split_whitespace().collect::<Vec<_>>(), ["a", "b", "c", "d", "e", "fr"]);
        assert_eq!(code.lines().count(), text.lines().count());
    }

    #[test]
    fn items_under_cfg_test_are_no_product_code() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n fn b() { x(); }\n}\nfn c() {}\n";
        let file = SourceFile::new("proto/src/a.rs", text, FileKind::Product);
        assert!(file.product.contains("fn a") && file.product.contains("fn c"));
        assert!(!file.product.contains("fn b"));
        assert_eq!(file.product_lines().find(|(_, line)| line.contains("fn c")).unwrap().0, 6);
    }

    #[test]
    fn a_module_file_declared_under_cfg_test_is_a_test() {
        let texts = [
            ("proto/src/lib.rs", "#[cfg(test)]\nmod helpers;\npub mod a;"),
            ("proto/src/helpers.rs", "fn x() {}"),
            ("proto/src/a.rs", "#[cfg(test)]\npub(crate) mod tests;\n"),
            ("proto/src/a/tests.rs", "fn x() {}"),
            ("proto/src/a/tests/more.rs", "fn x() {}"),
            ("proto/src/a/b.rs", "fn x() {}"),
            ("receiver/tests/program.rs", "fn x() {}"),
            ("tests/e2e/readme.rs", "fn x() {}"),
        ]
        .map(|(path, text)| (path.to_owned(), text.to_owned()));
        let product: Vec<_> = classify(&texts)
            .into_iter()
            .filter(|file| file.product.contains("fn x"))
            .map(|file| file.path)
            .collect();
        assert_eq!(product, ["proto/src/a/b.rs"]);
    }
}
