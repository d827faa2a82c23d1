//! The program `sim`: seeds, faults that are left out, output.

use std::{
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{
    injected_bugs::InjectedBug,
    scenario::Scenario,
    shrink::{replay_command, shrink},
    simulation, superseding,
    trace::Recording,
};

/// Run simulated worlds, one for each seed, and check the invariants after every event
///
/// A world has image servers, a management server and devices: the real cores, with the real
/// storage, on a simulated clock, network, DM transport and disk. Its faults follow from its seed.
/// A world that fails is reduced to the faults that matter, and the command that replays it is
/// printed.
///
/// Exit codes: 0 all invariants held, 2 usage, 70 an invariant was broken.
#[derive(Debug, Clone, Parser)]
#[command(name = "sim", version)]
pub struct Options {
    /// The first seed
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Number of seeds
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub count: u64,
    /// Number of threads
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub jobs: usize,
    /// Run the worlds of each seed in which a campaign supersedes another at each step of a device
    #[arg(long)]
    pub superseding: bool,
    /// Run one of these worlds of a seed, by its number
    #[arg(long, value_name = "N", conflicts_with_all = ["superseding", "count"])]
    pub superseding_world: Option<usize>,
    /// Leave a fault out, by its number in the list that `--trace` prints
    #[arg(long, value_name = "N")]
    pub without: Vec<usize>,
    /// Inject a bug, to test that it is found
    #[arg(long, value_name = "BUG")]
    pub inject: Option<InjectedBug>,
    /// Print the events
    #[arg(long)]
    pub trace: bool,
    /// Print one JSON object for each failing world, and one at the end
    #[arg(long)]
    pub json: bool,
}

/// A world that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failing {
    /// Its seed.
    pub seed: u64,
    /// Its number among the superseding worlds of the seed.
    pub superseding_world: Option<usize>,
    /// Invariants that did not hold.
    pub breaches: Vec<String>,
    /// The faults that matter, in words.
    pub faults: Vec<String>,
    /// The command that replays it.
    pub replay: String,
}

/// Result of many worlds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Worlds that were run.
    pub worlds: u64,
    /// Events in them.
    pub events: u64,
    /// Worlds that failed.
    pub failing: Vec<Failing>,
}

/// Runs the seeds from `first` on, on so many threads; `seen` is called after each world.
pub fn survey(
    (first, count): (u64, u64),
    jobs: usize,
    bug: Option<InjectedBug>,
    seen: &(dyn Fn(Option<&Failing>) + Sync),
) -> Summary {
    let world = |number: u64| {
        let seed = first.wrapping_add(number);
        ((seed, None), Scenario::draw(seed))
    };
    survey_worlds((count, &world), jobs, bug, seen)
}

/// Runs the superseding worlds of the seeds from `first` on, as [`survey`] does.
pub fn survey_superseding(
    (first, count): (u64, u64),
    jobs: usize,
    bug: Option<InjectedBug>,
    seen: &(dyn Fn(Option<&Failing>) + Sync),
) -> Summary {
    let mut total = Summary { worlds: 0, events: 0, failing: Vec::new() };
    for seed in (0..count).map(|number| first.wrapping_add(number)) {
        let worlds = superseding::worlds(seed);
        let world = |number: u64| {
            let number = usize::try_from(number).unwrap_or_default();
            let scenario = worlds.get(number).cloned().unwrap_or_else(|| Scenario::draw(seed));
            ((seed, Some(number)), scenario)
        };
        let summary = survey_worlds((worlds.len() as u64, &world), jobs, bug, seen);
        total.worlds += summary.worlds;
        total.events += summary.events;
        total.failing.extend(summary.failing);
    }
    total
}

/// Seed of a world, and its number among the superseding worlds of this seed.
type Name = (u64, Option<usize>);

fn survey_worlds(
    (count, world): (u64, &(dyn Fn(u64) -> (Name, Scenario) + Sync)),
    jobs: usize,
    bug: Option<InjectedBug>,
    seen: &(dyn Fn(Option<&Failing>) + Sync),
) -> Summary {
    let next = AtomicU64::new(0);
    let events = AtomicU64::new(0);
    let failing = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let (name, scenario) = world(number);
                    let (had, failed) = try_world(name, &scenario, bug);
                    events.fetch_add(had, Ordering::Relaxed);
                    seen(failed.as_ref());
                    failing.lock().unwrap_or_else(PoisonError::into_inner).extend(failed);
                }
            });
        }
    });
    let mut failing = failing.into_inner().unwrap_or_else(PoisonError::into_inner);
    failing.sort_by_key(|failing: &Failing| (failing.seed, failing.superseding_world));
    Summary { worlds: count, events: events.into_inner(), failing }
}

