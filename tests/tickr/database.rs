//! The database side: what is created, taken over and verified, and what each fault comes to.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant};

use mysql::prelude::{FromRow, Queryable};
use mysql::{Conn, OptsBuilder};
use tempfile::TempDir;
use tickr::counter::{self, Epoch, Found, Job, JobId, Outcome, Owner, Task, View, Warning};
use tickr::database::local::{LocalOptions, LocalServer};
use tickr::database::schema::{self, Advanced, Created, Migrated};
use tickr::database::session::Session;
use tickr::database::workers::Workers;
use tickr::database::{Failover, Host, Secret, Settings, Tls};
use tickr::fault::{Fault, FaultKind};
use tickr::ticket::{Block, Numbering};

use crate::dialect;
use crate::harness::wait_until;
use crate::support::{options, scratch, start};

/// A short lease, so that opening waits no longer than it must.
const LEASE: Duration = Duration::from_secs(1);
const ORIGINAL: &str = "CREATE TABLE tickets (id BIGINT UNSIGNED NOT NULL, \
     stub CHAR(1) NOT NULL UNIQUE PRIMARY KEY) ENGINE = MyISAM";
const EARLIER_ORIGINAL: &str = "CREATE TABLE tickets (id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT \
     PRIMARY KEY, stub CHAR(1) NOT NULL UNIQUE DEFAULT '') ENGINE = MyISAM";

/// A server and its folder, which goes after it.
struct Server {
    local: LocalServer,
    _folder: TempDir,
}

impl Server {
    fn start(extra_arguments: &[&str]) -> Server {
        let folder = scratch();
        let local = start(LocalOptions {
            extra_arguments: extra_arguments.iter().map(ToString::to_string).collect(),
            ..options(folder.path())
        });
        Server {
            local,
            _folder: folder,
        }
    }

    /// The server of all tests that leave no mark on it; the last of them stops it.
    fn shared() -> Arc<Server> {
        static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(|poison| poison.into_inner());
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Server::start(&[]));
            *shared = Arc::downgrade(&server);
            server
        })
    }

    fn admin(&self) -> Conn {
        let options = OptsBuilder::new()
            .socket(self.local.socket().to_str())
            .user(Some(self.local.username()))
            .pass(Some(self.local.password()));
        Conn::new(options).unwrap()
    }

    /// Settings for a database that is not there yet, and that no other test uses.
    fn settings(&self) -> Settings {
        static DATABASES: AtomicUsize = AtomicUsize::new(0);
        let number = DATABASES.fetch_add(1, Ordering::Relaxed);
        Settings {
            host: Host::Socket(self.local.socket().to_owned()),
            username: self.local.username().to_owned(),
            password: Secret::new(self.local.password()).into(),
            name: format!("tickr-{number}"),
            timeout: Duration::from_secs(1),
            tls: Tls::Off,
            public_key: None,
            failover: Failover::Stop,
        }
    }

    /// A database as `tickr db create` makes it.
    fn created(&self) -> Settings {
        let settings = self.settings();
        create(&settings).unwrap();
        settings
    }

    /// The same database for a user of its own, with these privileges on it alone.
    fn plain_user(&self, settings: &Settings, privileges: &str) -> Settings {
        let user = format!("user-{}", settings.name);
        let mut admin = self.admin();
        admin
            .query_drop(format!("CREATE USER '{user}'@'%' IDENTIFIED BY 'pass'"))
            .unwrap();
        admin
            .query_drop(format!(
                "GRANT {privileges} ON `{}`.* TO '{user}'@'%'",
                settings.name
            ))
            .unwrap();
        Settings {
            username: user,
            password: Secret::new("pass").into(),
            ..settings.clone()
        }
    }

    /// Runs statements in the database.
    fn run(&self, settings: &Settings, statements: &[&str]) {
        let mut admin = self.admin();
        admin.select_db(&settings.name).unwrap();
        for statement in statements {
            admin.query_drop(statement).unwrap();
        }
    }

    fn rows<T: FromRow>(&self, settings: &Settings, query: &str) -> Vec<T> {
        let mut admin = self.admin();
        admin.select_db(&settings.name).unwrap();
        admin.query(query).unwrap()
    }

    fn counter(&self, settings: &Settings) -> u64 {
        let rows = self.rows(settings, "SELECT id FROM tickets WHERE stub = 'a'");
        assert_eq!(rows.len(), 1);
        rows[0]
    }

    /// The connection of a user that waits for a row lock, as soon as there is one.
    fn lock_waiter(&self, settings: &Settings) -> u64 {
        let waiter = "SELECT p.ID FROM information_schema.PROCESSLIST AS p \
             JOIN information_schema.INNODB_TRX AS t ON t.trx_mysql_thread_id = p.ID \
             WHERE p.USER = ? AND t.trx_state = 'LOCK WAIT'";
        let mut admin = self.admin();
        for _ in 0..50 {
            if let Some(id) = admin.exec_first(waiter, (&settings.username,)).unwrap() {
                return id;
            }
            // INNODB_TRX is refreshed no faster than this.
            thread::sleep(Duration::from_millis(110));
        }
        panic!("nobody waits");
    }

    /// Ends the connections of a user, as an operator would.
    fn kill_connections(&self, settings: &Settings) {
        let mut admin = self.admin();
        let of_user = "SELECT ID FROM information_schema.PROCESSLIST WHERE USER = ?";
        let ids: Vec<u64> = admin.exec(of_user, (&settings.username,)).unwrap();
        assert!(!ids.is_empty());
        for id in ids {
            admin.query_drop(format!("KILL {id}")).unwrap();
        }
    }
}

fn numbering() -> Numbering {
    Numbering::new(4, 54_313_001, 0).unwrap()
}

fn create(settings: &Settings) -> Result<Created, Fault> {
    schema::create(settings, &numbering(), LEASE)
}

fn advance(settings: &Settings, past: Option<u64>, margin: u64) -> Result<Advanced, Fault> {
    schema::advance(settings, &numbering(), past, margin, &mut |_| {})
}

/// A session, and what its process knows of the row.
struct Node {
    session: Session,
    view: View,
    server: counter::Server,
}

impl Node {
    fn open(settings: &Settings, numbering: &Numbering) -> Result<Node, Fault> {
        let (session, found) = Session::open(settings, numbering, None)?;
        let Found::Connected { view, server } = found else {
            panic!("{found:?}");
        };
        Ok(Node {
            session,
            view,
            server,
        })
    }

