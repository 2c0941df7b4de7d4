//! One process of the real program, and what can be done to it.

use std::error::Error;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tickr::ticket::Numbering;

use crate::client::{Address, Connection, Endpoint, ProcessView};

const START_TIMEOUT: Duration = Duration::from_secs(20);
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
const POLL_INTERVAL: Duration = Duration::from_millis(5);
const LOG_LINES_SHOWN: usize = 8;
/// The database that the hunts make.
pub(crate) const DATABASE: &str = "hunt";

pub(crate) type Outcome = Result<(), Box<dyn Error>>;

/// How a process reaches its database.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    /// A name or address, or the path of a Unix socket.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) username: String,
    pub(crate) password: String,
}

/// What differs from one process to the next.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) name: String,
    pub(crate) pool: u64,
    pub(crate) prefetch_seconds: &'static str,
}

/// A running `tickr serve`; dropping it kills it.
pub(crate) struct Process {
    pub(crate) setup: Setup,
    pub(crate) endpoints: [Endpoint; 2],
    /// What a process of the same name will remember.
    pub(crate) state_file: PathBuf,
    child: Child,
    files: [PathBuf; 2],
    ended: bool,
}

impl Process {
    /// Starts a process and waits until it listens.
    pub(crate) fn start(
        folder: &Path,
        login: &Login,
        numbering: Numbering,
        setup: Setup,
    ) -> io::Result<Process> {
        let socket = folder.join(format!("{}.sock", setup.name));
        let log = folder.join(format!("{}.log", setup.name));
        let state_file = folder.join(format!("{}.state", setup.name));
        let child = command(login, numbering)
            .arg("serve")
            .env(
                "TICKR_LISTEN",
                format!("127.0.0.1:0,unix:{}", socket.display()),
            )
            .env("TICKR_DATABASE_POOL_SIZE", setup.pool.to_string())
            .env("TICKR_PREFETCH_SECONDS", setup.prefetch_seconds)
            .env("TICKR_STATE_FILE", &state_file)
            .stderr(File::create(&log)?)
            .spawn()?;
        let view = Arc::new(ProcessView::new(&setup.name));
        let mut process = Process {
            setup,
            endpoints: [Address::Tcp(0), Address::Unix(socket.clone())].map(|address| Endpoint {
                address,
                process: Arc::clone(&view),
            }),
            state_file,
            child,
            files: [log, socket],
            ended: false,
        };
        process.endpoints[0].address = Address::Tcp(process.wait_for_port()?);
        Ok(process)
    }

    fn wait_for_port(&mut self) -> io::Result<u16> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let log = fs::read_to_string(&self.files[0])?;
            let after = log
                .split_once("listens on 127.0.0.1:")
                .map(|(_, after)| after);
            let port = after.and_then(|after| after.split_once(','));
            if let Some(port) = port.and_then(|(port, _)| port.parse().ok()) {
                return Ok(port);
            }
            if self.exited()?.is_some() || Instant::now() >= deadline {
                return Err(io::Error::other(format!("does not listen: {log}")));
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Kills it (SIGKILL), as a crash would.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.ended = true;
        self.child.kill()?;
        self.child.wait()?;
        self.files.iter().try_for_each(fs::remove_file)
    }

    /// Stops it in good order (SIGTERM); it must end with exit code 0, and in time.
    pub(crate) fn stop(mut self) -> Result<(), String> {
        let failed = |error: io::Error| error.to_string();
        self.signal(Signal::TERM).map_err(failed)?;
        let deadline = Instant::now() + STOP_TIMEOUT;
        loop {
            match self.exited().map_err(failed)? {
                Some(status) if status.success() => break,
                Some(status) => return Err(self.describe(&format!("stopped with {status}"))),
                None if Instant::now() >= deadline => return Err(self.describe("does not stop")),
                None => thread::sleep(POLL_INTERVAL),
            }
        }
        self.ended = true;
        // It has removed its socket itself.
        fs::remove_file(&self.files[0]).map_err(failed)
    }

    pub(crate) fn signal(&mut self, signal: Signal) -> io::Result<()> {
        if self.exited()?.is_none() {
            kill_process(Pid::from_child(&self.child), signal)?;
        }
        Ok(())
    }

    pub(crate) fn exited(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Asks it for a page, over a connection of its own.
    pub(crate) fn get(&self, path: &str) -> io::Result<(u16, String)> {
        let mut connection = Connection::open(self.endpoints[1].clone())?;
        let (status, body) = connection.get(path)?;
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    /// What happened, and the end of its log.
    pub(crate) fn describe(&self, what: &str) -> String {
        let log = fs::read_to_string(&self.files[0]).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n  ");
        format!("{:?} {what}; the end of its log:\n  {tail}", self.setup)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.ended {
            // It may be stopped, and may have ended.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The program with the settings that name the database and the node.
pub(crate) fn command(login: &Login, numbering: Numbering) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tickr"));
    command
        .env_clear()
        .env("TICKR_DATABASE_HOST", &login.host)
        .env("TICKR_DATABASE_PORT", login.port.to_string())
        .env("TICKR_DATABASE_USERNAME", &login.username)
        .env("TICKR_DATABASE_PASSWORD", &login.password)
        .env("TICKR_DATABASE_NAME", DATABASE)
        .env("TICKR_MAX_NODES", numbering.max_nodes().to_string())
        .env(
            "TICKR_STARTING_OFFSET",
            numbering.starting_offset().to_string(),
        )
        .env("TICKR_NODE_NUMBER", numbering.node_number().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// Runs one of the program's commands to its end.
pub(crate) fn tickr(login: &Login, numbering: Numbering, arguments: &[&str]) -> Outcome {
    let output = command(login, numbering).args(arguments).output()?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        return Err(format!("`tickr {}` failed: {error}", arguments.join(" ")).into());
    }
    Ok(())
}

/// Looks again and again, for a bounded time.
pub(crate) fn wait_for(
    within: Duration,
    otherwise: &str,
    mut done: impl FnMut() -> io::Result<bool>,
) -> Outcome {
    let deadline = Instant::now() + within;
    while !done()? {
        if Instant::now() >= deadline {
            return Err(otherwise.into());
        }
        thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}
