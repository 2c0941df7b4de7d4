//! The dispenser: one FIFO of requests that wait for tickets, and the blocks of base ids that
//! MySQL has durably reserved for them.
//!
//! It exists so that a request is never a database job. The dispenser works out how many base
//! ids are missing, asks for one block of that size, and serves the FIFO from its front when the
//! block lands; 200 waiting requests cost one commit. It is pure state: no I/O and no clock of
//! its own, so that every interleaving can be tested.
//!
//! Two marks keep the promise. `seen` is the highest base id known to be committed; a block that
//! is not entirely above what was seen when it was asked for means that the database went
//! backwards, and puts up the fence. `released` is the highest base id that has gone
//! to the reserve; no block at or below it is ever taken in.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::limits;
use crate::ticket::{Block, Numbering, Run};

/// While a reservation takes less than this, a second one beside it would only cost processor
/// time: those who come meanwhile are better served by the next, larger block.
const RESERVATION_OVERLAP_MIN: Duration = Duration::from_millis(2);
/// Who has just been served often asks again at once. The next reservation waits for them for at
/// most so many times what a reservation takes, since the last one landed.
const GATHERING_LATENCIES_MAX: u32 = 3;
/// One in so many of them is not waited for: the last ones come while the commit is under way.
const GATHERING_LEFT_BEHIND: usize = 8;
/// One such interval without a newcomer ends the gathering.
const GATHERING_PAUSE_MAX: Duration = Duration::from_micros(100);
/// Demand is measured over windows of this length.
const DEMAND_WINDOW: Duration = Duration::from_millis(100);
/// Time constant, in seconds, of the exponential smoothing of the demand.
const DEMAND_SMOOTHING_SECONDS: f64 = 1.0;

/// How a [`Dispenser`] is set up.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The arithmetic from base ids to tickets.
    pub numbering: Numbering,
    /// How many reservations may be in flight at once.
    pub reservations_max: usize,
    /// A reservation that takes longer than this is no longer waited for: its share is asked
    /// for again, and blocks that came later go ahead of it.
    pub late_after: Duration,
    /// Seconds of recent demand to hold in reserve; 0 is strict mode, which asks for exactly
    /// what is waiting.
    pub prefetch_seconds: f64,
}

/// The FIFO, the blocks, and the reservations in flight.
#[derive(Debug)]
pub struct Dispenser {
    options: Options,
    waiting: VecDeque<Waiting>,
    waiting_tickets: u64,
    reserve: VecDeque<Block>,
    held: Vec<Held>,
    in_flight: Vec<Flight>,
    next_id: u64,
    seen: u64,
    released: u64,
    handed_out: Option<u64>,
    fence: Option<Fence>,
    latency: Duration,
    gathering: Gathering,
    demand: Demand,
}

/// What tells whether more requests are about to come.
#[derive(Clone, Copy, Debug, Default)]
struct Gathering {
    /// Requests that waited when the last block landed: so many clients are at work.
    crowd: usize,
    landed_at: Option<Instant>,
    /// While a reservation is held back: when to look for newcomers next.
    look_at: Option<Instant>,
    /// Requests that waited at the last look.
    looked_at: usize,
}

/// One request in the FIFO.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    client: usize,
    count: u64,
    deadline: Instant,
}

/// A reservation whose block has not landed yet.
#[derive(Clone, Copy, Debug)]
struct Flight {
    id: u64,
    count: u64,
    asked_at: Instant,
    floor: u64,
    late: bool,
    /// It was asked for before a fence went up. Whatever it brings belongs to a history that may
    /// have been undone, and its numbers may be given to others.
    void: bool,
}

/// A block that waits until no reservation in flight can still bring a lower one.
#[derive(Clone, Copy, Debug)]
struct Held {
    block: Block,
    /// Reservations with a lower id were in flight when the block landed.
    barrier: u64,
}

/// A reservation to send to the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// Names it in [`Dispenser::landed`] and [`Dispenser::failed`]; ids never recur.
    pub id: u64,
    /// How many base ids; at least 1.
    pub count: u64,
}

/// Tickets for the request at the front of the FIFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Who asked.
    pub client: usize,
    /// The tickets.
    pub run: Run,
}

/// The database went backwards: its counter stands below base ids that it had committed before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The highest base id that was seen committed; the counter must reach it again.
    pub seen: u64,
    /// What the counter stood at when that was noticed.
    pub found: u64,
}

