//! A history: processes, servers and an operator on virtual time, with everything that can go
//! wrong chosen by the tape.

use std::collections::BTreeMap;
use std::time::Duration;

use tickr::allocator::{Allocator, Ask, Closing, Event, Options, Refusal, RequestId, Verdict};
use tickr::counter::{Epoch, Found, Job, JobId, Memory, Outcome, Server as Reached, Task};
use tickr::fault::{Fault, FaultKind};
use tickr::moment::{Moment, Next};
use tickr::ticket::Numbering;

use crate::assumptions::{self, Stale};
use crate::checker::{Issued, Lawful, Violation, Witness, broken};
use crate::counts::Counts;
use crate::database::{Commit, Owned, Row, Server};
use crate::tape::Tape;

const SECOND: Duration = Duration::from_secs(1);
/// More at one moment is a busy loop.
const STEPS_PER_TURN_MAX: usize = 400;
/// More in a second, for no request, is one as well.
const JOBS_PER_SECOND_MAX: usize = 100;
/// The operator opens a row that the living have closed once more, at most so often.
const ADVANCES_MAX: usize = 12;

/// What became of a history.
pub struct History {
    pub verdict: Lawful,
    pub steps: u64,
    pub counts: Counts,
    /// Of all that happened, in its order.
    pub digest: u64,
    pub trace: Vec<String>,
    /// How often an operator had to advance before everybody served.
    pub advances: usize,
}

/// Runs the history of a tape.
pub fn history(tape: &[u8], traced: bool) -> History {
    let mut world = World::new(Tape::new(tape), traced);
    let verdict = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run()));
    let verdict = verdict.unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        let said = said.or_else(|| panic.downcast_ref::<&str>().map(|said| said.to_string()));
        broken("the allocator's own", said.unwrap_or_default())
    });
    History {
        verdict,
        steps: world.steps,
        counts: world.counts,
        digest: world.digest,
        trace: world.trace,
        advances: world.advances,
    }
}

struct World<'a> {
    tape: Tape<'a>,
    now: Moment,
    agenda: BTreeMap<(Moment, u64), Due>,
    sequence: u64,
    /// Faults have ended.
    calm: bool,
    numbering: Numbering,
    margin: u64,
    lease: Duration,
    /// Closing a row on a read-only server is an error, not 0 rows.
    says_read_only: bool,
    /// Of 256 jobs, so many go wrong.
    weather: u16,
    servers: Vec<Server>,
    stale: Vec<Stale>,
    /// What was opened elsewhere begins there.
    limits: Vec<Option<u64>>,
    primary: usize,
    reserved_high: u64,
    newest: Epoch,
    sessions: Vec<Session>,
    processes: Vec<Process>,
    /// Issued by incarnations that are dead and whose memory is lost.
    forgotten_high: u64,
    operators: Vec<Operator>,
    next_tag: u64,
    issued: Issued,
    counts: Counts,
    steps: u64,
    digest: u64,
    traced: bool,
    trace: Vec<String>,
    advances: usize,
}

#[derive(Clone, Copy)]
struct Session {
    server: usize,
    dead: bool,
}

struct Process {
    allocator: Allocator,
    witness: Witness,
    options: Options,
    incarnation: u64,
    alive: bool,
    stopped: bool,
    cut: bool,
    wake: Option<Moment>,
    /// The session of each thread that holds one.
    workers: Vec<Option<usize>>,
    /// The newest job of each.
    doing: Vec<Option<JobId>>,
    /// Since when it had nothing but prompt answers from the primary.
    clean: Option<Moment>,
    /// What came while it was stopped.
    inbox: Vec<Due>,
    /// What its state file has held, newest last.
    file: Vec<Memory>,
    next_connection: u64,
    /// Wake-ups in a row that changed nothing.
    idle_wakes: u32,
    /// The second that began then, and the jobs in it, since the newest request.
    second: Moment,
    second_jobs: usize,
    /// Jobs that go wrong, and are not answered yet.
    troubled: Vec<JobId>,
}

#[derive(Clone, Debug)]
enum Due {
    Execute(Flight),
    ReadBack(Flight, Option<u64>),
    Answer(Answer),
    Wake(usize, u64),
    Operate(u64),
}

#[derive(Clone, Debug)]
struct Answer {
    process: usize,
    incarnation: u64,
    worker: usize,
    outcome: Outcome,
    doubled: bool,
}

#[derive(Clone, Debug)]
struct Flight {
    process: usize,
    incarnation: u64,
    session: Option<usize>,
    job: Job,
    fate: Fate,
    /// Nobody hears of it any more.
    silent: bool,
}

/// What becomes of a job.
#[derive(Clone, Copy, Debug)]
struct Fate {
    executes: bool,
    execute_after: Duration,
    read_after: Duration,
    answer_after: Duration,
    /// It is answered so, whatever was done.
    fault: Option<FaultKind>,
    doubled: bool,
    /// The thread waits no longer; the server may do it all the same.
    gives_up: Option<Duration>,
    lands_on: Option<usize>,
}

struct Operator {
    id: u64,
    server: usize,
    phase: Phase,
    honest: bool,
    /// The opening that it has closed.
    closed: Epoch,
    /// Servers that were cut off before it closed.
    fenced: Vec<bool>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Close,
    Read,
    Open(Row),
}

