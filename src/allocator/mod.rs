//! The allocator: requests that wait for tickets in one FIFO, the blocks that serve them, and every
//! decision about the database, as plain state on a given clock.
//!
//! A request is never a database job. The allocator works out how many base ids are missing, asks
//! for one block of that size, and serves the FIFO from its front when the block lands: 200
//! requests cost one commit. Jobs go out and outcomes come in; there is no thread, channel, clock,
//! log or random source in here, so that a test can drive it through every order of events.
//!
//! Two facts have a writer each: the [`permit`], which is what the counter row allows, and the
//! *reach*, which is what the connection allows. One [`Verdict`] comes out of both and of the
//! stock, and everybody who speaks of the node speaks from it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::counter::{Epoch, Found, Job, JobId, Memory, Outcome, Warning};
use crate::fault::{Act, Fault, FaultKind};
use crate::limits;
use crate::moment::{Moment, Next};
use crate::ticket::{COUNTER_SEED, Numbering, Run};

use self::permit::Permit;
use self::pool::{Left, Pool};
use self::queue::Queue;
use self::rate::RateEstimate;
use self::reach::{Outage, Proof, Reach};
use self::stock::Stock;
use self::window::Window;

mod jobs;
mod outcomes;
mod permit;
mod pool;
mod queue;
mod rate;
mod reach;
mod stock;
mod window;

pub use self::permit::{Closed, Closing};

/// How often the row is read while it is open, so that the lease lasts.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// A reservation is late when it takes longer than this share of the time-out.
const LATE_SHARE: u32 = 4;
/// A reserve that nobody has asked for tickets in this time is given up.
const IDLE_RESERVE: Duration = Duration::from_secs(10);
/// Events that wait to be taken; a caller that takes none loses later ones.
const EVENTS_MAX: usize = 1024;

/// How an [`Allocator`] is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// The arithmetic from base ids to tickets.
    pub numbering: Numbering,
    /// Database threads, each with a session of its own; at least 1.
    pub pool_size: usize,
    /// How long a request waits.
    pub timeout: Duration,
    /// The time whose demand is reserved ahead; zero is strict mode, in which exactly what is
    /// waiting is asked for.
    pub prefetch: Duration,
    /// Spreads the pauses of many nodes.
    pub seed: u64,
    /// What an earlier process of this node remembered.
    pub remembered: Memory,
}

/// Names a request: its connection, and its place among those of the connection. Neither recurs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId {
    /// The connection.
    pub connection: u64,
    /// The request of the connection, counted up.
    pub sequence: u64,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ask {
    /// This many tickets, at least one, as one run.
    Tickets(u64),
    /// That the row be read after the request came, for `/status`.
    Status,
}

/// A request that need not wait any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The request.
    pub id: RequestId,
    /// What it gets.
    pub answer: Answer,
}

/// How a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Tickets.
    Tickets(Run),
    /// The row has been read: [`Allocator::status`] is fresh.
    Status,
    /// Nothing.
    Refused(Refusal),
}

/// Why a request gets nothing; no ticket is used up by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The database did not answer within the time-out.
    TimedOut,
    /// Too many requests wait already.
    QueueFull,
    /// Fewer tickets are left than were asked for.
    NumbersExhausted,
    /// The node does not serve it; the [`Verdict`] says why.
    Unavailable,
}

