//! What an operator does to the database: `tickr db create`, `check`, `migrate`, `advance` and
//! `drop`. Serving itself creates and changes no table.
//!
//! Nothing here ever moves a counter backwards, and nothing begins a counter anew where one may
//! have been.

use std::fmt;

use mysql::prelude::Queryable;
use mysql::{Conn, Row};

use super::old::session::{self, Server};
use super::{DatabaseError, Settings, Warning};
use crate::limits;
use crate::ticket::{COUNTER_SEED, Numbering};

/// The table of `sql/create_settings.sql`.
const SETTINGS_TABLE: &str = "tickr_settings";
/// What the names of `sql/unique_name.sql` begin with.
const NEW_TABLE: &str = "tickets_new_";

/// A table or database of that name exists already.
const ER_DB_CREATE_EXISTS: u16 = 1007;
const ER_TABLE_EXISTS_ERROR: u16 = 1050;
const ER_DUP_ENTRY: u16 = 1062;

/// What [`create`] had to create; the rest was there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Created {
    /// The database.
    pub database: bool,
    /// The table with its counter row.
    pub table: bool,
    /// The stored settings.
    pub settings: bool,
}

impl fmt::Display for Created {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (self.database, "the database"),
            (self.table, "the table `tickets` with its counter"),
            (self.settings, "the stored settings"),
        ];
        let list = |wanted: bool| {
            let chosen = parts.iter().filter(|(created, _)| *created == wanted);
            chosen.map(|(_, part)| *part).collect::<Vec<_>>().join(", ")
        };
        match (list(true), list(false)) {
            (created, there) if created.is_empty() => {
                write!(f, "nothing to do: {there} are there already")
            }
            (created, there) if there.is_empty() => write!(f, "created {created}"),
            (created, there) => write!(f, "created {created}; {there}: there already"),
        }
    }
}

/// Creates the database (if it is missing and the user may), the table with its counter row, and
/// the stored settings. What is there already stays as it is, a counter of the original Tickr
/// included, whose table takes the settings beside it as they are given.
pub fn create(settings: &Settings, numbering: &Numbering) -> Result<Created, DatabaseError> {
    let (mut conn, database) = connect_or_create(settings)?;
    let stored = session::stored_settings(&mut conn)?;
    differ(stored, numbering)?;
    let table = match session::read_counter(&mut conn) {
        Ok(_) => false,
        Err(DatabaseError::NoTable { .. }) if stored.is_some() => {
            return Err(DatabaseError::TableGone);
        }
        Err(DatabaseError::NoTable { .. }) => create_tickets(&mut conn, COUNTER_SEED)?,
        Err(error) => return Err(error),
    };
    let settings = stored.is_none() && store_settings(&mut conn, numbering)?;
    // Somebody else may have stored others in between.
    session::verify(&mut conn, numbering)?;
    Ok(Created {
        database,
        table,
        settings,
    })
}

/// What [`check`] found. `Display` is what the command prints.
#[derive(Clone, Debug)]
pub struct Report {
    /// The version, as the server spells it.
    pub server_version: String,
    /// The engine of the table; `None` when the table is not there.
    pub engine: Option<String>,
    /// The counter; `None` when there is none.
    pub counter: Option<u64>,
    /// The stored settings; `None` when there are none.
    pub stored: Option<Numbering>,
    /// The settings that were given.
    pub given: Numbering,
    /// What weakens the promise.
    pub warnings: Vec<Warning>,
    /// What keeps a node with the given settings from serving; empty when nothing does.
    pub problems: Vec<DatabaseError>,
}

impl Report {
    /// The last ticket that was reserved; `None` before the first, and without a counter.
    pub fn last_ticket(&self) -> Option<u64> {
        self.given.ticket(self.counter?)
    }

