//! The laws, judged from what goes in and out of the processes alone: nothing in here reads the
//! allocator's own state.

use std::collections::BTreeMap;
use std::time::Duration;

use tickr::allocator::{Answer, Ask, Completion, Refusal, RequestId};
use tickr::counter::{Epoch, Job, JobId, Memory, Owner, Task, View};
use tickr::moment::Moment;
use tickr::ticket::{Numbering, Run};

use crate::backend::Committed;

/// A law that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub law: &'static str,
    pub detail: String,
}

pub type Lawful = Result<(), Violation>;

pub fn broken(law: &'static str, detail: impl Into<String>) -> Lawful {
    let detail = detail.into();
    Err(Violation { law, detail })
}

/// All base ids that were ever issued, first to last.
#[derive(Default)]
pub struct Issued(BTreeMap<u64, u64>);

impl Issued {
    pub fn add(&mut self, first: u64, last: u64) -> Lawful {
        if let Some((low, high)) = self.0.range(..=last).next_back()
            && *high >= first
        {
            return broken(
                "no ticket twice",
                format!("base ids {first} to {last} after {low} to {high}"),
            );
        }
        self.0.insert(first, last);
        Ok(())
    }
}

/// What is known from outside of one process.
pub struct Witness {
    numbering: Numbering,
    pending: BTreeMap<RequestId, Pending>,
    /// Blocks that were committed for it: first to last, epoch, and when they were asked for.
    committed: BTreeMap<u64, (u64, Epoch, Moment)>,
    memory: Memory,
    last_issued: u64,
    pub issued_high: u64,
    /// For the newest epoch: when the question was asked that last found it open.
    confirmed: Option<(Epoch, Moment)>,
    /// A question from then found the row closed: what was asked for before it is void.
    void_before: Option<Moment>,
    asked: BTreeMap<JobId, (Moment, Memory, Option<Epoch>)>,
    /// While it is stopped it can't answer in time.
    late_until: Moment,
}

struct Pending {
    ask: Ask,
    deadline: Moment,
}

impl Witness {
    pub fn new(numbering: Numbering, remembered: Memory) -> Witness {
        Witness {
            numbering,
            pending: BTreeMap::new(),
            committed: BTreeMap::new(),
            memory: remembered,
            last_issued: 0,
            issued_high: 0,
            confirmed: None,
            void_before: None,
            asked: BTreeMap::new(),
            late_until: Moment::default(),
        }
    }

    pub fn on_submit(&mut self, id: RequestId, ask: Ask, deadline: Moment) {
        self.pending.insert(id, Pending { ask, deadline });
    }

    pub fn on_cancel(&mut self, connection: u64) {
        self.pending.retain(|id, _| id.connection != connection);
    }

    pub fn on_continue(&mut self, now: Moment) {
        self.late_until = now;
    }

    pub fn on_job(&mut self, job: &Job, memory: Memory, now: Moment) -> Lawful {
        let id = job.id;
        let epoch = match job.task {
            Task::Reserve { epoch, .. } => Some(epoch),
            _ => None,
        };
        match self.asked.insert(id, (now, memory, epoch)) {
            None => Ok(()),
            Some(_) => broken("a job's name never recurs", format!("{id:?}")),
        }
    }

    /// A block was committed for it.
    pub fn on_commit(&mut self, block: &Committed) {
        let (asked, ..) = self.asked[&block.job];
        self.committed
            .insert(block.first(), (block.last, block.epoch, asked));
    }

    /// It learns what a job has found, when it remembers so much.
    pub fn on_view(&mut self, id: JobId, view: &View, memory: Memory) {
        let (asked, floor, _) = self.asked[&id];
        let behind = |memory: &Memory| {
            let number = memory.epoch.number;
            view.epoch.number < number
                || (view.epoch.number == number && view.epoch != memory.epoch)
                || view.id < memory.id
        };
        let open = view.owner == Owner::Here && view.mark <= view.id && !view.read_only;
        // A question from before a later one found the row closed says nothing any more.
        let is_old = Some(asked) < self.void_before;
        if behind(&floor) {
            self.void_before = self.void_before.max(Some(asked));
            self.confirmed = None;
        } else if !open && !is_old && !behind(&memory) {
            self.void_before = self.void_before.max(Some(asked));
            // A later question that found it open may have been answered before.
            self.confirmed = self.confirmed.filter(|(_, at)| *at > asked);
        } else if open && !behind(&memory) {
            self.confirm(view.epoch, asked);
        }
    }

    /// It learns that a block was reserved.
    pub fn on_reserved(&mut self, id: JobId) {
        if let (asked, _, Some(epoch)) = self.asked[&id] {
            self.confirm(epoch, asked);
        }
    }

