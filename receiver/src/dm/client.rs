//! One DM session with the server, as a core without I/O.
//!
//! ```text
//! start ──► Post ──► handle_response ──► Post ──► …  ──► Done(SessionOutcome)
//!                    handle_failure  ──► Post (the same octets) or Done
//! ```
//!
//! The shell posts what it is given, over TLS where the address says `https:`, and hands back the
//! octets of the answer or the failure. It sends a message only after the state that the calls on
//! [`Device`] changed is durable. Where the server asks the user something that
//! [`Device::ask_user`] cannot answer at once, the session rests until `handle_user_answer`.
//!
//! | module | holds |
//! | --- | --- |
//! | `session` | the course of a session |
//! | `server` | whether the server has proved who it is |
//! | `execute` | commands, and a status for each |
//! | `outgoing` | commands to send |
//! | `address` | which reply addresses lead to the same server |

use std::{fmt, time::Duration};

use proto::{
    dm::{
        auth::Mac,
        code::StatusCode,
        encoding::{self, Encoding, MessageError},
        ui::Answer,
    },
    time::Now,
};
use thiserror::Error;

use super::{Device, Settings, backoff::wait_in_reply_address, tree::Tree};

mod address;
mod execute;
mod outgoing;
mod server;
mod session;

#[cfg(test)]
mod tests;

use session::{Heard, Next, Session};

/// What one DM session may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Messages that the client sends.
    pub messages: u32,
    /// Challenges that the client answers.
    pub challenges: u8,
    /// Times that a message is sent again after a network failure.
    pub resends: u8,
    /// Final alerts in one message.
    pub alerts: usize,
    /// Octets of an object that the server sends in pieces: an envelope in base64, and room.
    pub object_bytes: u64,
    /// Characters of a reply address.
    pub reply_address: usize,
    /// What one answer of the server may cost.
    pub response: encoding::Limits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            messages: 64,
            challenges: 2,
            resends: 1,
            alerts: 16,
            object_bytes: 16 * 1024,
            reply_address: 1024,
            response: encoding::Limits::default(),
        }
    }
}

/// Why the session takes place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// The device has something to say or to ask.
    Client,
    /// A notification asked for it.
    Server,
}

/// A message to send.
#[derive(Clone, PartialEq, Eq)]
pub struct Post {
    /// Where it goes.
    pub url: String,
    /// The form of the body, and of the answer that is wanted.
    pub encoding: Encoding,
    /// What it says.
    pub body: Vec<u8>,
    /// The value of the header [`MAC_HEADER`](proto::dm::auth::MAC_HEADER), if there is to be one.
    pub mac: Option<String>,
}

/// Leaves out the address, which may name the session, and the body, which holds credentials.
impl fmt::Debug for Post {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Post({} octets)", self.body.len())
    }
}

/// An answer as it came.
#[derive(Clone, Copy)]
pub struct Reply<'a> {
    /// The body of the HTTP 200.
    pub body: &'a [u8],
    /// The value of its header [`MAC_HEADER`](proto::dm::auth::MAC_HEADER), if it has one.
    pub mac: Option<&'a str>,
}

impl<'a, T: AsRef<[u8]> + ?Sized> From<&'a T> for Reply<'a> {
    fn from(body: &'a T) -> Self {
        Self { body: body.as_ref(), mac: None }
    }
}

/// What the shell must do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send this, and come back with the answer.
    Post(Post),
    /// Nothing: the user was asked, and the answer goes on with the session.
    Rest,
    /// The session is over.
    Done(SessionOutcome),
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionOutcome {
    /// Both sides had said all they had to say.
    Complete,
    /// The server has no time; `wait` says how long, when it said so.
    RetryLater {
        /// Not before this has passed.
        wait: Option<Duration>,
    },
    /// This side broke it off, by [`DmClient::break_off`].
    BrokenOff,
    /// The session broke off; try again after a back-off.
    Failed(SessionError),
}

/// Why a session broke off.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SessionError {
    /// The server could not be reached, or did not answer.
    #[error("the server does not answer")]
    Unreachable,
    /// The server answered with an HTTP error.
    #[error("the server answered with HTTP {0}")]
    Http(u16),
    /// The answer is no DM message.
    #[error("the answer is unreadable: {0}")]
    Unreadable(#[from] MessageError),
    /// The answer breaks the protocol.
    #[error("the answer breaks the protocol: {0}")]
    Protocol(&'static str),
    /// The server does not take the credentials.
    #[error("the server refused the credentials")]
    CredentialsRefused,
    /// The server wants a kind of credentials that this device does not give it.
    #[error("the server wants credentials that this device does not give it")]
    UnsupportedAuthentication,
    /// The server does not prove who it is.
    #[error("the server does not prove who it is")]
    ServerNotProved,
    /// The server refused the message.
    #[error("the server refused the message with status {0}")]
    Refused(StatusCode),
    /// The server broke the session off.
    #[error("the server broke the session off")]
    Aborted,
    /// The session took more messages than the limit.
    #[error("the session took too many messages")]
    TooLong,
    /// There is no session that an answer could belong to.
    #[error("no session is going on")]
    NoSession,
}

/// What went wrong between post and answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection, no answer in time, or no trust.
    Network,
    /// An HTTP status other than 200.
    Http {
        /// The status.
        status: u16,
        /// The header `Retry-After`, read by
        /// [`parse_retry_after`](super::backoff::parse_retry_after).
        retry_after: Option<Duration>,
    },
}

