//! A client of our own, on one thread, for what wrk cannot do: Unix sockets, and a fixed rate. At a
//! fixed rate the time of a request counts from the moment at which it was due, whether or not a
//! connection was free to send it then: a server that stalls cannot slow down the question of how
//! long it takes ("coordinated omission"). Every answer is looked at; a wrong one ends the run.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use socket2::{SockAddr, Socket, Type};

use crate::Outcome;
use crate::load::{Figures, Load};
use crate::machine;

const BUFFER_BYTES: usize = 64 * 1024;
/// At a fixed rate the first requests do not count: the server learns the demand from them.
const WARM_UP: Duration = Duration::from_millis(500);
/// A run that is over for so long and still has unanswered requests has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks for a path; `rate` is in requests a second, `None` is as many as the clients can do.
/// `increasing`: a ticket that is not above the last one of its connection is a wrong answer.
pub(crate) fn run(
    place: &SockAddr,
    path: &str,
    load: Load,
    rate: Option<f64>,
    increasing: bool,
) -> Outcome<Figures> {
    let mut poll = Poll::new()?;
    let tickets = path.split('/').nth(3).map_or(Ok(1), str::parse)?;
    let mut clients = Vec::new();
    for index in 0..load.clients {
        let socket = Socket::new(place.domain(), Type::STREAM, None)?;
        socket.connect(place)?;
        socket.set_nonblocking(true)?;
        if !place.is_unix() {
            socket.set_tcp_nodelay(true)?;
        }
        let mut source = SourceFd(&socket.as_raw_fd());
        poll.registry()
            .register(&mut source, Token(index), Interest::READABLE)?;
        clients.push(Client::new(socket, tickets, increasing));
    }
    let started = Instant::now();
    let counted_from = started + rate.map_or(Duration::ZERO, |_| WARM_UP);
    let end = counted_from + Duration::from_secs(load.seconds);
    let mut asking = Asking {
        request: machine::request(path).repeat(load.depth).into_bytes(),
        depth: load.depth,
        idle: (0..load.clients).collect(),
        started,
        end,
        rate,
        asked: 0,
    };
    let mut latencies = Vec::new();
    let mut events = Events::with_capacity(1024);
    // Who waits for the kernel's timer is late: at a fixed rate the thread does not sleep.
    let timeout = rate.map_or(Duration::from_secs(1), |_| Duration::ZERO);
    while !asking.ask(&mut clients)? {
        poll.poll(&mut events, Some(timeout))?;
        for event in &events {
            let client = &mut clients[event.token().0];
            let answers = client.read()?;
            let seconds = client.due.elapsed().as_secs_f64();
            if client.due >= counted_from {
                latencies.resize(latencies.len() + answers, seconds);
            }
            client.waiting -= answers;
            if answers > 0 && client.waiting == 0 {
                asking.idle.push_back(event.token().0);
                asking.ask(&mut clients)?;
            }
        }
        if Instant::now() > end + PATIENCE {
            return Err(format!("requests for {path} are not answered, with {load:?}").into());
        }
    }
    let elapsed = counted_from.elapsed().as_secs_f64();
    let bytes: usize = clients.iter().map(|client| client.bytes).sum();
    latencies.sort_by(f64::total_cmp);
    let share = |share: f64| {
        let index = (latencies.len() as f64 * share) as usize;
        latencies.get(index).copied().unwrap_or(f64::NAN)
    };
    Ok(Figures {
        rate: latencies.len() as f64 / elapsed,
        bytes_rate: bytes as f64 / elapsed,
        median_seconds: share(0.5),
        p99_seconds: share(0.99),
        p999_seconds: share(0.999),
        ..Figures::default()
    })
}

/// When the next request is due, and who may send it.
struct Asking {
    /// All that is written at once.
    request: Vec<u8>,
    depth: usize,
    idle: VecDeque<usize>,
    started: Instant,
    end: Instant,
    rate: Option<f64>,
    asked: u64,
}

