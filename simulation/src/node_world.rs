//! A history of whole nodes: processes behind `Io` on virtual time, clients that speak bytes, and
//! the servers behind them, with everything that can go wrong chosen by the tape.

use std::time::Duration;

use tickr::allocator;
use tickr::counter::Memory;
use tickr::http::array::Format;
use tickr::limits;
use tickr::moment::Moment;

use self::processes::{Process, Settings};
use crate::backend::play::Play;
use crate::backend::{Backend, Party, Past, SECOND};
use crate::checker::{Issued, Lawful, Violation};
use crate::clients::{Kind, Manner};
use crate::history::{Cause, Due, History, Stage, caught, numbering};
use crate::sockets::{Desk, Net};
use crate::tape::Tape;

mod end;
mod processes;
mod surfaces;
mod traffic;
mod turns;

const MILLISECOND: Duration = Duration::from_millis(1);
/// More clients of one process at once are a crowd, which comes by itself.
const CLIENTS_MAX: usize = 12;
/// A request for one ticket.
const SINGLE: (&str, Kind) = (
    "GET /tickets/create",
    Kind::Tickets {
        count: 1,
        format: Format::Array,
    },
);

/// Runs the history of a tape.
pub fn history(tape: &[u8], traced: bool) -> History {
    let mut world = World::new(Stage::new(Tape::new(tape), traced));
    let verdict = caught("the node's own", || world.run());
    History {
        verdict,
        record: world.stage.record,
        advances: world.backend.advances,
    }
}

struct World<'a> {
    stage: Stage<'a>,
    backend: Backend,
    net: Net,
    manner: Manner,
    processes: Vec<Process>,
    /// What the nodes have said that an operator should pass.
    past: Past,
}

