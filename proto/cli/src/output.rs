//! Text for the user on standard output and standard error.
//!
//! The macros of the standard library panic once the reader of a pipe is gone. A reader may leave
//! at any time, as in `carousel campaign inspect FILE | head -1`: the command then does its work to
//! the end, and its exit code is that of the work.

use std::{
    fmt::{Arguments, Display},
    io::{self, Write as _},
};

/// Writes text to standard output and flushes it. Without a reader the text is dropped.
///
/// # Errors
///
/// Any other error of standard output, such as a full disk.
pub fn print(text: impl Display) -> io::Result<()> {
    let text = text.to_string();
    let mut out = io::stdout().lock();
    without_reader(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// Writes text and a line end as [`print()`] does.
///
/// # Errors
///
/// As [`print()`].
pub fn print_line(text: impl Display) -> io::Result<()> {
    print(format_args!("{text}\n"))
}

/// Writes a formatted line to standard error, as [`output::note`](note()) does.
#[macro_export]
macro_rules! note {
    ($($text:tt)*) => { $crate::output::note(format_args!($($text)*)) };
}

/// Writes a line to standard error. There is no other place to report that this failed.
pub fn note(line: Arguments<'_>) {
    let text = format!("{line}\n");
    drop(io::stderr().lock().write_all(text.as_bytes()));
}

/// Returns the result of writing to standard output; a reader that is gone is no error.
///
/// # Errors
///
/// Any other error.
pub fn without_reader(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_reader_that_is_gone_is_no_error() {
        assert!(without_reader(Ok(())).is_ok());
        assert!(without_reader(Err(io::ErrorKind::BrokenPipe.into())).is_ok());
        let full = without_reader(Err(io::ErrorKind::StorageFull.into()));
        assert_eq!(full.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
