//! What the counter row allows, and what is remembered of it: the promise that no ticket is issued
//! twice is kept here.
//!
//! A row that is behind anybody's memory is *closed* for everybody, and only an operator opens it
//! again, in a new epoch. Until then nothing is issued, whatever the row says later by itself.

use std::time::Duration;

use crate::counter::{Epoch, Memory, Owner, View};
use crate::fault::Fault;
use crate::moment::Moment;

/// What the row allows, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum State {
    /// It has not been seen yet.
    Unknown,
    /// Blocks may be reserved, and used while the lease lasts.
    Open,
    /// Nothing may be reserved, and what was is void.
    Closed(Closed),
    /// What is stored can't be served from until an operator mends it.
    Misfit(Fault),
}

/// A row that is closed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Closed {
    /// Why it is closed.
    pub why: Closing,
    /// When that was noticed.
    pub since: Moment,
}

/// Why a row is closed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Closing {
    /// It is behind what this process remembers: the database went back.
    Behind {
        /// What this process remembers.
        memory: Memory,
        /// The epoch of the row.
        epoch: Epoch,
        /// The base id of the row.
        id: u64,
    },
    /// It is behind what another process remembers.
    Marked {
        /// The base id that is remembered.
        mark: u64,
        /// The base id of the row.
        id: u64,
    },
    /// It belongs to another server: a fail-over, or a copy.
    OtherServer {
        /// The identity in the row.
        owner: String,
        /// The identity of this server.
        here: String,
    },
    /// An operator has closed it, and opens it shortly.
    ByOperator,
    /// It belongs to no server: an old program has replaced it, or it was never opened.
    Unowned,
    /// Its server is read-only.
    ReadOnly,
}

/// The permission to reserve and to issue.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Permit {
    pub(super) state: State,
    pub(super) memory: Memory,
    /// The row is to be closed for everybody, since it is behind the memory.
    pub(super) close_due: bool,
    /// How long blocks may be used after the row was last asked for and found open.
    lease: Duration,
    /// When the question was asked that was last answered so.
    confirmed: Option<Moment>,
    /// Questions from before this say nothing: by then the row was found closed, or unfit.
    closed: Moment,
}

/// What became of the permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It is what it was.
    None,
    /// It is given, in another epoch than blocks were reserved in before.
    Opened,
    /// It is withdrawn.
    Closed,
}

impl Permit {
    pub(super) fn new(memory: Memory) -> Permit {
        Permit {
            state: State::Unknown,
            memory,
            close_due: false,
            lease: Duration::ZERO,
            confirmed: None,
            closed: Moment::default(),
        }
    }

    /// The row was found so, by a job that was issued at `issued`, when `floor` was remembered.
    pub(super) fn observe(
        &mut self,
        view: &View,
        floor: Memory,
        issued: Moment,
        now: Moment,
    ) -> Change {
        if floor.is_ahead_of(view.epoch, view.id) {
            // Its numbers may be out all the same, for when this row is forgotten as well.
            self.memory.id = self.memory.id.max(view.id);
            // Also when somebody with a smaller memory has closed it: the mark gathers all.
            let is_closed = view.mark >= self.memory.id && view.mark > view.id;
            // A read-only server takes no mark, and moves no counter either.
            self.close_due = !is_closed && !view.read_only;
            let behind = Closing::Behind {
                memory: self.memory,
                epoch: view.epoch,
                id: view.id,
            };
            return self.close(behind, now);
        }
        if self.memory.is_ahead_of(view.epoch, view.id) || self.is_outdated(issued) {
            // It was read before what is known by now.
            return Change::None;
        }
        let epoch_before = self.memory.epoch;
        self.memory.raise(view.epoch, view.id);
        self.close_due = false;
        self.lease = view.lease;
        match closing(view) {
            Some(why) => self.close(why, now),
            None => {
                self.confirm(issued);
                let was_open = std::mem::replace(&mut self.state, State::Open) == State::Open;
                match was_open && epoch_before == self.memory.epoch {
                    true => Change::None,
                    false => Change::Opened,
                }
            }
        }
    }

    /// A block up to `last` was reserved in `epoch`, by a job that was issued at `issued`; false
    /// when it must not be used.
    pub(super) fn reserved(
        &mut self,
        epoch: Epoch,
        last: u64,
        issued: Moment,
        now: Moment,
    ) -> bool {
        if self.state != State::Open || epoch != self.memory.epoch {
            return false;
        }
        self.memory.raise(epoch, last);
        self.confirm(issued);
        issued + self.lease > now
    }

