//! Software components: what a device holds is read, and operations on it are started.
//!
//! ```text
//! Get Inventory/Delivered, Inventory/Deployed    -> the names of their nodes
//! Get PkgID or ID, Name, Version, State, … of each -> what is kept, with its time
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
    Desk,
    command::{Planned, Purpose, Request},
    course::is_carried_out,
    session::{DmSession, Stage},
};
use crate::{
    fleet::components::{Components, Held, MAX_HELD, WorkPhase},
    report::{self, Receipt},
};

/// What a session has to do with components.
#[derive(Debug, Clone, Default)]
pub(super) struct Shelf {
    /// Values by their addresses, while they are read.
    values: BTreeMap<String, String>,
    /// Why one of the two lists was not shown.
    refused: Option<String>,
    reading: Reading,
    /// Operations that were begun in this session.
    tried: BTreeSet<Correlator>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Reading {
    #[default]
    NotYet,
    Names,
    Values,
    Done,
}

fn address(path: &str) -> String {
    format!("{}/{path}", nodes::ROOT)
}

fn read(path: &str) -> Planned {
    let uri = address(path);
    Planned { purpose: Purpose::Inventory, request: Request::Get(uri) }
}

/// The leaf that says what a node holds.
const fn identifier(branch: Branch) -> &'static str {
    match branch {
        Branch::Download | Branch::Delivered => nodes::PACKAGE_ID,
        Branch::Deployed => nodes::ID,
    }
}

/// The leaf that says which package it came with.
const fn package(branch: Branch) -> &'static str {
    match branch {
        Branch::Download | Branch::Delivered => nodes::PACKAGE_TYPE,
        Branch::Deployed => nodes::PACKAGE_ID_REF,
    }
}

const SHOWN: [Branch; 2] = [Branch::Delivered, Branch::Deployed];

impl DmSession {
    /// Takes the next step with components; tells whether there is one.
    pub(super) fn go_on_with_components(&mut self, desk: &mut Desk, now: Utc) -> bool {
        let commands = self.next_operation(desk).or_else(|| self.next_reading(desk, now));
        let Some(commands) = commands else { return false };
        self.queue.extend(commands);
        self.stage = Stage::Exec;
        true
    }

    // spec: oma-dm 12.2 (operations of the desk)
    fn next_operation(&mut self, desk: &Desk) -> Option<Vec<Planned>> {
        let components = &desk.device.components;
        let waits = |phase: WorkPhase| phase == WorkPhase::Waiting;
        let mut works = components.works.iter().filter(|work| waits(work.phase));
        let work = works.find(|work| !self.shelf.tried.contains(&work.correlator))?;
        self.shelf.tried.insert(work.correlator.clone());
        let object: NodeUri = nodes::ROOT.parse().ok()?;
        let node = components.node_of(work.operation.branch(), &work.id);
        let uri = work.operation.address(&object, &node);
        let request = Request::Exec(uri, Some(work.correlator.clone()));
        let purpose = Purpose::Component(work.correlator.clone());
        Some(vec![Planned { purpose, request }])
    }

    // spec: oma-dm 12.2 (the inventory is read)
    fn next_reading(&mut self, desk: &mut Desk, now: Utc) -> Option<Vec<Planned>> {
        let components = &mut desk.device.components;
        match self.shelf.reading {
            Reading::NotYet if components.wanted => {
                self.shelf.reading = Reading::Names;
                return Some(SHOWN.map(|branch| read(branch.path())).to_vec());
            }
            Reading::NotYet | Reading::Done => return None,
            Reading::Names => {
                self.shelf.reading = Reading::Values;
                let asked = self.shelf.nodes().flat_map(|(branch, node)| {
                    [identifier(branch), package(branch), nodes::NAME, nodes::VERSION, nodes::STATE]
                        .map(|leaf| read(&format!("{}/{leaf}", branch.node(&node))))
                });
                let asked: Vec<_> = asked.collect();
                if !asked.is_empty() {
                    return Some(asked);
                }
            }
            Reading::Values => {}
        }
        self.shelf.reading = Reading::Done;
        components.wanted = false;
        components.refused = self.shelf.refused.take();
        let text = match &components.refused {
            Some(reason) => reason.clone(),
            None => {
                components.held = self.shelf.held();
                components.read = Some(now);
                let text = format!("holds {} packages and components", components.held.len());
                confirm(desk, now);
                text
            }
        };
        desk.note(text);
        None
    }

