//! Reads session descriptions, with tolerance and limits.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use super::{
    Channel, FecDeclaration, Host, MAX_BYTES, MAX_CHANNELS, MAX_DECLARATIONS, MAX_LINES, MAX_ODD,
    NTP_TO_UNIX_SECONDS, Origin, SessionDescription,
};
use crate::{ids::Tsi, time::Utc, wire::WireError};

/// Parses a description; see [`SessionDescription::parse`].
pub(super) fn parse(octets: &[u8]) -> Result<SessionDescription, WireError> {
    limit("session description", octets.len(), MAX_BYTES)?;
    let octets = octets.strip_prefix(b"\xef\xbb\xbf").unwrap_or(octets);
    let text = String::from_utf8_lossy(octets);
    let mut parser = Parser::default();
    if let Err(error) = std::str::from_utf8(octets) {
        parser.odd(WireError::invalid("session description", error, "UTF-8"));
    }
    for (index, line) in text.lines().enumerate() {
        limit("lines of the session description", index + 1, MAX_LINES)?;
        let line = line.trim_end();
        if line.is_empty() {
            continue;
        }
        match line.split_once('=') {
            Some((kind, _)) if index == 0 && kind != "v" => {
                return Err(WireError::invalid("first line", line, "v=0"));
            }
            Some((kind, value)) => parser.line(kind, value.trim())?,
            None => parser.odd(WireError::invalid("line", line, "a letter, `=`, a value")),
        }
    }
    parser.finish()
}

#[derive(Default)]
struct Parser {
    version: bool,
    origin: Option<Origin>,
    name: String,
    times: Vec<(Option<Utc>, Option<Utc>)>,
    source: Option<(IpAddr, String)>,
    tsi: Option<Tsi>,
    connection: Option<Connection>,
    bandwidth: Option<u64>,
    fec: Option<u32>,
    declarations: Vec<FecDeclaration>,
    channels: Vec<Media>,
    /// Number of channels as `a=flute-ch` has it.
    stated_channels: Option<usize>,
    odd: Vec<WireError>,
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

/// Consecutive groups.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Connection {
    first: IpAddr,
    ttl: Option<u8>,
    count: u16,
}

struct Media {
    port: u16,
    ports: u16,
    /// In their order: the first is that of the FDT.
    connections: Vec<Connection>,
    bandwidth: Option<u64>,
    fec: Option<u32>,
}

