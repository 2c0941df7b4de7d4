//! What an operator does to the database: `tickr db create`, `check`, `migrate`, `advance` and
//! `drop`. Serving itself creates and changes no table.
//!
//! Nothing here ever moves a counter backwards, and nothing begins a counter anew where one may
//! have been.

use std::fmt;
use std::time::Duration;

use mysql::prelude::Queryable;

use super::Settings;
use super::answers::{column, view};
use super::driver::{Deadline, Link, guarded, random, within};
use super::identity::{CLOSED, Identity, Variables};
use super::look::{ADDED_COLUMNS, Found, LEASE_COLUMN, differ, look};
use super::session::Session;
use crate::counter::{Epoch, Owner, View, Warning};
use crate::fault::{Fault, FaultKind};
use crate::limits;
use crate::ticket::{COUNTER_SEED, Numbering};

mod advance;
mod column;

pub use advance::{Advanced, advance, set_lease};
pub use column::{ColumnReport, check_column};

/// The table of `sql/create_settings.sql`.
const SETTINGS_TABLE: &str = "tickr_settings";
/// What the names of `sql/unique_name.sql` begin with.
const NEW_TABLE: &str = "tickets_new_";

/// A table or database of that name exists already.
const ER_DB_CREATE_EXISTS: u16 = 1007;
const ER_TABLE_EXISTS_ERROR: u16 = 1050;
const ER_DUP_FIELDNAME: u16 = 1060;
const ER_DUP_ENTRY: u16 = 1062;

/// What [`create`] had to do; the rest was there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Created {
    /// The database was created.
    pub database: bool,
    /// The table with its counter row was created.
    pub table: bool,
    /// The settings were stored.
    pub settings: bool,
    /// Columns were added that an older version did not have.
    pub columns: bool,
    /// The counter was opened for the first time.
    pub opened: bool,
}

impl fmt::Display for Created {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (self.database, "created the database"),
            (self.table, "created the table `tickets` with its counter"),
            (self.settings, "stored the settings"),
            (
                self.columns,
                "added the columns that an older version lacks",
            ),
            (self.opened, "opened the counter on this server"),
        ];
        let done: Vec<&str> = parts
            .iter()
            .filter_map(|&(done, part)| done.then_some(part))
            .collect();
        match done.is_empty() {
            true => write!(f, "nothing to do: everything exists already"),
            false => write!(f, "{}", done.join(", ")),
        }
    }
}

/// Creates the database (if it is missing and the user may), the table with its counter row, and
/// the stored settings, and adds the columns that a table of the original or of version 0.1 lacks,
/// beside running processes of those. A counter that was never opened is opened on this server.
/// What is there already stays as it is; the lease is stored with the settings.
pub fn create(
    settings: &Settings,
    numbering: &Numbering,
    lease: Duration,
) -> Result<Created, Fault> {
    guarded(|| {
        let (mut desk, database) = Desk::open_or_create(settings)?;
        let mut created = desk.upgrade(Some((numbering, lease)))?;
        created.database = database;
        // Somebody else may have stored others in between.
        let found = desk.look()?;
        match found.problems(numbering).into_iter().next() {
            None => Ok(created),
            Some(problem) => Err(problem),
        }
    })
}

/// What [`check`] found. `Display` is what the command prints.
#[derive(Clone, Debug)]
pub struct Report {
    /// The version, as the server spells it.
    pub server_version: String,
    /// What the server is called as an owner.
    pub server_identity: String,
    /// The engine of the table; `None` when the table is not there.
    pub engine: Option<String>,
    /// The row; `None` when there is none.
    pub row: Option<View>,
    /// The stored settings; `None` when there are none.
    pub stored: Option<Numbering>,
    /// The settings that were given.
    pub given: Numbering,
    /// What weakens the promise.
    pub warnings: Vec<Warning>,
    /// What keeps a node with the given settings from serving; empty when nothing does.
    pub problems: Vec<Fault>,
}

impl Report {
    /// The counter; `None` when there is none.
    pub fn counter(&self) -> Option<u64> {
        self.row.as_ref().map(|view| view.id)
    }

