//! Bootstrap by smart card: the image of the card's bootstrap file, as a reader of the card stores
//! it.
//!
//! ```text
//! 46 43 42 53   "FCBS"
//! 01            version
//! 00 or 01      flags: bit 0, the user confirms before anything of it is used
//! nn …          length of the card's number (ICCID), and its decimal digits
//! …             a provisioning document with an APPLICATION w7; INIT begins a session at once
//! 32 octets     SHA-256 of all before
//! ```
//!
//! The card authenticates the file: only a holder of the card's keys can write it.

use super::{prov, w7::Account};
use crate::{
    crypto::sha256,
    wire::{Reader, WireError},
};

const MAGIC: [u8; 4] = *b"FCBS";
const VERSION: u8 = 1;
const CONFIRM: u8 = 1;
/// Digits of a card's number.
const MAX_NUMBER: usize = 20;
const DIGEST_BYTES: usize = 32;

/// The content of a card's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// The card's number (ICCID), decimal.
    pub number: String,
    /// The confirmation that the user must give.
    pub confirmation: Confirmation,
    /// The account.
    pub account: Account,
}

/// The confirmation by the user before the card's account is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmation {
    /// The user must confirm.
    Wanted,
    /// No confirmation is needed.
    NotWanted,
}

impl Card {
    /// Reads an image.
    ///
    /// # Errors
    ///
    /// [`WireError`] names the field at fault.
    pub fn parse(octets: &[u8]) -> Result<Self, WireError> {
        let length = octets.len().saturating_sub(DIGEST_BYTES);
        let (said, digest) = octets.split_at_checked(length).unwrap_or_default();
        let mut reader = Reader::new(said);
        if reader.array::<4>("magic number")? != MAGIC {
            return Err(WireError::invalid("magic number", "another", "FCBS"));
        }
        let version = reader.u8("version")?;
        if version != VERSION {
            return Err(WireError::invalid("version", version, "1"));
        }
        if sha256(&[said]).0 != digest {
            return Err(WireError::invalid("digest", "another", "that of the image"));
        }
        let flags = reader.u8("flags")?;
        if flags & !CONFIRM != 0 {
            return Err(WireError::invalid("flags", flags, "bit 0 alone"));
        }
        let length = usize::from(reader.u8("length of the card's number")?);
        let number = std::str::from_utf8(reader.take(length, "card's number")?).unwrap_or_default();
        if !(1..=MAX_NUMBER).contains(&length) || !number.bytes().all(|it| it.is_ascii_digit()) {
            return Err(WireError::invalid("card's number", "another", "1 to 20 digits"));
        }
        let document = prov::parse(reader.take_remaining()).map_err(|error| {
            WireError::invalid("provisioning document", error, "WBXML with an APPLICATION w7")
        })?;
        let confirm = flags & CONFIRM != 0;
        Ok(Self {
            number: number.to_owned(),
            confirmation: if confirm { Confirmation::Wanted } else { Confirmation::NotWanted },
            account: Account::find(&document)?,
        })
    }

    /// Writes an image.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let flags = if self.confirmation == Confirmation::Wanted { CONFIRM } else { 0 };
        let mut out = MAGIC.to_vec();
        let length = u8::try_from(self.number.len()).unwrap_or(u8::MAX);
        out.extend([VERSION, flags, length]);
        out.extend_from_slice(self.number.as_bytes());
        out.extend(prov::emit(&[self.account.to_characteristic()]));
        let digest = sha256(&[&out]);
        out.extend(digest.0);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dm::bootstrap::w7::{Address, Credentials};

    fn card() -> Card {
        Card {
            number: "8949000000000000001".to_owned(),
            confirmation: Confirmation::Wanted,
            account: Account {
                server_id: "fumocast".to_owned(),
                begin: true,
                addresses: vec![Address {
                    address: "https://dm.example/dm".to_owned(),
                    ..Address::default()
                }],
                credentials: vec![Credentials::default()],
                ..Account::default()
            },
        }
    }

    // test: oma-dm 9
    #[test]
    fn a_card_survives_its_image() {
        for confirmation in [Confirmation::Wanted, Confirmation::NotWanted] {
            let card = Card { confirmation, ..card() };
            assert_eq!(Card::parse(&card.emit()), Ok(card));
        }
    }

    #[test]
    fn an_image_that_was_cut_or_changed_is_refused() {
        let octets = card().emit();
        for length in 0..octets.len() {
            assert!(Card::parse(&octets[..length]).is_err(), "{length}");
        }
        for place in 0..octets.len() {
            let mut changed = octets.clone();
            changed[place] ^= 0x10;
            assert!(Card::parse(&changed).is_err(), "{place}");
        }
        for number in ["", "12x", "123456789012345678901"] {
            let odd = Card { number: number.to_owned(), ..card() };
            assert!(Card::parse(&odd.emit()).is_err(), "{number}");
        }
    }
}
