//! `send`: plain files, unsigned, to any FLUTE receiver.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    net::IpAddr,
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
    announce::Described,
    answer::answer,
    capture::CaptureWriter,
    clock,
    coders::{FileSymbols, SentFile},
    files,
    progress::{Meter, Show, Unit},
    sender::{OnAir, Progress, Source},
    session_options::{FecName, FtiName, ProfileName},
    udp::{self, GroupAndPort, Leaving},
    watch::{self, Look},
};
use crate::{
    failure::{Exit, Failure},
    life::{Sent, Transmit},
    pacing::Rate,
    plain::{
        PlainFile, PlainPlace, PlainSession, PlainSetup,
        schedule::PlainSchedule,
        style::{self, FecWishes, FtiPlace, Profile, Scheme, Style},
        toi_of,
    },
};

/// Files of one session at most: as many as fit into one FDT instance everywhere.
const MAX_FILES: usize = 64;

/// The FDT takes a tenth of the air at most.
const FDT_SHARE: u32 = 10;
const ANNOUNCE_EVERY: Duration = Duration::from_millis(900);

/// FDT Instance IDs that are skipped at a restart.
const FDT_RESERVE: u32 = 8;

/// Octets of a kept place at most.
const MAX_STATE_OCTETS: u64 = 4096;

/// What to send.
#[derive(Debug, Clone, Args)]
pub struct SendOrder {
    /// Files to send; each is offered under its own name
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    /// Where to send.
    pub to: GroupAndPort,
    #[command(flatten)]
    /// How packets leave the machine.
    pub leaving: Leaving,
    /// Session identifier [default: the one in the state file, else a random one]
    #[arg(long)]
    pub tsi: Option<u64>,
    /// Bits of UDP payload in a second, e.g. 20M
    #[arg(long, default_value = "20M")]
    pub rate: Rate,
    /// What the session looks like on the wire
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
    /// Close after so many passes, or never: `endless`
    #[arg(long, value_name = "N|endless", default_value = "endless", value_parser = passes)]
    pub passes: Passes,
    /// Where receivers find the FEC parameters [default: both, with the profile mbms fdt]
    #[arg(long, value_enum)]
    pub fti: Option<FtiName>,
    /// Memory for repair symbols in MiB; with more, the coder has less to do
    #[arg(long, value_name = "MIB", default_value_t = 256,
          value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub memory: u32,
    /// Write the session's description, for `receiver listen --sdp`
    #[arg(long, value_name = "FILE")]
    pub sdp: Option<PathBuf>,
    /// Record all that is sent as a packet capture
    #[arg(long, value_name = "FILE")]
    pub pcap: Option<PathBuf>,
    /// Keep TSI and place in this file, and go on from it
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// Answer with one JSON object at the end
    #[arg(long)]
    pub json: bool,
}

/// When a session closes by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passes {
    /// Never.
    Endless,
    /// After so many passes.
    Count(u64),
}

fn passes(text: &str) -> Result<Passes, String> {
    if text == "endless" {
        return Ok(Passes::Endless);
    }
    let count = text.parse().ok().filter(|count| *count > 0);
    count.map(Passes::Count).ok_or_else(|| "expected a positive number or `endless`".to_owned())
}

impl SendOrder {
    fn profile(&self) -> Profile {
        self.profile.profile()
    }

    fn scheme(&self) -> Scheme {
        self.profile.scheme(self.fec)
    }

    /// Returns the style, or why the options contradict one another.
    fn style(&self) -> Result<Style, Failure> {
        let profile = self.profile();
        let fti = match self.fti {
            None => profile.usual_fti(),
            Some(FtiName::Packet) => FtiPlace::Packet,
            Some(FtiName::Fdt) => FtiPlace::Fdt,
            Some(FtiName::Both) => FtiPlace::Both,
        };
        if profile == Profile::Mbms && fti != FtiPlace::Fdt {
            let text = "--fti: the profile mbms has FEC parameters in the FDT alone";
            return Err(Exit::Usage.because(text));
        }
        if self.scheme() == Scheme::NoCode && self.repair > 0 {
            return Err(Exit::Usage.because("--repair: No-Code has no repair symbols"));
        }
        Ok(profile.style(fti))
    }
}