    fn ask(&mut self, count: u64) -> Result<Found, Fault> {
        let View { epoch, id, .. } = self.view;
        self.session.reserve(count, epoch, id)
    }

    fn reserve(&mut self, count: u64) -> Result<Block, Fault> {
        match self.ask(count)? {
            Found::Reserved { last } => Ok(Block::ending_at(last, count).unwrap()),
            other => panic!("{other:?}"),
        }
    }

    /// The row, as it was when the reservation was refused.
    fn refused(&mut self) -> View {
        match self.ask(1) {
            Ok(Found::Refused { view }) => view,
            other => panic!("{other:?}"),
        }
    }

    fn read(&mut self) -> Result<View, Fault> {
        match self.session.read()? {
            Found::Read { view, .. } => Ok(view),
            other => panic!("{other:?}"),
        }
    }
}

fn open(settings: &Settings) -> Result<Node, Fault> {
    Node::open(settings, &numbering())
}

fn open_error(settings: &Settings) -> FaultKind {
    open(settings).map(|node| node.view).unwrap_err().kind
}

fn kind<T: std::fmt::Debug>(result: Result<T, Fault>) -> FaultKind {
    result.unwrap_err().kind
}

fn kinds(faults: &[Fault]) -> Vec<FaultKind> {
    faults.iter().map(|fault| fault.kind).collect()
}

fn block(first: u64, last: u64) -> Block {
    Block { first, last }
}

/// Workers, and the channel on which they wake us.
struct Pool {
    workers: Workers,
    woken: Receiver<()>,
    jobs: u64,
    epoch: Epoch,
}

impl Pool {
    fn start(settings: &Settings, size: usize) -> Pool {
        let (wake, woken) = mpsc::channel();
        let wake = Mutex::new(wake);
        let wake = Arc::new(move || wake.lock().unwrap().send(()).unwrap_or(()));
        let settings = Arc::new(settings.clone());
        let workers = Workers::start(settings, numbering(), size, wake).unwrap();
        Pool {
            workers,
            woken,
            jobs: 0,
            epoch: Epoch::default(),
        }
    }

    fn submit(&mut self, worker: usize, task: Task) -> JobId {
        self.jobs += 1;
        let id = JobId(self.jobs);
        self.workers.submit(Job { id, worker, task });
        id
    }

    fn outcome(&mut self) -> Outcome {
        self.woken.recv_timeout(Duration::from_secs(30)).unwrap();
        self.workers.next_outcome().unwrap()
    }

    fn ask(&mut self, task: Task) -> Result<Found, Fault> {
        let id = self.submit(0, task);
        let outcome = self.outcome();
        assert_eq!(outcome.id, id);
        outcome.found
    }

    fn connect(&mut self) -> Result<View, Fault> {
        self.replace(None).map(|(view, _)| view)
    }

    fn replace(&mut self, replaces: Option<u64>) -> Result<(View, counter::Server), Fault> {
        match self.ask(Task::Connect { replaces })? {
            Found::Connected { view, server } => {
                self.epoch = view.epoch;
                Ok((view, server))
            }
            other => panic!("{other:?}"),
        }
    }

    fn reservation(&self, count: u64) -> Task {
        Task::Reserve {
            count,
            epoch: self.epoch,
            floor: 0,
        }
    }

