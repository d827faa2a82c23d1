//! `listen`: plain files from any FLUTE session.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use anyhow::anyhow;
use clap::Args;
use proto::ids::Tsi;

use super::{Failure, exit};
use crate::{
    plain::{Filter, Limits, PlainFile},
    shell::{
        directory::OpenError,
        listen::{self, Goal, ListenError, Order, Outcome, Report, Show},
        multicast::Channel,
    },
};

#[derive(Debug, Args)]
pub(super) struct ListenArgs {
    /// Multicast group.
    #[arg(long)]
    group: Ipv4Addr,
    /// UDP port.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Join on the interface with this address.
    #[arg(long, value_name = "IP")]
    interface: Ipv4Addr,
    /// Hear this sender only [default: any sender].
    #[arg(long, value_name = "IP")]
    source: Option<Ipv4Addr>,
    /// Hear this session only [default: all sessions].
    #[arg(long)]
    tsi: Option<u64>,
    /// Directory for the files; a run that was ended goes on from what it holds.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// End when every file is whole that an FDT describes.
    #[arg(long, conflicts_with = "complete")]
    once: bool,
    /// End when so many files are whole.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    complete: Option<u64>,
    /// End after so many seconds, complete or not.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Largest RaptorQ block to solve, in symbols; memory grows with it.
    #[arg(long, value_name = "K", default_value_t = 8192,
          value_parser = clap::value_parser!(u32).range(1..=56_403))]
    max_block_symbols: u32,
    /// Answer with one JSON object at the end.
    #[arg(long)]
    json: bool,
}

impl ListenArgs {
    fn order(&self) -> Order {
        let source = self.source.map(IpAddr::V4);
        let limits = Limits { block_symbols: self.max_block_symbols, ..Limits::default() };
        Order {
            channel: Channel { group: SocketAddr::from((self.group, self.port)), source },
            interface: self.interface,
            filter: Filter { source, tsi: self.tsi.map(Tsi) },
            out: self.out.clone(),
            goal: match (self.once, self.complete) {
                (true, _) => Goal::AllDescribed,
                (false, Some(files)) => Goal::Files(files),
                (false, None) => Goal::Endless,
            },
            timeout: self.timeout.map(Duration::from_secs),
            limits,
            show: if self.json { Show::Nothing } else { Show::Lines },
        }
    }
}

pub(super) fn run(arguments: &ListenArgs) -> Result<u8, Failure> {
    let report = listen::run(&arguments.order())
        .map_err(|error| Failure { code: code(&error), error: anyhow!(error) })?;
    if arguments.json {
        let json = serde_json::to_string(&report).expect("a report is plain data");
        println!("{json}");
    } else {
        print!("{}", text(&report));
    }
    Ok(match report.outcome {
        Outcome::Complete => exit::DONE,
        Outcome::Incomplete => exit::RESUMABLE,
        Outcome::Stopped if arguments.once || arguments.complete.is_some() => exit::RESUMABLE,
        Outcome::Stopped => exit::DONE,
        Outcome::Interrupted => exit::INTERRUPTED,
    })
}

fn code(error: &ListenError) -> u8 {
    match error {
        ListenError::Data(OpenError::Locked(_)) => exit::CONFLICT,
        ListenError::Join(_) => exit::NETWORK,
        ListenError::Data(OpenError::Io { .. })
        | ListenError::Storage(_)
        | ListenError::System { .. } => exit::CONFIGURATION,
    }
}

/// A line for each file, and what the numbers say if nothing came.
fn text(report: &Report) -> String {
    let mut lines: Vec<_> = report.files.iter().map(line).collect();
    if report.files.is_empty() {
        let stats = &report.stats;
        lines.push(match (stats.datagrams, stats.fdt) {
            (0, _) => "nothing was heard: check group, port, interface and source".to_owned(),
            (datagrams, 0) => format!("{datagrams} datagrams, but no FDT that says what they are"),
            (_, _) => format!(
                "no FDT could be used ({} refused, {} expired)",
                stats.fdt_refused, stats.fdt_expired
            ),
        });
    }
    lines.push("unsigned: nothing proves who sent this".to_owned());
    lines.join("\n") + "\n"
}

fn line(file: &PlainFile) -> String {
    let PlainFile { state, name, length, symbols_held, symbols_needed, .. } = file;
    let (done, blocks) = (file.blocks_done, file.blocks);
    let problem = file.problem.as_deref().map_or(String::new(), |why| format!("; {why}"));
    format!(
        "{state:<10} {name}  {length} octets, {symbols_held} of {symbols_needed} symbols, {done} of \
         {blocks} blocks{problem}"
    )
}
