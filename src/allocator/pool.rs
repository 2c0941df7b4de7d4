//! The database threads as the allocator sees them: which have a session, what each is doing, and
//! which have been given up because they hang.

use std::time::Duration;

use crate::counter::{JobId, Memory};
use crate::moment::Moment;

/// One thread each, and the jobs that they do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pool {
    slots: Vec<Slot>,
    /// Jobs whose threads were given up, and have not come back.
    hung: Vec<JobId>,
    /// Grows with every use of a session, to tell which was used last.
    uses: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Slot {
    /// There is no session.
    Empty {
        /// A connection that hung, and must be ended first.
        replaces: Option<u64>,
        /// Connecting has failed; not before this is it tried again.
        not_before: Moment,
    },
    /// A session that does nothing.
    Idle(Session),
    /// A job is being done.
    Busy(Flight),
}

/// A session of one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Session {
    /// MySQL's number for its connection.
    pub(super) connection: u64,
    pub(super) opened: Moment,
    /// It has done a job beside connecting.
    pub(super) proven: bool,
    used: u64,
}

/// A job that is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Flight {
    pub(super) job: JobId,
    pub(super) kind: Kind,
    pub(super) issued: Moment,
    /// What was remembered when it was issued: what it finds must not be from before.
    pub(super) memory: Memory,
    /// The session that it is done over; `None` while connecting.
    pub(super) session: Option<Session>,
    replaces: Option<u64>,
}

/// What kind of job it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Connect,
    Read,
    Reserve,
    Close,
}

impl Kind {
    /// Whether it is there to read the row.
    pub(super) fn reads(self) -> bool {
        matches!(self, Kind::Connect | Kind::Read)
    }
}

/// How a session is left by the job that it has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// It can do the next one.
    Usable,
    /// It is closed.
    Closed,
    /// It is closed, but the server may not know it, and still be at work.
    Abandoned,
}

impl Pool {
    pub(super) fn new(size: usize) -> Pool {
        assert!(size > 0, "a pool has a thread");
        let empty = Slot::Empty {
            replaces: None,
            not_before: Moment::default(),
        };
        Pool {
            slots: vec![empty; size],
            hung: Vec::new(),
            uses: 0,
        }
    }

    pub(super) fn size(&self) -> usize {
        self.slots.len()
    }

    /// The idle session that was used last: one stays hot, and the others rest.
    pub(super) fn hottest(&self) -> Option<usize> {
        self.idle()
            .max_by_key(|(_, session)| session.used)
            .map(|(worker, _)| worker)
    }

    /// The idle session that was used least recently, so that none is forgotten.
    pub(super) fn coldest(&self) -> Option<usize> {
        self.idle()
            .min_by_key(|(_, session)| session.used)
            .map(|(worker, _)| worker)
    }

    /// An idle session that is older than this, unless it is the only one of several.
    pub(super) fn aged(&self, age: impl Fn(usize) -> Duration, now: Moment) -> Option<usize> {
        if self.idle().count() < self.size().min(2) {
            return None;
        }
        self.idle()
            .find(|(worker, session)| session.opened + age(*worker) <= now)
            .map(|(worker, _)| worker)
    }

    /// A thread that may connect now, with the connection that it must end first; or when one may.
    pub(super) fn empty(&self, now: Moment) -> Result<(usize, Option<u64>), Option<Moment>> {
        if self.hung.len() >= self.slots.len() {
            return Err(None);
        }
        let mut soonest = None;
        for (worker, slot) in self.slots.iter().enumerate() {
            match slot {
                Slot::Empty {
                    replaces,
                    not_before,
                } if *not_before <= now => {
                    return Ok((worker, *replaces));
                }
                Slot::Empty { not_before, .. } => {
                    soonest = Some(soonest.map_or(*not_before, |at: Moment| at.min(*not_before)));
                }
                Slot::Idle(_) | Slot::Busy(_) => {}
            }
        }
        Err(soonest)
    }

    /// Whether there is a session, idle or at work.
    pub(super) fn has_session(&self) -> bool {
        self.slots.iter().any(|slot| match slot {
            Slot::Empty { .. } => false,
            Slot::Idle(_) => true,
            Slot::Busy(flight) => flight.session.is_some(),
        })
    }

    /// Whether a job of this kind is being done.
    pub(super) fn is_doing(&self, kind: Kind) -> bool {
        self.flights().any(|flight| flight.kind == kind)
    }

