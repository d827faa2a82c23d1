//! The command line.

use std::{fmt, path::PathBuf, str::FromStr};

use clap::Parser;
use proto::dm::encoding::Encoding;

/// Patch a fleet of device processes by one transmission, on this machine
///
/// The lab makes keys, signs a package, plans and signs a campaign, starts the image server
/// (carousel), the management server (dm-bridge) and the devices (receiver), arms the devices over
/// OMA DM, broadcasts on loopback multicast with the given loss, and prints the result of each
/// device. It needs no privileges.
///
/// Exit codes: 0 all devices are done, 2 usage, 9 some are not, 70 a promise was broken (anything
/// unverified stored or handed off, anything stored by a device that was not armed), 130
/// interrupted; the code of a program that fails while the run is set up.
#[derive(Debug, Clone, Parser)]
#[command(name = "lab", version)]
pub struct Options {
    /// File to send as the firmware image
    #[arg(long, value_name = "FILE", conflicts_with = "size")]
    pub image: Option<PathBuf>,
    /// Size of the generated image: octets, or with KiB, MiB, KB, MB
    #[arg(long, value_name = "BYTES", default_value = "16MiB")]
    pub size: ByteSize,
    /// Number of armed devices
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=250))]
    pub devices: u16,
    /// Number of devices that are enrolled and receive everything, but are not armed
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(..=250))]
    pub unarmed: u16,
    /// Share of the datagrams that each device loses
    #[arg(long, value_name = "PERCENT", default_value = "10")]
    pub loss: Percent,
    /// Rate on air, in bits per second, or with k, M, G
    #[arg(long, value_name = "BITS", default_value = "40M")]
    pub rate: BitRate,
    /// Number of devices that are killed (SIGKILL) half-way and started again
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub kills: u16,
    /// Forged packets on the channel for each true one
    #[arg(long, value_name = "RATIO", default_value = "0")]
    pub forge: Ratio,
    /// Stop the management server while the window is open, start it again afterwards
    #[arg(long)]
    pub bridge_down: bool,
    /// Use all of device management: --encoding wbxml, --notify, --suspend, --consent and
    /// --report-spread 5
    #[arg(long)]
    pub full: bool,
    /// Encoding of the DM messages: xml or wbxml
    #[arg(long, value_name = "FORM", default_value_t)]
    pub encoding: Encoding,
    /// Arm the devices in sessions that the server requests by notifications (package 0)
    #[arg(long)]
    pub notify: bool,
    /// Suspend each armed device once, by a voice call, and resume it
    #[arg(long)]
    pub suspend: bool,
    /// Ask each armed device's user for consent at enrolment
    #[arg(long)]
    pub consent: bool,
    /// Seconds over which the devices spread their reports
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub report_spread: u32,
    /// Seed of an earlier run, to repeat it
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Folder for all files of the run; not removed [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Print one JSON object as the last line
    #[arg(long)]
    pub json: bool,
}

impl Options {
    /// Checks the options against each other.
    ///
    /// # Errors
    ///
    /// The message for the user.
    pub fn check(&self) -> Result<(), String> {
        if self.kills > self.devices {
            return Err(format!("--kills {} of --devices {}", self.kills, self.devices));
        }
        Ok(())
    }

    /// Sets the options that `--full` stands for.
    #[must_use]
    pub fn resolved(mut self) -> Self {
        if self.full {
            self.encoding = Encoding::Wbxml;
            (self.notify, self.suspend, self.consent) = (true, true, true);
            self.report_spread = self.report_spread.max(5);
        }
        self
    }

    /// Returns the loss that the plan's tables are made for: that of the lab, with a margin.
    pub fn loss_budget(&self) -> u32 {
        let drawn = (self.loss.0.ceil().clamp(0.0, 100.0)).to_string();
        drawn.parse::<u32>().map_or(MAX_LOSS_BUDGET, |drawn| drawn + 10).clamp(30, MAX_LOSS_BUDGET)
    }
}

