//! The node behind its seam: a made-up kernel that fails as real ones do, a database that answers
//! when it is told to, and a clock of the test's own.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::time::Duration;

use tickr::allocator::{self, Allocator};
use tickr::api::routes::Rules;
use tickr::counter::{
    Epoch, Found, Job, JobId, Memory, Outcome, Owner, Server, Task, View, Warning,
};
use tickr::http::array::Format;
use tickr::limits;
use tickr::moment::{Moment, Next};
use tickr::node::{Change, ConnectionId, Interest, Io, ListenerOptions, Node, Options, Ready};
use tickr::ticket::Numbering;

use crate::harness::get;

const MILLISECOND: Duration = Duration::from_millis(1);

/// One client's end of a connection.
#[derive(Default)]
struct Peer {
    /// What it sends, read by read; an empty one is its end.
    sends: VecDeque<Result<Vec<u8>, ErrorKind>>,
    received: Vec<u8>,
    /// What its socket does to writes, one after the other; all is taken after these.
    takes: VecDeque<Result<usize, ErrorKind>>,
    interest: Option<Interest>,
    finished: bool,
    closed: bool,
}

/// The world of one node.
struct Kernel {
    /// Who waits to be accepted.
    backlog: VecDeque<Result<Peer, ErrorKind>>,
    peers: BTreeMap<ConnectionId, Peer>,
    jobs: Vec<Job>,
    listening: bool,
    watch_fails: bool,
    reads: usize,
    writes: usize,
}

impl Kernel {
    fn open(&mut self, id: ConnectionId) -> io::Result<&mut Peer> {
        let peer = self.peers.get_mut(&id).filter(|peer| !peer.closed);
        Ok(peer.expect("the node speaks of open connections alone"))
    }
}

impl Io for Kernel {
    fn accept(&mut self, _: usize, id: ConnectionId) -> io::Result<()> {
        assert!(self.listening, "it has stopped listening");
        let peer = self.backlog.pop_front().ok_or(ErrorKind::WouldBlock)??;
        assert!(self.peers.insert(id, peer).is_none(), "an id recurs");
        Ok(())
    }

    fn read(&mut self, id: ConnectionId, buffer: &mut [u8]) -> io::Result<usize> {
        self.reads += 1;
        let sends = &mut self.open(id)?.sends;
        let bytes = sends.pop_front().ok_or(ErrorKind::WouldBlock)??;
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        if count < bytes.len() {
            sends.push_front(Ok(bytes[count..].to_vec()));
        }
        Ok(count)
    }

    fn write(&mut self, id: ConnectionId, bytes: &[u8]) -> io::Result<usize> {
        self.writes += 1;
        let peer = self.open(id)?;
        let most = peer.takes.pop_front().unwrap_or(Ok(bytes.len()))?;
        let taken = bytes.len().min(most);
        peer.received.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn watch(&mut self, id: ConnectionId, interest: Interest) -> io::Result<()> {
        if self.watch_fails {
            return Err(io::Error::other("no memory"));
        }
        self.open(id)?.interest = Some(interest);
        Ok(())
    }

    fn finish(&mut self, id: ConnectionId) -> io::Result<()> {
        self.open(id)?.finished = true;
        Ok(())
    }

    fn close(&mut self, id: ConnectionId) {
        let peer = self.peers.get_mut(&id).expect("it was accepted");
        assert!(!std::mem::replace(&mut peer.closed, true), "closed twice");
    }

    fn stop_listening(&mut self) {
        self.listening = false;
    }

    fn submit(&mut self, job: Job) {
        self.jobs.push(job);
    }
}

/// A node, its world, and the time.
struct World {
    node: Node,
    kernel: Kernel,
    now: Moment,
    counter: u64,
    events: Vec<Ready>,
}

impl World {
    /// A node that has reached its database. `prefetch` is zero for strict mode.
    fn new(connections_max: usize, prefetch: Duration) -> World {
        let now = Moment::from_nanos(1_000_000_000);
        let numbering = Numbering::new(1, 0, 0).expect("good settings");
        let allocator = allocator::Options {
            numbering,
            pool_size: 1,
            timeout: Duration::from_secs(1),
            prefetch,
            seed: 0,
            remembered: Memory::default(),
        };
        let options = Options {
            rules: Rules {
                max_batch: 1_000_000,
                batch_format: Format::Array,
                password: None,
            },
            connections_max,
            idle_timeout: Duration::from_secs(600),
            shutdown_timeout: Duration::from_secs(30),
            listeners: vec![ListenerOptions {
                address: "here".to_owned(),
                outlives: false,
            }],
        };
        let mut world = World {
            node: Node::new(Allocator::new(allocator, now), numbering, options, now),
            kernel: Kernel {
                backlog: VecDeque::new(),
                peers: BTreeMap::new(),
                jobs: Vec::new(),
                listening: true,
                watch_fails: false,
                reads: 0,
                writes: 0,
            },
            now,
            counter: 1,
            events: Vec::new(),
        };
        world.live(MILLISECOND * 10);
        assert!(world.node.has_started(world.now));
        world
    }

