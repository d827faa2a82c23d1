//! Reads session descriptions, with tolerance and limits.

use std::{net::IpAddr, str::FromStr};

use super::{
    Channel, FecDeclaration, MAX_BYTES, MAX_CHANNELS, MAX_DECLARATIONS, MAX_LINES,
    NTP_TO_UNIX_SECONDS, Origin, SessionDescription,
};
use crate::{ids::Tsi, time::Utc, wire::WireError};

/// Parses a description; see [`SessionDescription::parse`].
pub(super) fn parse(octets: &[u8]) -> Result<SessionDescription, WireError> {
    limit("session description", octets.len(), MAX_BYTES)?;
    let text = std::str::from_utf8(octets)
        .map_err(|error| WireError::invalid("session description", error, "UTF-8"))?;
    let mut parser = Parser::default();
    for (index, line) in text.lines().enumerate() {
        limit("lines of the session description", index + 1, MAX_LINES)?;
        let line = line.trim_end();
        if line.is_empty() {
            continue;
        }
        let split = line.split_once('=');
        let (kind, value) =
            split.ok_or_else(|| WireError::invalid("line", line, "a letter, `=`, a value"))?;
        if index == 0 && kind != "v" {
            return Err(WireError::invalid("first line", line, "v=0"));
        }
        parser.line(kind, value.trim())?;
    }
    parser.finish()
}

#[derive(Default)]
struct Parser {
    version: bool,
    origin: Option<Origin>,
    name: String,
    times: (u64, u64),
    source: Option<IpAddr>,
    tsi: Option<Tsi>,
    connection: Option<(IpAddr, Option<u8>)>,
    bandwidth: Option<u64>,
    fec: Option<u32>,
    declarations: Vec<FecDeclaration>,
    channels: Vec<Media>,
    place: Place,
}

/// The part of a description that a line belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    #[default]
    Session,
    Channel,
    /// Audio, video, or a transport that is not FLUTE.
    OtherMedia,
}

struct Media {
    port: u16,
    connection: Option<(IpAddr, Option<u8>)>,
    bandwidth: Option<u64>,
    fec: Option<u32>,
}

impl Parser {
    fn line(&mut self, kind: &str, value: &str) -> Result<(), WireError> {
        if kind == "m" {
            return self.media(value);
        }
        if self.place == Place::OtherMedia {
            return Ok(());
        }
        match kind {
            "v" if value == "0" => self.version = true,
            "v" => return Err(WireError::invalid("v=", value, "0")),
            "o" => self.origin = Some(origin(value)?),
            "s" => value.clone_into(&mut self.name),
            "t" => {
                let invalid = || WireError::invalid("t=", value, "two numbers");
                let (opens, closes) = value.split_once(' ').ok_or_else(invalid)?;
                self.times = (number("t=", opens)?, number("t=", closes.trim())?);
            }
            "c" => {
                let connection = Some(connection(value)?);
                match self.channels.last_mut() {
                    Some(channel) => channel.connection = connection,
                    None => self.connection = connection,
                }
            }
            "b" => {
                if let Some(rate) = value.strip_prefix("AS:") {
                    let rate = Some(number("b=AS", rate)?);
                    match self.channels.last_mut() {
                        Some(channel) => channel.bandwidth = rate,
                        None => self.bandwidth = rate,
                    }
                }
            }
            "a" => self.attribute(value)?,
            _ => {}
        }
        Ok(())
    }

    fn media(&mut self, value: &str) -> Result<(), WireError> {
        let mut words = value.split_ascii_whitespace();
        let (kind, port, transport) = (words.next(), words.next(), words.next());
        let is_flute = kind.is_some_and(|kind| kind.eq_ignore_ascii_case("application"))
            && transport.is_some_and(|transport| transport.eq_ignore_ascii_case("FLUTE/UDP"));
        self.place = if is_flute { Place::Channel } else { Place::OtherMedia };
        if is_flute {
            limit("channels of the session", self.channels.len() + 1, MAX_CHANNELS)?;
            let port = number("m=", port.unwrap_or_default())?;
            self.channels.push(Media { port, connection: None, bandwidth: None, fec: None });
        }
        Ok(())
    }

