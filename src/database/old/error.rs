//! Everything that can go wrong with the database, as one closed enum, so that the event loop, the
//! commands and the metrics decide by kind and never by text.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};

use mysql::{DriverError, MySqlError};
use rustls::CertificateError;

use crate::ticket::{Numbering, NumberingError};

/// Why the database did not do what it was asked to. A `message` is what the server said, a
/// `reason` what the operating system or the protocol said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseError {
    /// No connection to the server could be made.
    Unreachable {
        /// Where it was looked for, and what went wrong there.
        reason: String,
    },
    /// The connection broke. What was being asked may have been done or not.
    Lost {
        /// How it broke.
        reason: String,
    },
    /// The server did not answer in time. What was being asked may have been done or not.
    TimedOut,
    /// The server, or this user's share of it, has no connection left.
    TooManyConnections {
        /// What the server said.
        message: String,
    },
    /// The server refuses this user, or refuses the user a statement.
    AccessDenied {
        /// What the server said.
        message: String,
    },
    /// The server does not take writes.
    ReadOnly {
        /// What the server said.
        message: String,
    },
    /// A node of a cluster that is not ready to serve (Galera's 1047, and its like).
    NotReady {
        /// What the server said.
        message: String,
    },
    /// The statement was rolled back to break a deadlock, or lost a certification in a cluster.
    Deadlock,
    /// The counter was locked by somebody else for too long.
    LockWait,
    /// The statement was interrupted (`KILL QUERY`, or a statement time-out of the server).
    Interrupted,
    /// The server's disk or table is full.
    DiskFull {
        /// What the server said.
        message: String,
    },
    /// The server is going down.
    ShuttingDown,
    /// The database does not exist.
    NoDatabase {
        /// What the server said.
        message: String,
    },
    /// The table does not exist.
    NoTable {
        /// What the server said.
        message: String,
    },
    /// The settings are stored, but the table of the counter is gone.
    TableGone,
    /// There is a table of that name, but it is not one of Tickr's.
    ForeignTable {
        /// What the server said.
        message: String,
    },
    /// The table or its index is damaged.
    Damaged {
        /// What the server said.
        message: String,
    },
    /// The table is there, but the row that holds the counter is not.
    NoCounterRow,
    /// A reservation did not change exactly one row by exactly what was asked.
    NotOneRow {
        /// How many rows it changed.
        rows: u64,
    },
    /// The counter is not where the statement that moved it said that it is.
    CounterAltered {
        /// Where the statement said that the counter is; 0 when it did not say.
        reserved: u64,
        /// What the counter holds.
        counter: u64,
    },
    /// No settings are stored beside the counter.
    NoSettings,
    /// The stored settings can't be used.
    SettingsDamaged {
        /// What is wrong with them.
        reason: String,
    },
    /// The stored settings are others than this node was started with.
    SettingsDiffer {
        /// Those beside the counter.
        stored: Numbering,
        /// Those of this node.
        given: Numbering,
    },
    /// Too few numbers are left below 2^64.
    NumbersExhausted {
        /// What the counter holds.
        counter: u64,
    },
    /// The name that was to confirm the dropping is not the name of the database.
    NotConfirmed {
        /// The name of the database.
        name: String,
    },
    /// The database that was to be dropped holds something that is not Tickr's.
    NotOnlyOurs {
        /// The name of the database.
        name: String,
        /// What is in it.
        tables: Vec<String>,
    },
    /// An encrypted connection was asked for, and can't be made: most often the server has no TLS.
    TlsUnavailable {
        /// What is wrong.
        reason: String,
    },
    /// The server's certificate was to be checked, and is not good.
    CertificateRefused {
        /// What is wrong with it.
        reason: String,
    },
    /// Any other error of the server.
    Unexpected {
        /// The number of the error.
        code: u16,
        /// What the server said.
        message: String,
    },
    /// The server said something that MySQL's protocol does not allow.
    Protocol {
        /// What it was.
        reason: String,
    },
}

