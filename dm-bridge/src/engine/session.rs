//! One authenticated DM session: packages 1 to 4, and again from 3 while there is work.
//!
//! ```text
//! package 1  credential, DevInfo, alerts   ->  statuses, Gets                      Inspect
//! package 3  values                        ->  what leads to an Exec, in as few messages as the
//!                                              device takes                        Course
//! package 3  202, perhaps a final alert    ->  more work, or nothing: the end      Choose, Done
//! ```

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use proto::{
    dm::{
        auth::{AuthKind, Mac},
        code::{AlertCode, StatusCode},
        encoding::Encoding,
        large::Joiner,
        nodes::{broadcast, device, fumo},
        syncml::{
            Alert, Challenge, Command, CommandId, Header, Item, Location, Message, MessageId, Meta,
            Status,
        },
    },
    ids::CampaignId,
    time::Utc,
};

use super::{
    Desk, Limits,
    auth::{self, Proof, Verdict},
    command::{Fact, Planned},
    components::Shelf,
    course::{Course, Groups},
    large::Sending,
    standing::{Standing, doubt},
};
use crate::{
    arming::{self, Work},
    campaign::model::{CampaignState, Way},
    fleet::{
        arming::{Arming, ArmingPhase},
        device::{Nonce, SERVER_ID},
        policy::Setting,
        profile::Quirk,
    },
    random::RandomBytes,
};

/// A message as it came.
#[derive(Debug, Clone, Copy)]
pub struct Received<'a> {
    /// What it says.
    pub message: &'a Message,
    /// The form that it came in, and in which it is answered.
    pub encoding: Encoding,
    /// The proof beside it, and the octets that it is over.
    pub mac: Option<(&'a Mac, &'a [u8])>,
}

impl Received<'_> {
    fn proof(&self) -> Proof<'_> {
        let header = &self.message.header;
        Proof {
            credential: header.credential.as_ref(),
            mac: self.mac,
            user: header.source.name.as_deref(),
            session: &header.session_id,
        }
    }
}

/// What the first message of a peer leads to.
#[derive(Debug, Clone)]
pub enum Opening {
    /// It is the device: keep the session and send the answer.
    Accepted(Box<DmSession>, Message),
    /// It has not tried to prove that: send the answer, keep nothing.
    Challenged(Message),
    /// It has tried and failed: send the answer, keep nothing.
    Wrong(Message),
    /// Too many failures: come back later.
    Locked(Duration),
}

/// A DM session whose device has proved who it is.
#[derive(Debug, Clone)]
pub struct DmSession {
    id: String,
    token: String,
    /// Whether each message is proved by itself.
    proves_each: bool,
    /// How this server stands with the device.
    pub(super) standing: Standing,
    pub(super) limits: Limits,
    /// Octets that the device takes in one message.
    pub(super) message_bytes: usize,
    /// Octets that the device takes in one object; no limit when it does not say.
    pub(super) object_bytes: Option<u64>,
    /// What the device sends in pieces.
    pub(super) joiner: Joiner,
    /// Whether a piece came with the message.
    pub(super) took_piece: bool,
    /// Objects whose end did not come.
    pub(super) lost: Vec<Item>,
    /// Whether our package is open because a piece of an object went out.
    pub(super) package_open: bool,
    /// What goes to the device in pieces.
    pub(super) sending: Option<Sending>,
    pub(super) facts: BTreeMap<Fact, String>,
    pub(super) queue: VecDeque<Planned>,
    /// Everything that was sent, for Results that come after their Status.
    pub(super) sent: BTreeMap<(MessageId, CommandId), Sent>,
    /// What the device still owes a Status for.
    pub(super) owed: BTreeSet<(MessageId, CommandId)>,
    pub(super) stage: Stage,
    /// Whether the device was asked what it can bear; it is when something is to be done with it.
    is_examined: bool,
    /// What it has to do with components.
    pub(super) shelf: Shelf,
    /// Whether the device was told to rest or to go on.
    rested: bool,
    /// What it was told of its policy.
    set: BTreeSet<Setting>,
    /// Campaigns that are left alone until the next session.
    pub(super) tried: BTreeSet<CampaignId>,
    /// Campaigns to which the user has said yes.
    pub(super) agreed: BTreeSet<CampaignId>,
    /// Whether objects may go in pieces when the device says that it takes them.
    pub(super) may_cut: bool,
    /// Which groups the device takes, as far as it has shown.
    pub(super) groups: Groups,
    /// The groups that the message at hand refuses.
    pub(super) refused: BTreeSet<(MessageId, CommandId)>,
    /// What is being led to its Exec.
    pub(super) course: Option<Course>,
    last_message: MessageId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Inspect,
    Choose,
    Course,
    Exec,
    Done,
}

