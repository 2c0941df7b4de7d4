//! One connection to MySQL, and the only SQL of the hot path: one statement that moves the counter,
//! and one that reads it.
//!
//! A session owes nothing to the server's defaults: it sets every variable that could change what
//! its statements mean, and looks at the stored settings before anything is reserved over it.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use mysql::prelude::{FromValue, Queryable};
use mysql::{Conn, DriverError, Opts, OptsBuilder, Row, SslOpts, Statement};

use super::DatabaseError;
use crate::database::{Host, Settings, Tls};
use crate::limits;
use crate::ticket::{Block, Numbering};

/// A connection that may reserve: set up, and its settings verified.
pub struct Session {
    conn: Conn,
    reserve: Statement,
    counter: Statement,
    numbering: Numbering,
}

/// What was found when a session was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The counter, before anything was reserved over this session.
    pub counter: u64,
    /// The version, as the server spells it.
    pub server_version: String,
    /// What makes the promise weaker than it looks.
    pub warnings: Vec<Warning>,
}

/// Something about the server that weakens the promise that no ticket is given twice, or that will
/// keep tickets from being reserved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// The engine of the table does not survive a crash of the server.
    NotTransactional {
        /// Its name.
        engine: String,
    },
    /// `innodb_flush_log_at_trx_commit` lets a commit return before it is on disk.
    CommitNotFlushed {
        /// The value of the variable.
        value: String,
    },
    /// There is a binary log, and `sync_binlog` lets a commit return before it is in there.
    BinaryLogNotSynced {
        /// The value of the variable.
        value: String,
    },
    /// The server is read-only for ordinary users.
    ReadOnly,
}

impl Session {
    /// Connects, sets the session up, verifies that the settings stored beside the counter are
    /// `numbering`, and reads the counter.
    pub fn open(
        settings: &Settings,
        numbering: &Numbering,
    ) -> Result<(Session, Opened), DatabaseError> {
        let io_timeout = (settings.timeout * 2).max(limits::DATABASE_IO_TIMEOUT_MIN);
        let mut conn = connect(settings, Some(&settings.name), io_timeout)?;
        begin(&mut conn, settings.timeout)?;
        let server = Server::of(&mut conn)?;
        if server.is_galera() {
            // Else a node that lags behind the others shows a counter from the past.
            conn.query_drop(include_str!("../../../sql/sync_reads.sql"))?;
        }
        let engine = table_engine(&mut conn)?;
        let counter = verify(&mut conn, numbering)?;
        let reserve = conn.prep(include_str!("../../../sql/reserve_old.sql"))?;
        let read = conn.prep(include_str!("../../../sql/counter.sql"))?;
        let session = Session {
            conn,
            reserve,
            counter: read,
            numbering: *numbering,
        };
        let opened = Opened {
            counter,
            warnings: server.warnings(engine.as_ref()),
            server_version: server.version,
        };
        Ok((session, opened))
    }

    /// Reserves `count` base ids, at least one. When this returns, the block is committed.
    pub fn reserve(&mut self, count: u64) -> Result<Block, DatabaseError> {
        assert!(count > 0, "a reservation is for at least one base id");
        let last_base = self.numbering.last_base();
        let Some(counter_max) = last_base.checked_sub(count) else {
            let counter = self.counter()?;
            return Err(DatabaseError::NumbersExhausted { counter });
        };
        // `LAST_INSERT_ID(expr)` comes back in the OK packet of the same round trip:
        // https://dev.mysql.com/doc/refman/8.4/en/information-functions.html
        let result = self.conn.exec_iter(&self.reserve, (count, counter_max))?;
        let rows = result.affected_rows();
        let last = result.last_insert_id();
        drop(result);
        if rows != 1 {
            return Err(self.not_one_row(rows, counter_max)?);
        }
        let block = last
            .filter(|&last| last <= last_base)
            .and_then(|last| Block::ending_at(last, count));
        match block {
            Some(block) => Ok(block),
            // With any trigger on the table, no value comes back: it might have stored another.
            None => Err(DatabaseError::CounterAltered {
                reserved: last.unwrap_or(0),
                counter: self.counter()?,
            }),
        }
    }

