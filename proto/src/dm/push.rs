//! A notification as a push: one short message (SMS) with the headers of WDP and WSP.
//!
//! ```text
//! 06 05 04 0B 84 C0 02   user data header: to port 2948, from port 49154
//! 01 06                  transaction, push
//! 03                     length of the headers
//! C4                     content type: application/vnd.syncml.notification
//! AF 87                  X-Wap-Application-Id: the DM client
//! …                      the notification
//! ```
//!
//! A larger push is split over several ([`concatenation`]). Over HTTP a push is the notification
//! alone, with its media type.

pub mod concatenation;

use super::notification::MEDIA_TYPE;
use crate::wire::{Reader, WireError};

/// The port for pushes without session.
const PUSH_PORT: u16 = 2948;
/// Ports of 16 bits: element 5 of 4 octets.
const HEADER: [u8; 7] = [0x06, 0x05, 0x04, 0x0b, 0x84, 0xc0, 0x02];
const TRANSACTION: u8 = 0x01;
const PUSH: u8 = 0x06;
/// A short integer of WSP has this bit.
const SHORT: u8 = 0x80;
/// Number of the media type.
const NOTIFICATION: u8 = 0x44;
const APPLICATION_ID: u8 = 0x2f;
const DM_CLIENT: u8 = 0x07;
/// Octets of a short message with its header, at eight bits each.
const MAX_SHORT_MESSAGE: usize = 140;
/// A length that follows in a number of its own.
const LENGTH_QUOTE: u8 = 0x1f;

/// A short message of eight-bit data, as a gateway accepts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShortMessage {
    /// The user data header, with its length.
    pub header: Vec<u8>,
    /// The data after it.
    pub data: Vec<u8>,
}

impl ShortMessage {
    /// Wraps a notification.
    ///
    /// # Errors
    ///
    /// [`WireError`] when it does not fit one short message: a server id of 90 octets does.
    // spec: oma-dm 7.2 (headers of the push)
    pub fn new(notification: &[u8]) -> Result<Self, WireError> {
        let headers = [SHORT | NOTIFICATION, SHORT | APPLICATION_ID, SHORT | DM_CLIENT];
        let mut data = vec![TRANSACTION, PUSH, 3];
        data.extend(headers);
        data.extend_from_slice(notification);
        let length = HEADER.len() + data.len();
        if length > MAX_SHORT_MESSAGE {
            let expected = "at most 140 octets with the headers of a short message";
            return Err(WireError::invalid("notification", length, expected));
        }
        Ok(Self { header: HEADER.to_vec(), data })
    }

    /// Returns header and data, as the radio carries them.
    #[must_use]
    pub fn octets(&self) -> Vec<u8> {
        [self.header.as_slice(), &self.data].concat()
    }
}

/// Returns the notification in the octets from a transport: a short message, its data without the
/// header, or the notification itself. It is not authenticated yet.
///
/// # Errors
///
/// [`WireError`] names the field at fault when it begins like a push and is another one.
// spec: oma-dm 7.2 (headers of the push)
pub fn notification_in(octets: &[u8]) -> Result<&[u8], WireError> {
    let data = match octets.strip_prefix(&[0x06, 0x05, 0x04]) {
        Some(ports) => {
            let mut reader = Reader::new(ports);
            let port = reader.u16("destination port")?;
            if port != PUSH_PORT {
                return Err(WireError::invalid("destination port", port, "2948"));
            }
            reader.u16("source port")?;
            reader.take_remaining()
        }
        None => octets,
    };
    // A notification begins with a digest, and one in 65,536 of them with octets like these: what
    // is no push behind them is therefore taken as it is.
    match data {
        [_, PUSH, headers @ ..] => match pushed(headers) {
            Err(_) if data.len() == octets.len() => Ok(data),
            other => other,
        },
        _ if data.len() == octets.len() => Ok(data),
        _ => Err(WireError::invalid("push", "another PDU", "a push (06)")),
    }
}

fn pushed(octets: &[u8]) -> Result<&[u8], WireError> {
    let mut reader = Reader::new(octets);
    let length = number(&mut reader)?;
    let headers = reader.take(length, "push headers")?;
    if !says_notification(headers)? {
        return Err(WireError::invalid("content type", "another type", MEDIA_TYPE));
    }
    Ok(reader.take_remaining())
}