    /// Takes a value of the inventory.
    pub(super) fn take_inventory(&mut self, uri: &str, text: String) {
        self.shelf.values.insert(uri.to_owned(), text);
    }

    /// A list that is not there is empty, one that is not shown is not known.
    pub(super) fn settle_inventory(&mut self, planned: &Planned, code: StatusCode) {
        let Request::Get(uri) = &planned.request else { return };
        let is_list = SHOWN.iter().any(|branch| address(branch.path()) == *uri);
        if is_list && !code.is_success() && code != StatusCode::NOT_FOUND {
            self.shelf.refused = Some(format!("Get of {uri} answered {code}"));
        }
    }

    /// Takes the result of an operation on a component, of the desk or of a campaign.
    pub(super) fn take_component_result(
        &mut self,
        desk: &mut Desk,
        result: &OperationResult,
        now: Utc,
    ) -> StatusCode {
        let receipt = match desk.device.components.accept(result, now) {
            Some(true) => Receipt::Counted,
            Some(false) => Receipt::Repeated,
            None => report::accept_component(&mut desk.armings, result, now),
        };
        // What it left behind is read, not believed.
        desk.device.components.wanted |= receipt == Receipt::Counted;
        desk.note(match receipt {
            Receipt::Counted => format!("result {}", result.result),
            Receipt::Repeated => format!("result {} again", result.result),
            Receipt::Orphan => format!("result {} of nothing here, not counted", result.result),
        });
        if receipt == Receipt::Counted && self.stage == Stage::Done {
            self.stage = Stage::Choose;
        }
        match receipt {
            Receipt::Counted | Receipt::Repeated => StatusCode::OK,
            Receipt::Orphan => StatusCode::ACCEPTED,
        }
    }
}

impl Shelf {
    /// The nodes that the device has named, no more than are taken over.
    fn nodes(&self) -> impl Iterator<Item = (Branch, String)> {
        let names = |branch: Branch| {
            let listed = self.values.get(&address(branch.path())).cloned().unwrap_or_default();
            let names: Vec<_> = listed.split('/').map(|name| name.trim().to_owned()).collect();
            names.into_iter().filter(|name| !name.is_empty()).map(move |name| (branch, name))
        };
        SHOWN.into_iter().flat_map(names).take(MAX_HELD)
    }

    fn held(&self) -> Vec<Held> {
        let held = |(branch, node): (Branch, String)| {
            let value = |leaf: &str| {
                let uri = address(&format!("{}/{leaf}", branch.node(&node)));
                self.values.get(&uri).filter(|text| !text.is_empty()).cloned()
            };
            Held {
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

/// Compares what was read with what the campaigns have brought by the device's word.
fn confirm(desk: &mut Desk, now: Utc) {
    for row in &mut desk.armings {
        let campaign = desk.campaigns.iter().find(|campaign| campaign.id == row.campaign);
        let software = campaign.and_then(|campaign| campaign.delivery.software.as_ref());
        if let Some(software) = software {
            let before = row.phase;
            report::read_inventory(row, software, &desk.device.components, now);
            if row.phase != before {
                desk.notes.push(format!("{} is {}", row.campaign, row.phase));
            }
        }
    }
}

/// What the answer to the Exec of an operation means for it.
pub(super) fn settle_operation(
    components: &mut Components,
    correlator: &Correlator,
    code: StatusCode,
    now: Utc,
) {
    let Some(work) = components.works.iter_mut().find(|work| work.correlator == *correlator) else {
        return;
    };
    if work.result_code.is_some() {
        return;
    }
    work.updated = now;
    if is_carried_out(code) {
        work.phase = WorkPhase::Accepted;
        work.reason = None;
        return;
    }
    work.reason = Some(format!("Exec answered {code}"));
    // Without an answer it may have been taken: the same correlator at the next session.
    if code.0 != 0 && !code.is_retry_later() {
        work.phase = WorkPhase::Failed;
    }
}
