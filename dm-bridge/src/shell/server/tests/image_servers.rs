//! Image servers that do not answer, and steps that are no more due.

use proto::ids::Tsi;
use tokio::sync::Semaphore;

use super::*;
use crate::{
    app::campaign_transitions,
    campaign::{
        model::{Campaign, CampaignState, Window},
        reconcile::Step,
    },
    fleet::audit::{Actor, Audit},
    shell::reconciler::run_due_step,
};

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

/// Two bridges on one store: one was paused in its `open` while the other stopped the session.
#[tokio::test(flavor = "multi_thread")]
async fn an_open_that_comes_after_a_stop_is_stopped_again() {
    let mut bridge = Bridge::start().await;
    bridge.enrol("LAB-0001").await;
    let (gate, asked) = (Arc::new(Semaphore::new(0)), Asked::default());
    let note = |asked: &Asked, text: &str| asked.lock().unwrap().push(text.to_owned());
    let (waits, noted, stopped) = (Arc::clone(&gate), Arc::clone(&asked), Arc::clone(&asked));
    let open = move || async move {
        note(&noted, "open");
        drop(waits.acquire().await);
    };
    let stop = move || async move { note(&stopped, "stop") };
    let router =
        Router::new().route("/control/v1/open", post(open)).route("/control/v1/stop", post(stop));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    bridge.stop().await;
    let id = bridge.campaign(&url).await;
    let store = bridge.store().await;
    let now = Clock.now().utc;
    let air = ("127.0.0.1".parse().unwrap(), Tsi(77));
    campaign_transitions::mark_prepared(&store, now, id, 1, air).await.unwrap();
    let here = "127.0.0.1:0".parse().unwrap();
    let settings = settings(bridge.folder.path(), here, Admission::default());
    let shared = Arc::new(shared(&store, settings).unwrap());
    let paused = Arc::clone(&shared);
    let opening = tokio::spawn(async move { run_due_step(&paused, Step::Open(id)).await });
    bridge.until(|| asked.lock().unwrap().len() == 1, "the session is being opened").await;
    campaigns::stop(&store, now, id).await.unwrap();
    run_due_step(&shared, Step::Stop(id, CampaignState::Stopped)).await.unwrap();
    assert_eq!(*asked.lock().unwrap(), ["open", "stop"]);
    gate.add_permits(1);
    opening.await.unwrap().unwrap();
    assert_eq!(*asked.lock().unwrap(), ["open", "stop", "stop"]);
    let campaign = campaigns::find(&store, id).await.unwrap();
    assert_eq!(campaign.state, CampaignState::Stopped);
    assert!(!campaign.prepared.unwrap().opened);
}

#[tokio::test]
async fn a_stop_after_the_window_is_sent_and_its_failure_hinders_nothing() {
    let (answering, asked) = image_server().await;
    for url in [answering.as_str(), "http://127.0.0.1:1"] {
        let mut bridge = Bridge::start().await;
        bridge.enrol("LAB-0001").await;
        bridge.stop().await;
        let id = bridge.campaign(url).await;
        let store = bridge.store().await;
        let now = Clock.now().utc;
        let air = ("127.0.0.1".parse().unwrap(), Tsi(77));
        campaign_transitions::mark_prepared(&store, now, id, 1, air).await.unwrap();
        campaigns::stop(&store, now, id).await.unwrap();
        let campaign = campaigns::find(&store, id).await.unwrap();
        let window = campaign.window.map(|window| Window { closes: window.opens, ..window });
        let audit = Audit {
            actor: Actor::Operator,
            action: "test.change",
            subject: String::new(),
            detail: String::new(),
        };
        store.apply(now, audit, vec![Campaign { window, ..campaign }.into()]).await.unwrap();
        let here = "127.0.0.1:0".parse().unwrap();
        let settings = settings(bridge.folder.path(), here, Admission::default());
        let shared = shared(&store, settings).unwrap();
        run_due_step(&shared, Step::Stop(id, CampaignState::Stopped)).await.unwrap();
        assert_eq!(campaigns::find(&store, id).await.unwrap().state, CampaignState::Stopped);
    }
    assert_eq!(*asked.lock().unwrap(), ["stop"]);
}
