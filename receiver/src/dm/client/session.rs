//! State of a session: authentication, outbound and inbound packages, the abort.

use std::collections::{BTreeMap, VecDeque};

use proto::{
    dm::{
        auth::{AuthKind, Mac, Secret},
        code::{AlertCode, StatusCode},
        encoding::Encoding,
        large::{Chunker, Reassembler},
        syncml::{
            Alert, Challenge, Command, CommandId, Header, Item, Location, Manage, Message,
            MessageId, Meta, Results, Status, Verb,
        },
        ui::Answer,
    },
    time::Now,
};

use super::{
    address::Origin,
    auth::{AuthOutcome, ServerAuth},
    execution::{Execution, Executor, SpaceLeft},
    http::HttpRequest,
    limits::Limits,
    outbound::{MAX_STATUS_BYTES, OutboundCommand},
    outcome::{SessionError, SessionOutcome, Trigger, retry_later},
};
use crate::dm::{FinalAlert, ManagementBackend, tree::Tree};

/// Smallest chunk of a large object, in octets.
const MIN_CHUNK_BYTES: usize = 256;
/// Lower bound of a server's MaxMsgSize; below it no response would fit.
const MIN_MESSAGE_BYTES: usize = 2048;

/// A received message of the server.
#[derive(Clone, Copy)]
pub(super) struct ServerMessage<'a> {
    pub(super) message: &'a Message,
    pub(super) bytes: &'a [u8],
    /// Its HMAC, from the HTTP header.
    pub(super) mac: Option<&'a Mac>,
}

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
}

/// State of an abort by this side.
#[derive(Debug)]
enum AbortState {
    /// Requested: the abort replaces the response to the next message.
    Requested,
    /// The abort is sent; the outcome of the session.
    Sent(SessionOutcome),
}

/// Scope of the client's credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    EachMessage,
    GivenForSession,
}

/// One session.
#[derive(Debug)]
pub(super) struct Session {
    id: String,
    url: String,
    encoding: Encoding,
    kind: AuthKind,
    server_uri: String,
    source: Location,
    secret: Secret,
    /// Authentication of the server; `None` when the account has no credentials of it.
    server_auth: Option<ServerAuth>,
    object: String,
    device_info: Vec<Item>,
    limits: Limits,

    /// The nonce for the next credentials; empty when there is none.
    nonce: Vec<u8>,
    proof: Proof,
    challenges: u8,
    /// MaxMsgSize of the server.
    server_max_message: usize,

    /// Number and content of the message that awaits its response.
    message: u32,
    body: Vec<u8>,
    mac: Option<String>,
    content: Vec<OutboundCommand>,
    resends: u8,

    /// The execution that waits for the user's answer, and the status of its header.
    waiting: Option<(Execution, Status)>,
    /// The inbound large object.
    joiner: Reassembler,
    /// The outbound chunk that awaits its status.
    open_chunk: Option<(MessageId, CommandId)>,
    /// Commands that did not fit into the last message.
    outbox: VecDeque<OutboundCommand>,
    /// Set when the last message ended our package.
    was_final: bool,
    /// Set when the server's package is complete.
    server_was_final: bool,
    /// Final alerts by the message and command that carried them.
    sent: BTreeMap<(MessageId, CommandId), FinalAlert>,
    /// The update request that awaits its status.
    open_request: Option<(MessageId, CommandId)>,
    /// Final alerts sent in this session, acknowledged or not.
    sent_alerts: Vec<FinalAlert>,
    /// The abort by this side, if any.
    abort_state: Option<AbortState>,
}

