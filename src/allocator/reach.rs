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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::FaultKind;

    const PAUSE: Duration = Duration::from_millis(100);

    fn at(seconds: u64) -> Moment {
        Moment::default() + Duration::from_secs(seconds)
    }

    fn fail(reach: &mut Reach, kind: FaultKind, proof: Proof, issued: u64, now: u64) -> bool {
        let pause = |attempts| PAUSE * (attempts + 1);
        reach.fail(&kind.into(), proof, at(issued), pause, at(now))
    }

    fn up() -> Reach {
        let mut reach = Reach::untried();
        assert!(!reach.is_up());
        assert_eq!(reach.succeed(Proof::Any, at(10), at(11)), None, "no outage");
        assert!(reach.is_up());
        reach
    }

    fn down(proof: Proof) -> Reach {
        let mut reach = up();
        assert!(fail(&mut reach, FaultKind::Lost, proof, 20, 21));
        reach
    }

    fn retry_at(reach: &Reach) -> Moment {
        reach.outage().expect("it is down").retry_at
    }

    #[test]
    fn an_outage_began_when_the_job_was_issued_that_failed_and_is_tried_at_once() {
        let mut reach = down(Proof::Any);
        let outage = reach.outage().expect("it is down");
        assert_eq!((outage.since, outage.retry_at), (at(20), at(21)));
        assert_eq!(
            reach.succeed(Proof::Any, at(24), at(25)),
            Some(at(25).since(at(20)))
        );
        assert!(reach.is_up() && reach.outage().is_none());
    }

    #[test]
    fn each_failure_makes_the_pause_longer_and_another_kind_is_news() {
        let mut reach = down(Proof::Any);
        assert!(!fail(&mut reach, FaultKind::Lost, Proof::Any, 22, 23));
        assert_eq!(retry_at(&reach), at(23) + PAUSE);
        assert!(!fail(&mut reach, FaultKind::Lost, Proof::Any, 24, 25));
        assert_eq!(retry_at(&reach), at(25) + 2 * PAUSE);
        assert!(fail(&mut reach, FaultKind::TimedOut, Proof::Any, 26, 27));
        let outage = reach.outage().expect("it is down");
        assert_eq!(
            (outage.fault.kind, outage.since),
            (FaultKind::TimedOut, at(20))
        );
    }

    #[test]
    fn an_attempt_that_hangs_is_followed_by_another_and_a_new_session_is_tried_at_once() {
        let mut reach = down(Proof::Any);
        reach.attempt(at(30));
        assert_eq!(retry_at(&reach), at(30) + PAUSE_MAX);
        reach.hurry(at(40));
        assert_eq!(retry_at(&reach), at(30) + PAUSE_MAX, "that is soon enough");
        reach.attempt(at(50));
        reach.hurry(at(50));
        assert_eq!(retry_at(&reach), at(50));
        let mut reach = up();
        reach.attempt(at(30));
        reach.hurry(at(30));
        assert!(reach.is_up());
    }

    #[test]
    fn what_failed_must_be_seen_to_work() {
        for (failed, shown, ends) in [
            (Proof::Any, Proof::Any, true),
            (Proof::Any, Proof::Reservation, true),
            (Proof::Reservation, Proof::Any, false),
            (Proof::Reservation, Proof::Reservation, true),
        ] {
            let mut reach = down(failed);
            reach.succeed(shown, at(22), at(23));
            assert_eq!(reach.is_up(), ends, "{failed:?} {shown:?}");
        }
        // One of several failures was a reservation.
        let mut reach = down(Proof::Any);
        fail(&mut reach, FaultKind::Lost, Proof::Reservation, 22, 23);
        fail(&mut reach, FaultKind::Lost, Proof::Any, 24, 25);
        reach.succeed(Proof::Any, at(26), at(27));
        assert!(!reach.is_up());
    }

    #[test]
    fn an_answer_to_what_was_asked_before_the_outage_says_nothing_of_it() {
        let mut reach = down(Proof::Any);
        assert_eq!(reach.succeed(Proof::Reservation, at(19), at(22)), None);
        assert!(!reach.is_up());
        reach.succeed(Proof::Any, at(20), at(22));
        assert!(reach.is_up());
    }

    #[test]
    fn a_failure_of_what_was_asked_before_a_success_says_nothing_of_now() {
        let mut reach = up();
        reach.succeed(Proof::Any, at(30), at(31));
        reach.succeed(Proof::Any, at(25), at(31));
        assert!(!fail(&mut reach, FaultKind::Lost, Proof::Any, 29, 32));
        assert!(reach.is_up());
        // That it could be read says nothing of a reservation.
        assert!(fail(
            &mut reach.clone(),
            FaultKind::Lost,
            Proof::Reservation,
            29,
            32
        ));
        let mut reserves = reach.clone();
        reserves.succeed(Proof::Reservation, at(30), at(31));
        reserves.succeed(Proof::Reservation, at(25), at(31));
        assert!(!fail(
            &mut reserves,
            FaultKind::Lost,
            Proof::Reservation,
            29,
            32
        ));
        assert!(fail(
            &mut reserves,
            FaultKind::Lost,
            Proof::Reservation,
            30,
            32
        ));
        assert!(fail(&mut reach, FaultKind::Lost, Proof::Any, 30, 32));
    }

    #[test]
    fn pauses_double_up_to_their_bounds() {
        let milliseconds = |slow| {
            let pauses = (0..9).map(move |attempts| pause(attempts, slow).as_millis());
            pauses.collect::<Vec<_>>()
        };
        assert_eq!(
            milliseconds(false),
            [25, 50, 100, 200, 400, 400, 400, 400, 400]
        );
        assert_eq!(
            milliseconds(true),
            [25, 50, 100, 200, 400, 800, 1600, 2000, 2000]
        );
        assert_eq!(pause(u32::MAX, true), SLOW_PAUSE_MAX);
    }
}
