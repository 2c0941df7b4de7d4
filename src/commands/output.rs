//! Printing what a command found. A full disk is an error, a closed pipe is not.

use std::fmt;
use std::io::{self, StdoutLock, Write};

use tickr::patient::Patient;

use super::failure::Failure;

/// The exit code of a check whose problems have been printed.
pub(crate) fn no_problems(count: usize) -> Result<(), Failure> {
    match count {
        0 => Ok(()),
        1 => Err(Failure::Run("1 problem found".into())),
        count => Err(Failure::Run(format!("{count} problems found").into())),
    }
}

/// Where a command prints what it found or did.
pub(crate) fn stdout() -> Patient<StdoutLock<'static>> {
    Patient(io::stdout().lock())
}

/// Prints what a command found or did.
pub(crate) fn say(line: impl fmt::Display) -> Result<(), Failure> {
    printed(writeln!(stdout(), "{line}"))
}

/// A reader that has closed the pipe has seen enough, but on a full disk tickets would be lost
/// silently.
pub(crate) fn printed(written: io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Run(
            format!("cannot write output ({error}); the output is incomplete").into(),
        )),
        _ => Ok(()),
    }
}
