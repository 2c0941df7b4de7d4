//! The clients of a hunt: they ask for singles and batches in every format, over TCP and Unix
//! sockets, alone and pipelined, and write down each ticket of each complete 200.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::str;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use tickr::ticket::Run;

use crate::random::Random;
use crate::record::{NodeRecord, Record};

const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// After a refusal, before asking again.
const PAUSE: Duration = Duration::from_millis(2);
const HEAD_BYTES_MAX: usize = 8 * 1024;
const BODY_BYTES_MAX: usize = 1 << 24;

/// Where one process of Tickr listens.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) address: Address,
    pub(crate) process: Arc<ProcessView>,
}

#[derive(Clone, Debug)]
pub(crate) enum Address {
    Tcp(u16),
    Unix(PathBuf),
}

/// What the clients of one process of Tickr, from its start to its end, know together.
#[derive(Debug)]
pub(crate) struct ProcessView {
    name: String,
    /// The highest ticket in an answer that has been read.
    high: AtomicU64,
}

impl ProcessView {
    pub(crate) fn new(name: &str) -> ProcessView {
        ProcessView {
            name: name.to_owned(),
            high: AtomicU64::new(0),
        }
    }
}

/// What the clients of one node share.
pub(crate) struct Targets {
    pub(crate) node: NodeRecord,
    pub(crate) record: Arc<Record>,
    endpoints: RwLock<Vec<Endpoint>>,
    closed: AtomicBool,
    busy: AtomicUsize,
    fence_expected: AtomicBool,
}

impl Targets {
    pub(crate) fn new(node: NodeRecord, record: Arc<Record>) -> Targets {
        Targets {
            node,
            record,
            endpoints: RwLock::default(),
            closed: AtomicBool::new(false),
            busy: AtomicUsize::new(0),
            fence_expected: AtomicBool::new(false),
        }
    }

    pub(crate) fn set_endpoints(&self, endpoints: Vec<Endpoint>) {
        *self
            .endpoints
            .write()
            .unwrap_or_else(PoisonError::into_inner) = endpoints;
    }

