//! HTTP client of the DM session.

use std::{
    fmt::Display,
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use proto::dm::auth::MAC_HEADER;
use thiserror::Error;
use ureq::{
    Agent,
    config::ConfigBuilder,
    http::{StatusCode, Uri, header},
    tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem},
    typestate::AgentScope,
    unversioned::transport::DefaultConnector,
};

use super::own_services::{GuardedResolver, PackageHosts};
use crate::dm::client::{HttpRequest, HttpResponse};

/// Permission of plain HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PlainHttp {
    /// To this machine only.
    #[default]
    Loopback,
    /// To any host, as configured.
    Anywhere,
}

/// Error of a request.
#[derive(Debug, Error)]
pub enum HttpError {
    /// The URL is malformed, or plain HTTP to another machine.
    #[error("{url} is refused: {reason}")]
    Refused {
        /// The URL.
        url: String,
        /// The cause.
        reason: &'static str,
    },
    /// The server responded with a status other than 200.
    #[error("the server answered {code}")]
    Status {
        /// The HTTP status.
        code: u16,
        /// Time to wait that the server requests.
        retry_after: Option<Duration>,
    },
    /// The response exceeds the limit of a message.
    #[error("the response is longer than {MAX_MESSAGE_BYTES} octets")]
    TooLarge,
    /// The server was not reached, or the connection failed.
    #[error("the server was not reached")]
    Io(#[source] io::Error),
}

/// The response to a message.
#[derive(Debug)]
pub struct Answered {
    /// The body.
    pub body: Vec<u8>,
    /// Its HMAC, from the header.
    pub mac: Option<String>,
}

impl<'a> From<&'a Answered> for HttpResponse<'a> {
    fn from(answered: &'a Answered) -> Self {
        Self { body: &answered.body, mac: answered.mac.as_deref() }
    }
}

/// HTTP client with persistent connections.
#[derive(Debug, Clone)]
pub struct Http {
    agent: Agent,
    tls: TlsConfig,
    plain: PlainHttp,
}

/// The clients for URLs that others than the DM server may have chosen.
#[derive(Debug, Clone)]
pub(super) struct PackageClients {
    /// For bodies, which may last as long as octets come.
    pub(super) bodies: Agent,
    /// For posts, with the limits of a message.
    pub(super) posts: Agent,
}

/// Certificate files of the device.
#[derive(Debug, Clone, Default)]
pub struct Certificates {
    /// CA certificates, PEM; the well-known ones when `None`.
    pub ca: Option<PathBuf>,
    /// Client certificate and its key, PEM.
    pub own: Option<(PathBuf, PathBuf)>,
}

impl Certificates {
    /// Loads the files.
    ///
    /// # Errors
    ///
    /// An error that names an unreadable or malformed file.
    fn load(&self) -> io::Result<TlsConfig> {
        let mut config = TlsConfig::builder();
        if let Some(path) = &self.ca {
            config = config.root_certs(RootCerts::from(read_certificates(path)?));
        }
        if let Some((path, key)) = &self.own {
            let read = fs::read(key).map_err(|error| unfit(key, &error))?;
            let key = PrivateKey::from_pem(&read).map_err(|error| unfit(key, &error))?;
            let chain = read_certificates(path)?;
            config = config.client_cert(Some(ClientCert::new_with_certs(&chain, key)));
        }
        Ok(config.build())
    }
}

fn read_certificates(path: &Path) -> io::Result<Vec<Certificate<'static>>> {
    let text = fs::read(path).map_err(|error| unfit(path, &error))?;
    let mut found = Vec::new();
    for item in parse_pem(&text) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| unfit(path, &error))? {
            found.push(certificate);
        }
    }
    if found.is_empty() { Err(unfit(path, &"no certificate in it")) } else { Ok(found) }
}

fn unfit(path: &Path, why: &dyn Display) -> io::Error {
    io::Error::other(format!("{} does not do for TLS: {why}", path.display()))
}

impl Http {
    /// Creates a client with limits: 30 s for a message, 64 KiB for a response, no redirects.
    #[must_use]
    pub fn new(plain: PlainHttp) -> Self {
        Self::over(plain, TlsConfig::default())
    }

