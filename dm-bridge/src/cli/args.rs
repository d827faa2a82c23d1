//! Arguments of the command line.

pub mod bootstrap;
pub mod campaign;
pub mod common;
pub mod device;

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use proto::{
    dm::scomo::{Branch, Operation},
    ids::{ClassId, DeviceId, PackageId},
};

use self::{
    bootstrap::BootstrapArgs,
    campaign::CampaignVerb,
    common::{DataArg, FormArg},
    device::DeviceVerb,
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
    Bootstrap(Box<BootstrapArgs>),
    /// The secrets of devices, which fleet.db holds sealed.
    #[command(subcommand)]
    Secrets(SecretsVerb),
    /// Serves devices at /dm and operators at /api/v1, until SIGTERM.
    Serve(ServeArgs),
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