    /// The last ticket that was reserved; `None` before the first, and without a counter.
    pub fn last_ticket(&self) -> Option<u64> {
        self.given.ticket(self.counter()?)
    }

    /// How many tickets this node has left up to `ceiling`; `None` without a counter.
    pub fn headroom(&self, ceiling: u64) -> Option<u64> {
        Some(self.given.headroom(self.counter()?, ceiling))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |value: Option<u64>| value.map_or("none".to_owned(), |n| n.to_string());
        let stored = self.stored.map_or("none".to_owned(), |n| n.to_string());
        let engine = self.engine.as_deref().unwrap_or("none");
        let foreign = |text: &str| crate::foreign::printable(text);
        writeln!(f, "server            {}", foreign(&self.server_version))?;
        writeln!(f, "identity          {}", foreign(&self.server_identity))?;
        writeln!(f, "engine            {}", foreign(engine))?;
        writeln!(f, "counter           {}", number(self.counter()))?;
        if let Some(view) = &self.row {
            writeln!(f, "state             {}", state(view))?;
            writeln!(f, "mark              {}", view.mark)?;
            writeln!(f, "epoch             {}", view.epoch.number)?;
            writeln!(f, "lease             {} s", view.lease.as_secs())?;
        }
        writeln!(f, "last ticket       {}", number(self.last_ticket()))?;
        writeln!(f, "stored settings   {stored}")?;
        writeln!(f, "given settings    {}", self.given)?;
        let left = |ceiling| match self.headroom(ceiling) {
            Some(left) => format!("{left} tickets"),
            None => "unknown".to_owned(),
        };
        writeln!(f, "left below 2^53   {}", left(limits::SAFE_INTEGER_MAX))?;
        writeln!(f, "left below 2^64   {}", left(u64::MAX))?;
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

/// Whether a row is open, and if not, why.
fn state(view: &View) -> String {
    match why_closed(view) {
        None => "open".to_owned(),
        Some(why) => format!("closed: {why}"),
    }
}

fn why_closed(view: &View) -> Option<String> {
    match &view.owner {
        Owner::Closed => Some("by an operator, or by `tickr db advance` at work".to_owned()),
        Owner::Nobody => Some(
            "it was never opened, or an old program has replaced the row: stop that program"
                .to_owned(),
        ),
        Owner::Elsewhere { owner, here } => Some(format!(
            "it belongs to the server {owner}, and this is {here}"
        )),
        Owner::Here if view.mark > view.id => Some(format!(
            "tickets up to base id {} may have been issued, and the row says {}",
            view.mark, view.id
        )),
        Owner::Here => None,
    }
}

/// Looks at everything that serving looks at, rehearses a reservation, and changes nothing. An
/// error means that it could not look.
pub fn check(settings: &Settings, numbering: &Numbering) -> Result<Report, Fault> {
    guarded(|| {
        let mut desk = Desk::open(settings)?;
        let found = desk.look()?;
        let mut problems = found.problems(numbering);
        let row = found.row.clone().ok();
        if let Some(view) = &row {
            if view.id >= numbering.last_base() {
                let said = format!("the counter is {}", view.id);
                problems.push(Fault::new(FaultKind::NumbersExhausted, said));
            }
            if problems.is_empty() && view.read_only {
                problems.push(FaultKind::ReadOnly.into());
            }
            if let Some(why) = why_closed(view).filter(|_| problems.is_empty()) {
                problems.push(Fault::new(FaultKind::Closed, why));
            }
        }
        let mut warnings = desk.variables.warnings();
        warnings.extend(found.warning());
        let report = Report {
            server_identity: desk.here()?,
            server_version: desk.variables.version.clone(),
            engine: found.engine().map(|engine| engine.name.clone()),
            row,
            stored: found.stored.ok().flatten().map(|stored| stored.numbering),
            given: *numbering,
            warnings,
            problems,
        };
        if !report.problems.is_empty() {
            return Ok(report);
        }
        let deadline = Deadline::after(limits::DATABASE_COMMAND_TIMEOUT);
        let rehearsed = Session::on(desk.link, settings, numbering, deadline).and_then(
            |(mut session, found)| match found {
                crate::counter::Found::Connected { view, .. } => session.rehearse(&view),
                _ => Ok(()),
            },
        );
        Ok(Report {
            problems: rehearsed.err().into_iter().collect(),
            ..report
        })
    })
}

/// How [`migrate`] ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The engine that the table had, when it is another one now; the counter is what it was.
    pub from: Option<String>,
    /// What an older version lacked was added.
    pub added: bool,
    /// The counter.
    pub counter: u64,
}

impl fmt::Display for Migrated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(from) = &self.from {
            let counter = self.counter;
            write!(f, "converted the table `tickets` from {from} to InnoDB; ")?;
            write!(f, "the counter is still {counter}")?;
        } else {
            write!(f, "the table `tickets` needs no conversion to InnoDB")?;
        }
        match self.added {
            true => write!(f, "; added the columns that an older version lacks"),
            false => Ok(()),
        }
    }
}

