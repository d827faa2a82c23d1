//! `air`: one session by hand.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use proto::{crypto::random, ids::Tsi, time::Utc, tune_in::TuneIn};
use serde_json::json;
use tokio::runtime;

use super::{
    answer::answer,
    clock, package_dir,
    package_dir::OpenPackage,
    progress::Show,
    sender::{OnAir, Planned, Progress},
    udp::{self, GroupAndPort, Leaving},
    watch::{self, Look},
};
use crate::{
    failure::{Exit, Failure},
    pacing::Rate,
    package::documents,
    place::{Kept, Place},
    session::SessionSetup,
    window,
};

/// What to put on the air.
#[derive(Debug, Clone, Args)]
pub struct AirOrder {
    /// Package directory, with plans and campaign
    pub dir: PathBuf,
    #[command(flatten)]
    /// Where to send.
    pub to: GroupAndPort,
    #[command(flatten)]
    /// How packets leave the machine.
    pub leaving: Leaving,
    /// Session identifier, 1 to 4294967295 [default: the one kept from before, else a random one]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub tsi: Option<u32>,
    /// Bits of UDP payload in a second, e.g. 40M
    #[arg(long, default_value = "40M")]
    pub rate: Rate,
    /// Send although the address is not among the campaign's sources; only receivers that take
    /// any source will listen
    #[arg(long)]
    pub any_source: bool,
    /// Close after so many passes through the plan
    #[arg(long)]
    pub passes: Option<u64>,
    /// Close after so many seconds
    #[arg(long)]
    pub seconds: Option<u64>,
    /// Root document: refuse a package that is not signed under it
    #[arg(long)]
    pub root: Option<PathBuf>,
    /// Answer with one JSON object at the end
    #[arg(long)]
    pub json: bool,
}

/// Airs a package until its end is reached or the user stops it.
///
/// # Errors
///
/// [`Failure`] that names what was refused; [`Exit::Interrupted`] after a signal, when the place is
/// kept as at any other end.
pub fn run(order: &AirOrder) -> Result<(), Failure> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::io("asynchronous runtime", error))?;
    runtime.block_on(air(order))
}

async fn air(order: &AirOrder) -> Result<(), Failure> {
    let now = clock::now();
    let root = order.root.as_deref().map(package_dir::read_envelope).transpose()?;
    let root = root.map(|root| documents::trusted_root(now.utc, &root)).transpose()?;
    let package = OpenPackage::open(&order.dir, root.as_ref(), now.utc)?;
    let channel = channel(order, &package)?;
    let closes = closes(order, &package, now.utc)?;
    let socket = udp::open(&channel)?;
    let _lock = package_dir::lock(&order.dir)?;
    let kept = package_dir::read_kept(&order.dir, package.campaign.id)?;
    let tsi =
        Tsi(order.tsi.map_or_else(|| kept.map_or_else(random_tsi, |kept| kept.tsi.0), u64::from));
    // Another session may number its FDT instances from the start, but it need not.
    let place = kept.map_or(Place::START, |kept| kept.place);
    let keep = |place: Place| {
        let place = place.with_reserve();
        let session = kept.and_then(|kept| kept.session);
        let version = Kept::VERSION;
        let kept = Kept { version, campaign: package.campaign.id, tsi, place, session };
        package_dir::keep(&order.dir, &kept)
    };
    keep(place)?;
    announce(order, &package, &channel, tsi);
    let setup = SessionSetup {
        tsi,
        campaign: package.campaign.id,
        objects: package.objects.clone(),
        place,
        passes: order.passes,
    };
    let on_air = OnAir::start(Planned::new(setup, package.records()?), socket, order.rate)?;
    let look = |progress: &Progress| Look {
        pass: progress.view.place.passes,
        position: progress.view.symbol_place,
        length: package.plan_symbols(),
        unit: "symbols",
    };
    let keep_view = |progress: &Progress| keep(progress.view.place);
    let show = if order.json { Show::Nothing } else { Show::Progress };
    let interrupted = watch::watch(&on_air, Some(closes), show, look, keep_view).await?;
    on_air.stop();
    let progress = on_air.join()?;
    keep(progress.view.place)?;
    report(order, &package, tsi, &progress, clock::now().mono.since(now.mono), interrupted);
    if interrupted {
        return Err(Exit::Interrupted.because("interrupted; the place is kept"));
    }
    Ok(())
}

fn channel(order: &AirOrder, package: &OpenPackage) -> Result<udp::Channel, Failure> {
    let Leaving { interface, source, ttl, dscp } = order.leaving;
    let source = source.unwrap_or(interface);
    if !order.any_source && !package.campaign.admits_source(source) {
        let known: Vec<_> = package.campaign.sources.iter().map(ToString::to_string).collect();
        return Err(Exit::Policy.because(format!(
            "source {source} is not among the campaign's: {}",
            known.join(", ")
        )));
    }
    let group = order.to.channel();
    udp::check_group(group)?;
    Ok(udp::Channel {
        group,
        interface: udp::ipv4("interface", interface)?,
        source: udp::ipv4("source", source)?,
        hops: ttl,
        dscp,
    })
}

/// Returns when the session ends: after the seconds asked for, and inside the campaign's limits.
fn closes(order: &AirOrder, package: &OpenPackage, now: Utc) -> Result<Utc, Failure> {
    let campaign = &package.campaign;
    if now < campaign.not_before {
        let moment = window::rfc3339(campaign.not_before);
        return Err(Exit::Policy.because(format!("the campaign does not begin before {moment}")));
    }
    if now >= campaign.latest_stop {
        let moment = window::rfc3339(campaign.latest_stop);
        return Err(Exit::Policy.because(format!("the campaign's latest_stop was {moment}")));
    }
    let asked = order.seconds.map(|seconds| now + Duration::from_secs(seconds));
    Ok(asked.map_or(campaign.latest_stop, |asked| asked.min(campaign.latest_stop)))
}

/// Returns a random TSI of 32 bits that is not zero.
#[must_use]
pub fn random_tsi() -> u64 {
    u64::from(u32::from_be_bytes(random())).max(1)
}

/// Prints what a receiver needs.
fn announce(order: &AirOrder, package: &OpenPackage, channel: &udp::Channel, tsi: Tsi) {
    let tune_in = TuneIn {
        channel: channel.group,
        tsi,
        source: channel.source.into(),
        campaign: package.campaign.id,
        campaign_digest: package.campaign_digest,
        component: None,
    };
    if !order.json {
        eprintln!("on air: {tune_in}");
        eprintln!("{} bit/s, {} bytes in a pass", order.rate, package.pass_octets());
    }
}

fn report(
    order: &AirOrder,
    package: &OpenPackage,
    tsi: Tsi,
    progress: &Progress,
    span: Duration,
    interrupted: bool,
) {
    let sent = progress.sent;
    let value = json!({
        "outcome": if interrupted { "interrupted" } else { "closed" },
        "campaign_id": package.campaign.id.to_string(),
        "tsi": tsi.0,
        "packets": sent.packets,
        "bytes": sent.octets,
        "symbols": sent.symbols,
        "passes": progress.view.place.passes,
        "refused_by_network": progress.refused,
        "seconds": (span.as_secs_f64() * 1000.0).round() / 1000.0,
    });
    answer(order.json, &value);
}