fn try_world(name: Name, world: &Scenario, bug: Option<InjectedBug>) -> (u64, Option<Failing>) {
    let outcome = simulation::run(world.clone(), Recording::Digest, bug);
    let events = outcome.events;
    if outcome.breaches.is_empty() {
        return (events, None);
    }
    let shrunk = shrink(world, bug, outcome);
    let faults = world.clone().without(&shrunk.left_out).faults;
    let (seed, superseding_world) = name;
    let failing = Failing {
        seed,
        superseding_world,
        breaches: shrunk.outcome.breaches,
        faults: faults.iter().map(ToString::to_string).collect(),
        replay: replay_command(name, &shrunk.left_out, bug),
    };
    (events, Some(failing))
}

/// Runs the program.
pub fn main(options: &Options) -> ExitCode {
    let bug = options.inject;
    if options.count == 1 && !options.superseding {
        return one(options, bug);
    }
    let bar = if options.superseding {
        ProgressBar::new_spinner()
    } else {
        ProgressBar::new(options.count).with_style(style())
    };
    let run = if options.superseding { survey_superseding } else { survey };
    let lines = !std::io::stderr().is_terminal();
    let done = AtomicU64::new(0);
    let summary = run((options.seed, options.count), options.jobs, bug, &|failing| {
        bar.inc(1);
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        if lines && done.is_multiple_of(500) {
            print_line(&format!("{done} worlds of {} seeds", options.count));
        }
        if let Some(failing) = failing {
            bar.suspend(|| report(failing, options.json));
        }
    });
    bar.finish_and_clear();
    if options.json {
        crate::print_line!("{}", serde_json::to_string(&summary).unwrap_or_default());
    } else {
        let Summary { worlds, events, failing } = &summary;
        crate::print_line!("{worlds} worlds, {events} events, {} failing", failing.len());
    }
    exit(summary.failing.is_empty())
}

/// Runs one world, with what was left out, and shows it.
fn one(options: &Options, bug: Option<InjectedBug>) -> ExitCode {
    let keep = if options.trace { Recording::Lines } else { Recording::Digest };
    let scenario = match options.superseding_world {
        None => Scenario::draw(options.seed),
        Some(number) => match superseding::worlds(options.seed).into_iter().nth(number) {
            Some(scenario) => scenario,
            None => {
                print_line(&format!("seed {} has no superseding world {number}", options.seed));
                return crate::lab::exit::Exit::Usage.into();
            }
        },
    };
    if options.trace {
        crate::print_line!("{} devices: {:?}", scenario.devices.len(), scenario.devices);
        crate::print_line!("{} image servers, {:?}", scenario.servers, scenario.bridge);
        crate::print_line!("object: {:?}", scenario.package.object.oti.parameters());
        for window in &scenario.windows {
            crate::print_line!(
                "window from {} to {}, ordered {}",
                window.opens,
                window.closes,
                window.ordered
            );
        }
        crate::print_line!("calm from {}", scenario.calm);
        for (number, fault) in scenario.faults.iter().enumerate() {
            let left_out = if options.without.contains(&number) { " (left out)" } else { "" };
            crate::print_line!("fault {number}: {fault}{left_out}");
        }
    }
    let outcome = simulation::run(scenario.without(&options.without), keep, bug);
    outcome.lines.iter().for_each(|line| crate::print_line!("{line}"));
    if options.json {
        let shown = serde_json::json!({
            "seed": options.seed,
            "breaches": outcome.breaches,
            "digest": outcome.digest.to_string(),
            "events": outcome.events,
        });
        crate::print_line!("{shown}");
    } else {
        let (seed, digest) = (options.seed, outcome.digest);
        crate::print_line!(
            "seed {seed}: {} events until {}, digest {digest}",
            outcome.events,
            outcome.at
        );
        outcome.breaches.iter().for_each(|breach| crate::print_line!("BREACH: {breach}"));
    }
    exit(outcome.breaches.is_empty())
}

fn report(failing: &Failing, json: bool) {
    if json {
        crate::print_line!("{}", serde_json::to_string(failing).unwrap_or_default());
        return;
    }
    crate::print_line!("seed {} fails: {}", failing.seed, failing.breaches.join("; "));
    failing.faults.iter().for_each(|fault| crate::print_line!("  {fault}"));
    crate::print_line!("  {}", failing.replay);
}

fn exit(well: bool) -> ExitCode {
    if well { ExitCode::SUCCESS } else { crate::lab::exit::Exit::Breach.into() }
}

/// A closed terminal loses the text; the run continues.
fn print_line(text: &str) {
    drop(writeln!(std::io::stderr(), "{text}"));
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:40} {pos} of {len} worlds, {eta} to go")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}
