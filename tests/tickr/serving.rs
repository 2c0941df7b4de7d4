//! What each setting does, and what `tickr serve` and `tickr db` make of a database.

use std::fs;
use std::net::{Ipv6Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::{CWD, Mode, mkfifoat};
use tickr::limits;

use crate::harness::{Client, Database, Kind, NODE, Tickr, for_both, run, wait_until};
use crate::support::scratch;

fn text(output: &Output) -> String {
    let (out, errors) = (&output.stdout, &output.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(errors)
    )
}

fn db(command: &[&str], database: &Database) -> Output {
    let arguments = [&["db"], command].concat();
    run(&arguments, &[&database.settings()[..], &NODE].concat())
}

fn pipe(path: &Path) {
    mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR).expect("the folder is ours");
}

#[test]
fn the_database_is_reached_by_name_by_address_and_by_socket() {
    let database = Database::create();
    let port = database.port().to_string();
    let mut expected = 54_313_001;
    let socket = database.settings()[0].1;
    for host in ["localhost", "127.0.0.1", socket] {
        let settings = [
            ("TICKR_DATABASE_HOST", host),
            ("TICKR_DATABASE_PORT", port.as_str()),
        ];
        let tickr = Tickr::serve_with(&database, &settings);
        for_both(|kind| {
            let answer = tickr.connect(kind).ask("GET /tickets/create HTTP/1.1");
            assert_eq!(answer.tickets(), [expected], "{host}");
            expected += 4;
        });
        tickr.stop();
    }
}

#[test]
fn passwords_come_from_files_and_never_show() {
    let database = Database::create();
    database.execute("CREATE USER 'filed'@'%' IDENTIFIED BY 'first-s3cret'");
    let grant = format!("GRANT ALL ON `{}`.* TO 'filed'@'%'", database.name());
    database.execute(&grant);
    let folder = scratch();
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        fs::write(&path, content).expect("the folder is ours");
        path.to_string_lossy().into_owned()
    };
    // One trailing newline is dropped.
    let of_database = file("database", "first-s3cret\n");
    let of_http = file("http", "second-s3cret\r\n");
    let settings = [
        ("TICKR_DATABASE_USERNAME", "filed"),
        ("TICKR_DATABASE_PASSWORD", ""),
        ("TICKR_DATABASE_PASSWORD_FILE", of_database.as_str()),
        ("TICKR_HTTP_AUTH_PASSWORD_FILE", of_http.as_str()),
        ("TICKR_LOG", "trace"),
    ];
    let tickr = Tickr::serve_with(&database, &settings);
    for_both(|kind| {
        let mut client = tickr.connect(kind);
        assert_eq!(client.ask("GET /status HTTP/1.1").status, 401);
        // base64(1) of any:second-s3cret
        client.send(
            "GET /tickets/create HTTP/1.1\r\nHost: t\r\n\
             Authorization: Basic YW55OnNlY29uZC1zM2NyZXQ=\r\n\r\n",
        );
        assert_eq!(client.read_response().tickets().len(), 1);
    });
    let log = tickr.log();
    tickr.stop();
    assert!(
        !log.contains("s3cret") && !log.contains("c2Vjb25k"),
        "{log}"
    );
    let wrong = [("TICKR_DATABASE_PASSWORD", "third-s3cret")];
    let wrong = [&database.settings()[..], &NODE, &wrong].concat();
    let output = run(&["serve", "--listen", "127.0.0.1:0"], &wrong);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(!text(&output).contains("s3cret"), "{}", text(&output));
}

#[test]
fn a_rotated_http_password_holds_without_a_restart() {
    let database = Database::create();
    let folder = scratch();
    let path = folder.path().join("http");
    fs::write(&path, "first\n").expect("the folder is ours");
    let file = path.to_string_lossy();
    let settings = [("TICKR_HTTP_AUTH_PASSWORD_FILE", &*file)];
    let tickr = Tickr::serve_with(&database, &settings);
    let mut client = tickr.connect(Kind::Tcp);
    let mut status = |password: &str| {
        let credentials = STANDARD.encode(format!("any:{password}"));
        client.send(format!(
            "GET /status HTTP/1.1\r\nHost: t\r\nAuthorization: Basic {credentials}\r\n\r\n"
        ));
        client.read_response().status
    };
    assert_eq!((status("first"), status("second")), (200, 401));
    // What nobody could send does not take the place of what works.
    fs::write(&path, "").expect("the folder is ours");
    tickr.wait_for_log("is empty");
    assert_eq!(status("first"), 200);
    fs::write(&path, "second\n").expect("the folder is ours");
    wait_until("the new password holds", || status("second") == 200);
    assert_eq!(status("first"), 401);
    // A pipe in its place is not waited for.
    fs::remove_file(&path).expect("the folder is ours");
    pipe(&path);
    tickr.wait_for_log("not a regular file");
    fs::remove_file(&path).expect("the folder is ours");
    fs::write(&path, "third\n").expect("the folder is ours");
    wait_until("the third password holds", || status("third") == 200);
    tickr.stop();
}

