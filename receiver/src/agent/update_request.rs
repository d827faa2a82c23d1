//! What the device or its user has asked the server for, and what the server made of it.

use proto::{
    dm::{
        code::StatusCode,
        fumo::{UpdateInitiator, UpdateRequest},
    },
    time::Now,
};
use serde::Serialize;

use super::{Agent, AgentState};

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RequestOutcome {
    /// No session has brought an answer.
    QueuedPrompt,
    /// The server commands an update.
    Update,
    /// The server has noted it and commands nothing at present.
    Later,
    /// A user asked and the server said nothing to the user: it does not support this device.
    Unsupported,
    /// The server does not take such requests.
    Refused,
}

/// A request as people see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RequestStatus {
    /// `device` or `user`.
    pub asker: String,
    /// The firmware object that it is about; absent: all of the device.
    pub object: Option<String>,
    /// What became of it.
    pub outcome: RequestOutcome,
    /// What the server said to the user.
    pub server_text: Option<String>,
}

/// The last request of this run.
#[derive(Debug)]
pub(super) struct UpdateRequestState {
    request: UpdateRequest,
    outcome: RequestOutcome,
    /// The server's status in the session that goes on.
    answer: Option<StatusCode>,
    /// Whether the server has sent the user something in the session that goes on.
    user_notified: bool,
    server_text: Option<String>,
}

impl UpdateRequestState {
    fn new(request: UpdateRequest) -> Self {
        Self {
            request,
            outcome: RequestOutcome::QueuedPrompt,
            answer: None,
            user_notified: false,
            server_text: None,
        }
    }

    fn waits(&self) -> bool {
        self.outcome == RequestOutcome::QueuedPrompt
    }

    pub(super) fn status(&self) -> RequestStatus {
        RequestStatus {
            asker: self.request.initiator.to_string(),
            object: self.request.object.clone(),
            outcome: self.outcome,
            server_text: self.server_text.clone(),
        }
    }
}

impl Agent {
    /// Asks the server for an update in a session that begins at once. A session that goes on
    /// is not it: the request goes out in the package 1 of the next.
    pub fn request_update(&mut self, now: Now, request: UpdateRequest) {
        tracing::info!(initiator = %request.initiator, "an update is asked for");
        self.state.update_request = Some(UpdateRequestState::new(request));
        self.check_in(now);
    }

    /// Returns the address of the device's firmware object.
    #[must_use]
    pub fn firmware_object(&self) -> String {
        self.state.config.dm.object.to_string()
    }
}

impl AgentState {
    pub(super) fn waiting_request(&self) -> Option<UpdateRequest> {
        self.update_request
            .as_ref()
            .filter(|asked| asked.waits())
            .map(|asked| asked.request.clone())
    }

    /// A session begins: what the last one left open is asked again.
    pub(super) fn begin_request(&mut self) {
        if let Some(asked) = self.update_request.as_mut().filter(|asked| asked.waits()) {
            (asked.answer, asked.user_notified) = (None, false);
        }
    }

    pub(super) fn record_request_status(&mut self, code: StatusCode) {
        if let Some(asked) = self.update_request.as_mut().filter(|asked| asked.waits()) {
            asked.answer = Some(code);
        }
    }

    pub(super) fn record_user_notified(&mut self, text: &str) {
        if let Some(asked) = self.update_request.as_mut().filter(|asked| asked.waits()) {
            asked.user_notified = true;
            asked.server_text =
                Some(text.chars().filter(|c| !c.is_control()).take(MAX_SERVER_TEXT).collect());
        }
    }

    /// Returns whether a user asked in this session and was not spoken to: no update is processed.
    // spec: oma-004 6.1 (no user interaction: the server does not support the device)
    pub(super) fn is_unanswered_user(&self) -> bool {
        self.update_request.as_ref().is_some_and(|asked| {
            asked.waits()
                && asked.request.initiator == UpdateInitiator::User
                && asked.answer.is_some()
                && !asked.user_notified
        })
    }

    /// A session is over. Without a status the request stays and goes into the next one.
    pub(super) fn conclude_request(&mut self) {
        let Some(asked) = self.update_request.as_mut().filter(|asked| asked.waits()) else {
            return;
        };
        let Some(code) = asked.answer else { return };
        asked.outcome = match code {
            _ if asked.request.initiator == UpdateInitiator::User && !asked.user_notified => {
                RequestOutcome::Unsupported
            }
            StatusCode::OK => RequestOutcome::Update,
            StatusCode::ACCEPTED => RequestOutcome::Later,
            _ => RequestOutcome::Refused,
        };
        tracing::info!(outcome = ?asked.outcome, "the server has answered the request");
    }
}

/// Characters of what the server says to the user that the status shows.
const MAX_SERVER_TEXT: usize = 256;
