//! How often each fault and each state was entered: one that never was is a hole in the search.

/// Everything that a search among allocators must have entered.
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

/// Everything that a search among nodes must have entered.
pub const EXPECTED_OF_NODES: &[&str] = &[
    "assumption: a stale row is reached first by who knows more",
    "assumption: an advance begins anew after a fail-over",
    "assumption: past covers the absent",
    "client: crowd",
    "client: cut off for not reading",
    "client: gone",
    "client: gone before the answer",
    "client: gone while it waits",
    "client: half a request",
    "client: half closed before the answer",
    "client: half-closed",
    "client: hung up",
    "client: idle for too long",
    "client: reset",
    "client: slow reader",
    "database: closed behind",
    "database: connected",
    "database: connection replaced",
    "database: demoted with its sessions",
    "database: fail-back",
    "database: fail-over",
    "database: fail-over with loss",
    "database: misfit",
    "database: old program",
    "database: outage",
    "database: read",
    "database: read-only",
    "database: rejoined",
    "database: reserve refused",
    "database: reserved",
    "database: restored",
    "database: split brain",
    "database: the name follows late",
    "http: 100",
    "http: 200 batch",
    "http: 200 live",
    "http: 200 metrics",
    "http: 200 options",
    "http: 200 ready",
    "http: 200 status",
    "http: 200 ticket",
    "http: 400",
    "http: 401",
    "http: 404",
    "http: 405",
    "http: 408",
    "http: 413",
    "http: 414",
    "http: 417",
    "http: 431",
    "http: 501",
    "http: 503 no ticket",
    "http: 503 not ready",
    "http: 503 one connection too many",
    "http: 503 status",
    "http: 505",
    "job: answered after a change of the row",
    "job: doubled answer",
    "job: fault after it was done",
    "job: fault before it was done",
    "job: hung, not done",
    "job: hung, then done",
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
    "operator: past as a node has said",
    "operator: twice",
    "process: cannot start",
    "process: continued",
    "process: cut off",
    "process: killed",
    "process: restarted with memory",
    "process: restarted with stale memory",
    "process: restarted without memory",
    "process: stopped",
    "process: stopped by its time-out",
    "process: stopped when all was answered",
    "process: told to stop",
    "process: woken early",
    "socket: accept aborted",
    "socket: accept finds no file",
    "socket: accept interrupted",
    "socket: cannot be watched",
    "socket: partial write",
    "socket: read interrupted",
    "socket: read reset",
    "socket: read would block",
    "socket: short read",
    "socket: write interrupted",
    "socket: write reset",
    "socket: write would block",
    "status: closed",
    "status: draining",
    "status: exhausted",
    "status: serving",
    "status: unavailable",
    "verdict: compared",
    "verdict: ready without a database",
];

/// Names and how often each was entered.
#[derive(Clone, Debug, Default)]
pub struct Counts(Vec<(&'static str, u64)>);

impl Counts {
    pub fn count(&mut self, name: &'static str) {
        *self.of(name) += 1;
    }

    pub fn add(&mut self, other: &Counts) {
        for (name, count) in &other.0 {
            *self.of(name) += count;
        }
    }

    fn of(&mut self, name: &'static str) -> &mut u64 {
        // The same name is mostly the same text at the same place.
        let same = |(known, _): &(&str, u64)| std::ptr::eq(*known, name);
        let known = self.0.iter().position(same);
        let known = known.or_else(|| self.0.iter().position(|(known, _)| *known == name));
        let at = known.unwrap_or_else(|| {
            self.0.push((name, 0));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }

    /// By name.
    pub fn sorted(mut self) -> Vec<(&'static str, u64)> {
        self.0.sort_unstable();
        self.0
    }

    /// Expected, and never entered.
    pub fn missing(&self, expected: &[&'static str]) -> Vec<&'static str> {
        let missing = |name: &&&str| self.0.iter().all(|(known, _)| known != *name);
        expected.iter().filter(missing).copied().collect()
    }
}