/// Sends files until the passes are through or the user ends it.
///
/// # Errors
///
/// [`Failure`] that names what was refused; [`Exit::Interrupted`] after a signal, when the place is
/// kept as at any other end.
pub fn run(order: &SendOrder) -> Result<(), Failure> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::io("asynchronous runtime", error))?;
    runtime.block_on(send(order))
}

async fn send(order: &SendOrder) -> Result<(), Failure> {
    let style = order.style()?;
    let channel = channel(order)?;
    let Offered { sent, plain, empty } = read_files(order, &style)?;
    let started = clock::now();
    let print = fingerprint(&channel, &style, order.repair, &plain, &empty);
    let kept = Kept::choose(order, print, started)?;
    let oti: Vec<_> = plain.iter().map(|file| file.oti).collect();
    let schedule = PlainSchedule::new(&oti, order.repair);
    let setup = PlainSetup {
        tsi: kept.tsi,
        style,
        schedule,
        place: kept.place,
        passes: match order.passes {
            Passes::Endless => None,
            Passes::Count(passes) => Some(passes),
        },
        announce_every: announce_every(order.rate, order.files.len()),
        files: plain,
        empty,
    };
    let socket = udp::open(&channel)?;
    let capture = capture(order, &channel, &socket)?;
    if let Some(path) = &order.sdp {
        let described = Described {
            group: channel.group,
            source: channel.source,
            hops: channel.hops,
            tsi: kept.tsi,
            encoding_id: order.scheme().encoding_id(),
            rate: order.rate,
            times: (None, None),
            version: started.utc.seconds(),
        };
        files::replace(path, described.sdp()?.as_bytes())?;
    }
    let session = PlainSession::new(started, setup);
    let source = Plain {
        session,
        symbols: FileSymbols::start(sent, u64::from(order.memory) << 20)?,
        capture,
    };
    introduce(order, &channel, kept.tsi);
    let keep = |progress: &Progress<PlainView>| kept.keep(order, progress.view.place);
    kept.keep(order, kept.place)?;
    let on_air = OnAir::start(source, socket, order.rate)?;
    let look = |progress: &Progress<PlainView>| Look {
        pass: progress.view.place.at.pass,
        position: progress.view.place.at.row,
        length: progress.view.rows,
        unit: "rows",
    };
    let show = if order.json { Show::Nothing } else { Show::Progress };
    let interrupted = watch::watch(&on_air, None, show, look, keep).await?;
    on_air.stop();
    let progress = on_air.join()?;
    keep(&progress)?;
    let span = clock::now().mono.since(started.mono);
    report(order, &channel, kept.tsi, &progress, span, interrupted);
    if interrupted {
        return Err(Exit::Interrupted.because("interrupted"));
    }
    Ok(())
}

/// A plain session with the files that it reads.
struct Plain {
    session: PlainSession,
    symbols: FileSymbols,
    capture: Option<CaptureWriter>,
}

/// Where a plain session is.
#[derive(Debug, Clone, Copy)]
struct PlainView {
    place: PlainPlace,
    rows: u64,
}

impl Source for Plain {
    type View = PlainView;

    fn poll_transmit(&mut self, now: Now, packet: &mut Vec<u8>) -> Result<Transmit, Failure> {
        let made = self.session.poll_transmit(now, &mut self.symbols, packet);
        let made = made.map_err(|error| Failure::io("a file that is being sent", error))?;
        if let Some(capture) = &mut self.capture {
            let written = match made {
                Transmit::Packet => capture.write(now.utc, packet),
                Transmit::Wait(_) => Ok(()),
                Transmit::Closed => capture.flush(),
            };
            written.map_err(|error| Failure::io("capture", error))?;
        }
        Ok(made)
    }

    fn close(&mut self) {
        self.session.close();
    }

    fn sent(&self) -> Sent {
        self.session.sent()
    }

    fn view(&self) -> PlainView {
        PlainView { place: self.session.place(), rows: self.session.rows_of_pass() }
    }
}

