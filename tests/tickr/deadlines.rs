//! The time that a client may take. What lasts seconds is waited for over real sockets, all of it
//! at once; what lasts longer is asked of the connection with a clock of the test's own.

use std::thread;
use std::time::{Duration, Instant};

use tickr::api::problems;
use tickr::http::connection::{End, Expiry};
use tickr::limits;
use tickr::moment::Moment;

use crate::caller::Caller;
use crate::harness::{Client, Database, Kind, Tickr, for_both, get, wait_until};

const HEAD: &str = "POST /tickets/create HTTP/1.1\r\nHost: tickr\r\n";

/// Sends one byte a second for as long as the server takes them.
fn trickle(mut writer: Client, bytes: &'static str) {
    for byte in bytes.bytes().cycle().take(30) {
        if writer.try_send(&[byte]).is_err() {
            return;
        }
        thread::sleep(Duration::from_secs(1));
    }
}

#[test]
fn a_request_that_takes_too_long_gets_408_and_holds_nobody_up() {
    let database = Database::create();
    let tickr = Tickr::serve(&database);
    let late = |kind: Kind, start: &str, drip: Option<&'static str>| {
        let mut client = tickr.connect(kind);
        let began = Instant::now();
        client.send(start);
        thread::scope(|scope| {
            if let Some(drip) = drip {
                let writer = client.writer();
                scope.spawn(move || trickle(writer, drip));
            }
            let answer = client.read_response();
            let (status, taken) = (answer.status, began.elapsed());
            assert_eq!((status, answer.header("connection")), (408, Some("close")));
            let expected = Duration::from_millis(9_900)..Duration::from_secs(14);
            assert!(expected.contains(&taken), "{start:?}: {taken:?}");
            client.check_closed();
        });
    };
    thread::scope(|scope| {
        for kind in [Kind::Tcp, Kind::Unix] {
            for (start, drip) in [
                ("G".to_owned(), None),
                ("GET /".to_owned(), Some("x")),
                (HEAD.to_owned(), Some("X: y\r\n")),
                (format!("{HEAD}Content-Length: 100\r\n\r\n"), None),
                (format!("{HEAD}Content-Length: 100\r\n\r\nx"), Some("x")),
                (format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n"), None),
                (
                    format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n64\r\n"),
                    Some("x"),
                ),
            ] {
                let late = &late;
                scope.spawn(move || late(kind, &start, drip));
            }
        }
        // Nobody is held up by them.
        let mut client = tickr.connect(Kind::Tcp);
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(12) {
            let asked = Instant::now();
            assert_eq!(
                client.ask("GET /tickets/create HTTP/1.1").tickets().len(),
                1
            );
            assert!(
                asked.elapsed() < Duration::from_secs(3),
                "{:?}",
                asked.elapsed()
            );
            thread::sleep(Duration::from_millis(20));
        }
    });
    assert!(tickr.processor_time() < Duration::from_secs(6));
}

#[test]
fn idle_clients_and_those_that_never_read_are_cut_off_in_time() {
    let database = Database::create();
    let tickr = Tickr::serve(&database);
    let mut clients = Vec::new();
    for_both(|kind| {
        let mut idle = tickr.connect(kind);
        assert_eq!(idle.ask("GET /livez HTTP/1.1").status, 200);
        let mut never_reads = tickr.connect(kind);
        never_reads.send(get("/tickets/create/1000000"));
        clients.extend([idle, never_reads]);
    });
    let began = Instant::now();
    let mut observer = tickr.connect(Kind::Tcp);
    let mut open = || -> usize {
        let metrics = observer.ask("GET /metrics HTTP/1.1");
        let lines = metrics.text().lines();
        let counts = lines.filter_map(|line| line.strip_prefix("tickr_connections{"));
        let counts = counts.filter_map(|line| line.rsplit(' ').next());
        counts
            .map(|count| count.parse::<usize>().expect("a count"))
            .sum()
    };
    wait_until("all are accepted", || open() == clients.len() + 1);
    for (left, timeout) in [(2, limits::WRITE_TIMEOUT), (0, limits::IDLE_TIMEOUT)] {
        while open() > left + 1 {
            assert!(began.elapsed() < timeout + Duration::from_secs(15));
            thread::sleep(Duration::from_millis(100));
        }
        let taken = began.elapsed();
        assert!(taken > timeout - Duration::from_secs(1), "{taken:?}");
        assert_eq!(open(), left + 1);
    }
}

