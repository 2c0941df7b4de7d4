//! A server that refuses, hangs, kills connections or dies: each fault is told apart, and the
//! session or the next one goes on.

use super::*;

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