    /// The row has brought numbers that it had brought before.
    pub(super) fn repeated(&mut self, id: u64, now: Moment) -> Change {
        self.close_due = true;
        let behind = Closing::Behind {
            memory: self.memory,
            epoch: self.memory.epoch,
            id,
        };
        self.close(behind, now)
    }

    /// What is stored can't be served from, as a job found that was issued at `issued`.
    pub(super) fn misfit(&mut self, fault: Fault, issued: Moment, now: Moment) -> Change {
        if matches!(self.state, State::Misfit(_)) && self.is_outdated(issued) {
            return Change::None;
        }
        let misfit = State::Misfit(fault);
        self.confirmed = None;
        self.closed = now;
        match std::mem::replace(&mut self.state, misfit) == self.state {
            true => Change::None,
            false => Change::Closed,
        }
    }

    /// Whether a job that was issued at `issued` says nothing of the row: it was found closed, or
    /// unfit, while the job was in flight or later.
    pub(super) fn is_outdated(&self, issued: Moment) -> bool {
        issued < self.closed
    }

    /// The epoch to reserve in, while the row is open.
    pub(super) fn epoch(&self) -> Option<Epoch> {
        (self.state == State::Open).then_some(self.memory.epoch)
    }

    /// Until when what was reserved may be issued; `None` when it may not.
    pub(super) fn lease_end(&self) -> Option<Moment> {
        match self.state {
            State::Open => Some(self.confirmed? + self.lease),
            State::Unknown | State::Closed(_) | State::Misfit(_) => None,
        }
    }

    fn confirm(&mut self, issued: Moment) {
        self.confirmed = self.confirmed.max(Some(issued));
    }

    fn close(&mut self, why: Closing, now: Moment) -> Change {
        // Another job that is in flight may have looked before it was closed.
        self.closed = now;
        let since = match &self.state {
            State::Closed(closed) => closed.since,
            _ => now,
        };
        let closed = State::Closed(Closed { why, since });
        self.confirmed = None;
        match &self.state {
            // The same closing, seen again a moment later.
            State::Closed(known) if is_alike(known, &closed) => Change::None,
            _ => {
                self.state = closed;
                Change::Closed
            }
        }
    }
}

/// Why the row is closed, if it is.
fn closing(view: &View) -> Option<Closing> {
    let why = match &view.owner {
        Owner::Closed => Closing::ByOperator,
        Owner::Nobody => Closing::Unowned,
        Owner::Elsewhere { owner, here } => Closing::OtherServer {
            owner: owner.clone(),
            here: here.clone(),
        },
        Owner::Here if view.mark > view.id => Closing::Marked {
            mark: view.mark,
            id: view.id,
        },
        Owner::Here if view.read_only => Closing::ReadOnly,
        Owner::Here => return None,
    };
    Some(why)
}

