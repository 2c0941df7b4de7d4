//! The tickets that a client has cached: one pool behind a lock, and from it a few tickets for each
//! thread, which takes them with one atomic operation.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::error::Error;
use crate::limits;
use crate::ticket::Run;

/// Bits of [`Shard::state`] that count what is left; the others hold the generation.
const LEFT_BITS: u32 = 16;
const LEFT_MASK: u64 = (1 << LEFT_BITS) - 1;
const _: () = assert!(limits::CLIENT_SHARD_TICKETS_MAX <= LEFT_MASK);

thread_local! {
    static THREAD: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// What threads take tickets from without a lock. A thread keeps to one of them, so that threads
/// on several processors do not pull one cache line to and fro.
#[derive(Default)]
pub(super) struct Shards {
    shards: [Shard; limits::CLIENT_SHARDS],
}

/// A piece of a run. Aligned to two cache lines, as processors fetch them in pairs.
#[derive(Default)]
#[repr(align(128))]
struct Shard {
    /// The generation and, in its last bits, how many tickets are left. It changes with every
    /// ticket taken and every piece put in, and never recurs.
    state: AtomicU64,
    last: AtomicU64,
    increment: AtomicU64,
}

/// Who refills a pool.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Refill {
    /// Nobody has needed it yet.
    Nobody,
    /// A thread, in the background.
    ByThread,
    /// The next caller who finds it empty: no thread can be started, or relied on.
    ByCallers,
    /// A caller is at it; others wait for it.
    ByOneCaller,
}

/// The tickets that no thread has taken for itself.
pub(super) struct Pool {
    runs: VecDeque<Run>,
    /// Tickets in `runs`.
    left: u64,
    /// How many to have; it follows the demand.
    size: u64,
    size_max: u64,
    landed_at: Option<Instant>,
    /// Somebody has begun to wait for a ticket since the last refill ended.
    pub(super) wanted: bool,
    /// Refills begun so far.
    pub(super) attempts: u64,
    /// The last refill that failed, and why.
    pub(super) failure: Option<(u64, Error)>,
    /// Not before then without need: the last refill failed.
    again_at: Option<Instant>,
    pub(super) refill: Refill,
    /// The client is gone.
    pub(super) stopped: bool,
}

impl Shards {
    /// A ticket of this thread's piece.
    #[inline]
    pub(super) fn take(&self) -> Option<u64> {
        self.mine().take()
    }

    /// A ticket for a thread that has none: from its piece, which it may share with another thread;
    /// a new piece of the pool; or what other threads have left.
    ///
    /// The pool's lock is held, so that nobody else puts a piece in.
    pub(super) fn take_from(&self, pool: &mut Pool) -> Option<u64> {
        let mine = self.mine();
        if let Some(ticket) = mine.take() {
            return Some(ticket);
        }
        if let Some(mut run) = pool.cut() {
            let ticket = run.first;
            if run.count > 1 {
                run.first += run.increment;
                run.count -= 1;
                mine.put(run);
            }
            return Some(ticket);
        }
        self.shards.iter().find_map(Shard::take)
    }

    fn mine(&self) -> &Shard {
        let number = match THREAD.get() {
            usize::MAX => number_thread(),
            number => number,
        };
        &self.shards[number % limits::CLIENT_SHARDS]
    }
}

#[cold]
fn number_thread() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    let number = THREADS.fetch_add(1, Ordering::Relaxed) % limits::CLIENT_SHARDS;
    THREAD.set(number);
    number
}

