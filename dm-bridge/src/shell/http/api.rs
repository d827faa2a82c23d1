//! The operators' API and its route table. Each handler parses its request, calls one function of
//! [`crate::app`], and maps the result.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::{Path, Query, Request, State},
    http::{StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post, put},
};
use proto::{
    crypto::{equal_in_constant_time, random, sha256},
    dm::auth::AuthKind,
    ids::{CampaignId, ClassId, DeviceId},
};
use proto_http::transport::Proved;
use serde::Deserialize;

use super::{super::state::Shared, retry_after};
use crate::{
    api::{
        requests::{
            AccountRequest, ComponentOperationRequest, EnrolRequest, FirmwareObjectRequest,
            PolicyRequest, StartRequest, SuspensionRequest, UpdateRequestsRequest,
        },
        responses::{
            AuditBody, CampaignBody, CampaignDeviceBody, ComponentsBody, DeviceBody,
            DeviceDetailBody, EnrolledBody, ErrorBody, PageBody,
        },
    },
    app::{
        AppError, campaigns, components,
        devices::{self, DEFAULT_MANUFACTURER, DEFAULT_MODEL, Enrolment, FreshSecrets},
        enrolment::{OwnAccount, parse_certificate},
        policy::{self, PolicyChanges},
        status::{self, audit_cursor},
        time_args, update_requests,
    },
    campaign::update_requests::UpdateRequestPolicy,
    fleet::policy::NodeValue,
};

/// Rows of a page of a list, unless the request says how many.
const DEFAULT_PAGE: u32 = 100;

/// Rows of a page, at most.
const MAX_PAGE: u32 = 1_000;

/// Time after which a request may be repeated that the server could not serve.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Access rule of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody; the handler is harmless.
    Open,
    /// Requests with the operator token.
    Operator,
}

/// A route of operators.
pub struct Route {
    /// `GET`, `POST` or `PUT`.
    pub method: &'static str,
    /// Its path.
    pub path: &'static str,
    /// Its access rule.
    pub access: Access,
    handler: MethodRouter<Arc<Shared>>,
}

/// Returns the routes of operators; their router is built from this list alone.
#[must_use]
pub fn routes() -> Vec<Route> {
    let open = |method, path, handler| Route { method, path, access: Access::Open, handler };
    let operator =
        |method, path, handler| Route { method, path, access: Access::Operator, handler };
    vec![
        open("GET", "/healthz", get(healthz)),
        open("GET", "/readyz", get(healthz)),
        operator("GET", "/metrics", get(metrics)),
        operator("GET", "/api/v1/campaigns", get(list_campaigns)),
        operator("GET", "/api/v1/campaigns/{id}", get(show_campaign)),
        operator("GET", "/api/v1/campaigns/{id}/devices", get(campaign_devices)),
        operator("POST", "/api/v1/campaigns/{id}/start", post(start_campaign)),
        operator("POST", "/api/v1/campaigns/{id}/stop", post(stop_campaign)),
        operator("PUT", "/api/v1/campaigns/{id}/update-requests", put(set_campaign_requests)),
        operator("GET", "/api/v1/audit", get(list_audit)),
        operator("GET", "/api/v1/devices", get(list_devices)),
        operator("POST", "/api/v1/devices", post(enrol_device)),
        operator("GET", "/api/v1/devices/{id}", get(show_device)),
        operator("PUT", "/api/v1/devices/{id}/update-requests", put(set_device_requests)),
        operator("PUT", "/api/v1/devices/{id}/firmware-object", put(set_firmware_object)),
        operator("PUT", "/api/v1/devices/{id}/suspension", put(set_suspension)),
        operator("POST", "/api/v1/devices/{id}/policy", post(device_policy)),
        operator("GET", "/api/v1/devices/{id}/components", get(device_components)),
        operator("POST", "/api/v1/devices/{id}/components", post(order_component)),
    ]
}

/// Returns the router of operators.
pub(super) fn router(shared: &Arc<Shared>) -> Router {
    let mut router = Router::new();
    for route in routes() {
        let handler = match route.access {
            Access::Open => route.handler,
            Access::Operator => {
                route.handler.layer(from_fn_with_state(Arc::clone(shared), only_operators))
            }
        };
        router = router.route(route.path, handler);
    }
    router.with_state(Arc::clone(shared))
}

async fn only_operators(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let value = request.headers().get(header::AUTHORIZATION).map(|value| value.as_bytes());
    let token = value.and_then(|value| value.strip_prefix(b"Bearer ")).unwrap_or_default();
    // Comparing hashes hides the length of the token too.
    if equal_in_constant_time(&sha256(&[token]).0, &shared.token_hash.0) {
        return (Extension(Proved), next.run(request).await).into_response();
    }
    let body = ErrorBody { error: "show the operator's token as `Bearer TOKEN`".to_owned() };
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], Json(body)).into_response()
}

