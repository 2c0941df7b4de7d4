//! Every bound of a client, at the bound and one past it.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use tickr::limits;
use tickr::moment::Moment;

use crate::caller::Caller;
use crate::harness::{Client, Database, Kind, Tickr, for_both, get, wait_until};

/// Sends `at` and `past` on connections of their own: the first is answered with 200 and the
/// connection goes on, the second with `status` and a close.
fn check_bound(what: &str, at: &[u8], past: &[u8], status: u16) {
    let database = Database::create();
    let tickr = Tickr::serve(&database);
    for_both(|kind| {
        let mut client = tickr.connect(kind);
        client.send(at);
        let answer = client.read_response();
        assert_eq!(answer.status, 200, "{what}: {}", answer.text());
        assert_eq!(client.ask("GET /livez HTTP/1.1").status, 200, "{what}");

        let mut client = tickr.connect(kind);
        client.send(past);
        assert_eq!(client.read_last_response().status, status, "{what}");
    });
}

/// A request whose head has so many bytes.
fn head_of(bytes: usize) -> Vec<u8> {
    let (start, end) = ("GET /livez HTTP/1.1\r\nHost: tickr\r\nX: ", "\r\n\r\n");
    let padding = "x".repeat(bytes - start.len() - end.len());
    format!("{start}{padding}{end}").into_bytes()
}

#[test]
fn heads_are_bounded() {
    let most = limits::HEAD_BYTES_MAX;
    assert_eq!(head_of(most).len(), most);
    check_bound("head", &head_of(most), &head_of(most + 1), 431);
    check_bound(
        "endless head",
        &head_of(most),
        &head_of(most + 1)[..most],
        431,
    );
}

#[test]
fn header_lines_are_bounded() {
    let request = |count: usize| {
        let others: String = (1..count).map(|n| format!("X-{n}: {n}\r\n")).collect();
        format!("GET /livez HTTP/1.1\r\nHost: tickr\r\n{others}\r\n").into_bytes()
    };
    let most = limits::HEADERS_MAX;
    check_bound("header lines", &request(most), &request(most + 1), 431);
}

#[test]
fn targets_are_bounded() {
    let line = |bytes: usize| {
        let (start, end) = ("GET /livez?", " HTTP/1.1\r\n");
        let query = "x".repeat(bytes - start.len() - end.len());
        format!("{start}{query}{end}")
    };
    let rest = "Host: t\r\n\r\n";
    let most = limits::HEAD_BYTES_MAX - rest.len();
    let longest = line(most) + rest;
    let too_long = line(limits::HEAD_BYTES_MAX + 1) + rest;
    check_bound("target", longest.as_bytes(), too_long.as_bytes(), 414);
}

#[test]
fn leading_empty_lines_are_bounded() {
    let request = |count: usize| ("\r\n".repeat(count) + &get("/livez")).into_bytes();
    let most = limits::LEADING_EMPTY_LINES_MAX;
    check_bound("empty lines", &request(most), &request(most + 1), 400);
}

#[test]
fn bodies_are_bounded() {
    let most = limits::BODY_BYTES_MAX as usize;
    let plain = |bytes: usize| {
        let head = format!("GET /livez HTTP/1.1\r\nHost: t\r\nContent-Length: {bytes}\r\n\r\n");
        [head.into_bytes(), vec![b'x'; bytes]].concat()
    };
    check_bound("body", &plain(most), &plain(most + 1), 413);

    let chunked = |sizes: &[usize]| {
        let mut request = CHUNKED.as_bytes().to_vec();
        for size in sizes.iter().filter(|size| **size > 0) {
            request.extend_from_slice(format!("{size:x}\r\n").as_bytes());
            request.extend(vec![b'x'; *size]);
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"0\r\n\r\n");
        request
    };
    check_bound("one chunk", &chunked(&[most]), &chunked(&[most + 1]), 413);
    check_bound(
        "chunks",
        &chunked(&[1, most - 1]),
        &chunked(&[2, most - 1]),
        413,
    );
    let overflowing = format!("{CHUNKED}ffffffffffffffffffff\r\n");
    check_bound("size", &chunked(&[1]), overflowing.as_bytes(), 413);
}

