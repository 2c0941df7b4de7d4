//! The client: fail-over, the cache, bounded waits, and the commands that are made of it.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
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
    /// Issues what is asked for, at most so many tickets at once: 100, 104, …
    Issues(u64),
    /// Issues like this once, does not say that it closes, and closes.
    IssuesOnce,
    /// The first of a run for each request, in this order; all of its connections together.
    IssuesFrom(Vec<u64>),
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

/// A run of five tickets.
fn run_from(first: u64) -> Run {
    Run {
        first,
        increment: 4,
        count: 5,
    }
}

fn range(run: Run) -> String {
    let Run {
        first,
        increment,
        count,
    } = run;
    let body = format!(r#"{{"first":{first},"increment":{increment},"count":{count}}}"#);
    answer("200 OK", &body)
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
        let requests = Arc::new(AtomicU64::new(0));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                seen.fetch_add(1, Ordering::SeqCst);
                let (manner, requests) = (manner.clone(), Arc::clone(&requests));
                thread::spawn(move || serve(stream, &manner, &requests));
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

/// `steps` counts the tickets that were issued, or the requests.
fn serve(mut stream: TcpStream, manner: &Manner, steps: &AtomicU64) {
    let mut buffer = [0; 4096];
    // A request of the client fits in one segment.
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        let request = String::from_utf8_lossy(&buffer[..length]);
        let count = request.split(['/', '?']).nth(3).expect("a count");
        let count: u64 = count.parse().expect("a number");
        let answer = match manner {
            Manner::Answers(answer) => answer.clone(),
            Manner::Issues(most) if count > *most => answer("400 Bad Request", DETAIL),
            Manner::Issues(_) | Manner::IssuesOnce => range(Run {
                count,
                ..run_from(100 + 4 * steps.fetch_add(count, Ordering::SeqCst))
            }),
            Manner::IssuesFrom(firsts) => {
                let index = steps.fetch_add(1, Ordering::SeqCst) as usize;
                range(run_from(firsts[index]))
            }
            Manner::Cuts => return,
            Manner::Hangs => continue,
        };
        if stream.write_all(answer.as_bytes()).is_err() || matches!(manner, Manner::IssuesOnce) {
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
    let chunked = "HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    for manner in [
        Manner::Answers(busy_answer()),
        Manner::Answers("HTTP/1.1 302 Found\r\nLocation: /login\r\n\r\n".to_owned()),
        Manner::Answers(answer("401 Unauthorized", DETAIL)),
        Manner::Answers(chunked.to_owned()),
        Manner::Answers("HTTP/1.1 204 No Content\r\n\r\n".to_owned()),
        Manner::Answers(answer("200 OK", "<!doctype html>")),
        Manner::Answers(answer("200 OK", r#"{"status":"ok"}"#)),
        Manner::Answers("220 mail.example.com ESMTP\r\n".to_owned()),
        Manner::Cuts,
        Manner::Hangs,
    ] {
        let good = Peer::new(Manner::Issues(5));
        let ailing = Peer::new(manner);
        let client = client(&[&ailing.url(), &good.url()], 0);
        assert_eq!(client.batch(5), Ok(run_from(100)));
        assert_eq!(client.batch(5), Ok(run_from(120)));
        assert_eq!(ailing.connections(), 1, "it is left alone for a while");
    }
    let good = Peer::new(Manner::Issues(5));
    let ailing = [refusing(), "unix:/nonexistent/tickr.sock".to_owned()];
    let client = client(&[&ailing[0], &ailing[1], &good.url()], 0);
    assert_eq!(client.batch(5), Ok(run_from(100)));
}

#[test]
fn interim_answers_and_chunks_are_understood() {
    let split = GOOD.split_at(10);
    let (first, second) = (split.0.len(), split.1.len());
    let whole = format!(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
         {first:x}\r\n{}\r\n{second:x}\r\n{}\r\n0\r\n\r\n",
        split.0, split.1
    );
    let peer = Peer::new(Manner::Answers(whole));
    assert_eq!(client(&[&peer.url()], 0).batch(5), Ok(run_from(100)));
}

#[test]
fn the_last_error_names_every_server_and_what_it_said_on_one_line() {
    let steering = r#"{"detail":"come\u001b[2J\nlater"}"#;
    let servers = [
        Manner::Answers(answer("503 Service Unavailable", steering)),
        Manner::Answers(answer("404 Not Found", "<html>")),
        Manner::Cuts,
    ]
    .map(|manner| Peer::new(manner).url());
    let urls: Vec<&str> = servers.iter().map(String::as_str).collect();
    let error = client(&urls, 0).batch(5).expect_err("none has tickets");
    let said = error.to_string();
    let lines: Vec<&str> = said.lines().collect();
    let expected = [
        "no server issued tickets; it is safe to retry:".to_owned(),
        format!("  {} responded 503: come\\u{{1b}}[2J later", servers[0]),
        format!("  {} responded 404", servers[1]),
        format!("  {} closed the connection early", servers[2]),
    ];
    assert_eq!(lines.len(), expected.len(), "{said}");
    for (line, words) in lines.iter().zip(&expected) {
        assert!(line.starts_with(words), "{said}");
    }
}

#[test]
fn tickets_that_go_backwards_or_come_again_are_refused_and_the_next_server_is_asked() {
    for firsts in [vec![500, 480, 100], vec![500, 500, 500]] {
        let (broken, good) = (
            Peer::new(Manner::IssuesFrom(firsts.clone())),
            Peer::new(Manner::Issues(5)),
        );
        let with_next = client(&[&broken.url(), &good.url()], 0);
        assert_eq!(with_next.batch(5), Ok(run_from(500)));
        assert_eq!(with_next.batch(5), Ok(run_from(100)), "{firsts:?}");
        assert_eq!(broken.connections(), 2, "a new connection had its chance");
        let broken = Peer::new(Manner::IssuesFrom(firsts.clone()));
        let alone = client(&[&broken.url()], 0);
        assert!(alone.batch(5).is_ok());
        let refused = alone.batch(5).expect_err("nobody else is there");
        assert!(
            refused.to_string().contains("must not go backwards"),
            "{refused}"
        );
    }
}

#[test]
fn a_successor_behind_the_same_address_is_found_over_a_new_connection() {
    // The second answer is that of the predecessor, whose reserve is older.
    let peer = Peer::new(Manner::IssuesFrom(vec![500, 100, 600, 700]));
    let client = client(&[&peer.url()], 0);
    for first in [500, 600, 700] {
        assert_eq!(client.batch(5), Ok(run_from(first)));
    }
}

#[test]
fn processes_that_share_an_address_issue_in_any_order_but_never_twice() {
    let peer = Peer::new(Manner::IssuesFrom(vec![500, 100, 516, 100]));
    let options = Options {
        timeout: PATIENCE,
        check_order: false,
        ..Options::default()
    };
    let client = Client::with_options([url(&peer.url())], options).expect("a client");
    assert_eq!(client.batch(5), Ok(run_from(500)));
    assert_eq!(client.batch(5), Ok(run_from(100)));
    assert!(client.batch(5).is_err(), "516 has been issued");
}

#[test]
fn a_cache_asks_for_no_more_than_a_server_issues_at_once() {
    let peer = Peer::new(Manner::Issues(5));
    let client = client_within(PATIENCE, &[&peer.url()], 1_000);
    for index in 0..100 {
        assert_eq!(client.next(), Ok(100 + 4 * index));
    }
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
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n".to_owned(),
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
    let good = Peer::new(Manner::Issues(5));
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
    let good = Peer::new(Manner::Issues(5));
    let hasty = Peer::new(Manner::IssuesOnce);
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
    let fetched = database.counter() - 1;
    assert!(
        (2..=100).contains(&fetched),
        "{fetched} were fetched at once"
    );
    tickr.stop();
    for index in 1..fetched {
        assert_eq!(client.next(), Ok(54_313_001 + index * 4));
    }
    assert!(matches!(client.next(), Err(Error::Unavailable { .. })));
}

#[test]
fn a_password_is_sent_and_a_wrong_one_gets_no_tickets() {
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
        let refused = with(password).batch(1).expect_err("it is wrong");
        assert!(refused.to_string().contains("responded 401"), "{refused}");
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
    // One server twice is one database.
    assert_eq!(table.matches("problem: ").count(), 1, "{table}");
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
