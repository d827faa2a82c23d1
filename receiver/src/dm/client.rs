//! One DM session with the server, as a core without I/O.
//!
//! ```text
//! start ──► HttpRequest ──► handle_response ──► Send ──► …  ──► Done(SessionOutcome)
//!                    handle_failure  ──► HttpRequest (the same octets) or Done
//! ```
//!
//! The shell posts each request, over TLS if the URL is `https:`, and returns the octets of the
//! response or the error. It sends a message only after the state that the calls on
//! [`ManagementBackend`] changed is durable. Where the server asks the user something that
//! [`ManagementBackend::ask_user`] cannot answer at once, the session waits for `handle_user_answer`.
//!
//! | module | holds |
//! | --- | --- |
//! | `session` | the state of a session |
//! | `auth` | authentication of the server |
//! | `execution` | commands of a message, and a status for each |
//! | `outbound` | commands to send |
//! | `address` | the origin of a RespURI |

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

use super::{ManagementBackend, Settings, backoff::wait_in_reply_address, tree::Tree};

mod address;
mod auth;
mod execution;
mod outbound;
mod session;

#[cfg(test)]
mod tests;

use session::{Next, ServerMessage, Session};

/// Limits of one DM session.
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
    /// Octets of an inbound large object: an envelope in base64, and room.
    pub object_bytes: u64,
    /// Characters of a RespURI.
    pub reply_address: usize,
    /// Limits of one response.
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

/// Initiator of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// The device or its user.
    Client,
    /// The server, by a notification.
    Server,
}

/// A DM message to post.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// Its URL.
    pub url: String,
    /// Encoding of the body and of the expected response.
    pub encoding: Encoding,
    /// The encoded message.
    pub body: Vec<u8>,
    /// The value of the header [`MAC_HEADER`](proto::dm::auth::MAC_HEADER), if any.
    pub mac: Option<String>,
}

/// Leaves out the address, which may name the session, and the body, which holds credentials.
impl fmt::Debug for HttpRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "HttpRequest({} octets)", self.body.len())
    }
}

/// The response to a DM message.
#[derive(Clone, Copy)]
pub struct HttpResponse<'a> {
    /// The body of the HTTP 200.
    pub body: &'a [u8],
    /// The value of its header [`MAC_HEADER`](proto::dm::auth::MAC_HEADER), if it has one.
    pub mac: Option<&'a str>,
}

impl<'a, T: AsRef<[u8]> + ?Sized> From<&'a T> for HttpResponse<'a> {
    fn from(body: &'a T) -> Self {
        Self { body: body.as_ref(), mac: None }
    }
}

/// Next step of the shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send this request and return the response.
    Send(HttpRequest),
    /// Wait for the user's answer, which resumes the session.
    WaitForUser,
    /// The session is over.
    Done(SessionOutcome),
}

/// Outcome of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionOutcome {
    /// Both sides completed their packages.
    Complete,
    /// The server is busy.
    RetryLater {
        /// The time to wait that the server requested, if any.
        wait: Option<Duration>,
    },
    /// Aborted by this side, with [`DmClient::abort`].
    Aborted,
    /// The session failed; retry after a back-off.
    Failed(SessionError),
}

