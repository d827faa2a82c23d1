//! Peers of connections, and TLS from certificate files.

use std::{fs, io, net::SocketAddr, path::Path, path::PathBuf, sync::Arc};

use proto::crypto::sha256;
use proto_http::{
    table::Phase,
    transport::{self, Established, PlacedStream, Proof},
};
use rustls::{
    RootCertStore, ServerConfig, crypto,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use x509_cert::der::{
    Decode as _,
    asn1::{Ia5StringRef, ObjectIdentifier, PrintableStringRef, Utf8StringRef},
};

use crate::{app::AppError, fleet::device::PeerCertificate};

/// Files that make a listener speak TLS.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// Certificate chain of the server, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// CA certificates for devices, PEM. With them every DM message requires a client certificate
    /// whose subject is the device id, or to which the device is tied.
    pub client_ca: Option<PathBuf>,
}

impl TlsFiles {
    /// Loads the files.
    ///
    /// # Errors
    ///
    /// [`AppError::Configuration`] when one of them cannot be read, or key and certificate do not
    /// match.
    // spec: security 7.2 (TLS)
    pub fn load(&self) -> Result<Tls, AppError> {
        let certificates = certificates(&self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|error| unfit(&self.key, &error.to_string()))?;
        let provider = Arc::new(crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|error| unfit(&self.certificate, &error.to_string()))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in self::certificates(path)? {
                    roots.add(certificate).map_err(|error| unfit(path, &error.to_string()))?;
                }
                // Operators authenticate with a token; a missing device certificate is rejected
                // with its message.
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
                    .allow_unauthenticated()
                    .build()
                    .map_err(|error| unfit(path, &error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder
            .with_single_cert(certificates, key)
            .map_err(|error| unfit(&self.certificate, &error.to_string()))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Tls(TlsAcceptor::from(Arc::new(config))))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, AppError> {
    let text = fs::read(path).map_err(|error| unfit(path, &error.to_string()))?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match read {
        Ok(certificates) if certificates.is_empty() => {
            Err(unfit(path, "it contains no certificate"))
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(unfit(path, &error.to_string())),
    }
}

fn unfit(path: &Path, why: &str) -> AppError {
    AppError::Configuration(format!("{} cannot be used for TLS: {why}", path.display()))
}

/// The remote end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// Transport of the connection.
    pub transport: Transport,
}

impl Peer {
    /// Returns the client certificate that it has shown.
    #[must_use]
    pub const fn certificate(&self) -> Option<&PeerCertificate> {
        match &self.transport {
            Transport::Tls { certificate } => certificate.as_ref(),
            Transport::Plain => None,
        }
    }
}

/// Transport of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// Plain HTTP.
    Plain,
    /// TLS.
    Tls {
        /// The verified client certificate, if one was presented.
        certificate: Option<PeerCertificate>,
    },
}

/// TLS below HTTP.
#[derive(Clone)]
pub struct Tls(TlsAcceptor);

impl transport::Transport for Tls {
    type Stream = TlsStream<PlacedStream>;
    type Info = Transport;

    const FIRST_PHASE: Phase = Phase::Handshake;

    async fn handshake(
        &self,
        stream: PlacedStream,
    ) -> io::Result<Established<Self::Stream, Transport>> {
        let stream = self.0.accept(stream).await?;
        let (_, connection) = stream.get_ref();
        let shown = connection.peer_certificates().and_then(|chain| chain.first());
        let certificate = shown.map(|certificate| PeerCertificate {
            subject: common_name(certificate),
            fingerprint: sha256(&[certificate]),
        });
        let proof = if certificate.is_some() { Proof::Shown } else { Proof::Missing };
        Ok(Established { stream, info: Transport::Tls { certificate }, proof })
    }
}

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// Returns the common name of a certificate's subject; `None` when it has none, or several.
fn common_name(certificate: &[u8]) -> Option<String> {
    let certificate = x509_cert::Certificate::from_der(certificate).ok()?;
    let parts = certificate.tbs_certificate.subject.0.iter().flat_map(|part| part.0.iter());
    let mut names = parts.filter(|part| part.oid == COMMON_NAME).map(|part| &part.value);
    let (Some(name), None) = (names.next(), names.next()) else { return None };
    let utf8 = name.decode_as::<Utf8StringRef<'_>>().map(|text| text.as_str().to_owned());
    let printable =
        || name.decode_as::<PrintableStringRef<'_>>().map(|text| text.as_str().to_owned());
    let ia5 = || name.decode_as::<Ia5StringRef<'_>>().map(|text| text.as_str().to_owned());
    utf8.or_else(|_| printable()).or_else(|_| ia5()).ok()
}
