//! What is written down of a hunt: each ticket of each 200, the violations, the figures.
//!
//! A ticket is one bit, so that many millions of them fit in a few megabytes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tickr::ticket::{Numbering, Run};

/// Violations that are kept; the first one is what matters.
const VIOLATIONS_MAX: usize = 20;
/// A node's tickets stay below this many; a higher one is taken for nonsense.
const TICKETS_MAX: u64 = 1 << 33;

/// Everything that one hunt finds out.
pub(crate) struct Record {
    violations: Mutex<Vec<String>>,
    faults: Mutex<BTreeMap<&'static str, u64>>,
    stop: AtomicBool,
}

/// What is known of the tickets of one node number.
pub(crate) struct NodeRecord {
    pub(crate) numbering: Numbering,
    tickets: Mutex<Tickets>,
    pub(crate) answers: AtomicU64,
    pub(crate) refusals: AtomicU64,
    pub(crate) lost: AtomicU64,
    back_at: Mutex<Option<Instant>>,
    recovering: AtomicBool,
    recoveries: Mutex<Vec<Duration>>,
}

/// One bit for each ticket.
#[derive(Default)]
struct Tickets {
    given: Vec<u64>,
    count: u64,
    end: u64,
}

impl Record {
    pub(crate) fn new() -> Record {
        Record {
            violations: Mutex::default(),
            faults: Mutex::default(),
            stop: AtomicBool::new(false),
        }
    }

    /// Writes down that the promise was broken, which ends the hunt.
    pub(crate) fn violation(&self, what: impl fmt::Display) {
        let mut violations = lock(&self.violations);
        if violations.len() < VIOLATIONS_MAX {
            violations.push(what.to_string());
        }
        self.stop();
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        lock(&self.violations).clone()
    }

    pub(crate) fn fault(&self, kind: &'static str) {
        *lock(&self.faults).entry(kind).or_default() += 1;
    }

    pub(crate) fn faults(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.faults).clone()
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

impl NodeRecord {
    pub(crate) fn new(numbering: Numbering) -> NodeRecord {
        NodeRecord {
            numbering,
            tickets: Mutex::default(),
            answers: AtomicU64::new(0),
            refusals: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            back_at: Mutex::new(None),
            recovering: AtomicBool::new(false),
            recoveries: Mutex::default(),
        }
    }

    /// Writes down the tickets of one answer, or says what is wrong with them.
    pub(crate) fn add(&self, run: Run) -> Result<(), String> {
        self.answers.fetch_add(1, Ordering::Relaxed);
        if self.recovering.swap(false, Ordering::SeqCst)
            && let Some(back_at) = lock(&self.back_at).take()
        {
            lock(&self.recoveries).push(back_at.elapsed());
        }
        let step = self.numbering.max_nodes();
        let lowest = self.numbering.starting_offset() + self.numbering.node_number();
        let distance = run.first.checked_sub(lowest);
        let index = distance.filter(|distance| distance % step == 0);
        let Some(index) = index.filter(|_| run.increment == step).map(|by| by / step) else {
            return Err(format!(
                "{run:?} is not on the arithmetic of {}",
                self.numbering
            ));
        };
        if index + run.count > TICKETS_MAX {
            return Err(format!("{run:?} is far above everything that was reserved"));
        }
        match lock(&self.tickets).add(index, run.count) {
            None => Ok(()),
            Some(twice) => Err(format!(
                "ticket {} was handed out twice, the second time in {run:?}",
                lowest + twice * step
            )),
        }
    }

    /// The database answers from now on: the next 200 tells how long recovery took.
    pub(crate) fn database_is_back(&self) {
        *lock(&self.back_at) = Some(Instant::now());
        self.recovering.store(true, Ordering::SeqCst);
    }

    /// How long there has been no ticket since the database was back.
    pub(crate) fn recovering_for(&self) -> Option<Duration> {
        let back_at = *lock(&self.back_at);
        back_at.map(|back_at| back_at.elapsed())
    }

    pub(crate) fn recoveries(&self) -> Vec<Duration> {
        lock(&self.recoveries).clone()
    }

    /// Tickets handed out, and those up to the last one that were not.
    pub(crate) fn count_and_gaps(&self) -> (u64, u64) {
        let tickets = lock(&self.tickets);
        // A ticket that was given twice is counted twice.
        (tickets.count, tickets.end.saturating_sub(tickets.count))
    }

    /// The highest ticket that was handed out.
    pub(crate) fn last_ticket(&self) -> Option<u64> {
        let end = lock(&self.tickets).end;
        (end > 0).then(|| {
            let lowest = self.numbering.starting_offset() + self.numbering.node_number();
            lowest + (end - 1) * self.numbering.max_nodes()
        })
    }
}

impl Tickets {
    /// Sets the bits from `first` on; returns the first that was set before.
    fn add(&mut self, first: u64, count: u64) -> Option<u64> {
        let end = first + count;
        let words = end.div_ceil(64) as usize;
        if self.given.len() < words {
            self.given.resize(words, 0);
        }
        let mut twice = None;
        let mut index = first;
        while index < end {
            let from = index % 64;
            let until = (from + (end - index)).min(64);
            let mask = (u64::MAX >> (64 - (until - from))) << from;
            let word = &mut self.given[(index / 64) as usize];
            if *word & mask != 0 && twice.is_none() {
                twice = Some(index - from + u64::from((*word & mask).trailing_zeros()));
            }
            *word |= mask;
            index += until - from;
        }
        self.count += count;
        self.end = self.end.max(end);
        twice
    }
}

/// Locks a mutex. A thread that panicked is reported when it is joined.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
