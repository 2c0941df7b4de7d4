//! What the kernel may answer instead of doing what it was asked for: the errors that the manuals
//! list for `accept`, `recv`, `send`, `epoll_ctl` and `write`, each again and again, by way of
//! strace. No crash, no hang, no busy loop, and no ticket twice.

use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use crate::harness::{Database, Tickr, wait_until};

/// Tickets to get beside each error.
const TICKETS: usize = 40;
/// Calls from one error to the next. A connection to the database takes some thirty calls to open.
const OFTEN: usize = 3;
const SELDOM: usize = 101;
/// Longer than a request waits for the database (`TICKR_DATABASE_POOL_TIMEOUT`).
const PATIENCE: Duration = Duration::from_secs(30);
const REST: Duration = Duration::from_millis(500);

#[test]
fn accept_may_fail() {
    // accept(2); the first four are about the process or the machine.
    let errors = [
        "EMFILE",
        "ENFILE",
        "ENOBUFS",
        "ENOMEM",
        "EPERM",
        "ECONNABORTED",
        "EINTR",
        "EPROTO",
        "ENETDOWN",
        "EHOSTUNREACH",
    ];
    survives("accept4", 1, OFTEN, &errors);
}

#[test]
fn receiving_may_fail() {
    // recv(2) and tcp(7); the connections to the database get their share.
    let errors = ["EINTR", "ECONNRESET", "ENOMEM", "ETIMEDOUT", "EHOSTUNREACH"];
    survives("recvfrom", SELDOM, SELDOM, &errors);
}

#[test]
fn sending_may_fail() {
    let errors = ["EINTR", "ECONNRESET", "EPIPE", "ENOBUFS", "ENOMEM"];
    survives("sendto", SELDOM, SELDOM, &errors);
}

#[test]
fn registering_with_epoll_may_fail() {
    // The first calls are for what the server can't be without.
    survives("epoll_ctl", 12, OFTEN, &["ENOMEM", "ENOSPC", "EPERM"]);
}

#[test]
fn writing_may_fail() {
    // To the log, and to the descriptor that wakes the event loop; the first line is waited for.
    let errors = ["EIO", "ENOSPC", "EDQUOT", "EPIPE", "EINTR", "EAGAIN"];
    survives("write", 2, OFTEN, &errors);
}

/// Gets tickets while the `first` call and then every `step`th one ends with an error.
fn survives(call: &str, first: usize, step: usize, errors: &[&str]) {
    let database = Database::create();
    let mut tickets = HashSet::new();
    for error in errors {
        let trace = format!("trace={call}");
        let inject = format!("inject={call}:error={error}:when={first}+{step}");
        let options = ["-D", "-f", "-qqq", "--seccomp-bpf", "-o", "/dev/null"];
        let wrapper = [&["strace"], &options[..], &["-e", &trace, "-e", &inject]].concat();
        let tickr = Tickr::start(&wrapper, &database.settings());
        let wanted = tickets.len() + TICKETS;
        wait_until(&format!("tickets come beside {error}"), || {
            for stream in connect(&tickr).into_iter().flatten() {
                // Without an answer it may ask again; with one it has a new ticket.
                if let Ok(Some(ticket)) = ask(stream) {
                    assert!(tickets.insert(ticket), "{ticket} twice, beside {error}");
                }
            }
            tickets.len() >= wanted
        });
        let before = tickr.processor_time();
        thread::sleep(REST);
        let used = tickr.processor_time() - before;
        assert!(used < REST / 2, "{used:?} of {REST:?} beside {error}");
        tickr.stop();
    }
}

trait Stream: Read + Write {}

impl Stream for TcpStream {}

impl Stream for UnixStream {}

fn connect(tickr: &Tickr) -> [io::Result<Box<dyn Stream>>; 2] {
    let tcp = || -> io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect(tickr.tcp())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Box::new(stream))
    };
    let unix = || -> io::Result<Box<dyn Stream>> {
        let stream = UnixStream::connect(tickr.unix())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Box::new(stream))
    };
    [tcp(), unix()]
}

/// A ticket; `None` for any other answer.
fn ask(mut stream: Box<dyn Stream>) -> io::Result<Option<u64>> {
    stream.write_all(b"GET /tickets/create HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    if let Err(error) = &read {
        let kind = error.kind();
        assert_ne!(kind, io::ErrorKind::WouldBlock, "no answer: {answer:?}");
    }
    read?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body);
    let ticket = body.and_then(|body| body.strip_prefix('[')?.strip_suffix(']')?.parse().ok());
    Ok(ticket.filter(|_| answer.starts_with("HTTP/1.1 200 ")))
}
