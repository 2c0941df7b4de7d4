//! Why a client has no ticket to give.

use std::error;
use std::fmt;
use std::io;

use super::url::InvalidUrl;
use crate::limits;

/// Why a [`Client`](super::Client) could not be made, or has no ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// No server was named, or more than [`limits::CLIENT_SERVERS_MAX`].
    ServerCount,
    /// The URL of a server can't be used.
    Url(InvalidUrl),
    /// The time-out is zero.
    NoTimeout,
    /// No ticket was asked for: a batch holds at least one.
    EmptyBatch,
    /// Every server was tried and none gave tickets; trying again later is safe.
    Unavailable {
        /// What each server came to, in the order in which they were tried.
        attempts: Vec<Attempt>,
    },
    /// A server has understood the request and refuses it; others were not asked, because they
    /// would refuse it as well.
    Refused {
        /// The server's URL.
        server: String,
        /// The HTTP status: 401 for a wrong password, 400 for a batch over the server's maximum.
        status: u16,
        /// The server's explanation.
        detail: String,
    },
}

/// What one server came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The server's URL.
    pub server: String,
    /// Why it gave no tickets.
    pub failure: Failure,
}

/// Why one server gave no answer that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection could be made.
    Unreachable {
        /// The operating system's words.
        reason: String,
    },
    /// The connection ended before the answer did.
    Lost {
        /// The operating system's words.
        reason: String,
    },
    /// The whole answer was not there in time.
    TimedOut,
    /// It answered with an error.
    Answered {
        /// The HTTP status.
        status: u16,
        /// The server's explanation.
        detail: String,
    },
    /// It answered with something that no Tickr answers.
    NotTickr {
        /// What is wrong with the answer.
        reason: String,
    },
}

impl Failure {
    /// The status and the explanation of an answer that is about the request and not about the
    /// server: asking another one would be in vain.
    pub(super) fn refusal(&self) -> Option<(u16, &str)> {
        match self {
            Failure::Answered { status, detail }
                if *status < 500 && !matches!(status, 408 | 429) =>
            {
                Some((*status, detail))
            }
            Failure::Answered { .. }
            | Failure::Unreachable { .. }
            | Failure::Lost { .. }
            | Failure::TimedOut
            | Failure::NotTickr { .. } => None,
        }
    }

    pub(super) fn not_tickr(reason: impl Into<String>) -> Failure {
        Failure::NotTickr {
            reason: reason.into(),
        }
    }

    /// A connection could not be made.
    pub(super) fn connecting(error: &io::Error) -> Failure {
        match is_timeout(error) {
            true => Failure::TimedOut,
            false => Failure::Unreachable {
                reason: error.to_string(),
            },
        }
    }

    /// A connection broke.
    pub(super) fn exchanging(error: &io::Error) -> Failure {
        match is_timeout(error) {
            true => Failure::TimedOut,
            false => Failure::Lost {
                reason: error.to_string(),
            },
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Unreachable { reason } => write!(f, "can't be reached ({reason})"),
            Failure::Lost { reason } => write!(f, "cut the connection ({reason})"),
            Failure::TimedOut => write!(f, "did not answer in time"),
            Failure::Answered { status, detail } => write!(f, "answered {status}: {detail}"),
            Failure::NotTickr { reason } => write!(f, "does not answer like Tickr: {reason}"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::ServerCount => write!(
                f,
                "a client needs the URL of a server, and takes at most {}",
                limits::CLIENT_SERVERS_MAX
            ),
            Error::Url(error) => write!(
                f,
                "the URL of a server can't be used: {error}; it should be http://HOST:PORT or \
                 unix:PATH"
            ),
            Error::NoTimeout => write!(f, "a client's time-out must be above zero"),
            Error::EmptyBatch => write!(f, "a batch of tickets holds at least one"),
            Error::Unavailable { attempts } => {
                write!(f, "no server gave tickets; it is safe to try again:")?;
                for Attempt { server, failure } in attempts {
                    write!(f, "\n  {server} {failure}")?;
                }
                Ok(())
            }
            Error::Refused {
                server,
                status,
                detail,
            } => write!(f, "{server} refuses the request ({status}): {detail}"),
        }
    }
}

impl error::Error for Error {}

impl From<InvalidUrl> for Error {
    fn from(error: InvalidUrl) -> Error {
        Error::Url(error)
    }
}

fn is_timeout(error: &io::Error) -> bool {
    // A blocking socket says `WouldBlock` when its time-out is over.
    matches!(
        error.kind(),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock
    )
}
