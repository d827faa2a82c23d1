//! The way of one device to its Exec: what is asked, laid down and started, and in which groups.
//!
//! ```text
//! whole     Sequence { 1101, Replace …, Replace PkgURL, Exec }        where it fits one message
//! in steps  1101;  Atomic { Replace … };  Sequence { Replace PkgURL, Exec }
//! singly    1101;  Replace …, Replace PkgURL;  Exec                   for clients without groups
//! ```
//!
//! A device may run the commands of one message in any order, so an Exec is gated by a Sequence or
//! travels in a message after what it needs. A step is made of what has not succeeded so far: what
//! a device kept back because of an earlier member comes again without that member.

use std::collections::BTreeSet;

use proto::{
    dm::{
        code::StatusCode,
        fumo::ResultCode,
        nodes::broadcast,
        syncml::{CommandId, Message, MessageId, Verb},
    },
    ids::CampaignId,
    time::Utc,
};

use super::{
    Desk,
    command::{Fact, GroupKind, Need, Planned},
    session::{DmSession, Stage, update},
};
use crate::{
    arming::{self, LaidDown, Preparation},
    campaign::model::Way,
    fleet::{arming::ArmingPhase, profile::Quirk},
};

/// Which groups a device takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Groups {
    pub(super) sequence: bool,
    pub(super) atomic: bool,
}

impl Groups {
    /// Returns what a device takes that has shown nothing yet.
    pub(super) fn of(quirks: &BTreeSet<Quirk>) -> Self {
        let takes = |quirk| !quirks.contains(&quirk);
        Self { sequence: takes(Quirk::NoSequence), atomic: takes(Quirk::NoAtomic) }
    }
}

/// What is left of the way of one device to its Exec.
#[derive(Debug, Clone)]
pub(super) struct Course {
    pub(super) campaign: CampaignId,
    /// Revision of the window that the device is being armed for.
    pub(super) revision: u32,
    ask: Option<Planned>,
    /// What comes one after the other: roots, which a device believes for good, and new nodes.
    first: Vec<Planned>,
    writes: Vec<Planned>,
    /// The address of what is started, and the Exec.
    start: Vec<Planned>,
    /// Why the Exec must not be sent.
    blocked: Option<String>,
    is_over: bool,
    /// Whether all of it may still fit one message.
    may_fit: bool,
    /// What was left before the last step, and how it was grouped.
    before: Option<(Vec<Planned>, Groups, bool)>,
}

impl Course {
    fn new((campaign, revision): (CampaignId, u32), laid: LaidDown, exec: Planned) -> Self {
        Self {
            campaign,
            revision,
            ask: None,
            first: laid.first,
            writes: laid.writes,
            start: laid.address.into_iter().chain([exec]).collect(),
            blocked: None,
            is_over: false,
            may_fit: true,
            before: None,
        }
    }

    /// Returns the commands of the next step; `None` when the last one has changed nothing.
    fn step(&mut self, groups: Groups) -> Option<Vec<Planned>> {
        let left: Vec<_> = [self.ask.as_slice(), &self.first, &self.writes, &self.start].concat();
        let state = (left.clone(), groups, self.may_fit);
        if self.before.replace(state.clone()) == Some(state) {
            return None;
        }
        // spec: oma-dm 4.2 (what gates an Exec is in its Sequence)
        if groups.sequence && self.may_fit {
            return Some(grouped(GroupKind::Sequence, left));
        }
        if let Some(ask) = &self.ask {
            return Some(vec![ask.clone()]);
        }
        if !self.first.is_empty() {
            let first = self.first.clone();
            let one_by_one = groups.sequence;
            return Some(if one_by_one { grouped(GroupKind::Sequence, first) } else { first });
        }
        let mut writes = self.writes.clone();
        let mut start = self.start.clone();
        if !groups.sequence
            && let Some(exec) = start.pop()
        {
            writes.append(&mut start);
            start.push(exec);
        }
        if !writes.is_empty() {
            // spec: oma-dm 4.3 (what belongs together is written together)
            let together = groups.atomic;
            return Some(if together { grouped(GroupKind::Atomic, writes) } else { writes });
        }
        Some(grouped(GroupKind::Sequence, start))
    }