    fn turn(&mut self) -> Next<()> {
        let events = std::mem::take(&mut self.events);
        let next = self.node.turn(&mut self.kernel, &events, self.now);
        self.node.measure(self.now);
        next
    }

    /// Turns as often as the node wants to, and answers its jobs, for so long. A node that has
    /// nothing to do must sleep.
    fn live(&mut self, time: Duration) {
        let until = self.now + time;
        let mut turns = 0;
        while self.now < until {
            let next = self.turn();
            let jobs = std::mem::take(&mut self.kernel.jobs);
            let has_jobs = !jobs.is_empty();
            jobs.into_iter().for_each(|job| self.answer(job));
            turns += 1;
            assert!(turns < 10_000, "a busy loop");
            match next {
                Next::Ready(()) => {}
                _ if has_jobs => {}
                Next::At(at) => self.now = at.max(self.now).min(until),
                Next::Idle => self.now = until,
            }
        }
    }

    fn answer(&mut self, job: Job) {
        let view = View {
            id: self.counter,
            mark: 0,
            epoch: Epoch { number: 1, tag: 1 },
            owner: Owner::Here,
            read_only: false,
            lease: Duration::from_secs(10),
        };
        let found = match job.task {
            Task::Connect { .. } => Found::Connected {
                view,
                server: Server {
                    version: "1".to_owned(),
                    connection: 1,
                    identity: "x".to_owned(),
                    warnings: Vec::<Warning>::new(),
                },
            },
            Task::Read => Found::Read {
                view,
                warnings: None,
            },
            Task::Reserve { count, .. } => {
                self.counter += count;
                Found::Reserved { last: self.counter }
            }
            Task::Close { .. } => Found::Closed { view },
        };
        self.outcome(job.id, found);
    }

    fn outcome(&mut self, id: JobId, found: Found) {
        let found = Ok(found);
        self.node.on_outcome(Outcome { id, found }, self.now);
    }

    /// A client waits at the listener, with this to send; returns the id that it will have.
    fn connect(&mut self, sends: &[&str]) {
        let sends = sends.iter().map(|bytes| Ok(bytes.as_bytes().to_vec()));
        let sends = sends.collect();
        self.kernel.backlog.push_back(Ok(Peer {
            sends,
            ..Peer::default()
        }));
        self.events.push(Ready::Listener(0));
    }

    fn last(&self) -> ConnectionId {
        *self.kernel.peers.keys().max().expect("somebody is there")
    }

    fn peer(&mut self, id: ConnectionId) -> &mut Peer {
        self.kernel.peers.get_mut(&id).expect("it was accepted")
    }

