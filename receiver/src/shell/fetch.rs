//! Ranges of packages, fetched over HTTP or from local media.
//!
//! What came is kept when a connection ends, and the next request goes on behind it. A server that
//! ignores ranges sends the whole: its body stays open between the ranges, so that it sends it once.

use std::{
    fmt,
    io::{self, Read as _},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use proto::trust::bundle::MAX_HEAD;
use ureq::{
    Body, BodyReader,
    http::{HeaderMap, Response, StatusCode, Uri, header},
};

use super::{
    clock::Clock,
    http::{Http, HttpError, PackageClients},
    media::Media,
    own_services::{PackageHosts, own_service},
};
use crate::update::fetch::{Fetch, FetchError, Fetched};

/// Time after which a range is returned as far as it came, and a fetch whose range has not begun
/// ends.
const PIECE_TIME: Duration = Duration::from_secs(30);
/// Octets of the front of a body that are kept to be read again.
const FRONT_BYTES: usize = MAX_HEAD;
/// Redirects that are followed.
const MAX_REDIRECTS: usize = 5;
/// Octets that are read at once.
const READ_BYTES: usize = 16 << 10;

/// The downloads of a device, one at a time.
#[derive(Debug, Clone)]
pub struct Downloads {
    http: Http,
    clients: PackageClients,
    media: Media,
    /// A body that has not ended, behind what was read of it.
    open: Arc<Mutex<Option<OpenBody>>>,
    /// Set when nobody waits for the current fetch any more.
    is_stopped: Arc<AtomicBool>,
    piece_time: Duration,
}

/// A response whose body is being read.
struct OpenBody {
    url: String,
    media_type: String,
    /// Octets of the whole.
    total: Option<u64>,
    /// Offset of the next octet.
    at: u64,
    /// The body ends here; `None` where only its end shows.
    end: Option<u64>,
    /// All that was read of the whole, while that is no more than [`FRONT_BYTES`].
    front: Vec<u8>,
    reader: BodyReader<'static>,
}

/// The reason why no more of a body is read.
enum Pause {
    /// The range is whole.
    Whole,
    /// The time has ended.
    Time,
    /// The body has ended.
    End,
    /// The connection has ended, or nobody waits for the range.
    Cut,
}

impl fmt::Debug for OpenBody {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("OpenBody").field("at", &self.at).finish_non_exhaustive()
    }
}

impl Downloads {
    /// Creates the downloads with the certificates of a client, from `hosts` and all that are
    /// elsewhere.
    #[must_use]
    pub fn new(http: Http, hosts: PackageHosts) -> Self {
        Self {
            clients: http.for_packages(hosts),
            http,
            media: Media::default(),
            open: Arc::default(),
            is_stopped: Arc::default(),
            piece_time: PIECE_TIME,
        }
    }

    /// Announces the next fetch.
    pub fn begin(&self) {
        self.is_stopped.store(false, Ordering::SeqCst);
    }

    /// Ends the current fetch at its next octets; returns at once.
    pub fn stop(&self) {
        self.is_stopped.store(true, Ordering::SeqCst);
    }

