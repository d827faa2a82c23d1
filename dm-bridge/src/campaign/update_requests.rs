//! The policy for devices that request an update.

proto::words! {
    /// The response to a device that requests an update. Devices that were selected for a campaign
    /// are armed in any case; the policy concerns the time of it, and all other devices.
    #[derive(Default)]
    pub enum UpdateRequestPolicy: "update requests" {
        /// Selects the device and arms it in the same session.
        Now = "now",
        /// Selects the device and arms it in its next session.
        Later = "later",
        /// Changes nothing.
        #[default]
        Nothing = "none",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_parsed_as_they_are_displayed() {
        for policy in UpdateRequestPolicy::ALL {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        assert!("soon".parse::<UpdateRequestPolicy>().is_err());
        assert_eq!(UpdateRequestPolicy::default(), UpdateRequestPolicy::Nothing);
    }
}