/// Why a request is not let into the FIFO, or is sent away from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Too many requests wait already.
    QueueFull,
    /// The database went backwards.
    Fenced,
    /// Fewer tickets are left below 2^64 than were asked for.
    NumbersExhausted,
}

impl Dispenser {
    /// An empty dispenser that has seen nothing of the database yet.
    pub fn new(options: Options) -> Dispenser {
        assert!(
            options.reservations_max > 0,
            "a dispenser needs a reservation"
        );
        Dispenser {
            options,
            waiting: VecDeque::new(),
            waiting_tickets: 0,
            reserve: VecDeque::new(),
            held: Vec::with_capacity(options.reservations_max),
            in_flight: Vec::with_capacity(options.reservations_max),
            next_id: 0,
            seen: 0,
            released: 0,
            handed_out: None,
            fence: None,
            latency: Duration::ZERO,
            gathering: Gathering::default(),
            demand: Demand::default(),
        }
    }

    /// Lets a request for `count` tickets into the FIFO. All deadlines must lie equally far from
    /// the moment of their request, so that the front of the FIFO is always the first to expire.
    pub fn request(&mut self, client: usize, count: u64, deadline: Instant) -> Result<(), Refusal> {
        assert!(count > 0, "a request is for at least one ticket");
        if self.fence.is_some() {
            return Err(Refusal::Fenced);
        }
        if self.waiting.len() >= limits::WAITING_REQUESTS_MAX {
            return Err(Refusal::QueueFull);
        }
        self.waiting.push_back(Waiting {
            client,
            count,
            deadline,
        });
        self.waiting_tickets += count;
        self.demand.in_window += count;
        Ok(())
    }

    /// Serves the front of the FIFO, if the blocks at hand can. Requests of clients that are not
    /// `present` any more leave the FIFO unserved: their share goes to the next one.
    pub fn next_grant(&mut self, mut present: impl FnMut(usize) -> bool) -> Option<Grant> {
        while let Some(&Waiting { client, count, .. }) = self.waiting.front() {
            if !present(client) {
                self.leave_front();
                continue;
            }
            let block = self.take(count)?;
            self.leave_front();
            self.handed_out = Some(block.last);
            return Some(Grant {
                client,
                run: self.options.numbering.run(block),
            });
        }
        None
    }

    /// Takes the request at the front out of the FIFO if its deadline has passed.
    pub fn next_expired(&mut self, now: Instant) -> Option<usize> {
        let front = self.waiting.front()?;
        if front.deadline > now {
            return None;
        }
        Some(self.leave_front())
    }

    /// Takes a request out of the FIFO that can't be served: every one of them while the fence
    /// is up, and those for which too few numbers are left.
    pub fn next_refused(&mut self) -> Option<(usize, Refusal)> {
        if self.fence.is_some() {
            self.waiting.front()?;
            return Some((self.leave_front(), Refusal::Fenced));
        }
        // What is in flight may still land, even if it is late.
        let coming = self.held_tickets() + self.in_flight.iter().map(|f| f.count).sum::<u64>();
        let room = self.room().saturating_add(coming);
        if self.waiting_tickets <= room {
            return None;
        }
        let mut left = room;
        let refused = (0..self.waiting.len()).find(|&at| {
            let Waiting { client, count, .. } = self.waiting[at];
            if count <= left {
                left -= count;
                return false;
            }
            // An answer goes to the first of a client's requests that waits.
            !self
                .waiting
                .range(..at)
                .any(|earlier| earlier.client == client)
        })?;
        let request = self.waiting.remove(refused)?;
        self.waiting_tickets -= request.count;
        Some((request.client, Refusal::NumbersExhausted))
    }

    /// Takes the request at the front out of the FIFO, whatever its deadline: for a database that
    /// an operator must mend first.
    pub fn give_up_front(&mut self) -> Option<usize> {
        self.waiting.front()?;
        Some(self.leave_front())
    }

