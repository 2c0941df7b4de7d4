//! The sockets of the world of nodes: what stands behind `Io`, with the faults of a kernel and of
//! clients, and the laws about what a client gets.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, ErrorKind};
use std::time::Duration;

use tickr::counter::Job;
use tickr::limits;
use tickr::moment::Moment;
use tickr::node::{Change, ConnectionId, Interest, Io, Ready};
use tickr::ticket::Numbering;

use crate::answers::{Answer, Reader, tickets};
use crate::checker::{Issued, Lawful, Violation, broken};
use crate::clients::{Kind, Request};
use crate::counts::Counts;
use crate::tape::Tape;

const EMFILE: i32 = 24;

/// A request on its way, in the order of sending.
#[derive(Debug)]
pub struct Pending {
    pub request: Request,
    /// Its place in all that the client sends.
    start: u64,
    end: u64,
    /// When its first byte was read.
    begun: Option<Moment>,
    /// When its last byte was read.
    read: Option<Moment>,
    /// The highest base id that had been written to anybody by then.
    floor: u64,
    continued: bool,
    /// It was read when the process had been told to stop.
    late: bool,
}

/// One connection, from both of its ends.
#[derive(Debug)]
pub struct Socket {
    pub process: usize,
    pub id: Option<ConnectionId>,
    /// No fault befalls it: it shows what the node says of itself.
    pub steady: bool,
    // From the client.
    inbox: Vec<u8>,
    taken: usize,
    arrived: u64,
    was_read: u64,
    pub sent: u64,
    /// Nothing arrives before what was sent before it.
    pub last_arrival: Moment,
    /// What the client has not sent yet of its last request.
    pub withheld: Vec<u8>,
    pub waits_for_continue: bool,
    pub has_continued: bool,
    pub fin_sent: bool,
    fin: bool,
    fin_read: bool,
    pub reset: bool,
    /// The client has closed both directions; the first write makes a reset of it.
    pub gone: bool,
    /// As of a Unix socket: whose end is closed for both directions at once.
    hung_up: bool,
    pub pending: VecDeque<Pending>,
    // To the client.
    pub room: Option<usize>,
    reader: Reader,
    // The node's end.
    interest: Option<Interest>,
    changed: bool,
    interrupted: bool,
    finished: Option<Moment>,
    pub closed: bool,
    /// The last answer says that it is.
    ended: bool,
    /// The node was told that the connection is broken.
    told_broken: bool,
    spare: bool,
    blocked: bool,
    /// When the socket last took something.
    took_at: Moment,
    /// Since when it has taken all.
    flows_since: Moment,
    answered_at: Moment,
    active_at: Moment,
    /// What had arrived when the node was asked to stop.
    owed: Option<u64>,
}

impl Socket {
    fn is_open(&self) -> bool {
        self.id.is_some() && !self.closed
    }

    /// Where the requests end that are answered: none follows the last.
    fn last_end(&self) -> u64 {
        let ends = |pending: &&Pending| {
            pending.request.closes || matches!(pending.request.kind, Kind::Rejected(_))
        };
        self.pending
            .iter()
            .find(ends)
            .map_or(u64::MAX, |pending| pending.end)
    }

    /// As the kernel sees it.
    fn change(&self) -> Change {
        let broken = self.reset || self.hung_up;
        Change {
            readable: self.taken < self.inbox.len() || self.fin || broken,
            writable: self.interest == Some(Interest::ReadWrite)
                && (self.room != Some(0) || broken),
            read_closed: self.fin || broken,
            write_closed: broken || (self.fin && self.finished.is_some()),
            error: self.reset,
        }
    }

    fn unread(&self) -> usize {
        self.inbox.len() - self.taken
    }

    /// The first request was read in part.
    fn is_inside(&self) -> bool {
        let front = self.pending.front();
        front.is_some_and(|front| front.begun.is_some() && front.read.is_none())
    }
}

