//! The operator API: the types of its JSON, apart from core types and table rows.
//!
//! All routes but `/healthz` and `/metrics` require `Authorization: Bearer TOKEN`. Times are whole
//! UTC seconds; a field that does not apply is `null`.
//!
//! | route | request | response |
//! | --- | --- | --- |
//! | `GET /api/v1/campaigns` | | list of [`CampaignBody`] |
//! | `GET /api/v1/campaigns/{id}` | | [`CampaignBody`] |
//! | `GET /api/v1/campaigns/{id}/devices` | | list of [`CampaignDeviceBody`] |
//! | `POST /api/v1/campaigns/{id}/start` | [`StartRequest`] | [`CampaignBody`] |
//! | `POST /api/v1/campaigns/{id}/stop` | | [`CampaignBody`] |
//! | `PUT /api/v1/campaigns/{id}/update-requests` | [`UpdateRequestsRequest`] | [`CampaignBody`] |
//! | `GET /api/v1/devices` | | list of [`DeviceBody`] |
//! | `GET /api/v1/devices/{id}` | | [`DeviceBody`] |
//! | `PUT /api/v1/devices/{id}/update-requests` | [`UpdateRequestsRequest`] | [`DeviceBody`] |
//! | `GET /api/v1/devices/{id}/components` | | [`ComponentsBody`] |
//! | `POST /api/v1/devices/{id}/components` | [`ComponentOperationRequest`] | [`ComponentsBody`] |
//! | `PUT /api/v1/devices/{id}/suspension` | [`SuspensionRequest`] | [`DeviceBody`] |
//! | `POST /api/v1/devices/{id}/policy` | [`PolicyRequest`] | [`DeviceBody`] |
//!
//! Errors have an [`ErrorBody`].
//!
//! [`StartRequest`]: requests::StartRequest
//! [`UpdateRequestsRequest`]: requests::UpdateRequestsRequest
//! [`ComponentOperationRequest`]: requests::ComponentOperationRequest
//! [`SuspensionRequest`]: requests::SuspensionRequest
//! [`PolicyRequest`]: requests::PolicyRequest
//! [`CampaignBody`]: responses::CampaignBody
//! [`CampaignDeviceBody`]: responses::CampaignDeviceBody
//! [`DeviceBody`]: responses::DeviceBody
//! [`ComponentsBody`]: responses::ComponentsBody
//! [`ErrorBody`]: responses::ErrorBody

pub mod requests;
pub mod responses;
