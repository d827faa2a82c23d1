//! Takes notifications over UDP.

use std::{future::pending, io, net::SocketAddr};

use tokio::net::UdpSocket;

/// Octets that are read of a datagram; a notification has fewer.
const MAX_DATAGRAM: usize = 2048;

/// The socket for notifications, if the device takes any.
#[derive(Debug)]
pub struct Notifications(Option<UdpSocket>);

impl Notifications {
    /// Listens at an address.
    ///
    /// # Errors
    ///
    /// When the address is taken, or none of this machine.
    ///
    /// # Cancel safety
    ///
    /// Nothing is left open.
    pub async fn open(address: Option<SocketAddr>) -> io::Result<Self> {
        Ok(Self(match address {
            Some(address) => Some(UdpSocket::bind(address).await?),
            None => None,
        }))
    }

    /// Returns the next datagram; never when none can come.
    ///
    /// # Cancel safety
    ///
    /// No datagram is lost.
    pub async fn receive(&self) -> Vec<u8> {
        let Some(socket) = &self.0 else { return pending().await };
        let mut buffer = [0; MAX_DATAGRAM];
        loop {
            match socket.recv_from(&mut buffer).await {
                Ok((length, _)) => return buffer.get(..length).unwrap_or_default().to_vec(),
                Err(error) => tracing::debug!(%error, "failed to receive a notification"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_datagram_comes_as_it_was_sent() {
        let here = SocketAddr::from(([127, 0, 0, 1], 0));
        let notifications = Notifications::open(Some(here)).await.unwrap();
        let to = notifications.0.as_ref().unwrap().local_addr().unwrap();
        let sender = UdpSocket::bind(here).await.unwrap();
        sender.send_to(b"notification", to).await.unwrap();
        assert_eq!(notifications.receive().await, b"notification");
        assert!(Notifications::open(Some(to)).await.is_err(), "the address is taken");
    }
}