/// Converts the table to InnoDB, and adds what an older version lacks. Whoever writes to the table
/// meanwhile waits, and nothing is lost.
pub fn migrate(settings: &Settings) -> Result<Migrated, Fault> {
    guarded(|| {
        let mut desk = Desk::open(settings)?;
        let found = desk.look()?;
        if !found.has_table() {
            return Err(found.row.err().unwrap_or(FaultKind::NoTable.into()));
        }
        if let Some(unusable) = found.unusable() {
            return Err(unusable);
        }
        // Also says that there is no row.
        let mut counter = found.row.as_ref().map_err(Clone::clone)?.id;
        let mut from = None;
        if let Some(engine) = found.engine().filter(|engine| !engine.transactional) {
            desk.link.run(include_str!("../../sql/lock_tickets.sql"))?;
            let before = desk.counter()?;
            desk.link
                .run(include_str!("../../sql/migrate_tickets.sql"))?;
            counter = desk.counter()?;
            desk.link
                .run(include_str!("../../sql/unlock_tickets.sql"))?;
            if counter != before {
                let said = format!("it went from {before} to {counter}");
                return Err(Fault::new(FaultKind::CounterAltered, said));
            }
            from = Some(engine.name.clone());
        }
        let upgraded = desk.upgrade(None)?;
        Ok(Migrated {
            from,
            added: upgraded.columns,
            counter,
        })
    })
}

/// Drops the database and all that is in it, if `confirm` is its name and nothing in it is another
/// program's.
pub fn drop_database(settings: &Settings, confirm: &str) -> Result<(), Fault> {
    if confirm != settings.name {
        let said = format!("`--confirm {}`", settings.name);
        return Err(Fault::new(FaultKind::NotConfirmed, said));
    }
    guarded(|| {
        let mut link = connect(settings, Some(&settings.name))?;
        let rows = link.query(
            include_str!("../../sql/tables.sql"),
            limits::DATABASE_NAMES_MAX,
        )?;
        let names = rows.into_iter().map(|mut row| column(&mut row, 0));
        let tables = names.collect::<Result<Vec<String>, Fault>>()?;
        let is_ours = |table: &String| {
            ["tickets", SETTINGS_TABLE].contains(&table.as_str()) || table.starts_with(NEW_TABLE)
        };
        let is_set_up = tables.iter().any(|table| table == SETTINGS_TABLE);
        if !tables.iter().all(is_ours) || (!tables.is_empty() && !is_set_up) {
            return Err(Fault::new(FaultKind::NotOnlyOurs, tables.join(", ")));
        }
        let drop = include_str!("../../sql/drop_database.sql");
        link.run(&drop.replace("{database}", &quoted(&settings.name)))?;
        Ok(())
    })
}

/// A connection of a command, and the server that it leads to.
struct Desk {
    link: Link,
    variables: Variables,
    identity: Identity,
}

