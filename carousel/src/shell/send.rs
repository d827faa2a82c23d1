//! `send`: unsigned files to any FLUTE receiver.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    net::IpAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use proto::{
    crypto::{Hash16, h16},
    flute::{content_md5::ContentMd5, ext::ExtensionWriter, fdt::FileEntry},
    ids::Tsi,
    time::Now,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::runtime;

use super::{
    announce::SessionDescriptionParams,
    answer::answer,
    capture::CaptureWriter,
    clock, files,
    progress::{ProgressMeter, ProgressOutput, Unit},
    rate::rate,
    repair_encoder::{FileSymbols, SentFile},
    sender::{OnAir, Progress, Source},
    session_options::{FecName, FtiName, OrderName, ProfileName},
    udp::{self, GroupAndPort, SendOptions},
    watch::{self, ProgressView},
};
use crate::{
    error::{CliError, ExitCode},
    flute::{
        lifecycle::{Sent, Transmit},
        pacing::Rate,
    },
    unsigned::{
        UnsignedFile, UnsignedResumePoint, UnsignedSession, UnsignedSetup,
        schedule::{SendOrder, UnsignedSchedule},
        toi_of,
        wire_profile::{self, FecOptions, FtiLocation, Profile, Scheme, WireProfile},
    },
};

/// Files of one session at most: as many as fit into one FDT instance everywhere.
const MAX_FILES: usize = 64;

/// The FDT uses a tenth of the rate at most.
const FDT_SHARE: u32 = 10;
const ANNOUNCE_EVERY: Duration = Duration::from_millis(900);

/// FDT Instance IDs that are skipped at a restart.
const FDT_RESERVE: u32 = 8;

/// Octets of a state file at most.
const MAX_STATE_BYTES: u64 = 4096;

/// The files to send, and the options of their session.
#[derive(Debug, Clone, Args)]
pub struct SendArgs {
    /// Files to send; each is offered under its own name
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    /// The channel.
    pub to: GroupAndPort,
    #[command(flatten)]
    /// Options of the sending socket.
    pub send_options: SendOptions,
    /// Session identifier [default: the one in the state file, else a random one]
    #[arg(long)]
    pub tsi: Option<u64>,
    /// Bits of UDP payload per second, e.g. 20M
    #[arg(long, default_value = "20M", value_parser = rate)]
    pub rate: Rate,
    /// Form of the session on the wire
    #[arg(long, value_enum, default_value_t = ProfileName::Rfc6726)]
    pub profile: ProfileName,
    /// FEC scheme of the files [default: raptorq, with the profile mbms no-code]
    #[arg(long, value_enum)]
    pub fec: Option<FecName>,
    /// Octets of a symbol
    #[arg(long, default_value_t = 1408)]
    pub symbol_size: u16,
    /// Largest source block in symbols; a receiver needs memory for one block
    #[arg(long, value_name = "K", default_value_t = 8192)]
    pub max_block_symbols: u32,
    /// Repair symbols in the first pass, in percent of the source symbols; later passes consist of
    /// fresh repair symbols alone
    #[arg(long, value_name = "PERCENT", default_value_t = 0,
          value_parser = clap::value_parser!(u32).range(..=1000))]
    pub repair: u32,
    /// Order of the symbols in a pass [default: rows, with the profile mbms blocks]
    #[arg(long, value_enum)]
    pub order: Option<OrderName>,
    /// Close after so many passes, or never: `endless`
    #[arg(long, value_name = "N|endless", default_value = "endless", value_parser = passes)]
    pub passes: Passes,
    /// Location of the FEC parameters [default: both, with the profile mbms fdt]
    #[arg(long, value_enum)]
    pub fti: Option<FtiName>,
    /// Memory for repair symbols in MiB; with more, the encoder has less to do
    #[arg(long, value_name = "MIB", default_value_t = 256,
          value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub memory: u32,
    /// Write the session's description, for `receiver listen --sdp`
    #[arg(long, value_name = "FILE")]
    pub sdp: Option<PathBuf>,
    /// Write a packet capture of all sent packets
    #[arg(long, value_name = "FILE")]
    pub pcap: Option<PathBuf>,
    /// Store TSI and position in this file, and resume from it
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// Print one JSON object at the end
    #[arg(long)]
    pub json: bool,
}

/// The number of passes after which a session closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passes {
    /// No limit.
    Endless,
    /// This many passes.
    Count(u64),
}

