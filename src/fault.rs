//! What went wrong with the database, as a value: its kind, by which everything is decided, and
//! what the server or the operating system said of it, which is only ever shown.

use std::error::Error;
use std::fmt;

use crate::foreign;

/// Something that kept the database from doing what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fault {
    /// What it is.
    pub kind: FaultKind,
    /// What was said of it, in the words of its source; may be empty.
    pub said: String,
}

/// The kinds of faults, each with its row in [`FaultKind::row`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FaultKind {
    /// No connection to the server could be made.
    Unreachable,
    /// The connection broke. What was being asked may have been done or not.
    Lost,
    /// The server did not answer in time. What was being asked may have been done or not.
    TimedOut,
    /// The server, or this user's share of it, has no connection left.
    TooManyConnections,
    /// A connection that was given up can't be ended, so no other takes its place.
    ConnectionStuck,
    /// The server has no prepared statement left.
    TooManyStatements,
    /// The server refuses this host for now, after too many connections that were cut off.
    HostBlocked,
    /// The server refuses this user, or refuses the user a statement.
    AccessDenied,
    /// The user's password has expired.
    PasswordExpired,
    /// The user logs in by a method that can't be used here.
    LoginUnsupported,
    /// The server does not take writes.
    ReadOnly,
    /// An option of the server forbids the statement.
    Forbidden,
    /// A member of a cluster that is not ready to serve.
    NotReady,
    /// The statement was rolled back to break a deadlock, or lost a certification in a cluster.
    Deadlock,
    /// The counter was locked by somebody else for too long.
    LockWait,
    /// The statement was interrupted.
    Interrupted,
    /// The server's disk or table is full.
    DiskFull,
    /// The server is out of memory or of open files.
    OutOfResources,
    /// The server is going down.
    ShuttingDown,
    /// The server is not one that Tickr can work with.
    ServerUnsupported,
    /// The database does not exist.
    NoDatabase,
    /// The table does not exist.
    NoTable,
    /// The settings are stored, but the table of the counter is gone.
    TableGone,
    /// The table is of a version without owner and mark.
    OldTable,
    /// There is a table of that name, but it is not one of Tickr's.
    ForeignTable,
    /// A column of the table is of a type that can't hold what it must.
    ColumnType,
    /// There is a trigger on the table.
    Trigger,
    /// The table keeps every row that it ever had.
    Versioned,
    /// The table or its index is damaged.
    Damaged,
    /// The table is there, but the row that holds the counter is not.
    NoCounterRow,
    /// The counter is not a number that it can be.
    CounterUnusable,
    /// A reservation did not change exactly one row by exactly what was asked.
    NotOneRow,
    /// The counter is not where the statement that moved it said that it is.
    CounterAltered,
    /// No settings are stored beside the counter.
    NoSettings,
    /// The stored settings can't be used.
    SettingsDamaged,
    /// The stored settings are others than this node was started with.
    SettingsDiffer,
    /// The row is closed.
    Closed,
    /// A column holds a number that this node has still to issue.
    ColumnAhead,
    /// A column can't hold the tickets to come.
    ColumnTooSmall,
    /// Too few numbers are left below 2^64.
    NumbersExhausted,
    /// The counter is missing, so its value must be told.
    PastRequired,
    /// Somebody else keeps changing the row that was to be opened.
    Contended,
    /// The name that was to confirm the dropping is not the name of the database.
    NotConfirmed,
    /// The database that was to be dropped holds something that is not Tickr's.
    NotOnlyOurs,
    /// An encrypted connection was asked for, and can't be made.
    TlsUnavailable,
    /// The answer over an encrypted connection is not the server's.
    TlsForged,
    /// The file of certificate authorities can't be used.
    CaUnusable,
    /// The server's certificate was to be checked, and is not good.
    CertificateRefused,
    /// The password would have to be sent under a key that nobody vouches for.
    PublicKeyRequired,
    /// The file of the server's public key can't be used.
    PublicKeyUnusable,
    /// Any other error of the server.
    Unexpected,
    /// The server said something that MySQL's protocol does not allow.
    Protocol,
}

/// Whose act ends a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Nobody's: it may pass by itself, so it is tried again.
    Retry,
    /// An operator's: requests are refused at once, and a start fails.
    Operator,
    /// An operator's, and what was reserved before is no longer to be trusted.
    Mend,
}

/// All that is decided by a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The label in metrics.
    pub label: &'static str,
    /// Whose act ends it.
    pub act: Act,
    /// Whether the session that met it can go on; any other is closed.
    pub spares_session: bool,
    /// What happened, what it means and what to do; `{said}` is what was said of it.
    pub sentence: &'static str,
}

