//! Origin of a URL: scheme and authority.

use std::net::IpAddr;

/// Scheme and authority of a URL.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin<'a> {
    scheme: &'a str,
    authority: &'a str,
}

impl<'a> Origin<'a> {
    /// Parses the origin of a URL; `None` for anything but `http:` and `https:` without user info.
    pub(super) fn of(url: &'a str) -> Option<Self> {
        let (scheme, after) = url.split_once("://")?;
        let end = after.find(['/', '?', '#']).unwrap_or(after.len());
        let (authority, _) = after.split_at(end);
        let is_known = ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
        let is_plain = !authority.is_empty() && !authority.contains('@');
        (is_known && is_plain).then_some(Self { scheme, authority })
    }

    /// Returns whether another origin is the same.
    pub(super) fn is_same(self, other: Self) -> bool {
        self.scheme.eq_ignore_ascii_case(other.scheme)
            && self.authority.eq_ignore_ascii_case(other.authority)
    }

    /// Returns whether the transport is private: TLS, or within this machine.
    pub(super) fn is_private(self) -> bool {
        let host = match self.authority.strip_prefix('[').and_then(|it| it.split_once(']')) {
            Some((host, _)) => host,
            None => self.authority.split(':').next().unwrap_or_default(),
        };
        self.scheme.eq_ignore_ascii_case("https")
            || host.eq_ignore_ascii_case("localhost")
            || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(a: &str, b: &str) -> bool {
        Origin::of(a).unwrap().is_same(Origin::of(b).unwrap())
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        assert!(same("https://dm.example/dm", "HTTPS://DM.example/other?s=1"));
        assert!(same("http://[::1]:8080", "http://[::1]:8080?s=1"));
        assert!(!same("https://dm.example/dm", "http://dm.example/dm"));
        assert!(!same("https://dm.example/dm", "https://dm.example:444/dm"));
        assert!(!same("https://dm.example/dm", "https://dm.example.org/dm"));
        for odd in ["ftp://a/", "https://", "https:///dm", "https://a@b/", "dm", ""] {
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
