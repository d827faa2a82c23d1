//! Software components between the real client and the real server.

use dm_bridge::{
    campaign::model::{Delivery, DeliveryMethod, Software as Wanted},
    fleet::{attempt::ArmingPhase, components::OperationState, store::FleetStore as _},
};
use proto::dm::{
    encoding::Encoding,
    fumo,
    scomo::{ComponentState, Operation},
};
use receiver::{
    components::{Deployed, Software},
    dm::{FinalAlert, client::SessionOutcome},
};

use crate::{
    harness::{Harness, id},
    transcripts::check,
};

const PLAYER: &str = "org.example.player";

fn delivery(way: DeliveryMethod) -> Delivery {
    let package = PLAYER.parse().unwrap();
    let software = Some(Wanted { package, operation: Operation::DownloadInstall });
    Delivery { methods: vec![way], bundle_bytes: 3_000, ask_user: None, software }
}

fn player(active: bool) -> Vec<Deployed> {
    let id = PLAYER.parse().unwrap();
    let name = Some("Player".to_owned());
    vec![Deployed { id, version: "2.0".to_owned(), active, name, description: None }]
}

async fn phase(talk: &Harness) -> ArmingPhase {
    talk.store.device_attempts(&id()).await.unwrap()[0].phase
}

/// A component is broadcast, is read back, is deactivated, and that is read back too.
pub(crate) async fn lived_through(encoding: Encoding) -> Harness {
    let mut talk = Harness::with_delivery(encoding, delivery(DeliveryMethod::Broadcast)).await;
    talk.device.software = Some(Software { is_shown: true, ..Software::default() });
    assert_eq!(talk.run_session(1).await, SessionOutcome::Complete);
    let armed = talk.device.armed.as_ref().expect("it is armed");
    let subject = armed.subject.clone().expect("it is about a component");
    assert_eq!((subject.operation, subject.package.as_str()), (Operation::DownloadInstall, PLAYER));
    assert_eq!(armed.manifest.len(), 2_600);

    talk.note("the device receives and installs the component\n");
    talk.device.finish(fumo::ResultCode::SUCCESS);
    talk.device.software.as_mut().unwrap().deployed = player(true);
    assert_eq!(talk.run_session(2).await, SessionOutcome::Complete);
    assert_eq!(phase(&talk).await, ArmingPhase::Confirmed);

    talk.queue_operation(Operation::Deactivate, PLAYER).await;
    assert_eq!(talk.run_session(3).await, SessionOutcome::Complete);
    let (subject, correlator) = talk.device.changes.pop().expect("a change is commanded");
    assert_eq!((subject.operation, subject.package.as_str()), (Operation::Deactivate, PLAYER));
    talk.note("the device deactivates the component\n");
    talk.device.software.as_mut().unwrap().deployed = player(false);
    talk.device.queue.push(FinalAlert {
        correlator,
        operation: fumo::Operation::DownloadAndUpdate,
        result: fumo::ResultCode::SUCCESS,
        campaign: None,
        subject: Some(subject),
    });
    assert_eq!(talk.run_session(4).await, SessionOutcome::Complete);
    let components = talk.store.device(&id()).await.unwrap().unwrap().components;
    let work = &components.operations[0];
    assert_eq!((work.state, work.result_code), (OperationState::Done, Some(1200)));
    let held: Vec<_> = components.inventory.iter().map(|it| (it.id.as_str(), it.state)).collect();
    assert_eq!(held, [(PLAYER, Some(ComponentState::Inactive))]);
    talk
}

// test: oma-002 7 (components by the same arming)
#[tokio::test]
async fn a_component_is_brought_confirmed_and_deactivated_step_by_step() {
    check("components.txt", &lived_through(Encoding::Wbxml).await.transcript);
    lived_through(Encoding::Xml).await;
}

#[tokio::test]
async fn a_device_that_hides_its_inventory_leaves_its_result_unconfirmed() {
    let mut talk = Harness::with_delivery(Encoding::Xml, delivery(DeliveryMethod::Download)).await;
    talk.device.software = Some(Software::default());
    assert_eq!(talk.run_session(1).await, SessionOutcome::Complete);
    let request = talk.device.download.take().expect("a download is commanded");
    assert!(request.url.ends_with("/descriptor"), "{}", request.url);
    let (correlator, subject) = (request.correlator, request.subject);
    assert!(subject.is_some());
    let (operation, result) = (request.operation, fumo::ResultCode::SUCCESS);
    talk.device.queue.push(FinalAlert { correlator, operation, result, campaign: None, subject });
    assert_eq!(talk.run_session(2).await, SessionOutcome::Complete);
    assert_eq!(phase(&talk).await, ArmingPhase::Reported);
    let components = talk.store.device(&id()).await.unwrap().unwrap().components;
    assert!(components.refused.is_some() && components.read.is_none(), "{components:?}");
}