    /// Reads the counter: the last base id that was ever reserved.
    pub fn counter(&mut self) -> Result<u64, DatabaseError> {
        let rows = self.conn.exec(&self.counter, ())?;
        single_counter(rows)
    }

    /// Why a reservation did not change exactly one row.
    fn not_one_row(&mut self, rows: u64, counter_max: u64) -> Result<DatabaseError, DatabaseError> {
        let counter = self.counter()?;
        if rows == 0 && counter > counter_max {
            return Ok(DatabaseError::NumbersExhausted { counter });
        }
        Ok(DatabaseError::NotOneRow { rows })
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::NotTransactional { engine } => write!(
                f,
                "the table `tickets` uses the engine {engine}, which does not survive a crash of \
                 MySQL: tickets can repeat after one. Run `tickr db migrate`"
            ),
            Warning::CommitNotFlushed { value } => write!(
                f,
                "innodb_flush_log_at_trx_commit is {value}, so MySQL forgets commits when it or \
                 its machine crashes: tickets can repeat after that. Set it to 1"
            ),
            Warning::BinaryLogNotSynced { value } => write!(
                f,
                "sync_binlog is {value}, so the binary log can lack commits after a crash of the \
                 machine: tickets can repeat after a fail-over to a replica. Set it to 1"
            ),
            Warning::ReadOnly => write!(
                f,
                "the server is read-only: either no ticket can be reserved, or this user may write \
                 to what is a replica, and tickets can repeat. Check that it is the primary server"
            ),
        }
    }
}

/// The engine of the table `tickets`.
pub(in crate::database) struct Engine {
    pub(in crate::database) name: String,
    pub(in crate::database) transactional: bool,
}

/// What the variables of the server say about it.
pub(in crate::database) struct Server {
    pub(in crate::database) version: String,
    variables: HashMap<String, String>,
}

impl Server {
    pub(in crate::database) fn of(conn: &mut Conn) -> Result<Server, DatabaseError> {
        let rows: Vec<Row> = conn.query(include_str!("../../../sql/variables_old.sql"))?;
        let mut variables = HashMap::new();
        for mut row in rows {
            let name: String = column(&mut row, 0)?;
            variables.insert(name.to_ascii_lowercase(), column(&mut row, 1)?);
        }
        Ok(Server {
            version: variables.remove("version").unwrap_or_default(),
            variables,
        })
    }

    pub(in crate::database) fn warnings(&self, engine: Option<&Engine>) -> Vec<Warning> {
        let mut warnings = Vec::new();
        if let Some(engine) = engine.filter(|engine| !engine.transactional) {
            warnings.push(Warning::NotTransactional {
                engine: engine.name.clone(),
            });
        }
        // 3 is MariaDB's name for 1 with more flushes.
        let flush = self.value("innodb_flush_log_at_trx_commit");
        if let Some(value) = flush.filter(|value| !["1", "3"].contains(value)) {
            warnings.push(Warning::CommitNotFlushed {
                value: value.to_owned(),
            });
        }
        let sync = self.value("sync_binlog");
        if let Some(value) = sync.filter(|&value| self.is_on("log_bin") && value != "1") {
            warnings.push(Warning::BinaryLogNotSynced {
                value: value.to_owned(),
            });
        }
        if self.is_on("read_only") || self.is_on("super_read_only") {
            warnings.push(Warning::ReadOnly);
        }
        warnings
    }

    fn is_galera(&self) -> bool {
        self.is_on("wsrep_on")
    }

    fn is_on(&self, variable: &str) -> bool {
        self.value(variable)
            .is_some_and(|value| value != "OFF" && value != "0")
    }

    fn value(&self, variable: &str) -> Option<&str> {
        self.variables.get(variable).map(String::as_str)
    }
}