/// Whether the node would serve a request that came now, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// Tickets are issued.
    Serving,
    /// Tickets are issued from the reserve, while the database fails.
    Degraded(&'a Fault),
    /// The database has not been reached yet.
    Starting,
    /// The database fails, and there is no reserve.
    Unavailable(&'a Fault),
    /// The counter row is closed.
    Closed(&'a Closed),
    /// What is stored must be mended by an operator.
    Misfit(&'a Fault),
    /// No ticket is left.
    Exhausted,
}

/// The numbers of an allocator at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The highest base id that was seen; `None` before the row was.
    pub counter: Option<u64>,
    /// The last base id that was issued, as far as is known; `None` before the first.
    pub last_issued: Option<u64>,
    /// What is remembered of the row.
    pub memory: Memory,
    /// Tickets that are reserved and not issued.
    pub reserve: u64,
    /// Requests that wait for tickets.
    pub waiting: usize,
    /// Whether the database does what it is asked.
    pub database_up: bool,
    /// Database threads that hang and were given up.
    pub hung: usize,
}

/// Something that happened, for the log and the metrics.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A session was opened, to a server of this version.
    Connected {
        /// The thread.
        worker: usize,
        /// As the server spells it.
        version: String,
        /// What tells this counter from every other.
        identity: String,
    },
    /// The warnings are others than before.
    Warnings(Vec<Warning>),
    /// A block was reserved.
    Reserved {
        /// Its base ids.
        count: u64,
        /// From the job having been issued.
        took: Duration,
    },
    /// A job has failed.
    Failed(Fault),
    /// The database no longer does what it is asked, or fails in another way than before.
    Unavailable(Fault),
    /// The database does what it is asked again, after so long.
    Available(Duration),
    /// The row is closed.
    Closed(Closing),
    /// The row is open, in another epoch or after it was closed.
    Opened,
    /// What is stored must be mended by an operator.
    Misfit(Fault),
    /// This many reserved tickets were given up: a gap.
    Dropped(u64),
    /// No ticket is left.
    Exhausted,
    /// The very first contact with the database found what only an operator can mend.
    CannotStart(Fault),
}

/// The FIFO, the blocks, and what is known of the database.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Allocator {
    numbering: Numbering,
    timeout: Duration,
    prefetch: Duration,
    seed: u64,
    queue: Queue,
    rate: RateEstimate,
    window: Window,
    stock: Stock,
    permit: Permit,
    reach: Reach,
    pool: Pool,
    next_job: JobId,
    /// What a reservation takes when nothing else slows it down.
    latency: Duration,
    /// When the row was last asked for.
    read_asked: Option<Moment>,
    /// When the last question was asked that was answered with the row.
    read_answered: Option<Moment>,
    asked_at: Moment,
    /// The identity of the server that was connected to last.
    server: String,
    warnings: Vec<Warning>,
    events: VecDeque<Event>,
    told_exhausted: bool,
    /// The server that was asked last calls itself read-only, or the row calls another one its
    /// owner.
    is_elsewhere: bool,
    /// What time changes by itself is done up to here, and the database has said nothing since.
    passed: Option<Moment>,
}

impl Allocator {
    /// One that knows nothing of the database yet.
    pub fn new(options: Options, now: Moment) -> Allocator {
        let Options {
            numbering,
            pool_size,
            timeout,
            prefetch,
            seed,
            remembered,
        } = options;
        Allocator {
            numbering,
            timeout,
            prefetch,
            seed,
            queue: Queue::default(),
            rate: RateEstimate::default(),
            window: Window::default(),
            stock: Stock::default(),
            permit: Permit::new(remembered),
            reach: Reach::untried(),
            pool: Pool::new(pool_size),
            next_job: JobId(0),
            latency: Duration::ZERO,
            read_asked: None,
            read_answered: None,
            asked_at: now,
            server: String::new(),
            warnings: Vec::new(),
            events: VecDeque::new(),
            told_exhausted: false,
            is_elsewhere: false,
            passed: None,
        }
    }

    /// Lets a request in. Its answer is a completion, also when it is refused.
    pub fn submit(&mut self, id: RequestId, ask: Ask, now: Moment) {
        let deadline = now + self.timeout;
        match ask {
            Ask::Tickets(count) => {
                assert!(count > 0, "a request is for at least one ticket");
                self.rate.add(count);
                self.asked_at = now;
                self.queue.submit(id, count, deadline);
            }
            Ask::Status => self.queue.submit_status(id, now, deadline),
        }
    }

