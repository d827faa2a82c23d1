//! Bootstrap documents: the account of a device with this server.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use proto::{
    dm::{
        auth::{AuthKind, Secret},
        bootstrap::{
            DmBootstrap, Push, SecKey,
            card::{Card, Confirmation},
            prov,
            user_code::{CodeKey, UserCode},
            w7,
        },
    },
    ids::DeviceId,
    time::Utc,
};

use super::{
    AppError,
    devices::{self, FreshSecrets},
};
use crate::fleet::{
    address::ProvedFrom,
    audit::{Actor, Audit},
    device::{Device, DeviceAuth, DeviceNonce, Nonce, ServerCredentials},
    store::{FleetStore, StoreError},
};

/// The format of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DocumentFormat {
    /// A provisioning document as a push over WSP, with its MAC.
    Cp(SecKey),
    /// A provisioning document as a push over WSP, for which the user gets a code (USERPINMAC).
    CpWithCode(CodeKey),
    /// A DM message, with its MAC.
    Dm(SecKey),
    /// The image of a file on a smart card.
    Card {
        /// The card's number (ICCID).
        number: String,
        /// Confirmation by the user.
        confirmation: Confirmation,
    },
}

impl DocumentFormat {
    const fn as_str(&self) -> &'static str {
        match self {
            Self::Cp(_) | Self::CpWithCode(_) => "cp",
            Self::Dm(_) => "dm",
            Self::Card { .. } => "smart-card",
        }
    }
}

/// A document, as a file and as a push over HTTP.
#[derive(Clone, PartialEq, Eq)]
pub struct Document {
    /// Content of a file or a datagram.
    pub bytes: Vec<u8>,
    /// Media type with the MAC, and body; the image of a card is not pushed.
    pub post: Option<(String, Vec<u8>)>,
    /// The code for the user; it is sent by other means.
    pub code: Option<UserCode>,
}

/// Rotates the credentials of a device and returns the document with the new ones; the old ones
/// stop working.
///
/// # Errors
///
/// [`AppError::NotFound`] when the device is not enrolled, [`AppError::Argument`] when a key or a
/// card's number has a wrong form, [`AppError::Conflict`] when a DM session of the device changed
/// it meanwhile.
pub async fn document(
    store: &dyn FleetStore,
    now: Utc,
    id: &DeviceId,
    form: DocumentFormat,
    secrets: FreshSecrets,
) -> Result<Document, AppError> {
    let mut device = devices::show(store, id).await?;
    let account = rotate_credentials(&mut device, secrets);
    let document = write(&account, id, &form)?;
    let audit = Audit {
        actor: Actor::Operator,
        action: "device.bootstrap",
        subject: id.as_str().to_owned(),
        detail: form.as_str().to_owned(),
    };
    match store.apply(now, audit, vec![device.into()]).await {
        Ok(()) => Ok(document),
        Err(StoreError::Conflict(_)) => {
            let text = format!("{} connected at the same time: try again", id.as_str());
            Err(AppError::Conflict(text))
        }
        Err(error) => Err(error.into()),
    }
}

fn rotate_credentials(device: &mut Device, secrets: FreshSecrets) -> w7::Account {
    let kind = device.auth.kind;
    let user = device.auth.user.clone();
    let password = BASE64_STANDARD.encode(secrets.password);
    let server_password = BASE64_STANDARD.encode(secrets.server_password);
    device.account.has_weak_password = false;
    let (server_id, server_kind) = (device.account.server_id.clone(), device.account.server_kind);
    device.auth = DeviceAuth {
        kind,
        secret: Secret::new(&user, &password).into(),
        user: user.clone(),
        next_nonce: Some(Nonce(secrets.nonce)),
        challenge_count: 0,
        proved_from: ProvedFrom::default(),
    };
    device.server = Some(ServerCredentials {
        secret: Secret::for_kind(server_kind, &server_id, &server_password).into(),
        nonce: DeviceNonce(secrets.server_nonce.to_vec()),
    });
    let server = (server_id.clone(), server_password);
    w7::Account {
        server_id,
        begin: true,
        addresses: vec![w7::Address {
            address: device.url.clone(),
            kind: Some("URI".to_owned()),
            ports: Vec::new(),
        }],
        credentials: vec![
            credentials("APPSRV", kind, (user, password), secrets.nonce),
            credentials("CLIENT", server_kind, server, secrets.server_nonce),
        ],
        ..w7::Account::default()
    }
}

fn credentials(
    level: &str,
    kind: AuthKind,
    (name, secret): (String, String),
    nonce: [u8; 16],
) -> w7::Credentials {
    w7::Credentials {
        level: Some(level.to_owned()),
        kind: Some(kind.account_type().to_owned()),
        name: Some(name),
        secret: Some(secret),
        data: Some(BASE64_STANDARD.encode(nonce)),
    }
}

