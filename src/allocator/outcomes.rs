//! What the answers of the database change: the permit, the reach, the stock, and what is told.

use super::permit::{self, Change};
use super::pool::{self, Kind, Left};
use super::reach::{self, Proof};
use super::stock::Landed;
use super::{Allocator, Event, HEARTBEAT, base_latency, spread};
use crate::counter::{JobId, Owner, View, Warning};
use crate::fault::{Act, Fault, FaultKind};
use crate::moment::Moment;
use crate::ticket::Block;

impl Allocator {
    pub(super) fn on_view(&mut self, view: &View, flight: pool::Flight, now: Moment) {
        let change = self.permit.observe(view, flight.memory, flight.issued, now);
        self.read_answered = self.read_answered.max(Some(flight.issued));
        self.is_elsewhere = view.read_only || matches!(view.owner, Owner::Elsewhere { .. });
        let opened = flight.session.map(|session| session.opened);
        if self.is_elsewhere && opened.is_some_and(|opened| opened + HEARTBEAT <= now) {
            // A primary that was demoted may keep its connections for ever, while its name leads
            // to another: what this process remembers must be told there. And a connection may
            // have the identity that its server had when it was made.
            self.pool.close_all();
        }
        self.on_change(change);
    }

    pub(super) fn on_refused(
        &mut self,
        job: JobId,
        view: &View,
        flight: pool::Flight,
        now: Moment,
    ) {
        let Some(asked) = self.stock.end(job) else {
            return;
        };
        self.stock.skip();
        self.on_view(view, flight, now);
        let end = view.id.checked_add(asked.count);
        let fits = end.is_some_and(|end| end <= self.numbering.last_base());
        if self.permit.epoch() == Some(asked.epoch) && view.epoch == asked.epoch && fits {
            // The row allows it, and yet the statement has moved nothing.
            let fault = Fault::new(FaultKind::NotOneRow, "0 rows");
            return self.fail(flight, fault, now);
        }
        // The server would have taken the write, had the row allowed it.
        self.on_success(flight, Proof::Reservation, now);
    }

    pub(super) fn on_reserved(&mut self, job: JobId, last: u64, flight: pool::Flight, now: Moment) {
        let Some(asked) = self.stock.end(job) else {
            return;
        };
        let took = now.since(flight.issued);
        self.note(Event::Reserved {
            count: asked.count,
            took,
        });
        self.latency = base_latency(self.latency, took);
        self.window.landed(self.queue.waiting(), now);
        self.on_success(flight, Proof::Reservation, now);
        let block = Block::ending_at(last, asked.count)
            .filter(|block| block.last <= self.numbering.last_base());
        let Some(block) = block else {
            // The statement can't have done that.
            let fault = Fault::new(FaultKind::CounterAltered, format!("the counter is {last}"));
            return self.fail(flight, fault, now);
        };
        let landed = match self.permit.reserved(asked.epoch, last, asked.asked, now) {
            true => self.stock.land(asked, block, self.next_job),
            false => self.stock.skip(),
        };
        match landed {
            Landed::Kept => {}
            Landed::Dropped => self.note_dropped(block.count()),
            Landed::Repeated => {
                let change = self.permit.repeated(block.first - 1, now);
                self.on_change(change);
            }
        }
    }

    pub(super) fn on_change(&mut self, change: Change) {
        if change == Change::None {
            return;
        }
        let dropped = self.stock.void();
        self.note_dropped(dropped);
        match &self.permit.state {
            permit::State::Closed(closed) => self.note(Event::Closed(closed.why.clone())),
            permit::State::Misfit(fault) => self.note(Event::Misfit(fault.clone())),
            permit::State::Open => self.note(Event::Opened),
            permit::State::Unknown => {}
        }
    }

