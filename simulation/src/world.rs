//! A history of allocators: processes, servers and an operator on virtual time, with everything
//! that can go wrong chosen by the tape.

use std::time::Duration;

use tickr::allocator::Options;
use tickr::counter::Memory;
use tickr::moment::Moment;

use self::processes::Process;
use crate::backend::play::Play;
use crate::backend::{Answer, Backend, Party, Past, SECOND};
use crate::checker::{Issued, Lawful, Violation};
use crate::history::{Cause, Due, History, Stage, caught, numbering};
use crate::tape::Tape;

mod end;
mod jobs;
mod processes;
mod turns;

/// More at one moment is a busy loop.
const STEPS_PER_TURN_MAX: usize = 400;

/// Runs the history of a tape.
pub fn history(tape: &[u8], traced: bool) -> History {
    let mut world = World::new(Stage::new(Tape::new(tape), traced));
    let verdict = caught("the allocator's own", || world.run());
    History {
        verdict,
        record: world.stage.record,
        advances: world.backend.advances,
    }
}

struct World<'a> {
    stage: Stage<'a>,
    backend: Backend,
    processes: Vec<Process>,
    issued: Issued,
}

impl<'a> World<'a> {
    fn new(mut stage: Stage<'a>) -> World<'a> {
        let numbering = numbering(&mut stage.tape);
        let lease = stage.tape.millis(&[2_000, 10_000, 3_000, 1_000]);
        let mut backend = Backend::new(&mut stage, numbering, lease);
        let mut processes = Vec::new();
        for index in 0..1 + stage.tape.below(3) {
            let timeout = stage.tape.millis(&[500, 50, 100, 2_000, 10, 10_000]);
            let prefetch = stage.tape.millis(&[0, 100, 1_000, 0, 2_000]);
            let options = Options {
                numbering,
                pool_size: stage.tape.pick(&[1, 2, 3, 4]),
                timeout,
                prefetch: prefetch.min(lease),
                seed: index as u64,
                remembered: Memory::default(),
            };
            stage.note(|| format!("process {index}: {options:?}"));
            let party = Party::new(options.pool_size, timeout, stage.now);
            backend.parties.push(party);
            processes.push(Process::new(options, stage.now));
        }
        World {
            stage,
            backend,
            processes,
            issued: Issued::default(),
        }
    }

    fn run(&mut self) -> Lawful {
        for process in 0..self.processes.len() {
            self.turn(process, Cause::Stimulus)?;
        }
        while !self.stage.tape.is_at_end() {
            self.act()?;
        }
        self.heal()
    }

    fn act(&mut self) -> Lawful {
        let World { stage, backend, .. } = self;
        stage.record.steps += 1;
        let lease = backend.lease;
        match stage.tape.byte() % 64 {
            0..20 => {
                let time = stage.tape.millis(&[1, 3, 10, 30, 100, 250, 600]);
                return self.pass(time);
            }
            20..24 => {
                let pauses = [SECOND, lease / 2, lease, lease + SECOND];
                let time = stage.tape.pick(&pauses);
                return self.pass(time);
            }
            24..42 => return self.requests(),
            42 => return self.disconnect(),
            43 | 44 => return self.poke(),
            45 | 46 => return self.kill(),
            47 | 48 => return self.restart(),
            49 | 50 => return self.stop_or_continue(),
            51 => return self.cut(),
            52 | 53 => backend.fail_over(stage),
            54 => return self.restore(),
            55 => backend.rejoin(stage),
            56..59 => backend.operate(stage),
            59 => backend.interrupt_operator(stage),
            60 => backend.outage(stage),
            61 => backend.misfit(stage),
            62 => return self.toggle_read_only(),
            _ => backend.old_program(stage),
        }
        Ok(())
    }

    fn run_until(&mut self, until: Moment) -> Lawful {
        while let Some((at, due)) = self.stage.agenda.next(until) {
            self.stage.now = self.stage.now.max(at);
            self.perform(due)?;
        }
        self.stage.now = until;
        for (process, party) in self.processes.iter().zip(&self.backend.parties) {
            if party.runs() {
                process.witness.overdue(until)?;
            }
        }
        Ok(())
    }

    fn perform(&mut self, due: Due) -> Lawful {
        let World { stage, backend, .. } = self;
        stage.record.steps += 1;
        match due {
            Due::Execute(flight) => {
                if let Some(committed) = backend.on_execute(stage, flight) {
                    let witness = &mut self.processes[committed.process].witness;
                    witness.on_commit(&committed);
                }
                Ok(())
            }
            Due::Answer(answer) => match backend.arrived(answer) {
                Some(answer) => self.on_answer(answer),
                None => Ok(()),
            },
            Due::Wake(process, incarnation) => {
                let party = &backend.parties[process];
                let wake = self.processes[process].wake;
                let is_due = wake.is_some_and(|wake| wake <= stage.now);
                if party.incarnation != incarnation || !party.runs() || !is_due {
                    return Ok(());
                }
                self.turn(process, Cause::Wake)
            }
            due => {
                backend.perform(stage, due);
                Ok(())
            }
        }
    }
}

impl<'a> Play<'a> for World<'a> {
    fn parts(&mut self) -> (&mut Backend, &mut Stage<'a>) {
        (&mut self.backend, &mut self.stage)
    }

    fn pass(&mut self, time: Duration) -> Lawful {
        self.run_until(self.stage.now + time)
    }

    fn requests(&mut self) -> Lawful {
        self.ask_for_some()
    }

    fn each_serves(&mut self) -> Result<Option<bool>, Violation> {
        self.ask_each()
    }

    fn past(&mut self) -> Past {
        Past::Honest
    }

    fn start(&mut self, process: usize, memory: Memory) -> Lawful {
        let now = self.stage.now;
        self.backend.restart(process, memory, now);
        let mut options = self.processes[process].options.clone();
        options.remembered = memory;
        self.processes[process] = Process::new(options, now);
        self.turn(process, Cause::Stimulus)
    }

    fn resume(&mut self, process: usize) -> Lawful {
        let inbox = self.backend.resume(&mut self.stage, process);
        let witness = &mut self.processes[process].witness;
        witness.on_continue(self.stage.now);
        // The loop looks at the clock before it looks at what has come, or after.
        if self.stage.tape.chance(128) {
            self.turn(process, Cause::Stimulus)?;
        }
        for answer in inbox {
            self.on_answer(answer)?;
        }
        self.turn(process, Cause::Stimulus)
    }

    fn forget(&mut self, process: usize) {
        self.processes[process].wake = None;
    }
}