fn channel(order: &SendOrder) -> Result<udp::Channel, Failure> {
    let Leaving { interface, source, ttl, dscp } = order.leaving;
    let group = order.to.channel();
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
    order: &SendOrder,
    channel: &udp::Channel,
    socket: &udp::Sender,
) -> Result<Option<CaptureWriter>, Failure> {
    let Some(path) = &order.pcap else { return Ok(None) };
    let source = socket.local_address();
    let source = source.map_err(|error| Failure::network("address of the socket", error))?;
    CaptureWriter::create(path, source, channel.group, channel.hops).map(Some)
}

/// The files of a session.
#[derive(Default)]
struct Offered {
    sent: Vec<SentFile>,
    plain: Vec<PlainFile>,
    empty: Vec<FileEntry>,
}

/// Opens, measures and hashes the files.
fn read_files(order: &SendOrder, style: &Style) -> Result<Offered, Failure> {
    if order.files.len() > MAX_FILES {
        let found = order.files.len();
        return Err(Exit::Usage.because(format!("{found} files, at most {MAX_FILES} in a session")));
    }
    let wishes = FecWishes {
        scheme: order.scheme(),
        symbol_size: order.symbol_size,
        max_block_symbols: order.max_block_symbols,
    };
    let show = if order.json { Show::Nothing } else { Show::Progress };
    let mut offered = Offered::default();
    let mut names = BTreeSet::new();
    for (index, path) in order.files.iter().enumerate() {
        let location = location(path)?;
        if !names.insert(location.clone()) {
            let text = format!("{}: a file of that name is sent already", path.display());
            return Err(Exit::Usage.because(text));
        }
        let (file, length) = files::open_regular(path)?;
        if length == 0 {
            offered.empty.push(style.empty_entry(toi_of(index), &location));
            continue;
        }
        let about =
            |failure: Failure| failure.exit().because(format!("{}: {failure}", path.display()));
        let oti = style::oti_for(length, wishes, style).map_err(about)?;
        let meter = Meter::new(show, "hashing", length, Unit::Octets);
        let mut hasher = ContentMd5::new();
        files::for_each_piece(&file, length, |_, piece| {
            hasher.update(piece);
            meter.add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
            Ok(())
        })?;
        meter.finish();
        let entry = style.entry(toi_of(index), &location, oti, hasher.finish());
        offered.plain.push(PlainFile { entry, oti });
        offered.sent.push(SentFile { file, oti });
    }
    Ok(offered)
}

