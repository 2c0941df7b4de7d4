//! The blocks that MySQL has reserved, and the reservations that will bring more.
//!
//! Tickets must leave in increasing order although reservations overtake each other, so a block
//! that lands is first held in a *reorder buffer*, until nothing in flight can still bring a lower
//! one. Only then it is released to the *reserve*, from which requests are served. A reservation
//! that is late is no longer waited for; what it brings is dropped if others went ahead of it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::counter::{Epoch, JobId};
use crate::moment::Moment;
use crate::ticket::Block;

/// Blocks and reservations of one process, all of one epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Stock {
    /// Blocks to serve from, in increasing order, neighbours merged.
    reserve: VecDeque<Block>,
    /// The reorder buffer, in increasing order.
    reorder: Vec<Held>,
    /// In the order in which they were asked for.
    flights: Vec<Flight>,
    /// The highest base id that was ever released; every later block is above it.
    released: u64,
    /// The last base id that was issued.
    issued: Option<u64>,
}

/// A reservation whose block has not landed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Flight {
    pub(super) job: JobId,
    pub(super) count: u64,
    pub(super) asked: Moment,
    pub(super) epoch: Epoch,
    pub(super) floor: u64,
    late: bool,
    /// The epoch or the lease that it was asked under is over: what it brings is dropped.
    void: bool,
}

/// A block that waits until no reservation in flight can still bring a lower one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Held {
    block: Block,
    /// Reservations of earlier jobs were in flight when the block landed.
    barrier: JobId,
}

/// What became of a block that landed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Landed {
    /// It is in stock.
    Kept,
    /// It is given up: a gap.
    Dropped,
    /// The database reserved numbers that it had reserved before: it went backwards.
    Repeated,
}

impl Stock {
    /// A reservation goes out.
    pub(super) fn ask(&mut self, job: JobId, count: u64, epoch: Epoch, floor: u64, now: Moment) {
        self.flights.push(Flight {
            job,
            count,
            asked: now,
            epoch,
            floor,
            late: false,
            void: false,
        });
    }

    /// Takes a reservation out of those in flight; `None` when it is not among them.
    pub(super) fn end(&mut self, job: JobId) -> Option<Flight> {
        let position = self.flights.iter().position(|flight| flight.job == job)?;
        Some(self.flights.remove(position))
    }

    /// A reservation that has ended has brought this block; jobs from `next_job` on are later.
    pub(super) fn land(&mut self, flight: Flight, block: Block, next_job: JobId) -> Landed {
        let repeats = |other: &Block| other.first <= block.last && block.first <= other.last;
        let landed = if flight.void {
            Landed::Dropped
        } else if block.first <= flight.floor {
            Landed::Repeated
        } else if block.first <= self.released
            || self.reorder.iter().any(|held| repeats(&held.block))
        {
            // Others may have overtaken it, if it was late.
            match flight.late {
                true => Landed::Dropped,
                false => Landed::Repeated,
            }
        } else {
            let at = self
                .reorder
                .partition_point(|held| held.block.first < block.first);
            let barrier = next_job;
            self.reorder.insert(at, Held { block, barrier });
            Landed::Kept
        };
        self.release();
        landed
    }

    /// A reservation that has ended has brought what must not be used.
    pub(super) fn skip(&mut self) -> Landed {
        self.release();
        Landed::Dropped
    }

    /// A reservation has ended without a block, or is given up.
    pub(super) fn fail(&mut self, job: JobId) {
        self.end(job);
        self.release();
    }

    /// No longer waits for reservations that have taken this long.
    pub(super) fn overtake_late(&mut self, late_after: Duration, now: Moment) {
        for flight in self.flights.iter_mut().filter(|flight| !flight.late) {
            flight.late = flight.asked + late_after <= now;
        }
        self.release();
    }

    /// When the next reservation becomes late.
    pub(super) fn late_at(&self, late_after: Duration) -> Option<Moment> {
        let next = self.flights.iter().find(|flight| !flight.late)?;
        Some(next.asked + late_after)
    }

    /// Gives up every block; returns how many base ids that were.
    pub(super) fn clear(&mut self) -> u64 {
        let dropped = self.tickets();
        if let Some(held) = self.reorder.last() {
            self.released = self.released.max(held.block.last);
        }
        self.reserve.clear();
        self.reorder.clear();
        dropped
    }

