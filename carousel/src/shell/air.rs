//! `air`: one session by hand.

use std::{cell::Cell, path::PathBuf, time::Duration};

use clap::Args;
use proto::{crypto::random, ids::Tsi, time::Utc, tune_in::TuneIn};
use serde_json::json;
use tokio::runtime;

use super::{
    answer::answer,
    clock, package_dir,
    package_dir::{OpenPackage, PlanFile},
    progress::{ProgressMeter, ProgressOutput, Unit},
    rate::rate,
    sender::{OnAir, Planned, Progress},
    udp::{self, GroupAndPort, SendOptions},
    watch::{self, ProgressView},
};
use crate::{
    control::resume_point::{ResumePoint, SavedState},
    error::{CliError, ExitCode},
    flute::{pacing::Rate, session::SessionSetup},
    package::documents,
    plan::check,
    window,
};

/// The package to air, and the options of its session.
#[derive(Debug, Clone, Args)]
pub struct AirArgs {
    /// Package directory, with plans and campaign
    pub dir: PathBuf,
    #[command(flatten)]
    /// The channel.
    pub to: GroupAndPort,
    #[command(flatten)]
    /// Options of the sending socket.
    pub send_options: SendOptions,
    /// Session identifier, 1 to 4294967295 [default: the saved one, else a random one]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub tsi: Option<u32>,
    /// Bits of UDP payload per second, e.g. 40M
    #[arg(long, default_value = "40M", value_parser = rate)]
    pub rate: Rate,
    /// Send although the address is not among the campaign's sources; only receivers that accept
    /// any source will listen
    #[arg(long)]
    pub any_source: bool,
    /// Close after so many passes through the plan
    #[arg(long)]
    pub passes: Option<u64>,
    /// Close after so many seconds
    #[arg(long)]
    pub seconds: Option<u64>,
    /// Root document; a package that is not signed under it is rejected
    #[arg(long)]
    pub root: Option<PathBuf>,
    /// Print one JSON object at the end
    #[arg(long)]
    pub json: bool,
}

/// Airs a package until its end is reached or the user stops it.
///
/// # Errors
///
/// [`CliError`] that names what was refused; [`ExitCode::Interrupted`] after a signal, when the
/// resume point is saved as at any other end.
pub fn run(args: &AirArgs) -> Result<(), CliError> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CliError::io("asynchronous runtime", error))?;
    runtime.block_on(air(args))
}

async fn air(args: &AirArgs) -> Result<(), CliError> {
    let now = clock::now();
    let root = args.root.as_deref().map(package_dir::read_envelope).transpose()?;
    let root = root.map(|root| documents::trusted_root(now.utc, &root)).transpose()?;
    let package = OpenPackage::open(&args.dir, root.as_ref(), now.utc)?;
    let channel = channel(args, &package)?;
    let closes = closes(args, &package, now.utc)?;
    let socket = udp::open(&channel)?;
    let _lock = package_dir::lock(&args.dir)?;
    let output = if args.json { ProgressOutput::Hidden } else { ProgressOutput::Shown };
    compare_plans(&package, output)?;
    let saved = package_dir::read_saved(&args.dir, package.campaign().id)?;
    let tsi =
        Tsi(args.tsi.map_or_else(|| saved.map_or_else(random_tsi, |saved| saved.tsi.0), u64::from));
    // Another session may number its FDT instances from the start, but it need not.
    let resume_point = saved.map_or(ResumePoint::START, |saved| saved.resume_point);
    let save = |resume_point: ResumePoint| {
        let resume_point = resume_point.with_reserve();
        let session = saved.and_then(|saved| saved.session);
        let version = SavedState::VERSION;
        let saved =
            SavedState { version, campaign: package.campaign().id, tsi, resume_point, session };
        package_dir::save(&args.dir, &saved)
    };
    save(resume_point)?;
    announce(args, &package, &channel, tsi);
    let setup = SessionSetup {
        tsi,
        campaign: package.campaign().id,
        objects: package.objects().to_vec(),
        resume_point,
        passes: args.passes,
    };
    let on_air = OnAir::start(Planned::new(setup, package.records()?), socket, args.rate)?;
    let view = |progress: &Progress| ProgressView {
        pass: progress.view.resume_point.passes,
        position: progress.view.symbol_index,
        length: package.plan_symbols(),
        unit: "symbols",
    };
    let is_damage_logged = Cell::new(false);
    let save_view = |progress: &Progress| {
        let damaged_runs = progress.view.damaged_runs;
        if damaged_runs > 0 && !is_damage_logged.replace(true) {
            tracing::error!(damaged_runs, "the plan has changed on the disk");
        }
        save(progress.view.resume_point)
    };
    let interrupted =
        watch::report_progress(&on_air, Some(closes), output, view, save_view).await?;
    on_air.stop();
    let progress = on_air.join()?;
    save(progress.view.resume_point)?;
    report(args, &package, tsi, &progress, clock::now().mono.since(now.mono), interrupted)?;
    reject_damage(&package, progress.view.damaged_runs)?;
    if interrupted {
        return Err(ExitCode::Interrupted.with_message("interrupted; the resume point is saved"));
    }
    Ok(())
}