/// A pipe in the place of the password's file must hang no thread of the pool.
#[test]
fn a_database_password_whose_file_has_become_a_pipe_is_the_last_one() {
    let database = Database::create();
    let folder = scratch();
    let path = folder.path().join("password");
    fs::write(&path, "tickr\n").expect("the folder is ours");
    let file = path.to_string_lossy();
    let settings = [
        ("TICKR_DATABASE_PASSWORD", ""),
        ("TICKR_DATABASE_PASSWORD_FILE", &*file),
        ("TICKR_DATABASE_POOL_SIZE", "1"),
    ];
    let tickr = Tickr::serve_with(&database, &settings);
    fs::remove_file(&path).expect("the folder is ours");
    pipe(&path);
    // Those of the test are younger, and may not have gone yet.
    let connection: u64 = database.value(&format!(
        "SELECT MIN(ID) FROM information_schema.PROCESSLIST WHERE DB = '{}'",
        database.name()
    ));
    database.execute(&format!("KILL {connection}"));
    let mut client = tickr.connect(Kind::Tcp);
    wait_until("it has connected again", || {
        client.ask("GET /tickets/create HTTP/1.1").status == 200
    });
    tickr.stop();
}

#[test]
fn a_socket_that_somebody_has_removed_is_made_again() {
    let database = Database::create();
    let tickr = Tickr::serve(&database);
    let mut before = tickr.connect(Kind::Unix);
    fs::remove_file(tickr.unix()).expect("the socket is there");
    wait_until("the socket is back", || {
        tickr.try_connect(Kind::Unix).is_ok()
    });
    tickr.wait_for_log("was removed; it has been made again");
    for mut client in [tickr.connect(Kind::Unix), tickr.connect(Kind::Tcp)] {
        assert_eq!(client.ask("GET /tickets/create HTTP/1.1").status, 200);
    }
    assert_eq!(before.ask("GET /tickets/create HTTP/1.1").status, 200);
    let path = tickr.unix().to_owned();
    tickr.stop();
    assert!(!path.exists());
}

#[test]
fn the_pool_has_as_many_connections_as_the_setting_says() {
    for (size, settings) in [(5, vec![]), (2, vec![("TICKR_DATABASE_POOL_SIZE", "2")])] {
        let database = Database::create();
        let tickr = Tickr::serve_with(&database, &settings);
        let query = format!(
            "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE DB = '{}' \
             AND ID <> CONNECTION_ID()",
            database.name()
        );
        let connections = || database.value::<u64>(&query);
        wait_until("the pool is full", || connections() >= size);
        let mut client = tickr.connect(Kind::Tcp);
        for _ in 0..50 {
            assert_eq!(client.ask("GET /tickets/create HTTP/1.1").status, 200);
        }
        assert_eq!(connections(), size);
    }
}

#[test]
fn all_addresses_are_served_at_once() {
    let database = Database::create();
    let folder = scratch();
    let path = folder.path().join("second.sock");
    // Where the machine has no IPv6, there is nothing to serve on.
    let ipv6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    let mut listen = format!("127.0.0.1:0,127.0.0.1:0,unix:{}", path.display());
    if ipv6 {
        listen.push_str(",[::1]:0");
    }
    let settings = [
        &database.settings()[..],
        &[("TICKR_LISTEN", listen.as_str())],
    ]
    .concat();
    let tickr = Tickr::start(&[], &settings);
    let line = tickr.wait_for_log(" listens on ");
    let (_, rest) = line.split_once(" listens on ").unwrap_or_default();
    let (addresses, _) = rest.split_once(';').unwrap_or_default();
    let mut clients: Vec<Client> = addresses
        .split(", ")
        .map(|address| match address.strip_prefix("unix:") {
            Some(path) => Client::unix(path.as_ref()).expect("it is served"),
            None => Client::tcp(address.parse().expect("an address")).expect("it is served"),
        })
        .collect();
    assert_eq!(clients.len(), 3 + usize::from(ipv6), "{addresses}");
    let mut tickets: Vec<u64> = clients
        .iter_mut()
        .flat_map(|client| client.ask("GET /tickets/create HTTP/1.1").tickets())
        .collect();
    tickets.dedup();
    assert_eq!(tickets.len(), clients.len());
}