impl DatabaseError {
    /// Whether it will fail until an operator acts; anything else may pass by itself.
    pub fn needs_operator(&self) -> bool {
        match self {
            DatabaseError::Deadlock | DatabaseError::LockWait | DatabaseError::Interrupted => false,
            DatabaseError::Unreachable { .. }
            | DatabaseError::Lost { .. }
            | DatabaseError::TimedOut
            | DatabaseError::TooManyConnections { .. }
            | DatabaseError::ReadOnly { .. }
            | DatabaseError::NotReady { .. }
            | DatabaseError::DiskFull { .. }
            | DatabaseError::ShuttingDown
            | DatabaseError::Unexpected { .. }
            | DatabaseError::Protocol { .. } => false,
            DatabaseError::AccessDenied { .. }
            | DatabaseError::NoDatabase { .. }
            | DatabaseError::NoTable { .. }
            | DatabaseError::TableGone
            | DatabaseError::ForeignTable { .. }
            | DatabaseError::Damaged { .. }
            | DatabaseError::NoCounterRow
            | DatabaseError::NotOneRow { .. }
            | DatabaseError::CounterAltered { .. }
            | DatabaseError::NoSettings
            | DatabaseError::SettingsDamaged { .. }
            | DatabaseError::SettingsDiffer { .. }
            | DatabaseError::NumbersExhausted { .. }
            | DatabaseError::NotConfirmed { .. }
            | DatabaseError::NotOnlyOurs { .. }
            | DatabaseError::TlsUnavailable { .. }
            | DatabaseError::CertificateRefused { .. } => true,
        }
    }

    /// The kind of error, in snake_case: a label for metrics.
    pub fn class(&self) -> &'static str {
        match self {
            DatabaseError::Unreachable { .. } => "unreachable",
            DatabaseError::Lost { .. } => "lost",
            DatabaseError::TimedOut => "timed_out",
            DatabaseError::TooManyConnections { .. } => "too_many_connections",
            DatabaseError::AccessDenied { .. } => "access_denied",
            DatabaseError::ReadOnly { .. } => "read_only",
            DatabaseError::NotReady { .. } => "not_ready",
            DatabaseError::Deadlock => "deadlock",
            DatabaseError::LockWait => "lock_wait",
            DatabaseError::Interrupted => "interrupted",
            DatabaseError::DiskFull { .. } => "disk_full",
            DatabaseError::ShuttingDown => "shutting_down",
            DatabaseError::NoDatabase { .. } => "no_database",
            DatabaseError::NoTable { .. } => "no_table",
            DatabaseError::TableGone => "table_gone",
            DatabaseError::ForeignTable { .. } => "foreign_table",
            DatabaseError::Damaged { .. } => "damaged",
            DatabaseError::NoCounterRow => "no_counter_row",
            DatabaseError::NotOneRow { .. } => "not_one_row",
            DatabaseError::CounterAltered { .. } => "counter_altered",
            DatabaseError::NoSettings => "no_settings",
            DatabaseError::SettingsDamaged { .. } => "settings_damaged",
            DatabaseError::SettingsDiffer { .. } => "settings_differ",
            DatabaseError::NumbersExhausted { .. } => "numbers_exhausted",
            DatabaseError::NotConfirmed { .. } => "not_confirmed",
            DatabaseError::NotOnlyOurs { .. } => "not_only_ours",
            DatabaseError::TlsUnavailable { .. } => "tls_unavailable",
            DatabaseError::CertificateRefused { .. } => "certificate_refused",
            DatabaseError::Unexpected { .. } => "unexpected",
            DatabaseError::Protocol { .. } => "protocol",
        }
    }

    /// Whether the session that failed so can go on; any other is closed, so that the next one
    /// looks at the server, the tables and the settings again.
    pub(in crate::database) fn spares_session(&self) -> bool {
        matches!(
            self,
            DatabaseError::Deadlock
                | DatabaseError::LockWait
                | DatabaseError::Interrupted
                | DatabaseError::NumbersExhausted { .. }
        )
    }

    /// Whether reading the counter may work all the same: then only a reservation that succeeds
    /// tells that this is over.
    pub fn may_spare_reads(&self) -> bool {
        matches!(
            self,
            DatabaseError::AccessDenied { .. }
                | DatabaseError::ReadOnly { .. }
                | DatabaseError::Deadlock
                | DatabaseError::LockWait
                | DatabaseError::Interrupted
                | DatabaseError::DiskFull { .. }
                | DatabaseError::NotOneRow { .. }
                | DatabaseError::CounterAltered { .. }
                | DatabaseError::Unexpected { .. }
        )
    }

    pub(in crate::database) fn protocol(reason: impl Into<String>) -> DatabaseError {
        DatabaseError::Protocol {
            reason: reason.into(),
        }
    }
}

