//! Names of the nodes that both sides must spell alike.

/// Addresses of the device's description.
pub mod device {
    /// Root of DevInfo, sent in the first package of each DM session.
    pub const INFO: &str = "./DevInfo";
    /// The device's identifier.
    pub const ID: &str = "./DevInfo/DevId";
    /// The maker.
    pub const MANUFACTURER: &str = "./DevInfo/Man";
    /// The model.
    pub const MODEL: &str = "./DevInfo/Mod";
    /// Version of the DM client.
    pub const DM_VERSION: &str = "./DevInfo/DmV";
    /// Language of the device.
    pub const LANGUAGE: &str = "./DevInfo/Lang";
    /// Root of DevDetail.
    pub const DETAIL: &str = "./DevDetail";
    /// The firmware version that the installer reads back.
    pub const FIRMWARE_VERSION: &str = "./DevDetail/FwV";
    /// Support of large objects.
    pub const LARGE_OBJECTS: &str = "./DevDetail/LrgObj";
    /// Root of the accounts.
    pub const ACCOUNTS: &str = "./DMAcc";
    /// Root of the one account.
    pub const ACCOUNT: &str = "./DMAcc/1";
    /// Identifier of the management object of an account.
    pub const ACCOUNT_IDENTIFIER: &str = "urn:oma:mo:oma-dm-dmacc:1.0";
}

/// Paths below a FUMO object.
pub mod fumo {
    /// Name of the package.
    pub const PACKAGE_NAME: &str = "PkgName";
    /// Version of the package.
    pub const PACKAGE_VERSION: &str = "PkgVersion";
    /// Exec: download only.
    pub const DOWNLOAD: &str = "Download";
    /// The URL to download from.
    pub const DOWNLOAD_URL: &str = "Download/PkgURL";
    /// Exec: install what was downloaded.
    pub const UPDATE: &str = "Update";
    /// The package itself, sent in the DM session.
    pub const PACKAGE_DATA: &str = "Update/PkgData";
    /// Exec: download and install.
    pub const DOWNLOAD_AND_UPDATE: &str = "DownloadAndUpdate";
    /// The URL to download from.
    pub const DOWNLOAD_AND_UPDATE_URL: &str = "DownloadAndUpdate/PkgURL";
    /// The state, a number of [`State`](crate::dm::fumo::State).
    pub const STATE: &str = "State";
    /// Root of what vendors add.
    pub const EXT: &str = "Ext";
    /// The stored prefix of a package after an interrupted transfer, as a
    /// [`PackagePrefix`](crate::dm::fumo::PackagePrefix); empty when nothing is stored.
    pub const PACKAGE_HELD: &str = "Ext/Package/Held";
    /// The remainder of that package.
    pub const PACKAGE_REMAINDER: &str = "Ext/Package/Rest";
}

/// Paths of the software components, below the SCOMO object and below its children.
pub mod scomo {
    /// Identifier of the management object.
    pub const MO_IDENTIFIER: &str = "urn:oma:mo:oma-scomo:1.0";
    /// Default address of the object.
    pub const ROOT: &str = "./SCOMO";
    /// Parent of the downloads, which a server adds.
    pub const DOWNLOAD: &str = "Download";
    /// Parent of what is delivered and of what is deployed.
    pub const INVENTORY: &str = "Inventory";
    /// Parent of the packages that the device holds.
    pub const DELIVERED: &str = "Inventory/Delivered";
    /// Parent of the components that are installed.
    pub const DEPLOYED: &str = "Inventory/Deployed";
    /// Of a download or a delivered package: the package.
    pub const PACKAGE_ID: &str = "PkgID";
    /// Of a component: its identifier.
    pub const ID: &str = "ID";
    /// Of a component: the package that installed it.
    pub const PACKAGE_ID_REF: &str = "PkgIDRef";
    /// A name for people.
    pub const NAME: &str = "Name";
    /// A text for people.
    pub const DESCRIPTION: &str = "Description";
    /// Of a component: its version.
    pub const VERSION: &str = "Version";
    /// Of a download: its URL.
    pub const PACKAGE_URL: &str = "PkgURL";
    /// Of a download: parameters for the installer.
    pub const INSTALL_PARAMETERS: &str = "InstallParams";
    /// Of a download: the environment that the component needs.
    pub const ENVIRONMENT: &str = "EnvType";
    /// Of a download or a delivered package: its media type.
    pub const PACKAGE_TYPE: &str = "PkgType";
    /// Of a delivered package: its octets, sent in the DM session.
    pub const DATA: &str = "Data";
    /// State of the operation, a number of [`State`](crate::dm::fumo::State).
    pub const STATUS: &str = "Status";
    /// A word of [`ComponentState`](crate::dm::scomo::ComponentState).
    pub const STATE: &str = "State";
    /// Parent of the operations.
    pub const OPERATIONS: &str = "Operations";
    /// Root of what vendors add; a download has the nodes of [`broadcast`](super::broadcast) there.
    pub const EXT: &str = "Ext";
}

