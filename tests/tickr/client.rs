//! The client: fail-over, the cache, bounded waits, and the commands that are made of it.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use socket2::{Domain, SockAddr, Socket, Type};
use tickr::Client;
use tickr::client::{Error, Failure, Options, ServerUrl};
use tickr::ticket::Run;

use crate::harness::{Database, NODE, Tickr, run, wait_until};
use crate::support::scratch;

/// Of clients that meet a server which hangs.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Of clients that must get their tickets, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(30);
/// How much longer than its time-out a call may take on a busy machine.
const LATENESS: Duration = Duration::from_secs(5);

/// What a [`Peer`] does with each of its connections.
#[derive(Clone)]
enum Manner {
    /// Answers every request with these bytes.
    Answers(String),
    /// Answers one request with these bytes, does not say that it closes, and closes.
    AnswersOnce(String),
    /// Reads a request and closes.
    Cuts,
    /// Reads and stays silent.
    Hangs,
}

const GOOD: &str = r#"{"first":100,"increment":4,"count":5}"#;
const DETAIL: &str = r#"{"detail":"come later"}"#;

/// A whole answer.
fn answer(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}")
}

fn good_answer() -> String {
    answer("200 OK", GOOD)
}

fn busy_answer() -> String {
    answer("503 Service Unavailable", DETAIL)
}

/// A server of the test's own on a free port, and how many connections it has seen.
struct Peer {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Peer {
    fn new(manner: Manner) -> Peer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it has an address");
        let connections = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&connections);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                seen.fetch_add(1, Ordering::SeqCst);
                let manner = manner.clone();
                thread::spawn(move || serve(stream, &manner));
            }
        });
        Peer {
            address,
            connections,
        }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn serve(mut stream: TcpStream, manner: &Manner) {
    let mut buffer = [0; 4096];
    // A request of the client fits in one segment.
    while let Ok(1..) = stream.read(&mut buffer) {
        let answer = match manner {
            Manner::Answers(answer) | Manner::AnswersOnce(answer) => answer,
            Manner::Cuts => return,
            Manner::Hangs => continue,
        };
        if stream.write_all(answer.as_bytes()).is_err() || matches!(manner, Manner::AnswersOnce(_))
        {
            return;
        }
    }
}

fn url(text: &str) -> ServerUrl {
    text.parse().expect("a URL")
}

fn client(servers: &[&str], cache: u64) -> Client {
    client_within(TIMEOUT, servers, cache)
}

fn client_within(timeout: Duration, servers: &[&str], cache: u64) -> Client {
    let options = Options {
        timeout,
        cache,
        ..Options::default()
    };
    Client::with_options(servers.iter().copied().map(url), options).expect("a client")
}

/// What the only server of a client comes to.
fn failure_of(server: &str) -> Failure {
    match client(&[server], 0).batch(5) {
        Err(Error::Unavailable { mut attempts }) if attempts.len() == 1 => {
            assert_eq!(attempts[0].server, server);
            attempts.remove(0).failure
        }
        other => panic!("{other:?}"),
    }
}

/// A port that nobody listens on.
fn refusing() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    format!("http://{}", listener.local_addr().expect("an address"))
}

#[test]
fn whatever_ails_a_server_the_next_one_is_asked_and_the_ailing_one_comes_last() {
    let good = Peer::new(Manner::Answers(good_answer()));
    let expected = Run {
        first: 100,
        increment: 4,
        count: 5,
    };
    for manner in [Manner::Answers(busy_answer()), Manner::Cuts, Manner::Hangs] {
        let ailing = Peer::new(manner);
        let client = client(&[&ailing.url(), &good.url()], 0);
        assert_eq!(client.batch(5), Ok(expected));
        assert_eq!(client.batch(5), Ok(expected));
        assert_eq!(ailing.connections(), 1, "it is left alone for a while");
    }
    let ailing = [refusing(), "unix:/nonexistent/tickr.sock".to_owned()];
    let client = client(&[&ailing[0], &ailing[1], &good.url()], 0);
    assert_eq!(client.batch(5), Ok(expected));
}

#[test]
fn each_failure_says_what_it_is() {
    let of = |manner| failure_of(&Peer::new(manner).url());
    assert!(matches!(
        failure_of(&refusing()),
        Failure::Unreachable { .. }
    ));
    let nowhere = failure_of("unix:/nonexistent/tickr.sock");
    assert!(matches!(nowhere, Failure::Unreachable { .. }));
    assert!(matches!(of(Manner::Cuts), Failure::Lost { .. }));
    assert_eq!(of(Manner::Hangs), Failure::TimedOut);
    let busy = Failure::Answered {
        status: 503,
        detail: "come later".to_owned(),
    };
    assert_eq!(of(Manner::Answers(busy_answer())), busy);
}

