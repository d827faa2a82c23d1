//! Why a command of the image server ends without success, and with which exit code.

use std::{error::Error, fmt, io};

use proto::{trust::TrustError, wire::WireError};

/// The documented exit codes, besides 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The command line is wrong.
    Usage,
    /// A file or an option does not hold what it should.
    Configuration,
    /// The network refused.
    Network,
    /// A signature or a digest is not what it should be.
    Refused,
    /// A file or a campaign is not there.
    NotFound,
    /// It contradicts what is there already.
    Conflict,
    /// A rule said no: a window, an address, an expiry date.
    Policy,
    /// What was begun can be gone on with after room was made.
    Incomplete,
    /// Ended by the user.
    Interrupted,
}

/// Why a command failed: an exit code and a message that names the field.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    what: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Failure {
    /// Returns the exit code.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        self.exit
    }

    /// Wraps an input or output error with what was attempted; its kind chooses the exit code.
    #[must_use]
    pub fn io(what: impl Into<String>, error: io::Error) -> Self {
        use io::ErrorKind as Kind;
        let kind = error.kind();
        let exit = if kind == Kind::NotFound {
            Exit::NotFound
        } else if matches!(kind, Kind::AlreadyExists | Kind::AddrInUse) {
            Exit::Conflict
        } else if matches!(kind, Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge) {
            Exit::Incomplete
        } else {
            Exit::Configuration
        };
        Self { exit, what: what.into(), source: Some(Box::new(error)) }
    }

    /// Wraps a network error with what was attempted.
    #[must_use]
    pub fn network(what: impl Into<String>, error: io::Error) -> Self {
        let in_use = error.kind() == io::ErrorKind::AddrInUse;
        let exit = if in_use { Exit::Conflict } else { Exit::Network };
        Self { exit, what: what.into(), source: Some(Box::new(error)) }
    }

    /// Wraps the refusal of a document.
    #[must_use]
    pub fn trust(what: impl Into<String>, error: TrustError) -> Self {
        Self { exit: Exit::Refused, what: what.into(), source: Some(Box::new(error)) }
    }

    /// Wraps the refusal of a field.
    #[must_use]
    pub fn wire(exit: Exit, what: impl Into<String>, error: WireError) -> Self {
        Self { exit, what: what.into(), source: Some(Box::new(error)) }
    }
}

impl From<Exit> for u8 {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Usage => 2,
            Exit::Configuration => 3,
            Exit::Network => 4,
            Exit::Refused => 5,
            Exit::NotFound => 6,
            Exit::Conflict => 7,
            Exit::Policy => 8,
            Exit::Incomplete => 75,
            Exit::Interrupted => 130,
        }
    }
}

impl Exit {
    /// Returns a failure with this exit code and a message.
    #[must_use]
    pub fn because(self, what: impl Into<String>) -> Failure {
        Failure { exit: self, what: what.into(), source: None }
    }
}

/// The message with all its causes, as a person reads it after `carousel: `.
impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.what)?;
        let mut cause: Option<&(dyn Error + 'static)> =
            self.source.as_deref().map(|source| source as &(dyn Error + 'static));
        while let Some(error) = cause {
            write!(formatter, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_an_io_error_chooses_the_exit_code() {
        for (kind, exit) in [
            (io::ErrorKind::NotFound, Exit::NotFound),
            (io::ErrorKind::StorageFull, Exit::Incomplete),
            (io::ErrorKind::AddrInUse, Exit::Conflict),
            (io::ErrorKind::PermissionDenied, Exit::Configuration),
        ] {
            assert_eq!(Failure::io("x", kind.into()).exit(), exit);
        }
        assert_eq!(
            Failure::network("x", io::ErrorKind::AddrNotAvailable.into()).exit(),
            Exit::Network
        );
    }

    #[test]
    fn a_message_shows_every_cause() {
        let error = WireError::invalid("symbol_len", 63, "64 to 1408");
        let failure = Failure::trust("campaign X", TrustError::Malformed(error));
        assert_eq!(failure.to_string(), "campaign X: symbol_len is 63, expected 64 to 1408");
    }
}
