//! Our package: commands to send, the message that awaits its response, and the statuses to come.

use std::collections::{BTreeMap, VecDeque};

use proto::dm::{
    code::{AlertCode, StatusCode},
    encoding::Encoding,
    large::Chunker,
    syncml::{Command, CommandId, Header, Item, Message, MessageId, Meta, Results, Status},
};

use super::{
    command::{MAX_STATUS_BYTES, OutboundCommand},
    execution::SpaceLeft,
};
use crate::dm::FinalAlert;

/// Smallest chunk of a large object, in octets.
const MIN_CHUNK_BYTES: usize = 256;
/// Lower bound of a server's MaxMsgSize; below it no response would fit.
const MIN_MESSAGE_BYTES: usize = 2048;

/// The package that the client sends.
#[derive(Debug)]
pub(super) struct OutboundPackage {
    encoding: Encoding,
    /// MaxMsgSize of the server.
    max_message_bytes: usize,
    /// MaxObjSize of the server, if it announces one.
    max_object_bytes: Option<u64>,
    /// The management object of final alerts.
    object: String,
    /// Commands that did not fit into the last message.
    queue: VecDeque<OutboundCommand>,
    /// Status of the header of a challenge, for the next message alone.
    challenge_status: Option<Status>,
    last: LastMessage,
    /// Set when the last message ended the package.
    was_final: bool,
    awaiting: AwaitingStatus,
    /// Final alerts sent in this session, acknowledged or not.
    sent_alerts: Vec<FinalAlert>,
}

/// The message that awaits its response.
#[derive(Debug, Default)]
struct LastMessage {
    number: u32,
    commands: Vec<OutboundCommand>,
    body: Vec<u8>,
    mac: Option<String>,
    resends: u8,
}

/// Commands that await their status, by message and command.
#[derive(Debug, Default)]
struct AwaitingStatus {
    /// The chunk of a large object.
    chunk: Option<(MessageId, CommandId)>,
    /// The update request.
    request: Option<(MessageId, CommandId)>,
    alerts: BTreeMap<(MessageId, CommandId), FinalAlert>,
}

/// Message that ends the package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PackageEnd {
    /// The next one.
    NextMessage,
    /// The one with the last queued command.
    LastCommand,
    /// None yet: the server's package is unfinished.
    Later,
}

/// Status of a command that the device waits for.
pub(super) enum Answered {
    /// The server's decision on the update request.
    Request(StatusCode),
    /// The server stored the final alert.
    Alert(FinalAlert),
}

impl OutboundPackage {
    pub(super) fn new(encoding: Encoding, max_message_bytes: usize, object: String) -> Self {
        Self {
            encoding,
            max_message_bytes,
            max_object_bytes: None,
            object,
            queue: VecDeque::new(),
            challenge_status: None,
            last: LastMessage::default(),
            was_final: true,
            awaiting: AwaitingStatus::default(),
            sent_alerts: Vec::new(),
        }
    }

    /// Appends a command.
    pub(super) fn push(&mut self, command: OutboundCommand) {
        self.queue.push_back(command);
    }

    /// Appends the final alerts that were not sent in this session, at most `limit`.
    pub(super) fn push_alerts(&mut self, due: Vec<FinalAlert>, limit: usize) {
        let fresh = due.into_iter().filter(|alert| !self.sent_alerts.contains(alert));
        let fresh: Vec<_> = fresh.take(limit).collect();
        self.queue.extend(fresh.iter().cloned().map(OutboundCommand::Final));
        self.sent_alerts.extend(fresh);
    }

    /// Puts the statuses of a message and the results of its commands before the remaining
    /// commands of the package.
    pub(super) fn push_answers(&mut self, header: Status, answers: Vec<OutboundCommand>) {
        for command in answers.into_iter().rev() {
            self.queue.push_front(command);
        }
        self.queue.push_front(OutboundCommand::Status(header));
    }

    /// Puts the commands of the last message before the remaining ones, to be sent with the status
    /// of the header of the challenge to it.
    // spec: oma-dm 5 (the message after a challenge)
    pub(super) fn requeue_last(&mut self, challenge_status: Status) {
        self.challenge_status = Some(challenge_status);
        for command in std::mem::take(&mut self.last.commands).into_iter().rev() {
            self.queue.push_front(command);
        }
    }

