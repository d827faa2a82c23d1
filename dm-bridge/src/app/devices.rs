//! Devices: enrol and show.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use proto::{
    dm::{
        auth::{AuthKind, Secret},
        encoding::Encoding,
        nodes::broadcast,
        notification::{FALLBACK_NONCE, Initiator, Notification, UserMode},
        uri::NodeUri,
    },
    ids::{ClassId, DeviceId, VendorId},
    time::Utc,
    wire::WireError,
};
use serde::Serialize;

use super::{AppError, enrolment::OwnAccount};
use crate::dm::context::latest;
use crate::fleet::{
    address::ProvedFrom,
    attempt::ArmingAttempt,
    audit::{Actor, Audit, AuditLine},
    components::Components,
    device::{
        AccountTerms, Device, DeviceAuth, DeviceNonce, FirmwareObject, Nonce, ServerCredentials,
        SuspendCommand,
    },
    policy::DesiredPolicy,
    profile::Profile,
    store::{FleetStore, StoreError},
};
use crate::notification::retry::NotificationAttempt;

/// Manufacturer of a device that is enrolled without one.
pub const DEFAULT_MANUFACTURER: &str = "fumocast";
/// Model of a device that is enrolled without one.
pub const DEFAULT_MODEL: &str = "lab";

/// The parameters of an enrolment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolment {
    /// Its `./DevInfo/DevId`.
    pub id: DeviceId,
    /// Manufacturer.
    pub manufacturer: String,
    /// Model.
    pub model: String,
    /// Vendor that manifests name.
    pub vendor: VendorId,
    /// Class that manifests name.
    pub class: ClassId,
    /// URL at which it reaches this server.
    pub url: String,
    /// Encoding of its DM messages.
    pub encoding: Encoding,
    /// Authentication type of the device, and of this server unless its account says otherwise.
    pub auth: AuthKind,
    /// The parts of its account that it has already.
    pub account: OwnAccount,
    /// Profile of its client.
    pub profile: Profile,
    /// Root of its FUMO object, if the operator knows it.
    pub firmware_object: Option<NodeUri>,
}

/// Random secrets for an enrolment.
#[derive(Clone, Copy)]
pub struct FreshSecrets {
    /// Source of its password.
    pub password: [u8; 32],
    /// Nonce of its first session.
    pub nonce: [u8; 16],
    /// Source of this server's password for the device.
    pub server_password: [u8; 32],
    /// Nonce of this server's first credential.
    pub server_nonce: [u8; 16],
}

/// Enrols a device; returns its configuration, which holds its password in the clear.
///
/// # Errors
///
/// [`AppError::Conflict`] when it is enrolled already, [`AppError::Policy`] for passwords over
/// plain HTTP.
pub async fn enrol(
    store: &dyn FleetStore,
    now: Utc,
    enrolment: Enrolment,
    secrets: FreshSecrets,
) -> Result<String, AppError> {
    let (device, settings) = new_device(now, enrolment, secrets)?;
    let (id, name) = (device.id.clone(), device.id.as_str().to_owned());
    match store_enrolment(store, now, "device.enrol", device).await {
        Err(AppError::Store(StoreError::Conflict(_))) if store.device(&id).await?.is_none() => {
            // Before a message with an HMAC is parsed, its user alone names its device.
            let text = "another device of the kind hmac has this user name: give --user another";
            Err(AppError::Conflict(text.to_owned()))
        }
        Err(AppError::Store(StoreError::Conflict(_))) => Err(AppError::Conflict(format!(
            "device {name} is enrolled already; if its configuration was lost before it connected, \
             enrol it with --again: it has other secrets then"
        ))),
        done => done.map(|()| settings),
    }
}