impl Session {
    pub(super) fn new(tree: &Tree, session_id: u16, nonce: Vec<u8>, limits: Limits) -> Self {
        let settings = tree.settings();
        let account = &settings.account;
        Self {
            id: format!("{:X}", session_id.max(1)),
            url: account.url.clone(),
            encoding: account.encoding,
            kind: account.auth,
            server_uri: account.url.clone(),
            source: Location::named(settings.identity.device_id.as_str(), &account.user),
            secret: account.secret.clone(),
            server_auth: ServerAuth::of(account),
            object: settings.object.to_string(),
            device_info: tree.device_info(),
            limits,
            nonce,
            proof: Proof::EachMessage,
            challenges: 0,
            server_max_message: limits.response.message_bytes,
            message: 0,
            body: Vec::new(),
            mac: None,
            content: Vec::new(),
            resends: 0,
            waiting: None,
            joiner: Reassembler::default(),
            open_chunk: None,
            outbox: VecDeque::new(),
            was_final: true,
            server_was_final: true,
            sent: BTreeMap::new(),
            open_request: None,
            sent_alerts: Vec::new(),
            abort_state: None,
        }
    }

    /// Builds package 1: session alert, device information, update request, final alerts.
    pub(super) fn begin(
        &mut self,
        now: Now,
        device: &dyn ManagementBackend,
        trigger: Trigger,
    ) -> HttpRequest {
        // spec: oma-000 8.2.2, oma-001 8.1.1.2, oma-001 8.1.1.3 (package 1)
        let reason = match trigger {
            Trigger::Client => AlertCode::CLIENT_INITIATED,
            Trigger::Server => AlertCode::SERVER_INITIATED,
        };
        self.outbox.push_back(OutboundCommand::Alert(reason));
        self.outbox.push_back(OutboundCommand::DeviceInfo(std::mem::take(&mut self.device_info)));
        // spec: oma-004 6.1 (the device, or its user, requests an update)
        self.outbox.extend(device.update_request().map(OutboundCommand::Request));
        self.queue_alerts(now, device);
        self.pack_message()
    }

    /// Returns the last message once more; `None` at the limit of resends, or after an abort.
    pub(super) fn resend(&mut self) -> Option<HttpRequest> {
        if self.abort_state.is_some() {
            return None;
        }
        self.resends =
            self.resends.checked_add(1).filter(|resends| *resends <= self.limits.resends)?;
        Some(self.last_request())
    }

    /// Returns whether the session waits for the user's answer.
    pub(super) const fn is_waiting_for_user(&self) -> bool {
        self.waiting.is_some()
    }

    /// Aborts the session; returns the last message if no response of the server is outstanding.
    pub(super) fn abort(
        &mut self,
        now: Now,
        device: &mut dyn ManagementBackend,
        tree: &mut Tree,
    ) -> Option<HttpRequest> {
        if let Some((mut execution, header)) = self.waiting.take() {
            self.executor(now, device, tree, &mut execution).abandon();
            return Some(self.abort_message(header, Vec::new(), SessionOutcome::Aborted));
        }
        self.abort_state.get_or_insert(AbortState::Requested);
        None
    }

    /// Builds the last message, the abort. Statuses precede it as far as there is certainly room
    /// beside the header, its status and the alert.
    // spec: oma-dm 1.1 (1223)
    fn abort_message(
        &mut self,
        header: Status,
        done: Vec<OutboundCommand>,
        outcome: SessionOutcome,
    ) -> HttpRequest {
        self.abort_state = Some(AbortState::Sent(outcome));
        self.outbox.clear();
        self.outbox.push_back(OutboundCommand::Status(header));
        let statuses = done.into_iter().filter(|it| matches!(it, OutboundCommand::Status(_)));
        let room = (self.server_max_message / MAX_STATUS_BYTES).saturating_sub(4);
        self.outbox.extend(statuses.take(room));
        self.outbox.push_back(OutboundCommand::Alert(AlertCode::SESSION_ABORT));
        self.pack_message()
    }

