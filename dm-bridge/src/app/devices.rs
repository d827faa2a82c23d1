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

use super::{AppError, PlainHttp, check_url};
use crate::dm::context::latest;
use crate::fleet::{
    address::ProvedFrom,
    attempt::ArmingAttempt,
    audit::{Actor, Audit},
    components::Components,
    device::{
        Device, DeviceAuth, DeviceNonce, FirmwareObject, Nonce, SERVER_ID, ServerCredentials,
        SuspendCommand,
    },
    policy::DesiredPolicy,
    profile::Profile,
    store::{FleetStore, StoreError},
};
use crate::notification::retry::NotificationAttempt;

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
    /// Authentication type in both directions.
    pub auth: AuthKind,
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
    let name = device.id.as_str().to_owned();
    match store_enrolment(store, now, "device.enrol", device).await {
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
    // The device decides whether it accepts a plain URL beyond its own machine.
    let plain_http = match enrolment.auth {
        // spec: security 7.2 (the password itself goes over TLS or stays on the machine)
        AuthKind::Basic => PlainHttp::LoopbackOnly,
        AuthKind::Md5 | AuthKind::Mac => PlainHttp::Anywhere,
    };
    check_url(&enrolment.url, plain_http)?;
    let user = enrolment.id.as_str().to_owned();
    let password = BASE64_STANDARD.encode(secrets.password);
    let server_password = BASE64_STANDARD.encode(secrets.server_password);
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
        server: Some(ServerCredentials {
            secret: Secret::for_kind(enrolment.auth, SERVER_ID, &server_password).into(),
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
    let settings = settings(&device, enrolment.encoding, (password, server_password), secrets)?;
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
        server_id: SERVER_ID.to_owned(),
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
    user: &'a str,
    password: String,
    nonce: String,
    server_password: String,
    server_nonce: String,
}

#[derive(Serialize)]
struct FumoSettings<'a> {
    object: &'a str,
}

fn settings(
    device: &Device,
    encoding: Encoding,
    (password, server_password): (String, String),
    secrets: FreshSecrets,
) -> Result<String, AppError> {
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
            server_id: SERVER_ID,
            encoding: encoding.to_string(),
            auth: device.auth.kind.as_str(),
            user: &device.auth.user,
            password,
            nonce: BASE64_STANDARD.encode(secrets.nonce),
            server_password,
            server_nonce: BASE64_STANDARD.encode(secrets.server_nonce),
        },
        fumo: FumoSettings { object: &device.object.uri },
    };
    toml::to_string(&settings)
        .map_err(|error| AppError::Configuration(format!("cannot write the settings: {error}")))
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
