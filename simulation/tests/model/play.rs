//! One history: statements chosen by a tape, played on the model and on real servers at once.

mod operator;
mod replicas;

use mysql::prelude::Queryable;
use tickr::counter::{Epoch, Found, Memory, Owner, Task, View};
use tickr::database::session::Session;
use tickr::fault::{Fault, FaultKind};
use tickr::moment::Moment;
use tickr_simulation::database::{Owned, Row, Server};
use tickr_simulation::tape::Tape;

use crate::site::{LEASE, ORIGINAL, OURS, Site, numbering, place};

/// Or how the model differs.
pub(crate) type Checked<T = ()> = Result<T, String>;

/// Nothing here depends on the time.
const NOW: Moment = Moment::from_nanos(0);

pub(crate) struct Play<'a> {
    tape: Tape<'a>,
    site: &'a mut Site,
    name: &'static str,
    models: Vec<Server>,
    primary: usize,
    /// It follows the primary, so that nobody knows how far it is.
    replica: Option<usize>,
    /// The commit of the primary that the replica is known to have.
    followed: usize,
    lags: bool,
    links: [Option<Link>; 2],
    /// As an operator has read it last.
    read: Row,
    tags: u64,
    pub(crate) trace: Vec<String>,
}

/// A connection of a process.
struct Link {
    session: Session,
    server: usize,
    privileged: bool,
    killed: bool,
}

/// An answer of either side.
#[derive(Debug, PartialEq)]
enum Said {
    Row(&'static str, View),
    Reserved(u64),
    Fault(FaultKind),
}

impl<'a> Play<'a> {
    pub(crate) fn new(tape: &'a [u8], site: &'a mut Site) -> Play<'a> {
        let mut tape = Tape::new(tape);
        let name = match site.count() == 1 && tape.chance(96) {
            true => ORIGINAL,
            false => OURS,
        };
        let row = Row {
            id: 1,
            mark: 0,
            owner: Owned::By(0),
            epoch: Epoch { number: 1, tag: 1 },
        };
        let models = (0..site.count()).map(|index| Server::new(index, row, LEASE, NOW));
        Play {
            models: models.collect(),
            name,
            tape,
            site,
            primary: 0,
            replica: None,
            followed: 0,
            lags: false,
            links: [None, None],
            read: row,
            tags: 100,
            trace: Vec::new(),
        }
    }

    pub(crate) fn run(&mut self) -> Checked {
        let row = self.models[0].row;
        for server in 0..self.site.count() {
            if self.site.count() > 1 {
                self.site
                    .run(server, &["STOP SLAVE", "RESET SLAVE ALL", "RESET MASTER"]);
            }
            self.site.run(server, &["SET GLOBAL read_only = 0"]);
            self.write(server, row);
            if self.name == ORIGINAL {
                let table = format!("ALTER TABLE {ORIGINAL}.tickets AUTO_INCREMENT = 1");
                self.site.run(server, &[&table]);
            }
        }
        if self.site.count() > 1 {
            self.site.run(0, &["RESET MASTER"]);
            self.follow(1);
        }
        self.same_rows()?;
        while !self.tape.is_at_end() {
            self.step()?;
        }
        Ok(())
    }

    fn step(&mut self) -> Checked {
        match self.tape.byte() % 64 {
            0..56 => self.simple_step(),
            56..58 => self.race(),
            // Each takes two seconds.
            58 if self.site.count() > 1 || self.tape.chance(32) => self.advance(),
            _ if self.site.count() == 1 => self.simple_step(),
            59..62 => self.fail_over(),
            _ => self.lag_or_follow(),
        }
    }

    /// One that may happen at any moment, also while an operator waits.
    fn simple_step(&mut self) -> Checked {
        let is_alone = self.site.count() == 1;
        match self.tape.byte() % 32 {
            0..10 => {
                let task = self.reservation();
                self.job(task)
            }
            10..13 => self.job(Task::Read),
            13..16 => {
                let memory = self.memory();
                self.job(Task::Close { memory })
            }
            16 => self.job(Task::Connect { replaces: None }),
            17 | 18 => self.kill(),
            19..21 => self.restore(),
            21 | 22 => self.close_by_hand(),
            23 => {
                self.read = self.models[self.primary].row;
                Ok(())
            }
            24..27 if is_alone => self.open(),
            27 | 28 if is_alone => self.set_read_only(),
            29 | 30 if is_alone => self.old_program(),
            31 if is_alone => self.create(),
            _ => self.job(Task::Read),
        }
    }

    // What processes do.

