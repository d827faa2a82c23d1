//! Arguments of `dm-bridge component`.

use clap::{Args, Subcommand};
use proto::ids::{DeviceId, PackageId};

use super::common::{DataDirArgs, OutputArgs};

/// Commands for the software components of a device.
#[derive(Debug, Subcommand)]
pub enum ComponentVerb {
    /// Show the inventory as last read, and queued operations; read it again in the next DM session
    List {
        /// Device id
        device: DeviceId,
        /// Data directory.
        #[command(flatten)]
        data: DataDirArgs,
        /// Output options.
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Queue the installation of a delivered package
    Install(OperationArgs),
    /// Queue the installation of a delivered package, without activation
    InstallInactive(OperationArgs),
    /// Queue the activation of an installed component
    Activate(OperationArgs),
    /// Queue the deactivation of an installed component
    Deactivate(OperationArgs),
    /// Queue the removal of an installed component
    Remove(OperationArgs),
    /// Queue the removal of a delivered package
    RemovePackage(OperationArgs),
}

/// An operation on a software component, for the next DM session of a device.
#[derive(Debug, Args)]
pub struct OperationArgs {
    /// Device id
    pub device: DeviceId,
    /// Package or component
    pub id: PackageId,
    /// Data directory.
    #[command(flatten)]
    pub data: DataDirArgs,
    /// Output options.
    #[command(flatten)]
    pub output: OutputArgs,
}
