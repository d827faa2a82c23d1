//! Arguments of `dm-bridge campaign`.

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, Subcommand};
use proto::{
    dm::scomo::{Branch, Operation},
    ids::{CampaignId, ComponentId, PackageId},
};

use super::common::{DataArg, FormArg};
use crate::campaign::{model::Way, on_request::OnRequest};

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
