//! Image servers that do not answer, and steps that are no more due.

use super::*;
use crate::{campaign::reconcile::Step, shell::reconciler::run_due_step};

/// An image server whose system accepts connections and which never answers.
async fn silent() -> (String, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    (format!("http://{}", listener.local_addr().unwrap()), listener)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_server_that_does_not_answer_holds_up_no_other() {
    let bridge = Bridge::start().await;
    bridge.enrol("LAB-0001").await;
    let (silent, listener) = silent().await;
    let (answering, asked) = image_server().await;
    let mut kit = current(Clock.now().utc);
    let first = bridge.campaign_of(&kit, &silent, Delivery::default()).await;
    let (_held, _) = listener.accept().await.unwrap();
    kit.campaign.id = CampaignId([77; 16]);
    kit.campaign.sequence += 1;
    let second = bridge.campaign_of(&kit, &answering, Delivery::default()).await;
    let opened = || *asked.lock().unwrap() == ["prepare", "open 77"];
    bridge.until(opened, "the second campaign is opened").await;
    assert_eq!(bridge.show(first).last_error, None, "its call has not ended");
    let store = bridge.store().await;
    campaigns::stop(&store, Clock.now().utc, second).await.unwrap();
    bridge.wait_for(second, "stopped", |campaign| campaign.state == "stopped");
    assert_eq!(bridge.show(first).last_error, None, "its call has not ended");
}

#[tokio::test]
async fn a_step_that_an_operator_has_made_needless_calls_nobody() {
    let mut bridge = Bridge::start().await;
    bridge.enrol("LAB-0001").await;
    let (silent, listener) = silent().await;
    bridge.stop().await;
    let id = bridge.campaign(&silent).await;
    let store = bridge.store().await;
    let here = "127.0.0.1:0".parse().unwrap();
    let shared =
        shared(&store, settings(bridge.folder.path(), here, Admission::default())).unwrap();
    campaigns::stop(&store, Clock.now().utc, id).await.unwrap();
    for step in [Step::Prepare(id), Step::Open(id), Step::Close(id)] {
        run_due_step(&shared, step).await.unwrap();
    }
    let accepted = tokio::time::timeout(Duration::from_millis(1), listener.accept()).await;
    assert!(accepted.is_err(), "the image server is called");
    assert_eq!(campaigns::find(&store, id).await.unwrap().state.as_str(), "stopping");
}
