//! Client, device, server and store in one process, no sockets.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use dm_bridge::{
    app::{
        campaigns, components,
        devices::{self, Enrolment, FreshSecrets},
        message_handler::DeviceSession,
    },
    campaign::{
        model::{
            BroadcastTarget, Campaign, CampaignState, Delivery, PreparedSession, SignedDocuments,
            SignedTerms, Window,
        },
        update_requests::UpdateRequestPolicy,
    },
    dm::{
        Limits,
        message::{InboundMessage, MessageOutcome, OutboundMessage},
    },
    fleet::{
        attempt::ArmingAttempt,
        audit::{Actor, Audit},
        memory::MemoryStore,
        store::FleetStore as _,
    },
};
use proto::{
    crypto::Digest,
    dm::{
        auth::{AuthKind, Mac, Secret},
        encoding::{self, Encoding},
        scomo,
        syncml::{Credential, Message},
    },
    ids::{CampaignId, ClassId, ComponentId, Correlator, DeviceId, Tsi, VendorId},
    time::{Mono, Now, Utc},
};
use receiver::dm::{
    Account, Identity, ServerProof, Settings,
    client::{
        self, DmClient, HttpRequest, HttpResponse, SessionError, SessionOutcome, Step, Trigger,
    },
};

use crate::{device::TestDevice, message_text};

pub(crate) const ID: &str = "LAB-0001";
/// The password of the device, from the octets of its enrolment.
pub(crate) const PASSWORD: &str = "AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=";
const URL: &str = "http://127.0.0.1:8080/dm";
const CAMPAIGN: CampaignId = CampaignId([7; 16]);

/// One device and its server.
pub(crate) struct Harness {
    pub(crate) device: TestDevice,
    pub(crate) client: DmClient,
    pub(crate) store: MemoryStore,
    settings: Settings,
    conversation: DeviceSession,
    chance: u8,
    pub(crate) now: Now,
    /// Messages of both sides as text.
    pub(crate) transcript: String,
    /// Messages of both sides as octets.
    pub(crate) messages: Vec<(Encoding, Vec<u8>)>,
}

impl Harness {
    /// Enrols a device and selects it for a campaign that is on air.
    pub(crate) async fn new(encoding: Encoding) -> Self {
        Self::with(encoding, AuthKind::Md5).await
    }

    /// The same, with another authentication type.
    pub(crate) async fn with(encoding: Encoding, auth: AuthKind) -> Self {
        test_log::capture();
        let now = Now { mono: Mono(0), utc: Utc::from_seconds(1_500) };
        let store = MemoryStore::default();
        let enrolment = Enrolment {
            id: id(),
            manufacturer: "fumocast".to_owned(),
            model: "lab".to_owned(),
            vendor: VendorId([1; 16]),
            class: ClassId([2; 16]),
            url: URL.to_owned(),
            encoding,
            auth,
            account: dm_bridge::app::enrolment::OwnAccount::default(),
            profile: dm_bridge::fleet::profile::Profile::default(),
            firmware_object: None,
        };
        let secrets = FreshSecrets {
            password: [3; 32],
            nonce: [4; 16],
            server_password: [5; 32],
            server_nonce: [6; 16],
        };
        let printed = devices::enrol(&store, now.utc, enrolment, secrets).await.unwrap();
        // Its nonces are the numbers of other things here, too.
        let secret = printed.lines().filter(|line| !line.contains("nonce"));
        test_log::record_secret("toml", secret.collect::<Vec<_>>().join("\n").as_bytes());
        let printed: toml::Table = printed.parse().unwrap();
        let correlator = Correlator("c-1".to_owned());
        let arming = ArmingAttempt::pending(id(), CAMPAIGN, 1, correlator, now.utc);
        let audit = Audit {
            actor: Actor::Operator,
            action: "test",
            subject: ID.to_owned(),
            detail: String::new(),
        };
        store.apply(now.utc, audit, vec![campaign().into(), arming.into()]).await.unwrap();
        let settings = settings((encoding, auth), &printed);
        Self {
            device: TestDevice::new(vec![4; 16]),
            client: DmClient::new(settings.clone(), client::Limits::default()),
            settings,
            store,
            conversation: DeviceSession::default(),
            chance: 0,
            now,
            transcript: String::new(),
            messages: Vec::new(),
        }
    }

    /// The same, with a campaign of other delivery methods or with user consent.
    pub(crate) async fn with_delivery(encoding: Encoding, delivery: Delivery) -> Self {
        let talk = Self::new(encoding).await;
        let mut campaign = talk.store.campaign(CAMPAIGN).await.unwrap().expect("it is there");
        let mut arming = talk.store.device_attempts(&id()).await.unwrap().remove(0);
        arming.delivery_method = delivery.methods[0];
        campaign.delivery = delivery;
        let audit = Audit {
            actor: Actor::Operator,
            action: "test",
            subject: ID.to_owned(),
            detail: String::new(),
        };
        let changes = vec![campaign.into(), arming.into()];
        talk.store.apply(talk.now.utc, audit, changes).await.unwrap();
        talk.store.put_package(CAMPAIGN, &[0xb0; 3_000]);
        talk
    }

