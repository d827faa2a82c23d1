//! Reception of notifications, as datagrams or by HTTP POST.

use std::{future::pending, io, net::SocketAddr};

use tokio::{
    net::{TcpListener, UdpSocket},
    sync::mpsc,
};

mod http;

/// Octets to read of a notification; it has fewer.
const MAX_NOTIFICATION: usize = 2048;
/// Posted notifications that wait for the agent; further ones get status 503.
const WAITING: usize = 4;

/// Ports for notifications.
#[derive(Debug)]
pub struct Notifications {
    socket: Option<UdpSocket>,
    posted: Option<mpsc::Receiver<Vec<u8>>>,
}

impl Notifications {
    /// Listens at these addresses, for datagrams and for HTTP.
    ///
    /// # Errors
    ///
    /// Any error of the bind: an address is in use, or not of this machine.
    ///
    /// # Cancel safety
    ///
    /// Closes all sockets.
    pub async fn open(datagrams: Option<SocketAddr>, http: Option<SocketAddr>) -> io::Result<Self> {
        let socket = match datagrams {
            Some(address) => Some(UdpSocket::bind(address).await?),
            None => None,
        };
        let posted = match http {
            Some(address) => {
                let (sender, posted) = mpsc::channel(WAITING);
                tokio::spawn(http::serve(TcpListener::bind(address).await?, sender));
                Some(posted)
            }
            None => None,
        };
        Ok(Self { socket, posted })
    }

    /// Sends each notification to `agent`, until its receiver is gone.
    ///
    /// # Cancel safety
    ///
    /// Loses a notification that waits for the agent.
    pub async fn forward(mut self, agent: mpsc::Sender<Vec<u8>>) {
        loop {
            let octets = self.receive().await;
            if agent.send(octets).await.is_err() {
                return;
            }
        }
    }

    /// Returns the next notification; never without a port.
    ///
    /// # Cancel safety
    ///
    /// No notification is lost.
    pub async fn receive(&mut self) -> Vec<u8> {
        let Self { socket, posted } = self;
        tokio::select! {
            octets = datagram(socket.as_ref()) => octets,
            octets = post(posted.as_mut()) => octets,
        }
    }
}

async fn datagram(socket: Option<&UdpSocket>) -> Vec<u8> {
    let Some(socket) = socket else { return pending().await };
    let mut buffer = [0; MAX_NOTIFICATION];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((length, _)) => return buffer.get(..length).unwrap_or_default().to_vec(),
            Err(error) => tracing::debug!(%error, "failed to receive a notification"),
        }
    }
}

async fn post(posted: Option<&mut mpsc::Receiver<Vec<u8>>>) -> Vec<u8> {
    match posted {
        Some(posted) => match posted.recv().await {
            Some(octets) => octets,
            None => pending().await,
        },
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    #[tokio::test]
    async fn a_datagram_is_received_as_sent() {
        let notifications = Notifications::open(Some(HERE), None).await.unwrap();
        let to = notifications.socket.as_ref().unwrap().local_addr().unwrap();
        let (agent, mut received) = mpsc::channel(1);
        let forwarding = tokio::spawn(notifications.forward(agent));
        let sender = UdpSocket::bind(HERE).await.unwrap();
        for octets in [b"first", b"other"] {
            sender.send_to(octets, to).await.unwrap();
            assert_eq!(received.recv().await.unwrap(), octets);
        }
        let second = Notifications::open(Some(to), None).await;
        assert!(second.is_err(), "the address is in use");
        drop(received);
        sender.send_to(b"late", to).await.unwrap();
        forwarding.await.unwrap();
    }
}
