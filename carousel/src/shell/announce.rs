//! `announce`: the description of a session, printed and sent by SAP.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use clap::{Args, ValueEnum};
use proto::{
    crypto::random,
    ids::Tsi,
    sap::{self, Message, SapPacket},
    sdp::{self, FecDeclaration, Origin, SessionDescription},
    time::Utc,
};
use serde_json::json;
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
    time,
};

use super::{
    answer::print,
    clock,
    rate::rate,
    session_options::{FecName, ProfileName},
    udp::{self, GroupAndPort, SendOptions},
};
use crate::{
    error::{CliError, ExitCode},
    flute::pacing::Rate,
    window,
};

/// A session to describe, by the options that it is sent with.
#[derive(Debug, Clone, Args)]
pub struct AnnounceArgs {
    #[command(flatten)]
    /// Its channel.
    pub to: GroupAndPort,
    #[command(flatten)]
    /// Options of the sending socket.
    pub send_options: SendOptions,
    /// Session identifier, the same as for `send`
    #[arg(long)]
    pub tsi: u64,
    /// Bits of UDP payload per second, e.g. 20M
    #[arg(long, default_value = "20M", value_parser = rate)]
    pub rate: Rate,
    /// Form of the session on the wire
    #[arg(long, value_enum, default_value_t = ProfileName::Rfc6726)]
    pub profile: ProfileName,
    /// FEC scheme of the files [default: raptorq, with the profile mbms no-code]
    #[arg(long, value_enum)]
    pub fec: Option<FecName>,
    /// Start of the session: RFC 3339, now, +10m [default: it began]
    #[arg(long)]
    pub opens: Option<String>,
    /// End of the session: RFC 3339 or +2h [default: no end is planned]
    #[arg(long)]
    pub closes: Option<String>,
    /// Form of the output
    #[arg(long, value_enum, default_value_t = Format::Sdp)]
    pub format: Format,
    /// Announce it by SAP until it closes or a signal arrives, then withdraw it
    #[arg(long)]
    pub sap: bool,
    /// End after so many seconds (with --sap)
    #[arg(long, requires = "sap")]
    pub seconds: Option<u64>,
}

/// The form of a printed session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Session description, for `receiver listen --sdp` and other receivers
    Sdp,
    /// One JSON object
    Json,
}

/// The parameters that a receiver needs to join.
#[derive(Debug, Clone, Copy)]
pub struct SessionDescriptionParams {
    /// Group and port.
    pub group: SocketAddr,
    /// The sender.
    pub source: Ipv4Addr,
    /// Routers that packets may pass.
    pub hops: u8,
    /// TSI.
    pub tsi: Tsi,
    /// FEC scheme of the files.
    pub encoding_id: u8,
    /// Rate of UDP payload.
    pub rate: Rate,
    /// Planned start and end.
    pub times: (Option<Utc>, Option<Utc>),
    /// Version of the description; it rises with each change.
    pub version: u64,
}

impl SessionDescriptionParams {
    /// Writes the session description.
    ///
    /// # Errors
    ///
    /// [`CliError`] that names the field that a description cannot hold.
    pub fn sdp(&self) -> Result<String, CliError> {
        let source = IpAddr::V4(self.source);
        let version = self.version;
        let encoding_id = self.encoding_id;
        let description = SessionDescription {
            origin: Origin {
                user: "carousel".to_owned(),
                id: self.tsi.0,
                version,
                host: source.into(),
            },
            name: "plain files, unsigned".to_owned(),
            opens: self.times.0,
            closes: self.times.1,
            source: Some(source),
            tsi: self.tsi,
            declarations: vec![FecDeclaration { reference: 0, encoding_id, instance_id: None }],
            channels: vec![sdp::Channel {
                group: self.group.ip(),
                port: self.group.port(),
                ttl: Some(self.hops),
                kilobits_per_second: Some(self.kilobits_per_second()),
                fec: Some(0),
            }],
            odd: Vec::new(),
        };
        let wrong = |error| CliError::wire(ExitCode::Configuration, "session description", error);
        description.emit().map_err(wrong)
    }