#[test]
fn who_trickles_and_who_never_reads_holds_nobody_up() {
    const EACH: usize = 50;
    let database = Database::create();
    let tickr = Tickr::serve(&database);
    for_both(|kind| {
        let open = |request: &str| -> Vec<Client> {
            let open = |_| {
                let mut client = tickr.connect(kind);
                client.send(request);
                client
            };
            (0..EACH).map(open).collect()
        };
        let never_read = open(&get("/tickets/create/1000000"));
        let mut busy = tickr.connect(kind);
        // All must have been sent well within the time that a head has, or it says nothing.
        let mut in_time = || {
            let began = Instant::now();
            let is_slow = || began.elapsed() > limits::HEAD_TIMEOUT / 2;
            let mut trickling = open("");
            let request = get("/tickets/create");
            let (start, end) = request.split_at(request.len() - 1);
            for piece in start.as_bytes().chunks(7) {
                for client in &mut trickling {
                    let sent = client.try_send(piece);
                    assert!(sent.is_ok() || is_slow(), "{sent:?}");
                }
                for _ in 0..2 {
                    assert_eq!(busy.ask("GET /tickets/create HTTP/1.1").tickets().len(), 1);
                }
                if is_slow() {
                    return false;
                }
            }
            // Those are still there, and have cost no ticket until now.
            trickling.iter_mut().for_each(|client| client.send(end));
            for client in &mut trickling {
                assert_eq!(client.read_response().tickets().len(), 1);
            }
            true
        };
        assert!((0..10).any(|_| in_time()), "this machine is too slow");
        drop(never_read);
    });
}

/// A connection, and the time in seconds.
struct Fixture {
    caller: Caller,
}

impl Fixture {
    fn new() -> Fixture {
        Fixture {
            caller: Caller::new(at(0)),
        }
    }

    fn receive(&mut self, bytes: &str, at: Moment) {
        self.caller.receive(bytes.as_bytes(), at);
    }

    fn complete(&mut self) {
        assert!(self.caller.complete());
    }

    fn write(&mut self, most: usize, at: Moment) -> usize {
        self.caller.write(most, at)
    }

    /// The deadline, in seconds from the start.
    fn deadline(&self) -> Option<f64> {
        let deadline = self.caller.connection.deadline(limits::IDLE_TIMEOUT)?;
        Some(deadline.since(at(0)).as_secs_f64())
    }

    fn expire(&mut self) -> Expiry {
        self.caller.connection.expire()
    }

    fn expires_with_an_answer(&mut self) -> bool {
        let Expiry::Answer(rejected) = self.expire() else {
            return false;
        };
        let response = problems::rejected(rejected.reject);
        self.caller.connection.complete(rejected.sequence, response);
        true
    }
}

fn at(seconds: u64) -> Moment {
    Moment::from_nanos(1_000_000_000) + Duration::from_secs(seconds)
}

#[test]
fn an_idle_connection_is_closed_after_75_seconds() {
    assert_eq!(limits::IDLE_TIMEOUT, Duration::from_secs(75));
    let mut fixture = Fixture::new();
    assert_eq!(fixture.deadline(), Some(75.0), "before the first request");
    fixture.receive(&get("/tickets/create"), at(60));
    assert_eq!(fixture.deadline(), None, "only the database is waited for");
    fixture.complete();
    fixture.write(usize::MAX, at(61));
    assert_eq!(fixture.deadline(), Some(136.0), "from the last answer on");
    assert!(fixture.caller.connection.is_idle());
    assert_eq!(fixture.expire(), Expiry::Close);
}

#[test]
fn the_ten_seconds_of_a_head_begin_with_its_first_byte() {
    assert_eq!(limits::HEAD_TIMEOUT, Duration::from_secs(10));
    let mut fixture = Fixture::new();
    fixture.receive("GET /li", at(70));
    assert_eq!(fixture.deadline(), Some(80.0));
    fixture.receive("vez HTTP/1.1\r\n", at(79));
    assert_eq!(fixture.deadline(), Some(80.0), "more bytes buy no time");
    assert!(fixture.expires_with_an_answer());
    assert!(fixture.write(usize::MAX, at(80)) > 0);
    assert_eq!(fixture.caller.connection.end(), End::Finish);
}

/// Some clients send one behind a body. A 408 would stand where the answer to their next request
/// is expected, and a stop would wait for that request.
#[test]
fn an_empty_line_begins_no_request() {
    let mut fixture = Fixture::new();
    fixture.receive("\r\n", at(5));
    assert_eq!(fixture.deadline(), Some(80.0), "it is idle");
    assert!(fixture.caller.connection.is_idle());
    fixture.caller.connection.release_buffers();
    fixture.receive("\r", at(60));
    fixture.receive("\nGET /li", at(70));
    assert_eq!(fixture.deadline(), Some(80.0), "the head begins here");
    assert!(!fixture.caller.connection.is_idle());
    assert!(fixture.expires_with_an_answer());

    let mut fixture = Fixture::new();
    fixture.receive("\r\n", at(5));
    assert_eq!(fixture.expire(), Expiry::Close);
    let mut fixture = Fixture::new();
    for _ in 0..limits::LEADING_EMPTY_LINES_MAX {
        fixture.receive("\r\n", at(5));
        fixture.caller.connection.release_buffers();
    }
    assert_eq!(fixture.deadline(), Some(80.0));
    fixture.receive("\r\n", at(6));
    assert!(fixture.write(usize::MAX, at(6)) > 0, "one too many");
}

