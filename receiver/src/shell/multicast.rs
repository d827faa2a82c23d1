//! Multicast channels, received in batches.
//!
//! A socket is bound to its (group, port) and has `IP_MULTICAST_ALL` off, so that it receives only
//! the groups that it joined itself.

use std::{
    array, io,
    io::IoSliceMut,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    task::{Context, Poll},
};

use quinn_udp::{RecvMeta, UdpSockRef, UdpSocketState};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::{io::Interest, net::UdpSocket};

/// A channel to join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channel {
    /// Group and port.
    pub group: SocketAddr,
    /// The only sender to accept; `None`: any source.
    pub source: Option<IpAddr>,
}

/// Error of joining a channel.
#[derive(Debug, Error)]
pub enum JoinError {
    /// Channels are IPv4.
    #[error("{0} is no IPv4 address, and channels are IPv4")]
    NotIpv4(IpAddr),
    /// The address is not a multicast group.
    #[error("{0} is no multicast group")]
    NotMulticast(Ipv4Addr),
    /// The system denied the call.
    #[error("cannot {attempted}")]
    Io {
        /// The attempted operation.
        attempted: String,
        /// The cause.
        source: io::Error,
    },
}

/// The joined channels, and the buffers of their datagrams.
#[derive(Debug)]
pub struct Channels {
    interface: Ipv4Addr,
    joined: Vec<(Channel, ChannelSocket)>,
    /// Index of the socket to poll first.
    turn: usize,
    buffers: Vec<u8>,
    meta: [RecvMeta; BATCH],
}

/// Datagrams that arrived together on one channel.
#[derive(Debug)]
pub struct Batch<'a> {
    /// The channel.
    pub channel: Channel,
    buffers: &'a [u8],
    meta: &'a [RecvMeta],
}

impl<'a> Batch<'a> {
    /// Returns the datagrams in the order of their arrival, each with its sender.
    pub fn datagrams(&self) -> impl Iterator<Item = (SocketAddr, &'a [u8])> + use<'a> {
        self.meta.iter().zip(self.buffers.chunks_exact(BUFFER_BYTES)).flat_map(|(meta, buffer)| {
            let filled = buffer.get(..meta.len).unwrap_or_default();
            filled.chunks(meta.stride.max(1)).map(|datagram| (meta.addr, datagram))
        })
    }
}

impl Channels {
    /// Creates an empty set; groups are joined on `interface`.
    #[must_use]
    pub fn new(interface: Ipv4Addr) -> Self {
        Self {
            interface,
            joined: Vec::new(),
            turn: 0,
            buffers: vec![0; BATCH * BUFFER_BYTES],
            meta: [RecvMeta::default(); BATCH],
        }
    }

    /// Joins a channel, unless it is joined.
    ///
    /// # Errors
    ///
    /// [`JoinError`], which names the address.
    pub fn join(&mut self, channel: Channel) -> Result<(), JoinError> {
        if !self.joined.iter().any(|(joined, _)| *joined == channel) {
            self.joined.push((channel, ChannelSocket::join(channel, self.interface)?));
        }
        Ok(())
    }

    /// Leaves a channel, if it is joined.
    pub fn leave(&mut self, channel: Channel) {
        self.joined.retain(|(joined, _)| *joined != channel);
    }

    /// Returns the channels that are joined.
    pub fn joined(&self) -> impl Iterator<Item = Channel> {
        self.joined.iter().map(|(channel, _)| *channel)
    }

    /// Waits for datagrams on any channel; for ever without one.
    ///
    /// # Errors
    ///
    /// Any error of the receive; the channel stays joined.
    ///
    /// # Cancel safety
    ///
    /// No datagram is lost by dropping it.
    pub async fn receive(&mut self) -> io::Result<Batch<'_>> {
        let (joined, turn) = (&self.joined, self.turn);
        let (buffers, meta) = (&mut self.buffers, &mut self.meta);
        let (at, count) =
            std::future::poll_fn(|context| poll_all(joined, turn, context, buffers, meta)).await?;
        self.turn = at + 1;
        let channel = self.joined.get(at).map(|(channel, _)| *channel);
        Ok(Batch {
            channel: channel.expect("the socket that received is one of those joined"),
            buffers: &self.buffers,
            meta: self.meta.get(..count).unwrap_or_default(),
        })
    }
}

