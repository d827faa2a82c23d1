//! Whole DM sessions against a scripted device, message by message.
#![expect(clippy::wildcard_enum_match_arm, reason = "a test names the commands it is about")]

use proto::{
    dm::{
        auth::Secret,
        code::{AlertCode, Format, StatusCode},
        encoding::{self, Encoding},
        syncml::{
            Alert, Command, CommandId, Item, Manage, Message, MessageId, Meta, Results, Verb,
        },
    },
    fixtures::device::{ScriptedDevice, final_alert},
    ids::{CampaignId, Correlator},
    time::Utc,
};

use super::{
    Limits,
    context::{self, AuthContext, Context, DeviceContext},
    message::{InboundMessage, MessageOutcome, OutboundMessage},
    session::DmSession,
};
use crate::{
    campaign::model::{CampaignState, samples},
    fleet::{
        address::ProvedFrom,
        attempt::{ArmingAttempt, ArmingPhase},
        challenge::tests::keys,
        components::Components,
        device::{Nonce, SuspendCommand},
        policy::DesiredPolicy,
        profile::{Profile, Quirk},
        store_tests,
    },
    random::RandomBytes,
};

mod any_device;
mod authentication;
mod components;
mod device_commands;
mod firmware_object;
mod groups;
mod large_objects;
mod odd_parts;
mod policy;
mod quirks;
mod reasons;
mod tolerances;
mod unicast;
mod update_requests;

const NOW: Utc = Utc::from_seconds(1_500);

/// The context of one device that is selected for one running campaign.
fn device_context() -> DeviceContext {
    let mut device = store_tests::device("a");
    device.auth.secret = Secret::new("a", "password").into();
    device.auth.next_nonce = Some(Nonce([1; 16]));
    device.auth.challenge_count = 0;
    device.auth.proved_from = ProvedFrom::default();
    device.update_requests = None;
    device.profile = Profile::default();
    device.pending_suspension = None;
    device.policy = DesiredPolicy::default();
    device.components = Components::default();
    let campaign = samples::running();
    let correlator = Correlator("c1".to_owned());
    let arming = ArmingAttempt::pending(device.id.clone(), campaign.id, 1, correlator, Utc(1));
    DeviceContext {
        device,
        attempts: vec![arming],
        campaigns: vec![campaign],
        packages: Default::default(),
        wanted_package: None,
        notes: vec![],
    }
}

/// Lets a message be received; returns the outcome, and the session after it.
fn receive(
    current: Option<&DmSession>,
    stored: &mut DeviceContext,
    message: &Message,
    now: Utc,
    limits: Limits,
    random: RandomBytes<'_>,
) -> (MessageOutcome, Option<Box<DmSession>>) {
    let bytes = Encoding::Xml.emit(message);
    let token = current.map(DmSession::token);
    let inbound = InboundMessage {
        bytes: &bytes,
        message,
        token,
        mac: None,
        network: None,
        certificate: None,
    };
    let (mut device, challenges) = (stored.device.clone(), &keys(now));
    let ctx = &mut AuthContext { device: &mut device, challenges, now, random };
    let proceeds = current.and_then(|session| session.proceed(inbound));
    match proceeds.map_or_else(|| DmSession::authenticate(current, ctx, inbound, limits), Ok) {
        Ok(message) => {
            stored.device = device;
            let (reply, session) = message.respond(&mut Context { stored, now, random }, inbound);
            (MessageOutcome::Reply(reply), Some(session))
        }
        Err(refused) => {
            assert_eq!(device, stored.device, "a peer without proof changes nothing");
            (refused, None)
        }
    }
}

fn open(
    stored: &mut DeviceContext,
    message: &Message,
    now: Utc,
    limits: Limits,
    random: RandomBytes<'_>,
) -> (MessageOutcome, Option<Box<DmSession>>) {
    receive(None, stored, message, now, limits, random)
}