#[test]
fn the_unix_socket_has_the_mode_that_was_set() {
    let database = Database::create();
    for (mode, settings) in [
        (0o660, vec![]),
        (0o600, vec![("TICKR_SOCKET_MODE", "0600")]),
        (0o666, vec![("TICKR_SOCKET_MODE", "0666")]),
    ] {
        let tickr = Tickr::serve_with(&database, &settings);
        let metadata = fs::metadata(tickr.unix()).expect("the socket file is there");
        assert_eq!(metadata.permissions().mode() & 0o7777, mode, "{mode:o}");
    }
}

#[test]
fn an_address_in_use_is_an_error_that_names_it() {
    let database = Database::create();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("a port").to_string();
    let settings = [&database.settings()[..], &NODE].concat();
    let output = run(&["serve", "--listen", &address], &settings);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains(&address), "{}", text(&output));
}

#[test]
fn serve_creates_nothing_and_says_what_to_run() {
    let database = Database::absent();
    let settings = [&database.settings()[..], &NODE].concat();
    let refused = |command: &str| {
        let output = run(&["serve", "--listen", "127.0.0.1:0"], &settings);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        assert!(text(&output).contains(command), "{}", text(&output));
    };
    refused("tickr db create");
    let database = database.created_for(&NODE);
    database.execute("DROP TABLE tickets");
    // To begin again would repeat tickets.
    refused("tickr db advance --past");
    let query = format!(
        "SELECT COUNT(*) FROM information_schema.TABLES \
         WHERE TABLE_SCHEMA = '{}' AND TABLE_NAME = 'tickets'",
        database.name()
    );
    assert_eq!(database.value::<u64>(&query), 0);
}