    /// Returns the outcome of a session that sends no further message.
    pub(super) fn end(self, outcome: SessionOutcome) -> SessionOutcome {
        match (self.abort_state, outcome) {
            (Some(AbortState::Sent(outcome)), _) => outcome,
            (Some(AbortState::Requested), SessionOutcome::Complete) => SessionOutcome::Complete,
            (Some(AbortState::Requested), _) => SessionOutcome::Aborted,
            (None, outcome) => outcome,
        }
    }

    /// Handles the server's message; returns the next step, or the outcome of the session.
    pub(super) fn handle_message(
        &mut self,
        now: Now,
        device: &mut dyn ManagementBackend,
        tree: &mut Tree,
        received: ServerMessage<'_>,
    ) -> Result<Next, SessionOutcome> {
        let message = received.message;
        match (self.check_message(now, device, received)?, &self.abort_state) {
            (_, Some(AbortState::Sent(_))) | (AuthStep::Send(_), Some(AbortState::Requested)) => {
                Err(SessionOutcome::Aborted)
            }
            (AuthStep::Send(request), None) => Ok(Next::Send(request)),
            (AuthStep::Authenticated(header), Some(AbortState::Requested))
                if !self.is_last(message) =>
            {
                Ok(Next::Send(self.abort_message(*header, Vec::new(), SessionOutcome::Aborted)))
            }
            (AuthStep::Authenticated(header), Some(AbortState::Requested) | None) => {
                self.execute(now, device, tree, message, *header)
            }
        }
    }

    /// Returns whether a message ends the session by itself.
    fn is_last(&self, message: &Message) -> bool {
        let only_statuses = message.commands.iter().all(|it| matches!(it, Command::Status(_)));
        only_statuses && message.is_final && self.outbox.is_empty()
    }

    /// Authenticates a message and handles the statuses in it.
    fn check_message(
        &mut self,
        now: Now,
        device: &mut dyn ManagementBackend,
        received: ServerMessage<'_>,
    ) -> Result<AuthStep, SessionOutcome> {
        let message = received.message;
        if self.waiting.is_some() {
            return Err(protocol("a message arrived while the user was prompted"));
        }
        if message.header.session_id != self.id {
            return Err(protocol("the message belongs to another session"));
        }
        let ours =
            |status: &&Status| status.verb == Verb::Header && status.message_ref.0 == self.message;
        let status = message
            .statuses()
            .find(ours)
            .ok_or(protocol("no status for the header of our message"))?;
        if status.code.is_retry_later() {
            return Err(retry_later(now, message.header.respond_to.as_deref()));
        }
        if let Some(address) = &message.header.respond_to {
            self.follow_respond_uri(address)?;
        }
        if status.code.is_challenge() {
            return self.challenged(status).map(AuthStep::Send);
        }
        if !status.code.is_success() {
            return Err(SessionOutcome::Failed(SessionError::Refused(status.code)));
        }
        let outcome = match &mut self.server_auth {
            None => AuthOutcome::Authenticated(StatusCode::OK, None),
            Some(server) => server.authenticate(device, message, received.bytes, received.mac),
        };
        let is_authenticated = matches!(outcome, AuthOutcome::Authenticated(..));
        self.on_header_status(device, status, is_authenticated);
        let (code, challenge) = match outcome {
            AuthOutcome::Authenticated(code, challenge) => (code, challenge),
            AuthOutcome::Challenge(code, challenge) => {
                return self.refuse(message, code, challenge).map(AuthStep::Send);
            }
            AuthOutcome::Failed => {
                return Err(SessionOutcome::Failed(SessionError::ServerNotProved));
            }
        };
        let takes = message.header.meta.as_ref().and_then(|meta| meta.max_message_size);
        if let Some(takes) = takes {
            let takes = usize::try_from(takes).unwrap_or(usize::MAX);
            self.server_max_message =
                takes.clamp(MIN_MESSAGE_BYTES, self.limits.response.message_bytes);
        }
        self.on_statuses(now, device, message);
        let header = Status::for_header(CommandId(0), &message.header, code);
        Ok(AuthStep::Authenticated(Box::new(Status { challenge, ..header })))
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
        let (waiting, was_final) = (std::mem::take(&mut self.outbox), self.was_final);
        let header = Status::for_header(CommandId(0), &message.header, code);
        let header = Status { challenge: Some(challenge), ..header };
        self.outbox.push_back(OutboundCommand::Status(header));
        let mut open: Vec<&Command> = message.commands.iter().rev().collect();
        while let Some(command) = open.pop() {
            if !command.wants_status() {
                continue;
            }
            let (message_ref, id) = (message.header.message_id, command.id());
            let status = Status::new(CommandId(0), message_ref, id, command.verb(), code);
            self.outbox.push_back(OutboundCommand::Status(status));
            if let Command::Sequence(group) | Command::Atomic(group) = command {
                open.extend(group.commands.iter().rev());
            }
        }
        let request = self.pack_message();
        self.outbox.extend(waiting);
        self.was_final = was_final;
        Ok(request)
    }

