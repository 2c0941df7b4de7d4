//! The operator: `tickr db advance` in its steps, and what is passed to it.

use std::time::Duration;

use tickr::counter::Epoch;
use tickr::moment::Moment;

use super::{Backend, SECOND};
use crate::assumptions::{self, Stale};
use crate::database::{Owned, Row, is_still_closed};
use crate::history::{Due, Stage};

pub(super) struct Operator {
    id: u64,
    server: usize,
    phase: Phase,
    past: Past,
    /// The opening that it has closed.
    closed: Epoch,
    /// Servers that were cut off before it closed.
    fenced: Vec<bool>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Close,
    Read,
    Open(Row),
}

/// What is passed as `--past`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Past {
    /// All that was issued until then.
    Honest,
    /// This base id, whatever was issued.
    Said(u64),
}

impl Backend {
    pub fn operate(&mut self, stage: &mut Stage<'_>) {
        if self.operators.len() >= 2 {
            return;
        }
        if !self.operators.is_empty() {
            stage.count("operator: twice");
        }
        let past = match stage.tape.chance(160) {
            true => Past::Said(0),
            false => Past::Honest,
        };
        self.begin_advance(stage, past);
    }

    pub fn begin_advance(&mut self, stage: &mut Stage<'_>, past: Past) {
        // As the runbook says, so that the processes can tell what they remember.
        self.point_the_name(stage);
        let id = stage.agenda.planned();
        self.operators.push(Operator {
            id,
            server: self.primary,
            phase: Phase::Close,
            past,
            closed: Epoch::default(),
            fenced: self.servers.iter().map(|server| server.fenced).collect(),
        });
        stage.plan(stage.now, Due::Operate(id));
    }

    pub fn interrupt_operator(&mut self, stage: &mut Stage<'_>) {
        if self.operators.pop().is_some() {
            stage.count("operator: interrupted");
            stage.note(|| "the operator is interrupted".to_string());
        }
    }

    /// One step of `tickr db advance`.
    pub fn on_operate(&mut self, stage: &mut Stage<'_>, id: u64) {
        let Some(at) = self.operators.iter().position(|known| known.id == id) else {
            return;
        };
        let mut operator = self.operators.remove(at);
        let now = stage.now;
        let (primary, server) = (self.primary, operator.server);
        // An operator works on the server that serves: another one is fenced, or is no matter.
        if server != primary || !self.servers[server].up {
            stage.count("operator: interrupted");
            return;
        }
        match operator.phase {
            Phase::Close => {
                let own = &mut self.servers[server];
                if own.read_only {
                    stage.count("operator: interrupted");
                    return;
                }
                own.close_by_hand(now);
                operator.closed = own.row.epoch;
                operator.phase = Phase::Read;
                stage.count("operator: close");
                stage.note(|| format!("the operator closes the row on {server}"));
                stage.plan(now + self.lease + SECOND, Due::Operate(id));
            }
            Phase::Read => {
                operator.phase = Phase::Open(self.servers[server].row);
                stage.plan(now + Duration::from_millis(1), Due::Operate(id));
            }
            Phase::Open(read) => {
                if !self.open(stage, &operator, read) {
                    stage.count("operator: open refused");
                    stage.note(|| "the row is not as it was read".to_string());
                    let row = self.servers[server].row;
                    let kept = is_still_closed(operator.closed, row.epoch);
                    let others = row.owner != Owned::Closed || !kept;
                    if others || self.servers[server].read_only {
                        return;
                    }
                    // Under another epoch it is another closing, which is waited for anew.
                    operator.phase = match row.epoch == read.epoch {
                        true => Phase::Read,
                        false => Phase::Close,
                    };
                    stage.plan(now + Duration::from_millis(50), Due::Operate(id));
                } else {
                    return;
                }
            }
        }
        self.operators.push(operator);
    }

    fn open(&mut self, stage: &mut Stage<'_>, operator: &Operator, read: Row) -> bool {
        let server = operator.server;
        let mut past = match operator.past {
            Past::Honest => self.issued_by_all(),
            Past::Said(past) => past,
        };
        let least =
            assumptions::least_past(self.issued_by_absent(operator, stage.now), self.margin);
        if past < least {
            stage.count("assumption: past covers the absent");
            past = least;
        }
        let start = read.id.max(read.mark).max(past) + self.margin;
        let kept = is_still_closed(operator.closed, read.epoch);
        if start > self.numbering.last_base() || !kept {
            return false;
        }
        let tag = self.next_tag;
        if !self.servers[server].open(read, start, tag, stage.now) {
            return false;
        }
        self.next_tag += 1;
        stage.count("operator: open");
        stage.count(match operator.past {
            Past::Honest => "operator: honest past",
            Past::Said(0) => "operator: low past",
            Past::Said(_) => "operator: past as a node has said",
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
        stage.note(|| format!("the operator opens {server}: {row:?}"));
        true
    }

    pub(super) fn issued_by_all(&self) -> u64 {
        let issued = self.parties.iter().map(|party| party.issued_high).max();
        issued.unwrap_or(0).max(self.forgotten_high)
    }

    /// By those who may not have raised the mark by now; and what may be issued from old primaries.
    fn issued_by_absent(&self, operator: &Operator, now: Moment) -> u64 {
        let relied = Duration::from_secs(2);
        let absent = self.parties.iter().filter(|process| {
            process.clean.is_none_or(|clean| clean + relied > now)
                || !process.alive
                || process.stopped
        });
        let issued = absent.map(|process| process.issued_high).max();
        let others = self.servers.iter().filter(|server| {
            server.index != operator.server && !operator.fenced[server.index] && !server.read_only
        });
        let others = others.map(|server| server.row.id).max();
        self.forgotten_high
            .max(issued.unwrap_or(0))
            .max(others.unwrap_or(0))
    }
}