    /// Whether a read is on its way that was issued then or later.
    pub(super) fn reads_since(&self, moment: Moment) -> bool {
        self.flights()
            .any(|flight| flight.kind.reads() && flight.issued >= moment)
    }

    /// Threads that were given up.
    pub(super) fn hung(&self) -> usize {
        self.hung.len()
    }

    /// A thread is given a job.
    pub(super) fn begin(
        &mut self,
        worker: usize,
        job: JobId,
        kind: Kind,
        memory: Memory,
        now: Moment,
    ) {
        let (session, replaces) = match &self.slots[worker] {
            Slot::Idle(session) if kind != Kind::Connect => (Some(*session), None),
            Slot::Idle(_) => (None, None),
            Slot::Empty { replaces, .. } => (None, *replaces),
            Slot::Busy(_) => unreachable!("only a free thread is given a job"),
        };
        assert!(
            session.is_some() == (kind != Kind::Connect),
            "a job needs a session"
        );
        self.slots[worker] = Slot::Busy(Flight {
            job,
            kind,
            issued: now,
            memory,
            session,
            replaces,
        });
    }

    /// A job has ended; `None` when it is unknown, or was given up.
    pub(super) fn end(&mut self, job: JobId) -> Option<(usize, Flight)> {
        if let Some(at) = self.hung.iter().position(|hung| *hung == job) {
            self.hung.remove(at);
            return None;
        }
        let found = self
            .slots
            .iter()
            .enumerate()
            .find_map(|(worker, slot)| match slot {
                Slot::Busy(flight) if flight.job == job => Some((worker, *flight)),
                _ => None,
            })?;
        let (worker, flight) = found;
        self.slots[worker] = Slot::Empty {
            replaces: flight.replaces,
            not_before: Moment::default(),
        };
        Some((worker, flight))
    }

    /// The thread whose job has just ended has opened a session.
    pub(super) fn connected(&mut self, worker: usize, connection: u64, opened: Moment) {
        self.uses += 1;
        self.slots[worker] = Slot::Idle(Session {
            connection,
            opened,
            proven: false,
            used: self.uses,
        });
    }

    /// The thread whose job has just ended keeps its session, or has lost it.
    pub(super) fn leave(&mut self, worker: usize, session: Session, left: Left, done: bool) {
        self.slots[worker] = match left {
            Left::Usable => {
                self.uses += 1;
                Slot::Idle(Session {
                    proven: session.proven || done,
                    used: self.uses,
                    ..session
                })
            }
            Left::Closed | Left::Abandoned => Slot::Empty {
                replaces: (left == Left::Abandoned).then_some(session.connection),
                not_before: Moment::default(),
            },
        };
    }

    /// A thread without a session is left alone until then.
    pub(super) fn rest(&mut self, worker: usize, until: Moment) {
        if let Slot::Empty { not_before, .. } = &mut self.slots[worker] {
            *not_before = until;
        }
    }

    /// No session is used again: each thread opens another, and verifies what is stored.
    pub(super) fn close_all(&mut self) {
        for slot in &mut self.slots {
            match slot {
                Slot::Empty { .. } => {}
                Slot::Busy(flight) => flight.session = None,
                Slot::Idle(_) => {
                    *slot = Slot::Empty {
                        replaces: None,
                        not_before: Moment::default(),
                    };
                }
            }
        }
    }

    /// Gives up a job that has taken longer than `hang_after`, and its thread with it.
    pub(super) fn give_up(&mut self, hang_after: Duration, now: Moment) -> Option<(usize, Flight)> {
        let hangs = |flight: &Flight| flight.issued + hang_after <= now;
        let (worker, flight) = self.busy().find(|(_, flight)| hangs(flight))?;
        self.hung.push(flight.job);
        let connection = flight.session.map(|session| session.connection);
        self.slots[worker] = Slot::Empty {
            replaces: connection.or(flight.replaces),
            not_before: Moment::default(),
        };
        Some((worker, flight))
    }

    /// When the next job has taken too long.
    pub(super) fn give_up_at(&self, hang_after: Duration) -> Option<Moment> {
        self.flights()
            .map(|flight| flight.issued + hang_after)
            .min()
    }

