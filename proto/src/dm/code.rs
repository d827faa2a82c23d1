//! Numbers and texts that SyncML defines: status codes, alert codes, formats.

use std::fmt;

/// The `Data` of a Status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StatusCode(pub u16);

macro_rules! codes {
    ($($(#[$docs:meta])* $name:ident = $value:literal;)*) => {
        $($(#[$docs])* pub const $name: Self = Self($value);)*
    };
}

/// Gives a number type constants with texts, and the list of them; with `as` and what it is called,
/// its decimal form too.
macro_rules! named_codes {
    ($type:ident as $what:literal { $($codes:tt)* }) => {
        named_codes! { $type { $($codes)* } }

        impl std::fmt::Display for $type {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(formatter)
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::wire::WireError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let wrong = |_| {
                    Self::Err::invalid($what, text, "a decimal number below 65536")
                };
                text.trim().parse().map(Self).map_err(wrong)
            }
        }
    };
    ($type:ident { $($name:ident = $value:literal, $text:literal;)* }) => {
        impl $type {
            $(
                #[doc = concat!($value, ": ", $text, ".")]
                pub const $name: Self = Self($value);
            )*

            /// All codes that have a name, in ascending order.
            pub const NAMED: &[Self] = &[$(Self::$name,)*];

            const fn own_text(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some($text),)*
                    _ => None,
                }
            }
        }
    };
}
pub(super) use named_codes;

impl StatusCode {
    codes! {
        /// Done. On the header: authenticated for this message alone.
        OK = 200;
        /// Accepted; the result follows later.
        ACCEPTED = 202;
        /// Authenticated for the whole DM session.
        AUTHENTICATED = 212;
        /// A part of a large object is buffered; send the next.
        CHUNK_ACCEPTED = 213;
        /// The user cancelled the prompt.
        CANCELLED = 214;
        /// Not executed, because an earlier command of the group did not succeed.
        NOT_EXECUTED = 215;
        /// Rolled back with its Atomic.
        ROLLED_BACK = 216;
        /// Nothing changed. On a question to the user: no.
        NOT_MODIFIED = 304;
        /// The request is malformed.
        BAD_REQUEST = 400;
        /// The credentials are wrong; a challenge is attached.
        INVALID_CREDENTIALS = 401;
        /// The target does not permit this at the moment.
        FORBIDDEN = 403;
        /// No such node.
        NOT_FOUND = 404;
        /// The node does not allow this command.
        NOT_ALLOWED = 405;
        /// An optional feature that this side lacks.
        NOT_SUPPORTED = 406;
        /// Credentials are missing; a challenge is attached.
        MISSING_CREDENTIALS = 407;
        /// The user did not answer in time.
        TIMED_OUT = 408;
        /// A large object has no size.
        SIZE_REQUIRED = 411;
        /// The command lacks a part.
        INCOMPLETE = 412;
        /// The entity is too large.
        TOO_LARGE = 413;
        /// The address is too long.
        URI_TOO_LONG = 414;
        /// An unknown media type, format or alert type.
        UNSUPPORTED_FORMAT = 415;
        /// The prompt to the user cannot be displayed.
        NOT_DISPLAYABLE = 416;
        /// Retry later; the RespURI may hold the time.
        RETRY_LATER = 417;
        /// The node exists.
        ALREADY_EXISTS = 418;
        /// No room.
        DEVICE_FULL = 420;
        /// The size does not match what was announced.
        SIZE_MISMATCH = 424;
        /// The access rights forbid it.
        PERMISSION_DENIED = 425;
        /// The command failed.
        FAILED = 500;
        /// An unknown command.
        NOT_IMPLEMENTED = 501;
        /// Overload or maintenance; the RespURI may hold the time to retry.
        UNAVAILABLE = 503;
        /// The version of the DTD is another one.
        DTD_VERSION = 505;
        /// Processing failed halfway.
        PROCESSING_ERROR = 506;
        /// The Atomic failed.
        ATOMIC_FAILED = 507;
        /// The server is broken for good; do not retry.
        SERVER_FAILURE = 511;
        /// The version of the protocol is another one; an item lists the supported ones.
        PROTOCOL_VERSION = 513;
        /// It was to be rolled back with its Atomic, and could not be.
        ROLL_BACK_FAILED = 516;
        /// The answers of the Atomic do not fit into one message.
        ATOMIC_TOO_LARGE = 517;
    }

    /// Returns whether the code reports success (2xx).
    #[must_use]
    pub const fn is_success(self) -> bool {
        self.0 >= 200 && self.0 < 300
    }

    /// Returns whether the code requires (other) credentials.
    #[must_use]
    pub const fn is_challenge(self) -> bool {
        matches!(self, Self::INVALID_CREDENTIALS | Self::MISSING_CREDENTIALS)
    }

    /// Returns whether the code requests a later retry.
    #[must_use]
    pub const fn is_retry_later(self) -> bool {
        matches!(self, Self::RETRY_LATER | Self::UNAVAILABLE)
    }
}

impl fmt::Display for StatusCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The `Data` of an Alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AlertCode(pub u16);

impl AlertCode {
    codes! {
        /// Show a text to the user.
        DISPLAY = 1100;
        /// Ask the user for yes or no.
        CONFIRM = 1101;
        /// Ask the user for a text.
        TEXT_INPUT = 1102;
        /// Ask the user for one of several choices.
        SINGLE_CHOICE = 1103;
        /// Ask the user for some of several choices.
        MULTIPLE_CHOICE = 1104;
        /// A DM session that a notification requested.
        SERVER_INITIATED = 1200;
        /// A DM session that the client began by itself.
        CLIENT_INITIATED = 1201;
        /// The next message, please.
        NEXT_MESSAGE = 1222;
        /// The DM session is aborted.
        SESSION_ABORT = 1223;
        /// An event of the client.
        CLIENT_EVENT = 1224;
        /// The end of a large object is missing.
        NO_END_OF_DATA = 1225;
        /// A generic alert; its items carry a type.
        GENERIC = 1226;
    }

    /// Returns whether the alert is a user interaction (1100..=1104).
    #[must_use]
    pub const fn is_user_interaction(self) -> bool {
        self.0 >= Self::DISPLAY.0 && self.0 <= Self::MULTIPLE_CHOICE.0
    }
}

impl fmt::Display for AlertCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The `Format` of a node or an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// Base64 text that stands for octets.
    B64,
    /// Octets.
    Bin,
    /// `true` or `false`.
    Bool,
    /// Text.
    Chr,
    /// A decimal integer.
    Int,
    /// An interior node.
    Node,
    /// Nothing.
    Null,
    /// An XML document.
    Xml,
    /// A date.
    Date,
    /// A time.
    Time,
    /// A floating-point number.
    Float,
    /// A word that the standard does not list; some clients write a media type here.
    Other(String),
}

