//! Which job is next: what the allocator asks of the database, and when.

use std::time::Duration;

use super::pool::Kind;
use super::reach::{self, Outage, Proof};
use super::{Allocator, HEARTBEAT, spread};
use crate::counter::{Job, JobId, Task};
use crate::moment::{Moment, Next};

/// How often the row is read while nothing may be issued, so that a node goes on soon after.
const CLOSED_HEARTBEAT: Duration = Duration::from_millis(200);
/// A probe that hangs is waited for so long before another is sent beside it: each may use up a
/// number, where commits hang behind the counter's move.
const PROBE_PATIENCE: Duration = Duration::from_secs(2);
/// While a reservation takes less than this, a second one beside it would only cost processor
/// time in strict mode: those who come meanwhile are better served by the next, larger block.
const OVERLAP_MIN: Duration = Duration::from_millis(2);
/// A session is replaced at this age, more or less by a quarter, so that a name that moved is
/// followed.
const SESSION_AGE_MAX: Duration = Duration::from_secs(30 * 60);

impl Allocator {
    /// The row is behind what is remembered, and must be closed for everybody.
    pub(super) fn next_close(&mut self, now: Moment) -> Next<Job> {
        if !self.permit.close_due || self.pool.is_doing(Kind::Close) {
            return Next::Idle;
        }
        let Some(worker) = self.pool.hottest() else {
            return Next::Idle;
        };
        let memory = self.permit.memory;
        self.issue(worker, Kind::Close, Task::Close { memory }, now)
    }

    /// Sessions for threads that have none: one at a time until the database is reached.
    pub(super) fn next_connect(&mut self, now: Moment) -> Next<Job> {
        let connects = self.pool.is_doing(Kind::Connect);
        let needed = match &self.reach.state {
            reach::State::Untried => !connects,
            // One is enough to see where the name leads by now.
            reach::State::Up if self.is_elsewhere => !connects && !self.pool.has_session(),
            reach::State::Up => true,
            reach::State::Down(_) if connects || self.pool.hottest().is_some() => false,
            reach::State::Down(outage) if outage.retry_at > now => {
                return Next::At(outage.retry_at);
            }
            reach::State::Down(_) => true,
        };
        if !needed {
            return Next::Idle;
        }
        match self.pool.empty(now) {
            Ok((worker, replaces)) => {
                self.reach.attempt(now);
                self.issue(worker, Kind::Connect, Task::Connect { replaces }, now)
            }
            Err(Some(at)) => Next::At(at),
            Err(None) => Next::Idle,
        }
    }

    /// The heartbeat, and what `/status` waits for.
    pub(super) fn next_read(&mut self, now: Moment) -> Next<Job> {
        let heartbeat = match self.permit.epoch() {
            Some(_) => HEARTBEAT,
            None => CLOSED_HEARTBEAT,
        };
        let due = self.read_asked.map_or(now, |asked| asked + heartbeat);
        let probes = |outage: &Outage| outage.proof == Proof::Any;
        let probe = self.reach.outage().filter(|outage| probes(outage));
        let due = probe.map_or(due, |outage| due.min(outage.retry_at));
        let awaited = self.queue.oldest_status();
        let awaited = awaited
            .is_some_and(|asked| self.read_answered < Some(asked) && !self.pool.reads_since(asked));
        let Some(worker) = self.pool.coldest() else {
            return Next::Idle;
        };
        if !awaited && due > now {
            return Next::At(due);
        }
        if self.reach.outage().is_some_and(probes) {
            self.reach.attempt(now);
        }
        self.issue(worker, Kind::Read, Task::Read, now)
    }

    /// During an outage that only a reservation ends: one base id, to see whether the counter can
    /// be moved; the next request gets it.
    pub(super) fn next_probe(&mut self, now: Moment) -> Next<Job> {
        let (Some(outage), Some(_)) = (self.reach.outage(), self.permit.epoch()) else {
            return Next::Idle;
        };
        if outage.proof != Proof::Reservation {
            return Next::Idle;
        }
        let (Some(worker), true) = (self.pool.hottest(), self.room() > 0) else {
            return Next::Idle;
        };
        let patience = PROBE_PATIENCE.max(self.late_after());
        let hangs = self.stock.last_asked().map(|asked| asked + patience);
        let due = outage.retry_at.max(hangs.unwrap_or_default());
        if due > now {
            return Next::At(due);
        }
        self.reach.attempt(now);
        self.reserve(worker, 1, now)
    }