/// Enrols a device again whose configuration was lost before it connected; returns its configuration
/// with other secrets, which replace the first ones. What was set for it meanwhile is kept. One that is
/// not enrolled is enrolled.
///
/// # Errors
///
/// [`AppError::Conflict`] when it has connected, and as [`enrol`].
pub async fn enrol_again(
    store: &dyn FleetStore,
    now: Utc,
    enrolment: Enrolment,
    secrets: FreshSecrets,
) -> Result<String, AppError> {
    let Some(known) = store.device(&enrolment.id).await? else {
        return enrol(store, now, enrolment, secrets).await;
    };
    if let Some(seen) = known.last_seen {
        let (name, seen) = (known.id.as_str(), seen.seconds());
        return Err(AppError::Conflict(format!(
            "device {name} has connected with its secrets (at {seen}, UTC seconds) and keeps them: \
             enrol it by another id, or use the configuration that it has"
        )));
    }
    let names_object = enrolment.firmware_object.is_some();
    let (device, settings) = new_device(now, enrolment, secrets)?;
    let object = if names_object { device.object.clone() } else { known.object };
    let device = Device {
        version: known.version,
        object,
        update_requests: known.update_requests,
        pending_suspension: known.pending_suspension,
        policy: known.policy,
        components: known.components,
        ..device
    };
    store_enrolment(store, now, "device.enrol-again", device).await?;
    Ok(settings)
}

async fn store_enrolment(
    store: &dyn FleetStore,
    now: Utc,
    action: &'static str,
    device: Device,
) -> Result<(), AppError> {
    let audit = Audit {
        actor: Actor::Operator,
        action,
        subject: device.id.as_str().to_owned(),
        detail: format!(
            "vendor {} class {} profile {}",
            device.vendor, device.class, device.profile.name
        ),
    };
    Ok(store.apply(now, audit, vec![device.into()]).await?)
}

/// Returns the row of a device that was never enrolled, and its configuration.
fn new_device(
    now: Utc,
    enrolment: Enrolment,
    secrets: FreshSecrets,
) -> Result<(Device, String), AppError> {
    let own = &enrolment.account;
    own.check(&enrolment.url, enrolment.auth)?;
    let (encoding, warnings) = (enrolment.encoding, own.warnings());
    let account = AccountTerms {
        server_id: own.server_id().to_owned(),
        server_kind: own.server_auth(enrolment.auth),
        certificate: own.certificate,
        has_weak_password: !warnings.is_empty(),
    };
    let user = own.user.clone().unwrap_or_else(|| enrolment.id.as_str().to_owned());
    let fresh = |octets: [u8; 32]| BASE64_STANDARD.encode(octets);
    let password = own.password.clone().unwrap_or_else(|| fresh(secrets.password));
    let server_password = match (&own.server_password, account.server_kind) {
        // Nothing of it would be sent; one that is given is for notifications.
        (None, AuthKind::Transport) => None,
        (None, AuthKind::Basic | AuthKind::Md5 | AuthKind::Mac) => {
            Some(fresh(secrets.server_password))
        }
        (Some(given), _) => Some(given.clone()),
    };
    let server_secret = server_password
        .as_ref()
        .map(|password| Secret::for_kind(account.server_kind, &account.server_id, password).into());
    let device = Device {
        id: enrolment.id,
        version: 0,
        manufacturer: enrolment.manufacturer,
        model: enrolment.model,
        vendor: enrolment.vendor,
        class: enrolment.class,
        url: enrolment.url,
        object: FirmwareObject::new(enrolment.firmware_object.as_ref()),
        auth: DeviceAuth {
            kind: enrolment.auth,
            secret: Secret::new(&user, &password).into(),
            user,
            next_nonce: Some(Nonce(secrets.nonce)),
            challenge_count: 0,
            proved_from: ProvedFrom::default(),
        },
        account,
        server: server_secret.map(|secret| ServerCredentials {
            secret,
            nonce: DeviceNonce(secrets.server_nonce.to_vec()),
        }),
        update_requests: None,
        profile: enrolment.profile,
        pending_suspension: None,
        policy: DesiredPolicy::default(),
        components: Components::default(),
        firmware_version: None,
        enrolled: now,
        last_seen: None,
    };
    let settings = settings(&device, encoding, (password, server_password), secrets, &warnings)?;
    Ok((device, settings))
}

/// Returns a device.
///
/// # Errors
///
/// [`AppError::NotFound`] when it is not enrolled.
pub async fn show(store: &dyn FleetStore, id: &DeviceId) -> Result<Device, AppError> {
    let missing = || AppError::NotFound { what: "device", name: id.as_str().to_owned() };
    store.device(id).await?.ok_or_else(missing)
}

