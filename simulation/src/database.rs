//! A modelled MySQL: servers that each hold the counter row and a log of its commits, and execute
//! the statements of `Task`s as the SQL does.

use std::time::Duration;

use tickr::counter::{Epoch, Memory, Owner, View};
use tickr::fault::FaultKind;
use tickr::moment::Moment;

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

    /// `UPDATE … SET id = id + ? WHERE …`: the new id, or `None` for 0 rows.
    pub fn reserve(
        &mut self,
        count: u64,
        epoch: Epoch,
        floor: u64,
        last_base: u64,
        now: Moment,
    ) -> Option<u64> {
        let fits = self.row.id.checked_add(count)? <= last_base;
        if !(fits && self.row.id >= floor && self.row.epoch == epoch && self.is_open()) {
            return None;
        }
        self.row.id += count;
        self.commit(now);
        Some(self.row.id)
    }

    /// `UPDATE … SET mark = GREATEST(mark, ?, id + 1) WHERE` the row is behind.
    pub fn close(&mut self, memory: &Memory, now: Moment) -> bool {
        let closes = self.row.is_behind(memory) && !self.read_only;
        if closes {
            self.row.mark = self.row.mark.max(memory.id).max(self.row.id + 1);
            self.commit(now);
        }
        closes
    }

    /// What an operator does first: `UPDATE … SET owner = 'closed'`.
    pub fn close_for_operator(&mut self, now: Moment) -> bool {
        if !self.read_only {
            self.row.owner = Owned::Closed;
            self.commit(now);
        }
        !self.read_only
    }

    /// What an operator does last: opens the row, if it still is as it was read.
    pub fn open(&mut self, read: Row, id: u64, tag: u64, now: Moment) -> bool {
        if self.row != read || read.owner != Owned::Closed || self.read_only {
            return false;
        }
        let number = read.epoch.number + 1;
        self.row = Row {
            id,
            mark: read.mark,
            owner: Owned::By(self.index),
            epoch: Epoch { number, tag },
        };
        self.commit(now);
        true
    }

    /// The row as it was at that moment.
    pub fn row_at(&self, moment: Moment) -> Row {
        let commit = self.log.iter().rev().find(|commit| commit.at <= moment);
        commit.unwrap_or(&self.log[0]).row
    }

    fn commit(&mut self, now: Moment) {
        let row = self.row;
        self.log.push(Commit { row, at: now });
    }
}