    fn send(&mut self, id: ConnectionId, bytes: &str) {
        self.peer(id).sends.push_back(Ok(bytes.as_bytes().to_vec()));
        let readable = Change {
            readable: true,
            ..Change::default()
        };
        self.events.push(Ready::Connection(id, readable));
    }

    fn text(&self, id: ConnectionId) -> String {
        String::from_utf8_lossy(&self.kernel.peers[&id].received).into_owned()
    }
}

/// The bodies of answers, each as long as its head says.
fn bodies(mut text: &str) -> Vec<&str> {
    let mut bodies = Vec::new();
    while let Some((head, rest)) = text.split_once("\r\n\r\n") {
        let length = head.split("Content-Length: ").nth(1).expect("a length");
        let length = length.lines().next().expect("a line").parse();
        let (body, behind) = rest.split_at(length.expect("a number"));
        bodies.push(body);
        text = behind;
    }
    assert_eq!(text, "", "an answer in part");
    bodies
}

#[test]
fn what_the_reserve_can_serve_is_answered_in_the_turn_in_which_it_is_read() {
    let mut world = World::new(10, Duration::from_secs(1));
    world.connect(&[&get("/tickets/create")]);
    world.live(MILLISECOND);
    let id = world.last();
    // Demand, so that there is a reserve.
    for _ in 0..2_000 {
        world.send(id, &get("/tickets/create"));
        world.live(MILLISECOND);
    }
    let answered = bodies(&world.text(id)).len();
    let (reads, writes) = (world.kernel.reads, world.kernel.writes);
    world.send(id, &get("/tickets/create").repeat(16));
    world.turn();
    assert_eq!(bodies(&world.text(id)).len(), answered + 16);
    assert_eq!(world.kernel.reads, reads + 1, "one read");
    assert_eq!(world.kernel.writes, writes + 1, "and one write");
}

#[test]
fn a_full_table_still_says_that_the_process_lives_and_refuses_the_rest() {
    let mut world = World::new(3, Duration::ZERO);
    for _ in 0..3 {
        world.connect(&["GET /livez HTTP/1.1\r\n"]);
    }
    world.live(MILLISECOND);
    for (path, status) in [
        ("/livez", "200"),
        ("/tickets/create", "503"),
        ("/readyz", "503"),
        ("/livez", "200"),
    ] {
        world.connect(&[&get(path)]);
        world.live(MILLISECOND);
        let id = world.last();
        let text = world.text(id);
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
        assert!(text.contains("\r\nConnection: close\r\n"), "{text}");
        assert!(world.peer(id).finished);
    }
    let first = *world.kernel.peers.keys().next().expect("there");
    world.send(first, "Host: t\r\n\r\n");
    world.live(MILLISECOND);
    assert!(world.text(first).starts_with("HTTP/1.1 200 "));
    assert_eq!(world.counter, 1);
}

/// Far more clients than can be held at once, most of them behind idle ones.
#[test]
fn a_stop_answers_every_request_that_came_before_it() {
    const CLIENTS: usize = 1_000;
    let mut world = World::new(100, Duration::ZERO);
    for _ in 0..100 {
        world.connect(&[]);
    }
    world.live(MILLISECOND * 100);
    for _ in 0..CLIENTS {
        world.connect(&[&get("/tickets/create"), ""]);
    }
    world.node.drain(world.now);
    world.live(Duration::from_secs(10));
    assert_eq!(world.node.end(world.now), Some(Ok(())));
    assert!(!world.kernel.listening);
    assert!(world.kernel.backlog.is_empty(), "all were let in");
    let mut tickets = 0;
    for peer in world.kernel.peers.values().skip(100) {
        let text = String::from_utf8_lossy(&peer.received);
        assert_eq!(bodies(&text).len(), 1, "{text:?}");
        tickets += usize::from(text.starts_with("HTTP/1.1 200 "));
        assert!(text.contains("\r\nConnection: close\r\n"));
    }
    assert!(tickets >= 100, "{tickets}");
}

/// So many answers that the last of them are made only when there is room for them, which is when
/// the stop has begun.
#[test]
fn a_stop_answers_what_waits_behind_a_slow_reader() {
    let mut world = World::new(10, Duration::ZERO);
    world.connect(&[&get("/tickets/create").repeat(limits::PIPELINED_REQUESTS_MAX)]);
    let peer = world.kernel.backlog[0].as_mut().expect("a client");
    peer.takes.push_back(Ok(1));
    world.live(MILLISECOND * 10);
    let id = world.last();
    world.send(id, &get("/tickets/create"));
    world.live(MILLISECOND * 10);
    world.node.drain(world.now);
    world.live(MILLISECOND * 10);
    let writable = Change {
        writable: true,
        ..Change::default()
    };
    world.events.push(Ready::Connection(id, writable));
    world.live(Duration::from_secs(3));
    let text = world.text(id);
    assert_eq!(bodies(&text).len(), limits::PIPELINED_REQUESTS_MAX + 1);
    assert_eq!(text.matches("Connection: close").count(), 1);
}

#[test]
fn a_shortage_of_files_is_waited_through_asleep() {
    let mut world = World::new(10, Duration::ZERO);
    for kind in [ErrorKind::ConnectionAborted, ErrorKind::Interrupted] {
        world.kernel.backlog.push_back(Err(kind));
    }
    world
        .kernel
        .backlog
        .push_back(Err(ErrorKind::QuotaExceeded));
    world.connect(&[&get("/livez")]);
    assert!(matches!(world.turn(), Next::At(at) if at > world.now));
    assert!(world.kernel.peers.is_empty());
    world.live(limits::ACCEPT_PAUSE + MILLISECOND);
    assert_eq!(bodies(&world.text(world.last())), [r#"{"live":true}"#]);
}

/// A kernel that is out of file descriptors says so even when nobody waits.
#[test]
fn a_shortage_that_no_client_can_end_does_not_hold_a_stop_up() {
    let mut world = World::new(10, Duration::ZERO);
    let shortage = || Err(ErrorKind::QuotaExceeded);
    world.kernel.backlog.extend((0..1_000).map(|_| shortage()));
    world.events.push(Ready::Listener(0));
    world.live(limits::ACCEPT_PAUSE);
    world.node.drain(world.now);
    world.live(limits::LEAVING_GRACE + 2 * limits::ACCEPT_PAUSE);
    assert_eq!(world.node.end(world.now), Some(Ok(())));
    assert!(!world.kernel.listening);
}

#[test]
fn interruptions_and_short_writes_cost_no_byte() {
    let mut world = World::new(10, Duration::ZERO);
    world.connect(&[]);
    world.live(MILLISECOND);
    let id = world.last();
    let peer = world.peer(id);
    peer.sends.push_back(Err(ErrorKind::Interrupted));
    peer.takes = VecDeque::from([
        Err(ErrorKind::Interrupted),
        Ok(1),
        Err(ErrorKind::WouldBlock),
        Ok(100_000),
        Ok(7),
    ]);
    world.send(id, &get("/tickets/create/100000"));
    world.live(MILLISECOND * 10);
    assert_eq!(world.peer(id).interest, Some(Interest::ReadWrite));
    for _ in 0..5 {
        let writable = Change {
            writable: true,
            ..Change::default()
        };
        world.events.push(Ready::Connection(id, writable));
        world.live(MILLISECOND * 10);
    }
    assert_eq!(world.peer(id).interest, Some(Interest::Read));
    let text = world.text(id);
    let tickets: Vec<u64> = serde_json::from_str(bodies(&text)[0]).expect("numbers");
    assert!(tickets.into_iter().eq(0..100_000));
}

#[test]
fn who_is_gone_uses_up_nothing_and_leaves_its_place() {
    let mut world = World::new(10, Duration::ZERO);
    world.connect(&[&get("/tickets/create/5")]);
    world.turn();
    let gone = world.last();
    let jobs = std::mem::take(&mut world.kernel.jobs);
    let broken = Change {
        error: true,
        ..Change::default()
    };
    world.events.push(Ready::Connection(gone, broken));
    // In its place is another one by now.
    world.connect(&[&get("/tickets/create/5")]);
    world.turn();
    assert!(world.peer(gone).closed);
    let next = world.last();
    assert_eq!(next.slot(), gone.slot());
    jobs.into_iter().for_each(|job| world.answer(job));
    world.live(MILLISECOND * 10);
    assert_eq!(bodies(&world.text(next)), ["[0,1,2,3,4]"]);
    assert_eq!(world.text(gone), "");

    // A late word about the first one changes nothing.
    world.events.push(Ready::Connection(gone, broken));
    world.turn();
    assert!(!world.peer(next).closed);

    // A connection that breaks while it is read or written to, or can't be watched, is closed.
    world.peer(next).sends = VecDeque::from([Err(ErrorKind::ConnectionReset)]);
    world.send(next, "");
    world.turn();
    assert!(world.peer(next).closed);
    world.connect(&[&get("/livez")]);
    world.turn();
    let refused = world.last();
    world.peer(refused).takes = VecDeque::from([Err(ErrorKind::BrokenPipe)]);
    world.send(refused, &get("/livez"));
    world.turn();
    assert!(world.peer(refused).closed);
    world.kernel.watch_fails = true;
    world.connect(&[&get("/livez")]);
    world.turn();
    let unwatched = world.last();
    assert!(world.peer(unwatched).closed);
}

#[test]
fn an_idle_connection_stays_as_long_as_the_setting_says() {
    let mut world = World::new(10, Duration::ZERO);
    world.connect(&[&get("/livez")]);
    world.live(Duration::from_secs(599));
    let id = world.last();
    assert!(!world.peer(id).closed);
    world.live(Duration::from_secs(2));
    assert!(world.peer(id).closed);
}

#[test]
fn unknown_parameters_are_named_and_cost_no_ticket() {
    let mut world = World::new(10, Duration::ZERO);
    for (path, names) in [
        ("/tickets/create?fromat=string", "(fromat)"),
        ("/tickets/create/5?a&format=range&%22b\"=c", "(a, %22b\\\")"),
        ("/status?formats=string", "(formats)"),
        ("/metrics?format=string", "(format)"),
    ] {
        world.connect(&[&get(path)]);
        world.live(MILLISECOND);
        let text = world.text(world.last());
        assert!(text.starts_with("HTTP/1.1 400 "), "{path}: {text}");
        assert!(text.contains(names), "{path}: {text}");
        serde_json::from_str::<serde_json::Value>(bodies(&text)[0]).expect("JSON");
    }
    for path in [
        "/livez?verbose",
        "/readyz?x=y",
        "/status?format=string&",
        "/status?",
    ] {
        world.connect(&[&get(path)]);
        world.live(MILLISECOND * 10);
        let text = world.text(world.last());
        assert!(text.starts_with("HTTP/1.1 200 "), "{path}: {text}");
    }
    assert_eq!(world.counter, 1);
}

#[test]
fn the_status_can_be_had_in_strings() {
    let mut world = World::new(10, Duration::ZERO);
    world.connect(&[&get("/tickets/create/3")]);
    world.live(MILLISECOND);
    world.connect(&[&get("/status?format=string")]);
    world.live(MILLISECOND * 10);
    let text = world.text(world.last());
    let status: serde_json::Value = serde_json::from_str(bodies(&text)[0]).expect("JSON");
    assert_eq!(status["last_ticket"], "2");
    for key in [
        "node_number",
        "max_nodes",
        "starting_offset",
        "reserve",
        "epoch",
    ] {
        let number = status[key].as_str().map(str::parse::<u64>);
        assert!(matches!(number, Some(Ok(_))), "{key}: {status}");
    }
}