impl IntoResponse for AppError {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Usage(_) | Self::Argument(_) => StatusCode::BAD_REQUEST,
            Self::NotFound { .. } => StatusCode::NOT_FOUND,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::Policy(_) | Self::Verification(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Network(_) => StatusCode::BAD_GATEWAY,
            Self::Configuration(_) | Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        let retry = (status == StatusCode::SERVICE_UNAVAILABLE)
            .then(|| [(header::RETRY_AFTER, retry_after(RETRY_AFTER))]);
        (status, retry, Json(ErrorBody { error: self.to_string() })).into_response()
    }
}

async fn healthz(State(shared): State<Arc<Shared>>) -> (StatusCode, &'static str) {
    if shared.status.health.is_good(shared.clock.now().mono) {
        match shared.status.health.damaged_campaigns() {
            0 => (StatusCode::OK, "ok\n"),
            _ => (StatusCode::OK, "ok, but campaigns are damaged; see the log\n"),
        }
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the store cannot be written; see the log\n")
    }
}

/// Counts as the reconciler has read them last: a scrape reads nothing.
async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let text = shared.status.metrics.render(
        &shared.fleet(),
        shared.sessions.active(),
        &shared.connections.stats(),
        shared.status.health.damaged_campaigns(),
    );
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

/// The query of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct PageQuery {
    after: Option<String>,
    limit: Option<u32>,
}

impl PageQuery {
    fn limit(&self) -> Result<u32, AppError> {
        match self.limit.unwrap_or(DEFAULT_PAGE) {
            limit @ 1..=MAX_PAGE => Ok(limit),
            limit => Err(AppError::Usage(format!(
                "limit {limit}: expected a number from 1 to {MAX_PAGE}"
            ))),
        }
    }
}

async fn list_campaigns(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<PageQuery>,
) -> Result<Json<PageBody<CampaignBody>>, AppError> {
    let limit = query.limit()?;
    let rows = status::campaign_page(&*shared.store, query.after.as_deref(), limit).await?;
    Ok(Json(PageBody::new(rows, limit)))
}

async fn show_campaign(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
) -> Result<Json<CampaignBody>, AppError> {
    let id: CampaignId = id.parse()?;
    Ok(Json((&status::campaign(&*shared.store, id).await?).into()))
}

async fn campaign_devices(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    Query(query): Query<PageQuery>,
) -> Result<Json<PageBody<CampaignDeviceBody>>, AppError> {
    let (limit, after) = (query.limit()?, query.after.as_deref());
    let rows = status::devices_of(&*shared.store, id.parse()?, after, limit).await?;
    Ok(Json(PageBody::new(rows, limit)))
}

async fn list_audit(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<PageQuery>,
) -> Result<Json<PageBody<AuditBody>>, AppError> {
    let limit = query.limit()?;
    let after = audit_cursor(query.after.as_deref())?;
    Ok(Json(PageBody::new(shared.store.audit_page(after, limit).await?, limit)))
}

