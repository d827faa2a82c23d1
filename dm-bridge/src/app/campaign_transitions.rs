//! State changes of campaigns that the reconciler stores; every function may run twice.

use std::{collections::BTreeMap, net::IpAddr};

use proto::{
    ids::{CampaignId, Tsi},
    time::Utc,
};

use super::{AppError, campaigns::find};
use crate::{
    campaign::{
        model::{Campaign, CampaignState, Loss, PreparedSession, Window},
        reconcile::{self, CampaignView, ReconcilePlan, ReconcilePolicy},
    },
    fleet::{
        attempt::{ArmingAttempt, ArmingPhase},
        audit::{Actor, Audit},
        store::{Change, FleetStore, StoreError},
    },
};

/// Attempts per transaction, so that writes of DM sessions fit in between.
const BATCH: usize = 500;

/// Attempts that are read at once.
const PAGE: u32 = 500;

/// Loads the stored state and returns the steps that are due.
///
/// # Errors
///
/// [`AppError::Store`] when it cannot be loaded.
pub async fn plan(
    store: &dyn FleetStore,
    policy: &ReconcilePolicy,
    now: Utc,
) -> Result<ReconcilePlan, AppError> {
    Ok(reconcile::plan(policy, &read_fleet(store, &[]).await?, now))
}

/// Returns all campaigns in the order of creation, as [`read_fleet_and_damage`].
///
/// # Errors
///
/// As [`read_fleet_and_damage`].
pub async fn read_fleet(
    store: &dyn FleetStore,
    before: &[CampaignView],
) -> Result<Vec<CampaignView>, AppError> {
    Ok(read_fleet_and_damage(store, before).await?.0)
}

/// Campaigns whose rows are damaged, with the error of each.
pub type DamagedCampaigns = BTreeMap<CampaignId, String>;

/// Returns all campaigns in the order of creation, and the damaged ones, which are not reconciled. A
/// row that has not changed since `before` is not read again, and a settled campaign is not looked at:
/// no attempt of it changes any more.
///
/// # Errors
///
/// [`AppError::Store`] when they cannot be loaded.
pub async fn read_fleet_and_damage(
    store: &dyn FleetStore,
    before: &[CampaignView],
) -> Result<(Vec<CampaignView>, DamagedCampaigns), AppError> {
    let (mut fleet, mut damaged) = (Vec::new(), DamagedCampaigns::new());
    for (id, version) in store.campaign_versions().await? {
        let known =
            before.iter().find(|view| (view.campaign.id, view.campaign.version) == (id, version));
        let campaign = match known {
            Some(view) if view.is_settled() => {
                fleet.push(view.clone());
                continue;
            }
            Some(view) => view.campaign.clone(),
            None => match store.campaign(id).await {
                Ok(Some(campaign)) => campaign,
                Ok(None) => continue,
                Err(error @ StoreError::Damaged { .. }) => {
                    damaged.insert(id, error.to_string());
                    continue;
                }
                Err(error) => return Err(error.into()),
            },
        };
        fleet.push(CampaignView { campaign, phase_counts: store.phase_counts(id).await? });
    }
    Ok((fleet, damaged))
}

/// Stores the reply of the image server to `prepare` for a revision of the window.
///
/// # Errors
///
/// [`AppError::Policy`] when it would send from an address that the campaign does not list.
pub async fn mark_prepared(
    store: &dyn FleetStore,
    now: Utc,
    id: CampaignId,
    revision: u32,
    (source, tsi): (IpAddr, Tsi),
) -> Result<(), AppError> {
    let campaign = find(store, id).await?;
    if !campaign.terms.sources.contains(&source) {
        return Err(AppError::Policy(format!(
            "the image server would send from {source}, which the campaign does not list"
        )));
    }
    if !(1..=u64::from(u32::MAX)).contains(&tsi.0) {
        return Err(AppError::Policy(format!("the image server answered TSI {}", tsi.0)));
    }
    let session = PreparedSession { source, tsi, revision, opened: false };
    let campaign = campaign.with_session(session);
    store_campaign(store, now, "campaign.prepared", campaign).await
}

