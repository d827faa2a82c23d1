//! The way of a message through a session: from the authentication of the server's message to our
//! next one.

use proto::{
    dm::{
        code::{AlertCode, StatusCode},
        syncml::{
            Challenge, Command, CommandId, Header, Message, MessageId, Rejected, Status, Verb,
        },
        ui::Answer,
    },
    time::Now,
};

use super::{
    abort::AbortState,
    client_auth::ClientAuth,
    command::OutboundCommand,
    context::Context,
    http::HttpRequest,
    identity::Identity,
    inbound::{InboundPackage, Progress},
    limits::Limits,
    outbound::{Answered, OutboundPackage, PackageEnd},
    outcome::{SessionError, SessionOutcome, Trigger, retry_later},
    server_auth::{AuthOutcome, ServerAuth, ServerMessage},
};
use crate::dm::{ManagementBackend, tree::Tree};

/// Next step after a message of the server.
#[derive(Debug)]
pub(super) enum Next {
    /// Send this request.
    Send(HttpRequest),
    /// Wait for the user's answer.
    WaitForUser,
}

/// Outcome of the header of the server's message.
enum AuthStep {
    /// Authentic, with the status of its header.
    Authenticated(Box<Status>),
    /// A message to send instead of a response.
    Send(HttpRequest),
    /// The message that aborts the session.
    Abort(HttpRequest),
}

/// One session.
#[derive(Debug)]
pub(super) struct Session {
    limits: Limits,
    identity: Identity,
    client_auth: ClientAuth,
    /// Authentication of the server; `None` when the account has no credentials of it.
    server_auth: Option<ServerAuth>,
    inbound: InboundPackage,
    outbound: OutboundPackage,
    abort: AbortState,
}

impl Session {
    pub(super) fn new(tree: &Tree, session_id: u16, nonce: Vec<u8>, limits: Limits) -> Self {
        let settings = tree.settings();
        let account = &settings.account;
        Self {
            limits,
            identity: Identity::new(settings, session_id),
            client_auth: ClientAuth::new(account, nonce),
            server_auth: ServerAuth::of(account),
            inbound: InboundPackage::new(limits.object_bytes),
            outbound: OutboundPackage::new(
                account.encoding,
                limits.response.message_bytes,
                settings.object.to_string(),
            ),
            abort: AbortState::default(),
        }
    }

    /// Builds package 1: session alert, device information, update request, final alerts.
    pub(super) fn begin(&mut self, context: &mut Context<'_>, trigger: Trigger) -> HttpRequest {
        // spec: oma-000 8.2.2, oma-001 8.1.1.2, oma-001 8.1.1.3 (package 1)
        let reason = match trigger {
            Trigger::Client => AlertCode::CLIENT_INITIATED,
            Trigger::Server => AlertCode::SERVER_INITIATED,
        };
        self.outbound.push(OutboundCommand::Alert(reason));
        self.outbound.push(OutboundCommand::DeviceInfo(context.tree.device_info()));
        // spec: oma-004 6.1 (the device, or its user, requests an update)
        if let Some(request) = context.device.update_request() {
            self.outbound.push(OutboundCommand::Request(request));
        }
        self.outbound.push_alerts(context.device.due_alerts(context.now), self.limits.alerts);
        self.pack_message()
    }

    /// Handles the server's message; returns the next step, or the outcome of the session.
    pub(super) fn handle_message(
        &mut self,
        context: &mut Context<'_>,
        received: ServerMessage<'_>,
    ) -> Result<Next, SessionOutcome> {
        let message = received.message.in_reply_to(MessageId::new(self.outbound.number()));
        let message = &*message;
        let received = ServerMessage { message, ..received };
        if let Some(rejected) = message.rejected_header() {
            return self.reject_version(message, rejected);
        }
        let was_aborted = matches!(self.abort, AbortState::Sent(_));
        match (self.authenticate(context, received)?, &self.abort) {
            (AuthStep::Abort(request), _) if !was_aborted => Ok(Next::Send(request)),
            (_, AbortState::Sent(_))
            | (AuthStep::Send(_) | AuthStep::Abort(_), AbortState::Requested) => {
                Err(SessionOutcome::Aborted)
            }
            (AuthStep::Send(request) | AuthStep::Abort(request), AbortState::None) => {
                Ok(Next::Send(request))
            }
            (AuthStep::Authenticated(header), AbortState::Requested) if !self.is_last(message) => {
                Ok(Next::Send(self.abort_message(header, Vec::new(), SessionOutcome::Aborted)))
            }
            (AuthStep::Authenticated(header), AbortState::Requested | AbortState::None) => {
                self.execute(context, message, header)
            }
        }
    }