    /// A connection is gone: its requests use up nothing, and are not completed.
    pub fn cancel(&mut self, connection: u64, now: Moment) {
        self.queue.cancel(connection, now + self.timeout);
    }

    /// The next request that need not wait any longer.
    pub fn next_completion(&mut self, now: Moment) -> Next<Completion> {
        self.pass(now);
        if let Some(completion) = self.queue.next_refused() {
            return Next::Ready(completion);
        }
        if let Some((id, count, deadline)) = self.queue.front() {
            let answer = if let Some(refusal) = self.refusal(count, now) {
                Some(Answer::Refused(refusal))
            } else if let Some(block) = self.stock.take(count) {
                Some(Answer::Tickets(self.numbering.run(block)))
            } else {
                (deadline <= now).then_some(Answer::Refused(Refusal::TimedOut))
            };
            if let Some(answer) = answer {
                self.queue.pop();
                return Next::Ready(Completion { id, answer });
            }
        }
        if let Some((id, asked, deadline)) = self.queue.front_status() {
            let answer = if self.read_answered >= Some(asked) {
                Some(Answer::Status)
            } else if deadline <= now || self.cannot_read(now) {
                Some(Answer::Refused(match self.reach.is_up() {
                    true => Refusal::TimedOut,
                    false => Refusal::Unavailable,
                }))
            } else {
                None
            };
            if let Some(answer) = answer {
                self.queue.pop_status();
                return Next::Ready(Completion { id, answer });
            }
        }
        let Some(expires) = self.queue.wake_at() else {
            return Next::Idle;
        };
        let in_vain = self.reach.outage().map(|outage| {
            let reads = self.reads_until().filter(|_| !self.pool.has_session());
            [Some(outage.since + self.timeout), reads]
        });
        let in_vain = in_vain.into_iter().flatten().flatten();
        let in_vain = in_vain.filter(|at| *at > now).min();
        Next::At(in_vain.map_or(expires, |at| at.min(expires)))
    }

    /// The next thing to ask the database. It counts as given out from here on.
    pub fn next_job(&mut self, now: Moment) -> Next<Job> {
        self.pass(now);
        let mut wake = self.housekeeping_at();
        for step in [
            Allocator::next_close,
            Allocator::next_connect,
            Allocator::next_read,
            Allocator::next_probe,
            Allocator::next_reservation,
            Allocator::next_renewal,
        ] {
            match step(self, now) {
                Next::Ready(job) => return Next::Ready(job),
                waiting => wake = waiting.wake(wake),
            }
        }
        match wake {
            Some(at) => Next::At(at),
            None => Next::Idle,
        }
    }

    /// A job has ended. One that is unknown, or was given up, changes nothing.
    pub fn on_outcome(&mut self, outcome: Outcome, now: Moment) {
        let Some((worker, flight)) = self.pool.end(outcome.id) else {
            return;
        };
        self.passed = None;
        match outcome.found {
            Err(fault) => {
                self.stock.fail(outcome.id);
                self.on_fault(worker, flight, fault, now);
            }
            Ok(found) => {
                if let Some(session) = flight.session {
                    self.pool.leave(worker, session, Left::Usable, true);
                }
                match found {
                    // It has verified what was stored before that was found unfit.
                    Found::Connected { .. } if self.is_misfit_since(flight.issued) => {}
                    Found::Connected { view, server } => {
                        self.pool.connected(worker, server.connection, now);
                        // Not when it was asked: attempts that fail must not put reads off.
                        self.read_asked = self.read_asked.max(Some(flight.issued));
                        self.note(Event::Connected {
                            worker,
                            version: server.version,
                            identity: of_epoch(&server.identity, view.epoch),
                        });
                        self.server = server.identity;
                        self.on_warnings(server.warnings);
                        self.on_view(&view, flight, now);
                        self.on_success(flight, Proof::Any, now);
                    }
                    Found::Read { view, warnings } => {
                        if let Some(warnings) = warnings {
                            self.on_warnings(warnings);
                        }
                        self.on_view(&view, flight, now);
                        self.on_success(flight, Proof::Any, now);
                    }
                    Found::Closed { view } => {
                        self.on_view(&view, flight, now);
                        // What a server does not take is offered again after the next read.
                        self.permit.close_due = false;
                    }
                    Found::Refused { view } => self.on_refused(outcome.id, &view, flight, now),
                    Found::Reserved { last } => self.on_reserved(outcome.id, last, flight, now),
                }
            }
        }
    }