fn passes(text: &str) -> Result<Passes, String> {
    if text == "endless" {
        return Ok(Passes::Endless);
    }
    let count = text.parse().ok().filter(|count| *count > 0);
    count.map(Passes::Count).ok_or_else(|| "expected a positive number or `endless`".to_owned())
}

impl SendArgs {
    fn profile(&self) -> Profile {
        self.profile.profile()
    }

    fn order(&self) -> SendOrder {
        match self.order {
            None => self.profile().default_order(),
            Some(OrderName::Rows) => SendOrder::Rows,
            Some(OrderName::Blocks) => SendOrder::Blocks,
        }
    }

    fn scheme(&self) -> Scheme {
        self.profile.scheme(self.fec)
    }

    /// Returns the wire profile, or an error when the options contradict one another.
    fn wire_profile(&self) -> Result<WireProfile, CliError> {
        let profile = self.profile();
        let fti = match self.fti {
            None => profile.default_fti(),
            Some(FtiName::Packet) => FtiLocation::Packet,
            Some(FtiName::Fdt) => FtiLocation::Fdt,
            Some(FtiName::Both) => FtiLocation::Both,
        };
        if profile == Profile::Mbms && fti != FtiLocation::Fdt {
            let text = "--fti: the profile mbms has FEC parameters in the FDT alone";
            return Err(ExitCode::Usage.with_message(text));
        }
        if self.scheme() == Scheme::NoCode && self.repair > 0 {
            return Err(ExitCode::Usage.with_message("--repair: No-Code has no repair symbols"));
        }
        Ok(profile.wire_profile(fti))
    }
}

/// Sends files until the passes are complete or the user ends it.
///
/// # Errors
///
/// [`CliError`] that names what was refused; [`ExitCode::Interrupted`] after a signal, when the
/// resume point is saved as at any other end.
pub fn run(args: &SendArgs) -> Result<(), CliError> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CliError::io("asynchronous runtime", error))?;
    runtime.block_on(send(args))
}

async fn send(args: &SendArgs) -> Result<(), CliError> {
    let wire_profile = args.wire_profile()?;
    let channel = channel(args)?;
    let started = clock::now();
    let state = SavedState::load(args)?;
    let first_toi = state.map_or_else(|| first_toi(args, started), |state| state.first_toi);
    let Offered { sent, files, empty } = read_files(args, &wire_profile, first_toi)?;
    let print = fingerprint(&channel, &wire_profile, args, &files, &empty);
    let fresh = |tsi| SavedState::new(args, tsi, print, first_toi, started);
    let saved = SavedState::choose(args, state, print, fresh)?;
    let oti: Vec<_> = files.iter().map(|file| file.oti).collect();
    let schedule = UnsignedSchedule::new(&oti, args.repair, args.order());
    let setup = UnsignedSetup {
        tsi: saved.tsi,
        wire_profile,
        schedule,
        resume_point: saved.resume_point,
        passes: match args.passes {
            Passes::Endless => None,
            Passes::Count(passes) => Some(passes),
        },
        announce_every: announce_every(args.rate, args.files.len()),
        files,
        empty,
    };
    let socket = udp::open(&channel)?;
    let capture = capture(args, &channel, &socket)?;
    if let Some(path) = &args.sdp {
        let params = SessionDescriptionParams {
            group: channel.group,
            source: channel.source,
            hops: channel.hops,
            tsi: saved.tsi,
            encoding_id: args.scheme().encoding_id(),
            rate: args.rate,
            times: (None, None),
            version: started.utc.seconds(),
        };
        files::replace(path, params.sdp()?.as_bytes())?;
    }
    let session = UnsignedSession::new(started, setup);
    let source = UnsignedSource {
        session,
        symbols: FileSymbols::start(sent, u64::from(args.memory) << 20)?,
        capture,
    };
    print_session(args, &channel, saved.tsi);
    let save = |progress: &Progress<UnsignedView>| saved.save(args, progress.view.resume_point);
    saved.save(args, saved.resume_point)?;
    let on_air = OnAir::start(source, socket, args.rate)?;
    let view = |progress: &Progress<UnsignedView>| ProgressView {
        pass: progress.view.resume_point.at.pass,
        position: progress.view.resume_point.at.row,
        length: progress.view.rows,
        unit: "rows",
    };
    let output = if args.json { ProgressOutput::Hidden } else { ProgressOutput::Shown };
    let interrupted = watch::report_progress(&on_air, None, output, view, save).await?;
    on_air.stop();
    let progress = on_air.join()?;
    save(&progress)?;
    let span = clock::now().mono.since(started.mono);
    report(args, &channel, saved.tsi, &progress, span, interrupted)?;
    if interrupted {
        return Err(ExitCode::Interrupted.with_message("interrupted"));
    }
    Ok(())
}