    /// Handles the status of our header: the scope of our credentials, and the next nonce.
    fn on_header_status(
        &mut self,
        device: &mut dyn ManagementBackend,
        status: &Status,
        is_authenticated: bool,
    ) {
        if status.code == StatusCode::AUTHENTICATED {
            self.proof = Proof::GivenForSession;
        }
        // With 212 the nonce is for the next session, with 200 for the next message. An unreadable
        // one counts as none: the server will challenge.
        if let Some(Ok(nonce)) = status.challenge.as_ref().map(|challenge| challenge.nonce()) {
            // spec: oma-dm 5.2 (a nonce of an unauthenticated server is used and not stored)
            if is_authenticated {
                device.store_nonce(&nonce);
            }
            self.nonce = nonce;
        }
    }

    /// Repeats the content of the last message with credentials made from the server's nonce,
    /// which is used and not stored: nobody has proved yet that it is the server's.
    fn challenged(&mut self, status: &Status) -> Result<HttpRequest, SessionOutcome> {
        let challenge = status.challenge.as_ref().ok_or(protocol("a challenge without Chal"))?;
        let kind = challenge.kind().filter(|kind| self.may_send_credentials(*kind));
        self.kind = kind.ok_or(SessionOutcome::Failed(SessionError::UnsupportedAuthentication))?;
        if self.challenges >= self.limits.challenges {
            return Err(SessionOutcome::Failed(SessionError::CredentialsRefused));
        }
        self.challenges += 1;
        // spec: oma-dm 5 (a challenge's nonce is not stored)
        if self.kind != AuthKind::Basic {
            self.nonce = challenge.nonce().map_err(|_| protocol("a challenge without nonce"))?;
        }
        self.proof = Proof::EachMessage;
        for command in std::mem::take(&mut self.content).into_iter().rev() {
            self.outbox.push_front(command);
        }
        self.check_length()?;
        Ok(self.pack_message())
    }

    /// Returns whether credentials of a kind may be sent to this server: the password itself only
    /// if configured, and over a private transport.
    // spec: security 7.2 (the password itself goes over TLS or stays on the machine)
    fn may_send_credentials(&self, kind: AuthKind) -> bool {
        kind != AuthKind::Basic
            || (self.secret.password().is_some()
                && Origin::of(&self.url).is_some_and(Origin::is_private))
    }

    /// Follows the server's RespURI if it leads to the same server.
    // spec: oma-dm 1 (the reply address)
    fn follow_respond_uri(&mut self, address: &str) -> Result<(), SessionOutcome> {
        let readable = address.len() <= self.limits.reply_address
            && address.chars().all(|c| c.is_ascii_graphic());
        let is_same = |ours: Origin<'_>| Origin::of(address).is_some_and(|it| ours.is_same(it));
        if readable && Origin::of(&self.url).is_some_and(is_same) {
            address.clone_into(&mut self.url);
            Ok(())
        } else {
            Err(protocol("unacceptable RespURI"))
        }
    }

