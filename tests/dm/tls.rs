//! TLS between device and server, over real sockets.

use std::{
    fs,
    path::{Path, PathBuf},
};

use dm_bridge::{
    app::{
        PlainHttp as ListenPlain,
        devices::{self, Enrolment, FreshSecrets},
        enrolment::OwnAccount,
    },
    campaign::reconcile::ReconcilePolicy,
    dm::limiter::MAX_ADDRESS_FAILURES,
    shell::{
        data_dir::DataDir,
        server::{self, RunningServer, Settings},
        state::Admission,
        tls::TlsFiles,
    },
};
use proto::{
    crypto::sha256,
    dm::{
        auth::{AuthKind, Secret},
        encoding::Encoding,
    },
    ids::{ClassId, VendorId},
    time::{Mono, Now, Utc},
};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
};
use receiver::{
    dm::client::{self, DmClient, HttpRequest, SessionOutcome, Step, Trigger},
    shell::http::{Certificates, Http, HttpError, PlainHttp},
};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use tempfile::TempDir;

use crate::{device::TestDevice, harness};

/// A certificate authority.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
}

fn named(name: &str, addresses: Vec<String>) -> CertificateParams {
    let mut params = CertificateParams::new(addresses).expect("addresses");
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn write(path: &Path, text: &str) -> PathBuf {
    fs::write(path, text).expect("a folder of our own");
    path.to_owned()
}

impl Authority {
    fn new(folder: &Path, name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = named(name, Vec::new());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate");
        let file = write(&folder.join(format!("{name}.pem")), &certificate.pem());
        Self { issuer: Issuer::new(params, key), file }
    }

    /// Returns a certificate that it issues, and its key.
    fn vouch(&self, folder: &Path, name: &str, addresses: Vec<String>) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().expect("a key");
        let signed = named(name, addresses).signed_by(&key, &self.issuer).expect("a certificate");
        let file = folder.join(format!("{name}-{}", self.file.file_name().unwrap().display()));
        (
            write(&file.with_extension("crt"), &signed.pem()),
            write(&file.with_extension("key"), &key.serialize_pem()),
        )
    }
}

/// A server with one device, and all that certificates are made of.
struct World {
    folder: TempDir,
    ours: Authority,
    other: Authority,
    running: RunningServer,
    client: DmClient,
    device: TestDevice,
}

impl World {
    async fn start(wants_certificates: bool) -> Self {
        Self::start_with(wants_certificates, |_, _| (AuthKind::Basic, OwnAccount::default())).await
    }

    /// The same, with the device's kind of proof and the account that it has already.
    async fn start_with(
        wants_certificates: bool,
        account: impl FnOnce(&Authority, &Path) -> (AuthKind, OwnAccount),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let (ours, other) = (Authority::new(path, "ours"), Authority::new(path, "other"));
        let (certificate, key) = ours.vouch(path, "server", vec!["127.0.0.1".to_owned()]);
        let client_ca = wants_certificates.then(|| ours.file.clone());
        let data = DataDir::init(&path.join("bridge"), None, [7; 32]).await.unwrap();
        let settings = Settings {
            data: data.clone(),
            listen: "127.0.0.1:0".parse().unwrap(),
            tls: Some(TlsFiles { certificate, key, client_ca }),
            plain_http: ListenPlain::LoopbackOnly,
            policy: ReconcilePolicy::default(),
            admission: Admission::default(),
            trusted_proxies: Vec::new(),
        };
        let running = server::start(settings).await.unwrap();
        let (auth, account) = account(&ours, path);
        let enrolment = Enrolment {
            id: harness::id(),
            manufacturer: "fumocast".to_owned(),
            model: "lab".to_owned(),
            vendor: VendorId([1; 16]),
            class: ClassId([2; 16]),
            url: format!("https://{}/dm", running.address),
            encoding: Encoding::Wbxml,
            auth,
            account,
            profile: dm_bridge::fleet::profile::Profile::default(),
            firmware_object: None,
        };
        let secrets = FreshSecrets {
            password: [3; 32],
            nonce: [4; 16],
            server_password: [5; 32],
            server_nonce: [6; 16],
        };
        let store = data.store().await.unwrap();
        let printed = devices::enrol(&store, Utc(1), enrolment, secrets).await.unwrap();
        let printed: toml::Table = printed.parse().unwrap();
        let mut settings = harness::settings((Encoding::Wbxml, auth), &printed);
        let text = |field: &str| printed["server"][field].as_str().unwrap().to_owned();
        settings.account.url = text("url");
        settings.account.user = text("user");
        if auth.has_password() {
            let secret = Secret::for_kind(auth, &text("user"), &text("password"));
            settings.account.secret = secret;
        }
        let client = DmClient::new(settings, client::Limits::default());
        Self { folder, ours, other, running, client, device: TestDevice::new(vec![4; 16]) }
    }

