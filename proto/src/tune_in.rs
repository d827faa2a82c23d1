//! The `fumocast:` URL and the window that arm a device.
//!
//! ```text
//! fumocast://GROUP:PORT/TSI?s=SOURCE&c=CAMPAIGN_ID&h=DIGEST[&o=COMPONENT]
//! ```
//!
//! Neither is signed: both arrive in the authenticated DM session, within the limits of the signed
//! campaign.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{
    crypto::Digest,
    ids::{CampaignId, ComponentId, Tsi},
    time::Utc,
    wire::WireError,
};

/// The scheme, with the colon and slashes that follow it.
pub const SCHEME: &str = "fumocast://";

/// Octets of a URL at most; the longest that can be written has about 190.
const MAX_URL_BYTES: usize = 256;

/// The `fumocast:` URL of a campaign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TuneIn {
    /// Multicast group and UDP port.
    pub channel: SocketAddr,
    /// 1..2^32.
    pub tsi: Tsi,
    /// Address that the image server sends from; of the group's family.
    pub source: IpAddr,
    /// The campaign that the session carries.
    pub campaign: CampaignId,
    /// H(document) of that campaign.
    pub campaign_digest: Digest,
    /// The one component to receive; absent: all.
    pub component: Option<ComponentId>,
}

/// The wall-clock span in which a carousel is on air.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The first moment on air.
    pub opens: Utc,
    /// The first moment off the air again.
    pub closes: Utc,
}

impl FromStr for TuneIn {
    type Err = WireError;

    /// Parses a URL. Parameters are in any order, each once; unknown ones are rejected.
    fn from_str(url: &str) -> Result<Self, WireError> {
        if url.len() > MAX_URL_BYTES {
            let found = u64::try_from(url.len()).unwrap_or(u64::MAX);
            return Err(WireError::TooLarge { field: "tune-in URL", found, limit: 256 });
        }
        let tail = url
            .strip_prefix(SCHEME)
            .ok_or_else(|| WireError::invalid("tune-in URL", url, "fumocast://…"))?;
        let (place, query) = tail
            .split_once('?')
            .ok_or_else(|| WireError::invalid("tune-in URL", url, "parameters s, c and h"))?;
        let (channel, tsi) = place
            .split_once('/')
            .ok_or_else(|| WireError::invalid("tune-in URL", url, "GROUP:PORT/TSI"))?;
        let parameters = Parameters::read(query)?;
        let tune_in = Self {
            channel: read_channel(channel)?,
            tsi: read_tsi(tsi)?,
            source: read_address(parameters.source.ok_or_else(|| missing("s"))?)?,
            campaign: parameters.campaign.ok_or_else(|| missing("c"))?.parse()?,
            campaign_digest: read_digest(parameters.digest.ok_or_else(|| missing("h"))?)?,
            component: parameters.component.map(read_component).transpose()?,
        };
        if tune_in.source.is_ipv4() != tune_in.channel.is_ipv4() {
            return Err(WireError::invalid("source", tune_in.source, "the family of the group"));
        }
        Ok(tune_in)
    }
}

impl fmt::Display for TuneIn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digest = URL_SAFE_NO_PAD.encode(self.campaign_digest.0);
        write!(formatter, "{SCHEME}{}/{}?s=", self.channel, self.tsi.0)?;
        match self.source {
            IpAddr::V4(source) => write!(formatter, "{source}")?,
            IpAddr::V6(source) => write!(formatter, "[{source}]")?,
        }
        write!(formatter, "&c={}&h={digest}", self.campaign)?;
        match self.component {
            Some(component) => write!(formatter, "&o={}", component.0),
            None => Ok(()),
        }
    }
}

#[derive(Default)]
struct Parameters<'a> {
    source: Option<&'a str>,
    campaign: Option<&'a str>,
    digest: Option<&'a str>,
    component: Option<&'a str>,
}

impl<'a> Parameters<'a> {
    fn read(query: &'a str) -> Result<Self, WireError> {
        let mut parameters = Self::default();
        for pair in query.split('&') {
            let (name, value) = pair
                .split_once('=')
                .ok_or_else(|| WireError::invalid("URL parameter", pair, "name=value"))?;
            let slot = match name {
                "s" => &mut parameters.source,
                "c" => &mut parameters.campaign,
                "h" => &mut parameters.digest,
                "o" => &mut parameters.component,
                _ => return Err(WireError::invalid("URL parameter", name, "s, c, h or o")),
            };
            if slot.replace(value).is_some() {
                return Err(WireError::invalid("URL parameter", name, "each once"));
            }
        }
        Ok(parameters)
    }
}

fn missing(name: &'static str) -> WireError {
    WireError::invalid("URL parameter", format!("no {name}"), "parameters s, c and h")
}

fn read_channel(text: &str) -> Result<SocketAddr, WireError> {
    let channel: SocketAddr = text
        .parse()
        .map_err(|_| WireError::invalid("group and port", text, "an address and a port"))?;
    if !channel.ip().is_multicast() {
        return Err(WireError::invalid("group", channel.ip(), "a multicast address"));
    }
    if channel.port() == 0 {
        return Err(WireError::invalid("port", 0, "1 to 65535"));
    }
    Ok(channel)
}