async fn start_campaign(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<CampaignBody>, AppError> {
    let id: CampaignId = id.parse()?;
    let body: StartRequest = serde_json::from_slice(&body)
        .map_err(|error| AppError::Usage(format!("the body is no window: {error}")))?;
    let now = shared.clock.now().utc;
    let window = (time_args::parse(&body.opens, now)?, time_args::parse(&body.closes, now)?);
    campaigns::start(&*shared.store, now, id, window, &mut random::<16>).await?;
    shared.wake.notify_one();
    Ok(Json((&status::campaign(&*shared.store, id).await?).into()))
}

async fn stop_campaign(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
) -> Result<Json<CampaignBody>, AppError> {
    let id: CampaignId = id.parse()?;
    campaigns::stop(&*shared.store, shared.clock.now().utc, id).await?;
    shared.wake.notify_one();
    Ok(Json((&status::campaign(&*shared.store, id).await?).into()))
}

fn update_request_policy(body: &[u8]) -> Result<Option<UpdateRequestPolicy>, AppError> {
    let body: UpdateRequestsRequest = serde_json::from_slice(body)
        .map_err(|error| AppError::Usage(format!("invalid body: {error}")))?;
    Ok(body.update_requests.map(|word| word.parse()).transpose()?)
}

async fn set_campaign_requests(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<CampaignBody>, AppError> {
    let id: CampaignId = id.parse()?;
    let policy = update_request_policy(&body)?.ok_or_else(|| {
        AppError::Usage("the policy of a campaign is now, later or none".to_owned())
    })?;
    update_requests::set_campaign(&*shared.store, shared.clock.now().utc, id, policy).await?;
    Ok(Json((&status::campaign(&*shared.store, id).await?).into()))
}

async fn set_device_requests(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<DeviceBody>, AppError> {
    let id: DeviceId = id.parse()?;
    let policy = update_request_policy(&body)?;
    update_requests::set_device(&*shared.store, shared.clock.now().utc, &id, policy).await?;
    Ok(Json((&devices::show(&*shared.store, &id).await?).into()))
}

async fn set_firmware_object(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<DeviceBody>, AppError> {
    let id: DeviceId = id.parse()?;
    let body: FirmwareObjectRequest = serde_json::from_slice(&body)
        .map_err(|error| AppError::Usage(format!("invalid body: {error}")))?;
    let uri = body.firmware_object.as_deref().map(devices::parse_object).transpose()?;
    let now = shared.clock.now().utc;
    devices::set_firmware_object(&*shared.store, now, &id, uri.as_ref()).await?;
    Ok(Json((&devices::show(&*shared.store, &id).await?).into()))
}

async fn set_suspension(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<DeviceBody>, AppError> {
    let id: DeviceId = id.parse()?;
    let body: SuspensionRequest = serde_json::from_slice(&body)
        .map_err(|error| AppError::Usage(format!("invalid body: {error}")))?;
    let command = body.suspension.map(|word| word.parse()).transpose()?;
    devices::set_suspension(&*shared.store, shared.clock.now().utc, &id, command).await?;
    Ok(Json((&devices::show(&*shared.store, &id).await?).into()))
}

async fn device_policy(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<DeviceBody>, AppError> {
    let id: DeviceId = id.parse()?;
    let body: PolicyRequest = serde_json::from_slice(&body)
        .map_err(|error| AppError::Usage(format!("the body is no policy: {error}")))?;
    let mut changes = PolicyChanges::new();
    for (node, value) in &body.policy {
        let node = node.parse()?;
        let value = value.as_deref().map(|value| NodeValue::new(node, value)).transpose()?;
        changes.insert(node, value);
    }
    policy::set(&*shared.store, shared.clock.now().utc, &id, &changes).await?;
    Ok(Json((&devices::show(&*shared.store, &id).await?).into()))
}

async fn device_components(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
) -> Result<Json<ComponentsBody>, AppError> {
    let device = devices::show(&*shared.store, &id.parse()?).await?;
    Ok(Json(ComponentsBody::new(&device.id, &device.components)))
}

async fn order_component(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<ComponentsBody>, AppError> {
    let id: DeviceId = id.parse()?;
    let body: ComponentOperationRequest = serde_json::from_slice(&body)
        .map_err(|error| AppError::Usage(format!("the body is no component operation: {error}")))?;
    let (store, now) = (&*shared.store, shared.clock.now().utc);
    match (body.operation, body.id) {
        (None, None) => {
            components::request_inventory(store, now, &id).await?;
        }
        (Some(operation), Some(component)) => {
            let what = (operation.parse()?, &component);
            components::queue_operation(store, now, &id, what, &mut random::<16>).await?;
        }
        (None, Some(_)) | (Some(_), None) => {
            return Err(AppError::Usage("operation and id are required together".into()));
        }
    }
    device_components(State(shared), Path(id.into())).await
}

async fn list_devices(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<PageQuery>,
) -> Result<Json<PageBody<DeviceBody>>, AppError> {
    let limit = query.limit()?;
    let rows = shared.store.device_page(query.after.as_deref(), limit).await?;
    Ok(Json(PageBody::new(rows, limit)))
}

async fn enrol_device(
    State(shared): State<Arc<Shared>>,
    body: Bytes,
) -> Result<Json<EnrolledBody>, AppError> {
    let body: EnrolRequest = serde_json::from_slice(&body)
        .map_err(|error| AppError::Usage(format!("the body is no enrolment: {error}")))?;
    let (id, class): (DeviceId, ClassId) = (body.id.parse()?, body.class.parse()?);
    let profile = match &body.profile {
        Some(name) => shared.data.profile(name)?,
        None => shared.data.profile_of(class)?,
    };
    let AccountRequest { auth, server_auth, certificate, .. } = &body.account;
    let kind = |word: &Option<String>| word.as_deref().map(str::parse::<AuthKind>).transpose();
    let enrolment = Enrolment {
        id: id.clone(),
        manufacturer: body.manufacturer.unwrap_or_else(|| DEFAULT_MANUFACTURER.to_owned()),
        model: body.model.unwrap_or_else(|| DEFAULT_MODEL.to_owned()),
        vendor: body.vendor.parse()?,
        class,
        url: body.url,
        encoding: body.encoding.as_deref().unwrap_or("xml").parse()?,
        auth: kind(auth)?.unwrap_or_default(),
        account: OwnAccount {
            server_auth: kind(server_auth)?,
            certificate: certificate.as_deref().map(parse_certificate).transpose()?,
            user: body.account.user,
            password: body.account.password,
            server_id: body.account.server_id,
            server_password: body.account.server_password,
        },
        profile,
        firmware_object: body.firmware_object.as_deref().map(devices::parse_object).transpose()?,
    };
    let secrets = FreshSecrets {
        password: random(),
        nonce: random(),
        server_password: random(),
        server_nonce: random(),
    };
    let (store, now) = (&*shared.store, shared.clock.now().utc);
    let warnings = enrolment.account.warnings();
    let settings = devices::enrol(store, now, enrolment, secrets).await?;
    let device = (&devices::show(store, &id).await?).into();
    Ok(Json(EnrolledBody { device, settings, warnings }))
}

async fn show_device(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
) -> Result<Json<DeviceDetailBody>, AppError> {
    let (store, id) = (&*shared.store, id.parse()?);
    let device = devices::show(store, &id).await?;
    let body = DeviceDetailBody::new(&device, &devices::latest_attempts(store, &id).await?);
    Ok(Json(body.with_notes(devices::notes(store, &id).await?)))
}
