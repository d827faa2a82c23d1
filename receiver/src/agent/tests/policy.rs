//! The server's policy for installation and consent: the nodes `Policy/Install` and
//! `Policy/Consent`.

use proto::dm::{code::StatusCode, policy::PolicyNode, ui::Answer};

use super::*;
use crate::user::{Consent, PromptPurpose, Reply, Settings, StandingConsent, UserInterface};

impl Device {
    fn set(&mut self, node: &str, value: &str) -> StatusCode {
        let code = self.agent.owners.set_policy(self.now, node, value);
        self.agent.settle(self.now);
        self.run();
        code
    }

    /// Returns what the node shows.
    fn shown(&self, node: &str) -> String {
        let nodes = self.agent.owners.view().policy.nodes();
        nodes.into_iter().find(|(path, _)| *path == node).expect("it is there").1
    }

    fn on_command() -> Self {
        let mut device = Self::new();
        assert_eq!(device.set(PolicyNode::Install.path(), "on-command"), StatusCode::OK);
        device
    }

    fn receive_in_window(&mut self) {
        self.arm();
        self.to(OPENS);
        self.receive_pass();
    }

    fn exec_update(&mut self) -> StatusCode {
        let correlator = Some(Correlator("c-2".to_owned()));
        let code = self.agent.owners.update(self.now, correlator);
        self.agent.settle(self.now);
        self.run();
        code
    }

    fn agree(&mut self) {
        let ticket = self.asked.last().expect("somebody was asked").ticket;
        self.agent.handle_user_reply(self.now, ticket, Reply::Answer(Answer::Yes));
        self.run();
    }

    fn about(&self) -> Vec<PromptPurpose> {
        self.asked.iter().map(|question| question.about).collect()
    }
}

fn with_user(consent: Consent, standing: StandingConsent) -> Device {
    Device::with_user(Settings {
        front: UserInterface::Interactive,
        consent,
        standing,
        ..Settings::default()
    })
}

// test: oma-002 6 (policy of installation)
#[test]
fn an_image_is_held_until_the_server_commands_its_installation() {
    let mut device = Device::on_command();
    device.restart();
    device.receive_in_window();
    assert_eq!((device.phase(), device.results()), (Phase::Verified, vec![250]));
    assert_eq!((device.agent.status().state, device.installed.len()), (50, 0));
    device.restart();
    assert!(device.installed.is_empty() && device.results() == [250], "it is said once");
    assert_eq!(device.exec_update(), StatusCode::ACCEPTED);
    assert_eq!((device.phase(), device.results()), (Phase::Confirmed, vec![250, 200]));
    let of: Vec<_> = device.alerts().into_iter().map(|it| it.correlator.unwrap().0).collect();
    assert_eq!((of, device.installed.len()), (vec!["c-1".to_owned(), "c-2".to_owned()], 1));
}

#[test]
fn what_the_policy_holds_is_installed_when_it_changes_and_what_a_download_holds_is_not() {
    for (operation, installs) in [(Exec::DownloadAndUpdate, true), (Exec::Download, false)] {
        let mut device = Device::on_command();
        let request = ArmRequest { operation, ..device.request() };
        device.arm_with(request);
        device.to(OPENS);
        device.receive_pass();
        assert!(device.installed.is_empty());
        device.restart();
        device.set(PolicyNode::Battery.path(), "1");
        assert!(device.installed.is_empty(), "another node");
        device.set(PolicyNode::Install.path(), "at-once");
        assert_eq!(device.installed.len(), usize::from(installs), "{operation}");
        assert_eq!(device.results(), if installs { vec![250, 200] } else { vec![200] });
    }
}

// test: oma-003 6.1.4.14
#[test]
fn a_server_adds_prompts_and_removes_none() {
    use Consent::{Both, Install, None};
    for (own, value, code, counts) in [
        (None, "both", StatusCode::OK, Both),
        (None, "none", StatusCode::OK, None),
        (Install, "both", StatusCode::OK, Both),
        (Install, "install", StatusCode::OK, Install),
        (Install, "none", StatusCode::FORBIDDEN, Install),
        (Install, "download", StatusCode::FORBIDDEN, Install),
        (Both, "download", StatusCode::FORBIDDEN, Both),
        (None, "always", StatusCode::BAD_REQUEST, None),
        (None, "", StatusCode::BAD_REQUEST, None),
    ] {
        let mut device = with_user(own, StandingConsent::Open);
        assert_eq!(device.set(PolicyNode::Consent.path(), value), code, "{own:?} {value}");
        device.restart();
        assert_eq!(device.shown(PolicyNode::Consent.path()), counts.as_str(), "{own:?} {value}");
        device.receive_in_window();
        assert_eq!(device.about().contains(&PromptPurpose::Download), counts.covers_download());
        assert_eq!(device.installed.len(), usize::from(counts == None), "{own:?} {value}");
    }
    // The word of a server does not make a user appear.
    let mut device = Device::new();
    assert_eq!(device.set(PolicyNode::Consent.path(), "both"), StatusCode::NOT_SUPPORTED);
    assert_eq!(device.set(PolicyNode::Install.path(), "never"), StatusCode::BAD_REQUEST);
    assert_eq!(device.shown(PolicyNode::Install.path()), "at-once");
    device.receive_in_window();
    assert_eq!(device.phase(), Phase::Confirmed);
}

// test: oma-003 6.1.4.14
#[test]
fn a_policy_of_consent_counts_at_once_and_the_standing_consent_takes_precedence() {
    let mut device = with_user(Consent::None, StandingConsent::Open);
    device.arm();
    device.to(OPENS);
    device.receive_some(3);
    assert_eq!(device.joined.len(), 1);
    device.set(PolicyNode::Consent.path(), "both");
    assert_eq!((device.about(), device.joined.len()), (vec![PromptPurpose::Download], 0));
    device.agree();
    device.receive_pass();
    assert_eq!((device.phase(), device.installed.len()), (Phase::Deferred, 0));
    device.set(PolicyNode::Consent.path(), "none");
    assert_eq!(device.phase(), Phase::Confirmed, "nobody wants it asked any more");

    for (standing, result) in [
        (StandingConsent::Given(Consent::Both), 200),
        (StandingConsent::Refused(Consent::Both), 401),
        (StandingConsent::Refused(Consent::Install), 401),
    ] {
        for value in ["none", "both"] {
            let mut device = with_user(Consent::None, standing);
            assert_eq!(device.set(PolicyNode::Consent.path(), value), StatusCode::OK);
            device.arm();
            device.to(OPENS);
            if !device.asked.is_empty() {
                device.agree();
            }
            device.receive_pass();
            assert_eq!(device.results(), [result], "{standing:?} {value}");
            assert!(!device.about().contains(&PromptPurpose::Install), "the user has decided that");
        }
    }
}