    /// The reservation that should be sent now, if any. It counts as in flight from here on, and
    /// must end in [`Dispenser::landed`] or [`Dispenser::failed`].
    pub fn next_reservation(&mut self, now: Instant) -> Option<Reservation> {
        self.measure_demand(now);
        self.give_up_on_late(now);
        if self.fence.is_some() || self.in_flight.len() >= self.options.reservations_max {
            return None;
        }
        let count = self.missing();
        if count == 0 || self.spacing_left(now).is_some() {
            return None;
        }
        if self.gather(now) {
            return None;
        }
        Some(self.ask(count, now))
    }

    /// A reservation of one base id although nobody may wait for it, to see whether the counter can
    /// be moved at all; the next request gets it.
    pub fn next_probe(&mut self, now: Instant) -> Option<Reservation> {
        let full = self.in_flight.len() >= self.options.reservations_max;
        if self.fence.is_some() || full || self.room() == 0 {
            return None;
        }
        Some(self.ask(1, now))
    }

    /// A reservation has been committed. Returns the fence if this put it up. What was asked for
    /// before a fence is dropped.
    pub fn landed(&mut self, id: u64, block: Block, now: Instant) -> Option<Fence> {
        let flight = self.end_flight(id);
        self.latency = base_latency(self.latency, now.duration_since(flight.asked_at));
        self.gathering = Gathering {
            crowd: self.waiting.len(),
            landed_at: Some(now),
            ..Gathering::default()
        };
        if flight.void {
            return None;
        }
        let was_seen = self.seen;
        if block.first <= flight.floor {
            return self.put_up_fence(was_seen, block.first - 1);
        }
        self.seen = was_seen.max(block.last);
        let given_before = block.first <= self.released
            || self
                .held
                .iter()
                .any(|held| held.block.first <= block.last && block.first <= held.block.last);
        if given_before {
            // What overtook a late reservation may stand above it: that is a gap, no more.
            if !flight.late {
                return self.put_up_fence(was_seen.max(block.last), block.first - 1);
            }
        } else {
            self.held.push(Held {
                block,
                barrier: self.next_id,
            });
            self.held.sort_unstable_by_key(|held| held.block.first);
        }
        self.release();
        None
    }

    /// A reservation has failed, or its outcome is unknown: its share is asked for again. The
    /// worst case is a gap.
    pub fn failed(&mut self, id: u64) {
        self.end_flight(id);
        self.release();
    }

    /// What the counter must not be below when it is read from now on.
    pub fn floor(&self) -> u64 {
        self.seen
    }

    /// The floor that held when a reservation was asked for; `None` when it is not in flight, or
    /// was asked for before a fence.
    pub fn floor_of(&self, id: u64) -> Option<u64> {
        self.in_flight
            .iter()
            .find(|flight| flight.id == id && !flight.void)
            .map(|flight| flight.floor)
    }

    /// The counter was read, by a read that was asked for when [`Dispenser::floor`] was `floor`.
    /// Puts up the fence when the counter went backwards, and takes it down when the database is
    /// ahead again. Returns the fence if this is what put it up.
    pub fn observed(&mut self, counter: u64, floor: u64) -> Option<Fence> {
        if counter < floor {
            return self.put_up_fence(self.seen, counter);
        }
        if self.fence.is_some_and(|fence| counter >= fence.seen) {
            self.fence = None;
        }
        self.seen = self.seen.max(counter);
        None
    }

    /// The fence, while it is up.
    pub fn fence(&self) -> Option<Fence> {
        self.fence
    }

    /// Given the counter of the database, the last base id that was handed out: what this
    /// process holds in reserve does not count.
    pub fn last_handed_out(&self, counter: u64) -> u64 {
        let mut last = counter;
        for block in self
            .held
            .iter()
            .map(|held| &held.block)
            .rev()
            .chain(self.reserve.iter().rev())
        {
            if block.last == last {
                last = block.first - 1;
            }
        }
        last.max(self.handed_out.unwrap_or(0))
    }

    /// When the dispenser must be looked at again although nothing has happened, if ever.
    pub fn wake_at(&self, now: Instant) -> Option<Instant> {
        let expiry = self.waiting.front().map(|front| front.deadline);
        let late = (!self.waiting.is_empty())
            .then(|| self.in_flight.iter().filter(|flight| !flight.late))
            .and_then(|mut flights| flights.next())
            .map(|flight| flight.asked_at + self.options.late_after);
        let free = self.in_flight.len() < self.options.reservations_max;
        let spacing = (free && self.missing() > 0)
            .then(|| self.spacing_left(now))
            .flatten()
            .map(|left| now + left);
        [expiry, late, spacing].into_iter().flatten().min()
    }