    pub(super) const fn is_over(&self) -> bool {
        self.is_over
    }

    /// Takes note that a command need not be sent again.
    fn leave_out(&mut self, planned: &Planned) {
        for left in [&mut self.first, &mut self.writes, &mut self.start] {
            if let Some(place) = left.iter().position(|it| it == planned) {
                left.remove(place);
                return;
            }
        }
    }

    /// A node that was to be created is there: what it holds is overwritten.
    fn overwrite(&mut self, planned: &Planned) {
        let Some(instead) = planned.overwriting() else { return self.leave_out(planned) };
        for left in [&mut self.first, &mut self.writes, &mut self.start] {
            for place in left.iter_mut().filter(|it| *it == planned) {
                *place = instead.clone();
            }
        }
    }
}

/// One command is no group.
fn grouped(kind: GroupKind, members: Vec<Planned>) -> Vec<Planned> {
    if members.len() < 2 { members } else { vec![Planned::group(kind, members)] }
}

/// Tells whether a command was carried out: some codes of the 2xx say that it was not.
pub(super) fn is_carried_out(code: StatusCode) -> bool {
    let kept_back =
        [StatusCode::CANCELLED, StatusCode::NOT_EXECUTED, StatusCode::ROLLED_BACK].contains(&code);
    code.is_success() && !kept_back
}

impl DmSession {
    pub(super) fn begin_arming(&mut self, desk: &mut Desk, id: CampaignId, now: Utc) {
        // One try in each session, however it ends.
        self.tried.insert(id);
        let Some(row) = desk.latest().find(|row| row.campaign == id).cloned() else { return };
        let laid = match row.way {
            Way::Broadcast => self.for_broadcast(desk, id, now),
            Way::Download | Way::Direct => self.for_unicast(desk, (id, row.way), now),
        };
        match laid {
            Ok((revision, laid)) => {
                let Some(campaign) = desk.campaign(id) else { return };
                let Some(exec) = arming::exec(campaign, &desk.device, &row) else { return };
                let mut course = Course::new((id, revision), laid, exec);
                course.ask = self.question(desk, id);
                self.course = Some(course);
                self.stage = Stage::Course;
            }
            Err((phase, reason)) => update(desk, id, now, |row| {
                row.phase = phase.unwrap_or(row.phase);
                row.reason = Some(reason);
            }),
        }
    }

    fn for_broadcast(&self, desk: &Desk, id: CampaignId, now: Utc) -> Laid {
        let found = desk.campaign(id).and_then(|campaign| Some((campaign, campaign.armable(now)?)));
        let Some((campaign, (window, air))) = found else {
            return Err((None, "the campaign is not on air".to_owned()));
        };
        if let Some(unfit) = self.unfit(campaign.terms.largest_block, campaign.terms.stored_bytes) {
            let (phase, reason) = unfit;
            return Err((Some(phase), reason));
        }
        // A device that does not say which root it holds is not brought any.
        let held = self.facts.get(&Fact::Root).and_then(|text| text.trim().parse().ok());
        let roots = held.map_or(Ok(Vec::new()), |held| campaign.papers.roots_after(held)).map_err(
            |missing| (None, format!("the device lacks root {missing}, which was not handed in")),
        )?;
        let preparation = Preparation { campaign, window, air, device: &desk.device, roots };
        Ok((window.revision, arming::lay_down(&preparation, now)))
    }

    /// What the user is asked first, where the campaign wants it. A device that runs the version
    /// already has nothing to ask its user about.
    // spec: oma-001 8.1.1.6 (the device's firmware is known: it needs the update)
    fn question(&self, desk: &Desk, id: CampaignId) -> Option<Planned> {
        let campaign = desk.campaign(id)?;
        let text = campaign.delivery.ask_user.as_ref()?;
        let runs = campaign.delivery.software.is_none()
            && self.facts.get(&Fact::Firmware) == Some(&campaign.terms.firmware_version);
        (!runs && !self.agreed.contains(&id)).then(|| arming::ask(id, text))
    }