    /// Fetches octets `from..to`, or as many of them as came. Blocks until a limit is reached, or
    /// [`Self::stop`].
    ///
    /// # Errors
    ///
    /// [`FetchError`] when none came.
    // spec: oma-001 8.1.2.13, oma-001 8.1.2.18
    pub fn fetch(&self, fetch: &Fetch) -> Result<Fetched, FetchError> {
        if let Some(path) = fetch.url.strip_prefix("file:") {
            return self.read_file(path, fetch).map_err(|error| {
                tracing::info!(%error, "local media unreadable");
                FetchError::Network
            });
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let held = open.take().filter(|body| body.url == fetch.url && body.holds(fetch.from));
        let mut body = match held {
            Some(body) => body,
            None => match self.request(fetch)? {
                Some(body) => body,
                // Beyond the end.
                None => return Ok(Fetched::default()),
            },
        };
        let (octets, pause) = body.read(fetch, self.piece_time, &self.is_stopped);
        let (media_type, total) = (body.media_type.clone(), body.total);
        let is_cut = match pause {
            // The end of the whole, or of a body that was to be longer.
            Pause::End => body.end.or(body.total).is_some_and(|end| body.at < end),
            Pause::Cut => true,
            Pause::Whole | Pause::Time => {
                let has_ended = body.end.is_some_and(|end| body.at >= end);
                *open = Some(body).filter(|_| !has_ended);
                false
            }
        };
        if octets.is_empty() && is_cut {
            return Err(FetchError::Network);
        }
        let has_more = matches!(pause, Pause::Time);
        if octets.is_empty() && has_more {
            return Err(FetchError::NotYet);
        }
        Ok(Fetched { media_type, total, octets, is_cut, has_more })
    }

    fn read_file(&self, path: &str, fetch: &Fetch) -> io::Result<Fetched> {
        let (total, octets) = self.media.read_range(Path::new(path), fetch.from, fetch.to)?;
        let came = u64::try_from(octets.len()).unwrap_or_default();
        let has_more = came < total.min(fetch.to).saturating_sub(fetch.from);
        Ok(Fetched { total: Some(total), octets, has_more, ..Fetched::default() })
    }

    /// Requests a range and follows redirects; `None` when it begins behind the end.
    fn request(&self, fetch: &Fetch) -> Result<Option<OpenBody>, FetchError> {
        let mut url = fetch.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.get(&url, fetch)?;
            let status = response.status();
            let headers = response.headers();
            match status {
                StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::SEE_OTHER
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT => {
                    url = redirected(&url, headers).ok_or(FetchError::Refused)?;
                }
                StatusCode::RANGE_NOT_SATISFIABLE => return Ok(None),
                StatusCode::OK | StatusCode::PARTIAL_CONTENT => {
                    return OpenBody::of(fetch, response).map(Some);
                }
                other => {
                    let retry_after = retry_after(headers);
                    return Err(FetchError::Status { code: other.as_u16(), retry_after });
                }
            }
        }
        Err(FetchError::Refused)
    }

    fn get(&self, url: &str, fetch: &Fetch) -> Result<Response<Body>, FetchError> {
        self.http.check(url).map_err(|error| {
            tracing::info!(reason = reason_without_url(&error), "URL not followed");
            FetchError::Refused
        })?;
        let last = fetch.to.saturating_sub(1);
        self.clients
            .bodies
            .get(url)
            .header(header::RANGE, format!("bytes={}-{last}", fetch.from))
            .header(header::ACCEPT_ENCODING, "identity")
            .call()
            .map_err(|error| match own_service(&error) {
                Some(own) => {
                    tracing::info!(error = %own, "URL not followed");
                    FetchError::OwnService
                }
                None => {
                    tracing::info!(%error, "download server not reached");
                    FetchError::Network
                }
            })
    }

    /// Posts the outcome to a download server; returns whether it accepted it.
    // spec: oma-001 8.1.2.23
    #[must_use]
    pub fn notify(&self, url: &str, body: &str) -> bool {
        if self.http.check(url).is_err() {
            return false;
        }
        let post = self.clients.posts.post(url).header(header::CONTENT_TYPE, "text/plain");
        match post.send(body) {
            Ok(response) => response.status().is_success(),
            Err(error) => {
                tracing::info!(%error, "install notification failed");
                false
            }
        }
    }
}