/// The DM client of a device.
#[derive(Debug)]
pub struct DmClient {
    tree: Tree,
    limits: Limits,
    session: Option<Session>,
}

impl DmClient {
    /// Makes a client that has no session yet.
    #[must_use]
    pub fn new(settings: Settings, limits: Limits) -> Self {
        Self { tree: Tree::new(settings), limits, session: None }
    }

    /// Returns whether a session is going on.
    #[must_use]
    pub const fn is_busy(&self) -> bool {
        self.session.is_some()
    }

    /// Returns whether a session waits for the user's answer.
    #[must_use]
    pub fn is_resting(&self) -> bool {
        self.session.as_ref().is_some_and(Session::is_resting)
    }

    /// Begins a session and returns its first message; a session that was going on is forgotten.
    ///
    /// # Units
    ///
    /// `session_id` is random, or the one of the notification; 0 counts as 1.
    pub fn start(
        &mut self,
        now: Now,
        device: &mut dyn Device,
        trigger: Trigger,
        session_id: u16,
    ) -> Post {
        self.tree.begin_session(device);
        let mut session = Session::new(&self.tree, session_id, device.nonce(), self.limits);
        let post = session.begin(now, device, trigger);
        self.session = Some(session);
        post
    }

    /// Takes the answer of an HTTP 200.
    pub fn handle_response<'a>(
        &mut self,
        now: Now,
        device: &mut dyn Device,
        reply: impl Into<Reply<'a>>,
    ) -> Step {
        let Reply { body, mac } = reply.into();
        // One that cannot be read proves nothing.
        let mac = mac.and_then(|text| Mac::parse(text).ok());
        let Some(session) = self.session.as_mut() else {
            return Step::Done(SessionOutcome::Failed(SessionError::NoSession));
        };
        let step = Encoding::recognise(body)
            .parse(body, &self.limits.response)
            .map_err(|error| SessionOutcome::Failed(error.into()))
            .and_then(|message| {
                let heard = Heard { message: &message, octets: body, mac: mac.as_ref() };
                session.answer(now, device, &mut self.tree, heard)
            });
        self.conclude(step)
    }

    /// Takes the answer to the question that [`Device::ask_user`] did not answer at once.
    pub fn handle_user_answer(
        &mut self,
        now: Now,
        device: &mut dyn Device,
        answer: &Answer,
    ) -> Step {
        let Some(session) = self.session.as_mut() else {
            return Step::Done(SessionOutcome::Failed(SessionError::NoSession));
        };
        let step = session.user_answered(now, device, &mut self.tree, answer);
        self.conclude(step)
    }

    /// Breaks the session off, for a reason that lies outside of it.
    ///
    /// Returns the message that says so when it can go at once. Else the server is told instead of
    /// an answer to its next message, unless that ends the session by itself. Either way its answer
    /// to the last message is the end, and so is the lack of one.
    // spec: oma-dm 1.1 (1223)
    pub fn break_off(&mut self, now: Now, device: &mut dyn Device) -> Option<Post> {
        self.session.as_mut()?.break_off(now, device, &mut self.tree)
    }

    /// Takes note that a message brought no answer.
    pub fn handle_failure(&mut self, failure: Failure) -> Step {
        let Some(session) = self.session.as_mut() else {
            return Step::Done(SessionOutcome::Failed(SessionError::NoSession));
        };
        let step = match failure {
            // The same octets with the same MsgID: the server may have acted on the first.
            Failure::Network => session
                .resend()
                .map(Next::Post)
                .ok_or(SessionOutcome::Failed(SessionError::Unreachable)),
            Failure::Http { status: 429 | 503, retry_after } => {
                Err(SessionOutcome::RetryLater { wait: retry_after })
            }
            Failure::Http { status, .. } => Err(SessionOutcome::Failed(SessionError::Http(status))),
        };
        self.conclude(step)
    }

    fn conclude(&mut self, step: Result<Next, SessionOutcome>) -> Step {
        match step {
            Ok(Next::Post(post)) => Step::Post(post),
            Ok(Next::Rest) => Step::Rest,
            Err(outcome) => Step::Done(match self.session.take() {
                Some(session) => session.end(outcome),
                None => outcome,
            }),
        }
    }
}

/// Returns the outcome that a 417 or 503 on the header stands for.
fn retry_later(now: Now, reply_address: Option<&str>) -> SessionOutcome {
    let wait = reply_address.and_then(|address| wait_in_reply_address(address, now.utc));
    SessionOutcome::RetryLater { wait }
}
