//! How often each fault and each state was entered: one that never was is a hole in the search.

use std::collections::BTreeMap;

/// Everything that a search must have entered.
pub const EXPECTED: &[&str] = &[
    "answer: exhausted",
    "answer: status",
    "answer: tickets",
    "answer: timed out",
    "answer: unavailable",
    "assumption: a stale row is reached first by who knows more",
    "assumption: an advance begins anew after a fail-over",
    "assumption: an old primary is fenced",
    "assumption: past covers the absent",
    "client: disconnected",
    "database: close refused",
    "database: closed behind",
    "database: connected",
    "database: connection replaced",
    "database: demoted with its sessions",
    "database: fail-back",
    "database: fail-over",
    "database: fail-over with loss",
    "database: misfit",
    "database: outage",
    "database: read",
    "database: read-only",
    "database: rejoined",
    "database: reserved",
    "database: reserve refused",
    "database: restored",
    "database: split brain",
    "database: the name follows late",
    "database: old program",
    "event: available",
    "event: closed",
    "event: dropped",
    "event: exhausted",
    "event: misfit",
    "event: opened",
    "event: unavailable",
    "job: answered after a change of the row",
    "job: doubled answer",
    "job: fault before it was done",
    "job: fault after it was done",
    "job: hung, then done",
    "job: hung, not done",
    "job: late",
    "job: on the old server",
    "job: read back later",
    "job: refused by a full server",
    "job: rolled back",
    "operator: close",
    "operator: honest past",
    "operator: interrupted",
    "operator: low past",
    "operator: open",
    "operator: open refused",
    "operator: twice",
    "process: continued",
    "process: cut off",
    "process: killed",
    "process: restarted with memory",
    "process: restarted with stale memory",
    "process: restarted without memory",
    "process: stopped",
    "process: woken early",
    "verdict: closed",
    "verdict: degraded",
    "verdict: exhausted",
    "verdict: misfit",
    "verdict: serving",
    "verdict: starting",
    "verdict: unavailable",
    "closing: behind",
    "closing: marked",
    "closing: other server",
    "closing: by operator",
    "closing: unowned",
    "closing: read-only",
];

/// Names and how often each was entered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(pub BTreeMap<&'static str, u64>);

impl Counts {
    pub fn count(&mut self, name: &'static str) {
        *self.0.entry(name).or_default() += 1;
    }

    pub fn add(&mut self, other: &Counts) {
        for (name, count) in &other.0 {
            *self.0.entry(name).or_default() += count;
        }
    }

    /// Expected, and never entered.
    pub fn missing(&self) -> Vec<&'static str> {
        let missing = |name: &&&str| !self.0.contains_key(**name);
        EXPECTED.iter().filter(missing).copied().collect()
    }
}
