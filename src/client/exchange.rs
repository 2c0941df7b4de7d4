//! One request and its answer over a blocking socket, all within one deadline.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

pub(crate) use super::answer::Answer;
use super::answer::Reader;
use super::error::Failure;
use super::url::{Place, ServerUrl};
use crate::limits;

/// A connection that may be used for another request.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stream,
}

/// Sends `GET target` and reads the whole answer; the connection comes back when the server lets
/// it be used again. A connection that is given may have been closed by the server meanwhile, in
/// which case a new one is made.
pub(crate) fn get(
    server: &ServerUrl,
    target: &str,
    authorization: Option<&str>,
    deadline: Instant,
    idle: Option<Connection>,
) -> Result<(Answer, Option<Connection>), Failure> {
    let request = request(server, target, authorization);
    if let Some(connection) = idle {
        match exchange(connection, request.as_bytes(), deadline) {
            Err(Failure::Lost { .. }) => {}
            answered => return answered,
        }
    }
    let stream = Stream::connect(server.place(), deadline).map_err(|e| Failure::connecting(&e))?;
    exchange(Connection { stream }, request.as_bytes(), deadline)
}

fn request(server: &ServerUrl, target: &str, authorization: Option<&str>) -> String {
    let mut request = format!(
        "GET {target} HTTP/1.1\r\nHost: {}\r\nAccept: application/json\r\n",
        server.host()
    );
    if let Some(credentials) = authorization {
        request.push_str("Authorization: ");
        request.push_str(credentials);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    request
}

fn exchange(
    mut connection: Connection,
    request: &[u8],
    deadline: Instant,
) -> Result<(Answer, Option<Connection>), Failure> {
    let stream = &mut connection.stream;
    stream
        .write_within(request, deadline)
        .map_err(|error| Failure::exchanging(&error))?;
    let mut reader = Reader::default();
    let mut buffer = [0; 4096];
    let answer = loop {
        let read = stream.read_within(&mut buffer, deadline);
        match read.and_then(|count| reader.push(&buffer[..count])) {
            Ok(None) => {}
            Ok(Some(answer)) => break answer,
            // What became of the explanation matters less than the status.
            Err(failure) => match reader.status() {
                None | Some(200) => return Err(failure),
                Some(status) => {
                    let detail = String::new();
                    return Err(Failure::Answered { status, detail });
                }
            },
        }
    };
    let reusable = answer.reusable;
    Ok((answer, reusable.then_some(connection)))
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn connect(place: &Place, deadline: Instant) -> io::Result<Stream> {
        match place {
            Place::Tcp { host, port } => connect_tcp(host, *port, deadline).map(Stream::Tcp),
            Place::Unix(path) => connect_unix(path, deadline).map(Stream::Unix),
        }
    }

    fn write_within(&mut self, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
        while !bytes.is_empty() {
            let timeout = Some(left(deadline)?);
            let written = match self {
                Stream::Tcp(stream) => {
                    stream.set_write_timeout(timeout)?;
                    stream.write(bytes)
                }
                Stream::Unix(stream) => {
                    stream.set_write_timeout(timeout)?;
                    stream.write(bytes)
                }
            };
            match written {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// What one read gives, at least one byte.
    fn read_within(&mut self, buffer: &mut [u8], deadline: Instant) -> Result<usize, Failure> {
        let mut read = || loop {
            let timeout = Some(left(deadline)?);
            let read = match self {
                Stream::Tcp(stream) => {
                    stream.set_read_timeout(timeout)?;
                    stream.read(buffer)
                }
                Stream::Unix(stream) => {
                    stream.set_read_timeout(timeout)?;
                    stream.read(buffer)
                }
            };
            match read {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => return other,
            }
        };
        match read() {
            Ok(0) => Err(Failure::Lost {
                reason: "end of stream".to_owned(),
            }),
            Ok(count) => Ok(count),
            Err(error) => Err(Failure::exchanging(&error)),
        }
    }
}

/// Tries the addresses of a host in the resolver's order; one that is silent leaves time for the
/// next.
fn connect_tcp(host: &str, port: u16, deadline: Instant) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(ErrorKind::NotFound, "the host name has no address");
    let addresses = addresses(host, port, deadline)?;
    for (index, address) in addresses.iter().enumerate() {
        let untried = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        match TcpStream::connect_timeout(address, left(deadline)? / untried) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// The resolver has time-outs of its own, longer than ours; a thread is left behind with them.
fn addresses(host: &str, port: u16, deadline: Instant) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let (sender, receiver) = mpsc::channel();
    let host = host.to_owned();
    let resolve = move || {
        let addresses = (host.as_str(), port).to_socket_addrs();
        let addresses = addresses.map(|all| all.take(limits::CLIENT_ADDRESSES_MAX).collect());
        // Nobody listens after the deadline.
        let _ = sender.send(addresses);
    };
    thread::Builder::new()
        .name("tickr-resolver".to_owned())
        .spawn(resolve)?;
    let resolved = receiver.recv_timeout(left(deadline)?);
    resolved.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}

/// A server that accepts nobody lets its clients wait in `connect`; the send time-out bounds that
/// (socket(7), `SO_SNDTIMEO`), and the standard library does not set it before connecting.
fn connect_unix(path: &Path, deadline: Instant) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_write_timeout(Some(left(deadline)?))?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(OwnedFd::from(socket).into())
}

fn left(deadline: Instant) -> io::Result<Duration> {
    match deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(ErrorKind::TimedOut.into()),
        left => Ok(left.max(Duration::from_millis(1))),
    }
}
