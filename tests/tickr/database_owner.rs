//! The counter's owner: which server may move the row, what closes it, and what opens it again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};
use tempfile::TempDir;
use tickr::counter::{Epoch, Found, Memory, Owner, View};
use tickr::database::local::{LocalOptions, LocalServer};
use tickr::database::schema::{self, Advanced};
use tickr::database::session::Session;
use tickr::database::{Failover, Host, Secret, Settings, Tls};
use tickr::fault::{Fault, FaultKind};
use tickr::ticket::Numbering;

use crate::dialect::{self, REPLICATION};
use crate::support::{options, scratch, start};

const LEASE: Duration = Duration::from_secs(1);
const DEADLINE: Duration = Duration::from_secs(30);

/// A server and its folder, which goes after it.
pub(crate) struct Server {
    pub(crate) local: LocalServer,
    _folder: TempDir,
}

impl Server {
    pub(crate) fn start(arguments: &[&str]) -> Server {
        let folder = scratch();
        let local = start(LocalOptions {
            tcp: true,
            extra_arguments: arguments
                .iter()
                .chain(&REPLICATION)
                .map(ToString::to_string)
                .collect(),
            ..options(folder.path())
        });
        Server {
            local,
            _folder: folder,
        }
    }

    fn settings(&self) -> Settings {
        Settings {
            host: Host::Socket(self.local.socket().to_owned()),
            username: self.local.username().to_owned(),
            password: Secret::new(self.local.password()).into(),
            name: "tickr".to_owned(),
            timeout: Duration::from_secs(10),
            tls: Tls::Off,
            public_key: None,
            failover: Failover::Stop,
        }
    }

    fn created(&self) -> Settings {
        let settings = self.settings();
        schema::create(&settings, &numbering(), LEASE).expect("it is created");
        settings
    }

    pub(crate) fn conn(&self) -> Conn {
        let options = OptsBuilder::new()
            .socket(self.local.socket().to_str())
            .user(Some(self.local.username()))
            .pass(Some(self.local.password()));
        Conn::new(options).expect("the server lets its administrator in")
    }

