//! The log: what a start says, each change of state once, and nothing for a request.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::{Client, Database, Kind, NODE, Tickr, run, wait_until};
use crate::support::scratch;

const JSON: (&str, &str) = ("TICKR_LOG_FORMAT", "json");

/// The lines of a log, each of which must be an object with the same four keys.
fn events(log: &str) -> Vec<(String, String)> {
    let events = log.lines().map(|line| {
        let event: Value = serde_json::from_str(line).expect("a line is an object");
        let keys = event.as_object().expect("a line is an object").keys();
        let keys: Vec<&str> = keys.map(String::as_str).collect();
        assert_eq!(keys, ["level", "message", "target", "timestamp"], "{line}");
        let text = |key: &str| event[key].as_str().expect("a text").to_owned();
        (text("level"), text("message"))
    });
    events.collect()
}

#[test]
fn a_start_names_everything_but_secrets() {
    let database = Database::create();
    let settings = [
        JSON,
        ("TICKR_HTTP_AUTH_PASSWORD", "k4tze"),
        ("TICKR_PREFETCH_SECONDS", "1.5"),
        ("TICKR_DATABASE_POOL_TIMEOUT", "2.5"),
    ];
    let tickr = Tickr::serve_with(&database, &settings);
    tickr.wait_for_log("listens on");
    let log = tickr.log();
    let (level, start) = events(&log).swap_remove(0);
    assert_eq!(level, "INFO");
    for part in [
        concat!(
            "tickr ",
            env!("CARGO_PKG_VERSION"),
            " listens on 127.0.0.1:"
        ),
        &format!("unix:{}", tickr.unix().display()),
        &format!("database {} at /", database.name()),
        "encryption off, timeout 2.5s",
        "max_nodes=4 starting_offset=54313001 node_number=0",
        "max_batch=1000000 batch_format=array",
        "prefetch_seconds=1.5 http_auth=on",
    ] {
        assert!(start.contains(part), "no {part:?} in {start:?}");
    }
    assert!(!log.contains("k4tze"), "{log}");
    tickr.stop();
}

#[test]
fn every_change_of_state_is_one_line_and_a_request_is_none() {
    let database = Database::alone();
    let settings = [JSON, ("TICKR_DATABASE_POOL_TIMEOUT", "1")];
    let tickr = Tickr::serve_with(&database, &settings);
    let ask = |times: usize, status: u16| {
        let mut client = tickr.connect(Kind::Tcp);
        for _ in 0..times {
            let answer = client.ask("GET /tickets/create HTTP/1.1");
            assert_eq!(answer.status, status, "{}", answer.text());
        }
    };
    ask(20, 200);
    tickr.wait_for_log("connected to the database");
    assert_eq!(events(&tickr.log()).len(), 2, "{}", tickr.log());
    database.server().kill().expect("the server is ours");
    ask(20, 503);
    tickr.wait_for_log("database unavailable");
    database
        .server()
        .restart()
        .expect("the server starts again");
    tickr.wait_for_log("available again");
    ask(20, 200);
    database.execute("UPDATE tickets SET id = 2");
    ask(20, 503);
    tickr.wait_for_log("went backwards");
    database.execute("UPDATE tickets SET id = 1000");
    tickr.wait_for_log("open again");
    ask(20, 200);
    let events = events(&tickr.log());
    let count = |level: &str, words: &str| {
        let of = |event: &&(String, String)| event.0 == level && event.1.contains(words);
        events.iter().filter(of).count()
    };
    assert_eq!(count("ERROR", "went backwards"), 1, "{events:#?}");
    assert_eq!(count("INFO", "open again"), 1, "{events:#?}");
    assert_eq!(count("INFO", "available again"), 1, "{events:#?}");
    let lost = count("ERROR", "database unavailable");
    // A server that is killed can be seen in more than one way; each is told once.
    assert!((1..=3).contains(&lost), "{events:#?}");
    assert_eq!(events.len(), 5 + lost, "{events:#?}");
}

#[test]
fn a_failed_start_is_a_line_like_any_other() {
    let database = Database::create();
    let settings = [
        JSON,
        ("TICKR_LISTEN", "unix:/dev/null/tickr.sock"),
        ("TICKR_MAX_BATCH", "5"),
    ];
    let output = run(
        &["serve"],
        &[&NODE[..], &database.settings(), &settings].concat(),
    );
    assert_eq!(output.status.code(), Some(1));
    let events = events(&String::from_utf8_lossy(&output.stderr));
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0].0, "ERROR");
    assert!(events[0].1.contains("/dev/null/tickr.sock"), "{events:?}");
}

/// A process that does not outlive a failed test.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// As of a terminal that is halted (Ctrl-S), or a collector that hangs.
#[test]
fn a_log_that_nobody_reads_halts_nobody() {
    let database = Database::create();
    let folder = scratch();
    let path = folder.path().join("tickr.sock");
    let (stderr, mut reader) = UnixStream::pair().expect("ours");
    stderr.set_nonblocking(true).expect("ours");
    while (&stderr).write(&[b'x'; 4096]).is_ok() {}
    while (&stderr).write(b"x").is_ok() {}
    stderr.set_nonblocking(false).expect("ours");
    let child = Command::new(env!("CARGO_BIN_EXE_tickr"))
        .arg("serve")
        .env_clear()
        .envs(NODE)
        .envs(database.settings())
        .env("TICKR_LISTEN", format!("unix:{}", path.display()))
        .stdin(Stdio::null())
        .stderr(Stdio::from(OwnedFd::from(stderr)))
        .spawn()
        .expect("the program starts");
    let mut serving = Serving(child);
    wait_until("it listens", || UnixStream::connect(&path).is_ok());
    let mut client = Client::unix(&path).expect("it listens");
    assert_eq!(client.ask("GET /tickets/create HTTP/1.1").status, 200);
    kill_process(Pid::from_child(&serving.0), Signal::TERM).expect("the process is ours");
    let status = serving.0.wait().expect("the process is ours");
    assert_eq!(status.code(), Some(0), "{status}");
    let mut log = String::new();
    reader.read_to_string(&mut log).expect("it is UTF-8");
    assert!(log.starts_with('x') && !log.contains("listens on"));
}

/// Whoever shares a terminal with the program can make it non-blocking (ssh and Node.js do). No
/// line is lost while there is room in the queue, and none is torn.
#[test]
fn a_log_that_does_not_block_is_waited_for() {
    let database = Database::create();
    let (stderr, mut reader) = UnixStream::pair().expect("ours");
    stderr.set_nonblocking(true).expect("ours");
    while (&stderr).write(b"x").is_ok() {}
    let child = Command::new(env!("CARGO_BIN_EXE_tickr"))
        .arg("serve")
        .env_clear()
        .envs(NODE)
        .envs(database.settings())
        .env("TICKR_LISTEN", "127.0.0.1:0")
        .stdin(Stdio::null())
        .stderr(Stdio::from(OwnedFd::from(stderr)))
        .spawn()
        .expect("the program starts");
    let mut serving = Serving(child);
    wait_until("it is connected", || {
        let query = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE DB = DATABASE()";
        database.value::<u64>(query) > 1
    });
    let mut log = String::new();
    while !log.contains("connected to the database") {
        let mut bytes = [0; 4096];
        let count = reader.read(&mut bytes).expect("ours");
        log += std::str::from_utf8(&bytes[..count]).expect("it is UTF-8");
    }
    assert!(log.contains(" listens on "), "{log}");
    kill_process(Pid::from_child(&serving.0), Signal::TERM).expect("the process is ours");
    assert!(serving.0.wait().expect("the process is ours").success());
}