#[test]
fn settings_other_than_the_stored_ones_are_both_named_and_exit_2() {
    let database = Database::create();
    for (variable, stored, given) in [
        ("TICKR_MAX_NODES", "4", "5"),
        ("TICKR_STARTING_OFFSET", "54313001", "54313002"),
        ("TICKR_NODE_NUMBER", "0", "1"),
    ] {
        let settings = [&database.settings()[..], &NODE, &[(variable, given)]].concat();
        let output = run(&["serve", "--listen", "127.0.0.1:0"], &settings);
        let text = text(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(
            text.contains(stored) && text.contains(given),
            "{variable}: {text}"
        );
    }
    assert_eq!(database.counter(), 1);
}

#[test]
fn a_start_with_bad_settings_touches_nothing() {
    let database = Database::create();
    let folder = scratch();
    let path = folder.path().join("tickr.sock");
    let listen = format!("unix:{}", path.display());
    let settings = [&database.settings()[..], &NODE].concat();
    let began = Instant::now();
    let arguments = [
        "serve",
        "--listen",
        &listen,
        "--max-batch",
        "0",
        "--node-number",
        "4",
    ];
    let output = run(&arguments, &settings);
    let text = text(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    for variable in ["TICKR_MAX_BATCH", "TICKR_NODE_NUMBER"] {
        assert!(text.contains(variable), "{text}");
    }
    assert!(!path.exists() && began.elapsed() < Duration::from_secs(10));
}

#[test]
fn db_create_again_changes_nothing_and_never_resets_a_counter() {
    let database = Database::absent();
    let first = db(&["create"], &database);
    assert_eq!(first.status.code(), Some(0), "{}", text(&first));
    let tickr = Tickr::serve(&database);
    let batch = tickr
        .connect(Kind::Unix)
        .ask("GET /tickets/create/41 HTTP/1.1");
    assert_eq!(batch.tickets().len(), 41);
    let again = db(&["create"], &database);
    assert_eq!(again.status.code(), Some(0), "{}", text(&again));
    assert_ne!(text(&first), text(&again));
    assert_eq!(database.counter(), 42);
    let next = tickr.connect(Kind::Tcp).ask("GET /tickets/create HTTP/1.1");
    assert_eq!(next.tickets(), [54_313_001 + 4 * 41]);
}

#[test]
fn a_lost_counter_row_is_an_error_until_it_is_advanced() {
    let database = Database::create();
    database.execute("DELETE FROM tickets");
    let settings = [&database.settings()[..], &NODE].concat();
    let output = run(&["serve", "--listen", "127.0.0.1:0"], &settings);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(
        text(&output).contains("tickr db advance --past"),
        "{}",
        text(&output)
    );
    let advanced = db(&["advance", "--past", "60000000"], &database);
    assert_eq!(advanced.status.code(), Some(0), "{}", text(&advanced));
    let tickr = Tickr::serve(&database);
    let ticket = tickr
        .connect(Kind::Tcp)
        .ask("GET /tickets/create HTTP/1.1")
        .tickets()[0];
    let margin = 4 * limits::ADVANCE_MARGIN;
    let expected = 60_000_001 + margin..=60_000_004 + margin;
    assert!(expected.contains(&ticket), "{ticket}");
    let back = db(&["advance", "--past", "54313001"], &database);
    assert_eq!(back.status.code(), Some(0), "{}", text(&back));
    let mut client = tickr.connect(Kind::Unix);
    let mut next = 0;
    wait_until("the node has seen the opening", || {
        let answer = client.ask("GET /tickets/create HTTP/1.1");
        if answer.status == 200 {
            next = answer.tickets()[0];
        }
        next > 0
    });
    assert!(next > ticket);
}

#[test]
fn an_old_database_goes_on_and_moves_from_myisam() {
    for table in [
        "CREATE TABLE tickets (id BIGINT UNSIGNED NOT NULL, \
         stub CHAR(1) NOT NULL UNIQUE PRIMARY KEY) ENGINE = MyISAM",
        "CREATE TABLE tickets (id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, \
         stub CHAR(1) NOT NULL UNIQUE DEFAULT '') ENGINE = MyISAM",
    ] {
        let database = Database::create();
        for statement in ["DROP TABLE tickets", "DROP TABLE tickr_settings", table] {
            database.execute(statement);
        }
        database.execute("INSERT INTO tickets (id, stub) VALUES (1001, 'a')");
        let created = db(&["create"], &database);
        assert_eq!(created.status.code(), Some(0), "{}", text(&created));
        let tickr = Tickr::serve(&database);
        tickr.wait_for_log("MyISAM");
        let first = tickr.connect(Kind::Tcp).ask("GET /tickets/create HTTP/1.1");
        assert_eq!(first.tickets(), [54_313_001 + 4 * 1_000]);
        tickr.stop();
        let migrated = db(&["migrate"], &database);
        assert_eq!(migrated.status.code(), Some(0), "{}", text(&migrated));
        let tickr = Tickr::serve(&database);
        let next = tickr
            .connect(Kind::Unix)
            .ask("GET /tickets/create HTTP/1.1");
        assert_eq!(next.tickets(), [54_313_001 + 4 * 1_001]);
        assert!(!tickr.log().contains("MyISAM"), "{}", tickr.log());
    }
}

#[test]
fn a_database_that_is_away_at_the_start_is_waited_for() {
    let database = Database::alone();
    let settings = [
        &database.settings()[..],
        &[("TICKR_DATABASE_POOL_TIMEOUT", "0.3")],
    ]
    .concat();
    database.server().kill().expect("the server is killed");
    let tickr = Tickr::start(&[], &settings);
    for_both(|kind| {
        let mut client = tickr.connect(kind);
        assert_eq!(client.ask("GET /livez HTTP/1.1").status, 200);
        assert_eq!(client.ask("GET /tickets/create HTTP/1.1").status, 503);
        assert_eq!(client.ask("GET /status HTTP/1.1").status, 503);
    });
    database.server().restart().expect("the server starts");
    wait_until("there are tickets", || {
        let answer = tickr.connect(Kind::Tcp).ask("GET /tickets/create HTTP/1.1");
        answer.status == 200
    });
    tickr.stop();
}
