//! The whole server behind one seam: plain state on a given clock. It owns the connections, the
//! routes and the allocator; it accepts, reads, answers and drains through [`Io`], and knows no
//! socket, thread or time of day.
//!
//! A turn serves one connection after the other: what the reserve can serve is answered right
//! after it was read, while its bytes and its socket are warm. What the database must serve waits,
//! and is answered at the end of the turn in which its block has landed, after the next job has
//! gone out, so that the database works while answers leave. No client can hold the loop: reads,
//! accepts and large arrays are taken in pieces.

mod answers;
mod clients;
mod io;
mod journal;
mod listeners;

use std::io::ErrorKind;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

pub use self::io::{Change, ConnectionId, Interest, Io, Ready};
pub use self::listeners::ListenerOptions;

use self::clients::{Clients, queue};
use self::journal::Journal;
use self::listeners::Listener;
use crate::allocator::{Allocator, Verdict};
use crate::api::problems;
use crate::api::routes::{Endpoint, Route, RouteError, Rules};
use crate::counter::{Memory, Outcome};
use crate::fault::Fault;
use crate::http::connection::{End, Expiry, Memo, Output, Rejected};
use crate::http::response::{HeadCache, Page, Response};
use crate::limits;
use crate::metrics::HttpMetrics;
use crate::moment::{Moment, Next};
use crate::ticket::Numbering;

/// What is made of a request's head.
type Call = Result<Route, RouteError>;

/// How a [`Node`] is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// What routing depends on.
    pub rules: Rules,
    /// Most clients at once.
    pub connections_max: usize,
    /// How long a connection may stay without a request.
    pub idle_timeout: Duration,
    /// How long a stop may take.
    pub shutdown_timeout: Duration,
    /// The sockets that accept clients, by their index.
    pub listeners: Vec<ListenerOptions>,
}

/// The state of the server.
#[derive(Debug)]
pub struct Node {
    allocator: Allocator,
    numbering: Numbering,
    rules: Rules,
    connections_max: usize,
    idle_timeout: Duration,
    shutdown_timeout: Duration,
    clients: Clients,
    listeners: Vec<Listener>,
    accept_again_at: Option<Moment>,
    /// Clients to read from and to write to in the next turn.
    work: Vec<ConnectionId>,
    /// Clients with answers to write in this turn.
    due: Vec<ConnectionId>,
    heads: HeadCache,
    read_buffer: Box<[u8]>,
    output: Output<Call>,
    memo: Memo<Call>,
    metrics: HttpMetrics,
    journal: Journal,
    /// What is made at most once a turn.
    scraped: Option<Rc<Page>>,
    unavailable: Option<Response>,
    swept_at: Moment,
    draining: Option<Draining>,
}

/// The node has been asked to stop.
#[derive(Clone, Copy, Debug)]
struct Draining {
    since: Moment,
    until: Moment,
    /// Whoever waited to be accepted is still let in.
    accepting: bool,
}

impl Node {
    /// A node that has done nothing yet.
    pub fn new(allocator: Allocator, numbering: Numbering, options: Options, now: Moment) -> Node {
        let listeners = options.listeners.into_iter().map(|options| Listener {
            options,
            ready: true,
            accepted: 0,
            open: 0,
        });
        Node {
            allocator,
            numbering,
            rules: options.rules,
            connections_max: options.connections_max,
            idle_timeout: options.idle_timeout,
            shutdown_timeout: options.shutdown_timeout,
            clients: Clients::default(),
            listeners: listeners.collect(),
            accept_again_at: None,
            work: Vec::new(),
            due: Vec::new(),
            heads: HeadCache::new(SystemTime::UNIX_EPOCH),
            read_buffer: vec![0; limits::READ_BYTES].into_boxed_slice(),
            output: Output::new(),
            memo: Memo::new(),
            metrics: HttpMetrics::default(),
            journal: Journal::default(),
            scraped: None,
            unavailable: None,
            swept_at: now,
            draining: None,
        }
    }

    /// Tells the time of day, for the date in answers.
    pub fn set_date(&mut self, date: SystemTime) {
        self.heads.tick(date);
    }

    /// Asks for another password from here on.
    pub fn set_password(&mut self, password: &[u8]) {
        self.rules.password = Some(password.into());
    }

    /// A job of [`Io::submit`] has ended. A turn follows.
    pub fn on_outcome(&mut self, outcome: Outcome, now: Moment) {
        self.allocator.on_outcome(outcome, now);
        self.take_events(now);
    }

