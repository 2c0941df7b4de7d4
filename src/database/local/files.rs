//! The folder of a private MySQL server: what lies where in it, and who may use it.

use std::fs::{self, DirBuilder, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::{self, Path, PathBuf};
use std::process::{self, ExitStatus};
use std::thread;
use std::time::Instant;

use rustix::fs::{FlockOperation, flock};

use super::LocalError;
use super::program::option;
use crate::limits;

/// Where a server keeps what.
#[derive(Debug)]
pub(super) struct Files {
    root: PathBuf,
    pub(super) data: PathBuf,
    pub(super) unfinished: PathBuf,
    pub(super) temporary: PathBuf,
    pub(super) sql: PathBuf,
    lock: PathBuf,
    pub(super) log: PathBuf,
    pub(super) pid: PathBuf,
    pub(super) socket: PathBuf,
    pub(super) socket_lock: PathBuf,
    /// A folder for the socket alone, removed with us.
    socket_folder: Option<PathBuf>,
}

impl Files {
    pub(super) fn new(data_dir: &Path) -> Result<Files, LocalError> {
        create_private(data_dir)?;
        let root = path::absolute(data_dir).map_err(LocalError::io("use", data_dir))?;
        let mut socket_folder = None;
        let mut socket = root.join("mysql.sock");
        if !fits(&socket) {
            let folder = short_folder()?;
            socket = folder.join("mysql.sock");
            socket_folder = Some(folder);
        }
        Ok(Files {
            data: root.join("data"),
            unfinished: root.join("data.unfinished"),
            temporary: root.join("tmp"),
            sql: root.join("initialise.sql"),
            lock: root.join("lock"),
            log: root.join("mysql.log"),
            pid: root.join("mysql.pid"),
            socket_lock: socket.with_extension("sock.lock"),
            socket,
            socket_folder,
            root,
        })
    }

    pub(super) fn lock(&self) -> Result<File, LocalError> {
        let file = File::create(&self.lock).map_err(LocalError::io("write", &self.lock))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(LocalError::InUse {
                data_dir: self.root.clone(),
            }),
            Err(error) => Err(LocalError::io("lock", &self.lock)(error.into())),
        }
    }

    /// Waits for the server of a run that was killed: its watcher is killing it. Two servers on
    /// one socket path would make us talk to the wrong one.
    pub(super) fn wait_for_leftover(&self) -> Result<(), LocalError> {
        let deadline = Instant::now() + limits::LOCAL_LEFTOVER_TIMEOUT;
        while let Some(pid) = self.leftover() {
            if Instant::now() >= deadline {
                return Err(LocalError::StillRunning {
                    data_dir: self.root.clone(),
                    pid,
                });
            }
            thread::sleep(limits::LOCAL_POLL_INTERVAL);
        }
        Ok(())
    }

    /// The process id of a server that runs on our data: one that answers on the socket, or one
    /// that has closed it but still holds the data. The second is only seen on Linux.
    fn leftover(&self) -> Option<String> {
        let pid = fs::read_to_string(&self.pid)
            .unwrap_or_default()
            .trim()
            .to_owned();
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let data = option("--datadir=", &self.data);
        let ours = command
            .split(|&byte| byte == 0)
            .any(|word| word == data.as_encoded_bytes());
        (ours || UnixStream::connect(&self.socket).is_ok()).then_some(pid)
    }

    pub(super) fn failed(&self, what: &'static str) -> impl Fn(io::Error) -> LocalError + use<> {
        LocalError::io(what, &self.root)
    }

    pub(super) fn died(&self, when: &'static str, status: ExitStatus) -> LocalError {
        LocalError::Died {
            when,
            status,
            log: self.log_tail(),
        }
    }

    /// The end of the server's log, for an error message.
    pub(super) fn log_tail(&self) -> String {
        let read = || -> io::Result<Vec<u8>> {
            let mut file = File::open(&self.log)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(
                length.saturating_sub(limits::LOCAL_LOG_TAIL_BYTES),
            ))?;
            let mut tail = Vec::new();
            file.take(limits::LOCAL_LOG_TAIL_BYTES)
                .read_to_end(&mut tail)?;
            Ok(tail)
        };
        match read() {
            Ok(tail) => String::from_utf8_lossy(&tail).trim().to_owned(),
            Err(error) => format!("({}: {error})", self.log.display()),
        }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        if let Some(folder) = &self.socket_folder
            && let Err(error) = fs::remove_dir_all(folder)
        {
            log::warn!("cannot remove {}: {error}", folder.display());
        }
    }
}

/// Whether a path can be a socket's, and be given to the MySQL client, which wants UTF-8.
fn fits(socket: &Path) -> bool {
    socket
        .to_str()
        .is_some_and(|path| path.len() <= limits::SOCKET_PATH_BYTES_MAX)
}

/// A new folder of ours with a short path.
fn short_folder() -> Result<PathBuf, LocalError> {
    let name = format!("tickr-{}-{:016x}", process::id(), random());
    let folder = Path::new("/tmp").join(name);
    // Not recursive: a folder that somebody else made must not be taken for ours.
    DirBuilder::new()
        .mode(0o700)
        .create(&folder)
        .map_err(LocalError::io("create", &folder))?;
    Ok(folder)
}

pub(super) fn create_private(folder: &Path) -> Result<(), LocalError> {
    let created = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    created.map_err(LocalError::io("create", folder))
}

pub(super) fn remove(path: &Path) -> Result<(), LocalError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(LocalError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// A number that differs between processes and calls; the standard library seeds it.
pub(super) fn random() -> u64 {
    RandomState::new().hash_one(0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::process::{Command, Stdio};
    use std::thread;
    use std::time::{Duration, Instant};

    use super::super::process::Process;
    use super::*;

    #[test]
    fn a_server_of_an_earlier_run_is_seen_until_it_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::new(folder.path()).unwrap();
        assert_eq!(files.leftover(), None);
        let listener = UnixListener::bind(&files.socket).unwrap();
        assert_eq!(files.leftover(), Some(String::new()));
        drop(listener);
        assert_eq!(files.leftover(), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_server_that_closed_its_socket_is_seen_too_but_no_other_process() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::new(folder.path()).unwrap();
        fs::write(&files.pid, format!("{}\n", process::id())).unwrap();
        assert_eq!(files.leftover(), None);
        let mut command = Command::new("sh");
        command
            .args(["-c", "read -r _", "sh"])
            .arg(option("--datadir=", &files.data));
        let server = Process::spawn(command.stdin(Stdio::piped())).unwrap();
        fs::write(&files.pid, format!("{}\n", server.id())).unwrap();
        // A process has begun before its arguments can be read.
        let deadline = Instant::now() + Duration::from_secs(10);
        while files.leftover().is_none() && Instant::now() < deadline {
            thread::yield_now();
        }
        assert_eq!(files.leftover(), Some(server.id().to_string()));
        drop(server);
        assert_eq!(files.leftover(), None);
    }
}
