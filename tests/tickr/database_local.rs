//! The private MySQL server: it starts, keeps its data through a crash, and leaves nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};
use tickr::database::local::{LocalError, LocalOptions, LocalServer};

use crate::support::{options, scratch, start};

fn login(server: &LocalServer) -> OptsBuilder {
    OptsBuilder::new()
        .user(Some(server.username()))
        .pass(Some(server.password()))
        .read_timeout(Some(Duration::from_millis(300)))
}

fn connect(server: &LocalServer) -> mysql::Result<Conn> {
    Conn::new(login(server).socket(server.socket().to_str()))
}

fn one(conn: &mut Conn, query: &str) -> u64 {
    conn.query_first(query).unwrap().unwrap()
}

#[test]
fn a_commit_survives_a_kill_and_a_stop() {
    let folder = scratch();
    let mut server = start(options(folder.path()));
    assert_eq!(server.port(), None);
    let mut conn = connect(&server).unwrap();
    assert_eq!(one(&mut conn, "SELECT @@innodb_flush_log_at_trx_commit"), 1);
    assert_eq!(one(&mut conn, "SELECT @@skip_networking"), 1);
    conn.query_drop("CREATE DATABASE d").unwrap();
    conn.query_drop("CREATE TABLE d.t (n INT) ENGINE = InnoDB")
        .unwrap();
    conn.query_drop("INSERT INTO d.t VALUES (7)").unwrap();

    let first = server.pid();
    server.kill().unwrap();
    assert!(connect(&server).is_err());
    server.restart().unwrap();
    assert_ne!(server.pid(), first);
    assert_eq!(one(&mut connect(&server).unwrap(), "SELECT n FROM d.t"), 7);

    server.stop().unwrap();
    assert!(connect(&server).is_err());
    drop(server);
    let server = start(options(folder.path()));
    assert_eq!(one(&mut connect(&server).unwrap(), "SELECT n FROM d.t"), 7);
}

#[test]
fn it_answers_on_tcp_when_asked_and_keeps_its_port() {
    let folder = scratch();
    let mut server = start(LocalOptions {
        tcp: true,
        ..options(folder.path())
    });
    let port = server.port().unwrap();
    let opts = || {
        login(&server)
            .ip_or_hostname(Some("127.0.0.1"))
            .tcp_port(port)
            .prefer_socket(false)
            .clone()
    };
    // A cached password would spare the client the full exchange of `caching_sha2_password`.
    connect(&server)
        .unwrap()
        .query_drop("FLUSH PRIVILEGES")
        .unwrap();
    assert_eq!(
        one(&mut Conn::new(opts()).unwrap(), "SELECT @@port"),
        u64::from(port)
    );
    server.restart().unwrap();
    assert_eq!(server.port(), Some(port));
    assert_eq!(
        one(&mut connect(&server).unwrap(), "SELECT @@port"),
        u64::from(port)
    );
}

#[test]
fn a_paused_server_hangs_until_it_goes_on_and_stops_even_so() {
    let folder = scratch();
    let mut server = start(options(folder.path()));
    let mut conn = connect(&server).unwrap();
    server.pause().unwrap();
    assert!(conn.query_drop("DO 1").is_err());
    server.resume().unwrap();
    connect(&server).unwrap().query_drop("DO 1").unwrap();
    server.pause().unwrap();
    server.stop().unwrap();
}

#[test]
fn extra_arguments_win() {
    let folder = scratch();
    let extra_arguments = vec!["--auto-increment-increment=7".to_owned()];
    let server = start(LocalOptions {
        extra_arguments,
        ..options(folder.path())
    });
    assert_eq!(
        one(
            &mut connect(&server).unwrap(),
            "SELECT @@auto_increment_increment"
        ),
        7
    );
}

#[test]
fn an_option_that_the_server_refuses_is_told_with_its_log_and_at_once() {
    let folder = scratch();
    let extra_arguments = vec!["--no-such-option".to_owned()];
    let started = Instant::now();
    let error = LocalServer::start(LocalOptions {
        extra_arguments,
        ..options(folder.path())
    });
    let error = error.unwrap_err();
    assert!(matches!(error, LocalError::Died { .. }), "{error}");
    assert!(error.to_string().contains("no-such-option"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(30));
}

#[test]
fn data_left_half_made_is_made_again() {
    let folder = scratch();
    let unfinished = folder.path().join("mysql/data.unfinished");
    fs::create_dir_all(unfinished.join("mysql")).unwrap();
    fs::write(unfinished.join("ibdata1"), "half").unwrap();
    let server = start(options(folder.path()));
    connect(&server).unwrap();
    assert!(!unfinished.exists());
}

#[test]
fn its_folder_is_for_its_owner_alone_and_for_one_tickr() {
    let folder = scratch();
    let server = start(options(folder.path()));
    let mode = fs::metadata(folder.path().join("mysql"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
    let error = LocalServer::start(options(folder.path())).unwrap_err();
    assert!(matches!(error, LocalError::InUse { .. }), "{error}");
    connect(&server).unwrap();
}

#[test]
fn a_long_path_gets_its_socket_elsewhere() {
    let folder = scratch();
    let server = start(options(&folder.path().join("x".repeat(120))));
    let socket = server.socket().to_owned();
    assert!(socket.as_os_str().len() <= tickr::limits::SOCKET_PATH_BYTES_MAX);
    connect(&server).unwrap();
    drop(server);
    assert!(!socket.parent().unwrap().exists());
}

#[test]
fn dropping_it_stops_it() {
    let folder = scratch();
    let server = start(options(folder.path()));
    let socket = server.socket().to_owned();
    UnixStream::connect(&socket).unwrap();
    drop(server);
    assert!(UnixStream::connect(&socket).is_err());
}

#[test]
fn a_program_that_is_not_there_or_no_server_is_named() {
    let folder = scratch();
    let script = |name: &str, line: &str| {
        let path = folder.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{line}\n")).expect("the folder is ours");
        let mode = fs::Permissions::from_mode(0o700);
        fs::set_permissions(&path, mode).expect("the folder is ours");
        path.to_string_lossy().into_owned()
    };
    let talks = script("talks", "exec yes");
    let fails = script("fails", "echo mysqld Ver 8.4; exit 1");
    let hangs = script("hangs", "exec sleep 600");
    for program in ["/nowhere/mysqld", "/bin/true", &talks, &hangs, &fails] {
        let options = LocalOptions {
            program: Some(program.into()),
            ..options(folder.path())
        };
        let error = LocalServer::start(options).unwrap_err().to_string();
        assert!(error.contains(program), "{error}");
    }
    let error = LocalError::NoProgram.to_string();
    assert!(
        error.contains("apt-get install mariadb-server-core"),
        "{error}"
    );
}
