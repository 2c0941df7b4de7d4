//! What the kernel may answer instead of doing what it was asked for: the errors that the manuals
//! list for `accept`, `recv`, `send` and `epoll_ctl`, each again and again, by way of strace. No
//! crash, no hang, no busy loop, and no ticket twice. A log that can't be written is tried in
//! `src/logging.rs`.

use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use crate::harness::{Database, Tickr, wait_until};

/// Tickets to get beside each error.
const TICKETS: usize = 40;
/// Longer than a request waits for the database (`TICKR_DATABASE_POOL_TIMEOUT`).
const PATIENCE: Duration = Duration::from_secs(30);
const REST: Duration = Duration::from_millis(500);

/// Whose calls fail.
#[derive(Clone, Copy, PartialEq)]
enum Whose {
    /// Every third call of the event loop, once it runs.
    EventLoop,
    /// One call in a hundred of any thread: to open a connection to the database takes some thirty.
    Everybody,
}

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
    survives("accept4", Whose::EventLoop, &errors);
}

#[test]
fn receiving_may_fail() {
    // recv(2) and tcp(7).
    let errors = ["EINTR", "ECONNRESET", "ENOMEM", "ETIMEDOUT", "EHOSTUNREACH"];
    survives("recvfrom", Whose::EventLoop, &errors);
    survives("recvfrom", Whose::Everybody, &errors);
}

#[test]
fn sending_may_fail() {
    let errors = ["EINTR", "ECONNRESET", "EPIPE", "ENOBUFS", "ENOMEM"];
    survives("sendto", Whose::EventLoop, &errors);
    survives("sendto", Whose::Everybody, &errors);
}

#[test]
fn registering_with_epoll_may_fail() {
    survives(
        "epoll_ctl",
        Whose::EventLoop,
        &["ENOMEM", "ENOSPC", "EPERM"],
    );
}

/// Gets tickets while calls of this name end with an error again and again.
fn survives(call: &str, whose: Whose, errors: &[&str]) {
    let database = Database::create();
    let mut tickets = HashSet::new();
    for error in errors {
        let when = match (whose, call) {
            // What is registered first, the event loop can't do without.
            (Whose::EventLoop, "epoll_ctl") => "12+3",
            (Whose::EventLoop, _) => "2+3",
            (Whose::Everybody, _) => "101+101",
        };
        let trace = format!("trace={call}");
        let inject = format!("inject={call}:error={error}:when={when}");
        let options = ["-D", "-qqq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
        let mut wrapper = [&["strace"], &options[..]].concat();
        if whose == Whose::Everybody {
            wrapper.extend(["-f", "--seccomp-bpf"]);
        }
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
        // A signal that asks it to stop is passed on with a `sendto` too.
        if call != "sendto" {
            tickr.stop();
        }
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
