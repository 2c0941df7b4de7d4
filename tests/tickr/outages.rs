//! What clients and operators see while the database is away, hangs, takes no writes, or went
//! backwards, and that the node goes on by itself.

use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Client, Database, Kind, NODE, Tickr, for_both, get, run, wait_until};

const CREATE: &str = "GET /tickets/create HTTP/1.1";
const STATUS: &str = "GET /status HTTP/1.1";
const READY: &str = "GET /readyz HTTP/1.1";

/// An event loop that sleeps while it can do nothing else.
fn check_that_it_sleeps(tickr: &Tickr) {
    let (before, began) = (tickr.processor_time(), Instant::now());
    thread::sleep(Duration::from_secs(1));
    let busy = tickr.processor_time() - before;
    let took = began.elapsed();
    assert!(busy < took / 5, "{busy:?} of {took:?}");
}

/// Waits until the node gives tickets again; returns the first one.
fn first_ticket(tickr: &Tickr, kind: Kind) -> u64 {
    let mut client = tickr.connect(kind);
    let mut ticket = None;
    wait_until("tickets are given again", || {
        let answer = client.ask(CREATE);
        ticket = (answer.status == 200).then(|| answer.tickets()[0]);
        ticket.is_some()
    });
    ticket.expect("one was waited for")
}

/// Waits until no ticket is given, and returns the last one that was. A reservation that was late
/// has been asked for twice, and left one.
fn last_ticket(client: &mut Client) -> u64 {
    let mut last = None;
    wait_until("no ticket is given", || {
        let answer = client.ask(CREATE);
        let ticket = (answer.status == 200).then(|| answer.tickets()[0]);
        last = last.max(ticket);
        answer.status == 503
    });
    last.unwrap_or_default()
}

