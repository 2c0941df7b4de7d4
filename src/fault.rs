//! What went wrong with the database, as a value: its kind, by which everything is decided, and what
//! the server or the operating system said of it, which is only ever shown.

use std::error::Error;
use std::fmt;

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
    /// The server refuses this host for now, after too many connections that were cut off.
    HostBlocked,
    /// The server refuses this user, or refuses the user a statement.
    AccessDenied,
    /// The server does not take writes.
    ReadOnly,
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
    /// The server is going down.
    ShuttingDown,
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
    /// The table or its index is damaged.
    Damaged,
    /// The table is there, but the row that holds the counter is not.
    NoCounterRow,
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
    /// An encrypted connection was asked for, and can't be made.
    TlsUnavailable,
    /// The server's certificate was to be checked, and is not good.
    CertificateRefused,
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
}

impl FaultKind {
    /// Its row of the table.
    pub fn row(self) -> Row {
        let row = |label, act| Row {
            label,
            act,
            spares_session: false,
        };
        let spared = |label| Row {
            label,
            act: Act::Retry,
            spares_session: true,
        };
        match self {
            FaultKind::Unreachable => row("unreachable", Act::Retry),
            FaultKind::Lost => row("lost", Act::Retry),
            FaultKind::TimedOut => row("timed_out", Act::Retry),
            FaultKind::TooManyConnections => row("too_many_connections", Act::Retry),
            FaultKind::HostBlocked => row("host_blocked", Act::Retry),
            FaultKind::AccessDenied => row("access_denied", Act::Operator),
            FaultKind::ReadOnly => row("read_only", Act::Retry),
            FaultKind::NotReady => row("not_ready", Act::Retry),
            FaultKind::Deadlock => spared("deadlock"),
            FaultKind::LockWait => spared("lock_wait"),
            FaultKind::Interrupted => spared("interrupted"),
            FaultKind::DiskFull => row("disk_full", Act::Retry),
            FaultKind::ShuttingDown => row("shutting_down", Act::Retry),
            FaultKind::NoDatabase => row("no_database", Act::Mend),
            FaultKind::NoTable => row("no_table", Act::Mend),
            FaultKind::TableGone => row("table_gone", Act::Mend),
            FaultKind::OldTable => row("old_table", Act::Mend),
            FaultKind::ForeignTable => row("foreign_table", Act::Mend),
            FaultKind::Damaged => row("damaged", Act::Mend),
            FaultKind::NoCounterRow => row("no_counter_row", Act::Mend),
            FaultKind::NotOneRow => row("not_one_row", Act::Mend),
            FaultKind::CounterAltered => row("counter_altered", Act::Mend),
            FaultKind::NoSettings => row("no_settings", Act::Mend),
            FaultKind::SettingsDamaged => row("settings_damaged", Act::Mend),
            FaultKind::SettingsDiffer => row("settings_differ", Act::Mend),
            FaultKind::TlsUnavailable => row("tls_unavailable", Act::Operator),
            FaultKind::CertificateRefused => row("certificate_refused", Act::Operator),
            FaultKind::Unexpected => row("unexpected", Act::Retry),
            FaultKind::Protocol => row("protocol", Act::Retry),
        }
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
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.row().label, self.said)
    }
}

impl Error for Fault {}
