//! Arguments of `dm-bridge bootstrap`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use proto::{
    dm::bootstrap::{SecKey, card::Confirmation, user_code::CodeKey},
    ids::DeviceId,
};

use super::common::DataDirArgs;
use crate::{
    app::{AppError, bootstrap::DocumentFormat},
    notification::target::{Gateway, Target},
};

/// Arguments of `dm-bridge bootstrap`.
#[derive(Debug, Args)]
pub struct BootstrapArgs {
    /// Device id
    pub id: DeviceId,
    /// Data directory.
    #[command(flatten)]
    pub data: DataDirArgs,
    /// Profile of the document
    #[arg(long, value_enum, default_value_t = Profile::Cp)]
    pub profile: Profile,
    /// File with the PIN for the MAC, given to the user by other means; with `--imsi` both are used
    #[arg(long, value_name = "FILE")]
    pub pin_file: Option<PathBuf>,
    /// Print a code of ten digits for the user instead of a MAC in the document (USERPINMAC, cp
    /// alone): nothing of it travels with the document, from which the PIN of a MAC can be guessed
    #[arg(long, conflicts_with_all = ["pin_file", "imsi"])]
    pub pin_mac: bool,
    /// IMSI of the subscriber for the MAC
    #[arg(long, value_name = "DIGITS")]
    pub imsi: Option<String>,
    /// ICCID of the smart card
    #[arg(long, value_name = "DIGITS")]
    pub card: Option<String>,
    /// Require confirmation by the user
    #[arg(long, requires = "card")]
    pub confirm: bool,
    /// Write the document to this file, mode 0600
    #[arg(long, short, value_name = "FILE", required_unless_present = "to")]
    pub out: Option<PathBuf>,
    /// Push the document to the device: ADDR:PORT (UDP), http(s)://… or sms:+NUMBER (in one or more
    /// short messages, cp alone)
    #[arg(long, value_name = "TARGET")]
    pub to: Option<Target>,
    /// Gateway for short messages: http(s)://… (JSON) or smpp://SYSTEM_ID@HOST:PORT (message
    /// centre)
    #[arg(long, value_name = "URL", requires = "to")]
    pub sms_gateway: Option<Gateway>,
    /// File with the gateway's token or password
    #[arg(long, value_name = "FILE", requires = "sms_gateway")]
    pub sms_gateway_secret_file: Option<PathBuf>,
}

/// The profile of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// Provisioning document (w7) as a push over WSP
    Cp,
    /// DM message that adds a DMAcc under ./Inbox
    Dm,
    /// Image of a file on a smart card
    SmartCard,
}

impl BootstrapArgs {
    /// Returns the format of the document; `pin` is the content of the file that holds the PIN, and
    /// `random` are the octets of the key of a code.
    ///
    /// # Errors
    ///
    /// [`AppError::Usage`] when an argument is missing, or two exclude each other.
    pub fn format(&self, pin: Option<String>, random: [u8; 8]) -> Result<DocumentFormat, AppError> {
        let usage = |text: &str| AppError::Usage(text.to_owned());
        if self.pin_mac && self.profile != Profile::Cp {
            return Err(usage("--pin-mac goes with --profile cp alone"));
        }
        if self.profile == Profile::SmartCard {
            if self.to.is_some() {
                return Err(usage("the image of a card cannot be pushed: write it with --out"));
            }
            let number = self.card.clone().ok_or_else(|| usage("a card needs --card ICCID"))?;
            let confirmation =
                if self.confirm { Confirmation::Wanted } else { Confirmation::NotWanted };
            return Ok(DocumentFormat::Card { number, confirmation });
        }
        let is_short = matches!(self.to, Some(Target::Sms(_)));
        if is_short && self.sms_gateway.is_none() {
            return Err(usage("a short message needs --sms-gateway URL"));
        }
        if self.profile == Profile::Dm && is_short {
            return Err(usage("short messages carry --profile cp alone"));
        }
        if self.pin_mac {
            return Ok(DocumentFormat::CpWithCode(CodeKey::from_random(random)));
        }
        let key = match (self.imsi.clone(), pin) {
            (_, Some(pin)) if pin.is_empty() => {
                return Err(usage("the file of --pin-file is empty"));
            }
            (Some(imsi), Some(pin)) => SecKey::NetworkAndPin(imsi, pin),
            (Some(imsi), None) => SecKey::Network(imsi),
            (None, Some(pin)) => SecKey::Pin(pin),
            (None, None) => {
                return Err(usage("the proof needs --pin-file, --imsi, both, or --pin-mac"));
            }
        };
        match self.profile {
            Profile::Dm => Ok(DocumentFormat::Dm(key)),
            Profile::Cp | Profile::SmartCard => Ok(DocumentFormat::Cp(key)),
        }
    }
}
