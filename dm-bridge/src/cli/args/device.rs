//! Arguments of `dm-bridge device`.

use std::{path::PathBuf, sync::LazyLock};

use clap::{Args, Subcommand};
use proto::{
    dm::{encoding::Encoding, policy::PolicyNode, uri::NodeUri},
    ids::{ClassId, DeviceId, VendorId},
};

use super::{
    account::AccountArgs,
    common::{DataDirArgs, OutputArgs, PageArgs},
};
use crate::{
    app::devices::{self, DEFAULT_MANUFACTURER, DEFAULT_MODEL},
    campaign::update_requests::UpdateRequestPolicy,
    fleet::policy::NodeValue,
    notification::target::{Gateway, Target},
};

/// Commands for devices.
#[derive(Debug, Subcommand)]
pub enum DeviceVerb {
    /// Enrol a device and print its configuration (TOML, with its password)
    Enrol(EnrolArgs),
    /// Notify a device to start a DM session (package 0)
    ///
    /// Send up to four notifications, 2, 4 and 8 seconds apart, until the device connects; the last
    /// one is made with the nonce for devices that have lost theirs. The device listens at its
    /// `receiver.notification_udp` and `receiver.notification_http`; a short message arrives at its
    /// modem, which passes it to `receiver deliver-notification`. Exit code 4 when the device does
    /// not connect.
    Notify(NotifyArgs),
    /// Queue a suspend command for the next DM session: reception stops, progress is kept
    Suspend(DeviceCommandArgs),
    /// Queue a resume command for the next DM session
    Resume(DeviceCommandArgs),
    /// Queue policy values for the next DM session (Ext/Broadcast/Policy)
    #[command(long_about = POLICY_ABOUT.as_str())]
    Policy(PolicyArgs),
    /// Set the profile of one device
    Profile {
        /// Device id
        id: DeviceId,
        /// Profile listed by `dm-bridge profile list`
        profile: String,
        /// Data directory.
        #[command(flatten)]
        data: DataDirArgs,
        /// Output options.
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Set the policy for update requests of one device; it takes precedence over campaigns
    UpdateRequests {
        /// Device id
        id: DeviceId,
        /// now, later or none; default: the policy of the campaign
        policy: Option<UpdateRequestPolicy>,
        /// Data directory.
        #[command(flatten)]
        data: DataDirArgs,
        /// Output options.
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Set the place of the FUMO object of one device
    ///
    /// Without a place it is looked for in the device's next DM session: at ./FwUpdate/Main, then in
    /// its whole tree. A place that is set is not looked for.
    FirmwareObject {
        /// Device id
        id: DeviceId,
        /// Root of the object, such as ./Vendor/Fota
        #[arg(value_parser = object_uri)]
        uri: Option<NodeUri>,
        /// Data directory.
        #[command(flatten)]
        data: DataDirArgs,
        /// Output options.
        #[command(flatten)]
        output: OutputArgs,
    },
    /// List all devices
    List {
        /// Data directory.
        #[command(flatten)]
        data: DataDirArgs,
        /// Part of the list.
        #[command(flatten)]
        page: PageArgs,
        /// Output options.
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Show one device
    Show {
        /// Device id
        id: DeviceId,
        /// Data directory.
        #[command(flatten)]
        data: DataDirArgs,
        /// Output options.
        #[command(flatten)]
        output: OutputArgs,
    },
}

/// Arguments of `dm-bridge device enrol`.
#[derive(Debug, Args)]
pub struct EnrolArgs {
    /// Device id: its ./DevInfo/DevId
    pub id: DeviceId,
    /// Data directory.
    #[command(flatten)]
    pub data: DataDirArgs,
    /// URL of this server for the device, such as https://dm.example.org/dm
    #[arg(long)]
    pub url: String,
    /// Encoding of the device's messages: xml or wbxml
    #[arg(long, default_value_t, value_name = "FORM")]
    pub encoding: Encoding,
    /// Its account.
    #[command(flatten)]
    pub account: AccountArgs,
    /// Vendor id, 32 hex digits
    #[arg(long, value_name = "HEX")]
    pub vendor: VendorId,
    /// Class id, 32 hex digits
    #[arg(long, value_name = "HEX")]
    pub class: ClassId,
    /// Manufacturer
    #[arg(long, default_value = DEFAULT_MANUFACTURER)]
    pub manufacturer: String,
    /// Model
    #[arg(long, default_value = DEFAULT_MODEL)]
    pub model: String,
    /// Profile listed by `dm-bridge profile list`; default: the profile of its class
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Root of its FUMO object, such as ./Vendor/Fota; default: looked for in its first DM session
    #[arg(long, value_name = "URI", value_parser = object_uri)]
    pub firmware_object: Option<NodeUri>,
    /// Replace the secrets of a device that is enrolled and has not connected: its configuration was
    /// lost
    #[arg(long)]
    pub again: bool,
}

fn object_uri(text: &str) -> Result<NodeUri, String> {
    devices::parse_object(text).map_err(|error| error.to_string())
}

/// A command for the next DM session of a device.
#[derive(Debug, Args)]
pub struct DeviceCommandArgs {
    /// Device id
    pub id: DeviceId,
    /// Notify the device at ADDR:PORT (UDP) or http(s)://… to start a DM session
    #[arg(long, value_name = "TARGET")]
    pub notify: Option<Target>,
    /// Data directory.
    #[command(flatten)]
    pub data: DataDirArgs,
    /// Output options.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Help of `dm-bridge device policy`, which names each node of the policy.
static POLICY_ABOUT: LazyLock<String> = LazyLock::new(|| {
    let mut groups: Vec<(String, &str)> = Vec::new();
    for node in PolicyNode::ALL {
        match groups.last_mut() {
            Some((nodes, values)) if *values == node.values() => {
                nodes.push_str(", ");
                nodes.push_str(node.as_str());
            }
            Some(_) | None => groups.push((node.to_string(), node.values())),
        }
    }
    let groups = groups.iter().map(|(nodes, values)| format!("{nodes} ({values})"));
    let mut nodes = groups.collect::<Vec<_>>();
    let last = nodes.pop().unwrap_or_default();
    format!(
        "Queue policy values for the next DM session (Ext/Broadcast/Policy)\n\n\
         NODE is {} or {last}. The device validates the value; `device show` prints its status: \
         200 set, 400 invalid value, 403 weaker than the device's own consent, 404 unknown node, \
         406 no user to prompt.",
        nodes.join(", ")
    )
});

/// Arguments of `dm-bridge device policy`.
#[derive(Debug, Args)]
pub struct PolicyArgs {
    /// The device.
    #[command(flatten)]
    pub device: DeviceCommandArgs,
    /// Nodes and values, such as install=on-command consent=both
    #[arg(required = true, value_name = "NODE=VALUE")]
    pub values: Vec<NodeValue>,
}

/// Arguments of `dm-bridge device notify`.
#[derive(Debug, Args)]
pub struct NotifyArgs {
    /// Device id
    pub id: DeviceId,
    /// Data directory.
    #[command(flatten)]
    pub data: DataDirArgs,
    /// Address of the device: ADDR:PORT (UDP), http(s)://… or sms:+NUMBER
    #[arg(long, value_name = "TARGET")]
    pub to: Target,
    /// Gateway for short messages: http(s)://… (JSON) or smpp://SYSTEM_ID@HOST:PORT (message
    /// centre)
    #[arg(long, value_name = "URL")]
    pub sms_gateway: Option<Gateway>,
    /// File with the gateway's token or password
    #[arg(long, value_name = "FILE", requires = "sms_gateway")]
    pub sms_gateway_secret_file: Option<PathBuf>,
    /// Request user interaction; default: a session in the background
    #[arg(long)]
    pub interactive: bool,
}