    /// Authenticates a message and handles the statuses in it.
    fn authenticate(
        &mut self,
        context: &mut Context<'_>,
        received: ServerMessage<'_>,
    ) -> Result<AuthStep, SessionOutcome> {
        let message = received.message;
        let status = self.check_header(context.now, message)?;
        if status.code.is_challenge() {
            return self.on_challenge(context, received, status).map(AuthStep::Send);
        }
        if !status.code.is_success() {
            return Err(SessionError::Refused(status.code).into());
        }
        let is_answered = !self.is_last(message);
        let outcome = self.authenticate_server(context, received, is_answered);
        let nonce = self.client_auth.on_header_status(status);
        let (code, challenge) = match outcome {
            AuthOutcome::Authenticated(code, challenge) => (code, challenge),
            // spec: oma-dm 5.2 (a nonce of an unauthenticated server is used and not stored)
            AuthOutcome::Challenge(code, challenge) => {
                return self.refuse(message, code, challenge).map(AuthStep::Send);
            }
            AuthOutcome::Missing if !is_statuses(message) => {
                return Ok(AuthStep::Abort(self.abort_unproved(message)));
            }
            // What only answers is no package 2: nothing of it counts, and nothing is to be said.
            AuthOutcome::Missing | AuthOutcome::Failed => {
                return Err(SessionError::ServerNotProved.into());
            }
        };
        if let Some(nonce) = nonce {
            context.device.store_nonce(nonce);
        }
        self.on_statuses(context.now, context.device, message);
        let header = Status::for_header(CommandId::new(0), &message.header, code);
        Ok(AuthStep::Authenticated(Box::new(Status { challenge, ..header })))
    }

    fn authenticate_server(
        &mut self,
        context: &mut Context<'_>,
        received: ServerMessage<'_>,
        is_answered: bool,
    ) -> AuthOutcome {
        match &mut self.server_auth {
            None => AuthOutcome::Authenticated(StatusCode::OK, None),
            Some(server) => server.authenticate(context.device, received, is_answered),
        }
    }