/// A command that was sent.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) planned: Planned,
    /// The group that it travelled in.
    pub(super) group: Option<CommandId>,
}

impl DmSession {
    /// Answers a message that belongs to no session yet.
    pub fn open(
        desk: &mut Desk,
        received: Received<'_>,
        now: Utc,
        limits: Limits,
        chance: RandomBytes<'_>,
    ) -> Opening {
        let message = received.message;
        let kind = desk.device.auth.kind;
        let challenge = |nonce: &Nonce| Some(Challenge::new(kind, &nonce.0));
        match auth::judge(&mut desk.device, received.proof(), now, Nonce(chance())) {
            Verdict::Accepted(next) => {
                desk.note("authenticated");
                let quirks = &desk.device.profile.quirks;
                let mut session = Self::begin(&message.header, limits, chance(), quirks);
                session.proves_each = kind == AuthKind::Mac;
                // There is no nonce in auth-basic.
                let challenge = challenge(&next).filter(|_| kind != AuthKind::Basic);
                let reply = session.turn(desk, received, now, challenge, chance);
                Opening::Accepted(Box::new(session), reply)
            }
            Verdict::Missing(nonce) => Opening::Challenged(refuse(
                message,
                StatusCode::MISSING_CREDENTIALS,
                challenge(&nonce),
            )),
            Verdict::Wrong(nonce) => {
                desk.note("credential refused");
                Opening::Wrong(refuse(message, StatusCode::INVALID_CREDENTIALS, challenge(&nonce)))
            }
            Verdict::Locked(wait) => Opening::Locked(wait),
        }
    }

    fn begin(header: &Header, limits: Limits, token: [u8; 16], quirks: &BTreeSet<Quirk>) -> Self {
        Self {
            id: header.session_id.clone(),
            token: format!("{:032x}", u128::from_be_bytes(token)),
            proves_each: false,
            standing: Standing::default(),
            limits,
            message_bytes: limits.message_bytes,
            object_bytes: None,
            joiner: Joiner::default(),
            took_piece: false,
            lost: Vec::new(),
            package_open: false,
            sending: None,
            facts: BTreeMap::new(),
            queue: VecDeque::new(),
            sent: BTreeMap::new(),
            owed: BTreeSet::new(),
            stage: Stage::Inspect,
            is_examined: false,
            shelf: Shelf::default(),
            rested: false,
            set: BTreeSet::new(),
            tried: BTreeSet::new(),
            agreed: BTreeSet::new(),
            may_cut: !quirks.contains(&Quirk::NoLargeObjects),
            groups: Groups::of(quirks),
            refused: BTreeSet::new(),
            course: None,
            last_message: MessageId(0),
        }
    }

    /// Returns the text that ties further messages to this session; it is sent in `RespURI`.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Tells whether `message`, which came with `token`, goes on with this session.
    #[must_use]
    pub fn is_continued_by(&self, message: &Message, token: Option<&str>) -> bool {
        let token = token.unwrap_or_default();
        message.header.session_id == self.id
            && message.header.message_id > self.last_message
            && proto::crypto::equal_in_constant_time(token.as_bytes(), self.token.as_bytes())
    }