impl<'a> World<'a> {
    fn new(mut tape: Tape<'a>, traced: bool) -> World<'a> {
        let now = Moment::from_nanos(1_000_000_000_000);
        let tiny = tape.chance(24);
        let numbering = match tiny {
            true => Numbering::new(u64::MAX / 700, 5, 3),
            false => Numbering::new(tape.pick(&[1, 10, 1000]), tape.pick(&[0, 7]), 0),
        };
        let numbering = numbering.expect("made up well");
        let lease = tape.millis(&[2_000, 10_000, 3_000, 1_000]);
        let epoch = Epoch { number: 1, tag: 1 };
        let row = Row {
            id: 1,
            mark: 0,
            owner: Owned::By(0),
            epoch,
        };
        let count = 2 + tape.below(2);
        let mut world = World {
            now,
            agenda: BTreeMap::new(),
            sequence: 0,
            calm: false,
            numbering,
            margin: tape.pick(&[10, 100, 1]),
            lease,
            says_read_only: tape.chance(128),
            weather: tape.pick(&[0, 4, 16, 48, 96]),
            servers: (0..count)
                .map(|index| Server::new(index, row, lease, now))
                .collect(),
            stale: vec![Stale::default(); count],
            limits: vec![None; count],
            primary: 0,
            reserved_high: 1,
            newest: epoch,
            sessions: Vec::new(),
            processes: Vec::new(),
            forgotten_high: 0,
            operators: Vec::new(),
            next_tag: 2,
            issued: Issued::default(),
            counts: Counts::default(),
            steps: 0,
            digest: 0,
            traced,
            trace: Vec::new(),
            advances: 0,
            tape,
        };
        for index in 0..1 + world.tape.below(3) {
            let timeout = world.tape.millis(&[500, 50, 100, 2_000, 10, 10_000]);
            let prefetch = world.tape.millis(&[0, 100, 1_000, 0, 2_000]);
            let options = Options {
                numbering,
                pool_size: world.tape.pick(&[1, 2, 3, 4]),
                timeout,
                prefetch: prefetch.min(lease),
                seed: index as u64,
                remembered: Memory::default(),
            };
            world.note(|| format!("process {index}: {options:?}"));
            world.processes.push(Process::new(options, now));
        }
        world
    }

    fn run(&mut self) -> Lawful {
        for process in 0..self.processes.len() {
            self.turn(process, Cause::Stimulus)?;
        }
        while !self.tape.is_at_end() {
            self.act()?;
        }
        self.heal()
    }

    // What may happen next.

    fn act(&mut self) -> Lawful {
        self.steps += 1;
        let lease = self.lease;
        match self.tape.byte() % 64 {
            0..20 => {
                let time = self.tape.millis(&[1, 3, 10, 30, 100, 250, 600]);
                self.pass(time)
            }
            20..24 => {
                let time = self.tape.pick(&[SECOND, lease / 2, lease, lease + SECOND]);
                self.pass(time)
            }
            24..42 => self.requests(),
            42 => self.disconnect(),
            43 | 44 => self.poke(),
            45 | 46 => self.kill(),
            47 | 48 => self.restart(),
            49 | 50 => self.stop_or_continue(),
            51 => self.cut(),
            52 | 53 => self.fail_over(),
            54 => self.restore(),
            55 => self.rejoin(),
            56..59 => self.operate(),
            59 => self.interrupt_operator(),
            60 => self.outage(),
            61 => self.misfit(),
            62 => self.toggle_read_only(),
            _ => self.old_program(),
        }
    }

    fn requests(&mut self) -> Lawful {
        let Some(process) = self.pick_process(|process| process.alive && !process.stopped) else {
            return Ok(());
        };
        let times = self.tape.pick(&[1, 1, 2, 5, 20]);
        for _ in 0..times {
            let ask = match self.tape.byte() % 16 {
                15 => Ask::Status,
                14 => Ask::Tickets(90),
                13 => Ask::Tickets(300),
                12 => Ask::Tickets(17),
                small => Ask::Tickets(1 + u64::from(small) / 4),
            };
            self.submit(process, ask);
        }
        self.turn(process, Cause::Stimulus)
    }

    fn submit(&mut self, process: usize, ask: Ask) -> RequestId {
        let now = self.now;
        let own = &mut self.processes[process];
        own.next_connection += 1;
        own.second_jobs = 0;
        let id = RequestId {
            connection: own.next_connection / 2,
            sequence: own.next_connection,
        };
        own.witness.on_submit(id, ask, now + own.options.timeout);
        own.allocator.submit(id, ask, now);
        self.note(|| format!("process {process}: {id:?} {ask:?}"));
        id
    }

    fn disconnect(&mut self) -> Lawful {
        let Some(process) = self.pick_process(|process| process.alive && !process.stopped) else {
            return Ok(());
        };
        self.counts.count("client: disconnected");
        let own = &mut self.processes[process];
        let connection = own.next_connection / 2;
        // No request comes over it any more.
        own.next_connection += 2;
        own.witness.on_cancel(connection);
        own.allocator.cancel(connection, self.now);
        self.note(|| format!("process {process}: connection {connection} is gone"));
        self.turn(process, Cause::Stimulus)
    }

    fn poke(&mut self) -> Lawful {
        let Some(process) = self.pick_process(|process| process.alive && !process.stopped) else {
            return Ok(());
        };
        self.counts.count("process: woken early");
        self.turn(process, Cause::Poke)
    }

    fn kill(&mut self) -> Lawful {
        let Some(process) = self.pick_process(|process| process.alive) else {
            return Ok(());
        };
        self.counts.count("process: killed");
        let own = &mut self.processes[process];
        (own.alive, own.stopped, own.clean, own.wake) = (false, false, None, None);
        own.inbox.clear();
        for session in own.workers.drain(..).flatten() {
            // What it was doing is done all the same, by chance: the server may notice late.
            self.sessions[session].dead |= own.incarnation.is_multiple_of(2);
        }
        self.note(|| format!("process {process} is killed"));
        Ok(())
    }

    fn restart(&mut self) -> Lawful {
        let Some(process) = self.pick_process(|process| !process.alive) else {
            return Ok(());
        };
        let choice = self.tape.below(3);
        let back = 1 + self.tape.below(4);
        let own = &self.processes[process];
        let (name, memory) = match choice {
            0 => ("process: restarted with memory", own.file.last()),
            1 => (
                "process: restarted with stale memory",
                own.file.iter().rev().nth(back),
            ),
            _ => ("process: restarted without memory", None),
        };
        let memory = memory.copied().unwrap_or_default();
        self.counts.count(name);
        self.note(|| format!("process {process} restarts, remembering {memory:?}"));
        self.start(process, memory)
    }

    fn start(&mut self, process: usize, memory: Memory) -> Lawful {
        let before = &self.processes[process];
        let covers = memory.id >= before.witness.issued_high;
        let high = before.witness.issued_high;
        let (incarnation, file) = (before.incarnation + 1, before.file.clone());
        let mut options = before.options.clone();
        options.remembered = memory;
        let mut next = Process::new(options, self.now);
        next.incarnation = incarnation;
        next.file = file;
        match covers {
            // It can raise the mark as its predecessor could.
            true => next.witness.issued_high = high,
            false => self.forgotten_high = self.forgotten_high.max(high),
        }
        self.processes[process] = next;
        for (server, stale) in self.servers.iter().zip(&mut self.stale) {
            stale.know[process] = stale.know[process] && covers && server.row.is_behind(&memory);
        }
        self.turn(process, Cause::Stimulus)
    }

    fn stop_or_continue(&mut self) -> Lawful {
        let Some(process) = self.pick_process(|process| process.alive) else {
            return Ok(());
        };
        let own = &mut self.processes[process];
        own.stopped = !own.stopped;
        own.clean = None;
        if own.stopped {
            self.counts.count("process: stopped");
            self.note(|| format!("process {process} is stopped"));
            return Ok(());
        }
        self.resume(process)
    }

    fn resume(&mut self, process: usize) -> Lawful {
        self.counts.count("process: continued");
        self.note(|| format!("process {process} is continued"));
        let own = &mut self.processes[process];
        own.stopped = false;
        own.witness.on_continue(self.now);
        let inbox = std::mem::take(&mut own.inbox);
        // The loop looks at the clock before it looks at what has come, or after.
        if self.tape.chance(128) {
            self.turn(process, Cause::Stimulus)?;
        }
        for due in inbox {
            self.perform(due)?;
        }
        self.turn(process, Cause::Stimulus)
    }

    fn cut(&mut self) -> Lawful {
        let Some(process) = self.pick_process(|process| process.alive) else {
            return Ok(());
        };
        self.counts.count("process: cut off");
        let own = &mut self.processes[process];
        own.cut = !own.cut;
        own.clean = None;
        self.note(|| format!("process {process} is cut off, or no longer"));
        Ok(())
    }

    fn fail_over(&mut self) -> Lawful {
        let to = (self.primary + 1 + self.tape.below(self.servers.len() - 1)) % self.servers.len();
        let lag = self.tape.pick(&[0usize, 0, 1, 3, 8, 30]);
        let choice = self.tape.byte();
        self.promote(to, lag, choice);
        Ok(())
    }

    /// The replica takes over with a prefix of the log, or an old primary with what it had.
    fn promote(&mut self, to: usize, lag: usize, choice: u8) {
        let from = self.primary;
        let clean = self.clean();
        let before = self.servers[from].clone();
        let is_old = !self.servers[to].read_only || self.servers[to].fenced;
        self.counts.count(match is_old {
            true => "database: fail-back",
            false => "database: fail-over",
        });
        if !is_old {
            let length = before.log.len().saturating_sub(lag).max(1);
            if length < before.log.len() {
                self.counts.count("database: fail-over with loss");
            }
            self.overwrite(to, before.log[..length].to_vec());
        }
        let new = &mut self.servers[to];
        (new.read_only, new.fenced, new.up) = (false, false, true);
        self.primary = to;
        match choice % 4 {
            0 | 1 => self.fence(from),
            2 => self.servers[from].read_only = true,
            _ => self.counts.count("database: split brain"),
        }
        self.note_stale(to, &before, clean);
        self.begin_anew();
        for process in &mut self.processes {
            process.clean = process.clean.map(|_| self.now);
        }
        let row = self.servers[to].row;
        self.note(|| format!("fail-over from {from} to {to}, choice {choice}: {row:?}"));
    }

    fn restore(&mut self) -> Lawful {
        let primary = self.primary;
        let clean = self.clean();
        let before = self.servers[primary].clone();
        let back = self.tape.pick(&[1usize, 2, 5, 20, 60, 250]);
        let length = before.log.len().saturating_sub(back).max(1);
        self.counts.count("database: restored");
        let sessions = self.sessions.clone();
        self.overwrite(primary, before.log[..length].to_vec());
        if self.tape.chance(128) {
            // The row alone, by hand.
            self.sessions = sessions;
        }
        self.note_stale(primary, &before, clean);
        self.begin_anew();
        for process in &mut self.processes {
            process.clean = process.clean.map(|_| self.now);
        }
        let row = self.servers[primary].row;
        self.note(|| format!("server {primary} is restored: {row:?}"));
        Ok(())
    }

    /// An old primary becomes a replica of the new one: its row is overwritten.
    fn rejoin(&mut self) -> Lawful {
        let primary = self.primary;
        let server = self.tape.below(self.servers.len());
        if server == primary {
            return Ok(());
        }
        self.counts.count("database: rejoined");
        let log = self.servers[primary].log.clone();
        let lag = self.tape.pick(&[0usize, 1, 5]);
        let length = log.len().saturating_sub(lag).max(1);
        self.overwrite(server, log[..length].to_vec());
        self.servers[server].read_only = true;
        self.servers[server].fenced = false;
        self.note(|| format!("server {server} rejoins"));
        Ok(())
    }

    fn overwrite(&mut self, server: usize, log: Vec<Commit>) {
        let own = &mut self.servers[server];
        own.row = log.last().expect("a log is never empty").row;
        own.log = log;
        // It takes the server down: what it was doing is lost.
        for session in &mut self.sessions {
            session.dead |= session.server == server;
        }
    }

    /// *An `advance` that a fail-over or a restore has overtaken is begun anew*: it has waited for
    /// the leases of another row.
    fn begin_anew(&mut self) {
        if !self.operators.is_empty() {
            self.operators.clear();
            self.counts
                .count("assumption: an advance begins anew after a fail-over");
        }
    }

    fn note_stale(&mut self, server: usize, before: &Server, clean: [Option<Moment>; 4]) {
        let own = &self.servers[server];
        self.stale[server] = Stale {
            stands: assumptions::is_stale(own, self.reserved_high, self.newest),
            know: assumptions::who_knows(before, &own.row, clean, self.now),
        };
    }

    fn fence(&mut self, server: usize) {
        self.servers[server].fenced = true;
        for session in &mut self.sessions {
            session.dead |= session.server == server;
        }
    }

    fn outage(&mut self) -> Lawful {
        let primary = self.primary;
        self.counts.count("database: outage");
        let server = &mut self.servers[primary];
        server.up = !server.up;
        for session in &mut self.sessions {
            session.dead |= session.server == primary && self.tape.chance(128);
        }
        self.note(|| format!("server {primary} goes down, or comes up"));
        Ok(())
    }

    fn misfit(&mut self) -> Lawful {
        self.counts.count("database: misfit");
        let kind = self.tape.pick(&[
            FaultKind::NoTable,
            FaultKind::SettingsDiffer,
            FaultKind::NoCounterRow,
        ]);
        let server = &mut self.servers[self.primary];
        server.misfit = match server.misfit {
            None => Some(kind),
            Some(_) => None,
        };
        self.note(|| "what is stored is spoilt, or mended".to_string());
        Ok(())
    }

    fn toggle_read_only(&mut self) -> Lawful {
        self.counts.count("database: read-only");
        let server = &mut self.servers[self.primary];
        server.read_only = !server.read_only;
        self.note(|| "the primary is made read-only, or writable".to_string());
        if self.tape.chance(128) {
            let time = self.tape.millis(&[10, 250, 600, 1_100]);
            self.pass(time)?;
            let server = &mut self.servers[self.primary];
            server.read_only = !server.read_only;
            self.note(|| "and back".to_string());
        }
        Ok(())
    }

    /// `REPLACE INTO tickets (stub) VALUES ('a')`.
    fn old_program(&mut self) -> Lawful {
        if !self.tape.chance(96) {
            return Ok(());
        }
        self.counts.count("database: old program");
        let now = self.now;
        let server = &mut self.servers[self.primary];
        server.row = Row {
            id: server.row.id + 1,
            mark: 0,
            owner: Owned::Nobody,
            epoch: Epoch::default(),
        };
        let row = server.row;
        server.log.push(Commit { row, at: now });
        self.note(|| "an old program replaces the row".to_string());
        Ok(())
    }

    // The operator.

    fn operate(&mut self) -> Lawful {
        if self.operators.len() >= 2 {
            return Ok(());
        }
        if !self.operators.is_empty() {
            self.counts.count("operator: twice");
        }
        let honest = !self.tape.chance(160);
        self.begin_advance(honest);
        Ok(())
    }

    fn begin_advance(&mut self, honest: bool) {
        let id = self.sequence;
        self.operators.push(Operator {
            id,
            server: self.primary,
            phase: Phase::Close,
            honest,
            closed: Epoch::default(),
            fenced: self.servers.iter().map(|server| server.fenced).collect(),
        });
        self.plan(self.now, Due::Operate(id));
    }

    fn interrupt_operator(&mut self) -> Lawful {
        if self.operators.pop().is_some() {
            self.counts.count("operator: interrupted");
            self.note(|| "the operator is interrupted".to_string());
        }
        Ok(())
    }

    /// One step of `tickr db advance`.
    fn on_operate(&mut self, id: u64) -> Lawful {
        let Some(at) = self.operators.iter().position(|known| known.id == id) else {
            return Ok(());
        };
        let mut operator = self.operators.remove(at);
        let now = self.now;
        let (primary, server) = (self.primary, operator.server);
        // An operator works on the server that serves: another one is fenced, or is no matter.
        if server != primary || !self.servers[server].up {
            self.counts.count("operator: interrupted");
            return Ok(());
        }
        match operator.phase {
            Phase::Close => {
                let own = &mut self.servers[server];
                if !own.close_for_operator(now) {
                    self.counts.count("operator: interrupted");
                    return Ok(());
                }
                operator.closed = own.row.epoch;
                operator.phase = Phase::Read;
                self.counts.count("operator: close");
                self.note(|| format!("the operator closes the row on {server}"));
                self.plan(now + self.lease + SECOND, Due::Operate(id));
            }
            Phase::Read => {
                operator.phase = Phase::Open(self.servers[server].row);
                self.plan(now + Duration::from_millis(1), Due::Operate(id));
            }
            Phase::Open(read) => {
                if !self.open(&operator, read) {
                    self.counts.count("operator: open refused");
                    self.note(|| "the row is not as it was read".to_string());
                    let row = self.servers[server].row;
                    let others = row.owner != Owned::Closed || row.epoch != operator.closed;
                    if others || self.servers[server].read_only {
                        return Ok(());
                    }
                    operator.phase = Phase::Read;
                    self.plan(now + Duration::from_millis(50), Due::Operate(id));
                } else {
                    return Ok(());
                }
            }
        }
        self.operators.push(operator);
        Ok(())
    }

    fn open(&mut self, operator: &Operator, read: Row) -> bool {
        let server = operator.server;
        let mut past = match operator.honest {
            true => self.issued_by_all(),
            false => 0,
        };
        let least = assumptions::least_past(self.issued_by_absent(operator), self.margin);
        if past < least {
            self.counts.count("assumption: past covers the absent");
            past = least;
        }
        let start = read.id.max(read.mark).max(past) + self.margin;
        if start > self.numbering.last_base() || read.epoch != operator.closed {
            return false;
        }
        let tag = self.next_tag;
        if !self.servers[server].open(read, start, tag, self.now) {
            return false;
        }
        self.next_tag += 1;
        self.counts.count("operator: open");
        self.counts.count(match operator.honest {
            true => "operator: honest past",
            false => "operator: low past",
        });
        let epoch = self.servers[server].row.epoch;
        if epoch.number >= self.newest.number {
            self.newest = epoch;
        }
        self.stale[server] = Stale::default();
        for (index, limit) in self.limits.iter_mut().enumerate() {
            *limit = (index != server).then(|| limit.map_or(start, |limit| limit.min(start)));
        }
        let row = self.servers[server].row;
        self.note(|| format!("the operator opens {server}: {row:?}"));
        true
    }

    fn issued_by_all(&self) -> u64 {
        let issued = self.processes.iter();
        let issued = issued.map(|process| process.witness.issued_high).max();
        issued.unwrap_or(0).max(self.forgotten_high)
    }

    /// By those who may not have raised the mark by now; and what may be issued from old primaries.
    fn issued_by_absent(&self, operator: &Operator) -> u64 {
        let relied = Duration::from_secs(2);
        let absent = self.processes.iter().filter(|process| {
            process.clean.is_none_or(|clean| clean + relied > self.now)
                || !process.alive
                || process.stopped
        });
        let issued = absent.map(|process| process.witness.issued_high).max();
        let others = self.servers.iter().filter(|server| {
            server.index != operator.server && !operator.fenced[server.index] && !server.read_only
        });
        let others = others.map(|server| server.row.id).max();
        self.forgotten_high
            .max(issued.unwrap_or(0))
            .max(others.unwrap_or(0))
    }

    // Jobs.

    fn issue(&mut self, process: usize, job: Job) -> Lawful {
        let fate = self.fate(process, &job);
        let own = &mut self.processes[process];
        let known = own.allocator.memory();
        own.witness.on_job(&job, known, self.now)?;
        own.doing[job.worker] = Some(job.id);
        if own.second + SECOND < self.now {
            (own.second, own.second_jobs) = (self.now, 0);
        }
        own.second_jobs += 1;
        if own.second_jobs > JOBS_PER_SECOND_MAX {
            return broken("no busy loop", format!("{:?} and so on", job.task));
        }
        let session = own.workers[job.worker];
        if let Task::Connect { replaces } = job.task {
            own.workers[job.worker] = None;
            if let Some(replaced) = replaces {
                self.counts.count("database: connection replaced");
                self.sessions[replaced as usize].dead = true;
            }
        }
        self.note(|| format!("process {process}: {job:?} {fate:?}"));
        let flight = Flight {
            process,
            incarnation: self.processes[process].incarnation,
            session,
            job,
            fate,
            silent: fate.gives_up.is_some(),
        };
        if let Some(after) = fate.gives_up {
            let fault = Fault::new(FaultKind::TimedOut, "");
            let heard = Flight {
                silent: false,
                ..flight.clone()
            };
            let own = &mut self.processes[process];
            own.clean = None;
            let mut heard = heard;
            heard.fate.answer_after = after;
            self.answer(heard, Err(fault))?;
        }
        self.plan(self.now + fate.execute_after, Due::Execute(flight));
        Ok(())
    }

    fn fate(&mut self, process: usize, job: &Job) -> Fate {
        let salt = job.id.0 * 7 + process as u64 * 3;
        let mut fate = Fate {
            executes: true,
            execute_after: Duration::from_micros(100 + salt % 11 * 30),
            read_after: Duration::ZERO,
            answer_after: Duration::from_micros(100 + salt % 13 * 20),
            fault: None,
            doubled: false,
            gives_up: None,
            lands_on: None,
        };
        if self.calm || self.weather == 0 || !self.tape.chance(self.weather) {
            return fate;
        }
        let own = &self.processes[process];
        let timeout = own.options.timeout;
        let io = (timeout * 2).max(SECOND);
        let pauses = [
            Duration::from_millis(3),
            timeout / 4,
            timeout / 2 + Duration::from_micros(1),
            timeout,
            timeout * 2,
            io + Duration::from_millis(700),
            self.lease,
            self.lease + SECOND,
            self.lease * 2,
        ];
        let choice = self.tape.byte() % 12;
        let pause = self.tape.pick(&pauses);
        self.counts.count(match choice {
            0..3 => {
                match self.tape.chance(128) {
                    true => fate.execute_after += pause,
                    false => fate.answer_after += pause,
                }
                "job: late"
            }
            3 => {
                fate.executes = false;
                fate.answer_after += pause.min(io);
                fate.fault = Some(FaultKind::Lost);
                "job: fault before it was done"
            }
            4 => {
                fate.answer_after += pause.min(io);
                fate.fault = Some(FaultKind::Lost);
                "job: fault after it was done"
            }
            5 => {
                // The thread gives up; the server does not know it.
                fate.execute_after = io + pause;
                fate.gives_up = Some(io);
                "job: hung, then done"
            }
            6 => {
                fate.executes = false;
                fate.answer_after = io + pause * 3;
                fate.fault = Some(FaultKind::TimedOut);
                "job: hung, not done"
            }
            7 => {
                fate.doubled = true;
                "job: doubled answer"
            }
            8 => {
                fate.executes = false;
                fate.fault = Some(self.tape.pick(&[FaultKind::Deadlock, FaultKind::LockWait]));
                "job: rolled back"
            }
            9 => {
                fate.executes = false;
                fate.fault = Some(self.tape.pick(&[
                    FaultKind::TooManyConnections,
                    FaultKind::DiskFull,
                    FaultKind::HostBlocked,
                    FaultKind::AccessDenied,
                ]));
                "job: refused by a full server"
            }
            10 => {
                fate.read_after = pause.min(io);
                "job: read back later"
            }
            _ => {
                fate.lands_on = Some(self.tape.below(self.servers.len()));
                "job: on the old server"
            }
        });
        if !matches!(choice, 7 | 8) {
            let own = &mut self.processes[process];
            own.clean = None;
            own.troubled.push(job.id);
        }
        fate
    }

    fn on_execute(&mut self, flight: Flight) -> Lawful {
        let now = self.now;
        let own = &self.processes[flight.process];
        let is_current = own.incarnation == flight.incarnation;
        if own.cut && is_current {
            let kind = match flight.job.task {
                Task::Connect { .. } => FaultKind::Unreachable,
                _ => FaultKind::Lost,
            };
            return self.answer(flight, Err(Fault::new(kind, "cut off")));
        }
        if let Task::Connect { .. } = flight.job.task {
            return self.on_connect(flight);
        }
        let Some(session) = flight.session else {
            return self.answer(flight, Err(Fault::new(FaultKind::Lost, "no session")));
        };
        let Session { server, dead } = self.sessions[session];
        if dead || !self.servers[server].up || self.servers[server].fenced {
            return self.answer(
                flight,
                Err(Fault::new(FaultKind::Lost, "the session is dead")),
            );
        }
        if server != self.primary {
            self.doubt(flight.process);
        }
        if let Some(kind) = self.servers[server].misfit {
            return self.answer(flight, Err(Fault::new(kind, "")));
        }
        if !flight.fate.executes {
            return self.answer(flight, Err(Fault::new(FaultKind::Lost, "")));
        }
        let mut last = None;
        match flight.job.task {
            Task::Connect { .. } | Task::Read => self.counts.count("database: read"),
            Task::Reserve {
                count,
                epoch,
                floor,
            } => {
                let row = self.servers[server].row;
                let may = assumptions::may_reserve(
                    &self.stale[server],
                    flight.process,
                    &row,
                    epoch,
                    floor,
                );
                let knew = is_current || !self.stale[server].stands;
                if !may || !knew {
                    // Its attempts are no loop of its own making.
                    self.processes[flight.process].second_jobs = 0;
                    self.counts
                        .count("assumption: a stale row is reached first by who knows more");
                    return self.answer(flight, Err(Fault::new(FaultKind::Lost, "kept away")));
                }
                if assumptions::must_be_fenced(&self.servers[server], self.limits[server], count)
                    && server != self.primary
                {
                    self.counts.count("assumption: an old primary is fenced");
                    self.fence(server);
                    return self.answer(flight, Err(Fault::new(FaultKind::Lost, "fenced")));
                }
                let most = self.numbering.last_base();
                last = self.servers[server].reserve(count, epoch, floor, most, now);
                if let Some(last) = last {
                    self.reserved_high = self.reserved_high.max(last);
                    if is_current {
                        let witness = &mut self.processes[flight.process].witness;
                        witness.on_commit(flight.job.id, last, count, epoch);
                    }
                }
            }
            Task::Close { .. } if self.servers[server].read_only && self.says_read_only => {
                return self.answer(flight, Err(Fault::new(FaultKind::ReadOnly, "")));
            }
            Task::Close { memory } => {
                let closed = self.servers[server].close(&memory, now);
                self.counts.count(match closed {
                    true => "database: closed behind",
                    false => "database: close refused",
                });
            }
        }
        match flight.fate.read_after.is_zero() || last.is_some() {
            true => self.on_read_back(flight, last),
            false => {
                self.plan(now + flight.fate.read_after, Due::ReadBack(flight, last));
                Ok(())
            }
        }
    }

    fn on_connect(&mut self, flight: Flight) -> Lawful {
        if let Some(kind) = flight.fate.fault.filter(|_| !flight.fate.executes) {
            return self.answer(flight, Err(Fault::new(kind, "")));
        }
        let server = flight.fate.lands_on.unwrap_or(self.primary);
        if server != self.primary {
            self.doubt(flight.process);
        }
        let own = &self.servers[server];
        if !own.up || own.fenced {
            return self.answer(flight, Err(Fault::new(FaultKind::Unreachable, "down")));
        }
        if let Some(kind) = own.misfit {
            return self.answer(flight, Err(Fault::new(kind, "")));
        }
        self.counts.count("database: connected");
        let connection = self.sessions.len();
        self.sessions.push(Session {
            server,
            dead: false,
        });
        let found = Found::Connected {
            view: self.servers[server].view(),
            server: Reached {
                version: "8.4".to_string(),
                connection: connection as u64,
                identity: server.to_string(),
                warnings: Vec::new(),
            },
        };
        self.answer(flight, Ok(found))
    }

    fn on_read_back(&mut self, flight: Flight, last: Option<u64>) -> Lawful {
        let session = flight.session.expect("it was executed");
        let Session { server, dead } = self.sessions[session];
        if dead {
            return self.answer(flight, Err(Fault::new(FaultKind::Lost, "the session died")));
        }
        let view = self.servers[server].view();
        let found = match (&flight.job.task, last) {
            (Task::Reserve { .. }, Some(last)) => {
                self.counts.count("database: reserved");
                Found::Reserved { last }
            }
            (Task::Reserve { .. }, None) => {
                self.counts.count("database: reserve refused");
                Found::Refused { view }
            }
            (Task::Close { .. }, _) => Found::Closed { view },
            _ => Found::Read {
                view,
                warnings: None,
            },
        };
        self.answer(flight, Ok(found))
    }

    fn answer(&mut self, flight: Flight, found: Result<Found, Fault>) -> Lawful {
        let Flight {
            process,
            incarnation,
            job,
            fate,
            ..
        } = flight;
        if found.is_err() {
            self.doubt(process);
        }
        if flight.silent {
            return Ok(());
        }
        let found = match fate.fault {
            Some(kind) => Err(Fault::new(kind, "")),
            None => found,
        };
        let mut answer = Answer {
            process,
            incarnation,
            worker: job.worker,
            outcome: Outcome { id: job.id, found },
            doubled: false,
        };
        let at = match self.calm {
            true => self.now + fate.answer_after.min(SECOND),
            false => self.now + fate.answer_after,
        };
        self.plan(at, Due::Answer(answer.clone()));
        if fate.doubled {
            let again = at + self.tape.millis(&[0, 1, 20, 3_000]);
            if self.tape.chance(64) {
                answer.outcome.found = Err(Fault::new(FaultKind::Lost, "a double"));
            }
            answer.doubled = true;
            self.plan(again, Due::Answer(answer));
        }
        Ok(())
    }

    fn on_answer(&mut self, answer: Answer) -> Lawful {
        let Answer {
            process,
            worker,
            outcome,
            doubled,
            ..
        } = answer;
        self.note(|| format!("process {process} learns {outcome:?}"));
        let now = self.now;
        let own = &mut self.processes[process];
        let memory = own.allocator.memory();
        let hung = own.allocator.status().hung;
        own.allocator.on_outcome(outcome.clone(), now);
        // What a thread says that was given up is not heard.
        let is_heard = own.allocator.status().hung == hung;
        if !doubled {
            let job = outcome.id;
            match &outcome.found {
                _ if !is_heard => {}
                Ok(Found::Connected { view, .. })
                | Ok(Found::Read { view, .. })
                | Ok(Found::Refused { view })
                | Ok(Found::Closed { view }) => own.witness.on_view(job, view, memory),
                Ok(Found::Reserved { .. }) => own.witness.on_reserved(job),
                Err(_) => {}
            }
            if own.doing[worker] == Some(job) {
                own.doing[worker] = None;
                match &outcome.found {
                    Ok(Found::Connected { server, .. }) => {
                        own.workers[worker] = Some(server.connection as usize);
                    }
                    Err(fault) if !fault.kind.row().spares_session => own.workers[worker] = None,
                    _ => {}
                }
            }
            own.troubled.retain(|troubled| *troubled != job);
            if !own.cut && own.troubled.is_empty() {
                own.clean = own.clean.or(Some(now));
            }
        }
        self.turn(process, Cause::Stimulus)
    }

    /// It can't be relied on to know the row for a while.
    fn doubt(&mut self, process: usize) {
        let own = &mut self.processes[process];
        own.clean = own.clean.map(|_| self.now);
    }

    fn clean(&self) -> [Option<Moment>; 4] {
        let mut clean = [None; 4];
        for (clean, process) in clean.iter_mut().zip(&self.processes) {
            *clean = process.clean.filter(|_| process.alive && !process.stopped);
        }
        clean
    }

    // Time.

    fn pass(&mut self, time: Duration) -> Lawful {
        self.run_until(self.now + time)
    }

    fn run_until(&mut self, until: Moment) -> Lawful {
        while let Some(entry) = self.agenda.first_entry() {
            let at = entry.key().0;
            if at > until {
                break;
            }
            let due = entry.remove();
            self.now = self.now.max(at);
            self.perform(due)?;
        }
        self.now = until;
        for process in &self.processes {
            if process.alive && !process.stopped {
                process.witness.overdue(self.now)?;
            }
        }
        Ok(())
    }

    fn perform(&mut self, due: Due) -> Lawful {
        self.steps += 1;
        match due {
            Due::Execute(flight) => self.on_execute(flight),
            Due::ReadBack(flight, last) => self.on_read_back(flight, last),
            Due::Operate(id) => self.on_operate(id),
            Due::Answer(answer) => {
                let own = &mut self.processes[answer.process];
                if own.incarnation != answer.incarnation || !own.alive {
                    return Ok(());
                }
                if own.stopped {
                    own.inbox.push(Due::Answer(answer));
                    return Ok(());
                }
                self.on_answer(answer)
            }
            Due::Wake(process, incarnation) => {
                let own = &self.processes[process];
                let is_due = own.wake.is_some_and(|wake| wake <= self.now);
                if own.incarnation != incarnation || !own.alive || own.stopped || !is_due {
                    return Ok(());
                }
                self.turn(process, Cause::Wake)
            }
        }
    }

    fn plan(&mut self, at: Moment, due: Due) {
        self.sequence += 1;
        self.agenda.insert((at, self.sequence), due);
    }

    /// What the event loop does: completions out, jobs out, and when to come again.
    fn turn(&mut self, process: usize, cause: Cause) -> Lawful {
        let now = self.now;
        let own = &self.processes[process];
        let planned = own.wake;
        let before = (cause == Cause::Wake).then(|| own.allocator.clone());
        let (mut completions, mut jobs) = (0, 0);
        let wake = loop {
            if completions + jobs > STEPS_PER_TURN_MAX {
                return broken("no busy loop", "it never comes to rest");
            }
            let own = &mut self.processes[process];
            let verdict = label(&own.allocator.verdict(now));
            let completion = own.allocator.next_completion(now);
            if let Next::Ready(completion) = completion {
                completions += 1;
                let after = label(&own.allocator.verdict(now));
                self.counts.count(name_of(&completion.answer));
                let (issued, lease) = (&mut self.issued, self.lease);
                own.witness
                    .on_completion(&completion, [verdict, after], issued, lease, now)?;
                self.note(|| format!("process {process}: {completion:?}"));
                continue;
            }
            let job = own.allocator.next_job(now);
            if let Next::Ready(job) = job {
                jobs += 1;
                let is_early = cause == Cause::Poke && planned.is_none_or(|at| at > now);
                let reserves = matches!(job.task, Task::Reserve { .. });
                // With prefetch, looking at the demand more often changes what is wanted.
                if is_early && (!reserves || own.options.prefetch.is_zero()) {
                    return broken("no lost wake", format!("{job:?} would have come later"));
                }
                self.issue(process, job)?;
                continue;
            }
            break job.wake(completion.wake(None));
        };
        if cause == Cause::Poke && completions > 0 && planned.is_none_or(|at| at > now) {
            return broken("no lost wake", "a completion would have come later");
        }
        if wake.is_some_and(|at| at <= now) {
            return broken("no busy loop", format!("at {now:?} it asks for {wake:?}"));
        }
        let own = &mut self.processes[process];
        // A few may be in vain, when what they were for can no longer be done; more are a loop.
        own.idle_wakes = match before {
            Some(before) if completions + jobs == 0 && before == own.allocator => {
                own.idle_wakes + 1
            }
            _ => 0,
        };
        if own.idle_wakes > 4 {
            return broken("a wake-up changes something", format!("not at {now:?}"));
        }
        let memory = own.allocator.memory();
        own.witness.on_step(memory)?;
        // The state file is written once a second, and may be older than what was issued.
        if own.file.last() != Some(&memory) {
            own.file.push(memory);
        }
        let verdict = own.allocator.verdict(now);
        let name = label(&verdict);
        if let Verdict::Closed(closed) = verdict {
            self.counts.count(reason(&closed.why));
        }
        self.counts.count(verdict_name(name));
        if name == "serving" && !own.witness.has_seen_it_open() {
            return broken(
                "the verdict is true",
                "serving, and the row was not seen open",
            );
        }
        if name == "serving" && !own.allocator.status().database_up {
            return broken("the verdict is true", "serving, and the database is down");
        }
        while let Some(event) = own.allocator.next_event() {
            if let Some(name) = event_name(&event) {
                self.counts.count(name);
            }
        }
        if own.wake != wake {
            own.wake = wake;
            let incarnation = own.incarnation;
            if let Some(at) = wake {
                self.plan(at, Due::Wake(process, incarnation));
            }
        }
        Ok(())
    }

    // The end.

    /// Faults end: everybody must serve, or say what an operator must do, after which he serves.
    fn heal(&mut self) -> Lawful {
        self.calm = true;
        self.note(|| "faults end".to_string());
        self.operators.clear();
        for server in 0..self.servers.len() {
            if server != self.primary {
                self.fence(server);
            }
            self.servers[server].up = true;
            self.servers[server].misfit = None;
        }
        self.servers[self.primary].read_only = false;
        // What hangs comes back.
        for (key, due) in std::mem::take(&mut self.agenda) {
            let at = match due {
                Due::Wake(..) => key.0,
                _ => key.0.min(self.now + SECOND),
            };
            self.agenda.insert((at, key.1), due);
        }
        for process in 0..self.processes.len() {
            self.processes[process].cut = false;
            if !self.processes[process].alive {
                let memory = self.processes[process].file.last().copied();
                self.start(process, memory.unwrap_or_default())?;
            }
            if self.processes[process].stopped {
                self.resume(process)?;
            }
        }
        self.pass(SECOND * 10)?;
        while self.stale[self.primary].stands || !self.all_serve()? {
            self.advances += 1;
            if self.advances > ADVANCES_MAX {
                return broken("advance makes everybody serve", "it does not");
            }
            self.begin_advance(true);
            self.pass(self.lease + SECOND * 4)?;
            if self.is_out_of_numbers() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether each process serves; one that does not must say that an operator has to act.
    fn all_serve(&mut self) -> Result<bool, Violation> {
        let mut asked = Vec::new();
        for process in 0..self.processes.len() {
            let high = self.processes[process].witness.issued_high;
            asked.push((self.submit(process, Ask::Tickets(1)), high));
            self.turn(process, Cause::Stimulus)?;
        }
        let longest = self.processes.iter().map(|process| process.options.timeout);
        let longest = longest.max().unwrap_or_default();
        self.pass(longest + Duration::from_millis(1))?;
        let mut all = true;
        for (process, (id, high)) in asked.into_iter().enumerate() {
            let own = &self.processes[process];
            if own.witness.is_waiting_for(id) {
                return broken("one final answer", format!("none for {id:?}")).map(|()| false);
            }
            let verdict = label(&own.allocator.verdict(self.now));
            if own.witness.issued_high == high && !matches!(verdict, "closed" | "exhausted") {
                return broken("everybody serves", format!("process {process}: {verdict}"))
                    .map(|()| false);
            }
            all &= verdict != "closed";
        }
        Ok(all)
    }

    fn is_out_of_numbers(&self) -> bool {
        let row = self.servers[self.primary].row;
        let high = row.id.max(row.mark).max(self.issued_by_all());
        high + 2 * self.margin > self.numbering.last_base()
    }

    fn pick_process(&mut self, fits: impl Fn(&Process) -> bool) -> Option<usize> {
        let from = self.tape.below(self.processes.len());
        let count = self.processes.len();
        (from..from + count)
            .map(|process| process % count)
            .find(|process| fits(&self.processes[*process]))
    }

    /// Notes what happens, for whoever reads the history, and in the digest.
    fn note(&mut self, text: impl FnOnce() -> String) {
        let mixed = self.digest ^ self.now.as_nanos() ^ self.sequence.rotate_left(32);
        self.digest = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17);
        if self.traced {
            let nanos = self.now.as_nanos() - 1_000_000_000_000;
            let seconds = nanos / 1_000_000_000;
            let rest = nanos % 1_000_000_000 / 1_000;
            self.trace
                .push(format!("{seconds:>4}.{rest:06} {}", text()));
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// Something has come.
    Stimulus,
    /// It has asked to be woken.
    Wake,
    /// Nothing: the loop was woken for something else.
    Poke,
}

impl Process {
    fn new(options: Options, now: Moment) -> Process {
        Process {
            allocator: Allocator::new(options.clone(), now),
            witness: Witness::new(options.numbering, options.remembered),
            incarnation: 0,
            alive: true,
            stopped: false,
            cut: false,
            wake: None,
            workers: vec![None; options.pool_size],
            doing: vec![None; options.pool_size],
            clean: Some(now),
            inbox: Vec::new(),
            file: Vec::new(),
            next_connection: 0,
            idle_wakes: 0,
            second: now,
            second_jobs: 0,
            troubled: Vec::new(),
            options,
        }
    }
}

fn label(verdict: &Verdict<'_>) -> &'static str {
    match verdict {
        Verdict::Serving => "serving",
        Verdict::Degraded(_) => "degraded",
        Verdict::Starting => "starting",
        Verdict::Unavailable(_) => "unavailable",
        Verdict::Closed(_) => "closed",
        Verdict::Misfit(_) => "misfit",
        Verdict::Exhausted => "exhausted",
    }
}

fn verdict_name(label: &str) -> &'static str {
    match label {
        "serving" => "verdict: serving",
        "degraded" => "verdict: degraded",
        "starting" => "verdict: starting",
        "unavailable" => "verdict: unavailable",
        "closed" => "verdict: closed",
        "misfit" => "verdict: misfit",
        _ => "verdict: exhausted",
    }
}

fn name_of(answer: &tickr::allocator::Answer) -> &'static str {
    use tickr::allocator::Answer::{Refused, Status, Tickets};
    match answer {
        Tickets(_) => "answer: tickets",
        Status => "answer: status",
        Refused(Refusal::TimedOut) => "answer: timed out",
        Refused(Refusal::QueueFull) => "answer: queue full",
        Refused(Refusal::NumbersExhausted) => "answer: exhausted",
        Refused(Refusal::Unavailable) => "answer: unavailable",
    }
}

fn reason(why: &Closing) -> &'static str {
    match why {
        Closing::Behind { .. } => "closing: behind",
        Closing::Marked { .. } => "closing: marked",
        Closing::OtherServer { .. } => "closing: other server",
        Closing::ByOperator => "closing: by operator",
        Closing::Unowned => "closing: unowned",
        Closing::ReadOnly => "closing: read-only",
    }
}

fn event_name(event: &Event) -> Option<&'static str> {
    match event {
        Event::Available(_) => Some("event: available"),
        Event::Unavailable(_) => Some("event: unavailable"),
        Event::Closed(_) => Some("event: closed"),
        Event::Opened => Some("event: opened"),
        Event::Misfit(_) => Some("event: misfit"),
        Event::Dropped(_) => Some("event: dropped"),
        Event::Exhausted => Some("event: exhausted"),
        _ => None,
    }
}
