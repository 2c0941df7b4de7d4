//! Binding: every IP address of a name, or a Unix socket without taking a live process's place.

use std::fmt;
use std::fs::{self, File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use socket2::{Domain, SockAddr, Socket, Type};

use super::{Address, Listener};
use crate::limits;

/// Why an address can't be listened on.
#[derive(Debug)]
pub enum BindError {
    /// The host name stands for no IP address.
    Resolve {
        /// `HOST:PORT` as it was given.
        address: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// The kernel refused a TCP address.
    Tcp {
        /// The address after resolving.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The path of a Unix socket does not fit into a socket address.
    PathTooLong {
        /// The path.
        path: PathBuf,
    },
    /// Another process listens on this Unix socket.
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// A file, a folder or a symbolic link is where the Unix socket should be.
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// Another process has held the lock of the Unix socket for too long.
    Locked {
        /// The lock file.
        lock: PathBuf,
    },
    /// The kernel refused a step of making the Unix socket.
    Unix {
        /// The path.
        path: PathBuf,
        /// The step, as the object of "cannot".
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BindError::Resolve { address, source } => write!(
                f,
                "cannot listen on {address}: its host has no IP address ({source}); correct the \
                 name, or give an IP address"
            ),
            BindError::Tcp { address, source } => {
                let advice = match source.kind() {
                    ErrorKind::AddrInUse => "stop the program that uses it, or choose another port",
                    ErrorKind::AddrNotAvailable => {
                        "it is no address of this machine; use one that is, or 0.0.0.0 for all"
                    }
                    ErrorKind::PermissionDenied => {
                        "ports below 1024 need a privilege; choose a higher one"
                    }
                    _ => "choose another address",
                };
                write!(f, "cannot listen on {address}: {source}; {advice}")
            }
            BindError::PathTooLong { path } => write!(
                f,
                "cannot listen on unix:{}: its path has {} bytes, and the system allows {}; choose \
                 a shorter one",
                path.display(),
                path.as_os_str().len(),
                limits::SOCKET_PATH_BYTES_MAX
            ),
            BindError::InUse { path } => write!(
                f,
                "cannot listen on unix:{}: another process is listening there; stop it, or choose \
                 another path",
                path.display()
            ),
            BindError::NotASocket { path } => write!(
                f,
                "cannot listen on unix:{}: there is something that is not a socket, and it is not \
                 ours to remove; move it, or choose another path",
                path.display()
            ),
            BindError::Locked { lock } => write!(
                f,
                "cannot listen on a Unix socket: another process has held the lock {} for {:?}; \
                 start again when it is done, or choose another path",
                lock.display(),
                limits::SOCKET_LOCK_TIMEOUT
            ),
            BindError::Unix { path, step, source } => write!(
                f,
                "cannot listen on unix:{}: cannot {step}: {source}; check that the folder exists \
                 and belongs to this user, or choose another path",
                path.display()
            ),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            BindError::Resolve { source, .. }
            | BindError::Tcp { source, .. }
            | BindError::Unix { source, .. } => Some(source),
            BindError::PathTooLong { .. }
            | BindError::InUse { .. }
            | BindError::NotASocket { .. }
            | BindError::Locked { .. } => None,
        }
    }
}

/// Binds every IP address of a host. One that this machine does not have (IPv6 may be off) is
/// passed over when another one works.
pub(super) fn bind_every(address: &str) -> Result<Vec<Listener>, BindError> {
    let unresolved = |source| BindError::Resolve {
        address: address.to_owned(),
        source,
    };
    let mut listeners = Vec::new();
    let mut tried = Vec::new();
    let mut absent = None;
    for address in address.to_socket_addrs().map_err(unresolved)? {
        if tried.contains(&address) {
            continue;
        }
        tried.push(address);
        match bind_tcp(address) {
            Ok(listener) => listeners.push(listener),
            Err(source) if source.kind() == ErrorKind::AddrNotAvailable => {
                absent = Some(BindError::Tcp { address, source });
            }
            Err(source) => return Err(BindError::Tcp { address, source }),
        }
    }
    match absent {
        Some(error) if listeners.is_empty() => Err(error),
        _ if listeners.is_empty() => Err(unresolved(ErrorKind::NotFound.into())),
        _ => Ok(listeners),
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<Listener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None);
    let socket = socket.map_err(|error| match address {
        // A kernel without IPv6 does not even make the socket.
        SocketAddr::V6(_) => io::Error::new(ErrorKind::AddrNotAvailable, error),
        SocketAddr::V4(_) => error,
    })?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    // The standard library and mio settle for 128 waiting clients.
    socket.listen(limits::LISTEN_BACKLOG)?;
    Listener::from_tcp(socket.into())
}

/// Takes the place of a socket whose process is gone, and of nothing else.
pub(super) fn bind_unix(path: &Path, mode: u32) -> Result<Listener, BindError> {
    let failed = |step| {
        move |source| BindError::Unix {
            path: path.to_owned(),
            step,
            source,
        }
    };
    let Ok(address) = SockAddr::unix(path) else {
        return Err(BindError::PathTooLong {
            path: path.to_owned(),
        });
    };
    // Without it, two processes could both find a stale file, and the slower one would then
    // remove the fresh socket of the other. Unlocked when dropped.
    let _lock = Lock::take(path)?;
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(failed("look at its path")(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(BindError::NotASocket {
                path: path.to_owned(),
            });
        }
        Ok(_) => {
            if is_live(&address).map_err(failed("see whether anybody listens on it"))? {
                return Err(BindError::InUse {
                    path: path.to_owned(),
                });
            }
            fs::remove_file(path).map_err(failed("remove the stale socket"))?;
        }
    }
    open(path, &address, mode)
}

/// Makes a socket where there is nothing.
fn open(path: &Path, address: &SockAddr, mode: u32) -> Result<Listener, BindError> {
    let failed = |step| {
        move |source| BindError::Unix {
            path: path.to_owned(),
            step,
            source,
        }
    };
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed("make a socket"))?;
    socket.bind(address).map_err(failed("bind it"))?;
    let file = SocketFile::new(path, mode).map_err(failed("look at the new socket"))?;
    // Nobody can connect before `listen`, so the mode is never wider than asked.
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed("set its mode"))?;
    socket
        .listen(limits::LISTEN_BACKLOG)
        .map_err(failed("listen on it"))?;
    let listener =
        Listener::from_unix(OwnedFd::from(socket).into()).map_err(failed("set it up"))?;
    let address = Address::Unix(path.to_owned());
    Ok(Listener {
        file: Some(file),
        address,
        ..listener
    })
}