    /// While a reservation is held back for clients that are coming back: when
    /// [`Dispenser::next_reservation`] must be asked again at the latest.
    pub fn look_at(&self) -> Option<Instant> {
        self.gathering.look_at.filter(|_| !self.waiting.is_empty())
    }

    /// Requests in the FIFO.
    pub fn waiting_requests(&self) -> usize {
        self.waiting.len()
    }

    /// Tickets reserved and not handed out.
    pub fn reserve_tickets(&self) -> u64 {
        self.reserve.iter().map(Block::count).sum::<u64>() + self.held_tickets()
    }

    /// Whether no base id is left, neither here nor in the database.
    pub fn is_exhausted(&self) -> bool {
        self.room() == 0 && self.reserve_tickets() == 0 && self.in_flight.is_empty()
    }

    /// Tickets that prefetching aims to hold in reserve; 0 in strict mode.
    pub fn reserve_target(&self) -> u64 {
        self.demand.target(self.options.prefetch_seconds)
    }

    /// Takes `count` contiguous base ids from the reserve. Blocks in front of the first that is
    /// long enough are given up, since tickets only ever go up.
    fn take(&mut self, count: u64) -> Option<Block> {
        let enough = self
            .reserve
            .iter()
            .position(|block| block.count() >= count)?;
        self.reserve.drain(..enough);
        let block = self.reserve.front_mut()?;
        let taken = Block {
            first: block.first,
            last: block.first + (count - 1),
        };
        if taken.last == block.last {
            self.reserve.pop_front();
        } else {
            block.first = taken.last + 1;
        }
        Some(taken)
    }

    fn ask(&mut self, count: u64, now: Instant) -> Reservation {
        let id = self.next_id;
        self.next_id += 1;
        self.in_flight.push(Flight {
            id,
            count,
            asked_at: now,
            floor: self.seen,
            late: false,
            void: false,
        });
        self.gathering.look_at = None;
        Reservation { id, count }
    }

    fn leave_front(&mut self) -> usize {
        let front = self
            .waiting
            .pop_front()
            .expect("the callers have seen a front");
        self.waiting_tickets -= front.count;
        front.client
    }

    /// How many base ids are to be asked for. When requests wait, no block at hand serves the
    /// front one, so the reserve does not count for them.
    fn missing(&self) -> u64 {
        let coming = self.held_tickets()
            + self
                .in_flight
                .iter()
                .filter(|f| !f.late)
                .map(|f| f.count)
                .sum::<u64>();
        let target = self.reserve_target();
        let wanted = if self.waiting_tickets > coming {
            self.waiting_tickets - coming + target
        } else {
            let ahead = self.reserve_tickets_released() + coming - self.waiting_tickets;
            // Refilled at the half, so that one commit brings many tickets.
            if ahead >= target.div_ceil(2) {
                0
            } else {
                target - ahead
            }
        };
        wanted.min(self.room())
    }

    /// How much longer the newest reservation in flight keeps the next one back.
    fn spacing_left(&self, now: Instant) -> Option<Duration> {
        let newest = self.in_flight.iter().rfind(|flight| !flight.late)?;
        let spacing = if self.latency < RESERVATION_OVERLAP_MIN {
            self.options.late_after
        } else {
            self.latency / self.options.reservations_max as u32
        };
        let due = newest.asked_at + spacing;
        due.checked_duration_since(now)
            .filter(|left| !left.is_zero())
    }

    /// Whether to hold a reservation back because it will serve more requests a little later:
    /// clients that have just been served are coming back, and not all of them are here. What
    /// this costs the first of them is bounded by what a reservation takes; what it saves is a
    /// commit for a few.
    fn gather(&mut self, now: Instant) -> bool {
        let waiting = self.waiting.len();
        let gathering = &mut self.gathering;
        let most = self.latency * GATHERING_LATENCIES_MAX;
        let may = self.options.prefetch_seconds == 0.0
            && self.in_flight.is_empty()
            && self.latency < RESERVATION_OVERLAP_MIN
            && waiting < gathering.crowd - gathering.crowd / GATHERING_LEFT_BEHIND
            && gathering
                .landed_at
                .is_some_and(|at| now.duration_since(at) < most);
        let paused = gathering.look_at.is_some_and(|at| at <= now);
        if !may || (paused && waiting <= gathering.looked_at) {
            gathering.look_at = None;
            return false;
        }
        if paused || gathering.look_at.is_none() {
            gathering.looked_at = waiting;
            gathering.look_at = Some(now + GATHERING_PAUSE_MAX);
        }
        true
    }

