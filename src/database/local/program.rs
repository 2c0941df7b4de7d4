//! The MySQL server program of this machine: where it is, and how its data directory is made.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use super::LocalError;
use crate::foreign::printable;
use crate::limits;

const NAMES: [&str; 2] = ["mariadbd", "mysqld"];
/// Where packages put server programs; most users' `PATH` leaves these folders out.
const FOLDERS: [&str; 8] = [
    "/usr/sbin",
    "/usr/local/sbin",
    "/usr/libexec",
    "/usr/bin",
    "/usr/local/bin",
    "/usr/local/mysql/bin",
    "/opt/homebrew/bin",
    "/opt/local/bin",
];
/// Where the system tables of MariaDB are described, below the folder that holds `sbin`.
const SHARE_FOLDERS: [&str; 3] = ["share/mariadb", "share/mysql", "share"];

/// A server program.
#[derive(Clone, Debug)]
pub(super) struct Program {
    /// Its path.
    pub(super) path: PathBuf,
    /// What it is.
    pub(super) flavor: Flavor,
}

/// The two servers that speak the MySQL protocol and share most options.
#[derive(Clone, Debug)]
pub(super) enum Flavor {
    /// MariaDB, with the folder that holds its SQL files and messages.
    MariaDb { share: PathBuf },
    /// Oracle's MySQL.
    MySql,
}

impl Program {
    /// Takes the given program, or the first that is found.
    pub(super) fn find(given: Option<&Path>) -> Result<Program, LocalError> {
        let path = match given {
            Some(path) => path.to_owned(),
            None => search().ok_or(LocalError::NoProgram)?,
        };
        let run = |source| LocalError::Io {
            what: "run",
            path: path.clone(),
            source,
        };
        let text = version(&path).map_err(run)?;
        if !text.contains("Ver") {
            return Err(run(io::Error::other(format!(
                "it is no MySQL server; asked for its version, it said: {}",
                printable(&text)
            ))));
        }
        let flavor = match text.contains("MariaDB") {
            true => Flavor::MariaDb {
                share: share(&path)?,
            },
            false => Flavor::MySql,
        };
        Ok(Program { path, flavor })
    }

    /// Options for every run: small caches, no log that a counter does not need. How durable a
    /// commit is stays at the server's default.
    pub(super) fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = [
            "--innodb-buffer-pool-size=32M",
            "--key-buffer-size=1M",
            "--performance-schema=OFF",
            "--skip-log-bin",
            "--skip-name-resolve",
        ]
        .map(OsString::from)
        .into();
        // `loose`: an option that a version does not know is a warning, not an error.
        match &self.flavor {
            Flavor::MariaDb { share } => {
                arguments.push("--loose-innodb-log-file-size=16M".into());
                arguments.push("--loose-aria-pagecache-buffer-size=1M".into());
                arguments.push(option("--lc-messages-dir=", share));
            }
            Flavor::MySql => {
                arguments.push("--loose-innodb-redo-log-capacity=16M".into());
                arguments.push("--loose-mysqlx=OFF".into());
                // Its default is a folder that only the full package creates.
                arguments.push("--secure-file-priv=NULL".into());
            }
        }
        arguments
    }

    /// Options that make the server create its system tables and end.
    pub(super) fn initialise_arguments(&self, sql: &Path) -> Vec<OsString> {
        match self.flavor {
            Flavor::MariaDb { .. } => {
                ["--bootstrap", "--log-warnings=0", "--max-allowed-packet=8M"]
                    .map(OsString::from)
                    .into()
            }
            Flavor::MySql => vec!["--initialize-insecure".into(), option("--init-file=", sql)],
        }
    }

    /// The SQL that makes the system tables, where the program does not do it by itself, and
    /// then `user`.
    ///
    /// The statements are MariaDB's own, without those that make its default accounts: these log
    /// in by operating system user, and would get in the way of anyone but root.
    /// `mariadb-install-db` does the same, but needs programs of another package.
    pub(super) fn initialise_sql(&self, user: &str) -> Result<Vec<u8>, LocalError> {
        let mut sql = Vec::new();
        if let Flavor::MariaDb { share } = &self.flavor {
            sql.extend_from_slice(b"CREATE DATABASE mysql;\nUSE mysql;\n");
            for tables in ["system_tables", "performance_tables"] {
                sql.append(&mut read_tables(share, tables)?);
                sql.push(b'\n');
            }
        }
        sql.extend_from_slice(user.as_bytes());
        Ok(sql)
    }
}

/// What a program says of its version. One that is no server may say more without end, or nothing.
fn version(path: &Path) -> io::Result<String> {
    let (reader, writer) = io::pipe()?;
    let mut child = Command::new(path)
        .args(["--no-defaults", "--version"])
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .spawn()?;
    let (sender, said) = mpsc::channel();
    thread::spawn(move || {
        let mut text = Vec::new();
        let read = reader
            .take(limits::LOCAL_VERSION_BYTES_MAX)
            .read_to_end(&mut text);
        // Nobody waits for it any longer when it took too long.
        let _ = sender.send(read.map(|_| text));
    });
    let deadline = Instant::now() + limits::LOCAL_VERSION_TIMEOUT;
    let said = said.recv_timeout(limits::LOCAL_VERSION_TIMEOUT);
    let mut status = child.try_wait()?;
    while said.is_ok() && status.is_none() && Instant::now() < deadline {
        thread::sleep(limits::LOCAL_POLL_INTERVAL);
        status = child.try_wait()?;
    }
    child.kill()?;
    child.wait()?;
    let text = said.unwrap_or_else(|_| Err(io::Error::other("it does not tell its version")))?;
    let text = String::from_utf8_lossy(&text).into_owned();
    match status.is_some_and(|status| status.success()) {
        true => Ok(text),
        false => Err(io::Error::other(format!(
            "it does not tell its version; it said: {}",
            printable(&text)
        ))),
    }
}

/// `--name=value` for a path that need not be UTF-8.
pub(super) fn option(name: &str, value: &Path) -> OsString {
    let mut option = OsString::from(name);
    option.push(value);
    option
}

fn search() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = env::split_paths(&path)
        .chain(FOLDERS.map(PathBuf::from))
        .collect();
    let paths = NAMES
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    paths
        .into_iter()
        .find(|path| path.is_absolute() && path.is_file())
}

/// MariaDB's folder of SQL files: beside the program first, then in the usual places.
fn share(program: &Path) -> Result<PathBuf, LocalError> {
    let program = program
        .canonicalize()
        .unwrap_or_else(|_| program.to_owned());
    let beside = program.parent().and_then(Path::parent);
    let prefixes = beside
        .into_iter()
        .chain(["/usr", "/usr/local"].map(Path::new));
    let found = prefixes
        .flat_map(|prefix| SHARE_FOLDERS.map(|folder| prefix.join(folder)))
        .find(|folder| read_tables(folder, "system_tables").is_ok());
    found.ok_or_else(|| LocalError::NoSystemTables {
        program: program.clone(),
    })
}

/// MariaDB 11 renamed its SQL files.
fn read_tables(share: &Path, name: &str) -> Result<Vec<u8>, LocalError> {
    let new = share.join(format!("mariadb_{name}.sql"));
    let old = share.join(format!("mysql_{name}.sql"));
    let path = if new.is_file() { new } else { old };
    fs::read(&path).map_err(|source| LocalError::Io {
        what: "read",
        path,
        source,
    })
}