/// Returns the name under which a file is offered: its own, as a relative URI.
fn location(path: &Path) -> Result<String, Failure> {
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| {
        Exit::Usage.because(format!("{}: its name is no UTF-8 text", path.display()))
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

/// Returns how often the FDT goes: each 0.9 s, less often where it is long and the rate low.
fn announce_every(rate: Rate, files: usize) -> Duration {
    // An entry has some 400 octets.
    let octets = u64::try_from(files).unwrap_or(u64::MAX).saturating_mul(400) + 400;
    let bits = octets.saturating_mul(8 * 1000);
    let span = Duration::from_millis(bits / rate.bits_per_second());
    ANNOUNCE_EVERY.max(span * FDT_SHARE)
}

/// Returns what a TSI stands for: files, parameters, and the order that places count in.
fn fingerprint(
    channel: &udp::Channel,
    style: &Style,
    repair: u32,
    files: &[PlainFile],
    empty: &[FileEntry],
) -> Hash16 {
    let mut text = format!("{:?} {:?} {repair}\n", channel.source, style);
    for PlainFile { entry, oti } in files {
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

/// What is kept over restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    version: u32,
    tsi: Tsi,
    /// What the TSI stands for.
    #[serde(with = "hex")]
    fingerprint: Hash16,
    place: PlainPlace,
}

impl Kept {
    const VERSION: u32 = 1;

    /// Goes on with what the state file says, or begins.
    fn choose(order: &SendOrder, fingerprint: Hash16, now: Now) -> Result<Self, Failure> {
        let max = order.profile().max_tsi();
        if order.tsi.is_some_and(|tsi| tsi == 0 || tsi > max.0) {
            let text = format!("--tsi: expected 1 to {} with this profile", max.0);
            return Err(Exit::Usage.because(text));
        }
        let kept = order.state.as_deref().filter(|path| files::exists(path));
        let kept = kept.map(Self::read).transpose()?;
        if let Some(kept) = kept.filter(|kept| order.tsi.is_none_or(|tsi| tsi == kept.tsi.0)) {
            if kept.fingerprint == fingerprint {
                return Ok(kept);
            }
            // spec: rfc6726 3.3 (what a TOI stands for never changes within a session)
            if order.tsi.is_some() {
                let text = "--tsi: the state file has this TSI for other files or options, and a \
                            TSI stands for one set of files; name another one";
                return Err(Exit::Policy.because(text));
            }
        }
        // spec: rfc5651 5.1 (a random TSI is not that of a session before)
        let tsi = order.tsi.unwrap_or_else(|| super::air::random_tsi() % max.0 + 1);
        // A TSI that comes again without a state must not bring back an FDT Instance ID of its
        // last run: seconds do not, for twelve days.
        let seconds = u32::try_from(now.utc.seconds() % (1 << 20)).unwrap_or(0);
        let fdt_instance = order.tsi.map_or(0, |_| seconds);
        let place = PlainPlace { fdt_instance, ..PlainPlace::default() };
        Ok(Self { version: Self::VERSION, tsi: Tsi(tsi), fingerprint, place })
    }

    fn read(path: &Path) -> Result<Self, Failure> {
        let octets = files::read(path, MAX_STATE_OCTETS)?;
        let wrong = |text: String| {
            Exit::Configuration.because(format!("state file {}: {text}", path.display()))
        };
        let kept: Self =
            serde_json::from_slice(&octets).map_err(|error| wrong(error.to_string()))?;
        if kept.version == Self::VERSION {
            Ok(kept)
        } else {
            Err(wrong(format!("version {}, expected {}", kept.version, Self::VERSION)))
        }
    }

    fn keep(&self, order: &SendOrder, place: PlainPlace) -> Result<(), Failure> {
        let Some(path) = &order.state else { return Ok(()) };
        let fdt_instance = place.fdt_instance.wrapping_add(FDT_RESERVE);
        let kept = Self { place: PlainPlace { fdt_instance, ..place }, ..*self };
        files::replace(path, &serde_json::to_vec(&kept).expect("plain data"))
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

/// Says what a receiver needs, and what this is not.
fn introduce(order: &SendOrder, channel: &udp::Channel, tsi: Tsi) {
    if order.json {
        return;
    }
    let (group, source) = (channel.group, channel.source);
    eprintln!("unsigned: receivers cannot know who sent this; use packages for devices");
    eprintln!("on air: group {group}, source {source}, TSI {}, {} bit/s", tsi.0, order.rate);
    let interface = "ADDRESS";
    eprintln!(
        "receive with: receiver listen --group {} --port {} --source {source} --tsi {} \
         --interface {interface} --out DIR",
        group.ip(),
        group.port(),
        tsi.0,
    );
}

fn report(
    order: &SendOrder,
    channel: &udp::Channel,
    tsi: Tsi,
    progress: &Progress<PlainView>,
    span: Duration,
    interrupted: bool,
) {
    let sent = progress.sent;
    let source: IpAddr = channel.source.into();
    let value = json!({
        "outcome": if interrupted { "interrupted" } else { "closed" },
        "signed": false,
        "tsi": tsi.0,
        "source": source.to_string(),
        "group": channel.group.to_string(),
        "files": order.files.len(),
        "packets": sent.packets,
        "bytes": sent.octets,
        "symbols": sent.symbols,
        "pass": progress.view.place.at.pass,
        "row": progress.view.place.at.row,
        "refused_by_network": progress.refused,
        "seconds": (span.as_secs_f64() * 1000.0).round() / 1000.0,
    });
    answer(order.json, &value);
}

#[cfg(test)]
mod tests;