    /// Tells whether nothing more is expected from the device.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.stage == Stage::Done
    }

    /// Answers a further message.
    pub fn handle(
        &mut self,
        desk: &mut Desk,
        received: Received<'_>,
        now: Utc,
        chance: RandomBytes<'_>,
    ) -> Message {
        if !self.proves_each {
            return self.turn(desk, received, now, None, chance);
        }
        // spec: oma-dm 5.1 (proof over each message)
        let refusal = |code, challenge| refuse(received.message, code, challenge);
        let challenge = |next: &Nonce| Some(Challenge::new(AuthKind::Mac, &next.0));
        match auth::judge(&mut desk.device, received.proof(), now, Nonce(chance())) {
            Verdict::Accepted(next) => self.turn(desk, received, now, challenge(&next), chance),
            Verdict::Missing(next) => refusal(StatusCode::MISSING_CREDENTIALS, challenge(&next)),
            Verdict::Wrong(next) => {
                desk.note("proof of a message refused");
                refusal(StatusCode::INVALID_CREDENTIALS, challenge(&next))
            }
            Verdict::Locked(_) => refusal(StatusCode::UNAVAILABLE, None),
        }
    }

    fn turn(
        &mut self,
        desk: &mut Desk,
        received: Received<'_>,
        now: Utc,
        challenge: Option<Challenge>,
        chance: RandomBytes<'_>,
    ) -> Message {
        let reply = self.reply(desk, received, now, challenge, chance);
        self.remember(&reply);
        reply
    }

    fn reply(
        &mut self,
        desk: &mut Desk,
        Received { message, encoding, .. }: Received<'_>,
        now: Utc,
        challenge: Option<Challenge>,
        chance: RandomBytes<'_>,
    ) -> Message {
        self.last_message = message.header.message_id;
        let announced = message.header.meta.as_ref().and_then(|meta| meta.max_message_size);
        if let Some(size) = announced.and_then(|size| usize::try_from(size).ok()) {
            self.message_bytes = size.min(self.limits.message_bytes);
        }
        let largest = message.header.meta.as_ref().and_then(|meta| meta.max_object_size);
        self.object_bytes = largest.or(self.object_bytes);
        let mut reply = Reply::new(message, self.reply_uri(&desk.device.url));
        // spec: oma-dm 5 (212 and the nonce of the next session)
        let code = if self.proves_each { StatusCode::OK } else { StatusCode::AUTHENTICATED };
        reply.status(code, challenge);
        if let Some(status) = doubt(message) {
            return self.say_again(desk, reply, status);
        }
        for (command, code) in self.take(desk, message, now, chance) {
            reply.answer(command, code);
        }
        self.prove(&desk.device, &mut reply);
        for item in std::mem::take(&mut self.lost) {
            reply.alert(AlertCode::NO_END_OF_DATA, vec![item]);
        }
        if self.stage == Stage::Done {
            return reply.finish();
        }
        if let Some(reason) = self.reason_to_break_off(desk) {
            desk.note(format!("broken off: {reason}"));
            self.end();
            reply.alert(AlertCode::SESSION_ABORT, Vec::new());
            return reply.finish();
        }
        let is_our_turn = std::mem::take(&mut self.package_open) || message.is_final;
        if self.may_send_piece() {
            self.send_piece(&mut reply, encoding, desk, now);
            return reply.finish();
        }
        self.settle_sending(desk, now, chance);
        if !is_our_turn {
            // spec: oma-dm 1 (next message)
            return reply.ask_for_more();
        }
        self.settle_unanswered(desk, now, chance);
        if self.stage == Stage::Inspect && self.sent.is_empty() {
            self.inspect(desk);
        }
        while self.queue.is_empty() && self.stage != Stage::Done {
            self.advance(desk, now, chance);
        }
        self.fill(&mut reply, encoding, desk, now);
        reply.finish()
    }

    /// Tells why this session must not go on: what it is about was called off meanwhile, or it
    /// never comes to an end.
    // spec: oma-dm 1.1 (1223)
    fn reason_to_break_off(&self, desk: &Desk) -> Option<String> {
        if self.last_message.0 > self.limits.messages {
            return Some(format!("more than {} messages", self.limits.messages));
        }
        let campaign = self.course.as_ref().filter(|course| !course.is_over())?.campaign;
        let runs = desk.campaign(campaign).is_some_and(|it| it.state == CampaignState::Running);
        (!runs).then(|| format!("campaign {campaign} was stopped"))
    }

    fn reply_uri(&self, url: &str) -> String {
        let joint = if url.contains('?') { '&' } else { '?' };
        format!("{url}{joint}s={}", self.token)
    }

    /// Takes the next step after everything that was sent has been answered.
    fn advance(&mut self, desk: &mut Desk, now: Utc, chance: RandomBytes<'_>) {
        match self.stage {
            Stage::Inspect | Stage::Exec => self.stage = Stage::Choose,
            Stage::Choose => {
                for campaign in arming::fall_back(desk, now, chance) {
                    self.tried.remove(&campaign);
                }
                self.choose(desk, now, chance);
            }
            Stage::Course => self.go_on_course(desk, now),
            Stage::Done => {}
        }
    }

    /// Asks what every session asks first; the rest only where a device has something to do.
    fn inspect(&mut self, desk: &Desk) {
        let firmware = device::FIRMWARE_VERSION.to_owned();
        self.queue.push_back(Planned::read(Fact::Firmware, firmware));
        let waits = |row: &Arming| {
            row.result_code.is_none() && (row.phase.is_open() || row.phase == ArmingPhase::Unknown)
        };
        if desk.latest().any(waits) {
            self.examine(desk);
        }
    }

    // spec: oma-001 8.1.1.4
    fn examine(&mut self, desk: &Desk) {
        let node = |path: &str| format!("{}/{path}", desk.device.object);
        self.is_examined = true;
        self.queue.extend([
            Planned::read(Fact::BroadcastVersion, node(broadcast::VERSION)),
            Planned::read(Fact::MaxBlockSymbols, node(broadcast::MAX_BLOCK_SYMBOLS)),
            Planned::read(Fact::MaxStorage, node(broadcast::MAX_STORAGE)),
            Planned::read(Fact::Root, node(broadcast::ROOT)),
            Planned::read(Fact::State, node(fumo::STATE)),
            Planned::read(Fact::Phase, node(broadcast::PHASE)),
            Planned::read(Fact::LargeObjects, device::LARGE_OBJECTS.to_owned()),
        ]);
        if desk.latest().any(|row| row.way == Way::Direct && row.phase == ArmingPhase::Pending) {
            self.queue.push_back(Planned::read(Fact::HeldPackage, node(fumo::PACKAGE_HELD)));
        }
    }

    /// Sets what is owed to the device's policy, each setting once; tells whether there is any.
    fn set_policy(&mut self, desk: &Desk) -> bool {
        let owed: Vec<_> =
            desk.device.policy.owed().filter(|setting| self.set.insert(setting.clone())).collect();
        let commands = owed.into_iter().map(|setting| arming::policy(setting, &desk.device));
        self.queue.extend(commands);
        !self.queue.is_empty()
    }

    fn choose(&mut self, desk: &mut Desk, now: Utc, chance: RandomBytes<'_>) {
        if self.set_policy(desk) {
            self.stage = Stage::Exec;
            return;
        }
        if let Some(rest) = desk.device.rest.filter(|_| !std::mem::replace(&mut self.rested, true))
        {
            self.queue.push_back(arming::rest(rest, &desk.device, chance));
            self.stage = Stage::Exec;
            return;
        }
        if self.go_on_with_components(desk, now) {
            return;
        }
        match arming::next_work(&desk.armings, &desk.campaigns, &self.tried, now) {
            None => self.stage = Stage::Done,
            Some(Work::Disarm(campaign)) => {
                self.tried.insert(campaign);
                self.queue.push_back(arming::disarm(campaign, &desk.device, chance));
                self.stage = Stage::Exec;
            }
            // The window was opened while the session went on.
            Some(Work::Arm(_)) if !self.is_examined => {
                self.examine(desk);
                self.stage = Stage::Inspect;
            }
            Some(Work::Arm(campaign)) => self.begin_arming(desk, campaign, now),
        }
    }

    /// Moves commands from the queue into the answer while it stays below the device's limit.
    fn fill(&mut self, reply: &mut Reply<'_>, encoding: Encoding, desk: &mut Desk, now: Utc) {
        let message = reply.message.header.message_id;
        let mut sent = 0;
        while let Some(planned) = self.queue.pop_front() {
            let entries = reply.plan(&planned);
            if reply.length(encoding) > self.message_bytes {
                reply.pop();
                if sent > 0 {
                    self.queue.push_front(planned);
                } else if let Some(kind) = planned.group_kind() {
                    self.regroup(kind, desk, now);
                    continue;
                } else if self.begin_sending(planned, encoding) {
                    self.send_piece(reply, encoding, desk, now);
                } else {
                    self.give_up(desk, now);
                }
                return;
            }
            sent += 1;
            for (id, entry) in entries {
                self.owed.insert((message, id));
                self.sent.insert((message, id), entry);
            }
        }
    }
}

