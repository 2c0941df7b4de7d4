//! Jobs on their way: sent, executed and answered, each at its own moment, or not at all.

use std::time::Duration;

use tickr::counter::{Found, Job, Outcome, Server as Reached, Task};
use tickr::fault::{Fault, FaultKind};

use super::{Due, MILLISECOND, SECOND, World};
use crate::checker::Lawful;
use crate::history::Cause;

#[derive(Clone, Debug)]
pub(super) struct Lesson {
    pub(super) process: usize,
    pub(super) incarnation: u64,
    pub(super) worker: usize,
    pub(super) outcome: Outcome,
}

#[derive(Clone, Debug)]
pub(super) struct Flight {
    pub(super) process: usize,
    pub(super) incarnation: u64,
    pub(super) session: Option<usize>,
    pub(super) job: Job,
    pub(super) executes: bool,
    /// It is answered so, whatever was done.
    pub(super) fault: Option<FaultKind>,
    pub(super) answer_after: Duration,
    /// Nobody hears of it any more.
    pub(super) silent: bool,
    pub(super) doubled: bool,
}

impl World<'_> {
    pub(super) fn issue(&mut self, process: usize, job: Job) {
        let own = &mut self.processes[process];
        let session = own.workers[job.worker];
        if let Task::Connect { replaces } = job.task {
            own.workers[job.worker] = None;
            if let Some(replaced) = replaces {
                self.sessions[replaced as usize] = true;
            }
        }
        let (timeout, incarnation) = (own.settings.allocator.timeout, own.incarnation);
        let salt = job.id.0 * 7 + process as u64 * 3;
        let mut execute_after = Duration::from_micros(100 + salt % 11 * 30);
        let mut flight = Flight {
            process,
            incarnation,
            session,
            job,
            executes: true,
            fault: None,
            answer_after: Duration::from_micros(100 + salt % 13 * 20),
            silent: false,
            doubled: false,
        };
        if !self.calm && self.weather > 0 && self.tape.chance(self.weather) {
            let io = (timeout * 2).max(SECOND);
            let choice = self.tape.byte() % 8;
            let pauses = [
                MILLISECOND * 3,
                timeout / 4,
                timeout,
                timeout * 2,
                io + MILLISECOND * 700,
                self.lease,
                self.lease * 2,
            ];
            let pause = self.tape.pick(&pauses);
            let name = match choice {
                0 => {
                    execute_after += pause;
                    "job: late"
                }
                1 => {
                    flight.answer_after += pause;
                    "job: late"
                }
                2 => {
                    flight.executes = false;
                    flight.fault = Some(FaultKind::Lost);
                    "job: fault before it was done"
                }
                3 => {
                    flight.fault = Some(FaultKind::Lost);
                    "job: fault after it was done"
                }
                4 => {
                    let mut heard = flight.clone();
                    heard.answer_after = io;
                    self.answer(heard, Err(Fault::new(FaultKind::TimedOut, "")));
                    flight.silent = true;
                    execute_after = io + pause;
                    "job: hung, then done"
                }
                5 => {
                    flight.executes = false;
                    flight.fault = Some(FaultKind::Deadlock);
                    "job: rolled back"
                }
                6 => {
                    flight.executes = false;
                    flight.fault = Some(FaultKind::TooManyConnections);
                    "job: refused by a full server"
                }
                _ => {
                    flight.doubled = true;
                    "job: doubled answer"
                }
            };
            self.net.record.counts.count(name);
        }
        self.note(|| format!("process {process}: {:?}", flight.job));
        self.plan(self.net.now + execute_after, Due::Execute(flight));
    }

    pub(super) fn execute(&mut self, flight: Flight) {
        let fault = |kind| Err(Fault::new(kind, ""));
        let is_dead = flight.session.is_none_or(|session| self.sessions[session]);
        let connects = matches!(flight.job.task, Task::Connect { .. });
        if !self.server.up {
            let kind = if connects {
                FaultKind::Unreachable
            } else {
                FaultKind::Lost
            };
            return self.answer(flight, fault(kind));
        }
        if !connects && is_dead {
            return self.answer(flight, fault(FaultKind::Lost));
        }
        if let Some(kind) = self.server.misfit {
            return self.answer(flight, fault(kind));
        }
        if !flight.executes {
            return self.answer(flight, fault(FaultKind::Lost));
        }
        let writes = matches!(flight.job.task, Task::Reserve { .. } | Task::Close { .. });
        if writes && self.server.refuses_writes(false) {
            return self.answer(flight, fault(FaultKind::ReadOnly));
        }
        let now = self.net.now;
        let found = match &flight.job.task {
            Task::Connect { .. } => {
                self.net.record.counts.count("database: connected");
                self.sessions.push(false);
                Found::Connected {
                    view: self.server.view(),
                    server: Reached {
                        version: "8.4".to_string(),
                        connection: self.sessions.len() as u64 - 1,
                        identity: "0".to_string(),
                        warnings: Vec::new(),
                    },
                }
            }
            Task::Read => Found::Read {
                view: self.server.view(),
                warnings: None,
            },
            Task::Reserve {
                count,
                epoch,
                floor,
            } => {
                let most = self.net.numbering.last_base();
                match self.server.reserve(*count, *epoch, *floor, most, now) {
                    None => {
                        self.net.record.counts.count("database: reserve refused");
                        Found::Refused {
                            view: self.server.view(),
                        }
                    }
                    Some(last) => {
                        self.net.record.counts.count("database: reserved");
                        let own = &mut self.processes[flight.process];
                        if own.incarnation == flight.incarnation {
                            own.desk.committed.insert(last + 1 - count, last);
                        }
                        Found::Reserved { last }
                    }
                }
            }
            Task::Close { memory } => {
                if !self.server.refuses_writes(false) {
                    self.server.close(memory, now);
                }
                Found::Closed {
                    view: self.server.view(),
                }
            }
        };
        self.answer(flight, Ok(found));
    }

    pub(super) fn answer(&mut self, flight: Flight, found: Result<Found, Fault>) {
        if flight.silent {
            return;
        }
        let found = match flight.fault {
            Some(kind) => Err(Fault::new(kind, "")),
            None => found,
        };
        let lesson = Lesson {
            process: flight.process,
            incarnation: flight.incarnation,
            worker: flight.job.worker,
            outcome: Outcome {
                id: flight.job.id,
                found,
            },
        };
        let at = self.net.now + flight.answer_after;
        if flight.doubled {
            self.plan(at + MILLISECOND, Due::Learn(lesson.clone()));
        }
        self.plan(at, Due::Learn(lesson));
    }

    pub(super) fn learn(&mut self, lesson: Lesson) -> Lawful {
        let Lesson {
            process,
            incarnation,
            worker,
            outcome,
        } = lesson;
        let own = &mut self.processes[process];
        if own.incarnation != incarnation || own.node.is_none() {
            return Ok(());
        }
        match &outcome.found {
            Ok(Found::Connected { server, .. }) => {
                own.workers[worker] = Some(server.connection as usize);
            }
            Err(fault) if !fault.kind.row().spares_session => own.workers[worker] = None,
            _ => {}
        }
        own.outcomes.push(outcome.clone());
        self.note(|| format!("process {process} learns {outcome:?}"));
        self.settle(process, Cause::Stimulus)
    }
}
