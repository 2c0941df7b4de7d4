//! The database: where the counter lives, and all that is ever said to MySQL.
//!
//! `session` holds the only SQL of the hot path, `workers` the threads that run it, `schema` what
//! an operator does to the tables, and `error` the one enum in which all of them fail. The
//! statements are files of their own in `sql/`. `local` starts a private server.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

mod error;
pub mod local;
pub mod schema;
mod session;
mod workers;

pub use crate::secret::Secret;
pub use error::DatabaseError;
pub use session::{Opened, Session, Warning};
pub use workers::{Job, Outcome, Reply, Workers};

/// Where the database is and who logs in to it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The server.
    pub host: Host,
    /// The user that logs in.
    pub username: String,
    /// The user's password; empty for none.
    pub password: Secret,
    /// The name of the database that holds the tables.
    pub name: String,
    /// How long a request waits for the database; the time-outs of a session derive from it.
    pub timeout: Duration,
    /// Whether connections are encrypted.
    pub tls: Tls,
}

/// The address of a MySQL server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A TCP port; every address of the host is tried.
    Tcp {
        /// A host name, or an IP address without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// The path of a Unix socket.
    Socket(PathBuf),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Host::Tcp { host, port } => write!(f, "{host}:{port}"),
            Host::Socket(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Encryption between Tickr and MySQL. A Unix socket is never encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Plain text.
    Off,
    /// Encrypted; the certificate is not looked at.
    Required,
    /// Encrypted, and the certificate must be valid for the host name.
    Verify {
        /// A PEM file of certificate authorities to trust beside those of the Web.
        ca: Option<PathBuf>,
    },
}

impl fmt::Display for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Tls::Off => "off",
            Tls::Required => "required",
            Tls::Verify { .. } => "verify",
        })
    }
}
