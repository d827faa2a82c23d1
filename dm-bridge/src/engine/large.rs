//! Objects that do not fit into one message, both ways.

use std::borrow::Cow;

use proto::{
    dm::{
        code::StatusCode,
        encoding::Encoding,
        large::Cutter,
        syncml::{Command, CommandId, Item, Manage, MessageId, Verb},
    },
    time::Utc,
};

use super::{
    Desk,
    command::{Fact, Planned, Request},
    session::{DmSession, Reply, Sent},
};

/// The least that a piece of an object is worth a message for.
const LEAST_PIECE: usize = 256;

/// An object on its way to the device.
#[derive(Debug, Clone)]
pub(super) struct Sending {
    planned: Planned,
    cutter: Cutter,
    /// The piece that has not been answered yet.
    asked: Option<(MessageId, CommandId)>,
}

impl Sending {
    pub(super) fn renumber(&mut self, from: MessageId, to: MessageId) {
        if let Some((message, _)) = self.asked.as_mut().filter(|(message, _)| *message == from) {
            *message = to;
        }
    }
}

impl DmSession {
    /// Returns the items when they are whole, or the status that a piece gets.
    pub(super) fn whole<'i>(
        &mut self,
        verb: Verb,
        items: &'i [Item],
    ) -> Result<Cow<'i, [Item]>, StatusCode> {
        if !self.joiner.is_open() && items.iter().all(|item| !item.more_data) {
            return Ok(Cow::Borrowed(items));
        }
        let mut whole = Vec::with_capacity(items.len());
        for item in items {
            self.lost.extend(self.joiner.interrupted_by(verb, Some(item)));
            self.took_piece |= item.more_data;
            whole.push(self.joiner.take(verb, item, self.limits.object_bytes)?);
        }
        Ok(Cow::Owned(whole))
    }

    /// Takes note of an object whose next piece should have been in the message.
    pub(super) fn end_of_message(&mut self) {
        if !std::mem::take(&mut self.took_piece) {
            self.lost.extend(self.joiner.interrupted_by(Verb::Header, None));
        }
    }

    /// Takes a write apart for a device that takes large objects of its size.
    pub(super) fn begin_sending(&mut self, planned: Planned, encoding: Encoding) -> bool {
        let Request::Replace(item) = &planned.request else { return false };
        let says_so = |it: &String| it.trim() == "true";
        let takes = self.may_cut && self.facts.get(&Fact::LargeObjects).is_some_and(says_so);
        let cutter = Cutter::new(item, encoding);
        if !takes || self.object_bytes.is_some_and(|limit| cutter.size() > limit) {
            return false;
        }
        self.sending = Some(Sending { planned, cutter, asked: None });
        true
    }

    /// Tells whether the device waits for the next piece.
    pub(super) fn may_send_piece(&self) -> bool {
        self.sending.as_ref().is_some_and(|sending| sending.asked.is_none())
    }

    /// Puts the next piece into the answer, alone. All but the last leave the package open.
    // spec: oma-dm 2.1 (pieces in messages that follow each other)
    pub(super) fn send_piece(
        &mut self,
        reply: &mut Reply<'_>,
        encoding: Encoding,
        desk: &mut Desk,
        now: Utc,
    ) {
        let Some(mut sending) = self.sending.take() else { return };
        let command = |item: &Item| {
            let items = vec![item.clone()];
            |id| Command::Replace(Manage::new(id, items))
        };
        let limit = self.message_bytes;
        let piece = sending.cutter.piece(LEAST_PIECE, |item| {
            reply.push(command(item));
            let fits = reply.length(encoding) <= limit;
            reply.pop();
            fits
        });
        let Some(piece) = piece else { return self.give_up(desk, now) };
        let id = reply.push(command(&piece));
        let key = (reply.message.header.message_id, id);
        if sending.cutter.is_done() {
            self.owed.insert(key);
            self.sent.insert(key, Sent { planned: sending.planned, group: None });
        } else {
            reply.message.is_final = false;
            self.package_open = true;
            self.sending = Some(Sending { asked: Some(key), ..sending });
        }
    }

    /// Takes the answer to a piece; returns what was being sent when it must not go on.
    pub(super) fn piece_answered(
        &mut self,
        key: (MessageId, CommandId),
        code: StatusCode,
    ) -> Option<Planned> {
        let sending = self.sending.as_mut().filter(|sending| sending.asked == Some(key))?;
        sending.asked = None;
        if code == StatusCode::CHUNK_ACCEPTED { None } else { self.stop_sending() }
    }

    /// Forgets an object on its way; returns what it was.
    pub(super) fn stop_sending(&mut self) -> Option<Planned> {
        self.sending.take().map(|sending| sending.planned)
    }
}