/// An unsigned session with the files that it reads.
struct UnsignedSource {
    session: UnsignedSession,
    symbols: FileSymbols,
    capture: Option<CaptureWriter>,
}

/// The state of an unsigned session.
#[derive(Debug, Clone, Copy)]
struct UnsignedView {
    resume_point: UnsignedResumePoint,
    rows: u64,
}

impl Source for UnsignedSource {
    type View = UnsignedView;

    fn poll_transmit(&mut self, now: Now, packet: &mut Vec<u8>) -> Result<Transmit, CliError> {
        let made = self.session.poll_transmit(now, &mut self.symbols, packet);
        let made = made.map_err(|error| CliError::io("a file that is being sent", error))?;
        if let Some(capture) = &mut self.capture {
            let written = match made {
                Transmit::Packet => capture.write(now.utc, packet),
                Transmit::Wait(_) => Ok(()),
                Transmit::Closed => capture.flush(),
            };
            written.map_err(|error| CliError::io("capture", error))?;
        }
        Ok(made)
    }

    fn close(&mut self) {
        self.session.close();
    }

    fn sent(&self) -> Sent {
        self.session.sent()
    }

    fn view(&self) -> UnsignedView {
        UnsignedView {
            resume_point: self.session.resume_point(),
            rows: self.session.rows_of_pass(),
        }
    }
}

fn channel(args: &SendArgs) -> Result<udp::Channel, CliError> {
    let SendOptions { interface, source, ttl, dscp } = args.send_options;
    let group = args.to.channel();
    udp::check_group(group)?;
    Ok(udp::Channel {
        group,
        interface: udp::ipv4("interface", interface)?,
        source: udp::ipv4("source", source.unwrap_or(interface))?,
        hops: ttl,
        dscp,
    })
}

fn capture(
    args: &SendArgs,
    channel: &udp::Channel,
    socket: &udp::Sender,
) -> Result<Option<CaptureWriter>, CliError> {
    let Some(path) = &args.pcap else { return Ok(None) };
    let source = socket.local_address();
    let source = source.map_err(|error| CliError::network("address of the socket", error))?;
    CaptureWriter::create(path, source, channel.group, channel.hops).map(Some)
}

/// The files of a session.
#[derive(Default)]
struct Offered {
    sent: Vec<SentFile>,
    files: Vec<UnsignedFile>,
    empty: Vec<FileEntry>,
}

/// Opens, measures and hashes the files.
fn read_files(
    args: &SendArgs,
    wire_profile: &WireProfile,
    first_toi: NonZeroU32,
) -> Result<Offered, CliError> {
    if args.files.len() > MAX_FILES {
        let found = args.files.len();
        return Err(ExitCode::Usage
            .with_message(format!("{found} files, at most {MAX_FILES} in a session")));
    }
    let options = FecOptions {
        scheme: args.scheme(),
        symbol_size: args.symbol_size,
        max_block_symbols: args.max_block_symbols,
    };
    let output = if args.json { ProgressOutput::Hidden } else { ProgressOutput::Shown };
    let mut offered = Offered::default();
    let mut names = BTreeSet::new();
    for (index, path) in args.files.iter().enumerate() {
        let location = location(path)?;
        if !names.insert(location.clone()) {
            let text = format!("{}: a file of that name is sent already", path.display());
            return Err(ExitCode::Usage.with_message(text));
        }
        let (file, length) = files::open_regular(path)?;
        if length == 0 {
            offered.empty.push(wire_profile.empty_entry(toi_of(first_toi, index), &location));
            continue;
        }
        let about = |error: CliError| {
            error.exit_code().with_message(format!("{}: {error}", path.display()))
        };
        let oti = wire_profile::oti_for(length, options, wire_profile).map_err(about)?;
        let meter = ProgressMeter::new(output, "hashing", length, Unit::Octets);
        let mut hasher = ContentMd5::new();
        files::for_each_chunk(&file, length, |_, piece| {
            hasher.update(piece);
            meter.add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
            Ok(())
        })?;
        meter.finish();
        let entry = wire_profile.entry(toi_of(first_toi, index), &location, oti, hasher.finish());
        offered.files.push(UnsignedFile { entry, oti });
        offered.sent.push(SentFile { file, oti });
    }
    Ok(offered)
}

