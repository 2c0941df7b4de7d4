//! What a server does with a job that has reached it.

use tickr::counter::{Epoch, Found, JobId, Server as Reached, Task};
use tickr::fault::{Fault, FaultKind};

use super::Backend;
use super::jobs::{Flight, Session};
use crate::assumptions;
use crate::history::{Due, Stage};

/// A block that was committed for a process that is still there.
pub struct Committed {
    pub process: usize,
    pub job: JobId,
    pub last: u64,
    pub count: u64,
    pub epoch: Epoch,
}

impl Committed {
    pub fn first(&self) -> u64 {
        self.last + 1 - self.count
    }
}

impl Backend {
    /// A job has reached a server.
    pub fn on_execute(&mut self, stage: &mut Stage<'_>, mut flight: Flight) -> Option<Committed> {
        let is_current = self.parties[flight.process].incarnation == flight.incarnation;
        if let Task::Connect { .. } = flight.job.task {
            let found = self.connect(stage, &flight, is_current);
            self.answer(stage, flight, found);
            return None;
        }
        let last = match self.execute(stage, &mut flight, is_current) {
            Ok(last) => last,
            Err(fault) => {
                self.answer(stage, flight, Err(fault));
                return None;
            }
        };
        let committed = match (&flight.job.task, last) {
            (Task::Reserve { count, epoch, .. }, Some(last)) if is_current => Some(Committed {
                process: flight.process,
                job: flight.job.id,
                last,
                count: *count,
                epoch: *epoch,
            }),
            _ => None,
        };
        match flight.fate.read_after.is_zero() || last.is_some() {
            true => self.on_read_back(stage, flight, last),
            false => {
                let at = stage.now + flight.fate.read_after;
                stage.plan(at, Due::ReadBack(flight, last));
            }
        }
        committed
    }

    /// What a job does to the row: the end of the block that it reserves, if it does.
    fn execute(
        &mut self,
        stage: &mut Stage<'_>,
        flight: &mut Flight,
        is_current: bool,
    ) -> Result<Option<u64>, Fault> {
        let (process, now) = (flight.process, stage.now);
        let lost = |said| Err(Fault::new(FaultKind::Lost, said));
        if self.parties[process].cut && is_current {
            return lost("cut off");
        }
        let Some(session) = flight.session else {
            return lost("no session");
        };
        let Session {
            server,
            dead,
            by_name,
        } = self.sessions[session];
        if dead || !self.servers[server].up || self.servers[server].fenced {
            return lost("the session is dead");
        }
        self.doubt_astray(process, server, by_name, now);
        if let Some(kind) = self.servers[server].misfit {
            return Err(Fault::new(kind, ""));
        }
        if !flight.fate.executes {
            return lost("");
        }
        let mut last = None;
        let changes = matches!(flight.job.task, Task::Reserve { .. } | Task::Close { .. });
        flight.refused = changes && self.servers[server].refuses_writes(self.privileged);
        match flight.job.task {
            Task::Connect { .. } | Task::Read => stage.count("database: read"),
            Task::Reserve {
                count,
                epoch,
                floor,
            } => {
                let row = self.servers[server].row;
                let may =
                    assumptions::may_reserve(&self.stale[server], process, &row, epoch, floor);
                let knew = is_current || !self.stale[server].stands;
                if !may || !knew {
                    // Its attempts are no loop of its own making.
                    self.parties[process].second_jobs = 0;
                    stage.count("assumption: a stale row is reached first by who knows more");
                    return lost("kept away");
                }
                if assumptions::must_be_fenced(&self.servers[server], self.limits[server], count)
                    && server != self.primary
                {
                    stage.count("assumption: an old primary is fenced");
                    self.fence(server);
                    return lost("fenced");
                }
                let most = self.numbering.last_base();
                last = self.servers[server].reserve(count, epoch, floor, most, now);
                if let Some(last) = last {
                    self.reserved_high = self.reserved_high.max(last);
                }
            }
            Task::Close { .. } if flight.refused => {}
            Task::Close { memory } => {
                let closed = self.servers[server].close(&memory, now);
                stage.count(match closed {
                    true => "database: closed behind",
                    false => "database: close refused",
                });
            }
        }
        Ok(last)
    }

    fn connect(
        &mut self,
        stage: &mut Stage<'_>,
        flight: &Flight,
        is_current: bool,
    ) -> Result<Found, Fault> {
        let unreachable = |said| Err(Fault::new(FaultKind::Unreachable, said));
        if self.parties[flight.process].cut && is_current {
            return unreachable("cut off");
        }
        if let Some(kind) = flight.fate.fault.filter(|_| !flight.fate.executes) {
            return Err(Fault::new(kind, ""));
        }
        let by_name = flight.fate.lands_on.is_none();
        let server = flight.fate.lands_on.unwrap_or(self.name);
        self.doubt_astray(flight.process, server, by_name, stage.now);
        let own = &self.servers[server];
        if !own.up || own.fenced {
            return unreachable("down");
        }
        if let Some(kind) = own.misfit {
            return Err(Fault::new(kind, ""));
        }
        stage.count("database: connected");
        let connection = self.sessions.len();
        self.sessions.push(Session {
            server,
            dead: false,
            by_name,
        });
        Ok(Found::Connected {
            view: self.servers[server].view(),
            server: Reached {
                version: "8.4".to_string(),
                connection: connection as u64,
                identity: server.to_string(),
                warnings: Vec::new(),
            },
        })
    }

    /// A job learns what the row is like after it.
    pub fn on_read_back(&mut self, stage: &mut Stage<'_>, flight: Flight, last: Option<u64>) {
        let session = flight.session.expect("it was executed");
        let Session { server, dead, .. } = self.sessions[session];
        if dead {
            return self.answer(
                stage,
                flight,
                Err(Fault::new(FaultKind::Lost, "the session died")),
            );
        }
        if flight.refused && !self.servers[server].read_only {
            // It takes writes by now.
            return self.answer(stage, flight, Err(Fault::new(FaultKind::ReadOnly, "")));
        }
        let view = self.servers[server].view();
        let found = match (&flight.job.task, last) {
            (Task::Reserve { .. }, Some(last)) => {
                stage.count("database: reserved");
                Found::Reserved { last }
            }
            (Task::Reserve { .. }, None) => {
                stage.count("database: reserve refused");
                Found::Refused { view }
            }
            (Task::Close { .. }, _) => Found::Closed { view },
            _ => Found::Read {
                view,
                warnings: None,
            },
        };
        self.answer(stage, flight, Ok(found))
    }
}