#[test]
fn answers_that_are_not_tickr_s_are_never_taken_for_tickets() {
    let ok = |body: &str| answer("200 OK", body);
    for answer in [
        "SSH-2.0-OpenSSH_9.2\r\n\r\n".to_owned(),
        format!("HTTP/1.1 200 OK\r\n\r\n{GOOD}"),
        good_answer().replace("\r\n\r\n", "\r\nContent-Length: 37\r\n\r\n"),
        good_answer().replace("Content-Length: ", "Content-Length: 9999999"),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        ok("pong"),
        ok("[1,2,3,4,5]"),
        ok(r#"{"first":1,"increment":1,"count":4}"#),
        ok(r#"{"first":1,"increment":0,"count":5}"#),
        ok(r#"{"first":-1,"increment":1,"count":5}"#),
        ok(r#"{"first":18446744073709551615,"increment":1,"count":5}"#),
    ] {
        let failure = failure_of(&Peer::new(Manner::Answers(answer.clone())).url());
        let expected = matches!(failure, Failure::NotTickr { .. });
        assert!(expected, "{answer:?}: {failure:?}");
    }
}

#[test]
fn a_refusal_is_not_taken_to_the_next_server() {
    let refusing = Peer::new(Manner::Answers(answer("400 Bad Request", DETAIL)));
    let good = Peer::new(Manner::Answers(good_answer()));
    for cache in [0, 100] {
        let client = client(&[&refusing.url(), &good.url()], cache);
        let refused = Error::Refused {
            server: refusing.url(),
            status: 400,
            detail: "come later".to_owned(),
        };
        assert_eq!(client.batch(5), Err(refused.clone()));
        assert_eq!(client.next(), Err(refused));
    }
    assert_eq!(good.connections(), 0);
}

#[test]
fn a_connection_is_used_again_and_one_that_was_closed_meanwhile_is_replaced() {
    let good = Peer::new(Manner::Answers(good_answer()));
    let hasty = Peer::new(Manner::AnswersOnce(good_answer()));
    let [to_good, to_hasty] = [&good, &hasty].map(|peer| client(&[&peer.url()], 0));
    for _ in 0..5 {
        assert!(to_good.batch(5).is_ok());
        assert!(to_hasty.batch(5).is_ok());
    }
    assert_eq!(good.connections(), 1);
    assert_eq!(hasty.connections(), 5);
}

#[test]
fn a_unix_socket_that_accepts_nobody_costs_no_more_than_the_timeout() {
    let folder = scratch();
    let path = folder.path().join("full.sock");
    let address = SockAddr::unix(&path).expect("an address");
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
    listener.bind(&address).expect("a free path");
    listener.listen(0).expect("it listens");
    // One connection waits to be accepted, and there is no room for another.
    let first = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
    first.connect(&address).expect("there is room for one");
    let begun = Instant::now();
    let failure = failure_of(&format!("unix:{}", path.display()));
    assert_eq!(failure, Failure::TimedOut);
    assert!(begun.elapsed() < TIMEOUT + LATENESS);
}

#[test]
fn next_fails_in_time_when_every_server_is_away_and_works_once_one_is_back() {
    let database = Database::create();
    let tickr = Tickr::serve(&database);
    let hung = Peer::new(Manner::Hangs);
    let unix = format!("unix:{}", tickr.unix().display());
    let client = client(&[&hung.url(), &unix], 10);
    tickr.signal(Signal::STOP);
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                assert!(matches!(client.next(), Err(Error::Unavailable { attempts })
                    if attempts.len() == 2));
            });
        }
    });
    assert!(begun.elapsed() < TIMEOUT * 4 + LATENESS);
    tickr.signal(Signal::CONT);
    wait_until("the server is back", || client.next().is_ok());
    tickr.stop();
}

#[test]
fn threads_share_a_client_and_no_ticket_comes_twice_while_servers_come_and_go() {
    const THREADS: usize = 8;
    const TICKETS: usize = 5_000;
    let database = Database::create();
    let mut preferred = Some(Tickr::serve(&database));
    let other = Tickr::serve(&database);
    let urls = [
        format!("http://{}", preferred.as_ref().expect("it runs").tcp()),
        format!("unix:{}", other.unix().display()),
    ];
    let client = client_within(PATIENCE, &[&urls[0], &urls[1]], 100);
    let taken = AtomicUsize::new(0);
    let tickets: Vec<u64> = thread::scope(|scope| {
        let takers: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| -> Vec<u64> {
                    let take = |_| {
                        taken.fetch_add(1, Ordering::SeqCst);
                        client.next().expect("one of the servers is there")
                    };
                    (0..TICKETS).map(take).collect()
                })
            })
            .collect();
        wait_until("half of the tickets are taken", || {
            taken.load(Ordering::SeqCst) > THREADS * TICKETS / 2
        });
        // Killed, not stopped.
        drop(preferred.take());
        let tickets = takers.into_iter().map(|taker| taker.join().expect("takes"));
        tickets.flatten().collect()
    });
    assert_eq!(tickets.len(), THREADS * TICKETS);
    let different: HashSet<u64> = tickets.iter().copied().collect();
    assert_eq!(different.len(), tickets.len(), "no ticket twice");
    let wasted = database.counter() - 1 - tickets.len() as u64;
    assert!(wasted <= 1_000, "{wasted} tickets are wasted");
    other.stop();
}