#[test]
fn a_database_that_went_backwards_is_closed_until_an_operator_opens_it() {
    let database = Database::alone();
    let tickr = Tickr::serve(&database);
    for_both(|kind| {
        let mut client = tickr.connect(kind);
        let given = client.ask("GET /tickets/create/100 HTTP/1.1").tickets();
        let highest = *given.last().expect("a batch");
        database.execute("UPDATE tickets SET id = 50");
        let advance = format!("tickr db advance --past {highest}");
        for path in [CREATE, "GET /tickets/create/5 HTTP/1.1"] {
            let refused = client.ask(path);
            assert_eq!(refused.status, 503);
            assert!(refused.text().contains("went backwards"));
            assert!(refused.text().contains(&advance), "{}", refused.text());
        }
        let status = client.ask(STATUS);
        assert_eq!(status.status, 200);
        assert!(status.text().contains(r#""state":"closed""#));
        assert!(status.text().contains(&advance), "{}", status.text());

        let settings = [&database.settings()[..], &NODE].concat();
        let past = highest.to_string();
        let advanced = run(&["db", "advance", "--past", &past], &settings);
        assert_eq!(advanced.status.code(), Some(0));
        assert!(first_ticket(&tickr, kind) > highest);
    });
}

#[test]
fn a_closed_node_sleeps_while_its_database_is_away() {
    let database = Database::alone();
    let tickr = Tickr::serve(&database);
    let mut client = tickr.connect(Kind::Tcp);
    let given = client.ask("GET /tickets/create/100 HTTP/1.1").tickets();
    database.execute("UPDATE tickets SET id = 50");
    assert!(client.ask(CREATE).text().contains("went backwards"));
    database.server().kill().expect("the server is ours");
    tickr.wait_for_log("database unavailable");
    check_that_it_sleeps(&tickr);
    let server = database.server().restart();
    server.expect("the server starts again");
    tickr.wait_for_log("available again");
    let refused = client.ask(CREATE);
    assert!(refused.text().contains("went backwards"));
    database.execute("UPDATE tickets SET id = 1000");
    assert!(first_ticket(&tickr, Kind::Unix) > *given.last().expect("a batch"));
}

#[test]
fn a_node_sleeps_while_its_database_hangs() {
    let database = Database::alone();
    let settings = [
        ("TICKR_DATABASE_POOL_SIZE", "2"),
        ("TICKR_DATABASE_POOL_TIMEOUT", "1"),
    ];
    let tickr = Tickr::serve_with(&database, &settings);
    for_both(|kind| {
        let mut clients: Vec<Client> = (0..8).map(|_| tickr.connect(kind)).collect();
        let mut first = tickr.connect(kind);
        database.server().pause().expect("the server is paused");
        // What the server said before may still be on its way.
        wait_until("no status is told", || first.ask(STATUS).status == 503);
        for (index, client) in clients.iter_mut().enumerate() {
            let path = ["/tickets/create", "/status"][index % 2];
            client.send(get(path));
        }
        check_that_it_sleeps(&tickr);
        for client in &mut clients {
            assert_eq!(client.read_response().status, 503);
        }
        // Nobody waits any more, and every worker still does.
        check_that_it_sleeps(&tickr);
        database.server().resume().expect("the server goes on");
        first_ticket(&tickr, kind);
    });
}

#[test]
fn a_node_that_has_just_served_sleeps_again() {
    let database = Database::create();
    let tickr = Tickr::serve(&database);
    for_both(|kind| {
        let mut client = tickr.connect(kind);
        for _ in 0..500 {
            assert_eq!(client.ask(CREATE).status, 200);
        }
        check_that_it_sleeps(&tickr);
    });
}

/// A database with a user that is nobody special, and the settings to be that user.
fn with_plain_user(limits: &str) -> (Database, [(&'static str, &'static str); 2]) {
    let database = Database::alone();
    let plain = plain_user(&database, limits);
    (database, plain)
}

fn plain_user(database: &Database, limits: &str) -> [(&'static str, &'static str); 2] {
    let user = "'plain'@'localhost'";
    database.execute(&format!(
        "CREATE USER {user} IDENTIFIED BY 'plain' {limits}"
    ));
    let name = database.name();
    database.execute(&format!("GRANT SELECT, UPDATE ON `{name}`.* TO {user}"));
    [
        ("TICKR_DATABASE_USERNAME", "plain"),
        ("TICKR_DATABASE_PASSWORD", "plain"),
    ]
}

/// The counter can be read all the while, and each reservation that is tried spends numbers.
#[test]
fn a_counter_that_cannot_be_moved_is_told_once_and_tried_seldom() {
    let database = Database::alone();
    // So long that no reservation is late on a busy machine, and asked for again.
    let settings = [("TICKR_DATABASE_POOL_TIMEOUT", "20")];
    let tickr = Tickr::serve_with(&database, &settings);
    let mut client = tickr.connect(Kind::Tcp);
    assert_eq!(client.ask(CREATE).status, 200);
    database.execute("CREATE TRIGGER t BEFORE UPDATE ON tickets FOR EACH ROW SET @x = 1");
    let (before, began) = (database.counter(), Instant::now());
    while began.elapsed() < Duration::from_secs(2) {
        assert_eq!(client.ask("GET /tickets/create/50 HTTP/1.1").status, 503);
        assert_eq!(client.ask(READY).status, 503);
        let status = client.ask(STATUS).text().to_owned();
        assert!(
            status.contains("Remove") || status.contains("Drop it"),
            "{status}"
        );
    }
    let spent = database.counter() - before;
    // The first try was for 50.
    assert!(spent < 50 + 20, "{spent} numbers were spent");
    tickr.wait_for_log("no longer issued");
    let count = |words| tickr.log().matches(words).count();
    assert!(
        (1..4).contains(&count("no longer issued")),
        "{}",
        tickr.log()
    );
    database.execute("DROP TRIGGER t");
    wait_until("the node is ready again", || {
        client.ask(READY).status == 200
    });
    assert_eq!(client.ask(CREATE).status, 200);
}

/// Connections of the plain user in MySQL.
fn sessions(database: &Database) -> usize {
    database.value("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = 'plain'")
}

/// Semi-synchronous replication without a replica: everything can be read, and no commit ends.
#[test]
fn a_server_whose_commits_hang_is_told_once_and_is_not_filled_with_connections() {
    const POOL: usize = 3;
    let database = Database::alone_with(&["--log-bin"]);
    let settings = [
        &plain_user(&database, "")[..],
        &[
            ("TICKR_DATABASE_POOL_SIZE", "3"),
            ("TICKR_DATABASE_POOL_TIMEOUT", "1"),
        ],
    ];
    let tickr = Tickr::serve_with(&database, &settings.concat());
    let mut client = tickr.connect(Kind::Tcp);
    let last = client.ask(CREATE).tickets()[0];
    database.load_semi_sync();
    for variable in ["timeout = 600000", "wait_no_slave = 1", "enabled = 1"] {
        database.execute(&format!("SET GLOBAL rpl_semi_sync_master_{variable}"));
    }
    assert_eq!(client.ask(CREATE).status, 503);
    wait_until("the node is not ready", || client.ask(READY).status == 503);
    // A commit that MySQL holds back keeps its lock on the row, and cannot be ended.
    let reasons: &[&str] = match database.is_mysql() {
        true => &[
            "did not respond in time",
            "held the counter's lock",
            "cannot be killed",
        ],
        false => &["did not respond in time"],
    };
    let (spent, began) = (database.counter(), Instant::now());
    let mut most = 0;
    while began.elapsed() < Duration::from_secs(12) {
        let ready = client.ask(READY);
        assert_eq!(ready.status, 503, "it flaps: {}", tickr.log());
        let status = client.ask(STATUS).text().to_owned();
        assert!(!status.contains(r#""state":"serving""#), "{status}");
        let is_told = reasons.iter().any(|reason| status.contains(reason));
        assert!(is_told, "{status}");
        most = most.max(sessions(&database));
        thread::sleep(Duration::from_millis(20));
    }
    assert!(most <= POOL + 1, "{most} connections, one of them new");
    // One attempt at a time, and each takes two seconds.
    let took = began.elapsed().as_secs();
    let spent = database.counter() - spent;
    assert!(spent <= took / 2 + 2, "{spent} numbers in {took} s");
    let count = |words| tickr.log().matches(words).count();
    assert_eq!(count("available again"), 0, "{}", tickr.log());
    // Once for each reason.
    let told = count("unavailable");
    assert!((1..=reasons.len()).contains(&told), "{}", tickr.log());

    database.execute("SET GLOBAL rpl_semi_sync_master_enabled = 0");
    wait_until("the node is ready again", || {
        client.ask(READY).status == 200
    });
    assert!(client.ask(CREATE).tickets()[0] > last);
    tickr.wait_for_log("available again");
    assert_eq!(count("available again"), 1, "{}", tickr.log());
    wait_until("what was given up is gone", || sessions(&database) <= POOL);
}

#[test]
fn a_pool_that_is_larger_than_the_server_allows_serves_and_does_not_fill_the_log() {
    let (database, plain) = with_plain_user("WITH MAX_USER_CONNECTIONS 1");
    let settings = [&plain[..], &[("TICKR_DATABASE_POOL_SIZE", "2")]].concat();
    let tickr = Tickr::serve_with(&database, &settings);
    let until = Instant::now() + Duration::from_secs(2);
    thread::scope(|scope| {
        for path in [CREATE, CREATE, STATUS, STATUS] {
            let mut client = tickr.connect(Kind::Unix);
            scope.spawn(move || {
                while Instant::now() < until {
                    assert_eq!(client.ask(path).status, 200);
                }
            });
        }
    });
    let lines = tickr.log().lines().count();
    assert!(lines < 20, "{lines} lines: {}", tickr.log());
}

#[test]
fn a_node_that_nobody_asks_for_tickets_notices_the_loss_of_its_database() {
    let database = Database::alone();
    let tickr = Tickr::serve(&database);
    let mut client = tickr.connect(Kind::Tcp);
    assert_eq!(client.ask(CREATE).status, 200);
    database.server().kill().expect("the server is ours");
    wait_until("the node is not ready", || client.ask(READY).status == 503);
    tickr.wait_for_log("database unavailable");
    let server = database.server().restart();
    server.expect("the server starts again");
    wait_until("the node is ready", || client.ask(READY).status == 200);
}

#[test]
fn the_status_is_told_while_the_database_takes_no_writes() {
    let (database, plain) = with_plain_user("");
    let tickr = Tickr::serve_with(&database, &plain);
    let mut client = tickr.connect(Kind::Tcp);
    let first = client.ask(CREATE).tickets()[0];
    database.execute("SET GLOBAL read_only = 1");
    let last = last_ticket(&mut client).max(first);
    let status = client.ask(STATUS);
    assert_eq!(status.status, 200, "{}", status.text());
    let text = status.text();
    assert!(
        text.contains(&format!(r#""last_ticket":{last},"#)),
        "{text}"
    );
    assert!(text.contains(r#""state":"closed""#), "{text}");
    assert!(text.contains("is read-only"), "{text}");
    database.execute("SET GLOBAL read_only = 0");
    assert!(first_ticket(&tickr, Kind::Unix) > last);
}

#[test]
fn a_database_that_takes_no_writes_is_left_only_by_a_write() {
    let (database, plain) = with_plain_user("");
    let settings = [&plain[..], &[("TICKR_DATABASE_POOL_TIMEOUT", "1")]].concat();
    let tickr = Tickr::serve_with(&database, &settings);
    for_both(|kind| {
        let mut client = tickr.connect(kind);
        let first = client.ask(CREATE).tickets()[0];
        database.execute("SET GLOBAL read_only = 1");
        let last = last_ticket(&mut client).max(first);
        for _ in 0..3 {
            let refused = client.ask(CREATE);
            assert_eq!(refused.status, 503);
            let ready = client.ask(READY);
            assert_eq!(ready.status, 503);
            assert!(ready.text().contains("is read-only"), "{}", ready.text());
        }
        check_that_it_sleeps(&tickr);
        database.execute("SET GLOBAL read_only = 0");
        // Nobody asks for a ticket, and the counter could be read all the while.
        wait_until("the node is ready again", || {
            client.ask(READY).status == 200
        });
        assert!(client.ask(CREATE).tickets()[0] > last);
    });
    let count = |words| tickr.log().matches(words).count();
    wait_until("both ends are in the log", || count("open again") >= 2);
    assert_eq!(count("open again"), 2, "{}", tickr.log());
    assert_eq!(count("is read-only"), 2, "{}", tickr.log());
}

/// A connection keeps the identity that a MariaDB server had when it was made, and lasts for half
/// an hour.
#[test]
fn an_identity_that_was_put_right_is_seen_without_a_restart() {
    let database = Database::alone();
    if database.is_mysql() {
        // Its identity is in a file that is read at the start.
        return;
    }
    let identity: u64 = database.value("SELECT @@global.server_id");
    let settings = [("TICKR_DATABASE_POOL_SIZE", "1")];
    let tickr = Tickr::serve_with(&database, &settings);
    database.execute(&format!("SET GLOBAL server_id = {}", identity + 1));
    // Those of the test are younger, and may not have gone yet.
    let connection: u64 = database.value(
        "SELECT MIN(ID) FROM information_schema.PROCESSLIST WHERE DB = DATABASE() \
         AND ID <> CONNECTION_ID()",
    );
    database.execute(&format!("KILL {connection}"));
    tickr.wait_for_log("belongs to another MySQL server");
    database.execute(&format!("SET GLOBAL server_id = {identity}"));
    tickr.wait_for_log("the counter is open again");
    tickr.stop();
}
