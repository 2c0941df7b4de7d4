//! Faults in whose midst the processes are asked for tickets, and the operator's last commands:
//! what plays alike in both worlds, given how each of them goes on.

use std::time::Duration;

use tickr::counter::Memory;

use super::{Backend, Past, SECOND};
use crate::checker::{Lawful, Violation, broken};
use crate::history::Stage;

/// The operator opens a row that the living have closed once more, at most so often.
const ADVANCES_MAX: usize = 12;

/// A world of processes of some kind.
pub trait Play<'a> {
    fn parts(&mut self) -> (&mut Backend, &mut Stage<'a>);

    /// Time goes by.
    fn pass(&mut self, time: Duration) -> Lawful;

    /// Some process is asked for tickets.
    fn requests(&mut self) -> Lawful;

    /// Asks each process once: whether it serves, or else says that an operator has to act; `None`
    /// when one was refused by a process that serves now, as its only session has just come back
    /// with the row.
    fn each_serves(&mut self) -> Result<Option<bool>, Violation>;

    /// What an operator passes after reading what they say.
    fn past(&mut self) -> Past;

    /// A new incarnation begins, which remembers so much.
    fn start(&mut self, process: usize, memory: Memory) -> Lawful;

    /// A process that was stopped goes on.
    fn resume(&mut self, process: usize) -> Lawful;

    /// Nothing is left of a process.
    fn forget(&mut self, process: usize);

    fn kill(&mut self) -> Lawful {
        let (backend, stage) = self.parts();
        if let Some(process) = backend.pick_process(stage, |_, party| party.alive) {
            stage.count("process: killed");
            self.forget(process);
            let (backend, stage) = self.parts();
            backend.kill(process);
            stage.note(|| format!("process {process} is killed"));
        }
        Ok(())
    }

    fn restart(&mut self) -> Lawful {
        let (backend, stage) = self.parts();
        let Some(process) = backend.pick_process(stage, |_, party| !party.alive) else {
            return Ok(());
        };
        let memory = backend.choose_memory(stage, process);
        self.start(process, memory)
    }

    fn stop_or_continue(&mut self) -> Lawful {
        let (backend, stage) = self.parts();
        let Some(process) = backend.pick_process(stage, |_, party| party.alive) else {
            return Ok(());
        };
        if backend.parties[process].stopped {
            return self.resume(process);
        }
        backend.stop(stage, process);
        Ok(())
    }

    fn cut(&mut self) -> Lawful {
        let (backend, stage) = self.parts();
        if let Some(process) = backend.pick_process(stage, |_, party| party.alive) {
            backend.cut(stage, process);
        }
        Ok(())
    }

    fn restore(&mut self) -> Lawful {
        let (backend, stage) = self.parts();
        backend.restore(stage);
        if stage.tape.chance(128) {
            // Blocks are asked for before anybody has looked.
            for _ in 0..backend.parties.len() {
                self.requests()?;
            }
            self.pass(Duration::from_millis(1))?;
        }
        Ok(())
    }

    fn toggle_read_only(&mut self) -> Lawful {
        let (backend, stage) = self.parts();
        stage.count("database: read-only");
        if stage.tape.chance(96) {
            // What was committed before is answered after, perhaps when it is writable again.
            backend.slow = true;
            self.requests()?;
            self.pass(Duration::from_millis(1))?;
            self.parts().0.slow = false;
        }
        let (backend, stage) = self.parts();
        backend.toggle_read_only(stage, "the primary is made read-only, or writable");
        if stage.tape.chance(128) {
            let time = stage.tape.millis(&[10, 250, 600, 1_100]);
            self.pass(time)?;
            let (backend, stage) = self.parts();
            backend.toggle_read_only(stage, "and back");
        }
        Ok(())
    }

    /// Everybody serves, if an operator does what they say.
    fn advance_until_all_serve(&mut self) -> Lawful {
        while self.parts().0.is_stale() || !self.all_serve()? {
            let past = self.past();
            let (backend, stage) = self.parts();
            backend.advances += 1;
            if backend.advances > ADVANCES_MAX {
                return broken("advance makes everybody serve", "it does not");
            }
            backend.begin_advance(stage, past);
            let time = backend.lease + SECOND * 4;
            self.pass(time)?;
            if self.parts().0.is_out_of_numbers() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn all_serve(&mut self) -> Result<bool, Violation> {
        for _ in 0..2 {
            if let Some(all) = self.each_serves()? {
                return Ok(all);
            }
        }
        broken("everybody serves", "twice not").map(|()| false)
    }
}
