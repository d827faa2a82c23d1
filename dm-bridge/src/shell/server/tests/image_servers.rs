//! Image servers that do not answer or lose sessions, and steps that are no more due.

use std::collections::BTreeMap;

use axum::{extract::Path as Operation, http::StatusCode};
use proto::control::{AirPhase, AirStatus, StatusReply};

use super::*;
use crate::{
    campaign::{
        model::{Campaign, CampaignState, PreparedSession},
        reconcile::Step,
    },
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

/// Answers of an image server, and the calls that it was asked.
#[derive(Default)]
struct Script {
    asked: Vec<String>,
    /// Status of the answers to these operations; others succeed.
    refused: BTreeMap<&'static str, u16>,
    shown: AirStatus,
}

/// An image server whose answers a test sets, and a bridge whose steps it runs.
struct Scripted {
    bridge: Bridge,
    shared: Arc<Shared>,
    script: Arc<Mutex<Script>>,
    id: CampaignId,
}

impl Scripted {
    async fn start() -> Self {
        let mut bridge = Bridge::start().await;
        bridge.enrol("LAB-0001").await;
        bridge.stop().await;
        let script = Arc::new(Mutex::new(Script::default()));
        let answer = |State(script): State<Arc<Mutex<Script>>>,
                      Operation(operation): Operation<String>,
                      body: Bytes| async move {
            let mut script = script.lock().unwrap();
            script.asked.push(operation.clone());
            if let Some(status) = script.refused.get(operation.as_str()) {
                return (StatusCode::from_u16(*status).unwrap(), Vec::new());
            }
            let sessions = vec![script.shown.clone()];
            let reply = match operation.as_str() {
                "prepare" => {
                    let request = PrepareRequest::decode(body).unwrap();
                    let prepared = PrepareReply {
                        source: "127.0.0.1".to_owned(),
                        tsi: 77,
                        group: request.group,
                        port: request.port,
                        ..PrepareReply::default()
                    };
                    prepared.encode_to_vec()
                }
                _ => StatusReply { sessions }.encode_to_vec(),
            };
            (StatusCode::OK, reply)
        };
        let router = Router::new()
            .route("/control/v1/{operation}", post(answer))
            .with_state(Arc::clone(&script));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let id = bridge.campaign(&url).await;
        let store = bridge.store().await;
        let here = "127.0.0.1:0".parse().unwrap();
        let settings = settings(bridge.folder.path(), here, Admission::default());
        let shared = shared(&store, settings).unwrap();
        let scripted = Self { bridge, shared, script, id };
        scripted.show(AirPhase::OnAir, 77, 1);
        scripted
    }

    fn show(&self, phase: AirPhase, tsi: u32, window_revision: u32) {
        let campaign_id = self.id.0.to_vec();
        let phase = phase.into();
        self.script.lock().unwrap().shown =
            AirStatus { campaign_id, phase, tsi, window_revision, ..AirStatus::default() };
    }

    /// Sets the status by which an operation is refused; 0 for none.
    fn refuse(&self, operation: &'static str, status: u16) {
        let refused = &mut self.script.lock().unwrap().refused;
        refused.insert(operation, status);
        refused.retain(|_, status| *status > 0);
    }

    async fn run(&self, step: fn(CampaignId) -> Step) -> Result<(), String> {
        run_due_step(&self.shared, step(self.id)).await.map_err(|error| error.to_string())
    }

    /// Prepares and opens the session; returns the calls.
    async fn open(&self) -> Vec<String> {
        self.run(Step::Prepare).await.unwrap();
        self.run(Step::Open).await.unwrap();
        let session = self.campaign().await.prepared.unwrap();
        assert!(session.opened, "{session:?}");
        self.asked()
    }

    /// Returns the calls since the last time.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.script.lock().unwrap().asked)
    }

    async fn campaign(&self) -> Campaign {
        campaigns::find(&*self.shared.store, self.id).await.unwrap()
    }

    async fn session(&self) -> PreparedSession {
        self.campaign().await.prepared.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_its_image_server_lost_is_prepared_and_opened_again() {
    let scripted = Scripted::start().await;
    assert_eq!(scripted.open().await, ["prepare", "open"]);
    for (status, shown, reason) in [
        (404, (AirPhase::OnAir, 77, 1), "it has none of this campaign"),
        (0, (AirPhase::OnAir, 78, 1), "its TSI is 78 there"),
        (0, (AirPhase::Prepared, 77, 3), "it is not open there"),
    ] {
        scripted.refuse("status", status);
        scripted.show(shown.0, shown.1, shown.2);
        scripted.run(Step::Look).await.unwrap();
        let campaign = scripted.campaign().await;
        assert!(!campaign.prepared.unwrap().opened, "{reason}");
        assert!(campaign.last_error.unwrap().ends_with(reason), "{reason}");
        let store = scripted.bridge.store().await;
        let audit = store.audit_tail(1).await.unwrap().remove(0);
        assert_eq!(audit.action, "campaign.session-lost");
        assert!(audit.detail.ends_with(reason), "{}", audit.detail);
        scripted.asked();
        for _ in 0..2 {
            // Another TSI than before: its window has the next number, and is prepared for it.
            scripted.run(Step::Prepare).await.unwrap();
        }
        scripted.run(Step::Open).await.unwrap();
        assert!(scripted.session().await.opened);
        assert_eq!(scripted.asked().last().unwrap(), "open");
        assert_eq!(scripted.campaign().await.last_error, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_that_finds_nothing_or_fails_changes_nothing() {
    let scripted = Scripted::start().await;
    scripted.open().await;
    let before = scripted.campaign().await;
    for phase in [AirPhase::OnAir, AirPhase::Waiting, AirPhase::Checking, AirPhase::Closed] {
        scripted.show(phase, 77, 1);
        scripted.run(Step::Look).await.unwrap();
    }
    for status in [500, 503, 401, 408] {
        scripted.refuse("status", status);
        scripted.run(Step::Look).await.unwrap();
    }
    scripted.refuse("status", 0);
    scripted.script.lock().unwrap().shown.campaign_id = vec![9; 16];
    scripted.run(Step::Look).await.unwrap();
    assert_eq!(scripted.asked(), ["status"; 9]);
    assert_eq!(scripted.campaign().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_lost_before_it_is_opened_is_prepared_again() {
    let scripted = Scripted::start().await;
    scripted.run(Step::Prepare).await.unwrap();
    scripted.refuse("open", 404);
    scripted.refuse("status", 404);
    assert!(scripted.run(Step::Open).await.is_err());
    assert_eq!(scripted.asked(), ["prepare", "open", "status"]);
    assert!(scripted.campaign().await.last_error.unwrap().contains("it has none"));
    scripted.refuse("open", 0);
    assert_eq!(scripted.open().await, ["prepare", "open"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_whose_number_the_image_server_has_seen_is_numbered_anew() {
    let scripted = Scripted::start().await;
    scripted.refuse("prepare", 409);
    scripted.show(AirPhase::Stopped, 77, 4);
    assert!(scripted.run(Step::Prepare).await.is_err());
    assert_eq!(scripted.campaign().await.window.unwrap().revision, 5);
    scripted.refuse("prepare", 0);
    assert_eq!(scripted.open().await, ["prepare", "status", "prepare", "open"]);
    assert_eq!(scripted.session().await.revision, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_reaches_the_session_that_the_image_server_has_in_its_place() {
    let scripted = Scripted::start().await;
    scripted.open().await;
    let (store, now) = (&*scripted.shared.store, Clock.now().utc);
    campaigns::stop(store, now, scripted.id).await.unwrap();
    scripted.refuse("stop", 409);
    scripted.show(AirPhase::OnAir, 78, 1);
    let stop = |id| Step::Stop(id, CampaignState::Stopped);
    assert!(scripted.run(stop).await.is_err());
    assert_eq!(scripted.session().await.tsi.0, 78);
    scripted.refuse("stop", 0);
    scripted.run(stop).await.unwrap();
    assert_eq!(scripted.campaign().await.state, CampaignState::Stopped);
}