/// One process as its sockets know it.
#[derive(Debug)]
pub struct Desk {
    pub listening: bool,
    pub backlogs: Vec<VecDeque<usize>>,
    pub outlives: Vec<bool>,
    pub listeners_changed: Vec<bool>,
    /// What `accept` fails with first.
    pub accept_errors: VecDeque<i32>,
    /// The last one found no file.
    is_short: bool,
    by_id: BTreeMap<ConnectionId, usize>,
    /// Sockets at which something has changed.
    changed: BTreeSet<usize>,
    pub most: usize,
    pub timeout: Duration,
    pub idle_timeout: Duration,
    pub draining: bool,
    crowded: bool,
    /// It was stopped until then.
    pub late_until: Moment,
    /// The highest base id in an answer.
    high: u64,
    /// Blocks that were committed for it.
    pub committed: BTreeMap<u64, u64>,
    /// Of this turn.
    pub jobs: Vec<Job>,
    pub did: u32,
    pub turns: u64,
    /// The last state that `/status` showed a steady client, and in which turn.
    pub said: Option<(u64, String, Option<String>)>,
    /// What the probes of this moment have said.
    pub probed: Vec<(Kind, Answer)>,
}

impl Desk {
    pub fn new(most: usize, timeout: Duration, idle_timeout: Duration, outlives: &[bool]) -> Desk {
        Desk {
            listening: true,
            backlogs: vec![VecDeque::new(); outlives.len()],
            outlives: outlives.to_vec(),
            listeners_changed: vec![false; outlives.len()],
            accept_errors: VecDeque::new(),
            is_short: false,
            by_id: BTreeMap::new(),
            changed: BTreeSet::new(),
            most,
            timeout,
            idle_timeout,
            draining: false,
            crowded: false,
            late_until: Moment::default(),
            high: 0,
            committed: BTreeMap::new(),
            jobs: Vec::new(),
            did: 0,
            turns: 0,
            said: None,
            probed: Vec::new(),
        }
    }

    pub fn open_sockets(&self) -> impl Iterator<Item = usize> {
        self.by_id.values().copied()
    }

    /// The highest base id in an answer.
    pub fn high(&self) -> u64 {
        self.high
    }

    /// The kernel has something to tell.
    pub fn has_changed(&self) -> bool {
        let listeners = self.listening && self.listeners_changed.contains(&true);
        !self.changed.is_empty() || listeners
    }

    pub fn has_clients(&self) -> bool {
        !self.by_id.is_empty()
    }
}

/// All connections of a history.
pub struct Net {
    pub now: Moment,
    pub numbering: Numbering,
    /// Of 256 reads and writes, so many are cut short.
    pub weather: u16,
    pub sockets: Vec<Socket>,
    pub issued: Issued,
    pub counts: Counts,
    pub digest: u64,
    /// Bodies to send and resets to make, which what was written has caused.
    pub reactions: Vec<Reaction>,
    /// What clients have got, for whoever reads the history.
    pub told: Option<Vec<String>>,
}

/// What a client does about what it has got.
pub enum Reaction {
    SendBody(usize),
    Reset(usize),
    Ended(usize),
}

impl Net {
    pub fn connect(&mut self, process: usize, room: Option<usize>, steady: bool) -> usize {
        let now = self.now;
        self.sockets.push(Socket {
            process,
            id: None,
            steady,
            inbox: Vec::new(),
            taken: 0,
            arrived: 0,
            was_read: 0,
            sent: 0,
            last_arrival: now,
            withheld: Vec::new(),
            waits_for_continue: false,
            has_continued: false,
            fin_sent: false,
            fin: false,
            fin_read: false,
            reset: false,
            gone: false,
            hung_up: false,
            pending: VecDeque::new(),
            room,
            reader: Reader::default(),
            interest: None,
            changed: false,
            interrupted: false,
            finished: None,
            closed: false,
            ended: false,
            told_broken: false,
            spare: false,
            blocked: false,
            took_at: now,
            flows_since: now,
            answered_at: now,
            active_at: now,
            owed: None,
        });
        self.sockets.len() - 1
    }

    /// The client will send this next.
    pub fn expect(&mut self, socket: usize, request: Request) {
        let socket = &mut self.sockets[socket];
        let start = socket.sent;
        socket.sent += request.bytes.len() as u64;
        socket.pending.push_back(Pending {
            start,
            end: socket.sent,
            request,
            begun: None,
            read: None,
            floor: 0,
            continued: false,
            late: false,
        });
    }

