//! `listen`: plain files from any FLUTE session.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::anyhow;
use clap::Args;
use proto::{ids::Tsi, sdp::SessionDescription};

use super::{Failure, exit};
use crate::{
    plain::{Filter, Limits, PlainFile},
    shell::{
        capture::CaptureError,
        directory::{OpenError, read_text},
        listen::{self, From, Goal, ListenError, Order, Outcome, Report, Show},
        multicast::Channel,
    },
};

#[derive(Debug, Args)]
pub(super) struct ListenArgs {
    /// Multicast group.
    #[arg(long, required_unless_present_any = ["sdp", "from_pcap"], requires = "port")]
    group: Option<Ipv4Addr>,
    /// UDP port.
    #[arg(long, requires = "group", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Join on the interface with this address.
    #[arg(long, value_name = "IP", required_unless_present = "from_pcap")]
    interface: Option<Ipv4Addr>,
    /// Take group, port, source and TSI from a session description; options go before it.
    #[arg(long, value_name = "FILE")]
    sdp: Option<PathBuf>,
    /// Take the datagrams of a packet capture (classic pcap) instead of the network.
    #[arg(long, value_name = "FILE")]
    from_pcap: Option<PathBuf>,
    /// Hear this sender only [default: any sender].
    #[arg(long, value_name = "IP")]
    source: Option<Ipv4Addr>,
    /// Hear this session only [default: all sessions].
    #[arg(long)]
    tsi: Option<u64>,
    /// Directory for the files; a run that was ended goes on from what it holds.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// End when every file is whole that an FDT describes, or proved wrong twice (exit code 5).
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
    fn order(&self) -> Result<Order, Failure> {
        let described = self.sdp.as_deref().map(describe).transpose()?;
        let channel = self.group.zip(self.port).map(SocketAddr::from);
        let channel = channel.or(described.as_ref().map(|(channel, _)| *channel));
        let filter = described.map_or_else(Filter::default, |(_, filter)| filter);
        let source = self.source.map(IpAddr::V4).or(filter.source);
        let usage = |text: &str| Failure { code: exit::USAGE, error: anyhow!("{text}") };
        let from = match (&self.from_pcap, channel, self.interface) {
            (Some(file), channel, _) => From::Capture { file: file.clone(), channel },
            (None, Some(group), Some(interface)) => {
                From::Channel { channel: Channel { group, source }, interface }
            }
            (None, None, _) => return Err(usage("--group and --port, or --sdp, are missing")),
            (None, Some(_), None) => return Err(usage("--interface is missing")),
        };
        let limits = Limits { block_symbols: self.max_block_symbols, ..Limits::default() };
        Ok(Order {
            from,
            filter: Filter { source, tsi: self.tsi.map(Tsi).or(filter.tsi) },
            out: self.out.clone(),
            goal: match (self.once, self.complete) {
                (true, _) => Goal::AllDescribed,
                (false, Some(files)) => Goal::Files(files),
                (false, None) => Goal::Endless,
            },
            timeout: self.timeout.map(Duration::from_secs),
            limits,
            show: if self.json { Show::Nothing } else { Show::Lines },
        })
    }
}

/// Reads a session description: its first channel, its source and its TSI.
fn describe(path: &Path) -> Result<(SocketAddr, Filter), Failure> {
    let shown = path.display();
    let failed = |code, error: anyhow::Error| Failure {
        code,
        error: error.context(format!("session description {shown}")),
    };
    let text = read_text(path).map_err(|error| {
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        failed(if missing { exit::NOT_FOUND } else { exit::CONFIGURATION }, anyhow!(error))
    })?;
    let described = SessionDescription::parse(text.as_bytes())
        .map_err(|error| failed(exit::CONFIGURATION, anyhow!(error)))?;
    let first = described.channels.first();
    let first = first.ok_or_else(|| failed(exit::CONFIGURATION, anyhow!("it has no channel")))?;
    let filter = Filter { source: described.source, tsi: Some(described.tsi) };
    Ok((SocketAddr::new(first.group, first.port), filter))
}

pub(super) fn run(arguments: &ListenArgs) -> Result<u8, Failure> {
    let report = listen::run(&arguments.order()?)
        .map_err(|error| Failure { code: code(&error), error: anyhow!(error) })?;
    if arguments.json {
        let json = serde_json::to_string(&report).expect("a report is plain data");
        println!("{json}");
    } else {
        print!("{}", text(&report));
    }
    Ok(match report.outcome {
        Outcome::Complete => exit::DONE,
        Outcome::Refused => exit::REFUSED_SIGNATURE,
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
        ListenError::Capture(CaptureError::Io(error))
            if error.kind() == std::io::ErrorKind::NotFound =>
        {
            exit::NOT_FOUND
        }
        ListenError::Data(OpenError::Io { .. })
        | ListenError::Storage(_)
        | ListenError::Capture(_)
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
