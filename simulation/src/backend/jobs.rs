//! Jobs on their way: sent, executed and answered, each at its own moment, or not at all.

use std::time::Duration;

use tickr::counter::{Found, Job, Outcome, Task};
use tickr::fault::{Fault, FaultKind};
use tickr::moment::Moment;

use super::{Backend, SECOND};
use crate::checker::{Lawful, broken};
use crate::history::{Due, Stage};

/// More jobs in a second, for no request, are a busy loop.
const JOBS_PER_SECOND_MAX: usize = 100;

#[derive(Clone, Copy)]
pub(super) struct Session {
    pub(super) server: usize,
    pub(super) dead: bool,
    /// The name led there.
    pub(super) by_name: bool,
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub process: usize,
    incarnation: u64,
    worker: usize,
    pub outcome: Outcome,
    pub doubled: bool,
}

#[derive(Clone, Debug)]
pub struct Flight {
    pub process: usize,
    pub incarnation: u64,
    pub(super) session: Option<usize>,
    pub job: Job,
    pub(super) fate: Fate,
    /// The server takes no writes from this user.
    pub(super) refused: bool,
    /// Nobody hears of it any more.
    pub(super) silent: bool,
}

/// What becomes of a job.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fate {
    pub executes: bool,
    pub execute_after: Duration,
    pub read_after: Duration,
    pub answer_after: Duration,
    /// It is answered so, whatever was done.
    pub fault: Option<FaultKind>,
    pub doubled: bool,
    /// The thread waits no longer; the server may do it all the same.
    pub gives_up: Option<Duration>,
    pub lands_on: Option<usize>,
}

impl Backend {
    pub fn issue(&mut self, stage: &mut Stage<'_>, process: usize, job: Job) -> Lawful {
        let fate = self.fate(stage, process, &job);
        let own = &mut self.parties[process];
        own.doing[job.worker] = Some(job.id);
        if own.second + SECOND < stage.now {
            (own.second, own.second_jobs) = (stage.now, 0);
        }
        own.second_jobs += 1;
        if own.second_jobs > JOBS_PER_SECOND_MAX {
            return broken("no busy loop", format!("{:?} and so on", job.task));
        }
        let session = own.workers[job.worker];
        if let Task::Connect { replaces } = job.task {
            own.workers[job.worker] = None;
            if let Some(replaced) = replaces {
                stage.count("database: connection replaced");
                self.sessions[replaced as usize].dead = true;
            }
        }
        stage.note(|| format!("process {process}: {job:?} {fate:?}"));
        let flight = Flight {
            process,
            incarnation: self.parties[process].incarnation,
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
            let own = &mut self.parties[process];
            own.clean = None;
            let mut heard = heard;
            heard.fate.answer_after = after;
            self.answer(stage, heard, Err(fault));
        }
        stage.plan(stage.now + fate.execute_after, Due::Execute(flight));
        Ok(())
    }

    fn fate(&mut self, stage: &mut Stage<'_>, process: usize, job: &Job) -> Fate {
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
            stage.count("job: answered after a change of the row");
            fate.answer_after += stage.tape.millis(&[1_500, 700, 2_600]);
            let own = &mut self.parties[process];
            own.clean = None;
            own.troubled.push(job.id);
            return fate;
        }
        if stage.calm || self.weather == 0 || !stage.tape.chance(self.weather) {
            return fate;
        }
        let own = &self.parties[process];
        let timeout = own.timeout;
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
        let choice = stage.tape.byte() % 12;
        let pause = stage.tape.pick(&pauses);
        let name = match choice {
            0..3 => {
                match stage.tape.chance(128) {
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
                fate.fault = Some(stage.tape.pick(&[FaultKind::Deadlock, FaultKind::LockWait]));
                "job: rolled back"
            }
            9 => {
                fate.executes = false;
                fate.fault = Some(stage.tape.pick(&[
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
                fate.lands_on = Some(stage.tape.below(self.servers.len()));
                "job: on the old server"
            }
        };
        stage.count(name);
        if !matches!(choice, 7 | 8) {
            let own = &mut self.parties[process];
            own.clean = None;
            own.troubled.push(job.id);
        }
        fate
    }

    pub(super) fn answer(
        &mut self,
        stage: &mut Stage<'_>,
        flight: Flight,
        found: Result<Found, Fault>,
    ) {
        let Flight {
            process,
            incarnation,
            job,
            fate,
            ..
        } = flight;
        if found.is_err() {
            self.doubt(process, stage.now);
        }
        if flight.silent {
            return;
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
        let at = match stage.calm {
            true => stage.now + fate.answer_after.min(SECOND),
            false => stage.now + fate.answer_after,
        };
        stage.plan(at, Due::Answer(answer.clone()));
        if fate.doubled {
            let again = at + stage.tape.millis(&[0, 1, 20, 3_000]);
            if stage.tape.chance(64) {
                answer.outcome.found = Err(Fault::new(FaultKind::Lost, "a double"));
            }
            answer.doubled = true;
            stage.plan(again, Due::Answer(answer));
        }
    }

    /// An answer has come; returns it unless nobody is there to hear it, or not now.
    pub fn arrived(&mut self, answer: Answer) -> Option<Answer> {
        let own = &mut self.parties[answer.process];
        if own.incarnation != answer.incarnation || !own.alive {
            return None;
        }
        if own.stopped {
            own.inbox.push(answer);
            return None;
        }
        Some(answer)
    }

    /// A process has heard this answer.
    pub fn heard(&mut self, answer: &Answer, now: Moment) {
        let Answer {
            process,
            worker,
            ref outcome,
            doubled,
            ..
        } = *answer;
        if doubled {
            return;
        }
        let own = &mut self.parties[process];
        let job = outcome.id;
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

    /// It can't be relied on to know the row for a while.
    pub(super) fn doubt(&mut self, process: usize, now: Moment) {
        let own = &mut self.parties[process];
        own.clean = own.clean.map(|_| now);
    }

    /// So for who is on another server than the primary, unless that is a read-only one while the
    /// name leads to the primary: there it must not stay.
    pub(super) fn doubt_astray(
        &mut self,
        process: usize,
        server: usize,
        by_name: bool,
        now: Moment,
    ) {
        let must_leave = self.servers[server].read_only && by_name && self.name == self.primary;
        if server != self.primary && !must_leave {
            self.doubt(process, now);
        }
    }

    pub(super) fn clean(&self) -> [Option<Moment>; 4] {
        let mut clean = [None; 4];
        for (clean, process) in clean.iter_mut().zip(&self.parties) {
            *clean = process.clean.filter(|_| process.alive && !process.stopped);
        }
        clean
    }
}
