//! The socket that a session is sent through.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
};

use clap::Args;
use socket2::{Domain, Protocol, Socket, Type};

use crate::error::{CliError, ExitCode};

/// The channel of a session with the options of its socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channel {
    /// Multicast group and port.
    pub group: SocketAddr,
    /// Address of the outgoing interface.
    pub interface: Ipv4Addr,
    /// Source address of packets; one of this machine.
    pub source: Ipv4Addr,
    /// Routers that packets may pass, 0 for none.
    pub hops: u8,
    /// DSCP, 0..64.
    pub dscp: u8,
}

/// The options of the sending socket.
#[derive(Debug, Clone, Args)]
pub struct SendOptions {
    /// Address of the outgoing interface
    #[arg(long)]
    pub interface: IpAddr,
    /// Source address of packets [default: the interface's]
    #[arg(long)]
    pub source: Option<IpAddr>,
    /// Routers that packets may pass
    #[arg(long, default_value_t = 16)]
    pub ttl: u8,
    /// Differentiated services codepoint
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..64))]
    pub dscp: u8,
}

/// A group and port as two arguments.
#[derive(Debug, Clone, Args)]
pub struct GroupAndPort {
    /// Multicast group
    #[arg(long)]
    pub group: IpAddr,
    /// UDP port
    #[arg(long)]
    pub port: u16,
}

impl GroupAndPort {
    /// Returns both as one address.
    #[must_use]
    pub const fn channel(&self) -> SocketAddr {
        SocketAddr::new(self.group, self.port)
    }
}

/// Octets that the kernel may hold back; a few milliseconds at the fastest rate.
const SEND_BUFFER_BYTES: usize = 512 * 1024;

/// Checks a group and port without touching the network.
///
/// # Errors
///
/// [`ExitCode::Usage`] that names the field.
pub fn check_group(group: SocketAddr) -> Result<(), CliError> {
    let address = group.ip();
    if !address.is_multicast() {
        return Err(
            ExitCode::Usage.with_message(format!("group {address} is no multicast address"))
        );
    }
    if address.is_ipv6() {
        return Err(ExitCode::Usage.with_message(format!("group {address}: IPv6 is not supported")));
    }
    if group.port() == 0 {
        return Err(ExitCode::Usage.with_message("port is 0, expected 1 to 65535"));
    }
    Ok(())
}

/// Opens the socket of a channel. Packets also reach receivers on this machine.
///
/// # Errors
///
/// [`CliError`] that names the field which the machine refused.
pub fn open(channel: &Channel) -> Result<Sender, CliError> {
    check_group(channel.group)?;
    let Channel { group, interface, source, hops, dscp } = *channel;
    let step = |what: String| move |error: io::Error| CliError::network(what, error);
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))
        .map_err(step("UDP socket".into()))?;
    socket
        .bind(&SocketAddr::from((source, 0)).into())
        .map_err(step(format!("source {source} is no address of this machine")))?;
    socket
        .set_multicast_if_v4(&interface)
        .map_err(step(format!("interface {interface} is no address of this machine")))?;
    socket.set_multicast_ttl_v4(hops.into()).map_err(step(format!("TTL {hops}")))?;
    socket.set_multicast_loop_v4(true).map_err(step("multicast loop".into()))?;
    socket.set_tos_v4(u32::from(dscp) << 2).map_err(step(format!("DSCP {dscp}")))?;
    // A smaller buffer only makes the sender wait.
    drop(socket.set_send_buffer_size(SEND_BUFFER_BYTES));
    socket.connect(&group.into()).map_err(step(format!("group {group} cannot be reached")))?;
    Ok(Sender { socket })
}

/// Checks that an address is one of this machine.
///
/// # Errors
///
/// [`CliError`] that names the field.
pub fn check_local(field: &str, address: IpAddr) -> Result<(), CliError> {
    let address = ipv4(field, address)?;
    UdpSocket::bind((address, 0)).map(drop).map_err(|error| {
        CliError::network(format!("{field} {address} is no address of this machine"), error)
    })
}

/// Returns an IPv4 address, or a failure that names the field.
///
/// # Errors
///
/// [`ExitCode::Usage`] for IPv6.
pub fn ipv4(field: &str, address: IpAddr) -> Result<Ipv4Addr, CliError> {
    match address {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(address) => {
            Err(ExitCode::Usage.with_message(format!("{field} {address}: IPv6 is not supported")))
        }
    }
}

/// A connected socket.
#[derive(Debug)]
pub struct Sender {
    socket: Socket,
}

impl Sender {
    /// Returns the source address and port of datagrams.
    ///
    /// # Errors
    ///
    /// Any error of the system.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        let address = self.socket.local_addr()?;
        address.as_socket().ok_or_else(|| io::Error::other("no address of IP"))
    }

    /// Sends one datagram.
    ///
    /// # Errors
    ///
    /// Any error of the network.
    pub fn send(&self, datagram: &[u8]) -> io::Result<()> {
        loop {
            match self.socket.send(datagram) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(group: &str) -> Channel {
        Channel {
            group: group.parse().unwrap(),
            interface: Ipv4Addr::LOCALHOST,
            source: Ipv4Addr::LOCALHOST,
            hops: 1,
            dscp: 0,
        }
    }

    #[test]
    fn a_field_that_the_machine_or_the_format_refuses_is_named() {
        for (channel, exit, word) in [
            (channel("10.1.2.3:4000"), ExitCode::Usage, "group 10.1.2.3 is no multicast"),
            (channel("232.1.2.3:0"), ExitCode::Usage, "port"),
            (channel("[ff3e::1]:4000"), ExitCode::Usage, "IPv6"),
            (
                Channel { source: Ipv4Addr::new(192, 0, 2, 77), ..channel("232.1.2.3:4000") },
                ExitCode::Network,
                "source 192.0.2.77",
            ),
            (
                Channel { interface: Ipv4Addr::new(192, 0, 2, 77), ..channel("232.1.2.3:4000") },
                ExitCode::Network,
                "interface 192.0.2.77",
            ),
        ] {
            let error = open(&channel).unwrap_err();
            assert_eq!(error.exit_code(), exit, "{error}");
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn datagrams_reach_a_listener_on_this_machine() {
        let listener = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        let group = Ipv4Addr::new(239, 255, 71, 3);
        listener.join_multicast_v4(&group, &Ipv4Addr::LOCALHOST).unwrap();
        listener.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        let port = listener.local_addr().unwrap().port();
        let sender = open(&channel(&format!("{group}:{port}"))).unwrap();
        sender.send(b"datagram").unwrap();
        let mut buffer = [0; 64];
        let (length, from) = listener.recv_from(&mut buffer).unwrap();
        assert_eq!(
            (&buffer[..length], from.ip()),
            (&b"datagram"[..], IpAddr::from([127, 0, 0, 1]))
        );
    }
}