    /// Gives up every block, and those that are still to come.
    pub(super) fn void(&mut self) -> u64 {
        for flight in &mut self.flights {
            (flight.late, flight.void) = (true, true);
        }
        self.clear()
    }

    /// Takes `count` contiguous base ids from the reserve. Blocks in front of the first that is
    /// long enough are given up, since tickets only ever go up.
    pub(super) fn take(&mut self, count: u64) -> Option<Block> {
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
        assert!(self.issued < Some(taken.first), "tickets only go up");
        self.issued = Some(taken.last);
        Some(taken)
    }

    /// Whether `count` contiguous base ids can be taken.
    pub(super) fn has(&self, count: u64) -> bool {
        self.reserve.iter().any(|block| block.count() >= count)
    }

    /// Base ids that can be taken now, though perhaps not in one run.
    pub(super) fn reserved(&self) -> u64 {
        self.reserve.iter().map(Block::count).sum()
    }

    /// Base ids in the reserve and in the reorder buffer.
    pub(super) fn tickets(&self) -> u64 {
        self.reserved() + self.reordering()
    }

    /// Base ids that are on their way: held back, or in flight and not late.
    pub(super) fn coming(&self) -> u64 {
        let flights = self.flights.iter().filter(|flight| !flight.late);
        self.reordering() + flights.map(|flight| flight.count).sum::<u64>()
    }

    /// Base ids that may still come, late ones included.
    pub(super) fn hoped_for(&self) -> u64 {
        let flights = self.flights.iter().filter(|flight| !flight.void);
        self.reordering() + flights.map(|flight| flight.count).sum::<u64>()
    }

    /// Reservations in flight.
    pub(super) fn flights(&self) -> usize {
        self.flights.len()
    }

    /// When the newest reservation went out that is not late.
    pub(super) fn newest_flight(&self) -> Option<Moment> {
        let newest = self.flights.iter().rfind(|flight| !flight.late)?;
        Some(newest.asked)
    }

    /// When the newest reservation went out that is in flight, late or not.
    pub(super) fn last_asked(&self) -> Option<Moment> {
        self.flights.last().map(|flight| flight.asked)
    }

    /// Given the counter of the database, the last base id that was issued, by whichever process:
    /// what this one holds does not count.
    pub(super) fn last_issued(&self, counter: u64) -> u64 {
        let reorder = self.reorder.iter().map(|held| &held.block).rev();
        let mut last = counter;
        for block in reorder.chain(self.reserve.iter().rev()) {
            if block.last == last {
                last = block.first - 1;
            }
        }
        last.max(self.issued.unwrap_or(0))
    }

    fn reordering(&self) -> u64 {
        self.reorder.iter().map(|held| held.block.count()).sum()
    }

    /// Releases blocks that nothing in flight can go below: those that follow on what was released
    /// before, and those that every reservation of their time has answered.
    fn release(&mut self) {
        let oldest = self.flights.iter().find(|flight| !flight.late);
        let oldest = oldest.map(|flight| flight.job);
        let mut released = self.released;
        let ready = self.reorder.iter().take_while(|held| {
            let follows = held.block.first == released + 1;
            let clear = oldest.is_none_or(|job| job >= held.barrier);
            if follows || clear {
                released = held.block.last;
            }
            follows || clear
        });
        let count = ready.count();
        self.released = released;
        for Held { block, .. } in self.reorder.drain(..count) {
            match self.reserve.back_mut() {
                Some(back) if back.last + 1 == block.first => back.last = block.last,
                _ => self.reserve.push_back(block),
            }
        }
        self.check();
    }

    /// What must hold after every step.
    fn check(&self) {
        let reorder = self.reorder.iter().map(|held| &held.block);
        let mut blocks = self.reserve.iter().chain(reorder);
        let mut above = self.issued.unwrap_or(0);
        let sorted = blocks.all(|block| {
            let sorted = block.first > above && block.last >= block.first;
            above = block.last;
            sorted
        });
        assert!(sorted, "blocks are in order, apart, and above all issued");
        let reserved = self.reserve.back().map_or(0, |block| block.last);
        assert!(reserved <= self.released, "only what was released is there");
        assert!(
            self.issued.unwrap_or(0) <= self.released,
            "nothing else leaves"
        );
    }
}
