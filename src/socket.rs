//! TCP and Unix sockets behind one type: their addresses, how they are bound without taking
//! another process's place, and streams that the event loop need not tell apart.

use std::fmt;
use std::fs::{self, File, Metadata, Permissions, TryLockError};
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::thread;
use std::time::Instant;

use listenfd::ListenFd;
use mio::event::Source;
use mio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use crate::limits;

/// Where to listen: `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080` or `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `HOST:PORT` as it was given; resolved when it is bound. Port 0 lets the kernel choose.
    Tcp(String),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err(AddressError::NoPath),
                path => Ok(Address::Unix(PathBuf::from(path))),
            };
        }
        let (host, port) = text.rsplit_once(':').ok_or(AddressError::NoPort)?;
        let is_port = port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
        let is_name = |host: &str| {
            let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
            !host.is_empty() && host.bytes().all(is_of_name)
        };
        if host.starts_with('[') {
            if is_port && text.parse::<SocketAddr>().is_err() {
                return Err(AddressError::Host);
            }
        } else if !is_name(host) {
            return Err(AddressError::Host);
        }
        if !is_port {
            return Err(AddressError::Port);
        }
        Ok(Address::Tcp(text.to_owned()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => f.write_str(address),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why a text is not an [`Address`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressError {
    /// No host, one that can't be, or an IPv6 address without brackets.
    Host,
    /// No port.
    NoPort,
    /// The port is not a number from 0 to 65535.
    Port,
    /// `unix:` without a path.
    NoPath,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AddressError::Host => {
                "its host should be a name, an IPv4 address, or an IPv6 address in brackets \
                 (0.0.0.0 or [::] for every interface)"
            }
            AddressError::NoPort => "it names no port (nor is it unix:PATH)",
            AddressError::Port => "its port should be a number from 0 to 65535",
            AddressError::NoPath => "it names no path after unix:",
        })
    }
}

impl std::error::Error for AddressError {}

/// A socket that accepts clients, never blocking. The file of a Unix socket that it has bound is
/// removed when it is dropped, unless another one has taken its place.
#[derive(Debug)]
pub struct Listener {
    // Before the socket: the file goes while it is still live, so that no other process can find
    // it stale and put a new one there that would then be removed.
    _file: Option<SocketFile>,
    socket: ListeningSocket,
    address: Address,
    inherited: bool,
}

