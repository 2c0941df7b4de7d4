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
        /// What came of each server, in the order in which they were tried.
        attempts: Vec<Attempt>,
    },
    /// A server calls the request itself wrong; the others were not asked.
    Refused {
        /// The server's URL.
        server: String,
        /// The HTTP status: 400, as for a batch over the server's maximum.
        status: u16,
        /// The server's explanation, fit to be shown; empty if there is none.
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
        /// The server's explanation, fit to be shown; empty if there is none.
        detail: String,
    },
    /// It answered with something that no Tickr answers.
    NotTickr {
        /// What is wrong with the answer.
        reason: String,
    },
    /// It issued tickets that it had issued before, or lower ones.
    OutOfOrder {
        /// The first of them.
        first: u64,
        /// A ticket that it had issued before.
        issued: u64,
    },
}

impl Failure {
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

/// A status, and the explanation if there is one.
struct Response<'a>(u16, &'a str);

impl fmt::Display for Response<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Response(status, "") => write!(f, "responded {status}"),
            Response(status, detail) => write!(f, "responded {status}: {detail}"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Unreachable { reason } => write!(f, "can't be reached ({reason})"),
            Failure::Lost { reason } => write!(f, "closed the connection early ({reason})"),
            Failure::TimedOut => write!(f, "did not answer in time"),
            Failure::Answered { status, detail } => write!(f, "{}", Response(*status, detail)),
            Failure::NotTickr { reason } => {
                write!(f, "did not respond like a Tickr server: {reason}")
            }
            Failure::OutOfOrder { first, issued } => write!(
                f,
                "issued {first} after {issued}, and tickets must not go backwards: its counter \
                 may have been set back, or several processes share this address"
            ),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::ServerCount => write!(
                f,
                "a client needs at least one server and takes at most {}",
                limits::CLIENT_SERVERS_MAX
            ),
            Error::Url(error) => write!(
                f,
                "invalid server URL: {error}; use http://HOST:PORT or unix:PATH"
            ),
            Error::NoTimeout => write!(f, "the client's timeout must be greater than zero"),
            Error::EmptyBatch => write!(f, "a batch must have at least one ticket"),
            Error::Unavailable { attempts } => {
                write!(f, "no server issued tickets; it is safe to retry:")?;
                for Attempt { server, failure } in attempts {
                    write!(f, "\n  {server} {failure}")?;
                }
                Ok(())
            }
            Error::Refused {
                server,
                status,
                detail,
            } => write!(f, "{server} {}", Response(*status, detail)),
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
