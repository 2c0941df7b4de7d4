//! What a server does with a job that has reached it.

use tickr::counter::{Found, Server as Reached, Task};
use tickr::fault::{Fault, FaultKind};

use super::jobs::{Flight, Session};
use super::{Due, World};
use crate::assumptions;
use crate::checker::Lawful;

impl World<'_> {
    pub(super) fn on_execute(&mut self, mut flight: Flight) -> Lawful {
        let now = self.now;
        let own = &self.processes[flight.process];
        let is_current = own.incarnation == flight.incarnation;
        if own.cut && is_current {
            let kind = match flight.job.task {
                Task::Connect { .. } => FaultKind::Unreachable,
                _ => FaultKind::Lost,
            };
            return self.answer(flight, Err(Fault::new(kind, "cut off")));
        }
        if let Task::Connect { .. } = flight.job.task {
            return self.on_connect(flight);
        }
        let Some(session) = flight.session else {
            return self.answer(flight, Err(Fault::new(FaultKind::Lost, "no session")));
        };
        let Session {
            server,
            dead,
            by_name,
        } = self.sessions[session];
        if dead || !self.servers[server].up || self.servers[server].fenced {
            return self.answer(
                flight,
                Err(Fault::new(FaultKind::Lost, "the session is dead")),
            );
        }
        self.doubt_astray(flight.process, server, by_name);
        if let Some(kind) = self.servers[server].misfit {
            return self.answer(flight, Err(Fault::new(kind, "")));
        }
        if !flight.fate.executes {
            return self.answer(flight, Err(Fault::new(FaultKind::Lost, "")));
        }
        let mut last = None;
        let changes = matches!(flight.job.task, Task::Reserve { .. } | Task::Close { .. });
        flight.refused = changes && self.servers[server].refuses_writes(self.privileged);
        match flight.job.task {
            Task::Connect { .. } | Task::Read => self.record.counts.count("database: read"),
            Task::Reserve {
                count,
                epoch,
                floor,
            } => {
                let row = self.servers[server].row;
                let may = assumptions::may_reserve(
                    &self.stale[server],
                    flight.process,
                    &row,
                    epoch,
                    floor,
                );
                let knew = is_current || !self.stale[server].stands;
                if !may || !knew {
                    // Its attempts are no loop of its own making.
                    self.processes[flight.process].second_jobs = 0;
                    self.record
                        .counts
                        .count("assumption: a stale row is reached first by who knows more");
                    return self.answer(flight, Err(Fault::new(FaultKind::Lost, "kept away")));
                }
                if assumptions::must_be_fenced(&self.servers[server], self.limits[server], count)
                    && server != self.primary
                {
                    self.record
                        .counts
                        .count("assumption: an old primary is fenced");
                    self.fence(server);
                    return self.answer(flight, Err(Fault::new(FaultKind::Lost, "fenced")));
                }
                let most = self.numbering.last_base();
                last = self.servers[server].reserve(count, epoch, floor, most, now);
                if let Some(last) = last {
                    self.reserved_high = self.reserved_high.max(last);
                    if is_current {
                        let witness = &mut self.processes[flight.process].witness;
                        witness.on_commit(flight.job.id, last, count, epoch);
                    }
                }
            }
            Task::Close { .. } if flight.refused => {}
            Task::Close { memory } => {
                let closed = self.servers[server].close(&memory, now);
                self.record.counts.count(match closed {
                    true => "database: closed behind",
                    false => "database: close refused",
                });
            }
        }
        match flight.fate.read_after.is_zero() || last.is_some() {
            true => self.on_read_back(flight, last),
            false => {
                self.plan(now + flight.fate.read_after, Due::ReadBack(flight, last));
                Ok(())
            }
        }
    }

    pub(super) fn on_connect(&mut self, flight: Flight) -> Lawful {
        if let Some(kind) = flight.fate.fault.filter(|_| !flight.fate.executes) {
            return self.answer(flight, Err(Fault::new(kind, "")));
        }
        let by_name = flight.fate.lands_on.is_none();
        let server = flight.fate.lands_on.unwrap_or(self.name);
        self.doubt_astray(flight.process, server, by_name);
        let own = &self.servers[server];
        if !own.up || own.fenced {
            return self.answer(flight, Err(Fault::new(FaultKind::Unreachable, "down")));
        }
        if let Some(kind) = own.misfit {
            return self.answer(flight, Err(Fault::new(kind, "")));
        }
        self.record.counts.count("database: connected");
        let connection = self.sessions.len();
        self.sessions.push(Session {
            server,
            dead: false,
            by_name,
        });
        let found = Found::Connected {
            view: self.servers[server].view(),
            server: Reached {
                version: "8.4".to_string(),
                connection: connection as u64,
                identity: server.to_string(),
                warnings: Vec::new(),
            },
        };
        self.answer(flight, Ok(found))
    }

    pub(super) fn on_read_back(&mut self, flight: Flight, last: Option<u64>) -> Lawful {
        let session = flight.session.expect("it was executed");
        let Session { server, dead, .. } = self.sessions[session];
        if dead {
            return self.answer(flight, Err(Fault::new(FaultKind::Lost, "the session died")));
        }
        if flight.refused && !self.servers[server].read_only {
            // It takes writes by now.
            return self.answer(flight, Err(Fault::new(FaultKind::ReadOnly, "")));
        }
        let view = self.servers[server].view();
        let found = match (&flight.job.task, last) {
            (Task::Reserve { .. }, Some(last)) => {
                self.record.counts.count("database: reserved");
                Found::Reserved { last }
            }
            (Task::Reserve { .. }, None) => {
                self.record.counts.count("database: reserve refused");
                Found::Refused { view }
            }
            (Task::Close { .. }, _) => Found::Closed { view },
            _ => Found::Read {
                view,
                warnings: None,
            },
        };
        self.answer(flight, Ok(found))
    }
}