fn proceed(
    session: &mut Box<DmSession>,
    stored: &mut DeviceContext,
    message: &Message,
    now: Utc,
    random: RandomBytes<'_>,
) -> Message {
    assert!(session.is_continued_by(message, Some(session.token())));
    let received = receive(Some(session), stored, message, now, Limits::default(), random);
    let reply;
    (*session, reply) = accepted(received);
    reply
}

/// Returns the session and the reply of a device that is authenticated.
fn accepted(
    (outcome, session): (MessageOutcome, Option<Box<DmSession>>),
) -> (Box<DmSession>, Message) {
    let MessageOutcome::Reply(reply) = outcome else { panic!("{outcome:?}") };
    (session.unwrap(), decoded(&reply))
}

fn decoded(reply: &OutboundMessage) -> Message {
    let limits =
        encoding::Limits { message_bytes: 1 << 20, commands: 4_096, ..encoding::Limits::default() };
    Encoding::recognise(&reply.bytes).parse(&reply.bytes, &limits).unwrap()
}

fn latest(context: &DeviceContext) -> &ArmingAttempt {
    context::latest(&context.attempts).next().unwrap()
}

/// Returns the device of [`device_context`].
fn scripted() -> ScriptedDevice {
    ScriptedDevice::new("a", "password")
}

/// Sessions of a scripted device with this server.
trait Sessions {
    /// Runs a session from the enrolled nonce to its end; returns the replies.
    fn run(&mut self, context: &mut DeviceContext) -> Vec<Message>;

    /// Runs a session that begins with a message.
    fn run_from(&mut self, context: &mut DeviceContext, first: Message, now: Utc) -> Vec<Message>;

    /// Returns the commands that changed the device, shortened.
    fn written(&self) -> Vec<String>;
}

impl Sessions for ScriptedDevice {
    fn run(&mut self, context: &mut DeviceContext) -> Vec<Message> {
        let first = self.first_with(&[1; 16]);
        self.run_from(context, first, NOW)
    }

    fn run_from(&mut self, context: &mut DeviceContext, first: Message, now: Utc) -> Vec<Message> {
        let mut count = u8::try_from(100 + 10 * context.attempts.len()).unwrap();
        let mut random = || {
            count += 1;
            [count; 16]
        };
        let (mut session, reply) =
            accepted(open(context, &first, now, Limits::default(), &mut random));
        let mut replies = vec![reply];
        while let Some(next) = self.answer(replies.last().unwrap()) {
            assert!(session.is_continued_by(&next, Some(session.token())));
            replies.push(proceed(&mut session, context, &next, now, &mut random));
            assert!(replies.len() < 60, "the session does not end");
        }
        assert!(session.is_finished());
        replies
    }

    fn written(&self) -> Vec<String> {
        let uri = |command: &Command| match command {
            Command::Replace(replace) => replace.items[0].target_uri().map(str::to_owned),
            Command::Add(add) => add.items[0].target_uri().map(|uri| format!("Add {uri}")),
            Command::Exec(exec) => exec.item.target_uri().map(|uri| format!("Exec {uri}")),
            Command::Alert(alert) => Some(format!("Alert {}", alert.code)),
            _ => None,
        };
        let short = |uri: String| uri.replace("./FwUpdate/Main/", "").replace("Ext/Broadcast/", "");
        self.seen.iter().filter_map(uri).map(short).collect()
    }
}

/// Returns the commands of a message, and those inside of groups.
fn flat(message: &Message) -> Vec<&Command> {
    let mut all = Vec::new();
    let mut open: Vec<_> = message.commands.iter().rev().collect();
    while let Some(command) = open.pop() {
        all.push(command);
        if let Command::Sequence(group) | Command::Atomic(group) = command {
            open.extend(group.commands.iter().rev());
        }
    }
    all
}

