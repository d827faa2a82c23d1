//! The course of a session: what was sent, what is owed, what comes next.

use std::collections::{BTreeMap, VecDeque};

use proto::{
    dm::{
        auth::Secret,
        code::{AlertCode, StatusCode},
        fumo::OperationResult,
        syncml::{
            Alert, Command, CommandId, Header, Item, Location, Manage, Message, MessageId, Meta,
            Results, Status, Verb,
        },
        xml,
    },
    time::Now,
};

use super::{Limits, Post, SessionError, SessionOutcome, Trigger, execute::Executor, retry_later};
use crate::dm::{Device, FinalAlert, tree::Tree};

/// Octets that the client takes in one object: an envelope in base64, and room.
const MAX_OBJECT_BYTES: u64 = 16 * 1024;
/// The least that a server's MaxMsgSize is taken for; below it no answer would fit.
const LEAST_MESSAGE_BYTES: usize = 2048;

/// A command on its way; its number is given when its message is made.
#[derive(Debug, Clone)]
pub(super) enum Outgoing {
    Status(Status),
    Results(Results),
    Alert(AlertCode),
    DeviceInfo(Vec<Item>),
    Final(FinalAlert),
}

/// Whether a message must carry credentials.
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
    server_uri: String,
    source: Location,
    secret: Secret,
    object: String,
    device_info: Vec<Item>,
    limits: Limits,

    /// The nonce for the next credentials; empty when the server has given none.
    nonce: Vec<u8>,
    proof: Proof,
    challenges: u8,
    /// Octets that the server takes in one message.
    server_takes: usize,

    /// Number and content of the message that awaits its answer.
    message: u32,
    body: Vec<u8>,
    content: Vec<Outgoing>,
    resends: u8,

    /// What did not fit into the last message.
    outbox: VecDeque<Outgoing>,
    /// Whether the package that is being answered is complete.
    server_was_final: bool,
    /// Which commands carried results, by message and command.
    sent: BTreeMap<(MessageId, CommandId), FinalAlert>,
    /// Results that went out in this session, acknowledged or not.
    announced: Vec<FinalAlert>,
}

impl Session {
    pub(super) fn new(tree: &Tree, session_id: u16, nonce: Vec<u8>, limits: Limits) -> Self {
        let settings = tree.settings();
        let account = &settings.account;
        Self {
            id: format!("{:X}", session_id.max(1)),
            url: account.url.clone(),
            server_uri: account.url.clone(),
            source: Location::named(settings.identity.device_id.as_str(), &account.user),
            secret: account.secret.clone(),
            object: settings.object.to_string(),
            device_info: tree.device_info(),
            limits,
            nonce,
            proof: Proof::EachMessage,
            challenges: 0,
            server_takes: limits.response.message_bytes,
            message: 0,
            body: Vec::new(),
            content: Vec::new(),
            resends: 0,
            outbox: VecDeque::new(),
            server_was_final: true,
            sent: BTreeMap::new(),
            announced: Vec::new(),
        }
    }

    /// Makes package 1: why we call, who we are, what we have to report.
    pub(super) fn begin(&mut self, now: Now, device: &dyn Device, trigger: Trigger) -> Post {
        let reason = match trigger {
            Trigger::Client => AlertCode::CLIENT_INITIATED,
            Trigger::Server => AlertCode::SERVER_INITIATED,
        };
        self.outbox.push_back(Outgoing::Alert(reason));
        self.outbox.push_back(Outgoing::DeviceInfo(std::mem::take(&mut self.device_info)));
        self.announce(now, device);
        self.post()
    }

    /// Sends the last message once more, unless that was tried often enough.
    pub(super) fn resend(&mut self) -> Option<Post> {
        self.resends =
            self.resends.checked_add(1).filter(|resends| *resends <= self.limits.resends)?;
        Some(Post { url: self.url.clone(), body: self.body.clone() })
    }

    /// Takes the server's message; the next message, or why there is none.
    pub(super) fn answer(
        &mut self,
        now: Now,
        device: &mut dyn Device,
        tree: &mut Tree,
        answer: &Message,
    ) -> Result<Post, SessionOutcome> {
        if answer.header.session_id != self.id {
            return Err(protocol("it belongs to another session"));
        }
        let ours =
            |status: &&Status| status.verb == Verb::Header && status.message_ref.0 == self.message;
        let status = statuses(answer).find(ours).ok_or(protocol("it ignores our message"))?;
        if status.code.is_retry_later() {
            return Err(retry_later(now, answer.header.respond_to.as_deref()));
        }
        if let Some(address) = &answer.header.respond_to {
            self.follow(address)?;
        }
        if status.code.is_challenge() {
            return self.challenged(status);
        }
        self.take_header_status(device, status)?;
        let takes = answer.header.meta.as_ref().and_then(|meta| meta.max_message_size);
        if let Some(takes) = takes {
            let takes = usize::try_from(takes).unwrap_or(usize::MAX);
            self.server_takes =
                takes.clamp(LEAST_MESSAGE_BYTES, self.limits.response.message_bytes);
        }
        self.take_statuses(now, device, answer);
        self.execute(now, device, tree, answer)
    }

