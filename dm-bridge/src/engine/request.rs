//! A device, or its user, asks for an update.

use proto::{
    dm::{
        code::{AlertCode, StatusCode},
        fumo::{Asker, UpdateRequest},
    },
    ids::CampaignId,
    time::Utc,
};

use super::{
    Desk,
    command::Planned,
    session::{DmSession, Stage},
};
use crate::{
    arming::{self, Work},
    campaign::{
        model::{Campaign, CampaignState},
        on_request::OnRequest,
    },
    fleet::arming::Arming,
    random::{RandomBytes, fresh_correlator},
};

/// What the server makes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Decision {
    /// This session brings the campaign of this version.
    Commanded(String),
    /// A later session may bring one.
    Later(String),
    /// The device works on one already.
    UnderWay,
    /// There is none.
    Nothing,
    /// The request is about an object that this device is not known to have.
    Stranger,
}

impl Decision {
    /// 200 promises commands in this session.
    // spec: oma-004 6.1 (200 commands an update in this session, 202 notes the request)
    const fn code(&self) -> StatusCode {
        match self {
            Self::Commanded(_) => StatusCode::OK,
            Self::Later(_) | Self::UnderWay | Self::Nothing | Self::Stranger => {
                StatusCode::ACCEPTED
            }
        }
    }

    /// What the user is told.
    fn text(&self) -> String {
        match self {
            Self::Commanded(version) => format!("Version {version} is being prepared."),
            Self::Later(version) => format!("Version {version} will follow later."),
            Self::UnderWay => "An update is on its way to this device already.".to_owned(),
            Self::Nothing => "There is no update for this device at present.".to_owned(),
            Self::Stranger => "This server does not know that part of the device.".to_owned(),
        }
    }
}

impl DmSession {
    /// Answers a request; what it selects is armed by the further course of the session.
    pub(super) fn take_request(
        &mut self,
        desk: &mut Desk,
        request: &UpdateRequest,
        now: Utc,
        chance: RandomBytes<'_>,
    ) -> StatusCode {
        let decision = if names_firmware(desk, request) {
            self.decide(desk, now, chance)
        } else {
            Decision::Stranger
        };
        desk.note(format!("the {} asked for an update: {decision:?}", request.asker));
        // spec: oma-004 6.1 (a user who asks is told in the same session)
        if request.asker == Asker::User {
            self.queue.push_back(Planned::tell(AlertCode::DISPLAY, &decision.text()));
        }
        if self.stage == Stage::Done {
            self.stage = Stage::Choose;
        }
        decision.code()
    }

    fn decide(&mut self, desk: &mut Desk, now: Utc, chance: RandomBytes<'_>) -> Decision {
        if let Some(campaign) = newest_relevant(desk, now) {
            let (id, version) = (campaign.id, campaign.terms.firmware_version.clone());
            let policy = desk.device.on_request.unwrap_or(campaign.on_request);
            let is_selected = desk.latest().any(|row| row.campaign == id);
            if !is_selected && policy != OnRequest::Nothing {
                let correlator = fresh_correlator(chance);
                let device = desk.device.id.clone();
                desk.armings.push(Arming::pending(device, id, 1, correlator, now));
            }
            if policy == OnRequest::Later && !is_under_way(desk, id) {
                self.tried.insert(id);
                return Decision::Later(version);
            }
        }
        match arming::next_work(&desk.armings, &desk.campaigns, &self.tried, now) {
            Some(Work::Arm(id)) => {
                let version = desk.campaign(id).map(|found| found.terms.firmware_version.clone());
                Decision::Commanded(version.unwrap_or_default())
            }
            Some(Work::Disarm(_)) | None => waiting(desk),
        }
    }
}

/// What is left when nothing can be commanded at this moment.
fn waiting(desk: &Desk) -> Decision {
    let mut open = desk.latest().filter(|row| row.result_code.is_none() && row.phase.is_open());
    match open.next() {
        None => Decision::Nothing,
        Some(row) if row.armed() => Decision::UnderWay,
        Some(row) => {
            let version = desk.campaign(row.campaign).map(|it| it.terms.firmware_version.clone());
            Decision::Later(version.unwrap_or_default())
        }
    }
}

fn is_under_way(desk: &Desk, id: CampaignId) -> bool {
    desk.latest().any(|row| row.campaign == id && row.armed())
}

/// A request without an object is about all that the device has, which is one. Some clients name a
/// node below the object.
// spec: oma-004 6.1.3 (URI of the object, or none for all)
fn names_firmware(desk: &Desk, request: &UpdateRequest) -> bool {
    let own = desk.device.object.trim_end_matches('/');
    request.object.as_deref().map(|uri| uri.trim_end_matches('/')).is_none_or(|uri| {
        uri.is_empty()
            || uri.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// Returns the newest running campaign that would bring the device something it does not run, and
/// whose attempts have not ended.
fn newest_relevant(desk: &Desk, now: Utc) -> Option<&Campaign> {
    let fits = |campaign: &&Campaign| {
        let terms = &campaign.terms;
        let runs = desk.device.firmware_version.as_ref() == Some(&terms.firmware_version);
        let open = campaign.window.is_some_and(|window| now < window.closes);
        let ended = desk.latest().any(|row| row.campaign == campaign.id && !row.phase.needs_air());
        campaign.state == CampaignState::Running
            && open
            && !runs
            && campaign.delivery.software.is_none()
            && !ended
            && terms.vendor == desk.device.vendor
            && terms.classes.contains(&desk.device.class)
    };
    let campaigns = desk.campaigns.iter().filter(fits);
    campaigns.max_by_key(|campaign| (campaign.terms.epoch, campaign.terms.sequence))
}
