//! Every setting, each in one place: its flag, variable, help and default, and what is valid. The
//! parser, the help and the errors all follow from that row, so they cannot disagree.

use std::ffi::OsStr;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap_complete::Shell;

use self::kind::{Choice, Variable, has_control, text_of, wrong};
use self::kind::{choice, custom, integer, list, parsed, password, path, readable, seconds};
use self::kind::{switch, text};
use crate::client::ServerUrl;
use crate::database::Failover;
use crate::http::array;
use crate::limits;
use crate::logging::{self, Filter};
use crate::secret::Secret;
use crate::socket::Address;

mod kind;

pub(crate) use kind::shown;
pub use kind::{Absent, Form, Row, Setting};

// Database

pub(crate) const DATABASE_HOST: Setting<String> = text(
    "database-host",
    "HOST",
    "MySQL host or socket path",
    "host name, IP address, or absolute path of a Unix socket (the port is set separately)",
    |host| host.starts_with('/') || is_ip(host) || is_host_name(host),
)
.such_as("localhost");
pub(crate) const DATABASE_PORT: Setting<u16> = integer(
    "database-port",
    "MySQL TCP port; not used with a Unix socket",
    1..=u16::MAX as u64,
)
.takes("PORT")
.or("3306");
pub(crate) const DATABASE_USERNAME: Setting<String> = text(
    "database-username",
    "NAME",
    "MySQL user name",
    "text without control characters",
    |name| !has_control(name),
)
.such_as("tickr");
pub(crate) const DATABASE_PASSWORD: Setting<Secret> = password(
    "database-password",
    "MySQL password; other users of this machine can see it when given as a flag",
    "UTF-8 text",
    |_| true,
);
pub(crate) const DATABASE_PASSWORD_FILE: Setting<PathBuf> = path(
    "database-password-file",
    "Read the MySQL password from this file instead, without one trailing newline",
    "path of a readable file, at most 4096 bytes of UTF-8",
)
.optional()
.secret();
pub(crate) const DATABASE_NAME: Setting<String> = text(
    "database-name",
    "NAME",
    "Database name",
    "1 to 64 characters, no control characters, no trailing space",
    |name| {
        name.chars().count() <= limits::DATABASE_NAME_CHARS_MAX
            && !has_control(name)
            && !name.ends_with(' ')
    },
)
.such_as("tickr");
pub(crate) const DATABASE_TLS: Setting<TlsMode> = choice(
    "database-tls",
    "MODE",
    "Encryption of MySQL connections: off (plain text: anyone on the network path can read or \
     alter tickets), required (encrypted, certificate not verified) or verify (certificate \
     and host name verified); over a Unix socket only off",
)
.or("off");
pub(crate) const DATABASE_TLS_CA: Setting<PathBuf> = readable(
    "database-tls-ca",
    "Additional CA certificates to trust, besides the public CAs; requires the TLS mode verify",
    "path of a readable PEM file",
);
pub(crate) const DATABASE_PUBLIC_KEY: Setting<PathBuf> = readable(
    "database-public-key",
    "MySQL's RSA public key, to log in with caching_sha2_password over TCP without TLS",
    "path of a readable PEM file",
);
pub(crate) const FAILOVER: Setting<Failover> = choice(
    "failover",
    "POLICY",
    "After a failover to another MySQL server: stop until an operator runs `tickr db advance`, or \
     continue; continue is only safe if the new server has every commit of the old one and the \
     old one no longer accepts writes",
)
.or("stop");
pub(crate) const DATABASE_POOL_SIZE: Setting<usize> = integer(
    "database-pool-size",
    "Database connections, one thread each",
    1..=limits::POOL_SIZE_MAX as u64,
)
.or("5");
pub(crate) const DATABASE_POOL_TIMEOUT: Setting<Duration> = seconds(
    "database-pool-timeout",
    "How long a request waits for the database before it gets a 503",
    limits::POOL_TIMEOUT_MIN..=limits::POOL_TIMEOUT_MAX,
)
.or("1");

// Numbering