    fn vouched(&self, by: &Authority, name: &str) -> Certificates {
        let own = by.vouch(self.folder.path(), name, Vec::new());
        Certificates { ca: Some(self.ours.file.clone()), own: Some(own) }
    }

    /// Runs a session to its end.
    fn run(&mut self, certificates: &Certificates) -> SessionOutcome {
        let http = Http::with(PlainHttp::Loopback, certificates).unwrap();
        let mut post = self.first();
        loop {
            let answered = tokio::task::block_in_place(|| http.post(&post)).unwrap();
            let now = Now { mono: Mono(0), utc: Utc(0) };
            match self.client.handle_response(now, &mut self.device, &answered) {
                Step::Send(next) => post = next,
                Step::Done(outcome) => return outcome,
                Step::WaitForUser => panic!("the server asks no user"),
            }
        }
    }

    fn first(&mut self) -> HttpRequest {
        let now = Now { mono: Mono(0), utc: Utc(0) };
        self.client.start(now, &mut self.device, Trigger::Client, 1)
    }

    /// Sends the first message of a session; returns what became of it.
    fn try_as(&mut self, certificates: &Certificates) -> Result<(), HttpError> {
        let post = self.first();
        let http = Http::with(PlainHttp::Loopback, certificates).unwrap();
        tokio::task::block_in_place(|| http.post(&post)).map(drop)
    }
}

// test: security 7.2 (TLS)
#[tokio::test(flavor = "multi_thread")]
async fn a_whole_session_runs_over_tls_and_a_stranger_gets_none() {
    let mut world = World::start(false).await;
    let known = Certificates { ca: Some(world.ours.file.clone()), own: None };
    assert_eq!(world.run(&known), SessionOutcome::Complete);
    let http = Http::with(PlainHttp::Loopback, &known).unwrap();
    let post = world.first();
    // A server whose issuer the device does not trust.
    let stranger = Certificates { ca: Some(world.other.file.clone()), own: None };
    assert!(matches!(world.try_as(&stranger), Err(HttpError::Io(_))));
    assert!(matches!(world.try_as(&Certificates::default()), Err(HttpError::Io(_))));
    let plain = HttpRequest { url: post.url.replace("https:", "http:"), ..post };
    let answer = tokio::task::block_in_place(|| http.post(&plain));
    assert!(answer.is_err(), "no plain HTTP where TLS is spoken");
    world.running.stop().await;
}

// test: security 7.2 (a certificate of the device names it)
#[tokio::test(flavor = "multi_thread")]
async fn a_device_shows_a_certificate_that_names_it() {
    let mut world = World::start(true).await;
    let good = world.vouched(&world.ours, harness::ID);
    let wrong_subject = world.vouched(&world.ours, "LAB-0002");
    let wrong_authority = world.vouched(&world.other, harness::ID);
    let missing = Certificates { own: None, ..good.clone() };
    let refused = |answer: Result<(), HttpError>| match answer {
        Err(HttpError::Status { code, .. }) => code,
        other => panic!("{other:?}"),
    };
    assert!(world.try_as(&good).is_ok());
    assert_eq!(refused(world.try_as(&wrong_subject)), 403);
    assert_eq!(refused(world.try_as(&missing)), 403);
    assert!(matches!(world.try_as(&wrong_authority), Err(HttpError::Io(_))));
    assert!(world.try_as(&good).is_ok());
    world.running.stop().await;
}

