//! `dm-bridge bootstrap`: what it is told.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use proto::{
    dm::bootstrap::{SecKey, card::Confirmation},
    ids::DeviceId,
};

use super::common::DataArg;
use crate::{
    app::{AppError, bootstrap::Form},
    notify::target::{Gateway, Target},
};

/// A document to write.
#[derive(Debug, Args)]
pub struct BootstrapArgs {
    /// Device id.
    pub id: DeviceId,
    /// Where.
    #[command(flatten)]
    pub data: DataArg,
    /// What the document is.
    #[arg(long, value_enum, default_value_t = Profile::Cp)]
    pub profile: Profile,
    /// The PIN that the proof is made with, told to the user on another way; with `--imsi` both.
    #[arg(long, value_name = "DIGITS")]
    pub pin: Option<String>,
    /// Makes the proof with the first half of the PIN, which has ten digits or more: USERPINMAC,
    /// cp alone.
    #[arg(long, requires = "pin", conflicts_with = "imsi")]
    pub pin_mac: bool,
    /// The subscriber's number (IMSI) that the proof is made with.
    #[arg(long, value_name = "DIGITS")]
    pub imsi: Option<String>,
    /// The smart card's number (ICCID).
    #[arg(long, value_name = "DIGITS")]
    pub card: Option<String>,
    /// The card asks for the user's confirmation.
    #[arg(long, requires = "card")]
    pub confirm: bool,
    /// Writes the document here, mode 0600.
    #[arg(long, short, value_name = "FILE", required_unless_present = "to")]
    pub out: Option<PathBuf>,
    /// Pushes the document to where the device takes notifications: ADDR:PORT (UDP), http(s)://…, or
    /// sms:+NUMBER: as many short messages as it takes, cp alone.
    #[arg(long, value_name = "TARGET")]
    pub to: Option<Target>,
    /// What sends short messages: http(s)://… takes JSON, smpp://SYSTEM_ID@HOST:PORT is a message
    /// centre.
    #[arg(long, value_name = "URL", requires = "to")]
    pub sms_gateway: Option<Gateway>,
    /// File with the gateway's token or password.
    #[arg(long, value_name = "FILE", requires = "sms_gateway")]
    pub sms_gateway_secret_file: Option<PathBuf>,
}

/// What a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// A provisioning document (w7) as a push over WSP.
    Cp,
    /// A DM message that adds a DMAcc under ./Inbox.
    Dm,
    /// The image of a smart card's file.
    SmartCard,
}

impl BootstrapArgs {
    /// Returns what the document is to be.
    ///
    /// # Errors
    ///
    /// [`AppError::Usage`] when something is missing, or does not go together.
    pub fn form(&self) -> Result<Form, AppError> {
        let usage = |text: &str| AppError::Usage(text.to_owned());
        if self.profile == Profile::SmartCard {
            if self.to.is_some() {
                return Err(usage("the image of a card is not pushed: write it with --out"));
            }
            let number = self.card.clone().ok_or_else(|| usage("a card needs --card ICCID"))?;
            let wanted = self.confirm;
            let confirmation = if wanted { Confirmation::Wanted } else { Confirmation::NotWanted };
            return Ok(Form::Card { number, confirmation });
        }
        let key = match (self.imsi.clone(), self.pin.clone()) {
            (Some(imsi), Some(pin)) => SecKey::NetworkAndPin(imsi, pin),
            (Some(imsi), None) => SecKey::Network(imsi),
            (None, Some(pin)) if self.pin_mac => SecKey::PinMac(pin),
            (None, Some(pin)) => SecKey::Pin(pin),
            (None, None) => return Err(usage("the proof needs --pin, --imsi, or both")),
        };
        let is_short = matches!(self.to, Some(Target::Sms(_)));
        if is_short && self.sms_gateway.is_none() {
            return Err(usage("a short message needs --sms-gateway URL"));
        }
        match self.profile {
            Profile::Dm if is_short => Err(usage("short messages carry --profile cp alone")),
            Profile::Dm if self.pin_mac => Err(usage("--pin-mac goes with --profile cp alone")),
            Profile::Dm => Ok(Form::Dm(key)),
            Profile::Cp | Profile::SmartCard => Ok(Form::Cp(key)),
        }
    }
}
