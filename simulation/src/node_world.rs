//! A history of whole nodes: processes behind `Io` on virtual time, clients that speak bytes, and
//! a modelled database, with everything that can go wrong chosen by the tape.

use std::time::{Duration, SystemTime};

use tickr::allocator::{self, Allocator};
use tickr::api::routes::Rules;
use tickr::counter::{Epoch, Found, Job, Memory, Outcome, Server as Reached, Task};
use tickr::fault::{Fault, FaultKind};
use tickr::http::array::Format;
use tickr::limits;
use tickr::moment::{Moment, Next};
use tickr::node::{ListenerOptions, Node, Options};
use tickr::ticket::Numbering;

use crate::agenda::Agenda;
use crate::checker::{Issued, Lawful, broken};
use crate::clients::{Kind, Manner, Request};
use crate::counts::Counts;
use crate::database::{Owned, Row, Server};
use crate::sockets::{Desk, Kernel, Net, Reaction};
use crate::tape::Tape;
use crate::world::History;

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
/// More turns at one moment are a busy loop.
const TURNS_MAX: usize = 5_000;
/// More in a row that do nothing, each of them asked for at once.
const VAIN_TURNS_MAX: usize = 8;
/// More in a second that were asked for and have done nothing.
const VAIN_WAKES_MAX: u32 = 40;
/// More clients of one process at once are a crowd, which comes by itself.
const CLIENTS_MAX: usize = 12;
/// When the faults have ended, a stop takes no longer, if it may.
const DRAIN_CALM: Duration = Duration::from_secs(5);

/// Runs the history of a tape.
pub fn history(tape: &[u8], traced: bool) -> History {
    let mut world = World::new(Tape::new(tape), traced);
    let verdict = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run()));
    let verdict = verdict.unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        let said = said.or_else(|| panic.downcast_ref::<&str>().map(|said| said.to_string()));
        broken("the node's own", said.unwrap_or_default())
    });
    History {
        verdict,
        steps: world.steps,
        counts: world.net.counts,
        digest: world.net.digest,
        trace: world.trace,
        advances: 0,
    }
}

struct World<'a> {
    tape: Tape<'a>,
    net: Net,
    agenda: Agenda<Due>,
    /// Faults have ended.
    calm: bool,
    manner: Manner,
    lease: Duration,
    /// Of 256 jobs, so many go wrong.
    weather: u16,
    server: Server,
    /// Which of them are dead.
    sessions: Vec<bool>,
    processes: Vec<Process>,
    next_tag: u64,
    steps: u64,
    traced: bool,
    trace: Vec<String>,
}

struct Process {
    node: Option<Node>,
    desk: Desk,
    settings: Settings,
    incarnation: u64,
    stopped: bool,
    wake: Option<Moment>,
    /// Until when a stop may take.
    drains_until: Option<Moment>,
    /// Nothing keeps it from answering everybody before that.
    must_end_well: bool,
    /// The session of each thread that holds one.
    workers: Vec<Option<usize>>,
    outcomes: Vec<Outcome>,
    memory: Memory,
    /// The second that began then, and the wake-ups in it that changed nothing.
    second: Moment,
    vain: u32,
    clients: Vec<usize>,
}

#[derive(Clone, Debug)]
struct Settings {
    allocator: allocator::Options,
    connections_max: usize,
    idle_timeout: Duration,
    shutdown_timeout: Duration,
    outlives: Vec<bool>,
}

#[derive(Debug)]
enum Due {
    Arrive(usize, Vec<u8>),
    Fin(usize),
    Reset(usize),
    Execute(Flight),
    Learn(Lesson),
    Wake(usize, u64),
    Open,
}

#[derive(Clone, Debug)]
struct Lesson {
    process: usize,
    incarnation: u64,
    worker: usize,
    outcome: Outcome,
}

