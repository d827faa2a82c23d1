//! Update requests of a device or its user.

use proto::{
    dm::{
        code::{AlertCode, StatusCode},
        fumo::{UpdateInitiator, UpdateRequest},
    },
    ids::CampaignId,
    time::Utc,
};

use super::{
    context::{Context, DeviceContext, audit_note, campaign_of, latest},
    outbox::PlannedCommand,
    tasks::{ArmingTask, SessionTasks},
};
use crate::{
    campaign::{
        model::{Campaign, CampaignState},
        update_requests::UpdateRequestPolicy,
    },
    fleet::{attempt::ArmingAttempt, device::ObjectOrigin},
    random::fresh_correlator,
};

/// Decision on an update request.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Decision {
    /// This session arms the campaign of this version.
    Granted(String),
    /// A later session may arm one.
    Later(String),
    /// The device is armed already.
    InProgress,
    /// No campaign is relevant.
    Nothing,
    /// The request names an object that this device does not have.
    UnknownObject,
}

impl Decision {
    /// Returns the status code; 200 promises commands in this session.
    // spec: oma-004 6.1 (200 commands an update in this session, 202 notes the request)
    const fn code(&self) -> StatusCode {
        match self {
            Self::Granted(_) => StatusCode::OK,
            Self::Later(_) | Self::InProgress | Self::Nothing | Self::UnknownObject => {
                StatusCode::ACCEPTED
            }
        }
    }

    /// Returns the text that is displayed to the user.
    fn text(&self) -> String {
        match self {
            Self::Granted(version) => format!("Version {version} is being prepared."),
            Self::Later(version) => format!("Version {version} will follow later."),
            Self::InProgress => "An update is on its way to this device already.".to_owned(),
            Self::Nothing => "There is no update for this device at present.".to_owned(),
            Self::UnknownObject => "This server does not know that part of the device.".to_owned(),
        }
    }
}

/// Handles a request; a campaign that it selects is armed later in this session. Returns the status
/// code, and the text to the user who asks.
pub(super) fn on_update_request(
    ctx: &mut Context<'_>,
    tasks: &mut SessionTasks,
    request: &UpdateRequest,
) -> (StatusCode, Option<PlannedCommand>) {
    let decision = if names_firmware(ctx.stored, request) {
        decide(ctx, tasks)
    } else {
        Decision::UnknownObject
    };
    audit_note(ctx, format!("update request of the {}: {decision:?}", request.initiator));
    // spec: oma-004 6.1 (the user who asks is notified in the same session)
    let text = (request.initiator == UpdateInitiator::User)
        .then(|| PlannedCommand::display_alert(AlertCode::DISPLAY, &decision.text()));
    (decision.code(), text)
}

fn decide(ctx: &mut Context<'_>, tasks: &mut SessionTasks) -> Decision {
    if let Some(campaign) = newest_relevant(ctx.stored, ctx.now) {
        let (id, version) = (campaign.id, campaign.terms.firmware_version.clone());
        let policy = ctx.stored.device.update_requests.unwrap_or(campaign.update_requests);
        let is_selected = latest(&ctx.stored.attempts).any(|row| row.campaign == id);
        if !is_selected && policy != UpdateRequestPolicy::Nothing {
            let correlator = fresh_correlator(ctx.random);
            let device = ctx.stored.device.id.clone();
            ctx.stored.attempts.push(ArmingAttempt::pending(device, id, 1, correlator, ctx.now));
        }
        if policy == UpdateRequestPolicy::Later && !is_in_progress(ctx.stored, id) {
            tasks.postpone(id);
            return Decision::Later(version);
        }
    }
    match tasks.next_arming(ctx) {
        Some(ArmingTask::Arm(id)) => {
            let campaign = campaign_of(ctx.stored, id);
            let version = campaign.map(|found| found.terms.firmware_version.clone());
            Decision::Granted(version.unwrap_or_default())
        }
        Some(ArmingTask::Disarm(_)) | None => without_task(ctx.stored),
    }
}

/// Returns the decision when there is no task at present.
fn without_task(context: &DeviceContext) -> Decision {
    let mut open =
        latest(&context.attempts).filter(|row| row.result_code.is_none() && row.phase.is_open());
    match open.next() {
        None => Decision::Nothing,
        Some(row) if row.was_accepted() => Decision::InProgress,
        Some(row) => {
            let version =
                campaign_of(context, row.campaign).map(|it| it.terms.firmware_version.clone());
            Decision::Later(version.unwrap_or_default())
        }
    }
}

fn is_in_progress(context: &DeviceContext, id: CampaignId) -> bool {
    latest(&context.attempts).any(|row| row.campaign == id && row.was_accepted())
}

/// Returns whether a request is about the firmware: no object means all of them, and some clients
/// name a node below the object.
// spec: oma-004 6.1.3 (URI of the object, or none for all)
fn names_firmware(context: &DeviceContext, request: &UpdateRequest) -> bool {
    let own = &context.device.object;
    let named = request.object.as_deref().filter(|uri| !uri.trim_end_matches('/').is_empty());
    // While the place is not known, an object elsewhere is where it is looked for.
    own.origin == ObjectOrigin::Assumed || named.is_none_or(|uri| own.contains(uri))
}

/// Returns the newest running campaign with another version than the device runs, and without an
/// ended attempt.
fn newest_relevant(context: &DeviceContext, now: Utc) -> Option<&Campaign> {
    let fits = |campaign: &&Campaign| {
        let terms = &campaign.terms;
        let runs = context.device.firmware_version.as_ref() == Some(&terms.firmware_version);
        let open = campaign.window.is_some_and(|window| now < window.closes);
        let ended = latest(&context.attempts)
            .any(|row| row.campaign == campaign.id && !row.phase.needs_broadcast());
        campaign.state == CampaignState::Running
            && open
            && !runs
            && campaign.delivery.software.is_none()
            && !ended
            && terms.vendor == context.device.vendor
            && terms.classes.contains(&context.device.class)
    };
    let campaigns = context.campaigns.iter().filter(fits);
    campaigns.max_by_key(|campaign| (campaign.terms.epoch, campaign.terms.sequence))
}