/// Connects to the server, and to `database` on it, if any. A read or write that takes longer than
/// `io_timeout` ends the connection.
pub(in crate::database) fn connect(
    settings: &Settings,
    database: Option<&str>,
    io_timeout: Duration,
) -> Result<Conn, DatabaseError> {
    let (host, port) = match &settings.host {
        Host::Socket(_) => {
            return connect_to(None, options(settings, database, io_timeout), settings);
        }
        Host::Tcp { host, port } => (host.as_str(), *port),
    };
    // The driver tries only the first address of a name; all of them are tried here.
    let addresses = (host, port)
        .to_socket_addrs()
        .map_err(|error| DatabaseError::Unreachable {
            reason: format!("{}: {error}", settings.host),
        })?;
    let mut failure = DatabaseError::Unreachable {
        reason: format!("{}: the name has no address", settings.host),
    };
    if matches!(settings.tls, Tls::Verify { .. }) && host.parse::<IpAddr>().is_err() {
        return connect_by_name(host, port, addresses, database, io_timeout, settings);
    }
    for address in addresses.take(limits::DATABASE_ADDRESSES_MAX) {
        let options = options(settings, database, io_timeout);
        match connect_to(Some(address), options, settings) {
            Err(unreachable @ DatabaseError::Unreachable { .. }) => failure = unreachable,
            other => return other,
        }
    }
    Err(failure)
}

