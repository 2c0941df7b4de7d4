//! The event loop: accept, read, dispense, write, and the deadlines of every client.
//!
//! One thread serves every socket. A turn of the loop reads and parses all that is ready, takes
//! in what the database has committed, sends the next reservation, and only then writes, so that
//! the database works while answers leave. No client can hold the loop: reads, accepts and large
//! arrays are taken in pieces.

mod clients;

use std::cell::Cell;
use std::io::{self, ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use mio::event::Event;
use mio::{Events, Interest, Poll, Token, Waker};

use self::clients::{Client, Clients, queue};
use crate::database::{self, DatabaseError, Workers};
use crate::dispenser::{self, Dispenser};
use crate::http::connection::{Connection, Demand, Expiry, Reply};
use crate::http::response::{Heads, JSON, Page, Problem, Unavailable};
use crate::http::route::{Route, Rules};
use crate::limits;
use crate::metrics::{HttpMetrics, ListenerScrape, Scrape};
use crate::notify::Notifier;
use crate::socket::{Listener, Stream};
use crate::supply::{Settled, Supply, TurnedAway};
use crate::ticket::Numbering;
use crate::timer::Timer;

/// A reservation is late when it takes longer than this share of the pool time-out.
const LATE_SHARE: u32 = 4;

const WAKER: Token = Token(usize::MAX - 1);
const STOP: Token = Token(usize::MAX - 2);
const TIMER: Token = Token(usize::MAX - 3);

/// How a [`Server`] is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the counter is.
    pub database: database::Settings,
    /// Blocking connections to the database, one thread each.
    pub pool_size: usize,
    /// How long a request waits for the database before it gets a 503.
    pub pool_timeout: Duration,
    /// The arithmetic of this node.
    pub numbering: Numbering,
    /// Seconds of demand to hold in reserve; 0 for none.
    pub prefetch_seconds: f64,
    /// What routing depends on.
    pub rules: Rules,
    /// Most clients at once.
    pub connections_max: usize,
    /// How long a stop may take.
    pub shutdown_timeout: Duration,
}

/// Why a server ended, other than by being asked to.
#[derive(Debug)]
pub enum ServeError {
    /// The operating system refused something that the event loop can't do without.
    Io(io::Error),
    /// The first contact with the database found something that only an operator can mend.
    Database(DatabaseError),
}

/// The event loop and all that it owns.
pub struct Server {
    poll: Poll,
    timer: Timer,
    supply: Supply,
    rules: Rules,
    connections_max: usize,
    shutdown_timeout: Duration,
    listeners: Vec<Listening>,
    accept_again_at: Option<Instant>,
    /// The last attempt to accept has failed, and that has been logged.
    accept_failed: bool,
    clients: Clients,
    /// Clients to read from or write to in this turn.
    ready: Vec<usize>,
    /// Clients that had more to do than their share of one turn.
    again: Vec<usize>,
    /// Requests that are being settled in this turn; kept for its memory.
    settled: Vec<Settled>,
    heads: Heads,
    pages: Pages,
    metrics: HttpMetrics,
    /// The page of `/metrics`, if it was asked for in this turn.
    scraped: Option<Rc<Page>>,
    origins: Vec<Rc<Origin>>,
    notifier: Notifier,
    read_buffer: Box<[u8]>,
    write_buffer: Vec<u8>,
    swept_at: Instant,
    leaving: Option<Leaving>,
}

struct Listening {
    listener: Listener,
    origin: Rc<Origin>,
    ready: bool,
}

/// Where clients come from: a listener for the metrics. Every open client holds it.
struct Origin {
    address: String,
    accepted: Cell<u64>,
}

/// The server has been asked to stop.
#[derive(Clone, Copy)]
struct Leaving {
    since: Instant,
    until: Instant,
}

/// Pages that never change.
struct Pages {
    live: Rc<Page>,
    ready: Rc<Page>,
}