fn is_alike(known: &Closed, state: &State) -> bool {
    matches!(state, State::Closed(closed) if closed.why == known.why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::FaultKind;

    const LEASE: Duration = Duration::from_secs(10);
    const FIRST: Epoch = Epoch { number: 1, tag: 7 };
    const SECOND: Epoch = Epoch { number: 2, tag: 9 };

    fn at(seconds: u64) -> Moment {
        Moment::default() + Duration::from_secs(seconds)
    }

    fn memory(id: u64) -> Memory {
        Memory { epoch: FIRST, id }
    }

    fn row(id: u64) -> View {
        View {
            id,
            mark: 0,
            epoch: FIRST,
            owner: Owner::Here,
            read_only: false,
            lease: LEASE,
        }
    }

    fn owned(owner: Owner) -> View {
        View { owner, ..row(100) }
    }

    /// Open since 0, with 100 remembered.
    fn open() -> Permit {
        let mut permit = Permit::new(Memory::default());
        let change = permit.observe(&row(100), Memory::default(), at(0), at(0));
        assert_eq!((change, permit.epoch()), (Change::Opened, Some(FIRST)));
        permit
    }

    #[test]
    fn a_row_that_went_back_is_marked_unless_it_is_or_cannot_be() {
        let marked = |mark| View { mark, ..row(50) };
        let read_only = View {
            read_only: true,
            ..row(50)
        };
        // From another history, and above what is remembered: its numbers may be out as well.
        let other = |mark| View {
            id: 150,
            mark,
            epoch: Epoch { number: 1, tag: 8 },
            ..row(0)
        };
        for (view, close_due, remembered) in [
            (row(50), true, 100),
            (marked(99), true, 100),
            (marked(100), false, 100),
            (marked(101), false, 100),
            (read_only, false, 100),
            (other(100), true, 150),
            (other(149), true, 150),
            (other(150), true, 150),
            (other(151), false, 150),
        ] {
            let mut permit = open();
            let change = permit.observe(&view, memory(100), at(1), at(1));
            assert_eq!(change, Change::Closed, "{view:?}");
            assert_eq!(permit.close_due, close_due, "{view:?}");
            assert_eq!(permit.memory, memory(remembered), "{view:?}");
            assert_eq!((permit.epoch(), permit.lease_end()), (None, None));
        }
    }

    #[test]
    fn a_row_from_before_what_is_known_says_nothing() {
        // Asked for when 40 was remembered, and read before the row went to 100.
        let mut permit = open();
        let old = View {
            owner: Owner::Closed,
            ..row(50)
        };
        assert_eq!(permit.observe(&old, memory(40), at(1), at(2)), Change::None);
        assert_eq!(permit.epoch(), Some(FIRST));
        // Asked for before the row was closed.
        permit.observe(&owned(Owner::Closed), memory(100), at(5), at(6));
        let late = permit.observe(&row(100), memory(100), at(4), at(7));
        assert_eq!((late, permit.epoch()), (Change::None, None));
        // Asked for later, and read before all the same, it may be.
        let early = permit.observe(&row(100), memory(100), at(5), at(7));
        assert_eq!((early, permit.epoch()), (Change::None, None));
        // At the very moment is not before.
        let same = permit.observe(&row(100), memory(100), at(6), at(7));
        assert_eq!((same, permit.epoch()), (Change::Opened, Some(FIRST)));
    }

    #[test]
    fn an_opening_is_one_when_it_was_closed_or_is_of_another_epoch() {
        let mut permit = open();
        let seen = |permit: &mut Permit, view: &View| {
            let floor = permit.memory;
            permit.observe(view, floor, at(1), at(1))
        };
        assert_eq!(seen(&mut permit, &row(100)), Change::None);
        assert_eq!(seen(&mut permit, &owned(Owner::Nobody)), Change::Closed);
        assert_eq!(seen(&mut permit, &row(100)), Change::Opened);
        let other = View {
            epoch: SECOND,
            ..row(100)
        };
        assert_eq!(seen(&mut permit, &other), Change::Opened);
        assert_eq!(permit.epoch(), Some(SECOND));
    }

    #[test]
    fn a_block_is_for_its_epoch_and_for_the_lease() {
        let mut permit = open();
        assert!(!permit.reserved(SECOND, 200, at(1), at(1)));
        assert_eq!(permit.memory.id, 100, "that was nothing of ours");
        assert!(permit.reserved(FIRST, 200, at(1), at(10)));
        assert_eq!((permit.memory.id, permit.lease_end()), (200, Some(at(11))));
        assert!(
            !permit.reserved(FIRST, 300, at(1), at(11)),
            "the lease is over"
        );
        assert_eq!(permit.memory.id, 300, "it was seen all the same");
        let closed = View {
            owner: Owner::Closed,
            ..row(300)
        };
        permit.observe(&closed, memory(300), at(12), at(12));
        assert!(!permit.reserved(FIRST, 400, at(12), at(12)));
    }

    #[test]
    fn a_misfit_is_news_once_and_a_closing_too() {
        let mut permit = open();
        let fault = |kind: FaultKind| Fault::from(kind);
        let trigger = || fault(FaultKind::Trigger);
        assert_eq!(permit.misfit(trigger(), at(1), at(2)), Change::Closed);
        assert_eq!(permit.misfit(trigger(), at(3), at(4)), Change::None);
        let other = permit.misfit(fault(FaultKind::ColumnType), at(5), at(6));
        assert_eq!(other, Change::Closed);
        // It had looked before.
        assert_eq!(permit.misfit(trigger(), at(5), at(7)), Change::None);
        assert_eq!(permit.state, State::Misfit(fault(FaultKind::ColumnType)));

        let mut permit = open();
        let mut seen = |view: &View, now| {
            let change = permit.observe(view, memory(100), at(now), at(now));
            let State::Closed(closed) = &permit.state else {
                panic!("it is open");
            };
            (change, closed.since)
        };
        assert_eq!(seen(&owned(Owner::Closed), 3), (Change::Closed, at(3)));
        assert_eq!(seen(&owned(Owner::Closed), 4), (Change::None, at(3)));
        assert_eq!(seen(&owned(Owner::Nobody), 5), (Change::Closed, at(3)));
    }

    #[test]
    fn a_row_at_its_mark_is_open_and_one_below_it_is_closed() {
        let marked = |mark| View { mark, ..row(100) };
        assert_eq!(closing(&marked(99)), None);
        assert_eq!(closing(&marked(100)), None);
        let (mark, id) = (101, 100);
        assert_eq!(closing(&marked(101)), Some(Closing::Marked { mark, id }));
    }
}
