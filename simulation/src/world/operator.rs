//! The operator: `tickr db advance` in its steps, and what is passed to it.

use std::time::Duration;

use tickr::counter::Epoch;

use super::{Due, SECOND, World};
use crate::assumptions::{self, Stale};
use crate::checker::Lawful;
use crate::database::{Owned, Row, is_still_closed};

pub(super) struct Operator {
    pub(super) id: u64,
    pub(super) server: usize,
    pub(super) phase: Phase,
    pub(super) honest: bool,
    /// The opening that it has closed.
    pub(super) closed: Epoch,
    /// Servers that were cut off before it closed.
    pub(super) fenced: Vec<bool>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Close,
    Read,
    Open(Row),
}

impl World<'_> {
    pub(super) fn operate(&mut self) -> Lawful {
        if self.operators.len() >= 2 {
            return Ok(());
        }
        if !self.operators.is_empty() {
            self.record.counts.count("operator: twice");
        }
        let honest = !self.tape.chance(160);
        self.begin_advance(honest);
        Ok(())
    }

    pub(super) fn begin_advance(&mut self, honest: bool) {
        // As the runbook says, so that the processes can tell what they remember.
        self.point_the_name();
        let id = self.agenda.planned();
        self.operators.push(Operator {
            id,
            server: self.primary,
            phase: Phase::Close,
            honest,
            closed: Epoch::default(),
            fenced: self.servers.iter().map(|server| server.fenced).collect(),
        });
        self.plan(self.now, Due::Operate(id));
    }

    pub(super) fn interrupt_operator(&mut self) -> Lawful {
        if self.operators.pop().is_some() {
            self.record.counts.count("operator: interrupted");
            self.note(|| "the operator is interrupted".to_string());
        }
        Ok(())
    }

    /// One step of `tickr db advance`.
    pub(super) fn on_operate(&mut self, id: u64) -> Lawful {
        let Some(at) = self.operators.iter().position(|known| known.id == id) else {
            return Ok(());
        };
        let mut operator = self.operators.remove(at);
        let now = self.now;
        let (primary, server) = (self.primary, operator.server);
        // An operator works on the server that serves: another one is fenced, or is no matter.
        if server != primary || !self.servers[server].up {
            self.record.counts.count("operator: interrupted");
            return Ok(());
        }
        match operator.phase {
            Phase::Close => {
                let own = &mut self.servers[server];
                if own.read_only {
                    self.record.counts.count("operator: interrupted");
                    return Ok(());
                }
                own.close_by_hand(now);
                operator.closed = own.row.epoch;
                operator.phase = Phase::Read;
                self.record.counts.count("operator: close");
                self.note(|| format!("the operator closes the row on {server}"));
                self.plan(now + self.lease + SECOND, Due::Operate(id));
            }
            Phase::Read => {
                operator.phase = Phase::Open(self.servers[server].row);
                self.plan(now + Duration::from_millis(1), Due::Operate(id));
            }
            Phase::Open(read) => {
                if !self.open(&operator, read) {
                    self.record.counts.count("operator: open refused");
                    self.note(|| "the row is not as it was read".to_string());
                    let row = self.servers[server].row;
                    let kept = is_still_closed(operator.closed, row.epoch);
                    let others = row.owner != Owned::Closed || !kept;
                    if others || self.servers[server].read_only {
                        return Ok(());
                    }
                    // Under another epoch it is another closing, which is waited for anew.
                    operator.phase = match row.epoch == read.epoch {
                        true => Phase::Read,
                        false => Phase::Close,
                    };
                    self.plan(now + Duration::from_millis(50), Due::Operate(id));
                } else {
                    return Ok(());
                }
            }
        }
        self.operators.push(operator);
        Ok(())
    }

    pub(super) fn open(&mut self, operator: &Operator, read: Row) -> bool {
        let server = operator.server;
        let mut past = match operator.honest {
            true => self.issued_by_all(),
            false => 0,
        };
        let least = assumptions::least_past(self.issued_by_absent(operator), self.margin);
        if past < least {
            self.record
                .counts
                .count("assumption: past covers the absent");
            past = least;
        }
        let start = read.id.max(read.mark).max(past) + self.margin;
        let kept = is_still_closed(operator.closed, read.epoch);
        if start > self.numbering.last_base() || !kept {
            return false;
        }
        let tag = self.next_tag;
        if !self.servers[server].open(read, start, tag, self.now) {
            return false;
        }
        self.next_tag += 1;
        self.record.counts.count("operator: open");
        self.record.counts.count(match operator.honest {
            true => "operator: honest past",
            false => "operator: low past",
        });
        let epoch = self.servers[server].row.epoch;
        if epoch.number >= self.newest.number {
            self.newest = epoch;
        }
        self.stale[server] = Stale::default();
        for (index, limit) in self.limits.iter_mut().enumerate() {
            *limit = (index != server).then(|| limit.map_or(start, |limit| limit.min(start)));
        }
        let row = self.servers[server].row;
        self.note(|| format!("the operator opens {server}: {row:?}"));
        true
    }

    pub(super) fn issued_by_all(&self) -> u64 {
        let issued = self.processes.iter();
        let issued = issued.map(|process| process.witness.issued_high).max();
        issued.unwrap_or(0).max(self.forgotten_high)
    }

    /// By those who may not have raised the mark by now; and what may be issued from old primaries.
    pub(super) fn issued_by_absent(&self, operator: &Operator) -> u64 {
        let relied = Duration::from_secs(2);
        let absent = self.processes.iter().filter(|process| {
            process.clean.is_none_or(|clean| clean + relied > self.now)
                || !process.alive
                || process.stopped
        });
        let issued = absent.map(|process| process.witness.issued_high).max();
        let others = self.servers.iter().filter(|server| {
            server.index != operator.server && !operator.fenced[server.index] && !server.read_only
        });
        let others = others.map(|server| server.row.id).max();
        self.forgotten_high
            .max(issued.unwrap_or(0))
            .max(others.unwrap_or(0))
    }
}
