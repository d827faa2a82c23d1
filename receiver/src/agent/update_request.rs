//! Update requests of the device or its user, and their outcome.

use proto::{
    dm::{
        code::StatusCode,
        fumo::{UpdateInitiator, UpdateRequest},
    },
    time::Now,
};
use serde::Serialize;

use super::{Agent, AgentState};

/// The outcome of an update request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RequestOutcome {
    /// No session has returned a status.
    Waiting,
    /// The server granted an update.
    Update,
    /// The server has recorded it and commands nothing at present.
    Later,
    /// A user requested and the server notified the user of nothing: it does not support this
    /// device.
    Unsupported,
    /// The server rejects such requests.
    Refused,
}

/// The status of an update request for operators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RequestStatus {
    /// `device` or `user`.
    pub initiator: String,
    /// The firmware object that it concerns; absent: the whole device.
    pub object: Option<String>,
    /// The outcome.
    pub outcome: RequestOutcome,
    /// The text that the server displayed to the user.
    pub server_text: Option<String>,
}

/// The last request of this run.
#[derive(Debug)]
pub(super) struct UpdateRequestState {
    request: UpdateRequest,
    outcome: RequestOutcome,
    /// The server's status in the current session.
    answer: Option<StatusCode>,
    /// Set when the server has displayed something to the user in the current session.
    user_notified: bool,
    server_text: Option<String>,
}

impl UpdateRequestState {
    fn new(request: UpdateRequest) -> Self {
        Self {
            request,
            outcome: RequestOutcome::Waiting,
            answer: None,
            user_notified: false,
            server_text: None,
        }
    }

    fn waits(&self) -> bool {
        self.outcome == RequestOutcome::Waiting
    }

    pub(super) fn status(&self) -> RequestStatus {
        RequestStatus {
            initiator: self.request.initiator.to_string(),
            object: self.request.object.clone(),
            outcome: self.outcome,
            server_text: self.server_text.clone(),
        }
    }
}

impl Agent {
    /// Requests an update in a session that begins at once. A session in progress is not used: the
    /// request is part of package 1 of the next.
    pub fn request_update(&mut self, now: Now, request: UpdateRequest) {
        tracing::info!(initiator = %request.initiator, "update requested");
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

    /// Resets the request at the begin of a session: without a status it is sent again.
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

    /// Returns whether a user's request was answered in this session without a message to the user:
    /// then no update is processed.
    // spec: oma-004 6.1 (no user interaction: the server does not support the device)
    pub(super) fn is_unanswered_user(&self) -> bool {
        self.update_request.as_ref().is_some_and(|asked| {
            asked.waits()
                && asked.request.initiator == UpdateInitiator::User
                && asked.answer.is_some()
                && !asked.user_notified
        })
    }

    /// Concludes the request at the end of a session. Without a status it is sent again in the next
    /// one.
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
        tracing::info!(outcome = ?asked.outcome, "update request answered");
    }
}

/// Characters of the server's text that the status shows.
const MAX_SERVER_TEXT: usize = 256;