fn codes(message: &Message) -> Vec<(Verb, u16)> {
    let status = |command: &Command| match command {
        Command::Status(status) => Some((status.verb, status.code.0)),
        _ => None,
    };
    message.commands.iter().filter_map(status).collect()
}

// test: oma-002 1 (the server prepares each device)
#[test]
fn a_pending_device_is_queried_written_to_and_armed() {
    let mut context = device_context();
    let mut device = scripted();
    let replies = device.run(&mut context);
    assert_eq!(codes(&replies[0]), [(Verb::Header, 212), (Verb::Alert, 200), (Verb::Replace, 200)]);
    assert_eq!(
        device.written(),
        [
            "Manifest",
            "Campaign",
            "Plan/0",
            "Now",
            "Opens",
            "Closes",
            "Report/Spread",
            "DownloadAndUpdate/PkgURL",
            "Exec DownloadAndUpdate",
        ]
    );
    let row = latest(&context);
    assert_eq!((row.phase, row.armed_revision, row.attempt), (ArmingPhase::Armed, 1, 1));
    let Command::Exec(exec) = device.seen.last().unwrap() else { panic!() };
    assert_eq!(exec.correlator, Some(Correlator("c1".to_owned())));
    assert_eq!(context.device.firmware_version.as_deref(), Some("1.0"));
}

#[test]
fn the_answer_carries_a_fresh_nonce_that_the_row_knows() {
    let mut context = device_context();
    let replies = scripted().run(&mut context);
    let Command::Status(status) = &replies[0].commands[0] else { panic!() };
    let sent = status.challenge.as_ref().unwrap().nonce().unwrap();
    assert_eq!(context.device.auth.next_nonce.unwrap().0.to_vec(), sent);
}

#[test]
fn envelopes_travel_as_octets() {
    let mut context = device_context();
    let mut device = scripted();
    device.run(&mut context);
    let manifest = device.seen.iter().find_map(|command| match command {
        Command::Replace(replace) if replace.items[0].target_uri()?.ends_with("Manifest") => {
            Some(replace.items[0].clone())
        }
        _ => None,
    });
    let manifest = manifest.unwrap();
    assert_eq!(manifest.meta.as_ref().unwrap().format, Some(Format::B64));
    assert_eq!(manifest.to_bytes().unwrap(), context.campaigns[0].documents.manifest);
}

#[test]
fn a_device_with_an_older_root_gets_the_next_one_first() {
    let mut context = device_context();
    let mut device = scripted().with("Broadcast/Root", "1");
    device.run(&mut context);
    assert_eq!(device.written()[..2], ["Root", "Manifest"]);
}

#[test]
fn a_window_that_opens_during_a_session_arms_a_device_that_was_not_queried_yet() {
    let mut context = device_context();
    let selected = std::mem::take(&mut context.attempts);
    let mut device = scripted();
    let mut random = || [77; 16];
    let first = device.first_with(&[1; 16]);
    let (mut session, mut reply) =
        accepted(open(&mut context, &first, NOW, Limits::default(), &mut random));
    context.attempts = selected;
    while let Some(next) = device.answer(&reply) {
        reply = proceed(&mut session, &mut context, &next, NOW, &mut random);
    }
    assert!(session.is_finished());
    let row = latest(&context);
    assert_eq!((row.phase, row.armed_revision), (ArmingPhase::Armed, 1), "{:?}", row.reason);
}

#[test]
fn a_device_two_roots_behind_gets_both_in_order_and_no_exec_when_one_is_refused() {
    let chain = || [(2, vec![2; 300]), (3, vec![3; 300])].into();
    let mut context = device_context();
    context.campaigns[0].documents.roots = chain();
    let mut device = scripted().with("Broadcast/Root", "1");
    device.run(&mut context);
    assert_eq!(device.written()[..3], ["Root", "Root", "Manifest"]);
    assert_eq!(latest(&context).phase, ArmingPhase::Armed);

    let mut context = device_context();
    context.campaigns[0].documents.roots = chain();
    let mut device = scripted().with("Broadcast/Root", "1");
    device.refused = Some(("Root", StatusCode::FAILED));
    device.run(&mut context);
    assert_eq!(latest(&context).phase, ArmingPhase::Pending);
    assert!(
        latest(&context).reason.as_ref().unwrap().contains("Root"),
        "{:?}",
        latest(&context).reason
    );
}

