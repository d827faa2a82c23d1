//! Calls to the control API of an image server.

use std::{path::Path, time::Duration};

use prost::Message;
use proto::{
    control::{
        AirStatus, CONTENT_TYPE, OpenRequest, PATH, PrepareReply, PrepareRequest, StatusReply,
        StatusRequest, StopRequest,
    },
    ids::Tsi,
};
use thiserror::Error;

use super::data_dir::read_token;
use crate::campaign::model::{BroadcastTarget, Campaign, Window};

/// Time limit of a call.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit of the connection that a call begins with.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Size limit of a response, in octets.
const MAX_RESPONSE_BYTES: u64 = 64 * 1024;

/// Failure of a call to an image server.
#[derive(Debug, Error)]
pub enum ControlError {
    /// No response.
    #[error("the image server at {url} cannot be reached: {reason}")]
    Unreachable {
        /// Its URL.
        url: String,
        /// Cause.
        reason: String,
    },
    /// An HTTP error.
    #[error("the image server answers {status}: {text}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Text of the response.
        text: String,
    },
    /// It still compares the plan with the campaign; the call is repeated.
    #[error("the image server compares the plan with the campaign: {percent} % are done")]
    Checking {
        /// Part that is done.
        percent: u32,
    },
    /// A response that does not parse.
    #[error("invalid response of the image server: {0}")]
    InvalidReply(String),
    /// Its token file cannot be read.
    #[error("{0}")]
    Token(String),
}

/// Prepares a campaign on the image server for a window.
///
/// # Errors
///
/// [`ControlError`], whose text is shown as the problem of the campaign.
pub async fn prepare(campaign: &Campaign, window: Window) -> Result<PrepareReply, ControlError> {
    let request = PrepareRequest {
        campaign_id: campaign.id.0.to_vec(),
        group: campaign.target.group.to_string(),
        port: u32::from(campaign.target.port),
        opens_utc: window.opens.seconds(),
        closes_utc: window.closes.seconds(),
        bits_per_second: 0,
        window_revision: window.revision,
    };
    let response = call(&campaign.target, "prepare", request.encode_to_vec()).await?;
    let reply = PrepareReply::decode(response.as_slice())
        .map_err(|error| ControlError::InvalidReply(error.to_string()))?;
    match reply.checking {
        true => Err(ControlError::Checking { percent: reply.checked_percent }),
        false => Ok(reply),
    }
}

/// Schedules the image server to go on air in a window.
///
/// # Errors
///
/// [`ControlError`], whose text is shown as the problem of the campaign.
pub async fn open(campaign: &Campaign, tsi: Tsi, window: Window) -> Result<(), ControlError> {
    let request = OpenRequest {
        campaign_id: campaign.id.0.to_vec(),
        tsi: number(tsi),
        opens_utc: window.opens.seconds(),
        closes_utc: window.closes.seconds(),
        window_revision: window.revision,
    };
    call(&campaign.target, "open", request.encode_to_vec()).await.map(drop)
}

/// Stops a session of the image server; one that does not exist counts as stopped.
///
/// # Errors
///
/// [`ControlError`], whose text is shown as the problem of the campaign.
pub async fn stop(campaign: &Campaign, tsi: Tsi) -> Result<(), ControlError> {
    let request = StopRequest {
        campaign_id: campaign.id.0.to_vec(),
        tsi: number(tsi),
        window_revision: campaign.window.map_or(0, |window| window.revision),
    };
    match call(&campaign.target, "stop", request.encode_to_vec()).await {
        Ok(_) | Err(ControlError::Refused { status: 404, .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Returns the session of a campaign as its image server shows it, if it has one.
///
/// # Errors
///
/// [`ControlError`] when that is not known.
pub async fn status(campaign: &Campaign) -> Result<Option<AirStatus>, ControlError> {
    let request = StatusRequest { campaign_id: campaign.id.0.to_vec() };
    let response = match call(&campaign.target, "status", request.encode_to_vec()).await {
        Ok(response) => response,
        Err(ControlError::Refused { status: 404, .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let reply = StatusReply::decode(response.as_slice())
        .map_err(|error| ControlError::InvalidReply(error.to_string()))?;
    let named = reply.sessions.into_iter().find(|session| session.campaign_id == campaign.id.0);
    let missing = || ControlError::InvalidReply("it names no session of the campaign".to_owned());
    named.map(Some).ok_or_else(missing)
}

fn number(tsi: Tsi) -> u32 {
    u32::try_from(tsi.0).expect("a TSI is checked when the image server returns it")
}

async fn call(
    target: &BroadcastTarget,
    operation: &'static str,
    body: Vec<u8>,
) -> Result<Vec<u8>, ControlError> {
    let token = read_token(Path::new(&target.token_file))
        .map_err(|error| ControlError::Token(error.to_string()))?;
    let url = format!("{}{PATH}/{operation}", target.carousel_url.trim_end_matches('/'));
    let unreachable = {
        let url = target.carousel_url.clone();
        move |reason: String| ControlError::Unreachable { url, reason }
    };
    match tokio::task::spawn_blocking(move || post(&url, &token, &body)).await {
        Ok(Ok((status, response))) if (200..300).contains(&status) => Ok(response),
        Ok(Ok((status, response))) => {
            let text = String::from_utf8_lossy(&response).trim().chars().take(200).collect();
            Err(ControlError::Refused { status, text })
        }
        Ok(Err(error)) => Err(unreachable(error.to_string())),
        Err(error) => Err(unreachable(error.to_string())),
    }
}

fn post(url: &str, token: &str, body: &[u8]) -> Result<(u16, Vec<u8>), ureq::Error> {
    // Proxy variables of the environment must not apply between the two servers.
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        .timeout_connect(Some(CONNECT_TIMEOUT))
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
    let response = response.body_mut().with_config().limit(MAX_RESPONSE_BYTES).read_to_vec()?;
    Ok((status, response))
}
