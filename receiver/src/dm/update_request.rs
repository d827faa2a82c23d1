//! Update requests of the device or its user, and their outcome.

use proto::dm::{
    code::StatusCode,
    fumo::{UpdateInitiator, UpdateRequest},
};
use serde::Serialize;

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

/// The last request of this run, until the server has answered it.
#[derive(Debug, Default)]
pub(crate) struct UpdateRequestState {
    last: Option<LastRequest>,
}

#[derive(Debug)]
struct LastRequest {
    request: UpdateRequest,
    outcome: RequestOutcome,
    /// The server's status in the current session.
    answer: Option<StatusCode>,
    /// Set when the server has displayed something to the user in the current session.
    user_notified: bool,
    server_text: Option<String>,
}

impl UpdateRequestState {
    /// Stores a request for package 1 of the next session.
    pub(crate) fn request(&mut self, request: UpdateRequest) {
        tracing::info!(initiator = %request.initiator, "update requested");
        self.last = Some(LastRequest {
            request,
            outcome: RequestOutcome::Waiting,
            answer: None,
            user_notified: false,
            server_text: None,
        });
    }

    fn waiting(&self) -> Option<&LastRequest> {
        self.last.as_ref().filter(|asked| asked.outcome == RequestOutcome::Waiting)
    }

    fn waiting_mut(&mut self) -> Option<&mut LastRequest> {
        self.last.as_mut().filter(|asked| asked.outcome == RequestOutcome::Waiting)
    }

    /// Returns the request that waits for its status.
    pub(crate) fn unanswered(&self) -> Option<UpdateRequest> {
        self.waiting().map(|asked| asked.request.clone())
    }

    /// Resets the request at the begin of a session: without a status it is sent again.
    pub(crate) fn begin_session(&mut self) {
        if let Some(asked) = self.waiting_mut() {
            (asked.answer, asked.user_notified) = (None, false);
        }
    }

    /// Records the server's status.
    pub(crate) fn record_status(&mut self, code: StatusCode) {
        if let Some(asked) = self.waiting_mut() {
            asked.answer = Some(code);
        }
    }

    /// Records that the server has displayed a text to the user.
    pub(crate) fn record_user_notified(&mut self, text: &str) {
        if let Some(asked) = self.waiting_mut() {
            asked.user_notified = true;
            asked.server_text =
                Some(text.chars().filter(|c| !c.is_control()).take(MAX_SERVER_TEXT).collect());
        }
    }

    /// Returns whether a user's request was answered in this session without a message to the user:
    /// then no update is processed.
    // spec: oma-004 6.1 (no user interaction: the server does not support the device)
    pub(crate) fn is_unanswered_user(&self) -> bool {
        self.waiting().is_some_and(|asked| {
            asked.request.initiator == UpdateInitiator::User
                && asked.answer.is_some()
                && !asked.user_notified
        })
    }

    /// Concludes the request at the end of a session. Without a status it is sent again in the next
    /// one.
    pub(crate) fn conclude(&mut self) {
        let Some(asked) = self.waiting_mut() else { return };
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

    /// Returns the status for operators; `None` when nothing was requested in this run.
    pub(crate) fn status(&self) -> Option<RequestStatus> {
        self.last.as_ref().map(|asked| RequestStatus {
            initiator: asked.request.initiator.to_string(),
            object: asked.request.object.clone(),
            outcome: asked.outcome,
            server_text: asked.server_text.clone(),
        })
    }
}

/// Characters of the server's text that the status shows.
const MAX_SERVER_TEXT: usize = 256;
