//! The control socket: a line of JSON in each direction, for the owner of the data directory.
//!
//! ```text
//! {"request":"status"}      {"answer":"status","status":{…}}
//! {"request":"check-in"}    {"answer":"done"}
//! {"request":"suspend","reason":"call"}   {"answer":"refused","reason":"…"}
//! {"request":"resume","reason":"call"}
//! {"request":"request-update","initiator":"user","object":"./FwUpdate/Main","data":"menu"}
//! {"request":"deliver-notification","push":"<base64>"}
//! {"request":"import","path":"/media/bundle"}   {"answer":"version","version":"2.0"}
//! ```

use std::{
    fs::{self, Permissions},
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixStream as StdStream},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::{
    io::{
        AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader as TokioReader,
        Interest,
    },
    net::{UnixListener, UnixStream, unix::OwnedWriteHalf},
    sync::{Semaphore, mpsc, oneshot},
    time::timeout,
};

/// Request of a person or a program on the device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// Return the status.
    Status,
    /// Start a DM session.
    CheckIn,
    /// Suspend reception.
    Suspend {
        /// Suspend reason: `user`, or one that no sensor reports, such as `call`.
        #[serde(default = "user")]
        reason: String,
    },
    /// Clear that reason.
    Resume {
        /// Suspend reason, as in `Suspend`.
        #[serde(default = "user")]
        reason: String,
    },
    /// Deliver a notification that arrived outside of the network, such as over the modem.
    DeliverNotification {
        /// The short message, the push in it, or the notification itself, in base64.
        push: String,
    },
    /// Request an update from the server, in a DM session that starts at once.
    RequestUpdate {
        /// `device` or `user`.
        initiator: String,
        /// FUMO object of the request; absent: all of the device.
        object: Option<String>,
        /// Vendor-specific text.
        #[serde(default)]
        data: String,
    },
    /// Install a bundle from local media; the user has confirmed.
    Import {
        /// Its absolute path.
        path: String,
    },
}

fn user() -> String {
    "user".to_owned()
}

/// Answer of the agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// The status.
    Status {
        /// The status, as an object.
        status: serde_json::Value,
    },
    /// Done, or started.
    Done,
    /// The bundle is accepted.
    Version {
        /// Its version.
        version: String,
    },
    /// Rejected.
    Refused {
        /// The cause.
        reason: String,
    },
}

/// A request that waits for its answer.
#[derive(Debug)]
pub struct PendingRequest {
    /// The request.
    pub request: Request,
    /// Channel for the answer; the client may have disconnected.
    pub answer: oneshot::Sender<Answer>,
}

/// Error of a request to a running agent.
#[derive(Debug, Error)]
pub enum ControlError {
    /// No process listens.
    #[error("no agent runs on {0}")]
    NotRunning(PathBuf),
    /// The connection broke.
    #[error("no answer from the agent")]
    Io(#[from] io::Error),
    /// The answer is malformed.
    #[error("malformed answer from the agent")]
    Answer(#[from] serde_json::Error),
}

/// Listens on `path`; requests come out of the returned queue while the runtime runs.
///
/// The caller holds the lock of the data directory, so an existing socket belongs to a dead
/// process.
///
/// # Errors
///
/// Any error of the bind.
pub fn listen(path: &Path) -> io::Result<mpsc::Receiver<PendingRequest>> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    let (requests, queue) = mpsc::channel(CONNECTIONS);
    tokio::spawn(accept(listener, requests));
    Ok(queue)
}

async fn accept(listener: UnixListener, requests: mpsc::Sender<PendingRequest>) {
    let places = std::sync::Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely: wait.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let requests = requests.clone();
        tokio::spawn(async move {
            if let Ok(Err(error)) = timeout(ANSWER_TIME, serve(stream, &requests)).await {
                tracing::debug!(%error, "control connection failed");
            }
            drop(place);
        });
    }
}

async fn serve(stream: UnixStream, requests: &mpsc::Sender<PendingRequest>) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = TokioReader::new(reader.take(LINE_BYTES));
    let mut line = String::new();
    while timeout(LINE_TIME, reader.read_line(&mut line)).await?? > 0 {
        let answer = match serde_json::from_str(&line) {
            Ok(request) => tokio::select! {
                answer = ask(request, requests) => answer,
                // The request is dropped with its client.
                () = disconnected(&writer) => return Ok(()),
            },
            Err(error) => Answer::Refused { reason: format!("not a request: {error}") },
        };
        let mut text = serde_json::to_vec(&answer)?;
        text.push(b'\n');
        writer.write_all(&text).await?;
        line.clear();
    }
    Ok(())
}

/// Returns once the client has closed the connection; one that only sends no more has not.
async fn disconnected(writer: &OwnedWriteHalf) {
    while writer.ready(Interest::WRITABLE).await.is_ok_and(|ready| !ready.is_write_closed()) {
        tokio::time::sleep(DISCONNECT_POLL).await;
    }
}