    // spec: oma-002 8 (a plain 1.0 device is told apart by the version node)
    /// Returns why the device cannot take a campaign, before anything is sent.
    fn unfit(&self, largest_block: u32, stored_bytes: u64) -> Option<(ArmingPhase, String)> {
        // A later 1.x adds nodes that nobody has to write; another first number is another thing.
        let major = |version: &str| version.trim().split('.').next().map(str::to_owned);
        let version = self.facts.get(&Fact::BroadcastVersion).and_then(|version| major(version));
        if version != major(broadcast::VERSION_VALUE) {
            let reason = "the device has no Ext/Broadcast of version 1.0".to_owned();
            return Some((ArmingPhase::UnicastNeeded, reason));
        }
        let limit = |fact| self.facts.get(&fact).and_then(|text| text.trim().parse::<u64>().ok());
        let block = limit(Fact::MaxBlockSymbols).filter(|limit| *limit < largest_block.into());
        if let Some(limit) = block {
            let reason = format!("blocks have {largest_block} symbols, the device takes {limit}");
            return Some((ArmingPhase::Refused, reason));
        }
        let room = limit(Fact::MaxStorage).map(|kibibytes| kibibytes.saturating_mul(1024));
        if let Some(room) = room.filter(|room| *room < stored_bytes) {
            let reason = format!("the package has {stored_bytes} octets, the device holds {room}");
            return Some((ArmingPhase::Refused, reason));
        }
        None
    }

    /// Takes the next step of the course, or ends it.
    pub(super) fn go_on_course(&mut self, desk: &mut Desk, now: Utc) {
        self.stage = Stage::Choose;
        let Some(mut course) = self.course.take().filter(|course| !course.is_over) else { return };
        let stuck = || "the device does not carry out what it is sent".to_owned();
        let next = match course.blocked.take() {
            Some(reason) => Err(reason),
            None => course.step(self.groups).ok_or_else(stuck),
        };
        match next {
            Ok(commands) => {
                self.queue.extend(commands);
                self.course = Some(course);
                self.stage = Stage::Course;
            }
            Err(reason) => {
                desk.note(format!("not armed: {reason}"));
                // The attempt stays pending: no Exec was sent, so its correlator is unused.
                update(desk, course.campaign, now, |row| row.reason = Some(reason));
            }
        }
    }

    /// Makes smaller groups, since one does not fit into a message.
    pub(super) fn regroup(&mut self, kind: GroupKind, desk: &mut Desk, now: Utc) {
        match (kind, &mut self.course) {
            (GroupKind::Sequence, Some(course)) if course.may_fit => course.may_fit = false,
            (GroupKind::Sequence, _) => self.groups.sequence = false,
            (GroupKind::Atomic, _) => self.groups.atomic = false,
        }
        self.go_on_course(desk, now);
    }

    /// Takes note of the groups that a message refuses, wherever in it their members are answered.
    pub(super) fn take_refusals(&mut self, message: &Message) {
        let refused = message.statuses().filter(|status| !status.code.is_success());
        let keys = refused.map(|status| (status.message_ref, status.command_ref));
        self.refused = keys.filter(|key| self.kind_of(*key).is_some()).collect();
    }

    fn kind_of(&self, key: (MessageId, CommandId)) -> Option<GroupKind> {
        self.sent.get(&key).and_then(|sent| sent.planned.group_kind())
    }

    /// Returns what an answer to a member is worth: what belongs to a group that was refused, and
    /// was not done all the same, is sent without it.
    // spec: oma-dm 4.3 (406, 500, 507: the same without the group)
    pub(super) fn within(
        &self,
        group: Option<(MessageId, CommandId)>,
        code: StatusCode,
    ) -> StatusCode {
        let Some(key) = group.filter(|key| self.refused.contains(key)) else { return code };
        let was_asked = [StatusCode::NOT_MODIFIED, StatusCode::CANCELLED, StatusCode::TIMED_OUT]
            .contains(&code);
        let stands =
            self.kind_of(key) == Some(GroupKind::Sequence) && (is_carried_out(code) || was_asked);
        if stands { code } else { StatusCode::NOT_EXECUTED }
    }

