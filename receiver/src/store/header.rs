//! The header of a log, read before its object is known.

use proto::{
    crypto::{Digest, Hash16},
    flute::{ext::FTI, lct::Extensions},
    wire::{Reader, WireError},
};

use super::layout::{Content, HEADER_MAGIC, HeaderCheck, ObjectLayout, UnsignedContent};

/// Parses the header of any log of an object: the layout of the object, and the number of the
/// log; `None` when the header is damaged or of another format.
///
/// An unsigned file's name is not in it.
#[must_use]
pub(crate) fn parse(octets: &[u8]) -> Option<(ObjectLayout, u32)> {
    let (layout, file) = read(octets).ok().flatten()?;
    (layout.check_header(file, octets) == HeaderCheck::Ours).then_some((layout, file))
}

fn read(octets: &[u8]) -> Result<Option<(ObjectLayout, u32)>, WireError> {
    let mut input = Reader::new(octets);
    let magic = input.take(HEADER_MAGIC.len(), "header magic")?;
    let _version = input.u32("header version")?;
    let object_key = Hash16(input.array("object key")?);
    let stored_sha256 = Digest(input.array("stored digest")?);
    let encoding_id = input.u8("FEC Encoding ID")?;
    let information: [u8; 14] = input.array("FEC parameters")?;
    let _zero = input.u8("zero")?;
    let _slot_size = input.u32("slot size")?;
    let file = input.u32("file number")?;
    let extension = [&[FTI, 4], information.as_slice()].concat();
    let oti = Extensions::new(&extension)?.fti(encoding_id)?;
    let content = if stored_sha256 == Digest([0; 32]) {
        Content::File(Box::new(UnsignedContent {
            name: String::new(),
            md5: None,
            encoded: None,
            is_empty: false,
        }))
    } else {
        Content::Image(stored_sha256)
    };
    let layout = oti.and_then(|oti| ObjectLayout::checked(object_key, content, oti));
    Ok(layout.filter(|_| magic == HEADER_MAGIC).map(|layout| (layout, file)))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proto::{
        fec::oti::{NoCodeOti, Oti, RaptorQOti, RaptorQParameters},
        ids::{Toi, Tsi},
    };

    use super::*;
    use crate::store::{UnsignedDescription, UnsignedIdentity};

    #[test]
    fn a_header_describes_the_layout_of_its_object() {
        let oti = RaptorQOti::new(RaptorQParameters {
            transfer_length: 1408 * 30_000,
            symbol_size: 1408,
            source_blocks: 4,
            sub_blocks: 1,
            alignment: 8,
        });
        let image = ObjectLayout::new(Hash16([7; 16]), Digest([8; 32]), oti.unwrap());
        let read = parse(&image.header(2));
        assert_eq!(read, Some((image.clone(), 2)));
        let source = IpAddr::from([192, 0, 2, 1]);
        let identity = UnsignedIdentity { source, tsi: Tsi(1), toi: Toi(2) };
        let content =
            UnsignedContent { name: String::new(), md5: None, encoded: None, is_empty: false };
        let oti = Oti::NoCode(NoCodeOti::new(5000, 500, 4).unwrap());
        let location = UnsignedDescription::location_hash("a");
        let described = UnsignedDescription { length: 5000, md5: None, generation: 0, location };
        let file = ObjectLayout::unsigned(&identity, &described, oti, content).unwrap();
        assert_eq!(parse(&file.header(0)), Some((file, 0)));
        for at in 0..ObjectLayout::HEADER_BYTES {
            let mut damaged = image.header(2);
            damaged[at] ^= 1;
            assert_eq!(parse(&damaged), None, "{at}");
        }
        assert_eq!(parse(&image.header(0)[..4095]), None);
        assert_eq!(parse(&[]), None);
    }

    // test: security 6
    #[test]
    fn the_key_of_an_unsigned_file_has_all_that_describes_it() {
        let source = IpAddr::from([192, 0, 2, 1]);
        let identity = UnsignedIdentity { source, tsi: Tsi(7), toi: Toi(1) };
        let oti = Oti::NoCode(NoCodeOti::new(5000, 500, 4).unwrap());
        let location = UnsignedDescription::location_hash("file:///a.bin");
        let described = UnsignedDescription { length: 5000, md5: None, generation: 2, location };
        let key = identity.object_key(&oti, &described);
        assert_eq!(key.to_string(), "b5fccddcb85b55e9108284da44f0c24f");
        let others = [
            UnsignedDescription { length: 4999, ..described },
            UnsignedDescription { md5: Some([1; 16]), ..described },
            UnsignedDescription { generation: 3, ..described },
            UnsignedDescription { location: Hash16([0; 16]), ..described },
        ];
        assert!(others.iter().all(|other| identity.object_key(&oti, other) != key));
    }
}
