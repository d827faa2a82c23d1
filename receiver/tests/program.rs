//! The program as people and the service manager meet it: exit codes, signals, the control socket.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests may fail as tests do"
)]

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::net::{UnixDatagram, UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output},
    time::{Duration, Instant},
};

use proto::{
    crypto::{SigningKey, sha256},
    dm::{
        code::{AlertCode, StatusCode},
        encoding::{self, Encoding},
        fumo::PackagePrefix,
        syncml::{self, CommandId, Header, Item, Manage, Message, Status},
    },
    time::Utc,
    trust::{DocumentKind, Envelope, Role, RoleKeys, Root},
};
use rustix::{
    fs::{CWD, Mode, mkfifoat},
    process::{Pid, Signal, kill_process},
};
use tempfile::TempDir;

#[test]
fn a_running_device_answers_and_stops_at_sigterm() {
    let device = Device::new();
    let mut running = device.start();

    let status = device.call(&["status", "--json"]);
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["phase"], "idle");
    let text = String::from_utf8(device.call(&["status"]).stdout).unwrap();
    assert!(text.starts_with("phase       idle\n"), "{text}");
    for verb in ["check-in", "suspend", "resume"] {
        assert_eq!(device.call(&[verb]).status.code(), Some(0), "{verb}");
    }
    let second = device.call(&["run"]);
    assert_eq!(second.status.code(), Some(7));
    assert!(text_of(&second).contains("another agent uses"), "{second:?}");

    signal(&running, Signal::TERM);
    assert_eq!(running.wait().unwrap().code(), Some(0));
    let after = device.call(&["status"]);
    assert_eq!(after.status.code(), Some(6));
    assert!(text_of(&after).contains("no agent runs on"), "{after:?}");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "how long the program takes is what is tested")]
fn a_stopping_device_aborts_its_session_and_does_not_wait_for_a_silent_server() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let device = Device::with_server(server.local_addr().unwrap());
    let mut running = device.start();
    let (mut stream, mut sent) = receive(&server);
    signal(&running, Signal::TERM);
    let stopping = Instant::now();
    // Whichever of signal and answer comes first: one of the next two messages is the last.
    for _ in 0..2 {
        answer(&mut stream, &sent, get("./DevDetail/FwV"));
        (stream, sent) = receive(&server);
        if is_abort(&sent) {
            break;
        }
    }
    assert!(is_abort(&sent), "{sent:?}");
    // The server does not respond.
    assert_eq!(running.wait().unwrap().code(), Some(0));
    assert!(stopping.elapsed() < Duration::from_secs(20), "{:?}", stopping.elapsed());
}

// test: oma-dm 11.2
#[test]
fn an_acknowledged_chunk_of_a_package_survives_a_kill() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let device = Device::with_server(server.local_addr().unwrap());
    let mut running = device.start();
    let (mut stream, sent) = receive(&server);
    let mut piece = Item::octets("./FwUpdate/Main/Update/PkgData", [7; 300]);
    piece.meta.get_or_insert_default().size = Some(1_000);
    piece.more_data = true;
    let replace = Manage::new(CommandId::new(2), vec![piece]);
    answer(&mut stream, &sent, syncml::Command::Replace(replace));
    let (stream, sent) = receive(&server);
    let codes: Vec<_> = sent.statuses().map(|status| status.code).collect();
    assert_eq!(codes.last(), Some(&StatusCode::CHUNK_ACCEPTED), "{sent:?}");
    signal(&running, Signal::KILL);
    running.wait().unwrap();
    drop(stream);

    let mut again = device.start();
    let (mut stream, sent) = receive(&server);
    answer(&mut stream, &sent, get("./FwUpdate/Main/Ext/Package/Held"));
    let (_stream, sent) = receive(&server);
    let held = PackagePrefix { octets: 300, sha256: sha256(&[&[7; 300]]) }.to_string();
    let shown = sent.commands.iter().find_map(|command| {
        let syncml::Command::Results(results) = command else { return None };
        results.items[0].data_text()
    });
    assert_eq!(shown, Some(held.as_str()));
    signal(&again, Signal::KILL);
    again.wait().unwrap();
}

#[test]
fn a_pipe_in_place_of_a_bundle_is_refused_and_the_device_goes_on() {
    let device = Device::new();
    let mut running = device.start();
    let pipe = device.home.path().join("update.bundle");
    mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();

    let refused = device.call(&["import", pipe.to_str().unwrap(), "--yes"]);
    assert_eq!(refused.status.code(), Some(6), "{refused:?}");
    assert!(text_of(&refused).contains("no regular file"), "{refused:?}");
    // The agent is asked by another program, which has not looked.
    let mut control = UnixStream::connect(device.home.path().join("data/control.sock")).unwrap();
    control.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let request = serde_json::json!({"request": "import", "path": pipe});
    control.write_all(format!("{request}\n").as_bytes()).unwrap();
    let mut answer = String::new();
    BufReader::new(control).read_line(&mut answer).unwrap();
    assert!(answer.contains("refused") && answer.contains("no regular file"), "{answer}");
    assert_eq!(device.call(&["status"]).status.code(), Some(0));

    signal(&running, Signal::TERM);
    assert_eq!(running.wait().unwrap().code(), Some(0));
}