    fn json(&self) -> String {
        let (opens, closes) = self.times;
        json!({
            "signed": false,
            "group": self.group.ip().to_string(),
            "port": self.group.port(),
            "source": self.source.to_string(),
            "tsi": self.tsi.0,
            "ttl": self.hops,
            "fec_encoding_id": self.encoding_id,
            "kilobits_per_second": self.kilobits_per_second(),
            "opens": opens.map(window::rfc3339),
            "closes": closes.map(window::rfc3339),
        })
        .to_string()
    }

    /// The rate counts UDP payload; headers of IP and UDP are 28 of 1,440 octets and more.
    fn kilobits_per_second(&self) -> u64 {
        (self.rate.bits_per_second() / 1000).saturating_mul(103).div_ceil(100)
    }
}

/// Prints the session, and announces it with `--sap`.
///
/// # Errors
///
/// [`CliError`] that names what was refused; [`ExitCode::Interrupted`] after a signal, when the
/// announcement is withdrawn as at any other end.
pub fn run(args: &AnnounceArgs) -> Result<(), CliError> {
    let params = params(args, clock::now().utc)?;
    let description = params.sdp()?;
    match args.format {
        Format::Sdp => print(&description)?,
        Format::Json => print(format_args!("{}\n", params.json()))?,
    }
    if !args.sap {
        return Ok(());
    }
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CliError::io("asynchronous runtime", error))?;
    runtime.block_on(announce(args, &params, &description))
}

fn params(args: &AnnounceArgs, now: Utc) -> Result<SessionDescriptionParams, CliError> {
    let max = args.profile.profile().max_tsi();
    if args.tsi == 0 || args.tsi > max.0 {
        let text = format!("--tsi: expected 1 to {} with this profile", max.0);
        return Err(ExitCode::Usage.with_message(text));
    }
    let moment = |option: &str, text: &Option<String>| {
        let moment = text.as_deref().map(|text| window::moment(now, text)).transpose();
        moment.map_err(|why| ExitCode::Usage.with_message(format!("{option}: {why}")))
    };
    let times = (moment("--opens", &args.opens)?, moment("--closes", &args.closes)?);
    window::check_window(now, ("--opens", times.0), ("--closes", times.1))
        .map_err(|why| ExitCode::Policy.with_message(why))?;
    let group = args.to.channel();
    udp::check_group(group)?;
    let SendOptions { interface, source, ttl, .. } = args.send_options;
    Ok(SessionDescriptionParams {
        group,
        source: udp::ipv4("source", source.unwrap_or(interface))?,
        hops: ttl,
        tsi: Tsi(args.tsi),
        encoding_id: args.profile.scheme(args.fec).encoding_id(),
        rate: args.rate,
        times,
        version: now.seconds(),
    })
}

/// Sends the announcement again and again, and at the end its withdrawal.
async fn announce(
    args: &AnnounceArgs,
    params: &SessionDescriptionParams,
    description: &str,
) -> Result<(), CliError> {
    let IpAddr::V4(session) = params.group.ip() else {
        return Err(ExitCode::Usage.with_message("group: IPv6 is not supported"));
    };
    let socket = udp::open(&udp::Channel {
        group: SocketAddr::from((sap::group(session), sap::PORT)),
        interface: udp::ipv4("interface", args.send_options.interface)?,
        source: params.source,
        hops: sap::TTL,
        dscp: args.send_options.dscp,
    })?;
    let send = |message| {
        let packet = packet(params, description, message)?;
        socket
            .send(&packet)
            .map_err(|error| CliError::network("sending an announcement", error))?;
        Ok(packet.len())
    };
    let signals = |kind| signal(kind).map_err(|error| CliError::io("signal handler", error));
    let mut interrupt = signals(SignalKind::interrupt())?;
    let mut terminate = signals(SignalKind::terminate())?;
    let left = params.times.1.map(|closes| closes.since(clock::now().utc));
    let asked = args.seconds.map(Duration::from_secs);
    let end = left.into_iter().chain(asked).min().unwrap_or(Duration::MAX);
    let end = time::sleep(end.min(LONGEST));
    tokio::pin!(end);
    let interrupted = loop {
        let octets = send(Message::Announce)?;
        let pause = sap::interval(octets, 1, u32::from_be_bytes(random()));
        tokio::select! {
            () = time::sleep(pause) => {}
            () = &mut end => break false,
            _ = interrupt.recv() => break true,
            _ = terminate.recv() => break true,
        }
    };
    // spec: rfc2974 4 (who announced a session withdraws it)
    send(Message::Delete)?;
    if interrupted {
        Err(ExitCode::Interrupted.with_message("interrupted; withdrawn"))
    } else {
        Ok(())
    }
}

