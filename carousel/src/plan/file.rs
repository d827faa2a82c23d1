//! The plan file: the records of one whole pass in sending order, behind a head.
//!
//! ```text
//!    0  "FCPF"   4  version = 1   5  zero (3)   8  length of the plan header (2)   10  zero (6)
//!   16  plan header, then zeros
//! 4080  H16 over the octets before
//! 4096  records, see `plan::schedule`
//! ```
//!
//! It is written to a temporary name: records in any order, the head last, then synced and
//! renamed. A power cut before that leaves the temporary file, which the next run replaces; a file
//! under its own name is whole.

use proto::{
    crypto::{Hash16, h16},
    trust::plan::MAX_HEADER_BYTES,
    wire::{Reader, WireError, Writer},
};

use crate::plan::schedule::HEAD_BYTES;

const MAGIC: [u8; 8] = *b"FCPF\x01\0\0\0";
const HASHED_BYTES: usize = 4080;

/// Octets of the head of a plan file.
pub type Head = [u8; 4096];

/// Returns the head of a file with this plan header.
///
/// # Panics
///
/// Never: a plan header is at most 1,088 octets long.
#[must_use]
pub fn emit_head(plan_header: &[u8]) -> Vec<u8> {
    let length = u16::try_from(plan_header.len()).expect("a plan header has at most 1,088 octets");
    let mut head = Vec::new();
    Writer::new(&mut head).bytes(&MAGIC).u16(length).zeros(6).bytes(plan_header);
    debug_assert!(head.len() <= HASHED_BYTES, "a plan header has at most 1,088 octets");
    head.resize(HASHED_BYTES, 0);
    let check = h16(&[&head]);
    head.extend_from_slice(&check.0);
    debug_assert_eq!(u64::try_from(head.len()), Ok(HEAD_BYTES));
    head
}

/// Reads the head of a file; returns its plan header, which is not compared with anything yet.
///
/// # Errors
///
/// [`WireError`] when it is no plan file, one of another version, or damaged.
pub fn parse_head(head: &Head) -> Result<Vec<u8>, WireError> {
    let mut input = Reader::new(head);
    let magic: [u8; 8] = input.array("plan file magic")?;
    if magic != MAGIC {
        let found = String::from_utf8_lossy(&magic).escape_debug().to_string();
        return Err(WireError::invalid("plan file magic", found, "FCPF, version 1"));
    }
    let length = usize::from(input.u16("length of the plan header")?);
    if length > MAX_HEADER_BYTES {
        return Err(WireError::invalid("length of the plan header", length, "at most 1088"));
    }
    input.take(6, "zero")?;
    let header = input.take(length, "plan header")?;
    let (hashed, check) = head.split_at(HASHED_BYTES);
    if h16(&[hashed]).0 != check {
        let stored = Hash16(check.try_into().expect("16 octets are left"));
        return Err(WireError::invalid("check of the plan file's head", stored, "its hash"));
    }
    Ok(header.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_gives_its_plan_header_back() {
        let header: Vec<u8> = (0..192).collect();
        let head: Head = emit_head(&header).try_into().unwrap();
        assert_eq!(parse_head(&head), Ok(header));
    }

    #[test]
    fn every_changed_octet_of_a_head_is_noticed() {
        let head: Head = emit_head(&[7; 1088]).try_into().unwrap();
        for at in 0..head.len() {
            let mut changed = head;
            changed[at] ^= 1;
            assert!(parse_head(&changed).is_err(), "{at}");
        }
    }
}
