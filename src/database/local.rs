//! A private MySQL server, for `tickr dev`, the tests and the benchmarks.
//!
//! It exists so that nobody has to set up a database to try Tickr or to work on it. The server
//! listens on a Unix socket, reads no configuration of the machine, and stops when the
//! [`LocalServer`] is dropped or its process ends, however it ends. Its data stays.

mod files;
mod process;
mod program;

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::Instant;

use mysql::{Conn, OptsBuilder};
use rustix::process::{Signal, geteuid};

use self::files::{Files, create_private, random, remove};
use self::process::Process;
use self::program::{Program, option};
use crate::limits;

/// The account that initialisation makes; `sql/local_user.sql` must agree.
const ACCOUNT: &str = "tickr";
const ACCOUNT_SQL: &str = include_str!("../../sql/local_user.sql");
/// `ER_ACCESS_DENIED_ERROR` of the MySQL Server Error Message Reference.
const ACCESS_DENIED: u16 = 1045;
/// Ports are taken from here: below the range from which systems take the local port of an
/// outgoing connection, so that no client can sit on the port of a server that restarts.
const PORTS: std::ops::Range<u16> = 15_000..32_000;

/// What a [`LocalServer`] is started with.
#[derive(Clone, Debug)]
pub struct LocalOptions {
    /// A folder for the server alone: its data, socket, log and lock. Created when missing, for
    /// its owner's eyes only.
    pub data_dir: PathBuf,
    /// The server program; `None` looks for `mariadbd`, then `mysqld`, on `PATH` and in the
    /// folders where packages put them.
    pub program: Option<PathBuf>,
    /// Further server options, which win over ours. Not used while the data is initialised.
    pub extra_arguments: Vec<String>,
    /// Listen on a TCP port of 127.0.0.1 as well.
    pub tcp: bool,
}

impl LocalOptions {
    /// A server on a Unix socket alone.
    pub fn new(data_dir: impl Into<PathBuf>) -> LocalOptions {
        LocalOptions {
            data_dir: data_dir.into(),
            program: None,
            extra_arguments: Vec::new(),
            tcp: false,
        }
    }
}

/// A private MySQL server; dropping it stops it.
#[derive(Debug)]
pub struct LocalServer {
    plan: Plan,
    process: Process,
    /// Held as long as we live: two Tickrs cannot share the data.
    _lock: File,
}

impl LocalServer {
    /// Starts a server and waits until it answers; creates its data first when there is none.
    pub fn start(options: LocalOptions) -> Result<LocalServer, LocalError> {
        let program = Program::find(options.program.as_deref())?;
        let files = Files::new(&options.data_dir)?;
        let lock = files.lock()?;
        files.wait_for_leftover()?;
        if !files.data.exists() {
            initialise(&program, &files)?;
        }
        let mut plan = Plan {
            program,
            files,
            extra_arguments: options.extra_arguments,
            port: None,
        };
        let mut attempts = 1;
        let process = loop {
            if options.tcp {
                plan.port = Some(free_port()?);
            }
            // Another process may take the port before the server does.
            match plan.launch() {
                Err(LocalError::Died { log, .. })
                    if options.tcp
                        && attempts < limits::LOCAL_PORT_ATTEMPTS_MAX
                        && log.contains("Bind on TCP/IP port") =>
                {
                    attempts += 1;
                }
                launched => break launched?,
            }
        };
        Ok(LocalServer {
            plan,
            process,
            _lock: lock,
        })
    }

    /// The server's Unix socket: an absolute path.
    pub fn socket(&self) -> &Path {
        &self.plan.files.socket
    }

    /// The server's port on 127.0.0.1, when the options asked for one; a restart keeps it.
    pub fn port(&self) -> Option<u16> {
        self.plan.port
    }

    /// An account with every privilege, over the socket and over TCP.
    pub fn username(&self) -> &str {
        ACCOUNT
    }

    /// The account's password. It keeps nobody out: that is what the folder's mode does.
    pub fn password(&self) -> &str {
        ACCOUNT
    }

    /// The process id of the latest start.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The server's log of the latest start.
    pub fn log(&self) -> &Path {
        &self.plan.files.log
    }

    /// Stops the server in good order (SIGTERM) and waits for it; past
    /// [`limits::LOCAL_STOP_TIMEOUT`] it is killed, which is an error, but loses no commit.
    pub fn stop(&mut self) -> Result<(), LocalError> {
        let failed = self.plan.files.failed("stop the server of");
        self.process.signal(Signal::TERM).map_err(&failed)?;
        self.process.signal(Signal::CONT).map_err(&failed)?;
        if self
            .process
            .wait(limits::LOCAL_STOP_TIMEOUT)
            .map_err(&failed)?
            .is_none()
        {
            self.process.kill().map_err(&failed)?;
            return Err(LocalError::WouldNotStop);
        }
        Ok(())
    }

    /// Kills the server at once (SIGKILL), as a crash would.
    pub fn kill(&mut self) -> Result<(), LocalError> {
        self.process
            .kill()
            .map_err(self.plan.files.failed("kill the server of"))
    }