/// Marks the window as scheduled on the image server.
///
/// # Errors
///
/// [`AppError::Store`] when it cannot be stored.
pub async fn mark_opened(
    store: &dyn FleetStore,
    now: Utc,
    id: CampaignId,
    revision: u32,
) -> Result<(), AppError> {
    let campaign = find(store, id).await?.opened(revision);
    store_campaign(store, now, "campaign.opened", campaign).await
}

/// Marks a session as lost by its image server, so that it is prepared and opened again, unless the
/// campaign has another one meanwhile.
///
/// # Errors
///
/// [`AppError::Store`] when it cannot be stored.
pub async fn mark_lost(
    store: &dyn FleetStore,
    now: Utc,
    id: CampaignId,
    session: PreparedSession,
    loss: Loss,
) -> Result<(), AppError> {
    let campaign = find(store, id).await?;
    if campaign.prepared != Some(session) {
        return Ok(());
    }
    store_campaign(store, now, "campaign.session-lost", campaign.with_lost_session(loss)).await
}

/// Gives the window another number, above the one that its image server has seen, unless the window
/// was moved meanwhile: devices are armed again for it.
///
/// # Errors
///
/// [`AppError::Store`] when it cannot be stored.
pub async fn renumber(
    store: &dyn FleetStore,
    now: Utc,
    id: CampaignId,
    window: Window,
    used: u32,
) -> Result<(), AppError> {
    let campaign = find(store, id).await?;
    if campaign.window != Some(window) {
        return Ok(());
    }
    store_campaign(store, now, "campaign.window-renumbered", campaign.renumbered(used)).await
}

/// Marks a campaign as stopped on the image server.
///
/// # Errors
///
/// [`AppError::Store`] when it cannot be stored.
pub async fn mark_stopped(
    store: &dyn FleetStore,
    now: Utc,
    id: CampaignId,
    then: CampaignState,
) -> Result<(), AppError> {
    let campaign = find(store, id).await?.off_air(then);
    store_campaign(store, now, "campaign.off-air", campaign).await
}

/// Marks the window as closed.
///
/// # Errors
///
/// [`AppError::Store`] when it cannot be stored.
pub async fn mark_closed(store: &dyn FleetStore, now: Utc, id: CampaignId) -> Result<(), AppError> {
    let campaign = find(store, id).await?.closed();
    store_campaign(store, now, "campaign.closed", campaign).await
}

/// Records the problem that delays a campaign, once.
///
/// # Errors
///
/// [`AppError::Store`] when it cannot be stored.
pub async fn record_problem(
    store: &dyn FleetStore,
    now: Utc,
    id: CampaignId,
    problem: String,
) -> Result<(), AppError> {
    let campaign = find(store, id).await?;
    if campaign.last_error.as_ref() == Some(&problem) {
        return Ok(());
    }
    store_campaign(store, now, "campaign.hindered", campaign.delayed(problem)).await
}

async fn store_campaign(
    store: &dyn FleetStore,
    now: Utc,
    action: &'static str,
    campaign: Campaign,
) -> Result<(), AppError> {
    let audit = Audit {
        actor: Actor::Reconciler,
        action,
        subject: campaign.id.to_string(),
        detail: campaign.last_error.clone().unwrap_or_default(),
    };
    Ok(store.apply(now, audit, vec![campaign.into()]).await?)
}

