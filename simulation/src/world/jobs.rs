//! Jobs on their way: sent, executed and answered, each at its own moment, or not at all.

use std::time::Duration;

use tickr::counter::{Found, Job, Outcome, Task};
use tickr::fault::{Fault, FaultKind};
use tickr::moment::Moment;

use super::{Due, JOBS_PER_SECOND_MAX, SECOND, World};
use crate::checker::{Lawful, broken};
use crate::history::Cause;

#[derive(Clone, Copy)]
pub(super) struct Session {
    pub(super) server: usize,
    pub(super) dead: bool,
    /// The name led there.
    pub(super) by_name: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) process: usize,
    pub(super) incarnation: u64,
    pub(super) worker: usize,
    pub(super) outcome: Outcome,
    pub(super) doubled: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Flight {
    pub(super) process: usize,
    pub(super) incarnation: u64,
    pub(super) session: Option<usize>,
    pub(super) job: Job,
    pub(super) fate: Fate,
    /// The server takes no writes from this user.
    pub(super) refused: bool,
    /// Nobody hears of it any more.
    pub(super) silent: bool,
}

/// What becomes of a job.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fate {
    pub(super) executes: bool,
    pub(super) execute_after: Duration,
    pub(super) read_after: Duration,
    pub(super) answer_after: Duration,
    /// It is answered so, whatever was done.
    pub(super) fault: Option<FaultKind>,
    pub(super) doubled: bool,
    /// The thread waits no longer; the server may do it all the same.
    pub(super) gives_up: Option<Duration>,
    pub(super) lands_on: Option<usize>,
}

