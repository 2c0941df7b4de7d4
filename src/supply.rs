//! The database as the event loop sees it: the dispenser, the workers that feed it, and what is
//! to be done while the database is away or an operator must mend it.
//!
//! It decides which job goes to MySQL and when, turns outcomes into settled requests, and logs
//! each change of state once. It never blocks.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::database::{DatabaseError, Job, Opened, Outcome, Reply, Warning, Workers};
use crate::dispenser::{Dispenser, Fence, Grant, Refusal, Reservation};
use crate::http::response::{JSON, Page, Problem, Unavailable};
use crate::limits;
use crate::metrics::{DatabaseMetrics, SupplyScrape};
use crate::ticket::{COUNTER_SEED, Numbering};

/// How often a fenced node looks whether the database is ahead again.
const FENCE_LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Pause before the second attempt to reach the database; doubled for each further one.
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(25);
/// Longest pause between two attempts, so that recovery takes less than a second.
const RETRY_PAUSE_MAX: Duration = Duration::from_millis(400);

/// What an operator is told when no number is left.
const EXHAUSTED: &str = "the numbers have run out: no ticket is left up to 2^64 - 1, and this node \
     can't go on; only a new cluster, with new databases, can";
/// Outages that follow each other sooner log a class of error once: a pool that is larger than
/// the server allows would fill the log.
const LOG_PAUSE: Duration = Duration::from_secs(1);
/// Readiness is known from what the database did last; when that is older, it is looked at.
const NEWS_AGE_MAX: Duration = Duration::from_secs(1);

/// Where tickets and the status come from.
pub struct Supply {
    numbering: Numbering,
    pool_timeout: Duration,
    dispenser: Dispenser,
    workers: Workers,
    outage: Option<Outage>,
    /// The classes of error that have been logged a short while ago, in whichever outage.
    logged: Vec<(&'static str, Instant)>,
    fence: Option<Fenced>,
    status: StatusReads,
    /// Somebody wants to know how the database is, and nothing has been heard of it for a while.
    look_asked: bool,
    /// That the numbers have run out has been logged.
    told_exhausted: bool,
    warnings: Vec<Warning>,
    reads: Vec<Read>,
    next_read: u64,
    connected_before: bool,
    last_answer: Option<Instant>,
    metrics: DatabaseMetrics,
    jitter: RandomState,
}

/// The database does not do what it is asked.
struct Outage {
    since: Instant,
    /// `None` until the first attempt to connect has failed.
    error: Option<DatabaseError>,
    /// The counter may be readable, but could not be moved: only a reservation ends this.
    takes_no_writes: bool,
    /// The classes of error that have been logged since it began: each once, though they
    /// may take turns.
    logged: Vec<&'static str>,
    attempts: u32,
    /// When to try again, beside attempts that may still hang.
    retry_at: Instant,
}

impl Outage {
    fn since(now: Instant) -> Outage {
        Outage {
            since: now,
            error: None,
            takes_no_writes: false,
            logged: Vec::new(),
            attempts: 0,
            retry_at: now,
        }
    }
}

/// The fence is up: the database went backwards.
struct Fenced {
    /// What every request for tickets gets.
    page: Rc<Page>,
    detail: String,
    /// When to look whether the database is ahead again.
    look_at: Instant,
}

/// Requests for `/status` that wait for one shared read of the counter.
#[derive(Default)]
struct StatusReads {
    waiting: VecDeque<(usize, Instant)>,
    read: Option<StatusRead>,
}

/// The read of the counter that the oldest of them wait for.
#[derive(Clone, Copy)]
struct StatusRead {
    id: u64,
    /// It answers so many of them; those that came later need a later read.
    covers: usize,
    late_at: Instant,
}

/// A read of the counter that is under way.
struct Read {
    id: u64,
    floor: u64,
}

/// How a request for tickets was turned away.
#[derive(Clone, Debug)]
pub enum TurnedAway {
    /// With one of the standard answers.
    Unavailable(Unavailable),
    /// With a page of its own.
    Page(Rc<Page>),
}

/// A request that need not wait any longer.
pub enum Settled {
    /// Tickets, for the first of this client's requests that waits for them.
    Tickets(Grant),
    /// None, for the first of this client's requests that waits for tickets.
    NoTickets(usize, TurnedAway),
    /// The status, for the first of this client's requests that waits for it.
    Status(usize, Rc<Page>),
}

impl Supply {
    /// A supply that has not connected yet.
    pub fn new(
        dispenser: Dispenser,
        workers: Workers,
        numbering: Numbering,
        pool_timeout: Duration,
        now: Instant,
    ) -> Supply {
        Supply {
            numbering,
            pool_timeout,
            dispenser,
            workers,
            outage: Some(Outage::since(now)),
            logged: Vec::new(),
            fence: None,
            status: StatusReads::default(),
            look_asked: false,
            told_exhausted: false,
            warnings: Vec::new(),
            reads: Vec::new(),
            next_read: 0,
            connected_before: false,
            last_answer: None,
            metrics: DatabaseMetrics::default(),
            jitter: RandomState::new(),
        }
    }