    pub fn arrive(&mut self, at: usize, bytes: &[u8], desk: &mut Desk) {
        let socket = &mut self.sockets[at];
        if socket.closed || socket.reset || socket.fin {
            return;
        }
        if socket.taken == socket.inbox.len() {
            socket.inbox.clear();
            socket.taken = 0;
        }
        socket.inbox.extend_from_slice(bytes);
        socket.arrived += bytes.len() as u64;
        self.touch(at, desk);
    }

    /// The client has sent its last byte.
    pub fn finish_input(&mut self, at: usize, desk: &mut Desk) {
        let socket = &mut self.sockets[at];
        if socket.closed || socket.fin {
            return;
        }
        socket.fin = true;
        let arrived = socket.arrived;
        socket.pending.retain(|pending| pending.start < arrived);
        self.touch(at, desk);
    }

    /// Both directions are gone at once: as a Unix socket's, or by a reset.
    pub fn break_off(&mut self, at: usize, by_reset: bool, desk: &mut Desk) {
        let socket = &mut self.sockets[at];
        if socket.closed {
            return;
        }
        socket.fin = true;
        socket.reset |= by_reset;
        socket.hung_up |= !by_reset;
        self.touch(at, desk);
    }

    /// The client has read all that was sent to it, and so many bytes may follow.
    pub fn make_room(&mut self, at: usize, room: Option<usize>, desk: &mut Desk) {
        let socket = &mut self.sockets[at];
        let was_full = socket.room == Some(0) || socket.blocked;
        socket.room = room;
        if was_full {
            self.touch(at, desk);
        }
    }

    fn touch(&mut self, at: usize, desk: &mut Desk) {
        let socket = &mut self.sockets[at];
        socket.changed = true;
        if socket.is_open() {
            desk.changed.insert(at);
        }
    }

    /// The process was asked to stop: what has arrived is owed an answer.
    pub fn on_drain(&mut self, desk: &mut Desk) {
        desk.draining = true;
        let waiting = desk.backlogs.iter().zip(&desk.outlives);
        let waiting = waiting.filter(|(_, outlives)| !**outlives);
        let waiting = waiting.flat_map(|(backlog, _)| backlog.iter());
        for at in desk.by_id.values().chain(waiting) {
            let socket = &mut self.sockets[*at];
            socket.owed = Some(socket.arrived);
        }
    }

    /// What the kernel tells the process now.
    pub fn take_ready(&mut self, desk: &mut Desk) -> Vec<Ready> {
        let mut ready = Vec::new();
        for (listener, changed) in desk.listeners_changed.iter_mut().enumerate() {
            if std::mem::take(changed) && desk.listening {
                ready.push(Ready::Listener(listener));
            }
        }
        for at in std::mem::take(&mut desk.changed) {
            let socket = &mut self.sockets[at];
            let (Some(id), false) = (socket.id, socket.closed) else {
                continue;
            };
            if socket.interest.is_none() || !std::mem::take(&mut socket.changed) {
                continue;
            }
            let change = socket.change();
            if change == Change::default() {
                continue;
            }
            socket.told_broken |= change.error || (change.read_closed && change.write_closed);
            ready.push(Ready::Connection(id, change));
        }
        ready
    }

    /// The process is no more.
    pub fn abandon(&mut self, desk: &mut Desk) {
        let waiting = desk.backlogs.iter().flatten().copied();
        for at in desk.by_id.values().copied().chain(waiting) {
            self.sockets[at].closed = true;
        }
        desk.by_id.clear();
        desk.backlogs.iter_mut().for_each(VecDeque::clear);
    }

