//! The environment of the device: sensor readings and external conditions.

use proto::words;
use serde::Serialize;

/// The readings of the sensors; those that a device does not have, or cannot read, are absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Readings {
    /// Charge of the battery, per cent.
    pub battery_percent: Option<u8>,
    /// Set when the device runs on mains.
    pub on_mains: bool,
    /// Memory that is in use, per cent.
    pub memory_percent: Option<u8>,
    /// Storage of the data directory that is in use, per cent.
    pub storage_percent: Option<u8>,
    /// Set when the link is lost.
    pub link_lost: bool,
    /// The hottest zone, degrees Celsius.
    pub celsius: Option<i16>,
}

words! {
    /// A condition that a program on the device reports and no sensor shows.
    #[derive(Serialize)]
    pub enum ExternalCondition: "reason", serde {
        /// A voice call is in progress.
        Call = "call",
        /// The network costs money.
        Metered = "metered",
        /// There is no network.
        Network = "network",
        /// The battery is low.
        Battery = "battery",
        /// Memory or storage is short.
        Memory = "memory",
        /// The device is too hot.
        Thermal = "thermal",
    }
}