    /// How many tickets this node has left up to `ceiling`; `None` without a counter.
    pub fn headroom(&self, ceiling: u64) -> Option<u64> {
        Some(self.given.headroom(self.counter?, ceiling))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |value: Option<u64>| value.map_or("none".to_owned(), |n| n.to_string());
        let stored = self.stored.map_or("none".to_owned(), |n| n.to_string());
        writeln!(f, "server            {}", self.server_version)?;
        writeln!(
            f,
            "engine            {}",
            self.engine.as_deref().unwrap_or("none")
        )?;
        writeln!(f, "counter           {}", number(self.counter))?;
        writeln!(f, "last ticket       {}", number(self.last_ticket()))?;
        writeln!(f, "stored settings   {stored}")?;
        writeln!(f, "given settings    {}", self.given)?;
        let safe = self.headroom(limits::SAFE_INTEGER_MAX);
        writeln!(f, "left below 2^53   {} tickets", number(safe))?;
        writeln!(
            f,
            "left below 2^64   {} tickets",
            number(self.headroom(u64::MAX))
        )?;
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        for problem in &self.problems {
            writeln!(f, "problem: {problem}")?;
        }
        if self.problems.is_empty() {
            writeln!(f, "ready to serve")?;
        }
        Ok(())
    }
}

/// Looks at everything and changes nothing. An error means that it could not look.
pub fn check(settings: &Settings, numbering: &Numbering) -> Result<Report, DatabaseError> {
    let mut conn = connect(settings)?;
    let server = Server::of(&mut conn)?;
    let engine = session::table_engine(&mut conn)?;
    let mut problems = Vec::new();
    let stored = note(session::stored_settings(&mut conn), &mut problems)?.flatten();
    let counter = match session::read_counter(&mut conn) {
        Err(DatabaseError::NoTable { .. }) if stored.is_some() => Err(DatabaseError::TableGone),
        read => read,
    };
    let counter = note(counter, &mut problems)?;
    if counter.is_some() && stored.is_none() && problems.is_empty() {
        problems.push(DatabaseError::NoSettings);
    }
    problems.extend(differ(stored, numbering).err());
    if let Some(counter) = counter.filter(|&counter| counter >= numbering.last_base()) {
        problems.push(DatabaseError::NumbersExhausted { counter });
    }
    Ok(Report {
        warnings: server.warnings(engine.as_ref()),
        server_version: server.version,
        engine: engine.map(|engine| engine.name),
        counter,
        stored,
        given: *numbering,
        problems,
    })
}

/// Puts what an operator has to mend among the problems; any other error is returned.
fn note<T>(
    result: Result<T, DatabaseError>,
    problems: &mut Vec<DatabaseError>,
) -> Result<Option<T>, DatabaseError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.needs_operator() => {
            problems.push(error);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// How [`migrate`] ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Migrated {
    /// The table was on a transactional engine already.
    NothingToDo {
        /// The engine.
        engine: String,
    },
    /// The table is InnoDB now, and its counter is what it was.
    Done {
        /// The engine it had.
        from: String,
        /// The counter, the same before and after.
        counter: u64,
    },
}

impl fmt::Display for Migrated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Migrated::NothingToDo { engine } => {
                write!(
                    f,
                    "nothing to do: the table `tickets` uses {engine} already"
                )
            }
            Migrated::Done { from, counter } => write!(
                f,
                "the table `tickets` went from {from} to InnoDB; its counter is {counter}, as \
                 before"
            ),
        }
    }
}

/// Turns the table into InnoDB. Whoever writes to it meanwhile waits, and nothing is lost.
pub fn migrate(settings: &Settings) -> Result<Migrated, DatabaseError> {
    let mut conn = connect(settings)?;
    let engine = session::table_engine(&mut conn)?;
    // Also says that there is no table, or no row.
    session::read_counter(&mut conn)?;
    let from = match engine {
        Some(engine) if engine.transactional => {
            return Ok(Migrated::NothingToDo {
                engine: engine.name,
            });
        }
        engine => engine.map_or_else(String::new, |engine| engine.name),
    };
    conn.query_drop(include_str!("../../sql/lock_tickets.sql"))?;
    let before = session::read_counter(&mut conn)?;
    conn.query_drop(include_str!("../../sql/migrate_tickets.sql"))?;
    let counter = session::read_counter(&mut conn)?;
    conn.query_drop(include_str!("../../sql/unlock_tickets.sql"))?;
    if counter != before {
        return Err(DatabaseError::CounterAltered {
            reserved: before,
            counter,
        });
    }
    Ok(Migrated::Done { from, counter })
}

