//! The end of a history: faults end, whoever waits is answered, and a stop loses nothing.

use std::time::Duration;

use tickr::http::array::Format;

use super::processes::Process;
use super::{Due, SECOND, World};
use crate::checker::{Lawful, broken};
use crate::clients::Kind;
use crate::database::Owned;
use crate::history::Cause;

/// When the faults have ended, a stop takes no longer, if it may.
const DRAIN_CALM: Duration = Duration::from_secs(5);

impl World<'_> {
    /// Faults end: whoever waits is answered, every node serves, and a stop loses nothing.
    pub(super) fn heal(&mut self) -> Lawful {
        self.calm = true;
        self.note(|| "faults end".to_string());
        self.net.weather = 0;
        self.server.up = true;
        self.server.misfit = None;
        self.server.read_only = false;
        self.agenda.hasten(self.net.now + SECOND, |due| {
            !matches!(due, Due::Wake(..) | Due::Open)
        });
        for process in 0..self.processes.len() {
            if self.processes[process].stopped {
                self.resume(process)?;
            }
            let own = &mut self.processes[process];
            own.desk.accept_errors.clear();
            for at in own.clients.clone() {
                self.net
                    .make_room(at, None, &mut self.processes[process].desk);
                let socket = &mut self.net.sockets[at];
                socket.last_arrival = socket.last_arrival.min(self.net.now + SECOND);
                self.send_the_rest(at);
            }
            self.settle(process, Cause::Stimulus)?;
        }
        if self.server.row.owner != Owned::By(0) {
            self.pass(self.lease + SECOND * 2)?;
            if self.server.row.owner != Owned::By(0) {
                self.open_the_row();
            }
        }
        self.pass(SECOND * 15)?;
        for process in 0..self.processes.len() {
            if self.processes[process].node.is_none() {
                self.start(process)?;
            }
        }
        self.pass(SECOND * 15)?;
        let left = self
            .net
            .numbering
            .last_base()
            .saturating_sub(self.server.row.id);
        for process in 0..self.processes.len() {
            let own = &self.processes[process];
            if own.node.is_none() {
                return broken("everybody serves", format!("process {process} ended"));
            }
            for at in own.desk.open_sockets() {
                if let Some(pending) = self.net.sockets[at].pending.front()
                    && !self.net.sockets[at].fin_sent
                {
                    let what = &pending.request.kind;
                    let left = self.net.sockets[at].pending.len();
                    let told =
                        format!("client {at} waits for {what:?}, {left} in all: {pending:?}");
                    return broken("within its time", told);
                }
            }
            if own.desk.draining || left < 400 {
                continue;
            }
            let high = own.desk.high();
            self.single(process)?;
            self.pass(self.processes[process].settings.allocator.timeout)?;
            if self.processes[process].desk.high() == high {
                return broken("everybody serves", format!("process {process} does not"));
            }
            self.lose_one(process)?;
        }
        self.end_well()
    }

    /// A client is gone while it waits: what was reserved for it serves the next one.
    pub(super) fn lose_one(&mut self, process: usize) -> Lawful {
        let is_strict = |own: &Process| own.settings.allocator.prefetch.is_zero();
        if !self.processes.iter().all(is_strict) {
            return Ok(());
        }
        let seven = Kind::Tickets {
            count: 7,
            format: Format::Range,
        };
        let lines = [("GET /tickets/create/7?format=range", seven)];
        let before = self.server.row.id;
        let at = self.wait_at_the_door(process, &lines);
        self.settle(process, Cause::Stimulus)?;
        self.net
            .break_off(at, true, &mut self.processes[process].desk);
        self.settle(process, Cause::Stimulus)?;
        self.wait_at_the_door(process, &lines);
        self.pass(self.processes[process].settings.allocator.timeout)?;
        self.net.record.counts.count("client: gone while it waits");
        match self.server.row.id - before {
            0..=7 => Ok(()),
            used => broken("who is gone uses up nothing", format!("{used} for 7")),
        }
    }

    /// Everybody is told to stop in the middle of requests, and loses none.
    pub(super) fn end_well(&mut self) -> Lawful {
        for process in 0..self.processes.len() {
            let own = &self.processes[process];
            if own.settings.shutdown_timeout < DRAIN_CALM.max(own.settings.allocator.timeout) {
                continue;
            }
            if own.desk.listening && !own.stopped {
                self.single(process)?;
                let single = Kind::Tickets {
                    count: 1,
                    format: Format::Array,
                };
                self.wait_at_the_door(process, &[("GET /tickets/create", single); 3]);
            }
            self.processes[process].must_end_well = true;
            self.begin_drain(process)?;
            let timeout = self.processes[process].settings.allocator.timeout;
            self.pass(DRAIN_CALM + timeout)?;
            if self.processes[process].node.is_some() {
                return broken("a drain ends", format!("process {process} goes on"));
            }
        }
        Ok(())
    }
}
