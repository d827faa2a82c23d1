//! DM messages: received, under construction, sent, and the outcome of each; objects that arrive in
//! chunks.

use std::{borrow::Cow, fmt, time::Duration};

use bytes::Bytes;
use proto::{
    crypto::{Digest, sha256},
    dm::{
        auth::Mac,
        code::{AlertCode, StatusCode},
        encoding::{Encoding, MetaOrder},
        large::Reassembler,
        syncml::{
            Alert, Challenge, Command, CommandId, Credential, Data, Header, Item, Location,
            Message, MessageId, Meta, Status, Verb,
        },
    },
    peer::PeerNetwork,
    time::Utc,
};

use super::Limits;
use crate::fleet::{
    device::{PeerCertificate, SERVER_ID},
    profile::{Profile, Quirk},
};

/// A message of a device, encoded and parsed.
#[derive(Debug, Clone, Copy)]
pub struct InboundMessage<'a> {
    /// The encoded message.
    pub bytes: &'a [u8],
    /// The parsed message.
    pub message: &'a Message,
    /// The session token, from the request URI.
    pub token: Option<&'a str>,
    /// The HMAC over the encoded message, from its HTTP header.
    pub mac: Option<&'a Mac>,
    /// The network that its proof comes from, if it has a proof.
    pub network: Option<PeerNetwork>,
    /// The client certificate of its connection.
    pub certificate: Option<&'a PeerCertificate>,
}

/// The octets of a message with the proofs beside them.
#[derive(Debug, Clone, Copy)]
pub struct RawMessage<'a> {
    /// The encoded message.
    pub bytes: &'a [u8],
    /// The session token, from the request URI.
    pub token: Option<&'a str>,
    /// The HMAC over the encoded message, from its HTTP header.
    pub mac: Option<&'a Mac>,
    /// The client certificate of its connection.
    pub certificate: Option<&'a PeerCertificate>,
}

impl RawMessage<'_> {
    /// Returns the digest by which a repetition is recognised. It covers every proof that the message
    /// was accepted by: a credential in its octets, the session token that later messages carry in
    /// their place, an HMAC, and the certificate of the connection.
    // spec: security 7.2 (a reply is repeated for the same proof)
    #[must_use]
    pub fn digest(&self) -> Digest {
        let part = |text: &str| sha256(&[text.as_bytes()]).0;
        let token = self.token.map_or([0; 32], part);
        let mac = self.mac.map_or([0; 32], |mac| part(&mac.emit()));
        let certificate = self.certificate.map_or([0; 32], |shown| shown.fingerprint.0);
        sha256(&[b"fumocast repetition 1", &token, &mac, &certificate, self.bytes])
    }
}

/// A message to a device, in the encoding of its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboundMessage {
    /// The encoded message.
    pub bytes: Bytes,
    /// The HMAC of this server over it.
    pub mac: Option<Mac>,
}

/// Outcome of a message.
#[derive(Debug)]
pub enum MessageOutcome {
    /// The reply of a session.
    Reply(OutboundMessage),
    /// The message is a repetition; this is the reply that it had.
    Replay(OutboundMessage),
    /// No credential; the reply carries a challenge.
    AuthRequired(OutboundMessage),
    /// A credential for a challenge that was answered already, which is not counted as wrong; the
    /// reply carries a challenge.
    AuthStale(OutboundMessage),
    /// Wrong credential; the reply carries a challenge.
    AuthFailed(OutboundMessage),
    /// The device is not enrolled; the reply carries a challenge.
    UnknownDevice(OutboundMessage),
    /// All session slots are active; the reply carries the time to retry.
    Busy(OutboundMessage),
    /// The message is of another version of DM; the reply says so.
    OtherVersion(OutboundMessage),
    /// Too many failures; retry after this time.
    LockedOut(Duration),
    /// Too many messages in flight.
    Overloaded,
    /// The changes are not stored.
    NotStored,
    /// The media type is none of a DM message.
    MediaType,
    /// The message has a content encoding.
    ContentEncoding,
    /// The message has more octets than this limit.
    TooLarge(usize),
    /// The body has not come in time.
    BodyTimeout,
    /// The body or its HMAC does not parse.
    NotSyncMl(String),
    /// The peer has no certificate of the device.
    NoCertificate,
}

