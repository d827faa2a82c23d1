//! The messages of server and device about components, as a transcript.

use proto::dm::{
    code::Format,
    encoding::{self, Encoding},
    syncml::{
        Command, CommandId, Data, Exec, Group, Header, Item, Location, Manage, Message, Meta,
        Status, Verb,
    },
};

use super::*;

/// The server's side of a session: what it commands, a message each.
fn talk(device: &mut Device, script: Vec<Vec<Command>>) -> String {
    let mut paper = String::new();
    device.talks = true;
    device.agent.check_in(device.now);
    device.run();
    let mut script = script.into_iter();
    while let Some(post) = device.post.take() {
        let said = Encoding::Xml.parse(&post.body, &encoding::Limits::default()).unwrap();
        write_down(&mut paper, "device", &said.commands);
        let commands = answer(&said, script.next().unwrap_or_default());
        write_down(&mut paper, "server", &commands);
        let header = Header {
            session_id: said.header.session_id,
            message_id: said.header.message_id,
            target: said.header.source,
            source: Location::new("server"),
            respond_to: None,
            credential: None,
            meta: None,
        };
        let reply = Encoding::Xml.emit(&Message { header, commands, is_final: true });
        device.agent.handle_response(device.now, &reply);
        device.run();
    }
    assert!(script.next().is_none(), "the session ended before the server was done");
    device.talks = false;
    paper
}

/// A status for all that the device has said, then the commands, numbered.
fn answer(said: &Message, commands: Vec<Command>) -> Vec<Command> {
    let message = said.header.message_id;
    let status = |command: CommandId, verb, code| {
        Command::Status(Status::new(CommandId::new(0), message, command, verb, code))
    };
    let header = status(CommandId::HEADER, Verb::Header, StatusCode::AUTHENTICATED);
    let owed = said.commands.iter().filter_map(|command| match command {
        Command::Alert(_) | Command::Replace(_) => {
            Some(status(command.id(), command.verb(), StatusCode::OK))
        }
        Command::Status(_)
        | Command::Results(_)
        | Command::Exec(_)
        | Command::Get(_)
        | Command::Add(_)
        | Command::Delete(_)
        | Command::Copy(_)
        | Command::Sequence(_)
        | Command::Atomic(_)
        | Command::Rejected(_) => None,
    });
    let mut number = 0;
    let mut all: Vec<Command> = std::iter::once(header).chain(owed).chain(commands).collect();
    all.iter_mut().for_each(|command| renumber(command, &mut number));
    all
}

fn renumber(command: &mut Command, number: &mut u32) {
    *number += 1;
    let id = CommandId::new(*number);
    match command {
        Command::Status(it) => it.id = id,
        Command::Results(it) => it.id = id,
        Command::Alert(it) => it.id = id,
        Command::Exec(it) => it.id = id,
        Command::Get(it)
        | Command::Add(it)
        | Command::Replace(it)
        | Command::Delete(it)
        | Command::Copy(it) => it.id = id,
        Command::Sequence(it) | Command::Atomic(it) => {
            it.id = id;
            it.commands.iter_mut().for_each(|member| renumber(member, number));
        }
        Command::Rejected(_) => {}
    }
}

fn write_down(paper: &mut String, who: &str, commands: &[Command]) {
    paper.push_str(who);
    paper.push('\n');
    commands.iter().for_each(|command| line(paper, 1, command));
}

fn line(paper: &mut String, depth: usize, command: &Command) {
    let mut text = command.verb().as_str().to_owned();
    let items: &[Item] = match command {
        // The header's and DevInfo are the same in every session.
        Command::Status(it) if it.command_ref == CommandId::HEADER => return,
        Command::Replace(it) if it.items.len() > 3 => &[],
        Command::Status(it) => {
            text =
                format!("{text} {} for {} {}", it.code, it.verb.as_str(), it.target_refs.join(" "));
            &it.items
        }
        Command::Results(it) => &it.items,
        Command::Alert(it) => {
            text = format!("{text} {}", it.code);
            &it.items
        }
        Command::Exec(it) => std::slice::from_ref(&it.item),
        Command::Get(it)
        | Command::Add(it)
        | Command::Replace(it)
        | Command::Delete(it)
        | Command::Copy(it) => &it.items,
        Command::Sequence(_) | Command::Atomic(_) | Command::Rejected(_) => &[],
    };
    for item in items {
        let uris = [item.source_uri(), item.target_uri()].into_iter().flatten();
        let data = match &item.data {
            None => String::new(),
            Some(Data::Text(text)) => format!("={text}"),
            Some(Data::Octets(octets)) => format!("={} octets", octets.len()),
        };
        text.push_str(&format!(" {}{data}", uris.collect::<Vec<_>>().join(" -> ")));
    }
    paper.push_str(&format!("{}{}\n", "  ".repeat(depth), text.trim_end()));
    if let Command::Sequence(group) | Command::Atomic(group) = command {
        group.commands.iter().for_each(|member| line(paper, depth + 1, member));
    }
}