/// A lock file beside a socket, which only this user can open, and so lock. It is removed by
/// whoever holds the lock.
struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    fn take(socket: &Path) -> Result<Lock, BindError> {
        let failed = |source| BindError::Unix {
            path: socket.to_owned(),
            step: "lock it with a file beside it",
            source,
        };
        let mut path = socket.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        let deadline = Instant::now() + limits::SOCKET_LOCK_TIMEOUT;
        loop {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(false).mode(0o600);
            let file = options.open(&path).map_err(failed)?;
            match file.try_lock() {
                // Whoever held it before may have removed what we have opened.
                Ok(()) if is_at(&path, identity(&file.metadata().map_err(failed)?)) => {
                    return Ok(Lock { path, _file: file });
                }
                Ok(()) | Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            if Instant::now() >= deadline {
                return Err(BindError::Locked { lock: path });
            }
            thread::sleep(limits::SOCKET_LOCK_PAUSE);
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // What is left behind is taken by the next start.
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether a process listens on a Unix socket; never waits for it.
fn is_live(address: &SockAddr) -> io::Result<bool> {
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(address) {
        Ok(()) => Ok(true),
        // It has more waiting clients than it allows.
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(true),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(false),
        Err(error) => Err(error),
    }
}

/// The file of a Unix socket, known by what it is and not only by its name.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
    mode: u32,
}

impl SocketFile {
    fn new(path: &Path, mode: u32) -> io::Result<SocketFile> {
        let identity = identity(&fs::symlink_metadata(path)?);
        // A change of folder must not lead to another file.
        let path = std::path::absolute(path)?;
        Ok(SocketFile {
            path,
            identity,
            mode,
        })
    }

    /// Whether a path leads to it.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        is_at(path, self.identity)
    }

    /// A socket in the place of this one, if its file has been removed. It takes no lock, which
    /// could wait, and nobody's place: what has been put there meanwhile stays.
    pub(super) fn open_again(&self) -> Option<Result<Listener, BindError>> {
        match fs::symlink_metadata(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            _ => return None,
        }
        let too_long = |_| BindError::PathTooLong {
            path: self.path.clone(),
        };
        let address = SockAddr::unix(&self.path).map_err(too_long);
        Some(address.and_then(|address| open(&self.path, &address, self.mode)))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if is_at(&self.path, self.identity) {
            // What is left behind is taken over by the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn is_at(path: &Path, known: (u64, u64)) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| identity(&found) == known)
}

/// Device and inode.
fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}