/// Notes about a device that are shown with it.
const SHOWN_NOTES: u32 = 5;

/// Returns the last lines of the log about a device, oldest first.
///
/// # Errors
///
/// [`AppError`] when the log cannot be read.
pub async fn notes(store: &dyn FleetStore, id: &DeviceId) -> Result<Vec<AuditLine>, AppError> {
    let mut lines = store.audit_of(id.as_str(), SHOWN_NOTES).await?;
    lines.retain(|line| !line.detail.is_empty());
    Ok(lines)
}

/// Sets the profile of one device.
///
/// # Errors
///
/// [`AppError::NotFound`] when it is not enrolled.
pub async fn set_profile(
    store: &dyn FleetStore,
    now: Utc,
    id: &DeviceId,
    profile: &Profile,
) -> Result<(), AppError> {
    change(store, now, ("device.profile", &profile.name), id, |device| {
        device.profile = profile.clone();
    })
    .await
    .map(drop)
}

/// Sets the profile of all devices of a class; returns their number.
///
/// # Errors
///
/// [`AppError::Store`] when they cannot be written.
pub async fn set_class_profile(
    store: &dyn FleetStore,
    now: Utc,
    class: ClassId,
    profile: &Profile,
) -> Result<usize, AppError> {
    let devices = store.devices().await?.into_iter().filter(|device| device.class == class);
    let mut count = 0;
    for device in devices {
        // One that has it already: an earlier call was interrupted.
        if device.profile != *profile {
            set_profile(store, now, &device.id, profile).await?;
        }
        count += 1;
    }
    Ok(count)
}

/// Parses the root of a FUMO object.
///
/// # Errors
///
/// [`AppError::Usage`] when the text is no node that can have others below it.
pub fn parse_object(text: &str) -> Result<NodeUri, AppError> {
    let wrong = |why: &str| {
        AppError::Usage(format!("firmware object {text:?}: {why}, such as ./FwUpdate/Main"))
    };
    let uri: NodeUri = text.parse().map_err(|error: WireError| wrong(&error.to_string()))?;
    // Its longest node is `Ext/Broadcast/Report/NotBefore`, below it are four levels.
    if uri.segments().len() == 0
        || uri.join(broadcast::REPORT_NOT_BEFORE).parse::<NodeUri>().is_err()
    {
        return Err(wrong("expected a node with room for four levels below it"));
    }
    Ok(uri)
}

/// Sets the place of the FUMO object of a device; `None` looks for it in its next DM session.
///
/// # Errors
///
/// [`AppError::NotFound`] when it is not enrolled.
pub async fn set_firmware_object(
    store: &dyn FleetStore,
    now: Utc,
    id: &DeviceId,
    uri: Option<&NodeUri>,
) -> Result<(), AppError> {
    let object = FirmwareObject::new(uri);
    let detail = if uri.is_some() { &*object.uri } else { "to be looked for" };
    change(store, now, ("device.firmware-object", detail), id, |device| {
        device.object = object.clone();
    })
    .await
    .map(drop)
}

/// Returns the latest attempt for a device of each campaign, the last changed first.
///
/// # Errors
///
/// [`AppError::Store`] when they cannot be read.
pub async fn latest_attempts(
    store: &dyn FleetStore,
    id: &DeviceId,
) -> Result<Vec<ArmingAttempt>, AppError> {
    let attempts = store.device_attempts(id).await?;
    let mut latest: Vec<_> = latest(&attempts).cloned().collect();
    latest.sort_by_key(|row| (std::cmp::Reverse(row.updated), row.campaign));
    Ok(latest)
}

/// Queues a suspend or resume command for the next DM session of a device; `None` cancels it.
///
/// # Errors
///
/// [`AppError::NotFound`] when it is not enrolled.
pub async fn set_suspension(
    store: &dyn FleetStore,
    now: Utc,
    id: &DeviceId,
    command: Option<SuspendCommand>,
) -> Result<(), AppError> {
    let word = command.map_or("cancelled", SuspendCommand::as_str);
    change(store, now, ("device.suspension", word), id, |device| {
        device.pending_suspension = command;
    })
    .await
    .map(drop)
}

/// Tries at a row that DM sessions change too.
const MAX_TRIES: u32 = 8;

