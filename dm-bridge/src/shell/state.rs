//! State that the tasks of a server share.

use std::sync::{Arc, Mutex};

use proto::crypto::Digest;
use tokio::sync::{Notify, Semaphore};

use super::{
    auth_limiter::AuthFailureLimiter,
    clock::Clock,
    data_dir::DataDir,
    dm_sessions::{Admission, DmSessions},
    metrics::Metrics,
};
use crate::{campaign::reconcile::ReconcilePolicy, dm::Limits, fleet::store::FleetStore};

/// State that the tasks of a server share.
pub struct Shared {
    pub(super) store: Arc<dyn FleetStore>,
    pub(super) clock: Clock,
    pub(super) data: DataDir,
    pub(super) token_hash: Digest,
    pub(super) policy: ReconcilePolicy,
    pub(super) limits: Limits,
    pub(super) admission: Admission,
    pub(super) dm_permits: Semaphore,
    pub(super) sessions: DmSessions,
    /// Failed authentications by address.
    pub(super) auth_limiter: Mutex<AuthFailureLimiter>,
    /// Set when devices have to show a certificate.
    pub(super) wants_certificate: bool,
    pub(super) metrics: Metrics,
    /// Wakes the reconciler.
    pub(super) wake: Notify,
}
