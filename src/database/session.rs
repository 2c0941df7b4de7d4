//! One connection to MySQL, and the only SQL of the hot path: one statement that moves the counter,
//! one that reads the row, and one that closes it.
//!
//! A session owes nothing to the server's defaults: it sets every variable that could change what
//! its statements mean (`docs/driver.md` goes through the lists), and looks at everything that is
//! stored before anything is reserved over it.

use std::thread;

use mysql::prelude::Queryable;
use mysql::{Params, Statement};

use super::Settings;
use super::answers::{Done, column, has_connection, reserved, view};
use super::driver::{Deadline, Link, guarded};
use super::identity::{Identity, Variables};
use super::look::look;
use crate::counter::{Epoch, Found, Memory, Server, View, Warning};
use crate::fault::{Fault, FaultKind};
use crate::limits;
use crate::ticket::Numbering;

/// A connection that may reserve: set up, and what is stored verified.
pub struct Session {
    link: Link,
    identity: Identity,
    /// Precedes each statement that changes the row.
    pin: Option<Statement>,
    reserve: Statement,
    read: Statement,
    close: Statement,
    numbering: Numbering,
    /// Reads until the warnings are looked at again.
    until_warnings: u32,
    /// What the engine of the table makes of the promise; it does not change by itself.
    engine: Option<Warning>,
}

impl Session {
    /// Connects, ends the connection that this one replaces, sets the session up, verifies what is
    /// stored, and reads the row.
    pub fn open(
        settings: &Settings,
        numbering: &Numbering,
        replaces: Option<u64>,
    ) -> Result<(Session, Found), Fault> {
        guarded(|| {
            let deadline = Deadline::after(settings.job_timeout());
            let mut link = Link::open(
                settings,
                Some(&settings.name),
                settings.job_timeout(),
                settings.timeout,
                deadline,
            )?;
            if let Some(connection) = replaces {
                end(&mut link, settings, connection, deadline)?;
            }
            Session::on(link, settings, numbering, deadline)
        })
    }

    pub(super) fn on(
        mut link: Link,
        settings: &Settings,
        numbering: &Numbering,
        deadline: Deadline,
    ) -> Result<(Session, Found), Fault> {
        let variables = Variables::of(&mut link)?;
        deadline.check()?;
        if variables.is_galera() {
            // Else a member that lags behind the others shows a row from the past.
            link.run(include_str!("../../sql/sync_reads.sql"))?;
        }
        let identity = variables.identity(settings.failover)?;
        let found = look(&mut link, &identity)?;
        deadline.check()?;
        if let Some(problem) = found.problems(numbering).into_iter().next() {
            return Err(problem);
        }
        let view = found.row.clone()?;
        let reserve = identity.fill_change(include_str!("../../sql/reserve.sql"));
        let pin = identity.pin();
        let mut session = Session {
            pin: pin.map(|pin| link.prep(pin)).transpose()?,
            reserve: link.prep(reserve)?,
            read: link.prep(identity.fill(include_str!("../../sql/read.sql")))?,
            close: link.prep(include_str!("../../sql/close.sql"))?,
            link,
            identity,
            numbering: *numbering,
            until_warnings: limits::DATABASE_WARNINGS_EVERY,
            engine: found.warning(),
        };
        deadline.check()?;
        let mut warnings = variables.warnings();
        warnings.extend(session.engine.clone());
        let server = Server {
            identity: format!("{}/{}", session.owner()?, settings.name),
            version: variables.version,
            connection: session.link.connection_id().into(),
            warnings,
        };
        Ok((session, Found::Connected { view, server }))
    }

    /// Reads the row, and now and then what weakens the promise.
    pub fn read(&mut self) -> Result<Found, Fault> {
        guarded(|| {
            let view = self.view()?;
            self.until_warnings = self.until_warnings.saturating_sub(1);
            let mut warnings = None;
            if self.until_warnings == 0 {
                self.until_warnings = limits::DATABASE_WARNINGS_EVERY;
                let mut found = Variables::of(&mut self.link)?.warnings();
                found.extend(self.engine.clone());
                warnings = Some(found);
            }
            Ok(Found::Read { view, warnings })
        })
    }

