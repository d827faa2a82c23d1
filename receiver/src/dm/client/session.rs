//! The course of a session: what was sent, what is owed, what comes next.

use std::collections::{BTreeMap, VecDeque};

use proto::{
    dm::{
        auth::{AuthKind, Mac, Secret},
        code::{AlertCode, StatusCode},
        encoding::Encoding,
        large::{Cutter, Joiner},
        syncml::{
            Alert, Challenge, Command, CommandId, Header, Item, Location, Manage, Message,
            MessageId, Meta, Results, Status, Verb,
        },
        ui::Answer,
    },
    time::Now,
};

use super::{
    Limits, Post, SessionError, SessionOutcome, Trigger,
    address::Origin,
    execute::{Executor, Room, Run},
    outgoing::{Outgoing, STATUS_BYTES},
    retry_later,
    server::{Server, Verdict},
};
use crate::dm::{Device, FinalAlert, tree::Tree};

/// The least that a piece of a large object is worth a message for.
const LEAST_PIECE: usize = 256;
/// The least that a server's MaxMsgSize is taken for; below it no answer would fit.
const LEAST_MESSAGE_BYTES: usize = 2048;

/// A message of the server as it came.
#[derive(Clone, Copy)]
pub(super) struct Heard<'a> {
    pub(super) message: &'a Message,
    pub(super) octets: &'a [u8],
    /// The proof beside the octets.
    pub(super) mac: Option<&'a Mac>,
}

/// What comes after a message of the server.
#[derive(Debug)]
pub(super) enum Next {
    /// This.
    Post(Post),
    /// The user's answer.
    Rest,
}

/// What the header of the server's message came to.
enum Admitted {
    /// It is the server's; the status that its header is answered with.
    Believed(Box<Status>),
    /// A message that goes out instead of an answer.
    Instead(Post),
}

/// How far this side has come with breaking the session off.
#[derive(Debug)]
enum Leaving {
    /// The server is told instead of an answer to its next message.
    Wanted,
    /// The server was told; this is how the session ends.
    Said(SessionOutcome),
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
    encoding: Encoding,
    kind: AuthKind,
    server_uri: String,
    source: Location,
    secret: Secret,
    /// What the server must prove; `None` when there is nothing to prove it by.
    server: Option<Server>,
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
    mac: Option<String>,
    content: Vec<Outgoing>,
    resends: u8,

