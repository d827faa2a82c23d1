//! One DM message in, one out: stored state is read before it is judged, and written before the
//! answer leaves.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use proto::{
    crypto::{Digest, sha256},
    dm::{
        alert::GenericAlert,
        auth::Mac,
        code::StatusCode,
        encoding::{Encoding, MetaOrder},
        fumo::UpdateRequest,
        syncml::{Command, Message},
    },
    ids::DeviceId,
    time::Utc,
};

use crate::{
    campaign::model::{CampaignState, Way},
    doors::come_back,
    engine::{
        Desk, Limits, latest,
        session::{DmSession, Opening, Received, refuse},
    },
    fleet::{
        arming::{Arming, ArmingPhase},
        audit::{Actor, Audit},
        profile::Quirk,
        store::{FleetStore, StoreError},
    },
    random::RandomBytes,
};

/// Tries at a row that others change too.
const MAX_TRIES: u32 = 8;

/// How long rows that a session has read and written are taken for those that are stored. Another
/// writer's change of one is found when it is written, one of a campaign after this time.
const DESK_KEPT: Duration = Duration::from_secs(1);

/// What is kept of one device between its messages: the session that goes on, and the last answer,
/// so that a device that has not got it gets the same one again.
#[derive(Debug, Default)]
pub struct Conversation {
    session: Option<DmSession>,
    answered: Option<(Digest, Spoken)>,
    /// What is stored of the device, as of this moment.
    desk: Option<(Utc, Desk)>,
}

/// A message of a device, as octets and as what they say.
#[derive(Debug, Clone, Copy)]
pub struct Heard<'a> {
    /// The octets that came.
    pub octets: &'a [u8],
    /// What they say.
    pub message: &'a Message,
    /// The text that ties it to a session, from the address that it came to.
    pub token: Option<&'a str>,
    /// The proof over the octets that came beside them.
    pub mac: Option<&'a Mac>,
}

impl<'a> Heard<'a> {
    /// The form that the message came in, and in which it is answered.
    fn encoding(&self) -> Encoding {
        Encoding::recognise(self.octets)
    }

    fn received(&self) -> Received<'a> {
        let mac = self.mac.map(|mac| (mac, self.octets));
        Received { message: self.message, encoding: self.encoding(), mac }
    }

    fn speak(&self, session: &DmSession, desk: &Desk, reply: &Message) -> Spoken {
        let octets = self.say(desk, reply);
        let mac = session.mac(&desk.device, &octets);
        Spoken { octets, mac }
    }

    /// Writes a message as the device's client reads it.
    fn say(&self, desk: &Desk, message: &Message) -> Bytes {
        let order = match desk.device.profile.quirks.contains(&Quirk::TypeFirst) {
            true => MetaOrder::TypeFirst,
            false => MetaOrder::FormatFirst,
        };
        self.encoding().emit_ordered(message, order).into()
    }
}

/// What is said to a device: SyncML in the form of its message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spoken {
    /// The message.
    pub octets: Bytes,
    /// The proof of this server that goes beside it.
    pub mac: Option<Mac>,
}

/// What becomes of a message. The octets are SyncML in the form of the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The session goes on, or has just ended.
    Answered(Spoken),
    /// The message came before; this is the answer that it got.
    Repeated(Spoken),
    /// Whoever sent it has not tried to prove to be the device.
    Challenged(Bytes),
    /// Whoever sent it has tried to prove to be the device, and failed.
    Wrong(Bytes),
    /// There is no such device.
    Unknown(Bytes),
    /// There is no place: the answer says when to come back.
    PutOff(Bytes),
    /// Too many failures: come back after this time.
    Locked(Duration),
}

