//! What the event loop of a process does in a turn, and what must hold after it.

use std::time::{Duration, SystemTime};

use tickr::counter::{Job, Task};
use tickr::moment::Next;

use super::{MILLISECOND, World};
use crate::backend::SECOND;
use crate::backend::play::Play;
use crate::checker::{Lawful, broken};
use crate::history::{Cause, Due};
use crate::sockets::{Kernel, Reaction};

/// More turns at one moment are a busy loop.
const TURNS_MAX: usize = 5_000;
/// More in a row that do nothing, each of them asked for at once.
const VAIN_TURNS_MAX: usize = 8;
/// More in a second that were asked for and have done nothing.
const VAIN_WAKES_MAX: u32 = 40;

impl World<'_> {
    /// What the event loop does, until the node wants to sleep.
    pub(super) fn settle(&mut self, process: usize, cause: Cause) -> Lawful {
        self.look(process)?;
        let planned = self.processes[process].wake;
        let now = self.stage.now;
        let (mut turns, mut vain, mut done) = (0, 0, 0);
        let wake = loop {
            let own = &mut self.processes[process];
            let party = &mut self.backend.parties[process];
            let (Some(node), false) = (&mut own.node, party.stopped) else {
                return Ok(());
            };
            let ready = self.net.take_ready(&mut own.desk);
            let outcomes = std::mem::take(&mut own.outcomes);
            let is_asked = !ready.is_empty() || !outcomes.is_empty();
            let seconds = now.as_nanos() / 1_000_000_000;
            node.set_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
            for outcome in outcomes {
                node.on_outcome(outcome, now);
            }
            own.desk.did = 0;
            own.desk.turns += 1;
            let mut kernel = Kernel {
                net: &mut self.net,
                desk: &mut own.desk,
                stage: &mut self.stage,
                verdict: Ok(()),
            };
            let next = node.turn(&mut kernel, &ready, now);
            let verdict = kernel.verdict;
            verdict?;
            node.measure(now);
            party.remember(node.memory());
            if std::mem::take(&mut own.desk.traffic) {
                party.is_asked();
            }
            let end = node.end(now);
            let did = own.desk.did;
            let jobs = std::mem::take(&mut own.desk.jobs);
            if cause == Cause::Poke && turns == 0 && planned.is_none_or(|at| at > now) && !is_asked
            {
                // With prefetch, looking at the demand more often changes what is wanted.
                let prefetches = !own.settings.allocator.prefetch.is_zero();
                let reserves = |job: &&Job| matches!(job.task, Task::Reserve { .. });
                let allowed = jobs.iter().filter(reserves).count();
                if did > if prefetches { allowed as u32 } else { 0 } {
                    return broken("no lost wake", format!("woken at {now:?}, not {planned:?}"));
                }
            }
            self.stage.record.steps += 1;
            for job in jobs {
                self.backend.issue(&mut self.stage, process, job)?;
            }
            self.react();
            if let Some(end) = end {
                self.note_issued(process);
                return self.on_end(process, end.is_ok());
            }
            turns += 1;
            done += did;
            vain = if did > 0 || is_asked { 0 } else { vain + 1 };
            if turns > TURNS_MAX || vain > VAIN_TURNS_MAX {
                return broken("no busy loop", format!("process {process} never rests"));
            }
            let desk = &self.processes[process].desk;
            match next {
                Next::Ready(()) => {}
                Next::At(at) if at <= now => {
                    return broken("no busy loop", format!("at {now:?} it asks for {at:?}"));
                }
                _ if desk.has_changed() => {}
                waiting => break waiting.wake(None),
            }
        };
        self.net.at_rest(&self.processes[process].desk)?;
        self.note_issued(process);
        let own = &mut self.processes[process];
        if own.second + SECOND <= now {
            (own.second, own.vain) = (now, 0);
        }
        if cause == Cause::Wake && done == 0 {
            own.vain += 1;
            if own.vain > VAIN_WAKES_MAX {
                return broken("a wake-up changes something", format!("not at {now:?}"));
            }
        }
        if own.wake != wake {
            own.wake = wake;
            let incarnation = self.backend.parties[process].incarnation;
            if let Some(at) = wake {
                self.stage.plan(at, Due::Wake(process, incarnation));
            }
        }
        self.compare(process)
    }

    /// What is written, or may be on its way to who reads slowly, is issued.
    fn note_issued(&mut self, process: usize) {
        let desk = &self.processes[process].desk;
        let party = &mut self.backend.parties[process];
        let most = match self.net.holds_back(desk) {
            true => party.remembered().id,
            false => desk.high(),
        };
        party.issued_high = party.issued_high.max(most);
    }

    pub(super) fn react(&mut self) {
        for reaction in std::mem::take(&mut self.net.reactions) {
            match reaction {
                Reaction::SendBody(at) => self.send_the_rest(at),
                Reaction::Reset(at) => self
                    .stage
                    .plan(self.stage.now + MILLISECOND, Due::Reset(at)),
                Reaction::Ended(at) => {
                    let socket = &mut self.net.sockets[at];
                    let reads = socket.room.is_none() || self.stage.calm;
                    if reads && !std::mem::replace(&mut socket.fin_sent, true) {
                        let when = socket.last_arrival.max(self.stage.now + MILLISECOND);
                        self.stage.plan(when, Due::Fin(at));
                    }
                }
            }
        }
    }

    pub(super) fn on_end(&mut self, process: usize, is_clean: bool) -> Lawful {
        let own = &self.processes[process];
        let has_clients = own.desk.has_clients();
        let is_late = own
            .drains_until
            .is_some_and(|until| until <= self.stage.now);
        if is_clean && has_clients && !is_late {
            return broken("a drain answers what it got", format!("process {process}"));
        }
        if own.must_end_well && has_clients {
            return broken("a drain ends", format!("process {process} gives up"));
        }
        self.stage.count(match (is_clean, has_clients) {
            (false, _) => "process: cannot start",
            (true, false) => "process: stopped when all was answered",
            (true, true) => "process: stopped by its time-out",
        });
        self.stage.note(|| format!("process {process} ends"));
        self.forget(process);
        self.backend.kill(process);
        Ok(())
    }

    /// Whether all is as it should be by now.
    pub(super) fn look(&self, process: usize) -> Lawful {
        let own = &self.processes[process];
        if !self.backend.parties[process].runs() {
            return Ok(());
        }
        let due = own.drains_until.map(|until| until.max(own.desk.late_until));
        if due.is_some_and(|until| until < self.stage.now) {
            return broken("a drain ends", format!("process {process}"));
        }
        self.net.overdue(&own.desk, self.stage.now)
    }
}
