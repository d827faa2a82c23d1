//! The image that is sent, and digests of files.

use std::{
    fs::File,
    io::{self, BufWriter, Read as _, Write as _},
    path::Path,
};

use proto::crypto::{Digest, Hasher};

use crate::lab::rng::SeededRng;

/// Writes an image of `size` octets that a seed repeats; no two blocks of it are alike.
///
/// # Errors
///
/// When the file cannot be written.
pub fn make(path: &Path, size: u64, seed: u64) -> io::Result<()> {
    let mut rng = SeededRng::new(seed, "image");
    let mut out = BufWriter::new(File::create(path)?);
    let mut buffer = vec![0; 64 << 10];
    let mut left = size;
    while left > 0 {
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let part = buffer.get_mut(..count).unwrap_or_default();
        rng.fill_bytes(part);
        out.write_all(part)?;
        left -= u64::try_from(count).unwrap_or(left);
    }
    out.flush()
}

/// Returns the digest of a file's octets.
///
/// # Errors
///
/// When the file cannot be read.
pub fn digest(path: &Path) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
    }
}

/// The version that a lab device derives from what is installed on it.
pub fn version(digest: &Digest) -> String {
    let hex = digest.to_string();
    format!("sha256:{}", hex.get(..16).unwrap_or(&hex))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_its_size_and_a_seed_repeats_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for size in [1, 65_535, 65_536, 65_537] {
            make(&path("a"), size, 1).unwrap();
            make(&path("b"), size, 1).unwrap();
            make(&path("c"), size, 2).unwrap();
            assert_eq!(std::fs::metadata(path("a")).unwrap().len(), size);
            assert_eq!(digest(&path("a")).unwrap(), digest(&path("b")).unwrap());
            assert_ne!(digest(&path("a")).unwrap(), digest(&path("c")).unwrap());
        }
    }

    #[test]
    fn the_version_names_the_front_of_the_digest() {
        assert_eq!(version(&proto::crypto::sha256(&[])), "sha256:e3b0c44298fc1c14");
    }
}