pub(crate) const MAX_NODES: Setting<u64> = integer(
    "max-nodes",
    "Maximum number of nodes in the cluster; also the increment between one node's tickets",
    1..=u64::MAX,
)
.such_as("4");
pub(crate) const STARTING_OFFSET: Setting<u64> = integer(
    "starting-offset",
    "First ID to issue; with the node number added, it must fit in 64 bits",
    0..=u64::MAX,
)
.takes("ID")
.such_as("1");
pub(crate) const NODE_NUMBER: Setting<u64> = integer(
    "node-number",
    "This node's number, starting at 0 and less than the maximum number of nodes",
    0..=u64::MAX,
)
.such_as("0");
pub(crate) const DEV_MAX_NODES: Setting<u64> = MAX_NODES.or("4");
pub(crate) const DEV_STARTING_OFFSET: Setting<u64> = STARTING_OFFSET.or("1");
pub(crate) const DEV_NODE_NUMBER: Setting<u64> = NODE_NUMBER.or("0");

// HTTP

pub(crate) const LISTEN: Setting<Vec<Address>> = list(
    "listen",
    "ADDRESSES",
    "Addresses to listen on",
    "HOST:PORT, [::1]:PORT or unix:PATH",
    limits::LISTENERS_MAX,
)
.or("127.0.0.1:8080");
pub(crate) const DEV_LISTEN: Setting<Vec<Address>> = LISTEN.optional().help(
    "Addresses to listen on; by default 127.0.0.1:8080 and unix:tickr.sock in the data directory",
);
pub(crate) const SOCKET_MODE: Setting<u32> = custom(
    "socket-mode",
    "MODE",
    "File mode of the Unix sockets",
    "three or four octal digits, at most 0777",
    read_file_mode,
)
.or("0660");
pub(crate) const HTTP_AUTH_PASSWORD: Setting<Secret> = password(
    "http-auth-password",
    "Require HTTP Basic authentication with this password and any user name",
    "UTF-8 text without control characters",
    |password| !has_control(password),
);
pub(crate) const HTTP_AUTH_PASSWORD_FILE: Setting<PathBuf> = path(
    "http-auth-password-file",
    "Read the HTTP password from this file instead, without one trailing newline",
    "path of a readable file, 1 to 4096 bytes of UTF-8 without control characters",
)
.optional()
.secret();
pub(crate) const MAX_BATCH: Setting<u64> = integer(
    "max-batch",
    "Maximum tickets per request",
    1..=limits::BATCH_MAX,
)
.or("1000000");
pub(crate) const BATCH_FORMAT: Setting<array::Format> = choice(
    "batch-format",
    "FORMAT",
    "Format of /tickets/create/N when the request does not specify one",
)
.or("array");
pub(crate) const MAX_CONNECTIONS: Setting<usize> = integer(
    "max-connections",
    "Maximum concurrent client connections; beyond it the oldest idle connection is closed, or \
     the new one gets a 503",
    1..=limits::CONNECTIONS_MAX as u64,
)
.or("10000");
pub(crate) const IDLE_TIMEOUT: Setting<Duration> = seconds(
    "idle-timeout",
    "Close a connection that has been idle for this long; set it above the idle timeout of a load \
     balancer in front",
    limits::IDLE_TIMEOUT_MIN..=limits::IDLE_TIMEOUT_MAX,
)
.or("75");
pub(crate) const SHUTDOWN_TIMEOUT: Setting<Duration> = seconds(
    "shutdown-timeout",
    "How long shutdown waits for in-flight responses",
    Duration::ZERO..=limits::SHUTDOWN_TIMEOUT_MAX,
)
.or("30");

// Reservations

pub(crate) const PREFETCH_SECONDS: Setting<Duration> = seconds(
    "prefetch-seconds",
    "Reserve this many seconds of recent demand in advance, so that requests need not wait for a \
     commit; a restart skips what is left. 0 is strict mode: only what is waiting is reserved",
    Duration::ZERO..=limits::PREFETCH_MAX,
)
.or("0.25");
pub(crate) const STATE_FILE: Setting<PathBuf> = path(
    "state-file",
    "Remember the highest base id in this file, so that a database that went backwards is noticed \
     even after a restart",
    "path of a file; created if missing",
)
.optional();
pub(crate) const DEV_STATE_FILE: Setting<PathBuf> = STATE_FILE.help(
    "Remember the highest base id in this file; by default tickr.state in the data directory",
);
pub(crate) const LEASE_SECONDS: Setting<u64> = integer(
    "lease-seconds",
    "Lease, stored beside the counter: how long after its reservation a block may be issued; also \
     the upper bound of every node's TICKR_PREFETCH_SECONDS",
    limits::LEASE_SECONDS_MIN..=limits::LEASE_SECONDS_MAX,
)
.typed_only(Form::Flag)
.such_as("10");
pub(crate) const CREATE_LEASE_SECONDS: Setting<u64> = LEASE_SECONDS.or("10");

