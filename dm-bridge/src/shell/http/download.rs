//! The download server: descriptors, packages in ranges, and installation notifications.
//!
//! A package is signed, and a device verifies it by that alone. Its URLs have a secret of the attempt
//! for which they were sent; without it, or after the end of the attempt, there is no such path.

use std::sync::Arc;

use axum::{
    Extension,
    body::Bytes,
    extract::{Path, Request, State},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use proto::{
    dm::descriptor::{self, Descriptor, InstallStatus},
    ids::CampaignId,
    time::Utc,
    trust::bundle,
};
use proto_http::transport::Proved;
use tower::ServiceExt as _;
use tower_http::services::ServeFile;

use super::super::state::Shared;
use crate::{
    app::AppError,
    arming::commands::download_url,
    campaign::model::{Campaign, DeliveryMethod},
    fleet::attempt::ArmingAttempt,
};

/// Size limit of an installation notification, in octets.
pub(super) const MAX_NOTIFICATION_BYTES: usize = 1024;

/// Serves the download descriptor of a campaign's package. Its URLs have the origin at which the
/// device was enrolled, whatever the request says of itself.
// spec: oma-001 8.1.2.14
pub(super) async fn descriptor(
    State(shared): State<Arc<Shared>>,
    Path((id, secret)): Path<(String, String)>,
) -> Result<Response, AppError> {
    let Some((attempt, campaign)) = offered(&shared, &id, &secret).await? else { return absent() };
    let Some(device) = shared.store.device(&attempt.device).await? else { return absent() };
    let secret = attempt.package_secret.as_ref();
    let Some(secret) = secret else { return absent() };
    let base = download_url(&device.url, campaign.id, secret);
    let document = Descriptor {
        version: Some("1.0".to_owned()),
        types: vec![bundle::MEDIA_TYPE.to_owned()],
        size: campaign.delivery.bundle_bytes,
        object_uri: format!("{base}/package"),
        install_notify_uri: Some(format!("{base}/notify")),
        name: Some(format!("Firmware {}", campaign.terms.firmware_version)),
        vendor: None,
        description: None,
    };
    shared.status.metrics.download("descriptor", "200");
    let media_type = (header::CONTENT_TYPE, descriptor::MEDIA_TYPE);
    let headers = [media_type, (header::CACHE_CONTROL, "no-store")];
    Ok((Extension(Proved), headers, document.emit()).into_response())
}

/// Returns the response to an unknown path.
fn absent() -> Result<Response, AppError> {
    Ok(StatusCode::NOT_FOUND.into_response())
}

/// Serves the package, or a range of it.
// spec: oma-001 8.1.2.18
pub(super) async fn package(
    State(shared): State<Arc<Shared>>,
    Path((id, secret)): Path<(String, String)>,
    request: Request,
) -> Result<Response, AppError> {
    let Some((_, campaign)) = offered(&shared, &id, &secret).await? else { return absent() };
    let mut response = serve(&shared, campaign.id, request).await?;
    // The secret is a proof, and a package may take long.
    response.extensions_mut().insert(Proved);
    Ok(response)
}

/// Serves the package to devices that were armed before its URLs had a secret.
pub(super) async fn package_without_secret(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, AppError> {
    let before_secrets = shared.status.downloads_without_secret.get();
    let is_known = |id: &CampaignId| before_secrets.is_some_and(|known| known.contains(id));
    let Some(id) = id.parse().ok().filter(is_known) else { return absent() };
    let campaign = shared.store.campaign(id).await?;
    let now = shared.clock.now().utc;
    let is_offered = campaign.is_some_and(|campaign| is_offered(&campaign, now));
    if is_offered { serve(&shared, id, request).await } else { absent() }
}

async fn serve(shared: &Shared, id: CampaignId, request: Request) -> Result<Response, AppError> {
    let served = ServeFile::new(shared.data.package_path(id)).oneshot(request).await;
    let mut response = served
        .map_err(|error| AppError::Configuration(format!("the package cannot be read: {error}")))?
        .into_response();
    shared.status.metrics.download("package", response.status().as_str());
    if response.status().is_success() {
        let media_type = header::HeaderValue::from_static(bundle::MEDIA_TYPE);
        response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    }
    Ok(response)
}

/// Returns whether a campaign offers its package at this time.
fn is_offered(campaign: &Campaign, now: Utc) -> bool {
    let offers = campaign.delivery.methods.contains(&DeliveryMethod::Download);
    offers && campaign.open_unicast_window(now).is_some() && campaign.delivery.bundle_bytes > 0
}

/// Counts an installation notification; it decides nothing.
// spec: oma-001 8.1.2.23
pub(super) async fn notify(
    State(shared): State<Arc<Shared>>,
    Path((id, secret)): Path<(String, String)>,
    body: Bytes,
) -> Result<Response, AppError> {
    let Some(attempt) = attempt_of(&shared, &id, &secret).await? else { return absent() };
    let status = InstallStatus::parse(&String::from_utf8_lossy(&body))?;
    tracing::info!(campaign = %attempt.campaign, status = status.0, text = status.text(), "installation notification received");
    shared.status.metrics.download("notify", &status.0.to_string());
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Returns the attempt of these URLs and its campaign, while the attempt is open and the campaign
/// offers the package; a stranger cannot tell why there is nothing.
// spec: security 7.3 (packages need a secret)
async fn offered(
    shared: &Shared,
    id: &str,
    secret: &str,
) -> Result<Option<(ArmingAttempt, Campaign)>, AppError> {
    let Some(attempt) = attempt_of(shared, id, secret).await? else { return Ok(None) };
    let Some(campaign) = shared.store.campaign(attempt.campaign).await? else { return Ok(None) };
    let is_offered = attempt.phase.is_open() && is_offered(&campaign, shared.clock.now().utc);
    Ok(is_offered.then_some((attempt, campaign)))
}

async fn attempt_of(
    shared: &Shared,
    id: &str,
    secret: &str,
) -> Result<Option<ArmingAttempt>, AppError> {
    let (Ok(id), Ok(secret)) = (id.parse::<CampaignId>(), secret.parse()) else { return Ok(None) };
    let attempt = shared.store.attempt_of_package(&secret).await?;
    Ok(attempt.filter(|attempt| attempt.campaign == id))
}