    /// Creates a client with certificates from files.
    ///
    /// # Errors
    ///
    /// When a file is unreadable or malformed.
    // spec: security 7.2 (the server's certificate is mandatory)
    pub fn with(plain: PlainHttp, certificates: &Certificates) -> io::Result<Self> {
        certificates.load().map(|tls| Self::over(plain, tls))
    }

    fn over(plain: PlainHttp, tls: TlsConfig) -> Self {
        let config = settings(&tls).timeout_global(Some(MESSAGE_TIME)).build();
        Self { agent: config.new_agent(), tls, plain }
    }

    /// Returns clients for packages, which keep away from own services.
    pub(super) fn for_packages(&self, accepted: PackageHosts) -> PackageClients {
        let accepted = Arc::new(accepted);
        let client = |config| {
            let resolver = GuardedResolver::new(Arc::clone(&accepted));
            Agent::with_parts(config, DefaultConnector::default(), resolver)
        };
        let bodies = settings(&self.tls)
            .timeout_recv_response(Some(IDLE_TIME))
            .timeout_per_read(Some(IDLE_TIME))
            .build();
        let posts = settings(&self.tls).timeout_global(Some(MESSAGE_TIME)).build();
        PackageClients { bodies: client(bodies), posts: client(posts) }
    }

    /// Posts a DM message and returns the response. Blocks until a limit is reached.
    ///
    /// # Errors
    ///
    /// [`HttpError`]; the message may have arrived all the same.
    pub fn post(&self, post: &HttpRequest) -> Result<Answered, HttpError> {
        self.check(&post.url)?;
        let content_type = post.encoding.media_type();
        let mut request = self
            .agent
            .post(&post.url)
            .header(header::CONTENT_TYPE, content_type)
            .header(header::ACCEPT, content_type);
        if let Some(mac) = &post.mac {
            request = request.header(MAC_HEADER, mac);
        }
        let sent = request.send(post.body.as_slice());
        let mut response = sent.map_err(|error| HttpError::Io(error.into_io()))?;
        if response.status() != StatusCode::OK {
            return Err(HttpError::Status {
                code: response.status().as_u16(),
                retry_after: super::fetch::retry_after(response.headers()),
            });
        }
        let mac = response.headers().get(MAC_HEADER);
        let mac = mac.and_then(|value| value.to_str().ok()).map(str::to_owned);
        // The library also rejects a body that ends exactly at its limit.
        match response.body_mut().with_config().limit(MAX_MESSAGE_BYTES + 1).read_to_vec() {
            Ok(body) if body.len() as u64 > MAX_MESSAGE_BYTES => Err(HttpError::TooLarge),
            Ok(body) => Ok(Answered { body, mac }),
            Err(ureq::Error::BodyExceedsLimit(_)) => Err(HttpError::TooLarge),
            Err(error) => Err(HttpError::Io(error.into_io())),
        }
    }

    pub(super) fn check(&self, url: &str) -> Result<(), HttpError> {
        let refused = |reason| Err(HttpError::Refused { url: url.to_owned(), reason });
        let Ok(uri) = url.parse::<Uri>() else { return refused("not a URL") };
        match (uri.scheme_str(), uri.host(), self.plain) {
            (Some("https"), Some(_), _) | (Some("http"), Some(_), PlainHttp::Anywhere) => Ok(()),
            (Some("http"), Some(host), PlainHttp::Loopback) if is_loopback(host) => Ok(()),
            (Some("http"), Some(_), PlainHttp::Loopback) => {
                refused("plain HTTP leaves this machine only with `insecure_http = true`")
            }
            _ => refused("expected an `https://` URL"),
        }
    }
}

