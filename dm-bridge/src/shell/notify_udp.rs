//! Sends notifications over UDP.

use std::{net::SocketAddr, time::Duration};

use proto::ids::DeviceId;
use tokio::net::UdpSocket;

use super::clock::Clock;
use crate::{
    app::{AppError, devices},
    fleet::store::FleetStore,
    notify::{Notice, Outcome, Output},
};

/// How often the store is asked whether the device has been here.
const GLANCE: Duration = Duration::from_millis(200);

/// Asks a device to come, until it has or the notice ends.
///
/// # Errors
///
/// [`AppError`] when nothing can be sent, or the store cannot be read.
///
/// # Cancel safety
///
/// What was sent stays sent.
pub(super) async fn send(
    store: &dyn FleetStore,
    id: &DeviceId,
    to: SocketAddr,
    mut notice: Notice,
) -> Result<Outcome, AppError> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let failed = |error| AppError::Network(format!("cannot notify {to}: {error}"));
    let socket = UdpSocket::bind(any).await.map_err(failed)?;
    loop {
        let now = Clock.now().mono;
        match notice.poll(now, devices::show(store, id).await?.last_seen) {
            Output::Send(octets) => {
                // Nobody may listen there yet; the next one may find somebody.
                if let Err(error) = socket.send_to(&octets, to).await {
                    tracing::debug!(%error, "a notification was not sent");
                }
            }
            Output::Wait(until) => tokio::time::sleep(until.since(now).min(GLANCE)).await,
            Output::Done(outcome) => return Ok(outcome),
        }
    }
}