    /// Replaces the package of the campaign.
    pub(crate) fn replace_package(&mut self, package: &[u8]) {
        self.store.put_package(CAMPAIGN, package);
    }

    pub(crate) fn start_session(&mut self, session: u16) -> HttpRequest {
        self.client.start(self.now, &mut self.device, Trigger::Client, session)
    }

    /// Limits the size of the messages that the device accepts.
    pub(crate) fn limit_message_size(&mut self, message_bytes: usize) {
        let response = encoding::Limits { message_bytes, ..encoding::Limits::default() };
        let limits = client::Limits { response, ..client::Limits::default() };
        self.client = DmClient::new(self.settings.clone(), limits);
    }

    /// Sets the secret by which the device authenticates the server.
    pub(crate) fn set_server_secret(&mut self, secret: Secret) {
        let nonce = vec![6; 16];
        let kind = self.settings.account.auth;
        self.settings.account.server = Some(ServerProof { kind, secret, nonce });
        self.client = DmClient::new(self.settings.clone(), client::Limits::default());
    }

    /// Moves the FUMO object of the device.
    pub(crate) fn set_object(&mut self, uri: &str) {
        self.settings.object = uri.parse().unwrap();
        self.client = DmClient::new(self.settings.clone(), client::Limits::default());
    }

    /// Sets the secret of the device.
    pub(crate) fn set_device_secret(&mut self, secret: Secret) {
        self.settings.account.secret = secret;
        self.client = DmClient::new(self.settings.clone(), client::Limits::default());
    }

    /// Runs a session to its end.
    pub(crate) async fn run_session(&mut self, session: u16) -> SessionOutcome {
        let post = self.start_session(session);
        self.continue_session(post).await
    }

    pub(crate) async fn continue_session(&mut self, mut post: HttpRequest) -> SessionOutcome {
        loop {
            let answer = self.deliver(&post).await;
            match self.receive(&answer) {
                Step::Send(next) => post = next,
                Step::WaitForUser => panic!("the test's user answers at once"),
                Step::Done(outcome) => {
                    self.note(&format!("session: {}\n", word(&outcome)));
                    return outcome;
                }
            }
        }
    }

    /// Sends the server a changed message; returns its answer.
    pub(crate) async fn deliver_changed(
        &mut self,
        post: &HttpRequest,
        change: impl FnOnce(&mut Message),
    ) -> OutboundMessage {
        let limits = encoding::Limits::default();
        let mut message = post.encoding.parse(&post.body, &limits).unwrap();
        change(&mut message);
        let body = post.encoding.emit(&message);
        self.deliver(&HttpRequest { body, ..post.clone() }).await
    }

    /// Queues an operation on a component, as an operator does.
    pub(crate) async fn queue_operation(&mut self, operation: scomo::Operation, component: &str) {
        let what = (operation, &component.parse().unwrap());
        let (store, now) = (&self.store, self.now.utc);
        components::queue_operation(store, now, &id(), what, &mut || [0x77; 16]).await.unwrap();
        self.note(&format!("the operator orders {operation} of {component}\n"));
    }

    /// Stops the campaign.
    pub(crate) async fn stop_campaign(&mut self) {
        campaigns::stop(&self.store, self.now.utc, CAMPAIGN).await.unwrap();
        self.note("the operator stops the campaign\n");
        // What a session has read before is used for a second.
        self.now.utc = self.now.utc + Duration::from_secs(2);
    }

    /// Sends the server a message; returns its answer.
    pub(crate) async fn deliver(&mut self, post: &HttpRequest) -> OutboundMessage {
        let message = self.record("device", &post.body);
        let token = post.url.split_once("s=").map(|(_, token)| token);
        let mac = post.mac.as_deref().map(|text| Mac::parse(text).unwrap());
        let mac = mac.as_ref();
        let received = InboundMessage {
            bytes: &post.body,
            message: &message,
            token,
            mac,
            network: None,
            certificate: None,
        };
        let mut count = self.chance;
        let mut chance = || {
            count += 1;
            [count; 16]
        };
        let at = (self.now.utc, Limits::default());
        let id = id();
        let answer = self.conversation.handle(&self.store, at, &id, received, &mut chance);
        let answer = answer.await.unwrap();
        self.chance = count;
        match answer {
            MessageOutcome::Reply(spoken)
            | MessageOutcome::Replay(spoken)
            | MessageOutcome::AuthRequired(spoken)
            | MessageOutcome::AuthStale(spoken)
            | MessageOutcome::AuthFailed(spoken)
            | MessageOutcome::UnknownDevice(spoken)
            | MessageOutcome::Busy(spoken)
            | MessageOutcome::OtherVersion(spoken) => {
                self.record("server", &spoken.bytes);
                spoken
            }
            outcome @ (MessageOutcome::LockedOut(_)
            | MessageOutcome::Overloaded
            | MessageOutcome::NotStored
            | MessageOutcome::MediaType
            | MessageOutcome::ContentEncoding
            | MessageOutcome::TooLarge(_)
            | MessageOutcome::BodyTimeout
            | MessageOutcome::NotSyncMl(_)
            | MessageOutcome::NoCertificate) => panic!("{outcome:?}"),
        }
    }

