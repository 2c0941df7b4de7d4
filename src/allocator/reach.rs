//! What the connection allows: whether the database does what it is asked, and when it is tried
//! again if not.

use std::time::Duration;

use crate::fault::Fault;
use crate::moment::Moment;

/// Pause before the second attempt to reach the database; doubled for each further one.
const PAUSE_MIN: Duration = Duration::from_millis(25);
/// Longest pause between two attempts, so that recovery takes less than a second.
pub(super) const PAUSE_MAX: Duration = Duration::from_millis(400);
/// Longest pause while handshakes hang: MySQL blocks a host that breaks off too many
/// (`max_connect_errors`).
const SLOW_PAUSE_MAX: Duration = Duration::from_secs(2);

/// Whether the database does what it is asked, and when that was last seen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Reach {
    pub(super) state: State,
    /// When the newest job was issued that was answered.
    answered: Moment,
    /// When the newest reservation was issued that succeeded.
    reserved: Moment,
}

/// Whether the database does what it is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum State {
    /// No attempt has ended yet.
    Untried,
    /// It does.
    Up,
    /// It does not.
    Down(Outage),
}

/// A time in which the database does not do what it is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Outage {
    pub(super) since: Moment,
    /// The last one.
    pub(super) fault: Fault,
    /// What ends it.
    pub(super) proof: Proof,
    /// When to try again, beside attempts that may still hang.
    pub(super) retry_at: Moment,
    attempts: u32,
}

/// What shows that the database does what it is asked: what has failed must be seen to work, since
/// a server that can be read may take no writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Proof {
    /// Any answer.
    Any,
    /// A reservation.
    Reservation,
}

impl Reach {
    pub(super) fn untried() -> Reach {
        Reach {
            state: State::Untried,
            answered: Moment::default(),
            reserved: Moment::default(),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.state == State::Up
    }

    /// The outage, if there is one.
    pub(super) fn outage(&self) -> Option<&Outage> {
        match &self.state {
            State::Down(outage) => Some(outage),
            State::Untried | State::Up => None,
        }
    }

    /// A job that was issued at `issued` has failed. Returns whether this is news: an outage has
    /// begun, or has another kind of fault.
    pub(super) fn fail(
        &mut self,
        fault: &Fault,
        proof: Proof,
        issued: Moment,
        pause: impl Fn(u32) -> Duration,
        now: Moment,
    ) -> bool {
        let proved = match proof {
            Proof::Any => self.answered,
            Proof::Reservation => self.reserved,
        };
        if self.is_up() && issued < proved {
            // A later one has succeeded: this says nothing of the database of now.
            return false;
        }
        match &mut self.state {
            State::Untried | State::Up => {
                self.state = State::Down(Outage {
                    since: issued,
                    fault: fault.clone(),
                    proof,
                    retry_at: now,
                    attempts: 0,
                });
                true
            }
            State::Down(outage) => {
                let is_news = outage.fault.kind != fault.kind;
                outage.fault = fault.clone();
                outage.proof = outage.proof.max(proof);
                outage.retry_at = now + pause(outage.attempts);
                outage.attempts = outage.attempts.saturating_add(1);
                is_news
            }
        }
    }

    /// An attempt goes out. It may hang, so another one is made beside it after the longest pause.
    pub(super) fn attempt(&mut self, now: Moment) {
        if let State::Down(outage) = &mut self.state {
            outage.retry_at = now + PAUSE_MAX;
        }
    }

    /// A session was opened during an outage: it is tried at once.
    pub(super) fn hurry(&mut self, now: Moment) {
        if let State::Down(outage) = &mut self.state {
            outage.retry_at = outage.retry_at.min(now);
        }
    }

    /// A job that was issued at `issued` has succeeded, which proves so much. Returns how long the
    /// outage was that this has ended.
    pub(super) fn succeed(
        &mut self,
        proof: Proof,
        issued: Moment,
        now: Moment,
    ) -> Option<Duration> {
        self.answered = self.answered.max(issued);
        if proof == Proof::Reservation {
            self.reserved = self.reserved.max(issued);
        }
        let away = match &self.state {
            State::Up => return None,
            State::Untried => None,
            // Asked before it began, it says nothing of what came after.
            State::Down(outage) if outage.proof > proof || issued < outage.since => return None,
            State::Down(outage) => Some(now.since(outage.since)),
        };
        self.state = State::Up;
        away
    }
}

/// The pause after this many failed attempts.
pub(super) fn pause(attempts: u32, slow: bool) -> Duration {
    let most = match slow {
        true => SLOW_PAUSE_MAX,
        false => PAUSE_MAX,
    };
    PAUSE_MIN.saturating_mul(1 << attempts.min(8)).min(most)
}