impl Server {
    /// Sets the event loop up and starts the database threads; connects to nothing yet.
    pub fn new(listeners: Vec<Listener>, options: Options) -> Result<Server, ServeError> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let timer = Timer::new(poll.registry(), TIMER)?;
        let wake = Arc::new(move || {
            // The loop wakes by its own deadlines should this ever fail.
            let _ = waker.wake();
        });
        let Options {
            database,
            pool_size,
            numbering,
            rules,
            ..
        } = options;
        let workers = Workers::start(Arc::new(database), numbering, pool_size, wake)?;
        let now = Instant::now();
        let dispenser = Dispenser::new(dispenser::Options {
            numbering,
            reservations_max: pool_size,
            late_after: options.pool_timeout / LATE_SHARE,
            prefetch_seconds: options.prefetch_seconds,
        });
        let supply = Supply::new(dispenser, workers, numbering, options.pool_timeout, now);
        let mut listening = Vec::with_capacity(listeners.len());
        for mut listener in listeners {
            let token = Token(listening.len());
            poll.registry()
                .register(&mut listener, token, Interest::READABLE)?;
            listening.push(Listening {
                origin: Rc::new(Origin {
                    address: listener.local_address().to_string(),
                    accepted: Cell::new(0),
                }),
                listener,
                ready: true,
            });
        }
        Ok(Server {
            poll,
            timer,
            supply,
            rules,
            connections_max: options.connections_max,
            shutdown_timeout: options.shutdown_timeout,
            origins: listening
                .iter()
                .map(|listening| Rc::clone(&listening.origin))
                .collect(),
            listeners: listening,
            metrics: HttpMetrics::default(),
            scraped: None,
            notifier: Notifier::from_environment(now),
            accept_again_at: None,
            accept_failed: false,
            clients: Clients::default(),
            ready: Vec::new(),
            again: Vec::new(),
            settled: Vec::new(),
            heads: Heads::new(SystemTime::now()),
            pages: Pages::new(),
            read_buffer: vec![0; limits::READ_BYTES].into_boxed_slice(),
            write_buffer: Vec::with_capacity(limits::PIECE_BYTES + 2 * limits::OUTPUT_BYTES_MAX),
            swept_at: now,
            leaving: None,
        })
    }

    /// Serves until `stop` becomes readable or its other end is closed; then stops accepting,
    /// answers what has been received, and returns.
    pub fn run(mut self, stop: UnixStream) -> Result<(), ServeError> {
        stop.set_nonblocking(true)?;
        let mut stop = mio::net::UnixStream::from_std(stop);
        self.poll
            .registry()
            .register(&mut stop, STOP, Interest::READABLE)?;
        let mut events = Events::with_capacity(limits::EVENTS_PER_TURN_MAX);
        loop {
            let now = Instant::now();
            let timeout = self.timeout(now);
            let is_short = |wait: &Duration| !wait.is_zero() && *wait < limits::POLL_RESOLUTION;
            if let Some(short) = timeout.filter(is_short) {
                // The poll ends by itself, a little later, should this ever fail.
                let _ = self.timer.set(now + short, now);
            }
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
                _ => {}
            }
            let now = Instant::now();
            self.heads.tick(SystemTime::now());
            for event in &events {
                match event.token() {
                    WAKER | TIMER => {}
                    STOP => self.leave(now),
                    Token(index) if index < self.listeners.len() => {
                        self.listeners[index].ready = true;
                    }
                    Token(id) => self.note(id, event),
                }
            }
            self.turn(now)?;
            self.notifier.turned(now);
            if !self.notifier.is_ready() && self.supply.has_tried() {
                self.notifier.ready();
            }
            if self.has_left(now) {
                break;
            }
        }
        let left = self.leaving.map(|leaving| leaving.until);
        let within = left.map(|until| until.saturating_duration_since(Instant::now()));
        // Nobody waits for what the database may still answer.
        self.supply
            .stop(within.unwrap_or_default().min(limits::DATABASE_STOP_GRACE));
        Ok(())
    }

    /// Does all that is due.
    fn turn(&mut self, now: Instant) -> Result<(), ServeError> {
        self.scraped = None;
        self.ready.append(&mut self.again);
        let known = self.ready.len();
        for at in 0..known {
            self.read(self.ready[at], now);
        }
        // Who is idle, and who has left, shows only now; newcomers may need their room.
        self.accept(now);
        for at in known..self.ready.len() {
            self.read(self.ready[at], now);
        }
        self.settle(now)?;
        self.supply.order(now);
        // What this turn took so far belongs to the durations of its answers.
        let now = Instant::now();
        for at in 0..self.ready.len() {
            self.write(self.ready[at], now);
        }
        self.ready.clear();
        if self.swept_at + self.sweep_interval() <= now {
            self.sweep(now);
        }
        Ok(())
    }

    /// How long the loop may sleep.
    fn timeout(&self, now: Instant) -> Option<Duration> {
        let accepts = self.listeners.iter().any(|listening| listening.ready);
        if !self.again.is_empty() || (accepts && self.accept_again_at.is_none()) {
            return Some(Duration::ZERO);
        }
        let sweep = (!self.clients.is_empty()).then(|| self.swept_at + self.sweep_interval());
        let leave = self.leaving.map(|leaving| leaving.until);
        let accept = self.accept_again_at;
        let notify = self.notifier.wake_at();
        let next = [self.supply.wake_at(now), sweep, leave, accept, notify]
            .into_iter()
            .flatten()
            .min();
        next.map(|at| at.saturating_duration_since(now))
    }

    /// Takes note of what the kernel says of a client.
    fn note(&mut self, id: usize, event: &Event) {
        let Some(client) = self.clients.get_mut(id) else {
            return;
        };
        let both_closed = event.is_read_closed() && event.is_write_closed();
        // A lingering client is one that both sides have closed: what it sent is still drained,
        // since closing over unread bytes would reset the connection.
        if event.is_error() || (both_closed && !client.lingering) {
            // Nobody is there to read an answer.
            self.clients.remove(id);
            return;
        }
        client.readable |= event.is_readable() || event.is_read_closed();
        client.closing |= event.is_read_closed();
        client.writable |= event.is_writable();
        queue(client, id, &mut self.ready);
    }

    fn accept(&mut self, now: Instant) {
        if self.accept_again_at.is_some_and(|at| at > now) {
            return;
        }
        self.accept_again_at = None;
        for index in 0..self.listeners.len() {
            for _ in 0..limits::ACCEPTS_PER_TURN_MAX {
                let listening = &mut self.listeners[index];
                if !listening.ready {
                    break;
                }
                match listening.listener.accept() {
                    Ok(stream) => {
                        let origin = Rc::clone(&listening.origin);
                        origin.accepted.set(origin.accepted.get() + 1);
                        self.welcome(stream, origin, now);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        listening.ready = false;
                        // Nobody waits any more: only now is the shortage over.
                        self.accept_failed = false;
                    }
                    Err(error) if is_about_one_client(&error) => {}
                    Err(error) => return self.pause_accepting(&error, now),
                }
            }
        }
    }

    fn pause_accepting(&mut self, error: &io::Error, now: Instant) {
        self.accept_again_at = Some(now + limits::ACCEPT_PAUSE);
        if !std::mem::replace(&mut self.accept_failed, true) {
            log::error!(
                "a connection could not be accepted: {error}. Clients wait, and it is tried again \
                 every {} ms. If this is about open files, raise their limit or lower \
                 TICKR_MAX_CONNECTIONS",
                limits::ACCEPT_PAUSE.as_millis()
            );
        }
    }

    fn welcome(&mut self, stream: Stream, origin: Rc<Origin>, now: Instant) {
        if self.clients.len() >= self.connections_max {
            self.close_oldest_idle(now);
        }
        let over = self.clients.len() >= self.connections_max;
        if self.clients.len() >= self.connections_max + limits::CONNECTIONS_OVER_MAX {
            return;
        }
        let mut connection = Connection::new(now);
        if over {
            connection.refuse(Problem::Unavailable(Unavailable::TooManyConnections));
        }
        let id = self.clients.insert(Client::new(stream, origin, connection));
        let Some(client) = self.clients.get_mut(id) else {
            return;
        };
        let registry = self.poll.registry();
        match registry.register(&mut client.stream, Token(id), Interest::READABLE) {
            Ok(()) => queue(client, id, &mut self.ready),
            Err(error) => {
                log::error!("a connection could not be watched and is closed: {error}");
                self.clients.remove(id);
            }
        }
    }

    /// Makes room for new clients: a share of the idle connections goes, the oldest first.
    fn close_oldest_idle(&mut self, now: Instant) {
        let mut idle: Vec<(Instant, usize)> = self
            .clients
            .iter()
            .filter(|(_, client)| client.connection.is_idle() || client.has_left())
            // Who came in this turn has not been read from yet.
            .filter(|(_, client)| client.connection.idle_since() < now)
            .map(|(id, client)| (client.connection.idle_since(), id))
            .collect();
        let share = (idle.len() / limits::IDLE_CLOSED_SHARE)
            .max(1)
            .min(idle.len());
        if share == 0 {
            return;
        }
        idle.select_nth_unstable(share - 1);
        for (_, id) in &idle[..share] {
            self.clients.remove(*id);
        }
    }

    /// Reads what a client has sent, within its share of this turn.
    fn read(&mut self, id: usize, now: Instant) {
        let Server {
            clients,
            supply,
            rules,
            pages,
            metrics,
            scraped,
            origins,
            read_buffer,
            ..
        } = self;
        let Some(client) = clients.get_mut(id) else {
            return;
        };
        if client.lingering {
            if client.drop_input(read_buffer) {
                clients.remove(id);
            }
            return;
        }
        let leaving = self.leaving.is_some();
        let mut demand = |demand| match demand {
            Demand::Tickets(count) => match supply.request(id, count, now) {
                Ok(()) => Reply::Later,
                Err(TurnedAway::Unavailable(why)) => Reply::Unavailable(why),
                Err(TurnedAway::Page(page)) => Reply::Page(page),
            },
            Demand::Page(Route::Status) => match supply.request_status(id, now) {
                Ok(()) => Reply::Later,
                Err(why) => Reply::Unavailable(why),
            },
            Demand::Page(Route::Readyz) => {
                supply.look(now);
                Reply::Page(pages.readiness(supply, leaving))
            }
            Demand::Page(Route::Metrics) => {
                supply.look(now);
                let page = scraped.get_or_insert_with(|| {
                    Rc::new(scrape(metrics, origins, supply, leaving).page())
                });
                Reply::Page(Rc::clone(page))
            }
            Demand::Page(_) => Reply::Page(Rc::clone(&pages.live)),
        };
        if client.connection.has_backlog() && client.connection.is_reading() {
            client.connection.receive(&[], rules, now, &mut demand);
        }
        for _ in 0..limits::READS_PER_TURN_MAX {
            if !client.readable || client.at_end || !client.connection.is_reading() {
                break;
            }
            match client.stream.read(read_buffer) {
                Ok(0) => {
                    client.at_end = true;
                    client.connection.end_input();
                }
                Ok(count) => {
                    // A short read has emptied the socket; the next byte makes a new event.
                    client.readable = count == read_buffer.len() || client.closing;
                    let bytes = &read_buffer[..count];
                    client.connection.receive(bytes, rules, now, &mut demand);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => client.readable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    clients.remove(id);
                    return;
                }
            }
        }
    }

    /// Brings the answers that have become due to their clients.
    fn settle(&mut self, now: Instant) -> Result<(), ServeError> {
        let Server {
            clients,
            supply,
            ready,
            metrics,
            ..
        } = self;
        let mut settled = std::mem::take(&mut self.settled);
        supply
            .collect(now, &mut |one| settled.push(one))
            .map_err(ServeError::Database)?;
        supply.dispense(now, |id| clients.contains(id), &mut |one| settled.push(one));
        for one in settled.drain(..) {
            let id = match &one {
                Settled::Tickets(grant) => grant.client,
                Settled::NoTickets(id, _) | Settled::Status(id, _) => *id,
            };
            let Some(client) = clients.get_mut(id) else {
                continue;
            };
            match one {
                Settled::Tickets(grant) => {
                    metrics.handed_out(grant.run.count);
                    client.connection.settle_tickets(Ok(grant.run));
                }
                Settled::NoTickets(_, TurnedAway::Unavailable(why)) => {
                    client.connection.settle_tickets(Err(why));
                }
                Settled::NoTickets(_, TurnedAway::Page(page)) => {
                    client.connection.settle_tickets_with_page(&page);
                }
                Settled::Status(_, page) => client.connection.settle_status(&page),
            }
            queue(client, id, ready);
        }
        self.settled = settled;
        Ok(())
    }

    /// Writes what is due to a client, within its share of this turn.
    fn write(&mut self, id: usize, now: Instant) {
        let Server {
            clients,
            heads,
            metrics,
            write_buffer,
            ..
        } = self;
        let Some(client) = clients.get_mut(id) else {
            return;
        };
        client.queued = false;
        let leaving = self.leaving.is_some();
        let written = client.write_out(heads, leaving, metrics, write_buffer, now);
        let Ok(has_more) = written else {
            self.clients.remove(id);
            return;
        };
        let connection = &client.connection;
        if connection.is_finished() && !client.lingering {
            if client.at_end || client.stream.shutdown_write().is_err() {
                self.clients.remove(id);
                return;
            }
            client.lingering = true;
            client.readable = true;
        }
        let reads_on = connection.is_reading() && (client.readable || connection.has_backlog());
        let lingers_on = client.lingering && client.readable;
        if has_more || (reads_on && !client.at_end) || lingers_on {
            queue(client, id, &mut self.again);
        }
        let awaits_writable = !client.writable;
        if awaits_writable != client.awaits_writable {
            client.awaits_writable = awaits_writable;
            let interest = match awaits_writable {
                true => Interest::READABLE | Interest::WRITABLE,
                false => Interest::READABLE,
            };
            let registry = self.poll.registry();
            if registry
                .reregister(&mut client.stream, Token(id), interest)
                .is_err()
            {
                self.clients.remove(id);
            }
        }
    }

    /// Looks at every client's deadline, and takes back memory from the idle ones.
    fn sweep(&mut self, now: Instant) {
        self.swept_at = now;
        let leaving = self.leaving;
        for index in 0..self.clients.slots() {
            let Some((id, client)) = self.clients.at(index) else {
                continue;
            };
            let connection = &mut client.connection;
            if connection.is_idle() {
                let since = connection.idle_since();
                let grace = |leaving: Leaving| leaving.since.max(since) + limits::LEAVING_GRACE;
                if leaving.is_some_and(|leaving| grace(leaving) <= now) {
                    self.clients.remove(id);
                    continue;
                }
                if since + limits::SWEEP_INTERVAL <= now {
                    connection.release_buffers();
                }
            }
            if connection.deadline().is_none_or(|deadline| deadline > now) {
                continue;
            }
            match connection.expire() {
                Expiry::Close => self.clients.remove(id),
                Expiry::Answer => queue(client, id, &mut self.again),
            }
        }
    }

    fn sweep_interval(&self) -> Duration {
        match self.leaving {
            Some(_) => limits::LEAVING_GRACE / 4,
            None => limits::SWEEP_INTERVAL,
        }
    }

    /// Begins to stop: what the kernel has already accepted is still served.
    fn leave(&mut self, now: Instant) {
        if self.leaving.is_some() {
            return;
        }
        self.notifier.stopping();
        let registry = self.poll.registry();
        self.listeners.retain_mut(|listening| {
            // Whoever waits at a socket that outlives us is served by the next process. As it
            // stays open there, the kernel would go on telling us of it.
            let outlives = listening.listener.is_inherited();
            if outlives {
                let _ = registry.deregister(&mut listening.listener);
            }
            !outlives
        });
        loop {
            self.listeners
                .iter_mut()
                .for_each(|listening| listening.ready = true);
            let before = self.clients.len();
            self.accept(now);
            if self.clients.len() == before {
                break;
            }
        }
        self.listeners.clear();
        // Whoever reads this may rely on it: from here on, connections are refused.
        log::info!("stopping: {} connections are open", self.clients.len());
        self.leaving = Some(Leaving {
            since: now,
            until: now + self.shutdown_timeout,
        });
        for index in 0..self.clients.slots() {
            if let Some((id, client)) = self.clients.at(index) {
                client.readable = true;
                queue(client, id, &mut self.again);
            }
        }
    }

    fn has_left(&mut self, now: Instant) -> bool {
        let Some(leaving) = self.leaving else {
            return false;
        };
        if leaving.until <= now && !self.clients.is_empty() {
            log::warn!(
                "stopping with {} connections open: time is up",
                self.clients.len()
            );
            return true;
        }
        self.clients.is_empty()
    }
}

