//! Sessions that the device breaks off.

use proto::dm::{
    code::{AlertCode, StatusCode},
    encoding::{self, Encoding},
    syncml::{Command, CommandId, Header, Location, Message, Status},
    ui::{Answer, Prompt},
};

use super::*;
use crate::{
    suspension::ExternalCondition,
    user::{Reply, Settings, UserInterface},
};

impl Device {
    pub(super) fn said(&self) -> Message {
        let post = self.post.as_ref().expect("something was said");
        Encoding::Xml.parse(&post.body, &encoding::Limits::default()).unwrap()
    }

    fn says_goodbye(&self) -> bool {
        let is_goodbye = |command: &Command| matches!(command, Command::Alert(alert) if alert.code == AlertCode::SESSION_ABORT);
        self.said().commands.iter().any(is_goodbye)
    }

    /// Delivers a response of the server with these commands, and runs the agent.
    pub(super) fn reply(&mut self, wanted: Vec<Command>) {
        self.hear_reply(wanted);
        self.run();
    }

    /// The same, and nothing follows from it yet.
    pub(super) fn hear_reply(&mut self, wanted: Vec<Command>) {
        let said = self.said().header;
        self.post = None;
        let header = Header {
            session_id: said.session_id.clone(),
            message_id: said.message_id,
            target: said.source.clone(),
            source: Location::new("server"),
            respond_to: None,
            credential: None,
            meta: None,
        };
        let status = Status::for_header(CommandId::new(1), &said, StatusCode::AUTHENTICATED);
        let commands = std::iter::once(Command::Status(status)).chain(wanted).collect();
        let reply = Encoding::Xml.emit(&Message { header, commands, is_final: true });
        self.agent.handle_response(self.now, &reply);
    }
}

fn question() -> Vec<Command> {
    vec![Command::Alert(Prompt::confirm("Update?").to_alert(CommandId::new(2)))]
}

fn talking() -> Device {
    let mut device =
        Device::with_user(Settings { front: UserInterface::Interactive, ..Settings::default() });
    device.talks = true;
    device.agent.check_in(device.now);
    device.run();
    device
}

// test: oma-dm 1.1 (1223)
#[test]
fn a_call_breaks_the_session_off_and_another_follows_it() {
    for condition in [ExternalCondition::Call, ExternalCondition::Network] {
        let mut device = talking();
        device.agent.condition_began(device.now, condition);
        device.run();
        assert!(!device.says_goodbye(), "the server has its turn");
        device.reply(question());
        assert!(device.says_goodbye() && device.asked.is_empty());
        device.reply(question());
        assert!(device.post.is_none() && !device.agent.is_in_session(), "{condition:?}");
        device.agent.condition_ended(device.now, condition);
        device.run();
        assert!(device.post.is_some(), "it is made up for");
    }
}

#[test]
fn a_session_that_prompts_the_user_waits_for_the_end_of_a_call() {
    let mut device = talking();
    device.reply(question());
    device.agent.condition_began(device.now, ExternalCondition::Call);
    device.run();
    assert!(device.post.is_none() && device.agent.is_in_session());
    device.agent.condition_ended(device.now, ExternalCondition::Call);
    let ticket = device.asked[0].ticket;
    device.agent.handle_user_reply(device.now, ticket, Reply::Answer(Answer::Yes));
    device.run();
    assert!(!device.says_goodbye());
}

#[test]
fn a_device_that_stops_aborts_its_session_and_begins_no_other() {
    let mut device = talking();
    device.reply(question());
    device.agent.shut_down(device.now);
    device.run();
    assert!(device.says_goodbye(), "nobody waits for the user any more");
    let ticket = device.asked[0].ticket;
    device.agent.handle_user_reply(device.now, ticket, Reply::Answer(Answer::Yes));
    device.agent.check_in(device.now);
    device.reply(Vec::new());
    assert!(device.post.is_none() && !device.agent.is_in_session());
    device.to(100_000);
    assert!(device.post.is_none());
}
