//! Everything at one moment, the steps that can follow, and what each does.

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
pub(super) const PROCESSES: usize = 2;
const POOL: usize = 2;
/// How often each may happen in one history.
const REQUESTS_MAX: u8 = 2;
const TICKS_MAX: u8 = 3;
const FAILOVERS_MAX: u8 = 2;
const LOST_MAX: u8 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
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
pub(super) struct State {
    pub(super) now: Moment,
    pub(super) servers: [Server; 2],
    pub(super) primary: usize,
    pub(super) limits: [Option<u64>; 2],
    pub(super) stale: [bool; 2],
    pub(super) processes: [Process; PROCESSES],
    /// The server, the epoch that was closed, and when.
    pub(super) operator: Option<(Epoch, Moment)>,
    pub(super) reserved_high: u64,
    pub(super) newest: Epoch,
    pub(super) issued: Vec<(u64, u64)>,
    pub(super) requests: u8,
    pub(super) ticks: u8,
    pub(super) failovers: u8,
    pub(super) opened: u8,
    pub(super) opened_before: bool,
    pub(super) lost: u8,
}

#[derive(Clone)]
pub(super) struct Process {
    pub(super) allocator: Allocator,
    pub(super) sessions: [Option<usize>; POOL],
    pub(super) flights: Vec<Flight>,
    pub(super) last: u64,
    pub(super) memory: Memory,
    pub(super) requests: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Flight {
    pub(super) job: Job,
    pub(super) server: Option<usize>,
    /// What it has found, once executed.
    pub(super) found: Option<Result<Found, FaultKind>>,
}

impl State {
    /// Both processes have connected to the first server.
    pub(super) fn new() -> State {
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

    pub(super) fn steps(&self) -> Vec<Step> {
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

    pub(super) fn perform(&mut self, step: Step) -> Result<(), String> {
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
    pub(super) fn holds_the_path(&self) -> bool {
        let blocks = self.processes.iter().flat_map(|process| &process.flights);
        let in_flight = blocks
            .filter(|flight| matches!(flight.found, Some(Ok(Found::Reserved { .. }))))
            .count();
        self.failovers == 2 && self.opened_before && in_flight > 0
    }
}
