//! Exit codes of a run.

use std::{fmt, process::ExitCode};

/// Exit codes of the lab; those of the programs it calls are passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// All armed devices report success.
    Complete,
    /// The command line makes no sense.
    Usage,
    /// A part of the run could not be set up.
    Configuration,
    /// At least one armed device did not finish.
    Partial,
    /// A promise was broken: see [`crate::lab::verdict`].
    Breach,
    /// Ctrl-C, or the signal to terminate.
    Interrupted,
    /// A program of the product failed; its own code.
    Program(u8),
}

impl Exit {
    /// Returns the number.
    pub const fn code(self) -> u8 {
        match self {
            Self::Complete => 0,
            Self::Usage => 2,
            Self::Configuration => 3,
            Self::Partial => 9,
            Self::Breach => 70,
            Self::Interrupted => 130,
            Self::Program(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// A command of a program that the lab ran and that failed.
#[derive(Debug)]
pub struct CommandFailed {
    /// The command, as a person would type it.
    pub command: String,
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<u8>,
    /// The end of its output.
    pub said: String,
}

impl fmt::Display for CommandFailed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}` failed", self.command)?;
        match self.code {
            Some(code) => write!(formatter, " with exit code {code}")?,
            None => write!(formatter, ", ended by a signal")?,
        }
        write!(formatter, ": {}", self.said.trim())
    }
}

impl std::error::Error for CommandFailed {}

/// The exit for an error: the code of a program that failed, else [`Exit::Configuration`].
pub fn exit_of(error: &anyhow::Error) -> Exit {
    let code = error.downcast_ref::<CommandFailed>().and_then(|failed| failed.code);
    code.map_or(Exit::Configuration, Exit::Program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_of_a_program_that_failed_is_passed_on() {
        let failed =
            |code| CommandFailed { command: "carousel plan".into(), code, said: "".into() };
        assert_eq!(exit_of(&failed(Some(6)).into()).code(), 6);
        assert_eq!(exit_of(&failed(None).into()), Exit::Configuration);
        assert_eq!(exit_of(&anyhow::anyhow!("x")), Exit::Configuration);
        let error = anyhow::Error::from(failed(Some(5))).context("sign");
        assert_eq!(exit_of(&error).code(), 5);
    }
}