async fn ask(request: Request, requests: &mpsc::Sender<PendingRequest>) -> Answer {
    let (answer, answered) = oneshot::channel();
    let stopping = || Answer::Refused { reason: "the agent is stopping".to_owned() };
    match requests.send(PendingRequest { request, answer }).await {
        Ok(()) => answered.await.unwrap_or_else(|_| stopping()),
        Err(_) => stopping(),
    }
}

/// Sends a request to the agent that listens on `path`. Blocks.
///
/// # Errors
///
/// [`ControlError`].
pub fn call(path: &Path, request: &Request) -> Result<Answer, ControlError> {
    let nobody = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused];
    let mut stream = match StdStream::connect(path) {
        Err(error) if nobody.contains(&error.kind()) => {
            return Err(ControlError::NotRunning(path.parent().unwrap_or(path).to_owned()));
        }
        connected => connected?,
    };
    stream.set_read_timeout(Some(ANSWER_TIME))?;
    let mut text = serde_json::to_vec(request)?;
    text.push(b'\n');
    stream.write_all(&text)?;
    let mut line = String::new();
    BufReader::new(stream).take(ANSWER_BYTES).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

const CONNECTIONS: usize = 8;
/// Octets of one connection.
const LINE_BYTES: u64 = 16 << 10;
/// Time in which a line of a request arrives: a silent client holds a place no longer.
const LINE_TIME: Duration = Duration::from_secs(2);
const ANSWER_BYTES: u64 = 1 << 20;
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// Time after which a waiting request learns that its client is gone.
const DISCONNECT_POLL: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_answered_and_the_socket_is_private() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("control.sock");
        fs::write(&path, b"left from before").unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let mut queue = runtime.block_on(async { listen(&path) }).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        runtime.spawn(async move {
            while let Some(pending) = queue.recv().await {
                let answer = match pending.request {
                    Request::Status => Answer::Status { status: serde_json::json!({"phase": "x"}) },
                    Request::CheckIn => Answer::Done,
                    Request::Suspend { .. }
                    | Request::Resume { .. }
                    | Request::DeliverNotification { .. }
                    | Request::Import { .. }
                    | Request::RequestUpdate { .. } => break,
                };
                pending.answer.send(answer).unwrap();
            }
        });
        let status = Answer::Status { status: serde_json::json!({"phase": "x"}) };
        assert_eq!(call(&path, &Request::Status).unwrap(), status);
        assert_eq!(call(&path, &Request::CheckIn).unwrap(), Answer::Done);
        assert!(raw(&path, "{\"request\":\"shut-down\"}\n").contains("not a request"));
        assert!(raw(&path, "nonsense\n").contains("refused"));
        let text = "{\"request\":\"suspend\"}";
        assert_eq!(
            serde_json::from_str::<Request>(text).unwrap(),
            Request::Suspend { reason: "user".to_owned() }
        );
        let resume = Request::Resume { reason: "call".to_owned() };
        assert!(matches!(call(&path, &resume).unwrap(), Answer::Refused { .. }));
    }

    #[test]
    fn a_request_is_dropped_when_its_client_disconnects_and_not_when_it_sends_no_more() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("control.sock");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut queue = listen(&path).unwrap();
            let request = b"{\"request\":\"import\",\"path\":\"/media/stick/bundle\"}\n";
            let mut client = UnixStream::connect(&path).await.unwrap();
            client.write_all(request).await.unwrap();
            let mut pending = queue.recv().await.unwrap();
            client.shutdown().await.unwrap();
            let waits = timeout(3 * DISCONNECT_POLL, pending.answer.closed()).await;
            assert!(waits.is_err(), "the client still waits for the answer");
            drop(client);
            timeout(ANSWER_TIME / 2, pending.answer.closed()).await.unwrap();
        });
    }

    #[test]
    fn silent_clients_do_not_keep_others_out() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("control.sock");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let mut queue = runtime.block_on(async { listen(&path) }).unwrap();
        runtime.spawn(async move {
            while let Some(pending) = queue.recv().await {
                pending.answer.send(Answer::Done).unwrap();
            }
        });
        let silent: Vec<_> =
            (0..2 * CONNECTIONS).map(|_| StdStream::connect(&path).unwrap()).collect();
        // With places for as long as an answer may take, the call would give up before its turn.
        assert_eq!(call(&path, &Request::CheckIn).unwrap(), Answer::Done);
        drop(silent);
    }

    #[test]
    fn a_stopped_agent_is_named() {
        let home = tempfile::tempdir().unwrap();
        let error = call(&home.path().join("control.sock"), &Request::Status).unwrap_err();
        assert_eq!(error.to_string(), format!("no agent runs on {}", home.path().display()));
    }

    fn raw(path: &Path, line: &str) -> String {
        let mut stream = StdStream::connect(path).unwrap();
        stream.write_all(line.as_bytes()).unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        answer
    }
}
