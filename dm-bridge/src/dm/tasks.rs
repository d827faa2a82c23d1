//! The tasks of one session with a device, each once: policy, suspension, components, arming.

use std::collections::BTreeSet;

use proto::{
    dm::{
        code::StatusCode,
        nodes::broadcast,
        syncml::{Item, Meta},
    },
    ids::CampaignId,
    time::Utc,
};

use super::{
    arming_sequence::ArmingSequence,
    capabilities::{Capabilities, ObjectStatus},
    context::{
        Context, DeviceContext, audit_note, campaign_of, is_firmware, latest, update_latest,
    },
    inventory::InventorySync,
    object_search::{ObjectSearch, SearchStep},
    outbox::{PlannedCommand, Purpose, Request},
};
use crate::{
    campaign::model::{Campaign, CampaignState, DeliveryMethod, Window},
    fleet::{
        attempt::{ArmingAttempt, ArmingPhase},
        device::{Device, FirmwareObject, ObjectOrigin, SuspendCommand},
        policy::NodeValue,
        profile::Quirk,
    },
    random::{RandomBytes, fresh_correlator},
};

/// The tasks of one session.
#[derive(Debug, Clone, Default)]
pub(super) struct SessionTasks {
    /// Campaigns that are not attempted again in this session.
    attempted: BTreeSet<CampaignId>,
    /// Campaigns that the user has accepted.
    consented: BTreeSet<CampaignId>,
    /// Set once a pending Suspend or Resume was sent.
    suspend_sent: bool,
    /// Policy settings that were sent.
    policies_sent: BTreeSet<NodeValue>,
    inventory: InventorySync,
    search: ObjectSearch,
}

/// The next step of a session.
#[derive(Debug)]
pub(super) enum Step {
    /// Send these commands.
    Send(Vec<PlannedCommand>),
    /// Query the capabilities: the window opened during the session.
    Query,
    /// Arm the device.
    Arm(Box<ArmingSequence>),
    /// End the session.
    End,
}

/// An arming task of one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ArmingTask {
    /// Arm it for this campaign.
    Arm(CampaignId),
    /// Disarm it for this campaign.
    Disarm(CampaignId),
}

impl ArmingTask {
    /// Returns its campaign.
    pub(super) const fn campaign(self) -> CampaignId {
        match self {
            Self::Arm(campaign) | Self::Disarm(campaign) => campaign,
        }
    }
}

impl SessionTasks {
    /// Returns the next task, by priority: policy, suspension, components, arming.
    pub(super) fn next(&mut self, ctx: &mut Context<'_>, capabilities: &mut Capabilities) -> Step {
        loop {
            if let Some(step) = self.find_object(ctx, capabilities) {
                return step;
            }
            for campaign in fall_back(ctx) {
                self.attempted.remove(&campaign);
            }
            let commands = self
                .policies(&ctx.stored.device)
                .or_else(|| self.suspension(ctx))
                .or_else(|| self.inventory.next(ctx));
            if let Some(commands) = commands {
                return Step::Send(commands);
            }
            match self.next_arming(ctx) {
                None => return Step::End,
                Some(ArmingTask::Disarm(campaign)) => {
                    self.attempted.insert(campaign);
                    return Step::Send(vec![disarm(campaign, &ctx.stored.device, ctx.random)]);
                }
                Some(ArmingTask::Arm(_)) if !capabilities.are_queried() => return Step::Query,
                Some(ArmingTask::Arm(campaign)) => {
                    // One attempt per session, whatever its outcome.
                    self.attempted.insert(campaign);
                    if let Some(reason) =
                        missing_object(ctx.stored, capabilities, &self.search, campaign)
                    {
                        update_latest(ctx, campaign, |row| row.end_without_object(reason));
                        continue;
                    }
                    let begun = ArmingSequence::begin(ctx, capabilities, campaign, &self.consented);
                    if let Some(sequence) = begun {
                        return Step::Arm(Box::new(sequence));
                    }
                }
            }
        }
    }