impl<'a> InboundMessage<'a> {
    /// Returns the octets of the message with the proofs beside them.
    #[must_use]
    pub const fn raw(&self) -> RawMessage<'a> {
        let Self { bytes, token, mac, certificate, .. } = *self;
        RawMessage { bytes, token, mac, certificate }
    }

    /// Returns the encoding of the message, which the reply has too.
    pub(super) fn encoding(&self) -> Encoding {
        Encoding::recognise(self.bytes)
    }

    /// Returns the name by which its row is looked up: the user of the HMAC, or the source.
    // spec: security 7.2 (the name of a challenge)
    #[must_use]
    pub fn claim(&self) -> &str {
        self.mac.map_or(&*self.message.header.source.uri, |mac| &mac.user)
    }

    /// Returns whether the message shows a proof, right or wrong.
    #[must_use]
    pub const fn shows_proof(&self) -> bool {
        self.mac.is_some() || self.message.header.credential.is_some()
    }

    /// Encodes a reply.
    pub(super) fn encode(&self, order: MetaOrder, reply: &Message) -> OutboundMessage {
        OutboundMessage { bytes: self.encoding().emit_ordered(reply, order).into(), mac: None }
    }
}

/// Returns the order of elements that the client of a profile reads.
pub(super) fn meta_order(profile: &Profile) -> MetaOrder {
    match profile.quirks.contains(&Quirk::TypeFirst) {
        true => MetaOrder::TypeFirst,
        false => MetaOrder::FormatFirst,
    }
}

impl MessageOutcome {
    /// Returns the outcome of a message of a device that has to retry after `after`.
    #[must_use]
    pub fn busy(inbound: InboundMessage<'_>, limits: Limits, after: Utc) -> Self {
        // The row is not read, so the URL of the device is not known: a plausible one is repeated.
        let target = address_of(&inbound.message.header.target.uri);
        let mut refusal = refuse(inbound.message, limits, StatusCode::RETRY_LATER, None);
        refusal.header.respond_to = target.map(|target| retry_uri(target, after));
        Self::Busy(inbound.encode(MetaOrder::FormatFirst, &refusal))
    }

    /// Returns the outcome of a message of another version, with the code of the status of its header.
    // spec: oma-dm 3 (505 and 513)
    pub fn other_version(inbound: InboundMessage<'_>, limits: Limits, code: StatusCode) -> Self {
        let refusal = refuse(inbound.message, limits, code, None);
        Self::OtherVersion(inbound.encode(MetaOrder::FormatFirst, &refusal))
    }
}

/// Longest URL that a refusal repeats, in octets.
const MAX_REPEATED_URL: usize = 255;

/// Returns the URL in the `Target` of a peer without proof, without its query; `None` for anything
/// that no device of this server sends, which is not repeated to it.
fn address_of(target: &str) -> Option<&str> {
    let (url, _) = target.split_once('?').unwrap_or((target, ""));
    let (scheme, tail) = url.split_once("://")?;
    let (host, path) = tail.split_once('/')?;
    let is_of_host = |octet: u8| octet.is_ascii_alphanumeric() || b".:-[]".contains(&octet);
    let is_plausible = url.len() <= MAX_REPEATED_URL
        && matches!(scheme, "http" | "https")
        && !host.is_empty()
        && host.bytes().all(is_of_host)
        && path.bytes().all(|octet| octet.is_ascii_graphic() && !b"<>\"#".contains(&octet));
    is_plausible.then_some(url)
}

/// A time as in the `after` parameter of `RespURI`, `20000512T133000Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryAfter(pub Utc);

impl fmt::Display for RetryAfter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Rounded up: a retry must not be too early.
        let seconds = i64::try_from(self.0.0.div_ceil(1000)).unwrap_or(i64::MAX);
        let time = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX);
        write!(formatter, "{}", time.strftime("%Y%m%dT%H%M%SZ"))
    }
}

/// Returns the `RespURI` for a device that has to retry, with the time.
// spec: oma-002 4 (417 with the time in the reply address)
#[must_use]
pub fn retry_uri(url: &str, after: Utc) -> String {
    let joint = if url.contains('?') { '&' } else { '?' };
    format!("{url}{joint}after={}", RetryAfter(after))
}

