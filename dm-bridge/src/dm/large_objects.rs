//! Large objects: values sent in chunks over several messages, in both directions.

use std::borrow::Cow;

use proto::dm::{
    code::StatusCode,
    encoding::Encoding,
    large::Chunker,
    syncml::{Command, CommandId, Item, Manage, MessageId, Verb},
};

use super::{
    command::{PlannedCommand, Property, Request},
    context::Context,
    message_builder::{MessageBuilder, SentCommand},
    session::DmSession,
};

/// Smallest chunk that is worth a message.
const MIN_CHUNK_BYTES: usize = 256;

/// A large object that is being sent to the device.
#[derive(Debug, Clone)]
pub(super) struct OutboundObject {
    planned: PlannedCommand,
    chunker: Chunker,
    /// The chunk without a status.
    awaiting: Option<(MessageId, CommandId)>,
}

impl OutboundObject {
    pub(super) fn renumber(&mut self, from: MessageId, to: MessageId) {
        if let Some((message, _)) = self.awaiting.as_mut().filter(|(message, _)| *message == from) {
            *message = to;
        }
    }
}

impl DmSession {
    /// Returns the complete items, or the status code of a chunk.
    pub(super) fn reassemble<'i>(
        &mut self,
        verb: Verb,
        items: &'i [Item],
    ) -> Result<Cow<'i, [Item]>, StatusCode> {
        if !self.reassembler.is_open() && items.iter().all(|item| !item.more_data) {
            return Ok(Cow::Borrowed(items));
        }
        let mut complete = Vec::with_capacity(items.len());
        for item in items {
            self.aborted_objects.extend(self.reassembler.interrupted_by(verb, Some(item)));
            self.chunk_in_message |= item.more_data;
            complete.push(self.reassembler.push(verb, item, self.limits.object_bytes)?);
        }
        Ok(Cow::Owned(complete))
    }

    /// Ends a message; an object whose next chunk is missing is aborted.
    pub(super) fn end_of_message(&mut self) {
        if !std::mem::take(&mut self.chunk_in_message) {
            self.aborted_objects.extend(self.reassembler.interrupted_by(Verb::Header, None));
        }
    }

    /// Starts to send a write in chunks; returns whether the device supports objects of its size.
    pub(super) fn start_object(&mut self, planned: PlannedCommand, encoding: Encoding) -> bool {
        let Request::Replace(item) = &planned.request else { return false };
        let is_true = |it: &String| it.trim() == "true";
        let supported = self.chunking_allowed
            && self.properties.get(&Property::LargeObjects).is_some_and(is_true);
        let cutter = Chunker::new(item, encoding);
        if !supported || self.object_bytes.is_some_and(|limit| cutter.size() > limit) {
            return false;
        }
        self.outbound_object = Some(OutboundObject { planned, chunker: cutter, awaiting: None });
        true
    }

    /// Returns whether the next chunk is due.
    pub(super) fn chunk_due(&self) -> bool {
        self.outbound_object.as_ref().is_some_and(|sending| sending.awaiting.is_none())
    }

    /// Appends the next chunk to the reply, alone. All but the last leave the package open.
    // spec: oma-dm 2.1 (chunks in consecutive messages)
    pub(super) fn send_chunk(
        &mut self,
        reply: &mut MessageBuilder<'_>,
        encoding: Encoding,
        ctx: &mut Context<'_>,
    ) {
        let Some(mut sending) = self.outbound_object.take() else { return };
        let command = |item: &Item| {
            let items = vec![item.clone()];
            |id| Command::Replace(Manage::new(id, items))
        };
        let limit = self.message_bytes;
        let chunk = sending.chunker.chunk(MIN_CHUNK_BYTES, |item| {
            reply.push(command(item));
            let fits = reply.length(encoding) <= limit;
            reply.pop();
            fits
        });
        let Some(chunk) = chunk else { return self.abort_oversized(ctx) };
        let id = reply.push(command(&chunk));
        let key = (reply.message.header.message_id, id);
        if sending.chunker.is_done() {
            self.awaiting_status.insert(key);
            self.sent.insert(key, SentCommand { planned: sending.planned, group: None });
        } else {
            reply.message.is_final = false;
            self.package_open = true;
            self.outbound_object = Some(OutboundObject { awaiting: Some(key), ..sending });
        }
    }

    /// Handles the status of a chunk; returns the command when its object is aborted.
    pub(super) fn on_chunk_status(
        &mut self,
        key: (MessageId, CommandId),
        code: StatusCode,
    ) -> Option<PlannedCommand> {
        let sending =
            self.outbound_object.as_mut().filter(|sending| sending.awaiting == Some(key))?;
        sending.awaiting = None;
        if code == StatusCode::CHUNK_ACCEPTED { None } else { self.abort_object() }
    }

    /// Aborts the object being sent; returns its command.
    pub(super) fn abort_object(&mut self) -> Option<PlannedCommand> {
        self.outbound_object.take().map(|sending| sending.planned)
    }
}
