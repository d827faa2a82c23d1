//! What a server may set of a device's policy: one list of the nodes for both sides.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{code::Format, nodes::broadcast};
use crate::wire::WireError;

/// A node below `Ext/Broadcast/Policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyNode {
    /// Charge below which the device rests, per cent.
    Battery,
    /// Share of memory in use above which it rests, per cent.
    Memory,
    /// Share of storage in use above which it rests, per cent.
    Storage,
    /// Temperature above which it rests, degrees Celsius.
    Thermal,
    /// What a metered network does: `suspend` or `ignore`.
    Metered,
    /// What a voice call does: `suspend` or `ignore`.
    Call,
    /// When a verified image is installed: `at-once` or `on-command`.
    Install,
    /// What the user is asked: `none`, `download`, `install` or `both`.
    Consent,
}

impl PolicyNode {
    /// All nodes.
    pub const ALL: [Self; 8] = [
        Self::Battery,
        Self::Memory,
        Self::Storage,
        Self::Thermal,
        Self::Metered,
        Self::Call,
        Self::Install,
        Self::Consent,
    ];

    /// Returns the word by which operators name it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Battery => "battery",
            Self::Memory => "memory",
            Self::Storage => "storage",
            Self::Thermal => "thermal",
            Self::Metered => "metered",
            Self::Call => "call",
            Self::Install => "install",
            Self::Consent => "consent",
        }
    }

    /// Returns its path below the FUMO object.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Battery => broadcast::POLICY_BATTERY,
            Self::Memory => broadcast::POLICY_MEMORY,
            Self::Storage => broadcast::POLICY_STORAGE,
            Self::Thermal => broadcast::POLICY_THERMAL,
            Self::Metered => broadcast::POLICY_METERED,
            Self::Call => broadcast::POLICY_CALL,
            Self::Install => broadcast::POLICY_INSTALL,
            Self::Consent => broadcast::POLICY_CONSENT,
        }
    }

    /// Returns the node of a path below the FUMO object.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|node| node.path() == path)
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

impl fmt::Display for PolicyNode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}

impl FromStr for PolicyNode {
    type Err = WireError;

    fn from_str(word: &str) -> Result<Self, WireError> {
        const EXPECTED: &str =
            "battery, memory, storage, thermal, metered, call, install or consent";
        let found = Self::ALL.into_iter().find(|node| node.word() == word);
        found.ok_or_else(|| WireError::invalid("policy", word, EXPECTED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_has_its_own_word_and_path_and_an_unknown_word_is_told_all_of_them() {
        let refused = "colour".parse::<PolicyNode>().unwrap_err().to_string();
        for node in PolicyNode::ALL {
            assert_eq!(node.word().parse(), Ok(node));
            assert_eq!(PolicyNode::of_path(node.path()), Some(node));
            let last = node.path().strip_prefix(broadcast::POLICY).unwrap();
            assert_eq!(last.to_lowercase(), node.word());
            assert!(refused.contains(node.word()), "{refused}");
        }
        assert_eq!(PolicyNode::of_path("Ext/Broadcast/Policy/Colour"), None);
    }
}