    /// Looks for the FUMO object of a device that does not have it at its usual place, when a task
    /// needs it. What was found is kept with the device.
    // spec: oma-dm 11.3 (the place of the object is learnt by Get)
    fn find_object(
        &mut self,
        ctx: &mut Context<'_>,
        capabilities: &mut Capabilities,
    ) -> Option<Step> {
        let object = &ctx.stored.device.object;
        match capabilities.object_status() {
            ObjectStatus::Missing(_) if object.origin != ObjectOrigin::Set => {}
            ObjectStatus::Present if object.origin == ObjectOrigin::Assumed => {
                ctx.stored.device.object = FirmwareObject::learnt(object.uri.clone());
                return None;
            }
            ObjectStatus::Missing(_) | ObjectStatus::Present | ObjectStatus::Unknown => {
                return None;
            }
        }
        let device = &ctx.stored.device;
        let needs_it = device.pending_suspension.is_some()
            || device.policy.pending().next().is_some()
            || self.next_arming(ctx).is_some_and(|task| match task {
                ArmingTask::Arm(campaign) => is_firmware(ctx.stored, campaign),
                ArmingTask::Disarm(_) => true,
            });
        if !needs_it {
            return None;
        }
        match self.search.next() {
            SearchStep::Send(commands) => Some(Step::Send(commands)),
            SearchStep::Over => None,
            SearchStep::Found(node) => {
                audit_note(ctx, format!("its firmware object is {node}"));
                ctx.stored.device.object = FirmwareObject::learnt(node.to_string());
                capabilities.forget_object();
                Some(Step::Query)
            }
        }
    }

    /// Returns the writes of the pending policy settings, each once.
    fn policies(&mut self, device: &Device) -> Option<Vec<PlannedCommand>> {
        let pending = device.policy.pending();
        let unsent: Vec<_> =
            pending.filter(|setting| self.policies_sent.insert(setting.clone())).collect();
        let commands: Vec<_> =
            unsent.into_iter().map(|setting| set_policy(setting, device)).collect();
        (!commands.is_empty()).then_some(commands)
    }

    fn suspension(&mut self, ctx: &mut Context<'_>) -> Option<Vec<PlannedCommand>> {
        let pending = ctx.stored.device.pending_suspension;
        let command = pending.filter(|_| !std::mem::replace(&mut self.suspend_sent, true))?;
        Some(vec![suspension(command, &ctx.stored.device, ctx.random)])
    }

    /// Returns the next arming task.
    pub(super) fn next_arming(&self, ctx: &Context<'_>) -> Option<ArmingTask> {
        next_task(&ctx.stored.attempts, &ctx.stored.campaigns, &self.attempted, ctx.now)
    }

    /// Leaves a campaign to a later session.
    pub(super) fn postpone(&mut self, campaign: CampaignId) {
        self.attempted.insert(campaign);
    }

    /// Records that the user has accepted a campaign.
    pub(super) fn record_consent(&mut self, campaign: CampaignId) {
        self.consented.insert(campaign);
    }

    /// Returns the search for the FUMO object.
    pub(super) const fn search(&mut self) -> &mut ObjectSearch {
        &mut self.search
    }

    /// Returns the reading of the inventory.
    pub(super) const fn inventory(&mut self) -> &mut InventorySync {
        &mut self.inventory
    }
}

/// Returns the next task of one device, campaigns in `attempted` excepted.
fn next_task(
    armings: &[ArmingAttempt],
    campaigns: &[Campaign],
    tried: &BTreeSet<CampaignId>,
    now: Utc,
) -> Option<ArmingTask> {
    let open = || {
        latest(armings)
            .filter(|row| !tried.contains(&row.campaign) && row.result_code.is_none())
            .filter_map(|row| {
                let campaign = campaigns.iter().find(|campaign| campaign.id == row.campaign)?;
                Some((row, campaign))
            })
    };
    let disarm = open().find(|(row, campaign)| wants_disarming(row, campaign));
    if let Some((row, _)) = disarm {
        return Some(ArmingTask::Disarm(row.campaign));
    }
    open()
        .filter(|(row, campaign)| wants_arming(row, campaign, now))
        .max_by_key(|(_, campaign)| (campaign.terms.epoch, campaign.terms.sequence))
        .map(|(row, _)| ArmingTask::Arm(row.campaign))
}

