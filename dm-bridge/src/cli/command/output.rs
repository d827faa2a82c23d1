//! Texts that commands print.

use std::fmt::Write as _;

use proto::time::Utc;
use serde::Serialize;

use crate::{
    api::{CampaignBody, CampaignDeviceBody, ComponentsBody, DeviceBody, PolicyOrderBody},
    app::time_args,
    cli::args::common::FormArg,
};

pub(super) fn print(form: FormArg, body: &impl Serialize, text: impl FnOnce() -> String) -> String {
    if form.json {
        let json = serde_json::to_string(body).expect("our own types have string keys");
        format!("{json}\n")
    } else {
        text()
    }
}

pub(super) fn campaign_lines(body: &CampaignBody) -> String {
    let time = |seconds: Option<u64>| {
        seconds.map_or_else(|| "-".to_owned(), |s| time_args::format(Utc::from_seconds(s)))
    };
    let mut text = format!(
        "{}  {}  version {}  sequence {}\n  window {} to {} on {}:{}\n",
        body.id,
        body.state,
        body.firmware_version,
        body.sequence,
        time(body.opens_utc),
        time(body.closes_utc),
        body.group,
        body.port,
    );
    let counts: Vec<_> = body.devices.iter().map(|(phase, n)| format!("{n} {phase}")).collect();
    add(&mut text, format_args!("  devices: {}\n", counts.join(", ")));
    if let Some(problem) = &body.problem {
        add(&mut text, format_args!("  problem: {problem}\n"));
    }
    text
}

pub(super) fn result_table(bodies: &[CampaignDeviceBody]) -> String {
    let mut text = format!(
        "  {:<24} {:<10} {:<15} {:>6} {:<12} {}\n",
        "DEVICE", "WAY", "PHASE", "RESULT", "RUNS", "WHY"
    );
    for body in bodies {
        let code = body.result_code.map_or_else(|| "-".to_owned(), |code| code.to_string());
        let runs = body.firmware_version.as_deref().unwrap_or("-");
        let why = body.result_text.as_deref().unwrap_or_default();
        let (id, way, phase) = (body.id.as_str(), &body.way, &body.phase);
        add(
            &mut text,
            format_args!("  {id:<24} {way:<10} {phase:<15} {code:>6} {runs:<12} {why}\n"),
        );
    }
    text
}

pub(super) fn device_table(bodies: &[DeviceBody]) -> String {
    let mut text = String::new();
    for body in bodies {
        let seen = body.last_seen_utc.map_or_else(
            || "never seen".to_owned(),
            |seconds| format!("seen {}", time_args::format(Utc::from_seconds(seconds))),
        );
        let (id, maker, model) = (body.id.as_str(), &body.manufacturer, &body.model);
        let runs = body.firmware_version.as_deref().unwrap_or("-");
        let class = body.class_id;
        add(
            &mut text,
            format_args!("{id:<24} {maker} {model}  class {class}  runs {runs}  {seen}\n"),
        );
    }
    text
}

pub(super) fn policy_lines(body: &DeviceBody) -> String {
    let mut text = String::new();
    for (node, PolicyOrderBody { value, owed, answer, updated_utc }) in &body.policy {
        let said = answer.map_or_else(|| "decided".to_owned(), |code| format!("answered {code}"));
        let at = time_args::format(Utc::from_seconds(*updated_utc));
        let next = if *owed { ", waits for the next session" } else { "" };
        add(&mut text, format_args!("  policy {node}={value}: {said} {at}{next}\n"));
    }
    text
}

pub(super) fn component_lines(body: &ComponentsBody) -> String {
    let when = |seconds| time_args::format(Utc::from_seconds(seconds));
    let read =
        body.read_utc.map_or_else(|| "never read".to_owned(), |at| format!("read {}", when(at)));
    let mut text = format!("{}  components {read}\n", body.device.as_str());
    if let Some(reason) = &body.refused {
        add(&mut text, format_args!("  not shown: {reason}\n"));
    }
    for held in &body.held {
        let state = held.state.as_deref().unwrap_or("-");
        let version = held.version.as_deref().unwrap_or("-");
        let name = held.name.as_deref().unwrap_or_default();
        add(&mut text, format_args!("  {:<32} {state:<10} {version:<12} {name}\n", held.id));
    }
    for work in &body.operations {
        let code = work.result_code.map_or_else(|| "-".to_owned(), |code| code.to_string());
        let why = work.result_text.as_deref().unwrap_or_default();
        let (operation, id, phase) = (&work.operation, &work.id, &work.phase);
        add(&mut text, format_args!("  {operation} {id}: {phase} {code} {why}\n"));
    }
    text
}

pub(super) fn add(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more).expect("a String takes any text");
}