/// Reads digits only: `u64::from_str` would take a sign too.
fn read_decimal(field: &'static str, text: &str, expected: &'static str) -> Result<u64, WireError> {
    let plain = !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
    let value = if plain { text.parse().ok() } else { None };
    value.ok_or_else(|| WireError::invalid(field, text, expected))
}

fn read_tsi(text: &str) -> Result<Tsi, WireError> {
    const RANGE: &str = "1 to 4294967295";
    let tsi = read_decimal("TSI", text, RANGE)?;
    if (1..=u64::from(u32::MAX)).contains(&tsi) {
        Ok(Tsi(tsi))
    } else {
        Err(WireError::invalid("TSI", tsi, RANGE))
    }
}

fn read_address(text: &str) -> Result<IpAddr, WireError> {
    let bracketed = text.strip_prefix('[').and_then(|tail| tail.strip_suffix(']'));
    match bracketed {
        Some(text) => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => text.parse().ok().map(IpAddr::V4),
    }
    .filter(|address| !address.is_multicast() && !address.is_unspecified())
    .ok_or_else(|| WireError::invalid("source", text, "a unicast address"))
}

fn read_digest(text: &str) -> Result<Digest, WireError> {
    URL_SAFE_NO_PAD
        .decode(text)
        .ok()
        .and_then(|octets| octets.try_into().ok())
        .map(Digest)
        .ok_or_else(|| WireError::invalid("campaign digest", text, "base64url of 32 octets"))
}

fn read_component(text: &str) -> Result<ComponentId, WireError> {
    const RANGE: &str = "0 to 255";
    let id = read_decimal("component", text, RANGE)?;
    u8::try_from(id).map(ComponentId).map_err(|_| WireError::invalid("component", id, RANGE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::sha256;

    const VECTOR: &str = "fumocast://232.1.2.3:3400/7?s=192.0.2.1&c=000102030405060708090a0b0c0d0e0f&h=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU";

    fn vector() -> TuneIn {
        TuneIn {
            channel: "232.1.2.3:3400".parse().unwrap(),
            tsi: Tsi(7),
            source: "192.0.2.1".parse().unwrap(),
            campaign: "000102030405060708090a0b0c0d0e0f".parse().unwrap(),
            campaign_digest: sha256(&[]),
            component: None,
        }
    }

    #[test]
    fn the_vector_is_written_and_read() {
        assert_eq!(vector().to_string(), VECTOR);
        assert_eq!(VECTOR.parse(), Ok(vector()));
    }

    #[test]
    fn six_octets_groups_are_bracketed() {
        let six = TuneIn {
            channel: "[ff3e::1]:3400".parse().unwrap(),
            source: "2001:db8::1".parse().unwrap(),
            component: Some(ComponentId(9)),
            ..vector()
        };
        let text = six.to_string();
        assert!(text.contains("//[ff3e::1]:3400/7?s=[2001:db8::1]&"), "{text}");
        assert_eq!(text.parse(), Ok(six));
    }

    #[test]
    fn parameters_are_read_in_any_order() {
        let (place, query) = VECTOR.split_once('?').unwrap();
        let mut pairs: Vec<_> = query.split('&').collect();
        pairs.reverse();
        assert_eq!(format!("{place}?{}", pairs.join("&")).parse(), Ok(vector()));
    }

    #[test]
    fn each_wrong_url_is_refused_with_the_field_that_is_wrong() {
        let cases = [
            ("https://x", "tune-in URL"),
            (&VECTOR.replace("232.1.2.3", "10.1.2.3"), "group is"),
            (&VECTOR.replace(":3400", ":0"), "port"),
            (&VECTOR.replace(":3400", ""), "group and port"),
            (&VECTOR.replace("/7?", "/0?"), "TSI"),
            (&VECTOR.replace("/7?", "/+7?"), "TSI"),
            (&VECTOR.replace("/7?", "/4294967296?"), "TSI"),
            (&VECTOR.replace("192.0.2.1", "224.0.0.1"), "source"),
            (&VECTOR.replace("192.0.2.1", "[2001:db8::1]"), "source"),
            (&VECTOR.replace("c=0001", "c=001"), "campaign id"),
            (&VECTOR.replace("SuFU", "SuF"), "campaign digest"),
            (&VECTOR.replace("&h=", "&x="), "URL parameter"),
            (&format!("{VECTOR}&s=192.0.2.1"), "URL parameter"),
            (&format!("{VECTOR}&o=256"), "component"),
            (&format!("{VECTOR}&o=%31"), "component"),
        ];
        for (url, field) in cases {
            let error = url.parse::<TuneIn>().unwrap_err().to_string();
            assert!(error.starts_with(field), "{url}: {error}");
        }
        for end in 0..VECTOR.len() {
            assert!(VECTOR[..end].parse::<TuneIn>().is_err(), "{end}");
        }
    }
}
