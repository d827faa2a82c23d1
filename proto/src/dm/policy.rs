//! The policy of a device that a server may set: one list of the nodes for both sides.

use serde::{Deserialize, Serialize};

use super::code::Format;

crate::words! {
    /// A node below `Ext/Broadcast/Policy`, by the word of operators.
    #[derive(Serialize, Deserialize)]
    pub enum PolicyNode: "policy", serde {
        /// Charge below which reception is suspended, per cent.
        Battery = "battery",
        /// Share of memory in use above which reception is suspended, per cent.
        Memory = "memory",
        /// Share of storage in use above which reception is suspended, per cent.
        Storage = "storage",
        /// Temperature above which reception is suspended, degrees Celsius.
        Thermal = "thermal",
        /// Effect of a metered network: `suspend` or `ignore`.
        Metered = "metered",
        /// Effect of a voice call: `suspend` or `ignore`.
        Call = "call",
        /// Moment at which a verified image is installed: `at-once` or `on-command`.
        Install = "install",
        /// Questions to the user: `none`, `download`, `install` or `both`.
        Consent = "consent",
    }
}

impl PolicyNode {
    /// Returns its path below the FUMO object.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Battery => "Ext/Broadcast/Policy/Battery",
            Self::Memory => "Ext/Broadcast/Policy/Memory",
            Self::Storage => "Ext/Broadcast/Policy/Storage",
            Self::Thermal => "Ext/Broadcast/Policy/Thermal",
            Self::Metered => "Ext/Broadcast/Policy/Metered",
            Self::Call => "Ext/Broadcast/Policy/Call",
            Self::Install => "Ext/Broadcast/Policy/Install",
            Self::Consent => "Ext/Broadcast/Policy/Consent",
        }
    }

    /// Returns the node of a path below the FUMO object.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|node| node.path() == path)
    }

    /// Returns the values that it takes, for people.
    #[must_use]
    pub const fn values(self) -> &'static str {
        match self {
            Self::Battery | Self::Memory | Self::Storage | Self::Thermal => "numbers",
            Self::Metered | Self::Call => "suspend or ignore",
            Self::Install => "at-once or on-command",
            Self::Consent => "none, download, install or both",
        }
    }

    /// Returns the format of its value.
    #[must_use]
    pub const fn format(self) -> Format {
        match self {
            Self::Battery | Self::Memory | Self::Storage | Self::Thermal => Format::Int,
            Self::Metered | Self::Call | Self::Install | Self::Consent => Format::Chr,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dm::nodes::broadcast;

    #[test]
    fn each_node_has_its_own_word_and_path_and_an_unknown_word_is_rejected_with_all_of_them() {
        let refused = "colour".parse::<PolicyNode>().unwrap_err().to_string();
        for node in PolicyNode::ALL {
            assert_eq!(node.as_str().parse(), Ok(node));
            assert_eq!(PolicyNode::of_path(node.path()), Some(node));
            let last = node.path().strip_prefix(broadcast::POLICY).unwrap();
            assert_eq!(last.to_lowercase(), node.as_str());
            assert!(refused.contains(node.as_str()), "{refused}");
        }
        assert_eq!(PolicyNode::of_path("Ext/Broadcast/Policy/Colour"), None);
    }
}