    /// Queues a request for tickets, unless it is clear that it would wait in vain.
    pub fn request(&mut self, client: usize, count: u64, now: Instant) -> Result<(), TurnedAway> {
        if let Some(why) = self.turned_away(now)
            && (self.fence.is_some() || self.dispenser.reserve_tickets() < count)
        {
            return Err(why);
        }
        self.dispenser
            .request(client, count, now + self.pool_timeout)
            .map_err(|refusal| self.explain(refusal))
    }

    /// Queues a request for the status.
    pub fn request_status(&mut self, client: usize, now: Instant) -> Result<(), Unavailable> {
        if self.status.waiting.len() >= limits::WAITING_REQUESTS_MAX {
            return Err(Unavailable::Overloaded);
        }
        self.status
            .waiting
            .push_back((client, now + self.pool_timeout));
        Ok(())
    }

    /// Somebody is about to be told how the database is. When it has not been heard of for a while,
    /// the next [`Supply::order`] looks at it, so that whoever asks again learns of its loss.
    pub fn look(&mut self, now: Instant) {
        let is_old = |answer: Instant| answer + NEWS_AGE_MAX <= now;
        self.look_asked = self.last_answer.is_none_or(is_old) && self.reads.is_empty();
    }

    /// Takes in what the workers have done. An error means that the very first contact with the
    /// database found something that only an operator can mend.
    pub fn collect(
        &mut self,
        now: Instant,
        settle: &mut impl FnMut(Settled),
    ) -> Result<(), DatabaseError> {
        while let Some(outcome) = self.workers.next_outcome() {
            self.take_in(outcome, now, settle)?;
            if self.dispenser.is_exhausted() && !self.told_exhausted {
                log::error!("{EXHAUSTED}");
                self.told_exhausted = true;
            }
        }
        Ok(())
    }

    /// Settles every request that can be settled now. Requests of clients that are not `present`
    /// any more spend nothing.
    pub fn dispense(
        &mut self,
        now: Instant,
        present: impl Fn(usize) -> bool,
        settle: &mut impl FnMut(Settled),
    ) {
        self.dispenser.give_up_on_late(now);
        loop {
            while let Some(grant) = self.dispenser.next_grant(&present) {
                settle(Settled::Tickets(grant));
            }
            let Some((client, refusal)) = self.dispenser.next_refused() else {
                break;
            };
            settle(Settled::NoTickets(client, self.explain(refusal)));
        }
        while let Some(client) = self.dispenser.next_expired(now) {
            let why = match self.takes_no_writes() {
                true => Unavailable::DatabaseRefuses,
                false => Unavailable::TimedOut,
            };
            settle(Settled::NoTickets(client, TurnedAway::Unavailable(why)));
        }
        if self.operator_must_act() {
            while let Some(client) = self.dispenser.give_up_front() {
                let why = TurnedAway::Unavailable(Unavailable::DatabaseRefuses);
                settle(Settled::NoTickets(client, why));
            }
        }
        self.expire_status(now, settle);
    }

