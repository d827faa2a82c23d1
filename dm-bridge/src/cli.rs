//! The command line: what can be asked for, and the exit code of the answer.

pub mod bootstrap;

use std::{
    ffi::OsString,
    io::Write as _,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use proto::{
    dm::{
        auth::AuthKind,
        encoding::Encoding,
        scomo::{Branch, Operation},
    },
    ids::{CampaignId, ClassId, ComponentId, DeviceId, PackageId, VendorId},
};

use crate::{
    app::AppError,
    campaign::{model::Way, on_request::OnRequest},
    fleet::policy::Setting,
    notify::target::{Gateway, Target},
    shell::command,
};

/// Manages devices over OMA DM, arms them for broadcast campaigns and collects their results.
///
/// A first campaign:
///
///   dm-bridge init --data DIR
///   dm-bridge device enrol LAB-0001 --data DIR --url http://127.0.0.1:8080/dm \
///       --vendor HEX --class HEX > LAB-0001.toml
///   dm-bridge serve --data DIR --listen 127.0.0.1:8080 &
///   dm-bridge campaign create --data DIR --campaign campaign.env --manifest manifest.env \
///       --plan-header 0=FILE --root root.env --carousel http://127.0.0.1:9000 \
///       --carousel-token-file FILE --group 232.1.2.3 --port 3400 --devices all
///   dm-bridge campaign start ID --data DIR --opens +1m --closes +2h
///   dm-bridge campaign status ID --data DIR
///
/// Exit codes: 0 done, 2 usage, 3 configuration, 4 network, 5 document refused, 6 not found,
/// 7 conflict, 8 refused by policy.
#[derive(Debug, Parser)]
#[command(name = "dm-bridge", version, verbatim_doc_comment)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Makes a data directory: admin.token (for the API), fleet.db, and fleet.keys, which the secrets
    /// in it are sealed with.
    Init(DataArg),
    /// Devices of the fleet.
    #[command(subcommand)]
    Device(DeviceVerb),
    /// Campaigns.
    #[command(subcommand)]
    Campaign(CampaignVerb),
    /// Lists the profiles of clients, with their quirks and the reasons.
    ///
    /// Own ones are files `profiles/NAME.toml` in the data directory:
    ///
    ///   about = "set-top boxes of 2012"
    ///   quirks = ["no-sequence", "correlator-always"]
    #[command(verbatim_doc_comment)]
    Profiles {
        /// Where own profiles are.
        #[arg(long, value_name = "DIR", env = "DM_BRIDGE_DATA")]
        data: Option<PathBuf>,
        /// How.
        #[command(flatten)]
        form: FormArg,
    },
    /// Shows what a device holds of software components as it was read last, and what is to be
    /// done with it; its next DM session reads it anew.
    Components {
        /// Device id.
        device: DeviceId,
        /// Where.
        #[command(flatten)]
        data: DataArg,
        /// How.
        #[command(flatten)]
        form: FormArg,
    },
    /// Has the next DM session of a device do something with a software component.
    ///
    /// What came of it stands in `dm-bridge components`, with the result code of the device.
    Component {
        /// install, install-inactive or remove-package (of a package that the device holds),
        /// activate, deactivate or remove (of a component that is installed).
        #[arg(value_parser = component_operation)]
        operation: Operation,
        /// Device id.
        device: DeviceId,
        /// The package or the component.
        id: PackageId,
        /// Where.
        #[command(flatten)]
        data: DataArg,
        /// How.
        #[command(flatten)]
        form: FormArg,
    },
    /// Gives all devices of a class a profile, and those that are enrolled later.
    Class {
        /// Class id, 32 hex digits.
        id: ClassId,
        /// A profile that `dm-bridge profiles` lists.
        #[arg(long, value_name = "NAME")]
        profile: String,
        /// Where.
        #[command(flatten)]
        data: DataArg,
    },
    /// Writes the document that gives an enrolled device its account, with new secrets: what the
    /// device knew before is worth nothing from then on.
    ///
    /// `receiver bootstrap` takes it from a file; a device that runs without an account takes it
    /// where it takes notifications, and asks its user for the PIN.
    Bootstrap(Box<bootstrap::BootstrapArgs>),
    /// The secrets of devices, which fleet.db holds sealed.
    #[command(subcommand)]
    Secrets(SecretsVerb),
    /// Serves devices at /dm and operators at /api/v1, until SIGTERM.
    Serve(ServeArgs),
}