    pub fn mix(&mut self, value: u64) {
        let mixed = self.digest ^ value;
        self.digest = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17);
    }

    /// Whether everybody who should have an answer by now has one.
    pub fn overdue(&self, desk: &Desk) -> Lawful {
        let now = self.now;
        for at in desk.by_id.values() {
            let socket = &self.sockets[*at];
            let broken_off = socket.reset || socket.hung_up;
            if let Some(since) = socket.finished {
                let linger = limits::LINGER_TIMEOUT + limits::SWEEP_INTERVAL;
                if since.max(desk.late_until) + linger < now {
                    return broken("a connection ends", format!("client {at} is still open"));
                }
                continue;
            }
            if socket.blocked || broken_off {
                continue;
            }
            let Some(front) = socket.pending.front() else {
                continue;
            };
            let since = |at: Moment| at.max(socket.flows_since);
            let due = match (front.read, front.begun) {
                (Some(read), _) => since(read) + desk.timeout,
                (None, Some(begun)) => {
                    let slowest = limits::HEAD_TIMEOUT + limits::BODY_TIMEOUT;
                    since(begun).max(socket.answered_at) + slowest + limits::SWEEP_INTERVAL
                }
                (None, None) => continue,
            };
            if due.max(desk.late_until) < now {
                let what = &front.request.kind;
                return broken(
                    "within its time",
                    format!(
                        "client {at} waits for {what:?} and {} more, due {due:?} at {now:?}",
                        socket.pending.len() - 1
                    ),
                );
            }
        }
        Ok(())
    }

    /// When a process has come to rest.
    pub fn at_rest(&self, desk: &Desk) -> Lawful {
        for at in desk.by_id.values() {
            let socket = &self.sockets[*at];
            let is_over = socket.ended && socket.reader.is_between();
            if is_over && socket.finished.is_none() && !socket.reset {
                return broken(
                    "a connection ends",
                    format!("client {at} got its last answer"),
                );
            }
        }
        Ok(())
    }

    /// The socket took these bytes.
    fn deliver(&mut self, at: usize, bytes: &[u8], desk: &mut Desk) -> Lawful {
        self.mix(at as u64 + ((bytes.len() as u64) << 32));
        let (eights, rest) = bytes.as_chunks();
        for eight in eights {
            self.mix(u64::from_be_bytes(*eight));
        }
        if !rest.is_empty() {
            let rest = rest.iter();
            self.mix(rest.fold(0, |sum, byte| sum << 8 | u64::from(*byte)));
        }
        self.sockets[at].reader.push(bytes);
        loop {
            let socket = &mut self.sockets[at];
            if socket.ended {
                return match socket.reader.is_between() {
                    true => Ok(()),
                    false => broken("nothing follows the last answer", format!("client {at}")),
                };
            }
            let front = socket.pending.front();
            let head_only = front.is_some_and(|front| {
                // Before so much was read, nobody can know.
                front.request.head_only && socket.was_read >= front.start + 5
            });
            match socket.reader.next(head_only) {
                Err(said) => return broken("answers are HTTP", said),
                Ok(None) => return Ok(()),
                Ok(Some(answer)) => self.on_answer(at, answer, desk)?,
            }
        }
    }

    fn on_answer(&mut self, at: usize, answer: Answer, desk: &mut Desk) -> Lawful {
        let now = self.now;
        let socket = &mut self.sockets[at];
        let Some(front) = socket.pending.front_mut() else {
            return broken(
                "one final answer",
                format!("client {at} gets {} to nothing", answer.status),
            );
        };
        if answer.status == 100 {
            let fits = front.request.expects && !front.continued && front.begun.is_some();
            front.continued = true;
            self.counts.count("http: 100");
            socket.has_continued = true;
            if socket.waits_for_continue {
                self.reactions.push(Reaction::SendBody(at));
            }
            return match fits {
                true => Ok(()),
                false => broken("one final answer", format!("client {at} gets a stray 100")),
            };
        }
        let pending = socket.pending.pop_front().expect("it was looked at");
        let (kind, status) = (pending.request.kind, answer.status);
        let told = || format!("client {at} gets {status} for {kind:?}");
        if let Some(all) = &mut self.told {
            all.push(told());
        }
        let head_only = pending.request.head_only;
        if answer.status != 200 && !head_only && answer.is_problem {
            let said = answer.field("\"status\":", &[',', '}']);
            if said.and_then(|said| said.parse().ok()) != Some(status) {
                return broken("a problem says its status", told());
            }
        }
        if (answer.status == 503) != answer.retry_after
            || (answer.status != 200) != answer.is_problem
        {
            return broken("a problem says its status", told());
        }
        // Whoever waits behind a full pipeline is looked at now at the earliest.
        let mut places = 0;
        for next in &mut socket.pending {
            places += 1 + usize::from(next.request.expects && !next.continued);
            if places >= limits::PIPELINED_REQUESTS_MAX {
                next.read = next.read.map(|_| now);
            }
        }
        socket.answered_at = now;
        socket.active_at = now;
        socket.ended = answer.closes;
        let (is_spare, is_draining) = (socket.spare, desk.draining);
        let Some(_) = pending.begun else {
            return broken("no answer before its request", told());
        };
        let fits = match (kind, answer.status) {
            (Kind::Rejected(expected), status) if expected == status => answer.closes,
            _ if pending.read.is_none() => {
                let begun = pending.begun.unwrap_or_default();
                let waited = begun + limits::HEAD_TIMEOUT.min(limits::BODY_TIMEOUT) <= now;
                let is_early = pending.request.expects && !pending.continued;
                let is_early =
                    is_early && socket.was_read >= pending.start + pending.request.head as u64;
                let fits = match (answer.status, kind) {
                    (408, _) => waited,
                    (400, _) if socket.fin_read => true,
                    (status, Kind::Refused(expected)) if status == expected => is_early,
                    (503, _) => is_early && is_spare,
                    _ => false,
                };
                fits && answer.closes
            }
            (Kind::Refused(expected), status) => status == expected,
            (Kind::Live | Kind::Options, 200) => true,
            (Kind::Live, _) => false,
            (Kind::Options, 503) => is_spare,
            (Kind::Metrics, 503) => is_spare,
            (Kind::Metrics | Kind::Status | Kind::Ready, 200) => true,
            (Kind::Status | Kind::Ready, 503) => true,
            (Kind::Tickets { .. }, 503) => true,
            (Kind::Tickets { count, format }, 200) => {
                let run = tickets(&answer.body, format, self.numbering.max_nodes());
                let run = match run {
                    Ok(run) => run,
                    Err(said) => return broken("a batch is one run", said),
                };
                if run != (run.0, self.numbering.max_nodes(), count) {
                    return broken("a batch is one run", format!("{run:?} for {count}"));
                }
                self.on_tickets(at, run.0, count, pending.floor, desk)?;
                true
            }
            _ => false,
        };
        if !fits {
            return broken("the answer to its request", told());
        }
        let socket = &mut self.sockets[at];
        // Whoever waits for a `100 Continue` may never send its body.
        let refused = pending.request.expects && !pending.continued;
        let early = matches!(kind, Kind::Rejected(_)) || pending.read.is_none() || refused;
        match (answer.closes, pending.request.closes) {
            (false, true) => return broken("close is answered with close", told()),
            (true, false) if !(is_draining || is_spare || early) => {
                return broken("a connection is kept", told());
            }
            _ => {}
        }
        if answer.closes {
            // What had arrived before the node was asked to stop is not cut off.
            let owed = socket.owed.unwrap_or_default();
            let lost = socket.pending.front().filter(|next| next.end <= owed);
            if let Some(next) = lost
                && !(pending.request.closes || is_spare || early)
            {
                let next = &next.request.kind;
                return broken(
                    "a drain answers what it got",
                    format!("{}, then {next:?}", told()),
                );
            }
            self.reactions.push(Reaction::Ended(at));
        }
        if socket.gone || socket.fin {
            self.counts.count(match socket.gone {
                true => "client: gone before the answer",
                false => "client: half closed before the answer",
            });
        }
        self.counts.count(name_of(kind, status, is_spare));
        let text = |name| answer.field(name, &['"']).map(str::to_owned);
        let is_stopping = match (kind, status) {
            (Kind::Ready, 200) => false,
            (Kind::Status, 200) if !head_only => {
                let state = text("\"state\":\"").unwrap_or_default();
                self.counts.count(match state.as_str() {
                    "serving" => "status: serving",
                    "degraded" => "status: degraded",
                    "starting" => "status: starting",
                    "unavailable" => "status: unavailable",
                    "closed" => "status: closed",
                    "misfit" => "status: misfit",
                    "exhausted" => "status: exhausted",
                    "draining" => "status: draining",
                    _ => return broken("the verdict is one", format!("/status says {state}")),
                });
                let is_stopping = state == "draining";
                if self.sockets[at].steady {
                    desk.said = Some((desk.turns, state, text("\"detail\":\"")));
                }
                is_stopping
            }
            (Kind::Metrics, 200) => answer.gauges(["tickr_ready"]) == [Some("0")],
            _ => true,
        };
        if pending.late && !is_stopping {
            return broken("the verdict is one", format!("{} while it stops", told()));
        }
        if self.sockets[at].steady {
            desk.probed.push((kind, answer));
        }
        Ok(())
    }

    fn on_tickets(
        &mut self,
        at: usize,
        first: u64,
        count: u64,
        floor: u64,
        desk: &mut Desk,
    ) -> Lawful {
        let nodes = self.numbering.max_nodes();
        let offset = self.numbering.starting_offset() + self.numbering.node_number();
        let distance = first
            .checked_sub(offset)
            .filter(|distance| distance % nodes == 0);
        let Some(distance) = distance else {
            return broken("tickets of this node", format!("client {at} gets {first}"));
        };
        let first = distance / nodes + 2;
        let last = first + (count - 1);
        self.issued.add(first, last)?;
        if first <= floor {
            return broken(
                "tickets increase",
                format!("client {at}: {first} after {floor}"),
            );
        }
        let mut from = first;
        while from <= last {
            let block = desk.committed.range(..=from).next_back();
            let Some((_, to)) = block.filter(|(_, to)| **to >= from) else {
                return broken("committed before issued", format!("client {at}: {from}"));
            };
            from = to + 1;
        }
        desk.high = desk.high.max(last);
        // What follows in a pipeline comes later, whenever that was read.
        for pending in &mut self.sockets[at].pending {
            pending.floor = pending.floor.max(last);
        }
        Ok(())
    }
}