/// The head of a request with a chunked body.
const CHUNKED: &str = "GET /livez HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n";

#[test]
fn the_framing_around_chunks_is_bounded() {
    let opening = |bytes: usize| format!("{CHUNKED}0;{}\r\n\r\n", "x".repeat(bytes - 2));
    let most = limits::CHUNK_LINE_BYTES_MAX;
    let (at, past) = (opening(most), opening(most + 1));
    check_bound("extension", at.as_bytes(), past.as_bytes(), 400);
    let zeros = |bytes: usize| format!("{CHUNKED}{}\r\n\r\n", "0".repeat(bytes));
    let (at, past) = (zeros(most), zeros(most + 1));
    check_bound("zeros", at.as_bytes(), past.as_bytes(), 400);
    // The final empty line does not count.
    let trailers = |bytes: usize| format!("{CHUNKED}0\r\nX: {}\r\n\r\n", "x".repeat(bytes - 5));
    let most = limits::TRAILER_BYTES_MAX;
    let (at, past) = (trailers(most), trailers(most + 1));
    check_bound("trailers", at.as_bytes(), past.as_bytes(), 400);
}

#[test]
fn reading_stops_when_so_many_requests_wait_for_their_answers() {
    for (count, reads_on) in [
        (limits::PIPELINED_REQUESTS_MAX - 1, true),
        (limits::PIPELINED_REQUESTS_MAX, false),
        (limits::PIPELINED_REQUESTS_MAX + 1, false),
    ] {
        let mut caller = Caller::new(Moment::default());
        let requests = get("/tickets/create").repeat(count);
        caller.receive(requests.as_bytes(), Moment::default());
        assert_eq!(caller.connection.is_reading(), reads_on, "{count}");
        let most = limits::PIPELINED_REQUESTS_MAX;
        assert_eq!(caller.waiting.len(), count.min(most));
        assert_eq!(caller.connection.has_backlog(), count > most);
    }
}

/// A client that sends and sends, and does not read: at some point the server reads no more, and
/// holds little of it. Nothing is lost.
#[test]
fn requests_in_flight_and_answers_that_wait_are_bounded() {
    const GROWTH_MAX: u64 = 1024 * 1024;
    let database = Database::create();
    let tickr = Tickr::serve(&database);
    for_both(|kind| {
        // The answer is longer than the request, so that answers are what piles up.
        let request = get("/nowhere");
        let requests = request.repeat(1_000_000);
        let before = tickr.own_memory();
        let mut client = tickr.connect(kind);
        let sent = client.send_until_full(requests.as_bytes(), Duration::from_secs(1));
        assert!(sent < requests.len(), "it never stops reading");
        let grown = tickr.own_memory().saturating_sub(before);
        assert!(grown <= GROWTH_MAX, "{grown} bytes more for one client");
        let whole = sent / request.len();
        let mut writer = client.writer();
        thread::scope(|scope| {
            scope.spawn(move || writer.send(&requests[sent..(whole + 1) * request.len()]));
            for _ in 0..=whole {
                assert_eq!(client.read_response().status, 404);
            }
        });
        assert_eq!(client.ask("GET /livez HTTP/1.1").status, 200);
    });
}

/// While the database hangs, one connection holds so many requests and no more.
#[test]
fn requests_that_wait_for_the_database_are_bounded() {
    let database = Database::alone();
    let tickr = Tickr::serve(&database);
    database.server().pause().expect("the server is paused");
    let requests = get("/tickets/create").repeat(limits::PIPELINED_REQUESTS_MAX * 4);
    let mut clients = [Kind::Tcp, Kind::Unix].map(|kind| tickr.connect(kind));
    for client in &mut clients {
        client.send(&requests);
    }
    // The health of the process is told meanwhile, and behind those requests nothing is.
    assert_eq!(
        tickr.connect(Kind::Tcp).ask("GET /livez HTTP/1.1").status,
        200
    );
    database.server().resume().expect("the server goes on");
    for client in &mut clients {
        let mut last = 0;
        for _ in 0..limits::PIPELINED_REQUESTS_MAX * 4 {
            let ticket = client.read_response().tickets()[0];
            assert!(ticket > last, "{ticket} comes after {last}");
            last = ticket;
        }
    }
}

