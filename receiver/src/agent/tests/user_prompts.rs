//! The steps that require the user's consent, and the prompts for it.

use proto::dm::ui::{Answer, Prompt, PromptKind};

use super::*;
use crate::{
    agent::operations::ask,
    suspension::ExternalCondition,
    user::{
        AutoAnswer, Consent, MAX_WAIT, PromptPurpose, Reply, Settings, StandingConsent,
        UserInterface,
    },
};

fn asking(consent: Consent) -> Device {
    Device::with_user(Settings {
        front: UserInterface::Interactive,
        consent,
        ..Settings::default()
    })
}

impl Device {
    /// The user answers the question that was asked last.
    fn say(&mut self, reply: Reply) {
        let ticket = self.asked.last().expect("somebody was asked").ticket;
        self.agent.handle_user_reply(self.now, ticket, reply);
        self.run();
    }

    fn yes(&mut self) {
        self.say(Reply::Answer(Answer::Yes));
    }

    fn questions(&self) -> Vec<PromptPurpose> {
        self.asked.iter().map(|question| question.about).collect()
    }

    fn call(&mut self, begins: bool) {
        if begins {
            self.agent.condition_began(self.now, ExternalCondition::Call);
        } else {
            self.agent.condition_ended(self.now, ExternalCondition::Call);
        }
        self.run();
    }
}

// test: oma-003 6.1.4.14, oma-003 6.1.4.15, oma-003 6.1.4.17, oma-003 6.1.4.13, oma-003 5.5.1.6.6, oma-003 5.5.1.6.4
#[test]
fn the_user_agrees_before_the_download_and_before_the_installation_and_is_notified_of_the_end() {
    let mut device = asking(Consent::Both);
    device.arm();
    device.to(OPENS);
    assert_eq!((device.questions(), device.joined.len()), (vec![PromptPurpose::Download], 0));
    device.yes();
    assert_eq!(device.joined.len(), 1);
    device.receive_pass();
    assert_eq!(device.phase(), Phase::Deferred);
    assert!(device.installed.is_empty());
    assert_eq!(device.questions(), [PromptPurpose::Download, PromptPurpose::Install]);
    device.yes();
    assert_eq!(device.phase(), Phase::Confirmed);
    assert_eq!(device.installed.len(), 1);
    let notice = device.asked.last().unwrap();
    assert_eq!((notice.about, notice.prompt.kind), (PromptPurpose::Result, PromptKind::Display));
    assert_eq!(notice.prompt.text, "Version 2.0 is installed.");
}

#[test]
fn a_no_ends_the_operation_and_is_reported_as_the_users() {
    for (consent, receives) in [(Consent::Download, false), (Consent::Install, true)] {
        for answer in [Answer::No, Answer::Cancelled] {
            let mut device = asking(consent);
            device.arm();
            device.to(OPENS);
            if receives {
                device.receive_pass();
            }
            device.say(Reply::Answer(answer));
            assert_eq!(device.results(), [401]);
            assert_eq!(device.phase(), Phase::Refused);
            assert!(device.installed.is_empty() && device.joined.is_empty());
        }
    }
}

// test: oma-000 8.2.5.1
#[test]
fn a_user_learns_that_an_installation_failed_and_that_the_device_works() {
    let mut device = asking(Consent::Both);
    device.arm();
    device.yes();
    device.to(OPENS);
    device.install_ends = InstallOutcome::Failed;
    device.receive_pass();
    device.yes();
    assert_eq!((device.phase(), device.results()), (Phase::Failed, vec![410]));
    assert_eq!(device.agent.status().state, 80);
    let notice = device.asked.last().unwrap();
    assert_eq!(notice.about, PromptPurpose::Result);
    assert!(
        notice.prompt.text.starts_with("Version 2.0 was not installed: "),
        "{}",
        notice.prompt.text
    );
    assert!(notice.prompt.text.ends_with("The device works as before."));
}

#[test]
fn the_standing_consent_of_enrolment_answers_for_each_update() {
    for (standing, result) in [
        (StandingConsent::Given(Consent::Both), 200),
        (StandingConsent::Refused(Consent::Both), 401),
        (StandingConsent::Refused(Consent::Install), 401),
    ] {
        for consent in [Consent::None, Consent::Both] {
            let front = UserInterface::Automatic(AutoAnswer::Yes);
            let mut device =
                Device::with_user(Settings { front, consent, standing, ..Settings::default() });
            device.arm();
            device.to(OPENS);
            device.receive_pass();
            assert_eq!(device.results(), [result], "{standing:?} {consent:?}");
            assert!(device.questions().is_empty());
            assert_eq!(device.installed.len(), usize::from(result == 200));
        }
    }
}

// test: oma-003 5.5.1.5
#[test]
fn an_installation_that_the_user_defers_is_prompted_for_again() {
    let mut device = asking(Consent::Install);
    device.arm();
    device.to(OPENS);
    device.receive_pass();
    device.say(Reply::Later);
    assert_eq!(device.phase(), Phase::Deferred);
    device.to(OPENS + 3599);
    assert_eq!(device.asked.len(), 1);
    device.to(OPENS + 3600);
    assert_eq!(device.questions(), [PromptPurpose::Install, PromptPurpose::Install]);
    device.yes();
    assert_eq!(device.phase(), Phase::Confirmed);
}

