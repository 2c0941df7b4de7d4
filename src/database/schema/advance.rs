//! Opening the counter: `tickr db advance`, and what changes the lease.
//!
//! The row is closed, and stays so until no block from before can still be used and everybody who
//! is alive has raised the mark to what they remember. Then it is opened above all of that, by a
//! statement that matches only the very row that was read. Whatever interrupts this leaves the row
//! closed or well opened, and two who do it at once get one opening.

use std::fmt;
use std::thread;
use std::time::Duration;

use super::*;
use crate::moment::Moment;

/// How [`advance`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advanced {
    /// The counter, as it is now.
    pub counter: u64,
    /// The epoch that the row was opened under.
    pub epoch: u64,
    /// The row or its table was missing, and is there again.
    pub restored: bool,
    /// Another process has opened it at the same time, far enough.
    pub by_another: bool,
}

impl fmt::Display for Advanced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Advanced { counter, epoch, .. } = self;
        if self.restored {
            write!(f, "the counter was missing and has been restored; ")?;
        }
        match self.by_another {
            true => write!(f, "another process has opened the counter ")?,
            false => write!(f, "the counter is open ")?,
        }
        write!(f, "at base id {counter}, epoch {epoch}")
    }
}

/// Closes the row, waits until nothing from before can be issued any longer, and opens it on this
/// server, `margin` base ids above the row, its mark, and every base id up to the ticket `past`.
/// Only this brings back a missing counter row or table, and only with `past`. `progress` is told
/// what is being done.
pub fn advance(
    settings: &Settings,
    numbering: &Numbering,
    past: Option<u64>,
    margin: u64,
    progress: &mut dyn FnMut(String),
) -> Result<Advanced, Fault> {
    let opening = Opening {
        numbering: *numbering,
        least: counter_past(numbering, past)?,
        margin,
        lease: None,
    };
    guarded(|| opening.perform(&mut Desk::open(settings)?, past.is_some(), progress))
}

/// Stores another lease, while the counter is closed for as long as the old one.
pub fn set_lease(
    settings: &Settings,
    numbering: &Numbering,
    lease: Duration,
    progress: &mut dyn FnMut(String),
) -> Result<Advanced, Fault> {
    let opening = Opening {
        numbering: *numbering,
        least: 0,
        margin: 0,
        lease: Some(lease),
    };
    guarded(|| opening.perform(&mut Desk::open(settings)?, false, progress))
}

fn counter_past(numbering: &Numbering, past: Option<u64>) -> Result<u64, Fault> {
    let Some(past) = past else { return Ok(0) };
    numbering.counter_past(past).ok_or_else(|| {
        let said = format!("no ticket of this node is above {past}");
        Fault::new(FaultKind::NumbersExhausted, said)
    })
}

/// What to open, and how.
struct Opening {
    numbering: Numbering,
    /// The counter must be at least here, the margin not counted.
    least: u64,
    margin: u64,
    /// A lease to store before it is opened.
    lease: Option<Duration>,
}

impl Opening {
    fn perform(
        &self,
        desk: &mut Desk,
        may_restore: bool,
        progress: &mut dyn FnMut(String),
    ) -> Result<Advanced, Fault> {
        let restored = self.prepare(desk, may_restore)?;
        if restored {
            progress("the counter was missing; it is there again, closed".to_owned());
        }
        for attempt in 0..limits::ADVANCE_ATTEMPTS_MAX {
            let view = read(desk)?;
            self.target(&view)?;
            next(view.epoch)?;
            let is_enough = attempt > 0 && view.is_open() && view.id >= self.least;
            if is_enough && self.lease.is_none_or(|lease| lease == view.lease) {
                return Ok(Advanced {
                    counter: view.id,
                    epoch: view.epoch.number,
                    restored,
                    by_another: true,
                });
            }
            progress(format!(
                "found the counter at base id {}: {}",
                view.id,
                state(&view)
            ));
            if view.read_only {
                return Err(FaultKind::ReadOnly.into());
            }
            if view.owner != Owner::Closed {
                desk.change(include_str!("../../../sql/close_by_hand.sql"), ())?;
            }
            let Some(waited) = wait(desk, view.lease, progress)? else {
                progress("the counter was changed meanwhile; starting over".to_owned());
                continue;
            };
            if let Some(lease) = self.lease {
                let store = include_str!("../../../sql/store_lease.sql");
                desk.change(store, (lease.as_secs(),))?;
            }
            if let Some((counter, epoch)) = self.open(desk, waited)? {
                return Ok(Advanced {
                    counter,
                    epoch,
                    restored,
                    by_another: false,
                });
            }
        }
        Err(FaultKind::Contended.into())
    }