    /// Sends the jobs that are due to the workers.
    pub fn order(&mut self, now: Instant) {
        if self.status.read.is_some_and(|read| read.late_at <= now) {
            self.status.read = None;
        }
        if let Some(outage) = &mut self.outage {
            if outage.retry_at <= now && self.workers.idle() > 0 {
                outage.retry_at = now + RETRY_PAUSE_MAX;
                self.probe(now);
            }
            // Its attempts do not read then.
            if self.takes_no_writes() && self.status_waits() && self.workers.idle() > 0 {
                self.read_counter(now);
            }
            return;
        }
        let look = self
            .fence
            .as_ref()
            .is_some_and(|fence| fence.look_at <= now);
        let looked = std::mem::take(&mut self.look_asked);
        if (look || looked || self.status_waits()) && self.workers.idle() > 0 {
            if let Some(fence) = &mut self.fence {
                fence.look_at = now + FENCE_LOOK_INTERVAL;
            }
            self.read_counter(now);
        }
        while self.workers.idle() > 0 {
            let Some(reservation) = self.dispenser.next_reservation(now) else {
                break;
            };
            self.reserve(reservation);
        }
    }

    /// When something is due although nothing has happened, if ever.
    pub fn wake_at(&self, now: Instant) -> Option<Instant> {
        let retry = self.outage.as_ref().map(|outage| outage.retry_at);
        let status = self.status.waiting.front().map(|(_, deadline)| *deadline);
        let late = self.status.read.map(|read| read.late_at);
        // During an outage its attempts read the counter.
        let look = self.fence.as_ref().filter(|_| self.outage.is_none());
        let look = look.map(|fence| fence.look_at);
        let gather = self.dispenser.look_at().filter(|_| self.outage.is_none());
        // Without an idle worker, its outcome is what wakes the loop.
        let can_order = self.workers.idle() > 0;
        [retry, look, late, gather]
            .into_iter()
            .flatten()
            .filter(|_| can_order)
            .chain(status)
            .chain(self.dispenser.wake_at(now))
            .min()
    }

    /// Whether the database has been reached, or an attempt to reach it has failed.
    pub fn has_tried(&self) -> bool {
        self.outage
            .as_ref()
            .is_none_or(|outage| outage.error.is_some())
    }