/// Changes the settings of a device; returns it as it is stored.
pub(super) async fn change(
    store: &dyn FleetStore,
    now: Utc,
    (action, detail): (&'static str, &str),
    id: &DeviceId,
    make: impl Fn(&mut Device) + Send + Sync,
) -> Result<Device, AppError> {
    let mut tries = 0;
    loop {
        let mut device = show(store, id).await?;
        make(&mut device);
        let (subject, detail) = (id.as_str().to_owned(), detail.to_owned());
        let audit = Audit { actor: Actor::Operator, action, subject, detail };
        match store.apply(now, audit, vec![device.clone().into()]).await {
            Err(StoreError::Conflict(_)) if tries < MAX_TRIES => tries += 1,
            Err(error) => return Err(error.into()),
            Ok(()) => return Ok(Device { version: device.version + 1, ..device }),
        }
    }
}

/// Builds the notification that requests a DM session of a device, with the form for a device that
/// has lost its nonce.
///
/// # Errors
///
/// [`AppError::NotFound`] when it is not enrolled, [`AppError::Conflict`] when it was enrolled
/// before this server had a password for it.
pub async fn build_notification(
    store: &dyn FleetStore,
    id: &DeviceId,
    user_mode: UserMode,
    session_id: u16,
) -> Result<NotificationAttempt, AppError> {
    let missing = || AppError::NotFound { what: "device", name: id.as_str().to_owned() };
    let device = store.device_with_secrets(id).await?.ok_or_else(missing)?;
    let credentials = device.server.as_ref();
    let Some((secret, nonce)) =
        credentials.and_then(|server| Some((server.secret.opened()?, &server.nonce.0)))
    else {
        let text = format!("{} has no password of this server: enrol it again", id.as_str());
        return Err(AppError::Conflict(text));
    };
    let notification = Notification {
        user_mode,
        initiator: Initiator::Server,
        session_id,
        server_id: device.account.server_id.clone(),
        vendor: Vec::new(),
    };
    let emit = |nonce: &[u8]| {
        notification.emit(secret, nonce).map_err(|error| AppError::Configuration(error.to_string()))
    };
    let (usual, fallback) = (emit(nonce)?, emit(FALLBACK_NONCE)?);
    Ok(NotificationAttempt::new(usual, fallback, device.last_seen))
}

#[derive(Serialize)]
struct Settings<'a> {
    device: DeviceSettings<'a>,
    server: ServerSettings<'a>,
    fumo: FumoSettings<'a>,
}

#[derive(Serialize)]
struct DeviceSettings<'a> {
    id: &'a str,
    manufacturer: &'a str,
    model: &'a str,
    vendor_id: String,
    class_id: String,
}

#[derive(Serialize)]
struct ServerSettings<'a> {
    url: &'a str,
    server_id: &'a str,
    encoding: String,
    auth: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_auth: Option<&'static str>,
    user: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_password: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_nonce: Option<String>,
}

#[derive(Serialize)]
struct FumoSettings<'a> {
    object: &'a str,
}

