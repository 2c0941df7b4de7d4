//! Tickr under systemd: the sockets that it is passed, what it says in return, and SIGHUP.

use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Client, Database, Kind, NODE, Tickr, wait_until};
use crate::support::scratch;

/// Nothing that a test waits for takes longer than this, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);
/// Half of `WATCHDOG_USEC` below.
const WATCHDOG_INTERVAL: Duration = Duration::from_millis(200);

/// `tickr serve` with two sockets that are open already, passed on as systemd does it.
struct Activated(Child);

impl Activated {
    fn start(tcp: &TcpListener, unix: &UnixListener, database: &Database) -> Activated {
        let fd = |fd: io::Result<OwnedFd>| Stdio::from(fd.expect("a socket can be cloned"));
        // They come as standard input and output, and must be 3 and 4.
        let script =
            "exec 3<&0 4>&1 0</dev/null 1>&0; LISTEN_FDS=2 LISTEN_PID=$$ exec \"$0\" serve";
        let child = Command::new("sh")
            .args(["-c", script, env!("CARGO_BIN_EXE_tickr")])
            .env_clear()
            .envs(NODE)
            .envs(database.settings())
            // Nobody can listen there.
            .env("TICKR_LISTEN", "unix:/nowhere/tickr.sock")
            .stdin(fd(tcp.try_clone().map(OwnedFd::from)))
            .stdout(fd(unix.try_clone().map(OwnedFd::from)))
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        Activated(child)
    }

    fn stop(mut self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).expect("the process is ours");
        let status = self.0.wait().expect("the process is ours");
        assert_eq!(status.code(), Some(0), "{status}");
    }
}

