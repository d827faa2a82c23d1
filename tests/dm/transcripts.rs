//! Snapshots of DM sessions, message by message: `UPDATE_TRANSCRIPTS=1` writes them again.

use std::{fs, path::Path};

use dm_bridge::{
    app::update_requests,
    campaign::{
        model::{Delivery, DeliveryMethod},
        update_requests::UpdateRequestPolicy,
    },
    dm::message::OutboundMessage,
    fleet::{attempt::ArmingPhase, store::FleetStore as _},
};
use proto::dm::{
    auth::{AuthKind, Secret},
    code::StatusCode,
    encoding::Encoding,
    fumo::{Operation, ResultCode, UpdateInitiator, UpdateRequest},
    syncml::{Command, CommandId, Exec, Group, Header, Item, Manage, Message, Status},
    ui::Answer,
};
use proto::ids::Correlator;
use receiver::dm::{
    FinalAlert,
    client::{HttpRequest, SessionError, SessionOutcome, Step},
};

use crate::harness::{Harness, id};

pub(crate) fn check(name: &str, paper: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("dm/transcripts").join(name);
    if std::env::var_os("UPDATE_TRANSCRIPTS").is_some() {
        fs::write(&path, paper).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(kept, paper, "{name} has changed");
}

/// A device is armed by its first session and reports in its second.
pub(crate) async fn armed_and_reported(encoding: Encoding) -> Harness {
    let mut talk = Harness::new(encoding).await;
    assert_eq!(talk.run_session(1).await, SessionOutcome::Complete);
    assert!(talk.device.armed.is_some());
    talk.device.finish(ResultCode::SUCCESS);
    talk.device.firmware = "2.0".to_owned();
    assert_eq!(talk.run_session(2).await, SessionOutcome::Complete);
    let rows = talk.store.device_attempts(&id()).await.unwrap();
    assert_eq!(rows[0].phase, ArmingPhase::Confirmed);
    assert!(talk.device.queue.is_empty());
    talk
}

/// The device uses a nonce that the server has dropped.
pub(crate) async fn stale_nonce(encoding: Encoding) -> Harness {
    let mut talk = Harness::new(encoding).await;
    talk.device.nonce = b"of last year".to_vec();
    assert_eq!(talk.run_session(1).await, SessionOutcome::Complete);
    assert!(talk.device.armed.is_some());
    talk
}

/// The first answer is lost, and the device sends its message again.
pub(crate) async fn lost_reply(encoding: Encoding) -> Harness {
    let mut talk = Harness::new(encoding).await;
    let post = talk.start_session(1);
    let lost = talk.deliver(&post).await;
    talk.note("the answer is lost\n");
    let answer = talk.deliver(&post).await;
    assert_eq!(lost, answer);
    let Step::Send(next) = talk.receive(&answer) else { panic!("it goes on") };
    assert_eq!(talk.continue_session(next).await, SessionOutcome::Complete);
    assert!(talk.device.armed.is_some());
    talk
}

#[tokio::test]
async fn a_broadcast_campaign_is_armed_and_reported() {
    for encoding in [Encoding::Xml, Encoding::Wbxml] {
        let talk = armed_and_reported(encoding).await;
        check(&format!("armed_and_reported.{encoding}.txt"), &talk.transcript);
    }
}

#[tokio::test]
async fn a_stale_nonce_costs_one_challenge() {
    check("stale_nonce.txt", &stale_nonce(Encoding::Wbxml).await.transcript);
}

#[tokio::test]
async fn a_lost_reply_is_sent_again() {
    check("lost_reply.txt", &lost_reply(Encoding::Xml).await.transcript);
}

/// Each message is proved by itself, in both directions of the nonce.
#[tokio::test]
async fn a_device_that_proves_each_message_is_armed() {
    let mut talk = Harness::with(Encoding::Wbxml, AuthKind::Mac).await;
    assert_eq!(talk.run_session(1).await, SessionOutcome::Complete);
    assert!(talk.device.armed.is_some());
    check("proof_of_each_message.txt", &talk.transcript);
}

/// The server has lost the nonce of its proof, as after a restored backup.
pub(crate) async fn stale_server_nonce(encoding: Encoding, auth: AuthKind) -> Harness {
    let mut talk = Harness::with(encoding, auth).await;
    talk.device.server_nonce = b"of next year".to_vec();
    assert_eq!(talk.run_session(1).await, SessionOutcome::Complete);
    assert!(talk.device.armed.is_some());
    talk
}

/// The device has another password for the server: no command of the server is executed.
pub(crate) async fn wrong_server_password(encoding: Encoding) -> Harness {
    let mut talk = Harness::new(encoding).await;
    talk.set_server_secret(Secret::new("fumocast", "another password"));
    let refused = SessionOutcome::Failed(SessionError::ServerNotProved);
    assert_eq!(talk.run_session(1).await, refused);
    assert!(talk.device.armed.is_none());
    talk
}

/// The server has another password of the device.
pub(crate) async fn wrong_password(encoding: Encoding) -> Harness {
    let mut talk = Harness::new(encoding).await;
    talk.set_device_secret(Secret::new("LAB-0001", "another password"));
    let refused = SessionOutcome::Failed(SessionError::CredentialsRefused);
    assert_eq!(talk.run_session(1).await, refused);
    assert!(talk.device.armed.is_none());
    talk
}

// test: oma-dm 5.2
#[tokio::test]
async fn a_server_with_a_stale_nonce_is_challenged_once() {
    let talk = stale_server_nonce(Encoding::Xml, AuthKind::Md5).await;
    check("stale_server_nonce.txt", &talk.transcript);
    let talk = stale_server_nonce(Encoding::Wbxml, AuthKind::Mac).await;
    check("stale_server_nonce.hmac.txt", &talk.transcript);
}

// test: oma-dm 5.2
#[tokio::test]
async fn a_server_with_a_wrong_password_is_not_obeyed() {
    check("wrong_server_password.txt", &wrong_server_password(Encoding::Xml).await.transcript);
}

#[tokio::test]
async fn a_device_with_a_wrong_password_is_sent_nothing() {
    check("wrong_password.txt", &wrong_password(Encoding::Xml).await.transcript);
}

/// Both sides prove themselves in every session, and neither has to be challenged.
#[tokio::test]
async fn sessions_that_follow_each_other_need_no_challenge() {
    for auth in [AuthKind::Basic, AuthKind::Md5] {
        let mut talk = Harness::with(Encoding::Wbxml, auth).await;
        for session in 1..5 {
            assert_eq!(talk.run_session(session).await, SessionOutcome::Complete, "{auth}");
        }
        assert!(talk.device.armed.is_some());
        for code in ["401", "407"] {
            assert!(!talk.transcript.contains(code), "{auth}: {}", talk.transcript);
        }
    }
}

/// The manifest does not fit into a message of the device.
pub(crate) async fn large_object(encoding: Encoding) -> Harness {
    let mut talk = Harness::new(encoding).await;
    talk.limit_message_size(2_048);
    assert_eq!(talk.run_session(1).await, SessionOutcome::Complete);
    let armed = talk.device.armed.as_ref().expect("it is armed");
    assert_eq!(armed.manifest, vec![0xc2; 2_600]);
    talk
}

#[tokio::test]
async fn a_large_object_goes_over_several_messages() {
    check("large_object.txt", &large_object(Encoding::Xml).await.transcript);
    large_object(Encoding::Wbxml).await;
}

/// The device requests an update by itself; by the operator's setting it gets it in a later
/// session.
pub(crate) async fn device_request(encoding: Encoding) -> Harness {
    let mut talk = Harness::new(encoding).await;
    let later = Some(UpdateRequestPolicy::Later);
    update_requests::set_device(&talk.store, talk.now.utc, &id(), later).await.unwrap();
    let object = Some("./FwUpdate/Main".to_owned());
    talk.device.request = Some(UpdateRequest {
        initiator: UpdateInitiator::Device,
        object,
        data: "nightly".to_owned(),
    });
    assert_eq!(talk.run_session(1).await, SessionOutcome::Complete);
    assert_eq!(talk.device.answer, Some(StatusCode::ACCEPTED));
    assert!(talk.device.armed.is_none(), "it was put off");
    assert_eq!(talk.run_session(2).await, SessionOutcome::Complete);
    assert!(talk.device.armed.is_some());
    talk
}

/// The user requests updates of all firmware, is notified, and gets the update at once.
pub(crate) async fn user_request(encoding: Encoding) -> Harness {
    let mut talk = Harness::new(encoding).await;
    talk.device.request =
        Some(UpdateRequest { initiator: UpdateInitiator::User, object: None, data: String::new() });
    assert_eq!(talk.run_session(1).await, SessionOutcome::Complete);
    assert_eq!(talk.device.answer, Some(StatusCode::OK));
    assert!(talk.device.armed.is_some());
    talk
}

// test: oma-004 FWUPDATE-C-001
#[tokio::test]
async fn a_device_asks_and_is_served_later() {
    check("device_request.txt", &device_request(Encoding::Wbxml).await.transcript);
    device_request(Encoding::Xml).await;
}

// test: oma-004 FWUPDATE-C-001, oma-000 8.2.1.user, oma-003 5.5.1.5.2
#[tokio::test]
async fn a_user_requests_an_update_and_is_notified_and_served() {
    check("user_request.txt", &user_request(Encoding::Xml).await.transcript);
    user_request(Encoding::Wbxml).await;
}

fn delivery(way: DeliveryMethod) -> Delivery {
    let ask_user = Some("Update to 2.0? Your data stays.".to_owned());
    Delivery { methods: vec![way], bundle_bytes: 3_000, ask_user, software: None }
}

async fn phase(talk: &Harness) -> ArmingPhase {
    talk.store.device_attempts(&id()).await.unwrap()[0].phase
}

/// Scenario 1 of source 001: the steps 3 to 14 stand in the transcript, 0 and 1 come before it.
pub(crate) async fn scenario_1(encoding: Encoding) -> Harness {
    let mut talk = Harness::with_delivery(encoding, delivery(DeliveryMethod::Direct)).await;
    talk.limit_message_size(2_048);
    assert_eq!(talk.run_session(1).await, SessionOutcome::Complete);
    assert_eq!(talk.device.asked.len(), 1);
    assert_eq!(talk.device.package, vec![0xb0; 3_000]);
    let correlator = talk.device.updates.take();
    assert!(correlator.is_some());
    talk.note("the device installs the package and starts again\n");
    reports(&mut talk, correlator, Operation::Update).await;
    talk
}

/// The device runs the new version and reports the result.
async fn reports(talk: &mut Harness, correlator: Option<Correlator>, operation: Operation) {
    let result = ResultCode::SUCCESS;
    let alert = FinalAlert { correlator, operation, result, campaign: None, subject: None };
    talk.device.queue.push(alert);
    talk.device.firmware = "2.0".to_owned();
    assert_eq!(talk.run_session(2).await, SessionOutcome::Complete);
    assert_eq!(phase(talk).await, ArmingPhase::Confirmed);
}

/// The session that transfers a package is lost after its second chunk: the next one transfers the
/// remainder. No part of the package repeats.
pub(crate) async fn scenario_1_goes_on(encoding: Encoding) -> Harness {
    let mut talk = Harness::with_delivery(encoding, delivery(DeliveryMethod::Direct)).await;
    let package: Vec<u8> = (0..3_000_u32).flat_map(|n| n.to_be_bytes()).skip(6_000).collect();
    talk.replace_package(&package);
    talk.limit_message_size(2_048);
    let mut post = talk.start_session(1);
    while talk.transcript.matches(" and more").count() < 2 {
        let answer = talk.deliver(&post).await;
        let Step::Send(next) = talk.receive(&answer) else { panic!("it goes on") };
        post = next;
    }
    talk.note("the session is lost\n");
    let held = talk.device.held.len();
    assert!((1_000..5_900).contains(&held), "{held}");
    assert_eq!(talk.run_session(2).await, SessionOutcome::Complete);
    assert_eq!(talk.device.package, package);
    assert!(talk.device.updates.is_some());
    let again = talk.transcript.matches("Replace ./FwUpdate/Main/Update/PkgData").count();
    assert!(talk.transcript.contains("Replace ./FwUpdate/Main/Ext/Package/Rest") && again > 0);
    talk
}

// test: oma-dm 11.2
#[tokio::test]
async fn a_package_is_resumed_in_the_next_session() {
    check("scenario_1_goes_on.txt", &scenario_1_goes_on(Encoding::Xml).await.transcript);
    scenario_1_goes_on(Encoding::Wbxml).await;
}

/// Scenario 2 of source 001: what goes over DM; the download itself is between other parties.
pub(crate) async fn scenario_2(encoding: Encoding) -> Harness {
    let mut talk = Harness::with_delivery(encoding, delivery(DeliveryMethod::Download)).await;
    assert_eq!(talk.run_session(1).await, SessionOutcome::Complete);
    let request = talk.device.download.take().expect("a download is commanded");
    assert!(request.url.starts_with("http://127.0.0.1:8080/download/"), "{}", request.url);
    talk.note("the device downloads and installs the package and starts again\n");
    reports(&mut talk, request.correlator, request.operation).await;
    talk
}

/// The user refuses: the address and the Exec are not sent.
pub(crate) async fn user_says_no(encoding: Encoding) -> Harness {
    let mut talk = Harness::with_delivery(encoding, delivery(DeliveryMethod::Download)).await;
    talk.device.user_says = Answer::No;
    assert_eq!(talk.run_session(1).await, SessionOutcome::Complete);
    assert!(talk.device.armed.is_none() && talk.device.download.is_none());
    assert_eq!(phase(&talk).await, ArmingPhase::Refused);
    talk
}

/// All that leads to the Exec is too long for a message, but each of its two parts is not.
pub(crate) async fn staged(encoding: Encoding) -> Harness {
    for limit in (3_000..9_000).step_by(50) {
        let mut talk = Harness::new(encoding).await;
        talk.limit_message_size(limit);
        assert_eq!(talk.run_session(1).await, SessionOutcome::Complete, "{limit}");
        assert!(talk.device.armed.is_some(), "{limit}");
        if talk.transcript.contains(" Atomic\n") {
            return talk;
        }
    }
    panic!("the documents go in an Atomic at no limit");
}

#[tokio::test]
async fn what_does_not_fit_one_message_is_staged_and_then_started() {
    check("staged.txt", &staged(Encoding::Wbxml).await.transcript);
    staged(Encoding::Xml).await;
}

/// The device aborts a session: a call takes precedence.
pub(crate) async fn device_aborts(encoding: Encoding) -> Harness {
    let mut talk = Harness::new(encoding).await;
    let post = talk.start_session(1);
    talk.note("a call begins\n");
    assert_eq!(talk.client.abort(talk.now, &mut talk.device), None);
    assert_eq!(talk.continue_session(post).await, SessionOutcome::Aborted);
    assert_eq!(phase(&talk).await, ArmingPhase::Pending);
    talk
}

/// The server aborts a session: the campaign was stopped while its documents were in transfer.
pub(crate) async fn server_aborts(encoding: Encoding) -> Harness {
    let mut talk = Harness::new(encoding).await;
    talk.limit_message_size(2_048);
    let mut post = talk.start_session(1);
    while !talk.transcript.contains("and more") {
        let answer = talk.deliver(&post).await;
        let Step::Send(next) = talk.receive(&answer) else { panic!("it goes on") };
        post = next;
    }
    talk.stop_campaign().await;
    let outcome = talk.continue_session(post).await;
    assert_eq!(outcome, SessionOutcome::Failed(SessionError::AbortedByServer));
    assert!(talk.device.armed.is_none());
    talk
}

// test: oma-dm 1.1 (1223)
#[tokio::test]
async fn a_session_that_either_side_breaks_off_step_by_step() {
    check("abort_by_device.txt", &device_aborts(Encoding::Wbxml).await.transcript);
    check("abort_by_server.txt", &server_aborts(Encoding::Xml).await.transcript);
    device_aborts(Encoding::Xml).await;
    server_aborts(Encoding::Wbxml).await;
}

/// A client of FUMO 1.0 has no `Ext/Broadcast`: 404 for each of its nodes, and a descriptor then.
// test: oma-002 8 (versions)
#[tokio::test]
async fn a_client_of_fumo_1_0_is_asked_once_and_gets_a_descriptor() {
    let ways = vec![DeliveryMethod::Broadcast, DeliveryMethod::Download];
    let delivery = Delivery { methods: ways, bundle_bytes: 3_000, ask_user: None, software: None };
    let mut talk = Harness::with_delivery(Encoding::Xml, delivery).await;
    let mut post = talk.start_session(1);
    loop {
        let answer = talk.deliver_changed(&post, without_our_extension).await;
        match talk.receive(&answer) {
            Step::Send(next) => post = next,
            Step::WaitForUser => panic!("nobody is asked"),
            Step::Done(outcome) => {
                assert_eq!(outcome, SessionOutcome::Complete);
                break;
            }
        }
    }
    assert!(talk.device.download.is_some() && talk.device.armed.is_none());
    let written = talk.transcript.lines().filter(|line| line.contains("Replace ./FwUpdate"));
    assert!(written.clone().all(|line| !line.contains("Ext/")), "{}", talk.transcript);
    assert!(!talk.transcript.contains("fumocast:"), "{}", talk.transcript);
    check("client_of_fumo_1_0.txt", &talk.transcript);
}

/// Changes a message to that of a client without the nodes of our extension.
fn without_our_extension(message: &mut Message) {
    let is_ours = |uri: &str| uri.contains("/Ext/");
    message.commands.retain(|command| {
        let Command::Results(results) = command else { return true };
        !results.items.iter().any(|item| item.source_uri().is_some_and(is_ours))
    });
    for command in &mut message.commands {
        if let Command::Status(status) = command
            && status.target_refs.iter().any(|uri| is_ours(uri))
        {
            status.code = StatusCode::NOT_FOUND;
        }
    }
}

/// A server of FUMO 1.0 reads the standard nodes of our client, and starts a download.
// test: oma-002 8 (versions)
#[tokio::test]
async fn a_server_of_fumo_1_0_sees_an_object_of_fumo_1_0() {
    let mut talk = Harness::new(Encoding::Xml).await;
    let post = talk.start_session(1);
    let said = send_as_1_0(&mut talk, &post, |ids| {
        let get = |uri: &str| Command::Get(Manage::new(ids(), vec![Item::target(uri)]));
        ["./FwUpdate/Main", "./FwUpdate/Main/State", "./DevDetail/FwV"].map(get).to_vec()
    });
    let Step::Send(post) = said else { panic!("{said:?}") };
    let said = send_as_1_0(&mut talk, &post, |ids| {
        let url = Item::text("./FwUpdate/Main/DownloadAndUpdate/PkgURL", "http://a.example/p.dd");
        let exec = Exec {
            id: ids(),
            correlator: Some(Correlator("1.0".to_owned())),
            meta: None,
            item: Item::target("./FwUpdate/Main/DownloadAndUpdate"),
        };
        let url = Command::Replace(Manage::new(ids(), vec![url]));
        let commands = vec![url, Command::Exec(Box::new(exec))];
        vec![Command::Sequence(Group { id: ids(), meta: None, commands })]
    });
    let Step::Send(post) = said else { panic!("{said:?}") };
    let said = send_as_1_0(&mut talk, &post, |_| Vec::new());
    assert_eq!(said, Step::Done(SessionOutcome::Complete));
    let request = talk.device.download.take().expect("a download is commanded");
    assert_eq!(request.correlator, Some(Correlator("1.0".to_owned())));
    check("server_of_fumo_1_0.txt", &talk.transcript);
}

/// Answers a message as a server without our extension.
fn send_as_1_0(
    talk: &mut Harness,
    post: &HttpRequest,
    commands: impl FnOnce(&mut dyn FnMut() -> CommandId) -> Vec<Command>,
) -> Step {
    let message = talk.record("device", &post.body);
    let mut last = 0;
    let mut ids = || {
        last += 1;
        CommandId::new(last)
    };
    let header = Status::for_header(ids(), &message.header, StatusCode::AUTHENTICATED);
    let mut said = vec![Command::Status(header)];
    for asked in message.commands.iter().filter(|command| command.wants_status()) {
        let (id, number) = (ids(), message.header.message_id);
        let status = Status::new(id, number, asked.id(), asked.verb(), StatusCode::OK);
        said.push(Command::Status(status));
    }
    said.extend(commands(&mut ids));
    let header = Header {
        target: message.header.source.clone(),
        source: message.header.target.clone(),
        credential: talk.server_credential(),
        ..message.header
    };
    let reply = Message { header, commands: said, is_final: true };
    let octets = post.encoding.emit(&reply);
    talk.record("server", &octets);
    talk.receive(&OutboundMessage { bytes: octets.into(), mac: None })
}

// test: oma-001 8.1.1.4, oma-001 8.1.1.6, oma-001 8.1.1.10, oma-001 8.1.1.11, oma-000 8.1.s1
#[tokio::test]
async fn a_package_goes_through_the_session_step_by_step() {
    check("scenario_1.txt", &scenario_1(Encoding::Xml).await.transcript);
    scenario_1(Encoding::Wbxml).await;
}

// test: oma-001 8.1.2.10, oma-001 8.1.2.11, oma-001 8.1.2.24, oma-000 8.1.s2, oma-001 8.1.2.0
#[tokio::test]
async fn a_download_is_begun_and_reported_step_by_step() {
    check("scenario_2.txt", &scenario_2(Encoding::Xml).await.transcript);
    scenario_2(Encoding::Wbxml).await;
}

#[tokio::test]
async fn a_user_who_says_no_is_left_in_peace() {
    check("user_says_no.txt", &user_says_no(Encoding::Xml).await.transcript);
}
