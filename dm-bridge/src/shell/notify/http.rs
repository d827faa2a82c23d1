//! HTTP transport: to the device itself, or to the webhook of a gateway.

use proto::dm::push::ShortMessage;
use serde::Serialize;

use super::error::{EIGHT_BIT, NotifyError, TIMEOUT};
use crate::notification::target::Subscriber;

/// The body of a request to the webhook of a gateway: eight-bit data, in hex.
///
/// ```json
/// {"to":"+4915112345678","user_data_header":"0605040b84c002","user_data":"010603c4af87…","data_coding":4}
/// ```
#[derive(Serialize)]
struct Posted<'a> {
    to: String,
    user_data_header: &'a str,
    user_data: &'a str,
    data_coding: u8,
}

/// Returns the body for a gateway.
pub(super) fn webhook_body(to: &Subscriber, message: &ShortMessage) -> Vec<u8> {
    let posted = Posted {
        to: to.to_string(),
        user_data_header: &hex(&message.header),
        user_data: &hex(&message.data),
        data_coding: EIGHT_BIT,
    };
    serde_json::to_vec(&posted).expect("our own types have string keys")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Posts `body`; any 2xx status is a success.
///
/// # Errors
///
/// [`NotifyError`].
///
/// # Cancel safety
///
/// The request may still be made.
pub(super) async fn post(
    url: String,
    media_type: String,
    token: Option<String>,
    body: Vec<u8>,
) -> Result<(), NotifyError> {
    let posted = tokio::task::spawn_blocking(move || {
        let agent: ureq::Agent =
            ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).build().into();
        let mut request = agent.post(&url).header("content-type", media_type);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        request.send(&body).map(drop)
    });
    match posted.await {
        Ok(sent) => sent.map_err(|error| NotifyError::Http(Box::new(error))),
        Err(error) => Err(NotifyError::Io(std::io::Error::other(error))),
    }
}