    /// Whether a request that came now would be served, and if not, why.
    pub fn verdict(&self, now: Moment) -> Verdict<'_> {
        match (&self.permit.state, &self.reach.state) {
            (permit::State::Misfit(fault), _) => Verdict::Misfit(fault),
            (permit::State::Closed(closed), _) => Verdict::Closed(closed),
            (permit::State::Unknown | permit::State::Open, reach::State::Down(outage)) => {
                match self.stock.reserved() > 0 && self.lease_lasts(now) {
                    _ if outage.fault.kind.row().act == Act::Mend => Verdict::Misfit(&outage.fault),
                    true => Verdict::Degraded(&outage.fault),
                    false => Verdict::Unavailable(&outage.fault),
                }
            }
            (permit::State::Open, reach::State::Up) => match self.is_exhausted() {
                true => Verdict::Exhausted,
                false => Verdict::Serving,
            },
            (permit::State::Unknown, reach::State::Up)
            | (permit::State::Unknown | permit::State::Open, reach::State::Untried) => {
                Verdict::Starting
            }
        }
    }

    /// The numbers of this moment.
    pub fn status(&self) -> Status {
        let id = self.permit.memory.id;
        let counter = (id >= COUNTER_SEED).then_some(id);
        let last = counter.map(|counter| self.stock.last_issued(counter));
        Status {
            counter,
            last_issued: last.filter(|last| *last > COUNTER_SEED),
            memory: self.permit.memory,
            reserve: self.stock.tickets(),
            waiting: self.queue.waiting(),
            database_up: self.reach.is_up(),
            hung: self.pool.hung(),
        }
    }

    /// What tells this counter from every other, the same for all processes that count with it;
    /// `None` before the row was seen.
    pub fn database(&self) -> Option<String> {
        let epoch = self.permit.memory.epoch;
        (!self.server.is_empty()).then(|| of_epoch(&self.server, epoch))
    }

    /// What is remembered of the row, for the next process of this node.
    pub fn memory(&self) -> Memory {
        self.permit.memory
    }

    /// The next thing that has happened; to be taken until there is none, after every step.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What time alone changes.
    fn pass(&mut self, now: Moment) {
        // A turn asks for many completions at one moment.
        if self.passed.replace(now) == Some(now) {
            return;
        }
        if !self.prefetch.is_zero() {
            self.rate.measure(now);
            if self.asked_at + IDLE_RESERVE <= now {
                self.rate = RateEstimate::default();
                let dropped = self.stock.clear();
                self.note_dropped(dropped);
            }
        }
        if self.stock.tickets() > 0 && !self.lease_lasts(now) {
            let dropped = self.stock.clear();
            self.note_dropped(dropped);
        }
        self.stock.overtake_late(self.late_after(), now);
        while let Some((worker, flight)) = self.pool.give_up(self.hang_after(), now) {
            self.stock.fail(flight.job);
            let fault = Fault::new(FaultKind::TimedOut, "");
            self.judge(worker, flight, fault, now);
        }
    }

    /// When [`Allocator::pass`] has something to do that makes another job possible.
    fn housekeeping_at(&self) -> Option<Moment> {
        let late = self.stock.late_at(self.late_after());
        let idle = !self.prefetch.is_zero() && self.stock.tickets() > 0;
        let idle = idle.then(|| self.asked_at + IDLE_RESERVE);
        let lease = match self.stock.tickets() {
            0 => None,
            _ => self.permit.lease_end(),
        };
        let hang = self.pool.give_up_at(self.hang_after());
        [late, idle, lease, hang].into_iter().flatten().min()
    }

    /// Why a request at the front of the FIFO can't be served, however long it waits.
    fn refusal(&self, count: u64, now: Moment) -> Option<Refusal> {
        if self.stock.has(count) {
            return None;
        }
        match &self.permit.state {
            permit::State::Closed(_) | permit::State::Misfit(_) => {
                return Some(Refusal::Unavailable);
            }
            permit::State::Unknown => {}
            permit::State::Open => {
                // What is in flight may still land, even if it is late.
                let most = self.room().saturating_add(self.stock.hoped_for());
                if self.reach.is_up() && most < count {
                    return Some(Refusal::NumbersExhausted);
                }
            }
        }
        let in_vain = |outage| self.is_in_vain(outage, now);
        let outage = self.reach.outage().is_some_and(in_vain);
        outage.then_some(Refusal::Unavailable)
    }

    /// Whether it is pointless to wait for the row to be read.
    fn cannot_read(&self, now: Moment) -> bool {
        let in_vain = |outage| self.is_in_vain(outage, now);
        !self.pool.has_session()
            && self.reads_until().is_none_or(|until| until <= now)
            && self.reach.outage().is_some_and(in_vain)
    }

    /// Until when the row is worth waiting for because it has just been read: a session that was
    /// closed since, to see where the name leads, is followed by another.
    fn reads_until(&self) -> Option<Moment> {
        self.read_answered.map(|asked| asked + self.timeout)
    }

    /// Whether an outage is not worth waiting for: a short one is waited through.
    fn is_in_vain(&self, outage: &Outage, now: Moment) -> bool {
        outage.fault.kind.row().act != Act::Retry || outage.since + self.timeout <= now
    }

    fn is_exhausted(&self) -> bool {
        self.room() == 0 && self.stock.tickets() == 0 && self.stock.hoped_for() == 0
    }

    fn lease_lasts(&self, now: Moment) -> bool {
        self.permit.lease_end().is_some_and(|end| end > now)
    }

    fn late_after(&self) -> Duration {
        self.timeout / LATE_SHARE
    }

    /// A thread gives up on its own before that, unless it hangs where it can't notice.
    fn hang_after(&self) -> Duration {
        (self.timeout * 2).max(limits::DATABASE_IO_TIMEOUT_MIN) + limits::DATABASE_HANG_GRACE
    }

    fn note_dropped(&mut self, tickets: u64) {
        if tickets > 0 {
            self.note(Event::Dropped(tickets));
        }
    }

    fn note(&mut self, event: Event) {
        if self.events.len() < EVENTS_MAX {
            self.events.push_back(event);
        }
    }
}

/// The identity of a counter: copies of a database may be opened by different servers.
fn of_epoch(server: &str, epoch: Epoch) -> String {
    format!("{server}/{:016x}", epoch.tag)
}

/// A duration within a quarter more or less, so that many nodes do not act at the same moment.
fn spread(duration: Duration, seed: u64, salt: u64) -> Duration {
    // SplitMix64, a mixing of bits: https://doi.org/10.1145/2714064.2660195
    let mut bits = seed.wrapping_add(salt.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let share = ((bits ^ (bits >> 31)) % 512) as u32;
    duration * (768 + share) / 1024
}

/// What a reservation takes when nothing else slows it down: follows shorter samples at once and
/// longer ones slowly, so that a busy processor is not taken for a distant database.
fn base_latency(known: Duration, sample: Duration) -> Duration {
    sample.min(known + known / 16 + Duration::from_micros(10))
}

#[cfg(test)]
mod tests;
