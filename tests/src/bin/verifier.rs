//! The device's verifier as a command line; see [`fumocast_tests::verifier`].

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use fumocast_tests::verifier::{
    Answer, Identity,
    device::{Arming, Device, init},
    exit_code,
};

/// Device under attack, one step in one process. Prints one line of JSON; exit 0:
/// accepted, 5: signature or digest rejected, 8: rejected by another rule.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the data folder of a device with its factory root
    Init {
        #[command(flatten)]
        step: Step,
        /// Envelope of the root
        #[arg(long)]
        root: PathBuf,
        /// Vendor, 32 hex digits
        #[arg(long)]
        vendor: String,
        /// Class, 32 hex digits
        #[arg(long)]
        class: String,
    },
    /// Send the envelope of a root over DM
    OfferRoot {
        #[command(flatten)]
        step: Step,
        /// Envelope of the root
        file: PathBuf,
    },
    /// Send documents and a tune-in URL over DM, and start the operation
    OfferCampaign {
        #[command(flatten)]
        step: Step,
        /// Envelope of the campaign
        #[arg(long)]
        campaign: Option<PathBuf>,
        /// Envelope of the manifest
        #[arg(long)]
        manifest: Option<PathBuf>,
        /// The plan header
        #[arg(long)]
        plan: Option<PathBuf>,
        /// The tune-in URL
        #[arg(long)]
        url: String,
        /// The window's first moment, UTC seconds
        #[arg(long)]
        opens: u64,
        /// The first moment after the window, UTC seconds
        #[arg(long)]
        closes: u64,
    },
    /// Feed the device a packet capture
    OfferPackets {
        #[command(flatten)]
        step: Step,
        /// A classic pcap file
        file: PathBuf,
    },
    /// Print the state of the device
    State {
        #[command(flatten)]
        step: Step,
    },
}

#[derive(Debug, Args)]
struct Step {
    /// Folder of the device
    #[arg(long)]
    data: PathBuf,
    /// The time that its clock shows, UTC seconds
    #[arg(long, default_value_t = 1_800_000_000)]
    now: u64,
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(answer) => match serde_json::to_string(&answer) {
            Ok(line) => {
                fumocast_tests::print_line!("{line}");
                exit_code(&answer).into()
            }
            Err(error) => failed(&error.into()),
        },
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    proto_cli::note!("failed to take the step: {error:#}");
    ExitCode::from(3)
}

fn run(command: Command) -> anyhow::Result<Answer> {
    let read = |path: &PathBuf| fs::read(path).with_context(|| path.display().to_string());
    let boot = |step: &Step| Device::boot(&step.data, step.now);
    match command {
        Command::Init { step, root, vendor, class } => {
            init(&step.data, &read(&root)?, &Identity { vendor, class })?;
            boot(&step)?.state()
        }
        Command::OfferRoot { step, file } => boot(&step)?.offer_root(&read(&file)?),
        Command::OfferCampaign { step, campaign, manifest, plan, url, opens, closes } => {
            let document = |path: Option<PathBuf>| path.map(|path| read(&path)).transpose();
            let arming = Arming {
                campaign: document(campaign)?.unwrap_or_default(),
                manifest: document(manifest)?.unwrap_or_default(),
                url,
                opens,
                closes,
                plan: document(plan)?,
            };
            boot(&step)?.offer_campaign(&arming)
        }
        Command::OfferPackets { step, file } => boot(&step)?.offer_packets(&read(&file)?),
        Command::State { step } => boot(&step)?.state(),
    }
}