#[test]
fn a_device_that_lacks_an_unknown_root_stays_pending_with_the_reason() {
    let mut context = device_context();
    context.campaigns[0].documents.roots = [(3, vec![3; 300])].into();
    let mut device = scripted().with("Broadcast/Root", "1");
    device.run(&mut context);
    assert_eq!(device.written(), [""; 0]);
    let row = latest(&context);
    assert_eq!(row.phase, ArmingPhase::Pending);
    assert_eq!(row.reason.as_deref(), Some("the device lacks root 2, which was not handed in"));
}

#[test]
fn an_armed_device_is_not_armed_again() {
    let mut context = device_context();
    scripted().run(&mut context);
    context.device.auth.next_nonce = Some(Nonce([1; 16]));
    let mut device = scripted().with("Phase", "receiving");
    device.run(&mut context);
    assert_eq!(device.written(), [""; 0]);
    assert_eq!(latest(&context).phase, ArmingPhase::Receiving);
}

// test: oma-002 8 (versions)
#[test]
fn a_device_without_the_extension_needs_unicast() {
    let mut context = device_context();
    let mut device = scripted().without("Broadcast/Version");
    device.run(&mut context);
    assert_eq!(device.written(), [""; 0]);
    assert_eq!(latest(&context).phase, ArmingPhase::NeedsUnicast);
}

#[test]
fn a_device_that_does_not_know_the_url_needs_unicast() {
    for answer in [411, 404, 405, 406] {
        let mut context = device_context();
        let mut device = ScriptedDevice { exec: StatusCode(answer), ..scripted() };
        device.run(&mut context);
        assert_eq!(latest(&context).phase, ArmingPhase::NeedsUnicast, "{answer}");
    }
    let mut context = device_context();
    scripted().run(&mut context);
    context.device.auth.next_nonce = Some(Nonce([1; 16]));
    scripted().alerting(411, "c1").run(&mut context);
    assert_eq!(latest(&context).phase, ArmingPhase::NeedsUnicast);
}

#[test]
fn limits_of_a_device_are_respected_before_anything_is_sent() {
    for (node, value) in [("MaxBlockSymbols", "744"), ("MaxStorage", "1023")] {
        let mut context = device_context();
        let mut device = scripted().with(node, value);
        device.run(&mut context);
        assert_eq!(device.written(), [""; 0]);
        assert_eq!(latest(&context).phase, ArmingPhase::Refused, "{node}");
    }
    for (node, value) in [("MaxBlockSymbols", "745"), ("MaxStorage", "1024")] {
        let mut context = device_context();
        scripted().with(node, value).run(&mut context);
        assert_eq!(latest(&context).phase, ArmingPhase::Armed, "{node}");
    }
}

#[test]
fn no_exec_follows_a_replace_that_failed() {
    let mut context = device_context();
    let refused = Some(("Manifest", StatusCode::TOO_LARGE));
    let mut device = ScriptedDevice { refused, ..scripted() };
    device.run(&mut context);
    assert!(!device.written().iter().any(|name| name.starts_with("Exec")));
    let row = latest(&context);
    assert_eq!((row.phase, row.attempt), (ArmingPhase::Pending, 2));
    assert_eq!(row.reason.as_deref(), Some("attempt 1: Replace of Manifest answered 413"));
}

#[test]
fn a_device_without_a_node_for_the_plan_is_armed_all_the_same() {
    let mut context = device_context();
    let refused = Some(("Plan/0", StatusCode::NOT_FOUND));
    ScriptedDevice { refused, ..scripted() }.run(&mut context);
    assert_eq!(latest(&context).phase, ArmingPhase::Armed);
}

