//! The owners of the agent's state. Each holds its part privately, and no owner calls another: the
//! agent asks one and tells the next.

use super::{config::Config, effects::EffectQueue};
use crate::{
    components::Announced,
    dm::{account::AccountState, report::Reports, update_request::UpdateRequestState},
    flute::reception::Reception,
    rng::SplitMix64,
    suspension::Suspension,
    trust::Trust,
    update::{
        download::Download, install::Installer, operation::Update,
        partial_package::PartialPackageStore,
    },
    user::prompts::Prompts,
};

/// The owners, but for the DM client and its schedule. The client uses them as a
/// [`ManagementBackend`](crate::dm::ManagementBackend).
#[derive(Debug)]
pub(super) struct Owners {
    pub(super) config: Config,
    pub(super) dm: DmOwners,
    pub(super) trust: Trust,
    pub(super) update: Update,
    pub(super) reception: Reception,
    pub(super) download: Download,
    pub(super) partial_package: PartialPackageStore,
    pub(super) installer: Installer,
    pub(super) announced: Announced,
    pub(super) suspension: Suspension,
    pub(super) prompts: Prompts,
    pub(super) rng: SplitMix64,
    pub(super) effects: EffectQueue,
}

/// The owners of what DM sessions leave behind.
#[derive(Debug)]
pub(super) struct DmOwners {
    pub(super) account: AccountState,
    pub(super) reports: Reports,
    pub(super) update_request: UpdateRequestState,
}