// Logging

pub(crate) const LOG: Setting<Filter> = parsed(
    "log",
    "FILTER",
    "Log filter; the log goes to stderr",
    "level (off, error, warn, info, debug, trace), or comma-separated TARGET=LEVEL",
)
.or("info");
pub(crate) const LOG_FORMAT: Setting<logging::Format> = choice(
    "log-format",
    "FORMAT",
    "Log format; json is one object per line",
)
.or("text");

// Commands

pub(crate) const MYSQLD: Setting<PathBuf> = path(
    "mysqld",
    "MySQL server program; by default mariadbd or mysqld from PATH or the usual directories",
    "path of a program",
)
.typed_only(Form::Flag)
.optional();
pub(crate) const DATA_DIR: Setting<PathBuf> = path(
    "data-dir",
    "Directory that keeps the data between runs",
    "path of a directory; created if missing",
)
.typed_only(Form::Flag)
.or(".tickr");
pub(crate) const TABLE: Setting<ColumnName> = parsed(
    "table",
    "COLUMN",
    "Also compare the highest ID and the type of this column with the counter",
    "DATABASE.TABLE.COLUMN",
)
.typed_only(Form::Flag)
.optional();
pub(crate) const PAST: Setting<u64> = integer(
    "past",
    "Move the counter so that every later ticket is above this one; it never moves backwards. \
     Without it, the counter moves past everything this database has recorded",
    0..=u64::MAX,
)
.takes("TICKET")
.typed_only(Form::Flag)
.optional();
pub(crate) const MARGIN: Setting<u64> = integer(
    "margin",
    "Base ids to skip beyond that, for tickets that were issued but not recorded",
    0..=u64::MAX,
)
.typed_only(Form::Flag)
.or("1000000");
pub(crate) const CONFIRM: Setting<String> = text(
    "confirm",
    "NAME",
    "Confirm that the database and its counter are to be deleted",
    "the database name, repeated",
    |_| true,
)
.typed_only(Form::Flag)
.such_as("tickr");
pub(crate) const SERVER: Setting<Vec<ServerUrl>> = list(
    "server",
    "URL",
    "Server to get tickets from, in order of preference; can be repeated",
    "URL, http://HOST:PORT or unix:PATH",
    limits::CLIENT_SERVERS_MAX,
)
.form(Form::Flags)
.such_as("http://127.0.0.1:8080");
pub(crate) const NODES: Setting<Vec<ServerUrl>> = SERVER
    .form(Form::Arguments)
    .takes("NODE_URL")
    .help("Nodes to check");
pub(crate) const CLIENT_PASSWORD: Setting<Secret> =
    HTTP_AUTH_PASSWORD.help("HTTP password of the servers");
pub(crate) const CLIENT_PASSWORD_FILE: Setting<PathBuf> = HTTP_AUTH_PASSWORD_FILE
    .help("Read the servers' HTTP password from this file instead, without one trailing newline");
pub(crate) const CLIENT_TIMEOUT: Setting<Duration> = seconds(
    "timeout",
    "How long to wait for one server's response",
    limits::POOL_TIMEOUT_MIN..=limits::POOL_TIMEOUT_MAX,
)
.variable(Variable::Named("TICKR_CLIENT_TIMEOUT"))
.or("2");
pub(crate) const COUNT: Setting<u64> = integer(
    "count",
    "Number of tickets; up to 1000000 are one contiguous range, more are fetched in several",
    1..=limits::BATCH_MAX,
)
.typed_only(Form::Argument)
.or("1");
pub(crate) const TICKET: Setting<u64> = integer("ticket", "Ticket to decode", 0..=u64::MAX)
    .takes("TICKET")
    .typed_only(Form::Argument)
    .such_as("1");