    /// Whether a ticket would be given now, and if not, why.
    pub fn readiness(&self) -> Result<(), String> {
        if let Some(fence) = &self.fence {
            return Err(fence.detail.clone());
        }
        if self.dispenser.is_exhausted() {
            return Err(EXHAUSTED.to_owned());
        }
        match &self.outage {
            Some(outage) if self.dispenser.reserve_tickets() == 0 => Err(match &outage.error {
                Some(error) => error.to_string(),
                None => "the database has not been reached yet".to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// What `/metrics` tells of it.
    pub fn scrape(&self) -> SupplyScrape {
        let counter = Some(self.dispenser.floor()).filter(|counter| *counter >= COUNTER_SEED);
        let last = counter.map(|counter| self.dispenser.last_handed_out(counter));
        SupplyScrape {
            database: self.metrics.clone(),
            up: self.outage.is_none(),
            fenced: self.fence.is_some(),
            waiting_requests: self.dispenser.waiting_requests() as u64,
            reserve_tickets: self.dispenser.reserve_tickets(),
            numbering: self.numbering,
            counter,
            last_ticket: last.and_then(|base| self.numbering.ticket(base)),
        }
    }

    /// Ends the workers; waits for them at most this long.
    pub fn stop(self, within: Duration) {
        self.workers.stop(within);
    }

    fn take_in(
        &mut self,
        outcome: Outcome,
        now: Instant,
        settle: &mut impl FnMut(Settled),
    ) -> Result<(), DatabaseError> {
        let Outcome {
            worker,
            job,
            took,
            result,
            opened,
        } = outcome;
        let began = now.checked_sub(took).unwrap_or(now);
        if let Some(opened) = &opened {
            self.metrics.opened(worker);
            self.greet(opened, job, now);
        }
        if let Err(error) = &result {
            self.metrics.failed(error.class());
        }
        match (job, result) {
            (Job::Reserve { id, .. }, Ok(Reply::Block(block))) => {
                self.metrics.reserved(block.count(), took);
                self.recover(now);
                let fence = self.dispenser.landed(id, block, now);
                self.put_up(fence, now);
            }
            (Job::ReadCounter { id }, Ok(Reply::Counter(counter))) => {
                if !self.takes_no_writes() {
                    self.recover(now);
                }
                self.counter_read(id, counter, now, settle);
            }
            (Job::Reserve { id, .. }, Err(DatabaseError::NumbersExhausted { counter })) => {
                self.recover(now);
                if let Some(floor) = self.dispenser.floor_of(id) {
                    let fence = self.dispenser.observed(counter, floor);
                    self.put_up(fence, now);
                }
                self.dispenser.failed(id);
            }
            (job, Err(error)) => {
                match job {
                    Job::Reserve { id, .. } => self.dispenser.failed(id),
                    Job::ReadCounter { id } => self.forget_read(id),
                }
                if !self.connected_before && error.needs_operator() {
                    return Err(error);
                }
                // A job from before the last success says nothing of the database of now.
                if self.last_answer.is_none_or(|answer| began >= answer) {
                    self.lose(job, error, now);
                }
            }
            (Job::Reserve { .. }, Ok(Reply::Counter(_)))
            | (Job::ReadCounter { .. }, Ok(Reply::Block(_))) => {
                unreachable!("a worker answers the job that it was given")
            }
        }
        Ok(())
    }

    /// A session was opened: its counter is checked first, and its server may deserve a warning.
    fn greet(&mut self, opened: &Opened, job: Job, now: Instant) {
        if !self.connected_before {
            log::info!("connected to the database ({})", opened.server_version);
        }
        if self.warnings != opened.warnings {
            opened
                .warnings
                .iter()
                .for_each(|warning| log::warn!("{warning}"));
            self.warnings.clone_from(&opened.warnings);
        }
        if let Some(floor) = self.floor_of(job) {
            let fence = self.dispenser.observed(opened.counter, floor);
            self.put_up(fence, now);
        }
        if !self.connected_before {
            self.connected_before = true;
            // The rest of the pool connects now, so that no request waits for it later.
            while self.workers.idle() > 0 {
                self.read_counter(now);
            }
        }
    }

    fn counter_read(
        &mut self,
        id: u64,
        counter: u64,
        now: Instant,
        settle: &mut impl FnMut(Settled),
    ) {
        let Some(floor) = self.floor_of(Job::ReadCounter { id }) else {
            return;
        };
        self.reads.retain(|read| read.id != id);
        let fence = self.dispenser.observed(counter, floor);
        self.put_up(fence, now);
        if self.fence.is_some() && self.dispenser.fence().is_none() {
            log::info!("the database is ahead again: tickets are handed out");
            self.fence = None;
        }
        let Some(read) = self.status.read.filter(|read| read.id == id) else {
            return;
        };
        self.status.read = None;
        let page = Rc::new(self.status_page(counter));
        for (client, _) in self.status.waiting.drain(..read.covers) {
            settle(Settled::Status(client, Rc::clone(&page)));
        }
    }

    fn forget_read(&mut self, id: u64) {
        self.reads.retain(|read| read.id != id);
        self.status.read.take_if(|read| read.id == id);
    }

    /// Whether somebody waits for the status, and no read of the counter is on its way.
    fn status_waits(&self) -> bool {
        !self.status.waiting.is_empty() && self.status.read.is_none()
    }

    fn status_page(&self, counter: u64) -> Page {
        let last = self.dispenser.last_handed_out(counter);
        let last_ticket = Some(last).filter(|last| *last > COUNTER_SEED);
        let mut status = json!({
            "last_ticket": last_ticket.and_then(|base| self.numbering.ticket(base)),
            "node_number": self.numbering.node_number(),
            "max_nodes": self.numbering.max_nodes(),
            "starting_offset": self.numbering.starting_offset(),
            "version": env!("CARGO_PKG_VERSION"),
            "state": "serving",
            "reserve": self.dispenser.reserve_tickets(),
        });
        if let Some(fence) = &self.fence {
            status["state"] = json!("fenced");
            status["detail"] = json!(fence.detail);
        } else if self.dispenser.is_exhausted() {
            status["state"] = json!("exhausted");
            status["detail"] = json!(EXHAUSTED);
        } else if let Some(error) = self.error() {
            status["state"] = json!("stalled");
            status["detail"] = json!(error.to_string());
        }
        Page {
            status: 200,
            content_type: JSON,
            body: status.to_string().into_bytes(),
        }
    }

    fn expire_status(&mut self, now: Instant, settle: &mut impl FnMut(Settled)) {
        // What can be read is told all the same.
        let refuses = self.operator_must_act() && !self.takes_no_writes();
        while let Some(&(client, deadline)) = self.status.waiting.front() {
            if deadline > now && !refuses {
                break;
            }
            self.status.waiting.pop_front();
            if let Some(read) = &mut self.status.read {
                read.covers = read.covers.saturating_sub(1);
            }
            let problem = self.unavailable(now).unwrap_or(Unavailable::TimedOut);
            let page = Page::problem(503, Problem::Unavailable(problem).detail());
            settle(Settled::Status(client, Rc::new(page)));
        }
    }

    /// The fence went up just now: says so, once, everywhere.
    fn put_up(&mut self, fence: Option<Fence>, now: Instant) {
        let Some(Fence { seen, found }) = fence else {
            return;
        };
        let ticket = |base| match self.numbering.ticket(base) {
            Some(ticket) => ticket.to_string(),
            None => "none".to_owned(),
        };
        let detail = format!(
            "The database went backwards: it had committed tickets up to {}, and now its last one \
             is {}. Tickets from it would be duplicates, so this node hands out none. This \
             happens after a restore from a backup or a fail-over to a replica that lags behind. \
             Run `tickr db advance --past {}` (or a higher ticket, if other nodes of this number \
             handed some out); this node then goes on by itself.",
            ticket(seen),
            ticket(found),
            ticket(seen),
        );
        // What was asked for before says nothing of the database of now.
        self.reads.clear();
        self.status.read = None;
        log::error!("{detail}");
        let page = Rc::new(Page::problem(503, &detail));
        self.fence = Some(Fenced {
            page,
            detail,
            look_at: now + FENCE_LOOK_INTERVAL,
        });
    }

    fn recover(&mut self, now: Instant) {
        self.last_answer = Some(now);
        let Some(outage) = self.outage.take() else {
            return;
        };
        if !outage.logged.is_empty() {
            let away = now.duration_since(outage.since);
            log::info!("the database is back after {:.1} s", away.as_secs_f64());
        }
    }

    fn lose(&mut self, job: Job, error: DatabaseError, now: Instant) {
        let pause = match &self.outage {
            None => Duration::ZERO,
            Some(outage) => self.pause(outage.attempts),
        };
        let outage = self.outage.get_or_insert_with(|| Outage::since(now));
        let class = error.class();
        let logged = &mut self.logged;
        logged.retain(|(_, at)| now.duration_since(*at) < LOG_PAUSE);
        if !outage.logged.contains(&class) && !logged.iter().any(|(known, _)| *known == class) {
            logged.push((class, now));
            outage.logged.push(class);
            log::error!("the database does not serve: {error}");
        }
        outage.takes_no_writes = match job {
            Job::Reserve { .. } => outage.takes_no_writes || error.may_spare_reads(),
            Job::ReadCounter { .. } => false,
        };
        outage.error = Some(error);
        outage.attempts = outage.attempts.saturating_add(1);
        outage.retry_at = now + pause;
    }

    /// The pause before the next attempt: doubled each time, within a quarter more or less, so
    /// that many nodes do not come back at the same moment.
    fn pause(&self, attempts: u32) -> Duration {
        let doubled = RETRY_PAUSE_MIN.saturating_mul(1 << attempts.min(8));
        let pause = doubled.min(RETRY_PAUSE_MAX);
        let random = self.jitter.hash_one(attempts) % 512;
        pause.mul_f64(0.75 + random as f64 / 1024.0)
    }

    /// One attempt to get something out of a database that was away.
    fn probe(&mut self, now: Instant) {
        let next = match self.takes_no_writes() {
            // Reading would not tell, and a whole block might be lost.
            true => self.dispenser.next_probe(now),
            false => self.dispenser.next_reservation(now),
        };
        match next {
            Some(reservation) => self.reserve(reservation),
            None => self.read_counter(now),
        }
    }

    /// The counter can be read, but not moved. A fenced node only reads.
    fn takes_no_writes(&self) -> bool {
        let outage = self.outage.as_ref();
        self.fence.is_none() && outage.is_some_and(|outage| outage.takes_no_writes)
    }

    fn reserve(&mut self, reservation: Reservation) {
        let job = Job::Reserve {
            id: reservation.id,
            count: reservation.count,
        };
        assert!(
            self.workers.submit(job),
            "the callers have seen an idle worker"
        );
    }

    fn read_counter(&mut self, now: Instant) {
        let id = self.next_read;
        self.next_read += 1;
        self.reads.push(Read {
            id,
            floor: self.dispenser.floor(),
        });
        let covers = self.status.waiting.len();
        if covers > 0 && self.status.read.is_none() {
            self.status.read = Some(StatusRead {
                id,
                covers,
                late_at: now + self.pool_timeout,
            });
        }
        assert!(
            self.workers.submit(Job::ReadCounter { id }),
            "the callers have seen an idle worker"
        );
    }

    fn floor_of(&self, job: Job) -> Option<u64> {
        match job {
            Job::Reserve { id, .. } => self.dispenser.floor_of(id),
            Job::ReadCounter { id } => self
                .reads
                .iter()
                .find(|read| read.id == id)
                .map(|read| read.floor),
        }
    }

    fn turned_away(&self, now: Instant) -> Option<TurnedAway> {
        match &self.fence {
            Some(fence) => Some(TurnedAway::Page(Rc::clone(&fence.page))),
            None => self.unavailable(now).map(TurnedAway::Unavailable),
        }
    }

    /// Why a request made now would wait in vain. A short outage is waited through.
    fn unavailable(&self, now: Instant) -> Option<Unavailable> {
        let outage = self.outage.as_ref()?;
        if self.operator_must_act() {
            return Some(Unavailable::DatabaseRefuses);
        }
        (outage.since + self.pool_timeout <= now).then_some(match outage.takes_no_writes {
            true => Unavailable::DatabaseRefuses,
            false => Unavailable::DatabaseAway,
        })
    }

    /// Why the database does not do what it is asked.
    fn error(&self) -> Option<&DatabaseError> {
        self.outage.as_ref()?.error.as_ref()
    }

    fn operator_must_act(&self) -> bool {
        self.error().is_some_and(DatabaseError::needs_operator)
    }

    fn explain(&self, refusal: Refusal) -> TurnedAway {
        match (refusal, &self.fence) {
            (Refusal::Fenced, Some(fence)) => TurnedAway::Page(Rc::clone(&fence.page)),
            (Refusal::Fenced, None) => TurnedAway::Unavailable(Unavailable::Fenced),
            (Refusal::QueueFull, _) => TurnedAway::Unavailable(Unavailable::Overloaded),
            (Refusal::NumbersExhausted, _) => {
                TurnedAway::Unavailable(Unavailable::NumbersExhausted)
            }
        }
    }
}