impl Shard {
    /// The fields are read before it is known that they belong to the state, which the exchange
    /// then proves: it fails when anything was taken or put in since. They can't be from a later
    /// piece either: that one is put in only after the last ticket was taken, with an exchange
    /// that our fields were read before.
    #[inline]
    fn take(&self) -> Option<u64> {
        let mut state = self.state.load(Ordering::Acquire);
        loop {
            let left = state & LEFT_MASK;
            if left == 0 {
                return None;
            }
            let last = self.last.load(Ordering::Relaxed);
            let increment = self.increment.load(Ordering::Relaxed);
            let taken = self.state.compare_exchange_weak(
                state,
                state - 1,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            match taken {
                // Until now the fields may not have belonged together.
                Ok(_) => return Some(last.wrapping_sub((left - 1).wrapping_mul(increment))),
                Err(now) => state = now,
            }
        }
    }

    /// It is empty, and nobody else puts a piece in.
    fn put(&self, run: Run) {
        let state = self.state.load(Ordering::Acquire);
        assert_eq!(state & LEFT_MASK, 0, "a piece is put into an empty shard");
        assert!((1..=LEFT_MASK).contains(&run.count), "a piece fits");
        self.last.store(run.last(), Ordering::Relaxed);
        self.increment.store(run.increment, Ordering::Relaxed);
        let generation = (state >> LEFT_BITS).wrapping_add(1);
        let state = (generation << LEFT_BITS) | run.count;
        self.state.store(state, Ordering::Release);
    }
}

impl Pool {
    pub(super) fn new(size_max: u64, refill: Refill) -> Pool {
        Pool {
            runs: VecDeque::new(),
            left: 0,
            size: limits::CLIENT_CACHE_TICKETS_MIN.min(size_max),
            size_max,
            landed_at: None,
            wanted: false,
            attempts: 0,
            failure: None,
            again_at: None,
            refill,
            stopped: false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.left == 0
    }

    pub(super) fn is_low(&self) -> bool {
        self.left <= self.size / 2
    }

    /// How many tickets to fetch now; the pool is low. Halves the pool after a lull.
    pub(super) fn missing(&mut self, now: Instant) -> u64 {
        let landed_at = self.landed_at.take();
        if landed_at.is_some_and(|at| now.saturating_duration_since(at) > limits::CLIENT_LULL) {
            let least = limits::CLIENT_CACHE_TICKETS_MIN.min(self.size_max);
            self.size = (self.size / 2).max(least);
        }
        self.size.saturating_sub(self.left).max(1)
    }

    /// A refill is there. When most of what was left at its start is gone, it was too late, or
    /// nearly so, and the next one is larger.
    pub(super) fn land(&mut self, run: Run, now: Instant) {
        if self.left < self.size.div_ceil(4) && self.attempts > 1 {
            self.size = self.size.saturating_mul(2).min(self.size_max);
        }
        self.landed_at = Some(now);
        self.again_at = None;
        self.left += run.count;
        self.runs.push_back(run);
    }

    /// A refill failed.
    pub(super) fn fail(&mut self, attempt: u64, error: Error, now: Instant) {
        self.failure = Some((attempt, error));
        self.again_at = Some(now + limits::CLIENT_PAUSE_MIN);
    }

    /// How long to leave the servers alone, as long as nobody waits for a ticket.
    pub(super) fn pause(&self, now: Instant) -> Option<Duration> {
        let pause = self.again_at?.saturating_duration_since(now);
        (!pause.is_zero()).then_some(pause)
    }

    /// The servers issue fewer tickets at once than were asked for. Whether to ask again.
    pub(super) fn ask_for_less(&mut self, count: u64) -> bool {
        self.size_max = (count / 2).max(1);
        self.size = self.size.min(self.size_max);
        count > 1
    }

    /// A piece for one thread: small enough that others find some as well.
    fn cut(&mut self) -> Option<Run> {
        let piece = (self.left / 8).clamp(1, limits::CLIENT_SHARD_TICKETS_MAX);
        let run = self.runs.front_mut()?;
        let cut = Run {
            count: piece.min(run.count),
            ..*run
        };
        self.left -= cut.count;
        if cut.count == run.count {
            self.runs.pop_front();
        } else {
            run.first += cut.count * run.increment;
            run.count -= cut.count;
        }
        Some(cut)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use super::*;
    use crate::client::lock;

    fn run(first: u64, count: u64) -> Run {
        Run {
            first,
            increment: 3,
            count,
        }
    }

    #[test]
    fn one_thread_takes_all_in_order() {
        let shards = Shards::default();
        let mut pool = Pool::new(10_000, Refill::ByThread);
        let now = Instant::now();
        pool.land(run(7, 1_000), now);
        pool.land(run(u64::MAX - 30, 11), now);
        for index in 0..1_000 {
            let ticket = shards.take().or_else(|| shards.take_from(&mut pool));
            assert_eq!(ticket, Some(7 + 3 * index));
        }
        for index in 0..11 {
            let ticket = shards.take().or_else(|| shards.take_from(&mut pool));
            assert_eq!(ticket, Some(u64::MAX - 30 + 3 * index));
        }
        assert_eq!(shards.take_from(&mut pool), None);
    }

    #[test]
    fn threads_take_every_ticket_once_and_leave_none() {
        const THREADS: usize = 4;
        const TICKETS: u64 = 200_000;
        let shards = Shards::default();
        let pool = Mutex::new(Pool::new(1_000, Refill::ByThread));
        let done = AtomicBool::new(false);
        let take_all = || {
            let mut taken = Vec::new();
            loop {
                let last = done.load(Ordering::SeqCst);
                match shards.take().or_else(|| shards.take_from(&mut lock(&pool))) {
                    Some(ticket) => taken.push(ticket),
                    None if last => return taken,
                    None => thread::yield_now(),
                }
            }
        };
        let mut all: Vec<u64> = thread::scope(|scope| {
            let takers: Vec<_> = (0..THREADS).map(|_| scope.spawn(take_all)).collect();
            for first in (0..TICKETS).step_by(500) {
                lock(&pool).land(run(3 * first, 500), Instant::now());
            }
            done.store(true, Ordering::SeqCst);
            let taken = takers.into_iter().map(|taker| taker.join().expect("takes"));
            taken.flatten().collect()
        });
        all.sort_unstable();
        assert!(all.into_iter().eq((0..TICKETS).map(|index| 3 * index)));
    }

    #[test]
    fn the_pool_follows_the_demand_within_its_bound() {
        let mut now = Instant::now();
        let mut pool = Pool::new(1_000, Refill::ByThread);
        let refill = |pool: &mut Pool, now| {
            pool.attempts += 1;
            let count = pool.missing(now);
            pool.land(run(0, count), now);
            count
        };
        // As it begins, it is empty; that is not late.
        assert_eq!(refill(&mut pool, now), limits::CLIENT_CACHE_TICKETS_MIN);
        let mut sizes = Vec::new();
        for _ in 0..8 {
            while pool.cut().is_some() {}
            refill(&mut pool, now);
            sizes.push(pool.size);
        }
        assert_eq!(sizes, [32, 64, 128, 256, 512, 1_000, 1_000, 1_000]);
        // In time: it stays as it is.
        while !pool.is_low() {
            pool.cut();
        }
        refill(&mut pool, now);
        assert_eq!(pool.size, 1_000);
        for _ in 0..20 {
            now += limits::CLIENT_LULL + Duration::from_millis(1);
            while !pool.is_low() {
                pool.cut();
            }
            refill(&mut pool, now);
        }
        assert_eq!(pool.size, limits::CLIENT_CACHE_TICKETS_MIN);
    }

    #[test]
    fn less_is_asked_for_where_a_server_issues_less() {
        let mut pool = Pool::new(1_000, Refill::ByThread);
        assert!(pool.ask_for_less(16));
        assert_eq!(pool.missing(Instant::now()), 8);
        assert!(!pool.ask_for_less(1));
        assert_eq!(pool.missing(Instant::now()), 1);
    }
}
