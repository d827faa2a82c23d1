//! `receiver listen`: unsigned files from any FLUTE session.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::anyhow;
use clap::Args;
use proto::{fec, flute::fdt::store::Expiry, ids::Tsi, sdp::SessionDescription, time::text::span};

use super::{Failure, exit, print};
use crate::{
    shell::{
        capture::CaptureError,
        data_dir::{OpenError, read_octets},
        listen::{
            self, ListenError, ListenOptions, Outcome, PacketSource, ProgressOutput, Report,
            StopWhen,
        },
        multicast::Channel,
    },
    unsigned::{Filter, Limits, Undigested, UnsignedFile, oddities::unsupported},
};

#[derive(Debug, Args)]
pub(super) struct ListenArgs {
    /// Multicast group
    #[arg(long, required_unless_present_any = ["sdp", "from_pcap"], requires = "port")]
    group: Option<Ipv4Addr>,
    /// UDP port
    #[arg(long, requires = "group", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Join on the interface with this address
    #[arg(long, value_name = "IP", required_unless_present = "from_pcap")]
    interface: Option<Ipv4Addr>,
    /// Read group, port, source and TSI from a session description; options override it
    #[arg(long, value_name = "FILE")]
    sdp: Option<PathBuf>,
    /// Read the datagrams of a packet capture (classic pcap) instead of the network
    #[arg(long, value_name = "FILE")]
    from_pcap: Option<PathBuf>,
    /// Accept this sender only [default: any sender]
    #[arg(long, value_name = "IP")]
    source: Option<Ipv4Addr>,
    /// Accept this session only [default: all sessions]
    #[arg(long)]
    tsi: Option<u64>,
    /// Write the files to this directory; resume an earlier run from it
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Go on with files of an earlier run whose FDT gives no digest; the sender sends the same
    #[arg(long)]
    resume_undigested: bool,
    /// End when all that is announced is complete, or failed verification twice (exit code 5)
    #[arg(long, conflicts_with = "complete")]
    once: bool,
    /// End when this number of files is complete
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    complete: Option<u64>,
    /// End after this time, complete or not
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Limit the symbols of a RaptorQ block to decode; memory grows with it
    #[arg(long, value_name = "K", default_value_t = 8192,
          value_parser = clap::value_parser!(u32).range(1..=56_403))]
    max_block_symbols: u32,
    /// Use at most this much of the disk for the files of this run [default: three quarters of what
    /// is free]
    #[arg(long, value_name = "OCTETS")]
    max_disk: Option<u64>,
    /// Accept file tables that have expired, as when a recording is replayed or a clock is wrong
    #[arg(long)]
    accept_expired: bool,
    /// Print one JSON object at the end
    #[arg(long)]
    json: bool,
}