/// How [`advance`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advanced {
    /// Every later ticket was above it already.
    NothingToDo {
        /// The counter, as it is.
        counter: u64,
    },
    /// The counter went forward.
    Moved {
        /// The counter, as it is now.
        counter: u64,
    },
    /// The counter was missing, and is there again.
    Restored {
        /// The counter, as it is now.
        counter: u64,
    },
}

impl fmt::Display for Advanced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Advanced::NothingToDo { counter } => write!(
                f,
                "nothing to do: with the counter at {counter}, every later ticket is above that \
                 already"
            ),
            Advanced::Moved { counter } => write!(f, "the counter is {counter} now"),
            Advanced::Restored { counter } => {
                write!(
                    f,
                    "the counter was missing; it is there again, at {counter}"
                )
            }
        }
    }
}

/// Moves the counter forward so far that every later ticket is above `past`; never backwards. Only
/// this brings back a missing counter row or table. Safe beside running nodes.
pub fn advance(
    settings: &Settings,
    numbering: &Numbering,
    past: u64,
) -> Result<Advanced, DatabaseError> {
    let mut conn = connect(settings)?;
    let stored = session::stored_settings(&mut conn)?;
    differ(stored, numbering)?;
    let Some(target) = numbering.counter_past(past) else {
        let counter = session::read_counter(&mut conn)?;
        return Err(DatabaseError::NumbersExhausted { counter });
    };
    match session::read_counter(&mut conn) {
        Ok(_) => {}
        Err(DatabaseError::NoTable { .. }) if stored.is_some() => {
            if create_tickets(&mut conn, target)? {
                return Ok(Advanced::Restored { counter: target });
            }
        }
        Err(DatabaseError::NoCounterRow) => {
            if seed(&mut conn, "tickets", target)? {
                return Ok(Advanced::Restored { counter: target });
            }
        }
        Err(error) => return Err(error),
    }
    conn.exec_drop(include_str!("../../sql/advance.sql"), (target, target))?;
    let moved = conn.affected_rows() == 1;
    let counter = session::read_counter(&mut conn)?;
    Ok(if moved {
        Advanced::Moved { counter }
    } else {
        Advanced::NothingToDo { counter }
    })
}

/// Drops the database and all that is in it, if `confirm` is its name and nothing in it is another
/// program's.
pub fn drop_database(settings: &Settings, confirm: &str) -> Result<(), DatabaseError> {
    if confirm != settings.name {
        return Err(DatabaseError::NotConfirmed {
            name: settings.name.clone(),
        });
    }
    let mut conn = connect(settings)?;
    let rows: Vec<Row> = conn.query(include_str!("../../sql/tables.sql"))?;
    let names = rows.into_iter().map(|mut row| session::column(&mut row, 0));
    let tables = names.collect::<Result<Vec<String>, DatabaseError>>()?;
    let is_ours = |table: &String| {
        ["tickets", SETTINGS_TABLE].contains(&table.as_str()) || table.starts_with(NEW_TABLE)
    };
    let is_set_up = tables.iter().any(|table| table == SETTINGS_TABLE);
    if !tables.iter().all(is_ours) || (!tables.is_empty() && !is_set_up) {
        return Err(DatabaseError::NotOnlyOurs {
            name: settings.name.clone(),
            tables,
        });
    }
    let drop = include_str!("../../sql/drop_database.sql");
    conn.query_drop(drop.replace("{database}", &quoted(&settings.name)))?;
    Ok(())
}

fn connect(settings: &Settings) -> Result<Conn, DatabaseError> {
    connect_to(settings, Some(&settings.name))
}