/// Reads the media type, in any of its three forms.
fn says_notification(headers: &[u8]) -> Result<bool, WireError> {
    let short = SHORT | NOTIFICATION;
    let mut reader = Reader::new(headers);
    let first = reader.u8("content type")?;
    if first & SHORT != 0 {
        return Ok(first == short);
    }
    let value = if first <= LENGTH_QUOTE {
        let length = if first == LENGTH_QUOTE { number(&mut reader)? } else { usize::from(first) };
        reader.take(length, "content type")?
    } else {
        headers
    };
    let text = value.split(|octet| *octet == 0).next().unwrap_or_default();
    Ok(value.first() == Some(&short) || text.eq_ignore_ascii_case(MEDIA_TYPE.as_bytes()))
}

/// Reads a number of WSP: seven bits in an octet, the highest first.
pub(in crate::dm) fn number(reader: &mut Reader<'_>) -> Result<usize, WireError> {
    let mut value = 0_usize;
    for _ in 0..3 {
        let octet = reader.u8("length of the push headers")?;
        value = value << 7 | usize::from(octet & !SHORT);
        if octet & SHORT == 0 {
            return Ok(value);
        }
    }
    Err(WireError::invalid("length of the push headers", "longer", "at most three octets"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // test: oma-dm 7.2
    #[test]
    fn a_short_message_has_the_octets_of_the_specification() {
        let message = ShortMessage::new(b"digest and trigger").unwrap();
        let head = [0x06, 0x05, 0x04, 0x0b, 0x84, 0xc0, 0x02];
        let wsp = [0x01, 0x06, 0x03, 0xc4, 0xaf, 0x87];
        assert_eq!(message.octets(), [&head[..], &wsp, b"digest and trigger"].concat());
        assert_eq!(notification_in(&message.octets()), Ok(&b"digest and trigger"[..]));
        assert_eq!(notification_in(&message.data), Ok(&b"digest and trigger"[..]));
        assert!(ShortMessage::new(&[0; 127]).is_ok());
        let error = ShortMessage::new(&[0; 128]).unwrap_err();
        assert!(error.to_string().contains("140 octets"), "{error}");
    }

    // test: oma-dm 7.2
    #[test]
    fn the_media_type_may_be_written_in_each_of_its_forms() {
        let text = b"Application/vnd.syncml.notification\0";
        let length = u8::try_from(text.len()).unwrap();
        for headers in [
            vec![0xc4],
            vec![0x02, 0xc4, 0x81],
            vec![0x1f, 0x02, 0xc4, 0x81],
            text.to_vec(),
            [&[0x1f, length], &text[..]].concat(),
        ] {
            let push =
                [&[0x07, 0x06, u8::try_from(headers.len()).unwrap()], &headers[..], b"n"].concat();
            assert_eq!(pushed(&push[2..]), Ok(&b"n"[..]), "{headers:02x?}");
            assert_eq!(notification_in(&push), Ok(&b"n"[..]), "{headers:02x?}");
        }
    }

    #[test]
    fn another_push_is_refused_and_a_bare_notification_is_taken() {
        let to_another_port = [&[0x06, 0x05, 0x04, 0x0b, 0x85, 0xc0, 0x02], &[1, 6][..]].concat();
        assert!(notification_in(&to_another_port).is_err());
        let provisioning = [&HEADER[..], &[1, 6, 1, 0xb6], b"w7"].concat();
        let error = notification_in(&provisioning).unwrap_err();
        assert!(error.to_string().contains("content type"), "{error}");
        assert!(notification_in(&[&HEADER[..], b"no push"].concat()).is_err());
        for bare in [&b"any digest"[..], &[9, 6, 1, 2, 3], &[9, 6, 0xff, 0xff, 0xff, 0xff], &[]] {
            assert_eq!(notification_in(bare), Ok(bare));
        }
    }

    proptest! {
        #[test]
        fn no_octets_panic(octets in proptest::collection::vec(any::<u8>(), 0..40), headed: bool) {
            let whole = if headed { [&HEADER[..], &octets].concat() } else { octets };
            drop(notification_in(&whole));
        }

        #[test]
        fn what_is_wrapped_comes_out(octets in proptest::collection::vec(any::<u8>(), 0..=127)) {
            let message = ShortMessage::new(&octets).unwrap();
            let carried = message.octets();
            prop_assert_eq!(notification_in(&carried), Ok(octets.as_slice()));
        }
    }
}
