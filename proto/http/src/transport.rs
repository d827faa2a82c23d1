//! Transports below HTTP.

use std::{io, net::SocketAddr};

use tokio::io::{AsyncRead, AsyncWrite};

pub use crate::stream::PlacedStream;
use crate::table::Phase;

/// A transport, which begins with a handshake or with HTTP.
pub trait Transport: Clone + Send + Sync + 'static {
    /// The connection after its handshake.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// Properties of a connection, given to each of its requests.
    type Info: Clone + Send + Sync + 'static;

    /// The phase with which a connection begins.
    const FIRST_PHASE: Phase;

    /// Completes the handshake.
    ///
    /// # Errors
    ///
    /// When the peer fails to; the connection is closed then.
    fn handshake(
        &self,
        stream: PlacedStream,
    ) -> impl Future<Output = io::Result<Established<Self::Stream, Self::Info>>> + Send;
}

/// A connection after its handshake.
#[derive(Debug)]
pub struct Established<S, I> {
    /// Its octets.
    pub stream: S,
    /// Its properties.
    pub info: I,
    /// The proof of the peer in the handshake.
    pub proof: Proof,
}

/// The proof of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// It has proved itself.
    Shown,
    /// It has not, or not yet.
    Missing,
}

/// Marks a response, in its extensions, whose request was accepted with a proof of the peer. The
/// connection is then no stranger's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proved;

/// The remote end of a connection.
#[derive(Debug, Clone)]
pub struct Peer<I> {
    /// Its address.
    pub address: SocketAddr,
    /// Properties of the connection.
    pub info: I,
}

/// No transport between TCP and HTTP.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plain;

impl Transport for Plain {
    type Stream = PlacedStream;
    type Info = ();

    const FIRST_PHASE: Phase = Phase::Header;

    async fn handshake(&self, stream: PlacedStream) -> io::Result<Established<PlacedStream, ()>> {
        Ok(Established { stream, info: (), proof: Proof::Missing })
    }
}