/// Connects to a host whose certificate is to be checked, for which the driver must be given its
/// name. It then tries every address of the family that it is bound to, but no other.
fn connect_by_name(
    host: &str,
    port: u16,
    addresses: impl Iterator<Item = SocketAddr>,
    database: Option<&str>,
    io_timeout: Duration,
    settings: &Settings,
) -> Result<Conn, DatabaseError> {
    let mut families: Vec<SocketAddr> = Vec::new();
    for address in addresses {
        let family = match address {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        if !families.contains(&family) {
            families.push(family);
        }
    }
    let mut failure = DatabaseError::Unreachable {
        reason: format!("{}: the name has no address", settings.host),
    };
    for family in families {
        let options = options(settings, database, io_timeout)
            .ip_or_hostname(Some(host))
            .tcp_port(port)
            .bind_address(Some(family));
        match Conn::new(Opts::from(options)).map_err(DatabaseError::from) {
            Err(unreachable @ DatabaseError::Unreachable { .. }) => failure = unreachable,
            other => return other,
        }
    }
    Err(failure)
}

fn connect_to(
    address: Option<SocketAddr>,
    options: OptsBuilder,
    settings: &Settings,
) -> Result<Conn, DatabaseError> {
    let (options, target) = match address {
        None => (options, settings.host.to_string()),
        Some(address) => {
            let target = address.to_string();
            let host = target.strip_suffix(&format!(":{}", address.port()));
            let options = options.ip_or_hostname(host).tcp_port(address.port());
            (options, target)
        }
    };
    Conn::new(Opts::from(options)).map_err(|error| match error {
        mysql::Error::DriverError(DriverError::CouldNotConnect(Some((_, reason, _)))) => {
            DatabaseError::Unreachable {
                reason: format!("{target}: {reason}"),
            }
        }
        mysql::Error::DriverError(DriverError::ConnectTimeout) => DatabaseError::Unreachable {
            reason: format!("{target}: no answer in time"),
        },
        other => DatabaseError::from(other),
    })
}

/// The options of every connection, except its TCP address.
fn options(settings: &Settings, database: Option<&str>, io_timeout: Duration) -> OptsBuilder {
    let connect_timeout = settings.timeout.clamp(
        limits::DATABASE_CONNECT_TIMEOUT_MIN,
        limits::DATABASE_CONNECT_TIMEOUT_MAX,
    );
    let socket = match &settings.host {
        Host::Tcp { .. } => None,
        Host::Socket(path) => Some(path.to_string_lossy()),
    };
    let tls = match &settings.tls {
        Tls::Off => None,
        Tls::Required => Some(SslOpts::default().with_danger_accept_invalid_certs(true)),
        Tls::Verify { ca } => Some(SslOpts::default().with_root_cert_path(ca.clone())),
    };
    OptsBuilder::new()
        .ssl_opts(tls)
        .socket(socket)
        .prefer_socket(false)
        .user(Some(&settings.username))
        .pass(Some(settings.password.read().expose()))
        .db_name(database)
        .tcp_connect_timeout(Some(connect_timeout))
        .read_timeout(Some(io_timeout))
        .write_timeout(Some(io_timeout))
        .tcp_nodelay(true)
        .tcp_keepalive_time_ms(Some(limits::DATABASE_KEEPALIVE.as_millis() as u32))
        .max_allowed_packet(Some(limits::DATABASE_PACKET_BYTES_MAX))
        .connect_attrs::<String, String>(None)
        .stmt_cache_size(0)
}

/// Makes the session independent of the server's defaults and of its `init_connect`. A lock is
/// waited for no longer than `lock_wait`, rounded up to a second.
pub(in crate::database) fn begin(
    conn: &mut Conn,
    lock_wait: Duration,
) -> Result<(), DatabaseError> {
    let seconds = lock_wait.as_secs() + u64::from(lock_wait.subsec_nanos() > 0);
    let session = include_str!("../../../sql/session_old.sql")
        .replace("{lock_wait_seconds}", &seconds.max(1).to_string());
    conn.query_drop(include_str!("../../../sql/rollback.sql"))?;
    conn.query_drop(session)?;
    conn.query_drop(include_str!("../../../sql/isolation_old.sql"))?;
    Ok(())
}

/// The engine of the table `tickets`; `None` when there is no such table, or when this user may not
/// see it.
pub(in crate::database) fn table_engine(conn: &mut Conn) -> Result<Option<Engine>, DatabaseError> {
    let row: Option<Row> = conn.query_first(include_str!("../../../sql/engine.sql"))?;
    let Some(mut row) = row else {
        return Ok(None);
    };
    // A view has no engine.
    let name: Option<String> = column(&mut row, 0)?;
    let transactions: Option<String> = column(&mut row, 1)?;
    Ok(Some(Engine {
        name: name.unwrap_or_else(|| "none".to_owned()),
        transactional: transactions.is_some_and(|answer| answer == "YES"),
    }))
}

/// The settings stored beside the counter; `None` when there are none.
pub(in crate::database) fn stored_settings(
    conn: &mut Conn,
) -> Result<Option<Numbering>, DatabaseError> {
    let rows = conn.query::<Row, _>(include_str!("../../../sql/settings_old.sql"));
    let mut rows = match rows.map_err(DatabaseError::from) {
        Err(DatabaseError::NoTable { .. }) => return Ok(None),
        other => other?,
    };
    if rows.len() > 1 {
        return Err(DatabaseError::SettingsDamaged {
            reason: format!("{} rows where one belongs", rows.len()),
        });
    }
    let Some(mut row) = rows.pop() else {
        return Ok(None);
    };
    let stored = Numbering::new(
        column(&mut row, 0)?,
        column(&mut row, 1)?,
        column(&mut row, 2)?,
    )?;
    Ok(Some(stored))
}

/// Reads the counter, if the settings beside it are `given`: nothing is reserved under others.
pub(in crate::database) fn verify(
    conn: &mut Conn,
    given: &Numbering,
) -> Result<u64, DatabaseError> {
    let counter = read_counter(conn);
    match (counter, stored_settings(conn)?) {
        (Err(DatabaseError::NoTable { .. }), Some(_)) => Err(DatabaseError::TableGone),
        (Err(error), _) => Err(error),
        (Ok(_), None) => Err(DatabaseError::NoSettings),
        (Ok(counter), Some(stored)) if stored == *given => Ok(counter),
        (Ok(_), Some(stored)) => Err(DatabaseError::SettingsDiffer {
            stored,
            given: *given,
        }),
    }
}

/// Reads the counter without a prepared statement.
pub(in crate::database) fn read_counter(conn: &mut Conn) -> Result<u64, DatabaseError> {
    single_counter(conn.query(include_str!("../../../sql/counter.sql"))?)
}

fn single_counter(mut rows: Vec<Row>) -> Result<u64, DatabaseError> {
    if rows.len() > 1 {
        return Err(DatabaseError::NotOneRow {
            rows: rows.len() as u64,
        });
    }
    let mut row = rows.pop().ok_or(DatabaseError::NoCounterRow)?;
    column(&mut row, 0)
}

/// Takes a value out of a row, where the driver's own way would panic on another type.
pub(in crate::database) fn column<T: FromValue>(
    row: &mut Row,
    index: usize,
) -> Result<T, DatabaseError> {
    match row.take_opt(index) {
        Some(Ok(value)) => Ok(value),
        Some(Err(_)) => Err(DatabaseError::protocol(format!(
            "column {index} of an answer is of another type than was asked for"
        ))),
        None => Err(DatabaseError::protocol(format!(
            "column {index} of an answer is missing"
        ))),
    }
}
