//! Addresses of devices for notifications, and gateways for short messages.

use std::{fmt, net::SocketAddr, str::FromStr};

use crate::app::{AppError, PlainHttp, check_url};

/// The address at which a device receives notifications.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `ADDR:PORT` or `udp://ADDR:PORT`: one datagram.
    Udp(SocketAddr),
    /// `http://…` or `https://…`: posted to the device.
    Http(String),
    /// `sms:+NUMBER`: a short message, over a gateway.
    Sms(Subscriber),
}

/// A telephone number: `+` and 3 to 15 digits, as E.164 has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscriber(String);

impl Subscriber {
    /// Returns the digits, without the plus sign.
    #[must_use]
    pub fn digits(&self) -> &str {
        self.0.trim_start_matches('+')
    }
}

impl fmt::Display for Subscriber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(to) => to.fmt(formatter),
            Self::Http(url) => url.fmt(formatter),
            Self::Sms(subscriber) => write!(formatter, "sms:{subscriber}"),
        }
    }
}

impl FromStr for Target {
    type Err = AppError;

    fn from_str(text: &str) -> Result<Self, AppError> {
        if let Some(number) = text.strip_prefix("sms:") {
            let digits = number.strip_prefix('+').unwrap_or_default();
            let digital = digits.bytes().all(|octet| octet.is_ascii_digit());
            return if digital && (3..=15).contains(&digits.len()) {
                Ok(Self::Sms(Subscriber(number.to_owned())))
            } else {
                Err(AppError::Usage(format!("{text:?} is no sms:+NUMBER of 3 to 15 digits")))
            };
        }
        if text.starts_with("http:") || text.starts_with("https:") {
            // The digest proves a notification, and nothing in it is secret.
            check_url(text, PlainHttp::Anywhere)?;
            return Ok(Self::Http(text.to_owned()));
        }
        let address = text.strip_prefix("udp://").unwrap_or(text);
        address.parse().map(Self::Udp).map_err(|_| {
            let forms = "ADDR:PORT, http(s)://… or sms:+NUMBER";
            AppError::Usage(format!("{text:?} is no address of a device: write {forms}"))
        })
    }
}

/// A gateway for short messages. Its secret is read from a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gateway {
    /// `http://…` or `https://…`: a JSON object is posted.
    Webhook(String),
    /// `smpp://SYSTEM_ID@HOST:PORT`: a message centre.
    #[cfg(feature = "smpp")]
    Smpp {
        /// System id of this server.
        system_id: String,
        /// Host and port.
        address: String,
    },
}

impl FromStr for Gateway {
    type Err = AppError;

    fn from_str(text: &str) -> Result<Self, AppError> {
        if let Some(address) = text.strip_prefix("smpp://") {
            return message_centre(text, address);
        }
        check_url(text, PlainHttp::LoopbackOnly)?;
        Ok(Self::Webhook(text.to_owned()))
    }
}

#[cfg(feature = "smpp")]
fn message_centre(url: &str, account: &str) -> Result<Gateway, AppError> {
    let invalid =
        || AppError::Usage(format!("{url:?} is no smpp://SYSTEM_ID@HOST:PORT (15 octets)"));
    let (system_id, address) = account.split_once('@').ok_or_else(invalid)?;
    let graphic = |text: &str| text.bytes().all(|octet| octet.is_ascii_graphic());
    let port = address.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
    if !graphic(account) || !(1..=15).contains(&system_id.len()) || !matches!(port, Some(Ok(_))) {
        return Err(invalid());
    }
    Ok(Gateway::Smpp { system_id: system_id.to_owned(), address: address.to_owned() })
}

#[cfg(not(feature = "smpp"))]
fn message_centre(url: &str, _: &str) -> Result<Gateway, AppError> {
    Err(AppError::Usage(format!(
        "cannot use {url:?}: this dm-bridge was built without the feature `smpp`; build it with \
         `--features smpp`, or name a gateway with http(s)://"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_an_address_names_the_transport() {
        let to = SocketAddr::from(([192, 0, 2, 1], 2948));
        for (text, target) in [
            ("192.0.2.1:2948", Target::Udp(to)),
            ("udp://192.0.2.1:2948", Target::Udp(to)),
            ("http://192.0.2.1/push", Target::Http("http://192.0.2.1/push".to_owned())),
            ("sms:+4915112345678", Target::Sms(Subscriber("+4915112345678".to_owned()))),
        ] {
            assert_eq!(text.parse::<Target>().unwrap(), target);
        }
        assert_eq!("sms:+491".parse::<Target>().unwrap().to_string(), "sms:+491");
        for wrong in
            ["", "192.0.2.1", "sms:0151", "sms:+12", "sms:+49151x", "ftp://x", "http://", "udp://x"]
        {
            assert_eq!(wrong.parse::<Target>().unwrap_err().exit_code(), 2, "{wrong}");
        }
    }

    #[cfg(feature = "smpp")]
    #[test]
    fn a_message_centre_is_named_by_its_account() {
        let smpp =
            Gateway::Smpp { system_id: "fumocast".to_owned(), address: "[::1]:2775".to_owned() };
        assert_eq!("smpp://fumocast@[::1]:2775".parse::<Gateway>().unwrap(), smpp);
    }

    #[cfg(not(feature = "smpp"))]
    #[test]
    fn a_message_centre_is_refused_with_the_name_of_the_feature() {
        let refused = "smpp://fumocast@[::1]:2775".parse::<Gateway>().unwrap_err();
        assert_eq!(refused.exit_code(), 2);
        assert!(refused.to_string().contains("--features smpp"), "{refused}");
    }

    #[test]
    fn a_gateway_is_a_webhook_or_a_message_centre() {
        assert!(matches!("https://sms.example.org/send".parse(), Ok(Gateway::Webhook(_))));
        for wrong in ["smpp://x", "smpp://@h:1", "smpp://sixteen-letters-@h:1", "smpp://x@h", "x"] {
            assert_eq!(wrong.parse::<Gateway>().unwrap_err().exit_code(), 2, "{wrong}");
        }
        let plain = "http://192.0.2.1/send".parse::<Gateway>().unwrap_err();
        assert_eq!(plain.exit_code(), 8, "its token would travel in the clear");
    }
}
