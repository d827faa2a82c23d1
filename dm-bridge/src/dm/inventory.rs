//! Software components: the inventory is read, and operations are started.
//!
//! ```text
//! Get Inventory/Delivered, Inventory/Deployed    -> the names of their nodes
//! Get PkgID or ID, Name, Version, State, … of each -> the entries, with their time
//! Exec of an operation with correlator           -> 202, and a final alert in a later session
//! ```

use std::collections::{BTreeMap, BTreeSet};

use proto::{
    dm::{
        code::StatusCode,
        nodes::scomo as nodes,
        scomo::{Branch, OperationResult},
        uri::NodeUri,
    },
    ids::Correlator,
    time::Utc,
};

use super::{
    context::{Context, DeviceContext, audit_note, is_firmware, latest},
    outbox::{PlannedCommand, Purpose, Request, is_carried_out},
};
use crate::{
    arming::results::{self, Receipt},
    fleet::components::{Components, InventoryEntry, MAX_INVENTORY, OperationState},
};

/// Length limit of a list of nodes of a device, in octets.
pub(super) const MAX_LIST_BYTES: usize = 4_096;

/// Progress with components in one session.
#[derive(Debug, Clone, Default)]
pub(super) struct InventorySync {
    /// Values by URI, while the inventory is read.
    values: BTreeMap<String, String>,
    /// Rejection of one of the two lists.
    refused: Option<String>,
    step: InventoryStep,
    /// Operations started in this session.
    attempted: BTreeSet<Correlator>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum InventoryStep {
    #[default]
    NotYet,
    Names,
    Values,
    Done,
}

fn address(path: &str) -> String {
    format!("{}/{path}", nodes::ROOT)
}

fn read(path: &str) -> PlannedCommand {
    let uri = address(path);
    PlannedCommand::new(Purpose::Inventory, Request::Get(uri))
}

/// The leaf that identifies the contents of a node.
const fn identifier(branch: Branch) -> &'static str {
    match branch {
        Branch::Download | Branch::Delivered => nodes::PACKAGE_ID,
        Branch::Deployed => nodes::ID,
    }
}

/// The leaf that names the package of a node.
const fn package(branch: Branch) -> &'static str {
    match branch {
        Branch::Download | Branch::Delivered => nodes::PACKAGE_TYPE,
        Branch::Deployed => nodes::PACKAGE_ID_REF,
    }
}

const READ_BRANCHES: [Branch; 2] = [Branch::Delivered, Branch::Deployed];

impl InventorySync {
    /// Returns the next commands for components, if there are any.
    pub(super) fn next(&mut self, ctx: &mut Context<'_>) -> Option<Vec<PlannedCommand>> {
        self.next_operation(ctx.stored).or_else(|| self.next_read(ctx))
    }

    // spec: oma-dm 12.2 (operations of operators)
    fn next_operation(&mut self, context: &DeviceContext) -> Option<Vec<PlannedCommand>> {
        let components = &context.device.components;
        let waits = |state: OperationState| state == OperationState::Waiting;
        let mut works = components.operations.iter().filter(|work| waits(work.state));
        let work = works.find(|work| !self.attempted.contains(&work.correlator))?;
        self.attempted.insert(work.correlator.clone());
        let object: NodeUri = nodes::ROOT.parse().ok()?;
        let node = components.node_of(work.operation.branch(), &work.id);
        let uri = work.operation.address(&object, &node);
        let request = Request::Exec(uri, Some(work.correlator.clone()));
        let purpose = Purpose::Component(work.correlator.clone());
        Some(vec![PlannedCommand::new(purpose, request)])
    }

    // spec: oma-dm 12.2 (the inventory is read)
    fn next_read(&mut self, ctx: &mut Context<'_>) -> Option<Vec<PlannedCommand>> {
        let components = &mut ctx.stored.device.components;
        match self.step {
            InventoryStep::NotYet if components.refresh_requested => {
                self.step = InventoryStep::Names;
                return Some(READ_BRANCHES.map(|branch| read(branch.path())).to_vec());
            }
            InventoryStep::NotYet | InventoryStep::Done => return None,
            InventoryStep::Names => {
                self.step = InventoryStep::Values;
                let asked = self.nodes().flat_map(|(branch, node)| {
                    [identifier(branch), package(branch), nodes::NAME, nodes::VERSION, nodes::STATE]
                        .map(|leaf| read(&format!("{}/{leaf}", branch.node(&node))))
                });
                let asked: Vec<_> = asked.collect();
                if !asked.is_empty() {
                    return Some(asked);
                }
            }
            InventoryStep::Values => {}
        }
        self.step = InventoryStep::Done;
        components.refresh_requested = false;
        components.refused = self.refused.take();
        let text = match &components.refused {
            Some(reason) => reason.clone(),
            None => {
                components.inventory = self.entries();
                components.read = Some(ctx.now);
                let text = format!("holds {} packages and components", components.inventory.len());
                confirm_attempts(ctx);
                text
            }
        };
        audit_note(ctx, text);
        None
    }