    /// Keeps the clients back, and waits until none of them waits for an answer.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        while self.busy.load(Ordering::SeqCst) > 0 {
            thread::sleep(PAUSE);
        }
    }

    pub(crate) fn open(&self) {
        self.closed.store(false, Ordering::SeqCst);
    }

    /// Whether the database has been made to go backwards, so that nodes may say so.
    pub(crate) fn expect_fence(&self, expected: bool) {
        self.fence_expected.store(expected, Ordering::SeqCst);
    }

    /// Asks for tickets until the hunt is over.
    pub(crate) fn run_client(&self, mut random: Random) {
        while !self.record.stopped() {
            let endpoint = {
                let endpoints = self
                    .endpoints
                    .read()
                    .unwrap_or_else(PoisonError::into_inner);
                random.one_of(&endpoints).cloned()
            };
            let Some(connection) = endpoint.and_then(|endpoint| Connection::open(endpoint).ok())
            else {
                thread::sleep(PAUSE);
                continue;
            };
            if self.use_connection(connection, &mut random).is_err() {
                self.node.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn use_connection(&self, mut connection: Connection, random: &mut Random) -> io::Result<()> {
        for _ in 0..random.within(1..=300) {
            self.busy.fetch_add(1, Ordering::SeqCst);
            let closed = self.closed.load(Ordering::SeqCst);
            let asked =
                (!closed && !self.record.stopped()).then(|| self.ask(&mut connection, random));
            self.busy.fetch_sub(1, Ordering::SeqCst);
            match asked {
                Some(Ok(true)) => {}
                Some(Ok(false)) => thread::sleep(PAUSE),
                Some(Err(error)) => return Err(error),
                None => {
                    thread::sleep(PAUSE);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// A few requests in one go, and all of their answers; false when one was a 503.
    fn ask(&self, connection: &mut Connection, random: &mut Random) -> io::Result<bool> {
        let depth = if random.chance(20) {
            random.within(2..=16)
        } else {
            1
        };
        let asks: Vec<Ask> = (0..depth).map(|_| Ask::choose(random)).collect();
        let requests: String = asks.iter().map(Ask::request).collect();
        let process = Arc::clone(&connection.endpoint.process);
        let mut high = process.high.load(Ordering::SeqCst);
        connection.stream.write_all(requests.as_bytes())?;
        if random.chance(1) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let mut served = true;
        for ask in &asks {
            let (status, body) = connection.answer()?;
            if status == 503 {
                served = false;
                self.note_refusal(&process, &body);
                continue;
            }
            match (status == 200).then(|| ask.read(&body)).flatten() {
                Some(run) => high = self.check(&process, run, ask, high),
                None => self.record.violation(format_args!(
                    "{}: {:?} was answered by {status} {}",
                    process.name,
                    ask.request(),
                    String::from_utf8_lossy(&body[..body.len().min(400)])
                )),
            }
        }
        process.high.fetch_max(high, Ordering::SeqCst);
        Ok(served)
    }

    /// Writes down what one answer brought; returns its last ticket.
    fn check(&self, process: &ProcessView, run: Run, ask: &Ask, high: u64) -> u64 {
        let increment = self.node.numbering.max_nodes();
        let run = Run {
            increment: if run.count == 1 {
                increment
            } else {
                run.increment
            },
            ..run
        };
        if run.count != ask.count {
            let what = format!("{run:?} is not what {:?} asks for", ask.request());
            self.record
                .violation(format_args!("{}: {what}", process.name));
        }
        if run.first <= high {
            let what = format!("{run:?} came after {high} had been read: not increasing");
            self.record
                .violation(format_args!("{}: {what}", process.name));
        }
        if let Err(what) = self.node.add(run) {
            self.record
                .violation(format_args!("{}: {what}", process.name));
        }
        run.last()
    }

    fn note_refusal(&self, process: &ProcessView, body: &[u8]) {
        self.node.refusals.fetch_add(1, Ordering::Relaxed);
        let fenced = body.windows(9).any(|window| window == b"backwards");
        if fenced && !self.fence_expected.load(Ordering::SeqCst) {
            self.record.violation(format_args!(
                "{} says that the database went backwards, and it did not: {}",
                process.name,
                String::from_utf8_lossy(body)
            ));
        }
    }
}

/// One request for tickets.
#[derive(Debug)]
struct Ask {
    count: u64,
    format: Option<Format>,
    post: bool,
}

#[derive(Clone, Copy, Debug)]
enum Format {
    Array,
    Range,
    String,
}

impl Ask {
    fn choose(random: &mut Random) -> Ask {
        let count = match random.within(0..=99) {
            0..=69 => 1,
            70..=94 => random.within(1..=200),
            _ => random.within(1_000..=4_000),
        };
        let formats = [Format::Array, Format::Range, Format::String];
        let single = count == 1 && random.chance(80);
        let format = random.one_of(&formats).copied().filter(|_| !single);
        Ask {
            count,
            format,
            post: random.chance(10),
        }
    }

    fn request(&self) -> String {
        let method = if self.post { "POST" } else { "GET" };
        let path = match (self.count, self.format) {
            (1, None) => String::new(),
            (count, None) => format!("/{count}"),
            (count, Some(Format::Array)) => format!("/{count}?format=array"),
            (count, Some(Format::Range)) => format!("/{count}?format=range"),
            (count, Some(Format::String)) => format!("/{count}?format=string"),
        };
        format!("{method} /tickets/create{path} HTTP/1.1\r\nHost: hunt\r\n\r\n")
    }

    /// The tickets in a body; `None` when they are not one run in this format.
    fn read(&self, body: &[u8]) -> Option<Run> {
        let text = str::from_utf8(body).ok()?;
        if let Some(Format::Range) = self.format {
            let value: serde_json::Value = serde_json::from_str(text).ok()?;
            let field = |name: &str| value.get(name)?.as_u64();
            let (first, increment) = (field("first")?, field("increment")?);
            return Some(Run {
                first,
                increment,
                count: field("count")?,
            });
        }
        let quoted = matches!(self.format, Some(Format::String));
        let mut tickets = text
            .strip_prefix('[')?
            .strip_suffix(']')?
            .split(',')
            .map(|ticket| {
                let digits = if quoted {
                    ticket.strip_prefix('"')?.strip_suffix('"')?
                } else {
                    ticket
                };
                digits.parse::<u64>().ok()
            });
        let first = tickets.next()??;
        let mut run = Run {
            first,
            increment: 0,
            count: 1,
        };
        for ticket in tickets {
            let distance = ticket?.checked_sub(run.first)?;
            if run.count == 1 {
                run.increment = distance;
            }
            if distance != run.increment.checked_mul(run.count)? {
                return None;
            }
            run.count += 1;
        }
        Some(run)
    }
}

/// A keep-alive connection.
pub(crate) struct Connection {
    endpoint: Endpoint,
    stream: Stream,
    buffer: Vec<u8>,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Connection {
    pub(crate) fn open(endpoint: Endpoint) -> io::Result<Connection> {
        let stream = match &endpoint.address {
            Address::Tcp(port) => {
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
                let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
                stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
                Stream::Tcp(stream)
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
                stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
                Stream::Unix(stream)
            }
        };
        Ok(Connection {
            endpoint,
            stream,
            buffer: Vec::new(),
        })
    }

    /// Asks for a page; the status and the body of its answer.
    pub(crate) fn get(&mut self, path: &str) -> io::Result<(u16, Vec<u8>)> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: hunt\r\n\r\n");
        self.stream.write_all(request.as_bytes())?;
        self.answer()
    }

    /// The next answer, whole.
    fn answer(&mut self) -> io::Result<(u16, Vec<u8>)> {
        let head_end = loop {
            let end = self
                .buffer
                .windows(4)
                .position(|window| window == b"\r\n\r\n");
            match end {
                Some(end) => break end + 4,
                None if self.buffer.len() > HEAD_BYTES_MAX => {
                    return Err(io::Error::other("a head without an end"));
                }
                None => self.read_more()?,
            }
        };
        let head = str::from_utf8(&self.buffer[..head_end]).map_err(io::Error::other)?;
        let status = head.get(9..12).and_then(|status| status.parse().ok());
        let length = head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, value)| value.trim().parse::<usize>().ok())
            .filter(|&length| length <= BODY_BYTES_MAX);
        let (Some(status), Some(length)) = (status, length) else {
            return Err(io::Error::other(format!("not an answer: {head:?}")));
        };
        while self.buffer.len() < head_end + length {
            self.read_more()?;
        }
        let body = self.buffer[head_end..head_end + length].to_vec();
        self.buffer.drain(..head_end + length);
        Ok((status, body))
    }

    fn read_more(&mut self) -> io::Result<()> {
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.buffer.extend_from_slice(&chunk[..count]);
                Ok(())
            }
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
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(buffer),
            Stream::Unix(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