    /// Handles the statuses of our commands.
    fn on_statuses(&mut self, now: Now, device: &mut dyn ManagementBackend, message: &Message) {
        for status in message.statuses() {
            let answered = Some((status.message_ref, status.command_ref));
            if self.open_chunk.is_some() && answered == self.open_chunk {
                self.open_chunk = None;
                if !status.code.is_success() {
                    // The server rejects the remaining chunks.
                    if let Some(OutboundCommand::Large(..)) = self.outbox.front() {
                        self.outbox.pop_front();
                    }
                }
            }
            if self.open_request.is_some() && answered == self.open_request {
                self.open_request = None;
                device.on_request_status(now, status.code);
            }
            if !matches!(status.code, StatusCode::OK | StatusCode::ACCEPTED) {
                continue;
            }
            if let Some(alert) = self.sent.remove(&(status.message_ref, status.command_ref)) {
                device.on_alert_acknowledged(now, &alert);
            }
        }
    }

    fn execute(
        &mut self,
        now: Now,
        device: &mut dyn ManagementBackend,
        tree: &mut Tree,
        message: &Message,
        header: Status,
    ) -> Result<Next, SessionOutcome> {
        // While our package is unfinished the server only asks for more; its `Final` then does not
        // concern the package that we respond to.
        if self.was_final || !self.server_was_final {
            self.server_was_final = message.is_final;
        }
        self.outbox.retain(|it| !matches!(it, OutboundCommand::Alert(AlertCode::NEXT_MESSAGE)));
        let mut execution = Execution::new(message.header.message_id, &message.commands);
        self.executor(now, device, tree, &mut execution).run();
        self.finish_execution(now, device, execution, header)
    }

    /// Handles the user's answer to the open prompt.
    pub(super) fn user_answered(
        &mut self,
        now: Now,
        device: &mut dyn ManagementBackend,
        tree: &mut Tree,
        answer: &Answer,
    ) -> Result<Next, SessionOutcome> {
        let Some((mut execution, header)) = self.waiting.take() else {
            return Ok(Next::WaitForUser);
        };
        self.executor(now, device, tree, &mut execution).on_user_answer(answer);
        self.finish_execution(now, device, execution, header)
    }

