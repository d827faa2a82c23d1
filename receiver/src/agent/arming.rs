//! The arming with a campaign, from the offer to the files that a restart needs.

use std::collections::BTreeMap;

use proto::{
    dm::fumo::{Phase, ResultCode},
    ids::ComponentId,
    time::{Now, Utc},
    trust::{
        Root, Verified,
        plan::{PlanHeader, plan_root},
    },
    tune_in::{TuneIn, Window},
    wire::WireError,
};

use super::{
    operations::{
        ask_for_consent, complete, device_class_of, evaluate_offer, is_occupied, reevaluate, tune,
    },
    owners::Owners,
};
use crate::{
    dm::{ArmRequest, FinalAlert, ReportSettings},
    flute::tuner::Tuner,
    store::{ObjectLayout, commands::StorageCommand},
    trust::root_file,
    update::{
        acceptance::{Acceptance, Accepted, CampaignOffer, Refusal, check_tune_in},
        operation::{ArmedCampaign, Exec},
    },
};

/// Windows and image servers that one arming may name.
const MAX_WINDOWS: usize = 16;

/// Evaluates a campaign and arms the device.
pub(super) fn arm(owners: &mut Owners, now: Now, request: ArmRequest) {
    let alert = |result, campaign| FinalAlert {
        correlator: request.correlator.clone(),
        operation: request.operation,
        result,
        campaign,
        subject: request.subject.clone(),
    };
    let (correlator, subject) = (request.correlator.as_ref(), request.subject.as_ref());
    let is_running = owners.update.is_armed() && owners.update.is_of(correlator);
    if !is_running && owners.dm.reports.holds(request.operation, correlator, subject) {
        return tracing::info!("the Exec is repeated before its result is acknowledged");
    }
    if owners.dm.update_request.is_unanswered_user() {
        tracing::info!("server did not notify the user who requested the update");
        return refuse(owners, now, alert(ResultCode::POLICY, None));
    }
    let windows = match offered_windows(&request) {
        Ok(windows) => windows,
        Err(error) => {
            tracing::info!(%error, "tune-in refused");
            return refuse(owners, now, alert(ResultCode::BAD_URL, None));
        }
    };
    if request.campaign.is_empty() && owners.update.is_armed() {
        return move_windows(owners, now, &request, &windows);
    }
    let (campaign, manifest) = (&request.campaign, &request.manifest);
    let offer = CampaignOffer { campaign, manifest, windows, carried: None };
    let verdict = evaluate_offer(owners, request.subject.as_ref(), &offer);
    let windows = offer.windows;
    match verdict {
        Ok(Acceptance::AlreadyInstalled(id)) => {
            refuse(owners, now, alert(ResultCode::UP_TO_DATE, Some(id)));
        }
        Ok(Acceptance::Accepted(accepted)) => {
            arm_campaign(owners, now, request, windows, *accepted)
        }
        Err(Refusal { result, reason, detail }) => {
            tracing::info!(%result, reason, detail, "campaign refused");
            refuse(owners, now, alert(result, None));
        }
    }
}

/// The last of the checks: what the device is doing already decides what a new arming means.
pub(super) fn arm_campaign(
    owners: &mut Owners,
    now: Now,
    request: ArmRequest,
    windows: Vec<(TuneIn, Window)>,
    accepted: Accepted,
) {
    let same = owners.update.armed().is_some_and(|armed| armed.is(&accepted.campaign));
    let late = !matches!(owners.update.phase(), Phase::Armed | Phase::Receiving | Phase::Suspended)
        || !owners.update.concerns(request.subject.as_ref());
    match (owners.update.accepted(), same) {
        (Some(_), true) if owners.update.is_of(request.correlator.as_ref()) => {
            owners.reception.move_windows(tuner(now, &request, &windows));
            owners.effects.mark_dirty();
            tune(owners, now);
        }
        (Some(running), _) if late || running.campaign.sequence >= accepted.campaign.sequence => {
            refuse_second(owners, now, request, &accepted);
        }
        (None, _) if is_occupied(owners) => refuse_second(owners, now, request, &accepted),
        (Some(_), _) => {
            complete(owners, now, Phase::Disarmed, ResultCode::DISARMED);
            pin(owners, now, request, windows, accepted);
        }
        (None, _) => pin(owners, now, request, windows, accepted),
    }
}