impl Desk {
    fn open(settings: &Settings) -> Result<Desk, Fault> {
        let mut link = connect(settings, Some(&settings.name))?;
        let variables = Variables::of(&mut link)?;
        if variables.is_galera() {
            link.run(include_str!("../../sql/sync_reads.sql"))?;
        }
        // Whether a row is open is told for the server, also where serving does not care.
        let identity = variables.identity(settings.failover)?;
        Ok(Desk {
            link,
            variables,
            identity,
        })
    }

    /// A user without the privilege to create databases can use one that is there, so connecting
    /// to it comes first. To a user without privileges MySQL denies that a database is missing.
    fn open_or_create(settings: &Settings) -> Result<(Desk, bool), Fault> {
        match Desk::open(settings) {
            Err(fault) if matches!(fault.kind, FaultKind::NoDatabase | FaultKind::AccessDenied) => {
            }
            opened => return opened.map(|desk| (desk, false)),
        }
        let mut link = connect(settings, None)?;
        let create = include_str!("../../sql/create_database.sql");
        let create = create.replace("{database}", &quoted(&settings.name));
        let created = unless(link.query_drop(create), ER_DB_CREATE_EXISTS)?;
        Ok((Desk::open(settings)?, created))
    }

    fn look(&mut self) -> Result<Found, Fault> {
        look(&mut self.link, &self.identity)
    }

    /// What this server is called as an owner.
    fn here(&mut self) -> Result<String, Fault> {
        let query = self.identity.fill(include_str!("../../sql/identity.sql"));
        let mut rows = self.link.query(&query, 1)?;
        match rows.first_mut() {
            Some(row) => column(row, 0),
            None => Err(FaultKind::Protocol.into()),
        }
    }

    /// The counter alone, as under a lock of one table.
    fn counter(&mut self) -> Result<u64, Fault> {
        let rows = self.link.query(include_str!("../../sql/counter.sql"), 2)?;
        view(rows, &self.identity).map(|view| view.id)
    }

    /// Makes everything that is missing, and opens a counter that was never opened. Without
    /// settings to store, only what is there is brought up to date.
    fn upgrade(&mut self, new: Option<(&Numbering, Duration)>) -> Result<Created, Fault> {
        let found = self.look()?;
        let stored = found.stored.clone()?;
        if let (Some((given, _)), Some(stored)) = (new, stored) {
            differ(&stored.numbering, given)?;
        }
        let mut created = Created {
            database: false,
            table: false,
            settings: false,
            columns: false,
            opened: false,
        };
        if found.has_table() {
            if let Some(unusable) = found.unusable() {
                return Err(unusable);
            }
            created.columns = self.add_columns(&found)?;
        } else if found.has_settings_table() && stored.is_some() {
            return Err(FaultKind::TableGone.into());
        } else if matches!(&found.row, Err(fault) if fault.kind != FaultKind::NoTable) {
            return found.row.map(|_| created);
        } else {
            let row = self.opened(COUNTER_SEED, 1)?;
            created.table = self.create_tickets(&row)?;
        }
        if let Some((numbering, lease)) = new {
            created.settings = stored.is_none() && self.store_settings(numbering, lease)?;
        }
        let open = self.identity.fill(include_str!("../../sql/open_new.sql"));
        let here = self.here()?;
        let open = self.link.prep(open)?;
        let tag = random()?;
        let values = (&here, tag, COUNTER_SEED, &here);
        created.opened = self.link.change(&open, values)?.rows == 1;
        Ok(created)
    }

    /// Adds the columns that the tables lack, online. False when none is lacking, or when somebody
    /// else has added them at the same time.
    fn add_columns(&mut self, found: &Found) -> Result<bool, Fault> {
        let mut added = false;
        // One after the other: of two who add at once, each makes what the other has not.
        for (name, definition) in found.missing_columns() {
            added |= self.add_column("tickets", name, definition)?;
        }
        if found.has_settings_table() && !found.has_lease() {
            let definition = "INT UNSIGNED NOT NULL DEFAULT 10";
            added |= self.add_column(SETTINGS_TABLE, LEASE_COLUMN, definition)?;
        }
        Ok(added)
    }

