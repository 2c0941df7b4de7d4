//! The end: what has been received is answered, nothing is left behind, and the next start finds
//! its place.

use std::fs;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Client, Database, Kind, NODE, Tickr, for_both, get, run, wait_until};
use crate::support::scratch;

#[test]
fn both_signals_end_it_well_and_the_socket_file_goes() {
    let database = Database::create();
    for signal in [Signal::TERM, Signal::INT] {
        let mut tickr = Tickr::serve(&database);
        let mut idle = [Kind::Tcp, Kind::Unix].map(|kind| tickr.connect(kind));
        for client in &mut idle {
            assert_eq!(client.ask("GET /livez HTTP/1.1").status, 200);
        }
        assert!(tickr.unix().exists());
        let began = Instant::now();
        tickr.signal(signal);
        let status = tickr.wait();
        assert_eq!(status.code(), Some(0), "{signal:?}: {}", tickr.log());
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "idle clients hold nothing up"
        );
        assert!(!tickr.unix().exists(), "the socket file is removed");
        idle.iter_mut().for_each(Client::check_closed);
        for_both(|kind| assert!(tickr.try_connect(kind).is_err()));
    }
}

/// The file is written once a second, and a restart must not have forgotten the last one.
#[test]
fn the_state_file_knows_the_last_reservation_of_a_process_that_was_stopped() {
    let database = Database::create();
    let folder = scratch();
    let path = folder.path().join("state");
    let settings = [("TICKR_STATE_FILE", path.to_str().expect("a path of ASCII"))];
    let tickr = Tickr::serve_with(&database, &settings);
    let mut client = tickr.connect(Kind::Tcp);
    for _ in 0..5 {
        assert_eq!(client.ask("GET /tickets/create HTTP/1.1").status, 200);
    }
    tickr.stop();
    let state: serde_json::Value =
        serde_json::from_slice(&fs::read(&path).expect("it was written")).expect("it is JSON");
    assert_eq!(state["base_id"], database.counter());
}

#[test]
fn what_has_been_received_is_answered_with_connection_close() {
    let database = Database::alone();
    let mut tickr = Tickr::serve(&database);
    database.server().pause().expect("the server is paused");
    let mut clients: Vec<Client> = Vec::new();
    for_both(|kind| {
        for _ in 0..5 {
            let mut client = tickr.connect(kind);
            // Answered at once: behind it, the rest has been read.
            client.send(
                [
                    get("/livez"),
                    get("/tickets/create"),
                    get("/tickets/create/3"),
                ]
                .concat(),
            );
            assert_eq!(client.read_response().status, 200);
            clients.push(client);
        }
    });
    tickr.signal(Signal::TERM);
    tickr.wait_for_log("stopping");
    wait_until("it accepts no more", || {
        tickr.try_connect(Kind::Tcp).is_err()
    });
    database.server().resume().expect("the server goes on");
    let mut tickets: Vec<u64> = Vec::new();
    for client in &mut clients {
        let single = client.read_response();
        assert_eq!(single.header("connection"), None, "another answer follows");
        tickets.extend(single.tickets());
        tickets.extend(client.read_last_response().tickets());
    }
    tickets.sort_unstable();
    tickets.dedup();
    assert_eq!(tickets.len(), clients.len() * 4);
    assert_eq!(tickr.wait().code(), Some(0), "{}", tickr.log());
}

#[test]
fn a_large_answer_is_finished() {
    let database = Database::create();
    let mut tickr = Tickr::serve(&database);
    let mut clients = [Kind::Tcp, Kind::Unix].map(|kind| tickr.connect(kind));
    for client in &mut clients {
        client.send(get("/tickets/create/1000000"));
        assert!(client.has_answer().is_some());
    }
    tickr.signal(Signal::TERM);
    tickr.wait_for_log("stopping");
    for client in &mut clients {
        assert_eq!(client.read_response().tickets().len(), 1_000_000);
        client.check_closed();
    }
    assert_eq!(tickr.wait().code(), Some(0), "{}", tickr.log());
}

