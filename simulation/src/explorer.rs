//! Every history in the small: two servers, two processes of the shipped allocator, an operator,
//! each order of their steps to a depth. States are merged by a canonical text, in which times are
//! relative and names renumbered.
//!
//! Assumptions, beside those of `assumptions`: the operator is honest about what was issued; an old
//! primary stays writable, and is fenced only before it reaches what was opened elsewhere; nobody
//! reserves from an old row after a fail-back until an operator has opened it anew; `advance`
//! begins anew after a fail-over.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use tickr::allocator::{Allocator, Answer, Ask, Options, RequestId};
use tickr::counter::{Epoch, Found, Job, Memory, Outcome, Server as Reached, Task};
use tickr::fault::{Fault, FaultKind};
use tickr::moment::{Moment, Next};
use tickr::ticket::Numbering;

use crate::assumptions;
use crate::database::{Owned, Row, Server, is_still_closed};

const LEASE: Duration = Duration::from_secs(2);
const MARGIN: u64 = 2;
const PROCESSES: usize = 2;
const POOL: usize = 2;
/// How often each may happen in one history.
const REQUESTS_MAX: u8 = 2;
const TICKS_MAX: u8 = 3;
const FAILOVERS_MAX: u8 = 2;
const LOST_MAX: u8 = 1;

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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Request(usize),
    /// A job is executed on the server of its session.
    Execute(usize, usize),
    Answer(usize, usize),
    /// The answer is lost, and the session with it.
    Lose(usize, usize),
    FailOver {
        loses: usize,
        fences: bool,
    },
    OperatorCloses,
    OperatorOpens,
    Second,
    Lease,
}

#[derive(Clone)]
struct State {
    now: Moment,
    servers: [Server; 2],
    primary: usize,
    limits: [Option<u64>; 2],
    stale: [bool; 2],
    processes: [Process; PROCESSES],
    /// The server, the epoch that was closed, and when.
    operator: Option<(Epoch, Moment)>,
    reserved_high: u64,
    newest: Epoch,
    issued: Vec<(u64, u64)>,
    requests: u8,
    ticks: u8,
    failovers: u8,
    opened: u8,
    opened_before: bool,
    lost: u8,
}

#[derive(Clone)]
struct Process {
    allocator: Allocator,
    sessions: [Option<usize>; POOL],
    flights: Vec<Flight>,
    last: u64,
    memory: Memory,
    requests: u64,
}

#[derive(Clone, Debug)]
struct Flight {
    job: Job,
    server: Option<usize>,
    /// What it has found, once executed.
    found: Option<Result<Found, FaultKind>>,
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

impl State {
    /// Both processes have connected to the first server.
    fn new() -> State {
        let now = Moment::from_nanos(1_000_000_000_000);
        let epoch = Epoch { number: 1, tag: 1 };
        let row = Row {
            id: 1,
            mark: 0,
            owner: Owned::By(0),
            epoch,
        };
        let options = |seed| Options {
            numbering: Numbering::new(1, 0, 0).expect("made up well"),
            pool_size: POOL,
            timeout: Duration::from_secs(10),
            prefetch: Duration::ZERO,
            seed,
            remembered: Memory::default(),
        };
        let process = || Process {
            allocator: Allocator::new(options(0), now),
            sessions: [None; POOL],
            flights: Vec::new(),
            last: 0,
            memory: Memory::default(),
            requests: 0,
        };
        let mut state = State {
            now,
            servers: [0, 1].map(|index| Server::new(index, row, LEASE, now)),
            primary: 0,
            limits: [None; 2],
            stale: [false; 2],
            processes: [process(), process()],
            operator: None,
            reserved_high: 1,
            newest: epoch,
            issued: Vec::new(),
            requests: 0,
            ticks: 0,
            failovers: 0,
            opened: 0,
            opened_before: false,
            lost: 0,
        };
        for process in 0..PROCESSES {
            state.turn(process).expect("nothing was issued yet");
            while !state.processes[process].flights.is_empty() {
                state.execute(process, 0);
                state.answer(process, 0, false).expect("nothing is issued");
            }
        }
        state
    }

    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for (process, own) in self.processes.iter().enumerate() {
            if self.requests < REQUESTS_MAX {
                steps.push(Step::Request(process));
            }
            for (at, flight) in own.flights.iter().enumerate() {
                let reserves = matches!(flight.job.task, Task::Reserve { .. });
                let connects = matches!(flight.job.task, Task::Connect { .. });
                match flight.found {
                    // What happens while a connection is made is as if it had been before.
                    None if connects => steps.push(Step::Answer(process, at)),
                    None => steps.push(Step::Execute(process, at)),
                    Some(_) => {
                        steps.push(Step::Answer(process, at));
                        if self.lost < LOST_MAX && reserves {
                            steps.push(Step::Lose(process, at));
                        }
                    }
                }
            }
        }
        if self.failovers < FAILOVERS_MAX {
            let most = match self.failovers {
                0 => self.servers[self.primary].log.len().min(2),
                _ => 1,
            };
            for loses in 0..most {
                steps.extend([false, true].map(|fences| Step::FailOver { loses, fences }));
            }
        }
        match self.operator {
            None if self.opened < 2 => steps.push(Step::OperatorCloses),
            Some((_, at)) if at + LEASE < self.now => steps.push(Step::OperatorOpens),
            _ => {}
        }
        if self.ticks < TICKS_MAX {
            steps.extend([Step::Second, Step::Lease]);
        }
        steps
    }