fn wants_arming(row: &ArmingAttempt, campaign: &Campaign, now: Utc) -> bool {
    let waits = row.phase.needs_broadcast() || row.phase == ArmingPhase::Unknown;
    let window = match row.delivery_method {
        DeliveryMethod::Broadcast => campaign.open_broadcast_window(now).map(|(window, _)| window),
        DeliveryMethod::Download | DeliveryMethod::Direct => campaign.open_unicast_window(now),
    };
    // Unicast delivery that has started needs no further window.
    let is_new = |window: Window| match row.delivery_method {
        DeliveryMethod::Broadcast => row.armed_revision < window.revision,
        DeliveryMethod::Download | DeliveryMethod::Direct => row.armed_revision == 0,
    };
    waits && window.is_some_and(is_new)
}

fn wants_disarming(row: &ArmingAttempt, campaign: &Campaign) -> bool {
    let stopped = matches!(campaign.state, CampaignState::Stopping | CampaignState::Stopped);
    stopped && row.was_accepted() && row.phase.is_open()
}

/// Starts a new attempt by the next delivery method of a campaign, where the last one was not
/// possible. Returns the campaigns with a new attempt.
fn fall_back(ctx: &mut Context<'_>) -> Vec<CampaignId> {
    let stuck: Vec<_> = latest(&ctx.stored.attempts)
        .filter(|row| row.phase == ArmingPhase::NeedsUnicast)
        .filter_map(|row| {
            let campaign = campaign_of(ctx.stored, row.campaign)?;
            campaign.open_unicast_window(ctx.now)?;
            Some((row.clone(), campaign.next_method(row.delivery_method)?))
        })
        .collect();
    let moved = stuck.iter().map(|(row, _)| row.campaign).collect();
    for (row, way) in stuck {
        let reason = row.reason.as_deref().unwrap_or_default();
        ctx.stored.notes.push(format!(
            "{}: {} not possible ({reason}), {way} is next",
            row.campaign, row.delivery_method
        ));
        let next = row.successor(fresh_correlator(ctx.random), ctx.now);
        ctx.stored.attempts.push(ArmingAttempt { delivery_method: way, ..next });
    }
    moved
}

/// Returns the reason for which a device without a FUMO object cannot get a firmware campaign.
// spec: oma-dm 11.3 (no object here is an outcome)
fn missing_object(
    stored: &DeviceContext,
    capabilities: &Capabilities,
    search: &ObjectSearch,
    campaign: CampaignId,
) -> Option<String> {
    let ObjectStatus::Missing(code) = capabilities.object_status() else { return None };
    let FirmwareObject { uri, origin } = &stored.device.object;
    // Another status may mean that the server has no right to read there.
    let is_missing = code == StatusCode::NOT_FOUND && is_firmware(stored, campaign);
    is_missing.then(|| match origin {
        ObjectOrigin::Set => {
            format!("the device has no firmware object at {uri}, which the operator has set")
        }
        ObjectOrigin::Assumed | ObjectOrigin::Learnt => {
            let found = search.why_nothing();
            format!("the device has no firmware object: none at {uri}, {found}")
        }
    })
}

/// Returns the Exec that disarms a device.
fn disarm(campaign: CampaignId, device: &Device, random: RandomBytes<'_>) -> PlannedCommand {
    device_exec(Purpose::Disarm(campaign), broadcast::DISARM, device, random)
}

/// Returns the Exec that suspends or resumes reception.
fn suspension(command: SuspendCommand, device: &Device, random: RandomBytes<'_>) -> PlannedCommand {
    let node = match command {
        SuspendCommand::Suspend => broadcast::SUSPEND,
        SuspendCommand::Resume => broadcast::RESUME,
    };
    device_exec(Purpose::Suspension(command), node, device, random)
}

/// Returns the Replace that sets a policy node.
fn set_policy(setting: NodeValue, device: &Device) -> PlannedCommand {
    let node = setting.node();
    let uri = device.object.node(node.path());
    let item = Item {
        meta: Some(Meta::format(node.format())),
        data: Some(setting.value().into()),
        ..Item::target(uri)
    };
    PlannedCommand::new(Purpose::Policy(setting), Request::Replace(Box::new(item)))
}