/// Where the fleet is kept.
#[derive(Debug, Clone, Args)]
pub struct DataArg {
    /// Data directory.
    #[arg(long, value_name = "DIR", env = "DM_BRIDGE_DATA")]
    pub data: PathBuf,
    /// Keys that the secrets are sealed with, mode 0400, for one fleet alone; absent: the credential
    /// dm-bridge.keys of the service manager, or fleet.keys in the data directory.
    #[arg(long, value_name = "FILE", env = "DM_BRIDGE_SECRETS_KEY")]
    pub secrets_key: Option<PathBuf>,
}

/// What to do with secrets.
#[derive(Debug, Subcommand)]
pub enum SecretsVerb {
    /// Makes a key, seals all secrets with it, and removes the keys that nothing is sealed with.
    ///
    /// Devices are served meanwhile. What was broken off opens, and the next call goes on with it.
    Reseal {
        /// Seals with the last key of the file instead of a new one: for a file that the service
        /// manager hands over, with a line of 64 hex digits added.
        #[arg(long)]
        with_last: bool,
        /// Where.
        #[command(flatten)]
        data: DataArg,
        /// How.
        #[command(flatten)]
        form: FormArg,
    },
}

/// How to answer.
#[derive(Debug, Clone, Copy, Args)]
pub struct FormArg {
    /// Answers in JSON.
    #[arg(long)]
    pub json: bool,
}

/// What to do with devices.
#[derive(Debug, Subcommand)]
pub enum DeviceVerb {
    /// Enrols a device and prints its configuration (TOML, with its password).
    Enrol(EnrolArgs),
    /// Asks a device to begin a DM session at once (package 0).
    ///
    /// Sends up to four notifications, 2, 4 and 8 seconds apart, until the device has been here;
    /// the last one is made with the nonce of devices that have lost theirs. The device listens
    /// where its `receiver.notification_udp` and `receiver.notification_http` say; a short message reaches it by
    /// its modem, which hands it to `receiver deliver-notification`. Exit code 4 when it does not come.
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

/// What to do with campaigns.
#[derive(Debug, Subcommand)]
pub enum CampaignVerb {
    /// Checks signed documents and queues devices for them.
    Create(Box<CreateArgs>),
    /// Gives a campaign its window, or moves it.
    Start {
        /// Campaign id.
        id: CampaignId,
        /// Where.
        #[command(flatten)]
        data: DataArg,
        /// When it opens: RFC 3339, `now`, `+30s`, `+10m` or `+2h`.
        #[arg(long, value_name = "T")]
        opens: String,
        /// When it closes.
        #[arg(long, value_name = "T")]
        closes: String,
        /// How.
        #[command(flatten)]
        form: FormArg,
    },
    /// Takes a campaign off the air; devices are disarmed as they come.
    Stop {
        /// Campaign id.
        id: CampaignId,
        /// Where.
        #[command(flatten)]
        data: DataArg,
        /// How.
        #[command(flatten)]
        form: FormArg,
    },
    /// Decides what a device gets of a campaign that asks for an update.
    ///
    /// now: it is selected and armed in the same session; later: selected, and armed in its next
    /// session; none: asking changes nothing.
    #[command(verbatim_doc_comment)]
    OnRequest {
        /// Campaign id.
        id: CampaignId,
        /// now, later or none.
        choice: OnRequest,
        /// Where.
        #[command(flatten)]
        data: DataArg,
        /// How.
        #[command(flatten)]
        form: FormArg,
    },
    /// Shows how one campaign stands, with its devices, or all.
    Status {
        /// Campaign id.
        id: Option<CampaignId>,
        /// Where.
        #[command(flatten)]
        data: DataArg,
        /// How.
        #[command(flatten)]
        form: FormArg,
    },
}

/// A campaign to create.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Where.
    #[command(flatten)]
    pub data: DataArg,
    /// Signed campaign.
    #[arg(long, value_name = "FILE")]
    pub campaign: PathBuf,
    /// Signed manifest.
    #[arg(long, value_name = "FILE")]
    pub manifest: PathBuf,
    /// Plan header of a component; may be given for each.
    #[arg(long, value_name = "COMPONENT=FILE", value_parser = plan_header)]
    pub plan_header: Vec<(ComponentId, PathBuf)>,
    /// Root that vouches for both; also the roots before it, back to the oldest that a device may
    /// hold: each device is brought those that it lacks.
    #[arg(long, value_name = "FILE", required = true)]
    pub root: Vec<PathBuf>,
    /// Base URL of the image server's control API.
    #[arg(long, value_name = "URL")]
    pub carousel: String,
    /// File with its token.
    #[arg(long, value_name = "FILE")]
    pub carousel_token_file: PathBuf,
    /// Multicast group.
    #[arg(long)]
    pub group: IpAddr,
    /// UDP port.
    #[arg(long)]
    pub port: u16,
    /// Devices: `a,b,c`, `@FILE` with an id a line, or `all`.
    #[arg(long)]
    pub devices: String,
    /// Way to the devices: 3 by broadcast, 2 by HTTP and a download descriptor, 1 inside the DM
    /// session (scenarios of FUMO).
    #[arg(long, value_name = "3|2|1", default_value = "3")]
    pub way: Way,
    /// Way for devices that cannot go that one, `none` for none; may be given again.
    #[arg(long, value_name = "2|1|none", default_value = "none")]
    pub fallback: Vec<String>,
    /// Bundle for the ways 2 and 1, made by `carousel bundle`.
    #[arg(long, value_name = "FILE")]
    pub package: Option<PathBuf>,
    /// Asks the user of each device this, for yes or no, before anything is sent.
    #[arg(long, value_name = "TEXT")]
    pub ask_user: Option<String>,
    /// Brings a software component instead of firmware: its package, which was signed by
    /// `carousel package --component`. On way 1 it is delivered in the DM session and installed from
    /// there.
    #[arg(long, value_name = "PKGID")]
    pub component: Option<PackageId>,
    /// What is done with the component: download, download-install or download-install-inactive.
    #[arg(long, value_name = "WHAT", requires = "component", default_value = "download-install",
        value_parser = download_operation)]
    pub operation: Operation,
    /// Seconds over which devices spread their reports.
    #[arg(long, value_name = "S")]
    pub report_spread: Option<u32>,
    /// What a device that asks for an update gets: now, later or none.
    #[arg(long, value_name = "WHAT", default_value_t)]
    pub on_request: OnRequest,
    /// Lets the image server be reached over plain HTTP beyond this machine.
    #[arg(long)]
    pub insecure_http: bool,
    /// How.
    #[command(flatten)]
    pub form: FormArg,
}