impl World<'_> {
    pub(super) fn issue(&mut self, process: usize, job: Job) -> Lawful {
        let fate = self.fate(process, &job);
        let own = &mut self.processes[process];
        let known = own.allocator.memory();
        own.witness.on_job(&job, known, self.now)?;
        own.doing[job.worker] = Some(job.id);
        if own.second + SECOND < self.now {
            (own.second, own.second_jobs) = (self.now, 0);
        }
        own.second_jobs += 1;
        if own.second_jobs > JOBS_PER_SECOND_MAX {
            return broken("no busy loop", format!("{:?} and so on", job.task));
        }
        let session = own.workers[job.worker];
        if let Task::Connect { replaces } = job.task {
            own.workers[job.worker] = None;
            if let Some(replaced) = replaces {
                self.record.counts.count("database: connection replaced");
                self.sessions[replaced as usize].dead = true;
            }
        }
        self.note(|| format!("process {process}: {job:?} {fate:?}"));
        let flight = Flight {
            process,
            incarnation: self.processes[process].incarnation,
            session,
            job,
            fate,
            refused: false,
            silent: fate.gives_up.is_some(),
        };
        if let Some(after) = fate.gives_up {
            let fault = Fault::new(FaultKind::TimedOut, "");
            let heard = Flight {
                silent: false,
                ..flight.clone()
            };
            let own = &mut self.processes[process];
            own.clean = None;
            let mut heard = heard;
            heard.fate.answer_after = after;
            self.answer(heard, Err(fault))?;
        }
        self.plan(self.now + fate.execute_after, Due::Execute(flight));
        Ok(())
    }

    pub(super) fn fate(&mut self, process: usize, job: &Job) -> Fate {
        let salt = job.id.0 * 7 + process as u64 * 3;
        let mut fate = Fate {
            executes: true,
            execute_after: Duration::from_micros(100 + salt % 11 * 30),
            read_after: Duration::ZERO,
            answer_after: Duration::from_micros(100 + salt % 13 * 20),
            fault: None,
            doubled: false,
            gives_up: None,
            lands_on: None,
        };
        if self.slow && matches!(job.task, Task::Reserve { .. }) {
            self.record
                .counts
                .count("job: answered after a change of the row");
            fate.answer_after += self.tape.millis(&[1_500, 700, 2_600]);
            let own = &mut self.processes[process];
            own.clean = None;
            own.troubled.push(job.id);
            return fate;
        }
        if self.calm || self.weather == 0 || !self.tape.chance(self.weather) {
            return fate;
        }
        let own = &self.processes[process];
        let timeout = own.options.timeout;
        let io = (timeout * 2).max(SECOND);
        let pauses = [
            Duration::from_millis(3),
            timeout / 4,
            timeout / 2 + Duration::from_micros(1),
            timeout,
            timeout * 2,
            io + Duration::from_millis(700),
            self.lease,
            self.lease + SECOND,
            self.lease * 2,
        ];
        let choice = self.tape.byte() % 12;
        let pause = self.tape.pick(&pauses);
        self.record.counts.count(match choice {
            0..3 => {
                match self.tape.chance(128) {
                    true => fate.execute_after += pause,
                    false => fate.answer_after += pause,
                }
                "job: late"
            }
            3 => {
                fate.executes = false;
                fate.answer_after += pause.min(io);
                fate.fault = Some(FaultKind::Lost);
                "job: fault before it was done"
            }
            4 => {
                fate.answer_after += pause.min(io);
                fate.fault = Some(FaultKind::Lost);
                "job: fault after it was done"
            }
            5 => {
                // The thread gives up; the server does not know it.
                fate.execute_after = io + pause;
                fate.gives_up = Some(io);
                "job: hung, then done"
            }
            6 => {
                fate.executes = false;
                fate.answer_after = io + pause * 3;
                fate.fault = Some(FaultKind::TimedOut);
                "job: hung, not done"
            }
            7 => {
                fate.doubled = true;
                "job: doubled answer"
            }
            8 => {
                fate.executes = false;
                fate.fault = Some(self.tape.pick(&[FaultKind::Deadlock, FaultKind::LockWait]));
                "job: rolled back"
            }
            9 => {
                fate.executes = false;
                fate.fault = Some(self.tape.pick(&[
                    FaultKind::TooManyConnections,
                    FaultKind::DiskFull,
                    FaultKind::HostBlocked,
                    FaultKind::AccessDenied,
                ]));
                "job: refused by a full server"
            }
            10 => {
                fate.read_after = pause.min(io);
                "job: read back later"
            }
            _ => {
                fate.lands_on = Some(self.tape.below(self.servers.len()));
                "job: on the old server"
            }
        });
        if !matches!(choice, 7 | 8) {
            let own = &mut self.processes[process];
            own.clean = None;
            own.troubled.push(job.id);
        }
        fate
    }

    pub(super) fn answer(&mut self, flight: Flight, found: Result<Found, Fault>) -> Lawful {
        let Flight {
            process,
            incarnation,
            job,
            fate,
            ..
        } = flight;
        if found.is_err() {
            self.doubt(process);
        }
        if flight.silent {
            return Ok(());
        }
        let found = match fate.fault {
            Some(kind) => Err(Fault::new(kind, "")),
            None => found,
        };
        let mut answer = Answer {
            process,
            incarnation,
            worker: job.worker,
            outcome: Outcome { id: job.id, found },
            doubled: false,
        };
        let at = match self.calm {
            true => self.now + fate.answer_after.min(SECOND),
            false => self.now + fate.answer_after,
        };
        self.plan(at, Due::Answer(answer.clone()));
        if fate.doubled {
            let again = at + self.tape.millis(&[0, 1, 20, 3_000]);
            if self.tape.chance(64) {
                answer.outcome.found = Err(Fault::new(FaultKind::Lost, "a double"));
            }
            answer.doubled = true;
            self.plan(again, Due::Answer(answer));
        }
        Ok(())
    }

    pub(super) fn on_answer(&mut self, answer: Answer) -> Lawful {
        let Answer {
            process,
            worker,
            outcome,
            doubled,
            ..
        } = answer;
        self.note(|| format!("process {process} learns {outcome:?}"));
        let now = self.now;
        let own = &mut self.processes[process];
        let memory = own.allocator.memory();
        let hung = own.allocator.status().hung;
        own.allocator.on_outcome(outcome.clone(), now);
        // What a thread says that was given up is not heard.
        let is_heard = own.allocator.status().hung == hung;
        if !doubled {
            let job = outcome.id;
            match &outcome.found {
                _ if !is_heard => {}
                Ok(Found::Connected { view, .. })
                | Ok(Found::Read { view, .. })
                | Ok(Found::Refused { view })
                | Ok(Found::Closed { view }) => own.witness.on_view(job, view, memory),
                Ok(Found::Reserved { .. }) => own.witness.on_reserved(job),
                Err(_) => {}
            }
            if own.doing[worker] == Some(job) {
                own.doing[worker] = None;
                match &outcome.found {
                    Ok(Found::Connected { server, .. }) => {
                        own.workers[worker] = Some(server.connection as usize);
                    }
                    Err(fault) if !fault.kind.row().spares_session => own.workers[worker] = None,
                    _ => {}
                }
            }
            own.troubled.retain(|troubled| *troubled != job);
            if !own.cut && own.troubled.is_empty() {
                own.clean = own.clean.or(Some(now));
            }
        }
        self.turn(process, Cause::Stimulus)
    }

    /// It can't be relied on to know the row for a while.
    pub(super) fn doubt(&mut self, process: usize) {
        let own = &mut self.processes[process];
        own.clean = own.clean.map(|_| self.now);
    }

    /// So for who is on another server than the primary, unless that is a read-only one while the
    /// name leads to the primary: there it must not stay.
    pub(super) fn doubt_astray(&mut self, process: usize, server: usize, by_name: bool) {
        let must_leave = self.servers[server].read_only && by_name && self.name == self.primary;
        if server != self.primary && !must_leave {
            self.doubt(process);
        }
    }

    pub(super) fn clean(&self) -> [Option<Moment>; 4] {
        let mut clean = [None; 4];
        for (clean, process) in clean.iter_mut().zip(&self.processes) {
            *clean = process.clean.filter(|_| process.alive && !process.stopped);
        }
        clean
    }
}