/// Returns the name under which a file is offered: its own, as a relative URI.
fn location(path: &Path) -> Result<String, CliError> {
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| {
        ExitCode::Usage.with_message(format!("{}: its name is no UTF-8 text", path.display()))
    })?;
    let mut location = String::new();
    for octet in name.bytes() {
        if octet.is_ascii_alphanumeric() || b"-._~+@=".contains(&octet) {
            location.push(octet.into());
        } else {
            write!(location, "%{octet:02X}").expect("a string takes all text");
        }
    }
    Ok(location)
}

/// Returns the interval of the FDT: 0.9 s, longer where the FDT is long and the rate low.
fn announce_every(rate: Rate, files: usize) -> Duration {
    // An entry has some 400 octets.
    let octets = u64::try_from(files).unwrap_or(u64::MAX).saturating_mul(400) + 400;
    let bits = octets.saturating_mul(8 * 1000);
    let span = Duration::from_millis(bits / rate.bits_per_second());
    ANNOUNCE_EVERY.max(span * FDT_SHARE)
}

/// Returns the hash of what a TSI identifies: files, parameters, and the order of rows.
fn fingerprint(
    channel: &udp::Channel,
    wire_profile: &WireProfile,
    args: &SendArgs,
    files: &[UnsignedFile],
    empty: &[FileEntry],
) -> Hash16 {
    let order = match args.order() {
        // As it was written before there were two orders.
        SendOrder::Rows => "",
        SendOrder::Blocks => " blocks",
    };
    let (source, repair) = (channel.source, args.repair);
    let mut text = format!("{source:?} {} {repair}{order}\n", wire_profile.fingerprint());
    for UnsignedFile { entry, oti } in files {
        let mut fti = Vec::new();
        ExtensionWriter::new(&mut fti).fti(oti);
        let md5 = entry.content_md5;
        writeln!(text, "{} {md5:?} {fti:?}", entry.content_location).expect("a string takes it");
    }
    for entry in empty {
        writeln!(text, "{} {}", entry.content_location, entry.toi.0).expect("a string takes it");
    }
    h16(&[b"fcsend2", text.as_bytes()])
}

/// The content of a state file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct SavedState {
    version: u32,
    tsi: Tsi,
    /// Hash of what the TSI identifies.
    #[serde(with = "hex")]
    fingerprint: Hash16,
    /// TOI of the first file.
    #[serde(default = "one")]
    first_toi: NonZeroU32,
    #[serde(rename = "place")]
    resume_point: UnsignedResumePoint,
}

const fn one() -> NonZeroU32 {
    NonZeroU32::MIN
}

/// Ticks of the clock by which runs without a state differ, in a second: no two runs of a person or a
/// script start within one.
const TICKS: u64 = 16;

fn ticks(now: Now) -> u64 {
    now.utc.0.wrapping_mul(TICKS) / 1_000
}

/// Returns the TOI of the first file of a session that begins. A TSI that is used again without a
/// state must not repeat a TOI of its last run for other content: the TOIs of a second are its own,
/// for two years, with 16 bits for 17 minutes.
// spec: rfc6726 3.3
fn first_toi(args: &SendArgs, now: Now) -> NonZeroU32 {
    let room = u64::try_from(MAX_FILES).unwrap_or(u64::MAX);
    let max = args.profile().max_tsi().0 - room;
    let first = args.tsi.map_or(0, |_| (ticks(now) % max).wrapping_mul(room) % max);
    NonZeroU32::MIN.saturating_add(u32::try_from(first).unwrap_or_default())
}

impl SavedState {
    const VERSION: u32 = 1;

    /// Returns the content of the state file, if there is one.
    fn load(args: &SendArgs) -> Result<Option<Self>, CliError> {
        let max = args.profile().max_tsi();
        if args.tsi.is_some_and(|tsi| tsi == 0 || tsi > max.0) {
            let text = format!("--tsi: expected 1 to {} with this profile", max.0);
            return Err(ExitCode::Usage.with_message(text));
        }
        args.state.as_deref().filter(|path| files::exists(path)).map(Self::read).transpose()
    }