#[derive(Debug)]
enum ListeningSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Binds and listens: one listener for a Unix socket, and one for every IP address that a
    /// TCP host name stands for (two for a `localhost` that is both 127.0.0.1 and ::1). `mode` is
    /// that of the Unix socket's file.
    pub fn bind(address: &Address, mode: u32) -> Result<Vec<Listener>, BindError> {
        match address {
            Address::Tcp(address) => bind_every(address),
            Address::Unix(path) => Ok(vec![bind_unix(path, mode)?]),
        }
    }

    /// The sockets that a service manager has opened and passed on (sd_listen_fds(3)); none
    /// without one. They stay open when this process ends.
    pub fn inherited() -> io::Result<Vec<Listener>> {
        let mut passed = ListenFd::from_env();
        let mut listeners = Vec::with_capacity(passed.len());
        for index in 0..passed.len() {
            let listener = match passed.take_unix_listener(index) {
                Ok(unix) => unix.map(Listener::from_unix),
                Err(_) => passed
                    .take_tcp_listener(index)
                    .map_err(|error| {
                        let hint = "a socket unit must have ListenStream= and Accept=no";
                        let what = format!("systemd has passed something else: {error}; {hint}");
                        io::Error::new(error.kind(), what)
                    })?
                    .map(Listener::from_tcp),
            };
            if let Some(listener) = listener {
                listeners.push(Listener {
                    inherited: true,
                    ..listener?
                });
            }
        }
        Ok(listeners)
    }

    /// Serves a TCP socket that somebody else has bound, such as a service manager.
    pub fn from_tcp(listener: std::net::TcpListener) -> io::Result<Listener> {
        listener.set_nonblocking(true)?;
        // Accepted sockets inherit both, which saves system calls for each.
        SockRef::from(&listener).set_tcp_nodelay(true)?;
        SockRef::from(&listener).set_send_buffer_size(limits::SEND_BUFFER_BYTES)?;
        let address = Address::Tcp(listener.local_addr()?.to_string());
        let socket = ListeningSocket::Tcp(TcpListener::from_std(listener));
        Ok(Listener {
            _file: None,
            socket,
            address,
            inherited: false,
        })
    }

    /// Serves a Unix socket that somebody else has bound; its file is left alone.
    pub fn from_unix(listener: std::os::unix::net::UnixListener) -> io::Result<Listener> {
        listener.set_nonblocking(true)?;
        let local = listener.local_addr()?;
        let address = Address::Unix(local.as_pathname().unwrap_or(Path::new("")).to_owned());
        let socket = ListeningSocket::Unix(UnixListener::from_std(listener));
        Ok(Listener {
            _file: None,
            socket,
            address,
            inherited: false,
        })
    }

    /// The next client; [`ErrorKind::WouldBlock`] when there is none. A TCP stream sends small
    /// answers at once (TCP_NODELAY).
    pub fn accept(&self) -> io::Result<Stream> {
        match &self.socket {
            ListeningSocket::Tcp(listener) => Ok(Stream::Tcp(listener.accept()?.0)),
            ListeningSocket::Unix(listener) => Ok(Stream::Unix(listener.accept()?.0)),
        }
    }

    /// Where it listens, with the port that the kernel chose when it was asked for port 0.
    pub fn local_address(&self) -> Address {
        self.address.clone()
    }

    /// Whether the socket stays open when this process ends.
    pub fn is_inherited(&self) -> bool {
        self.inherited
    }

    /// `tcp` or `unix`.
    pub fn kind(&self) -> &'static str {
        match self.socket {
            ListeningSocket::Tcp(_) => "tcp",
            ListeningSocket::Unix(_) => "unix",
        }
    }

    fn source(&mut self) -> &mut dyn Source {
        match &mut self.socket {
            ListeningSocket::Tcp(listener) => listener,
            ListeningSocket::Unix(listener) => listener,
        }
    }
}

impl Source for Listener {
    fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        self.source().register(registry, token, interest)
    }

    fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        self.source().reregister(registry, token, interest)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.source().deregister(registry)
    }
}

/// One client's connection, never blocking.
#[derive(Debug)]
pub enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