    fn reserve(&mut self, count: u64) -> Result<Block, Fault> {
        match self.ask(self.reservation(count))? {
            Found::Reserved { last } => Ok(Block::ending_at(last, count).unwrap()),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn create_makes_everything_once_and_tickets_follow() {
    let server = Server::shared();
    let settings = server.settings();
    let created = create(&settings).unwrap();
    let all = Created {
        database: true,
        table: true,
        settings: true,
        columns: false,
        opened: false,
    };
    assert_eq!(created, all);
    let mut session = open(&settings).unwrap();
    assert_eq!(session.view.id, 1);
    assert!(session.view.is_open());
    assert_eq!(session.server.warnings, []);
    assert_eq!(session.reserve(1), Ok(block(2, 2)));
    assert_eq!(session.reserve(5), Ok(block(3, 7)));
    assert_eq!(session.read().unwrap().id, 7);
    assert_eq!(
        server.counter(&settings),
        7,
        "committed, and seen by others"
    );

    let again = create(&settings).unwrap();
    assert_eq!(
        again.to_string(),
        "nothing to do: everything exists already"
    );
    assert_eq!(server.counter(&settings), 7);
}

#[test]
fn nothing_depends_on_the_defaults_of_the_server() {
    let server = Server::start(&[
        "--auto-increment-increment=7",
        "--auto-increment-offset=3",
        "--sql-mode=ANSI,NO_BACKSLASH_ESCAPES,ONLY_FULL_GROUP_BY",
        "--transaction-isolation=READ-UNCOMMITTED",
        "--completion-type=CHAIN",
        "--innodb-flush-log-at-trx-commit=2",
        "--log-bin",
        "--sync-binlog=0",
    ]);
    let settings = server.created();
    let plain = server.plain_user(&settings, "SELECT, UPDATE");
    let warnings = [
        Warning::CommitNotFlushed {
            value: "2".to_owned(),
        },
        Warning::BinaryLogNotSynced {
            value: "0".to_owned(),
        },
    ];
    let mut base = 1;
    for init_connect in [
        "SET autocommit = 0, sql_safe_updates = 1",
        "SET character_set_results = utf16; BEGIN",
        "SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED; SET autocommit = 0; BEGIN",
    ] {
        let set = format!("SET GLOBAL init_connect = '{init_connect}'");
        server.admin().query_drop(set).unwrap();
        let mut session = open(&plain).unwrap();
        assert_eq!(session.server.warnings, warnings);
        for _ in 0..3 {
            base += 1;
            assert_eq!(session.reserve(1), Ok(block(base, base)));
            assert_eq!(server.counter(&settings), base, "committed at once");
        }
        let mut other = server.admin();
        other.select_db(&settings.name).unwrap();
        other.query_drop("BEGIN").unwrap();
        other.query_drop("UPDATE tickets SET id = 1000").unwrap();
        assert_eq!(
            session.read().unwrap().id,
            base,
            "what is not committed is not seen"
        );
        other.query_drop("ROLLBACK AND NO CHAIN").unwrap();
    }

    let earlier = server.settings();
    server
        .admin()
        .query_drop(format!("CREATE DATABASE `{}`", earlier.name))
        .unwrap();
    server.run(
        &earlier,
        &[
            EARLIER_ORIGINAL,
            "INSERT INTO tickets VALUES (1, 'a')",
            "COMMIT",
        ],
    );
    create(&earlier).unwrap();
    let mut session = open(&earlier).unwrap();
    assert_eq!(session.reserve(3), Ok(block(2, 4)));
    assert_eq!(session.reserve(1), Ok(block(5, 5)));
}

#[test]
fn databases_of_the_original_are_taken_over_as_they_are() {
    let server = Server::shared();
    for table in [ORIGINAL, EARLIER_ORIGINAL] {
        let settings = server.settings();
        let make = format!("CREATE DATABASE `{}`", settings.name);
        server.admin().query_drop(make).unwrap();
        server.run(&settings, &[table, "INSERT INTO tickets VALUES (41, 'a')"]);
        let old = open(&settings).map(|node| node.view).unwrap_err();
        assert_eq!(old.kind, FaultKind::OldTable);
        assert!(old.to_string().contains("tickr db create"), "{old}");

        let created = create(&settings).unwrap();
        assert!(!created.table && created.settings && created.columns && created.opened);
        let mut session = open(&settings).unwrap();
        let engine = "MyISAM".to_owned();
        assert_eq!(session.view.id, 41);
        assert_eq!(session.view.epoch.number, 1);
        let warning = Warning::NotTransactional { engine };
        assert_eq!(session.server.warnings, [warning]);
        assert_eq!(session.reserve(2), Ok(block(42, 43)));

        let migrated = schema::migrate(&settings).unwrap();
        let done = Migrated {
            from: Some("MyISAM".to_owned()),
            added: false,
            counter: 43,
        };
        assert_eq!(migrated, done);
        assert_eq!(session.reserve(1), Ok(block(44, 44)), "the session goes on");
        let again = open(&settings).unwrap();
        assert_eq!((again.view.id, again.server.warnings), (44, vec![]));
        assert_eq!(schema::migrate(&settings).unwrap().from, None);
    }
}

#[test]
fn migrating_loses_no_concurrent_reservation() {
    let server = Server::shared();
    let settings = server.created();
    server.run(&settings, &["ALTER TABLE tickets ENGINE = MyISAM"]);
    let mut session = open(&settings).unwrap();
    let migrating = thread::spawn({
        let settings = settings.clone();
        move || schema::migrate(&settings).unwrap()
    });
    let mut last = 1;
    while !migrating.is_finished() || last < 200 {
        let block = session.reserve(1).unwrap();
        assert_eq!(block.first, last + 1);
        last = block.last;
    }
    assert!(migrating.join().unwrap().from.is_some());
    assert_eq!(server.counter(&settings), last);
}

#[test]
fn a_missing_row_is_never_begun_anew() {
    let server = Server::shared();
    let settings = server.created();
    let mut session = open(&settings).unwrap();
    session.reserve(9).unwrap();
    server.run(&settings, &["DELETE FROM tickets"]);
    assert_eq!(kind(session.reserve(1)), FaultKind::NoCounterRow);
    assert_eq!(kind(session.read()), FaultKind::NoCounterRow);
    assert_eq!(open_error(&settings), FaultKind::NoCounterRow);
    let refused = create(&settings).unwrap_err();
    assert_eq!(refused.kind, FaultKind::NoCounterRow);
    assert!(refused.to_string().contains("tickr db advance --past"));
    assert_eq!(kind(schema::migrate(&settings)), FaultKind::NoCounterRow);
    let report = schema::check(&settings, &numbering()).unwrap();
    assert_eq!(kinds(&report.problems), [FaultKind::NoCounterRow]);
    assert_eq!(kind(advance(&settings, None, 0)), FaultKind::PastRequired);

    let past = numbering().ticket(10).unwrap();
    let advanced = advance(&settings, Some(past), 7).unwrap();
    assert!(advanced.restored && !advanced.by_another);
    assert_eq!(advanced.counter, 17);
    assert_eq!(open(&settings).unwrap().reserve(1), Ok(block(18, 18)));
}

#[test]
fn a_lost_table_is_never_begun_anew() {
    let server = Server::shared();
    let settings = server.created();
    let mut session = open(&settings).unwrap();
    server.run(&settings, &["DROP TABLE tickets"]);
    assert_eq!(kind(session.reserve(1)), FaultKind::NoTable);
    assert_eq!(open_error(&settings), FaultKind::TableGone);
    assert_eq!(kind(create(&settings)), FaultKind::TableGone);
    let report = schema::check(&settings, &numbering()).unwrap();
    assert_eq!(kinds(&report.problems), [FaultKind::TableGone]);

    let advanced = advance(&settings, Some(54_313_001), 0).unwrap();
    assert!(advanced.restored);
    assert_eq!(advanced.counter, 2);
    assert_eq!(open(&settings).unwrap().reserve(1), Ok(block(3, 3)));
}

#[test]
fn creators_at_once_make_one_counter() {
    let server = Server::shared();
    let settings = server.settings();
    let creators: Vec<_> = (0..8)
        .map(|_| {
            let settings = settings.clone();
            thread::spawn(move || create(&settings).unwrap())
        })
        .collect();
    let created: Vec<Created> = creators.into_iter().map(|c| c.join().unwrap()).collect();
    let count = |part: fn(&Created) -> bool| created.iter().filter(|c| part(c)).count();
    assert_eq!(count(|created| created.database), 1);
    assert_eq!(count(|created| created.table), 1);
    assert_eq!(count(|created| created.settings), 1);
    assert_eq!(server.counter(&settings), 1);
    let tables: Vec<String> = server.rows(&settings, "SHOW TABLES");
    assert_eq!(tables, ["tickets", "tickr_settings"]);
}

#[test]
fn of_creators_with_different_settings_one_wins() {
    let server = Server::shared();
    let settings = server.settings();
    let creators: Vec<_> = (0..4)
        .map(|node| {
            let settings = settings.clone();
            let numbering = Numbering::new(4, 1, node).unwrap();
            thread::spawn(move || schema::create(&settings, &numbering, LEASE))
        })
        .collect();
    let results: Vec<_> = creators.into_iter().map(|c| c.join().unwrap()).collect();
    let winners = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(winners, 1, "{results:?}");
    for loser in results.into_iter().filter_map(Result::err) {
        assert_eq!(loser.kind, FaultKind::SettingsDiffer);
    }
}

#[test]
fn other_settings_than_the_stored_ones_are_refused() {
    let server = Server::shared();
    let settings = server.created();
    for given in [(5, 54_313_001, 0), (4, 54_313_002, 0), (4, 54_313_001, 1)] {
        let given = Numbering::new(given.0, given.1, given.2).unwrap();
        let fault = Session::open(&settings, &given, None)
            .map(drop)
            .unwrap_err();
        assert_eq!(fault.kind, FaultKind::SettingsDiffer);
        assert!(fault.to_string().contains(&numbering().to_string()));
        assert!(fault.to_string().contains(&given.to_string()));
        assert_eq!(schema::create(&settings, &given, LEASE).unwrap_err(), fault);
        let advanced = schema::advance(&settings, &given, Some(9), 0, &mut |_| {});
        assert_eq!(advanced.unwrap_err(), fault);
        let report = schema::check(&settings, &given).unwrap();
        assert_eq!(report.problems, [fault]);
    }
    server.run(&settings, &["UPDATE tickr_settings SET node_number = 4"]);
    assert_eq!(open_error(&settings), FaultKind::SettingsDamaged);
    server.run(&settings, &["DELETE FROM tickr_settings"]);
    assert_eq!(open_error(&settings), FaultKind::NoSettings);
    server.run(&settings, &["DROP TABLE tickr_settings"]);
    assert_eq!(open_error(&settings), FaultKind::NoSettings);
    let report = schema::check(&settings, &numbering()).unwrap();
    assert_eq!(kinds(&report.problems), [FaultKind::NoSettings]);
}

#[test]
fn the_counter_only_goes_forward() {
    let server = Server::shared();
    let settings = server.created();
    open(&settings).unwrap().reserve(99).unwrap();
    let ticket = |base| numbering().ticket(base);
    for (past, margin, counter) in [
        (None, 0, 100),
        (Some(0), 0, 100),
        (ticket(100), 0, 100),
        (ticket(101), 0, 101),
        (ticket(50), 20, 121),
    ] {
        let advanced = advance(&settings, past, margin).unwrap();
        assert_eq!(advanced.counter, counter);
        assert_eq!(server.counter(&settings), counter);
    }
    assert_eq!(
        server.rows::<u64>(&settings, "SELECT epoch FROM tickets"),
        [6]
    );
    let exhausted = FaultKind::NumbersExhausted;
    assert_eq!(kind(advance(&settings, Some(u64::MAX), 0)), exhausted);
    assert_eq!(kind(advance(&settings, None, u64::MAX)), exhausted);
    assert_eq!(
        kind(advance(&settings, ticket(9), numbering().last_base())),
        exhausted
    );
    assert!(
        open(&settings).unwrap().view.is_open(),
        "nothing was changed"
    );
}

#[test]
fn the_numbers_end_without_wrapping() {
    let server = Server::shared();
    let settings = server.settings();
    let dense = Numbering::new(1, 0, 0).unwrap();
    schema::create(&settings, &dense, LEASE).unwrap();
    let end = u64::MAX;
    server.run(
        &settings,
        &[&format!("UPDATE tickets SET id = {}", end - 5)],
    );
    let mut session = Node::open(&settings, &dense).unwrap();
    let refused = |found: Result<Found, Fault>, counter| match found {
        Ok(Found::Refused { view }) => assert_eq!(view.id, counter),
        other => panic!("{other:?}"),
    };
    refused(session.ask(6), end - 5);
    refused(session.ask(end), end - 5);
    assert_eq!(session.reserve(5), Ok(block(end - 4, end)));
    refused(session.ask(1), end);
    assert_eq!(server.counter(&settings), end);
    let report = schema::check(&settings, &dense).unwrap();
    assert_eq!(kinds(&report.problems), [FaultKind::NumbersExhausted]);

    let settings = server.created();
    let last = numbering().last_base();
    server.run(
        &settings,
        &[&format!("UPDATE tickets SET id = {}", last - 1)],
    );
    let mut session = open(&settings).unwrap();
    assert_eq!(session.reserve(1), Ok(block(last, last)));
    refused(session.ask(1), last);
}

#[test]
fn the_epochs_end_without_wrapping() {
    let server = Server::shared();
    let settings = server.settings();
    create(&settings).unwrap();
    let most = "UPDATE tickets SET epoch = 18446744073709551615";
    server.run(&settings, &[most]);
    assert_eq!(
        kind(advance(&settings, None, 0)),
        FaultKind::NumbersExhausted
    );
    // Nothing was closed that could not be opened again.
    open(&settings).unwrap();
    let report = schema::check(&settings, &numbering()).unwrap();
    assert_eq!(kinds(&report.problems), []);
}

#[test]
fn a_trigger_makes_an_error_and_no_ticket() {
    let server = Server::shared();
    let settings = server.created();
    let mut session = open(&settings).unwrap();
    let trigger = |body: &str| {
        let make = format!("CREATE TRIGGER t BEFORE UPDATE ON tickets FOR EACH ROW SET {body}");
        server.run(&settings, &["DROP TRIGGER IF EXISTS t", &make]);
    };
    trigger("NEW.id = OLD.id");
    session.refused();
    for body in [
        "NEW.id = OLD.id + 1",
        "@noted = NEW.id",
        "NEW.id = OLD.id + 1, @noted = LAST_INSERT_ID(77)",
    ] {
        trigger(body);
        assert_eq!(
            kind(session.reserve(3)),
            FaultKind::CounterAltered,
            "{body}"
        );
    }
    assert_eq!(open_error(&settings), FaultKind::Trigger);
    let report = schema::check(&settings, &numbering()).unwrap();
    assert_eq!(kinds(&report.problems), [FaultKind::Trigger]);
}

/// It would work for a while, with one more row for each reservation.
#[test]
fn a_table_that_keeps_its_history_is_refused_by_all() {
    let server = Server::shared();
    if dialect::is_mysql(&mut server.admin()).unwrap() {
        // It has no such tables.
        return;
    }
    let settings = server.created();
    server.run(&settings, &["ALTER TABLE tickets ADD SYSTEM VERSIONING"]);
    let report = schema::check(&settings, &numbering()).unwrap();
    assert_eq!(kinds(&report.problems), [FaultKind::Versioned]);
    assert_eq!(open_error(&settings), FaultKind::Versioned);
    assert_eq!(kind(create(&settings)), FaultKind::Versioned);
    assert_eq!(kind(schema::migrate(&settings)), FaultKind::Versioned);
    let drop = ["ALTER TABLE tickets DROP SYSTEM VERSIONING"];
    server.run(&settings, &drop);
    open(&settings).unwrap();
    let settings_too = [
        "ALTER TABLE tickr_settings DROP COLUMN lease_seconds",
        "ALTER TABLE tickr_settings ADD SYSTEM VERSIONING",
    ];
    server.run(&settings, &settings_too);
    assert_eq!(kind(create(&settings)), FaultKind::Versioned);
}

#[test]
fn two_counter_rows_make_an_error_and_no_ticket() {
    let server = Server::shared();
    let settings = server.created();
    let mut session = open(&settings).unwrap();
    server.run(
        &settings,
        &[
            "ALTER TABLE tickets DROP PRIMARY KEY",
            "INSERT INTO tickets SELECT * FROM tickets",
        ],
    );
    assert_eq!(kind(session.reserve(1)), FaultKind::NotOneRow);
    assert_eq!(open_error(&settings), FaultKind::NotOneRow);
}

#[test]
fn a_table_of_something_else_is_left_alone() {
    let server = Server::shared();
    let settings = server.settings();
    let make = format!("CREATE DATABASE `{}`", settings.name);
    server.admin().query_drop(make).unwrap();
    server.run(&settings, &["CREATE TABLE tickets (seat INT, price INT)"]);
    let error = create(&settings).unwrap_err();
    assert_eq!(error.kind, FaultKind::ForeignTable);
    assert_eq!(open_error(&settings), FaultKind::ForeignTable);
    assert_eq!(
        schema::migrate(&settings).unwrap_err().kind,
        FaultKind::ForeignTable
    );
}

#[test]
fn a_table_of_another_spelling_is_another_table() {
    let server = Server::shared();
    let settings = server.settings();
    let make = format!("CREATE DATABASE `{}`", settings.name);
    server.admin().query_drop(make).unwrap();
    server.run(&settings, &["CREATE TABLE Tickets (id INT, stub INT)"]);
    assert!(create(&settings).unwrap().table);
    let report = schema::check(&settings, &numbering()).unwrap();
    assert_eq!(kinds(&report.problems), []);
    open(&settings).unwrap();
}

/// Nobody can say what becomes of a commit behind a view, and `migrate` can't mend it.
#[test]
fn a_view_in_the_place_of_the_table_is_refused_by_all() {
    let server = Server::shared();
    let settings = server.settings();
    create(&settings).unwrap();
    server.run(
        &settings,
        &[
            "RENAME TABLE tickets TO hidden",
            "CREATE VIEW tickets AS SELECT * FROM hidden",
        ],
    );
    assert_eq!(open_error(&settings), FaultKind::ForeignTable);
    for error in [create(&settings).err(), schema::migrate(&settings).err()] {
        assert_eq!(error.unwrap().kind, FaultKind::ForeignTable);
    }
    let report = schema::check(&settings, &numbering()).unwrap();
    assert_eq!(kinds(&report.problems), [FaultKind::ForeignTable]);
    assert!(report.warnings.is_empty(), "{report}");
}

#[test]
fn a_user_needs_no_more_than_the_database() {
    let server = Server::shared();
    let settings = server.settings();
    let make = format!("CREATE DATABASE `{}`", settings.name);
    server.admin().query_drop(make).unwrap();
    let plain = server.plain_user(&settings, "SELECT, INSERT, UPDATE, CREATE, ALTER, DROP");
    let created = create(&plain).unwrap();
    assert!(!created.database && created.table && created.settings);
    assert_eq!(open(&plain).unwrap().reserve(1), Ok(block(2, 2)));

    let elsewhere = Settings {
        name: "elsewhere".to_owned(),
        ..plain.clone()
    };
    let denied = create(&elsewhere).unwrap_err();
    assert_eq!(denied.kind, FaultKind::AccessDenied);
    let wrong = Settings {
        password: Secret::new("hunter2").into(),
        ..plain
    };
    let denied = create(&wrong).unwrap_err();
    assert_eq!(denied.kind, FaultKind::AccessDenied);
    assert!(!format!("{denied} {denied:?} {wrong:?}").contains("hunter2"));
}

#[test]
fn any_name_can_be_created_and_only_its_name_drops_it() {
    let server = Server::shared();
    let mut settings = server.settings();
    settings.name = "t`i\"c\\k'r-ü; --".to_owned();
    assert_eq!(open_error(&settings), FaultKind::NoDatabase);
    create(&settings).unwrap();
    open(&settings).unwrap().reserve(1).unwrap();
    let name = settings.name.clone();
    let refused = schema::drop_database(&settings, "tickr").unwrap_err();
    assert_eq!(refused.kind, FaultKind::NotConfirmed);
    assert!(refused.to_string().contains(&name), "{refused}");
    assert_eq!(server.counter(&settings), 2);
    schema::drop_database(&settings, &name).unwrap();
    assert_eq!(open_error(&settings), FaultKind::NoDatabase);
}

#[test]
fn a_database_that_others_use_is_not_dropped() {
    let server = Server::shared();
    let ours = server.created();
    let theirs = server.settings();
    let mut admin = server.admin();
    for (settings, table) in [(&ours, "orders"), (&theirs, "tickets")] {
        let name = &settings.name;
        let make = format!("CREATE DATABASE IF NOT EXISTS `{name}`");
        admin.query_drop(make).unwrap();
        let make = format!("CREATE TABLE `{name}`.{table} (id INT)");
        admin.query_drop(make).unwrap();
        let refused = schema::drop_database(settings, name).unwrap_err();
        assert_eq!(refused.kind, FaultKind::NotOnlyOurs);
        assert!(refused.to_string().contains(table), "{refused}");
        let rows = admin.query_drop(format!("SELECT * FROM `{name}`.{table}"));
        rows.unwrap();
    }
    let drop = format!("DROP TABLE `{}`.orders", ours.name);
    admin.query_drop(drop).unwrap();
    schema::drop_database(&ours, &ours.name).unwrap();
}

#[test]
fn check_says_what_is_there() {
    let server = Server::shared();
    let settings = server.created();
    open(&settings).unwrap().reserve(6).unwrap();
    let report = schema::check(&settings, &numbering()).unwrap();
    assert_eq!(report.problems, []);
    let text = report.to_string();
    let left_53 = ((1_u64 << 53) - 1 - 54_313_021) / 4;
    let left_64 = (u64::MAX - 54_313_021) / 4;
    for line in [
        "engine            InnoDB".to_owned(),
        "counter           7".to_owned(),
        "last ticket       54313021".to_owned(),
        format!("stored settings   {}", numbering()),
        format!("left below 2^53   {left_53} tickets"),
        format!("left below 2^64   {left_64} tickets"),
        "ready to serve".to_owned(),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    let nothing = server.settings();
    let make = format!("CREATE DATABASE `{}`", nothing.name);
    server.admin().query_drop(make).unwrap();
    let report = schema::check(&nothing, &numbering()).unwrap();
    assert_eq!(report.problems.len(), 1);
    assert_eq!(report.problems[0].kind, FaultKind::NoTable);
}

#[test]
fn a_server_that_is_read_only_or_full_is_told_apart_and_recovers() {
    let server = Server::start(&["--max-connections=10"]);
    let settings = server.created();
    let plain = server.plain_user(&settings, "SELECT, UPDATE");
    let set = |value| {
        let set = format!("SET GLOBAL read_only = {value}");
        server.admin().query_drop(set).unwrap();
    };
    // With SUPER the server would take the write.
    for user in [&plain, &settings] {
        let mut session = open(user).unwrap();
        session.reserve(1).unwrap();
        set(1);
        let view = session.refused();
        assert!(view.read_only && view.owner == Owner::Here);
        assert!(open(user).unwrap().view.read_only);
        let report = schema::check(user, &numbering()).unwrap();
        assert_eq!(kinds(&report.problems), [FaultKind::ReadOnly]);
        assert_eq!(kind(advance(user, None, 0)), FaultKind::ReadOnly);
        set(0);
        session.reserve(1).unwrap();
    }
    assert_eq!(server.counter(&settings), 5);

    let mut others: Vec<Node> = Vec::new();
    let full = loop {
        match open(&plain) {
            Ok(session) => others.push(session),
            Err(fault) => break fault,
        }
    };
    assert_eq!(full.kind, FaultKind::TooManyConnections);
    assert!(others.len() >= 8, "{} others", others.len());
}

#[test]
fn a_revoked_privilege_is_noticed_and_its_return_too() {
    let server = Server::shared();
    let settings = server.created();
    // Privileges on a table are looked at for each statement, those on a database at login.
    let plain = server.plain_user(&settings, "CREATE TEMPORARY TABLES");
    let user = format!("'{}'@'%'", plain.username);
    let grant = format!("GRANT SELECT, UPDATE ON tickets TO {user}");
    let grant_settings = format!("GRANT SELECT ON tickr_settings TO {user}");
    server.run(&settings, &[&grant, &grant_settings]);
    let mut pool = Pool::start(&plain, 1);
    pool.connect().unwrap();
    pool.reserve(1).unwrap();
    server.run(
        &settings,
        &[&format!("REVOKE UPDATE ON tickets FROM {user}")],
    );
    assert_eq!(kind(pool.reserve(1)), FaultKind::AccessDenied);
    assert_eq!(kind(pool.reserve(1)), FaultKind::Lost, "no session");
    server.run(&settings, &[&grant]);
    pool.connect().unwrap();
    assert_eq!(pool.reserve(1), Ok(block(3, 3)));
}

#[test]
fn a_killed_connection_costs_nobody_a_ticket() {
    let server = Server::shared();
    let settings = server.created();
    let plain = server.plain_user(&settings, "SELECT, UPDATE");
    let mut pool = Pool::start(&plain, 1);
    for round in 1..5 {
        assert_eq!(pool.connect().unwrap().id, round);
        assert_eq!(pool.reserve(1), Ok(block(round + 1, round + 1)));
        server.kill_connections(&plain);
        assert_eq!(kind(pool.reserve(2)), FaultKind::Lost, "one attempt");
    }
}

#[test]
fn a_table_that_was_moved_away_and_back_is_found_again() {
    let server = Server::shared();
    let settings = server.created();
    let mut pool = Pool::start(&settings, 1);
    pool.connect().unwrap();
    server.run(&settings, &["RENAME TABLE tickets TO elsewhere"]);
    assert_eq!(kind(pool.reserve(1)), FaultKind::NoTable);
    assert_eq!(kind(pool.connect()), FaultKind::TableGone);
    server.run(&settings, &["RENAME TABLE elsewhere TO tickets"]);
    pool.connect().unwrap();
    assert_eq!(pool.reserve(1), Ok(block(2, 2)));
}

#[test]
fn a_locked_counter_is_waited_for_with_a_bound() {
    let server = Server::shared();
    let settings = server.created();
    let mut session = open(&settings).unwrap();
    let mut other = server.admin();
    other.select_db(&settings.name).unwrap();
    other.query_drop("BEGIN").unwrap();
    other
        .query_drop("SELECT * FROM tickets FOR UPDATE")
        .unwrap();
    let began = Instant::now();
    assert_eq!(kind(session.reserve(1)), FaultKind::LockWait);
    assert!(began.elapsed() < Duration::from_secs(2));
    other.query_drop("COMMIT").unwrap();
    assert_eq!(session.reserve(1), Ok(block(2, 2)), "the session goes on");
}

#[test]
fn an_interrupted_statement_is_an_error_and_the_session_goes_on() {
    let server = Server::shared();
    let settings = server.created();
    let plain = server.plain_user(&settings, "SELECT, UPDATE");
    let mut pool = Pool::start(&plain, 1);
    pool.connect().unwrap();
    pool.reserve(1).unwrap();
    let mut other = server.admin();
    other.select_db(&settings.name).unwrap();
    other.query_drop("BEGIN").unwrap();
    other
        .query_drop("SELECT * FROM tickets FOR UPDATE")
        .unwrap();
    pool.submit(0, pool.reservation(1));
    let waiting = server.lock_waiter(&plain);
    other.query_drop(format!("KILL QUERY {waiting}")).unwrap();
    assert_eq!(kind(pool.outcome().found), FaultKind::Interrupted);
    other.query_drop("COMMIT").unwrap();
    assert_eq!(pool.reserve(1), Ok(block(3, 3)));
}

#[test]
fn a_lost_deadlock_is_an_error_and_the_session_goes_on() {
    let server = Server::shared();
    let settings = server.settings();
    let make = format!("CREATE DATABASE `{}`", settings.name);
    server.admin().query_drop(make).unwrap();
    let table = EARLIER_ORIGINAL.replace("MyISAM", "InnoDB");
    let heavy = "CREATE TABLE heavy (n INT) ENGINE = InnoDB";
    // With more rows, the row is looked for by its stub, and the order of locks is known.
    let others = ('b'..='z')
        .zip(1000..)
        .map(|(stub, id)| format!(", ({id}, '{stub}')"));
    let rows = format!(
        "INSERT INTO tickets VALUES (1, 'a'){}",
        others.collect::<String>()
    );
    server.run(
        &settings,
        &[&table, &rows, heavy, "INSERT INTO heavy VALUES (1)"],
    );
    create(&settings).unwrap();
    let plain = server.plain_user(&settings, "SELECT, UPDATE");

    // Of two in a deadlock, InnoDB rolls back the one that has changed fewer rows.
    let mut other = server.admin();
    other.select_db(&settings.name).unwrap();
    other.query_drop("BEGIN").unwrap();
    for _ in 0..8 {
        let double = "INSERT INTO heavy SELECT * FROM heavy";
        other.query_drop(double).unwrap();
    }
    let by_id = "SELECT * FROM tickets FORCE INDEX (PRIMARY) WHERE id = 1 FOR UPDATE";
    other.query_drop(by_id).unwrap();
    let mut pool = Pool::start(&plain, 1);
    pool.connect().unwrap();
    pool.submit(0, pool.reservation(1));
    server.lock_waiter(&plain);
    let by_stub = "SELECT * FROM tickets FORCE INDEX (stub) WHERE stub = 'a' FOR UPDATE";
    other.query_drop(by_stub).unwrap();
    other.query_drop("COMMIT").unwrap();
    assert_eq!(kind(pool.outcome().found), FaultKind::Deadlock);
    assert_eq!(pool.reserve(1), Ok(block(2, 2)));
}

#[test]
fn a_server_that_hangs_or_dies_is_given_up_and_found_again() {
    let mut server = Server::start(&[]);
    let settings = server.created();
    let mut pool = Pool::start(&settings, 1);
    pool.connect().unwrap();
    pool.reserve(1).unwrap();

    server.local.pause().unwrap();
    let began = Instant::now();
    assert_eq!(kind(pool.reserve(1)), FaultKind::TimedOut);
    assert!(began.elapsed() < Duration::from_secs(4), "{began:?}");
    assert_eq!(kind(pool.connect()), FaultKind::TimedOut);
    server.local.resume().unwrap();
    assert!(pool.connect().unwrap().id >= 2);
    let after = pool.reserve(1).unwrap();

    server.local.kill().unwrap();
    assert_eq!(kind(pool.reserve(1)), FaultKind::Lost);
    assert_eq!(kind(pool.connect()), FaultKind::Unreachable);
    server.local.restart().unwrap();
    pool.connect().unwrap();
    let restarted = pool.reserve(1).unwrap();
    assert_eq!(restarted.first, after.last + 1, "commits survive a kill");

    server.local.pause().unwrap();
    pool.submit(0, pool.reservation(1));
    let began = Instant::now();
    pool.workers.stop(Duration::from_millis(200));
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "stopping is bounded"
    );
    server.local.resume().unwrap();
}

#[test]
fn a_worker_that_hangs_is_replaced_and_its_connection_is_ended() {
    let server = Server::shared();
    let settings = Settings {
        timeout: Duration::from_secs(30),
        ..server.created()
    };
    let plain = server.plain_user(&settings, "SELECT, UPDATE");
    let mut pool = Pool::start(&plain, 1);
    let (_, hung) = pool.replace(None).unwrap();
    let mut other = server.admin();
    other.select_db(&settings.name).unwrap();
    other.query_drop("BEGIN").unwrap();
    other
        .query_drop("SELECT * FROM tickets FOR UPDATE")
        .unwrap();
    let stuck = pool.submit(0, pool.reservation(1));
    assert_eq!(server.lock_waiter(&plain), hung.connection);

    let replaces = Some(hung.connection);
    let connecting = pool.submit(0, Task::Connect { replaces });
    let mut outcomes = [pool.outcome(), pool.outcome()];
    outcomes.sort_by_key(|outcome| outcome.id);
    let [killed, connected] = outcomes;
    assert_eq!((killed.id, connected.id), (stuck, connecting));
    let killed = kind(killed.found);
    assert!(
        [FaultKind::Lost, FaultKind::Interrupted].contains(&killed),
        "{killed:?}"
    );
    assert!(matches!(connected.found, Ok(Found::Connected { .. })));
    let sessions = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = ?";
    let mut admin = server.admin();
    let count: Option<u64> = admin.exec_first(sessions, (&plain.username,)).unwrap();
    assert_eq!(count, Some(1), "no more than the pool has");
    other.query_drop("COMMIT").unwrap();
    assert_eq!(pool.reserve(1), Ok(block(2, 2)));

    // Another program's connection of that number stays.
    let bystander: u64 = admin
        .query_first("SELECT CONNECTION_ID()")
        .unwrap()
        .unwrap();
    pool.replace(Some(bystander)).unwrap();
    admin.query_drop("DO 1").unwrap();
}

/// A statement that looks at nothing else until it is done: a key that takes many rounds to derive.
#[test]
fn a_connection_that_cannot_be_ended_is_waited_for_with_a_bound_and_named() {
    const SAMPLE: u128 = 50_000;
    let server = Server::shared();
    let derive = |rounds: u128| format!("DO ENCRYPT('x', '$6$rounds={rounds}$tickr')");
    let settings = server.created();
    let plain = server.plain_user(&settings, "SELECT, UPDATE");
    let options = OptsBuilder::new()
        .socket(server.local.socket().to_str())
        .user(Some(&plain.username))
        .pass(Some("pass"))
        .db_name(Some(&plain.name));
    let mut stuck = Conn::new(options).unwrap();
    let connection = u64::from(stuck.connection_id());
    // As many rounds as take this machine at its fastest several times as long as is waited.
    let tries = (0..5).map(|_| {
        let began = Instant::now();
        stuck.query_drop(derive(SAMPLE)).unwrap();
        began.elapsed()
    });
    let fastest = tries.min().unwrap();
    let long = Duration::from_secs(12);
    let statement = derive(SAMPLE * long.as_micros() / fastest.as_micros());
    let working = thread::spawn(move || stuck.query_drop(statement));
    let mut admin = server.admin();
    let at_work = "SELECT COUNT(*) FROM information_schema.PROCESSLIST \
         WHERE ID = ? AND INFO LIKE 'DO ENCRYPT%'";
    let is_there = |admin: &mut Conn| admin.exec_first(at_work, (connection,)).unwrap();
    while is_there(&mut admin) == Some(0_u64) {
        thread::sleep(Duration::from_millis(5));
    }

    let mut pool = Pool::start(&plain, 1);
    let began = Instant::now();
    let fault = pool.replace(Some(connection)).map(|_| ()).unwrap_err();
    let took = began.elapsed();
    assert_eq!(fault.kind, FaultKind::ConnectionStuck, "{fault}");
    assert!(fault.said.contains(&format!("connection {connection}")));
    assert!(took < Duration::from_secs(6), "{took:?}");
    let of_user = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = ?";
    let mut held = || -> Option<u64> { admin.exec_first(of_user, (&plain.username,)).unwrap() };
    wait_until("only what is stuck is left", || held() == Some(1));

    // It was told to end, and does so when it can.
    assert!(working.join().unwrap().is_err());
    wait_until("it has ended", || held() == Some(0));
    pool.replace(Some(connection)).unwrap();
    assert_eq!(held(), Some(1), "the new one");
}

#[test]
fn tcp_works_by_name_and_by_address() {
    let folder = scratch();
    let local = start(LocalOptions {
        tcp: true,
        ..options(folder.path())
    });
    let port = local.port().unwrap();
    let server = Server {
        local,
        _folder: folder,
    };
    let created = server.created();
    for host in ["localhost", "127.0.0.1"] {
        let host = host.to_owned();
        let settings = Settings {
            host: Host::Tcp { host, port },
            ..created.clone()
        };
        open(&settings).unwrap().reserve(1).unwrap();
    }
    assert_eq!(server.counter(&created), 3);
}

#[test]
fn what_does_not_speak_the_protocol_is_an_error_and_no_panic_of_the_pool() {
    // An empty packet, a packet of nonsense, half a packet, an empty packet as the answer to the
    // login, which the driver trips over, and silence.
    let mut login = HANDSHAKE.to_vec();
    login.extend(b"\0\0\0\x02");
    let greetings: [&[u8]; 5] = [
        b"\0\0\0\0",
        b"\x05\0\0\0hello",
        b"HTTP/1.1 400 Bad",
        &login,
        b"",
    ];
    for greeting in greetings.map(<[u8]>::to_vec) {
        let silent = greeting.is_empty();
        let folder = scratch();
        let path = folder.path().join("mysql.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let peer = thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            socket.write_all(&greeting).unwrap();
            if !silent {
                socket.shutdown(Shutdown::Write).unwrap();
            }
            while socket.read(&mut [0; 64]).is_ok_and(|read| read > 0) {}
        });
        let settings = Settings {
            host: Host::Socket(path),
            username: "nobody".to_owned(),
            password: Secret::default().into(),
            name: "none".to_owned(),
            timeout: Duration::from_millis(100),
            tls: Tls::Off,
            public_key: None,
            failover: Failover::Stop,
        };
        let mut pool = Pool::start(&settings, 1);
        let fault = pool.connect().unwrap_err();
        if silent {
            assert_eq!(fault.kind, FaultKind::TimedOut);
        } else {
            let kinds = [FaultKind::Protocol, FaultKind::Lost];
            assert!(kinds.contains(&fault.kind), "{fault}");
        }
        peer.join().unwrap();
        assert_eq!(kind(pool.connect()), FaultKind::Unreachable);
    }
}

/// The driver panics on an empty packet where an answer to the login belongs.
#[test]
fn a_command_that_meets_nonsense_ends_with_one_sentence() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let peer = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut login = HANDSHAKE.to_vec();
        login.extend(b"\0\0\0\x02");
        socket.write_all(&login).unwrap();
        while socket.read(&mut [0; 64]).is_ok_and(|read| read > 0) {}
    });
    let output = crate::harness::run(
        &["db", "check"],
        &[
            ("TICKR_DATABASE_HOST", "127.0.0.1"),
            ("TICKR_DATABASE_PORT", &port),
            ("TICKR_DATABASE_USERNAME", "nobody"),
            ("TICKR_DATABASE_NAME", "none"),
            ("TICKR_MAX_NODES", "4"),
            ("TICKR_STARTING_OFFSET", "1"),
            ("TICKR_NODE_NUMBER", "0"),
        ],
    );
    peer.join().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("did not speak MySQL's protocol"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}

