//! TCP and Unix sockets behind one type: their addresses, how they are bound without taking
//! another process's place, and streams that the event loop need not tell apart.

mod address;
mod bind;

use std::env;
use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::process;

use listenfd::ListenFd;
use mio::event::Source;
use mio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use rustix::net::sockopt::socket_acceptconn;
use socket2::SockRef;

pub use self::address::{Address, AddressError};
pub use self::bind::BindError;
use self::bind::SocketFile;
use crate::limits;

/// A socket that accepts clients, never blocking. The file of a Unix socket that it has bound is
/// removed when it is dropped, unless another one has taken its place.
#[derive(Debug)]
pub struct Listener {
    // Before the socket: the file goes while it is still live, so that no other process can find
    // it stale and put a new one there that would then be removed.
    file: Option<SocketFile>,
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
            Address::Tcp(address) => bind::bind_every(address),
            Address::Unix(path) => Ok(vec![bind::bind_unix(path, mode)?]),
        }
    }

    /// The sockets that a service manager has opened and passed on (sd_listen_fds(3)); none
    /// without one. They stay open when this process ends.
    pub fn inherited() -> io::Result<Vec<Listener>> {
        refuse_too_many()?;
        let mut passed = ListenFd::from_env();
        let mut listeners = Vec::with_capacity(passed.len());
        let other = |error: io::Error| {
            let hint = "a socket unit must have ListenStream= and Accept=no";
            let what = format!("systemd has passed something else: {error}; {hint}");
            io::Error::new(error.kind(), what)
        };
        // One that does not listen, such as the connection of a client, would never accept anybody.
        let listens = |socket: BorrowedFd<'_>| match socket_acceptconn(socket)? {
            true => Ok(()),
            false => Err(other(io::Error::other("a socket that does not listen"))),
        };
        for index in 0..passed.len() {
            let listener = match passed.take_unix_listener(index) {
                Ok(unix) => unix.map(|unix| {
                    listens(unix.as_fd())?;
                    Listener::from_unix(unix)
                }),
                Err(_) => passed.take_tcp_listener(index).map_err(other)?.map(|tcp| {
                    listens(tcp.as_fd())?;
                    Listener::from_tcp(tcp)
                }),
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
            file: None,
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
            file: None,
            socket,
            address,
            inherited: false,
        })
    }

    /// The next client; [`io::ErrorKind::WouldBlock`] when there is none. A TCP stream sends small
    /// answers at once (TCP_NODELAY).
    pub fn accept(&self) -> io::Result<Stream> {
        match &self.socket {
            ListeningSocket::Tcp(listener) => Ok(Stream::Tcp(listener.accept()?.0)),
            ListeningSocket::Unix(listener) => Ok(Stream::Unix(listener.accept()?.0)),
        }
    }

    /// Takes the place of a Unix socket that somebody has removed under it: the new one, which is
    /// not registered yet, or why it can't be made. `None` if there is nothing to do.
    pub fn restore(&mut self) -> Option<Result<(), BindError>> {
        let restored = self.file.as_ref()?.open_again()?;
        Some(restored.map(|listener| {
            let address = self.address.clone();
            *self = Listener {
                address,
                ..listener
            };
        }))
    }

    /// Whether it has bound a Unix socket, whose file others may remove.
    pub fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// Whether an address can't be listened on because this listener is there already.
    pub fn has_taken(&self, error: &BindError) -> bool {
        match (error, &self.address) {
            (BindError::Tcp { address, source }, Address::Tcp(ours)) => {
                let ours = ours.parse::<SocketAddr>();
                source.kind() == io::ErrorKind::AddrInUse
                    && ours.is_ok_and(|ours| ours.port() == address.port())
            }
            (BindError::InUse { path }, Address::Unix(_)) => {
                self.file.as_ref().is_some_and(|file| file.is_at(path))
            }
            _ => false,
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

/// The sockets are gone through one by one: a number that can't be meant would take gigabytes.
fn refuse_too_many() -> io::Result<()> {
    let number = |name| env::var(name).ok()?.parse::<u64>().ok();
    let is_for_us = number("LISTEN_PID").is_none_or(|pid| pid == u64::from(process::id()));
    let most = limits::LISTENERS_MAX;
    match number("LISTEN_FDS").filter(|_| is_for_us) {
        Some(count) if count > most as u64 => Err(io::Error::other(format!(
            "LISTEN_FDS says that systemd has passed {count} sockets, and at most {most} are \
             listened on; give the socket unit fewer ListenStream= lines, or unset LISTEN_FDS"
        ))),
        _ => Ok(()),
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

#[cfg(test)]
mod tests;
