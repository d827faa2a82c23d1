//! Two thin programs around their crate: what their own examples are, with the choices of a test.
//!
//! The test starts its own program file again with the name of one test, [`run_a_role`], and a task
//! in the environment.

use std::{
    env, fs,
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
    process::Command,
    time::{Duration, SystemTime},
};

use flute::{
    core::Oti,
    sender::{Config, Profile},
};
use fumocast_tests::{
    lab::{process::die_with_parent, rng::SeededRng},
    namespaces::Machine,
};
use proto::{flute::alc::Packet, ids::Toi};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::UdpSocket, runtime, time};

use crate::peer::{TheirReceiver, their_packets_at};

/// Group and port of every session.
pub(super) const GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 7, 7, 30), 40_100);

/// Names the task of a role.
const TASK: &str = "FUMOCAST_INTEROP_TASK";

/// Packets between two pauses, and the length of a pause: some 8 Mbit/s.
const BURST: usize = 4;
const PAUSE: Duration = Duration::from_millis(5);

/// A role of this program.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Task {
    Send(Voice),
    Receive(Ear),
}

/// Parameters of their sender.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Voice {
    pub(super) interface: Ipv4Addr,
    pub(super) files: Vec<PathBuf>,
    pub(super) version: Version,
    /// FEC Encoding ID: 0 or 6.
    pub(super) scheme: u8,
    pub(super) sub_blocks: u16,
    /// EXT_FTI in each packet; without it the table alone has the parameters.
    pub(super) in_packets: bool,
    /// The table comes behind all files.
    pub(super) table_last: bool,
    pub(super) loss: f64,
    pub(super) seed: u64,
}

/// FLUTE versions.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) enum Version {
    One,
    Two,
}

/// Parameters of their receiver.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ear {
    pub(super) interface: Ipv4Addr,
    /// It ends when so many are whole.
    pub(super) files: usize,
    pub(super) out: PathBuf,
    pub(super) loss: f64,
    pub(super) seed: u64,
}

impl Task {
    /// Returns the command that does it on a machine.
    pub(super) fn command(&self, machine: &Machine) -> Command {
        let program = env::current_exe().expect("a test knows its own file");
        let mut command = machine.command(program);
        command.args(["--ignored", "--exact", "--nocapture", "sockets::programs::run_a_role"]);
        command.env(TASK, serde_json::to_string(self).expect("a task is plain data"));
        command
    }
}

#[test]
#[ignore = "a program that other tests start"]
fn run_a_role() {
    // Whoever runs all ignored tests by hand has no task.
    let Ok(task) = env::var(TASK) else { return };
    die_with_parent().unwrap();
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match serde_json::from_str(&task).unwrap() {
        Task::Send(voice) => runtime.block_on(send(&voice)),
        Task::Receive(ear) => runtime.block_on(receive(&ear)),
    }
}

#[expect(clippy::disallowed_methods, reason = "a program of its own, with a clock of its own")]
fn now() -> SystemTime {
    SystemTime::now()
}

fn socket(interface: Ipv4Addr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.set_multicast_if_v4(&interface).unwrap();
    socket
}

/// Sends one transfer of the files again and again until it is killed.
async fn send(voice: &Voice) {
    let socket = socket(voice.interface);
    socket.bind(&SocketAddrV4::new(voice.interface, 0).into()).unwrap();
    let socket = UdpSocket::from_std(socket.into()).unwrap();
    let packets = transfer(voice);
    let mut rng = SeededRng::new(voice.seed, "loss on the wire");
    loop {
        for burst in packets.chunks(BURST) {
            for packet in burst.iter().filter(|_| !rng.random_bool(voice.loss)) {
                socket.send_to(packet, GROUP).await.unwrap();
            }
            time::sleep(PAUSE).await;
        }
    }
}

fn transfer(voice: &Voice) -> Vec<Vec<u8>> {
    let files: Vec<_> = voice
        .files
        .iter()
        .map(|path| (url::Url::from_file_path(path).unwrap(), fs::read(path).unwrap()))
        .collect();
    let files: Vec<_> =
        files.iter().map(|(location, octets)| (location.as_str(), &octets[..])).collect();
    let profile = match voice.version {
        Version::One => Profile::RFC3926,
        Version::Two => Profile::RFC6726,
    };
    let oti = match voice.scheme {
        6 => Oti::new_raptorq(1200, 64, 8, voice.sub_blocks, 4).unwrap(),
        _ => Oti::new_no_code(1200, 64),
    };
    let oti = Oti { inband_fti: voice.in_packets, ..oti };
    let config = Config { profile, ..Config::default() };
    let mut packets = their_packets_at(now(), 9, &config, &oti, &files);
    // The next round follows: what would close the session is left out.
    packets.retain(|packet| !Packet::parse(packet).unwrap().header.close_session);
    let of_table = |packet: &Vec<u8>| Packet::parse(packet).unwrap().header.toi == Some(Toi::FDT);
    if voice.table_last {
        packets.sort_by_key(of_table);
    }
    packets
}

/// Writes what their receiver makes of the channel, and ends when all files are whole.
async fn receive(ear: &Ear) {
    let socket = socket(ear.interface);
    socket.set_recv_buffer_size(4 << 20).unwrap();
    socket.bind(&GROUP.into()).unwrap();
    socket.join_multicast_v4(GROUP.ip(), &ear.interface).unwrap();
    let socket = UdpSocket::from_std(socket.into()).unwrap();
    let mut receiver = TheirReceiver::new();
    let mut rng = SeededRng::new(ear.seed, "loss on the wire");
    let mut buffer = [0; 2048];
    while receiver.count() < ear.files {
        let length = socket.recv(&mut buffer).await.unwrap();
        if !rng.random_bool(ear.loss) {
            receiver.push_at(now(), &buffer[..length]);
        }
    }
    for (location, octets) in receiver.complete() {
        let name = location.rsplit('/').next().unwrap();
        fs::write(ear.out.join(name), octets).unwrap();
    }
}