// test: security 7.2 (a certificate of the device names it)
#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_tls_alone_proves_runs_a_session_by_its_certificate() {
    let transport = |_: &Authority, _: &Path| (AuthKind::Transport, OwnAccount::default());
    let mut world = World::start_with(true, transport).await;
    let good = world.vouched(&world.ours, harness::ID);
    assert_eq!(world.run(&good), SessionOutcome::Complete);
    let other = world.vouched(&world.ours, "LAB-0002");
    let refused = world.try_as(&other);
    assert!(matches!(refused, Err(HttpError::Status { code: 403, .. })), "{refused:?}");
    world.running.stop().await;
}

// test: security 7.2 (a certificate of the device names it)
#[tokio::test(flavor = "multi_thread")]
async fn a_tied_device_is_accepted_with_its_certificate_and_with_no_other() {
    for auth in [AuthKind::Transport, AuthKind::Md5, AuthKind::Mac] {
        let mut tied = None;
        let mut world = World::start_with(true, |ours, path| {
            let own = ours.vouch(path, "maker-4711", Vec::new());
            let certificate = CertificateDer::from_pem_file(&own.0).unwrap();
            let fingerprint = Some(sha256(&[&certificate]));
            tied = Some(own);
            let user = Some("field.user".to_owned());
            (auth, OwnAccount { user, certificate: fingerprint, ..OwnAccount::default() })
        })
        .await;
        let ca = Some(world.ours.file.clone());
        assert_eq!(world.run(&Certificates { ca, own: tied }), SessionOutcome::Complete, "{auth}");
        // Of the same authority: one of the same name, and one with the name of the device.
        for name in ["maker-4711", harness::ID] {
            let other = world.vouched(&world.ours, name);
            let refused = world.try_as(&other);
            let code = |it: &Result<(), HttpError>| match it {
                Err(HttpError::Status { code, .. }) => *code,
                _ => 0,
            };
            assert_eq!(code(&refused), 403, "{auth} {name}: {refused:?}");
        }
        world.running.stop().await;
    }
}

// test: security 7.2 (the name of a challenge)
#[tokio::test(flavor = "multi_thread")]
async fn a_message_with_an_hmac_is_that_of_the_device_whose_user_it_names() {
    let mut world = World::start_with(false, |_, _| {
        let user = Some("field.user".to_owned());
        (AuthKind::Mac, OwnAccount { user, ..OwnAccount::default() })
    })
    .await;
    let known = Certificates { ca: Some(world.ours.file.clone()), own: None };
    assert_eq!(world.run(&known), SessionOutcome::Complete);
    world.running.stop().await;
}

// test: security 7.2 (failures are counted by address too)
#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_guesses_is_soon_rejected_unchecked() {
    let mut world = World::start(false).await;
    let known = Certificates { ca: Some(world.ours.file.clone()), own: None };
    let http = Http::with(PlainHttp::Loopback, &known).unwrap();
    let honest = world.first();
    let guess = |number: u32| {
        let name = format!("LAB-{}", 1_000 + number);
        let mut message = Encoding::Wbxml.parse(&honest.body, &Default::default()).unwrap();
        message.header.source.uri = name;
        let body = Encoding::Wbxml.emit(&message);
        tokio::task::block_in_place(|| http.post(&HttpRequest { body, ..honest.clone() }))
    };
    for number in 0..MAX_ADDRESS_FAILURES {
        assert!(guess(number).is_ok(), "{number}");
    }
    let locked = guess(0);
    assert!(
        matches!(locked, Err(HttpError::Status { code: 503, retry_after: Some(_) })),
        "{locked:?}"
    );
    world.running.stop().await;
}

#[tokio::test]
async fn files_that_do_not_do_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let ours = Authority::new(path, "ours");
    let (certificate, key) = ours.vouch(path, "server", Vec::new());
    let junk = write(&path.join("junk"), "junk");
    let files = TlsFiles { certificate, key, client_ca: None };
    assert!(files.load().is_ok());
    for wrong in [
        TlsFiles { certificate: junk.clone(), ..files.clone() },
        TlsFiles { key: junk.clone(), ..files.clone() },
        TlsFiles { client_ca: Some(junk.clone()), ..files.clone() },
    ] {
        let Err(error) = wrong.load() else { panic!("{wrong:?}") };
        assert!(error.to_string().contains("junk"), "{error}");
    }
    let wrong = Certificates { ca: Some(junk), own: None };
    let error = Http::with(PlainHttp::Loopback, &wrong).unwrap_err();
    assert!(error.to_string().contains("junk"), "{error}");
}
