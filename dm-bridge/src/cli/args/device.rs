//! Arguments of `dm-bridge device`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use proto::{
    dm::{auth::AuthKind, encoding::Encoding},
    ids::{ClassId, DeviceId, VendorId},
};

use super::common::{DataArg, FormArg};
use crate::{
    campaign::on_request::OnRequest,
    fleet::policy::Setting,
    notify::target::{Gateway, Target},
};

/// What to do with devices.
#[derive(Debug, Subcommand)]
pub enum DeviceVerb {
    /// Enrols a device and prints its configuration (TOML, with its password).
    Enrol(EnrolArgs),
    /// Asks a device to begin a DM session at once (package 0).
    ///
    /// Sends up to four notifications, 2, 4 and 8 seconds apart, until the device has been here;
    /// the last one is made with the nonce of devices that have lost theirs. The device listens
    /// where its `local.notify` (UDP) and `local.notify_http` say; a short message reaches it by
    /// its modem, which hands it to `receiver notified`. Exit code 4 when it does not come.
    Notify(NotifyArgs),
    /// Has the device's next DM session tell it to rest: it keeps what it has received.
    Suspend(TellArgs),
    /// Has the device's next DM session tell it to go on receiving.
    Resume(TellArgs),
    /// Has the device's next DM session set nodes of its policy (Ext/Broadcast/Policy).
    ///
    /// NODE is battery, memory, storage, thermal (numbers), metered, call (suspend or ignore),
    /// install (at-once or on-command) or consent (none, download, install or both). The device
    /// judges the value; `device show` has its answer: 200 set, 400 no such value, 403 its own
    /// settings want more asked, 404 no such node, 406 no user to be asked.
    Policy(PolicyArgs),
    /// Decides how the client of one device is spoken to.
    Profile {
        /// Device id.
        id: DeviceId,
        /// A profile that `dm-bridge profiles` lists.
        profile: String,
        /// Where.
        #[command(flatten)]
        data: DataArg,
        /// How.
        #[command(flatten)]
        form: FormArg,
    },
    /// Decides what one device gets that asks for an update, whatever campaigns say.
    OnRequest {
        /// Device id.
        id: DeviceId,
        /// now, later or none; absent: as the campaigns say.
        choice: Option<OnRequest>,
        /// Where.
        #[command(flatten)]
        data: DataArg,
        /// How.
        #[command(flatten)]
        form: FormArg,
    },
    /// Lists all devices.
    List {
        /// Where.
        #[command(flatten)]
        data: DataArg,
        /// How.
        #[command(flatten)]
        form: FormArg,
    },
    /// Shows one device.
    Show {
        /// Device id.
        id: DeviceId,
        /// Where.
        #[command(flatten)]
        data: DataArg,
        /// How.
        #[command(flatten)]
        form: FormArg,
    },
}

/// A device to enrol.
#[derive(Debug, Args)]
pub struct EnrolArgs {
    /// Device id: its ./DevInfo/DevId.
    pub id: DeviceId,
    /// Where.
    #[command(flatten)]
    pub data: DataArg,
    /// Where the device reaches this server, such as https://dm.example.org/dm.
    #[arg(long)]
    pub url: String,
    /// Form of the device's messages: xml or wbxml.
    #[arg(long, default_value_t, value_name = "FORM")]
    pub encoding: Encoding,
    /// What device and server prove themselves by to each other: md5 (a digest, once a session),
    /// hmac (a proof over each message) or basic (the password itself; only with an https:// URL
    /// or on this machine).
    #[arg(long, default_value_t, value_name = "KIND")]
    pub auth: AuthKind,
    /// Vendor id, 32 hex digits.
    #[arg(long, value_name = "HEX")]
    pub vendor: VendorId,
    /// Class id, 32 hex digits.
    #[arg(long, value_name = "HEX")]
    pub class: ClassId,
    /// Maker.
    #[arg(long, default_value = "fumocast")]
    pub manufacturer: String,
    /// Model.
    #[arg(long, default_value = "lab")]
    pub model: String,
    /// How its client is spoken to, a profile that `dm-bridge profiles` lists; absent: as its
    /// class is.
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
}

/// A device that is to be told something in its next DM session.
#[derive(Debug, Args)]
pub struct TellArgs {
    /// Device id.
    pub id: DeviceId,
    /// Asks the device to begin a DM session at once: ADDR:PORT (UDP) or http(s)://…
    #[arg(long, value_name = "TARGET")]
    pub notify: Option<Target>,
    /// Where.
    #[command(flatten)]
    pub data: DataArg,
    /// How.
    #[command(flatten)]
    pub form: FormArg,
}

/// A device, and what is to be set of its policy.
#[derive(Debug, Args)]
pub struct PolicyArgs {
    /// Which device.
    #[command(flatten)]
    pub device: TellArgs,
    /// Such as install=on-command consent=both.
    #[arg(required = true, value_name = "NODE=VALUE")]
    pub settings: Vec<Setting>,
}

/// A device to notify.
#[derive(Debug, Args)]
pub struct NotifyArgs {
    /// Device id.
    pub id: DeviceId,
    /// Where.
    #[command(flatten)]
    pub data: DataArg,
    /// Where the device is: ADDR:PORT (UDP), http(s)://… or sms:+NUMBER.
    #[arg(long, value_name = "TARGET")]
    pub to: Target,
    /// What sends short messages: http(s)://… takes JSON, smpp://SYSTEM_ID@HOST:PORT is a message
    /// centre.
    #[arg(long, value_name = "URL")]
    pub sms_gateway: Option<Gateway>,
    /// File with the gateway's token or password.
    #[arg(long, value_name = "FILE", requires = "sms_gateway")]
    pub sms_gateway_secret_file: Option<PathBuf>,
    /// Asks for the user's attention; without it the session takes place in the background.
    #[arg(long)]
    pub interactive: bool,
}