    fn reservation(&mut self) -> Task {
        let row = self.models[self.primary].row;
        let left = numbering().last_base().saturating_sub(row.id);
        let count = match self.tape.byte() % 32 {
            31 => left.max(1),
            30 => left.saturating_add(1),
            29 => u64::MAX,
            small => 1 + u64::from(small) * u64::from(small) / 4,
        };
        let epoch = match self.tape.byte() % 8 {
            7 => self.epoch(),
            6 => self.read.epoch,
            _ => row.epoch,
        };
        let floor = match self.tape.byte() % 8 {
            7 => row.id.saturating_add(1),
            6 => 0,
            5 => self.read.id,
            _ => row.id,
        };
        Task::Reserve {
            count,
            epoch,
            floor,
        }
    }

    fn memory(&mut self) -> Memory {
        let row = self.models[self.primary].row;
        let id = match self.tape.byte() % 8 {
            0..3 => row.id.saturating_add(1),
            3 => row.id.saturating_add(100),
            4 => row.id.saturating_sub(1),
            5 => self.read.id,
            6 if self.tape.chance(16) => u64::MAX,
            _ => row.id,
        };
        let epoch = match self.tape.byte() % 4 {
            3 => self.epoch(),
            2 => self.read.epoch,
            _ => row.epoch,
        };
        Memory { epoch, id }
    }

    fn epoch(&mut self) -> Epoch {
        let Epoch { number, tag } = self.models[self.primary].row.epoch;
        Epoch {
            number: (number + self.tape.pick(&[0, 1, 5])).saturating_sub(self.tape.pick(&[0, 1])),
            tag: self.tape.pick(&[tag, 7, 0]),
        }
    }

    /// A job over one of the connections, which is opened when there is none.
    fn job(&mut self, task: Task) -> Checked {
        let at = self.tape.below(2);
        let task = match (&self.links[at], task) {
            (None, _) => Task::Connect { replaces: None },
            (Some(_), task) => task,
        };
        self.note(format!("connection {at}: {task:?}"));
        let (expected, said) = match task {
            Task::Connect { .. } => self.connect(at),
            task => {
                let expected = self.expect(at, &task);
                let link = self.links[at].as_mut().expect("it is open");
                (expected, said(ask(&mut link.session, &task)))
            }
        };
        self.compare(at, expected, said)
    }

    fn compare(&mut self, at: usize, expected: Said, said: Said) -> Checked {
        if let Said::Fault(_) = said {
            self.links[at] = None;
        }
        match expected == said {
            true => self.same_rows(),
            false => Err(format!("the model: {expected:?}\nthe server: {said:?}")),
        }
    }

    fn connect(&mut self, at: usize) -> (Said, Said) {
        let server = self.primary;
        // On a primary that was demoted, a privileged user could write what no replica has.
        let privileged = self.tape.chance(128) && self.site.count() == 1;
        let settings = self.site.settings(server, self.name, privileged);
        self.links[at] = None;
        let found = match Session::open(&settings, &numbering(), None) {
            Ok((session, found)) => {
                self.links[at] = Some(Link {
                    session,
                    server,
                    privileged,
                    killed: false,
                });
                Ok(found)
            }
            Err(fault) => Err(fault),
        };
        (
            Said::Row("connected", self.models[server].view()),
            said(found),
        )
    }

    fn expect(&mut self, at: usize, task: &Task) -> Said {
        let link = self.links[at].as_ref().expect("it is open");
        if link.killed {
            return Said::Fault(FaultKind::Lost);
        }
        let refused = {
            let server = &self.models[link.server];
            server.refuses_writes(link.privileged)
        };
        let (server, now) = (&mut self.models[link.server], NOW);
        match *task {
            Task::Reserve {
                count,
                epoch,
                floor,
            } => match server.reserve(count, epoch, floor, numbering().last_base(), now) {
                Some(last) => Said::Reserved(last),
                None => Said::Row("refused", server.view()),
            },
            Task::Close { memory } => {
                if !refused {
                    server.close(&memory, now);
                }
                Said::Row("closed", server.view())
            }
            Task::Read | Task::Connect { .. } => Said::Row("read", server.view()),
        }
    }

    /// A connection is lost between two jobs: after a commit, and before the next.
    fn kill(&mut self) -> Checked {
        let at = self.tape.below(2);
        if let Some(link) = self.links[at].as_mut().filter(|link| !link.killed) {
            link.killed = true;
            let (server, connection) = (link.server, link.session.connection());
            self.site.kill(server, connection);
            self.note(format!("connection {at} is killed"));
        }
        Ok(())
    }

