//! The address of a client behind proxies: the rightmost hop that no trusted proxy is.
//!
//! The right end of `Forwarded`, or of `X-Forwarded-For` where there is none, was written by the proxy
//! nearest to this server; everything to the left of the first hop that is not trusted is a claim.
//! Many proxies write one of the two and pass the other on as the client sent it: where they name
//! different clients, the address of the proxy counts.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, header::FORWARDED};
use ipnet::IpNet;

/// Header of proxies that do not write `Forwarded`.
const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// Hops that are read, from the right.
const MAX_HOPS: usize = 16;

/// Returns the address of the client that a request comes from.
// spec: security 7.2 (the address behind a proxy)
pub(super) fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
    let peer = peer.to_canonical();
    if !is_trusted(peer) {
        return peer;
    }
    let client = |name: &str, hop_of: fn(&str) -> Option<&str>| {
        let values: Vec<_> = headers.get_all(name).iter().collect();
        let elements =
            values.iter().rev().flat_map(|value| value.to_str().unwrap_or_default().rsplit(','));
        let mut nearest = peer;
        for element in elements.take(MAX_HOPS) {
            // A hop that hides its client is the client.
            let Some(address) = hop_of(element).and_then(address_of) else { break };
            nearest = address;
            if !is_trusted(nearest) {
                break;
            }
        }
        (!values.is_empty()).then_some(nearest)
    };
    match (client(FORWARDED.as_str(), forwarded_for), client(X_FORWARDED_FOR, |hop| Some(hop))) {
        (Some(client), Some(other)) if client != other => peer,
        (Some(client), _) | (None, Some(client)) => client,
        (None, None) => peer,
    }
}

/// Returns the parameter `for` of an element of `Forwarded`, without its quotes.
///
/// # Source
///
/// RFC 7239 §4.
fn forwarded_for(element: &str) -> Option<&str> {
    let mut pairs = element.split(';').filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.eq_ignore_ascii_case("for"))?;
    let unquoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    Some(unquoted.unwrap_or(value))
}

/// Returns the address of a node, which may have a port.
fn address_of(node: &str) -> Option<IpAddr> {
    let node = node.trim();
    let bracketed = node.strip_prefix('[').and_then(|node| node.strip_suffix(']'));
    let address = bracketed.unwrap_or(node).parse();
    let with_port = || node.parse().map(|address: SocketAddr| address.ip());
    address.or_else(|_| with_port()).ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn client(peer: &str, headers: &[(&'static str, &'static str)], trusted: &[&str]) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        let trusted: Vec<_> = trusted.iter().map(|text| text.parse().unwrap()).collect();
        client_address(peer.parse().unwrap(), &map, &trusted).to_string()
    }

    const PROXIES: &[&str] = &["10.0.0.0/8", "2001:db8:aa::/48"];

    // test: security 7.2 (the address behind a proxy)
    #[test]
    fn the_client_is_the_rightmost_hop_that_no_trusted_proxy_is() {
        let forwarded = |value| ("forwarded", value);
        for (headers, expected) in [
            (&[forwarded("for=192.0.2.1")][..], "192.0.2.1"),
            (&[forwarded("for=198.51.100.9, for=192.0.2.1")], "192.0.2.1"),
            (&[forwarded("for=192.0.2.1, for=10.1.1.1")], "192.0.2.1"),
            (&[forwarded("for=198.51.100.9"), forwarded("For=192.0.2.1;proto=https")], "192.0.2.1"),
            (&[forwarded("by=10.0.0.2; for=\"192.0.2.1:4711\"")], "192.0.2.1"),
            (&[forwarded("for=\"[2001:db8:1::7]:4711\"")], "2001:db8:1::7"),
            (&[forwarded("for=\"[2001:db8:aa::7]\", for=10.0.0.3")], "2001:db8:aa::7"),
            (&[forwarded("for=192.0.2.1, for=unknown, for=10.0.0.3")], "10.0.0.3"),
            (&[forwarded("for=_hidden")], "10.0.0.1"),
            (&[forwarded("proto=https")], "10.0.0.1"),
            (&[("x-forwarded-for", "198.51.100.9, 192.0.2.1")], "192.0.2.1"),
            (&[("x-forwarded-for", "192.0.2.1, 10.0.0.9")], "192.0.2.1"),
            (&[("x-forwarded-for", "::ffff:192.0.2.1")], "192.0.2.1"),
            (&[("x-forwarded-for", "198.51.100.9"), forwarded("for=192.0.2.1")], "10.0.0.1"),
            (&[("x-forwarded-for", "192.0.2.1"), forwarded("for=192.0.2.1")], "192.0.2.1"),
            (&[], "10.0.0.1"),
        ] {
            assert_eq!(client("10.0.0.1", headers, PROXIES), expected, "{headers:?}");
            assert_eq!(client("::ffff:10.0.0.1", headers, PROXIES), expected, "{headers:?}");
        }
    }

    // test: security 7.2 (the address behind a proxy)
    #[test]
    fn what_no_trusted_proxy_writes_is_ignored() {
        let headers = &[("forwarded", "for=192.0.2.1"), ("x-forwarded-for", "192.0.2.1")];
        assert_eq!(client("127.0.0.1", headers, &[]), "127.0.0.1");
        assert_eq!(client("198.51.100.1", headers, PROXIES), "198.51.100.1");
        let endless = "10.0.0.3, ".repeat(1_000) + "10.0.0.4";
        let endless: &'static str = endless.leak();
        assert_eq!(client("10.0.0.1", &[("x-forwarded-for", endless)], PROXIES), "10.0.0.3");
    }
}