impl Conversation {
    /// Tells whether a session goes on.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.session.as_ref().is_some_and(|session| !session.is_finished())
    }

    /// Answers a message that claims to come from `id`; what it changes is stored by then.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the state cannot be read or written: nothing has happened then.
    pub async fn answer(
        &mut self,
        store: &dyn FleetStore,
        (now, limits): (Utc, Limits),
        id: &DeviceId,
        heard: Heard<'_>,
        chance: RandomBytes<'_>,
    ) -> Result<Answer, StoreError> {
        let digest = sha256(&[heard.octets]);
        if let Some((answered, reply)) = &self.answered
            && *answered == digest
        {
            return Ok(Answer::Repeated(reply.clone()));
        }
        Ok(match self.judge(store, (now, limits), id, heard, chance).await? {
            None => unknown(heard),
            Some((Judged::Session(session, reply), desk)) => {
                self.desk = (!session.is_finished()).then_some((now, desk));
                self.session = Some(*session);
                self.answered = Some((digest, reply.clone()));
                Answer::Answered(reply)
            }
            Some((Judged::Stranger(reply), _)) => Answer::Challenged(reply),
            Some((Judged::Wrong(reply), _)) => Answer::Wrong(reply),
            Some((Judged::Locked(wait), _)) => Answer::Locked(wait),
        })
    }

    /// Reads, judges and stores, again when somebody else changed a row meanwhile.
    async fn judge(
        &mut self,
        store: &dyn FleetStore,
        (now, limits): (Utc, Limits),
        id: &DeviceId,
        heard: Heard<'_>,
        chance: RandomBytes<'_>,
    ) -> Result<Option<(Judged, Desk)>, StoreError> {
        let mut tries = 0;
        let is_fresh = |read: Utc| read <= now && now.since(read) < DESK_KEPT;
        let mut kept = self.desk.take().filter(|(read, _)| is_fresh(*read));
        loop {
            let mut before = match kept.take() {
                Some((_, desk)) => desk,
                None => match read(store, id).await? {
                    Some(desk) => desk,
                    None => return Ok(None),
                },
            };
            if asks_for_update(heard.message) {
                add_running(store, &mut before).await?;
            }
            let mut desk = before.clone();
            let running =
                self.session.as_ref().filter(|it| it.is_continued_by(heard.message, heard.token));
            let judged = match running {
                Some(session) => {
                    let mut session = Box::new(session.clone());
                    let reply = session.handle(&mut desk, heard.received(), now, chance);
                    let spoken = heard.speak(&session, &desk, &reply);
                    Judged::Session(session, spoken)
                }
                None => match DmSession::open(&mut desk, heard.received(), now, limits, chance) {
                    Opening::Accepted(session, reply) => {
                        let spoken = heard.speak(&session, &desk, &reply);
                        Judged::Session(session, spoken)
                    }
                    Opening::Challenged(reply) => Judged::Stranger(heard.say(&desk, &reply)),
                    Opening::Wrong(reply) => Judged::Wrong(heard.say(&desk, &reply)),
                    Opening::Locked(wait) => Judged::Locked(wait),
                },
            };
            match write(store, now, &before, &desk).await {
                Ok(()) => {
                    desk.stored(&before);
                    return Ok(Some((judged, desk)));
                }
                Err(StoreError::Conflict(_)) if tries < MAX_TRIES => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }
}

/// Returns the answer to a device that is not enrolled.
#[must_use]
pub fn unknown(heard: Heard<'_>) -> Answer {
    let refusal = refuse(heard.message, StatusCode::NOT_FOUND, None);
    Answer::Unknown(heard.encoding().emit(&refusal).into())
}

/// Returns the answer to a device for which there is no place until `after`.
#[must_use]
pub fn put_off(heard: Heard<'_>, after: Utc) -> Answer {
    let mut refusal = refuse(heard.message, StatusCode::RETRY_LATER, None);
    refusal.header.respond_to = Some(come_back(&heard.message.header.target.uri, after));
    Answer::PutOff(heard.encoding().emit(&refusal).into())
}

enum Judged {
    Session(Box<DmSession>, Spoken),
    Stranger(Bytes),
    Wrong(Bytes),
    Locked(Duration),
}

/// Reads what concerns a device; `None` when it is not enrolled.
///
/// # Errors
///
/// [`StoreError`] when it cannot be read.
pub async fn read(store: &dyn FleetStore, id: &DeviceId) -> Result<Option<Desk>, StoreError> {
    let Some((device, armings)) = store.desk(id).await? else { return Ok(None) };
    let mut campaigns = Vec::new();
    for row in latest(&armings).filter(|row| is_unsettled(row)) {
        campaigns.extend(store.campaign(row.campaign).await?);
    }
    let mut packages = BTreeMap::new();
    for campaign in campaigns.iter().filter(|it| it.delivery.ways.contains(&Way::Direct)) {
        packages.extend(store.package(campaign.id).await?.map(|package| (campaign.id, package)));
    }
    Ok(Some(Desk { device, armings, campaigns, packages, notes: Vec::new() }))
}

/// A device that asks may get what it was not selected for.
// spec: oma-004 6.1.3 (the server looks for relevant updates)
async fn add_running(store: &dyn FleetStore, desk: &mut Desk) -> Result<(), StoreError> {
    for campaign in store.campaigns().await? {
        let known = desk.campaign(campaign.id).is_some();
        if campaign.state == CampaignState::Running && !known {
            desk.campaigns.push(campaign);
        }
    }
    Ok(())
}

fn asks_for_update(message: &Message) -> bool {
    message.commands.iter().any(|command| {
        let Command::Alert(alert) = command else { return false };
        alert.items.iter().any(|item| {
            GenericAlert::from_item(item)
                .is_ok_and(|generic| UpdateRequest::from_alert(&generic).is_some())
        })
    })
}

fn is_unsettled(row: &Arming) -> bool {
    row.phase.is_open()
        || matches!(
            row.phase,
            ArmingPhase::Reported
                | ArmingPhase::Deferred
                | ArmingPhase::Unknown
                | ArmingPhase::UnicastNeeded
        )
}

/// Writes what differs from `before`, with one audit line.
///
/// # Errors
///
/// [`StoreError::Conflict`] when a row was changed meanwhile: read and judge again.
pub async fn write(
    store: &dyn FleetStore,
    now: Utc,
    before: &Desk,
    after: &Desk,
) -> Result<(), StoreError> {
    let changes = after.changes_since(before);
    if changes.is_empty() && after.notes.is_empty() {
        return Ok(());
    }
    let audit = Audit {
        actor: Actor::Device,
        action: "device.session",
        subject: after.device.id.as_str().to_owned(),
        detail: after.notes.join("; "),
    };
    store.apply(now, audit, changes).await
}
