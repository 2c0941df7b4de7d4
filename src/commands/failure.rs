//! Why a command fails, and the exit code that says so.

use std::error::Error;
use std::fmt;
use std::io;
use std::process::ExitCode;

use tickr::client;
use tickr::database::local::LocalError;
use tickr::fault::Fault;
use tickr::server::ServeError;
use tickr::socket::BindError;

/// Why the program ends with an error.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It cannot work as it was asked for: exit code 2.
    Usage(Box<dyn Error>),
    /// It failed while it ran: exit code 1.
    Run(Box<dyn Error>),
}

impl Failure {
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Failure::Usage(_) => ExitCode::from(2),
            Failure::Run(_) => ExitCode::FAILURE,
        }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Failure {
        match fault.is_usage() {
            true => Failure::Usage(fault.into()),
            false => Failure::Run(fault.into()),
        }
    }
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Failure {
        match error {
            ServeError::Database(error) => error.into(),
            ServeError::Io(error) => error.into(),
        }
    }
}

impl From<BindError> for Failure {
    fn from(error: BindError) -> Failure {
        Failure::Run(error.into())
    }
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Failure {
        Failure::Run(error.into())
    }
}

impl From<LocalError> for Failure {
    fn from(error: LocalError) -> Failure {
        Failure::Run(error.into())
    }
}

/// Of what no command can do without: sockets, threads, signals. The system's own words do not say
/// what to do about them.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Run(match error.raw_os_error() {
            None => error.into(),
            Some(_) => format!(
                "the operating system refused what this command needs ({error}); raise the limits \
                 of open files (ulimit -n, LimitNOFILE), processes and memory, and start it again"
            )
            .into(),
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(error) | Failure::Run(error) => error.fmt(f),
        }
    }
}