    /// Checks that a message responds to our last one; returns the status of our header.
    fn check_header<'a>(
        &mut self,
        now: Now,
        message: &'a Message,
    ) -> Result<&'a Status, SessionOutcome> {
        if self.inbound.is_waiting_for_user() {
            return Err(protocol("a message arrived while the user was prompted"));
        }
        if !self.identity.is_of(&message.header) {
            return Err(protocol("the message belongs to another session"));
        }
        let number = MessageId::new(self.outbound.number());
        let status = message
            .statuses()
            .find(|status| status.verb == Verb::Header && status.message_ref == number)
            .ok_or(protocol("no status for the header of our message"))?;
        let respond_to = message.header.respond_to.as_deref();
        if status.code.is_retry_later() {
            return Err(retry_later(now, respond_to));
        }
        // Those of a challenge too: what is sent again goes to the same server.
        if let Some(announced) = &message.header.meta {
            self.outbound.adopt_limits(announced, self.limits.response.message_bytes);
        }
        if let Some(address) = respond_to {
            self.identity.follow_respond_uri(address, self.limits.reply_address)?;
        }
        Ok(status)
    }

    /// Repeats the content of the last message with other credentials.
    fn on_challenge(
        &mut self,
        context: &mut Context<'_>,
        received: ServerMessage<'_>,
        status: &Status,
    ) -> Result<HttpRequest, SessionOutcome> {
        let origin = self.identity.origin();
        self.client_auth.on_challenge(status, origin, self.limits.challenges)?;
        let (code, challenge) = match self.authenticate_server(context, received, true) {
            AuthOutcome::Authenticated(code, challenge) => (code, challenge),
            // Each side may challenge the other in one exchange.
            AuthOutcome::Challenge(code, challenge) => (code, Some(challenge)),
            AuthOutcome::Missing => (StatusCode::OK, None),
            AuthOutcome::Failed => return Err(SessionError::ServerNotProved.into()),
        };
        let header = Status::for_header(CommandId::new(0), &received.message.header, code);
        self.outbound.requeue_last(Status { challenge, ..header });
        self.check_length()?;
        Ok(self.pack_message())
    }

    /// Responds to an unauthenticated message: a Status for each command, and no command is run.
    // spec: oma-dm 5.2 (statuses to an unauthenticated server)
    fn refuse(
        &mut self,
        message: &Message,
        code: StatusCode,
        challenge: Challenge,
    ) -> Result<HttpRequest, SessionOutcome> {
        self.check_length()?;
        let mut statuses = refusals(message, code);
        if let Some(OutboundCommand::Status(header)) = statuses.first_mut() {
            header.challenge = Some(challenge);
        }
        let header = self.next_header();
        let message = self.outbound.pack_alone(statuses.into(), header, self.package_end());
        Ok(self.encode(&message))
    }

    /// Ends the session with a server that sends commands and no credentials.
    // spec: oma-dm 5.2 (no challenge by a Status for the header alone)
    fn abort_unproved(&mut self, message: &Message) -> HttpRequest {
        let code = StatusCode::MISSING_CREDENTIALS;
        let header = Status::for_header(CommandId::new(0), &message.header, code);
        let statuses = refusals(message, code).split_off(1);
        let outcome = SessionOutcome::Failed(SessionError::ServerNotProved);
        self.abort_message(Box::new(header), statuses, outcome)
    }

    /// Ends the session with a server of another version.
    // spec: oma-dm 3 (505 and 513)
    fn reject_version(
        &mut self,
        message: &Message,
        rejected: &Rejected,
    ) -> Result<Next, SessionOutcome> {
        let outcome = SessionOutcome::from(SessionError::Unreadable(rejected.fault.clone()));
        let is_answerable = self.identity.is_of(&message.header)
            && !self.abort.is_pending()
            && !self.inbound.is_waiting_for_user();
        if !is_answerable {
            return Err(outcome);
        }
        let header = Status::for_header(CommandId::HEADER, &message.header, rejected.code);
        Ok(Next::Send(self.abort_message(Box::new(header), Vec::new(), outcome)))
    }

    /// Handles the statuses of our commands.
    fn on_statuses(&mut self, now: Now, device: &mut dyn ManagementBackend, message: &Message) {
        for status in message.statuses() {
            match self.outbound.on_status(status) {
                Some(Answered::Request(code)) => device.on_request_status(now, code),
                Some(Answered::Alert(alert)) => device.on_alert_acknowledged(now, &alert),
                None => {}
            }
        }
    }

    /// Returns whether a message ends the session by itself.
    fn is_last(&self, message: &Message) -> bool {
        is_statuses(message) && message.is_final && self.outbound.is_empty()
    }

    fn execute(
        &mut self,
        context: &mut Context<'_>,
        message: &Message,
        header: Box<Status>,
    ) -> Result<Next, SessionOutcome> {
        // While our package is unfinished the server only asks for more; its `Final` then does not
        // concern the package that we respond to.
        if self.outbound.was_final() || !self.inbound.is_final() {
            self.inbound.set_final(message.is_final);
        }
        self.outbound.drop_next_message_alert();
        let space = self.outbound.space_left(self.header());
        let progress = self.inbound.execute(context, message, header, space);
        self.respond(context, progress)
    }

    /// Handles the user's answer to the open prompt.
    pub(super) fn user_answered(
        &mut self,
        context: &mut Context<'_>,
        answer: &Answer,
    ) -> Result<Next, SessionOutcome> {
        let space = self.outbound.space_left(self.header());
        let progress = self.inbound.on_user_answer(context, answer, space);
        self.respond(context, progress)
    }

    /// Responds to the executed message, unless the user has to answer first.
    fn respond(
        &mut self,
        context: &mut Context<'_>,
        progress: Progress,
    ) -> Result<Next, SessionOutcome> {
        let (header, answers) = match progress {
            Progress::WaitsForUser => return Ok(Next::WaitForUser),
            Progress::Aborted => return Err(SessionError::AbortedByServer.into()),
            Progress::Done { header, answers } => (header, answers),
        };
        // spec: oma-dm 1 (a session without further commands ends)
        if answers.is_empty() && self.outbound.is_empty() && self.inbound.is_final() {
            return Err(SessionOutcome::Complete);
        }
        // spec: oma-dm 1.1 (1223: a session that never ends)
        if self.outbound.number() + 1 == self.limits.messages {
            let outcome = SessionOutcome::Failed(SessionError::TooLong);
            return Ok(Next::Send(self.abort_message(header, answers, outcome)));
        }
        self.outbound.push_answers(*header, answers);
        if self.inbound.is_final() {
            self.outbound.push_alerts(context.device.due_alerts(context.now), self.limits.alerts);
        } else {
            self.outbound.push(OutboundCommand::Alert(AlertCode::NEXT_MESSAGE));
        }
        self.check_length()?;
        Ok(Next::Send(self.pack_message()))
    }

    fn check_length(&self) -> Result<(), SessionError> {
        if self.outbound.number() < self.limits.messages {
            Ok(())
        } else {
            Err(SessionError::TooLong)
        }
    }

    /// Builds the next message from as many queued commands as fit.
    fn pack_message(&mut self) -> HttpRequest {
        let header = self.next_header();
        let message = self.outbound.pack(header, self.package_end());
        self.encode(&message)
    }

    fn next_header(&mut self) -> Header {
        self.outbound.begin_message();
        self.header()
    }

    fn header(&self) -> Header {
        let credential = self.client_auth.credential(self.identity.origin());
        self.identity.header(MessageId::new(self.outbound.number()), credential, &self.limits)
    }

    const fn package_end(&self) -> PackageEnd {
        if self.abort.is_pending() {
            PackageEnd::NextMessage
        } else if self.inbound.is_final() {
            PackageEnd::LastCommand
        } else {
            PackageEnd::Later
        }
    }

    fn encode(&mut self, message: &Message) -> HttpRequest {
        let body = self.outbound.encoding().emit(message);
        let mac = self.client_auth.mac(self.identity.user(), &body);
        self.outbound.store_encoded(body, mac);
        self.last_request()
    }

    fn last_request(&self) -> HttpRequest {
        let (body, mac) = self.outbound.last_message();
        HttpRequest {
            url: self.identity.url().to_owned(),
            encoding: self.outbound.encoding(),
            body: body.to_vec(),
            mac: mac.map(str::to_owned),
        }
    }

    /// Returns the last message once more; `None` at the limit of resends, or after an abort.
    pub(super) fn resend(&mut self) -> Option<HttpRequest> {
        if self.abort.is_pending() {
            return None;
        }
        self.outbound.count_resend(self.limits.resends)?;
        Some(self.last_request())
    }

    /// Returns whether the session waits for the user's answer.
    pub(super) const fn is_waiting_for_user(&self) -> bool {
        self.inbound.is_waiting_for_user()
    }

    /// Aborts the session; returns the last message if no response of the server is outstanding.
    pub(super) fn abort(&mut self, context: &mut Context<'_>) -> Option<HttpRequest> {
        let Some(header) = self.inbound.abandon(context) else {
            self.abort.request();
            return None;
        };
        Some(self.abort_message(header, Vec::new(), SessionOutcome::Aborted))
    }

    /// Builds the last message, the abort.
    // spec: oma-dm 1.1 (1223)
    fn abort_message(
        &mut self,
        header: Box<Status>,
        answers: Vec<OutboundCommand>,
        outcome: SessionOutcome,
    ) -> HttpRequest {
        self.abort.send(outcome);
        self.outbound.replace_by_abort(*header, answers);
        self.pack_message()
    }

    /// Returns the outcome of a session that sends no further message.
    pub(super) fn end(self, outcome: SessionOutcome) -> SessionOutcome {
        self.abort.outcome_of(outcome)
    }
}

