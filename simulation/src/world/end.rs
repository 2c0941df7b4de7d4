//! The end of a history: faults end, and everybody must serve.

use std::time::Duration;

use tickr::allocator::Ask;

use super::World;
use super::turns::label;
use crate::backend::SECOND;
use crate::backend::play::Play;
use crate::checker::{Lawful, Violation, broken};
use crate::history::Cause;

impl World<'_> {
    /// Faults end: everybody must serve, or say what an operator must do, after which he serves.
    pub(super) fn heal(&mut self) -> Lawful {
        self.backend.heal(&mut self.stage);
        for process in 0..self.processes.len() {
            if !self.backend.parties[process].alive {
                let memory = self.backend.parties[process].remembered();
                self.start(process, memory)?;
            }
            if self.backend.parties[process].stopped {
                self.resume(process)?;
            }
        }
        self.pass(SECOND * 10)?;
        self.advance_until_all_serve()
    }

    pub(super) fn ask_each(&mut self) -> Result<Option<bool>, Violation> {
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
            let verdict = label(&own.allocator.verdict(self.stage.now));
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
}