    /// Resumes from the state file, or starts with what `fresh` makes of the TSI.
    fn choose(
        args: &SendArgs,
        saved: Option<Self>,
        fingerprint: Hash16,
        fresh: impl FnOnce(Tsi) -> Self,
    ) -> Result<Self, CliError> {
        if let Some(saved) = saved.filter(|saved| args.tsi.is_none_or(|tsi| tsi == saved.tsi.0)) {
            if saved.fingerprint == fingerprint {
                return Ok(saved);
            }
            // spec: rfc6726 3.3 (the object of a TOI never changes within a session)
            if args.tsi.is_some() {
                let text = "--tsi: the state file has this TSI for other files or options, and a \
                            TSI stands for one set of files; name another one";
                return Err(ExitCode::Policy.with_message(text));
            }
        }
        let max = args.profile().max_tsi();
        // spec: rfc5651 5.1 (a random TSI is not that of a session before)
        let tsi = args.tsi.unwrap_or_else(|| super::air::random_tsi() % max.0 + 1);
        Ok(fresh(Tsi(tsi)))
    }

    fn new(
        args: &SendArgs,
        tsi: Tsi,
        fingerprint: Hash16,
        first_toi: NonZeroU32,
        now: Now,
    ) -> Self {
        // A TSI that is used again without a state must not repeat an FDT Instance ID of its last
        // run: ticks do not, for eighteen hours.
        let started = u32::try_from(ticks(now) % (1 << 20)).unwrap_or(0);
        let fdt_instance = args.tsi.map_or(0, |_| started);
        let resume_point = UnsignedResumePoint { fdt_instance, ..UnsignedResumePoint::default() };
        Self { version: Self::VERSION, tsi, fingerprint, first_toi, resume_point }
    }

    fn read(path: &Path) -> Result<Self, CliError> {
        let octets = files::read(path, MAX_STATE_BYTES)?;
        let wrong = |text: String| {
            ExitCode::Configuration.with_message(format!("state file {}: {text}", path.display()))
        };
        let saved: Self =
            serde_json::from_slice(&octets).map_err(|error| wrong(error.to_string()))?;
        if saved.version == Self::VERSION {
            Ok(saved)
        } else {
            Err(wrong(format!("version {}, expected {}", saved.version, Self::VERSION)))
        }
    }

    fn save(&self, args: &SendArgs, resume_point: UnsignedResumePoint) -> Result<(), CliError> {
        let Some(path) = &args.state else { return Ok(()) };
        let fdt_instance = resume_point.fdt_instance.wrapping_add(FDT_RESERVE);
        let saved =
            Self { resume_point: UnsignedResumePoint { fdt_instance, ..resume_point }, ..*self };
        files::replace(path, &serde_json::to_vec(&saved).expect("plain data"))
    }
}

/// A hash as hex digits.
mod hex {
    use proto::crypto::Hash16;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(hash: &Hash16, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(hash)
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Hash16, D::Error> {
        let text = String::deserialize(from)?;
        Hash16::from_hex(&text).ok_or_else(|| D::Error::custom("32 hex digits are expected"))
    }
}

/// Prints the parameters of the session, and that it is unsigned.
fn print_session(args: &SendArgs, channel: &udp::Channel, tsi: Tsi) {
    if args.json {
        return;
    }
    let (group, source) = (channel.group, channel.source);
    proto_cli::note!("unsigned: receivers cannot know who sent this; use packages for devices");
    proto_cli::note!("on air: group {group}, source {source}, TSI {}, {} bit/s", tsi.0, args.rate);
    let interface = "ADDRESS";
    proto_cli::note!(
        "receive with: receiver listen --group {} --port {} --source {source} --tsi {} \
         --interface {interface} --out DIR",
        group.ip(),
        group.port(),
        tsi.0,
    );
}

fn report(
    args: &SendArgs,
    channel: &udp::Channel,
    tsi: Tsi,
    progress: &Progress<UnsignedView>,
    span: Duration,
    interrupted: bool,
) -> Result<(), CliError> {
    let sent = progress.sent;
    let source: IpAddr = channel.source.into();
    let value = json!({
        "outcome": if interrupted { "interrupted" } else { "closed" },
        "signed": false,
        "tsi": tsi.0,
        "source": source.to_string(),
        "group": channel.group.to_string(),
        "files": args.files.len(),
        "packets": sent.packets,
        "bytes": sent.octets,
        "symbols": sent.symbols,
        "pass": progress.view.resume_point.at.pass,
        "row": progress.view.resume_point.at.row,
        "refused_by_network": progress.refused,
        "seconds": (span.as_secs_f64() * 1000.0).round() / 1000.0,
    });
    answer(args.json, &value)
}

#[cfg(test)]
mod tests;
