//! Texts that commands print.

use std::fmt::Write as _;

use proto::time::Utc;
use serde::Serialize;

use crate::{
    api::responses::{
        AccountBody, ComponentsBody, DeviceBody, DeviceDetailBody, PolicySettingBody,
    },
    app::time_args,
    cli::args::common::OutputArgs,
};

/// Returns the text of a body: JSON, or what `text` makes.
pub(super) fn print(
    output: OutputArgs,
    body: &impl Serialize,
    text: impl FnOnce() -> String,
) -> String {
    if output.json {
        let json = serde_json::to_string(body).expect("our own types have string keys");
        format!("{json}\n")
    } else {
        text()
    }
}

/// Returns the table of devices.
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
        push_line(
            &mut text,
            format_args!("{id:<24} {maker} {model}  class {class}  runs {runs}  {seen}\n"),
        );
    }
    text
}

/// Returns the lines of one device: its firmware object, account, policy, campaigns and notes.
pub(super) fn device_lines(body: &DeviceDetailBody) -> String {
    let DeviceDetailBody { device, campaigns, notes } = body;
    let mut text = device_table(std::slice::from_ref(device));
    let (object, origin) = (&device.object, &device.object_origin);
    push_line(&mut text, format_args!("  firmware object {object} ({origin})\n"));
    text.push_str(&account_lines(device));
    text.push_str(&policy_lines(device));
    for row in campaigns {
        let code = row.result_code.map_or_else(|| "-".to_owned(), |code| code.to_string());
        let why = row.result_text.as_deref().unwrap_or_default();
        let (id, delivery, phase) = (row.campaign, &row.delivery, &row.phase);
        push_line(&mut text, format_args!("  campaign {id}: {phase} by {delivery} {code} {why}\n"));
    }
    for note in notes {
        let at = time_args::format(Utc::from_seconds(note.at_utc));
        push_line(&mut text, format_args!("  note {at}: {}\n", note.text));
    }
    text
}

/// Returns the lines of the account of a device.
fn account_lines(body: &DeviceBody) -> String {
    let AccountBody { user, auth, server_id, server_auth, certificate, weak_password } =
        &body.account;
    let mut text = format!("  account {user}: {auth}; server {server_id}: {server_auth}\n");
    if let Some(certificate) = certificate {
        push_line(&mut text, format_args!("  client certificate {certificate}\n"));
    }
    if *weak_password {
        text.push_str("  weak password: fewer than 16 characters\n");
    }
    text
}

/// Returns the lines of the policy of a device.
fn policy_lines(body: &DeviceBody) -> String {
    let mut text = String::new();
    for (node, PolicySettingBody { value, pending, status, updated_utc }) in &body.policy {
        let state = status.map_or_else(|| "set".to_owned(), |code| format!("status {code}"));
        let at = time_args::format(Utc::from_seconds(*updated_utc));
        let next = if *pending { ", pending for the next session" } else { "" };
        push_line(&mut text, format_args!("  policy {node}={value}: {state} {at}{next}\n"));
    }
    text
}

/// Returns the lines of the components of a device.
pub(super) fn component_lines(body: &ComponentsBody) -> String {
    let when = |seconds| time_args::format(Utc::from_seconds(seconds));
    let read =
        body.read_utc.map_or_else(|| "never read".to_owned(), |at| format!("read {}", when(at)));
    let mut text = format!("{}  components {read}\n", body.device.as_str());
    if let Some(reason) = &body.refused {
        push_line(&mut text, format_args!("  inventory not read: {reason}\n"));
    }
    for entry in &body.inventory {
        let state = entry.state.as_deref().unwrap_or("-");
        let version = entry.version.as_deref().unwrap_or("-");
        let name = entry.name.as_deref().unwrap_or_default();
        push_line(&mut text, format_args!("  {:<32} {state:<10} {version:<12} {name}\n", entry.id));
    }
    for item in &body.operations {
        let code = item.result_code.map_or_else(|| "-".to_owned(), |code| code.to_string());
        let why = item.result_text.as_deref().unwrap_or_default();
        let (operation, id, state) = (&item.operation, &item.id, &item.state);
        push_line(&mut text, format_args!("  {operation} {id}: {state} {code} {why}\n"));
    }
    text
}

/// Appends formatted text.
pub(super) fn push_line(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more).expect("a String takes any text");
}
