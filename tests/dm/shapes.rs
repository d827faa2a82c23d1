//! Whole DM sessions of scripted devices of other shapes with the real server and its store: other
//! places and parts of the FUMO object, no user, and odd ends of an operation.

use dm_bridge::{
    api::responses::DeviceDetailBody,
    app::devices,
    campaign::model::{Delivery, DeliveryMethod},
    fleet::{attempt::ArmingPhase, store::FleetStore as _},
};
use proto::{
    dm::{
        code::StatusCode,
        encoding::{self, Encoding},
        syncml::{Command, Message, Verb},
    },
    fixtures::device::{ScriptedDevice, final_alert},
};
use receiver::dm::client::{HttpRequest, SessionOutcome};

use crate::harness::{Harness, ID, PASSWORD, id};

const ELSEWHERE: &str = "./Vendor/Fota";

/// A scripted device with its server.
struct Talk {
    harness: Harness,
    device: ScriptedDevice,
    sessions: u16,
}

impl Talk {
    /// Selects a device for a campaign that asks its user.
    async fn new(methods: &[DeliveryMethod], device: ScriptedDevice) -> Self {
        let ask_user = Some("Update to 2.0?".to_owned());
        let methods = methods.to_vec();
        let delivery = Delivery { methods, bundle_bytes: 3_000, ask_user, software: None };
        let harness = Harness::with_delivery(Encoding::Xml, delivery).await;
        Self { harness, device, sessions: 0 }
    }

    /// Runs a session to its end.
    async fn session(&mut self) {
        self.session_while(|_| true).await;
    }

    /// Runs a session whose messages are changed; it is lost when `change` returns false.
    async fn session_while(&mut self, mut change: impl FnMut(&mut Message) -> bool) {
        self.sessions += 1;
        self.device.begin_session(self.sessions.to_string());
        let row = self.harness.store.device_with_secrets(&id()).await.unwrap().unwrap();
        let mut message = self.device.first_with(&row.auth.next_nonce.unwrap().0);
        let mut url = row.url;
        loop {
            if !change(&mut message) {
                return self.harness.note("the session is lost\n");
            }
            let body = Encoding::Xml.emit(&message);
            let post = HttpRequest { url, encoding: Encoding::Xml, body, mac: None };
            let reply = self.harness.deliver(&post).await;
            let reply = Encoding::Xml.parse(&reply.bytes, &encoding::Limits::default()).unwrap();
            let Some(next) = self.device.answer(&reply) else { return };
            (message, url) = (next, reply.header.respond_to.unwrap_or(post.url));
        }
    }

    /// Returns the object, its origin, phase, result code and reason, as an operator sees them.
    async fn shown(&self) -> String {
        let store = &self.harness.store;
        let device = devices::show(store, &id()).await.unwrap();
        let attempts = devices::latest_attempts(store, &id()).await.unwrap();
        let body = DeviceDetailBody::new(&device, &attempts);
        let [row] = &body.campaigns[..] else { panic!("{body:?}") };
        let why = row.result_text.as_deref().unwrap_or("-");
        let code = row.result_code.map_or_else(|| "-".to_owned(), |code| code.to_string());
        let (object, origin) = (&body.device.object, &body.device.object_origin);
        format!("{object} {origin}: {} by {} {code} {why}", row.phase, row.delivery)
    }

    fn questions(&self) -> usize {
        self.harness.transcript.matches("1101").count()
    }
}

fn scripted() -> ScriptedDevice {
    ScriptedDevice::new(ID, PASSWORD)
}

/// A client of FUMO 1.0 without our extension.
fn plain() -> ScriptedDevice {
    scripted().lacking("/Ext/")
}

fn elsewhere() -> ScriptedDevice {
    let tree = scripted()
        .with(".", "DevInfo/DevDetail/DMAcc/Vendor")
        .with("./Vendor", "Fota")
        .with("./Vendor/Fota?prop=Type", "urn:oma:mo:oma-fumo:1.0");
    tree.with_object(ELSEWHERE)
}

fn without_any_object() -> ScriptedDevice {
    let mut device = scripted().with_object("./None");
    device.values.retain(|(node, _)| node == "FwV");
    device.with(".", "DevInfo/DevDetail/DMAcc")
}

fn executes(message: &Message) -> bool {
    message.statuses().any(|status| status.verb == Verb::Exec)
}

const ALL: [DeliveryMethod; 3] =
    [DeliveryMethod::Broadcast, DeliveryMethod::Download, DeliveryMethod::Direct];