/// Polls each socket once, from `turn` on: a busy channel does not starve the others.
fn poll_all(
    joined: &[(Channel, ChannelSocket)],
    turn: usize,
    context: &mut Context<'_>,
    buffers: &mut [u8],
    meta: &mut [RecvMeta; BATCH],
) -> Poll<io::Result<(usize, usize)>> {
    for at in (0..joined.len()).map(|step| (turn + step) % joined.len()) {
        let Some((_, socket)) = joined.get(at) else { continue };
        match socket.poll_receive(context, buffers, meta) {
            Poll::Ready(outcome) => return Poll::Ready(outcome.map(|count| (at, count))),
            Poll::Pending => {}
        }
    }
    Poll::Pending
}

#[derive(Debug)]
struct ChannelSocket {
    socket: UdpSocket,
    state: UdpSocketState,
}

impl ChannelSocket {
    fn join(channel: Channel, interface: Ipv4Addr) -> Result<Self, JoinError> {
        let group = match channel.group {
            SocketAddr::V4(group) => group,
            SocketAddr::V6(group) => return Err(JoinError::NotIpv4((*group.ip()).into())),
        };
        let source = match channel.source {
            Some(IpAddr::V4(source)) => Some(source),
            Some(source @ IpAddr::V6(_)) => return Err(JoinError::NotIpv4(source)),
            None => None,
        };
        if !group.ip().is_multicast() {
            return Err(JoinError::NotMulticast(*group.ip()));
        }
        let socket = bound(group).map_err(while_doing(format!("listen on {group}")))?;
        match source {
            // spec: rfc5775 5.1.2.4 (the designated sender alone)
            Some(source) => socket.join_ssm_v4(&source, group.ip(), &interface),
            None => socket.join_multicast_v4(group.ip(), &interface),
        }
        .map_err(while_doing(format!("join {group} on the interface {interface}")))?;
        let attempt = || {
            let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
            Ok(Self { socket: UdpSocket::from_std(socket.into())?, state })
        };
        attempt().map_err(while_doing(format!("listen on {group}")))
    }

    fn poll_receive(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [u8],
        meta: &mut [RecvMeta; BATCH],
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.socket.poll_recv_ready(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
            let mut chunks = buffers.chunks_exact_mut(BUFFER_BYTES);
            let mut slices: [_; BATCH] =
                array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
            let outcome = self.socket.try_io(Interest::READABLE, || {
                self.state.recv(UdpSockRef::from(&self.socket), &mut slices, meta)
            });
            match outcome {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return Poll::Ready(outcome),
            }
        }
    }
}

fn bound(group: SocketAddrV4) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.set_multicast_all_v4(false)?;
    // Only a privileged process may exceed the system's limit.
    if set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER_BYTES).is_err() {
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    }
    socket.bind(&SocketAddr::V4(group).into())?;
    Ok(socket)
}

fn while_doing(attempted: String) -> impl FnOnce(io::Error) -> JoinError {
    |source| JoinError::Io { attempted, source }
}

