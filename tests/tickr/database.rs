//! The database side: what is created, taken over and verified, and what each fault comes to.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant};

use mysql::prelude::{FromRow, Queryable};
use mysql::{Conn, OptsBuilder};
use tempfile::TempDir;
use tickr::database::local::{LocalOptions, LocalServer};
use tickr::database::schema::{self, Advanced, Created, Migrated};
use tickr::database::{
    DatabaseError, Failover, Host, Job, Opened, Outcome, Reply, Secret, Session, Settings, Tls,
    Warning, Workers,
};
use tickr::ticket::{Block, Numbering};

use crate::support::{options, scratch, start};

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
        schema::create(&settings, &numbering()).unwrap();
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

fn open(settings: &Settings) -> Result<(Session, Opened), DatabaseError> {
    Session::open(settings, &numbering())
}

fn open_error(settings: &Settings) -> DatabaseError {
    open(settings).map(|(_, opened)| opened).unwrap_err()
}

fn block(first: u64, last: u64) -> Block {
    Block { first, last }
}

/// Workers, and the channel on which they wake us.
struct Pool {
    workers: Workers,
    woken: Receiver<()>,
}

impl Pool {
    fn start(settings: &Settings, size: usize) -> Pool {
        let (wake, woken) = mpsc::channel();
        let wake = Mutex::new(wake);
        let wake = Arc::new(move || wake.lock().unwrap().send(()).unwrap_or(()));
        let settings = Arc::new(settings.clone());
        let workers = Workers::start(settings, numbering(), size, wake).unwrap();
        Pool { workers, woken }
    }

    fn outcome(&mut self) -> Outcome {
        self.woken.recv_timeout(Duration::from_secs(30)).unwrap();
        self.workers.next_outcome().unwrap()
    }

    fn ask(&mut self, job: Job) -> Outcome {
        assert!(self.workers.submit(job));
        self.outcome()
    }

    fn reserve(&mut self, count: u64) -> Outcome {
        self.ask(Job::Reserve { id: 7, count })
    }
}

