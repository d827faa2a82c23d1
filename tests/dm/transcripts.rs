//! What both sides say, as snapshots: `UPDATE_TRANSCRIPTS=1` writes them anew.

use std::{fs, path::Path};

use dm_bridge::fleet::{arming::ArmingPhase, store::FleetStore as _};
use proto::dm::{encoding::Encoding, fumo::ResultCode};
use receiver::dm::{Proof, client::SessionOutcome};

use crate::talk::{Talk, id};

fn check(name: &str, paper: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("dm/transcripts").join(name);
    if std::env::var_os("UPDATE_TRANSCRIPTS").is_some() {
        fs::write(&path, paper).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(kept, paper, "{name} has changed");
}

/// A device is armed by its first session and reports in its second.
pub(crate) async fn armed_and_reported(encoding: Encoding) -> Talk {
    let mut talk = Talk::new(encoding).await;
    assert_eq!(talk.run(1).await, SessionOutcome::Complete);
    assert!(talk.device.armed.is_some());
    talk.device.finish(ResultCode::SUCCESS);
    talk.device.firmware = "2.0".to_owned();
    assert_eq!(talk.run(2).await, SessionOutcome::Complete);
    let rows = talk.store.device_armings(&id()).await.unwrap();
    assert_eq!(rows[0].phase, ArmingPhase::Confirmed);
    assert!(talk.device.queue.is_empty());
    talk
}

/// The nonce of the device is one that the server does not know any more.
pub(crate) async fn stale_nonce(encoding: Encoding) -> Talk {
    let mut talk = Talk::new(encoding).await;
    talk.device.nonce = b"of last year".to_vec();
    assert_eq!(talk.run(1).await, SessionOutcome::Complete);
    assert!(talk.device.armed.is_some());
    talk
}

/// The first answer is lost, and the device sends its message again.
pub(crate) async fn lost_reply(encoding: Encoding) -> Talk {
    let mut talk = Talk::new(encoding).await;
    let post = talk.begin(1);
    let lost = talk.deliver(&post).await;
    talk.note("the answer is lost\n");
    let answer = talk.deliver(&post).await;
    assert_eq!(lost, answer);
    let receiver::dm::client::Step::Post(next) = talk.hear(&answer) else { panic!("it goes on") };
    assert_eq!(talk.go_on(next).await, SessionOutcome::Complete);
    assert!(talk.device.armed.is_some());
    talk
}

#[tokio::test]
async fn a_broadcast_campaign_is_armed_and_reported() {
    for encoding in [Encoding::Xml, Encoding::Wbxml] {
        let talk = armed_and_reported(encoding).await;
        check(&format!("armed_and_reported.{encoding}.txt"), &talk.paper);
    }
}

#[tokio::test]
async fn a_stale_nonce_costs_one_challenge() {
    check("stale_nonce.txt", &stale_nonce(Encoding::Wbxml).await.paper);
}

#[tokio::test]
async fn a_lost_reply_is_given_again() {
    check("lost_reply.txt", &lost_reply(Encoding::Xml).await.paper);
}

/// Each message is proved by itself, in both directions of the nonce.
#[tokio::test]
async fn a_device_that_proves_each_message_is_armed() {
    let mut talk = Talk::with(Encoding::Wbxml, Proof::Mac).await;
    assert_eq!(talk.run(1).await, SessionOutcome::Complete);
    assert!(talk.device.armed.is_some());
    check("proof_of_each_message.txt", &talk.paper);
}

/// The manifest does not fit into a message of the device.
pub(crate) async fn large_object(encoding: Encoding) -> Talk {
    let mut talk = Talk::new(encoding).await;
    talk.take_at_most(2_048);
    assert_eq!(talk.run(1).await, SessionOutcome::Complete);
    let armed = talk.device.armed.as_ref().expect("it is armed");
    assert_eq!(armed.manifest, vec![0xc2; 2_600]);
    talk
}

#[tokio::test]
async fn a_large_object_goes_over_several_messages() {
    check("large_object.txt", &large_object(Encoding::Xml).await.paper);
    large_object(Encoding::Wbxml).await;
}