/// Largest loss budget of the planner.
const MAX_LOSS_BUDGET: u32 = 90;

/// Octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteSize(pub u64);

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let size = proto_cli::units::size(text).map_err(|error| error.to_string())?;
        if size == 0 { Err("an empty image cannot be sent".into()) } else { Ok(Self(size)) }
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            size if size >= 10 << 20 => write!(formatter, "{} MiB", size >> 20),
            size if size >= 10 << 10 => write!(formatter, "{} KiB", size >> 10),
            size => write!(formatter, "{size} octets"),
        }
    }
}

/// Bits per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BitRate(pub u64);

impl FromStr for BitRate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rate = proto_cli::units::rate(text).map_err(|error| error.to_string())?;
        if rate < 10_000 { Err("10k at least".into()) } else { Ok(Self(rate)) }
    }
}

/// 0 to 90.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Percent(pub f64);

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_suffix('%').unwrap_or(text).parse::<f64>().ok();
        number
            .filter(|percent| (0.0..=90.0).contains(percent))
            .map(Self)
            .ok_or_else(|| "a percentage from 0 to 90".into())
    }
}

/// 0 to 1,000, fractions allowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio(pub f64);

impl FromStr for Ratio {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.parse::<f64>().ok();
        number
            .filter(|ratio| (0.0..=1000.0).contains(ratio))
            .map(Self)
            .ok_or_else(|| "forged packets for each true one, 0 to 1000".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, clap::Error> {
        Options::try_parse_from(std::iter::once("lab").chain(line.split_whitespace()))
    }

    #[test]
    fn the_defaults_are_those_that_the_readme_names() {
        let options = parse("").unwrap();
        assert_eq!(options.size, ByteSize(16 << 20));
        assert_eq!((options.devices, options.unarmed, options.kills), (8, 1, 0));
        assert_eq!(options.loss, Percent(10.0));
        assert_eq!(options.rate, BitRate(40_000_000));
        assert_eq!(options.forge, Ratio(0.0));
        assert!(!options.bridge_down && !options.json);
    }

    #[test]
    fn a_full_run_is_all_of_its_parts() {
        let options = parse("--full").unwrap().resolved();
        assert_eq!((options.encoding, options.report_spread), (Encoding::Wbxml, 5));
        assert!(options.notify && options.suspend && options.consent);
        let options = parse("").unwrap().resolved();
        assert_eq!((options.encoding, options.report_spread), (Encoding::Xml, 0));
        assert!(!options.notify && !options.suspend && !options.consent);
    }

    #[test]
    fn sizes_and_rates_are_read_with_their_units() {
        assert_eq!("60MB".parse(), Ok(ByteSize(60_000_000)));
        assert_eq!("4MiB".parse(), Ok(ByteSize(4 << 20)));
        assert_eq!("7".parse(), Ok(ByteSize(7)));
        assert_eq!("100M".parse(), Ok(BitRate(100_000_000)));
        assert_eq!("1.5MiB".parse(), Ok(ByteSize(3 << 19)));
        for wrong in ["", "MiB", "-1", "0", "0.3KiB", "99999999999GiB", "20 Mbit/s"] {
            assert!(wrong.parse::<ByteSize>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "--devices 0",
            "--loss 91",
            "--loss x",
            "--forge -1",
            "--forge nan",
            "--rate 1",
            "--image a --size 1",
            "--size 0",
            "--no-such-flag",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        assert!(parse("--devices 2 --kills 3").unwrap().check().is_err());
        assert!(parse("--devices 3 --kills 3").unwrap().check().is_ok());
    }

    #[test]
    fn the_loss_budget_has_room_above_the_loss() {
        for (line, budget) in [
            ("--loss 0", 30),
            ("--loss 20", 30),
            ("--loss 30", 40),
            ("--loss 30.5", 41),
            ("--loss 90", 90),
        ] {
            assert_eq!(parse(line).unwrap().loss_budget(), budget, "{line}");
        }
    }
}