impl fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DatabaseError::Unreachable { reason } => write!(
                f,
                "the database can't be reached ({reason}); no ticket can be reserved until it is. \
                 Check that MySQL runs, and TICKR_DATABASE_HOST and TICKR_DATABASE_PORT"
            ),
            DatabaseError::Lost { reason } => write!(
                f,
                "the connection to the database broke ({reason}); at worst some tickets are \
                 skipped. If it happens again and again, look at MySQL's error log and the network"
            ),
            DatabaseError::TimedOut => write!(
                f,
                "the database did not answer in time; at worst some tickets are skipped. If it \
                 stays so, look at MySQL's load and disks, or raise TICKR_DATABASE_POOL_TIMEOUT"
            ),
            DatabaseError::TooManyConnections { message } => write!(
                f,
                "the database takes no more connections ({message}). Raise max_connections in \
                 MySQL, or lower TICKR_DATABASE_POOL_SIZE"
            ),
            DatabaseError::AccessDenied { message } => write!(
                f,
                "the database refuses the user ({message}). Check TICKR_DATABASE_USERNAME, its \
                 password and its privileges: serving needs SELECT and UPDATE"
            ),
            DatabaseError::ReadOnly { message } => write!(
                f,
                "the database takes no writes ({message}), so no ticket can be reserved. After a \
                 fail-over, point TICKR_DATABASE_HOST to the new primary server, or make this one \
                 writable"
            ),
            DatabaseError::NotReady { message } => write!(
                f,
                "this node of the database cluster is not ready ({message}), so no ticket can be \
                 reserved on it. It recovers when the node has joined the majority again"
            ),
            DatabaseError::Deadlock => write!(
                f,
                "the reservation lost a deadlock; it was rolled back and can be asked for again. \
                 If it happens often, find what else writes to the table `tickets`"
            ),
            DatabaseError::LockWait => write!(
                f,
                "the counter was locked by another session for too long; nothing was reserved. \
                 Look at SHOW FULL PROCESSLIST for who holds the table `tickets`"
            ),
            DatabaseError::Interrupted => write!(
                f,
                "the statement was interrupted on the server; nothing was reserved. If it happens \
                 again, look for statement time-outs or for who kills queries"
            ),
            DatabaseError::DiskFull { message } => write!(
                f,
                "the database has no space left ({message}), so no ticket can be reserved. Make \
                 room on the server's disk"
            ),
            DatabaseError::ShuttingDown => write!(
                f,
                "the database is shutting down; tickets are reserved again once it is back"
            ),
            DatabaseError::NoDatabase { message } => write!(
                f,
                "the database is not there ({message}). Run `tickr db create`, or correct \
                 TICKR_DATABASE_NAME"
            ),
            DatabaseError::NoTable { message } => write!(
                f,
                "the database holds no tickets ({message}). Run `tickr db create`, or correct \
                 TICKR_DATABASE_NAME"
            ),
            DatabaseError::TableGone => write!(
                f,
                "the settings are stored, but the table `tickets` is gone; beginning again would \
                 repeat tickets. Restore the table, or run `tickr db advance --past TICKET` with \
                 a TICKET that is above every one handed out"
            ),
            DatabaseError::ForeignTable { message } => write!(
                f,
                "the table `tickets` belongs to something else ({message}). Give Tickr a database \
                 of its own with TICKR_DATABASE_NAME"
            ),
            DatabaseError::Damaged { message } => write!(
                f,
                "the table `tickets` is damaged ({message}), so no ticket can be reserved. Repair \
                 it, then run `tickr db advance --past TICKET` with a TICKET that is above every \
                 one handed out"
            ),
            DatabaseError::NoCounterRow => write!(
                f,
                "the table `tickets` is there, but its counter row is missing; beginning again \
                 would repeat tickets. Run `tickr db advance --past TICKET` with a TICKET that is \
                 above every one handed out"
            ),
            DatabaseError::NotOneRow { rows } => write!(
                f,
                "a reservation changed {rows} rows of the table `tickets` instead of one; none of \
                 its tickets is handed out. The table must hold one row with the stub 'a', and \
                 no trigger"
            ),
            DatabaseError::CounterAltered { reserved, counter } => write!(
                f,
                "a reservation was to end at base id {reserved}, but the counter stands at \
                 {counter}; none of its tickets is handed out. Remove whatever interferes with the \
                 table `tickets`, such as a trigger"
            ),
            DatabaseError::NoSettings => write!(
                f,
                "no settings are stored beside the counter, so nothing says that this node's are \
                 the right ones. Run `tickr db create`, which stores them and changes nothing else"
            ),
            DatabaseError::SettingsDamaged { reason } => write!(
                f,
                "the settings stored beside the counter can't be used ({reason}). Put the right \
                 values into the one row of the table `tickr_settings`"
            ),
            DatabaseError::SettingsDiffer { stored, given } => write!(
                f,
                "the settings stored beside the counter are {stored}, but this node was started \
                 with {given}; serving would repeat tickets. Start it with the stored ones"
            ),
            DatabaseError::NumbersExhausted { counter } => write!(
                f,
                "the numbers have run out: the counter stands at {counter}, and the tickets asked \
                 for would pass 2^64 - 1. Nothing was reserved; this node can't go on"
            ),
            DatabaseError::NotConfirmed { name } => write!(
                f,
                "nothing was dropped: to drop the database and every ticket's history, confirm \
                 with its name, `--confirm {name}`"
            ),
            DatabaseError::NotOnlyOurs { name, tables } => write!(
                f,
                "nothing was dropped: the database {name} is not Tickr's alone, it has the tables \
                 {}. Drop by hand what you no longer need: `tickets` and `tickr_settings` are \
                 Tickr's, if `tickr db check` finds nothing wrong with them",
                tables.join(", ")
            ),
            DatabaseError::TlsUnavailable { reason } => write!(
                f,
                "no encrypted connection to the database can be made: {reason}. Mend that, or set \
                 TICKR_DATABASE_TLS=off"
            ),
            DatabaseError::CertificateRefused { reason } => write!(
                f,
                "the certificate of the database is refused: {reason}. No password was sent. It \
                 must be valid for the name in TICKR_DATABASE_HOST and come from an authority in \
                 TICKR_DATABASE_TLS_CA; if it does not, this may not be your server"
            ),
            DatabaseError::Unexpected { code, message } => write!(
                f,
                "the database answered with error {code} ({message}); nothing of it was handed \
                 out. Look the error up in MySQL's manual"
            ),
            DatabaseError::Protocol { reason } => write!(
                f,
                "the database did not speak MySQL's protocol ({reason}). Check that \
                 TICKR_DATABASE_HOST and TICKR_DATABASE_PORT point to a MySQL server"
            ),
        }
    }
}

