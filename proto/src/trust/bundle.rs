//! A bundle: the signed documents and one image in a tar file, documents first.
//!
//! ```text
//! manifest.env  campaign.env  N.img        ustar, in this order; N is the component
//! ```
//!
//! A device verifies the documents in the head before it stores the image. The same file
//! serves as a package over DM, over HTTP in ranges, and from local media. `tar tf` lists it.

use crate::{ids::ComponentId, wire::WireError};

use super::envelope::MAX_ENVELOPE_BYTES;

/// The media type of a bundle.
pub const MEDIA_TYPE: &str = "application/vnd.fumocast.bundle";

/// Octets in which the image begins at the latest.
pub const MAX_HEAD: usize = 64 * 1024;

const BLOCK: usize = 512;
const MANIFEST: &str = "manifest.env";
const CAMPAIGN: &str = "campaign.env";
const IMAGE_SUFFIX: &str = ".img";

/// The documents and headers before the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleHead {
    /// The manifest's envelope.
    pub manifest: Vec<u8>,
    /// The campaign's envelope.
    pub campaign: Vec<u8>,
    /// The component that the image is.
    pub component: ComponentId,
    /// Offset of the image.
    pub image_offset: u64,
    /// Octets of the image.
    pub image_octets: u64,
}

impl BundleHead {
    /// Parses the head of a bundle; the octets after the image's header are ignored.
    ///
    /// # Errors
    ///
    /// [`WireError`] when it is no bundle, or its documents are missing or too large.
    pub fn parse(octets: &[u8]) -> Result<Self, WireError> {
        let octets = octets.get(..MAX_HEAD.min(octets.len())).unwrap_or_default();
        let (mut manifest, mut campaign) = (None, None);
        let mut at = 0;
        loop {
            let header = octets.get(at..).and_then(|remaining| remaining.first_chunk::<BLOCK>());
            let header = header.ok_or_else(|| invalid("its end", "an image"))?;
            let (name, size) = read_header(header)?;
            at += BLOCK;
            if let Some(number) = name.strip_suffix(IMAGE_SUFFIX) {
                let component = number.parse().map_err(|_| invalid(&name, "N.img"))?;
                return Ok(Self {
                    manifest: manifest.ok_or_else(|| invalid(&name, MANIFEST))?,
                    campaign: campaign.ok_or_else(|| invalid(&name, CAMPAIGN))?,
                    component: ComponentId(component),
                    image_offset: u64::try_from(at).unwrap_or(u64::MAX),
                    image_octets: size,
                });
            }
            let length = usize::try_from(size).ok().filter(|it| *it <= MAX_ENVELOPE_BYTES);
            let length = length.ok_or_else(|| invalid(&name, "at most 4096 octets"))?;
            let document = octets.get(at..at + length);
            let document = document.ok_or_else(|| invalid(&name, "its octets"))?.to_vec();
            match name.as_str() {
                MANIFEST => manifest = Some(document),
                CAMPAIGN => campaign = Some(document),
                _ => return Err(invalid(&name, "manifest.env, campaign.env or N.img")),
            }
            at += length.next_multiple_of(BLOCK);
        }
    }

    /// Returns all that stands before the image.
    #[must_use]
    pub fn emit(
        manifest: &[u8],
        campaign: &[u8],
        (component, image_octets): (ComponentId, u64),
    ) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, document) in [(MANIFEST, manifest), (CAMPAIGN, campaign)] {
            out.extend(header(name, u64::try_from(document.len()).unwrap_or(u64::MAX)));
            out.extend_from_slice(document);
            out.resize(out.len().next_multiple_of(BLOCK), 0);
        }
        out.extend(header(&format!("{}{IMAGE_SUFFIX}", component.0), image_octets));
        out
    }

    /// Returns all that stands behind an image of so many octets.
    #[must_use]
    pub fn tail(image_octets: u64) -> Vec<u8> {
        let padding = image_octets.next_multiple_of(BLOCK as u64) - image_octets;
        vec![0; usize::try_from(padding).unwrap_or_default() + 2 * BLOCK]
    }

    /// Returns the octets of the whole bundle.
    #[must_use]
    pub fn bundle_octets(&self) -> u64 {
        let tail = u64::try_from(Self::tail(self.image_octets).len()).unwrap_or_default();
        self.image_offset.saturating_add(self.image_octets).saturating_add(tail)
    }
}