impl Stream {
    /// `tcp` or `unix`.
    pub fn kind(&self) -> &'static str {
        match self {
            Stream::Tcp(_) => "tcp",
            Stream::Unix(_) => "unix",
        }
    }

    /// Says to the client that nothing more will be written; its bytes can still be read.
    pub fn shutdown_write(&self) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }

    fn source(&mut self) -> &mut dyn Source {
        match self {
            Stream::Tcp(stream) => stream,
            Stream::Unix(stream) => stream,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write_vectored(slices),
            Stream::Unix(stream) => stream.write_vectored(slices),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Source for Stream {
    fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        self.source().register(registry, token, interest)
    }

    fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        self.source().reregister(registry, token, interest)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.source().deregister(registry)
    }
}

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
    /// Another process has locked the folder of the Unix socket for too long.
    Locked {
        /// The folder.
        folder: PathBuf,
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
                "cannot listen on unix:{}: its path has {} bytes, and the system allows about 100; \
                 choose a shorter one",
                path.display(),
                path.as_os_str().len()
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
            BindError::Locked { folder } => write!(
                f,
                "cannot listen on a Unix socket in {}: another process has held a lock on that \
                 folder for {:?}; start again when it is done, or choose another folder",
                folder.display(),
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
fn bind_every(address: &str) -> Result<Vec<Listener>, BindError> {
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
fn bind_unix(path: &Path, mode: u32) -> Result<Listener, BindError> {
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
    let _lock = lock_folder(path)?;
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
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed("make a socket"))?;
    socket.bind(&address).map_err(failed("bind it"))?;
    let file = SocketFile::new(path).map_err(failed("look at the new socket"))?;
    // Nobody can connect before `listen`, so the mode is never wider than asked.
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed("set its mode"))?;
    socket
        .listen(limits::LISTEN_BACKLOG)
        .map_err(failed("listen on it"))?;
    let listener =
        Listener::from_unix(OwnedFd::from(socket).into()).map_err(failed("set it up"))?;
    let address = Address::Unix(path.to_owned());
    Ok(Listener {
        _file: Some(file),
        address,
        ..listener
    })
}

/// An advisory lock on the folder of a path, so that no lock file is left behind.
fn lock_folder(path: &Path) -> Result<File, BindError> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let failed = |source| BindError::Unix {
        path: path.to_owned(),
        step: "lock its folder",
        source,
    };
    let lock = File::open(folder).map_err(failed)?;
    let deadline = Instant::now() + limits::SOCKET_LOCK_TIMEOUT;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                return Err(BindError::Locked {
                    folder: folder.to_owned(),
                });
            }
            Err(TryLockError::WouldBlock) => thread::sleep(limits::SOCKET_LOCK_PAUSE),
        }
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
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<SocketFile> {
        let identity = identity(&fs::symlink_metadata(path)?);
        // A change of folder must not lead to another file.
        let path = std::path::absolute(path)?;
        Ok(SocketFile { path, identity })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let found = fs::symlink_metadata(&self.path);
        if found.is_ok_and(|found| identity(&found) == self.identity) {
            // What is left behind is taken over by the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Device and inode.
fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::{Events, Poll};
    use std::net::TcpStream as TcpClient;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixStream as UnixClient;
    use std::sync::Barrier;
    use std::time::Duration;
    use tempfile::TempDir;

    const MODE: u32 = 0o660;

    fn folder() -> TempDir {
        tempfile::tempdir().unwrap()
    }

    fn bind(path: &Path) -> Result<Listener, BindError> {
        let mut listeners = Listener::bind(&Address::Unix(path.to_owned()), MODE)?;
        assert_eq!(listeners.len(), 1);
        Ok(listeners.remove(0))
    }

    fn bind_tcp(text: &str) -> (Listener, SocketAddr) {
        let mut listeners = Listener::bind(&text.parse().unwrap(), MODE).unwrap();
        let listener = listeners.remove(0);
        let address = listener.local_address().to_string().parse().unwrap();
        (listener, address)
    }

    /// A socket file whose process is gone.
    fn leave_stale(path: &Path) {
        drop(std::os::unix::net::UnixListener::bind(path).unwrap());
        assert!(path.exists());
    }

    /// Waits for the event loop to hear of a client, then sends bytes both ways.
    fn serve(mut listener: Listener, mut client: impl Read + Write) {
        let mut poll = Poll::new().unwrap();
        let mut events = Events::with_capacity(8);
        let timeout = Some(Duration::from_secs(10));
        let registry = poll.registry();
        registry
            .register(&mut listener, Token(1), Interest::READABLE)
            .unwrap();
        poll.poll(&mut events, timeout).unwrap();
        assert_eq!(
            events.iter().next().map(|event| event.token()),
            Some(Token(1))
        );
        let mut stream = listener.accept().unwrap();
        assert_eq!(stream.kind(), listener.kind());
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(
            stream.read(&mut [0; 9]).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );

        poll.registry()
            .register(&mut stream, Token(2), Interest::READABLE)
            .unwrap();
        client.write_all(b"question").unwrap();
        poll.poll(&mut events, timeout).unwrap();
        assert_eq!(
            events.iter().next().map(|event| event.token()),
            Some(Token(2))
        );
        let mut question = [0; 9];
        assert_eq!(stream.read(&mut question).unwrap(), 8);
        assert_eq!(&question, b"question\0");
        stream.write_all(b"answer").unwrap();
        stream.shutdown_write().unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "answer");
        poll.registry().deregister(&mut stream).unwrap();
        poll.registry().deregister(&mut listener).unwrap();
    }

    #[test]
    fn reads_addresses_as_they_are_written() {
        for text in [
            "127.0.0.1:8080",
            "[::1]:8080",
            "[::]:0",
            "localhost:65535",
            "a-b_c.d:1",
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address, Address::Tcp(text.to_owned()));
            assert_eq!(address.to_string(), text);
        }
        for path in ["/run/tickr.sock", "tickr.sock", "/with:colon"] {
            let text = format!("unix:{path}");
            let address: Address = text.parse().unwrap();
            assert_eq!(address, Address::Unix(path.into()));
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn refuses_what_is_no_address() {
        for (text, error) in [
            ("", AddressError::NoPort),
            ("localhost", AddressError::NoPort),
            ("/run/tickr.sock", AddressError::NoPort),
            (":8080", AddressError::Host),
            ("::1:8080", AddressError::Host),
            ("[::1:8080", AddressError::Host),
            ("[localhost]:8080", AddressError::Host),
            ("http://localhost:8080", AddressError::Host),
            ("local host:8080", AddressError::Host),
            ("localhost:", AddressError::Port),
            ("localhost:+80", AddressError::Port),
            ("localhost:65536", AddressError::Port),
            ("[::1]:http", AddressError::Port),
            ("unix:", AddressError::NoPath),
        ] {
            assert_eq!(text.parse::<Address>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn serves_tcp() {
        let (listener, address) = bind_tcp("127.0.0.1:0");
        assert_ne!(address.port(), 0);
        assert_eq!(listener.kind(), "tcp");
        serve(listener, TcpClient::connect(address).unwrap());
        TcpClient::connect(address).unwrap_err();
    }

    #[test]
    fn small_answers_over_tcp_are_sent_at_once_and_large_ones_take_bounded_memory() {
        let (listener, address) = bind_tcp("127.0.0.1:0");
        let _client = TcpClient::connect(address).unwrap();
        let Stream::Tcp(stream) = listener.accept().unwrap() else {
            panic!("a TCP listener accepts TCP streams");
        };
        assert!(stream.nodelay().unwrap());
        let buffer = SockRef::from(&stream).send_buffer_size().unwrap();
        assert_eq!(buffer, 2 * limits::SEND_BUFFER_BYTES);
    }

    #[test]
    fn many_tcp_clients_may_wait_to_be_accepted() {
        let (_listener, address) = bind_tcp("127.0.0.1:0");
        let connect = || TcpClient::connect_timeout(&address, Duration::from_millis(900));
        let clients: Result<Vec<TcpClient>, _> = (0..400).map(|_| connect()).collect();
        assert_eq!(clients.unwrap().len(), 400);
    }

    #[test]
    fn serves_every_address_of_a_name() {
        let addresses: Vec<SocketAddr> = "localhost:0".to_socket_addrs().unwrap().collect();
        let listeners = Listener::bind(&Address::Tcp("localhost:0".into()), MODE).unwrap();
        for listener in &listeners {
            let address: SocketAddr = listener.local_address().to_string().parse().unwrap();
            assert!(addresses.iter().any(|known| known.ip() == address.ip()));
            TcpClient::connect(address).unwrap();
        }
        assert!(!listeners.is_empty());
    }

    #[test]
    fn says_why_a_tcp_address_does_not_work() {
        let (_listener, address) = bind_tcp("127.0.0.1:0");
        let error = Listener::bind(&Address::Tcp(address.to_string()), MODE).unwrap_err();
        assert!(error.to_string().contains("choose another port"), "{error}");
        let error = Listener::bind(&Address::Tcp("192.0.2.1:0".into()), MODE).unwrap_err();
        assert!(
            error.to_string().contains("no address of this machine"),
            "{error}"
        );
        // Longer than a label may be (RFC 1035, section 2.3.4), so that no name server is asked.
        let nowhere = format!("{}:0", "x".repeat(64));
        let error = Listener::bind(&Address::Tcp(nowhere), MODE).unwrap_err();
        assert!(matches!(error, BindError::Resolve { .. }), "{error}");
    }

    #[test]
    fn serves_a_unix_socket_of_the_given_mode_and_removes_it() {
        let folder = folder();
        let path = folder.path().join("tickr.sock");
        for mode in [0o600, 0o666] {
            let address = Address::Unix(path.clone());
            let listener = Listener::bind(&address, mode).unwrap().remove(0);
            assert_eq!(listener.local_address(), address);
            assert_eq!(listener.kind(), "unix");
            let metadata = fs::symlink_metadata(&path).unwrap();
            assert_eq!(metadata.permissions().mode() & 0o7777, mode);
            serve(listener, UnixClient::connect(&path).unwrap());
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn takes_the_place_of_a_stale_socket_only() {
        let folder = folder();
        let path = folder.path().join("tickr.sock");
        leave_stale(&path);
        let first = bind(&path).unwrap();
        let error = bind(&path).unwrap_err();
        assert!(matches!(error, BindError::InUse { .. }), "{error}");
        // The failed attempt has left it alone.
        serve_one(&first, &path);
        drop(first);
        drop(bind(&path).unwrap());
    }

    fn serve_one(listener: &Listener, path: &Path) {
        // The attempt to bind has also knocked.
        let _client = UnixClient::connect(path).unwrap();
        assert!(listener.accept().is_ok());
    }

    #[test]
    fn a_full_socket_is_live() {
        let folder = folder();
        let path = folder.path().join("tickr.sock");
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        socket.listen(0).unwrap();
        let mut clients = Vec::new();
        loop {
            let client = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            client.set_nonblocking(true).unwrap();
            match client.connect(&SockAddr::unix(&path).unwrap()) {
                Ok(()) => clients.push(client),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    break;
                }
            }
        }
        let error = bind(&path).unwrap_err();
        assert!(matches!(error, BindError::InUse { .. }), "{error}");
        assert!(path.exists());
    }

    #[test]
    fn leaves_alone_what_is_not_a_socket() {
        let folder = folder();
        let path = folder.path().join("tickr.sock");
        let target = folder.path().join("target");
        type Make<'a> = &'a dyn Fn() -> io::Result<()>;
        let makes: [Make; 3] = [
            &|| fs::write(&path, "precious"),
            &|| fs::create_dir(&path),
            &|| symlink(&target, &path),
        ];
        for make in makes {
            make().unwrap();
            let error = bind(&path).unwrap_err();
            assert!(matches!(error, BindError::NotASocket { .. }), "{error}");
            fs::symlink_metadata(&path).unwrap();
            fs::remove_file(&path)
                .or_else(|_| fs::remove_dir(&path))
                .unwrap();
        }
    }

    #[test]
    fn removes_no_socket_that_has_taken_its_place() {
        let folder = folder();
        let path = folder.path().join("tickr.sock");
        let first = bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let second = bind(&path).unwrap();
        drop(first);
        UnixClient::connect(&path).unwrap();
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn a_socket_that_was_handed_over_keeps_its_file() {
        let folder = folder();
        let path = folder.path().join("tickr.sock");
        let inherited = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let listener = Listener::from_unix(inherited).unwrap();
        assert_eq!(listener.local_address(), Address::Unix(path.clone()));
        serve(listener, UnixClient::connect(&path).unwrap());
        assert!(path.exists());

        let inherited = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = inherited.local_addr().unwrap();
        let listener = Listener::from_tcp(inherited).unwrap();
        serve(listener, TcpClient::connect(address).unwrap());
    }

    #[test]
    fn says_why_a_path_does_not_work() {
        let folder = folder();
        let long = folder.path().join("x".repeat(108));
        let error = bind(&long).unwrap_err();
        assert!(matches!(error, BindError::PathTooLong { .. }), "{error}");
        let error = bind(&folder.path().join("missing/tickr.sock")).unwrap_err();
        assert!(matches!(error, BindError::Unix { .. }), "{error}");
        assert!(
            error.to_string().contains("check that the folder exists"),
            "{error}"
        );
    }

    #[test]
    fn does_not_wait_for_ever_for_the_folder() {
        let folder = folder();
        let lock = File::open(folder.path()).unwrap();
        lock.lock().unwrap();
        let path = folder.path().join("tickr.sock");
        let error = bind(&path).unwrap_err();
        assert!(matches!(error, BindError::Locked { .. }), "{error}");
        drop(lock);
        bind(&path).unwrap();
    }

    #[test]
    fn of_many_that_start_at_once_one_gets_the_socket() {
        const STARTERS: usize = 8;
        for _ in 0..100 {
            let folder = folder();
            let path = folder.path().join("tickr.sock");
            leave_stale(&path);
            let barrier = Barrier::new(STARTERS);
            let results: Vec<Result<Listener, BindError>> = thread::scope(|scope| {
                let start = || {
                    barrier.wait();
                    bind(&path)
                };
                let starters: Vec<_> = (0..STARTERS).map(|_| scope.spawn(start)).collect();
                starters
                    .into_iter()
                    .map(|starter| starter.join().unwrap())
                    .collect()
            });
            let (bound, refused): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
            assert_eq!(bound.len(), 1);
            for error in refused.into_iter().filter_map(Result::err) {
                assert!(matches!(error, BindError::InUse { .. }), "{error}");
            }
            UnixClient::connect(&path).unwrap();
        }
    }
}
