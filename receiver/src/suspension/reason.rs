//! The reasons to suspend reception.

use proto::words;

words! {
    /// A reason to suspend reception. Several can be active at once; reception resumes when none
    /// is left.
    pub enum SuspendReason: "reason" {
        /// Request of the user.
        User = "user",
        /// Request of the server.
        Server = "server",
        /// The battery is below its floor.
        Battery = "battery",
        /// Memory or storage is above its threshold.
        Memory = "memory",
        /// A voice call is in progress.
        Call = "call",
        /// The network is metered or lost.
        Network = "network",
        /// The device is too hot.
        Thermal = "thermal",
    }
}