/// A byte a second satisfies every time-out of a single read.
#[test]
fn a_greeting_that_never_ends_is_given_up() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut sockets = Vec::new();
        for socket in listener.incoming() {
            let Ok(mut socket) = socket else { return };
            sockets.push(thread::spawn(move || {
                let greeting = HANDSHAKE.iter().chain(&[0; 1000]);
                for byte in greeting {
                    if socket.write_all(&[*byte]).is_err() {
                        return;
                    }
                    thread::sleep(Duration::from_secs(1));
                }
            }));
        }
    });
    let settings = Settings {
        host: Host::Tcp {
            host: "127.0.0.1".to_owned(),
            port,
        },
        username: "nobody".to_owned(),
        password: Secret::default().into(),
        name: "none".to_owned(),
        timeout: Duration::from_millis(100),
        tls: Tls::Off,
        public_key: None,
        failover: Failover::Stop,
    };
    let fault = schema::check(&settings, &numbering())
        .map(drop)
        .unwrap_err();
    assert_eq!(fault.kind, FaultKind::TimedOut);
    // A worker that hangs in it is left alone, and another does the next job.
    let mut pool = Pool::start(&settings, 1);
    pool.submit(0, Task::Connect { replaces: None });
    pool.submit(0, Task::Connect { replaces: None });
    let read = pool.submit(0, Task::Read);
    let outcome = pool.outcome();
    assert_eq!(outcome.id, read);
    assert_eq!(kind(outcome.found), FaultKind::Lost, "it has no session");
}

/// A greeting as MySQL 5.7 sends it, with the header of its packet (`Protocol::HandshakeV10` in
/// the MySQL Source Code Documentation).
const HANDSHAKE: &[u8] = b"\x49\0\0\0\x0a5.7.0\0\x01\0\0\0saltsalt\0\xff\xf7\x21\x02\0\x08\0\x15\
    \0\0\0\0\0\0\0\0\0\0saltsaltsalt\0mysql_native_password\0";