    /// Takes note of how far the server trusts us, and of the nonce that comes with it.
    fn take_header_status(
        &mut self,
        device: &mut dyn Device,
        status: &Status,
    ) -> Result<(), SessionOutcome> {
        if !status.code.is_success() {
            return Err(SessionOutcome::Failed(SessionError::Refused(status.code)));
        }
        if status.code == StatusCode::AUTHENTICATED {
            self.proof = Proof::GivenForSession;
        }
        // With 212 the nonce is for the next session, with 200 for the next message. An unreadable
        // one is as good as none: the server will challenge.
        if let Some(Ok(nonce)) = status.challenge.as_ref().map(|challenge| challenge.nonce()) {
            device.keep_nonce(&nonce);
            self.nonce = nonce;
        }
        Ok(())
    }

    /// Repeats the content of the last message with credentials made from the server's nonce,
    /// which is used and not stored: nobody has proved yet that it is the server's.
    fn challenged(&mut self, status: &Status) -> Result<Post, SessionOutcome> {
        let challenge = status.challenge.as_ref().ok_or(protocol("a challenge without Chal"))?;
        if !challenge.is_md5() {
            return Err(SessionOutcome::Failed(SessionError::UnsupportedAuthentication));
        }
        if self.challenges >= self.limits.challenges {
            return Err(SessionOutcome::Failed(SessionError::CredentialsRefused));
        }
        self.challenges += 1;
        // spec: oma-dm 5 (a challenge's nonce is not stored)
        self.nonce = challenge.nonce().map_err(|_| protocol("a challenge without nonce"))?;
        self.proof = Proof::EachMessage;
        for command in std::mem::take(&mut self.content).into_iter().rev() {
            self.outbox.push_front(command);
        }
        self.check_length()?;
        Ok(self.post())
    }

    /// Follows the server's reply address, but never from TLS to plain text.
    fn follow(&mut self, address: &str) -> Result<(), SessionOutcome> {
        let secure = address.starts_with("https://");
        let as_plain_as_before = address.starts_with("http://") && self.url.starts_with("http://");
        let readable = address.len() <= self.limits.reply_address
            && address.chars().all(|c| c.is_ascii_graphic());
        if readable && (secure || as_plain_as_before) {
            address.clone_into(&mut self.url);
            Ok(())
        } else {
            Err(protocol("its reply address is not acceptable"))
        }
    }

    /// Takes note of results that the server has.
    fn take_statuses(&mut self, now: Now, device: &mut dyn Device, answer: &Message) {
        for status in statuses(answer) {
            if !matches!(status.code, StatusCode::OK | StatusCode::ACCEPTED) {
                continue;
            }
            if let Some(alert) = self.sent.remove(&(status.message_ref, status.command_ref)) {
                device.alert_acknowledged(now, &alert);
            }
        }
    }

    fn execute(
        &mut self,
        now: Now,
        device: &mut dyn Device,
        tree: &mut Tree,
        answer: &Message,
    ) -> Result<Post, SessionOutcome> {
        // While our package is unfinished the server only asks for more; its `Final` then says
        // nothing about the package that we answer.
        if self.outbox.is_empty() || !self.server_was_final {
            self.server_was_final = answer.is_final;
        }
        self.outbox.retain(|it| !matches!(it, Outgoing::Alert(AlertCode::NEXT_MESSAGE)));
        let mut executor = Executor::new(now, device, tree, answer.header.message_id);
        answer.commands.iter().for_each(|command| executor.top_level(command));
        if executor.aborted() {
            return Err(SessionOutcome::Failed(SessionError::Aborted));
        }
        let answers = executor.into_answers();
        let silent = answers.is_empty() && self.outbox.is_empty();
        // spec: oma-dm 1 (nothing to say ends the session)
        if silent && self.server_was_final {
            return Err(SessionOutcome::Complete);
        }
        let header = Status::for_header(CommandId(0), &answer.header, StatusCode::OK);
        // Statuses of this message go before what is left of the package.
        for command in answers.into_iter().rev() {
            self.outbox.push_front(command);
        }
        self.outbox.push_front(Outgoing::Status(header));
        if self.server_was_final {
            self.announce(now, device);
        } else {
            self.outbox.push_back(Outgoing::Alert(AlertCode::NEXT_MESSAGE));
        }
        self.check_length()?;
        Ok(self.post())
    }

