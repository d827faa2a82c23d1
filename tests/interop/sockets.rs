//! Over real sockets: our programs and theirs, each in a network namespace of its own, on one wire.
//!
//! The programs around their crate are roles of this test's own program, see [`programs`].

mod programs;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use fumocast_tests::{
    namespaces::{Cable, Machine},
    tools,
};
use tokio::{runtime::Runtime, time};

use self::programs::{Ear, Task, Version, Voice};
use crate::air;

/// Longest wait for the files of one session.
const PATIENCE: Duration = Duration::from_secs(20);

/// Time that a receiver misses which joins late.
const MISSED: Duration = Duration::from_millis(700);

/// Lengths of the files of each session.
const LENGTHS: [usize; 3] = [1, 20_000, 300_001];

/// When a receiver joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Join {
    Early,
    Late,
}

/// A process that does not outlive the test.
struct Running(Child);

impl Running {
    fn start(mut command: Command, log: &Path) -> Self {
        let log = fs::File::create(log).expect("the folder is ours");
        let more = log.try_clone().expect("a file has more than one handle");
        command.stdin(Stdio::null()).stdout(log).stderr(more);
        Self(command.spawn().expect("the programs are there"))
    }

    /// Waits for its end; `None` when it is still running after `span`.
    async fn wait(&mut self, span: Duration) -> Option<ExitStatus> {
        let ended = async {
            loop {
                if let Some(status) = self.0.try_wait().expect("it is a child of ours") {
                    return status;
                }
                time::sleep(Duration::from_millis(10)).await;
            }
        };
        time::timeout(span, ended).await.ok()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error means that it has ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A wire, and the files of a session at its near end.
struct Bench {
    cable: Cable,
    folder: tempfile::TempDir,
    files: Vec<PathBuf>,
    expected: BTreeMap<String, Vec<u8>>,
}

impl Bench {
    /// Returns `None`, and prints the reason, where there are no namespaces.
    fn new() -> Option<Self> {
        if !["unshare", "nsenter", "ip"].into_iter().all(tools::found) {
            return None;
        }
        let cable = match Cable::lay() {
            Ok(cable) => cable,
            Err(error) => {
                tools::skipped(&format!("no network namespaces: {error}"));
                return None;
            }
        };
        let folder = tempfile::tempdir().unwrap();
        let (mut files, mut expected) = (Vec::new(), BTreeMap::new());
        for (number, length) in (1..).zip(LENGTHS) {
            let (name, octets) = (format!("{number}.bin"), air::octets(length, number));
            files.push(folder.path().join(&name));
            fs::write(folder.path().join(&name), &octets).unwrap();
            expected.insert(name, octets);
        }
        Some(Self { cable, folder, files, expected })
    }

    /// Starts sender and receiver; the receiver ends by itself with all files in `out`.
    fn exchange(&self, case: &str, join: Join, sender: Command, receiver: Command, out: &Path) {
        let log = |name: &str| self.folder.path().join(name);
        let runtime = Runtime::new().unwrap();
        let status = runtime.block_on(async {
            let mut listening = None;
            let mut receiver = Some(receiver);
            if join == Join::Early {
                listening = receiver.take().map(|it| Running::start(it, &log("receiver")));
            }
            let mut sending = Running::start(sender, &log("sender"));
            if let Some(receiver) = receiver {
                assert_eq!(sending.wait(MISSED).await, None, "{case}: it sends without end");
                listening = Some(Running::start(receiver, &log("receiver")));
            }
            listening.expect("it was started").wait(PATIENCE).await
        });
        let said = || {
            let read = |name: &str| fs::read_to_string(log(name)).unwrap_or_default();
            format!("{case}: sender: {}; receiver: {}", read("sender"), read("receiver"))
        };
        assert!(status.is_some_and(|status| status.success()), "{status:?}, {}", said());
        for (name, octets) in &self.expected {
            let received = fs::read(out.join(name)).unwrap_or_default();
            assert!(received == *octets, "{name} differs; {}", said());
        }
        fs::remove_dir_all(out).unwrap();
    }

    fn ours(&self, machine: &Machine, program: &str) -> Command {
        let mut command = machine.command(env!("CARGO_BIN_EXE_lab"));
        command.args(["role", program]);
        command.args([if program == "carousel" { "send" } else { "listen" }]);
        command.args(["--group", &programs::GROUP.ip().to_string()]);
        command.args(["--port", &programs::GROUP.port().to_string()]);
        command.args(["--interface", &machine.address.to_string(), "--json"]);
        command
    }

    fn out(&self) -> PathBuf {
        let out = self.folder.path().join("out");
        fs::create_dir(&out).unwrap();
        out
    }
}

#[test]
fn their_receiver_takes_what_the_carousel_sends() {
    let Some(bench) = Bench::new() else { return };
    let cases: [(&[&str], f64, Join); 7] = [
        (&["--fti", "both"], 0.0, Join::Early),
        (&["--fti", "packet", "--repair", "10"], 0.1, Join::Early),
        (&["--fti", "fdt", "--max-block-symbols", "50"], 0.1, Join::Late),
        (&["--fec", "no-code", "--fti", "packet"], 0.1, Join::Late),
        (&["--profile", "mbms"], 0.1, Join::Early),
        (&["--profile", "mbms"], 0.0, Join::Late),
        (&["--profile", "mbms", "--fec", "raptorq"], 0.1, Join::Late),
    ];
    for (number, (options, loss, join)) in (1..).zip(cases) {
        let case = format!("{options:?}, loss {loss}, {join:?}, seed {number}");
        let mut sender = bench.ours(&bench.cable.near, "carousel");
        sender.args(["--rate", "6M", "--symbol-size", "1200"]).args(options).args(&bench.files);
        let out = bench.out();
        let interface = bench.cable.far.address;
        let ear = Ear { interface, files: LENGTHS.len(), out: out.clone(), loss, seed: number };
        let receiver = Task::Receive(ear).command(&bench.cable.far);
        bench.exchange(&case, join, sender, receiver, &out);
    }
}

#[test]
fn our_receiver_takes_what_their_sender_sends() {
    let Some(bench) = Bench::new() else { return };
    let voice = |version, scheme, sub_blocks| Voice {
        interface: bench.cable.near.address,
        files: bench.files.clone(),
        version,
        scheme,
        sub_blocks,
        in_packets: true,
        table_last: false,
        loss: 0.0,
        seed: 0,
    };
    let (one, two) = (Version::One, Version::Two);
    let cases = [
        (voice(two, 6, 1), Join::Early),
        (Voice { loss: 0.1, in_packets: false, ..voice(two, 6, 4) }, Join::Early),
        (Voice { loss: 0.1, table_last: true, ..voice(one, 6, 4) }, Join::Late),
        (Voice { loss: 0.1, ..voice(two, 0, 1) }, Join::Late),
        (Voice { table_last: true, in_packets: false, ..voice(one, 0, 1) }, Join::Early),
        (Voice { loss: 0.1, in_packets: false, ..voice(one, 0, 1) }, Join::Late),
    ];
    for (seed, (voice, join)) in (1..).zip(cases) {
        let voice = Voice { seed, ..voice };
        let case = format!("{voice:?}, {join:?}");
        let out = bench.out();
        let mut receiver = bench.ours(&bench.cable.far, "receiver");
        let (source, seconds) = (voice.interface.to_string(), PATIENCE.as_secs().to_string());
        receiver.args(["--source", &source, "--once", "--timeout", &seconds, "--out"]).arg(&out);
        let sender = Task::Send(voice).command(&bench.cable.near);
        bench.exchange(&case, join, sender, receiver, &out);
    }
}