impl DmSession {
    /// What was said in one message is said again in another, with the same commands.
    pub(super) fn renumber(&mut self, from: MessageId, to: MessageId) {
        let said: Vec<_> = self.sent.keys().filter(|key| key.0 == from).copied().collect();
        for key in said {
            if let Some(sent) = self.sent.remove(&key) {
                self.sent.insert((to, key.1), sent);
            }
            if self.owed.remove(&key) {
                self.owed.insert((to, key.1));
            }
        }
        if let Some(sending) = &mut self.sending {
            sending.renumber(from, to);
        }
    }

    /// Ends a session with a device that cannot take even one command in a message, nor a large
    /// object.
    pub(super) fn give_up(&mut self, desk: &mut Desk, now: Utc) {
        let reason = format!("a command does not fit into {} octets", self.message_bytes);
        desk.note(&*reason);
        if let Some(course) = self.course.take() {
            // Its next session tries another way, where there is one.
            let campaign = desk.campaign(course.campaign).cloned();
            let next = |way| campaign.as_ref().and_then(|campaign| campaign.way_after(way));
            update(desk, course.campaign, now, |row| {
                row.reason = Some(reason);
                if next(row.way).is_some() {
                    row.phase = ArmingPhase::UnicastNeeded;
                }
            });
        }
        self.queue.clear();
        self.sending = None;
        self.stage = Stage::Done;
    }
}

