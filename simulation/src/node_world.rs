//! A history of whole nodes: processes behind `Io` on virtual time, clients that speak bytes, and
//! a modelled database, with everything that can go wrong chosen by the tape.

use std::time::Duration;

use tickr::allocator;
use tickr::counter::{Epoch, Memory};
use tickr::http::array::Format;
use tickr::limits;
use tickr::moment::Moment;

use self::jobs::{Flight, Lesson};
use self::processes::{Process, Settings};
use crate::agenda::Agenda;
use crate::checker::{Issued, Lawful};
use crate::clients::Manner;
use crate::database::{Owned, Row, Server};
use crate::history::{Cause, History, Record, START, caught, numbering};
use crate::sockets::Net;
use crate::tape::Tape;

mod end;
mod jobs;
mod processes;
mod server;
mod surfaces;
mod traffic;
mod turns;

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
/// More clients of one process at once are a crowd, which comes by itself.
const CLIENTS_MAX: usize = 12;

/// Runs the history of a tape.
pub fn history(tape: &[u8], traced: bool) -> History {
    let mut world = World::new(Tape::new(tape), traced);
    let verdict = caught("the node's own", || world.run());
    History {
        verdict,
        record: world.net.record,
        advances: 0,
    }
}

struct World<'a> {
    tape: Tape<'a>,
    net: Net,
    agenda: Agenda<Due>,
    /// Faults have ended.
    calm: bool,
    manner: Manner,
    lease: Duration,
    /// Of 256 jobs, so many go wrong.
    weather: u16,
    server: Server,
    /// Which of them are dead.
    sessions: Vec<bool>,
    processes: Vec<Process>,
    next_tag: u64,
}

#[derive(Debug)]
enum Due {
    Arrive(usize, Vec<u8>),
    Fin(usize),
    Reset(usize),
    Execute(Flight),
    Learn(Lesson),
    Wake(usize, u64),
    Open,
}