impl Drop for Activated {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_restart_behind_passed_sockets_refuses_nobody() {
    let database = Database::create();
    let folder = scratch();
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = tcp.local_addr().expect("it is bound");
    let path = folder.path().join("passed.sock");
    let unix = UnixListener::bind(&path).expect("the folder is ours");
    let mut service = Activated::start(&tcp, &unix, &database);
    let (done, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let ask = |kind: Kind| {
            while !done.load(Ordering::Relaxed) {
                let client = match kind {
                    Kind::Tcp => Client::tcp(address),
                    Kind::Unix => Client::unix(&path),
                };
                let mut client = client.expect("nobody is refused");
                let answer = client.ask("GET /tickets/create HTTP/1.1");
                assert_eq!(answer.tickets().len(), 1);
                answered.fetch_add(1, Ordering::Relaxed);
            }
        };
        let asking = [Kind::Tcp, Kind::Unix, Kind::Tcp, Kind::Unix]
            .map(|kind| scope.spawn(move || ask(kind)));
        for _ in 0..3 {
            let before = answered.load(Ordering::Relaxed);
            wait_until("tickets are handed out", || {
                let stuck = asking.iter().any(|client| client.is_finished());
                stuck || answered.load(Ordering::Relaxed) >= before + 100
            });
            let next = || Activated::start(&tcp, &unix, &database);
            std::mem::replace(&mut service, next()).stop();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(path.exists(), "the file of a passed socket is left alone");
    service.stop();
}

#[test]
fn systemd_hears_of_the_start_of_every_turn_and_of_the_stop() {
    let database = Database::create();
    let folder = scratch();
    let path = folder.path().join("notify.sock");
    let manager = UnixDatagram::bind(&path).expect("the folder is ours");
    manager.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let hear = || {
        let mut buffer = [0; 256];
        let count = loop {
            match manager.recv(&mut buffer) {
                // A machine that is suspended and continued does that (signal(7)).
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                received => break received.expect("a message in time"),
            }
        };
        String::from_utf8_lossy(&buffer[..count]).trim().to_owned()
    };
    let path = path.to_str().expect("a path of ASCII");
    let settings = [("NOTIFY_SOCKET", path), ("WATCHDOG_USEC", "400000")];
    let mut tickr = Tickr::serve_with(&database, &settings);
    // The event loop turns while it waits for the database.
    let mut turned = 0;
    loop {
        match &hear()[..] {
            "READY=1" => break,
            "WATCHDOG=1" => turned += 1,
            other => panic!("{other}"),
        }
    }
    assert!(turned < 100, "it is never ready");
    // An idle event loop turns often enough.
    for _ in 0..3 {
        assert_eq!(hear(), "WATCHDOG=1");
    }
    // A hung process says nothing; what had been said before is taken out first.
    tickr.signal(Signal::STOP);
    manager.set_nonblocking(true).expect("a socket");
    wait_until("it is quiet", || manager.recv(&mut [0; 256]).is_err());
    thread::sleep(WATCHDOG_INTERVAL * 3);
    assert!(manager.recv(&mut [0; 256]).is_err(), "who says that?");
    manager.set_nonblocking(false).expect("a socket");
    tickr.signal(Signal::CONT);
    assert_eq!(hear(), "WATCHDOG=1");
    tickr.signal(Signal::TERM);
    while hear() != "STOPPING=1" {}
    assert_eq!(tickr.wait().code(), Some(0));
}

#[test]
fn a_hangup_does_no_harm() {
    let database = Database::create();
    let tickr = Tickr::serve(&database);
    let mut client = tickr.connect(Kind::Tcp);
    for _ in 0..3 {
        tickr.signal(Signal::HUP);
        assert_eq!(client.ask("GET /tickets/create HTTP/1.1").status, 200);
    }
    tickr.stop();
}

/// Each kind of error is told once, however often the event loop turns.
#[test]
fn a_service_manager_that_cannot_be_reached_is_one_line_of_the_log() {
    let database = Database::create();
    let settings = [("NOTIFY_SOCKET", "/nowhere/notify"), ("WATCHDOG_USEC", "1")];
    let mut tickr = Tickr::serve_with(&database, &settings);
    tickr.signal(Signal::TERM);
    assert_eq!(tickr.wait().code(), Some(0));
    tickr.wait_for_log("stopped");
    assert_eq!(tickr.log().matches("cannot notify systemd").count(), 1);
}

/// As when systemd has frozen: the queue of its socket fills up (unix(7)).
#[test]
fn a_service_manager_that_reads_nothing_halts_nobody() {
    let database = Database::create();
    let folder = scratch();
    let path = folder.path().join("notify.sock");
    let _manager = UnixDatagram::bind(&path).expect("the folder is ours");
    let path = path.to_str().expect("a path of ASCII");
    let settings = [("NOTIFY_SOCKET", path), ("WATCHDOG_USEC", "2000")];
    let mut tickr = Tickr::serve_with(&database, &settings);
    tickr.wait_for_log("cannot notify systemd");
    let mut client = tickr.connect(Kind::Tcp);
    assert_eq!(client.ask("GET /tickets/create HTTP/1.1").status, 200);
    tickr.signal(Signal::TERM);
    assert_eq!(tickr.wait().code(), Some(0));
}

#[test]
fn what_is_no_listening_socket_is_refused() {
    let folder = scratch();
    let datagrams = UnixDatagram::bind(folder.path().join("datagrams")).expect("ours");
    // As of a unit with Accept=yes.
    let (connection, _client) = UnixStream::pair().expect("ours");
    let script = "exec 3<&0; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" serve";
    for passed in [OwnedFd::from(datagrams), OwnedFd::from(connection)] {
        let output = Command::new("sh")
            .args(["-c", script, env!("CARGO_BIN_EXE_tickr")])
            .env_clear()
            .envs(NODE)
            .envs([
                ("TICKR_DATABASE_HOST", "/nowhere/mysql.sock"),
                ("TICKR_DATABASE_USERNAME", "tickr"),
                ("TICKR_DATABASE_NAME", "tickr"),
            ])
            .stdin(passed)
            .output()
            .expect("the program starts");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("systemd has passed"), "{text}");
        assert!(text.contains("ListenStream="), "{text}");
        assert!(!text.contains("ulimit"), "{text}");
    }
}

#[test]
fn more_sockets_than_can_be_meant_are_refused_before_they_are_looked_at() {
    let script = "LISTEN_FDS=100000 LISTEN_PID=$$ exec \"$0\" serve";
    let output = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_tickr")])
        .env_clear()
        .envs(NODE)
        .envs([
            ("TICKR_DATABASE_HOST", "/nowhere/mysql.sock"),
            ("TICKR_DATABASE_USERNAME", "tickr"),
            ("TICKR_DATABASE_NAME", "tickr"),
        ])
        .stdin(Stdio::null())
        .output()
        .expect("the program starts");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("passed 100000 sockets"), "{text}");
}
