//! Calls to the control API of an image server.

use std::{path::Path, time::Duration};

use prost::Message;
use proto::{
    control::{CONTENT_TYPE, OpenRequest, PATH, PrepareReply, PrepareRequest, StopRequest},
    ids::Tsi,
};
use thiserror::Error;

use super::data_dir::read_token;
use crate::campaign::model::{Campaign, Place, Window};

/// Waiting for an image server ends after this.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Octets of an answer, at most.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;

/// Why an image server did not do what it was asked.
#[derive(Debug, Error)]
pub enum ControlError {
    /// No answer.
    #[error("the image server at {url} cannot be reached: {reason}")]
    Unreachable {
        /// Where it was looked for.
        url: String,
        /// Why.
        reason: String,
    },
    /// It says no.
    #[error("the image server answers {status}: {text}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// What it says.
        text: String,
    },
    /// An answer that makes no sense.
    #[error("the image server's answer makes no sense: {0}")]
    Senseless(String),
    /// Its token cannot be read here.
    #[error("{0}")]
    Token(String),
}

/// Has the image server prepare a campaign for a window.
///
/// # Errors
///
/// [`ControlError`] that reads well in a status.
pub async fn prepare(campaign: &Campaign, window: Window) -> Result<PrepareReply, ControlError> {
    let request = PrepareRequest {
        campaign_id: campaign.id.0.to_vec(),
        group: campaign.place.group.to_string(),
        port: u32::from(campaign.place.port),
        opens_utc: window.opens.seconds(),
        closes_utc: window.closes.seconds(),
        bits_per_second: 0,
    };
    let answer = call(&campaign.place, "prepare", request.encode_to_vec()).await?;
    PrepareReply::decode(answer.as_slice())
        .map_err(|error| ControlError::Senseless(error.to_string()))
}

/// Has the image server go on air in a window.
///
/// # Errors
///
/// [`ControlError`] that reads well in a status.
pub async fn open(campaign: &Campaign, tsi: Tsi, window: Window) -> Result<(), ControlError> {
    let request = OpenRequest {
        campaign_id: campaign.id.0.to_vec(),
        tsi: number(tsi),
        opens_utc: window.opens.seconds(),
        closes_utc: window.closes.seconds(),
    };
    call(&campaign.place, "open", request.encode_to_vec()).await.map(drop)
}

/// Has the image server stop; one that knows nothing of the session has stopped.
///
/// # Errors
///
/// [`ControlError`] that reads well in a status.
pub async fn stop(campaign: &Campaign, tsi: Tsi) -> Result<(), ControlError> {
    let request = StopRequest { campaign_id: campaign.id.0.to_vec(), tsi: number(tsi) };
    match call(&campaign.place, "stop", request.encode_to_vec()).await {
        Ok(_) | Err(ControlError::Refused { status: 404, .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

fn number(tsi: Tsi) -> u32 {
    u32::try_from(tsi.0).expect("a TSI is checked when the image server answers it")
}

async fn call(
    place: &Place,
    operation: &'static str,
    body: Vec<u8>,
) -> Result<Vec<u8>, ControlError> {
    let token = read_token(Path::new(&place.token_file))
        .map_err(|error| ControlError::Token(error.to_string()))?;
    let url = format!("{}{PATH}/{operation}", place.carousel_url.trim_end_matches('/'));
    let unreachable = {
        let url = place.carousel_url.clone();
        move |reason: String| ControlError::Unreachable { url, reason }
    };
    match tokio::task::spawn_blocking(move || post(&url, &token, &body)).await {
        Ok(Ok((status, answer))) if (200..300).contains(&status) => Ok(answer),
        Ok(Ok((status, answer))) => {
            let text = String::from_utf8_lossy(&answer).trim().chars().take(200).collect();
            Err(ControlError::Refused { status, text })
        }
        Ok(Err(error)) => Err(unreachable(error.to_string())),
        Err(error) => Err(unreachable(error.to_string())),
    }
}

fn post(url: &str, token: &str, body: &[u8]) -> Result<(u16, Vec<u8>), ureq::Error> {
    // A proxy of the environment has no business between the two servers.
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .build()
        .into();
    let mut response = agent
        .post(url)
        .header("Authorization", &format!("Bearer {token}"))
        .content_type(CONTENT_TYPE)
        .send(body)?;
    let status = response.status().as_u16();
    let answer = response.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_vec()?;
    Ok((status, answer))
}
