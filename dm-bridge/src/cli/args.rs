//! Arguments of the command line.

pub mod account;
pub mod audit;
pub mod bootstrap;
pub mod campaign;
pub mod common;
pub mod component;
pub mod device;

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use ipnet::{IpNet, Ipv4Net};
use proto::ids::ClassId;

use self::{
    audit::AuditVerb,
    bootstrap::BootstrapArgs,
    campaign::CampaignVerb,
    common::{DataDirArgs, OutputArgs},
    component::ComponentVerb,
    device::DeviceVerb,
};

/// Manage devices over OMA DM, arm them for broadcast campaigns and collect their results
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
/// Exit codes: 0 done, 2 usage, 3 configuration, 4 network, 5 signed document rejected, 6 not
/// found, 7 conflict, 8 rejected by policy.
#[derive(Debug, Parser)]
#[command(name = "dm-bridge", version, verbatim_doc_comment)]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Create a data directory
    ///
    /// It holds admin.token (for the API), fleet.db, and fleet.keys, which seals the secrets in
    /// fleet.db.
    Init(DataDirArgs),
    /// Manage devices
    #[command(subcommand)]
    Device(DeviceVerb),
    /// Manage campaigns
    #[command(subcommand)]
    Campaign(CampaignVerb),
    /// Show the profiles of clients
    #[command(subcommand)]
    Profile(ProfileVerb),
    /// Manage the software components of a device
    #[command(subcommand)]
    Component(ComponentVerb),
    /// Manage device classes
    #[command(subcommand)]
    Class(ClassVerb),
    /// Create a bootstrap document for an enrolled device, with new credentials; the old ones stop
    /// working
    ///
    /// `receiver bootstrap` reads it from a file. A device that runs without an account receives it
    /// like a notification, and prompts its user for the PIN.
    Bootstrap(Box<BootstrapArgs>),
    /// Show the audit log
    #[command(subcommand)]
    Audit(AuditVerb),
    /// Manage the keys that seal the secrets in fleet.db
    #[command(subcommand)]
    Secrets(SecretsVerb),
    /// Serve devices at /dm and operators at /api/v1, until SIGTERM
    Serve(ServeArgs),
}

/// Commands for profiles.
#[derive(Debug, Subcommand)]
pub enum ProfileVerb {
    /// List the profiles of clients, with their quirks and the reasons
    ///
    /// Custom profiles are files `profiles/NAME.toml` in the data directory:
    ///
    ///   about = "set-top boxes of 2012"
    ///   quirks = ["no-sequence", "correlator-always"]
    #[command(verbatim_doc_comment)]
    List {
        /// Data directory with custom profiles
        #[arg(long, value_name = "DIR", env = "DM_BRIDGE_DATA")]
        data: Option<PathBuf>,
        /// Output options.
        #[command(flatten)]
        output: OutputArgs,
    },
}

/// Commands for device classes.
#[derive(Debug, Subcommand)]
pub enum ClassVerb {
    /// Set the profile of all devices of a class, including those enrolled later
    SetProfile {
        /// Class id, 32 hex digits
        id: ClassId,
        /// Profile listed by `dm-bridge profile list`
        profile: String,
        /// Data directory.
        #[command(flatten)]
        data: DataDirArgs,
    },
}

/// Commands for the secrets of devices.
#[derive(Debug, Subcommand)]
pub enum SecretsVerb {
    /// Rotate the key: seal all secrets with a new key, and remove keys that are no longer used
    ///
    /// The server may run meanwhile. After an interruption all secrets can still be read, and the
    /// next call resumes the rotation.
    Rotate {
        /// Seal with the last key of the file instead of a new one: for a file passed by the
        /// service manager, with a line of 64 hex digits added
        #[arg(long)]
        use_last_key: bool,
        /// Data directory.
        #[command(flatten)]
        data: DataDirArgs,
        /// Output options.
        #[command(flatten)]
        output: OutputArgs,
    },
}

/// Arguments of `dm-bridge serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Data directory.
    #[command(flatten)]
    pub data: DataDirArgs,
    /// Address and port to listen on
    #[arg(long, default_value = "127.0.0.1:8080", env = "DM_BRIDGE_LISTEN")]
    pub listen: SocketAddr,
    /// Use TLS with this certificate and its chain, PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Key of the certificate, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Accept DM messages only from devices with a certificate of this CA (PEM) whose common name
    /// is the device id
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub client_ca: Option<PathBuf>,
    /// Take the address of a client from the header Forwarded, or else X-Forwarded-For, of a proxy
    /// in this network; repeatable. Wrong passwords are counted by address
    #[arg(long, value_name = "CIDR", value_parser = proxy_network)]
    pub trusted_proxy: Vec<IpNet>,
    /// Allow plain HTTP beyond loopback; for laboratories
    #[arg(long)]
    pub insecure_http: bool,
    /// Seconds after window and report spread until a silent device is unknown
    #[arg(long, value_name = "S", default_value_t = 21_600)]
    pub silent_after: u64,
}

/// Parses the network of a proxy. Addresses of clients are IPv4 where they can be, so a network of
/// IPv4-mapped addresses is that of the IPv4 addresses.
fn proxy_network(text: &str) -> Result<IpNet, String> {
    let network: IpNet = text
        .parse()
        .map_err(|_| "expected a network such as 10.0.0.0/8 or 2001:db8::/48".to_owned())?;
    let IpNet::V6(v6) = network else { return Ok(network) };
    let Some(mapped) = v6.addr().to_ipv4_mapped() else { return Ok(network) };
    let length = v6.prefix_len().checked_sub(96);
    let v4 = length.and_then(|length| Ipv4Net::new(mapped, length).ok());
    v4.map(IpNet::V4).ok_or_else(|| {
        format!("IPv4-mapped addresses need a prefix of 96 to 128: write {mapped}/8, or the like")
    })
}