    fn perform(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Request(process) => {
                self.requests += 1;
                let now = self.now;
                let own = &mut self.processes[process];
                own.requests += 1;
                let id = RequestId {
                    connection: own.requests,
                    sequence: 0,
                };
                own.allocator.submit(id, Ask::Tickets(1), now);
                self.turn(process)
            }
            Step::Execute(process, at) => {
                self.execute(process, at);
                Ok(())
            }
            Step::Answer(process, at) => self.answer(process, at, false),
            Step::Lose(process, at) => {
                self.lost += 1;
                self.answer(process, at, true)
            }
            Step::FailOver { loses, fences } => {
                self.fail_over(loses, fences);
                Ok(())
            }
            Step::OperatorCloses => {
                let (now, primary) = (self.now, self.primary);
                self.servers[primary].close_by_hand(now);
                self.operator = Some((self.servers[primary].row.epoch, now));
                Ok(())
            }
            Step::OperatorOpens => {
                self.open();
                Ok(())
            }
            Step::Second => self.tick(Duration::from_millis(1_001)),
            Step::Lease => self.tick(LEASE + Duration::from_millis(2)),
        }
    }

    fn tick(&mut self, time: Duration) -> Result<(), String> {
        self.ticks += 1;
        self.now += time;
        (0..PROCESSES).try_for_each(|process| self.turn(process))
    }

    fn fail_over(&mut self, loses: usize, fences: bool) {
        let from = self.primary;
        let to = 1 - from;
        if self.failovers == 0 {
            let log = &self.servers[from].log;
            let log = log[..log.len() - loses].to_vec();
            self.servers[to].row = log[log.len() - 1].row;
            self.servers[to].log = log;
        }
        self.failovers += 1;
        self.opened_before |= self.opened > 0;
        self.servers[to].read_only = false;
        self.servers[to].fenced = false;
        self.servers[from].fenced = fences;
        self.primary = to;
        self.operator = None;
        let server = &self.servers[to];
        self.stale[to] = assumptions::is_stale(server, self.reserved_high, self.newest);
    }

    fn open(&mut self) {
        let (closed, _) = self.operator.take().expect("it has closed");
        let primary = self.primary;
        let read = self.servers[primary].row;
        if !is_still_closed(closed, read.epoch) {
            return;
        }
        let issued = self.issued.iter().map(|(_, last)| *last).max();
        // Nobody has cut off the old primary: what is reserved there may still be issued.
        let old = self.servers[1 - primary].row.id;
        let past = issued.unwrap_or(0).max(old.saturating_sub(MARGIN));
        let start = read.id.max(read.mark).max(past) + MARGIN;
        let tag = 2 + u64::from(self.opened);
        let now = self.now;
        if self.servers[primary].open(read, start, tag, now) {
            self.opened += 1;
            self.stale[primary] = false;
            self.limits[primary] = None;
            let other = &mut self.limits[1 - primary];
            *other = Some(other.map_or(start, |limit| limit.min(start)));
            let epoch = self.servers[primary].row.epoch;
            if epoch.number >= self.newest.number {
                self.newest = epoch;
            }
        }
    }

    fn execute(&mut self, process: usize, at: usize) {
        let now = self.now;
        let flight = &mut self.processes[process].flights[at];
        let server = match (&flight.job.task, flight.server) {
            (Task::Connect { .. }, _) => self.primary,
            (_, Some(server)) => server,
            (_, None) => {
                flight.found = Some(Err(FaultKind::Lost));
                return;
            }
        };
        flight.server = Some(server);
        let own = &mut self.servers[server];
        if own.fenced {
            flight.found = Some(Err(FaultKind::Lost));
            return;
        }
        let mut last = None;
        match flight.job.task {
            Task::Reserve {
                count,
                epoch,
                floor,
            } => {
                let kept_away = self.stale[server] && own.is_open() && own.row.epoch == epoch;
                if assumptions::must_be_fenced(own, self.limits[server], count)
                    && server != self.primary
                {
                    own.fenced = true;
                }
                if own.fenced || (kept_away && floor <= own.row.id) {
                    flight.found = Some(Err(FaultKind::Lost));
                    return;
                }
                last = own.reserve(count, epoch, floor, u64::MAX, now);
                self.reserved_high = self.reserved_high.max(last.unwrap_or(0));
            }
            Task::Close { memory } => {
                if !own.refuses_writes(false) {
                    own.close(&memory, now);
                }
            }
            Task::Connect { .. } | Task::Read => {}
        }
        let view = own.view();
        flight.found = Some(Ok(match (&flight.job.task, last) {
            (Task::Reserve { .. }, Some(last)) => Found::Reserved { last },
            (Task::Reserve { .. }, None) => Found::Refused { view },
            (Task::Close { .. }, _) => Found::Closed { view },
            (Task::Read, _) => Found::Read {
                view,
                warnings: None,
            },
            (Task::Connect { .. }, _) => Found::Connected {
                view,
                server: Reached {
                    version: String::new(),
                    connection: flight.job.id.0,
                    identity: String::new(),
                    warnings: Vec::new(),
                },
            },
        }));
    }

    fn answer(&mut self, process: usize, at: usize, lost: bool) -> Result<(), String> {
        let now = self.now;
        if self.processes[process].flights[at].found.is_none() {
            self.execute(process, at);
        }
        let own = &mut self.processes[process];
        let flight = own.flights.remove(at);
        let fault = |kind| Err(Fault::new(kind, ""));
        let found = match flight.found.expect("only what was executed is answered") {
            _ if lost => fault(FaultKind::Lost),
            Err(kind) => fault(kind),
            Ok(found) => Ok(found),
        };
        let session = &mut own.sessions[flight.job.worker];
        match found {
            Ok(Found::Connected { .. }) => *session = flight.server,
            Ok(_) => {}
            Err(_) => *session = None,
        }
        let id = flight.job.id;
        own.allocator.on_outcome(Outcome { id, found }, now);
        self.turn(process)
    }

    fn turn(&mut self, process: usize) -> Result<(), String> {
        let now = self.now;
        let own = &mut self.processes[process];
        for _ in 0..100 {
            if let Next::Ready(completion) = own.allocator.next_completion(now) {
                if let Answer::Tickets(run) = completion.answer {
                    let (first, last) = (run.first + 2, run.first + 1 + run.count);
                    if first <= own.last {
                        return Err(format!("ticket {first} after {}", own.last));
                    }
                    own.last = last;
                    for (low, high) in &self.issued {
                        if first <= *high && *low <= last {
                            return Err(format!("ticket {first} twice"));
                        }
                    }
                    self.issued.push((first, last));
                    self.issued.sort();
                }
            } else if let Next::Ready(job) = own.allocator.next_job(now) {
                let server = own.sessions[job.worker];
                own.flights.push(Flight {
                    job,
                    server,
                    found: None,
                });
            } else {
                while own.allocator.next_event().is_some() {}
                let memory = own.allocator.memory();
                let fell = own.memory.is_ahead_of(memory.epoch, memory.id)
                    && own.memory.epoch.number >= memory.epoch.number;
                own.memory = memory;
                return match fell {
                    true => Err("memory has fallen".to_string()),
                    false => Ok(()),
                };
            }
        }
        Err("a busy loop".to_string())
    }

    /// A fail-over, an opening, a fail-back, and a block from before that is not answered yet.
    fn holds_the_path(&self) -> bool {
        let blocks = self.processes.iter().flat_map(|process| &process.flights);
        let in_flight = blocks
            .filter(|flight| matches!(flight.found, Some(Ok(Found::Reserved { .. }))))
            .count();
        self.failovers == 2 && self.opened_before && in_flight > 0
    }

    /// The same for states that differ only in what no step can tell.
    fn key(&self) -> u64 {
        let mut text = String::new();
        let mut texts = [const { String::new() }; PROCESSES];
        for (process, text) in self.processes.iter().zip(&mut texts) {
            let Process {
                allocator,
                sessions,
                flights,
                last,
                ..
            } = process;
            let raw = format!("{allocator:?}{sessions:?}{flights:?}{last}");
            canonical(&raw, self.now, text);
        }
        // Which is which makes no difference.
        texts.sort_unstable();
        texts.iter().for_each(|own| text.push_str(own));
        let closed = self.operator.map(|(epoch, at)| (epoch, self.now.since(at)));
        for server in &self.servers {
            let _ = write!(
                text,
                "{:?}{}{}",
                server.row, server.read_only, server.fenced
            );
            if self.failovers == 0 && server.index == self.primary {
                let rows = server.log.iter().rev().take(3).map(|commit| commit.row);
                let _ = write!(text, "{:?}", rows.collect::<Vec<_>>());
            }
        }
        let _ = write!(
            text,
            "{closed:?}{}{:?}{:?}{}{:?}{:?}{}{}{}{}{}{}",
            self.primary,
            self.limits,
            self.stale,
            self.reserved_high,
            self.newest,
            self.issued,
            self.requests,
            self.ticks,
            self.failovers,
            self.opened,
            self.opened_before,
            self.lost,
        );
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        hasher.finish()
    }
}

