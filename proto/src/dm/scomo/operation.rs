//! Operations on software components, and the branches of the tree that have them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    dm::{nodes::scomo as nodes, uri::NodeUri},
    wire::WireError,
};

/// The part of the object that a node belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Branch {
    /// What is to be downloaded.
    Download,
    /// Packages that the device holds.
    Delivered,
    /// Components that are installed.
    Deployed,
}

impl Branch {
    /// All branches.
    pub const ALL: [Self; 3] = [Self::Download, Self::Delivered, Self::Deployed];

    /// Returns the path of its nodes' parent, below the object.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Download => nodes::DOWNLOAD,
            Self::Delivered => nodes::DELIVERED,
            Self::Deployed => nodes::DEPLOYED,
        }
    }

    /// Returns the path of one of its nodes, below the object.
    #[must_use]
    pub fn node(self, name: &str) -> String {
        format!("{}/{name}", self.path())
    }

    /// Splits a path below the object into branch, name of the node and the path below that;
    /// `None` when it does not lead to or below a node of a branch.
    #[must_use]
    pub fn split(path: &str) -> Option<(Self, &str, &str)> {
        Self::ALL.into_iter().find_map(|branch| {
            let below = path.strip_prefix(branch.path())?.strip_prefix('/')?;
            let (name, rest) = below.split_once('/').unwrap_or((below, ""));
            (!name.is_empty()).then_some((branch, name, rest))
        })
    }
}

/// Operation that an Exec starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// Download only: the package is delivered then.
    Download,
    /// Download, install and activate.
    DownloadInstall,
    /// Download and install.
    DownloadInstallInactive,
    /// Install and activate what is delivered.
    Install,
    /// Install what is delivered.
    InstallInactive,
    /// Remove a package that is delivered.
    RemovePackage,
    /// Let a component run.
    Activate,
    /// Let a component run no more.
    Deactivate,
    /// Remove a component.
    Remove,
}

impl Operation {
    /// All operations.
    pub const ALL: [Self; 9] = [
        Self::Download,
        Self::DownloadInstall,
        Self::DownloadInstallInactive,
        Self::Install,
        Self::InstallInactive,
        Self::RemovePackage,
        Self::Activate,
        Self::Deactivate,
        Self::Remove,
    ];

    /// Returns what is left of it to do with a package that lies on the device already.
    #[must_use]
    pub const fn of_delivered(self) -> Option<Self> {
        match self {
            Self::DownloadInstall | Self::Install => Some(Self::Install),
            Self::DownloadInstallInactive | Self::InstallInactive => Some(Self::InstallInactive),
            Self::Download
            | Self::RemovePackage
            | Self::Activate
            | Self::Deactivate
            | Self::Remove => None,
        }
    }

    /// Returns the word by which people, journals and the API know the operation.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Download => "component-download",
            Self::DownloadInstall => "component-download-install",
            Self::DownloadInstallInactive => "component-download-install-inactive",
            Self::Install => "component-install",
            Self::InstallInactive => "component-install-inactive",
            Self::RemovePackage => "component-remove-package",
            Self::Activate => "component-activate",
            Self::Deactivate => "component-deactivate",
            Self::Remove => "component-remove",
        }
    }

    /// Returns the branch whose nodes have the operation.
    #[must_use]
    pub const fn branch(self) -> Branch {
        match self {
            Self::Download | Self::DownloadInstall | Self::DownloadInstallInactive => {
                Branch::Download
            }
            Self::Install | Self::InstallInactive | Self::RemovePackage => Branch::Delivered,
            Self::Activate | Self::Deactivate | Self::Remove => Branch::Deployed,
        }
    }

    /// Returns the path below a node of the branch whose Exec starts the operation.
    // spec: oma-dm 12.1 (operations)
    #[must_use]
    pub const fn node(self) -> &'static str {
        match self {
            Self::Download => "Operations/Download",
            Self::DownloadInstall => "Operations/DownloadInstall",
            Self::DownloadInstallInactive => "Operations/DownloadInstallInactive",
            Self::Install => "Operations/Install",
            Self::InstallInactive => "Operations/InstallInactive",
            Self::RemovePackage | Self::Remove => "Operations/Remove",
            Self::Activate => "Operations/Activate",
            Self::Deactivate => "Operations/Deactivate",
        }
    }

    /// Returns the operation of a branch whose path below the node this is.
    #[must_use]
    pub fn from_node(branch: Branch, path: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|operation| operation.branch() == branch && operation.node() == path)
    }

    /// Returns the address whose Exec starts the operation on the node of this name.
    #[must_use]
    pub fn address(self, object: &NodeUri, name: &str) -> String {
        object.join(&format!("{}/{}", self.branch().node(name), self.node()))
    }

    /// Returns the operation at an address and the name of the node that it is about.
    #[must_use]
    pub fn at(object: &NodeUri, address: &str) -> Option<(Self, String)> {
        let path = address.parse::<NodeUri>().ok()?.below(object)?;
        let (branch, name, rest) = Branch::split(&path)?;
        Some((Self::from_node(branch, rest)?, name.to_owned()))
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl FromStr for Operation {
    type Err = WireError;

    fn from_str(word: &str) -> Result<Self, WireError> {
        Self::ALL.into_iter().find(|operation| operation.as_str() == word).ok_or_else(|| {
            WireError::invalid("operation", word, "an operation such as `component-remove`")
        })
    }
}