    /// What is missing, as one block.
    pub(super) fn next_reservation(&mut self, now: Moment) -> Next<Job> {
        if !self.reach.is_up() || self.permit.epoch().is_none() {
            return Next::Idle;
        }
        let (Some(worker), count @ 1..) = (self.pool.hottest(), self.missing()) else {
            return Next::Idle;
        };
        if let Some(at) = self.spacing_end().filter(|at| *at > now) {
            return Next::At(at);
        }
        if self.prefetch.is_zero() && self.stock.flights() == 0 && self.latency < OVERLAP_MIN {
            let waiting = self.queue.waiting();
            if let Some(at) = self.window.holds_until(waiting, self.latency, now) {
                return Next::At(at);
            }
        }
        self.reserve(worker, count, now)
    }

    /// An old session gives way to a new one.
    pub(super) fn next_renewal(&mut self, now: Moment) -> Next<Job> {
        if !self.reach.is_up() || self.pool.is_doing(Kind::Connect) || self.queue.waiting() > 0 {
            return Next::Idle;
        }
        let seed = self.seed;
        let age = |worker| spread(SESSION_AGE_MAX, seed, worker as u64);
        match self.pool.aged(age, now) {
            Some(worker) => {
                let task = Task::Connect { replaces: None };
                self.issue(worker, Kind::Connect, task, now)
            }
            None => Next::Idle,
        }
    }

    pub(super) fn reserve(&mut self, worker: usize, count: u64, now: Moment) -> Next<Job> {
        let Some(epoch) = self.permit.epoch() else {
            return Next::Idle;
        };
        let floor = self.permit.memory.id;
        self.stock.ask(self.next_job, count, epoch, floor, now);
        self.window.close();
        let task = Task::Reserve {
            count,
            epoch,
            floor,
        };
        self.issue(worker, Kind::Reserve, task, now)
    }

    pub(super) fn issue(
        &mut self,
        worker: usize,
        kind: Kind,
        task: Task,
        now: Moment,
    ) -> Next<Job> {
        let id = self.next_job;
        self.next_job = JobId(id.0 + 1);
        self.pool.begin(worker, id, kind, self.permit.memory, now);
        if kind == Kind::Read {
            self.read_asked = Some(now);
        }
        Next::Ready(Job { id, worker, task })
    }

    /// How many base ids to ask for. The reserve does not count while no block is long enough for
    /// the request at the front, here or on its way.
    pub(super) fn missing(&self) -> u64 {
        let waiting = self.queue.waiting_tickets();
        let serves = self
            .queue
            .next_count()
            .is_none_or(|count| self.stock.has(count) || self.stock.expects(count));
        let reserved = if serves { self.stock.reserved() } else { 0 };
        let available = reserved + self.stock.coming();
        let target = self.rate.within(self.prefetch);
        let wanted = if waiting > available {
            (waiting - available).saturating_add(target)
        } else {
            let ahead = available - waiting;
            // Refilled at the half, so that one commit brings many tickets.
            match ahead >= target.div_ceil(2) {
                true => 0,
                false => target - ahead,
            }
        };
        wanted.min(self.room())
    }

    /// Until when the newest reservation in flight keeps the next one back.
    pub(super) fn spacing_end(&self) -> Option<Moment> {
        let spacing = match self.prefetch.is_zero() && self.latency < OVERLAP_MIN {
            true => self.late_after(),
            false => self.latency / self.pool.size() as u32,
        };
        Some(self.stock.newest_flight()? + spacing)
    }

    /// At most this many base ids are left; other processes may have taken some since.
    pub(super) fn room(&self) -> u64 {
        self.numbering
            .last_base()
            .saturating_sub(self.permit.memory.id)
    }
}
