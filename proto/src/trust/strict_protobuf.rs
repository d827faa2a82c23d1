//! A stricter check of a protobuf message than that of prost: rejects a field that appears twice
//! where it is not repeated and, if requested, a field that the schema does not have.

use crate::wire::{Reader, WireError};

/// The fields that a message may hold.
pub(super) struct MessageSchema {
    pub(super) name: &'static str,
    pub(super) fields: &'static [Field],
    pub(super) unknown: Unknown,
}

/// One field of a message.
pub(super) struct Field {
    number: u64,
    many: bool,
    nested: Option<&'static MessageSchema>,
}

/// The treatment of a field that the schema does not have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    Refuse,
    Skip,
}

impl Field {
    pub(super) const fn one(number: u64) -> Self {
        Self { number, many: false, nested: None }
    }

    pub(super) const fn many(number: u64) -> Self {
        Self { number, many: true, nested: None }
    }

    pub(super) const fn messages(number: u64, shape: &'static MessageSchema) -> Self {
        Self { number, many: true, nested: Some(shape) }
    }
}

/// Checks that `message` has the shape that all readers agree about.
pub(super) fn scan(message: &[u8], shape: &MessageSchema) -> Result<(), WireError> {
    let mut reader = Reader::new(message);
    let mut seen: u64 = 0;
    while !reader.is_empty() {
        let tag = varint(&mut reader, shape.name)?;
        let number = tag >> 3;
        let payload = skip(&mut reader, tag & 7, shape.name)?;
        let Some(field) = shape.fields.iter().find(|field| field.number == number) else {
            if shape.unknown == Unknown::Skip {
                continue;
            }
            let found = format!("field {number}");
            return Err(WireError::invalid(shape.name, found, "only the fields of its schema"));
        };
        let bit = 1 << (number % 64);
        if !field.many && seen & bit != 0 {
            let found = format!("field {number} twice");
            return Err(WireError::invalid(shape.name, found, "every single field once"));
        }
        seen |= bit;
        if let (Some(nested), Some(payload)) = (field.nested, payload) {
            scan(payload, nested)?;
        }
    }
    Ok(())
}

fn skip<'a>(
    reader: &mut Reader<'a>,
    wire_type: u64,
    name: &'static str,
) -> Result<Option<&'a [u8]>, WireError> {
    match wire_type {
        0 => varint(reader, name).map(|_| None),
        1 => reader.take(8, name).map(|_| None),
        2 => {
            let length = varint(reader, name)?;
            reader.take(usize::try_from(length).unwrap_or(usize::MAX), name).map(Some)
        }
        5 => reader.take(4, name).map(|_| None),
        other => Err(WireError::invalid(name, format!("wire type {other}"), "0, 1, 2 or 5")),
    }
}

fn varint(reader: &mut Reader<'_>, name: &'static str) -> Result<u64, WireError> {
    let mut value: u64 = 0;
    for shift in (0..64).step_by(7) {
        let octet = reader.u8(name)?;
        value |= u64::from(octet & 0x7f) << shift;
        if octet & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(WireError::invalid(name, "a varint of more than ten octets", "at most ten octets"))
}

#[cfg(test)]
mod tests {
    use super::*;

    static INNER: MessageSchema =
        MessageSchema { name: "inner", fields: &[Field::one(1)], unknown: Unknown::Refuse };
    static OUTER: MessageSchema = MessageSchema {
        name: "outer",
        fields: &[Field::one(1), Field::messages(2, &INNER)],
        unknown: Unknown::Skip,
    };

    #[test]
    fn a_single_field_that_appears_twice_is_refused_at_any_depth() {
        assert_eq!(scan(&[0x08, 1], &OUTER), Ok(()));
        assert!(scan(&[0x08, 1, 0x08, 2], &OUTER).is_err());
        assert_eq!(scan(&[0x12, 2, 0x08, 1, 0x12, 2, 0x08, 1], &OUTER), Ok(()));
        assert!(scan(&[0x12, 4, 0x08, 1, 0x08, 1], &OUTER).is_err());
    }

    #[test]
    fn a_length_beyond_the_message_is_refused() {
        let huge = [0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        assert!(scan(&huge, &OUTER).is_err());
        assert!(scan(&[0x12, 3, 0x08], &OUTER).is_err());
        assert!(scan(&[0x80; 11], &OUTER).is_err());
    }

    #[test]
    fn unknown_fields_pass_only_where_the_schema_may_grow() {
        assert_eq!(scan(&[0x48, 1], &OUTER), Ok(()));
        assert!(scan(&[0x48, 1], &INNER).is_err());
    }
}