    fn idle(&self) -> impl Iterator<Item = (usize, &Session)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(worker, slot)| match slot {
                Slot::Idle(session) => Some((worker, session)),
                Slot::Empty { .. } | Slot::Busy(_) => None,
            })
    }

    fn busy(&self) -> impl Iterator<Item = (usize, Flight)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(worker, slot)| match slot {
                Slot::Busy(flight) => Some((worker, *flight)),
                Slot::Empty { .. } | Slot::Idle(_) => None,
            })
    }

    fn flights(&self) -> impl Iterator<Item = Flight> {
        self.busy().map(|(_, flight)| flight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::default() + Duration::from_secs(seconds)
    }

    fn begin(pool: &mut Pool, worker: usize, job: u64, kind: Kind, now: Moment) {
        pool.begin(worker, JobId(job), kind, Memory::default(), now);
    }

    /// Threads with sessions that were opened at these seconds, in the order of their use.
    fn opened(at_seconds: &[u64]) -> Pool {
        let mut pool = Pool::new(at_seconds.len());
        for (worker, &seconds) in at_seconds.iter().enumerate() {
            let job = worker as u64;
            begin(&mut pool, worker, job, Kind::Connect, at(seconds));
            pool.end(JobId(job)).expect("it is under way");
            pool.connected(worker, 10 + job, at(seconds));
        }
        pool
    }

    /// A thread does a job over its session, which ends so.
    fn work(pool: &mut Pool, worker: usize, left: Left, done: bool) {
        begin(pool, worker, 99, Kind::Read, at(0));
        let (worker, flight) = pool.end(JobId(99)).expect("it is under way");
        let session = flight.session.expect("it has a session");
        pool.leave(worker, session, left, done);
    }

    #[test]
    fn the_hottest_was_used_last_and_the_coldest_least_recently() {
        let mut pool = opened(&[0, 0, 0]);
        assert_eq!(pool.size(), 3);
        assert_eq!((pool.coldest(), pool.hottest()), (Some(0), Some(2)));
        work(&mut pool, 0, Left::Usable, true);
        assert_eq!((pool.coldest(), pool.hottest()), (Some(1), Some(0)));
        begin(&mut pool, 0, 50, Kind::Reserve, at(1));
        assert_eq!((pool.coldest(), pool.hottest()), (Some(1), Some(2)));
        // Connecting is a use.
        let mut pool = Pool::new(2);
        for worker in [1, 0] {
            begin(&mut pool, worker, 7, Kind::Connect, at(0));
            pool.end(JobId(7)).expect("it is under way");
            pool.connected(worker, 10, at(0));
        }
        assert_eq!((pool.coldest(), pool.hottest()), (Some(1), Some(0)));
    }

    #[test]
    fn a_session_ages_unless_it_is_the_last_of_several() {
        let of_ten = |_| Duration::from_secs(10);
        let mut pool = opened(&[5, 0, 9]);
        assert_eq!(pool.aged(of_ten, at(9)), None);
        assert_eq!(pool.aged(of_ten, at(10)), Some(1));
        assert_eq!(
            pool.aged(|worker| at(5).since(at(worker as u64)), at(10)),
            Some(0)
        );
        work(&mut pool, 0, Left::Closed, false);
        assert_eq!(pool.aged(of_ten, at(10)), Some(1), "there is another");
        work(&mut pool, 2, Left::Closed, false);
        assert_eq!(pool.aged(of_ten, at(10)), None, "it is the last");
        assert_eq!(
            opened(&[0]).aged(of_ten, at(10)),
            Some(0),
            "it is the only one"
        );
    }

    #[test]
    fn threads_without_a_session_connect_when_they_have_rested() {
        let mut pool = Pool::new(3);
        assert_eq!(pool.empty(at(0)), Ok((0, None)));
        for (worker, until) in [(0, 9), (1, 7), (2, 8)] {
            pool.rest(worker, at(until));
        }
        assert_eq!(pool.empty(at(6)), Err(Some(at(7))));
        assert_eq!(pool.empty(at(7)), Ok((1, None)));
        assert_eq!(opened(&[0]).empty(at(0)), Err(None));
    }

    #[test]
    fn a_session_is_there_idle_or_at_work_and_not_while_connecting() {
        let mut pool = Pool::new(2);
        assert!(!pool.has_session());
        begin(&mut pool, 0, 1, Kind::Connect, at(0));
        assert!(!pool.has_session());
        let mut pool = opened(&[0]);
        assert!(pool.has_session());
        begin(&mut pool, 0, 1, Kind::Reserve, at(0));
        assert!(pool.has_session());
        pool.close_all();
        assert!(!pool.has_session(), "it is not used again");
        assert!(pool.is_doing(Kind::Reserve) && !pool.is_doing(Kind::Read));
    }

    #[test]
    fn a_read_counts_from_when_it_was_asked_for_and_so_does_connecting() {
        for (kind, reads) in [
            (Kind::Read, true),
            (Kind::Reserve, false),
            (Kind::Close, false),
        ] {
            let mut pool = opened(&[0, 0]);
            begin(&mut pool, 0, 5, kind, at(5));
            assert_eq!(pool.reads_since(at(5)), reads, "{kind:?}");
            assert_eq!(pool.reads_since(at(4)), reads, "{kind:?}");
            assert!(!pool.reads_since(at(6)), "{kind:?}");
        }
        let mut pool = Pool::new(1);
        begin(&mut pool, 0, 5, Kind::Connect, at(5));
        assert!(pool.reads_since(at(5)));
    }

    #[test]
    fn what_was_abandoned_is_ended_first_and_what_was_closed_is_not() {
        for (left, replaces) in [(Left::Abandoned, Some(10)), (Left::Closed, None)] {
            let mut pool = opened(&[0]);
            work(&mut pool, 0, left, false);
            assert_eq!(pool.empty(at(0)), Ok((0, replaces)));
            // Connecting fails, and the connection is still to be ended.
            begin(&mut pool, 0, 5, Kind::Connect, at(0));
            assert!(pool.end(JobId(5)).is_some());
            assert_eq!(pool.empty(at(0)), Ok((0, replaces)));
        }
    }

    #[test]
    fn a_session_is_proven_by_its_first_job_and_stays_so() {
        let mut pool = opened(&[0]);
        let mut proven = |done| {
            work(&mut pool, 0, Left::Usable, done);
            let proven = pool.idle().next().map(|(_, session)| session.proven);
            proven.expect("it is idle")
        };
        assert_eq!([false, true, false].map(&mut proven), [false, true, true]);
    }

    #[test]
    fn a_job_that_hangs_is_given_up_and_its_end_is_no_news() {
        let hang = Duration::from_secs(3);
        let mut pool = opened(&[0, 0]);
        assert_eq!(pool.give_up_at(hang), None);
        begin(&mut pool, 0, 5, Kind::Reserve, at(5));
        begin(&mut pool, 1, 6, Kind::Read, at(4));
        assert_eq!(pool.give_up_at(hang), Some(at(7)));
        assert!(pool.give_up(hang, at(6)).is_none());
        let given_up = pool.give_up(hang, at(7)).map(|(worker, _)| worker);
        assert_eq!((given_up, pool.hung()), (Some(1), 1));
        assert!(pool.give_up(hang, at(7)).is_none());
        assert_eq!(pool.empty(at(7)), Ok((1, Some(11))));
        assert!(pool.end(JobId(6)).is_none());
        assert_eq!(pool.hung(), 0);
        assert!(pool.end(JobId(6)).is_none(), "it is unknown");
    }

    #[test]
    fn as_many_threads_hang_as_the_pool_has_and_no_more_are_begun() {
        let hang = Duration::from_secs(3);
        let mut pool = Pool::new(2);
        for (job, worker) in [(1, 0), (2, 1)] {
            begin(&mut pool, worker, job, Kind::Connect, at(0));
        }
        assert!(pool.give_up(hang, at(3)).is_some());
        assert!(pool.empty(at(3)).is_ok());
        assert!(pool.give_up(hang, at(3)).is_some());
        assert_eq!(pool.empty(at(3)), Err(None));
        pool.end(JobId(1));
        assert!(pool.empty(at(3)).is_ok());
    }

    #[test]
    fn who_is_closed_connects_at_once_and_ends_nothing() {
        let mut pool = opened(&[0, 0]);
        pool.rest(0, at(9));
        assert_eq!(pool.idle().count(), 2, "only who has no session rests");
        pool.close_all();
        assert_eq!(pool.empty(at(0)), Ok((0, None)));
    }

    #[test]
    #[should_panic(expected = "a job needs a session")]
    fn nothing_but_connecting_is_done_without_a_session() {
        begin(&mut Pool::new(1), 0, 1, Kind::Read, at(0));
    }
}
