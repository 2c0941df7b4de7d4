//! The sockets of the world of nodes: what stands behind `Io`, with the faults of a kernel and of
//! clients, and the laws about what a client gets.

use tickr::limits;
use tickr::moment::Moment;
use tickr::node::{Change, Ready};
use tickr::ticket::Numbering;

pub use self::desk::Desk;
pub use self::kernel::Kernel;
use self::socket::{Pending, Socket};
use crate::checker::{Issued, Lawful, broken};
use crate::clients::Request;

mod answered;
mod desk;
mod kernel;
mod socket;

/// All connections of a history.
pub struct Net {
    pub numbering: Numbering,
    /// Of 256 reads and writes, so many are cut short.
    pub weather: u16,
    pub sockets: Vec<Socket>,
    pub issued: Issued,
    /// Bodies to send and resets to make, which what was written has caused.
    pub reactions: Vec<Reaction>,
}

/// What a client does about what it has got.
pub enum Reaction {
    SendBody(usize),
    Reset(usize),
    Ended(usize),
}

impl Net {
    pub fn connect(
        &mut self,
        process: usize,
        room: Option<usize>,
        steady: bool,
        now: Moment,
    ) -> usize {
        let socket = Socket::new(process, room, steady, now);
        self.sockets.push(socket);
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
        for backlog in &mut desk.backlogs {
            backlog.clear();
        }
    }

    /// Whether everybody who should have an answer by now has one.
    pub fn overdue(&self, desk: &Desk, now: Moment) -> Lawful {
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

    /// Some client does not take what there is for it.
    pub fn holds_back(&self, desk: &Desk) -> bool {
        desk.by_id.values().any(|at| self.sockets[*at].blocked)
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
}