/// Ends the attempts that were not armed before the window closed.
///
/// # Errors
///
/// [`AppError::Store`] when they cannot be stored.
pub async fn expire_pending(
    store: &dyn FleetStore,
    now: Utc,
    id: CampaignId,
) -> Result<(), AppError> {
    let stopped = find(store, id).await?.state == CampaignState::Stopped;
    expire(store, now, id, "arming.lapsed", |row| {
        if row.phase != ArmingPhase::Pending {
            return None;
        }
        // A device armed for an earlier window may still be armed.
        let (phase, reason) = match (row.was_accepted(), stopped) {
            (true, _) => (ArmingPhase::Unknown, "silent since it was armed"),
            // It may be executed without a status.
            (false, _) if row.may_run() => (ArmingPhase::Unknown, "silent since the Exec"),
            (false, true) => (ArmingPhase::Disarmed, "stopped before it was armed"),
            (false, false) => (ArmingPhase::Expired, "not armed before the window closed"),
        };
        let earlier = row.reason.iter().map(|earlier| format!("; {earlier}"));
        Some((phase, std::iter::once(reason.to_owned()).chain(earlier).collect()))
    })
    .await
}

/// Ends the attempts of devices that were silent past every deadline; their phase is unknown.
///
/// # Errors
///
/// [`AppError::Store`] when they cannot be stored.
pub async fn expire_silent(
    store: &dyn FleetStore,
    now: Utc,
    id: CampaignId,
) -> Result<(), AppError> {
    expire(store, now, id, "arming.silent", |row| {
        let earlier = row.reason.iter().map(|earlier| format!("; {earlier}"));
        let last = format!("silent, last known as {}", row.phase);
        let reason = || std::iter::once(last).chain(earlier).collect();
        row.phase.is_open().then(|| (ArmingPhase::Unknown, reason()))
    })
    .await
}

async fn expire(
    store: &dyn FleetStore,
    now: Utc,
    id: CampaignId,
    action: &'static str,
    outcome_of: impl Fn(&ArmingAttempt) -> Option<(ArmingPhase, String)>,
) -> Result<(), AppError> {
    let (rows, damaged) = readable_attempts(store, id).await?;
    let expired: Vec<_> = rows
        .into_iter()
        .filter_map(|row| {
            let (phase, reason) = outcome_of(&row)?;
            Some(ArmingAttempt { phase, reason: Some(reason), updated: now, ..row })
        })
        .collect();
    if expired.is_empty() && damaged > 0 {
        // Not done, or the reconciler would try again at once.
        let text = format!("{damaged} attempts of campaign {id} are damaged and do not expire");
        return Err(AppError::Configuration(text));
    }
    for batch in expired.chunks(BATCH) {
        let audit = Audit {
            actor: Actor::Reconciler,
            action,
            subject: id.to_string(),
            detail: format!("{} devices", batch.len()),
        };
        store.apply(now, audit, batch.iter().cloned().map(Change::from).collect()).await?;
    }
    Ok(())
}