    pub(super) fn on_fault(
        &mut self,
        worker: usize,
        flight: pool::Flight,
        fault: Fault,
        now: Moment,
    ) {
        let left = match fault.kind {
            kind if kind.row().spares_session => Left::Usable,
            FaultKind::TimedOut => Left::Abandoned,
            _ => Left::Closed,
        };
        if let Some(session) = flight.session {
            self.pool.leave(worker, session, left, false);
        }
        if flight.kind == Kind::Close {
            // The next session finds the row behind as well: connecting must not become a loop.
            self.pool.rest(worker, now + reach::PAUSE_MAX);
        }
        self.judge(worker, flight, fault, now);
    }

    /// What a fault says of the database.
    pub(super) fn judge(&mut self, worker: usize, flight: pool::Flight, fault: Fault, now: Moment) {
        let act = fault.kind.row().act;
        if self.reach.state == reach::State::Untried && act != Act::Retry {
            self.note(Event::CannotStart(fault.clone()));
        }
        let session = flight.session;
        let rested = session
            .is_some_and(|session| session.proven || session.opened + HEARTBEAT <= flight.issued);
        // A session may break while it rests; the next one tells whether the database is there.
        let was_stale = rested && fault.kind == FaultKind::Lost;
        let is_spare = flight.kind == Kind::Connect && self.pool.has_session();
        if self.reach.is_up() && act != Act::Mend && (was_stale || is_spare) {
            self.note(Event::Failed(fault));
            if is_spare {
                self.pool.rest(worker, now + reach::PAUSE_MAX);
            }
            if flight.kind == Kind::Read {
                // Not one session a heartbeat: every one may be gone, and the database with them.
                self.read_asked = None;
            }
            return;
        }
        self.fail(flight, fault, now);
    }

    /// The database does not do what it is asked.
    pub(super) fn fail(&mut self, flight: pool::Flight, fault: Fault, now: Moment) {
        self.note(Event::Failed(fault.clone()));
        if fault.kind.row().act == Act::Mend {
            self.on_misfit(fault.clone(), flight.issued, now);
        }
        let proof = match flight.kind {
            Kind::Reserve => Proof::Reservation,
            Kind::Connect | Kind::Read | Kind::Close => Proof::Any,
        };
        let pause = |attempts| {
            let slow = flight.kind == Kind::Connect
                && matches!(fault.kind, FaultKind::TimedOut | FaultKind::HostBlocked);
            spread(reach::pause(attempts, slow), self.seed, self.next_job.0)
        };
        if self.reach.fail(&fault, proof, flight.issued, pause, now) {
            self.note(Event::Unavailable(fault));
        }
    }

    pub(super) fn on_misfit(&mut self, fault: Fault, issued: Moment, now: Moment) {
        // No session is trusted that has not verified what is stored now.
        self.pool.close_all();
        let change = self.permit.misfit(fault, issued, now);
        self.on_change(change);
    }

    /// Whether what is stored was found unfit after a job was issued.
    pub(super) fn is_misfit_since(&self, issued: Moment) -> bool {
        matches!(self.permit.state, permit::State::Misfit(_)) && self.permit.is_outdated(issued)
    }

    pub(super) fn on_success(&mut self, flight: pool::Flight, proof: Proof, now: Moment) {
        if flight.kind == Kind::Connect {
            self.reach.hurry(now);
        }
        // With no number left there is no reservation to try: reading is all that there is.
        let proof = match self.room() {
            0 => Proof::Reservation,
            _ => proof,
        };
        if let Some(away) = self.reach.succeed(proof, flight.issued, now) {
            self.note(Event::Available(away));
        }
        if self.is_exhausted() && !std::mem::replace(&mut self.told_exhausted, true) {
            self.note(Event::Exhausted);
        }
    }

    pub(super) fn on_warnings(&mut self, warnings: Vec<Warning>) {
        if self.warnings != warnings {
            self.warnings.clone_from(&warnings);
            self.note(Event::Warnings(warnings));
        }
    }
}