fn write(
    account: &w7::Account,
    id: &DeviceId,
    form: &DocumentFormat,
) -> Result<Document, AppError> {
    Ok(match form {
        DocumentFormat::Cp(key) => {
            let push = Push::new(prov::emit(&[account.to_characteristic()]), key)?;
            of_push(&push, None)
        }
        DocumentFormat::CpWithCode(key) => {
            let document = prov::emit(&[account.to_characteristic()]);
            let (push, code) = Push::with_user_code(document, key);
            of_push(&push, Some(code))
        }
        DocumentFormat::Dm(key) => {
            let message = DmBootstrap::for_account(account, id.as_str(), key);
            let bytes = message.emit();
            Document { bytes, post: Some((message.content_type, message.body)), code: None }
        }
        DocumentFormat::Card { number, confirmation } => {
            let (number, confirmation) = (number.clone(), *confirmation);
            let bytes = Card { number, confirmation, account: account.clone() }.emit();
            // The parser validates the number.
            Card::parse(&bytes)?;
            Document { bytes, post: None, code: None }
        }
    })
}

fn of_push(push: &Push, code: Option<UserCode>) -> Document {
    let post = Some((push.content_type(), push.document().to_vec()));
    Document { bytes: push.emit(), post, code }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::device::SERVER_ID;
    use crate::{
        app::devices::{
            enrol,
            tests::{SECRETS, enrolment},
        },
        fleet::memory::MemoryStore,
    };

    const FRESH: FreshSecrets = FreshSecrets {
        password: [13; 32],
        nonce: [14; 16],
        server_password: [15; 32],
        server_nonce: [16; 16],
    };

    fn pin() -> SecKey {
        SecKey::Pin("4711".to_owned())
    }

    async fn enrolled() -> (MemoryStore, DeviceId) {
        let store = MemoryStore::default();
        enrol(&store, Utc(5), enrolment("LAB-0001"), SECRETS).await.unwrap();
        (store, "LAB-0001".parse().unwrap())
    }

    #[tokio::test]
    async fn a_document_holds_the_credentials_that_the_server_stores_and_the_old_ones_are_replaced()
    {
        let card = DocumentFormat::Card {
            number: "894901".to_owned(),
            confirmation: Confirmation::Wanted,
        };
        let code = DocumentFormat::CpWithCode(CodeKey::from_random([3; 8]));
        for form in [DocumentFormat::Cp(pin()), code, DocumentFormat::Dm(pin()), card] {
            let (store, id) = enrolled().await;
            let before = devices::show(&store, &id).await.unwrap();
            let document = super::document(&store, Utc(6), &id, form.clone(), FRESH).await.unwrap();
            let account = match form {
                DocumentFormat::Cp(key) => {
                    let push = Push::parse(&document.bytes).unwrap();
                    assert!(push.is_proved_by(&key));
                    w7::Account::find(&prov::parse(push.document()).unwrap()).unwrap()
                }
                DocumentFormat::CpWithCode(_) => {
                    let push = Push::parse(&document.bytes).unwrap();
                    assert!(document.code.as_ref().unwrap().proves(push.document()));
                    w7::Account::find(&prov::parse(push.document()).unwrap()).unwrap()
                }
                DocumentFormat::Dm(key) => {
                    let message = DmBootstrap::parse(&document.bytes).unwrap();
                    assert!(message.is_proved_by(&key));
                    message.account().unwrap()
                }
                DocumentFormat::Card { .. } => Card::parse(&document.bytes).unwrap().account,
            };
            let device = devices::show(&store, &id).await.unwrap();
            let [own, server] = &account.credentials[..] else { panic!("{account:?}") };
            let password = own.secret.as_deref().unwrap();
            assert_eq!(*device.auth.secret.opened().unwrap(), Secret::new("LAB-0001", password));
            assert_ne!(device.auth.secret, before.auth.secret);
            let stored = device.server.unwrap().secret;
            assert_eq!(
                *stored.opened().unwrap(),
                Secret::new(SERVER_ID, server.secret.as_deref().unwrap())
            );
            assert_eq!(account.addresses[0].address, device.url);
            let log = format!("{:?}", store.audit_tail(9).await.unwrap());
            assert!(log.contains("device.bootstrap") && !log.contains(password), "{log}");
        }
    }

    #[tokio::test]
    async fn a_document_that_cannot_be_made_changes_nothing() {
        let (store, id) = enrolled().await;
        let before = devices::show(&store, &id).await.unwrap();
        let number = "12x".to_owned();
        for form in [
            DocumentFormat::Cp(SecKey::Pin("47a1".to_owned())),
            DocumentFormat::Card { number, confirmation: Confirmation::NotWanted },
        ] {
            let refused = super::document(&store, Utc(6), &id, form, FRESH).await;
            assert_eq!(refused.err().unwrap().exit_code(), 2);
        }
        assert_eq!(devices::show(&store, &id).await.unwrap(), before);
        let nobody = "LAB-0009".parse().unwrap();
        let refused =
            super::document(&store, Utc(6), &nobody, DocumentFormat::Cp(pin()), FRESH).await;
        assert_eq!(refused.err().unwrap().exit_code(), 6);
    }
}