fn packet(
    params: &SessionDescriptionParams,
    description: &str,
    message: Message,
) -> Result<Vec<u8>, CliError> {
    let packet = SapPacket {
        message,
        hash: sap::hash(description.as_bytes()),
        origin: params.source.into(),
        payload_type: sdp::MEDIA_TYPE,
        payload: description.as_bytes(),
    };
    let mut octets = Vec::new();
    let wrong = |error| CliError::wire(ExitCode::Configuration, "announcement", error);
    packet.emit(&mut octets).map_err(wrong)?;
    Ok(octets)
}

/// One year: practically unlimited, and within the range of a timer.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: AnnounceArgs,
    }

    fn args(more: &[&str]) -> AnnounceArgs {
        let line = ["announce", "--group=239.255.1.1", "--port=40100", "--interface=127.0.0.1"];
        Line::parse_from([&line[..], more].concat()).args
    }

    const NOW: Utc = Utc::from_seconds(1_800_000_000);

    #[test]
    fn a_description_holds_the_parameters_of_its_session() {
        let args = args(&["--tsi=7", "--profile=mbms", "--ttl=3", "--opens=now", "--closes=+1h"]);
        let params = params(&args, NOW).unwrap();
        let read = SessionDescription::parse(params.sdp().unwrap().as_bytes()).unwrap();
        let closes = NOW + Duration::from_secs(3600);
        assert_eq!((read.tsi, read.opens, read.closes), (Tsi(7), Some(NOW), Some(closes)));
        assert_eq!(read.declarations[0].encoding_id, 0);
        let channel = read.channels[0];
        assert_eq!((channel.ttl, channel.kilobits_per_second), (Some(3), Some(20_600)));
        let json: serde_json::Value = serde_json::from_str(&params.json()).unwrap();
        assert_eq!((&json["tsi"], &json["port"]), (&json!(7), &json!(40_100)));
    }

    #[test]
    fn an_announcement_and_its_withdrawal_name_the_same_description() {
        let params = params(&args(&["--tsi=7"]), NOW).unwrap();
        let description = params.sdp().unwrap();
        let octets = |message| packet(&params, &description, message).unwrap();
        let (announced, deleted) = (octets(Message::Announce), octets(Message::Delete));
        let (announced, deleted) =
            (SapPacket::parse(&announced).unwrap(), SapPacket::parse(&deleted).unwrap());
        assert_eq!((announced.hash, announced.payload), (deleted.hash, description.as_bytes()));
        assert_eq!((announced.message, deleted.message), (Message::Announce, Message::Delete));
    }

    #[test]
    fn parameters_that_no_session_can_have_are_refused() {
        for more in
            [&["--tsi=0"][..], &["--tsi=65536", "--profile=mbms"], &["--tsi=7", "--closes=x"]]
        {
            let error = params(&args(more), NOW).unwrap_err();
            assert_eq!(error.exit_code(), ExitCode::Usage, "{error}");
        }
    }

    #[test]
    fn a_session_that_closes_before_it_opens_or_has_closed_is_refused() {
        for (opens, closes, word) in [
            ("--opens=+2h", "--closes=+1h", "is not after"),
            ("--opens=+1h", "--closes=+1h", "is not after"),
            ("--opens=2027-01-01T00:00:00Z", "--closes=2027-01-02T00:00:00Z", "in the past"),
            ("--opens=now", "--closes=now", "in the past"),
        ] {
            let error = params(&args(&["--tsi=7", opens, closes]), NOW).unwrap_err();
            assert_eq!(error.exit_code(), ExitCode::Policy, "{error}");
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}