    /// A reservation waits for somebody who has locked the row; then it is killed before it was
    /// done, or meets the row that he leaves.
    fn race(&mut self) -> Checked {
        let at = self.tape.below(2);
        let task = self.reservation();
        let kills = self.tape.chance(128);
        let back = self.earlier();
        let server = self.primary;
        let usable = |link: &&mut Link| !link.killed && link.server == server;
        let Some(link) = self.links[at].as_mut().filter(usable) else {
            return Ok(());
        };
        // One that cannot match does not wait for the row.
        let Task::Reserve { count, .. } = task else {
            return Ok(());
        };
        if self.models[server].read_only || count > numbering().last_base() {
            return Ok(());
        }
        let mut other = self.site.connect(server);
        let table = format!("{}.tickets", self.name);
        for statement in [
            "START TRANSACTION",
            &format!("SELECT id FROM {table} WHERE stub = 'a' FOR UPDATE"),
        ] {
            other.query_drop(statement).expect("it can be locked");
        }
        let set = set(&table, &back);
        let connection = link.session.connection();
        let site = &mut *self.site;
        let (said, early) = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| said(ask(&mut link.session, &task)));
            let waits = "SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'";
            let waited = site.wait(|site| {
                let (_, waits): (String, u64) = site.ask(server, waits).expect("it is counted");
                Ok(waits == 1 || waiting.is_finished())
            });
            // A condition that no row can meet is not worth a wait.
            let early = waiting.is_finished();
            match kills {
                true => {
                    site.kill(server, connection);
                    other.query_drop("ROLLBACK").expect("it ends");
                }
                false => {
                    other.query_drop(&set).expect("it can be set");
                    other.query_drop("COMMIT").expect("it ends");
                }
            }
            let said = waiting.join().expect("it ends");
            waited.map(|()| (said, early))
        })?;
        self.note(format!(
            "connection {at}: {task:?} waits; killed: {kills}, else {back:?}"
        ));
        if early {
            let expected = self.expect(at, &task);
            if !kills {
                self.models[server].set(back, NOW);
            }
            self.links[at].as_mut().expect("it is open").killed |= kills;
            return self.compare(at, expected, said);
        }
        // In the original's table the key moves, and who has waited for it may be rolled back.
        let is_rolled_back = self.name == ORIGINAL && said == Said::Fault(FaultKind::Deadlock);
        if !kills {
            self.models[server].set(back, NOW);
        }
        let expected = match kills {
            true => Said::Fault(FaultKind::Lost),
            false if is_rolled_back => Said::Fault(FaultKind::Deadlock),
            false => self.expect(at, &task),
        };
        self.compare(at, expected, said)
    }

    fn same_rows(&mut self) -> Checked {
        for server in 0..self.site.count() {
            if Some(server) == self.replica {
                continue;
            }
            let (row, model) = (self.site.row(server, self.name), self.models[server].row);
            if row != model {
                return Err(format!(
                    "server {server}: the model has {model:?}, it has {row:?}"
                ));
            }
        }
        Ok(())
    }

    /// Puts a row in place, behind the back of replication.
    fn write(&mut self, server: usize, row: Row) {
        let set = set(&format!("{}.tickets", self.name), &row);
        let quietly = [
            "SET SESSION sql_log_bin = 0",
            &set,
            "SET SESSION sql_log_bin = 1",
        ];
        self.site.run(server, &quietly);
    }

    /// One of `sql/`, as the first server would be told it.
    fn statement(&self, statement: &str) -> String {
        statement
            .replace("tickets", &format!("{}.tickets", self.name))
            .replace("{identity}", "CONCAT('mariadb:', @@server_id)")
            .replace("{writable}", "(CONCAT(@@global.read_only) IN ('0', 'OFF'))")
    }

    fn note(&mut self, text: String) {
        self.trace.push(text);
    }
}

fn ask(session: &mut Session, task: &Task) -> Result<Found, Fault> {
    match *task {
        Task::Reserve {
            count,
            epoch,
            floor,
        } => session.reserve(count, epoch, floor),
        Task::Close { memory } => session.close(memory),
        Task::Read | Task::Connect { .. } => session.read(),
    }
}

fn said(found: Result<Found, Fault>) -> Said {
    let named = |mut view: View| {
        if let Owner::Elsewhere { owner, here } = &mut view.owner {
            (*owner, *here) = (place(owner).to_owned(), place(here).to_owned());
        }
        view
    };
    match found {
        Ok(Found::Connected { view, .. }) => Said::Row("connected", named(view)),
        Ok(Found::Read { view, .. }) => Said::Row("read", named(view)),
        Ok(Found::Refused { view }) => Said::Row("refused", named(view)),
        Ok(Found::Closed { view }) => Said::Row("closed", named(view)),
        Ok(Found::Reserved { last }) => Said::Reserved(last),
        Err(fault) => Said::Fault(fault.kind),
    }
}

fn set(table: &str, row: &Row) -> String {
    let owner = match row.owner {
        Owned::Nobody => String::new(),
        Owned::Closed => "closed".to_owned(),
        Owned::By(server) => format!("mariadb:1{server}"),
    };
    let Row {
        id, mark, epoch, ..
    } = row;
    format!(
        "UPDATE {table} SET id = {id}, mark = {mark}, owner = '{owner}', epoch = {}, \
         epoch_tag = {} WHERE stub = 'a'",
        epoch.number, epoch.tag
    )
}