impl<'a> World<'a> {
    fn new(mut stage: Stage<'a>) -> World<'a> {
        let numbering = numbering(&mut stage.tape);
        let lease = stage.tape.millis(&[10_000, 2_000, 3_000, 1_000]);
        let mut backend = Backend::new(&mut stage, numbering, lease);
        let tape = &mut stage.tape;
        let manner = Manner {
            max_batch: tape.pick(&[1_000, 50_000, limits::BATCH_MAX, 50, 1_000]),
            batch_format: tape.pick(&[Format::Array, Format::Range]),
            password: tape.chance(48),
            array: tape.pick(&[900, 3_000, 900, 20_000, 900, 900, 900, 900]),
        };
        let net = Net {
            numbering,
            weather: tape.pick(&[0, 16, 64, 128]),
            sockets: Vec::new(),
            issued: Issued::default(),
            reactions: Vec::new(),
        };
        let mut processes = Vec::new();
        for index in 0..tape.pick(&[2, 1, 2, 3, 1, 2, 2, 1]) {
            let tape = &mut stage.tape;
            let timeout = tape.millis(&[500, 50, 100, 2_000, 10, 10_000]);
            let prefetch = tape.millis(&[0, 100, 1_000, 0, 2_000]);
            let settings = Settings {
                allocator: allocator::Options {
                    numbering,
                    pool_size: tape.pick(&[1, 2, 3]),
                    timeout,
                    prefetch: prefetch.min(lease),
                    seed: index as u64,
                    remembered: Memory::default(),
                },
                connections_max: tape.pick(&[100, 3, 8, 100]),
                idle_timeout: tape.millis(&[75_000, 1_000, 5_000]),
                shutdown_timeout: tape.millis(&[30_000, 1_000, 12_000, 0]),
                outlives: tape.pick(&[&[false][..], &[false, true]]).to_vec(),
            };
            stage.note(|| format!("process {index}: {settings:?}"));
            let pool_size = settings.allocator.pool_size;
            let party = Party::new(pool_size, timeout, stage.now);
            backend.parties.push(party);
            processes.push(Process::new(settings, &manner, stage.now));
        }
        stage.note(|| format!("{manner:?}, lease {lease:?}"));
        World {
            stage,
            backend,
            net,
            manner,
            processes,
            past: Past::Honest,
        }
    }

    fn run(&mut self) -> Lawful {
        for process in 0..self.processes.len() {
            self.settle(process, Cause::Stimulus)?;
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
            0..14 => {
                let time = stage.tape.millis(&[1, 3, 10, 30, 100, 250, 600]);
                return self.pass(time);
            }
            14 | 15 => {
                let pauses = [
                    SECOND,
                    lease / 2,
                    lease + SECOND,
                    SECOND * 3,
                    SECOND * 11,
                    SECOND * 31,
                ];
                let time = stage.tape.pick(&pauses);
                return self.pass(time);
            }
            16..22 => return self.come(),
            22..33 => return self.send(),
            33..36 => return self.read(),
            36 | 37 => return self.leave(),
            38 => return self.crowd(),
            39..42 => return self.probe_one(),
            42 => return self.poke(),
            43 => return self.break_accept(),
            44 | 56 => return self.drain(),
            45 => return self.kill(),
            46 | 47 => return self.restart(),
            48 => return self.stop_or_continue(),
            49 => return self.cut(),
            50 | 51 => backend.fail_over(stage),
            52 => return self.restore(),
            53 => backend.rejoin(stage),
            54 | 55 => backend.operate(stage),
            57 => backend.interrupt_operator(stage),
            58 => return self.outage(),
            59 => backend.misfit(stage),
            60 => return self.toggle_read_only(),
            61 => backend.old_program(stage),
            _ => return self.resume_sending(),
        }
        Ok(())
    }

    /// Sometimes somebody comes while the database is away.
    fn outage(&mut self) -> Lawful {
        self.backend.outage(&mut self.stage);
        if self.stage.tape.chance(160) {
            let time = self.stage.tape.millis(&[1_100, 300, 30, 600]);
            self.come()?;
            self.pass(time)?;
            self.probe_one()?;
        }
        Ok(())
    }

    fn run_until(&mut self, until: Moment) -> Lawful {
        while let Some((at, due)) = self.stage.agenda.next(until) {
            self.stage.now = self.stage.now.max(at);
            self.stage.record.steps += 1;
            self.perform(due)?;
        }
        self.stage.now = until;
        for process in 0..self.processes.len() {
            self.look(process)?;
        }
        Ok(())
    }

    fn perform(&mut self, due: Due) -> Lawful {
        let World {
            stage,
            backend,
            net,
            processes,
            ..
        } = self;
        let (at, change): (_, fn(&mut Net, usize, &mut Desk)) = match due {
            Due::Execute(flight) => {
                if let Some(committed) = backend.on_execute(stage, flight) {
                    let desk = &mut processes[committed.process].desk;
                    desk.committed.insert(committed.first(), committed.last);
                }
                return Ok(());
            }
            Due::Answer(answer) => {
                let Some(answer) = backend.arrived(answer) else {
                    return Ok(());
                };
                let process = answer.process;
                self.learn(answer);
                return self.settle(process, Cause::Stimulus);
            }
            Due::Wake(process, incarnation) => {
                let wake = processes[process].wake;
                let is_due = wake.is_some_and(|wake| wake <= stage.now);
                if backend.parties[process].incarnation != incarnation || !is_due {
                    return Ok(());
                }
                return self.settle(process, Cause::Wake);
            }
            Due::Arrive(at, bytes) => {
                let process = net.sockets[at].process;
                net.arrive(at, &bytes, &mut processes[process].desk);
                return self.settle(process, Cause::Stimulus);
            }
            Due::Fin(at) => (at, Net::finish_input),
            Due::Reset(at) => (at, |net, at, desk| net.break_off(at, true, desk)),
            due => {
                backend.perform(stage, due);
                return Ok(());
            }
        };
        let process = net.sockets[at].process;
        change(net, at, &mut processes[process].desk);
        self.settle(process, Cause::Stimulus)
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
        std::mem::replace(&mut self.past, Past::Honest)
    }

    fn start(&mut self, process: usize, memory: Memory) -> Lawful {
        self.stage.note(|| format!("process {process} starts"));
        let now = self.stage.now;
        self.backend.restart(process, memory, now);
        let mut settings = self.processes[process].settings.clone();
        settings.allocator.remembered = memory;
        self.processes[process] = Process::new(settings, &self.manner, now);
        self.settle(process, Cause::Stimulus)
    }

    fn resume(&mut self, process: usize) -> Lawful {
        let inbox = self.backend.resume(&mut self.stage, process);
        self.processes[process].desk.late_until = self.stage.now;
        for answer in inbox {
            self.learn(answer);
        }
        self.settle(process, Cause::Stimulus)
    }

    fn forget(&mut self, process: usize) {
        let own = &mut self.processes[process];
        self.net.abandon(&mut own.desk);
        (own.node, own.wake, own.desk.listening) = (None, None, false);
    }
}