/// Paths below a FUMO object of the management object `org.fumocast/1.0/Broadcast`.
pub mod broadcast {
    /// Identifier of the management object.
    pub const MO_IDENTIFIER: &str = "org.fumocast/1.0/Broadcast";
    /// Root of the object.
    pub const ROOT_NODE: &str = "Ext/Broadcast";
    /// Version of the object; absent on a device without broadcast reception.
    pub const VERSION: &str = "Ext/Broadcast/Version";
    /// The value of [`VERSION`].
    pub const VERSION_VALUE: &str = "1.0";
    /// Source symbols that a block may have.
    pub const MAX_BLOCK_SYMBOLS: &str = "Ext/Broadcast/Limits/MaxBlockSymbols";
    /// KiB of memory for the decoder.
    pub const MAX_MEMORY: &str = "Ext/Broadcast/Limits/MaxMemory";
    /// KiB of storage for one reception.
    pub const MAX_STORAGE: &str = "Ext/Broadcast/Limits/MaxStorage";
    /// Content encodings that the device decodes, separated by commas.
    pub const ENCODINGS: &str = "Ext/Broadcast/Limits/Encodings";
    /// Get: version of the stored root. Replace: the envelope of the next root.
    pub const ROOT: &str = "Ext/Broadcast/Root";
    /// The envelope of the campaign.
    pub const CAMPAIGN: &str = "Ext/Broadcast/Campaign";
    /// The envelope of the manifest.
    pub const MANIFEST: &str = "Ext/Broadcast/Manifest";
    /// Parent of the plan headers `0` to `15`.
    pub const PLAN: &str = "Ext/Broadcast/Plan";
    /// Parent of the settings that suspend reception.
    pub const POLICY: &str = "Ext/Broadcast/Policy/";
    /// The server's time in this DM session, decimal UTC seconds.
    pub const NOW: &str = "Ext/Broadcast/Now";
    /// Opening of the first window, decimal UTC seconds.
    pub const OPENS: &str = "Ext/Broadcast/Opens";
    /// Closing of the first window, decimal UTC seconds.
    pub const CLOSES: &str = "Ext/Broadcast/Closes";
    /// Further windows, a line `URL opens closes` each.
    pub const SESSIONS: &str = "Ext/Broadcast/Sessions";
    /// The true phase, a text of [`Phase`](crate::dm::fumo::Phase).
    pub const PHASE: &str = "Ext/Broadcast/Phase";
    /// Reasons of a suspension or a refusal, separated by commas.
    pub const REASONS: &str = "Ext/Broadcast/Reasons";
    /// Synced symbols per mille.
    pub const PROGRESS: &str = "Ext/Broadcast/Progress";
    /// Base URL of the repair.
    pub const REPAIR: &str = "Ext/Broadcast/Repair";
    /// Exec: disarm the device.
    pub const DISARM: &str = "Ext/Broadcast/Disarm";
    /// Exec: suspend reception, with the received symbols stored.
    pub const SUSPEND: &str = "Ext/Broadcast/Suspend";
    /// Exec: clear the server's suspend reason.
    pub const RESUME: &str = "Ext/Broadcast/Resume";
    /// Seconds over which reports are spread.
    pub const REPORT_SPREAD: &str = "Ext/Broadcast/Report/Spread";
    /// No report before this moment, decimal UTC seconds.
    pub const REPORT_NOT_BEFORE: &str = "Ext/Broadcast/Report/NotBefore";
    /// Filter of reported results: `all`, `failures` or `sample N/M`.
    pub const REPORT_FILTER: &str = "Ext/Broadcast/Report/Filter";

    /// Number of plan-header nodes.
    pub const PLAN_NODES: u8 = 16;
}