    /// Does all that is due; says when to turn again if nothing happens before.
    pub fn turn(&mut self, io: &mut dyn Io, ready: &[Ready], now: Moment) -> Next<()> {
        self.measure(now);
        (self.scraped, self.unavailable) = (None, None);
        for ready in ready {
            self.on_ready(io, *ready, now);
        }
        // Before those who come now: what has landed is for those who waited.
        self.complete(now);
        // Whoever has more to do than its share is queued behind them.
        let known = self.work.len();
        for at in 0..known {
            self.serve(io, self.work[at], now);
        }
        self.work.drain(..known);
        // Who is idle, and who has left, shows only now; newcomers may need their room.
        self.accept(io, now);
        let mut next_job = self.allocator.next_job(now);
        while let Next::Ready(job) = next_job {
            io.submit(job);
            next_job = self.allocator.next_job(now);
        }
        let completion = self.complete(now);
        let mut due = std::mem::take(&mut self.due);
        for id in due.drain(..) {
            self.write(io, id, now);
        }
        self.due = due;
        if self.swept_at + self.sweep_interval() <= now {
            self.sweep(io, now);
        }
        self.take_events(now);
        self.next(next_job.wake(completion), now)
    }

    /// A turn has ended by now: what it took belongs to the durations of its answers.
    pub fn measure(&mut self, now: Moment) {
        for answered in self.output.answered() {
            let endpoint = match &answered.call {
                Some(Ok(route)) => route.endpoint(),
                Some(Err(error)) => error.endpoint(),
                None => Endpoint::Other,
            };
            let took = now.since(answered.began);
            self.metrics.answered(endpoint, answered.status, took);
        }
    }

    /// Begins to stop: whoever waits to be accepted is still let in, and what was received before
    /// is answered.
    pub fn drain(&mut self, now: Moment) {
        if self.draining.is_some() {
            return;
        }
        self.draining = Some(Draining {
            since: now,
            until: now + self.shutdown_timeout,
            accepting: true,
        });
        for listener in &mut self.listeners {
            listener.ready = !listener.options.outlives;
        }
        for slot in 0..self.clients.slots() {
            if let Some((id, client)) = self.clients.at(slot) {
                client.readable = true;
                queue(client, id, &mut self.work);
            }
        }
    }

    /// Whether the node is done, and how it ended: with a fault when the very first contact with
    /// the database has found what only an operator can mend.
    pub fn end(&mut self, now: Moment) -> Option<Result<(), Fault>> {
        if let Some(fault) = self.journal.cannot_start.take() {
            return Some(Err(fault));
        }
        let draining = self.draining?;
        if self.clients.is_empty() && !draining.accepting {
            return Some(Ok(()));
        }
        if draining.until > now {
            return None;
        }
        let open = self.clients.len();
        log::warn!("shutdown timeout reached with {open} connections open");
        Some(Ok(()))
    }

    /// Until when a stop may take; `None` before it was asked for.
    pub fn drains_until(&self) -> Option<Moment> {
        self.draining.map(|draining| draining.until)
    }

    /// Whether the database has been reached, or an attempt to reach it has failed.
    pub fn has_started(&self, now: Moment) -> bool {
        self.allocator.verdict(now) != Verdict::Starting
    }

    /// What is remembered of the counter, for the next process of this node.
    pub fn memory(&self) -> Memory {
        self.allocator.memory()
    }

    fn next(&self, wake: Option<Moment>, now: Moment) -> Next<()> {
        let accepts = self.listeners.iter().any(|listener| listener.ready);
        if !self.work.is_empty() || (accepts && self.accept_again_at.is_none()) {
            return Next::Ready(());
        }
        let sweep = (!self.clients.is_empty()).then(|| self.swept_at + self.sweep_interval());
        let drain = self.draining.map(|draining| draining.until);
        let wakes = [wake, sweep, drain, self.accept_again_at];
        match wakes.into_iter().flatten().min() {
            Some(at) if at <= now => Next::Ready(()),
            Some(at) => Next::At(at),
            None => Next::Idle,
        }
    }

    fn on_ready(&mut self, io: &mut dyn Io, ready: Ready, now: Moment) {
        match ready {
            Ready::Listener(index) => {
                let accepts = self.draining.is_none_or(|draining| draining.accepting);
                if let Some(listener) = self.listeners.get_mut(index) {
                    let outlives = self.draining.is_some() && listener.options.outlives;
                    listener.ready = accepts && !outlives;
                }
            }
            Ready::Connection(id, change) => {
                let Some(client) = self.clients.get_mut(id) else {
                    return;
                };
                match client.on_change(change) {
                    // Nobody is there to read an answer.
                    true => self.close(io, id, now),
                    false => queue(client, id, &mut self.work),
                }
            }
        }
    }