impl Error for DatabaseError {}

impl From<mysql::Error> for DatabaseError {
    fn from(error: mysql::Error) -> DatabaseError {
        match error {
            mysql::Error::MySqlError(error) => from_server(error),
            mysql::Error::IoError(error) => from_io(&error),
            mysql::Error::CodecError(error) => {
                match error.source().and_then(|source| source.downcast_ref()) {
                    Some(error) => from_io(error),
                    None => DatabaseError::protocol(error.to_string()),
                }
            }
            mysql::Error::DriverError(DriverError::CouldNotConnect(Some((at, what, _)))) => {
                DatabaseError::Unreachable {
                    reason: format!("{at}: {what}"),
                }
            }
            mysql::Error::DriverError(DriverError::ConnectTimeout) => DatabaseError::Unreachable {
                reason: "connecting timed out".to_owned(),
            },
            mysql::Error::DriverError(DriverError::TlsNotSupported) => {
                DatabaseError::TlsUnavailable {
                    reason: "the server does not offer TLS".to_owned(),
                }
            }
            mysql::Error::TlsError(error) => DatabaseError::TlsUnavailable {
                reason: error.to_string(),
            },
            mysql::Error::DriverError(DriverError::UnknownAuthPlugin(plugin)) => {
                DatabaseError::AccessDenied {
                    message: format!("authentication plug-in {plugin} is not known to Tickr"),
                }
            }
            // Their texts may hold a row or a value, which is no more than noise here.
            mysql::Error::FromValueError(_) | mysql::Error::FromRowError(_) => {
                DatabaseError::protocol("a value of another type than was asked for")
            }
            other => DatabaseError::protocol(other.to_string()),
        }
    }
}

impl From<NumberingError> for DatabaseError {
    fn from(error: NumberingError) -> DatabaseError {
        DatabaseError::SettingsDamaged {
            reason: error.to_string(),
        }
    }
}

fn from_io(error: &io::Error) -> DatabaseError {
    if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
        return from_tls(error);
    }
    match error.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::NotFound => DatabaseError::Unreachable {
            reason: error.to_string(),
        },
        ErrorKind::TimedOut | ErrorKind::WouldBlock => DatabaseError::TimedOut,
        _ => DatabaseError::Lost {
            reason: error.to_string(),
        },
    }
}

