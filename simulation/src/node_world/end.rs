//! The end of a history: faults end, whoever waits is answered, everybody serves or names the
//! command after which he does, and a stop loses nothing.

use std::time::Duration;

use tickr::http::array::Format;
use tickr::limits;

use super::{MILLISECOND, SINGLE, World};
use crate::backend::play::Play;
use crate::backend::{Past, SECOND};
use crate::checker::{Lawful, Violation, broken};
use crate::clients::Kind;
use crate::history::Cause;
use crate::sockets::Desk;

/// When the faults have ended, a stop takes no longer, if it may.
const DRAIN_CALM: Duration = Duration::from_secs(5);

impl World<'_> {
    /// Faults end: whoever waits is answered, every node serves, and a stop loses nothing.
    pub(super) fn heal(&mut self) -> Lawful {
        self.backend.heal(&mut self.stage);
        self.net.weather = 0;
        for process in 0..self.processes.len() {
            if self.backend.parties[process].stopped {
                self.resume(process)?;
            }
            let own = &mut self.processes[process];
            own.desk.accept_errors.clear();
            for at in own.clients.clone() {
                self.net
                    .make_room(at, None, &mut self.processes[process].desk);
                let socket = &mut self.net.sockets[at];
                socket.last_arrival = socket.last_arrival.min(self.stage.now + SECOND);
                self.send_the_rest(at);
            }
            self.settle(process, Cause::Stimulus)?;
        }
        self.pass(SECOND * 3)?;
        self.start_who_has_ended()?;
        // Nodes that find the row closed look at it often: the operator comes early.
        self.pass(SECOND * 2)?;
        if (0..self.processes.len()).any(|process| self.is_crowded(process)) {
            self.pass(limits::HEAD_TIMEOUT + limits::BODY_TIMEOUT + SECOND)?;
        }
        self.advance_until_all_serve()?;
        self.pass(SECOND * 8)?;
        self.start_who_has_ended()?;
        self.pass(SECOND * 13)?;
        self.advance_until_all_serve()?;
        for process in 0..self.processes.len() {
            self.nobody_waits(process)?;
        }
        for process in 0..self.processes.len() {
            if !self.processes[process].desk.draining && !self.backend.is_out_of_numbers() {
                self.lose_one(process)?;
            }
        }
        self.end_well()
    }

    fn start_who_has_ended(&mut self) -> Lawful {
        for process in 0..self.processes.len() {
            if self.processes[process].node.is_none() {
                let memory = self.backend.parties[process].remembered();
                self.start(process, memory)?;
            }
        }
        Ok(())
    }

    /// So many clients are in the middle of something, or yet to begin, that no other is let in.
    fn is_crowded(&self, process: usize) -> bool {
        let desk = &self.processes[process].desk;
        let is_busy = |at: &usize| {
            let socket = &self.net.sockets[*at];
            !socket.pending.is_empty() || socket.sent == 0
        };
        let open = desk.open_sockets();
        open.clone().count() > desk.most || open.filter(is_busy).count() >= desk.most
    }

    fn nobody_waits(&self, process: usize) -> Lawful {
        let own = &self.processes[process];
        if own.node.is_none() {
            return broken("everybody serves", format!("process {process} ended"));
        }
        for at in own.desk.open_sockets() {
            let socket = &self.net.sockets[at];
            if let Some(pending) = socket.pending.front()
                && !socket.fin_sent
            {
                let what = &pending.request.kind;
                let left = socket.pending.len();
                let told = format!("client {at} waits for {what:?}, {left} in all: {pending:?}");
                return broken("within its time", told);
            }
        }
        Ok(())
    }

    /// Asks each node for a ticket; one that has none must name the command after which it has.
    pub(super) fn ask_each(&mut self) -> Result<Option<bool>, Violation> {
        let mut longest = Duration::ZERO;
        let mut asked = Vec::new();
        for process in 0..self.processes.len() {
            let own = &mut self.processes[process];
            // One that stops serves nobody new.
            if own.desk.draining {
                continue;
            }
            own.desk.probed.clear();
            longest = longest.max(own.settings.allocator.timeout);
            self.wait_at_the_door(process, &[SINGLE]);
            self.settle(process, Cause::Stimulus)?;
            asked.push(process);
        }
        self.pass_until(longest, &asked, |desk| !desk.probed.is_empty())?;
        asked.retain(|process| {
            let said = &self.processes[*process].desk.probed;
            said.first().is_none_or(|(_, answer)| answer.status != 200)
        });
        for own in &mut self.processes {
            own.desk.told = None;
        }
        for process in &asked {
            self.come_with(*process, &[("GET /status", Kind::Status)], false);
            self.settle(*process, Cause::Stimulus)?;
        }
        self.pass_until(longest, &asked, |desk| desk.told.is_some())?;
        let (mut all, mut pasts) = (Some(true), Vec::new());
        for process in asked {
            let told = self.processes[process].desk.told.take();
            let (state, detail) = told.unwrap_or_default();
            let detail = detail.unwrap_or_default();
            match state.as_str() {
                "serving" => all = None,
                "exhausted" => {}
                "closed" if detail.contains("`tickr db advance") => {
                    all = all.map(|_| false);
                    pasts.push(self.past_of(&detail));
                }
                _ => {
                    let told = format!("process {process}: {state}, {detail}");
                    return broken("everybody serves", told).map(|()| None);
                }
            }
        }
        // Where one of them names no ticket, the operator finds out what was issued.
        let all_named = pasts.iter().copied().min().flatten().is_some();
        self.past = match pasts.into_iter().max().flatten() {
            Some(past) if all_named => Past::Said(past),
            _ => Past::Honest,
        };
        Ok(all)
    }

    /// The time of a request goes by, or less when all of them have been answered.
    fn pass_until(
        &mut self,
        timeout: Duration,
        asked: &[usize],
        is_answered: impl Fn(&Desk) -> bool,
    ) -> Lawful {
        let first = timeout.min(MILLISECOND * 5);
        self.pass(first)?;
        let mut desks = asked.iter().map(|process| &self.processes[*process].desk);
        match desks.all(is_answered) {
            true => Ok(()),
            false => self.pass(timeout - first + MILLISECOND),
        }
    }

    /// The base id of the ticket that a node names in `--past`, if it does.
    fn past_of(&self, detail: &str) -> Option<u64> {
        let (_, rest) = detail.split_once("--past ")?;
        let ticket: u64 = rest.split('`').next()?.parse().ok()?;
        let numbering = self.net.numbering;
        let offset = numbering.starting_offset() + numbering.node_number();
        Some(ticket.checked_sub(offset)? / numbering.max_nodes() + 2)
    }

    /// A client is gone while it waits: what was reserved for it serves the next one.
    pub(super) fn lose_one(&mut self, process: usize) -> Lawful {
        let mut settings = self.processes.iter().map(|own| &own.settings.allocator);
        if settings.any(|settings| !settings.prefetch.is_zero()) {
            return Ok(());
        }
        let seven = Kind::Tickets {
            count: 7,
            format: Format::Range,
        };
        let lines = [("GET /tickets/create/7?format=range", seven)];
        let before = self.backend.row().id;
        let at = self.wait_at_the_door(process, &lines);
        self.settle(process, Cause::Stimulus)?;
        self.net
            .break_off(at, true, &mut self.processes[process].desk);
        self.settle(process, Cause::Stimulus)?;
        self.wait_at_the_door(process, &lines);
        self.pass(self.processes[process].settings.allocator.timeout)?;
        self.stage.count("client: gone while it waits");
        match self.backend.row().id - before {
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
            if own.desk.listening {
                self.single(process)?;
                self.wait_at_the_door(process, &[SINGLE; 3]);
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