/// Returns a reply with one status code for the header and every command.
pub(super) fn refuse(
    message: &Message,
    limits: Limits,
    code: StatusCode,
    challenge: Option<Challenge>,
) -> Message {
    let mut reply = MessageBuilder::reply_to(message, limits);
    reply.header_status(code, challenge);
    for command in message.commands.iter().filter(|command| command.wants_status()) {
        reply.command_status(command, code);
    }
    reply.finish()
}

/// A reply under construction. Its message id is that of the request: both sides count from 1 and
/// send in turn.
pub(super) struct MessageBuilder<'m> {
    message: Message,
    request_header: &'m Header,
    last_id: u32,
}

impl<'m> MessageBuilder<'m> {
    fn reply_to(message: &'m Message, limits: Limits) -> Self {
        let request_header = &message.header;
        let limit = u64::try_from(limits.message_bytes).unwrap_or(u64::MAX);
        let header = Header {
            session_id: request_header.session_id.clone(),
            message_id: request_header.message_id,
            target: Location::new(request_header.source.uri.clone()),
            source: Location::named(request_header.target.uri.clone(), SERVER_ID),
            respond_to: None,
            credential: None,
            meta: Some(Meta {
                max_message_size: Some(limit),
                max_object_size: Some(limits.object_bytes),
                ..Meta::default()
            }),
        };
        let message = Message { header, commands: Vec::new(), is_final: true };
        Self { message, request_header, last_id: 0 }
    }

    pub(super) fn new(message: &'m Message, limits: Limits, respond_to: String) -> Self {
        let mut reply = Self::reply_to(message, limits);
        reply.message.header.respond_to = Some(respond_to);
        reply
    }

    /// Sets the name of this server in the header: the server id of the device's account.
    pub(super) fn named(mut self, server_id: &str) -> Self {
        self.message.header.source.name = Some(server_id.to_owned());
        self
    }

    pub(super) const fn id(&self) -> MessageId {
        self.message.header.message_id
    }

    pub(super) fn push(&mut self, make: impl FnOnce(CommandId) -> Command) -> CommandId {
        self.last_id += 1;
        let id = CommandId::new(self.last_id);
        self.message.commands.push(make(id));
        id
    }

    /// Appends a command that contains others; `make` takes the ids of all.
    pub(super) fn push_group(
        &mut self,
        make: impl FnOnce(&mut dyn FnMut() -> CommandId) -> Command,
    ) {
        let last_id = &mut self.last_id;
        let command = make(&mut || {
            *last_id += 1;
            CommandId::new(*last_id)
        });
        self.message.commands.push(command);
    }

