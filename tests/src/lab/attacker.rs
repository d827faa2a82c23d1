//! The attacker as a process: receives the channel, and sends packets of a [`Forger`].

use std::{
    ffi::OsString,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    path::PathBuf,
};

use anyhow::Context as _;
use clap::Parser;
use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::{documents::Documents, forgery::Forger, options::Ratio};

/// The attacker's command line.
#[derive(Debug, Parser)]
struct Arguments {
    /// Folder of the package: its signed documents, which are no secret
    #[arg(long)]
    package: PathBuf,
    /// The factory root
    #[arg(long)]
    root: PathBuf,
    /// Channel to disturb
    #[arg(long)]
    channel: SocketAddrV4,
    /// Address that the image server sends from, and the attacker too
    #[arg(long)]
    source: Ipv4Addr,
    /// Forged packets for each true one
    #[arg(long)]
    ratio: Ratio,
    /// Seed of the run
    #[arg(long)]
    seed: u64,
}

/// Disturbs the channel until it is killed.
///
/// # Errors
///
/// When the documents cannot be read or the channel cannot be joined.
pub fn run(arguments: impl Iterator<Item = OsString>) -> anyhow::Result<()> {
    let Arguments { package, root, channel, source, ratio, seed } =
        Arguments::try_parse_from(arguments)?;
    let documents = Documents::read(&package, &root)?;
    let mut forger = Forger::new(documents.object, ratio.0, seed);
    let ears = ears(channel, source).with_context(|| format!("listen on {channel}"))?;
    let mouth = mouth(source).with_context(|| format!("send from {source}"))?;
    let own = mouth.local_addr()?;
    let mut buffer = [0; 2048];
    loop {
        let (length, from) = ears.recv_from(&mut buffer)?;
        if from == own {
            continue;
        }
        let datagram = buffer.get(..length).unwrap_or_default();
        let mut failed = None;
        let handled = forger.handle_true(datagram, &mut |_, forged| {
            failed = mouth.send_to(forged, SocketAddr::V4(channel)).err();
        });
        if let Err(error) = handled {
            proto_cli::note!("forger: not FLUTE: {error}");
        }
        if let Some(error) = failed {
            proto_cli::note!("forger: {error}");
        }
    }
}

fn ears(channel: SocketAddrV4, interface: Ipv4Addr) -> std::io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.set_recv_buffer_size(4 << 20)?;
    socket.bind(&SocketAddr::V4(channel).into())?;
    socket.join_multicast_v4(channel.ip(), &interface)?;
    Ok(socket.into())
}

fn mouth(source: Ipv4Addr) -> std::io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_multicast_if_v4(&source)?;
    socket.set_multicast_loop_v4(true)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    Ok(socket.into())
}
