//! Ranges of packages, fetched over HTTP or from local media.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use ureq::http::{StatusCode, header};

use super::http::Http;
use crate::update::fetch::{Fetch, FetchError, Fetched};

/// Fetches octets `from..to`; skips the front of the body if the server does not support
/// ranges. Blocks until a limit is reached.
///
/// # Errors
///
/// [`FetchError`].
// spec: oma-001 8.1.2.13, oma-001 8.1.2.18
pub fn fetch(http: &Http, fetch: &Fetch) -> Result<Fetched, FetchError> {
    if let Some(path) = fetch.url.strip_prefix("file:") {
        return read(path, fetch).map_err(|error| {
            tracing::info!(%error, "local media unreadable");
            FetchError::Network
        });
    }
    http.check(&fetch.url).map_err(|_| FetchError::Refused)?;
    let last = fetch.to.saturating_sub(1);
    let mut response = http
        .agent()
        .get(&fetch.url)
        .header(header::RANGE, format!("bytes={}-{last}", fetch.from))
        .call()
        .map_err(|error| {
            tracing::info!(%error, "download server not reached");
            FetchError::Network
        })?;
    let status = response.status();
    let named = |name| {
        let value = response.headers().get(name)?;
        value.to_str().ok().map(str::to_owned)
    };
    let media_type = named(header::CONTENT_TYPE).unwrap_or_default();
    let (skip, total) = match status {
        StatusCode::PARTIAL_CONTENT => {
            let range = named(header::CONTENT_RANGE).unwrap_or_default();
            let (first, total) = content_range(&range).ok_or(FetchError::Status(500))?;
            if first != fetch.from {
                return Err(FetchError::Status(500));
            }
            (0, total)
        }
        StatusCode::OK => {
            let length = named(header::CONTENT_LENGTH).and_then(|text| text.parse().ok());
            (fetch.from, length)
        }
        // Beyond the end.
        StatusCode::RANGE_NOT_SATISFIABLE => {
            return Ok(Fetched { media_type, total: None, octets: Vec::new() });
        }
        other => return Err(FetchError::Status(other.as_u16())),
    };
    let mut body = response.body_mut().as_reader();
    let wanted = fetch.to.saturating_sub(fetch.from);
    let mut octets = Vec::new();
    io::copy(&mut io::Read::by_ref(&mut body).limited(skip), &mut io::sink())
        .and_then(|_| io::copy(&mut body.limited(wanted), &mut octets))
        .map_err(|error| {
            tracing::info!(%error, "download failed");
            FetchError::Network
        })?;
    Ok(Fetched { media_type, total, octets })
}

/// Posts the outcome to a download server; returns whether it accepted it.
// spec: oma-001 8.1.2.23
#[must_use]
pub fn notify_download(http: &Http, url: &str, body: &str) -> bool {
    if http.check(url).is_err() {
        return false;
    }
    let sent = http.agent().post(url).header(header::CONTENT_TYPE, "text/plain").send(body);
    match sent {
        Ok(response) => response.status().is_success(),
        Err(error) => {
            tracing::info!(%error, "install notification failed");
            false
        }
    }
}

/// Extension for bounded reads.
trait ReadExt: io::Read + Sized {
    fn limited(self, octets: u64) -> io::Take<Self> {
        io::Read::take(self, octets)
    }
}

impl<R: io::Read> ReadExt for R {}

fn read(path: &str, fetch: &Fetch) -> io::Result<Fetched> {
    let file = File::open(path)?;
    let total = file.metadata()?.len();
    let length = total.min(fetch.to).saturating_sub(fetch.from);
    let mut octets = vec![0; usize::try_from(length).unwrap_or_default()];
    file.read_exact_at(&mut octets, fetch.from)?;
    Ok(Fetched { media_type: String::new(), total: Some(total), octets })
}

/// Parses `bytes FIRST-LAST/TOTAL`; the total may be `*`.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    Some((first.trim().parse().ok()?, total.trim().parse().ok()))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
        thread,
    };

    use super::*;
    use crate::shell::http::PlainHttp;

    /// Serves one request and returns it.
    fn serve(answer: &'static str) -> (String, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/package", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        (url, server)
    }

    fn fetch(answer: &'static str) -> (Result<Fetched, FetchError>, String) {
        let (url, server) = serve(answer);
        let fetch = Fetch { url, from: 2, to: 5 };
        (super::fetch(&Http::new(PlainHttp::Loopback), &fetch), server.join().unwrap())
    }

    // test: oma-001 8.1.2.13, oma-001 8.1.2.18
    #[test]
    fn a_range_is_requested_and_cut_out_of_a_whole_response() {
        let (fetched, request) = fetch(
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 2-4/7\r\nContent-Type: a/b\r\n\
             Content-Length: 3\r\n\r\ncde",
        );
        assert!(request.to_ascii_lowercase().contains("range: bytes=2-4"), "{request}");
        let octets = b"cde".to_vec();
        let expected = Fetched { media_type: "a/b".to_owned(), total: Some(7), octets };
        assert_eq!(fetched, Ok(expected));
        let (whole, _) = fetch("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nabcdefg");
        assert_eq!(whole.unwrap().octets, b"cde");
    }

    #[test]
    fn responses_without_the_range_are_errors() {
        for (answer, error) in [
            ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", FetchError::Status(404)),
            (
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-2/7\r\n\
                 Content-Length: 3\r\n\r\nabc",
                FetchError::Status(500),
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nabc", FetchError::Network),
            ("", FetchError::Network),
        ] {
            assert_eq!(fetch(answer).0, Err(error), "{answer}");
        }
        let http = Http::new(PlainHttp::Loopback);
        for url in ["ftp://x/", "http://192.0.2.1/x", "x"] {
            let fetch = Fetch { url: url.to_owned(), from: 0, to: 1 };
            assert_eq!(super::fetch(&http, &fetch), Err(FetchError::Refused), "{url}");
        }
    }

    // test: oma-001 8.1.2.23
    #[test]
    fn an_outcome_is_posted_as_text() {
        let (url, server) = serve("HTTP/1.1 204 No Content\r\n\r\n");
        assert!(notify_download(&Http::new(PlainHttp::Loopback), &url, "900 Success\r\n"));
        let request = server.join().unwrap();
        assert!(request.starts_with("POST /package HTTP/1.1\r\n"), "{request}");
        assert!(!notify_download(&Http::new(PlainHttp::Loopback), "http://192.0.2.1/", "x"));
    }

    #[test]
    fn local_media_are_read_in_ranges() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("bundle");
        std::fs::write(&path, b"abcdefg").unwrap();
        let url = format!("file:{}", path.display());
        let http = Http::new(PlainHttp::Loopback);
        let piece =
            |from, to| super::fetch(&http, &Fetch { url: url.clone(), from, to }).unwrap().octets;
        assert_eq!((piece(0, 3), piece(5, 99)), (b"abc".to_vec(), b"fg".to_vec()));
        assert_eq!(piece(9, 12), b"");
        let gone = Fetch { url: "file:/nonexistent".to_owned(), from: 0, to: 1 };
        assert_eq!(super::fetch(&http, &gone), Err(FetchError::Network));
    }
}