/// What a node does to the world, in one turn.
pub struct Kernel<'a, 't> {
    pub net: &'a mut Net,
    pub desk: &'a mut Desk,
    pub tape: &'a mut Tape<'t>,
    pub verdict: Lawful,
}

impl Kernel<'_, '_> {
    fn blame(&mut self, law: &'static str, detail: String) {
        if self.verdict.is_ok() {
            self.verdict = Err(Violation { law, detail });
        }
    }

    fn find(&mut self, id: ConnectionId) -> io::Result<usize> {
        match self.desk.by_id.get(&id) {
            Some(at) => Ok(*at),
            None => {
                self.blame("only open connections are named", format!("{id:?}"));
                Err(ErrorKind::NotConnected.into())
            }
        }
    }

    fn is_cut(&mut self, at: usize) -> bool {
        let steady = self.net.sockets[at].steady;
        self.net.weather > 0 && !steady && self.tape.chance(self.net.weather)
    }

    fn may_interrupt(&mut self, at: usize) -> bool {
        let socket = &mut self.net.sockets[at];
        socket.interrupted = !socket.interrupted;
        socket.interrupted
    }
}

impl Io for Kernel<'_, '_> {
    fn accept(&mut self, listener: usize, id: ConnectionId) -> io::Result<()> {
        if !self.desk.listening {
            self.blame("a closed listener is left alone", format!("{listener}"));
        }
        let error = self.desk.accept_errors.pop_front();
        self.desk.is_short = error == Some(EMFILE);
        if let Some(error) = error {
            self.desk.did += 1;
            self.net.counts.count(match error {
                EMFILE => "socket: accept finds no file",
                4 => "socket: accept interrupted",
                _ => "socket: accept aborted",
            });
            return Err(io::Error::from_raw_os_error(error));
        }
        let waiting = self.desk.backlogs[listener].pop_front();
        let at = waiting.ok_or(ErrorKind::WouldBlock)?;
        self.desk.did += 1;
        if self.desk.by_id.insert(id, at).is_some() {
            self.blame("an id never recurs", format!("{id:?}"));
        }
        let socket = &mut self.net.sockets[at];
        socket.id = Some(id);
        socket.active_at = self.net.now;
        socket.flows_since = self.net.now;
        socket.took_at = self.net.now;
        socket.spare = self.desk.by_id.len() > self.desk.most;
        self.desk.crowded |= socket.spare;
        Ok(())
    }

