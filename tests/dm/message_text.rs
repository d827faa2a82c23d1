//! Messages as text for people: one line for each command.

use std::fmt::Write as _;

use proto::dm::syncml::{Challenge, Command, CommandId, Data, Item, Message, Meta};

/// Returns the lines of one message.
pub(crate) fn message(who: &str, message: &Message) -> String {
    let header = &message.header;
    let mut line = format!("{who} {} of session {}", header.message_id, header.session_id);
    if let Some(credential) = &header.credential {
        let kind = credential.meta.kind.as_deref().unwrap_or_default();
        write!(line, ", with {kind}").expect("a String takes any text");
    }
    let mut lines = vec![line];
    message.commands.iter().for_each(|it| command(&mut lines, 1, it));
    lines.push(if message.is_final { "  final" } else { "  more follows" }.to_owned());
    lines.join("\n") + "\n"
}

fn command(lines: &mut Vec<String>, depth: usize, command: &Command) {
    let line = match command {
        Command::Status(it) => {
            let mut line = format!("Status {} for {}", it.code, it.verb.as_str());
            if it.command_ref != CommandId::HEADER {
                write!(line, " {}", it.command_ref).expect("a String takes any text");
            }
            let targets = it.target_refs.iter().filter(|_| it.command_ref != CommandId::HEADER);
            targets.for_each(|target| line.push_str(&format!(" {target}")));
            line.push_str(it.challenge.as_ref().map_or("", challenge));
            with_items(line, &it.items)
        }
        Command::Results(it) => with_items(format!("Results for {}", it.command_ref), &it.items),
        Command::Alert(it) => {
            let correlator = it.correlator.as_ref().map_or("", |_| " with correlator");
            with_items(format!("Alert {}{correlator}", it.code), &it.items)
        }
        Command::Exec(it) => {
            let correlator = it.correlator.as_ref().map_or("", |_| " with correlator");
            with_items(format!("Exec{correlator}"), std::slice::from_ref(&it.item))
        }
        Command::Get(it)
        | Command::Add(it)
        | Command::Replace(it)
        | Command::Delete(it)
        | Command::Copy(it) => with_items(command_name(command), &it.items),
        Command::Sequence(_) | Command::Atomic(_) => command_name(command),
        Command::Rejected(it) => format!("{} that cannot be read: {}", it.verb, it.fault),
    };
    lines.push(format!("{}{} {line}", "  ".repeat(depth), command.id()));
    if let Command::Sequence(group) | Command::Atomic(group) = command {
        group.commands.iter().for_each(|it| self::command(lines, depth + 1, it));
    }
}

fn command_name(command: &Command) -> String {
    command.verb().as_str().to_owned()
}

const fn challenge(_: &Challenge) -> &'static str {
    ", with a nonce"
}

fn with_items(line: String, items: &[Item]) -> String {
    items.iter().fold(line, |line, it| format!("{line} {}", item(it)))
}

fn item(item: &Item) -> String {
    let mut text = item.target_uri().or(item.source_uri()).unwrap_or("-").to_owned();
    let size = item.meta.as_ref().and_then(|meta| meta.size);
    if let Some(size) = size {
        write!(text, " (of {size})").expect("a String takes any text");
    }
    match &item.data {
        None => {}
        // Envelopes and versions of this build would make the snapshot change with every build.
        Some(Data::Octets(octets)) => {
            write!(text, "={} octets", octets.len()).expect("a String takes any text");
        }
        Some(Data::Text(data)) if is_base64(item.meta.as_ref()) => {
            write!(text, "={} of base64", data.len()).expect("a String takes any text");
        }
        Some(Data::Text(data)) => write!(text, "={data}").expect("a String takes any text"),
    }
    if item.more_data {
        text.push_str(" and more");
    }
    text
}

fn is_base64(meta: Option<&Meta>) -> bool {
    let format = meta.and_then(|meta| meta.format.as_ref());
    format.is_some_and(|format| format.as_word() == "b64")
}