/// An error of the handshake, or of the encrypted stream behind it.
fn from_tls(error: &rustls::Error) -> DatabaseError {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            DatabaseError::CertificateRefused {
                reason: "it comes from an authority that is not trusted".to_owned(),
            }
        }
        // Such as a certificate of an authority that is used as a server's own.
        rustls::Error::InvalidCertificate(CertificateError::Other(error)) => {
            DatabaseError::CertificateRefused {
                reason: format!("it can't be a server's ({})", error.0),
            }
        }
        rustls::Error::InvalidCertificate(error) => DatabaseError::CertificateRefused {
            reason: error.to_string(),
        },
        other => DatabaseError::TlsUnavailable {
            reason: other.to_string(),
        },
    }
}

/// By number, after the error references of MySQL 5.6 to 9 and MariaDB 10 and 11: the numbers below
/// 1900 are common to both, those above differ.
fn from_server(error: MySqlError) -> DatabaseError {
    let MySqlError { code, message, .. } = error;
    match code {
        1040 | 1041 | 1135 | 1203 | 1226 => DatabaseError::TooManyConnections { message },
        1044 | 1045 | 1129 | 1130 | 1142 | 1143 | 1227 | 1251 | 1275 | 1370 | 1524 | 1698
        | 1820 | 1862 | 3118 | 3159 | 3955 | 4151 => DatabaseError::AccessDenied { message },
        1036 | 1290 | 1792 | 1836 | 1874 => DatabaseError::ReadOnly { message },
        1047 | 3100 => DatabaseError::NotReady { message },
        1213 | 3101 => DatabaseError::Deadlock,
        1205 => DatabaseError::LockWait,
        1317 | 1969 | 3024 => DatabaseError::Interrupted,
        3 | 20 | 1021 | 1114 => DatabaseError::DiskFull { message },
        1026 | 1030 if message.contains("28") => DatabaseError::DiskFull { message },
        1053 | 1077..=1080 | 3168 => DatabaseError::ShuttingDown,
        1152..=1161 | 1184 | 1927 | 2006 | 2013 | 3169 | 4031 => {
            DatabaseError::Lost { reason: message }
        }
        1049 => DatabaseError::NoDatabase { message },
        1146 => DatabaseError::NoTable { message },
        1054 | 1347 => DatabaseError::ForeignTable { message },
        1034 | 1035 | 1194 | 1195 | 1712 => DatabaseError::Damaged { message },
        _ => DatabaseError::Unexpected { code, message },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(code: u16, message: &str) -> DatabaseError {
        DatabaseError::from(mysql::Error::MySqlError(MySqlError {
            state: "HY000".to_owned(),
            message: message.to_owned(),
            code,
        }))
    }

    #[test]
    fn errors_of_the_server_are_classified_by_number() {
        let expected: &[(u16, &str, bool)] = &[
            (1040, "too_many_connections", false),
            (1045, "access_denied", true),
            (1047, "not_ready", false),
            (1049, "no_database", true),
            (1053, "shutting_down", false),
            (1114, "disk_full", false),
            (1146, "no_table", true),
            (1158, "lost", false),
            (1205, "lock_wait", false),
            (1213, "deadlock", false),
            (1290, "read_only", false),
            (1317, "interrupted", false),
            (1792, "read_only", false),
            (1836, "read_only", false),
            (1927, "lost", false),
            (1064, "unexpected", false),
        ];
        for &(code, class, needs_operator) in expected {
            let error = server(code, "said the server");
            assert_eq!(
                (error.class(), error.needs_operator()),
                (class, needs_operator)
            );
        }
        let full = server(
            1030,
            "Got error 28 \"No space left on device\" from storage engine",
        );
        assert_eq!(full.class(), "disk_full");
        assert_eq!(server(1030, "Got error 1").class(), "unexpected");
    }

    #[test]
    fn errors_of_the_socket_are_classified_by_kind() {
        let class = |kind: ErrorKind| DatabaseError::from(mysql::Error::from(kind_error(kind)));
        assert_eq!(class(ErrorKind::ConnectionRefused).class(), "unreachable");
        assert_eq!(class(ErrorKind::WouldBlock), DatabaseError::TimedOut);
        assert_eq!(class(ErrorKind::BrokenPipe).class(), "lost");
        assert_eq!(class(ErrorKind::TimedOut), DatabaseError::TimedOut);
    }

    fn kind_error(kind: ErrorKind) -> io::Error {
        io::Error::from(kind)
    }
}