/// Changes the latest attempt for a campaign.
pub(super) fn update(
    desk: &mut Desk,
    campaign: CampaignId,
    now: Utc,
    change: impl FnOnce(&mut Arming),
) {
    let rows = desk.armings.iter_mut().filter(|row| row.campaign == campaign);
    if let Some(row) = rows.max_by_key(|row| row.attempt) {
        let before = row.clone();
        change(row);
        if *row != before {
            row.updated = now;
        }
    }
}

/// Returns an answer that refuses the header and every command with one code.
#[must_use]
pub fn refuse(message: &Message, code: StatusCode, challenge: Option<Challenge>) -> Message {
    let mut reply = Reply::to(message);
    reply.status(code, challenge);
    for command in message.commands.iter().filter(|command| command.wants_status()) {
        reply.answer(command, code);
    }
    reply.finish()
}

/// An answer in the making. It has the number of the message that it answers: both sides count
/// from 1 and speak in turn.
pub(super) struct Reply<'m> {
    pub(super) message: Message,
    asked: &'m Header,
    last_id: u32,
}

impl<'m> Reply<'m> {
    fn to(message: &'m Message) -> Self {
        let asked = &message.header;
        let limit = u64::try_from(Limits::default().message_bytes).unwrap_or(u64::MAX);
        let header = Header {
            session_id: asked.session_id.clone(),
            message_id: asked.message_id,
            target: Location::new(asked.source.uri.clone()),
            source: Location::named(asked.target.uri.clone(), SERVER_ID),
            respond_to: None,
            credential: None,
            meta: Some(Meta {
                max_message_size: Some(limit),
                max_object_size: Some(Limits::default().object_bytes),
                ..Meta::default()
            }),
        };
        let message = Message { header, commands: Vec::new(), is_final: true };
        Self { message, asked, last_id: 0 }
    }

    fn new(message: &'m Message, respond_to: String) -> Self {
        let mut reply = Self::to(message);
        reply.message.header.respond_to = Some(respond_to);
        reply
    }

    pub(super) fn push(&mut self, make: impl FnOnce(CommandId) -> Command) -> CommandId {
        self.last_id += 1;
        let id = CommandId(self.last_id);
        self.message.commands.push(make(id));
        id
    }

    /// Puts a command into the message; returns it and its members as they are sent.
    fn plan(&mut self, planned: &Planned) -> Vec<(CommandId, Sent)> {
        let mut entries = Vec::new();
        let mut next = self.last_id;
        let command = planned.command(&mut |planned, group| {
            next += 1;
            entries.push((CommandId(next), Sent { planned: planned.clone(), group }));
            CommandId(next)
        });
        self.last_id = next;
        self.message.commands.push(command);
        entries
    }

    /// Takes the last command back, with its members.
    pub(super) fn pop(&mut self) {
        if let Some(command) = self.message.commands.pop() {
            self.last_id = command.id().0 - 1;
        }
    }

    fn status(&mut self, code: StatusCode, challenge: Option<Challenge>) {
        let asked = self.asked;
        self.push(|id| {
            Command::Status(Status { challenge, ..Status::for_header(id, asked, code) })
        });
    }

    fn answer(&mut self, command: &Command, code: StatusCode) {
        let message = self.asked.message_id;
        self.push(|id| {
            Command::Status(Status::new(id, message, command.id(), command.verb(), code))
        });
    }

    fn alert(&mut self, code: AlertCode, items: Vec<Item>) {
        self.push(|id| Command::Alert(Alert { id, code, correlator: None, items }));
    }

    fn ask_for_more(mut self) -> Message {
        self.alert(AlertCode::NEXT_MESSAGE, Vec::new());
        self.message.is_final = false;
        self.message
    }

    pub(super) fn length(&self, encoding: Encoding) -> usize {
        encoding.length(&self.message)
    }

    fn finish(self) -> Message {
        self.message
    }
}