/// Everything that a restart needs is in files, and the journal names them, before the 202.
pub(super) fn pin(
    owners: &mut Owners,
    now: Now,
    request: ArmRequest,
    windows: Vec<(TuneIn, Window)>,
    accepted: Accepted,
) {
    let object = accepted.object;
    let plan_header = plan_header(request.plan_headers.clone(), object.component)
        .filter(|header| PlanHeader::parse(header, &object).is_ok());
    let armed = ArmedCampaign::new(&accepted, plan_header.as_deref().map(plan_root));
    let envelopes = [request.campaign.clone(), request.manifest.clone()];
    let files = armed.envelope_files(&envelopes).into_iter().zip(&envelopes);
    for (name, octets) in files.chain(armed.plan_header_file().zip(plan_header.as_ref())) {
        owners.effects.write_before_commit(name, octets.clone());
    }
    let layout = ObjectLayout::new(object.object_key, object.stored_sha256, object.oti);
    let tuner = tuner(now, &request, &windows);
    let class = device_class_of(owners, request.subject.as_ref()).class;
    owners.trust.record_accepted(class, &accepted.campaign);
    // spec: security 5 (the server's time counts over TLS)
    if let Some(server_now) = request.server_now.filter(|_| owners.dm.account.is_secure()) {
        owners.trust.raise_clock_floor(server_now);
    }
    let ArmRequest { operation, correlator, subject, .. } = request;
    owners.update.begin(Exec { operation, correlator, subject });
    let longest = std::time::Duration::from_secs(accepted.campaign.report_spread_max_s.into());
    let spread = request.report.spread.min(longest);
    owners.dm.reports.begin(ReportSettings { spread, ..request.report });
    owners.prompts.begin_operation();
    owners.reception.arm(object, tuner, plan_header);
    owners.update.arm(armed, accepted, envelopes);
    owners.update.await_window();
    owners.effects.mark_dirty();
    owners.effects.push_after_commit(StorageCommand::RemoveOtherObjects(vec![layout.clone()]));
    owners.effects.push(StorageCommand::Open(layout));
    reevaluate(owners, now);
    ask_for_consent(owners, now);
}

/// An Exec without documents moves the windows of the campaign that the device is armed with.
pub(super) fn move_windows(
    owners: &mut Owners,
    now: Now,
    request: &ArmRequest,
    windows: &[(TuneIn, Window)],
) {
    let Some(Accepted { campaign, .. }) = owners.update.accepted() else { return };
    let checked =
        windows.iter().try_for_each(|(tune_in, window)| check_tune_in(campaign, tune_in, *window));
    let result = match checked {
        Err(Refusal { result, reason, detail }) => {
            tracing::info!(%result, reason, detail, "moved windows refused");
            result
        }
        Ok(()) if !owners.update.is_of(request.correlator.as_ref()) => ResultCode::WRONG_STATE,
        Ok(()) => {
            owners.reception.move_windows(tuner(now, request, windows));
            owners.effects.mark_dirty();
            return tune(owners, now);
        }
    };
    let alert = FinalAlert {
        correlator: request.correlator.clone(),
        operation: request.operation,
        result,
        campaign: None,
        subject: request.subject.clone(),
    };
    refuse(owners, now, alert);
}

pub(super) fn refuse_second(
    owners: &mut Owners,
    now: Now,
    request: ArmRequest,
    accepted: &Accepted,
) {
    let alert = FinalAlert {
        correlator: request.correlator,
        operation: request.operation,
        result: ResultCode::WRONG_STATE,
        campaign: Some(accepted.campaign.id),
        subject: request.subject,
    };
    owners.dm.reports.push(now.utc, alert);
    owners.effects.mark_dirty();
}

/// Queues the result of an Exec that never became an operation; it is due at once.
pub(super) fn refuse(owners: &mut Owners, now: Now, alert: FinalAlert) {
    if !is_occupied(owners) {
        owners.update.refuse(alert.result);
    }
    owners.dm.reports.push(now.utc, alert);
    owners.effects.mark_dirty();
}

/// Installs a root. The file is written whole before the journal names it, and both before the
/// status.
pub(super) fn install_root(owners: &mut Owners, now: Now, root: Verified<Root>, envelope: &[u8]) {
    owners.effects.write_before_commit(root_file(root.version), envelope.to_vec());
    owners.trust.replace_root(root);
    owners.effects.mark_dirty();
    // spec: security 2 (revocation)
    let Some([campaign, manifest]) = owners.update.envelopes() else { return };
    if let Err(error) = owners.trust.verify(campaign, manifest) {
        let Refusal { result, reason, detail } = Refusal::from(error);
        tracing::info!(%result, reason, detail, "armed campaign revoked");
        complete(owners, now, Phase::Refused, result);
    }
}

fn plan_header(
    mut headers: BTreeMap<ComponentId, Vec<u8>>,
    component: ComponentId,
) -> Option<Vec<u8>> {
    headers.remove(&component)
}

fn tuner(now: Now, request: &ArmRequest, windows: &[(TuneIn, Window)]) -> Tuner {
    Tuner::new(now, request.server_now.unwrap_or(now.utc), windows)
}

/// Reads the tune-in URL with its window, and the further lines `URL opens closes`.
fn offered_windows(request: &ArmRequest) -> Result<Vec<(TuneIn, Window)>, WireError> {
    let missing = |field| WireError::invalid(field, "missing", "decimal UTC seconds");
    let opens = request.opens.ok_or_else(|| missing("Opens"))?;
    let closes = request.closes.ok_or_else(|| missing("Closes"))?;
    let mut windows = vec![(request.url.parse()?, Window { opens, closes })];
    if request.sessions.len() >= MAX_WINDOWS {
        let found = request.sessions.len().to_string();
        return Err(WireError::invalid("Sessions", found, "at most 15 further windows"));
    }
    for line in &request.sessions {
        let mut words = line.split(' ');
        let (Some(url), Some(opens), Some(closes), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(WireError::invalid("Sessions", line, "URL opens closes"));
        };
        let at = |field, text: &str| {
            text.parse()
                .map(Utc::from_seconds)
                .map_err(|_| WireError::invalid(field, text, "decimal UTC seconds"))
        };
        let window = Window { opens: at("opens", opens)?, closes: at("closes", closes)? };
        windows.push((url.parse()?, window));
    }
    Ok(windows)
}
