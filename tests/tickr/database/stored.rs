//! What is stored: how it comes to be, is taken over, and only ever goes forward.

use super::*;

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