/// Error that ended a session.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SessionError {
    /// The server was not reached, or did not respond.
    #[error("no response from the server")]
    Unreachable,
    /// The server responded with an HTTP error.
    #[error("HTTP status {0} from the server")]
    Http(u16),
    /// The response is not a DM message.
    #[error("unreadable response: {0}")]
    Unreadable(#[from] MessageError),
    /// The response violates the protocol.
    #[error("protocol violation: {0}")]
    Protocol(&'static str),
    /// The server rejects the credentials.
    #[error("credentials rejected by the server")]
    CredentialsRefused,
    /// The server requires an authentication type that this device does not offer it.
    #[error("unsupported authentication type required by the server")]
    UnsupportedAuthentication,
    /// The server is not authenticated.
    #[error("server not authenticated")]
    ServerNotProved,
    /// The server rejected the message.
    #[error("message rejected by the server with status {0}")]
    Refused(StatusCode),
    /// The server aborted the session.
    #[error("session aborted by the server")]
    AbortedByServer,
    /// The session exceeded the limit of messages.
    #[error("too many messages in the session")]
    TooLong,
    /// There is no open session.
    #[error("no open session")]
    NoSession,
}

/// Error between request and response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportError {
    /// No connection, no response in time, or an untrusted server.
    Network,
    /// An HTTP status other than 200.
    Http {
        /// The status.
        status: u16,
        /// The header `Retry-After`, parsed by
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
    /// Creates a client without a session.
    #[must_use]
    pub fn new(settings: Settings, limits: Limits) -> Self {
        Self { tree: Tree::new(settings), limits, session: None }
    }

    /// Returns whether a session is open.
    #[must_use]
    pub const fn is_busy(&self) -> bool {
        self.session.is_some()
    }

    /// Returns whether the session waits for the user's answer.
    #[must_use]
    pub fn is_waiting_for_user(&self) -> bool {
        self.session.as_ref().is_some_and(Session::is_waiting_for_user)
    }

    /// Starts a session and returns its first message; drops an open session.
    ///
    /// # Units
    ///
    /// `session_id` is random, or the one of the notification; 0 counts as 1.
    pub fn start(
        &mut self,
        now: Now,
        device: &mut dyn ManagementBackend,
        trigger: Trigger,
        session_id: u16,
    ) -> HttpRequest {
        self.tree.begin_session(device);
        let mut session = Session::new(&self.tree, session_id, device.nonce(), self.limits);
        let post = session.begin(now, device, trigger);
        self.session = Some(session);
        post
    }

    /// Handles the response of an HTTP 200.
    pub fn handle_response<'a>(
        &mut self,
        now: Now,
        device: &mut dyn ManagementBackend,
        response: impl Into<HttpResponse<'a>>,
    ) -> Step {
        let HttpResponse { body, mac } = response.into();
        // An unreadable HMAC counts as none.
        let mac = mac.and_then(|text| Mac::parse(text).ok());
        let Some(session) = self.session.as_mut() else {
            return Step::Done(SessionOutcome::Failed(SessionError::NoSession));
        };
        let step = Encoding::recognise(body)
            .parse(body, &self.limits.response)
            .map_err(|error| SessionOutcome::Failed(error.into()))
            .and_then(|message| {
                let received = ServerMessage { message: &message, bytes: body, mac: mac.as_ref() };
                session.handle_message(now, device, &mut self.tree, received)
            });
        self.conclude(step)
    }

    /// Handles the answer to the prompt that [`ManagementBackend::ask_user`] did not answer at once.
    pub fn handle_user_answer(
        &mut self,
        now: Now,
        device: &mut dyn ManagementBackend,
        answer: &Answer,
    ) -> Step {
        let Some(session) = self.session.as_mut() else {
            return Step::Done(SessionOutcome::Failed(SessionError::NoSession));
        };
        let step = session.user_answered(now, device, &mut self.tree, answer);
        self.conclude(step)
    }

    /// Aborts the session for an external reason.
    ///
    /// Returns the abort message if it can be sent at once. Otherwise it replaces the response to the
    /// server's next message, unless that message ends the session. Either way the session ends with
    /// the response to the last message, or the lack of one.
    // spec: oma-dm 1.1 (1223)
    pub fn abort(&mut self, now: Now, device: &mut dyn ManagementBackend) -> Option<HttpRequest> {
        self.session.as_mut()?.abort(now, device, &mut self.tree)
    }

    /// Handles the failure of a request.
    pub fn handle_failure(&mut self, failure: TransportError) -> Step {
        let Some(session) = self.session.as_mut() else {
            return Step::Done(SessionOutcome::Failed(SessionError::NoSession));
        };
        let step = match failure {
            // The same octets with the same MsgID: the server may have acted on the first.
            TransportError::Network => session
                .resend()
                .map(Next::Send)
                .ok_or(SessionOutcome::Failed(SessionError::Unreachable)),
            TransportError::Http { status: 429 | 503, retry_after } => {
                Err(SessionOutcome::RetryLater { wait: retry_after })
            }
            TransportError::Http { status, .. } => {
                Err(SessionOutcome::Failed(SessionError::Http(status)))
            }
        };
        self.conclude(step)
    }

    fn conclude(&mut self, step: Result<Next, SessionOutcome>) -> Step {
        match step {
            Ok(Next::Send(post)) => Step::Send(post),
            Ok(Next::WaitForUser) => Step::WaitForUser,
            Err(outcome) => Step::Done(match self.session.take() {
                Some(session) => session.end(outcome),
                None => outcome,
            }),
        }
    }
}

/// Returns the outcome of a 417 or 503 for the header.
fn retry_later(now: Now, reply_address: Option<&str>) -> SessionOutcome {
    let wait = reply_address.and_then(|address| wait_in_reply_address(address, now.utc));
    SessionOutcome::RetryLater { wait }
}