fn manage(uri: &str, data: Option<&str>) -> Manage {
    let uri = format!("./SCOMO/{uri}");
    let item = match data {
        Some(text) => Item::text(uri, text),
        None => Item {
            meta: Some(Meta { format: Some(Format::Node), ..Meta::default() }),
            ..Item::target(uri)
        },
    };
    Manage::new(CommandId::new(0), vec![item])
}

fn get(path: &str) -> Command {
    Command::Get(Manage::new(CommandId::new(0), vec![Item::target(format!("./SCOMO{path}"))]))
}

fn exec(path: &str, name: &str) -> Command {
    let item = Item::target(format!("./SCOMO/{path}"));
    Command::Exec(Box::new(Exec {
        id: CommandId::new(0),
        meta: None,
        correlator: correlator(name),
        item,
    }))
}

fn sequence(commands: Vec<Command>) -> Command {
    Command::Sequence(Group { id: CommandId::new(0), meta: None, commands })
}

// test: oma-dm 12.1, oma-002 scomo.state (inventory, download and install, activate, remove)
#[test]
fn an_inventory_a_download_and_changes_go_over_dm_step_by_step() {
    let mut device = Device::managed();
    device.agent.owners.store_announced(crate::components::Announced::default());
    device.settle();
    let mut paper = talk(
        &mut device,
        vec![
            vec![get("/Inventory"), get("/Inventory/Deployed")],
            vec![sequence(vec![
                Command::Add(manage("Download/x", None)),
                Command::Add(manage("Download/x/PkgID", Some("player"))),
                Command::Add(manage("Download/x/PkgURL", Some(PACKAGE))),
                exec("Download/x/Operations/DownloadInstallInactive", "c-1"),
            ])],
        ],
    );
    paper.push_str("the device downloads and installs\n");
    device.serve_component();
    paper.push_str(&talk(
        &mut device,
        vec![
            vec![get("/Inventory/Deployed/player?list=StructData")],
            vec![exec("Inventory/Deployed/player/Operations/Activate", "c-2")],
        ],
    ));
    device.now = at(1_700);
    paper.push_str(&talk(
        &mut device,
        vec![vec![
            get("/Inventory/Deployed/player/State"),
            exec("Inventory/Deployed/player/Operations/Remove", "c-3"),
        ]],
    ));
    device.now = at(1_800);
    let last = vec![vec![
        get("/Inventory/Deployed"),
        Command::Delete(Manage::new(CommandId::new(0), vec![Item::target("./SCOMO/Download/x")])),
    ]];
    paper.push_str(&talk(&mut device, last));
    assert_eq!(paper, include_str!("session.txt"));
    assert!(device.alerts().is_empty(), "the server has all results");
}

#[test]
fn an_inventory_is_closed_until_the_user_consents_and_then_open() {
    let user = Settings { front: UserInterface::Interactive, ..Settings::default() };
    let deployed = vec![player(true)];
    let disk = Disk { user, inventory: InventoryAccess::Asked, deployed, ..Disk::default() };
    let mut device = Device::made(component(), disk);
    let look = || vec![vec![get("/Inventory/Deployed")]];
    let closed = talk(&mut device, look());
    assert!(closed.contains("Status 425 for Get ./SCOMO/Inventory/Deployed\n"), "{closed}");
    assert!(!closed.contains("player"), "{closed}");
    let ticket = device.asked[0].ticket;
    device.agent.handle_user_reply(device.now, ticket, Reply::Answer(Answer::Yes));
    device.run();
    let open = talk(&mut device, look());
    assert!(open.contains("Results ./SCOMO/Inventory/Deployed=player\n"), "{open}");
}