impl Parser {
    /// Reads a line. Those that say where the session is must be well-formed; others are left out.
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
            "c" => self.connection(value)?,
            "a" => {
                let (name, value) = value.split_once(':').unwrap_or((value, ""));
                self.attribute(name, value.trim())?;
            }
            _ => {
                if let Err(reason) = self.detail(kind, value) {
                    self.odd(reason);
                }
            }
        }
        Ok(())
    }

    /// Takes a group of the channel, or of the session. A channel may have several: of them the
    /// first comes first.
    // spec: ts26346-mbms 7.3 (the FDT is on the first channel)
    fn connection(&mut self, value: &str) -> Result<(), WireError> {
        let connection = connection(value)?;
        if let Some(channel) = self.channels.last_mut() {
            if !channel.connections.contains(&connection) {
                limit("channels of the session", channel.connections.len() + 1, MAX_CHANNELS)?;
                channel.connections.push(connection);
            }
        } else if *self.connection.get_or_insert(connection) != connection {
            self.odd(WireError::invalid("c=", value, "one for the whole session"));
        }
        Ok(())
    }

    fn odd(&mut self, reason: WireError) {
        if self.odd.len() < MAX_ODD && !self.odd.contains(&reason) {
            self.odd.push(reason);
        }
    }

    /// Reads a line that nobody needs to join.
    fn detail(&mut self, kind: &str, value: &str) -> Result<(), WireError> {
        match kind {
            "o" => {
                let read = origin(value);
                // One that cannot be read is not absent.
                self.origin = read.as_ref().ok().cloned().or_else(|| Some(unknown_origin()));
                read?;
            }
            "s" => value.clone_into(&mut self.name),
            "t" => {
                let words: Vec<&str> = value.split_ascii_whitespace().take(3).collect();
                let &[opens, closes] = words.as_slice() else {
                    return Err(WireError::invalid("t=", value, "two numbers"));
                };
                let times = (utc(number("t=", opens)?), utc(number("t=", closes)?));
                if times.0.zip(times.1).is_some_and(|(opens, closes)| closes < opens) {
                    return Err(WireError::invalid("t=", value, "an end after the begin"));
                }
                self.times.push(times);
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
            let port = port.unwrap_or_default();
            let (port, ports) = port.split_once('/').unwrap_or((port, "1"));
            let (port, ports) = (number("m=", port)?, count("m=", ports)?);
            let connections = Vec::new();
            self.channels.push(Media { port, ports, connections, bandwidth: None, fec: None });
        }
        Ok(())
    }

    fn attribute(&mut self, name: &str, value: &str) -> Result<(), WireError> {
        match name {
            "source-filter" => {
                let (source, group) = source(value)?;
                // spec: ts26346-mbms 7.3, rfc5651 6.1, rfc6726 6 (exactly one source, one TSI)
                if self.source.as_ref().is_some_and(|(known, _)| *known != source) {
                    return Err(WireError::invalid("a=source-filter", source, "one source"));
                }
                self.source = Some((source, group.to_owned()));
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
                limit("FEC declarations", self.declarations.len() + 1, MAX_DECLARATIONS + 1)?;
                if let Err(reason) = self.declare(value) {
                    self.odd(reason);
                }
            }
            _ => {
                if let Err(reason) = self.other_attribute(name, value) {
                    self.odd(reason);
                }
            }
        }
        Ok(())
    }

    fn declare(&mut self, value: &str) -> Result<(), WireError> {
        let declaration = declaration(value)?;
        let known = self.declarations.iter_mut().find(|it| it.reference == declaration.reference);
        match known {
            None => {
                limit("FEC declarations", self.declarations.len() + 1, MAX_DECLARATIONS)?;
                self.declarations.push(declaration);
            }
            Some(known) if *known == declaration => {}
            Some(known) => {
                *known = declaration;
                let expected = "the same wherever it is declared";
                return Err(WireError::invalid("a=FEC-declaration", value, expected));
            }
        }
        Ok(())
    }

    fn other_attribute(&mut self, name: &str, value: &str) -> Result<(), WireError> {
        match name {
            "FEC" => {
                let reference = number("a=FEC", value)?;
                let place = match self.channels.last_mut() {
                    Some(channel) => &mut channel.fec,
                    None => &mut self.fec,
                };
                if place.replace(reference).is_some_and(|known| known != reference) {
                    return Err(WireError::invalid("a=FEC", value, "one scheme for a channel"));
                }
            }
            "flute-ch" => {
                let stated = number("a=flute-ch", value)?;
                if self.stated_channels.replace(stated).is_some_and(|known| known != stated) {
                    return Err(WireError::invalid("a=flute-ch", value, "one number"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(mut self) -> Result<SessionDescription, WireError> {
        let absent = |field, expected| WireError::invalid(field, "absent", expected);
        if !self.version {
            return Err(absent("v=", "0"));
        }
        if self.channels.is_empty() {
            return Err(absent("m=", "application, a port, FLUTE/UDP"));
        }
        let channels = self.all_channels()?;
        self.compare(&channels);
        if self.origin.is_none() {
            self.odd(absent("o=", "who made the description"));
        }
        // Several times: from the first begin to the last end.
        let (opens, closes): (Vec<_>, Vec<_>) = self.times.iter().copied().unzip();
        let bounded = |times: &[Option<Utc>]| times.iter().all(Option::is_some);
        let opens = opens.iter().min().copied().filter(|_| bounded(&opens)).flatten();
        let closes = closes.iter().max().copied().filter(|_| bounded(&closes)).flatten();
        Ok(SessionDescription {
            origin: self.origin.unwrap_or_else(unknown_origin),
            name: self.name,
            opens,
            closes,
            source: self.source.map(|(source, _)| source),
            tsi: self.tsi.ok_or_else(|| absent("a=flute-tsi", "the TSI of the session"))?,
            declarations: self.declarations,
            channels,
            odd: self.odd,
        })
    }

    /// Returns each channel: a media line may have several groups, ports, or both.
    fn all_channels(&self) -> Result<Vec<Channel>, WireError> {
        let mut channels = Vec::new();
        for media in &self.channels {
            let own = media.connections.as_slice();
            let common = self.connection.as_slice();
            let groups: Vec<_> = if own.is_empty() { common } else { own }
                .iter()
                .flat_map(Connection::groups)
                .collect();
            let first =
                groups.first().ok_or_else(|| WireError::invalid("c=", "absent", "a group"))?;
            let ports = usize::from(media.ports);
            if groups.len() > 1 && ports > 1 && groups.len() != ports {
                let expected = "as many ports as groups";
                return Err(WireError::invalid("m=", media.ports, expected));
            }
            for (step, place) in (0..groups.len().max(ports)).zip(0_u16..) {
                limit("channels of the session", channels.len() + 1, MAX_CHANNELS)?;
                let port =
                    if media.ports > 1 { media.port.checked_add(place) } else { Some(media.port) };
                let beyond = || WireError::invalid("m=", media.port, "ports up to 65535");
                let (group, ttl) = *groups.get(step).unwrap_or(first);
                channels.push(Channel {
                    group,
                    port: port.ok_or_else(beyond)?,
                    ttl,
                    kilobits_per_second: media.bandwidth.or(self.bandwidth),
                    fec: media.fec.or(self.fec),
                });
            }
        }
        Ok(channels)
    }

    /// Compares what is said twice.
    fn compare(&mut self, channels: &[Channel]) {
        if let Some(stated) = self.stated_channels.filter(|stated| *stated != channels.len()) {
            let expected = "the number of channels that are described";
            self.odd(WireError::invalid("a=flute-ch", stated, expected));
        }
        let undeclared = channels.iter().filter_map(|channel| channel.fec).find(|reference| {
            self.declarations.iter().all(|declaration| declaration.reference != *reference)
        });
        if let Some(reference) = undeclared {
            self.odd(WireError::invalid("a=FEC", reference, "a declared reference"));
        }
        let destination = self.source.as_ref().map(|(_, group)| group.clone());
        let destination = destination.filter(|group| group != "*");
        let is_channel =
            |group: &String| channels.iter().any(|channel| channel.group.to_string() == *group);
        if let Some(group) = destination.filter(|group| !is_channel(group)) {
            let expected = "* or the group of a channel as its destination";
            self.odd(WireError::invalid("a=source-filter", group, expected));
        }
    }
}

impl Connection {
    /// Returns each group and its TTL.
    fn groups(&self) -> impl Iterator<Item = (IpAddr, Option<u8>)> + use<> {
        let Self { first, ttl, count } = *self;
        (0..count).map(move |step| (following(first, step), ttl))
    }
}

/// Returns the address `step` after `first`.
fn following(first: IpAddr, step: u16) -> IpAddr {
    match first {
        IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits().wrapping_add(step.into())).into(),
        IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits().wrapping_add(step.into())).into(),
    }
}

/// Returns the origin of a description that does not name one.
fn unknown_origin() -> Origin {
    let host = IpAddr::V4(Ipv4Addr::UNSPECIFIED).into();
    Origin { user: "-".to_owned(), id: 0, version: 0, host }
}

fn origin(value: &str) -> Result<Origin, WireError> {
    let words: Vec<&str> = value.split_ascii_whitespace().take(7).collect();
    let &[user, id, version, "IN", kind, host] = words.as_slice() else {
        return Err(WireError::invalid("o=", value, "user, id, version, IN, IP4 or IP6, host"));
    };
    let (id, version) = (number("o=", id)?, number("o=", version)?);
    let host = match address_of("o=", kind, host) {
        Ok(address) => Host::Address(address),
        Err(error) if host.parse::<IpAddr>().is_ok() => return Err(error),
        Err(error) => Host::name(host).ok_or(error)?,
    };
    Ok(Origin { user: user.to_owned(), id, version, host })
}

/// Reads groups, and their TTL where they have one: `239.1.1.1/8/3`, `ff3e::1/3`.
fn connection(value: &str) -> Result<Connection, WireError> {
    let words: Vec<&str> = value.split_ascii_whitespace().take(4).collect();
    let &["IN", kind, target] = words.as_slice() else {
        return Err(WireError::invalid("c=", value, "IN, IP4 or IP6, group"));
    };
    let mut parts = target.split('/');
    let first = address_of("c=", kind, parts.next().unwrap_or_default())?;
    let ttl = match first {
        IpAddr::V4(_) => parts.next().map(|ttl| number("c=", ttl)).transpose()?,
        IpAddr::V6(_) => None,
    };
    let count = parts.next().map_or(Ok(1), |number| count("c=", number))?;
    if parts.next().is_some() {
        return Err(WireError::invalid("c=", value, "a group, its TTL, a number of groups"));
    }
    Ok(Connection { first, ttl, count })
}

/// Reads a number of groups or ports.
fn count(field: &'static str, value: &str) -> Result<u16, WireError> {
    let count: u16 = number(field, value)?;
    match usize::from(count) {
        1..=MAX_CHANNELS => Ok(count),
        _ => Err(WireError::invalid(field, value, "a number of channels from 1 to 8")),
    }
}

/// Reads `incl IN IP4 * 192.0.2.10`: the source, and the destination as it is written.
fn source(value: &str) -> Result<(IpAddr, &str), WireError> {
    let words: Vec<&str> = value.split_ascii_whitespace().take(6).collect();
    let &["incl", "IN", kind, destination, address] = words.as_slice() else {
        return Err(WireError::invalid(
            "a=source-filter",
            value,
            "incl, IN, IP4 or IP6, *, source",
        ));
    };
    Ok((address_of("a=source-filter", kind, address)?, destination))
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
    let parsed: IpAddr = address
        .parse()
        .map_err(|_| WireError::invalid(field, address, "an address: no name is looked up"))?;
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
