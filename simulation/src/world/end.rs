//! The end of a history: faults end, and everybody must serve.

use std::time::Duration;

use tickr::allocator::Ask;

use super::turns::label;
use super::{ADVANCES_MAX, Due, SECOND, World};
use crate::checker::{Lawful, Violation, broken};
use crate::history::Cause;

impl World<'_> {
    /// Faults end: everybody must serve, or say what an operator must do, after which he serves.
    pub(super) fn heal(&mut self) -> Lawful {
        self.calm = true;
        self.note(|| "faults end".to_string());
        self.operators.clear();
        for server in 0..self.servers.len() {
            // Whoever still is on a read-only one must leave by himself.
            if server != self.primary && !self.servers[server].read_only {
                self.fence(server);
            }
            self.servers[server].up = true;
            self.servers[server].misfit = None;
        }
        self.servers[self.primary].read_only = false;
        self.point_the_name();
        // What hangs comes back.
        self.agenda
            .hasten(self.now + SECOND, |due| !matches!(due, Due::Wake(..)));
        for process in 0..self.processes.len() {
            self.processes[process].cut = false;
            if !self.processes[process].alive {
                let memory = self.processes[process].file.last().copied();
                self.start(process, memory.unwrap_or_default())?;
            }
            if self.processes[process].stopped {
                self.resume(process)?;
            }
        }
        self.pass(SECOND * 10)?;
        while self.stale[self.primary].stands || !self.all_serve()? {
            self.advances += 1;
            if self.advances > ADVANCES_MAX {
                return broken("advance makes everybody serve", "it does not");
            }
            self.begin_advance(true);
            self.pass(self.lease + SECOND * 4)?;
            if self.is_out_of_numbers() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether each process serves; one that does not must say that an operator has to act.
    pub(super) fn all_serve(&mut self) -> Result<bool, Violation> {
        Ok(match self.each_serves()? {
            Some(all) => all,
            None => match self.each_serves()? {
                Some(all) => all,
                None => return broken("everybody serves", "twice not").map(|()| false),
            },
        })
    }

    /// The same for one request each; `None` when one was refused by a process that serves now, as
    /// its only session has just come back with the row.
    fn each_serves(&mut self) -> Result<Option<bool>, Violation> {
        let mut asked = Vec::new();
        for process in 0..self.processes.len() {
            let high = self.processes[process].witness.issued_high;
            asked.push((self.submit(process, Ask::Tickets(1)), high));
            self.turn(process, Cause::Stimulus)?;
        }
        let longest = self.processes.iter().map(|process| process.options.timeout);
        let longest = longest.max().unwrap_or_default();
        self.pass(longest + Duration::from_millis(1))?;
        let mut all = Some(true);
        for (process, (id, high)) in asked.into_iter().enumerate() {
            let own = &self.processes[process];
            if own.witness.is_waiting_for(id) {
                return broken("one final answer", format!("none for {id:?}")).map(|()| None);
            }
            let verdict = label(&own.allocator.verdict(self.now));
            if own.witness.issued_high == high {
                match verdict {
                    "closed" | "exhausted" => {}
                    "serving" => all = None,
                    _ => {
                        return broken("everybody serves", format!("process {process}: {verdict}"))
                            .map(|()| None);
                    }
                }
            }
            all = all.map(|all| all && verdict != "closed");
        }
        Ok(all)
    }

    pub(super) fn is_out_of_numbers(&self) -> bool {
        let row = self.servers[self.primary].row;
        let high = row.id.max(row.mark).max(self.issued_by_all());
        high + 2 * self.margin > self.numbering.last_base()
    }
}
