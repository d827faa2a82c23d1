//! FEC parameters without the name of their scheme.

use crate::{
    fec::{
        ENCODING_ID_NO_CODE, ENCODING_ID_RAPTORQ,
        oti::{NoCodeOti, Oti, RaptorQOti, RaptorQParameters},
    },
    wire::WireError,
};

/// FEC parameters of an entry that does not name its scheme.
///
/// # Source
///
/// RFC 6726 §5: the codepoint of each packet is the FEC Encoding ID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnnamedOti {
    /// FEC-OTI-Encoding-Symbol-Length, in octets.
    pub symbol_length: u64,
    /// FEC-OTI-Maximum-Source-Block-Length, in symbols.
    pub block_length: Option<u64>,
    /// FEC-OTI-Scheme-Specific-Info.
    pub scheme_specific: Option<Vec<u8>>,
}

impl UnnamedOti {
    /// Returns the parameters in the scheme with this id; `None` when it is not one of ours, or
    /// needs more than there is.
    ///
    /// # Errors
    ///
    /// [`WireError`] when they are not valid.
    pub fn named(&self, encoding_id: u64, length: u64) -> Result<Option<Oti>, WireError> {
        let symbol_size = u16::try_from(self.symbol_length).map_err(|_| WireError::TooLarge {
            field: "FEC-OTI-Encoding-Symbol-Length",
            found: self.symbol_length,
            limit: u16::MAX.into(),
        })?;
        if encoding_id == u64::from(ENCODING_ID_NO_CODE) {
            let Some(block) = self.block_length else { return Ok(None) };
            let block = u32::try_from(block).unwrap_or(u32::MAX);
            return Ok(Some(Oti::NoCode(NoCodeOti::new(length, symbol_size, block)?)));
        }
        if encoding_id == u64::from(ENCODING_ID_RAPTORQ) {
            let Some(info) = self.scheme_specific.as_deref() else { return Ok(None) };
            let &[source_blocks, n1, n0, alignment] = info else {
                let expected = "4 octets for RaptorQ";
                return Err(WireError::invalid(
                    "FEC-OTI-Scheme-Specific-Info",
                    info.len(),
                    expected,
                ));
            };
            let oti = RaptorQOti::new(RaptorQParameters {
                transfer_length: length,
                symbol_size,
                source_blocks,
                sub_blocks: u16::from_be_bytes([n1, n0]),
                alignment,
            })?;
            return Ok(Some(Oti::RaptorQ(oti)));
        }
        Ok(None)
    }
}