    /// Drops the request for the next message of the server.
    pub(super) fn drop_next_message_alert(&mut self) {
        self.queue.retain(|it| !matches!(it, OutboundCommand::Alert(AlertCode::NEXT_MESSAGE)));
    }

    /// Replaces all that is queued by an abort. Statuses precede it as far as there is certainly
    /// room beside the header, its status and the alert.
    pub(super) fn replace_by_abort(&mut self, header: Status, answers: Vec<OutboundCommand>) {
        let statuses = answers.into_iter().filter(|it| matches!(it, OutboundCommand::Status(_)));
        let room = (self.max_message_bytes / MAX_STATUS_BYTES).saturating_sub(4);
        self.queue.clear();
        self.queue.push_back(OutboundCommand::Status(header));
        self.queue.extend(statuses.take(room));
        self.queue.push_back(OutboundCommand::Alert(AlertCode::SESSION_ABORT));
    }

    /// Returns whether no command is queued.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Returns whether the last message ended the package.
    pub(super) const fn was_final(&self) -> bool {
        self.was_final
    }

    /// Returns the number of the last message; 0 before the first.
    pub(super) const fn number(&self) -> u32 {
        self.last.number
    }

    pub(super) const fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Returns the body and the HMAC of the last message.
    pub(super) fn last_message(&self) -> (&[u8], Option<&str>) {
        (&self.last.body, self.last.mac.as_deref())
    }

    /// Counts one more sending of the last message; `None` at the limit.
    pub(super) fn count_resend(&mut self, limit: u8) -> Option<()> {
        self.last.resends = self.last.resends.checked_add(1).filter(|it| *it <= limit)?;
        Some(())
    }

    /// Limits messages and objects to what a message of the server announces; the last value of
    /// the session counts.
    // spec: oma-dm 2.1 (MaxMsgSize, MaxObjSize)
    pub(super) fn adopt_limits(&mut self, announced: &Meta, own_bytes: usize) {
        if let Some(bytes) = announced.max_message_size {
            let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            self.max_message_bytes = bytes.clamp(MIN_MESSAGE_BYTES, own_bytes);
        }
        // 0 says nothing.
        let object_bytes = announced.max_object_size.filter(|bytes| *bytes > 0);
        self.max_object_bytes = object_bytes.or(self.max_object_bytes);
    }

    /// Returns the space beside a header.
    pub(super) fn space_left(&self, header: Header) -> SpaceLeft {
        SpaceLeft::new(self.encoding, header, self.max_message_bytes, self.max_object_bytes)
    }

    /// Handles the status of one of our commands.
    pub(super) fn on_status(&mut self, status: &Status) -> Option<Answered> {
        let answered = (status.message_ref, status.command_ref);
        if self.awaiting.chunk.take_if(|chunk| *chunk == answered).is_some()
            && !status.code.is_success()
        {
            // The server rejects the remaining chunks.
            if let Some(OutboundCommand::Large(..)) = self.queue.front() {
                self.queue.pop_front();
            }
        }
        if self.awaiting.request.take_if(|request| *request == answered).is_some() {
            return Some(Answered::Request(status.code));
        }
        if !matches!(status.code, StatusCode::OK | StatusCode::ACCEPTED) {
            return None;
        }
        self.awaiting.alerts.remove(&answered).map(Answered::Alert)
    }

    /// Begins the next message.
    pub(super) fn begin_message(&mut self) -> MessageId {
        self.last.number += 1;
        self.last.resends = 0;
        MessageId::new(self.last.number)
    }

