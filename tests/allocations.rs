//! The event loop allocates nothing in steady state: not for a single, not for an error, not for a
//! piece of a batch. Ten times the requests must cost as many allocations as one time.
//!
//! A test binary of its own, because counting replaces the allocator of the whole process.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use tickr::api::routes::Rules;
use tickr::counter::Memory;
use tickr::database::local::{LocalOptions, LocalServer};
use tickr::database::{Failover, Host, Secret, Settings, Tls, schema};
use tickr::http::array::Format;
use tickr::limits;
use tickr::server::{Options, Server};
use tickr::socket::{Address, Listener};
use tickr::ticket::Numbering;

/// A stall of the machine can let buffers go back and be taken again.
const SLACK: u64 = 20;
/// Stalls only ever add allocations, and a busy machine may add more than the slack: the calmest of
/// so many tries counts.
const TRIES: u32 = 5;

#[test]
fn the_event_loop_allocates_nothing_in_steady_state() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = LocalOptions::new(folder.path().join("mysql"));
    options.program = std::env::var_os("TICKR_TEST_MYSQLD").map(Into::into);
    let mysql = LocalServer::start(options).unwrap_or_else(|error| panic!("{error}"));
    let works: [(&str, &[u8], usize); 4] = [
        (
            "a single",
            b"GET /tickets/create HTTP/1.1\r\nHost: a\r\n\r\n",
            200,
        ),
        (
            "a small batch",
            b"GET /tickets/create/20 HTTP/1.1\r\nHost: a\r\n\r\n",
            200,
        ),
        (
            "an error",
            b"GET /tickets/create/0 HTTP/1.1\r\nHost: a\r\n\r\n",
            200,
        ),
        (
            "a large batch",
            b"GET /tickets/create/100000 HTTP/1.1\r\nHost: a\r\n\r\n",
            5,
        ),
    ];
    for (work, request, times) in works {
        let mut tries = (1..=TRIES).map(|_| {
            let few = allocations(&mysql, request, times);
            let many = allocations(&mysql, request, 10 * times);
            println!(
                "{work}: {few} allocations for {times} requests, {many} for {}",
                10 * times
            );
            many <= few + SLACK
        });
        assert!(tries.any(|is_steady| is_steady), "{work} allocates");
    }
}

/// Serves so many requests one after the other, and counts what the event loop allocated.
fn allocations(mysql: &LocalServer, request: &'static [u8], times: usize) -> u64 {
    let numbering = Numbering::new(4, 1, 0).unwrap();
    let database = Settings {
        host: Host::Socket(mysql.socket().to_owned()),
        username: mysql.username().to_owned(),
        password: Secret::new(mysql.password()).into(),
        name: "tickr".to_owned(),
        timeout: Duration::from_secs(10),
        tls: Tls::Off,
        public_key: None,
        failover: Failover::Stop,
    };
    schema::create(&database, &numbering, limits::LEASE_DEFAULT)
        .unwrap_or_else(|error| panic!("{error}"));
    let listeners = Listener::bind(&Address::Tcp("127.0.0.1:0".to_owned()), 0o660).unwrap();
    let Address::Tcp(address) = listeners[0].local_address() else {
        panic!("it is TCP")
    };
    let options = Options {
        database,
        pool_size: 2,
        pool_timeout: Duration::from_secs(10),
        numbering,
        prefetch: Duration::ZERO,
        state_file: None,
        remembered: Memory::default(),
        idle_timeout: Duration::from_secs(75),
        rules: Rules {
            max_batch: 1_000_000,
            batch_format: Format::Array,
            password: None,
        },
        password_file: None,
        connections_max: 10,
        shutdown_timeout: Duration::from_secs(5),
    };
    let (stop, asked) = UnixStream::pair().unwrap();
    let server = thread::spawn(move || {
        let server = Server::new(listeners, options).unwrap();
        allocation_counter::measure(|| server.run(asked).unwrap()).count_total
    });
    let mut client = TcpStream::connect(address).unwrap();
    for _ in 0..times {
        client.write_all(request).unwrap();
        read_answer(&mut client);
    }
    drop(client);
    drop(stop);
    server.join().unwrap()
}

/// Reads one answer whole.
fn read_answer(client: &mut TcpStream) {
    let mut answer = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = client.read(&mut buffer).unwrap();
        assert!(count > 0, "the connection ended inside an answer");
        answer.extend_from_slice(&buffer[..count]);
        let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head = std::str::from_utf8(&answer[..end]).unwrap();
        let length = head
            .split("Content-Length: ")
            .nth(1)
            .unwrap()
            .lines()
            .next()
            .unwrap();
        if answer.len() == end + 4 + length.parse::<usize>().unwrap() {
            return;
        }
    }
}