#[test]
fn a_rejected_exec_is_retried_with_another_correlator_and_not_for_ever() {
    let mut context = device_context();
    for attempt in 1..=Limits::default().attempts {
        context.device.auth.next_nonce = Some(Nonce([1; 16]));
        let row = latest(&context);
        assert_eq!((row.phase, row.attempt), (ArmingPhase::Pending, attempt));
        ScriptedDevice { exec: StatusCode::FAILED, ..scripted() }.run(&mut context);
    }
    assert_eq!(latest(&context).phase, ArmingPhase::Failed);
    let mut correlators: Vec<_> =
        context.attempts.iter().map(|row| row.correlator.clone()).collect();
    correlators.dedup();
    assert_eq!(correlators.len(), 5);
}

#[test]
fn an_exec_without_a_status_is_repeated_with_the_same_correlator() {
    let mut context = device_context();
    let mut device = scripted();
    let mut count = 50;
    let mut random = || {
        count += 1;
        [count; 16]
    };
    let first = device.first_with(&[1; 16]);
    let (mut session, mut reply) =
        accepted(open(&mut context, &first, NOW, Limits::default(), &mut random));
    while !matches!(flat(&reply).last(), Some(Command::Exec(_))) {
        let next = device.answer(&reply).unwrap();
        reply = proceed(&mut session, &mut context, &next, NOW, &mut random);
    }
    // The session ends here; the device connects again later.
    context.device.auth.next_nonce = Some(Nonce([1; 16]));
    let mut device = scripted();
    device.run(&mut context);
    let Command::Exec(exec) = device.seen.last().unwrap() else { panic!() };
    assert_eq!(exec.correlator, Some(Correlator("c1".to_owned())));
    assert_eq!((latest(&context).phase, latest(&context).attempt), (ArmingPhase::Armed, 1));
}

#[test]
fn a_device_with_tiny_messages_does_not_busy_the_server() {
    let mut context = device_context();
    let mut device = ScriptedDevice { limit: 300, ..scripted() };
    let replies = device.run(&mut context);
    assert_eq!(replies.len(), 2);
    let row = latest(&context);
    assert_eq!((row.phase, row.attempt), (ArmingPhase::Pending, 2));
    let reason = "attempt 1: a command does not fit into 300 octets";
    assert_eq!(row.reason.as_deref(), Some(reason));
}

#[test]
fn a_result_is_confirmed_by_the_version_read_back_in_the_same_session() {
    for (firmware, phase) in
        [("2.0", ArmingPhase::Confirmed), ("1.0", ArmingPhase::VersionMismatch)]
    {
        let mut context = device_context();
        scripted().run(&mut context);
        context.device.auth.next_nonce = Some(Nonce([1; 16]));
        let replies = scripted().with("FwV", firmware).alerting(200, "c1").run(&mut context);
        assert!(codes(&replies[0]).contains(&(Verb::Alert, 200)));
        let row = latest(&context);
        assert_eq!((row.phase, row.result_code), (phase, Some(200)));
        assert_eq!(row.read_back.as_deref(), Some(firmware));
    }
}

// test: oma-dm 15.4 (a result is counted once)
#[test]
fn a_repeated_result_is_answered_alike_and_counted_once() {
    let mut context = device_context();
    scripted().run(&mut context);
    for code in [410, 410, 200] {
        context.device.auth.next_nonce = Some(Nonce([1; 16]));
        let replies = scripted().alerting(code, "c1").run(&mut context);
        assert_eq!(codes(&replies[0]).last(), Some(&(Verb::Alert, 200)));
        assert_eq!(latest(&context).result_code, Some(410));
    }
}