    pub(crate) fn run(&self, statements: &[&str]) {
        let mut conn = self.conn();
        for statement in statements {
            dialect::run(&mut conn, statement)
                .unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
    }

    /// Id, owner and epoch of the row.
    pub(crate) fn row(&self) -> Option<(u64, String, u64)> {
        let row = self
            .conn()
            .query_first("SELECT id, owner, epoch FROM tickr.tickets WHERE stub = 'a'");
        row.ok().flatten()
    }

    /// Makes it a replica of another server, from that server's beginning.
    pub(crate) fn follow(&self, primary: &Server) {
        let port = primary.local.port().expect("it has one");
        let (user, password) = (primary.local.username(), primary.local.password());
        let source = format!(
            "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {port}, \
             MASTER_USER = '{user}', MASTER_PASSWORD = '{password}', \
             MASTER_CONNECT_RETRY = 1, MASTER_USE_GTID = slave_pos"
        );
        self.run(&[&source, "SET GLOBAL read_only = 1", "START SLAVE"]);
    }

    /// What the row calls this server.
    fn owner(&self) -> String {
        dialect::owner(&mut self.conn()).expect("it has a name")
    }

    pub(crate) fn wait_for_row(&self, row: &(u64, String, u64)) {
        let began = Instant::now();
        while self.row().as_ref() != Some(row) {
            if began.elapsed() > DEADLINE {
                let mut conn = self.conn();
                let of_whom = match dialect::is_mysql(&mut conn) {
                    Ok(true) => "REPLICA",
                    _ => "SLAVE",
                };
                let status = conn.query_first(format!("SHOW {of_whom} STATUS"));
                let status: mysql::Result<Option<mysql::Row>> = status;
                panic!("{:?} instead of {row:?}: {status:?}", self.row());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn numbering() -> Numbering {
    Numbering::new(4, 1, 0).expect("it is good")
}

fn open(settings: &Settings) -> (Session, View) {
    match Session::open(settings, &numbering(), None) {
        Ok((session, Found::Connected { view, .. })) => (session, view),
        Ok((_, other)) => panic!("{other:?}"),
        Err(fault) => panic!("{fault}"),
    }
}

fn reserve(session: &mut Session, view: &View) -> Option<u64> {
    match session.reserve(1, view.epoch, view.id) {
        Ok(Found::Reserved { last }) => Some(last),
        Ok(Found::Refused { .. }) => None,
        other => panic!("{other:?}"),
    }
}

fn close(session: &mut Session, memory: Memory) -> View {
    match session.close(memory) {
        Ok(Found::Closed { view }) => view,
        other => panic!("{other:?}"),
    }
}

fn read(session: &mut Session) -> View {
    match session.read() {
        Ok(Found::Read { view, .. }) => view,
        other => panic!("{other:?}"),
    }
}

fn advance(settings: &Settings, past: Option<u64>, margin: u64) -> Result<Advanced, Fault> {
    schema::advance(settings, &numbering(), past, margin, &mut |_| {})
}

#[test]
fn a_replica_follows_in_every_format_and_is_not_the_owner_when_promoted() {
    for format in ["STATEMENT", "MIXED", "ROW"] {
        let format = format!("--binlog-format={format}");
        let image = "--binlog-row-image=MINIMAL";
        let primary = Server::start(&["--server-id=11", "--log-bin", &format, image]);
        let replica = Server::start(&["--server-id=12", "--log-bin", &format, image]);
        replica.follow(&primary);
        let settings = primary.created();
        let (mut session, view) = open(&settings);
        let user = &primary.local.username();
        for _ in 0..5 {
            reserve(&mut session, &view).expect("a block");
        }
        let row = (6, primary.owner(), 1);
        assert_eq!(primary.row().as_ref(), Some(&row), "{format} {user}");
        replica.wait_for_row(&row);
        // What an operator and a suspicion do follows as well.
        let memory = Memory {
            epoch: view.epoch,
            id: 9,
        };
        assert_eq!(close(&mut session, memory).mark, 9, "{format}");
        let advanced = advance(&settings, None, 10).expect("it is opened");
        assert_eq!((advanced.counter, advanced.epoch), (19, 2));
        let row = (19, primary.owner(), 2);
        replica.wait_for_row(&row);

        replica.run(&["STOP SLAVE", "RESET SLAVE ALL", "SET GLOBAL read_only = 0"]);
        let promoted = replica.settings();
        let (mut session, view) = open(&promoted);
        let elsewhere = Owner::Elsewhere {
            owner: primary.owner(),
            here: replica.owner(),
        };
        assert_eq!(view.owner, elsewhere);
        assert_eq!(reserve(&mut session, &view), None);
        let report = schema::check(&promoted, &numbering()).expect("it looks");
        assert_eq!(report.problems[0].kind, FaultKind::Closed);
        let (mut session, view) = open(&Settings {
            failover: Failover::Continue,
            ..promoted.clone()
        });
        assert_eq!(reserve(&mut session, &view), Some(20), "{format}");
        advance(&promoted, None, 100).expect("it is opened");
        let (mut session, view) = open(&promoted);
        assert_eq!(reserve(&mut session, &view), Some(121), "{format}");
    }
}

#[test]
fn old_tables_are_brought_up_to_date_beside_old_processes() {
    let server = Server::start(&[]);
    let settings = server.settings();
    for engine in ["InnoDB", "MyISAM"] {
        server.run(&[
            "DROP DATABASE IF EXISTS tickr",
            "CREATE DATABASE tickr",
            &format!(
                "CREATE TABLE tickr.tickets (id BIGINT UNSIGNED NOT NULL, stub CHAR(1) NOT NULL \
                 PRIMARY KEY) ENGINE = {engine}"
            ),
            "INSERT INTO tickr.tickets VALUES (1, 'a')",
            "CREATE TABLE tickr.tickr_settings (only_row ENUM('only') NOT NULL PRIMARY KEY, \
             max_nodes BIGINT UNSIGNED NOT NULL, starting_offset BIGINT UNSIGNED NOT NULL, \
             node_number BIGINT UNSIGNED NOT NULL) ENGINE = InnoDB",
            "INSERT INTO tickr.tickr_settings VALUES ('only', 4, 1, 0)",
        ]);
        let stop = Arc::new(AtomicBool::new(false));
        let old = thread::spawn({
            let (stop, mut conn) = (Arc::clone(&stop), server.conn());
            move || {
                let step = "UPDATE tickr.tickets SET id = LAST_INSERT_ID(id + 1) \
                     WHERE stub = 'a' AND id <= 1000000000";
                let mut last = 1;
                while !stop.load(Ordering::Relaxed) || last < 100 {
                    conn.query_drop(step).expect("an old process goes on");
                    assert_eq!(conn.last_insert_id(), last + 1, "nobody else moves it");
                    last += 1;
                }
                last
            }
        });
        let created = schema::create(&settings, &numbering(), LEASE).expect("it is upgraded");
        assert!(created.columns && created.opened && !created.table && !created.settings);
        let again = schema::create(&settings, &numbering(), LEASE).expect("it is there");
        assert!(!again.columns && !again.opened);
        stop.store(true, Ordering::Relaxed);
        let last = old.join().expect("it ends");
        let (mut session, view) = open(&settings);
        assert_eq!((view.id, view.epoch.number), (last, 1), "{engine}");
        assert_eq!(reserve(&mut session, &view), Some(last + 1));
    }
}

#[test]
fn a_row_that_an_old_program_replaces_is_closed() {
    let server = Server::start(&[]);
    server.run(&[
        "CREATE DATABASE tickr",
        "CREATE TABLE tickr.tickets (id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, \
         stub CHAR(1) NOT NULL UNIQUE DEFAULT '') ENGINE = InnoDB",
        "INSERT INTO tickr.tickets VALUES (1, 'a')",
    ]);
    let settings = server.created();
    let (mut session, view) = open(&settings);
    assert_eq!(reserve(&mut session, &view), Some(2));
    server.run(&["REPLACE INTO tickr.tickets (stub) VALUES ('a')"]);
    assert_eq!(reserve(&mut session, &view), None);
    assert_eq!(read(&mut session).owner, Owner::Nobody);
    // Whoever remembers more closes it for good.
    let memory = Memory {
        epoch: view.epoch,
        id: 2,
    };
    let closed = close(&mut session, memory);
    assert!(closed.mark > closed.id);
    assert!(
        !schema::create(&settings, &numbering(), LEASE)
            .expect("it is there")
            .opened
    );
    let report = schema::check(&settings, &numbering()).expect("it looks");
    assert_eq!(report.problems[0].kind, FaultKind::Closed);
    assert!(report.to_string().contains("an old program"), "{report}");
}

#[test]
fn a_row_that_is_behind_a_memory_is_closed_and_opens_above_it() {
    let server = Server::start(&[]);
    let settings = server.created();
    let (mut session, view) = open(&settings);
    let memory = |number, tag, id| Memory {
        epoch: Epoch { number, tag },
        id,
    };
    let own = view.epoch;
    // Nothing to suspect: nothing changes.
    assert_eq!(close(&mut session, memory(own.number, own.tag, 1)), view);
    assert_eq!(close(&mut session, memory(0, 0, 1)), view);
    assert_eq!(reserve(&mut session, &view), Some(2));

    // Behind in the id, behind in the epoch, and of another history.
    for memory in [
        memory(own.number, own.tag, 50),
        memory(7, 70, 1),
        memory(8, 80, 1),
    ] {
        let before = read(&mut session);
        let closed = close(&mut session, memory);
        assert!(closed.mark > closed.id && closed.mark >= memory.id);
        assert!(closed.epoch.number >= memory.epoch.number);
        assert_eq!(closed.id, before.id);
        assert_eq!(close(&mut session, memory), closed, "twice is once");
        assert_eq!(reserve(&mut session, &closed), None);
        let advanced = advance(&settings, None, 0).expect("it is opened");
        assert!(advanced.counter >= memory.id);
        let opened = read(&mut session);
        assert!(opened.is_open());
        assert!(
            !memory.is_ahead_of(opened.epoch, opened.id),
            "nobody closes it again"
        );
        assert_eq!(reserve(&mut session, &opened), Some(advanced.counter + 1));
    }
}

#[test]
fn reservations_and_closing_race_without_a_block_behind_the_mark() {
    let server = Server::start(&[]);
    let settings = server.created();
    let (mut closer, view) = open(&settings);
    let nodes: Vec<_> = (0..4)
        .map(|_| {
            let settings = settings.clone();
            thread::spawn(move || {
                let (mut session, view) = open(&settings);
                let mut last = Vec::new();
                while let Some(base) = reserve(&mut session, &view) {
                    last.push(base);
                }
                last
            })
        })
        .collect();
    let began = Instant::now();
    while read(&mut closer).id < 50 {
        assert!(began.elapsed() < DEADLINE);
    }
    let memory = Memory {
        epoch: view.epoch,
        id: u64::MAX / 8,
    };
    let closed = close(&mut closer, memory);
    let blocks = nodes.into_iter().map(|node| node.join().expect("it ends"));
    let mut bases: Vec<u64> = blocks.flatten().collect();
    bases.sort_unstable();
    let expected: Vec<u64> = (2..=closed.id).collect();
    assert_eq!(bases, expected, "each once, and none after the closing");
}

#[test]
fn of_two_who_advance_at_once_both_find_it_open_once() {
    let server = Server::start(&[]);
    let settings = server.created();
    let operators: Vec<_> = [100, 200]
        .map(|base| {
            let settings = settings.clone();
            let past = numbering().ticket(base);
            thread::spawn(move || advance(&settings, past, 10))
        })
        .into_iter()
        .collect();
    let ended: Vec<Advanced> = operators
        .into_iter()
        .map(|operator| operator.join().expect("it ends").expect("it opens"))
        .collect();
    let (mut session, view) = open(&settings);
    assert!(view.is_open() && view.id >= 200, "{view:?}");
    let highest = ended.iter().map(|advanced| advanced.counter).max();
    assert_eq!(highest, Some(view.id), "{ended:?}");
    assert_eq!(reserve(&mut session, &view), Some(view.id + 1));
}

#[test]
fn advancing_hears_the_living_and_survives_its_own_end() {
    let server = Server::start(&[]);
    let settings = server.created();
    let (mut living, view) = open(&settings);
    assert_eq!(reserve(&mut living, &view), Some(2));

    // An operator who is interrupted leaves it closed.
    let waiting = std::panic::catch_unwind(|| {
        let mut stop = |step: String| assert!(!step.contains("waiting"), "interrupted");
        schema::advance(&settings, &numbering(), None, 0, &mut stop)
    });
    let interrupted = waiting.expect("a panic becomes a fault").unwrap_err();
    assert_eq!(interrupted.kind, FaultKind::Protocol);
    assert_eq!(read(&mut living).owner, Owner::Closed);
    assert_eq!(reserve(&mut living, &view), None);
    let created = schema::create(&settings, &numbering(), LEASE).expect("it is there");
    assert!(!created.opened, "only an operator opens it");

    // While the next one waits, a process tells what it remembers.
    let mut steps = Vec::new();
    let memory = Memory {
        epoch: Epoch { number: 9, tag: 3 },
        id: 500,
    };
    let advanced = schema::advance(&settings, &numbering(), None, 10, &mut |step| {
        if step.contains("waiting") {
            close(&mut living, memory);
        }
        steps.push(step);
    });
    let advanced = advanced.expect("it opens");
    assert_eq!((advanced.counter, advanced.epoch), (510, 10), "{steps:?}");
    assert!(
        steps
            .iter()
            .any(|step| step.contains("remembers base id 500"))
    );
    assert!(read(&mut living).is_open());
}

#[test]
fn a_lease_is_changed_while_the_counter_is_closed() {
    let server = Server::start(&[]);
    let settings = server.created();
    let (mut session, view) = open(&settings);
    assert_eq!(view.lease, LEASE);
    let lease = Duration::from_secs(60);
    let mut owners = Vec::new();
    schema::set_lease(&settings, &numbering(), lease, &mut |_| {
        owners.push(read(&mut session).owner);
    })
    .expect("it is changed");
    assert_eq!(owners.last(), Some(&Owner::Closed));
    let after = read(&mut session);
    assert_eq!((after.lease, after.id), (lease, view.id));
    assert!(after.is_open());
    assert_eq!(after.epoch.number, 2);
}

#[test]
fn a_column_that_would_lose_tickets_is_refused_by_all() {
    let server = Server::start(&[]);
    let settings = server.created();
    for kind in [
        "INT UNSIGNED NOT NULL",
        "BIGINT NOT NULL",
        "FLOAT NOT NULL",
        "DOUBLE NOT NULL",
        "VARCHAR(20) NOT NULL",
        "BIGINT UNSIGNED NULL",
    ] {
        server.run(&[&format!("ALTER TABLE tickr.tickets MODIFY id {kind}")]);
        let report = schema::check(&settings, &numbering()).expect("it looks");
        let problems: Vec<FaultKind> = report.problems.iter().map(|p| p.kind).collect();
        assert_eq!(problems, [FaultKind::ColumnType], "{kind}");
        let refused = Session::open(&settings, &numbering(), None).map(|_| ());
        assert_eq!(refused, Err(report.problems[0].clone()), "{kind}");
        let refused = advance(&settings, None, 0).unwrap_err();
        assert_eq!(refused.kind, FaultKind::ColumnType, "{kind}");
    }
    server.run(&["ALTER TABLE tickr.tickets MODIFY id BIGINT UNSIGNED NOT NULL"]);
    for kind in ["INT", "ENUM('closed')", "VARCHAR(3)"] {
        // As if it had never been opened.
        server.run(&[
            "UPDATE tickr.tickets SET epoch = 0, epoch_tag = 0",
            "ALTER TABLE tickr.tickets DROP COLUMN owner",
            &format!("ALTER TABLE tickr.tickets ADD COLUMN owner {kind} NOT NULL"),
        ]);
        let refused = schema::create(&settings, &numbering(), LEASE).unwrap_err();
        assert_eq!(refused.kind, FaultKind::ColumnType, "{kind}: {refused}");
    }
    server.run(&["DROP DATABASE tickr"]);
    server.created();
    server.run(&[
        "ALTER TABLE tickr.tickets MODIFY id BIGINT NOT NULL",
        "UPDATE tickr.tickets SET id = -7",
    ]);
    let report = schema::check(&settings, &numbering()).expect("it looks");
    let problems: Vec<FaultKind> = report.problems.iter().map(|p| p.kind).collect();
    assert_eq!(
        problems,
        [FaultKind::ColumnType, FaultKind::CounterUnusable]
    );
    server.run(&[
        "UPDATE tickr.tickets SET id = 1",
        "ALTER TABLE tickr.tickets MODIFY id BIGINT UNSIGNED NOT NULL",
        "SET GLOBAL max_prepared_stmt_count = 0",
    ]);
    let report = schema::check(&settings, &numbering()).expect("it looks");
    let problems: Vec<FaultKind> = report.problems.iter().map(|p| p.kind).collect();
    assert_eq!(problems, [FaultKind::TooManyStatements]);
    server.run(&[
        "SET GLOBAL max_prepared_stmt_count = 1000",
        "SET GLOBAL tx_read_only = 1",
        "SET GLOBAL sql_select_limit = 0",
        "SET GLOBAL max_join_size = 1",
    ]);
    let report = schema::check(&settings, &numbering()).expect("it looks");
    assert_eq!(report.problems, []);
    let (mut session, view) = open(&settings);
    assert_eq!(reserve(&mut session, &view), Some(2));
}

#[test]
fn a_column_of_the_application_is_compared_with_the_counter() {
    let server = Server::start(&[]);
    let settings = server.created();
    server.run(&[
        "CREATE DATABASE shop",
        "CREATE TABLE shop.orders (id BIGINT UNSIGNED PRIMARY KEY, small INT)",
        "INSERT INTO shop.orders VALUES (0, 1)",
    ]);
    let check = |name: &str| schema::check_column(&settings, &numbering(), name);
    let fresh = check("shop.orders.id").expect("it looks");
    assert_eq!((fresh.last_ticket, fresh.problems), (None, vec![]));
    server.run(&["INSERT INTO shop.orders VALUES (1, 1)"]);
    let unissued = check("shop.orders.id").expect("it looks");
    assert_eq!(unissued.problems[0].kind, FaultKind::ColumnAhead);
    let (mut session, view) = open(&settings);
    assert_eq!(reserve(&mut session, &view), Some(2));
    let good = check("shop.orders.id").expect("it looks");
    assert_eq!((good.highest, good.last_ticket), (Some(1), Some(1)));
    assert_eq!(good.problems, []);
    let small = check("shop.orders.small").expect("it looks");
    assert_eq!(small.left, Some(((1 << 31) - 2) / 4));
    // Another node's.
    server.run(&["INSERT INTO shop.orders VALUES (1000, 5)"]);
    assert_eq!(check("shop.orders.id").expect("it looks").problems, []);
    server.run(&["INSERT INTO shop.orders VALUES (1001, 5)"]);
    let ahead = check("shop.orders.id").expect("it looks");
    assert_eq!(ahead.problems[0].kind, FaultKind::ColumnAhead);
    let missing = check("shop.orders.nothing").unwrap_err();
    assert!(
        missing.to_string().contains("shop.orders.nothing"),
        "{missing}"
    );
}