#[test]
fn the_ten_seconds_of_a_second_head_begin_with_its_own_first_byte() {
    let mut fixture = Fixture::new();
    let both = get("/tickets/create") + "GET /tick";
    fixture.receive(&both, at(5));
    assert_eq!(fixture.deadline(), Some(15.0));
    fixture.complete();
    fixture.write(usize::MAX, at(6));
    assert_eq!(fixture.deadline(), Some(15.0), "an answer buys no time");
}

#[test]
fn the_time_in_which_the_server_does_not_read_is_not_the_clients() {
    let mut full = Fixture::new();
    let requests = get("/tickets/create").repeat(limits::PIPELINED_REQUESTS_MAX + 1);
    full.receive(&(requests + "GET /tick"), at(0));
    assert_eq!(full.deadline(), None, "the database is waited for");
    (0..limits::PIPELINED_REQUESTS_MAX).for_each(|_| full.complete());
    while full.write(usize::MAX, at(20)) > 0 {}
    assert_eq!(full.deadline(), Some(30.0));

    for start in [
        "GET /tick".to_owned(),
        format!("{HEAD}Content-Length: 5\r\n\r\na"),
    ] {
        let mut blocked = Fixture::new();
        blocked.receive(&(get("/tickets/create/9") + &start), at(0));
        blocked.complete();
        blocked.write(1, at(1));
        assert_eq!(blocked.deadline(), Some(31.0), "nothing is read meanwhile");
        blocked.write(usize::MAX, at(20));
        assert_eq!(blocked.deadline(), Some(30.0), "{start:?}");
    }
}

#[test]
fn the_ten_seconds_of_a_body_begin_with_the_end_of_its_head() {
    assert_eq!(limits::BODY_TIMEOUT, Duration::from_secs(10));
    let mut fixture = Fixture::new();
    fixture.receive(HEAD, at(1));
    fixture.receive("Content-Length: 5\r\n\r\na", at(9));
    assert_eq!(fixture.deadline(), Some(19.0));
    fixture.receive("bcd", at(18));
    assert_eq!(fixture.deadline(), Some(19.0), "more bytes buy no time");
    fixture.receive("e", at(18));
    assert_eq!(
        fixture.deadline(),
        None,
        "it is complete, and waits for its ticket"
    );
}

#[test]
fn the_ten_seconds_of_a_body_that_waits_for_its_100_begin_when_it_may_be_sent() {
    let mut fixture = Fixture::new();
    fixture.receive(HEAD, at(1));
    fixture.receive("\r\n", at(1));
    fixture.receive(HEAD, at(2));
    let rest = "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    fixture.receive(rest, at(2));
    assert_eq!(fixture.deadline(), None, "the first answer is still due");
    fixture.complete();
    assert!(fixture.write(usize::MAX, at(30)) > 0);
    assert_eq!(fixture.deadline(), Some(40.0));
}

#[test]
fn a_client_that_takes_no_byte_for_30_seconds_is_cut_off() {
    assert_eq!(limits::WRITE_TIMEOUT, Duration::from_secs(30));
    for count in [1, 1_000_000] {
        let mut fixture = Fixture::new();
        fixture.receive(&get(&format!("/tickets/create/{count}")), at(50));
        fixture.complete();
        fixture.write(1, at(50));
        assert_eq!(fixture.deadline(), Some(80.0));
        fixture.write(0, at(79));
        assert_eq!(fixture.deadline(), Some(80.0), "nothing was taken");
        fixture.write(1, at(79));
        assert_eq!(fixture.deadline(), Some(109.0), "a byte is progress");
        assert_eq!(fixture.expire(), Expiry::Close);
    }
}

#[test]
fn the_memory_of_a_slow_reader_does_not_grow_with_its_answer() {
    let mut fixture = Fixture::new();
    fixture.receive(&get("/tickets/create/1000000"), at(0));
    fixture.complete();
    let mut offered = 0;
    for second in 0..100 {
        offered = offered.max(fixture.write(100, at(second)));
    }
    assert!(offered <= limits::PIECE_BYTES + limits::OUTPUT_BYTES_MAX);
}

#[test]
fn lingering_ends() {
    let mut fixture = Fixture::new();
    fixture.receive("nonsense\r\n\r\n", at(3));
    fixture.write(usize::MAX, at(4));
    assert_eq!(fixture.caller.connection.end(), End::Finish);
    let linger = limits::LINGER_TIMEOUT.as_secs_f64();
    assert_eq!(fixture.deadline(), Some(4.0 + linger));
    fixture.receive("more of it", at(5));
    assert_eq!(fixture.deadline(), Some(4.0 + linger), "input buys no time");
    assert_eq!(fixture.expire(), Expiry::Close);
}
