//! Every history in the small: two servers, two processes of the shipped allocator, an operator,
//! each order of their steps to a depth. States are merged by a canonical text, in which times are
//! relative and names renumbered.
//!
//! Assumptions, beside those of `assumptions`: the operator is honest about what was issued; an old
//! primary stays writable, and is fenced only before it reaches what was opened elsewhere; nobody
//! reserves from an old row after a fail-back until an operator has opened it anew; `advance`
//! begins anew after a fail-over.

mod canonical;
mod state;

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use self::state::{State, Step};

/// What an exploration has found.
#[derive(Default)]
pub struct Report {
    pub states: usize,
    pub steps: usize,
    pub depth: usize,
    /// States at each depth.
    pub levels: Vec<usize>,
    /// The least depth of a fail-over, an `advance` and a fail-back with a block in flight.
    pub held_at: Option<usize>,
    pub tickets: usize,
    /// What was broken, and the steps that lead there.
    pub violation: Option<(String, Vec<String>)>,
}

/// Where an exploration begins: steps that are taken first, whatever they count.
#[derive(Clone, Copy, Debug)]
pub enum Chapter {
    /// Both processes have connected, and nothing has happened.
    Fresh,
    /// A block is in flight from before a fail-over that has lost it.
    FailedOver,
    /// And the new primary has been opened.
    Advanced,
}

/// All of them.
pub const CHAPTERS: [Chapter; 3] = [Chapter::Fresh, Chapter::FailedOver, Chapter::Advanced];

impl Chapter {
    fn steps(self) -> &'static [Step] {
        const STEPS: [Step; 7] = [
            Step::Request(0),
            Step::Execute(0, 0),
            Step::Request(1),
            Step::FailOver {
                loses: 1,
                fences: false,
            },
            Step::OperatorCloses,
            Step::Lease,
            Step::OperatorOpens,
        ];
        match self {
            Chapter::Fresh => &[],
            Chapter::FailedOver => &STEPS[..4],
            Chapter::Advanced => &STEPS,
        }
    }
}

/// Explores breadth-first to this depth.
pub fn explore(chapter: Chapter, depth_max: usize) -> Report {
    let mut report = Report::default();
    let mut start = State::new();
    for step in chapter.steps() {
        if let Err(violation) = start.perform(*step) {
            report.violation = Some((violation, vec![format!("{step:?}")]));
            return report;
        }
    }
    (start.requests, start.ticks) = (0, 0);
    let mut seen = Seen::new();
    let start_key = start.key();
    seen.insert(start_key, (start_key, Step::Second));
    let mut level = vec![(start_key, start)];
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    for depth in 1..=depth_max {
        let share = level.len().div_ceil(threads).max(1);
        let parts: Vec<Vec<Successor>> = std::thread::scope(|scope| {
            let parts = level.chunks(share);
            let parts = parts.map(|part| scope.spawn(|| successors(part, &seen)));
            let parts: Vec<_> = parts.collect();
            let parts = parts.into_iter();
            parts.map(|part| part.join().expect("it ends")).collect()
        });
        let mut next = Vec::new();
        for successor in parts.into_iter().flatten() {
            report.steps += 1;
            let Successor { from, step, to } = successor;
            let (key, state) = match to {
                Ok(Some(to)) => to,
                Ok(None) => continue,
                Err(violation) => {
                    report.violation = Some((violation, path(&seen, start_key, from, step)));
                    return report;
                }
            };
            report.tickets = report.tickets.max(state.issued.len());
            if report.held_at.is_none() && state.holds_the_path() {
                report.held_at = Some(depth);
            }
            if let Entry::Vacant(entry) = seen.entry(key) {
                entry.insert((from, step));
                next.push((key, *state));
            }
        }
        report.depth = depth;
        report.levels.push(next.len());
        level = next;
    }
    report.states = seen.len();
    report
}

type Seen = HashMap<u64, (u64, Step)>;

/// What a step leads to; `None` when that is known.
struct Successor {
    from: u64,
    step: Step,
    to: Result<Option<(u64, Box<State>)>, String>,
}

fn successors(level: &[(u64, State)], seen: &Seen) -> Vec<Successor> {
    let mut found = Vec::new();
    for (from, state) in level {
        for step in state.steps() {
            let mut after = state.clone();
            let to = after.perform(step).map(|()| {
                let key = after.key();
                (!seen.contains_key(&key)).then(|| (key, Box::new(after)))
            });
            let from = *from;
            found.push(Successor { from, step, to });
        }
    }
    found
}

fn path(seen: &Seen, start: u64, from: u64, last: Step) -> Vec<String> {
    let mut path = vec![format!("{last:?}")];
    let mut at = from;
    while at != start {
        let (parent, step) = seen[&at];
        path.push(format!("{step:?}"));
        at = parent;
    }
    path.reverse();
    path
}