#[test]
fn tickets_at_hand_outlast_the_servers() {
    let database = Database::create();
    let tickr = Tickr::serve(&database);
    let server = format!("unix:{}", tickr.unix().display());
    let client = client_within(PATIENCE, &[&server], 100);
    assert_eq!(client.next(), Ok(54_313_001));
    assert_eq!(database.counter(), 101, "a hundred were fetched at once");
    tickr.stop();
    for index in 1..100 {
        assert_eq!(client.next(), Ok(54_313_001 + index * 4));
    }
    assert!(matches!(client.next(), Err(Error::Unavailable { .. })));
}

#[test]
fn a_password_is_sent_and_a_wrong_one_is_a_refusal() {
    let database = Database::create();
    let tickr = Tickr::serve_under(&[], &database, &[("TICKR_HTTP_AUTH_PASSWORD", "pass:wörd")]);
    let with = |password: Option<&str>| {
        let options = Options {
            password: password.map(str::to_owned),
            timeout: PATIENCE,
            ..Options::default()
        };
        assert!(!format!("{options:?}").contains("wörd"));
        let server = ServerUrl::unix(tickr.unix());
        Client::with_options([server], options).expect("a client")
    };
    assert!(with(Some("pass:wörd")).batch(1).is_ok());
    for password in [None, Some("word")] {
        let refused = with(password).batch(1);
        assert!(matches!(refused, Err(Error::Refused { status: 401, .. })));
    }
    tickr.stop();
}

#[test]
fn a_client_that_cannot_work_is_not_made() {
    let none: [&str; 0] = [];
    assert_eq!(Client::new(none).err(), Some(Error::ServerCount));
    assert!(matches!(Client::new(["tickr"]), Err(Error::Url(_))));
    let options = Options {
        timeout: Duration::ZERO,
        ..Options::default()
    };
    let hasty = Client::with_options([url("http://tickr")], options);
    assert_eq!(hasty.err(), Some(Error::NoTimeout));
    let client = Client::new(["http://tickr"]).expect("a client");
    assert_eq!(client.batch(0), Err(Error::EmptyBatch));
}

#[test]
fn a_shell_gets_tickets_one_on_each_line() {
    let database = Database::create();
    let tickr = Tickr::serve(&database);
    let servers = format!("unix:/nonexistent,http://{}", tickr.tcp());
    let three = run(&["get", "3", "--timeout", "30", "--server", &servers], &[]);
    assert_eq!(three.status.code(), Some(0));
    assert_eq!(three.stdout, b"54313001\n54313005\n54313009\n");
    let one = run(
        &["get"],
        &[("TICKR_SERVER", &servers), ("TICKR_CLIENT_TIMEOUT", "30")],
    );
    assert_eq!(one.stdout, b"54313013\n");
    let away = run(&["get", "--server", "unix:/nonexistent"], &[]);
    assert_eq!(away.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&away.stderr);
    assert!(errors.contains("unix:/nonexistent can't be reached"));
    let usage = run(&["get", "--server", "http://me:hunter2@tickr"], &[]);
    assert_eq!(usage.status.code(), Some(2));
    assert!(!String::from_utf8_lossy(&usage.stderr).contains("hunter2"));
    tickr.stop();
}

#[test]
fn a_cluster_check_shows_every_node_and_fails_when_they_do_not_fit() {
    let other_settings = [
        ("TICKR_MAX_NODES", "4"),
        ("TICKR_STARTING_OFFSET", "54313001"),
        ("TICKR_NODE_NUMBER", "1"),
    ];
    let (database, other_database) = (
        Database::create(),
        Database::absent().created_for(&other_settings),
    );
    let node = Tickr::serve_with(&database, &NODE);
    let other = Tickr::serve_with(&other_database, &other_settings);
    let nodes = [
        format!("http://{}", node.tcp()),
        format!("unix:{}", other.unix().display()),
    ];
    let check = |arguments: &[&str]| {
        let output = run(
            &[&["cluster", "check", "--timeout", "30"], arguments].concat(),
            &[],
        );
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), text)
    };
    let (code, table) = check(&[&nodes[0], &nodes[1]]);
    assert_eq!(code, Some(0), "{table}");
    assert_eq!(table.matches("none yet").count(), 2, "{table}");
    let (code, table) = check(&[&nodes[0], &nodes[0], "unix:/nonexistent"]);
    assert_eq!(code, Some(1));
    assert!(table.contains("share the node number 0"), "{table}");
    assert!(
        table.contains("unix:/nonexistent can't be reached"),
        "{table}"
    );
    let (code, line) = check(&["--json", &nodes[1]]);
    assert_eq!(code, Some(0));
    let report: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(report["nodes"][0]["node_number"], 1);
    assert_eq!(report["problems"], serde_json::json!([]));
    node.stop();
    other.stop();
}

#[test]
fn shells_are_taught_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completions", shell], &[]);
        assert_eq!(output.status.code(), Some(0));
        let script = String::from_utf8_lossy(&output.stdout);
        assert!(
            script.contains("cluster") && script.contains("prefetch-seconds"),
            "{shell}"
        );
    }
}