    /// The message whose commands wait for the user's answer.
    asking: Option<(Run, Status)>,
    /// What the server sends in pieces.
    joiner: Joiner,
    /// Results of which a piece awaits its answer.
    piece: Option<(MessageId, CommandId)>,
    /// What did not fit into the last message.
    outbox: VecDeque<Outgoing>,
    /// Whether our last message ended our package.
    was_final: bool,
    /// Whether the package that is being answered is complete.
    server_was_final: bool,
    /// Which commands carried results, by message and command.
    sent: BTreeMap<(MessageId, CommandId), FinalAlert>,
    /// The request of the device or its user, while it awaits its status.
    requested: Option<(MessageId, CommandId)>,
    /// Results that went out in this session, acknowledged or not.
    announced: Vec<FinalAlert>,
    /// Whether this side breaks the session off.
    leaving: Option<Leaving>,
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
            server: Server::of(account),
            object: settings.object.to_string(),
            device_info: tree.device_info(),
            limits,
            nonce,
            proof: Proof::EachMessage,
            challenges: 0,
            server_takes: limits.response.message_bytes,
            message: 0,
            body: Vec::new(),
            mac: None,
            content: Vec::new(),
            resends: 0,
            asking: None,
            joiner: Joiner::default(),
            piece: None,
            outbox: VecDeque::new(),
            was_final: true,
            server_was_final: true,
            sent: BTreeMap::new(),
            requested: None,
            announced: Vec::new(),
            leaving: None,
        }
    }

    /// Makes package 1: why we call, who we are, what we have to report.
    pub(super) fn begin(&mut self, now: Now, device: &dyn Device, trigger: Trigger) -> Post {
        // spec: oma-000 8.2.2, oma-001 8.1.1.2, oma-001 8.1.1.3 (package 1)
        let reason = match trigger {
            Trigger::Client => AlertCode::CLIENT_INITIATED,
            Trigger::Server => AlertCode::SERVER_INITIATED,
        };
        self.outbox.push_back(Outgoing::Alert(reason));
        self.outbox.push_back(Outgoing::DeviceInfo(std::mem::take(&mut self.device_info)));
        // spec: oma-004 6.1 (the device, or its user, asks for an update)
        self.outbox.extend(device.update_request().map(Outgoing::Request));
        self.announce(now, device);
        self.post()
    }

    /// Sends the last message once more, unless that was tried often enough or nobody wants to
    /// know.
    pub(super) fn resend(&mut self) -> Option<Post> {
        if self.leaving.is_some() {
            return None;
        }
        self.resends =
            self.resends.checked_add(1).filter(|resends| *resends <= self.limits.resends)?;
        Some(self.last_post())
    }

    /// Returns whether the user's answer is awaited.
    pub(super) const fn is_resting(&self) -> bool {
        self.asking.is_some()
    }

    /// Breaks the session off; returns the last message where no answer of the server is awaited.
    pub(super) fn break_off(
        &mut self,
        now: Now,
        device: &mut dyn Device,
        tree: &mut Tree,
    ) -> Option<Post> {
        if let Some((mut run, header)) = self.asking.take() {
            self.executor(now, device, tree, &mut run).give_up();
            return Some(self.farewell(header, Vec::new(), SessionOutcome::BrokenOff));
        }
        self.leaving.get_or_insert(Leaving::Wanted);
        None
    }

    /// Makes the last message: the session is broken off. What was done is said before, as far as
    /// there is certainly room for it beside the header, its status and the alert.
    // spec: oma-dm 1.1 (1223)
    fn farewell(&mut self, header: Status, done: Vec<Outgoing>, outcome: SessionOutcome) -> Post {
        self.leaving = Some(Leaving::Said(outcome));
        self.outbox.clear();
        self.outbox.push_back(Outgoing::Status(header));
        let statuses = done.into_iter().filter(|it| matches!(it, Outgoing::Status(_)));
        let room = (self.server_takes / STATUS_BYTES).saturating_sub(4);
        self.outbox.extend(statuses.take(room));
        self.outbox.push_back(Outgoing::Alert(AlertCode::SESSION_ABORT));
        self.post()
    }

    /// Returns how a session ends that nothing more is said in.
    pub(super) fn end(self, outcome: SessionOutcome) -> SessionOutcome {
        match (self.leaving, outcome) {
            (Some(Leaving::Said(said)), _) => said,
            (Some(Leaving::Wanted), SessionOutcome::Complete) => SessionOutcome::Complete,
            (Some(Leaving::Wanted), _) => SessionOutcome::BrokenOff,
            (None, outcome) => outcome,
        }
    }

    /// Takes the server's message; the next message, or why there is none.
    pub(super) fn answer(
        &mut self,
        now: Now,
        device: &mut dyn Device,
        tree: &mut Tree,
        heard: Heard<'_>,
    ) -> Result<Next, SessionOutcome> {
        let answer = heard.message;
        match (self.admit(now, device, heard)?, &self.leaving) {
            (_, Some(Leaving::Said(_))) | (Admitted::Instead(_), Some(Leaving::Wanted)) => {
                Err(SessionOutcome::BrokenOff)
            }
            (Admitted::Instead(post), None) => Ok(Next::Post(post)),
            (Admitted::Believed(header), Some(Leaving::Wanted)) if !self.is_last(answer) => {
                Ok(Next::Post(self.farewell(*header, Vec::new(), SessionOutcome::BrokenOff)))
            }
            (Admitted::Believed(header), Some(Leaving::Wanted) | None) => {
                self.execute(now, device, tree, answer, *header)
            }
        }
    }

    /// Tells whether a message leaves nothing to be said: the session ends by itself.
    fn is_last(&self, answer: &Message) -> bool {
        let only_statuses = answer.commands.iter().all(|it| matches!(it, Command::Status(_)));
        only_statuses && answer.is_final && self.outbox.is_empty()
    }

    /// Judges whose message it is, and takes note of what it answers.
    fn admit(
        &mut self,
        now: Now,
        device: &mut dyn Device,
        heard: Heard<'_>,
    ) -> Result<Admitted, SessionOutcome> {
        let answer = heard.message;
        if self.asking.is_some() {
            return Err(protocol("it comes while the user is asked"));
        }
        if answer.header.session_id != self.id {
            return Err(protocol("it belongs to another session"));
        }
        let ours =
            |status: &&Status| status.verb == Verb::Header && status.message_ref.0 == self.message;
        let status = answer.statuses().find(ours).ok_or(protocol("it ignores our message"))?;
        if status.code.is_retry_later() {
            return Err(retry_later(now, answer.header.respond_to.as_deref()));
        }
        if let Some(address) = &answer.header.respond_to {
            self.follow(address)?;
        }
        if status.code.is_challenge() {
            return self.challenged(status).map(Admitted::Instead);
        }
        if !status.code.is_success() {
            return Err(SessionOutcome::Failed(SessionError::Refused(status.code)));
        }
        let verdict = match &mut self.server {
            None => Verdict::Believed(StatusCode::OK, None),
            Some(server) => server.judge(device, answer, heard.octets, heard.mac),
        };
        let is_believed = matches!(verdict, Verdict::Believed(..));
        self.take_header_status(device, status, is_believed);
        let (code, challenge) = match verdict {
            Verdict::Believed(code, challenge) => (code, challenge),
            Verdict::Refused(code, challenge) => {
                return self.refuse(answer, code, challenge).map(Admitted::Instead);
            }
            Verdict::Hopeless => {
                return Err(SessionOutcome::Failed(SessionError::ServerNotProved));
            }
        };
        let takes = answer.header.meta.as_ref().and_then(|meta| meta.max_message_size);
        if let Some(takes) = takes {
            let takes = usize::try_from(takes).unwrap_or(usize::MAX);
            self.server_takes =
                takes.clamp(LEAST_MESSAGE_BYTES, self.limits.response.message_bytes);
        }
        self.take_statuses(now, device, answer);
        let header = Status::for_header(CommandId(0), &answer.header, code);
        Ok(Admitted::Believed(Box::new(Status { challenge, ..header })))
    }

    /// Answers a message that may be anybody's: a Status for each command and nothing done.
    // spec: oma-dm 5.2 (refusals of an unproved server)
    fn refuse(
        &mut self,
        answer: &Message,
        code: StatusCode,
        challenge: Challenge,
    ) -> Result<Post, SessionOutcome> {
        self.check_length()?;
        let (waiting, was_final) = (std::mem::take(&mut self.outbox), self.was_final);
        let header = Status::for_header(CommandId(0), &answer.header, code);
        let header = Status { challenge: Some(challenge), ..header };
        self.outbox.push_back(Outgoing::Status(header));
        let mut open: Vec<&Command> = answer.commands.iter().rev().collect();
        while let Some(command) = open.pop() {
            if !command.wants_status() {
                continue;
            }
            let (message, id) = (answer.header.message_id, command.id());
            let status = Status::new(CommandId(0), message, id, command.verb(), code);
            self.outbox.push_back(Outgoing::Status(status));
            if let Command::Sequence(group) | Command::Atomic(group) = command {
                open.extend(group.commands.iter().rev());
            }
        }
        let post = self.post();
        self.outbox.extend(waiting);
        self.was_final = was_final;
        Ok(post)
    }

    /// Takes note of how far the server trusts us, and of the nonce that comes with it.
    fn take_header_status(&mut self, device: &mut dyn Device, status: &Status, is_believed: bool) {
        if status.code == StatusCode::AUTHENTICATED {
            self.proof = Proof::GivenForSession;
        }
        // With 212 the nonce is for the next session, with 200 for the next message. An unreadable
        // one is as good as none: the server will challenge.
        if let Some(Ok(nonce)) = status.challenge.as_ref().map(|challenge| challenge.nonce()) {
            // spec: oma-dm 5.2 (a nonce of nobody in particular is used and not stored)
            if is_believed {
                device.keep_nonce(&nonce);
            }
            self.nonce = nonce;
        }
    }

    /// Repeats the content of the last message with credentials made from the server's nonce,
    /// which is used and not stored: nobody has proved yet that it is the server's.
    fn challenged(&mut self, status: &Status) -> Result<Post, SessionOutcome> {
        let challenge = status.challenge.as_ref().ok_or(protocol("a challenge without Chal"))?;
        let kind = challenge.kind().filter(|kind| self.gives(*kind));
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
        Ok(self.post())
    }

    /// Tells whether a kind of proof is given to this server: the password itself only where it
    /// was agreed on and nobody can listen.
    // spec: security 7.2 (the password itself goes over TLS or stays on the machine)
    fn gives(&self, kind: AuthKind) -> bool {
        kind != AuthKind::Basic
            || (self.secret.password().is_some()
                && Origin::of(&self.url).is_some_and(Origin::is_private))
    }

    /// Follows the server's reply address as long as it leads to the same server.
    // spec: oma-dm 1 (the reply address)
    fn follow(&mut self, address: &str) -> Result<(), SessionOutcome> {
        let readable = address.len() <= self.limits.reply_address
            && address.chars().all(|c| c.is_ascii_graphic());
        let is_same = |ours: Origin<'_>| Origin::of(address).is_some_and(|it| ours.is_same(it));
        if readable && Origin::of(&self.url).is_some_and(is_same) {
            address.clone_into(&mut self.url);
            Ok(())
        } else {
            Err(protocol("its reply address is not acceptable"))
        }
    }

    /// Takes note of results that the server has.
    fn take_statuses(&mut self, now: Now, device: &mut dyn Device, answer: &Message) {
        for status in answer.statuses() {
            let answered = Some((status.message_ref, status.command_ref));
            if self.piece.is_some() && answered == self.piece {
                self.piece = None;
                if !status.code.is_success() {
                    // The server does not want the rest.
                    if let Some(Outgoing::Large(..)) = self.outbox.front() {
                        self.outbox.pop_front();
                    }
                }
            }
            if self.requested.is_some() && answered == self.requested {
                self.requested = None;
                device.request_answered(now, status.code);
            }
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
        header: Status,
    ) -> Result<Next, SessionOutcome> {
        // While our package is unfinished the server only asks for more; its `Final` then says
        // nothing about the package that we answer.
        if self.was_final || !self.server_was_final {
            self.server_was_final = answer.is_final;
        }
        self.outbox.retain(|it| !matches!(it, Outgoing::Alert(AlertCode::NEXT_MESSAGE)));
        let mut run = Run::new(answer.header.message_id, &answer.commands);
        self.executor(now, device, tree, &mut run).go();
        self.after_run(now, device, run, header)
    }

    /// Takes the user's answer to the question that the session waits for.
    pub(super) fn user_answered(
        &mut self,
        now: Now,
        device: &mut dyn Device,
        tree: &mut Tree,
        answer: &Answer,
    ) -> Result<Next, SessionOutcome> {
        let Some((mut run, header)) = self.asking.take() else { return Ok(Next::Rest) };
        self.executor(now, device, tree, &mut run).answered(answer);
        self.after_run(now, device, run, header)
    }

    fn executor<'a>(
        &'a mut self,
        now: Now,
        device: &'a mut dyn Device,
        tree: &'a mut Tree,
        run: &'a mut Run,
    ) -> Executor<'a> {
        let room = Room {
            encoding: self.encoding,
            empty: Message { header: self.header(), commands: Vec::new(), is_final: true },
            octets: self.server_takes,
        };
        let object_bytes = self.limits.object_bytes;
        Executor { now, device, tree, joiner: &mut self.joiner, object_bytes, room, run }
    }

    /// Answers the message, unless the user has to answer first.
    fn after_run(
        &mut self,
        now: Now,
        device: &dyn Device,
        run: Run,
        header: Status,
    ) -> Result<Next, SessionOutcome> {
        if run.aborted() {
            return Err(SessionOutcome::Failed(SessionError::Aborted));
        }
        if run.is_asking() {
            self.asking = Some((run, header));
            return Ok(Next::Rest);
        }
        let answers = run.into_answers(&mut self.joiner);
        let silent = answers.is_empty() && self.outbox.is_empty();
        // spec: oma-dm 1 (nothing to say ends the session)
        if silent && self.server_was_final {
            return Err(SessionOutcome::Complete);
        }
        // spec: oma-dm 1.1 (1223: a session that never ends)
        if self.message + 1 == self.limits.messages {
            let outcome = SessionOutcome::Failed(SessionError::TooLong);
            return Ok(Next::Post(self.farewell(header, answers, outcome)));
        }
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
        Ok(Next::Post(self.post()))
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
        let mut room = self.server_takes.saturating_sub(self.encoding.length(&message));
        let mut content = Vec::new();
        let mut number = 0;
        while let Some(outgoing) = self.outbox.pop_front() {
            number += 1;
            let outgoing = if let Outgoing::Large(results, cutter) = outgoing {
                match self.cut(&message.header, (results, cutter), (number, room)) {
                    Some(piece) => piece,
                    None => break,
                }
            } else {
                outgoing
            };
            let command = self.command(CommandId(number), &outgoing);
            let size = self.size_of_command(&message.header, &command);
            if size > room && self.is_cut_up(&outgoing, size) {
                continue;
            }
            if size > room && !content.is_empty() {
                self.outbox.push_front(outgoing);
                break;
            }
            room = room.saturating_sub(size);
            let key = (MessageId(self.message), CommandId(number));
            if let Outgoing::Final(alert) = &outgoing {
                self.sent.insert(key, alert.clone());
            }
            if let Outgoing::Request(_) = &outgoing {
                self.requested = Some(key);
            }
            message.commands.push(command);
            content.push(outgoing);
            if self.piece == Some((MessageId(self.message), CommandId(number))) {
                // Nothing stands between the pieces of an object.
                break;
            }
        }
        // spec: oma-dm 1 (final)
        message.is_final =
            self.leaving.is_some() || self.outbox.is_empty() && self.server_was_final;
        self.was_final = message.is_final;
        self.content = content;
        self.body = self.encoding.emit(&message);
        // spec: oma-dm 5.1 (proof over each message)
        self.mac = (self.kind == AuthKind::Mac && !self.nonce.is_empty()).then(|| {
            let user = self.source.name.clone().unwrap_or_default();
            Mac { user, mac: self.secret.mac(&self.nonce, &self.body) }.emit()
        });
        self.last_post()
    }

    /// Returns the octets that a command adds to a message.
    fn size_of_command(&self, header: &Header, command: &Command) -> usize {
        let with = |commands| {
            let message = Message { header: header.clone(), commands, is_final: true };
            self.encoding.length(&message)
        };
        with(vec![command.clone()]).saturating_sub(with(Vec::new()))
    }

    /// Takes results apart that would not fit into a message of their own.
    fn is_cut_up(&mut self, outgoing: &Outgoing, size: usize) -> bool {
        let Outgoing::Results(results) = outgoing else { return false };
        let head = self.encoding.emit(&Message {
            header: self.header(),
            commands: Vec::new(),
            is_final: true,
        });
        if size + head.len() + STATUS_BYTES <= self.server_takes {
            return false;
        }
        let [item] = results.items.as_slice() else {
            for item in results.items.iter().rev() {
                let one = Results { items: vec![item.clone()], ..results.clone() };
                self.outbox.push_front(Outgoing::Results(one));
            }
            return !results.items.is_empty();
        };
        if item.more_data || item.data.as_ref().is_none_or(|data| data.len() < LEAST_PIECE) {
            return false;
        }
        let cutter = Box::new(Cutter::new(item, self.encoding));
        let rest = Results { items: Vec::new(), ..results.clone() };
        self.outbox.push_front(Outgoing::Large(rest, cutter));
        true
    }

    /// Cuts the next piece off a large item; what is left goes back to the front of the outbox.
    /// `None` when there is no room for one worth the while.
    fn cut(
        &mut self,
        header: &Header,
        (results, mut cutter): (Results, Box<Cutter>),
        (number, room): (u32, usize),
    ) -> Option<Outgoing> {
        let with = |item: &Item| Results {
            id: CommandId(number),
            items: vec![item.clone()],
            ..results.clone()
        };
        let fits =
            |item: &Item| self.size_of_command(header, &Command::Results(with(item))) <= room;
        let piece = cutter.piece(LEAST_PIECE, fits);
        let outgoing = piece.as_ref().map(|piece| Outgoing::Results(with(piece)));
        if !cutter.is_done() {
            if outgoing.is_some() {
                self.piece = Some((MessageId(self.message), CommandId(number)));
            }
            self.outbox.push_front(Outgoing::Large(results, cutter));
        }
        outgoing
    }

    fn last_post(&self) -> Post {
        Post {
            url: self.url.clone(),
            encoding: self.encoding,
            body: self.body.clone(),
            mac: self.mac.clone(),
        }
    }

    fn header(&self) -> Header {
        let proving = self.proof == Proof::EachMessage && self.gives(self.kind);
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

    fn command(&self, id: CommandId, outgoing: &Outgoing) -> Command {
        match outgoing {
            Outgoing::Status(status) => Command::Status(Status { id, ..status.clone() }),
            Outgoing::Results(results) | Outgoing::Large(results, _) => {
                Command::Results(Results { id, ..results.clone() })
            }
            Outgoing::Alert(code) => {
                Command::Alert(Alert { id, code: *code, correlator: None, items: Vec::new() })
            }
            Outgoing::NoEndOfData(item) => Command::Alert(Alert {
                id,
                code: AlertCode::NO_END_OF_DATA,
                correlator: None,
                items: vec![item.clone()],
            }),
            Outgoing::DeviceInfo(items) => Command::Replace(Manage::new(id, items.clone())),
            Outgoing::Request(request) => Command::Alert(request.to_alert(id)),
            // spec: oma-000 8.2.5, oma-001 8.1.1.14, oma-001 8.1.2.24 (the result as Generic Alert)
            Outgoing::Final(alert) => Command::Alert(alert.to_alert(id, &self.object)),
        }
    }
}

fn protocol(fault: &'static str) -> SessionOutcome {
    SessionOutcome::Failed(SessionError::Protocol(fault))
}
