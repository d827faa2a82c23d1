//! A reply under construction: its header, its commands and their identifiers.

use proto::dm::{
    code::{AlertCode, StatusCode},
    encoding::Encoding,
    syncml::{Alert, Challenge, Command, CommandId, Header, Item, Location, Message, Meta, Status},
};

use super::{Limits, command::PlannedCommand};
use crate::fleet::device::SERVER_ID;

/// A command that was sent.
#[derive(Debug, Clone)]
pub(super) struct SentCommand {
    pub(super) planned: PlannedCommand,
    /// The group that contained it.
    pub(super) group: Option<CommandId>,
}

/// Returns a reply with one status code for the header and every command.
#[must_use]
pub fn refuse(message: &Message, code: StatusCode, challenge: Option<Challenge>) -> Message {
    let mut reply = MessageBuilder::reply_to(message);
    reply.header_status(code, challenge);
    for command in message.commands.iter().filter(|command| command.wants_status()) {
        reply.command_status(command, code);
    }
    reply.finish()
}

/// A reply under construction. Its message id is that of the request: both sides count from 1 and
/// send in turn.
pub(super) struct MessageBuilder<'m> {
    pub(super) message: Message,
    request_header: &'m Header,
    last_id: u32,
}

impl<'m> MessageBuilder<'m> {
    fn reply_to(message: &'m Message) -> Self {
        let request_header = &message.header;
        let limit = u64::try_from(Limits::default().message_bytes).unwrap_or(u64::MAX);
        let header = Header {
            session_id: request_header.session_id.clone(),
            message_id: request_header.message_id,
            target: Location::new(request_header.source.uri.clone()),
            source: Location::named(request_header.target.uri.clone(), SERVER_ID),
            respond_to: None,
            credential: None,
            meta: Some(Meta {
                max_message_size: Some(limit),
                max_object_size: Some(Limits::default().object_bytes),
                ..Meta::default()
            }),
        };
        let message = Message { header, commands: Vec::new(), is_final: true };
        Self { message, request_header, last_id: 0 }
    }

    pub(super) fn new(message: &'m Message, respond_to: String) -> Self {
        let mut reply = Self::reply_to(message);
        reply.message.header.respond_to = Some(respond_to);
        reply
    }

    pub(super) fn push(&mut self, make: impl FnOnce(CommandId) -> Command) -> CommandId {
        self.last_id += 1;
        let id = CommandId(self.last_id);
        self.message.commands.push(make(id));
        id
    }

    /// Appends a planned command; returns it and its members with their ids.
    pub(super) fn push_planned(
        &mut self,
        planned: &PlannedCommand,
    ) -> Vec<(CommandId, SentCommand)> {
        let mut entries = Vec::new();
        let mut next = self.last_id;
        let command = planned.command(&mut |planned, group| {
            next += 1;
            entries.push((CommandId(next), SentCommand { planned: planned.clone(), group }));
            CommandId(next)
        });
        self.last_id = next;
        self.message.commands.push(command);
        entries
    }

    /// Removes the last command, with its members.
    pub(super) fn pop(&mut self) {
        if let Some(command) = self.message.commands.pop() {
            self.last_id = command.id().0 - 1;
        }
    }

    pub(super) fn header_status(&mut self, code: StatusCode, challenge: Option<Challenge>) {
        let request_header = self.request_header;
        self.push(|id| {
            Command::Status(Status { challenge, ..Status::for_header(id, request_header, code) })
        });
    }

    pub(super) fn command_status(&mut self, command: &Command, code: StatusCode) {
        let message = self.request_header.message_id;
        self.push(|id| {
            Command::Status(Status::new(id, message, command.id(), command.verb(), code))
        });
    }

    pub(super) fn alert(&mut self, code: AlertCode, items: Vec<Item>) {
        self.push(|id| Command::Alert(Alert { id, code, correlator: None, items }));
    }

    pub(super) fn request_next_message(mut self) -> Message {
        self.alert(AlertCode::NEXT_MESSAGE, Vec::new());
        self.message.is_final = false;
        self.message
    }

    pub(super) fn length(&self, encoding: Encoding) -> usize {
        encoding.length(&self.message)
    }

    pub(super) fn finish(self) -> Message {
        self.message
    }
}
