//! Errors of the commands of the image server, and their exit codes.

use std::{error::Error, fmt, io};

use proto::{trust::TrustError, wire::WireError};

/// The documented exit codes, besides 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitCode {
    /// The command line is wrong.
    Usage,
    /// A file or an option is invalid.
    Configuration,
    /// The network failed.
    Network,
    /// A signature or a digest is wrong.
    Refused,
    /// A file or a campaign does not exist.
    NotFound,
    /// A conflict with an existing file or session.
    Conflict,
    /// A rule forbids it: a window, an address, an expiry date.
    Policy,
    /// Incomplete, resumable once there is space.
    Incomplete,
    /// Ended by the user.
    Interrupted,
}

/// The error of a command: an exit code and a message that names the field.
#[derive(Debug)]
pub struct CliError {
    exit: ExitCode,
    what: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl CliError {
    /// Returns the exit code.
    #[must_use]
    pub const fn exit_code(&self) -> ExitCode {
        self.exit
    }

    /// Wraps an input or output error with what was attempted; its kind chooses the exit code.
    #[must_use]
    pub fn io(what: impl Into<String>, error: io::Error) -> Self {
        use io::ErrorKind as Kind;
        let kind = error.kind();
        let exit = if kind == Kind::NotFound {
            ExitCode::NotFound
        } else if matches!(kind, Kind::AlreadyExists | Kind::AddrInUse) {
            ExitCode::Conflict
        } else if matches!(kind, Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge) {
            ExitCode::Incomplete
        } else {
            ExitCode::Configuration
        };
        Self { exit, what: what.into(), source: Some(Box::new(error)) }
    }

    /// Wraps a network error with what was attempted.
    #[must_use]
    pub fn network(what: impl Into<String>, error: io::Error) -> Self {
        let in_use = error.kind() == io::ErrorKind::AddrInUse;
        let exit = if in_use { ExitCode::Conflict } else { ExitCode::Network };
        Self { exit, what: what.into(), source: Some(Box::new(error)) }
    }

    /// Wraps the rejection of a document.
    #[must_use]
    pub fn trust(what: impl Into<String>, error: TrustError) -> Self {
        Self { exit: ExitCode::Refused, what: what.into(), source: Some(Box::new(error)) }
    }

    /// Wraps the rejection of a field.
    #[must_use]
    pub fn wire(exit: ExitCode, what: impl Into<String>, error: WireError) -> Self {
        Self { exit, what: what.into(), source: Some(Box::new(error)) }
    }
}

impl From<ExitCode> for u8 {
    fn from(exit: ExitCode) -> Self {
        match exit {
            ExitCode::Usage => 2,
            ExitCode::Configuration => 3,
            ExitCode::Network => 4,
            ExitCode::Refused => 5,
            ExitCode::NotFound => 6,
            ExitCode::Conflict => 7,
            ExitCode::Policy => 8,
            ExitCode::Incomplete => 75,
            ExitCode::Interrupted => 130,
        }
    }
}

impl ExitCode {
    /// Returns an error with this exit code and a message.
    #[must_use]
    pub fn with_message(self, what: impl Into<String>) -> CliError {
        CliError { exit: self, what: what.into(), source: None }
    }
}

/// The message with all its causes, as a person reads it after `carousel: `.
impl fmt::Display for CliError {
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
            (io::ErrorKind::NotFound, ExitCode::NotFound),
            (io::ErrorKind::StorageFull, ExitCode::Incomplete),
            (io::ErrorKind::AddrInUse, ExitCode::Conflict),
            (io::ErrorKind::PermissionDenied, ExitCode::Configuration),
        ] {
            assert_eq!(CliError::io("x", kind.into()).exit_code(), exit);
        }
        assert_eq!(
            CliError::network("x", io::ErrorKind::AddrNotAvailable.into()).exit_code(),
            ExitCode::Network
        );
    }

    #[test]
    fn a_message_shows_every_cause() {
        let error = WireError::invalid("symbol_len", 63, "64 to 1408");
        let error = CliError::trust("campaign X", TrustError::Malformed(error));
        assert_eq!(error.to_string(), "campaign X: symbol_len is 63, expected 64 to 1408");
    }
}