    /// Reads what a client has sent, within its share of this turn, and answers it.
    fn serve(&mut self, io: &mut dyn Io, id: ConnectionId, now: Moment) {
        let Some(client) = self.clients.get_mut(id) else {
            return;
        };
        // So that its completions need not put it on a list.
        client.queued = true;
        if client.connection.has_backlog() {
            self.take_calls(id, now);
        }
        for _ in 0..limits::READS_PER_TURN_MAX {
            let Some(client) = self.clients.get_mut(id).filter(|client| client.may_read()) else {
                break;
            };
            match io.read(id, &mut self.read_buffer) {
                Ok(0) => {
                    client.readable = false;
                    if let Some(rejected) = client.connection.end_input() {
                        let Rejected { sequence, reject } = rejected;
                        let response = problems::rejected(reject);
                        client.connection.complete(sequence, response);
                    }
                }
                Ok(count) => {
                    // A short read has emptied the socket; the next byte makes a new event.
                    client.readable = count == self.read_buffer.len() || client.closing;
                    client.connection.receive(&self.read_buffer[..count], now);
                    self.take_calls(id, now);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => client.readable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.close(io, id, now),
            }
        }
        self.complete(now);
        self.write(io, id, now);
    }

    /// Writes what is due to a client, within its share of this turn, and ends the connection when
    /// that was the last of it.
    fn write(&mut self, io: &mut dyn Io, id: ConnectionId, now: Moment) {
        let Some(client) = self.clients.get_mut(id) else {
            return;
        };
        client.queued = false;
        // Of a client that takes nothing, nothing is read: more may have come before the stop.
        let is_last = (self.draining.is_some() && !client.readable) || client.spare;
        let mut has_more = false;
        while client.writable && client.connection.has_output() {
            let output = &mut self.output;
            client.connection.output(&self.heads, is_last, output);
            let taken = match io.write(id, output.bytes()) {
                Ok(taken) => taken,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(error) if error.kind() == ErrorKind::Interrupted => {
                    client.connection.took(0, output, now);
                    has_more = true;
                    break;
                }
                Err(_) => return self.close(io, id, now),
            };
            client.connection.took(taken, output, now);
            client.writable = taken == output.bytes().len();
            if output.is_streaming() {
                has_more = client.writable;
                break;
            }
        }
        match client.connection.end() {
            End::Open => {}
            End::Finish if io.finish(id).is_ok() => {
                client.connection.linger();
                client.readable = true;
            }
            End::Finish | End::Close => return self.close(io, id, now),
        }
        let has_calls = client.connection.has_backlog() && client.connection.is_reading();
        if has_more || has_calls || client.may_read() {
            queue(client, id, &mut self.work);
        }
        let interest = match client.writable {
            true => Interest::Read,
            false => Interest::ReadWrite,
        };
        if interest != client.watched {
            client.watched = interest;
            if io.watch(id, interest).is_err() {
                return self.close(io, id, now);
            }
        }
        if self.output.answered_len() >= limits::EVENTS_PER_TURN_MAX {
            self.measure(now);
        }
    }

    /// Checks every client's deadline, and takes memory back from the idle ones.
    fn sweep(&mut self, io: &mut dyn Io, now: Moment) {
        self.swept_at = now;
        for slot in 0..self.clients.slots() {
            let Some((id, client)) = self.clients.at(slot) else {
                continue;
            };
            let connection = &mut client.connection;
            if connection.is_idle() {
                let since = connection.idle_since();
                let grace = |draining: Draining| draining.since.max(since) + limits::LEAVING_GRACE;
                if self.draining.is_some_and(|draining| grace(draining) <= now) {
                    self.close(io, id, now);
                    continue;
                }
                if since + limits::SWEEP_INTERVAL <= now {
                    connection.release_buffers();
                }
            }
            let idle_timeout = match client.spare {
                true => limits::HEAD_TIMEOUT,
                false => self.idle_timeout,
            };
            let deadline = connection.deadline(idle_timeout);
            if deadline.is_none_or(|deadline| deadline > now) {
                continue;
            }
            match connection.expire() {
                Expiry::Close => self.close(io, id, now),
                Expiry::Answer(Rejected { sequence, reject }) => {
                    connection.complete(sequence, problems::rejected(reject));
                    queue(client, id, &mut self.work);
                }
            }
        }
    }

    fn sweep_interval(&self) -> Duration {
        match self.draining {
            Some(_) => limits::LEAVING_GRACE / 4,
            None => limits::SWEEP_INTERVAL,
        }
    }

    fn close(&mut self, io: &mut dyn Io, id: ConnectionId, now: Moment) {
        let Some(client) = self.clients.remove(id) else {
            return;
        };
        io.close(id);
        self.listeners[client.listener].open -= 1;
        if client.connection.is_awaiting() {
            self.allocator.cancel(id.number(), now);
        }
    }

    fn take_events(&mut self, now: Moment) {
        while let Some(event) = self.allocator.next_event() {
            self.journal.on_event(event, &self.numbering, now);
        }
    }
}
