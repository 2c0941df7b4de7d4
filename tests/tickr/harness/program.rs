//! The real program: run to its end, or serving on a port and a Unix socket of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::database::Database;
use super::http::{Client, Kind};
use crate::support::scratch;

/// Node 0 of the cluster that the issues and the README speak of.
pub(crate) const NODE: [(&str, &str); 3] = [
    ("TICKR_MAX_NODES", "4"),
    ("TICKR_STARTING_OFFSET", "54313001"),
    ("TICKR_NODE_NUMBER", "0"),
];

/// Nothing that a test waits for takes longer than this, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a test looks for what it waits for.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// Clock ticks in a second, the unit of `/proc/PID/stat` (`USER_HZ` is 100 on Linux).
const TICKS_PER_SECOND: u64 = 100;

/// Runs the program to its end with these variables as its whole environment.
pub(crate) fn run(arguments: &[&str], settings: &[(&str, &str)]) -> Output {
    command(&[], settings)
        .args(arguments)
        .output()
        .expect("the program starts")
}

/// Waits until `condition` holds; fails the test when it does not in time.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(LOOK_INTERVAL);
    }
}

/// `tickr serve` at work. Dropping it kills it.
pub(crate) struct Tickr {
    child: Child,
    log: Arc<Log>,
    tcp: SocketAddr,
    unix: PathBuf,
    _folder: TempDir,
}

/// What the program has written to its standard error so far.
#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    grown: Condvar,
}

impl Tickr {
    /// Serves from this database, and is ready.
    pub(crate) fn serve(database: &Database) -> Tickr {
        Tickr::serve_with(database, &[])
    }

    /// The same with further settings, which win.
    pub(crate) fn serve_with(database: &Database, settings: &[(&str, &str)]) -> Tickr {
        Tickr::serve_under(&[], database, settings)
    }

    /// The same by way of another program, such as `prlimit`, that turns into ours.
    pub(crate) fn serve_under(
        wrapper: &[&str],
        database: &Database,
        settings: &[(&str, &str)],
    ) -> Tickr {
        let tickr = Tickr::start(wrapper, &[&database.settings(), settings].concat());
        wait_until("the node is ready", || {
            let ready = tickr.connect(Kind::Unix).ask("GET /readyz HTTP/1.1");
            ready.status == 200
        });
        tickr
    }

    /// Serves with these settings on top of [`NODE`], ready or not.
    pub(crate) fn start(wrapper: &[&str], settings: &[(&str, &str)]) -> Tickr {
        let folder = scratch();
        let unix = folder.path().join("tickr.sock");
        let listen = format!("127.0.0.1:0,unix:{}", unix.display());
        let mut child = command(wrapper, &NODE)
            .env("TICKR_LISTEN", listen)
            // Tests count tickets, so nothing may be reserved that nobody waits for.
            .env("TICKR_PREFETCH_SECONDS", "0")
            .envs(settings.iter().copied())
            .arg("serve")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let log = Arc::new(Log::default());
        let stderr = child.stderr.take().expect("its standard error is a pipe");
        let writer = Arc::clone(&log);
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                writer.lines().push(line);
                writer.grown.notify_all();
            }
        });
        let listens = log.wait_for(" listens on ");
        let port = listens.split_once("127.0.0.1:").and_then(|(_, rest)| {
            let digits = rest.find(|byte: char| !byte.is_ascii_digit());
            rest[..digits.unwrap_or(rest.len())].parse().ok()
        });
        Tickr {
            tcp: SocketAddr::from(([127, 0, 0, 1], port.unwrap_or_default())),
            unix,
            child,
            log,
            _folder: folder,
        }
    }

    /// A new connection.
    pub(crate) fn connect(&self, kind: Kind) -> Client {
        self.try_connect(kind).expect("the server is there")
    }

    /// A new connection, if the server is there.
    pub(crate) fn try_connect(&self, kind: Kind) -> std::io::Result<Client> {
        match kind {
            Kind::Tcp => Client::tcp(self.tcp),
            Kind::Unix => Client::unix(&self.unix),
        }
    }

    /// Where it listens on a TCP socket.
    pub(crate) fn tcp(&self) -> SocketAddr {
        self.tcp
    }

    /// Where it listens on a Unix socket.
    pub(crate) fn unix(&self) -> &Path {
        &self.unix
    }

    /// Its log so far.
    pub(crate) fn log(&self) -> String {
        self.log.lines().join("\n")
    }

    /// Waits for a line of its log that has `text` in it.
    pub(crate) fn wait_for_log(&self, text: &str) -> String {
        self.log.wait_for(text)
    }

    /// Processor time that it has used, its own and the kernel's.
    pub(crate) fn processor_time(&self) -> Duration {
        let stat = self.proc("stat");
        let (_, fields) = stat.rsplit_once(") ").expect("the name is in brackets");
        let ticks = |field: usize| -> u64 {
            let field = fields.split(' ').nth(field);
            field.and_then(|ticks| ticks.parse().ok()).expect("a count")
        };
        // The 14th and 15th fields of proc_pid_stat(5), counted behind the name.
        Duration::from_millis((ticks(11) + ticks(12)) * 1000 / TICKS_PER_SECOND)
    }

    /// Bytes of its own memory that are resident: no files, no shared pages.
    pub(crate) fn own_memory(&self) -> u64 {
        let status = self.proc("status");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kibibytes
            .and_then(|n| n.parse::<u64>().ok())
            .expect("a count")
            * 1024
    }

    fn proc(&self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.child.id());
        std::fs::read_to_string(path).expect("the process runs")
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the process is ours");
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the program ends", || {
            status = self.child.try_wait().expect("the process is ours");
            status.is_some()
        });
        status.expect("it has ended")
    }

    /// Asks it to stop; it must end well.
    pub(crate) fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "{status}: {}", self.log());
    }
}

impl Drop for Tickr {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("The log of the server:\n{}", self.log());
        }
    }
}

impl Log {
    fn lines(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.lines
            .lock()
            .unwrap_or_else(|poison| poison.into_inner())
    }

    fn wait_for(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.lines();
        loop {
            if let Some(line) = lines.iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no {text:?} in the log: {lines:#?}");
            let waited = self.grown.wait_timeout(lines, left);
            lines = waited.unwrap_or_else(|poison| poison.into_inner()).0;
        }
    }
}

fn command(wrapper: &[&str], settings: &[(&str, &str)]) -> Command {
    let program = env!("CARGO_BIN_EXE_tickr");
    let mut words = wrapper.iter().copied().chain([program]);
    let mut command = Command::new(words.next().unwrap_or(program));
    command
        .args(words)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs(settings.iter().copied());
    command
}