impl Format {
    /// Returns the format that a word names.
    #[must_use]
    pub fn from_word(word: &str) -> Self {
        match word {
            "b64" => Self::B64,
            "bin" => Self::Bin,
            "bool" => Self::Bool,
            "chr" => Self::Chr,
            "int" => Self::Int,
            "node" => Self::Node,
            "null" => Self::Null,
            "xml" => Self::Xml,
            "date" => Self::Date,
            "time" => Self::Time,
            "float" => Self::Float,
            other => Self::Other(other.to_owned()),
        }
    }

    /// Returns the word on the wire.
    #[must_use]
    pub fn as_word(&self) -> &str {
        match self {
            Self::B64 => "b64",
            Self::Bin => "bin",
            Self::Bool => "bool",
            Self::Chr => "chr",
            Self::Int => "int",
            Self::Node => "node",
            Self::Null => "null",
            Self::Xml => "xml",
            Self::Date => "date",
            Self::Time => "time",
            Self::Float => "float",
            Self::Other(word) => word,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_reads_back_from_its_word() {
        for word in ["b64", "bin", "bool", "chr", "int", "node", "null", "xml", "date", "time"] {
            assert_eq!(Format::from_word(word).as_word(), word);
            assert!(!matches!(Format::from_word(word), Format::Other(_)), "{word}");
        }
        assert_eq!(Format::from_word("text/plain"), Format::Other("text/plain".to_owned()));
    }

    #[test]
    fn only_two_hundreds_are_success() {
        for (code, success) in [(199, false), (200, true), (299, true), (300, false), (0, false)] {
            assert_eq!(StatusCode(code).is_success(), success, "{code}");
        }
    }
}
