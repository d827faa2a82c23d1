//! The configuration of the agent.

use std::time::Duration;

use crate::{
    components::InventoryAccess,
    dm,
    update::acceptance::{DeviceClass, Limits},
    user,
};

/// The configuration of this device by integrator and enrolment.
#[derive(Debug, Clone)]
pub struct Config {
    /// Vendor and class.
    pub device_class: DeviceClass,
    /// The capacity of the device.
    pub limits: Limits,
    /// The DM account and identity.
    pub dm: dm::Settings,
    /// The least time between DM sessions that nothing else triggers.
    pub check_in: Duration,
    /// The nonce of the enrolment; used until the server sends another.
    pub first_nonce: Vec<u8>,
    /// The user interface and the consent that is required.
    pub user: user::Settings,
    /// Access to the inventory of software components.
    pub components: InventoryAccess,
}