#[test]
fn a_killed_device_starts_again() {
    let device = Device::new();
    let mut running = device.start();
    signal(&running, Signal::KILL);
    assert_eq!(running.wait().unwrap().code(), None);
    let mut again = device.start();
    assert_eq!(device.call(&["status"]).status.code(), Some(0));
    signal(&again, Signal::INT);
    assert_eq!(again.wait().unwrap().code(), Some(130));
}

#[test]
fn each_obstacle_to_a_start_has_its_message_and_exit_code() {
    for (flag, value, code, text) in [
        ("--interface", "203.0.113.250", 3, "invalid `receiver.interface`"),
        ("--interface", "eth0", 3, "invalid `receiver.interface`"),
        ("--root", "/nonexistent/root.env", 3, "invalid `receiver.trust_root`"),
        ("--data", "/dev/null/data", 3, "cannot use /dev/null/data"),
    ] {
        let device = Device::new();
        let outcome = device.call(&["run", flag, value]);
        assert_eq!(outcome.status.code(), Some(code), "{flag} {value}: {outcome:?}");
        assert!(text_of(&outcome).contains(text), "{outcome:?}");
    }
}

#[test]
fn a_device_that_lost_its_journal_keeps_its_floors_or_waits_for_a_person() {
    let device = Device::new();
    let data = device.home.path().join("data");
    let reasons = || {
        let status = device.call(&["status", "--json"]);
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
        status["reasons"].clone()
    };
    let run = || {
        let mut running = device.start();
        let found = reasons();
        signal(&running, Signal::TERM);
        assert_eq!(running.wait().unwrap().code(), Some(0));
        found
    };
    let reset = || device.call(&["trust", "reset", "--sequence", "7"]);
    let fsck = || receiver(&["fsck", data.to_str().unwrap()]).output().unwrap();
    assert_eq!(run(), serde_json::json!([]));
    assert!(data.join("floors").exists());
    assert_eq!(reset().status.code(), Some(8), "they are there");

    let lose =
        || ["journal.a", "journal.b"].map(|copy| fs::write(data.join(copy), b"junk").unwrap());
    lose();
    assert_eq!(run(), serde_json::json!(["trust-state"]));
    assert_eq!(fs::read(data.join("journal.b.damaged")).unwrap(), b"junk");
    assert_eq!(fsck().status.code(), Some(0), "{:?}", fsck());

    lose();
    fs::write(data.join("floors"), b"junk").unwrap();
    assert_eq!(run(), serde_json::json!(["trust-state-lost"]));
    assert_eq!(run(), serde_json::json!(["trust-state-lost"]), "a new journal does not end it");
    let lost = fsck();
    assert_eq!(lost.status.code(), Some(5), "{lost:?}");
    let said = reset();
    assert_eq!(said.status.code(), Some(0), "{said:?}");
    let said = String::from_utf8(said.stdout).unwrap();
    assert_eq!(said, "trust state set: root 1, epoch 1, updates above sequence 7\n");
    assert_eq!(run(), serde_json::json!([]));
    assert_eq!(reset().status.code(), Some(8));
}

#[test]
fn a_root_with_a_wrong_signature_is_rejected() {
    let device = Device::new();
    let root = device.home.path().join("root.env");
    let mut octets = fs::read(&root).unwrap();
    let middle = octets.len() / 2;
    octets[middle] ^= 1;
    fs::write(&root, octets).unwrap();
    let outcome = device.call(&["run"]);
    assert_eq!(outcome.status.code(), Some(5), "{outcome:?}");
}

#[test]
fn a_device_starts_with_a_damaged_journal() {
    let device = Device::new();
    let data = device.home.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("journal.a"), b"FCJN and then nonsense").unwrap();
    let mut running = device.start();
    assert_eq!(device.call(&["status"]).status.code(), Some(0));
    signal(&running, Signal::TERM);
    assert_eq!(running.wait().unwrap().code(), Some(0));
}

#[test]
fn the_help_names_commands_and_exit_codes() {
    let help = receiver(&["--help"]).output().unwrap();
    assert_eq!(help.status.code(), Some(0));
    let text = String::from_utf8(help.stdout).unwrap();
    for word in ["dm-bridge device enrol", "check-in", "Exit codes:"] {
        assert!(text.contains(word), "{text}");
    }
    assert_eq!(receiver(&["run"]).output().unwrap().status.code(), Some(2));
    assert_eq!(receiver(&["fly"]).output().unwrap().status.code(), Some(2));
}