    pub(super) fn settle_group(&mut self, desk: &mut Desk, kind: GroupKind, code: StatusCode) {
        if code.is_success() {
            return;
        }
        desk.note(format!("{kind} answered {code}"));
        match kind {
            GroupKind::Sequence => self.groups.sequence = false,
            GroupKind::Atomic => self.groups.atomic = false,
        }
    }

    pub(super) fn settle_write(
        &mut self,
        desk: &mut Desk,
        (planned, code): (&Planned, StatusCode),
        (need, name): (Need, &'static str),
    ) {
        let Some(course) = &mut self.course else { return };
        if is_carried_out(code) {
            return course.leave_out(planned);
        }
        if code == StatusCode::NOT_EXECUTED || code == StatusCode::ROLLED_BACK {
            return;
        }
        if code == StatusCode::ALREADY_EXISTS && planned.verb() == Verb::Add {
            return course.overwrite(planned);
        }
        let reason = format!("{} of {name} answered {code}", planned.verb().as_str());
        match need {
            Need::Required => {
                course.blocked.get_or_insert(reason);
            }
            Need::Optional => {
                course.leave_out(planned);
                desk.note(reason);
            }
        }
    }

    /// The user's answer, which goes into the log with the DM session.
    // spec: oma-001 8.1.1.9
    pub(super) fn take_consent(
        &mut self,
        desk: &mut Desk,
        campaign: CampaignId,
        code: StatusCode,
        now: Utc,
    ) {
        if code == StatusCode::NOT_EXECUTED {
            return;
        }
        desk.note(format!("{campaign}: the user answered {code}"));
        let (phase, reason) = match code {
            StatusCode::OK => {
                self.agreed.insert(campaign);
                if let Some(course) = &mut self.course {
                    course.ask = None;
                }
                return;
            }
            StatusCode::NOT_MODIFIED | StatusCode::CANCELLED => {
                (ArmingPhase::Refused, "the user said no".to_owned())
            }
            StatusCode::NOT_SUPPORTED | StatusCode::NOT_DISPLAYABLE => {
                (ArmingPhase::Refused, format!("the device cannot ask its user: {code}"))
            }
            // Asked again in the next session.
            _ => (ArmingPhase::Pending, format!("the user did not answer: {code}")),
        };
        let refused = code == StatusCode::NOT_MODIFIED || code == StatusCode::CANCELLED;
        update(desk, campaign, now, |row| {
            row.phase = phase;
            row.reason = Some(reason);
            row.result_code = refused.then_some(ResultCode::USER_CANCELLED.0);
        });
        self.end_course();
    }

    /// Takes note that the course is at its end, well or not.
    pub(super) fn end_course(&mut self) {
        if let Some(course) = &mut self.course {
            course.is_over = true;
        }
    }
}

/// What is laid down for which revision of the window, or where the attempt stands instead.
type Laid = Result<(u32, LaidDown), (Option<ArmingPhase>, String)>;

impl DmSession {
    fn for_unicast(&self, desk: &Desk, (id, way): (CampaignId, Way), now: Utc) -> Laid {
        let campaign = desk.campaign(id);
        let window = campaign.and_then(|campaign| campaign.serves(now));
        // What does not read as such is no front of the package.
        let held = self.facts.get(&Fact::HeldPackage).and_then(|text| text.parse().ok());
        let package = desk.packages.get(&id).map(|package| (&**package, held));
        let laid = campaign.and_then(|campaign| {
            arming::lay_down_for_unicast(campaign, &desk.device, way, package)
        });
        let missing = || (None, "the package of the campaign is not here".to_owned());
        let (window, laid) = window.zip(laid).ok_or_else(missing)?;
        Ok((window.revision, laid))
    }
}