/// Copies a state's text with moments relative to now and with names by their rank.
fn canonical(raw: &str, now: Moment, text: &mut String) {
    const NAMES: [&str; 5] = [
        "JobId(",
        "connection: ",
        "replaces: Some(",
        "used: ",
        "uses: ",
    ];
    let number = |at: usize| {
        let digits = raw[at..].bytes().take_while(u8::is_ascii_digit).count();
        raw[at..at + digits]
            .parse::<u64>()
            .ok()
            .map(|it| (it, at + digits))
    };
    let class = |name: usize| match name {
        0 => 0,
        1 | 2 => 1,
        _ => 2,
    };
    let mut places = Vec::new();
    let mut ranks: [Vec<u64>; 3] = Default::default();
    for (index, name) in NAMES.iter().enumerate() {
        for (at, _) in raw.match_indices(name) {
            if let Some((value, end)) = number(at + name.len()) {
                places.push((at + name.len(), end, Some((class(index), value)), value));
                ranks[class(index)].push(value);
            }
        }
    }
    for (at, name) in raw.match_indices("Moment(") {
        if let Some((value, end)) = number(at + name.len()) {
            places.push((at + name.len(), end, None, value));
        }
    }
    for ranks in &mut ranks {
        ranks.sort_unstable();
        ranks.dedup();
    }
    places.sort_unstable();
    let mut copied = 0;
    for (from, to, named, value) in places {
        text.push_str(&raw[copied..from]);
        let _ = match named {
            Some((class, value)) => {
                let rank = ranks[class].binary_search(&value).unwrap_or_default();
                write!(text, "{rank}")
            }
            None => write!(text, "{}", value as i64 - now.as_nanos() as i64),
        };
        copied = to;
    }
    text.push_str(&raw[copied..]);
}