fn header(name: &str, size: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let size = format!("{size:011o}");
    let fields: [(usize, &[u8]); 9] = [
        (0, name.as_bytes()),
        (100, b"0000644"),
        (108, b"0000000"),
        (116, b"0000000"),
        (124, size.as_bytes()),
        (136, b"00000000000"),
        (148, b"        "),
        (156, b"0"),
        (257, b"ustar\x0000"),
    ];
    for (at, text) in fields {
        put(&mut block, at, text);
    }
    let sum = format!("{:06o}\0 ", checksum(&block));
    put(&mut block, 148, sum.as_bytes());
    block
}

fn put(block: &mut [u8; BLOCK], at: usize, text: &[u8]) {
    for (place, octet) in block.iter_mut().skip(at).zip(text) {
        *place = *octet;
    }
}

/// The sum of a header's octets, its own field taken as blanks.
fn checksum(block: &[u8; BLOCK]) -> u64 {
    let octet = |(at, octet): (usize, &u8)| if (148..156).contains(&at) { 32 } else { *octet };
    block.iter().enumerate().map(octet).map(u64::from).sum()
}

/// Checks that a header equals the one that this program writes, octet for octet.
fn read_header(block: &[u8; BLOCK]) -> Result<(String, u64), WireError> {
    let text = |from: usize, length: usize| {
        let field = block.get(from..from + length).unwrap_or_default();
        let end = field.iter().position(|octet| *octet == 0).unwrap_or(length);
        std::str::from_utf8(field.get(..end).unwrap_or_default()).unwrap_or_default()
    };
    let name = text(0, 100);
    let size = u64::from_str_radix(text(124, 12), 8).ok();
    match size.filter(|size| header(name, *size) == *block) {
        Some(size) => Ok((name.to_owned(), size)),
        None => Err(invalid("a block", "a header as `carousel bundle` writes it")),
    }
}

fn invalid(found: &str, expected: &'static str) -> WireError {
    WireError::invalid("bundle", found, expected)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bundle() -> Vec<u8> {
        let mut octets = BundleHead::emit(&[1; 700], &[2; 512], (ComponentId(3), 1000));
        octets.extend([7; 1000]);
        octets.extend(BundleHead::tail(1000));
        octets
    }

    #[test]
    fn a_bundle_is_read_as_it_was_written_and_tar_lists_it() {
        let octets = bundle();
        let head = BundleHead::parse(&octets).unwrap();
        assert_eq!((head.manifest.len(), head.campaign.len()), (700, 512));
        assert_eq!((head.component, head.image_octets), (ComponentId(3), 1000));
        assert_eq!(head.bundle_octets(), octets.len() as u64);
        let image = usize::try_from(head.image_offset).unwrap();
        assert_eq!(octets[image..image + 1000], [7; 1000]);
        assert_eq!(octets.len() % BLOCK, 0);
    }

    #[test]
    fn every_prefix_of_the_head_and_every_flipped_octet_of_a_header_is_refused() {
        let octets = bundle();
        let head = usize::try_from(BundleHead::parse(&octets).unwrap().image_offset).unwrap();
        for length in 0..head {
            assert!(BundleHead::parse(&octets[..length]).is_err(), "{length}");
        }
        for at in 0..BLOCK {
            let mut wrong = octets.clone();
            wrong[at] ^= 1;
            assert!(BundleHead::parse(&wrong).is_err(), "{at}");
        }
    }

    #[test]
    fn what_is_no_bundle_of_ours_is_refused() {
        let entry = |name: &str, size| header(name, size).to_vec();
        for octets in [
            entry("0.img", 5),
            entry("other", 0),
            entry("manifest.env", 4097),
            entry("x.img", 5),
            [BundleHead::emit(&[], &[], (ComponentId(0), 1))[..BLOCK].to_vec(), entry("0.img", 1)]
                .concat(),
        ] {
            assert!(BundleHead::parse(&octets).is_err());
        }
    }

    proptest! {
        #[test]
        fn no_octets_are_too_strange(octets in prop::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert!(BundleHead::parse(&octets).is_err());
        }
    }
}
