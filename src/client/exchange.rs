//! One request and its answer over a blocking socket, all within one deadline.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use super::error::Failure;
use super::url::{Place, ServerUrl};
use crate::limits;

/// An answer, whatever its status.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The body as JSON, or what the error that it describes comes to (RFC 9457).
    pub(crate) fn json(&self) -> Result<serde_json::Value, Failure> {
        let body = serde_json::from_slice(&self.body);
        if self.status == 200 {
            return body.map_err(|_| Failure::not_tickr("the body is not JSON"));
        }
        let detail = body.ok().and_then(|problem: serde_json::Value| {
            Some(problem.get("detail")?.as_str()?.to_owned())
        });
        Err(Failure::Answered {
            status: self.status,
            detail: detail.unwrap_or_else(|| "no reason given".to_owned()),
        })
    }
}

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
    timeout: Duration,
    idle: Option<Connection>,
) -> Result<(Answer, Option<Connection>), Failure> {
    let deadline = Instant::now() + timeout;
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
    let mut input = Vec::new();
    let head = loop {
        stream.read_within(&mut input, deadline)?;
        if let Some(head) = Head::parse(&input)? {
            break head;
        }
        if input.len() > limits::CLIENT_HEAD_BYTES_MAX {
            return Err(Failure::not_tickr("the head has no end"));
        }
    };
    let end = head.length + head.body_length;
    while input.len() < end {
        stream.read_within(&mut input, deadline)?;
    }
    let reusable = head.keep_alive && input.len() == end;
    let answer = Answer {
        status: head.status,
        body: input[head.length..end].to_vec(),
    };
    Ok((answer, reusable.then_some(connection)))
}

/// What the head of an answer says.
struct Head {
    /// Of the head itself, in bytes.
    length: usize,
    status: u16,
    body_length: usize,
    keep_alive: bool,
}

impl Head {
    /// `None` while the head is incomplete.
    fn parse(input: &[u8]) -> Result<Option<Head>, Failure> {
        let mut headers = [httparse::EMPTY_HEADER; limits::CLIENT_HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let length = match response.parse(input) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => return Err(Failure::not_tickr(format!("no HTTP/1 answer ({error})"))),
        };
        let mut head = Head {
            length,
            status: response.code.unwrap_or_default(),
            body_length: 0,
            keep_alive: response.version == Some(1),
        };
        let mut body_length = None;
        for header in response.headers.iter() {
            let value = header.value.trim_ascii();
            if header.name.eq_ignore_ascii_case("content-length") {
                let length = str::from_utf8(value)
                    .ok()
                    .and_then(|text| text.parse().ok());
                if length.is_none() || body_length.replace(length).is_some() {
                    return Err(Failure::not_tickr("no single valid Content-Length"));
                }
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                return Err(Failure::not_tickr("the body comes in chunks"));
            } else if header.name.eq_ignore_ascii_case("connection") {
                let mut tokens = value.split(|byte| *byte == b',');
                head.keep_alive &=
                    !tokens.any(|token| token.trim_ascii().eq_ignore_ascii_case(b"close"));
            }
        }
        match body_length.flatten() {
            Some(length) if length <= limits::CLIENT_BODY_BYTES_MAX => head.body_length = length,
            Some(_) => return Err(Failure::not_tickr("the body is too long")),
            None => return Err(Failure::not_tickr("there is no Content-Length")),
        }
        Ok(Some(head))
    }
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

    /// Appends what one read gives, at least one byte.
    fn read_within(&mut self, input: &mut Vec<u8>, deadline: Instant) -> Result<(), Failure> {
        let mut buffer = [0; 4096];
        let mut read = || loop {
            let timeout = Some(left(deadline)?);
            let read = match self {
                Stream::Tcp(stream) => {
                    stream.set_read_timeout(timeout)?;
                    stream.read(&mut buffer)
                }
                Stream::Unix(stream) => {
                    stream.set_read_timeout(timeout)?;
                    stream.read(&mut buffer)
                }
            };
            match read {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => return other,
            }
        };
        match read() {
            Ok(0) => Err(Failure::Lost {
                reason: "it ended before the answer did".to_owned(),
            }),
            Ok(count) => {
                input.extend_from_slice(&buffer[..count]);
                Ok(())
            }
            Err(error) => Err(Failure::exchanging(&error)),
        }
    }
}

/// Tries the addresses of a host in the resolver's order. The resolver has time-outs of its own.
fn connect_tcp(host: &str, port: u16, deadline: Instant) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(ErrorKind::NotFound, "the host has no address");
    let addresses = (host, port).to_socket_addrs()?;
    for address in addresses.take(limits::CLIENT_ADDRESSES_MAX) {
        match TcpStream::connect_timeout(&address, left(deadline)?) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
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
