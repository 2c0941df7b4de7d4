//! A history: processes, servers and an operator on virtual time, with everything that can go
//! wrong chosen by the tape.

use std::time::Duration;

use tickr::allocator::Options;
use tickr::counter::{Epoch, Memory};
use tickr::moment::Moment;
use tickr::ticket::Numbering;

use self::jobs::{Answer, Flight, Session};
use self::operator::Operator;
use self::processes::Process;
use crate::agenda::Agenda;
use crate::assumptions::Stale;
use crate::checker::{Issued, Lawful};
use crate::database::{Owned, Row, Server};
use crate::history::{Cause, History, Record, START, caught, numbering};
use crate::tape::Tape;

mod end;
mod execution;
mod jobs;
mod operator;
mod processes;
mod servers;
mod turns;

const SECOND: Duration = Duration::from_secs(1);
/// More at one moment is a busy loop.
const STEPS_PER_TURN_MAX: usize = 400;
/// More in a second, for no request, is one as well.
const JOBS_PER_SECOND_MAX: usize = 100;
/// The operator opens a row that the living have closed once more, at most so often.
const ADVANCES_MAX: usize = 12;

/// Runs the history of a tape.
pub fn history(tape: &[u8], traced: bool) -> History {
    let mut world = World::new(Tape::new(tape), traced);
    let verdict = caught("the allocator's own", || world.run());
    History {
        verdict,
        record: world.record,
        advances: world.advances,
    }
}

struct World<'a> {
    tape: Tape<'a>,
    now: Moment,
    agenda: Agenda<Due>,
    /// Faults have ended.
    calm: bool,
    numbering: Numbering,
    margin: u64,
    lease: Duration,
    /// The user of the processes may write to a read-only server.
    privileged: bool,
    /// Of 256 jobs, so many go wrong.
    weather: u16,
    /// The answers to reservations that go out now take a while.
    slow: bool,
    servers: Vec<Server>,
    stale: Vec<Stale>,
    /// What was opened elsewhere begins there.
    limits: Vec<Option<u64>>,
    primary: usize,
    /// Where new connections are led.
    name: usize,
    reserved_high: u64,
    newest: Epoch,
    sessions: Vec<Session>,
    processes: Vec<Process>,
    /// Issued by incarnations that are dead and whose memory is lost.
    forgotten_high: u64,
    operators: Vec<Operator>,
    next_tag: u64,
    issued: Issued,
    record: Record,
    advances: usize,
}

#[derive(Clone, Debug)]
enum Due {
    Execute(Flight),
    ReadBack(Flight, Option<u64>),
    Answer(Answer),
    Wake(usize, u64),
    Operate(u64),
    /// The name is pointed to this server, if it is still the primary.
    Name(usize),
}

impl<'a> World<'a> {
    fn new(mut tape: Tape<'a>, traced: bool) -> World<'a> {
        let now = START;
        let numbering = numbering(&mut tape);
        let lease = tape.millis(&[2_000, 10_000, 3_000, 1_000]);
        let epoch = Epoch { number: 1, tag: 1 };
        let row = Row {
            id: 1,
            mark: 0,
            owner: Owned::By(0),
            epoch,
        };
        let count = 2 + tape.below(2);
        let mut world = World {
            now,
            agenda: Agenda::default(),
            calm: false,
            numbering,
            margin: tape.pick(&[10, 100, 1]),
            lease,
            privileged: !tape.chance(128),
            slow: false,
            weather: tape.pick(&[0, 4, 16, 48, 96]),
            servers: (0..count)
                .map(|index| Server::new(index, row, lease, now))
                .collect(),
            stale: vec![Stale::default(); count],
            limits: vec![None; count],
            primary: 0,
            name: 0,
            reserved_high: 1,
            newest: epoch,
            sessions: Vec::new(),
            processes: Vec::new(),
            forgotten_high: 0,
            operators: Vec::new(),
            next_tag: 2,
            issued: Issued::default(),
            record: Record::new(traced),
            advances: 0,
            tape,
        };
        for index in 0..1 + world.tape.below(3) {
            let timeout = world.tape.millis(&[500, 50, 100, 2_000, 10, 10_000]);
            let prefetch = world.tape.millis(&[0, 100, 1_000, 0, 2_000]);
            let options = Options {
                numbering,
                pool_size: world.tape.pick(&[1, 2, 3, 4]),
                timeout,
                prefetch: prefetch.min(lease),
                seed: index as u64,
                remembered: Memory::default(),
            };
            world.note(|| format!("process {index}: {options:?}"));
            world.processes.push(Process::new(options, now));
        }
        world
    }

    fn run(&mut self) -> Lawful {
        for process in 0..self.processes.len() {
            self.turn(process, Cause::Stimulus)?;
        }
        while !self.tape.is_at_end() {
            self.act()?;
        }
        self.heal()
    }

    fn act(&mut self) -> Lawful {
        self.record.steps += 1;
        let lease = self.lease;
        match self.tape.byte() % 64 {
            0..20 => {
                let time = self.tape.millis(&[1, 3, 10, 30, 100, 250, 600]);
                self.pass(time)
            }
            20..24 => {
                let time = self.tape.pick(&[SECOND, lease / 2, lease, lease + SECOND]);
                self.pass(time)
            }
            24..42 => self.requests(),
            42 => self.disconnect(),
            43 | 44 => self.poke(),
            45 | 46 => self.kill(),
            47 | 48 => self.restart(),
            49 | 50 => self.stop_or_continue(),
            51 => self.cut(),
            52 | 53 => self.fail_over(),
            54 => self.restore(),
            55 => self.rejoin(),
            56..59 => self.operate(),
            59 => self.interrupt_operator(),
            60 => self.outage(),
            61 => self.misfit(),
            62 => self.toggle_read_only(),
            _ => self.old_program(),
        }
    }

    fn pass(&mut self, time: Duration) -> Lawful {
        self.run_until(self.now + time)
    }

    fn run_until(&mut self, until: Moment) -> Lawful {
        while let Some((at, due)) = self.agenda.next(until) {
            self.now = self.now.max(at);
            self.perform(due)?;
        }
        self.now = until;
        for process in &self.processes {
            if process.alive && !process.stopped {
                process.witness.overdue(self.now)?;
            }
        }
        Ok(())
    }

    fn perform(&mut self, due: Due) -> Lawful {
        self.record.steps += 1;
        match due {
            Due::Execute(flight) => self.on_execute(flight),
            Due::ReadBack(flight, last) => self.on_read_back(flight, last),
            Due::Operate(id) => self.on_operate(id),
            Due::Name(server) => {
                if server == self.primary {
                    self.point_the_name();
                }
                Ok(())
            }
            Due::Answer(answer) => {
                let own = &mut self.processes[answer.process];
                if own.incarnation != answer.incarnation || !own.alive {
                    return Ok(());
                }
                if own.stopped {
                    own.inbox.push(Due::Answer(answer));
                    return Ok(());
                }
                self.on_answer(answer)
            }
            Due::Wake(process, incarnation) => {
                let own = &self.processes[process];
                let is_due = own.wake.is_some_and(|wake| wake <= self.now);
                if own.incarnation != incarnation || !own.alive || own.stopped || !is_due {
                    return Ok(());
                }
                self.turn(process, Cause::Wake)
            }
        }
    }

    fn plan(&mut self, at: Moment, due: Due) {
        self.agenda.plan(at, due);
    }

    /// Notes what happens, for whoever reads the history, and in the digest.
    fn note(&mut self, text: impl FnOnce() -> String) {
        self.record.note(self.now, self.agenda.planned(), text);
    }
}
