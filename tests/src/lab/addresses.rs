//! Addresses of one run: free ports on loopback, and a group of its own.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, UdpSocket},
};

use proto::crypto::random;

/// Addresses of a run.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// Interface of the multicast, and source of the image server's packets.
    pub interface: Ipv4Addr,
    /// Group and port of the channel.
    pub channel: SocketAddrV4,
    /// The image server's control API.
    pub carousel: SocketAddr,
    /// The management server.
    pub bridge: SocketAddr,
}

impl Addresses {
    /// Allocates free ones.
    ///
    /// # Errors
    ///
    /// When loopback has no port left.
    pub fn allocate() -> io::Result<Self> {
        let interface = Ipv4Addr::LOCALHOST;
        let free = || TcpListener::bind((interface, 0)).and_then(|socket| socket.local_addr());
        let port = UdpSocket::bind((interface, 0))?.local_addr()?.port();
        // 232/8 is for source-specific multicast; another lab on this machine draws other octets.
        let [a, b, c] = random::<3>();
        let group = Ipv4Addr::new(232, a.max(1), b, c.max(1));
        let channel = SocketAddrV4::new(group, port);
        Ok(Self { interface, channel, carousel: free()?, bridge: free()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_runs_do_not_meet() {
        let (one, other) = (Addresses::allocate().unwrap(), Addresses::allocate().unwrap());
        assert!(one.channel.ip().is_multicast());
        assert_ne!(one.channel, other.channel);
        assert_ne!(one.carousel.port(), one.bridge.port());
    }
}