impl<'a> World<'a> {
    fn new(mut tape: Tape<'a>, traced: bool) -> World<'a> {
        let now = START;
        let numbering = numbering(&mut tape);
        let lease = tape.millis(&[10_000, 2_000, 3_000, 1_000]);
        let row = Row {
            id: 1,
            mark: 0,
            owner: Owned::By(0),
            epoch: Epoch { number: 1, tag: 1 },
        };
        let manner = Manner {
            max_batch: tape.pick(&[1_000, 50_000, limits::BATCH_MAX, 50, 1_000]),
            batch_format: tape.pick(&[Format::Array, Format::Range]),
            password: tape.chance(48),
            array: tape.pick(&[900, 3_000, 900, 20_000, 900, 900, 900, 900]),
        };
        let mut world = World {
            net: Net {
                now,
                numbering,
                weather: tape.pick(&[0, 16, 64, 128]),
                sockets: Vec::new(),
                issued: Issued::default(),
                record: Record::new(traced),
                reactions: Vec::new(),
            },
            agenda: Agenda::default(),
            calm: false,
            manner,
            lease,
            weather: tape.pick(&[0, 4, 24, 64]),
            server: Server::new(0, row, lease, now),
            sessions: Vec::new(),
            processes: Vec::new(),
            next_tag: 2,
            tape,
        };
        for index in 0..1 + world.tape.below(3).min(1) {
            let timeout = world.tape.millis(&[500, 50, 100, 2_000, 10, 10_000]);
            let prefetch = world.tape.millis(&[0, 100, 1_000, 0, 2_000]);
            let settings = Settings {
                allocator: allocator::Options {
                    numbering,
                    pool_size: world.tape.pick(&[1, 2, 3]),
                    timeout,
                    prefetch: prefetch.min(lease),
                    seed: index as u64,
                    remembered: Memory::default(),
                },
                connections_max: world.tape.pick(&[100, 3, 8, 100]),
                idle_timeout: world.tape.millis(&[75_000, 1_000, 5_000]),
                shutdown_timeout: world.tape.millis(&[30_000, 1_000, 12_000, 0]),
                outlives: world.tape.pick(&[&[false][..], &[false, true]]).to_vec(),
            };
            world.note(|| format!("process {index}: {settings:?}"));
            let process = Process::new(settings, &world.manner, now);
            world.processes.push(process);
        }
        let manner = world.manner.clone();
        world.note(|| format!("{manner:?}, lease {lease:?}"));
        world
    }

    fn run(&mut self) -> Lawful {
        for process in 0..self.processes.len() {
            self.settle(process, Cause::Stimulus)?;
        }
        while !self.tape.is_at_end() {
            self.act()?;
        }
        self.heal()
    }

    fn act(&mut self) -> Lawful {
        self.net.record.steps += 1;
        let lease = self.lease;
        match self.tape.byte() % 64 {
            0..14 => {
                let time = self.tape.millis(&[1, 3, 10, 30, 100, 250, 600]);
                self.pass(time)
            }
            14..17 => {
                let pauses = [
                    SECOND,
                    lease / 2,
                    lease + SECOND,
                    SECOND * 3,
                    SECOND * 11,
                    SECOND * 31,
                ];
                let time = self.tape.pick(&pauses);
                self.pass(time)
            }
            17..24 => self.come(),
            24..38 => self.send(),
            38..41 => self.read(),
            41 => self.leave(),
            42 => self.crowd(),
            43..46 => self.probe_one(),
            46 | 47 => self.poke(),
            48 => self.break_accept(),
            49 | 50 => self.drain(),
            51 => self.kill(),
            52..54 => self.restart(),
            54 | 55 => self.stop_or_continue(),
            56 => self.outage(),
            57 => self.toggle_read_only(),
            58 => self.close_the_row(),
            59 => self.misfit(),
            60 | 61 => self.resume_sending(),
            _ => self.leave(),
        }
    }

    fn pass(&mut self, time: Duration) -> Lawful {
        self.run_until(self.net.now + time)
    }

    fn run_until(&mut self, until: Moment) -> Lawful {
        while let Some((at, due)) = self.agenda.next(until) {
            self.net.now = self.net.now.max(at);
            self.net.record.steps += 1;
            self.perform(due)?;
        }
        self.net.now = until;
        for process in 0..self.processes.len() {
            self.look(process)?;
        }
        Ok(())
    }

    fn perform(&mut self, due: Due) -> Lawful {
        let at = match due {
            Due::Execute(flight) => {
                self.execute(flight);
                return Ok(());
            }
            Due::Learn(lesson) => return self.learn(lesson),
            Due::Wake(process, incarnation) => {
                let own = &self.processes[process];
                let is_due = own.wake.is_some_and(|wake| wake <= self.net.now);
                if own.incarnation != incarnation || !is_due {
                    return Ok(());
                }
                return self.settle(process, Cause::Wake);
            }
            Due::Open => {
                self.open_the_row();
                return Ok(());
            }
            Due::Arrive(at, ref bytes) => {
                let process = self.net.sockets[at].process;
                self.net
                    .arrive(at, bytes, &mut self.processes[process].desk);
                at
            }
            Due::Fin(at) => {
                let process = self.net.sockets[at].process;
                self.net.finish_input(at, &mut self.processes[process].desk);
                at
            }
            Due::Reset(at) => {
                let process = self.net.sockets[at].process;
                self.net
                    .break_off(at, true, &mut self.processes[process].desk);
                at
            }
        };
        self.settle(self.net.sockets[at].process, Cause::Stimulus)
    }

    fn plan(&mut self, at: Moment, due: Due) {
        self.agenda.plan(at, due);
    }

    /// Notes what happens, for whoever reads the history, and in the digest.
    fn note(&mut self, text: impl FnOnce() -> String) {
        let Net { now, record, .. } = &mut self.net;
        record.note(*now, self.agenda.planned(), text);
    }
}
