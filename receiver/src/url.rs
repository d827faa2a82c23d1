//! Schemes of URLs.

/// Returns whether a URL has a scheme (without its colon), in whatever case it is written.
// RFC 3986 3.1: schemes are compared without case.
#[must_use]
pub fn has_scheme(url: &str, scheme: &str) -> bool {
    url.split_once("://").is_some_and(|(found, _)| found.eq_ignore_ascii_case(scheme))
}

/// Returns whether a URL is one of HTTP, with TLS or without.
#[must_use]
pub fn is_http(url: &str) -> bool {
    has_scheme(url, "http") || has_scheme(url, "https")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_are_compared_without_case() {
        for url in ["http://a/", "https://a/", "HTTP://a/", "Https://a/"] {
            assert!(is_http(url), "{url}");
        }
        for url in ["ftp://a/", "http:a", "xhttp://a/", "https", "", "fumocast://a"] {
            assert!(!is_http(url), "{url}");
        }
        assert!(has_scheme("HTTPS://a/", "https") && !has_scheme("https://a/", "http"));
    }
}