    fn executor<'a>(
        &'a mut self,
        now: Now,
        device: &'a mut dyn ManagementBackend,
        tree: &'a mut Tree,
        execution: &'a mut Execution,
    ) -> Executor<'a> {
        let space = SpaceLeft {
            encoding: self.encoding,
            empty: Message { header: self.header(), commands: Vec::new(), is_final: true },
            bytes: self.server_max_message,
        };
        let object_bytes = self.limits.object_bytes;
        Executor { now, device, tree, joiner: &mut self.joiner, object_bytes, space, execution }
    }

    /// Responds to the message, unless the user has to answer first.
    fn finish_execution(
        &mut self,
        now: Now,
        device: &dyn ManagementBackend,
        execution: Execution,
        header: Status,
    ) -> Result<Next, SessionOutcome> {
        if execution.aborted() {
            return Err(SessionOutcome::Failed(SessionError::AbortedByServer));
        }
        if execution.is_asking() {
            self.waiting = Some((execution, header));
            return Ok(Next::WaitForUser);
        }
        let answers = execution.into_answers(&mut self.joiner);
        let silent = answers.is_empty() && self.outbox.is_empty();
        // spec: oma-dm 1 (a session without further commands ends)
        if silent && self.server_was_final {
            return Err(SessionOutcome::Complete);
        }
        // spec: oma-dm 1.1 (1223: a session that never ends)
        if self.message + 1 == self.limits.messages {
            let outcome = SessionOutcome::Failed(SessionError::TooLong);
            return Ok(Next::Send(self.abort_message(header, answers, outcome)));
        }
        // Statuses of this message precede the remaining commands of the package.
        for command in answers.into_iter().rev() {
            self.outbox.push_front(command);
        }
        self.outbox.push_front(OutboundCommand::Status(header));
        if self.server_was_final {
            self.queue_alerts(now, device);
        } else {
            self.outbox.push_back(OutboundCommand::Alert(AlertCode::NEXT_MESSAGE));
        }
        self.check_length()?;
        Ok(Next::Send(self.pack_message()))
    }

    /// Queues the final alerts that are due and were not sent in this session.
    fn queue_alerts(&mut self, now: Now, device: &dyn ManagementBackend) {
        let due = device.due_alerts(now);
        let fresh = due.into_iter().filter(|alert| !self.sent_alerts.contains(alert));
        let fresh: Vec<_> = fresh.take(self.limits.alerts).collect();
        self.outbox.extend(fresh.iter().cloned().map(OutboundCommand::Final));
        self.sent_alerts.extend(fresh);
    }

    fn check_length(&self) -> Result<(), SessionOutcome> {
        if self.message < self.limits.messages {
            Ok(())
        } else {
            Err(SessionOutcome::Failed(SessionError::TooLong))
        }
    }

    /// Builds the next message from as many commands of the outbox as fit.
    fn pack_message(&mut self) -> HttpRequest {
        self.message += 1;
        self.resends = 0;
        let mut message = Message { header: self.header(), commands: Vec::new(), is_final: true };
        let mut room = self.server_max_message.saturating_sub(self.encoding.length(&message));
        let mut content = Vec::new();
        let mut number = 0;
        while let Some(outgoing) = self.outbox.pop_front() {
            number += 1;
            let outgoing = if let OutboundCommand::Large(results, cutter) = outgoing {
                match self.next_chunk(&message.header, (results, cutter), (number, room)) {
                    Some(piece) => piece,
                    None => break,
                }
            } else {
                outgoing
            };
            let command = self.command(CommandId(number), &outgoing);
            let size = self.size_of_command(&message.header, &command);
            if size > room && self.split_results(&outgoing, size) {
                continue;
            }
            if size > room && !content.is_empty() {
                self.outbox.push_front(outgoing);
                break;
            }
            room = room.saturating_sub(size);
            let key = (MessageId(self.message), CommandId(number));
            if let OutboundCommand::Final(alert) = &outgoing {
                self.sent.insert(key, alert.clone());
            }
            if let OutboundCommand::Request(_) = &outgoing {
                self.open_request = Some(key);
            }
            message.commands.push(command);
            content.push(outgoing);
            if self.open_chunk == Some((MessageId(self.message), CommandId(number))) {
                // No command may precede the next chunk of the object.
                break;
            }
        }
        // spec: oma-dm 1 (final)
        message.is_final =
            self.abort_state.is_some() || self.outbox.is_empty() && self.server_was_final;
        self.was_final = message.is_final;
        self.content = content;
        self.body = self.encoding.emit(&message);
        // spec: oma-dm 5.1 (HMAC of each message)
        self.mac = (self.kind == AuthKind::Mac && !self.nonce.is_empty()).then(|| {
            let user = self.source.name.clone().unwrap_or_default();
            Mac { user, mac: self.secret.mac(&self.nonce, &self.body) }.emit()
        });
        self.last_request()
    }

    /// Returns the encoded size of a command in a message.
    fn size_of_command(&self, header: &Header, command: &Command) -> usize {
        let with = |commands| {
            let message = Message { header: header.clone(), commands, is_final: true };
            self.encoding.length(&message)
        };
        with(vec![command.clone()]).saturating_sub(with(Vec::new()))
    }

    /// Splits results that would not fit into a message of their own.
    fn split_results(&mut self, outgoing: &OutboundCommand, size: usize) -> bool {
        let OutboundCommand::Results(results) = outgoing else { return false };
        let head = self.encoding.emit(&Message {
            header: self.header(),
            commands: Vec::new(),
            is_final: true,
        });
        if size + head.len() + MAX_STATUS_BYTES <= self.server_max_message {
            return false;
        }
        let [item] = results.items.as_slice() else {
            for item in results.items.iter().rev() {
                let one = Results { items: vec![item.clone()], ..results.clone() };
                self.outbox.push_front(OutboundCommand::Results(one));
            }
            return !results.items.is_empty();
        };
        if item.more_data || item.data.as_ref().is_none_or(|data| data.len() < MIN_CHUNK_BYTES) {
            return false;
        }
        let cutter = Box::new(Chunker::new(item, self.encoding));
        let head = Results { items: Vec::new(), ..results.clone() };
        self.outbox.push_front(OutboundCommand::Large(head, cutter));
        true
    }

    /// Returns the next chunk of a large item; the remainder returns to the front of the outbox.
    /// `None` when there is no room for a chunk of the smallest size.
    fn next_chunk(
        &mut self,
        header: &Header,
        (results, mut cutter): (Results, Box<Chunker>),
        (number, room): (u32, usize),
    ) -> Option<OutboundCommand> {
        let with = |item: &Item| Results {
            id: CommandId(number),
            items: vec![item.clone()],
            ..results.clone()
        };
        let fits =
            |item: &Item| self.size_of_command(header, &Command::Results(with(item))) <= room;
        let piece = cutter.chunk(MIN_CHUNK_BYTES, fits);
        let outgoing = piece.as_ref().map(|piece| OutboundCommand::Results(with(piece)));
        if !cutter.is_done() {
            if outgoing.is_some() {
                self.open_chunk = Some((MessageId(self.message), CommandId(number)));
            }
            self.outbox.push_front(OutboundCommand::Large(results, cutter));
        }
        outgoing
    }

    fn last_request(&self) -> HttpRequest {
        HttpRequest {
            url: self.url.clone(),
            encoding: self.encoding,
            body: self.body.clone(),
            mac: self.mac.clone(),
        }
    }

    fn header(&self) -> Header {
        let proving = self.proof == Proof::EachMessage && self.may_send_credentials(self.kind);
        let credential =
            proving.then(|| self.secret.credential_of(self.kind, &self.nonce)).flatten();
        let takes = u64::try_from(self.limits.response.message_bytes).unwrap_or(u64::MAX);
        Header {
            session_id: self.id.clone(),
            message_id: MessageId(self.message),
            target: Location::new(&self.server_uri),
            source: self.source.clone(),
            respond_to: None,
            credential,
            meta: Some(Meta {
                max_message_size: Some(takes),
                max_object_size: Some(self.limits.object_bytes),
                ..Meta::default()
            }),
        }
    }

    fn command(&self, id: CommandId, outgoing: &OutboundCommand) -> Command {
        match outgoing {
            OutboundCommand::Status(status) => Command::Status(Status { id, ..status.clone() }),
            OutboundCommand::Results(results) | OutboundCommand::Large(results, _) => {
                Command::Results(Results { id, ..results.clone() })
            }
            OutboundCommand::Alert(code) => {
                Command::Alert(Alert { id, code: *code, correlator: None, items: Vec::new() })
            }
            OutboundCommand::NoEndOfData(item) => Command::Alert(Alert {
                id,
                code: AlertCode::NO_END_OF_DATA,
                correlator: None,
                items: vec![item.clone()],
            }),
            OutboundCommand::DeviceInfo(items) => Command::Replace(Manage::new(id, items.clone())),
            OutboundCommand::Request(request) => Command::Alert(request.to_alert(id)),
            // spec: oma-000 8.2.5, oma-001 8.1.1.14, oma-001 8.1.2.24 (the result as Generic Alert)
            OutboundCommand::Final(alert) => Command::Alert(alert.to_alert(id, &self.object)),
        }
    }
}

fn protocol(fault: &'static str) -> SessionOutcome {
    SessionOutcome::Failed(SessionError::Protocol(fault))
}