#[test]
fn a_result_of_an_attempt_of_another_device_is_not_counted() {
    let mut context = device_context();
    scripted().run(&mut context);
    context.device.auth.next_nonce = Some(Nonce([1; 16]));
    let replies = scripted().alerting(200, "c2").run(&mut context);
    assert_eq!(codes(&replies[0]).last(), Some(&(Verb::Alert, 202)));
    assert_eq!(latest(&context).result_code, None);
    assert!(context.notes.iter().any(|note| note.contains("not counted")), "{:?}", context.notes);
}

#[test]
fn a_stopped_campaign_is_disarmed_at_the_next_session() {
    let mut context = device_context();
    scripted().run(&mut context);
    context.campaigns[0].state = CampaignState::Stopped;
    context.device.auth.next_nonce = Some(Nonce([1; 16]));
    let mut device = ScriptedDevice { exec: StatusCode::OK, ..scripted() };
    device.run(&mut context);
    assert_eq!(device.written(), ["Exec Disarm"]);
    assert_eq!(latest(&context).phase, ArmingPhase::Disarmed);
}

// test: oma-dm 1.1 (1223)
#[test]
fn an_abort_ends_the_session_without_further_commands() {
    let mut context = device_context();
    let mut device = scripted();
    device.alerts.push(Alert {
        id: CommandId::new(3),
        code: AlertCode::SESSION_ABORT,
        correlator: None,
        items: vec![],
    });
    let replies = device.run(&mut context);
    assert_eq!(replies.len(), 1);
    assert_eq!(codes(&replies[0]).last(), Some(&(Verb::Alert, 200)));
    assert_eq!(latest(&context).phase, ArmingPhase::Pending);
}

// test: oma-dm 1.1 (1223)
#[test]
fn a_session_whose_campaign_is_stopped_or_that_never_ends_is_aborted() {
    for is_stopped in [true, false] {
        let mut context = device_context();
        let mut device = ScriptedDevice { limit: 1_700, ..scripted().with("LrgObj", "true") };
        let limits = Limits { messages: 4, ..Limits::default() };
        let limits = if is_stopped { Limits::default() } else { limits };
        let first = device.first_with(&[1; 16]);
        let (mut session, mut reply) =
            accepted(open(&mut context, &first, NOW, limits, &mut || [7; 16]));
        while !session.is_finished() {
            let next = device.answer(&reply).unwrap();
            if is_stopped && device.written().len() > 1 {
                context.campaigns[0].state = CampaignState::Stopping;
            }
            reply = proceed(&mut session, &mut context, &next, NOW, &mut || [8; 16]);
        }
        let Some(Command::Alert(alert)) = reply.commands.last() else { panic!("{reply:?}") };
        assert_eq!((alert.code, reply.is_final), (AlertCode::SESSION_ABORT, true));
        let others = &reply.commands[..reply.commands.len() - 1];
        assert!(others.iter().all(|command| command.verb() == Verb::Status), "{others:?}");
        assert!(!latest(&context).was_accepted());
        assert!(
            context.notes.iter().any(|note| note.starts_with("session aborted")),
            "{:?}",
            context.notes
        );
    }
}

// test: oma-dm 1 (next message)
#[test]
fn an_unfinished_package_is_continued_by_next_message() {
    let mut context = device_context();
    let mut device = scripted();
    let mut first = device.first_with(&[1; 16]);
    first.is_final = false;
    let (_, reply) = accepted(open(&mut context, &first, NOW, Limits::default(), &mut || [7; 16]));
    assert!(!reply.is_final);
    let Some(Command::Alert(alert)) = reply.commands.last() else { panic!() };
    assert_eq!(alert.code, AlertCode::NEXT_MESSAGE);
}

#[test]
fn only_changed_rows_are_stored() {
    let mut context = device_context();
    let before = context.clone();
    assert!(context::changes_since(&before, &context).is_empty());
    scripted().run(&mut context);
    assert_eq!(context::changes_since(&before, &context).len(), 2);
    assert_eq!(context.attempts[0].campaign, CampaignId([7; 16]));
}