    /// Queues the results that are due and did not go out in this session.
    fn announce(&mut self, now: Now, device: &dyn Device) {
        let due = device.due_alerts(now);
        let fresh = due.into_iter().filter(|alert| !self.announced.contains(alert));
        let fresh: Vec<_> = fresh.take(self.limits.alerts).collect();
        self.outbox.extend(fresh.iter().cloned().map(Outgoing::Final));
        self.announced.extend(fresh);
    }

    fn check_length(&self) -> Result<(), SessionOutcome> {
        if self.message < self.limits.messages {
            Ok(())
        } else {
            Err(SessionOutcome::Failed(SessionError::TooLong))
        }
    }

    /// Makes the next message from as much of the outbox as the server takes.
    fn post(&mut self) -> Post {
        self.message += 1;
        self.resends = 0;
        let mut message = Message { header: self.header(), commands: Vec::new(), is_final: true };
        let mut room = self.server_takes.saturating_sub(xml::emit(&message).len());
        let mut content = Vec::new();
        let mut number = 0;
        while let Some(outgoing) = self.outbox.pop_front() {
            number += 1;
            let command = self.command(CommandId(number), &outgoing);
            let size = size_of_command(&message.header, &command);
            if size > room && !content.is_empty() {
                self.outbox.push_front(outgoing);
                break;
            }
            room = room.saturating_sub(size);
            if let Outgoing::Final(alert) = &outgoing {
                self.sent.insert((MessageId(self.message), CommandId(number)), alert.clone());
            }
            message.commands.push(command);
            content.push(outgoing);
        }
        // spec: oma-dm 1 (final)
        message.is_final = self.outbox.is_empty() && self.server_was_final;
        self.content = content;
        self.body = xml::emit(&message);
        Post { url: self.url.clone(), body: self.body.clone() }
    }

    fn header(&self) -> Header {
        let proving = self.proof == Proof::EachMessage && !self.nonce.is_empty();
        let takes = u64::try_from(self.limits.response.message_bytes).unwrap_or(u64::MAX);
        Header {
            session_id: self.id.clone(),
            message_id: MessageId(self.message),
            target: Location::new(&self.server_uri),
            source: self.source.clone(),
            respond_to: None,
            credential: proving.then(|| self.secret.credential(&self.nonce)),
            meta: Some(Meta {
                max_message_size: Some(takes),
                max_object_size: Some(MAX_OBJECT_BYTES),
                ..Meta::default()
            }),
        }
    }

    fn command(&self, id: CommandId, outgoing: &Outgoing) -> Command {
        match outgoing {
            Outgoing::Status(status) => Command::Status(Status { id, ..status.clone() }),
            Outgoing::Results(results) => Command::Results(Results { id, ..results.clone() }),
            Outgoing::Alert(code) => {
                Command::Alert(Alert { id, code: *code, correlator: None, items: Vec::new() })
            }
            Outgoing::DeviceInfo(items) => Command::Replace(Manage::new(id, items.clone())),
            Outgoing::Final(alert) => {
                let result = OperationResult {
                    object: Some(self.object.clone()),
                    operation: alert.operation,
                    result: alert.result,
                    correlator: alert.correlator.clone(),
                };
                Command::Alert(result.to_alert(id))
            }
        }
    }
}

fn statuses(message: &Message) -> impl Iterator<Item = &Status> {
    message.commands.iter().filter_map(|command| match command {
        Command::Status(status) => Some(status),
        Command::Results(_)
        | Command::Alert(_)
        | Command::Exec(_)
        | Command::Get(_)
        | Command::Add(_)
        | Command::Replace(_)
        | Command::Delete(_)
        | Command::Copy(_)
        | Command::Sequence(_)
        | Command::Atomic(_) => None,
    })
}

/// Returns the octets that a command adds to a message.
fn size_of_command(header: &Header, command: &Command) -> usize {
    let with =
        |commands| xml::emit(&Message { header: header.clone(), commands, is_final: true }).len();
    with(vec![command.clone()]).saturating_sub(with(Vec::new()))
}

fn protocol(fault: &'static str) -> SessionOutcome {
    SessionOutcome::Failed(SessionError::Protocol(fault))
}