impl FaultKind {
    /// Its row of the table.
    #[rustfmt::skip]
    pub fn row(self) -> Row {
        use Act::{Mend, Operator, Retry};
        const SPARED: bool = true;
        const CLOSED: bool = false;
        let (label, act, spares_session, sentence) = match self {
            FaultKind::Unreachable => ("unreachable", Retry, CLOSED,
                "cannot connect to MySQL{said}; no tickets can be reserved. Check that MySQL is \
                 running, and check TICKR_DATABASE_HOST and TICKR_DATABASE_PORT"),
            FaultKind::Lost => ("lost", Retry, CLOSED,
                "the connection to MySQL was lost{said}; at worst some tickets are skipped. If it \
                 keeps happening, check MySQL's error log and the network"),
            FaultKind::TimedOut => ("timed_out", Retry, CLOSED,
                "MySQL did not respond in time{said}; at worst some tickets are skipped. If it \
                 persists, check MySQL's load and disks, or raise TICKR_DATABASE_POOL_TIMEOUT"),
            FaultKind::TooManyConnections => ("too_many_connections", Retry, CLOSED,
                "MySQL accepts no more connections{said}. Raise max_connections (or the user's \
                 limit) in MySQL, or lower TICKR_DATABASE_POOL_SIZE"),
            FaultKind::ConnectionStuck => ("connection_stuck", Retry, CLOSED,
                "an abandoned connection still hangs in MySQL and cannot be killed{said}; it \
                 counts against the pool. Find out in SHOW FULL PROCESSLIST what it waits for"),
            FaultKind::TooManyStatements => ("too_many_statements", Retry, CLOSED,
                "MySQL has no prepared statements left{said}. Raise max_prepared_stmt_count; \
                 Tickr needs 4 for each connection of its pool"),
            FaultKind::HostBlocked => ("host_blocked", Retry, CLOSED,
                "MySQL blocks this host after too many interrupted connections{said}. Run FLUSH \
                 HOSTS in MySQL (TRUNCATE performance_schema.host_cache in MySQL 8.4 and later), \
                 or raise max_connect_errors"),
            FaultKind::AccessDenied => ("access_denied", Operator, CLOSED,
                "MySQL denied access{said}. Check TICKR_DATABASE_USERNAME, its password and its \
                 privileges; serving requires SELECT and UPDATE on the database"),
            FaultKind::PasswordExpired => ("password_expired", Operator, CLOSED,
                "the MySQL user's password has expired{said}. Set a new one with ALTER USER, and \
                 start Tickr with it"),
            FaultKind::LoginUnsupported => ("login_unsupported", Operator, CLOSED,
                "Tickr does not support the MySQL user's authentication method{said}. Use \
                 caching_sha2_password, mysql_native_password, ed25519 or parsec"),
            FaultKind::ReadOnly => ("read_only", Retry, CLOSED,
                "MySQL is read-only{said}; no tickets can be reserved. After a failover, point \
                 TICKR_DATABASE_HOST to the new primary; otherwise make this server writable"),
            FaultKind::Forbidden => ("forbidden", Operator, CLOSED,
                "an option of the MySQL server forbids the statement{said}. Start the server \
                 without that option"),
            FaultKind::NotReady => ("not_ready", Retry, CLOSED,
                "this member of the database cluster is not ready{said}; no tickets can be \
                 reserved on it until it has rejoined the majority"),
            FaultKind::Deadlock => ("deadlock", Retry, SPARED,
                "MySQL rolled the statement back to resolve a deadlock{said}; nothing was \
                 reserved. If it happens often, find out what else writes to the table `tickets`"),
            FaultKind::LockWait => ("lock_wait", Retry, SPARED,
                "another session held the counter's lock for too long{said}; nothing was \
                 reserved. Find out in SHOW FULL PROCESSLIST who locks the table `tickets`"),
            FaultKind::Interrupted => ("interrupted", Retry, SPARED,
                "MySQL interrupted the statement{said}; nothing was reserved. If it happens \
                 again, look for a statement timeout or for who runs KILL QUERY"),
            FaultKind::DiskFull => ("disk_full", Retry, CLOSED,
                "MySQL has no disk space left{said}; no tickets can be reserved. Free space on \
                 the server"),
            FaultKind::OutOfResources => ("out_of_resources", Retry, CLOSED,
                "MySQL is out of memory or file handles{said}; no tickets can be reserved. Check \
                 MySQL's error log and the limits of its process"),
            FaultKind::ShuttingDown => ("shutting_down", Retry, CLOSED,
                "MySQL is shutting down{said}; tickets will be reserved again once it is back"),
            FaultKind::ServerUnsupported => ("server_unsupported", Operator, CLOSED,
                "Tickr cannot work with this server{said}. It requires MySQL 5.6 or later, or \
                 MariaDB 10 or later, with utf8mb4"),
            FaultKind::NoDatabase => ("no_database", Mend, CLOSED,
                "the database does not exist{said}. Run `tickr db create`, or correct \
                 TICKR_DATABASE_NAME"),
            FaultKind::NoTable => ("no_table", Mend, CLOSED,
                "the database has no table `tickets`{said}. Run `tickr db create`, or correct \
                 TICKR_DATABASE_NAME"),
            FaultKind::TableGone => ("table_gone", Mend, CLOSED,
                "the settings are stored, but the table `tickets` is gone{said}; starting over \
                 would repeat tickets. Restore the table, or run `tickr db advance --past TICKET` \
                 with a TICKET above every one that was issued"),
            FaultKind::OldTable => ("old_table", Mend, CLOSED,
                "the tables were made by an older version{said} and do not say who may move the \
                 counter. Run `tickr db create`, which adds what is missing while old processes \
                 keep running"),
            FaultKind::ForeignTable => ("foreign_table", Mend, CLOSED,
                "the table `tickets` belongs to something else{said}. Set TICKR_DATABASE_NAME to \
                 a database that is Tickr's alone"),
            FaultKind::ColumnType => ("column_type", Mend, CLOSED,
                "a column has the wrong type{said}; it would lose or repeat tickets. Change it \
                 with ALTER TABLE, a number to BIGINT UNSIGNED NOT NULL and the owner to \
                 VARCHAR(255) NOT NULL"),
            FaultKind::Trigger => ("trigger", Mend, CLOSED,
                "the table `tickets` has a trigger{said}; it could change the counter. Drop it"),
            FaultKind::Versioned => ("versioned", Mend, CLOSED,
                "a table is system-versioned{said}, so each reservation would leave a row behind \
                 for ever. Run ALTER TABLE tickets DROP SYSTEM VERSIONING, and the same for \
                 tickr_settings if it is versioned too"),
            FaultKind::Damaged => ("damaged", Mend, CLOSED,
                "the table `tickets` is damaged{said}; no tickets can be reserved. Repair it, \
                 then run `tickr db advance --past TICKET` with a TICKET above every one that was \
                 issued"),
            FaultKind::NoCounterRow => ("no_counter_row", Mend, CLOSED,
                "the table `tickets` has no counter row{said}; starting over would repeat \
                 tickets. Run `tickr db advance --past TICKET` with a TICKET above every one that \
                 was issued"),
            FaultKind::CounterUnusable => ("counter_unusable", Mend, CLOSED,
                "the counter in the table `tickets` is not a valid number{said}. Run `tickr db \
                 advance --past TICKET` with a TICKET above every one that was issued"),
            FaultKind::NotOneRow => ("not_one_row", Mend, CLOSED,
                "the table `tickets` does not have exactly one counter row{said}; none of these \
                 tickets is issued. Keep the row with the stub 'a' and the highest id, and delete \
                 the others"),
            FaultKind::CounterAltered => ("counter_altered", Mend, CLOSED,
                "the counter is not where the reservation put it{said}; none of its tickets is \
                 issued. Remove whatever interferes with the table `tickets`, such as a trigger"),
            FaultKind::NoSettings => ("no_settings", Mend, CLOSED,
                "no settings are stored beside the counter{said}, so nothing confirms this \
                 node's. Run `tickr db create`, which stores them and changes nothing else"),
            FaultKind::SettingsDamaged => ("settings_damaged", Mend, CLOSED,
                "the settings stored beside the counter are invalid{said}. Put the right values \
                 into the only row of the table `tickr_settings`"),
            FaultKind::SettingsDiffer => ("settings_differ", Mend, CLOSED,
                "this node's settings differ from those stored beside the counter{said}; serving \
                 would repeat tickets. Start it with the stored ones"),
            FaultKind::Closed => ("closed", Operator, SPARED,
                "the counter is closed{said}; no tickets can be reserved. Run `tickr db advance` \
                 to open it"),
            FaultKind::ColumnAhead => ("column_ahead", Operator, SPARED,
                "the column holds a number that this node has not issued yet{said}; a later ticket \
                 would repeat it. Run `tickr db advance --past` with that number"),
            FaultKind::ColumnTooSmall => ("column_too_small", Operator, SPARED,
                "the column cannot hold the tickets to come{said}. Change it to BIGINT UNSIGNED \
                 with ALTER TABLE"),
            FaultKind::NumbersExhausted => ("numbers_exhausted", Operator, SPARED,
                "too few numbers are left below 2^64{said}; nothing was changed. This node cannot \
                 issue more tickets"),
            FaultKind::PastRequired => ("past_required", Operator, SPARED,
                "the counter is missing{said}, so its value is unknown. Run `tickr db advance \
                 --past TICKET` with a TICKET above every one that was issued"),
            FaultKind::Contended => ("contended", Retry, SPARED,
                "the counter row was changed by others each time{said}; it is left closed or as \
                 they opened it. Run the command again"),
            FaultKind::NotConfirmed => ("not_confirmed", Operator, SPARED,
                "nothing was dropped: to delete the database permanently, confirm with its \
                 name{said}"),
            FaultKind::NotOnlyOurs => ("not_only_ours", Operator, SPARED,
                "nothing was dropped: the database holds more than Tickr's tables{said}. Drop by \
                 hand what you no longer need; `tickets` and `tickr_settings` are Tickr's if \
                 `tickr db check` finds no problem"),
            FaultKind::TlsUnavailable => ("tls_unavailable", Operator, CLOSED,
                "cannot make an encrypted connection to MySQL{said}. Enable TLS in MySQL, or set \
                 TICKR_DATABASE_TLS=off"),
            FaultKind::TlsForged => ("tls_forged", Retry, CLOSED,
                "an answer over the encrypted connection was not the server's{said}; nothing of \
                 it was used. Somebody between Tickr and MySQL may be forging answers: check the \
                 network"),
            FaultKind::CaUnusable => ("ca_unusable", Operator, CLOSED,
                "cannot use the CA certificates in TICKR_DATABASE_TLS_CA{said}. Set it to a \
                 readable PEM file with at least one certificate"),
            FaultKind::CertificateRefused => ("certificate_refused", Operator, CLOSED,
                "MySQL's certificate was rejected{said}; no password was sent. It must be valid \
                 for the name in TICKR_DATABASE_HOST and issued by a public CA or one in \
                 TICKR_DATABASE_TLS_CA; otherwise this may not be your server"),
            FaultKind::PublicKeyRequired => ("public_key_required", Operator, CLOSED,
                "the login needs the password itself, which is not sent over an unencrypted \
                 connection{said}. Set TICKR_DATABASE_TLS=verify, connect over MySQL's Unix \
                 socket, or set TICKR_DATABASE_PUBLIC_KEY to the server's public key"),
            FaultKind::PublicKeyUnusable => ("public_key_unusable", Operator, CLOSED,
                "cannot use the key in TICKR_DATABASE_PUBLIC_KEY{said}. Set it to a copy of the \
                 server's public_key.pem"),
            FaultKind::Unexpected => ("unexpected", Retry, CLOSED,
                "MySQL returned an unexpected error{said}; no ticket was issued from it. Look the \
                 error up in MySQL's manual"),
            FaultKind::Protocol => ("protocol", Retry, CLOSED,
                "the server did not speak MySQL's protocol{said}. Check that TICKR_DATABASE_HOST \
                 and TICKR_DATABASE_PORT point to a MySQL server"),
        };
        Row { label, act, spares_session, sentence }
    }
}