    pub(crate) fn receive(&mut self, spoken: &OutboundMessage) -> Step {
        let mac = spoken.mac.as_ref().map(Mac::emit);
        let reply = HttpResponse { body: &spoken.bytes, mac: mac.as_deref() };
        self.client.handle_response(self.now, &mut self.device, reply)
    }

    pub(crate) fn note(&mut self, text: &str) {
        self.transcript.push_str(text);
    }

    /// Returns the credential of the server in the first message of a session.
    pub(crate) fn server_credential(&self) -> Option<Credential> {
        let server = self.settings.account.server.as_ref()?;
        server.secret.credential_of(server.kind, &server.nonce)
    }

    pub(crate) fn record(&mut self, who: &str, octets: &[u8]) -> Message {
        let encoding = Encoding::recognise(octets);
        let message = encoding.parse(octets, &encoding::Limits::default()).unwrap();
        self.transcript.push_str(&message_text::message(who, &message));
        self.messages.push((encoding, octets.to_vec()));
        message
    }
}

/// Returns the word of the snapshots for an outcome: it stays when a variant is renamed.
fn word(outcome: &SessionOutcome) -> String {
    match outcome {
        SessionOutcome::Aborted => "BrokenOff".to_owned(),
        SessionOutcome::Failed(SessionError::AbortedByServer) => "Failed(Aborted)".to_owned(),
        SessionOutcome::Complete
        | SessionOutcome::RetryLater { .. }
        | SessionOutcome::Failed(_) => format!("{outcome:?}"),
    }
}

pub(crate) fn id() -> DeviceId {
    ID.parse().unwrap()
}

pub(crate) fn settings((encoding, auth): (Encoding, AuthKind), printed: &toml::Table) -> Settings {
    let printed = |field: &str| {
        printed["server"].get(field).and_then(toml::Value::as_str).unwrap_or_default()
    };
    let nonce = vec![6; 16];
    let secret = Secret::for_kind(auth, "fumocast", printed("server_password"));
    Settings {
        identity: Identity::new(id(), "fumocast".to_owned(), "lab".to_owned()),
        account: Account {
            url: URL.to_owned(),
            server_id: "fumocast".to_owned(),
            encoding,
            auth,
            user: ID.to_owned(),
            secret: Secret::for_kind(auth, ID, printed("password")),
            server: Some(ServerProof { kind: auth, secret, nonce }),
        },
        object: "./FwUpdate/Main".parse().unwrap(),
    }
}

pub(crate) fn campaign() -> Campaign {
    let source = IpAddr::from([192, 0, 2, 1]);
    let revision = 1;
    let (opens, closes) = (Utc::from_seconds(1_000), Utc::from_seconds(2_000));
    Campaign {
        id: CAMPAIGN,
        version: 0,
        terms: SignedTerms {
            digest: Digest([9; 32]),
            epoch: 1,
            sequence: 5,
            vendor: VendorId([1; 16]),
            classes: vec![ClassId([2; 16])],
            firmware_version: "2.0".to_owned(),
            not_before: Utc::from_seconds(500),
            latest_stop: Utc::from_seconds(5_000),
            sources: vec![source],
            stored_bytes: 1 << 20,
            largest_block: 745,
        },
        documents: SignedDocuments {
            campaign: vec![0xc1; 300],
            manifest: vec![0xc2; 2_600],
            roots: BTreeMap::from([(2, vec![0xc3; 300])]),
            plan_headers: BTreeMap::from([(ComponentId(0), vec![0xc4; 1_088])]),
        },
        target: BroadcastTarget {
            carousel_url: "http://127.0.0.1:9000".to_owned(),
            token_file: "/etc/fumocast/carousel.token".to_owned(),
            group: IpAddr::from([232, 1, 2, 3]),
            port: 3_400,
        },
        delivery: Delivery::default(),
        report_spread_seconds: 60,
        update_requests: UpdateRequestPolicy::Nothing,
        state: CampaignState::Running,
        window: Some(Window { opens, closes, revision }),
        prepared: Some(PreparedSession { source, tsi: Tsi(77), revision, opened: true }),
        last_error: None,
        created: Utc::from_seconds(900),
    }
}
