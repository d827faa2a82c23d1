//! The hashes of the runs of a plan file, kept beside it once the plan was compared with its
//! campaign.
//!
//! ```text
//!  0  "FCPR"   4  version = 1   5  zero (3)
//!  8  size of the plan file (8)   16  its time of change, ns (8)   24  its inode (8)
//! 32  plan root (32)
//! 64  H16 of each run of 64 KiB, in order
//!     H16 over the octets before
//! ```
//!
//! A file of another size, time or inode is compared anew. It is written whole, or not at all.

use proto::{
    crypto::{Digest, Hash16, h16},
    wire::Writer,
};

/// Octets of a run; the last one of a file may be shorter.
pub const RUN_BYTES: u64 = 64 * 1024;

/// The properties by which a file that was changed is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    /// Octets.
    pub size: u64,
    /// Time of the last change, in nanoseconds.
    pub changed_ns: u64,
    /// Number in its file system.
    pub inode: u64,
}

/// Returns the file of run hashes.
#[must_use]
pub fn emit(fingerprint: &Fingerprint, plan_root: &Digest, runs: &[Hash16]) -> Vec<u8> {
    let mut out = Vec::new();
    Writer::new(&mut out)
        .bytes(MAGIC)
        .u64(fingerprint.size)
        .u64(fingerprint.changed_ns)
        .u64(fingerprint.inode)
        .bytes(&plan_root.0);
    runs.iter().for_each(|run| out.extend_from_slice(&run.0));
    let check = h16(&[&out]);
    out.extend_from_slice(&check.0);
    out
}

/// Reads the run hashes of a plan; `None` when the file is damaged or is about another plan.
#[must_use]
pub fn parse(octets: &[u8], fingerprint: &Fingerprint, plan_root: &Digest) -> Option<Vec<Hash16>> {
    let (content, check) = octets.split_at_checked(octets.len().checked_sub(Hash16::LEN)?)?;
    let hashes = content.strip_prefix(emit_head(fingerprint, plan_root).as_slice())?;
    if h16(&[content]).0 != check {
        return None;
    }
    let (runs, tail) = hashes.as_chunks::<{ Hash16::LEN }>();
    let count = u64::try_from(runs.len()).ok()?;
    let fits = tail.is_empty() && count == fingerprint.size.div_ceil(RUN_BYTES);
    fits.then(|| runs.iter().map(|run| Hash16(*run)).collect())
}

/// Returns the octets before the hashes.
fn emit_head(fingerprint: &Fingerprint, plan_root: &Digest) -> Vec<u8> {
    let mut head = emit(fingerprint, plan_root, &[]);
    head.truncate(head.len() - Hash16::LEN);
    head
}

const MAGIC: &[u8; 8] = b"FCPR\x01\0\0\0";

/// Octets of the file for the largest plan.
pub const MAX_FILE_BYTES: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_read_back_for_the_file_that_was_compared_alone() {
        let file = Fingerprint { size: 3 * RUN_BYTES - 5, changed_ns: 77, inode: 9 };
        let root = Digest([3; 32]);
        let runs = [Hash16([1; 16]), Hash16([2; 16]), Hash16([3; 16])];
        let octets = emit(&file, &root, &runs);
        assert_eq!(parse(&octets, &file, &root).as_deref(), Some(&runs[..]));
        for other in [
            Fingerprint { size: file.size + 1, ..file },
            Fingerprint { changed_ns: 78, ..file },
            Fingerprint { inode: 8, ..file },
        ] {
            assert_eq!(parse(&octets, &other, &root), None);
        }
        assert_eq!(parse(&octets, &file, &Digest([4; 32])), None);
        assert_eq!(parse(&emit(&file, &root, &runs[..2]), &file, &root), None);
        for at in 0..octets.len() {
            let mut changed = octets.clone();
            changed[at] ^= 1;
            assert_eq!(parse(&changed, &file, &root), None, "{at}");
            assert_eq!(parse(&octets[..at], &file, &root), None, "{at}");
        }
    }
}
