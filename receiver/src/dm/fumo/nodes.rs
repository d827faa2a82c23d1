//! The current nodes of the FUMO object and their values.

use proto::{
    dm::{
        code::Format,
        fumo::PackagePrefix,
        nodes::{broadcast, fumo},
    },
    time::Utc,
};

use super::UsedArguments;
use crate::dm::{DeviceView, tree::management_object::Leaf};

// spec: oma-002 6 (auxiliary management objects)
pub(super) fn leaves(arguments: &UsedArguments, view: &DeviceView) -> Vec<(String, Leaf)> {
    let mut nodes = Nodes(Vec::new());
    package(&mut nodes, arguments, view);
    limits(&mut nodes, view);
    arming(&mut nodes, arguments, view);
    progress(&mut nodes, view);
    nodes.0
}

/// Returns the nodes of a partial package.
pub(super) fn partial_package(held: Option<PackagePrefix>) -> [(String, Leaf); 2] {
    let held = held.map(|held| held.to_string()).unwrap_or_default();
    [
        (fumo::PACKAGE_HELD.to_owned(), Leaf::Read(Format::Chr, held)),
        (fumo::PACKAGE_REMAINDER.to_owned(), Leaf::Write),
    ]
}

struct Nodes(Vec<(String, Leaf)>);

impl Nodes {
    fn add(&mut self, path: &str, leaf: Leaf) {
        self.0.push((path.to_owned(), leaf));
    }

    fn text(&mut self, path: &str, text: impl Into<String>) {
        self.add(path, Leaf::Read(Format::Chr, text.into()));
    }

    fn int(&mut self, path: &str, value: impl ToString) {
        self.add(path, Leaf::Read(Format::Int, value.to_string()));
    }

    fn setting(&mut self, path: &str, text: impl Into<String>) {
        self.add(path, Leaf::ReadWrite(Format::Chr, text.into()));
    }

    fn moment(&mut self, path: &str, moment: Option<Utc>) {
        self.setting(path, moment.map(|utc| utc.seconds().to_string()).unwrap_or_default());
    }
}

/// Returns the nodes of FUMO itself.
fn package(nodes: &mut Nodes, arguments: &UsedArguments, view: &DeviceView) {
    if let Some(name) = &view.package_name {
        nodes.text(fumo::PACKAGE_NAME, name.clone());
    }
    if let Some(version) = &view.package_version {
        nodes.text(fumo::PACKAGE_VERSION, version.clone());
    }
    nodes.add(fumo::DOWNLOAD, Leaf::Run);
    nodes.setting(fumo::DOWNLOAD_URL, arguments.download_url.clone().unwrap_or_default());
    nodes.add(fumo::DOWNLOAD_AND_UPDATE, Leaf::Run);
    nodes.setting(fumo::DOWNLOAD_AND_UPDATE_URL, arguments.update_url.clone().unwrap_or_default());
    nodes.add(fumo::UPDATE, Leaf::Run);
    nodes.add(fumo::PACKAGE_DATA, Leaf::Write);
    // spec: oma-002 fumo.state
    nodes.int(fumo::STATE, view.phase.state(view.data).number());
}

fn limits(nodes: &mut Nodes, view: &DeviceView) {
    nodes.text(broadcast::VERSION, broadcast::VERSION_VALUE);
    nodes.int(broadcast::MAX_BLOCK_SYMBOLS, view.limits.max_block_symbols);
    nodes.int(broadcast::MAX_MEMORY, view.limits.max_memory_kib);
    nodes.int(broadcast::MAX_STORAGE, view.limits.max_storage_kib);
    nodes.text(broadcast::ENCODINGS, view.limits.encodings.join(","));
}

fn arming(nodes: &mut Nodes, arguments: &UsedArguments, view: &DeviceView) {
    nodes.add(broadcast::ROOT, Leaf::ReadWrite(Format::Int, view.root_version.to_string()));
    nodes.add(broadcast::CAMPAIGN, Leaf::Write);
    nodes.add(broadcast::MANIFEST, Leaf::Write);
    for number in 0..broadcast::PLAN_NODES {
        nodes.add(&format!("{}/{number}", broadcast::PLAN), Leaf::Write);
    }
    nodes.moment(broadcast::NOW, arguments.now.map(|(utc, _)| utc));
    nodes.moment(broadcast::OPENS, arguments.opens);
    nodes.moment(broadcast::CLOSES, arguments.closes);
    nodes.setting(broadcast::SESSIONS, arguments.sessions.join("\n"));
    nodes.setting(broadcast::REPAIR, arguments.repair.clone().unwrap_or_default());
    let spread = arguments.report.spread.as_secs().to_string();
    nodes.add(broadcast::REPORT_SPREAD, Leaf::ReadWrite(Format::Int, spread));
    nodes.moment(broadcast::REPORT_NOT_BEFORE, arguments.report.not_before);
    nodes.setting(broadcast::REPORT_FILTER, arguments.report.filter.to_string());
}

fn progress(nodes: &mut Nodes, view: &DeviceView) {
    nodes.text(broadcast::PHASE, view.phase.as_str());
    nodes.text(broadcast::REASONS, view.reasons.join(","));
    nodes.int(broadcast::PROGRESS, view.progress_per_mille);
    for (path, value) in view.policy.nodes() {
        let is_number = value.parse::<i32>().is_ok();
        let format = if is_number { Format::Int } else { Format::Chr };
        nodes.add(path, Leaf::ReadWrite(format, value));
    }
    nodes.add(broadcast::DISARM, Leaf::Run);
    nodes.add(broadcast::SUSPEND, Leaf::Run);
    nodes.add(broadcast::RESUME, Leaf::Run);
}