    /// Reserves `count` base ids, at least one, if the row is open, of this epoch, and not below
    /// `floor`. When this returns, the block is committed.
    pub fn reserve(&mut self, count: u64, epoch: Epoch, floor: u64) -> Result<Found, Fault> {
        assert!(count > 0, "a reservation is for at least one base id");
        guarded(|| {
            let last_base = self.numbering.last_base();
            let Some(most) = last_base.checked_sub(count) else {
                return Ok(Found::Refused { view: self.view()? });
            };
            let values = (count, most, floor, epoch.number, epoch.tag);
            let done = match self.change(Change::Reserve, values) {
                // Also when the row would not have matched.
                Err(fault) if fault.kind == FaultKind::ReadOnly => {
                    let view = self.view()?;
                    return match view.read_only {
                        true => Ok(Found::Refused { view }),
                        false => Err(fault),
                    };
                }
                done => done?,
            };
            match reserved(done, count, floor, &self.numbering)? {
                Some(last) => Ok(Found::Reserved { last }),
                None => Ok(Found::Refused { view: self.view()? }),
            }
        })
    }

    /// Closes the row if it is behind `memory`. The epoch is raised as well, so that the next
    /// opening is above every epoch that somebody remembers.
    pub fn close(&mut self, memory: Memory) -> Result<Found, Fault> {
        guarded(|| {
            let Memory { epoch, id } = memory;
            let number = epoch.number;
            let values = (id, number, number, number, number, epoch.tag, id);
            match self.change(Change::Close, values) {
                Err(fault) if fault.kind == FaultKind::ReadOnly => {
                    let view = self.view()?;
                    match view.read_only {
                        true => Ok(Found::Closed { view }),
                        false => Err(fault),
                    }
                }
                done => {
                    done?;
                    Ok(Found::Closed { view: self.view()? })
                }
            }
        })
    }

    /// Does all that a reservation does, but for reserving: whether one would succeed.
    pub(super) fn rehearse(&mut self, view: &View) -> Result<(), Fault> {
        let (epoch, floor) = (view.epoch, view.id);
        let last_base = self.numbering.last_base();
        let values = (0, last_base, floor, epoch.number, epoch.tag);
        let done = self.change(Change::Reserve, values)?;
        // The row matches, though nothing in it changes.
        match done.last_insert_id {
            Some(last) if last >= floor => Ok(()),
            _ => Err(FaultKind::CounterAltered.into()),
        }
    }

    /// MySQL's number for this connection.
    pub fn connection(&self) -> u64 {
        self.link.connection_id().into()
    }

    fn change(&mut self, change: Change, values: impl Into<Params>) -> Result<Done, Fault> {
        if let Some(pin) = &self.pin {
            self.link.change(pin, ())?;
        }
        let statement = match change {
            Change::Reserve => &self.reserve,
            Change::Close => &self.close,
        };
        self.link.change(statement, values)
    }

    fn view(&mut self) -> Result<View, Fault> {
        let rows = self.link.ask(&self.read, 2)?;
        view(rows, &self.identity)
    }

    /// What the owner is called when it is this server.
    fn owner(&mut self) -> Result<String, Fault> {
        let mut rows = self.link.ask(&self.read, 2)?;
        let row = rows.first_mut().ok_or(FaultKind::NoCounterRow)?;
        let here: Option<String> = column(row, 5)?;
        Ok(here.unwrap_or_default())
    }
}

#[derive(Clone, Copy)]
enum Change {
    Reserve,
    Close,
}

/// Ends a connection that was given up, if it is there and is one of ours. Numbers begin anew when
/// a server starts, so another program's connection may have this one.
fn end(
    link: &mut Link,
    settings: &Settings,
    connection: u64,
    deadline: Deadline,
) -> Result<(), Fault> {
    if !is_there(link, settings, connection)? {
        return Ok(());
    }
    let kill = include_str!("../../sql/kill.sql").replace("{id}", &connection.to_string());
    // It may have ended meanwhile. What else went wrong shows in what follows.
    let said = link.run(&kill).err();
    while is_there(link, settings, connection)? {
        if deadline.left() < settings.job_timeout() / 4 {
            let reason = said.map_or(String::new(), |fault| format!(": {}", fault.said));
            return Err(Fault::new(
                FaultKind::ConnectionStuck,
                format!("connection {connection}{reason}"),
            ));
        }
        thread::sleep(limits::DATABASE_KILL_PAUSE);
    }
    Ok(())
}

fn is_there(link: &mut Link, settings: &Settings, connection: u64) -> Result<bool, Fault> {
    let rows = link.query(
        include_str!("../../sql/connections.sql"),
        limits::DATABASE_PROCESSES_MAX,
    )?;
    has_connection(rows, connection, &settings.username, &settings.name)
}