#[test]
fn create_makes_everything_once_and_tickets_follow() {
    let server = Server::shared();
    let settings = server.settings();
    let created = schema::create(&settings, &numbering()).unwrap();
    let all = Created {
        database: true,
        table: true,
        settings: true,
    };
    assert_eq!(created, all);
    let (mut session, opened) = open(&settings).unwrap();
    assert_eq!((opened.counter, opened.warnings), (1, vec![]));
    assert_eq!(session.reserve(1), Ok(block(2, 2)));
    assert_eq!(session.reserve(5), Ok(block(3, 7)));
    assert_eq!(session.counter(), Ok(7));
    assert_eq!(
        server.counter(&settings),
        7,
        "committed, and seen by others"
    );

    let again = schema::create(&settings, &numbering()).unwrap();
    assert_eq!(
        again.to_string(),
        "nothing to do: the database, the table `tickets` with its counter, the stored settings \
         are there already"
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
        "--server-id=1",
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
        let (mut session, opened) = open(&plain).unwrap();
        assert_eq!(opened.warnings, warnings);
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
            session.counter(),
            Ok(base),
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
    schema::create(&earlier, &numbering()).unwrap();
    let (mut session, _) = open(&earlier).unwrap();
    assert_eq!(session.reserve(3), Ok(block(2, 4)));
    assert_eq!(session.reserve(1), Ok(block(5, 5)));
}

#[test]
fn databases_of_the_original_are_taken_over_as_they_are() {
    let server = Server::shared();
    for table in [ORIGINAL, EARLIER_ORIGINAL] {
        let settings = server.settings();
        let create = format!("CREATE DATABASE `{}`", settings.name);
        server.admin().query_drop(create).unwrap();
        server.run(&settings, &[table, "INSERT INTO tickets VALUES (41, 'a')"]);
        assert_eq!(open_error(&settings), DatabaseError::NoSettings);

        let created = schema::create(&settings, &numbering()).unwrap();
        assert_eq!(
            created.to_string(),
            "created the stored settings; the database, the table `tickets` with its counter: \
             there already"
        );
        let (mut session, opened) = open(&settings).unwrap();
        let engine = "MyISAM".to_owned();
        assert_eq!(opened.counter, 41);
        assert_eq!(opened.warnings, [Warning::NotTransactional { engine }]);
        assert_eq!(session.reserve(2), Ok(block(42, 43)));

        let migrated = schema::migrate(&settings).unwrap();
        let from = "MyISAM".to_owned();
        assert_eq!(migrated, Migrated::Done { from, counter: 43 });
        assert_eq!(session.reserve(1), Ok(block(44, 44)), "the session goes on");
        let (_, opened) = open(&settings).unwrap();
        assert_eq!((opened.counter, opened.warnings), (44, vec![]));
        let engine = "InnoDB".to_owned();
        let again = schema::migrate(&settings).unwrap();
        assert_eq!(again, Migrated::NothingToDo { engine });
    }
}

#[test]
fn migrating_loses_no_concurrent_reservation() {
    let server = Server::shared();
    let settings = server.created();
    server.run(&settings, &["ALTER TABLE tickets ENGINE = MyISAM"]);
    let (mut session, _) = open(&settings).unwrap();
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
    assert!(matches!(migrating.join().unwrap(), Migrated::Done { .. }));
    assert_eq!(server.counter(&settings), last);
}

#[test]
fn a_missing_row_is_never_begun_anew() {
    let server = Server::shared();
    let settings = server.created();
    open(&settings).unwrap().0.reserve(9).unwrap();
    let (mut session, _) = open(&settings).unwrap();
    server.run(&settings, &["DELETE FROM tickets"]);
    assert_eq!(session.reserve(1), Err(DatabaseError::NoCounterRow));
    assert_eq!(session.counter(), Err(DatabaseError::NoCounterRow));
    assert_eq!(open_error(&settings), DatabaseError::NoCounterRow);
    let refused = schema::create(&settings, &numbering()).unwrap_err();
    assert_eq!(refused, DatabaseError::NoCounterRow);
    assert!(refused.to_string().contains("tickr db advance --past"));
    assert_eq!(schema::migrate(&settings), Err(DatabaseError::NoCounterRow));
    let report = schema::check(&settings, &numbering()).unwrap();
    assert_eq!(report.problems, [DatabaseError::NoCounterRow]);

    let past = numbering().ticket(10).unwrap();
    let advanced = schema::advance(&settings, &numbering(), past).unwrap();
    assert_eq!(advanced, Advanced::Restored { counter: 10 });
    assert_eq!(session.reserve(1), Ok(block(11, 11)));
}

#[test]
fn a_lost_table_is_never_begun_anew() {
    let server = Server::shared();
    let settings = server.created();
    let (mut session, _) = open(&settings).unwrap();
    server.run(&settings, &["DROP TABLE tickets"]);
    assert_eq!(session.reserve(1).unwrap_err().class(), "no_table");
    assert_eq!(open_error(&settings), DatabaseError::TableGone);
    let refused = schema::create(&settings, &numbering());
    assert_eq!(refused, Err(DatabaseError::TableGone));
    let report = schema::check(&settings, &numbering()).unwrap();
    assert_eq!(report.problems, [DatabaseError::TableGone]);

    let advanced = schema::advance(&settings, &numbering(), 54_313_001).unwrap();
    assert_eq!(advanced, Advanced::Restored { counter: 2 });
    assert_eq!(session.reserve(1), Ok(block(3, 3)));
}

#[test]
fn creators_at_once_make_one_counter() {
    let server = Server::shared();
    let settings = server.settings();
    let creators: Vec<_> = (0..8)
        .map(|_| {
            let settings = settings.clone();
            thread::spawn(move || schema::create(&settings, &numbering()).unwrap())
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
            thread::spawn(move || schema::create(&settings, &numbering))
        })
        .collect();
    let results: Vec<_> = creators.into_iter().map(|c| c.join().unwrap()).collect();
    let winners = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(winners, 1, "{results:?}");
    for loser in results.into_iter().filter_map(Result::err) {
        assert!(matches!(loser, DatabaseError::SettingsDiffer { .. }));
    }
}

#[test]
fn other_settings_than_the_stored_ones_are_refused() {
    let server = Server::shared();
    let settings = server.created();
    for given in [(5, 54_313_001, 0), (4, 54_313_002, 0), (4, 54_313_001, 1)] {
        let given = Numbering::new(given.0, given.1, given.2).unwrap();
        let stored = numbering();
        let differ = DatabaseError::SettingsDiffer { stored, given };
        let error = Session::open(&settings, &given).map(drop).unwrap_err();
        assert_eq!(error, differ);
        assert!(error.to_string().contains(&stored.to_string()));
        assert!(error.to_string().contains(&given.to_string()));
        assert_eq!(schema::create(&settings, &given).unwrap_err(), differ);
        assert_eq!(schema::advance(&settings, &given, 9).unwrap_err(), differ);
        let report = schema::check(&settings, &given).unwrap();
        assert_eq!(report.problems, [differ]);
    }
    server.run(&settings, &["UPDATE tickr_settings SET node_number = 4"]);
    assert_eq!(open_error(&settings).class(), "settings_damaged");
    server.run(&settings, &["DELETE FROM tickr_settings"]);
    assert_eq!(open_error(&settings), DatabaseError::NoSettings);
}

#[test]
fn the_counter_only_goes_forward() {
    let server = Server::shared();
    let settings = server.created();
    open(&settings).unwrap().0.reserve(99).unwrap();
    let advance = |past| schema::advance(&settings, &numbering(), past);
    let here = Advanced::NothingToDo { counter: 100 };
    assert_eq!(advance(0), Ok(here));
    assert_eq!(advance(numbering().ticket(100).unwrap()), Ok(here));
    let moved = Advanced::Moved { counter: 101 };
    assert_eq!(
        advance(numbering().ticket(100).unwrap() + 1),
        Ok(Advanced::NothingToDo { counter: 100 })
    );
    assert_eq!(advance(numbering().ticket(101).unwrap()), Ok(moved));
    assert_eq!(advance(u64::MAX).unwrap_err().class(), "numbers_exhausted");
    assert_eq!(server.counter(&settings), 101);
}

#[test]
fn advancing_beside_running_nodes_repeats_nothing() {
    let server = Server::shared();
    let settings = server.created();
    let (mut session, _) = open(&settings).unwrap();
    let advancing = thread::spawn({
        let settings = settings.clone();
        move || {
            for base in (100..2000).step_by(100) {
                let past = numbering().ticket(base).unwrap();
                schema::advance(&settings, &numbering(), past).unwrap();
            }
        }
    });
    let mut last = 1;
    while !advancing.is_finished() {
        let block = session.reserve(3).unwrap();
        assert!(block.first > last);
        last = block.last;
    }
    advancing.join().unwrap();
    assert!(session.reserve(1).unwrap().first > 1900);
}

#[test]
fn the_numbers_end_without_wrapping() {
    let server = Server::shared();
    let settings = server.settings();
    let dense = Numbering::new(1, 0, 0).unwrap();
    schema::create(&settings, &dense).unwrap();
    let end = u64::MAX;
    server.run(
        &settings,
        &[&format!("UPDATE tickets SET id = {}", end - 5)],
    );
    let (mut session, _) = Session::open(&settings, &dense).unwrap();
    let exhausted = |counter| Err(DatabaseError::NumbersExhausted { counter });
    assert_eq!(session.reserve(6), exhausted(end - 5));
    assert_eq!(session.reserve(end), exhausted(end - 5));
    assert_eq!(session.reserve(5), Ok(block(end - 4, end)));
    assert_eq!(session.reserve(1), exhausted(end));
    assert_eq!(server.counter(&settings), end);
    let report = schema::check(&settings, &dense).unwrap();
    assert_eq!(
        report.problems,
        [DatabaseError::NumbersExhausted { counter: end }]
    );

    let settings = server.created();
    let last = numbering().last_base();
    server.run(
        &settings,
        &[&format!("UPDATE tickets SET id = {}", last - 1)],
    );
    let (mut session, _) = open(&settings).unwrap();
    assert_eq!(session.reserve(1), Ok(block(last, last)));
    assert_eq!(session.reserve(1), exhausted(last));
}

#[test]
fn a_trigger_makes_an_error_and_no_ticket() {
    let server = Server::shared();
    let settings = server.created();
    let trigger = |body: &str| {
        let create = format!("CREATE TRIGGER t BEFORE UPDATE ON tickets FOR EACH ROW SET {body}");
        server.run(&settings, &["DROP TRIGGER IF EXISTS t", &create]);
    };
    trigger("NEW.id = OLD.id");
    let (mut session, _) = open(&settings).unwrap();
    assert_eq!(
        session.reserve(3),
        Err(DatabaseError::NotOneRow { rows: 0 })
    );
    for body in [
        "NEW.id = OLD.id + 1",
        "@noted = NEW.id",
        "NEW.id = OLD.id + 1, @noted = LAST_INSERT_ID(77)",
    ] {
        trigger(body);
        let error = session.reserve(3).unwrap_err();
        assert_eq!(error.class(), "counter_altered", "{body}");
    }
}

#[test]
fn two_counter_rows_make_an_error_and_no_ticket() {
    let server = Server::shared();
    let settings = server.created();
    let (mut session, _) = open(&settings).unwrap();
    server.run(
        &settings,
        &[
            "ALTER TABLE tickets DROP PRIMARY KEY",
            "INSERT INTO tickets VALUES (1, 'a')",
        ],
    );
    let two = DatabaseError::NotOneRow { rows: 2 };
    assert_eq!(session.reserve(1).unwrap_err(), two);
    assert_eq!(open_error(&settings), two);
}

#[test]
fn a_table_of_something_else_is_left_alone() {
    let server = Server::shared();
    let settings = server.settings();
    let create = format!("CREATE DATABASE `{}`", settings.name);
    server.admin().query_drop(create).unwrap();
    server.run(&settings, &["CREATE TABLE tickets (seat INT, price INT)"]);
    let error = schema::create(&settings, &numbering()).unwrap_err();
    assert_eq!(error.class(), "foreign_table");
    assert_eq!(open_error(&settings).class(), "foreign_table");
}

#[test]
fn a_user_needs_no_more_than_the_database() {
    let server = Server::shared();
    let settings = server.settings();
    let create = format!("CREATE DATABASE `{}`", settings.name);
    server.admin().query_drop(create).unwrap();
    let plain = server.plain_user(&settings, "SELECT, INSERT, UPDATE, CREATE, ALTER, DROP");
    let created = schema::create(&plain, &numbering()).unwrap();
    assert!(!created.database && created.table && created.settings);
    assert_eq!(open(&plain).unwrap().0.reserve(1), Ok(block(2, 2)));

    let elsewhere = Settings {
        name: "elsewhere".to_owned(),
        ..plain.clone()
    };
    let denied = schema::create(&elsewhere, &numbering()).unwrap_err();
    assert_eq!(denied.class(), "access_denied");
    let wrong = Settings {
        password: Secret::new("hunter2").into(),
        ..plain
    };
    let denied = schema::create(&wrong, &numbering()).unwrap_err();
    assert_eq!(denied.class(), "access_denied");
    assert!(!format!("{denied} {denied:?} {wrong:?}").contains("hunter2"));
}

#[test]
fn any_name_can_be_created_and_only_its_name_drops_it() {
    let server = Server::shared();
    let mut settings = server.settings();
    settings.name = "t`i\"c\\k'r-ü; --".to_owned();
    assert_eq!(open_error(&settings).class(), "no_database");
    schema::create(&settings, &numbering()).unwrap();
    open(&settings).unwrap().0.reserve(1).unwrap();
    let name = settings.name.clone();
    let refused = schema::drop_database(&settings, "tickr").unwrap_err();
    assert_eq!(refused, DatabaseError::NotConfirmed { name: name.clone() });
    assert_eq!(server.counter(&settings), 2);
    schema::drop_database(&settings, &name).unwrap();
    assert_eq!(open_error(&settings).class(), "no_database");
}

#[test]
fn a_database_that_others_use_is_not_dropped() {
    let server = Server::shared();
    let ours = server.created();
    let theirs = server.settings();
    let mut admin = server.admin();
    for (settings, table) in [(&ours, "orders"), (&theirs, "tickets")] {
        let name = &settings.name;
        let create = format!("CREATE DATABASE IF NOT EXISTS `{name}`");
        admin.query_drop(create).unwrap();
        let create = format!("CREATE TABLE `{name}`.{table} (id INT)");
        admin.query_drop(create).unwrap();
        let refused = schema::drop_database(settings, name).unwrap_err();
        assert_eq!(refused.class(), "not_only_ours");
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
    open(&settings).unwrap().0.reserve(6).unwrap();
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
    let create = format!("CREATE DATABASE `{}`", nothing.name);
    server.admin().query_drop(create).unwrap();
    let report = schema::check(&nothing, &numbering()).unwrap();
    assert_eq!(report.problems.len(), 1);
    assert_eq!(report.problems[0].class(), "no_table");
}

#[test]
fn a_server_that_is_read_only_or_full_is_told_apart_and_recovers() {
    let server = Server::start(&["--max-connections=10"]);
    let settings = server.created();
    let plain = server.plain_user(&settings, "SELECT, UPDATE");
    let mut pool = Pool::start(&plain, 1);
    assert_eq!(pool.reserve(1).result, Ok(Reply::Block(block(2, 2))));

    server
        .admin()
        .query_drop("SET GLOBAL read_only = 1")
        .unwrap();
    let outcome = pool.reserve(1);
    assert_eq!(outcome.result.unwrap_err().class(), "read_only");
    assert_eq!(outcome.opened.unwrap().warnings, [Warning::ReadOnly]);
    server
        .admin()
        .query_drop("SET GLOBAL read_only = 0")
        .unwrap();
    assert_eq!(pool.reserve(1).result, Ok(Reply::Block(block(3, 3))));

    let mut others: Vec<Session> = Vec::new();
    let full = loop {
        match open(&plain) {
            Ok((session, _)) => others.push(session),
            Err(error) => break error,
        }
    };
    assert_eq!(full.class(), "too_many_connections");
    assert_eq!(pool.reserve(1).result, Ok(Reply::Block(block(4, 4))));
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
    let mut pool = Pool::start(&plain, 2);
    pool.reserve(1).result.unwrap();
    server.run(
        &settings,
        &[&format!("REVOKE UPDATE ON tickets FROM {user}")],
    );
    let denied = pool.reserve(1).result.unwrap_err();
    assert_eq!(denied.class(), "access_denied");
    server.run(&settings, &[&grant]);
    assert_eq!(pool.reserve(1).result, Ok(Reply::Block(block(3, 3))));
}

#[test]
fn a_killed_connection_costs_nobody_a_ticket() {
    let server = Server::shared();
    let settings = server.created();
    let plain = server.plain_user(&settings, "SELECT, UPDATE");
    let mut pool = Pool::start(&plain, 1);
    let first = pool.reserve(1);
    assert_eq!(first.opened.unwrap().counter, 1);
    for round in 0..5 {
        assert_eq!(pool.reserve(1).opened, None, "the session is used again");
        server.kill_connections(&plain);
        let outcome = pool.reserve(2);
        let last = 2 + 3 * (round + 1);
        assert_eq!(outcome.result, Ok(Reply::Block(block(last - 1, last))));
        assert_eq!(outcome.opened.unwrap().counter, last - 2);
    }
}

#[test]
fn a_table_that_was_moved_away_and_back_is_found_again() {
    let server = Server::shared();
    let settings = server.created();
    let mut pool = Pool::start(&settings, 1);
    pool.reserve(1).result.unwrap();
    server.run(&settings, &["RENAME TABLE tickets TO elsewhere"]);
    assert_eq!(pool.reserve(1).result, Err(DatabaseError::TableGone));
    let read = pool.ask(Job::ReadCounter { id: 3 });
    assert_eq!(read.result, Err(DatabaseError::TableGone));
    assert_eq!(read.job, Job::ReadCounter { id: 3 });
    server.run(&settings, &["RENAME TABLE elsewhere TO tickets"]);
    assert_eq!(pool.reserve(1).result, Ok(Reply::Block(block(3, 3))));
}

#[test]
fn a_locked_counter_is_waited_for_with_a_bound() {
    let server = Server::shared();
    let settings = server.created();
    let (mut session, _) = open(&settings).unwrap();
    let mut other = server.admin();
    other.select_db(&settings.name).unwrap();
    other.query_drop("BEGIN").unwrap();
    other
        .query_drop("SELECT * FROM tickets FOR UPDATE")
        .unwrap();
    let began = Instant::now();
    assert_eq!(session.reserve(1), Err(DatabaseError::LockWait));
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
    pool.reserve(1).result.unwrap();
    let mut other = server.admin();
    other.select_db(&settings.name).unwrap();
    other.query_drop("BEGIN").unwrap();
    other
        .query_drop("SELECT * FROM tickets FOR UPDATE")
        .unwrap();
    assert!(pool.workers.submit(Job::Reserve { id: 0, count: 1 }));
    let waiting = server.lock_waiter(&plain);
    other.query_drop(format!("KILL QUERY {waiting}")).unwrap();
    assert_eq!(pool.outcome().result, Err(DatabaseError::Interrupted));
    other.query_drop("COMMIT").unwrap();
    let next = pool.reserve(1);
    assert_eq!(next.result, Ok(Reply::Block(block(3, 3))));
    assert_eq!(next.opened, None);
}

#[test]
fn a_lost_deadlock_is_tried_again_at_once() {
    let server = Server::shared();
    let settings = server.settings();
    let create = format!("CREATE DATABASE `{}`", settings.name);
    server.admin().query_drop(create).unwrap();
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
    schema::create(&settings, &numbering()).unwrap();
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
    assert!(pool.workers.submit(Job::Reserve { id: 0, count: 1 }));
    server.lock_waiter(&plain);
    let by_stub = "SELECT * FROM tickets FORCE INDEX (stub) WHERE stub = 'a' FOR UPDATE";
    other.query_drop(by_stub).unwrap();
    other.query_drop("COMMIT").unwrap();
    assert_eq!(pool.outcome().result, Ok(Reply::Block(block(2, 2))));
}

#[test]
fn a_server_that_hangs_or_dies_is_given_up_and_found_again() {
    let mut server = Server::start(&[]);
    let settings = server.created();
    let mut pool = Pool::start(&settings, 1);
    pool.reserve(1).result.unwrap();

    server.local.pause().unwrap();
    let hung = pool.reserve(1);
    assert_eq!(hung.result, Err(DatabaseError::TimedOut));
    assert!(hung.took < Duration::from_secs(3), "{:?}", hung.took);
    assert_eq!(
        pool.reserve(1).result,
        Err(DatabaseError::TimedOut),
        "connecting"
    );
    server.local.resume().unwrap();
    let after = pool.reserve(1);
    let Ok(Reply::Block(after)) = after.result else {
        panic!("{after:?}");
    };
    assert!(after.first > 2, "what timed out may have been reserved");

    server.local.kill().unwrap();
    assert_eq!(pool.reserve(1).result.unwrap_err().class(), "unreachable");
    server.local.restart().unwrap();
    let Ok(Reply::Block(restarted)) = pool.reserve(1).result else {
        panic!("not reserved");
    };
    assert_eq!(restarted.first, after.last + 1, "commits survive a kill");

    server.local.pause().unwrap();
    assert!(pool.workers.submit(Job::Reserve { id: 1, count: 1 }));
    let began = Instant::now();
    pool.workers.stop(Duration::from_millis(200));
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "stopping is bounded"
    );
    server.local.resume().unwrap();
}

#[test]
fn one_worker_serves_the_normal_load_and_all_of_them_a_rush() {
    let server = Server::shared();
    let settings = server.created();
    let mut pool = Pool::start(&settings, 3);
    assert_eq!((pool.workers.idle(), pool.workers.size()), (3, 3));
    let hot: Vec<usize> = (0..20).map(|_| pool.reserve(1).worker).collect();
    assert_eq!(hot, [0; 20]);

    let mut other = server.admin();
    other.select_db(&settings.name).unwrap();
    other.query_drop("LOCK TABLES tickets WRITE").unwrap();
    for id in 0..3 {
        assert!(pool.workers.submit(Job::Reserve { id, count: 1 }));
    }
    assert!(!pool.workers.submit(Job::ReadCounter { id: 9 }));
    assert_eq!(pool.workers.idle(), 0);
    assert!(pool.workers.next_outcome().is_none());
    other.query_drop("UNLOCK TABLES").unwrap();
    let mut bases: Vec<u64> = (0..3)
        .map(|_| match pool.outcome().result {
            Ok(Reply::Block(block)) => block.last,
            other => panic!("{other:?}"),
        })
        .collect();
    bases.sort_unstable();
    assert_eq!(bases, [22, 23, 24]);
    assert_eq!(
        pool.ask(Job::ReadCounter { id: 0 }).result,
        Ok(Reply::Counter(24))
    );
    pool.workers.stop(Duration::from_secs(10));
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
        open(&settings).unwrap().0.reserve(1).unwrap();
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
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let peer = thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            socket.write_all(&greeting).unwrap();
            if !silent {
                socket.shutdown(Shutdown::Write).unwrap();
            }
            while socket.read(&mut [0; 64]).is_ok_and(|read| read > 0) {}
        });
        let host = "127.0.0.1".to_owned();
        let settings = Settings {
            host: Host::Tcp { host, port },
            username: "nobody".to_owned(),
            password: Secret::default().into(),
            name: "none".to_owned(),
            timeout: Duration::from_millis(100),
            tls: Tls::Off,
            public_key: None,
            failover: Failover::Stop,
        };
        let mut pool = Pool::start(&settings, 1);
        let error = pool.reserve(1).result.unwrap_err();
        if silent {
            assert_eq!(error, DatabaseError::TimedOut);
        } else {
            assert!(["protocol", "lost"].contains(&error.class()), "{error}");
        }
        peer.join().unwrap();
        assert_eq!(pool.reserve(1).result.unwrap_err().class(), "unreachable");
    }
}

/// A greeting as MySQL 5.7 sends it, with the header of its packet (`Protocol::HandshakeV10` in
/// the MySQL Source Code Documentation).
const HANDSHAKE: &[u8] = b"\x49\0\0\0\x0a5.7.0\0\x01\0\0\0saltsalt\0\xff\xf7\x21\x02\0\x08\0\x15\
    \0\0\0\0\0\0\0\0\0\0saltsaltsalt\0mysql_native_password\0";