    fn read(&mut self, id: ConnectionId, buffer: &mut [u8]) -> io::Result<usize> {
        let at = self.find(id)?;
        let mut most = self.net.sockets[at].unread().min(buffer.len());
        if self.is_cut(at) {
            match self.tape.byte() {
                0..64 if self.may_interrupt(at) => {
                    self.net.counts.count("socket: read interrupted");
                    return Err(ErrorKind::Interrupted.into());
                }
                choice if most > 1 => {
                    self.net.counts.count("socket: short read");
                    most = 1 + usize::from(choice) * (most - 1) / 256;
                    let socket = &mut self.net.sockets[at];
                    // The rest is only arriving.
                    let so_far = socket.was_read + most as u64;
                    socket.owed = socket.owed.map(|owed| owed.min(so_far));
                    self.net.touch(at, self.desk);
                }
                _ => {}
            }
        }
        let now = self.net.now;
        let socket = &mut self.net.sockets[at];
        if socket.reset {
            socket.told_broken = true;
            self.net.counts.count("socket: read reset");
            return Err(ErrorKind::ConnectionReset.into());
        }
        if most == 0 {
            if !socket.fin {
                self.net.counts.count("socket: read would block");
                return Err(ErrorKind::WouldBlock.into());
            }
            self.desk.did += u32::from(!std::mem::replace(&mut socket.fin_read, true));
            return Ok(0);
        }
        self.desk.did += 1;
        buffer[..most].copy_from_slice(&socket.inbox[socket.taken..socket.taken + most]);
        socket.taken += most;
        socket.was_read += most as u64;
        socket.active_at = now;
        let (high, draining) = (self.desk.high, self.desk.draining);
        for pending in &mut socket.pending {
            if pending.start < socket.was_read {
                pending.begun = pending.begun.or(Some(now));
            }
            if pending.end <= socket.was_read && pending.read.is_none() {
                pending.read = Some(now);
                pending.late = draining;
                pending.floor = pending.floor.max(high);
            }
        }
        Ok(most)
    }