pub(crate) const SHELL: Setting<Shell> = parsed(
    "shell",
    "SHELL",
    "Shell to generate completions for",
    "one of: bash, elvish, fish, powershell, zsh",
)
.typed_only(Form::Argument)
.such_as("bash");
pub(crate) const JSON: Setting<bool> = switch("json", "Print one JSON object on one line");
pub(crate) const WATCH: Setting<bool> = switch("watch", "Repeat every 2 seconds until Ctrl-C");
pub(crate) const GET_WATCH: Setting<bool> =
    WATCH.help("Repeat until Ctrl-C, every second or --interval, whatever happens to the servers");
pub(crate) const INTERVAL: Setting<Duration> = seconds(
    "interval",
    "Pause between repetitions of --watch; 1 by default",
    limits::GET_INTERVAL_MIN..=limits::GET_INTERVAL_MAX,
)
.typed_only(Form::Flag)
.optional();

/// Encryption of the database connection, as it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// Plain text.
    Off,
    /// Encrypted.
    Required,
    /// Encrypted, with the certificate and the host name verified.
    Verify,
}

/// A column of a table of an application: `app.orders.id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnName {
    /// The database.
    pub database: String,
    /// Its table.
    pub table: String,
    /// The table's column.
    pub column: String,
}

impl FromStr for ColumnName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<ColumnName, &'static str> {
        let parts: Vec<&str> = text.split('.').collect();
        let [database, table, column] = parts[..] else {
            return Err("not three names separated by dots");
        };
        let is_name = |name: &&str| {
            (1..=limits::DATABASE_NAME_CHARS_MAX).contains(&name.chars().count())
                && !has_control(name)
                && !name.ends_with(' ')
        };
        if !parts.iter().all(is_name) {
            return Err("a name is empty or too long");
        }
        Ok(ColumnName {
            database: database.to_owned(),
            table: table.to_owned(),
            column: column.to_owned(),
        })
    }
}

impl Choice for array::Format {
    fn all() -> Vec<(&'static str, array::Format)> {
        let all = array::Format::ALL.into_iter();
        all.map(|format| (format.name(), format)).collect()
    }
}

impl Choice for logging::Format {
    fn all() -> Vec<(&'static str, logging::Format)> {
        vec![
            ("text", logging::Format::Text),
            ("json", logging::Format::Json),
        ]
    }
}

impl Choice for Failover {
    fn all() -> Vec<(&'static str, Failover)> {
        vec![("stop", Failover::Stop), ("continue", Failover::Continue)]
    }
}

impl Choice for TlsMode {
    fn all() -> Vec<(&'static str, TlsMode)> {
        vec![
            ("off", TlsMode::Off),
            ("required", TlsMode::Required),
            ("verify", TlsMode::Verify),
        ]
    }
}

fn is_ip(host: &str) -> bool {
    let inner = without_brackets(host);
    match inner.len() == host.len() {
        true => host.parse::<IpAddr>().is_ok(),
        false => inner.parse::<Ipv6Addr>().is_ok(),
    }
}

/// An IPv6 address may stand in brackets.
pub(crate) fn without_brackets(host: &str) -> &str {
    let inner = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    inner.unwrap_or(host)
}

/// Letters, digits, `-`, `.` and `_` (which is common in container networks), at most 253 bytes
/// (RFC 1035, section 2.3.4, as text).
fn is_host_name(host: &str) -> bool {
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    host.len() <= 253 && !host.starts_with(['-', '.']) && host.bytes().all(is_of_name)
}

fn read_file_mode(_: &Row, value: &OsStr) -> Result<u32, String> {
    let text = text_of(value)?;
    let is_octal = text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let mode = u32::from_str_radix(text, 8).ok();
    let mode = mode.filter(|mode| is_octal && matches!(text.len(), 3 | 4) && *mode <= 0o777);
    mode.ok_or_else(|| wrong(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_three_names() {
        let column: ColumnName = "app.orders.id".parse().unwrap();
        let parts = (&*column.database, &*column.table, &*column.column);
        assert_eq!(parts, ("app", "orders", "id"));
        let long = "x".repeat(limits::DATABASE_NAME_CHARS_MAX + 1);
        for bad in [
            "",
            "orders.id",
            "a.b.c.d",
            "app..id",
            "app.orders.",
            &format!("a.b.{long}"),
        ] {
            assert!(bad.parse::<ColumnName>().is_err(), "{bad:?}");
        }
    }
}
