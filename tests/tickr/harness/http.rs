//! A client that speaks bytes, over TCP and Unix sockets, and trusts no answer.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::Value;

/// No answer takes longer than this, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(40);
/// A `Date` has whole seconds, and is made before the answer leaves.
const DATE_TOLERANCE: Duration = Duration::from_secs(2);

/// The content type of `/metrics`, and of nothing else.
pub(crate) const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The two kinds of socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Tcp,
    Unix,
}

/// Does the same with both kinds of socket.
pub(crate) fn for_both(mut test: impl FnMut(Kind)) {
    for kind in [Kind::Tcp, Kind::Unix] {
        test(kind);
    }
}

/// A plain request.
pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: tickr\r\n\r\n")
}

/// One connection to the server.
pub(crate) struct Client {
    stream: Stream,
    /// Bytes behind the last answer that was read.
    input: Vec<u8>,
    sent_at: SystemTime,
}

/// An answer that has kept all the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Client {
    pub(crate) fn tcp(address: SocketAddr) -> io::Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Client::new(Stream::Tcp(stream))
    }

    pub(crate) fn unix(path: &Path) -> io::Result<Client> {
        Client::new(Stream::Unix(UnixStream::connect(path)?))
    }

    fn new(stream: Stream) -> io::Result<Client> {
        match &stream {
            Stream::Tcp(stream) => stream.set_read_timeout(Some(PATIENCE))?,
            Stream::Unix(stream) => stream.set_read_timeout(Some(PATIENCE))?,
        }
        Ok(Client {
            stream,
            input: Vec::new(),
            sent_at: SystemTime::now(),
        })
    }

    /// The same connection, to write from another thread.
    pub(crate) fn writer(&self) -> Client {
        let stream = match &self.stream {
            Stream::Tcp(stream) => stream.try_clone().map(Stream::Tcp),
            Stream::Unix(stream) => stream.try_clone().map(Stream::Unix),
        };
        let stream = stream.expect("a socket can be cloned");
        Client::new(stream).expect("a socket has options")
    }

    /// Sends bytes.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes.as_ref()).expect("the server reads on");
    }

    /// Sends bytes, if the other side takes them.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sent_at = SystemTime::now();
        match &mut self.stream {
            Stream::Tcp(stream) => stream.write_all(bytes),
            Stream::Unix(stream) => stream.write_all(bytes),
        }
    }

    /// Sends until the socket takes nothing for as long as `patience`; returns how much it took.
    pub(crate) fn send_until_full(&mut self, bytes: &[u8], patience: Duration) -> usize {
        self.set_write_timeout(Some(patience));
        let mut taken = 0;
        while taken < bytes.len() {
            let written = match &mut self.stream {
                Stream::Tcp(stream) => stream.write(&bytes[taken..]),
                Stream::Unix(stream) => stream.write(&bytes[taken..]),
            };
            match written {
                Ok(count) => taken += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => panic!("the server does not read on: {error}"),
            }
        }
        self.set_write_timeout(None);
        taken
    }

    fn set_write_timeout(&self, timeout: Option<Duration>) {
        let done = match &self.stream {
            Stream::Tcp(stream) => stream.set_write_timeout(timeout),
            Stream::Unix(stream) => stream.set_write_timeout(timeout),
        };
        done.expect("a socket has options");
    }

    /// Sends one request without a body, `METHOD target VERSION`, and reads its answer.
    pub(crate) fn ask(&mut self, line: &str) -> Response {
        self.send(format!("{line}\r\nHost: tickr\r\n\r\n"));
        match line.starts_with("HEAD ") {
            true => self.read_head(),
            false => self.read_response(),
        }
    }

    /// Says that nothing more will be sent.
    pub(crate) fn finish(&self) {
        let done = match &self.stream {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
        done.expect("the connection is open");
    }

    /// Reads an answer with its body.
    pub(crate) fn read_response(&mut self) -> Response {
        let mut response = self.read_head();
        let length = response.content_length();
        while self.input.len() < length {
            assert!(self.fill() > 0, "the body is cut off: {response:?}");
        }
        response.body = self.input.drain(..length).collect();
        response.check_body();
        response
    }

    /// Reads the answer to a `HEAD` request: as it would be, without the body.
    pub(crate) fn read_head(&mut self) -> Response {
        let head = self.read_until_empty_line();
        let response = Response::parse(&head);
        response.check_head(self.sent_at);
        response
    }

    /// Reads `100 Continue`, which has no fields at all.
    pub(crate) fn read_continue(&mut self) {
        let head = self.read_until_empty_line();
        assert_eq!(head, "HTTP/1.1 100 Continue\r\n\r\n");
    }

    /// Reads the last answer: the server says so, sends nothing after it, and closes.
    pub(crate) fn read_last_response(&mut self) -> Response {
        let response = self.read_response();
        assert_eq!(response.header("connection"), Some("close"), "{response:?}");
        self.check_closed();
        response
    }

    /// The server has closed the connection, and sent nothing before that.
    pub(crate) fn check_closed(&mut self) {
        let left = match self.input.is_empty() {
            true => self.fill(),
            false => self.input.len(),
        };
        assert_eq!(left, 0, "{}", String::from_utf8_lossy(&self.input));
    }

    /// Waits for the first byte of an answer; an error or the end of the connection is `None`.
    pub(crate) fn has_answer(&mut self) -> Option<()> {
        while self.input.is_empty() {
            if self.try_fill().ok()? == 0 {
                return None;
            }
        }
        Some(())
    }

    fn read_until_empty_line(&mut self) -> String {
        let mut seen = 0;
        loop {
            let from = seen;
            if let Some(at) = self.input[from..].windows(4).position(|w| w == b"\r\n\r\n") {
                let head = self.input.drain(..from + at + 4).collect();
                return String::from_utf8(head).expect("a head is ASCII");
            }
            seen = self.input.len().saturating_sub(3);
            let so_far = String::from_utf8_lossy(&self.input).into_owned();
            assert!(self.fill() > 0, "closed without an answer: {so_far:?}");
        }
    }

    fn fill(&mut self) -> usize {
        let read = self.try_fill();
        read.unwrap_or_else(|error| panic!("the connection breaks: {error}"))
    }

    fn try_fill(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 16 * 1024];
        let count = loop {
            let read = match &mut self.stream {
                Stream::Tcp(stream) => stream.read(&mut buffer),
                Stream::Unix(stream) => stream.read(&mut buffer),
            };
            match read {
                // A machine that is suspended and continued does that (signal(7)).
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.input.extend_from_slice(&buffer[..count]);
        Ok(count)
    }
}

impl Response {
    /// The value of a field.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(field, _)| field == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body is UTF-8")
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a body is JSON")
    }

    /// The tickets in the body, in whatever format.
    pub(crate) fn tickets(&self) -> Vec<u64> {
        assert_eq!(self.status, 200, "{}", self.text());
        match self.json() {
            Value::Array(tickets) => {
                let number = |ticket: &Value| match ticket {
                    Value::String(digits) => digits.parse().ok(),
                    ticket => ticket.as_u64(),
                };
                let numbers = tickets.iter().map(number);
                numbers.collect::<Option<_>>().expect("tickets are numbers")
            }
            range => {
                let key = |key: &str| range[key].as_u64().expect("a range has three numbers");
                let (first, increment) = (key("first"), key("increment"));
                (0..key("count")).map(|n| first + n * increment).collect()
            }
        }
    }

    fn content_length(&self) -> usize {
        let length = self.header("content-length").expect("the length is told");
        length.parse().expect("the length is a number")
    }

    fn parse(head: &str) -> Response {
        let mut lines = head.trim_end_matches("\r\n").split("\r\n");
        let status_line = lines.next().unwrap_or_default();
        let (version, rest) = status_line.split_once(' ').expect("a status line");
        let (status, reason) = rest.split_once(' ').expect("a status line");
        assert_eq!(version, "HTTP/1.1");
        assert!(!reason.is_empty() && !reason.contains(|c: char| c.is_control()));
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(": ").expect("a field line");
            assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
            assert!(!value.is_empty() && value == value.trim(), "{line:?}");
            assert!(value.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            (name.to_ascii_lowercase(), value.to_owned())
        });
        Response {
            status: status.parse().expect("a status code"),
            headers: headers.collect(),
            body: Vec::new(),
        }
    }

    /// What holds for every answer.
    fn check_head(&self, sent_at: SystemTime) {
        let mut names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
        assert_eq!(self.header("cache-control"), Some("no-store"), "{self:?}");
        assert_eq!(self.header("transfer-encoding"), None);
        self.content_length();
        let date = self.header("date").expect("every answer has a date");
        let date = httpdate::parse_http_date(date).expect("it is an HTTP date");
        let oldest = sent_at - DATE_TOLERANCE;
        assert!((oldest..=SystemTime::now()).contains(&date), "{self:?}");
        let content_types: &[&str] = match self.status {
            200 => &["application/json", METRICS],
            _ => &["application/problem+json"],
        };
        match self.header("content-type") {
            Some(content_type) => assert!(content_types.contains(&content_type), "{self:?}"),
            None => assert_eq!(self.content_length(), 0, "{self:?}"),
        }
        for (field, status) in [("retry-after", 503), ("www-authenticate", 401)] {
            let expected = self.status == status;
            assert_eq!(self.header(field).is_some(), expected, "{field}: {self:?}");
        }
        assert!(self.status != 405 || self.header("allow").is_some());
    }

    /// An error is a problem as RFC 9457 has it.
    fn check_body(&self) {
        if self.status == 200 {
            return;
        }
        let problem = self.json();
        assert_eq!(problem["type"], "about:blank", "{problem}");
        assert_eq!(problem["status"], self.status, "{problem}");
        for key in ["title", "detail"] {
            let text = problem[key].as_str().unwrap_or_default();
            assert!(!text.is_empty(), "{problem}");
        }
    }
}