impl OpenBody {
    /// Returns the body of a response with what it holds of the resource.
    fn of(fetch: &Fetch, response: Response<Body>) -> Result<Self, FetchError> {
        let headers = response.headers();
        let media_type = text(headers, header::CONTENT_TYPE).unwrap_or_default().to_owned();
        let (at, end, total) = if response.status() == StatusCode::PARTIAL_CONTENT {
            let range = text(headers, header::CONTENT_RANGE).and_then(content_range);
            let fits = range.filter(|range| (range.first..=range.last).contains(&fetch.from));
            let ContentRange { first, last, total } = fits.ok_or(FetchError::OtherRange)?;
            (first, Some(last.saturating_add(1)), total)
        } else {
            let length = text(headers, header::CONTENT_LENGTH);
            (0, None, length.and_then(|text| text.parse().ok()))
        };
        let reader = response.into_body().into_reader();
        let (url, front) = (fetch.url.clone(), Vec::new());
        Ok(Self { url, media_type, total, at, end, front, reader })
    }

    /// Returns whether the octet at `from` was kept, or is still to come.
    fn holds(&self, from: u64) -> bool {
        let is_kept = usize::try_from(self.at).is_ok_and(|at| at == self.front.len());
        (self.at <= from || is_kept) && self.end.is_none_or(|end| from < end)
    }

    /// Reads a range, or as much of it as comes within `time` from its first octet. Octets before
    /// it are skipped for as long at most.
    fn read(&mut self, fetch: &Fetch, time: Duration, is_stopped: &AtomicBool) -> (Vec<u8>, Pause) {
        let to = self.end.map_or(fetch.to, |end| end.min(fetch.to));
        let mut octets = self.kept(fetch.from, to);
        let mut until = Clock.now().mono + time;
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let skips = self.at < fetch.from;
            let wanted = if skips { fetch.from } else { to }.saturating_sub(self.at);
            let room = usize::try_from(wanted).unwrap_or(READ_BYTES).min(READ_BYTES);
            if room == 0 {
                return (octets, Pause::Whole);
            }
            let into = buffer.get_mut(..room).unwrap_or_default();
            let count = match self.reader.read(into) {
                Ok(0) => return (octets, Pause::End),
                Ok(count) => count,
                Err(error) => {
                    tracing::info!(%error, "download interrupted");
                    return (octets, Pause::Cut);
                }
            };
            let came = into.get(..count).unwrap_or_default();
            if !skips {
                octets.extend_from_slice(came);
            }
            self.advance(came);
            let now = Clock.now().mono;
            if skips && self.at == fetch.from {
                // The time of the range begins with it.
                until = now + time;
            } else if now >= until {
                return (octets, Pause::Time);
            }
            if is_stopped.load(Ordering::SeqCst) {
                return (octets, Pause::Cut);
            }
        }
    }

    /// Returns what was kept of a range.
    fn kept(&self, from: u64, to: u64) -> Vec<u8> {
        let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(self.front.len());
        self.front.get(place(from)..place(to)).unwrap_or_default().to_vec()
    }

    /// Counts octets that came.
    fn advance(&mut self, came: &[u8]) {
        let is_kept = usize::try_from(self.at).is_ok_and(|at| at == self.front.len());
        if is_kept && self.front.len() + came.len() <= FRONT_BYTES {
            self.front.extend_from_slice(came);
        } else {
            self.front = Vec::new();
        }
        self.at += u64::try_from(came.len()).unwrap_or_default();
    }
}

/// Returns why a URL is not followed; the URL itself may carry a secret.
const fn reason_without_url(error: &HttpError) -> &'static str {
    match error {
        HttpError::Refused { reason, .. } => reason,
        HttpError::Status { .. } | HttpError::TooLarge | HttpError::Io(_) => "no response",
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// Returns the URL that a redirect leads to.
fn redirected(url: &str, headers: &HeaderMap) -> Option<String> {
    let location = text(headers, header::LOCATION)?;
    let base: Uri = url.parse().ok()?;
    match location.parse::<Uri>() {
        Ok(target) if target.scheme().is_some() => Some(location.to_owned()),
        Ok(_) if location.starts_with("//") => Some(format!("{}:{location}", base.scheme_str()?)),
        Ok(_) if location.starts_with('/') => {
            Some(format!("{}://{}{location}", base.scheme_str()?, base.authority()?))
        }
        Ok(_) | Err(_) => {
            let (folder, _) = url.split('?').next()?.rsplit_once('/')?;
            Some(format!("{folder}/{location}"))
        }
    }
}

/// Returns how long the server asks to wait: seconds, or a date by its own clock (RFC 9110 10.2.3).
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = text(headers, header::RETRY_AFTER)?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = |text| httpdate::parse_http_date(text).ok();
    date(value)?.duration_since(date(text(headers, header::DATE)?)?).ok()
}

