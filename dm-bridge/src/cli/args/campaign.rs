//! Arguments of `dm-bridge campaign`.

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, Subcommand};
use proto::{
    dm::scomo::{Branch, Operation},
    ids::{CampaignId, ComponentId, PackageId},
};

use super::common::{DataDirArgs, OutputArgs, PageArgs};
use crate::campaign::{model::DeliveryMethod, update_requests::UpdateRequestPolicy};

/// Commands for campaigns.
#[derive(Debug, Subcommand)]
pub enum CampaignVerb {
    /// Verify signed documents and queue devices for them
    Create(Box<CreateArgs>),
    /// Set or move the window of a campaign
    Start {
        /// Campaign id
        id: CampaignId,
        /// Data directory.
        #[command(flatten)]
        data: DataDirArgs,
        /// Opening time: RFC 3339, `now`, `+30s`, `+10m` or `+2h`
        #[arg(long, value_name = "T")]
        opens: String,
        /// Closing time
        #[arg(long, value_name = "T")]
        closes: String,
        /// Output options.
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Stop a campaign: take it off the air, disarm each device in its next DM session
    Stop {
        /// Campaign id
        id: CampaignId,
        /// Data directory.
        #[command(flatten)]
        data: DataDirArgs,
        /// Output options.
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Set the policy of a campaign for devices that request an update
    ///
    /// now: select the device and arm it in the same session; later: select it, and arm it in its
    /// next session; none: change nothing.
    #[command(verbatim_doc_comment)]
    UpdateRequests {
        /// Campaign id
        id: CampaignId,
        /// now, later or none
        policy: UpdateRequestPolicy,
        /// Data directory.
        #[command(flatten)]
        data: DataDirArgs,
        /// Output options.
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Show the state of one campaign with its devices, or of all campaigns
    Status {
        /// Campaign id
        id: Option<CampaignId>,
        /// Data directory.
        #[command(flatten)]
        data: DataDirArgs,
        /// Part of the list of devices, or of campaigns.
        #[command(flatten)]
        page: PageArgs,
        /// Output options.
        #[command(flatten)]
        output: OutputArgs,
    },
}

/// Arguments of `dm-bridge campaign create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Data directory.
    #[command(flatten)]
    pub data: DataDirArgs,
    /// Signed campaign
    #[arg(long, value_name = "FILE")]
    pub campaign: PathBuf,
    /// Signed manifest
    #[arg(long, value_name = "FILE")]
    pub manifest: PathBuf,
    /// Plan header of a component; may be repeated, once for each
    #[arg(long, value_name = "COMPONENT=FILE", value_parser = plan_header)]
    pub plan_header: Vec<(ComponentId, PathBuf)>,
    /// Root that both are signed under, and the roots before it, back to the oldest that a device
    /// may have; each device receives those that it lacks
    #[arg(long, value_name = "FILE", required = true)]
    pub root: Vec<PathBuf>,
    /// Base URL of the image server's control API
    #[arg(long, value_name = "URL")]
    pub carousel: String,
    /// File with the token of the control API
    #[arg(long, value_name = "FILE")]
    pub carousel_token_file: PathBuf,
    /// Multicast group
    #[arg(long)]
    pub group: IpAddr,
    /// UDP port
    #[arg(long)]
    pub port: u16,
    /// Devices: `a,b,c`, `@FILE` with an id a line, or `all`
    #[arg(long)]
    pub devices: String,
    /// Delivery method: broadcast, download (HTTP with a download descriptor) or direct (inside the
    /// DM session); scenarios 3, 2 and 1 of FUMO
    #[arg(long, value_name = "METHOD", default_value_t)]
    pub delivery: DeliveryMethod,
    /// Delivery method for devices that cannot use the one before: download, direct or none; may be
    /// repeated
    #[arg(long, value_name = "METHOD", default_value = "none")]
    pub fallback: Vec<String>,
    /// Bundle for download and direct delivery, made by `carousel bundle`
    #[arg(long, value_name = "FILE")]
    pub package: Option<PathBuf>,
    /// Ask the user of each device this, for yes or no, before anything is sent
    #[arg(long, value_name = "TEXT")]
    pub ask_user: Option<String>,
    /// Install a software component instead of firmware: its package, signed by
    /// `carousel package --component`; direct delivery installs it from the DM session
    #[arg(long, value_name = "PKGID")]
    pub component: Option<PackageId>,
    /// Operation on the component: download, download-install or download-install-inactive
    #[arg(long, value_name = "OPERATION", requires = "component",
        default_value = "download-install", value_parser = download_operation)]
    pub operation: Operation,
    /// Seconds over which devices spread their reports
    #[arg(long, value_name = "S")]
    pub report_spread: Option<u32>,
    /// Policy for devices that request an update: now, later or none
    #[arg(long, value_name = "POLICY", default_value_t)]
    pub update_requests: UpdateRequestPolicy,
    /// Allow plain HTTP to an image server beyond this machine
    #[arg(long)]
    pub insecure_http: bool,
    /// Output options.
    #[command(flatten)]
    pub output: OutputArgs,
}

fn download_operation(text: &str) -> Result<Operation, String> {
    let operation: Option<Operation> = format!("component-{text}").parse().ok();
    operation
        .filter(|operation| operation.branch() == Branch::Download)
        .ok_or_else(|| "write download, download-install or download-install-inactive".to_owned())
}

pub(crate) fn plan_header(text: &str) -> Result<(ComponentId, PathBuf), String> {
    let (component, file) = text.split_once('=').ok_or("write COMPONENT=FILE, such as 0=FILE")?;
    let component = component.parse().map_err(|_| "the component is a number below 256")?;
    Ok((ComponentId(component), PathBuf::from(file)))
}
