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

    /// Whether `count` contiguous base ids are on their way.
    pub(super) fn expects(&self, count: u64) -> bool {
        let flights = self.flights.iter().filter(|flight| !flight.late);
        let held = self.reorder.iter().map(|held| held.block.count());
        held.chain(flights.map(|flight| flight.count))
            .any(|coming| coming >= count)
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

#[cfg(test)]
mod tests {
    use super::*;

    const LATE: Duration = Duration::from_secs(1);

    fn at(milliseconds: u64) -> Moment {
        Moment::default() + Duration::from_millis(milliseconds)
    }

    /// A stock that waits for these jobs, each for so many, all asked for at 0.
    fn asked(jobs: &[(u64, u64)]) -> Stock {
        let mut stock = Stock::default();
        for &(job, count) in jobs {
            ask(&mut stock, job, count);
        }
        stock
    }

    fn ask(stock: &mut Stock, job: u64, count: u64) {
        stock.ask(JobId(job), count, Epoch::default(), 1, at(0));
    }

    fn land(stock: &mut Stock, job: u64, first: u64, last: u64, next_job: u64) -> Landed {
        let flight = stock.end(JobId(job)).expect("it is in flight");
        stock.land(flight, Block { first, last }, JobId(next_job))
    }

    #[test]
    fn a_block_is_held_while_an_earlier_reservation_may_go_below_it() {
        let mut stock = asked(&[(1, 3), (2, 4)]);
        assert_eq!(
            (stock.flights(), stock.coming(), stock.hoped_for()),
            (2, 7, 7)
        );
        assert_eq!(land(&mut stock, 2, 5, 8, 3), Landed::Kept);
        assert_eq!((stock.reserved(), stock.tickets()), (0, 4));
        assert_eq!((stock.coming(), stock.hoped_for()), (7, 7));
        assert_eq!(stock.last_issued(8), 4, "what is held is not issued");
        assert_eq!(land(&mut stock, 1, 2, 4, 3), Landed::Kept);
        assert_eq!((stock.reserved(), stock.flights()), (7, 0));
        assert_eq!(stock.last_issued(8), 1);
        // Neighbours are one block.
        assert_eq!(stock.take(7), Some(Block { first: 2, last: 8 }));
        assert_eq!(stock.last_issued(8), 8);
    }

    #[test]
    fn what_follows_on_what_was_released_waits_for_nobody() {
        let mut stock = asked(&[(1, 7)]);
        land(&mut stock, 1, 2, 8, 2);
        ask(&mut stock, 2, 1);
        ask(&mut stock, 3, 2);
        land(&mut stock, 3, 9, 10, 4);
        assert_eq!(stock.reserved(), 9, "nothing can be between 8 and 9");
        ask(&mut stock, 4, 2);
        land(&mut stock, 4, 12, 13, 5);
        assert_eq!(stock.reserved(), 9, "11 may still come");
        land(&mut stock, 2, 11, 11, 5);
        assert_eq!(stock.reserved(), 12);
    }

    #[test]
    fn blocks_with_a_gap_between_them_are_not_one() {
        let mut stock = asked(&[(1, 3), (2, 3)]);
        land(&mut stock, 1, 2, 4, 3);
        land(&mut stock, 2, 6, 8, 3);
        assert!(!stock.has(4) && stock.has(3));
        assert_eq!(stock.reserved(), 6);
        assert_eq!(stock.take(3), Some(Block { first: 2, last: 4 }));
        assert_eq!(stock.take(2), Some(Block { first: 6, last: 7 }));
    }

    #[test]
    fn only_reservations_from_before_a_block_hold_it_back() {
        let mut stock = asked(&[(5, 2), (6, 2)]);
        land(&mut stock, 5, 20, 21, 7);
        ask(&mut stock, 7, 1);
        assert_eq!(stock.reserved(), 0, "job 6 was under way when it landed");
        stock.fail(JobId(6));
        assert_eq!(stock.reserved(), 2, "job 7 came later, and gets more");
    }

    #[test]
    fn who_is_late_holds_nobody_back() {
        let mut stock = asked(&[(1, 5)]);
        stock.ask(JobId(2), 1, Epoch::default(), 1, at(600));
        land(&mut stock, 2, 20, 20, 3);
        assert_eq!(stock.late_at(LATE), Some(at(1000)));
        stock.overtake_late(LATE, at(999));
        assert_eq!(stock.reserved(), 0);
        stock.overtake_late(LATE, at(1000));
        assert_eq!((stock.reserved(), stock.late_at(LATE)), (1, None));
        assert_eq!((stock.coming(), stock.hoped_for()), (0, 5));
        assert_eq!(
            (stock.newest_flight(), stock.last_asked()),
            (None, Some(at(0)))
        );
        // Its block is below what has been released meanwhile: a gap, and no sign of anything.
        assert_eq!(land(&mut stock, 1, 15, 19, 3), Landed::Dropped);
        ask(&mut stock, 3, 1);
        assert_eq!(land(&mut stock, 3, 19, 19, 4), Landed::Repeated);
    }

    #[test]
    fn numbers_that_are_held_come_only_once() {
        let mut held = asked(&[(1, 1), (2, 6), (3, 5)]);
        land(&mut held, 2, 20, 25, 4);
        for (first, last, landed) in [
            (15, 19, Landed::Kept),
            (15, 20, Landed::Repeated),
            (22, 23, Landed::Repeated),
            (15, 30, Landed::Repeated),
            (25, 30, Landed::Repeated),
            (26, 30, Landed::Kept),
        ] {
            let mut stock = held.clone();
            assert_eq!(land(&mut stock, 3, first, last, 4), landed, "{first}");
        }
    }

    #[test]
    fn what_is_held_is_in_order() {
        let mut stock = asked(&[(1, 1), (2, 2), (3, 2), (4, 2)]);
        for (job, first) in [(2, 20), (3, 10), (4, 15)] {
            land(&mut stock, job, first, first + 1, 5);
        }
        assert_eq!((stock.reserved(), stock.tickets()), (0, 6));
        stock.fail(JobId(1));
        for first in [10, 15, 20] {
            let last = first + 1;
            assert_eq!(stock.take(2), Some(Block { first, last }));
        }
    }

    #[test]
    fn what_is_void_is_given_up_with_all_that_is_to_come() {
        let mut stock = asked(&[(1, 3), (2, 4), (3, 5)]);
        land(&mut stock, 1, 2, 4, 4);
        land(&mut stock, 3, 20, 24, 4);
        assert_eq!(stock.void(), 8);
        assert_eq!((stock.tickets(), stock.flights()), (0, 1));
        assert_eq!((stock.coming(), stock.hoped_for()), (0, 0));
        assert_eq!(land(&mut stock, 2, 30, 33, 4), Landed::Dropped);
        ask(&mut stock, 4, 1);
        // What was held had been seen.
        assert_eq!(land(&mut stock, 4, 24, 24, 5), Landed::Repeated);
    }

    fn check(issued: Option<u64>, blocks: &[(u64, u64)], released: u64) {
        let blocks = blocks.iter().map(|&(first, last)| Block { first, last });
        let stock = Stock {
            reserve: blocks.collect(),
            released,
            issued,
            ..Stock::default()
        };
        stock.check();
    }

    #[test]
    fn a_stock_in_order_passes_its_check() {
        check(Some(5), &[(6, 8), (10, 10)], 10);
    }

    #[test]
    #[should_panic(expected = "above all issued")]
    fn a_number_that_was_issued_is_no_longer_there() {
        check(Some(5), &[(5, 8)], 10);
    }

    #[test]
    #[should_panic(expected = "in order")]
    fn a_block_does_not_end_before_it_begins() {
        check(None, &[(6, 5)], 10);
    }

    #[test]
    #[should_panic(expected = "only what was released")]
    fn nothing_is_there_that_was_not_released() {
        check(None, &[(6, 8)], 7);
    }
}