    /// Makes the server hang (SIGSTOP) until [`resume`](Self::resume).
    pub fn pause(&mut self) -> Result<(), LocalError> {
        self.process
            .pause(limits::LOCAL_STOP_TIMEOUT)
            .map_err(self.plan.files.failed("pause the server of"))
    }

    /// Lets a server that was paused go on (SIGCONT).
    pub fn resume(&mut self) -> Result<(), LocalError> {
        self.process
            .signal(Signal::CONT)
            .map_err(self.plan.files.failed("resume the server of"))
    }

    /// Starts the server again if it has ended without being asked to, and says how it ended.
    pub fn revive(&mut self) -> Result<Option<ExitStatus>, LocalError> {
        let watched = self.process.exited();
        let ended = watched.map_err(self.plan.files.failed("watch the server of"))?;
        if ended.is_some() {
            self.process = self.plan.launch()?;
        }
        Ok(ended)
    }

    /// Starts the server again with the same data, socket and port, after stopping it if it runs.
    pub fn restart(&mut self) -> Result<(), LocalError> {
        self.stop()?;
        self.process = self.plan.launch()?;
        Ok(())
    }
}

impl Drop for LocalServer {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            log::warn!("{error}");
        }
    }
}

/// Everything that a start and a restart have in common.
#[derive(Debug)]
struct Plan {
    program: Program,
    files: Files,
    extra_arguments: Vec<String>,
    port: Option<u16>,
}

impl Plan {
    /// Starts the server process and waits until it answers.
    fn launch(&self) -> Result<Process, LocalError> {
        let files = &self.files;
        // A server that was killed leaves these. MySQL takes the lock beside its socket for a
        // live server's when the process id in it is in use again.
        for path in [&files.socket, &files.socket_lock, &files.pid] {
            remove(path)?;
        }
        let mut command = server_command(&self.program, files, &files.data)?;
        command
            .arg(option("--socket=", &files.socket))
            .arg(option("--pid-file=", &files.pid))
            // Any but the default, which tells a MariaDB from no other. It has no replica.
            .arg("--server-id=2");
        match self.port {
            Some(port) => {
                command.args(["--bind-address=127.0.0.1", &format!("--port={port}")]);
            }
            None => {
                command.arg("--skip-networking");
            }
        }
        command.args(&self.extra_arguments).stdin(Stdio::null());
        let mut process = spawn(&mut command, &self.program)?;
        self.wait_until_it_answers(&mut process)?;
        Ok(process)
    }

    fn wait_until_it_answers(&self, process: &mut Process) -> Result<(), LocalError> {
        let socket = self.files.socket.to_string_lossy().into_owned();
        let login = OptsBuilder::new()
            .socket(Some(socket))
            .user(Some(ACCOUNT))
            .pass(Some(ACCOUNT))
            .read_timeout(Some(limits::LOCAL_LOGIN_TIMEOUT))
            .write_timeout(Some(limits::LOCAL_LOGIN_TIMEOUT));
        let deadline = Instant::now() + limits::LOCAL_START_TIMEOUT;
        loop {
            let exited = process
                .exited()
                .map_err(self.files.failed("watch the server of"))?;
            if let Some(status) = exited {
                return Err(self.files.died("started", status));
            }
            match Conn::new(login.clone()) {
                Ok(_) => return Ok(()),
                Err(mysql::Error::MySqlError(error)) if error.code == ACCESS_DENIED => {
                    return Err(LocalError::Refused(error));
                }
                Err(error) if Instant::now() >= deadline => {
                    let log = self.files.log_tail();
                    return Err(LocalError::NoAnswer {
                        error: error.to_string(),
                        log,
                    });
                }
                Err(_) => thread::sleep(limits::LOCAL_POLL_INTERVAL),
            }
        }
    }
}

/// Creates the system tables and our account in a folder that is renamed only when it is
/// complete, so that what a crash leaves in the middle is never taken for a database.
fn initialise(program: &Program, files: &Files) -> Result<(), LocalError> {
    if files.unfinished.exists() {
        fs::remove_dir_all(&files.unfinished)
            .map_err(LocalError::io("remove", &files.unfinished))?;
    }
    create_private(&files.unfinished)?;
    fs::write(&files.sql, program.initialise_sql(ACCOUNT_SQL)?)
        .map_err(LocalError::io("write", &files.sql))?;
    let sql = File::open(&files.sql).map_err(LocalError::io("read", &files.sql))?;
    let mut command = server_command(program, files, &files.unfinished)?;
    command
        .args(program.initialise_arguments(&files.sql))
        .stdin(sql);
    let mut process = spawn(&mut command, program)?;
    let waited = process.wait(limits::LOCAL_INITIALISE_TIMEOUT);
    match waited.map_err(files.failed("watch the server of"))? {
        None => {
            let error = "its system tables were not ready in time".to_owned();
            return Err(LocalError::NoAnswer {
                error,
                log: files.log_tail(),
            });
        }
        Some(status) if !status.success() => return Err(files.died("initialised", status)),
        Some(_) => {}
    }
    remove(&files.sql)?;
    fs::rename(&files.unfinished, &files.data).map_err(LocalError::io("rename", &files.unfinished))
}

