//! The download server: descriptors, packages in ranges, and installation notifications.
//!
//! No authentication: a package is signed, and a device verifies it by that alone.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::{Path, Request, State},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use proto::{
    dm::descriptor::{self, Descriptor, InstallStatus},
    ids::CampaignId,
    trust::bundle,
};
use tower::ServiceExt as _;
use tower_http::services::ServeFile;

use super::super::state::Shared;
use crate::{
    app::{AppError, campaigns},
    campaign::model::{Campaign, DeliveryMethod},
};

/// Size limit of an installation notification, in octets.
const MAX_NOTIFICATION_BYTES: usize = 1024;

/// Serves the download descriptor of a campaign's package.
// spec: oma-001 8.1.2.14
pub(super) async fn descriptor(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, AppError> {
    let campaign = offered(&shared, &id).await?;
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.ok_or_else(|| AppError::Usage("the request has no Host header".to_owned()))?;
    // A TLS proxy in front of this server passes the scheme in this header.
    let forwarded = request.headers().get("x-forwarded-proto");
    let scheme = if forwarded.is_some_and(|it| it == "https") { "https" } else { "http" };
    let base = format!("{scheme}://{host}/download/{}", campaign.id);
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
    Ok(([media_type, (header::CACHE_CONTROL, "no-store")], document.emit()).into_response())
}

/// Serves the package, or a range of it.
// spec: oma-001 8.1.2.18
pub(super) async fn package(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, AppError> {
    let campaign = offered(&shared, &id).await?;
    let served = ServeFile::new(shared.data.package_path(campaign.id)).oneshot(request).await;
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

/// Counts an installation notification; it decides nothing.
// spec: oma-001 8.1.2.23
pub(super) async fn notify(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<StatusCode, AppError> {
    let campaign = offered(&shared, &id).await?;
    if body.len() > MAX_NOTIFICATION_BYTES {
        return Err(AppError::Usage("the notification is too long".to_owned()));
    }
    let status = InstallStatus::parse(&String::from_utf8_lossy(&body))?;
    tracing::info!(campaign = %campaign.id, status = status.0, text = status.text(), "installation notification received");
    shared.status.metrics.download("notify", &status.0.to_string());
    Ok(StatusCode::NO_CONTENT)
}

async fn offered(shared: &Shared, id: &str) -> Result<Campaign, AppError> {
    let id: CampaignId = id.parse()?;
    let campaign = campaigns::find(&*shared.store, id).await?;
    let offers = campaign.delivery.methods.contains(&DeliveryMethod::Download);
    let running = campaign.open_unicast_window(shared.clock.now().utc).is_some();
    if offers && running && campaign.delivery.bundle_bytes > 0 {
        Ok(campaign)
    } else {
        Err(AppError::NotFound { what: "package of campaign", name: id.to_string() })
    }
}