    fn add_column(&mut self, table: &str, name: &str, definition: &str) -> Result<bool, Fault> {
        let statement = include_str!("../../sql/add_columns.sql")
            .replace("{table}", table)
            .replace("{added}", &format!("ADD COLUMN {name} {definition}"));
        unless(self.link.query_drop(statement), ER_DUP_FIELDNAME)
    }

    /// A row that is open on this server.
    fn opened(&mut self, id: u64, epoch: u64) -> Result<Seed, Fault> {
        Ok(Seed {
            id,
            owner: self.here()?,
            epoch: Epoch {
                number: epoch,
                tag: random()?,
            },
            mark: 0,
        })
    }

    /// Creates the table with its row, both at once: nobody ever sees the one without the other.
    /// False when somebody else has created it.
    fn create_tickets(&mut self, row: &Seed) -> Result<bool, Fault> {
        let mut names = self
            .link
            .query(include_str!("../../sql/unique_name.sql"), 1)?;
        let name: Option<String> = match names.first_mut() {
            Some(row) => column(row, 0)?,
            None => None,
        };
        let name = name.ok_or_else(|| Fault::new(FaultKind::Protocol, "UUID() is NULL"))?;
        let table = quoted(&name);
        let definitions = ADDED_COLUMNS.map(|(name, definition)| format!("{name} {definition}"));
        let with_table = |statement: &str| {
            statement
                .replace("{table}", &table)
                .replace("{added}", &definitions.join(",\n    "))
        };
        self.link
            .run(&with_table(include_str!("../../sql/create_tickets.sql")))?;
        let published = self.seed(&name, row).and_then(|_| {
            let publish = with_table(include_str!("../../sql/publish_tickets.sql"));
            unless(self.link.query_drop(publish), ER_TABLE_EXISTS_ERROR)
        });
        if published != Ok(true) {
            self.link
                .run(&with_table(include_str!("../../sql/discard_tickets.sql")))?;
        }
        published
    }

    /// Puts the counter row into a table; false when there is one.
    fn seed(&mut self, table: &str, row: &Seed) -> Result<bool, Fault> {
        let insert = include_str!("../../sql/seed_counter.sql").replace("{table}", &quoted(table));
        let insert = self.link.prep(insert)?;
        let Seed {
            id,
            owner,
            epoch,
            mark,
        } = row;
        let values = (id, owner, epoch.number, epoch.tag, mark);
        unless(self.link.exec_drop(&insert, values), ER_DUP_ENTRY)
    }

    /// Stores the settings; false when there are some.
    fn store_settings(&mut self, numbering: &Numbering, lease: Duration) -> Result<bool, Fault> {
        self.link
            .run(include_str!("../../sql/create_settings.sql"))?;
        let values = (
            numbering.max_nodes(),
            numbering.starting_offset(),
            numbering.node_number(),
            lease.as_secs(),
        );
        let store = self
            .link
            .prep(include_str!("../../sql/store_settings.sql"))?;
        Ok(self.link.change(&store, values)?.rows == 1)
    }
}

/// A counter row to be inserted.
struct Seed {
    id: u64,
    owner: String,
    epoch: Epoch,
    mark: u64,
}

fn connect(settings: &Settings, database: Option<&str>) -> Result<Link, Fault> {
    let deadline = Deadline::after(limits::DATABASE_COMMAND_CONNECT);
    let settings = settings.clone();
    let database = database.map(str::to_owned);
    within(deadline, move || {
        // MySQL gives up on a lock before the connection gives up on MySQL.
        let lock_wait = limits::DATABASE_COMMAND_TIMEOUT / 2;
        let io_timeout = limits::DATABASE_COMMAND_TIMEOUT;
        Link::open(
            &settings,
            database.as_deref(),
            io_timeout,
            lock_wait,
            deadline,
        )
    })
}

/// False when it failed with the error `code`, which means that it was done before.
fn unless(result: mysql::Result<()>, code: u16) -> Result<bool, Fault> {
    match result {
        Ok(()) => Ok(true),
        Err(mysql::Error::MySqlError(error)) if error.code == code => Ok(false),
        Err(error) => Err(Fault::from(error)),
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