    /// Stores a value of the inventory.
    pub(super) fn on_value(&mut self, uri: &str, text: String) {
        self.values.insert(uri.to_owned(), text);
    }

    /// Handles the status of a Get: a missing list is empty, a rejected one is unknown.
    pub(super) fn on_status(&mut self, planned: &PlannedCommand, code: StatusCode) {
        let Request::Get(uri) = planned.request() else { return };
        let is_list = READ_BRANCHES.iter().any(|branch| address(branch.path()) == *uri);
        if is_list && !code.is_success() && code != StatusCode::NOT_FOUND {
            self.refused = Some(format!("Get of {uri} answered {code}"));
        }
    }

    /// Nodes that the device has listed, up to the limit.
    fn nodes(&self) -> impl Iterator<Item = (Branch, String)> {
        let names = |branch: Branch| {
            let listed = self.values.get(&address(branch.path())).cloned().unwrap_or_default();
            let names: Vec<_> = listed.split('/').map(|name| name.trim().to_owned()).collect();
            names.into_iter().filter(|name| !name.is_empty()).map(move |name| (branch, name))
        };
        READ_BRANCHES.into_iter().flat_map(names).take(MAX_INVENTORY)
    }

    fn entries(&self) -> Vec<InventoryEntry> {
        let held = |(branch, node): (Branch, String)| {
            let value = |leaf: &str| {
                let uri = address(&format!("{}/{leaf}", branch.node(&node)));
                self.values.get(&uri).filter(|text| !text.is_empty()).cloned()
            };
            InventoryEntry {
                branch,
                id: value(identifier(branch)).unwrap_or_else(|| node.clone()),
                package: value(nodes::PACKAGE_ID_REF),
                name: value(nodes::NAME),
                version: value(nodes::VERSION),
                state: value(nodes::STATE).and_then(|word| word.parse().ok()),
                node,
            }
        };
        self.nodes().map(held).collect()
    }
}

/// Handles the result of an operation on a component, of an operator or of a campaign.
pub(super) fn on_component_result(ctx: &mut Context<'_>, result: &OperationResult) -> Receipt {
    let correlator = result.correlator.clone().or_else(|| only_operation(ctx.stored));
    let result = &OperationResult { correlator, ..result.clone() };
    let receipt = match ctx.stored.device.components.record_result(result, ctx.now) {
        Some(true) => Receipt::Recorded,
        Some(false) => Receipt::Duplicate,
        None => results::record_component_result(&mut ctx.stored.attempts, result, ctx.now),
    };
    // The inventory is read again: a result alone proves nothing.
    ctx.stored.device.components.refresh_requested |= receipt == Receipt::Recorded;
    audit_note(
        ctx,
        match receipt {
            Receipt::Recorded => format!("result {}", result.result),
            Receipt::Duplicate => format!("result {} again", result.result),
            Receipt::Unmatched => format!("result {} of no operation, not counted", result.result),
        },
    );
    receipt
}

/// Returns the correlator of the one operation in progress that a final alert without a correlator
/// can be about.
// spec: oma-dm 11.6 (a final alert without a correlator)
fn only_operation(stored: &DeviceContext) -> Option<Correlator> {
    let operations = stored.device.components.operations.iter();
    let accepted = operations.filter(|it| it.state == OperationState::Accepted);
    let attempts = latest(&stored.attempts).filter(|row| row.may_run() && row.phase.is_open());
    let attempts = attempts.filter(|row| !is_firmware(stored, row.campaign));
    let mut open =
        accepted.map(|it| &it.correlator).chain(attempts.map(|row| &row.correlator)).cloned();
    let first = open.next();
    first.filter(|_| open.next().is_none())
}

/// Compares the inventory with the reported results of campaigns.
fn confirm_attempts(ctx: &mut Context<'_>) {
    for row in &mut ctx.stored.attempts {
        let campaign = ctx.stored.campaigns.iter().find(|campaign| campaign.id == row.campaign);
        let software = campaign.and_then(|campaign| campaign.delivery.software.as_ref());
        if let Some(software) = software {
            let before = row.phase;
            results::confirm_components(row, software, &ctx.stored.device.components, ctx.now);
            if row.phase != before {
                ctx.stored.notes.push(format!("{} is {}", row.campaign, row.phase));
            }
        }
    }
}

/// Handles the status of the Exec of an operation.
pub(super) fn on_operation_status(
    components: &mut Components,
    correlator: &Correlator,
    code: StatusCode,
    now: Utc,
) {
    let Some(work) = components.operations.iter_mut().find(|work| work.correlator == *correlator)
    else {
        return;
    };
    if work.result_code.is_some() {
        return;
    }
    work.updated = now;
    if is_carried_out(code) {
        work.state = OperationState::Accepted;
        work.reason = None;
        return;
    }
    work.reason = Some(format!("Exec answered {code}"));
    // The result follows in a final alert, as after 202.
    if (100..200).contains(&code.0) {
        work.state = OperationState::Accepted;
    }
    // Without a status it may have been accepted: the next session sends the same correlator.
    if code.0 >= 200 && !code.is_retry_later() {
        work.state = OperationState::Failed;
    }
}