/// Returns an Exec without a final alert. Sends a correlator only with quirk `correlator-always`.
fn device_exec(
    purpose: Purpose,
    node: &str,
    device: &Device,
    random: RandomBytes<'_>,
) -> PlannedCommand {
    let is_wanted = device.profile.quirks.contains(&Quirk::CorrelatorAlways);
    let correlator = is_wanted.then(|| fresh_correlator(random));
    PlannedCommand::new(purpose, Request::Exec(device.object.node(node), correlator))
}

#[cfg(test)]
mod tests {
    use proto::ids::Correlator;

    use super::*;
    use crate::campaign::model::{PreparedSession, samples};

    const NOW: Utc = Utc::from_seconds(1_500);

    fn arming(campaign: &Campaign) -> ArmingAttempt {
        let device = "a".parse().unwrap();
        ArmingAttempt::pending(device, campaign.id, 1, Correlator("c".to_owned()), Utc(1))
    }

    fn task(row: ArmingAttempt, campaign: Campaign, now: Utc) -> Option<ArmingTask> {
        next_task(&[row], &[campaign], &BTreeSet::new(), now)
    }

    #[test]
    fn a_pending_device_is_armed_until_the_window_closes() {
        let campaign = samples::running();
        let armed = Some(ArmingTask::Arm(campaign.id));
        assert_eq!(task(arming(&campaign), campaign.clone(), NOW), armed);
        let closed = Utc::from_seconds(2_000);
        assert_eq!(task(arming(&campaign), campaign, closed), None);
    }

    #[test]
    fn an_armed_device_is_armed_again_only_for_a_moved_window() {
        let mut campaign = samples::running();
        let mut row = arming(&campaign);
        row.phase = ArmingPhase::Receiving;
        row.armed_revision = 1;
        assert_eq!(task(row.clone(), campaign.clone(), NOW), None);
        campaign.window = campaign.window.map(|window| Window { revision: 2, ..window });
        campaign.prepared = campaign.prepared.map(|air| PreparedSession { revision: 2, ..air });
        assert_eq!(task(row, campaign.clone(), NOW), Some(ArmingTask::Arm(campaign.id)));
    }

    #[test]
    fn a_unicast_delivery_needs_no_image_server() {
        let mut campaign = samples::running();
        campaign.prepared = None;
        campaign.delivery.methods = vec![DeliveryMethod::Download];
        let row = ArmingAttempt { delivery_method: DeliveryMethod::Download, ..arming(&campaign) };
        let armed = Some(ArmingTask::Arm(campaign.id));
        assert_eq!(task(row.clone(), campaign.clone(), NOW), armed);
        let begun = ArmingAttempt { armed_revision: 1, phase: ArmingPhase::Armed, ..row };
        campaign.window = campaign.window.map(|window| Window { revision: 2, ..window });
        assert_eq!(task(begun, campaign, NOW), None);
    }

    #[test]
    fn a_device_with_a_result_has_no_task() {
        let campaign = samples::running();
        let mut row = arming(&campaign);
        row.result_code = Some(451);
        assert_eq!(task(row, campaign, NOW), None);
    }

    #[test]
    fn a_stopped_campaign_disarms_the_devices_that_it_armed() {
        let mut campaign = samples::running();
        campaign.state = CampaignState::Stopped;
        let mut row = arming(&campaign);
        assert_eq!(task(row.clone(), campaign.clone(), NOW), None, "it was never armed");
        row.phase = ArmingPhase::Armed;
        row.armed_revision = 1;
        assert_eq!(task(row.clone(), campaign.clone(), NOW), Some(ArmingTask::Disarm(campaign.id)));
        let tried = BTreeSet::from([campaign.id]);
        assert_eq!(next_task(&[row], &[campaign], &tried, NOW), None);
    }

    #[test]
    fn of_two_campaigns_the_one_with_the_higher_sequence_is_armed() {
        let old = samples::running();
        let mut new = samples::running();
        new.id = CampaignId([8; 16]);
        new.terms.sequence += 1;
        let rows = [arming(&old), arming(&new)];
        let wanted = Some(ArmingTask::Arm(new.id));
        assert_eq!(next_task(&rows, &[new.clone(), old], &BTreeSet::new(), NOW), wanted);
    }
}