fn settings(
    device: &Device,
    encoding: Encoding,
    (password, server_password): (String, Option<String>),
    secrets: FreshSecrets,
    warnings: &[String],
) -> Result<String, AppError> {
    let (auth, server_auth) = (device.auth.kind, device.account.server_kind);
    let server_nonce =
        server_password.as_ref().map(|_| BASE64_STANDARD.encode(secrets.server_nonce));
    let settings = Settings {
        device: DeviceSettings {
            id: device.id.as_str(),
            manufacturer: &device.manufacturer,
            model: &device.model,
            vendor_id: device.vendor.to_string(),
            class_id: device.class.to_string(),
        },
        server: ServerSettings {
            url: &device.url,
            server_id: &device.account.server_id,
            encoding: encoding.to_string(),
            auth: auth.as_str(),
            server_auth: (auth != server_auth).then(|| server_auth.as_str()),
            user: &device.auth.user,
            password: auth.has_password().then_some(password),
            nonce: auth.has_password().then(|| BASE64_STANDARD.encode(secrets.nonce)),
            server_password,
            server_nonce,
        },
        fumo: FumoSettings { object: &device.object.uri },
    };
    let settings = toml::to_string(&settings)
        .map_err(|error| AppError::Configuration(format!("cannot write the settings: {error}")))?;
    let comments = warnings.iter().map(|line| format!("# {line}\n"));
    Ok(comments.chain([settings]).collect())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::fleet::memory::MemoryStore;

    /// Returns what enrols a device of vendor 1 and class 2.
    pub(crate) fn enrolment(name: &str) -> Enrolment {
        Enrolment {
            id: name.parse().unwrap(),
            manufacturer: "fumocast".to_owned(),
            model: "lab".to_owned(),
            vendor: VendorId([1; 16]),
            class: ClassId([2; 16]),
            encoding: Encoding::Xml,
            auth: AuthKind::Md5,
            account: OwnAccount::default(),
            profile: Profile::default(),
            firmware_object: None,
            url: "http://127.0.0.1:8080/dm".to_owned(),
        }
    }

    pub(crate) const SECRETS: FreshSecrets = FreshSecrets {
        password: [3; 32],
        nonce: [4; 16],
        server_password: [5; 32],
        server_nonce: [6; 16],
    };

    #[tokio::test]
    async fn the_settings_of_a_device_match_what_the_server_stores() {
        let store = MemoryStore::default();
        let text = enrol(&store, Utc(5), enrolment("LAB-0001"), SECRETS).await.unwrap();
        let settings: toml::Table = text.parse().unwrap();
        let server = settings["server"].as_table().unwrap();
        let password = server["password"].as_str().unwrap();
        let device = show(&store, &"LAB-0001".parse().unwrap()).await.unwrap();
        assert_eq!(*device.auth.secret.opened().unwrap(), Secret::new("LAB-0001", password));
        assert_eq!(server["nonce"].as_str().unwrap(), BASE64_STANDARD.encode([4; 16]));
        assert_eq!(settings["device"]["vendor_id"].as_str().unwrap(), "01".repeat(16));
        assert_eq!(settings["fumo"]["object"].as_str().unwrap(), "./FwUpdate/Main");
    }

    #[tokio::test]
    async fn a_configuration_that_was_lost_is_made_again_until_the_device_connects() {
        let store = MemoryStore::default();
        let id = "LAB-0001".parse().unwrap();
        enrol_again(&store, Utc(5), enrolment("LAB-0001"), SECRETS).await.unwrap();
        set_suspension(&store, Utc(6), &id, Some(SuspendCommand::Suspend)).await.unwrap();
        let again = enrol(&store, Utc(7), enrolment("LAB-0001"), SECRETS).await.unwrap_err();
        assert!(again.exit_code() == 7 && again.to_string().contains("--again"), "{again}");
        let fresh = FreshSecrets { password: [7; 32], ..SECRETS };
        let text = enrol_again(&store, Utc(8), enrolment("LAB-0001"), fresh).await.unwrap();
        let settings: toml::Table = text.parse().unwrap();
        let password = settings["server"]["password"].as_str().unwrap();
        let device = show(&store, &id).await.unwrap();
        assert_eq!(*device.auth.secret.opened().unwrap(), Secret::new("LAB-0001", password));
        assert_eq!(device.pending_suspension, Some(SuspendCommand::Suspend));
        let seen = Device { last_seen: Some(Utc(9_000)), ..device.clone() };
        let audit = Audit {
            actor: Actor::Device,
            action: "test.change",
            subject: String::new(),
            detail: String::new(),
        };
        store.apply(Utc(9), audit, vec![seen.into()]).await.unwrap();
        let late = enrol_again(&store, Utc(10), enrolment("LAB-0001"), SECRETS).await.unwrap_err();
        assert!(late.exit_code() == 7 && late.to_string().contains("has connected"), "{late}");
        assert_eq!(show(&store, &id).await.unwrap().auth, device.auth);
    }

    // test: security 7.2 (the password itself goes over TLS or stays on the machine)
    #[tokio::test]
    async fn a_password_is_accepted_only_where_nobody_can_listen() {
        for (url, fits) in [
            ("https://dm.example/dm", true),
            ("http://127.0.0.1:8080/dm", true),
            ("http://dm.example/dm", false),
        ] {
            let store = MemoryStore::default();
            let with = |auth| Enrolment { auth, url: url.to_owned(), ..enrolment("a") };
            let basic = enrol(&store, Utc(5), with(AuthKind::Basic), SECRETS).await;
            assert_eq!(basic.is_ok(), fits, "{url}");
            let md5 = enrol(&MemoryStore::default(), Utc(5), with(AuthKind::Md5), SECRETS).await;
            assert!(md5.is_ok(), "{url}");
            if fits {
                let device = show(&store, &"a".parse().unwrap()).await.unwrap();
                let server = device.server.unwrap();
                let password = BASE64_STANDARD.encode(SECRETS.server_password);
                assert_eq!(server.secret.opened().unwrap().password(), Some(password.as_str()));
                assert_eq!(
                    device.auth.secret.opened().unwrap().password(),
                    None,
                    "nobody needs it"
                );
            }
        }
    }

    /// Returns an account in which nothing is made by this server.
    fn own() -> OwnAccount {
        OwnAccount {
            user: Some("field.user".to_owned()),
            password: Some("short".to_owned()),
            server_id: Some("com.example.dm".to_owned()),
            server_password: Some("long enough for a server".to_owned()),
            server_auth: Some(AuthKind::Basic),
            certificate: Some(proto::crypto::Digest([7; 32])),
        }
    }

    #[tokio::test]
    async fn an_account_of_its_own_is_stored_and_printed_as_it_was_given() {
        let store = MemoryStore::default();
        let url = "https://dm.example/dm".to_owned();
        let given = Enrolment { account: own(), url, ..enrolment("a") };
        let text = enrol(&store, Utc(5), given, SECRETS).await.unwrap();
        assert!(text.starts_with("# weak password of the device: 5 characters"), "{text}");
        let settings: toml::Table = text.parse().unwrap();
        let server = |field: &str| settings["server"][field].as_str().unwrap().to_owned();
        assert_eq!((server("user"), server("password")), ("field.user".into(), "short".into()));
        assert_eq!((server("auth"), server("server_auth")), ("md5".into(), "basic".into()));
        assert_eq!(server("server_id"), "com.example.dm");
        let device = show(&store, &"a".parse().unwrap()).await.unwrap();
        assert_eq!(*device.auth.secret.opened().unwrap(), Secret::new("field.user", "short"));
        let theirs = device.server.unwrap().secret;
        assert_eq!(theirs.opened().unwrap().password(), Some("long enough for a server"));
        let terms = device.account;
        assert_eq!((terms.server_kind, terms.has_weak_password), (AuthKind::Basic, true));
        assert_eq!(terms.certificate, own().certificate);
        let log = format!("{:?} {:?}", store.audit_tail(9).await.unwrap(), own());
        assert!(!log.contains("short") && !log.contains("long enough"), "{log}");
    }

    #[test]
    fn a_password_of_fewer_than_sixteen_characters_is_named_as_weak() {
        for (length, is_weak) in [(15, true), (16, false)] {
            let password = Some("p".repeat(length));
            for account in [
                OwnAccount { password: password.clone(), ..OwnAccount::default() },
                OwnAccount { server_password: password.clone(), ..OwnAccount::default() },
            ] {
                let warnings = account.warnings();
                assert_eq!(warnings.len(), usize::from(is_weak), "{length}");
                assert!(warnings.iter().all(|it| it.contains("15 characters")), "{warnings:?}");
            }
        }
        assert!(OwnAccount::default().warnings().is_empty(), "those that are made are strong");
    }

    #[tokio::test]
    async fn an_account_that_cannot_be_is_refused_by_its_field() {
        let refused = async |auth, url: &str, change: fn(&mut OwnAccount)| {
            let mut given = Enrolment { auth, url: url.to_owned(), ..enrolment("a") };
            change(&mut given.account);
            enrol(&MemoryStore::default(), Utc(5), given, SECRETS).await.unwrap_err()
        };
        let (md5, plain, tls) = (AuthKind::Md5, "http://dm.example/dm", "https://dm.example/dm");
        let error = refused(md5, tls, |it| it.user = Some("a:b".to_owned())).await;
        assert!(error.to_string().starts_with("user name: expected"), "{error}");
        let error = refused(md5, tls, |it| it.server_id = Some(String::new())).await;
        assert!(error.to_string().starts_with("server id: expected"), "{error}");
        let error = refused(md5, tls, |it| it.password = Some("a\nb".to_owned())).await;
        assert!(error.to_string().starts_with("password: expected"), "{error}");
        for error in [
            refused(AuthKind::Transport, plain, |_| ()).await,
            refused(AuthKind::Transport, "http://127.0.0.1/dm", |_| ()).await,
            refused(md5, plain, |it| it.server_auth = Some(AuthKind::Basic)).await,
            refused(md5, plain, |it| it.server_auth = Some(AuthKind::Transport)).await,
            refused(md5, plain, |it| it.certificate = Some(proto::crypto::Digest([7; 32]))).await,
        ] {
            assert_eq!(error.exit_code(), 8, "{error}");
        }
    }

    // test: security 7.2 (the name of a challenge)
    #[tokio::test]
    async fn two_devices_of_the_kind_hmac_have_two_users() {
        let store = MemoryStore::default();
        let with = |name: &str, auth| {
            let account = OwnAccount { user: Some("u".to_owned()), ..OwnAccount::default() };
            Enrolment { auth, account, ..enrolment(name) }
        };
        enrol(&store, Utc(5), with("a", AuthKind::Mac), SECRETS).await.unwrap();
        enrol(&store, Utc(5), with("b", AuthKind::Md5), SECRETS).await.unwrap();
        let taken = enrol(&store, Utc(5), with("c", AuthKind::Mac), SECRETS).await.unwrap_err();
        assert_eq!(taken.exit_code(), 7);
        assert!(taken.to_string().contains("user name"), "{taken}");
    }

    #[tokio::test]
    async fn a_device_is_enrolled_once() {
        let store = MemoryStore::default();
        enrol(&store, Utc(5), enrolment("a"), SECRETS).await.unwrap();
        let again = enrol(&store, Utc(6), enrolment("a"), SECRETS).await.unwrap_err();
        assert_eq!(again.exit_code(), 7);
    }

    #[tokio::test]
    async fn profiles_and_suspension_are_set_for_one_device_and_profiles_for_a_class() {
        let store = MemoryStore::default();
        for name in ["a", "b"] {
            enrol(&store, Utc(5), enrolment(name), SECRETS).await.unwrap();
        }
        let other = Enrolment { class: ClassId([9; 16]), ..enrolment("c") };
        enrol(&store, Utc(5), other, SECRETS).await.unwrap();
        let (minimal, _) = Profile::built_in().remove(2);
        let count = set_class_profile(&store, Utc(6), ClassId([2; 16]), &minimal).await.unwrap();
        assert_eq!(count, 2);
        set_profile(&store, Utc(7), &"a".parse().unwrap(), &Profile::default()).await.unwrap();
        let names: Vec<_> =
            store.devices().await.unwrap().into_iter().map(|row| row.profile.name).collect();
        assert_eq!(names, ["standard", "minimal", "standard"]);
        let id = "b".parse().unwrap();
        for command in [Some(SuspendCommand::Suspend), Some(SuspendCommand::Resume), None] {
            set_suspension(&store, Utc(8), &id, command).await.unwrap();
            assert_eq!(show(&store, &id).await.unwrap().pending_suspension, command);
        }
        let absent = "x".parse().unwrap();
        assert_eq!(set_suspension(&store, Utc(9), &absent, None).await.unwrap_err().exit_code(), 6);
    }

    #[tokio::test]
    async fn a_device_that_nobody_enrolled_is_not_found() {
        let store = MemoryStore::default();
        let missing = show(&store, &"x".parse().unwrap()).await.unwrap_err();
        assert_eq!(missing.exit_code(), 6);
        assert_eq!(missing.to_string(), "device x does not exist");
    }

    #[tokio::test]
    async fn no_secret_reaches_the_audit_log() {
        let store = MemoryStore::default();
        let text = enrol(&store, Utc(5), enrolment("a"), SECRETS).await.unwrap();
        let settings: toml::Table = text.parse().unwrap();
        let password = settings["server"]["password"].as_str().unwrap().to_owned();
        let log = format!("{:?}", store.audit_tail(9).await.unwrap());
        assert!(!log.contains(&password));
    }
}
