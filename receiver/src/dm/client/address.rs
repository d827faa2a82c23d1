//! Origin of a URL: scheme, host and port, however they are written.

use std::net::IpAddr;

/// Scheme, host and port of a URL.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin<'a> {
    scheme: &'a str,
    host: &'a str,
    port: u16,
}

impl<'a> Origin<'a> {
    /// Parses the origin of a URL; `None` for anything but `http:` and `https:` without user info.
    pub(super) fn of(url: &'a str) -> Option<Self> {
        let (scheme, after) = url.split_once("://")?;
        let end = after.find(['/', '?', '#']).unwrap_or(after.len());
        let (authority, _) = after.split_at(end);
        let known = [("http", 80), ("https", 443)];
        let (_, default_port) =
            known.into_iter().find(|(known, _)| scheme.eq_ignore_ascii_case(known))?;
        let (host, port) = match authority.strip_prefix('[') {
            Some(inner) => inner.split_once(']')?,
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        let port = match port.strip_prefix(':') {
            Some("") => default_port,
            Some(number) if number.bytes().all(|digit| digit.is_ascii_digit()) => {
                number.parse().ok()?
            }
            None if port.is_empty() => default_port,
            Some(_) | None => return None,
        };
        let is_plain = !host.is_empty() && !host.contains('@');
        is_plain.then_some(Self { scheme, host, port })
    }

    /// Returns whether another origin is the same: a default port may be spelled out or not.
    // spec: oma-dm 1 (the reply address)
    pub(super) fn is_same(self, other: Self) -> bool {
        let is_same_host = match (self.address(), other.address()) {
            (Some(address), Some(other)) => address == other,
            (None, None) => self.host.eq_ignore_ascii_case(other.host),
            (Some(_), None) | (None, Some(_)) => false,
        };
        self.scheme.eq_ignore_ascii_case(other.scheme) && self.port == other.port && is_same_host
    }

    fn address(self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// Returns whether the transport is private: TLS, or within this machine.
    pub(super) fn is_private(self) -> bool {
        self.scheme.eq_ignore_ascii_case("https")
            || self.host.eq_ignore_ascii_case("localhost")
            || self.address().is_some_and(|address| address.is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(a: &str, b: &str) -> bool {
        Origin::of(a).unwrap().is_same(Origin::of(b).unwrap())
    }

    // test: oma-dm 1 (the reply address)
    #[test]
    fn a_default_port_is_the_same_spelled_out_or_not() {
        for (a, b) in [
            ("https://dm.example/dm", "https://dm.example:443/dm?s=1"),
            ("http://dm.example", "HTTP://DM.example:80/"),
            ("https://dm.example", "https://dm.example:/dm"),
            ("http://[::1]/dm", "http://[0:0:0:0:0:0:0:1]:80/dm"),
            ("http://127.0.0.1:080/", "http://127.0.0.1"),
        ] {
            assert!(same(a, b) && same(b, a), "{a} {b}");
        }
        for (a, b) in [
            ("https://dm.example/dm", "https://dm.example:80/dm"),
            ("http://dm.example/dm", "http://dm.example:443/dm"),
            ("http://dm.example:80/dm", "https://dm.example:443/dm"),
            ("http://[::1]/", "http://[::2]/"),
        ] {
            assert!(!same(a, b), "{a} {b}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        assert!(same("https://dm.example/dm", "HTTPS://DM.example/other?s=1"));
        assert!(same("http://[::1]:8080", "http://[::1]:8080?s=1"));
        assert!(!same("https://dm.example/dm", "http://dm.example/dm"));
        assert!(!same("https://dm.example/dm", "https://dm.example:444/dm"));
        assert!(!same("https://dm.example/dm", "https://dm.example.org/dm"));
        for odd in [
            "ftp://a/",
            "https://",
            "https:///dm",
            "https://a@b/",
            "https://a:443@b/",
            "https://a:65536/",
            "https://a:+1/",
            "https://[::1/",
            "https://[::1]443/",
            "dm",
            "",
        ] {
            assert!(Origin::of(odd).is_none(), "{odd}");
        }
    }

    #[test]
    fn only_tls_and_this_machine_are_private() {
        let private = |url| Origin::of(url).unwrap().is_private();
        for url in ["https://x/", "http://127.0.0.1:80/", "http://[::1]:1/", "http://localhost/"] {
            assert!(private(url), "{url}");
        }
        for url in ["http://x/", "http://127.0.0.1.example/", "http://[2001:db8::1]/"] {
            assert!(!private(url), "{url}");
        }
    }
}