/// Receives a message of the device; the connection waits for the response.
fn receive(server: &TcpListener) -> (TcpStream, Message) {
    let (mut stream, _) = server.accept().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut request = Vec::new();
    let body = loop {
        let mut octet = [0];
        stream.read_exact(&mut octet).unwrap();
        request.push(octet[0]);
        if request.ends_with(b"\r\n\r\n") {
            let head = String::from_utf8(request).unwrap().to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let mut body = vec![0; length.unwrap().parse().unwrap()];
            stream.read_exact(&mut body).unwrap();
            break body;
        }
    };
    let encoding = Encoding::recognise(&body);
    (stream, encoding.parse(&body, &encoding::Limits::default()).unwrap())
}

/// Responds to a message with a status for its header and a command.
fn answer(stream: &mut TcpStream, sent: &Message, command: syncml::Command) {
    let status = Status::for_header(CommandId::new(1), &sent.header, StatusCode::AUTHENTICATED);
    let header = Header {
        target: sent.header.source.clone(),
        source: sent.header.target.clone(),
        credential: None,
        meta: None,
        ..sent.header.clone()
    };
    let commands = vec![syncml::Command::Status(status), command];
    let body = Encoding::Wbxml.emit(&Message { header, commands, is_final: true });
    let length = body.len();
    let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(&[head.as_bytes(), &body].concat()).unwrap();
}

fn get(uri: &str) -> syncml::Command {
    syncml::Command::Get(Manage::new(CommandId::new(2), vec![Item::target(uri)]))
}

fn is_abort(sent: &Message) -> bool {
    let holds_abort = |it: &syncml::Command| matches!(it, syncml::Command::Alert(alert) if alert.code == AlertCode::SESSION_ABORT);
    sent.commands.iter().any(holds_abort)
}

struct Device {
    home: TempDir,
    config: PathBuf,
}

impl Device {
    /// Creates a device whose server is not running.
    fn new() -> Self {
        Self::with_server(TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap())
    }

    fn with_server(server: SocketAddr) -> Self {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("root.env"), factory_root()).unwrap();
        let (path, config) = (home.path().display(), home.path().join("device.toml"));
        let text = format!(
            r#"
            [device]
            id = "LAB-0001"
            manufacturer = "fumocast"
            model = "lab"
            vendor_id = "000102030405060708090a0b0c0d0e0f"
            class_id = "f00102030405060708090a0b0c0d0e0f"
            [server]
            url = "http://{server}/dm"
            server_id = "fumocast"
            user = "LAB-0001"
            password = "YSBwYXNzd29yZCBvZiBhIHRlc3Q="
            nonce = "YSBub25jZSBvZiBhIHRlc3Q="
            [receiver]
            data = "{path}/data"
            trust_root = "{path}/root.env"
            interface = "127.0.0.1"
            installer_hook = ["/bin/sh", "-c", "echo 1.0"]
            "#
        );
        fs::write(&config, text).unwrap();
        test_log::collect_folder(home.path());
        Self { home, config }
    }

    /// Starts the device and waits until it reports that it is ready.
    fn start(&self) -> Child {
        let path = self.home.path().join("notify");
        fs::remove_file(&path).ok();
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let running = self
            .command(&["run"])
            .env("NOTIFY_SOCKET", &path)
            .stderr(fs::File::create(self.home.path().join("run.log")).unwrap())
            .spawn()
            .unwrap();
        let mut message = [0; 64];
        let octets = socket.recv(&mut message).unwrap();
        assert!(message[..octets].starts_with(b"READY=1"));
        running
    }

    fn call(&self, arguments: &[&str]) -> Output {
        test_log::run(&mut self.command(arguments))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = receiver(arguments);
        command.arg("--config").arg(&self.config);
        command
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        test_log::collect_folder(self.home.path());
    }
}

fn receiver(arguments: &[&str]) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_receiver")));
    command.args(arguments).env_remove("NOTIFY_SOCKET");
    test_log::verbose(&mut command);
    command
}

fn factory_root() -> Vec<u8> {
    let key = SigningKey::from_pkcs8(&SigningKey::generate_pkcs8()).unwrap();
    let keys = || RoleKeys { threshold: 1, keys: vec![key.public()] };
    let root = Root {
        version: 1,
        expires: Utc::from_seconds(4_000_000_000),
        roles: BTreeMap::from(Role::ALL.map(|role| (role, keys()))),
        sequence_floor: 0,
        epoch: 1,
    };
    let mut envelope = Envelope::new(DocumentKind::Root, root.emit().unwrap()).unwrap();
    envelope.sign(&key).unwrap();
    envelope.emit()
}

fn signal(running: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(running.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

fn text_of(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}