fn connect_to(settings: &Settings, database: Option<&str>) -> Result<Conn, DatabaseError> {
    // MySQL gives up on a lock before the connection gives up on MySQL.
    let lock_wait = limits::DATABASE_COMMAND_TIMEOUT / 2;
    let mut conn = session::connect(settings, database, limits::DATABASE_COMMAND_TIMEOUT)?;
    session::begin(&mut conn, lock_wait)?;
    Ok(conn)
}

/// A user without the privilege to create databases can use one that is there, so connecting to it
/// comes first. To a user without privileges MySQL denies that a database is missing.
fn connect_or_create(settings: &Settings) -> Result<(Conn, bool), DatabaseError> {
    match connect(settings) {
        Err(DatabaseError::NoDatabase { .. } | DatabaseError::AccessDenied { .. }) => {}
        connected => return connected.map(|conn| (conn, false)),
    }
    let mut conn = connect_to(settings, None)?;
    let create = include_str!("../../sql/create_database.sql");
    let result = conn.query_drop(create.replace("{database}", &quoted(&settings.name)));
    let created = unless(result, ER_DB_CREATE_EXISTS)?;
    Ok((connect(settings)?, created))
}

/// Creates the table with its row, both at once: nobody ever sees the one without the other.
/// False when somebody else has created it.
fn create_tickets(conn: &mut Conn, counter: u64) -> Result<bool, DatabaseError> {
    let name: Option<String> = conn.query_first(include_str!("../../sql/unique_name.sql"))?;
    let name = name.ok_or_else(|| DatabaseError::protocol("no UUID"))?;
    let table = quoted(&name);
    let with_table = |statement: &str| statement.replace("{table}", &table);
    conn.query_drop(with_table(include_str!("../../sql/create_tickets.sql")))?;
    let published = seed(conn, &name, counter).and_then(|_| {
        let publish = with_table(include_str!("../../sql/publish_tickets.sql"));
        unless(conn.query_drop(publish), ER_TABLE_EXISTS_ERROR)
    });
    if published != Ok(true) {
        conn.query_drop(with_table(include_str!("../../sql/discard_tickets.sql")))?;
    }
    published
}

/// Puts the counter row into a table; false when there is one.
fn seed(conn: &mut Conn, table: &str, counter: u64) -> Result<bool, DatabaseError> {
    let insert = include_str!("../../sql/seed_counter.sql")
        .replace("{table}", &quoted(table))
        .replace("{counter}", &counter.to_string());
    unless(conn.query_drop(insert), ER_DUP_ENTRY)
}

/// Stores the settings; false when there are some.
fn store_settings(conn: &mut Conn, numbering: &Numbering) -> Result<bool, DatabaseError> {
    conn.query_drop(include_str!("../../sql/create_settings.sql"))?;
    let values = (
        numbering.max_nodes(),
        numbering.starting_offset(),
        numbering.node_number(),
    );
    conn.exec_drop(include_str!("../../sql/store_settings.sql"), values)?;
    Ok(conn.affected_rows() == 1)
}

fn differ(stored: Option<Numbering>, given: &Numbering) -> Result<(), DatabaseError> {
    match stored.filter(|stored| stored != given) {
        None => Ok(()),
        Some(stored) => Err(DatabaseError::SettingsDiffer {
            stored,
            given: *given,
        }),
    }
}

/// False when it failed with the error `code`, which means that it was done before.
fn unless(result: mysql::Result<()>, code: u16) -> Result<bool, DatabaseError> {
    match result {
        Ok(()) => Ok(true),
        Err(mysql::Error::MySqlError(error)) if error.code == code => Ok(false),
        Err(error) => Err(DatabaseError::from(error)),
    }
}

/// An identifier as MySQL reads it in any sql_mode:
/// <https://dev.mysql.com/doc/refman/8.4/en/identifiers.html>
fn quoted(identifier: &str) -> String {
    format!("`{}`", identifier.replace('`', "``"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_quoted() {
        assert_eq!(quoted("we`ird-name"), "`we``ird-name`");
    }
}