/// A server to run.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Where.
    #[command(flatten)]
    pub data: DataArg,
    /// Address and port.
    #[arg(long, default_value = "127.0.0.1:8080", env = "DM_BRIDGE_LISTEN")]
    pub listen: SocketAddr,
    /// Speaks TLS: its certificate and those above it, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The key of the certificate, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Takes DM messages only from devices with a certificate of this CA (PEM) whose common name
    /// is the device id.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub client_ca: Option<PathBuf>,
    /// Lets it listen beyond loopback without TLS; for laboratories.
    #[arg(long)]
    pub insecure_http: bool,
    /// Seconds after window and report spread until a silent device is unknown.
    #[arg(long, value_name = "S", default_value_t = 21_600)]
    pub silence: u64,
}

fn component_operation(text: &str) -> Result<Operation, String> {
    let operation: Option<Operation> = format!("component-{text}").parse().ok();
    operation.filter(|operation| operation.branch() != Branch::Download).ok_or_else(|| {
        "write install, install-inactive, remove-package, activate, deactivate or remove".to_owned()
    })
}

fn download_operation(text: &str) -> Result<Operation, String> {
    let operation: Option<Operation> = format!("component-{text}").parse().ok();
    operation
        .filter(|operation| operation.branch() == Branch::Download)
        .ok_or_else(|| "write download, download-install or download-install-inactive".to_owned())
}

fn plan_header(text: &str) -> Result<(ComponentId, PathBuf), String> {
    let (component, file) = text.split_once('=').ok_or("write COMPONENT=FILE, such as 0=FILE")?;
    let component = component.parse().map_err(|_| "the component is a number below 256")?;
    Ok((ComponentId(component), PathBuf::from(file)))
}

/// Runs the program with these arguments, the first of which is its name.
pub fn run(arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            return if error.print().is_ok() { ExitCode::from(code) } else { ExitCode::from(2) };
        }
    };
    match command::run(cli.verb) {
        Ok(text) => match std::io::stdout().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            // The reader has gone away.
            Err(_) => ExitCode::from(4),
        },
        Err(error) => {
            eprintln!("dm-bridge: {}", explain(&error));
            ExitCode::from(error.exit_code())
        }
    }
}

fn explain(error: &AppError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(deeper) = cause {
        let said = deeper.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = deeper.source();
    }
    text
}

#[cfg(test)]
mod tests;
