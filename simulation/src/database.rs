//! A modelled MySQL: servers that each hold the counter row and a log of its commits, and execute
//! the statements of `Task`s as the SQL does.

use std::time::Duration;

use tickr::counter::{Epoch, Memory, Owner, View};
use tickr::fault::FaultKind;
use tickr::moment::Moment;
use tickr::ticket::COUNTER_SEED;

/// The column `owner`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owned {
    Nobody,
    Closed,
    By(usize),
}

/// The row of `tickets`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Row {
    pub id: u64,
    pub mark: u64,
    pub owner: Owned,
    pub epoch: Epoch,
}

impl Row {
    /// Whether it is behind this memory: the condition of the statement that closes it.
    pub fn is_behind(&self, memory: &Memory) -> bool {
        let tag_differs = self.epoch.number == memory.epoch.number && self.epoch != memory.epoch;
        self.epoch.number < memory.epoch.number || tag_differs || self.id < memory.id
    }
}

/// Whether an `advance` that has closed a row under `closed` may go on under this epoch: those who
/// remember a newer one raise it as they raise the mark, and leave it without a tag.
pub fn is_still_closed(closed: Epoch, epoch: Epoch) -> bool {
    epoch == closed || (epoch.tag == 0 && epoch.number >= closed.number)
}

/// A commit: the row that it left, and when.
#[derive(Clone, Copy, Debug)]
pub struct Commit {
    pub row: Row,
    pub at: Moment,
}

/// One MySQL server; its identity is its index.
#[derive(Clone, Debug)]
pub struct Server {
    pub index: usize,
    pub row: Row,
    pub log: Vec<Commit>,
    pub read_only: bool,
    /// It answers.
    pub up: bool,
    /// Cut off for good after a fail-over, until it rejoins.
    pub fenced: bool,
    /// What is stored can't be served from: every statement ends with this.
    pub misfit: Option<FaultKind>,
    pub lease: Duration,
}

impl Server {
    pub fn new(index: usize, row: Row, lease: Duration, now: Moment) -> Server {
        Server {
            index,
            row,
            log: vec![Commit { row, at: now }],
            read_only: index != 0,
            up: true,
            fenced: false,
            misfit: None,
            lease,
        }
    }

    /// Whether a reservation is possible in some epoch.
    pub fn is_open(&self) -> bool {
        self.row.owner == Owned::By(self.index) && self.row.mark <= self.row.id && !self.read_only
    }

    pub fn view(&self) -> View {
        let owner = match self.row.owner {
            Owned::Nobody => Owner::Nobody,
            Owned::Closed => Owner::Closed,
            Owned::By(index) if index == self.index => Owner::Here,
            Owned::By(index) => Owner::Elsewhere {
                owner: index.to_string(),
                here: self.index.to_string(),
            },
        };
        View {
            id: self.row.id,
            mark: self.row.mark,
            epoch: self.row.epoch,
            owner,
            read_only: self.read_only,
            lease: self.lease,
        }
    }

    /// Whether a statement that changes rows is an error (1290), also if it would match none.
    pub fn refuses_writes(&self, privileged: bool) -> bool {
        self.read_only && !privileged
    }

    /// `sql/reserve.sql`: the new id, or `None` for 0 rows.
    pub fn reserve(
        &mut self,
        count: u64,
        epoch: Epoch,
        floor: u64,
        last_base: u64,
        now: Moment,
    ) -> Option<u64> {
        let id = self.row.id.checked_add(count)?;
        let fits = id <= last_base;
        if !(fits && self.row.id >= floor && self.row.epoch == epoch && self.is_open()) {
            return None;
        }
        self.change(Row { id, ..self.row }, now);
        Some(id)
    }

    /// `sql/close.sql`, by a user who may write (to a read-only server: who is privileged).
    pub fn close(&mut self, memory: &Memory, now: Moment) -> bool {
        let closes = self.row.is_behind(memory);
        if closes {
            let mut row = self.row;
            row.mark = row.mark.max(memory.id).max(row.id.saturating_add(1));
            if row.epoch.number < memory.epoch.number {
                let number = memory.epoch.number;
                row.epoch = Epoch { number, tag: 0 };
            }
            self.change(row, now);
        }
        closes
    }

    /// What an operator does first: `sql/close_by_hand.sql`.
    pub fn close_by_hand(&mut self, now: Moment) {
        let owner = Owned::Closed;
        self.change(Row { owner, ..self.row }, now);
    }

    /// What an operator does last: `sql/open.sql`, if the row still is as it was read.
    pub fn open(&mut self, read: Row, id: u64, tag: u64, now: Moment) -> bool {
        let owner = Owned::Closed;
        if self.row != (Row { owner, ..read }) || self.read_only {
            return false;
        }
        let number = read.epoch.number + 1;
        let opened = Row {
            id,
            mark: read.mark,
            owner: Owned::By(self.index),
            epoch: Epoch { number, tag },
        };
        self.change(opened, now);
        true
    }

    /// `tickr db create` on a table that is there: `sql/open_new.sql`.
    pub fn open_new(&mut self, tag: u64, now: Moment) -> bool {
        let Row { id, mark, .. } = self.row;
        let never = self.row.owner == Owned::Nobody && self.row.epoch == Epoch::default();
        let opens = never && mark == 0 && id >= COUNTER_SEED;
        if opens {
            let (owner, epoch) = (Owned::By(self.index), Epoch { number: 1, tag });
            let opened = Row {
                owner,
                epoch,
                ..self.row
            };
            self.change(opened, now);
        }
        opens
    }

    /// An old program's `REPLACE INTO tickets (stub) VALUES ('a')`. In the original's table `id`
    /// counts up; in this version's it has no default, which is an error to a strict session.
    pub fn replace(&mut self, id: u64, now: Moment) {
        let (mark, owner, epoch) = (0, Owned::Nobody, Epoch::default());
        let replaced = Row {
            id,
            mark,
            owner,
            epoch,
        };
        self.change(replaced, now);
    }

    /// Somebody sets the row.
    pub fn set(&mut self, row: Row, now: Moment) {
        self.change(row, now);
    }

    /// The row as it was at that moment.
    pub fn row_at(&self, moment: Moment) -> Row {
        let commit = self.log.iter().rev().find(|commit| commit.at <= moment);
        commit.unwrap_or(&self.log[0]).row
    }

    /// An update that changes nothing is no commit.
    fn change(&mut self, row: Row, at: Moment) {
        if self.row != row {
            self.row = row;
            self.log.push(Commit { row, at });
        }
    }
}