#[derive(Clone, Debug)]
struct Flight {
    process: usize,
    incarnation: u64,
    session: Option<usize>,
    job: Job,
    executes: bool,
    /// It is answered so, whatever was done.
    fault: Option<FaultKind>,
    answer_after: Duration,
    /// Nobody hears of it any more.
    silent: bool,
    doubled: bool,
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

impl<'a> World<'a> {
    fn new(mut tape: Tape<'a>, traced: bool) -> World<'a> {
        let now = Moment::from_nanos(1_000_000_000_000);
        let numbering = match tape.chance(24) {
            true => Numbering::new(u64::MAX / 700, 5, 3),
            false => Numbering::new(tape.pick(&[1, 10, 1000]), tape.pick(&[0, 7]), 0),
        };
        let numbering = numbering.expect("made up well");
        let lease = tape.millis(&[10_000, 2_000, 3_000, 1_000]);
        let row = Row {
            id: 1,
            mark: 0,
            owner: Owned::By(0),
            epoch: Epoch { number: 1, tag: 1 },
        };
        let manner = Manner {
            max_batch: tape.pick(&[1_000, 50_000, limits::BATCH_MAX, 50, 1_000]),
            batch_format: tape.pick(&[Format::Array, Format::Range]),
            password: tape.chance(48),
            array: tape.pick(&[900, 3_000, 900, 20_000, 900, 900, 900, 900]),
        };
        let mut world = World {
            net: Net {
                now,
                numbering,
                weather: tape.pick(&[0, 16, 64, 128]),
                sockets: Vec::new(),
                issued: Issued::default(),
                counts: Counts::default(),
                digest: 0,
                reactions: Vec::new(),
                told: traced.then(Vec::new),
            },
            agenda: Agenda::default(),
            calm: false,
            manner,
            lease,
            weather: tape.pick(&[0, 4, 24, 64]),
            server: Server::new(0, row, lease, now),
            sessions: Vec::new(),
            processes: Vec::new(),
            next_tag: 2,
            steps: 0,
            traced,
            trace: Vec::new(),
            tape,
        };
        for index in 0..1 + world.tape.below(3).min(1) {
            let timeout = world.tape.millis(&[500, 50, 100, 2_000, 10, 10_000]);
            let prefetch = world.tape.millis(&[0, 100, 1_000, 0, 2_000]);
            let settings = Settings {
                allocator: allocator::Options {
                    numbering,
                    pool_size: world.tape.pick(&[1, 2, 3]),
                    timeout,
                    prefetch: prefetch.min(lease),
                    seed: index as u64,
                    remembered: Memory::default(),
                },
                connections_max: world.tape.pick(&[100, 3, 8, 100]),
                idle_timeout: world.tape.millis(&[75_000, 1_000, 5_000]),
                shutdown_timeout: world.tape.millis(&[30_000, 1_000, 12_000, 0]),
                outlives: world.tape.pick(&[&[false][..], &[false, true]]).to_vec(),
            };
            world.note(|| format!("process {index}: {settings:?}"));
            let process = Process::new(settings, &world.manner, now);
            world.processes.push(process);
        }
        let manner = world.manner.clone();
        world.note(|| format!("{manner:?}, lease {lease:?}"));
        world
    }

    fn run(&mut self) -> Lawful {
        for process in 0..self.processes.len() {
            self.settle(process, Cause::Stimulus)?;
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
            0..14 => {
                let time = self.tape.millis(&[1, 3, 10, 30, 100, 250, 600]);
                self.pass(time)
            }
            14..17 => {
                let pauses = [
                    SECOND,
                    lease / 2,
                    lease + SECOND,
                    SECOND * 3,
                    SECOND * 11,
                    SECOND * 31,
                ];
                let time = self.tape.pick(&pauses);
                self.pass(time)
            }
            17..24 => self.come(),
            24..38 => self.send(),
            38..41 => self.read(),
            41 => self.leave(),
            42 => self.crowd(),
            43..46 => self.probe_one(),
            46 | 47 => self.poke(),
            48 => self.break_accept(),
            49 | 50 => self.drain(),
            51 => self.kill(),
            52..54 => self.restart(),
            54 | 55 => self.stop_or_continue(),
            56 => self.outage(),
            57 => self.toggle_read_only(),
            58 => self.close_the_row(),
            59 => self.misfit(),
            60 | 61 => self.resume_sending(),
            _ => self.leave(),
        }
    }

    fn pick_process(&mut self, fits: impl Fn(&Process) -> bool) -> Option<usize> {
        let count = self.processes.len();
        let from = if count > 1 { self.tape.below(count) } else { 0 };
        let mut order = (from..from + count).map(|process| process % count);
        order.find(|process| fits(&self.processes[*process]))
    }

    /// A client of a process that can still send and be sent to.
    fn pick_client(&mut self, process: usize) -> Option<usize> {
        let sockets = &self.net.sockets;
        let clients = &mut self.processes[process].clients;
        clients.retain(|at| !sockets[*at].closed);
        match clients.len() {
            0 => None,
            count => Some(clients[self.tape.below(count.min(256))]),
        }
    }

    fn come(&mut self) -> Lawful {
        let Some(process) = self.pick_process(|process| process.desk.listening) else {
            return Ok(());
        };
        let room = self
            .tape
            .pick(&[None, None, None, Some(200), Some(3_000), Some(70_000)]);
        let listener = self.tape.below(4) / 3;
        if self.processes[process].clients.len() > CLIENTS_MAX {
            return Ok(());
        }
        let at = self.connect(process, listener, room, false);
        self.send_to(at)?;
        self.pass(Duration::ZERO)
    }

    fn connect(
        &mut self,
        process: usize,
        listener: usize,
        room: Option<usize>,
        steady: bool,
    ) -> usize {
        let at = self.net.connect(process, room, steady);
        let own = &mut self.processes[process];
        let listener = listener.min(own.desk.backlogs.len() - 1);
        own.clients.push(at);
        own.desk.backlogs[listener].push_back(at);
        own.desk.listeners_changed[listener] = true;
        self.note(|| format!("client {at} comes to process {process}, room {room:?}"));
        // Who connects is there before what it sends.
        self.plan(self.net.now, Due::Arrive(at, Vec::new()));
        at
    }

    fn send(&mut self) -> Lawful {
        let Some(process) = self.pick_process(|process| process.node.is_some()) else {
            return Ok(());
        };
        if let Some(at) = self.pick_client(process) {
            self.send_to(at)?;
        }
        self.pass(Duration::ZERO)
    }

    /// Some requests in one piece or several, now or later.
    fn send_to(&mut self, at: usize) -> Lawful {
        let socket = &self.net.sockets[at];
        if socket.fin_sent || socket.waits_for_continue || !socket.withheld.is_empty() {
            return Ok(());
        }
        let times = self.tape.pick(&[1, 1, 1, 2, 3, 8, 1, 2, 20, 140]);
        let mut bytes = Vec::new();
        let same = (times > 8).then(|| Request::choose(&mut self.tape, &self.manner));
        if let Some(request) = &same {
            self.note(|| format!("client {at} sends {times} times {:?}", request.kind));
        }
        for _ in 0..times {
            let request = match &same {
                Some(request) => request.clone(),
                None => Request::choose(&mut self.tape, &self.manner),
            };
            let big = matches!(request.kind, Kind::Tickets { count, format: Format::Array | Format::String } if count > 500);
            let fragile = request.expects || (big && times > 8);
            if fragile && times > 8 {
                break;
            }
            bytes.extend_from_slice(&request.bytes[..request.head]);
            let body = request.bytes[request.head..].to_vec();
            if same.is_none() {
                self.note(|| format!("client {at} sends {:?}", request.kind));
            }
            self.net.expect(at, request);
            if fragile && self.tape.chance(160) {
                self.net.sockets[at].withheld = body;
                self.net.sockets[at].waits_for_continue = true;
                break;
            }
            bytes.extend_from_slice(&body);
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let delays = [0, 1, 5, 600, 9_000, 11_000];
        match self.tape.byte() % 8 {
            0..5 => self.deliver_later(at, bytes, Duration::ZERO),
            5 => {
                let cut = usize::from(self.tape.byte()) * bytes.len() / 256;
                let behind = bytes.split_off(cut);
                let delay = self.tape.millis(&delays);
                self.deliver_later(at, bytes, Duration::ZERO);
                self.deliver_later(at, behind, delay);
            }
            6 => {
                let delay = self.tape.millis(&delays);
                self.deliver_later(at, bytes, delay);
            }
            _ if !self.net.sockets[at].waits_for_continue => {
                self.net.counts.count("client: half a request");
                let cut = usize::from(self.tape.byte()) * bytes.len() / 256;
                self.net.sockets[at].withheld = bytes.split_off(cut);
                self.deliver_later(at, bytes, Duration::ZERO);
            }
            _ => self.deliver_later(at, bytes, Duration::ZERO),
        }
        Ok(())
    }

    fn deliver_later(&mut self, at: usize, bytes: Vec<u8>, delay: Duration) {
        let socket = &mut self.net.sockets[at];
        socket.last_arrival = socket.last_arrival.max(self.net.now + delay);
        let when = socket.last_arrival;
        self.plan(when, Due::Arrive(at, bytes));
    }

    /// Sends what was held back, unless that waits for a `100 Continue`.
    fn resume_sending(&mut self) -> Lawful {
        let Some(process) = self.pick_process(|process| process.node.is_some()) else {
            return Ok(());
        };
        let clients = self.processes[process].clients.clone();
        for at in clients {
            self.send_the_rest(at);
        }
        self.pass(Duration::ZERO)
    }

    fn send_the_rest(&mut self, at: usize) {
        let socket = &mut self.net.sockets[at];
        let waits = std::mem::take(&mut socket.waits_for_continue);
        let bytes = std::mem::take(&mut socket.withheld);
        if socket.fin_sent || (bytes.is_empty() && !waits) {
            return;
        }
        self.note(|| format!("client {at} sends the rest"));
        self.deliver_later(at, bytes, Duration::ZERO);
    }

    /// A slow reader reads.
    fn read(&mut self) -> Lawful {
        let Some(process) = self.pick_process(|process| process.node.is_some()) else {
            return Ok(());
        };
        let Some(at) = self.pick_client(process) else {
            return Ok(());
        };
        let room = self.tape.pick(&[Some(1_000), None, Some(1), Some(50_000)]);
        if self.net.sockets[at].room.is_some() {
            self.net.counts.count("client: slow reader");
            self.note(|| format!("client {at} reads, room {room:?}"));
            self.net
                .make_room(at, room, &mut self.processes[process].desk);
        }
        self.settle(process, Cause::Stimulus)
    }

    fn leave(&mut self) -> Lawful {
        let Some(process) = self.pick_process(|process| process.node.is_some()) else {
            return Ok(());
        };
        let Some(at) = self.pick_client(process) else {
            return Ok(());
        };
        let choice = self.tape.below(4);
        let desk = &mut self.processes[process].desk;
        let socket = &mut self.net.sockets[at];
        if socket.fin_sent {
            return Ok(());
        }
        let name = match choice {
            0 => "client: half-closed",
            1 => "client: gone",
            2 => "client: reset",
            _ => "client: hung up",
        };
        (socket.fin_sent, socket.gone) = (true, choice == 1);
        self.net.counts.count(name);
        match choice {
            0 | 1 => {
                let when = socket.last_arrival.max(self.net.now);
                self.plan(when, Due::Fin(at));
            }
            choice => self.net.break_off(at, choice == 2, desk),
        }
        self.note(|| format!("{name} {at}"));
        self.pass(Duration::ZERO)?;
        self.settle(process, Cause::Stimulus)
    }

    /// More clients than may be.
    fn crowd(&mut self) -> Lawful {
        let few =
            |process: &Process| process.desk.listening && process.settings.connections_max < 10;
        let Some(process) = self.pick_process(few) else {
            return Ok(());
        };
        self.net.counts.count("client: crowd");
        for _ in 0..self.processes[process].settings.connections_max + 1 {
            let at = self.connect(process, 0, None, false);
            if self.tape.chance(128) {
                self.send_to(at)?;
            }
        }
        self.pass(Duration::ZERO)
    }

    fn poke(&mut self) -> Lawful {
        let Some(process) = self.pick_process(|process| process.node.is_some()) else {
            return Ok(());
        };
        self.net.counts.count("process: woken early");
        self.settle(process, Cause::Poke)
    }

    fn break_accept(&mut self) -> Lawful {
        let Some(process) = self.pick_process(|process| process.desk.listening) else {
            return Ok(());
        };
        let errors = self.tape.pick(&[&[24][..], &[24, 24, 24], &[4], &[103, 4]]);
        self.processes[process].desk.accept_errors.extend(errors);
        self.note(|| format!("accept fails with {errors:?} at process {process}"));
        self.come()
    }

    fn drain(&mut self) -> Lawful {
        let fits = |process: &Process| process.node.is_some() && !process.stopped;
        let Some(process) = self.pick_process(fits) else {
            return Ok(());
        };
        if self.processes[process].desk.listening && self.tape.chance(128) {
            let surfaces = [
                ("GET /status", Kind::Status),
                ("GET /readyz", Kind::Ready),
                ("GET /metrics", Kind::Metrics),
            ];
            self.wait_at_the_door(process, &surfaces);
        }
        self.begin_drain(process)
    }

    /// A client that is to be accepted, and has sent all of this.
    fn wait_at_the_door(&mut self, process: usize, lines: &[(&str, Kind)]) -> usize {
        let at = self.connect(process, 0, None, true);
        let mut bytes = Vec::new();
        for (line, kind) in lines {
            let request = Request::plain(line, *kind, &self.manner);
            bytes.extend_from_slice(&request.bytes);
            self.net.expect(at, request);
        }
        let desk = &mut self.processes[process].desk;
        self.net.arrive(at, &bytes, desk);
        at
    }

    fn begin_drain(&mut self, process: usize) -> Lawful {
        self.net.counts.count("process: told to stop");
        self.note(|| format!("process {process} is told to stop"));
        let own = &mut self.processes[process];
        if let Some(node) = &mut own.node
            && !own.desk.draining
        {
            node.drain(self.net.now);
            own.drains_until = node.drains_until();
            self.net.on_drain(&mut own.desk);
        }
        self.settle(process, Cause::Stimulus)
    }

    fn kill(&mut self) -> Lawful {
        let Some(process) = self.pick_process(|process| process.node.is_some()) else {
            return Ok(());
        };
        self.net.counts.count("process: killed");
        self.note(|| format!("process {process} is killed"));
        self.end_process(process);
        Ok(())
    }

    fn end_process(&mut self, process: usize) {
        let own = &mut self.processes[process];
        self.net.abandon(&mut own.desk);
        own.node = None;
        own.desk.listening = false;
        own.wake = None;
        for session in own.workers.iter_mut().filter_map(Option::take) {
            self.sessions[session] |= own.incarnation.is_multiple_of(2);
        }
    }

    fn restart(&mut self) -> Lawful {
        let Some(process) = self.pick_process(|process| process.node.is_none()) else {
            return Ok(());
        };
        self.net.counts.count("process: restarted with memory");
        self.start(process)
    }

    fn start(&mut self, process: usize) -> Lawful {
        self.note(|| format!("process {process} starts"));
        let before = &self.processes[process];
        let mut settings = before.settings.clone();
        settings.allocator.remembered = before.memory;
        let mut next = Process::new(settings, &self.manner, self.net.now);
        next.incarnation = before.incarnation + 1;
        next.memory = before.memory;
        self.processes[process] = next;
        self.settle(process, Cause::Stimulus)
    }

    fn stop_or_continue(&mut self) -> Lawful {
        let Some(process) = self.pick_process(|process| process.node.is_some()) else {
            return Ok(());
        };
        if self.processes[process].stopped {
            return self.resume(process);
        }
        self.net.counts.count("process: stopped");
        self.note(|| format!("process {process} is stopped"));
        self.processes[process].stopped = true;
        Ok(())
    }

    fn resume(&mut self, process: usize) -> Lawful {
        self.net.counts.count("process: continued");
        self.note(|| format!("process {process} is continued"));
        let own = &mut self.processes[process];
        own.stopped = false;
        own.desk.late_until = self.net.now;
        self.settle(process, Cause::Stimulus)
    }

    fn outage(&mut self) -> Lawful {
        self.net.counts.count("database: outage");
        self.server.up = !self.server.up;
        self.sessions.fill(true);
        self.note(|| "the database is down, or up again".to_string());
        match self.tape.chance(160) {
            true => {
                let time = self.tape.millis(&[1_100, 300, 30, 600]);
                self.come()?;
                self.pass(time)?;
                self.probe_one()
            }
            false => Ok(()),
        }
    }

    fn toggle_read_only(&mut self) -> Lawful {
        self.net.counts.count("database: read-only");
        self.server.read_only = !self.server.read_only;
        self.note(|| "the database is read-only, or no longer".to_string());
        Ok(())
    }

    fn close_the_row(&mut self) -> Lawful {
        if self.server.row.owner == Owned::By(0) && !self.server.read_only {
            self.server.close_by_hand(self.net.now);
            self.net.counts.count("operator: close");
            self.note(|| "an operator closes the row".to_string());
            self.plan(self.net.now + self.lease + SECOND, Due::Open);
        }
        Ok(())
    }

    fn misfit(&mut self) -> Lawful {
        self.net.counts.count("database: misfit");
        self.server.misfit = match self.server.misfit {
            Some(_) => None,
            None => Some(FaultKind::NoTable),
        };
        self.note(|| "what is stored is broken, or mended".to_string());
        Ok(())
    }

    // The database.

    fn issue(&mut self, process: usize, job: Job) {
        let own = &mut self.processes[process];
        let session = own.workers[job.worker];
        if let Task::Connect { replaces } = job.task {
            own.workers[job.worker] = None;
            if let Some(replaced) = replaces {
                self.sessions[replaced as usize] = true;
            }
        }
        let (timeout, incarnation) = (own.settings.allocator.timeout, own.incarnation);
        let salt = job.id.0 * 7 + process as u64 * 3;
        let mut execute_after = Duration::from_micros(100 + salt % 11 * 30);
        let mut flight = Flight {
            process,
            incarnation,
            session,
            job,
            executes: true,
            fault: None,
            answer_after: Duration::from_micros(100 + salt % 13 * 20),
            silent: false,
            doubled: false,
        };
        if !self.calm && self.weather > 0 && self.tape.chance(self.weather) {
            let io = (timeout * 2).max(SECOND);
            let choice = self.tape.byte() % 8;
            let pauses = [
                MILLISECOND * 3,
                timeout / 4,
                timeout,
                timeout * 2,
                io + MILLISECOND * 700,
                self.lease,
                self.lease * 2,
            ];
            let pause = self.tape.pick(&pauses);
            let name = match choice {
                0 => {
                    execute_after += pause;
                    "job: late"
                }
                1 => {
                    flight.answer_after += pause;
                    "job: late"
                }
                2 => {
                    flight.executes = false;
                    flight.fault = Some(FaultKind::Lost);
                    "job: fault before it was done"
                }
                3 => {
                    flight.fault = Some(FaultKind::Lost);
                    "job: fault after it was done"
                }
                4 => {
                    let mut heard = flight.clone();
                    heard.answer_after = io;
                    self.answer(heard, Err(Fault::new(FaultKind::TimedOut, "")));
                    flight.silent = true;
                    execute_after = io + pause;
                    "job: hung, then done"
                }
                5 => {
                    flight.executes = false;
                    flight.fault = Some(FaultKind::Deadlock);
                    "job: rolled back"
                }
                6 => {
                    flight.executes = false;
                    flight.fault = Some(FaultKind::TooManyConnections);
                    "job: refused by a full server"
                }
                _ => {
                    flight.doubled = true;
                    "job: doubled answer"
                }
            };
            self.net.counts.count(name);
        }
        self.note(|| format!("process {process}: {:?}", flight.job));
        self.plan(self.net.now + execute_after, Due::Execute(flight));
    }

    fn execute(&mut self, flight: Flight) {
        let fault = |kind| Err(Fault::new(kind, ""));
        let is_dead = flight.session.is_none_or(|session| self.sessions[session]);
        let connects = matches!(flight.job.task, Task::Connect { .. });
        if !self.server.up {
            let kind = if connects {
                FaultKind::Unreachable
            } else {
                FaultKind::Lost
            };
            return self.answer(flight, fault(kind));
        }
        if !connects && is_dead {
            return self.answer(flight, fault(FaultKind::Lost));
        }
        if let Some(kind) = self.server.misfit {
            return self.answer(flight, fault(kind));
        }
        if !flight.executes {
            return self.answer(flight, fault(FaultKind::Lost));
        }
        let writes = matches!(flight.job.task, Task::Reserve { .. } | Task::Close { .. });
        if writes && self.server.refuses_writes(false) {
            return self.answer(flight, fault(FaultKind::ReadOnly));
        }
        let now = self.net.now;
        let found = match &flight.job.task {
            Task::Connect { .. } => {
                self.net.counts.count("database: connected");
                self.sessions.push(false);
                Found::Connected {
                    view: self.server.view(),
                    server: Reached {
                        version: "8.4".to_string(),
                        connection: self.sessions.len() as u64 - 1,
                        identity: "0".to_string(),
                        warnings: Vec::new(),
                    },
                }
            }
            Task::Read => Found::Read {
                view: self.server.view(),
                warnings: None,
            },
            Task::Reserve {
                count,
                epoch,
                floor,
            } => {
                let most = self.net.numbering.last_base();
                match self.server.reserve(*count, *epoch, *floor, most, now) {
                    None => {
                        self.net.counts.count("database: reserve refused");
                        Found::Refused {
                            view: self.server.view(),
                        }
                    }
                    Some(last) => {
                        self.net.counts.count("database: reserved");
                        let own = &mut self.processes[flight.process];
                        if own.incarnation == flight.incarnation {
                            own.desk.committed.insert(last + 1 - count, last);
                        }
                        Found::Reserved { last }
                    }
                }
            }
            Task::Close { memory } => {
                if !self.server.refuses_writes(false) {
                    self.server.close(memory, now);
                }
                Found::Closed {
                    view: self.server.view(),
                }
            }
        };
        self.answer(flight, Ok(found));
    }

    fn answer(&mut self, flight: Flight, found: Result<Found, Fault>) {
        if flight.silent {
            return;
        }
        let found = match flight.fault {
            Some(kind) => Err(Fault::new(kind, "")),
            None => found,
        };
        let lesson = Lesson {
            process: flight.process,
            incarnation: flight.incarnation,
            worker: flight.job.worker,
            outcome: Outcome {
                id: flight.job.id,
                found,
            },
        };
        let at = self.net.now + flight.answer_after;
        if flight.doubled {
            self.plan(at + MILLISECOND, Due::Learn(lesson.clone()));
        }
        self.plan(at, Due::Learn(lesson));
    }

    fn learn(&mut self, lesson: Lesson) -> Lawful {
        let Lesson {
            process,
            incarnation,
            worker,
            outcome,
        } = lesson;
        let own = &mut self.processes[process];
        if own.incarnation != incarnation || own.node.is_none() {
            return Ok(());
        }
        match &outcome.found {
            Ok(Found::Connected { server, .. }) => {
                own.workers[worker] = Some(server.connection as usize);
            }
            Err(fault) if !fault.kind.row().spares_session => own.workers[worker] = None,
            _ => {}
        }
        own.outcomes.push(outcome.clone());
        self.note(|| format!("process {process} learns {outcome:?}"));
        self.settle(process, Cause::Stimulus)
    }

    // Time.

    fn pass(&mut self, time: Duration) -> Lawful {
        self.run_until(self.net.now + time)
    }

    fn run_until(&mut self, until: Moment) -> Lawful {
        while let Some((at, due)) = self.agenda.next(until) {
            self.net.now = self.net.now.max(at);
            self.steps += 1;
            self.perform(due)?;
        }
        self.net.now = until;
        for process in 0..self.processes.len() {
            self.look(process)?;
        }
        Ok(())
    }

    fn perform(&mut self, due: Due) -> Lawful {
        let at = match due {
            Due::Execute(flight) => {
                self.execute(flight);
                return Ok(());
            }
            Due::Learn(lesson) => return self.learn(lesson),
            Due::Wake(process, incarnation) => {
                let own = &self.processes[process];
                let is_due = own.wake.is_some_and(|wake| wake <= self.net.now);
                if own.incarnation != incarnation || !is_due {
                    return Ok(());
                }
                return self.settle(process, Cause::Wake);
            }
            Due::Open => {
                self.open_the_row();
                return Ok(());
            }
            Due::Arrive(at, ref bytes) => {
                let process = self.net.sockets[at].process;
                self.net
                    .arrive(at, bytes, &mut self.processes[process].desk);
                at
            }
            Due::Fin(at) => {
                let process = self.net.sockets[at].process;
                self.net.finish_input(at, &mut self.processes[process].desk);
                at
            }
            Due::Reset(at) => {
                let process = self.net.sockets[at].process;
                self.net
                    .break_off(at, true, &mut self.processes[process].desk);
                at
            }
        };
        self.settle(self.net.sockets[at].process, Cause::Stimulus)
    }

    fn open_the_row(&mut self) {
        let row = self.server.row;
        let id = row.id.max(row.mark) + 10;
        self.next_tag += 1;
        let (tag, now) = (self.next_tag, self.net.now);
        if id < self.net.numbering.last_base() && self.server.open(row, id, tag, now) {
            self.net.counts.count("operator: open");
            self.note(|| format!("the row is open from {id}"));
        }
    }

    fn plan(&mut self, at: Moment, due: Due) {
        self.agenda.plan(at, due);
    }

    /// Whether all is as it should be by now.
    fn look(&self, process: usize) -> Lawful {
        let own = &self.processes[process];
        if own.node.is_none() || own.stopped {
            return Ok(());
        }
        let due = own.drains_until.map(|until| until.max(own.desk.late_until));
        if due.is_some_and(|until| until < self.net.now) {
            return broken("a drain ends", format!("process {process}"));
        }
        self.net.overdue(&own.desk)
    }

    /// What the event loop does, until the node wants to sleep.
    fn settle(&mut self, process: usize, cause: Cause) -> Lawful {
        self.look(process)?;
        let planned = self.processes[process].wake;
        let now = self.net.now;
        let (mut turns, mut vain, mut done) = (0, 0, 0);
        let wake = loop {
            let own = &mut self.processes[process];
            let (Some(node), false) = (&mut own.node, own.stopped) else {
                return Ok(());
            };
            let ready = self.net.take_ready(&mut own.desk);
            let outcomes = std::mem::take(&mut own.outcomes);
            let is_asked = !ready.is_empty() || !outcomes.is_empty();
            let seconds = now.as_nanos() / 1_000_000_000;
            node.set_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
            for outcome in outcomes {
                node.on_outcome(outcome, now);
            }
            own.desk.did = 0;
            own.desk.turns += 1;
            let mut kernel = Kernel {
                net: &mut self.net,
                desk: &mut own.desk,
                tape: &mut self.tape,
                verdict: Ok(()),
            };
            let next = node.turn(&mut kernel, &ready, now);
            let verdict = kernel.verdict;
            let told = self.net.told.as_mut().map(std::mem::take);
            for line in told.into_iter().flatten() {
                self.trace.push(format!("            {line}"));
            }
            verdict?;
            node.measure(now);
            own.memory = node.memory();
            let end = node.end(now);
            let did = own.desk.did;
            let jobs = std::mem::take(&mut own.desk.jobs);
            if cause == Cause::Poke && turns == 0 && planned.is_none_or(|at| at > now) && !is_asked
            {
                // With prefetch, looking at the demand more often changes what is wanted.
                let prefetches = !own.settings.allocator.prefetch.is_zero();
                let reserves = |job: &&Job| matches!(job.task, Task::Reserve { .. });
                let allowed = jobs.iter().filter(reserves).count();
                if did > if prefetches { allowed as u32 } else { 0 } {
                    return broken("no lost wake", format!("woken at {now:?}, not {planned:?}"));
                }
            }
            self.steps += 1;
            jobs.into_iter().for_each(|job| self.issue(process, job));
            self.react();
            if let Some(end) = end {
                return self.on_end(process, end.is_ok());
            }
            turns += 1;
            done += did;
            vain = if did > 0 || is_asked { 0 } else { vain + 1 };
            if turns > TURNS_MAX || vain > VAIN_TURNS_MAX {
                return broken("no busy loop", format!("process {process} never rests"));
            }
            let desk = &self.processes[process].desk;
            match next {
                Next::Ready(()) => {}
                Next::At(at) if at <= now => {
                    return broken("no busy loop", format!("at {now:?} it asks for {at:?}"));
                }
                _ if desk.has_changed() => {}
                waiting => break waiting.wake(None),
            }
        };
        self.net.at_rest(&self.processes[process].desk)?;
        let own = &mut self.processes[process];
        if own.second + SECOND <= now {
            (own.second, own.vain) = (now, 0);
        }
        if cause == Cause::Wake && done == 0 {
            own.vain += 1;
            if own.vain > VAIN_WAKES_MAX {
                return broken("a wake-up changes something", format!("not at {now:?}"));
            }
        }
        if own.wake != wake {
            own.wake = wake;
            let incarnation = own.incarnation;
            if let Some(at) = wake {
                self.plan(at, Due::Wake(process, incarnation));
            }
        }
        self.compare(process)
    }

    fn react(&mut self) {
        for reaction in std::mem::take(&mut self.net.reactions) {
            match reaction {
                Reaction::SendBody(at) => self.send_the_rest(at),
                Reaction::Reset(at) => self.plan(self.net.now + MILLISECOND, Due::Reset(at)),
                Reaction::Ended(at) => {
                    let socket = &mut self.net.sockets[at];
                    let reads = socket.room.is_none() || self.calm;
                    if reads && !std::mem::replace(&mut socket.fin_sent, true) {
                        let when = socket.last_arrival.max(self.net.now + MILLISECOND);
                        self.plan(when, Due::Fin(at));
                    }
                }
            }
        }
    }

    fn on_end(&mut self, process: usize, is_clean: bool) -> Lawful {
        let own = &self.processes[process];
        let has_clients = own.desk.has_clients();
        let is_late = own.drains_until.is_some_and(|until| until <= self.net.now);
        if is_clean && has_clients && !is_late {
            return broken("a drain answers what it got", format!("process {process}"));
        }
        if own.must_end_well && has_clients {
            return broken("a drain ends", format!("process {process} gives up"));
        }
        self.net.counts.count(match (is_clean, has_clients) {
            (false, _) => "process: cannot start",
            (true, false) => "process: stopped when all was answered",
            (true, true) => "process: stopped by its time-out",
        });
        self.note(|| format!("process {process} ends"));
        self.end_process(process);
        Ok(())
    }

    // What the node says of itself.

    fn probe_one(&mut self) -> Lawful {
        let fits = |process: &Process| {
            process.node.is_some() && process.desk.listening && !process.stopped
        };
        let Some(process) = self.pick_process(fits) else {
            return Ok(());
        };
        match self.tape.chance(128) {
            true => self.ask_steadily(process, &[("GET /status", Kind::Status)]),
            false => self.probe(process).map(|_| ()),
        }
    }

    fn ask_steadily(&mut self, process: usize, lines: &[(&str, Kind)]) -> Lawful {
        let at = self.wait_at_the_door(process, lines);
        self.net.sockets[at].fin_sent = true;
        let desk = &mut self.processes[process].desk;
        self.net.finish_input(at, desk);
        self.settle(process, Cause::Stimulus)
    }

    /// Asks for everything that shows the verdict, at one instant; returns whether it was said,
    /// and that it is ready.
    fn probe(
        &mut self,
        process: usize,
    ) -> Result<Option<(bool, String, bool)>, crate::checker::Violation> {
        self.processes[process].desk.probed.clear();
        let single = Kind::Tickets {
            count: 1,
            format: Format::Array,
        };
        self.ask_steadily(
            process,
            &[
                ("GET /readyz", Kind::Ready),
                ("GET /metrics", Kind::Metrics),
                ("GET /tickets/create", single),
            ],
        )?;
        let said = std::mem::take(&mut self.processes[process].desk.probed);
        let find = |kind| {
            said.iter()
                .find(|(of, _)| *of == kind)
                .map(|(_, answer)| answer)
        };
        let (Some(ready), Some(metrics)) = (find(Kind::Ready), find(Kind::Metrics)) else {
            return Ok(None);
        };
        if metrics.status != 200 {
            // One connection too many.
            return Ok(None);
        }
        self.net.counts.count("verdict: compared");
        let is_ready = ready.status == 200;
        let names = ["tickr_ready", "tickr_closed", "tickr_database_up"];
        let [shown, closed, up] = metrics.gauges(names);
        let closed = closed == Some("1");
        if shown != Some(if is_ready { "1" } else { "0" }) || (is_ready && closed) {
            let text = format!(
                "/readyz {}, /metrics ready {shown:?} closed {closed}",
                ready.status
            );
            return broken("the verdict is one", text).map(|()| None);
        }
        if is_ready && up == Some("0") {
            self.net.counts.count("verdict: ready without a database");
        }
        if let Some(create) = find(single)
            && (create.status == 200) != is_ready
        {
            let text = format!("/readyz {}, create {}", ready.status, create.status);
            return broken("the verdict is one", text).map(|()| None);
        }
        let detail = ready.field("Not ready: ", &['"']).unwrap_or_default();
        Ok(Some((is_ready, detail.to_owned(), closed)))
    }

    /// When `/status` has just been answered, the others are asked at the same instant.
    fn compare(&mut self, process: usize) -> Lawful {
        let own = &mut self.processes[process];
        let Some((turn, state, detail)) = own.desk.said.take() else {
            return Ok(());
        };
        if turn != own.desk.turns || !own.desk.listening {
            return Ok(());
        }
        let Some((is_ready, said, closed)) = self.probe(process)? else {
            return Ok(());
        };
        let fits = is_ready == matches!(state.as_str(), "serving" | "degraded")
            && closed == (state == "closed")
            && (is_ready || Some(said.trim_end_matches('.')) == detail.as_deref());
        match fits {
            true => Ok(()),
            false => broken(
                "the verdict is one",
                format!("/status {state} {detail:?}, ready {is_ready} {said:?}, closed {closed}"),
            ),
        }
    }

    // The end.

    /// Faults end: whoever waits is answered, every node serves, and a stop loses nothing.
    fn heal(&mut self) -> Lawful {
        self.calm = true;
        self.note(|| "faults end".to_string());
        self.net.weather = 0;
        self.server.up = true;
        self.server.misfit = None;
        self.server.read_only = false;
        self.agenda.hasten(self.net.now + SECOND, |due| {
            !matches!(due, Due::Wake(..) | Due::Open)
        });
        for process in 0..self.processes.len() {
            if self.processes[process].stopped {
                self.resume(process)?;
            }
            let own = &mut self.processes[process];
            own.desk.accept_errors.clear();
            for at in own.clients.clone() {
                self.net
                    .make_room(at, None, &mut self.processes[process].desk);
                let socket = &mut self.net.sockets[at];
                socket.last_arrival = socket.last_arrival.min(self.net.now + SECOND);
                self.send_the_rest(at);
            }
            self.settle(process, Cause::Stimulus)?;
        }
        if self.server.row.owner != Owned::By(0) {
            self.pass(self.lease + SECOND * 2)?;
            if self.server.row.owner != Owned::By(0) {
                self.open_the_row();
            }
        }
        self.pass(SECOND * 15)?;
        for process in 0..self.processes.len() {
            if self.processes[process].node.is_none() {
                self.start(process)?;
            }
        }
        self.pass(SECOND * 15)?;
        let left = self
            .net
            .numbering
            .last_base()
            .saturating_sub(self.server.row.id);
        for process in 0..self.processes.len() {
            let own = &self.processes[process];
            if own.node.is_none() {
                return broken("everybody serves", format!("process {process} ended"));
            }
            for at in own.desk.open_sockets() {
                if let Some(pending) = self.net.sockets[at].pending.front()
                    && !self.net.sockets[at].fin_sent
                {
                    let what = &pending.request.kind;
                    let left = self.net.sockets[at].pending.len();
                    let told =
                        format!("client {at} waits for {what:?}, {left} in all: {pending:?}");
                    return broken("within its time", told);
                }
            }
            if own.desk.draining || left < 400 {
                continue;
            }
            let high = own.desk.high();
            self.single(process)?;
            self.pass(self.processes[process].settings.allocator.timeout)?;
            if self.processes[process].desk.high() == high {
                return broken("everybody serves", format!("process {process} does not"));
            }
            self.lose_one(process)?;
        }
        self.end_well()
    }

    /// A client is gone while it waits: what was reserved for it serves the next one.
    fn lose_one(&mut self, process: usize) -> Lawful {
        let is_strict = |own: &Process| own.settings.allocator.prefetch.is_zero();
        if !self.processes.iter().all(is_strict) {
            return Ok(());
        }
        let seven = Kind::Tickets {
            count: 7,
            format: Format::Range,
        };
        let lines = [("GET /tickets/create/7?format=range", seven)];
        let before = self.server.row.id;
        let at = self.wait_at_the_door(process, &lines);
        self.settle(process, Cause::Stimulus)?;
        self.net
            .break_off(at, true, &mut self.processes[process].desk);
        self.settle(process, Cause::Stimulus)?;
        self.wait_at_the_door(process, &lines);
        self.pass(self.processes[process].settings.allocator.timeout)?;
        self.net.counts.count("client: gone while it waits");
        match self.server.row.id - before {
            0..=7 => Ok(()),
            used => broken("who is gone uses up nothing", format!("{used} for 7")),
        }
    }

    fn single(&mut self, process: usize) -> Lawful {
        let at = self.connect(process, 0, None, true);
        let request = Request::single(&self.manner);
        let bytes = request.bytes.clone();
        self.net.expect(at, request);
        self.deliver_later(at, bytes, Duration::ZERO);
        self.pass(Duration::ZERO)
    }

    /// Everybody is told to stop in the middle of requests, and loses none.
    fn end_well(&mut self) -> Lawful {
        for process in 0..self.processes.len() {
            let own = &self.processes[process];
            if own.settings.shutdown_timeout < DRAIN_CALM.max(own.settings.allocator.timeout) {
                continue;
            }
            if own.desk.listening && !own.stopped {
                self.single(process)?;
                let single = Kind::Tickets {
                    count: 1,
                    format: Format::Array,
                };
                self.wait_at_the_door(process, &[("GET /tickets/create", single); 3]);
            }
            self.processes[process].must_end_well = true;
            self.begin_drain(process)?;
            let timeout = self.processes[process].settings.allocator.timeout;
            self.pass(DRAIN_CALM + timeout)?;
            if self.processes[process].node.is_some() {
                return broken("a drain ends", format!("process {process} goes on"));
            }
        }
        Ok(())
    }

    /// Notes what happens, for whoever reads the history, and in the digest.
    fn note(&mut self, text: impl FnOnce() -> String) {
        let (now, sequence) = (self.net.now, self.agenda.planned());
        self.net.mix(now.as_nanos() ^ sequence.rotate_left(32));
        if self.traced {
            let nanos = now.as_nanos() - 1_000_000_000_000;
            let (seconds, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000 / 1_000);
            self.trace
                .push(format!("{seconds:>4}.{rest:06} {}", text()));
        }
    }
}

impl Process {
    fn new(settings: Settings, manner: &Manner, now: Moment) -> Process {
        let Settings {
            allocator,
            connections_max,
            idle_timeout,
            shutdown_timeout,
            outlives,
        } = settings.clone();
        let listening = outlives.iter().map(|outlives| ListenerOptions {
            address: "here".to_string(),
            outlives: *outlives,
        });
        let options = Options {
            rules: Rules {
                max_batch: manner.max_batch,
                batch_format: manner.batch_format,
                password: manner.password.then(|| b"secret"[..].into()),
            },
            connections_max,
            idle_timeout,
            shutdown_timeout,
            listeners: listening.collect(),
        };
        let (timeout, pool_size) = (allocator.timeout, allocator.pool_size);
        let numbering = allocator.numbering;
        let allocator = Allocator::new(allocator, now);
        Process {
            node: Some(Node::new(allocator, numbering, options, now)),
            desk: Desk::new(connections_max, timeout, idle_timeout, &outlives),
            settings,
            incarnation: 0,
            stopped: false,
            wake: None,
            drains_until: None,
            must_end_well: false,
            workers: vec![None; pool_size],
            outcomes: Vec::new(),
            memory: Memory::default(),
            second: now,
            vain: 0,
            clients: Vec::new(),
        }
    }
}