impl ListenArgs {
    fn options(&self) -> Result<ListenOptions, Failure> {
        let described = self.sdp.as_deref().map(describe).transpose()?;
        let channel = self.group.zip(self.port).map(SocketAddr::from);
        let channel = channel.or(described.as_ref().map(|(channel, _)| *channel));
        let filter = described.map_or_else(Filter::default, |(_, filter)| filter);
        let source = self.source.map(IpAddr::V4).or(filter.source);
        let usage = |text: &str| Failure { code: exit::USAGE, error: anyhow!("{text}") };
        let packets = match (&self.from_pcap, channel, self.interface) {
            (Some(file), channel, _) => PacketSource::Capture { file: file.clone(), channel },
            (None, Some(group), Some(interface)) => {
                PacketSource::Channel { channel: Channel { group, source }, interface }
            }
            (None, None, _) => return Err(usage("--group and --port, or --sdp, are missing")),
            (None, Some(_), None) => return Err(usage("--interface is missing")),
        };
        let expiry = if self.accept_expired { Expiry::Ignored } else { Expiry::Checked };
        let limits = Limits { block_symbols: self.max_block_symbols, ..Limits::default() };
        Ok(ListenOptions {
            source: packets,
            filter: Filter { source, tsi: self.tsi.map(Tsi).or(filter.tsi), expiry },
            out: self.out.clone(),
            stop_when: match (self.once, self.complete) {
                (true, _) => StopWhen::AllDescribed,
                (false, Some(files)) => StopWhen::Files(files),
                (false, None) => StopWhen::Endless,
            },
            timeout: self.timeout.map(Duration::from_secs),
            limits,
            disk_bytes: self.max_disk,
            undigested: match self.resume_undigested {
                true => Undigested::Resume,
                false => Undigested::Anew,
            },
            progress: if self.json { ProgressOutput::Nothing } else { ProgressOutput::Lines },
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
    let octets = read_octets(path).map_err(|error| {
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        failed(if missing { exit::NOT_FOUND } else { exit::CONFIGURATION }, anyhow!(error))
    })?;
    let described = SessionDescription::parse(&octets)
        .map_err(|error| failed(exit::CONFIGURATION, anyhow!(error)))?;
    for odd in &described.odd {
        proto_cli::note!("session description {shown}: ignored: {odd}");
    }
    if described.channels.len() > 1 {
        let others = match described.channels.len() - 1 {
            1 => "1 more channel is".to_owned(),
            others => format!("{others} more channels are"),
        };
        proto_cli::note!("session description {shown}: {others} not received");
    }
    let all = described.declarations.iter().map(|declaration| declaration.encoding_id);
    for id in all.filter(|id| !fec::is_supported(*id)) {
        proto_cli::note!("session description {shown}: {}", unsupported(id));
    }
    let first = described.channels.first();
    let first = first.ok_or_else(|| failed(exit::CONFIGURATION, anyhow!("it has no channel")))?;
    let filter = Filter { source: described.source, tsi: Some(described.tsi), ..Filter::default() };
    Ok((SocketAddr::new(first.group, first.port), filter))
}

pub(super) fn run(arguments: &ListenArgs) -> Result<u8, Failure> {
    let report = listen::run(&arguments.options()?)
        .map_err(|error| Failure { code: code(&error), error: anyhow!(error) })?;
    if arguments.json {
        let json = serde_json::to_string(&report).expect("a report is plain data");
        print(format_args!("{json}\n"))?;
    } else {
        print(text(&report))?;
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

/// A line for each file, or a diagnosis if there is none.
fn text(report: &Report) -> String {
    let mut lines: Vec<_> = report.files.iter().map(line).collect();
    if report.files.is_empty() {
        let stats = &report.stats;
        lines.push(match (stats.datagrams, stats.fdt) {
            (0, _) => "no datagrams: check group, port, interface and source".to_owned(),
            (datagrams, 0) if stats.malformed == datagrams => {
                format!("{datagrams} datagrams, none of which is an ALC packet that can be read")
            }
            (datagrams, 0) => format!("{datagrams} datagrams, but no FDT that describes them"),
            (_, _) if stats.fdt_refused + stats.fdt_expired == 0 => {
                "no FDT instance that describes files came whole".to_owned()
            }
            (_, _) => format!(
                "no usable FDT ({} refused, {} expired)",
                stats.fdt_refused, stats.fdt_expired
            ),
        });
    }
    if report.stats.fdt_expired > 0 {
        let overdue = span(Duration::from_secs(report.stats.fdt_overdue_seconds));
        lines.push(format!(
            "file tables that had expired: {}, the last one {overdue} before it came; check the \
             clocks, or accept them by --accept-expired",
            report.stats.fdt_expired
        ));
    }
    lines.extend(report.oddities.iter().map(ToString::to_string));
    lines.extend(report.skipped_frames.iter().cloned());
    lines.extend(limits(report));
    lines.push("unsigned: the sender is not authenticated".to_owned());
    lines.join("\n") + "\n"
}

/// A line for each limit of all files that was reached.
fn limits(report: &Report) -> Vec<String> {
    let (stats, limits) = (&report.stats, Limits::default());
    let mut lines = Vec::new();
    if stats.entries_refused > 0 {
        lines.push(format!(
            "limit reached: the entries of a session may take {} octets, {} more were not taken",
            limits.entry_bytes, stats.entries_refused
        ));
    }
    if stats.sessions_evicted > 0 {
        lines.push(format!(
            "limit reached: {} sessions, {} octets of tables; {} sessions made room for others",
            limits.sessions, limits.table_bytes, stats.sessions_evicted
        ));
    }
    if stats.dropped > 0 {
        lines.push(format!(
            "limit reached: packets that wait may take {} octets, {} were dropped",
            limits.waiting_bytes, stats.dropped
        ));
    }
    if stats.undecided > 0 {
        lines.push(format!(
            "{} packets were not used: they waited for a description, and may be of another \
             content than the one that came",
            stats.undecided
        ));
    }
    lines
}

fn line(file: &UnsignedFile) -> String {
    let UnsignedFile { state, name, length, symbols_held, symbols_needed, .. } = file;
    let (done, blocks) = (file.blocks_done, file.blocks);
    let problem = file.problem.as_deref().map_or(String::new(), |why| format!("; {why}"));
    format!(
        "{state:<10} {name}  {length} octets, {symbols_held} of {symbols_needed} symbols, {done} of \
         {blocks} blocks{problem}"
    )
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_description_with_an_octet_that_is_not_utf_8_is_read() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(
            b"v=0\no=- 1 1 IN IP4 192.0.2.1\ns=M\xfcller\nt=0 0\na=flute-tsi:7\n\
              m=application 4000 FLUTE/UDP 0\nc=IN IP4 239.1.2.3/8\n",
        )
        .unwrap();
        let (channel, filter) = describe(file.path()).unwrap_or_else(|it| panic!("{:#}", it.error));
        assert_eq!(channel, "239.1.2.3:4000".parse().unwrap());
        assert_eq!(filter.tsi, Some(Tsi(7)));
    }
}