    fn write(&mut self, id: ConnectionId, bytes: &[u8]) -> io::Result<usize> {
        let at = self.find(id)?;
        if self.net.sockets[at].finished.is_some() {
            self.blame("nothing follows the last answer", format!("client {at}"));
        }
        let socket = &mut self.net.sockets[at];
        if socket.reset || socket.hung_up {
            socket.told_broken = true;
            self.net.counts.count("socket: write reset");
            return Err(ErrorKind::BrokenPipe.into());
        }
        let mut most = bytes.len().min(socket.room.unwrap_or(usize::MAX));
        let mut cut = false;
        if most > 0 && self.is_cut(at) {
            match self.tape.byte() {
                0..48 if self.may_interrupt(at) => {
                    self.net.counts.count("socket: write interrupted");
                    return Err(ErrorKind::Interrupted.into());
                }
                0..96 => (most, cut) = (0, true),
                choice => {
                    most = 1 + usize::from(choice) * (most - 1) / 256;
                    cut = true;
                }
            }
        }
        let now = self.net.now;
        let socket = &mut self.net.sockets[at];
        let is_whole = most == bytes.len();
        cut &= socket.room != Some(most);
        if most > 0 || !socket.blocked {
            socket.took_at = now;
        }
        let was_blocked = std::mem::replace(&mut socket.blocked, !is_whole && !cut);
        if was_blocked && !socket.blocked {
            socket.flows_since = now;
        }
        if let Some(room) = &mut socket.room {
            *room -= most;
        }
        if socket.gone && most > 0 {
            self.net.reactions.push(Reaction::Reset(at));
        }
        if !is_whole && cut {
            // There is room again at once.
            self.net.touch(at, self.desk);
        }
        if most == 0 {
            self.net.counts.count("socket: write would block");
            return Err(ErrorKind::WouldBlock.into());
        }
        if !is_whole {
            self.net.counts.count("socket: partial write");
        }
        self.desk.did += 1;
        if let Err(Violation { law, detail }) = self.net.deliver(at, &bytes[..most], self.desk) {
            self.blame(law, detail);
        }
        Ok(most)
    }

    fn watch(&mut self, id: ConnectionId, interest: Interest) -> io::Result<()> {
        let at = self.find(id)?;
        if self.net.weather > 0 && !self.net.sockets[at].steady && self.tape.chance(1) {
            self.net.counts.count("socket: cannot be watched");
            self.net.sockets[at].told_broken = true;
            return Err(ErrorKind::OutOfMemory.into());
        }
        self.net.sockets[at].interest = Some(interest);
        // The kernel looks again whenever it is asked.
        self.net.touch(at, self.desk);
        Ok(())
    }