    /// Builds a message from as many queued commands as fit.
    pub(super) fn pack(&mut self, header: Header, end: PackageEnd) -> Message {
        let empty = Message { header, commands: Vec::new(), is_final: true };
        let mut room = self.max_message_bytes.saturating_sub(self.encoding.length(&empty));
        let header = empty.header;
        let mut commands = Vec::new();
        let mut packed = Vec::new();
        let mut number = 0;
        if let Some(status) = self.challenge_status.take() {
            number += 1;
            let command = Command::Status(Status { id: CommandId::new(number), ..status });
            room = room.saturating_sub(self.size_of_command(&header, &command));
            commands.push(command);
        }
        while let Some(outgoing) = self.queue.pop_front() {
            number += 1;
            let outgoing = if let OutboundCommand::Large(results, chunker) = outgoing {
                match self.next_chunk(&header, (results, chunker), (number, room)) {
                    Some(chunk) => chunk,
                    None => break,
                }
            } else {
                outgoing
            };
            let command = outgoing.to_command(CommandId::new(number), &self.object);
            let size = self.size_of_command(&header, &command);
            if size > room && self.split_results(&header, &outgoing, size) {
                continue;
            }
            if size > room && !packed.is_empty() {
                self.queue.push_front(outgoing);
                break;
            }
            room = room.saturating_sub(size);
            let key = (header.message_id, CommandId::new(number));
            self.awaiting.add(key, &outgoing);
            commands.push(command);
            packed.push(outgoing);
            if self.awaiting.chunk == Some(key) {
                // No command may precede the next chunk of the object.
                break;
            }
        }
        // spec: oma-dm 1 (final)
        self.was_final = match end {
            PackageEnd::NextMessage => true,
            PackageEnd::LastCommand => self.queue.is_empty(),
            PackageEnd::Later => false,
        };
        self.last.commands = packed;
        Message { header, commands, is_final: self.was_final }
    }

    /// Builds a message from as many of these commands as fit; the queued ones stay.
    pub(super) fn pack_alone(
        &mut self,
        commands: VecDeque<OutboundCommand>,
        header: Header,
        end: PackageEnd,
    ) -> Message {
        let queued = std::mem::replace(&mut self.queue, commands);
        let was_final = self.was_final;
        let message = self.pack(header, end);
        self.queue.extend(queued);
        self.was_final = was_final;
        message
    }

    /// Stores the encoded message for another sending.
    pub(super) fn store_encoded(&mut self, body: Vec<u8>, mac: Option<String>) {
        self.last.body = body;
        self.last.mac = mac;
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
    fn split_results(&mut self, header: &Header, outgoing: &OutboundCommand, size: usize) -> bool {
        let OutboundCommand::Results(results) = outgoing else { return false };
        let empty = Message { header: header.clone(), commands: Vec::new(), is_final: true };
        if size + self.encoding.length(&empty) + MAX_STATUS_BYTES <= self.max_message_bytes {
            return false;
        }
        let [item] = results.items.as_slice() else {
            for item in results.items.iter().rev() {
                let one = Results { items: vec![item.clone()], ..results.clone() };
                self.queue.push_front(OutboundCommand::Results(one));
            }
            return !results.items.is_empty();
        };
        if item.more_data || item.data.as_ref().is_none_or(|data| data.len() < MIN_CHUNK_BYTES) {
            return false;
        }
        let chunker = Box::new(Chunker::new(item, self.encoding));
        let head = Results { items: Vec::new(), ..results.clone() };
        self.queue.push_front(OutboundCommand::Large(head, chunker));
        true
    }

    /// Returns the next chunk of a large item; the remainder returns to the front of the queue.
    /// `None` when there is no room for a chunk of the smallest size.
    fn next_chunk(
        &mut self,
        header: &Header,
        (results, mut chunker): (Results, Box<Chunker>),
        (number, room): (u32, usize),
    ) -> Option<OutboundCommand> {
        let with = |item: &Item| Results {
            id: CommandId::new(number),
            items: vec![item.clone()],
            ..results.clone()
        };
        let fits =
            |item: &Item| self.size_of_command(header, &Command::Results(with(item))) <= room;
        let chunk = chunker.chunk(MIN_CHUNK_BYTES, fits);
        let outgoing = chunk.as_ref().map(|chunk| OutboundCommand::Results(with(chunk)));
        if !chunker.is_done() {
            if outgoing.is_some() {
                self.awaiting.chunk = Some((header.message_id, CommandId::new(number)));
            }
            self.queue.push_front(OutboundCommand::Large(results, chunker));
        }
        outgoing
    }
}

impl AwaitingStatus {
    fn add(&mut self, key: (MessageId, CommandId), command: &OutboundCommand) {
        match command {
            OutboundCommand::Final(alert) => {
                self.alerts.insert(key, alert.clone());
            }
            OutboundCommand::Request(_) => self.request = Some(key),
            OutboundCommand::Status(_)
            | OutboundCommand::Results(_)
            | OutboundCommand::Large(..)
            | OutboundCommand::Alert(_)
            | OutboundCommand::NoEndOfData(_)
            | OutboundCommand::DeviceInfo(_) => {}
        }
    }
}
