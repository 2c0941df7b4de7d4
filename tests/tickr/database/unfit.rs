//! What is not ours or not fit to count with: it is refused by all, and left alone.

use super::*;

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