    fn attribute(&mut self, text: &str) -> Result<(), WireError> {
        let (name, value) = text.split_once(':').unwrap_or((text, ""));
        let value = value.trim();
        match name {
            "source-filter" => {
                let source = source(value)?;
                // spec: ts26346-mbms 7.3, rfc5651 6.1, rfc6726 6 (exactly one source, one TSI)
                if self.source.is_some_and(|known| known != source) {
                    return Err(WireError::invalid("a=source-filter", source, "one source"));
                }
                self.source = Some(source);
            }
            "flute-tsi" => {
                let tsi = Tsi(number("a=flute-tsi", value)?);
                let too_long = value.len() > 15 || tsi.0 >= 1 << 48;
                if too_long || self.tsi.is_some_and(|known| known != tsi) {
                    return Err(WireError::invalid("a=flute-tsi", value, "one TSI of 48 bits"));
                }
                self.tsi = Some(tsi);
            }
            "FEC-declaration" => {
                limit("FEC declarations", self.declarations.len() + 1, MAX_DECLARATIONS)?;
                let declaration = declaration(value)?;
                self.declarations.retain(|known| known.reference != declaration.reference);
                self.declarations.push(declaration);
            }
            "FEC" => {
                let reference = Some(number("a=FEC", value)?);
                match self.channels.last_mut() {
                    Some(channel) => channel.fec = reference,
                    None => self.fec = reference,
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(self) -> Result<SessionDescription, WireError> {
        let absent = |field, expected| WireError::invalid(field, "absent", expected);
        if !self.version {
            return Err(absent("v=", "0"));
        }
        if self.channels.is_empty() {
            return Err(absent("m=", "application, a port, FLUTE/UDP"));
        }
        let channels = self.channels.into_iter().map(|media| {
            let connection = media.connection.or(self.connection);
            let (group, ttl) = connection.ok_or_else(|| absent("c=", "a group"))?;
            Ok(Channel {
                group,
                port: media.port,
                ttl,
                kilobits_per_second: media.bandwidth.or(self.bandwidth),
                fec: media.fec.or(self.fec),
            })
        });
        Ok(SessionDescription {
            origin: self.origin.ok_or_else(|| absent("o=", "who made the description"))?,
            name: self.name,
            opens: utc(self.times.0),
            closes: utc(self.times.1),
            source: self.source,
            tsi: self.tsi.ok_or_else(|| absent("a=flute-tsi", "the TSI of the session"))?,
            declarations: self.declarations,
            channels: channels.collect::<Result<_, WireError>>()?,
        })
    }
}

fn origin(value: &str) -> Result<Origin, WireError> {
    let words: Vec<&str> = value.split_ascii_whitespace().take(7).collect();
    let &[user, id, version, "IN", kind, address] = words.as_slice() else {
        return Err(WireError::invalid("o=", value, "user, id, version, IN, IP4 or IP6, address"));
    };
    let (id, version) = (number("o=", id)?, number("o=", version)?);
    Ok(Origin { user: user.to_owned(), id, version, address: address_of("o=", kind, address)? })
}

/// Reads a group, and its TTL where it has one.
fn connection(value: &str) -> Result<(IpAddr, Option<u8>), WireError> {
    let words: Vec<&str> = value.split_ascii_whitespace().take(4).collect();
    let &["IN", kind, target] = words.as_slice() else {
        return Err(WireError::invalid("c=", value, "IN, IP4 or IP6, group"));
    };
    let (address, tail) = match target.split_once('/') {
        Some((address, tail)) => (address, Some(tail)),
        None => (target, None),
    };
    let group = address_of("c=", kind, address)?;
    let ttl = match (group, tail) {
        (_, None) => None,
        (IpAddr::V4(_), Some(ttl)) => Some(number("c=", ttl)?),
        (IpAddr::V6(_), Some(_)) => return Err(WireError::invalid("c=", value, "one group")),
    };
    Ok((group, ttl))
}

/// Reads `incl IN IP4 * 192.0.2.10`.
fn source(value: &str) -> Result<IpAddr, WireError> {
    let words: Vec<&str> = value.split_ascii_whitespace().take(6).collect();
    let &["incl", "IN", kind, _, address] = words.as_slice() else {
        return Err(WireError::invalid(
            "a=source-filter",
            value,
            "incl, IN, IP4 or IP6, *, source",
        ));
    };
    address_of("a=source-filter", kind, address)
}

/// Reads `0 encoding-id=129; instance-id=0`.
fn declaration(value: &str) -> Result<FecDeclaration, WireError> {
    const FIELD: &str = "a=FEC-declaration";
    let invalid = || WireError::invalid(FIELD, value, "a reference and encoding-id=");
    let (reference, tail) = value.split_once(' ').ok_or_else(invalid)?;
    let (mut encoding_id, mut instance_id) = (None, None);
    for parameter in tail.split(';') {
        match parameter.trim().split_once('=') {
            Some(("encoding-id", id)) => encoding_id = Some(number(FIELD, id)?),
            Some(("instance-id", id)) => instance_id = Some(number(FIELD, id)?),
            Some(_) | None => {}
        }
    }
    let encoding_id = encoding_id.ok_or_else(invalid)?;
    Ok(FecDeclaration { reference: number(FIELD, reference)?, encoding_id, instance_id })
}

fn address_of(field: &'static str, kind: &str, address: &str) -> Result<IpAddr, WireError> {
    let invalid = || WireError::invalid(field, address, "an address of the family that is named");
    let parsed: IpAddr = address.parse().map_err(|_| invalid())?;
    (super::family(&parsed) == kind).then_some(parsed).ok_or_else(invalid)
}

fn number<T: FromStr>(field: &'static str, value: &str) -> Result<T, WireError> {
    let digits = !value.is_empty() && value.bytes().all(|octet| octet.is_ascii_digit());
    let number = digits.then(|| value.parse().ok()).flatten();
    number.ok_or_else(|| WireError::invalid(field, value, "a decimal number in its range"))
}

/// Returns the moment of NTP seconds; zero is no moment, and neither is one that no clock reaches.
fn utc(ntp: u64) -> Option<Utc> {
    let seconds = ntp.checked_sub(NTP_TO_UNIX_SECONDS)?;
    let at = Utc::from_seconds(seconds);
    (at.seconds() == seconds).then_some(at)
}

fn limit(field: &'static str, found: usize, limit: usize) -> Result<(), WireError> {
    if found <= limit {
        return Ok(());
    }
    let wide = |size: usize| u64::try_from(size).unwrap_or(u64::MAX);
    Err(WireError::TooLarge { field, found: wide(found), limit: wide(limit) })
}