#[test]
fn past_the_most_connections_a_new_one_gets_a_short_503() {
    const MOST: usize = 6;
    let database = Database::create();
    let tickr = Tickr::serve_with(&database, &[("TICKR_MAX_CONNECTIONS", "6")]);
    for_both(|kind| {
        wait_until("earlier clients have gone", || {
            let mut client = tickr.connect(kind);
            client.send(get("/livez"));
            client.has_answer().is_some() && client.read_response().status == 200
        });
        // Each is in the middle of a request, so that none can be closed for another.
        let mut busy: Vec<Client> = Vec::new();
        for _ in 0..MOST {
            let mut client = tickr.connect(kind);
            // Sent as one: when the first is answered, the start of the second has been read.
            client.send([&get("/livez"), "GET /livez HTTP/1.1\r\n"].concat());
            assert_eq!(client.read_response().status, 200);
            busy.push(client);
        }
        for path in ["/tickets/create", "/readyz", "/status"] {
            let mut one_too_many = tickr.connect(kind);
            one_too_many.send(get(path));
            let answer = one_too_many.read_last_response();
            assert_eq!(answer.status, 503, "{}", answer.text());
            assert!(answer.text().contains("TICKR_MAX_CONNECTIONS"));
        }
        // Whoever asks whether the process lives hears that it does.
        for _ in 0..3 {
            let mut probe = tickr.connect(kind);
            probe.send(get("/livez"));
            let answer = probe.read_last_response();
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        for client in &mut busy {
            client.send("Host: t\r\n\r\n");
            assert_eq!(client.read_response().status, 200);
        }
    });
}

#[test]
fn who_leaves_makes_room_for_who_comes_at_the_same_moment() {
    let database = Database::create();
    let tickr = Tickr::serve_with(&database, &[("TICKR_MAX_CONNECTIONS", "6")]);
    for_both(|kind| {
        let mut leaving: Vec<Client> = (0..6).map(|_| tickr.connect(kind)).collect();
        for client in &mut leaving {
            assert_eq!(client.ask("GET /livez HTTP/1.1").status, 200);
        }
        // The server sees all of it in one turn.
        tickr.signal(Signal::STOP);
        drop(leaving);
        let mut coming: Vec<Client> = (0..6).map(|_| tickr.connect(kind)).collect();
        coming
            .iter_mut()
            .for_each(|client| client.send(get("/livez")));
        tickr.signal(Signal::CONT);
        for client in &mut coming {
            assert_eq!(client.read_response().status, 200);
        }
    });
}

#[test]
fn past_the_most_connections_the_oldest_idle_ones_go_first() {
    // A ticket takes the database, thus two turns of the server: no two clients were used last in
    // the same one, where none is older than another.
    const SETTINGS: [(&str, &str); 2] = [
        ("TICKR_MAX_CONNECTIONS", "6"),
        ("TICKR_PREFETCH_SECONDS", "0"),
    ];
    let database = Database::create();
    let tickr = Tickr::serve_with(&database, &SETTINGS);
    let use_it = |client: &mut Client| {
        let answer = client.ask("GET /tickets/create HTTP/1.1");
        assert_eq!(answer.tickets().len(), 1);
    };
    for_both(|kind| {
        let mut clients: Vec<Client> = Vec::new();
        for _ in 0..6 {
            let mut client = tickr.connect(kind);
            use_it(&mut client);
            clients.push(client);
        }
        // The first is used again: now the second is the oldest.
        use_it(&mut clients[0]);
        for oldest in 1..4 {
            let mut client = tickr.connect(kind);
            use_it(&mut client);
            clients.push(client);
            clients[oldest].check_closed();
        }
        for still_there in [0, 4, 5, 6, 7, 8] {
            use_it(&mut clients[still_there]);
        }
    });
}

#[test]
fn running_out_of_file_descriptors_is_survived_without_a_busy_loop() {
    const FILES: &str = "--nofile=40:40";
    let database = Database::create();
    let tickr = Tickr::serve_under(&["prlimit", FILES], &database, &[]);
    for_both(|kind| {
        let mut clients: Vec<Client> = (0..50).map(|_| tickr.connect(kind)).collect();
        tickr.wait_for_log("could not be accepted");
        let (before, began) = (tickr.processor_time(), Instant::now());
        thread::sleep(Duration::from_secs(1));
        let busy = tickr.processor_time() - before;
        assert!(
            busy < began.elapsed() / 20,
            "{busy:?} of {:?}",
            began.elapsed()
        );
        // Those that it has are served meanwhile.
        assert_eq!(clients[0].ask("GET /livez HTTP/1.1").status, 200);
        clients.truncate(1);
        let answer = tickr.connect(kind).ask("GET /tickets/create HTTP/1.1");
        assert_eq!(answer.tickets().len(), 1);
    });
    // Once for each time that it begins, not once for each of the attempts, ten a second, or
    // clients.
    let lines = tickr.log().matches("could not be accepted").count();
    assert!(lines <= 4, "{lines} lines");
}

/// 1 KiB each, and half a MiB for what the allocator rounds up to. Memory that was needed for a
/// moment goes back to the allocator, which keeps it for the next that needs it.
#[test]
fn an_idle_connection_takes_no_more_than_1_kib() {
    const CLIENTS: usize = 2_000;
    const ALLOWED: u64 = CLIENTS as u64 * 1024 + 512 * 1024;
    const PIPELINED: usize = 40;
    raise_open_files_limit(CLIENTS as u64 * 2);
    let database = Database::alone();
    for_both(|kind| {
        // Longer than a busy machine takes to send all requests.
        let patient = [("TICKR_DATABASE_POOL_TIMEOUT", "120")];
        let tickr = Tickr::serve_with(&database, &patient);
        let mut observer = tickr.connect(kind);
        // All answers pile up behind those that wait for the database, and the memory is looked at
        // then: the peak is the same each time, however busy the machine.
        let ask = |clients: &mut [Client], count: usize, observer: &mut Client| {
            let requests = get("/tickets/create") + &get("/livez").repeat(count);
            database.server().pause().expect("the server is paused");
            clients.iter_mut().for_each(|client| client.send(&requests));
            let all_wait = format!("tickr_waiting_requests {}\n", clients.len());
            wait_until("every request waits", || {
                let metrics = observer.ask("GET /metrics HTTP/1.1");
                metrics.text().contains(&all_wait)
            });
            let peak = tickr.own_memory();
            database.server().resume().expect("the server goes on");
            for client in clients {
                (0..=count).for_each(|_| assert_eq!(client.read_response().status, 200));
            }
            peak
        };
        ask(&mut [tickr.connect(kind)], 1, &mut observer);
        let before = tickr.own_memory();
        let mut clients: Vec<Client> = (0..CLIENTS).map(|_| tickr.connect(kind)).collect();
        ask(&mut clients, 1, &mut observer);
        let grown = || tickr.own_memory().saturating_sub(before);
        wait_until("the buffers have gone back", || grown() <= ALLOWED);

        let (first, second) = clients.split_at_mut(CLIENTS / 2);
        let first_peak = ask(first, PIPELINED, &mut observer);
        // Idle connections give their memory back within two sweeps; an answer after each wait
        // shows that the loop has turned.
        for _ in 0..3 {
            thread::sleep(limits::SWEEP_INTERVAL);
            (0..2).for_each(|_| assert_eq!(observer.ask("GET /livez HTTP/1.1").status, 200));
        }
        let second_peak = ask(second, PIPELINED, &mut observer);
        let grown = second_peak.saturating_sub(first_peak);
        assert!(
            grown <= ALLOWED,
            "{grown} bytes that the first half has not given back"
        );
    });
}

/// The test's own end of so many connections needs files as well.
fn raise_open_files_limit(wanted: u64) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = Rlimit {
            current: Some(limit.maximum.map_or(wanted, |most| most.min(wanted))),
            ..limit
        };
        setrlimit(Resource::Nofile, raised).expect("a soft limit can be raised to the hard one");
    }
}