    /// Looks whether this is the right database and whether it can be done at all, and puts a
    /// closed row where there is none. True when it did.
    fn prepare(&self, desk: &mut Desk, may_restore: bool) -> Result<bool, Fault> {
        let found = desk.look()?;
        let problems = found.problems(&self.numbering);
        let is_missing =
            |fault: &Fault| matches!(fault.kind, FaultKind::NoCounterRow | FaultKind::TableGone);
        let is_unusable = |fault: &Fault| fault.kind == FaultKind::CounterUnusable;
        let Some(problem) = problems.iter().find(|fault| !is_missing(fault)) else {
            let Some(missing) = problems.into_iter().next() else {
                return Ok(false);
            };
            if !may_restore {
                return Err(Fault::new(FaultKind::PastRequired, missing.said));
            }
            let seed = Seed {
                id: self.least,
                owner: CLOSED.to_owned(),
                epoch: Epoch::default(),
                mark: self.least,
            };
            return match missing.kind {
                FaultKind::TableGone => desk.create_tickets(&seed),
                _ => desk.seed("tickets", &seed),
            };
        };
        // There is a number that can't be one, and only `past` says what to put in its place.
        if is_unusable(problem) && may_restore {
            let mend = include_str!("../../../sql/mend.sql");
            desk.change(mend, (self.least, self.least))?;
            return Ok(true);
        }
        Err(problem.clone())
    }

    /// Where the row is opened, if there is room.
    fn target(&self, view: &View) -> Result<u64, Fault> {
        // An old program's `REPLACE` can leave a counter of 0.
        let least = self.least.max(COUNTER_SEED);
        let highest = view.id.max(view.mark).max(least);
        highest
            .checked_add(self.margin)
            .filter(|&target| target < self.numbering.last_base())
            .ok_or_else(|| {
                let said = format!(
                    "{highest} and a margin of {} are more than the last base id {}",
                    self.margin,
                    self.numbering.last_base()
                );
                Fault::new(FaultKind::NumbersExhausted, said)
            })
    }

    /// Opens the row as it was read last. `None` when it is another one by now.
    fn open(&self, desk: &mut Desk, mut view: View) -> Result<Option<(u64, u64)>, Fault> {
        let here = desk.here()?;
        let epoch = view.epoch;
        let open = desk
            .identity
            .fill_change(include_str!("../../../sql/open.sql"));
        // An old program may still move the counter of a closed row.
        for _ in 0..limits::ADVANCE_ATTEMPTS_MAX {
            if view.owner != Owner::Closed || view.epoch != epoch {
                break;
            }
            let target = self.target(&view)?;
            let number = next(epoch)?;
            let values = (
                target,
                &here,
                number,
                random()?,
                view.id,
                view.mark,
                epoch.number,
                epoch.tag,
                &here,
            );
            if desk.change(&open, values)? == 1 {
                return Ok(Some((target, number)));
            }
            view = read(desk)?;
        }
        Ok(None)
    }
}

/// The number of the epoch after this one.
fn next(epoch: Epoch) -> Result<u64, Fault> {
    epoch.number.checked_add(1).ok_or_else(|| {
        let said = format!("no epoch is above {}", epoch.number);
        Fault::new(FaultKind::NumbersExhausted, said)
    })
}

impl Desk {
    /// Changes the row.
    fn change(&mut self, statement: &str, values: impl Into<mysql::Params>) -> Result<u64, Fault> {
        if let Some(pin) = self.identity.pin() {
            self.link.run(&pin)?;
        }
        let statement = self.link.prep(statement)?;
        let done = self.link.change(&statement, values);
        self.link.close(statement)?;
        Ok(done?.rows)
    }
}

/// Waits until no block from before can be in use, and returns the row as it is then. `None` when
/// it did not stay closed all the while.
fn wait(
    desk: &mut Desk,
    lease: Duration,
    progress: &mut dyn FnMut(String),
) -> Result<Option<View>, Fault> {
    let began = Moment::now();
    let first = read(desk)?;
    let lease = lease.max(first.lease).saturating_add(limits::LEASE_GRACE);
    progress(format!(
        "closed; waiting {} s, until no earlier reservation can be in use",
        lease.as_secs()
    ));
    let mut mark = first.mark;
    loop {
        let view = read(desk)?;
        if view.owner != Owner::Closed || view.epoch.number < first.epoch.number {
            return Ok(None);
        }
        // Those who remember a newer epoch raise it, with the mark; an opening ends `Closed`.
        if view.epoch != first.epoch && view.epoch.tag != 0 {
            return Ok(None);
        }
        if view.mark > mark {
            mark = view.mark;
            progress(format!("a process remembers base id {mark}"));
        }
        let left = (began + lease).since(Moment::now());
        if left.is_zero() {
            return Ok(Some(view));
        }
        thread::sleep(left.min(limits::ADVANCE_PAUSE));
    }
}

fn read(desk: &mut Desk) -> Result<View, Fault> {
    let query = desk.identity.fill(include_str!("../../../sql/read.sql"));
    let rows = desk.link.query(&query, 2)?;
    view(rows, &desk.identity)
}
