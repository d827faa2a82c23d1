//! Operations on software components, and the branches of the tree that have them.

use serde::{Deserialize, Serialize};

use crate::dm::{nodes::scomo as nodes, uri::NodeUri};

crate::words! {
    /// A branch of the object.
    #[derive(Serialize, Deserialize)]
    pub enum Branch, serde {
        /// Packages to download.
        Download = "download",
        /// Packages that the device holds.
        Delivered = "delivered",
        /// Components that are installed.
        Deployed = "deployed",
    }
}

impl Branch {
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
            let (name, tail) = below.split_once('/').unwrap_or((below, ""));
            (!name.is_empty()).then_some((branch, name, tail))
        })
    }
}

crate::words! {
    /// An operation that an Exec starts, by the word of people, journals and the API. State files
    /// name it without the prefix `component-`.
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub enum Operation: "operation" {
        /// Download only: the package is delivered then.
        Download = "component-download",
        /// Download, installation and activation.
        DownloadInstall = "component-download-install",
        /// Download and installation.
        DownloadInstallInactive = "component-download-install-inactive",
        /// Installation and activation of a delivered package.
        Install = "component-install",
        /// Installation of a delivered package.
        InstallInactive = "component-install-inactive",
        /// Removal of a delivered package.
        RemovePackage = "component-remove-package",
        /// Activation of a component.
        Activate = "component-activate",
        /// Deactivation of a component.
        Deactivate = "component-deactivate",
        /// Removal of a component.
        Remove = "component-remove",
    }
}

impl Operation {
    /// Returns the remaining operation for a package that the device stores already.
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
        let (branch, name, tail) = Branch::split(&path)?;
        Some((Self::from_node(branch, tail)?, name.to_owned()))
    }
}
