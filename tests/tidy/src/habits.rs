//! Length, layout, unwrap and unfinished work.

use crate::{Finding, SourceFile};

/// Lines of a file at most.
pub const MAX_LINES: usize = 800;

/// Words that mark work as unfinished; spelled in halves so that this file passes its own rule.
const UNFINISHED: [&str; 6] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X:"),
    concat!("HA", "CK:"),
    concat!("for", " now"),
    concat!("stub", " for"),
];

/// Macros that stand for missing code.
const MISSING: [&str; 3] = ["todo!", "unimplemented!", "dbg!"];

/// Checks that no file is longer than [`MAX_LINES`].
pub fn length(files: &[SourceFile]) -> Vec<Finding> {
    files
        .iter()
        .map(|file| (file, file.text.lines().count()))
        .filter(|(_, lines)| *lines > MAX_LINES)
        .map(|(file, lines)| {
            let what = format!("{lines} lines, {MAX_LINES} at most: what is the second idea?");
            Finding::new(&file.path, 0, what)
        })
        .collect()
}

/// Checks that modules are `foo.rs` with `foo/bar.rs`.
pub fn layout(files: &[SourceFile]) -> Vec<Finding> {
    let old = files.iter().filter(|file| file.path.ends_with("/mod.rs"));
    old.map(|file| Finding::new(&file.path, 0, "name it after its folder, beside it")).collect()
}

/// Checks that product code does not unwrap and leaves nothing undone.
pub fn finished(files: &[SourceFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files {
        for (line, code) in file.product_lines() {
            if code.contains(".unwrap()") {
                findings.push(Finding::new(&file.path, line, "say with `expect` why it holds"));
            }
            for name in MISSING.iter().filter(|name| code.contains(**name)) {
                findings.push(Finding::new(&file.path, line, format!("`{name}` stands for code")));
            }
        }
        for (index, text) in file.text.lines().enumerate() {
            for word in UNFINISHED.iter().filter(|word| text.contains(**word)) {
                let what = format!("`{word}` marks unfinished work");
                findings.push(Finding::new(&file.path, index + 1, what));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::FileKind;

    fn file(path: &str, text: &str) -> Vec<SourceFile> {
        vec![SourceFile::new(path, text, FileKind::Product)]
    }

    #[test]
    fn a_file_of_the_limit_passes_and_one_more_line_does_not() {
        assert_eq!(length(&file("proto/src/a.rs", &"x\n".repeat(MAX_LINES))), []);
        assert_eq!(length(&file("proto/src/a.rs", &"x\n".repeat(MAX_LINES + 1))).len(), 1);
    }

    #[test]
    fn unfinished_work_is_found_and_an_unwrap_in_a_test_is_not() {
        let marker = UNFINISHED[0];
        for text in ["a.unwrap()", "todo!()", "dbg!(x)", &format!("// {marker}: later")] {
            assert_eq!(finished(&file("proto/src/a.rs", text)).len(), 1, "{text}");
        }
        let tested = "#[cfg(test)]\nmod tests { fn a() { b.unwrap(); } }";
        assert_eq!(finished(&file("proto/src/a.rs", tested)), []);
    }

    #[test]
    fn the_old_module_layout_is_found() {
        assert_eq!(layout(&file("proto/src/dm/mod.rs", "")).len(), 1);
    }
}
