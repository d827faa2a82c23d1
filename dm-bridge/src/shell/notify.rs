//! Delivery of notifications: as a datagram, by HTTP, or as a short message over a gateway.

use std::{net::SocketAddr, time::Duration};

use proto::{
    crypto::random,
    dm::{
        bootstrap::CONNECTIVITY,
        notification::MEDIA_TYPE,
        push::{ShortMessage, concatenation},
    },
    ids::DeviceId,
};
use tokio::net::UdpSocket;

use self::error::NotifyError;
#[cfg(feature = "smpp")]
use self::error::TIMEOUT;
use super::state::Clock;
use crate::{
    app::{AppError, bootstrap::Document, devices},
    fleet::store::FleetStore,
    notification::{
        retry::{NotificationAttempt, Outcome, Output},
        target::{Gateway, Subscriber, Target},
    },
};

mod error;
mod http;
#[cfg(feature = "smpp")]
mod smpp;

/// Interval at which the store is polled for a session of the device.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Tries to submit a short message to the gateway; the pause between them grows.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);

/// A transport to one device.
pub(crate) enum NotifyTransport {
    Datagram(UdpSocket, SocketAddr),
    Push(String),
    ShortMessage(GatewayConnection),
}

/// A subscriber and the gateway for short messages to him.
pub(crate) struct GatewayConnection {
    subscriber: Subscriber,
    gateway: Gateway,
    /// The gateway's token or password.
    secret: Option<String>,
}

impl GatewayConnection {
    async fn submit(&self, message: &ShortMessage) -> Result<(), NotifyError> {
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
                tokio::time::timeout(TIMEOUT, sent).await.map_err(|_| NotifyError::Timeout)?
            }
        }
    }

    /// Submits a push in one or more short messages. The push is lost when one of them is, so each
    /// is retried.
    async fn submit_all(&self, push: &[u8]) -> Result<(), NotifyError> {
        let [reference] = random();
        for message in concatenation::split(push, reference)? {
            let mut tries = 1;
            while let Err(error) = self.submit(&message).await {
                if tries == TRIES {
                    return Err(error);
                }
                tracing::debug!(%error, tries, "cannot submit a short message, retrying");
                tokio::time::sleep(PAUSE * tries).await;
                tries += 1;
            }
        }
        Ok(())
    }
}

impl NotifyTransport {
    /// Opens the transport; `secret` is the token or password of the gateway.
    ///
    /// # Errors
    ///
    /// [`AppError`] when a short message has no gateway, or no socket can be opened.
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
                Ok(Self::ShortMessage(GatewayConnection { subscriber, gateway, secret }))
            }
        }
    }

    // spec: oma-dm 7.2 (transports)
    async fn send(&self, notification: &[u8]) -> Result<(), NotifyError> {
        match self {
            Self::Datagram(socket, to) => {
                socket.send_to(notification, to).await?;
                Ok(())
            }
            Self::Push(url) => {
                http::post(url.clone(), MEDIA_TYPE.to_owned(), None, notification.to_vec()).await
            }
            Self::ShortMessage(gateway) => gateway.submit(&ShortMessage::new(notification)?).await,
        }
    }
}

/// Pushes a bootstrap document once, over the gateway for a subscriber. Its receipt is known only
/// when the device connects.
///
/// # Errors
///
/// [`AppError`] when it cannot be sent.
///
/// # Cancel safety
///
/// A notification that was sent is not revoked.
pub(crate) async fn push(
    to: &Target,
    (gateway, secret): (Option<Gateway>, Option<String>),
    document: &Document,
) -> Result<(), AppError> {
    let transport = NotifyTransport::open(to, gateway, secret).await?;
    let sent = match (&transport, &document.post) {
        (NotifyTransport::Datagram(..), _) => transport.send(&document.bytes).await,
        (NotifyTransport::Push(url), Some((content_type, body))) => {
            http::post(url.clone(), content_type.clone(), None, body.clone()).await
        }
        // The DM profile has no headers of a push.
        (NotifyTransport::ShortMessage(gateway), Some((content_type, _)))
            if content_type.starts_with(CONNECTIVITY) =>
        {
            gateway.submit_all(&document.bytes).await
        }
        (NotifyTransport::Push(_) | NotifyTransport::ShortMessage(_), _) => {
            let text = "this document cannot be pushed by this transport: write it with --out";
            return Err(AppError::Usage(text.to_owned()));
        }
    };
    sent.map_err(|error| AppError::Network(format!("cannot push the document to {to}: {error}")))
}

/// Sends notifications until the device connects or the attempt ends.
///
/// # Errors
///
/// [`AppError`] when the last notification cannot be sent, or the store cannot be read.
///
/// # Cancel safety
///
/// A notification that was sent is not revoked.
pub(crate) async fn send(
    store: &dyn FleetStore,
    id: &DeviceId,
    transport: &NotifyTransport,
    mut attempt: NotificationAttempt,
) -> Result<Outcome, AppError> {
    let mut failed = None;
    loop {
        let now = Clock.now().mono;
        match attempt.poll(now, devices::show(store, id).await?.last_seen) {
            // The device may not listen yet; a later notification may reach it.
            Output::Send(bytes) => {
                failed = transport.send(&bytes).await.err();
                if let Some(error) = &failed {
                    tracing::debug!(%error, "cannot send a notification");
                }
            }
            Output::Wait(until) => tokio::time::sleep(until.since(now).min(POLL_INTERVAL)).await,
            Output::Done(outcome) => {
                return match (outcome, failed) {
                    (Outcome::NoResponse { .. }, Some(error)) => {
                        let id = id.as_str();
                        Err(AppError::Network(format!("cannot notify {id}: {error}")))
                    }
                    (outcome, _) => Ok(outcome),
                };
            }
        }
    }
}