#[test]
fn a_prompt_survives_a_restart_and_an_answer_too() {
    let mut device = asking(Consent::Both);
    device.arm();
    device.restart();
    assert_eq!(device.questions(), [PromptPurpose::Download, PromptPurpose::Download]);
    device.yes();
    device.restart();
    device.to(OPENS);
    device.receive_pass();
    assert_eq!(device.phase(), Phase::Deferred);
    device.restart();
    assert_eq!(device.asked.last().unwrap().about, PromptPurpose::Install);
    assert_eq!(device.asked.len(), 4, "the download is not asked for again");
    device.yes();
    assert_eq!(device.phase(), Phase::Confirmed);
    assert_eq!(device.installed.len(), 1);
}

// test: oma-003 6.1.4.10, oma-003 6.1.4.11
#[test]
fn no_question_comes_during_a_call_and_it_comes_after_it() {
    let mut device = asking(Consent::Install);
    device.arm();
    device.to(OPENS);
    device.receive_pass();
    device.say(Reply::Later);
    device.call(true);
    device.to(OPENS + 3600);
    assert_eq!(device.asked.len(), 1, "a call goes on");
    device.call(false);
    assert_eq!(device.asked.len(), 2);
}

// test: oma-003 6.1.4.8
#[test]
fn a_package_that_is_installed_already_is_no_reason_to_ask() {
    let mut device = asking(Consent::Both);
    device.arm();
    device.yes();
    device.to(OPENS);
    device.receive_pass();
    device.yes();
    let asked = device.asked.len();
    let mut request = device.request();
    request.correlator = Some(Correlator("c-2".to_owned()));
    device.arm_with(request);
    assert_eq!(device.results().last(), Some(&251));
    assert_eq!(device.asked.len(), asked);
}

// test: oma-003 6.1.4.9, oma-003 6.1.4.12
#[test]
fn the_prompt_names_the_consequences_of_a_yes() {
    let mut device = asking(Consent::Both);
    device.arm();
    device.yes();
    device.to(OPENS);
    device.receive_pass();
    let texts: Vec<_> = device.asked.iter().map(|question| question.prompt.text.clone()).collect();
    for (text, words) in [
        (&texts[0], ["2.0", "MiB", "nothing about you"]),
        (&texts[1], ["warranty", "restart", "nothing about you"]),
    ] {
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    }
}

#[test]
fn a_policy_agrees_or_refuses_without_asking_anybody() {
    for (policy, results) in [(AutoAnswer::Yes, 200), (AutoAnswer::No, 401)] {
        let front = UserInterface::Automatic(policy);
        let settings = Settings { front, consent: Consent::Both, ..Settings::default() };
        let mut device = Device::with_user(settings);
        device.arm();
        device.to(OPENS);
        device.receive_pass();
        assert_eq!(device.results(), [results], "{policy:?}");
        assert!(device.asked.is_empty());
    }
}

#[test]
fn a_question_of_a_session_has_an_end_and_a_late_answer_is_dropped() {
    let mut device = asking(Consent::None);
    let (now, prompt) = (device.now, Prompt::confirm("Update?"));
    assert_eq!(ask(&mut device.agent.owners, now, prompt.clone()), None);
    device.run();
    assert_eq!(device.asked[0].wait, MAX_WAIT);
    let until = now.mono + MAX_WAIT;
    assert!(device.agent.deadline(now).is_some_and(|deadline| deadline <= until));
    device.to(1_500 + MAX_WAIT.as_secs());
    device.say(Reply::Answer(Answer::Yes));
    device.agent.owners.prompts.begin_operation();
    let consent = |device: &Device| device.agent.owners.prompts.download_allowed(Consent::Both);
    assert!(!consent(&device), "it has agreed to nothing");
    // The next one is shown: nothing stands in its way.
    ask(&mut device.agent.owners, device.now, prompt);
    device.run();
    assert_eq!(device.asked.len(), 2);
}

// test: oma-001 8.1.1.7, oma-001 8.1.1.8
#[test]
fn a_user_who_agreed_to_the_server_is_not_prompted_again_by_the_device() {
    let mut device = asking(Consent::Both);
    ask(&mut device.agent.owners, device.now, Prompt::confirm("Update?"));
    device.run();
    device.yes();
    device.arm();
    device.to(OPENS);
    assert_eq!(device.questions(), [PromptPurpose::Session]);
    device.receive_pass();
    assert_eq!(device.questions(), [PromptPurpose::Session, PromptPurpose::Install]);
}

// test: oma-003 6.1.4.6, oma-003 6.1.4.7
#[test]
fn a_server_reaches_a_device_that_is_on_and_after_a_call_one_whose_user_was_in_it() {
    for in_call in [false, true] {
        let mut device = asking(Consent::None);
        let secret = proto::dm::auth::Secret::new("server", SERVER_PASSWORD);
        let mut config = config();
        let nonce = b"server nonce".to_vec();
        let kind = proto::dm::auth::AuthKind::Md5;
        config.dm.account.server = Some(dm::ServerProof { kind, secret: secret.clone(), nonce });
        let root = device.broadcast.keys.root_envelope();
        device.agent = try_boot_as(config, root, &device.disk, device.now, 1).unwrap();
        device.run();
        if in_call {
            device.call(true);
        }
        let notification = proto::dm::notification::Notification {
            user_mode: proto::dm::notification::UserMode::Interactive,
            initiator: proto::dm::notification::Initiator::Server,
            session_id: 7,
            server_id: "server".to_owned(),
            vendor: Vec::new(),
        };
        let octets = notification.emit(&secret, b"server nonce").unwrap();
        let before = device.posts;
        device.agent.handle_notification(device.now, &octets);
        device.run();
        assert_eq!(device.posts, before + usize::from(!in_call), "{in_call}");
        device.call(false);
        assert_eq!(device.posts, before + 1, "{in_call}");
    }
}