/// Returns the latest attempts of a campaign that can be read, and the number of the others.
async fn readable_attempts(
    store: &dyn FleetStore,
    id: CampaignId,
) -> Result<(Vec<ArmingAttempt>, usize), AppError> {
    let (mut readable, mut damaged, mut after) = (Vec::new(), 0, None::<String>);
    loop {
        let page = store.campaign_devices(id, after.as_deref(), PAGE).await?;
        let Some(last) = page.last() else { return Ok((readable, damaged)) };
        after = Some(last.key.clone());
        for listed in page {
            match listed.row {
                Ok(device) => readable.push(device.attempt),
                Err(_) => damaged += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        campaign::model::samples,
        fleet::{memory::MemoryStore, store::PhaseCounts},
    };

    const NOW: Utc = Utc::from_seconds(1_500);

    async fn store(phases: &[ArmingPhase]) -> (MemoryStore, CampaignId) {
        let store = MemoryStore::default();
        let campaign = samples::running();
        let id = campaign.id;
        let rows = phases.iter().enumerate().map(|(index, phase)| {
            let name = format!("d{index}");
            let correlator = proto::ids::Correlator(name.clone());
            let row = ArmingAttempt::pending(name.parse().unwrap(), id, 1, correlator, Utc(1));
            let armed_revision = u32::from(*phase != ArmingPhase::Pending);
            ArmingAttempt { phase: *phase, armed_revision, ..row }.into()
        });
        let changes = rows.chain([campaign.into()]).collect();
        let audit = Audit {
            actor: Actor::Operator,
            action: "test.change",
            subject: String::new(),
            detail: String::new(),
        };
        store.apply(Utc(1), audit, changes).await.unwrap();
        (store, id)
    }

    async fn phases(store: &MemoryStore, id: CampaignId) -> Vec<ArmingPhase> {
        store.campaign_attempts(id).await.unwrap().iter().map(|row| row.phase).collect()
    }

    #[tokio::test]
    async fn a_settled_campaign_is_counted_once_and_any_other_each_time() {
        let (store, id) = store(&[ArmingPhase::Confirmed]).await;
        let counted = PhaseCounts::from([(ArmingPhase::Confirmed, 1)]);
        let kept = PhaseCounts::from([(ArmingPhase::Confirmed, 9)]);
        let again = async |change: fn(&mut CampaignView)| {
            let [mut view] = <[_; 1]>::try_from(read_fleet(&store, &[]).await.unwrap()).unwrap();
            assert_eq!(view.phase_counts, counted);
            view.phase_counts.clone_from(&kept);
            change(&mut view);
            read_fleet(&store, &[view]).await.unwrap().remove(0).phase_counts
        };
        assert_eq!(again(|_| ()).await, counted, "it is running");
        mark_closed(&store, NOW, id).await.unwrap();
        assert_eq!(again(|_| ()).await, kept);
        assert_eq!(again(|view| view.campaign.version += 1).await, counted, "its row is another");
        let opened = |view: &mut CampaignView| {
            view.phase_counts.insert(ArmingPhase::Armed, 1);
        };
        assert_eq!(again(opened).await, counted, "an attempt may still change");
    }

    #[tokio::test]
    async fn an_image_server_with_a_strange_address_or_session_arms_nobody() {
        let (store, id) = store(&[ArmingPhase::Pending]).await;
        let listed = IpAddr::from([192, 0, 2, 1]);
        let strange = IpAddr::from([192, 0, 2, 2]);
        for answer in [(strange, Tsi(7)), (listed, Tsi(0)), (listed, Tsi(1 << 32))] {
            let refused = mark_prepared(&store, NOW, id, 2, answer).await.unwrap_err();
            assert_eq!(refused.exit_code(), 8);
        }
        assert_eq!(find(&store, id).await.unwrap().prepared, samples::running().prepared);
        mark_prepared(&store, NOW, id, 2, (listed, Tsi(7))).await.unwrap();
        let air = find(&store, id).await.unwrap().prepared.unwrap();
        assert_eq!((air.tsi, air.revision, air.opened), (Tsi(7), 2, false));
    }

    #[tokio::test]
    async fn an_open_for_an_older_window_does_not_count() {
        let (store, id) = store(&[ArmingPhase::Pending]).await;
        mark_opened(&store, NOW, id, 0).await.unwrap();
        assert!(!find(&store, id).await.unwrap().prepared.unwrap().opened);
        mark_opened(&store, NOW, id, 1).await.unwrap();
        assert!(find(&store, id).await.unwrap().prepared.unwrap().opened);
    }

    #[tokio::test]
    async fn a_lost_session_is_prepared_again_and_kept_for_a_stop() {
        for (loss, prepared) in [
            (Loss::NoSession, (77, 0)),
            (Loss::OlderWindow(1), (77, 0)),
            (Loss::OtherTsi(Tsi(78)), (78, 0)),
            (Loss::NotOpened, (77, 1)),
        ] {
            let (store, id) = store(&[ArmingPhase::Armed]).await;
            let session = find(&store, id).await.unwrap().prepared.unwrap();
            mark_lost(&store, NOW, id, session, loss).await.unwrap();
            let campaign = find(&store, id).await.unwrap();
            let air = campaign.prepared.unwrap();
            assert_eq!((air.tsi.0, air.revision, air.opened), (prepared.0, prepared.1, false));
            assert_eq!(campaign.last_error, Some(loss.to_string()));
            let audit = store.audit_tail(1).await.unwrap().remove(0);
            assert_eq!(
                (audit.action.as_str(), audit.detail),
                ("campaign.session-lost", loss.to_string())
            );
            // A look at the session before it is late.
            mark_lost(&store, NOW, id, session, loss).await.unwrap();
            assert_eq!(store.audit_tail(9).await.unwrap().len(), 2);
        }
    }

    #[tokio::test]
    async fn devices_are_armed_again_when_a_session_has_another_tsi_or_source_in_its_window() {
        let listed = IpAddr::from([192, 0, 2, 1]);
        for (loss, tsi, revision) in [
            (Some(Loss::NoSession), 77, 1),
            (Some(Loss::NoSession), 78, 2),
            (Some(Loss::OtherTsi(Tsi(78))), 78, 2),
            (None, 78, 2),
        ] {
            let (store, id) = store(&[ArmingPhase::Armed]).await;
            if let Some(loss) = loss {
                let session = find(&store, id).await.unwrap().prepared.unwrap();
                mark_lost(&store, NOW, id, session, loss).await.unwrap();
            }
            mark_prepared(&store, NOW, id, 1, (listed, Tsi(tsi))).await.unwrap();
            let campaign = find(&store, id).await.unwrap();
            assert_eq!(campaign.window.unwrap().revision, revision, "{loss:?} {tsi}");
            mark_prepared(&store, NOW, id, revision, (listed, Tsi(tsi))).await.unwrap();
            assert_eq!(find(&store, id).await.unwrap().window, campaign.window);
        }
    }

    #[tokio::test]
    async fn a_window_whose_number_was_used_has_the_next_one() {
        let (store, id) = store(&[ArmingPhase::Armed]).await;
        let window = find(&store, id).await.unwrap().window.unwrap();
        renumber(&store, NOW, id, window, 7).await.unwrap();
        let renumbered = find(&store, id).await.unwrap().window.unwrap();
        assert_eq!(renumbered, Window { revision: 8, ..window });
        renumber(&store, NOW, id, window, 9).await.unwrap();
        assert_eq!(find(&store, id).await.unwrap().window.unwrap(), renumbered, "it was moved");
    }

    #[tokio::test]
    async fn silent_devices_are_unknown_and_results_stay() {
        let (store, id) =
            store(&[ArmingPhase::Armed, ArmingPhase::Confirmed, ArmingPhase::Receiving]).await;
        expire_silent(&store, NOW, id).await.unwrap();
        let expected = [ArmingPhase::Unknown, ArmingPhase::Confirmed, ArmingPhase::Unknown];
        assert_eq!(phases(&store, id).await, expected);
    }

    #[tokio::test]
    async fn devices_that_were_never_armed_expire_with_the_window() {
        let (store, id) = store(&[ArmingPhase::Pending, ArmingPhase::Armed]).await;
        expire_pending(&store, NOW, id).await.unwrap();
        assert_eq!(phases(&store, id).await, [ArmingPhase::Expired, ArmingPhase::Armed]);
    }

    #[tokio::test]
    async fn a_problem_is_recorded_once() {
        let (store, id) = store(&[ArmingPhase::Pending]).await;
        for _ in 0..3 {
            record_problem(&store, NOW, id, "no answer".to_owned()).await.unwrap();
        }
        assert_eq!(store.audit_tail(9).await.unwrap().len(), 2);
        assert_eq!(find(&store, id).await.unwrap().last_error.as_deref(), Some("no answer"));
    }
}