    /// Removes the last command, with its members.
    pub(super) fn pop(&mut self) {
        if let Some(last_id) = self.message.commands.pop().and_then(|it| it.id().number()) {
            self.last_id = last_id - 1;
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

    pub(super) fn set_credential(&mut self, credential: Option<Credential>) {
        self.message.header.credential = credential;
    }

    /// Appends the commands of `last`, which the device has challenged, after the header status.
    pub(super) fn repeat(&mut self, last: Message) {
        let mut commands = last.commands.into_iter();
        if let (Some(Command::Status(first)), Some(Command::Status(header))) =
            (commands.next(), self.message.commands.first_mut())
        {
            // A device that sends a challenge has dropped this one.
            header.challenge = header.challenge.take().or(first.challenge);
        }
        self.message.commands.extend(commands);
        self.message.is_final = last.is_final;
    }

    /// Leaves the package open: another message of it follows.
    pub(super) const fn leave_open(&mut self) {
        self.message.is_final = false;
    }

    pub(super) fn request_next_message(mut self) -> Message {
        self.alert(AlertCode::NEXT_MESSAGE, Vec::new());
        self.leave_open();
        self.message
    }

    pub(super) fn length(&self, encoding: Encoding) -> usize {
        encoding.length(&self.message)
    }

    pub(super) fn finish(self) -> Message {
        self.message
    }
}

/// Objects that the device sends in chunks, one at a time.
#[derive(Debug, Clone, Default)]
pub(super) struct InboundObjects {
    /// The object whose last chunk has not arrived.
    open: Option<Reassembler>,
    /// Set when the current message contains a chunk.
    chunk_in_message: bool,
    /// Objects that ended without their last chunk.
    aborted: Vec<Item>,
}

impl InboundObjects {
    /// Returns the complete items of a command with its meta, or the status code of a chunk.
    pub(super) fn complete<'i>(
        &mut self,
        verb: Verb,
        (meta, items): (Option<&Meta>, &'i [Item]),
        limit: u64,
    ) -> Result<Cow<'i, [Item]>, StatusCode> {
        let is_whole = |item: &Item| {
            let length = item.data.as_ref().map_or(0, Data::len);
            !item.more_data && u64::try_from(length).is_ok_and(|length| length <= limit)
        };
        let described = || items.iter().map(|item| item.described_by(meta));
        if self.open.is_none() && items.iter().all(is_whole) {
            return Ok(match meta {
                Some(_) => described().map(Cow::into_owned).collect(),
                None => Cow::Borrowed(items),
            });
        }
        let mut open = self.open.take().unwrap_or_default();
        let complete = described().map(|item| {
            self.aborted.extend(open.interrupted_by(verb, Some(&item)));
            self.chunk_in_message |= item.more_data;
            open.push(verb, &item, limit)
        });
        let complete = complete.collect::<Result<_, _>>().map(Cow::Owned);
        self.open = (!open.is_idle()).then_some(open);
        complete
    }

    /// Ends a message; an object whose next chunk is missing is aborted.
    pub(super) fn end_of_message(&mut self) {
        if !std::mem::take(&mut self.chunk_in_message)
            && let Some(mut open) = self.open.take()
        {
            self.aborted.extend(open.interrupted_by(Verb::Header, None));
        }
    }

    /// Removes and returns the aborted objects.
    pub(super) fn take_aborted(&mut self) -> Vec<Item> {
        std::mem::take(&mut self.aborted)
    }
}

#[cfg(test)]
mod tests {
    use proto::dm::code::Format;

    use super::*;

    #[test]
    fn the_meta_of_a_command_holds_for_its_chunks() {
        let chunk = |data: &str, more_data| Item {
            source: Some(Location::new("./x")),
            data: Some(data.into()),
            more_data,
            ..Item::default()
        };
        let meta = Meta { size: Some(4), ..Meta::format(Format::B64) };
        let mut inbound = InboundObjects::default();
        let mut complete = |items: &[Item]| {
            let items = inbound.complete(Verb::Results, (Some(&meta), items), 100);
            items.map(|items| items[0].decoded_text().unwrap().into_owned())
        };
        assert_eq!(complete(&[chunk("Mi", true)]), Err(StatusCode::CHUNK_ACCEPTED));
        assert_eq!(complete(&[chunk("4w", false)]), Ok("2.0".to_owned()));
        assert_eq!(complete(&[chunk("Mi4w", false)]), Ok("2.0".to_owned()));
    }

    // test: oma-002 4 (the time in the reply address)
    #[test]
    fn a_retry_uri_carries_the_time() {
        let after = Utc::from_seconds(958_138_200);
        assert_eq!(retry_uri("http://s/dm", after), "http://s/dm?after=20000512T133000Z");
        assert_eq!(retry_uri("http://s/dm?u=j", after), "http://s/dm?u=j&after=20000512T133000Z");
    }

    #[test]
    fn a_refusal_repeats_no_target_that_no_device_sends() {
        for target in
            ["http://192.0.2.1:8080/dm", "https://dm.example.org/dm", "https://[::1]:1/dm"]
        {
            assert_eq!(address_of(target), Some(target));
            assert_eq!(address_of(&format!("{target}?s=secret&x=1")), Some(target));
        }
        let long = format!("http://h/{}", "x".repeat(MAX_REPEATED_URL));
        for target in [
            "",
            "dm",
            "javascript://h/x",
            "http:///dm",
            "http://u:p@h/dm",
            "http://h/a b",
            "http://h/<x>",
            "http://h/dm#x",
            "ftp://h/dm",
            "http://h",
            &long,
        ] {
            assert_eq!(address_of(target), None, "{target}");
        }
        assert_eq!(RetryAfter(Utc(958_138_199_001)).to_string(), "20000512T133000Z");
    }
}