    fn confirm(&mut self, epoch: Epoch, asked: Moment) {
        if self.void_before > Some(asked) {
            return;
        }
        self.confirmed = match self.confirmed {
            Some((known, at)) if known == epoch => Some((epoch, at.max(asked))),
            Some((known, at)) if known.number > epoch.number => Some((known, at)),
            _ => Some((epoch, asked)),
        };
    }

    pub fn on_completion(
        &mut self,
        completion: &Completion,
        verdicts: [&'static str; 2],
        issued: &mut Issued,
        lease: Duration,
        now: Moment,
    ) -> Lawful {
        let Completion { id, answer } = completion;
        let Some(pending) = self.pending.remove(id) else {
            return broken("one final answer", format!("{id:?} is answered again"));
        };
        let due = pending.deadline.max(self.late_until);
        if due < now {
            return broken("within its time", format!("{id:?} at {now:?}, due {due:?}"));
        }
        let [before, after] = verdicts;
        match (answer, pending.ask) {
            (Answer::Tickets(run), Ask::Tickets(count)) => {
                // An outage may just have been waited through: a late block is overtaken.
                if !matches!(before, "serving" | "degraded" | "unavailable") {
                    return broken("the verdict is true", format!("{before} has served"));
                }
                self.on_tickets(run, count, issued, lease, now)
            }
            (Answer::Status, Ask::Status) => Ok(()),
            (Answer::Refused(Refusal::Unavailable), _) if after == "serving" => {
                broken("the verdict is true", format!("{after} refuses"))
            }
            (Answer::Refused(_), _) => Ok(()),
            _ => broken(
                "one final answer",
                format!("{answer:?} to {:?}", pending.ask),
            ),
        }
    }

    fn on_tickets(
        &mut self,
        run: &Run,
        count: u64,
        issued: &mut Issued,
        lease: Duration,
        now: Moment,
    ) -> Lawful {
        let nodes = self.numbering.max_nodes();
        if run.count != count || run.increment != nodes {
            return broken("a batch is one run", format!("{run:?} for {count}"));
        }
        let offset = self.numbering.starting_offset() + self.numbering.node_number();
        let first = (run.first - offset) / nodes + 2;
        let last = first + (count - 1);
        if first <= self.last_issued {
            let before = self.last_issued;
            return broken("tickets increase", format!("{first} after {before}"));
        }
        self.last_issued = last;
        self.issued_high = self.issued_high.max(last);
        issued.add(first, last)?;
        let mut from = first;
        while from <= last {
            // What a fail-over has lost may lie across what was committed later.
            let newest = self
                .committed
                .range(..=from)
                .filter(|(_, (to, ..))| *to >= from)
                .max_by_key(|(_, (_, epoch, asked))| (epoch.number, *asked));
            let Some((_, (to, epoch, asked))) = newest else {
                return broken("committed before issued", format!("{from}"));
            };
            let Some((known, confirmed)) = self.confirmed else {
                return broken("nothing while closed", format!("{from}"));
            };
            if known != *epoch {
                return broken("a block dies with its epoch", format!("{from}: {epoch:?}"));
            }
            if confirmed + lease <= now {
                return broken(
                    "a block dies with its lease",
                    format!("{from} at {now:?}, confirmed {confirmed:?}"),
                );
            }
            if self.void_before > Some(*asked) {
                return broken("a block dies when the row closes", format!("{from}"));
            }
            from = to + 1;
        }
        Ok(())
    }

    /// After every step.
    pub fn on_step(&mut self, memory: Memory) -> Lawful {
        let was = std::mem::replace(&mut self.memory, memory);
        let same_number = was.epoch.number == memory.epoch.number;
        if memory.id < was.id
            || memory.epoch.number < was.epoch.number
            || (same_number && was.epoch != memory.epoch)
        {
            return broken("memory never falls", format!("{was:?} to {memory:?}"));
        }
        if memory.id < self.issued_high {
            return broken("memory covers all issued", format!("{memory:?}"));
        }
        Ok(())
    }

    /// When the first request must have been answered.
    pub fn overdue(&self, now: Moment) -> Lawful {
        for (id, pending) in &self.pending {
            if pending.deadline.max(self.late_until) < now {
                return broken("within its time", format!("{id:?} still waits at {now:?}"));
            }
        }
        Ok(())
    }

    /// Since it was last seen closed.
    pub fn has_seen_it_open(&self) -> bool {
        self.confirmed.is_some()
    }

    pub fn is_waiting_for(&self, id: RequestId) -> bool {
        self.pending.contains_key(&id)
    }
}
