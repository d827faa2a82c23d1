//! Peers that never prove themselves.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use proto::{
    dm::{auth::Secret, encoding::Encoding},
    fixtures::device::ScriptedDevice,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};

use super::servers::connect;
use crate::sessions::client::{URL, head, id};

/// A kind of peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    SilentConnection,
    HalfOpenHandshake,
    HeaderDrip,
    MissingBody,
    NoCredential,
    WrongProof,
    LongClaim,
    NoToken,
    SlowReader,
}

impl Kind {
    pub(super) const ALL: [Self; 9] = [
        Self::SilentConnection,
        Self::HalfOpenHandshake,
        Self::HeaderDrip,
        Self::MissingBody,
        Self::NoCredential,
        Self::WrongProof,
        Self::LongClaim,
        Self::NoToken,
        Self::SlowReader,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::SilentConnection => "silent connection",
            Self::HalfOpenHandshake => "half-open handshake",
            Self::HeaderDrip => "header drip",
            Self::MissingBody => "body that does not come",
            Self::NoCredential => "message without credential",
            Self::WrongProof => "wrong proof for a real id",
            Self::LongClaim => "claim of 64 KB",
            Self::NoToken => "metrics, package without token",
            Self::SlowReader => "slow reader",
        }
    }

    pub(super) const fn is_over_tls(self) -> bool {
        matches!(self, Self::HalfOpenHandshake)
    }

    /// Returns the second octet of its addresses: none waits for ports of another kind.
    const fn network(self) -> u8 {
        64 + self as u8
    }
}

/// Octets of a body that is announced and does not come.
const MISSING_BODY: usize = 60_000;
/// Octets of the longest claim in a message of 64 KiB, which names it three times.
const LONG_CLAIM: usize = 20_000;
/// Time that a peer waits for an answer.
const ANSWER: Duration = Duration::from_secs(5);

/// All that peers say.
#[derive(Debug)]
pub(super) struct Attack {
    devices: u32,
    hold: Duration,
    long_claim: Vec<u8>,
}

impl Attack {
    pub(super) fn new(devices: u32, hold: Duration) -> Self {
        Self { devices, hold, long_claim: message(&"x".repeat(LONG_CLAIM), Some(b"nonce")) }
    }

    /// Is one peer, until it has its answer or has held its connection.
    pub(super) async fn peer(
        self: Arc<Self>,
        kind: Kind,
        addresses: u32,
        number: u32,
        to: SocketAddr,
    ) {
        let [_, _, third, fourth] = (256 + number % addresses).to_be_bytes();
        let from = Ipv4Addr::new(127, kind.network(), third, fourth);
        // A peer whose connection is refused or cut has failed, which is no failure of the siege.
        drop(match kind {
            Kind::SilentConnection => self.hold(connect(from, to).await, b"").await,
            // The begin of a TLS record of 512 octets.
            Kind::HalfOpenHandshake => {
                self.hold(connect(from, to).await, b"\x16\x03\x01\x02\x00\x01").await
            }
            Kind::HeaderDrip => self.drip(connect(from, to).await).await,
            Kind::MissingBody => {
                let mut octets = head("/dm", Encoding::Xml.media_type(), MISSING_BODY).into_bytes();
                // Every other body lacks its last octet alone.
                if number.is_multiple_of(2) {
                    octets.resize(octets.len() + MISSING_BODY - 1, b' ');
                }
                self.hold(connect(from, to).await, &octets).await
            }
            Kind::NoCredential => ask(from, to, &post(&message(&self.id(number), None))).await,
            Kind::WrongProof => {
                ask(from, to, &post(&message(&self.id(number), Some(b"nonce")))).await
            }
            Kind::LongClaim => ask(from, to, &post(&self.long_claim)).await,
            Kind::NoToken => {
                let download = format!("/download/{number:032x}/package");
                let path = if number.is_multiple_of(2) { "/metrics" } else { &download };
                ask(from, to, format!("GET {path} HTTP/1.1\r\nHost: l\r\n\r\n").as_bytes()).await
            }
            Kind::SlowReader => self.read_slowly(from, to, &self.id(number)).await,
        });
    }

    /// Returns the id of a device that is enrolled.
    fn id(&self, number: u32) -> String {
        id(number % self.devices)
    }

    /// Sends octets and holds the connection.
    async fn hold(
        &self,
        connected: std::io::Result<TcpStream>,
        octets: &[u8],
    ) -> std::io::Result<()> {
        let mut stream = connected?;
        stream.write_all(octets).await?;
        let mut sink = [0; 1_024];
        let until_end = async { while stream.read(&mut sink).await.is_ok_and(|read| read > 0) {} };
        drop(timeout(self.hold, until_end).await);
        Ok(())
    }

    /// Sends a header, one octet a second.
    async fn drip(&self, connected: std::io::Result<TcpStream>) -> std::io::Result<()> {
        let mut stream = connected?;
        let header = head("/dm", Encoding::Xml.media_type(), 1);
        let dripping = async {
            for octet in header.bytes() {
                stream.write_all(&[octet]).await?;
                sleep(Duration::from_secs(1)).await;
            }
            Ok(())
        };
        timeout(self.hold, dripping).await.unwrap_or(Ok(()))
    }

    /// Asks and reads one octet a second.
    async fn read_slowly(&self, from: Ipv4Addr, to: SocketAddr, id: &str) -> std::io::Result<()> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(2_048)?;
        socket.bind((from, 0).into())?;
        let stream = socket.connect(to).await?;
        let (mut reader, mut writer) = stream.into_split();
        let request = post(&message(id, None));
        let reading = async {
            while reader.read_u8().await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        };
        let both = async { tokio::join!(writer.write_all(&request), reading).0 };
        timeout(self.hold, both).await.unwrap_or(Ok(()))
    }
}

/// Sends a request and reads the begin of its answer.
async fn ask(from: Ipv4Addr, to: SocketAddr, request: &[u8]) -> std::io::Result<()> {
    let mut stream = connect(from, to).await?;
    stream.write_all(request).await?;
    timeout(ANSWER, stream.read(&mut [0; 1_024])).await.map_or(Ok(()), |read| read.map(drop))
}

fn post(body: &[u8]) -> Vec<u8> {
    [head("/dm", Encoding::Xml.media_type(), body.len()).as_bytes(), body].concat()
}

/// Returns package 1 of a device, without a credential or with a wrong one for a nonce.
fn message(id: &str, nonce: Option<&[u8]>) -> Vec<u8> {
    let mut device = ScriptedDevice::new(id, "guess");
    URL.clone_into(&mut device.client.url);
    let credential = nonce.map(|nonce| Secret::new("guess", "guess").credential(nonce));
    Encoding::Xml.emit(&device.first(credential))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_claim_fits_into_a_message() {
        let attack = Attack::new(1, Duration::ZERO);
        assert!((LONG_CLAIM..64 << 10).contains(&attack.long_claim.len()));
        assert!(Encoding::Xml.parse(&attack.long_claim, &Default::default()).is_ok());
    }
}
