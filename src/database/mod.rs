//! The database: where the counter lives, and all that is ever said to MySQL.
//!
//! `session` holds the only SQL of the hot path, `workers` the threads that run it, `schema` what
//! an operator does to the tables, `answers` what MySQL's answers mean, and `error` the one enum
//! in which all of them fail. The statements are files of their own in `sql/`. `local` starts a
//! private server.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::limits;
use crate::secret::SecretSource;

pub mod answers;
mod driver;
mod error;
mod identity;
pub mod local;
mod look;
pub mod schema;
pub mod session;
pub mod workers;

pub use crate::secret::Secret;
pub use driver::{check_ca, check_public_key};

/// Where the database is and who logs in to it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The server.
    pub host: Host,
    /// The user that logs in.
    pub username: String,
    /// The user's password.
    pub password: Password,
    /// The name of the database that holds the tables.
    pub name: String,
    /// How long a request waits for the database; the time-outs of a session derive from it.
    pub timeout: Duration,
    /// Whether connections are encrypted.
    pub tls: Tls,
    /// A PEM file with the server's RSA key, which encrypts the password on a connection that is
    /// not encrypted itself.
    pub public_key: Option<PathBuf>,
    /// What becomes of the counter when another server takes over.
    pub failover: Failover,
}

impl Settings {
    /// How long a job of a worker may take as a whole, connecting included; past it the worker is
    /// given up.
    pub fn job_timeout(&self) -> Duration {
        (self.timeout * 2).max(limits::DATABASE_IO_TIMEOUT_MIN)
    }
}

/// What becomes of the counter when another server takes over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Failover {
    /// It is closed until an operator has opened it there.
    #[default]
    Stop,
    /// It goes on there: for databases whose fail-over loses nothing.
    Continue,
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

/// The password of the MySQL user, and where a newer one may be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Password {
    /// It stays as it is; empty for none.
    Fixed(Secret),
    /// It is in a file, which is read again for every connection: such files are rotated.
    File {
        /// The file.
        path: PathBuf,
        /// What it held at the start, for moments in which it can't be read.
        at_start: Secret,
    },
}

impl Password {
    /// The password as it is now.
    pub fn read(&self) -> Secret {
        match self {
            Password::Fixed(secret) => secret.clone(),
            Password::File { path, at_start } => {
                let source = SecretSource::File(path.clone());
                source.read().unwrap_or_else(|_| at_start.clone())
            }
        }
    }
}

impl From<Secret> for Password {
    fn from(secret: Secret) -> Password {
        Password::Fixed(secret)
    }
}
