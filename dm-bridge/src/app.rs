//! One function for each operation; command line, API and reconciler call nothing else.
//!
//! | module | holds |
//! | --- | --- |
//! | [`devices`] | enrol, show |
//! | [`bootstrap`] | documents that give devices their accounts |
//! | [`components`] | what devices hold of software components |
//! | [`campaigns`] | create, start, stop |
//! | [`progress`] | what the reconciler writes down |
//! | [`exchange`] | the stored state around one DM message |
//! | [`requests`] | what devices that ask for an update get |
//! | [`policy`] | what the desk sets of a device's policy |
//! | [`status`] | how campaigns and devices stand |
//! | [`moment`] | times as operators write them |

pub mod bootstrap;
pub mod campaigns;
pub mod components;
pub mod devices;
pub mod exchange;
pub mod moment;
pub mod policy;
pub mod progress;
pub mod requests;
pub mod status;

use std::net::IpAddr;

use proto::wire::WireError;
use thiserror::Error;

use crate::{campaign::admission::AdmissionError, fleet::store::StoreError};

/// Why an operation was not carried out.
#[derive(Debug, Error)]
pub enum AppError {
    /// An argument makes no sense.
    #[error("{0}")]
    Usage(String),
    /// An argument has a wrong form.
    #[error(transparent)]
    Argument(#[from] WireError),
    /// Files or settings of the server are not as they must be.
    #[error("{0}")]
    Configuration(String),
    /// A peer or a socket cannot be had.
    #[error("{0}")]
    Network(String),
    /// Signed documents make no campaign.
    #[error(transparent)]
    Admission(#[from] AdmissionError),
    /// It is not there.
    #[error("{what} {name} does not exist")]
    NotFound {
        /// Kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// It is there already, or in a state that does not allow this.
    #[error("{0}")]
    Conflict(String),
    /// A rule says no.
    #[error("{0}")]
    Policy(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AppError {
    /// Returns the exit code of the design page.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Argument(_) => 2,
            Self::Configuration(_) => 3,
            Self::Network(_) => 4,
            Self::Admission(error) => match error {
                AdmissionError::Untrusted { .. }
                | AdmissionError::Expired { .. }
                | AdmissionError::PlanHeader { .. }
                | AdmissionError::NoSuchComponent { .. } => 5,
                AdmissionError::OlderSequence { .. } | AdmissionError::BelowFloor { .. } => 8,
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

/// Whether plain HTTP may leave this machine.
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
    let (is_plain, rest) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => return Err(wrong()),
    };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
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
    fn plain_http_stays_on_this_machine_unless_told_otherwise() {
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
    fn what_is_no_http_url_is_a_usage_error() {
        for url in ["", "ftp://x", "http://", "http:///x", "http://127.0.0.1@evil/", "http://a b"] {
            assert_eq!(check_url(url, PlainHttp::Anywhere).unwrap_err().exit_code(), 2, "{url}");
        }
    }
}