#[test]
fn a_client_that_never_ends_is_waited_for_only_so_long() {
    let database = Database::create();
    let settings = [("TICKR_SHUTDOWN_TIMEOUT", "1.5")];
    for_both(|kind| {
        let mut tickr = Tickr::serve_with(&database, &settings);
        let mut client = tickr.connect(kind);
        client.send([&get("/livez"), "GET /livez HTTP/1.1\r\n"].concat());
        assert_eq!(client.read_response().status, 200);
        let began = Instant::now();
        tickr.signal(Signal::TERM);
        assert_eq!(tickr.wait().code(), Some(0), "{}", tickr.log());
        let taken = began.elapsed();
        let expected = Duration::from_millis(1_400)..Duration::from_secs(6);
        assert!(expected.contains(&taken), "{taken:?}");
    });
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let database = Database::create();
    for (first, second) in [(Signal::TERM, Signal::TERM), (Signal::TERM, Signal::INT)] {
        let mut tickr = Tickr::serve(&database);
        let mut client = tickr.connect(Kind::Tcp);
        client.send([&get("/livez"), "GET /livez HTTP/1.1\r\n"].concat());
        assert_eq!(client.read_response().status, 200);
        tickr.signal(first);
        tickr.wait_for_log("stopping");
        let began = Instant::now();
        tickr.signal(second);
        assert!(!tickr.wait().success());
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{:?}",
            began.elapsed()
        );
    }
}

/// Clients connect, ask and connect again as fast as they can while the server is told to stop.
/// What was sent before that is answered in full; nothing is ever answered in part.
#[test]
fn under_load_no_request_goes_without_its_answer() {
    let database = Database::create();
    for round in 0..3 {
        let mut tickr = Tickr::serve(&database);
        let told = AtomicBool::new(false);
        let answered = AtomicU64::new(0);
        thread::scope(|scope| {
            for n in 0..24 {
                let kind = if n % 2 == 0 { Kind::Tcp } else { Kind::Unix };
                let (tickr, told, answered) = (&tickr, &told, &answered);
                scope.spawn(move || {
                    while let Ok(mut client) = tickr.try_connect(kind) {
                        for _ in 0..1 + n % 4 {
                            if client.try_send(get("/tickets/create").as_bytes()).is_err() {
                                break;
                            }
                            let before = !told.load(Ordering::SeqCst);
                            if client.has_answer().is_none() {
                                assert!(!before, "a request of before goes without its answer");
                                return;
                            }
                            let answer = client.read_response();
                            assert_eq!(answer.tickets().len(), 1);
                            answered.fetch_add(1, Ordering::Relaxed);
                            if answer.header("connection") == Some("close") {
                                client.check_closed();
                                break;
                            }
                        }
                    }
                });
            }
            thread::sleep(Duration::from_millis(500 + 137 * round));
            told.store(true, Ordering::SeqCst);
            tickr.signal(Signal::TERM);
        });
        assert_eq!(tickr.wait().code(), Some(0), "{}", tickr.log());
        let answered = answered.into_inner();
        assert!(answered > 100, "{answered} answers are no load");
    }
}

#[test]
fn a_stale_socket_file_is_taken_over() {
    let database = Database::create();
    let folder = scratch();
    let path = folder.path().join("tickr.sock");
    let listen = format!("127.0.0.1:0,unix:{}", path.display());
    let settings = [
        &database.settings()[..],
        &[("TICKR_LISTEN", listen.as_str())],
    ]
    .concat();
    let serves = || {
        let mut client = Client::unix(&path).expect("it is served");
        assert_eq!(
            client.ask("GET /tickets/create HTTP/1.1").tickets().len(),
            1
        );
    };
    let mut killed = Tickr::start(&[], &settings);
    serves();
    killed.signal(Signal::KILL);
    killed.wait();
    assert!(path.exists(), "kill -9 leaves the file");
    let tickr = Tickr::start(&[], &settings);
    serves();
    tickr.stop();
    assert!(!path.exists());
}

#[test]
fn a_live_socket_is_not_taken_over_and_neither_is_another_file() {
    let database = Database::create();
    let folder = scratch();
    let settings = [&database.settings()[..], &NODE].concat();
    let refused = |path: &std::path::Path| {
        let listen = format!("unix:{}", path.display());
        let output = run(&["serve", "--listen", &listen], &settings);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains(&path.display().to_string()), "{errors}");
    };
    let live = folder.path().join("live.sock");
    let listener = UnixListener::bind(&live).expect("the folder is ours");
    refused(&live);
    Client::unix(&live).expect("the other one still listens");
    drop(listener);

    let file = folder.path().join("a file");
    fs::write(&file, "precious").expect("the folder is ours");
    refused(&file);
    assert_eq!(fs::read_to_string(&file).expect("it is there"), "precious");
}
