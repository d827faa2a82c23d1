//! One DM session with the server, as a core without I/O.
//!
//! ```text
//! start ──► HttpRequest ──► handle_response ──► Send ──► …  ──► Done(SessionOutcome)
//!                    handle_failure  ──► HttpRequest (the same octets) or Done
//! ```
//!
//! The shell posts each request, over TLS if the URL is `https:`, and returns the octets of the
//! response or the error. It sends a message only after the state that the calls on
//! [`ManagementBackend`] changed is durable. While the user has not answered a prompt of the server,
//! see [`UserPrompt::ask_user`](super::UserPrompt::ask_user), the session waits for
//! `handle_user_answer`.
//!
//! | module | holds |
//! | --- | --- |
//! | `session` | the way of a message through a session |
//! | `context` | the time and the device of one input |
//! | `identity`, `address` | names and addresses of a session |
//! | `client_auth`, `server_auth` | authentication of either side |
//! | `inbound`, `execution` | the server's package: commands of a message, and a status for each |
//! | `outbound`, `command` | our package: commands to send, and the statuses to come |
//! | `abort` | the abort of a session by this side |
//! | `http` | requests and responses |
//! | `outcome` | initiator and outcome of a session |
//! | `limits` | limits of a session |

use proto::{
    dm::{auth::Mac, encoding::Encoding, ui::Answer},
    time::Now,
};

use super::{ManagementBackend, Settings, tree::Tree};

mod abort;
mod address;
mod client_auth;
mod command;
mod context;
mod execution;
mod http;
mod identity;
mod inbound;
mod limits;
mod outbound;
mod outcome;
mod server_auth;
mod session;

#[cfg(test)]
mod tests;

use self::{
    context::Context,
    server_auth::ServerMessage,
    session::{Next, Session},
};
pub use self::{
    http::{HttpRequest, HttpResponse, TransportError},
    limits::Limits,
    outcome::{SessionError, SessionOutcome, Trigger},
};

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
        let mut context = Context { now, device, tree: &mut self.tree };
        let request = session.begin(&mut context, trigger);
        self.session = Some(session);
        request
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
                let mut context = Context { now, device, tree: &mut self.tree };
                session.handle_message(&mut context, received)
            });
        self.conclude(step)
    }

    /// Handles the answer to the prompt that
    /// [`UserPrompt::ask_user`](super::UserPrompt::ask_user) did not answer at once.
    pub fn handle_user_answer(
        &mut self,
        now: Now,
        device: &mut dyn ManagementBackend,
        answer: &Answer,
    ) -> Step {
        let Some(session) = self.session.as_mut() else {
            return Step::Done(SessionOutcome::Failed(SessionError::NoSession));
        };
        let mut context = Context { now, device, tree: &mut self.tree };
        let step = session.user_answered(&mut context, answer);
        self.conclude(step)
    }

    /// Aborts the session for an external reason.
    ///
    /// Returns the abort message if it can be sent at once. Otherwise it replaces the response to
    /// the server's next message, unless that message ends the session. Either way the session ends
    /// with the response to the last message, or the lack of one.
    // spec: oma-dm 1.1 (1223)
    pub fn abort(&mut self, now: Now, device: &mut dyn ManagementBackend) -> Option<HttpRequest> {
        let mut context = Context { now, device, tree: &mut self.tree };
        self.session.as_mut()?.abort(&mut context)
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
            Ok(Next::Send(request)) => Step::Send(request),
            Ok(Next::WaitForUser) => Step::WaitForUser,
            Err(outcome) => Step::Done(match self.session.take() {
                Some(session) => session.end(outcome),
                None => outcome,
            }),
        }
    }
}