/// Datagrams, or coalesced runs of them, that are received at once.
const BATCH: usize = 16;
/// The longest run that the kernel coalesces.
const BUFFER_BYTES: usize = 64 << 10;
const RECEIVE_BUFFER_BYTES: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket as StdSocket, time::Duration};

    use tokio::time::timeout;

    use super::*;

    const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;

    // test: rfc5775 5.1.2.4
    #[tokio::test]
    async fn datagrams_of_the_source_are_received_and_those_of_others_are_not() {
        let group = channel(Ipv4Addr::new(232, 77, 1, 1), Some(LOOPBACK));
        let elsewhere = channel(Ipv4Addr::new(232, 77, 1, 2), Some(Ipv4Addr::new(127, 0, 0, 9)));
        let Some((mut channels, sender)) = set_up(&[group, elsewhere]) else { return };
        sender.send_to(b"from another source", elsewhere.group).unwrap();
        for number in 0..40_u8 {
            sender.send_to(&[number; 1444], group.group).unwrap();
        }
        let mut received = Vec::new();
        while received.len() < 40 {
            let Ok(batch) = timeout(Duration::from_secs(5), channels.receive()).await else {
                break;
            };
            let batch = batch.unwrap();
            assert_eq!(batch.channel, group);
            for (source, datagram) in batch.datagrams() {
                assert_eq!(source, sender.local_addr().unwrap());
                assert_eq!(datagram.len(), 1444);
                received.push(datagram[0]);
            }
        }
        if received.is_empty() {
            eprintln!("SKIPPED: multicast does not reach the loopback interface here");
            return;
        }
        assert_eq!(received, (0..40).collect::<Vec<_>>());
        let more = timeout(Duration::from_millis(50), channels.receive()).await;
        assert!(more.is_err(), "the other source is not received");
        channels.leave(group);
        sender.send_to(b"after", group.group).unwrap();
        assert!(timeout(Duration::from_millis(50), channels.receive()).await.is_err());
    }

    #[tokio::test]
    async fn another_group_on_the_same_port_is_not_received() {
        let group = channel(Ipv4Addr::new(239, 77, 1, 7), None);
        let Some((mut channels, sender)) = set_up(&[group]) else { return };
        // Another program on this machine joined it, so that the system receives it.
        let other = Ipv4Addr::new(239, 77, 1, 8);
        let neighbour = StdSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        neighbour.join_multicast_v4(&other, &LOOPBACK).unwrap();
        sender.send_to(b"another group", (other, group.group.port())).unwrap();
        sender.send_to(b"ours", group.group).unwrap();
        let Ok(batch) = timeout(Duration::from_secs(5), channels.receive()).await else {
            eprintln!("SKIPPED: multicast does not reach the loopback interface here");
            return;
        };
        let batch = batch.unwrap();
        let received: Vec<&[u8]> = batch.datagrams().map(|(_, datagram)| datagram).collect();
        assert_eq!(received, [b"ours"]);
    }

    #[tokio::test]
    async fn an_address_that_is_no_group_is_named() {
        let mut channels = Channels::new(LOOPBACK);
        let unicast = channel(Ipv4Addr::new(192, 0, 2, 1), None);
        let error = channels.join(unicast).unwrap_err();
        assert_eq!(error.to_string(), "192.0.2.1 is no multicast group");
        let v6 = Channel { group: "[ff3e::1]:9".parse().unwrap(), source: None };
        assert!(matches!(channels.join(v6), Err(JoinError::NotIpv4(_))));
    }

    #[tokio::test]
    async fn an_interface_that_is_not_there_is_named() {
        let mut channels = Channels::new(Ipv4Addr::new(203, 0, 113, 250));
        let error = channels.join(channel(Ipv4Addr::new(232, 77, 1, 3), Some(LOOPBACK)));
        let text = error.unwrap_err().to_string();
        assert!(text.ends_with("on the interface 203.0.113.250"), "{text}");
    }

    fn channel(group: Ipv4Addr, source: Option<Ipv4Addr>) -> Channel {
        let free = StdSocket::bind((LOOPBACK, 0)).unwrap().local_addr().unwrap().port();
        Channel { group: (group, free).into(), source: source.map(IpAddr::V4) }
    }

    fn set_up(channels: &[Channel]) -> Option<(Channels, StdSocket)> {
        let mut joined = Channels::new(LOOPBACK);
        for channel in channels {
            if let Err(error) = joined.join(*channel) {
                eprintln!("SKIPPED: multicast is not available here: {error:?}");
                return None;
            }
        }
        let sender = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        sender.set_multicast_if_v4(&LOOPBACK).unwrap();
        sender.set_multicast_loop_v4(true).unwrap();
        sender.bind(&SocketAddr::from((LOOPBACK, 0)).into()).unwrap();
        Some((joined, sender.into()))
    }
}