    /// No longer waits for reservations that are late: what landed behind them goes ahead.
    pub fn give_up_on_late(&mut self, now: Instant) {
        let late_after = self.options.late_after;
        let mut any = false;
        for flight in self.in_flight.iter_mut().filter(|flight| !flight.late) {
            flight.late = now.duration_since(flight.asked_at) >= late_after;
            any |= flight.late;
        }
        if any {
            self.release();
        }
    }

    fn end_flight(&mut self, id: u64) -> Flight {
        let position = self.in_flight.iter().position(|flight| flight.id == id);
        self.in_flight
            .remove(position.expect("a reservation ends once"))
    }

    /// Moves blocks to the reserve that nothing in flight can go below: those that follow on what
    /// was released before, and those that every reservation of their time has answered.
    fn release(&mut self) {
        let oldest = self
            .in_flight
            .iter()
            .find(|flight| !flight.late)
            .map(|flight| flight.id);
        let ready = self.held.iter().take_while(|held| {
            let follows = held.block.first == self.released + 1;
            let clear = oldest.is_none_or(|id| id >= held.barrier);
            if follows || clear {
                self.released = held.block.last;
            }
            follows || clear
        });
        let count = ready.count();
        for Held { block, .. } in self.held.drain(..count) {
            match self.reserve.back_mut() {
                Some(back) if back.last + 1 == block.first => back.last = block.last,
                _ => self.reserve.push_back(block),
            }
        }
    }

    /// Stops everything. The reserve goes too: after a restore, another process may be given the
    /// same numbers.
    fn put_up_fence(&mut self, seen: u64, found: u64) -> Option<Fence> {
        let before = self.fence.map(|fence| fence.seen);
        self.seen = self.seen.max(seen);
        self.released = self.seen;
        self.fence = Some(Fence {
            seen: self.seen,
            found,
        });
        for flight in &mut self.in_flight {
            (flight.late, flight.void) = (true, true);
        }
        self.reserve.clear();
        self.held.clear();
        self.fence.filter(|fence| before != Some(fence.seen))
    }

    /// At most so many base ids are left; other processes may have taken some since.
    fn room(&self) -> u64 {
        self.options.numbering.last_base().saturating_sub(self.seen)
    }

    fn held_tickets(&self) -> u64 {
        self.held.iter().map(|held| held.block.count()).sum()
    }

    fn reserve_tickets_released(&self) -> u64 {
        self.reserve.iter().map(Block::count).sum()
    }

    fn measure_demand(&mut self, now: Instant) {
        if self.options.prefetch_seconds > 0.0 {
            self.demand.measure(now);
        }
    }
}

/// The recent demand for tickets, smoothed.
#[derive(Debug, Default)]
struct Demand {
    in_window: u64,
    window_began: Option<Instant>,
    tickets_per_second: f64,
}

impl Demand {
    fn measure(&mut self, now: Instant) {
        let began = *self.window_began.get_or_insert(now);
        let elapsed = now.duration_since(began);
        if elapsed < DEMAND_WINDOW {
            return;
        }
        let seconds = elapsed.as_secs_f64();
        let weight = 1.0 - (-seconds / DEMAND_SMOOTHING_SECONDS).exp();
        let rate = self.in_window as f64 / seconds;
        self.tickets_per_second += weight * (rate - self.tickets_per_second);
        self.in_window = 0;
        self.window_began = Some(now);
    }

    fn target(&self, prefetch_seconds: f64) -> u64 {
        // Rounded, so that demand which has died down asks for nothing.
        let tickets = (self.tickets_per_second * prefetch_seconds).round();
        (tickets as u64).min(limits::RESERVE_TICKETS_MAX)
    }
}

/// What a reservation takes when nothing else slows it down: follows shorter samples at once and
/// longer ones slowly, so that a busy processor is not taken for a distant database.
fn base_latency(known: Duration, sample: Duration) -> Duration {
    sample.min(known + known / 16 + Duration::from_micros(10))
}