// test: oma-dm 11.3 (no object here is an outcome)
// test: oma-dm 11.4 (a refusal covers what follows from it)
// test: oma-dm 4.4 (a device that cannot ask its user)
// test: oma-dm 11.6 (the status of the Exec)
/// Each shape has two sessions: what the operator sees, and how often the user was asked.
#[tokio::test]
async fn devices_of_other_shapes_are_served_or_have_their_reason() {
    let main = "./FwUpdate/Main learnt";
    let exec = |code| ScriptedDevice { exec: StatusCode(code), ..scripted() };
    let package_data_alone = || plain().lacking("/DownloadAndUpdate");
    let lists = package_data_alone().with("./FwUpdate/Main", "Update/State");
    let no_user = ScriptedDevice { user: StatusCode::NOT_IMPLEMENTED, ..scripted() };
    let refused = Some(("Manifest", StatusCode::PERMISSION_DENIED));
    let refuses = ScriptedDevice { refused, ..scripted() };
    let no_object = "./FwUpdate/Main assumed: failed by broadcast - the device has no firmware object: none at \
         ./FwUpdate/Main, none found in its tree";
    let shapes: [(&str, ScriptedDevice, &[DeliveryMethod], String, usize); 11] = [
        (
            "elsewhere",
            elsewhere(),
            &ALL[..1],
            format!("{ELSEWHERE} learnt: armed by broadcast - -"),
            1,
        ),
        ("plain", plain(), &ALL, format!("{main}: armed by download - -"), 1),
        ("PkgData alone", package_data_alone(), &ALL, format!("{main}: armed by direct - -"), 1),
        ("PkgData alone, listed", lists, &ALL, format!("{main}: armed by direct - -"), 1),
        (
            "PkgData alone, but not direct",
            package_data_alone(),
            &ALL[..2],
            format!("{main}: needs-unicast by download - Replace of PkgURL answered 404"),
            1,
        ),
        ("no object", without_any_object(), &ALL, no_object.to_owned(), 0),
        (
            "no user",
            no_user,
            &ALL,
            format!("{main}: refused by broadcast - the device cannot ask its user: 501"),
            1,
        ),
        (
            "refuses a write",
            refuses,
            &ALL[..1],
            format!("{main}: pending by broadcast - attempt 2: Replace of Manifest answered 425"),
            1,
        ),
        (
            "Exec 500",
            exec(500),
            &ALL[..1],
            format!("{main}: pending by broadcast - attempt 2: Exec answered 500"),
            1,
        ),
        (
            "Exec 101",
            exec(101),
            &ALL[..1],
            format!("{main}: armed by broadcast - Exec answered 101: in progress"),
            1,
        ),
        ("as it should be", scripted(), &ALL[..1], format!("{main}: armed by broadcast - -"), 1),
    ];
    for (name, device, methods, expected, asked) in shapes {
        let mut talk = Talk::new(methods, device).await;
        talk.session().await;
        talk.session().await;
        assert_eq!(talk.shown().await, expected, "{name}\n{}", talk.harness.transcript);
        assert_eq!(talk.questions(), asked, "{name}\n{}", talk.harness.transcript);
    }
}

// test: oma-dm 11.6 (a final alert without a correlator)
#[tokio::test]
async fn odd_ends_of_an_operation_have_their_reasons() {
    for (lost, early, correlator, expected) in [
        (false, false, true, "failed by broadcast 410 the installation failed"),
        (
            false,
            false,
            false,
            "failed by broadcast 410 the installation failed; the alert had no Correlator",
        ),
        (false, true, true, "failed by broadcast 410 the installation failed"),
        (true, false, true, "failed by broadcast 410 the installation failed"),
        (
            true,
            false,
            false,
            "failed by broadcast 410 the installation failed; the alert had no Correlator",
        ),
    ] {
        let mut talk = Talk::new(&ALL[..1], scripted()).await;
        let named = Some("c-1").filter(|_| correlator);
        talk.session_while(|message| {
            if early && executes(message) {
                message.commands.insert(0, Command::Alert(final_alert(410, named)));
            }
            !lost || !executes(message)
        })
        .await;
        if lost {
            let text = "./FwUpdate/Main learnt: pending by broadcast - the Exec was sent, and its \
                        status has not come";
            assert_eq!(talk.shown().await, text);
        }
        if !early {
            talk.device.alerts.push(final_alert(410, named));
            talk.session().await;
        }
        let expected = format!("./FwUpdate/Main learnt: {expected}");
        assert_eq!(talk.shown().await, expected, "{}", talk.harness.transcript);
    }
}

#[tokio::test]
async fn a_place_that_the_operator_sets_is_used_without_a_search() {
    let mut talk = Talk::new(&ALL[..1], elsewhere()).await;
    let (uri, store) = (devices::parse_object(ELSEWHERE).unwrap(), &talk.harness.store);
    devices::set_firmware_object(store, talk.harness.now.utc, &id(), Some(&uri)).await.unwrap();
    talk.session().await;
    assert_eq!(talk.shown().await, format!("{ELSEWHERE} set: armed by broadcast - -"));
    assert!(!talk.harness.transcript.contains("FwUpdate"), "{}", talk.harness.transcript);
    for wrong in ["", ".", "./a/../b", "./a?prop=Type", &"a/".repeat(14)] {
        assert!(devices::parse_object(wrong).is_err(), "{wrong}");
    }
}

/// Our receiver with its object elsewhere.
#[tokio::test]
async fn a_receiver_with_its_object_elsewhere_is_armed_there() {
    let mut harness = Harness::new(Encoding::Wbxml).await;
    harness.set_object(ELSEWHERE);
    assert_eq!(harness.run_session(1).await, SessionOutcome::Complete);
    assert!(harness.device.armed.is_some(), "{}", harness.transcript);
    let device = devices::show(&harness.store, &id()).await.unwrap();
    assert_eq!(device.object.uri, ELSEWHERE);
    let attempts = harness.store.device_attempts(&id()).await.unwrap();
    assert_eq!(attempts[0].phase, ArmingPhase::Armed);
}