/// Compares each plan that was not compared with its campaign since it changed.
fn compare_plans(package: &OpenPackage, output: ProgressOutput) -> Result<(), CliError> {
    let mut plans = Vec::new();
    for plan in package.plans()? {
        if plan.runs()?.is_none() {
            plans.push(plan);
        }
    }
    let all = plans.iter().map(PlanFile::bytes).sum();
    let meter = ProgressMeter::new(output, "comparing", all, Unit::Octets);
    for plan in plans {
        let done = Cell::new(0);
        plan.check(&|octets| {
            meter.add(octets - done.replace(octets));
            check::Progress::Continue
        })?;
    }
    meter.finish();
    Ok(())
}

/// Reports runs of the plan that changed while it was sent; the next session compares all of it.
fn reject_damage(package: &OpenPackage, damaged_runs: u64) -> Result<(), CliError> {
    if damaged_runs == 0 {
        return Ok(());
    }
    package.plans()?.iter().try_for_each(PlanFile::forget_check)?;
    Err(ExitCode::Refused.with_message(format!(
        "{damaged_runs} runs of 64 KiB of the plan changed on the disk while they were sent: copy \
         the package again"
    )))
}

fn channel(args: &AirArgs, package: &OpenPackage) -> Result<udp::Channel, CliError> {
    let SendOptions { interface, source, ttl, dscp } = args.send_options;
    let source = source.unwrap_or(interface);
    if !args.any_source && !package.campaign().admits_source(source) {
        let known: Vec<_> = package.campaign().sources.iter().map(ToString::to_string).collect();
        return Err(ExitCode::Policy.with_message(format!(
            "source {source} is not among the campaign's: {}",
            known.join(", ")
        )));
    }
    let group = args.to.channel();
    udp::check_group(group)?;
    Ok(udp::Channel {
        group,
        interface: udp::ipv4("interface", interface)?,
        source: udp::ipv4("source", source)?,
        hops: ttl,
        dscp,
    })
}

/// Returns the end of the session: after the given seconds, and within the campaign's limits.
fn closes(args: &AirArgs, package: &OpenPackage, now: Utc) -> Result<Utc, CliError> {
    let campaign = package.campaign();
    if now < campaign.not_before {
        let moment = window::rfc3339(campaign.not_before);
        return Err(
            ExitCode::Policy.with_message(format!("the campaign does not begin before {moment}"))
        );
    }
    if now >= campaign.latest_stop {
        let moment = window::rfc3339(campaign.latest_stop);
        return Err(
            ExitCode::Policy.with_message(format!("the campaign's latest_stop was {moment}"))
        );
    }
    let asked = args.seconds.map(|seconds| now + Duration::from_secs(seconds));
    Ok(asked.map_or(campaign.latest_stop, |asked| asked.min(campaign.latest_stop)))
}

/// Returns a random TSI of 32 bits that is not zero.
#[must_use]
pub fn random_tsi() -> u64 {
    u64::from(u32::from_be_bytes(random())).max(1)
}

/// Prints the tune-in URL and the rate.
fn announce(args: &AirArgs, package: &OpenPackage, channel: &udp::Channel, tsi: Tsi) {
    let tune_in = TuneIn {
        channel: channel.group,
        tsi,
        source: channel.source.into(),
        campaign: package.campaign().id,
        campaign_digest: package.campaign_digest(),
        component: None,
    };
    if !args.json {
        proto_cli::note!("on air: {tune_in}");
        proto_cli::note!("{} bit/s, {} bytes in a pass", args.rate, package.pass_bytes());
    }
}

fn report(
    args: &AirArgs,
    package: &OpenPackage,
    tsi: Tsi,
    progress: &Progress,
    span: Duration,
    interrupted: bool,
) -> Result<(), CliError> {
    let sent = progress.sent;
    let value = json!({
        "outcome": if interrupted { "interrupted" } else { "closed" },
        "campaign_id": package.campaign().id.to_string(),
        "tsi": tsi.0,
        "packets": sent.packets,
        "bytes": sent.octets,
        "symbols": sent.symbols,
        "passes": progress.view.resume_point.passes,
        "damaged_runs": progress.view.damaged_runs,
        "refused_by_network": progress.refused,
        "seconds": (span.as_secs_f64() * 1000.0).round() / 1000.0,
    });
    answer(args.json, &value)
}
