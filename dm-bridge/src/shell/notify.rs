//! Sends notifications: as a datagram, by HTTP to the device, or as a short message over a gateway.

use std::{net::SocketAddr, time::Duration};

use proto::{
    dm::{notification::MEDIA_TYPE, push::ShortMessage},
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
mod smpp;

/// How often the store is asked whether the device has been here.
const GLANCE: Duration = Duration::from_millis(200);
/// A peer that does not answer in this time is not waited for.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why a notification was not sent.
#[derive(Debug, Error)]
enum Undelivered {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Http(#[from] Box<ureq::Error>),
    #[error("{0}")]
    Smpp(String),
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    Slow,
    #[error("it does not fit: {0}")]
    Length(#[from] proto::wire::WireError),
}

/// A way to one device.
pub(super) enum Way {
    Datagram(UdpSocket, SocketAddr),
    Push(String),
    ShortMessage { subscriber: Subscriber, gateway: Gateway, secret: Option<String> },
}

impl Way {
    /// Opens the way; `secret` is the gateway's token or password.
    ///
    /// # Errors
    ///
    /// [`AppError`] when a short message has no gateway, or no socket can be had.
    pub(super) async fn open(
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
                Ok(Self::ShortMessage { subscriber: subscriber.clone(), gateway, secret })
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
            Self::ShortMessage { subscriber, gateway, secret } => {
                let message = ShortMessage::new(notification)?;
                match gateway {
                    Gateway::Webhook(url) => {
                        let body = http::webhook_body(subscriber, &message);
                        http::post(url.clone(), "application/json".to_owned(), secret.clone(), body)
                            .await
                    }
                    Gateway::Smpp { system_id, address } => {
                        let account = smpp::Account {
                            system_id,
                            password: secret.as_deref().unwrap_or_default(),
                        };
                        let sent = smpp::submit(address, account, subscriber, &message);
                        tokio::time::timeout(TIMEOUT, sent).await.map_err(|_| Undelivered::Slow)?
                    }
                }
            }
        }
    }
}

/// Pushes a bootstrap document once: nobody can tell whether the device has it before it comes.
///
/// # Errors
///
/// [`AppError`] when it could not be handed on.
///
/// # Cancel safety
///
/// What was sent stays sent.
pub(super) async fn push(to: &Target, document: &Document) -> Result<(), AppError> {
    let sent = match (to, &document.post) {
        (Target::Udp(_), _) => Way::open(to, None, None).await?.send(&document.octets).await,
        (Target::Http(url), Some((content_type, body))) => {
            http::post(url.clone(), content_type.clone(), None, body.clone()).await
        }
        (Target::Http(_), None) | (Target::Sms(_), _) => {
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
pub(super) async fn send(
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
