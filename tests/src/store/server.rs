//! A DM server that arms one device and receives its results, without a fleet behind it.

use anyhow::Context as _;
use proto::{
    dm::{
        alert::GenericAlert,
        code::{AlertCode, StatusCode},
        fumo::Operation,
        nodes::{broadcast as nodes, fumo},
        syncml::{
            Command, CommandId, Exec, Header, Item, Manage, Message, MessageId, Status, Verb,
        },
        xml,
    },
    fixtures::broadcast::Broadcast,
    ids::Correlator,
    time::Utc,
};

/// The server's side of one device.
#[derive(Debug, Clone, Default)]
pub struct Server {
    message: u32,
    /// Set when the device has answered 202 and no result followed.
    pub is_armed: bool,
    /// Result codes in the order of arrival.
    pub results: Vec<String>,
}

impl Server {
    /// Answers a message; a device that begins a session and is not armed is armed.
    ///
    /// # Errors
    ///
    /// When the message cannot be read, or the documents cannot be written.
    pub fn answer(
        &mut self,
        broadcast: &Broadcast,
        now: Utc,
        body: &[u8],
    ) -> anyhow::Result<Vec<u8>> {
        let said = xml::parse(body, &xml::Limits::default())?;
        self.message += 1;
        let header = Header {
            session_id: said.header.session_id.clone(),
            message_id: MessageId::new(self.message),
            target: said.header.source.clone(),
            source: said.header.target.clone(),
            respond_to: None,
            credential: None,
            meta: None,
        };
        let authenticated = StatusCode::AUTHENTICATED;
        let mut commands = vec![Command::Status(Status::for_header(
            CommandId::new(1),
            &said.header,
            authenticated,
        ))];
        let mut begins = false;
        for command in &said.commands {
            if command.wants_status() {
                let (to, id) = (said.header.message_id, command.id());
                let status = Status::new(CommandId::new(2), to, id, command.verb(), StatusCode::OK);
                commands.push(Command::Status(status));
            }
            begins |= self.handle(command);
        }
        if begins && !self.is_armed && self.results.is_empty() {
            commands.extend(self.arming(broadcast, now)?);
        }
        Ok(xml::emit(&Message { header, commands, is_final: true }))
    }

    /// Records a command; returns whether it begins a session.
    fn handle(&mut self, command: &Command) -> bool {
        if let Command::Status(status) = command
            && (status.verb, status.code) == (Verb::Exec, StatusCode::ACCEPTED)
        {
            self.is_armed = true;
        }
        if let Command::Alert(alert) = command {
            let generic = alert.items.first().and_then(|item| GenericAlert::from_item(item).ok());
            if let Some(result) = generic.filter(|_| alert.code == AlertCode::GENERIC) {
                self.is_armed = false;
                self.results.push(result.data);
            }
            return alert.code == AlertCode::CLIENT_INITIATED;
        }
        false
    }

    fn arming(&self, broadcast: &Broadcast, now: Utc) -> anyhow::Result<Vec<Command>> {
        let node = |path: &str| format!("./FwUpdate/Main/{path}");
        let text = |path: &str, text: String| Item::text(node(path), text);
        let seconds = |path: &str, at: Utc| text(path, at.seconds().to_string());
        let window = broadcast.window();
        let items = [
            Item::octets(node(nodes::MANIFEST), broadcast.manifest_envelope()),
            Item::octets(node(nodes::CAMPAIGN), broadcast.campaign_envelope()),
            seconds(nodes::NOW, now),
            seconds(nodes::OPENS, window.opens),
            seconds(nodes::CLOSES, window.closes),
            text(fumo::DOWNLOAD_AND_UPDATE_URL, broadcast.tune_in().to_string()),
        ];
        let mut commands: Vec<_> = (10..)
            .zip(items)
            .map(|(id, item)| Command::Replace(Manage::new(CommandId::new(id), vec![item])))
            .collect();
        let last = u32::try_from(commands.len()).context("a few commands")?;
        commands.push(Command::Exec(Box::new(Exec {
            id: CommandId::new(10 + last),
            correlator: Some(Correlator("c-1".to_owned())),
            meta: None,
            item: Item::target(node(Operation::DownloadAndUpdate.node())),
        })));
        Ok(commands)
    }
}
