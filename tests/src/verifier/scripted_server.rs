//! The server's side of a DM session: sends the scripted commands, unchecked.

use anyhow::Context as _;
use proto::{
    dm::{
        alert::GenericAlert,
        code::StatusCode,
        fumo::{OperationResult, ResultCode},
        syncml::{
            Command, CommandId, Exec, Header, Item, Manage, Message, MessageId, Status, Verb,
        },
        xml,
    },
    ids::Correlator,
};

/// The FUMO object of the device.
pub const OBJECT: &str = "./FwUpdate/Main";

/// One DM session as the server sees it.
#[derive(Debug, Default)]
pub struct ScriptedServer {
    /// Commands of the one message.
    commands: Vec<Command>,
    sent: bool,
    messages: u32,
    /// Answers to the commands, by their number.
    pub statuses: Vec<(Verb, StatusCode)>,
    /// Results that the device reported, with the Correlators of their Execs.
    pub results: Vec<(Option<Correlator>, ResultCode)>,
}

impl ScriptedServer {
    /// Writes a value to a node below the FUMO object.
    pub fn replace(&mut self, path: &str, item: impl FnOnce(String) -> Item) {
        let id = self.next_id();
        let items = vec![item(format!("{OBJECT}/{path}"))];
        self.commands.push(Command::Replace(Manage { id, meta: None, items }));
    }

    /// Writes octets.
    pub fn replace_bytes(&mut self, path: &str, octets: &[u8]) {
        self.replace(path, |uri| Item::octets(uri, octets));
    }

    /// Writes a text.
    pub fn replace_text(&mut self, path: &str, text: &str) {
        self.replace(path, |uri| Item::text(uri, text));
    }

    /// Starts an operation.
    pub fn exec(&mut self, path: &str, correlator: &str) {
        let id = self.next_id();
        let item = Item::target(format!("{OBJECT}/{path}"));
        let correlator = Some(Correlator(correlator.to_owned()));
        let exec = Exec { id, correlator, meta: None, item };
        self.commands.push(Command::Exec(Box::new(exec)));
    }

    /// Answers a message of the device; all that it reports is acknowledged.
    ///
    /// # Errors
    ///
    /// When the message cannot be read.
    pub fn answer(&mut self, body: &[u8]) -> anyhow::Result<Vec<u8>> {
        let said = xml::parse(body, &xml::Limits::default()).context("the device's message")?;
        self.messages += 1;
        let header = Header {
            session_id: said.header.session_id.clone(),
            message_id: MessageId::new(self.messages),
            target: said.header.source.clone(),
            source: said.header.target.clone(),
            respond_to: None,
            credential: None,
            meta: None,
        };
        let mut commands = vec![Command::Status(Status::for_header(
            CommandId::new(100),
            &said.header,
            StatusCode::AUTHENTICATED,
        ))];
        for (number, command) in (101..).zip(&said.commands) {
            self.take(command);
            if command.wants_status() {
                let to = said.header.message_id;
                let id = CommandId::new(number);
                let status = Status::new(id, to, command.id(), command.verb(), StatusCode::OK);
                commands.push(Command::Status(status));
            }
        }
        if !std::mem::replace(&mut self.sent, true) {
            commands.append(&mut self.commands);
        }
        Ok(xml::emit(&Message { header, commands, is_final: true }))
    }

    fn take(&mut self, command: &Command) {
        if let Command::Status(status) = command
            && status.verb != Verb::Header
        {
            self.statuses.push((status.verb, status.code));
        }
        let Command::Alert(alert) = command else { return };
        let generic = alert.items.iter().filter_map(|item| GenericAlert::from_item(item).ok());
        let results =
            generic.filter_map(|item| OperationResult::from_alert(&item, None).ok().flatten());
        self.results.extend(results.map(|result| (alert.correlator.clone(), result.result)));
    }

    /// Returns the result of the Exec with a Correlator, if the device reported one.
    #[must_use]
    pub fn result_of(&self, correlator: &str) -> Option<ResultCode> {
        let of = |found: &Option<Correlator>| found.as_ref().is_some_and(|it| it.0 == correlator);
        self.results.iter().find(|(found, _)| of(found)).map(|(_, result)| *result)
    }

    fn next_id(&self) -> CommandId {
        CommandId::new(1 + u32::try_from(self.commands.len()).unwrap_or(u32::MAX))
    }
}
