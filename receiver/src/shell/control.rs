//! The local control socket: a line of JSON each way, for the owner of the data directory alone.
//!
//! ```text
//! {"request":"status"}      {"answer":"status","status":{…}}
//! {"request":"check-in"}    {"answer":"done"}
//! {"request":"suspend","reason":"call"}   {"answer":"refused","reason":"…"}
//! {"request":"resume","reason":"call"}
//! {"request":"ask-for-update","asker":"user","object":"./FwUpdate/Main","data":"menu"}
//! {"request":"notified","push":"<base64>"}
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
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader as TokioReader},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc, oneshot},
    time::timeout,
};

/// What a person or a program on the device asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// How things stand.
    Status,
    /// Start a DM session.
    CheckIn,
    /// Keep what is held and tune out.
    Suspend {
        /// Why: `user`, or what no sensor shows, such as `call`.
        #[serde(default = "user")]
        reason: String,
    },
    /// Take that reason back.
    Resume {
        /// As above.
        #[serde(default = "user")]
        reason: String,
    },
    /// A notification has come another way, such as over the modem.
    Notified {
        /// The short message, the push in it, or the notification itself, in base64.
        push: String,
    },
    /// Ask the server for an update, in a DM session that begins at once.
    AskForUpdate {
        /// `device` or `user`.
        asker: String,
        /// The firmware object that it is about; absent: all of the device.
        object: Option<String>,
        /// A text of the vendor's.
        #[serde(default)]
        data: String,
    },
    /// Take a bundle from local media; the user has agreed.
    Import {
        /// Where it lies: an absolute path.
        path: String,
    },
}

fn user() -> String {
    "user".to_owned()
}

/// What the receiver answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// How things stand.
    Status {
        /// The status, as an object.
        status: serde_json::Value,
    },
    /// It is done, or begun.
    Done,
    /// A bundle is taken.
    Version {
        /// The version that it brings.
        version: String,
    },
    /// It is not.
    Refused {
        /// Why.
        reason: String,
    },
}

/// A request that waits for its answer.
#[derive(Debug)]
pub struct Asked {
    /// What is asked for.
    pub request: Request,
    /// Where the answer goes. Who has asked may have gone.
    pub answer: oneshot::Sender<Answer>,
}

/// Why a running receiver could not be asked.
#[derive(Debug, Error)]
pub enum AskError {
    /// Nobody listens.
    #[error("no receiver runs on {0}")]
    NotRunning(PathBuf),
    /// The connection broke.
    #[error("the receiver did not answer")]
    Io(#[from] io::Error),
    /// The answer is none.
    #[error("the receiver's answer is not understood")]
    Answer(#[from] serde_json::Error),
}

/// Listens on `path`; requests come out of the returned queue while the runtime runs.
///
/// The caller holds the data directory's lock, so a socket that is there is a dead one's.
///
/// # Errors
///
/// What binding meets.
pub fn listen(path: &Path) -> io::Result<mpsc::Receiver<Asked>> {
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

async fn accept(listener: UnixListener, requests: mpsc::Sender<Asked>) {
    let places = std::sync::Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely: let others go first.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let requests = requests.clone();
        tokio::spawn(async move {
            if let Ok(Err(error)) = timeout(ANSWER_TIME, serve(stream, &requests)).await {
                tracing::debug!(%error, "a control connection broke");
            }
            drop(place);
        });
    }
}

async fn serve(stream: UnixStream, requests: &mpsc::Sender<Asked>) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = TokioReader::new(reader.take(LINE_OCTETS));
    let mut line = String::new();
    while reader.read_line(&mut line).await? > 0 {
        let answer = match serde_json::from_str(&line) {
            Ok(request) => ask(request, requests).await,
            Err(error) => Answer::Refused { reason: format!("not a request: {error}") },
        };
        let mut text = serde_json::to_vec(&answer)?;
        text.push(b'\n');
        writer.write_all(&text).await?;
        line.clear();
    }
    Ok(())
}

async fn ask(request: Request, requests: &mpsc::Sender<Asked>) -> Answer {
    let (answer, answered) = oneshot::channel();
    let stopping = || Answer::Refused { reason: "the receiver is stopping".to_owned() };
    match requests.send(Asked { request, answer }).await {
        Ok(()) => answered.await.unwrap_or_else(|_| stopping()),
        Err(_) => stopping(),
    }
}

/// Asks the receiver that listens on `path`. Blocks.
///
/// # Errors
///
/// [`AskError`].
pub fn call(path: &Path, request: &Request) -> Result<Answer, AskError> {
    let nobody = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused];
    let mut stream = match StdStream::connect(path) {
        Err(error) if nobody.contains(&error.kind()) => {
            return Err(AskError::NotRunning(path.parent().unwrap_or(path).to_owned()));
        }
        connected => connected?,
    };
    stream.set_read_timeout(Some(ANSWER_TIME))?;
    let mut text = serde_json::to_vec(request)?;
    text.push(b'\n');
    stream.write_all(&text)?;
    let mut line = String::new();
    BufReader::new(stream).take(ANSWER_OCTETS).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

const CONNECTIONS: usize = 8;
/// Octets that may come over one connection.
const LINE_OCTETS: u64 = 16 << 10;
const ANSWER_OCTETS: u64 = 1 << 20;
const ANSWER_TIME: Duration = Duration::from_secs(30);

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
            while let Some(asked) = queue.recv().await {
                let answer = match asked.request {
                    Request::Status => Answer::Status { status: serde_json::json!({"phase": "x"}) },
                    Request::CheckIn => Answer::Done,
                    Request::Suspend { .. }
                    | Request::Resume { .. }
                    | Request::Notified { .. }
                    | Request::Import { .. }
                    | Request::AskForUpdate { .. } => break,
                };
                asked.answer.send(answer).unwrap();
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
    fn a_receiver_that_does_not_run_is_named() {
        let home = tempfile::tempdir().unwrap();
        let error = call(&home.path().join("control.sock"), &Request::Status).unwrap_err();
        assert_eq!(error.to_string(), format!("no receiver runs on {}", home.path().display()));
    }

    fn raw(path: &Path, line: &str) -> String {
        let mut stream = StdStream::connect(path).unwrap();
        stream.write_all(line.as_bytes()).unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        answer
    }
}