impl Fault {
    /// A fault of this kind, with what was said of it.
    pub fn new(kind: FaultKind, said: impl Into<String>) -> Fault {
        Fault {
            kind,
            said: said.into(),
        }
    }

    /// Whether the command was asked for something that can't be done, so that nothing was.
    pub fn is_usage(&self) -> bool {
        matches!(
            self.kind,
            FaultKind::SettingsDiffer
                | FaultKind::OldTable
                | FaultKind::NumbersExhausted
                | FaultKind::PastRequired
                | FaultKind::NotConfirmed
                | FaultKind::NotOnlyOurs
        )
    }
}

impl From<FaultKind> for Fault {
    fn from(kind: FaultKind) -> Fault {
        Fault::new(kind, "")
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sentence = self.kind.row().sentence;
        let (before, after) = sentence.split_once("{said}").unwrap_or((sentence, ""));
        f.write_str(before)?;
        if !self.said.is_empty() {
            write!(f, " ({})", foreign::printable(&self.said))?;
        }
        f.write_str(after)
    }
}

impl Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_stands_in_its_sentence_or_leaves_no_trace() {
        let silent = Fault::from(FaultKind::ShuttingDown).to_string();
        assert!(silent.starts_with("MySQL is shutting down; "), "{silent}");
        let said = Fault::new(FaultKind::ShuttingDown, "bye").to_string();
        assert!(said.starts_with("MySQL is shutting down (bye); "), "{said}");
    }
}
