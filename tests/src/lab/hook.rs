//! The installer hook of a lab device: `lab role hook FOLDER install FILE | version`.
//!
//! It copies the image to `FOLDER/installed`, which stands for the flash of a
//! device, and derives the version from what lies there.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use crate::lab::image;

/// Name of the installed image in the device's folder.
pub const INSTALLED: &str = "installed";

/// Runs the hook with the words after `lab role hook`.
pub fn run(words: &[String]) -> ExitCode {
    let result = match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [folder, "install", file] => install(Path::new(folder), Path::new(file)),
        [folder, "version"] => version(Path::new(folder)).and_then(|version| {
            let mut out = io::stdout().lock();
            writeln!(out, "{version}")
        }),
        _ => Err(io::Error::other("FOLDER install FILE | FOLDER version")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            proto_cli::note!("hook: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Copies the image: it is the receiver's to delete after the hand-off.
fn install(folder: &Path, file: &Path) -> io::Result<()> {
    let part = folder.join("installing");
    fs::copy(file, &part)?;
    fs::rename(&part, folder.join(INSTALLED))
}

/// Returns `sha256:` and 16 hex digits of what is installed, or `none`.
///
/// # Errors
///
/// When the file is there and cannot be read.
pub fn version(folder: &Path) -> io::Result<String> {
    match image::digest(&folder.join(INSTALLED)) {
        Ok(digest) => Ok(image::version(&digest)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok("none".to_owned()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_image_that_was_installed() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(version(folder.path()).unwrap(), "none");
        let given = folder.path().join("given");
        fs::write(&given, "").unwrap();
        install(folder.path(), &given).unwrap();
        assert_eq!(version(folder.path()).unwrap(), "sha256:e3b0c44298fc1c14");
    }
}