/// Returns whether the commands of a message are statuses alone.
fn is_statuses(message: &Message) -> bool {
    let is_command = |it: &Rejected| it.is_command() && it.verb != Verb::Status;
    !message.commands.iter().any(|command| match command {
        Command::Status(_) => false,
        Command::Rejected(rejected) => is_command(rejected),
        Command::Results(_)
        | Command::Alert(_)
        | Command::Exec(_)
        | Command::Get(_)
        | Command::Add(_)
        | Command::Replace(_)
        | Command::Delete(_)
        | Command::Copy(_)
        | Command::Sequence(_)
        | Command::Atomic(_) => true,
    })
}

/// Returns the statuses of a message of which no command is run, that of its header first.
fn refusals(message: &Message, code: StatusCode) -> Vec<OutboundCommand> {
    let header = Status::for_header(CommandId::new(0), &message.header, code);
    let mut statuses = vec![OutboundCommand::Status(header)];
    let mut open: Vec<&Command> = message.commands.iter().rev().collect();
    while let Some(command) = open.pop() {
        if !command.wants_status() {
            continue;
        }
        let (message_ref, id) = (message.header.message_id, command.id());
        let status = Status::new(CommandId::new(0), message_ref, id, command.verb(), code);
        statuses.push(OutboundCommand::Status(status));
        if let Command::Sequence(group) | Command::Atomic(group) = command {
            open.extend(group.commands.iter().rev());
        }
    }
    statuses
}

fn protocol(fault: &'static str) -> SessionOutcome {
    SessionOutcome::Failed(SessionError::Protocol(fault))
}