impl Pages {
    fn new() -> Pages {
        let page = |body: &str| {
            Rc::new(Page {
                status: 200,
                content_type: JSON,
                body: body.as_bytes().to_vec(),
            })
        };
        Pages {
            live: page(r#"{"live":true}"#),
            ready: page(r#"{"ready":true}"#),
        }
    }

    fn readiness(&self, supply: &Supply, leaving: bool) -> Rc<Page> {
        let reason = match leaving {
            true => Err("the server is stopping".to_owned()),
            false => supply.readiness(),
        };
        match reason {
            Ok(()) => Rc::clone(&self.ready),
            Err(reason) => {
                let reason = reason.trim_end_matches('.');
                Rc::new(Page::problem(503, &format!("Not ready: {reason}.")))
            }
        }
    }
}

fn scrape(http: &HttpMetrics, origins: &[Rc<Origin>], supply: &Supply, leaving: bool) -> Scrape {
    let listeners = origins.iter().map(|origin| ListenerScrape {
        address: origin.address.clone(),
        accepted: origin.accepted.get(),
        // Of those who hold it, the listening socket is one until the server leaves.
        open: Rc::strong_count(origin) as u64 - if leaving { 1 } else { 2 },
    });
    Scrape {
        http: http.clone(),
        listeners: listeners.collect(),
        supply: supply.scrape(),
        ready: !leaving && supply.readiness().is_ok(),
    }
}

impl From<io::Error> for ServeError {
    fn from(error: io::Error) -> ServeError {
        ServeError::Io(error)
    }
}

/// Whether an error of `accept` is about the one connection that it would have returned, so that
/// the next one can be tried at once (accept(2)).
fn is_about_one_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::Interrupted
            | ErrorKind::PermissionDenied
            | ErrorKind::TimedOut
    )
}