/// The command of an initialisation and of a start. `--no-defaults` must come first.
fn server_command(program: &Program, files: &Files, data: &Path) -> Result<Command, LocalError> {
    let log = File::create(&files.log).map_err(LocalError::io("write", &files.log))?;
    let log_clone = log
        .try_clone()
        .map_err(LocalError::io("write", &files.log))?;
    // A MariaDB that starts removes every temporary table in this folder, also another server's.
    create_private(&files.temporary)?;
    let mut command = Command::new(&program.path);
    command
        .arg("--no-defaults")
        .arg(option("--datadir=", data))
        .arg(option("--tmpdir=", &files.temporary))
        .args(program.arguments())
        .stdout(log)
        .stderr(log_clone);
    if geteuid().is_root() {
        command.arg("--user=root");
    }
    Ok(command)
}

fn spawn(command: &mut Command, program: &Program) -> Result<Process, LocalError> {
    Process::spawn(command).map_err(LocalError::io("run", &program.path))
}

/// A port of 127.0.0.1 that was free a moment ago.
fn free_port() -> Result<u16, LocalError> {
    let span = u64::from(PORTS.end - PORTS.start);
    let first = random() % span;
    (0..span)
        .map(|step| PORTS.start + ((first + step) % span) as u16)
        .find(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
        .ok_or(LocalError::NoPort)
}

/// Why a private MySQL server does not run.
#[derive(Debug)]
pub enum LocalError {
    /// No server program on this machine.
    NoProgram,
    /// A MariaDB without the SQL files that describe its system tables.
    NoSystemTables {
        /// The server program.
        program: PathBuf,
    },
    /// Another Tickr uses the folder.
    InUse {
        /// The folder.
        data_dir: PathBuf,
    },
    /// The server of an earlier run still runs.
    StillRunning {
        /// The folder.
        data_dir: PathBuf,
        /// Its process id; empty when it is not known.
        pid: String,
    },
    /// The server exited without being asked to.
    Died {
        /// What was being done with it.
        when: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The end of its log.
        log: String,
    },
    /// The server did not answer in time.
    NoAnswer {
        /// The last thing heard.
        error: String,
        /// The end of its log.
        log: String,
    },
    /// The server answers, but refuses our account.
    Refused(mysql::error::MySqlError),
    /// The server did not stop in time, and was killed.
    WouldNotStop,
    /// Every port is taken.
    NoPort,
    /// A file or a process that the operating system refused.
    Io {
        /// What was tried, as in "cannot read".
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

impl LocalError {
    fn io(what: &'static str, path: &Path) -> impl Fn(io::Error) -> LocalError + use<> {
        let path = path.to_owned();
        move |source| LocalError::Io {
            what,
            path: path.clone(),
            source,
        }
    }
}

impl fmt::Display for LocalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LocalError::NoProgram => write!(
                f,
                "no MySQL server program on this machine (looked for mariadbd and mysqld on PATH \
                 and in the usual sbin folders); install one, for example with \
                 `apt-get install mariadb-server-core`, or name it with --mysqld"
            ),
            LocalError::NoSystemTables { program } => write!(
                f,
                "{} is MariaDB, but its SQL files (mariadb_system_tables.sql) are not beside it; \
                 install it again, for example with `apt-get install mariadb-server-core`",
                program.display()
            ),
            LocalError::InUse { data_dir } => write!(
                f,
                "{} is in use by another Tickr; stop that one, or choose another folder",
                data_dir.display()
            ),
            LocalError::StillRunning { data_dir, pid } => {
                let pid = if pid.is_empty() { "PID" } else { pid };
                let data_dir = data_dir.display();
                write!(
                    f,
                    "the MySQL server of an earlier run still runs on {data_dir}; end it with \
                     `kill {pid}`, then try again"
                )
            }
            LocalError::Died { when, status, log } => {
                write!(
                    f,
                    "the MySQL server ended while being {when} ({status}); its log:\n{log}"
                )
            }
            LocalError::NoAnswer { error, log } => {
                write!(
                    f,
                    "the MySQL server did not answer in time: {error}; its log:\n{log}"
                )
            }
            LocalError::Refused(error) => write!(
                f,
                "the MySQL server refuses the account `{ACCOUNT}` ({error}); its data was not \
                 made by Tickr: choose another folder"
            ),
            LocalError::WouldNotStop => write!(
                f,
                "the MySQL server did not stop within {} s and was killed; no commit is lost, \
                 and its next start recovers",
                limits::LOCAL_STOP_TIMEOUT.as_secs()
            ),
            LocalError::NoPort => write!(
                f,
                "every TCP port of 127.0.0.1 from {} to {} is taken",
                PORTS.start,
                PORTS.end - 1
            ),
            LocalError::Io { what, path, source } => {
                write!(f, "cannot {what} {}: {source}", path.display())
            }
        }
    }
}

impl std::error::Error for LocalError {}
