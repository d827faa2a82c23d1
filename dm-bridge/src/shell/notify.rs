//! Sends notifications: as a datagram, by HTTP to the device, or as a short message over a gateway.

use std::{net::SocketAddr, time::Duration};

use proto::{
    crypto::random,
    dm::{bootstrap::CONNECTIVITY, notification::MEDIA_TYPE, push::ShortMessage},
    ids::DeviceId,
};
use thiserror::Error;
use tokio::net::UdpSocket;

use super::clock::Clock;
use crate::{
    app::{AppError, bootstrap::Document, devices},
    fleet::store::FleetStore,
    notify::{
        Notice, Outcome, Output,
        target::{Gateway, Subscriber, Target},
    },
};

mod http;
#[cfg(feature = "smpp")]
mod smpp;

/// How often the store is asked whether the device has been here.
const GLANCE: Duration = Duration::from_millis(200);
/// A peer that does not answer in this time is not waited for.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Times that a short message is handed to the gateway, with a pause that grows by itself.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);

/// Data coding of a short message that holds eight-bit data.
const EIGHT_BIT: u8 = 4;

/// Why a notification was not sent.
#[derive(Debug, Error)]
enum Undelivered {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Http(#[from] Box<ureq::Error>),
    #[cfg(feature = "smpp")]
    #[error("{0}")]
    Smpp(String),
    #[cfg(feature = "smpp")]
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    Slow,
    #[error("it does not fit: {0}")]
    Length(#[from] proto::wire::WireError),
}

/// A way to one device.
pub(crate) enum Way {
    Datagram(UdpSocket, SocketAddr),
    Push(String),
    ShortMessage(Line),
}

/// A way to a subscriber over a gateway for short messages.
pub(crate) struct Line {
    subscriber: Subscriber,
    gateway: Gateway,
    /// The gateway's token or password.
    secret: Option<String>,
}

impl Line {
    async fn submit(&self, message: &ShortMessage) -> Result<(), Undelivered> {
        let Self { subscriber, gateway, secret } = self;
        match gateway {
            Gateway::Webhook(url) => {
                let body = http::webhook_body(subscriber, message);
                http::post(url.clone(), "application/json".to_owned(), secret.clone(), body).await
            }
            #[cfg(feature = "smpp")]
            Gateway::Smpp { system_id, address } => {
                let account =
                    smpp::Account { system_id, password: secret.as_deref().unwrap_or_default() };
                let sent = smpp::submit(address, account, subscriber, message);
                tokio::time::timeout(TIMEOUT, sent).await.map_err(|_| Undelivered::Slow)?
            }
        }
    }

    /// Submits a push, in as many short messages as it takes. Nothing comes of the others when one
    /// is lost, so each of them is tried again.
    async fn submit_all(&self, push: &[u8]) -> Result<(), Undelivered> {
        let [reference] = random();
        for message in ShortMessage::split(push, reference)? {
            let mut tries = 1;
            while let Err(error) = self.submit(&message).await {
                if tries == TRIES {
                    return Err(error);
                }
                tracing::debug!(%error, tries, "a short message was not handed on");
                tokio::time::sleep(PAUSE * tries).await;
                tries += 1;
            }
        }
        Ok(())
    }
}

impl Way {
    /// Opens the way; `secret` is the gateway's token or password.
    ///
    /// # Errors
    ///
    /// [`AppError`] when a short message has no gateway, or no socket can be had.
    pub(crate) async fn open(
        target: &Target,
        gateway: Option<Gateway>,
        secret: Option<String>,
    ) -> Result<Self, AppError> {
        match target {
            Target::Udp(to) => {
                let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let failed = |error| AppError::Network(format!("cannot notify {to}: {error}"));
                Ok(Self::Datagram(UdpSocket::bind(any).await.map_err(failed)?, *to))
            }
            Target::Http(url) => Ok(Self::Push(url.clone())),
            Target::Sms(subscriber) => {
                let gateway = gateway.ok_or_else(|| {
                    AppError::Usage("a short message needs --sms-gateway URL".to_owned())
                })?;
                let subscriber = subscriber.clone();
                Ok(Self::ShortMessage(Line { subscriber, gateway, secret }))
            }
        }
    }

    // spec: oma-dm 7.2 (transports)
    async fn send(&self, notification: &[u8]) -> Result<(), Undelivered> {
        match self {
            Self::Datagram(socket, to) => {
                socket.send_to(notification, to).await?;
                Ok(())
            }
            Self::Push(url) => {
                http::post(url.clone(), MEDIA_TYPE.to_owned(), None, notification.to_vec()).await
            }
            Self::ShortMessage(line) => line.submit(&ShortMessage::new(notification)?).await,
        }
    }
}

/// Pushes a bootstrap document once, over the gateway where the device is a subscriber: nobody can tell whether the device has it before it comes.
///
/// # Errors
///
/// [`AppError`] when it could not be handed on.
///
/// # Cancel safety
///
/// What was sent stays sent.
pub(crate) async fn push(
    to: &Target,
    (gateway, secret): (Option<Gateway>, Option<String>),
    document: &Document,
) -> Result<(), AppError> {
    let way = Way::open(to, gateway, secret).await?;
    let sent = match (&way, &document.post) {
        (Way::Datagram(..), _) => way.send(&document.octets).await,
        (Way::Push(url), Some((content_type, body))) => {
            http::post(url.clone(), content_type.clone(), None, body.clone()).await
        }
        // The DM profile has no headers of a push.
        (Way::ShortMessage(line), Some((content_type, _)))
            if content_type.starts_with(CONNECTIVITY) =>
        {
            line.submit_all(&document.octets).await
        }
        (Way::Push(_) | Way::ShortMessage(_), _) => {
            let text = "this document is not pushed that way: write it with --out";
            return Err(AppError::Usage(text.to_owned()));
        }
    };
    sent.map_err(|error| AppError::Network(format!("cannot push the document to {to}: {error}")))
}

/// Asks a device to come, until it has or the notice ends.
///
/// # Errors
///
/// [`AppError`] when the last notification could not be handed on, or the store cannot be read.
///
/// # Cancel safety
///
/// What was sent stays sent.
pub(crate) async fn send(
    store: &dyn FleetStore,
    id: &DeviceId,
    way: &Way,
    mut notice: Notice,
) -> Result<Outcome, AppError> {
    let mut failed = None;
    loop {
        let now = Clock.now().mono;
        match notice.poll(now, devices::show(store, id).await?.last_seen) {
            // Nobody may listen there yet; the next one may find somebody.
            Output::Send(octets) => {
                failed = way.send(&octets).await.err();
                if let Some(error) = &failed {
                    tracing::debug!(%error, "a notification was not sent");
                }
            }
            Output::Wait(until) => tokio::time::sleep(until.since(now).min(GLANCE)).await,
            Output::Done(outcome) => {
                return match (outcome, failed) {
                    (Outcome::Silent { .. }, Some(error)) => {
                        let id = id.as_str();
                        Err(AppError::Network(format!("cannot hand on what calls {id}: {error}")))
                    }
                    (outcome, _) => Ok(outcome),
                };
            }
        }
    }
}
