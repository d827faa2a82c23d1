//! One function for each operation; command line, API and reconciler call nothing else.
//!
//! | module | holds |
//! | --- | --- |
//! | [`devices`] | enrol, show |
//! | [`bootstrap`] | bootstrap documents with device accounts |
//! | [`components`] | software components: inventory and operations |
//! | [`campaigns`] | create, start, stop |
//! | [`campaign_transitions`] | state changes that the reconciler stores |
//! | [`message_handler`] | one DM message in, one out, with the stored state around it |
//! | [`update_requests`] | the policy on devices that request an update |
//! | [`policy`] | policy settings of devices |
//! | [`status`] | status of campaigns and devices |
//! | [`time_args`] | times as operators write them |

pub mod bootstrap;
pub mod campaign_transitions;
pub mod campaigns;
pub mod components;
pub mod devices;
pub mod enrolment;
pub mod message_handler;
pub mod policy;
pub mod status;
pub mod time_args;
pub mod update_requests;

use std::net::IpAddr;

use proto::wire::WireError;
use thiserror::Error;

use crate::{campaign::verify::VerificationError, fleet::store::StoreError};

/// Failure of an operation.
#[derive(Debug, Error)]
pub enum AppError {
    /// An argument is invalid.
    #[error("{0}")]
    Usage(String),
    /// An argument does not parse.
    #[error(transparent)]
    Argument(#[from] WireError),
    /// Files or settings of the server are invalid.
    #[error("{0}")]
    Configuration(String),
    /// A peer or a socket is not available.
    #[error("{0}")]
    Network(String),
    /// Signed documents were rejected.
    #[error(transparent)]
    Verification(#[from] VerificationError),
    /// The named thing does not exist.
    #[error("{what} {name} does not exist")]
    NotFound {
        /// Kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A conflict: the thing exists already, or its state does not allow the operation.
    #[error("{0}")]
    Conflict(String),
    /// A rule forbids it.
    #[error("{0}")]
    Policy(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AppError {
    /// Returns the documented exit code.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Argument(_) => 2,
            Self::Configuration(_) => 3,
            Self::Network(_) => 4,
            Self::Verification(error) => match error {
                VerificationError::Untrusted { .. }
                | VerificationError::Expired { .. }
                | VerificationError::PlanHeader { .. }
                | VerificationError::NoSuchComponent { .. } => 5,
                VerificationError::OlderSequence { .. }
                | VerificationError::DamagedSequence { .. }
                | VerificationError::BelowFloor { .. } => 8,
            },
            Self::NotFound { .. } => 6,
            Self::Conflict(_) => 7,
            Self::Policy(_) => 8,
            Self::Store(error) => match error {
                StoreError::Conflict(_) => 7,
                StoreError::Unavailable { .. }
                | StoreError::Damaged { .. }
                | StoreError::Sealed(_)
                | StoreError::TooNew { .. } => 3,
            },
        }
    }
}

/// Scope of plain HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlainHttp {
    /// To and from loopback addresses alone.
    LoopbackOnly,
    /// Anywhere; for laboratories.
    Anywhere,
}

/// Checks the URL of a peer.
///
/// # Errors
///
/// [`AppError::Usage`] when it is no HTTP URL, [`AppError::Policy`] when it would carry secrets in
/// the clear.
pub fn check_url(url: &str, plain: PlainHttp) -> Result<(), AppError> {
    let wrong = || AppError::Usage(format!("{url:?} is no http:// or https:// URL"));
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '@' | '#' | '"');
    if url.len() > 512 || url.contains(odd) {
        return Err(wrong());
    }
    let (scheme, after_scheme) = url.split_once("://").ok_or_else(wrong)?;
    let is_plain = match scheme.to_ascii_lowercase().as_str() {
        "http" => true,
        "https" => false,
        _ => return Err(wrong()),
    };
    let authority = after_scheme.split(['/', '?']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[').and_then(|after| after.split_once(']')) {
        Some((host, _)) => host,
        None => authority.split(':').next().unwrap_or_default(),
    };
    if host.is_empty() {
        return Err(wrong());
    }
    let loopback =
        host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    if is_plain && !loopback && plain == PlainHttp::LoopbackOnly {
        return Err(AppError::Policy(format!(
            "{url} would carry secrets in the clear; use https:// or --insecure-http"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_stays_on_this_machine_unless_allowed() {
        for url in
            ["http://127.0.0.1:8080/dm", "http://[::1]/dm", "http://localhost:1/", "https://x"]
        {
            assert!(check_url(url, PlainHttp::LoopbackOnly).is_ok(), "{url}");
        }
        for url in
            ["http://192.0.2.1/dm", "http://localhost.example.org", "http://[2001:db8::1]:80"]
        {
            assert_eq!(
                check_url(url, PlainHttp::LoopbackOnly).unwrap_err().exit_code(),
                8,
                "{url}"
            );
            assert!(check_url(url, PlainHttp::Anywhere).is_ok(), "{url}");
        }
    }

    #[test]
    fn an_invalid_http_url_is_a_usage_error() {
        for url in ["", "ftp://x", "http://", "http:///x", "http://127.0.0.1@evil/", "http://a b"] {
            assert_eq!(check_url(url, PlainHttp::Anywhere).unwrap_err().exit_code(), 2, "{url}");
        }
    }
}