/// Returns the settings of every client.
fn settings(tls: &TlsConfig) -> ConfigBuilder<AgentScope> {
    Agent::config_builder()
        .tls_config(tls.clone())
        .timeout_connect(Some(CONNECT_TIME))
        .http_status_as_error(false)
        .max_redirects(0)
        .user_agent(concat!("fumocast/", env!("CARGO_PKG_VERSION")))
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Octets of a response, at most.
pub const MAX_MESSAGE_BYTES: u64 = 64 << 10;
const MESSAGE_TIME: Duration = Duration::from_secs(30);
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// The longest wait for the next octets of a download.
const IDLE_TIME: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
        thread,
    };

    use proto::dm::encoding::Encoding;

    use super::*;

    #[test]
    fn a_message_is_posted_and_its_answer_returned() {
        let head = "HTTP/1.1 200 OK\r\nX-Syncml-HMAC: proof\r\nContent-Length: 6";
        let (url, server) = serve(&format!("{head}\r\n\r\nanswer"));
        let answer = Http::new(PlainHttp::Loopback).post(&message(&url)).unwrap();
        assert_eq!(
            (answer.body.as_slice(), answer.mac.as_deref()),
            (&b"answer"[..], Some("proof"))
        );
        let request = server.join().unwrap();
        assert!(request.starts_with("POST /dm HTTP/1.1\r\n"), "{request}");
        let lower = request.to_ascii_lowercase();
        for header in [
            "content-type: application/vnd.syncml.dm+wbxml",
            "accept: application/vnd.syncml.dm+wbxml",
            "x-syncml-hmac: mac",
        ] {
            assert!(lower.contains(header), "{request}");
        }
        assert!(request.ends_with("message"), "{request}");
    }

    #[test]
    fn a_busy_server_says_how_long_to_wait() {
        let answer = "HTTP/1.1 503 Busy\r\nRetry-After: 17\r\nContent-Length: 0\r\n\r\n";
        let (url, _server) = serve(answer);
        let error = Http::new(PlainHttp::Loopback).post(&message(&url)).unwrap_err();
        let wait = Some(Duration::from_secs(17));
        assert!(
            matches!(error, HttpError::Status { code: 503, retry_after } if retry_after == wait),
            "{error:?}"
        );
    }

    #[test]
    fn a_response_of_64_kib_is_accepted_and_one_octet_more_is_not() {
        for (length, fits) in [(65_536, true), (65_537, false)] {
            let body = "x".repeat(length);
            let (url, _server) =
                serve(&format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"));
            let answer = Http::new(PlainHttp::Loopback).post(&message(&url));
            assert_eq!(answer.is_ok(), fits, "{length}");
            assert_eq!(matches!(answer, Err(HttpError::TooLarge)), !fits, "{length}");
        }
    }

    #[test]
    fn redirects_are_not_followed() {
        let (url, _server) = serve(
            "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        );
        let error = Http::new(PlainHttp::Loopback).post(&message(&url)).unwrap_err();
        assert!(matches!(error, HttpError::Status { code: 302, .. }), "{error:?}");
    }

    #[test]
    fn plain_http_leaves_the_machine_only_when_allowed() {
        let strict = Http::new(PlainHttp::Loopback);
        let open = Http::new(PlainHttp::Anywhere);
        for url in ["http://192.0.2.1/dm", "http://dm.example/dm", "http://127.0.0.1.example/"] {
            assert!(matches!(strict.check(url), Err(HttpError::Refused { .. })), "{url}");
            assert!(open.check(url).is_ok(), "{url}");
        }
        for url in ["http://127.0.0.1:8080/dm", "http://[::1]/", "http://localhost/", "https://x/"]
        {
            assert!(strict.check(url).is_ok(), "{url}");
        }
        for url in ["ftp://127.0.0.1/", "", "dm", "/dm", "http://"] {
            assert!(open.check(url).is_err(), "{url}");
        }
    }

    #[test]
    fn an_absent_server_is_an_error() {
        let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let url = format!("http://{unused}/dm");
        let error = Http::new(PlainHttp::Loopback).post(&message(&url)).unwrap_err();
        assert!(matches!(error, HttpError::Io(_)), "{error:?}");
    }

    fn message(url: &str) -> HttpRequest {
        HttpRequest {
            url: url.to_owned(),
            encoding: Encoding::Wbxml,
            body: b"message".to_vec(),
            mac: Some("mac".to_owned()),
        }
    }

    fn serve(answer: &str) -> (String, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/dm", listener.local_addr().unwrap());
        let answer = answer.to_owned();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                request.extend_from_slice(&buffer[..count]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(request).unwrap()
        });
        (url, server)
    }
}