/// A parsed `Content-Range`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ContentRange {
    first: u64,
    last: u64,
    total: Option<u64>,
}

/// Parses `bytes FIRST-LAST/TOTAL`; the total may be `*`.
fn content_range(text: &str) -> Option<ContentRange> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let number = |text: &str| text.trim().parse().ok();
    let (first, last, total) = (number(first)?, number(last)?, number(total));
    let is_range = first <= last && total.is_none_or(|total| last < total);
    is_range.then_some(ContentRange { first, last, total })
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

    /// Serves one response for each connection, and returns the requests.
    fn serve(answers: &[&'static str]) -> (String, thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/package", listener.local_addr().unwrap());
        let answers = answers.to_vec();
        let server = thread::spawn(move || {
            let mut requests = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = vec![0; 4096];
                let length = stream.read(&mut request).unwrap();
                // The client may not want all of it.
                stream.write_all(answer.as_bytes()).ok();
                requests.push(String::from_utf8_lossy(&request[..length]).to_ascii_lowercase());
            }
            requests
        });
        (url, server)
    }

    fn downloads() -> Downloads {
        let hosts = PackageHosts::new("http://127.0.0.1/", &[]);
        Downloads::new(Http::new(PlainHttp::Loopback), hosts)
    }

    fn fetch(answers: &[&'static str]) -> (Result<Fetched, FetchError>, Vec<String>) {
        let (url, server) = serve(answers);
        let fetched = downloads().fetch(&Fetch { url, from: 2, to: 5 });
        (fetched, server.join().unwrap())
    }

    const END: &str = "Connection: close\r\nContent-Length: 0\r\n\r\n";

    fn status(line: &str) -> String {
        format!("HTTP/1.1 {line}\r\n{END}")
    }

    // test: oma-001 8.1.2.13, oma-001 8.1.2.18
    #[test]
    fn a_range_is_requested_and_cut_out_of_a_whole_response() {
        let (fetched, requests) = fetch(&[
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 2-4/7\r\nContent-Type: a/b\r\n\
             Content-Length: 3\r\n\r\ncde",
        ]);
        assert!(requests[0].contains("range: bytes=2-4"), "{requests:?}");
        let octets = b"cde".to_vec();
        let media_type = "a/b".to_owned();
        let expected = Fetched { media_type, total: Some(7), octets, ..Fetched::default() };
        assert_eq!(fetched, Ok(expected));
        let (whole, _) = fetch(&["HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nabcdefg"]);
        assert_eq!(whole.unwrap().octets, b"cde");
    }

    #[test]
    fn what_a_partial_response_holds_counts_and_not_what_was_requested() {
        for (range, body, expected) in [
            ("0-4/7", "abcde", Ok(&b"cde"[..])),
            ("2-3/7", "cd", Ok(b"cd")),
            ("1-9/*", "bcdefghij", Ok(b"cde")),
            ("3-4/7", "de", Err(FetchError::OtherRange)),
            ("0-1/7", "ab", Err(FetchError::OtherRange)),
            ("4-2/7", "abc", Err(FetchError::OtherRange)),
            ("2-7/7", "cdefgh", Err(FetchError::OtherRange)),
        ] {
            let answer = format!(
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {range}\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let fetched = fetch(&[answer.leak()]).0.map(|fetched| fetched.octets);
            assert_eq!(fetched, expected.map(<[u8]>::to_vec), "{range}");
        }
    }

    #[test]
    fn a_server_without_ranges_sends_the_whole_once() {
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nabcdefg";
        let (url, server) = serve(&[answer]);
        let downloads = downloads();
        let piece = |from, to| {
            let fetched = downloads.fetch(&Fetch { url: url.clone(), from, to });
            fetched.map(|fetched| fetched.octets)
        };
        let pieces = [piece(0, 2), piece(2, 5), piece(5, 7)];
        assert_eq!(pieces, [b"ab".to_vec(), b"cde".to_vec(), b"fg".to_vec()].map(Ok));
        assert_eq!(server.join().unwrap().len(), 1);
    }

    /// Downloads that return after each read.
    fn slow() -> Downloads {
        Downloads { piece_time: Duration::ZERO, ..downloads() }
    }

    /// A whole of three reads, from a server that ignores ranges.
    fn whole_of_three_reads(length: &str) -> (Vec<u8>, &'static str) {
        let whole: Vec<u8> =
            (0..3 * READ_BYTES).map(|at| b'a' + u8::try_from(at / 1000 % 26).unwrap()).collect();
        let body = String::from_utf8(whole.clone()).unwrap();
        let answer = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n{length}\r\n{body}");
        (whole, answer.leak())
    }

    #[test]
    fn a_slow_server_without_ranges_sends_the_whole_once() {
        let (whole, answer) = whole_of_three_reads("Content-Length: 49152\r\n");
        let (url, server) = serve(&[answer]);
        let downloads = slow();
        let mut came = Vec::new();
        let mut pieces = 0;
        while came.len() < whole.len() {
            let (from, to) = (came.len() as u64, whole.len() as u64);
            let fetched = downloads.fetch(&Fetch { url: url.clone(), from, to }).unwrap();
            assert!(!fetched.octets.is_empty() && !fetched.is_cut, "the time is no cut");
            assert!(fetched.has_more || came.len() + fetched.octets.len() == whole.len());
            came.extend(fetched.octets);
            pieces += 1;
        }
        assert!(pieces >= 3 && came == whole, "{pieces}");
        assert_eq!(server.join().unwrap().len(), 1);
    }

    #[test]
    fn a_slow_skip_ends_with_the_time_and_goes_on_in_the_same_body() {
        let (whole, answer) = whole_of_three_reads("");
        let (url, server) = serve(&[answer]);
        let downloads = slow();
        let (from, to) = (2 * READ_BYTES as u64 + 1, whole.len() as u64);
        let mut skips = 0;
        let fetched = loop {
            match downloads.fetch(&Fetch { url: url.clone(), from, to }) {
                Err(FetchError::NotYet) => skips += 1,
                other => break other.unwrap(),
            }
        };
        // The time of the range begins with its first octet.
        assert!(skips >= 2 && whole[2 * READ_BYTES + 1..].starts_with(&fetched.octets), "{skips}");
        assert!(!fetched.octets.is_empty());
        assert_eq!(server.join().unwrap().len(), 1);
    }

    #[test]
    fn a_fetch_that_nobody_waits_for_ends_at_its_next_octets() {
        let (whole, answer) = whole_of_three_reads("");
        let (url, _server) = serve(&[answer, answer]);
        let downloads = downloads();
        let fetch = Fetch { url, from: whole.len() as u64 - 1, to: whole.len() as u64 };
        downloads.stop();
        assert_eq!(downloads.fetch(&fetch), Err(FetchError::Network));
        downloads.begin();
        assert_eq!(downloads.fetch(&fetch).unwrap().octets, whole[whole.len() - 1..]);
    }

    #[test]
    fn a_body_that_ended_early_is_requested_again() {
        let cut = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc";
        let whole = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabcdefg";
        let (url, server) = serve(&[cut, whole]);
        let downloads = downloads();
        let piece = |from, to| {
            let fetched = downloads.fetch(&Fetch { url: url.clone(), from, to });
            fetched.map(|fetched| fetched.octets)
        };
        assert_eq!(piece(0, 5), Ok(b"abc".to_vec()));
        assert_eq!(piece(3, 7), Ok(b"defg".to_vec()));
        assert_eq!(server.join().unwrap().len(), 2);
    }

    #[test]
    fn the_front_of_a_whole_is_read_again_without_another_request() {
        let (whole, answer) = whole_of_three_reads("");
        let (url, server) = serve(&[answer]);
        let downloads = downloads();
        let piece = |from: usize, to: usize| {
            let (from, to) = (from as u64, to as u64);
            downloads.fetch(&Fetch { url: url.clone(), from, to }).unwrap().octets
        };
        assert_eq!(piece(0, 20_000), whole[..20_000]);
        assert_eq!(piece(1_500, 30_000), whole[1_500..30_000]);
        assert_eq!(piece(30_000, whole.len()), whole[30_000..]);
        assert_eq!(server.join().unwrap().len(), 1);
    }

    #[test]
    fn no_url_is_in_the_reason_why_it_is_not_followed() {
        let http = Http::new(PlainHttp::Loopback);
        for url in ["http://192.0.2.1/x?token=secret", "ftp://h/secret", "no url secret"] {
            let error = http.check(url).unwrap_err();
            assert!(error.to_string().contains("secret"));
            assert!(!reason_without_url(&error).contains("secret"), "{url}");
        }
    }

    #[test]
    fn what_came_before_a_connection_ended_is_kept() {
        let answer = "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 2-4/7\r\n\
            Content-Length: 3\r\nConnection: close\r\n\r\ncd";
        let fetched = fetch(&[answer]).0.unwrap();
        assert_eq!((fetched.octets.as_slice(), fetched.is_cut), (&b"cd"[..], true));
    }

    #[test]
    fn redirects_are_followed_under_the_same_rules() {
        let found = "HTTP/1.1 302 Found\r\nLocation: /other\r\nConnection: close\r\n\
            Content-Length: 0\r\n\r\n";
        let whole = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nabcdefg";
        let (fetched, requests) = fetch(&[found, whole]);
        assert_eq!(fetched.unwrap().octets, b"cde");
        assert!(requests[1].starts_with("get /other "), "{requests:?}");
        let away = "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://192.0.2.1/x\r\n\
            Content-Length: 0\r\n\r\n";
        assert_eq!(fetch(&[away]).0, Err(FetchError::Refused));
        assert_eq!(fetch(&[found; 6]).0, Err(FetchError::Refused), "for ever");
        for (location, expected) in [
            ("//h/b", "http://h/b"),
            ("b?c", "http://g:1/a/b?c"),
            ("/b", "http://g:1/b"),
            ("https://h/b", "https://h/b"),
        ] {
            let headers = HeaderMap::from_iter([(header::LOCATION, location.parse().unwrap())]);
            let url = redirected("http://g:1/a/x?y=/z", &headers);
            assert_eq!(url.as_deref(), Some(expected), "{location}");
        }
    }

    #[test]
    fn a_server_says_how_long_to_wait_in_seconds_or_by_its_own_clock() {
        for (head, seconds) in [
            ("429 Too Many Requests\r\nRetry-After: 17", Some(17)),
            (
                "503 Busy\r\nDate: Tue, 01 Dec 2026 10:00:00 GMT\r\n\
                 Retry-After: Tue, 01 Dec 2026 10:02:00 GMT",
                Some(120),
            ),
            ("503 Busy\r\nRetry-After: soon", None),
            ("500 Error", None),
        ] {
            let code = head[..3].parse().unwrap();
            let retry_after = seconds.map(Duration::from_secs);
            let fetched = fetch(&[status(head).leak()]).0;
            assert_eq!(fetched, Err(FetchError::Status { code, retry_after }), "{head}");
        }
    }

    #[test]
    fn responses_without_the_range_are_errors() {
        for (answer, error) in [
            (status("404 Not Found"), FetchError::Status { code: 404, retry_after: None }),
            ("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\na".to_owned(), FetchError::Network),
            (String::new(), FetchError::Network),
        ] {
            assert_eq!(fetch(&[answer.leak()]).0, Err(error));
        }
        assert_eq!(fetch(&[status("416 Beyond").leak()]).0, Ok(Fetched::default()));
        for url in ["ftp://x/", "http://192.0.2.1/x", "x"] {
            let fetch = Fetch { url: url.to_owned(), from: 0, to: 1 };
            assert_eq!(downloads().fetch(&fetch), Err(FetchError::Refused), "{url}");
        }
    }

    #[test]
    fn nothing_is_requested_from_services_of_the_device_itself() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let own = listener.local_addr().unwrap();
        let far = PackageHosts::new("https://dm.example/dm", &[]);
        let downloads = Downloads::new(Http::new(PlainHttp::Anywhere), far);
        for url in [format!("http://{own}/x"), format!("http://localhost:{}/x", own.port())] {
            let fetch = Fetch { url: url.clone(), from: 0, to: 1 };
            assert_eq!(downloads.fetch(&fetch), Err(FetchError::OwnService), "{url}");
            assert!(!downloads.notify(&url, "900 Success\r\n"), "{url}");
        }
        assert!(listener.accept().is_err(), "nobody has connected");
    }

    #[test]
    fn a_redirect_to_a_service_of_the_device_is_not_followed() {
        let inner = TcpListener::bind("127.0.0.1:0").unwrap();
        inner.set_nonblocking(true).unwrap();
        let target = inner.local_addr().unwrap();
        let answer = format!(
            "HTTP/1.1 302 Found\r\nLocation: http://{target}/\r\nConnection: close\r\n\
             Content-Length: 0\r\n\r\n"
        );
        let (url, server) = serve(&[answer.leak()]);
        // The first host is listed by its name, the one behind it is not.
        let url = url.replace("127.0.0.1", "localhost");
        let hosts = PackageHosts::new("https://dm.example/dm", &["localhost".to_owned()]);
        let downloads = Downloads::new(Http::new(PlainHttp::Loopback), hosts);
        let fetched = downloads.fetch(&Fetch { url, from: 0, to: 1 });
        assert_eq!(fetched, Err(FetchError::OwnService));
        assert_eq!(server.join().unwrap().len(), 1);
        assert!(inner.accept().is_err(), "nobody has connected");
    }

    // test: oma-001 8.1.2.23
    #[test]
    fn an_outcome_is_posted_as_text() {
        let (url, server) = serve(&["HTTP/1.1 204 No Content\r\n\r\n"]);
        assert!(downloads().notify(&url, "900 Success\r\n"));
        let requests = server.join().unwrap();
        assert!(requests[0].starts_with("post /package http/1.1\r\n"), "{requests:?}");
        assert!(!downloads().notify("http://192.0.2.1/", "x"));
    }

    #[test]
    fn local_media_are_read_in_ranges() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("bundle");
        std::fs::write(&path, b"abcdefg").unwrap();
        let url = format!("file:{}", path.display());
        let downloads = downloads();
        let piece =
            |from, to| downloads.fetch(&Fetch { url: url.clone(), from, to }).unwrap().octets;
        assert_eq!((piece(0, 3), piece(5, 99)), (b"abc".to_vec(), b"fg".to_vec()));
        assert_eq!(piece(9, 12), b"");
        let gone = Fetch { url: "file:/nonexistent".to_owned(), from: 0, to: 1 };
        assert_eq!(downloads.fetch(&gone), Err(FetchError::Network));
    }
}