impl Asking {
    /// Sends what is due as far as connections are free; true when all is asked and answered.
    fn ask(&mut self, clients: &mut [Client]) -> Outcome<bool> {
        loop {
            let now = Instant::now();
            let due = match self.rate {
                Some(rate) => self.started + Duration::from_secs_f64(self.asked as f64 / rate),
                None => now,
            };
            if due >= self.end {
                return Ok(self.idle.len() == clients.len());
            }
            if due > now {
                return Ok(false);
            }
            let Some(index) = self.idle.pop_front() else {
                return Ok(false);
            };
            let client = &mut clients[index];
            if client.socket.write(&self.request)? < self.request.len() {
                return Err("a socket does not take a whole request".into());
            }
            client.due = due;
            client.waiting = self.depth;
            self.asked += self.depth as u64;
        }
    }
}

struct Client {
    socket: Socket,
    /// When the requests that it waits for were due.
    due: Instant,
    waiting: usize,
    buffer: Vec<u8>,
    filled: usize,
    /// The last head, and the length of its body: most answers have the same.
    head: Vec<u8>,
    length: usize,
    tickets: usize,
    increasing: bool,
    last: u64,
    bytes: usize,
}

impl Client {
    fn new(socket: Socket, tickets: usize, increasing: bool) -> Client {
        Client {
            socket,
            due: Instant::now(),
            waiting: 0,
            buffer: vec![0; BUFFER_BYTES],
            filled: 0,
            head: Vec::new(),
            length: 0,
            tickets,
            increasing,
            last: 0,
            bytes: 0,
        }
    }

    /// Reads until nothing is left; gives the number of answers that are complete now.
    fn read(&mut self) -> Outcome<usize> {
        let mut answers = 0;
        loop {
            let room = &mut self.buffer[self.filled..];
            let (room, read) = match (room.len(), self.socket.read(room)) {
                (_, Ok(0)) => return Err(io::Error::from(ErrorKind::UnexpectedEof).into()),
                (room, Ok(read)) => (room, read),
                (_, Err(error)) if error.kind() == ErrorKind::WouldBlock => return Ok(answers),
                (_, Err(error)) => return Err(error.into()),
            };
            self.filled += read;
            self.bytes += read;
            answers += self.answers()?;
            // A short read has emptied the socket: the next bytes raise a new event.
            if read < room {
                return Ok(answers);
            }
        }
    }

    /// Takes the complete answers out of the buffer, and makes room for the next one.
    fn answers(&mut self) -> Outcome<usize> {
        let (mut answers, mut at, mut needed) = (0, 0, BUFFER_BYTES);
        while at < self.filled {
            let bytes = &self.buffer[at..self.filled];
            if self.head.is_empty() || !bytes.starts_with(&self.head) {
                let Some((body_at, length)) = machine::frame(bytes)? else {
                    break;
                };
                self.head = bytes[..body_at].to_vec();
                self.length = length;
            }
            let size = self.head.len() + self.length;
            let Some(answer) = bytes.get(..size) else {
                needed = size;
                break;
            };
            let body = &answer[self.head.len()..];
            self.last = first_ticket(body, self.tickets)
                .filter(|first| *first > self.last || !self.increasing)
                .ok_or_else(|| {
                    let begin = String::from_utf8_lossy(&body[..body.len().min(100)]);
                    format!("a wrong answer, after ticket {}: {begin}", self.last)
                })?;
            answers += 1;
            at += size;
        }
        self.buffer.copy_within(at..self.filled, 0);
        self.filled -= at;
        if self.buffer.len() < needed {
            self.buffer.resize(needed, 0);
        }
        Ok(answers)
    }
}

/// The first of an array of so many tickets; `None` if it is something else.
fn first_ticket(body: &[u8], tickets: usize) -> Option<u64> {
    let inner = body.strip_prefix(b"[")?.strip_suffix(b"]")?;
    let commas = inner.iter().filter(|byte| **byte == b',').count();
    let first = inner.split(|byte| *byte == b',').next()?;
    let first = std::str::from_utf8(first).ok()?.parse().ok()?;
    (commas + 1 == tickets).then_some(first)
}
