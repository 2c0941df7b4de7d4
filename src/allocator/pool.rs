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