    fn finish(&mut self, id: ConnectionId) -> io::Result<()> {
        let at = self.find(id)?;
        self.desk.did += 1;
        let now = self.net.now;
        let socket = &mut self.net.sockets[at];
        if socket.reset || socket.hung_up {
            socket.told_broken = true;
            return Err(ErrorKind::NotConnected.into());
        }
        let is_over = socket.ended && socket.reader.is_between();
        socket.finished = Some(now);
        if !is_over {
            self.blame(
                "a connection is kept",
                format!("client {at} gets no last answer"),
            );
        }
        Ok(())
    }

    fn close(&mut self, id: ConnectionId) {
        let Ok(at) = self.find(id) else { return };
        self.desk.did += 1;
        self.desk.by_id.remove(&id);
        let now = self.net.now;
        let socket = &mut self.net.sockets[at];
        socket.closed = true;
        let is_over = socket.ended && socket.reader.is_between();
        // Whoever was stopped for so long can't know who was to blame.
        let is_late = self.desk.late_until == now;
        let takes_nothing = socket.took_at + limits::WRITE_TIMEOUT <= now;
        let takes_nothing = takes_nothing && (socket.blocked || is_late);
        if socket.told_broken || is_over {
            return;
        }
        if takes_nothing {
            self.net.counts.count("client: cut off for not reading");
            return;
        }
        let last_end = socket.last_end();
        let owed = socket.owed.unwrap_or_default();
        let front = socket.pending.front();
        let unanswered =
            front.filter(|front| front.read.is_some() || front.end <= owed.min(last_end));
        if let Some(front) = unanswered {
            let kind = front.request.kind;
            return self.blame(
                "one final answer",
                format!("client {at} gets none to {kind:?}"),
            );
        }
        if !socket.reader.is_between() {
            return self.blame("an answer is written whole", format!("client {at}"));
        }
        if socket.is_inside() {
            return self.blame(
                "one final answer",
                format!("client {at} was inside a request"),
            );
        }
        let idle_timeout = match socket.spare {
            true => limits::HEAD_TIMEOUT,
            false => self.desk.idle_timeout,
        };
        let is_idle = socket.active_at + idle_timeout.min(self.desk.idle_timeout) <= now;
        let may = self.desk.draining || self.desk.crowded || socket.fin_read || is_idle;
        if !may {
            return self.blame("a connection is kept", format!("client {at} is closed"));
        }
        if is_idle && !self.desk.draining {
            self.net.counts.count("client: idle for too long");
        }
    }

    fn stop_listening(&mut self) {
        self.desk.did += 1;
        self.desk.listening = false;
        let waiting = self.desk.backlogs.iter().zip(&self.desk.outlives);
        let left = waiting
            .filter(|(backlog, outlives)| !backlog.is_empty() && !**outlives)
            .count();
        // Without clients, nobody will give up a file.
        let is_hopeless = self.desk.is_short && self.desk.by_id.is_empty();
        if left > 0 && !is_hopeless {
            self.blame("whoever waited is let in", format!("{left} listeners"));
        }
    }

    fn submit(&mut self, job: Job) {
        self.desk.did += 1;
        self.desk.jobs.push(job);
    }
}

fn name_of(kind: Kind, status: u16, is_spare: bool) -> &'static str {
    match (kind, status) {
        (_, 503) if is_spare => "http: 503 one connection too many",
        (Kind::Tickets { count: 1, .. }, 200) => "http: 200 ticket",
        (Kind::Tickets { .. }, 200) => "http: 200 batch",
        (Kind::Tickets { .. }, 503) => "http: 503 no ticket",
        (Kind::Status, 200) => "http: 200 status",
        (Kind::Status, 503) => "http: 503 status",
        (Kind::Ready, 200) => "http: 200 ready",
        (Kind::Ready, 503) => "http: 503 not ready",
        (Kind::Metrics, _) => "http: 200 metrics",
        (Kind::Live, _) => "http: 200 live",
        (Kind::Options, _) => "http: 200 options",
        (_, 400) => "http: 400",
        (_, 401) => "http: 401",
        (_, 404) => "http: 404",
        (_, 405) => "http: 405",
        (_, 408) => "http: 408",
        (_, 413) => "http: 413",
        (_, 414) => "http: 414",
        (_, 417) => "http: 417",
        (_, 431) => "http: 431",
        (_, 501) => "http: 501",
        (_, 505) => "http: 505",
        _ => "http: another status",
    }
}
